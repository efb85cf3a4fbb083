//! `duly systemd`: the units that let systemd tick, with this program's path and this jobs.yaml.
//!
//! The units are those that are shipped in contrib/systemd.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

use super::{Context, Usage};
use crate::cli::SystemdArgs;
use crate::config;
use crate::exit_code::ExitCode;
use crate::process::program::own_program;
use crate::render;

const SERVICE: (&str, &str) = ("duly.service", include_str!("../../contrib/systemd/duly.service"));
const TIMER: (&str, &str) = ("duly.timer", include_str!("../../contrib/systemd/duly.timer"));
const DAEMON: (&str, &str) =
    ("duly-daemon.service", include_str!("../../contrib/systemd/duly-daemon.service"));

/// What stands in the units as they are shipped.
const PROGRAM: &str = "/usr/bin/duly";
const CONFIG: &str = "/etc/duly/jobs.yaml";
const USER: &str = "duly";

pub(super) fn run(context: &Context, args: &SystemdArgs) -> Result<ExitCode> {
    let path = config::locate(context.options.path.as_deref())?;
    let program = own_program().map_err(anyhow::Error::msg)?;
    let user = args.user.as_deref().unwrap_or(USER);
    if user.is_empty() || user.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err(Usage(format!("`{user}` is no user; expected one such as www-data")).into());
    }
    let units: &[(&str, &str)] = if args.daemon { &[DAEMON] } else { &[SERVICE, TIMER] };
    let filled: Vec<(&str, String)> = units
        .iter()
        .map(|(name, text)| (*name, fill(text, &program, &path.to_string_lossy(), user)))
        .collect();
    match &args.into {
        Some(folder) => write(folder, &filled)?,
        None => {
            let text: Vec<String> =
                filled.iter().map(|(name, text)| format!("# /etc/systemd/system/{name}\n{text}")).collect();
            render::answer(&text.join("\n"))?;
        }
    }
    Ok(ExitCode::Success)
}

/// A unit for this program, this jobs.yaml and this user.
fn fill(unit: &str, program: &str, config: &str, user: &str) -> String {
    let line = |line: &str| match line.split_once('=') {
        Some(("ExecStart", command)) => {
            let command = command.replacen(PROGRAM, &quoted(program), 1);
            format!("ExecStart={}\n", command.replacen(CONFIG, &quoted(config), 1))
        }
        Some((key @ "ConditionPathExists", _)) => format!("{key}={}\n", config.replace('%', "%%")),
        Some((key @ ("User" | "Group"), _)) => format!("{key}={user}\n"),
        _ => format!("{line}\n"),
    };
    unit.lines().map(line).collect()
}

/// A word of a command line as systemd reads it.
fn quoted(word: &str) -> String {
    let escaped = word.replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%").replace('$', "$$");
    if escaped.contains(char::is_whitespace) { format!("\"{escaped}\"") } else { escaped }
}

fn write(folder: &Path, units: &[(&str, String)]) -> Result<()> {
    for (name, text) in units {
        let path = folder.join(name);
        fs::write(&path, text).with_context(|| format!("cannot write `{}`", path.display()))?;
    }
    let last = units.last().map_or("", |(name, _)| *name);
    render::answer(&format!(
        "written; `systemctl daemon-reload && systemctl enable --now {last}` lets it tick, also after a restart"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_is_filled_in_where_the_shipped_one_has_its_own() {
        for (_, unit) in [SERVICE, DAEMON] {
            assert!(unit.contains(&format!("ExecStart={PROGRAM} --config {CONFIG} ")), "{unit}");
            assert!(unit.contains(&format!("User={USER}\nGroup={USER}\n")), "{unit}");
            assert_eq!(fill(unit, PROGRAM, CONFIG, USER), unit);
            let other = fill(unit, "/opt/my duly/duly", "/srv/50%/jobs.yaml", "www-data");
            assert!(
                other.contains("ExecStart=\"/opt/my duly/duly\" --config /srv/50%%/jobs.yaml "),
                "{other}"
            );
            assert!(
                other.contains("User=www-data\nGroup=www-data\n")
                    && other.contains("ConditionPathExists=/srv/50%%/jobs.yaml\n")
            );
        }
    }
}
