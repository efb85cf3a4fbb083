//! What can be wrong with the configuration, as text for people.
//!
//! Every message is one line for each problem: where, what was found, what is expected, what to do. None of
//! them ever holds a password or the value of an environment variable.

/// Why there is no configuration to work with.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// None of the places where jobs.yaml may lie has it.
    #[error(
        "found no jobs.yaml at {}; write one there, or name yours with --config or $DULY_CONFIG",
        .looked_at.join(" or ")
    )]
    NotFound {
        /// The places, in the order in which they were looked at.
        looked_at: Vec<String>,
    },
    /// The file cannot be opened or read, or somebody else could have written it.
    #[error("{path}: {problem}")]
    Unusable {
        /// The file, as it was named.
        path: String,
        /// What was found, what was expected, and what to do.
        problem: String,
    },
    /// The file or a setting is wrong: each problem on a line of its own.
    #[error("{}", .0.join("\n"))]
    Invalid(
        /// `jobs.yaml:12: jobs.import.timeout: …`, in the order of the file.
        Vec<String>,
    ),
}

/// The keys that lead to a value; an item of a list is `[0]`.
pub(super) type KeyPath = Vec<String>;

/// Something wrong at one place of jobs.yaml.
pub(super) struct Problem {
    pub(super) path: KeyPath,
    pub(super) message: String,
    /// It is about the second value given for the same key.
    pub(super) again: bool,
}

impl Problem {
    /// The problem without its file and line.
    pub(super) fn describe(&self) -> String {
        if self.path.is_empty() {
            return one_line(&self.message);
        }
        format!("{}: {}", show(&self.path), one_line(&self.message))
    }
}

/// `jobs.import.params[0]`.
pub(super) fn show(path: &[String]) -> String {
    let mut shown = String::new();
    for key in path {
        if !shown.is_empty() && !key.starts_with('[') {
            shown.push('.');
        }
        // A URL in the place of a key is a slip, and it may hold a password.
        shown.push_str(if key.contains("://") { "(a URL)" } else { key });
    }
    one_line(&shown)
}

/// Control characters as escapes: a problem is one line whatever the file holds.
pub(super) fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() {
            line.extend(character.escape_default());
        } else {
            line.push(character);
        }
    }
    line
}
