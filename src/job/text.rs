//! Text of unknown origin, made such that a terminal or a page shows it and does not obey it.

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
            // Also what turns the direction of writing around, or hides.
            c if c.is_control()
                || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') =>
            {
                let (Ok(()) | Err(_)) = write!(safe, "\\u{{{:x}}}", u32::from(c));
            }
            c => safe.push(c),
        }
    }
    safe
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
