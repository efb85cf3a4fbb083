//! What can go wrong with a statement, told apart by what the caller can do about it.
//!
//! A server's errors are told apart by their numbers, since their texts depend on its language; SQLite's texts are fixed.

use diesel::result::{DatabaseErrorKind, Error as DieselError};

/// A statement or a connection that failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// Nothing was changed: the whole transaction may be tried again.
    #[error("{0}")]
    Conflict(String),
    /// The server is away or does not accept writes now: connect again, then find out what happened.
    #[error("{0}")]
    Away(String),
    /// The server, its disk or a table has no room or cannot be written just now: the same may work later.
    #[error("{0}")]
    Full(String),
    /// A unique key is taken: an answer, not a fault.
    #[error("a unique key is taken: {0}")]
    Duplicate(String),
    /// The schema is not there or is another version's; the text says what to do.
    #[error("{0}")]
    Schema(String),
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

impl Error {
    /// What an error number of MySQL, MariaDB, Galera or Group Replication asks for.
    pub(super) fn of_server(number: u16, text: &str) -> Self {
        let with = |meaning: &str| format!("{meaning} ({text})");
        match number {
            // Deadlock or failed certification; lock wait; MariaDB's snapshot isolation; Group Replication's rollback.
            1213 | 1205 | 1020 | 3101 => Self::Conflict(with("another transaction was in the way")),
            // Group Replication: a deadlock that is noticed at COMMIT.
            1180 if text.contains("149") => Self::Conflict(with("another transaction was in the way")),
            3024 | 1969 => Self::Conflict(with(
                "the server ended a statement that took longer than it allows this user (max_statement_time, max_execution_time)",
            )),
            1290 | 1836 | 1792 | 3100 => Self::Away(with("the server takes no writes")),
            1040 | 1203 | 1226 => {
                Self::Away(with("the server lets this user have no more connections or statements"))
            }
            // Not ready; shutting down; killed; interrupted; gone; lost; too long idle.
            1047 | 1053 | 1927 | 1317 | 2006 | 2013 | 4031 => Self::Away(text.to_owned()),
            // A full disk, an error of the storage engine, no memory, a full table, too many locks, an error of writing.
            1021 | 1026 | 1028 | 1030 | 1037 | 1038 | 1041 | 1114 | 1206 | 1297 => {
                Self::Full(with("the server has no room or cannot write now"))
            }
            1820 | 1862 => Self::Other(with(
                "the password of this user has expired; set a new one (ALTER USER … IDENTIFIED BY …) and put it in the URL",
            )),
            1665 => Self::Other(with(
                "the server's binlog_format is STATEMENT, which takes no changes at READ COMMITTED; set it to ROW or MIXED",
            )),
            1062 | 1586 => Self::Duplicate(text.to_owned()),
            1146 | 1054 => Self::Schema(lacks(text)),
            _ => Self::Other(text.to_owned()),
        }
    }

    /// What an error of an SQLite connection asks for.
    pub(super) fn of_sqlite(error: &DieselError) -> Self {
        let text = error.to_string();
        match error {
            DieselError::DatabaseError(DatabaseErrorKind::UniqueViolation, _) => Self::Duplicate(text),
            DieselError::DatabaseError(..)
                if text.contains("database is locked") || text.contains("table is locked") =>
            {
                Self::Conflict(format!("another transaction was in the way: {text}"))
            }
            DieselError::DatabaseError(..)
                if text.contains("no such table") || text.contains("no such column") =>
            {
                Self::Schema(lacks(&text))
            }
            DieselError::DatabaseError(..) if text.contains("attempt to write a readonly database") => {
                Self::Away(format!("the database takes no writes ({text})"))
            }
            DieselError::DatabaseError(..)
                if [
                    "database or disk is full",
                    "disk I/O error",
                    "out of memory",
                    "unable to open database file",
                ]
                .iter()
                .any(|known| text.contains(known)) =>
            {
                Self::Full(format!("the database's disk has no room or cannot be written now ({text})"))
            }
            _ => Self::Other(text),
        }
    }
}

fn lacks(text: &str) -> String {
    format!("the database lacks a table or column of Duly ({text}); run `duly migrate`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_told_apart_by_what_can_be_done_about_it() {
        for number in [1213, 1205, 1020, 3101, 3024, 1969] {
            assert!(matches!(Error::of_server(number, ""), Error::Conflict(_)), "{number}");
        }
        for number in [2006, 2013, 1047, 1053, 1927, 1290, 1836, 1792, 3100, 1040, 1203, 1226, 1317, 4031] {
            assert!(matches!(Error::of_server(number, ""), Error::Away(_)), "{number}");
        }
        let deadlock = "Got error 149 - 'Lock deadlock; Retry transaction' during COMMIT";
        assert!(matches!(Error::of_server(1180, deadlock), Error::Conflict(_)));
        assert!(matches!(Error::of_server(1180, "Got error 5 during COMMIT"), Error::Other(_)));
        for number in [1021, 1030, 1114, 1026] {
            assert!(matches!(Error::of_server(number, ""), Error::Full(_)), "{number}");
        }
        assert!(matches!(Error::of_server(1062, ""), Error::Duplicate(_)));
        assert!(matches!(Error::of_server(1064, ""), Error::Other(_)));
        assert!(matches!(Error::of_server(1146, ""), Error::Schema(_)));
    }
}
