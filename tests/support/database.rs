//! An isolated database per test, and plain SQL on it: what a test arranges and checks behind `duly`'s back.

use std::path::Path;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::{env, process, thread};

use diesel::connection::SimpleConnection;
use diesel::deserialize::{self, FromSql, QueryableByName};
use diesel::row::{Field, NamedRow, Row};
use diesel::sql_types::Text;
use diesel::sqlite::Sqlite;
use diesel::{Connection, RunQueryDsl, SqliteConnection};
use tempfile::TempDir;
use url::Url;

use super::{Client, Proxy, Server};

/// A kind of database that everything has to work on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Backend {
    /// The embedded one.
    Sqlite,
    /// A server: MariaDB, or what `DULY_TEST_MYSQL_URL` names.
    MariaDb,
}

/// A database of one test's own: dropped at the end, or kept for a look if `DULY_TEST_KEEP` is set.
pub(crate) struct Database {
    backend: Backend,
    url: String,
    /// Where `duly` connects, if that is elsewhere than where the test does: sandboxes take turns.
    detours: Vec<String>,
    turn: AtomicUsize,
    password: String,
    /// On a server: its administrator, and the database's name, which is its user's name too.
    server: Option<(Url, String)>,
    /// The folder of a SQLite file that is in no sandbox.
    _folder: Option<TempDir>,
}

impl Database {
    /// An empty database: on the shared server, or a file in a folder of its own.
    pub(crate) fn create(backend: Backend) -> Database {
        match backend {
            Backend::Sqlite => {
                let (root, folder) = super::sandbox::private_folder();
                let mut database = Database::in_file(&root.join("jobs.db"));
                database._folder = Some(folder);
                database
            }
            Backend::MariaDb => Database::on(Server::shared()),
        }
    }

    /// A SQLite file, which is made when it is first connected to.
    pub(crate) fn in_file(path: &Path) -> Database {
        let url = format!("sqlite://{}", path.to_str().expect("a UTF-8 path"));
        Database {
            backend: Backend::Sqlite,
            url,
            detours: Vec::new(),
            turn: AtomicUsize::new(0),
            password: String::new(),
            server: None,
            _folder: None,
        }
    }

    /// An empty database on a server, with a user who may do everything in it and nothing outside.
    pub(crate) fn on(server: &Server) -> Database {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("duly_test_{}_{}", process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let password = format!("secret-of-{name}");
        let database = Database {
            backend: Backend::MariaDb,
            url: server.url(&name, &password, &name).into(),
            detours: server.nodes().map(|node| node.url(&name, &password, &name).into()).collect(),
            turn: AtomicUsize::new(0),
            password: password.clone(),
            server: Some((server.admin().clone(), name.clone())),
            _folder: None,
        };
        server.administrator().sql(&format!(
            "CREATE DATABASE {name} CHARACTER SET utf8mb4; CREATE USER {name}@'%' IDENTIFIED BY '{password}'; \
             GRANT ALL ON {name}.* TO {name}@'%'"
        ));
        for node in server.nodes().skip(1) {
            node.catch_up();
        }
        database
    }

    /// Which kind it is.
    pub(crate) fn backend(&self) -> Backend {
        self.backend
    }

    /// The same, with `duly` sent through proxies, from each sandbox through the next one, and the test going straight there.
    #[must_use]
    pub(crate) fn through<'a>(mut self, proxies: impl IntoIterator<Item = &'a Proxy>) -> Database {
        let mut url = Url::parse(&self.url).expect("a URL of a server");
        let to = |proxy: &Proxy| {
            url.set_port(Some(proxy.port())).expect("a URL with a host");
            url.to_string()
        };
        self.detours = proxies.into_iter().map(to).collect();
        self
    }

    /// The same, each sandbox by a list of all proxies that begins with another one.
    #[must_use]
    pub(crate) fn through_any(mut self, proxies: [&Proxy; 3]) -> Database {
        let port = Url::parse(&self.url).expect("a URL of a server").port().expect("a port");
        let list = |first: usize| {
            let hosts: Vec<String> =
                (0..3).map(|n| format!("127.0.0.1:{}", proxies[(first + n) % 3].port())).collect();
            self.url.replacen(&format!("127.0.0.1:{port}"), &hosts.join(","), 1)
        };
        self.detours = (0..3).map(list).collect();
        self
    }

    /// On a server: the user that `duly` is.
    pub(crate) fn user(&self) -> &str {
        self.server.as_ref().map_or("", |(_, name)| name)
    }

    /// The rows of a query, if the database answers it.
    pub(crate) fn try_rows(&self, query: &str) -> Option<Vec<Vec<Option<String>>>> {
        Session::try_open(self.backend, &self.url)?.try_rows(query)
    }

    /// The URL for `database:` in jobs.yaml, `--database-url` and `DATABASE_URL`, with the password in it.
    pub(crate) fn url(&self) -> &str {
        self.detours.first().unwrap_or(&self.url)
    }

    /// The same for the next sandbox: through the next node of a cluster.
    pub(super) fn next_url(&self) -> String {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        self.detours.get(turn % self.detours.len().max(1)).unwrap_or(&self.url).clone()
    }

    /// The password in the URL, which must never be printed; empty on SQLite.
    pub(crate) fn password(&self) -> &str {
        &self.password
    }

    /// A connection of the caller's own, for tests that hold locks or transactions.
    pub(crate) fn connect(&self) -> Session {
        Session::open(self.backend, &self.url)
    }

    /// Executes one or more statements, separated by `;`.
    #[track_caller]
    pub(crate) fn sql(&self, statements: &str) {
        self.connect().sql(statements);
    }

    /// Executes statements that may be refused; gives whether they were not.
    pub(crate) fn try_sql(&self, statements: &str) -> bool {
        Session::try_open(self.backend, &self.url)
            .is_some_and(|mut session| session.try_sql(statements).is_ok())
    }

    /// The rows of a query, each value as text.
    #[track_caller]
    pub(crate) fn rows(&self, query: &str) -> Vec<Vec<Option<String>>> {
        self.connect().rows(query)
    }

    /// The one value of a query, as text; `NULL` for null.
    #[track_caller]
    pub(crate) fn value(&self, query: &str) -> String {
        self.connect().value(query)
    }
}

impl From<Backend> for Database {
    fn from(backend: Backend) -> Database {
        Database::create(backend)
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        if env::var_os("DULY_TEST_KEEP").is_some() {
            return;
        }
        // A server that the test took away has taken the database with it.
        if let Some((admin, name)) = &self.server
            && let Ok(mut client) = Client::connect(admin.as_str())
        {
            let dropped =
                client.execute(&format!("DROP DATABASE IF EXISTS {name}; DROP USER IF EXISTS {name}@'%'"));
            // A group whose primary the test took away goes with the test.
            let has_gone = dropped.as_ref().is_err_and(|err| err.contains("read-only"));
            assert!(dropped.is_ok() || has_gone || thread::panicking(), "dropping {name}: {dropped:?}");
        }
    }
}

/// One connection.
pub(crate) enum Session {
    /// To a file.
    Sqlite(SqliteConnection),
    /// To a server.
    MariaDb(Client),
}

impl Session {
    /// One to a database that may be away.
    fn try_open(backend: Backend, url: &str) -> Option<Session> {
        match backend {
            Backend::Sqlite => {
                let mut session = Session::open(backend, url);
                session.sql("PRAGMA busy_timeout = 300");
                Some(session)
            }
            Backend::MariaDb => Client::connect(url).ok().map(|_| Session::open(backend, url)),
        }
    }

    pub(super) fn open(backend: Backend, url: &str) -> Session {
        match backend {
            Backend::Sqlite => {
                let path = url.strip_prefix("sqlite://").expect("a URL of a SQLite file");
                let mut connection =
                    SqliteConnection::establish(path).unwrap_or_else(|err| panic!("opening {path}: {err}"));
                connection.batch_execute("PRAGMA busy_timeout = 10000").expect("setting busy_timeout");
                Session::Sqlite(connection)
            }
            Backend::MariaDb => {
                let mut client =
                    Client::connect(url).unwrap_or_else(|err| panic!("connecting to {url}: {err}"));
                if let Some(see_all) = Server::see_all() {
                    client.execute(see_all).expect("a node of a cluster");
                }
                Session::MariaDb(client)
            }
        }
    }

    /// Executes one or more statements, separated by `;`.
    #[track_caller]
    pub(crate) fn sql(&mut self, statements: &str) {
        self.try_sql(statements).unwrap_or_else(|err| panic!("{err}: {statements}"));
    }

    /// The same, which may be refused.
    pub(crate) fn try_sql(&mut self, statements: &str) -> Result<(), String> {
        match self {
            Session::Sqlite(connection) => {
                connection.batch_execute(statements).map_err(|err| err.to_string())
            }
            Session::MariaDb(client) => client.execute(statements),
        }
    }

    /// The rows of a query, each value as text.
    #[track_caller]
    pub(crate) fn rows(&mut self, query: &str) -> Vec<Vec<Option<String>>> {
        self.load(query).unwrap_or_else(|err| panic!("{err}: {query}"))
    }

    /// The rows of a query, unless it is refused.
    pub(crate) fn try_rows(&mut self, query: &str) -> Option<Vec<Vec<Option<String>>>> {
        self.load(query).ok()
    }

    fn load(&mut self, query: &str) -> Result<Vec<Vec<Option<String>>>, String> {
        match self {
            Session::Sqlite(connection) => {
                let found = diesel::sql_query(query).load::<Cells>(connection);
                found
                    .map(|rows| rows.into_iter().map(|cells| cells.0).collect())
                    .map_err(|err| err.to_string())
            }
            Session::MariaDb(client) => client.rows(query),
        }
    }

    /// The one value of a query, as text; `NULL` for null.
    #[track_caller]
    pub(crate) fn value(&mut self, query: &str) -> String {
        let rows = self.rows(query);
        match rows.as_slice() {
            [row] if row.len() == 1 => row[0].clone().unwrap_or_else(|| "NULL".to_owned()),
            _ => panic!("expected one value, got {rows:?}: {query}"),
        }
    }
}

/// A row of any query of SQLite, each value as text.
struct Cells(Vec<Option<String>>);

impl QueryableByName<Sqlite> for Cells {
    fn build<'a>(row: &impl NamedRow<'a, Sqlite>) -> deserialize::Result<Cells> {
        let text = |index| -> deserialize::Result<Option<String>> {
            let field = Row::get(row, index).ok_or("no such column")?;
            field.value().map(<String as FromSql<Text, Sqlite>>::from_sql).transpose()
        };
        (0..row.field_count()).map(text).collect::<Result<_, _>>().map(Cells)
    }
}
