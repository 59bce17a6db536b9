//! Schemas of other people, right and wrong: what `apache-avro` makes of them, behind what stands in front of it.

use super::sample::cases;
use crate::wire::avro::published::TOPICS;
use crate::wire::avro::schema_text::{fingerprint, parse_all};
use crate::wire::avro::{Codec, Error, Values, parse_schema};
use proptest::prelude::*;
use serde_json::{Value, json};

fn said(texts: &[impl AsRef<str>]) -> String {
    let both = [parse_all(texts, false), parse_all(texts, true)].map(|parsed| match parsed {
        Err(Error::Schema(reason)) => reason,
        other => panic!("{other:?}"),
    });
    assert_eq!(both[0], both[1]);
    both[0].clone()
}

/// From the specification's own list, `share/test/data/schema-tests.txt` in the Avro project.
#[test]
fn fingerprints_are_those_of_the_specification() {
    let of = |text| fingerprint(&parse_schema(text).unwrap());
    assert_eq!(of("\"null\""), 7195948357588979594);
    assert_eq!(of("\"boolean\""), -6970731678124411036i64 as u64);
    assert_eq!(of(r#"{"name":"foo","type":"fixed","size":15}"#), 1756455273707447556);
}

#[test]
fn the_canonical_form_has_nothing_that_readers_do_not_need() {
    let text = r#"{"type": "record", "name": "R", "namespace": "a.b", "doc": "d", "aliases": ["S"], "order": 1, "fields": [
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}, "default": 0, "size": "big", "order": "ignore"},
        {"name": "sum", "type": {"type": "bytes", "logicalType": "decimal", "precision": 4, "scale": 2}},
        {"name": "id", "type": {"type": "fixed", "name": "c.F", "size": 16, "logicalType": "uuid", "precision": "x"}},
        {"name": "kind", "type": {"type": "enum", "name": "K", "symbols": ["A"], "default": "A"}},
        {"name": "more", "type": {"type": "array", "items": {"type": {"type": "map", "values": "R"}}, "java-class": "L"}},
        {"name": "other", "type": ["null", "c.F"]}]}"#;
    assert_eq!(
        parse_schema(text).unwrap().canonical_form(),
        concat!(
            r#"{"name":"a.b.R","type":"record","fields":[{"name":"at","type":"long"},{"name":"sum","type":"bytes"},"#,
            r#"{"name":"id","type":{"name":"c.F","type":"fixed","size":16}},"#,
            r#"{"name":"kind","type":{"name":"a.b.K","type":"enum","symbols":["A"]}},"#,
            r#"{"name":"more","type":{"type":"array","items":{"type":"map","values":"a.b.R"}}},"#,
            r#"{"name":"other","type":["null","c.F"]}]}"#
        )
    );
}

/// The crate refuses them, or panics, or takes them for something else.
#[test]
fn what_readers_do_not_need_is_no_reason_to_refuse_a_schema() {
    for (schema, body, json) in [
        // Letters of any language, as in Java.
        (
            json!({"type": "record", "name": "Straße", "fields": [{"name": "größe-1", "type": "int"}]}),
            "\x02",
            r#"{"größe-1":1}"#,
        ),
        (json!({"type": "enum", "name": "E", "symbols": ["Ä"], "default": "gone"}), "\0", "\"Ä\""),
        // Defaults that don't fit, and such as the crate can't convert.
        (
            json!({"type": "record", "name": "R", "fields": [
                {"name": "a", "type": ["null", "string"], "default": "null"},
                {"name": "b", "type": {"type": "bytes", "logicalType": "decimal", "precision": 2}, "default": "\u{1}"},
                {"name": "c", "type": "int", "default": "0"}]}),
            "\0\x02\x01\x02",
            r#"{"a":null,"b":"1","c":1}"#,
        ),
        // Logical types that don't fit.
        (json!({"type": "record", "name": "R", "logicalType": "date", "fields": []}), "", "{}"),
        (
            json!({"type": "fixed", "name": "F", "size": 1, "logicalType": "duration", "default": "xyz"}),
            "a",
            "\"YQ==\"",
        ),
        (json!({"type": "int", "logicalType": 7}), "\x02", "1"),
        (
            json!({"type": "record", "name": "R", "fields": [{"name": "a", "type": "long", "logicalType": "date"}]}),
            "\x02",
            r#"{"a":1}"#,
        ),
        // Two of one logical type with names of their own, and one that is named later.
        (
            json!([{"type": "fixed", "name": "F", "size": 16, "logicalType": "uuid"},
                {"type": "fixed", "name": "G", "size": 16, "logicalType": "uuid"},
                {"type": "array", "items": "G"}]),
            "\x020123456789abcdef",
            "\"30313233-3435-3637-3839-616263646566\"",
        ),
        (json!({"type": {"type": "int", "x": 1}, "logicalType": "date"}), "\0", "\"1970-01-01\""),
        // A type of no namespace, within one of a namespace.
        (
            json!({"type": "record", "name": "a.R", "fields": [{"name": "l", "type": {"type": "record", "name": "L", "namespace": "",
                "fields": [{"name": "next", "type": ["null", "L"]}]}}]}),
            "\x02\0",
            r#"{"l":{"next":{"next":null}}}"#,
        ),
    ] {
        let values = Values::new(&[schema.to_string()]).unwrap_or_else(|error| panic!("{schema}: {error}"));
        assert_eq!(values.to_json(body.as_bytes()).as_deref(), Ok(json), "{schema}");
        let fingerprint = fingerprint(&parse_schema(&schema.to_string()).unwrap());
        assert_ne!(fingerprint, 0);
    }
}

#[test]
fn a_schema_that_is_none_says_what_is_wrong() {
    for (text, part) in [
        ("{\"type\": \"int\"", "Expected JSON"),
        ("3", "found 3"),
        ("{}", "Expected \"type\""),
        ("\"Unknown\"", "Unknown is not defined"),
        (r#"{"type": "array"}"#, "Expected \"items\""),
        (r#"{"type": "map"}"#, "Expected \"values\""),
        (r#"{"type": "record", "name": "R"}"#, "Expected \"fields\" in record R"),
        (r#"{"type": "record", "name": "R", "fields": {}}"#, "list of the fields of record R"),
        (r#"{"type": "record", "name": "R", "fields": [7]}"#, "field of record R to be an object, but found 7"),
        (
            r#"{"type": "record", "name": "R", "fields": [{"name": "a"}]}"#,
            "Expected \"type\" in each field of record R",
        ),
        (r#"{"type": "record", "name": "R", "fields": [{"type": "int"}]}"#, "name"),
        (r#"{"type": "record", "fields": []}"#, "name"),
        (r#"{"type": "enum", "name": "E"}"#, "Expected \"symbols\" in enum E"),
        (r#"{"type": "enum", "name": "E", "symbols": [1]}"#, "enum"),
        (r#"{"type": "fixed", "name": "F"}"#, "Expected \"size\" in fixed F"),
        (r#"{"type": "fixed", "name": "F", "size": -1}"#, "-1"),
        // An alias is no name that may be referred to.
        (
            r#"["null", {"type": "record", "name": "R", "aliases": ["S"], "fields": [{"name": "s", "type": "S"}]}]"#,
            "S is not defined",
        ),
        (
            r#"[{"type": "fixed", "name": "F", "size": 1}, {"type": "enum", "name": "F", "symbols": []}]"#,
            "one definition of F",
        ),
        (
            r#"{"type": "record", "name": "n.R", "fields": [{"name": "r", "type": {"type": "record", "name": "R", "fields": []}}]}"#,
            "one definition of n.R",
        ),
    ] {
        let said = said(&[text]);
        assert!(said.contains(part), "{text}: {said}");
    }
    let long = json!({"type": "fixed", "name": "F", "size": "x".repeat(1_000_000)}).to_string();
    assert!(said(&[long]).len() < 1_000);
    // One schema's names are another's, in their order.
    let (fixed, array) = (r#"{"type": "fixed", "name": "a.F", "size": 1}"#, r#"{"type": "array", "items": "a.F"}"#);
    assert_eq!(parse_all(&[fixed, array], false).unwrap().len(), 2);
    assert!(said(&[array, fixed]).contains("a.F is not defined"));
    assert!(said(&[fixed, fixed]).contains("one definition of a.F"));
}

#[test]
fn nesting_is_bounded_and_so_is_what_nesting_costs() {
    for (open, close) in [
        ("[", "]"),
        (r#"{"type":"array","items":"#, "}"),
        (r#"{"type":"map","values":"#, "}"),
        (r#"{"type":"#, "}"),
        (r#"{"type":"record","name":"R","fields":[{"name":"f","type":"#, "}]}"),
    ] {
        for depth in [30, 98, 110, 5_000, 200_000] {
            let text = format!("{}\"int\"{}", open.repeat(depth), close.repeat(depth));
            let parsed = parse_schema(&text);
            assert!(parsed.is_ok() || depth > 98 || open.starts_with('[') || open.contains("record"), "{open} {depth}");
            assert!(depth <= 100 || parsed.is_err(), "{open} {depth}");
        }
    }
    // As deep as the JSON can be.
    let record = |depth: usize, innermost: &str| {
        (0..depth).fold(innermost.to_owned(), |inner, at| {
            format!(r#"{{"type":"record","name":"R{at}","fields":[{{"name":"f","type":{inner}}}]}}"#)
        })
    };
    Values::new(&[record(40, "\"int\"")]).unwrap().to_json(b"\x02").unwrap();
    // Large is fine, and so is deep, but not both.
    let symbols: Vec<_> = (0..150_000).map(|at| format!("SYMBOL_{at}")).collect();
    let large = json!({"type": "enum", "name": "E", "symbols": symbols}).to_string();
    assert!(large.len() > 2 << 20 && parse_schema(&large).is_ok());
    assert!(said(&[record(40, &large)]).contains("Expected a smaller schema"));
}

#[test]
fn published_schemas_have_the_fingerprints_of_their_texts() {
    for (topic, message) in TOPICS {
        let path = format!("{}/schemas/{topic}.avsc", env!("CARGO_MANIFEST_DIR"));
        let parsed = super::sample::schema(&std::fs::read_to_string(path).unwrap());
        assert_eq!(fingerprint(&parsed), Codec::of(message).fingerprint(), "{topic}");
    }
}

/// JSON of the words that schemas are made of, at wrong places for the most part.
fn schema_like() -> impl Strategy<Value = Value> {
    let words =
        "null|int|long|string|bytes|record|enum|fixed|array|map|R|n\\.R|\\.R|R\\.|ö ü||decimal|uuid|duration|date|7";
    let leaf = prop_oneof![
        4 => words.prop_map(Value::from),
        1 => any::<i64>().prop_map(Value::from),
        1 => Just(Value::Null),
    ];
    let keys =
        "type|name|namespace|fields|items|values|symbols|size|logicalType|precision|scale|default|aliases|order|doc";
    leaf.prop_recursive(6, 60, 6, move |inner| {
        let field = (words, inner.clone(), inner.clone())
            .prop_map(|(name, schema, default)| json!({"name": name, "type": schema, "default": default}));
        let record = (words, proptest::collection::vec(field, 0..4))
            .prop_map(|(name, fields)| json!({"type": "record", "name": name, "fields": fields, "aliases": ["A", ""]}));
        let fixed = (words, words, 0u32..20).prop_map(
            |(name, logical, size)| json!({"type": "fixed", "name": name, "size": size, "logicalType": logical, "precision": 3}),
        );
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::hash_map(keys, inner.clone(), 0..6).prop_map(|map| Value::Object(map.into_iter().collect())),
            record,
            fixed,
            inner.clone().prop_map(|items| json!({"type": "array", "items": items})),
            (words, words).prop_map(|(kind, logical)| json!({"type": kind, "logicalType": logical, "scale": 1, "precision": 4})),
        ]
    })
}

proptest! {
    #![proptest_config(cases(1024))]

    #[test]
    fn no_schema_makes_it_panic(schemas in proptest::collection::vec(schema_like(), 1..4)) {
        let texts: Vec<_> = schemas.iter().map(Value::to_string).collect();
        if let Ok(schemas) = parse_all(&texts, false) {
            for schema in &schemas {
                let canonical = schema.canonical_form();
                // Those of earlier schemas may be named in it.
                if schemas.len() == 1 && !canonical.contains('\\') {
                    prop_assert_eq!(parse_schema(&canonical).map(|again| again.canonical_form()), Ok(canonical));
                }
            }
        }
        if let Ok(values) = Values::new(&texts) {
            let _ = values.to_json(&[2; 100]);
            let _ = values.read_json(&json!({"a": 1}));
        }
        let _ = Codec::of("millrace.events.Request").reader(&texts);
    }
}
