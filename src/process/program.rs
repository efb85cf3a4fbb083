//! The file of this program: where it is, and whether another one was put in its place since this process began.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

/// What the kernel puts after the path of a program whose file was removed or replaced.
const REPLACED: &str = " (deleted)";

/// The path of this program, for starting it again. Where it was replaced since, that is what is there now.
///
/// # Errors
///
/// When the kernel does not tell.
pub fn own_program() -> Result<String, String> {
    let program = std::env::current_exe().map_err(|err| format!("cannot find duly itself: {err}"))?;
    let path = program.to_string_lossy();
    Ok(match path.strip_suffix(REPLACED) {
        Some(before) if !program.exists() => before.to_owned(),
        _ => path.into_owned(),
    })
}

/// A file as it was: its device, its number, and when it was last changed, in seconds and nanoseconds.
type Stamp = (u64, u64, i64, i64);

/// The file that a process was started from.
#[derive(Debug, Clone)]
pub struct ProgramFile {
    path: String,
    seen: Option<Stamp>,
}

impl ProgramFile {
    /// The file at `path`, which is taken to be what this process runs.
    #[must_use]
    pub fn new(path: &str) -> Self {
        Self { path: path.to_owned(), seen: stamp(path) }
    }

    /// Whether another file is there now, which has not been tried yet.
    #[must_use]
    pub fn is_replaced(&self) -> bool {
        let now = stamp(&self.path);
        now.is_some() && now != self.seen
    }

    /// Whether what is there now works at all: it may be for another machine, or lack a library. It is not said to be
    /// replaced again before it is another one.
    ///
    /// # Errors
    ///
    /// Why it does not.
    pub fn try_it(&mut self) -> Result<(), String> {
        self.seen = stamp(&self.path);
        #[expect(clippy::disallowed_methods, reason = "this is src/process")]
        let mut command = Command::new(&self.path);
        let tried = command.arg("--version").stdin(Stdio::null()).output().map_err(|err| err.to_string())?;
        if tried.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&tried.stderr);
        Err(format!("`--version`: {}: {}", tried.status, said.lines().next().unwrap_or("no word")))
    }

    /// Becomes it: the same process, arguments and environment. Only a failure comes back.
    #[must_use]
    pub fn become_it(&self) -> io::Error {
        #[expect(clippy::disallowed_methods, reason = "this is src/process")]
        Command::new(&self.path).args(std::env::args_os().skip(1)).exec()
    }
}

fn stamp(path: &str) -> Option<Stamp> {
    let found = fs::metadata(path).ok()?;
    Some((found.dev(), found.ino(), found.mtime(), found.mtime_nsec()))
}
