//! Others that run commands, two at once, each installed as a package: the drain and, where they have one, the idle tick.

use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::report::{Figure, Report};
use super::{Bench, root, run, timed};

type Drain<'a> = Box<dyn Fn() -> Duration + 'a>;

/// Another program, and how long it takes for so many jobs.
struct Peer<'a> {
    name: &'static str,
    drain: Drain<'a>,
    rates: Vec<f64>,
}

impl<'a> Peer<'a> {
    fn new(name: &'static str, drain: Drain<'a>) -> Self {
        Self { name, drain, rates: Vec::new() }
    }
}

impl Bench {
    /// Beside each peer that is installed, in turn.
    pub(crate) fn peers(&self, report: &mut Report) {
        let jobs = self.scale.jobs / 4;
        let mut peers = self.installed_peers(jobs);
        let mut ours = Vec::new();
        for _ in 0..3 {
            self.ground.put_in(jobs);
            ours.push(
                jobs as f64 / timed(&mut self.ground.duly(&["run", "--concurrency", "2"])).as_secs_f64(),
            );
            for peer in &mut peers {
                peer.rates.push(jobs as f64 / (peer.drain)().as_secs_f64());
            }
        }
        let what = format!("peers: draining {jobs} × `true`, two at once");
        for peer in &peers {
            report.add(Figure::rate(&what, peer.name, &ours, &peer.rates, "–"));
        }
        if peers.iter().any(|peer| peer.name.starts_with("delayed_job")) {
            let mut tick = || timed(&mut self.ground.duly(&["run"]));
            let mut theirs = || timed(&mut self.delayed_job(&["work"]));
            let [tick, theirs] = Self::in_turn(self.scale.ticks / 30, [&mut tick, &mut theirs]);
            let reference = "delayed_job with --exit-on-complete";
            report.add(Figure::time("peers: a tick with nothing due", reference, &tick, &theirs, "–"));
        }
        if peers.len() < 3 {
            report.note(format!("Of three peers {} were installed.", peers.len()));
        }
    }

    fn installed_peers(&self, jobs: usize) -> Vec<Peer<'_>> {
        let mut peers = Vec::new();
        if is_there("parallel", &["--version"]) {
            peers.push(Peer::new("GNU parallel -j2 with a job log", Box::new(move || self.parallel(jobs))));
        }
        if is_there("tsp", &["-V"]) {
            let name = "task-spooler, two slots, outputs kept";
            peers.push(Peer::new(name, Box::new(move || self.task_spooler(jobs))));
        }
        if is_there("ruby", &["-e", "require 'mysql2'; require 'delayed_job_active_record'"]) {
            let name = "delayed_job, two workers, on the same MariaDB";
            peers.push(Peer::new(name, Box::new(move || self.two_workers(jobs))));
        }
        peers
    }

    fn parallel(&self, jobs: usize) -> Duration {
        let (list, log) = (self.ground.folder.join("peers"), self.ground.folder.join("joblog"));
        fs::write(&list, (0..jobs).map(|n| format!("{n}\n")).collect::<String>()).unwrap();
        drop(fs::remove_file(&log));
        let mut command = Command::new("parallel");
        command.args(["--will-cite", "-j2", "--joblog"]).arg(&log).arg("-a").arg(&list).args(["true", "{}"]);
        timed(&mut command)
    }

    fn two_workers(&self, jobs: usize) -> Duration {
        run(self.delayed_job(&["put", &jobs.to_string()]));
        let begun = Instant::now();
        let mut workers = [(); 2].map(|()| self.delayed_job(&["work"]).spawn().unwrap());
        for worker in &mut workers {
            assert!(worker.wait().unwrap().success(), "delayed_job failed");
        }
        begun.elapsed()
    }

    fn delayed_job(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("ruby");
        command.arg("-W0").arg(root().join("benches/figures/delayed_job.rb")).args(arguments);
        command.env("PORT", self.server.port.to_string()).stdin(Stdio::null()).stdout(Stdio::null());
        command
    }

    /// A server of its own, whose outputs go to files as ours go to the database.
    fn task_spooler(&self, jobs: usize) -> Duration {
        let socket = self.ground.folder.join("tsp");
        let tsp = |arguments: &[&str]| {
            let mut command = Command::new("tsp");
            command
                .args(arguments)
                .env("TS_SOCKET", &socket)
                .env("TS_MAXFINISHED", "5")
                .env("TMPDIR", &self.ground.folder);
            run(command);
        };
        tsp(&["-S", "2"]);
        let begun = Instant::now();
        for _ in 0..jobs {
            tsp(&["true"]);
        }
        tsp(&["-w"]);
        let taken = begun.elapsed();
        tsp(&["-K"]);
        taken
    }
}

fn is_there(program: &str, arguments: &[&str]) -> bool {
    Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}
