//! What pages are put together from: times, states, names, forms, links that keep the rest of an address.

use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use maud::{Markup, html};

use super::icon;
use super::visit::Visit;
use crate::job::{State, duration, harmless, parse_params};
use crate::store::Job;

/// A time as people read it, in UTC; the script tells the reader's own on hover.
pub(super) fn time(at: Option<DateTime<Utc>>) -> Markup {
    html! {
        @match at {
            Some(at) => time datetime=(at.to_rfc3339_opts(SecondsFormat::Secs, true)) tabindex="-1" {
                span.day { (at.format("%Y-%m-%d")) } " " (at.format("%H:%M:%S"))
            },
            None => span.faint { "–" },
        }
    }
}

/// A time beside how far away it is: `in 5m 0s`, `2h 3m ago`.
pub(super) fn time_and_distance(at: Option<DateTime<Utc>>, now: DateTime<Utc>) -> Markup {
    html! {
        span { (time(at)) @if let Some(at) = at { " " span.faint { (distance(at, now)) } } }
    }
}

/// How far a time is from now.
pub(super) fn distance(at: DateTime<Utc>, now: DateTime<Utc>) -> String {
    let (length, is_ahead) = match (at - now).to_std() {
        Ok(ahead) => (ahead, true),
        Err(_behind) => ((now - at).to_std().unwrap_or_default(), false),
    };
    match (length.as_secs(), is_ahead) {
        (0, _) => "now".to_owned(),
        (seconds @ 1..60, true) => format!("in {seconds}s"),
        (seconds @ 1..60, false) => format!("{seconds}s ago"),
        (_, true) => format!("in {}", duration::show(length)),
        (_, false) => format!("{} ago", duration::show(length)),
    }
}

/// A stored length of time.
pub(super) fn took(millis: Option<i64>) -> Markup {
    let length = millis.and_then(|millis| u64::try_from(millis).ok()).map(Duration::from_millis);
    html! {
        @match length {
            Some(length) => (duration::show(length)),
            None => span.faint { "–" },
        }
    }
}

/// A state by shape, word and colour.
pub(super) fn state(state: State) -> Markup {
    html! { span class=(format!("state {state}")) { (icon::of(state)) (state) } }
}

/// The state of a job, and how far it is.
pub(super) fn job_state(job: &Job) -> Markup {
    html! {
        (state(job.state))
        @if let Some(percent) = job.progress.filter(|_| job.state == State::Running) {
            progress max="100" value=(percent) aria-label="progress" { (percent) " %" }
        }
    }
}

/// A job's number as a link to its page.
pub(super) fn job_link(id: i64) -> Markup {
    html! { a.number href=(format!("/job/{id}")) { (id) } }
}

/// The name of a job, linked to its definition.
pub(super) fn name_link(name: &str) -> Markup {
    html! { a href=(format!("/definition?{}", query(&[("name", name)]))) { (harmless(name)) } }
}

/// What tells a job from others of its name: parameters and target, as they would be typed.
pub(super) fn particulars(job: &Job) -> Option<String> {
    let params = job.params.as_deref().filter(|params| *params != "[]");
    let params = params.map(|params| match parse_params(params) {
        Ok(words) => shell_words::join(words),
        Err(_unreadable) => params.to_owned(),
    });
    let target = match (&job.target_type, &job.target_id) {
        (None, None) => None,
        (kind, id) => Some(format!("{} {}", kind.as_deref().unwrap_or(""), id.as_deref().unwrap_or(""))),
    };
    let both: Vec<String> = [target, params].into_iter().flatten().collect();
    (!both.is_empty()).then(|| harmless(both.join(" · ").trim()).replace('\n', " "))
}

/// How the latest attempt of a job ended, or what it is doing now.
pub(super) fn result(job: &Job) -> String {
    let text = match (job.state, &job.progress_text) {
        (State::Running, Some(text)) => text.clone(),
        // What the attempt before it came to would be read as this one's.
        (State::Running | State::New, None) => String::new(),
        (State::Delayed, _) if job.attempts > 0 => format!("{}, again later", job.result()),
        _ => job.result(),
    };
    harmless(&text).replace('\n', " ").replace("-", if text == "-" { "" } else { "-" })
}

/// The part of an address after the `?`.
pub(super) fn query(pairs: &[(&str, &str)]) -> String {
    url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
}

/// A form that changes something: its token, and where to go back to, are in it.
pub(super) fn form(visit: &Visit, action: &str, class: &str, fields: &Markup) -> Markup {
    html! {
        form method="post" action=(action) class=(class) {
            input type="hidden" name="token" value=(visit.token);
            input type="hidden" name="back" value=(visit.path);
            (fields)
        }
    }
}

/// A form that is a button, with values that go along.
pub(super) fn button(
    visit: &Visit,
    action: &str,
    class: &str,
    label: &str,
    values: &[(&str, &str)],
) -> Markup {
    let fields = html! {
        @for (name, value) in values { input type="hidden" name=(name) value=(value); }
        button class=(class) type="submit" { (label) }
    };
    form(visit, action, "inline", &fields)
}

/// What a command printed, with the end of it in sight. `id` keeps its scrolling over a refresh.
pub(super) fn output(id: &str, body: &str, truncated: i64) -> Markup {
    html! {
        @if truncated > 0 {
            p.faint { (truncated) " bytes of it were left out" }
        }
        pre.output id=(id) tabindex="0" aria-label="output" { (harmless(body)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_distance_is_in_whole_seconds() {
        let now = DateTime::from_timestamp(1_000_000, 0).unwrap();
        let at = |seconds: i64| DateTime::from_timestamp(1_000_000 + seconds, 300_000_000).unwrap();
        assert_eq!(distance(at(0), now), "now");
        assert_eq!(distance(at(5), now), "in 5s");
        assert_eq!(distance(at(-3700), now), "1h 1m ago");
    }

    #[test]
    fn an_address_is_escaped() {
        assert_eq!(query(&[("name", "a b&c"), ("q", "ü/?")]), "name=a+b%26c&q=%C3%BC%2F%3F");
    }
}
