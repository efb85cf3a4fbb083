//! Random sequences of what people and ticks do, compared after each step with a model of a job's life.
//!
//! The model knows nothing of SQL: a job has a state, and each operation says what becomes of it. `DULY_TEST_SEED`
//! repeats a sequence, `DULY_TEST_STEPS` makes it longer.

use std::collections::{BTreeMap, BTreeSet};

use crate::support::{Sandbox, on_every_database};

const JOBS: &str = "jobs:
  ok: {command: ['true'], max_attempts: 1}
  bad: {command: ['false'], max_attempts: 1}
  twice: {command: ['false'], max_attempts: 2, backoff: {initial: 1h}}
  one: {command: ['true'], max_attempts: 1, unique: true}
";

const NAMES: [&str; 4] = ["ok", "bad", "twice", "one"];
const ENDS: [&str; 4] = ["success", "failure", "always", "finished"];

#[derive(Clone, Debug)]
struct Job {
    name: &'static str,
    state: &'static str,
    attempts: u32,
    after: Vec<(i64, &'static str)>,
}

#[derive(Default)]
struct Model {
    jobs: BTreeMap<i64, Job>,
    paused: BTreeSet<&'static str>,
}

fn is_ended(state: &str) -> bool {
    matches!(state, "success" | "failed" | "cancelled" | "stale")
}

fn is_met(on: &str, state: &str) -> bool {
    match on {
        "success" => state == "success",
        "failure" => state == "failed",
        "finished" => state == "success" || state == "failed",
        _ => true,
    }
}

impl Model {
    fn taken(&self, name: &str) -> Option<i64> {
        let is_open = |job: &Job| job.name == "one" && !is_ended(job.state);
        self.jobs.iter().find(|(_, job)| name == "one" && is_open(job)).map(|(id, _)| *id)
    }

    /// Moves waiting jobs until nothing moves any more.
    fn settle(&mut self) {
        loop {
            let snapshot = self.jobs.clone();
            let mut moved = false;
            for job in self.jobs.values_mut().filter(|job| job.state == "waiting") {
                let ends: Vec<(&str, &str)> =
                    job.after.iter().map(|(id, on)| (snapshot[id].state, *on)).collect();
                if ends.iter().any(|(state, on)| is_ended(state) && !is_met(on, state)) {
                    job.state = "cancelled";
                    moved = true;
                } else if ends.iter().all(|(state, _)| is_ended(state)) {
                    job.state = "pending";
                    moved = true;
                }
            }
            if !moved {
                return;
            }
        }
    }

    /// One tick: everything startable, what that makes startable, and so on.
    fn run(&mut self) {
        loop {
            self.settle();
            let paused = self.paused.clone();
            let startable =
                self.jobs.values_mut().filter(|job| job.state == "pending" && !paused.contains(job.name));
            let mut ran = false;
            for job in startable {
                ran = true;
                job.attempts += 1;
                job.state = match job.name {
                    "ok" | "one" => "success",
                    "twice" if job.attempts < 2 => "delayed",
                    _ => "failed",
                };
            }
            if !ran {
                return;
            }
        }
    }
}

fn compare(s: &Sandbox, model: &Model, seed: u64, done: &[String]) {
    let rows = s.database().rows("SELECT id, state, attempts FROM duly_job ORDER BY id");
    let found: Vec<(i64, String, u32)> = rows
        .iter()
        .map(|row| {
            let cell = |n: usize| row[n].clone().unwrap();
            (cell(0).parse().unwrap(), cell(1), cell(2).parse().unwrap())
        })
        .collect();
    let expected: Vec<(i64, String, u32)> =
        model.jobs.iter().map(|(id, job)| (*id, job.state.to_owned(), job.attempts)).collect();
    assert_eq!(found, expected, "seed {seed}, after:\n{}", done.join("\n"));
}

on_every_database! {
    fn what_happens_to_jobs_is_what_the_model_says(s: Sandbox) {
        follow(&s);
    }
}

#[expect(clippy::too_many_lines, reason = "one arm for each operation")]
fn follow(s: &Sandbox) {
    let number = |name: &str, default| {
        std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
    };
    let seed: u64 = number("DULY_TEST_SEED", u64::from(std::process::id()) << 24 | 0xB5);
    let mut dice = crate::torture::Dice::new(seed);
    let mut pick = |most: usize| usize::try_from(dice.roll(most.max(1) as u64)).unwrap();
    let (mut model, mut done) = (Model::default(), Vec::new());
    s.set_jobs(JOBS);
    s.duly(["run"]).status(0);
    for _ in 0..number("DULY_TEST_STEPS", 60) {
        let ids: Vec<i64> = model.jobs.keys().copied().collect();
        let mut words: Vec<String> = Vec::new();
        match pick(10) {
            0..=3 => {
                let name = NAMES[pick(4)];
                let mut after: Vec<(i64, &'static str)> = (0..pick(3))
                    .filter(|_| !ids.is_empty())
                    .map(|_| (ids[pick(ids.len())], ENDS[pick(4)]))
                    .collect();
                after.sort_unstable();
                after.dedup_by_key(|(id, _)| *id);
                words.extend(["enqueue".to_owned(), name.to_owned()]);
                for (id, on) in &after {
                    words.extend(["--after".to_owned(), format!("{id}:{on}")]);
                }
                let output = s.duly(&words).output();
                let id: i64 =
                    output.stdout.trim().parse().unwrap_or_else(|_| panic!("seed {seed}: {output}"));
                assert_eq!(
                    model.taken(name),
                    (output.status.code() == Some(4)).then_some(id),
                    "seed {seed}: {output}"
                );
                if output.status.success() {
                    let state = if after.is_empty() { "pending" } else { "waiting" };
                    model.jobs.insert(id, Job { name, state, attempts: 0, after });
                    model.settle();
                }
            }
            4 if !ids.is_empty() => {
                let id = ids[pick(ids.len())];
                words.extend(["cancel".to_owned(), id.to_string()]);
                let output = s.duly(&words).output();
                let job = model.jobs.get_mut(&id).unwrap();
                assert_eq!(
                    output.status.code(),
                    Some(if is_ended(job.state) { 4 } else { 0 }),
                    "seed {seed}: {output}"
                );
                if !is_ended(job.state) {
                    job.state = "cancelled";
                }
                model.settle();
            }
            5 if !ids.is_empty() => {
                let id = ids[pick(ids.len())];
                words.extend(["retry".to_owned(), id.to_string()]);
                let output = s.duly(&words).output();
                let old = model.jobs[&id].clone();
                let is_refused = !is_ended(old.state) || model.taken(old.name).is_some();
                assert_eq!(
                    output.status.code(),
                    Some(if is_refused { 4 } else { 0 }),
                    "seed {seed}: {output}"
                );
                if !is_refused {
                    let new = output.stdout.trim().parse().unwrap();
                    model.jobs.insert(new, Job { state: "pending", attempts: 0, after: Vec::new(), ..old });
                }
            }
            6 => {
                let name = NAMES[pick(4)];
                let is_paused = model.paused.contains(name);
                words.extend([if is_paused { "resume" } else { "pause" }.to_owned(), name.to_owned()]);
                s.duly(&words).stdout_has(name).status(0);
                if is_paused {
                    model.paused.remove(name)
                } else {
                    model.paused.insert(name)
                };
            }
            7 => {
                words.push("(an hour passes)".to_owned());
                s.database()
                    .sql("UPDATE duly_job SET run_at = '2020-01-01 00:00:00.000000' WHERE state = 'delayed'");
                for job in model.jobs.values_mut().filter(|job| job.state == "delayed") {
                    job.state = "pending";
                }
                model.run();
                s.duly(["run"]).output();
            }
            _ => {
                words.push("run".to_owned());
                let output = s.duly(&words).output();
                assert!(output.status.success(), "seed {seed}: {output}");
                model.run();
            }
        }
        done.push(words.join(" "));
        compare(s, &model, seed, &done);
    }
}
