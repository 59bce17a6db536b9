//! Schema registries: the ids of Millrace's own schemas, and what the ids in other people's records stand for.
//!
//! Speaks the part of Confluent's REST API that every compatible registry has. Calls block for at most some seconds each, so they
//! are made by threads that may wait: at a server's start, by ingress, and by the command line; never by a partition. What
//! an id stands for never changes, so it is asked for once.

mod error;
mod http;
mod settings;
#[cfg(test)]
mod tests;
mod writer;

pub use error::Error;
pub use settings::{Framed, Settings};
pub use writer::Writer;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use self::http::{Answer, Client, escaped};
use crate::wire::avro::{Framing, published};

/// How long a server that starts waits for a registry that does not answer: it may have been started together with it.
const START_WAIT_MAX: Duration = Duration::from_secs(20);
const START_RETRY_EVERY: Duration = Duration::from_secs(1);
/// How many other schemas one may refer to, directly or not.
const REFERENCES_MAX: usize = 100;

/// What Confluent's API answers beside HTTP's 404.
const SUBJECT_NOT_FOUND: i64 = 40401;
const VERSION_NOT_FOUND: i64 = 40402;
const SCHEMA_NOT_FOUND: i64 = 40403;

/// A schema registry.
#[derive(Debug)]
pub struct Registry {
    client: Client,
    writers: RwLock<HashMap<u32, Arc<Writer>>>,
}

impl Registry {
    /// Asks for nothing yet. Fails if the certificates that the settings name can't be read.
    pub fn new(settings: &Settings) -> Result<Self, Error> {
        Ok(Self { client: Client::new(settings)?, writers: RwLock::default() })
    }

    /// The schema that an id stands for. One that can't be used is returned too, and fails when it is used.
    pub fn writer(&self, id: u32) -> Result<Arc<Writer>, Error> {
        let known = self.writers.read().unwrap_or_else(PoisonError::into_inner).get(&id).cloned();
        if let Some(writer) = known {
            return Ok(writer);
        }
        let answer = self.client.get(&format!("schemas/ids/{id}"))?;
        let writer = match answer.error_code {
            None => Arc::new(self.writer_of(&answer)?),
            Some(SCHEMA_NOT_FOUND) => return Err(Error::UnknownId { url: self.client.url.clone(), id }),
            Some(_) => return Err(self.client.unexpected(&answer)),
        };
        self.writers.write().unwrap_or_else(PoisonError::into_inner).insert(id, writer.clone());
        Ok(writer)
    }

    /// The id of a subject's newest schema, and the schema.
    pub fn latest(&self, subject: &str) -> Result<(u32, Arc<Writer>), Error> {
        let answer = self.client.get(&format!("subjects/{}/versions/latest", escaped(subject)))?;
        match answer.error_code {
            None => {}
            Some(SUBJECT_NOT_FOUND | VERSION_NOT_FOUND) => {
                return Err(Error::NoSubject { url: self.client.url.clone(), subject: subject.to_owned() });
            }
            Some(_) => return Err(self.client.unexpected(&answer)),
        }
        Ok((self.id_in(&answer)?, Arc::new(self.writer_of(&answer)?)))
    }

    /// The id of a schema, which is registered for the subject if it is not there yet.
    pub fn register(&self, subject: &str, schema: &str) -> Result<u32, Error> {
        let path = format!("subjects/{}/versions", escaped(subject));
        let answer = self.client.post(&path, &json!({ "schema": schema }))?;
        match (answer.status, answer.error_code) {
            (_, None) => self.id_in(&answer),
            (409, _) => Err(Error::Incompatible { subject: subject.to_owned(), reason: answer.message() }),
            _ => Err(Error::Refused { subject: subject.to_owned(), status: answer.status, reason: answer.message() }),
        }
    }

    /// The id of a schema that the subject has.
    pub fn look_up(&self, subject: &str, schema: &str) -> Result<u32, Error> {
        let answer = self.client.post(&format!("subjects/{}", escaped(subject)), &json!({ "schema": schema }))?;
        let (url, subject) = (self.client.url.clone(), subject.to_owned());
        match answer.error_code {
            None => self.id_in(&answer),
            Some(SUBJECT_NOT_FOUND) => Err(Error::NoSubject { url, subject }),
            Some(SCHEMA_NOT_FOUND) => Err(Error::NotRegistered { url, subject }),
            Some(_) => Err(self.client.unexpected(&answer)),
        }
    }

    /// How everything that a server writes is framed: its schemas are registered, or only looked up. `prefix` is that of
    /// Millrace's own topics. A registry that does not answer is waited for, but not for long.
    pub fn framing(&self, prefix: &str, reply_topics: &[&str], auto_register: bool) -> Result<Framing, Error> {
        self.framing_within(prefix, reply_topics, auto_register, START_WAIT_MAX)
    }

    fn framing_within(
        &self,
        prefix: &str,
        reply_topics: &[&str],
        auto_register: bool,
        wait_max: Duration,
    ) -> Result<Framing, Error> {
        let deadline = Instant::now() + wait_max;
        let mut ids = BTreeMap::new();
        for (topic, subject, schema) in written(prefix, reply_topics) {
            let id = loop {
                let found =
                    if auto_register { self.register(&subject, &schema) } else { self.look_up(&subject, &schema) };
                match found {
                    Err(error) if error.may_pass() && Instant::now() < deadline => {
                        tracing::warn!("{error}; retrying");
                        std::thread::sleep(START_RETRY_EVERY.min(wait_max));
                    }
                    found => break found?,
                }
            };
            tracing::info!(topic, subject, id, "the schema has an id in the registry");
            ids.insert(topic, id);
        }
        Ok(Framing::Confluent(ids))
    }

    fn id_in(&self, answer: &Answer) -> Result<u32, Error> {
        let id = answer.json.get("id").and_then(Value::as_u64).and_then(|id| u32::try_from(id).ok());
        id.ok_or_else(|| self.client.no_registry("its answer has no id"))
    }

    /// The schema of an answer, with all that it refers to.
    fn writer_of(&self, answer: &Answer) -> Result<Writer, Error> {
        let schema_type = answer.json.get("schemaType").and_then(Value::as_str).unwrap_or("AVRO");
        if schema_type != "AVRO" {
            return Ok(Writer::unusable(format!(
                "it is a schema of the type {schema_type}, and only AVRO can be read"
            )));
        }
        let mut texts = Vec::new();
        match self.gather(answer, &mut Vec::new(), &mut texts)? {
            Ok(()) => Ok(Writer::new(texts)),
            Err(reason) => Ok(Writer::unusable(reason)),
        }
    }

    /// Adds the texts of what an answer's schema refers to, and then its own. The inner error: the schema can't be used.
    fn gather(
        &self,
        answer: &Answer,
        seen: &mut Vec<(String, u64)>,
        texts: &mut Vec<String>,
    ) -> Result<Result<(), String>, Error> {
        let text = answer.json.get("schema").and_then(Value::as_str);
        let text = text.ok_or_else(|| self.client.no_registry("its answer has no schema"))?;
        for reference in answer.json.get("references").and_then(Value::as_array).into_iter().flatten() {
            let subject = reference.get("subject").and_then(Value::as_str);
            let version = reference.get("version").and_then(Value::as_u64);
            let (Some(subject), Some(version)) = (subject, version) else {
                return Err(self.client.no_registry("a reference of a schema has no subject and version"));
            };
            let name = (subject.to_owned(), version);
            if seen.contains(&name) {
                continue;
            }
            if seen.len() >= REFERENCES_MAX {
                return Ok(Err(format!("it refers to more than {REFERENCES_MAX} other schemas")));
            }
            seen.push(name);
            let referred = self.client.get(&format!("subjects/{}/versions/{version}", escaped(subject)))?;
            match referred.error_code {
                None => {
                    if let Err(reason) = self.gather(&referred, seen, texts)? {
                        return Ok(Err(reason));
                    }
                }
                Some(SUBJECT_NOT_FOUND | VERSION_NOT_FOUND | SCHEMA_NOT_FOUND) => {
                    return Ok(Err(format!("it refers to version {version} of {subject}, which is not there")));
                }
                Some(_) => return Err(self.client.unexpected(&referred)),
            }
        }
        texts.push(text.to_owned());
        Ok(Ok(()))
    }
}

/// The subject of a topic's values: what Confluent calls the `TopicNameStrategy`. `topic` is the full name.
pub fn subject(topic: &str) -> String {
    format!("{topic}-value")
}

/// Topic (Millrace's own without their prefix), subject and schema of everything that a server writes. `requests` is not
/// among it: its subject is left to its producers.
fn written(prefix: &str, reply_topics: &[&str]) -> Vec<(String, String, String)> {
    let own = published::TOPICS.iter().filter(|(topic, _)| !matches!(*topic, "requests" | "replies"));
    let own = own.map(|(topic, _)| ((*topic).to_owned(), format!("{prefix}{topic}"), *topic));
    let replies = reply_topics.iter().map(|topic| ((*topic).to_owned(), (*topic).to_owned(), "replies"));
    own.chain(replies)
        .map(|(topic, name, of)| {
            let schema = published::codec(of).expect("every public topic has a codec").schema_json();
            (topic, subject(&name), schema)
        })
        .collect()
}
