//! The pipes that a command prints to, and taking in what is in them.
//!
//! What a command does with `/dev/stdout` is done to the pipe: nothing can be cut off or written over. Both streams go through
//! one pipe, which keeps their order, unless only standard output is the answer. Nobody waits for the end of a pipe: what a
//! command leaves behind may hold it for ever.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::fs::{Mode, OFlags, fchmod, fcntl_setfl};
use rustix::io::{Errno, ioctl_fionread, read};
use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};

use super::capture::Capture;
use super::program::own_program;

/// Bytes that are taken in at once; as much as a pipe holds at first.
const CHUNK: usize = 64 << 10;

/// What is asked of the kernel for a pipe that was full: its usual limit.
const WIDE: usize = 1 << 20;

/// Less than this is little, and has the next wait so long: a command that prints line by line wakes nobody up for each.
const LITTLE: usize = 8 << 10;
const REST: Duration = Duration::from_millis(1);

/// How long a command has to wait at least that prints faster than it is shown.
const HELD_UP: Duration = Duration::from_millis(5);

/// Where what a command prints goes.
#[derive(Debug, Clone)]
pub struct Printed {
    /// Both streams.
    pub record: Arc<Capture>,
    /// Standard output alone, where that is an answer.
    pub answer: Option<Arc<Capture>>,
    /// Whether the answer is in the record as well.
    is_recorded: bool,
}

impl Printed {
    /// Both streams go to `record`.
    #[must_use]
    pub fn together(record: Arc<Capture>) -> Self {
        Self { record, answer: None, is_recorded: true }
    }

    /// Standard output goes to `answer`, and where it `is_recorded` to `record` too, as standard error does.
    #[must_use]
    pub fn apart(record: Capture, answer: Capture, is_recorded: bool) -> Self {
        Self { record: Arc::new(record), answer: Some(Arc::new(answer)), is_recorded }
    }
}

/// The reading ends.
#[derive(Debug)]
pub(super) struct Pipes {
    open: Vec<Pipe>,
    buffer: Vec<u8>,
    printed: Printed,
    /// When what is there is taken in again, once there was anything.
    rested_at: Option<Instant>,
}

#[derive(Debug)]
struct Pipe {
    end: OwnedFd,
    is_answer: bool,
}

/// The other ends: a command's standard output, and its standard error where that is another.
pub(super) struct Ends {
    pub(super) output: OwnedFd,
    pub(super) errors: Option<OwnedFd>,
}

impl Pipes {
    pub(super) fn new(printed: Printed) -> Result<(Self, Ends), Errno> {
        let mut open = Vec::with_capacity(2);
        let mut pipe = |is_answer| {
            let (end, other) = pipe_with(PipeFlags::CLOEXEC)?;
            // Of this end alone: the command's own may block it.
            fcntl_setfl(&end, OFlags::NONBLOCK)?;
            // For a program of another user, which `sudo` starts say, to open /dev/stdout. Nobody else comes by the pipe.
            fchmod(&other, Mode::from_raw_mode(0o622))?;
            open.push(Pipe { end, is_answer });
            Ok::<OwnedFd, Errno>(other)
        };
        let errors = if printed.answer.is_some() { Some(pipe(false)?) } else { None };
        let output = pipe(errors.is_some())?;
        Ok((Self { open, buffer: Vec::new(), printed, rested_at: None }, Ends { output, errors }))
    }

    /// What tells that there is something to take in.
    pub(super) fn ends(&self) -> impl Iterator<Item = &OwnedFd> {
        self.open.iter().map(|pipe| &pipe.end)
    }

    /// Whether there is nobody any more who could print.
    pub(super) fn are_closed(&self) -> bool {
        self.open.is_empty()
    }

    /// How long nothing is to be taken in: whoever shows what is printed has enough for now, or it comes in little pieces, of which
    /// several are taken at once.
    pub(super) fn are_held_up(&self) -> Option<Duration> {
        let left = self.rested_at?.saturating_duration_since(Instant::now());
        if self.printed.record.is_behind() {
            Some(HELD_UP)
        } else {
            Some(left).filter(|left| !left.is_zero())
        }
    }

    /// Takes in what is there, up to a chunk of it; never waits.
    pub(super) fn take_in(&mut self) {
        let (buffer, printed) = (&mut self.buffer, &self.printed);
        let mut most = 0;
        self.open.retain(|pipe| {
            let taken = pipe.take_in(buffer, printed);
            most = most.max(taken.unwrap_or(0));
            !matches!(taken, Ok(0))
        });
        if most > 0 {
            let rest = if most < LITTLE { REST } else { Duration::ZERO };
            self.rested_at = Some(Instant::now() + rest);
        }
    }

    /// Leaves what is printed from now on to a process of its own, which drops it for as long as there is somebody to print: the
    /// end of this one would be the end of them at their next word, or a full pipe would stop them.
    pub(super) fn hand_over(&mut self) -> io::Result<()> {
        for pipe in self.open.drain(..) {
            // It may wait, and does.
            fcntl_setfl(&pipe.end, OFlags::empty())?;
            let own = own_program().map_err(io::Error::other)?;
            #[expect(clippy::disallowed_methods, reason = "this is src/process")]
            let mut command = Command::new(own);
            command.arg("drop").current_dir("/").env_clear().process_group(0);
            let mut child = command.stdin(pipe.end).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
            // For runners that live long.
            std::thread::Builder::new().name("reaper".to_owned()).spawn(move || child.wait().is_ok())?;
        }
        Ok(())
    }

    /// Takes in what was there when the command had ended. What it has left behind may go on printing for ever.
    pub(super) fn take_in_rest(&mut self) {
        let (buffer, printed) = (&mut self.buffer, &self.printed);
        self.open.retain(|pipe| {
            let mut left = ioctl_fionread(&pipe.end).unwrap_or(0);
            loop {
                match pipe.take_in(buffer, printed) {
                    Ok(0) => return false,
                    Ok(taken) if (taken as u64) <= left => left -= taken as u64,
                    Ok(_) | Err(_) => return true,
                }
            }
        });
    }
}

impl Pipe {
    /// Returns how many bytes there were: none once nobody holds the other end.
    fn take_in(&self, buffer: &mut Vec<u8>, printed: &Printed) -> Result<usize, Errno> {
        buffer.clear();
        buffer.reserve(CHUNK);
        let taken = read(&self.end, spare_capacity(buffer))?;
        if !self.is_answer || printed.is_recorded {
            printed.record.append(buffer);
        }
        if let Some(answer) = printed.answer.as_ref().filter(|_| self.is_answer) {
            answer.append(buffer);
        }
        // Full: whoever prints so much waits less often for more room, where this user is given any.
        if taken == CHUNK && buffer.capacity() < WIDE {
            buffer.reserve(WIDE);
            if let Err(err) = fcntl_setpipe_size(&self.end, WIDE) {
                log::debug!("a pipe stays as it is: {err}");
            }
        }
        Ok(taken)
    }
}
