//! Executing one command: started in its own group, limited in time, stoppable, what it prints taken in.
//!
//! Two steps, so that the caller can note down what runs before it waits for it: [`start`], then
//! [`Running::wait`]. Waiting ends with the leader of the group, whatever its grandchildren hold open.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Resource, Signal, WaitId, WaitIdOptions, getrlimit, pidfd_open, setrlimit, waitid,
};

use super::clock::since_boot;
use super::command::CommandLine;
use super::kin::{DYING, Kin};
use super::pipe::{Pipes, Printed};
use super::signals::{hear_of_children, is_told_to_stop};
use super::stop::{StopReason, Switch, has_living, is_starting_another, signal_group};
use crate::job::{Outcome, SIGNALLED};

/// Files that a command takes while it is started and runs, and what this process has open besides.
const OPEN_EACH: usize = 10;
const OPEN_ELSE: usize = 128;

/// How often a running command is looked at while nothing happens: a machine that slept has lost its leases.
const LOOK: Duration = Duration::from_secs(1);

/// How often what was told to stop is looked at, and a command that the kernel does not tell the end of.
const POLL: Duration = Duration::from_millis(50);

/// How long what a command has started may outlast it before it counts as left in the background.
const AFTERMATH: Duration = Duration::from_millis(100);
/// For so long at most a process that this one is starting for another job holds what this one has open.
const STARTING: Duration = Duration::from_secs(2);

/// How long the end of a command by a signal of those that stop a session or a machine may be ahead of this process's own.
const MOMENT: Duration = Duration::from_secs(1);

/// Why nothing was started.
#[derive(Debug)]
pub enum StartError {
    /// The command cannot be started; the attempt is over.
    Command(String),
    /// This host has run out of something, and could start no other command either: nothing is wrong with the job.
    Host(io::Error),
}

/// How an execution ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// The attempt ended so.
    Outcome(Outcome),
    /// It was stopped because the runner may no longer hold the job: there is no result to write.
    LeaseLost,
}

/// A command that runs.
#[derive(Debug)]
pub struct Running {
    handle: duct::Handle,
    leader: Pid,
    /// Tells of the end; `None` where the system refuses it, as old kernels and some sandboxes do.
    pidfd: Option<OwnedFd>,
    command: CommandLine,
    began: Instant,
    /// When it was started, since boot.
    pub began_since_boot: Duration,
    pipes: RefCell<Pipes>,
    has_left: Cell<bool>,
}

/// Starts `command`, what it prints going to `printed`.
///
/// # Errors
///
/// [`StartError`]; then nothing runs.
pub fn start(command: &CommandLine, printed: Printed) -> Result<Running, StartError> {
    let expression = command.expression()?;
    let (pipes, ends) = Pipes::new(printed).map_err(|err| StartError::Host(err.into()))?;
    let expression = match ends.errors {
        None => expression.stderr_to_stdout(),
        Some(errors) => expression.stderr_file(errors),
    };
    keep_to_ourselves();
    hear_of_children();
    let (began, began_since_boot) = (Instant::now(), since_boot());
    let handle = expression.stdout_file(ends.output).start().map_err(|err| explain(err, &command.argv[0]))?;
    let leader = handle.pids().first().and_then(|pid| Pid::from_raw(i32::try_from(*pid).ok()?));
    let leader = leader.ok_or_else(|| StartError::Command("it has no process id".to_owned()))?;
    // Not yet reaped, so the id still names our child.
    let pidfd = pidfd_open(leader, PidfdFlags::empty())
        .inspect_err(|err| log::debug!("the ends of commands are looked for: pidfd_open: {err}"))
        .ok();
    Ok(Running {
        handle,
        leader,
        pidfd,
        command: command.clone(),
        began,
        began_since_boot,
        pipes: RefCell::new(pipes),
        has_left: Cell::new(false),
    })
}

/// In words, that this host has run out of something.
#[must_use]
pub fn no_room(err: &io::Error) -> String {
    format!(
        "this host has no room for another command, though nothing is wrong with that: {err}; see `ulimit -n`, `ulimit -u`, memory, \
         and the limits of the service that starts Duly"
    )
}

/// Lets this process have the files open that so many commands at once need, as far as it may; commands inherit that.
pub fn make_room_for(commands: usize) {
    let needed = (OPEN_EACH * commands + OPEN_ELSE) as u64;
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|current| current < needed) {
        limit.current = Some(limit.maximum.map_or(needed, |maximum| maximum.min(needed)));
        if let Err(err) = setrlimit(Resource::Nofile, limit) {
            log::debug!("no more files may be open than before: {err}");
        }
    }
}

/// Lets commands inherit nothing but their standard streams: the client library's sockets to the database would be theirs as
/// well, and with them the lock that whoever started this program may hold.
fn keep_to_ourselves() {
    close_fds::set_fds_cloexec_threadsafe(3, &[]);
}

/// Whose trouble it is that the kernel did not start a program.
fn explain(err: io::Error, program: &str) -> StartError {
    let known = err.raw_os_error().map(Errno::from_raw_os_error);
    match known {
        Some(
            Errno::MFILE
            | Errno::NFILE
            | Errno::AGAIN
            | Errno::NOMEM
            | Errno::NOSPC
            | Errno::DQUOT
            | Errno::NOBUFS
            | Errno::IO,
        ) => StartError::Host(err),
        Some(Errno::TOOBIG) => StartError::Command(format!(
            "its arguments and its environment are longer than the kernel takes ({} KiB for each word, about a quarter of \
             `ulimit -s` for all); hand over a file, or the number of a row",
            (32 * rustix::param::page_size()) >> 10
        )),
        Some(Errno::NOEXEC) => StartError::Command(format!(
            "`{program}` is neither a program for this machine nor a script that begins with #!"
        )),
        Some(Errno::NOENT) => StartError::Command(format!(
            "`{program}` lacks what it is started by, its loader: is it built for this system?"
        )),
        _ => StartError::Command(format!("`{program}` cannot be started: {err}")),
    }
}

impl Running {
    /// The process id of the leader, which is the id of its group.
    #[must_use]
    pub fn group(&self) -> i32 {
        self.leader.as_raw_nonzero().get()
    }

    /// How long it has been running.
    #[must_use]
    pub fn ran(&self) -> Duration {
        self.began.elapsed()
    }

    /// Waits until the command ends by itself, by its `timeout`, or because `switch` is pressed.
    ///
    /// A command that is stopped gets SIGTERM, `grace`, and SIGKILL, with its whole group.
    ///
    /// # Errors
    ///
    /// When the kernel refuses to wait.
    pub fn wait(&self, switch: &Switch, timeout: Option<Duration>, grace: Duration) -> io::Result<End> {
        // Nothing may be left that nobody waits for.
        let _guard = KilledByPanic(self.leader);
        self.wait_or_stop(switch, timeout, grace).inspect_err(|_| signal_group(self.leader, Signal::KILL))
    }

    fn wait_or_stop(&self, switch: &Switch, timeout: Option<Duration>, grace: Duration) -> io::Result<End> {
        let deadline = timeout.and_then(|timeout| self.began.checked_add(timeout));
        let mut stopped = self.wait_for_end_or_stop(switch, deadline)?;
        // What has ended by itself meanwhile was not stopped.
        if matches!(stopped, Some(Stop::Asked(StopReason::Cancelled) | Stop::TimedOut))
            && self.has_ended(None, Some(Duration::ZERO))?
        {
            stopped = None;
        }
        if stopped.is_none() && self.is_stopped_with_us(switch)? {
            stopped = Some(Stop::Asked(StopReason::Interrupted));
        }
        if let Some(stop) = &stopped {
            self.stop(stop, switch, grace)?;
        }
        self.pipes.borrow_mut().take_in_rest();
        let status = self.reap()?;
        self.wait_for_what_is_left()?;
        // A command that was told to stop may exit with 0 in the midst of its work: why it was told so is how it ended.
        Ok(match stopped {
            Some(Stop::TimedOut) => End::Outcome(Outcome::TimedOut),
            Some(Stop::Asked(StopReason::Cancelled)) => End::Outcome(Outcome::Cancelled),
            Some(Stop::Asked(StopReason::Interrupted)) => End::Outcome(Outcome::Interrupted),
            Some(Stop::Asked(StopReason::LeaseLost)) => End::LeaseLost,
            None => End::Outcome(outcome_of(status)),
        })
    }

    /// Whether a command that has ended was stopped by whoever stops this process too: at the end of a session, a service or the
    /// machine all processes get the signal at once, and the command may end before this process has noticed its own.
    fn is_stopped_with_us(&self, switch: &Switch) -> io::Result<bool> {
        let end = waitid(WaitId::Pid(self.leader), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT)?;
        // A shell tells by its exit code that a signal has ended its command.
        let signal =
            end.and_then(|end| end.terminating_signal().or_else(|| Some(end.exit_status()? - SIGNALLED)));
        let stops = [Signal::HUP, Signal::INT, Signal::QUIT, Signal::TERM].map(Signal::as_raw);
        let until = Instant::now() + MOMENT;
        loop {
            if is_told_to_stop() || matches!(switch.asked(), Some((StopReason::Interrupted, _))) {
                return Ok(true);
            }
            if !signal.is_some_and(|signal| stops.contains(&signal)) || until <= Instant::now() {
                return Ok(false);
            }
            std::thread::sleep(POLL);
        }
    }

    fn wait_for_end_or_stop(&self, switch: &Switch, deadline: Option<Instant>) -> io::Result<Option<Stop>> {
        if let Some((reason, _)) = switch.asked() {
            return Ok(Some(Stop::Asked(reason)));
        }
        loop {
            let left = deadline.map_or(LOOK, |deadline| deadline.saturating_duration_since(Instant::now()));
            if self.has_ended(Some(switch), Some(left.min(LOOK)))? {
                return Ok(None);
            }
            if let Some((reason, _)) = switch.asked() {
                return Ok(Some(Stop::Asked(reason)));
            }
            if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                return Ok(Some(Stop::TimedOut));
            }
        }
    }

    /// Ends all that descends from the command. The leader is reaped only after this, so that its id keeps naming the group.
    fn stop(&self, stop: &Stop, switch: &Switch, grace: Duration) -> io::Result<()> {
        let grace = if matches!(stop, Stop::Asked(StopReason::LeaseLost)) { Duration::ZERO } else { grace };
        let kill_at = Instant::now().checked_add(grace);
        let command = &self.command;
        let mut kin = Kin::of_command(&command.env, &command.argv[0], self.leader, self.began_since_boot);
        if !grace.is_zero() {
            // Before any parent ends: by their parents these are found.
            kin.is_there();
            signal_group(self.leader, Signal::TERM);
            kin.tell_others();
        }
        loop {
            let is_late = kill_at.is_some_and(|at| at <= Instant::now());
            if is_late || switch.asked().is_some_and(|(_, at_once)| at_once) {
                return self.kill(&mut kin);
            }
            switch.drain();
            let left = kill_at.map_or(POLL, |at| at.saturating_duration_since(Instant::now()));
            if self.has_ended(Some(switch), Some(left))? {
                if !kin.is_there() {
                    return Ok(());
                }
                std::thread::sleep(POLL.min(left));
            }
        }
    }

    /// Kills all that descends from the command, and goes on only when nothing of it is left: until then the job must not be
    /// begun again beside it, so this runner keeps it.
    fn kill(&self, kin: &mut Kin) -> io::Result<()> {
        let (began, mut is_told) = (Instant::now(), false);
        loop {
            let is_there = kin.is_there();
            if !is_there && self.has_ended(None, Some(Duration::ZERO))? {
                return Ok(());
            }
            if !is_told && began.elapsed() > DYING {
                is_told = true;
                log::warn!(
                    "{} was killed and does not end: {}; end that by hand: until then its runner keeps the job",
                    kin.what(),
                    kin.names()
                );
            }
            signal_group(self.leader, Signal::KILL);
            kin.kill();
            if self.has_ended(None, Some(POLL))? {
                std::thread::sleep(if is_told { LOOK } else { POLL / 10 });
            }
        }
    }

    /// Waits until the leader has ended or something happens to the switch, or something was printed, which is taken in; at most
    /// `limit`.
    fn has_ended(&self, switch: Option<&Switch>, limit: Option<Duration>) -> io::Result<bool> {
        let mut pipes = self.pipes.borrow_mut();
        let held_up = pipes.are_held_up();
        let limit = held_up.map_or(limit, |held_up| Some(limit.unwrap_or(held_up).min(held_up)));
        // The longer it has run, the longer it may take to notice its end.
        let patience = (self.ran() / 10).clamp(Duration::from_millis(1), POLL);
        let limit = if self.pidfd.is_some() { limit } else { Some(limit.unwrap_or(patience).min(patience)) };
        let mut watched = Vec::with_capacity(4);
        watched.extend(self.pidfd.as_ref().map(|pidfd| PollFd::new(pidfd, PollFlags::IN)));
        watched.extend(switch.map(|switch| PollFd::new(switch, PollFlags::IN)));
        if held_up.is_none() {
            watched.extend(pipes.ends().map(|end| PollFd::new(end, PollFlags::IN)));
        }
        let limit = limit.map(|limit| Timespec {
            tv_sec: i64::try_from(limit.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: limit.subsec_nanos().into(),
        });
        match poll(&mut watched, limit.as_ref()) {
            Ok(_) => {
                let has_ended = match self.pidfd {
                    Some(_) => !watched[0].revents().is_empty(),
                    None => self.is_to_be_reaped()?,
                };
                if held_up.is_none() {
                    pipes.take_in();
                }
                Ok(has_ended)
            }
            Err(Errno::INTR) => Ok(false),
            Err(err) => Err(err.into()),
        }
    }

    /// Whether the leader has ended, asked of the kernel; it stays to be reaped.
    fn is_to_be_reaped(&self) -> io::Result<bool> {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        Ok(waitid(WaitId::Pid(self.leader), options)?.is_some())
    }

    /// What ends with the command may end a moment after it, and print meanwhile: `tee` behind `> >(tee log)`, say. What is
    /// still there then was left in the background, and is let alone.
    fn wait_for_what_is_left(&self) -> io::Result<()> {
        let mut until = Instant::now() + AFTERMATH;
        let latest = until + STARTING;
        let mut pipes = self.pipes.borrow_mut();
        while !pipes.are_closed() || has_members(self.leader) && has_living(self.leader) {
            let left = until.saturating_duration_since(Instant::now()).min(AFTERMATH / 5);
            if left.is_zero() {
                if until < latest && !has_living(self.leader) && is_starting_another() {
                    until += AFTERMATH / 5;
                    continue;
                }
                self.has_left.set(true);
                return pipes.hand_over();
            }
            let mut watched: Vec<_> = pipes.ends().map(|end| PollFd::new(end, PollFlags::IN)).collect();
            let limit = Timespec { tv_sec: 0, tv_nsec: left.subsec_nanos().into() };
            match poll(&mut watched, Some(&limit)) {
                Ok(_) | Err(Errno::INTR) => pipes.take_in(),
                Err(err) => return Err(err.into()),
            }
        }
        Ok(())
    }

    /// Whether something of it was still there when it had ended: in its group, or holding its output.
    #[must_use]
    pub fn has_left(&self) -> bool {
        self.has_left.get()
    }

    fn reap(&self) -> io::Result<ExitStatus> {
        // The kernel has said that it ended: this does not block.
        Ok(self.handle.wait()?.status)
    }
}

/// A command is not left to itself where the thread that waits for it fails.
struct KilledByPanic(Pid);

impl Drop for KilledByPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            signal_group(self.0, Signal::KILL);
        }
    }
}

/// Whether a group may have members, asked of the kernel: those that have ended and that nobody has reaped count. Its leader has
/// been reaped; the id of a group that has any is given to no other.
fn has_members(group: Pid) -> bool {
    rustix::process::test_kill_process_group(group).is_ok()
}

enum Stop {
    TimedOut,
    Asked(StopReason),
}

fn outcome_of(status: ExitStatus) -> Outcome {
    match (status.code(), status.signal()) {
        (Some(0), _) => Outcome::Success,
        (Some(code), _) => Outcome::Exited(code),
        (None, signal) => Outcome::Signalled(signal.unwrap_or(0)),
    }
}
