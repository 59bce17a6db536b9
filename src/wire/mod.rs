//! How records look outside the process: Avro and JSON for the public topics.
//!
//! Owns encodings only. What a record means, and whether it is allowed, is decided elsewhere.

pub mod avro;
pub mod outputs;
pub mod requests_json;
