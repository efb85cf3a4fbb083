//! Which address leads to which page, and which form to what it does.

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::StatusCode;
use axum::middleware;
use axum::routing::{get, post};

use super::problem::Problem;
use super::site::Site;
use super::{
    act, assets, definition, definitions, guard, job, lost_orders, overview, queues, sessions, sign_in,
    statistics, trail,
};

pub(super) fn router(site: Arc<Site>) -> Router {
    Router::new()
        .route("/", get(overview::show))
        .route("/job/{id}", get(job::show))
        .route("/job/{id}/output/{fence}", get(job::whole_output))
        .route("/job/{id}/cancel", post(act::cancel))
        .route("/job/{id}/retry", post(act::retry))
        .route("/definitions", get(definitions::show))
        .route("/definition", get(definition::show))
        .route("/start", post(act::start))
        .route("/pause", post(act::pause))
        .route("/resume", post(act::resume))
        .route("/queues", get(queues::show))
        .route("/statistics", get(statistics::show))
        .route("/lost-orders", get(lost_orders::list))
        .route("/lost-order", get(lost_orders::show))
        .route("/lost-orders/resend", post(act::resend_order))
        .route("/lost-orders/remove", post(act::remove_order))
        .route("/sessions", get(sessions::show))
        .route("/trail", get(trail::show))
        .route("/sign-in", get(sign_in::show).post(sign_in::sign_in))
        .route("/sign-out", post(sign_in::sign_out))
        .route("/assets/{name}", get(assets::serve))
        .fallback(async || Problem::not_found("There is no such page."))
        .method_not_allowed_fallback(async || {
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, "Not possible", "This address does not take that.")
        })
        .layer(DefaultBodyLimit::max(guard::FORM))
        .layer(middleware::from_fn_with_state(Arc::clone(&site), guard::guard))
        .with_state(site)
}
