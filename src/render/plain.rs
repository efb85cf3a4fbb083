//! Times as people and programs read them.

use chrono::{DateTime, SecondsFormat, Utc};

/// `2026-03-01 02:00:00`, or a dash.
#[must_use]
pub fn utc_time(at: Option<DateTime<Utc>>) -> String {
    at.map_or_else(|| "-".to_owned(), |at| at.format("%Y-%m-%d %H:%M:%S").to_string())
}

/// RFC 3339 with `Z` and microseconds.
pub(super) fn rfc3339(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Micros, true)
}
