//! Notices work in batches that comes to no end, since the database gives the same rows however often they are changed.

use super::error::StoreError;

/// How often a batch may begin as the one before did: others may mark a job again while it is looked at.
const MOST: u32 = 1000;

/// The batches of one piece of work.
#[derive(Debug)]
pub(super) struct Rounds {
    what: &'static str,
    first: Option<i64>,
    same: u32,
}

impl Rounds {
    pub(super) const fn of(what: &'static str) -> Self {
        Self { what, first: None, same: 0 }
    }

    /// Takes in with which row a batch has begun, if it had any.
    pub(super) fn turn(&mut self, first: Option<i64>) -> Result<(), StoreError> {
        self.same = if first.is_some() && first == self.first { self.same + 1 } else { 0 };
        self.first = first;
        if self.same < MOST {
            return Ok(());
        }
        Err(StoreError::Other(format!(
            "{}: the database gives row {} again and again, however often it is changed; look for a trigger that undoes the \
             change, or for a proxy that answers what reads from another server",
            self.what,
            first.unwrap_or_default()
        )))
    }
}
