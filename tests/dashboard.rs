//! `contrib/`: what the dashboard and the alerts ask for is what `duly metrics` gives, names and labels.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::support::{Backend, Sandbox};

fn shipped(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// Every metric that `duly metrics` gives where something of everything has happened, with the labels of its samples.
fn given() -> BTreeMap<String, BTreeSet<String>> {
    let s = Sandbox::new(Backend::Sqlite);
    s.set_jobs(
        "lost_orders: {send: {command: ['true']}}\njobs:\n  good: {command: ['true'], schedule: '0 3 * * *'}\n  long: {command: [sleep, '1.2']}\n  later: {command: ['true']}\n",
    );
    s.duly(["enqueue", "later", "--in", "1h"]).stdout_has("").status(0);
    for name in ["good", "long"] {
        s.duly(["start", name]).stdout_has("").status(0);
    }
    s.duly(["pause", "later"]).stdout_has("").status(0);
    s.database().sql("CREATE TABLE sessions (sess_id VARCHAR(50) PRIMARY KEY, sess_time INTEGER)");
    s.duly(["sessions", "write-stat"]).status(0);
    s.duly(["run"]).status(0);
    let text = s.duly(["metrics"]).stdout_has("duly_up 1").status(0).stdout;
    let mut given: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in text.lines() {
        if let Some(family) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split(' ').next()) {
            given.entry(family.to_owned()).or_default();
        } else if !line.starts_with('#') {
            let (name, labels) = line.split_once('{').unwrap_or((line.split(' ').next().unwrap(), ""));
            let labels = labels.split("\",").filter_map(|label| Some(label.split_once('=')?.0.to_owned()));
            given.entry(name.to_owned()).or_default().extend(labels);
        }
    }
    given
}

/// The metrics in a query, each with the labels that it is selected by.
fn asked(query: &str) -> Vec<(String, Vec<String>)> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut found = Vec::new();
    for (at, _) in query.match_indices("duly_").filter(|(at, _)| !query[..*at].ends_with(is_word)) {
        let name: String = query[at..].chars().take_while(|c| is_word(*c)).collect();
        let rest = &query[at + name.len()..];
        let selector = rest.strip_prefix('{').and_then(|rest| rest.split('}').next()).unwrap_or_default();
        let labels = selector.split(',').filter(|part| !part.is_empty());
        found.push((
            name,
            labels.map(|label| label.split(['=', '!']).next().unwrap().trim().to_owned()).collect(),
        ));
    }
    found
}

/// What a query asks for that is not given; `instance` is Prometheus' own.
fn wanting(query: &str, given: &BTreeMap<String, BTreeSet<String>>) -> Vec<String> {
    let asked = asked(query);
    let mut wanting = Vec::new();
    if asked.is_empty() {
        wanting.push(format!("no metric of Duly in `{query}`"));
    }
    for (name, labels) in asked {
        match given.get(&name) {
            None => wanting.push(format!("no `{name}` for `{query}`")),
            Some(has) if has.is_empty() => {}
            Some(has) => wanting.extend(
                labels
                    .into_iter()
                    .filter(|label| label != "instance" && !has.contains(label))
                    .map(|label| format!("no `{label}` of `{name}` for `{query}`")),
            ),
        }
    }
    wanting
}

/// Everything called `key` anywhere in a value.
fn all_of(value: &Value, key: &str, into: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            into.extend(map.get(key).and_then(Value::as_str).map(str::to_owned));
            map.values().for_each(|value| all_of(value, key, into));
        }
        Value::Array(list) => list.iter().for_each(|value| all_of(value, key, into)),
        _ => {}
    }
}

/// Seen failing with a name misspelt in the dashboard, and with a label that its metric lacks in an alert.
#[test]
fn every_query_names_a_metric_that_there_is() {
    let given = given();
    assert!(given.len() > 20, "{given:?}");
    let dashboard: Value = serde_json::from_str(&shipped("contrib/grafana/dashboard.json")).unwrap();
    let alerts: Value = serde_yaml::from_str(&shipped("contrib/prometheus/alerts.yaml")).unwrap();
    let mut queries = Vec::new();
    all_of(&dashboard["panels"], "expr", &mut queries);
    let of_panels = queries.len();
    all_of(&alerts, "expr", &mut queries);
    assert!(of_panels >= 20 && queries.len() >= of_panels + 10, "{} queries", queries.len());
    let mut variables = Vec::new();
    all_of(&dashboard["templating"], "definition", &mut variables);
    let amiss: Vec<String> =
        queries.iter().chain(&variables).flat_map(|query| wanting(query, &given)).collect();
    assert!(amiss.is_empty(), "{}", amiss.join("\n"));

    assert_eq!(
        wanting("sum(duly_gone{name=\"a\"})", &given),
        ["no `duly_gone` for `sum(duly_gone{name=\"a\"})`"]
    );
    assert_eq!(wanting("duly_up == vector(1) + up", &given), [""; 0]);
    assert_eq!(wanting("duly_jobs_ended_total{queue=\"a\"}", &given).len(), 1);
    assert_eq!(wanting("up", &given).len(), 1);
    // And all that is given is shown somewhere, but for what never changes.
    let shown: BTreeSet<String> =
        queries.iter().flat_map(|query| asked(query)).map(|(name, _)| name).collect();
    let unseen: Vec<&String> = given
        .keys()
        .filter(|name| !shown.contains(*name) && !shown.contains(&format!("{name}_bucket")))
        .collect();
    assert_eq!(unseen, ["duly_info", "duly_schema_version"]);
}
