//! From JSON that a person or a small producer wrote to a message, with errors that name which field is wrong and what it
//! should be.
//!
//! A `temporal.api.common.v1.Payload` is any JSON: its text becomes the payload's data unchanged, so that no number loses
//! digits and no key its place. Bytes are base64, timestamps RFC 3339, enums their names or numbers.

use super::cursor::{DELIMITED, put_delimited, put_key, put_varint};
use super::encode::wire_type;
use super::plan::{Cardinality, Kind, Plan};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::collections::BTreeMap;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("Expected JSON, but {0}")]
    Json(String),
    #[error("Expected {field} to be {expected}, but found {found}")]
    Type { field: String, expected: String, found: String },
    #[error("Expected no field {field}; the fields here are {known}")]
    Unknown { field: String, known: String },
    #[error("Expected {field}, but it is missing or empty")]
    Missing { field: String },
}

pub(super) fn read(plan: &Plan, json: &[u8]) -> Result<Vec<u8>, Error> {
    let json: &RawValue = serde_json::from_slice(json).map_err(|error| Error::Json(error.to_string()))?;
    let mut out = Vec::with_capacity(json.get().len());
    Reader { plan }.message(0, Spot { path: "", json }, &mut out)?;
    Ok(out)
}

/// A value and where it stands.
#[derive(Clone, Copy)]
struct Spot<'a> {
    path: &'a str,
    json: &'a RawValue,
}

impl<'a> Spot<'a> {
    fn parse<T: Deserialize<'a>>(self, expected: &str) -> Result<T, Error> {
        serde_json::from_str(self.json.get()).map_err(|_| self.mismatch(expected))
    }

    fn mismatch(self, expected: &str) -> Error {
        let field = if self.path.is_empty() { "the record".to_owned() } else { self.path.to_owned() };
        Error::Type { field, expected: expected.to_owned(), found: self.found() }
    }

    /// What stands there, in a few words.
    fn found(self) -> String {
        let text = self.json.get();
        match text.as_bytes().first() {
            Some(b'{') => "an object".to_owned(),
            Some(b'[') => "an array".to_owned(),
            _ if text.chars().count() > 60 => format!("{}…", text.chars().take(60).collect::<String>()),
            _ => text.to_owned(),
        }
    }
}

struct Reader<'a> {
    plan: &'a Plan,
}

impl Reader<'_> {
    fn message(&self, index: u16, at: Spot, out: &mut Vec<u8>) -> Result<(), Error> {
        let plan = self.plan.message(index);
        if plan.full_name == "temporal.api.common.v1.Payload" {
            put_payload(at.json.get(), out);
            return Ok(());
        }
        let given: BTreeMap<String, &RawValue> = at.parse("an object")?;
        let mut chosen = BTreeMap::new();
        for (name, json) in given {
            let path = if at.path.is_empty() { name.clone() } else { format!("{}.{name}", at.path) };
            let Some(place) = plan.field_named(&name) else {
                let known: Vec<_> = plan.fields.iter().map(|field| field.name.as_str()).collect();
                return Err(Error::Unknown { field: path, known: known.join(", ") });
            };
            let field = &plan.fields[place];
            if let Some(other) = field.oneof.and_then(|oneof| chosen.insert(oneof, &field.name)) {
                let found = format!("{other} beside it");
                return Err(Error::Type { field: path, expected: "the only one of its kind".to_owned(), found });
            }
            let at = Spot { path: &path, json };
            match field.cardinality {
                Cardinality::Implicit | Cardinality::Nullable => self.value(field.kind, field.tag, at, out)?,
                Cardinality::Repeated => {
                    for (place, json) in at.parse::<Vec<&RawValue>>("an array")?.into_iter().enumerate() {
                        let path = format!("{path}[{place}]");
                        self.value(field.kind, field.tag, Spot { path: &path, json }, out)?;
                    }
                }
                Cardinality::Map => {
                    for (key, json) in at.parse::<BTreeMap<String, &RawValue>>("an object")? {
                        let path = format!("{path}.{key}");
                        put_key(out, field.tag, DELIMITED);
                        put_delimited(out, |out| {
                            put_bytes(1, key.as_bytes(), out);
                            self.value(field.kind, 2, Spot { path: &path, json }, out)
                        })?;
                    }
                }
            }
        }
        Ok(())
    }

    fn value(&self, kind: Kind, tag: u32, at: Spot, out: &mut Vec<u8>) -> Result<(), Error> {
        match kind {
            Kind::String => {
                put_bytes(tag, at.parse::<String>("a string")?.as_bytes(), out);
                return Ok(());
            }
            Kind::Bytes => {
                let text: String = at.parse("a string in base64")?;
                put_bytes(tag, &BASE64.decode(text).map_err(|_| at.mismatch("a string in base64"))?, out);
                return Ok(());
            }
            Kind::Message(index) => {
                put_key(out, tag, DELIMITED);
                return put_delimited(out, |out| self.message(index, at, out));
            }
            Kind::Timestamp => {
                let text: String = at.parse("a time in RFC 3339")?;
                let time =
                    chrono::DateTime::parse_from_rfc3339(&text).map_err(|_| at.mismatch("a time in RFC 3339"))?;
                let (seconds, nanos) = (time.timestamp(), time.timestamp_subsec_nanos());
                put_key(out, tag, DELIMITED);
                return put_delimited(out, |out| {
                    put_key(out, 1, 0);
                    put_varint(out, seconds as u64);
                    put_key(out, 2, 0);
                    put_varint(out, u64::from(nanos));
                    Ok(())
                });
            }
            _ => {}
        }
        put_key(out, tag, wire_type(kind));
        match kind {
            Kind::Float => out.extend_from_slice(&at.parse::<f32>("a number")?.to_le_bytes()),
            Kind::Double => out.extend_from_slice(&at.parse::<f64>("a number")?.to_le_bytes()),
            Kind::Fixed32 => {
                out.extend_from_slice(&at.parse::<u32>("a whole number from 0 to 2^32 - 1")?.to_le_bytes())
            }
            Kind::Sfixed32 => out.extend_from_slice(&at.parse::<i32>("a whole number of 32 bits")?.to_le_bytes()),
            Kind::Fixed64 => {
                out.extend_from_slice(&at.parse::<u64>("a whole number from 0 to 2^64 - 1")?.to_le_bytes())
            }
            Kind::Sfixed64 => out.extend_from_slice(&at.parse::<i64>("a whole number of 64 bits")?.to_le_bytes()),
            _ => put_varint(out, self.varint(kind, at)?),
        }
        Ok(())
    }

    fn varint(&self, kind: Kind, at: Spot) -> Result<u64, Error> {
        Ok(match kind {
            Kind::Bool => u64::from(at.parse::<bool>("true or false")?),
            Kind::Int32 => i64::from(at.parse::<i32>("a whole number of 32 bits")?) as u64,
            Kind::Int64 => at.parse::<i64>("a whole number of 64 bits")? as u64,
            Kind::Uint32 => u64::from(at.parse::<u32>("a whole number from 0 to 2^32 - 1")?),
            Kind::Uint64 => at.parse::<u64>("a whole number from 0 to 2^64 - 1")?,
            Kind::Sint32 | Kind::Sint64 => {
                let value = at.parse::<i64>("a whole number of 64 bits")?;
                ((value << 1) ^ (value >> 63)) as u64
            }
            Kind::Enum(index) => {
                let names = &self.plan.enums[index as usize].names;
                if let Ok(number) = at.parse::<i32>("a number") {
                    return Ok(i64::from(number) as u64);
                }
                let name: Option<String> = at.parse("a name").ok();
                let found = names.iter().find(|(_, known)| Some(*known) == name.as_ref());
                let list = || names.values().cloned().collect::<Vec<_>>().join(", ");
                i64::from(*found.ok_or_else(|| at.mismatch(&format!("one of {}", list())))?.0) as u64
            }
            _ => unreachable!("{kind:?} is no varint"),
        })
    }
}

fn put_bytes(tag: u32, bytes: &[u8], out: &mut Vec<u8>) {
    put_key(out, tag, DELIMITED);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn put_payload(json: &str, out: &mut Vec<u8>) {
    put_key(out, 1, DELIMITED);
    let entry: Result<(), std::convert::Infallible> = put_delimited(out, |out| {
        put_bytes(1, b"encoding", out);
        put_bytes(2, b"json/plain", out);
        Ok(())
    });
    entry.expect("It is infallible");
    put_bytes(2, json.as_bytes(), out);
}
