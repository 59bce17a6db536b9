//! The Avro schema of a protobuf message, generated.
//!
//! - A message is a record, its fields in the order of their numbers. Every field has a default, all zeros on the wire, so that
//!   fields can be added and a reader with either schema reads records of the other.
//! - A message field, a member of a oneof and an `optional` scalar are nullable; a oneof has no other trace.
//! - Enums are open, so they are ints. Unsigned numbers are longs: 64-bit ones keep their bits, and look negative from 2^63 on.
//! - A timestamp is a long of nanoseconds since the Unix epoch; a duration stays a record, as it may be longer than a long holds.

use super::plan::{Cardinality, Field, Kind, Plan};
use apache_avro::Schema;
use apache_avro::schema::{Name, RecordField, RecordFieldOrder, RecordSchema, UnionSchema};
use serde_json::{Value, json};

/// The schema of a plan's root message.
pub(super) fn of_plan(plan: &Plan) -> Schema {
    Generator { plan, defined: vec![false; plan.messages.len()] }.message(0)
}

struct Generator<'a> {
    plan: &'a Plan,
    defined: Vec<bool>,
}

impl Generator<'_> {
    fn message(&mut self, index: u16) -> Schema {
        let message = self.plan.message(index);
        // A nested message is named after the one around it: as a part of the namespace, that name would be both a class and
        // a package in the languages that generate code.
        let short = message.full_name[message.package.len() + 1..].replace('.', "_");
        let name = Name { name: short, namespace: Some(message.package.clone()) };
        if std::mem::replace(&mut self.defined[index as usize], true) {
            return Schema::Ref { name };
        }
        let fields = message.fields.iter().enumerate();
        let fields: Vec<_> = fields.map(|(position, field)| self.field(field, position)).collect();
        Schema::Record(RecordSchema {
            name,
            aliases: None,
            doc: Some(message.doc.clone()).filter(|doc| !doc.is_empty()),
            lookup: fields.iter().map(|field| (field.name.clone(), field.position)).collect(),
            fields,
            attributes: Default::default(),
        })
    }

    fn field(&mut self, field: &Field, position: usize) -> RecordField {
        let value = self.kind(field.kind);
        let zero = match value {
            Schema::String | Schema::Bytes => json!(""),
            Schema::Boolean => json!(false),
            Schema::Float | Schema::Double => json!(0.0),
            _ => json!(0),
        };
        let (schema, default) = match field.cardinality {
            Cardinality::Implicit => (value, zero),
            Cardinality::Nullable => {
                let union = UnionSchema::new(vec![Schema::Null, value]);
                (Schema::Union(union.expect("No kind of field is a union or null itself")), Value::Null)
            }
            Cardinality::Repeated => (Schema::array(value), json!([])),
            Cardinality::Map => (Schema::map(value), json!({})),
        };
        let doc = [field.doc.clone(), self.note(field.kind)];
        let doc = doc.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ");
        RecordField {
            name: field.name.clone(),
            doc: Some(doc).filter(|doc| !doc.is_empty()),
            aliases: None,
            default: Some(default),
            schema,
            order: RecordFieldOrder::Ascending,
            position,
            custom_attributes: Default::default(),
        }
    }

    fn kind(&mut self, kind: Kind) -> Schema {
        match kind {
            Kind::Bool => Schema::Boolean,
            Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 | Kind::Enum(_) => Schema::Int,
            Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 | Kind::Timestamp => Schema::Long,
            Kind::Uint32 | Kind::Fixed32 | Kind::Uint64 | Kind::Fixed64 => Schema::Long,
            Kind::Float => Schema::Float,
            Kind::Double => Schema::Double,
            Kind::String => Schema::String,
            Kind::Bytes => Schema::Bytes,
            Kind::Message(index) => self.message(index),
        }
    }

    /// What the Avro type alone does not express.
    fn note(&self, kind: Kind) -> String {
        match kind {
            Kind::Timestamp => "Nanoseconds since the Unix epoch.".to_owned(),
            Kind::Enum(index) => {
                let names = &self.plan.enums[index as usize].names;
                let list: Vec<_> = names.iter().map(|(number, name)| format!("{number} {name}")).collect();
                format!("One of: {}.", list.join(", "))
            }
            Kind::Uint64 | Kind::Fixed64 => "Unsigned: from 2^63 on it looks negative.".to_owned(),
            _ => String::new(),
        }
    }
}
