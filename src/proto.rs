//! The generated protobuf messages: Temporal's API as it is published, and Millrace's own records.
//!
//! Temporal's messages are the domain's language and are used as they are. `btree_map` and `bytes` are on, so that equal
//! messages have equal bytes.

#[allow(dead_code, clippy::all, rustdoc::all)]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/all.rs"));
}

/// Reading and writing topics where there is no broker.
#[cfg(feature = "server")]
#[allow(dead_code, clippy::all)]
pub mod admin {
    include!(concat!(env!("OUT_DIR"), "/millrace.admin.rs"));
}

/// Messages between nodes.
#[cfg(feature = "server")]
#[allow(dead_code, clippy::all)]
pub mod cluster {
    include!(concat!(env!("OUT_DIR"), "/millrace.cluster.rs"));
}

pub use generated::millrace::*;
pub use generated::temporal::api as temporal;

mod command_names {
    use super::commands::command::Body;

    include!(concat!(env!("OUT_DIR"), "/command_names.rs"));
}

/// The encoded `FileDescriptorSet` of all of these messages: for server reflection and the generation of Avro schemas.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

impl commands::Command {
    /// The name of its body, as the schema has it.
    pub fn name(&self) -> &'static str {
        self.body.as_ref().map_or("unknown", commands::command::Body::name)
    }
}

impl commands::Source {
    /// The partition that an ingress reads, which its name ends with.
    pub fn partition(&self) -> i32 {
        self.name.rsplit_once('/').and_then(|(_, partition)| partition.parse().ok()).unwrap_or_default()
    }
}
