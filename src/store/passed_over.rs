//! Where a queue goes on after a long stretch of jobs that a claim may not take: paused ones, ones of names that are at their
//! limit or not declared here.
//!
//! No index tells jobs of one name in a queue apart, so such a stretch is read row by row; here it is remembered how far it
//! reaches, so that it is read once and not by each claim. What comes before it is looked at each time. What becomes
//! startable within it, such as a job that was given back, is found when the stretch is read again, and that
//! happens the later the longer it takes to read.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Nullable};

use super::error::StoreError;
use super::handle::Store;
use super::sql::AnyText as Text;
use super::sql::{Sql, Value, marks};

/// A stretch is read again after so many times as long as that takes, and each time where it takes no longer than this.
const REST: u32 = 20;
const SHORT: Duration = Duration::from_millis(5);

/// Stretches by their queues.
pub(super) type PassedOver = HashMap<String, Stretch>;

/// A stretch of jobs to pass over.
#[derive(Debug)]
pub(super) struct Stretch {
    names: Vec<String>,
    /// The priority, as it is stored, at which it begins.
    from: i64,
    /// The first job after it; `None` where there was none.
    to: Option<Place>,
    /// When it is to be read again.
    until: Instant,
}

/// Where a job stands in its queue.
#[derive(Debug, Clone, QueryableByName)]
struct Place {
    #[diesel(sql_type = BigInt)]
    priority: i64,
    /// As it is stored.
    #[diesel(sql_type = Nullable<Text>)]
    at: Option<String>,
    #[diesel(sql_type = BigInt)]
    id: i64,
}

/// A part of a queue: a condition with its values.
pub(super) type Part = (String, Vec<Value>);

impl Store {
    /// Finds out how far the jobs of the names `but` reach at the head of `queue`, unless that is known. Locks nothing.
    pub(super) fn pass_over(&mut self, queue: &str, but: &[String]) -> Result<(), StoreError> {
        let is_known = |known: &Stretch| known.holds_for(but) && known.until > Instant::now();
        if but.is_empty() || self.passed_over.get(queue).is_some_and(is_known) {
            return Ok(());
        }
        self.passed_over.remove(queue);
        let begun = Instant::now();
        let place = format!("priority_order + 0 AS priority, {} AS at, id", self.as_text("run_at"));
        let order = "ORDER BY priority_order, run_at, id";
        let head =
            format!("SELECT {place} FROM duly_job WHERE state = 'pending' AND queue = ? {order} LIMIT 1");
        let Some(head) = self.rows::<Place>(&Sql::new(head).bind(queue))?.pop() else { return Ok(()) };
        let next = format!(
            "SELECT {place} FROM duly_job WHERE state = 'pending' AND queue = ? AND name NOT IN ({}) {order} LIMIT 1",
            marks(but.len())
        );
        let to = self.rows::<Place>(&Sql::new(next).bind(queue).bind_all(but))?.pop();
        // Where nothing follows, what is put in last comes first of what is looked at.
        let to = match to {
            Some(to) => Some(to),
            None => {
                let last = format!(
                    "SELECT {place} FROM duly_job WHERE state = 'pending' AND queue = ? \
                     ORDER BY priority_order DESC, run_at DESC, id DESC LIMIT 1"
                );
                self.rows::<Place>(&Sql::new(last).bind(queue))?.pop()
            }
        };
        let read = begun.elapsed();
        if read > SHORT {
            let until = Instant::now() + read * REST;
            let stretch = Stretch { names: but.to_vec(), from: head.priority, to, until };
            self.passed_over.insert(queue.to_owned(), stretch);
        }
        Ok(())
    }

    /// The parts of `queue` in which jobs of other names than `but` may be, in its order.
    pub(super) fn parts_of(&self, queue: &str, but: &[String]) -> Vec<Part> {
        let whole = vec![(String::new(), Vec::new())];
        let Some(stretch) = self.passed_over.get(queue).filter(|known| known.holds_for(but)) else {
            return whole;
        };
        let Some(Place { priority, at: Some(at), id }) = &stretch.to else { return whole };
        vec![
            (" AND priority_order < ?".to_owned(), vec![stretch.from.into()]),
            (
                " AND priority_order = ? AND run_at = ? AND id >= ?".to_owned(),
                vec![(*priority).into(), at.into(), (*id).into()],
            ),
            (" AND priority_order = ? AND run_at > ?".to_owned(), vec![(*priority).into(), at.into()]),
            (" AND priority_order > ?".to_owned(), vec![(*priority).into()]),
        ]
    }
}

impl Stretch {
    /// Whether all that it passes over is still to be.
    fn holds_for(&self, but: &[String]) -> bool {
        self.names.iter().all(|name| but.contains(name))
    }
}
