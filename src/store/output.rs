//! What commands print: stored per attempt, while they run and when they have ended.

use diesel::QueryableByName;
use diesel::sql_types::BigInt;
use serde::{Deserialize, Serialize};

use super::error::StoreError;
use super::handle::Store;
use super::sql::Sql;
use crate::db::literal_size;

/// Bytes of output that each server takes in one packet: few allow less than 16 KiB.
const SURE_TO_FIT: usize = 4 << 10;

/// Bytes of a statement besides the output in it, with the line that says what is missing.
const ROOM: usize = 1 << 10;

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

/// Head and tail of an output, as much as `most` bytes of a statement hold; `None` where all of it fits. What was left out of it
/// before is left out at the same place, or counted along.
fn cut(output: &Output, most: usize, packet: usize) -> Option<Output> {
    let body = output.body.as_str();
    let size = |text: &str| text.chars().map(literal_size).sum::<usize>();
    if size(body) <= most {
        return None;
    }
    let within = |sizes: &mut dyn Iterator<Item = (usize, usize)>| {
        let mut sum = 0;
        let kept = sizes.take_while(|(_, size)| {
            sum += size;
            sum <= most / 2
        });
        kept.last().map(|(at, _)| at)
    };
    let sized = |(at, character): (usize, char)| (at, literal_size(character));
    let head = within(&mut body.char_indices().map(sized))
        .map_or(0, |at| at + body[at..].chars().next().map_or(0, char::len_utf8));
    let tail = within(&mut body.char_indices().rev().map(sized)).unwrap_or(body.len()).max(head);
    // The line that told it.
    let told = format!("\n… {} bytes left out …\n", output.truncated);
    let was_told = output.truncated > 0 && body[head..tail].contains(&told);
    let lost = tail - head - if was_told { told.len() } else { 0 };
    let truncated = output.truncated.saturating_add(i64::try_from(lost).unwrap_or(i64::MAX));
    let (start, end) = (&body[..head], &body[tail..]);
    let body = format!("{start}\n… {truncated} bytes left out: max_allowed_packet is {packet} …\n{end}");
    Some(Output { body, truncated })
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
        if output.body.len() <= SURE_TO_FIT || !self.is_server() {
            return Ok(None);
        }
        let packet = match self.packet {
            Some(packet) => packet,
            None => {
                let query = Sql::new("SELECT CAST(@@max_allowed_packet AS SIGNED) AS number");
                let found = self.rows::<Number>(&query)?.first().map_or(0, |row| row.number);
                *self.packet.insert(usize::try_from(found).unwrap_or(0))
            }
        };
        Ok(cut(output, packet.saturating_sub(ROOM).max(SURE_TO_FIT / 2), packet))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_packet_cannot_hold_goes_from_the_middle() {
        let output = Output {
            body: format!("head{}\n… 7 bytes left out …\n{}tail", "ä".repeat(300), "'".repeat(300)),
            truncated: 7,
        };
        assert_eq!(cut(&output, 10_000, 0), None);
        let kept = cut(&output, 100, 5).unwrap();
        assert!(kept.body.starts_with("headää") && kept.body.ends_with("''tail"), "{}", kept.body);
        let (head, tail) = (4 + 23 * 2, 4 + 23);
        assert_eq!(kept.truncated, 7 + (4 + 600 - head) + (300 + 4 - tail));
        assert!(
            kept.body.contains(&format!("… {} bytes left out: max_allowed_packet is 5 …", kept.truncated))
        );
    }
}
