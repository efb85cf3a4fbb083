//! Instants as people write them: RFC 3339, or `YYYY-MM-DD HH:MM[:SS]` in UTC.

use chrono::{DateTime, NaiveDateTime, Utc};

/// Reads an instant.
///
/// # Errors
///
/// A sentence that says what was found and what is expected.
pub fn parse(text: &str) -> Result<DateTime<Utc>, String> {
    let trimmed = text.trim();
    let naive = ["%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M"]
        .iter()
        .find_map(|format| NaiveDateTime::parse_from_str(trimmed, format).ok())
        .map(|at| at.and_utc());
    let at = naive.or_else(|| DateTime::parse_from_rfc3339(trimmed).ok().map(|at| at.with_timezone(&Utc)));
    match at {
        Some(at) if (1970..=9999).contains(&chrono::Datelike::year(&at)) => Ok(at),
        _ => Err(format!(
            "`{text}` is not a time; expected 2026-03-01 02:00 (UTC) or RFC 3339 such as 2026-03-01T02:00:00+01:00"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn both_ways_of_writing_an_instant_are_read() {
        for text in
            ["2026-03-01 02:00", "2026-03-01 02:00:00", "2026-03-01T02:00:00Z", "2026-03-01T03:00:00+01:00"]
        {
            assert_eq!(parse(text).unwrap().to_rfc3339(), "2026-03-01T02:00:00+00:00", "{text}");
        }
        for bad in
            ["", "tomorrow", "2026-13-01 00:00", "2026-03-01", "99999-01-01 00:00", "0001-01-01T00:00:00Z"]
        {
            assert!(parse(bad).unwrap_err().contains("RFC 3339"), "{bad}");
        }
    }
}
