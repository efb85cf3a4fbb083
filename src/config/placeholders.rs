//! Commands with `{target_id}` or `{target_type}` whose jobs can never have a target: those of a schedule without `targets`, what
//! depends on them, and hooks.

use std::collections::{HashMap, HashSet};

use super::definitions::Definitions;
use super::error::KeyPath;
use super::read::Reader;
use super::values::CommandLine;
use crate::job::{Action, Definition, family, place_in};

/// Of jobs that a schedule makes, and of those that depend on them.
pub(super) fn report_targetless(
    found: &Definitions,
    declared_at: &HashMap<String, KeyPath>,
    reader: &mut Reader<'_>,
) {
    let declared = |name: &str| found.get(name);
    let makes_targetless = |d: &&Definition| d.enabled && d.schedule.is_some() && d.targets.is_none();
    let mut told = HashSet::new();
    for scheduled in found.iter().filter(makes_targetless) {
        for definition in family(&scheduled.name, &declared).into_iter() {
            let Action::Command(argv) = &definition.action else { continue };
            let Some(place) = place_in(argv).filter(|_| told.insert(&definition.name)) else { continue };
            let whose = match scheduled.name == definition.name {
                true => "its schedule".to_owned(),
                false => format!("the schedule of `{}`, which it depends on,", scheduled.name),
            };
            let mut path = declared_at.get(&definition.name).cloned().unwrap_or_default();
            path.push("command".to_owned());
            let why = format!(
                "has `{place}`, and {whose} makes jobs without a target; add `targets` there, or take it out of the command"
            );
            reader.problem_in(&path, why);
        }
    }
}

/// Of commands that are told how a job ended: `on_success`, `on_failure` and `on_stale`.
pub(super) fn report_in_hooks(commands: [Option<&CommandLine>; 3], reader: &mut Reader<'_>) {
    for (key, command) in ["on_success", "on_failure", "on_stale"].into_iter().zip(commands) {
        let Some(CommandLine::Split(words) | CommandLine::List(words)) = command else { continue };
        if let Some(place) = place_in(words) {
            let why =
                format!("has `{place}`, but a hook has no target; what its job has is on its standard input");
            reader.problem_at(key, why);
        }
    }
}
