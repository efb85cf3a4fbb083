//! Finding and locking the jobs that a claim may take, where many claim at once.
//!
//! A job that was claimed leaves its place in the index behind until the server purges it, which a busy server does late.
//! A read that locks pays for each of these places, and for each row that another claim has locked; with 32 claimers
//! that was most of the server's work. So the first read neither locks nor looks for older versions of a row, which
//! makes stepping over such places cheap, and the rows it names are then locked by their ids. Those that another claim
//! was quicker to lock are left out, and where that happens often the claimers spread over a longer part of the queue.

use std::hash::{BuildHasher, RandomState};

use super::claim::{CLAIM_COLUMNS, ClaimRequest, ClaimRow};
use super::error::StoreError;
use super::handle::Store;
use super::limits::Limits;
use super::sql::{Id, Sql, id_marks, marks};

/// How often the part of the queue that claimers spread over may double.
const WIDEST: u32 = 6;

/// How many others seem to claim from the same queue, as far as a claimer can tell from what it was too late for.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Crowd {
    doublings: u32,
    good: u32,
}

impl Crowd {
    /// Jobs to choose from for so many.
    const fn window(self, limit: usize) -> usize {
        limit << self.doublings
    }

    fn got(&mut self, all: bool) {
        if !all {
            (self.doublings, self.good) = ((self.doublings + 1).min(WIDEST), 0);
        } else if self.good < 3 {
            self.good += 1;
        } else {
            (self.doublings, self.good) = (self.doublings.saturating_sub(1), 0);
        }
    }
}

impl Store {
    /// The jobs that a claim should try to lock, in the order of the queue: its first, and where many claim a stretch
    /// further down. They may be locked or gone by then, or never have been committed.
    ///
    /// `None` where the head of the queue is to be locked row by row: in a limited queue, so that one with a single slot
    /// keeps its order, and in SQLite, which has one writer at a time.
    pub(super) fn stretch(
        &mut self,
        request: ClaimRequest<'_>,
        limits: Limits<'_>,
        but: &[String],
    ) -> Result<Option<Vec<i64>>, StoreError> {
        if limits.queue.is_some() || !self.is_server() {
            return Ok(None);
        }
        let size = self.crowd.window(request.limit);
        let mut rows: Vec<Id> = Vec::new();
        for (condition, values) in self.parts_of(request.queue, but) {
            let query = format!(
                "SELECT id FROM duly_job WHERE state = 'pending' AND queue = ?{condition}{} \
                 ORDER BY priority_order, run_at, id LIMIT ?",
                not_named(but)
            );
            let sql = Sql::new(query).bind(request.queue).bind_all(values).bind_all(but);
            let rest = i64::try_from(size - rows.len()).unwrap_or(i64::MAX);
            rows.extend(self.latest_rows::<Id>(&sql.bind(rest))?);
            if rows.len() >= size {
                break;
            }
        }
        let skipped = start(rows.len(), request.limit);
        Ok(Some(rows.into_iter().skip(skipped).take(request.limit).map(|row| row.id).collect()))
    }

    /// Locks those of the jobs that are pending and that nobody else has locked. Part of a unit.
    pub(super) fn lock_these(&mut self, ids: &[i64]) -> Result<Vec<ClaimRow>, StoreError> {
        let query = format!(
            "SELECT {CLAIM_COLUMNS} FROM duly_job FORCE INDEX (PRIMARY) WHERE id IN ({}) AND state = 'pending'{}",
            id_marks(ids.len()),
            self.skip_locked()
        );
        let mut rows: Vec<ClaimRow> = self.rows(&Sql::new(query).bind_ids(ids))?;
        self.crowd.got(rows.len() == ids.len());
        rows.sort_by_key(|row| ids.iter().position(|id| *id == row.id));
        Ok(rows)
    }

    /// Locks the head of the queue row by row. Of a limited queue it waits for jobs that another claim has locked, so
    /// that a queue with one slot keeps its order. Part of a unit.
    pub(super) fn lock_head(
        &mut self,
        queue: &str,
        limit: usize,
        limits: Limits<'_>,
        but: &[String],
    ) -> Result<Vec<ClaimRow>, StoreError> {
        let mut rows: Vec<ClaimRow> = Vec::new();
        for (condition, values) in self.parts_of(queue, but) {
            let query = format!(
                "SELECT {CLAIM_COLUMNS} FROM duly_job WHERE state = 'pending' AND queue = ?{condition}{} \
                 ORDER BY priority_order, run_at, id LIMIT ?{}",
                not_named(but),
                if limits.queue.is_some() { self.for_update() } else { self.skip_locked() }
            );
            let rest = i64::try_from(limit - rows.len()).unwrap_or(i64::MAX);
            let sql = Sql::new(query).bind(queue).bind_all(values).bind_all(but);
            rows.extend(self.rows::<ClaimRow>(&sql.bind(rest))?);
            if rows.len() >= limit {
                break;
            }
        }
        Ok(rows)
    }
}

fn not_named(but: &[String]) -> String {
    if but.is_empty() { String::new() } else { format!(" AND name NOT IN ({})", marks(but.len())) }
}

/// Where in a window of `found` jobs a stretch of `limit` begins: at its start, or at any multiple of `limit`.
fn start(found: usize, limit: usize) -> usize {
    let room = found.saturating_sub(limit);
    let places = 1 + room.div_ceil(limit.max(1));
    let random = RandomState::new().hash_one(found);
    (usize::try_from(random).unwrap_or(0) % places * limit).min(room)
}

#[cfg(test)]
mod tests {
    use super::{Crowd, WIDEST, start};

    #[test]
    fn a_stretch_lies_within_its_window() {
        for found in 0..40 {
            for limit in 1..12 {
                for _ in 0..8 {
                    let at = start(found, limit);
                    assert!(at == 0 || at + limit <= found, "{limit} from {at} of {found}");
                }
            }
        }
        let seen: std::collections::BTreeSet<usize> = (0..200).map(|_| start(32, 8)).collect();
        assert_eq!(seen, [0, 8, 16, 24].into(), "all of a window is used");
    }

    #[test]
    fn claimers_spread_where_they_are_late_and_come_back_where_they_are_not() {
        let mut crowd = Crowd::default();
        assert_eq!(crowd.window(8), 8, "alone: the head");
        for _ in 0..20 {
            crowd.got(false);
        }
        assert_eq!(crowd.window(8), 8 << WIDEST);
        for _ in 0..4 * WIDEST {
            crowd.got(true);
        }
        assert_eq!(crowd.window(8), 8);
    }
}
