//! Counters over ended jobs that only grow, though clean-up deletes the jobs, and that cost nothing where jobs end.
//!
//! `duly_metric` has the totals over what ended up to its mark; what ended after the mark is counted when somebody asks. Who
//! asks moves the mark, and so does clean-up before it deletes. The mark stays [`LAG`] behind: an end is dated by the
//! statement that writes it, and seen only when its transaction is committed. Whatever reads or moves totals locks the row
//! of the mark, so nothing is counted twice or left out.

use std::collections::BTreeMap;
use std::time::Duration;

use super::sql::AnyTime as Timestamp;
use chrono::{DateTime, TimeDelta, Utc};
use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Nullable};

use super::error::StoreError;
use super::handle::Store;
use super::rounds::Rounds;
use super::sql::AnyText as Text;
use super::sql::{Sql, StoredTime, Value, marks};
use crate::job::State;

/// How far the mark stays behind. A transaction that took longer between the statement that dates an end and its commit
/// would not be counted.
const LAG: TimeDelta = TimeDelta::minutes(10);

/// How much of the past is added to the totals in one transaction.
const STEP: TimeDelta = TimeDelta::hours(1);

/// The upper bounds of the histogram of durations, in milliseconds; what took longer is in one more.
pub const BOUNDS_MS: [i64; 11] =
    [100, 500, 1000, 5000, 10_000, 30_000, 60_000, 300_000, 600_000, 1_800_000, 3_600_000];

/// What was counted of a name: so often, and last at that time.
pub(crate) type Counted = (u64, Option<DateTime<Utc>>);

/// Everything that was counted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counters {
    /// Jobs that ended, by name and state.
    pub ended: BTreeMap<(String, String), Counted>,
    /// Attempts of such jobs, by name and outcome.
    pub attempts: BTreeMap<(String, String), Counted>,
    /// How long attempts ran: by name, how many were within each bound of [`BOUNDS_MS`] and not within the one before, and
    /// how many took longer.
    pub durations: BTreeMap<String, [u64; BOUNDS_MS.len() + 1]>,
    /// All these durations together, in milliseconds.
    pub durations_ms: BTreeMap<String, u64>,
}

#[derive(QueryableByName)]
struct Entry {
    #[diesel(sql_type = Text)]
    metric: String,
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = Text)]
    label: String,
    #[diesel(sql_type = BigInt)]
    total: i64,
    #[diesel(sql_type = Nullable<Timestamp>, deserialize_as = StoredTime)]
    at: Option<DateTime<Utc>>,
}

#[derive(QueryableByName)]
struct AttemptRow {
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = Text)]
    outcome: String,
    #[diesel(sql_type = BigInt)]
    slot: i64,
    #[diesel(sql_type = BigInt)]
    total: i64,
    #[diesel(sql_type = BigInt)]
    took_ms: i64,
}

#[derive(QueryableByName)]
struct At {
    #[diesel(sql_type = Nullable<Timestamp>, deserialize_as = StoredTime)]
    at: Option<DateTime<Utc>>,
}

/// Which ended jobs are counted.
struct Span<'a> {
    after: DateTime<Utc>,
    until: Option<DateTime<Utc>>,
    ids: Option<&'a [i64]>,
}

impl Span<'_> {
    /// A condition on `duly_job j`, and its values.
    fn condition(&self) -> (String, Vec<Value>) {
        let mut text = String::from("j.finished_at > ?");
        let mut values = vec![self.after.into()];
        if let Some(until) = self.until {
            text.push_str(" AND j.finished_at <= ?");
            values.push(until.into());
        }
        if let Some(ids) = self.ids {
            text.push_str(&format!(" AND j.id IN ({})", marks(ids.len())));
            values.extend(ids.iter().map(|id| Value::from(*id)));
        }
        (text, values)
    }
}

impl Store {
    /// Everything that was counted up to now. Moves the mark where that is worth it. Locks the mark.
    pub fn counters(&mut self) -> Result<Counters, StoreError> {
        self.add_up()?;
        self.unit(|tx| {
            let mark = tx.lock_mark()?;
            let query = "SELECT metric, name, label, total, at FROM duly_metric \
                         WHERE metric <> 'mark' AND metric <> 'aged'";
            let mut entries: Vec<Entry> = tx.rows(&Sql::new(query))?;
            entries.extend(tx.count(&Span { after: mark, until: None, ids: None })?);
            Ok(Counters::of(entries))
        })
    }

    /// Adds what ended up to [`LAG`] ago to the totals, where that is as long again since it was done. Locks the mark.
    ///
    /// # Errors
    ///
    /// When the database fails; what was added stays added.
    pub(super) fn add_up(&mut self) -> Result<(), StoreError> {
        let mut until = self.time()? - LAG;
        // A first look without a lock: mostly there is nothing to do.
        if self.mark("")? + LAG > until {
            return Ok(());
        }
        // The times in the database have no more than microseconds.
        until -= TimeDelta::nanoseconds(i64::from(until.timestamp_subsec_nanos() % 1000));
        let mut rounds = Rounds::of("adding jobs up");
        while let Some(mark) = self.unit(|tx| tx.add_step(until))? {
            rounds.turn(Some(mark.timestamp_micros()))?;
        }
        Ok(())
    }

    /// Adds the first hour after the mark in which jobs ended; returns where the mark was, if there may be more before `until`.
    fn add_step(&mut self, until: DateTime<Utc>) -> Result<Option<DateTime<Utc>>, StoreError> {
        let mark = self.lock_mark()?;
        if mark >= until {
            return Ok(None);
        }
        let mut first: Option<DateTime<Utc>> = None;
        for state in State::ENDED {
            let query = format!(
                "SELECT MIN(finished_at) AS at FROM duly_job WHERE state = '{state}' AND finished_at > ?"
            );
            let at = self.rows::<At>(&Sql::new(query).bind(mark))?.pop().and_then(|row| row.at);
            first = [first, at].into_iter().flatten().min();
        }
        let end = first.map_or(until, |first| until.min(first + STEP));
        let entries = self.count(&Span { after: mark, until: Some(end), ids: None })?;
        self.add(&entries)?;
        let update = "UPDATE duly_metric SET at = ? WHERE metric = 'mark' AND name = '' AND label = ''";
        self.execute(&Sql::new(update).bind(end))?;
        Ok((end < until).then_some(mark))
    }

    /// Adds jobs that are about to be deleted, where the mark has not come that far. Part of the unit that deletes them.
    pub(super) fn add_deleted(&mut self, ids: &[i64]) -> Result<(), StoreError> {
        let mark = self.lock_mark()?;
        let entries = self.count(&Span { after: mark, until: None, ids: Some(ids) })?;
        self.add(&entries)
    }

    /// Whether jobs that ended longer ago than this may be after the mark.
    pub(super) fn is_after_mark(age: Duration) -> bool {
        TimeDelta::from_std(age).is_ok_and(|age| age < LAG * 3)
    }

    fn lock_mark(&mut self) -> Result<DateTime<Utc>, StoreError> {
        self.mark(self.for_update())
    }

    fn mark(&mut self, lock: &str) -> Result<DateTime<Utc>, StoreError> {
        let query =
            format!("SELECT at FROM duly_metric WHERE metric = 'mark' AND name = '' AND label = ''{lock}");
        let mark = self.rows::<At>(&Sql::new(query))?.pop().and_then(|row| row.at);
        mark.ok_or_else(|| {
            let missing = "the row `mark` of duly_metric is missing; put it back: INSERT INTO duly_metric (metric, name, \
                           label, at) VALUES ('mark', '', '', UTC_TIMESTAMP(6))";
            StoreError::Other(missing.to_owned())
        })
    }

    /// Counts ended jobs and their attempts, through the index on state and end and the primary key of the attempts.
    fn count(&mut self, span: &Span<'_>) -> Result<Vec<Entry>, StoreError> {
        let (condition, values) = span.condition();
        let statement = |text: String| match span.ids {
            None => Sql::new(text),
            Some(_) => Sql::once(text),
        };
        let whole = |expression: &str| {
            format!("CAST({expression} AS {})", if self.is_server() { "SIGNED" } else { "INTEGER" })
        };
        let bounds: Vec<String> = BOUNDS_MS
            .iter()
            .enumerate()
            .map(|(at, ms)| format!("WHEN a.duration_ms <= {ms} THEN {at}"))
            .collect();
        let slot = whole(&format!(
            "CASE WHEN a.duration_ms IS NULL THEN -1 {} ELSE {} END",
            bounds.join(" "),
            BOUNDS_MS.len()
        ));
        let took = whole("COALESCE(SUM(a.duration_ms), 0)");
        let mut entries = Vec::new();
        for state in State::ENDED {
            let ended = format!(
                "SELECT 'ended' AS metric, j.name, '{state}' AS label, COUNT(*) AS total, MAX(j.finished_at) AS at \
                 FROM duly_job j WHERE j.state = '{state}' AND {condition} GROUP BY j.name"
            );
            entries.extend(self.rows::<Entry>(&statement(ended).bind_all(values.clone()))?);
            let attempts = format!(
                "SELECT j.name, a.outcome, {slot} AS slot, COUNT(*) AS total, {took} AS took_ms FROM duly_job j \
                 JOIN duly_attempt a ON a.job_id = j.id WHERE j.state = '{state}' AND {condition} GROUP BY j.name, a.outcome, slot"
            );
            for row in self.rows::<AttemptRow>(&statement(attempts).bind_all(values.clone()))? {
                entries.extend(row.entries());
            }
        }
        Ok(entries)
    }

    /// Adds to the totals. Part of a unit that holds the mark.
    fn add(&mut self, entries: &[Entry]) -> Result<(), StoreError> {
        let conflict = if self.is_server() {
            "ON DUPLICATE KEY UPDATE total = total + VALUES(total), at = COALESCE(GREATEST(at, VALUES(at)), VALUES(at), at)"
        } else {
            "ON CONFLICT (metric, name, label) DO UPDATE SET total = duly_metric.total + excluded.total, \
             at = COALESCE(MAX(duly_metric.at, excluded.at), excluded.at, duly_metric.at)"
        };
        let insert = format!(
            "INSERT INTO duly_metric (metric, name, label, total, at) VALUES (?, ?, ?, ?, ?) {conflict}"
        );
        for entry in entries {
            let sql = Sql::new(insert.clone())
                .bind(&entry.metric)
                .bind(&entry.name)
                .bind(&entry.label)
                .bind(entry.total)
                .bind(entry.at);
            self.execute(&sql)?;
        }
        Ok(())
    }
}

impl AttemptRow {
    fn entries(self) -> Vec<Entry> {
        let entry = |metric: &str, label: String, total| Entry {
            metric: metric.to_owned(),
            name: self.name.clone(),
            label,
            total,
            at: None,
        };
        let mut entries = vec![entry("attempt", self.outcome.clone(), self.total)];
        // An orphaned attempt ran nobody knows how long.
        if self.slot >= 0 {
            entries.push(entry("bucket", self.slot.to_string(), self.total));
            entries.push(entry("took_ms", String::new(), self.took_ms));
        }
        entries
    }
}

impl Counters {
    fn of(entries: Vec<Entry>) -> Self {
        let mut counters = Self::default();
        let add = |to: &mut Counted, entry: &Entry| {
            to.0 += u64::try_from(entry.total).unwrap_or(0);
            to.1 = to.1.max(entry.at);
        };
        for entry in entries {
            let key = (entry.name.clone(), entry.label.clone());
            let total = u64::try_from(entry.total).unwrap_or(0);
            match entry.metric.as_str() {
                "ended" => add(counters.ended.entry(key).or_default(), &entry),
                "attempt" => add(counters.attempts.entry(key).or_default(), &entry),
                "bucket" => {
                    let slots = counters.durations.entry(entry.name).or_default();
                    if let Some(slot) = entry.label.parse().ok().and_then(|at: usize| slots.get_mut(at)) {
                        *slot += total;
                    }
                }
                _ => *counters.durations_ms.entry(entry.name).or_default() += total,
            }
        }
        counters
    }
}
