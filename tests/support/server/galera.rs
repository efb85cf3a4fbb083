//! What makes a server a node of a cluster.

use std::net::TcpStream;
use std::path::PathBuf;

/// Galera's library, which Debian puts here.
pub(super) const GALERA: &str = "/usr/lib/galera/libgalera_smm.so";

/// What makes a server a node of the cluster of `nodes`. It joins those that are there, or begins a cluster.
pub(super) fn galera(number: usize, nodes: &[(PathBuf, u16)]) -> Vec<String> {
    let port = nodes[number].1;
    let others: Vec<String> =
        (0..nodes.len()).filter(|n| *n != number).map(|n| format!("127.0.0.1:{}", nodes[n].1)).collect();
    let cluster = if first_alive(number, nodes).is_some() { others.join(",") } else { String::new() };
    vec![
        "--binlog-format=ROW".to_owned(),
        "--innodb-autoinc-lock-mode=2".to_owned(),
        "--wsrep-on=ON".to_owned(),
        format!("--wsrep-provider={GALERA}"),
        format!("--wsrep-cluster-name=duly-{}", nodes[0].1),
        format!("--wsrep-node-address=127.0.0.1:{port}"),
        format!("--wsrep-cluster-address=gcomm://{cluster}"),
        "--wsrep-slave-threads=2".to_owned(),
        "--wsrep-sst-method=follow".to_owned(),
        // A node that is killed is given up soon.
        format!(
            "--wsrep-provider-options=base_port={port};gmcast.listen_addr=tcp://127.0.0.1:{port};ist.recv_addr=127.0.0.1:{};\
             gcache.size=64M;evs.suspect_timeout=PT2S;evs.inactive_timeout=PT5S;evs.keepalive_period=PT0.5S;\
             evs.inactive_check_period=PT0.5S",
            port + 1
        ),
    ]
}

/// Another node that listens.
pub(super) fn first_alive(number: usize, nodes: &[(PathBuf, u16)]) -> Option<usize> {
    (0..nodes.len()).find(|n| *n != number && TcpStream::connect(("127.0.0.1", nodes[*n].1)).is_ok())
}
