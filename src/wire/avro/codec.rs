//! One message type's way to Avro and back.

use super::decode::Decoder;
use super::encode::Encoder;
use super::framing::{self, Writer};
use super::plan::Plan;
use super::resolve::Resolved;
use super::schema::Schema;
use super::{Error, json, published, read_json};
use bytes::Bytes;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

/// Encodes and decodes one type of message. Compiled once, shared by all threads.
#[derive(Debug)]
pub struct Codec {
    plan: Plan,
    schema: Schema,
    fingerprint: u64,
    header: [u8; framing::HEADER_LEN],
    own: Resolved,
    /// How to read what other schemas wrote, by their fingerprints.
    others: RwLock<BTreeMap<u64, Arc<Resolved>>>,
}

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
        let schema = Schema::of_plan(&plan);
        let own = Resolved::new(&schema, &plan)?;
        let fingerprint = framing::fingerprint(&schema.canonical());
        let header = framing::header(fingerprint);
        let codec = Codec { plan, schema, fingerprint, header, own, others: RwLock::default() };
        for earlier in published::earlier(message) {
            codec.learn(earlier)?;
        }
        Ok(codec)
    }

    /// A framed record. Fails only for a message nested deeper than any that a client can send, or of another type.
    pub fn encode(&self, message: &impl prost::Message) -> Result<Bytes, Error> {
        self.encode_wire(&message.encode_to_vec())
    }

    /// The same from protobuf's wire format.
    pub fn encode_wire(&self, message: &[u8]) -> Result<Bytes, Error> {
        let mut out = Vec::with_capacity(message.len() + message.len() / 2 + 256);
        out.extend_from_slice(&self.header);
        let mut encoder = Encoder::new(&self.plan, out);
        encoder.root(message)?;
        Ok(encoder.out.into())
    }

    pub fn decode<M: prost::Message + Default>(&self, record: &[u8]) -> Result<M, Error> {
        Ok(M::decode(self.decode_wire(record)?.as_slice())?)
    }

    /// The same to protobuf's wire format.
    pub fn decode_wire(&self, record: &[u8]) -> Result<Vec<u8>, Error> {
        let (Writer::Fingerprint(writer), body) = framing::parse(record)?;
        if writer == self.fingerprint {
            return Decoder::message(&self.own, body);
        }
        let others = self.others.read().unwrap_or_else(PoisonError::into_inner);
        let resolved = others.get(&writer).cloned().ok_or(Error::UnknownWriter(writer))?;
        drop(others);
        Decoder::message(&resolved, body)
    }

    /// Makes records of another writer's schema (as JSON) readable: an earlier one of ours, or a producer's own. Returns its
    /// fingerprint. Fields meet by name; those that fit no field of the message are skipped.
    pub fn learn(&self, writer: &str) -> Result<u64, Error> {
        let schema = Schema::parse(writer)?;
        let resolved = Resolved::new(&schema, &self.plan)?;
        let fingerprint = framing::fingerprint(&schema.canonical());
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
        self.schema.pretty()
    }

    pub fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    /// A message that stands as JSON, in protobuf's wire format.
    pub fn read_json(&self, json: &[u8]) -> Result<Vec<u8>, read_json::Error> {
        read_json::read(&self.plan, json)
    }
}
