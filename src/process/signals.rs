//! SIGTERM and SIGINT as something a runner is told, once it has processes to look after.
//!
//! Before that the signals keep their usual meaning: a tick that has started nothing just ends.

use std::io;

use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::iterator::Signals;

/// Calls `tell` with the number of each SIGTERM and SIGINT, from a thread of its own, for the rest of the process.
///
/// # Errors
///
/// When the handlers cannot be installed.
pub fn on_stop_signal(tell: impl FnMut(i32) + Send + 'static) -> io::Result<()> {
    on_signals(&[SIGTERM, SIGINT], tell)
}

/// The same with every signal that a person or a terminal ends a program with, for one that has the terminal to give back.
pub fn on_any_end(tell: impl FnMut(i32) + Send + 'static) -> io::Result<()> {
    on_signals(&[SIGTERM, SIGINT, SIGHUP, SIGQUIT], tell)
}

fn on_signals(which: &[i32], mut tell: impl FnMut(i32) + Send + 'static) -> io::Result<()> {
    let mut signals = Signals::new(which)?;
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        for signal in signals.forever() {
            tell(signal);
        }
    })?;
    Ok(())
}
