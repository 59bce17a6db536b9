//! Millrace: durable execution with Temporal's programming model and API, Kafka as the log and RocksDB as the state.
#![forbid(unsafe_code)]

pub mod proto;
pub mod types;
#[cfg(feature = "server")]
pub mod visibility;
