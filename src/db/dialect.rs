//! What is written in one way for a server and in another for SQLite.

use super::connection::Connection;

impl Connection {
    /// The database's time, as SQL.
    pub(crate) const fn now(&self) -> &'static str {
        if self.is_server() { "UTC_TIMESTAMP(6)" } else { "strftime('%Y-%m-%d %H:%M:%f000', 'now')" }
    }

    /// The database's time plus a `?` in microseconds, which may be negative, as SQL.
    pub(crate) const fn now_plus(&self) -> &'static str {
        if self.is_server() {
            "(UTC_TIMESTAMP(6) + INTERVAL ? MICROSECOND)"
        } else {
            "strftime('%Y-%m-%d %H:%M:%f000', 'now', (? / 1000000.0) || ' seconds')"
        }
    }

    /// A column with a time that an application may have written, as SQL: as it should be stored, `NULL` if it is none.
    pub(crate) fn readable(&self, column: &str) -> String {
        if self.is_server() {
            format!("(CASE WHEN {column} >= '1970-01-01' THEN {column} END)")
        } else {
            // Without a change to a time SQLite gives 24:00 and the 30th of February back as they were.
            format!("strftime('%Y-%m-%d %H:%M:%f000', {column}, '+0 seconds')")
        }
    }

    /// A column of any type as text, as SQL, compared byte by byte.
    pub(crate) fn as_text(&self, column: &str) -> String {
        if self.is_server() {
            format!("CAST({column} AS CHAR CHARACTER SET utf8mb4) COLLATE utf8mb4_bin")
        } else {
            format!("CAST({column} AS TEXT)")
        }
    }

    /// A column of any type as a whole number, as SQL.
    pub(crate) fn as_integer(&self, column: &str) -> String {
        format!("CAST({column} AS {})", if self.is_server() { "SIGNED" } else { "INTEGER" })
    }

    /// The end of a `SELECT` whose rows are locked, those that another transaction has locked left out, as SQL.
    pub(crate) const fn skip_locked(&self) -> &'static str {
        if self.is_server() { " FOR UPDATE SKIP LOCKED" } else { "" }
    }

    /// The end of a `SELECT` whose rows are locked, as SQL.
    pub(crate) const fn for_update(&self) -> &'static str {
        if self.is_server() { " FOR UPDATE" } else { "" }
    }
}
