//! Settings of librdkafka's clients, and their statistics, logs and errors.
//!
//! The user's properties (TLS, SASL, tuning) come after our defaults and before what correctness needs: they can't turn
//! idempotence off.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode;

use crate::log::{Error, Isolation, Node};

/// How long a call waits for the cluster before it fails as unavailable.
pub(super) const CALL_WAIT_MAX: Duration = Duration::from_secs(10);

/// The smallest `max.message.bytes` of a topic: a payload of 2 MiB and a completion of 4 MiB must fit.
pub(super) const MESSAGE_BYTES_MAX: usize = 8 * 1024 * 1024;

/// What librdkafka reports of states that pass by themselves.
const PASSING: [&str; 2] = ["METADATAUPDATE", "GETPID"];
/// What it reports of clients that are of no use any more.
const FATAL: [&str; 2] = ["TXNERR", "FATAL"];

/// How long an append is retried. After that it is not known whether it is in the log.
const APPEND_WAIT_MAX_MS: u64 = 30_000;

/// How long Kafka lets a transaction stay open: if its owner dies without a successor, readers wait for so long.
const TRANSACTION_MS_MAX: u64 = 20_000;

/// Makes the settings of each kind of client.
#[derive(Clone)]
pub(super) struct Clients {
    pub brokers: String,
    pub prefix: String,
    pub properties: BTreeMap<String, String>,
}

impl Clients {
    fn settings(&self, defaults: &[(&str, &str)], required: &[(&str, &str)]) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("client.id", "millrace")
            .set("reconnect.backoff.ms", "20")
            .set("reconnect.backoff.max.ms", "200")
            .set("socket.nagle.disable", "true")
            .set("socket.keepalive.enable", "true")
            // A broker that hangs keeps what was sent to it for so long: until then nothing goes to the one that leads instead.
            .set("socket.timeout.ms", "6000")
            .set("statistics.interval.ms", "10000");
        for (name, value) in defaults {
            config.set(*name, *value);
        }
        for (name, value) in &self.properties {
            config.set(name, value);
        }
        config.set("bootstrap.servers", &self.brokers);
        for (name, value) in required {
            config.set(*name, *value);
        }
        config
    }

    fn producer(&self, required: &[(&str, &str)]) -> ClientConfig {
        let message_bytes = MESSAGE_BYTES_MAX.to_string();
        let defaults = [
            ("linger.ms", "0"),
            ("retry.backoff.ms", "1"),
            ("retry.backoff.max.ms", "100"),
            ("queue.buffering.max.messages", "1000000"),
            ("queue.buffering.max.kbytes", "262144"),
            ("message.max.bytes", &message_bytes),
            // Java's: a key of a user's topic goes where its own producers put it.
            ("partitioner", "murmur2_random"),
        ];
        let always = [("enable.idempotence", "true"), ("acks", "all")];
        self.settings(&defaults, &[&always, required].concat())
    }

    /// For appends outside transactions.
    pub fn appender(&self) -> ClientConfig {
        self.producer(&[("message.timeout.ms", &APPEND_WAIT_MAX_MS.to_string())])
    }

    /// For the transactions of a partition's owner.
    pub fn owner(&self, partition: u32) -> ClientConfig {
        let timeout = TRANSACTION_MS_MAX.to_string();
        self.producer(&[
            ("transactional.id", &format!("{}{partition}", self.prefix)),
            ("transaction.timeout.ms", &timeout),
            ("message.timeout.ms", &timeout),
        ])
    }

    /// For questions about offsets, which the broker answers according to the isolation.
    pub fn questions(&self, isolation: Isolation) -> ClientConfig {
        self.settings(&[], &[("isolation.level", isolation_level(isolation))])
    }

    pub fn reader(&self, isolation: Isolation) -> ClientConfig {
        let defaults = [
            ("queued.min.messages", "10000"),
            ("queued.max.messages.kbytes", "16384"),
            // The default of a second stalls a long replay whenever its queue is full.
            ("fetch.queue.backoff.ms", "10"),
            ("fetch.error.backoff.ms", "50"),
            ("fetch.message.max.bytes", "8388608"),
        ];
        let group = format!("{}reader", self.prefix);
        self.settings(
            &defaults,
            &[
                // librdkafka requires a group to assign partitions; this one is never joined and commits nothing.
                ("group.id", &group),
                ("enable.auto.commit", "false"),
                ("enable.auto.offset.store", "false"),
                ("enable.partition.eof", "true"),
                ("auto.offset.reset", "earliest"),
                ("isolation.level", isolation_level(isolation)),
            ],
        )
    }

    /// For the positions of a named consumer; its group is never joined.
    pub fn positions(&self, consumer: &str) -> ClientConfig {
        let group = format!("{}{consumer}", self.prefix);
        self.settings(&[], &[("group.id", &group), ("enable.auto.commit", "false")])
    }

    pub fn group_of_nodes(&self) -> String {
        format!("{}nodes", self.prefix)
    }

    /// For a node's place in the group that the partitions are shared out in. It reads nothing.
    pub fn member(&self, node: &Node) -> ClientConfig {
        let group = self.group_of_nodes();
        let session_ms = node.session_timeout.as_millis();
        // It is polled several times a second; librdkafka requires it to be no less than the session's.
        let poll_ms = session_ms.max(300_000).to_string();
        self.settings(
            &[],
            &[
                ("max.poll.interval.ms", &poll_ms),
                ("group.id", &group),
                ("group.instance.id", &node.id),
                ("partition.assignment.strategy", "cooperative-sticky"),
                ("session.timeout.ms", &session_ms.to_string()),
                // A member is notified of a rebalance with its next heartbeat, and what moves has no owner until all are.
                ("heartbeat.interval.ms", &(session_ms / 4).clamp(1, 500).to_string()),
                ("enable.auto.commit", "false"),
                ("auto.offset.reset", "latest"),
            ],
        )
    }

    /// This client is not polled for its log lines, so it keeps none.
    pub fn admin(&self) -> ClientConfig {
        let mut config = self.settings(&[], &[]);
        config.set_log_level(RDKafkaLogLevel::Emerg);
        config
    }
}

fn isolation_level(isolation: Isolation) -> &'static str {
    match isolation {
        Isolation::ReadUncommitted => "read_uncommitted",
        Isolation::ReadCommitted => "read_committed",
    }
}

/// Passes librdkafka's log lines on and keeps its last error, which is more specific than an error code.
#[derive(Default)]
pub(super) struct Events {
    complaint: Mutex<Option<String>>,
}

impl Events {
    pub fn complaint(&self) -> Option<String> {
        self.complaint.lock().expect("nothing that panics runs under this lock").clone()
    }
}

impl ClientContext for Events {
    fn stats_raw(&self, statistics: &[u8]) {
        crate::metrics::librdkafka_stats(statistics);
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        match level {
            // The client's user gets it too, and reports what it means: a partition that has a new owner, most often.
            _ if FATAL.contains(&facility) => tracing::warn!(target: "librdkafka", "{facility} {message}"),
            RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
                tracing::error!(target: "librdkafka", "{facility} {message}")
            }
            // It is logged hundreds of times a second while a broker comes back.
            _ if PASSING.contains(&facility) => tracing::debug!(target: "librdkafka", "{facility} {message}"),
            // What librdkafka calls an error is mostly a connection that it will open again.
            RDKafkaLogLevel::Debug | RDKafkaLogLevel::Info | RDKafkaLogLevel::Notice => {
                tracing::debug!(target: "librdkafka", "{facility} {message}")
            }
            _ => tracing::warn!(target: "librdkafka", "{facility} {message}"),
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(target: "librdkafka", "{error}: {reason}");
        // "All brokers are down" follows the reason why: keep that.
        if error.rdkafka_error_code() != Some(RDKafkaErrorCode::AllBrokersDown) {
            *self.complaint.lock().expect("nothing that panics runs under this lock") = Some(reason.to_string());
        }
    }
}

impl ConsumerContext for Events {}

/// An error of a call that left nothing behind.
pub(super) fn unavailable(doing: &str, error: KafkaError) -> Error {
    Error::Unavailable(format!("{doing}: {error}"))
}

/// A client that can't even be made has a wrong property.
pub(super) fn unusable(error: KafkaError) -> Error {
    Error::Unusable(format!("the settings for Kafka are wrong: {error}"))
}
