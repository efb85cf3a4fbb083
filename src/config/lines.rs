//! Where in jobs.yaml a key stands, and a scalar as it was written.
//!
//! A second reading of the text, by events that carry positions. It is only done when there is a problem to
//! report or a number is used as text: a tick with nothing to say does not pay for it. Aliases and merge keys
//! lead to where their content was written.

use std::collections::BTreeMap;

use saphyr_parser::{Event, Parser};

use super::error::KeyPath;

/// Every key path of a file.
pub(super) struct Places {
    places: BTreeMap<KeyPath, Place>,
}

#[derive(Clone)]
struct Place {
    line: usize,
    /// Where the same key was given a second time.
    again: Option<usize>,
    /// The scalar, as it was written.
    text: Option<String>,
}

impl Places {
    /// Finds the places of `yaml`, up to its first syntax error.
    pub(super) fn of(yaml: &str) -> Self {
        let mut walk = Walk::default();
        let mut parser = Parser::new_from_str(yaml);
        while let Some(Ok((event, span))) = parser.next_event() {
            walk.take(event, span.start.line());
        }
        walk.apply_merges();
        Self { places: walk.places }
    }

    /// The line of `path`, or of what of it is nearest to the root.
    pub(super) fn line(&self, path: &[String], again: bool) -> usize {
        (1..=path.len())
            .rev()
            .find_map(|length| self.places.get(&path[..length]))
            .map_or(1, |place| place.again.filter(|_| again).unwrap_or(place.line))
    }

    /// The scalar at `path` as it was written: `1.10`, not 1.1.
    pub(super) fn text(&self, path: &[String]) -> Option<&str> {
        self.places.get(path)?.text.as_deref()
    }
}

/// What the walk is inside of.
enum Inside {
    /// A mapping; whether its next node is a value.
    Map { value_next: bool },
    /// A list, and the number of its next item.
    List { next: usize },
}

#[derive(Default)]
struct Walk {
    places: BTreeMap<KeyPath, Place>,
    anchors: BTreeMap<usize, KeyPath>,
    inside: Vec<Inside>,
    path: KeyPath,
}

impl Walk {
    fn take(&mut self, event: Event<'_>, line: usize) {
        match event {
            Event::Scalar(text, _, anchor, _) => {
                if self.takes_as_key(&text, line) {
                    return;
                }
                self.begin(line, anchor);
                if let Some(place) = self.places.get_mut(&self.path) {
                    place.text = Some(text.into_owned());
                }
                self.end();
            }
            Event::Alias(anchor) => {
                if self.takes_as_key("*", line) {
                    return;
                }
                self.begin(line, 0);
                self.copy(anchor);
                self.end();
            }
            Event::SequenceStart(anchor, _) => {
                if !self.takes_as_key("?", line) {
                    self.begin(line, anchor);
                }
                self.inside.push(Inside::List { next: 0 });
            }
            Event::MappingStart(anchor, _) => {
                if !self.takes_as_key("?", line) {
                    self.begin(line, anchor);
                }
                self.inside.push(Inside::Map { value_next: false });
            }
            Event::SequenceEnd | Event::MappingEnd => {
                self.inside.pop();
                self.end();
            }
            Event::Nothing
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(_)
            | Event::DocumentEnd => {}
        }
    }

    /// Whether the node is a key; then its value comes next.
    fn takes_as_key(&mut self, key: &str, line: usize) -> bool {
        let Some(Inside::Map { value_next: value_next @ false }) = self.inside.last_mut() else {
            return false;
        };
        *value_next = true;
        self.path.push(key.to_owned());
        if let Some(place) = self.places.get_mut(&self.path) {
            place.again = Some(line);
            // What is below does not count, so it goes where nobody looks.
            self.path.pop();
            self.path.push("\0".to_owned());
        } else {
            self.places.insert(self.path.clone(), Place { line, again: None, text: None });
        }
        true
    }

    fn begin(&mut self, line: usize, anchor: usize) {
        if let Some(Inside::List { next }) = self.inside.last() {
            self.path.push(format!("[{next}]"));
            self.places.entry(self.path.clone()).or_insert(Place { line, again: None, text: None });
        }
        if anchor != 0 {
            self.anchors.insert(anchor, self.path.clone());
        }
    }

    fn end(&mut self) {
        match self.inside.last_mut() {
            Some(Inside::Map { value_next }) => *value_next = false,
            Some(Inside::List { next }) => *next += 1,
            None => return,
        }
        self.path.pop();
    }

    /// What lies under an anchor lies under its alias too.
    fn copy(&mut self, anchor: usize) {
        let Some(origin) = self.anchors.get(&anchor) else { return };
        let copies: Vec<(KeyPath, Place)> = self
            .places
            .range(origin.clone()..)
            .take_while(|(path, _)| path.starts_with(origin))
            .map(|(path, place)| ([&self.path[..], &path[origin.len()..]].concat(), place.clone()))
            .collect();
        for (path, place) in copies {
            let text = place.text.clone();
            self.places.entry(path).or_insert(place).text = text;
        }
    }

    /// What lies under `<<` lies in the mapping itself, unless that says otherwise.
    fn apply_merges(&mut self) {
        let merged: Vec<(KeyPath, Place)> = self
            .places
            .iter()
            .filter(|(path, _)| path.iter().any(|key| key == "<<"))
            .map(|(path, place)| (without_merges(path), place.clone()))
            .collect();
        for (path, place) in merged {
            self.places.entry(path).or_insert(place);
        }
    }
}

/// `a.<<[0].b` is `a.b`.
fn without_merges(path: &[String]) -> KeyPath {
    let mut kept = KeyPath::new();
    let mut after_merge = false;
    for key in path {
        let skipped = key == "<<" || (after_merge && key.starts_with('['));
        after_merge = key == "<<";
        if !skipped {
            kept.push(key.clone());
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(yaml: &str, path: &str) -> usize {
        let path: KeyPath = path.split_whitespace().map(str::to_owned).collect();
        Places::of(yaml).line(&path, false)
    }

    #[test]
    fn a_key_is_found_at_its_line_and_a_missing_one_at_its_nearest_parents() {
        let yaml =
            "\n# a comment\njobs:\n  a:\n    params: [x,\n      y]\n  b: {command: x,\n    env: {A: b}}\n";
        for (path, expected) in [
            ("jobs", 3),
            ("jobs a", 4),
            ("jobs a params", 5),
            ("jobs a params [1]", 6),
            ("jobs a timeout", 4),
            ("jobs b env A", 8),
            ("jobs c d", 3),
            ("nothing", 1),
        ] {
            assert_eq!(line(yaml, path), expected, "{path}");
        }
    }

    #[test]
    fn what_is_merged_is_found_where_it_was_written() {
        let yaml = "a: &a\n  x: 1.10\n  y: {z: 2}\nb:\n  <<: *a\n  y: 3\nc: *a\nd:\n  <<: [*a]\n";
        assert_eq!(line(yaml, "b x"), 2);
        assert_eq!(line(yaml, "b y"), 6);
        assert_eq!(line(yaml, "c"), 7);
        assert_eq!(line(yaml, "c y z"), 3);
        assert_eq!(line(yaml, "d y z"), 3);
        assert_eq!(Places::of(yaml).text(&["b".to_owned(), "x".to_owned()]), Some("1.10"));
    }

    #[test]
    fn the_second_of_two_equal_keys_has_a_line_of_its_own() {
        let places = Places::of("a: 1\nb: 2\na: 3\n");
        let path = ["a".to_owned()];
        assert_eq!((places.line(&path, false), places.line(&path, true)), (1, 3));
        assert_eq!(places.text(&path), Some("1"));
    }
}
