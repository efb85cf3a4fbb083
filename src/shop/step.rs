//! One command that a command of the shop starts: with its input, limited in time, gone with the process that started it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::config::Step;
use crate::job::Outcome;
use crate::process::capture::Capture;
use crate::process::clock::since_boot;
use crate::process::command::{CommandLine, NOT_EXECUTED};
use crate::process::execute::{End, StartError, no_room, start};
use crate::process::pipe::Printed;
use crate::process::signals::{Patience, on_stop_signal};
use crate::process::stop::{StopReason, Switch};

/// Between SIGTERM and SIGKILL; less than the runner of the job allows by default.
pub(super) const GRACE: Duration = Duration::from_secs(5);

/// Whether this process was told to stop. What it has started is stopped at once then.
#[derive(Debug, Clone, Default)]
pub struct Stop {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    is_asked: AtomicBool,
    switches: Mutex<Vec<Arc<Switch>>>,
}

impl Stop {
    /// Listens to the signals that ask for a stop for the rest of the process.
    ///
    /// # Errors
    ///
    /// When the handlers cannot be installed.
    pub fn on_signals() -> std::io::Result<Self> {
        let stop = Self::default();
        let (told, mut patience) = (stop.clone(), Patience::default());
        on_stop_signal(move |_| {
            let at_once = patience.is_over();
            told.inner.is_asked.store(true, Ordering::SeqCst);
            for switch in told.switches().iter() {
                switch.press(StopReason::Interrupted, at_once);
            }
        })?;
        Ok(stop)
    }

    /// Whether it was.
    #[must_use]
    pub fn is_asked(&self) -> bool {
        self.inner.is_asked.load(Ordering::SeqCst)
    }

    fn switches(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Switch>>> {
        self.inner.switches.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What came of a step.
#[derive(Debug)]
pub(super) struct StepEnd {
    pub(super) outcome: Outcome,
    pub(super) ran: Duration,
    /// What it printed, cut to the limit.
    pub(super) output: String,
    /// What it printed on standard output, cut to the limit.
    pub(super) answer: String,
}

/// What a step is given.
pub(super) struct Given<'a> {
    pub(super) step: &'a Step,
    /// Where it runs.
    pub(super) folder: &'a Path,
    pub(super) env: BTreeMap<String, String>,
    pub(super) input: Vec<u8>,
    /// Bytes of its output that are kept.
    pub(super) output_limit: u64,
    /// It is killed after this long by a clock that goes on while the machine sleeps, whatever its timeout says.
    pub(super) hold: Option<Duration>,
}

/// Starts a step's command and waits for its end.
pub(super) fn execute(given: Given<'_>, stop: &Stop) -> StepEnd {
    let not_started = |why: String| StepEnd {
        outcome: Outcome::NotStarted(why),
        ran: Duration::ZERO,
        output: String::new(),
        answer: String::new(),
    };
    let command = CommandLine {
        argv: given.step.argv.clone(),
        cwd: given.folder.to_owned(),
        env: given.env,
        input: Some(given.input),
    };
    let (command, switch) = match (command.bound_to_this_process(), Switch::new()) {
        (Ok(command), Ok(switch)) => (command, Arc::new(switch)),
        (Err(why), _) => return not_started(why),
        (_, Err(err)) => return not_started(err.to_string()),
    };
    if let Some(hold) = given.hold {
        switch.trust_until(since_boot() + hold);
    }
    let limit = given.output_limit;
    let printed = Printed::apart(Capture::in_memory(limit), Capture::in_memory(limit), true);
    stop.switches().push(Arc::clone(&switch));
    // Asked for before the switch was there to be pressed.
    if stop.is_asked() {
        switch.press(StopReason::Interrupted, false);
    }
    let running = match start(&command, printed.clone()) {
        Ok(running) => running,
        Err(StartError::Command(why)) => return not_started(why),
        Err(StartError::Host(err)) => {
            return not_started(no_room(&err));
        }
    };
    let end = running.wait(&switch, given.step.timeout, GRACE);
    stop.switches().retain(|other| !Arc::ptr_eq(other, &switch));
    let outcome = match end {
        Ok(End::Outcome(outcome)) => outcome,
        Ok(End::LeaseLost) => Outcome::Interrupted,
        Err(err) => Outcome::NotStarted(format!("waiting for it failed: {err}")),
    };
    let ran = running.ran();
    let text = |capture: &Capture| capture.captured().map_or_else(String::new, |captured| captured.text);
    let (output, answer) = (text(&printed.record), printed.answer.as_deref().map_or_else(String::new, text));
    match outcome {
        Outcome::Signalled(signal) if signal == NOT_EXECUTED.as_raw() => {
            not_started(output.trim().to_owned())
        }
        outcome => StepEnd { outcome, ran, output, answer },
    }
}
