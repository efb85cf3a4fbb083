//! What commands print: stored per attempt, while they run and when they have ended.

use diesel::QueryableByName;
use diesel::sql_types::BigInt;
use serde::{Deserialize, Serialize};

use super::error::StoreError;
use super::handle::Store;
use super::sql::Sql;
use crate::db::literal_size;

/// Bytes of output that every server takes in one packet; the smallest default of `max_allowed_packet` is 1 MiB.
const SURE_TO_FIT: usize = 900 * 1024;

/// What a command printed, as it is stored: valid UTF-8, without the bytes that did not fit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Output {
    /// The text.
    pub body: String,
    /// How many bytes are missing from it.
    pub truncated: i64,
}

#[derive(QueryableByName)]
struct Number {
    #[diesel(sql_type = BigInt)]
    number: i64,
}

impl Store {
    /// Stores what an attempt printed, in place of what was stored of it before. Part of a unit.
    pub(super) fn put_output(&mut self, id: i64, fence: i64, output: &Output) -> Result<(), StoreError> {
        let replace = format!(
            "REPLACE INTO duly_output (job_id, fence, body, truncated, updated_at) VALUES (?, ?, ?, ?, {})",
            self.now()
        );
        let fitting = self.fit_packet(output)?;
        let output = fitting.as_ref().unwrap_or(output);
        let sql = Sql::new(replace).bind(id).bind(fence).bind(&output.body).bind(output.truncated);
        self.execute(&sql).map(drop)
    }

    /// Cuts an output that the server would refuse, and drop the connection for; `None` where it fits.
    fn fit_packet(&mut self, output: &Output) -> Result<Option<Output>, StoreError> {
        if output.body.len() <= SURE_TO_FIT / 2 || !self.is_server() {
            return Ok(None);
        }
        let query = Sql::new("SELECT CAST(@@max_allowed_packet AS SIGNED) AS number");
        let packet = self.rows::<Number>(&query)?.first().map_or(0, |row| row.number);
        let most = usize::try_from(packet).unwrap_or(0).saturating_sub(4096).max(SURE_TO_FIT);
        let mut size = 0;
        let too_long = output.body.char_indices().find(|(_, character)| {
            size += literal_size(*character);
            size > most
        });
        let Some((end, _)) = too_long else { return Ok(None) };
        let lost = output.body.len() - end;
        let body =
            format!("{}\n… {lost} bytes left out: max_allowed_packet is {packet} …\n", &output.body[..end]);
        let truncated = output.truncated.saturating_add(i64::try_from(lost).unwrap_or(i64::MAX));
        Ok(Some(Output { body, truncated }))
    }

    /// Stores what the command of a job that `owner` holds has printed so far; nothing where it does not.
    ///
    /// Locks the job, so that it cannot come after the whole output that its end brings. Tried once: the next copy
    /// is due soon anyway.
    pub fn save_output(
        &mut self,
        owner: &str,
        id: i64,
        fence: i64,
        output: &Output,
    ) -> Result<(), StoreError> {
        self.once(|tx| {
            let query = format!(
                "SELECT fence AS number FROM duly_job WHERE id = ? AND fence = ? AND owner = ? AND state = 'running'{}",
                tx.for_update()
            );
            let held: Vec<Number> = tx.rows(&Sql::new(query).bind(id).bind(fence).bind(owner))?;
            if held.is_empty() { Ok(()) } else { tx.put_output(id, fence, output) }
        })
    }
}
