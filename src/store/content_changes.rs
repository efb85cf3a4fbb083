//! Content changes: read in the order of their ids, remembered per processor, deleted when every processor has them.
//!
//! Nothing here is locked: one `refresh-cache` runs at a time, and what producers insert meanwhile has other ids.

use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Nullable};

use super::error::StoreError;
use super::handle::Store;
use super::mapping::quoted;
use super::sql::AnyText as Text;
use super::sql::{Id, Sql, Value, marks};
use crate::job::fnv1a;
use crate::job::shop::ChangeTable;

/// Rows per statement.
const BATCH: usize = 500;

/// Ids looked up at once.
const MANY: usize = 10_000;

/// One row, whose columns may be of any type.
#[derive(Debug, Clone, PartialEq, Eq, QueryableByName)]
pub struct ContentChange {
    /// Its id.
    #[diesel(sql_type = BigInt)]
    pub id: i64,
    /// Which content.
    #[diesel(sql_type = Nullable<Text>)]
    pub content_id: Option<String>,
    /// What was done to it.
    #[diesel(sql_type = Nullable<Text>)]
    pub action: Option<String>,
    /// What noticed it.
    #[diesel(sql_type = Nullable<Text>)]
    pub triggered_by: Option<String>,
    /// The content's type.
    #[diesel(sql_type = Nullable<Text>)]
    pub content_type: Option<String>,
    /// The language it is about.
    #[diesel(sql_type = Nullable<Text>)]
    pub language: Option<String>,
    /// Anything else.
    #[diesel(sql_type = Nullable<Text>)]
    pub attributes: Option<String>,
}

impl ContentChange {
    /// Of all that it says: an id alone may have been another change's, in a table that was emptied.
    #[must_use]
    pub fn digest(&self) -> i64 {
        let all = [
            &self.content_id,
            &self.action,
            &self.triggered_by,
            &self.content_type,
            &self.language,
            &self.attributes,
        ];
        fnv1a(serde_json::json!(all).to_string().as_bytes()).cast_signed()
    }
}

#[derive(QueryableByName)]
struct Given {
    #[diesel(sql_type = BigInt)]
    id: i64,
    #[diesel(sql_type = BigInt)]
    digest: i64,
}

impl Store {
    /// Whether there is any change; reads every column, so that a wrong name is found out.
    ///
    /// # Errors
    ///
    /// [`StoreError::Schema`] when the table or a column is not there.
    pub fn has_changes(&mut self, table: &ChangeTable) -> Result<bool, StoreError> {
        let query = format!("{} LIMIT 1", self.select_changes(table));
        Ok(!self.rows::<ContentChange>(&Sql::once(query))?.is_empty())
    }

    /// The highest id there is now.
    pub fn newest_change(&mut self, table: &ChangeTable) -> Result<Option<i64>, StoreError> {
        let id = self.as_integer(&quoted(&table.id));
        let query = format!(
            "SELECT {id} AS id FROM {} ORDER BY {} DESC LIMIT 1",
            quoted(&table.table),
            quoted(&table.id)
        );
        Ok(self.rows::<Id>(&Sql::once(query))?.pop().map(|row| row.id))
    }

    /// At most `limit` changes with ids above `after`, up to `up_to`, in the order of their ids.
    pub fn changes(
        &mut self,
        table: &ChangeTable,
        after: Option<i64>,
        up_to: i64,
        limit: u32,
    ) -> Result<Vec<ContentChange>, StoreError> {
        let id = quoted(&table.id);
        let select = self.select_changes(table);
        let query = match after {
            None => format!("{select} WHERE {id} <= ? ORDER BY {id} LIMIT {limit}"),
            Some(_) => format!("{select} WHERE {id} <= ? AND {id} > ? ORDER BY {id} LIMIT {limit}"),
        };
        let sql = Sql::new(query).bind(up_to);
        self.rows(&match after {
            None => sql,
            Some(after) => sql.bind(after),
        })
    }

    fn select_changes(&self, table: &ChangeTable) -> String {
        let text = |column: Option<&String>, name: &str| match column {
            Some(column) => format!("{} AS {name}", self.as_text(&quoted(column))),
            None => format!("NULL AS {name}"),
        };
        let columns = [
            format!("{} AS id", self.as_integer(&quoted(&table.id))),
            text(Some(&table.content_id), "content_id"),
            text(Some(&table.action), "action"),
            text(table.triggered_by.as_ref(), "triggered_by"),
            text(table.content_type.as_ref(), "content_type"),
            text(table.language.as_ref(), "language"),
            text(table.attributes.as_ref(), "attributes"),
        ];
        format!("SELECT {} FROM {}", columns.join(", "), quoted(&table.table))
    }

    /// Which of the changes from id `first` to `last` a processor has, with their digests.
    pub fn changes_given(
        &mut self,
        table: &ChangeTable,
        processor: &str,
        first: i64,
        last: i64,
    ) -> Result<Vec<(i64, i64)>, StoreError> {
        let query = "SELECT change_id AS id, digest FROM duly_content_change_given \
             WHERE source = ? AND change_id BETWEEN ? AND ? AND processor = ? ORDER BY change_id";
        let sql = Sql::new(query).bind(&table.table).bind(first).bind(last).bind(processor);
        Ok(self.rows::<Given>(&sql)?.into_iter().map(|row| (row.id, row.digest)).collect())
    }

    /// Remembers that a processor has these changes, by id and digest; may be told twice.
    ///
    /// # Errors
    ///
    /// When the database fails; then nothing is remembered.
    pub fn set_changes_given(
        &mut self,
        table: &ChangeTable,
        processor: &str,
        changes: &[(i64, i64)],
    ) -> Result<(), StoreError> {
        self.unit(|tx| {
            for chunk in changes.chunks(BATCH) {
                let rows = vec!["(?, ?, ?, ?)"; chunk.len()].join(", ");
                let text = format!(
                    "REPLACE INTO duly_content_change_given (source, change_id, digest, processor) VALUES {rows}"
                );
                let values = chunk.iter().flat_map(|(id, digest)| {
                    [Value::from(&table.table), (*id).into(), (*digest).into(), processor.into()]
                });
                tx.execute(&Sql::sized(text, chunk.len()).bind_all(values))?;
            }
            Ok(())
        })
    }

    /// Deletes changes, with what is remembered of them; those that are gone already are passed over.
    ///
    /// # Errors
    ///
    /// When the database fails; some may be gone then.
    pub fn delete_changes(&mut self, table: &ChangeTable, ids: &[i64]) -> Result<(), StoreError> {
        let (name, id) = (quoted(&table.table), quoted(&table.id));
        for chunk in ids.chunks(BATCH) {
            let list = marks(chunk.len());
            let changes = format!("DELETE FROM {name} WHERE {id} IN ({list})");
            let given =
                format!("DELETE FROM duly_content_change_given WHERE source = ? AND change_id IN ({list})");
            self.unit(|tx| {
                tx.execute(&Sql::sized(changes.clone(), chunk.len()).bind_all(chunk.iter().copied()))?;
                let given = Sql::sized(given.clone(), chunk.len()).bind(&table.table);
                tx.execute(&given.bind_all(chunk.iter().copied()))
            })?;
        }
        Ok(())
    }

    /// Forgets what is remembered of changes that are not there any more: somebody else has deleted them.
    pub fn forget_gone_changes(&mut self, table: &ChangeTable) -> Result<(), StoreError> {
        while self.forget_some_gone_changes(table)? {}
        Ok(())
    }

    /// Whether there may be more.
    fn forget_some_gone_changes(&mut self, table: &ChangeTable) -> Result<bool, StoreError> {
        let query = format!(
            "SELECT DISTINCT g.change_id AS id FROM duly_content_change_given g \
             LEFT JOIN {} c ON c.{id} = g.change_id WHERE g.source = ? AND c.{id} IS NULL LIMIT {MANY}",
            quoted(&table.table),
            id = quoted(&table.id)
        );
        let gone: Vec<i64> =
            self.rows::<Id>(&Sql::once(query).bind(&table.table))?.into_iter().map(|row| row.id).collect();
        for chunk in gone.chunks(BATCH) {
            let text = format!(
                "DELETE FROM duly_content_change_given WHERE source = ? AND change_id IN ({})",
                marks(chunk.len())
            );
            self.execute(&Sql::once(text).bind(&table.table).bind_all(chunk.iter().copied()))?;
        }
        Ok(gone.len() == MANY)
    }
}
