//! Lost orders: which there are, how their transfer failed, and buttons to send one again or take it out.

use std::sync::Arc;

use axum::extract::{Query, State};
use axum::response::Html;
use maud::{Markup, html};

use super::layout::{self, REFRESH, tabs};
use super::parts::{button, job_link, query, time, took};
use super::problem::Problem;
use super::site::Site;
use super::visit::Visit;
use crate::job::harmless;
use crate::job::shop::OrderState;
use crate::store::{LostOrder, OrderAttempt, StoreError};

/// Orders shown at most.
const ROWS: usize = 200;

pub(super) async fn list(
    State(site): State<Arc<Site>>,
    visit: Visit,
    Query(pairs): Query<Vec<(String, String)>>,
) -> Result<Html<String>, Problem> {
    let asked = pairs.iter().find(|(key, _)| key == "state").map_or("open", |(_, value)| value.as_str());
    let states = match asked.parse::<OrderState>() {
        Ok(state) => vec![state],
        Err(_all_that_need_somebody) => vec![OrderState::Lost, OrderState::Sending, OrderState::GivenUp],
    };
    let (config, _) = site.config();
    let orders = site.database.read(move |store| {
        let table = config.order_table();
        store.require_columns("lost_orders", &table.table, &table.columns())?;
        store.lost_orders(&table, &states, ROWS)
    });
    let orders = orders.await?;
    let mut choices = vec![("open", "Open")];
    choices.extend(OrderState::ALL.iter().map(|state| (state.as_str(), state.as_str())));
    let body = html! {
        div.title { h1 { "Lost orders" } (tabs("States", "state", asked, &choices, "/lost-orders")) }
        section.card id="orders" data-live="" {
            @if orders.is_empty() { p.faint { "No orders like that: every transfer to the ERP went well." } }
            @else { (table(&visit, &orders)) }
            @if orders.len() == ROWS { p.faint { "The first " (ROWS) " are shown." } }
        }
    };
    Ok(layout::page(&site, &visit, "Lost orders", REFRESH, &body))
}

fn order_state(order: &LostOrder) -> Markup {
    let class = match order.state {
        Some(OrderState::Confirmed) => "success",
        Some(OrderState::GivenUp) => "failed",
        Some(OrderState::Sending) => "running",
        Some(OrderState::Removed) => "cancelled",
        Some(OrderState::Lost) | None => "delayed",
    };
    let word =
        order.state.map_or_else(|| harmless(&order.stored_state), |state| state.as_str().replace('_', " "));
    html! { span class=(format!("state {class}")) { (word) } }
}

fn table(visit: &Visit, orders: &[LostOrder]) -> Markup {
    html! {
        div.scroll {
            table.cards {
                thead { tr { th { "Order" } th { "State" } th.number { "Failed" } th { "Last try" } th { "Again" } th { "Result" } th { span.unseen { "Actions" } } } }
                tbody {
                    @for order in orders {
                        @let latest = order.latest.as_ref();
                        tr {
                            td data-label="Order" { a href=(format!("/lost-order?{}", query(&[("order", &order.order_id)]))) { (harmless(&order.order_id)) } }
                            td data-label="State" { (order_state(order)) }
                            td.number data-label="Failed" { (latest.map_or(0, |attempt| attempt.failures)) }
                            td data-label="Last try" { (time(latest.and_then(|attempt| attempt.started_at))) }
                            td data-label="Again" { (time(latest.and_then(OrderAttempt::next_at))) }
                            td.result data-label="Result" { @if let Some(latest) = latest { (harmless(&latest.result())) } }
                            td.actions { (actions(visit, order)) }
                        }
                    }
                }
            }
        }
    }
}

fn actions(visit: &Visit, order: &LostOrder) -> Markup {
    let named = [("order", order.order_id.as_str())];
    html! {
        @if visit.may_change() {
            @if matches!(order.state, Some(OrderState::Lost | OrderState::GivenUp | OrderState::Removed)) {
                (button(visit, "/lost-orders/resend", "", "Resend", &named))
            }
            @if matches!(order.state, Some(OrderState::Lost | OrderState::GivenUp)) {
                (button(visit, "/lost-orders/remove", "danger quiet", "Remove", &named))
            }
        }
    }
}

pub(super) async fn show(
    State(site): State<Arc<Site>>,
    visit: Visit,
    Query(pairs): Query<Vec<(String, String)>>,
) -> Result<Html<String>, Problem> {
    let order_id =
        pairs.into_iter().find(|(key, _)| key == "order").map(|(_, value)| value).unwrap_or_default();
    let (config, _) = site.config();
    let named = order_id.clone();
    let seen = site.database.read(move |store| {
        let table = config.order_table();
        let order = store.lost_order(&table, &named)?;
        Ok::<_, StoreError>((order, store.order_attempts(&table, &named)?))
    });
    let (order, attempts) = seen.await?;
    let order = order.ok_or_else(|| Problem::not_found(format!("There is no order {order_id}.")))?;
    let body = html! {
        div.title id="head" data-live="" {
            div { p.path { a href="/lost-orders" { "Lost orders" } } h1 { "Order " (harmless(&order.order_id)) " " (order_state(&order)) } }
            div.actions { (actions(&visit, &order)) }
        }
        section.card id="tries" data-live="" {
            h2 { "Tries" }
            @if attempts.is_empty() { p.faint { "It has not been sent yet." } }
            @for attempt in attempts.iter().rev() {
                article.try {
                    p {
                        strong { "Nr " (attempt.attempt) } " " (harmless(&attempt.result())) ", " (time(attempt.started_at)) ", took " (took(attempt.duration_ms))
                        @if let Some(host) = &attempt.host { ", on " (harmless(host)) }
                        @if let Some(id) = attempt.job_id { ", by job " (job_link(id)) }
                        @if let Some(reason) = &attempt.reason { span.sub { (harmless(reason)) } }
                    }
                    @if let Some(answer) = &attempt.answer { pre.output tabindex="0" { (harmless(answer)) } }
                }
            }
        }
    };
    Ok(layout::page(&site, &visit, &format!("Order {order_id}"), REFRESH, &body))
}
