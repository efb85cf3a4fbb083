//! Answers as JSON: the fields are documented in the README and stable; what is unknown is `null`.

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use super::plain::rfc3339;
use crate::store::{AttemptRow, Edge, Job};

/// A value as text that ends with a line end.
#[must_use]
pub fn text(value: &Value) -> String {
    format!("{value:#}\n")
}

/// A time as RFC 3339 with `Z`.
#[must_use]
pub fn time(at: Option<DateTime<Utc>>) -> Value {
    at.map_or(Value::Null, |at| rfc3339(at).into())
}

/// One job.
#[must_use]
pub fn job(job: &Job) -> Value {
    job.to_json()
}

/// One attempt.
#[must_use]
pub fn attempt(attempt: &AttemptRow) -> Value {
    json!({
        "attempt": attempt.attempt,
        "outcome": attempt.outcome,
        "exit_code": attempt.exit_code,
        "signal": attempt.signal,
        "reason": attempt.reason,
        "host": attempt.host,
        "started_at": time(attempt.started_at),
        "finished_at": time(attempt.finished_at),
        "duration_ms": attempt.duration_ms,
    })
}

/// Jobs at the other ends of edges.
#[must_use]
pub fn edges(edges: &[Edge]) -> Value {
    edges.iter().map(|edge| json!({ "id": edge.id, "on": edge.on_end })).collect()
}
