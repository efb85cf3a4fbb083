//! A command line: which program, with which arguments, where, in which environment. No shell is involved.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Seek as _, Write as _};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;

use rustix::fs::{MemfdFlags, memfd_create};
use rustix::process::{Signal, getpid, kill_process};

use super::executable::{self, own_path};
use super::execute::StartError;
use super::program::own_program;

/// What to start.
#[derive(Clone, PartialEq, Eq)]
pub struct CommandLine {
    /// The program and its arguments; never empty.
    pub argv: Vec<String>,
    /// The working folder, absolute.
    pub cwd: PathBuf,
    /// Variables added to this process's own environment.
    pub env: BTreeMap<String, String>,
    /// What its standard input gives; nothing, if `None`.
    pub input: Option<Vec<u8>>,
}

// Values of variables may be secrets: only their names are shown.
impl std::fmt::Debug for CommandLine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CommandLine")
            .field("argv", &self.argv)
            .field("cwd", &self.cwd)
            .field("env", &self.env.keys())
            .finish()
    }
}

impl CommandLine {
    /// The command as duct describes it, in a process group of its own, with nothing on its standard input.
    ///
    /// # Errors
    ///
    /// Why it cannot be started: the folder or the program is not there or not usable.
    pub(super) fn expression(&self) -> Result<duct::Expression, StartError> {
        let program = self.usable_program().map_err(StartError::Command)?;
        #[expect(clippy::disallowed_methods, reason = "this is the one place where commands are described")]
        let mut expression =
            duct::cmd(program, &self.argv[1..]).dir(&self.cwd).unchecked().before_spawn(|command| {
                command.process_group(0);
                Ok(())
            });
        expression = match &self.input {
            Some(input) => expression.stdin_file(in_memory(input).map_err(StartError::Host)?),
            None => expression.stdin_null(),
        };
        for (name, value) in &self.env {
            expression = expression.env(name, value);
        }
        Ok(expression)
    }

    /// The same command, but killed when the process that starts it ends, however that ends.
    ///
    /// # Errors
    ///
    /// As for starting it.
    pub fn bound_to_this_process(mut self) -> Result<Self, String> {
        let program = self.program()?.to_string_lossy().into_owned();
        let me = std::process::id().to_string();
        let bound = [own_program()?, "bound".to_owned(), me, "--".to_owned(), program];
        self.argv.splice(..1, bound);
        Ok(self)
    }

    /// Whether it could be started here and now.
    ///
    /// # Errors
    ///
    /// Why it could not.
    pub fn check(&self) -> Result<(), String> {
        self.usable_program().map(drop)
    }

    fn usable_program(&self) -> Result<PathBuf, String> {
        if !self.cwd.is_dir() {
            return Err(format!("its working folder `{}` is not there", self.cwd.display()));
        }
        self.program()
    }

    /// The absolute path of the program, found as a shell finds it.
    fn program(&self) -> Result<PathBuf, String> {
        let path = self.env.get("PATH").map(OsString::from).or_else(own_path).unwrap_or_default();
        executable::find(self.argv.first().map_or("", String::as_str), &path, &self.cwd)
    }
}

/// A file in memory with these bytes, to be read from its beginning. A pipe would need somebody to write to it, who waits for
/// ever when a program leaves something behind that holds the pipe and does not read it.
fn in_memory(bytes: &[u8]) -> io::Result<File> {
    let mut file = File::from(memfd_create("duly-input", MemfdFlags::CLOEXEC)?);
    file.write_all(bytes)?;
    file.rewind()?;
    Ok(file)
}

/// How a program ends that [`become_bound`] could not execute: by a signal, since every exit code may mean something.
pub const NOT_EXECUTED: Signal = Signal::USR2;

/// Ends this process as one that could not become what it should.
pub fn end_unexecuted() {
    let (Ok(()) | Err(_)) = kill_process(getpid(), NOT_EXECUTED);
}

/// Becomes the program `argv`, which the kernel then kills when the thread of process `parent` ends that started us.
///
/// # Errors
///
/// When the parent is gone already, or the program cannot be executed; else it does not return.
pub fn become_bound(parent: u32, argv: &[OsString]) -> io::Error {
    if let Err(err) = rustix::process::set_parent_process_death_signal(Some(Signal::KILL)) {
        return err.into();
    }
    // Should it have ended before that, no signal comes any more.
    let is_there =
        rustix::process::getppid().is_some_and(|pid| pid.as_raw_nonzero().get().unsigned_abs() == parent);
    let Some((program, arguments)) = argv.split_first().filter(|_| is_there) else {
        return io::Error::other("the process that started it is gone");
    };
    #[expect(
        clippy::disallowed_methods,
        reason = "this is src/process; nothing is started, this process is replaced"
    )]
    std::process::Command::new(program).args(arguments).exec()
}
