//! Executing one claimed job: from its definition to what is recorded of it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Identity;
use super::under_way::Held;
use crate::config::{Config, STARTER};
use crate::job::shop::ORDER;
use crate::job::{
    Action, Builtin, Definition, Outcome, State, Tried, Verdict, is_hook, parse_params, verdict, with_target,
};
use crate::process::capture::{Capture, Captured};
use crate::process::clock::since_boot;
use crate::process::command::CommandLine;
use crate::process::execute::{End, StartError, no_room, start};
use crate::process::ledger::{Entry, Ledger, output_path};
use crate::process::mirror::Mirror;
use crate::process::pipe::Printed;
use crate::process::program::own_program;
use crate::store::{AttemptEnd, Claimed, Output, StartedAt};

/// What a worker needs besides the job.
#[derive(Debug)]
pub(super) struct Bench {
    pub(super) config: Arc<Config>,
    pub(super) folder: PathBuf,
    pub(super) owner: String,
    pub(super) ledger: Ledger,
}

/// What is said of a command that was outlasted by something it has started.
const LEFT: &str =
    "its command has ended and has left processes running in the background; what they print is dropped";

/// What came of one claimed job.
#[derive(Debug)]
pub(super) enum Report {
    /// It was executed, or could not be: this is to be recorded.
    Ended(Box<Ended>),
    /// It was not begun, for a reason that lies with this runner: it goes back.
    NotBegun(Option<String>),
    /// It is no longer this runner's: nothing is to be recorded.
    Lost,
}

/// An attempt that ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) outcome: Outcome,
    pub(super) began: Instant,
    pub(super) ran: Duration,
    pub(super) at: Instant,
    pub(super) output: Option<Output>,
    /// Whether another attempt could not end otherwise.
    is_final: bool,
    /// Stays on this host until the result is in the database.
    pub(super) _printed: Option<Arc<Capture>>,
}

impl Ended {
    pub(super) fn without_process(outcome: Outcome) -> Self {
        let now = Instant::now();
        Self {
            outcome,
            began: now,
            ran: Duration::ZERO,
            at: now,
            output: None,
            is_final: false,
            _printed: None,
        }
    }

    /// What can never be started, whoever tries it.
    fn refused(why: String) -> Self {
        Self { is_final: true, ..Self::without_process(Outcome::NotStarted(why)) }
    }

    /// The result as the database wants it, told at this instant.
    pub(super) fn record(&self, job: &Claimed, config: &Config, me: &Identity) -> AttemptEnd {
        let definition = config.definition(&job.name);
        // Orphaned is what only others can say of it.
        let tried = Tried { id: job.id, attempt: job.attempt, max_attempts: job.max_attempts, orphaned: 0 };
        AttemptEnd {
            id: job.id,
            fence: job.fence,
            owner: me.owner.clone(),
            host: me.host.clone(),
            attempt: job.attempt,
            outcome: self.outcome.clone(),
            verdict: if self.is_final {
                Verdict::End(State::Failed)
            } else {
                verdict(&self.outcome, definition, tried)
            },
            started: StartedAt::Ago(self.began.elapsed()),
            ran: Some(self.ran),
            ended_ago: self.at.elapsed(),
            output: self.output.clone(),
        }
    }
}

/// How an attempt ended that is still this runner's own, as far as is known here.
fn outcome_of(end: End, job: &Claimed) -> Outcome {
    match end {
        End::Outcome(outcome) => outcome,
        // It ends by no fault of its own, which counts if nobody has taken it back by then.
        End::LeaseLost => {
            let (id, name) = (job.id, &job.name);
            log::warn!("job {id} ({name}) was stopped, since the database was not there to renew its lease");
            Outcome::Interrupted
        }
    }
}

/// Where this program itself goes wrong in executing a job, that is the end of this attempt, and of nothing else.
fn guarded(execute: impl FnOnce() -> Report) -> Report {
    catch_unwind(AssertUnwindSafe(execute)).unwrap_or_else(|panic| {
        let said = panic.downcast_ref::<String>().map(String::as_str);
        let said = said.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("it is not known why");
        let why = format!("Duly itself failed in executing it, and ended its command: {said}");
        Report::Ended(Box::new(Ended::without_process(Outcome::NotStarted(why))))
    })
}

impl Bench {
    /// Executes a job that this runner holds; `line` is the worker's line in the ledger.
    pub(super) fn execute(&self, held: &Held, line: usize) -> Report {
        guarded(|| self.execute_held(held, line))
    }

    fn execute_held(&self, held: &Held, line: usize) -> Report {
        // One that is to be cancelled is so once it is given back.
        if held.switch.asked().is_some() {
            return Report::NotBegun(None);
        }
        let Some(definition) = self.config.definition(&held.job.name) else {
            return Report::NotBegun(Some(self.config.unknown_definition(&held.job.name)));
        };
        if let Err(why) = definition.require_target(&held.job.target) {
            return Report::Ended(Box::new(Ended::refused(why)));
        }
        let command = match self.command_line(definition, held) {
            Ok(command) => command,
            Err(why) => {
                return Report::Ended(Box::new(Ended::without_process(Outcome::NotStarted(why))));
            }
        };
        log::debug!("job {} ({}): {:?}", held.job.id, held.job.name, command);
        let path = output_path(&self.folder, held.job.id, held.job.fence);
        self.note(line, held, 0, since_boot());
        let mirror = match Mirror::create(path) {
            Ok(mirror) => mirror,
            Err(err) => {
                let folder = self.folder.display();
                return Report::NotBegun(Some(format!("cannot write in the state folder `{folder}`: {err}")));
            }
        };
        let printed = held.print(Capture::mirrored(definition.output_limit, mirror));
        let running = match start(&command, Printed::together(Arc::clone(&printed))) {
            Ok(running) => running,
            Err(StartError::Command(why)) => {
                return Report::Ended(Box::new(Ended::without_process(Outcome::NotStarted(why))));
            }
            Err(StartError::Host(err)) => {
                return Report::NotBegun(Some(no_room(&err)));
            }
        };
        self.note(line, held, running.group(), running.began_since_boot);
        let began = Instant::now();
        let end = running.wait(&held.switch, definition.timeout, definition.grace);
        let ran = running.ran();
        held.end();
        // What the command left behind on purpose is no trace of a crash.
        if let Err(err) = self.ledger.blank(line) {
            log::warn!("cannot clear line {line} of the ledger: {err}");
        }
        match end {
            Ok(End::LeaseLost) if held.switch.is_taken() => Report::Lost,
            Ok(end) => {
                let outcome = outcome_of(end, &held.job);
                if running.has_left() {
                    let job = &held.job;
                    log::info!("job {} ({}): {LEFT}", job.id, job.name);
                    printed.remark(LEFT);
                }
                let output = printed.captured().map(stored);
                Report::Ended(Box::new(Ended {
                    outcome,
                    began,
                    ran,
                    at: Instant::now(),
                    output,
                    is_final: false,
                    _printed: Some(printed),
                }))
            }
            Err(err) => {
                let why = format!("waiting for its command failed: {err}");
                Report::Ended(Box::new(Ended::without_process(Outcome::NotStarted(why))))
            }
        }
    }

    fn note(&self, line: usize, held: &Held, group: i32, started: Duration) {
        let entry = Entry { job: held.job.id, fence: held.job.fence, group, started };
        if let Err(err) = self.ledger.note(line, entry) {
            log::warn!("cannot note down process group {group}: {err}");
        }
    }

    fn command_line(&self, definition: &Definition, held: &Held) -> Result<CommandLine, String> {
        let job = &held.job;
        // A hook is told its job on standard input.
        let params = if is_hook(&job.name) { Vec::new() } else { parse_params(&job.params)? };
        let mut env = definition.env.clone();
        let mut argv = match &definition.action {
            Action::Command(argv) => argv.iter().map(|word| with_target(word, &job.target)).collect(),
            // Whoever may insert a row must not be able to give options to Duly itself.
            Action::Builtin(_) if !params.is_empty() => {
                return Err("a job with `builtin` takes no params".to_owned());
            }
            Action::Builtin(builtin) => {
                // A URL given on our own command line must reach it too; any other it finds as we did, and one that
                // is in a file only must not get into the environment of what it starts.
                if self.config.is_database_given {
                    env.insert("DATABASE_URL".to_owned(), database_url(&self.config));
                }
                let mut argv = vec![own_program()?];
                argv.extend(builtin.arguments().iter().map(|word| (*word).to_owned()));
                let is_order = job.target.0.as_deref() == Some(ORDER);
                if let (Builtin::ProcessLostOrders, true, Some(order)) = (builtin, is_order, &job.target.1) {
                    argv.extend(["--".to_owned(), order.clone()]);
                }
                env.insert(STARTER.to_owned(), std::process::id().to_string());
                argv
            }
        };
        argv.extend(params);
        env.extend(self.variables(job));
        let input = held.input.clone().map(String::into_bytes);
        let command = CommandLine { argv, cwd: definition.cwd.clone(), env, input };
        match definition.action {
            // What it works on is guarded by this runner's claim, so it must not outlive this runner.
            Action::Builtin(_) => command.bound_to_this_process(),
            Action::Command(_) => Ok(command),
        }
    }

    /// What a command is told of its job. A variable without a value is empty, so that none is inherited.
    fn variables(&self, job: &Claimed) -> [(String, String); 10] {
        let scheduled_for = job.scheduled_for.map(|at| at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true));
        [
            ("DULY_JOB_ID", job.id.to_string()),
            ("DULY_JOB_NAME", job.name.clone()),
            ("DULY_ATTEMPT", job.attempt.to_string()),
            ("DULY_FENCE", job.fence.to_string()),
            ("DULY_RUNNER", self.owner.clone()),
            ("DULY_ROOT_ID", job.root_id.unwrap_or(job.id).to_string()),
            ("DULY_SCHEDULED_FOR", scheduled_for.unwrap_or_default()),
            ("DULY_TARGET_TYPE", job.target.0.clone().unwrap_or_default()),
            ("DULY_TARGET_ID", job.target.1.clone().unwrap_or_default()),
            ("DULY_CONFIG", self.config.path.to_string_lossy().into_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
    }
}

fn database_url(config: &Config) -> String {
    let scheme = if config.database.is_mysql() { "" } else { "sqlite:" };
    format!("{scheme}{}", config.database.expose())
}

/// What was captured, as the database wants it.
pub(super) fn stored(captured: Captured) -> Output {
    Output { body: captured.text, truncated: i64::try_from(captured.missing).unwrap_or(i64::MAX) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_the_end_of_one_attempt() {
        let report = guarded(|| panic!("a fault of this program"));
        let Report::Ended(ended) = report else { panic!("{report:?}") };
        assert_eq!(
            ended.outcome,
            Outcome::NotStarted(
                "Duly itself failed in executing it, and ended its command: a fault of this program"
                    .to_owned()
            )
        );
    }
}
