//! Another local user of this machine, who tries what such a user may try.
//!
//! Only root can act as somebody else. Where the tests run as anybody else, they look at owners and modes instead, which are
//! what the kernel decides by: nothing is skipped.

use std::process::{Command, Output};

/// Runs a script of `sh` as the user `nobody`; `None` where the tests do not run as root, who alone can do that.
#[track_caller]
pub(crate) fn as_stranger(script: &str) -> Option<Output> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let output = Command::new("setpriv")
        .args(["--reuid=nobody", "--regid=nogroup", "--clear-groups", "sh", "-c", script])
        .current_dir("/")
        .output()
        .expect("running setpriv, which is part of util-linux");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(!stderr.contains("setpriv:"), "cannot act as nobody: {stderr}");
    Some(output)
}
