//! The bytes to and from a server: through TCP or a Unix socket, encrypted or not, until a deadline.

use std::io::{Error, ErrorKind, Read, Result, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use rustls::{ClientConnection, StreamOwned};

use super::super::error::Error as DbError;
use super::super::location::{Endpoint, Tls};
use super::tls;

/// A connection, encrypted or not.
pub(super) enum Stream {
    Plain(Timed),
    Encrypted { tls: Box<StreamOwned<ClientConnection, Timed>>, is_verified: bool },
}

/// A socket that waits until the deadline and no longer.
pub(super) struct Timed {
    socket: Socket,
    deadline: Option<Instant>,
    /// How long the socket waits for each piece, as it was last told.
    patience: Option<Duration>,
}

/// How far off what the socket was told may be.
const ABOUT: Duration = Duration::from_millis(100);

enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    pub(super) fn connect(endpoint: &Endpoint, deadline: Instant) -> std::result::Result<Self, DbError> {
        let socket = match endpoint {
            Endpoint::Tcp(host, port) => tcp(host, *port, deadline).map(Socket::Tcp),
            Endpoint::Socket(path) => unix(path, deadline).map(Socket::Unix),
        };
        let socket = socket.map_err(|err| DbError::Away(format!("cannot connect: {err}")))?;
        Ok(Self::Plain(Timed { socket, deadline: Some(deadline), patience: None }))
    }

    /// The same connection, encrypted from here on.
    pub(super) fn encrypted(self, tls: &Tls, endpoint: &Endpoint) -> std::result::Result<Self, DbError> {
        let Self::Plain(mut timed) = self else { return Ok(self) };
        let mut session = tls::session(tls, endpoint)?;
        while session.is_handshaking() {
            session.complete_io(&mut timed).map_err(|err| tls::refused(&err))?;
        }
        let is_verified = tls::is_verified(tls.mode);
        Ok(Self::Encrypted { tls: Box::new(StreamOwned::new(session, timed)), is_verified })
    }

    /// Whether the server has proved who it is.
    pub(super) const fn is_verified(&self) -> bool {
        matches!(self, Self::Encrypted { is_verified: true, .. })
    }

    pub(super) const fn set_deadline(&mut self, deadline: Option<Instant>) {
        self.timed().deadline = deadline;
    }

    pub(super) fn is_late(&mut self) -> bool {
        self.timed().deadline.is_some_and(|deadline| Instant::now() >= deadline)
    }

    const fn timed(&mut self) -> &mut Timed {
        match self {
            Self::Plain(timed) => timed,
            Self::Encrypted { tls, .. } => &mut tls.sock,
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        match self {
            Self::Plain(timed) => timed.read(buffer),
            Self::Encrypted { tls, .. } => tls.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, buffer: &[u8]) -> Result<usize> {
        match self {
            Self::Plain(timed) => timed.write(buffer),
            Self::Encrypted { tls, .. } => tls.write(buffer),
        }
    }

    fn flush(&mut self) -> Result<()> {
        match self {
            Self::Plain(timed) => timed.flush(),
            Self::Encrypted { tls, .. } => tls.flush(),
        }
    }
}

impl Timed {
    /// Has the socket wait for what is left until the deadline; most of the time it is set so already.
    fn be_patient(&mut self) -> Result<()> {
        let left = self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        if left.is_some_and(|left| left.is_zero()) {
            return Err(late());
        }
        let is_set = match (left, self.patience) {
            (None, None) => true,
            (Some(left), Some(patience)) => left <= patience && patience - left < ABOUT && left > ABOUT,
            _ => false,
        };
        if !is_set {
            // A statement's answer is read in many pieces, and the next statement has the same limit.
            let patience = left.map(|left| left + left.min(ABOUT) / 2);
            match &self.socket {
                Socket::Tcp(tcp) => {
                    tcp.set_read_timeout(patience).and_then(|()| tcp.set_write_timeout(patience))?;
                }
                Socket::Unix(unix) => {
                    unix.set_read_timeout(patience).and_then(|()| unix.set_write_timeout(patience))?;
                }
            }
            self.patience = patience;
        }
        Ok(())
    }
}

impl Read for Timed {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        self.be_patient()?;
        let read = match &mut self.socket {
            Socket::Tcp(tcp) => tcp.read(buffer),
            Socket::Unix(unix) => unix.read(buffer),
        };
        read.map_err(plainly)
    }
}

impl Write for Timed {
    fn write(&mut self, buffer: &[u8]) -> Result<usize> {
        self.be_patient()?;
        let written = match &mut self.socket {
            Socket::Tcp(tcp) => tcp.write(buffer),
            Socket::Unix(unix) => unix.write(buffer),
        };
        written.map_err(plainly)
    }

    fn flush(&mut self) -> Result<()> {
        Ok(())
    }
}

/// A timeout of a socket reports itself as if it were not to block.
fn plainly(err: Error) -> Error {
    if err.kind() == ErrorKind::WouldBlock { late() } else { err }
}

fn late() -> Error {
    Error::new(ErrorKind::TimedOut, "no answer in time")
}

fn tcp(host: &str, port: u16, deadline: Instant) -> Result<TcpStream> {
    let mut last = Error::new(ErrorKind::NotFound, "the name has no address");
    for address in addresses(host, port, deadline)? {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(late());
        }
        match TcpStream::connect_timeout(&address, left) {
            Ok(tcp) => {
                tcp.set_nodelay(true)?;
                return Ok(tcp);
            }
            Err(err) => last = err,
        }
    }
    Err(last)
}

/// The addresses of a name are asked for by a thread, which is left behind if nobody answers it in time.
fn addresses(host: &str, port: u16, deadline: Instant) -> Result<Vec<SocketAddr>> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![(address, port).into()]);
    }
    let (sender, found) = channel();
    let name = host.to_owned();
    thread::spawn(move || {
        sender.send((name.as_str(), port).to_socket_addrs().map(Iterator::collect)).is_ok()
    });
    found.recv_timeout(deadline.saturating_duration_since(Instant::now())).map_err(|_late| late())?
}

/// A listener whose queue is full would hold a plain `connect` up for ever; the timeout for writing is also its.
fn unix(path: &std::path::Path, deadline: Instant) -> Result<UnixStream> {
    let socket =
        rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    let unix = UnixStream::from(socket);
    unix.set_write_timeout(Some(
        deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1)),
    ))?;
    rustix::net::connect(&unix, &SocketAddrUnix::new(path)?)?;
    Ok(unix)
}
