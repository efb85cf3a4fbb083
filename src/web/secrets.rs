//! Random values, what is signed, and passwords. The key is new at each start and never leaves the process.

use argon2::Argon2;
use argon2::password_hash::{PasswordHash, PasswordHasher as _, PasswordVerifier as _, SaltString};
use blake2::Blake2sMac256;
use blake2::digest::{FixedOutput as _, Update as _};
use rustix::rand::{GetRandomFlags, getrandom};

/// Bytes of a key, and of an identity.
const LENGTH: usize = 32;

/// What this process signs with.
pub(super) struct Key([u8; LENGTH]);

impl Key {
    /// A new one.
    ///
    /// # Errors
    ///
    /// When the kernel gives no random bytes.
    pub(super) fn new() -> std::io::Result<Self> {
        Ok(Self(random()?))
    }

    /// What only this process can say of `text` for this purpose, as hex digits.
    pub(super) fn sign(&self, purpose: &str, text: &str) -> String {
        let mut mac = <Blake2sMac256 as blake2::digest::KeyInit>::new(&self.0.into());
        // A length before each part, so that no two pairs of texts are the same bytes.
        mac.update(&(purpose.len() as u64).to_le_bytes());
        mac.update(purpose.as_bytes());
        mac.update(text.as_bytes());
        hex(&mac.finalize_fixed())
    }

    /// Whether this process signed `text` so.
    pub(super) fn is_signed(&self, purpose: &str, text: &str, signature: &str) -> bool {
        is_same(self.sign(purpose, text).as_bytes(), signature.as_bytes())
    }
}

/// Compares in a time that does not tell where the two differ.
fn is_same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |differs, (x, y)| differs | (x ^ y)) == 0
}

fn random() -> std::io::Result<[u8; LENGTH]> {
    let mut bytes = [0; LENGTH];
    let mut filled = 0;
    while filled < LENGTH {
        filled += getrandom(&mut bytes[filled..], GetRandomFlags::empty())?;
    }
    Ok(bytes)
}

/// A value that nobody can guess, as hex digits.
///
/// # Errors
///
/// When the kernel gives no random bytes.
pub(super) fn identity() -> std::io::Result<String> {
    random().map(|bytes| hex(&bytes))
}

/// Bytes as hex digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let (Ok(()) | Err(_)) = write!(text, "{byte:02x}");
        text
    })
}

/// Hex digits as text; `None` where they are none.
pub(super) fn from_hex(digits: &str) -> Option<String> {
    let pairs = digits.as_bytes().chunks(2);
    let bytes: Option<Vec<u8>> =
        pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect();
    String::from_utf8(bytes?).ok()
}

/// A password's hash by argon2id, in the form that jobs.yaml takes.
///
/// # Errors
///
/// When the kernel gives no random bytes, or the password is longer than argon2 takes.
pub fn hash_password(password: &str) -> anyhow::Result<String> {
    let salt = SaltString::encode_b64(&random()?[..16]).map_err(anyhow::Error::msg)?;
    let hash = Argon2::default().hash_password(password.as_bytes(), &salt).map_err(anyhow::Error::msg)?;
    Ok(hash.to_string())
}

/// Whether `password` is the one that was hashed. Takes long on purpose.
pub(super) fn is_password(password: &str, hash: &str) -> bool {
    PasswordHash::new(hash)
        .is_ok_and(|hash| Argon2::default().verify_password(password.as_bytes(), &hash).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_signed_is_known_again_and_nothing_else_is() {
        let (key, other) = (Key::new().unwrap(), Key::new().unwrap());
        let signature = key.sign("form", "a");
        assert!(key.is_signed("form", "a", &signature));
        for (purpose, text) in [("form", "b"), ("said", "a"), ("forma", ""), ("", "forma")] {
            assert!(!key.is_signed(purpose, text, &signature), "{purpose} {text}");
        }
        assert!(!other.is_signed("form", "a", &signature) && !key.is_signed("form", "a", ""));
    }

    #[test]
    fn a_password_is_known_by_its_hash() {
        let hash = hash_password("grüße 1").unwrap();
        assert!(hash.starts_with("$argon2id$") && is_password("grüße 1", &hash));
        assert!(!is_password("grüße 2", &hash) && !is_password("x", "x"));
    }

    #[test]
    fn hex_digits_are_read_back() {
        assert_eq!(from_hex(&hex("a ß\n".as_bytes())).as_deref(), Some("a ß\n"));
        assert_eq!((from_hex("zz"), from_hex("c3")), (None, None));
    }
}
