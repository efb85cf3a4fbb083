//! From YAML values to typed ones, collecting every problem on the way.
//!
//! A value that cannot be read becomes a problem at its key path and an absent value; what stands beside it
//! is still read. `null` is the same as leaving a key out.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::time::Duration;

use super::error::{KeyPath, Problem};
use super::lines::Places;
use super::nearest::guess_or_list;
use super::node::Node;
use crate::job::duration;

/// A type that can be read from a YAML value.
pub(super) trait Read: Sized {
    /// Reads it; `None` when a problem was reported.
    fn read(node: Node, reader: &mut Reader<'_>) -> Option<Self>;
}

/// Where in the file the reading is, and what was wrong so far.
pub(super) struct Reader<'a> {
    yaml: &'a str,
    places: OnceCell<Places>,
    path: KeyPath,
    problems: Vec<Problem>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(yaml: &'a str) -> Self {
        Self { yaml, places: OnceCell::new(), path: KeyPath::new(), problems: Vec::new() }
    }

    /// Does `work` inside of `key`.
    pub(super) fn within<T>(&mut self, key: &str, work: impl FnOnce(&mut Self) -> T) -> T {
        self.path.push(key.to_owned());
        let result = work(self);
        self.path.pop();
        result
    }

    /// Says that something is wrong here.
    pub(super) fn problem(&mut self, message: impl Into<String>) {
        self.problems.push(Problem { path: self.path.clone(), message: message.into(), again: false });
    }

    /// Says that something is wrong at `key` in here.
    pub(super) fn problem_at(&mut self, key: &str, message: impl Into<String>) {
        self.within(key, |reader| reader.problem(message));
    }

    /// Says that something is wrong at `path`, wherever the reading is.
    pub(super) fn problem_in(&mut self, path: &[String], message: String) {
        self.problems.push(Problem { path: path.to_vec(), message, again: false });
    }

    /// Where the reading is.
    pub(super) fn path(&self) -> &[String] {
        &self.path
    }

    /// Says that here is something of the wrong kind.
    pub(super) fn wrong_kind<T>(&mut self, found: &Node, expected: &str) -> Option<T> {
        self.problem(format!("found {}, expected {expected}", found.kind()));
        None
    }

    /// Says that a section has no such key.
    pub(super) fn unknown_key(&mut self, known: &[&str]) {
        let key = self.path.last().map_or("", String::as_str);
        self.problem(if key == "<<" {
            "only a mapping can be merged; expected an alias such as *name".to_owned()
        } else {
            format!("unknown key; {}", guess_or_list(key, known))
        });
    }

    /// What a mapping holds; keys that were given twice are reported.
    pub(super) fn entries(&mut self, node: Node) -> Option<Vec<(String, Node)>> {
        let map = match node {
            Node::Null => return Some(Vec::new()),
            Node::Map(map) => map,
            other => return self.wrong_kind(&other, "a mapping (key: value)"),
        };
        for key in map.twice {
            let path = [&self.path[..], &[key]].concat();
            let message = "is given twice; keep one of them".to_owned();
            self.problems.push(Problem { path, message, again: true });
        }
        Some(map.entries)
    }

    /// One of a few words.
    pub(super) fn choice<T: Copy>(&mut self, node: Node, choices: &[(&str, T)]) -> Option<T> {
        let word = match node {
            Node::Bool(value) => value.to_string(),
            node => String::read(node, self)?,
        };
        let chosen = choices.iter().find(|(name, _)| *name == word);
        if chosen.is_none() {
            let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
            self.problem(format!("`{word}` is not one of {}", names.join(", ")));
        }
        chosen.map(|(_, value)| *value)
    }

    /// Reports the error of a parser, if it is one.
    pub(super) fn ok<T>(&mut self, result: Result<T, String>) -> Option<T> {
        result.map_err(|message| self.problem(message)).ok()
    }

    /// Every problem as a line of text, in the order of the file.
    pub(super) fn finish(mut self, file: &str) -> Vec<String> {
        let problems = std::mem::take(&mut self.problems);
        if problems.is_empty() {
            return Vec::new();
        }
        let places = self.places();
        let mut lines: Vec<(usize, Problem)> =
            problems.into_iter().map(|p| (places.line(&p.path, p.again), p)).collect();
        lines.sort_by_key(|(line, _)| *line);
        lines.iter().map(|(line, problem)| format!("{file}:{line}: {}", problem.describe())).collect()
    }

    fn places(&self) -> &Places {
        self.places.get_or_init(|| Places::of(self.yaml))
    }
}

/// Text, or the text of a number or truth value as it was written: 1.10 is not 1.1.
impl Read for String {
    fn read(node: Node, reader: &mut Reader<'_>) -> Option<Self> {
        let plain = match node {
            Node::Text(text) if text.contains('\0') => {
                reader.problem("holds a NUL byte, which no program can be given; remove it");
                return None;
            }
            Node::Text(text) => return Some(text),
            Node::Bool(value) => value.to_string(),
            Node::Int(value) => value.to_string(),
            Node::Float(value) => value.to_string(),
            Node::Null | Node::List(_) | Node::Map(_) => return reader.wrong_kind(&node, "text"),
        };
        Some(reader.places().text(&reader.path).map_or(plain, str::to_owned))
    }
}

impl Read for bool {
    fn read(node: Node, reader: &mut Reader<'_>) -> Option<Self> {
        match node {
            Node::Bool(value) => Some(value),
            other => reader.wrong_kind(&other, "true or false"),
        }
    }
}

impl<T: Read> Read for Vec<T> {
    fn read(node: Node, reader: &mut Reader<'_>) -> Option<Self> {
        let Node::List(items) = node else { return reader.wrong_kind(&node, "a list") };
        let count = items.len();
        let read: Self = items
            .into_iter()
            .enumerate()
            .filter_map(|(at, item)| reader.within(&format!("[{at}]"), |reader| T::read(item, reader)))
            .collect();
        (read.len() == count).then_some(read)
    }
}

/// A mapping from free names, in the order of the file. An entry that is wrong is left out of it.
pub(super) struct Named<T>(pub(super) Vec<(String, T)>);

impl<T> Default for Named<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: Read> Read for Named<T> {
    fn read(node: Node, reader: &mut Reader<'_>) -> Option<Self> {
        let mut named = Vec::new();
        for (name, node) in reader.entries(node)? {
            if let Some(value) = reader.within(&name, |reader| T::read(node, reader)) {
                named.push((name, value));
            }
        }
        Some(Self(named))
    }
}

impl<T: Read> Read for BTreeMap<String, T> {
    fn read(node: Node, reader: &mut Reader<'_>) -> Option<Self> {
        Named::read(node, reader).map(|named| named.0.into_iter().collect())
    }
}

impl Read for Duration {
    fn read(node: Node, reader: &mut Reader<'_>) -> Option<Self> {
        let text = String::read(node, reader)?;
        reader.ok(duration::parse(&text))
    }
}

/// A length of time above zero.
pub(super) struct Span(pub(super) Duration);

impl Read for Span {
    fn read(node: Node, reader: &mut Reader<'_>) -> Option<Self> {
        let length = Duration::read(node, reader)?;
        if length.is_zero() {
            reader.problem("must be longer than zero");
            return None;
        }
        Some(Self(length))
    }
}

/// A length of time above zero, or `none`.
pub(super) struct Limit(pub(super) Option<Duration>);

impl Read for Limit {
    fn read(node: Node, reader: &mut Reader<'_>) -> Option<Self> {
        if matches!(&node, Node::Text(text) if text == "none") {
            return Some(Self(None));
        }
        let length = Duration::read(node, reader)?;
        if length.is_zero() {
            reader.problem("must be longer than zero; `none` is without a limit");
            return None;
        }
        Some(Self(Some(length)))
    }
}

/// A whole number within bounds.
pub(super) struct Whole<const MIN: i32, const MAX: i32>(pub(super) i32);

impl<const MIN: i32, const MAX: i32> Read for Whole<MIN, MAX> {
    fn read(node: Node, reader: &mut Reader<'_>) -> Option<Self> {
        let expected = format!("a whole number from {MIN} to {MAX}");
        let Node::Int(found) = node else { return reader.wrong_kind(&node, &expected) };
        let number = i32::try_from(found).ok().filter(|number| (MIN..=MAX).contains(number));
        if number.is_none() {
            reader.problem(format!("found {found}, expected {expected}"));
        }
        number.map(Self)
    }
}

/// A number within bounds, both included.
pub(super) fn number(node: &Node, reader: &mut Reader<'_>, min: f64, max: f64) -> Option<f64> {
    let expected = if max.is_finite() {
        format!("a number from {min} to {max}")
    } else {
        format!("a number of at least {min}")
    };
    let found = match node {
        #[expect(clippy::cast_precision_loss, reason = "a number that large is out of bounds either way")]
        Node::Int(value) => *value as f64,
        Node::Float(value) => *value,
        other => return reader.wrong_kind(other, &expected),
    };
    if !found.is_finite() || found < min || found > max {
        reader.problem(format!("found {found}, expected {expected}"));
        return None;
    }
    Some(found)
}
