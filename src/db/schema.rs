//! The tables: which version of them a database has, and how it gets the one that this program needs.
//!
//! Migrations are folders as diesel's, embedded. What has been run is kept in `duly_migration` and not in diesel's own
//! table, which may belong to the shop. SQLite migrates by itself, MySQL and MariaDB only by `duly migrate`.

use diesel::QueryableByName;
use diesel::connection::SimpleConnection as _;

use super::connection::{Connection, Link};
use super::error::Error;
use super::rows::AnyText;
use super::sql::Sql;
use super::transaction::{TRIES, in_transaction, pause};

macro_rules! texts {
    ($($name:literal),* $(,)?) => {
        &[$((
            $name,
            include_str!(concat!("../../migrations/mysql/", $name, "/up.sql")),
            include_str!(concat!("../../migrations/sqlite/", $name, "/up.sql")),
        )),*]
    };
}

/// Every migration with its text for MySQL and for SQLite, oldest first, for `migrate --dry-run`.
const TEXTS: &[(&str, &str, &str)] = texts![
    "2026-11-21-000000_jobs",
    "2026-11-22-000000_shop",
    "2026-11-25-000000_operate",
    "2026-11-25-010000_audit"
];

/// One migration, and whether the database has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MigrationState {
    /// Its folder's name.
    pub name: String,
    /// When it was run, in UTC; `None` when it has not been.
    pub run_at: Option<String>,
    /// What it does, as SQL; empty for one of a newer version of Duly.
    pub sql: String,
}

#[derive(QueryableByName)]
struct Applied {
    #[diesel(sql_type = AnyText)]
    version: String,
    #[diesel(sql_type = AnyText)]
    name: String,
    #[diesel(sql_type = AnyText)]
    run_at: String,
}

/// The version that this program needs, as diesel derives it from the newest folder's name.
#[must_use]
pub fn wanted_version() -> String {
    version_of(TEXTS.last().map_or("", |(name, _, _)| *name))
}

fn version_of(folder: &str) -> String {
    folder.split('_').next().unwrap_or_default().replace('-', "")
}

/// The version of a database that a newer Duly has migrated; `None` for every other.
#[must_use]
pub fn newer_version(found: Option<&str>) -> Option<&str> {
    found.filter(|found| *found > wanted_version().as_str())
}

/// Compares a database's version with the one this program needs.
///
/// # Errors
///
/// [`Error::Schema`], with what to do, when they differ.
pub(crate) fn compare(found: Option<&str>) -> Result<(), Error> {
    let wanted = wanted_version();
    match found {
        Some(found) if found == wanted => Ok(()),
        Some(found) if found > wanted.as_str() => Err(Error::Schema(format!(
            "the database has schema {found}, made by a newer Duly; this one knows {wanted}: install the newer version on this host"
        ))),
        Some(found) => Err(Error::Schema(format!(
            "the database has schema {found} and this version of Duly needs {wanted}: run `duly migrate`"
        ))),
        None => Err(Error::Schema("the database has no tables of Duly yet: run `duly migrate`".to_owned())),
    }
}

impl Connection {
    /// Makes sure that the schema is the one this program needs; SQLite gets it here.
    ///
    /// # Errors
    ///
    /// [`Error::Schema`] where it is not.
    pub fn require_schema(&mut self) -> Result<(), Error> {
        let mut found = self.version()?;
        if !self.is_server() && found.as_ref().is_none_or(|found| *found < wanted_version()) {
            self.migrate()?;
            found = self.version()?;
        }
        compare(found.as_deref())
    }

    fn version(&mut self) -> Result<Option<String>, Error> {
        Ok(self.applied()?.pop().map(|applied| applied.version))
    }

    /// What has been run, oldest first; nothing where the table is not there yet.
    fn applied(&mut self) -> Result<Vec<Applied>, Error> {
        match self.rows::<Applied>(&Sql::new(applied_query())) {
            Err(Error::Schema(_)) => Ok(Vec::new()),
            other => other,
        }
    }

    /// Every migration that this program or the database knows, oldest first.
    pub fn migrations(&mut self) -> Result<Vec<MigrationState>, Error> {
        let applied = self.applied()?;
        let is_mysql = self.is_server();
        let mut states: Vec<MigrationState> = TEXTS
            .iter()
            .map(|(name, mysql, sqlite)| MigrationState {
                name: (*name).to_owned(),
                run_at: applied.iter().find(|a| a.version == version_of(name)).map(|a| a.run_at.clone()),
                sql: (if is_mysql { *mysql } else { *sqlite }).to_owned(),
            })
            .collect();
        for newer in applied.iter().filter(|a| a.version > wanted_version()) {
            states.push(MigrationState {
                name: newer.name.clone(),
                run_at: Some(newer.run_at.clone()),
                sql: String::new(),
            });
        }
        Ok(states)
    }

    /// Runs what has not been run yet; returns the names. SQLite does it in one transaction; MySQL and MariaDB
    /// commit each statement, which all may be repeated.
    pub fn migrate(&mut self) -> Result<Vec<String>, Error> {
        let ran = if self.is_server() {
            self.take_turns()?;
            self.run_pending()
        } else {
            in_transaction(&mut &mut *self, |tx| tx.run_pending())
        };
        ran.map_err(|err| {
            let waited = if is_waiting(&err.to_string()) {
                "; a transaction of somebody else uses a table that changes, for longer than 10 seconds: end it and run \
                 `duly migrate` again"
            } else {
                ""
            };
            Error::Other(format!("a migration was refused: {err}{waited}"))
        })
    }

    /// Lets several hosts that are deployed at once migrate one after the other; the lock ends with the connection. And a change
    /// of a table waits for transactions that use the table, and everybody else then waits behind it: for a day, if the
    /// server has its way. Rather is the migration refused, which can be run again at any time.
    fn take_turns(&mut self) -> Result<(), Error> {
        // Where a cluster knows no such lock, the second one may have to be started again, which does no harm.
        if let Err(err) = self.execute(&Sql::once("DO GET_LOCK('duly_migrate', 60)")) {
            log::debug!("no lock for migrations: {err}");
        }
        self.execute(&Sql::once("SET lock_wait_timeout = 10")).map(drop)
    }

    fn run_pending(&mut self) -> Result<Vec<String>, Error> {
        let mut ran = Vec::new();
        let applied = self.applied()?;
        for (name, server, sqlite) in TEXTS {
            if applied.iter().any(|applied| applied.version == version_of(name)) {
                continue;
            }
            if applied.is_empty() && ran.is_empty() {
                // Only then: with nothing to do, no right to create tables is needed.
                self.execute(&Sql::once(
                    "CREATE TABLE IF NOT EXISTS duly_migration (version VARCHAR(50) NOT NULL PRIMARY KEY, \
                     name VARCHAR(190) NOT NULL, run_at VARCHAR(26) NOT NULL)",
                ))?;
            }
            match &mut self.link {
                Link::Sqlite(conn) => conn.batch_execute(sqlite).map_err(|err| Error::of_sqlite(&err))?,
                Link::Server(_) => {
                    for statement in statements(server) {
                        self.insist(&Sql::once(statement))?;
                    }
                }
            }
            let note =
                format!("INSERT INTO duly_migration (version, name, run_at) VALUES (?, ?, {})", self.now());
            match self.insist(&Sql::once(note).bind(version_of(name)).bind(*name)) {
                // Through another node of a cluster, which has locks of its own, somebody did the same.
                Err(Error::Duplicate(_)) if self.is_server() => {}
                noted => noted?,
            }
            self.is_kept(name)?;
            ran.push((*name).to_owned());
        }
        Ok(ran)
    }

    /// Executes a statement of a migration, again while another one is in the way.
    fn insist(&mut self, sql: &Sql) -> Result<(), Error> {
        let mut tries = 1;
        loop {
            match self.execute(sql) {
                Err(Error::Conflict(why)) if self.is_server() && tries < TRIES && !is_waiting(&why) => {
                    log::debug!("conflict, try {tries}: {why}");
                    std::thread::sleep(pause(tries));
                    tries += 1;
                }
                executed => return executed.map(drop),
            }
        }
    }

    /// Makes sure that the server has committed the note of a migration.
    fn is_kept(&mut self, name: &str) -> Result<(), Error> {
        if !self.is_server() {
            return Ok(());
        }
        self.execute(&Sql::once("ROLLBACK"))?;
        if self.applied()?.iter().any(|applied| applied.version == version_of(name)) {
            return Ok(());
        }
        Err(Error::Other(format!("the server did not keep that {name} was run")))
    }
}

/// Whether a transaction that uses a table that is to change was waited for in vain.
fn is_waiting(error: &str) -> bool {
    error.contains("ock wait timeout")
}

/// The statements of a migration; each ends at the end of a line.
fn statements(text: &str) -> impl Iterator<Item = &str> {
    text.split_inclusive(";\n").map(str::trim).filter(|statement| statement.ends_with(';'))
}

fn applied_query() -> &'static str {
    "SELECT version, name, run_at FROM duly_migration ORDER BY version"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_migration_of_either_kind_is_embedded_whole() {
        for kind in ["mysql", "sqlite"] {
            let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations").join(kind);
            let mut names: Vec<String> = std::fs::read_dir(folder)
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            names.sort();
            assert_eq!(names, TEXTS.iter().map(|(name, _, _)| *name).collect::<Vec<_>>(), "{kind}");
        }
        for (name, server, _) in TEXTS {
            let code = server.lines().filter(|line| !line.starts_with("--"));
            let (split, ends) =
                (statements(server).count(), code.map(|line| line.matches(';').count()).sum::<usize>());
            assert_eq!(split, ends, "{name}: a `;` does not end a line");
        }
        assert_eq!(wanted_version(), "20261125010000");
    }

    #[test]
    fn a_schema_that_is_behind_or_ahead_is_refused_with_what_to_do() {
        assert!(compare(Some(&wanted_version())).is_ok());
        assert!(compare(None).unwrap_err().to_string().contains("duly migrate"));
        assert!(compare(Some("20200101000000")).unwrap_err().to_string().contains("duly migrate"));
        assert!(compare(Some("99990101000000")).unwrap_err().to_string().contains("newer"));
    }
}
