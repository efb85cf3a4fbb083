//! Where something listens, as people write it: `127.0.0.1:8080`, `[::1]:8080`, `localhost:8080`.

use std::net::SocketAddr;

/// Reads an address with a port.
///
/// # Errors
///
/// A sentence that says what was found and what is expected.
pub fn parse(text: &str) -> Result<SocketAddr, String> {
    let plain =
        text.strip_prefix("localhost:").map_or_else(|| text.to_owned(), |port| format!("127.0.0.1:{port}"));
    plain.parse().map_err(|_not_an_address| {
        format!("`{text}` is not an address with a port; expected one such as 127.0.0.1:8080 or [::1]:8080")
    })
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn an_address_has_a_port_and_no_name_but_localhost() {
        for (text, address) in
            [("127.0.0.1:80", "127.0.0.1:80"), ("localhost:0", "127.0.0.1:0"), ("[::]:1", "[::]:1")]
        {
            assert_eq!(parse(text).map(|address| address.to_string()).as_deref(), Ok(address));
        }
        for bad in ["", "8080", ":8080", "127.0.0.1", "example.com:80", "::1:80:"] {
            assert!(parse(bad).unwrap_err().contains("127.0.0.1:8080"), "{bad}");
        }
    }
}
