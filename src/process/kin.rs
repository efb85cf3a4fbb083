//! All processes that descend from one execution, however far they have gone: in groups and sessions of their own, as other users.
//!
//! Found in the kernel's list and in no file of ours: by the variables that only this execution and what it starts have, by
//! the group and the session of its leader, by parentage from any of these. Whoever has left all of them (an emptied
//! environment, a session of its own, and parents that have ended) is not found. Looked for only where an execution is
//! stopped: what a command leaves behind when it ends by itself is left alone.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open, pidfd_send_signal};

use super::stop::{Stat, all_processes};

/// How far the kernel's start time of a process may be from the one noted down.
pub(super) const SAME_START: Duration = Duration::from_millis(500);

/// How long processes that were killed may take to go.
pub(super) const DYING: Duration = Duration::from_secs(2);

/// The variables whose values tell an execution, of a job or of a command that lists targets.
const MARKS: [&str; 4] = ["DULY_RUNNER", "DULY_JOB_ID", "DULY_FENCE", "DULY_ANSWER"];

/// What the processes of one execution are found by, and those that were found.
#[derive(Debug)]
pub(super) struct Kin {
    /// For people, such as `job 7`.
    what: String,
    /// Variables with their values; empty where none tells this execution.
    marks: Vec<String>,
    /// The id of its group and its session, and whether that can name nothing else.
    group: Option<(i32, bool)>,
    /// Nothing that started before this, since boot, descends from it.
    since: Duration,
    /// Found so far, with their starts: whoever was found by a parent is known when that has ended.
    found: HashMap<i32, Relative>,
}

#[derive(Debug, Clone, Copy)]
struct Relative {
    started: Duration,
    group: i32,
}

impl Kin {
    /// Of the command that was started with this environment and leads its group, not reaped yet.
    pub(super) fn of_command(
        env: &BTreeMap<String, String>,
        program: &str,
        leader: Pid,
        since: Duration,
    ) -> Self {
        let marks = MARKS.iter().filter_map(|name| Some(format!("{name}={}", env.get(*name)?)));
        let what = env.get("DULY_JOB_ID").map_or_else(|| format!("`{program}`"), |id| format!("job {id}"));
        let group = Some((leader.as_raw_nonzero().get(), true));
        Self { what, marks: marks.collect(), group, since, found: HashMap::new() }
    }

    /// Of what runner `owner` started for this job and fence. Job and fence alone would not do: a host may run jobs of
    /// several databases.
    pub(super) fn of_claim(owner: &str, job: i64, fence: i64) -> Self {
        let marks =
            vec![format!("DULY_RUNNER={owner}"), format!("DULY_JOB_ID={job}"), format!("DULY_FENCE={fence}")];
        Self { what: format!("job {job}"), marks, group: None, since: Duration::ZERO, found: HashMap::new() }
    }

    /// Of whatever has this in its environment.
    pub(super) fn marked(mark: String, what: &str) -> Self {
        let (what, marks) = (what.to_owned(), vec![mark]);
        Self { what, marks, group: None, since: Duration::ZERO, found: HashMap::new() }
    }

    /// The same, whose group was noted down as this. Where the leader is gone, the id may have passed to other processes: then
    /// only those of that group count whose environment cannot be read.
    #[must_use]
    pub(super) fn of_group(mut self, group: i32, started: Duration) -> Self {
        let leader = Stat::of(group).filter(|leader| leader.group == group);
        let is_same = leader.as_ref().is_some_and(|leader| leader.started.abs_diff(started) <= SAME_START);
        self.group = (group > 0 && (is_same || leader.is_none())).then_some((group, is_same));
        self.since = started;
        self
    }

    /// For people, such as `job 7`.
    pub(super) fn what(&self) -> &str {
        &self.what
    }

    /// Looks for them; returns whether any has not ended. Never this process itself, which may have been started by what it ends.
    pub(super) fn is_there(&mut self) -> bool {
        let me = i32::try_from(std::process::id()).unwrap_or_default();
        let is_old = |stat: &Stat| stat.started + SAME_START < self.since;
        let all: Vec<(i32, Stat)> = all_processes()
            .filter(|pid| *pid != me)
            .filter_map(|pid| Some((pid, Stat::of(pid).filter(|stat| !stat.is_over && !is_old(stat))?)))
            .collect();
        let mut found = HashMap::new();
        for (pid, stat) in &all {
            if self.found.get(pid).is_some_and(|known| known.started == stat.started)
                || self.is_one(*pid, stat)
            {
                found.insert(*pid, Relative { started: stat.started, group: stat.group });
            }
        }
        loop {
            let before = found.len();
            for (pid, stat) in &all {
                if found.contains_key(&stat.parent) {
                    found.insert(*pid, Relative { started: stat.started, group: stat.group });
                }
            }
            if found.len() == before {
                break;
            }
        }
        self.found = found;
        !self.found.is_empty()
    }

    fn is_one(&self, pid: i32, stat: &Stat) -> bool {
        let is_of_group = |group: i32| stat.group == group || stat.session == group;
        match self.group {
            Some((group, true)) if is_of_group(group) => true,
            Some((group, false)) if is_of_group(group) => match environment(pid) {
                Ok(environment) => self.has_marks(&environment),
                Err(_) => true,
            },
            _ => !self.marks.is_empty() && environment(pid).is_ok_and(|found| self.has_marks(&found)),
        }
    }

    fn has_marks(&self, environment: &[u8]) -> bool {
        let has = |mark: &String| environment.split(|byte| *byte == 0).any(|set| set == mark.as_bytes());
        !self.marks.is_empty() && self.marks.iter().all(has)
    }

    /// Tells those that were found outside the leader's group to end. What another runner executes, that one is told to stop.
    pub(super) fn tell_others(&self) {
        for (pid, relative) in &self.found {
            let is_told = self.group.is_some_and(|(group, _)| group == relative.group);
            let is_anothers = || {
                let environment = environment(*pid).unwrap_or_default();
                environment.split(|byte| *byte == 0).any(|set| set.starts_with(b"DULY_RUNNER="))
                    && !self.has_marks(&environment)
            };
            if !is_told && !is_anothers() {
                signal(*pid, relative.started, Signal::TERM).unwrap_or_default();
            }
        }
    }

    /// Kills those that were found.
    pub(super) fn kill(&self) {
        for (pid, relative) in &self.found {
            if let Err(err) = signal(*pid, relative.started, Signal::KILL) {
                log::debug!("cannot kill process {pid} of {}: {err}", self.what);
            }
        }
    }

    /// Kills whatever there is of it and waits a moment until it is gone; returns whether it is.
    pub(super) fn end(&mut self) -> bool {
        if !self.is_there() {
            return true;
        }
        let groups: BTreeSet<i32> = self.found.values().map(|relative| relative.group).collect();
        for group in groups {
            log::warn!("ending process group {group} that {} had left behind", self.what);
        }
        let began = Instant::now();
        loop {
            self.kill();
            std::thread::sleep(Duration::from_millis(20));
            if !self.is_there() {
                return true;
            }
            if began.elapsed() > DYING {
                return false;
            }
        }
    }

    /// Those that were found, for people.
    pub(super) fn names(&self) -> String {
        let mut pids: Vec<i32> = self.found.keys().copied().collect();
        pids.sort_unstable();
        let name = |pid: &i32| {
            let program = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            let user = fs::metadata(format!("/proc/{pid}")).map_or(0, |found| found.uid());
            format!("process {pid} ({}, user {user})", program.trim())
        };
        pids.iter().map(name).collect::<Vec<_>>().join(", ")
    }
}

/// The claims, as runner, job and fence, of which processes are here, by their environments. One look for any number of jobs.
#[must_use]
pub fn claims_here() -> HashSet<(String, i64, i64)> {
    let value_of = |environment: &[u8], name: &str| {
        let mut sets = environment.split(|byte| *byte == 0).filter_map(|set| std::str::from_utf8(set).ok());
        sets.find_map(|set| set.strip_prefix(name)?.strip_prefix('=').map(str::to_owned))
    };
    let claim_of = |pid: i32| {
        let environment = environment(pid).ok()?;
        let [runner, job, fence] =
            ["DULY_RUNNER", "DULY_JOB_ID", "DULY_FENCE"].map(|name| value_of(&environment, name));
        Some((runner?, job?.parse().ok()?, fence?.parse().ok()?))
    };
    all_processes().filter_map(claim_of).collect()
}

fn environment(pid: i32) -> io::Result<Vec<u8>> {
    fs::read(format!("/proc/{pid}/environ"))
}

/// Signals a process, if it is still the one that started then; one that has ended needs none.
fn signal(pid: i32, started: Duration, signal: Signal) -> io::Result<()> {
    let Some(id) = Pid::from_raw(pid) else { return Ok(()) };
    // Names this process and no later one; some sandboxes refuse it.
    let handle = pidfd_open(id, PidfdFlags::empty());
    if Stat::of(pid).is_none_or(|stat| stat.started != started) {
        return Ok(());
    }
    let sent = match handle {
        Ok(handle) => pidfd_send_signal(&handle, signal),
        Err(_) => kill_process(id, signal),
    };
    match sent {
        Ok(()) | Err(Errno::SRCH) => Ok(()),
        Err(err) => Err(err.into()),
    }
}
