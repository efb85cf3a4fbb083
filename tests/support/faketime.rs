//! Programs whose wall clock is set otherwise, by libfaketime; the clocks that only go on are left alone.

use std::fs;
use std::path::PathBuf;

use super::sandbox::Run;

/// The library that does it.
pub(super) fn library() -> PathBuf {
    let folders = fs::read_dir("/usr/lib").into_iter().flatten().flatten();
    let mut found =
        folders.map(|folder| folder.path().join("faketime/libfaketime.so.1")).filter(|path| path.is_file());
    found.next().expect("no libfaketime.so.1 here: run the tests by `make test`, which installs it")
}

impl Run<'_> {
    /// With a wall clock that is set so: `+2h` is two hours ahead, `@2026-03-29 00:59:00` shows that when it starts.
    pub(crate) fn by_clock(self, setting: &str) -> Self {
        self.env("FAKETIME_DONT_FAKE_MONOTONIC", "1").env("FAKETIME", setting).env("LD_PRELOAD", library())
    }
}
