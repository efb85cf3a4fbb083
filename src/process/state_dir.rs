//! The folder on this host where slots, ledgers and output under way are kept, per database.
//!
//! Guarantees: it belongs to this user, nobody else can write in it, and nobody but this user and root can put another one
//! in its place, by any of the folders that it lies in. So whatever is opened in there by its name is what this user put there.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Makes sure that the folder for `database` under `state_dir` is there and nobody else can write in it.
///
/// # Errors
///
/// One line that says what was found and what to do.
pub fn prepare(state_dir: &Path, database: &str) -> Result<PathBuf, String> {
    create(state_dir)?;
    require_own(state_dir)?;
    require_safe_way(state_dir)?;
    let folder = locate(state_dir, database);
    create(&folder)?;
    require_own(&folder)?;
    Ok(folder)
}

/// Makes the folder that [`prepare`] gave again, should somebody have removed it meanwhile.
///
/// # Errors
///
/// As [`prepare`]; where it is still there, that is one look at it.
pub fn ensure(folder: &Path) -> std::io::Result<()> {
    if require_own(folder).is_ok() {
        return Ok(());
    }
    let state_dir = folder.parent().unwrap_or(Path::new("/"));
    create(state_dir)
        .and_then(|()| require_own(state_dir))
        .and_then(|()| require_safe_way(state_dir))
        .and_then(|()| create(folder))
        .and_then(|()| require_own(folder))
        .map_err(std::io::Error::other)
}

/// Where [`prepare`] puts that folder.
#[must_use]
pub fn locate(state_dir: &Path, database: &str) -> PathBuf {
    state_dir.join(format!("{:016x}", crate::job::fnv1a(database.as_bytes())))
}

/// Whether a tick could write what it has to in the folder, with room for `jobs` at once: tries it.
///
/// # Errors
///
/// One line that says what is wrong, where the folder is there; a tick makes one that is not.
pub fn try_writing(folder: &Path, jobs: usize) -> Result<(), String> {
    if !folder.is_dir() {
        return Ok(());
    }
    require_own(folder)?;
    let path = folder.join(format!("trying-{}", std::process::id()));
    // Zeros would do for a file system that counts blocks, not for one that compresses.
    let tried = fs::write(&path, vec![b'.'; 4096 + 96 * jobs]);
    let removed = fs::remove_file(&path);
    tried.and(removed).map_err(|err| {
        format!(
            "cannot write in the state folder `{}`: {err}; make room, or set runner.state_dir",
            folder.display()
        )
    })
}

fn create(folder: &Path) -> Result<(), String> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(|err| {
        format!(
            "cannot create the state folder `{}`: {err}; set runner.state_dir to a folder that this user can write",
            folder.display()
        )
    })
}

/// Who can write in a folder on the way can put another state folder in place of this one. In a folder with the sticky bit,
/// such as /tmp, nobody can move what belongs to another. Owners of folders further up are trusted.
fn require_safe_way(state_dir: &Path) -> Result<(), String> {
    let cannot = |err| format!("cannot examine the state folder `{}`: {err}", state_dir.display());
    let me = rustix::process::geteuid().as_raw();
    let parent = state_dir.parent().unwrap_or(Path::new("/")).canonicalize().map_err(cannot)?;
    for folder in parent.ancestors() {
        let found = fs::metadata(folder).map_err(cannot)?;
        let (owner, mode) = (found.uid(), found.mode() & 0o7777);
        let is_parent = folder == parent;
        // The group of an ordinary user is often that user alone; that of root's folders need not be.
        let writable = if is_parent && me == 0 { 0o022 } else { 0o002 };
        let is_open = mode & writable != 0 && mode & 0o1000 == 0;
        if is_open || (is_parent && owner != 0 && owner != me) {
            return Err(format!(
                "the state folder `{}` could be replaced by others, who can write in `{}` (owner {owner}, mode {mode:04o}); \
                 set runner.state_dir to a folder that only root and this user can reach, such as /run/duly",
                state_dir.display(),
                folder.display()
            ));
        }
    }
    Ok(())
}

fn require_own(folder: &Path) -> Result<(), String> {
    let found = fs::symlink_metadata(folder)
        .map_err(|err| format!("cannot examine the state folder `{}`: {err}", folder.display()))?;
    let me = rustix::process::geteuid().as_raw();
    let trouble = if !found.is_dir() {
        "is not a folder".to_owned()
    } else if found.uid() != me {
        format!("belongs to user {} and not to user {me}", found.uid())
    } else if found.mode() & 0o022 != 0 {
        format!("can be written by others (mode {:04o})", found.mode() & 0o7777)
    } else {
        return Ok(());
    };
    Err(format!(
        "the state folder `{}` {trouble}; remove it, or set runner.state_dir to a folder of this user's own",
        folder.display()
    ))
}
