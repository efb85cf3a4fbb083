//! The other databases: SQLite, and MySQL where `DULY_BENCH_MYSQL_URL` names one that may be written to.

use super::ground::Ground;
use super::report::{Figure, Report};
use super::{Bench, timed};

impl Bench {
    /// The tick and the drain beside MariaDB's, in turn, and claims.
    pub(crate) fn engines(&self, report: &mut Report) {
        let file = self.ground.folder.join("bench.sqlite").display().to_string();
        self.engine(report, "SQLite", &file);
        if let Ok(url) = std::env::var("DULY_BENCH_MYSQL_URL") {
            self.engine(report, "MySQL", &url);
        } else {
            report.note("MySQL was not measured: DULY_BENCH_MYSQL_URL names none.".to_owned());
        }
    }

    fn engine(&self, report: &mut Report, name: &str, url: &str) {
        let other = Ground::new(self.ground.folder.join(name), url, "  hello: {command: ['true']}\n");
        let mut tick = || timed(&mut other.duly(&["run"]));
        let mut reference = || timed(&mut self.ground.duly(&["run"]));
        let [tick, reference] = Self::in_turn(self.scale.ticks / 3, [&mut tick, &mut reference]);
        report.add(Figure::time(
            &format!("{name}: a tick with nothing due"),
            "on MariaDB",
            &tick,
            &reference,
            "–",
        ));
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..self.scale.drains.min(5) {
            ours.push(other.drained(self.scale.jobs));
            theirs.push(self.ground.drained(self.scale.jobs));
        }
        let what = format!("{name}: draining {} × `true`, two at once", self.scale.jobs);
        report.add(Figure::rate(&what, "on MariaDB", &ours, &theirs, "–"));
        for claimers in [1, 8, 32] {
            let rate = other.claimed(claimers, self.scale.claimed / 3);
            let what = format!("{name}: claim and finish without processes, {claimers} claimers");
            report.add(Figure::absolute(&what, "dj_queue on MariaDB, 787/s as published", rate, 787.0, "–"));
        }
    }
}
