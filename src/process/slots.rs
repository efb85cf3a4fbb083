//! The host's slots: how many jobs run at once here, over all overlapping ticks.
//!
//! A slot is a lock (`flock`) on a file; it ends with the process that holds it, however that ends.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, OFlags, flock};

/// Neither follows a link nor waits for the other end of a FIFO, should one be where a file belongs.
#[expect(clippy::cast_possible_wrap, reason = "the bits are what counts")]
pub(super) const PLAIN_FILE: i32 = OFlags::NOFOLLOW.union(OFlags::NONBLOCK).bits() as i32;

/// The slots that this process holds.
#[derive(Debug)]
pub struct Slots {
    folder: PathBuf,
    total: usize,
    held: Vec<(usize, File)>,
}

impl Slots {
    /// Holds nothing yet, of `total` slots whose files are in `folder`.
    #[must_use]
    pub fn new(folder: &Path, total: usize) -> Self {
        Self { folder: folder.to_owned(), total, held: Vec::new() }
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
            if self.held.iter().any(|(held, _)| *held == number) {
                continue;
            }
            let path = self.folder.join(format!("slot-{number}"));
            let mut options = OpenOptions::new();
            options.write(true).create(true).truncate(false).mode(0o600).custom_flags(PLAIN_FILE);
            let file = options
                .open(&path)
                .map_err(|err| io::Error::new(err.kind(), format!("`{}`: {err}", path.display())))?;
            if try_lock(&file)? {
                self.held.push((number, file));
            }
        }
        Ok(self.held.len())
    }

    /// Gives back all but `kept`.
    pub fn keep(&mut self, kept: usize) {
        self.held.truncate(kept);
    }
}

/// How many of a host's `total` slots are free at this moment, for people: nothing is created. Each is tried for an instant.
#[must_use]
pub fn free(folder: &Path, total: usize) -> usize {
    let is_taken = |number: &usize| {
        let file = File::open(folder.join(format!("slot-{number}"))).ok();
        file.is_some_and(|file| matches!(try_lock(&file), Ok(false)))
    };
    total - (0..total).filter(is_taken).count()
}

/// Locks `file` until it is closed, unless another process has it locked.
///
/// # Errors
///
/// When the file system has no locks.
pub fn try_lock(file: &File) -> io::Result<bool> {
    match flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(false),
        Err(err) => Err(err.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_holders_never_have_more_than_there_are() {
        let folder = tempfile::tempdir().unwrap();
        let (mut one, mut other) = (Slots::new(folder.path(), 3), Slots::new(folder.path(), 3));
        assert_eq!(one.take(2).unwrap(), 2);
        assert_eq!(free(folder.path(), 3), 1);
        assert_eq!(other.take(3).unwrap(), 1);
        assert_eq!((free(folder.path(), 3), free(&folder.path().join("none"), 3)), (0, 3));
        one.keep(0);
        assert_eq!(other.take(3).unwrap(), 3);
        assert_eq!(one.take(1).unwrap(), 0);
        drop(other);
        assert_eq!(one.take(3).unwrap(), 3);
    }
}
