//! Which jobs.yaml was read: since when it has been in its place, and whether it is still what is there.
//!
//! A file is put in its place by being written, renamed or linked there, or by a link on the way to it being made. All of that
//! changes the inode of the file or of the link, and nobody can set the time of such a change.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io::{Error, Result};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use chrono::{DateTime, Utc};

use crate::job::fnv1a;

/// Links followed at most, as the kernel does.
const LINKS: usize = 40;

/// What tells one file from another without reading it: device, inode, bytes, and both its times in nanoseconds.
type Look = (u64, u64, u64, [i64; 4]);

/// The jobs.yaml that was read.
#[derive(Debug)]
pub struct Stamp {
    path: PathBuf,
    text: u64,
    since: DateTime<Utc>,
    look: Mutex<Option<Look>>,
}

impl Stamp {
    /// Of the file at `path`, an absolute path, which held `text` just now.
    pub(super) fn new(path: &Path, text: &str) -> Self {
        // One that has gone meanwhile is no longer current anyway.
        let since = in_place_since(path).unwrap_or_default();
        Self { path: path.to_owned(), text: fnv1a(text.as_bytes()), since, look: Mutex::new(None) }
    }

    /// When the file was put in its place, by the host's clock.
    #[must_use]
    pub fn since(&self) -> DateTime<Utc> {
        self.since
    }

    /// Whether the same text is still there. Reads the file only when it was touched.
    #[must_use]
    pub fn is_current(&self) -> bool {
        let Ok(found) = look(&self.path) else { return false };
        let mut look = self.look.lock().unwrap_or_else(PoisonError::into_inner);
        if *look == Some(found) {
            return true;
        }
        let is_same = std::fs::read(&self.path).is_ok_and(|bytes| fnv1a(&bytes) == self.text);
        *look = is_same.then_some(found);
        is_same
    }
}

fn look(path: &Path) -> Result<Look> {
    let found = path.metadata()?;
    let times = [found.mtime(), found.mtime_nsec(), found.ctime(), found.ctime_nsec()];
    Ok((found.dev(), found.ino(), found.len(), times))
}

/// The latest change of the file, and of the links on the way to it.
fn in_place_since(path: &Path) -> Result<DateTime<Utc>> {
    let words = |path: &Path| path.components().map(|part| part.as_os_str().to_owned()).collect();
    let mut rest: VecDeque<OsString> = words(path);
    let (mut at, mut latest, mut links) = (PathBuf::new(), None, 0);
    while let Some(word) = rest.pop_front() {
        if Path::new(&word).components().next() == Some(Component::ParentDir) {
            at.pop();
            continue;
        }
        at.push(&word);
        let found = at.symlink_metadata()?;
        if found.is_symlink() {
            links += 1;
            if links > LINKS {
                return Err(Error::from(std::io::ErrorKind::InvalidInput));
            }
            let to: VecDeque<OsString> = words(&at.read_link()?);
            at.pop();
            rest = to.into_iter().chain(rest).collect();
        } else if !rest.is_empty() {
            continue;
        }
        latest = latest.max(changed(&found));
    }
    latest.ok_or_else(|| Error::from(std::io::ErrorKind::InvalidInput))
}

fn changed(found: &std::fs::Metadata) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp(found.ctime(), u32::try_from(found.ctime_nsec()).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_file_is_current_until_another_text_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("jobs.yaml");
        std::fs::write(&path, "jobs: {}").unwrap();
        let stamp = Stamp::new(&path, "jobs: {}");
        assert!(stamp.is_current());
        // Touched, or written again with the same text.
        std::fs::write(&path, "jobs: {}").unwrap();
        assert!(stamp.is_current());
        std::fs::write(folder.path().join("other"), "jobs:  {}").unwrap();
        std::fs::rename(folder.path().join("other"), &path).unwrap();
        assert!(!stamp.is_current());
        std::fs::write(&path, "jobs: {}").unwrap();
        assert!(stamp.is_current());
        std::fs::remove_file(&path).unwrap();
        assert!(!stamp.is_current());
    }

    #[test]
    fn a_release_is_in_place_since_its_link_was_made() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for release in ["1", "2"] {
            std::fs::create_dir(at(release)).unwrap();
            std::fs::write(at(release).join("jobs.yaml"), release).unwrap();
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        let path = at("current").join("jobs.yaml");
        let mut since = Vec::new();
        for release in ["1", "2", "1"] {
            symlink(release, at("next")).unwrap();
            std::fs::rename(at("next"), at("current")).unwrap();
            since.push(Stamp::new(&path, release).since());
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        assert!(since.is_sorted_by(|a, b| a < b), "{since:?}");
        assert!(Stamp::new(&at("2").join("jobs.yaml"), "2").since() < since[0]);
        symlink("loop", at("loop")).unwrap();
        assert!(in_place_since(&at("loop")).is_err());
    }
}
