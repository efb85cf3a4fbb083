//! Answers as JSON: the fields are documented in the README and stable; what is unknown is `null`.

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use super::plain::rfc3339;
use crate::job::parse_params;
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
    let params = job.params.as_deref().and_then(|params| parse_params(params).ok());
    json!({
        "id": job.id,
        "name": job.name,
        "state": job.state.as_str(),
        "queue": job.queue,
        "priority": job.priority,
        "params": params,
        "target_type": job.target_type,
        "target_id": job.target_id,
        "attempts": job.attempts,
        "max_attempts": job.max_attempts,
        "run_at": time(job.run_at),
        "created_at": time(job.created_at),
        "started_at": time(job.started_at),
        "finished_at": time(job.finished_at),
        "duration_ms": job.duration_ms,
        "outcome": job.outcome,
        "exit_code": job.exit_code,
        "signal": job.signal,
        "reason": job.reason,
        "root_id": job.root_id,
        "retry_of": job.retry_of,
        "scheduled_for": time(job.scheduled_for),
        "progress": job.progress,
        "progress_text": job.progress_text,
        "host": job.host,
    })
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
