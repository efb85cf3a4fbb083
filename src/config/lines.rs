//! Where in jobs.yaml a key stands, and a scalar as it was written.
//!
//! A second reading of the text, by events that carry positions. It is only done when there is a problem to
//! report or a number is used as text: a tick with nothing to say does not pay for it. Aliases and merge keys
//! lead to where their content was written.

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use saphyr_parser::{Event, Parser};

/// Every key of a file.
pub(super) struct Places {
    root: Rc<Content>,
}

/// What a key or an item holds. Aliases share it, so that all places together are no larger than the file.
#[derive(Default)]
struct Content {
    /// The scalar, as it was written.
    text: Option<String>,
    below: BTreeMap<String, Place>,
}

#[derive(Clone)]
struct Place {
    line: usize,
    /// Where the same key was given a second time.
    again: Option<usize>,
    content: Rc<Content>,
}

impl Places {
    /// Finds the places of `yaml`, up to its first syntax error.
    pub(super) fn of(yaml: &str) -> Self {
        let mut walk = Walk { inside: vec![Inside::new(Form::Document, 0, 1)], ..Walk::default() };
        let mut parser = Parser::new_from_str(yaml);
        while let Some(Ok((event, span))) = parser.next_event() {
            walk.take(event, span.start.line());
        }
        Self { root: walk.finish() }
    }

    /// The line of `path`, or of what of it is nearest to the root.
    pub(super) fn line(&self, path: &[String], again: bool) -> usize {
        let mut content = &self.root;
        let mut line = 1;
        for (at, key) in path.iter().enumerate() {
            let Some(place) = content.below.get(key) else { break };
            let is_last = at + 1 == path.len();
            line = place.again.filter(|_| again && is_last).unwrap_or(place.line);
            content = &place.content;
        }
        line
    }

    /// The scalar at `path` as it was written: `1.10`, not 1.1.
    pub(super) fn text(&self, path: &[String]) -> Option<&str> {
        let mut content = &self.root;
        for key in path {
            content = &content.below.get(key)?.content;
        }
        content.text.as_deref()
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Document,
    Map,
    List,
}

/// What the walk is inside of.
struct Inside {
    form: Form,
    anchor: usize,
    content: Content,
    /// The key, and its line, whose value comes next.
    key: Option<(String, usize)>,
    /// Where it began.
    line: usize,
}

impl Inside {
    fn new(form: Form, anchor: usize, line: usize) -> Self {
        Self { form, anchor, content: Content::default(), key: None, line }
    }

    /// Takes in a node that is complete: a key, or what stands under one.
    fn add(&mut self, content: &Rc<Content>, line: usize) {
        let (key, line) = match self.form {
            Form::Document => {
                self.content.text.clone_from(&content.text);
                self.content.below.clone_from(&content.below);
                return;
            }
            Form::List => (format!("[{}]", self.content.below.len()), line),
            Form::Map => match self.key.take() {
                Some(key) => key,
                None => {
                    // A list or mapping is no key of ours.
                    self.key = Some((content.text.clone().unwrap_or_else(|| "?".to_owned()), line));
                    return;
                }
            },
        };
        match self.content.below.get_mut(&key) {
            Some(place) => place.again = Some(line),
            None => {
                let place = Place { line, again: None, content: Rc::clone(content) };
                self.content.below.insert(key, place);
            }
        }
    }

    /// What lies under `<<` lies in the mapping itself, unless that says otherwise.
    fn complete(mut self) -> Rc<Content> {
        if let Some(merged) = self.content.below.get("<<").map(|place| Rc::clone(&place.content)) {
            let is_list = merged.below.keys().any(|key| key.starts_with('['));
            let sources: Vec<Rc<Content>> = match is_list {
                true => (0..)
                    .map_while(|at| merged.below.get(&format!("[{at}]")))
                    .map(|place| Rc::clone(&place.content))
                    .collect(),
                false => vec![merged],
            };
            for (key, place) in sources.iter().flat_map(|source| &source.below) {
                self.content.below.entry(key.clone()).or_insert_with(|| place.clone());
            }
        }
        Rc::new(self.content)
    }
}

#[derive(Default)]
struct Walk {
    anchors: HashMap<usize, Rc<Content>>,
    inside: Vec<Inside>,
}

impl Walk {
    fn take(&mut self, event: Event<'_>, line: usize) {
        match event {
            Event::Scalar(text, _, anchor, _) => {
                let content = Content { text: Some(text.into_owned()), below: BTreeMap::new() };
                self.add(&Rc::new(content), anchor, line);
            }
            Event::Alias(anchor) => {
                let content = self.anchors.get(&anchor).map_or_else(Rc::default, Rc::clone);
                self.add(&content, 0, line);
            }
            Event::SequenceStart(anchor, _) => self.inside.push(Inside::new(Form::List, anchor, line)),
            Event::MappingStart(anchor, _) => self.inside.push(Inside::new(Form::Map, anchor, line)),
            Event::SequenceEnd | Event::MappingEnd => self.leave(),
            Event::Nothing
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(_)
            | Event::DocumentEnd => {}
        }
    }

    fn add(&mut self, content: &Rc<Content>, anchor: usize, line: usize) {
        if anchor != 0 {
            self.anchors.insert(anchor, Rc::clone(content));
        }
        if let Some(inside) = self.inside.last_mut() {
            inside.add(content, line);
        }
    }

    fn leave(&mut self) {
        let Some(inside) = self.inside.pop() else { return };
        let (anchor, line) = (inside.anchor, inside.line);
        self.add(&inside.complete(), anchor, line);
    }

    /// Everything, also where the text broke off.
    fn finish(mut self) -> Rc<Content> {
        while self.inside.len() > 1 {
            self.leave();
        }
        self.inside.pop().map_or_else(Rc::default, Inside::complete)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(yaml: &str, path: &str) -> usize {
        let path: Vec<String> = path.split_whitespace().map(str::to_owned).collect();
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
