//! The part of `duly check` that looks at a crontab: what cron itself is silent about, and what would not work on this host.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use chrono::{DateTime, TimeDelta, Utc};
use clap::Parser as _;

use super::{Usage, one_line};
use crate::cli::{Cli, Command};
use crate::config::crontab::{self, Crontab, Entry};
use crate::config::{self, Config, LoadOptions};
use crate::exit_code::ExitCode;
use crate::job::{Schedule, Zone, duration};
use crate::process::clock::host_time;
use crate::process::executable::find_in;
use crate::render;

/// Where cron looks for programs if the crontab does not say.
const CRONS_PATH: &str = "/usr/bin:/bin";

/// Problems with their lines.
type Problems = Vec<(usize, String)>;

pub(super) fn check_crontab(path: &Path, config: &Config) -> Result<ExitCode> {
    let what = || format!("cannot read the crontab `{}`", path.display());
    let text = if path.as_os_str() == "-" {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).with_context(what)?;
        text
    } else {
        fs::read_to_string(path).with_context(what)?
    };
    let parsed = crontab::parse(&text);
    let mut problems: Problems =
        parsed.problems.iter().map(|problem| (problem.line, problem.message.clone())).collect();
    let mut notes = Problems::new();
    for entry in &parsed.entries {
        if let Some(args) = &entry.duly_args {
            check_line(entry, args, config, &mut problems);
            let schedule = Schedule::parse(&entry.schedule, Zone::UTC).ok();
            let doubts = schedule.into_iter().flat_map(|schedule| schedule.doubts(host_time()));
            notes.extend(doubts.map(|doubt| (entry.line, doubt)));
            notes.extend(missing_program(entry, &parsed).map(|note| (entry.line, note)));
        }
    }
    let last = text.lines().count().max(1);
    check_ticks(&parsed, config, last, &mut problems);
    for (line, note) in notes {
        render::answer(&format!("note: {}:{line}: {note}", path.display()))?;
    }
    problems.sort();
    if problems.is_empty() {
        render::answer(&format!("{}: fine", path.display()))?;
        return Ok(ExitCode::Success);
    }
    let lines: Vec<String> =
        problems.iter().map(|(line, problem)| format!("{}:{line}: {problem}", path.display())).collect();
    Err(Usage(lines.join("; ")).into())
}

/// Whether this program would take the arguments, and find what they name.
fn check_line(entry: &Entry, args: &[String], config: &Config, problems: &mut Problems) {
    let mut add = |problem: String| problems.push((entry.line, problem));
    let words = std::iter::once("duly".to_owned()).chain(args.iter().cloned());
    let cli = match Cli::try_parse_from(words) {
        Ok(cli) => cli,
        Err(err) => {
            let hint = unquoted_length(args).map_or_else(String::new, |length| {
                format!("; a length of time of several words has to be quoted: '{length}'")
            });
            return add(format!("{}{hint}", one_line(&err)));
        }
    };
    let other = match cli.config.as_deref().map(|path| there(entry, path)) {
        None => None,
        Some(None) => {
            return add("its --config file is relative, and cron starts in the user's home; name it from /"
                .to_owned());
        }
        Some(Some(path)) if !path.exists() => {
            return add(format!("its --config file `{}` is not there", path.display()));
        }
        Some(Some(path)) if path == config.path => None,
        Some(Some(path)) => match config::load(&LoadOptions { path: Some(path.clone()), database_url: None })
        {
            Ok(other) => Some(other),
            Err(err) => {
                let text = err.to_string();
                return add(format!(
                    "its --config file cannot be used: {}",
                    text.lines().next().unwrap_or_default()
                ));
            }
        },
    };
    let name = match cli.command.as_ref() {
        Some(Command::RunJob(args)) => Some(&args.name),
        Some(Command::Start(args)) => Some(&args.name),
        Some(Command::Enqueue(args)) => args.name.as_ref(),
        _ => None,
    };
    let config = other.as_ref().unwrap_or(config);
    if let Some(name) = name.filter(|name| config.definition(name).is_none()) {
        add(config.unknown_definition(name));
    }
}

/// A file as the line would find it; `None` where that depends on the user's home.
fn there(entry: &Entry, path: &Path) -> Option<PathBuf> {
    match &entry.folder {
        _ if path.is_absolute() => Some(path.to_owned()),
        Some(folder) if folder.starts_with('/') => Some(Path::new(folder).join(path)),
        _ => None,
    }
}

/// A length of time that the shell takes apart: `10 min` as two words.
fn unquoted_length(args: &[String]) -> Option<String> {
    args.windows(2).find_map(|pair| {
        let is_number = !pair[0].is_empty() && pair[0].bytes().all(|byte| byte.is_ascii_digit());
        let is_unit = pair[1].bytes().all(|byte| byte.is_ascii_alphabetic());
        let length = pair.join(" ");
        (is_number && is_unit && duration::parse(&length).is_ok()).then_some(length)
    })
}

/// That cron would not find the program on this host. The crontab may be for another one, so this is a note.
fn missing_program(entry: &Entry, crontab: &Crontab) -> Option<String> {
    let program = entry.program.as_deref()?;
    let path = crontab.path.as_deref().unwrap_or(CRONS_PATH);
    match program.contains('/') {
        true if Path::new(program).is_absolute() && !Path::new(program).exists() => {
            Some(format!("on this host there is no program `{program}`"))
        }
        false if find_in(path, program).is_none() => Some(format!(
            "on this host there is no program `{program}` in the PATH that cron has ({path}); name it with its folder, or set PATH \
             in the crontab"
        )),
        _ => None,
    }
}

/// Whether ticks come, evenly, and as often as the schedules need them.
fn check_ticks(crontab: &Crontab, config: &Config, last: usize, problems: &mut Problems) {
    let is_tick = |entry: &&Entry| {
        entry.duly_args.as_ref().is_some_and(|args| args.iter().any(|arg| arg == "run" || arg == "daemon"))
    };
    let ticks: Vec<&Entry> = crontab.entries.iter().filter(is_tick).collect();
    let scheduled =
        || config.definitions.iter().filter(|definition| definition.enabled && definition.schedule.is_some());
    if ticks.is_empty() {
        let starts_duly = crontab.entries.iter().any(|entry| entry.duly_args.is_some());
        if let Some(first) = scheduled().next().filter(|_| starts_duly) {
            let problem = format!(
                "no line ticks, so the schedule of `{}` makes no jobs and nothing in the queue is run; add `* * * * * duly run`",
                first.name
            );
            problems.push((last, problem));
        }
        return;
    }
    uneven(&ticks, problems);
    let now = host_time();
    let Some(gap) = longest_gap(&ticks, now).filter(|gap| *gap > TimeDelta::minutes(1)) else { return };
    for definition in scheduled() {
        let next = |after| definition.schedule.as_ref().and_then(|schedule| schedule.next_after(after));
        let Some(between) = next(now).and_then(|first| Some(next(first)? - first)) else { continue };
        if between < gap {
            let show = |delta: TimeDelta| duration::show(delta.to_std().unwrap_or_default());
            let problem = format!(
                "up to {} pass from one tick to the next, and `{}` is scheduled every {}",
                show(gap),
                definition.name,
                show(between)
            );
            return problems.push((ticks[0].line, problem));
        }
    }
}

/// Of lines that tick in turn within each minute, whether one seems to be missing.
fn uneven(ticks: &[&Entry], problems: &mut Problems) {
    let mut by_what: BTreeMap<String, Vec<(u64, usize)>> = BTreeMap::new();
    for entry in ticks {
        let what = format!("{} {:?}", entry.schedule, entry.duly_args);
        by_what.entry(what).or_default().push((entry.sleep.map_or(0, |sleep| sleep.as_secs()), entry.line));
    }
    for mut offsets in by_what.into_values().filter(|offsets| offsets.len() > 1) {
        offsets.sort_unstable();
        let ends = offsets.iter().skip(1).map(|(offset, _)| *offset).chain([offsets[0].0 + 60]);
        let gaps: Vec<(u64, usize)> =
            offsets.iter().zip(ends).map(|((from, line), to)| (to.saturating_sub(*from), *line)).collect();
        let shortest = gaps.iter().map(|(gap, _)| *gap).min().unwrap_or(0);
        if let Some((gap, line)) = gaps.iter().max().filter(|(gap, _)| *gap >= 2 * shortest && shortest > 0) {
            problems.push((
                *line,
                format!("{gap}s pass after this tick and {shortest}s after others; is a line missing? `duly crontab --every {shortest}s`"),
            ));
        }
    }
}

/// The longest time from one tick to the next within two days.
fn longest_gap(ticks: &[&Entry], now: DateTime<Utc>) -> Option<TimeDelta> {
    let end = now + TimeDelta::days(2);
    let mut at: Vec<DateTime<Utc>> = Vec::new();
    for entry in ticks {
        let schedule = Schedule::parse(&entry.schedule, Zone::UTC).ok()?;
        let mut cursor = now;
        while let Some(next) = schedule.next_after(cursor).filter(|next| *next < end) {
            at.push(next);
            cursor = next;
        }
    }
    at.sort_unstable();
    at.windows(2).map(|pair| pair[1] - pair[0]).max()
}
