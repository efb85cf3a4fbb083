//! Results that could not be written while the database was away: kept on this host until a later tick writes them.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use super::under_way::ago;
use crate::process::boot_id;
use crate::process::clock::since_boot;
use crate::store::{AttemptEnd, Output, StartedAt, Store, StoreError};

#[derive(Serialize, Deserialize)]
struct Kept {
    boot: String,
    /// When it was written, since that boot.
    at: Duration,
    results: Vec<AttemptEnd>,
}

/// Keeps `results` of runner `owner`.
///
/// # Errors
///
/// When the folder cannot be written; then the results are lost and their jobs will be rescued.
pub(super) fn keep(folder: &Path, owner: &str, results: Vec<AttemptEnd>) -> Result<()> {
    // One file per batch: a runner may have to keep several.
    let Some((id, fence)) = results.first().map(|end| (end.id, end.fence)) else { return Ok(()) };
    let kept = Kept { boot: boot_id(), at: since_boot(), results };
    let path = folder.join(format!("results-{owner}-{id}-{fence}.json"));
    let being_written = folder.join(format!("writing-{owner}-{id}-{fence}"));
    let what = || format!("cannot keep results in `{}`", path.display());
    let text = serde_json::to_vec(&kept)?;
    let kept = fs::write(&being_written, text).and_then(|()| fs::rename(&being_written, &path));
    if kept.is_err() && fs::remove_file(&being_written).is_err() {
        log::debug!("`{}` could not even be begun", being_written.display());
    }
    kept.with_context(what)
}

/// One at a time: what the database refuses of one must not keep the others back.
fn write_one(store: &mut Store, end: &AttemptEnd) -> Result<()> {
    let mut finished = store.finish(std::slice::from_ref(end));
    if let Err(StoreError::Other(why)) = &finished {
        let body = format!("(its output cannot be stored: {why})\n");
        let bare = AttemptEnd { output: Some(Output { body, truncated: 0 }), ..end.clone() };
        finished = store.finish(&[bare]);
    }
    for (id, fence) in finished.context("cannot write kept results")?.refused {
        log::warn!("job {id}: a kept result came too late and is dropped, its claim {fence} no longer holds");
    }
    Ok(())
}

/// Whether there are results to write; answers from the folder alone.
pub(super) fn any(folder: &Path) -> bool {
    files(folder).is_ok_and(|files| !files.is_empty())
}

fn files(folder: &Path) -> io::Result<Vec<std::path::PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with("results-") {
            files.push(entry.path());
        }
    }
    Ok(files)
}

/// Writes what was kept, as far as the claims still hold; what they do not is logged and gone.
///
/// # Errors
///
/// When the database fails; what was not written stays kept.
pub(super) fn write(folder: &Path, store: &mut Store) -> Result<()> {
    for path in files(folder)? {
        let Ok(text) = fs::read(&path) else { continue };
        let Ok(mut kept) = serde_json::from_slice::<Kept>(&text) else {
            log::warn!("`{}` is not readable and is left alone", path.display());
            continue;
        };
        let since = if kept.boot == boot_id() { ago(kept.at) } else { Duration::ZERO };
        for end in &mut kept.results {
            end.ended_ago += since;
            if let StartedAt::Ago(started) = &mut end.started {
                *started += since;
            }
        }
        for end in &kept.results {
            write_one(store, end)?;
        }
        // Another tick may have been quicker; both wrote the same.
        if fs::remove_file(&path).is_ok() {
            log::info!("wrote {} kept results", kept.results.len());
        }
    }
    Ok(())
}
