//! One message type's way to Avro and back.

use super::decode::Decoder;
use super::encode::Encoder;
use super::framing::{self, Framing, Writer};
use super::plan::Plan;
use super::resolve::Resolved;
use super::schema_text::{fingerprint, parse_all, parse_schema, pretty};
use super::{Error, json, published, read_json, schema};
use apache_avro::Schema;
use bytes::Bytes;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

/// Encodes and decodes one type of message. Compiled once, shared by all threads.
#[derive(Debug)]
pub struct Codec {
    plan: Plan,
    schema: Schema,
    fingerprint: u64,
    own: Resolved,
    /// How to read what other schemas wrote, by their fingerprints.
    others: RwLock<BTreeMap<u64, Arc<Resolved>>>,
}

/// How to read what one schema of a writer wrote as one type of message.
#[derive(Debug)]
pub struct Reader(Resolved);

impl Codec {
    /// The codec of a message, by its full name (`millrace.events.HistoryBatch`), with every published schema of it known.
    /// Compiled at its first use and kept. Panics if the descriptors have no such message: names are constants of the program.
    pub fn of(message: &str) -> &'static Codec {
        static ALL: OnceLock<RwLock<HashMap<String, &'static Codec>>> = OnceLock::new();
        let all = ALL.get_or_init(Default::default);
        if let Some(codec) = all.read().unwrap_or_else(PoisonError::into_inner).get(message) {
            return codec;
        }
        let codec = Codec::compile(message)
            .unwrap_or_else(|error| panic!("Names of messages are constants of the program: {error}"));
        // As many as there are types of messages, each needed until the end.
        all.write()
            .unwrap_or_else(PoisonError::into_inner)
            .entry(message.to_owned())
            .or_insert_with(|| Box::leak(Box::new(codec)))
    }

    fn compile(message: &str) -> Result<Codec, Error> {
        let plan = Plan::of(message)?;
        let schema = schema::of_plan(&plan);
        let own = Resolved::new(std::slice::from_ref(&schema), &plan)?;
        let fingerprint = fingerprint(&schema);
        let codec = Codec { plan, schema, fingerprint, own, others: RwLock::default() };
        for earlier in published::earlier(message) {
            codec.learn(earlier)?;
        }
        Ok(codec)
    }

    /// A record in single-object encoding. Fails only for a message nested deeper than any that a client can send, or of
    /// another type.
    pub fn encode(&self, message: &impl prost::Message) -> Result<Bytes, Error> {
        self.encode_wire(&message.encode_to_vec())
    }

    /// The same from protobuf's wire format.
    pub fn encode_wire(&self, message: &[u8]) -> Result<Bytes, Error> {
        self.encode_framed(&Framing::SingleObject, "", message)
    }

    /// A record for a topic, framed as it is there, from protobuf's wire format. Fails too if the topic has no id.
    pub fn encode_framed(&self, framing: &Framing, topic: &str, message: &[u8]) -> Result<Bytes, Error> {
        let mut out = Vec::with_capacity(message.len() + message.len() / 2 + 256);
        framing.put_header(topic, self.fingerprint, &mut out)?;
        let mut encoder = Encoder::new(&self.plan, out);
        encoder.root(message)?;
        Ok(encoder.out.into())
    }

    pub fn decode<M: prost::Message + Default>(&self, record: &[u8]) -> Result<M, Error> {
        Ok(M::decode(self.decode_wire(record)?.as_slice())?)
    }

    /// The same to protobuf's wire format.
    pub fn decode_wire(&self, record: &[u8]) -> Result<Vec<u8>, Error> {
        match framing::parse(record)? {
            (Writer::Fingerprint(writer), body) => self.decode_body(writer, body),
            (Writer::Id(id), _) => Err(Error::NeedsRegistry(id)),
        }
    }

    /// The same of what follows the frame, by the fingerprint of its writer's schema.
    fn decode_body(&self, writer: u64, body: &[u8]) -> Result<Vec<u8>, Error> {
        if writer == self.fingerprint {
            return Decoder::message(&self.own, body);
        }
        let others = self.others.read().unwrap_or_else(PoisonError::into_inner);
        let resolved = others.get(&writer).cloned().ok_or(Error::UnknownWriter(writer))?;
        drop(others);
        Decoder::message(&resolved, body)
    }

    /// Reads a record of Millrace's own, however it is framed, if the fingerprint of its schema is known beside it.
    pub fn decode_own<M: prost::Message + Default>(&self, record: &[u8], writer: Option<u64>) -> Result<M, Error> {
        let wire = match (framing::parse(record)?, writer) {
            ((Writer::Id(_), body), Some(writer)) => self.decode_body(writer, body)?,
            _ => self.decode_wire(record)?,
        };
        Ok(M::decode(wire.as_slice())?)
    }

    /// How to read what another schema wrote, whose text comes last; those that it refers to, if any, come before it. Fields meet
    /// by name; those that fit no field of the message are skipped.
    pub fn reader(&self, writer: &[impl AsRef<str>]) -> Result<Reader, Error> {
        let schemas = parse_all(writer, false)?;
        Ok(Reader(Resolved::new(&schemas, &self.plan)?))
    }

    /// The body of a record in protobuf's wire format, read by its writer's schema.
    pub fn read(&self, reader: &Reader, body: &[u8]) -> Result<Vec<u8>, Error> {
        Decoder::message(&reader.0, body)
    }

    /// Makes records of another writer's schema (as JSON) readable: an earlier one of ours, or a producer's own. Returns its
    /// fingerprint. Fields meet by name; those that fit no field of the message are skipped.
    pub fn learn(&self, writer: &str) -> Result<u64, Error> {
        let schema = parse_schema(writer)?;
        let resolved = Resolved::new(std::slice::from_ref(&schema), &self.plan)?;
        let fingerprint = fingerprint(&schema);
        self.others.write().unwrap_or_else(PoisonError::into_inner).insert(fingerprint, Arc::new(resolved));
        Ok(fingerprint)
    }

    /// A framed record as JSON for people.
    pub fn to_json(&self, record: &[u8]) -> Result<serde_json::Value, Error> {
        json::render_root(&self.plan, &self.decode_wire(record)?)
    }

    /// A message in protobuf's wire format as JSON for people.
    pub fn wire_to_json(&self, message: &[u8]) -> Result<serde_json::Value, Error> {
        json::render_root(&self.plan, message)
    }

    pub fn schema(&self) -> &Schema {
        &self.schema
    }

    /// The schema as JSON, laid out for people.
    pub fn schema_json(&self) -> String {
        pretty(&self.schema)
    }

    pub fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    /// A message that stands as JSON, in protobuf's wire format.
    pub fn read_json(&self, json: &[u8]) -> Result<Vec<u8>, read_json::Error> {
        read_json::read(&self.plan, json)
    }
}
