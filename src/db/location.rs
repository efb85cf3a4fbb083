//! Where a database is, and how its server is to be spoken to.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use rustls::ClientConfig;

/// Where the database is.
#[derive(Clone)]
pub enum Location {
    /// One server, or several of which each has the same data.
    Server(Server),
    /// The path of an SQLite file.
    Sqlite(String),
}

/// A database on servers of MySQL or MariaDB.
#[derive(Clone)]
pub struct Server {
    /// The nodes, in the order in which they are tried.
    pub endpoints: Vec<Endpoint>,
    /// Who signs in.
    pub user: String,
    /// With which password; empty for none.
    pub password: String,
    /// The name of the database.
    pub database: String,
    /// Whether and how the connection is encrypted.
    pub tls: Tls,
    /// A file with the server's RSA key in PEM, which a password may be encrypted with where no TLS proves who the server is.
    pub public_key: Option<PathBuf>,
}

/// Where a server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// A name or address, and a port.
    Tcp(String, u16),
    /// The path of a Unix socket.
    Socket(PathBuf),
}

/// Whether the connection is encrypted, and what the server must prove.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TlsMode {
    /// Never.
    Disabled,
    /// Where the server offers it; it need prove nothing.
    #[default]
    Preferred,
    /// Always, and the certificate is signed by an authority of `ca`; without `ca` it is one that the system trusts, and names
    /// the host.
    Verified,
    /// The same, and the certificate names the host in any case.
    Identity,
}

/// How to encrypt.
#[derive(Clone)]
pub struct Tls {
    /// Whether to.
    pub mode: TlsMode,
    /// A file of authorities in PEM, in place of the system's.
    pub ca: Option<PathBuf>,
    /// This side's certificate and its key, in PEM.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// Made once for all connections, so that a later one can go on with the session of an earlier one.
    pub(super) config: Arc<OnceLock<Arc<ClientConfig>>>,
}

impl Tls {
    /// Encryption of this kind, with a file of authorities in place of the system's, and this side's certificate and its key.
    #[must_use]
    pub fn new(mode: TlsMode, ca: Option<PathBuf>, identity: Option<(PathBuf, PathBuf)>) -> Self {
        Self { mode, ca, identity, config: Arc::default() }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(host, port) if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp(host, port) => write!(f, "{host}:{port}"),
            Self::Socket(path) => path.display().fmt(f),
        }
    }
}
