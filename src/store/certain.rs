//! Inserting exactly once although the answer to a `COMMIT` may be lost.
//!
//! The transaction knows the id of a row that it inserted. When the connection breaks afterwards, a new one looks for that row,
//! locking it: so it also waits for a transaction that the server has not ended yet. The row is there: all of it was
//! committed. It is not: all of it was rolled back, and may be tried again. An id alone would not do, since a server that
//! crashed, or another primary of a group, may give it to another row; so the row must also have its time of creation.

use std::time::{Duration, Instant};

use chrono::NaiveDateTime;

use super::error::StoreError;
use super::handle::Store;
use super::sql::{Id, Sql, utc};
use crate::db::pause;

/// How long a database that is away is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// A row of `duly_job` that a unit has inserted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Inserted {
    pub(super) id: i64,
    pub(super) created_at: NaiveDateTime,
}

impl Store {
    /// Runs `work`, which inserts jobs, as a unit: once, also where the connection breaks, for as long as that is waited for.
    ///
    /// After [`StoreError::Away`] nothing was inserted, unless its text says that this is not known.
    pub(super) fn insert_once<T: Clone>(
        &mut self,
        mut work: impl FnMut(&mut Self) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let (began, mut tries) = (Instant::now(), 0);
        // What a commit whose answer was lost may have made.
        let mut unsure: Option<(T, Inserted)> = None;
        loop {
            let ended = match &unsure {
                None => {
                    let mut made = None;
                    self.inserted = None;
                    let ended = self.unit(|tx| work(tx).inspect(|value| made = Some(value.clone())));
                    unsure = made.zip(self.inserted).filter(|_| matches!(ended, Err(StoreError::Away(_))));
                    ended
                }
                Some((value, inserted)) => match self.is_there(*inserted) {
                    Ok(true) => return Ok(value.clone()),
                    Ok(false) => {
                        unsure = None;
                        continue;
                    }
                    Err(err) => Err(err),
                },
            };
            match ended {
                Err(StoreError::Away(why)) if began.elapsed() < PATIENCE => {
                    log::info!("{why}; connecting again");
                    tries += 1;
                    std::thread::sleep(pause(tries));
                    if let Err(err) = self.reconnect() {
                        log::debug!("{err}");
                    }
                }
                Err(err) if unsure.is_some() => {
                    return Err(StoreError::Away(format!(
                        "{err}; whether it was put in is not known, so look before you try again"
                    )));
                }
                other => return other,
            }
        }
    }

    fn is_there(&mut self, inserted: Inserted) -> Result<bool, StoreError> {
        let query = format!("SELECT id FROM duly_job WHERE id = ? AND created_at = ?{}", self.for_update());
        let sql = Sql::new(query).bind(inserted.id).bind(utc(Some(inserted.created_at)));
        Ok(!self.unit(|tx| tx.rows::<Id>(&sql))?.is_empty())
    }
}
