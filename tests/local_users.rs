//! What another user of the same machine can do: not read what jobs print, not put files of theirs in place of Duly's, not
//! hold it up. As root, the tests act as such a user; else they look at owners and modes.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{CWD, FileType, Mode, mknodat};

use crate::support::{Backend, Sandbox, as_stranger, wait_until};

const SECRET: &str = "what-nobody-else-may-read";
const SOON: Duration = Duration::from_secs(30);

/// With a folder that everybody can write in, as /tmp is, for the state folder.
fn sandbox() -> (Sandbox, PathBuf) {
    let s = Sandbox::new(Backend::Sqlite);
    let public = s.path("tmp");
    fs::create_dir(&public).unwrap();
    fs::set_permissions(&public, Permissions::from_mode(0o1777)).unwrap();
    fs::set_permissions(s.path("."), Permissions::from_mode(0o755)).unwrap();
    let state = public.join("duly");
    s.set_jobs(&format!(
        "jobs:\n  tell: {{command: [sh, -c, 'echo {SECRET}; until [ -e go ]; do sleep 0.05; done']}}\n  ok: {{command: [\"true\"]}}\n\
         runner: {{concurrency: 1, state_dir: {}}}\n",
        state.display()
    ));
    (s, state)
}

/// All that is below a folder.
fn below(folder: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().unwrap().is_dir() {
            all.extend(below(&entry.path()));
        }
        all.push(entry.path());
    }
    all
}

/// Seen failing with the state folder made with mode 0755 and its files with 0644, and without `make_private` in
/// `src/db/sqlite.rs`.
#[test]
fn nothing_of_a_job_can_be_read_by_another_user_of_the_machine() {
    let (s, state) = sandbox();
    s.duly(["enqueue", "tell"]).stdout("1\n").status(0);
    let run = s.duly(["run"]).spawn();
    wait_until("its output is there", SOON, || {
        below(&state).iter().any(|path| fs::read(path).unwrap_or_default().starts_with(SECRET.as_bytes()))
    });
    wait_until("its output is copied", SOON, || {
        s.database().value("SELECT COUNT(*) FROM duly_output") == "1"
    });
    let script = format!(
        "cat {0}/* {0}/*/* {1}/jobs.db* 2>/dev/null; find {0} {1}",
        state.display(),
        s.path(".").display()
    );
    if let Some(output) = as_stranger(&script) {
        let found = String::from_utf8_lossy(&output.stdout);
        assert!(found.contains("tmp/duly") && !found.contains(SECRET) && !found.contains("slot-"), "{found}");
    }
    for path in below(&s.path("tmp")) {
        let mode = fs::metadata(&path).unwrap().mode() & 0o7777;
        let expected = if path.is_dir() { 0o700 } else { 0o600 };
        assert_eq!(format!("{mode:o}"), format!("{expected:o}"), "{}", path.display());
    }
    for name in ["jobs.db", "jobs.db-wal", "jobs.db-shm"] {
        assert_eq!(fs::metadata(s.path(name)).unwrap().mode() & 0o077, 0, "{name} is open to others");
    }
    s.file("go", "");
    assert!(run.wait().status.success());
}

/// Seen failing without `require_own` in `src/process/state_dir.rs`: the job then ran with the stranger's files.
#[test]
fn a_state_folder_that_another_user_has_made_first_is_refused_and_nothing_in_it_is_touched() {
    let (s, state) = sandbox();
    s.duly(["enqueue", "ok"]).stdout("1\n").status(0);
    let mine = s.file("mine", "untouched");
    fs::set_permissions(&mine, Permissions::from_mode(0o644)).unwrap();
    let script = format!(
        "umask 0; mkdir {0} && mkfifo {0}/slot-0 && ln -s {1} {0}/slot-1 && ln -s {1} {0}/link; ls {0}",
        state.display(),
        mine.display()
    );
    match as_stranger(&script) {
        Some(output) => assert!(String::from_utf8_lossy(&output.stdout).contains("slot-1"), "{output:?}"),
        // A folder that is not ours, of which there is always one.
        None => s.set_jobs("jobs: {ok: {command: [\"true\"]}}\nrunner: {state_dir: /usr}\n"),
    }
    let began = Instant::now();
    let run = s.duly(["run"]).stderr_has("belongs to user ").limit(SOON).status(1);
    assert!(run.stderr.lines().count() == 1 && began.elapsed() < SOON, "{}", run.stderr);
    assert_eq!(
        (s.read("mine").as_str(), s.database().value("SELECT state FROM duly_job").as_str()),
        ("untouched", "pending")
    );

    // A link to a folder of ours is no folder either.
    if as_stranger(&format!("rm -rf {0} && ln -s {1} {0}", state.display(), s.path("run").display()))
        .is_some()
    {
        s.duly(["run"]).stderr_has("is not a folder").status(1);
        assert_eq!(below(&s.path("run")), [] as [PathBuf; 0]);
    }
}

/// Seen failing without `require_safe_way` in `src/process/state_dir.rs`.
#[test]
fn a_state_folder_that_others_could_put_another_in_place_of_is_refused() {
    let (s, state) = sandbox();
    s.duly(["enqueue", "ok"]).stdout("1\n").status(0);
    // Without the sticky bit anybody can move it away; also from further up.
    fs::set_permissions(s.path("tmp"), Permissions::from_mode(0o777)).unwrap();
    s.duly(["run"]).stderr_has("could be replaced by others").stderr_has("0777").status(1);
    if let Some(output) = as_stranger(&format!("mv {0} {0}-away && echo moved", state.display())) {
        assert_eq!(String::from_utf8_lossy(&output.stdout), "moved\n", "the danger is real");
    }
    fs::set_permissions(s.path("tmp"), Permissions::from_mode(0o1777)).unwrap();
    fs::set_permissions(s.path("."), Permissions::from_mode(0o757)).unwrap();
    let refused = if rustix::process::geteuid().is_root() { 2 } else { 1 };
    s.duly(["run"]).stderr_has("could ").status(refused);
    fs::set_permissions(s.path("."), Permissions::from_mode(0o755)).unwrap();
    s.duly(["run"]).status(0);
    assert_eq!(s.database().value("SELECT state FROM duly_job"), "success");
}

/// Nobody else can put such things there; a backup that was put back, or a hand of one's own, can.
/// Seen failing without `PLAIN_FILE` in `src/process/slots.rs` and `ledger.rs`: it hung, and wrote through the link.
#[test]
fn what_is_no_plain_file_in_the_state_folder_holds_nobody_up() {
    let (s, state) = sandbox();
    s.duly(["run"]).status(0);
    s.duly(["enqueue", "ok"]).stdout("1\n").status(0);
    s.duly(["run"]).status(0);
    let folder = below(&state).into_iter().find(|path| path.is_dir()).unwrap();
    let slot = folder.join("slot-0");
    let fifo = |path: &Path| mknodat(CWD, path, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();

    s.duly(["enqueue", "ok"]).stdout("2\n").status(0);
    fs::remove_file(&slot).unwrap();
    symlink(s.path("elsewhere"), &slot).unwrap();
    s.duly(["run"]).stderr_has("slot").limit(SOON).status(1);
    assert!(!s.path("elsewhere").exists());
    fs::remove_file(&slot).unwrap();
    fifo(&slot);
    s.duly(["run"]).stderr_has("slot").limit(SOON).status(1);
    fs::remove_file(&slot).unwrap();
    fifo(&folder.join("runner-00000000000000000000000000000000"));
    symlink(s.path("jobs.yaml"), folder.join("2-1.out")).unwrap();
    let before = s.read("jobs.yaml");
    s.duly(["run"]).limit(SOON).status(0);
    assert_eq!(s.database().value("SELECT COUNT(*) FROM duly_job WHERE state = 'success'"), "2");
    assert_eq!(s.read("jobs.yaml"), before);
}

/// A file of several gigabytes is not read whole.
#[test]
fn a_jobs_yaml_of_any_size_or_kind_is_told_at_once() {
    let (s, _) = sandbox();
    let path = s.path("jobs.yaml");
    fs::File::options().write(true).open(&path).unwrap().set_len(4 << 30).unwrap();
    let began = Instant::now();
    s.duly(["check"]).stderr_has("is longer than 16 MiB").limit(SOON).status(2);
    assert!(began.elapsed() < Duration::from_secs(10));
    fs::remove_file(&path).unwrap();
    mknodat(CWD, &path, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
    s.duly(["check"]).stderr_has("is not a regular file").limit(SOON).status(2);
    // Aliases that stand for each other grow without end.
    fs::remove_file(&path).unwrap();
    let mut bomb = String::from("a: &a [x, x, x, x, x, x, x, x, x]\n");
    for (name, of) in
        ["b", "c", "d", "e", "f", "g", "h", "i"].iter().zip(["a", "b", "c", "d", "e", "f", "g", "h"])
    {
        bomb.push_str(&format!("{name}: &{name} [{}]\n", vec![format!("*{of}"); 9].join(", ")));
    }
    s.set_jobs(&bomb);
    let run = s.duly(["check"]).stderr_has("duly: error: ").limit(SOON).status(2);
    assert!(run.stderr.len() < 100_000, "{}", run.stderr.len());
    // And lists in lists.
    s.set_jobs(&format!("jobs: {}{}\n", "[".repeat(5_000), "]".repeat(5_000)));
    s.duly(["check"]).stderr_has("duly: error: ").limit(SOON).status(2);
}
