//! Speaking to a MySQL or MariaDB server: connecting, signing in, one statement and its answer after another.
//!
//! Packets, their fields and the mathematics of signing in are `mysql_common`'s. What is decided here is what the other end is
//! believed. Whether the connection is encrypted is known on this side and never asked; a password leaves only as the answer to
//! a challenge, or to a server that has proved who it is; all that arrives is measured before it is used, and each answer has
//! its limits, in time and in bytes. After an answer that broke off or made no sense the connection is closed, and each later
//! statement says so.
//!
//! Statements travel as text, values as literals in it: one round trip each, also for the first of its kind.

mod auth;
mod greeting;
mod stream;
mod tls;

use std::time::{Duration, Instant};

use mysql_common::constants::CapabilityFlags;
use mysql_common::io::ParseBuf;
use mysql_common::packets::{Column, CommonOkPacket, OkPacketDeserializer, SslRequest};
use mysql_common::proto::MySerialize;
use mysql_common::proto::codec::error::PacketCodecError;
use mysql_common::proto::sync_framed::MySyncFramed;

use super::error::Error;
use super::location::{Endpoint, Server, TlsMode};
use super::rows::RowOfServer;
use greeting::Greeting;
use stream::Stream;

/// Bytes of a statement, and of one packet of an answer: an output of 64 MiB in which each byte is escaped fits.
const MAX_PACKET: usize = 160 << 20;
/// Bytes of a packet before somebody has signed in, of a column, and of the text of an error that is looked at.
const MAX_FIRST_PACKET: usize = 64 << 10;
const MAX_COLUMN: usize = 4 << 10;
const MAX_ERROR: usize = 1 << 10;
/// Bytes of one whole answer.
const MAX_ANSWER: usize = 512 << 20;
/// What a row costs beside its bytes, so that endless empty rows come to an end, too.
const ROW_OVERHEAD: usize = 64;
/// Columns of an answer; no table has more.
const MAX_COLUMNS: u64 = 4096;
/// `utf8mb4_general_ci`, by the number that every server has for it.
const UTF8MB4: u8 = 45;

const COM_QUIT: u8 = 1;
const COM_QUERY: u8 = 3;

/// A connection that has signed in.
pub(super) struct Client {
    /// `None` once it was given up.
    framed: Option<MySyncFramed<Stream>>,
    has_signed_in: bool,
}

impl Client {
    /// Connects to one node and signs in, within `limit`.
    pub(super) fn connect(server: &Server, endpoint: &Endpoint, limit: Duration) -> Result<Self, Error> {
        let deadline = Instant::now() + limit;
        // Whatever is wrong with one node now may be mended later, or be right with another.
        let here = |err: Error| {
            Error::Away(if Instant::now() >= deadline {
                format!("`{endpoint}` took longer than {limit:?} to accept a connection ({err})")
            } else {
                format!("`{endpoint}`: {err}")
            })
        };
        Self::sign_in(server, endpoint, deadline).map_err(here)
    }

    fn sign_in(server: &Server, endpoint: &Endpoint, deadline: Instant) -> Result<Self, Error> {
        let framed = framed(Stream::connect(endpoint, deadline)?);
        let mut client = Self { framed: Some(framed), has_signed_in: false };
        let packet = client.receive()?;
        let greeting = Greeting::read(&packet)?;
        let is_socket = matches!(endpoint, Endpoint::Socket(_));
        let wants_tls = match server.tls.mode {
            TlsMode::Disabled => false,
            // What passes through a socket stays on this host. And through TLS a server takes no password that was encrypted
            // with its key.
            TlsMode::Preferred => {
                greeting.capabilities.contains(CapabilityFlags::CLIENT_SSL)
                    && !is_socket
                    && server.public_key.is_none()
            }
            TlsMode::Verified | TlsMode::Identity => true,
        };
        let mut flags = Self::flags();
        if wants_tls {
            if !greeting.capabilities.contains(CapabilityFlags::CLIENT_SSL) {
                return Err(Error::Away(
                    "the server offers no TLS, and ssl_mode asks for it; nothing was sent".to_owned(),
                ));
            }
            flags |= CapabilityFlags::CLIENT_SSL;
            client.send_packet(&SslRequest::new(flags, PACKET_SIZE, UTF8MB4))?;
            client.encrypt(server, endpoint)?;
        }
        auth::sign_in(&mut client, server, endpoint, &greeting, flags)?;
        client.has_signed_in = true;
        client.framed.as_mut().ok_or_else(given_up)?.codec_mut().max_allowed_packet = MAX_PACKET;
        Ok(client)
    }

    /// What this side can do. Not among it: files of this host that a server may ask for, several statements in one.
    fn flags() -> CapabilityFlags {
        CapabilityFlags::CLIENT_PROTOCOL_41
            | CapabilityFlags::CLIENT_LONG_PASSWORD
            | CapabilityFlags::CLIENT_LONG_FLAG
            | CapabilityFlags::CLIENT_CONNECT_WITH_DB
            | CapabilityFlags::CLIENT_TRANSACTIONS
            | CapabilityFlags::CLIENT_SECURE_CONNECTION
            | CapabilityFlags::CLIENT_PLUGIN_AUTH
            | CapabilityFlags::CLIENT_CONNECT_ATTRS
            | CapabilityFlags::CLIENT_FOUND_ROWS
    }

    fn encrypt(&mut self, server: &Server, endpoint: &Endpoint) -> Result<(), Error> {
        let (read, written, codec, stream) = self.framed.take().ok_or_else(given_up)?.destruct();
        // What was sent along with the greeting would be taken for what is encrypted.
        if !read.is_empty() {
            return Err(Error::Away("the server went on in the clear before TLS had begun".to_owned()));
        }
        let stream = stream.encrypted(&server.tls, endpoint)?;
        self.framed = Some(MySyncFramed::construct(read, written, codec, stream));
        Ok(())
    }

    /// Sends a statement and gives each row of its answer to `each`; returns how many rows it matched. `limit` is for the whole.
    pub(super) fn query(
        &mut self,
        sql: &str,
        limit: Option<Duration>,
        each: &mut dyn FnMut(&RowOfServer<'_>) -> Result<(), Error>,
    ) -> Result<u64, Error> {
        self.stream()?.set_deadline(limit.map(|limit| Instant::now() + limit));
        let answered = self.ask(sql, each);
        match &answered {
            Err(Error::Away(why)) => {
                let late =
                    limit.filter(|_| self.framed.as_mut().is_some_and(|framed| framed.get_mut().is_late()));
                let why = late.map_or_else(
                    || why.clone(),
                    |limit| {
                        format!("the server gave no answer within {limit:?}, and the connection was given up")
                    },
                );
                self.framed = None;
                Err(Error::Away(why))
            }
            _ => answered,
        }
    }

    fn ask(
        &mut self,
        sql: &str,
        each: &mut dyn FnMut(&RowOfServer<'_>) -> Result<(), Error>,
    ) -> Result<u64, Error> {
        let mut statement = Vec::with_capacity(sql.len() + 1);
        statement.push(COM_QUERY);
        statement.extend_from_slice(sql.as_bytes());
        self.framed.as_mut().ok_or_else(given_up)?.codec_mut().reset_seq_id();
        self.send(&statement)?;
        let head = self.receive()?;
        if head.first() == Some(&0) {
            let ok = ParseBuf(&head)
                .parse::<OkPacketDeserializer<'_, CommonOkPacket>>(Self::flags())
                .map_err(|err| unexpected(&err.to_string()))?;
            return Ok(ok.into_inner().affected_rows());
        }
        let columns = ParseBuf(&head).checked_eat_lenenc_int().unwrap_or(0);
        if head.first() == Some(&0xfb) || columns == 0 || columns > MAX_COLUMNS {
            return Err(unexpected("the answer to a statement is no answer"));
        }
        let mut names = Vec::new();
        for _ in 0..columns {
            let packet = self.receive()?;
            if packet.len() > MAX_COLUMN {
                return Err(unexpected("a column is too long"));
            }
            let column: Column = ParseBuf(&packet).parse(()).map_err(|err| unexpected(&err.to_string()))?;
            names.push(String::from_utf8_lossy(column.name_ref()).into_owned());
        }
        if !is_end(&self.receive()?) {
            return Err(unexpected("the columns of an answer have no end"));
        }
        self.rows(&names, each)
    }

    fn rows(
        &mut self,
        names: &[String],
        each: &mut dyn FnMut(&RowOfServer<'_>) -> Result<(), Error>,
    ) -> Result<u64, Error> {
        let (mut count, mut bytes, mut taken) = (0, 0, Ok(()));
        loop {
            let packet = self.receive()?;
            if is_end(&packet) {
                return taken.map(|()| count);
            }
            bytes += packet.len() + ROW_OVERHEAD + names.len() * size_of::<(usize, usize)>();
            if bytes > MAX_ANSWER {
                return Err(Error::Away(format!(
                    "the server's answer is longer than {} MiB, and the connection was given up",
                    MAX_ANSWER >> 20
                )));
            }
            // A row that cannot be used leaves the ones behind it to be read, for the connection's sake.
            let row = RowOfServer::read(names, &packet).ok_or_else(|| unexpected("a row is cut short"))?;
            taken = taken.and_then(|()| each(&row));
            count += 1;
        }
    }

    fn stream(&mut self) -> Result<&mut Stream, Error> {
        Ok(self.framed.as_mut().ok_or_else(given_up)?.get_mut())
    }

    fn send_packet(&mut self, packet: &impl MySerialize) -> Result<(), Error> {
        let mut bytes = Vec::new();
        packet.serialize(&mut bytes);
        self.send(&bytes)
    }

    fn send(&mut self, mut bytes: &[u8]) -> Result<(), Error> {
        self.framed.as_mut().ok_or_else(given_up)?.send(&mut bytes).map_err(|err| lost(&err))
    }

    /// The next packet, with something in it; one that is an error is the error.
    fn receive(&mut self) -> Result<Vec<u8>, Error> {
        let mut packet = Vec::new();
        if !self.framed.as_mut().ok_or_else(given_up)?.next_packet(&mut packet).map_err(|err| lost(&err))? {
            return Err(Error::Away("the server closed the connection".to_owned()));
        }
        match packet.first() {
            Some(0xff) => {
                let mut fields = ParseBuf(&packet[1..]);
                let number =
                    fields.checked_eat_u16_le().ok_or_else(|| unexpected("an error is cut short"))?;
                let text = fields.eat_all();
                // `#` and the five characters of the SQL state come first, once somebody has greeted.
                let text = if text.first() == Some(&b'#') { text.get(6..).unwrap_or_default() } else { text };
                let text = String::from_utf8_lossy(&text[..text.len().min(MAX_ERROR)]);
                Err(Error::of_server(number, &text))
            }
            Some(_) => Ok(packet),
            None => Err(unexpected("a packet is empty")),
        }
    }
}

impl Drop for Client {
    /// Says good-bye, which keeps the server from logging the connection as aborted.
    fn drop(&mut self) {
        if let Some(framed) = self.framed.as_mut().filter(|_| self.has_signed_in) {
            framed.get_mut().set_deadline(Some(Instant::now() + Duration::from_secs(1)));
            framed.codec_mut().reset_seq_id();
            drop(framed.send(&mut &[COM_QUIT][..]));
        }
    }
}

/// The size of packets that this side says it takes.
const PACKET_SIZE: u32 = 1 << 30;

fn framed(stream: Stream) -> MySyncFramed<Stream> {
    let mut framed = MySyncFramed::new(stream);
    framed.codec_mut().max_allowed_packet = MAX_FIRST_PACKET;
    framed
}

/// Whether the packet ends columns or rows; a row that begins with the same byte is longer.
fn is_end(packet: &[u8]) -> bool {
    packet.first() == Some(&0xfe) && packet.len() < 9
}

fn given_up() -> Error {
    Error::Away("the connection was given up before".to_owned())
}

fn unexpected(what: &str) -> Error {
    Error::Away(format!("the server does not speak as MySQL or MariaDB do ({what})"))
}

fn lost(error: &PacketCodecError) -> Error {
    match error {
        PacketCodecError::Io(err) if err.get_ref().is_some_and(|inner| inner.is::<rustls::Error>()) => {
            tls::refused(err)
        }
        // The library's word for it.
        PacketCodecError::Io(err) if err.to_string().contains("bytes remaining") => {
            Error::Away("the server closed the connection in the middle of an answer".to_owned())
        }
        PacketCodecError::Io(err) => Error::Away(format!("the connection was lost: {err}")),
        other => unexpected(&other.to_string()),
    }
}
