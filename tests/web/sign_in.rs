//! Who may come in, and what they may do there.

use super::http::Client;
use super::{JOBS, Page, hash_of, serve};
use crate::support::{Backend, Sandbox};

/// With a blank at its end, which belongs to it: seen failing with the fields of forms trimmed.
const PASSWORD: &str = "correct horse battery ";

fn with_users() -> (Sandbox, Page) {
    let s = Sandbox::new(Backend::Sqlite);
    let hash = hash_of(&s, PASSWORD);
    let s = s.jobs(&format!(
        "{JOBS}web:\n  users:\n  - {{name: anna, password_hash: \"{hash}\", role: operator}}\n  - {{name: vera, password_hash: \"{hash}\"}}"
    ));
    let page = serve(&s);
    (s, page)
}

/// Seen failing with the page shown to whoever has no role.
#[test]
fn nothing_is_shown_or_done_before_sign_in() {
    let (s, page) = with_users();
    let mut client = Client::new(&page.address);
    for path in [
        "/",
        "/job/1",
        "/job/1/output/1",
        "/definitions",
        "/queues",
        "/statistics",
        "/lost-orders",
        "/sessions",
        "/trail",
        "/x",
    ] {
        let answer = client.get(path);
        assert_eq!((answer.status, answer.header("location")), (303, "/sign-in"), "{path}");
    }
    client.get("/sign-in");
    assert_eq!(client.post("/start", &[("name", "greet")]).status, 401);
    assert_eq!(client.sign_in("anna", "wrong password").status, 401);
    assert_eq!(client.sign_in("nobody", PASSWORD).status, 401);
    assert_eq!(client.sign_in("anna", PASSWORD).status, 303);
    let body = client.get("/").body;
    assert!(body.contains("anna") && body.contains("operator"));
    client.post("/start", &[("name", "greet")]);
    assert_eq!(s.database().value("SELECT who FROM duly_audit"), "anna");
}

/// Seen failing without the comparison of roles in the guard.
#[test]
fn a_viewer_sees_all_and_changes_nothing() {
    let (s, page) = with_users();
    s.duly(["start", "greet"]).stdout("1\n").status(0);
    let mut client = Client::new(&page.address);
    client.sign_in("vera", PASSWORD);
    let body = client.get("/job/1").body;
    assert!(body.contains("viewer") && !body.contains("/job/1/cancel"));
    for path in [
        "/job/1/cancel",
        "/job/1/retry",
        "/start",
        "/pause",
        "/resume",
        "/lost-orders/resend",
        "/lost-orders/remove",
    ] {
        let answer = client.post(path, &[("name", "greet"), ("kind", "all"), ("role", "operator")]);
        assert_eq!(answer.status, 403, "{path}");
    }
    assert_eq!(s.database().value("SELECT COUNT(*) FROM duly_job"), "1");
    assert_eq!(s.database().value("SELECT state FROM duly_job"), "pending");
}

/// Seen failing with the session that the browser brought along signed in.
#[test]
fn a_session_that_was_put_on_somebody_is_not_signed_in() {
    let (_s, page) = with_users();
    let mut thief = Client::new(&page.address);
    thief.get("/sign-in");
    let mut victim = Client::new(&page.address);
    victim.cookies = thief.cookies.clone();
    assert_eq!(victim.sign_in("anna", PASSWORD).status, 303);
    assert_ne!(victim.cookies, thief.cookies);
    assert_eq!(thief.get("/").status, 303);
    let stolen = victim.cookies.clone();
    victim.get("/");
    victim.post("/sign-out", &[]);
    let mut late = Client::new(&page.address);
    late.cookies = stolen;
    assert_eq!(late.get("/").status, 303, "what was signed out is over");
}

/// Seen failing without the throttle.
#[test]
fn whoever_guesses_has_to_wait() {
    let (_s, page) = with_users();
    let mut client = Client::new(&page.address);
    let statuses: Vec<u16> = (0..7).map(|_| client.sign_in("anna", "a wrong password").status).collect();
    assert!(statuses.starts_with(&[401, 401, 401, 401, 401]) && statuses.contains(&429), "{statuses:?}");
    assert!(!client.sign_in("anna", "x").header("retry-after").is_empty());
}

/// Seen failing with the header of any address, and with one of two headers.
#[test]
fn a_proxys_word_counts_from_its_address_only() {
    let from = |from: &str| {
        format!("{JOBS}web: {{trusted_proxy: {{header: X-Remote-User, from: [{from}], operators: [anna]}}}}")
    };
    let s = Sandbox::new(Backend::Sqlite).jobs(&from("127.0.0.1"));
    let page = serve(&s);
    assert!(Client::new(&page.address).with("X-Remote-User", "anna").get("/").body.contains("operator"));
    assert!(Client::new(&page.address).with("X-Remote-User", "vera").get("/").body.contains("viewer"));
    assert_eq!(Client::new(&page.address).get("/").status, 303);
    let two = Client::new(&page.address).with("X-Remote-User", "anna").with("X-Remote-User", "vera").get("/");
    assert_eq!(two.status, 303);
    let secure =
        Client::new(&page.address).with("X-Remote-User", "anna").with("X-Forwarded-Proto", "https").get("/");
    assert!(secure.header("set-cookie").contains("Secure"), "{secure:?}");
    s.set_jobs(&from("10.0.0.0/8"));
    let other = serve(&s);
    assert_eq!(Client::new(&other.address).with("X-Remote-User", "anna").get("/").status, 303);
}

/// Seen failing with the refusal taken out.
#[test]
fn an_open_page_listens_on_loopback_only() {
    let s = Sandbox::new(Backend::Sqlite).jobs(JOBS);
    s.duly(["web", "--listen", "0.0.0.0:0"]).stderr_has("configure web.users or web.trusted_proxy").status(2);
    s.duly(["web", "--listen", "example.com:80"]).stderr_has("is not an address with a port").status(2);
    s.duly(["web", "--hash-password"]).stdin("short\n").stderr_has("expected 12 to 512").status(2);
    s.set_jobs("web: {users: [{name: anna, password_hash: secret-password}], trusted_proxy: {header: X}}");
    let output = s.duly(["check"]).output();
    assert!(
        output.stderr.contains("is not a hash by argon2") && output.stderr.contains("trusted_proxy.from"),
        "{output}"
    );
    assert!(!output.stderr.contains("secret-password"), "{output}");
}
