//! All that is declared, in the order of the file and by name.

use std::collections::{BTreeSet, HashMap};

use super::nearest::nearest;
use crate::job::{Action, Builtin, Definition, fnv1a, is_hook};

/// Names listed at most when none of them is meant.
const LISTED: usize = 10;

/// Definitions in the order of the file (one's depending jobs right after it), found by name.
#[derive(Debug, Default)]
pub struct Definitions {
    list: Vec<Definition>,
    by_name: HashMap<String, usize>,
    /// What is no entry of the file, by the names of its jobs: hooks, and commands of the shop.
    unlisted: HashMap<String, Definition>,
}

impl Definitions {
    /// In the order of the file.
    pub fn iter(&self) -> std::slice::Iter<'_, Definition> {
        self.list.iter()
    }

    /// The one called `name`; also one that is no entry of the file.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Definition> {
        self.by_name.get(name).map(|at| &self.list[*at]).or_else(|| self.unlisted.get(name))
    }

    /// Every name that [`Definitions::get`] knows, in no order.
    pub fn all_names(&self) -> impl Iterator<Item = &str> {
        self.by_name.keys().chain(self.unlisted.keys()).map(String::as_str)
    }

    /// The one that does `builtin`, whatever it is called.
    #[must_use]
    pub fn builtin(&self, builtin: Builtin) -> Option<&Definition> {
        let action = Action::Builtin(builtin);
        self.list.iter().chain(self.unlisted.values()).find(|definition| definition.action == action)
    }

    /// Adds one that is no entry of the file.
    pub(super) fn push_unlisted(&mut self, definition: Definition) {
        self.unlisted.insert(definition.name.clone(), definition);
    }

    /// How many there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether nothing is declared.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Adds one, whose name must be new.
    pub(super) fn push(&mut self, definition: Definition) {
        self.by_name.insert(definition.name.clone(), self.list.len());
        self.list.push(definition);
    }

    /// Whoever asked for `name` may have meant this.
    pub(super) fn hint(&self, name: &str) -> String {
        if self.list.is_empty() {
            return "nothing is declared there".to_owned();
        }
        if let Some(guess) = nearest(name, self.list.iter().map(|definition| definition.name.as_str())) {
            return format!("did you mean `{guess}`?");
        }
        let names: Vec<&str> =
            self.list.iter().take(LISTED).map(|definition| definition.name.as_str()).collect();
        match self.list.len() - names.len() {
            0 => format!("declared are {}", names.join(", ")),
            more => format!("declared are {} and {more} more", names.join(", ")),
        }
    }

    /// A hash over what decides which schedules make jobs and when.
    pub(super) fn schedules_digest(&self) -> String {
        let mut parts: Vec<String> = self
            .list
            .iter()
            .filter(|definition| definition.enabled)
            .filter_map(|definition| {
                let schedule = definition.schedule.as_ref()?;
                let jitter = schedule.jitter.as_nanos();
                Some(format!("{}\0{}\0{jitter}\n", definition.name, schedule.signature()))
            })
            .collect();
        parts.sort_unstable();
        let hash = fnv1a(parts.concat().as_bytes());
        format!("{hash:016x}")
    }
}

impl Definitions {
    /// Every name whose jobs can be executed: entries of the file and commands of the shop, not hooks; in order.
    pub(super) fn names(&self) -> BTreeSet<&str> {
        let all = self.list.iter().chain(self.unlisted.values());
        all.map(|definition| definition.name.as_str()).filter(|name| !is_hook(name)).collect()
    }
}

impl<'a> IntoIterator for &'a Definitions {
    type Item = &'a Definition;
    type IntoIter = std::slice::Iter<'a, Definition>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}
