//! The forms of single values in jobs.yaml: command lines, sizes, shares, time zones and the words of `job`.

use super::node::Node;
use super::read::{Read, Reader, number};
use super::tzdata;
use super::web::Role;
use super::zone_hint::unknown_zone;
use crate::job::{Builtin, CatchUp, OnOrphan, Overlap, Unique, Zone};

/// A command: text is split as a shell splits words, a list is taken as it is. Never empty.
#[derive(Clone)]
pub(super) enum CommandLine {
    Split(Vec<String>),
    List(Vec<String>),
}

impl Read for CommandLine {
    fn read(node: Node, reader: &mut Reader<'_>) -> Option<Self> {
        let (words, is_list) = match node {
            Node::List(_) => (Vec::read(node, reader)?, true),
            Node::Null | Node::Map(_) => return reader.wrong_kind(&node, "text or a list of words"),
            scalar => {
                let text = String::read(scalar, reader)?;
                let words =
                    shell_words::split(&text).map_err(|err| format!("cannot be split into words: {err}"));
                (reader.ok(words)?, false)
            }
        };
        if words.first().is_none_or(String::is_empty) {
            reader.problem("names no program; expected one such as [php, bin/console, app:import]");
            return None;
        }
        Some(if is_list { Self::List(words) } else { Self::Split(words) })
    }
}

/// A number of bytes, 1 KiB to 64 MiB.
pub(super) struct Size(pub(super) u64);

impl Read for Size {
    fn read(node: Node, reader: &mut Reader<'_>) -> Option<Self> {
        let text = match node {
            Node::Int(bytes) => bytes.to_string(),
            node => String::read(node, reader)?,
        };
        let bytes = reader.ok(parse_size(&text))?;
        if !(1 << 10..=64 << 20).contains(&bytes) {
            reader.problem(format!("`{text}` is out of bounds; expected 1KiB to 64MiB"));
            return None;
        }
        Some(Self(bytes))
    }
}

/// Reads `1MiB`, `64 KiB`, `500kB` or plain bytes.
fn parse_size(text: &str) -> Result<u64, String> {
    let explain = || format!("`{text}` is not a size; expected one such as 1MiB, 64 KiB, 500kB or 65536");
    let trimmed = text.trim();
    let (digits, unit) =
        trimmed.split_at(trimmed.find(|c: char| !c.is_ascii_digit()).unwrap_or(trimmed.len()));
    let factor = match unit.trim_start().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kb" => 1000,
        "kib" => 1 << 10,
        "mb" => 1_000_000,
        "mib" => 1 << 20,
        _ => return Err(explain()),
    };
    digits.parse::<u64>().ok().and_then(|count| count.checked_mul(factor)).ok_or_else(explain)
}

/// A growth, at least 1.
pub(super) struct Factor(pub(super) f64);

impl Read for Factor {
    fn read(node: Node, reader: &mut Reader<'_>) -> Option<Self> {
        number(&node, reader, 1.0, f64::INFINITY).map(Self)
    }
}

/// A share, 0 to 1.
pub(super) struct Share(pub(super) f64);

impl Read for Share {
    fn read(node: Node, reader: &mut Reader<'_>) -> Option<Self> {
        number(&node, reader, 0.0, 1.0).map(Self)
    }
}

impl Read for Unique {
    fn read(node: Node, reader: &mut Reader<'_>) -> Option<Self> {
        reader.choice(node, &[("true", Self::Name), ("false", Self::No), ("args", Self::Args)])
    }
}

impl Read for CatchUp {
    fn read(node: Node, reader: &mut Reader<'_>) -> Option<Self> {
        reader.choice(node, &[("latest", Self::Latest), ("all", Self::All), ("none", Self::None)])
    }
}

impl Read for Overlap {
    fn read(node: Node, reader: &mut Reader<'_>) -> Option<Self> {
        reader.choice(
            node,
            &[
                ("skip", Self::Skip),
                ("queue", Self::Queue),
                ("allow", Self::Allow),
                ("replace", Self::Replace),
            ],
        )
    }
}

impl Read for OnOrphan {
    fn read(node: Node, reader: &mut Reader<'_>) -> Option<Self> {
        reader.choice(node, &[("retry", Self::Retry), ("stale", Self::Stale)])
    }
}

impl Read for Role {
    fn read(node: Node, reader: &mut Reader<'_>) -> Option<Self> {
        reader.choice(node, &[("viewer", Self::Viewer), ("operator", Self::Operator)])
    }
}

impl Read for Builtin {
    fn read(node: Node, reader: &mut Reader<'_>) -> Option<Self> {
        let all = [Self::CleanUp, Self::RefreshCache, Self::ProcessLostOrders, Self::SessionsWriteStat];
        reader.choice(node, &all.map(|builtin| (builtin.as_str(), builtin)))
    }
}

/// The name of a column of the shop's.
pub(super) struct ColumnName(pub(super) String);

impl Read for ColumnName {
    fn read(node: Node, reader: &mut Reader<'_>) -> Option<Self> {
        let name = String::read(node, reader)?;
        if !is_identifier(&name) {
            reader.problem(format!("`{name}` cannot name a column; expected 1 to 64 letters, digits, _ $ -"));
            return None;
        }
        Some(Self(name))
    }
}

/// The name of a table of the shop's, perhaps with its schema's before it: `shop.orders`.
pub(super) struct TableName(pub(super) String);

impl Read for TableName {
    fn read(node: Node, reader: &mut Reader<'_>) -> Option<Self> {
        let name = String::read(node, reader)?;
        let mut parts = name.split('.');
        if !parts.all(is_identifier) || name.split('.').count() > 2 {
            reader.problem(format!(
                "`{name}` cannot name a table; expected 1 to 64 letters, digits, _ $ -, as in orders or shop.orders"
            ));
        }
        // Given, though wrong: nothing else is said of what only makes sense beside it.
        Some(Self(name))
    }
}

/// What can be quoted and stand in a statement: nothing that ends a quotation, and no placeholder.
fn is_identifier(name: &str) -> bool {
    (1..=64).contains(&name.chars().count())
        && name.chars().all(|c| c.is_alphanumeric() || ['_', '$', '-'].contains(&c))
}

impl Read for Zone {
    fn read(node: Node, reader: &mut Reader<'_>) -> Option<Self> {
        let name = String::read(node, reader)?;
        reader.ok(tzdata::zone(&name).ok_or_else(|| unknown_zone(&name, &Zone::names())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_read_with_and_without_a_unit() {
        for (text, bytes) in [
            ("1MiB", 1 << 20),
            ("64 KiB", 65_536),
            ("500kB", 500_000),
            ("65536", 65_536),
            (" 2 mb ", 2_000_000),
            ("10 B", 10),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn what_is_no_size_is_refused_with_examples() {
        for bad in ["", "MiB", "1.5MiB", "-1", "1GiB", "1 M", "99999999999999999999", "99999999999999999MiB"]
        {
            assert!(parse_size(bad).unwrap_err().contains("64 KiB"), "{bad}");
        }
    }
}
