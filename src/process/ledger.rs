//! What a runner has under way on this host, for whoever has to tidy up after it.
//!
//! Each runner locks a file of its own, one fixed line per job under way: job, fence, process group and when that was
//! started. A file whose lock can be had is that of a runner that died: its groups are killed, if they are still the
//! same processes, and its output files can be salvaged. No write to the database is needed for that.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt as _, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, Signal};

use super::clock::wall_seconds;
use super::identity::boot_id;
use super::slots::PLAIN_FILE;
use super::stop::{Stat, all_processes, group_members, signal_group};

/// Bytes per line; a line says at most four numbers of at most twenty digits.
const LINE: usize = 96;

/// How old, in seconds, a file that is being made may be; it takes no longer than to write it.
pub(super) const UNFINISHED: i64 = 60;

/// The variable that tells a command which lists targets, and what it starts, which runner asks.
pub(super) const LISTER: &str = "DULY_LISTER";

/// How far the kernel's start time of a process may be from the one noted down.
const SAME_START: Duration = Duration::from_millis(500);

/// This runner's own file; removed when dropped.
#[derive(Debug)]
pub struct Ledger {
    file: File,
    path: PathBuf,
}

/// A job that a dead runner had under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// The job.
    pub job: i64,
    /// The fence of the claim.
    pub fence: i64,
    /// The process group.
    pub group: i32,
    /// When the group was started, since boot.
    pub started: Duration,
}

/// A runner that died on this host, as it left things.
#[derive(Debug)]
pub struct DeadRunner {
    /// Its identity.
    pub owner: String,
    /// What it had under way.
    pub entries: Vec<Entry>,
    /// Whether it died in this boot: then its process groups may still be there.
    pub is_this_boot: bool,
    path: PathBuf,
    // Held until everything is done, so that one tick only tidies up.
    _lock: File,
}

impl Ledger {
    /// Creates and locks the file of runner `owner`, with room for `lines` jobs at once.
    ///
    /// # Errors
    ///
    /// When the folder cannot be written or is full.
    pub fn create(folder: &Path, owner: &str, lines: usize) -> io::Result<Self> {
        // Locked before it has the name that others look for, so that nobody can take it for a dead runner's.
        let being_made = folder.join(format!("making-{owner}"));
        let file =
            OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&being_made)?;
        let mut ledger = Self { file, path: being_made };
        flock(&ledger.file, FlockOperation::NonBlockingLockExclusive)?;
        // All the room is taken now: later there is no way for a full disk to lose a line.
        ledger.file.write_all_at(&vec![b' '; LINE * (lines + 1)], 0)?;
        ledger.file.write_all_at(boot_id().as_bytes(), 0)?;
        let path = folder.join(format!("runner-{owner}"));
        fs::rename(&ledger.path, &path)?;
        ledger.path = path;
        Ok(ledger)
    }

    /// Notes down that `line` has nothing under way.
    ///
    /// # Errors
    ///
    /// When the file cannot be written.
    pub fn blank(&self, line: usize) -> io::Result<()> {
        self.file.write_all_at(&[b' '; LINE], (LINE * (line + 1)) as u64)
    }

    /// Notes down that `line` has `entry` under way; its group is 0 while it is being started.
    ///
    /// # Errors
    ///
    /// When the file cannot be written.
    pub fn note(&self, line: usize, entry: Entry) -> io::Result<()> {
        let text = format!("{} {} {} {}", entry.job, entry.fence, entry.group, entry.started.as_millis());
        self.file.write_all_at(format!("{text:<LINE$}").as_bytes(), (LINE * (line + 1)) as u64)
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        if let Err(err) = fs::remove_file(&self.path) {
            log::debug!("cannot remove {}: {err}", self.path.display());
        }
    }
}

/// The runners that died on this host and that nobody has tidied up after.
#[must_use]
pub fn dead_runners(folder: &Path) -> Vec<DeadRunner> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name();
            let owner = name.to_str()?.strip_prefix("runner-")?.to_owned();
            read_dead(entry.path(), owner)
        })
        .collect()
}

/// Whether runner `owner` is alive; `None` where it has no ledger in `folder`: it is another host's, or was tidied up after.
#[must_use]
pub fn is_alive(folder: &Path, owner: &str) -> Option<bool> {
    let file = File::open(folder.join(format!("runner-{owner}"))).ok()?;
    super::slots::try_lock(&file).ok().map(|is_free| !is_free)
}

fn read_dead(path: PathBuf, owner: String) -> Option<DeadRunner> {
    let lock = OpenOptions::new().read(true).write(true).custom_flags(PLAIN_FILE).open(&path).ok()?;
    if !lock.metadata().ok()?.is_file() {
        return None;
    }
    flock(&lock, FlockOperation::NonBlockingLockExclusive).ok()?;
    // Its owner may have removed it, or another tick may have dealt with it, between the two calls.
    let text = fs::read_to_string(&path).ok()?;
    let mut lines = text.as_bytes().chunks(LINE).map(String::from_utf8_lossy);
    let boot = lines.next()?;
    let entries = lines.filter_map(|line| parse(&line)).collect();
    Some(DeadRunner { owner, entries, is_this_boot: boot.trim() == boot_id(), path, _lock: lock })
}

fn parse(line: &str) -> Option<Entry> {
    let mut numbers = line.split_whitespace();
    Some(Entry {
        job: numbers.next()?.parse().ok()?,
        fence: numbers.next()?.parse().ok()?,
        group: numbers.next()?.parse().ok()?,
        started: Duration::from_millis(numbers.next()?.parse().ok()?),
    })
}

impl DeadRunner {
    /// Kills what is left of its process groups, and waits until they are gone.
    pub fn kill_groups(&self) {
        if !self.is_this_boot {
            return;
        }
        for entry in &self.entries {
            kill_if_same(&self.owner, entry);
        }
        // The command itself has ended with its runner; what it had started need not have.
        for group in groups_with(&[format!("{LISTER}={}", self.owner)]) {
            kill_group(group, "a command that listed targets");
        }
    }

    /// Whether it had begun an execution: one that has ended is not noted down any more, but its output is still there.
    #[must_use]
    pub fn has_begun(&self, job: i64, fence: i64) -> bool {
        self.entries.iter().any(|entry| (entry.job, entry.fence) == (job, fence))
            || self.output_path(job, fence).exists()
    }

    /// Where the output of one of its executions is.
    #[must_use]
    pub fn output_path(&self, job: i64, fence: i64) -> PathBuf {
        output_path(self.path.parent().unwrap_or(Path::new("/")), job, fence)
    }

    /// Removes its traces, once everything is recorded; `jobs` are those that it held.
    pub fn forget(self, jobs: impl Iterator<Item = (i64, i64)>) {
        for (job, fence) in jobs {
            // There is none where the execution had not begun.
            if fs::remove_file(self.output_path(job, fence)).is_ok() {
                log::debug!("removed the output file of job {job}");
            }
        }
        if let Err(err) = fs::remove_file(&self.path) {
            log::debug!("cannot remove {}: {err}", self.path.display());
        }
    }
}

/// Where the output of an execution under way is.
#[must_use]
pub fn output_path(folder: &Path, job: i64, fence: i64) -> PathBuf {
    folder.join(format!("{job}-{fence}.out"))
}

/// The executions whose output files are in `folder`, job and fence: those under way, and what dead runners have left.
#[must_use]
pub fn output_files(folder: &Path) -> Vec<(i64, i64)> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let parse = |name: &str| {
        let (job, fence) = name.strip_suffix(".out")?.split_once('-')?;
        Some((job.parse().ok()?, fence.parse().ok()?))
    };
    entries.flatten().filter_map(|entry| parse(entry.file_name().to_str()?)).collect()
}

/// Removes files that were being made when their maker died; what is younger may still have one.
pub fn remove_unfinished(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let is_unfinished =
            ["making-", "writing-"].iter().any(|start| name.to_string_lossy().starts_with(start));
        let made = entry.metadata().map_or(i64::MAX, |found| found.mtime());
        if is_unfinished
            && wall_seconds().saturating_sub(made) > UNFINISHED
            && fs::remove_file(entry.path()).is_ok()
        {
            log::debug!("removed {}, which was never finished", entry.path().display());
        }
    }
}

/// Ends what a runner on this host has under way for `job`, though that runner may be alive and stopped.
pub fn kill_execution(folder: &Path, owner: &str, job: i64, fence: i64) {
    let Ok(text) = fs::read_to_string(folder.join(format!("runner-{owner}"))) else { return };
    let lines = text.as_bytes().chunks(LINE).map(String::from_utf8_lossy);
    for entry in
        lines.filter_map(|line| parse(&line)).filter(|entry| entry.job == job && entry.fence == fence)
    {
        kill_if_same(owner, &entry);
    }
}

/// Kills the group of an execution, if it is still the same: an id may have passed to other processes.
///
/// It is when the leader started when it should have; or, where the leader is gone or was never noted down, when a
/// process has this runner, job and fence in its environment, which only descendants of the execution can have.
fn kill_if_same(owner: &str, entry: &Entry) {
    let is_leader_ours = Stat::of(entry.group).is_some_and(|leader| {
        leader.group == entry.group && leader.started.abs_diff(entry.started) <= SAME_START
    });
    let groups = if is_leader_ours { vec![entry.group] } else { groups_of(owner, entry) };
    for group in groups {
        kill_group(group, &format!("job {}", entry.job));
    }
}

/// Kills a process group that `what` has left behind, and waits until it is gone.
fn kill_group(group: i32, what: &str) {
    let Some(pid) = Pid::from_raw(group).filter(|_| group_members(group).next().is_some()) else { return };
    log::warn!("ending process group {group} that {what} had left behind");
    signal_group(pid, Signal::KILL);
    for _ in 0..100 {
        if group_members(group).next().is_none() {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The groups of the processes that have the runner, the job and the fence in their environment. Job and fence alone
/// would not do: a host may run jobs of several databases.
fn groups_of(owner: &str, entry: &Entry) -> Vec<i32> {
    let wanted = [
        format!("DULY_RUNNER={owner}"),
        format!("DULY_JOB_ID={}", entry.job),
        format!("DULY_FENCE={}", entry.fence),
    ];
    groups_with(&wanted)
}

/// The groups of the processes that have all of these in their environment.
fn groups_with(wanted: &[String]) -> Vec<i32> {
    let mut groups: Vec<i32> = all_processes()
        .filter(|pid| {
            let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            let has = |variable: &String| {
                environment.split(|byte| *byte == 0).any(|set| set == variable.as_bytes())
            };
            wanted.iter().all(has)
        })
        .filter_map(|pid| Some(Stat::of(pid)?.group))
        .collect();
    groups.sort_unstable();
    groups.dedup();
    groups
}
