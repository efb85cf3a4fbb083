//! The pages in a real browser, with the script and without it.

use rustix::process::Signal;
use serde_json::json;

use super::browser::Browser;
use super::{JOBS, SOON, hash_of, serve};
use crate::support::{Backend, Sandbox, wait_until};

fn sandbox() -> Sandbox {
    Sandbox::new(Backend::Sqlite).jobs(JOBS)
}

/// Seen failing with the regions put in without the care for focus, and without the timer.
#[test]
fn the_overview_refreshes_itself_and_keeps_its_place() {
    let s = sandbox();
    for _ in 0..30 {
        s.duly(["start", "greet"]).stdout_has("\n").status(0);
    }
    s.duly(["run"]).status(0);
    let page = serve(&s);
    let browser = Browser::start();
    browser.open(&format!("http://{}/", page.address));
    browser.click("#plus-12");
    browser.wait("the row opens in place", "!!document.querySelector('tr.opened')");
    assert!(browser.address().contains("open=12"), "{}", browser.address());
    assert!(browser.text("tr.opened").contains("hello"));
    assert_eq!(browser.ask("document.activeElement.id"), "plus-12", "the focus stays");
    browser.ask("(scrollTo(0, 300), window.marked = true, 1)");
    let before = browser.ask("scrollY");
    s.duly(["start", "fail"]).stdout("31\n").status(0);
    browser.wait("the new job shows up by itself", "!!document.getElementById('row-31')");
    assert_eq!(browser.ask("window.marked === true"), json!(true), "the page was not loaded anew");
    assert_eq!(browser.ask("scrollY"), before);
    assert_eq!(browser.ask("document.activeElement.id"), "plus-12");
    assert!(browser.text("tr.opened").contains("hello"), "the open row stays open");
    assert!(browser.text("#pulse").starts_with("Updated"));
    browser.click("#plus-12");
    browser.wait("the row closes", "!document.querySelector('tr.opened')");
    assert_eq!(browser.complaints(), [""; 0]);
}

/// Seen failing without the timer, with the end of the output left out of sight, and without the cancel in `act.rs`.
#[test]
fn output_grows_while_a_job_runs_and_cancel_stops_it() {
    let s = sandbox();
    let page = serve(&s);
    let browser = Browser::start();
    browser.open(&format!("http://{}/", page.address));
    browser.click("#start-name");
    browser.fill("#start-name", "slow");
    browser.click("form.start button");
    wait_until("the job is there", SOON, || s.database().value("SELECT COUNT(*) FROM duly_job") == "1");
    let runner = s.duly(["run"]).spawn();
    browser.open(&format!("http://{}/job/1", page.address));
    browser.wait("output shows up", "/line \\d/.test(document.getElementById('output')?.innerText ?? '')");
    let first = browser.text("#output").lines().count();
    wait_until("output grows", SOON, || browser.text("#output").lines().count() > first);
    let is_at_end = "(() => { const o = document.getElementById('output'); return o.scrollTop >= o.scrollHeight - o.clientHeight - 8; })()";
    assert_eq!(browser.ask(is_at_end), json!(true), "the end stays in sight");
    browser.click("#head form[action='/job/1/cancel'] button");
    browser
        .wait("the page says so", "document.querySelector('#head .state')?.innerText.trim() === 'cancelled'");
    assert!(runner.wait().status.success());
    browser.click("#head form[action='/job/1/retry'] button");
    browser.wait("it is repeated", "document.body.innerText.includes('job 2 repeats job 1')");
    assert_eq!(browser.complaints(), [""; 0]);
}

/// Seen failing with a filter that loses the state, and with `require_own_origin` refusing `same-origin`.
#[test]
fn somebody_signs_in_filters_and_turns_pages() {
    let s = sandbox();
    let hash = hash_of(&s, "correct horse battery");
    s.set_jobs(&format!("{JOBS}web: {{users: [{{name: anna, password_hash: \"{hash}\", role: operator}}]}}"));
    let lines: String = (0..70).map(|_| "{\"name\": \"greet\"}\n".to_owned()).collect();
    s.duly(["enqueue", "--batch", "-"]).stdin(&lines).stdout_has("70").status(0);
    s.duly(["start", "fail"]).stdout_has("71").status(0);
    s.duly(["run"]).stderr_has("failed").status(0);
    let page = serve(&s);
    let browser = Browser::start();
    browser.open(&format!("http://{}/", page.address));
    browser.fill("#name", "anna");
    browser.fill("#password", "correct horse battery");
    browser.click("button.primary");
    browser.wait("the overview is there", "!!document.getElementById('jobs')");
    assert!(browser.text(".who").contains("anna"));
    browser.click(".states a.failed");
    browser.wait("only what failed", "document.querySelectorAll('tr[id^=row-]').length === 1");
    assert!(browser.text("#jobs").contains("fail"));
    browser.fill("#q", "nothing like it");
    browser.click("form.filters button");
    browser.wait("nothing is found", "document.body.innerText.includes('Nothing like that')");
    assert!(browser.address().contains("state=failed"));
    browser.click("form.filters a.quiet");
    browser.wait("all again", "document.querySelectorAll('tr[id^=row-]').length === 50");
    browser.click("a[rel=next]");
    browser.wait("the rest", "document.querySelectorAll('tr[id^=row-]').length === 21");
    assert_eq!(browser.ask("!!document.getElementById('row-1')"), json!(true));
    browser.click(".who button");
    browser.wait("signed out", "location.pathname === '/sign-in'");
    assert_eq!(browser.complaints(), [""; 0]);
}

/// Seen failing with the plus sign as a button of the script's.
#[test]
fn everything_works_without_the_script() {
    let s = sandbox();
    let page = serve(&s);
    let browser = Browser::start();
    browser.devtools("Emulation.setScriptExecutionDisabled", &json!({"value": true}));
    browser.open(&format!("http://{}/definition?name=greet", page.address));
    browser.fill("#params", "from a form");
    browser.click("form[action='/start'] button");
    wait_until("the job is there", SOON, || s.database().value("SELECT COUNT(*) FROM duly_job") == "1");
    s.duly(["run"]).status(0);
    browser.open(&format!("http://{}/", page.address));
    browser.click("#plus-1");
    let source = || {
        browser.devtools("Runtime.evaluate", &json!({"expression": "document.body.innerText"}))["result"]["value"].to_string()
    };
    wait_until("the row is open", SOON, || source().contains("hello from a form"));
    browser.click("tr.opened form[action='/job/1/retry'] button");
    wait_until("it is repeated", SOON, || s.database().value("SELECT COUNT(*) FROM duly_job") == "2");
    browser.open(&format!("http://{}/job/2", page.address));
    browser.click("form[action='/job/2/cancel'] button");
    wait_until("it is cancelled", SOON, || {
        s.database().value("SELECT state FROM duly_job WHERE id = 2") == "cancelled"
    });
    page.running.signal(Signal::TERM);
}

const TAB: (&str, u32, &str) = ("Tab", 9, "");
const ENTER: (&str, u32, &str) = ("Enter", 13, "\r");

/// Seen failing with times that no script cares for, and with a plus sign that the Tab key passes over.
#[test]
fn the_keyboard_is_enough_and_times_are_told_in_the_readers_zone_too() {
    let s = sandbox();
    s.duly(["start", "greet"]).stdout("1\n").status(0);
    s.duly(["run"]).status(0);
    let page = serve(&s);
    let browser = Browser::start();
    browser.devtools("Emulation.setTimezoneOverride", &json!({"timezoneId": "Asia/Tokyo"}));
    browser.open(&format!("http://{}/", page.address));
    browser.press(TAB);
    assert_eq!(browser.ask("document.activeElement.innerText"), "Skip to content");
    browser.press(ENTER);
    assert_eq!(browser.ask("document.activeElement.id"), "content");
    let at_plus = || browser.ask("document.activeElement.id") == "plus-1";
    assert!(
        (0..40).any(|_| {
            browser.press(TAB);
            at_plus()
        }),
        "the plus sign is not reached"
    );
    assert_ne!(browser.ask("getComputedStyle(document.activeElement).outlineStyle"), "none");
    browser.press(ENTER);
    browser
        .wait("the row opens", "document.querySelector('tr.opened')?.innerText.includes('hello') === true");
    browser.point_at("#row-1 time");
    browser.wait("the own time is told", "document.querySelector('#row-1 time').title.includes('GMT+9')");
    assert_eq!(browser.complaints(), [""; 0]);
}
