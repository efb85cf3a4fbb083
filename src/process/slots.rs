//! The host's slots: how many jobs run at once here, over all overlapping ticks.
//!
//! A slot is a lock (`flock`) on a file, and a name that the kernel keeps beside it (an abstract Unix socket), since a folder can
//! be wiped and ticks of one host can be given different ones. Both end with the process that holds them, however that ends.
//! A name that another user has taken counts for nothing; where there are no such names, the lock alone holds.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fd::OwnedFd;
use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, accept, bind, connect, listen, socket_with,
    sockopt::socket_peercred,
};

/// Neither follows a link nor waits for the other end of a FIFO, should one be where a file belongs.
#[expect(clippy::cast_possible_wrap, reason = "the bits are what counts")]
pub(super) const PLAIN_FILE: i32 = OFlags::NOFOLLOW.union(OFlags::NONBLOCK).bits() as i32;

/// The slots that this process holds.
#[derive(Debug)]
pub struct Slots {
    folder: PathBuf,
    names: Names,
    total: usize,
    held: Vec<Slot>,
}

#[derive(Debug)]
struct Slot {
    number: usize,
    _lock: File,
    name: Option<OwnedFd>,
}

/// What the slots of one host, user and database are called.
#[derive(Debug)]
struct Names(String);

impl Slots {
    /// Holds nothing yet, of `total` slots whose files are in `folder`. Ticks of this host and user with the same `key` have them
    /// together, whatever their folders.
    #[must_use]
    pub fn new(folder: &Path, key: &str, total: usize) -> Self {
        Self { folder: folder.to_owned(), names: Names::new(key), total, held: Vec::new() }
    }

    /// How many are held.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held.len()
    }

    /// Takes free slots until `wanted` are held or none is free; returns how many are held.
    ///
    /// # Errors
    ///
    /// When the folder cannot be written.
    pub fn take(&mut self, wanted: usize) -> io::Result<usize> {
        for number in 0..self.total {
            if self.held.len() >= wanted {
                break;
            }
            if self.held.iter().any(|held| held.number == number) {
                continue;
            }
            let path = self.folder.join(format!("slot-{number}"));
            let mut options = OpenOptions::new();
            options.write(true).create(true).truncate(false).mode(0o600).custom_flags(PLAIN_FILE);
            let file = options
                .open(&path)
                .map_err(|err| io::Error::new(err.kind(), format!("`{}`: {err}", path.display())))?;
            if try_lock(&file)?
                && let Some(name) = self.names.take(number)
            {
                self.held.push(Slot { number, _lock: file, name });
            }
        }
        Ok(self.held.len())
    }

    /// Gives back all but `kept`.
    pub fn keep(&mut self, kept: usize) {
        self.held.truncate(kept);
        // Whoever has looked who holds them need not wait at the door.
        for name in self.held.iter().filter_map(|held| held.name.as_ref()) {
            while accept(name).is_ok() {}
        }
    }
}

/// How many of a host's `total` slots are free at this moment, for people: nothing is created. Each is tried for an instant.
#[must_use]
pub fn free(folder: &Path, key: &str, total: usize) -> usize {
    let names = Names::new(key);
    let is_taken = |number: &usize| {
        let file = File::open(folder.join(format!("slot-{number}"))).ok();
        file.is_some_and(|file| matches!(try_lock(&file), Ok(false)))
            || names.address(*number).is_ok_and(|address| is_ours(&address))
    };
    total - (0..total).filter(is_taken).count()
}

impl Names {
    fn new(key: &str) -> Self {
        let (host, user) = (super::host(), rustix::process::geteuid().as_raw());
        Self(format!("duly-{user}-{:016x}-slot-", crate::job::fnv1a(format!("{host}\n{key}").as_bytes())))
    }

    fn address(&self, number: usize) -> Result<SocketAddrUnix, Errno> {
        SocketAddrUnix::new_abstract_name(format!("{}{number}", self.0).as_bytes())
    }

    /// Takes the name of a slot, unless a process of this user has it; `Some(None)` where there is none to be had.
    fn take(&self, number: usize) -> Option<Option<OwnedFd>> {
        let made = || {
            let address = self.address(number)?;
            let name = stream()?;
            bind(&name, &address)?;
            listen(&name, 128)?;
            Ok(name)
        };
        match made() {
            Ok(name) => Some(Some(name)),
            Err(Errno::ADDRINUSE) if self.address(number).is_ok_and(|address| is_ours(&address)) => None,
            Err(err) => {
                log::debug!("slot {number} is held by its lock alone: {err}");
                Some(None)
            }
        }
    }
}

fn stream() -> Result<OwnedFd, Errno> {
    let flags = SocketFlags::CLOEXEC.union(SocketFlags::NONBLOCK);
    socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
}

/// Whether a process of this user has the name. One that has just taken it may not listen yet.
fn is_ours(address: &SocketAddrUnix) -> bool {
    let user_of = || {
        let visit = stream()?;
        connect(&visit, address)?;
        socket_peercred(&visit).map(|peer| peer.uid)
    };
    for _ in 0..3 {
        match user_of() {
            Ok(user) => return user == rustix::process::geteuid(),
            Err(Errno::CONNREFUSED) => std::thread::sleep(std::time::Duration::from_millis(2)),
            Err(_) => return false,
        }
    }
    false
}

/// Locks `file` until it is closed, unless another process has it locked.
///
/// # Errors
///
/// When the file system has no locks.
pub fn try_lock(file: &File) -> io::Result<bool> {
    match flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(err) => Err(err.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_holders_never_have_more_than_there_are() {
        let folder = tempfile::tempdir().unwrap();
        let key = folder.path().to_string_lossy().into_owned();
        let (mut one, mut other) = (Slots::new(folder.path(), &key, 3), Slots::new(folder.path(), &key, 3));
        assert_eq!(one.take(2).unwrap(), 2);
        assert_eq!(free(folder.path(), &key, 3), 1);
        assert_eq!(other.take(3).unwrap(), 1);
        assert_eq!((free(folder.path(), &key, 3), free(&folder.path().join("none"), "none", 3)), (0, 3));
        one.keep(0);
        assert_eq!(other.take(3).unwrap(), 3);
        assert_eq!(one.take(1).unwrap(), 0);
        drop(other);
        assert_eq!(one.take(3).unwrap(), 3);
        // Another folder, or the same one wiped, makes no slots.
        let elsewhere = tempfile::tempdir().unwrap();
        assert_eq!(Slots::new(elsewhere.path(), &key, 4).take(4).unwrap(), 1);
        assert_eq!(free(elsewhere.path(), &key, 3), 0);
    }
}
