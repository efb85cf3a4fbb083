//! Asking a command for a list: its standard output as lines, its errors apart, limited in time and size, stopped on request.
//!
//! It ends with the process that asks, however that ends. Nothing is written anywhere.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use super::capture::Capture;
use super::clock::wall_seconds;
use super::command::CommandLine;
use super::execute::{End, StartError, start};
use super::ledger::{LISTER, UNFINISHED, is_alive};
use super::pipe::Printed;
use super::stop::Switch;
use crate::job::Outcome;

/// Bytes of an answer at most.
const MOST: u64 = 4 << 20;

/// What a command that was told to stop has time for.
const GRACE: Duration = Duration::from_secs(2);

/// Bytes of what it says that are told where it fails.
const SAID: u64 = 1024;

/// The names of files under way begin so, which older versions make: what was answered, and what was said about errors.
const ANSWER: &str = "answer-";
const ERRORS: &str = "asked-";

/// Runs `command` and returns the lines that it printed on standard output, trimmed, empty ones left out.
///
/// # Errors
///
/// One line that says what went wrong, with what the command said about it.
pub fn lines(
    command: &CommandLine,
    owner: &str,
    limit: Duration,
    switch: &Switch,
) -> Result<Vec<String>, String> {
    let mut env = command.env.clone();
    env.insert(LISTER.to_owned(), owner.to_owned());
    let asked = CommandLine { env, ..command.clone() }.bound_to_this_process()?;
    let printed = Printed::apart(Capture::in_memory(SAID), Capture::in_memory(MOST), false);
    let running = start(&asked, printed.clone()).map_err(|err| match err {
        StartError::Command(why) => why,
        StartError::Host(err) => err.to_string(),
    })?;
    let text = |capture: &Capture| capture.captured().map_or_else(String::new, |captured| captured.text);
    match running.wait(switch, Some(limit), GRACE).map_err(|err| err.to_string())? {
        End::Outcome(Outcome::Success) => {}
        End::Outcome(outcome) => return Err(format!("it {outcome}: {}", text(&printed.record).trim())),
        End::LeaseLost => return Err("it was stopped".to_owned()),
    }
    let Some(answer) = printed.answer.and_then(|answer| answer.captured()) else { return Ok(Vec::new()) };
    if answer.missing > 0 {
        return Err(format!("its answer cannot be read: it is longer than {MOST} bytes"));
    }
    Ok(answer.text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect())
}

/// Removes what runners have left that died while they asked. What names no runner is of an older version, and was left when
/// it is older than asking takes.
pub fn remove_left(folder: &Path) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let Some(mark) = name.strip_prefix(ANSWER).or_else(|| name.strip_prefix(ERRORS)) else { continue };
        let owner = mark.split('-').next().unwrap_or_default();
        let is_left = if owner.len() == 32 {
            is_alive(folder, owner) != Some(true)
        } else {
            let written = entry.metadata().map_or(i64::MAX, |found| found.mtime());
            wall_seconds().saturating_sub(written) > UNFINISHED
        };
        if is_left && std::fs::remove_file(entry.path()).is_ok() {
            log::debug!("removed {}, whose runner is gone", entry.path().display());
        }
    }
}
