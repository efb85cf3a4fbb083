//! Text as it is read from the database, which may hold what is no text.
//!
//! SQLite stores any bytes as text, and MariaDB's `utf8mb4` takes encoded surrogates, which are no UTF-8. One such value must
//! not make a query fail and so hold up every other row: its bytes are escaped.

use diesel::deserialize::{self, FromSql};
use diesel::mysql::{Mysql, MysqlValue};
use diesel::sql_types::{Binary, SqlType};
use diesel::sqlite::Sqlite;

use crate::job::escape;

/// The type of every text that is read; statements are given diesel's own.
#[derive(Debug, Clone, Copy, SqlType)]
#[diesel(mysql_type(name = "String"), sqlite_type(name = "Text"))]
pub(super) struct AnyText;

impl FromSql<AnyText, Mysql> for String {
    fn from_sql(value: MysqlValue<'_>) -> deserialize::Result<Self> {
        Ok(escape(value.as_bytes()))
    }
}

impl FromSql<AnyText, Sqlite> for String {
    fn from_sql(value: <Sqlite as diesel::backend::Backend>::RawValue<'_>) -> deserialize::Result<Self> {
        Ok(escape(&<Vec<u8> as FromSql<Binary, Sqlite>>::from_sql(value)?))
    }
}
