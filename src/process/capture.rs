//! What a command prints: a file while it runs, and the head and tail of that file for the record.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, fallocate};

use crate::job::escape;

/// The head and tail of what was printed, as UTF-8.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Captured {
    /// Head and tail, with a line between them that tells how much is missing.
    pub text: String,
    /// How many bytes are missing.
    pub missing: u64,
}

/// The output file of one execution; removed when dropped.
#[derive(Debug)]
pub struct OutputFile {
    path: PathBuf,
    file: File,
}

impl OutputFile {
    /// Creates the file, readable by its owner only; one that is there already, of a database that is no more, goes.
    ///
    /// # Errors
    ///
    /// When the folder cannot be written.
    pub fn create(path: PathBuf) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.read(true).append(true).create_new(true).mode(0o600);
        let file = match options.open(&path) {
            Err(err) if err.kind() == io::ErrorKind::AlreadyExists => {
                std::fs::remove_file(&path)?;
                options.open(&path)
            }
            opened => opened,
        }?;
        Ok(Self { path, file })
    }

    /// Takes its name away, so that nothing is left of it whatever becomes of this process.
    pub fn unlink(&self) {
        if let Err(err) = std::fs::remove_file(&self.path) {
            log::debug!("cannot remove {}: {err}", self.path.display());
        }
    }

    /// Another handle on it, for a child's standard output.
    pub(super) fn handle(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    /// Reads at most about `limit` bytes: the first and the last half. `None` where nothing was printed.
    ///
    /// # Errors
    ///
    /// When the file cannot be read.
    pub fn captured(&self, limit: u64) -> io::Result<Option<Captured>> {
        read_ends(&self.file, limit)
    }
}

impl Drop for OutputFile {
    fn drop(&mut self) {
        self.unlink();
    }
}

/// Reads an output file that a command is writing.
#[derive(Debug)]
pub struct OutputReader {
    file: File,
}

impl OutputReader {
    /// Opens the file at `path`.
    ///
    /// # Errors
    ///
    /// When it is not there, for one: nothing runs yet, or no more.
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { file: File::open(path)? })
    }

    /// What was printed from byte `from` on, for showing it as it comes.
    ///
    /// # Errors
    ///
    /// When the file cannot be read.
    pub fn bytes_from(&mut self, from: u64) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.file.seek(SeekFrom::Start(from))?;
        (&self.file).take(1 << 20).read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

/// Gives the disk or memory back that the middle of a long output takes.
pub fn punch_out_middle(path: &Path, limit: u64) {
    let punched = OpenOptions::new().write(true).open(path).and_then(|file| {
        let length = file.metadata()?.len();
        let (from, to) = (limit.next_multiple_of(4096), length.saturating_sub(limit) / 4096 * 4096);
        if to <= from.saturating_mul(4) {
            return Ok(());
        }
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        Ok(fallocate(&file, flags, from, to - from)?)
    });
    if let Err(err) = punched {
        log::debug!("cannot shorten {}: {err}", path.display());
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

/// Escaping can make bytes four times as long: cut again, so that the stored text stays near the limit.
fn fit(head: &[u8], tail: &[u8], between: u64, limit: u64) -> Captured {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let (start, end) = (escape(head), escape(tail));
    let mut missing = between;
    if start.len() + end.len() <= limit && between == 0 {
        return Captured { text: start, missing: 0 };
    }
    let half = limit / 2;
    let (start, end) = if tail.is_empty() && start.len() > limit {
        let cut = floor_boundary(&start, start.len() - half);
        (start[..floor_boundary(&start, half)].to_owned(), start[cut..].to_owned())
    } else {
        let cut = end.len().saturating_sub(half);
        (start[..floor_boundary(&start, half)].to_owned(), end[floor_boundary(&end, cut)..].to_owned())
    };
    let kept = start.len() + end.len();
    let whole = escape(head).len() + escape(tail).len();
    missing += (whole - kept.min(whole)) as u64;
    Captured { text: format!("{start}\n… {missing} bytes left out …\n{end}"), missing }
}

fn floor_boundary(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Write;

    fn captured(bytes: &[u8], limit: u64) -> Option<Captured> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        read_ends(&file, limit).unwrap()
    }

    #[test]
    fn what_fits_is_kept_as_it_is() {
        assert_eq!(captured(b"", 100), None);
        let text = "grüße\n";
        assert_eq!(captured(text.as_bytes(), 100), Some(Captured { text: text.into(), missing: 0 }));
    }

    #[test]
    fn of_a_long_output_head_and_tail_are_kept_and_the_loss_is_told() {
        let long: String = (0..10_000).map(|n| format!("line {n}\n")).collect();
        let kept = captured(long.as_bytes(), 2048).unwrap();
        assert!(kept.text.starts_with("line 0\nline 1\n") && kept.text.ends_with("line 9999\n"));
        assert_eq!(kept.missing, long.len() as u64 - 2048);
        assert!(kept.text.contains(&format!("… {} bytes left out …", kept.missing)));
    }

    proptest! {
        #[test]
        fn any_bytes_become_text_near_the_limit(bytes in proptest::collection::vec(any::<u8>(), 0..5000), limit in 64u64..4096) {
            if let Some(kept) = captured(&bytes, limit) {
                prop_assert!(kept.text.len() as u64 <= limit + 64);
                prop_assert!(!kept.text.contains('\0'));
            } else {
                prop_assert!(bytes.is_empty());
            }
        }
    }
}
