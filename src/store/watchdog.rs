//! A time limit for what is asked of a MySQL server: the client libraries wait for an answer for ever.
//!
//! A server that is cut off, a proxy that forgot a connection, or a Galera node that keeps an aborted one without ever
//! answering it would hold its caller up until TCP gives up, if at all. So each statement of a [`Watched`] connection, and
//! each connecting, has a limit. A thread looks twice a second for what is past it and shuts the socket down: the library
//! then reports a lost connection, which whoever waits can deal with. The socket stays the library's own; it is not closed
//! here. Which one it is, is found out by comparing what this process has open before and after connecting.
//!
//! Where a connection has a [`Doubt`], a statement that takes long is also doubted long before its limit.
//!
//! What the server makes of a statement that nobody waits for any more is not known: it may still be carried out.

use std::fs;
use std::os::fd::RawFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{Shutdown, SockaddrStorage, getpeername, shutdown};

/// How often the thread looks.
const EVERY: Duration = Duration::from_millis(500);

/// How long a statement takes before it is doubted, and until it is doubted again.
const DOUBTED: Duration = Duration::from_secs(2);

/// How long connecting may take, at most.
const CONNECT: Duration = Duration::from_secs(10);

/// A socket of this process; the kernel never gives two the same name.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Socket {
    fd: RawFd,
    name: PathBuf,
}

/// What is waited for, and until when.
#[derive(Debug)]
enum Awaited {
    /// An answer through a socket that is known.
    Answer(Socket),
    /// A connection to a server at this port or at a path, by a socket that was not there before.
    Connection(u16, Vec<Socket>),
}

/// Asks whether the server has nothing left to do for a connection, although this side waits for its answer.
pub(super) type Doubt = Box<dyn Fn() -> bool + Send + Sync>;

struct Watch {
    awaited: Awaited,
    /// In milliseconds of [`since_start`]; 0: nothing is waited for.
    deadline: AtomicU64,
    /// The same of when it is doubted next.
    doubted_at: AtomicU64,
    doubt: OnceLock<Doubt>,
    /// Why it was cut; 0: it was not.
    cut: AtomicU8,
}

const LATE: u8 = 1;
const UNANSWERED: u8 = 2;

/// A connection whose statements have a limit.
pub(super) struct Watched {
    /// `None` where its socket could not be told from others.
    watch: Option<Arc<Watch>>,
    pub(super) limit: Option<Duration>,
}

/// While it lives, the clock runs for one statement.
#[must_use]
pub(super) struct Running {
    watch: Option<Arc<Watch>>,
    limit: Duration,
}

/// Connects by `establish`, within a limit, to a server at `port` or at a path of this host; gives whatever it gives, and
/// the watch over the new connection.
///
/// Several at once take turns. The error's text says so if the limit was passed.
pub(super) fn connect<T>(
    port: u16,
    limit: Option<Duration>,
    establish: impl FnOnce() -> Result<T, String>,
) -> Result<(T, Watched), String> {
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = locked(&TURN);
    let before = sockets();
    let most = limit.map_or(CONNECT, |limit| limit.min(CONNECT));
    let connecting = watch(Awaited::Connection(port, before.clone()));
    let running = connecting.as_ref().map(|watch| watch.run(most));
    let established = establish();
    drop(running);
    let connection = established.map_err(|err| {
        if connecting.is_some_and(|watch| watch.cut.load(Ordering::Acquire) != 0) {
            format!("the server took longer than {most:?} to accept a connection ({err})")
        } else {
            err
        }
    })?;
    let mut new = candidates(port, &before, false);
    let socket = if new.len() == 1 { new.pop() } else { None };
    if socket.is_none() {
        log::debug!("the socket of a connection is not known: its statements have no limit");
    }
    Ok((connection, Watched { watch: socket.and_then(|socket| watch(Awaited::Answer(socket))), limit }))
}

impl Watched {
    /// Starts the clock for one statement.
    pub(super) fn run(&self) -> Running {
        match (&self.watch, self.limit) {
            (Some(watch), Some(limit)) => watch.run(limit),
            _ => Running { watch: None, limit: Duration::MAX },
        }
    }

    /// Has statements doubted from the next one on, for good.
    pub(super) fn doubt(&self, doubt: Doubt) {
        if let Some(watch) = &self.watch {
            // A second one would ask the same.
            drop(watch.doubt.set(doubt));
        }
    }

    /// Whether it was cut because the server had nothing left to do.
    pub(super) fn is_unanswered(&self) -> bool {
        self.watch.as_ref().is_some_and(|watch| watch.cut.load(Ordering::Acquire) == UNANSWERED)
    }
}

impl Running {
    /// What to say of the connection if its limit was passed.
    pub(super) fn passed(&self) -> Option<String> {
        let limit = self.limit;
        match self.watch.as_ref()?.cut.load(Ordering::Acquire) {
            0 => None,
            UNANSWERED => Some(
                "the server owes an answer that it will never give; the connection was given up".to_owned(),
            ),
            _ => Some(format!("the server gave no answer within {limit:?}, and the connection was given up")),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(watch) = &self.watch {
            watch.deadline.store(0, Ordering::Release);
        }
    }
}

impl Watch {
    fn run(self: &Arc<Self>, limit: Duration) -> Running {
        let now = since_start();
        self.doubted_at.store(now + millis(DOUBTED), Ordering::Release);
        self.deadline.store(now.saturating_add(millis(limit)).max(1), Ordering::Release);
        Running { watch: Some(Arc::clone(self)), limit }
    }

    /// Ends what has waited too long, and doubts what has waited long. Whoever waits holds the socket open meanwhile.
    fn look(self: Arc<Self>) {
        let (now, deadline) = (since_start(), self.deadline.load(Ordering::Acquire));
        if deadline == 0 {
            return;
        }
        if now >= deadline {
            self.cut(LATE);
        } else if self.doubt.get().is_some() && now >= self.doubted_at.load(Ordering::Acquire) {
            self.doubted_at.store(now + millis(DOUBTED), Ordering::Release);
            // It asks the server, which may take as long as it likes.
            let thread = std::thread::Builder::new().spawn(move || self.ask(deadline));
            if let Err(err) = thread {
                log::debug!("cannot start a thread that asks what the server is doing: {err}");
            }
        }
    }

    /// Cuts the connection if its server says twice that it has nothing to do, while the same statement is waited for.
    fn ask(&self, deadline: u64) {
        let Some(doubt) = self.doubt.get() else { return };
        if doubt() {
            // An answer that is on its way comes meanwhile.
            std::thread::sleep(EVERY);
            if doubt() && self.deadline.load(Ordering::Acquire) == deadline {
                self.cut(UNANSWERED);
            }
        }
    }

    fn cut(&self, why: u8) {
        self.cut.store(why, Ordering::Release);
        let late = match &self.awaited {
            Awaited::Answer(socket) => vec![socket.clone()],
            Awaited::Connection(port, before) => candidates(*port, before, true),
        };
        for socket in late.into_iter().filter(Socket::is_there) {
            if let Err(errno) = shutdown(socket.fd, Shutdown::Both) {
                log::debug!("shutting {} down: {errno}", socket.name.display());
            }
        }
    }
}

impl Socket {
    /// Whether the number still stands for it.
    fn is_there(&self) -> bool {
        fs::read_link(format!("/proc/self/fd/{}", self.fd)).is_ok_and(|name| name == self.name)
    }

    /// Whether it leads to that port or to a path, or, if `or_nowhere`, has not got anywhere yet.
    fn leads_to(&self, port: u16, or_nowhere: bool) -> bool {
        let there: SockaddrStorage = match getpeername(self.fd) {
            Ok(there) => there,
            Err(errno) => return or_nowhere && errno == Errno::ENOTCONN,
        };
        let v4 = there.as_sockaddr_in().map(|at| at.port());
        let of_tcp = v4.or(there.as_sockaddr_in6().map(|at| at.port()));
        // One without a name is half of a pair within this process.
        of_tcp == Some(port) || there.as_unix_addr().is_some_and(|at| at.path().is_some())
    }
}

/// The sockets that this process has open.
fn sockets() -> Vec<Socket> {
    let Ok(entries) = fs::read_dir("/proc/self/fd") else { return Vec::new() };
    let number = |entry: &fs::DirEntry| entry.file_name().to_str()?.parse().ok();
    entries
        .flatten()
        .filter_map(|entry| Some(Socket { fd: number(&entry)?, name: fs::read_link(entry.path()).ok()? }))
        .filter(|socket| socket.name.as_os_str().as_encoded_bytes().starts_with(b"socket:"))
        .collect()
}

/// Sockets that were not there before and may be the one of a connection to `port`.
fn candidates(port: u16, before: &[Socket], or_nowhere: bool) -> Vec<Socket> {
    let is_new = |socket: &Socket| before.iter().all(|old| old.name != socket.name);
    sockets().into_iter().filter(|socket| is_new(socket) && socket.leads_to(port, or_nowhere)).collect()
}

/// Has the thread, which is started if need be, look after something; `None` where no thread can be had.
fn watch(awaited: Awaited) -> Option<Arc<Watch>> {
    static WATCHES: Mutex<Vec<Weak<Watch>>> = Mutex::new(Vec::new());
    static THREAD: OnceLock<bool> = OnceLock::new();
    let is_looked_after = *THREAD.get_or_init(|| {
        let thread = std::thread::Builder::new().name("watchdog".to_owned()).stack_size(128 << 10);
        let started = thread.spawn(|| {
            loop {
                std::thread::sleep(EVERY);
                let watches: Vec<Arc<Watch>> = locked(&WATCHES).iter().filter_map(Weak::upgrade).collect();
                watches.into_iter().for_each(Watch::look);
            }
        });
        if let Err(err) = &started {
            log::warn!("cannot start a thread, so statements have no time limit: {err}");
        }
        started.is_ok()
    });
    let watch = Arc::new(Watch {
        awaited,
        deadline: AtomicU64::new(0),
        doubted_at: AtomicU64::new(0),
        doubt: OnceLock::new(),
        cut: AtomicU8::new(0),
    });
    let mut watches = locked(&WATCHES);
    watches.retain(|watch| watch.strong_count() > 0);
    watches.push(Arc::downgrade(&watch));
    is_looked_after.then_some(Arc::clone(&watch))
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn millis(length: Duration) -> u64 {
    u64::try_from(length.as_millis()).unwrap_or(u64::MAX)
}

/// Milliseconds on a clock of this process's own.
fn since_start() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    millis(START.get_or_init(Instant::now).elapsed())
}
