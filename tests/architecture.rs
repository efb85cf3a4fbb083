//! The map can't lie: the layers, the files' heads, the paths, states and exit codes in the documents, the migrations.
//!
//! Each check is a function from texts to complaints, and each is tried on something broken too.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use duly::job::State;

/// Which top modules of `src/` may use which others. `main`, `lib` and `commands` may use all.
const MAY_USE: &[(&str, &[&str])] = &[
    ("job", &[]),
    ("exit_code", &[]),
    ("cli", &["job", "exit_code"]),
    ("db", &["job"]),
    ("store", &["db", "job"]),
    ("process", &["job"]),
    ("config", &["job"]),
    ("render", &["config", "job", "store", "db"]),
    ("runner", &["store", "db", "process", "config", "job"]),
    ("shop", &["store", "db", "process", "config", "job"]),
    ("web", &["store", "db", "process", "config", "job"]),
];

/// The documents whose words are checked.
const DOCUMENTS: [&str; 3] = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"];

#[test]
fn every_source_file_says_what_it_is_for() {
    assert_none(sources().iter().filter_map(|(path, text)| without_head(path, text)));
    assert!(without_head("src/x.rs", "use std::fs;\n").is_some());
}

#[test]
fn dependencies_go_one_way() {
    assert_none(sources().iter().flat_map(|(path, text)| against_the_order(path, text)));
    let broken = "use crate::{config::Settings, job::{self, State}};\n// crate::web\nfn f() { crate::runner::tick(); }\n";
    assert_eq!(
        against_the_order("src/store/claim.rs", broken),
        [
            "src/store/claim.rs: `store` must not use `config`",
            "src/store/claim.rs: `store` must not use `runner`"
        ]
    );
    assert_eq!(
        against_the_order("src/store/claim.rs", "use crate::store::sql;\nuse crate::job::On;\n").len(),
        0
    );
    assert_eq!(against_the_order("src/misc/x.rs", "").len(), 1);
}

#[test]
fn every_path_in_the_documents_is_there() {
    for document in DOCUMENTS {
        assert_none(missing_paths(document, &read(document)));
    }
    let broken = "```sh\nls src/gone.rs\n```\n`src/gone.rs`, `store/gone/`, `store/`, `var/`, `src/lib.rs`, `/etc/duly/jobs.yaml`, `tests/gone`, `a/b`";
    let gone =
        ["`src/gone.rs`", "`store/gone/`", "`tests/gone`"].map(|path| format!("x.md: there is no {path}"));
    assert_eq!(missing_paths("x.md", broken), gone);
}

#[test]
fn every_state_is_in_the_diagram() {
    assert_eq!(
        states_missing(&read("ARCHITECTURE.md")),
        [""; 0],
        "no diagram in ARCHITECTURE.md has these states"
    );
    let all = State::ALL.map(State::as_str).join(" ");
    assert!(states_missing(&format!("```text\n{all}\n```")).is_empty());
    assert_eq!(states_missing(&format!("{all}\n```\n{}\n```", all.replace("stale", "stalemate"))), ["stale"]);
}

#[test]
fn every_exit_code_is_in_the_readme() {
    let (code, readme) = (read("src/exit_code.rs"), read("README.md"));
    let codes = exit_codes(&code);
    assert!(
        codes.starts_with(&[0, 1]),
        "no `Self::… => number` is found in src/exit_code.rs any more: {codes:?}"
    );
    assert_none(codes.into_iter().filter_map(|code| not_in_a_table(code, &readme)));
    assert_eq!(
        exit_codes("  Self::Done => 0,\n  Self::Lost => 77,\n  Self::By(n) => 128 + n,\n"),
        [0, 77, 130, 143]
    );
    let table = "| Exit code | |\n| --- | --- |\n| `130`/143 | stopped |\n77 | no table";
    assert_eq!(
        [77, 130, 143, 13].map(|code| not_in_a_table(code, table).is_some()),
        [true, false, false, true]
    );
}

#[test]
fn both_dialects_have_the_same_migrations() {
    assert_none(migrations_amiss(&root().join("migrations")));
    let broken = tempfile::tempdir().unwrap();
    for file in ["mysql/1_a/up.sql", "mysql/2_b/up.sql", "sqlite/1_a/up.sql"] {
        let path = broken.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "SELECT 1;").unwrap();
    }
    assert_eq!(migrations_amiss(broken.path()), ["2_b has no sqlite/2_b/up.sql"]);
}

/// Of Rust's own library clippy asks the same (`incompatible_msrv`).
#[test]
fn no_dependency_needs_a_newer_rust_than_is_stated() {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--locked", "--offline", "--format-version", "1"])
        .current_dir(root())
        .output()
        .unwrap();
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let needed = |package: &serde_json::Value| release(package["rust_version"].as_str().unwrap_or("1.0"));
    let ours = packages.iter().find(|package| package["name"] == "duly").map(needed).unwrap();
    let newer = packages.iter().filter(|package| needed(package) > ours);
    assert_none(newer.map(|package| format!("{} needs {}", package["name"], package["rust_version"])));
    assert!(release("1.88.1") > release("1.88") && release("1.9") < release("1.10"));
    let stated = format!("Rust {}.{}", ours[0], ours[1]);
    assert_none(
        DOCUMENTS
            .iter()
            .filter(|name| **name != "ARCHITECTURE.md" && !read(name).contains(&stated))
            .map(|name| format!("{name} does not say {stated}")),
    );
}

/// `1.88` or `1.88.0`, for comparing.
fn release(text: &str) -> Vec<u32> {
    let mut parts: Vec<u32> = text.split('.').map(|part| part.parse().unwrap()).collect();
    parts.resize(3, 0);
    parts
}

/// The repository's folder.
fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

#[track_caller]
fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|err| panic!("{path}: {err}"))
}

#[track_caller]
fn assert_none(complaints: impl IntoIterator<Item = String>) {
    let complaints: Vec<String> = complaints.into_iter().collect();
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

/// Every Rust file below `src/`: its path in the repository, and its text.
fn sources() -> Vec<(String, String)> {
    let mut folders = vec![root().join("src")];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                found.push((path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned(), text));
            }
        }
    }
    assert!(found.len() > 10, "only {} files found in src/", found.len());
    found.sort();
    found
}

fn without_head(path: &str, text: &str) -> Option<String> {
    (!text.starts_with("//! "))
        .then(|| format!("{path}: its first line is not `//! …`, saying what it is for"))
}

/// The modules that a file uses and must not, each once.
fn against_the_order(path: &str, text: &str) -> Vec<String> {
    let module = path.trim_start_matches("src/").split('/').next().unwrap().trim_end_matches(".rs");
    if ["main", "lib", "commands"].contains(&module) {
        return Vec::new();
    }
    let Some((_, allowed)) = MAY_USE.iter().find(|(name, _)| *name == module) else {
        return vec![format!(
            "{path}: `{module}` has no place yet in the order of dependencies (tests/architecture.rs)"
        )];
    };
    let code: Vec<&str> = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
    let used: BTreeSet<String> = code.join("\n").split("crate::").skip(1).flat_map(first_names).collect();
    used.into_iter()
        .filter(|name| name != module && !allowed.contains(&name.as_str()))
        // What is not a module of ours is a macro or an item at the crate's root.
        .filter(|name| {
            ["lib", "main", "commands"].contains(&name.as_str()) || MAY_USE.iter().any(|(m, _)| m == name)
        })
        .map(|name| format!("{path}: `{module}` must not use `{name}`"))
        .collect()
}

/// What stands first in a path that followed `crate::`; several if it is a group in braces.
fn first_names(rest: &str) -> Vec<String> {
    let name =
        |text: &str| text.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let Some(group) = rest.strip_prefix('{') else { return vec![name(rest)] };
    let (mut depth, mut names, mut start) = (0, Vec::new(), 0);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            ',' | '}' if depth == 0 => {
                names.push(name(&group[start..at]));
                start = at + 1;
                if c == '}' {
                    break;
                }
            }
            '}' => depth -= 1,
            _ => {}
        }
    }
    names
}

/// The paths in backticks that look like ours and lead nowhere. They are looked for from the root and from `src/`.
fn missing_paths(document: &str, text: &str) -> Vec<String> {
    let prose: String = text.split("```").step_by(2).collect();
    let spans = prose.split('`').skip(1).step_by(2);
    let of_ours = |path: &&str| {
        let plain = path.contains('/') && !path.starts_with(['/', '~', '$', '-']) && !path.contains("://");
        let first = path.split('/').next().unwrap_or_default();
        let ours = ["src", "tests", "migrations", "benches", "examples", ".ci", "commands"].contains(&first)
            || MAY_USE.iter().any(|(module, _)| *module == first);
        let file = [".rs", ".md", ".sql", ".yaml"].iter().any(|ending| path.ends_with(ending));
        plain && !path.contains([' ', '<', '>', '{', '}', '*', '…', '$']) && (ours || file)
    };
    let missing = |path: &&str| !root().join(path).exists() && !root().join("src").join(path).exists();
    spans.filter(of_ours).filter(missing).map(|path| format!("{document}: there is no `{path}`")).collect()
}

/// The states that the fullest of a document's code blocks lacks as words.
fn states_missing(text: &str) -> Vec<&'static str> {
    let lacking = |block: &str| {
        let words: BTreeSet<&str> = block.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
        State::ALL.map(State::as_str).into_iter().filter(|state| !words.contains(state)).collect::<Vec<_>>()
    };
    text.split("```")
        .skip(1)
        .step_by(2)
        .map(lacking)
        .min_by_key(Vec::len)
        .unwrap_or(State::ALL.map(State::as_str).to_vec())
}

/// The numbers in the one `match` of `src/exit_code.rs`, and those of the two signals that end a tick.
fn exit_codes(text: &str) -> Vec<u8> {
    let arms = text.lines().filter_map(|line| line.trim().strip_prefix("Self::")?.split_once("=>"));
    let plain = arms.filter_map(|(_, number)| number.trim().trim_end_matches(',').parse().ok());
    plain.chain(if text.contains("128 +") { vec![130, 143] } else { vec![] }).collect()
}

fn not_in_a_table(code: u8, text: &str) -> Option<String> {
    let first_cells = text.lines().filter_map(|line| line.strip_prefix('|')?.split('|').next());
    let mut numbers = first_cells.flat_map(|cell| cell.split(|c: char| !c.is_ascii_digit()));
    (!numbers.any(|number| number == code.to_string()))
        .then(|| format!("README.md: no table has the exit code {code}"))
}

/// The migrations that lack a file in one of the dialects.
fn migrations_amiss(folder: &Path) -> Vec<String> {
    let names = |dialect: &str| {
        let entries =
            fs::read_dir(folder.join(dialect)).unwrap_or_else(|err| panic!("migrations/{dialect}: {err}"));
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect::<BTreeSet<String>>()
    };
    let all: Vec<String> = names("mysql").union(&names("sqlite")).cloned().collect();
    assert!(!all.is_empty(), "no migrations");
    let lacking = |name: &String| {
        let paths = ["mysql", "sqlite"].map(|dialect| format!("{dialect}/{name}/up.sql"));
        let missing = paths.into_iter().filter(|path| !folder.join(path).is_file());
        missing.map(|path| format!("{name} has no {path}")).collect::<Vec<_>>()
    };
    all.iter().flat_map(lacking).collect()
}
