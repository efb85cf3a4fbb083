//! `run-job`: one job now, in the foreground, its output shown as it comes and recorded.
//!
//! The job is inserted as already claimed, so no runner can be quicker. It takes no slot of the host: a person asked for
//! it. What holds over all hosts (`unique`, limits, pauses) holds for it too, unless it is forced.

use std::io::Write;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};

use super::heartbeat::Heartbeat;
use super::under_way::{Held, UnderWay};
use super::worker::{Bench, Ended, Report};
use super::{Identity, kept};
use crate::config::Config;
use crate::job::{Outcome, State, Verdict};
use crate::process::clock::since_boot;
use crate::process::ledger::Ledger;
use crate::process::signals::{Patience, on_stop_signal};
use crate::process::stop::StopReason;
use crate::store::{ClaimRequest, Claimed, Finished, Limits, NewJob, Store, StoreError};

/// How often output is looked for.
const LOOK: Duration = Duration::from_millis(50);

/// The same while there is much of it.
const SOON: Duration = Duration::from_millis(5);

/// How a job that was run by hand ended.
#[derive(Debug)]
pub struct ByHand {
    /// Its id.
    pub id: i64,
    /// How its attempt ended.
    pub outcome: Outcome,
    /// How it stands now.
    pub state: State,
    /// The signal that stopped it.
    pub signal: Option<i32>,
}

/// Puts `job` in, executes it here, writes its output to `show` as it comes, and records the result.
///
/// `is_forced` passes over a pause and limits.
///
/// # Errors
///
/// When the tool cannot work; a result that cannot be written is kept for the next tick.
pub fn run(
    config: &Arc<Config>,
    mut store: Store,
    job: &NewJob,
    is_forced: bool,
    show: &mut dyn Write,
) -> Result<ByHand> {
    let folder = super::state_folder(config)?;
    store.set_limit(Some(super::patience(config)));
    let me = Identity::new();
    let lease = config.runner.lease;
    let ledger = Ledger::create(&folder, &me.owner, 1)
        .with_context(|| format!("cannot write in the state folder `{}`", folder.display()))?;
    let (bench_config, bench_folder) = (Arc::clone(config), folder.clone());
    let bench =
        Arc::new(Bench { config: bench_config, folder: bench_folder, owner: me.owner.clone(), ledger });
    let under_way = Arc::new(UnderWay::default());
    // One of its kind that died must not hold it back, though no tick may ever come by.
    super::rescue::tidy_up(&mut store, config, &folder)?;
    let asked = since_boot();
    let claimed = claim(&mut store, config, job, &me, is_forced)?;
    let id = claimed.id;
    let held = under_way.add(claimed, None, asked, lease).context("cannot make a stop switch")?;
    held.show();

    let (told, signals) = channel();
    let (switch, mut patience) = (Arc::clone(&held), Patience::default());
    on_stop_signal(move |signal| {
        let at_once = told.send(signal).is_err() || patience.is_over();
        switch.switch.press(StopReason::Interrupted, at_once);
    })
    .context("cannot catch signals")?;
    let heartbeat = Arc::new(Heartbeat::new(&bench, Arc::clone(&under_way)));
    let (alive, until) = channel();
    let beating = Arc::clone(&heartbeat);
    let heart = std::thread::spawn(move || beating.run_guarded(&until));
    let (sender, reports) = channel();
    let (worker_bench, worker_held) = (Arc::clone(&bench), Arc::clone(&held));
    let worker = std::thread::spawn(move || sender.send(worker_bench.execute(&worker_held, 0)).is_ok());

    let mut is_shown = false;
    let report = loop {
        // Whoever prints much has to wait while it is shown.
        let report = reports.recv_timeout(if is_shown { SOON } else { LOOK });
        heartbeat.stand_in(&mut store);
        is_shown = pass_on(&held, show);
        match report {
            Ok(report) => break report,
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Err(anyhow!("the thread of job {id} failed")),
        }
    };
    drop(alive);
    // The heartbeat may be waiting for a database that is gone, and has nothing more to say.
    drop(heart);
    if worker.join().is_err() {
        log::warn!("a thread of job {id} failed");
    }
    let mut ended = match report {
        Report::Ended(ended) => ended,
        Report::NotBegun(why) => {
            let outcome = match (why, held.switch.asked()) {
                (None, Some((StopReason::Cancelled, _))) => Outcome::Cancelled,
                (None, Some((StopReason::Interrupted, _))) => Outcome::Interrupted,
                (why, _) => Outcome::NotStarted(why.unwrap_or_else(|| "stopped before it began".to_owned())),
            };
            Box::new(Ended::without_process(outcome))
        }
        Report::Lost => {
            return Err(anyhow!(
                "job {id} was stopped: this runner could no longer prove that it is its own"
            ));
        }
    };
    // Whoever stops a job that was run by hand does not want it run again behind their back.
    if ended.outcome == Outcome::Interrupted && job.max_attempts == 1 && !held.is_lost() {
        ended.outcome = Outcome::Cancelled;
    }
    let finished = record(&mut store, &held, &ended, &bench, &me)?;
    let (_, state) = finished.moved.first().copied().ok_or_else(|| {
        anyhow!("the result of job {id} came too late and was dropped: its claim no longer holds")
    })?;
    Ok(ByHand { id, outcome: ended.outcome.clone(), state, signal: signals.try_recv().ok() })
}

fn claim(
    store: &mut Store,
    config: &Config,
    job: &NewJob,
    me: &Identity,
    is_forced: bool,
) -> Result<Claimed> {
    let declared = |name: &str| config.definition(name);
    // Where it is to be retried is no matter now: this attempt is one of its own queue.
    let own_queue = config.definition(&job.name).map_or(&job.queue, |definition| &definition.queue);
    let limit_of = |name: &str| config.definition(name).and_then(|definition| definition.concurrency);
    let limits = Limits { queue: config.queue_limits.get(own_queue).copied(), name: &limit_of };
    let lease = config.runner.lease;
    let request = ClaimRequest { queue: own_queue, limit: 1, owner: &me.owner, host: &me.host, lease };
    store
        .insert_claimed(job, limits, &declared, request, is_forced)
        .with_context(|| format!("cannot put job `{}` in", job.name))
}

/// Writes the result, waiting for a database that is away as long as the lease it began with.
fn record(store: &mut Store, held: &Held, ended: &Ended, bench: &Bench, me: &Identity) -> Result<Finished> {
    let (begun, id) = (Instant::now(), held.job.id);
    loop {
        let mut end = ended.record(&held.job, &bench.config, me);
        // One attempt is what was asked for; "not now" is for whoever comes back.
        if matches!(end.verdict, Verdict::Later(_)) && held.job.max_attempts <= 1 {
            end.verdict = Verdict::End(State::Failed);
        }
        match store.finish(std::slice::from_ref(&end)) {
            Ok(finished) => return Ok(finished),
            Err(StoreError::Away(why)) if begun.elapsed() < bench.config.runner.lease => {
                log::warn!("recording the result of job {id}: {why}; waiting for the database");
                std::thread::sleep(Duration::from_secs(1));
                if let Err(err) = store.reconnect() {
                    log::debug!("{err}");
                }
            }
            Err(err) => {
                kept::keep(&bench.folder, &me.owner, vec![end])?;
                return Err(err).context("cannot record the result; it is kept for the next tick");
            }
        }
    }
}

/// Shows what has been printed since the last look; whether that was anything.
fn pass_on(held: &Held, show: &mut dyn Write) -> bool {
    let Some(printed) = held.printed() else { return false };
    let bytes = printed.unseen();
    // Whoever reads may go away; the job goes on.
    if show.write_all(&bytes).and_then(|()| show.flush()).is_err() {
        printed.hide();
    }
    !bytes.is_empty()
}
