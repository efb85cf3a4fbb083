//! Asking a command for a list: its standard output as lines, its errors apart, limited in time and size, stopped on request.
//!
//! It ends with the process that asks, however that ends. What is then left in the folder names the runner that asked, and
//! goes when that is dead.

use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use super::clock::wall_seconds;
use super::command::CommandLine;
use super::execute::{End, StartError, start};
use super::ledger::{LISTER, UNFINISHED, is_alive};
use super::stop::Switch;
use crate::job::Outcome;

/// Bytes of an answer at most.
const MOST: u64 = 4 << 20;

/// What a command that was told to stop has time for.
const GRACE: Duration = Duration::from_secs(2);

/// The names of files under way begin so: what was answered, and what was said about errors.
const ANSWER: &str = "answer-";
const ERRORS: &str = "asked-";

/// Who asks, and where the traces are kept meanwhile.
#[derive(Debug, Clone, Copy)]
pub struct Asking<'a> {
    /// The state folder, in which the runner that asks has its ledger.
    pub folder: &'a Path,
    /// The runner.
    pub owner: &'a str,
    /// Tells what it asks for at once apart.
    pub number: u64,
}

/// Runs `command` and returns the lines that it printed on standard output, trimmed, empty ones left out.
///
/// # Errors
///
/// One line that says what went wrong, with what the command said about it.
pub fn lines(
    command: &CommandLine,
    asking: Asking<'_>,
    limit: Duration,
    switch: &Switch,
) -> Result<Vec<String>, String> {
    let mark = format!("{}-{}", asking.owner, asking.number);
    let answer = asking.folder.join(format!("{ANSWER}{mark}"));
    // A shell's redirection without a shell: the command is started by `sh`, its words passed on as they are.
    let mut argv = vec![
        "/bin/sh".to_owned(),
        "-c".to_owned(),
        "exec \"$@\" > \"$DULY_ANSWER\"".to_owned(),
        "sh".to_owned(),
    ];
    argv.extend(command.argv.iter().cloned());
    let mut env = command.env.clone();
    env.insert("DULY_ANSWER".to_owned(), answer.to_string_lossy().into_owned());
    env.insert(LISTER.to_owned(), asking.owner.to_owned());
    let asked = CommandLine { argv, env, ..command.clone() }.bound_to_this_process()?;
    let result = ask(&asked, asking.folder.join(format!("{ERRORS}{mark}.out")), limit, switch)
        .and_then(|()| read(&answer).map_err(|err| format!("its answer cannot be read: {err}")));
    if let Err(err) = std::fs::remove_file(&answer) {
        log::debug!("cannot remove {}: {err}", answer.display());
    }
    result
}

fn ask(
    command: &CommandLine,
    errors: std::path::PathBuf,
    limit: Duration,
    switch: &Switch,
) -> Result<(), String> {
    let running = start(command, errors).map_err(|err| match err {
        StartError::Command(why) => why,
        StartError::Output(err) => err.to_string(),
    })?;
    let end = running.wait(switch, Some(limit), GRACE).map_err(|err| err.to_string())?;
    match end {
        End::Outcome(Outcome::Success) => Ok(()),
        End::Outcome(outcome) => {
            let said =
                running.output.captured(1024).ok().flatten().map_or_else(String::new, |said| said.text);
            Err(format!("it {outcome}: {}", said.trim()))
        }
        End::LeaseLost => Err("it was stopped".to_owned()),
    }
}

fn read(answer: &Path) -> std::io::Result<Vec<String>> {
    let mut bytes = Vec::new();
    std::fs::File::open(answer)?.take(MOST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MOST {
        return Err(std::io::Error::other(format!("it is longer than {MOST} bytes")));
    }
    let text = crate::job::escape(&bytes);
    Ok(text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect())
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
