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

/// What tells this process's pid namespace from every other of this boot; empty where the kernel does not say.
pub(super) fn pid_namespace() -> String {
    fs::read_link("/proc/self/ns/pid").map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
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

/// The person or service at this process, as `user alice on web1`; by number where /etc/passwd has no name for it.
#[must_use]
pub fn who() -> String {
    let number = rustix::process::getuid().as_raw().to_string();
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    format!("user {} on {}", name_in(&users, &number).unwrap_or(&number), host())
}

/// The name of a user in the lines of /etc/passwd.
fn name_in<'a>(users: &'a str, number: &str) -> Option<&'a str> {
    users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1) == Some(number) && !name.is_empty()).then_some(name)
    })
}

/// Whether a program of one of these names runs on this host.
#[must_use]
pub fn is_running(names: &[&str]) -> bool {
    super::stop::all_processes().any(|pid| {
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        names.contains(&name.trim())
    })
}

#[cfg(test)]
mod tests {
    use super::name_in;

    #[test]
    fn a_user_has_a_name_where_the_list_has_one() {
        let users = "root:x:0:0::/root:/bin/sh\n\nbroken\nalice:x:1000:100::/home/alice:/bin/sh\n";
        assert_eq!(
            [name_in(users, "1000"), name_in(users, "0"), name_in(users, "100")],
            [Some("alice"), Some("root"), None]
        );
    }
}
