//! Statements about jobs, and what their rows have in common.

use chrono::{DateTime, NaiveDateTime, Utc};
use diesel::QueryableByName;
use diesel::backend::Backend;
use diesel::deserialize::{self, FromSql};
use diesel::sql_types::{BigInt, Nullable};

pub(super) use crate::db::{AnyText, AnyTime, Sql, Value, id_marks, marks, marks_or_empty, time_text};
use crate::job::State;

/// The states of jobs that have not ended.
pub(super) const OPEN: &str = "('new', 'waiting', 'delayed', 'pending', 'running')";

/// A stored time, which is UTC by contract.
pub(super) fn utc(stored: Option<NaiveDateTime>) -> Option<DateTime<Utc>> {
    stored.map(|at| at.and_utc())
}

/// A row that is an id.
#[derive(QueryableByName)]
pub(super) struct Id {
    #[diesel(sql_type = BigInt)]
    pub(super) id: i64,
}

/// A time as a row has it, for `deserialize_as`.
pub(super) struct StoredTime(Option<DateTime<Utc>>);

impl<DB: Backend> FromSql<Nullable<AnyTime>, DB> for StoredTime
where
    NaiveDateTime: FromSql<AnyTime, DB>,
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
