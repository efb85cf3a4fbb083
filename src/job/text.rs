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

/// Leaves out the passwords of URLs, wherever somebody has put one, and what is too long for a line.
#[must_use]
pub fn discreet(text: &str) -> String {
    const LONGEST: usize = 4096;
    let (mut safe, mut rest) = (String::new(), text);
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        safe.push_str(before);
        let url = after
            .split(|c: char| c.is_whitespace() || matches!(c, '`' | '"' | '\''))
            .next()
            .unwrap_or_default();
        let (user, host) = url.rsplit_once('@').map_or(("", url), |(user, _)| (user, &url[user.len()..]));
        // The examples of messages have the word for one.
        let is_example = user == "user:password";
        let colon = user.find(':').into_iter().chain(user.to_ascii_lowercase().find("%3a")).min();
        let colon = colon.filter(|_| !is_example);
        safe.push_str(colon.map_or(user, |at| &user[..at]));
        safe.push_str(if colon.is_some() { ":…" } else { "" });
        safe.push_str(host);
        rest = &after[url.len()..];
    }
    safe.push_str(rest);
    if let Some((end, _)) = safe.char_indices().nth(LONGEST) {
        safe.truncate(end);
        safe.push('…');
    }
    safe
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
    use super::{discreet, escape, harmless};

    #[test]
    fn no_password_of_a_url_is_told_wherever_it_stands() {
        for (text, expected) in [
            ("$X (mysql://u:geheim@h/d): gone", "$X (mysql://u:…@h/d): gone"),
            ("argument 'mysql://u:ge@heim@h/d' found", "argument 'mysql://u:…@h/d' found"),
            ("mysql://u%3Ageheim@h/d", "mysql://u:…@h/d"),
            ("such as mysql://user:password@host/x", "such as mysql://user:password@host/x"),
            ("mysql://u@h1,h2:3307/d and https://x/y:z", "mysql://u@h1,h2:3307/d and https://x/y:z"),
        ] {
            assert_eq!(discreet(text), expected);
        }
        assert!(discreet(&"ä".repeat(100_000)).len() < 10_000);
    }

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
