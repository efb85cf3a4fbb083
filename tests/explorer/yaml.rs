//! A file of a plan, as jobs.yaml.

use super::cron::{SECOND, ZONES};
use super::plan::{CatchUp, Def, EXPRESSIONS, File, Overlap, QUEUES};

/// With what stands at its head, and the command of every job.
pub(super) fn text(file: &File, head: &str, command: &str) -> String {
    let mut text = format!("{head}queues:\n");
    for queue in file.queues() {
        let limit = file.limits[queue].map_or_else(String::new, |limit| format!("concurrency: {limit}"));
        text.push_str(&format!("  {}: {{{limit}}}\n", QUEUES[queue]));
    }
    text.push_str(if file.defs.is_empty() { "jobs: {}\n" } else { "jobs:\n" });
    for def in &file.defs {
        text.push_str(&format!("  {}: {{command: {command}{}}}\n", def.name, keys(def)));
    }
    text
}

fn keys(def: &Def) -> String {
    let (initial, factor, max) = def.backoff;
    let mut keys = format!(
        ", queue: {}, priority: {}, max_attempts: {}, backoff: {{initial: {initial}s, factor: {factor}, max: {max}s, jitter: 0}}",
        QUEUES[def.queue], def.priority, def.max_attempts
    );
    let mut put = |key: &str, value: Option<String>| {
        keys.extend(value.map(|value| format!(", {key}: {value}")));
    };
    if let Some((expression, zone)) = def.schedule {
        put("schedule", Some(format!("'{}'", EXPRESSIONS[expression])));
        put("timezone", (zone > 0).then(|| ZONES[zone].to_owned()));
        let catch_up = |catch_up| match catch_up {
            CatchUp::Latest => "latest",
            CatchUp::All => "all",
            CatchUp::None => "none",
        };
        put("catch_up", def.catch_up.map(|value| catch_up(value).to_owned()));
        put("starting_deadline", def.deadline.map(|length| format!("{}s", length / SECOND)));
        let overlap = |overlap| match overlap {
            Overlap::Skip => "skip",
            Overlap::Queue => "queue",
            Overlap::Allow => "allow",
        };
        put("overlap", def.overlap.map(|value| overlap(value).to_owned()));
    }
    put("enabled", (!def.enabled).then(|| "false".to_owned()));
    put("permanent_exit_codes", def.permanent.map(|code| format!("[{code}]")));
    put("on_orphan", def.is_stale_when_orphaned.then(|| "stale".to_owned()));
    put("unique", def.unique.then(|| "true".to_owned()));
    put("concurrency", def.concurrency.map(|limit| limit.to_string()));
    let dependents: Vec<String> = def.dependents.iter().map(|name| format!("{name}: {{}}")).collect();
    put("depending_jobs", (!dependents.is_empty()).then(|| format!("{{{}}}", dependents.join(", "))));
    keys
}
