//! Stopping a command: SIGTERM to its group, a time of grace, SIGKILL.
//!
//! A [`Switch`] lets another thread ask for it without touching the process: only the thread that started a process
//! ever signals or reaps it, so an id can never have passed to another process.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;
use std::{fs, io};

use rustix::event::{EventfdFlags, eventfd};
use rustix::process::{Pid, Signal, kill_process_group};

use super::clock::since_boot;

/// Why a command is to be stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopReason {
    /// Somebody cancelled the job.
    Cancelled,
    /// The runner was told to stop.
    Interrupted,
    /// The runner no longer holds the job, or cannot prove that it does.
    LeaseLost,
}

const RUNNING: u8 = 0;
const NOW: u8 = 8;

/// Asks one execution to stop, from any thread.
///
/// It also holds until when the runner may be sure that the job is its own. An execution whose time runs out stops
/// by itself: no other thread has to be alive or free for that.
#[derive(Debug)]
pub struct Switch {
    asked: AtomicU8,
    /// Since boot, in milliseconds.
    trusted_until: AtomicU64,
    event: OwnedFd,
}

impl Switch {
    /// A switch that nobody has pressed.
    ///
    /// # Errors
    ///
    /// When the process has no file descriptor left.
    pub fn new() -> io::Result<Self> {
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self { asked: AtomicU8::new(RUNNING), trusted_until: AtomicU64::new(u64::MAX), event })
    }

    /// Moves the end of what the runner may be sure of; `at` is since boot.
    pub fn trust_until(&self, at: Duration) {
        self.trusted_until.store(u64::try_from(at.as_millis()).unwrap_or(u64::MAX), Ordering::SeqCst);
    }

    /// Asks for a stop; the first reason given is the one that counts. `at_once` leaves out the time of grace.
    pub fn press(&self, reason: StopReason, at_once: bool) {
        let code = match reason {
            StopReason::Cancelled => 1,
            StopReason::Interrupted => 2,
            StopReason::LeaseLost => 3,
        };
        // A lost lease overrides: whatever was asked before, no result may be written any more.
        let update = |asked: u8| {
            let kept = if asked & 7 == RUNNING || code == 3 { code } else { asked & 7 };
            Some(kept | (asked & NOW) | if at_once { NOW } else { 0 })
        };
        let (Ok(_) | Err(_)) = self.asked.fetch_update(Ordering::SeqCst, Ordering::SeqCst, update);
        if let Err(err) = rustix::io::write(&self.event, &1_u64.to_ne_bytes()) {
            log::debug!("stop switch: {err}");
        }
    }

    /// What was asked for, if anything, and whether at once.
    #[must_use]
    pub fn asked(&self) -> Option<(StopReason, bool)> {
        if since_boot().as_millis() >= u128::from(self.trusted_until.load(Ordering::SeqCst)) {
            return Some((StopReason::LeaseLost, true));
        }
        let asked = self.asked.load(Ordering::SeqCst);
        let reason = match asked & 7 {
            1 => StopReason::Cancelled,
            2 => StopReason::Interrupted,
            3 => StopReason::LeaseLost,
            _ => return None,
        };
        Some((reason, asked & NOW != 0))
    }

    /// Whether it is known that somebody else has the job now; else its lease may only not have been renewed in time.
    #[must_use]
    pub fn is_taken(&self) -> bool {
        self.asked.load(Ordering::SeqCst) & 7 == 3
    }

    /// Takes the wake-up back, so that the next one is seen.
    pub(super) fn drain(&self) {
        let mut count = [0_u8; 8];
        if let Err(err) = rustix::io::read(&self.event, &mut count) {
            log::trace!("stop switch: {err}");
        }
    }
}

impl AsFd for Switch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}

/// Sends `signal` to the group of `leader`, which must not have been reaped.
pub(super) fn signal_group(leader: Pid, signal: Signal) {
    if let Err(err) = kill_process_group(leader, signal) {
        log::debug!("signal to process group {}: {err}", leader.as_raw_nonzero());
    }
}

/// Whether the group has a process that has not ended, by the kernel's list of all processes.
pub(super) fn has_living(group: Pid) -> bool {
    let group = group.as_raw_nonzero().get();
    all_processes().any(|pid| Stat::of(pid).is_some_and(|stat| stat.group == group && !stat.is_over))
}

/// Whether this process is starting another just now, which has all that it has open until it executes its own program.
pub(super) fn is_starting_another() -> bool {
    let me = i32::try_from(std::process::id()).unwrap_or_default();
    let words = |pid: i32| fs::read(format!("/proc/{pid}/cmdline")).ok();
    let own = words(me);
    all_processes()
        .any(|pid| Stat::of(pid).is_some_and(|stat| stat.parent == me && !stat.is_over) && words(pid) == own)
}

/// The ids of all processes.
pub(super) fn all_processes() -> impl Iterator<Item = i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// What the kernel tells of a process.
pub(super) struct Stat {
    pub(super) parent: i32,
    pub(super) group: i32,
    pub(super) session: i32,
    pub(super) is_over: bool,
    /// When it started, since boot; in hundredths of a second.
    pub(super) started: Duration,
}

impl Stat {
    pub(super) fn of(pid: i32) -> Option<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name, in parentheses, may hold anything: read on after the last one.
        let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
        let ticks: u64 = fields.get(19)?.parse().ok()?;
        let per_second = rustix::param::clock_ticks_per_second().max(1);
        Some(Self {
            parent: fields.get(1)?.parse().ok()?,
            group: fields.get(2)?.parse().ok()?,
            session: fields.get(3)?.parse().ok()?,
            is_over: matches!(*fields.first()?, "Z" | "X"),
            started: Duration::from_millis(ticks.saturating_mul(1000) / per_second),
        })
    }
}
