//! Which database: a MySQL URL as diesel understands it, or the path of an SQLite file.
//!
//! Guarantees: no message, `Debug` or `Display` of this file ever shows a password, nor any other part of a
//! URL that could be a piece of one (an unescaped `/`, `?` or `#` in a password shifts everything after it).

use std::fmt;
use std::path::{Path, PathBuf};

use url::Url;

use super::nearest::nearest;

/// The options after the `?` that diesel's MySQL connection knows.
const OPTIONS: [&str; 5] = ["unix_socket", "ssl_mode", "ssl_ca", "ssl_cert", "ssl_key"];
const SSL_MODES: [&str; 5] = ["disabled", "preferred", "required", "verify_ca", "verify_identity"];
const EXPECTED: &str = "expected mysql://user:password@host:port/name, sqlite:///path/to/file, or the path of a .db or .sqlite file";

/// Which database to use, checked for form.
#[derive(Clone, PartialEq, Eq)]
pub enum DatabaseUrl {
    /// MySQL or MariaDB.
    Mysql {
        /// With the scheme `mysql`, a host or socket, and the name of a database.
        url: Url,
    },
    /// An SQLite file, which need not exist yet.
    Sqlite {
        /// Absolute, and UTF-8.
        path: PathBuf,
    },
}

impl DatabaseUrl {
    /// Reads a URL or path; relative paths are taken from `folder`.
    pub(super) fn parse(text: &str, folder: &Path) -> Result<Self, String> {
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
            Self::Mysql { url } => url.as_str(),
            Self::Sqlite { path } => path.to_str().unwrap_or_default(),
        }
    }

    /// What tells this database from others, without user and password: to name a folder after it.
    #[must_use]
    pub fn identity(&self) -> String {
        match self {
            Self::Mysql { url } => {
                let host = url.host_str().unwrap_or_default().to_lowercase();
                let port = url.port().unwrap_or(3306);
                match url.query_pairs().find(|(key, _)| key == "unix_socket") {
                    Some((_, socket)) => format!("mysql://{host}{}?unix_socket={socket}", url.path()),
                    None => format!("mysql://{host}:{port}{}", url.path()),
                }
            }
            Self::Sqlite { path } => {
                let folder = path.parent().and_then(|folder| folder.canonicalize().ok());
                let real = folder.zip(path.file_name()).map(|(folder, name)| folder.join(name));
                real.as_ref().unwrap_or(path).display().to_string()
            }
        }
    }

    /// Whether it is MySQL or MariaDB.
    #[must_use]
    pub const fn is_mysql(&self) -> bool {
        matches!(self, Self::Mysql { .. })
    }
}

fn mysql(text: &str) -> Result<DatabaseUrl, String> {
    let url = Url::parse(text).map_err(|err| format!("is not a valid URL ({err}){ESCAPE}"))?;
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
    // diesel takes the name as it stands in the URL, where such a character is written as %XX.
    if name.contains('%') {
        return Err("the name of the database may only hold letters, digits and . _ - $".to_owned());
    }
    if [url.username(), url.password().unwrap_or_default()].iter().any(|part| part.contains("%00")) {
        return Err("holds a NUL byte (%00)".to_owned());
    }
    for (at, (key, value)) in url.query_pairs().enumerate() {
        check_option(at + 1, &key, &value)?;
    }
    Ok(DatabaseUrl::Mysql { url })
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
            Self::Mysql { url } => {
                let user = url.username();
                let at = if user.is_empty() { "" } else { "@" };
                let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
                write!(f, "mysql://{user}{at}{}{port}{}", url.host_str().unwrap_or_default(), url.path())
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
