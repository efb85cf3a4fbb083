//! Jobs a second over something, as bars.

use std::fmt::Write as _;

/// A bar for each of `bars`, which are named by what they are over.
pub(crate) struct Chart {
    /// Its file, in `benches/`.
    pub(crate) file: &'static str,
    pub(crate) title: &'static str,
    /// What the bars are over.
    pub(crate) over: &'static str,
    pub(crate) bars: Vec<(String, f64)>,
}

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 320.0;
/// Left of the bars, and below them.
const LEFT: f64 = 70.0;
const BOTTOM: f64 = 40.0;

impl Chart {
    /// The same as a table in Markdown.
    pub(crate) fn table(&self) -> String {
        let mut text = format!("\n| {} | jobs a second |\n| --- | --- |\n", self.over);
        for (name, rate) in &self.bars {
            writeln!(text, "| {name} | {rate:.0} |").unwrap();
        }
        text
    }

    pub(crate) fn svg(&self) -> String {
        let most = self.bars.iter().map(|(_, rate)| *rate).fold(1.0, f64::max);
        let step = (WIDTH - LEFT - 20.0) / self.bars.len() as f64;
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"13\">\n\
             <title>{}</title>\n<rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#fff\"/>\n",
            self.title
        );
        for (at, (name, rate)) in self.bars.iter().enumerate() {
            let bar = (HEIGHT - BOTTOM - 30.0) * rate / most;
            let (x, y) = (LEFT + step * at as f64 + step * 0.15, HEIGHT - BOTTOM - bar);
            let middle = x + step * 0.35;
            writeln!(
                svg,
                "<rect x=\"{x:.0}\" y=\"{y:.0}\" width=\"{:.0}\" height=\"{bar:.0}\" fill=\"#2b6cb0\"/>\n\
                 <text x=\"{middle:.0}\" y=\"{:.0}\" text-anchor=\"middle\">{rate:.0}</text>\n\
                 <text x=\"{middle:.0}\" y=\"{:.0}\" text-anchor=\"middle\">{name}</text>",
                step * 0.7,
                y - 6.0,
                HEIGHT - BOTTOM + 18.0
            )
            .unwrap();
        }
        writeln!(
            svg,
            "<text x=\"16\" y=\"{0:.0}\" transform=\"rotate(-90 16 {0:.0})\" text-anchor=\"middle\">jobs a second</text>\n\
             <text x=\"{1:.0}\" y=\"{2:.0}\" text-anchor=\"middle\">{3}</text>\n</svg>",
            HEIGHT / 2.0,
            LEFT + (WIDTH - LEFT) / 2.0,
            HEIGHT - 6.0,
            self.over
        )
        .unwrap();
        svg
    }
}
