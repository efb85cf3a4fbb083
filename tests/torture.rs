//! Several hosts at once under a seeded storm of kill -9, freezes, stops and killed connections: no job lost, none
//! accepted twice, none tried more often than allowed, no graph left waiting.
//!
//! `DULY_TEST_SEED` repeats a schedule of faults, `DULY_TEST_SECONDS` makes the storm longer. The oracle is what the
//! jobs themselves wrote, compared with the tables.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::{Backend, Running, Sandbox, on_every_database, wait_until};

/// A small generator of its own (xorshift), so that a seed means the same in every version.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Dice {
        Dice(seed | 1)
    }

    pub(crate) fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

const JOBS: &str = "jobs:
  work:
    command: [./work, '0.0']
    max_attempts: 40
    backoff: {initial: 100ms, factor: 1.5, max: 1s}
  parent:
    command: [./work, '0.1']
    max_attempts: 40
    backoff: {initial: 100ms, factor: 1.5, max: 1s}
    depending_jobs:
      left: {command: [./work, '0.1'], max_attempts: 40, backoff: {initial: 100ms}, depending_jobs: {join: {}}}
      right: {command: [./work, '0.2'], max_attempts: 40, backoff: {initial: 100ms}, depending_jobs: {join: {}}}
  join: {command: [./work, '0.0'], max_attempts: 40, backoff: {initial: 100ms}}
  doomed: {command: ['false'], max_attempts: 3, backoff: {initial: 100ms}}
";

/// Writes begin and end with its fence; fails now and then, by its id and attempt.
const WORK: &str = "#!/bin/sh
echo \"begin $DULY_JOB_ID $DULY_FENCE\" >> \"$LOG\"
sleep \"$1\"
[ $(( (DULY_JOB_ID * 7 + DULY_ATTEMPT) % 5 )) -ne 0 ] || exit 1
echo \"end $DULY_JOB_ID $DULY_FENCE\" >> \"$LOG\"
";

on_every_database! {
    fn nothing_is_lost_or_done_twice_in_a_storm(s: Sandbox) {
        let seed = setting("DULY_TEST_SEED", u64::from(std::process::id()) << 20 | 0x9E37);
        let mut dice = Dice::new(seed);
        let hosts: Vec<Sandbox> = (0..3).map(|_| s.beside()).collect();
        for host in &hosts {
            host.set_jobs(&format!("runner: {{state_dir: {}, lease: 3s, concurrency: 3}}\n{JOBS}", host.state_dir().display()));
            host.file("work", WORK);
        }
        let log = s.path("log");
        let batch: String = (0..240).map(|n| match n % 12 { 0 => "{\"name\": \"parent\"}\n", 1 => "{\"name\": \"doomed\"}\n", _ => "{\"name\": \"work\"}\n" }).collect();
        hosts[0].duly(["enqueue", "--batch", "-"]).stdin(&batch).stdout_has("1").status(0);

        let faults = storm(&s, &hosts, &log, &mut dice);
        let open = "SELECT COUNT(*) FROM duly_job WHERE state NOT IN ('success', 'failed', 'cancelled', 'stale')";
        wait_until(&format!("all jobs have ended (seed {seed}, {faults} faults)"), Duration::from_secs(120), || {
            for host in &hosts {
                host.duly(["run"]).env("LOG", &log).output();
            }
            s.database().value(open) == "0"
        });
        judge(&s, seed);
    }
}

/// Lets ticks start and suffer for some seconds; returns how often they did.
fn storm(s: &Sandbox, hosts: &[Sandbox], log: &std::path::Path, dice: &mut Dice) -> usize {
    let (began, length) = (Instant::now(), Duration::from_secs(setting("DULY_TEST_SECONDS", 8)));
    let (mut ticks, mut frozen, mut stopping, mut faults) = (Vec::new(), Vec::new(), Vec::new(), 0);
    while began.elapsed() < length {
        ticks.retain_mut(|tick: &mut Running| !tick.has_ended());
        if ticks.len() < 5 {
            let host = &hosts[usize::try_from(dice.roll(3)).unwrap()];
            ticks.push(host.duly(["run"]).env("LOG", log).spawn());
        }
        let pick = usize::try_from(dice.roll(ticks.len() as u64)).unwrap();
        match dice.roll(12) {
            0 => ticks.swap_remove(pick).signal_if_alive(Signal::KILL),
            1 => {
                // Waited for later: on SQLite a frozen one may hold it up.
                let mut tick = ticks.swap_remove(pick);
                tick.signal_if_running(Signal::TERM);
                stopping.push(tick);
            }
            2 if frozen.len() < 2 => {
                let mut tick = ticks.swap_remove(pick);
                tick.signal_if_running(Signal::STOP);
                frozen.push((Instant::now() + Duration::from_millis(2500 + dice.roll(4000)), tick));
            }
            3 if s.database().backend() == Backend::MariaDb => {
                let rows = s.database().rows("SELECT id FROM information_schema.processlist WHERE db = DATABASE() AND id <> CONNECTION_ID()");
                let ids: Vec<&str> = rows.iter().filter_map(|row| row[0].as_deref()).collect();
                if !ids.is_empty() {
                    let id = ids[usize::try_from(dice.roll(ids.len() as u64)).unwrap()];
                    // It may have ended by itself meanwhile.
                    faults += usize::from(s.database().try_sql(&format!("KILL {id}")));
                }
            }
            _ => {
                std::thread::sleep(Duration::from_millis(dice.roll(120)));
                continue;
            }
        }
        faults += 1;
        let (due, still): (Vec<_>, Vec<_>) =
            frozen.into_iter().partition(|(until, _)| *until <= Instant::now());
        frozen = still;
        for (_, mut tick) in due {
            tick.signal_if_running(Signal::CONT);
            ticks.push(tick);
        }
    }
    for (_, mut tick) in frozen {
        tick.signal_if_running(Signal::CONT);
        ticks.push(tick);
    }
    for tick in ticks.into_iter().chain(stopping) {
        tick.wait_for(Duration::from_secs(60));
    }
    faults
}

/// Compares what the jobs wrote with what the database says.
fn judge(s: &Sandbox, seed: u64) {
    let text = s.read("log");
    let mut ends: BTreeMap<i64, BTreeSet<i64>> = BTreeMap::new();
    for line in text.lines().filter_map(|line| line.strip_prefix("end ")) {
        let (id, fence) = line.split_once(' ').unwrap();
        ends.entry(id.parse().unwrap()).or_default().insert(fence.parse().unwrap());
    }
    let rows =
        s.database().rows("SELECT id, name, state, fence, attempts, max_attempts FROM duly_job ORDER BY id");
    let number = |row: &[Option<String>], n: usize| row[n].as_deref().unwrap().parse::<i64>().unwrap();
    // Each of 20 parents has three jobs after it.
    assert_eq!(rows.len(), 240 + 20 * 3, "seed {seed}: jobs lost or made twice");
    for row in &rows {
        let (id, fence) = (number(row, 0), number(row, 3));
        let (name, state) = (row[1].as_deref().unwrap(), row[2].as_deref().unwrap());
        let expected = if name == "doomed" { "failed" } else { "success" };
        assert_eq!(state, expected, "seed {seed}: job {id} ({name})");
        assert!(number(row, 4) <= number(row, 5), "seed {seed}: job {id} was tried too often");
        if state == "success" {
            assert!(
                ends.get(&id).is_some_and(|fences| fences.contains(&fence)),
                "seed {seed}: job {id} is a success of claim {fence}, which never wrote its end"
            );
        }
    }
    for (what, query) in [
        (
            "two accepted successes of one job",
            "SELECT job_id FROM duly_attempt WHERE outcome = 'success' GROUP BY job_id HAVING COUNT(*) > 1",
        ),
        (
            "an attempt counted that is not recorded",
            "SELECT j.id FROM duly_job j WHERE j.attempts <> (SELECT COUNT(*) FROM duly_attempt a WHERE a.job_id = j.id AND a.outcome <> 'interrupted')",
        ),
        (
            "a job that is over and still held",
            "SELECT id FROM duly_job WHERE owner IS NOT NULL OR lease_until IS NOT NULL",
        ),
        (
            "a dependent that began before its prerequisite had succeeded",
            "SELECT d.job_id FROM duly_dependency d JOIN duly_job p ON p.id = d.prerequisite_id JOIN duly_attempt a ON a.job_id = d.job_id WHERE a.finished_at < p.finished_at",
        ),
    ] {
        assert_eq!(s.database().rows(query), Vec::<Vec<Option<String>>>::new(), "seed {seed}: {what}");
    }
}
