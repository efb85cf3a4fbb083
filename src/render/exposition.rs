//! Metrics as Prometheus reads them: its text format, version 0.0.4.
//!
//! A family is a name, a type, a help and its samples, and stands in one piece. The names and labels are the program's own;
//! values of labels may hold anything.

use std::fmt::Write as _;

use crate::job::harmless;

/// A text under construction.
#[derive(Debug, Default)]
pub struct Exposition {
    text: String,
    family: &'static str,
}

impl Exposition {
    /// Begins a family of samples: its name, its type (gauge, counter, histogram) and what it means.
    pub fn family(&mut self, name: &'static str, kind: &str, help: &str) {
        self.family = name;
        self.line(format_args!("# HELP {name} {help}"));
        self.line(format_args!("# TYPE {name} {kind}"));
    }

    /// Adds a sample of the family.
    pub fn sample(&mut self, labels: &[(&str, &str)], value: f64) {
        self.part("", labels, value);
    }

    /// Adds a sample whose name has an ending, as those of a histogram have.
    pub fn part(&mut self, ending: &str, labels: &[(&str, &str)], value: f64) {
        let pairs: Vec<String> =
            labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect();
        let labels = if pairs.is_empty() { String::new() } else { format!("{{{}}}", pairs.join(",")) };
        let family = self.family;
        self.line(format_args!("{family}{ending}{labels} {value}"));
    }

    /// The whole text.
    #[must_use]
    pub fn text(self) -> String {
        self.text
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        let (Ok(()) | Err(_)) = writeln!(self.text, "{line}");
    }
}

/// The value of a label: backslash, quote and line end have to be escaped; what a terminal would obey is shown as everywhere else.
fn escaped(value: &str) -> String {
    harmless(value).replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::Exposition;

    #[test]
    fn a_label_may_hold_anything() {
        let mut exposition = Exposition::default();
        exposition.family("x_total", "counter", "What it is");
        exposition.sample(&[("name", "a\"b\\c\nd\u{1b}[2J"), ("state", "ü")], 1.5);
        exposition.sample(&[], 7.0);
        assert_eq!(
            exposition.text(),
            "# HELP x_total What it is\n# TYPE x_total counter\nx_total{name=\"a\\\"b\\\\c\\nd␛[2J\",state=\"ü\"} 1.5\nx_total 7\n"
        );
    }
}
