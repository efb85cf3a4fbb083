//! From the entries of `jobs` to [`Definitions`]: names, commands, schedules, and who depends on whom.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::definitions::Definitions;
use super::error::{KeyPath, show};
use super::nearest::guess_or_list;
use super::placeholders::{report_in_hooks, report_targetless};
use super::raw::{self, Entry};
use super::read::{Limit, Named, Reader, Whole};
use super::validate::{Defaults, backoff};
use super::values::CommandLine;
use crate::job::{
    Action, Builtin, CatchUp, Definition, Hooks, NAME_RULE, OnOrphan, Overlap, Schedule, Targets, Unique,
    Zone, hook_name, is_valid_name,
};

/// What an entry takes from the rest of the file.
pub(super) struct Inherited<'a> {
    pub(super) folder: &'a Path,
    pub(super) queues: &'a [String],
    pub(super) command_prefix: &'a [String],
    pub(super) hooks: raw::Hooks,
    pub(super) defaults: Defaults,
    /// The commands of the shop that have what they need in the rest of the file.
    pub(super) shop: &'a [Builtin],
}

/// Checks every entry, at any depth.
pub(super) fn definitions(
    jobs: Named<Entry>,
    inherited: &Inherited<'_>,
    reader: &mut Reader<'_>,
) -> Definitions {
    let mut collector = Collector {
        inherited,
        found: Definitions::default(),
        declared_at: HashMap::new(),
        references: Vec::new(),
    };
    reader.within("hooks", |reader| {
        let raw::Hooks { on_success, on_failure, on_stale } = &inherited.hooks;
        report_in_hooks([on_success.as_ref(), on_failure.as_ref(), on_stale.as_ref()], reader);
    });
    reader.within("jobs", |reader| {
        for (name, entry) in jobs.0 {
            reader.within(&name, |reader| collector.declare(&name, entry, None, reader));
        }
    });
    collector.add_undeclared(reader);
    let Collector { found, references, declared_at, .. } = collector;
    report_unknown(&found, &references, reader);
    report_cycles(&found, &references, reader);
    report_targetless(&found, &declared_at, reader);
    found
}

/// A name under `depending_jobs` that stands for what is declared elsewhere.
struct Reference {
    /// Whose dependent it is.
    of: String,
    name: String,
    path: KeyPath,
}

struct Collector<'a> {
    inherited: &'a Inherited<'a>,
    found: Definitions,
    declared_at: HashMap<String, KeyPath>,
    references: Vec<Reference>,
}

impl Collector<'_> {
    /// Takes in the entry `name`, a dependent of `of` unless it stands directly under `jobs`.
    fn declare(&mut self, name: &str, entry: Entry, of: Option<&str>, reader: &mut Reader<'_>) {
        if !is_valid_name(name) {
            reader.problem(format!("`{name}` cannot name a job; expected {NAME_RULE}"));
        }
        match (of, entry.has("command"), entry.has("builtin")) {
            (Some(of), false, false) => return self.refer(name, &entry, of, reader),
            (None, false, false) => reader.problem("does nothing; expected a `command` or a `builtin`"),
            (_, true, true) => reader.problem("has both `command` and `builtin`; keep one of them"),
            _ => {}
        }
        let mut entry = entry;
        let dependents = entry.job.depending_jobs.take().unwrap_or_default().0;
        let own_hooks = [entry.job.on_success.take(), entry.job.on_failure.take(), entry.job.on_stale.take()];
        report_in_hooks(own_hooks.each_ref().map(Option::as_ref), reader);
        let mut definition = definition(name, entry, self.inherited, reader);
        self.check_builtin(&definition, reader);
        self.add_hooks(&mut definition, own_hooks);
        definition.dependents = dependents.iter().map(|(name, _)| name.clone()).collect();
        if let Some(path) = self.declared_at.get(name) {
            let first = show(path);
            reader.problem(format!("a job of this name is already declared at {first}; rename one of them"));
        } else {
            self.declared_at.insert(name.to_owned(), reader.path().to_vec());
            self.found.push(definition);
        }
        reader.within("depending_jobs", |reader| {
            for (dependent, entry) in dependents {
                reader.within(&dependent, |reader| self.declare(&dependent, entry, Some(name), reader));
            }
        });
    }

    /// Commands of the shop need their section, and one definition each: what is one at a time is so by its name.
    fn check_builtin(&self, definition: &Definition, reader: &mut Reader<'_>) {
        let Action::Builtin(builtin) = definition.action else { return };
        if !builtin.is_of_shop() {
            return;
        }
        if !self.inherited.shop.contains(&builtin) {
            let section = match builtin {
                Builtin::RefreshCache => "refresh_cache",
                _ => "lost_orders",
            };
            reader.problem_at(
                "builtin",
                format!("`{}` needs a section `{section}`; add one", builtin.as_str()),
            );
        }
        if let Some(other) = self.found.builtin(builtin) {
            let first = show(self.declared_at.get(&other.name).map_or(&[][..], Vec::as_slice));
            let message = format!("`{}` is already declared at {first}; keep one of them", builtin.as_str());
            reader.problem_at("builtin", message);
        }
    }

    /// Lets the shop's commands be recorded as jobs also where no entry declares them.
    fn add_undeclared(&mut self, reader: &mut Reader<'_>) {
        for builtin in self.inherited.shop {
            let name = builtin.as_str();
            if self.found.builtin(*builtin).is_some() || self.found.get(name).is_some() {
                continue;
            }
            let job = raw::Job { builtin: Some(*builtin), ..raw::Job::default() };
            let entry = Entry { job, given: vec!["builtin".to_owned()] };
            let mut definition = definition(name, entry, self.inherited, reader);
            self.add_hooks(&mut definition, [None, None, None]);
            self.found.push_unlisted(definition);
        }
    }

    fn add_hooks(&mut self, definition: &mut Definition, own: [Option<CommandLine>; 3]) {
        for hook in hooks(own, definition, self.inherited) {
            match hook.name.as_str() {
                name if name.starts_with("on_success") => definition.hooks.success = true,
                name if name.starts_with("on_failure") => definition.hooks.failure = true,
                _ => definition.hooks.stale = true,
            }
            self.found.push_unlisted(hook);
        }
    }

    /// Without a command of its own an entry stands for another one, so it can say nothing else.
    fn refer(&mut self, name: &str, entry: &Entry, of: &str, reader: &mut Reader<'_>) {
        if !entry.given.is_empty() {
            reader.problem(
                "has no `command`, so it stands for a job declared elsewhere and can have no other keys; \
                 give it a `command`, or remove them",
            );
            return;
        }
        let path = reader.path().to_vec();
        self.references.push(Reference { of: of.to_owned(), name: name.to_owned(), path });
    }
}

/// The definition that an entry makes; where something is wrong with it, one that is never used.
fn definition(name: &str, entry: Entry, inherited: &Inherited<'_>, reader: &mut Reader<'_>) -> Definition {
    let schedule = schedule(&entry, reader);
    report_contradictions(&entry, reader);
    let mut entry = entry;
    let targets = targets(entry.job.targets.take(), inherited, reader);
    let job = entry.job;
    let defaults = &inherited.defaults;
    let is_of_shop = job.builtin.is_some_and(Builtin::is_of_shop);
    Definition {
        name: name.to_owned(),
        action: action(job.command, job.builtin, inherited),
        params: job.params.unwrap_or_default(),
        schedule,
        queue: queue(job.queue, inherited, reader),
        priority: job.priority.map_or(0, |Whole(priority)| priority),
        timeout: job.timeout.map_or(defaults.timeout, |Limit(length)| length),
        grace: job.grace.unwrap_or(defaults.grace),
        max_attempts: job
            .max_attempts
            .map_or(if is_of_shop { 1 } else { defaults.max_attempts }, |Whole(count)| count.unsigned_abs()),
        backoff: backoff(job.backoff, defaults.backoff),
        permanent_exit_codes: codes(job.permanent_exit_codes),
        later_exit_codes: codes(job.later_exit_codes),
        on_orphan: job.on_orphan.unwrap_or_default(),
        unique: match job.unique.unwrap_or_default() {
            Unique::Name if targets.is_some() => Unique::Target,
            unique => unique,
        },
        hooks: Hooks::default(),
        time_before_stale: job.time_before_stale.as_ref().map(|span| span.0),
        concurrency: job.concurrency.map(|Whole(count)| count.unsigned_abs()).or(is_of_shop.then_some(1)),
        output_limit: job.output_limit.map_or(defaults.output_limit, |size| size.0),
        env: environment(job.env.unwrap_or_default(), reader),
        cwd: folder(job.cwd, inherited.folder, reader),
        targets,
        enabled: job.enabled.unwrap_or(true),
        label: job.label,
        description: job.desc,
        dependents: Vec::new(),
    }
}

fn codes(raw: Option<Vec<Whole<1, 255>>>) -> Vec<i32> {
    raw.unwrap_or_default().into_iter().map(|code| code.0).collect()
}

fn targets(raw: Option<raw::Targets>, inherited: &Inherited<'_>, reader: &mut Reader<'_>) -> Option<Targets> {
    let raw = raw?;
    let (Some(kind), Some(command)) = (raw.kind, raw.command) else {
        reader.problem_at(
            "targets",
            "lacks a `type` or a `command`; expected {type: Account, command: [bin/list]}",
        );
        return None;
    };
    if kind.trim().is_empty() {
        reader
            .within("targets", |reader| reader.problem_at("type", "is empty; expected one such as Account"));
    }
    match action(Some(command), None, inherited) {
        Action::Command(command) => Some(Targets { kind, command }),
        Action::Builtin(_) => None,
    }
}

/// How long a hook may take.
const HOOK_TIMEOUT: Duration = Duration::from_secs(60);

/// The commands that are told the ends of this definition's jobs: its own, or those of the whole file. Each is a
/// definition of its own, whose jobs go first in the same queue and are tried once.
fn hooks(own: [Option<CommandLine>; 3], of: &Definition, inherited: &Inherited<'_>) -> Vec<Definition> {
    let global = &inherited.hooks;
    let all = [("success", &global.on_success), ("failure", &global.on_failure), ("stale", &global.on_stale)];
    let chosen =
        all.into_iter().zip(own).filter_map(|((event, global), own)| Some((event, own.or(global.clone())?)));
    chosen
        .map(|(event, command)| Definition {
            name: hook_name(event, &of.name),
            label: None,
            description: None,
            action: action(Some(command), None, inherited),
            params: Vec::new(),
            schedule: None,
            priority: 100,
            timeout: Some(HOOK_TIMEOUT),
            max_attempts: 1,
            permanent_exit_codes: Vec::new(),
            later_exit_codes: Vec::new(),
            on_orphan: OnOrphan::Stale,
            unique: Unique::No,
            concurrency: None,
            time_before_stale: None,
            hooks: Hooks::default(),
            targets: None,
            dependents: Vec::new(),
            ..of.clone()
        })
        .collect()
}

pub(super) fn action(
    command: Option<CommandLine>,
    builtin: Option<Builtin>,
    inherited: &Inherited<'_>,
) -> Action {
    match (command, builtin) {
        (Some(CommandLine::Split(words)), _) => Action::Command([inherited.command_prefix, &words].concat()),
        (Some(CommandLine::List(words)), _) => Action::Command(words),
        (None, Some(builtin)) => Action::Builtin(builtin),
        (None, None) => Action::Command(Vec::new()),
    }
}

fn schedule(entry: &Entry, reader: &mut Reader<'_>) -> Option<Schedule> {
    let job = &entry.job;
    let expression = job.schedule.as_ref()?;
    let parsed =
        Schedule::parse(expression, job.timezone.clone().unwrap_or(Zone::UTC)).map_err(|err| err.to_string());
    let parsed = reader.within("schedule", |reader| reader.ok(parsed))?;
    // All of what was missed cannot be made up for if the first of it keeps the others off.
    let is_all = job.catch_up == Some(CatchUp::All) && job.unique.unwrap_or_default() == Unique::No;
    let by_default = if is_all { Overlap::Queue } else { Overlap::default() };
    Some(Schedule {
        catch_up: job.catch_up.unwrap_or_default(),
        starting_deadline: job.starting_deadline.as_ref().map(|span| span.0),
        overlap: job.overlap.unwrap_or(by_default),
        jitter: job.jitter.unwrap_or_default(),
        ..parsed
    })
}

fn report_contradictions(entry: &Entry, reader: &mut Reader<'_>) {
    let report = |reader: &mut Reader<'_>, keys: &[&str], why: &str| {
        for key in keys.iter().filter(|key| entry.has(key)) {
            reader.problem_at(key, format!("has no effect {why}"));
        }
    };
    if !entry.has("schedule") {
        let keys = ["timezone", "catch_up", "starting_deadline", "overlap", "jitter", "targets"];
        report(reader, &keys, "without a `schedule`; add one, or remove it");
    }
    let unique = entry.job.unique.unwrap_or_default();
    if unique != Unique::No
        && let Some(word) = match entry.job.overlap {
            Some(Overlap::Queue) => Some("queue"),
            Some(Overlap::Replace) => Some("replace"),
            _ => None,
        }
    {
        let problem = format!(
            "`{word}` puts a job in while another has not ended, and `unique` refuses it; remove one of the two"
        );
        reader.problem_at("overlap", problem);
    }
    let later = entry.job.later_exit_codes.as_deref().unwrap_or_default();
    let permanent = entry.job.permanent_exit_codes.as_deref().unwrap_or_default();
    if let Some(code) = later.iter().find(|code| permanent.iter().any(|other| other.0 == code.0)) {
        let message = format!("{} is among permanent_exit_codes too; keep it in one of them", code.0);
        reader.problem_at("later_exit_codes", message);
    }
    if entry.has("builtin") && !entry.has("command") {
        report(reader, &["params", "env", "cwd"], "on a `builtin`, which starts no program; remove it");
    }
}

fn queue(name: Option<String>, inherited: &Inherited<'_>, reader: &mut Reader<'_>) -> String {
    let name = name.unwrap_or_else(|| "default".to_owned());
    if !inherited.queues.contains(&name) {
        let known: Vec<&str> = inherited.queues.iter().map(String::as_str).collect();
        let hint = guess_or_list(&name, &known);
        reader.problem_at("queue", format!("no queue `{name}` is declared under `queues`; {hint}"));
    }
    name
}

fn environment(variables: BTreeMap<String, String>, reader: &mut Reader<'_>) -> BTreeMap<String, String> {
    reader.within("env", |reader| {
        for name in variables.keys() {
            if name.is_empty() || name.contains(['=', '\0']) {
                reader.problem_at(name, "cannot name a variable; expected a name without = and NUL");
            } else if name.starts_with("DULY_") {
                reader.problem_at(name, "names that start with DULY_ are set by Duly itself; choose another");
            }
        }
    });
    variables
}

fn folder(cwd: Option<String>, base: &Path, reader: &mut Reader<'_>) -> PathBuf {
    if cwd.as_ref().is_some_and(String::is_empty) {
        reader.problem_at("cwd", "is empty; expected a folder");
    }
    cwd.map_or_else(|| base.to_owned(), |cwd| base.join(cwd))
}

fn report_unknown(found: &Definitions, references: &[Reference], reader: &mut Reader<'_>) {
    for Reference { name, path, .. } in references.iter().filter(|r| found.get(&r.name).is_none()) {
        let hint = found.hint(name);
        let message = format!("has no `command`, and no job declared elsewhere is called `{name}`; {hint}");
        reader.problem_in(path, message);
    }
}

fn report_cycles(found: &Definitions, references: &[Reference], reader: &mut Reader<'_>) {
    for cycle in cycles(found) {
        // Entries form a tree, so what closes a cycle is a reference.
        let closes = |r: &&Reference| cycle.windows(2).any(|pair| pair == [&*r.of, &*r.name]);
        let path = references.iter().find(closes).map_or(&[][..], |reference| &reference.path);
        reader.problem_in(path, format!("each of these waits for the one before: {}", cycle.join(" → ")));
    }
}

/// Cycles among dependents, each from a name back to it: a walk in depth, with a stack of its own since a chain
/// of references may be as long as the file.
fn cycles(found: &Definitions) -> Vec<Vec<&str>> {
    let mut cycles = Vec::new();
    let mut done: HashSet<&str> = HashSet::new();
    for start in found {
        let mut under_way = vec![(start, 0)];
        let mut names = HashSet::from([start.name.as_str()]);
        while let Some((definition, next)) = under_way.last_mut() {
            let dependent = definition.dependents.get(*next).and_then(|name| found.get(name));
            let is_last = *next >= definition.dependents.len();
            *next += 1;
            if is_last || done.contains(definition.name.as_str()) {
                done.insert(&definition.name);
                names.remove(definition.name.as_str());
                under_way.pop();
            } else if let Some(dependent) = dependent {
                if names.insert(&dependent.name) {
                    under_way.push((dependent, 0));
                    continue;
                }
                let from_it = under_way.iter().map(|(definition, _)| definition.name.as_str());
                let mut cycle: Vec<&str> = from_it.skip_while(|name| *name != dependent.name).collect();
                cycle.push(&dependent.name);
                cycles.push(cycle);
            }
        }
    }
    cycles
}
