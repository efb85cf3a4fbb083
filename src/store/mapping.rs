//! Tables and columns that jobs.yaml names: quoted in every statement, and looked up before they are used in earnest.

use diesel::QueryableByName;

use super::error::StoreError;
use super::handle::Store;
use super::sql::AnyText as Text;
use super::sql::Sql;

/// A table or column name as it stands in a statement. SQLite knows this way of quoting too, and unlike a name in double
/// quotes it never takes such a name for a text.
pub(super) fn quoted(name: &str) -> String {
    let parts: Vec<String> = name.split('.').map(|part| format!("`{part}`")).collect();
    parts.join(".")
}

/// A column of a table of the shop's.
#[derive(Debug, QueryableByName)]
struct Column {
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = Text)]
    kind: String,
}

impl Store {
    /// Makes sure that the columns are there, named by their keys under `section` in jobs.yaml; returns their types in
    /// the same order, in small letters.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unknown`] that names the key, the table and the columns that it has.
    pub fn require_columns(
        &mut self,
        section: &str,
        table: &str,
        columns: &[(&str, &str)],
    ) -> Result<Vec<String>, StoreError> {
        let found = self.columns_of(table)?;
        if found.is_empty() {
            return Err(StoreError::Unknown(format!(
                "{section}.table: the database has no table `{table}` that this user may read; \
                 create it, or name the one there is"
            )));
        }
        let kind_of = |(key, column): &(&str, &str)| {
            let is_it = |found: &&Column| found.name.eq_ignore_ascii_case(column);
            found.iter().find(is_it).map(|found| found.kind.to_lowercase()).ok_or_else(|| {
                let there_are: Vec<&str> = found.iter().map(|column| column.name.as_str()).collect();
                StoreError::Unknown(format!(
                    "{section}.columns.{key}: the table `{table}` has no column `{column}`; it has {}",
                    there_are.join(", ")
                ))
            })
        };
        columns.iter().map(kind_of).collect()
    }

    fn columns_of(&mut self, table: &str) -> Result<Vec<Column>, StoreError> {
        let (schema, table) = match table.split_once('.') {
            Some((schema, table)) => (Some(schema), table),
            None => (None, table),
        };
        let query = if self.is_server() {
            "SELECT column_name AS name, data_type AS kind FROM information_schema.columns \
             WHERE table_schema = COALESCE(?, DATABASE()) AND table_name = ? ORDER BY ordinal_position"
        } else {
            "SELECT p.name AS name, p.type AS kind FROM (SELECT ? AS wanted) AS s, pragma_table_info(?) AS p \
             WHERE s.wanted IS NULL OR s.wanted = 'main' ORDER BY p.cid"
        };
        self.rows(&Sql::once(query).bind(schema).bind(table))
    }
}
