//! How records of one writer's schema become a protobuf message: worked out once, from the schema and the message's plan.
//!
//! Fields meet by name. What only the writer has is skipped, what only the message has stays unset. A writer may use its own
//! names for records, and wider or narrower numbers: values are checked as they are read. `apache-avro` compares schemas with
//! schemas, and refuses all of that, and a union that has only one branch which fits.

use super::Error;
use super::plan::{Cardinality, Kind, Plan};
use super::schema_text::{definitions, type_name};
use apache_avro::Schema;
use apache_avro::schema::{Name, RecordSchema};
use std::collections::HashMap;

/// A record of the writer, read into one message.
#[derive(Debug, Default)]
pub(super) struct Reading {
    pub steps: Vec<Step>,
    /// Why no record of it can be read. It may still be a branch of a union that is not used.
    pub unreadable: Option<String>,
}

/// One field of the writer's record, in its order.
#[derive(Debug)]
pub(super) struct Step {
    /// Whether a zero byte means that nothing is to be written: so for every default of ours but the floats'.
    pub is_nothing_at_zero: bool,
    pub action: Action,
}

#[derive(Debug)]
pub(super) enum Action {
    Skip(Shape),
    /// `tag` is the message's field number.
    Put {
        tag: u32,
        put: Put,
    },
}

/// What to write for a value, and how to read it.
#[derive(Debug)]
pub(super) enum Put {
    Scalar {
        kind: Kind,
        from: Scalar,
        keeps_default: bool,
    },
    Record(usize),
    /// By the union's branch.
    Choice(Vec<Branch>),
    Array(Box<Put>),
    Packed {
        kind: Kind,
        from: Scalar,
    },
    Map(Box<Put>),
}

/// One branch of a writer's union.
#[derive(Debug)]
pub(super) enum Branch {
    Null,
    Put(Put),
    /// It does not fit the field: Avro has a reader refuse such a value when it comes, not the schema.
    Unreadable(String),
}

/// How the writer encoded a scalar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scalar {
    Boolean,
    /// int and long are alike.
    Integer,
    Float,
    Double,
    /// bytes and string are alike.
    Blob,
    Fixed(usize),
}

/// What is read over.
#[derive(Clone, Debug)]
pub(super) enum Shape {
    Null,
    Scalar(Scalar),
    Array(Box<Shape>),
    Map(Box<Shape>),
    Union(Vec<Shape>),
    /// The place in `Resolved::skipped`.
    Record(usize),
}

#[derive(Debug, Default)]
pub(super) struct Resolved {
    /// The first is the root.
    pub readings: Vec<Reading>,
    pub skipped: Vec<Vec<Shape>>,
}

impl Resolved {
    /// The writer's schema is the last; the others hold types that it refers to.
    pub fn new(schemas: &[Schema], plan: &Plan) -> Result<Resolved, Error> {
        let named = definitions(schemas)?;
        let writer = schemas.last().ok_or_else(|| Error::Schema("Expected a schema".to_owned()))?;
        let mut resolver =
            Resolver { plan, named, resolved: Resolved::default(), readings: HashMap::new(), skipped: HashMap::new() };
        let Schema::Record(root) = writer else {
            return Err(Error::Schema(format!("Expected a record, but found {}", type_name(writer))));
        };
        resolver.reading(root, 0)?;
        Ok(resolver.resolved)
    }
}

struct Resolver<'a> {
    plan: &'a Plan,
    named: HashMap<&'a Name, &'a Schema>,
    resolved: Resolved,
    readings: HashMap<(&'a Name, u16), usize>,
    skipped: HashMap<&'a Name, usize>,
}

impl<'a> Resolver<'a> {
    fn full(&self, schema: &'a Schema) -> &'a Schema {
        match schema {
            Schema::Ref { name } => self.named.get(name).expect("Every name has its definition"),
            other => other,
        }
    }

    fn reading(&mut self, record: &'a RecordSchema, message: u16) -> Result<usize, Error> {
        if let Some(index) = self.readings.get(&(&record.name, message)) {
            return match &self.resolved.readings[*index].unreadable {
                Some(reason) => Err(Error::Schema(reason.clone())),
                None => Ok(*index),
            };
        }
        let index = self.resolved.readings.len();
        self.readings.insert((&record.name, message), index);
        self.resolved.readings.push(Reading::default());
        match self.steps(record, message) {
            Ok(steps) => self.resolved.readings[index].steps = steps,
            Err(error) => {
                // Another reading may name it already.
                self.resolved.readings[index].unreadable = Some(reason_of(&error));
                return Err(error);
            }
        }
        Ok(index)
    }

    fn steps(&mut self, record: &'a RecordSchema, message: u16) -> Result<Vec<Step>, Error> {
        let plan: &'a Plan = self.plan;
        let mut steps = Vec::with_capacity(record.fields.len());
        for writer in &record.fields {
            let Some(field) = plan.message(message).field_named(&writer.name) else {
                let shape = self.shape(&writer.schema);
                steps.push(Step { is_nothing_at_zero: false, action: Action::Skip(shape) });
                continue;
            };
            let field = &plan.message(message).fields[field];
            let put = self.put(&writer.schema, field.kind, field.cardinality).map_err(|error| match error {
                Error::Schema(reason) => Error::Schema(format!("{}.{}: {reason}", record.name, writer.name)),
                other => other,
            })?;
            steps.push(Step {
                is_nothing_at_zero: is_nothing_at_zero(&put),
                action: Action::Put { tag: field.tag, put },
            });
        }
        Ok(steps)
    }

    fn put(&mut self, writer: &'a Schema, kind: Kind, cardinality: Cardinality) -> Result<Put, Error> {
        let writer = self.full(writer);
        match (writer, cardinality, kind) {
            (Schema::Union(union), _, _) => self.choice(union.variants(), kind, cardinality),
            (Schema::Array(array), Cardinality::Repeated, _) => {
                let item = self.put(&array.items, kind, Cardinality::Nullable)?;
                Ok(match item {
                    Put::Scalar { kind, from, .. } if is_packable(kind) => Put::Packed { kind, from },
                    item => Put::Array(Box::new(item)),
                })
            }
            (Schema::Map(map), Cardinality::Map, _) => {
                Ok(Put::Map(Box::new(self.put(&map.types, kind, Cardinality::Implicit)?)))
            }
            (Schema::Record(record), Cardinality::Implicit | Cardinality::Nullable, Kind::Message(message)) => {
                Ok(Put::Record(self.reading(record, message)?))
            }
            (scalar, Cardinality::Implicit | Cardinality::Nullable, _) => {
                let found = self.scalar(scalar).filter(|from| is_readable(*from, kind));
                let from = found.ok_or_else(|| mismatch(kind, cardinality, writer))?;
                Ok(Put::Scalar { kind, from, keeps_default: cardinality == Cardinality::Nullable })
            }
            _ => Err(mismatch(kind, cardinality, writer)),
        }
    }

    /// A union that has one branch which fits, or nothing but null, can be read as long as that is what comes: a writer may have
    /// widened it.
    fn choice(&mut self, branches: &'a [Schema], kind: Kind, cardinality: Cardinality) -> Result<Put, Error> {
        let mut unfit = None;
        let choice: Vec<_> = branches
            .iter()
            .map(|branch| match branch {
                Schema::Null => Branch::Null,
                branch => self.put(branch, kind, cardinality).map_or_else(
                    |error| {
                        let reason = reason_of(&error);
                        unfit.get_or_insert(error);
                        Branch::Unreadable(reason)
                    },
                    Branch::Put,
                ),
            })
            .collect();
        let fits = |branch: &Branch| matches!(branch, Branch::Put(_));
        match unfit {
            Some(error) if !choice.iter().any(fits) => Err(error),
            _ => Ok(Put::Choice(choice)),
        }
    }

    fn scalar(&self, schema: &Schema) -> Option<Scalar> {
        Some(match schema {
            Schema::Boolean => Scalar::Boolean,
            Schema::Int | Schema::Long => Scalar::Integer,
            Schema::Float => Scalar::Float,
            Schema::Double => Scalar::Double,
            Schema::Bytes | Schema::String => Scalar::Blob,
            Schema::Fixed(fixed) => Scalar::Fixed(fixed.size),
            _ => return None,
        })
    }

    fn shape(&mut self, schema: &'a Schema) -> Shape {
        match self.full(schema) {
            Schema::Array(array) => Shape::Array(Box::new(self.shape(&array.items))),
            Schema::Map(map) => Shape::Map(Box::new(self.shape(&map.types))),
            Schema::Union(union) => Shape::Union(union.variants().iter().map(|branch| self.shape(branch)).collect()),
            Schema::Record(record) => {
                if let Some(index) = self.skipped.get(&record.name) {
                    return Shape::Record(*index);
                }
                let index = self.resolved.skipped.len();
                self.skipped.insert(&record.name, index);
                self.resolved.skipped.push(Vec::new());
                let shapes = record.fields.iter().map(|field| self.shape(&field.schema)).collect();
                self.resolved.skipped[index] = shapes;
                Shape::Record(index)
            }
            Schema::Null => Shape::Null,
            Schema::Enum(_) => Shape::Scalar(Scalar::Integer),
            scalar => Shape::Scalar(self.scalar(scalar).expect("Every other schema is a scalar")),
        }
    }
}

fn is_nothing_at_zero(put: &Put) -> bool {
    match put {
        Put::Scalar { from, keeps_default, .. } => {
            !keeps_default && matches!(from, Scalar::Boolean | Scalar::Integer | Scalar::Blob)
        }
        Put::Choice(branches) => matches!(branches.first(), Some(Branch::Null)),
        Put::Array(_) | Put::Packed { .. } | Put::Map(_) => true,
        Put::Record(_) => false,
    }
}

fn reason_of(error: &Error) -> String {
    match error {
        Error::Schema(reason) => reason.clone(),
        other => other.to_string(),
    }
}

fn is_packable(kind: Kind) -> bool {
    !matches!(kind, Kind::String | Kind::Bytes | Kind::Message(_) | Kind::Timestamp)
}

fn is_readable(from: Scalar, kind: Kind) -> bool {
    match kind {
        Kind::Bool => from == Scalar::Boolean,
        Kind::Float => matches!(from, Scalar::Float | Scalar::Integer),
        Kind::Double => matches!(from, Scalar::Double | Scalar::Float | Scalar::Integer),
        Kind::String => from == Scalar::Blob,
        Kind::Bytes => matches!(from, Scalar::Blob | Scalar::Fixed(_)),
        Kind::Message(_) => false,
        _ => from == Scalar::Integer,
    }
}

fn mismatch(kind: Kind, cardinality: Cardinality, found: &Schema) -> Error {
    let many = match cardinality {
        Cardinality::Repeated => "an array of ",
        Cardinality::Map => "a map of ",
        Cardinality::Implicit | Cardinality::Nullable => "",
    };
    let kind = match kind {
        Kind::Message(_) => "record".to_owned(),
        Kind::Timestamp => "long (nanoseconds)".to_owned(),
        Kind::Enum(_) => "int (an enum's number)".to_owned(),
        scalar => format!("{scalar:?}").to_lowercase(),
    };
    Error::Schema(format!("Expected what fits {many}{kind}, but found {}", type_name(found)))
}
