//! A server that is not what it says: whatever it asks and answers, it learns no password, and `duly` says one line and ends.

use std::fs::{self, Permissions};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::support::{Backend, Certificates, Database, Output, Sandbox, Server};

const PASSWORD: &str = "geheim4711";
const CLIENT_SSL: u32 = 0x800;
const MODES: [&str; 6] = ["", "disabled", "preferred", "required", "verify_ca", "verify_identity"];

/// A port where each connection is treated by `behave`; gives what each conversation got from the other side, in the clear.
fn rogue(
    behave: impl Fn(&mut Talk) -> std::io::Result<()> + Send + Sync + 'static,
) -> (u16, Receiver<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (sender, got) = channel();
    let behave = Arc::new(behave);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (sender, behave) = (sender.clone(), Arc::clone(&behave));
            thread::spawn(move || {
                let stream = stream.unwrap();
                stream.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
                let mut talk = Talk { stream: Box::new(stream), number: 0, got: Vec::new() };
                // The other side may be gone at any time.
                let _gone = behave(&mut talk);
                // What it says last is heard out.
                let _gone = talk.stream.read_to_end(&mut talk.got);
                let _over = sender.send(talk.got);
            });
        }
    });
    (port, got)
}

trait Duplex: Read + Write + Send {}
impl<T: Read + Write + Send> Duplex for T {}

/// The server's side of a conversation.
struct Talk {
    stream: Box<dyn Duplex>,
    number: u8,
    got: Vec<u8>,
}

impl Talk {
    /// Sends a packet.
    fn say(&mut self, payload: &[u8]) -> std::io::Result<()> {
        let length = u32::try_from(payload.len()).unwrap().to_le_bytes();
        let header = [length[0], length[1], length[2], self.number];
        self.number = self.number.wrapping_add(1);
        self.stream.write_all(&[&header, payload].concat())
    }

    /// Takes a packet.
    fn hear(&mut self) -> std::io::Result<Vec<u8>> {
        let mut header = [0; 4];
        self.stream.read_exact(&mut header)?;
        self.number = header[3].wrapping_add(1);
        let length = usize::from(header[0]) | usize::from(header[1]) << 8 | usize::from(header[2]) << 16;
        let mut payload = vec![0; length];
        self.stream.read_exact(&mut payload)?;
        self.got.extend(&payload);
        Ok(payload)
    }

    fn greet(&mut self, plugin: &str, has_tls: bool) -> std::io::Result<Vec<u8>> {
        self.say(&greeting(plugin, has_tls))?;
        self.hear()
    }

    /// Lets the other side in, and hears its first statement.
    fn let_in(&mut self) -> std::io::Result<()> {
        self.greet("mysql_native_password", false)?;
        self.say(OK)?;
        self.hear().map(drop)
    }
}

const OK: &[u8] = &[0, 0, 0, 2, 0, 0, 0];
const END: &[u8] = &[0xfe, 0, 0, 2, 0];

fn greeting(plugin: &str, has_tls: bool) -> Vec<u8> {
    let capabilities: u32 = 0x018f_a20f | if has_tls { CLIENT_SSL } else { 0 };
    let bits = capabilities.to_le_bytes();
    let mut packet = b"\x0a8.0.35\0\x07\0\0\0AAAAAAAA\0".to_vec();
    packet.extend([bits[0], bits[1], 45, 2, 0, bits[2], bits[3], 21]);
    packet.extend([0; 10]);
    packet.extend(b"BBBBBBBBBBBB\0");
    packet.extend(plugin.as_bytes());
    packet.push(0);
    packet
}

/// A column of a result, with this name.
fn column(name: &[u8]) -> Vec<u8> {
    let mut packet = vec![3, b'd', b'e', b'f', 0, 0, 0, u8::try_from(name.len()).unwrap()];
    packet.extend(name);
    packet.extend([0, 12, 45, 0, 255, 0, 0, 0, 253, 0, 0, 0, 0, 0]);
    packet
}

/// `duly list` there, within a time.
fn list(port: u16, options: &str) -> Output {
    let s = Sandbox::from(Backend::Sqlite);
    let question = if options.is_empty() { "" } else { "?" };
    s.set_jobs(&format!(
        "database: 'mysql://shop:{PASSWORD}@127.0.0.1:{port}/shop{question}{options}'\njobs: {{}}\n"
    ));
    let began = Instant::now();
    let output = s.duly(["-vv", "list"]).output();
    assert!(began.elapsed() < Duration::from_secs(80), "{:?}: {output}", began.elapsed());
    output
}

/// It ends with 1 and one line, which has `word`.
#[track_caller]
fn assert_one_line(output: &Output, word: &str) {
    let errors: Vec<&str> = output.stderr.lines().filter(|line| line.starts_with("duly: error: ")).collect();
    assert!(output.status.code() == Some(1) && errors.len() == 1, "{word}: {output}");
    assert!(errors[0].contains(word), "{word}: {output}");
    assert!(!output.stderr.contains(PASSWORD) && !output.stderr.contains("panicked"), "{output}");
}

fn has_password(got: &[u8]) -> bool {
    got.windows(PASSWORD.len()).any(|window| window == PASSWORD.as_bytes())
}

/// Seen failing with the bit asked of the server's greeting alone.
#[test]
fn a_man_in_the_middle_who_clears_the_offer_of_tls_gets_nothing_in_the_clear() {
    let server = Server::shared();
    // Who has no user at all from here is told so before anything else.
    let _database = Database::on(server);
    for mode in ["required", "verify_ca", "verify_identity"] {
        let real = server.port();
        let (port, got) = rogue(move |talk| {
            let mut upstream = TcpStream::connect(("127.0.0.1", real))?;
            let mut packet = vec![0; 4096];
            let length = upstream.read(&mut packet)?;
            // The capabilities' lower half stands after the version's end, the connection's id, 8 bytes and a zero.
            let at = packet[5..].iter().position(|byte| *byte == 0).unwrap() + 5 + 1 + 4 + 8 + 1;
            packet[at + 1] &= !0x08;
            talk.stream.write_all(&packet[..length])
        });
        assert_one_line(&list(port, &format!("ssl_mode={mode}")), "offers no TLS");
        assert_eq!(got.recv_timeout(Duration::from_secs(10)).unwrap(), b"", "{mode}");
    }
}

/// Seen failing with each of the plug-ins let through.
#[test]
fn whoever_asks_for_a_password_in_the_clear_gets_none_in_any_mode() {
    for plugin in
        ["mysql_clear_password", "dialog", "sha256_password", "mysql_old_password", "no_such_plugin"]
    {
        for mode in ["", "disabled", "preferred"] {
            let (port, got) = rogue(move |talk| {
                talk.greet("mysql_native_password", false)?;
                talk.say(&[b"\xfe", plugin.as_bytes(), b"\0CCCCCCCCCCCCCCCCCCCC\0"].concat())
            });
            let options = if mode.is_empty() { String::new() } else { format!("ssl_mode={mode}") };
            assert_one_line(&list(port, &options), plugin);
            assert!(!has_password(&got.recv_timeout(Duration::from_secs(10)).unwrap()), "{plugin} {mode}");
        }
    }
}

/// Through TLS that proves nothing, and by a key that whoever answers hands out. Seen failing with either believed.
#[test]
fn a_rogue_server_that_forgets_everybody_gets_no_password_in_any_mode() {
    let certificates = Certificates::new();
    certificates.sign("foreign", 30);
    let chain =
        CertificateDer::pem_file_iter(certificates.path("server.pem")).unwrap().collect::<Result<_, _>>();
    let key = PrivateKeyDer::from_pem_file(certificates.path("server.key")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config =
        Arc::new(config.unwrap().with_no_client_auth().with_single_cert(chain.unwrap(), key).unwrap());
    for has_tls in [false, true] {
        for mode in MODES {
            let config = Arc::clone(&config);
            let (port, got) = rogue(move |talk| {
                let first = talk.greet("caching_sha2_password", has_tls)?;
                if u32::from_le_bytes(first[..4].try_into().unwrap()) & CLIENT_SSL != 0 {
                    let session = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
                    let plain =
                        std::mem::replace(&mut talk.stream, Box::new(std::io::Cursor::new(Vec::new())));
                    talk.stream = Box::new(rustls::StreamOwned::new(session, plain));
                    talk.hear()?;
                }
                talk.say(&[1, 4])?;
                let asked = talk.hear()?;
                if asked == [2] {
                    talk.got.extend(PASSWORD.as_bytes());
                }
                Ok(())
            });
            let options = if mode.is_empty() { String::new() } else { format!("ssl_mode={mode}") };
            let output = list(port, &options);
            let is_unproved = matches!(mode, "" | "disabled" | "preferred");
            assert_one_line(&output, if is_unproved { "nothing proves which server it is" } else { "TLS" });
            assert!(
                !has_password(&got.recv_timeout(Duration::from_secs(10)).unwrap()),
                "{has_tls} {mode}: {output}"
            );
        }
    }
}

type Behaviour = fn(&mut Talk) -> std::io::Result<()>;
/// What no server of MySQL or MariaDB says.
const NONSENSE: [(&str, &str, Behaviour); 20] = [
    ("HTTP", "does not speak", |talk| talk.stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")),
    ("an empty greeting", "empty", |talk| talk.say(b"")),
    ("a greeting cut short", "cut short", |talk| talk.say(&greeting("x", false)[..20])),
    ("a challenge of a length that is none", "closed the connection", |talk| {
        let mut packet = greeting("mysql_native_password", false);
        packet[32] = 0x80;
        talk.say(&packet)
    }),
    ("an error in place of a greeting", "no more connections", |talk| {
        talk.say(b"\xff\x10\x04Too many connections")
    }),
    ("an error without a number", "cut short", |talk| talk.say(b"\xff")),
    ("an empty packet while signing in", "empty", |talk| {
        talk.greet("mysql_native_password", false)?;
        talk.say(b"")
    }),
    ("questions without an end", "no end of questions", |talk| {
        talk.greet("mysql_native_password", false)?;
        for _ in 0..1000 {
            talk.say(b"\xfemysql_native_password\0CCCCCCCCCCCCCCCCCCCC\0")?;
            talk.hear()?;
        }
        Ok(())
    }),
    ("an empty answer", "empty", |talk| {
        talk.let_in()?;
        talk.say(b"")
    }),
    ("a file that is asked for", "is no answer", |talk| {
        talk.let_in()?;
        talk.say(b"\xfb/etc/passwd")
    }),
    ("columns without number", "is no answer", |talk| {
        talk.let_in()?;
        talk.say(&[0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f])
    }),
    ("65,535 columns", "is no answer", |talk| {
        talk.let_in()?;
        talk.say(&[0xfc, 0xff, 0xff])?;
        (0..65_535).try_for_each(|_| talk.say(&column(b"c")))?;
        talk.say(END)
    }),
    ("a column whose name is no UTF-8", "closed the connection", |talk| {
        talk.let_in()?;
        talk.say(&[1])?;
        talk.say(&column(b"\xff\xfe\xed\xa0\x80"))?;
        talk.say(END)?;
        talk.say(&[1, b'1'])?;
        talk.say(END)
    }),
    ("a row cut short", "cut short", |talk| {
        talk.let_in()?;
        talk.say(&[1])?;
        talk.say(&column(b"version"))?;
        talk.say(END)?;
        talk.say(&[200, b'1'])
    }),
    ("a packet cut short", "in the middle of an answer", |talk| {
        talk.let_in()?;
        talk.stream.write_all(&[200, 0, 0, 1, 0])
    }),
    ("rows without an end", "longer than 512 MiB", |talk| {
        talk.let_in()?;
        // The rules of the session first; what comes then is kept.
        talk.say(OK)?;
        talk.hear()?;
        talk.say(&[3])?;
        for name in [&b"version"[..], b"name", b"run_at"] {
            talk.say(&column(name))?;
        }
        talk.say(END)?;
        // 256 rows, after which the packets' numbers begin again.
        let rows: Vec<u8> = (0..=255_u8)
            .flat_map(|n| [6, 0, 0, n.wrapping_add(talk.number), 1, b'1', 1, b'1', 1, b'1'])
            .collect();
        let rows = rows.repeat(100);
        loop {
            talk.stream.write_all(&rows)?;
        }
    }),
    ("a greeting of gigabytes", "does not speak", |talk| {
        talk.stream.write_all(&[0xff, 0xff, 0xff, 0])?;
        let zeros = vec![0; 1 << 20];
        (0..16).try_for_each(|_| talk.stream.write_all(&zeros))
    }),
    ("an error of megabytes", "no more connections", |talk| {
        talk.say(&[b"\xff\x10\x04".to_vec(), vec![0xff; 60_000]].concat())
    }),
    ("columns with names of megabytes", "a column is too long", |talk| {
        talk.let_in()?;
        talk.say(&[0xfc, 0xa0, 0x0f])?;
        let mut column = b"\x03def\0\0\0\xfd\x00\x00\x40".to_vec();
        column.resize(column.len() + (4 << 20), b'x');
        (0..4000).try_for_each(|_| talk.say(&column))
    }),
    ("a plug-in for a password, after which the other goes on", "plug-in", |talk| {
        talk.greet("caching_sha2_password", false)?;
        talk.say(b"\xfeunix_socket\0")?;
        talk.hear()?;
        talk.say(&[1, 4])
    }),
];

/// Each seen failing: the C client, and both of Rust's, end the program at one or another of them.
#[test]
fn an_answer_that_is_none_is_one_line() {
    thread::scope(|scope| {
        for (name, word, behave) in NONSENSE {
            scope.spawn(move || {
                let (port, _got) = rogue(behave);
                let s = Sandbox::from(Backend::Sqlite);
                s.set_jobs(&format!(
                    "database: 'mysql://shop:{PASSWORD}@127.0.0.1:{port}/shop?ssl_mode=disabled'\njobs: {{}}\n"
                ));
                // With more memory than that it would only take longer.
                let output = s.duly(["list"]).under(&["sh", "-c", "ulimit -v 3000000; exec \"$@\"", "sh"]).output();
                let errors = output.stderr.lines().count();
                assert!(output.status.code() == Some(1) && errors == 1, "{name}: {output}");
                assert!(output.stderr.len() < 5000, "{name}: {}", output.stderr.len());
                assert!(output.stderr.contains(word), "{name}: {output}");
                assert!(!output.stderr.contains("panicked"), "{name}: {output}");
            });
        }
    });
}

/// Seen failing with a limit on each piece in place of one on the whole.
#[test]
fn an_answer_that_comes_byte_by_byte_has_the_limit_of_any_other() {
    let (port, _got) = rogue(|talk| {
        let greeting = greeting("mysql_native_password", false);
        let header = [u8::try_from(greeting.len()).unwrap(), 0, 0, 0];
        for byte in header.iter().chain(&greeting) {
            talk.stream.write_all(&[*byte])?;
            thread::sleep(Duration::from_secs(2));
        }
        Ok(())
    });
    let began = Instant::now();
    assert_one_line(&list(port, ""), "took longer than 10s to accept a connection");
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
}

/// A socket proves something where nobody else could have put it. Seen failing with the last folder's mode looked at alone.
#[test]
fn a_socket_where_others_can_put_theirs_is_no_proof() {
    let folder = tempfile::tempdir().unwrap();
    let make = |name: &str, mode: u32| {
        let path = folder.path().join(name);
        fs::create_dir_all(&path).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        path
    };
    let (sticky, own) = (make("sticky", 0o1777), make("sticky/own", 0o755));
    let listener = UnixListener::bind(own.join("s")).unwrap();
    std::os::unix::fs::symlink(own.join("s"), sticky.join("link")).unwrap();
    let (sender, got) = channel();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let stream = stream.unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
            let mut talk = Talk { stream: Box::new(stream), number: 0, got: Vec::new() };
            let _gone = talk.greet("caching_sha2_password", false).and_then(|_| talk.say(&[1, 4]));
            let _gone = talk.stream.read_to_end(&mut talk.got);
            let _over = sender.send(talk.got);
        }
    });
    for socket in [own.join("s"), sticky.join("link")] {
        let s = Sandbox::from(Backend::Sqlite);
        let url = format!("mysql://shop:{PASSWORD}@localhost/shop?unix_socket={}", socket.display());
        s.set_jobs(&format!("database: '{url}'\njobs: {{}}\n"));
        assert_one_line(&s.duly(["list"]).output(), "nothing proves which server it is");
        assert!(!has_password(&got.recv_timeout(Duration::from_secs(10)).unwrap()));
    }
}

/// Three nodes that are slow twice. Seen failing with a limit for each of both.
#[test]
fn several_slow_nodes_have_the_limit_of_one() {
    let (port, _got) = rogue(|talk| {
        talk.greet("mysql_native_password", false)?;
        thread::sleep(Duration::from_millis(2500));
        talk.say(OK)?;
        talk.hear()?;
        thread::sleep(Duration::from_secs(20));
        Ok(())
    });
    let s = Sandbox::from(Backend::Sqlite);
    let node = format!("127.0.0.1:{port}");
    s.set_jobs(&format!("database: 'mysql://shop:{PASSWORD}@{node},{node},{node}/shop'\njobs: {{}}\n"));
    let began = Instant::now();
    assert_one_line(&s.duly(["list"]).output(), "no node answers");
    assert!(began.elapsed() < Duration::from_secs(13), "{:?}", began.elapsed());
}

/// Where a URL does not belong, its password is not repeated. Seen failing with what was found shown as it was.
#[test]
fn a_url_in_the_wrong_place_keeps_its_password() {
    let s = Sandbox::from(Backend::Sqlite);
    s.set_jobs("jobs: {}");
    let url = format!("mysql://shop:{PASSWORD}@db/shop");
    for run in [
        s.duly(["list"]).env("DATABASE_URL_FILE", &url),
        s.duly(["list", &url]),
        s.duly([&url, "list"]),
        s.duly(["list", "--config", &url]),
    ] {
        let output = run.output();
        assert!(output.status.code() == Some(2) && output.stderr.contains("mysql://shop"), "{output}");
        assert!(!output.stderr.contains(PASSWORD), "{output}");
    }
}
