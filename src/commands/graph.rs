//! The graph that a job is part of, drawn as a tree: what waits for what, and whose child is whose.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use anyhow::{Context as _, Result};

use crate::job::State;
use crate::render::harmless;
use crate::store::{Around, Job, Store};

/// Draws the graph around job `id`; nothing where it stands alone.
pub(super) fn draw(store: &mut Store, id: i64) -> Result<String> {
    let around = store.around(id).with_context(|| format!("cannot read the jobs around job {id}"))?;
    if around.jobs.len() < 2 {
        return Ok(String::new());
    }
    let mut text = String::from("graph\n");
    let mut drawn = BTreeSet::new();
    let tops = around.jobs.values().filter(|job| {
        !around.has_prerequisite.contains(&job.id)
            && job.root_id.is_none_or(|root| !around.jobs.contains_key(&root))
    });
    for top in tops {
        branch(&around, &mut text, top.id, "", 1, id, &mut drawn);
    }
    if around.is_cut {
        text.push_str("  …\n");
    }
    Ok(text)
}

fn branch(
    around: &Around,
    text: &mut String,
    id: i64,
    relation: &str,
    depth: usize,
    asked: i64,
    drawn: &mut BTreeSet<i64>,
) {
    let Some(job) = around.jobs.get(&id) else { return };
    let mark = if id == asked { "  ← this one" } else { "" };
    let again = if drawn.contains(&id) { ", see above" } else { "" };
    let (Ok(()) | Err(_)) = writeln!(
        text,
        "{}{relation}{id} {}, {}{again}{mark}",
        "  ".repeat(depth),
        harmless(&job.name).replace('\n', " "),
        described(job)
    );
    if !drawn.insert(id) {
        return;
    }
    let children = around.jobs.values().filter(|child| child.root_id == Some(id));
    for child in children.filter(|child| !around.has_prerequisite.contains(&child.id)) {
        branch(around, text, child.id, "child ", depth + 1, asked, drawn);
    }
    for (dependent, on) in around.before.get(&id).into_iter().flatten() {
        branch(around, text, *dependent, &format!("on {on}: "), depth + 1, asked, drawn);
    }
}

fn described(job: &Job) -> String {
    match (job.state, job.progress) {
        (State::Running, Some(percent)) => format!("running, {percent} %"),
        (state, _) => state.to_string(),
    }
}
