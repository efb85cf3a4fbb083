//! Signals as something a runner is told, once it has processes to look after.
//!
//! Each that would end it asks it to stop, so that what it has started is stopped and recorded; those that somebody may have
//! meant for another program end nothing. Before that the signals keep their usual meaning: a tick that has started nothing
//! just ends.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Once, OnceLock};
use std::time::{Duration, Instant};

use nix::sys::signal::SigSet;
use rustix::process::Signal;
use signal_hook::consts::{
    SIGALRM, SIGCHLD, SIGHUP, SIGINT, SIGIO, SIGPROF, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGVTALRM, SIGXCPU,
    SIGXFSZ,
};
use signal_hook::iterator::Signals;

/// What ends a program that does not know it, and asks this one to stop: a person, a terminal that closes, a limit of
/// processor time, the power supply (containers of LXC are stopped so).
const STOPS: [i32; 6] = [SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGXCPU, Signal::POWER.as_raw()];

/// What would end a program that does not know it, and means nothing here.
const MEANINGLESS: [i32; 8] =
    [SIGUSR1, SIGUSR2, SIGALRM, SIGVTALRM, SIGPROF, SIGIO, SIGXFSZ, Signal::STKFLT.as_raw()];

/// Within this, signals are of one stop.
const SAME_STOP: Duration = Duration::from_millis(500);

/// Set by the handler itself, before any thread has heard of it.
static IS_TOLD: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// Whether this process has been told to stop, which the threads may not have heard of yet.
pub(super) fn is_told_to_stop() -> bool {
    IS_TOLD.get().is_some_and(|told| told.load(Ordering::SeqCst))
}

/// Lets every signal through that whoever started this process had held back, to it and to its commands. For its first thread,
/// before there are others.
pub fn hold_none_back() {
    if let Err(err) = SigSet::empty().thread_set_mask() {
        log::debug!("signals are held back: {err}");
    }
}

/// Makes sure that the end of a child can be waited for: where SIGCHLD is ignored, as whoever started this process may have
/// it, the kernel forgets how children ended. Commands do not inherit a handler.
pub(super) fn hear_of_children() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // Not where it need not be: a handler interrupts what other threads wait for.
        if is_ignored(SIGCHLD)
            && let Err(err) = signal_hook::flag::register(SIGCHLD, Arc::new(AtomicBool::new(false)))
        {
            log::warn!("cannot listen to SIGCHLD: {err}");
        }
    });
}

/// Calls `tell` with the number of each signal that asks this process to stop, from a thread of its own, for the rest of the
/// process. Signals that mean nothing are told and ignored from then on. SIGHUP stays ignored where it was, by `nohup` say.
///
/// # Errors
///
/// When the handlers cannot be installed.
pub fn on_stop_signal(mut tell: impl FnMut(i32) + Send + 'static) -> io::Result<()> {
    let stops: Vec<i32> =
        STOPS.into_iter().filter(|signal| *signal != SIGHUP || !is_ignored(SIGHUP)).collect();
    let told = IS_TOLD.get_or_init(Arc::default);
    for signal in &stops {
        signal_hook::flag::register(*signal, Arc::clone(told))?;
    }
    let all: Vec<i32> = stops.iter().copied().chain(MEANINGLESS).collect();
    on_signals(&all, move |signal| {
        if MEANINGLESS.contains(&signal) {
            log::warn!("signal {signal} means nothing here and is ignored; SIGTERM asks for a stop");
        } else {
            tell(signal);
        }
    })
}

/// Tells a signal that repeats an earlier one from the same stop that comes twice: whoever stops a whole service tells the daemon
/// and its ticks, to which the daemon passes it on.
#[derive(Debug, Default)]
pub struct Patience {
    first: Option<Instant>,
}

impl Patience {
    /// Takes a signal in; whether it repeats one, and nothing is to be waited for any more.
    pub fn is_over(&mut self) -> bool {
        self.first.get_or_insert_with(Instant::now).elapsed() >= SAME_STOP
    }
}

/// Whether whoever started this process has it ignore a signal.
fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    mask >> (signal - 1) & 1 == 1
}

/// The same with every signal that a person or a terminal ends a program with, for one that has the terminal to give back.
pub fn on_any_end(tell: impl FnMut(i32) + Send + 'static) -> io::Result<()> {
    on_signals(&[SIGTERM, SIGINT, SIGHUP, SIGQUIT], tell)
}

fn on_signals(which: &[i32], mut tell: impl FnMut(i32) + Send + 'static) -> io::Result<()> {
    let mut signals = Signals::new(which)?;
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        for signal in signals.forever() {
            tell(signal);
        }
    })?;
    Ok(())
}
