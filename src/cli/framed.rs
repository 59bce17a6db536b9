//! Records that are framed with the id of a schema registry, as JSON: read by `millrace consume`, written by `millrace produce`.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Result, anyhow};
use bytes::Bytes;
use clap::Args;
use serde_json::{Value, json};

use crate::log::Topic;
use crate::registry::{Registry, Settings, Writer, subject};
use crate::wire::avro::framing::{self, Framing};
use crate::wire::avro::{self, Codec, Published};
use crate::wire::requests_json;

/// What an undecodable value is shown as: its first bytes. Bytes.
const TEXT_MAX: usize = 200;

#[derive(Args)]
#[command(next_help_heading = "Schema registry")]
pub struct Arguments {
    /// The registry of Avro records in Confluent's framing, such as http://host:8081: to read them, and to write such
    #[arg(long, env = "MILLRACE_SCHEMA_REGISTRY", value_name = "URL")]
    schema_registry: Option<String>,
    /// Its user and password
    #[arg(long, env = "MILLRACE_SCHEMA_REGISTRY_USER", hide_env_values = true, value_name = "USER:PASSWORD")]
    schema_registry_user: Option<String>,
    /// Certificates that are trusted there, in PEM, instead of the system's
    #[arg(long, env = "MILLRACE_SCHEMA_REGISTRY_CA", value_name = "FILE")]
    schema_registry_ca: Option<PathBuf>,
}

impl Arguments {
    pub fn open(&self) -> Result<Option<Registry>> {
        let Some(url) = &self.schema_registry else { return Ok(None) };
        let (username, password) = match &self.schema_registry_user {
            Some(user) => match user.split_once(':') {
                Some((username, password)) => (Some(username.to_owned()), Some(password.to_owned())),
                None => return Err(anyhow!("--schema-registry-user: expected USER:PASSWORD")),
            },
            None => (None, None),
        };
        let settings =
            Settings { username, password, ca_location: self.schema_registry_ca.clone(), ..Settings::at(url) };
        settings.check().map_err(|reason| anyhow!("--schema-registry: {reason}"))?;
        Ok(Some(Registry::new(&settings)?))
    }
}

/// A value as JSON for people. What can't be read is shown as its length and its first bytes, and why. Fails only if the registry
/// does.
pub fn readable(registry: Option<&Registry>, topic: Topic, value: &[u8]) -> Result<Value> {
    // What Millrace writes to a topic of the users' own is replies.
    let of = if matches!(topic, Topic::User(_)) { avro::published::REPLIES } else { topic.name() };
    let raw = || json!({"bytes": value.len(), "text": String::from_utf8_lossy(&value[..value.len().min(TEXT_MAX)])});
    let Ok((framing::Writer::Id(id), body)) = framing::parse(value) else {
        let decoded = avro::published::codec(of).and_then(|codec| codec.to_json(value).ok());
        return Ok(decoded.or_else(|| serde_json::from_slice(value).ok()).unwrap_or_else(raw));
    };
    let Some(registry) = registry else {
        let mut shown = raw();
        shown["schema_id"] = json!(id);
        shown["error"] = json!("Avro with the id of a schema registry: name the registry with --schema-registry");
        return Ok(shown);
    };
    let decoded = match registry.writer(id) {
        Ok(writer) => framed(&writer, of, matches!(topic, Topic::User(_)), body),
        Err(error) if error.is_final() => Err(error.to_string()),
        Err(error) => return Err(error.into()),
    };
    Ok(decoded.unwrap_or_else(|error| {
        let mut shown = raw();
        shown["schema_id"] = json!(id);
        shown["error"] = json!(error);
        shown
    }))
}

fn framed(writer: &Writer, of: &str, users: bool, body: &[u8]) -> Result<Value, String> {
    let values = writer.values()?;
    // A topic of the users' own may have answers of Millrace's, and anything else.
    let is_message = avro::published::codec(of).is_some_and(|codec| {
        let own = codec.schema();
        !users || matches!(own, avro::Schema::Record(record) if record.name.fullname(None) == values.name())
    });
    if is_message {
        return writer.message_json(of, body);
    }
    let json = values.to_json(body).map_err(|error| error.to_string())?;
    serde_json::from_str(&json).map_err(|error| error.to_string())
}

/// Writes JSON as Avro.
pub enum Encoder {
    /// Requests, by the schema that this version has.
    Requests { codec: &'static Codec, framing: Framing },
    /// By the newest schema of the topic's subject.
    Values { id: u32, writer: Arc<Writer> },
}

impl Encoder {
    pub fn new(registry: &Registry, topic: Topic, prefix: &str) -> Result<Self> {
        if let Topic::User(name) = topic {
            let (id, writer) = registry.latest(&subject(name))?;
            writer.values().map_err(|reason| anyhow!("the newest schema of {}: {reason}", subject(name)))?;
            return Ok(Self::Values { id, writer });
        }
        let codec = crate::proto::events::Request::codec();
        let id = registry.register(&subject(&format!("{prefix}{}", topic.name())), &codec.schema_json())?;
        Ok(Self::Requests { codec, framing: Framing::Confluent([(topic.name().to_owned(), id)].into()) })
    }

    pub fn encode(&self, json: &str) -> Result<Bytes> {
        match self {
            Self::Requests { codec, framing } => {
                requests_json::parse(json.as_bytes())?;
                Ok(codec.encode_framed(framing, Topic::Requests.name(), &codec.read_json(json.as_bytes())?)?)
            }
            Self::Values { id, writer } => {
                let values = writer.values().map_err(|reason| anyhow!("{reason}"))?;
                let body = values.read_json(&serde_json::from_str(json)?).map_err(|reason| anyhow!("{reason}"))?;
                Ok([&[0][..], &id.to_be_bytes(), &body].concat().into())
            }
        }
    }
}
