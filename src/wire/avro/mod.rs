//! The public records as Avro: typed, self-describing by fingerprint, driven by the protobuf descriptors.
//!
//! Owns the schemas, their compatibility and both directions of the translation, straight between protobuf's wire format and
//! Avro's. Never interprets a record. What a round trip keeps: everything that the descriptors know, to the nanosecond. What
//! it does not keep: fields of a newer protobuf, which the schema has no place for, and timestamps outside the years 1678 to
//! 2261, which become the nearest that a long of nanoseconds holds.
//!
//! What a schema is (its text, its names, its canonical form and fingerprint) is left to `apache-avro`. Records are not: that crate
//! makes a tree of values of each, allocates memory by lengths that it has only read, and recurses as deep as the record demands.
//! Records come from anyone and are most of what a server reads and writes, so here they go straight from one form to the other,
//! with no allocation beyond what the bytes at hand account for, and with bounded nesting.

mod codec;
mod cursor;
mod decode;
mod encode;
pub mod framing;
pub mod json;
mod logical;
mod plan;
pub mod published;
pub mod read_json;
mod resolve;
mod schema;
mod schema_text;
#[cfg(test)]
mod tests;
mod values;
mod values_from_json;
mod values_text;

pub use codec::{Codec, Reader};
pub use framing::Framing;
pub use published::Published;
pub use schema_text::parse_schema;
pub use values::Values;

pub use apache_avro::Schema;

use bytes::Bytes;

/// A record of a public topic, in single-object encoding.
pub fn encode<M: Published>(record: &M) -> Result<Bytes, Error> {
    M::codec().encode(record)
}

/// Reads a framed record of a public topic, whichever of the known schemas wrote it.
pub fn decode<M: Published>(record: &[u8]) -> Result<M, Error> {
    M::codec().decode(record)
}

#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Error {
    #[error("Expected a record in Avro's single-object encoding, but it does not begin with C3 01 and a fingerprint")]
    Unframed,
    #[error("Expected a record of a known schema, but its fingerprint is {0:016x}")]
    UnknownWriter(u64),
    #[error("Expected a record whose schema is known without a schema registry, but it has the id {0} in one")]
    NeedsRegistry(u32),
    #[error("Expected an id in the schema registry for each topic that is written, but {0} has none")]
    NoId(String),
    #[error("Expected more bytes, but the record ends early")]
    Truncated,
    /// The offset counts from the start of the message or record that was being read.
    #[error("Expected {expected}, but found something else before byte {offset}")]
    Invalid { offset: usize, expected: &'static str },
    #[error("Expected messages nested at most {} levels deep, but there are more", cursor::DEPTH_MAX)]
    TooDeep,
    #[error("Expected a protobuf message: {0}")]
    Message(#[from] prost::DecodeError),
    #[error("The Avro schema can't be used: {0}")]
    Schema(String),
    #[error("Expected a message of Millrace's descriptors, but there is no {0}")]
    UnknownMessage(String),
}
