//! Avro schemas as text: parsed by `apache-avro`, and printed for people.
//!
//! References, unions, canonical form and fingerprint are that crate's. Before its parser stands a pass over the JSON that
//! leaves of each schema only what its type has, as the text may come from anyone by way of a registry:
//!
//! - Nesting is bounded, as parsing recurses, and so is what the parser copies: each named type, whole, into those around it.
//! - A default is kept from it: it refuses a schema for one that does not fit, or that it can't convert, such as any of a decimal; and a
//!   writer's defaults do not affect its records.
//! - Aliases too: it takes them for names that a schema may refer to, and the reference then names no type that is there.
//! - Logical types too, where they are not needed: with one, a schema has another canonical form than the specification's, which strips
//!   them; and those of a fixed always, of which it forgets the size and the name.
//! - Other attributes too, as it may panic on them when it writes the canonical form.
//!
//! And behind it: it takes the second of two definitions of a name for the first.

use super::Error;
use apache_avro::error::Details;
use apache_avro::rabin::Rabin;
use apache_avro::schema::{Name, Namespace, RecordField, RecordSchema};
use apache_avro::validator::{
    EnumSymbolNameValidator, RecordFieldNameValidator, SchemaNameValidator, SchemaNamespaceValidator,
    set_enum_symbol_name_validator, set_record_field_name_validator, set_schema_name_validator,
    set_schema_namespace_validator,
};
use apache_avro::{AvroResult, Schema};
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use std::sync::Once;

/// Deeper schemas are refused: parsing and compiling recurse.
const NESTING_MAX: usize = 100;
/// Bytes of a schema, times how many named types stand one in the other: as much as the parser copies.
const COPIES_MAX: usize = 32 << 20;
/// Characters of an error: it may quote the schema.
const ERROR_MAX: usize = 600;
/// Attributes that hold what is kept from the parser: a field's default, and a logical type of a fixed.
const DEFAULT: &str = "millrace.default";
pub(super) const MEANING: &str = "millrace.logical";

/// A schema from its JSON, without logical types. The error names what is wrong.
pub fn parse_schema(text: &str) -> Result<Schema, Error> {
    Ok(parse_all(&[text], false)?.remove(0))
}

/// Several, each of which may name types of those before it. `logical`: what values mean is kept too.
pub(super) fn parse_all(texts: &[impl AsRef<str>], logical: bool) -> Result<Vec<Schema>, Error> {
    allow_any_name();
    let mut preparation = Preparation { logical, around: 1, around_max: 1 };
    let mut bytes = 0;
    let mut fields = Vec::new();
    for text in texts.iter().map(AsRef::as_ref) {
        let value: Result<Value, _> = serde_json::from_str(text);
        let value = value.map_err(|error| wrong(format!("Expected JSON, but {error}")))?;
        bytes += text.len();
        fields.push(json!({"name": fields.len().to_string(), "type": preparation.schema(value, None, 0)?}));
    }
    if bytes.saturating_mul(preparation.around_max) > COPIES_MAX {
        return Err(wrong(format!(
            "Expected a smaller schema, or types less deep in others, but found {bytes} bytes with {} types one in the other",
            preparation.around_max
        )));
    }
    // The parser's own list of schemas is parsed in no order, and takes named types only. Fields of a record see the types of
    // those before them. Nothing refers to a type without a name.
    match Schema::parse(&json!({"type": "record", "name": "", "fields": fields})) {
        Ok(Schema::Record(all)) => {
            let schemas: Vec<_> = all.fields.into_iter().map(|field| field.schema).collect();
            definitions(&schemas)?;
            Ok(schemas)
        }
        Ok(_) => Err(wrong("Expected a schema".to_owned())),
        Err(error) => Err(wrong(match error.details() {
            Details::ParsePrimitive(name) => {
                format!("Expected a known type, but {name} is not defined before its use")
            }
            _ => error.to_string(),
        })),
    }
}

/// All named types of the schemas. Fails if one has two definitions, or none before its use.
pub(super) fn definitions(schemas: &[Schema]) -> Result<HashMap<&Name, &Schema>, Error> {
    fn define<'a>(schema: &'a Schema, named: &mut HashMap<&'a Name, &'a Schema>) -> Result<(), Error> {
        match (schema, schema.name()) {
            (Schema::Ref { name }, _) if !named.contains_key(name) => {
                return Err(wrong(format!("Expected a known type, but {name} is not defined before its use")));
            }
            (Schema::Ref { .. }, _) | (_, None) => {}
            (_, Some(name)) => {
                if named.insert(name, schema).is_some() {
                    return Err(wrong(format!("Expected one definition of {name}")));
                }
            }
        }
        match schema {
            Schema::Array(array) => define(&array.items, named),
            Schema::Map(map) => define(&map.types, named),
            Schema::Union(union) => union.variants().iter().try_for_each(|branch| define(branch, named)),
            Schema::Record(record) => record.fields.iter().try_for_each(|field| define(&field.schema, named)),
            _ => Ok(()),
        }
    }
    let mut named = HashMap::new();
    schemas.iter().try_for_each(|schema| define(schema, &mut named))?;
    Ok(named)
}

fn wrong(mut reason: String) -> Error {
    if let Some((end, _)) = reason.char_indices().nth(ERROR_MAX) {
        reason.truncate(end);
        reason.push('…');
    }
    Error::Schema(reason)
}

/// CRC-64-AVRO of the schema's Parsing Canonical Form.
pub(super) fn fingerprint(schema: &Schema) -> u64 {
    let bytes = schema.fingerprint::<Rabin>().bytes;
    u64::from_le_bytes(bytes.try_into().expect("A fingerprint of this kind has 8 bytes"))
}

/// The default of a field, generated or parsed.
pub(super) fn default(field: &RecordField) -> Option<&Value> {
    field.default.as_ref().or_else(|| field.custom_attributes.get(DEFAULT))
}

/// The name of a type in a union, for messages.
pub(super) fn type_name(schema: &Schema) -> String {
    match schema.name() {
        Some(name) => name.fullname(None),
        None => schema.to_string().to_lowercase(),
    }
}

/// Leaves of a schema only what the parser shall see.
struct Preparation {
    logical: bool,
    /// How many named types are around, and the most that were.
    around: usize,
    around_max: usize,
}

impl Preparation {
    /// `meaning`: the logical type that stands around it.
    fn schema(&mut self, value: Value, meaning: Option<Value>, depth: usize) -> Result<Value, Error> {
        if depth > NESTING_MAX {
            return Err(wrong(format!("Expected at most {NESTING_MAX} levels of nesting")));
        }
        match value {
            Value::String(_) => Ok(with_meaning(value, meaning)),
            Value::Array(branches) => branches.into_iter().map(|branch| self.schema(branch, None, depth + 1)).collect(),
            Value::Object(object) => self.complex(object, meaning, depth),
            other => Err(wrong(format!("Expected a schema, but found {other}"))),
        }
    }

    fn complex(&mut self, mut object: Map<String, Value>, around: Option<Value>, depth: usize) -> Result<Value, Error> {
        let meaning = if self.logical { meaning(&object) } else { None }.or(around);
        let kind = taken(&mut object, "type", || "each type that is an object".to_owned())?;
        let name = object.get("name").and_then(Value::as_str).unwrap_or("without a name");
        let name = format!("{} {name}", kind.as_str().unwrap_or("type"));
        let mut taken = |key| taken(&mut object, key, || name.clone());
        let (key, value) = match kind.as_str() {
            Some("array") => ("items", self.schema(taken("items")?, None, depth + 1)?),
            Some("map") => ("values", self.schema(taken("values")?, None, depth + 1)?),
            Some("record") => {
                let Value::Array(fields) = taken("fields")? else {
                    return Err(wrong(format!("Expected a list of the fields of {name}")));
                };
                self.around += 1;
                self.around_max = self.around_max.max(self.around);
                let fields = fields.into_iter().map(|field| self.field(field, &name, depth));
                let fields = fields.collect::<Result<Value, _>>()?;
                self.around -= 1;
                ("fields", fields)
            }
            Some("enum") => ("symbols", taken("symbols")?),
            Some("fixed") => ("size", taken("size")?),
            Some(_) => return Ok(with_meaning(kind, meaning)),
            // {"type": {"type": …}} or {"type": [ … ]}
            None => return self.schema(kind, meaning, depth + 1),
        };
        object.retain(|key, _| matches!(key.as_str(), "name" | "namespace" | "doc"));
        if let ("size", Some(meaning)) = (key, meaning) {
            object.insert(MEANING.to_owned(), meaning);
        }
        object.insert("type".to_owned(), kind);
        object.insert(key.to_owned(), value);
        Ok(Value::Object(object))
    }

    fn field(&mut self, field: Value, record: &str, depth: usize) -> Result<Value, Error> {
        let Value::Object(mut field) = field else {
            return Err(wrong(format!("Expected each field of {record} to be an object, but found {field}")));
        };
        let schema = taken(&mut field, "type", || format!("each field of {record}"))?;
        let default = field.remove("default");
        field.retain(|key, _| matches!(key.as_str(), "name" | "doc"));
        field.insert("type".to_owned(), self.schema(schema, None, depth + 1)?);
        field.extend(default.map(|default| (DEFAULT.to_owned(), default)));
        Ok(Value::Object(field))
    }
}

fn taken(object: &mut Map<String, Value>, key: &str, of: impl Fn() -> String) -> Result<Value, Error> {
    object.remove(key).ok_or_else(|| wrong(format!("Expected {key:?} in {}", of())))
}

/// An object's attributes of the values of its type.
fn meaning(object: &Map<String, Value>) -> Option<Value> {
    object.get("logicalType").filter(|logical| logical.is_string())?;
    let attributes = ["logicalType", "precision", "scale"].into_iter();
    Some(attributes.filter_map(|key| Some((key.to_owned(), object.get(key)?.clone()))).collect::<Map<_, _>>().into())
}

fn with_meaning(name: Value, meaning: Option<Value>) -> Value {
    match meaning {
        Some(Value::Object(mut object)) => {
            object.insert("type".to_owned(), name);
            Value::Object(object)
        }
        _ => name,
    }
}

/// Lets schemas have names of any letters, as Java does. By default, `apache-avro` takes those of ASCII only, and panics at
/// others. Has to come before anything else that parses a schema or a name with it.
pub(super) fn allow_any_name() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let _ = set_schema_name_validator(Box::new(AnyName));
        let _ = set_schema_namespace_validator(Box::new(AnyName));
        let _ = set_enum_symbol_name_validator(Box::new(AnyName));
        let _ = set_record_field_name_validator(Box::new(AnyName));
    });
}

struct AnyName;

impl SchemaNameValidator for AnyName {
    fn validate(&self, name: &str) -> AvroResult<(String, Namespace)> {
        Ok(match name.rsplit_once('.') {
            Some((namespace, name)) => (name.to_owned(), Some(namespace.to_owned())),
            None => (name.to_owned(), None),
        })
    }
}

impl SchemaNamespaceValidator for AnyName {
    fn validate(&self, _: &str) -> AvroResult<()> {
        Ok(())
    }
}

impl EnumSymbolNameValidator for AnyName {
    fn validate(&self, _: &str) -> AvroResult<()> {
        Ok(())
    }
}

impl RecordFieldNameValidator for AnyName {
    fn validate(&self, _: &str) -> AvroResult<()> {
        Ok(())
    }
}

/// The schema as JSON for people: names first, one line for what is short. This is what is published and registered, so it is
/// not left to the crate, which writes all in one line.
pub(super) fn pretty(schema: &Schema) -> String {
    let mut out = String::new();
    Printer { out: &mut out }.schema(schema, "", 0);
    out.push('\n');
    out
}

struct Printer<'a> {
    out: &'a mut String,
}

impl Printer<'_> {
    fn schema(&mut self, schema: &Schema, namespace: &str, indent: usize) {
        match schema {
            Schema::Array(array) => {
                self.wrapped("{\"type\": \"array\", \"items\": ", &array.items, namespace, indent, "}")
            }
            Schema::Map(map) => self.wrapped("{\"type\": \"map\", \"values\": ", &map.types, namespace, indent, "}"),
            Schema::Union(union) => {
                self.out.push('[');
                for (index, branch) in union.variants().iter().enumerate() {
                    self.out.push_str(if index > 0 { ", " } else { "" });
                    self.schema(branch, namespace, indent);
                }
                self.out.push(']');
            }
            Schema::Record(record) => self.record(record, namespace, indent),
            Schema::Ref { name } if name.namespace.as_deref().unwrap_or_default() == namespace => {
                self.string(&name.name)
            }
            Schema::Ref { name } => self.string(&name.fullname(None)),
            plain => self.out.push_str(&plain.canonical_form()),
        }
    }

    fn wrapped(&mut self, before: &str, inner: &Schema, namespace: &str, indent: usize, after: &str) {
        self.out.push_str(before);
        self.schema(inner, namespace, indent);
        self.out.push_str(after);
    }

    fn record(&mut self, record: &RecordSchema, outer: &str, indent: usize) {
        let namespace = record.name.namespace.as_deref().unwrap_or_default();
        self.out.push_str("{\"type\": \"record\", \"name\": ");
        self.string(&record.name.name);
        if namespace != outer {
            self.out.push_str(", \"namespace\": ");
            self.string(namespace);
        }
        self.line(indent + 1);
        if let Some(doc) = &record.doc {
            self.out.push_str("\"doc\": ");
            self.string(doc);
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
        if let Some(default) = default(field) {
            self.out.push_str(", \"default\": ");
            self.out.push_str(&default.to_string());
        }
        if let Some(doc) = &field.doc {
            self.out.push(',');
            self.break_line(indent + 1);
            self.out.push_str("\"doc\": ");
            self.string(doc);
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
