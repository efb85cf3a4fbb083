//! Ticks without cron, until somebody says stop.
//!
//! Each tick is a process of its own, the same `duly run` that cron starts: it reads jobs.yaml anew, what goes wrong in one
//! ends with it, and nothing can pile up in the daemon in months. Should the daemon be killed, its ticks go on as those of a
//! cron that is killed do, and record what they run. A signal is passed on to them, and they stop their jobs as `run` does.
//!
//! Where the program was replaced, by an upgrade say, ticks are of the new one at once, and the daemon becomes it as soon as
//! no tick is under way: no job is stopped for it.
//!
//! A jobs.yaml that cannot be used starts nothing, and is told: at once when it was changed, then every ten minutes. So are
//! ticks that do not end: those that execute are as many as the host has slots at most, and some more may live beside them.

use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use sd_notify::NotifyState;

use crate::config::{self, ConfigError, LoadOptions};
use crate::process::program::ProgramFile;
use crate::process::signals::on_stop_signal;
use crate::process::ticks::{TickEnd, TickProcess, reap_strangers};

/// Ticks alive at once, at most, beside those that execute. Of these each holds a slot of the host; those that have nothing
/// to do end at once; more than this are some that hang.
const MOST: usize = 64;

/// How often ticks that live are looked at.
const LOOK: Duration = Duration::from_millis(200);

/// How often the same trouble is told again.
const TELL_AGAIN: Duration = Duration::from_secs(600);

/// How much time the service manager is asked for while ticks stop.
const EXTENSION: u32 = 30_000_000;

/// What a daemon does.
#[derive(Clone)]
pub struct Orders {
    /// From the start of one tick to the next.
    pub interval: Duration,
    /// The program.
    pub program: String,
    /// Its arguments for a tick.
    pub arguments: Vec<String>,
    /// Variables for a tick, besides this process's own.
    pub variables: Vec<(String, String)>,
    /// Where jobs.yaml is.
    pub options: LoadOptions,
}

struct Daemon {
    orders: Orders,
    file: ProgramFile,
    ticks: Vec<Alive>,
    told: Option<(String, Instant)>,
    /// When it was told last that ticks do not end, if they don't.
    crowded: Option<Instant>,
    status: String,
    watchdog: Option<(Duration, Instant)>,
}

/// A tick that has not ended.
struct Alive {
    process: TickProcess,
    /// Slots that the host had when it was started.
    slots: usize,
}

/// Ticks until SIGTERM or SIGINT, whose number is given once all ticks have ended.
///
/// # Errors
///
/// When jobs.yaml cannot be used from the start, or the signals cannot be caught.
pub fn run(orders: Orders) -> Result<i32> {
    config::load(&orders.options)?;
    let (sender, signals) = channel();
    on_stop_signal(move |signal| {
        if sender.send(signal).is_err() {
            log::debug!("signal {signal} came when all was done");
        }
    })
    .context("cannot catch signals")?;
    let watchdog = sd_notify::watchdog_enabled().map(|limit| (limit / 3, Instant::now()));
    let file = ProgramFile::new(&orders.program);
    let mut daemon = Daemon {
        orders,
        file,
        ticks: Vec::new(),
        told: None,
        crowded: None,
        status: String::new(),
        watchdog,
    };
    notify(&[NotifyState::Ready]);
    daemon.work(&signals)
}

impl Daemon {
    fn work(&mut self, signals: &Receiver<i32>) -> Result<i32> {
        let mut next = Instant::now();
        let mut stopping = None;
        loop {
            self.reap();
            if let Some(signal) = stopping {
                if self.ticks.is_empty() {
                    return Ok(signal);
                }
                notify(&[NotifyState::ExtendTimeoutUsec(EXTENSION)]);
            } else if next <= Instant::now() {
                match self.take_over(signals) {
                    Some(signal) => self.stop(signal, &mut stopping),
                    None => self.tick(),
                }
                // What was missed, while the machine slept or was stopped, is not made up for.
                while next <= Instant::now() {
                    next += self.orders.interval;
                }
            }
            if stopping.is_none() && self.told.is_none() && self.crowded.is_none() {
                self.say_how_many();
            }
            self.show_life();
            match signals.recv_timeout(self.pause(next, stopping.is_some())) {
                Ok(signal) => self.stop(signal, &mut stopping),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(anyhow!("the thread that waits for signals has ended"));
                }
            }
        }
    }

    /// Passes a signal on to the ticks, after which there are no more.
    fn stop(&mut self, signal: i32, stopping: &mut Option<i32>) {
        log::info!("signal {signal}: {} ticks are told to stop", self.ticks.len());
        self.ticks.iter().for_each(|tick| tick.process.signal(signal));
        if stopping.replace(stopping.unwrap_or(signal)).is_none() {
            notify(&[NotifyState::Stopping]);
            self.say(format!("stopping, {} ticks have not ended", self.ticks.len()));
        }
    }

    /// How long nothing has to be looked at.
    fn pause(&self, next: Instant, is_stopping: bool) -> Duration {
        let mut pause = next.saturating_duration_since(Instant::now());
        if is_stopping || !self.ticks.is_empty() {
            pause = if is_stopping { LOOK } else { pause.min(LOOK) };
        }
        self.watchdog.map_or(pause, |(every, _)| pause.min(every))
    }

    fn tick(&mut self) {
        // Read here as well, so that a file that is broken for an hour is not told by each tick anew.
        let slots = match config::load(&self.orders.options) {
            Ok(config) => config.runner.concurrency,
            Err(broken) => {
                self.tell_broken(&broken);
                return;
            }
        };
        if self.told.take().is_some() {
            log::warn!("jobs.yaml can be used again");
        }
        if self.ticks.len() >= self.most(slots) {
            self.tell_crowded();
            return;
        }
        if self.crowded.take().is_some() {
            log::warn!("ticks have ended, and are started again");
        }
        match TickProcess::start(&self.orders.program, &self.orders.arguments, &self.orders.variables) {
            Ok(process) => self.ticks.push(Alive { process, slots }),
            Err(err) => log::error!("cannot start a tick (`{}`): {err}", self.orders.program),
        }
    }

    /// Ticks that may be alive: as many as hold a slot of the host, of which there may have been more, and some more.
    fn most(&self, slots: usize) -> usize {
        self.ticks.iter().map(|tick| tick.slots).fold(slots, usize::max).saturating_add(MOST)
    }

    /// Says that no tick is started, now and then; returns whether it did so now.
    fn tell_crowded(&mut self) -> bool {
        let ticks = self.ticks.len();
        let is_new = self.crowded.is_none_or(|at| at.elapsed() >= TELL_AGAIN);
        if is_new {
            self.crowded = Some(Instant::now());
            log::error!(
                "no tick is started: {ticks} have not ended, more than can execute; does the database answer? `duly status`"
            );
        }
        self.say(format!("no tick is started: {ticks} have not ended"));
        is_new
    }

    fn say_how_many(&mut self) {
        let every = crate::job::duration::exact(self.orders.interval);
        self.say(match self.ticks.len() {
            0 => format!("ticking every {every}"),
            1 => format!("ticking every {every}, 1 tick under way"),
            ticks => format!("ticking every {every}, {ticks} ticks under way"),
        });
    }

    /// Becomes the program that was put in this one's place, once there is one and nothing is under way; gives a signal that
    /// came while that was tried.
    fn take_over(&mut self, signals: &Receiver<i32>) -> Option<i32> {
        if !self.ticks.is_empty() || !self.file.is_replaced() {
            return None;
        }
        let program = &self.orders.program;
        if let Err(why) = self.file.try_it() {
            log::error!("`{program}` was replaced by what cannot be used: {why}");
            return None;
        }
        if let Ok(signal) = signals.try_recv() {
            return Some(signal);
        }
        log::info!("`{program}` was replaced; going on as what is there now");
        let err = self.file.become_it();
        log::error!("cannot go on as the new `{program}`: {err}");
        None
    }

    fn tell_broken(&mut self, broken: &ConfigError) {
        let text = broken.to_string();
        let is_known =
            self.told.as_ref().is_some_and(|(told, at)| *told == text && at.elapsed() < TELL_AGAIN);
        if !is_known {
            for line in text.lines() {
                log::error!("no tick is started: {line}");
            }
            self.told = Some((text.clone(), Instant::now()));
        }
        self.say(format!("no tick is started: {}", text.lines().next().unwrap_or_default()));
    }

    fn reap(&mut self) {
        self.ticks.retain_mut(|tick| match tick.process.end() {
            Ok(None) => true,
            // What it had to say it has said.
            Ok(Some(TickEnd::Code(code))) => {
                log::debug!("a tick exited with {code}");
                false
            }
            Ok(Some(TickEnd::Signal(signal))) => {
                log::warn!(
                    "a tick was ended by signal {signal}; the next one takes back what it had under way"
                );
                false
            }
            Err(err) => {
                log::error!("a tick is lost from sight: {err}");
                false
            }
        });
        let ticks: Vec<u32> = self.ticks.iter().map(|tick| tick.process.id()).collect();
        reap_strangers(&ticks);
    }

    /// Tells the watchdog that this loop goes round.
    fn show_life(&mut self) {
        if let Some((every, last)) = &mut self.watchdog
            && last.elapsed() >= *every
        {
            *last = Instant::now();
            notify(&[NotifyState::Watchdog]);
        }
    }

    /// Shows in `systemctl status` what is going on.
    fn say(&mut self, status: String) {
        if self.status != status {
            notify(&[NotifyState::Status(&status)]);
            self.status = status;
        }
    }
}

/// Tells the service manager, if there is one.
fn notify(states: &[NotifyState<'_>]) {
    if let Err(err) = sd_notify::notify(states) {
        log::debug!("the service manager was not told: {err}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A daemon whose ticks hang, on a host with so many slots.
    fn daemon(folder: &std::path::Path, slots: usize) -> Daemon {
        let orders = Orders {
            interval: Duration::from_secs(1),
            program: "/bin/sleep".to_owned(),
            arguments: vec!["600".to_owned()],
            variables: Vec::new(),
            options: LoadOptions { path: Some(folder.join("jobs.yaml")), ..LoadOptions::default() },
        };
        let daemon = Daemon {
            file: ProgramFile::new(&orders.program),
            orders,
            ticks: Vec::new(),
            told: None,
            crowded: None,
            status: String::new(),
            watchdog: None,
        };
        set_slots(folder, slots);
        daemon
    }

    fn set_slots(folder: &std::path::Path, slots: usize) {
        use std::os::unix::fs::PermissionsExt as _;
        let path = folder.join("jobs.yaml");
        let text = format!("database: jobs.db\nrunner: {{concurrency: {slots}}}\njobs: {{}}\n");
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    }

    impl Drop for Daemon {
        fn drop(&mut self) {
            for tick in &mut self.ticks {
                tick.process.signal(9);
                while tick.process.end().unwrap().is_none() {
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
        }
    }

    /// Seen failing with 64 for all: no tick was started after that.
    #[test]
    fn ticks_that_execute_never_stop_the_ticking() {
        let folder = tempfile::tempdir().unwrap();
        let mut daemon = daemon(folder.path(), 70);
        (0..70).for_each(|_| daemon.tick());
        assert_eq!((daemon.ticks.len(), daemon.crowded), (70, None));
        // Those that are alive may still hold 70 slots.
        set_slots(folder.path(), 1);
        (0..MOST).for_each(|_| daemon.tick());
        assert_eq!((daemon.ticks.len(), daemon.crowded), (70 + MOST, None));
    }

    /// Seen failing with it told once, and `64 ticks under way` as what is going on.
    #[test]
    fn ticks_that_hang_stop_it_and_that_is_told_every_ten_minutes() {
        let folder = tempfile::tempdir().unwrap();
        let mut daemon = daemon(folder.path(), 2);
        (0..MOST + 5).for_each(|_| daemon.tick());
        assert_eq!(daemon.ticks.len(), MOST + 2);
        assert_eq!(daemon.status, format!("no tick is started: {} have not ended", MOST + 2));
        assert!(!daemon.tell_crowded(), "told already");
        daemon.crowded = Instant::now().checked_sub(TELL_AGAIN);
        assert!(daemon.tell_crowded());
        assert!(!daemon.tell_crowded());
        daemon.ticks.remove(0).process.signal(9);
        daemon.tick();
        assert_eq!((daemon.ticks.len(), daemon.crowded), (MOST + 2, None), "it goes on");
    }
}
