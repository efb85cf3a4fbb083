//! Who did what: a row for each change that a person made, on the web page or by the command line. Locks nothing.

use super::sql::AnyTime as Timestamp;
use chrono::{DateTime, Utc};
use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Nullable, Text};

use super::error::StoreError;
use super::finish::clip;
use super::handle::Store;
use super::sql::{Sql, StoredTime};

/// Something that a person did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deed<'a> {
    /// Who, as far as is known.
    pub who: &'a str,
    /// By what: `web` or `command line`.
    pub via: &'a str,
    /// What was done, in a word: `cancel`, `start`.
    pub did: &'a str,
    /// To what: `job 42`, `definition import`.
    pub subject: &'a str,
    /// What else is to be known of it.
    pub detail: Option<&'a str>,
}

/// A deed as it was recorded.
#[derive(Debug, Clone, PartialEq, Eq, QueryableByName)]
pub struct AuditRow {
    /// Its number.
    #[diesel(sql_type = BigInt)]
    pub id: i64,
    /// When, by the database's clock.
    #[diesel(sql_type = Nullable<Timestamp>, deserialize_as = StoredTime)]
    pub at: Option<DateTime<Utc>>,
    /// Who.
    #[diesel(sql_type = Text)]
    pub who: String,
    /// By what.
    #[diesel(sql_type = Text)]
    pub via: String,
    /// What was done.
    #[diesel(sql_type = Text)]
    pub did: String,
    /// To what.
    #[diesel(sql_type = Text)]
    pub subject: String,
    /// What else is known of it.
    #[diesel(sql_type = Nullable<Text>)]
    pub detail: Option<String>,
}

impl Store {
    /// Records a deed.
    pub fn note(&mut self, deed: &Deed<'_>) -> Result<(), StoreError> {
        let insert = format!(
            "INSERT INTO duly_audit (at, who, via, did, subject, detail) VALUES ({}, ?, ?, ?, ?, ?)",
            self.now()
        );
        let short = |text: &str, most: usize| text.chars().take(most).collect::<String>();
        let sql = Sql::new(insert).bind(short(deed.who, 190)).bind(deed.via).bind(deed.did);
        self.execute(&sql.bind(short(deed.subject, 220)).bind(deed.detail.map(clip))).map(drop)
    }

    /// What was done last, newest first, before row `before`; only to `subject`, if one is named.
    pub fn deeds(
        &mut self,
        subject: Option<&str>,
        before: Option<i64>,
        limit: u32,
    ) -> Result<Vec<AuditRow>, StoreError> {
        let wanted = if subject.is_some() { "subject = ? AND " } else { "" };
        let query = format!(
            "SELECT id, at, who, via, did, subject, detail FROM duly_audit WHERE {wanted}id < ? ORDER BY id DESC LIMIT {limit}"
        );
        let sql = Sql::new(query).bind_all(subject).bind(before.unwrap_or(i64::MAX));
        self.rows(&sql)
    }
}
