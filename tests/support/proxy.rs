//! A proxy between `duly` and a database server, which delays, swallows and cuts what passes, also at a chosen statement.
//!
//! It reads MySQL's protocol just far enough to see a statement go by, as a query or as a prepared one. Its threads end
//! with its connections, and those with the value.

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// What becomes of a `COMMIT`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CommitFault {
    /// The connection is cut before the server gets it.
    Unsent,
    /// The server gets half of it, then the connection is cut.
    Half,
    /// The server carries it out, and the connection is cut in place of its answer.
    AnswerLost,
    /// The server carries it out, and nothing ever comes back; the connection stays open.
    AnswerNever,
}

impl CommitFault {
    /// In words.
    pub(crate) fn name(self) -> &'static str {
        match self {
            CommitFault::Unsent => "cut before a commit",
            CommitFault::Half => "cut within a commit",
            CommitFault::AnswerLost => "cut before the answer to a commit",
            CommitFault::AnswerNever => "silent after a commit",
        }
    }
}

#[derive(Default)]
struct State {
    /// How long each piece is held back.
    delay: Duration,
    /// What happens at which of the next statements that begin so, counted over all connections.
    at: Option<(&'static str, u32, CommitFault)>,
    has_struck: bool,
    /// New connections get no answer.
    is_silent_for_new: bool,
    connections: Vec<Arc<Connection>>,
}

struct Connection {
    client: TcpStream,
    server: TcpStream,
    /// Nothing passes any more; both ends stay open.
    is_silent: AtomicBool,
    protocol: Mutex<Protocol>,
}

/// What is known of a connection's conversation.
#[derive(Default)]
struct Protocol {
    /// The next answer is about preparing this statement.
    preparing: Option<String>,
    /// Prepared statements.
    statements: HashMap<[u8; 4], String>,
    /// What becomes of the next answer.
    lose_answer: Option<CommitFault>,
}

/// A proxy on a port of its own.
pub(crate) struct Proxy {
    port: u16,
    state: Arc<Mutex<State>>,
    is_over: Arc<AtomicBool>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Proxy {
    /// One in front of a server's port on this host.
    pub(crate) fn to(server: u16) -> Proxy {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port for the proxy");
        let port = listener.local_addr().expect("a bound port").port();
        let (state, is_over) = (Arc::new(Mutex::new(State::default())), Arc::new(AtomicBool::new(false)));
        let (shared, over) = (Arc::clone(&state), Arc::clone(&is_over));
        thread::spawn(move || {
            for client in listener.incoming() {
                if over.load(Ordering::Relaxed) {
                    return;
                }
                // One that gave up meanwhile, or a server that is away: both are what a proxy sees.
                let (Ok(client), Ok(server)) = (client, TcpStream::connect(("127.0.0.1", server))) else {
                    continue;
                };
                relay(client, server, &shared);
            }
        });
        Proxy { port, state, is_over }
    }

    /// Where it listens.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Holds each piece back for that long from now on.
    pub(crate) fn delay(&self, delay: Duration) {
        locked(&self.state).delay = delay;
    }

    /// Cuts all connections there are.
    pub(crate) fn cut(&self) {
        for connection in locked(&self.state).connections.drain(..) {
            connection.cut();
        }
    }

    /// Lets nothing pass any more on the connections there are; they stay open, and new ones work.
    pub(crate) fn forget(&self) {
        for connection in &locked(&self.state).connections {
            connection.is_silent.store(true, Ordering::Relaxed);
        }
    }

    /// Whether new connections are accepted and then get no answer.
    pub(crate) fn swallow(&self, is_silent: bool) {
        locked(&self.state).is_silent_for_new = is_silent;
    }

    /// Does something to the commit after the next `passed` ones, over all connections.
    pub(crate) fn at_commit(&self, passed: u32, fault: CommitFault) {
        self.at("commit", passed, fault);
    }

    /// The same, to the statement that begins so.
    pub(crate) fn at(&self, beginning: &'static str, passed: u32, fault: CommitFault) {
        let mut state = locked(&self.state);
        (state.at, state.has_struck) = (Some((beginning, passed, fault)), false);
    }

    /// Does nothing to anything from now on; what was left silent is cut.
    pub(crate) fn calm(&self) {
        let mut state = locked(&self.state);
        (state.delay, state.at, state.is_silent_for_new) = (Duration::ZERO, None, false);
        for connection in state.connections.iter().filter(|one| one.is_silent.load(Ordering::Relaxed)) {
            connection.cut();
        }
    }

    /// Whether the statement of [`Proxy::at`] has come.
    pub(crate) fn has_struck(&self) -> bool {
        locked(&self.state).has_struck
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        self.cut();
        // Wakes the thread that accepts; it is gone if this is refused.
        drop(TcpStream::connect(("127.0.0.1", self.port)));
    }
}

impl Connection {
    fn cut(&self) {
        // An end that is gone already is as good as cut.
        drop(self.client.shutdown(Shutdown::Both));
        drop(self.server.shutdown(Shutdown::Both));
    }

    /// The statement that a command of the client's has executed.
    fn executed(&self, command: &[u8]) -> Option<String> {
        let mut protocol = locked(&self.protocol);
        match command.split_first()? {
            (0x03, text) => Some(String::from_utf8_lossy(text).into_owned()),
            (0x16, text) => {
                protocol.preparing = Some(String::from_utf8_lossy(text).into_owned());
                None
            }
            (0x17, rest) => protocol.statements.get(rest.first_chunk()?).cloned(),
            _ => None,
        }
    }

    /// What becomes of an answer; `false` if it must not pass.
    fn hear(&self, answer: &[u8]) -> bool {
        let mut protocol = locked(&self.protocol);
        if let Some(statement) = protocol.preparing.take()
            && let [_, _, _, _, 0, a, b, c, d, ..] = *answer
        {
            protocol.statements.insert([a, b, c, d], statement);
        }
        match protocol.lose_answer {
            None => !self.is_silent.load(Ordering::Relaxed),
            Some(CommitFault::AnswerNever) => {
                self.is_silent.store(true, Ordering::Relaxed);
                false
            }
            Some(_) => {
                self.cut();
                false
            }
        }
    }
}

/// Starts passing on between two ends, in both directions.
fn relay(client: TcpStream, server: TcpStream, state: &Arc<Mutex<State>>) {
    for end in [&client, &server] {
        end.set_nodelay(true).expect("setting TCP_NODELAY");
    }
    let is_silent = AtomicBool::new(locked(state).is_silent_for_new);
    let connection = Arc::new(Connection { client, server, is_silent, protocol: Mutex::default() });
    locked(state).connections.push(Arc::clone(&connection));
    let (back, shared) = (Arc::clone(&connection), Arc::clone(state));
    thread::spawn(move || {
        let mut piece = vec![0; 64 << 10];
        while let Some(count) = next(&back.server, &mut piece) {
            thread::sleep(locked(&shared).delay);
            if back.hear(&piece[..count]) && (&back.client).write_all(&piece[..count]).is_err() {
                break;
            }
        }
        // Where the server ends a conversation that is swallowed, nobody hears of it.
        if !back.is_silent.load(Ordering::Relaxed) {
            back.cut();
        }
    });
    let (there, shared) = (connection, Arc::clone(state));
    thread::spawn(move || {
        forward(&there, &shared);
        there.cut();
        locked(&shared).connections.retain(|other| !Arc::ptr_eq(other, &there));
    });
}

/// Passes on what the client says, packet by packet.
fn forward(there: &Connection, state: &Mutex<State>) {
    let (mut piece, mut said) = (vec![0; 64 << 10], Vec::new());
    while let Some(count) = next(&there.client, &mut piece) {
        said.extend_from_slice(&piece[..count]);
        while let [a, b, c, number, ..] = said[..] {
            let end = 4 + (usize::from(a) | usize::from(b) << 8 | usize::from(c) << 16);
            if said.len() < end {
                break;
            }
            let packet: Vec<u8> = said.drain(..end).collect();
            let executed = if number == 0 { there.executed(&packet[4..]) } else { None };
            let delay = locked(state).delay;
            thread::sleep(delay);
            let fault = executed.and_then(|statement| fault_at(state, &statement));
            let passing = match fault {
                Some(CommitFault::Unsent) => return,
                Some(CommitFault::Half) => &packet[..packet.len() / 2],
                _ => &packet[..],
            };
            locked(&there.protocol).lose_answer = fault;
            if !there.is_silent.load(Ordering::Relaxed) && (&there.server).write_all(passing).is_err() {
                return;
            }
            if fault == Some(CommitFault::Half) {
                return;
            }
        }
    }
}

/// What becomes of a statement.
fn fault_at(state: &Mutex<State>, statement: &str) -> Option<CommitFault> {
    let mut state = locked(state);
    let (beginning, passed, fault) = state.at?;
    if !statement.get(..beginning.len())?.eq_ignore_ascii_case(beginning) {
        return None;
    }
    state.at = if passed > 0 { Some((beginning, passed - 1, fault)) } else { None };
    state.has_struck = passed == 0;
    state.has_struck.then_some(fault)
}

/// The next bytes of a stream, how many; `None` at its end.
fn next(mut stream: &TcpStream, piece: &mut [u8]) -> Option<usize> {
    let began = Instant::now();
    loop {
        match stream.read(piece) {
            Ok(0) => return None,
            Ok(count) => return Some(count),
            Err(err) if err.kind() == ErrorKind::Interrupted && began.elapsed().as_secs() < 60 => {}
            Err(_) => return None,
        }
    }
}
