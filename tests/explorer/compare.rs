//! Whether the jobs in the database are those of the reference.

use super::cron::{Ms, SECOND};
use super::model::{Job, Model, NAMES, State};
use super::plan::QUEUES;
use super::world::Found;

/// How late real processes may be.
const LATE: Ms = 25 * SECOND;

/// What is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    Exact,
    /// All, but times to some seconds.
    Late,
    /// Only which jobs there are.
    There,
}

pub(super) fn shown(at: Ms) -> String {
    chrono::DateTime::from_timestamp_millis(at)
        .map_or_else(String::new, |at| at.format("%m-%d %H:%M:%S").to_string())
}

/// Finds each job of the reference again in the database, the nth of a name as the nth of that name; says what is wrong.
pub(super) fn difference(model: &mut Model, found: &[Found], how: How) -> Option<String> {
    let mut wrong = Vec::new();
    for name in NAMES {
        let mut theirs = found.iter().filter(|job| job.name == name);
        for job in model.jobs.iter_mut().filter(|job| job.name == name) {
            match theirs.next() {
                None => wrong.push(format!("there is no {}", line(job))),
                Some(found) => {
                    job.id = found.id;
                    if !is_like(job, found, how) {
                        wrong.push(format!("{}, expected {}", shown_job(found), line(job)));
                    }
                }
            }
        }
        wrong.extend(theirs.map(|more| format!("{}, expected none", shown_job(more))));
    }
    (!wrong.is_empty()).then(|| wrong[..wrong.len().min(6)].join("\n    "))
}

fn is_like(job: &Job, found: &Found, how: How) -> bool {
    let missed =
        found.reason.strip_prefix("skipped: ").and_then(|rest| rest.split_once(" missed")?.0.parse().ok());
    let late = if how == How::Exact { 0 } else { LATE };
    job.at == found.at
        && (how == How::There
            || (job.state.word() == found.state
                && job.attempts == found.attempts
                && QUEUES[job.queue] == found.queue
                && job.missed == missed
                && (job.state == State::Running) == found.is_held
                && (!job.state.is_open() || (job.run_at - found.run_at).abs() <= late)))
}

fn line(job: &Job) -> String {
    let Job { id, name, state, attempts, missed, .. } = job;
    let at = job.at.map_or_else(String::new, |at| format!("@{}", shown(at)));
    let missed = missed.map_or_else(String::new, |missed| format!(", which tells of {missed} missed"));
    format!("job {id} {name}{at} {}, attempts {attempts}, run at {}{missed}", state.word(), shown(job.run_at))
}

fn shown_job(job: &Found) -> String {
    let at = job.at.map_or_else(String::new, |at| format!("@{}", shown(at)));
    let Found { id, name, state, attempts, queue, order, reason, .. } = job;
    format!(
        "job {id} {name}{at} {state}, attempts {attempts}, run at {}, {queue} {order} {reason}",
        shown(job.run_at)
    )
}

pub(super) fn lines(found: &[Found]) -> String {
    found.iter().map(|job| format!("      {}", shown_job(job))).collect::<Vec<_>>().join("\n")
}
