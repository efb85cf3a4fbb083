//! Certificates, made by openssl, which `make test` installs.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

/// A folder of them.
pub(crate) struct Certificates {
    folder: TempDir,
}

impl Certificates {
    /// Two authorities, `ours` and `foreign`; nothing signed yet.
    pub(crate) fn new() -> Certificates {
        // The server runs as another user and must be able to read them.
        let folder = tempfile::Builder::new().permissions(Permissions::from_mode(0o755)).tempdir().unwrap();
        let made = Certificates { folder };
        for name in ["ours", "foreign"] {
            made.openssl(&format!(
                "req -x509 -newkey rsa:2048 -nodes -days 30 -subj /CN={name} -keyout {name}.key -out {name}.pem"
            ));
        }
        made
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Makes `server.pem` for the host another.example, signed by an authority; with `days` below 0 it has run out.
    pub(crate) fn sign(&self, authority: &str, days: i32) {
        self.sign_as("server", authority, days, "subjectAltName=DNS:another.example");
    }

    /// Makes `NAME.pem` and `NAME.key`, with an extension.
    pub(crate) fn sign_as(&self, name: &str, authority: &str, days: i32, extension: &str) {
        fs::write(self.path("extensions"), format!("{extension}\n")).unwrap();
        self.openssl(&format!(
            "req -newkey rsa:2048 -nodes -subj /CN=another.example -keyout {name}.key -out {name}.csr"
        ));
        self.openssl(&format!(
            "x509 -req -in {name}.csr -CA {authority}.pem -CAkey {authority}.key -CAcreateserial -days {days} -extfile extensions -out {name}.pem"
        ));
        for file in ["key", "pem"] {
            fs::set_permissions(self.path(&format!("{name}.{file}")), Permissions::from_mode(0o644)).unwrap();
        }
    }

    /// What makes a server use `server.pem`.
    pub(crate) fn options(&self) -> Vec<String> {
        [("ca", "ours.pem"), ("cert", "server.pem"), ("key", "server.key")]
            .map(|(option, file)| format!("--ssl-{option}={}", self.path(file).display()))
            .to_vec()
    }

    #[track_caller]
    fn openssl(&self, arguments: &str) {
        let output = Command::new("openssl").args(arguments.split(' ')).current_dir(&self.folder).output();
        let output = output.expect("no openssl here: `make test` installs it, or `apt-get install openssl`");
        assert!(output.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    }
}
