//! How fast it is: each figure beside its reference, measured in turn in one run, as a ratio.
//!
//! `make bench` runs all of it and writes `BENCHMARKS.md`; `make bench-quick` is the same with less of everything and writes
//! nothing. `cargo bench --bench figures -- claims` runs one part. A MariaDB of its own is started on disk, each commit flushed, and gone at the end. Nothing in here fails for
//! being slow on a busy machine.
#![expect(clippy::unwrap_used, reason = "a benchmark that cannot go on has nothing to say")]
#![expect(clippy::disallowed_methods, reason = "benchmarks start programs and read the environment")]
#![expect(clippy::print_stdout, reason = "its answer")]
#![expect(clippy::cast_precision_loss, reason = "figures for people")]

mod chart;
mod claims;
mod engines;
mod ground;
mod growth;
mod memory;
mod peers;
mod report;
mod runners;
mod server;
mod web;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use chart::Chart;
use ground::Ground;
use report::{Figure, Report};
use server::Server;

/// How much of everything.
#[derive(Clone, Copy)]
struct Scale {
    is_quick: bool,
    ticks: usize,
    drains: usize,
    jobs: usize,
    claimed: usize,
    batch: usize,
    cleaned: usize,
    ended: &'static [usize],
    delayed: usize,
    waiting: usize,
}

const WHOLE: Scale = Scale {
    is_quick: false,
    ticks: 300,
    drains: 7,
    jobs: 2000,
    claimed: 30_000,
    batch: 100_000,
    cleaned: 1_000_000,
    ended: &[1_000_000, 5_000_000, 10_000_000],
    delayed: 1_000_000,
    waiting: 100_000,
};

const QUICK: Scale = Scale {
    is_quick: true,
    ticks: 60,
    drains: 3,
    jobs: 1000,
    claimed: 8000,
    batch: 30_000,
    cleaned: 50_000,
    ended: &[200_000],
    delayed: 50_000,
    waiting: 5000,
};

/// A part, by the name that asks for it alone.
type Part = (&'static str, fn(&Bench, &mut Report));

const PARTS: [Part; 12] = [
    ("idle", Bench::idle),
    ("schedules", Bench::schedules),
    ("drain", Bench::drain),
    ("claims", Bench::claims),
    ("runners", Bench::runners),
    ("engines", Bench::engines),
    ("peers", Bench::peers),
    ("memory", Bench::memory),
    ("batch", Bench::batch),
    ("clean-up", Bench::clean_up),
    ("grown", Bench::growth),
    ("web", Bench::web),
];

fn main() {
    let scale = if std::env::args().any(|argument| argument == "--quick") { QUICK } else { WHOLE };
    let bench = Bench::new(scale);
    let mut report = Report::default();
    println!(
        "A MariaDB of its own is at {}; this takes {}.",
        bench.server.port,
        if scale.is_quick { "some minutes" } else { "half an hour" }
    );
    let wanted: Vec<String> =
        std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let is_wanted = |name: &str| wanted.is_empty() || wanted.iter().any(|wanted| wanted == name);
    for (name, work) in PARTS {
        if is_wanted(name) {
            work(&bench, &mut report);
        }
    }
    println!("\n{}", report.text());
    if !scale.is_quick && wanted.is_empty() {
        report.write(&bench.server.version());
    }
}

/// A server, a database on it, and what connects to it and asks for nothing.
struct Bench {
    scale: Scale,
    server: Server,
    ground: Ground,
    connect: PathBuf,
}

/// The definitions that most parts go by.
const JOBS: &str = "  hello: {command: ['true']}\n  nightly: {command: ['true'], schedule: '0 2 * * *'}\n";

impl Bench {
    fn new(scale: Scale) -> Self {
        let server = Server::start();
        let ground = Ground::new(server.folder.join("work"), &server.url, JOBS);
        let connect = build_reference(&server);
        Self { scale, server, ground, connect }
    }

    /// Medians of `count` runs of each, in turn.
    fn in_turn<const N: usize>(count: usize, mut runs: [&mut dyn FnMut() -> Duration; N]) -> [Vec<f64>; N] {
        let mut taken = [(); N].map(|()| Vec::new());
        for round in 0..count + 2 {
            for (run, taken) in runs.iter_mut().zip(&mut taken) {
                let length = run();
                // The first two are for warming up.
                if round >= 2 {
                    taken.push(length.as_secs_f64());
                }
            }
        }
        taken
    }

    fn idle(&self, report: &mut Report) {
        let mut reference = || timed(&mut Command::new(&self.connect));
        let mut tick = || timed(&mut self.ground.duly(&["run"]));
        let [reference, tick] = Self::in_turn(self.scale.ticks, [&mut reference, &mut tick]);
        report.add(Figure::time(
            "a tick with nothing due",
            "connect and SELECT 1, in C",
            &tick,
            &reference,
            "≤ 1.0",
        ));
        if let Some(peak) = peak_memory(&mut self.ground.duly(&["run"])) {
            report.note(format!(
                "Peak memory of a tick with nothing due: {:.1} MiB (the target is 16 MiB).",
                peak / 1024.0
            ));
        }
        let statements = self.server.count_statements(|| run(self.ground.duly(&["run"])));
        report.note(format!("Statements of a tick with nothing due: {statements}."));
    }

    fn schedules(&self, report: &mut Report) {
        let few = "  nightly: {command: ['true'], schedule: '0 2 1 1 *'}\n".to_owned();
        let many: String = (0..1000)
            .map(|n| format!("  nightly{n}: {{command: ['true'], schedule: '{} 2 1 1 *'}}\n", n % 60))
            .collect();
        self.ground.write_jobs(&many);
        run(self.ground.duly(&["run"]));
        // Another folder, so that neither tick sees the other's schedules as new: each has a host's digest of its own.
        let other = Ground::new(self.ground.folder.join("few"), &self.server.url, &few);
        let mut count = Vec::new();
        let mut reference = Vec::new();
        for _ in 0..3 {
            // A changed digest is written by the first tick after the change; the ones after that are measured.
            run(self.ground.duly(&["run"]));
            count.extend(
                (0..self.scale.ticks / 6).map(|_| timed(&mut self.ground.duly(&["run"])).as_secs_f64()),
            );
            run(other.duly(&["run"]));
            reference
                .extend((0..self.scale.ticks / 6).map(|_| timed(&mut other.duly(&["run"])).as_secs_f64()));
        }
        report.add(Figure::time(
            "a tick with 1,000 schedules, none due",
            "the same with one",
            &count,
            &reference,
            "≤ 3",
        ));
        self.ground.write_jobs(JOBS);
        run(self.ground.duly(&["run"]));
    }

    fn drain(&self, report: &mut Report) {
        let list: String = (0..self.scale.jobs).map(|n| format!("{n}\n")).collect();
        let path = self.ground.folder.join("list");
        fs::write(&path, list).unwrap();
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..self.scale.drains {
            ours.push(self.ground.drained(self.scale.jobs));
            let mut xargs = Command::new("xargs");
            xargs.args(["-a", path.to_str().unwrap(), "-P2", "-n1", "true"]);
            theirs.push(self.scale.jobs as f64 / timed(&mut xargs).as_secs_f64());
        }
        report.add(Figure::rate(
            &format!("draining {} × `true`, two at once", self.scale.jobs),
            "xargs -P2 -n1 true, which records nothing",
            &ours,
            &theirs,
            "≥ 0.85",
        ));
    }

    fn claims(&self, report: &mut Report) {
        let claimers: &[usize] = if self.scale.is_quick { &[4, 32] } else { &[1, 4, 8, 16, 32, 64] };
        let before = self.server.deadlocks();
        let mut rates: Vec<(usize, Vec<f64>)> = claimers.iter().map(|count| (*count, Vec::new())).collect();
        for _ in 0..3 {
            for (count, rates) in &mut rates {
                rates.push(self.ground.claimed(*count, self.scale.claimed));
            }
        }
        let medians: Vec<(usize, f64)> =
            rates.iter().map(|(count, rates)| (*count, report::median(rates))).collect();
        let rate_of = |wanted| medians.iter().find(|(count, _)| *count == wanted).map(|(_, rate)| *rate);
        report.add(Figure::absolute(
            "claim and finish without processes, 32 claimers",
            "dj_queue on MariaDB, 787/s as published",
            rate_of(32).unwrap(),
            787.0,
            "≥ 3,000/s",
        ));
        if let Some(at_16) = rate_of(16) {
            let best = medians.iter().map(|(_, rate)| *rate).fold(0.0, f64::max);
            report.add(Figure::absolute(
                "claim and finish, 16 claimers",
                &format!("the best of 1 to 64: {best:.0}/s"),
                at_16,
                best,
                "≥ 0.9",
            ));
        }
        report.charts.push(Chart {
            file: "claims.svg",
            title: "Jobs claimed and finished a second, by the number of claimers",
            over: "claimers, each with a connection of its own",
            bars: medians.iter().map(|(count, rate)| (count.to_string(), *rate)).collect(),
        });
        report.note(format!(
            "Deadlocks that InnoDB counted while {} jobs were claimed and finished: {}; none reached a claimer.",
            self.scale.claimed * claimers.len() * 3,
            self.server.deadlocks() - before
        ));
    }

    fn batch(&self, report: &mut Report) {
        let mut rates = Vec::new();
        for _ in 0..3 {
            let lines = "{\"name\": \"hello\", \"params\": [\"a\"]}\n".repeat(self.scale.batch);
            let path = self.ground.folder.join("batch");
            fs::write(&path, lines).unwrap();
            let taken = timed(&mut self.ground.duly(&["enqueue", "--batch", path.to_str().unwrap()]));
            rates.push(self.scale.batch as f64 / taken.as_secs_f64());
            self.server.sql("DELETE FROM bench.duly_job WHERE state = 'pending'");
        }
        report.add(Figure::absolute(
            "enqueue --batch",
            "dj_queue on MariaDB, 7,332/s as published",
            report::median(&rates),
            7332.0,
            "≥ 30,000/s",
        ));
    }

    fn clean_up(&self, report: &mut Report) {
        self.server.fill(self.scale.cleaned, "40 DAY", 0, 0);
        let rows = || self.server.rows("duly_job") + self.server.rows("duly_attempt");
        let before = rows();
        let longest = self.server.longest_transaction_while(|| {
            let taken = timed(&mut self.ground.duly(&["clean-up"]));
            let rate = (before - rows()) / taken.as_secs_f64();
            report.add(Figure::absolute(
                &format!("clean-up of {} jobs (rows a second)", self.scale.cleaned),
                "the target itself",
                rate,
                20_000.0,
                "≥ 20,000/s",
            ));
        });
        report.note(format!("Longest time over which one transaction of clean-up was seen, at looks some 30 ms apart: {longest:.0} ms (the target is 250 ms)."));
    }
}

/// How long a program runs, as a whole process.
fn timed(command: &mut Command) -> Duration {
    let begun = Instant::now();
    let status =
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::inherit()).status().unwrap();
    let taken = begun.elapsed();
    assert!(status.success(), "{command:?} failed");
    taken
}

fn run(mut command: Command) {
    timed(&mut command);
}

/// In KiB, where GNU time is installed.
fn peak_memory(command: &mut Command) -> Option<f64> {
    let mut time = Command::new("/usr/bin/time");
    time.args(["-f", "%M"]).arg(command.get_program()).args(command.get_args());
    let output = time.current_dir(command.get_current_dir()?).stdout(Stdio::null()).output().ok()?;
    String::from_utf8_lossy(&output.stderr).trim().lines().last()?.parse().ok()
}

/// A C program that connects with the same client library and selects 1: with the system's shared libraries, or linked as
/// this program is.
fn build_reference(server: &Server) -> PathBuf {
    let (source, program) = (server.folder.join("connect.c"), server.folder.join("connect"));
    let code = format!(
        "#include <mysql.h>\nint main(void) {{\n  MYSQL *db = mysql_init(0);\n  if (!mysql_real_connect(db, \"127.0.0.1\", \"bench\", \"bench\", \
         \"bench\", {}, 0, 0)) return 1;\n  if (mysql_query(db, \"SELECT 1\")) return 1;\n  MYSQL_RES *rows = mysql_store_result(db);\n  \
         if (!rows || mysql_num_rows(rows) != 1) return 1;\n  mysql_free_result(rows);\n  mysql_close(db);\n  return 0;\n}}\n",
        server.port
    );
    fs::write(&source, code).unwrap();
    let flags = |library: &str| {
        let output = Command::new("pkg-config").args(["--cflags", "--libs", library]).output().unwrap();
        output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
    };
    let flags = flags("libmariadb").or_else(|| flags("mysqlclient")).unwrap();
    let mut cc = Command::new("cc");
    cc.arg("-O2").arg(&source).arg("-o").arg(&program).args(flags.split_whitespace());
    run(cc);
    program
}

/// Where the project is.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
