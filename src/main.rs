//! The program: reads the command line, calls the library, prints one line when something is wrong.

use std::process;

use duly::commands;
use duly::process::signals;

fn main() -> process::ExitCode {
    signals::hold_none_back();
    let code = match commands::parse() {
        Ok(cli) => {
            commands::start_log(&cli);
            commands::dispatch(cli).unwrap_or_else(|err| commands::explain(&err))
        }
        Err(code) => code,
    };
    process::ExitCode::from(code.code())
}
