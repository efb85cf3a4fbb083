//! Forms of other sites, scripts in what is shown, hosts of others' naming, what is too much or too slow.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::http::{Client, raw};
use super::{JOBS, Page, serve};
use crate::support::{Backend, Sandbox};

fn open_page() -> (Sandbox, Page) {
    let s = Sandbox::new(Backend::Sqlite).jobs(JOBS);
    let page = serve(&s);
    (s, page)
}

/// Seen failing with `is_own_form` true, and with `require_own_origin` taken out.
#[test]
fn a_form_of_another_site_does_nothing() {
    let (s, page) = open_page();
    let mut client = Client::new(&page.address);
    client.get("/");
    let token = client.token.clone();
    let other = {
        let mut other = Client::new(&page.address);
        other.get("/");
        other.token
    };
    let longer = format!("{token}0");
    for wrong in ["", "x", &other, &longer] {
        client.token = wrong.to_owned();
        assert_eq!(client.post("/start", &[("name", "greet")]).status, 403, "{wrong}");
    }
    for (name, value) in [
        ("Origin", "https://evil.example"),
        ("Origin", "null"),
        ("Sec-Fetch-Site", "cross-site"),
        ("Sec-Fetch-Site", "same-site"),
    ] {
        let mut foreign = Client::new(&page.address).with(name, value);
        foreign.cookies = client.cookies.clone();
        foreign.token = token.clone();
        assert_eq!(foreign.post("/start", &[("name", "greet")]).status, 403, "{name}: {value}");
    }
    let mut fresh = Client::new(&page.address);
    fresh.token = token.clone();
    assert_eq!(fresh.post("/start", &[("name", "greet")]).status, 403, "a token without its cookie");
    assert_eq!(s.database().value("SELECT COUNT(*) FROM duly_job"), "0");
    client.token = token;
    assert_eq!(client.get("/start").status, 405);
    assert_eq!(
        client.post("/start", &[("name", "greet"), ("back", "//evil.example")]).header("location"),
        "/"
    );
    assert_eq!(s.database().value("SELECT COUNT(*) FROM duly_job"), "1");
}

/// Seen failing with the check of the host, and that of forwarded requests, taken out.
#[test]
fn a_name_that_somebody_else_made_lead_here_is_not_answered_to() {
    let (_s, page) = open_page();
    for host in ["evil.example", "localhost.evil.example", ""] {
        assert_eq!(Client::new(&page.address).with("Host", host).get("/").status, 421, "{host}");
    }
    assert_eq!(Client::new(&page.address).with("Host", "localhost:1").get("/").status, 200);
    assert_eq!(Client::new(&page.address).with("X-Forwarded-For", "10.0.0.1").get("/").status, 403);
}

/// Seen failing with `PreEscaped` around the output, and with `harmless` left out.
#[test]
fn what_jobs_say_is_shown_and_not_obeyed() {
    let (s, page) = open_page();
    let evil = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>\u{1b}[2J\u{202e}";
    let quoted = evil.replace('\'', "''");
    s.database().sql(&format!(
        "INSERT INTO duly_job (name, params, state, queue, reason, target_type, target_id, progress_text, fence, attempts, host) \
         VALUES ('{quoted}', '{quoted}', 'failed', '{quoted}', '{quoted}', '{quoted}', '{quoted}', '{quoted}', 1, 1, '{quoted}'); \
         INSERT INTO duly_output (job_id, fence, body, updated_at) VALUES (1, 1, '{quoted}', '2026-01-01 00:00:00.000000'); \
         INSERT INTO duly_attempt (job_id, fence, attempt, outcome, reason, host, finished_at) VALUES (1, 1, 1, 'exited', '{quoted}', '{quoted}', '2026-01-01 00:00:00.000000'); \
         INSERT INTO duly_pause (scope, paused_at, paused_by, reason) VALUES ('queue:{quoted}', '2026-01-01 00:00:00.000000', '{quoted}', '{quoted}'); \
         INSERT INTO duly_runner (host, last_tick_at, version) VALUES ('{quoted}', '2026-01-01 00:00:00.000000', '{quoted}'); \
         INSERT INTO duly_audit (who, via, did, subject, detail) VALUES ('{quoted}', 'web', '{quoted}', 'job 1', '{quoted}')"
    ));
    let mut client = Client::new(&page.address);
    let named = url::form_urlencoded::byte_serialize(evil.as_bytes()).collect::<String>();
    for path in [
        "/?open=1".to_owned(),
        "/job/1".to_owned(),
        "/queues".to_owned(),
        "/statistics?range=30d".to_owned(),
        "/trail".to_owned(),
        "/definitions".to_owned(),
        format!("/definition?name={named}"),
        format!("/?q={named}"),
        format!("/?name={named}&queue={named}"),
        format!("/statistics?name={named}"),
        format!("/lost-order?order={named}"),
        format!("/?state={named}"),
        format!("/{named}"),
    ] {
        let answer = client.get(&path);
        assert!(answer.status < 500, "{path}: {}", answer.status);
        assert!(!answer.body.contains("<script>alert") && !answer.body.contains("<img src=x"), "{path}");
        assert!(!answer.body.contains('\u{1b}'), "{path} has a terminal sequence");
        let policy = answer.header("content-security-policy");
        assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{path}: {policy}");
        for word in ["style=\"", "onclick", "javascript:", "<style", "http://", "https://"] {
            let body = answer.body.replace(&page.address, "");
            assert!(!body.contains(word), "{path} has {word}");
        }
    }
    let text = client.get("/job/1/output/1");
    assert_eq!(
        (text.header("content-type"), text.header("x-content-type-options")),
        ("text/plain; charset=utf-8", "nosniff")
    );
    assert!(text.body.contains('␛') && !text.body.contains('\u{1b}'), "{}", text.body);
}

/// Seen failing with a limit of a megabyte for forms.
#[test]
fn what_is_too_large_or_makes_no_sense_is_refused() {
    let (s, page) = open_page();
    let mut client = Client::new(&page.address);
    client.get("/");
    let long = "x".repeat(70_000);
    assert_eq!(client.post("/start", &[("name", "greet"), ("params", &long)]).status, 413);
    for path in [
        "/assets/../../etc/passwd",
        "/assets/..%2f..%2fetc%2fpasswd",
        "/assets/%2e%2e/duly.css",
        "/job/..%2f1",
        "/assets/",
    ] {
        let answer = client.get(path);
        assert!(
            [400, 404].contains(&answer.status) && !answer.body.contains("root:"),
            "{path}: {}",
            answer.status
        );
    }
    for path in ["/job/99999999999999999999", "/job/x", "/?state=gone", "/?after=1@x"] {
        assert!([400, 404].contains(&client.get(path).status), "{path}");
    }
    assert_eq!(client.get("/job/99").status, 404);
    let head = format!("GET / HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "y".repeat(64 * 1024));
    assert!([0, 400, 431].contains(&raw(&page.address, head.as_bytes()).status));
    assert_eq!(raw(&page.address, b"POST /start HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\nConnection: close\r\n\r\n").status, 413);
    assert_eq!(s.database().value("SELECT COUNT(*) FROM duly_job"), "0");
}

/// Seen failing without the time limit on a request's head.
#[test]
fn who_dawdles_is_cut_off_and_holds_nobody_up() {
    let (_s, page) = open_page();
    let mut slow: Vec<TcpStream> = (0..60).map(|_| TcpStream::connect(&page.address).unwrap()).collect();
    for stream in &mut slow {
        stream.write_all(b"GET / HTTP/1.1\r\nHost: loc").unwrap();
    }
    let started = Instant::now();
    assert_eq!(Client::new(&page.address).get("/").status, 200);
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    for mut stream in slow {
        stream.set_read_timeout(Some(Duration::from_secs(25))).unwrap();
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).expect("the server closes what dawdles");
        assert!(!rest.starts_with(b"HTTP/1.1 200"));
    }
}

/// Seen failing with a pool that keeps connections that are lost.
#[test]
fn a_database_that_is_away_gives_a_page_that_says_so() {
    let mut server = crate::support::Server::start();
    let s = Sandbox::on(crate::support::Database::on(&server)).jobs(JOBS);
    s.duly(["migrate"]).stdout_has("").output();
    let page = serve(&s);
    let mut client = Client::new(&page.address);
    assert_eq!(client.get("/").status, 200);
    server.kill();
    let answer = client.get("/");
    assert_eq!(answer.status, 503);
    assert!(answer.body.contains("The database is away") && !answer.body.contains(s.database().password()));
    assert_eq!(client.get("/assets/icon.svg").status, 200);
    server.start_again();
    crate::support::wait_until("the page is back", super::SOON, || client.get("/").status == 200);
}
