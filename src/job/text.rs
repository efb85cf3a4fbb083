//! Text of unknown origin: bytes as text, whatever they are, and text that a terminal or a page shows and does not obey.

/// Bytes as UTF-8; what is not valid, and NUL, is written as `\xHH`.
#[must_use]
pub fn escape(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        if chunk.valid().contains('\0') {
            text.push_str(&chunk.valid().replace('\0', "\\x00"));
        } else {
            text.push_str(chunk.valid());
        }
        for byte in chunk.invalid() {
            let (Ok(()) | Err(_)) = write!(text, "\\x{byte:02X}");
        }
    }
    text
}

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
#[must_use]
pub fn is_obeyed(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
        || matches!(c, '\u{61c}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::{escape, harmless};

    #[test]
    fn bytes_that_are_no_text_are_escaped() {
        assert_eq!(escape(b"a\xff\x00b\xc3"), "a\\xFF\\x00b\\xC3");
    }

    #[test]
    fn terminal_sequences_are_shown_and_not_obeyed() {
        assert_eq!(harmless("a\x1b[2Jb\r\x07\n"), "a␛[2Jb␍\\u{7}\n");
        assert_eq!(harmless("ab\u{202e}cd\u{9b}31m"), "ab\\u{202e}cd\\u{9b}31m");
        assert_eq!(harmless("grüße\t✓"), "grüße\t✓");
    }
}
