//! One schema of a registry, and how records of it are read. Worked out once for each use.

use std::sync::OnceLock;

use crate::wire::avro::published::{TOPICS, codec};
use crate::wire::avro::{Reader, Values};

/// What an id stands for.
#[derive(Debug)]
pub struct Writer {
    /// What it refers to, and last its own text; or why it is of no use.
    texts: Result<Vec<String>, String>,
    /// By topic. There are few.
    readers: [OnceLock<Result<Reader, String>>; TOPICS.len()],
    values: OnceLock<Result<Values, String>>,
}

impl Writer {
    pub(super) fn new(texts: Vec<String>) -> Self {
        Self { texts: Ok(texts), readers: Default::default(), values: OnceLock::new() }
    }

    pub(super) fn unusable(reason: String) -> Self {
        Self { texts: Err(reason), readers: Default::default(), values: OnceLock::new() }
    }

    /// The body of a record as the message that the topic has. The error is why it isn't one.
    pub fn message<M: prost::Message + Default>(&self, topic: &str, body: &[u8]) -> Result<M, String> {
        M::decode(self.wire(topic, body)?.as_slice()).map_err(|error| error.to_string())
    }

    /// The same as JSON for people.
    pub fn message_json(&self, topic: &str, body: &[u8]) -> Result<serde_json::Value, String> {
        let codec = codec(topic).ok_or_else(|| format!("{topic} has no message of its own"))?;
        codec.wire_to_json(&self.wire(topic, body)?).map_err(|error| error.to_string())
    }

    fn wire(&self, topic: &str, body: &[u8]) -> Result<Vec<u8>, String> {
        let codec = codec(topic).zip(TOPICS.iter().position(|(name, _)| *name == topic));
        let (codec, index) = codec.ok_or_else(|| format!("{topic} has no message of its own"))?;
        let texts = self.texts.as_ref().map_err(Clone::clone)?;
        let reader = self.readers[index].get_or_init(|| codec.reader(texts).map_err(|error| error.to_string()));
        codec.read(reader.as_ref().map_err(Clone::clone)?, body).map_err(|error| error.to_string())
    }

    /// How records of it become JSON, and JSON becomes records of it.
    pub fn values(&self) -> Result<&Values, String> {
        let compile = || {
            let texts = self.texts.as_ref().map_err(Clone::clone)?;
            Values::new(texts).map_err(|error| error.to_string())
        };
        self.values.get_or_init(compile).as_ref().map_err(Clone::clone)
    }
}
