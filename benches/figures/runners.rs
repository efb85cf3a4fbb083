//! Many runners at once, each a process with a state folder of its own, as on so many hosts.

use std::process::{Child, Stdio};
use std::time::Instant;

use super::Bench;
use super::chart::Chart;
use super::ground::Ground;
use super::report::{Figure, Report, median};

impl Bench {
    /// How fast 1, 4, 16 and 64 of them drain, and what the server and they say of locks.
    pub(crate) fn runners(&self, report: &mut Report) {
        let mut rates: Vec<(usize, Vec<f64>)> = [1, 4, 16, 64].map(|count| (count, Vec::new())).into();
        let (deadlocks, waits) = (self.server.deadlocks(), self.server.status("Innodb_row_lock_waits"));
        let mut complaints = 0;
        for _ in 0..3 {
            for (count, rates) in &mut rates {
                let jobs = self.scale.jobs * 2;
                self.ground.put_in(jobs);
                let begun = Instant::now();
                let runners: Vec<Child> = (0..*count).map(|number| self.runner(number)).collect();
                for runner in runners {
                    let output = runner.wait_with_output().unwrap();
                    let text = String::from_utf8_lossy(&output.stderr).into_owned();
                    assert!(output.status.success(), "a runner failed: {text}");
                    complaints += text.lines().count();
                }
                rates.push(jobs as f64 / begun.elapsed().as_secs_f64());
            }
        }
        let best = rates.iter().map(|(_, rates)| median(rates)).fold(0.0, f64::max);
        for (count, rates) in &rates {
            let target = if *count == 16 { "≥ 0.9" } else { "–" };
            report.add(Figure::rate(
                &format!("runners of two slots each, as processes, draining `true`: {count}"),
                "the best of 1, 4, 16 and 64",
                rates,
                &[best],
                target,
            ));
        }
        report.charts.push(Chart {
            file: "runners.svg",
            title: "Jobs drained a second, by the number of runners",
            over: "runners of two slots each, as processes",
            bars: rates.iter().map(|(count, rates)| (count.to_string(), median(rates))).collect(),
        });
        report.note(format!(
            "While 1, 4, 16 and 64 runners drained: {} deadlocks and {} waits for a row counted by InnoDB, {complaints} lines on standard error.",
            self.server.deadlocks() - deadlocks,
            self.server.status("Innodb_row_lock_waits") - waits
        ));
    }

    fn runner(&self, number: usize) -> Child {
        let folder = self.ground.folder.join(format!("host{number}"));
        let host = Ground { folder, url: self.server.url.clone() };
        host.write_jobs("  hello: {command: ['true']}\n");
        let mut command = host.duly(&["run"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
    }
}
