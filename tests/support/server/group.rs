//! What makes a MySQL a member of a Group Replication group.

use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use super::LIMIT;
use crate::support::Client;

/// A member: which one, of nodes with these folders and base ports, and whether all of them are written to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Member {
    /// MySQL's files.
    pub(super) root: PathBuf,
    pub(super) number: usize,
    pub(super) nodes: Vec<(PathBuf, u16)>,
    pub(super) is_multi: bool,
}

impl Member {
    /// The options of its server.
    pub(super) fn options(&self) -> Vec<String> {
        let port = |n: usize| self.nodes[n].1;
        let seeds: Vec<String> =
            (0..self.nodes.len()).map(|n| format!("127.0.0.1:{}", port(n) + 1)).collect();
        let (single, everywhere) = if self.is_multi { ("OFF", "ON") } else { ("ON", "OFF") };
        let group = [
            ("group-name", "aaaaaaaa-aaaa-4aaa-aaaa-aaaaaaaaaaaa".to_owned()),
            ("local-address", format!("127.0.0.1:{}", port(self.number) + 1)),
            ("group-seeds", seeds.join(",")),
            ("start-on-boot", "OFF".to_owned()),
            ("single-primary-mode", single.to_owned()),
            ("enforce-update-everywhere-checks", everywhere.to_owned()),
            ("recovery-get-public-key", "ON".to_owned()),
            // A member that is killed is given up soon, and one that gets no processor for some seconds is not.
            ("member-expel-timeout", "5".to_owned()),
        ];
        let plain = [
            format!("--server-id={}", self.number + 1),
            "--report-host=127.0.0.1".to_owned(),
            format!("--report-port={}", port(self.number)),
            "--gtid-mode=ON".to_owned(),
            "--enforce-gtid-consistency=ON".to_owned(),
            "--log-bin=bin".to_owned(),
            "--binlog-row-image=FULL".to_owned(),
            "--performance-schema=ON".to_owned(),
            "--plugin-load-add=group_replication.so".to_owned(),
        ];
        let group = group.map(|(name, value)| format!("--loose-group-replication-{name}={value}"));
        plain.into_iter().chain(group).collect()
    }

    /// Has a server that runs join those that are there, or begin the group.
    pub(super) fn join(&self, admin: &str) {
        let others = self.nodes.iter().enumerate().filter(|(n, _)| *n != self.number);
        let is_first = !others.clone().any(|(_, (folder, _))| {
            let url = format!("mysql://root@localhost/?unix_socket={}", folder.join("socket").display());
            Client::connect(&url).is_ok_and(|mut other| state(&mut other) == "ONLINE")
        });
        let mut client = Client::connect(admin).expect("an administrator of the member");
        client
            .execute(
                "SET SQL_LOG_BIN = 0; CREATE USER IF NOT EXISTS rpl@'%' IDENTIFIED BY 'rpl'; \
                 GRANT REPLICATION SLAVE, CONNECTION_ADMIN, BACKUP_ADMIN, GROUP_REPLICATION_STREAM ON *.* TO rpl@'%'; \
                 SET SQL_LOG_BIN = 1; CHANGE REPLICATION SOURCE TO SOURCE_USER = 'rpl', SOURCE_PASSWORD = 'rpl' \
                 FOR CHANNEL 'group_replication_recovery'",
            )
            .expect("setting the member up");
        let began = Instant::now();
        loop {
            let started = if is_first {
                client.execute(
                    "SET GLOBAL group_replication_bootstrap_group = ON; START GROUP_REPLICATION; \
                     SET GLOBAL group_replication_bootstrap_group = OFF",
                )
            } else {
                // The others may not have given up yet what this one was before it was killed.
                client.execute("START GROUP_REPLICATION")
            };
            if started.is_ok() && self.is_online(&mut client) {
                break;
            }
            let why = || {
                let log = std::fs::read_to_string(self.nodes[self.number].0.join("log")).unwrap_or_default();
                let errors: Vec<&str> = log.lines().filter(|line| line.contains("[ERROR]")).collect();
                errors[errors.len().saturating_sub(5)..].join("\n")
            };
            assert!(began.elapsed() < LIMIT, "member {}: {started:?}\n{}", self.number, why());
            drop(client.execute("STOP GROUP_REPLICATION"));
            thread::sleep(Duration::from_millis(500));
        }
    }

    /// Waits for it as long as recovery may take.
    fn is_online(&self, client: &mut Client) -> bool {
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(30) {
            match state(client).as_str() {
                "ONLINE" => {
                    // Tests of the shared one count on the ids of the first jobs; members then give the same ones, and one of two
                    // gives way. Left to itself, a group has each member give others.
                    if std::env::var("DULY_TEST_SERVER").is_ok_and(|server| server == "group-multi") {
                        let ids =
                            "SET GLOBAL auto_increment_increment = 1; SET GLOBAL auto_increment_offset = 1";
                        client.execute(ids).expect("setting the ids of a member");
                    }
                    return true;
                }
                "ERROR" => return false,
                _ => thread::sleep(Duration::from_millis(50)),
            }
        }
        false
    }
}

/// What a member says of itself.
pub(super) fn state(client: &mut Client) -> String {
    let query = "SELECT MEMBER_STATE FROM performance_schema.replication_group_members WHERE MEMBER_ID = @@server_uuid";
    let rows = client.rows(query).unwrap_or_default();
    rows.into_iter().flatten().flatten().next().unwrap_or_default()
}
