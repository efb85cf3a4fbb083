//! What there is to do in a scenario: every kind of job, schedule and limit, and commands that write down what they do.

use crate::torture::Dice;

/// The second line of the files that the jobs write, and what a job of each name may end as besides `cancelled`.
pub(super) const ENDS: [(&str, &[&str]); 16] = [
    ("work", &["success"]),
    ("slow", &["success"]),
    ("limited", &["success"]),
    ("narrow", &["success"]),
    ("single", &["success"]),
    ("parent", &["success"]),
    ("left", &["success"]),
    ("right", &["success"]),
    ("join", &["success"]),
    ("root", &["success"]),
    ("leaf", &["success"]),
    ("every", &["success"]),
    ("fragile", &["success", "failed"]),
    ("once", &["success", "stale"]),
    ("doomed", &["failed"]),
    ("hung", &["failed"]),
];

/// `jobs.yaml` of every host; without schedules once the storm is over.
pub(super) fn jobs(state_dir: &str, has_schedules: bool) -> String {
    let schedule =
        if has_schedules { "schedule: '* * * * * *', catch_up: all, overlap: allow, " } else { "" };
    let skipping = if has_schedules { "schedule: '*/2 * * * * *', overlap: skip, " } else { "" };
    let forty = "max_attempts: 40, backoff: {initial: 100ms, factor: 1.5, max: 1s}";
    format!(
        "runner: {{state_dir: {state_dir}, lease: 3s, concurrency: 3}}
queues: {{default: {{}}, narrow: {{concurrency: 2}}}}
jobs:
  work: {{command: [./work, '0.0'], {forty}}}
  slow: {{command: [./work, '1.2'], priority: 5, {forty}}}
  limited: {{command: [./work, '0.1'], concurrency: 1, {forty}}}
  narrow: {{command: [./work, '0.1'], queue: narrow, {forty}}}
  single: {{command: [./work, '0.2'], unique: true, {skipping}{forty}}}
  every: {{command: [./work, '0.0'], {schedule}{forty}}}
  parent:
    command: [./work, '0.1']
    {}
    depending_jobs:
      left: {{command: [./work, '0.1'], {forty}, depending_jobs: {{join: {{}}}}}}
      right: {{command: [./work, '0.2'], {forty}, depending_jobs: {{join: {{}}}}}}
  join: {{command: [./work, '0.0'], {forty}}}
  root: {{command: [./work, '0.2', root], {forty}}}
  leaf: {{command: [./work, '0.1'], {forty}}}
  fragile: {{command: [./work, '0.3'], max_attempts: 2, backoff: {{initial: 100ms}}}}
  once: {{command: [./work, '0.4'], on_orphan: stale, {forty}}}
  doomed: {{command: ['false'], max_attempts: 3, backoff: {{initial: 100ms}}}}
  hung: {{command: [./work, '600'], timeout: 500ms, grace: 200ms, max_attempts: 2, backoff: {{initial: 100ms}}}}
",
        forty.replace(", backoff", "\n    backoff")
    )
}

/// Writes begin and end with its fence and the machine's uptime; fails now and then, by its id and attempt. A root makes two
/// children first. A wrong clock is the runner's alone.
pub(super) const WORK: &str = "#!/bin/sh
unset LD_PRELOAD
read up rest < /proc/uptime
echo \"begin $DULY_JOB_ID $DULY_FENCE $DULY_ATTEMPT $up\" >> \"$LOG\"
if [ \"$2\" = root ]; then
    \"$DULY\" child leaf -- a >/dev/null || exit 1
    \"$DULY\" child leaf -- b >/dev/null || exit 1
fi
sleep \"$1\" || exit 1
[ $(( (DULY_JOB_ID * 7 + DULY_ATTEMPT) % 5 )) -ne 0 ] || exit 1
read up rest < /proc/uptime
echo \"end $DULY_JOB_ID $DULY_FENCE $DULY_ATTEMPT $up\" >> \"$LOG\"
";

/// Names that producers put in while the storm goes on.
pub(super) const PRODUCED: [&str; 9] =
    ["work", "work", "slow", "limited", "narrow", "parent", "root", "fragile", "once"];

/// What is in the queue when the storm begins, as JSON Lines.
pub(super) fn batch(dice: &mut Dice) -> String {
    let mut lines = String::new();
    let most = [
        ("work", 30),
        ("slow", 6),
        ("limited", 8),
        ("narrow", 10),
        ("parent", 5),
        ("root", 4),
        ("fragile", 8),
        ("once", 5),
        ("doomed", 4),
        ("hung", 3),
    ];
    for (name, most) in most {
        for _ in 0..=dice.roll(most) {
            // What is slow begins early, so that there is something to freeze.
            let priority = dice.roll(5) + if name == "slow" { 3 } else { 0 };
            lines.push_str(&format!("{{\"name\": \"{name}\", \"priority\": {priority}}}\n"));
        }
    }
    lines
}
