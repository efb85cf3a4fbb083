//! Figures beside their references, as text and as a page.

use std::fmt::Write as _;
use std::fs;
use std::process::Command;

use super::chart::Chart;

/// One figure beside its reference.
pub(crate) struct Figure {
    what: String,
    shown: String,
    reference: String,
    ratio: f64,
    target: String,
}

/// All of them.
#[derive(Default)]
pub(crate) struct Report {
    figures: Vec<Figure>,
    notes: Vec<String>,
    pub(crate) charts: Vec<Chart>,
}

/// The middle one.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        count if count % 2 == 1 => sorted[count / 2],
        count => f64::midpoint(sorted[count / 2 - 1], sorted[count / 2]),
    }
}

/// Between which bounds the middle half lies, as a share of the median.
fn spread(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    (sorted[sorted.len() * 3 / 4] - sorted[sorted.len() / 4]) / median(values) * 100.0
}

impl Figure {
    /// Seconds: the ratio is ours over theirs.
    pub(crate) fn time(what: &str, reference: &str, ours: &[f64], theirs: &[f64], target: &str) -> Self {
        let (value, other) = (median(ours), median(theirs));
        Self {
            what: what.to_owned(),
            shown: format!("{:.2} ms (spread {:.0} %)", value * 1000.0, spread(ours)),
            reference: format!("{reference}: {:.2} ms", other * 1000.0),
            ratio: value / other,
            target: target.to_owned(),
        }
    }

    /// Per second: the ratio is ours over theirs.
    pub(crate) fn rate(what: &str, reference: &str, ours: &[f64], theirs: &[f64], target: &str) -> Self {
        let (value, other) = (median(ours), median(theirs));
        Self {
            what: what.to_owned(),
            shown: format!("{value:.0}/s (spread {:.0} %)", spread(ours)),
            reference: format!("{reference}: {other:.0}/s"),
            ratio: value / other,
            target: target.to_owned(),
        }
    }

    /// Per second, beside a figure that others have published or that is asked for.
    pub(crate) fn absolute(what: &str, reference: &str, value: f64, other: f64, target: &str) -> Self {
        Self {
            what: what.to_owned(),
            shown: format!("{value:.0}/s"),
            reference: reference.to_owned(),
            ratio: value / other,
            target: target.to_owned(),
        }
    }

    /// Per second: the ratio is how many times slower ours is.
    pub(crate) fn slower(what: &str, reference: &str, ours: &[f64], theirs: &[f64], target: &str) -> Self {
        let figure = Self::rate(what, reference, ours, theirs, target);
        Self { ratio: 1.0 / figure.ratio, ..figure }
    }
}

impl Report {
    pub(crate) fn add(&mut self, figure: Figure) {
        println!(
            "{}: {}; {}; ratio {:.2}, target {}",
            figure.what, figure.shown, figure.reference, figure.ratio, figure.target
        );
        self.figures.push(figure);
    }

    pub(crate) fn note(&mut self, note: String) {
        println!("{note}");
        self.notes.push(note);
    }

    /// As a table in Markdown, with the notes.
    pub(crate) fn text(&self) -> String {
        let mut text = String::from(
            "| what | measured | reference | ratio | target |\n| --- | --- | --- | --- | --- |\n",
        );
        for figure in &self.figures {
            let Figure { what, shown, reference, ratio, target, .. } = figure;
            writeln!(text, "| {what} | {shown} | {reference} | {ratio:.2} | {target} |").unwrap();
        }
        text.push('\n');
        for note in &self.notes {
            writeln!(text, "- {note}").unwrap();
        }
        for chart in &self.charts {
            text.push_str(&chart.table());
        }
        text
    }

    /// Puts the figures into BENCHMARKS.md between its two marks, and the charts beside it.
    pub(crate) fn write(&self, version: &str) {
        let path = super::root().join("BENCHMARKS.md");
        let page = fs::read_to_string(&path).unwrap();
        let (begin, end) = ("<!-- measured -->\n", "<!-- end -->");
        let (head, rest) = page.split_once(begin).unwrap();
        let (_, tail) = rest.split_once(end).unwrap();
        let output = |program: &str, arguments: &[&str]| {
            let output = Command::new(program).args(arguments).output().unwrap();
            String::from_utf8_lossy(&output.stdout).trim().to_owned()
        };
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        let machine = format!(
            "{}; {cpus} CPUs; MariaDB {version}, `innodb_flush_log_at_trx_commit=1`, on disk; {}; Duly {}.\n\n",
            output("date", &["-u", "+%Y-%m-%d"]),
            output("uname", &["-sr"]),
            env!("CARGO_PKG_VERSION")
        );
        fs::write(&path, format!("{head}{begin}{machine}{}{end}{tail}", self.text())).unwrap();
        for chart in &self.charts {
            fs::write(super::root().join("benches").join(chart.file), chart.svg()).unwrap();
        }
    }
}
