//! “Did you mean …?”

/// Below this likeness (0 to 1, Jaro-Winkler) a guess would only confuse.
const ALIKE: f64 = 0.85;

/// The candidate that is most like `word`, if any is enough so.
pub(super) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase();
    candidates
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(&word, &candidate.to_lowercase()), candidate))
        .filter(|(likeness, _)| *likeness >= ALIKE)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

/// The end of a message: a guess, or else everything that is expected.
pub(super) fn guess_or_list(word: &str, candidates: &[&str]) -> String {
    match nearest(word, candidates.iter().copied()) {
        Some(guess) => format!("did you mean `{guess}`?"),
        None => format!("expected one of {}", candidates.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_guessed_and_something_else_is_not() {
        let known = ["timeout", "desc", "import", "queue"];
        for (word, guess) in [("timout", "timeout"), ("description", "desc"), ("Improt", "import")] {
            assert_eq!(nearest(word, known), Some(guess), "{word}");
        }
        assert_eq!(nearest("zebra", known), None);
    }
}
