//! The integration tests: black-box through `support`, one file per command and per guarantee, each on every database.
#![expect(clippy::unwrap_used, reason = "a test may panic")]
#![expect(
    clippy::disallowed_methods,
    reason = "tests start programs, read the environment and look at the clock"
)]

mod architecture;
mod cancel_retry;
mod clean_up;
mod cli_errors;
mod cli_help;
mod crash;
mod crontab;
mod daemon;
mod enqueue;
mod execute;
mod harness;
mod hooks;
mod limits;
mod lost_orders;
mod metrics;
mod migrate;
mod model;
mod once;
mod plans;
mod queries;
mod refresh_cache;
mod roots;
mod schedule;
mod sessions;
mod shipped;
mod situations;
mod stand;
mod support;
mod systemd;
mod targets;
mod tick;
mod torture;
mod web;
mod why;
