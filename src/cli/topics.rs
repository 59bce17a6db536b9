//! `millrace topics`: creates, checks and explains Millrace's topics.

use std::io::Write;

use anyhow::Result;
use clap::{Args, Subcommand};

use super::records::property;
use crate::log::kafka::{Config, Kafka, requirements};
use crate::log::{Log, Topic};

/// Replicas for which requirements are explained.
const REPLICATION_EXPLAINED: usize = 3;

#[derive(Args)]
pub struct Topics {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Create the topics that are missing, and check the others
    Create(Cluster),
    /// Check that all topics are there, as Millrace needs them
    Verify(Cluster),
    /// Say what each topic holds, how it is keyed, and what it must be set to
    Explain {
        #[arg(long, default_value = "millrace.", value_name = "P")]
        topic_prefix: String,
    },
}

#[derive(Args)]
struct Cluster {
    /// Kafka brokers, with commas between
    #[arg(long, env = "MILLRACE_BROKERS", value_name = "HOST:PORT,…")]
    brokers: String,
    #[arg(long, env = "MILLRACE_TOPIC_PREFIX", default_value = "millrace.", value_name = "P")]
    topic_prefix: String,
    /// Partitions of new topics (default: 8); those that exist must have as many
    #[arg(long, env = "MILLRACE_PARTITIONS", value_name = "N")]
    partitions: Option<u32>,
    /// Replicas of new topics, and the fewest that those which exist may have (default: 3, or as many as there are brokers)
    #[arg(long, env = "MILLRACE_REPLICATION_FACTOR", value_name = "N")]
    replication_factor: Option<u32>,
    /// A property for librdkafka, such as security.protocol=SASL_SSL; may be repeated
    #[arg(long = "kafka", value_name = "KEY=VALUE", value_parser = property)]
    kafka: Vec<(String, String)>,
}

pub fn run(arguments: Topics) -> Result<()> {
    match arguments.what {
        What::Create(cluster) => connect(cluster, true),
        What::Verify(cluster) => connect(cluster, false),
        What::Explain { topic_prefix } => match explain(&topic_prefix) {
            // The reader has closed the pipe.
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
            explained => Ok(explained?),
        },
    }
}

fn connect(cluster: Cluster, create_topics: bool) -> Result<()> {
    let prefix = cluster.topic_prefix.clone();
    let log = Kafka::connect(Config {
        topic_prefix: cluster.topic_prefix,
        partitions: cluster.partitions,
        replication_factor: cluster.replication_factor,
        create_topics,
        properties: cluster.kafka.into_iter().collect(),
        ..Config::new(&cluster.brokers)
    })?;
    for topic in Topic::ALL {
        println!("{prefix}{}: as it should be, partitions: {}", topic.name(), log.partitions_of(topic));
    }
    Ok(())
}

/// What a topic holds, its key, and its producers.
fn described(topic: Topic) -> (&'static str, &'static str, &'static str) {
    match topic {
        Topic::Requests => (
            "starts, signals, cancellations, answers to activities: Avro or JSON, see schemas/requests.avsc",
            "anything; records of one key keep their order",
            "anyone",
        ),
        Topic::Commands => ("what is to be decided, in order: the write-ahead log; internal", "workflow", "Millrace"),
        Topic::History => (
            "every history event, in batches: schemas/history.avsc",
            "workflow, run, first event id",
            "Millrace, in transactions",
        ),
        Topic::Completions => {
            ("how each run ended: schemas/completions.avsc", "workflow id", "Millrace, in transactions")
        }
        Topic::ActivityTasks => (
            "tasks of activities whose workers need no SDK: schemas/activity-tasks.avsc",
            "workflow id",
            "Millrace, in transactions",
        ),
        Topic::Timers => (
            "timers that started, fired, were canceled: schemas/timers.avsc",
            "workflow id",
            "Millrace, in transactions",
        ),
        Topic::Rejections => (
            "requests that could not be carried out, and why: schemas/rejections.avsc",
            "the request's",
            "Millrace, in transactions",
        ),
        Topic::State => {
            ("the changelog that stores are restored from; internal", "record", "Millrace, in transactions")
        }
        Topic::Control => ("who owns which partition, and the namespaces; internal", "what it names", "Millrace"),
        Topic::User(_) => ("", "", ""),
    }
}

fn explain(prefix: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    for topic in Topic::ALL {
        let (holds, key, writer) = described(topic);
        writeln!(
            out,
            "{prefix}{}\n    holds       {holds}\n    key         {key}\n    written by  {writer}",
            topic.name()
        )?;
        if topic == Topic::Control {
            writeln!(out, "    partitions  1")?;
        } else {
            writeln!(
                out,
                "    partitions  as many as the others: what partition p of commands leads to is in p of each"
            )?;
        }
        for (name, value, why) in requirements(topic, REPLICATION_EXPLAINED) {
            writeln!(out, "    {name} = {value}: {why}")?;
        }
        writeln!(out)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_topic_is_explained_and_has_the_schema_that_is_named() {
        for topic in Topic::ALL {
            let (holds, key, writer) = described(topic);
            assert!(!holds.is_empty() && !key.is_empty() && !writer.is_empty(), "{topic:?}");
            if let Some((_, schema)) = holds.split_once("schemas/") {
                let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas").join(schema);
                assert!(path.exists(), "{}", path.display());
            }
            assert!(!requirements(topic, REPLICATION_EXPLAINED).is_empty());
        }
    }
}
