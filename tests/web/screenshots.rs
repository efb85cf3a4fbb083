//! Pictures of every page, light and dark, wide and narrow, in `target/screenshots`: for people to look at. What can be measured
//! of them is: nothing is wider than the window, nothing has too little contrast, no script complains.

use std::path::PathBuf;

use serde_json::json;

use super::browser::Browser;
use super::serve;
use crate::support::{Backend, Sandbox};

const JOBS: &str = "\
queues: {default: {}, orders: {concurrency: 2}}
lost_orders: {send: {command: [sh, -c, 'echo the ERP does not answer; exit 1']}, max_failed: 2}
jobs:
  import_feed: {label: \"Import the product feed\", command: [sh, -c, 'for i in 1 2 3 4 5 6 7 8; do echo \"page $i: 500 products read\"; done'], params: [\"--shop=de\"], schedule: \"*/15 * * * *\", depending_jobs: {index_feed: {label: \"Index the catalogue\", command: [echo, 'indexed 4000 products']}}}
  nightly_export: {label: \"Export to the warehouse\", command: [sh, -c, 'exit 65'], permanent_exit_codes: [65], schedule: \"0 2 * * 1-5\", timezone: Europe/Berlin}
  send_order: {label: \"Send an order\", command: [echo, sent], queue: orders}
  report: {label: \"Stock report\", command: [echo, done], schedule: \"30 5 * * *\"}
";

/// A shop's day, behind the page's back.
fn fill(s: &Sandbox) {
    s.duly(["lost-orders", "add", "4711", "--payload", "-"]).stdin("x").status(0);
    s.duly(["start", "import_feed"]).stdout_has("1").status(0);
    s.duly(["run"]).status(0);
    let mut rows = String::new();
    for at in 0..300_u32 {
        let (name, failed) = match at % 7 {
            0 => ("nightly_export", at % 3 == 0),
            1 | 2 => ("send_order", at % 31 == 1),
            _ => ("import_feed", at % 53 == 3),
        };
        let (state, code) = if failed { ("failed", 65) } else { ("success", 0) };
        let (minutes, took) = ((300 - at) * 4, 300 + (at * 7919) % 4000);
        let time = |seconds: u32| {
            format!("strftime('%Y-%m-%d %H:%M:%f000', 'now', '-{minutes} minutes', '+{seconds} seconds')")
        };
        rows.push_str(&format!(
            "INSERT INTO duly_job (name, params, state, queue, priority, run_at, created_at, started_at, finished_at, duration_ms, outcome, exit_code, host, attempts, max_attempts) \
             VALUES ('{name}', '[]', '{state}', 'default', 0, {}, {}, {}, {}, {took}, 'exited', {code}, 'web1', 1, 3);",
            time(0), time(0), time(at % 5), time(at % 5 + took / 1000)
        ));
    }
    let now = "strftime('%Y-%m-%d %H:%M:%f000', 'now')";
    rows.push_str(&format!(
        "INSERT INTO duly_job (name, params, state, queue, priority, run_at, created_at, started_at, max_attempts, attempts, host, progress, progress_text, owner, fence, lease_until, children, children_ended) \
         VALUES ('import_feed', '[\"--shop=fr\"]', 'running', 'default', 0, {now}, {now}, {now}, 3, 1, 'web1', 42, 'reading page 4 of 10', 'x', 1, strftime('%Y-%m-%d %H:%M:%f000', 'now', '+59 seconds'), 3, 1);\
         INSERT INTO duly_output (job_id, fence, body, updated_at) SELECT MAX(id), 1, 'page 1: 500 products read' || char(10) || 'page 2: 500 products read' || char(10) || 'page 3: 498 products read, 2 left out' || char(10), {now} FROM duly_job;\
         INSERT INTO duly_output (job_id, fence, body, updated_at) VALUES (302, 1, 'page 1: 500 products read' || char(10) || 'page 2: 500 products read' || char(10) || 'imported 1000 products' || char(10), {now});\
         INSERT INTO duly_session_stat (measured_at, active_5m, active_30m, active_24h, total) \
         WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 150) \
         SELECT strftime('%Y-%m-%d %H:%M:%f000', 'now', '-' || ((150 - i) * 8) || ' minutes'), 40 + (i * 37) % 23 + i / 3, 160, 900, 4100 FROM n;"
    ));
    s.database().sql(&rows);
    for (at, state) in ["success", "running", "pending"].into_iter().enumerate() {
        s.database().sql(&format!(
            "INSERT INTO duly_job (name, params, state, queue, priority, run_at, created_at, max_attempts, attempts, root_id, target_type, target_id) \
             VALUES ('send_order', '[]', '{state}', 'orders', 0, {now}, {now}, 3, 1, 303, 'Order', '47{at}1')"
        ));
    }
    s.duly(["enqueue", "report", "--in", "20 min"]).stdout_has("307").status(0);
    s.duly(["start", "import_feed"]).stdout_has("308").status(0);
    s.duly(["pause", "report", "--reason", "stocktaking until noon"]).stdout_has("paused").status(0);
}

/// Words on a ground of too little contrast (WCAG AA), each once.
const PALE: &str = "(() => {
  const part = (c) => (c /= 255) <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
  const light = ([r, g, b]) => 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b);
  const colour = (text) => text.match(/[\\d.]+/g).map(Number);
  const ground = (e) => { for (; e; e = e.parentElement) { const c = colour(getComputedStyle(e).backgroundColor); if (c.length < 4 || c[3] > 0.5) return c; } return [255, 255, 255]; };
  const found = new Set();
  for (const e of document.querySelectorAll('body *')) {
    if (![...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim()) || e.closest('svg, .unseen, .skip, option, datalist')) continue;
    const [a, b] = [light(colour(getComputedStyle(e).color)), light(ground(e))].sort((x, y) => y - x);
    if ((a + 0.05) / (b + 0.05) < 4.5) found.add(e.tagName + '.' + e.className + ': ' + e.textContent.trim().slice(0, 20));
  }
  return [...found];
})()";

/// Seen failing with a table that does not scroll in its own box, with states in one line, and with grey on grey.
#[test]
fn every_page_looks_right_light_and_dark_wide_and_narrow() {
    let s = Sandbox::new(Backend::Sqlite).jobs(JOBS);
    fill(&s);
    let page = serve(&s);
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/screenshots");
    std::fs::create_dir_all(&folder).unwrap();
    let pages = [
        ("jobs", "/?open=302"),
        ("job", "/job/303"),
        ("failed", "/?state=failed"),
        ("definitions", "/definitions"),
        ("definition", "/definition?name=import_feed"),
        ("graph", "/job/308"),
        ("queues", "/queues"),
        ("statistics", "/statistics"),
        ("orders", "/lost-orders"),
        ("sessions", "/sessions"),
        ("trail", "/trail"),
        ("missing", "/job/999"),
    ];
    let browser = Browser::start();
    for scheme in ["light", "dark"] {
        browser.devtools(
            "Emulation.setEmulatedMedia",
            &json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]}),
        );
        for (form, width, height) in [("wide", 1280, 860), ("narrow", 390, 844)] {
            browser.devtools(
                "Emulation.setDeviceMetricsOverride",
                &json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": form == "narrow"}),
            );
            for (name, path) in pages {
                browser.open(&format!("http://{}{path}", page.address));
                // Not `innerWidth`: a phone's browser makes that as wide as the page.
                let needed = browser.ask("document.documentElement.scrollWidth");
                assert!(needed.as_i64() <= Some(width), "{name} needs {needed} of a {form} window's {width}");
                assert_eq!(browser.ask(PALE), json!([]), "{name}, {scheme}");
                browser.photograph(&folder.join(format!("{name}-{scheme}-{form}.png")));
            }
        }
    }
    let complaints: Vec<String> =
        browser.complaints().into_iter().filter(|text| !text.contains("/job/999")).collect();
    assert_eq!(complaints, [""; 0]);
}
