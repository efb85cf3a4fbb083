//! The ports of the servers of this process.

use std::net::TcpListener;
use std::ops::Range;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::sync::{Mutex, OnceLock, PoisonError};

/// A port nobody listens on, below those that the kernel hands out to clients, so that it is still free after a restart;
/// never the same twice, so that a server that is away for a while finds its own again.
pub(super) fn free_port() -> u16 {
    free_ports(1)
}

/// The first of `count` such ports in a row.
pub(super) fn free_ports(count: u16) -> u16 {
    static USED: Mutex<u16> = Mutex::new(0);
    let mut used = USED.lock().unwrap_or_else(PoisonError::into_inner);
    let own = own_ports();
    let is_free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
    let port = (own.start.max(*used + 1)..own.end - count)
        .find(|port| (*port..port + count).all(is_free))
        .expect("a free port");
    *used = port + count - 1;
    port
}

/// Ports for this process alone, however many processes run tests: each holds a name among the abstract sockets for its own,
/// and whoever looks for a port asks for the name first. The kernel takes it back with the process.
fn own_ports() -> Range<u16> {
    static OWN: OnceLock<(UnixListener, u16)> = OnceLock::new();
    let (_, first) = OWN.get_or_init(|| {
        let own = (15_000..32_000).step_by(1_000).find_map(|first| {
            let name = SocketAddr::from_abstract_name(format!("duly-test-ports-{first}"));
            Some((UnixListener::bind_addr(&name.expect("a short name")).ok()?, first))
        });
        own.expect("fewer than 17 processes that run tests")
    });
    *first..first + 1_000
}
