//! Answers that a server owes for ever.
//!
//! A node of a MariaDB Galera cluster aborts a transaction in favour of another node's. Seen with MariaDB 10.11: of the prepared
//! statements that run into it, some are never answered, and the server holds their connection to be idle. (How the server came
//! to put such an abort off: <https://github.com/MariaDB/server/pull/2026>.) So where a statement takes long on a cluster, the node
//! is asked on another connection what it is doing on this one.

use std::time::Duration;

use diesel::QueryableByName;
use diesel::sql_types::BigInt;

use super::connection::{Location, Store};
use super::error::StoreError;
use super::sql::{Id, Sql};
use super::text::AnyText as Text;

/// How long the other connection may take over it.
const LIMIT: Duration = Duration::from_secs(5);

/// Which node it is; all of a cluster may give a connection the same id.
const NODE: &str = "CONCAT(@@hostname, ':', @@port)";

#[derive(QueryableByName)]
struct Session {
    #[diesel(sql_type = BigInt)]
    id: i64,
    #[diesel(sql_type = BigInt)]
    is_of_cluster: i64,
    #[diesel(sql_type = Text)]
    node: String,
}

impl Store {
    /// Has long statements of this connection doubted, if its server is a node of a cluster.
    pub(super) fn doubt_silence(&mut self) -> Result<(), StoreError> {
        let who = Sql::once(format!(
            "SELECT CAST(CONNECTION_ID() AS SIGNED) AS id, CAST(0 /*M!100100 + @@wsrep_on */ AS SIGNED) AS is_of_cluster, {NODE} AS node"
        ));
        let session = match self.rows::<Session>(&who) {
            Ok(mut rows) => rows.pop().filter(|session| session.is_of_cluster != 0),
            // A MariaDB that was built without clusters has no such variable.
            Err(StoreError::Other(_)) => None,
            Err(err) => return Err(err),
        };
        if let (Some(session), Some(watched)) = (session, &self.watched) {
            let location = self.location.clone();
            watched.doubt(Box::new(move || session.is_idle(&location)));
        }
        Ok(())
    }
}

impl Session {
    /// Whether the server says so; not if it cannot be asked, or where another node answers.
    fn is_idle(&self, location: &Location) -> bool {
        let query = format!(
            "SELECT id FROM information_schema.processlist WHERE id = ? AND command = 'Sleep' AND {NODE} = ?"
        );
        let sql = Sql::once(query).bind(self.id).bind(&self.node);
        let answer = Store::connect_within(location, Some(LIMIT))
            .and_then(|mut other| other.rows_of_any_session::<Id>(&sql));
        match answer {
            Ok(rows) => !rows.is_empty(),
            Err(err) => {
                log::debug!("asking what the server is doing: {err}");
                false
            }
        }
    }
}
