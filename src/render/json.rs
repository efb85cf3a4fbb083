//! Answers as JSON: the fields are documented in the README and stable; what is unknown is `null`.

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use super::plain::rfc3339;
use crate::job::is_obeyed;
use crate::store::{AttemptRow, Edge, Job};

/// A value as text that ends with a line end, and that no terminal obeys: what JSON lets stand as it is, though a
/// terminal may act on it, is written as `\u` and four digits. That is the same value to whoever reads it.
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
        format!("{before}{}", text(value).trim_end().replace('\n', "\n  "))
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

    /// Seen failing with `text` giving what `serde_json` writes.
    #[test]
    fn what_a_terminal_would_obey_is_escaped_and_stays_the_same_value() {
        let value = json!({ "a": "\u{1b}[2J \u{9b}31m \u{7f} \u{202e} \u{e0041} \n ü ✓ 😀" });
        let text = text(&value);
        assert!(
            !text.contains(['\u{1b}', '\u{9b}', '\u{7f}', '\u{202e}']) && text.contains("ü ✓ 😀"),
            "{text}"
        );
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value);
    }
}
