//! The hosts that tick: when they did last, what their jobs.yaml declares, what went wrong there.
//!
//! A host that ticks for some queues only, with `run --queue`, has a row of its own for these: its key is the host and,
//! after a slash, the queues. That a host ticked is written twice a minute; the rest, in a table of its own, only when it
//! changes or goes wrong, so that a tick with nothing to do pays for none of it.

use std::time::Duration;

use super::sql::AnyTime as Timestamp;
use chrono::{DateTime, Utc};
use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Nullable};

use super::error::StoreError;
use super::finish::clip;
use super::handle::Store;
use super::sql::AnyText as Text;
use super::sql::{Id, Sql, StoredTime};
use crate::job::{Declares, Host};

/// Hosts that are told of.
const MANY: u64 = 500;

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = Text)]
    host: String,
    #[diesel(sql_type = Nullable<Timestamp>, deserialize_as = StoredTime)]
    last_tick_at: Option<DateTime<Utc>>,
    #[diesel(sql_type = Text)]
    version: String,
    #[diesel(sql_type = Nullable<Text>)]
    schedules_digest: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    declares: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    trouble: Option<String>,
    #[diesel(sql_type = Nullable<Timestamp>, deserialize_as = StoredTime)]
    trouble_at: Option<DateTime<Utc>>,
    #[diesel(sql_type = Nullable<BigInt>)]
    tick_ms: Option<i64>,
    #[diesel(sql_type = Nullable<BigInt>)]
    renewals: Option<i64>,
}

impl Store {
    /// Records that a host ticks, and a digest of what it declares. `host` is the key of its row.
    pub fn record_tick(&mut self, host: &str, digest: &str) -> Result<(), StoreError> {
        let conflict = if self.is_server() {
            "ON DUPLICATE KEY UPDATE last_tick_at = VALUES(last_tick_at), \
             schedules_digest = VALUES(schedules_digest), version = VALUES(version)"
        } else {
            "ON CONFLICT (host) DO UPDATE SET last_tick_at = excluded.last_tick_at, \
             schedules_digest = excluded.schedules_digest, version = excluded.version"
        };
        let insert = format!(
            "INSERT INTO duly_runner (host, last_tick_at, schedules_digest, version) VALUES (?, {}, ?, ?) {conflict}",
            self.now()
        );
        let sql = Sql::new(insert).bind(host).bind(digest).bind(env!("CARGO_PKG_VERSION"));
        self.unit(|tx| tx.execute(&sql)).map(drop)
    }

    /// Records what a host declares, as JSON. `host` is the key of its row.
    pub fn record_declared(&mut self, host: &str, declares: &Declares) -> Result<(), StoreError> {
        let json = serde_json::to_string(declares).map_err(|err| StoreError::Other(err.to_string()))?;
        let conflict = self.on_host_conflict(&["declares"]);
        let insert = format!("INSERT INTO duly_host (host, declares) VALUES (?, ?) {conflict}");
        let sql = Sql::new(insert).bind(host).bind(json);
        self.unit(|tx| tx.execute(&sql)).map(drop)
    }

    /// Records why a tick of a host could not work. `host` is the key of its row.
    pub fn record_trouble(&mut self, host: &str, trouble: &str) -> Result<(), StoreError> {
        let conflict = self.on_host_conflict(&["trouble", "trouble_at"]);
        let insert = format!(
            "INSERT INTO duly_host (host, trouble, trouble_at) VALUES (?, ?, {}) {conflict}",
            self.now()
        );
        let sql = Sql::new(insert).bind(host).bind(clip(trouble));
        self.unit(|tx| tx.execute(&sql)).map(drop)
    }

    /// Records how long a tick took that executed something, and adds how often it renewed its leases.
    pub fn record_busy_tick(&mut self, host: &str, took: Duration, renewals: u64) -> Result<(), StoreError> {
        let renewals = i64::try_from(renewals).unwrap_or(i64::MAX);
        let conflict = if self.is_server() {
            "ON DUPLICATE KEY UPDATE tick_ms = VALUES(tick_ms), renewals = renewals + VALUES(renewals)"
        } else {
            "ON CONFLICT (host) DO UPDATE SET tick_ms = excluded.tick_ms, renewals = duly_host.renewals + excluded.renewals"
        };
        let insert = format!("INSERT INTO duly_host (host, tick_ms, renewals) VALUES (?, ?, ?) {conflict}");
        let took = i64::try_from(took.as_millis()).unwrap_or(i64::MAX);
        let sql = Sql::new(insert).bind(host).bind(took).bind(renewals);
        self.unit(|tx| tx.execute(&sql)).map(drop)
    }

    fn on_host_conflict(&self, columns: &[&str]) -> String {
        let mysql = self.is_server();
        let set = |column: &&str| {
            if mysql {
                format!("{column} = VALUES({column})")
            } else {
                format!("{column} = excluded.{column}")
            }
        };
        let all: Vec<String> = columns.iter().map(set).collect();
        let head = if mysql { "ON DUPLICATE KEY UPDATE" } else { "ON CONFLICT (host) DO UPDATE SET" };
        format!("{head} {}", all.join(", "))
    }

    /// The hosts that have ticked and were not forgotten, in the order of their keys; the [`MANY`] that ticked last where there
    /// are more: containers may have a new name each minute. Locks nothing.
    pub fn hosts(&mut self) -> Result<Vec<Host>, StoreError> {
        let query = format!(
            "SELECT r.host, r.last_tick_at, r.version, r.schedules_digest, declares, trouble, trouble_at, tick_ms, renewals \
             FROM (SELECT host, last_tick_at, version, schedules_digest FROM duly_runner ORDER BY last_tick_at DESC LIMIT {MANY}) \
             AS r LEFT JOIN duly_host ON duly_host.host = r.host ORDER BY r.host"
        );
        Ok(self.rows::<Row>(&Sql::new(query))?.into_iter().map(Host::from).collect())
    }

    /// How many hosts there are besides those that [`Store::hosts`] names.
    pub fn more_hosts(&mut self) -> Result<u64, StoreError> {
        let count = self.rows::<Id>(&Sql::new("SELECT COUNT(*) AS id FROM duly_runner"))?;
        let count = count.first().and_then(|row| u64::try_from(row.id).ok()).unwrap_or(0);
        Ok(count.saturating_sub(MANY))
    }
}

impl From<Row> for Host {
    fn from(row: Row) -> Self {
        let (name, queues) = match row.host.split_once('/') {
            Some((name, queues)) => (name.to_owned(), Some(queues.split(',').map(str::to_owned).collect())),
            None => (row.host, None),
        };
        Self {
            name,
            queues,
            last_tick_at: row.last_tick_at,
            version: row.version,
            schedules: row
                .schedules_digest
                .map(|digest| digest.split('-').next().unwrap_or_default().to_owned()),
            declares: row.declares.and_then(|json| serde_json::from_str(&json).ok()),
            trouble: row.trouble.zip(row.trouble_at),
            tick: row.tick_ms.and_then(|ms| u64::try_from(ms).ok()).map(Duration::from_millis),
            renewals: row.renewals.and_then(|count| u64::try_from(count).ok()).unwrap_or(0),
        }
    }
}
