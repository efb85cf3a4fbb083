//! Figures beside their references, as text, as a page and as a chart.

use std::fmt::Write as _;
use std::fs;
use std::process::Command;

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
    /// Claimers, and jobs a second with an empty table.
    pub(crate) claims: Vec<(usize, f64)>,
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
        text.push_str("\n| claimers | jobs a second |\n| --- | --- |\n");
        for (claimers, rate) in &self.claims {
            writeln!(text, "| {claimers} | {rate:.0} |").unwrap();
        }
        text
    }

    /// Puts the figures into BENCHMARKS.md between its two marks, and the chart beside it.
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
        fs::write(super::root().join("benches/claims.svg"), self.chart()).unwrap();
    }

    /// Throughput over the number of claimers.
    fn chart(&self) -> String {
        let points = &self.claims;
        let most = points.iter().map(|(_, rate)| *rate).fold(1.0, f64::max);
        let (width, height, left, bottom) = (640.0, 320.0, 70.0, 40.0);
        let step = (width - left - 20.0) / points.len() as f64;
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" font-size=\"13\">\n\
             <title>Jobs claimed and finished a second, by the number of claimers</title>\n\
             <rect width=\"{width}\" height=\"{height}\" fill=\"#fff\"/>\n"
        );
        for (at, (count, rate)) in points.iter().enumerate() {
            let bar = (height - bottom - 30.0) * rate / most;
            let (x, y) = (left + step * at as f64 + step * 0.15, height - bottom - bar);
            let middle = x + step * 0.35;
            writeln!(
                svg,
                "<rect x=\"{x:.0}\" y=\"{y:.0}\" width=\"{:.0}\" height=\"{bar:.0}\" fill=\"#2b6cb0\"/>\n\
                 <text x=\"{middle:.0}\" y=\"{:.0}\" text-anchor=\"middle\">{rate:.0}</text>\n\
                 <text x=\"{middle:.0}\" y=\"{:.0}\" text-anchor=\"middle\">{count}</text>",
                step * 0.7,
                y - 6.0,
                height - bottom + 18.0
            )
            .unwrap();
        }
        writeln!(
            svg,
            "<text x=\"16\" y=\"{:.0}\" transform=\"rotate(-90 16 {:.0})\" text-anchor=\"middle\">jobs a second</text>\n\
             <text x=\"{:.0}\" y=\"{:.0}\" text-anchor=\"middle\">claimers, each with a connection of its own</text>\n</svg>",
            height / 2.0,
            height / 2.0,
            left + (width - left) / 2.0,
            height - 6.0
        )
        .unwrap();
        svg
    }
}
