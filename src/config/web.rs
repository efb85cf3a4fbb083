//! The section of the web page: where it listens, who may sign in, which proxy is believed.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use argon2::password_hash::PasswordHash;

use super::raw;
use super::read::Reader;
use crate::job::address;

/// `web` in jobs.yaml.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebConfig {
    /// Where the page listens, unless the command line says otherwise.
    pub listen: SocketAddr,
    /// Names, beside addresses and `localhost`, that a browser may call the page by; lower case.
    pub hosts: Vec<String>,
    /// Who may sign in.
    pub users: Vec<WebUser>,
    /// A reverse proxy that says who somebody is.
    pub trusted_proxy: Option<TrustedProxy>,
}

/// Somebody who may sign in with a password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebUser {
    /// As it is typed, and as the trail has it.
    pub name: String,
    /// The password, hashed by argon2, in the PHC form.
    pub password_hash: String,
    /// What they may do.
    pub role: Role,
}

/// What somebody may do on the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Look.
    Viewer,
    /// Look, start, cancel, pause.
    Operator,
}

/// A reverse proxy that has signed people in and says who they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustedProxy {
    /// The header with the name, lower case; `None` where people sign in here, and the proxy only says from where.
    pub header: Option<String>,
    /// Where the proxy connects from; from elsewhere the header counts for nothing.
    pub from: Vec<Network>,
    /// The role of whoever is not named below.
    pub role: Role,
    /// Who is an operator.
    pub operators: Vec<String>,
}

/// An address, or all that begin with the same bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    bits: u8,
}

impl Network {
    /// Whether `address` lies in it. An IPv4 address that came in over IPv6 is one of IPv4.
    #[must_use]
    pub fn has(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                u32::from(own).checked_shr(32 - u32::from(self.bits)).unwrap_or(0)
                    == u32::from(other).checked_shr(32 - u32::from(self.bits)).unwrap_or(0)
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                u128::from(own).checked_shr(128 - u32::from(self.bits)).unwrap_or(0)
                    == u128::from(other).checked_shr(128 - u32::from(self.bits)).unwrap_or(0)
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }

    fn parse(text: &str) -> Result<Self, String> {
        let explain = || format!("`{text}` is not an address; expected one such as 127.0.0.1 or 10.0.0.0/8");
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits.parse::<u8>().map_err(|_not_a_number| explain())?)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_not_an_address| explain())?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.unwrap_or(most);
        if bits > most {
            return Err(explain());
        }
        Ok(Self { address: address.to_canonical(), bits })
    }
}

impl WebConfig {
    /// Whether nobody can reach the page without being known.
    #[must_use]
    pub const fn has_sign_in(&self) -> bool {
        !self.users.is_empty() || matches!(&self.trusted_proxy, Some(TrustedProxy { header: Some(_), .. }))
    }
}

impl Default for WebConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)),
            hosts: Vec::new(),
            users: Vec::new(),
            trusted_proxy: None,
        }
    }
}

pub(super) fn web(raw: raw::Web, reader: &mut Reader<'_>) -> WebConfig {
    let default = WebConfig::default();
    let listen =
        raw.listen.and_then(|text| reader.within("listen", |reader| reader.ok(address::parse(&text))));
    let hosts = raw.hosts.unwrap_or_default();
    for (at, host) in hosts.iter().enumerate() {
        if host.is_empty() || host.contains(['/', ':', ' ', '*']) {
            let message = format!("`{host}` is not a host's name; expected one such as jobs.example.com");
            reader.within("hosts", |reader| reader.problem_at(&format!("[{at}]"), message));
        }
    }
    let users = reader.within("users", |reader| users(raw.users.unwrap_or_default(), reader));
    let trusted_proxy =
        raw.trusted_proxy.map(|raw| reader.within("trusted_proxy", |reader| trusted_proxy(raw, reader)));
    WebConfig {
        listen: listen.unwrap_or(default.listen),
        hosts: hosts.into_iter().map(|host| host.to_ascii_lowercase()).collect(),
        users,
        trusted_proxy,
    }
}

fn users(raw: Vec<raw::WebUser>, reader: &mut Reader<'_>) -> Vec<WebUser> {
    let mut users: Vec<WebUser> = Vec::new();
    for (at, user) in raw.into_iter().enumerate() {
        reader.within(&format!("[{at}]"), |reader| {
            let (Some(name), Some(password_hash)) = (user.name, user.password_hash) else {
                reader.problem("lacks a name or a password_hash; expected {name: anna, password_hash: …, role: operator}");
                return;
            };
            if name.is_empty() || name.chars().count() > 100 || name.chars().any(char::is_control) {
                reader.problem_at("name", "expected 1 to 100 characters");
            }
            if users.iter().any(|known| known.name == name) {
                reader.problem_at("name", format!("`{name}` is there twice; keep one of them"));
            }
            let is_argon2 = PasswordHash::new(&password_hash)
                .is_ok_and(|hash| hash.algorithm.as_str().starts_with("argon2") && hash.hash.is_some());
            if !is_argon2 {
                // What stands there may be the password itself.
                reader.problem_at("password_hash", "is not a hash by argon2; make one with `duly web --hash-password`");
            }
            users.push(WebUser { name, password_hash, role: user.role.unwrap_or(Role::Viewer) });
        });
    }
    users
}

fn trusted_proxy(raw: raw::TrustedProxy, reader: &mut Reader<'_>) -> TrustedProxy {
    let header = raw.header.map(|header| header.to_ascii_lowercase());
    let is_token = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if header.as_ref().is_some_and(|header| header.is_empty() || !header.chars().all(is_token)) {
        reader.problem_at("header", "expected the header with the user's name, such as X-Remote-User");
    }
    let mut from = Vec::new();
    for (at, text) in raw.from.unwrap_or_default().into_iter().enumerate() {
        reader.within("from", |reader| {
            reader.within(&format!("[{at}]"), |reader| from.extend(reader.ok(Network::parse(&text))));
        });
    }
    if from.is_empty() {
        reader.problem_at("from", "expected the addresses that the proxy connects from, such as [127.0.0.1]");
    }
    let role = raw.role.unwrap_or(Role::Viewer);
    TrustedProxy { header, from, role, operators: raw.operators.unwrap_or_default() }
}

#[cfg(test)]
mod tests {
    use super::Network;

    #[test]
    fn a_network_has_the_addresses_that_begin_like_it() {
        let has =
            |network: &str, address: &str| Network::parse(network).unwrap().has(address.parse().unwrap());
        assert!(has("10.0.0.0/8", "10.200.3.4") && !has("10.0.0.0/8", "11.0.0.1"));
        assert!(
            has("127.0.0.1", "127.0.0.1")
                && has("127.0.0.1", "::ffff:127.0.0.1")
                && !has("127.0.0.1", "127.0.0.2")
        );
        assert!(has("0.0.0.0/0", "8.8.8.8") && !has("0.0.0.0/0", "::1") && has("fd00::/8", "fd12::1"));
        for bad in ["", "localhost", "10.0.0.0/33", "10.0.0.0/x", "::/129"] {
            assert!(Network::parse(bad).unwrap_err().contains("127.0.0.1"), "{bad}");
        }
    }
}
