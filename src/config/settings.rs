//! The environment, which wins over jobs.yaml, and what is derived from it. This is the only place that reads it:
//!
//! | variable | meaning |
//! | --- | --- |
//! | `DULY_CONFIG` | the path of jobs.yaml, unless `--config` names it |
//! | `DATABASE_URL` | the database, unless `--database-url` names it; empty is as if it were not set |
//! | `DATABASE_URL_FILE` | a file that holds the URL, where `DATABASE_URL` is not set |
//! | `XDG_RUNTIME_DIR` | the default of `runner.state_dir` lies in it |
//! | `DULY_JOB_ID`, `DULY_FENCE` | the job that calls, for `child`, `dependent` and `progress` |
//! | `DULY_STARTER`, `DULY_JOB_NAME` | the runner and the job of a builtin, which does the work if that runner is its parent |
//! | `TZDIR` | the folder of this system's time zones, in place of /usr/share/zoneinfo |
//! | `NO_COLOR` | plain text, if it is set to anything |
//!
//! (`RUST_LOG` is read by the library that logs.)

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::database_url::DatabaseUrl;

/// What the environment says; a variable that is empty is as if it were not set.
#[derive(Default)]
pub(super) struct Environment {
    pub(super) config: Option<OsString>,
    pub(super) database_url: Option<OsString>,
    pub(super) database_url_file: Option<OsString>,
    pub(super) runtime_dir: Option<OsString>,
}

impl Environment {
    /// Reads it.
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
    pub(super) fn read() -> Self {
        let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        Self {
            config: set("DULY_CONFIG"),
            database_url: set("DATABASE_URL"),
            database_url_file: set("DATABASE_URL_FILE"),
            runtime_dir: set("XDG_RUNTIME_DIR"),
        }
    }

    /// The database that the command line or the environment names, relative to `folder`.
    ///
    /// # Errors
    ///
    /// A line that says where the URL comes from and what is wrong with it, never the URL itself.
    pub(super) fn database(
        &self,
        argument: Option<&str>,
        folder: &Path,
    ) -> Result<Option<DatabaseUrl>, String> {
        let (origin, url) = if let Some(url) = argument {
            ("--database-url".to_owned(), url.to_owned())
        } else if let Some(url) = &self.database_url {
            let url = url.to_str().ok_or("$DATABASE_URL: is not UTF-8; write other bytes as %XX")?;
            ("$DATABASE_URL".to_owned(), url.to_owned())
        } else if let Some(file) = &self.database_url_file {
            let file = Path::new(file);
            let origin = format!("$DATABASE_URL_FILE ({})", file.display());
            let url = std::fs::read_to_string(file).map_err(|err| {
                format!("{origin}: cannot be read ({err}); expected a file holding a database URL")
            })?;
            (origin, url)
        } else {
            return Ok(None);
        };
        DatabaseUrl::parse(&url, folder).map(Some).map_err(|problem| format!("{origin}: {problem}"))
    }

    /// The default of `runner.state_dir`.
    pub(super) fn state_dir(&self) -> PathBuf {
        match self.runtime_dir.as_ref().map(Path::new).filter(|dir| dir.is_absolute()) {
            Some(dir) => dir.join("duly"),
            None => PathBuf::from(format!("/tmp/duly-{}", rustix::process::geteuid().as_raw())),
        }
    }
}

/// The job whose command this process belongs to, and the fence of its claim.
pub(super) fn calling_job() -> Option<(i64, i64)> {
    #[expect(clippy::disallowed_methods, reason = "the environment is read here")]
    let number = |name| std::env::var(name).ok()?.parse().ok();
    Some((number("DULY_JOB_ID")?, number("DULY_FENCE")?))
}

/// The name of the job whose command this very process is. What it starts inherits both variables, but not the parent.
pub(super) fn own_job_name() -> Option<String> {
    #[expect(clippy::disallowed_methods, reason = "the environment is read here")]
    let variable = |name| std::env::var(name).ok();
    let starter: i32 = variable(super::STARTER)?.parse().ok()?;
    let parent = rustix::process::getppid()?.as_raw_nonzero().get();
    (starter == parent).then(|| variable("DULY_JOB_NAME"))?
}

/// Where `$TZDIR` says that this system's time zones are.
pub(super) fn zone_folder() -> Option<PathBuf> {
    #[expect(clippy::disallowed_methods, reason = "the environment is read here")]
    std::env::var_os("TZDIR").map(PathBuf::from).filter(|folder| folder.is_absolute())
}

/// Whether `$NO_COLOR` asks for plain text.
pub(super) fn is_without_colour() -> bool {
    #[expect(clippy::disallowed_methods, reason = "the environment is read here")]
    std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn database(environment: &Environment, argument: Option<&str>) -> Result<Option<String>, String> {
        environment.database(argument, Path::new("/srv")).map(|url| url.map(|url| url.expose().to_owned()))
    }

    #[test]
    fn the_argument_wins_over_the_variable_over_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("url");
        std::fs::write(&file, " mysql://c/d\n").unwrap();
        let mut environment = Environment {
            database_url: Some("mysql://a/b".into()),
            database_url_file: Some(file.into()),
            ..Environment::default()
        };
        assert_eq!(database(&environment, Some("x.db")), Ok(Some("/srv/x.db".to_owned())));
        assert_eq!(database(&environment, None), Ok(Some("mysql://a/b".to_owned())));
        environment.database_url = None;
        assert_eq!(database(&environment, None), Ok(Some("mysql://c/d".to_owned())));
        assert_eq!(database(&Environment::default(), None), Ok(None));
    }

    #[test]
    fn a_bad_url_is_named_by_its_origin_and_never_shown() {
        let environment =
            Environment { database_url_file: Some("/nonexistent/url".into()), ..Environment::default() };
        assert!(
            database(&environment, None).unwrap_err().starts_with("$DATABASE_URL_FILE (/nonexistent/url): ")
        );
        let message = database(&environment, Some("mysql://u:secret@h")).unwrap_err();
        assert!(message.starts_with("--database-url: names no database"), "{message}");
        assert!(!message.contains("secret"));
    }

    #[test]
    fn state_lies_in_the_runtime_folder_or_in_tmp() {
        let mut environment =
            Environment { runtime_dir: Some("/run/user/7".into()), ..Environment::default() };
        assert_eq!(environment.state_dir(), Path::new("/run/user/7/duly"));
        environment.runtime_dir = Some("relative".into());
        assert!(environment.state_dir().to_str().unwrap().starts_with("/tmp/duly-"));
    }
}
