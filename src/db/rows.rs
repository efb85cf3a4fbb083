//! Rows as they arrive, which may hold what is no text and no time.
//!
//! SQLite stores any bytes as text, and MariaDB's `utf8mb4` takes encoded surrogates, which are no UTF-8. One such value must
//! not make a query fail and so hold up every other row: its bytes are escaped.
//!
//! A server sends each value as text. So numbers are read as diesel reads decimals, and times are read here.

use std::ops::Range;

use chrono::{Datelike, NaiveDateTime};
use diesel::backend::Backend;
use diesel::deserialize::{self, FromSql};
use diesel::mysql::{Mysql, MysqlType, MysqlValue};
use diesel::row::{Field, PartialRow, Row, RowIndex, RowSealed};
use diesel::sql_types::{Binary, SqlType};
use diesel::sqlite::Sqlite;
use mysql_common::io::ParseBuf;

use crate::job::escape;

/// The type of every text that is read; statements are given diesel's own.
#[derive(Debug, Clone, Copy, SqlType)]
#[diesel(mysql_type(name = "String"), sqlite_type(name = "Text"))]
pub struct AnyText;

impl FromSql<AnyText, Mysql> for String {
    fn from_sql(value: MysqlValue<'_>) -> deserialize::Result<Self> {
        Ok(escape(value.as_bytes()))
    }
}

impl FromSql<AnyText, Sqlite> for String {
    fn from_sql(value: <Sqlite as Backend>::RawValue<'_>) -> deserialize::Result<Self> {
        Ok(escape(&<Vec<u8> as FromSql<Binary, Sqlite>>::from_sql(value)?))
    }
}

/// The type of every time that is read.
#[derive(Debug, Clone, Copy, SqlType)]
#[diesel(mysql_type(name = "DateTime"), sqlite_type(name = "Text"))]
pub struct AnyTime;

impl FromSql<AnyTime, Mysql> for NaiveDateTime {
    fn from_sql(value: MysqlValue<'_>) -> deserialize::Result<Self> {
        let text = str::from_utf8(value.as_bytes())?;
        let read = Self::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f");
        read.map(in_usable_years).map_err(|_unread| "a time is none".into())
    }
}

impl FromSql<AnyTime, Sqlite> for NaiveDateTime {
    fn from_sql(value: <Sqlite as Backend>::RawValue<'_>) -> deserialize::Result<Self> {
        <Self as FromSql<diesel::sql_types::Timestamp, Sqlite>>::from_sql(value).map(in_usable_years)
    }
}

/// A time within the years that a server's times have, with which can be reckoned.
fn in_usable_years(time: NaiveDateTime) -> NaiveDateTime {
    let year = |year: i32| {
        time.with_day(1).and_then(|time| time.with_month(1)).and_then(|time| time.with_year(year))
    };
    match time.year() {
        ..0 => year(0).unwrap_or(time),
        0..=9999 => time,
        _ => year(9999).unwrap_or(time),
    }
}

/// A row of a server's answer.
pub struct RowOfServer<'a> {
    names: &'a [String],
    bytes: &'a [u8],
    /// Where each value is; `None` is `NULL`.
    values: Vec<Option<Range<usize>>>,
}

impl<'a> RowOfServer<'a> {
    /// Finds the values in a packet; `None` where it is cut short.
    pub(super) fn read(names: &'a [String], bytes: &'a [u8]) -> Option<Self> {
        let (mut rest, mut values) = (ParseBuf(bytes), Vec::with_capacity(names.len()));
        for _ in names {
            if rest.0.first() == Some(&0xfb) {
                rest.skip(1);
                values.push(None);
            } else {
                let length = rest.checked_eat_lenenc_str()?.len();
                let end = bytes.len() - rest.len();
                values.push(Some(end - length..end));
            }
        }
        Some(Self { names, bytes, values })
    }

    /// The values in their order; `None` is `NULL`.
    pub fn values(&self) -> impl Iterator<Item = Option<&'a [u8]>> {
        self.values.iter().map(|value| value.clone().map(|value| &self.bytes[value]))
    }
}

/// A value of a [`RowOfServer`].
pub struct FieldOfServer<'a> {
    name: &'a str,
    value: Option<&'a [u8]>,
}

impl<'a> Field<'a, Mysql> for FieldOfServer<'a> {
    fn field_name(&self) -> Option<&str> {
        Some(self.name)
    }

    fn value(&self) -> Option<MysqlValue<'_>> {
        self.value.map(|value| MysqlValue::new(value, MysqlType::Numeric))
    }
}

impl RowSealed for RowOfServer<'_> {}

impl<'a> Row<'a, Mysql> for RowOfServer<'a> {
    type Field<'f>
        = FieldOfServer<'f>
    where
        'a: 'f,
        Self: 'f;
    type InnerPartialRow = Self;

    fn field_count(&self) -> usize {
        self.values.len()
    }

    fn get<'b, I>(&'b self, at: I) -> Option<Self::Field<'b>>
    where
        'a: 'b,
        Self: RowIndex<I>,
    {
        let at = self.idx(at)?;
        let value = self.values[at].clone().map(|value| &self.bytes[value]);
        Some(FieldOfServer { name: &self.names[at], value })
    }

    fn partial_row(&self, range: Range<usize>) -> PartialRow<'_, Self::InnerPartialRow> {
        PartialRow::new(self, range)
    }
}

impl RowIndex<usize> for RowOfServer<'_> {
    fn idx(&self, at: usize) -> Option<usize> {
        (at < self.values.len()).then_some(at)
    }
}

impl RowIndex<&str> for RowOfServer<'_> {
    fn idx(&self, name: &str) -> Option<usize> {
        self.names.iter().position(|known| known == name)
    }
}
