//! An open database and the rules every session follows: UTC, `READ COMMITTED`, short lock waits, strict SQL.
//!
//! [`Store::unit`] is the one way to change several rows: it runs its work in a transaction, and runs the whole of it
//! again when another transaction was in the way. The commands of a transaction go through prepared statements,
//! since diesel's own `BEGIN` and `COMMIT` on MySQL cost two more round trips each.

use std::time::Duration;

use diesel::connection::SimpleConnection;
use diesel::deserialize::QueryableByName;
use diesel::mysql::{Mysql, MysqlConnection};
use diesel::sqlite::{Sqlite, SqliteConnection};
use diesel::{Connection, QueryResult, RunQueryDsl};
use url::Url;

use super::certain::Inserted;
use super::error::{StoreError, from_mysql, from_sqlite};
use super::sql::Sql;
use super::startable::Crowd;
use super::tls;
use super::watchdog::{self, Watched};

/// How long a statement may take on a server, unless [`Store::set_limit`] says otherwise.
const LIMIT: Duration = Duration::from_secs(60);

/// How often a unit is tried before its conflict is given to the caller.
const UNIT_TRIES: u32 = 20;

/// Where the database is.
#[derive(Clone, PartialEq, Eq)]
pub enum Location {
    /// A `mysql://` URL, with its password.
    Mysql(String),
    /// The path of an SQLite file.
    Sqlite(String),
}

pub(super) enum Link {
    Mysql(MysqlConnection),
    Sqlite(SqliteConnection),
}

/// An open database.
pub struct Store {
    pub(super) location: Location,
    pub(super) link: Link,
    /// Of a server: its statements have a limit.
    pub(super) watched: Option<Watched>,
    /// Whether the session follows the rules. A MySQL session is set up by its first statement but the probe, which needs
    /// none of them: a tick with nothing to do is spared two round trips.
    is_set_up: bool,
    /// A MySQL session that has run a unit stays at `autocommit=0`, which spares each unit its `BEGIN`.
    manual_commit: bool,
    in_unit: bool,
    /// Whether the transaction's `COMMIT` has been sent, so that it may have been carried out whatever comes back.
    is_committing: bool,
    /// The last job that was inserted.
    pub(super) inserted: Option<Inserted>,
    pub(super) crowd: Crowd,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("in_unit", &self.in_unit).finish_non_exhaustive()
    }
}

impl Store {
    /// Connects. The schema is not looked at.
    ///
    /// # Errors
    ///
    /// [`StoreError::Away`] when the database cannot be reached or refuses the user; the text has no password.
    pub fn connect(location: &Location) -> Result<Self, StoreError> {
        Self::connect_within(location, Some(LIMIT))
    }

    /// As [`Store::connect`], with another limit; connecting itself has one of its own if that is `None`.
    ///
    /// # Errors
    ///
    /// As [`Store::connect`].
    pub fn connect_within(location: &Location, limit: Option<Duration>) -> Result<Self, StoreError> {
        let (link, watched) = match location {
            Location::Mysql(url) => {
                let (conn, watched) = connect_mysql(url, limit)?;
                (Link::Mysql(conn), Some(watched))
            }
            Location::Sqlite(path) => (Link::Sqlite(connect_sqlite(path)?), None),
        };
        Ok(Self {
            location: location.clone(),
            link,
            is_set_up: watched.is_none(),
            watched,
            manual_commit: false,
            in_unit: false,
            is_committing: false,
            inserted: None,
            crowd: Crowd::default(),
        })
    }

    /// Connects again in place of a connection that was lost.
    ///
    /// # Errors
    ///
    /// As [`Store::connect`].
    pub fn reconnect(&mut self) -> Result<(), StoreError> {
        *self = Self::connect_within(&self.location, self.limit())?;
        Ok(())
    }

    /// How long the server may take over one statement from now on: past that the connection is given up, and the error is
    /// [`StoreError::Away`]. `None`: as long as it likes, for what may take hours. Nothing is limited on SQLite.
    pub const fn set_limit(&mut self, limit: Option<Duration>) {
        if let Some(watched) = &mut self.watched {
            watched.limit = limit;
        }
    }

    fn limit(&self) -> Option<Duration> {
        self.watched.as_ref().map_or(Some(LIMIT), |watched| watched.limit)
    }

    /// Another connection to the same database.
    ///
    /// # Errors
    ///
    /// As [`Store::connect`].
    pub fn another(&self) -> Result<Self, StoreError> {
        Self::connect_within(&self.location, self.limit())
    }

    pub(super) const fn is_mysql(&self) -> bool {
        matches!(self.link, Link::Mysql(_))
    }

    /// The database's time, as SQL.
    pub(super) const fn now(&self) -> &'static str {
        if self.is_mysql() { "UTC_TIMESTAMP(6)" } else { "strftime('%Y-%m-%d %H:%M:%f000', 'now')" }
    }

    /// The database's time plus a `?` in microseconds, which may be negative, as SQL.
    pub(super) const fn now_plus(&self) -> &'static str {
        if self.is_mysql() {
            "(UTC_TIMESTAMP(6) + INTERVAL ? MICROSECOND)"
        } else {
            "strftime('%Y-%m-%d %H:%M:%f000', 'now', (? / 1000000.0) || ' seconds')"
        }
    }

    /// A column with a time that an application may have written, as SQL: as it should be stored, `NULL` if it is none.
    pub(super) fn readable(&self, column: &str) -> String {
        if self.is_mysql() {
            format!("(CASE WHEN {column} >= '1970-01-01' THEN {column} END)")
        } else {
            // Without a change to a time SQLite gives 24:00 and the 30th of February back as they were.
            format!("strftime('%Y-%m-%d %H:%M:%f000', {column}, '+0 seconds')")
        }
    }

    /// A column of text, as SQL, for comparing it whole: MySQL's collations take blanks at the end for nothing.
    pub(super) fn exactly(&self, column: &str) -> String {
        if self.is_mysql() { format!("CAST({column} AS BINARY)") } else { column.to_owned() }
    }

    /// A column of any type as text, as SQL, compared byte by byte.
    pub(super) fn as_text(&self, column: &str) -> String {
        if self.is_mysql() {
            format!("CAST({column} AS CHAR CHARACTER SET utf8mb4) COLLATE utf8mb4_bin")
        } else {
            format!("CAST({column} AS TEXT)")
        }
    }

    /// A column of any type as a whole number, as SQL.
    pub(super) fn as_integer(&self, column: &str) -> String {
        format!("CAST({column} AS {})", if self.is_mysql() { "SIGNED" } else { "INTEGER" })
    }

    /// The end of a `SELECT` whose rows are locked, those that another transaction has locked left out, as SQL.
    pub(super) const fn skip_locked(&self) -> &'static str {
        if self.is_mysql() { " FOR UPDATE SKIP LOCKED" } else { "" }
    }

    /// The end of a `SELECT` whose rows are locked, as SQL.
    pub(super) const fn for_update(&self) -> &'static str {
        if self.is_mysql() { " FOR UPDATE" } else { "" }
    }

    /// Runs a statement; returns how many rows it matched.
    pub(super) fn execute(&mut self, sql: &Sql) -> Result<usize, StoreError> {
        self.set_up()?;
        let count = match &mut self.link {
            Link::Mysql(conn) => limited(self.watched.as_ref(), conn, |conn| sql.clone().execute(conn)),
            Link::Sqlite(conn) => sql.clone().execute(conn).map_err(|err| from_sqlite(&err)),
        };
        self.end_single(count.is_ok())?;
        count
    }

    /// Runs a query.
    pub(super) fn rows<R>(&mut self, sql: &Sql) -> Result<Vec<R>, StoreError>
    where
        R: QueryableByName<Mysql> + QueryableByName<Sqlite> + 'static,
    {
        self.set_up()?;
        self.rows_of_any_session(sql)
    }

    /// Runs a query that means the same in whatever session it is run, and reads only.
    pub(super) fn rows_of_any_session<R>(&mut self, sql: &Sql) -> Result<Vec<R>, StoreError>
    where
        R: QueryableByName<Mysql> + QueryableByName<Sqlite> + 'static,
    {
        let rows = match &mut self.link {
            Link::Mysql(conn) => limited(self.watched.as_ref(), conn, |conn| sql.clone().load(conn)),
            Link::Sqlite(conn) => sql.clone().load(conn).map_err(|err| from_sqlite(&err)),
        };
        self.end_single(rows.is_ok())?;
        rows
    }

    /// Lets the session follow the rules, before the first statement that relies on them.
    fn set_up(&mut self) -> Result<(), StoreError> {
        if self.is_set_up {
            return Ok(());
        }
        if let Link::Mysql(conn) = &mut self.link {
            // One statement for every server: each reads only the comment that is meant for it.
            let rules = Sql::once(
                "SET /*!80000 transaction_isolation = 'READ-COMMITTED', */ /*M! tx_isolation = 'READ-COMMITTED', */ \
                 innodb_lock_wait_timeout = 5, sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION'",
            );
            limited(self.watched.as_ref(), conn, |conn| rules.execute(conn))?;
        }
        self.is_set_up = true;
        Ok(())
    }

    /// Runs `work` in a transaction, again from its start while other transactions are in the way.
    pub(super) fn unit<T>(
        &mut self,
        mut work: impl FnMut(&mut Self) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mut tries = 1;
        loop {
            match self.once(&mut work) {
                Err(StoreError::Conflict(what)) if tries < UNIT_TRIES => {
                    log::debug!("conflict, try {tries}: {what}");
                    std::thread::sleep(pause(tries));
                    tries += 1;
                }
                // Like a conflict: the transaction is gone, for its COMMIT was never sent.
                Err(StoreError::Away(what)) if tries < UNIT_TRIES && self.is_unanswered() => {
                    log::info!("{what}; trying again on another, try {tries}");
                    self.reconnect()?;
                    tries += 1;
                }
                other => return other,
            }
        }
    }

    fn is_unanswered(&self) -> bool {
        !self.is_committing && self.watched.as_ref().is_some_and(Watched::is_unanswered)
    }

    /// Runs `work` in a transaction, once: a conflict is given to the caller.
    pub(super) fn once<T>(
        &mut self,
        work: impl FnOnce(&mut Self) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.begin()?;
        (self.in_unit, self.is_committing) = (true, false);
        let done = work(self);
        let ended = match done {
            Ok(value) => {
                self.is_committing = true;
                self.execute(&Sql::new("COMMIT")).map(|_| value)
            }
            Err(error) => {
                // A rollback that fails means that the connection is gone, and the transaction with it.
                if let Err(rollback) = self.execute(&Sql::new("ROLLBACK")) {
                    log::debug!("rollback: {rollback}");
                }
                Err(error)
            }
        };
        if ended.is_err() && !self.is_mysql() {
            // SQLite keeps the transaction open when a COMMIT was refused as busy.
            if let Err(rollback) = self.execute(&Sql::new("ROLLBACK")) {
                log::trace!("rollback: {rollback}");
            }
        }
        self.in_unit = false;
        ended
    }

    /// Runs a query that sees each row as it is now, committed or not. Not in a unit: what it tells is where to look.
    pub(super) fn latest_rows<R>(&mut self, sql: &Sql) -> Result<Vec<R>, StoreError>
    where
        R: QueryableByName<Mysql> + QueryableByName<Sqlite> + 'static,
    {
        self.once(|tx| {
            tx.execute(&Sql::new("SET TRANSACTION ISOLATION LEVEL READ UNCOMMITTED"))?;
            tx.rows(sql)
        })
    }

    fn begin(&mut self) -> Result<(), StoreError> {
        if !self.is_mysql() {
            self.in_unit = true;
            return self.execute(&Sql::new("BEGIN IMMEDIATE")).map(drop);
        }
        if !self.manual_commit {
            self.doubt_silence()?;
            self.execute(&Sql::new("SET autocommit = 0"))?;
            self.manual_commit = true;
        }
        Ok(())
    }

    /// A statement outside a unit is its own transaction, also where the session no longer commits by itself.
    fn end_single(&mut self, is_good: bool) -> Result<(), StoreError> {
        if self.in_unit || !self.manual_commit {
            return Ok(());
        }
        let Link::Mysql(conn) = &mut self.link else { return Ok(()) };
        let sql = Sql::new(if is_good { "COMMIT" } else { "ROLLBACK" });
        match limited(self.watched.as_ref(), conn, |conn| sql.execute(conn)) {
            Err(err) if is_good => Err(err),
            Err(err) => {
                // The caller gets the error that it is about.
                log::debug!("rollback: {err}");
                Ok(())
            }
            Ok(_) => Ok(()),
        }
    }
}

fn connect_mysql(url: &str, limit: Option<Duration>) -> Result<(MysqlConnection, Watched), StoreError> {
    let way = tls::prepare(url)?;
    let port = Url::parse(url).ok().and_then(|url| url.port()).unwrap_or(3306);
    let (mut conn, watched) = watchdog::connect(port, limit, || {
        MysqlConnection::establish(&way.url).map_err(|err| err.to_string())
    })
    .map_err(StoreError::Away)?;
    if way.must_be_encrypted {
        let _running = watched.run();
        tls::require(&mut conn)?;
    }
    Ok((conn, watched))
}

/// Has the server do one thing, within the limit that its connection has.
fn limited<T>(
    watched: Option<&Watched>,
    conn: &mut MysqlConnection,
    work: impl FnOnce(&mut MysqlConnection) -> QueryResult<T>,
) -> Result<T, StoreError> {
    let running = watched.map(Watched::run);
    // The server is asked for the number of an error within the same limit.
    let done = work(conn).map_err(|err| from_mysql(&err, conn));
    done.map_err(|err| match running.and_then(|running| running.passed()) {
        Some(passed) => StoreError::Away(passed),
        None => err,
    })
}

/// Makes the file, if there is none, so that only its owner can read what jobs print; SQLite gives its other files the same
/// mode. Where the file cannot be made, SQLite says why.
fn make_private(path: &str) {
    use std::os::unix::fs::OpenOptionsExt as _;
    let made = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    if let Err(err) = made {
        log::trace!("`{path}`: {err}");
    }
}

fn connect_sqlite(path: &str) -> Result<SqliteConnection, StoreError> {
    make_private(path);
    let mut conn = SqliteConnection::establish(path)
        .map_err(|err| StoreError::Away(format!("cannot open `{path}`: {err}")))?;
    let rules = "PRAGMA busy_timeout = 5000; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;";
    let mut tries = 1;
    loop {
        match conn.batch_execute(rules).map_err(|err| from_sqlite(&err)) {
            Ok(()) => return Ok(conn),
            // Of many that open a new file at once, SQLite lets nobody wait who wants to change its journal's mode.
            Err(StoreError::Conflict(_)) if tries < UNIT_TRIES => {
                std::thread::sleep(pause(tries));
                tries += 1;
            }
            Err(StoreError::Other(text)) => {
                return Err(StoreError::Other(format!(
                    "`{path}` cannot be used as an SQLite database: {text}"
                )));
            }
            Err(known) => return Err(known),
        }
    }
}

/// A wait of 5 to 500 ms that grows with the tries and differs between processes and threads.
pub(super) fn pause(tries: u32) -> Duration {
    use std::hash::{BuildHasher, RandomState};
    let ceiling = (10_u64 << tries.min(6)).min(500);
    let random = RandomState::new().hash_one(tries);
    Duration::from_millis(5 + random % ceiling)
}
