//! What `docs/recipes.md` shows: the page shows the files that are shipped, and each of them is run for real.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::mpsc;
use std::thread;

use url::Url;

use crate::support::{Backend, Sandbox, Server};

fn shipped(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|err| panic!("{}: {err}", path.display()))
}

/// Seen failing with a blank added to a script.
#[test]
fn the_page_shows_the_scripts_as_they_are() {
    let page = shipped("docs/recipes.md");
    let mut shown = 0;
    for (before, block) in
        page.split("```").collect::<Vec<_>>().chunks_exact(2).map(|pair| (pair[0], pair[1]))
    {
        let name = before.trim_end().strip_suffix("`:").and_then(|text| text.rsplit('`').next());
        let Some(name) = name.filter(|name| name.starts_with("examples/")) else {
            continue;
        };
        let code = block.split_once('\n').unwrap().1;
        assert!(code == shipped(name), "docs/recipes.md does not show {name} as it is");
        shown += 1;
    }
    assert_eq!(shown, 8, "scripts in docs/recipes.md");
}

/// Seen failing with a key that does not exist in a block of `docs/migrating.md`.
#[test]
fn what_the_pages_show_of_jobs_yaml_passes_the_check() {
    let s = Sandbox::new(Backend::Sqlite);
    let mut checked = 0;
    for page in ["docs/recipes.md", "docs/migrating.md"] {
        for block in shipped(page).split("```yaml\n").skip(1) {
            let block = block.split("```").next().unwrap();
            s.set_jobs(block);
            let output = s.duly(["check"]).output();
            assert!(output.status.success(), "{page}:\n{block}\n{output}");
            checked += 1;
        }
    }
    assert!(checked >= 8, "{checked} blocks");
}

/// A shop on MariaDB, and what its application needs to sign in.
fn shop() -> (Sandbox, Vec<(&'static str, String)>) {
    let s = Sandbox::new(Backend::MariaDb);
    s.set_jobs(
        &shipped("examples/recipes/jobs.yaml")
            .replace("hooks:\n  on_failure: [./mail-failure, admin@example.com]\n", ""),
    );
    let url = Url::parse(s.database().url()).unwrap();
    let database = url.path().trim_start_matches('/').to_owned();
    s.database().sql("CREATE TABLE orders (id INT PRIMARY KEY, amount DECIMAL(10,2) NOT NULL)");
    let environment = vec![
        ("DB_HOST", url.host_str().unwrap().to_owned()),
        ("DB_PORT", url.port().unwrap().to_string()),
        ("DB_USER", url.username().to_owned()),
        ("DB_PASSWORD", s.database().password().to_owned()),
        ("DB_NAME", database),
    ];
    (s, environment)
}

/// Rolled back, there is neither an order nor a job; committed, one of each, and the job gets the order.
#[track_caller]
fn places_orders(mut place: Command) {
    let (s, environment) = shop();
    // The application's user may do no more than the README grants it.
    let database = environment.iter().find(|(name, _)| *name == "DB_NAME").unwrap().1.clone();
    let user = format!("{database}_app");
    let columns = shipped("README.md");
    let columns = columns.split("GRANT INSERT (").nth(1).unwrap().split(')').next().unwrap();
    Server::shared().administrator().sql(&format!(
        "CREATE USER {user}@'%' IDENTIFIED BY 'of the application'; GRANT INSERT ({columns}) ON {database}.duly_job TO {user}@'%'; \
         GRANT INSERT ON {database}.orders TO {user}@'%'"
    ));
    place.envs(environment).env("DB_USER", &user).env("DB_PASSWORD", "of the application");
    let count = |table: &str| s.database().value(&format!("SELECT COUNT(*) FROM {table}"));
    let run = |order: &str, amount: &str| -> Output {
        let mut copy = Command::new(place.get_program());
        copy.args(place.get_args()).args([order, amount]).current_dir(s.path(""));
        copy.envs(place.get_envs().filter_map(|(name, value)| Some((name, value?))));
        copy.output().unwrap_or_else(|err| {
            panic!("{:?}: {err}; `make test` installs what the recipes need", place.get_program())
        })
    };
    let refused = run("4711", "-1");
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.status.code() == Some(1) && said.contains("order 4711 costs nothing"), "{refused:?}");
    assert_eq!((count("orders"), count("duly_job")), ("0".to_owned(), "0".to_owned()));
    // The id shows that the row was there: it is used up.
    let placed = run("4712", "49.90");
    assert!(placed.status.success(), "{placed:?}");
    assert_eq!(String::from_utf8_lossy(&placed.stdout), "job 2\n");
    assert_eq!((count("orders"), count("duly_job")), ("1".to_owned(), "1".to_owned()));
    s.duly(["run", "--queue", "default"]).status(0);
    let job = s.json(["show", "2", "--json"]);
    assert_eq!(
        (job["state"].as_str(), job["output"].as_str()),
        (Some("success"), Some("order 4712 is exported\n"))
    );
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/recipes").join(name)
}

/// Seen failing with the script's commit put before the order is refused; so are those below.
#[test]
fn php_puts_a_job_in_with_an_order_or_not_at_all() {
    let mut place = Command::new("php");
    place.arg(script("place-order.php"));
    places_orders(place);
}

#[test]
fn python_puts_a_job_in_with_an_order_or_not_at_all() {
    // The system's own, which has the modules that the system's packages bring.
    let mut place = Command::new("/usr/bin/python3");
    place.arg(script("place-order.py"));
    places_orders(place);
}

#[test]
fn ruby_puts_a_job_in_with_an_order_or_not_at_all() {
    let mut place = Command::new("ruby");
    place.arg(script("place-order.rb"));
    places_orders(place);
}

#[test]
fn node_puts_a_job_in_with_an_order_or_not_at_all() {
    let mut place = Command::new("node");
    place.arg(script("place-order.js")).env("NODE_PATH", "/usr/share/nodejs:/usr/lib/nodejs");
    places_orders(place);
}

#[test]
fn go_puts_a_job_in_with_an_order_or_not_at_all() {
    let built = tempfile::tempdir().unwrap();
    let program = built.path().join("place-order");
    let mut build = Command::new("go");
    build.args(["build", "-o"]).arg(&program).arg(script("place-order.go"));
    // The system's packages are sources in a GOPATH, without modules.
    build.env("GOPATH", "/usr/share/gocode").env("GO111MODULE", "off").env("GOFLAGS", "");
    build.env("GOCACHE", built.path().join("cache"));
    let made =
        build.output().unwrap_or_else(|err| panic!("go: {err}; `make test` installs what the recipes need"));
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    places_orders(Command::new(program));
}

/// Copies the recipes into the sandbox, and makes `duly` a program there.
fn with_recipes(s: &Sandbox) {
    for name in ["mail-failure", "ping-healthcheck", "dump-database"] {
        s.file(name, &shipped(&format!("examples/recipes/{name}")));
    }
    s.file("duly", &format!("#!/bin/sh\nexec {} \"$@\"\n", env!("CARGO_BIN_EXE_duly")));
}

#[test]
fn a_failure_is_mailed_with_its_output() {
    let s = Sandbox::new(Backend::Sqlite);
    with_recipes(&s);
    s.file("sendmail", "#!/bin/sh\ncat > mail.$1\n");
    s.set_jobs("hooks: {on_failure: [./mail-failure, admin@example.com]}\njobs:\n  export: {command: [sh, -c, 'echo the disk is full; exit 7'], max_attempts: 1, env: {DULY: ./duly, SENDMAIL: ./sendmail}}\n");
    s.duly(["start", "export"]).stdout("1\n").status(0);
    s.duly(["run"]).stderr_has("job 1 (export) failed").status(0);
    let mail = s.read("mail.-t");
    for part in [
        "To: admin@example.com\n",
        "Subject: job export failed on ",
        "exit code 7, after 1 of 1 attempts.",
        "  | the disk is full",
    ] {
        assert!(mail.contains(part), "no `{part}` in the mail:\n{mail}");
    }
}

#[test]
fn a_service_that_watches_is_pinged_at_both_ends() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        for connection in listener.incoming() {
            let mut reader = BufReader::new(connection.unwrap());
            let mut first = String::new();
            reader.read_line(&mut first).unwrap();
            let mut length = 0;
            loop {
                let mut line = String::new();
                reader.read_line(&mut line).unwrap();
                if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap();
                }
                if line.trim().is_empty() {
                    break;
                }
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).unwrap();
            reader
                .get_mut()
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                .unwrap();
            tell.send((first, String::from_utf8(body).unwrap())).unwrap();
        }
    });
    let s = Sandbox::new(Backend::Sqlite);
    with_recipes(&s);
    let hook = format!("[./ping-healthcheck, 'http://{address}/ping/uuid']");
    s.set_jobs(&format!(
        "jobs:\n  good: {{command: ['true'], on_success: {hook}, on_failure: {hook}}}\n  bad: {{command: ['false'], max_attempts: 1, on_success: {hook}, on_failure: {hook}}}\n"
    ));
    for (name, line) in [("good", "POST /ping/uuid HTTP/1.1"), ("bad", "POST /ping/uuid/fail HTTP/1.1")] {
        s.duly(["start", name]).stdout_has("").status(0);
        s.duly(["run"]).output();
        let (first, body) = told.recv_timeout(std::time::Duration::from_secs(20)).unwrap();
        assert_eq!(first.trim(), line);
        let job: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(job["name"], name);
    }
}

#[test]
fn a_dump_is_whole_or_not_there_and_old_ones_go() {
    let (s, environment) = shop();
    with_recipes(&s);
    let of = |wanted: &str| environment.iter().find(|(name, _)| *name == wanted).unwrap().1.clone();
    s.database().sql("INSERT INTO orders VALUES (4711, 49.90)");
    s.file(
        "dump.cnf",
        &format!(
            "[client]\nhost={}\nport={}\nuser={}\npassword={}\n",
            of("DB_HOST"),
            of("DB_PORT"),
            of("DB_USER"),
            of("DB_PASSWORD")
        ),
    );
    let database = of("DB_NAME");
    for day in 1..=20 {
        s.file(&format!("dumps/{database}-202601{day:02}T020000Z-1.sql.gz"), "an old one");
    }
    s.set_jobs(&format!(
        "jobs:\n  dump: {{command: [./dump-database, dumps, {database}, --defaults-extra-file=dump.cnf], max_attempts: 1}}\n  broken: {{command: [./dump-database, dumps, no_such_database, --defaults-extra-file=dump.cnf], max_attempts: 1}}\n"
    ));
    let names = || -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(s.path("dumps"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    };
    s.duly(["start", "broken"]).stdout_has("").status(0);
    s.duly(["run"]).stderr_has("failed").status(0);
    assert_eq!(names().len(), 20, "a dump that failed leaves nothing and takes nothing: {:?}", names());
    s.duly(["start", "dump"]).stdout_has("").status(0);
    s.duly(["run"]).status(0);
    let names = names();
    assert_eq!(names.len(), 14, "{names:?}");
    let text =
        Command::new("gzip").args(["-dc"]).arg(s.path("dumps").join(names.last().unwrap())).output().unwrap();
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    assert!(text.contains("INSERT INTO `orders`") && text.contains("(4711,49.90)"), "{text}");
}

/// Seen failing with `unique: args` taken out of the recipe.
#[test]
fn a_tenant_has_a_queue_of_its_own() {
    let s = Sandbox::new(Backend::Sqlite);
    s.set_jobs(
        &shipped("examples/recipes/jobs.yaml")
            .replace("hooks:\n  on_failure: [./mail-failure, admin@example.com]\n", ""),
    );
    let put = |tenant: &str| {
        let queue = format!("tenant_{tenant}");
        let arguments =
            ["enqueue", "rebuild_feed", "--queue", &queue, "--target-type", "Tenant", "--target-id", tenant];
        s.duly(arguments).output()
    };
    assert_eq!(put("a").status.code(), Some(0));
    assert_eq!(put("a").status.code(), Some(4));
    assert_eq!(put("b").status.code(), Some(0));
    s.duly(["pause", "--queue", "tenant_a"]).stdout_has("paused").status(0);
    s.duly(["run", "--queue", "tenant_a", "--queue", "tenant_b"]).status(0);
    let state = |id: &str| s.json(["show", id, "--json"])["state"].as_str().unwrap().to_owned();
    assert_eq!((state("1").as_str(), state("2").as_str()), ("pending", "success"));
    s.duly(["check"]).stdout_has("3 jobs").status(0);
}
