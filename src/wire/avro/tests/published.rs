//! `schemas/<topic>.avsc` is a promise: it is what we write, and nothing in it is ever taken back.

use crate::wire::avro::published::TOPICS;
use crate::wire::avro::schema_text::{default, fingerprint, pretty};
use crate::wire::avro::{Codec, Schema, parse_schema};
use apache_avro::schema::{RecordSchema, UnionSchema};
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
        assert_eq!(learnt, fingerprint(&parse_schema(&committed).unwrap()));
    }
}

#[test]
fn a_printed_schema_is_parsed_back() {
    for (_, message) in TOPICS {
        let schema = Codec::of(message).schema();
        let parsed = parse_schema(&pretty(schema)).unwrap();
        assert_eq!(&parsed, schema);
        // Docs and defaults too, which are no part of being equal.
        assert_eq!(pretty(&parsed), pretty(schema));
    }
}

/// Stricter than Avro's own rules: a record keeps its name, a field its name, type and default; only fields and records come.
fn assert_only_additions(topic: &str, old: &str, new: &str) {
    let (old, new) = (parse_schema(old).unwrap(), parse_schema(new).unwrap());
    let (mut before, mut after) = (BTreeMap::new(), BTreeMap::new());
    records(&old, &mut before);
    records(&new, &mut after);
    for (name, record) in before {
        let now =
            after.get(&name).unwrap_or_else(|| panic!("Expected {topic} to keep the record {name}, but it is gone"));
        for field in &record.fields {
            let kept = now.fields.iter().find(|candidate| candidate.name == field.name);
            let kept = kept.unwrap_or_else(|| panic!("Expected {topic} to keep {name}.{}, but it is gone", field.name));
            assert_eq!(shape(&kept.schema), shape(&field.schema), "{topic}: the type of {name}.{} changed", field.name);
            assert_eq!(default(kept), default(field), "{topic}: the default of {name}.{} changed", field.name);
        }
        assert!(
            now.fields.iter().all(|field| default(field).is_some()),
            "{topic}: every field of {name} needs a default"
        );
    }
}

fn records<'a>(schema: &'a Schema, found: &mut BTreeMap<String, &'a RecordSchema>) {
    match schema {
        Schema::Array(array) => records(&array.items, found),
        Schema::Map(map) => records(&map.types, found),
        Schema::Union(union) => union.variants().iter().for_each(|branch| records(branch, found)),
        Schema::Record(record) => {
            found.insert(record.name.fullname(None), record);
            record.fields.iter().for_each(|field| records(&field.schema, found));
        }
        _ => {}
    }
}

/// A field's type with records by name: where a record stands in full depends on who uses it first.
fn shape(schema: &Schema) -> Schema {
    match schema {
        Schema::Array(array) => Schema::array(shape(&array.items)),
        Schema::Map(map) => Schema::map(shape(&map.types)),
        Schema::Union(union) => Schema::Union(UnionSchema::new(union.variants().iter().map(shape).collect()).unwrap()),
        Schema::Record(record) => Schema::Ref { name: record.name.clone() },
        other => other.clone(),
    }
}
