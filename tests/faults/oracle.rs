//! What has to hold, whatever happened: looked at while the storm goes on, and judged at its end.

use std::collections::{BTreeMap, BTreeSet};

use super::figures::Figures;
use super::load::ENDS;
use super::scenario::Seen;
use crate::support::Sandbox;

/// What must give no row at any time.
const ALWAYS: [(&str, &str); 4] = [
    (
        "a queue passed its limit",
        "SELECT COUNT(*) FROM duly_job WHERE queue = 'narrow' AND state = 'running' AND owner IS NOT NULL HAVING COUNT(*) > 2",
    ),
    (
        "a name passed its limit",
        "SELECT COUNT(*) FROM duly_job WHERE name = 'limited' AND state = 'running' AND owner IS NOT NULL HAVING COUNT(*) > 1",
    ),
    (
        "two open jobs of a unique name",
        "SELECT COUNT(*) FROM duly_job WHERE name = 'single' AND state NOT IN ('success', 'failed', 'cancelled', 'stale') HAVING COUNT(*) > 1",
    ),
    ("more attempts than allowed", "SELECT id FROM duly_job WHERE attempts > max_attempts"),
];

/// What must give no row at the end.
const AT_THE_END: [(&str, &str); 11] = [
    (
        "two accepted successes of one job",
        "SELECT job_id FROM duly_attempt WHERE outcome = 'success' GROUP BY job_id HAVING COUNT(*) > 1",
    ),
    (
        "an attempt after a success",
        "SELECT a.job_id FROM duly_attempt a JOIN duly_attempt b ON b.job_id = a.job_id AND b.fence > a.fence WHERE a.outcome = 'success'",
    ),
    (
        "attempts that overlap",
        "SELECT a.job_id FROM duly_attempt a JOIN duly_attempt b ON b.job_id = a.job_id AND b.fence > a.fence WHERE b.started_at < a.finished_at",
    ),
    (
        "an attempt counted that is not recorded",
        "SELECT j.id FROM duly_job j WHERE j.attempts <> (SELECT COUNT(*) FROM duly_attempt a WHERE a.job_id = j.id AND (a.outcome <> 'interrupted' OR j.state = 'stale' AND a.fence = j.fence))",
    ),
    (
        "a success whose last attempt was none",
        "SELECT j.id FROM duly_job j WHERE j.state = 'success' AND NOT EXISTS (SELECT 1 FROM duly_attempt a WHERE a.job_id = j.id AND a.fence = j.fence AND a.outcome = 'success')",
    ),
    (
        "a job that is over and still held",
        "SELECT id FROM duly_job WHERE owner IS NOT NULL OR lease_until IS NOT NULL OR slot_key IS NOT NULL OR name_slot_key IS NOT NULL OR unique_key IS NOT NULL",
    ),
    (
        "an occurrence made twice",
        "SELECT name FROM duly_job WHERE occurrence_key IS NOT NULL AND scheduled_for IS NOT NULL AND state <> 'cancelled' GROUP BY name, scheduled_for HAVING COUNT(*) > 1",
    ),
    (
        "a root that ended before its children",
        "SELECT r.id FROM duly_job r JOIN duly_job c ON c.root_id = r.id WHERE c.finished_at > r.finished_at",
    ),
    (
        "a root that succeeded without its two children",
        "SELECT r.id FROM duly_job r WHERE r.name = 'root' AND r.state = 'success' AND (SELECT COUNT(*) FROM duly_job c WHERE c.root_id = r.id AND c.state = 'success') <> 2",
    ),
    (
        "a child made twice",
        "SELECT root_id FROM duly_job WHERE name = 'leaf' GROUP BY root_id, params HAVING COUNT(*) > 1",
    ),
    (
        "a dependent that began before its prerequisite had succeeded",
        "SELECT d.job_id FROM duly_dependency d JOIN duly_job p ON p.id = d.prerequisite_id JOIN duly_attempt a ON a.job_id = d.job_id WHERE a.started_at < p.finished_at OR p.state <> 'success'",
    ),
];

/// Looks while things happen.
pub(super) fn look(s: &Sandbox, seen: &mut Seen) {
    for (what, query) in ALWAYS {
        if let Some(rows) = s.database().try_rows(query).filter(|rows| !rows.is_empty()) {
            seen.wrong.push(format!("{what}: {rows:?}"));
        }
    }
    let rows = s.database().try_rows(
        "SELECT id, state, fence, attempts FROM duly_job WHERE state IN ('success', 'failed', 'cancelled', 'stale')",
    );
    for row in rows.unwrap_or_default() {
        let [Some(id), rest @ ..] = &row[..] else { continue };
        let stands = format!("{rest:?}");
        let first = seen.ended.entry(id.parse().unwrap()).or_insert_with(|| stands.clone());
        if *first != stands {
            seen.wrong.push(format!("job {id} had ended as {first} and is {stands}"));
            *first = stands;
        }
    }
}

/// The claims that a runner executes, by the environment of its processes.
pub(super) fn held_by_process(s: &Sandbox, hosts: &[Sandbox], pid: i32) -> Vec<(i64, i64)> {
    let is_child = |pid: i32, of: i32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit(") ").next().and_then(|rest| rest.split(' ').nth(1)?.parse().ok()) == Some(of)
    };
    let mut held = Vec::new();
    for child in
        hosts.iter().flat_map(Sandbox::processes).filter(|child| is_child(child.as_raw_nonzero().get(), pid))
    {
        let environment =
            std::fs::read(format!("/proc/{}/environ", child.as_raw_nonzero())).unwrap_or_default();
        let text = String::from_utf8_lossy(&environment).into_owned();
        let value = |name: &str| text.split('\0').find_map(|set| set.strip_prefix(name)?.parse().ok());
        held.extend(value("DULY_JOB_ID=").zip(value("DULY_FENCE=")));
    }
    // Only what a later claim is going to find.
    held.retain(|(id, fence)| {
        let query = format!("SELECT id FROM duly_job WHERE id = {id} AND fence = {fence} AND state = 'running' AND name = 'slow'");
        s.database().try_rows(&query).is_some_and(|rows| !rows.is_empty())
    });
    held
}

/// Whether one of these jobs runs under a later claim.
pub(super) fn is_overtaken(s: &Sandbox, held: &[(i64, i64)]) -> bool {
    held.iter().any(|(id, fence)| {
        let query =
            format!("SELECT id FROM duly_job WHERE id = {id} AND fence > {fence} AND state = 'running'");
        s.database().try_rows(&query).is_some_and(|rows| !rows.is_empty())
    })
}

/// Compares all there is when everything has ended.
pub(super) fn judge(s: &Sandbox, hosts: &[Sandbox], seen: &mut Seen, figures: &mut Figures) {
    look(s, seen);
    for (what, query) in AT_THE_END {
        let rows = s.database().rows(query);
        if !rows.is_empty() {
            seen.wrong.push(format!("{what}: {rows:?}"));
        }
    }
    producers(s, seen);
    states(s, seen);
    executions(s, seen, figures);
    for row in s.database().rows("SELECT outcome, COUNT(*) FROM duly_attempt GROUP BY outcome") {
        figures.attempts.insert(row[0].clone().unwrap(), row[1].as_deref().unwrap().parse().unwrap());
    }
    figures.jobs = s.database().value("SELECT COUNT(*) FROM duly_job").parse().unwrap();
    for host in hosts {
        let left = host.processes();
        if !left.is_empty() {
            seen.wrong.push(format!("processes are left: {left:?}"));
        }
        let files = std::fs::read_dir(host.state_dir()).into_iter().flatten().flatten();
        let files = files.flat_map(|folder| std::fs::read_dir(folder.path()).into_iter().flatten().flatten());
        let left: Vec<String> = files
            .map(|file| file.file_name().to_string_lossy().into_owned())
            // What was just being made by one that was killed goes a minute later.
            .filter(|name| !["slot-", "making-", "writing-"].iter().any(|start| name.starts_with(start)))
            .collect();
        if !left.is_empty() {
            seen.wrong.push(format!("files are left in the state folder: {left:?}"));
        }
    }
}

/// Nothing that was promised is missing, and nothing is there that was refused.
fn producers(s: &Sandbox, seen: &mut Seen) {
    let count = |query: &str| s.database().value(query).parse::<u64>().unwrap();
    for id in &seen.initial {
        if count(&format!("SELECT COUNT(*) FROM duly_job WHERE id = {id}")) != 1 {
            seen.wrong.push(format!("job {id} is lost"));
        }
    }
    let inserted = count("SELECT COUNT(*) FROM duly_job WHERE target_id = 'sql'");
    if inserted < seen.inserted {
        seen.wrong.push(format!("{} rows were inserted, {inserted} are there", seen.inserted));
    }
    let produced = std::mem::take(&mut seen.produced);
    let told: Vec<&String> = produced
        .iter()
        .filter(|(token, code, ..)| !token.is_empty() && *code == Some(0))
        .map(|(_, _, id, _)| id)
        .collect();
    let distinct: BTreeSet<&&String> = told.iter().collect();
    if distinct.len() < told.len() {
        seen.wrong.push(format!("two producers were given the same job: {told:?}"));
    }
    for id in told {
        if count(&format!("SELECT COUNT(*) FROM duly_job WHERE id = {id}")) != 1 {
            seen.wrong.push(format!("job {id}, which a producer was given, is lost"));
        }
    }
    // Everything that is neither in the first batch, nor a row of an application's, nor made by Duly, was promised to a producer.
    let ids: BTreeSet<String> = seen
        .initial
        .iter()
        .map(i64::to_string)
        .chain(produced.iter().map(|(_, _, id, _)| id.clone()))
        .collect();
    let unsure = produced.iter().filter(|(.., stderr)| stderr.contains("not known")).count();
    let rows = s.database().rows(
        "SELECT id FROM duly_job WHERE root_id IS NULL AND occurrence_key IS NULL AND target_id IS NULL \
         AND name IN ('work', 'slow', 'limited', 'narrow', 'parent', 'root', 'fragile', 'once')",
    );
    let unpromised: Vec<&String> =
        rows.iter().filter_map(|row| row[0].as_ref()).filter(|id| !ids.contains(*id)).collect();
    if unpromised.len() > unsure {
        seen.wrong.push(format!("jobs that nobody was told of: {unpromised:?}; {produced:?}"));
    }
}

/// Each job ended as one of its name may.
fn states(s: &Sandbox, seen: &mut Seen) {
    let rows = s
        .database()
        .rows("SELECT id, name, state, root_id, reason, occurrence_key FROM duly_job ORDER BY id");
    let number = |cell: &Option<String>| cell.as_deref().and_then(|text| text.parse::<i64>().ok());
    let before: Vec<(i64, i64)> = s
        .database()
        .rows("SELECT job_id, prerequisite_id FROM duly_dependency")
        .iter()
        .filter_map(|row| Some((number(&row[0])?, number(&row[1])?)))
        .collect();
    // Whose end follows from what was cancelled or went wrong elsewhere.
    let mut excused: BTreeSet<i64> = seen.asked_to_cancel.clone();
    loop {
        let count = excused.len();
        for (job, prerequisite) in &before {
            if excused.contains(prerequisite) {
                excused.insert(*job);
            }
        }
        for row in &rows {
            if let (Some(id), Some(root)) = (number(&row[0]), number(&row[3])) {
                if excused.contains(&id) {
                    excused.insert(root);
                } else if excused.contains(&root) {
                    excused.insert(id);
                }
            }
        }
        if excused.len() == count {
            break;
        }
    }
    for row in &rows {
        let (id, name, state) =
            (number(&row[0]).unwrap(), row[1].as_deref().unwrap(), row[2].as_deref().unwrap());
        let allowed = ENDS.iter().find(|(known, _)| *known == name).map_or(&[] as &[&str], |(_, ends)| ends);
        let is_skipped = state == "cancelled" && row[5].is_some() && row[3].is_none();
        // One that waits for another attempt is not waited for by the next occurrence.
        let has_given_way =
            state == "failed" && row[4].as_ref().is_some_and(|why| why.starts_with("gave way"));
        let is_excused =
            is_skipped || name == "single" && has_given_way || state == "cancelled" && excused.contains(&id);
        if !allowed.contains(&state) && !is_excused {
            seen.wrong.push(format!("job {id} ({name}) ended as {state}: {:?}", row[4]));
        }
    }
}

/// What the jobs wrote agrees with what is recorded.
fn executions(s: &Sandbox, seen: &mut Seen, figures: &mut Figures) {
    let text = s.read("log");
    let mut begun: BTreeMap<(i64, i64), u64> = BTreeMap::new();
    let mut ended: BTreeSet<(i64, i64)> = BTreeSet::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let [what, id, fence, ..] = words[..] else { continue };
        let (Ok(id), Ok(fence)) = (id.parse(), fence.parse()) else { continue };
        if what == "begin" {
            *begun.entry((id, fence)).or_default() += 1;
        } else {
            ended.insert((id, fence));
        }
    }
    figures.executions = begun.values().sum();
    for ((id, fence), count) in &begun {
        if *count > 1 {
            seen.wrong.push(format!("job {id} began {count} times under claim {fence}"));
        }
    }
    let rows = s.database().rows("SELECT job_id, fence, outcome FROM duly_attempt");
    let accepted: BTreeSet<(i64, i64)> = rows
        .iter()
        .filter(|row| row[2].as_deref() == Some("success"))
        .map(|row| (row[0].as_deref().unwrap().parse().unwrap(), row[1].as_deref().unwrap().parse().unwrap()))
        .collect();
    for claim in &accepted {
        if !ended.contains(claim) {
            seen.wrong.push(format!(
                "job {} is a success of claim {}, which never wrote its end",
                claim.0, claim.1
            ));
        }
    }
    figures.refused = ended.difference(&accepted).count() as u64;
}
