//! The tests' own way to a server, by another client than Duly's: a session as the server makes it.

use mysql::prelude::Queryable;
use mysql::{Conn, Opts, OptsBuilder, Value};
use url::Url;

/// Values as text; `None` is `NULL`.
pub(crate) type Rows = Vec<Vec<Option<String>>>;

/// One connection.
pub(crate) struct Client(Conn);

impl Client {
    pub(crate) fn connect(url: &str) -> Result<Client, String> {
        let mut url = Url::parse(url).map_err(|err| err.to_string())?;
        let socket =
            url.query_pairs().find(|(key, _)| key == "unix_socket").map(|(_, path)| path.into_owned());
        url.set_query(None);
        let options = Opts::from_url(url.as_str()).map_err(|err| err.to_string())?;
        let options = OptsBuilder::from_opts(options).prefer_socket(false).socket(socket);
        let options = options.max_allowed_packet(Some(1 << 26));
        Conn::new(options).map(Client).map_err(|err| err.to_string())
    }

    /// Executes one or more statements, separated by `;`.
    pub(crate) fn execute(&mut self, statements: &str) -> Result<(), String> {
        self.sets(statements).map(drop)
    }

    /// The rows of a query, each value as text, as MySQL's own client would show it.
    pub(crate) fn rows(&mut self, query: &str) -> Result<Rows, String> {
        let text = |value| match value {
            Value::NULL => None,
            Value::Bytes(bytes) => Some(String::from_utf8_lossy(&bytes).into_owned()),
            other => panic!("{other:?} from the text protocol"),
        };
        let rows = self.sets(query)?;
        Ok(rows.into_iter().map(|row| row.into_iter().map(text).collect()).collect())
    }

    /// The names of a query's columns, and its rows.
    pub(crate) fn table(&mut self, query: &str) -> Result<(Vec<String>, Rows), String> {
        let answer = self.0.query_iter(query).map_err(said)?;
        let names = answer.columns().as_ref().iter().map(|column| column.name_str().into_owned()).collect();
        drop(answer);
        Ok((names, self.rows(query)?))
    }

    fn sets(&mut self, statements: &str) -> Result<Vec<Vec<Value>>, String> {
        let mut answer = self.0.query_iter(statements).map_err(said)?;
        let mut rows = Vec::new();
        while let Some(set) = answer.iter() {
            for row in set {
                rows.push(row.map_err(said)?.unwrap());
            }
        }
        Ok(rows)
    }
}

/// What the server says, without what the client puts around it.
fn said(error: mysql::Error) -> String {
    match error {
        mysql::Error::MySqlError(error) => error.message,
        other => other.to_string(),
    }
}
