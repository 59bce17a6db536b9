//! Millrace: durable execution with Temporal's programming model and API, Kafka as the log and RocksDB as the state.
#![forbid(unsafe_code)]

#[cfg(feature = "server")]
pub mod log;
pub mod proto;
pub mod types;
