//! A statement: SQL text with `?` for each value, the same for both kinds of database.
//!
//! SQLite gets the values apart and keeps the prepared form by its text; a server gets one text with literals, which is one round
//! trip and needs nothing kept. `?` may not stand inside a literal of the text.

use std::borrow::Cow;

use chrono::{DateTime, Utc};
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::sql_types::{BigInt, Binary, Nullable, Text, Untyped};
use diesel::sqlite::Sqlite;
use diesel::{QueryResult, RunQueryDsl};

use super::error::Error;

/// A value of a statement.
#[derive(Debug, Clone)]
pub enum Value {
    /// A whole number, or `NULL`.
    Int(Option<i64>),
    /// A text, or `NULL`.
    Text(Option<String>),
    /// Bytes that are no text.
    Bytes(Vec<u8>),
}

/// Bytes that a character takes in a statement for a server.
pub(crate) const fn literal_size(character: char) -> usize {
    if matches!(character, '\'' | '\\') { 2 } else { character.len_utf8() }
}

impl From<&[u8]> for Value {
    fn from(value: &[u8]) -> Self {
        Self::Bytes(value.to_vec())
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Int(Some(value))
    }
}

impl From<Option<i64>> for Value {
    fn from(value: Option<i64>) -> Self {
        Self::Int(value)
    }
}

impl From<i32> for Value {
    fn from(value: i32) -> Self {
        Self::Int(Some(value.into()))
    }
}

impl From<Option<i32>> for Value {
    fn from(value: Option<i32>) -> Self {
        Self::Int(value.map(i64::from))
    }
}

impl From<u32> for Value {
    fn from(value: u32) -> Self {
        Self::Int(Some(value.into()))
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::Text(Some(value.to_owned()))
    }
}

impl From<String> for Value {
    fn from(value: String) -> Self {
        Self::Text(Some(value))
    }
}

impl From<&String> for Value {
    fn from(value: &String) -> Self {
        Self::Text(Some(value.clone()))
    }
}

impl From<Option<&str>> for Value {
    fn from(value: Option<&str>) -> Self {
        Self::Text(value.map(str::to_owned))
    }
}

impl From<Option<String>> for Value {
    fn from(value: Option<String>) -> Self {
        Self::Text(value)
    }
}

/// Microseconds always, so that texts compare as the times do.
pub(crate) fn time_text(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%M:%S%.6f").to_string()
}

impl From<DateTime<Utc>> for Value {
    fn from(value: DateTime<Utc>) -> Self {
        Self::Text(Some(time_text(value)))
    }
}

impl From<Option<DateTime<Utc>>> for Value {
    fn from(value: Option<DateTime<Utc>>) -> Self {
        Self::Text(value.map(time_text))
    }
}

/// A statement under construction.
#[derive(Debug, Clone)]
pub struct Sql {
    text: String,
    values: Vec<Value>,
    cached: bool,
}

impl Sql {
    /// A statement that is prepared once per connection.
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), values: Vec::new(), cached: true }
    }

    /// A statement whose text differs from time to time, so that keeping it prepared would only fill memory.
    pub fn once(text: impl Into<String>) -> Self {
        Self { text: text.into(), values: Vec::new(), cached: false }
    }

    /// A statement over `count` things: kept prepared for the sizes that come often, so that their number stays small.
    pub fn sized(text: impl Into<String>, count: usize) -> Self {
        if count.is_power_of_two() { Self::new(text) } else { Self::once(text) }
    }

    /// The values of a list of [`id_marks`]. Its prepared form is kept for the sizes that come often.
    #[must_use]
    pub fn bind_ids(mut self, ids: &[i64]) -> Self {
        self.cached &= ids.len().is_power_of_two();
        let none: &[i64] = if ids.is_empty() { &[0] } else { &[] };
        self.bind_all(ids.iter().chain(none).copied())
    }

    /// The value of the next `?`.
    #[must_use]
    pub fn bind(mut self, value: impl Into<Value>) -> Self {
        self.values.push(value.into());
        self
    }

    /// The values of the next `?`s.
    #[must_use]
    pub fn bind_all<V: Into<Value>>(mut self, values: impl IntoIterator<Item = V>) -> Self {
        self.values.extend(values.into_iter().map(Into::into));
        self
    }

    /// The whole statement for a server, values as literals. They hold in each mode of SQL: quotes and backslashes are doubled, so
    /// that no mode's reading of a text ends it early; the session's mode, which [`super::Connection`] sets, reads it as it was.
    pub(super) fn to_text(&self) -> Result<Cow<'_, str>, Error> {
        if self.values.is_empty() {
            return Ok(Cow::Borrowed(&self.text));
        }
        let mut text = String::with_capacity(self.text.len() + self.values.len() * 16);
        self.each_piece(|piece| match piece {
            Piece::Text(piece) => text.push_str(piece),
            Piece::Value(value) => value.write_literal(&mut text),
        })?;
        Ok(Cow::Owned(text))
    }

    fn each_piece<'a>(&'a self, mut with: impl FnMut(Piece<'a>)) -> Result<(), Error> {
        let mut pieces = self.text.split('?');
        with(Piece::Text(pieces.next().unwrap_or_default()));
        let mut values = self.values.iter();
        for piece in pieces {
            let value =
                values.next().ok_or_else(|| Error::Other("fewer values than question marks".to_owned()))?;
            with(Piece::Value(value));
            with(Piece::Text(piece));
        }
        Ok(())
    }
}

enum Piece<'a> {
    Text(&'a str),
    Value(&'a Value),
}

impl Value {
    fn write_literal(&self, out: &mut String) {
        match self {
            Self::Int(None) | Self::Text(None) => out.push_str("NULL"),
            Self::Int(Some(value)) => out.push_str(&value.to_string()),
            Self::Text(Some(value)) => {
                out.push('\'');
                for piece in value.split_inclusive(['\'', '\\']) {
                    out.push_str(piece);
                    if let Some(last @ ('\'' | '\\')) = piece.chars().next_back() {
                        out.push(last);
                    }
                }
                out.push('\'');
            }
            Self::Bytes(value) => {
                out.push_str("X'");
                value.iter().for_each(|byte| out.push_str(&format!("{byte:02x}")));
                out.push('\'');
            }
        }
    }
}

impl QueryFragment<Sqlite> for Sql {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Sqlite>) -> QueryResult<()> {
        if !self.cached {
            out.unsafe_to_cache_prepared();
        }
        let mut pushed = Ok(());
        self.each_piece(|piece| match piece {
            Piece::Text(piece) => out.push_sql(piece),
            Piece::Value(value) if pushed.is_ok() => {
                pushed = match value {
                    Value::Int(value) => out.push_bind_param::<Nullable<BigInt>, _>(value),
                    Value::Text(value) => out.push_bind_param::<Nullable<Text>, _>(value),
                    Value::Bytes(value) => out.push_bind_param::<Binary, _>(value),
                };
            }
            Piece::Value(_) => {}
        })
        .map_err(|err| diesel::result::Error::QueryBuilderError(err.to_string().into()))?;
        pushed
    }
}

impl QueryId for Sql {
    type QueryId = ();
    const HAS_STATIC_QUERY_ID: bool = false;
}

impl Query for Sql {
    type SqlType = Untyped;
}

impl<Conn> RunQueryDsl<Conn> for Sql {}

/// `?, ?, ?` for `count` values.
pub(crate) fn marks(count: usize) -> String {
    let mut marks = "?, ".repeat(count);
    marks.truncate(marks.len().saturating_sub(2));
    marks
}

/// [`marks`] for a list that may have nothing in it; an empty text stands there then, since SQL knows no empty list.
pub(crate) fn marks_or_empty(count: usize) -> String {
    if count == 0 { "''".to_owned() } else { marks(count) }
}

/// [`marks`] for a list of ids that may have nothing in it; no row has the id 0, which stands there then.
pub(crate) fn id_marks(count: usize) -> String {
    marks(count.max(1))
}
