//! Who and where we are: the host, its boot, this process, the person at it.

use std::fs;

/// The host's name, for people and for telling hosts apart.
#[must_use]
pub fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// What tells this boot of the kernel from every other; empty where the kernel does not say.
#[must_use]
pub fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|id| id.trim().to_owned()).unwrap_or_default()
}

/// An identity that no other process has or had: a random number of the kernel's, 32 hex digits.
///
/// Never made of host name or process id, which a container that is started again gets again.
#[must_use]
pub fn new_owner() -> String {
    use std::hash::{BuildHasher, RandomState};
    match fs::read_to_string("/proc/sys/kernel/random/uuid") {
        Ok(uuid) => uuid.trim().replace('-', ""),
        Err(_) => {
            let half = |salt: u8| RandomState::new().hash_one((salt, std::process::id()));
            format!("{:016x}{:016x}", half(1), half(2))
        }
    }
}

/// The person or service at this process, as `user 1000 on web1`.
#[must_use]
pub fn who() -> String {
    format!("user {} on {}", rustix::process::getuid().as_raw(), host())
}

/// Whether a program of one of these names runs on this host.
#[must_use]
pub fn is_running(names: &[&str]) -> bool {
    super::stop::all_processes().any(|pid| {
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        names.contains(&name.trim())
    })
}
