//! What stands in a command for the target of its job: `{target_id}` and `{target_type}`.
//!
//! A place for which a job has nothing is never left empty: `rm -rf /srv/tenants/{target_id}` would be `rm -rf /srv/tenants/`.

use super::{Action, Definition};

/// The type and the id of what a job is about.
pub type MaybeTarget = (Option<String>, Option<String>);

const PLACES: [&str; 2] = ["{target_type}", "{target_id}"];

/// The first place that stands in any of `words`.
pub fn place_in<'a>(words: impl IntoIterator<Item = &'a String>) -> Option<&'static str> {
    words.into_iter().find_map(|word| PLACES.into_iter().find(|place| word.contains(place)))
}

/// Puts the target in, in one pass: what a target holds is not looked at again.
#[must_use]
pub fn with_target(word: &str, (kind, id): &MaybeTarget) -> String {
    let places = PLACES.into_iter().zip([kind, id]);
    let (mut done, mut rest) = (String::new(), word);
    loop {
        let next = places.clone().filter_map(|(place, value)| Some((rest.find(place)?, place, value))).min();
        let Some((at, place, value)) = next else { return done + rest };
        done.push_str(&rest[..at]);
        done.push_str(value.as_deref().unwrap_or_default());
        rest = &rest[at + place.len()..];
    }
}

impl Definition {
    /// Says that the command has a place for which a job about `target` has nothing, if so.
    ///
    /// # Errors
    ///
    /// Which place, of which definition, and what to do.
    pub fn require_target(&self, (kind, id): &MaybeTarget) -> Result<(), String> {
        let Action::Command(argv) = &self.action else { return Ok(()) };
        let places = PLACES.into_iter().zip([(kind, "type"), (id, "id")]);
        for (place, (value, what)) in places {
            let is_empty = value.as_ref().is_none_or(|value| value.trim().is_empty());
            if is_empty && argv.iter().any(|word| word.contains(place)) {
                return Err(format!(
                    "the command of `{}` has `{place}`, and the job has no target {what}; give it one \
                     (`--target-{what}`, or the column target_{what})",
                    self.name
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_a_target_holds_is_put_in_as_it_is(head in "[a-z{}]{0,4}", kind in ".{0,12}", id in ".{0,12}") {
            let target = (Some(kind.clone()), Some(id.clone()));
            let word = format!("{head}-{{target_type}}/{{target_id}}-{{target_type}}");
            prop_assert_eq!(with_target(&word, &target), format!("{head}-{kind}/{id}-{kind}"));
        }
    }
}
