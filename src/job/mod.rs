//! The words of Duly: what is declared, what is queued, how it may move and how it ended.
//!
//! Nothing in here reads a clock, a file or a database: `now` is always an argument. Every other
//! part of the program speaks in these types.
//!
//! - **definition**: an entry of `jobs.yaml` ([`Definition`])
//! - **job**: one entry in the queue, a row of `duly_job`; where it is in its life is a [`State`]
//! - **attempt**: one try at executing a job; how it ended is an [`Outcome`]
//! - **occurrence**: one instant of a [`Schedule`]
//! - **runner**: one process executing jobs; **tick**: one `duly run`
//! - **lease**: until when a runner's claim holds; **fence**: a number that grows with each claim
//! - **orphaned**: an attempt whose runner vanished

pub mod address;
mod builtin;
mod definition;
mod doubts;
pub mod duration;
mod expression;
mod field;
pub mod health;
mod host;
pub mod instant;
mod occurrences;
mod outcome;
mod placeholder;
mod retry;
mod schedule;
pub mod shop;
mod state;
mod text;
pub mod why;
mod zone;

pub use builtin::Builtin;
pub use definition::{
    Action, Definition, Hooks, NAME_RULE, OnOrphan, Targets, Unique, family, hook_name, is_hook,
    is_valid_name, parse_params,
};
pub use expression::Expression;
pub use host::{AHEAD, Declares, Host, SILENT};
pub use occurrences::{MAX_OCCURRENCES, Occurrences};
pub use outcome::Outcome;
pub use placeholder::{MaybeTarget, place_in, with_target};
pub use retry::{Backoff, SIGNALLED, Tried, Verdict, verdict};
pub use schedule::{CatchUp, Overlap, Schedule, ScheduleError, Trigger};
pub use state::{On, State};
pub use text::{discreet, escape, harmless, is_obeyed};
pub use zone::Zone;

/// A 64-bit FNV-1a hash: the same on every host and in every version, which `std`'s hashers do not promise.
#[must_use]
pub fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}
