//! Tests that what is in `deploy/` speaks of metrics that there are, and that metrics are named as they should be.

use std::collections::{BTreeMap, BTreeSet};

use prometheus::proto::MetricType;

use super::families;

const RULES: &str = include_str!("../../deploy/prometheus/rules.yml");
const SCRAPE: &str = include_str!("../../deploy/prometheus/prometheus.yml");
const DASHBOARD: &str = include_str!("../../deploy/grafana/millrace.json");

/// The names of all series, with their labels; `job` and `instance` are Prometheus' own.
fn series() -> BTreeMap<String, BTreeSet<&'static str>> {
    let mut series = BTreeMap::new();
    for family in families() {
        let labels: BTreeSet<_> = family.labels().iter().copied().chain(["job", "instance"]).collect();
        if family.metric_type() == MetricType::HISTOGRAM {
            let bucket = labels.iter().copied().chain(["le"]).collect();
            series.insert(format!("{}_bucket", family.name()), bucket);
            series.insert(format!("{}_sum", family.name()), labels.clone());
            series.insert(format!("{}_count", family.name()), labels);
        } else {
            series.insert(family.name().to_owned(), labels);
        }
    }
    series
}

/// The words of an expression: names of metrics, labels and functions.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':')).filter(|word| !word.is_empty())
}

/// The values of `expr:` in the rules, the folded ones in one line.
fn rule_expressions() -> Vec<String> {
    let mut expressions: Vec<String> = Vec::new();
    let mut block = false;
    for line in RULES.lines().map(str::trim) {
        if let Some(expression) = line.strip_prefix("expr: ") {
            block = expression == "|";
            expressions.push(if block { String::new() } else { expression.to_owned() });
        } else if line.starts_with("for: ") || line.starts_with("- ") || line.starts_with("labels: ") {
            block = false;
        } else if block {
            expressions.last_mut().expect("a block follows its key").push_str(&format!(" {line}"));
        }
    }
    expressions
}

/// The rules' recorded series, with the labels that the first part of their names lists.
fn recorded() -> BTreeMap<String, BTreeSet<&'static str>> {
    let names = RULES.lines().filter_map(|line| line.trim().strip_prefix("- record: "));
    let labels = |name: &'static str| name.split(':').next().unwrap_or_default().split('_').collect();
    names.map(|name| (name.to_owned(), labels(name))).collect()
}

/// The labels that an expression groups by or matches.
fn labels_of(expression: &str) -> BTreeSet<&str> {
    let mut labels = BTreeSet::new();
    for grouped in expression.split("by (").skip(1) {
        labels.extend(words(grouped.split(')').next().unwrap_or_default()));
    }
    for matched in expression.split('{').skip(1) {
        let inside = matched.split('}').next().unwrap_or_default();
        labels.extend(inside.split('"').step_by(2).flat_map(words));
    }
    labels
}

fn check(expression: &str, known: &BTreeMap<String, BTreeSet<&'static str>>) {
    let mut labels = BTreeSet::new();
    for name in words(expression).filter(|word| word.contains("millrace_")) {
        let Some(own) = known.get(name) else {
            panic!("Expected {name} to be a metric, but there is none of this name: {expression}")
        };
        labels.extend(own.iter().copied());
    }
    for label in labels_of(expression) {
        assert!(
            labels.contains(label) || expression.contains("up{"),
            "Expected {label} to be a label, but no metric has it: {expression}"
        );
    }
}

fn strings<'a>(value: &'a serde_json::Value, key: &str, found: &mut Vec<&'a str>) {
    match value {
        serde_json::Value::Object(fields) => fields.iter().for_each(|(name, value)| match value.as_str() {
            Some(text) if name == key => found.push(text),
            _ => strings(value, key, found),
        }),
        serde_json::Value::Array(values) => values.iter().for_each(|value| strings(value, key, found)),
        _ => {}
    }
}

fn dashboard_expressions() -> Vec<String> {
    let dashboard: serde_json::Value = serde_json::from_str(DASHBOARD).unwrap();
    let mut found = Vec::new();
    strings(&dashboard, "expr", &mut found);
    found.iter().map(|expression| expression.replace("$__rate_interval", "5m")).collect()
}

#[test]
fn rules_speak_of_metrics_that_there_are() {
    let mut known = series();
    known.extend(recorded());
    let expressions = rule_expressions();
    let rules =
        RULES.lines().filter(|line| line.trim().starts_with("- alert:") || line.trim().starts_with("- record:"));
    assert_eq!(expressions.len(), rules.count());
    for expression in expressions {
        check(&expression, &known);
    }
    assert!(SCRAPE.contains(&format!("127.0.0.1:{}", super::PORT_DEFAULT)));
}

#[test]
fn the_dashboard_shows_all_metrics_and_no_others() {
    let known = series();
    let expressions = dashboard_expressions();
    for expression in &expressions {
        check(expression, &known);
    }
    let shown: BTreeSet<_> = expressions.iter().flat_map(|expression| words(expression)).collect();
    for family in families() {
        let parts = [family.name().to_owned(), format!("{}_bucket", family.name()), format!("{}_count", family.name())];
        assert!(
            parts.iter().any(|name| shown.contains(name.as_str())),
            "Expected {} on the dashboard, but it isn't there",
            family.name()
        );
    }
}

#[test]
fn the_dashboard_can_be_imported() {
    let dashboard: serde_json::Value = serde_json::from_str(DASHBOARD).unwrap();
    assert!(dashboard["id"].is_null(), "Expected no id, but an import with one replaces another dashboard");
    let panels = dashboard["panels"].as_array().unwrap();
    let ids: BTreeSet<_> = panels.iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
    assert_eq!(ids.len(), panels.len());
    for panel in panels.iter().filter(|panel| panel["type"] != "row") {
        assert_eq!(panel["datasource"]["uid"], "${datasource}", "{}", panel["title"]);
    }
}

#[test]
fn names_carry_the_prefix_and_the_unit() {
    const UNITS: &[&str] =
        &["_seconds", "_bytes", "_offset", "_tasks", "_workflows", "_timers", "_requests", "_responses", "_messages"];
    const COUNTED: &[&str] = &[
        "_pollers",
        "_waiting_polls",
        "_clients",
        "_callbacks",
        "_threads",
        "_fds",
        "_info",
        "_version",
        "_requests_in_flight",
    ];
    for family in families() {
        let name = family.name();
        assert!(name.starts_with("millrace_"), "{name}");
        assert!(family.help().ends_with('.'), "{name}: {}", family.help());
        let suffixed = |suffixes: &[&str]| suffixes.iter().any(|suffix| name.ends_with(suffix));
        match family.metric_type() {
            MetricType::COUNTER => assert!(name.ends_with("_total"), "{name}"),
            MetricType::HISTOGRAM => assert!(name.ends_with("_seconds"), "{name}"),
            _ => assert!(suffixed(UNITS) || suffixed(COUNTED), "{name}"),
        }
    }
    let names: BTreeSet<_> = families().map(|family| family.name()).collect();
    assert_eq!(names.len(), families().count(), "a name is used twice");
}
