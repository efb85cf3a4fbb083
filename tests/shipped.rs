//! The files that are shipped are valid as they stand, and so are those that the jobs of other systems are declared in.

use std::fs;
use std::path::Path;

use crate::support::{Backend, Sandbox};

fn shipped(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
}

#[test]
fn the_shipped_jobs_and_crontab_pass_the_check() {
    let s = Sandbox::new(Backend::Sqlite);
    fs::create_dir_all(s.path("examples")).unwrap();
    s.set_jobs(&shipped("jobs.yaml"));
    fs::write(s.path("crontab"), shipped("crontab.example")).unwrap();
    let output = s.duly(["check", "--crontab", "crontab"]).stdout_has("crontab: fine").status(0);
    assert!(output.stdout.contains("scheduled"), "{output}");
}

#[test]
fn the_jobs_of_a_shop_are_valid_as_they_stand_under_jobs() {
    let s = Sandbox::new(Backend::Sqlite);
    for index in ["silversolutions:indexecontent-job", "ibexa:commerce:index-econtent-job"] {
        s.set_jobs(&format!(
            "command_prefix: [./console]\njobs:\n        import_solr:\n            label: \"Import from eZ\"\n            desc: \"Starts import from a remote system\"\n            command: \"silver:import\"\n            params:\n                - tmp\n            depending_jobs:\n                index_solr:\n                    label: \"Index econtent tmp cores\"\n                    command: \"{index}\"\n"
        ));
        s.file("console", "#!/bin/sh\necho \"$@\" >> ran\n");
        s.duly(["check"]).stdout_has("2 jobs").status(0);
        s.duly(["start", "import_solr"]).stdout_has("").status(0);
        s.duly(["run"]).status(0);
        assert!(s.read("ran").ends_with(&format!("silver:import tmp\n{index}\n")), "{}", s.read("ran"));
    }
}
