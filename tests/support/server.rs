//! Private database servers: started by the tests themselves, on loopback, gone with the test process however it ends.
//!
//! Each server has a guardian, a shell that reads a pipe whose other end only the test process holds. When the pipe closes,
//! the guardian kills the server and deletes its data; the server in turn dies with its guardian (`--pdeathsig`). So neither
//! the end of the tests nor a `kill -9` of either leaves anything behind.
//!
//! The server's time zone is `-08:00`: a local time that slips in where UTC belongs is then hours off, and shows.

use std::fs::{self, File, Permissions};
use std::io::Write;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;
use std::{env, process};

use diesel::{Connection, MysqlConnection};
use rustix::process::Signal;
use url::Url;

use super::database::{Backend, Session};
use super::wait_until;

/// How long a server may take to answer or to end.
const LIMIT: Duration = Duration::from_secs(60);

/// What the guardian does; `$1` is the folder, `$2` the first of the commands' options, the rest is the server's command line.
/// A line that it reads is the signal to stop the server with, its data being kept.
const GUARDIAN: &str = r#"
folder=$1
cd "$folder" || exit 1
if [ -d data/mysql ] || mariadb-install-db --no-defaults --datadir="$folder/data" --skip-test-db --force \
    --auth-root-authentication-method=socket --auth-root-socket-user="$(id -un)" $2 >>log 2>&1
then
    shift 2
    "$@" >>log 2>&1 &
    server=$!
else
    echo "[ERROR] Aborting: mariadb-install-db failed" >>log
    server=
fi
if read -r signal; then kill -s "$signal" $server; wait $server; exit 0; fi
[ -z "$server" ] || { kill -s KILL $server; wait $server; }
cd / && rm -rf "$folder"
"#;

/// A running database server that tests may create databases on.
pub(crate) struct Server {
    /// For creating databases and users.
    admin: Url,
    /// Where the tests' own users connect: without user, password and database.
    base: Url,
    /// What this process started; `None` for a server that was there already.
    private: Option<Private>,
}

/// The parts of a server that this process started.
struct Private {
    folder: PathBuf,
    port: u16,
    options: Vec<String>,
    guardian: Option<Child>,
}

impl Server {
    /// The one that all tests share: started at its first use, or the one that `DULY_TEST_MYSQL_URL` names (a URL of an
    /// administrator, without database; it may well be MySQL).
    pub(crate) fn shared() -> &'static Server {
        static SHARED: OnceLock<Server> = OnceLock::new();
        SHARED.get_or_init(|| match env::var("DULY_TEST_MYSQL_URL") {
            Ok(url) => Server::at(&url),
            Err(_) => Server::start(),
        })
    }

    /// One that is already running.
    fn at(url: &str) -> Server {
        let admin = Url::parse(url).unwrap_or_else(|err| panic!("DULY_TEST_MYSQL_URL is no URL: {err}"));
        let mut base = admin.clone();
        base.set_username("").and_then(|()| base.set_password(None)).expect("a URL with a host");
        Server { admin, base, private: None }
    }

    /// A MariaDB of the caller's own, for tests that take the database away. It ends with the value.
    pub(crate) fn start() -> Server {
        Server::start_with(&[])
    }

    /// The same, with options of the server's own.
    pub(crate) fn start_with(options: &[String]) -> Server {
        assert!(
            find_program("mariadbd").is_some() && find_program("mariadb-install-db").is_some(),
            "no mariadbd here: run the tests by `make test`, which installs it, or `apt-get install mariadb-server-core mariadb-client-core`"
        );
        let (folder, port) = (new_folder(), free_port());
        let mut admin = Url::parse("mysql://localhost/").expect("a URL");
        // MariaDB lets the user of the tests in as its administrator, through the socket only.
        admin.set_username(&id(&["-un"]).expect("a user with a name")).expect("a URL with a host");
        admin
            .query_pairs_mut()
            .append_pair("unix_socket", folder.join("socket").to_str().expect("a UTF-8 path"));
        let base = Url::parse(&format!("mysql://127.0.0.1:{port}/")).expect("a URL");
        let mut server = Server { admin, base, private: None };
        server.private = Some(Private { folder, port, options: options.to_vec(), guardian: None });
        server.start_again();
        server
    }

    /// Starts it on its old data, port and socket, and waits until it answers.
    pub(crate) fn start_again(&mut self) {
        let private = self.private.as_mut().expect("only a server started here can be started again");
        assert!(private.guardian.is_none(), "the server is running");
        private.guardian = Some(private.command().spawn().expect("starting /bin/sh"));
        let log = private.folder.join("log");
        wait_until("MariaDB answers", LIMIT, || {
            let said = fs::read_to_string(&log).unwrap_or_default();
            assert!(!said.contains("[ERROR] Aborting"), "MariaDB does not start:\n{said}");
            MysqlConnection::establish(self.admin.as_str()).is_ok()
        });
        // What it said is kept only while it may explain why it does not start.
        File::create(&log).expect("emptying the server's log");
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
        wait_until("MariaDB ends", LIMIT, || {
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
        url
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
        let user = rustix::process::geteuid().is_root().then(unprivileged);
        let mut command = Command::new("/bin/sh");
        command.args([
            "-c",
            GUARDIAN,
            "guardian",
            folder,
            &user.map_or(String::new(), |user| format!("--user={user}")),
        ]);
        // setpriv sets the death signal after the change of user, which would clear it.
        command.args(["setpriv", "--pdeathsig=KILL"]);
        if let Some(user) = user {
            let group = id(&["-g", user]).expect("a user with a group");
            command.args([format!("--reuid={user}"), format!("--regid={group}"), "--init-groups".to_owned()]);
        }
        command.args(["mariadbd", "--no-defaults", "--bind-address=127.0.0.1", "--skip-name-resolve"]);
        command.args([format!("--datadir={folder}/data"), format!("--pid-file={folder}/data/pid")]);
        command.args([format!("--socket={folder}/socket"), format!("--port={}", self.port)]);
        command.args(["--default-time-zone=-08:00", "--max-connections=500"]);
        command.args(["--innodb-flush-log-at-trx-commit=1", "--innodb-buffer-pool-size=64M"]);
        command.args(["--innodb-log-file-size=32M", "--performance-schema=OFF"]);
        command.args(&self.options);
        // Its own process group: Ctrl-C at the terminal ends the tests, and their end ends the server.
        command.process_group(0).env("PATH", search_path()).stdin(Stdio::piped());
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command
    }
}

/// Where programs are looked for: also where Debian puts servers, which is not on every user's path.
fn search_path() -> String {
    format!("{}:/usr/local/sbin:/usr/sbin:/usr/libexec", env::var("PATH").unwrap_or_default())
}

/// Where a program is installed.
fn find_program(name: &str) -> Option<PathBuf> {
    env::split_paths(&search_path()).map(|folder| folder.join(name)).find(|path| path.is_file())
}

/// What `id` prints; `None` where there is no such user.
fn id(arguments: &[&str]) -> Option<String> {
    let output = Command::new("id").args(arguments).output().expect("running id");
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// The user that a server runs as if the tests run as root, which MariaDB refuses to run as. Debian's package of the bare
/// server, which starts no service, makes no user of its own.
fn unprivileged() -> &'static str {
    static USER: OnceLock<&str> = OnceLock::new();
    USER.get_or_init(|| if id(&["-u", "mysql"]).is_some() { "mysql" } else { "nobody" })
}

/// A folder for a server: in memory where there is plenty (2 GiB), since nothing here has to survive the machine.
fn new_folder() -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let memory = Path::new("/dev/shm");
    let plenty = rustix::fs::statvfs(memory).is_ok_and(|fs| fs.f_bavail * fs.f_frsize >= 2 << 30);
    let parent = if plenty { memory.to_owned() } else { env::temp_dir() };
    let folder =
        parent.join(format!("duly-server-{}-{}", process::id(), COUNT.fetch_add(1, Ordering::Relaxed)));
    fs::create_dir(&folder).unwrap_or_else(|err| panic!("creating {}: {err}", folder.display()));
    if rustix::process::geteuid().is_root() {
        // The server, running as another user, makes its socket here; nobody else can write here.
        let user = id(&["-u", unprivileged()]).and_then(|number| number.parse().ok());
        std::os::unix::fs::chown(&folder, user, None).expect("giving the folder to the server's user");
    }
    fs::set_permissions(&folder, Permissions::from_mode(0o755)).expect("setting the folder's mode");
    folder
}

/// A port nobody listens on, below those that the kernel hands out to clients, so that it is still free after a restart;
/// never the same twice, so that a server that is away for a while finds its own again.
fn free_port() -> u16 {
    static USED: Mutex<u16> = Mutex::new(0);
    let mut used = USED.lock().unwrap_or_else(PoisonError::into_inner);
    let first = 15_000 + u16::try_from(process::id() % 15_000).expect("less than 15,000");
    let port = (first.max(*used + 1)..32_000)
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .expect("a free port");
    *used = port;
    port
}
