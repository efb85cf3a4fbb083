//! The mirror of jobs.yaml: every key that may be written, with the form of its value, and nothing else.
//!
//! This is the only file that uses `serde_yaml`, whose author has archived it.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::de::DeserializeSeed as _;

use super::node::{Node, Room};
use super::read::{Limit, Named, Read, Reader, Span, Whole};
use super::values::{ColumnName, CommandLine, Factor, Share, Size, TableName};
use super::web::Role;
use crate::job::{Builtin, CatchUp, OnOrphan, Overlap, Unique, Zone};

/// Reads the text of a file as YAML.
///
/// # Errors
///
/// The line, where it is known, and what is wrong: the text is not YAML.
pub(super) fn parse(yaml: &str) -> Result<Node, (Option<usize>, String)> {
    let room = Room::of(yaml);
    match room.deserialize(serde_yaml::Deserializer::from_str(yaml)) {
        Ok(node) => Ok(node),
        Err(_) if room.is_used_up() => Err((
            None,
            "its aliases (*name) stand for more than 200,000 values or 8 MiB of text; write out what is needed".to_owned(),
        )),
        Err(error) => {
            let line = error.location().map(|location| location.line().max(1));
            let mut message = format!("is not valid YAML: {error}");
            if ["alias", "anchor", "start any token"].iter().any(|word| message.contains(word)) {
                message.push_str("; text that begins with *, &, @ or % goes in quotes");
            }
            Err((line, message))
        }
    }
}

/// Declares a section: its keys are its fields, and every other key is an error.
macro_rules! section {
    (
        $(#[$about:meta])* $name:ident { $($key:ident: $kind:ty),* $(,)? }
    ) => {
        $(#[$about])*
        #[derive(Default)]
        pub(super) struct $name { $(pub(super) $key: Option<$kind>,)* }

        impl Read for $name {
            fn read(node: Node, reader: &mut Reader<'_>) -> Option<Self> {
                const KEYS: &[&str] = &[$(stringify!($key)),*];
                let section = &mut Self::default();
                for (key, value) in reader.entries(node)? {
                    let known = KEYS.contains(&key.as_str());
                    if known && matches!(value, Node::Null) {
                        continue;
                    }
                    reader.within(&key, |reader| match key.as_str() {
                        $(stringify!($key) => section.$key = Read::read(value, reader),)*
                        _ => reader.unknown_key(KEYS),
                    });
                }
                Some(std::mem::take(section))
            }
        }
    };
}

/// What `database` says.
pub(super) struct DatabaseText(pub(super) String);

impl Read for DatabaseText {
    fn read(node: Node, reader: &mut Reader<'_>) -> Option<Self> {
        match node {
            Node::Text(text) => Some(Self(text)),
            // Its parts, as other programs have them, or whatever else.
            other => reader.wrong_kind(
                &other,
                "one URL, such as mysql://user:password@host:3306/shop, or the path of a SQLite file",
            ),
        }
    }
}

/// Any number of things, and attempts, where no smaller bound is natural.
type Count = Whole<1, 1_000_000>;

section! {
    /// The whole file.
    File {
        database: DatabaseText,
        runner: Runner,
        queues: Named<Queue>,
        defaults: Defaults,
        jobs: Named<Entry>,
        command_prefix: Vec<String>,
        retention: Retention,
        hooks: Hooks,
        refresh_cache: RefreshCache,
        lost_orders: LostOrders,
        sessions: Sessions,
        web: Web,
    }
}

section! {
    /// `runner`: this host's share of the work.
    Runner { concurrency: Whole<1, 1024>, max_runtime: Limit, lease: Duration, state_dir: String }
}

section! {
    /// An entry of `queues`.
    Queue { concurrency: Count }
}

section! {
    /// `defaults`: for every definition that does not say otherwise.
    Defaults { timeout: Limit, grace: Duration, max_attempts: Count, backoff: Backoff, output_limit: Size }
}

section! {
    /// The wait between attempts.
    Backoff { initial: Duration, factor: Factor, max: Duration, jitter: Share }
}

section! {
    /// How long ended jobs are kept.
    Retention {
        default: Duration,
        success: Duration,
        failed: Duration,
        cancelled: Duration,
        stale: Duration,
        keep_last: Whole<0, 1_000_000>,
    }
}

section! {
    /// An entry of `jobs` or `depending_jobs`.
    Job {
        label: String,
        desc: String,
        command: CommandLine,
        builtin: Builtin,
        params: Vec<String>,
        depending_jobs: Named<Entry>,
        schedule: String,
        timezone: Zone,
        catch_up: CatchUp,
        starting_deadline: Span,
        overlap: Overlap,
        jitter: Duration,
        queue: String,
        priority: Whole<-100, 100>,
        timeout: Limit,
        grace: Duration,
        max_attempts: Count,
        backoff: Backoff,
        output_limit: Size,
        permanent_exit_codes: Vec<Whole<1, 255>>,
        later_exit_codes: Vec<Whole<1, 255>>,
        on_orphan: OnOrphan,
        env: BTreeMap<String, String>,
        cwd: String,
        enabled: bool,
        unique: Unique,
        concurrency: Count,
        time_before_stale: Span,
        on_success: CommandLine,
        on_failure: CommandLine,
        on_stale: CommandLine,
        targets: Targets,
    }
}

/// A [`Job`], and which keys it was given (`null` is not given).
pub(super) struct Entry {
    pub(super) job: Job,
    pub(super) given: Vec<String>,
}

impl Entry {
    pub(super) fn has(&self, key: &str) -> bool {
        self.given.iter().any(|given| given == key)
    }
}

impl Read for Entry {
    fn read(node: Node, reader: &mut Reader<'_>) -> Option<Self> {
        let given = match &node {
            Node::Null => Vec::new(),
            Node::Map(map) => {
                let set = |(_, value): &&(String, Node)| !matches!(value, Node::Null);
                map.entries.iter().filter(set).map(|(key, _)| key.clone()).collect()
            }
            // Its kind is wrong, which is said once: no need to say too that it has no command.
            _ => vec!["command".to_owned()],
        };
        Some(Self { job: Job::read(node, reader).unwrap_or_default(), given })
    }
}

/// What makes one job for each line that a command prints.
#[derive(Default)]
pub(super) struct Targets {
    pub(super) kind: Option<String>,
    pub(super) command: Option<CommandLine>,
}

// By hand, since one of its keys is a word of the language.
impl Read for Targets {
    fn read(node: Node, reader: &mut Reader<'_>) -> Option<Self> {
        let mut targets = Self::default();
        for (key, value) in reader.entries(node)? {
            reader.within(&key, |reader| match key.as_str() {
                "type" => targets.kind = Read::read(value, reader),
                "command" => targets.command = Read::read(value, reader),
                _ => reader.unknown_key(&["type", "command"]),
            });
        }
        Some(targets)
    }
}

section! {
    /// Commands that are told how a job ended.
    Hooks { on_success: CommandLine, on_failure: CommandLine, on_stale: CommandLine }
}

section! {
    /// A command and how long it may take.
    Step { command: CommandLine, timeout: Limit }
}

section! {
    /// What `refresh-cache` works on.
    RefreshCache { table: TableName, columns: ChangeColumns, batch: Count, processors: Named<Step> }
}

section! {
    /// What a shop calls the columns of content changes.
    ChangeColumns {
        id: ColumnName,
        content_id: ColumnName,
        action: ColumnName,
        triggered_by: ColumnName,
        content_type: ColumnName,
        language: ColumnName,
        attributes: ColumnName,
    }
}

section! {
    /// What `process-lost-orders` works on.
    LostOrders {
        table: TableName,
        columns: OrderColumns,
        states: OrderStates,
        send: Step,
        max_failed: Count,
        backoff: Backoff,
        circuit_breaker: Count,
        concurrency: Whole<1, 64>,
        permanent_exit_codes: Vec<Whole<1, 255>>,
        unavailable_exit_codes: Vec<Whole<1, 255>>,
        on_failed: Step,
    }
}

section! {
    /// What a shop calls the columns of orders.
    OrderColumns { order_id: ColumnName, payload: ColumnName, state: ColumnName, erp_order_id: ColumnName }
}

section! {
    /// What a shop calls the states of an order.
    OrderStates { lost: String, confirmed: String, given_up: String, removed: String }
}

section! {
    /// What `sessions` looks at.
    Sessions { table: TableName, columns: SessionColumns }
}

section! {
    /// What a shop calls the columns of sessions.
    SessionColumns { time: ColumnName }
}

section! {
    /// The web page.
    Web { listen: String, hosts: Vec<String>, users: Vec<WebUser>, trusted_proxy: TrustedProxy }
}

section! {
    /// Somebody who may sign in.
    WebUser { name: String, password_hash: String, role: Role }
}

section! {
    /// A reverse proxy that says who somebody is.
    TrustedProxy { header: String, from: Vec<String>, role: Role, operators: Vec<String> }
}
