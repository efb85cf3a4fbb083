//! The files that are shipped are valid as they stand, and so are those that the jobs of other systems are declared in.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::support::{Backend, Sandbox, on_every_database};

fn shipped(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
}

#[test]
fn the_shipped_jobs_and_crontab_pass_the_check() {
    let s = Sandbox::new(Backend::Sqlite);
    fs::create_dir_all(s.path("examples")).unwrap();
    s.set_jobs(&shipped("jobs.yaml"));
    // Where it will be installed there is a jobs.yaml; here it is the sandbox's.
    let crontab =
        shipped("crontab.example").replace("/etc/duly/jobs.yaml", s.path("jobs.yaml").to_str().unwrap());
    fs::write(s.path("crontab"), crontab).unwrap();
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

on_every_database! {
    fn the_small_shop_works_on_tables_that_are_not_dulys_by_naming_them(s: Sandbox) {
        for file in ["erp", "processor", "notify", "make-shop"] {
            s.file(file, &shipped(&format!("examples/shop/{file}")));
        }
        let url = format!("database: \"{}\"", s.database().url());
        s.set_jobs(&shipped("examples/shop/jobs.yaml").replace("database: shop.db", &url));
        s.json(["list", "--json"]);
        let made = Command::new(s.path("make-shop")).output().unwrap();
        s.database().sql(&String::from_utf8(made.stdout).unwrap());
        let count = |query: &str| s.database().value(&format!("SELECT COUNT(*) FROM {query}"));

        s.duly(["refresh-cache"]).status(0);
        assert_eq!(count("ses_content_modification_queue"), "0");
        for name in ["navigation", "translations"] {
            assert_eq!(s.read(&format!("var/{name}.log")).lines().count(), 5000);
        }
        s.file("var/down", "");
        s.duly(["process-lost-orders"]).stdout_has("the ERP seems to be down").stderr_has("exited with 3").status(3);
        fs::remove_file(s.path("var/down")).unwrap();
        s.file("var/refused", "299\n300\n");
        s.duly(["process-lost-orders", "7"]).status(0);
        s.duly(["process-lost-orders"]).status(0);
        let confirmed = count("ses_basket WHERE state = 'confirmed' AND erp_order_id LIKE 'ERP-%'");
        assert_eq!((confirmed.as_str(), count("ses_basket WHERE state = 'erp_given_up'").as_str()), ("293", "2"));
        // The five that found the ERP down wait for their next try.
        assert_eq!(count("ses_basket WHERE state = 'ordered_failed'"), "5");
        assert_eq!((s.read("var/accepted.log").lines().count(), s.read("var/notified.log").lines().count()), (293, 7));

        s.duly(["sessions", "write-stat"]).status(0);
        let stat = s.json(["sessions", "show", "--json"])[0].clone();
        assert_eq!(stat["total"], 3000);
        // One was used each half minute, and the test has taken some seconds.
        assert!((2800..=2880).contains(&stat["active_24h"].as_i64().unwrap()), "{stat}");
        // As jobs on their schedule as well.
        let names = ["refresh_cache", "lost_orders", "sessions"];
        for name in names {
            s.duly(["start", name]).stdout_has("").status(0);
        }
        s.duly(["run"]).status(0);
        assert_eq!(count("duly_job WHERE state = 'success' AND name IN ('refresh_cache', 'lost_orders', 'sessions') AND id > 5"), "3");
    }
}
