//! The program: reads the command line, calls the library, prints one line when something is wrong.

use std::process;

use clap::Parser as _;
use duly::cli::Cli;
use duly::commands;

fn main() -> process::ExitCode {
    let cli = Cli::parse();
    commands::start_log(&cli);
    let code = match commands::dispatch(cli) {
        Ok(code) => code,
        Err(err) => commands::explain(&err),
    };
    process::ExitCode::from(code.code())
}
