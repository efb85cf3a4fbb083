//! A statement: SQL text with `?` for each value, the same for both kinds of database.
//!
//! Its prepared form is cached by its text on the connection, which `diesel::sql_query` does not do; that saves a
//! round trip each time. `?` may not stand inside a literal of the text.

use chrono::{DateTime, NaiveDateTime, Utc};
use diesel::backend::Backend;
use diesel::deserialize::{self, FromSql};
use diesel::mysql::Mysql;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::sql_types::{BigInt, Binary, Nullable, Text, Timestamp, Untyped};
use diesel::sqlite::Sqlite;
use diesel::{QueryResult, QueryableByName, RunQueryDsl};

use super::text::AnyText;
use crate::job::State;

/// A value of a statement.
#[derive(Debug, Clone)]
pub(super) enum Value {
    Int(Option<i64>),
    Text(Option<String>),
    Bytes(Vec<u8>),
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
pub(super) fn time_text(at: DateTime<Utc>) -> String {
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

/// A stored time, which is UTC by contract.
pub(super) fn utc(stored: Option<NaiveDateTime>) -> Option<DateTime<Utc>> {
    stored.map(|at| at.and_utc())
}

/// The states of jobs that have not ended.
pub(super) const OPEN: &str = "('new', 'waiting', 'delayed', 'pending', 'running')";

/// A row that is an id.
#[derive(QueryableByName)]
pub(super) struct Id {
    #[diesel(sql_type = BigInt)]
    pub(super) id: i64,
}

/// A time as a row has it, for `deserialize_as`.
pub(super) struct StoredTime(Option<DateTime<Utc>>);

impl<DB: Backend> FromSql<Nullable<Timestamp>, DB> for StoredTime
where
    NaiveDateTime: FromSql<Timestamp, DB>,
{
    fn from_sql(bytes: DB::RawValue<'_>) -> deserialize::Result<Self> {
        Ok(Self(utc(Some(NaiveDateTime::from_sql(bytes)?))))
    }

    fn from_nullable_sql(bytes: Option<DB::RawValue<'_>>) -> deserialize::Result<Self> {
        bytes.map_or(Ok(Self(None)), Self::from_sql)
    }
}

impl From<StoredTime> for Option<DateTime<Utc>> {
    fn from(stored: StoredTime) -> Self {
        stored.0
    }
}

/// A state as a row has it, for `deserialize_as`.
pub(super) struct StoredState(State);

impl<DB: Backend> FromSql<AnyText, DB> for StoredState
where
    String: FromSql<AnyText, DB>,
{
    fn from_sql(bytes: DB::RawValue<'_>) -> deserialize::Result<Self> {
        Ok(Self(String::from_sql(bytes)?.parse()?))
    }
}

impl From<StoredState> for State {
    fn from(stored: StoredState) -> Self {
        stored.0
    }
}

/// A statement under construction.
#[derive(Debug, Clone)]
pub(super) struct Sql {
    text: String,
    values: Vec<Value>,
    cached: bool,
}

impl Sql {
    /// A statement that is prepared once per connection.
    pub(super) fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), values: Vec::new(), cached: true }
    }

    /// A statement whose text differs from time to time, so that keeping it prepared would only fill memory.
    pub(super) fn once(text: impl Into<String>) -> Self {
        Self { text: text.into(), values: Vec::new(), cached: false }
    }

    /// A statement over `count` things: kept prepared for the sizes that come often, so that their number stays small.
    pub(super) fn sized(text: impl Into<String>, count: usize) -> Self {
        if count.is_power_of_two() { Self::new(text) } else { Self::once(text) }
    }

    /// The values of a list of [`padded_marks`], the last of them as often as is needed.
    #[must_use]
    pub(super) fn bind_padded(mut self, values: &[i64]) -> Self {
        let missing = values.len().next_power_of_two() - values.len();
        let last = values.last().copied().unwrap_or(0);
        self = self.bind_all(values.iter().copied());
        self.bind_all(std::iter::repeat_n(last, missing))
    }

    /// The value of the next `?`.
    #[must_use]
    pub(super) fn bind(mut self, value: impl Into<Value>) -> Self {
        self.values.push(value.into());
        self
    }

    /// The values of the next `?`s.
    #[must_use]
    pub(super) fn bind_all<V: Into<Value>>(mut self, values: impl IntoIterator<Item = V>) -> Self {
        self.values.extend(values.into_iter().map(Into::into));
        self
    }

    fn walk<'b, DB>(&'b self, mut out: AstPass<'_, 'b, DB>) -> QueryResult<()>
    where
        DB: Backend,
        for<'a> &'a Value: Push<DB>,
    {
        if !self.cached {
            out.unsafe_to_cache_prepared();
        }
        let mut pieces = self.text.split('?');
        out.push_sql(pieces.next().unwrap_or_default());
        let mut values = self.values.iter();
        for piece in pieces {
            let value = values.next().ok_or_else(|| {
                diesel::result::Error::QueryBuilderError("fewer values than question marks".into())
            })?;
            value.push(&mut out)?;
            out.push_sql(piece);
        }
        Ok(())
    }
}

/// Adds a value as a bind parameter; lives on `&Value` so that each backend can be named.
trait Push<DB: Backend> {
    fn push<'b>(self, out: &mut AstPass<'_, 'b, DB>) -> QueryResult<()>
    where
        Self: 'b;
}

macro_rules! for_backend {
    ($backend:ty) => {
        impl Push<$backend> for &Value {
            fn push<'b>(self, out: &mut AstPass<'_, 'b, $backend>) -> QueryResult<()>
            where
                Self: 'b,
            {
                match self {
                    Value::Int(value) => out.push_bind_param::<Nullable<BigInt>, _>(value),
                    Value::Text(value) => out.push_bind_param::<Nullable<Text>, _>(value),
                    Value::Bytes(value) => out.push_bind_param::<Binary, _>(value),
                }
            }
        }

        impl QueryFragment<$backend> for Sql {
            fn walk_ast<'b>(&'b self, out: AstPass<'_, 'b, $backend>) -> QueryResult<()> {
                self.walk(out)
            }
        }
    };
}

for_backend!(Mysql);
for_backend!(Sqlite);

impl QueryId for Sql {
    type QueryId = ();
    const HAS_STATIC_QUERY_ID: bool = false;
}

impl Query for Sql {
    type SqlType = Untyped;
}

impl<Conn> RunQueryDsl<Conn> for Sql {}

/// `?, ?, ?` for `count` values.
pub(super) fn marks(count: usize) -> String {
    let mut marks = "?, ".repeat(count);
    marks.truncate(marks.len().saturating_sub(2));
    marks
}

/// [`marks`] for a list that may have nothing in it; an empty text stands there then, since SQL knows no empty list.
pub(super) fn marks_or_empty(count: usize) -> String {
    if count == 0 { "''".to_owned() } else { marks(count) }
}

/// [`marks`] for a power of two: a list of a few different lengths needs few prepared statements.
pub(super) fn padded_marks(count: usize) -> String {
    marks(count.next_power_of_two())
}
