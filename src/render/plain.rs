//! Text that a terminal shows and does not obey, and times as people read them.

use chrono::{DateTime, SecondsFormat, Utc};

/// Makes control characters visible: all but line ends and tabs, so that no output can move the cursor, change the
/// title or colour what follows.
#[must_use]
pub fn harmless(text: &str) -> String {
    use std::fmt::Write as _;
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\t' => safe.push(c),
            '\r' => safe.push('␍'),
            '\u{1b}' => safe.push('␛'),
            c if is_obeyed(c) => {
                let (Ok(()) | Err(_)) = write!(safe, "\\u{{{:x}}}", u32::from(c));
            }
            c => safe.push(c),
        }
    }
    safe
}

/// Whether a terminal may act on it: control characters, and what turns the direction of writing around, or hides.
pub(super) fn is_obeyed(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
        || matches!(c, '\u{61c}' | '\u{e0000}'..='\u{e007f}')
}

/// `2026-03-01 02:00:00`, or a dash.
#[must_use]
pub fn utc_time(at: Option<DateTime<Utc>>) -> String {
    at.map_or_else(|| "-".to_owned(), |at| at.format("%Y-%m-%d %H:%M:%S").to_string())
}

/// RFC 3339 with `Z` and microseconds.
pub(super) fn rfc3339(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Micros, true)
}

#[cfg(test)]
mod tests {
    use super::harmless;

    #[test]
    fn terminal_sequences_are_shown_and_not_obeyed() {
        assert_eq!(harmless("a\x1b[2Jb\r\x07\n"), "a␛[2Jb␍\\u{7}\n");
        assert_eq!(harmless("ab\u{202e}cd\u{9b}31m"), "ab\\u{202e}cd\\u{9b}31m");
        assert_eq!(harmless("grüße\t✓"), "grüße\t✓");
    }
}
