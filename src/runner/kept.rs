//! Results that could not be written: kept on this host until a later tick writes them.
//!
//! Of a database that was away, all are tried at once by the next tick. One that the database refuses is put aside, with the
//! reason, which is told once: it is tried again now and then, and holds nothing else up.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use super::under_way::ago;
use crate::process::boot_id;
use crate::process::clock::{since_boot, wall_seconds};
use crate::process::state_dir;
use crate::store::{AttemptEnd, Output, StartedAt, Store, StoreError};

/// How files are called that are to be written by the next tick, that were put aside, and that cannot be read.
const KEPT: &str = "results-";
const ASIDE: &str = "refused-";
const UNREADABLE: &str = "unreadable-";

/// How often what was put aside is tried again, in seconds, and how many by one tick.
const AGAIN: i64 = 60;
const AT_ONCE: usize = 20;

#[derive(Serialize, Deserialize)]
struct Kept {
    boot: String,
    /// When it was written, since that boot.
    at: Duration,
    results: Vec<AttemptEnd>,
    /// Why the database refuses it.
    #[serde(default)]
    why: Option<String>,
}

/// Keeps `results` of runner `owner`.
///
/// # Errors
///
/// When the folder cannot be written; then the results are lost and their jobs will be rescued.
pub(super) fn keep(folder: &Path, owner: &str, results: Vec<AttemptEnd>) -> Result<()> {
    // One file per batch: a runner may have to keep several.
    let Some((id, fence)) = results.first().map(|end| (end.id, end.fence)) else { return Ok(()) };
    let kept = Kept { boot: boot_id(), at: since_boot(), results, why: None };
    save(folder, &format!("{KEPT}{owner}-{id}-{fence}.json"), &kept)
}

/// Puts a result aside that the database refuses, and says so.
pub(super) fn put_aside(folder: &Path, end: AttemptEnd, why: &str) {
    let (id, outcome) = (end.id, end.outcome.to_string());
    let name = format!("{ASIDE}{}-{id}-{}.json", end.owner, end.fence);
    let kept = Kept { boot: boot_id(), at: since_boot(), results: vec![end], why: Some(why.to_owned()) };
    match save(folder, &name, &kept) {
        Ok(()) => log::warn!(
            "job {id} {outcome}, which the database refuses to record: {why}; that is put aside as `{}` and tried again \
             each minute until it is taken, or the file is removed",
            folder.join(&name).display()
        ),
        Err(lost) => log::error!(
            "job {id} {outcome}, which the database refuses to record: {why}; that is lost and the job will be rescued: {lost:#}"
        ),
    }
}

/// What was put aside on this host: which job, and why.
#[must_use]
pub fn aside(folder: &Path) -> Vec<(i64, String)> {
    let found = files(folder, ASIDE).unwrap_or_default();
    let kept = found.iter().filter_map(|path| serde_json::from_slice::<Kept>(&fs::read(path).ok()?).ok());
    kept.filter_map(|kept| Some((kept.results.first()?.id, kept.why.unwrap_or_default()))).collect()
}

/// All of it is on the disk before it has its name: who finds it after a power cut finds it whole.
fn save(folder: &Path, name: &str, kept: &Kept) -> Result<()> {
    let path = folder.join(name);
    let being_written = folder.join(format!("writing-{name}"));
    let text = serde_json::to_vec(kept)?;
    let saved = state_dir::ensure(folder)
        .and_then(|()| {
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&being_written)
        })
        .and_then(|mut file| file.write_all(&text).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&being_written, &path))
        .and_then(|()| File::open(folder)?.sync_all());
    if saved.is_err() && fs::remove_file(&being_written).is_err() {
        log::debug!("`{}` could not even be begun", being_written.display());
    }
    saved.with_context(|| format!("cannot keep results in `{}`", path.display()))
}

/// The same without what its command had printed, which may be what is refused.
pub(super) fn without_output(end: &AttemptEnd, why: &str) -> AttemptEnd {
    let body = format!("(its output cannot be stored: {why})\n");
    AttemptEnd { output: Some(Output { body, truncated: 0 }), ..end.clone() }
}

/// One at a time: what the database refuses of one must not keep the others back. Returns whether its claim still held.
fn write_one(store: &mut Store, end: &AttemptEnd) -> Result<bool, StoreError> {
    let mut finished = store.finish(std::slice::from_ref(end));
    if let Err(why) = &finished
        && !is_for_later(why)
    {
        let bare = without_output(end, &why.to_string());
        finished = store.finish(&[bare]).or(finished);
    }
    let refused = finished?.refused;
    for (id, fence) in &refused {
        log::warn!("job {id}: a kept result came too late and is dropped, its claim {fence} no longer holds");
    }
    Ok(refused.is_empty())
}

const fn is_for_later(err: &StoreError) -> bool {
    matches!(err, StoreError::Away(_) | StoreError::Conflict(_))
}

/// Whether there are results to write; answers from the folder alone.
pub(super) fn any(folder: &Path) -> bool {
    files(folder, KEPT).is_ok_and(|files| !files.is_empty()) || !due(folder).is_empty()
}

/// What was put aside and is to be tried again.
fn due(folder: &Path) -> Vec<PathBuf> {
    let found = files(folder, ASIDE).unwrap_or_default();
    let is_old = |path: &PathBuf| {
        path.metadata().is_ok_and(|found| wall_seconds().abs_diff(found.mtime()) >= AGAIN.unsigned_abs())
    };
    found.into_iter().filter(is_old).take(AT_ONCE).collect()
}

fn files(folder: &Path, start: &str) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(start) {
            files.push(entry.path());
        }
    }
    Ok(files)
}

/// Writes what was kept, as far as the claims still hold; what they do not is logged and gone.
///
/// # Errors
///
/// When the database is away; what was not written stays kept.
pub(super) fn write(folder: &Path, store: &mut Store) -> Result<()> {
    let cannot = "cannot write kept results";
    for path in files(folder, KEPT)? {
        let Some(kept) = read(&path) else { continue };
        for end in &kept.results {
            match write_one(store, end) {
                Err(err) if is_for_later(&err) => return Err(err).context(cannot),
                Err(err) => put_aside(folder, end.clone(), &err.to_string()),
                Ok(_) => {}
            }
        }
        // Another tick may have been quicker; both wrote the same.
        if fs::remove_file(&path).is_ok() {
            log::info!("wrote {} kept results", kept.results.len());
        }
    }
    for path in due(folder) {
        let Some(kept) = read(&path) else { continue };
        let done = kept.results.iter().try_fold(true, |held, end| Ok(write_one(store, end)? && held));
        match done {
            Ok(held) if fs::remove_file(&path).is_ok() && held => {
                log::warn!("wrote `{}`, which had been put aside", path.display());
            }
            Ok(_) => {}
            Err(err) if is_for_later(&err) => return Err(err).context(cannot),
            Err(err) => {
                log::debug!("`{}` is refused again: {err}", path.display());
                if let Err(err) = save(folder, &path.file_name().unwrap_or_default().to_string_lossy(), &kept)
                {
                    log::debug!("{err:#}");
                }
            }
        }
    }
    Ok(())
}

/// What is in a file, with the time that has passed since; one that cannot be read is told of once.
fn read(path: &Path) -> Option<Kept> {
    let text = fs::read(path).ok()?;
    let Ok(mut kept) = serde_json::from_slice::<Kept>(&text) else {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let new = path.with_file_name(format!("{UNREADABLE}{name}"));
        match fs::rename(path, &new) {
            Ok(()) => {
                log::warn!("`{}` is not readable and is left alone as `{}`", path.display(), new.display());
            }
            Err(err) => log::debug!("{}: {err}", path.display()),
        }
        return None;
    };
    let since = if kept.boot == boot_id() { ago(kept.at) } else { Duration::ZERO };
    for end in &mut kept.results {
        end.ended_ago += since;
        if let StartedAt::Ago(started) = &mut end.started {
            *started += since;
        }
    }
    (kept.boot, kept.at) = (boot_id(), since_boot());
    Some(kept)
}
