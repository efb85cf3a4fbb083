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

/// An array that is written element by element, as [`text`] would write it whole.
#[derive(Debug, Default)]
pub struct Array {
    has_elements: bool,
}

impl Array {
    /// The next element, with what stands before it.
    #[must_use]
    pub fn element(&mut self, value: &Value) -> String {
        let before = if self.has_elements { ",\n  " } else { "[\n  " };
        self.has_elements = true;
        format!("{before}{}", format!("{value:#}").replace('\n', "\n  "))
    }

    /// What stands after the last element.
    #[must_use]
    pub const fn end(&self) -> &'static str {
        if self.has_elements { "\n]\n" } else { "[]\n" }
    }
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
    use super::*;

    #[test]
    fn an_array_in_parts_is_as_one_that_is_written_whole() {
        for elements in [vec![], vec![json!({})], vec![json!({"a": ["x\ny", 1]}), json!([[]]), json!("\n")]] {
            let mut array = Array::default();
            let parts: String = elements.iter().map(|value| array.element(value)).collect();
            assert_eq!(parts + array.end(), text(&Value::from(elements)));
        }
    }
}
