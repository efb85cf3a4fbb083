//! `duly web`: the page, until it is told to stop.

use std::io::{BufRead as _, IsTerminal as _};

use anyhow::{Context as _, Result};
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};

use super::{Context, Usage};
use crate::cli::WebArgs;
use crate::exit_code::ExitCode;
use crate::render;
use crate::runner;
use crate::web::{self, Setup};

pub(super) fn run(context: &Context, args: &WebArgs) -> Result<ExitCode> {
    if args.hash_password {
        let hash = web::hash_password(&read_password()?).context("cannot hash the password")?;
        render::answer(&hash)?;
        return Ok(ExitCode::Success);
    }
    let config = context.config()?;
    let listen = args.listen.unwrap_or(config.web.listen);
    if !listen.ip().is_loopback() && !config.web.has_sign_in() {
        return Err(Usage(format!(
            "the page would be open to everybody at {listen}; configure web.users or web.trusted_proxy in {}, or listen on \
             127.0.0.1",
            config.path.display()
        ))
        .into());
    }
    // Whether the database is there is said before anybody looks at the page.
    drop(runner::open(&config)?);
    let location = runner::location(&config.database);
    let is_open = !config.web.has_sign_in();
    let setup = Setup { options: context.options.clone(), config, location, listen };
    let number = web::serve(setup, |address| {
        if is_open {
            log::warn!("no sign-in is configured: everybody on this machine may use the page");
        }
        render::answer(&format!("http://{address}/"))
    })?;
    Ok(ExitCode::Signal(number))
}

/// A line of standard input, which a terminal does not show.
fn read_password() -> Result<String> {
    let input = std::io::stdin();
    let is_terminal = input.is_terminal();
    let mut line = String::new();
    if is_terminal {
        render::question("Password: ")?;
        let before = tcgetattr(&input).context("cannot ask the terminal how it is set")?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        tcsetattr(&input, OptionalActions::Flush, &silent).context("cannot silence the terminal")?;
        let read = input.lock().read_line(&mut line);
        tcsetattr(&input, OptionalActions::Flush, &before).context("cannot set the terminal back")?;
        render::question("\n")?;
        read.context("cannot read the password")?;
    } else {
        input.lock().read_line(&mut line).context("cannot read the password from standard input")?;
    }
    let password = line.trim_end_matches(['\n', '\r']);
    let length = password.chars().count();
    if !(12..=512).contains(&length) {
        return Err(Usage(format!("the password has {length} characters; expected 12 to 512")).into());
    }
    Ok(password.to_owned())
}
