//! The six fields of a cron expression: what may be in each, and which form somebody meant who wrote another.

/// One field.
pub(super) struct Field {
    /// What a value of it is called.
    pub(super) place: &'static str,
    /// What all of them are called.
    pub(super) all: &'static str,
    /// What they start anew with.
    pub(super) whole: &'static str,
    pub(super) least: u8,
    pub(super) most: u8,
    /// Words for its values, from the least on.
    pub(super) names: &'static [&'static str],
    /// What may be in it, for people.
    pub(super) expected: &'static str,
}

/// Seconds, minutes, hours, days, months, weekdays.
pub(super) const FIELDS: [Field; 6] = [
    Field {
        place: "second",
        all: "seconds",
        whole: "minute",
        least: 0,
        most: 59,
        names: &[],
        expected: "0 to 59",
    },
    Field {
        place: "minute",
        all: "minutes",
        whole: "hour",
        least: 0,
        most: 59,
        names: &[],
        expected: "0 to 59",
    },
    Field { place: "hour", all: "hours", whole: "day", least: 0, most: 23, names: &[], expected: "0 to 23" },
    Field {
        place: "day of the month",
        all: "days",
        whole: "month",
        least: 1,
        most: 31,
        names: &[],
        expected: "1 to 31, or L, or 15W",
    },
    Field {
        place: "month",
        all: "months",
        whole: "year",
        least: 1,
        most: 12,
        names: &["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"],
        expected: "1 to 12, or JAN to DEC",
    },
    Field {
        place: "weekday",
        all: "weekdays",
        whole: "week",
        least: 0,
        most: 6,
        names: &["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"],
        expected: "0 to 7 (0 and 7 are Sunday), or SUN to SAT",
    },
];

/// The fields of an expression beside what they are; none where it has neither five nor six.
pub(super) fn fields(expression: &str) -> Vec<(&'static Field, &str)> {
    let found: Vec<&str> = expression.split_whitespace().collect();
    let places = match found.len() {
        5 | 6 => &FIELDS[FIELDS.len() - found.len()..],
        _ => &[],
    };
    places.iter().zip(found).collect()
}

impl Field {
    /// A value by its number or its word; of weekdays also 7.
    pub(super) fn value(&self, text: &str) -> Option<u8> {
        let named = self.names.iter().position(|name| name.eq_ignore_ascii_case(text));
        if let Some(at) = named {
            return Some(self.least + u8::try_from(at).ok()?);
        }
        let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let most = if self.place == "weekday" { 7 } else { self.most };
        text.parse().ok().filter(|number| is_number && (self.least..=most).contains(number))
    }

    /// The form that is meant by one that is refused: `3/10` by `3-59/10`, `22-2` by `22-23,0-2`. It may be wrong as well.
    pub(super) fn meant_by(&self, found: &str) -> Option<String> {
        let parts: Vec<String> =
            found.split(',').map(|part| self.part_meant(part).unwrap_or_else(|| part.to_owned())).collect();
        Some(parts.join(",")).filter(|meant| meant != found)
    }

    fn part_meant(&self, part: &str) -> Option<String> {
        let (first, last) = match self.names {
            [first, .., last] if part.starts_with(|c: char| c.is_ascii_alphabetic()) => {
                ((*first).to_owned(), (*last).to_owned())
            }
            _ => (self.least.to_string(), self.most.to_string()),
        };
        match part.split_once('/') {
            Some(("", step)) => Some(format!("*/{step}")),
            Some((from, step)) => {
                // From Sunday as 7, a step would not leave it.
                let is_inside = self.value(from).is_some_and(|from| from <= self.most);
                is_inside.then(|| format!("{from}-{last}/{step}"))
            }
            None => {
                let (from, to) = part.split_once('-')?;
                let range = |from: &str, to: &str| {
                    if from == to { from.to_owned() } else { format!("{from}-{to}") }
                };
                (self.value(from)? > self.value(to)?)
                    .then(|| format!("{},{}", range(from, &last), range(&first, to)))
            }
        }
    }
}
