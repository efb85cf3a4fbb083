//! What the tests stand on: a sandbox to run `duly` in, an isolated database per test, servers of their own, polling.
//!
//! Guarantees: no test sees another's files, database, environment or host slots; nothing that was started outlives the
//! test process, even one that is killed. A missing server fails the tests that need it, it never skips them.

mod certificates;
mod client;
mod database;
mod faketime;
mod proxy;
mod sandbox;
mod server;
mod stranger;
mod terminal;
mod user;
mod wait;

pub(crate) use certificates::Certificates;
pub(crate) use client::Client;
pub(crate) use database::{Backend, Database, Session};
pub(crate) use proxy::{CommitFault, Proxy};
pub(crate) use sandbox::{Output, Running, Sandbox, program};
pub(crate) use server::Server;
pub(crate) use stranger::as_stranger;
pub(crate) use terminal::Terminal;
pub(crate) use user::User;
pub(crate) use wait::wait_until;

/// Makes of each test function one test per database: `name::sqlite` and `name::mariadb`.
///
/// The function's argument may be a [`Sandbox`], a [`Database`] or the [`Backend`] itself, whatever is `From<Backend>`.
macro_rules! on_every_database {
    ($($(#[doc = $doc:literal])* fn $name:ident($argument:ident: $type:ty) $body:block)+) => {$(
        $(#[doc = $doc])*
        fn $name($argument: $type) $body
        mod $name {
            #[test]
            fn sqlite() {
                super::$name($crate::support::Backend::Sqlite.into());
            }
            #[test]
            fn mariadb() {
                super::$name($crate::support::Backend::MariaDb.into());
            }
        }
    )+};
}
pub(crate) use on_every_database;
