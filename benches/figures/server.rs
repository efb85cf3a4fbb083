//! A MariaDB on disk with each commit flushed, for this run only.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// A running server; it ends with the value.
pub(crate) struct Server {
    pub(crate) folder: PathBuf,
    pub(crate) port: u16,
    pub(crate) url: String,
    child: Child,
}

/// Its own options, beside the defaults.
const OPTIONS: [&str; 8] = [
    "--bind-address=127.0.0.1",
    "--skip-name-resolve",
    "--innodb-flush-log-at-trx-commit=1",
    "--innodb-buffer-pool-size=2G",
    "--innodb-log-file-size=1G",
    "--max-connections=500",
    "--performance-schema=OFF",
    "--character-set-server=utf8mb4",
];

impl Server {
    /// In a folder below `$DULY_BENCH_DIR`, else below the target folder.
    pub(crate) fn start() -> Self {
        let parent = std::env::var_os("DULY_BENCH_DIR")
            .map_or_else(|| PathBuf::from(env!("CARGO_TARGET_TMPDIR")), PathBuf::from);
        let folder = parent.join(format!("duly-bench-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let is_root = text("id", &["-u"]) == "0";
        let name = if is_root {
            if text("id", &["-u", "mysql"]).is_empty() { "nobody" } else { "mysql" }
        } else {
            ""
        };
        let me = text("id", &["-un"]);
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let path = format!("{}:/usr/sbin:/usr/libexec", std::env::var("PATH").unwrap_or_default());
        let data = folder.join("data");
        let mut install = Command::new("mariadb-install-db");
        install.env("PATH", &path).args([
            "--no-defaults",
            "--skip-test-db",
            "--force",
            "--auth-root-authentication-method=socket",
        ]);
        install.arg(format!("--datadir={}", data.display())).arg(format!("--auth-root-socket-user={me}"));
        if is_root {
            install.arg(format!("--user={name}"));
        }
        assert!(
            install.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success(),
            "mariadb-install-db failed"
        );
        let socket = format!("/tmp/duly-bench-{}.sock", std::process::id());
        let mut command = Command::new("mariadbd");
        command.env("PATH", &path).arg("--no-defaults").arg(format!("--datadir={}", data.display()));
        command.arg(format!("--socket={socket}")).arg(format!("--port={port}")).args(OPTIONS);
        command.arg(format!("--pid-file={}/pid", data.display()));
        if is_root {
            command.arg(format!("--user={name}"));
        }
        let log = fs::File::create(folder.join("log")).unwrap();
        let child = command.stdout(Stdio::null()).stderr(log).spawn().unwrap();
        let url = format!("mysql://bench:bench@127.0.0.1:{port}/bench");
        let server = Self { folder, port, url, child };
        let begun = Instant::now();
        while server.query("SELECT 1").is_empty() {
            assert!(
                begun.elapsed() < Duration::from_secs(60),
                "MariaDB does not start: see {}/log",
                server.folder.display()
            );
            std::thread::sleep(Duration::from_millis(100));
        }
        server.sql("CREATE DATABASE bench; CREATE USER bench@'%' IDENTIFIED BY 'bench'; GRANT ALL ON bench.* TO bench@'%'");
        server
    }

    /// The URL of a database beside the first one, which is made.
    pub(crate) fn other(&self, name: &str) -> String {
        self.sql(&format!("CREATE DATABASE {name}; GRANT ALL ON {name}.* TO bench@'%'"));
        format!("{}/{name}", self.url.rsplit_once('/').unwrap().0)
    }

    /// Takes all jobs out of a database.
    pub(crate) fn clear(&self, database: &str) {
        let tables = ["duly_attempt", "duly_output", "duly_dependency", "duly_job"];
        let truncate: String = tables.map(|table| format!("TRUNCATE {database}.{table};")).concat();
        self.sql(&format!("SET foreign_key_checks = 0; {truncate}"));
    }

    /// Executes statements as its administrator.
    pub(crate) fn sql(&self, statements: &str) {
        let status = self.client(statements).stdout(Stdio::null()).status().unwrap();
        assert!(status.success(), "{statements}");
    }

    fn query(&self, query: &str) -> String {
        let output = self.client(query).stderr(Stdio::null()).output().unwrap();
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    fn client(&self, statements: &str) -> Command {
        let mut command = Command::new("mariadb");
        command.args([
            "--no-defaults",
            "-BN",
            "--socket",
            &format!("/tmp/duly-bench-{}.sock", std::process::id()),
        ]);
        command.args(["--user", &text("id", &["-un"]), "-e", statements]);
        command
    }

    pub(crate) fn version(&self) -> String {
        self.query("SELECT VERSION()")
    }

    /// One of the server's counters.
    pub(crate) fn status(&self, name: &str) -> f64 {
        let text = self.query(&format!("SHOW GLOBAL STATUS LIKE '{name}'"));
        text.split_whitespace().last().and_then(|value| value.parse().ok()).unwrap_or(0.0)
    }

    /// How many rows a table has.
    pub(crate) fn rows(&self, table: &str) -> f64 {
        self.query(&format!("SELECT COUNT(*) FROM bench.{table}")).parse().unwrap_or(0.0)
    }

    pub(crate) fn deadlocks(&self) -> f64 {
        self.status("Innodb_deadlocks")
    }

    /// How many statements `work` executes.
    pub(crate) fn count_statements(&self, work: impl FnOnce()) -> f64 {
        let before = self.status("Questions");
        work();
        // Less the question itself.
        self.status("Questions") - before - 1.0
    }

    pub(crate) fn newest_ended(&self) -> String {
        self.query("SELECT id FROM bench.duly_job WHERE state = 'success' ORDER BY finished_at DESC LIMIT 1")
    }

    /// Puts jobs in: ended ones with an attempt each, delayed ones, and as many that wait each for a delayed one.
    pub(crate) fn fill(&self, ended: usize, ago: &str, delayed: usize, waiting: usize) {
        const CHUNK: usize = 200_000;
        for (count, is_ended) in [(ended, true), (delayed, false)] {
            for from in (0..count).step_by(CHUNK) {
                let to = (from + CHUNK).min(count);
                let (state, finished, run_at) = if is_ended {
                    (
                        "IF(seq % 20 = 0, 'failed', 'success')",
                        format!("UTC_TIMESTAMP(6) - INTERVAL {ago} - INTERVAL seq % 86400 SECOND"),
                        "UTC_TIMESTAMP(6) - INTERVAL 60 DAY".to_owned(),
                    )
                } else {
                    (
                        "'delayed'",
                        "NULL".to_owned(),
                        "UTC_TIMESTAMP(6) + INTERVAL 1 DAY + INTERVAL seq SECOND".to_owned(),
                    )
                };
                self.sql(&format!(
                    "USE bench; SET unique_checks = 0; SET @before = (SELECT COALESCE(MAX(id), 0) FROM duly_job); INSERT INTO duly_job (name, params, state, queue, priority, priority_order, run_at, attempts, \
                     max_attempts, fence, outcome, exit_code, duration_ms, started_at, finished_at, created_at) SELECT CONCAT('job', seq % 50), '[]', {state}, \
                     'default', 0, 0, {run_at}, 1, 10, 1, 'success', 0, 5, {finished}, {finished}, UTC_TIMESTAMP(6) - INTERVAL 60 DAY FROM seq_{}_to_{}; \
                     INSERT INTO duly_attempt (job_id, fence, attempt, host, finished_at, outcome) SELECT id, 1, 1, 'bench', finished_at, 'success' \
                     FROM duly_job WHERE id > @before AND finished_at IS NOT NULL",
                    from + 1,
                    to
                ));
            }
        }
        if waiting > 0 {
            self.sql(&format!(
                "USE bench; SET @before = (SELECT MAX(id) FROM duly_job); INSERT INTO duly_job (name, params, state, queue, priority, priority_order, run_at, \
                 attempts, max_attempts, created_at) SELECT CONCAT('job', seq % 50), '[]', 'waiting', 'default', 0, 0, UTC_TIMESTAMP(6), 0, 10, UTC_TIMESTAMP(6) \
                 FROM seq_1_to_{waiting}; INSERT INTO duly_dependency (job_id, prerequisite_id) SELECT id, id - {waiting} FROM duly_job WHERE id > @before"
            ));
        }
        self.sql("ANALYZE TABLE bench.duly_job");
    }

    /// In milliseconds, as looked at every 20 ms.
    pub(crate) fn longest_transaction_while(&self, work: impl FnOnce()) -> f64 {
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let watcher = scope.spawn(|| {
                let (mut longest, mut seen) = (0.0_f64, std::collections::HashMap::new());
                while !is_over.load(Ordering::Relaxed) {
                    for id in self
                        .query("SELECT CONCAT(trx_id, ' ', trx_started) FROM information_schema.innodb_trx WHERE trx_rows_modified > 0")
                        .lines()
                    {
                        let first = *seen.entry(id.to_owned()).or_insert_with(Instant::now);
                        longest = longest.max(first.elapsed().as_secs_f64() * 1000.0);
                    }
                    std::thread::sleep(Duration::from_millis(20));
                }
                longest
            });
            work();
            is_over.store(true, Ordering::Relaxed);
            watcher.join().unwrap()
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
        drop(fs::remove_dir_all(&self.folder));
        let prefix = format!("duly-bench-{}-", std::process::id());
        for entry in fs::read_dir("/dev/shm").into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with(&prefix) {
                drop(fs::remove_dir_all(entry.path()));
            }
        }
        drop(fs::remove_file(format!("/tmp/duly-bench-{}.sock", std::process::id())));
    }
}

fn text(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}
