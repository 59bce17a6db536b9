//! `schemas/<topic>.avsc` is a promise: it is what we write, and nothing in it is ever taken back.

use crate::wire::avro::framing::fingerprint;
use crate::wire::avro::published::TOPICS;
use crate::wire::avro::{Codec, Record, Schema};
use std::collections::BTreeMap;
use std::{env, fs, path::PathBuf};

fn path(topic: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("schemas").join(format!("{topic}.avsc"))
}

#[test]
fn published_schemas_are_those_that_are_written() {
    for (topic, message) in TOPICS {
        let generated = Codec::of(message).schema_json();
        let committed = fs::read_to_string(path(topic)).unwrap_or_default();
        if committed == generated {
            continue;
        }
        assert!(
            env::var_os("MILLRACE_UPDATE_SCHEMAS").is_some(),
            "Expected schemas/{topic}.avsc to be the schema generated from {message}, but it differs. If the message was meant to \
             change, run this test again with MILLRACE_UPDATE_SCHEMAS=1 and commit the new file. If records of the old schema are \
             on anyone's topics, keep the old file as schemas/earlier/{topic}.<fingerprint>.avsc and list it in `EARLIER`."
        );
        if !committed.is_empty() {
            assert_only_additions(topic, &committed, &generated);
        }
        fs::write(path(topic), generated).unwrap();
    }
}

#[test]
fn records_of_the_published_schemas_stay_readable() {
    for (topic, message) in TOPICS {
        let committed = fs::read_to_string(path(topic)).unwrap_or_else(|error| panic!("schemas/{topic}.avsc: {error}"));
        assert_only_additions(topic, &committed, &Codec::of(message).schema_json());
        let learnt = Codec::of(message).learn(&committed).unwrap();
        assert_eq!(learnt, fingerprint(&Schema::parse(&committed).unwrap().canonical()));
    }
}

#[test]
fn a_printed_schema_is_parsed_back() {
    for (_, message) in TOPICS {
        let schema = Codec::of(message).schema();
        assert_eq!(&Schema::parse(&schema.pretty()).unwrap(), schema);
    }
}

/// Stricter than Avro's own rules: a record keeps its name, a field its name, type and default; only fields and records come.
fn assert_only_additions(topic: &str, old: &str, new: &str) {
    let (old, new) = (Schema::parse(old).unwrap(), Schema::parse(new).unwrap());
    let (mut before, mut after) = (BTreeMap::new(), BTreeMap::new());
    records(&old, &mut before);
    records(&new, &mut after);
    for (name, record) in before {
        let now =
            after.get(name).unwrap_or_else(|| panic!("Expected {topic} to keep the record {name}, but it is gone"));
        for field in &record.fields {
            let kept = now.fields.iter().find(|candidate| candidate.name == field.name);
            let kept = kept.unwrap_or_else(|| panic!("Expected {topic} to keep {name}.{}, but it is gone", field.name));
            assert_eq!(shape(&kept.schema), shape(&field.schema), "{topic}: the type of {name}.{} changed", field.name);
            assert_eq!(kept.default, field.default, "{topic}: the default of {name}.{} changed", field.name);
        }
        assert!(
            now.fields.iter().all(|field| field.default.is_some()),
            "{topic}: every field of {name} needs a default"
        );
    }
}

fn records<'a>(schema: &'a Schema, found: &mut BTreeMap<&'a str, &'a Record>) {
    match schema {
        Schema::Array(inner) | Schema::Map(inner) => records(inner, found),
        Schema::Union(branches) => branches.iter().for_each(|branch| records(branch, found)),
        Schema::Record(record) => {
            found.insert(&record.name, record);
            record.fields.iter().for_each(|field| records(&field.schema, found));
        }
        _ => {}
    }
}

/// A field's type with records by name: where a record stands in full depends on who uses it first.
fn shape(schema: &Schema) -> Schema {
    match schema {
        Schema::Array(inner) => Schema::Array(Box::new(shape(inner))),
        Schema::Map(inner) => Schema::Map(Box::new(shape(inner))),
        Schema::Union(branches) => Schema::Union(branches.iter().map(shape).collect()),
        Schema::Record(record) => Schema::Ref(record.name.clone()),
        other => other.clone(),
    }
}
