//! Asking a command for a list: its standard output as lines, its errors apart, limited in time and size.

use std::io::Read as _;
use std::path::Path;
use std::time::Duration;

use super::command::CommandLine;
use super::execute::{End, StartError, start};
use super::stop::Switch;
use crate::job::Outcome;

/// Bytes of an answer at most.
const MOST: u64 = 4 << 20;

/// Runs `command` and returns the lines that it printed on standard output, trimmed, empty ones left out.
///
/// Its traces are kept in `folder` while it runs, under `mark`.
///
/// # Errors
///
/// One line that says what went wrong, with what the command said about it.
pub fn lines(
    command: &CommandLine,
    folder: &Path,
    mark: &str,
    limit: Duration,
) -> Result<Vec<String>, String> {
    let answer = folder.join(format!("answer-{mark}"));
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
    let asked = CommandLine { argv, env, ..command.clone() };
    let result = ask(&asked, folder.join(format!("asked-{mark}.out")), limit)
        .and_then(|()| read(&answer).map_err(|err| format!("its answer cannot be read: {err}")));
    if let Err(err) = std::fs::remove_file(&answer) {
        log::debug!("cannot remove {}: {err}", answer.display());
    }
    result
}

fn ask(command: &CommandLine, errors: std::path::PathBuf, limit: Duration) -> Result<(), String> {
    let switch = Switch::new().map_err(|err| err.to_string())?;
    let running = start(command, errors).map_err(|err| match err {
        StartError::Command(why) => why,
        StartError::Output(err) => err.to_string(),
    })?;
    let end = running.wait(&switch, Some(limit), Duration::from_secs(5)).map_err(|err| err.to_string())?;
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
