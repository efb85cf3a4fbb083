//! What a table that has grown costs: the tick, the drain, claims, clean-up and the lists, beside the same with an empty one.

use std::process::Command;

use super::chart::Chart;
use super::ground::Ground;
use super::report::{Figure, Report, median};
use super::{Bench, JOBS, run, timed};

/// Asked with a full table; `show` gets the newest job that has ended.
const QUESTIONS: [&[&str]; 7] = [
    &["list"],
    &["list", "--state", "failed"],
    &["list", "--state", "waiting"],
    &["list", "--name", "hello"],
    &["jobs"],
    &["status"],
    &["clean-up", "--dry-run", "--per-call", "1000"],
];

impl Bench {
    /// With more and more ended jobs, and with delayed and waiting ones.
    pub(crate) fn growth(&self, report: &mut Report) {
        let empty = Ground::new(self.server.folder.join("empty"), &self.server.other("empty"), JOBS);
        let (mut before, mut bars) = (0, Vec::new());
        for (number, ended) in self.scale.ended.iter().enumerate() {
            let (delayed, waiting) =
                if number == 0 { (self.scale.delayed, self.scale.waiting) } else { (0, 0) };
            println!("filling: {} ended jobs, {delayed} delayed, {waiting} waiting", ended - before);
            self.server.fill(ended - before, "1 DAY", delayed, waiting);
            before = *ended;
            let with = format!(
                " with {ended} ended, {} delayed and {} waiting rows",
                self.scale.delayed, self.scale.waiting
            );
            let (full, reference) = self.grown(report, &with, &empty);
            if bars.is_empty() {
                bars.push(("0".to_owned(), reference));
            }
            bars.push((ended.to_string(), full));
        }
        report.charts.push(Chart {
            file: "growth.svg",
            title: "Jobs claimed and finished a second by 32 claimers, by how many ended jobs there are",
            over: "ended jobs in the table",
            bars,
        });
    }

    /// Gives the claims and finishes a second with the full table and with the empty one.
    fn grown(&self, report: &mut Report, with: &str, empty: &Ground) -> (f64, f64) {
        let mut reference = || timed(&mut Command::new(&self.connect));
        let mut tick = || timed(&mut self.ground.duly(&["run"]));
        let [reference, tick] = Self::in_turn(self.scale.ticks / 2, [&mut reference, &mut tick]);
        let what = format!("a tick with nothing due{with}");
        report.add(Figure::time(&what, "connect and SELECT 1, in C", &tick, &reference, "≤ 1.5"));
        self.beside_empty(report, &format!("draining{with}"), empty, |ground| {
            ground.drained(self.scale.jobs)
        });
        let claims =
            self.beside_empty(report, &format!("claim and finish, 32 claimers{with}"), empty, |ground| {
                ground.claimed(32, self.scale.claimed)
            });
        self.questions(report, with);
        self.many_definitions(report, with);
        claims
    }

    /// The same work on the full table and on the empty one, in turn; each goes first as often as the other.
    fn beside_empty(
        &self,
        report: &mut Report,
        what: &str,
        empty: &Ground,
        work: impl Fn(&Ground) -> f64,
    ) -> (f64, f64) {
        let (mut full, mut reference) = (Vec::new(), Vec::new());
        for round in 0..self.scale.drains + 1 {
            self.server.clear("empty");
            if round % 2 == 0 {
                full.push(work(&self.ground));
            }
            reference.push(work(empty));
            if round % 2 == 1 {
                full.push(work(&self.ground));
            }
        }
        report.add(Figure::slower(what, "with an empty table", &full, &reference, "≤ 1.15"));
        (median(&full), median(&reference))
    }

    fn questions(&self, report: &mut Report, with: &str) {
        let mut times: Vec<String> = QUESTIONS
            .iter()
            .map(|arguments| format!("`duly {}` {:.1} ms", arguments.join(" "), self.asked(arguments)))
            .collect();
        let newest = self.server.newest_ended();
        times.push(format!("`duly show` {:.1} ms", self.asked(&["show", &newest])));
        report.note(format!("Medians of five{with}: {}.", times.join(", ")));
        self.peak(report, &format!("`list --limit 1000000`{with}"), &["list", "--limit", "1000000"]);
        self.peak(
            report,
            &format!("`list --limit 1000000 --json`{with}"),
            &["list", "--limit", "1000000", "--json"],
        );
    }

    /// In milliseconds; `status` may find something wrong and say so.
    fn asked(&self, arguments: &[&str]) -> f64 {
        let runs: Vec<f64> = (0..5)
            .map(|_| {
                let begun = std::time::Instant::now();
                let output = self.ground.duly(arguments).output().unwrap();
                assert!(matches!(output.status.code(), Some(0 | 3)), "{arguments:?} failed: {output:?}");
                begun.elapsed().as_secs_f64() * 1000.0
            })
            .collect();
        median(&runs)
    }

    /// With a thousand definitions, each with a schedule of its own.
    fn many_definitions(&self, report: &mut Report, with: &str) {
        let many: String = (0..1000)
            .map(|n| format!("  nightly{n}: {{command: ['true'], schedule: '{} 2 1 1 *'}}\n", n % 60))
            .collect();
        self.ground.write_jobs(&format!("  hello: {{command: ['true']}}\n{many}"));
        run(self.ground.duly(&["run"]));
        let (tick, jobs) = (self.asked(&["run"]), self.asked(&["jobs"]));
        report.note(format!(
            "With 1,000 definitions{with}: `duly run` {tick:.1} ms, `duly jobs` {jobs:.1} ms."
        ));
        self.ground.write_jobs(JOBS);
        run(self.ground.duly(&["run"]));
    }
}
