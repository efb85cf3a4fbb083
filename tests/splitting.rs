//! A proxy that splits reads from writes: plain `SELECT`s are answered by a replica that lags behind. No tick believes that.

use std::io::{Read, Result, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use url::Url;

use crate::support::{Client, Database, Sandbox, Server};

const SOON: Duration = Duration::from_secs(60);

/// A packet and its number.
fn hear(stream: &mut TcpStream) -> Result<(u8, Vec<u8>)> {
    let mut header = [0; 4];
    stream.read_exact(&mut header)?;
    let mut payload =
        vec![0; usize::from(header[0]) | usize::from(header[1]) << 8 | usize::from(header[2]) << 16];
    stream.read_exact(&mut payload)?;
    Ok((header[3], payload))
}

fn say(stream: &mut TcpStream, number: u8, payload: &[u8]) -> Result<()> {
    let length = u32::try_from(payload.len()).unwrap().to_le_bytes();
    stream.write_all(&[&[length[0], length[1], length[2], number], payload].concat())
}

fn text(text: &[u8]) -> Vec<u8> {
    [&[0xfc], &u16::try_from(text.len()).unwrap().to_le_bytes()[..], text].concat()
}

/// What ends columns, and rows.
const END: &[u8] = &[0xfe, 0, 0, 2, 0];

/// Whether a proxy takes a statement for one that only reads.
fn only_reads(statement: &str) -> bool {
    statement.starts_with("SELECT") && !statement.contains("FOR UPDATE") && !statement.contains("SHARE MODE")
}

/// Passes a conversation with the primary on, but for what only reads: that is asked of the replica.
fn split(mut client: TcpStream, mut primary: TcpStream, replica: &str) -> Result<()> {
    let mut replica = Client::connect(replica).unwrap();
    let (number, greeting) = hear(&mut primary)?;
    say(&mut client, number, &greeting)?;
    loop {
        let (number, answer) = hear(&mut client)?;
        say(&mut primary, number, &answer)?;
        let (number, question) = hear(&mut primary)?;
        say(&mut client, number, &question)?;
        if question[0] == 0 {
            break;
        }
    }
    loop {
        let (number, command) = hear(&mut client)?;
        let statement = String::from_utf8_lossy(&command[1..]).into_owned();
        if command[0] == 3 && only_reads(&statement) {
            let (names, rows) = replica.table(&statement).unwrap();
            let mut packets = vec![vec![u8::try_from(names.len()).unwrap()]];
            for name in &names {
                let length = u8::try_from(name.len()).unwrap();
                let kind = [0, 12, 45, 0, 255, 0, 0, 0, 253, 0, 0, 0, 0, 0];
                packets.push([&b"\x03def\0\0\0"[..], &[length], name.as_bytes(), &kind].concat());
            }
            packets.push(END.to_vec());
            for row in rows {
                let value = |value: Option<String>| value.map_or(vec![0xfb], |value| text(value.as_bytes()));
                packets.push(row.into_iter().flat_map(value).collect());
            }
            packets.push(END.to_vec());
            for (number, packet) in (1..).zip(&packets) {
                say(&mut client, number, packet)?;
            }
            continue;
        }
        say(&mut primary, number, &command)?;
        let mut ends = 0;
        loop {
            let (number, packet) = hear(&mut primary)?;
            say(&mut client, number, &packet)?;
            ends += usize::from(packet[0] == 0xfe && packet.len() < 9);
            if packet[0] == 0xff || ends == 2 || ends == 0 && packet[0] == 0 {
                break;
            }
        }
    }
}

/// Seen failing with the same kind of statement asked twice: jobs run, and the heartbeat stops them.
#[test]
fn what_a_lagging_replica_answers_is_noticed_before_anything_starts() {
    let options =
        |id: u8| [format!("--server-id={id}"), "--log-bin=bin".to_owned(), "--binlog-format=ROW".to_owned()];
    let (primary, replica) = (Server::start_with(&options(1)), Server::start_with(&options(2)));
    primary
        .administrator()
        .sql("CREATE USER rpl@'%' IDENTIFIED BY 'rpl'; GRANT REPLICATION SLAVE ON *.* TO rpl@'%'");
    let at = primary.administrator().rows("SHOW MASTER STATUS");
    let (file, position) = (at[0][0].clone().unwrap(), at[0][1].clone().unwrap());
    replica.administrator().sql(&format!(
        "CHANGE MASTER TO MASTER_HOST = '127.0.0.1', MASTER_PORT = {}, MASTER_USER = 'rpl', MASTER_PASSWORD = 'rpl', \
         MASTER_LOG_FILE = '{file}', MASTER_LOG_POS = {position}; START SLAVE",
        primary.port()
    ));
    let s = Sandbox::on(Database::on(&primary));
    s.set_jobs("jobs:\n  job: {command: [sh, -c, 'echo ran >> ran']}\n");
    assert!(s.duly(["migrate"]).output().status.success());
    let name = s.database().user().to_owned();
    let all = primary.administrator().value("SELECT @@gtid_binlog_pos");
    let caught_up = format!("SELECT MASTER_GTID_WAIT('{all}', {})", SOON.as_secs());
    assert_eq!(replica.administrator().value(&caught_up), "0");
    // From here on it lags.
    replica.administrator().sql("STOP SLAVE; CHANGE MASTER TO MASTER_DELAY = 5; START SLAVE");
    let of_replica = replica.url(&name, s.database().password(), &name).to_string();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut url = Url::parse(s.database().url()).unwrap();
    url.set_port(Some(listener.local_addr().unwrap().port())).unwrap();
    let port = primary.port();
    thread::spawn(move || {
        for client in listener.incoming() {
            let (client, of_replica) = (client.unwrap(), of_replica.clone());
            // One side or the other goes when it is done.
            thread::spawn(move || {
                split(client, TcpStream::connect(("127.0.0.1", port)).unwrap(), &of_replica)
            });
        }
    });
    s.duly(["start", "job"]).stdout("1\n").status(0);
    let through = |word: &str| {
        s.duly(&["--database-url", url.as_str(), word, "job"][..if word == "run" { 3 } else { 4 }]).output()
    };
    // The first tick does not even see the job; once the replica has it, the tick says what is wrong.
    let mut output = through("run");
    let began = std::time::Instant::now();
    while output.status.success() && began.elapsed() < SOON {
        output = through("run");
    }
    assert!(
        output.status.code() == Some(1) && output.stderr.contains("switch read/write splitting off"),
        "{output}"
    );
    let output = through("start");
    assert!(output.status.code() == Some(1) && output.stderr.contains("reads from server 2"), "{output}");
    assert!(!s.path("ran").exists());
    // Nothing is lost, and nothing was put in twice.
    s.duly(["run"]).status(0);
    assert_eq!(
        (s.read("ran").as_str(), s.database().value("SELECT COUNT(*) FROM duly_job").as_str()),
        ("ran\n", "1")
    );
}
