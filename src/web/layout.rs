//! The frame of every page: its head, the way to the other pages, who is there, what was just done.

use axum::response::Html;
use maud::{DOCTYPE, Markup, html};

use super::assets;
use super::parts::{button, query};
use super::site::Site;
use super::visit::Visit;
use crate::job::harmless;

/// The pages, in their order: where, and what they are called.
const PAGES: [(&str, &str); 7] = [
    ("/", "Jobs"),
    ("/definitions", "Definitions"),
    ("/queues", "Queues"),
    ("/statistics", "Statistics"),
    ("/lost-orders", "Lost orders"),
    ("/sessions", "Sessions"),
    ("/trail", "Audit trail"),
];

/// How often a page fetches itself, in seconds.
pub(super) const REFRESH: u32 = 10;

fn head(title: &str) -> Markup {
    html! {
        head {
            meta charset="utf-8";
            meta name="viewport" content="width=device-width, initial-scale=1";
            meta name="color-scheme" content="light dark";
            title { (title) " · Duly" }
            link rel="icon" type="image/svg+xml" href=(assets::ICON.address());
            link rel="stylesheet" href=(assets::STYLE.address());
            script src=(assets::SCRIPT.address()) defer {}
        }
    }
}

fn brand() -> Markup {
    html! {
        a.brand href="/" {
            svg viewBox="0 0 32 32" width="22" height="22" aria-hidden="true" focusable="false" {
                circle.ring cx="16" cy="16" r="13" {}
                path.hand d="M9.5 16.5l4.5 4.5 8.5-10" {}
            }
            "Duly"
        }
    }
}

/// A page for somebody who is known: what is marked `data-live` in it is fetched again every so many seconds.
pub(super) fn page(site: &Site, visit: &Visit, title: &str, every: u32, body: &Markup) -> Html<String> {
    let (config, problem) = site.config();
    let path = visit.path.split('?').next().unwrap_or("/");
    let place = match path {
        path if path.starts_with("/job/") => "/",
        "/definition" => "/definitions",
        "/lost-order" => "/lost-orders",
        path => path,
    };
    let whole = html! {
        (DOCTYPE)
        html lang="en" {
            (head(title))
            body data-refresh=(every) {
                a.skip href="#content" { "Skip to content" }
                header.top {
                    (brand())
                    nav aria-label="Pages" {
                        @for (address, name) in PAGES {
                            a href=(address) aria-current=[(place == address).then_some("page")] { (name) }
                        }
                    }
                    (who(visit))
                }
                @if let Some(problem) = &problem {
                    div.banner.bad role="alert" {
                        strong { (config.path.display()) " has a mistake." }
                        " The page goes by what it said before."
                        pre { (harmless(problem)) }
                    }
                }
                @if let Some(said) = &visit.said {
                    div.banner.good[said.is_good].bad[!said.is_good] role="status" { (harmless(&said.text)) }
                }
                main id="content" tabindex="-1" { (body) }
                footer {
                    span { "Duly " (env!("CARGO_PKG_VERSION")) }
                    span { "Times are UTC" span.script { "; point at one for your own" } }
                    span id="pulse" role="status" {}
                }
            }
        }
    };
    finished(whole)
}

fn who(visit: &Visit) -> Markup {
    html! {
        div.who {
            @if visit.is_open {
                span.open title="Everybody on this machine may do everything. Configure web.users in jobs.yaml to change that." {
                    "No sign-in: open to this machine"
                }
            } @else if let Some(who) = &visit.who {
                span.name { (harmless(who)) }
                span.role { @if visit.may_change() { "operator" } @else { "viewer" } }
                @if visit.has_session {
                    (button(visit, "/sign-out", "quiet", "Sign out", &[]))
                }
            }
        }
    }
}

/// A page without the way to others, for somebody who is not known or when something is wrong.
pub(super) fn bare(title: &str, body: &Markup) -> Html<String> {
    let whole = html! {
        (DOCTYPE)
        html lang="en" {
            (head(title))
            body.bare {
                header.top { (brand()) }
                main id="content" { (body) }
            }
        }
    };
    finished(whole)
}

/// Links to parts of what a page shows: each a label, and whether it is the one that is shown.
pub(super) fn tabs(label: &str, name: &str, chosen: &str, choices: &[(&str, &str)], path: &str) -> Markup {
    html! {
        nav.tabs aria-label=(label) {
            @for (value, text) in choices {
                a href=(format!("{path}?{}", query(&[(name, value)]))) aria-current=[(*value == chosen).then_some("true")] { (text) }
            }
        }
    }
}

/// A page as it is sent: whatever a row held and wherever it is shown, no terminal obeys it and no direction of writing turns.
fn finished(whole: Markup) -> Html<String> {
    Html(harmless(&whole.into_string()))
}
