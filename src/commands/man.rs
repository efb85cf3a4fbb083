//! `duly man`: the manual, made from the command line's own description; one page, or all into a folder.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use clap::{Command, CommandFactory as _};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, italic, roman};

use super::Usage;
use crate::cli::{Cli, ManArgs};
use crate::exit_code::ExitCode;
use crate::render;

/// What a number that Duly exits with means; the README has it at length.
const EXIT_STATUS: [(&str, &str); 7] = [
    ("0", "Done, also when nothing was due."),
    ("1", "Duly could not work: database, files."),
    ("2", "Wrong usage or configuration, or no such job; it will not go away by itself."),
    ("3", "A job ended badly, or somebody should look."),
    ("4", "Refused: one is there already, what was asked for is paused, or the state does not allow it."),
    ("130", "Stopped by SIGINT, after stopping what it ran and recording it."),
    ("143", "The same, by SIGTERM."),
];

const FILES: [(&str, &str); 3] = [
    ("./jobs.yaml", "Declares the jobs, unless --config or $DULY_CONFIG names another file."),
    ("/etc/duly/jobs.yaml", "The same, where there is no ./jobs.yaml."),
    ("jobs.db", "The database, beside jobs.yaml, where no other is named."),
];

const ENVIRONMENT: [(&str, &str); 7] = [
    ("DULY_CONFIG", "The jobs.yaml, unless --config is given."),
    ("DATABASE_URL", "The database, unless --database-url is given."),
    ("DATABASE_URL_FILE", "A file with the database's URL, where DATABASE_URL is not set."),
    ("XDG_RUNTIME_DIR", "The default of runner.state_dir is in it."),
    ("TZDIR", "The folder of this system's time zones, in place of /usr/share/zoneinfo."),
    ("NO_COLOR", "No colours."),
    ("RUST_LOG", "The log's level, where neither -v nor -q is given."),
];

pub(super) fn run(args: &ManArgs) -> Result<ExitCode> {
    let mut program = Cli::command().disable_help_subcommand(true);
    program.build();
    if let Some(folder) = &args.folder {
        fs::create_dir_all(folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
        let written = write_all(&program, folder)?;
        render::answer(&format!("{written} pages are in {}", folder.display()))?;
        return Ok(ExitCode::Success);
    }
    let mut command = &program;
    for (at, word) in args.command.iter().enumerate() {
        let found = command.find_subcommand(word).filter(|found| !found.is_hide_set());
        command = found.ok_or_else(|| {
            let asked = args.command[..=at].join(" ");
            Usage(format!("there is no manual page about `{asked}`: `duly --help` names the commands"))
        })?;
    }
    render::answer(&String::from_utf8_lossy(&page(command)?))?;
    Ok(ExitCode::Success)
}

/// Writes the page about `command` and those about its subcommands; returns how many.
fn write_all(command: &Command, folder: &Path) -> Result<usize> {
    let path = folder.join(format!("{}.1", title(command)));
    fs::write(&path, page(command)?).with_context(|| format!("cannot write {}", path.display()))?;
    let shown = command.get_subcommands().filter(|subcommand| !subcommand.is_hide_set());
    shown.map(|subcommand| write_all(subcommand, folder)).try_fold(1, |sum, count| Ok(sum + count?))
}

/// `duly-lost-orders-list`.
fn title(command: &Command) -> &str {
    command.get_display_name().unwrap_or_else(|| command.get_name())
}

/// One page as troff.
fn page(command: &Command) -> Result<Vec<u8>> {
    let man = Man::new(command.clone())
        .title(title(command).to_uppercase())
        .source(concat!("duly ", env!("CARGO_PKG_VERSION")))
        .manual("Duly");
    let mut text = Vec::new();
    man.render_title(&mut text)?;
    man.render_name_section(&mut text)?;
    man.render_synopsis_section(&mut text)?;
    man.render_description_section(&mut text)?;
    man.render_options_section(&mut text)?;
    if command.get_subcommands().any(|subcommand| !subcommand.is_hide_set()) {
        man.render_subcommands_section(&mut text)?;
    }
    let mut rest = Roff::new();
    if let Some(help) = command.get_after_help() {
        examples(&mut rest, &help.to_string());
    }
    if title(command) == "duly" {
        entries(&mut rest, "FILES", &FILES);
        entries(&mut rest, "ENVIRONMENT", &ENVIRONMENT);
        entries(&mut rest, "EXIT STATUS", &EXIT_STATUS);
        rest.control("SH", ["SEE ALSO"]);
        rest.text([bold("crontab"), roman("(5), "), bold("systemd.timer"), roman("(5)")]);
    } else {
        rest.control("SH", ["SEE ALSO"]);
        rest.text([bold("duly"), roman("(1), for files, environment and exit status")]);
    }
    rest.to_writer(&mut text)?;
    Ok(text)
}

/// The examples of a help, their lines as they stand.
fn examples(page: &mut Roff, help: &str) {
    page.control("SH", ["EXAMPLES"]);
    let lines = help.lines().filter(|line| !line.starts_with("Example"));
    page.control("nf", []);
    for line in lines {
        page.text([roman(line.strip_prefix("  ").unwrap_or(line))]);
    }
    page.control("fi", []);
}

fn entries(page: &mut Roff, heading: &str, entries: &[(&str, &str)]) {
    page.control("SH", [heading]);
    for (word, meaning) in entries {
        page.control("TP", []);
        page.text([italic(*word)]);
        page.text([roman(*meaning)]);
    }
}
