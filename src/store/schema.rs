//! The tables: which version of them a database has, and how it gets the one that this program needs.
//!
//! The migrations are diesel's, embedded. What has been run is kept in `duly_migration` and not in diesel's own
//! table, which may belong to the shop. SQLite migrates by itself, MySQL and MariaDB only by `duly migrate`.

use diesel::migration::{Migration, MigrationSource, MigrationVersion, Result as MigrationResult};
use diesel::mysql::{Mysql, MysqlConnection};
use diesel::sql_types::Text;
use diesel::sqlite::{Sqlite, SqliteConnection};
use diesel::{QueryableByName, RunQueryDsl, sql_query};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};

use super::connection::{Link, Store};
use super::error::StoreError;
use super::sql::Sql;
use super::text::AnyText;

const MYSQL: EmbeddedMigrations = embed_migrations!("migrations/mysql");
const SQLITE: EmbeddedMigrations = embed_migrations!("migrations/sqlite");

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
const TEXTS: &[(&str, &str, &str)] =
    texts!["2026-11-21-000000_jobs", "2026-11-22-000000_shop", "2026-11-25-000000_operate"];

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
/// [`StoreError::Schema`], with what to do, when they differ.
pub(crate) fn compare(found: Option<&str>) -> Result<(), StoreError> {
    let wanted = wanted_version();
    match found {
        Some(found) if found == wanted => Ok(()),
        // Seen with libmariadb 3.3.19 (its bug CONC-821): through diesel every text is empty. Nothing may be run so.
        Some("") => Err(StoreError::Other(
            "the client library libmariadb on this host gives every text as empty; version 3.3.19 is known for it: \
             upgrade the package libmariadb3"
                .to_owned(),
        )),
        Some(found) if found > wanted.as_str() => Err(StoreError::Schema(format!(
            "the database has schema {found}, made by a newer Duly; this one knows {wanted}: install the newer version on this host"
        ))),
        Some(found) => Err(StoreError::Schema(format!(
            "the database has schema {found} and this version of Duly needs {wanted}: run `duly migrate`"
        ))),
        None => {
            Err(StoreError::Schema("the database has no tables of Duly yet: run `duly migrate`".to_owned()))
        }
    }
}

impl Store {
    /// Makes sure that the schema is the one this program needs; SQLite gets it here.
    ///
    /// # Errors
    ///
    /// [`StoreError::Schema`] where it is not.
    pub fn require_schema(&mut self) -> Result<(), StoreError> {
        let mut found = self.version()?;
        if !self.is_mysql() && found.as_ref().is_none_or(|found| *found < wanted_version()) {
            self.migrate()?;
            found = self.version()?;
        }
        compare(found.as_deref())
    }

    fn version(&mut self) -> Result<Option<String>, StoreError> {
        Ok(self.applied()?.pop().map(|applied| applied.version))
    }

    /// What has been run, oldest first; nothing where the table is not there yet.
    fn applied(&mut self) -> Result<Vec<Applied>, StoreError> {
        match self.rows::<Applied>(&Sql::new(applied_query())) {
            Err(StoreError::Schema(_)) => Ok(Vec::new()),
            other => other,
        }
    }

    /// Every migration that this program or the database knows, oldest first.
    ///
    /// # Errors
    ///
    /// When the database cannot be read.
    pub fn migrations(&mut self) -> Result<Vec<MigrationState>, StoreError> {
        let applied = self.applied()?;
        let is_mysql = self.is_mysql();
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
    ///
    /// # Errors
    ///
    /// When a statement is refused.
    pub fn migrate(&mut self) -> Result<Vec<String>, StoreError> {
        let now = self.now();
        self.take_turns();
        self.wait_briefly()?;
        let ran = match &mut self.link {
            Link::Mysql(conn) => run_pending(&mut Harness { conn, now }, MYSQL),
            Link::Sqlite(conn) => {
                let mut ran = Ok(Vec::new());
                conn.immediate_transaction(|conn| {
                    ran = run_pending(&mut Harness { conn, now }, SQLITE);
                    if ran.is_ok() { Ok(()) } else { Err(diesel::result::Error::RollbackTransaction) }
                })
                .or_else(|err| if ran.is_err() { Ok(()) } else { Err(StoreError::Other(err.to_string())) })?;
                ran
            }
        };
        ran.map_err(|err| {
            let waited = if err.to_string().contains("Lock wait timeout") {
                "; a transaction of somebody else uses a table that changes, for longer than 10 seconds: end it and run \
                 `duly migrate` again"
            } else {
                ""
            };
            StoreError::Other(format!("a migration was refused: {err}{waited}"))
        })
    }

    /// A change of a table waits for transactions that use the table, and everybody else then waits behind it: for a day,
    /// if the server has its way. Rather is the migration refused, which can be run again at any time.
    fn wait_briefly(&mut self) -> Result<(), StoreError> {
        if !self.is_mysql() {
            return Ok(());
        }
        self.execute(&Sql::once("SET lock_wait_timeout = 10")).map(drop)
    }
}

impl Store {
    /// Lets several hosts that are deployed at once migrate one after the other. Where a cluster knows no such lock,
    /// the second one may have to be started again, which does no harm. The lock ends with the connection.
    fn take_turns(&mut self) {
        if !self.is_mysql() {
            return;
        }
        if let Err(err) = self.rows::<Applied>(&Sql::once(
            "SELECT CAST(GET_LOCK('duly_migrate', 60) AS CHAR) AS version, '' AS name, '' AS run_at",
        )) {
            log::debug!("no lock for migrations: {err}");
        }
    }
}

fn applied_query() -> &'static str {
    "SELECT version, name, run_at FROM duly_migration ORDER BY version"
}

fn run_pending<DB: diesel::backend::Backend, S: MigrationSource<DB>>(
    harness: &mut impl MigrationHarness<DB>,
    source: S,
) -> MigrationResult<Vec<String>> {
    let pending = harness.pending_migrations(source)?;
    pending
        .iter()
        .map(|migration| {
            harness.run_migration(migration)?;
            Ok(migration.name().to_string())
        })
        .collect()
}

/// Diesel's migrations, recorded in a table of our own.
struct Harness<'a, C> {
    conn: &'a mut C,
    now: &'static str,
}

macro_rules! harness_for {
    ($connection:ty, $backend:ty) => {
        impl MigrationHarness<$backend> for Harness<'_, $connection> {
            fn run_migration(
                &mut self,
                migration: &dyn Migration<$backend>,
            ) -> MigrationResult<MigrationVersion<'static>> {
                self.applied_migrations()?;
                migration.run(self.conn)?;
                let version = migration.name().version().as_owned();
                let insert =
                    format!("INSERT INTO duly_migration (version, name, run_at) VALUES (?, ?, {})", self.now);
                sql_query(insert)
                    .bind::<Text, _>(version.to_string())
                    .bind::<Text, _>(migration.name().to_string())
                    .execute(self.conn)?;
                Ok(version)
            }

            fn revert_migration(
                &mut self,
                migration: &dyn Migration<$backend>,
            ) -> MigrationResult<MigrationVersion<'static>> {
                migration.revert(self.conn)?;
                let version = migration.name().version().as_owned();
                sql_query("DELETE FROM duly_migration WHERE version = ?")
                    .bind::<Text, _>(version.to_string())
                    .execute(self.conn)?;
                Ok(version)
            }

            fn applied_migrations(&mut self) -> MigrationResult<Vec<MigrationVersion<'static>>> {
                // Read first: with nothing to do, no right to create tables is needed.
                let applied = match sql_query(applied_query()).load::<Applied>(self.conn) {
                    Ok(applied) => applied,
                    Err(_) => {
                        sql_query(
                            "CREATE TABLE IF NOT EXISTS duly_migration (version VARCHAR(50) NOT NULL PRIMARY KEY, \
                             name VARCHAR(190) NOT NULL, run_at VARCHAR(26) NOT NULL)",
                        )
                        .execute(self.conn)?;
                        sql_query(applied_query()).load::<Applied>(self.conn)?
                    }
                };
                Ok(applied.into_iter().rev().map(|a| MigrationVersion::from(a.version)).collect())
            }
        }
    };
}

harness_for!(MysqlConnection, Mysql);
harness_for!(SqliteConnection, Sqlite);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_texts_shown_are_those_that_are_run() {
        let mut mysql: Vec<String> = MigrationSource::<Mysql>::migrations(&MYSQL)
            .unwrap()
            .iter()
            .map(|migration| migration.name().to_string())
            .collect();
        mysql.sort();
        let texts: Vec<&str> = TEXTS.iter().map(|(name, _, _)| *name).collect();
        assert_eq!(mysql, texts);
        assert_eq!(wanted_version(), "20261125000000");
    }

    #[test]
    fn a_schema_that_is_behind_or_ahead_is_refused_with_what_to_do() {
        assert!(compare(Some(&wanted_version())).is_ok());
        assert!(compare(None).unwrap_err().to_string().contains("duly migrate"));
        assert!(compare(Some("20200101000000")).unwrap_err().to_string().contains("duly migrate"));
        assert!(compare(Some("99990101000000")).unwrap_err().to_string().contains("newer"));
    }
}
