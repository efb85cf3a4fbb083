//! Which database: a URL of one or several MySQL or MariaDB servers, or the path of an SQLite file.
//!
//! Guarantees: no message, `Debug` or `Display` of this file ever shows a password, nor any other part of a
//! URL that could be a piece of one (an unescaped `/`, `?` or `#` in a password shifts everything after it).

use std::fmt;
use std::path::{Path, PathBuf};

use url::{Position, Url};

use super::nearest::nearest;

/// The options that may stand after the `?`.
const OPTIONS: [&str; 6] = ["unix_socket", "ssl_mode", "ssl_ca", "ssl_cert", "ssl_key", "server_public_key"];
const SSL_MODES: [&str; 5] = ["disabled", "preferred", "required", "verify_ca", "verify_identity"];
const EXPECTED: &str = "expected mysql://user:password@host:port/name, sqlite:///path/to/file, or the path of a .db or .sqlite file";

/// Which database to use, checked for form.
#[derive(Clone, PartialEq, Eq)]
pub enum DatabaseUrl {
    /// MySQL or MariaDB.
    Mysql {
        /// With the scheme `mysql`, a host or socket, and the name of a database.
        url: Url,
        /// The other hosts of a list, each with its port if it has one.
        others: Vec<(String, Option<u16>)>,
        /// All of it as one text.
        text: String,
    },
    /// An SQLite file, which need not exist yet.
    Sqlite {
        /// Absolute, and UTF-8.
        path: PathBuf,
    },
}

impl DatabaseUrl {
    /// Reads a URL or path; relative paths are taken from `folder`.
    ///
    /// # Errors
    ///
    /// What is wrong with it, without a part of it that could be a password.
    pub fn parse(text: &str, folder: &Path) -> Result<Self, String> {
        let text = text.trim();
        if text.is_empty() {
            return Err(format!("is empty; {EXPECTED}"));
        }
        if text.contains(char::is_control) {
            return Err(format!("holds a line break or another control character; {EXPECTED}"));
        }
        let after = |scheme: &str| {
            text.get(..scheme.len())
                .filter(|start| start.eq_ignore_ascii_case(scheme))
                .map(|_| &text[scheme.len()..])
        };
        if let Some(rest) = after("mysql://").or_else(|| after("mariadb://")) {
            return mysql(&format!("mysql://{rest}"));
        }
        if let Some(rest) = after("sqlite:") {
            return Self::sqlite(rest.strip_prefix("//").unwrap_or(rest), folder);
        }
        let is_file = [".db", ".sqlite", ".sqlite3"].iter().any(|end| text.ends_with(end));
        if is_file && !text.contains(':') {
            return Self::sqlite(text, folder);
        }
        Err(format!("is not a database that Duly knows; {EXPECTED}"))
    }

    /// An SQLite file, relative to `folder`.
    pub(super) fn sqlite(path: &str, folder: &Path) -> Result<Self, String> {
        if path.contains(":memory:") {
            return Err(
                "an SQLite database in memory would be forgotten after each tick; name a file".to_owned()
            );
        }
        if path.is_empty() || path.ends_with('/') {
            return Err(format!("names no SQLite file; {EXPECTED}"));
        }
        if path.contains(['?', '#']) {
            return Err("an SQLite file has no options, and no ? or # in its name".to_owned());
        }
        // Components leave out `.`, so that one file has one name.
        let path: PathBuf = folder.join(path).components().collect();
        if path.to_str().is_none() {
            return Err("the path of the SQLite file is not UTF-8; use another folder".to_owned());
        }
        Ok(Self::Sqlite { path })
    }

    /// What the store connects with: the whole URL, password included, or the path.
    #[must_use]
    pub fn expose(&self) -> &str {
        match self {
            Self::Mysql { text, .. } => text,
            Self::Sqlite { path } => path.to_str().unwrap_or_default(),
        }
    }

    /// What tells this database from others, without user and password: to name a folder after it.
    #[must_use]
    pub fn identity(&self) -> String {
        match self {
            Self::Mysql { url, .. } => match self.option("unix_socket") {
                Some(socket) => {
                    let host = url.host_str().unwrap_or_default().to_lowercase();
                    format!("mysql://{host}{}?unix_socket={socket}", url.path())
                }
                None => {
                    let mut hosts: Vec<String> = self
                        .hosts()
                        .map(|(host, port)| format!("{}:{}", host.to_lowercase(), port.unwrap_or(3306)))
                        .collect();
                    // The same nodes in another order are the same database.
                    hosts.sort();
                    format!("mysql://{}{}", hosts.join(","), url.path())
                }
            },
            Self::Sqlite { path } => {
                let folder = path.parent().and_then(|folder| folder.canonicalize().ok());
                let real = folder.zip(path.file_name()).map(|(folder, name)| folder.join(name));
                real.as_ref().unwrap_or(path).display().to_string()
            }
        }
    }

    /// The hosts of a server, in the order in which they are tried, each with its port if it has one.
    pub fn hosts(&self) -> impl Iterator<Item = (&str, Option<u16>)> {
        let (first, others) = match self {
            Self::Mysql { url, others, .. } => {
                (url.host_str().map(|host| (host, url.port())), others.as_slice())
            }
            Self::Sqlite { .. } => (None, [].as_slice()),
        };
        first.into_iter().chain(others.iter().map(|(host, port)| (host.as_str(), *port)))
    }

    /// An option after the `?`.
    #[must_use]
    pub fn option(&self, name: &str) -> Option<String> {
        let Self::Mysql { url, .. } = self else { return None };
        url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
    }

    /// Whether it is MySQL or MariaDB.
    #[must_use]
    pub const fn is_mysql(&self) -> bool {
        matches!(self, Self::Mysql { .. })
    }
}

fn mysql(text: &str) -> Result<DatabaseUrl, String> {
    let (text, others) = hosts_apart(text)?;
    let url = Url::parse(&text).map_err(|err| format!("is not a valid URL ({err}){ESCAPE}"))?;
    let name = url.path().trim_start_matches('/');
    let has_socket = url.query_pairs().any(|(key, value)| key == "unix_socket" && !value.is_empty());
    if url.fragment().is_some() || name.contains(['/', '@', ':']) {
        return Err(format!(
            "has something after the name of the database that does not belong there{ESCAPE}"
        ));
    }
    if url.host_str().is_none_or(str::is_empty) && !has_socket {
        return Err("names no host; expected mysql://user:password@host:port/name".to_owned());
    }
    if name.is_empty() {
        return Err("names no database; expected mysql://user:password@host:port/name".to_owned());
    }
    if name.contains('%') {
        return Err("the name of the database may only hold letters, digits and . _ - $".to_owned());
    }
    if [url.username(), url.password().unwrap_or_default()].iter().any(|part| part.contains("%00")) {
        return Err("holds a NUL byte (%00)".to_owned());
    }
    for (at, (key, value)) in url.query_pairs().enumerate() {
        check_option(at + 1, &key, &value)?;
        if url.query_pairs().take(at).any(|(before, _)| before == key) {
            return Err(format!("{key} is given twice"));
        }
    }
    let list: String = others
        .iter()
        .map(|(host, port)| format!(",{host}{}", port.map(|port| format!(":{port}")).unwrap_or_default()))
        .collect();
    let text = format!("{}{list}{}", &url[..Position::AfterPort], &url[Position::AfterPort..]);
    Ok(DatabaseUrl::Mysql { url, others, text })
}

/// The URL with the first host of a list alone, and the others.
#[expect(clippy::type_complexity, reason = "a host and its port")]
fn hosts_apart(text: &str) -> Result<(String, Vec<(String, Option<u16>)>), String> {
    let start = text.find("://").map_or(0, |at| at + 3);
    let end = text[start..].find(['/', '?', '#']).map_or(text.len(), |at| start + at);
    let hosts = text[start..end].rfind('@').map_or(start, |at| start + at + 1);
    let mut list = text[hosts..end].split(',');
    let first = list.next().unwrap_or_default();
    let others = list.enumerate().map(|(at, host)| {
        let url = Url::parse(&format!("mysql://{host}/"))
            .map_err(|err| format!("host {} of the list is not valid ({err})", at + 2))?;
        match url.host_str() {
            Some(name) if !name.is_empty() && url.username().is_empty() => Ok((name.to_owned(), url.port())),
            _ => Err(format!(
                "host {} of the list is empty; expected mysql://user:password@host1,host2:port/name",
                at + 2
            )),
        }
    });
    let others = others.collect::<Result<Vec<_>, String>>()?;
    Ok((format!("{}{first}{}", &text[..hosts], &text[end..]), others))
}

const ESCAPE: &str = "; in a user or password, special characters are written as %XX (/ is %2F, @ is %40, # is %23, \
     ? is %3F, : is %3A, % is %25)";

/// An unknown option is not shown: it may be what follows a `?` in a password.
fn check_option(number: usize, key: &str, value: &str) -> Result<(), String> {
    if !OPTIONS.contains(&key) {
        let guess = match nearest(key, OPTIONS) {
            Some(guess) => format!("did you mean `{guess}`?"),
            None => format!("expected one of {}", OPTIONS.join(", ")),
        };
        return Err(format!("option {number} after the `?` is unknown; {guess}"));
    }
    if key == "ssl_mode" && !SSL_MODES.contains(&value.to_lowercase().as_str()) {
        return Err(format!("ssl_mode is unknown; expected one of {}", SSL_MODES.join(", ")));
    }
    if value.is_empty() || value.contains('\0') {
        return Err(format!("{key} has no usable value"));
    }
    Ok(())
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mysql { url, .. } => {
                let user = url.username();
                let at = if user.is_empty() { "" } else { "@" };
                write!(f, "mysql://{user}{at}")?;
                for (n, (host, port)) in self.hosts().enumerate() {
                    let port = port.map(|port| format!(":{port}")).unwrap_or_default();
                    write!(f, "{}{host}{port}", if n > 0 { "," } else { "" })?;
                }
                f.write_str(url.path())
            }
            Self::Sqlite { path } => path.display().fmt(f),
        }
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DatabaseUrl({self})")
    }
}
