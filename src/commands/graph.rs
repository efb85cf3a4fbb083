//! The graph that a job is part of, drawn as a tree: what waits for what, and whose child is whose.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use anyhow::{Context as _, Result};

use crate::job::State;
use crate::render::harmless;
use crate::store::{Job, Store};

/// Jobs drawn at most.
const MOST: usize = 60;

/// What is known of the jobs around one.
#[derive(Default)]
struct Around {
    jobs: BTreeMap<i64, Job>,
    /// What waits for a job, and which end it waits for.
    before: BTreeMap<i64, Vec<(i64, String)>>,
    has_prerequisite: BTreeSet<i64>,
    is_cut: bool,
}

/// Draws the graph around job `id`; nothing where it stands alone.
pub(super) fn draw(store: &mut Store, id: i64) -> Result<String> {
    let around = explore(store, id).with_context(|| format!("cannot read the jobs around job {id}"))?;
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
        around.branch(&mut text, top.id, "", 1, id, &mut drawn);
    }
    if around.is_cut {
        text.push_str("  …\n");
    }
    Ok(text)
}

fn explore(store: &mut Store, id: i64) -> Result<Around> {
    let mut around = Around::default();
    let mut open = vec![id];
    while let Some(id) = open.pop() {
        if around.jobs.contains_key(&id) {
            continue;
        }
        if around.jobs.len() >= MOST {
            around.is_cut = true;
            break;
        }
        let Some(job) = store.job(id)? else { continue };
        open.extend(job.root_id);
        around.jobs.insert(id, job);
        for edge in store.prerequisites(id)? {
            if edge.state.is_some() {
                around.has_prerequisite.insert(id);
                open.push(edge.id);
            }
        }
        let dependents = store.dependents(id)?;
        open.extend(dependents.iter().map(|edge| edge.id));
        around.before.insert(id, dependents.into_iter().map(|edge| (edge.id, edge.on_end)).collect());
        open.extend(store.children(id)?);
    }
    Ok(around)
}

impl Around {
    fn branch(
        &self,
        text: &mut String,
        id: i64,
        relation: &str,
        depth: usize,
        asked: i64,
        drawn: &mut BTreeSet<i64>,
    ) {
        let Some(job) = self.jobs.get(&id) else { return };
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
        let children = self.jobs.values().filter(|child| child.root_id == Some(id));
        for child in children.filter(|child| !self.has_prerequisite.contains(&child.id)) {
            self.branch(text, child.id, "child ", depth + 1, asked, drawn);
        }
        for (dependent, on) in self.before.get(&id).into_iter().flatten() {
            self.branch(text, *dependent, &format!("on {on}: "), depth + 1, asked, drawn);
        }
    }
}

fn described(job: &Job) -> String {
    match (job.state, job.progress) {
        (State::Running, Some(percent)) => format!("running, {percent} %"),
        (state, _) => state.to_string(),
    }
}
