//! Pausing everything, a queue or a job: nothing new is claimed, and no occurrence is made, while it lasts.
//!
//! The row `gate` orders pauses and claims: a claim locks it shared until it is committed, a pause locks it alone. So
//! when a pause has been made, every claim that did not see it is committed, and every later one sees it.

use std::time::Duration;

use super::age::AGEING;
use super::sql::AnyTime as Timestamp;
use chrono::{DateTime, Utc};
use diesel::QueryableByName;
use diesel::sql_types::Nullable;

use super::enqueue::micros;
use super::error::StoreError;
use super::finish::clip;
use super::handle::Store;
use super::sql::AnyText as Text;
use super::sql::{Sql, StoredTime};
use crate::job::why::{Hold, is_in_scope};

/// One that was ended has both times the same, so that it stays ended where the clock is set back.
const LASTS: &str = "until_at <> paused_at";

/// What may be paused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// Everything.
    All,
    /// The jobs of this queue.
    Queue(String),
    /// The jobs of this name.
    Job(String),
}

impl Scope {
    fn key(&self) -> String {
        match self {
            Self::All => "all".to_owned(),
            Self::Queue(name) => format!("queue:{name}"),
            Self::Job(name) => format!("job:{name}"),
        }
    }
}

/// A pause that lasts.
#[derive(Debug, Clone, PartialEq, Eq, QueryableByName)]
pub struct Pause {
    /// `all`, `queue:NAME` or `job:NAME`.
    #[diesel(sql_type = Text)]
    pub scope: String,
    /// Since when.
    #[diesel(sql_type = Nullable<Timestamp>, deserialize_as = StoredTime)]
    pub paused_at: Option<DateTime<Utc>>,
    /// Until when; until it is resumed, if `None`.
    #[diesel(sql_type = Nullable<Timestamp>, deserialize_as = StoredTime)]
    pub until_at: Option<DateTime<Utc>>,
    /// By whom.
    #[diesel(sql_type = Nullable<Text>)]
    pub paused_by: Option<String>,
    /// Why.
    #[diesel(sql_type = Nullable<Text>)]
    pub reason: Option<String>,
}

impl From<Pause> for Hold {
    fn from(pause: Pause) -> Self {
        Self {
            scope: pause.scope,
            since: pause.paused_at,
            until: pause.until_at,
            by: pause.paused_by,
            reason: pause.reason,
        }
    }
}

impl Pause {
    /// Whether it holds jobs of this name in this queue back.
    #[must_use]
    pub fn holds(&self, name: &str, queue: &str) -> bool {
        is_in_scope(&self.scope, name, queue)
    }
}

impl Store {
    /// Pauses `scope`; when this returns, no claim that has not seen it is under way. Locks the gate alone.
    pub fn pause(
        &mut self,
        scope: &Scope,
        until: Option<DateTime<Utc>>,
        by: &str,
        reason: Option<&str>,
    ) -> Result<(), StoreError> {
        self.unit(|tx| {
            let shut = format!("UPDATE duly_pause SET paused_at = {} WHERE scope = 'gate'", tx.now());
            tx.execute(&Sql::new(shut))?;
            let replace = format!(
                "REPLACE INTO duly_pause (scope, paused_at, until_at, paused_by, reason) VALUES (?, {}, ?, ?, ?)",
                tx.now()
            );
            let sql = Sql::new(replace).bind(scope.key()).bind(until).bind(by).bind(reason.map(clip));
            tx.execute(&sql).map(drop)
        })
    }

    /// Ends the pause of `scope`; returns whether there was one. Its row stays for a while: what was paused lately has not
    /// been waiting for a slot.
    pub fn resume(&mut self, scope: &Scope) -> Result<bool, StoreError> {
        let now = self.now();
        let end = format!(
            "UPDATE duly_pause SET paused_at = {now}, until_at = {now} WHERE scope = ? AND (until_at IS NULL OR until_at > {now} AND {LASTS})"
        );
        let end = Sql::new(end).bind(scope.key());
        Ok(self.unit(|tx| tx.execute(&end))? > 0)
    }

    /// The pauses that last, the gate locked shared until the end of the transaction. Part of a unit.
    pub(super) fn pauses_at_the_gate(&mut self) -> Result<Vec<Pause>, StoreError> {
        if self.is_server() {
            // Read after the gate is held: what was read while waiting for it would be too old.
            let gate = "SELECT scope, paused_at, until_at, paused_by, reason FROM duly_pause \
                        WHERE scope = 'gate' LOCK IN SHARE MODE";
            self.rows::<Pause>(&Sql::new(gate))?;
        }
        self.pauses()
    }

    /// The pauses that last.
    pub fn pauses(&mut self) -> Result<Vec<Pause>, StoreError> {
        self.pauses_that_count(Duration::ZERO)
    }

    /// The pauses that last, or did up to so long ago.
    pub(super) fn pauses_that_count(&mut self, ago: Duration) -> Result<Vec<Pause>, StoreError> {
        let query = format!(
            "SELECT scope, paused_at, until_at, paused_by, reason FROM duly_pause \
             WHERE until_at IS NULL OR until_at > {}",
            if ago.is_zero() { format!("{} AND {LASTS}", self.now()) } else { self.now_plus().to_owned() }
        );
        let sql = Sql::new(query);
        let sql = if ago.is_zero() { sql } else { sql.bind(-micros(ago)) };
        let mut pauses: Vec<Pause> = self.rows(&sql)?;
        pauses.retain(|pause| pause.scope != "gate");
        Ok(pauses)
    }

    /// Forgets pauses that are over, and do not count any more.
    pub(super) fn forget_pauses(&mut self) -> Result<(), StoreError> {
        let delete = format!("DELETE FROM duly_pause WHERE until_at <= {}", self.now_plus());
        let delete = Sql::new(delete).bind(-micros(AGEING));
        self.unit(|tx| tx.execute(&delete)).map(drop)
    }
}
