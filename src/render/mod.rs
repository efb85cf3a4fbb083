//! The only code that writes to standard output: answers as tables, as JSON, and as text that no terminal obeys.
//!
//! A closed pipe (`duly list | head`) is not an error. Colours appear only on a terminal and never with `NO_COLOR`.

mod exposition;
pub mod json;
mod plain;
mod progress;
pub mod screen;
mod table;

use std::io::{self, IsTerminal as _, Write as _};

pub use crate::job::harmless;
pub use exposition::Exposition;
pub use plain::utc_time;
pub use progress::Progress;
pub use table::{Style, Table};

/// Writes an answer to standard output, and a line end where it lacks one.
///
/// # Errors
///
/// When standard output cannot be written, unless its reader has gone away.
pub fn answer(text: &str) -> anyhow::Result<()> {
    answer_part(text)?;
    if text.is_empty() || text.ends_with('\n') { Ok(()) } else { answer_part("\n") }
}

/// Writes a part of an answer to standard output, as it is.
pub fn answer_part(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    match write!(out, "{text}").and_then(|()| out.flush()) {
        Err(err) if err.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => Ok(written?),
    }
}

/// Standard output, for bytes that are passed on as they come.
#[must_use]
pub fn raw_output() -> Box<dyn io::Write> {
    Box::new(io::stdout())
}

/// Writes bytes to standard output as they are, for a file or another program; a terminal gets them as text that it
/// does not obey.
pub fn pass_on(bytes: &[u8]) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    if out.is_terminal() {
        drop(out);
        return answer_part(&harmless(&String::from_utf8_lossy(bytes)));
    }
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(err) if err.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => Ok(written?),
    }
}

/// Writes a question to standard error, where a person sees it also when the answer goes into a file.
///
/// # Errors
///
/// When standard error cannot be written.
pub fn question(text: &str) -> anyhow::Result<()> {
    let mut out = io::stderr().lock();
    Ok(write!(out, "{text}").and_then(|()| out.flush())?)
}

/// Whether standard output shows colours.
#[must_use]
pub fn has_colours() -> bool {
    io::stdout().is_terminal() && !is_without_colour()
}

/// Whether standard error is a terminal that may be drawn on.
#[must_use]
pub fn has_live_stderr() -> bool {
    io::stderr().is_terminal() && !is_without_colour()
}

fn is_without_colour() -> bool {
    crate::config::is_without_colour()
}
