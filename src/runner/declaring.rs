//! What is to become of an orphaned job: by its definition where it is declared here, else by what other hosts have told of it.
//!
//! A job whose name nobody declares any more is given up, so that it holds no place and no unique name for ever. One that another
//! host declares, though that has vanished as well, goes by its row, unless it may be begun once only.

use std::time::Duration;

use anyhow::{Context as _, Result};
use chrono::{DateTime, Utc};

use crate::config::Config;
use crate::job::{Host, Outcome, State, Tried, Verdict, is_hook, verdict};
use crate::store::{Expired, Store, StoreError};

/// How often a hook is begun again whose runner vanished.
const TELL_AGAIN: u32 = 2;

/// Who declares what was orphaned.
pub(super) struct Declaring<'a> {
    config: &'a Config,
    /// The hosts that are known, and when that was; only where they have to be asked.
    others: Option<(Vec<Host>, DateTime<Utc>)>,
}

impl<'a> Declaring<'a> {
    /// Asks for other hosts where this one does not declare all `names`.
    pub(super) fn read(store: &mut Store, config: &'a Config, names: &[String]) -> Result<Self> {
        let others = if names.iter().all(|name| config.definition(name).is_some()) {
            None
        } else {
            Some(read_hosts(store).context("cannot read which hosts tick")?)
        };
        Ok(Self { config, others })
    }

    /// What becomes of a job; `None` where that is to be asked again.
    pub(super) fn judge(&self, job: &Expired) -> Option<Verdict> {
        let definition = self.config.definition(&job.name);
        if definition.is_none() && !self.is_begun_again_elsewhere(&job.name)? {
            return Some(Verdict::End(State::Stale));
        }
        // Whom it was to tell may have been told nothing; twice is better.
        if is_hook(&job.name) && job.orphaned < TELL_AGAIN {
            return Some(Verdict::Retry(Duration::ZERO));
        }
        let tried = Tried {
            id: job.id,
            attempt: job.attempt,
            max_attempts: job.max_attempts,
            orphaned: job.orphaned,
        };
        Some(verdict(&Outcome::Orphaned, definition, tried))
    }

    /// Whether hosts declare it, and each lets it be begun again.
    fn is_begun_again_elsewhere(&self, name: &str) -> Option<bool> {
        let (hosts, now) = self.others.as_ref()?;
        let mut declaring = hosts
            .iter()
            .filter(|host| !host.is_gone(*now))
            .filter_map(|host| host.begins_again(name))
            .peekable();
        Some(declaring.peek().is_some() && declaring.all(|may| may))
    }

    /// Says what became of them, and notes down why what nobody declares was given up.
    pub(super) fn tell(&self, store: &mut Store, rescued: &[Expired]) {
        for job in rescued {
            let Expired { id, name, host, attempt, max_attempts, .. } = job;
            if job.became == Some(State::Cancelled) {
                log::info!("job {id} ({name}) is cancelled: its runner on {host} had vanished");
                continue;
            }
            let is_given_up = job.became == Some(State::Stale) && self.config.definition(name).is_none();
            let why = format!(
                "its runner vanished, and no host that is known declares `{name}` and lets it be begun again"
            );
            let end = if is_given_up { format!("; it is given up: {why}") } else { String::new() };
            log::warn!(
                "job {id} ({name}) was orphaned: its runner on {host} vanished during attempt {attempt} of {max_attempts}{end}"
            );
            if is_given_up && let Err(err) = store.explain_stale(*id, &why) {
                log::debug!("why job {id} was given up is not noted down: {err}");
            }
        }
    }
}

fn read_hosts(store: &mut Store) -> Result<(Vec<Host>, DateTime<Utc>), StoreError> {
    Ok((store.hosts()?, store.time()?))
}
