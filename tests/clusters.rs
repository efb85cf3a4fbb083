//! That the tests' own cluster is what it says, and what a node of one does that no other server does.

use std::time::{Duration, Instant};

use crate::support::{CommitFault, Database, Proxy, Sandbox, Server, wait_until};

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
    nodes[2].catch_up();
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

/// The proxy keeps the answer to itself, as nodes of MariaDB 10.11 were seen to do with that to a prepared statement whose
/// transaction was aborted. Duly prepares none any more.
#[test]
fn a_statement_that_a_node_never_answers_is_tried_again_on_another_connection() {
    let nodes = Server::cluster();
    let proxy = Proxy::to(nodes[0].port());
    let s = Sandbox::on(Database::on(&nodes[0]).through([&proxy]));
    s.set_jobs(&format!(
        "runner: {{state_dir: {}, lease: 20s}}\njobs:\n  job: {{command: [sh, -c, 'echo ran >> ran']}}\n",
        s.state_dir().display()
    ));
    s.duly(["migrate"]).output();
    s.duly(["start", "job"]).stdout("1\n").status(0);
    proxy.at("UPDATE duly_job SET", 0, CommitFault::AnswerNever);
    let began = Instant::now();
    let output =
        s.duly(["run"]).stderr_has("gave no answer within 10s").stderr_has("the database is back").status(0);
    assert!(proxy.has_struck(), "{output}");
    assert!(began.elapsed() < Duration::from_secs(25), "{:?}", began.elapsed());
    // Until the node has noticed that nobody waits for the first statement any more, that holds the job.
    wait_until("the job has run", Duration::from_secs(30), || {
        s.path("ran").exists() || s.duly(["run"]).output().status.success() && s.path("ran").exists()
    });
    assert_eq!(s.read("ran"), "ran\n");
    assert_eq!(s.database().value("SELECT CONCAT(state, ' ', attempts) FROM duly_job"), "success 1");
}

/// Seen failing with a limit of three seconds on each statement.
#[test]
fn a_statement_that_takes_long_is_waited_for_on_a_cluster() {
    let nodes = Server::cluster();
    let s = Sandbox::on(Database::on(&nodes[0]));
    s.set_jobs("jobs:\n  job: {command: [sh, -c, 'echo ran >> ran']}\n");
    s.duly(["migrate"]).output();
    s.duly(["start", "job"]).stdout("1\n").status(0);
    nodes[0].administrator().sql(&format!(
        "CREATE TRIGGER {0}.slow BEFORE UPDATE ON {0}.duly_job FOR EACH ROW \
         SET @slow = IF(NEW.state = 'running' AND OLD.state = 'pending', SLEEP(6), 0)",
        s.database().value("SELECT DATABASE()")
    ));
    let began = Instant::now();
    let output = s.duly(["run"]).output();
    assert!(output.status.success() && output.stderr.is_empty(), "{output}");
    assert!(began.elapsed() >= Duration::from_secs(6), "{:?}", began.elapsed());
    assert_eq!(s.database().value("SELECT CONCAT(state, ' ', attempts) FROM duly_job"), "success 1");
    assert_eq!(s.read("ran"), "ran\n");
}
