//! Finding and reading jobs.yaml, and refusing it if a stranger could have written it.
//!
//! Whoever writes jobs.yaml decides what is executed. So when Duly runs as root, the file and its folder must
//! belong to root and be writable by nobody else, as cron and ssh demand of theirs, and no folder further up may be
//! writable by all. Owner and mode are those of the opened file and folder, so that nothing can be swapped between
//! the check and the reading.

use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::error::ConfigError;
use super::settings::Environment;

const SYSTEM_WIDE: &str = "/etc/duly/jobs.yaml";

/// Bytes of a jobs.yaml at most: room for some 50,000 definitions.
const LONGEST: u64 = 16 << 20;

/// A jobs.yaml that was found.
pub(super) struct Source {
    /// As it was named, for messages.
    pub(super) shown: String,
    /// Absolute.
    pub(super) path: PathBuf,
    /// Who named it, where somebody did.
    pub(super) named_by: Option<&'static str>,
}

impl Source {
    /// Looks at the places where jobs.yaml may lie.
    pub(super) fn locate(explicit: Option<&Path>, environment: &Environment) -> Result<Self, ConfigError> {
        if let Some(path) = explicit {
            return Self::at(path, Some("--config"));
        }
        if let Some(path) = &environment.config {
            return Self::at(Path::new(path), Some("$DULY_CONFIG"));
        }
        let mut looked_at = Vec::new();
        for path in ["jobs.yaml", SYSTEM_WIDE] {
            let source = Self::at(Path::new(path), None)?;
            // One that cannot be looked at is there; opening it says what is wrong.
            if !matches!(source.path.try_exists(), Ok(false)) {
                return Ok(source);
            }
            looked_at.push(source.path.display().to_string());
        }
        Err(ConfigError::NotFound { looked_at })
    }

    fn at(path: &Path, named_by: Option<&'static str>) -> Result<Self, ConfigError> {
        let shown = path.display().to_string();
        match std::path::absolute(path) {
            Ok(path) => Ok(Self { shown, path, named_by }),
            Err(err) => Err(ConfigError::Unusable { path: shown, problem: format!("is no path ({err})") }),
        }
    }

    /// Reads the file, if it is one that may be trusted.
    pub(super) fn read(&self) -> Result<String, ConfigError> {
        let fail = |problem| ConfigError::Unusable { path: self.shown.clone(), problem };
        let mut file = self.open().map_err(fail)?;
        let mut bytes = Vec::new();
        (&mut file)
            .take(LONGEST + 1)
            .read_to_end(&mut bytes)
            .map_err(|err| fail(format!("cannot be read ({err})")))?;
        if bytes.len() as u64 > LONGEST {
            return Err(fail(format!("is longer than {} MiB; is it a jobs.yaml?", LONGEST >> 20)));
        }
        String::from_utf8(bytes).map_err(|err| {
            let start = err.utf8_error().valid_up_to();
            let line = 1 + err.as_bytes()[..start].iter().filter(|byte| **byte == b'\n').count();
            fail(format!("is not UTF-8 (first in line {line}); save it as UTF-8"))
        })
    }

    fn open(&self) -> Result<File, String> {
        let real = self.path.canonicalize().map_err(|err| self.explain(&err))?;
        let (Some(folder), Some(name)) = (real.parent(), real.file_name()) else {
            return Err("is a folder; expected a file".to_owned());
        };
        let explain = |err: Errno| self.explain(&err.into());
        let folder_flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened_folder = rustix::fs::open(folder, folder_flags, Mode::empty()).map_err(explain)?;
        // A FIFO would block without NONBLOCK, and a link put there by now is not what was checked.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&opened_folder, name, flags, Mode::empty()).map_err(explain)?;
        let stat = rustix::fs::fstat(&file).map_err(explain)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => {}
            FileType::Directory => return Err("is a folder; expected a file".to_owned()),
            _ => return Err("is not a regular file; expected one".to_owned()),
        }
        if rustix::process::geteuid().is_root() {
            let folder_stat = rustix::fs::fstat(&opened_folder).map_err(explain)?;
            refuse_if_open_to_others(folder, "its folder", &folder_stat)?;
            refuse_if_open_to_others(&real, "it", &stat)?;
            for above in folder.ancestors().skip(1) {
                refuse_if_open_to_all(above, rustix::fs::stat(above).map_err(explain)?.st_mode)?;
            }
        }
        Ok(File::from(file))
    }

    fn explain(&self, err: &std::io::Error) -> String {
        match (err.kind(), self.named_by) {
            (ErrorKind::NotFound, Some(by)) => format!("there is no such file; write it, or correct {by}"),
            (ErrorKind::NotFound, None) => "is a link to a file that is not there; correct it".to_owned(),
            (ErrorKind::PermissionDenied, _) => {
                "may not be read by this user; run Duly as another one, or allow it with chmod or chgrp"
                    .to_owned()
            }
            _ => format!("cannot be opened ({err})"),
        }
    }
}

/// A folder with the sticky bit may be writable: there nobody can replace what belongs to another.
fn refuse_if_open_to_others(path: &Path, what: &str, stat: &Stat) -> Result<(), String> {
    let mode = stat.st_mode & 0o7777;
    let is_folder = FileType::from_raw_mode(stat.st_mode).is_dir();
    let is_writable = mode & 0o022 != 0 && !(is_folder && mode & 0o1000 != 0);
    let (owner, path) = (stat.st_uid, path.display());
    if owner == 0 && !is_writable {
        return Ok(());
    }
    let mut remedies = Vec::new();
    if owner != 0 {
        remedies.push(format!("chown root '{path}'"));
    }
    if is_writable {
        remedies.push(format!("chmod go-w '{path}'"));
    }
    Err(format!(
        "refused, because Duly runs as root and others could change {what}: found mode {mode:04o} and owner {owner}, \
         expected owner 0 and no writing by group or others; run: {}",
        remedies.join(" && ")
    ))
}

/// Who can write in a folder further up can put another folder in place of the one that was looked at. Its owner is trusted.
fn refuse_if_open_to_all(path: &Path, mode: u32) -> Result<(), String> {
    let (mode, path) = (mode & 0o7777, path.display());
    if mode & 0o002 == 0 || mode & 0o1000 != 0 {
        return Ok(());
    }
    Err(format!(
        "refused, because Duly runs as root and anybody could change what lies in `{path}`: found mode {mode:04o}, \
         expected no writing by others; run: chmod o-w '{path}'"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt as _, chown, symlink};

    fn message(path: &Path) -> String {
        let source = Source::locate(Some(path), &Environment::default()).unwrap();
        source.read().unwrap_err().to_string()
    }

    fn set_mode(path: &Path, mode: u32) {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn the_variable_names_the_file_unless_the_argument_does() {
        let environment = Environment { config: Some("/a/jobs.yaml".into()), ..Environment::default() };
        let locate = |explicit| Source::locate(explicit, &environment).unwrap().path;
        assert_eq!(locate(None), Path::new("/a/jobs.yaml"));
        assert_eq!(locate(Some(Path::new("/b.yaml"))), Path::new("/b.yaml"));
        assert!(locate(Some(Path::new("c.yaml"))).is_absolute());
    }

    #[test]
    fn what_is_no_readable_text_file_is_refused_in_one_line() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("jobs.yaml");
        assert!(message(&file).ends_with("jobs.yaml: there is no such file; write it, or correct --config"));
        assert!(message(folder.path()).ends_with("is a folder; expected a file"));
        assert!(message(Path::new("/")).ends_with("is a folder; expected a file"));
        assert!(message(Path::new("/dev/null")).ends_with("is not a regular file; expected one"));
        std::fs::write(&file, b"jobs:\n  a\xff: x\n").unwrap();
        assert!(message(&file).ends_with("is not UTF-8 (first in line 2); save it as UTF-8"));
    }

    /// Only root can give a file away, and the rule only holds for root.
    #[test]
    fn root_refuses_a_file_that_others_could_have_written() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("real.yaml"), folder.path().join("link.yaml"));
        std::fs::write(&file, "").unwrap();
        symlink(&file, &link).unwrap();
        for (mode, refused) in [(0o644, false), (0o600, false), (0o666, true), (0o664, true)] {
            set_mode(&file, mode);
            let found = Source::locate(Some(&link), &Environment::default()).unwrap().read();
            assert_eq!(found.is_err(), refused, "{mode:o}");
        }
        set_mode(&file, 0o666);
        chown(&file, Some(1000), None).unwrap();
        let real = file.canonicalize().unwrap();
        let (link, file) = (link.display(), real.display());
        assert_eq!(
            message(Path::new(&link.to_string())),
            format!(
                "{link}: refused, because Duly runs as root and others could change it: found mode 0666 and owner \
                 1000, expected owner 0 and no writing by group or others; run: chown root '{file}' && chmod go-w '{file}'"
            )
        );
    }

    #[test]
    fn root_refuses_a_folder_where_others_could_swap_the_file() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("jobs.yaml");
        std::fs::write(&file, "").unwrap();
        set_mode(&file, 0o644);
        set_mode(folder.path(), 0o777);
        assert!(message(&file).contains("others could change its folder: found mode 0777 and owner 0"));
        set_mode(folder.path(), 0o1777);
        let source = Source::locate(Some(&file), &Environment::default()).unwrap();
        assert_eq!(source.read().unwrap(), "");
        // Nor one that lies in a folder where anybody can put another in its place.
        let deep = folder.path().join("deep");
        std::fs::create_dir(&deep).unwrap();
        std::fs::rename(&file, deep.join("jobs.yaml")).unwrap();
        set_mode(folder.path(), 0o757);
        assert!(message(&deep.join("jobs.yaml")).contains("anybody could change what lies in"));
    }
}
