//! Private database servers: started by the tests themselves, on loopback, gone with the test process however it ends.
//!
//! Each server has a guardian, a shell that reads a pipe whose other end only the test process holds. When the pipe closes,
//! the guardian kills the server and deletes its data; the server in turn dies with its guardian (`--pdeathsig`). So neither
//! the end of the tests nor a `kill -9` of either leaves anything behind.
//!
//! The server's time zone is `-08:00`: a local time that slips in where UTC belongs is then hours off, and shows.

use std::fs::{self, File, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};
use std::{env, thread};

use rustix::process::Signal;
use url::Url;

use super::client::Client;
use super::database::{Backend, Session};
use super::wait_until;

mod galera;
mod group;
mod place;
mod ports;

use galera::{GALERA, first_alive, galera};
use group::Member;
use place::{find_program, id, new_folder, search_path, unprivileged};
use ports::{free_port, free_ports};

/// How long a server may take to answer or to end.
const LIMIT: Duration = Duration::from_secs(120);

/// What the guardian does; `$1` is the folder, `$2` what makes the data there, the rest is the server's command line.
/// A line that it reads is the signal to stop the server with, its data being kept.
///
/// A node of a cluster that has been killed must say how far its data go, so that others give it what it lacks.
const GUARDIAN: &str = r#"
folder=$1
cd "$folder" || exit 1
if [ -d data/mysql ] || sh -c "$2" >>log 2>&1
then
    shift 2
    case "$*" in *--wsrep-on=ON*)
        at=$("$@" --wsrep-recover 2>&1 | sed -n 's/.*Recovered position: *//p' | tail -n 1)
        [ -z "$at" ] || set -- "$@" "--wsrep-start-position=$at"
    esac
    "$@" >>log 2>&1 &
    server=$!
else
    echo "[ERROR] Aborting: the data could not be made" >>log
    server=
fi
if read -r signal; then kill -s "$signal" $server; wait $server; exit 0; fi
[ -z "$server" ] || { kill -s KILL $server; wait $server; }
cd / && rm -rf "$folder"
"#;

/// Which server it is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    /// The MariaDB that is installed.
    MariaDb,
    /// The MySQL in a folder that `tests/servers/mysql` has filled.
    MySql(PathBuf),
    /// A node of a MariaDB Galera cluster: which one, of nodes with these folders and base ports.
    Node(usize, Vec<(PathBuf, u16)>),
    /// A member of a Group Replication group of MySQL.
    Member(Member),
}

/// A running database server that tests may create databases on.
pub(crate) struct Server {
    /// For creating databases and users.
    admin: Url,
    /// Where the tests' own users connect: without user, password and database.
    base: Url,
    /// What this process started; `None` for a server that was there already.
    private: Option<Private>,
    /// The other nodes of a cluster that the tests write to as well.
    others: Vec<Server>,
}

/// The parts of a server that this process started.
struct Private {
    folder: PathBuf,
    port: u16,
    kind: Kind,
    options: Vec<String>,
    /// A file that sets its wall clock, as libfaketime reads it.
    clock: Option<PathBuf>,
    guardian: Option<Child>,
}

impl Kind {
    /// The one that `DULY_TEST_SERVER` asks for.
    fn asked_for() -> Kind {
        match env::var("DULY_TEST_SERVER").as_deref() {
            Err(_) | Ok("mariadb" | "galera") => Kind::MariaDb,
            Ok("mysql" | "group-single" | "group-multi") => Kind::MySql(Kind::mysql()),
            Ok(other) => panic!(
                "DULY_TEST_SERVER is `{other}`; it may be mariadb, mysql, galera, group-single or group-multi"
            ),
        }
    }

    /// MySQL's files, where `make` has put them.
    fn mysql() -> PathBuf {
        let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/target/mysql");
        let folder =
            env::var_os("DULY_TEST_MYSQL_FOLDER").map_or_else(|| PathBuf::from(beside), PathBuf::from);
        assert!(
            folder.join("usr/sbin/mysqld").is_file(),
            "no MySQL in {}: `make mysql` puts it there",
            folder.display()
        );
        folder
    }

    /// MySQL's files, if it is one.
    fn root(&self) -> Option<&Path> {
        match self {
            Kind::MySql(root) | Kind::Member(Member { root, .. }) => Some(root),
            Kind::MariaDb | Kind::Node(..) => None,
        }
    }
}

impl Server {
    /// The one that all tests share: started at its first use, or the one that `DULY_TEST_MYSQL_URL` names (a URL of an
    /// administrator, without database; it may well be MySQL). `DULY_TEST_SERVER=galera` makes it a cluster of three.
    pub(crate) fn shared() -> &'static Server {
        static SHARED: OnceLock<Server> = OnceLock::new();
        SHARED.get_or_init(|| {
            match (env::var("DULY_TEST_MYSQL_URL"), env::var("DULY_TEST_SERVER").as_deref()) {
                (Ok(url), _) => Server::at(&url),
                (Err(_), Ok("galera")) => {
                    let mut nodes = Server::cluster();
                    for node in &nodes {
                        // Tests may count on the ids of the first jobs; nodes then give the same ones, and one of two gives way.
                        // These nodes never go: one that gets no processor for some seconds is not to be given up for that.
                        node.administrator().sql(
                            "SET GLOBAL wsrep_auto_increment_control = OFF; SET GLOBAL auto_increment_increment = 1; \
                             SET GLOBAL auto_increment_offset = 1; \
                             SET GLOBAL wsrep_provider_options = 'evs.inactive_timeout=PT1M;evs.suspect_timeout=PT30S'",
                        );
                    }
                    let mut first = nodes.remove(0);
                    first.others = nodes;
                    first
                }
                (Err(_), Ok("group-multi")) => {
                    let mut members = Server::group(true);
                    let mut first = members.remove(0);
                    first.others = members;
                    first
                }
                (Err(_), Ok("group-single")) => {
                    // Only the primary is written to; the others are there for what it has to agree with them.
                    let mut members = Server::group(false);
                    let primary = members.remove(0);
                    std::mem::forget(members);
                    primary
                }
                (Err(_), _) => Server::start(),
            }
        })
    }

    /// One that is already running.
    fn at(url: &str) -> Server {
        let admin = Url::parse(url).unwrap_or_else(|err| panic!("DULY_TEST_MYSQL_URL is no URL: {err}"));
        let mut base = admin.clone();
        base.set_username("").and_then(|()| base.set_password(None)).expect("a URL with a host");
        Server { admin, base, private: None, others: Vec::new() }
    }

    /// One of the caller's own, for tests that take the database away. It ends with the value.
    pub(crate) fn start() -> Server {
        let mut server = Server::new(Kind::asked_for(), new_folder());
        server.start_again();
        server
    }

    /// A MariaDB of the caller's own with options of its own.
    pub(crate) fn start_with(options: &[String]) -> Server {
        let mut server = Server::new(Kind::MariaDb, new_folder());
        if let Some(private) = &mut server.private {
            private.options = options.to_vec();
        }
        server.start_again();
        server
    }

    /// A MariaDB of the caller's own whose wall clock can be set by [`Server::set_clock`].
    pub(crate) fn start_with_clock() -> Server {
        let mut server = Server::new(Kind::MariaDb, new_folder());
        if let Some(private) = &mut server.private {
            let clock = private.folder.join("clock");
            fs::write(&clock, "+0").expect("writing a clock");
            private.clock = Some(clock);
        }
        server.start_again();
        server
    }

    /// Sets the server's wall clock, to `+1h` for example.
    pub(crate) fn set_clock(&self, setting: &str) {
        let clock = self.private.as_ref().and_then(|private| private.clock.as_ref());
        fs::write(clock.expect("a server with a clock"), setting).expect("setting a clock");
    }

    /// Three members of a group of the caller's own: all may be written to, or the first alone.
    pub(crate) fn group(is_multi: bool) -> Vec<Server> {
        let root = Kind::mysql();
        let nodes: Vec<(PathBuf, u16)> = (0..3).map(|_| (new_folder(), free_ports(2))).collect();
        let member = |number| Member { root: root.clone(), number, nodes: nodes.clone(), is_multi };
        let mut servers: Vec<Server> =
            (0..3).map(|n| Server::new(Kind::Member(member(n)), nodes[n].0.clone())).collect();
        // To make the data takes seconds; to copy them does not.
        servers[0].start_again();
        servers[0].stop();
        for node in &nodes[1..] {
            let copied = Command::new("sh")
                .args(["-c", "cp -a data \"$1\" && rm \"$1/data/auto.cnf\"", "sh"])
                .arg(&node.0)
                .current_dir(&nodes[0].0)
                .status();
            assert!(copied.is_ok_and(|status| status.success()), "copying the data of a member");
        }
        for server in &mut servers {
            server.start_again();
        }
        servers
    }

    /// Three nodes of a cluster of the caller's own, which all may be written to.
    pub(crate) fn cluster() -> Vec<Server> {
        assert!(
            Path::new(GALERA).is_file(),
            "no {GALERA} here: run the tests by `make test` or `make test-galera`, which install it"
        );
        let nodes: Vec<(PathBuf, u16)> = (0..3).map(|_| (new_folder(), free_ports(3))).collect();
        let mut servers: Vec<Server> =
            (0..3).map(|n| Server::new(Kind::Node(n, nodes.clone()), nodes[n].0.clone())).collect();
        // All begin with the same data at the same place of the cluster's history, so that none needs a copy of another's.
        servers[0].start_again();
        servers[0].stop();
        for node in &nodes[1..] {
            let copied =
                Command::new("cp").args(["-a", "data"]).arg(&node.0).current_dir(&nodes[0].0).status();
            assert!(copied.is_ok_and(|status| status.success()), "copying the data of a node");
        }
        for server in &mut servers {
            server.start_again();
        }
        servers
    }

    fn new(kind: Kind, folder: PathBuf) -> Server {
        assert!(
            kind.root().is_some()
                || find_program("mariadbd").is_some() && find_program("mariadb-install-db").is_some(),
            "no mariadbd here: run the tests by `make test`, which installs it, or `apt-get install mariadb-server-core mariadb-client-core`"
        );
        let port = match &kind {
            Kind::Member(member) => member.nodes[member.number].1,
            _ => free_port(),
        };
        let mut admin = Url::parse("mysql://localhost/").expect("a URL");
        // MariaDB lets the user of the tests in as its administrator, through the socket only.
        let user =
            if kind.root().is_some() { "root".to_owned() } else { id(&["-un"]).expect("a user with a name") };
        admin.set_username(&user).expect("a URL with a host");
        admin
            .query_pairs_mut()
            .append_pair("unix_socket", folder.join("socket").to_str().expect("a UTF-8 path"));
        let base = Url::parse(&format!("mysql://127.0.0.1:{port}/")).expect("a URL");
        Server {
            admin,
            base,
            private: Some(Private { folder, port, kind, options: Vec::new(), clock: None, guardian: None }),
            others: Vec::new(),
        }
    }

    /// What makes a session see whatever was committed on any node of the shared one; none where there is one node.
    pub(crate) fn see_all() -> Option<&'static str> {
        match env::var("DULY_TEST_SERVER").as_deref() {
            Ok("galera") => Some("SET SESSION wsrep_sync_wait = 15"),
            Ok("group-multi" | "group-single") => {
                Some("SET SESSION group_replication_consistency = 'BEFORE'")
            }
            _ => None,
        }
    }

    /// Whether the shared one is a cluster.
    pub(crate) fn is_cluster() -> bool {
        Server::see_all().is_some()
    }

    /// It and the other nodes that the tests write to.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = &Server> {
        std::iter::once(self).chain(&self.others)
    }

    /// Starts it on its old data, port and socket, and waits until it answers.
    pub(crate) fn start_again(&mut self) {
        let private = self.private.as_mut().expect("only a server started here can be started again");
        assert!(private.guardian.is_none(), "the server is running");
        private.prepare();
        private.guardian = Some(private.command().spawn().expect("starting /bin/sh"));
        let log = private.folder.join("log");
        let began = Instant::now();
        loop {
            let said = fs::read_to_string(&log).unwrap_or_default();
            let is_over = ["[ERROR] Aborting", "mariadbd: Terminated"].iter().any(|end| said.contains(end));
            assert!(!is_over, "the server does not start:\n{said}");
            // A node that has not caught up yet refuses what it is asked.
            // A member must change nothing before it has joined the others.
            let question = match private.kind {
                Kind::Member(_) => "DO 1",
                _ => "CREATE DATABASE IF NOT EXISTS duly_test_ready",
            };
            let answer = Client::connect(self.admin.as_str()).and_then(|mut client| client.execute(question));
            // One that is killed before it has written down which cluster it is of would ask for all data afterwards.
            let Err(answer) = answer.and_then(|()| private.is_of_a_cluster()) else { break };
            assert!(
                began.elapsed() < LIMIT,
                "the server does not answer ({answer}) within {LIMIT:?}:\n{said}"
            );
            thread::sleep(Duration::from_millis(20));
        }
        if let Kind::Member(member) = &private.kind {
            member.join(self.admin.as_str());
        }
        // What it said is kept only while it may explain why it does not start.
        File::create(&log).expect("emptying the server's log");
    }

    /// Waits until this node of a cluster has done all that was done before on any of them. One that is killed in the
    /// midst of a change of the schema would ask for all data afterwards: Galera then marks its data as unsafe.
    pub(crate) fn catch_up(&self) {
        let private = self.private.as_ref().expect("only the nodes started here are of a cluster");
        self.administrator().sql(if matches!(private.kind, Kind::Member(_)) {
            "SET SESSION group_replication_consistency = 'BEFORE'; SELECT COUNT(*) FROM mysql.user"
        } else {
            "SET SESSION wsrep_sync_wait = 15; SELECT COUNT(*) FROM mysql.user"
        });
        wait_until("the data of the node are safe", LIMIT, || private.is_of_a_cluster().is_ok());
    }

    /// Makes this member of a group with one primary the primary.
    pub(crate) fn lead(&self) {
        self.administrator().rows("SELECT group_replication_set_as_primary(@@server_uuid)");
    }

    /// Shuts it down in good order (SIGTERM); its data stays for [`Server::start_again`].
    pub(crate) fn stop(&mut self) {
        self.end(Signal::TERM);
    }

    /// Takes it away as a power cut would (SIGKILL); its data stays for [`Server::start_again`].
    pub(crate) fn kill(&mut self) {
        self.end(Signal::KILL);
    }

    /// Has the guardian end the server, and returns when both are gone.
    fn end(&mut self, signal: Signal) {
        let private = self.private.as_mut().expect("only a server started here can be stopped");
        let mut guardian = private.guardian.take().expect("the server is not running");
        let mut pipe = guardian.stdin.take().expect("a guardian has a pipe");
        writeln!(pipe, "{}", signal.as_raw()).expect("telling the guardian");
        wait_until("the server ends", LIMIT, || {
            guardian.try_wait().expect("waiting for the guardian").is_some()
        });
    }

    /// The URL of an administrator, without database.
    pub(crate) fn admin(&self) -> &Url {
        &self.admin
    }

    /// A connection as that administrator.
    pub(crate) fn administrator(&self) -> Session {
        Session::open(Backend::MariaDb, self.admin.as_str())
    }

    /// The URL of a user's database.
    pub(crate) fn url(&self, user: &str, password: &str, database: &str) -> Url {
        let mut url = self.base.clone();
        url.set_username(user).and_then(|()| url.set_password(Some(password))).expect("a URL with a host");
        url.set_path(database);
        // A MySQL that does not remember the user wants the password, and who it is has to be proved.
        if let Some(private) = self.private.as_ref().filter(|private| private.kind.root().is_some()) {
            let key = private.folder.join("data/public_key.pem");
            url.query_pairs_mut().append_pair("server_public_key", key.to_str().expect("a UTF-8 path"));
        }
        url
    }

    /// The port that it listens on.
    pub(crate) fn port(&self) -> u16 {
        self.base.port().unwrap_or(3306)
    }

    /// Who is an administrator of MariaDB through its socket.
    pub(crate) fn user_of_the_tests() -> String {
        id(&["-un"]).expect("a user with a name")
    }

    /// The server's socket, for those that want to connect through it.
    pub(crate) fn socket(&self) -> PathBuf {
        self.private.as_ref().expect("only a server started here has a known socket").folder.join("socket")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let Some(private) = &mut self.private else { return };
        match &mut private.guardian {
            Some(guardian) => {
                // Closing its pipe is the order to end the server and to delete the data; `wait` does that first.
                drop(guardian.wait());
            }
            None => drop(fs::remove_dir_all(&private.folder)),
        }
    }
}

impl Private {
    /// The guardian's command line, and in it the server's.
    fn command(&self) -> Command {
        let folder = self.folder.to_str().expect("a UTF-8 path");
        let user = self.user();
        let mut command = Command::new("/bin/sh");
        command.args(["-c", GUARDIAN, "guardian", folder, &self.made_by()]);
        // setpriv sets the death signal after the change of user, which would clear it.
        command.args(["setpriv", "--pdeathsig=KILL"]);
        if let Some(user) = user {
            let group = id(&["-g", user]).expect("a user with a group");
            command.args([format!("--reuid={user}"), format!("--regid={group}"), "--init-groups".to_owned()]);
        }
        if let Some(clock) = &self.clock {
            command.arg("env").arg(format!("FAKETIME_TIMESTAMP_FILE={}", clock.display()));
            command.args(["FAKETIME_NO_CACHE=1", "FAKETIME_DONT_FAKE_MONOTONIC=1"]);
            command.arg(format!("LD_PRELOAD={}", super::faketime::library().display()));
        }
        command.args(self.program());
        command.args([format!("--datadir={folder}/data"), format!("--pid-file={folder}/data/pid")]);
        command.args([format!("--socket={folder}/socket"), format!("--port={}", self.port)]);
        command.args(["--bind-address=127.0.0.1", "--skip-name-resolve"]);
        command.args(["--default-time-zone=-08:00", "--max-connections=500"]);
        command.args(["--innodb-flush-log-at-trx-commit=1", "--innodb-buffer-pool-size=64M"]);
        command.args(["--performance-schema=OFF"]);
        match &self.kind {
            Kind::MariaDb => command.arg("--innodb-log-file-size=32M"),
            Kind::MySql(_) => {
                command.args(["--mysqlx=OFF", "--skip-log-bin", "--innodb-redo-log-capacity=64M"])
            }
            Kind::Member(member) => {
                command.args(["--mysqlx=OFF", "--innodb-redo-log-capacity=64M"]).args(member.options())
            }
            Kind::Node(number, nodes) => {
                command.arg("--innodb-log-file-size=32M").args(galera(*number, nodes))
            }
        };
        // A server that starts removes what looks like temporary tables, also another's.
        command.env("TMPDIR", &self.folder);
        command.args(&self.options);
        // Its own process group: Ctrl-C at the terminal ends the tests, and their end ends the server.
        command.process_group(0).env("PATH", format!("{folder}:{}", search_path())).stdin(Stdio::piped());
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    /// Whom it runs as instead of root, which MariaDB refuses to.
    fn user(&self) -> Option<&'static str> {
        let is_root = rustix::process::geteuid().is_root() && self.kind.root().is_none();
        is_root.then(unprivileged)
    }

    /// The server's program and the options that have to be the first ones.
    fn program(&self) -> Vec<String> {
        match self.kind.root() {
            // With the system libraries that it came with.
            Some(root) => {
                let root = root.to_str().expect("a UTF-8 path");
                vec![
                    format!("{root}/usr/lib64/ld-linux-x86-64.so.2"),
                    "--library-path".to_owned(),
                    format!("{root}/usr/lib/x86_64-linux-gnu"),
                    format!("{root}/usr/sbin/mysqld"),
                    "--no-defaults".to_owned(),
                    format!("--basedir={root}/usr"),
                    "--secure-file-priv=".to_owned(),
                    format!("--user={}", id(&["-un"]).expect("a user with a name")),
                ]
            }
            None => vec!["mariadbd".to_owned(), "--no-defaults".to_owned()],
        }
    }

    /// The shell command that makes its data.
    fn made_by(&self) -> String {
        let data = self.folder.join("data");
        let mut words = self.program();
        if self.kind.root().is_some() {
            words.extend(["--initialize-insecure".to_owned(), format!("--datadir={}", data.display())]);
        } else {
            words = ["mariadb-install-db", "--no-defaults", "--skip-test-db", "--force"]
                .map(str::to_owned)
                .to_vec();
            words.extend([
                format!("--datadir={}", data.display()),
                "--auth-root-authentication-method=socket".to_owned(),
                format!("--auth-root-socket-user={}", id(&["-un"]).expect("a user with a name")),
            ]);
            words.extend(self.user().map(|user| format!("--user={user}")));
        }
        shell_words::join(words)
    }

    /// What is wrong with a node that would not know, if it were killed now, which cluster its data are of: one that has
    /// just joined it, or that is changing the schema.
    fn is_of_a_cluster(&self) -> Result<(), String> {
        let Kind::Node(..) = &self.kind else { return Ok(()) };
        let state = fs::read_to_string(self.folder.join("data/grastate.dat")).unwrap_or_default();
        if state.contains("00000000-0000-0000-0000-000000000000") { Err(state) } else { Ok(()) }
    }

    /// Lets a node that others were there to take over from begin a cluster if none of them is there.
    fn prepare(&self) {
        let Kind::Node(number, nodes) = &self.kind else { return };
        let script = self.folder.join("wsrep_sst_follow");
        fs::write(&script, include_str!("../../servers/wsrep_sst_follow")).expect("writing wsrep_sst_follow");
        fs::set_permissions(&script, Permissions::from_mode(0o755)).expect("making it executable");
        let state = self.folder.join("data/grastate.dat");
        if let (None, Ok(text)) = (first_alive(*number, nodes), fs::read_to_string(&state)) {
            fs::write(&state, text.replace("safe_to_bootstrap: 0", "safe_to_bootstrap: 1"))
                .expect("writing grastate.dat");
        }
    }
}
