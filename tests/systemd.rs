//! `duly systemd`: the units that are shipped, filled in, and accepted by systemd where that is installed.

use std::process::Command;

use crate::support::{Backend, Sandbox};

fn shipped(name: &str) -> String {
    std::fs::read_to_string(format!("{}/contrib/systemd/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

#[test]
fn both_ways_are_printed_and_written_for_this_program_and_user() {
    let s = Sandbox::new(Backend::Sqlite).jobs("jobs: {}");
    let duly = env!("CARGO_BIN_EXE_duly");
    s.duly(["systemd"])
        .stdout_has(&format!(
            "# /etc/systemd/system/duly.service\n{}",
            shipped("duly.service").lines().next().unwrap()
        ))
        .stdout_has(&format!("\nExecStart={duly} --config [sandbox]/jobs.yaml run\n"))
        .stdout_has("\nUser=duly\n")
        .stdout_has(&format!("# /etc/systemd/system/duly.timer\n{}", shipped("duly.timer")))
        .status(0);
    s.duly(["systemd", "--daemon", "--user", "www-data"])
        .stdout_has("# /etc/systemd/system/duly-daemon.service\n")
        .stdout_has(&format!("\nExecStart={duly} --config [sandbox]/jobs.yaml daemon --interval 10s\n"))
        .stdout_has("\nUser=www-data\nGroup=www-data\n")
        .stdout_has("\nType=notify\n")
        .status(0);
    s.duly(["systemd", "--into", "gone"]).stderr_has("cannot write `gone/duly.service`").status(1);
    s.duly(["systemd", "--user", "a b"]).stderr_has("`a b` is no user").status(2);
    std::fs::create_dir(s.path("units")).unwrap();
    for arguments in [
        &["systemd", "--into", "units", "--user", "root"][..],
        &["systemd", "--daemon", "--into", "units", "--user", "root"],
    ] {
        s.duly(arguments).stdout_has("written; `systemctl daemon-reload").status(0);
    }
    for name in ["duly.service", "duly.timer", "duly-daemon.service"] {
        assert!(s.read(&format!("units/{name}")).contains("[Unit]"), "{name}");
    }
}

/// Every key of the units is one that systemd has; those are written here, since systemd itself is on few build hosts.
#[test]
fn units_have_a_command_line_that_duly_takes() {
    for (name, command) in [("duly.service", "run"), ("duly-daemon.service", "daemon")] {
        let unit = shipped(name);
        let line = unit.lines().find_map(|line| line.strip_prefix("ExecStart=")).unwrap();
        let words: Vec<&str> = line.split(' ').collect();
        assert_eq!(
            (words[0], words[1], words[2], words[3]),
            ("/usr/bin/duly", "--config", "/etc/duly/jobs.yaml", command)
        );
        let s = Sandbox::new(Backend::Sqlite).jobs("jobs: {}");
        let mut arguments: Vec<&str> = words[1..].to_vec();
        arguments[1] = "jobs.yaml";
        if command == "run" {
            s.duly(arguments).status(0);
        } else {
            let daemon = s.duly(arguments).spawn();
            daemon.signal_if_alive(rustix::process::Signal::TERM);
        }
    }
}

/// What `duly systemd` says that one does next, on units that are not this machine's. Seen failing with no `[Install]` in the
/// unit of the daemon, which then was not started with the machine.
#[test]
fn both_ways_are_started_again_with_the_machine_once_they_are_enabled() {
    let s = Sandbox::new(Backend::Sqlite).jobs("jobs: {}");
    let folder = s.path("root/etc/systemd/system");
    std::fs::create_dir_all(&folder).unwrap();
    let into = folder.to_str().unwrap();
    for (options, wanted) in [
        (&["--user", "root"][..], "timers.target.wants/duly.timer"),
        (&["--user", "root", "--daemon"], "multi-user.target.wants/duly-daemon.service"),
    ] {
        let said =
            s.duly([&["systemd", "--into", into], options].concat()).stdout_has("written; ").status(0).stdout;
        let unit = said.split("enable --now ").nth(1).and_then(|rest| rest.split('`').next()).unwrap();
        let root = format!("--root={}", s.path("root").display());
        let output = Command::new("systemctl").args([&root, "enable", unit]).output().expect("systemctl");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(folder.join(wanted).is_symlink(), "{unit}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

/// `systemd-analyze verify`, which `make test` installs with the package systemd.
#[test]
fn systemd_finds_nothing_wrong_with_the_units() {
    let s = Sandbox::new(Backend::Sqlite).jobs("jobs: {}");
    std::fs::create_dir(s.path("units")).unwrap();
    s.duly(["systemd", "--into", "units", "--user", "root"]).stdout_has("written").status(0);
    s.duly(["systemd", "--daemon", "--into", "units", "--user", "root"]).stdout_has("written").status(0);
    let units: Vec<_> = ["duly.service", "duly.timer", "duly-daemon.service"]
        .iter()
        .map(|name| s.path("units").join(name))
        .collect();
    let output = Command::new("systemd-analyze")
        .args(["verify", "--man=no"])
        .args(&units)
        .output()
        .expect("systemd-analyze, of the package systemd");
    let said = String::from_utf8_lossy(&output.stderr);
    // It also speaks of units of the host that are none of ours.
    let ours: Vec<&str> = said.lines().filter(|line| line.contains("duly")).collect();
    assert!(ours.is_empty(), "{ours:#?}");
    // Something wrong is found, so that silence means something.
    let broken = s.read("units/duly.service").replace("ProtectClock=yes", "ProtectClok=yes");
    let path = s.file("units/duly-broken.service", &broken);
    let output = Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(path).output().unwrap();
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("ProtectClok"),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
