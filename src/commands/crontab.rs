//! `duly crontab`: the lines that let cron tick, to be installed.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::Result;

use super::{Context, Usage};
use crate::cli::CrontabArgs;
use crate::config;
use crate::exit_code::ExitCode;
use crate::job::duration;
use crate::process::program::own_program;
use crate::render;

pub(super) fn run(context: &Context, args: &CrontabArgs) -> Result<ExitCode> {
    let ticks = ticks(args.every).map_err(Usage)?;
    let path = config::locate(context.options.path.as_deref())?;
    let program = own_program().map_err(anyhow::Error::msg)?;
    let words = [program.as_str(), "--config", &path.to_string_lossy(), "run"];
    // cron makes a line break of a percent sign that has no backslash.
    let command = shell_words::join(words).replace('%', "\\%");
    let mut text = format!(
        "# Duly: a tick every {}. cron mails what a tick prints, and it prints nothing when all is well.\n",
        duration::exact(args.every)
    );
    let width = ticks.iter().map(|(_, sleep)| nap(*sleep).len()).max().unwrap_or(0);
    let user = args.user.as_ref().map_or_else(String::new, |user| format!(" {user}"));
    for (schedule, sleep) in &ticks {
        let nap = nap(*sleep);
        let gap = if width == 0 { String::new() } else { format!("{nap:<width$} ") };
        let (Ok(()) | Err(_)) = writeln!(text, "{schedule}{user} {gap}{command}");
    }
    render::answer(&text)?;
    Ok(ExitCode::Success)
}

fn nap(seconds: u64) -> String {
    if seconds == 0 { String::new() } else { format!("sleep {seconds};") }
}

/// The lines that tick so often: cron's fields, and how many seconds each sleeps first.
fn ticks(every: Duration) -> Result<Vec<(String, u64)>, String> {
    let seconds = every.as_secs();
    let is_whole = every.subsec_nanos() == 0;
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    match seconds {
        1..60 if is_whole && 60 % seconds == 0 => {
            Ok((0..60 / seconds).map(|line| ("* * * * *".to_owned(), line * seconds)).collect())
        }
        60 if is_whole => Ok(vec![("* * * * *".to_owned(), 0)]),
        61..3600 if is_whole && seconds.is_multiple_of(60) && 60 % minutes == 0 => {
            Ok(vec![(format!("*/{minutes} * * * *"), 0)])
        }
        3600.. if is_whole && seconds.is_multiple_of(3600) && hours > 0 && 24 % hours == 0 => {
            let field = if hours == 24 { "0".to_owned() } else { format!("*/{hours}") };
            Ok(vec![(format!("0 {field} * * *"), 0)])
        }
        _ => Err(format!(
            "cron cannot tick every {}; expected what goes into a minute, an hour or a day without a rest, such as 10s, \
             15s, 1 min, 5 min or 1h",
            duration::exact(every)
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_into_a_minute_an_hour_or_a_day_has_lines() {
        let lines = |text: &str| ticks(duration::parse(text).unwrap());
        let each =
            |field: &str, sleeps: &[u64]| Ok(sleeps.iter().map(|sleep| (field.to_owned(), *sleep)).collect());
        assert_eq!(lines("15s"), each("* * * * *", &[0, 15, 30, 45]));
        assert_eq!(lines("1 min"), each("* * * * *", &[0]));
        assert_eq!(lines("5 min"), each("*/5 * * * *", &[0]));
        assert_eq!(lines("1h"), each("0 */1 * * *", &[0]));
        assert_eq!(lines("1 day"), each("0 0 * * *", &[0]));
        for bad in ["7s", "500ms", "90s", "7 min", "5h", "0s", "2 days", "1500ms"] {
            assert!(lines(bad).unwrap_err().contains("such as 10s"), "{bad}");
        }
    }
}
