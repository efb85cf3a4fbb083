//! Opening an SQLite file.

use diesel::Connection as _;
use diesel::connection::SimpleConnection as _;
use diesel::sqlite::SqliteConnection;

use super::error::Error;
use super::transaction::{TRIES, pause};

const RULES: &str = "PRAGMA busy_timeout = 5000; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;";

pub(super) fn open(path: &str) -> Result<SqliteConnection, Error> {
    make_private(path);
    let mut conn = SqliteConnection::establish(path)
        .map_err(|err| Error::Away(format!("cannot open `{path}`: {err}")))?;
    let mut tries = 1;
    loop {
        match conn.batch_execute(RULES).map_err(|err| Error::of_sqlite(&err)) {
            Ok(()) => return Ok(conn),
            // Of many that open a new file at once, SQLite lets nobody wait who wants to change its journal's mode.
            Err(Error::Conflict(_)) if tries < TRIES => {
                std::thread::sleep(pause(tries));
                tries += 1;
            }
            Err(Error::Other(text)) => {
                return Err(Error::Other(format!("`{path}` cannot be used as an SQLite database: {text}")));
            }
            Err(known) => return Err(known),
        }
    }
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
