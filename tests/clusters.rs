//! That the tests' own servers of the other kinds are what they say: MySQL, and a cluster whose nodes come and go.

use crate::support::{Database, Sandbox, Server};

/// What one host does through one node, another sees through another; and a node that was killed catches up.
#[test]
fn three_nodes_of_a_cluster_are_one_database() {
    let mut nodes = Server::cluster();
    assert_eq!(
        nodes[0].administrator().rows("SHOW STATUS LIKE 'wsrep_cluster_size'")[0][1].as_deref(),
        Some("3")
    );
    let s = Sandbox::on(Database::on(&nodes[0]));
    s.duly(["migrate"]).output();
    nodes[2].kill();
    s.set_jobs("jobs:\n  job: {command: ['true']}\n");
    s.duly(["start", "job"]).stdout("1\n").status(0);
    nodes[2].start_again();
    let mut third = nodes[2].administrator();
    third.sql("SET SESSION wsrep_sync_wait = 15");
    let name = s.database().value("SELECT DATABASE()");
    assert_eq!(third.value(&format!("SELECT COUNT(*) FROM {name}.duly_job")), "1");
    s.duly(["run"]).status(0);
    assert_eq!(third.value(&format!("SELECT state FROM {name}.duly_job")), "success");
}
