//! Answers as JSON: the fields are documented in the README and stable; what is unknown is `null`.

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use super::plain::{is_obeyed, rfc3339};
use crate::store::{AttemptRow, Edge, Job};

/// A value as text that ends with a line end, and that no terminal obeys: what JSON lets stand as it is, though a
/// terminal may act on it, is written as `\uXXXX`. That is the same value to whoever reads it.
#[must_use]
pub fn text(value: &Value) -> String {
    use std::fmt::Write as _;
    let mut safe = String::new();
    for c in format!("{value:#}\n").chars() {
        if c == '\n' || !is_obeyed(c) {
            safe.push(c);
        } else {
            for unit in c.encode_utf16(&mut [0; 2]) {
                let (Ok(()) | Err(_)) = write!(safe, "\\u{unit:04x}");
            }
        }
    }
    safe
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

#[cfg(test)]
mod tests {
    use super::text;

    /// Seen failing with `text` giving what `serde_json` writes.
    #[test]
    fn what_a_terminal_would_obey_is_escaped_and_stays_the_same_value() {
        let value = serde_json::json!({ "a": "\u{1b}[2J \u{9b}31m \u{7f} \u{202e} \u{e0041} \n ü ✓ 😀" });
        let text = text(&value);
        assert!(
            !text.contains(['\u{1b}', '\u{9b}', '\u{7f}', '\u{202e}']) && text.contains("ü ✓ 😀"),
            "{text}"
        );
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), value);
    }
}
