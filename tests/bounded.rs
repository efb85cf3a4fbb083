//! What others can make large costs a bounded share of memory and time.

use crate::support::{Backend, Sandbox};

/// Runs what follows with `megabytes` of memory at most.
fn within(megabytes: u32) -> [String; 4] {
    ["sh", "-c", &format!("ulimit -v {}; exec \"$@\"", megabytes * 1024), "sh"].map(str::to_owned)
}

fn repeated(times: usize, text: impl Fn(usize) -> String) -> String {
    (0..times).map(text).collect()
}

/// Seen failing with the values of aliases written out once more for their places: each of these took over two gigabytes.
#[test]
fn a_jobs_yaml_whose_aliases_stand_for_more_than_it_is_costs_little_memory() {
    let list = format!("x-a: &a [{}1]\nx-b: [{}1]\n", "1,".repeat(20_000), "*a,".repeat(15_000));
    let text = format!("x-a: &a '{}'\nx-b: [{}1]\n", "t".repeat(50_000), "*a,".repeat(15_000));
    let keys = repeated(4_000, |n| format!("k{n}: v, "));
    let merged =
        format!("x-a: &a {{{keys}}}\nx-b:\n{}", repeated(3_000, |n| format!("  y{n}: {{<<: *a}}\n")));
    let mapping = format!("x-a: &a {{{keys}}}\nx-b:\n{}", repeated(3_000, |n| format!("  y{n}: *a\n")));
    for hostile in [list, text, merged, mapping] {
        let s = Sandbox::new(Backend::Sqlite);
        s.set_jobs(&(hostile + "jobs: {a: {command: x, nonsense: 1}}\n"));
        let limit = within(200);
        let words: Vec<&str> = limit.iter().map(String::as_str).collect();
        s.duly(["check"])
            .under(&words)
            .stderr_has("its aliases (*name) stand for more than 200,000 values or 8 MiB of text; write out what is needed")
            .status(2);
    }
}

/// Each of these is as large as its own text, and its mistake is told with its line.
#[test]
fn deep_wide_and_much_merged_files_are_read_and_their_mistakes_told_in_little_memory() {
    let deep = format!("{}{}1{}\n", "x-a: ", "[".repeat(100), "]".repeat(100));
    let wide = format!("x-{}:\n{}", "k".repeat(1_000), "  - 1\n".repeat(16_000));
    let merged = repeated(2_000, |n| format!("  j{n}:\n    <<: *d\n    command: 'true'\n"));
    let merged = format!(
        "x-d: &d {{timeout: 1h, env: {{A: b, C: d}}, max_attempts: 3}}\njobs:\n{merged}  z: {{nonsense: 1}}\n"
    );
    for (text, mistake) in [
        (deep + "nonsense: 1\n", ":2: nonsense: unknown key"),
        (wide + "nonsense: 1\n", ":16002: nonsense: unknown key"),
        (merged, ":6003: jobs.z.nonsense: unknown key"),
    ] {
        let s = Sandbox::new(Backend::Sqlite);
        s.set_jobs(&text);
        let limit = within(200);
        let words: Vec<&str> = limit.iter().map(String::as_str).collect();
        s.duly(["check"]).under(&words).stderr_has(mistake).status(2);
    }
}
