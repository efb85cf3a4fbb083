//! Bytes as text, whatever they are.

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

#[cfg(test)]
mod tests {
    use super::escape;

    #[test]
    fn bytes_that_are_no_text_are_escaped() {
        assert_eq!(escape(b"a\xff\x00b\xc3"), "a\\xFF\\x00b\\xC3");
    }
}
