//! Why a job is not running: from what is known of it to sentences, each with what would start it.
//!
//! [`Facts`] come from the database, [`Here`] from this host's jobs.yaml and state folder. Nothing is looked up in here, so
//! that the command line and the web page say the same.

mod ended;
mod held_back;
mod reasons;
mod running;

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::{Host, On, State, duration};
pub use reasons::why;

/// A job that has to do with the one that is asked about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Other {
    /// Its id.
    pub id: i64,
    /// Its name; `None` where its row has been deleted.
    pub name: Option<String>,
    /// Where it is in its life; `None` where its row has been deleted.
    pub state: Option<State>,
    /// Where it runs, if it does.
    pub host: Option<String>,
}

/// A pause that holds a job back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    /// `all`, `queue:NAME` or `job:NAME`.
    pub scope: String,
    /// Since when.
    pub since: Option<DateTime<Utc>>,
    /// Until when; until somebody ends it, if `None`.
    pub until: Option<DateTime<Utc>>,
    /// By whom.
    pub by: Option<String>,
    /// Why.
    pub reason: Option<String>,
}

/// Whether a pause of `scope` holds jobs of this name in this queue back.
#[must_use]
pub fn is_in_scope(scope: &str, name: &str, queue: &str) -> bool {
    scope == "all"
        || scope.strip_prefix("queue:").is_some_and(|paused| paused == queue)
        || scope.strip_prefix("job:").is_some_and(|paused| paused == name)
}

/// How the latest attempt ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastAttempt {
    /// Its number, from 1.
    pub attempt: u32,
    /// The word for its outcome.
    pub outcome: String,
    /// Its exit code.
    pub exit_code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// Why, in a sentence.
    pub reason: Option<String>,
}

/// What the database knows of a job that has to do with whether it runs.
#[derive(Debug, Clone)]
pub struct Facts {
    /// The database's time.
    pub now: DateTime<Utc>,
    /// The job.
    pub id: i64,
    /// The name of its definition.
    pub name: String,
    /// Where it is in its life.
    pub state: State,
    /// Its queue; `None` until it is adopted, unless the application named one.
    pub queue: Option<String>,
    /// When it may start.
    pub run_at: Option<DateTime<Utc>>,
    /// When it was put in.
    pub created_at: Option<DateTime<Utc>>,
    /// When its latest attempt was claimed.
    pub started_at: Option<DateTime<Utc>>,
    /// When it ended.
    pub finished_at: Option<DateTime<Utc>>,
    /// The instant of its schedule that it is for.
    pub scheduled_for: Option<DateTime<Utc>>,
    /// Attempts so far, the present one included.
    pub attempts: u32,
    /// Attempts at most.
    pub max_attempts: Option<u32>,
    /// The runner that holds it.
    pub owner: Option<String>,
    /// The host of its latest attempt.
    pub host: Option<String>,
    /// Until when its claim holds.
    pub lease_until: Option<DateTime<Utc>>,
    /// Since when it is to be cancelled.
    pub cancel_requested_at: Option<DateTime<Utc>>,
    /// Why, in a sentence.
    pub reason: Option<String>,
    /// The word for how its latest attempt ended.
    pub outcome: Option<String>,
    /// The exit code of its latest attempt.
    pub exit_code: Option<i32>,
    /// How its own command ended, of a root that waits for its children.
    pub own_end: Option<String>,
    /// How many children it has, and how many of them have ended.
    pub children: (i64, i64),
    /// How long it may show no sign of life while it waits for them.
    pub time_before_stale: Option<Duration>,
    /// Children that have not ended, some of them.
    pub open_children: Vec<Other>,
    /// Its root, and whether that is to be cancelled.
    pub root: Option<(Other, bool)>,
    /// What it waits for, and which end of that.
    pub prerequisites: Vec<(Other, On)>,
    /// Who holds the places of its queue, and of its name.
    pub holders: (Vec<Other>, Vec<Other>),
    /// The pauses that hold it back.
    pub pauses: Vec<Hold>,
    /// How many startable jobs of its queue come first, counted up to 1,000.
    pub ahead: u32,
    /// Its latest attempt that has ended.
    pub last_attempt: Option<LastAttempt>,
    /// Every host that has ticked.
    pub hosts: Vec<Host>,
}

/// What this host can tell.
#[derive(Debug, Clone, Default)]
pub struct Here {
    /// Its name.
    pub host: String,
    /// Its jobs.yaml.
    pub config: String,
    /// The queue of the definition, where the name is declared in it.
    pub declared_queue: Option<String>,
    /// Whether the definition is enabled.
    pub is_enabled: bool,
    /// The queues that are declared in it.
    pub queues: Vec<String>,
    /// How many jobs of the queue and of the name may run at once.
    pub limits: (Option<u32>, Option<u32>),
    /// Slots of this host: how many are free, of how many. Or what is wrong with the state folder.
    pub slots: Option<Result<(usize, usize), String>>,
    /// That the database is slow, and how slow, if it is.
    pub slow: Option<String>,
    /// Whether the runner that holds the job is alive; `None` where it is not of this host.
    pub is_runner_alive: Option<bool>,
}

/// What kind a reason is, for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the words are those of the README's table")]
pub enum Kind {
    NotAdopted,
    Prerequisite,
    Unsettled,
    NotBefore,
    Jitter,
    BackOff,
    Due,
    Startable,
    Ahead,
    Paused,
    QueueLimit,
    NameLimit,
    Undeclared,
    UndeclaredHere,
    QueueNotServed,
    Disabled,
    NoTick,
    HostTrouble,
    DatabaseSlow,
    NoSlot,
    RootCancelled,
    Running,
    Cancelling,
    LeaseEnded,
    RunnerDead,
    Children,
    Ended,
}

impl Kind {
    /// As programs read it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotAdopted => "not_adopted",
            Self::Prerequisite => "prerequisite",
            Self::Unsettled => "unsettled",
            Self::NotBefore => "not_before",
            Self::Jitter => "jitter",
            Self::BackOff => "back_off",
            Self::Due => "due",
            Self::Startable => "startable",
            Self::Ahead => "ahead",
            Self::Paused => "paused",
            Self::QueueLimit => "queue_limit",
            Self::NameLimit => "name_limit",
            Self::Undeclared => "undeclared",
            Self::UndeclaredHere => "undeclared_here",
            Self::QueueNotServed => "queue_not_served",
            Self::Disabled => "disabled",
            Self::NoTick => "no_tick",
            Self::HostTrouble => "host_trouble",
            Self::DatabaseSlow => "database_slow",
            Self::NoSlot => "no_slot",
            Self::RootCancelled => "root_cancelled",
            Self::Running => "running",
            Self::Cancelling => "cancelling",
            Self::LeaseEnded => "lease_ended",
            Self::RunnerDead => "runner_dead",
            Self::Children => "children",
            Self::Ended => "ended",
        }
    }
}

/// One reason why a job is not running, or why it is where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// For programs.
    pub kind: Kind,
    /// What is so, for people. Names and reasons of others are in it as they are stored.
    pub text: String,
    /// What would start or end it.
    pub next: String,
    /// When it ends by itself, where that is known.
    pub until: Option<DateTime<Utc>>,
    /// The jobs that it is about.
    pub jobs: Vec<i64>,
}

impl Reason {
    fn new(kind: Kind, text: impl Into<String>, next: impl Into<String>) -> Self {
        Self { kind, text: text.into(), next: next.into(), until: None, jobs: Vec::new() }
    }

    fn until(mut self, until: Option<DateTime<Utc>>) -> Self {
        self.until = until;
        self
    }

    fn about<'a>(mut self, jobs: impl IntoIterator<Item = &'a Other>) -> Self {
        self.jobs = jobs.into_iter().map(|job| job.id).collect();
        self
    }

    /// With the fields `kind`, `reason`, `next`, `until` (RFC 3339 or null) and `jobs`.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::json!({
            "kind": self.kind.as_str(),
            "reason": self.text,
            "next": self.next,
            "until": self.until.map(|at| at.to_rfc3339_opts(chrono::SecondsFormat::Micros, true)),
            "jobs": self.jobs,
        })
    }
}

impl Other {
    /// `job 7 (export)`.
    fn shown(&self) -> String {
        match &self.name {
            Some(name) => format!("job {} ({name})", self.id),
            None => format!("job {}", self.id),
        }
    }
}

/// What to say to whoever asked for job `facts.id` to be cancelled while it was running.
#[must_use]
pub fn cancelling(facts: &Facts, here: &Here) -> String {
    let id = facts.id;
    let is_held = facts.owner.is_some()
        && here.is_runner_alive != Some(false)
        && facts.lease_until.is_none_or(|until| until >= facts.now);
    match facts.state {
        State::Running if is_held => format!("job {id} is running; its runner stops it"),
        State::Running => format!("job {id} is to be cancelled: {}", running::who_cancels(facts, here)),
        // Its runner was quick.
        state => format!("job {id} is {state}"),
    }
}

/// `2026-03-01 02:00:00 UTC`.
#[must_use]
pub(in crate::job) fn clock(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%M:%S UTC").to_string()
}

/// A length of time, to whole seconds above one; what is negative counts as nothing.
#[must_use]
pub fn length(delta: TimeDelta) -> String {
    match u64::try_from(delta.num_seconds()).unwrap_or(0) {
        seconds @ 0..60 => format!("{seconds}s"),
        seconds => duration::show(Duration::from_secs(seconds)),
    }
}

/// `3 jobs: job 7 (export) on web1, job 8 (export) on web2, …`, five of them.
fn listed(jobs: &[Other]) -> String {
    let one = |job: &Other| match (&job.host, job.state) {
        (Some(host), _) => format!("{} on {host}", job.shown()),
        (None, Some(state)) => format!("{}, {state}", job.shown()),
        (None, None) => job.shown(),
    };
    let mut words: Vec<String> = jobs.iter().take(5).map(one).collect();
    if jobs.len() > 5 {
        words.push(format!("and {} more", jobs.len() - 5));
    }
    words.join(", ")
}
