//! How many jobs of a queue or of a name run at once, over all hosts.
//!
//! Each running job of a limited queue or name holds a numbered slot: a value such as `queue:orders#0` in a column that
//! is unique. It is on the job's own row, so it is free again when the job ends or is rescued, and no crash can leak
//! it. A number that is taken is a duplicate key, whatever was read before.

use std::collections::HashMap;

use diesel::QueryableByName;

use super::claim::ClaimRow;
use super::error::StoreError;
use super::handle::Store;
use super::sql::AnyText as Text;
use super::sql::Sql;

/// The limits that hold for a claim.
#[derive(Clone, Copy)]
pub struct Limits<'a> {
    /// Of the queue.
    pub queue: Option<u32>,
    /// Of each name.
    pub name: &'a dyn Fn(&str) -> Option<u32>,
}

impl std::fmt::Debug for Limits<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Limits").field("queue", &self.queue).finish_non_exhaustive()
    }
}

#[derive(QueryableByName)]
struct Taken {
    #[diesel(sql_type = Text)]
    slot: String,
}

/// The slots that are free in one transaction.
#[derive(Debug, Default)]
pub(super) struct FreeSlots {
    queue: Option<Vec<String>>,
    names: HashMap<String, Vec<String>>,
}

impl Limits<'_> {
    pub(super) fn hold_for(&self, name: &str) -> bool {
        self.queue.is_some() || (self.name)(name).is_some()
    }
}

impl Store {
    /// The slots of the queue that are free; `None` where it is not limited. Part of a unit.
    pub(super) fn free_slots(&mut self, queue: &str, limits: Limits<'_>) -> Result<FreeSlots, StoreError> {
        let queue = match limits.queue {
            Some(limit) => Some(self.free_of(["slot_key", "queue"], queue, limit)?),
            None => None,
        };
        Ok(FreeSlots { queue, names: HashMap::new() })
    }

    /// The slots of one limited queue or name that are free: as many as it may have less those in use, whatever their numbers,
    /// since the limit may have been larger when those were taken; and less what has none, since there was no limit then.
    fn free_of(
        &mut self,
        [column, of]: [&str; 2],
        value: &str,
        limit: u32,
    ) -> Result<Vec<String>, StoreError> {
        let prefix = format!("{}:{value}", if of == "queue" { "queue" } else { "job" });
        // `$` comes right after `#`.
        let query = format!(
            "SELECT {column} AS slot FROM duly_job WHERE {column} >= ? AND {column} < ? UNION ALL SELECT '' FROM duly_job \
             WHERE state = 'running' AND {of} = ? AND {column} IS NULL AND owner IS NOT NULL"
        );
        let sql = Sql::new(query).bind(format!("{prefix}#")).bind(format!("{prefix}$")).bind(value);
        let taken: Vec<Taken> = self.rows(&sql)?;
        let most = usize::try_from(limit).unwrap_or(usize::MAX).saturating_sub(taken.len());
        Ok((0..limit)
            .map(|number| format!("{prefix}#{number}"))
            .filter(|slot| !taken.iter().any(|row| row.slot == *slot))
            .take(most)
            .collect())
    }

    /// Takes the slots that a locked job needs; `false` where there is none for its name. Part of a unit.
    pub(super) fn take_slots(
        &mut self,
        row: &ClaimRow,
        limits: Limits<'_>,
        free: &mut FreeSlots,
    ) -> Result<bool, StoreError> {
        let name_slot = match (limits.name)(&row.name) {
            None => None,
            Some(limit) => {
                if !free.names.contains_key(&row.name) {
                    let slots = self.free_of(["name_slot_key", "name"], &row.name, limit)?;
                    free.names.insert(row.name.clone(), slots);
                }
                match free.names.get(&row.name).and_then(|slots| slots.first()) {
                    Some(slot) => Some(slot.clone()),
                    None => return Ok(false),
                }
            }
        };
        let queue_slot = match &free.queue {
            None => None,
            Some(slots) => match slots.first() {
                Some(slot) => Some(slot.clone()),
                None => return Ok(false),
            },
        };
        let update = "UPDATE duly_job SET slot_key = ?, name_slot_key = ? WHERE id = ? AND state = 'pending'";
        let sql = Sql::new(update).bind(queue_slot.clone()).bind(name_slot.clone()).bind(row.id);
        match self.execute(&sql) {
            Ok(_) => {
                // Both are this job's now.
                if let Some(slots) = &mut free.queue {
                    slots.retain(|slot| Some(slot) != queue_slot.as_ref());
                }
                if let Some(slots) = free.names.get_mut(&row.name) {
                    slots.retain(|slot| Some(slot) != name_slot.as_ref());
                }
                Ok(true)
            }
            // Another claim was quicker than what was read: nothing is free before the next look.
            Err(StoreError::Duplicate(_)) => Ok(false),
            Err(other) => Err(other),
        }
    }

    /// How many jobs may be claimed from the queue at most.
    pub(super) fn room(free: &FreeSlots, wanted: usize) -> usize {
        free.queue.as_ref().map_or(wanted, |slots| slots.len().min(wanted))
    }
}
