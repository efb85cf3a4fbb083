//! `duly pause`: nothing new starts until `duly resume`, or until a time.

use std::time::Duration;

use anyhow::{Context as _, Result};

use super::{Context, definition, note, require_queue};
use crate::cli::{PauseArgs, ScopeArgs};
use crate::config::Config;
use crate::exit_code::ExitCode;
use crate::job::State;
use crate::process;
use crate::render;
use crate::store::{ListFilter, Scope};

/// How long a runner keeps a claimed job that no worker has begun, and gives it back: after that nothing of what was
/// claimed before the pause can begin.
const CLAIMED_AHEAD: Duration = Duration::from_millis(2500);

pub(super) fn run(context: &Context, args: PauseArgs) -> Result<ExitCode> {
    let (config, mut store) = context.open()?;
    let (scope, what) = scope(&config, args.scope)?;
    store
        .pause(&scope, args.until, &process::who(), args.reason.as_deref())
        .with_context(|| format!("cannot pause {what}"))?;
    note(&mut store, "pause", &what.replace("job `", "definition ").replace('`', ""), args.reason.as_deref());
    let running = ListFilter { state: Some(State::Running), limit: 1, ..ListFilter::default() };
    if !store.list(&running).context("cannot read running jobs")?.is_empty() {
        std::thread::sleep(CLAIMED_AHEAD);
    }
    let until =
        args.until.map_or_else(String::new, |at| format!(" until {} UTC", render::utc_time(Some(at))));
    render::answer(&format!("{what} is paused{until}"))?;
    Ok(ExitCode::Success)
}

/// What is meant, and in words.
pub(super) fn scope(config: &Config, args: ScopeArgs) -> Result<(Scope, String)> {
    Ok(match (args.name, args.queue) {
        (Some(name), _) => {
            definition(config, &name)?;
            let what = format!("job `{name}`");
            (Scope::Job(name), what)
        }
        (None, Some(queue)) => {
            require_queue(config, &queue)?;
            let what = format!("queue `{queue}`");
            (Scope::Queue(queue), what)
        }
        (None, None) => (Scope::All, "everything".to_owned()),
    })
}
