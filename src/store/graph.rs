//! The jobs around one: what waits for what, and whose child is whose. Locks nothing.

use std::collections::{BTreeMap, BTreeSet};

use super::error::StoreError;
use super::handle::Store;
use super::query::Job;
use super::sql::{Id, Sql};

/// Jobs looked at, at most.
const MOST: usize = 60;

/// What is known of the jobs around one.
#[derive(Debug, Default)]
pub struct Around {
    /// These jobs.
    pub jobs: BTreeMap<i64, Job>,
    /// What waits for a job, and which end it waits for.
    pub before: BTreeMap<i64, Vec<(i64, String)>>,
    /// Those that wait for another.
    pub has_prerequisite: BTreeSet<i64>,
    /// Whether there are more.
    pub is_cut: bool,
}

impl Store {
    /// The jobs that hang together with job `id`.
    pub fn around(&mut self, id: i64) -> Result<Around, StoreError> {
        let mut around = Around::default();
        let mut open = vec![id];
        while let Some(id) = open.pop() {
            if around.jobs.contains_key(&id) {
                continue;
            }
            if around.jobs.len() >= MOST {
                around.is_cut = true;
                break;
            }
            let Some(job) = self.job(id)? else { continue };
            open.extend(job.root_id);
            around.jobs.insert(id, job);
            for edge in self.prerequisites(id)? {
                if edge.state.is_some() {
                    around.has_prerequisite.insert(id);
                    open.push(edge.id);
                }
            }
            let dependents = self.dependents(id)?;
            open.extend(dependents.iter().map(|edge| edge.id));
            around.before.insert(id, dependents.into_iter().map(|edge| (edge.id, edge.on_end)).collect());
            // One more than are looked at, so that a large root is seen to be cut.
            let children =
                format!("SELECT id FROM duly_job WHERE root_id = ? ORDER BY id LIMIT {}", MOST + 1);
            open.extend(self.rows::<Id>(&Sql::new(children).bind(id))?.into_iter().map(|row| row.id));
        }
        Ok(around)
    }
}
