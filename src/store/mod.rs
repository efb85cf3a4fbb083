//! Everything SQL: each file is one thing that is done to jobs, and says what it locks.
//!
//! A [`Store`] is one open connection. All that changes a job goes through a guarded `UPDATE`: its `WHERE` names the
//! state that the job leaves and, while it runs, its owner and fence. Several changes that belong together are one
//! [`Store::unit`], which is run again when another transaction was in the way.
//!
//! What a connection is, and most of what differs between MySQL, MariaDB and SQLite, is in [`crate::db`].

mod adopt;
mod age;
mod audit;
mod cancel;
mod cancel_children;
mod certain;
mod claim;
mod content_changes;
mod delete;
mod dependents;
mod enqueue;
mod error;
mod finish;
mod graph;
mod handle;
mod heartbeat;
mod hooks;
mod hosts;
mod limits;
mod list;
mod lost_order_changes;
mod lost_order_ends;
mod lost_order_list;
mod lost_orders;
mod mapping;
mod metrics;
#[cfg(test)]
mod model;
mod output;
mod page;
mod passed_over;
mod pause;
mod probe;
mod query;
mod requeue;
mod rescue;
mod retry;
mod roots;
mod rounds;
mod schedule;
mod sessions;
mod sql;
mod startable;
mod statistics;
mod status;
mod trim;
mod why;

pub use adopt::Adopted;
pub use age::Serves;
pub use audit::{AuditRow, Deed};
pub use cancel::Cancelled;
pub use claim::{ClaimRequest, Claimed, Claims};
pub use content_changes::ContentChange;
pub use delete::{CleanUp, Deleted};
pub use enqueue::{Declared, NewJob, Start};
pub use error::StoreError;
pub use finish::{AttemptEnd, Finished, StartedAt};
pub use graph::Around;
pub use handle::Store;
pub use heartbeat::Held;
pub use limits::Limits;
pub use list::{ListFilter, ListPlace};
pub use lost_order_changes::OrderChange;
pub use lost_order_ends::{OrderEnd, OrderReach, OrderRecorded, UNWRITTEN};
pub use lost_order_list::{LostOrder, OrderAttempt};
pub use lost_orders::{ClaimedOrder, ORDER_PAGE, OrderClaim, Sender};
pub use metrics::{BOUNDS_MS, Counters};
pub use output::Output;
pub use page::{COUNTED, JobPage, JobQuery, Place, QUEUED, QueueLoad};
pub use pause::{Pause, Scope};
pub use probe::{Probe, Tick};
pub use query::{AttemptRow, Edge, Job, OutputRow};
pub use rescue::Expired;
pub use roots::Calling;
pub use schedule::{Made, Pass, ScheduleRow, Target};
pub use sessions::SessionStat;
pub use statistics::EndRow;
