//! Ticks as processes of their own, for the daemon: the same program, as cron would start it.

use std::io;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Child, Command, Stdio};

use nix::sys::wait::{Id, WaitPidFlag, waitid, waitpid};
use rustix::process::{Pid, Signal, kill_process};

/// What the service manager gives the daemon and nobody below it must use.
const NOT_INHERITED: [&str; 3] = ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"];

/// A tick that was started.
#[derive(Debug)]
pub struct TickProcess {
    child: Child,
}

/// How a tick ended: by itself with this code, or by this signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TickEnd {
    /// It exited.
    Code(i32),
    /// Somebody killed it.
    Signal(i32),
}

impl TickProcess {
    /// Starts `program` with these arguments and variables, its output going where this process's goes. It is in a process
    /// group of its own, so that a Ctrl-C at the terminal reaches it once only, through [`Self::signal`].
    ///
    /// # Errors
    ///
    /// When it cannot be started.
    pub fn start(program: &str, arguments: &[String], variables: &[(String, String)]) -> io::Result<Self> {
        #[expect(clippy::disallowed_methods, reason = "this is src/process")]
        let mut command = Command::new(program);
        command.args(arguments).envs(variables.iter().map(|(name, value)| (name, value)));
        for name in NOT_INHERITED {
            command.env_remove(name);
        }
        let child = command.process_group(0).stdin(Stdio::null()).spawn()?;
        Ok(Self { child })
    }

    /// Passes a signal on to it, and not to its jobs, which it stops itself.
    pub fn signal(&self, number: i32) {
        let Some(signal) = Signal::from_named_raw(number) else { return };
        // Not reaped yet, so the id is still its own.
        if let Err(err) = kill_process(Pid::from_child(&self.child), signal) {
            log::debug!("cannot signal tick {}: {err}", self.child.id());
        }
    }

    /// Its process id, which is its own until [`Self::end`] has told of its end.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, once it has.
    ///
    /// # Errors
    ///
    /// When the kernel does not tell.
    pub fn end(&mut self) -> io::Result<Option<TickEnd>> {
        let status = self.child.try_wait()?;
        Ok(status.map(|status| match (status.code(), status.signal()) {
            (Some(code), _) => TickEnd::Code(code),
            (None, signal) => TickEnd::Signal(signal.unwrap_or_default()),
        }))
    }
}

/// Lets processes go that have ended and are nobody's: to process 1 of a container, and to a reaper, the kernel gives all that have
/// lost their parents. `ticks` are looked after by whoever started them.
pub fn reap_strangers(ticks: &[u32]) {
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    // One that is a tick's is told of until that was asked for its end; the others wait for the next look then.
    while let Some(pid) = waitid(Id::All, flags).ok().and_then(|status| status.pid()) {
        if u32::try_from(pid.as_raw()).is_ok_and(|pid| ticks.contains(&pid)) {
            return;
        }
        if let Err(err) = waitpid(pid, Some(WaitPidFlag::WNOHANG)) {
            log::debug!("process {pid}: {err}");
            return;
        }
    }
}
