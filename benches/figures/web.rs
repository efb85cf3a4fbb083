//! The web page with a million jobs: how long its pages take with fifty viewers, and what these cost a drain.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Stdio};
use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

use super::Bench;
use super::report::{Figure, Report, median};

/// Viewers, each of which refreshes as the page's script does.
const VIEWERS: u32 = 50;
const REFRESH: Duration = Duration::from_secs(10);

/// How many times the jobs of another drain: it takes about as long as all viewers need to refresh once.
const LONGER: usize = 8;

/// What they look at.
const PAGES: [&str; 5] = ["/", "/?state=failed", "/?name=job7", "/statistics", "/queues"];

impl Bench {
    /// Drains in turn without viewers and with them.
    pub(crate) fn web(&self, report: &mut Report) {
        let jobs = *self.scale.ended.first().unwrap();
        if self.server.rows("duly_job") < jobs as f64 {
            println!("filling: {jobs} ended jobs");
            self.server.fill(jobs, "1 DAY", 0, 0);
        }
        let (mut page, address) = self.serve();
        let alone = PAGES.map(|page| (0..10).map(|_| get(&address, page)).collect());
        let (mut quiet, mut watched, mut times) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..self.scale.drains {
            quiet.push(self.ground.drained(LONGER * self.scale.jobs));
            let (rate, seen) = self.with_viewers(&address, || self.ground.drained(LONGER * self.scale.jobs));
            watched.push(rate);
            times.extend(seen);
        }
        page.kill().unwrap();
        page.wait().unwrap();
        report.add(Figure::rate(
            &format!("draining while {VIEWERS} viewers refresh the web page"),
            "the same without viewers",
            &watched,
            &quiet,
            "≥ 0.95",
        ));
        report.note(format!(
            "Pages of `duly web` with {jobs} ended jobs, medians: alone {}; with {VIEWERS} viewers and a drain {}, the slowest of {} {:.0} ms \
             (the target is 100 ms at the median).",
            medians(alone),
            medians((0..PAGES.len()).map(|page| times.iter().filter(|(seen, _)| *seen == page).map(|(_, taken)| *taken).collect())),
            times.len(),
            times.iter().map(|(_, taken)| *taken).fold(0.0, f64::max)
        ));
    }

    fn serve(&self) -> (Child, String) {
        let mut command = self.ground.duly(&["web", "--listen", "127.0.0.1:0"]);
        let mut page = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(page.stdout.take().unwrap()).read_line(&mut line).unwrap();
        (page, line.trim().trim_start_matches("http://").trim_end_matches('/').to_owned())
    }

    /// What `work` gives while they look on; which pages they saw, and how long each took in milliseconds.
    fn with_viewers<T>(&self, address: &str, work: impl FnOnce() -> T) -> (T, Vec<(usize, f64)>) {
        let (is_over, over) = (Mutex::new(false), Condvar::new());
        std::thread::scope(|scope| {
            let viewers: Vec<_> = (0..VIEWERS)
                .map(|number| {
                    let (is_over, over) = (&is_over, &over);
                    scope.spawn(move || {
                        let mut times = Vec::new();
                        let page = number as usize % PAGES.len();
                        let mut next = Instant::now() + REFRESH * number / VIEWERS;
                        loop {
                            // Asleep until it is time: fifty that look at the clock would cost more than the page.
                            let left = next.saturating_duration_since(Instant::now());
                            let told = is_over.lock().unwrap();
                            let (told, _) = over.wait_timeout_while(told, left, |is_over| !*is_over).unwrap();
                            if *told {
                                return times;
                            }
                            drop(told);
                            times.push((page, get(address, PAGES[page])));
                            next += REFRESH;
                        }
                    })
                })
                .collect();
            let done = work();
            *is_over.lock().unwrap() = true;
            over.notify_all();
            (done, viewers.into_iter().flat_map(|viewer| viewer.join().unwrap()).collect())
        })
    }
}

/// The median of the times of each page, in words.
fn medians(times: impl IntoIterator<Item = Vec<f64>>) -> String {
    let each = PAGES.iter().zip(times).map(|(page, times)| format!("`{page}` {:.1} ms", median(&times)));
    each.collect::<Vec<_>>().join(", ")
}

/// Fetches a page; how long that took, in milliseconds.
fn get(address: &str, page: &str) -> f64 {
    let begun = Instant::now();
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {page} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{page}: {}", answer.lines().next().unwrap_or_default());
    begun.elapsed().as_secs_f64() * 1000.0
}
