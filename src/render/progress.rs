//! A progress bar on standard error for work that takes over a second, on a terminal only.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Something that is being counted.
#[derive(Debug)]
pub struct Progress {
    bar: ProgressBar,
    began: Instant,
    is_shown: bool,
}

impl Progress {
    /// Nothing is shown yet.
    #[must_use]
    pub fn new(what: &'static str) -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
        if let Ok(style) = ProgressStyle::with_template("{spinner} {pos} {msg}, {per_sec}, {elapsed}") {
            bar.set_style(style);
        }
        bar.set_message(what);
        Self { bar, began: Instant::now(), is_shown: false }
    }

    /// So many are done.
    pub fn set(&mut self, done: u64) {
        if !self.is_shown && self.began.elapsed() >= Duration::from_secs(1) && super::has_live_stderr() {
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
            self.is_shown = true;
        }
        self.bar.set_position(done);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
