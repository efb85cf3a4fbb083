//! `duly migrate`: creates or updates the tables, or tells how they stand.

use anyhow::{Context as _, Result};

use super::{Context, Refused};
use crate::cli::MigrateArgs;
use crate::db::MigrationState;
use crate::exit_code::ExitCode;
use crate::render::{self, Style, Table};
use crate::runner;

pub(super) fn run(context: &Context, args: &MigrateArgs) -> Result<ExitCode> {
    let config = context.config()?;
    let mut store = runner::connect(&config)?;
    // To change a large table takes as long as it takes.
    store.set_limit(None);
    let cannot = || format!("cannot read the schema of {}", config.database);
    let states = store.migrations().with_context(cannot)?;
    let is_known = |state: &MigrationState| !state.sql.is_empty();
    if args.status {
        let mut table = Table::new(&["MIGRATION", "RUN AT (UTC)"]);
        for state in &states {
            let (text, style) = match &state.run_at {
                Some(at) if is_known(state) => (at.split('.').next().unwrap_or(at).to_owned(), Style::Good),
                Some(at) => (format!("{at} by a newer Duly"), Style::Bad),
                None => ("not yet".to_owned(), Style::Bad),
            };
            table.row([(state.name.clone(), Style::Plain), (text, style)]);
        }
        render::answer(&table.text())?;
        return Ok(ExitCode::Success);
    }
    if let Some(newer) = states.iter().find(|state| !is_known(state)) {
        let text = format!(
            "{} has migration {} of a newer Duly: install that version here",
            config.database, newer.name
        );
        return Err(Refused(text).into());
    }
    if args.dry_run {
        let pending = states.iter().filter(|state| state.run_at.is_none());
        let text: String = pending.map(|state| format!("-- {}\n{}\n", state.name, state.sql)).collect();
        render::answer(if text.is_empty() { "-- nothing to do\n" } else { &text })?;
        return Ok(ExitCode::Success);
    }
    for name in store.migrate().with_context(|| format!("cannot migrate {}", config.database))? {
        render::answer(&format!("ran {name}"))?;
    }
    Ok(ExitCode::Success)
}
