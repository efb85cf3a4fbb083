//! A real pseudo-terminal: what a program draws on it is read as a terminal would, and what a person would type is sent.

use std::fs::File;
use std::io::{Read, Write};
use std::num::NonZeroU16;
use std::os::fd::OwnedFd;
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Termios, Winsize, tcgetattr, tcsetwinsize};

use super::{Sandbox, wait_until};

/// How long anything on a terminal may take.
const LIMIT: Duration = Duration::from_secs(20);

/// A terminal with a program on it, which is killed with the value.
pub(crate) struct Terminal {
    child: Child,
    person: File,
    side: OwnedFd,
    modes_before: Termios,
    seen: Arc<Mutex<Seen>>,
}

struct Seen {
    screen: vt100::Parser,
    raw: Vec<u8>,
}

impl Terminal {
    /// `duly` in the sandbox's folder.
    #[track_caller]
    pub(crate) fn duly(s: &Sandbox, arguments: &[&str], columns: u16, rows: u16) -> Terminal {
        let mut command = Command::new("setsid");
        command.args(["--ctty", env!("CARGO_BIN_EXE_duly")]).args(arguments);
        command.current_dir(s.path("")).env_clear().env("HOME", s.path(""));
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("XDG_RUNTIME_DIR", s.path("run")).env("TERM", "xterm-256color");
        Terminal::with(command, columns, rows)
    }

    /// A command that begins with `setsid --ctty`, which gives it the terminal and becomes the program.
    #[track_caller]
    pub(crate) fn with(mut command: Command, columns: u16, rows: u16) -> Terminal {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let person = openpt(flags).expect("opening a pseudo-terminal");
        grantpt(&person).expect("granting it");
        unlockpt(&person).expect("unlocking it");
        let name = ptsname(&person, Vec::new()).expect("its name").into_string().expect("a UTF-8 name");
        let side: OwnedFd =
            File::options().read(true).write(true).open(name).expect("opening its other side").into();
        tcsetwinsize(&side, size(columns, rows)).expect("setting its size");
        let modes_before = tcgetattr(&side).expect("reading its modes");
        let copy = || side.try_clone().expect("copying a handle");
        let child = command.stdin(copy()).stdout(copy()).stderr(copy()).spawn().expect("starting a program");
        let person = File::from(person);
        let seen = Arc::new(Mutex::new(Seen {
            screen: vt100::Parser::new(cells(rows), cells(columns), 0),
            raw: Vec::new(),
        }));
        let (mut reader, into) = (person.try_clone().expect("copying a handle"), Arc::clone(&seen));
        thread::spawn(move || {
            let mut bytes = [0; 65536];
            while let Ok(count @ 1..) = reader.read(&mut bytes) {
                let mut seen = into.lock().unwrap();
                seen.screen.process(&bytes[..count]);
                seen.raw.extend_from_slice(&bytes[..count]);
            }
        });
        Terminal { child, person, side, modes_before, seen }
    }

    /// What is on the screen, line by line.
    pub(crate) fn screen(&self) -> String {
        self.seen.lock().unwrap().screen.screen().contents()
    }

    /// Every byte that was sent to it so far.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.seen.lock().unwrap().raw.clone()
    }

    /// Waits until this is on the screen.
    #[track_caller]
    pub(crate) fn shows(&self, text: &str) {
        let began = Instant::now();
        while !self.screen().contains(text) {
            assert!(began.elapsed() < LIMIT, "`{text}` is not on the screen:\n{}", self.screen());
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Types this.
    #[track_caller]
    pub(crate) fn types(&mut self, text: &str) {
        self.person.write_all(text.as_bytes()).expect("typing");
    }

    /// Gives the terminal another size.
    pub(crate) fn resize(&mut self, columns: u16, rows: u16) {
        self.seen.lock().unwrap().screen.screen_mut().set_size(cells(rows), cells(columns));
        tcsetwinsize(&self.side, size(columns, rows)).expect("setting its size");
    }

    /// Sends the program a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("sending a signal");
    }

    /// Waits for the program's end, and checks that the terminal is as it was: modes, screen and cursor.
    #[track_caller]
    pub(crate) fn ends_and_gives_back(mut self) -> (ExitStatus, String) {
        let mut status = None;
        wait_until("the program to end", LIMIT, || {
            status = self.child.try_wait().expect("waiting for a child");
            status.is_some()
        });
        let modes = tcgetattr(&self.side).expect("reading its modes");
        let before = &self.modes_before;
        assert_eq!(
            (modes.local_modes, modes.input_modes, modes.output_modes),
            (before.local_modes, before.input_modes, before.output_modes)
        );
        wait_until("the terminal to be given back", LIMIT, || {
            let seen = self.seen.lock().unwrap();
            !seen.screen.screen().alternate_screen() && !seen.screen.screen().hide_cursor()
        });
        (status.expect("an end"), self.screen())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn size(columns: u16, rows: u16) -> Winsize {
    Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }
}

fn cells(count: u16) -> NonZeroU16 {
    NonZeroU16::new(count).expect("a terminal has a size")
}
