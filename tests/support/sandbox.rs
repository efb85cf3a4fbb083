//! A folder with a `jobs.yaml` and a database, and `duly` run in it as a black box, as cron and people run it.
//!
//! A [`Run`] checks status, standard output and standard error every time: what a test does not name must be empty.
//! Whatever `duly` and its jobs left running is killed with the sandbox, found by the `HOME` that only they have.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{env, thread};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::{NamedTempFile, TempDir};

use super::{Backend, Database};

/// How long one run of `duly` may take unless [`Run::limit`] says otherwise.
const LIMIT: Duration = Duration::from_secs(60);

/// A folder, `jobs.yaml` in it, and a database with Duly's tables.
pub(crate) struct Sandbox {
    database: Arc<Database>,
    /// Where `duly` finds it from here.
    url: String,
    root: PathBuf,
    /// Removed last.
    _folder: TempDir,
}

impl Sandbox {
    /// With no jobs, and the tables there (`duly migrate` where SQLite would not do it by itself).
    #[track_caller]
    pub(crate) fn new(backend: Backend) -> Sandbox {
        let sandbox = Sandbox::without_tables(backend);
        if backend == Backend::MariaDb {
            let output = sandbox.duly(["migrate"]).output();
            assert!(output.status.success(), "`duly migrate` failed:\n{output}");
        }
        sandbox
    }

    /// With no jobs and an empty database.
    pub(crate) fn without_tables(backend: Backend) -> Sandbox {
        match backend {
            Backend::Sqlite => Sandbox::with(|root| Arc::new(Database::in_file(&root.join("jobs.db")))),
            Backend::MariaDb => Sandbox::on(Database::create(backend)),
        }
    }

    /// With no jobs, on a database of the caller's choice, for one on a server that is going to be taken away.
    pub(crate) fn on(database: Database) -> Sandbox {
        Sandbox::with(|_| Arc::new(database))
    }

    /// A second one with no jobs on the same database: with other files, other host slots, another `jobs.yaml`.
    pub(crate) fn beside(&self) -> Sandbox {
        Sandbox::with(|_| Arc::clone(&self.database))
    }

    fn with(database: impl FnOnce(&Path) -> Arc<Database>) -> Sandbox {
        let (root, folder) = private_folder();
        let database = database(&root);
        let sandbox = Sandbox { url: database.next_url(), database, root, _folder: folder };
        sandbox.set_jobs("jobs: {}");
        sandbox
    }

    /// Writes `jobs.yaml`; see [`Sandbox::set_jobs`].
    #[must_use]
    pub(crate) fn jobs(self, text: &str) -> Sandbox {
        self.set_jobs(text);
        self
    }

    /// Writes `jobs.yaml` with `database:` and `runner: {state_dir: …}` after the text, each unless it is in the text.
    /// They come after it so that the line numbers of a complaint are those of the text.
    pub(crate) fn set_jobs(&self, text: &str) {
        let mut whole = format!("{}\n", text.trim_end());
        let has = |key: &str| text.lines().any(|line| line.starts_with(key));
        if !has("database:") {
            whole.push_str(&format!("database: \"{}\"\n", self.url));
        }
        if !has("runner:") {
            whole.push_str(&format!("runner: {{state_dir: {}}}\n", self.state_dir().display()));
        }
        let path = self.path("jobs.yaml");
        fs::write(&path, whole).expect("writing jobs.yaml");
        // Duly trusts a file that others can write only where it does not run as root.
        fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("setting the mode of jobs.yaml");
    }

    /// Writes a file, executable, with its folders; gives its path.
    pub(crate) fn file(&self, path: &str, content: &str) -> PathBuf {
        let path = self.path(path);
        fs::create_dir_all(path.parent().expect("a file in the sandbox")).expect("creating a folder");
        fs::write(&path, content).unwrap_or_else(|err| panic!("writing {}: {err}", path.display()));
        fs::set_permissions(&path, Permissions::from_mode(0o755)).expect("making it executable");
        path
    }

    /// What is in a file; empty if there is none.
    pub(crate) fn read(&self, path: &str) -> String {
        fs::read(self.path(path))
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    /// A path in the sandbox, whether or not something is there.
    pub(crate) fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        self.root.join(path)
    }

    /// Where runners of this sandbox keep host slots and output under way. It is also what Duly falls back to when a
    /// `runner:` of the test's own names none, by `XDG_RUNTIME_DIR`.
    pub(crate) fn state_dir(&self) -> PathBuf {
        self.path("run/duly")
    }

    /// The database, for arranging and checking behind `duly`'s back.
    pub(crate) fn database(&self) -> &Database {
        &self.database
    }

    /// `duly` with arguments, not yet started.
    pub(crate) fn duly<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Run<'_> {
        let mut command = Command::new(program());
        command.args(arguments).current_dir(&self.root).env_clear();
        command.env("PATH", env::var_os("PATH").unwrap_or_default()).env("HOME", &self.root);
        command.env("XDG_RUNTIME_DIR", self.path("run"));
        Run {
            sandbox: self,
            command,
            stdin: String::new(),
            limit: LIMIT,
            stdout: Vec::new(),
            stderr: Vec::new(),
        }
    }

    /// What a command answers in JSON; it must succeed and say nothing on standard error.
    #[track_caller]
    pub(crate) fn json<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> serde_json::Value {
        let run = self.duly(arguments);
        let line = run.line();
        let output = run.output();
        assert!(output.status.success() && output.stderr.is_empty(), "`{line}` went wrong:\n{output}");
        serde_json::from_str(&output.stdout)
            .unwrap_or_else(|err| panic!("`{line}` gave no JSON ({err}):\n{output}"))
    }

    /// The processes that `duly` started here and that are still there: itself, jobs, and what jobs left behind.
    pub(crate) fn processes(&self) -> Vec<Pid> {
        let home = [b"HOME=", self.root.as_os_str().as_encoded_bytes()].concat();
        let entries = fs::read_dir("/proc").expect("reading /proc");
        let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        pids.filter(|pid| {
            let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environment.split(|byte| *byte == 0).any(|variable| variable == home)
        })
        .filter_map(Pid::from_raw)
        .collect()
    }
}

impl From<Backend> for Sandbox {
    #[track_caller]
    fn from(backend: Backend) -> Sandbox {
        Sandbox::new(backend)
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        for pid in self.processes() {
            // One that has ended by itself meanwhile is as good as killed.
            kill_process(pid, Signal::KILL).unwrap_or_default();
        }
    }
}

/// A run of `duly` being put together; [`Run::status`], [`Run::output`] or [`Run::spawn`] starts it.
#[must_use = "a run starts with `.status(…)`, `.output()` or `.spawn()`"]
pub(crate) struct Run<'a> {
    sandbox: &'a Sandbox,
    command: Command,
    stdin: String,
    limit: Duration,
    stdout: Vec<Expected>,
    stderr: Vec<Expected>,
}

/// What a stream has to be like.
enum Expected {
    Exactly(String),
    With(String),
}

impl Run<'_> {
    /// Sets a variable of the environment, which else has only PATH, HOME and XDG_RUNTIME_DIR.
    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Runs it as the arguments of another command.
    pub(crate) fn under(mut self, words: &[&str]) -> Self {
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).arg(self.command.get_program()).args(self.command.get_args()).env_clear();
        command.envs(self.command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.current_dir(&self.sandbox.root);
        self.command = command;
        self
    }

    /// What standard input gives; else nothing.
    pub(crate) fn stdin(mut self, text: &str) -> Self {
        text.clone_into(&mut self.stdin);
        self
    }

    /// How long it may take, in place of a minute.
    pub(crate) fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// The whole of standard output.
    pub(crate) fn stdout(mut self, text: &str) -> Self {
        self.stdout.push(Expected::Exactly(without_root(text, &self.sandbox.root)));
        self
    }

    /// The whole of standard error.
    pub(crate) fn stderr(mut self, text: &str) -> Self {
        self.stderr.push(Expected::Exactly(without_root(text, &self.sandbox.root)));
        self
    }

    /// A part of standard output.
    pub(crate) fn stdout_has(mut self, text: &str) -> Self {
        self.stdout.push(Expected::With(without_root(text, &self.sandbox.root)));
        self
    }

    /// A part of standard error.
    pub(crate) fn stderr_has(mut self, text: &str) -> Self {
        self.stderr.push(Expected::With(without_root(text, &self.sandbox.root)));
        self
    }

    /// Runs it and checks everything: the exit code, and both streams, which must be empty where nothing was said of them.
    /// Gives the output for a closer look.
    #[track_caller]
    pub(crate) fn status(mut self, code: i32) -> Output {
        let (stdout, stderr) = (std::mem::take(&mut self.stdout), std::mem::take(&mut self.stderr));
        let line = self.line();
        let output = self.output();
        let mut wrong = Vec::new();
        if output.status.code() != Some(code) {
            wrong.push(format!("expected the exit code {code}"));
        }
        for (name, expected, got) in [("output", stdout, &output.stdout), ("error", stderr, &output.stderr)] {
            if expected.is_empty() && !got.is_empty() {
                wrong.push(format!("expected nothing on standard {name}"));
            }
            wrong.extend(expected.into_iter().filter_map(|expected| expected.missed_by(got, name)));
        }
        assert!(wrong.is_empty(), "`{line}`: {}\ngot:\n{output}", wrong.join("\nand "));
        output
    }

    /// Runs it and gives what came, unchecked.
    #[track_caller]
    pub(crate) fn output(self) -> Output {
        let limit = self.limit;
        self.spawn().wait_for(limit)
    }

    /// Starts it and lets it run.
    #[track_caller]
    pub(crate) fn spawn(mut self) -> Running {
        let line = self.line();
        // Files, not pipes: what a job's grandchild holds open then holds up no test.
        let [input, stdout, stderr] = [(); 3].map(|()| NamedTempFile::new().expect("creating a file"));
        fs::write(input.path(), &self.stdin).expect("writing standard input");
        self.command.stdin(reopen(&input)).stdout(reopen(&stdout)).stderr(reopen(&stderr));
        let child = self.command.spawn().unwrap_or_else(|err| panic!("starting `{line}`: {err}"));
        Running { line, root: self.sandbox.root.clone(), child, ended: None, stdout, stderr }
    }

    /// The command line, for messages.
    fn line(&self) -> String {
        let arguments = self.command.get_args().map(|argument| argument.to_string_lossy().into_owned());
        shell_words::join([String::from("duly")].into_iter().chain(arguments))
    }
}

impl Expected {
    /// Says what was expected if `got` is not so.
    fn missed_by(self, got: &str, name: &str) -> Option<String> {
        match self {
            Expected::Exactly(text) if got != text => {
                Some(format!("expected on standard {name}:\n{}", indented(&text)))
            }
            Expected::With(text) if !got.contains(&text) => {
                Some(format!("expected in standard {name}: {text}"))
            }
            Expected::Exactly(_) | Expected::With(_) => None,
        }
    }
}

/// A `duly` that runs. Killed and reaped, if it has not ended, when the value goes.
#[must_use = "a running `duly` is killed when this goes"]
pub(crate) struct Running {
    line: String,
    root: PathBuf,
    child: Child,
    ended: Option<ExitStatus>,
    stdout: NamedTempFile,
    stderr: NamedTempFile,
}

impl Running {
    /// Its process.
    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Sends it a signal; not to its jobs.
    #[track_caller]
    pub(crate) fn signal(&self, signal: Signal) {
        assert!(self.ended.is_none(), "`{}` has ended already", self.line);
        kill_process(self.pid(), signal).expect("sending a signal");
    }

    /// Sends it a signal, unless it has ended.
    pub(crate) fn signal_if_running(&mut self, signal: Signal) {
        if !self.has_ended() {
            // Not reaped, so the process is still ours; it may be ending by itself.
            kill_process(self.pid(), signal).unwrap_or_default();
        }
    }

    /// Sends it a last signal, unless it has ended, and waits for its end.
    #[track_caller]
    pub(crate) fn signal_if_alive(mut self, signal: Signal) {
        self.signal_if_running(signal);
        self.wait();
    }

    /// Whether it has ended.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.ended = self.ended.or_else(|| self.child.try_wait().expect("waiting for a child"));
        self.ended.is_some()
    }

    /// What it has written to standard output so far.
    pub(crate) fn stdout_so_far(&self) -> String {
        text_of(&self.stdout, &self.root)
    }

    /// What it has written to standard error so far.
    pub(crate) fn stderr_so_far(&self) -> String {
        text_of(&self.stderr, &self.root)
    }

    /// Waits for its end, a minute at most.
    #[track_caller]
    pub(crate) fn wait(self) -> Output {
        self.wait_for(LIMIT)
    }

    /// Waits for its end, up to `limit`.
    #[track_caller]
    pub(crate) fn wait_for(mut self, limit: Duration) -> Output {
        let started = Instant::now();
        while !self.has_ended() && started.elapsed() < limit {
            thread::sleep(Duration::from_millis(2));
        }
        let (stdout, stderr) = (self.stdout_so_far(), self.stderr_so_far());
        let Some(status) = self.ended else {
            panic!("`{}` did not end within {limit:?}; so far:\n{}", self.line, streams(&stdout, &stderr));
        };
        Output { status, stdout, stderr }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.has_ended() {
            // It is ours and not reaped, so both work, but a destructor is no place to insist.
            drop(self.child.kill());
            drop(self.child.wait());
        }
    }
}

/// The `duly` that is tested: the one built along with the tests, or `DULY_TEST_PROGRAM`.
pub(crate) fn program() -> OsString {
    env::var_os("DULY_TEST_PROGRAM").unwrap_or_else(|| env!("CARGO_BIN_EXE_duly").into())
}

/// How a run ended and what it wrote, with the sandbox's folder written as `[sandbox]`.
pub(crate) struct Output {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl std::fmt::Display for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.status.code(), self.status.signal()) {
            (Some(code), _) => writeln!(f, "  exit code: {code}")?,
            (None, signal) => writeln!(f, "  killed by signal {}", signal.unwrap_or_default())?,
        }
        f.write_str(&streams(&self.stdout, &self.stderr))
    }
}

/// Both streams, for a message.
fn streams(stdout: &str, stderr: &str) -> String {
    format!("  standard output:\n{}\n  standard error:\n{}", indented(stdout), indented(stderr))
}

/// A text moved to the right.
fn indented(text: &str) -> String {
    let lines: Vec<String> = text.lines().map(|line| format!("    | {line}")).collect();
    if lines.is_empty() { "    (nothing)".to_owned() } else { lines.join("\n") }
}

/// What is in a file of captured output.
fn text_of(file: &NamedTempFile, root: &Path) -> String {
    let bytes = fs::read(file.path()).expect("reading captured output");
    without_root(&String::from_utf8_lossy(&bytes), root)
}

/// A text with the sandbox's folder, which is another each time, written as `[sandbox]`.
fn without_root(text: &str, root: &Path) -> String {
    text.replace(root.to_str().expect("a UTF-8 path"), "[sandbox]")
}

/// A handle of its own on a file, with a position of its own.
fn reopen(file: &NamedTempFile) -> Stdio {
    File::options().read(true).append(true).open(file.path()).expect("opening a temporary file").into()
}

/// A new folder that only its owner can enter, removed with the value unless `DULY_TEST_KEEP` is set.
pub(super) fn private_folder() -> (PathBuf, TempDir) {
    let mut folder = tempfile::Builder::new()
        .prefix("duly-test-")
        .permissions(Permissions::from_mode(0o700))
        .tempdir()
        .expect("creating a temporary folder");
    folder.disable_cleanup(env::var_os("DULY_TEST_KEEP").is_some());
    let root = folder.path().canonicalize().expect("the folder just made");
    let run = root.join("run");
    fs::create_dir(&run)
        .and_then(|()| fs::set_permissions(&run, Permissions::from_mode(0o700)))
        .expect("creating run/");
    (root, folder)
}
