//! What a crontab says, and what is wrong with it: for `duly check --crontab`.
//!
//! Both forms are read, that of `crontab -e` and that of /etc/cron.d with a user before the command. It finds the
//! traps that cron itself is silent about; whether the words after `duly` make sense is for the command line to say.

use std::collections::HashMap;
use std::time::Duration;

use super::shell::{self, Segment};
use crate::job::{Schedule, Zone, duration};

/// A crontab that was read.
#[derive(Debug, Default)]
pub struct Crontab {
    /// Its lines that start something, in the order of the file.
    pub entries: Vec<Entry>,
    /// What is wrong with it, in the order of the file.
    pub problems: Vec<CrontabProblem>,
    /// The last `PATH=…` in it.
    pub path: Option<String>,
}

/// A line that starts something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// From 1.
    pub line: usize,
    /// The five fields, or a name such as `@hourly`.
    pub schedule: String,
    /// As whom, in the form of /etc/cron.d.
    pub user: Option<String>,
    /// What cron gives to the shell.
    pub command: String,
    /// How long it waits before it does anything else: `sleep 15; …`.
    pub sleep: Option<Duration>,
    /// Where it changes to before: `cd /srv && …`.
    pub folder: Option<String>,
    /// The word for `duly` itself, where that is what is started.
    pub program: Option<String>,
    /// The words after it.
    pub duly_args: Option<Vec<String>>,
}

/// Something wrong with a crontab.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CrontabProblem {
    /// From 1; the last line where it is about the whole file.
    pub line: usize,
    /// What was found, and what to do.
    pub message: String,
}

/// The two forms of a crontab.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// `crontab -e`: fields and command.
    User,
    /// /etc/crontab and /etc/cron.d: fields, user and command.
    System,
}

/// Reads a crontab in the form that it seems to have.
#[must_use]
pub fn parse(text: &str) -> Crontab {
    let mut lines = text.lines().filter_map(split_schedule).peekable();
    let is_system = lines.peek().is_some() && lines.all(|(_, rest)| has_user(rest));
    parse_as(text, if is_system { Form::System } else { Form::User })
}

/// Reads a crontab in a known form.
#[must_use]
pub fn parse_as(text: &str, form: Form) -> Crontab {
    let mut crontab = Crontab::default();
    for (line, content) in (1..).zip(text.lines()) {
        if let Some((schedule, rest)) = split_schedule(content) {
            crontab.read_entry(line, &schedule, rest, form);
        } else if let Some((name, value)) = variable(content) {
            crontab.read_variable(line, name, value);
        }
    }
    crontab.report_twins();
    let last = text.lines().count().max(1);
    if !text.is_empty() && !text.ends_with('\n') {
        crontab.problem(last, "the file does not end with a newline, so cron ignores its last line; add one");
    }
    if crontab.entries.iter().all(|entry| entry.duly_args.is_none()) {
        crontab.problem(last, "no line starts duly; add `* * * * * duly run`");
    }
    crontab.problems.sort_by_key(|problem| problem.line);
    crontab
}

/// The schedule of a line and what follows it; `None` for a blank line, a comment and `NAME=value`.
fn split_schedule(line: &str) -> Option<(String, &str)> {
    let line = line.trim_start();
    if line.is_empty() || line.starts_with('#') || is_variable(line) {
        return None;
    }
    let fields = if line.starts_with('@') { 1 } else { 5 };
    let mut rest = line;
    let mut schedule = Vec::new();
    for _ in 0..fields {
        let end = rest.find([' ', '\t']).unwrap_or(rest.len());
        let (field, after) = rest.split_at(end);
        schedule.push(field);
        rest = after.trim_start();
    }
    Some((schedule.join(" ").trim_end().to_owned(), rest))
}

fn is_variable(line: &str) -> bool {
    variable(line).is_some()
}

/// Name and value of a line that sets a variable.
fn variable(line: &str) -> Option<(&str, &str)> {
    const QUOTES: [char; 2] = ['"', '\''];
    let (name, value) = line.split_once('=')?;
    let name = name.trim().trim_matches(QUOTES);
    let is_name = !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    is_name.then(|| (name, value.trim().trim_matches(QUOTES)))
}

/// Whether a command seems to follow a user: `root duly run`, but not `duly run` or `php bin/console`.
fn has_user(rest: &str) -> bool {
    const PROGRAMS: [&str; 16] = [
        "duly", "cd", "sleep", "test", "[", "php", "sh", "bash", "env", "nice", "ionice", "flock", "timeout",
        "true", "command", "exec",
    ];
    let mut words = rest.split_whitespace();
    let (Some(user), Some(program)) = (words.next(), words.next()) else { return false };
    let is_name = user.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && user.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "_-".contains(c));
    let starts_something = program.contains('/') || PROGRAMS.contains(&program.trim_start_matches('('));
    // A user may well be called as the program: `duly duly run`.
    is_name && (user == "duly" || !PROGRAMS.contains(&user)) && starts_something
}

impl Crontab {
    fn problem(&mut self, line: usize, message: impl Into<String>) {
        self.problems.push(CrontabProblem { line, message: message.into() });
    }

    fn read_variable(&mut self, line: usize, name: &str, value: &str) {
        match name {
            "PATH" => self.path = Some(value.to_owned()),
            "MAILTO" if value.is_empty() => self.problem(
                line,
                "nobody gets what cron would mail, so nobody would see a failure; name somebody, or let the lines end with \
                 `2>&1 | logger -t duly`",
            ),
            _ => {}
        }
    }

    fn read_entry(&mut self, line: usize, schedule: &str, rest: &str, form: Form) {
        if let Err(message) = check_schedule(schedule) {
            self.problem(line, message);
        }
        let (user, rest) = match form {
            Form::User => (None, rest),
            Form::System => {
                let (user, rest) = rest.split_at(rest.find([' ', '\t']).unwrap_or(rest.len()));
                (Some(user.to_owned()), rest.trim_start())
            }
        };
        let (command, has_newline) = unescape_percent(rest.trim_end());
        if has_newline {
            self.problem(
                line,
                "cron turns an unescaped % into a line break, which ends the command; write \\%",
            );
        }
        let first = command.split_whitespace().next().unwrap_or_default();
        if first.is_empty() {
            self.problem(line, "there is no command after the schedule");
        } else if first.chars().all(|c| c.is_ascii_digit() || "*,/-".contains(c)) {
            self.problem(
                line,
                format!("`{first}` would be the command: cron has five fields, and no seconds"),
            );
        }
        let segments = shell::segments(&command);
        let sleep = segments.first().and_then(sleep_of);
        if sleep.is_some_and(|sleep| sleep.as_secs() >= 60) && is_each_minute(schedule) {
            self.problem(
                line,
                "sleeps for a minute or longer though it starts each minute; sleep for less than 60",
            );
        }
        let duly = segments.iter().find_map(|segment| Some((segment, duly_words(segment)?)));
        if duly.as_ref().is_some_and(|(segment, _)| segment.discards_errors()) {
            self.problem(
                line,
                "throws error messages away, so nobody would see a failure; remove the redirection",
            );
        }
        let folder =
            segments.iter().take_while(|segment| duly_words(segment).is_none()).filter_map(folder_of).last();
        let (program, duly_args) = match duly.map(|(_, words)| words.to_vec()) {
            Some(words) => (words.first().cloned(), Some(words.into_iter().skip(1).collect())),
            None => (None, None),
        };
        self.entries.push(Entry {
            line,
            schedule: schedule.to_owned(),
            user,
            command,
            sleep,
            folder,
            program,
            duly_args,
        });
    }

    /// Two lines that do the same at the same time: a slip, mostly a forgotten `sleep`.
    fn report_twins(&mut self) {
        let mut first = HashMap::new();
        let mut twins = Vec::new();
        for entry in self.entries.iter().filter(|entry| entry.duly_args.is_some()) {
            let what: Vec<Vec<String>> = shell::segments(&entry.command)
                .into_iter()
                .filter(|segment| sleep_of(segment).is_none())
                .map(|segment| segment.words)
                .collect();
            let key = (entry.schedule.clone(), entry.sleep, what);
            match first.get(&key) {
                Some(line) => twins.push((entry.line, *line)),
                None => drop(first.insert(key, entry.line)),
            }
        }
        for (line, other) in twins {
            self.problem(
                line,
                format!("does the same at the same time as line {other}; remove it, or let it sleep first"),
            );
        }
    }
}

/// cron knows less than Duly: no seconds, and no L, W, # and ?.
fn check_schedule(schedule: &str) -> Result<(), String> {
    if schedule.eq_ignore_ascii_case("@reboot") {
        return Ok(());
    }
    if !schedule.starts_with('@') {
        let fields: Vec<&str> = schedule.split(' ').collect();
        if fields.len() != 5 {
            return Err(format!(
                "`{schedule}` is not a schedule; expected minute hour day month weekday, then a command"
            ));
        }
        for (at, field) in fields.iter().enumerate() {
            let is_fine =
                |c: char| c.is_ascii_digit() || "*,/-".contains(c) || (at > 2 && c.is_ascii_alphabetic());
            let mut names = field.split(|c: char| !c.is_ascii_alphabetic());
            if !field.chars().all(is_fine) || names.any(|name| !matches!(name.len(), 0 | 3)) {
                return Err(format!("`{field}` in `{schedule}` is no field that cron knows"));
            }
        }
    }
    match Schedule::parse(schedule, Zone::UTC) {
        Ok(_) if !schedule.eq_ignore_ascii_case("@tick") => Ok(()),
        _ if schedule.starts_with('@') => Err(format!(
            "`{schedule}` is no schedule that cron knows; expected five fields or one of @reboot, @hourly, @daily, \
             @weekly, @monthly, @yearly"
        )),
        Ok(_) => Ok(()),
        Err(err) => Err(err.to_string().split("; expected").next().unwrap_or_default().to_owned()),
    }
}

fn is_each_minute(schedule: &str) -> bool {
    matches!(schedule.split(' ').next(), Some("*" | "*/1"))
}

/// The command up to the first unescaped `%` (the rest would be its input), with `\%` as `%`.
fn unescape_percent(command: &str) -> (String, bool) {
    let mut kept = String::with_capacity(command.len());
    for character in command.chars() {
        match character {
            '%' if kept.ends_with('\\') => {
                kept.pop();
                kept.push('%');
            }
            '%' => return (kept.trim_end().to_owned(), true),
            other => kept.push(other),
        }
    }
    (kept, false)
}

/// How long `sleep 15` sleeps.
fn sleep_of(segment: &Segment) -> Option<Duration> {
    match &segment.words[..] {
        [program, length] if shell::file_name(program) == "sleep" => {
            let has_unit = length.ends_with(|c: char| c.is_ascii_alphabetic());
            duration::parse(&if has_unit { length.clone() } else { format!("{length}s") }).ok()
        }
        _ => None,
    }
}

/// Where `cd /srv` goes.
fn folder_of(segment: &Segment) -> Option<String> {
    match &segment.words[..] {
        [cd, folder] if cd == "cd" => Some(folder.clone()),
        _ => None,
    }
}

/// The program `duly` and the words after it; it may stand behind another such as `nice` or `flock`.
fn duly_words(segment: &Segment) -> Option<&[String]> {
    const NEITHER: [&str; 11] =
        ["cd", "test", "[", "echo", "ls", "mkdir", "rm", "cat", "install", "chown", "chmod"];
    let words = &segment.words;
    if words.first().is_none_or(|first| NEITHER.contains(&shell::file_name(first))) {
        return None;
    }
    let is_duly =
        |word: &String| !word.starts_with('-') && !word.contains('=') && shell::file_name(word) == "duly";
    let found = words.iter().position(is_duly)?;
    // `flock /run/duly duly run`: the first is the lock.
    let program = if words.get(found + 1).is_some_and(is_duly) { found + 1 } else { found };
    Some(&words[program..])
}
