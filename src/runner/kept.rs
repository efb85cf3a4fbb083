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
use crate::store::{AttemptEnd, StartedAt, Store};

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
    let kept = Kept { boot: boot_id(), at: since_boot(), results };
    let path = folder.join(format!("results-{owner}.json"));
    let being_written = folder.join(format!("writing-{owner}"));
    let what = || format!("cannot keep results in `{}`", path.display());
    fs::write(&being_written, serde_json::to_vec(&kept)?).with_context(what)?;
    fs::rename(&being_written, &path).with_context(what)
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
        for batch in kept.results.chunks(32) {
            let finished = store.finish(batch).context("cannot write kept results")?;
            for (id, fence) in finished.refused {
                log::warn!(
                    "job {id}: a kept result came too late and is dropped, its claim {fence} no longer holds"
                );
            }
        }
        // Another tick may have been quicker; both wrote the same.
        if fs::remove_file(&path).is_ok() {
            log::info!("wrote {} kept results", kept.results.len());
        }
    }
    Ok(())
}
