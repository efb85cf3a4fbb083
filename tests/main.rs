//! The integration tests: black-box through `support`, one file per command and per guarantee, each on every database.
#![expect(clippy::unwrap_used, reason = "a test may panic")]
#![expect(
    clippy::disallowed_methods,
    reason = "tests start programs, read the environment and look at the clock"
)]

mod age;
mod architecture;
mod bounded;
mod cancel_retry;
mod check;
mod clean_up;
mod cli_errors;
mod cli_help;
mod clock_changes;
mod clusters;
mod crash;
mod crontab;
mod daemon;
mod dashboard;
mod descendants;
mod enqueue;
mod execute;
mod explorer;
mod faults;
mod fuzz;
mod fuzz_parsers;
mod groups;
mod guarantees;
mod harness;
mod hooks;
mod host_trouble;
mod in_time;
mod isolation;
mod limits;
mod living_tick;
mod local_users;
mod lost_orders;
mod man;
mod metrics;
mod migrate;
mod migrating;
mod model;
mod network;
mod next;
mod once;
mod output;
mod peculiar;
mod placeholders;
mod plans;
mod producer;
mod queries;
mod recipes;
mod refresh_cache;
mod replaced;
mod rogue;
mod roots;
mod schedule;
mod secrets;
mod sessions;
mod shipped;
mod situations;
mod splitting;
mod stand;
mod status;
mod stops;
mod support;
mod systemd;
mod targets;
mod tick;
mod tls;
mod torture;
mod upgrade;
mod watch;
mod web;
mod why;
