//! As much of a shell's grammar as tells apart the programs of a crontab's command: where one ends and the next
//! begins, and where its output goes. Nothing is expanded.

use std::mem::take;

/// One program of a command line.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Segment {
    /// Its words, without quotes and redirections.
    pub(super) words: Vec<String>,
    /// Redirections such as `2>&1`, without blanks, in their order.
    redirections: Vec<String>,
}

/// The last part of a path.
pub(super) fn file_name(word: &str) -> &str {
    word.rsplit('/').next().unwrap_or(word)
}

impl Segment {
    /// Whether standard error ends in /dev/null.
    pub(super) fn discards_errors(&self) -> bool {
        let is_null = |target: &str| target == "/dev/null";
        let (mut output, mut errors) = (false, false);
        for redirection in &self.redirections {
            let (from, to) = redirection.split_at(redirection.find(['>', '<']).unwrap_or(0));
            let target = to.trim_start_matches(['>', '|']);
            match (from, target.strip_prefix('&')) {
                ("2", Some("1")) => errors = output,
                ("" | "1", Some("2")) => output = errors,
                ("", Some(file)) => {
                    (output, errors) = (is_null(file), is_null(file));
                }
                ("&", _) => (output, errors) = (is_null(target), is_null(target)),
                ("" | "1", None) => output = is_null(target),
                ("2", _) => errors = is_null(target) || target == "&-",
                _ => {}
            }
        }
        errors
    }
}

/// The programs of a command, separated by `;`, `&&`, `||`, `|`, `&` and parentheses.
pub(super) fn segments(command: &str) -> Vec<Segment> {
    let mut splitter = Splitter { rest: command, ..Splitter::default() };
    while let Some(character) = splitter.next() {
        match character {
            '\\' | '\'' | '"' => splitter.take_quoted(character),
            '>' | '<' => splitter.take_redirection(character, ""),
            '&' if splitter.rest.starts_with('>') => {
                splitter.next();
                splitter.take_redirection('>', "&");
            }
            ';' | '&' | '|' | '(' | ')' | '\n' => splitter.end_segment(),
            other => splitter.text.push(other),
        }
    }
    splitter.end_segment();
    splitter.segments
}

#[derive(Default)]
struct Splitter<'a> {
    rest: &'a str,
    /// The segment under way, still quoted.
    text: String,
    redirections: Vec<String>,
    segments: Vec<Segment>,
}

impl Splitter<'_> {
    fn next(&mut self) -> Option<char> {
        let mut characters = self.rest.chars();
        let next = characters.next();
        self.rest = characters.as_str();
        next
    }

    /// Takes what a quote protects, as it stands.
    fn take_quoted(&mut self, quote: char) {
        self.text.push(quote);
        if quote == '\\' {
            let next = self.next();
            self.text.extend(next);
            return;
        }
        while let Some(character) = self.next() {
            self.text.push(character);
            if character == '\\' && quote == '"' {
                let next = self.next();
                self.text.extend(next);
            } else if character == quote {
                return;
            }
        }
    }

    /// Takes `>`, `>>`, `>&`, `>|` or `<` and its target; a number right before it belongs to it.
    fn take_redirection(&mut self, arrow: char, from: &str) {
        let kept = self.text.trim_end_matches(|c: char| c.is_ascii_digit()).len();
        let is_number = self.text[..kept].is_empty() || self.text[..kept].ends_with(char::is_whitespace);
        let number = if is_number { self.text.split_off(kept) } else { String::new() };
        let operator = self.rest.len() - self.rest.trim_start_matches(['>', '<', '&', '|']).len();
        let (operator, rest) = self.rest.split_at(operator);
        let rest = rest.trim_start();
        let end = rest.find(|c: char| c.is_whitespace() || ";&|()<>".contains(c)).unwrap_or(rest.len());
        let (target, rest) = rest.split_at(end);
        self.rest = rest;
        self.redirections
            .push(format!("{from}{number}{arrow}{operator}{}", target.trim_matches(['"', '\''])));
    }

    fn end_segment(&mut self) {
        let text = take(&mut self.text);
        let redirections = take(&mut self.redirections);
        // With a quote left open the shell would refuse it; the plain words are what can still be said.
        let words = shell_words::split(&text)
            .unwrap_or_else(|_| text.split_whitespace().map(str::to_owned).collect());
        if !words.is_empty() {
            self.segments.push(Segment { words, redirections });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(command: &str) -> Vec<Vec<String>> {
        segments(command).into_iter().map(|segment| segment.words).collect()
    }

    #[test]
    fn programs_are_told_apart_and_redirections_left_out() {
        for (command, expected) in [
            ("cd '/var/w w' && duly run", vec![vec!["cd", "/var/w w"], vec!["duly", "run"]]),
            ("(sleep 15; duly run)", vec![vec!["sleep", "15"], vec!["duly", "run"]]),
            ("duly run >/dev/null 2>&1", vec![vec!["duly", "run"]]),
            ("duly run >> /var/log/x 2>>y -v", vec![vec!["duly", "run", "-v"]]),
            ("duly run &> x", vec![vec!["duly", "run"]]),
            (
                "duly enqueue 'a;b' \"c > d\" e\\;f | cat",
                vec![vec!["duly", "enqueue", "a;b", "c > d", "e;f"], vec!["cat"]],
            ),
            ("duly run 'open", vec![vec!["duly", "run", "'open"]]),
            ("job7>x", vec![vec!["job7"]]),
        ] {
            assert_eq!(words(command), expected, "{command}");
        }
    }

    #[test]
    fn errors_are_thrown_away_where_standard_error_ends_in_null() {
        for (redirection, discards) in [
            (">/dev/null 2>&1", true),
            ("> /dev/null 2> /dev/null", true),
            ("&>/dev/null", true),
            (">& /dev/null", true),
            ("2>/dev/null", true),
            ("2>&-", true),
            ("1>/dev/null 2>&1", true),
            (">/dev/null", false),
            ("2>&1 >/dev/null", false),
            (">>/var/log/duly 2>&1", false),
            ("< /dev/null", false),
            ("", false),
        ] {
            assert_eq!(
                segments(&format!("duly run {redirection}"))[0].discards_errors(),
                discards,
                "{redirection}"
            );
        }
    }
}
