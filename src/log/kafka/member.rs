//! A node's place in the consumer group that the partitions are shared out in.
//!
//! The classic protocol, with cooperative-sticky assignment: what a node has stays where it is as others come and go. The
//! membership is static (KIP-345): a node that starts again within the session timeout gets its partitions back, and its
//! stores are still warm. The price is that a node which leaves for good is missed only after the session timeout.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, Rebalance};
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::util::Timeout;
use rdkafka::{ClientContext, TopicPartitionList};

use super::client::{Clients, Events, unavailable, unusable};
use crate::log::{self, Assignee, Error, Node};

/// How long one wait for news of the group takes.
const POLL: Duration = Duration::from_millis(250);

pub(super) struct Member {
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl log::Member for Member {}

impl Member {
    pub fn join(clients: &Clients, commands: &str, node: &Node, assignee: Arc<dyn Assignee>) -> Result<Self, Error> {
        let context = Assignments { events: Events::default(), assignee: assignee.clone() };
        let consumer: BaseConsumer<Assignments> =
            clients.member(node).create_with_context(context).map_err(unusable)?;
        consumer
            .subscribe(&[commands])
            .map_err(|error| unavailable("the group of the nodes can't be joined", error))?;
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, id) = (stop.clone(), node.id.clone());
        let work = move || {
            while !stopped.load(Ordering::Relaxed) {
                // Calls the assignee as a rebalance wants it. Nothing is read, as all that is assigned is paused.
                let Some(Err(error)) = consumer.poll(POLL) else { continue };
                let fatal = consumer.client().fatal_error().map(|(code, _)| code);
                if let Some(reason) = is_final(&error, fatal, &id) {
                    assignee.failed(Error::Unusable(reason));
                    return;
                }
                tracing::debug!("the group of the nodes: {error}");
            }
        };
        let thread = std::thread::Builder::new().name("member".into()).spawn(work);
        let thread = thread.map_err(|error| Error::Unavailable(format!("no thread can be started: {error}")))?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Why the node can't stay, if it can't.
fn is_final(error: &KafkaError, fatal: Option<RDKafkaErrorCode>, id: &str) -> Option<String> {
    use RDKafkaErrorCode as Code;
    match fatal.or(error.rdkafka_error_code())? {
        Code::FencedInstanceId => Some(format!(
            "another process has the node id {id}: a copy of a data directory is no second node, so start that one with an empty directory"
        )),
        Code::Fatal
        | Code::GroupAuthorizationFailed
        | Code::InvalidSessionTimeout
        | Code::InconsistentGroupProtocol => Some(format!("the node can't be in the group of the nodes: {error}")),
        _ => None,
    }
}

/// Hands rebalances on.
struct Assignments {
    events: Events,
    assignee: Arc<dyn Assignee>,
}

impl ClientContext for Assignments {
    fn stats_raw(&self, statistics: &[u8]) {
        self.events.stats_raw(statistics);
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.events.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.events.error(error, reason);
    }
}

impl ConsumerContext for Assignments {
    fn pre_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        match rebalance {
            Rebalance::Revoke(revoked) => {
                if consumer.assignment_lost() {
                    tracing::warn!("the group of the nodes went on without this one");
                }
                self.assignee.revoked(&numbers(revoked));
            }
            Rebalance::Assign(_) => {}
            Rebalance::Error(error) => tracing::warn!("the partitions could not be shared out anew: {error}"),
        }
    }

    fn post_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        if let Rebalance::Assign(assigned) = rebalance {
            if let Err(error) = consumer.pause(assigned) {
                tracing::warn!("partitions that need not be read are read: {error}");
            }
            self.assignee.assigned(&numbers(assigned));
        }
    }

    fn main_queue_min_poll_interval(&self) -> Timeout {
        Timeout::After(POLL)
    }
}

fn numbers(partitions: &TopicPartitionList) -> Vec<u32> {
    partitions.elements().iter().filter_map(|element| u32::try_from(element.partition()).ok()).collect()
}
