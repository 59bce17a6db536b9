//! Messages as JSON for people to read: enums by name, times in RFC 3339, payloads as the data that they hold.
//!
//! Not meant to be read back: a plain JSON payload stands as its data alone, and what is unset is left out.

use super::Error;
use super::cursor::{DELIMITED, DEPTH_MAX, FIXED32, FIXED64, Input, Raw};
use super::encode::{nanoseconds, wire_type};
use super::plan::{Cardinality, Field, Kind, Plan};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Map, Value, json};

pub(super) fn render_root(plan: &Plan, message: &[u8]) -> Result<Value, Error> {
    render(plan, 0, message, 0)
}

fn render(plan: &Plan, index: u16, message: &[u8], depth: u32) -> Result<Value, Error> {
    if depth > DEPTH_MAX {
        return Err(Error::TooDeep);
    }
    let fields = fields(plan, index, message, depth)?;
    Ok(match plan.message(index).full_name.as_str() {
        "temporal.api.common.v1.Payloads" => fields.get("payloads").cloned().unwrap_or_else(|| json!([])),
        "temporal.api.common.v1.Payload" => payload(message)?,
        "google.protobuf.Duration" => duration(&fields),
        _ => Value::Object(fields),
    })
}

fn fields(plan: &Plan, index: u16, message: &[u8], depth: u32) -> Result<Map<String, Value>, Error> {
    let mut fields = Map::new();
    let mut input = Input::new(message);
    while !input.is_at_end() {
        let raw = Raw::read(&mut input)?;
        let Some(place) = plan.message(index).index_of(raw.tag) else { continue };
        let field = &plan.message(index).fields[place];
        match field.cardinality {
            Cardinality::Implicit | Cardinality::Nullable => {
                let value = value(plan, field.kind, message, raw, depth)?;
                fields.insert(field.name.clone(), value);
            }
            Cardinality::Repeated => {
                let items = fields.entry(field.name.clone()).or_insert_with(|| json!([]));
                let items = items.as_array_mut().expect("Only this arm writes a repeated field");
                append_items(plan, field, message, raw, depth, items)?;
            }
            Cardinality::Map => {
                let (key, value) = entry(plan, field, message, raw, depth)?;
                let entries = fields.entry(field.name.clone()).or_insert_with(|| json!({}));
                entries.as_object_mut().expect("Only this arm writes a map").insert(key, value);
            }
        }
    }
    Ok(fields)
}

fn append_items(
    plan: &Plan,
    field: &Field,
    message: &[u8],
    raw: Raw,
    depth: u32,
    items: &mut Vec<Value>,
) -> Result<(), Error> {
    let wire_type = wire_type(field.kind);
    if raw.wire_type != DELIMITED || wire_type == DELIMITED {
        items.push(value(plan, field.kind, message, raw, depth)?);
        return Ok(());
    }
    let mut packed = Input::new(raw.body(message));
    while !packed.is_at_end() {
        let number = match wire_type {
            FIXED32 => u64::from(u32::from_le_bytes(packed.array()?)),
            FIXED64 => u64::from_le_bytes(packed.array()?),
            _ => packed.varint()?,
        };
        items.push(value(plan, field.kind, message, Raw { wire_type, number, ..raw }, depth)?);
    }
    Ok(())
}

fn entry(plan: &Plan, field: &Field, message: &[u8], raw: Raw, depth: u32) -> Result<(String, Value), Error> {
    let (mut key, mut found) = (String::new(), Value::Null);
    if raw.wire_type == DELIMITED {
        let entry = raw.body(message);
        let mut input = Input::new(entry);
        while !input.is_at_end() {
            let raw = Raw::read(&mut input)?;
            match raw.tag {
                1 if raw.wire_type == DELIMITED => key = String::from_utf8_lossy(raw.body(entry)).into_owned(),
                2 => found = value(plan, field.kind, entry, raw, depth)?,
                _ => {}
            }
        }
    }
    Ok((key, found))
}

fn value(plan: &Plan, kind: Kind, message: &[u8], raw: Raw, depth: u32) -> Result<Value, Error> {
    if raw.wire_type != wire_type(kind) {
        return Err(Error::Invalid { offset: raw.number as usize, expected: "the wire type of the field's kind" });
    }
    let number = raw.number;
    Ok(match kind {
        Kind::Bool => Value::from(number != 0),
        Kind::Int32 | Kind::Sfixed32 => Value::from(number as i32),
        Kind::Int64 | Kind::Sfixed64 => Value::from(number as i64),
        Kind::Uint32 | Kind::Fixed32 => Value::from(number as u32),
        Kind::Uint64 | Kind::Fixed64 => Value::from(number),
        Kind::Sint32 | Kind::Sint64 => Value::from((number >> 1) as i64 ^ -((number & 1) as i64)),
        Kind::Float => float(f64::from(f32::from_bits(number as u32))),
        Kind::Double => float(f64::from_bits(number)),
        Kind::Enum(index) => match plan.enums[index as usize].names.get(&(number as i32)) {
            Some(name) => Value::from(name.as_str()),
            None => Value::from(number as i32),
        },
        Kind::String => Value::from(String::from_utf8_lossy(raw.body(message))),
        Kind::Bytes => blob(raw.body(message)),
        Kind::Message(index) => render(plan, index, raw.body(message), depth + 1)?,
        Kind::Timestamp => {
            let time = chrono::DateTime::from_timestamp_nanos(nanoseconds(raw.body(message))?);
            Value::from(time.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true))
        }
    })
}

/// JSON has no literal for what is not finite.
fn float(number: f64) -> Value {
    serde_json::Number::from_f64(number).map_or_else(|| Value::from(number.to_string()), Value::Number)
}

/// Text as it is, anything else as `{"base64": "…"}`.
fn blob(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.contains(|c: char| c.is_control() && !c.is_whitespace()) => Value::from(text),
        _ => json!({ "base64": BASE64.encode(bytes) }),
    }
}

/// As in protobuf's own JSON: `1.500s`.
fn duration(fields: &Map<String, Value>) -> Value {
    let part = |name| fields.get(name).and_then(Value::as_i64).unwrap_or(0);
    let (seconds, nanos) = (part("seconds"), part("nanos"));
    let sign = if seconds < 0 || nanos < 0 { "-" } else { "" };
    let whole = format!("{sign}{}", seconds.unsigned_abs());
    match nanos.unsigned_abs() {
        0 => Value::from(format!("{whole}s")),
        nanos if nanos % 1_000_000 == 0 => Value::from(format!("{whole}.{:03}s", nanos / 1_000_000)),
        nanos => Value::from(format!("{whole}.{nanos:09}s")),
    }
}

/// Plain JSON is shown as its data, nothing as null; of others the metadata names what the data is.
fn payload(message: &[u8]) -> Result<Value, Error> {
    let (mut metadata, mut data) = (Map::new(), &[][..]);
    let mut input = Input::new(message);
    while !input.is_at_end() {
        let raw = Raw::read(&mut input)?;
        match (raw.tag, raw.wire_type) {
            (1, DELIMITED) => {
                let (key, value) = metadata_entry(raw.body(message))?;
                metadata.insert(key, value);
            }
            (2, DELIMITED) => data = raw.body(message),
            _ => {}
        }
    }
    let encoding = metadata.get("encoding").and_then(Value::as_str).unwrap_or_default();
    let parsed = if encoding.starts_with("json/") { serde_json::from_slice(data).ok() } else { None };
    Ok(match (encoding, parsed) {
        ("json/plain", Some(data)) if metadata.len() == 1 => data,
        ("binary/null", _) if metadata.len() == 1 && data.is_empty() => Value::Null,
        (_, parsed) => {
            let data = parsed.unwrap_or_else(|| blob(data));
            json!({ "metadata": metadata, "data": data })
        }
    })
}

fn metadata_entry(entry: &[u8]) -> Result<(String, Value), Error> {
    let mut input = Input::new(entry);
    let (mut key, mut value) = (String::new(), Value::from(""));
    while !input.is_at_end() {
        let raw = Raw::read(&mut input)?;
        match (raw.tag, raw.wire_type) {
            (1, DELIMITED) => key = String::from_utf8_lossy(raw.body(entry)).into_owned(),
            (2, DELIMITED) => value = blob(raw.body(entry)),
            _ => {}
        }
    }
    Ok((key, value))
}
