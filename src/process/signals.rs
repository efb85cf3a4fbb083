//! SIGTERM and SIGINT as something a runner is told, once it has processes to look after.
//!
//! Before that the signals keep their usual meaning: a tick that has started nothing just ends.

use std::io;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// Calls `tell` with the number of each SIGTERM and SIGINT, from a thread of its own, for the rest of the process.
///
/// # Errors
///
/// When the handlers cannot be installed.
pub fn on_stop_signal(mut tell: impl FnMut(i32) + Send + 'static) -> io::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT])?;
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        for signal in signals.forever() {
            tell(signal);
        }
    })?;
    Ok(())
}
