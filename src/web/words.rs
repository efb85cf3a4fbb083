//! Schedules in words, as a person would say them; what is too unusual for that is left to the expression itself.

use crate::job::Schedule;

const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// `every weekday at 02:00`; `None` where there are no plain words for it.
pub(super) fn words(schedule: &Schedule) -> Option<String> {
    let text = schedule.expression.to_ascii_lowercase();
    let text = match text.as_str() {
        "@tick" => return Some("at each tick".to_owned()),
        "@yearly" | "@annually" => "0 0 1 1 *",
        "@monthly" => "0 0 1 * *",
        "@weekly" => "0 0 * * 0",
        "@daily" | "@midnight" => "0 0 * * *",
        "@hourly" => "0 * * * *",
        other => other,
    };
    let fields: Vec<&str> = text.split_whitespace().collect();
    match fields.as_slice() {
        [minute, hour, day, month, weekday] => {
            let days = days(day, month, weekday)?;
            times(minute, hour).map(|(times, is_daily)| match (days.as_str(), is_daily) {
                ("", true) => format!("every day {times}"),
                ("", false) => times,
                (days, _) => format!("{days} {times}"),
            })
        }
        [second, "*", "*", "*", "*", "*"] => match second.strip_prefix("*/") {
            Some(step) => Some(format!("every {} seconds", even(step, 60)?)),
            None if *second == "*" => Some("every second".to_owned()),
            None => Some(format!("every minute at second {}", number(second)?)),
        },
        _ => None,
    }
}

/// When in the day, and whether it is at a time of day rather than all day long.
fn times(minute: &str, hour: &str) -> Option<(String, bool)> {
    let all_day = |text: String| Some((text, false));
    match (minute, minute.strip_prefix("*/"), hour, hour.strip_prefix("*/")) {
        ("*", _, "*", _) => all_day("every minute".to_owned()),
        (_, Some(step), "*", _) => all_day(format!("every {} minutes", even(step, 60)?)),
        (_, None, "*", _) if number(minute) == Some(0) => all_day("every hour, on the hour".to_owned()),
        (_, None, "*", _) => all_day(format!("every hour at {} past", minutes(minute)?)),
        (_, None, _, Some(step)) => {
            all_day(format!("every {} hours at minute {}", even(step, 24)?, number(minute)?))
        }
        (_, Some(step), _, None) => {
            let (from, to) = hour.split_once('-')?;
            all_day(format!(
                "every {} minutes from {:02}:00 to {:02}:59",
                even(step, 60)?,
                number(from)?,
                number(to)?
            ))
        }
        (_, None, _, None) => match hour.split_once('-') {
            Some((from, to)) => {
                let minute = number(minute)?;
                all_day(format!(
                    "every hour from {:02}:{minute:02} to {:02}:{minute:02}",
                    number(from)?,
                    number(to)?
                ))
            }
            None => {
                let minute = number(minute)?;
                let hours: Option<Vec<String>> =
                    hour.split(',').map(|hour| Some(format!("{:02}:{minute:02}", number(hour)?))).collect();
                Some((format!("at {}", listed(&hours?)), true))
            }
        },
        _ => None,
    }
}

fn minutes(minute: &str) -> Option<String> {
    let all: Option<Vec<String>> =
        minute.split(',').map(|minute| Some(number(minute)?.to_string())).collect();
    Some(listed(&all?))
}

/// Which days; empty for every day.
fn days(day: &str, month: &str, weekday: &str) -> Option<String> {
    let month = match month {
        "*" => None,
        month => Some(*MONTHS.get(usize::from(number(month)?).checked_sub(1)?)?),
    };
    match (day, weekday, month) {
        ("*", "*", None) => Some(String::new()),
        ("*", "1-5" | "mon-fri", None) => Some("every weekday".to_owned()),
        ("*", weekday, None) => match weekday.split_once('-') {
            Some((from, to)) => Some(format!("{} to {}", day_name(from)?, day_name(to)?)),
            None => {
                let names: Option<Vec<String>> =
                    weekday.split(',').map(|day| day_name(day).map(str::to_owned)).collect();
                Some(format!("every {}", listed(&names?)))
            }
        },
        ("l", "*", None) => Some("on the last day of the month".to_owned()),
        (day, "*", None) => Some(format!("on day {} of the month", minutes(day)?)),
        (day, "*", Some(month)) => Some(format!("on {} {month}", number(day)?)),
        _ => None,
    }
}

fn day_name(day: &str) -> Option<&'static str> {
    let by_word = DAYS.iter().find(|name| day.len() == 3 && name.to_ascii_lowercase().starts_with(day));
    by_word.copied().or_else(|| DAYS.get(usize::from(number(day)?) % 7).copied())
}

/// A step that comes as often as it says: steps start anew with each of the `whole`.
fn even(step: &str, whole: u8) -> Option<u8> {
    number(step).filter(|step| *step > 0 && *step < whole && whole.is_multiple_of(*step))
}

fn number(text: &str) -> Option<u8> {
    let is_plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| is_plain)
}

fn listed(all: &[String]) -> String {
    match all {
        [] => String::new(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::Zone;

    #[test]
    fn common_schedules_have_words() {
        for (expression, said) in [
            ("* * * * *", "every minute"),
            ("*/5 * * * *", "every 5 minutes"),
            ("0 * * * *", "every hour, on the hour"),
            ("15,45 * * * *", "every hour at 15 and 45 past"),
            ("0 2 * * 1-5", "every weekday at 02:00"),
            ("30 3 * * *", "every day at 03:30"),
            ("0 6,18 * * *", "every day at 06:00 and 18:00"),
            ("5 */4 * * *", "every 4 hours at minute 5"),
            ("0 9-17 * * mon-fri", "every weekday every hour from 09:00 to 17:00"),
            ("0 4 * * 0", "every Sunday at 04:00"),
            ("0 4 * * 7", "every Sunday at 04:00"),
            ("0 4 1,15 * *", "on day 1 and 15 of the month at 04:00"),
            ("0 4 L * *", "on the last day of the month at 04:00"),
            ("0 0 24 12 *", "on 24 December at 00:00"),
            ("@daily", "every day at 00:00"),
            ("@tick", "at each tick"),
            ("*/10 * * * * *", "every 10 seconds"),
        ] {
            assert_eq!(
                words(&Schedule::parse(expression, Zone::UTC).unwrap()).as_deref(),
                Some(said),
                "{expression}"
            );
        }
    }

    /// Seen failing with any step taken for what it says.
    #[test]
    fn a_step_that_does_not_come_so_often_is_left_to_its_expression() {
        for expression in ["*/90 * * * *", "*/45 * * * *", "0 */24 * * *", "0 */5 * * *", "*/60 * * * * *"] {
            assert_eq!(words(&Schedule::parse(expression, Zone::UTC).unwrap()), None, "{expression}");
        }
    }

    #[test]
    fn what_has_no_plain_words_is_left_to_its_expression() {
        for expression in ["0 4 1W * *", "0 4 * * 5#2", "0 4 1 * 1", "1-5 3 * * *", "0 0 1 1-3 *"] {
            assert_eq!(words(&Schedule::parse(expression, Zone::UTC).unwrap()), None, "{expression}");
        }
    }
}
