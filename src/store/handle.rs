//! A connection by which jobs are changed.

use std::ops::{Deref, DerefMut};
use std::time::Duration;

use diesel::deserialize::QueryableByName;
use diesel::mysql::Mysql;
use diesel::sqlite::Sqlite;

use super::certain::Inserted;
use super::error::StoreError;
use super::passed_over::PassedOver;
use super::startable::Crowd;
use crate::db::{self, Connection, Location, MigrationState, Sql};

/// An open database with jobs in it.
pub struct Store {
    db: Connection,
    /// The last job that was inserted.
    pub(super) inserted: Option<Inserted>,
    pub(super) crowd: Crowd,
    /// Bytes that the server takes in one packet, once it was asked.
    pub(super) packet: Option<usize>,
    pub(super) passed_over: PassedOver,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").finish_non_exhaustive()
    }
}

impl Deref for Store {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.db
    }
}

impl DerefMut for Store {
    fn deref_mut(&mut self) -> &mut Connection {
        &mut self.db
    }
}

impl Store {
    /// Connects. The schema is not looked at.
    ///
    /// # Errors
    ///
    /// [`StoreError::Away`] when the database cannot be reached or refuses the user; the text has no password.
    pub fn connect(location: &Location) -> Result<Self, StoreError> {
        Ok(Self::over(Connection::open(location)?))
    }

    /// As [`Store::connect`], with another limit for each statement.
    pub fn connect_within(location: &Location, limit: Option<Duration>) -> Result<Self, StoreError> {
        Ok(Self::over(Connection::open_within(location, limit)?))
    }

    fn over(db: Connection) -> Self {
        Self { db, inserted: None, crowd: Crowd::default(), passed_over: PassedOver::default(), packet: None }
    }

    /// Connects again in place of a connection that was lost.
    pub fn reconnect(&mut self) -> Result<(), StoreError> {
        *self = self.another()?;
        Ok(())
    }

    /// Another connection to the same database.
    pub fn another(&self) -> Result<Self, StoreError> {
        Ok(Self::over(self.db.another()?))
    }

    /// Makes sure that the schema is the one this program needs; SQLite gets it here.
    ///
    /// # Errors
    ///
    /// [`StoreError::Schema`] where it is not.
    pub fn require_schema(&mut self) -> Result<(), StoreError> {
        Ok(self.db.require_schema()?)
    }

    /// Every migration that this program or the database knows, oldest first.
    pub fn migrations(&mut self) -> Result<Vec<MigrationState>, StoreError> {
        Ok(self.db.migrations()?)
    }

    /// Runs what has not been run yet; returns the names.
    pub fn migrate(&mut self) -> Result<Vec<String>, StoreError> {
        Ok(self.db.migrate()?)
    }

    /// Runs a statement; returns how many rows it matched.
    pub(super) fn execute(&mut self, sql: &Sql) -> Result<usize, StoreError> {
        Ok(self.db.execute(sql)?)
    }

    /// Runs a query.
    pub(super) fn rows<R>(&mut self, sql: &Sql) -> Result<Vec<R>, StoreError>
    where
        R: QueryableByName<Mysql> + QueryableByName<Sqlite> + 'static,
    {
        Ok(self.db.rows(sql)?)
    }

    /// Runs a query that means the same in whatever session it is run, and reads only.
    pub(super) fn rows_of_any_session<R>(&mut self, sql: &Sql) -> Result<Vec<R>, StoreError>
    where
        R: QueryableByName<Mysql> + QueryableByName<Sqlite> + 'static,
    {
        Ok(self.db.rows_of_any_session(sql)?)
    }

    /// Runs `work` in a transaction, again from its start while other transactions are in the way.
    pub(super) fn unit<T>(
        &mut self,
        work: impl FnMut(&mut Self) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        db::transaction(self, |err| matches!(err, StoreError::Conflict(_)), work)
    }

    /// Runs `work` in a transaction, once: a conflict is given to the caller.
    pub(super) fn once<T>(
        &mut self,
        work: impl FnOnce(&mut Self) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        db::in_transaction(self, work)
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
}
