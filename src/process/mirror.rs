//! The file that what a command prints is copied to, so that it is there though its runner is not: as long as all that was printed,
//! with a hole in the place of its middle, so that it takes little more than what is kept. Trouble with it ends the copy, never the
//! command.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, fallocate};

use super::capture::{Captured, fit};

/// Bytes between two holes at least.
const STRIDE: u64 = 1 << 20;

/// Holes begin and end at multiples of this.
const BLOCK: u64 = 4096;

/// The file of one execution; removed when dropped.
#[derive(Debug)]
pub struct Mirror {
    path: PathBuf,
    /// `None` once there was trouble with it.
    file: Option<File>,
    length: u64,
    /// Up to where there is a hole.
    punched: u64,
}

impl Mirror {
    /// Creates the file, readable by its owner only; one that is there already, of a database that is no more, goes.
    ///
    /// # Errors
    ///
    /// When the folder cannot be written.
    pub fn create(path: PathBuf) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true).mode(0o600);
        let file = match options.open(&path) {
            Err(err) if err.kind() == io::ErrorKind::AlreadyExists => {
                std::fs::remove_file(&path)?;
                options.open(&path)
            }
            opened => opened,
        }?;
        Ok(Self { path, file: Some(file), length: 0, punched: 0 })
    }

    /// Copies what was printed, of which about `limit` bytes are kept.
    pub(super) fn append(&mut self, bytes: &[u8], limit: u64) {
        let Some(file) = &self.file else { return };
        let mut copied = file.write_all_at(bytes, self.length);
        self.length += bytes.len() as u64;
        let from = self.punched.max(limit / 2).next_multiple_of(BLOCK);
        let to = self.length.saturating_sub(limit / 2) / BLOCK * BLOCK;
        if copied.is_ok() && to.saturating_sub(from) >= STRIDE.max(limit / 2) {
            let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            copied = fallocate(file, flags, from, to - from).map_err(io::Error::from);
            self.punched = to;
        }
        if let Err(err) = copied {
            log::info!(
                "output is kept in memory alone, since {} cannot be written: {err}",
                self.path.display()
            );
            self.file = None;
        }
    }
}

impl Drop for Mirror {
    fn drop(&mut self) {
        if let Err(err) = std::fs::remove_file(&self.path) {
            log::debug!("cannot remove {}: {err}", self.path.display());
        }
    }
}

/// Head and tail of the output file of a runner that died.
#[must_use]
pub fn salvage(path: &Path, limit: u64) -> Option<Captured> {
    let file = File::open(path).ok()?;
    read_ends(&file, limit).ok()?
}

fn read_ends(file: &File, limit: u64) -> io::Result<Option<Captured>> {
    let length = file.metadata()?.len();
    if length == 0 {
        return Ok(None);
    }
    if length <= limit {
        return Ok(Some(fit(&read_at(file, 0, length)?, &[], 0, limit)));
    }
    let half = limit / 2;
    let head = read_at(file, 0, half)?;
    let tail = read_at(file, length - half, half)?;
    Ok(Some(fit(&head, &tail, length - 2 * half, limit)))
}

fn read_at(file: &File, from: u64, length: u64) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
    let mut filled = 0;
    while filled < bytes.len() {
        match file.read_at(&mut bytes[filled..], from + filled as u64)? {
            0 => break,
            count => filled += count,
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn the_file_takes_little_however_much_is_printed_and_head_and_tail_are_in_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("1-1.out");
        let mut mirror = Mirror::create(path.clone()).unwrap();
        let text: String = (0..4_000_000).map(|n| format!("{n}\n")).collect();
        text.as_bytes().chunks(65_536).for_each(|chunk| mirror.append(chunk, 100_000));
        let found = path.metadata().unwrap();
        assert!(found.len() == text.len() as u64 && found.blocks() * 512 < 3 << 20, "{}", found.blocks());
        let kept = salvage(&path, 100_000).unwrap();
        assert!(kept.text.starts_with("0\n1\n") && kept.text.ends_with("3999998\n3999999\n"));
        assert_eq!(kept.missing, text.len() as u64 - 100_000);
        drop(mirror);
        assert!(!path.exists());
    }
}
