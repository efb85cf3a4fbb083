//! `duly list --watch` on a real pseudo-terminal: what is drawn, what keys do, and that the terminal is given back.

use std::os::unix::process::ExitStatusExt;
use std::process::Command;

use duly::render::screen::Screen;
use rustix::process::Signal;

use crate::support::{Backend, Sandbox, Server, Terminal, on_every_database, wait_until};

const JOBS: &str = r#"
jobs:
  greet: {label: "Says hello", command: [sh, -c, "echo hello from the job"], max_attempts: 1}
  broken: {command: [sh, -c, "echo it went wrong; exit 7"], max_attempts: 1}
  sleeper: {command: [sleep, "60"]}
"#;

on_every_database! {
    /// Seen failing with a retry that is made by `n`.
    fn keys_open_cancel_retry_and_start_jobs(s: Sandbox) {
        s.set_jobs(JOBS);
        s.duly(["start", "broken"]).stdout("1\n").status(0);
        s.duly(["run"]).stderr_has("job 1 (broken) failed").status(0);
        s.duly(["enqueue", "sleeper", "--in", "1h"]).stdout("2\n").status(0);
        let mut t = Terminal::duly(&s, &["list", "--watch"], 110, 20);
        t.shows("2 jobs");
        t.shows("ID  NAME     STATE      QUEUE    ATTEMPT  AT (UTC)");
        t.shows("exit 7");
        // Job 2 is the newest, so it is chosen.
        t.types("c");
        t.shows("cancel job 2?");
        t.types("n");
        t.shows("enter: output");
        t.types("cy");
        t.shows("job 2 is cancelled");
        t.shows("sleeper  cancelled");
        t.types("j\r");
        t.shows("attempt 1 exited 7");
        t.shows("| it went wrong");
        t.types("q");
        t.shows("ID  NAME");
        t.types("ry");
        t.shows("job 3 is in");
        t.shows("3   broken   pending");
        t.types("s");
        t.shows("greet    Says hello");
        t.types("\r");
        t.shows("job 4 (greet) is in");
        t.shows("4   greet    pending");
        t.types("ry");
        // Job 1 is still the chosen one.
        t.shows("job 5 is in");
        assert_eq!(s.json(["show", "5", "--json"])["retry_of"], 1);
        t.types("q");
        let (status, _) = t.ends_and_gives_back();
        assert_eq!(status.code(), Some(0));
    }

    /// Seen failing with `set_jobs` choosing the first row each time.
    fn jobs_are_filtered_and_sorted_and_the_chosen_one_stays_chosen(s: Sandbox) {
        s.set_jobs(JOBS);
        for name in ["broken", "greet", "sleeper"] {
            s.duly(["enqueue", name, "--in", "1h"]).stdout_has("").status(0);
        }
        let mut t = Terminal::duly(&s, &["list", "--watch", "--limit", "10"], 100, 12);
        t.shows("3 jobs");
        let names = |t: &Terminal| -> Vec<String> {
            let screen = t.screen();
            let rows = screen.lines().skip(2).take_while(|line| line.starts_with(|c: char| c.is_ascii_digit()));
            rows.map(|line| line.split_whitespace().nth(1).unwrap().to_owned()).collect()
        };
        assert_eq!(names(&t), ["sleeper", "greet", "broken"]);
        t.types("O");
        t.shows("oldest first");
        assert_eq!(names(&t), ["broken", "greet", "sleeper"]);
        t.types("Ooo");
        t.shows("by NAME");
        assert_eq!(names(&t), ["broken", "greet", "sleeper"]);
        // Sleeper was chosen as the newest, and is the last now.
        t.types("c");
        t.shows("cancel job 3?");
        t.types("n");
        t.shows("enter: output");
        t.types("/gree\r");
        t.shows("1 jobs · only with `gree`");
        assert_eq!(names(&t), ["greet"]);
        t.types("/\u{1b}");
        t.shows("3 jobs");
        t.types("f");
        t.shows("0 jobs · only new");
        t.shows("None.");
        t.types("F");
        t.shows("3 jobs");
        t.types("gn");
        t.shows("1 jobs · only broken");
        t.types("?");
        t.shows("only jobs of the chosen one's name");
        t.types("q");
        t.shows("1 jobs · only broken");
        t.types("q");
        t.ends_and_gives_back();
    }

    /// Seen failing with the list read only once.
    fn it_looks_again_by_itself_and_sends_only_what_has_changed(s: Sandbox) {
        s.set_jobs(JOBS);
        for _ in 0..30 {
            s.duly(["enqueue", "greet", "--in", "1h"]).stdout_has("").status(0);
        }
        let mut t = Terminal::duly(&s, &["list", "--watch"], 120, 40);
        t.shows("30 jobs");
        // The last line of it has come too, and what puts the terminal at rest.
        t.shows("q: quit");
        let mut first = 0;
        wait_until("all of it is drawn", std::time::Duration::from_secs(15), || {
            let before = std::mem::replace(&mut first, t.bytes().len());
            before == first
        });
        // Nothing but the time has changed.
        let clock = |t: &Terminal| t.screen().lines().next().unwrap().to_owned();
        let before = clock(&t);
        wait_until("the list to be read again", std::time::Duration::from_secs(15), || clock(&t) != before);
        let more = t.bytes().len() - first;
        assert!(first > 2000 && more < 60, "{first} bytes at first, {more} when nothing had changed");
        // What somebody else does is seen when it is read again.
        s.duly(["cancel", "30"]).stdout_has("cancelled").status(0);
        t.types("a");
        t.shows("30  greet  cancelled");
        assert!(t.bytes().len() - first < 600, "a row costs {} bytes", t.bytes().len() - first);
        t.types("q");
        t.ends_and_gives_back();
    }
}

#[test]
fn the_output_of_a_running_job_is_followed() {
    let s = Sandbox::new(Backend::Sqlite).jobs(
        "jobs:\n  talker: {command: [sh, -c, \"for i in $(seq 1 50); do echo line $i; done; while [ ! -e go ]; do sleep 0.1; done; echo the end\"]}\n",
    );
    s.duly(["start", "talker"]).stdout_has("").status(0);
    let running = s.duly(["run"]).spawn();
    wait_until("its output to be stored", std::time::Duration::from_secs(20), || {
        s.duly(["show", "1"]).output().stdout.contains("line 50")
    });
    let mut t = Terminal::duly(&s, &["list", "--watch"], 60, 10);
    t.shows("talker  running");
    t.types("\r");
    t.shows("| line 50");
    t.types("g");
    t.shows("job 1 (talker) is running");
    t.types("G");
    t.shows("| line 50");
    s.file("go", "");
    t.shows("| the end");
    assert_eq!(running.wait().status.code(), Some(0));
    t.types("qq");
    t.ends_and_gives_back();
}

/// Seen failing with signals that do not end the loop, and with only SIGTERM and SIGINT caught.
#[test]
fn the_terminal_is_given_back_after_signals() {
    let s = Sandbox::new(Backend::Sqlite).jobs(JOBS);
    for (signal, code) in [(Signal::TERM, 143), (Signal::INT, 130), (Signal::HUP, 129), (Signal::QUIT, 131)] {
        let t = Terminal::duly(&s, &["list", "--watch"], 80, 10);
        t.shows("None.");
        t.signal(signal);
        let (status, screen) = t.ends_and_gives_back();
        assert_eq!(status.code(), Some(code));
        assert_eq!(screen.trim(), "", "nothing stays behind");
    }
    let mut t = Terminal::duly(&s, &["list", "--watch"], 80, 10);
    t.shows("None.");
    t.types("\u{3}");
    assert_eq!(t.ends_and_gives_back().0.code(), Some(130));
}

/// The test starts itself on a terminal. A panic ends the shipped program without destructors, so there is none here either.
/// Seen failing with the panic's hook left out.
#[test]
fn the_terminal_is_given_back_after_a_panic() {
    if std::env::var_os("DULY_TEST_PANIC").is_some() {
        std::mem::forget(Screen::open().unwrap());
        panic!("on purpose");
    }
    let mut command = Command::new("setsid");
    command.arg("--ctty").arg(std::env::current_exe().unwrap());
    command.args(["--exact", "watch::the_terminal_is_given_back_after_a_panic", "--nocapture"]);
    command.env("DULY_TEST_PANIC", "1").env("TERM", "xterm");
    let t = Terminal::with(command, 80, 10);
    t.shows("on purpose");
    let bytes = t.bytes();
    let text = String::from_utf8_lossy(&bytes);
    let (left, said) = (text.find("\u{1b}[?1049l").unwrap(), text.find("on purpose").unwrap());
    assert!(text.contains("\u{1b}[?1049h") && left < said, "{text:?}");
    let (status, _) = t.ends_and_gives_back();
    assert!(!status.success() && status.signal().is_none());
}

/// Seen failing with colours never.
#[test]
fn there_are_colours_unless_nobody_wants_them() {
    let s = Sandbox::new(Backend::Sqlite).jobs(JOBS);
    s.duly(["start", "broken"]).stdout_has("").status(0);
    s.duly(["run"]).stderr_has("failed").status(0);
    for (colours, name) in [(true, "OTHER"), (false, "NO_COLOR")] {
        let mut command = Command::new("setsid");
        command.args(["--ctty", env!("CARGO_BIN_EXE_duly"), "list", "--watch"]).current_dir(s.path(""));
        command.env(name, "1").env("TERM", "xterm-256color").env("HOME", s.path(""));
        command.env("XDG_RUNTIME_DIR", s.path("run"));
        let mut t = Terminal::with(command, 80, 10);
        t.shows("broken  failed");
        t.types("q");
        let bytes = t.bytes();
        let raw = String::from_utf8_lossy(&bytes);
        // Red in any of its spellings; and what is chosen is turned round either way, which is no colour.
        let is_red = ["\u{1b}[31m", "\u{1b}[38;5;1;", "\u{1b}[38;5;1m"].iter().any(|red| raw.contains(red));
        assert_eq!(is_red, colours, "{raw:?}");
        assert!(raw.contains("\u{1b}[7m"), "{raw:?}");
        t.ends_and_gives_back();
    }
}

/// Seen failing with blanks before each cell, which are in its colour and so stay.
#[test]
fn the_table_of_a_terminal_begins_at_its_edge() {
    let s = Sandbox::new(Backend::Sqlite).jobs(JOBS);
    s.duly(["start", "greet"]).stdout_has("").status(0);
    let t = Terminal::duly(&s, &["list"], 100, 10);
    t.shows("pending");
    let screen = t.screen();
    let lines: Vec<&str> = screen.lines().collect();
    assert!(
        lines[0].starts_with("ID  NAME   STATE    QUEUE")
            && lines[1].starts_with("1   greet  pending  default"),
        "{screen}"
    );
}

/// Which columns are left out, and where a text is cut, is tested beside `render/screen`.
#[test]
fn narrow_terminals_and_wide_characters_are_borne() {
    let s = Sandbox::new(Backend::Sqlite).jobs(
        "jobs:\n  a: {command: [sh, -c, \"echo 日本語 のテキスト; printf '\\\\033[31mred\\\\033[2J'\"], label: \"仕事をする\"}\n",
    );
    s.duly(["start", "a"]).stdout_has("").status(0);
    s.duly(["run"]).status(0);
    let mut t = Terminal::duly(&s, &["list", "--watch"], 20, 8);
    t.shows("ID  NAME  STATE");
    t.shows("1   a     success");
    assert!(!t.screen().contains("default"), "{}", t.screen());
    t.resize(90, 8);
    t.shows("1   a     success    default  1/10");
    t.types("\r");
    t.shows("| 日本語 のテキスト");
    t.shows("| ␛[31mred␛[2J");
    t.resize(12, 8);
    t.shows("| 日本語 …");
    t.types("\u{1b}[C");
    t.shows("のテキスト");
    t.types("\u{1b}[D");
    t.shows("| 日本語 …");
    t.types("qs");
    t.resize(30, 8);
    t.shows("a     仕事をする");
    t.types("qq");
    t.ends_and_gives_back();
}

/// Seen failing with a connection that is used again after an error.
#[test]
fn a_connection_that_was_cut_is_made_anew() {
    let s = Sandbox::new(Backend::MariaDb).jobs(JOBS);
    s.duly(["enqueue", "greet", "--in", "1h"]).stdout("1\n").status(0);
    let mut t = Terminal::duly(&s, &["list", "--watch"], 100, 10);
    t.shows("1 jobs");
    let user = url::Url::parse(s.database().url()).unwrap().username().to_owned();
    Server::shared().administrator().sql(&format!("KILL USER {user}"));
    s.duly(["enqueue", "greet", "--in", "1h"]).stdout("2\n").status(0);
    t.types("aa");
    t.shows("2 jobs");
    t.shows("enter: output");
    t.types("q");
    t.ends_and_gives_back();
}

on_every_database! {
    /// Seen failing with errors that end the program.
    fn a_database_that_is_away_is_told_and_found_again(s: Sandbox) {
        s.set_jobs(JOBS);
        s.duly(["enqueue", "greet", "--in", "1h"]).stdout("1\n").status(0);
        let mut t = Terminal::duly(&s, &["list", "--watch"], 100, 10);
        t.shows("1 jobs");
        s.database().sql("ALTER TABLE duly_job RENAME TO away");
        t.types("a");
        t.shows("cannot list jobs");
        s.database().sql("ALTER TABLE away RENAME TO duly_job");
        t.types("a");
        t.shows("enter: output");
        t.types("q");
        t.ends_and_gives_back();
    }
}

/// Seen failing with the question whether there is a terminal left out.
#[test]
fn without_a_terminal_it_says_what_to_use() {
    let s = Sandbox::new(Backend::Sqlite).jobs(JOBS);
    s.duly(["list", "--watch"])
        .stderr_has("draws on a terminal, and standard input or output is none here; `duly list` prints the same once")
        .status(2);
    s.duly(["list", "--watch", "--json"]).stderr_has("cannot be used with").status(2);
}
