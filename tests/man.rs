//! The manual: a page per command, which the reader of manuals accepts, and what is in them.

use std::collections::BTreeSet;
use std::fs;
use std::process::{Command, Stdio};

use duly::cli::Cli;

use crate::support::{Backend, Sandbox};

/// Seen failing with hidden commands not left out.
#[test]
fn there_is_a_page_for_every_command_that_the_help_names() {
    let s = Sandbox::new(Backend::Sqlite);
    s.duly(["man", "--folder", "made/man1"]).stdout_has("pages are in made/man1").status(0);
    let written: BTreeSet<String> = fs::read_dir(s.path("made/man1"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    let mut program = <Cli as clap::CommandFactory>::command().disable_help_subcommand(true);
    program.build();
    let mut expected = BTreeSet::from(["duly.1".to_owned()]);
    for command in program.get_subcommands().filter(|command| !command.is_hide_set()) {
        expected.insert(format!("duly-{}.1", command.get_name()));
        for below in command.get_subcommands() {
            expected.insert(format!("duly-{}-{}.1", command.get_name(), below.get_name()));
        }
    }
    assert_eq!(written, expected);
    for page in written {
        let text = s.read(&format!("made/man1/{page}"));
        let command = page.trim_end_matches(".1").replacen('-', " ", 1);
        assert!(
            text.contains(".SH NAME\n") && text.contains(".SH EXAMPLES\n") || page == "duly.1",
            "{page}:\n{text}"
        );
        let words = ["duly lost-orders", "duly sessions"]
            .iter()
            .find(|above| command.starts_with(&format!("{above}-")));
        let command = words
            .map_or(command.clone(), |above| command.replacen(&format!("{above}-"), &format!("{above} "), 1));
        assert!(text.replace("\\-", "-").contains(&command), "{page} does not name `{command}`");
    }
}

/// Seen failing with the row of exit code 4 taken out of the page.
#[test]
fn the_page_about_duly_has_every_exit_code_and_variable_of_the_readme() {
    let s = Sandbox::new(Backend::Sqlite);
    let page =
        s.duly(["man"]).stdout_has(".TH DULY 1").status(0).stdout.replace("\\-", "-").replace("\\_", "_");
    let readme = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    let first_cells = |heading: &str| -> Vec<String> {
        let table = readme.split(heading).nth(1).unwrap().lines().skip(2);
        table.map_while(|line| Some(line.strip_prefix("| `")?.split('`').next()?.to_owned())).collect()
    };
    for (heading, least) in [("| exit code | meaning |", 6), ("| read by Duly | meaning |", 6)] {
        let cells = first_cells(heading);
        assert!(cells.len() >= least, "{cells:?}");
        for cell in cells {
            assert!(page.contains(&format!("\\fI{cell}\\fR")), "no `{cell}` in:\n{page}");
        }
    }
}

#[test]
fn one_page_goes_to_standard_output_and_an_unknown_one_is_refused() {
    let s = Sandbox::new(Backend::Sqlite).jobs("jobs: [broken");
    s.duly(["man", "lost-orders", "add"]).stdout_has(".TH DULY-LOST-ORDERS-ADD 1").status(0);
    s.duly(["man", "bound"])
        .stderr("duly: error: there is no manual page about `bound`: `duly --help` names the commands\n")
        .status(2);
}

/// groff is what shows manual pages; where it is not installed, the pages are at least what it was tried with.
#[test]
fn groff_has_nothing_to_complain_about() {
    let s = Sandbox::new(Backend::Sqlite);
    s.duly(["man", "--folder", "man1"]).stdout_has("").status(0);
    for page in fs::read_dir(s.path("man1")).unwrap() {
        let path = page.unwrap().path();
        let shown = Command::new("groff")
            .args(["-man", "-Tutf8", "-ww", "-z"])
            .arg(&path)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let complaints = String::from_utf8_lossy(&shown.stderr).into_owned();
        assert!(shown.status.success() && complaints.is_empty(), "{}:\n{complaints}", path.display());
    }
}
