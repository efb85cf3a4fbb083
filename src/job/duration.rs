//! Lengths of time as people write them: `90s`, `1 min`, `7 days`, `1 day 2 hours`.

use std::time::Duration;

/// The longest length that is accepted, a hundred years: beyond it dates overflow.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 86_400);

/// Reads a length of time.
///
/// # Errors
///
/// A sentence that says what was found and what is expected.
pub fn parse(text: &str) -> Result<Duration, String> {
    if let Some(count) = count_of_capital_m(text) {
        let is_all = text.split_whitespace().collect::<String>() == format!("{count}M");
        let found = if is_all { format!("`{}`", text.trim()) } else { format!("`{count}M` in `{text}`") };
        return Err(format!(
            "{found} may mean minutes or months; write `{count}m` for minutes, `{count} months` for months"
        ));
    }
    let length = humantime::parse_duration(text.trim()).map_err(|_not_a_length| {
        let small = text.trim().to_lowercase();
        match humantime::parse_duration(&small) {
            Ok(_) if small != text.trim() => format!("`{text}` is not a length of time; write `{small}`"),
            _ => format!(
                "`{text}` is not a length of time; expected one such as 90s, 1 min, 7 days or 1 day 2 hours"
            ),
        }
    })?;
    if length > LONGEST {
        return Err(format!("`{text}` is longer than a hundred years"));
    }
    Ok(length)
}

/// The number before a unit that is a capital M alone: the library reads it as months, and people also write it for minutes.
fn count_of_capital_m(text: &str) -> Option<&str> {
    let at = text.match_indices('M').map(|(at, _)| at).find(|at| {
        let is_letter = |c: char| c.is_alphabetic();
        !text[..*at].ends_with(is_letter) && !text[at + 1..].starts_with(is_letter)
    })?;
    let before = text[..at].trim_end();
    let start = before
        .rfind(|c: char| !c.is_ascii_digit() && c != '.')
        .map_or(0, |last| last + before[last..].chars().next().map_or(0, char::len_utf8));
    Some(&before[start..]).filter(|count| !count.is_empty())
}

/// Shows a length for people, with at most two units: `1h 5m`, `3.2s`, `45ms`.
#[must_use]
pub fn show(length: Duration) -> String {
    let seconds = length.as_secs();
    match seconds {
        0 => format!("{}ms", length.as_millis()),
        1..60 => format!("{:.1}s", length.as_secs_f64()),
        60..3600 => format!("{}m {}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h {}m", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{}d {}h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

/// Shows a length that a person has set, whole, as [`parse`] reads it: `10s`, `1m 30s`.
#[must_use]
pub fn exact(length: Duration) -> String {
    humantime::format_duration(length).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_seeds_ways_of_writing_a_length_are_read() {
        for (text, seconds) in [
            ("90s", 90),
            ("1 min", 60),
            ("7 days", 604_800),
            ("1 day 2 hours", 93_600),
            ("1h", 3600),
            (" 30m ", 1800),
            ("2 weeks", 1_209_600),
            ("0s", 0),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
    }

    #[test]
    fn what_is_no_length_is_refused_with_an_example() {
        for bad in ["", "7", "days", "-1s", "1 fortnight", "1 day -2 hours", "9999999999999 years", "1e9d"] {
            let message = parse(bad).unwrap_err();
            assert!(message.contains(bad), "{message}");
        }
        assert!(parse("7").unwrap_err().contains("7 days"));
        assert!(parse("200 years").unwrap_err().contains("hundred"));
    }

    /// Seen failing with a capital M read as months.
    #[test]
    fn a_capital_m_is_refused_as_it_may_be_minutes_or_months() {
        for (bad, count) in
            [("5M", "5"), ("1h 5M", "5"), (" 90 M", "90"), ("1d5M", "5"), ("5M 10s", "5"), ("1.5M", "1.5")]
        {
            let message = parse(bad).unwrap_err();
            let meant = format!("write `{count}m` for minutes, `{count} months` for months");
            assert!(message.contains(&meant), "{bad}: {message}");
            assert_eq!(message.matches(bad.trim()).count(), 1, "{message}");
        }
        assert_eq!(parse("5 months"), Ok(Duration::from_secs(5 * 2_630_016)));
        assert!(parse("M").unwrap_err().contains("7 days"));
    }

    #[test]
    fn units_in_capitals_are_refused_with_the_small_ones() {
        for (bad, meant) in [
            ("5H", "write `5h`"),
            ("10 MIN", "write `10 min`"),
            ("7 Days", "write `7 days`"),
            ("30S", "write `30s`"),
        ] {
            let message = parse(bad).unwrap_err();
            assert!(message.contains(meant), "{bad}: {message}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused_without_a_panic(text in ".{0,40}") {
            if let Ok(length) = parse(&text) {
                prop_assert!(length <= LONGEST);
            }
        }

        #[test]
        fn a_sum_of_units_is_their_sum(days in 0u64..400, hours in 0u64..100, minutes in 0u64..100) {
            let text = format!("{days} days {hours} hours {minutes} min");
            prop_assert_eq!(
                parse(&text),
                Ok(Duration::from_secs(days * 86_400 + hours * 3600 + minutes * 60))
            );
        }
    }
}
