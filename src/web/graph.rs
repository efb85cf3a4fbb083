//! The jobs around one as a drawing: from left to right what comes first, an arrow to each that waits for it.

use std::collections::BTreeMap;

use maud::{Markup, html};

use super::icon;
use crate::job::harmless;
use crate::store::{Around, Job};

/// The size of a box, and the space around it.
const BOX: (i64, i64) = (190, 48);
const SPACE: (i64, i64) = (56, 14);

/// Characters of a name in a box.
const NAME: usize = 20;

/// The column and the row of each job.
type Places = BTreeMap<i64, (i64, i64)>;

/// Draws the graph, with a mark on job `asked`. Each box is a link.
pub(super) fn draw(around: &Around, asked: i64) -> Markup {
    let edges = edges(around);
    let places = places(around, &edges);
    let columns = places.values().map(|(column, _)| column + 1).max().unwrap_or(1);
    let rows = places.values().map(|(_, row)| row + 1).max().unwrap_or(1);
    let (width, height) = (columns * (BOX.0 + SPACE.0) - SPACE.0 + 4, rows * (BOX.1 + SPACE.1) - SPACE.1 + 4);
    let corner = |id: &i64| {
        places.get(id).map(|(column, row)| (2 + column * (BOX.0 + SPACE.0), 2 + row * (BOX.1 + SPACE.1)))
    };
    html! {
        div.scroll {
            svg.graph role="img" aria-label="Graph of jobs" width=(width) height=(height) viewBox=(format!("0 0 {width} {height}")) {
                @for (from, to, on) in &edges {
                    @if let (Some((x, y)), Some((to_x, to_y))) = (corner(from), corner(to)) {
                        @let (x, y, to_y) = (x + BOX.0, y + BOX.1 / 2, to_y + BOX.1 / 2);
                        @let middle = i64::midpoint(x, to_x);
                        path.edge class=(on) d=(format!("M{x} {y}C{middle} {y} {middle} {to_y} {to_x} {to_y}")) {}
                        path.tip class=(on) d=(format!("M{to_x} {to_y}l-7 -4v8z")) {}
                    }
                }
                @for job in around.jobs.values() {
                    @if let Some((x, y)) = corner(&job.id) { (node(job, x, y, job.id == asked)) }
                }
            }
        }
    }
}

fn node(job: &Job, x: i64, y: i64, is_asked: bool) -> Markup {
    let name = harmless(&job.name);
    let short: String = if name.chars().count() > NAME {
        name.chars().take(NAME - 1).chain(['…']).collect()
    } else {
        name.clone()
    };
    html! {
        a href=(format!("/job/{}", job.id)) class=(format!("node {}", job.state)) aria-label=(format!("job {}, {name}, {}", job.id, job.state)) {
            rect.asked[is_asked] x=(x) y=(y) width=(BOX.0) height=(BOX.1) rx="8" {}
            g transform=(format!("translate({} {})", x + 12, y + 17)) { (icon::of(job.state)) }
            text.name x=(x + 34) y=(y + 21) { (short) }
            text.sub x=(x + 34) y=(y + 37) { (job.id) " · " (job.state) }
        }
    }
}

/// From which job to which, and on which end: prerequisites to those that wait for them, roots to their children.
fn edges(around: &Around) -> Vec<(i64, i64, String)> {
    let waits =
        around.before.iter().flat_map(|(from, to)| to.iter().map(|(to, on)| (*from, *to, on.clone())));
    let parts = around.jobs.values().filter(|job| !around.has_prerequisite.contains(&job.id));
    let parts = parts.filter_map(|job| Some((job.root_id?, job.id, "part".to_owned())));
    waits
        .chain(parts)
        .filter(|(from, to, _)| around.jobs.contains_key(from) && around.jobs.contains_key(to))
        .collect()
}

/// Each job right of all that it waits for. Jobs cannot wait in a circle; should a row say otherwise, this ends all the same.
fn places(around: &Around, edges: &[(i64, i64, String)]) -> Places {
    let mut columns: BTreeMap<i64, i64> = around.jobs.keys().map(|id| (*id, 0)).collect();
    for _ in 0..around.jobs.len() {
        let mut has_moved = false;
        for (from, to, _) in edges {
            let least = columns.get(from).copied().unwrap_or(0) + 1;
            if let Some(column) = columns.get_mut(to).filter(|column| **column < least && least < 60) {
                *column = least;
                has_moved = true;
            }
        }
        if !has_moved {
            break;
        }
    }
    let mut filled: BTreeMap<i64, i64> = BTreeMap::new();
    columns
        .into_iter()
        .map(|(id, column)| {
            let row = filled.entry(column).or_insert(0);
            *row += 1;
            (id, (column, *row - 1))
        })
        .collect()
}
