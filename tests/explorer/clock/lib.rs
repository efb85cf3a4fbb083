//! The time that SQLite tells a thread of the tests, in place of the host's.
//!
//! A crate of its own, since the program and its tests have no unsafe code. A default VFS that is the system's but for the two
//! functions that tell the time; a thread that has set none is told the host's.

use std::cell::Cell;
use std::ffi::{c_double, c_int};
use std::sync::Once;
use std::sync::atomic::{AtomicPtr, Ordering};

use libsqlite3_sys::{SQLITE_OK, sqlite3_vfs, sqlite3_vfs_find, sqlite3_vfs_register};

/// Milliseconds from the beginning of the Julian calendar, from which SQLite counts, to 1970.
const EPOCH: i64 = 210_866_760_000_000;

thread_local! {
    static NOW: Cell<Option<i64>> = const { Cell::new(None) };
}

static SYSTEM: AtomicPtr<sqlite3_vfs> = AtomicPtr::new(std::ptr::null_mut());

/// Sets the time of this thread, in milliseconds since 1970; the host's again if `None`.
///
/// It holds for connections that were opened after the first call, by whichever thread.
pub fn set(now: Option<i64>) {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(install);
    NOW.set(now);
}

#[expect(unsafe_code, reason = "SQLite has no other way to be told the time")]
fn install() {
    // SAFETY: the system's VFS lives as long as the process, and so does the copy, which is never changed after this.
    unsafe {
        let system = sqlite3_vfs_find(std::ptr::null());
        assert!(!system.is_null(), "SQLite has no VFS");
        SYSTEM.store(system, Ordering::Release);
        let mut own = *system;
        own.pNext = std::ptr::null_mut();
        own.zName = c"duly-test".as_ptr();
        own.xCurrentTime = Some(days);
        own.xCurrentTimeInt64 = Some(milliseconds);
        assert_eq!(sqlite3_vfs_register(Box::leak(Box::new(own)), 1), SQLITE_OK);
    }
}

#[expect(unsafe_code, reason = "called by SQLite")]
unsafe extern "C" fn milliseconds(_vfs: *mut sqlite3_vfs, out: *mut i64) -> c_int {
    let system = SYSTEM.load(Ordering::Acquire);
    // SAFETY: SQLite gives a place for one number, and `install` has found the system's VFS.
    unsafe {
        if let Some(now) = NOW.get() {
            *out = now + EPOCH;
            return SQLITE_OK;
        }
        (*system).xCurrentTimeInt64.map_or(1, |time| time(system, out))
    }
}

#[expect(unsafe_code, reason = "called by SQLite")]
unsafe extern "C" fn days(vfs: *mut sqlite3_vfs, out: *mut c_double) -> c_int {
    let mut now = 0;
    // SAFETY: as above.
    unsafe {
        let told = milliseconds(vfs, &raw mut now);
        #[expect(clippy::cast_precision_loss, reason = "SQLite's own does the same")]
        let now = now as f64;
        *out = now / 86_400_000.0;
        told
    }
}
