//! `duly why`: why a job is not running, and what would start it.

use std::fmt::Write as _;

use anyhow::{Context as _, Result};
use serde_json::json;

use super::{Context, no_such_job};
use crate::cli::JobJsonArgs;
use crate::config::Config;
use crate::exit_code::ExitCode;
use crate::job::health::slow;
use crate::job::why::{Facts, Here, Reason, why};
use crate::process::{ledger, slots, state_dir};
use crate::render::{self, harmless};

pub(super) fn run(context: &Context, args: &JobJsonArgs) -> Result<ExitCode> {
    let (config, mut store) = context.open()?;
    let queue_of = |name: &str| config.definition(name).map(|definition| definition.queue.clone());
    let facts = store
        .facts(args.id, &queue_of)
        .with_context(|| format!("cannot read job {}", args.id))?
        .ok_or_else(|| no_such_job(args.id))?;
    let mut here = here(&config, &facts);
    if !facts.state.is_ended() {
        let (latency, _) = store.answer_time().context("cannot ask the database for its time")?;
        let turn = store.wait_for_turn().map_err(|err| err.to_string());
        here.slow = slow(latency, &turn).map(|(_, text)| text);
    }
    let reasons = why(&facts, &here);
    if args.json {
        let value = json!({
            "id": facts.id,
            "name": facts.name,
            "state": facts.state.as_str(),
            "queue": facts.queue,
            "reasons": reasons.iter().map(Reason::to_json).collect::<Vec<_>>(),
        });
        render::answer(&render::json::text(&value))?;
    } else {
        render::answer(&text(&facts, &reasons))?;
    }
    Ok(ExitCode::Success)
}

/// What this host can tell.
fn here(config: &Config, facts: &Facts) -> Here {
    let folder = state_dir::locate(&config.runner.state_dir, &config.database.identity());
    let total = config.runner.concurrency;
    let is_open = !facts.state.is_ended();
    Here {
        host: crate::process::host(),
        slots: is_open.then(|| {
            state_dir::try_writing(&folder, total)
                .map(|()| (slots::free(&folder, &crate::runner::slots_key(config), total), total))
        }),
        is_runner_alive: facts.owner.as_ref().and_then(|owner| ledger::is_alive(&folder, owner)),
        ..config.here(&facts.name, facts.queue.as_deref())
    }
}

fn text(facts: &Facts, reasons: &[Reason]) -> String {
    let queue = facts.queue.as_ref().map_or_else(String::new, |queue| format!(", in queue {queue}"));
    let mut text = harmless(&format!("job {} ({}) is {}{queue}\n", facts.id, facts.name, facts.state));
    for reason in reasons {
        let line = |text: &str| harmless(text).replace('\n', " ");
        let (Ok(()) | Err(_)) = writeln!(text, "- {}\n  → {}", line(&reason.text), line(&reason.next));
    }
    text
}
