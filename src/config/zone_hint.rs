//! What is said about a `timezone` that is none: the zone that may be meant.
//!
//! A distance from UTC is no zone's name. The names that look like one, `Etc/GMT+2`, have their sign turned round, so whoever
//! writes `GMT+2` is told `Etc/GMT-2`, and a place, whose clocks also know summer.

use super::nearest::nearest;

/// Places by how many minutes their clocks are ahead of UTC where it is winter.
const PLACES: [(i32, &str); 33] = [
    (-660, "Pacific/Pago_Pago"),
    (-600, "Pacific/Honolulu"),
    (-540, "America/Anchorage"),
    (-480, "America/Los_Angeles"),
    (-420, "America/Denver"),
    (-360, "America/Chicago"),
    (-300, "America/New_York"),
    (-240, "America/Halifax"),
    (-210, "America/St_Johns"),
    (-180, "America/Sao_Paulo"),
    (-120, "America/Noronha"),
    (-60, "Atlantic/Azores"),
    (0, "Europe/London"),
    (60, "Europe/Berlin"),
    (120, "Europe/Athens"),
    (180, "Europe/Istanbul"),
    (210, "Asia/Tehran"),
    (240, "Asia/Dubai"),
    (270, "Asia/Kabul"),
    (300, "Asia/Karachi"),
    (330, "Asia/Kolkata"),
    (345, "Asia/Kathmandu"),
    (360, "Asia/Dhaka"),
    (390, "Asia/Yangon"),
    (420, "Asia/Bangkok"),
    (480, "Asia/Singapore"),
    (540, "Asia/Tokyo"),
    (570, "Australia/Adelaide"),
    (600, "Australia/Sydney"),
    (660, "Pacific/Noumea"),
    (720, "Pacific/Auckland"),
    (780, "Pacific/Tongatapu"),
    (840, "Pacific/Kiritimati"),
];

/// `berlin` and `Europe/Berln` both mean `Europe/Berlin`, `GMT+2` means `Etc/GMT-2`.
pub(super) fn unknown_zone(name: &str, names: &[String]) -> String {
    if let Some(ahead) = minutes_ahead(name) {
        return distance(name, ahead);
    }
    let city = format!("/{}", name.to_lowercase());
    let zones = || names.iter().map(String::as_str);
    let guess = zones().find(|zone| zone.to_lowercase().ends_with(&city)).or_else(|| nearest(name, zones()));
    match guess {
        Some(guess) => format!("`{name}` is not a time zone; did you mean `{guess}`?"),
        None => format!("`{name}` is not a time zone; expected one such as UTC or Europe/Berlin"),
    }
}

fn distance(name: &str, ahead: i32) -> String {
    let is_none = format!("`{name}` is a distance from UTC and not a time zone");
    if ahead == 0 {
        return format!("{is_none}; write `UTC`");
    }
    let (hours, minutes) = (ahead.abs() / 60, ahead.abs() % 60);
    let way = if ahead > 0 { "ahead of" } else { "behind" };
    let place = PLACES.iter().find(|(minutes, _)| *minutes == ahead).map(|(_, place)| *place);
    // Names of this form go from Etc/GMT-14 to Etc/GMT+12, in whole hours.
    let fixed = (minutes == 0 && (-12..=14).contains(&(ahead / 60)))
        .then(|| format!("Etc/GMT{}{hours}", if ahead > 0 { '-' } else { '+' }));
    let length = if minutes == 0 {
        format!("{hours} hour{}", if hours == 1 { "" } else { "s" })
    } else {
        format!("{hours} h {minutes} min")
    };
    match (place, fixed) {
        (Some(place), Some(fixed)) => format!(
            "{is_none}; write the zone of a place, such as `{place}`, or `{fixed}`, which is always {length} {way} UTC, since \
             the sign is turned round in these names"
        ),
        (None, Some(fixed)) => format!(
            "{is_none}; write `{fixed}`, which is {length} {way} UTC, since the sign is turned round in these names"
        ),
        (Some(place), None) => format!("{is_none}; write the zone of a place, such as `{place}`"),
        (None, None) => format!("{is_none}; expected the zone of a place, such as Europe/Berlin"),
    }
}

/// How far `GMT+2`, `UTC+02:00`, `+0200`, `CET+1`, `Etc/UTC+2` or `CET-1CEST` is ahead of UTC, in minutes.
fn minutes_ahead(name: &str) -> Option<i32> {
    let is_letter = |c: char| c.is_ascii_alphabetic();
    let plain: String = name.replace(['\u{2212}', '\u{2013}'], "-").split_whitespace().collect();
    let text = plain.strip_prefix("Etc/").unwrap_or(&plain);
    if matches!(text, "Z" | "z") {
        return Some(0);
    }
    let rest = text.trim_start_matches(is_letter);
    let word = &text[..text.len() - rest.len()];
    let (sign, digits) = match rest.strip_prefix(['+', '-']) {
        Some(digits) if rest.starts_with('-') => (-1, digits),
        Some(digits) => (1, digits),
        None if word.eq_ignore_ascii_case("gmt") || word.eq_ignore_ascii_case("utc") => (1, rest),
        None => return None,
    };
    let end = digits.find(|c: char| !c.is_ascii_digit() && c != ':').unwrap_or(digits.len());
    let (number, after) = digits.split_at(end);
    let (hours, minutes) = match (number.split_once(':'), number.len()) {
        (Some((hours, minutes)), _) => (hours, minutes),
        (None, 3 | 4) => number.split_at(number.len() - 2),
        (None, _) => (number, "0"),
    };
    let is_number = |text: &str| (1..=2).contains(&text.len());
    if !is_number(hours) || !is_number(minutes) {
        return None;
    }
    let (hours, minutes): (i32, i32) = (hours.parse().ok()?, minutes.parse().ok()?);
    let ahead = sign * (hours * 60 + minutes);
    match after.chars().next() {
        None => Some(ahead),
        // A rule as POSIX has it, such as CET-1CEST: its sign is turned round as well.
        Some(next) if is_letter(next) && word.len() >= 3 => Some(-ahead),
        Some(_) => None,
    }
    .filter(|_| minutes < 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(name: &str) -> String {
        unknown_zone(name, &crate::job::Zone::names())
    }

    /// Seen failing with the name that looks most like it.
    #[test]
    fn a_distance_from_utc_is_answered_with_the_zone_that_has_it() {
        for name in
            ["GMT+2", "UTC+2", "utc +2", "+02:00", "+2", "+0200", "UTC+02:00", "EET+2", "GMT2", "Etc/UTC+2"]
        {
            let told = told(name);
            assert!(
                told.contains(
                    "such as `Europe/Athens`, or `Etc/GMT-2`, which is always 2 hours ahead of UTC"
                ),
                "{told}"
            );
            assert!(told.contains("the sign is turned round"), "{told}");
        }
        for (name, expected) in [
            ("CET+1", "`Europe/Berlin`, or `Etc/GMT-1`, which is always 1 hour ahead of UTC"),
            ("UTC-5", "`America/New_York`, or `Etc/GMT+5`, which is always 5 hours behind UTC"),
            ("UTC\u{2212}5", "`Etc/GMT+5`"),
            ("-08:00", "`America/Los_Angeles`"),
            ("GMT-12", "write `Etc/GMT+12`, which is 12 hours behind UTC"),
            ("+05:30", "write the zone of a place, such as `Asia/Kolkata`"),
            ("GMT+15", "expected the zone of a place, such as Europe/Berlin"),
            ("CET-1CEST", "`Europe/Berlin`, or `Etc/GMT-1`"),
            ("CET-1CEST,M3.5.0,M10.5.0/3", "`Europe/Berlin`"),
            ("UTC+0", "write `UTC`"),
            ("+00:00", "write `UTC`"),
            ("Z", "write `UTC`"),
        ] {
            assert!(told(name).contains(expected), "{name}: {}", told(name));
        }
    }

    #[test]
    fn the_zones_that_are_told_are_there_and_as_far_from_utc_as_told() {
        use chrono::{Offset as _, TimeZone as _};
        let winters = ["2026-01-15T12:00:00", "2026-07-15T12:00:00"].map(|at| at.parse().unwrap());
        for (minutes, place) in PLACES {
            let zone = crate::job::Zone::named(place).unwrap();
            let offsets = winters.map(|at| zone.offset_from_utc_datetime(&at).fix().local_minus_utc());
            assert_eq!(*offsets.iter().min().unwrap(), minutes * 60, "{place}");
        }
        for hours in (-12..=14).filter(|hours| *hours != 0) {
            let told = distance("x", hours * 60);
            let name = told.split('`').find(|word| word.starts_with("Etc/")).unwrap();
            let zone = crate::job::Zone::named(name).unwrap();
            assert_eq!(
                zone.offset_from_utc_datetime(&winters[0]).fix().local_minus_utc(),
                hours * 3600,
                "{name}"
            );
        }
    }

    #[test]
    fn a_zone_is_guessed_by_its_city_and_by_likeness() {
        for name in ["berlin", "Europe/Berln", "europe/berlin"] {
            assert!(told(name).contains("did you mean `Europe/Berlin`"), "{}", told(name));
        }
        for name in ["Q", "+", "GMT+", "2026-01-01", "+1:2:3", "1"] {
            assert!(told(name).contains("is not a time zone; "), "{name}: {}", told(name));
        }
    }
}
