//! An entry of `jobs.yaml`, validated and with its defaults filled in.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::{Backoff, Builtin, Schedule};

/// What a name of a definition may be, for messages.
pub const NAME_RULE: &str = "1 to 100 of A-Z a-z 0-9 _ - . :";

/// Whether `name` may name a definition.
#[must_use]
pub fn is_valid_name(name: &str) -> bool {
    (1..=100).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.:".contains(&b))
}

/// Reads a job's parameters as they are stored: a JSON array of strings, numbers or booleans.
///
/// # Errors
///
/// A sentence that says what was found and what is expected.
pub fn parse_params(json: &str) -> Result<Vec<String>, String> {
    const EXPECTED: &str = "expected a JSON array of strings such as [\"tmp\"]";
    let values: Vec<serde_json::Value> =
        serde_json::from_str(json).map_err(|err| format!("params are not readable ({err}); {EXPECTED}"))?;
    values
        .into_iter()
        .map(|value| match value {
            serde_json::Value::String(text) if text.contains('\0') => {
                Err("params have a NUL byte, which no command line can hold".to_owned())
            }
            serde_json::Value::String(text) => Ok(text),
            serde_json::Value::Number(number) => Ok(number.to_string()),
            serde_json::Value::Bool(flag) => Ok(flag.to_string()),
            other => Err(format!("params hold `{other}`; {EXPECTED}")),
        })
        .collect()
}

/// What a job of a definition does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Starts this program with these arguments, before the job's own parameters; no shell.
    /// Never empty. `{target_id}` and `{target_type}` stand for the job's target.
    Command(Vec<String>),
    /// Work that Duly does itself.
    Builtin(Builtin),
}

/// What becomes of a job whose runner vanished.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnOrphan {
    /// It is tried again while attempts are left.
    #[default]
    Retry,
    /// It is given up.
    Stale,
}

/// What stands between the event and the name in the name of a hook's job: no definition's own name can have it.
const HOOK_MARK: char = '@';

/// Which ends of a job are told to a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Hooks {
    /// It succeeded.
    pub success: bool,
    /// It failed.
    pub failure: bool,
    /// It was given up.
    pub stale: bool,
}

impl Hooks {
    /// As they are stored with a job; `None` where there are none.
    #[must_use]
    pub fn stored(self) -> Option<String> {
        let all = [(self.success, "success"), (self.failure, "failure"), (self.stale, "stale")];
        let words: Vec<&str> = all.into_iter().filter_map(|(is_set, word)| is_set.then_some(word)).collect();
        (!words.is_empty()).then(|| words.join(","))
    }
}

/// The name of the job that tells an `event` (success, failure or stale) of a job of the definition `name`.
#[must_use]
pub fn hook_name(event: &str, name: &str) -> String {
    format!("on_{event}{HOOK_MARK}{name}")
}

/// Whether `name` is that of a hook's job.
#[must_use]
pub fn is_hook(name: &str) -> bool {
    name.contains(HOOK_MARK)
}

/// What makes each occurrence one job per target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Targets {
    /// The type of every target.
    pub kind: String,
    /// Prints the id of one target per line.
    pub command: Vec<String>,
}

/// How many not-ended jobs of a definition there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Unique {
    /// Any number.
    #[default]
    No,
    /// One per name.
    Name,
    /// One per name and target: what one per name means where a schedule makes one job for each target.
    Target,
    /// One per name, parameters and target.
    Args,
}

impl Unique {
    /// What only one not-ended job can have, as it is stored; `None` where there may be any number.
    #[must_use]
    pub fn key(
        self,
        name: &str,
        params: &[String],
        target: &(Option<String>, Option<String>),
    ) -> Option<String> {
        match self {
            Self::No => None,
            Self::Name => Some(format!("name:{name}")),
            Self::Target => {
                let target = serde_json::json!([target.0, target.1]).to_string();
                Some(format!("target:{name}:{:016x}", super::fnv1a(target.as_bytes())))
            }
            Self::Args => {
                let all = serde_json::json!([params, target.0, target.1]).to_string();
                Some(format!("args:{name}:{:016x}", super::fnv1a(all.as_bytes())))
            }
        }
    }
}

/// What is declared under one name: what to start, when, and what to do if it goes wrong.
#[derive(Debug, Clone, PartialEq)]
pub struct Definition {
    /// Unique over all definitions, the depending ones included.
    pub name: String,
    /// For people: what it is called.
    pub label: Option<String>,
    /// For people: what it does.
    pub description: Option<String>,
    /// What to start.
    pub action: Action,
    /// The parameters of a job that is put in without any of its own.
    pub params: Vec<String>,
    /// When, unless only by hand, by SQL, or after another.
    pub schedule: Option<Schedule>,
    /// The queue of a job that is put in without one of its own.
    pub queue: String,
    /// −100 to 100, higher first.
    pub priority: i32,
    /// How long an attempt may take; `None` is for ever.
    pub timeout: Option<Duration>,
    /// How long a command has between SIGTERM and SIGKILL.
    pub grace: Duration,
    /// Attempts at most, at least 1.
    pub max_attempts: u32,
    /// The wait between attempts.
    pub backoff: Backoff,
    /// Exit codes after which there is no retry.
    pub permanent_exit_codes: Vec<i32>,
    /// Exit codes that mean "not now": it is tried again after the wait, and the attempt does not count.
    pub later_exit_codes: Vec<i32>,
    /// What becomes of a job whose runner vanished.
    pub on_orphan: OnOrphan,
    /// How many not-ended jobs there may be.
    pub unique: Unique,
    /// Running at once over all hosts, at least 1; `None` is any number.
    pub concurrency: Option<u32>,
    /// How long a root may show no sign of life before it is given up.
    pub time_before_stale: Option<Duration>,
    /// Which ends are told to a command; the commands are definitions of their own, see [`hook_name`].
    pub hooks: Hooks,
    /// Bytes of output kept per attempt, half from its head and half from its tail.
    pub output_limit: u64,
    /// Environment variables added to the runner's own.
    pub env: BTreeMap<String, String>,
    /// Working folder, absolute.
    pub cwd: PathBuf,
    /// Whether its schedule makes jobs.
    pub enabled: bool,
    /// What an occurrence makes one job each for; one job in all, if `None`.
    pub targets: Option<Targets>,
    /// Names of the definitions that are put in with each job of this one and start after its success.
    pub dependents: Vec<String>,
}

/// What a job of the definition `name` puts in: its own definition, then those of its dependents, each once.
#[must_use]
pub fn family<'a>(name: &str, declared: &dyn Fn(&str) -> Option<&'a Definition>) -> Vec<&'a Definition> {
    let mut all: Vec<&Definition> = declared(name).into_iter().collect();
    let mut next = 0;
    while let Some(definition) = all.get(next).copied() {
        for dependent in &definition.dependents {
            if all.iter().all(|known| known.name != *dependent) {
                all.extend(declared(dependent));
            }
        }
        next += 1;
    }
    all
}

#[cfg(test)]
mod tests {
    use super::is_valid_name;

    #[test]
    fn a_name_is_plain_and_of_a_sane_length() {
        assert!(is_valid_name("ibexa:commerce.import-1_b"));
        assert!(is_valid_name(&"x".repeat(100)));
        for bad in ["", "a b", "a/b", "é", "a;rm", &"x".repeat(101)] {
            assert!(!is_valid_name(bad), "{bad:?}");
        }
    }
}
