//! Charts as SVG, drawn here and coloured by the style sheet. Each part says its figures when it is pointed at.

use std::time::Duration;

use chrono::{DateTime, Utc};
use maud::{Markup, html};

use crate::job::duration;

/// The size of a chart's field; it is stretched to the width that there is.
const WIDTH: i64 = 960;
const HEIGHT: i64 = 160;

/// Runs within a stretch of time.
pub(super) struct Bar {
    pub(super) at: DateTime<Utc>,
    pub(super) good: i64,
    pub(super) bad: i64,
}

fn height(value: i64, most: i64) -> i64 {
    // What is there is to be seen, however little it is.
    if value == 0 { 0 } else { (value * (HEIGHT - 10) / most.max(1)).max(2) }
}

fn frame(label: &str, most: &str, ends: Option<(DateTime<Utc>, DateTime<Utc>)>, drawing: &Markup) -> Markup {
    html! {
        figure.chart {
            div.most { (most) }
            svg role="img" aria-label=(label) viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) preserveAspectRatio="none" {
                line.grid x1="0" y1="10" x2=(WIDTH) y2="10" {}
                line.grid x1="0" y1=(HEIGHT / 2 + 5) x2=(WIDTH) y2=(HEIGHT / 2 + 5) {}
                line.base x1="0" y1=(HEIGHT) x2=(WIDTH) y2=(HEIGHT) {}
                (drawing)
            }
            @if let Some((from, to)) = ends {
                figcaption { span { (from.format("%m-%d %H:%M")) } span { (to.format("%m-%d %H:%M")) } }
            }
        }
    }
}

/// Bars of runs, with the failed part on top.
pub(super) fn bars(label: &str, all: &[Bar]) -> Markup {
    let most = all.iter().map(|bar| bar.good + bar.bad).max().unwrap_or(0);
    let step = WIDTH / i64::try_from(all.len().max(1)).unwrap_or(1);
    let drawing = html! {
        @for (x, bar) in (0..).step_by(usize::try_from(step).unwrap_or(1)).zip(all) {
            @let (good, bad) = (height(bar.good, most), height(bar.bad, most));
            g {
                title { (bar.at.format("%Y-%m-%d %H:%M")) " UTC: " (bar.good) " well, " (bar.bad) " failed" }
                rect.hit x=(x) y="0" width=(step) height=(HEIGHT) {}
                rect.good x=(x + 1) y=(HEIGHT - good) width=(step - 3) height=(good) {}
                rect.bad x=(x + 1) y=(HEIGHT - good - bad) width=(step - 3) height=(bad) {}
            }
        }
    };
    frame(
        label,
        &most.to_string(),
        all.first().zip(all.last()).map(|(first, last)| (first.at, last.at)),
        &drawing,
    )
}

/// A line through values over time; a stretch without one is a gap.
pub(super) fn line(label: &str, all: &[(DateTime<Utc>, Option<i64>)], is_time: bool) -> Markup {
    let most = all.iter().filter_map(|(_, value)| *value).max().unwrap_or(0);
    let shown = |value: i64| match u64::try_from(value) {
        Ok(millis) if is_time => duration::show(Duration::from_millis(millis)),
        _ => value.to_string(),
    };
    let count = i64::try_from(all.len().max(1)).unwrap_or(1);
    let points: Vec<(i64, i64, DateTime<Utc>, Option<i64>)> = (0..)
        .zip(all)
        .map(|(at, (time, value))| {
            (at * WIDTH / count + WIDTH / count / 2, HEIGHT - height(value.unwrap_or(0), most), *time, *value)
        })
        .collect();
    let mut path = String::new();
    let mut is_down = false;
    for (x, y, _, value) in &points {
        if value.is_some() {
            path.push_str(&format!("{}{x} {y}", if is_down { "L" } else { "M" }));
        }
        is_down = value.is_some();
    }
    let drawing = html! {
        path.curve d=(path) {}
        @for (x, y, at, value) in &points {
            @if let Some(value) = value {
                g {
                    title { (at.format("%Y-%m-%d %H:%M")) " UTC: " (shown(*value)) }
                    rect.hit x=(x - WIDTH / count / 2) y="0" width=(WIDTH / count) height=(HEIGHT) {}
                    rect.dot x=(x - 2) y=(y - 2) width="4" height="4" {}
                }
            }
        }
    };
    frame(label, &shown(most), all.first().zip(all.last()).map(|(first, last)| (first.0, last.0)), &drawing)
}
