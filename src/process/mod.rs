//! Everything that touches an operating system process, and the folder where its traces are kept.
//!
//! The traps, and what is done about each:
//!
//! - **A command has children of its own.** It is started in a process group of its own, and signals go to the group; where
//!   it is stopped, all that descends from it is ended ([`kin`]), and it has not ended before that has.
//! - **A process id is used again.** The leader of a group is not reaped before the group has been dealt with, so its
//!   id cannot name anything else; after a crash an id counts only together with the time its process started.
//! - **A grandchild keeps the pipe open.** The runner waits for the leader only, and then for nothing more than is in the pipe.
//! - **A command opens `/dev/stdout` anew.** It is a pipe, so nothing of a file is cut off or written over by that.
//! - **Its own group gets no Ctrl-C.** The runner catches the signals and passes them on ([`signals`]).
//! - **A command prints without end.** Head and tail are kept, the middle is punched out of the file as it grows; a disk that is
//!   full costs the file, not the command.
//! - **`PATH` in the environment makes std fork instead of `posix_spawn`.** The program is looked up here, and an
//!   absolute path is spawned: that is most of what made duct slower than plain `posix_spawn`.
//! - **`flock` dies with its holder.** So do host slots and the sign of life of a runner; a crash can leak neither.
//! - **Time passes while a laptop sleeps.** Leases are judged by a clock that counts it ([`clock`]).

pub mod ask;
pub mod capture;
pub mod clock;
pub mod command;
pub mod executable;
pub mod execute;
mod identity;
mod kin;
pub mod ledger;
pub mod mirror;
pub mod pipe;
pub mod program;
pub mod signals;
pub mod slots;
pub mod state_dir;
pub mod stop;
pub mod ticks;

pub use identity::{boot_id, host, is_running, new_owner, who};
pub use kin::claims_here;
