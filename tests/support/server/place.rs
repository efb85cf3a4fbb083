//! Where servers are found, whom they run as and where their data are.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::{env, process};

/// Where programs are looked for: also where Debian puts servers, which is not on every user's path.
pub(super) fn search_path() -> String {
    format!("{}:/usr/local/sbin:/usr/sbin:/usr/libexec", env::var("PATH").unwrap_or_default())
}

/// Where a program is installed.
pub(super) fn find_program(name: &str) -> Option<PathBuf> {
    env::split_paths(&search_path()).map(|folder| folder.join(name)).find(|path| path.is_file())
}

/// What `id` prints; `None` where there is no such user.
pub(super) fn id(arguments: &[&str]) -> Option<String> {
    let output = Command::new("id").args(arguments).output().expect("running id");
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// The user that a server runs as if the tests run as root, which MariaDB refuses to run as. Debian's package of the bare
/// server, which starts no service, makes no user of its own.
pub(super) fn unprivileged() -> &'static str {
    static USER: OnceLock<&str> = OnceLock::new();
    USER.get_or_init(|| if id(&["-u", "mysql"]).is_some() { "mysql" } else { "nobody" })
}

/// A folder for a server: in memory where there is plenty (2 GiB), since nothing here has to survive the machine.
pub(super) fn new_folder() -> PathBuf {
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
