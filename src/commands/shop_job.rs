//! What the shop's own commands have in common: each is recorded as a job.
//!
//! Called by a person or by cron, it puts that job in and runs it here; called as the command of that job, it does the work.
//! What it printed is shown as it comes on a terminal, and otherwise only where somebody should look: cron would mail it.

use std::io::IsTerminal as _;
use std::sync::Arc;

use anyhow::{Context as _, Result};

use super::{Usage, run_job};
use crate::config::{self, Config};
use crate::exit_code::ExitCode;
use crate::job::Builtin;
use crate::render;
use crate::runner::{self, Identity, by_hand};
use crate::shop::{Done, Shop, Stop, Tell};
use crate::store::{NewJob, Store, StoreError};

/// One of the shop's commands.
pub(super) struct ShopJob<'a> {
    pub(super) config: &'a Arc<Config>,
    pub(super) builtin: Builtin,
    /// What the job is about: its type and its id.
    pub(super) target: (Option<String>, Option<String>),
    /// The section of jobs.yaml, the table and the columns that it names.
    pub(super) names: (&'static str, &'a str, Vec<(&'static str, &'a str)>),
}

impl ShopJob<'_> {
    /// Runs it as a job if `is_needed` says so; as the command of that job, does `work`.
    ///
    /// `is_needed` is the one query of a run with nothing to do. It uses every name, so it fails where one is wrong.
    pub(super) fn run(
        self,
        is_needed: impl Fn(&mut Store) -> Result<bool, StoreError>,
        work: impl FnOnce(&mut Shop<'_>, Tell<'_>) -> Result<Done>,
    ) -> Result<ExitCode> {
        let mut store = runner::connect(self.config)?;
        let definition = self.config.builtin(self.builtin);
        let own_job = config::own_job_name();
        if definition.is_some_and(|definition| own_job.as_ref() == Some(&definition.name)) {
            return do_it(self.config, store, work);
        }
        let needed = match is_needed(&mut store) {
            Err(StoreError::Schema(_)) => {
                // SQLite may only lack its tables yet.
                self.require_schema(&mut store)?;
                let (section, table, columns) = &self.names;
                store.require_columns(section, table, columns).and_then(|_| is_needed(&mut store))
            }
            other => other,
        };
        if !needed.with_context(|| format!("cannot start `{}`", self.builtin.arguments().join(" ")))? {
            return Ok(ExitCode::Success);
        }
        self.require_schema(&mut store)?;
        let Some(definition) = definition else {
            let (name, path) = (self.builtin.as_str(), self.config.path.display());
            return Err(Usage(format!(
                "{path} declares a job `{name}` that is something else; give it another name, or `builtin: {name}`"
            ))
            .into());
        };
        let job = NewJob { max_attempts: 1, target: self.target, ..NewJob::of(definition) };
        let mut kept = Vec::new();
        let mut terminal = render::raw_output();
        let is_watched = std::io::stdout().is_terminal() || log::log_enabled!(log::Level::Info);
        let show: &mut dyn std::io::Write = if is_watched { &mut *terminal } else { &mut kept };
        let done = by_hand::run(self.config, store, &job, false, show)?;
        let code = run_job::exit_code(&done, &job.name);
        if code != ExitCode::Success {
            render::answer(&render::harmless(&String::from_utf8_lossy(&kept)))?;
        }
        Ok(code)
    }

    fn require_schema(&self, store: &mut Store) -> Result<()> {
        store.require_schema().with_context(|| format!("cannot use the database {}", self.config.database))
    }
}

fn do_it(
    config: &Config,
    mut store: Store,
    work: impl FnOnce(&mut Shop<'_>, Tell<'_>) -> Result<Done>,
) -> Result<ExitCode> {
    store.require_schema().with_context(|| format!("cannot use the database {}", config.database))?;
    let Identity { owner, host } = Identity::new();
    let mut shop = Shop {
        config,
        store,
        owner,
        host,
        job_id: config::calling_job().map(|(id, _)| id),
        stop: Stop::on_signals().context("cannot catch signals")?,
    };
    let mut written = Ok(());
    let done = work(&mut shop, &mut |text| {
        if written.is_ok() {
            written = render::answer(text);
        }
    })?;
    written?;
    Ok(match done {
        Done::Well => ExitCode::Success,
        Done::Badly => ExitCode::JobFailed,
    })
}
