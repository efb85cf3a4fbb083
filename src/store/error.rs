//! What can go wrong with a statement, told apart by what the caller can do about it.
//!
//! Diesel gives a kind to constraint errors and to error 1213 in a statement; every other error of a MySQL or
//! MariaDB server arrives as text, and the text depends on the server's language. The server still knows the number:
//! `GET DIAGNOSTICS` tells it (`SHOW WARNINGS` cannot be read through diesel, which prepares every query). Where that
//! statement fails as well, the connection is gone. SQLite's texts are fixed.

use diesel::connection::SimpleConnection as _;
use diesel::mysql::MysqlConnection;
use diesel::result::{DatabaseErrorKind, Error};
use diesel::sql_types::{BigInt, Nullable};
use diesel::{QueryResult, QueryableByName, RunQueryDsl, sql_query};

/// A statement or a connection that failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another transaction was in the way and nothing was changed: the whole unit may be tried again.
    #[error("another transaction was in the way: {0}")]
    Conflict(String),
    /// The server is away or does not accept writes now: connect again, then find out what happened.
    #[error("{0}")]
    Away(String),
    /// A unique key is taken: an answer, not a fault.
    #[error("a unique key is taken: {0}")]
    Duplicate(String),
    /// The schema is not there or is another version's; the text says what to do.
    #[error("{0}")]
    Schema(String),
    /// A job of the same unique name or key has not ended.
    #[error("job {id} ({name}) of the same unique key has not ended; `duly why {id}` says why")]
    Taken {
        /// That job.
        id: i64,
        /// Its name.
        name: String,
    },
    /// A job may not start now: it is paused, or runs as often as it may.
    #[error("{0}")]
    HeldBack(String),
    /// A job that is named does not exist.
    #[error("{0}")]
    Unknown(String),
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

impl StoreError {
    /// Whether connecting again may help.
    #[must_use]
    pub const fn is_away(&self) -> bool {
        matches!(self, Self::Away(_))
    }

    /// Whether it is about the unique key on this column, whose name is in every server's message.
    pub(super) fn is_taken_key(&self, column: &str) -> bool {
        matches!(self, Self::Duplicate(text) if text.contains(&format!("duly_job_{column}'"))
            || text.contains(&format!("duly_job.{column}")))
    }

    /// Whether a unique key was taken.
    #[must_use]
    pub const fn is_duplicate(&self) -> bool {
        matches!(self, Self::Duplicate(_))
    }
}

#[derive(QueryableByName)]
struct Number {
    #[diesel(sql_type = Nullable<BigInt>)]
    number: Option<i64>,
}

/// The number of the server's last error. A statement that asks for it must not be prepared: that would forget it.
fn number_of_last_error(conn: &mut MysqlConnection) -> QueryResult<Option<i64>> {
    conn.batch_execute("GET DIAGNOSTICS CONDITION 1 @duly_errno = MYSQL_ERRNO")?;
    let rows: Vec<Number> = sql_query("SELECT CAST(@duly_errno AS SIGNED) AS number").load(conn)?;
    Ok(rows.first().and_then(|row| row.number))
}

/// Classifies an error of a MySQL or MariaDB connection, asking the server for its number.
pub(super) fn from_mysql(error: &Error, conn: &mut MysqlConnection) -> StoreError {
    let text = error.to_string();
    match error {
        Error::DatabaseError(DatabaseErrorKind::UniqueViolation, _) => StoreError::Duplicate(text),
        Error::DatabaseError(DatabaseErrorKind::SerializationFailure, _) => StoreError::Conflict(text),
        Error::DatabaseError(DatabaseErrorKind::ClosedConnection, _) => StoreError::Away(text),
        Error::DatabaseError(..) if is_client_loss(&text) => StoreError::Away(text),
        Error::DatabaseError(..) => match number_of_last_error(conn) {
            Ok(number) => from_number(number, text),
            Err(silence) => {
                log::debug!("the server does not say more: {silence}");
                StoreError::Away(text)
            }
        },
        _ => StoreError::Other(text),
    }
}

/// What an error number of MySQL, MariaDB or Galera asks for.
pub(super) fn from_number(number: Option<i64>, text: String) -> StoreError {
    match number {
        // Deadlock or failed certification; lock wait; MariaDB's snapshot isolation; Group Replication's rollback;
        // a statement that took longer than the server allows, in MySQL and in MariaDB.
        Some(1213 | 1205 | 1020 | 3101 | 3024 | 1969) => StoreError::Conflict(text),
        // Not ready; shutting down; killed; read only, four ways; too many connections; interrupted; gone; lost;
        // too many prepared statements, or one that must be prepared again: a new connection has none.
        Some(1047 | 1053 | 1927 | 1290 | 1836 | 1792 | 3100 | 1040 | 1317 | 2006 | 2013 | 1461 | 1615) => {
            StoreError::Away(text)
        }
        Some(1062) => StoreError::Duplicate(text),
        Some(1146 | 1054) => StoreError::Schema(format!(
            "the database lacks a table or column of Duly ({text}); run `duly migrate`"
        )),
        _ => StoreError::Other(text),
    }
}

/// The client libraries' own texts for 2006 and 2013, which are in English whatever the server speaks.
fn is_client_loss(text: &str) -> bool {
    ["erver has gone away", "Lost connection to", "onnection was killed", "Broken pipe"]
        .iter()
        .any(|known| text.contains(known))
}

/// Classifies an error of an SQLite connection.
pub(super) fn from_sqlite(error: &Error) -> StoreError {
    let text = error.to_string();
    match error {
        Error::DatabaseError(DatabaseErrorKind::UniqueViolation, _) => StoreError::Duplicate(text),
        Error::DatabaseError(..)
            if text.contains("database is locked") || text.contains("table is locked") =>
        {
            StoreError::Conflict(text)
        }
        Error::DatabaseError(..) if text.contains("no such table") || text.contains("no such column") => {
            StoreError::Schema(format!(
                "the database lacks a table or column of Duly ({text}); run `duly migrate`"
            ))
        }
        _ => StoreError::Other(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_told_apart_by_what_can_be_done_about_it() {
        for code in [1213, 1205, 1020, 3101] {
            assert!(matches!(from_number(Some(code), String::new()), StoreError::Conflict(_)), "{code}");
        }
        for code in [2006, 2013, 1047, 1053, 1927, 1290, 1836, 1040] {
            assert!(from_number(Some(code), String::new()).is_away(), "{code}");
        }
        assert!(from_number(Some(1062), String::new()).is_duplicate());
        assert!(matches!(from_number(Some(1064), String::new()), StoreError::Other(_)));
        assert!(is_client_loss("Server has gone away"));
        assert!(is_client_loss("Lost connection to server during query"));
    }
}
