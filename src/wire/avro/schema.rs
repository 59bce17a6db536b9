//! The Avro schema of a protobuf message, generated.
//!
//! - A message is a record, its fields in the order of their numbers. Every field has a default, all zeros on the wire, so that
//!   fields can be added and a reader with either schema reads records of the other.
//! - A message field, a member of a oneof and an `optional` scalar are nullable; a oneof has no other trace.
//! - Enums are open, so they are ints. Unsigned numbers are longs: 64-bit ones keep their bits, and look negative from 2^63 on.
//! - A timestamp is a long of nanoseconds since the Unix epoch; a duration stays a record, as it may be longer than a long holds.

use super::Error;
use super::plan::{Cardinality, Field, Kind, Plan};

/// An Avro schema: ours, generated, or a writer's, parsed.
#[derive(Clone, Debug, PartialEq)]
pub enum Schema {
    Null,
    Boolean,
    Int,
    Long,
    Float,
    Double,
    Bytes,
    String,
    Fixed {
        name: String,
        size: usize,
    },
    Enum {
        name: String,
        symbols: Vec<String>,
    },
    Array(Box<Schema>),
    Map(Box<Schema>),
    Union(Vec<Schema>),
    Record(Record),
    /// A named type that stands in full further up.
    Ref(String),
    /// What values of a type mean, where that was asked for.
    Logical(Logical, Box<Schema>),
}

/// What a value means beyond its type: Avro's specification, "Logical Types".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Logical {
    /// As many digits as `scale` stand behind the point.
    Decimal {
        scale: u32,
    },
    /// Each value has its own scale.
    BigDecimal,
    Date,
    Time(Unit),
    Timestamp(Unit),
    /// Of no time zone.
    LocalTimestamp(Unit),
    Duration,
    Uuid,
}

/// What times are counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    Millis,
    Micros,
    Nanos,
}

/// Names are full names throughout.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    pub name: String,
    pub doc: String,
    pub fields: Vec<RecordField>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct RecordField {
    pub name: String,
    pub doc: String,
    pub schema: Schema,
    /// As JSON.
    pub default: Option<String>,
}

impl Schema {
    /// The schema of any message in `proto::DESCRIPTORS`, by its full name.
    pub fn of(message: &str) -> Result<Schema, Error> {
        Ok(Schema::of_plan(&Plan::of(message)?))
    }

    pub(super) fn of_plan(plan: &Plan) -> Schema {
        Generator { plan, defined: vec![false; plan.messages.len()] }.message(0)
    }
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
        let name = format!("{}.{short}", message.package);
        if std::mem::replace(&mut self.defined[index as usize], true) {
            return Schema::Ref(name);
        }
        let fields = message.fields.iter().map(|field| self.field(field)).collect();
        Schema::Record(Record { name, doc: message.doc.clone(), fields })
    }

    fn field(&mut self, field: &Field) -> RecordField {
        let value = self.kind(field.kind);
        let zero = match value {
            Schema::String | Schema::Bytes => "\"\"",
            Schema::Boolean => "false",
            Schema::Float | Schema::Double => "0.0",
            _ => "0",
        };
        let (schema, default) = match field.cardinality {
            Cardinality::Implicit => (value, zero),
            Cardinality::Nullable => (Schema::Union(vec![Schema::Null, value]), "null"),
            Cardinality::Repeated => (Schema::Array(Box::new(value)), "[]"),
            Cardinality::Map => (Schema::Map(Box::new(value)), "{}"),
        };
        let doc =
            [field.doc.clone(), self.note(field.kind)].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>();
        RecordField { name: field.name.clone(), doc: doc.join(" "), schema, default: Some(default.to_owned()) }
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

    /// What the Avro type alone does not say.
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
