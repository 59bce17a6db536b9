//! What is known of a protobuf message before any record is seen: a table per message, compiled once from its descriptor.
//!
//! Everything else here (the Avro schema, the transcoders, the rendering as JSON) walks these tables; nothing but this file
//! reads descriptors.

use super::Error;
use crate::proto;
use prost::Message as _;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorSet, SourceCodeInfo};
use std::collections::{BTreeMap, HashMap};
use std::sync::OnceLock;

/// A root message (the first of `messages`) and everything that it can carry.
#[derive(Debug)]
pub(super) struct Plan {
    pub messages: Vec<Message>,
    pub enums: Vec<Enum>,
}

#[derive(Debug, Default)]
pub(super) struct Message {
    /// With its package: `temporal.api.common.v1.Payload`.
    pub full_name: String,
    pub package: String,
    pub doc: String,
    /// By field number, which is also the order in Avro.
    pub fields: Vec<Field>,
    /// From field number to place in `fields`, for the low numbers; `ABSENT` where there is none.
    by_tag: Vec<u16>,
    /// How many zero bytes are the Avro default of the fields before each, and, last, of all: every default is all zeros.
    pub zeros: Vec<usize>,
}

#[derive(Debug)]
pub(super) struct Field {
    pub name: String,
    pub tag: u32,
    pub kind: Kind,
    pub cardinality: Cardinality,
    /// The oneof that it is a member of, by number within the message.
    pub oneof: Option<u8>,
    pub doc: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cardinality {
    /// A scalar whose default value is not written.
    Implicit,
    /// A message, a member of a oneof or an `optional` scalar: there or not.
    Nullable,
    Repeated,
    /// From strings to the field's kind. Maps with other keys are `Repeated` entries, as on the wire.
    Map,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Bool,
    Int32,
    Int64,
    Uint32,
    Uint64,
    Sint32,
    Sint64,
    Fixed32,
    Fixed64,
    Sfixed32,
    Sfixed64,
    Float,
    Double,
    String,
    Bytes,
    /// Open: any number is carried. The place in `Plan::enums`.
    Enum(u16),
    /// The place in `Plan::messages`.
    Message(u16),
    /// `google.protobuf.Timestamp`, in Avro nanoseconds since the Unix epoch.
    Timestamp,
}

#[derive(Debug)]
pub(super) struct Enum {
    pub names: BTreeMap<i32, String>,
}

const ABSENT: u16 = u16::MAX;
const DENSE_TAGS_MAX: u32 = 1024;
const TIMESTAMP: &str = "google.protobuf.Timestamp";

impl Message {
    pub fn index_of(&self, tag: u32) -> Option<usize> {
        match self.by_tag.get(tag as usize) {
            Some(&ABSENT) => None,
            Some(&index) => Some(index as usize),
            None if tag < DENSE_TAGS_MAX => None,
            None => self.fields.binary_search_by_key(&tag, |field| field.tag).ok(),
        }
    }

    pub fn field_named(&self, name: &str) -> Option<usize> {
        self.fields.iter().position(|field| field.name == name)
    }

    /// The length of the message's Avro encoding when nothing is set.
    pub fn zeros_len(&self) -> usize {
        self.zeros.last().copied().unwrap_or(0)
    }

    fn index(&mut self) {
        self.fields.sort_by_key(|field| field.tag);
        assert!(self.fields.len() < ABSENT as usize, "{} has too many fields", self.full_name);
        let dense = self.fields.iter().map(|field| field.tag).filter(|tag| *tag < DENSE_TAGS_MAX).max();
        self.by_tag = vec![ABSENT; dense.map_or(0, |tag| tag as usize + 1)];
        let mut zeros = 0;
        self.zeros = vec![0];
        for (index, field) in self.fields.iter().enumerate() {
            if field.tag < DENSE_TAGS_MAX {
                self.by_tag[field.tag as usize] = index as u16;
            }
            zeros += match (field.cardinality, field.kind) {
                (Cardinality::Implicit, Kind::Float) => 4,
                (Cardinality::Implicit, Kind::Double) => 8,
                _ => 1,
            };
            self.zeros.push(zeros);
        }
    }
}

impl Plan {
    pub fn of(root: &str) -> Result<Plan, Error> {
        let mut compiler = Compiler {
            known: Descriptors::get(),
            plan: Plan { messages: vec![], enums: vec![] },
            seen: HashMap::new(),
        };
        compiler.message(root)?;
        Ok(compiler.plan)
    }

    pub fn message(&self, index: u16) -> &Message {
        &self.messages[index as usize]
    }

    pub fn root(&self) -> &Message {
        &self.messages[0]
    }
}

/// All messages and enums of `proto::DESCRIPTORS`, by full name.
struct Descriptors {
    messages: HashMap<String, Described<DescriptorProto>>,
    enums: HashMap<String, EnumDescriptorProto>,
}

struct Described<T> {
    package: String,
    descriptor: T,
    doc: String,
    field_docs: Vec<String>,
}

impl Descriptors {
    fn get() -> &'static Descriptors {
        static ALL: OnceLock<Descriptors> = OnceLock::new();
        ALL.get_or_init(|| {
            let set = FileDescriptorSet::decode(proto::DESCRIPTORS).expect("The build wrote this descriptor set");
            let mut all = Descriptors { messages: HashMap::new(), enums: HashMap::new() };
            for file in set.file {
                let docs = Docs::of(file.source_code_info.as_ref());
                let package = file.package().to_owned();
                all.add_enums(&package, file.enum_type);
                for (place, message) in file.message_type.into_iter().enumerate() {
                    all.add_message(&package, &package, message, &docs, vec![4, place as i32]);
                }
            }
            all
        })
    }

    fn add_enums(&mut self, scope: &str, enums: Vec<EnumDescriptorProto>) {
        for descriptor in enums {
            self.enums.insert(format!("{scope}.{}", descriptor.name()), descriptor);
        }
    }

    fn add_message(
        &mut self,
        package: &str,
        scope: &str,
        mut descriptor: DescriptorProto,
        docs: &Docs,
        path: Vec<i32>,
    ) {
        let name = format!("{scope}.{}", descriptor.name());
        self.add_enums(&name, std::mem::take(&mut descriptor.enum_type));
        for (place, nested) in std::mem::take(&mut descriptor.nested_type).into_iter().enumerate() {
            self.add_message(package, &name, nested, docs, [&path[..], &[3, place as i32]].concat());
        }
        let field_docs =
            (0..descriptor.field.len()).map(|place| docs.at([&path[..], &[2, place as i32]].concat())).collect();
        let doc = docs.at(path);
        self.messages.insert(name, Described { package: package.to_owned(), descriptor, doc, field_docs });
    }
}

/// The comments of a file, by the path of what they stand before.
struct Docs(HashMap<Vec<i32>, String>);

impl Docs {
    fn of(info: Option<&SourceCodeInfo>) -> Docs {
        let locations = info.map_or(&[][..], |info| &info.location).iter();
        let commented = locations.filter(|location| location.leading_comments.is_some());
        Docs(commented.map(|location| (location.path.clone(), words(location.leading_comments()))).collect())
    }

    fn at(&self, path: Vec<i32>) -> String {
        self.0.get(&path).cloned().unwrap_or_default()
    }
}

/// The text on one line, without notes to linters.
fn words(comment: &str) -> String {
    let lines = comment.lines().filter(|line| !line.contains("api-linter") && !line.contains("aip.dev/not-precedent"));
    lines.flat_map(str::split_whitespace).collect::<Vec<_>>().join(" ")
}

struct Compiler {
    known: &'static Descriptors,
    plan: Plan,
    seen: HashMap<String, u16>,
}

impl Compiler {
    fn message(&mut self, full_name: &str) -> Result<u16, Error> {
        if let Some(index) = self.seen.get(full_name) {
            return Ok(*index);
        }
        let described =
            self.known.messages.get(full_name).ok_or_else(|| Error::UnknownMessage(full_name.to_owned()))?;
        let index = u16::try_from(self.plan.messages.len()).expect("Descriptors hold fewer than 65,536 messages");
        self.seen.insert(full_name.to_owned(), index);
        self.plan.messages.push(Message {
            full_name: full_name.to_owned(),
            package: described.package.clone(),
            doc: described.doc.clone(),
            ..Message::default()
        });
        let mut fields = Vec::with_capacity(described.descriptor.field.len());
        for (field, doc) in described.descriptor.field.iter().zip(&described.field_docs) {
            fields.push(self.field(field, doc)?);
        }
        let message = &mut self.plan.messages[index as usize];
        message.fields = fields;
        message.index();
        Ok(index)
    }

    fn field(&mut self, field: &FieldDescriptorProto, doc: &str) -> Result<Field, Error> {
        let oneof = field.oneof_index.filter(|_| !field.proto3_optional());
        let (cardinality, kind) = match self.map_value(field) {
            Some(value) => (Cardinality::Map, self.kind(value)?),
            None => {
                let kind = self.kind(field)?;
                let nullable =
                    field.proto3_optional() || oneof.is_some() || matches!(kind, Kind::Message(_) | Kind::Timestamp);
                match field.label() {
                    Label::Repeated => (Cardinality::Repeated, kind),
                    _ if nullable => (Cardinality::Nullable, kind),
                    _ => (Cardinality::Implicit, kind),
                }
            }
        };
        Ok(Field {
            name: field.name().to_owned(),
            tag: field.number() as u32,
            kind,
            cardinality,
            oneof: oneof.map(|index| u8::try_from(index).expect("A message has fewer than 64 oneofs")),
            doc: doc.to_owned(),
        })
    }

    /// The value field of the entries, if this is a map with strings as keys.
    fn map_value(&self, field: &FieldDescriptorProto) -> Option<&'static FieldDescriptorProto> {
        let entry = self.known.messages.get(field.type_name().strip_prefix('.')?)?;
        let is_map = entry.descriptor.options.as_ref().is_some_and(|options| options.map_entry());
        let (key, value) = (entry.descriptor.field.first()?, entry.descriptor.field.get(1)?);
        (is_map && key.r#type() == Type::String).then_some(value)
    }

    fn kind(&mut self, field: &FieldDescriptorProto) -> Result<Kind, Error> {
        let type_name = field.type_name().trim_start_matches('.');
        Ok(match field.r#type() {
            Type::Bool => Kind::Bool,
            Type::Int32 => Kind::Int32,
            Type::Int64 => Kind::Int64,
            Type::Uint32 => Kind::Uint32,
            Type::Uint64 => Kind::Uint64,
            Type::Sint32 => Kind::Sint32,
            Type::Sint64 => Kind::Sint64,
            Type::Fixed32 => Kind::Fixed32,
            Type::Fixed64 => Kind::Fixed64,
            Type::Sfixed32 => Kind::Sfixed32,
            Type::Sfixed64 => Kind::Sfixed64,
            Type::Float => Kind::Float,
            Type::Double => Kind::Double,
            Type::String => Kind::String,
            Type::Bytes => Kind::Bytes,
            Type::Enum => Kind::Enum(self.add_enum(type_name)?),
            Type::Message if type_name == TIMESTAMP => Kind::Timestamp,
            Type::Message => Kind::Message(self.message(type_name)?),
            Type::Group => return Err(Error::UnknownMessage(format!("{type_name} (a group)"))),
        })
    }

    fn add_enum(&mut self, full_name: &str) -> Result<u16, Error> {
        if let Some(index) = self.seen.get(full_name) {
            return Ok(*index);
        }
        let descriptor = self.known.enums.get(full_name).ok_or_else(|| Error::UnknownMessage(full_name.to_owned()))?;
        // Of two names for one number, the first is the name.
        let values = descriptor.value.iter().rev();
        let names = values.map(|value| (value.number(), value.name().to_owned())).collect();
        let index = u16::try_from(self.plan.enums.len()).expect("Descriptors hold fewer than 65,536 enums");
        self.seen.insert(full_name.to_owned(), index);
        self.plan.enums.push(Enum { names });
        Ok(index)
    }
}
