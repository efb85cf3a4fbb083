//! The crontabs that are installed on this host, as far as this user may read them, and which of their lines tick.

use std::fs;
use std::path::{Path, PathBuf};

use super::crontab::{self, Entry, Form};

/// A line of an installed crontab that starts a tick.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TickLine {
    /// The crontab.
    pub file: PathBuf,
    /// The line.
    pub entry: Entry,
}

/// The lines that start `duly run`, in the order of their files: /etc/crontab, /etc/cron.d, and the users' own, which only
/// root can read.
#[must_use]
pub fn tick_lines() -> Vec<TickLine> {
    tick_lines_below(Path::new("/"))
}

fn tick_lines_below(root: &Path) -> Vec<TickLine> {
    let mut files = vec![(root.join("etc/crontab"), Form::System)];
    for (folder, form) in [("etc/cron.d", Form::System), ("var/spool/cron/crontabs", Form::User)] {
        let mut inside: Vec<PathBuf> = fs::read_dir(root.join(folder))
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
            .collect();
        inside.sort();
        files.extend(inside.into_iter().map(|path| (path, form)));
    }
    let of = |(file, form): (PathBuf, Form)| {
        let text = fs::read_to_string(&file).unwrap_or_default();
        let entries = crontab::parse_as(&text, form).entries.into_iter();
        let ticks = entries
            .filter(|entry| entry.duly_args.as_ref().is_some_and(|args| args.iter().any(|arg| arg == "run")));
        ticks.map(move |entry| TickLine { file: file.clone(), entry }).collect::<Vec<_>>()
    };
    files.into_iter().flat_map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_tick_are_found_in_every_place_of_crontabs() {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in [
            (
                "etc/cron.d/duly",
                "* * * * * root duly run\n* * * * * root sleep 30; /usr/bin/duly --config /x run\n",
            ),
            ("etc/cron.d/other", "* * * * * root true\n"),
            ("var/spool/cron/crontabs/shop", "*/5 * * * * duly run --queue a\n17 3 * * * duly clean-up\n"),
        ] {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let found: Vec<(usize, Option<u64>)> = tick_lines_below(root.path())
            .iter()
            .map(|line| (line.entry.line, line.entry.sleep.map(|s| s.as_secs())))
            .collect();
        assert_eq!(found, [(1, None), (2, Some(30)), (1, None)]);
    }
}
