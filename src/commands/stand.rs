//! `duly` alone: where it stands, and what to do next.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Result;

use super::Context;
use crate::config::{Config, ConfigError};
use crate::db::wanted_version;
use crate::exit_code::ExitCode;
use crate::job::health::Level;
use crate::job::why::length;
use crate::render::{self, harmless};
use crate::store::{Store, StoreError};

/// What a first jobs.yaml may look like.
const FIRST: &str = "jobs:\n  hello:\n    command: [echo, hello]\n    schedule: \"*/5 * * * *\"\n";

/// What is known, in lines, and what to do next.
#[derive(Default)]
struct Standing {
    lines: String,
    next: Vec<String>,
}

pub(super) fn run(context: &Context) -> Result<ExitCode> {
    let mut standing = Standing::default();
    standing.line("version", env!("CARGO_PKG_VERSION"));
    match context.config() {
        Ok(config) => standing.with_config(&config),
        Err(err) => standing.without_config(&err),
    }
    for (at, next) in standing.next.iter().enumerate() {
        let what = if at == 0 { "next" } else { "" };
        let (Ok(()) | Err(_)) = writeln!(standing.lines, "{what:<13} {}", harmless(next));
    }
    standing.line("help", "duly --help, and duly COMMAND --help with an example each");
    render::answer(&standing.lines)?;
    Ok(ExitCode::Success)
}

impl Standing {
    fn line(&mut self, what: &str, text: &str) {
        let text = harmless(text).replace('\n', " ");
        let (Ok(()) | Err(_)) = writeln!(self.lines, "{what:<13} {text}");
    }

    fn without_config(&mut self, err: &anyhow::Error) {
        if let Some(ConfigError::NotFound { looked_at }) = err.downcast_ref() {
            self.line("configuration", &format!("none: there is no {}", looked_at.join(" and no ")));
            self.next.push("write a jobs.yaml, such as".to_owned());
            self.next.extend(FIRST.lines().map(|line| format!("  {line}")));
            self.next.push("then `duly check`, `duly run`, and `duly crontab`".to_owned());
            return;
        }
        let text = err.to_string();
        let mut lines = text.lines();
        self.line("configuration", &format!("cannot be used: {}", lines.next().unwrap_or_default()));
        for line in lines {
            self.line("", line);
        }
        self.next.push("mend that; `duly check` tells what is left".to_owned());
    }

    fn with_config(&mut self, config: &Config) {
        let count = config.definitions.len();
        let scheduled = config.definitions.iter().filter(|definition| definition.schedule.is_some()).count();
        let jobs = if count == 1 { "job" } else { "jobs" };
        self.line(
            "configuration",
            &format!("{}: {count} {jobs}, {scheduled} of them scheduled", config.path.display()),
        );
        if count == 0 {
            self.next.push("declare jobs under `jobs` in it, such as".to_owned());
            self.next.extend(FIRST.lines().map(|line| format!("  {line}")));
        }
        // Looking must not make a file.
        if !config.database.is_mysql() && !Path::new(config.database.expose()).exists() {
            self.line(
                "database",
                &format!("{}, which the first command that needs it makes", config.database),
            );
            self.next.push("`duly run` for a first tick, `duly crontab` for those to come".to_owned());
            return;
        }
        match crate::runner::connect(config) {
            Ok(mut store) => self.with_database(config, &mut store),
            Err(err) => {
                self.line("database", &format!("cannot be reached: {err:#}"));
                self.next.push("let it answer; then `duly` again".to_owned());
            }
        }
    }

    fn with_database(&mut self, config: &Config, store: &mut Store) {
        let probe = store.probe(&crate::process::host(), &config.queues);
        match probe.map(|probe| (probe.schema, probe.now)) {
            Ok((Some(schema), now)) if schema == wanted_version() => {
                self.line("database", &format!("{}, reachable, schema {schema}", config.database));
                self.ticks(store, now);
            }
            Ok((schema, _)) => {
                let schema = schema.unwrap_or_else(|| "none".to_owned());
                self.line(
                    "database",
                    &format!(
                        "{}, reachable, schema {schema} where {} is needed",
                        config.database,
                        wanted_version()
                    ),
                );
                self.next.push(match schema > wanted_version() {
                    true => "install the newer version of Duly that made it".to_owned(),
                    false => "`duly migrate`".to_owned(),
                });
            }
            Err(StoreError::Schema(_)) => {
                self.line("database", &format!("{}, reachable, without Duly's tables", config.database));
                self.next.push("`duly migrate`".to_owned());
            }
            Err(err) => {
                self.line("database", &format!("{}: {err}", config.database));
                self.next.push("mend that; then `duly` again".to_owned());
            }
        }
    }

    fn ticks(&mut self, store: &mut Store, now: chrono::DateTime<chrono::Utc>) {
        let hosts = store.hosts().unwrap_or_default();
        let words: Vec<String> = hosts
            .iter()
            .filter_map(|host| Some(format!("{} {} ago", host.shown(), length(now - host.last_tick_at?))))
            .collect();
        self.line("ticks", if words.is_empty() { "none yet".to_owned() } else { words.join(", ") }.as_str());
        if hosts.iter().any(|host| host.ticks(now)) {
            self.next
                .push(format!("`duly status` for all of it, exits with 3 on a {}", Level::Warning.as_str()));
            self.next.push("`duly jobs` for what is declared, `duly list` for what ran".to_owned());
        } else {
            self.next.push(
                "let it tick: `duly crontab`, `duly systemd` or `duly daemon`; by hand `duly run`".to_owned(),
            );
            self.next.push("`duly status` for what else there is".to_owned());
        }
    }
}
