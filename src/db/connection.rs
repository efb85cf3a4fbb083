//! An open database and the rules every session follows: UTC, `READ COMMITTED`, short lock waits, strict SQL.

use std::time::{Duration, Instant};

use diesel::RunQueryDsl;
use diesel::deserialize::QueryableByName;
use diesel::mysql::Mysql;
use diesel::sqlite::{Sqlite, SqliteConnection};

use super::error::Error;
use super::location::{Location, Server};
use super::rows::RowOfServer;
use super::server::Client;
use super::sql::Sql;
use super::sqlite;

/// How long a statement may take on a server, unless [`Connection::set_limit`] says otherwise.
const LIMIT: Duration = Duration::from_secs(60);
/// How long connecting to all nodes together may take.
const CONNECT: Duration = Duration::from_secs(10);

/// What a session is told before the first statement that relies on it. Each server reads only the comment that is meant for it.
const RULES: &str = "SET /*!80000 transaction_isolation = 'READ-COMMITTED', */ /*M! tx_isolation = 'READ-COMMITTED', */ \
     autocommit = 1, innodb_lock_wait_timeout = 5, sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION', \
     time_zone = '+00:00', character_set_client = utf8mb4, character_set_connection = utf8mb4, \
     character_set_results = utf8mb4";

pub(super) enum Link {
    Server(Client),
    Sqlite(SqliteConnection),
}

/// An open database.
pub struct Connection {
    location: Location,
    pub(super) link: Link,
    limit: Option<Duration>,
    /// Whether the session follows the rules. A server's session is set up by its first statement but the probe, which needs
    /// none of them: a tick with nothing to do is spared a round trip.
    is_set_up: bool,
    /// A server's session that has run a transaction stays at `autocommit=0`, which spares each transaction its `BEGIN`.
    manual_commit: bool,
    pub(super) in_transaction: bool,
}

impl Connection {
    /// Connects to the file, or to the first node that answers and takes writes; to the first that answers where none takes
    /// any. The schema is not looked at.
    ///
    /// # Errors
    ///
    /// [`Error::Away`] when the database cannot be reached or refuses the user; the text has no password.
    pub fn open(location: &Location) -> Result<Self, Error> {
        Self::open_within(location, Some(LIMIT))
    }

    /// As [`Connection::open`], with a limit for each statement; connecting itself has one of its own if that is `None`.
    pub fn open_within(location: &Location, limit: Option<Duration>) -> Result<Self, Error> {
        let link = match location {
            Location::Server(server) => Link::Server(connect(server, limit)?),
            Location::Sqlite(path) => Link::Sqlite(sqlite::open(path)?),
        };
        let is_set_up = matches!(link, Link::Sqlite(_));
        let location = location.clone();
        Ok(Self { location, link, limit, is_set_up, manual_commit: false, in_transaction: false })
    }

    /// Connects again in place of a connection that was lost.
    pub fn reconnect(&mut self) -> Result<(), Error> {
        *self = self.another()?;
        Ok(())
    }

    /// Another connection to the same database.
    pub fn another(&self) -> Result<Self, Error> {
        Self::open_within(&self.location, self.limit)
    }

    /// How long the server may take over one statement from now on: past that the connection is given up, and the error is
    /// [`Error::Away`]. `None`: as long as it likes, for what may take hours. Nothing is limited on SQLite.
    pub const fn set_limit(&mut self, limit: Option<Duration>) {
        self.limit = limit;
    }

    /// Whether it is no node that only follows another, nor one that an administrator has made read-only.
    pub fn takes_writes(&mut self) -> Result<bool, Error> {
        match &mut self.link {
            Link::Server(client) => takes_writes(client, self.limit),
            Link::Sqlite(_) => Ok(true),
        }
    }

    /// Whether it is a server and no file.
    #[must_use]
    pub const fn is_server(&self) -> bool {
        matches!(self.link, Link::Server(_))
    }

    /// Runs a statement; returns how many rows it matched.
    pub fn execute(&mut self, sql: &Sql) -> Result<usize, Error> {
        self.set_up()?;
        let count = match &mut self.link {
            Link::Server(client) => client
                .query(&sql.to_text()?, self.limit, &mut |_row| Ok(()))
                .map(|count| usize::try_from(count).unwrap_or(usize::MAX)),
            Link::Sqlite(conn) => sql.clone().execute(conn).map_err(|err| Error::of_sqlite(&err)),
        };
        self.end_single(count.is_ok())?;
        count
    }

    /// Runs a query.
    ///
    /// # Errors
    ///
    /// What the database says, or what of its rows cannot be read.
    pub fn rows<R>(&mut self, sql: &Sql) -> Result<Vec<R>, Error>
    where
        R: QueryableByName<Mysql> + QueryableByName<Sqlite> + 'static,
    {
        self.set_up()?;
        self.rows_of_any_session(sql)
    }

    /// Runs a query that means the same in whatever session it is run, and reads only.
    pub fn rows_of_any_session<R>(&mut self, sql: &Sql) -> Result<Vec<R>, Error>
    where
        R: QueryableByName<Mysql> + QueryableByName<Sqlite> + 'static,
    {
        let rows = match &mut self.link {
            Link::Server(client) => {
                let mut rows = Vec::new();
                let read = |row: &RowOfServer<'_>| {
                    rows.push(
                        R::build(row).map_err(|err| Error::Other(format!("a row cannot be read: {err}")))?,
                    );
                    Ok(())
                };
                client.query(&sql.to_text()?, self.limit, &mut { read }).map(|_count| rows)
            }
            Link::Sqlite(conn) => sql.clone().load(conn).map_err(|err| Error::of_sqlite(&err)),
        };
        self.end_single(rows.is_ok())?;
        rows
    }

    /// Lets the session follow the rules, before the first statement that relies on them.
    fn set_up(&mut self) -> Result<(), Error> {
        if let Link::Server(client) = &mut self.link
            && !self.is_set_up
        {
            client.query(RULES, self.limit, &mut |_row| Ok(()))?;
        }
        self.is_set_up = true;
        Ok(())
    }

    pub(super) fn begin(&mut self) -> Result<(), Error> {
        if !self.is_server() {
            self.in_transaction = true;
            return self.execute(&Sql::new("BEGIN IMMEDIATE")).map(drop);
        }
        if !self.manual_commit {
            let read_from = self.server_id("SELECT @@server_id")?;
            self.execute(&Sql::new("SET autocommit = 0"))?;
            let written_to = self.server_id("SELECT @@server_id FOR UPDATE")?;
            if read_from != written_to {
                return Err(Error::Other(format!(
                    "a proxy answers what reads from server {read_from}, and sends what changes to server {written_to}, which may \
                     be ahead; name the primary itself in the URL, or switch read/write splitting off for this user"
                )));
            }
            self.manual_commit = true;
        }
        self.in_transaction = true;
        Ok(())
    }

    fn server_id(&mut self, query: &str) -> Result<String, Error> {
        let mut id = String::new();
        if let Link::Server(client) = &mut self.link {
            client.query(query, self.limit, &mut |row| {
                id = row
                    .values()
                    .next()
                    .flatten()
                    .map(|id| String::from_utf8_lossy(id).into_owned())
                    .unwrap_or_default();
                Ok(())
            })?;
        }
        Ok(id)
    }

    /// A statement outside a transaction is its own, also where the session no longer commits by itself.
    fn end_single(&mut self, is_good: bool) -> Result<(), Error> {
        if self.in_transaction || !self.manual_commit {
            return Ok(());
        }
        let Link::Server(client) = &mut self.link else { return Ok(()) };
        match client.query(if is_good { "COMMIT" } else { "ROLLBACK" }, self.limit, &mut |_row| Ok(())) {
            Err(err) if is_good => Err(err),
            Err(err) => {
                // The caller gets the error that it is about.
                log::debug!("rollback: {err}");
                Ok(())
            }
            Ok(_) => Ok(()),
        }
    }
}

/// Tries the nodes in their order.
fn connect(server: &Server, limit: Option<Duration>) -> Result<Client, Error> {
    let nodes = u32::try_from(server.endpoints.len()).unwrap_or(u32::MAX).max(1);
    let each = limit.map_or(CONNECT, |limit| limit.min(CONNECT)) / nodes;
    if let [only] = server.endpoints.as_slice() {
        return Client::connect(server, only, each);
    }
    let (mut refusals, mut reader) = (Vec::new(), None);
    for endpoint in &server.endpoints {
        let began = Instant::now();
        let looked = Client::connect(server, endpoint, each).and_then(|mut client| {
            let left = each.saturating_sub(began.elapsed()).max(Duration::from_millis(1));
            let takes = takes_writes(&mut client, Some(left));
            Ok((takes.map_err(|err| Error::Away(format!("`{endpoint}`: {err}")))?, client))
        });
        match looked {
            Ok((true, client)) => return Ok(client),
            Ok((false, client)) => {
                log::debug!("`{endpoint}` takes no writes");
                reader = reader.or(Some(client));
            }
            Err(err) => {
                log::debug!("{err}");
                refusals.push(err.to_string());
            }
        }
    }
    reader.ok_or_else(|| Error::Away(format!("no node answers: {}", refusals.join("; "))))
}

fn takes_writes(client: &mut Client, limit: Option<Duration>) -> Result<bool, Error> {
    let mut is_writer = false;
    client.query("SELECT @@global.read_only", limit, &mut |row| {
        is_writer = row.values().next() == Some(Some(b"0"));
        Ok(())
    })?;
    Ok(is_writer)
}
