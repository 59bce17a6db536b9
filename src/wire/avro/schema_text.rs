//! Avro schemas as text: parsed, printed for people, and in the Parsing Canonical Form that fingerprints are taken of.

use super::Error;
use super::schema::{Logical, Record, RecordField, Schema, Unit};
use serde_json::{Map, Value};
use std::fmt::Write;

/// Deeper schemas are refused: parsing and compiling recurse.
const NESTING_MAX: usize = 100;
/// The most digits behind a decimal's point: each value is written with all of them.
pub(super) const SCALE_MAX: u64 = 1000;

impl Schema {
    pub fn parse(text: &str) -> Result<Schema, Error> {
        let mut parsed = Schema::parse_all(&[text], false)?;
        Ok(parsed.remove(0))
    }

    /// Several, each of which may name types of those before it. `logical`: what values mean is kept too.
    pub fn parse_all(texts: &[impl AsRef<str>], logical: bool) -> Result<Vec<Schema>, Error> {
        let mut parser = Parser { defined: vec![], logical };
        let parse = |text: &_| {
            let text: &str = AsRef::as_ref(text);
            let value = serde_json::from_str(text);
            let value: Value = value.map_err(|error| Error::Schema(format!("Expected JSON, but {error}")))?;
            parser.schema(&value, "", 0)
        };
        texts.iter().map(parse).collect()
    }

    /// The text that two schemas share when they read alike, whatever their docs and layout.
    pub fn canonical(&self) -> String {
        let mut out = String::new();
        canonical(self, &mut out);
        out
    }

    /// The schema as JSON for people: names first, one line for what is short.
    pub fn pretty(&self) -> String {
        let mut out = String::new();
        Printer { out: &mut out }.schema(self, "", 0);
        out.push('\n');
        out
    }

    /// The name of a type in a union, for messages.
    pub(super) fn type_name(&self) -> &str {
        match self {
            Schema::Null => "null",
            Schema::Boolean => "boolean",
            Schema::Int => "int",
            Schema::Long => "long",
            Schema::Float => "float",
            Schema::Double => "double",
            Schema::Bytes => "bytes",
            Schema::String => "string",
            Schema::Array(_) => "array",
            Schema::Map(_) => "map",
            Schema::Union(_) => "union",
            Schema::Fixed { name, .. } | Schema::Enum { name, .. } | Schema::Ref(name) => name,
            Schema::Record(record) => &record.name,
            Schema::Logical(_, base) => base.type_name(),
        }
    }
}

struct Parser {
    defined: Vec<String>,
    logical: bool,
}

impl Parser {
    fn schema(&mut self, value: &Value, namespace: &str, depth: usize) -> Result<Schema, Error> {
        if depth > NESTING_MAX {
            return Err(Error::Schema(format!("Expected at most {NESTING_MAX} levels of nesting")));
        }
        match value {
            Value::String(name) => self.named(name, namespace),
            Value::Array(branches) => {
                let branches = branches.iter().map(|branch| self.schema(branch, namespace, depth + 1));
                Ok(Schema::Union(branches.collect::<Result<_, _>>()?))
            }
            Value::Object(object) => self.complex(object, namespace, depth),
            other => Err(Error::Schema(format!("Expected a schema, but found {other}"))),
        }
    }

    fn named(&self, name: &str, namespace: &str) -> Result<Schema, Error> {
        Ok(match name {
            "null" => Schema::Null,
            "boolean" => Schema::Boolean,
            "int" => Schema::Int,
            "long" => Schema::Long,
            "float" => Schema::Float,
            "double" => Schema::Double,
            "bytes" => Schema::Bytes,
            "string" => Schema::String,
            _ => {
                let full = full_name(name, namespace);
                if !self.defined.contains(&full) {
                    return Err(Error::Schema(format!(
                        "Expected a known type, but {full} is not defined before its use"
                    )));
                }
                Schema::Ref(full)
            }
        })
    }

    fn complex(&mut self, object: &Map<String, Value>, namespace: &str, depth: usize) -> Result<Schema, Error> {
        let child = |key: &str| {
            object.get(key).ok_or_else(|| Error::Schema(format!("Expected {key:?} in each type that is an object")))
        };
        let base = match child("type")?.as_str() {
            Some("array") => Ok(Schema::Array(Box::new(self.schema(child("items")?, namespace, depth + 1)?))),
            Some("map") => Ok(Schema::Map(Box::new(self.schema(child("values")?, namespace, depth + 1)?))),
            Some("record") => self.record(object, namespace, depth),
            Some("enum") => {
                let name = self.define(object, namespace)?;
                let symbols = child("symbols")?.as_array().into_iter().flatten().filter_map(Value::as_str);
                Ok(Schema::Enum { name, symbols: symbols.map(str::to_owned).collect() })
            }
            Some("fixed") => {
                let name = self.define(object, namespace)?;
                let size = child("size")?.as_u64().and_then(|size| usize::try_from(size).ok());
                Ok(Schema::Fixed {
                    name,
                    size: size.ok_or_else(|| Error::Schema("Expected the size of a fixed".to_owned()))?,
                })
            }
            // {"type": "long", "logicalType": …} or {"type": [ … ]}: what it means to people changes nothing on the wire.
            _ => self.schema(child("type")?, namespace, depth + 1),
        }?;
        Ok(match if self.logical { logical(object, &base) } else { None } {
            Some(logical) => Schema::Logical(logical, Box::new(base)),
            None => base,
        })
    }

    fn record(&mut self, object: &Map<String, Value>, namespace: &str, depth: usize) -> Result<Schema, Error> {
        let name = self.define(object, namespace)?;
        let inner = name.rsplit_once('.').map_or("", |(namespace, _)| namespace).to_owned();
        let mut fields = Vec::new();
        let listed = object.get("fields").and_then(Value::as_array);
        for field in listed.ok_or_else(|| Error::Schema(format!("Expected the fields of record {name}")))? {
            let (Some(field_name), Some(schema)) = (field.get("name").and_then(Value::as_str), field.get("type"))
            else {
                return Err(Error::Schema(format!("Expected every field of {name} to have a name and a type")));
            };
            fields.push(RecordField {
                name: field_name.to_owned(),
                doc: text(field, "doc"),
                schema: self.schema(schema, &inner, depth + 1)?,
                default: field.get("default").map(Value::to_string),
            });
        }
        let doc = object.get("doc").and_then(Value::as_str).unwrap_or_default().to_owned();
        Ok(Schema::Record(Record { name, doc, fields }))
    }

    fn define(&mut self, object: &Map<String, Value>, namespace: &str) -> Result<String, Error> {
        let name =
            object.get("name").and_then(Value::as_str).ok_or_else(|| Error::Schema("Expected a name".to_owned()))?;
        let namespace = object.get("namespace").and_then(Value::as_str).unwrap_or(namespace);
        let full = full_name(name, namespace);
        if self.defined.contains(&full) {
            return Err(Error::Schema(format!("Expected one definition of {full}")));
        }
        self.defined.push(full.clone());
        Ok(full)
    }
}

/// What values of a type mean. The specification has a logical type that is unknown, or does not fit, ignored.
fn logical(object: &Map<String, Value>, base: &Schema) -> Option<Logical> {
    let number = |key: &str| object.get(key).and_then(Value::as_u64);
    Some(match (object.get("logicalType")?.as_str()?, base) {
        ("decimal", Schema::Bytes | Schema::Fixed { .. }) => {
            let scale = number("scale").unwrap_or(0);
            if number("precision").is_none_or(|precision| scale > precision) || scale > SCALE_MAX {
                return None;
            }
            Logical::Decimal { scale: scale as u32 }
        }
        ("big-decimal", Schema::Bytes) => Logical::BigDecimal,
        ("date", Schema::Int) => Logical::Date,
        ("time-millis", Schema::Int) => Logical::Time(Unit::Millis),
        ("time-micros", Schema::Long) => Logical::Time(Unit::Micros),
        ("timestamp-millis", Schema::Long) => Logical::Timestamp(Unit::Millis),
        ("timestamp-micros", Schema::Long) => Logical::Timestamp(Unit::Micros),
        ("timestamp-nanos", Schema::Long) => Logical::Timestamp(Unit::Nanos),
        ("local-timestamp-millis", Schema::Long) => Logical::LocalTimestamp(Unit::Millis),
        ("local-timestamp-micros", Schema::Long) => Logical::LocalTimestamp(Unit::Micros),
        ("local-timestamp-nanos", Schema::Long) => Logical::LocalTimestamp(Unit::Nanos),
        ("duration", Schema::Fixed { size: 12, .. }) => Logical::Duration,
        ("uuid", Schema::String | Schema::Fixed { size: 16, .. }) => Logical::Uuid,
        _ => return None,
    })
}

fn full_name(name: &str, namespace: &str) -> String {
    if name.contains('.') || namespace.is_empty() { name.to_owned() } else { format!("{namespace}.{name}") }
}

fn text(object: &Value, key: &str) -> String {
    object.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn canonical(schema: &Schema, out: &mut String) {
    let separated = |out: &mut String, index: usize| {
        if index > 0 {
            out.push(',')
        }
    };
    match schema {
        Schema::Array(items) => {
            out.push_str(r#"{"type":"array","items":"#);
            canonical(items, out);
            out.push('}');
        }
        Schema::Map(values) => {
            out.push_str(r#"{"type":"map","values":"#);
            canonical(values, out);
            out.push('}');
        }
        Schema::Union(branches) => {
            out.push('[');
            for (index, branch) in branches.iter().enumerate() {
                separated(out, index);
                canonical(branch, out);
            }
            out.push(']');
        }
        Schema::Record(record) => {
            let _ = write!(out, r#"{{"name":"{}","type":"record","fields":["#, record.name);
            for (index, field) in record.fields.iter().enumerate() {
                separated(out, index);
                let _ = write!(out, r#"{{"name":"{}","type":"#, field.name);
                canonical(&field.schema, out);
                out.push('}');
            }
            out.push_str("]}");
        }
        Schema::Enum { name, symbols } => {
            let symbols: Vec<_> = symbols.iter().map(|symbol| format!("\"{symbol}\"")).collect();
            let _ = write!(out, r#"{{"name":"{name}","type":"enum","symbols":[{}]}}"#, symbols.join(","));
        }
        Schema::Fixed { name, size } => {
            let _ = write!(out, r#"{{"name":"{name}","type":"fixed","size":{size}}}"#);
        }
        Schema::Logical(_, base) => canonical(base, out),
        plain => {
            let _ = write!(out, "\"{}\"", plain.type_name());
        }
    }
}

struct Printer<'a> {
    out: &'a mut String,
}

impl Printer<'_> {
    fn schema(&mut self, schema: &Schema, namespace: &str, indent: usize) {
        match schema {
            Schema::Array(items) => self.wrapped("{\"type\": \"array\", \"items\": ", items, namespace, indent, "}"),
            Schema::Map(values) => self.wrapped("{\"type\": \"map\", \"values\": ", values, namespace, indent, "}"),
            Schema::Union(branches) => {
                self.out.push('[');
                for (index, branch) in branches.iter().enumerate() {
                    self.out.push_str(if index > 0 { ", " } else { "" });
                    self.schema(branch, namespace, indent);
                }
                self.out.push(']');
            }
            Schema::Record(record) => self.record(record, namespace, indent),
            Schema::Ref(name) => self
                .string(name.strip_prefix(&format!("{namespace}.")).filter(|name| !name.contains('.')).unwrap_or(name)),
            Schema::Enum { .. } | Schema::Fixed { .. } | Schema::Logical(..) => canonical(schema, self.out),
            plain => self.string(plain.type_name()),
        }
    }

    fn wrapped(&mut self, before: &str, inner: &Schema, namespace: &str, indent: usize, after: &str) {
        self.out.push_str(before);
        self.schema(inner, namespace, indent);
        self.out.push_str(after);
    }

    fn record(&mut self, record: &Record, outer: &str, indent: usize) {
        let (namespace, name) = record.name.rsplit_once('.').unwrap_or(("", &record.name));
        self.out.push_str("{\"type\": \"record\", \"name\": ");
        self.string(name);
        if namespace != outer {
            self.out.push_str(", \"namespace\": ");
            self.string(namespace);
        }
        self.line(indent + 1);
        if !record.doc.is_empty() {
            self.out.push_str("\"doc\": ");
            self.string(&record.doc);
            self.line(indent + 1);
        }
        // The comma stands before each line's end.
        self.out.push_str("\"fields\": [");
        for (index, field) in record.fields.iter().enumerate() {
            if index > 0 {
                self.out.push(',');
            }
            self.break_line(indent + 2);
            self.field(field, namespace, indent + 2);
        }
        if !record.fields.is_empty() {
            self.break_line(indent + 1);
        }
        self.out.push(']');
        self.break_line(indent);
        self.out.push('}');
    }

    fn field(&mut self, field: &RecordField, namespace: &str, indent: usize) {
        self.out.push_str("{\"name\": ");
        self.string(&field.name);
        self.out.push_str(", \"type\": ");
        self.schema(&field.schema, namespace, indent);
        if let Some(default) = &field.default {
            self.out.push_str(", \"default\": ");
            self.out.push_str(default);
        }
        if !field.doc.is_empty() {
            self.out.push(',');
            self.break_line(indent + 1);
            self.out.push_str("\"doc\": ");
            self.string(&field.doc);
        }
        self.out.push('}');
    }

    fn line(&mut self, indent: usize) {
        self.out.push(',');
        self.break_line(indent);
    }

    fn break_line(&mut self, indent: usize) {
        self.out.push('\n');
        self.out.extend(std::iter::repeat_n("  ", indent));
    }

    fn string(&mut self, text: &str) {
        self.out.push_str(&Value::from(text).to_string());
    }
}
