//! What a connection to a database is, for both kinds: MySQL or MariaDB, and SQLite. It knows no jobs.
//!
//! A [`Connection`] speaks to one server out of a list, or to one file. It keeps the rules that each session follows, gives up
//! what takes too long, tells errors apart by number ([`Error`]), and runs transactions again that another one was in the
//! way of. The schema and its migrations are here too. What differs between the kinds is in `dialect.rs`, `error.rs` and
//! `schema.rs`; statements ([`Sql`]) are one text for all.

mod connection;
mod dialect;
mod error;
mod location;
mod rows;
mod schema;
mod server;
mod sql;
mod sqlite;
mod transaction;

pub use connection::Connection;
pub use error::Error;
pub use location::{Endpoint, Location, Server, Tls, TlsMode};
pub use rows::{AnyText, AnyTime, RowOfServer};
pub use schema::{MigrationState, newer_version, wanted_version};
pub use sql::{Sql, Value};

pub(crate) use sql::{id_marks, literal_size, marks, marks_or_empty, time_text};
pub(crate) use transaction::{in_transaction, pause, transaction};
