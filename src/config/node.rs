//! A YAML value as it stands in the file, before anybody asked what it should be.
//!
//! Unlike `serde_yaml::Value` it keeps going at a key that is given twice (remembering it), and merge keys
//! (`<<`) are already applied. Keys are text, in the order of the file.

use std::cell::Cell;
use std::collections::HashSet;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// A YAML value.
#[derive(Clone)]
pub(super) enum Node {
    Null,
    Bool(bool),
    Int(i128),
    Float(f64),
    Text(String),
    List(Vec<Node>),
    Map(Entries),
}

/// What a mapping holds.
#[derive(Clone, Default)]
pub(super) struct Entries {
    /// The first value of each key.
    pub(super) entries: Vec<(String, Node)>,
    /// Keys that were given again.
    pub(super) twice: Vec<String>,
}

impl Node {
    /// What it is, for messages: never its content, which may be secret.
    pub(super) const fn kind(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Bool(_) => "true or false",
            Self::Int(_) | Self::Float(_) => "a number",
            Self::Text(_) => "text",
            Self::List(_) => "a list",
            Self::Map(_) => "a mapping",
        }
    }
}

impl Entries {
    /// Applies `<<`: what the mapping itself says wins, then the earlier of the merged ones.
    fn merge(&mut self, seen: &mut HashSet<String>) {
        let Some(at) = self.entries.iter().position(|(key, node)| key == "<<" && can_be_merged(node)) else {
            return;
        };
        let sources = match self.entries.remove(at).1 {
            Node::List(sources) => sources,
            source => vec![source],
        };
        for source in sources {
            let Node::Map(source) = source else { continue };
            for (key, node) in source.entries {
                if seen.insert(key.clone()) {
                    self.entries.push((key, node));
                }
            }
        }
    }
}

/// Whether it is a mapping or a list of mappings; anything else stays, and is then an unknown key.
fn can_be_merged(node: &Node) -> bool {
    match node {
        Node::Map(_) => true,
        Node::List(items) => items.iter().all(|item| matches!(item, Node::Map(_))),
        Node::Null | Node::Bool(_) | Node::Int(_) | Node::Float(_) | Node::Text(_) => false,
    }
}

/// How much a file may still grow to: aliases can make a small one very large.
pub(super) struct Room(Cell<usize>);

/// What a value counts, as much as so many bytes of text.
const VALUE: usize = 32;

/// What aliases may add to any file: some 200,000 values.
const BY_ALIASES: usize = 8 << 20;

impl Room {
    /// Room for what `yaml` says without aliases, whose values take two bytes of it each at least, and for some aliases.
    pub(super) const fn of(yaml: &str) -> Self {
        Self(Cell::new(VALUE * yaml.len() + BY_ALIASES))
    }

    /// Whether there was not enough.
    pub(super) fn is_used_up(&self) -> bool {
        self.0.get() == 0
    }

    fn take<E: Error>(&self, text: usize) -> Result<(), E> {
        self.0.set(self.0.get().saturating_sub(VALUE + text));
        if self.is_used_up() { Err(E::custom("too large")) } else { Ok(()) }
    }
}

impl<'de> DeserializeSeed<'de> for &Room {
    type Value = Node;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for &Room {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("text, a number, true or false, a list or a mapping (no tags such as `!name`)")
    }

    fn visit_unit<E: Error>(self) -> Result<Node, E> {
        self.take(0)?;
        Ok(Node::Null)
    }

    /// A file without a document.
    fn visit_none<E: Error>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Node, E> {
        self.take(0)?;
        Ok(Node::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Node, E> {
        self.take(0)?;
        Ok(Node::Int(value.into()))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Node, E> {
        self.take(0)?;
        Ok(Node::Int(value.into()))
    }

    fn visit_i128<E: Error>(self, value: i128) -> Result<Node, E> {
        self.take(0)?;
        Ok(Node::Int(value))
    }

    fn visit_u128<E: Error>(self, value: u128) -> Result<Node, E> {
        self.take(0)?;
        Ok(i128::try_from(value).map_or_else(|_| Node::Text(value.to_string()), Node::Int))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Node, E> {
        self.take(0)?;
        Ok(Node::Float(value))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Node, E> {
        self.take(value.len())?;
        Ok(Node::Text(value.to_owned()))
    }

    fn visit_string<E: Error>(self, value: String) -> Result<Node, E> {
        self.take(value.len())?;
        Ok(Node::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Node, A::Error> {
        self.take(0)?;
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(self)? {
            list.push(item);
        }
        Ok(Node::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        self.take(0)?;
        let mut entries = Entries::default();
        let mut seen = HashSet::new();
        while let Some(key) = map.next_key::<String>()? {
            self.take(key.len())?;
            let node = map.next_value_seed(self)?;
            if seen.insert(key.clone()) {
                entries.entries.push((key, node));
            } else {
                entries.twice.push(key);
            }
        }
        entries.merge(&mut seen);
        Ok(Node::Map(entries))
    }
}
