//! How much memory the runner and the lists take at most, of whatever size their work is.

use super::report::Report;
use super::{Bench, peak_memory, run};

impl Bench {
    /// Peaks, with GNU time.
    pub(crate) fn memory(&self, report: &mut Report) {
        let many = if self.scale.is_quick { 5000 } else { 100_000 };
        self.ground.put_in(many);
        self.peak(report, &format!("a tick that drains {many} jobs"), &["run", "--concurrency", "2"]);
        self.ground.write_jobs(
            "  hello: {command: ['true']}\n  loud: {command: [head, -c, '100000000', /dev/zero]}\n",
        );
        for _ in 0..4 {
            run(self.ground.duly(&["enqueue", "loud"]));
        }
        self.peak(
            report,
            "a tick with four jobs that print 100 MB each, two at once",
            &["run", "--concurrency", "2"],
        );
        self.peak(report, "`list`", &["list"]);
        self.ground.write_jobs(
            "  hello: {command: ['true']}\n  nightly: {command: ['true'], schedule: '0 2 * * *'}\n",
        );
    }

    pub(crate) fn peak(&self, report: &mut Report, what: &str, arguments: &[&str]) {
        match peak_memory(&mut self.ground.duly(arguments)) {
            Some(peak) => report.note(format!("Peak memory of {what}: {:.1} MiB.", peak / 1024.0)),
            None => report.note(format!("Peak memory of {what}: not measured, GNU time is not installed.")),
        }
    }
}
