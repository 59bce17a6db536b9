//! Millrace: durable execution with Temporal's programming model and API, Kafka as the log and RocksDB as the state.
#![forbid(unsafe_code)]

pub mod engine;
#[cfg(feature = "server")]
pub mod metrics;
pub mod proto;
pub mod types;

#[cfg(feature = "server")]
pub mod cli;
#[cfg(feature = "server")]
pub mod grpc;
#[cfg(feature = "server")]
pub mod log;
#[cfg(feature = "server")]
pub mod matching;
#[cfg(feature = "server")]
pub mod metrics;
#[cfg(feature = "server")]
pub mod namespaces;
#[cfg(feature = "server")]
pub mod partition;
#[cfg(feature = "server")]
pub mod store;
#[cfg(feature = "server")]
pub mod timers;
#[cfg(feature = "server")]
pub mod visibility;
#[cfg(feature = "server")]
pub mod wire;
