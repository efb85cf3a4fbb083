//! The other databases: SQLite, and MySQL where `DULY_BENCH_MYSQL_URL` names one that may be written to.

use std::fs;
use std::process::Command;

use duly::store::Location;

use super::report::{Figure, Report};
use super::{Bench, claims, run, timed, write_config};

impl Bench {
    /// The tick and the drain beside MariaDB's, in turn, and claims.
    pub(crate) fn engines(&self, report: &mut Report) {
        let file = self.folder.join("bench.sqlite").display().to_string();
        self.engine(report, "SQLite", &file, &Location::Sqlite(file.clone()));
        if let Ok(url) = std::env::var("DULY_BENCH_MYSQL_URL") {
            self.engine(report, "MySQL", &url, &Location::Mysql(url.clone()));
        } else {
            report.note("MySQL was not measured: DULY_BENCH_MYSQL_URL names none.".to_owned());
        }
    }

    fn engine(&self, report: &mut Report, name: &str, url: &str, location: &Location) {
        let folder = self.folder.join(name);
        write_config(&folder, url, "  hello: {command: ['true']}\n");
        let duly = |arguments: &[&str]| {
            let mut command: Command = self.duly(arguments);
            command.current_dir(&folder);
            command
        };
        let put_in = |jobs: usize| {
            fs::write(folder.join("batch"), "{\"name\": \"hello\"}\n".repeat(jobs)).unwrap();
            run(duly(&["enqueue", "--batch", folder.join("batch").to_str().unwrap()]));
        };
        run(duly(&["migrate"]));
        let mut tick = || timed(&mut duly(&["run"]));
        let mut reference = || timed(&mut self.duly(&["run"]));
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
            put_in(self.scale.jobs);
            let taken = timed(&mut duly(&["run", "--concurrency", "2"]));
            ours.push(self.scale.jobs as f64 / taken.as_secs_f64());
            theirs.extend(self.drain_rates(1));
        }
        let what = format!("{name}: draining {} × `true`, two at once", self.scale.jobs);
        report.add(Figure::rate(&what, "on MariaDB", &ours, &theirs, "–"));
        for claimers in [1, 8, 32] {
            let jobs = self.scale.claimed / 3;
            put_in(jobs);
            let done = claims::run(location, claimers, jobs);
            assert_eq!((done.jobs, done.errors), (jobs, 0), "every job is claimed and finished once");
            let rate = jobs as f64 / done.taken.as_secs_f64();
            let what = format!("{name}: claim and finish without processes, {claimers} claimers");
            report.add(Figure::absolute(&what, "dj_queue on MariaDB, 787/s as published", rate, 787.0, "–"));
        }
    }
}
