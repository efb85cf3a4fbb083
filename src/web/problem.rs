//! What goes wrong with a request: a status, and a page that says what was found and what to do.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use maud::html;

use super::layout;
use crate::store::StoreError;

/// A request that cannot be answered as asked.
#[derive(Debug)]
pub(super) struct Problem {
    status: StatusCode,
    title: &'static str,
    text: String,
}

impl Problem {
    pub(super) fn new(status: StatusCode, title: &'static str, text: impl Into<String>) -> Self {
        Self { status, title, text: text.into() }
    }

    pub(super) fn not_found(text: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "Not found", text)
    }

    pub(super) fn forbidden(text: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "Not allowed", text)
    }

    pub(super) fn bad(text: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "Not understood", text)
    }

    pub(super) fn slow() -> Self {
        let text = "The database takes too long to answer. Nothing is lost: jobs go on. Try again in a moment, or narrow the filter.";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "The database is slow", text)
    }

    /// A bug of ours: its details go to the log.
    pub(super) fn broken(what: &str) -> Self {
        log::error!("a page could not be made: {what}");
        let text = "This page could not be made; the log of `duly web` says why.";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "Something is broken", text)
    }

    pub(super) fn of_store(err: &StoreError) -> Self {
        match err {
            StoreError::Conflict(_) => Self::slow(),
            StoreError::Schema(text) => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "The tables are not as needed", text.clone())
            }
            StoreError::Taken { .. } | StoreError::HeldBack(_) | StoreError::Unknown(_) => {
                Self::new(StatusCode::CONFLICT, "Refused", err.to_string())
            }
            StoreError::Away(text) => {
                // It may name hosts and users: for the log, not for everybody.
                log::warn!("the database is away: {text}");
                let text = "The database cannot be reached. The log of `duly web` says more; this page tries again by itself.";
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "The database is away", text)
            }
            StoreError::Full(text) => {
                log::warn!("the database has no room: {text}");
                let text =
                    "The database has no room or cannot write just now. The log of `duly web` says more.";
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "The database is full", text)
            }
            StoreError::Duplicate(text) | StoreError::Other(text) => Self::broken(text),
        }
    }

    /// What is wrong, as a sentence, if it is something that the person can be told beside a button.
    pub(super) fn refusal(self) -> Result<String, Self> {
        if self.status == StatusCode::CONFLICT || self.status == StatusCode::UNPROCESSABLE_ENTITY {
            return Ok(self.text);
        }
        Err(self)
    }

    /// What was asked for cannot be done, and why.
    pub(super) fn refused(text: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "Refused", text)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = html! {
            section.card.problem {
                h1 { (self.title) }
                p { (self.text) }
                p { a.button href="/" { "To the jobs" } }
            }
        };
        (self.status, layout::bare(self.title, &body)).into_response()
    }
}
