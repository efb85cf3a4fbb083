//! `duly web`: its pages in a real browser and by plain forms, and what keeps out who should stay out.

mod attacks;
mod browser;
mod forms;
mod http;
mod pages;
mod screenshots;
mod sign_in;

use std::time::Duration;

use crate::support::{Running, Sandbox, wait_until};

/// How long something may take that takes a moment.
pub(crate) const SOON: Duration = Duration::from_secs(30);

/// Jobs to look at: one that succeeds, one that fails, one that prints as it runs.
pub(crate) const JOBS: &str = "\
jobs:
  greet: {label: \"Say hello\", command: [echo, hello]}
  fail: {command: [sh, -c, 'echo before; exit 65'], permanent_exit_codes: [65]}
  slow:
    command: [sh, -c, 'i=0; while [ $i -lt 600 ]; do i=$((i+1)); echo line $i; sleep 0.1; done']
    grace: 2s
";

/// A page that is served.
pub(crate) struct Page {
    pub(crate) running: Running,
    /// Host and port.
    pub(crate) address: String,
}

/// Serves the page of a sandbox, on a port that is free.
#[track_caller]
pub(crate) fn serve(s: &Sandbox) -> Page {
    let running = s.duly(["web", "--listen", "127.0.0.1:0"]).spawn();
    wait_until("the page is served", SOON, || running.stdout_so_far().ends_with('\n'));
    let address =
        running.stdout_so_far().trim().trim_start_matches("http://").trim_end_matches('/').to_owned();
    Page { running, address }
}

/// What a line of `web.users` takes for a password.
pub(crate) fn hash_of(s: &Sandbox, password: &str) -> String {
    let output =
        s.duly(["web", "--hash-password"]).stdin(&format!("{password}\n")).stdout_has("$argon2id$").status(0);
    output.stdout.trim().to_owned()
}
