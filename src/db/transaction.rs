//! Several changes that belong together, run again from their start while another transaction is in the way.

use std::ops::DerefMut;
use std::time::Duration;

use super::connection::Connection;
use super::error::Error;
use super::sql::Sql;

/// How often a transaction is tried before its conflict is given to the caller.
pub(crate) const TRIES: u32 = 20;

/// Runs `work` in a transaction, again while `is_conflict` says so of its error.
pub(crate) fn transaction<S, T, E>(
    on: &mut S,
    is_conflict: impl Fn(&E) -> bool,
    mut work: impl FnMut(&mut S) -> Result<T, E>,
) -> Result<T, E>
where
    S: DerefMut<Target = Connection>,
    E: From<Error> + std::fmt::Display,
{
    let mut tries = 1;
    loop {
        match in_transaction(on, &mut work) {
            Err(err) if tries < TRIES && is_conflict(&err) => {
                log::debug!("conflict, try {tries}: {err}");
                std::thread::sleep(pause(tries));
                tries += 1;
            }
            other => return other,
        }
    }
}

/// Runs `work` in a transaction, once: a conflict is given to the caller.
pub(crate) fn in_transaction<S, T, E>(on: &mut S, work: impl FnOnce(&mut S) -> Result<T, E>) -> Result<T, E>
where
    S: DerefMut<Target = Connection>,
    E: From<Error>,
{
    on.begin()?;
    let done = work(on);
    let ended = match done {
        Ok(value) => on.execute(&Sql::new("COMMIT")).map(|_| value).map_err(E::from),
        Err(error) => Err(error),
    };
    // SQLite keeps a transaction open when its COMMIT was refused as busy. A rollback that fails means that the connection
    // is gone, and the transaction with it.
    if ended.is_err()
        && let Err(rollback) = on.execute(&Sql::new("ROLLBACK"))
    {
        log::debug!("rollback: {rollback}");
    }
    on.in_transaction = false;
    ended
}

/// A wait of 5 to 500 ms that grows with the tries and differs between processes and threads.
pub(crate) fn pause(tries: u32) -> Duration {
    use std::hash::{BuildHasher, RandomState};
    let ceiling = (10_u64 << tries.min(6)).min(500);
    let random = RandomState::new().hash_one(tries);
    Duration::from_millis(5 + random % ceiling)
}
