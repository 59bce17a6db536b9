//! `millrace produce` and `millrace consume`: topics by hand, through a server in dev mode or straight from Kafka.

use std::collections::BTreeMap;
use std::io::{BufRead, Write};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use clap::Args;
use serde_json::{Value, json};
use tokio_stream::StreamExt;

use crate::log::{Isolation, Log, Nulls, Record, Stored, Topic, kafka::Kafka};
use crate::proto::admin::log_service_client::LogServiceClient;
use crate::proto::admin::{ConsumeRequest, Header, ProduceRequest, ProducedRecord};
use crate::registry::Registry;

use super::framed;

#[derive(Args)]
struct Source {
    /// A server in dev mode
    #[arg(long, default_value = "127.0.0.1:7233", value_name = "HOST:PORT")]
    address: String,
    /// Kafka itself, instead of a server in dev mode
    #[arg(long, value_name = "HOST:PORT,…", conflicts_with = "address")]
    brokers: Option<String>,
    #[arg(long, default_value = "millrace.", value_name = "P")]
    topic_prefix: String,
    /// A property for librdkafka, such as security.protocol=SASL_SSL; may be repeated
    #[arg(long = "kafka", value_name = "KEY=VALUE", value_parser = property)]
    kafka: Vec<(String, String)>,
    #[command(flatten)]
    registry: framed::Arguments,
}

#[derive(Args)]
pub struct Produce {
    /// requests, or a topic of your own
    #[arg(value_parser = topic)]
    topic: Topic,
    /// The records' key (default: the workflow id in each)
    #[arg(long)]
    key: Option<String>,
    /// A header of each record, such as reply-topic=shop.replies; may be repeated
    #[arg(long = "header", value_name = "NAME=VALUE", value_parser = header)]
    headers: Vec<(String, Bytes)>,
    #[command(flatten)]
    source: Source,
}

#[derive(Args)]
pub struct Consume {
    /// requests, history, completions, timers, rejections, activity-tasks, or a topic of your own
    #[arg(value_parser = topic)]
    topic: Topic,
    /// From the first record that is still there, not only what comes
    #[arg(long)]
    from_beginning: bool,
    /// Do not stop at the end
    #[arg(long)]
    follow: bool,
    /// Stop after this many records
    #[arg(long, value_name = "N")]
    max: Option<usize>,
    /// Only records with this key
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// Only records of this partition
    #[arg(long, value_name = "N")]
    partition: Option<u32>,
    /// Only records whose value has this at a path of names, such as status=COMPLETED or workflow_id=order-1; may be repeated,
    /// and then all must hold
    #[arg(long = "where", value_name = "PATH=VALUE", value_parser = condition)]
    conditions: Vec<(Vec<String>, String)>,
    #[command(flatten)]
    source: Source,
}

fn topic(name: &str) -> Result<Topic, String> {
    if name.is_empty() {
        return Err("name a topic".into());
    }
    let known = Topic::ALL.iter().find(|topic| topic.name() == name);
    Ok(known.copied().unwrap_or_else(|| Topic::user(name)))
}

/// A property for librdkafka, as it is given on the command line.
pub fn property(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("expected KEY=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

fn condition(text: &str) -> Result<(Vec<String>, String), String> {
    let (path, value) = text.split_once('=').ok_or("expected PATH=VALUE")?;
    if path.is_empty() {
        return Err("the path is missing: expected PATH=VALUE".into());
    }
    Ok((path.split('.').map(str::to_owned).collect(), value.to_owned()))
}

impl Consume {
    /// Whether a record is asked for. A value that is a list has what one of its elements has.
    fn matches(&self, partition: u32, stored: &Stored, value: &Value) -> bool {
        self.partition.is_none_or(|wanted| wanted == partition)
            && self.key.as_ref().is_none_or(|key| stored.record.key == key.as_bytes())
            && self.conditions.iter().all(|(path, wanted)| has(value, path, wanted))
    }
}

fn has(value: &Value, path: &[String], wanted: &str) -> bool {
    match (value, path) {
        (Value::Array(elements), _) => elements.iter().any(|element| has(element, path, wanted)),
        (Value::Object(fields), [name, rest @ ..]) => fields.get(name).is_some_and(|value| has(value, rest, wanted)),
        (Value::String(text), []) => text == wanted,
        (value, []) => format!("{value}") == wanted,
        _ => false,
    }
}

fn header(text: &str) -> Result<(String, Bytes), String> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE")?;
    Ok((name.to_owned(), Bytes::copy_from_slice(value.as_bytes())))
}

fn connect_kafka(source: &Source, brokers: &str, topic: Topic) -> Result<Kafka> {
    let config = crate::log::kafka::Config {
        topic_prefix: source.topic_prefix.clone(),
        properties: source.kafka.iter().cloned().collect(),
        create_topics: false,
        // How many there should be is the server's to check.
        replication_factor: Some(1),
        user_topics: matches!(topic, Topic::User(_)).then_some(topic).into_iter().collect(),
        ..crate::log::kafka::Config::new(brokers)
    };
    Ok(Kafka::connect(config)?)
}

async fn connect(source: &Source) -> Result<LogServiceClient<tonic::transport::Channel>> {
    let client = LogServiceClient::connect(format!("http://{}", source.address)).await;
    let client = client.with_context(|| {
        format!(
            "no server answers at {}: start one with `millrace server start-dev`, or name Kafka with --brokers",
            source.address
        )
    })?;
    Ok(client.max_decoding_message_size(64 << 20))
}

pub fn produce(arguments: Produce) -> Result<()> {
    let topic = arguments.topic;
    if !matches!(arguments.topic, Topic::Requests | Topic::User(_)) {
        bail!("only requests, and topics of your own, are written from outside, not {}", arguments.topic.name());
    }
    let encoder = match arguments.source.registry.open()? {
        Some(registry) => Some(framed::Encoder::new(&registry, topic, &arguments.source.topic_prefix)?),
        None => None,
    };
    let mut records = Vec::new();
    for (number, line) in std::io::stdin().lock().lines().enumerate() {
        let line = line?;
        if line.trim().is_empty() {
            continue;
        }
        let key = arguments.key.clone().or_else(|| workflow_id(&line)).unwrap_or_default();
        let value = match &encoder {
            Some(encoder) => {
                encoder.encode(&line).with_context(|| format!("line {} can't be written as Avro", number + 1))?
            }
            None => Bytes::from(line),
        };
        records.push((Bytes::from(key), value));
    }
    let count = records.len();
    match &arguments.source.brokers {
        Some(brokers) => {
            let log = connect_kafka(&arguments.source, brokers, topic)?;
            for (key, value) in records {
                let partition = crate::types::partition_of_key(&key, log.partitions_of(topic));
                let (sender, receiver) = std::sync::mpsc::channel();
                log.append(
                    topic,
                    partition,
                    vec![Record { key, value: Some(value), headers: arguments.headers.clone() }],
                    Box::new(move |outcome| drop(sender.send(outcome))),
                );
                receiver.recv()??;
            }
        }
        None => runtime()?.block_on(async {
            let mut client = connect(&arguments.source).await?;
            let headers: Vec<_> =
                arguments.headers.iter().cloned().map(|(name, value)| Header { name, value }).collect();
            let record = |(key, value)| ProducedRecord { key, value, headers: headers.clone() };
            let records = records.into_iter().map(record).collect();
            client
                .produce(ProduceRequest { topic: topic.name().to_owned(), records })
                .await
                .map_err(|status| anyhow::anyhow!("{}", status.message()))?;
            anyhow::Ok(())
        })?,
    }
    eprintln!("{count} records written to {}", topic.name());
    Ok(())
}

/// The workflow id that a JSON request names, as its key.
fn workflow_id(line: &str) -> Option<String> {
    let request: Value = serde_json::from_str(line).ok()?;
    let body = request.as_object()?.values().next()?;
    let id = body.get("workflow_id").or_else(|| body.get("start")?.get("workflow_id"))?;
    Some(id.as_str()?.to_owned())
}

pub fn consume(arguments: Consume) -> Result<()> {
    let topic = arguments.topic;
    let max = arguments.max.unwrap_or(usize::MAX);
    let shown = Shows { registry: arguments.source.registry.open()?, arguments: &arguments };
    match &arguments.source.brokers {
        Some(brokers) => consume_kafka(&connect_kafka(&arguments.source, brokers, topic)?, topic, &shown, max),
        None => runtime()?.block_on(async {
            let mut client = connect(&arguments.source).await?;
            let request = ConsumeRequest {
                topic: topic.name().to_owned(),
                from_beginning: arguments.from_beginning,
                follow: arguments.follow,
            };
            let mut records =
                client.consume(request).await.map_err(|status| anyhow::anyhow!("{}", status.message()))?.into_inner();
            let mut count = 0;
            while count < max
                && let Some(record) = records.next().await
            {
                let record = record.map_err(|status| anyhow::anyhow!("{}", status.message()))?;
                let stored = Stored {
                    offset: record.offset,
                    timestamp_ms: record.timestamp_ms,
                    record: Record {
                        key: record.key,
                        value: record.value,
                        headers: record.headers.into_iter().map(|header| (header.name, header.value)).collect(),
                    },
                    nulls: Nulls {
                        key: record.key_is_null,
                        headers: record.null_headers.into_iter().map(|at| at as usize).collect(),
                    },
                };
                match shown.show(record.partition, &stored)? {
                    Shown::Yes => count += 1,
                    Shown::NotWanted => {}
                    Shown::NobodyReads => break,
                }
            }
            Ok(())
        }),
    }
}

fn consume_kafka(log: &Kafka, topic: Topic, shows: &Shows, max: usize) -> Result<()> {
    let arguments = shows.arguments;
    let mut readers = Vec::new();
    for partition in 0..log.partitions_of(topic) {
        // For people only: an old end shows fewer records, or more of those that come next.
        let end = log.end_at_least(topic, partition, Isolation::ReadCommitted)?;
        let from = if arguments.from_beginning { log.start_offset(topic, partition)? } else { end };
        readers.push((partition, from, end, log.reader(topic, partition, from, Isolation::ReadCommitted)?));
    }
    let mut shown = 0;
    loop {
        let mut behind = false;
        for (partition, next, end, reader) in &mut readers {
            if !arguments.follow && *next >= *end {
                continue;
            }
            behind = true;
            let read = reader.next(500, Duration::from_millis(100))?;
            *next = read.next_offset.max(*next);
            for stored in &read.records {
                if shown >= max {
                    return Ok(());
                }
                match shows.show(*partition, stored)? {
                    Shown::Yes => shown += 1,
                    Shown::NotWanted => {}
                    Shown::NobodyReads => return Ok(()),
                }
            }
        }
        if shown >= max || (!behind && !arguments.follow) {
            return Ok(());
        }
    }
}

/// What became of a record that was to be printed.
enum Shown {
    Yes,
    NotWanted,
    NobodyReads,
}

/// The arguments, and what resolves the schema that wrote a record.
struct Shows<'a> {
    arguments: &'a Consume,
    registry: Option<Registry>,
}

impl Shows<'_> {
    /// Prints one record, if it is asked for.
    fn show(&self, partition: u32, stored: &Stored) -> Result<Shown> {
        let value = match &stored.record.value {
            None => Value::Null,
            Some(value) => framed::readable(self.registry.as_ref(), self.arguments.topic, value)?,
        };
        if !self.arguments.matches(partition, stored, &value) {
            return Ok(Shown::NotWanted);
        }
        print(partition, stored, value)
    }
}

fn print(partition: u32, stored: &Stored, value: Value) -> Result<Shown> {
    let mut line: BTreeMap<&str, Value> = [
        ("partition", json!(partition)),
        ("offset", json!(stored.offset)),
        ("timestamp_ms", json!(stored.timestamp_ms)),
        ("key", if stored.nulls.key { Value::Null } else { json!(String::from_utf8_lossy(&stored.record.key)) }),
        ("value", value),
    ]
    .into();
    if !stored.record.headers.is_empty() {
        let text = |(at, (name, value)): (usize, &(String, Bytes))| {
            let null = stored.nulls.headers.contains(&at);
            (name.clone(), if null { Value::Null } else { json!(String::from_utf8_lossy(value)) })
        };
        line.insert("headers", Value::Object(stored.record.headers.iter().enumerate().map(text).collect()));
    }
    let mut out = std::io::stdout().lock();
    match writeln!(out, "{}", serde_json::to_string(&line)?).and_then(|()| out.flush()) {
        Ok(()) => Ok(Shown::Yes),
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(Shown::NobodyReads),
        Err(error) => Err(error.into()),
    }
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_looks_along_a_path_and_into_lists() {
        let value =
            json!({"status": "COMPLETED", "n": 7, "events": [{"event_id": 1}, {"event_id": 2, "a": {"b": true}}]});
        let holds = |text: &str| {
            let (path, wanted) = condition(text).expect("it is a condition");
            has(&value, &path, &wanted)
        };
        for text in ["status=COMPLETED", "n=7", "events.event_id=2", "events.a.b=true"] {
            assert!(holds(text), "{text}");
        }
        for text in ["status=FAILED", "n=8", "events=2", "events.event_id=3", "nothing=1", "status.more=COMPLETED"] {
            assert!(!holds(text), "{text}");
        }
        assert!(condition("status").is_err() && condition("=x").is_err());
    }
}
