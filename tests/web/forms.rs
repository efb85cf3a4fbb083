//! What the buttons do, by plain forms as a browser without scripts sends them.

use super::http::Client;
use super::{JOBS, SOON, serve};
use crate::support::{Sandbox, on_every_database, wait_until};

on_every_database! {
    /// Seen failing with `NewJob::again` making a job of its definition alone, and with nothing noted in the trail.
    fn jobs_are_started_retried_cancelled_and_all_is_recorded(s: Sandbox) {
        let s = s.jobs(JOBS);
        let page = serve(&s);
        let mut client = Client::new(&page.address);
        client.get("/definition?name=greet");
        let fields = [("name", "greet"), ("params", "a b\r\n\r\nc\r\n"), ("target_type", "Shop"), ("target_id", "7"), ("back", "/definitions")];
        let answer = client.post("/start", &fields);
        assert_eq!((answer.status, answer.header("location")), (303, "/definitions"));
        assert!(client.get("/definitions").body.contains("job 1 (greet) was put in"));
        assert!(!client.get("/definitions").body.contains("was put in"), "it is said once");
        s.duly(["run"]).status(0);
        let job = s.json(["show", "1", "--json"]);
        assert_eq!(job["output"], "hello a b c\n");
        assert_eq!((&job["target_type"], &job["target_id"]), (&"Shop".into(), &"7".into()));

        assert_eq!(client.post("/job/1/retry", &[("back", "/job/1")]).header("location"), "/job/1");
        assert_eq!(client.post("/job/2/cancel", &[]).status, 303);
        let job = s.json(["show", "2", "--json"]);
        assert_eq!((&job["state"], &job["retry_of"], &job["params"][0]), (&"cancelled".into(), &1.into(), &"a b".into()));
        assert!(job["reason"].as_str().unwrap().contains("on the web page"), "{job}");
        client.post("/job/2/cancel", &[]);
        assert!(client.get("/").body.contains("job 2 has ended before: it is cancelled"));
        client.post("/start", &[("name", "nothing")]);
        assert!(client.get("/").body.contains("declares no job `nothing`"));

        s.duly(["start", "greet"]).stdout("3\n").status(0);
        let deeds = s.database().rows("SELECT did, subject, detail, via FROM duly_audit ORDER BY id");
        let deeds: Vec<String> = deeds.iter().map(|row| row.iter().flatten().cloned().collect::<Vec<_>>().join(", ")).collect();
        assert_eq!(deeds, [
            "start, definition greet, as job 1, web",
            "retry, job 1, as job 2, web",
            "cancel, job 2, web",
            "start, definition greet, as job 3, command line",
        ]);
        assert!(client.get("/trail").body.contains("somebody at 127.0.0.1"));
        assert!(client.get("/job/1").body.contains("Who did what"));
    }

    /// Seen failing without the call of `NewJob::check` in `src/web/act.rs`.
    fn what_can_never_run_is_not_put_in(s: Sandbox) {
        let s = s.jobs(&format!("{JOBS}  tidy: {{builtin: clean-up}}\n"));
        let page = serve(&s);
        let mut client = Client::new(&page.address);
        client.get("/definitions");
        for (fields, said) in [
            ([("name", "tidy"), ("params", "--max-retention=1s")], "is a builtin and takes no params"),
            ([("name", "greet"), ("params", "a\0b")], "params have a NUL byte"),
            ([("name", "greet"), ("target_id", &*"7".repeat(191))], "its id at most 190"),
        ] {
            client.post("/start", &fields);
            let shown = client.get("/").body;
            assert!(shown.contains(said), "{said}: {shown}");
        }
        assert_eq!(s.json(["list", "--json"]).as_array().unwrap().len(), 0);
    }

    /// Seen waiting for the child, in vain, with `kill` always false in `src/web/act.rs`.
    fn the_children_of_a_root_that_is_cancelled_run_on_unless_they_are_to_be_killed(s: Sandbox) {
        let s = s.jobs(&format!(
            "jobs:\n  part: {{command: [sh, -c, 'touch running; sleep 600']}}\n  whole: {{command: ['{}', child, part]}}\n",
            crate::support::program().display()
        ));
        let page = serve(&s);
        let mut client = Client::new(&page.address);
        client.get("/");
        client.post("/start", &[("name", "whole")]);
        let runner = s.duly(["run"]).spawn();
        wait_until("the child runs and its root waits for it", SOON, || {
            s.path("running").exists() && s.database().value("SELECT COUNT(*) FROM duly_job WHERE owner IS NULL AND id = 1") == "1"
        });
        client.post("/job/1/cancel", &[]);
        assert_eq!(s.database().value("SELECT COUNT(*) FROM duly_job WHERE cancel_requested_at IS NOT NULL"), "1");
        client.post("/job/1/cancel", &[("kill", "yes")]);
        assert!(runner.wait().status.success());
        assert_eq!(s.database().value("SELECT COUNT(*) FROM duly_job WHERE state = 'cancelled'"), "2");
    }

    /// Seen failing without the call of `store.pause`.
    fn a_pause_holds_jobs_back_until_it_is_ended(s: Sandbox) {
        let s = s.jobs(JOBS);
        let page = serve(&s);
        let mut client = Client::new(&page.address);
        client.get("/queues");
        client.post("/pause", &[("kind", "job"), ("name", "greet"), ("reason", "<b>stocktaking</b>"), ("for", "2 hours")]);
        client.post("/start", &[("name", "greet")]);
        s.duly(["run"]).status(0);
        assert_eq!(s.json(["show", "1", "--json"])["state"], "pending");
        assert!(client.get("/queues").body.contains("&lt;b&gt;stocktaking"));
        client.post("/resume", &[("kind", "job"), ("name", "greet")]);
        s.duly(["run"]).status(0);
        assert_eq!(s.json(["show", "1", "--json"])["state"], "success");
        client.post("/resume", &[("kind", "all")]);
        assert!(client.get("/queues").body.contains("everything is not paused"));
        client.post("/pause", &[("kind", "all"), ("for", "soon")]);
        assert!(client.get("/queues").body.contains("`soon` is not a length of time"));
    }

    /// Seen failing with pages that begin at the row before. By OFFSET, what arrives between them would move rows over their edge.
    fn pages_go_on_behind_a_job_while_others_arrive(s: Sandbox) {
        let s = s.jobs(JOBS);
        let lines: String = (0..120).map(|at| format!("{{\"name\": \"greet\", \"params\": [\"n{at}\"]}}\n")).collect();
        s.duly(["enqueue", "--batch", "-"]).stdin(&lines).stdout_has("120").status(0);
        s.database().sql("UPDATE duly_job SET state = 'failed', finished_at = created_at WHERE id > 40");
        let page = serve(&s);
        let mut client = Client::new(&page.address);
        for filter in ["", "?state=failed", "?state=pending", "?name=greet", "?name=greet&state=failed", "?q=n&queue=default&age=1d"] {
            let (mut seen, mut address) = (Vec::new(), format!("/{filter}"));
            loop {
                let body = client.get(&address).body;
                seen.extend(body.split("id=\"row-").skip(1).map(|part| part.split('"').next().unwrap().parse::<i64>().unwrap()));
                s.duly(["enqueue", "fail"]).stdout_has("\n").status(0);
                let Some((before, _)) = body.split_once("\" rel=\"next\"") else { break };
                address = before.rsplit_once("href=\"").unwrap().1.replace("&amp;", "&");
            }
            let wanted: Vec<i64> = match filter {
                "?state=failed" | "?name=greet&state=failed" => (41..=120).rev().collect(),
                "?state=pending" => Vec::new(),
                _ => (1..=120).rev().collect(),
            };
            let of_greet: Vec<i64> = seen.iter().copied().filter(|id| *id <= 120).collect();
            if filter == "?state=pending" {
                assert_eq!(of_greet.len(), 40, "{filter}");
            } else {
                assert_eq!(of_greet, wanted, "{filter}");
            }
        }
        let body = client.get("/?q=n7&name=greet").body;
        assert!(body.contains("row-8\"") && !body.contains("row-9\""));
        assert!(client.get("/?q=33").body.contains("row-33\""));
    }

    /// Seen failing with a confirmed order that lets itself be sent.
    fn lost_orders_are_sent_again_and_taken_out(s: Sandbox) {
        let s = s.jobs(
            "lost_orders: {send: {command: [sh, -c, 'cat >> sent; echo E-1']}}\njobs: {greet: {command: [\"true\"]}}",
        );
        for order in ["A 1", "<b>2"] {
            s.duly(["lost-orders", "add", order, "--payload", "-"]).stdin("payload\n").status(0);
        }
        let page = serve(&s);
        let mut client = Client::new(&page.address);
        let body = client.get("/lost-orders").body;
        assert!(body.contains("A 1") && body.contains("&lt;b&gt;2") && !body.contains("<b>2"));
        client.post("/lost-orders/remove", &[("order", "<b>2")]);
        client.post("/lost-orders/resend", &[("order", "A 1")]);
        s.duly(["run"]).status(0);
        assert_eq!(s.read("sent"), "payload\n");
        assert!(client.get("/lost-order?order=A+1").body.contains("E-1"));
        assert!(client.get("/lost-orders?state=removed").body.contains("&lt;b&gt;2"));
        client.post("/lost-orders/resend", &[("order", "A 1")]);
        assert!(client.get("/").body.contains("nothing is sent"));
    }
}

/// Seen failing with the configuration of the start alone.
#[test]
fn the_page_goes_by_the_file_as_it_is_now_and_says_when_it_has_a_mistake() {
    let s = Sandbox::new(crate::support::Backend::Sqlite).jobs(JOBS);
    let page = serve(&s);
    let mut client = Client::new(&page.address);
    s.set_jobs("jobs: {fresh: {command: [echo, x]}}");
    wait_until("the new job is there", SOON, || client.get("/definitions").body.contains("fresh"));
    s.set_jobs("jobs: {broken: {comand: [echo, x]}}");
    wait_until("the mistake is told", SOON, || client.get("/definitions").body.contains("unknown key"));
    assert!(client.get("/definitions").body.contains("fresh"));
}

/// Seen failing with an hour's wait before what the browser keeps open is closed.
#[test]
fn the_page_stops_in_good_order() {
    let s = Sandbox::new(crate::support::Backend::Sqlite).jobs(JOBS);
    let page = serve(&s);
    let idle = std::net::TcpStream::connect(&page.address).unwrap();
    page.running.signal(rustix::process::Signal::TERM);
    let output = page.running.wait();
    assert_eq!(output.status.code(), Some(143), "{output}");
    drop(idle);
}
