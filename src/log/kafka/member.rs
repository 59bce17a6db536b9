//! A node's place in the consumer group that the partitions are shared out in.
//!
//! The classic protocol, with cooperative-sticky assignment: what a node has stays where it is as others come and go. The
//! membership is static (KIP-345): a node that starts again within the session timeout gets its partitions back, and its
//! stores are still warm. The price is that a node which leaves for good is missed only after the session timeout.

use std::collections::{BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, Rebalance};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::util::Timeout;
use rdkafka::{ClientContext, TopicPartitionList};

use super::client::{CALL_WAIT_MAX, Clients, Events, unavailable, unusable};
use crate::log::{self, Assignee, Error, Node};

/// How long one wait for news of the group takes.
const POLL: Duration = Duration::from_millis(250);

/// Two processes with one node id take the place from each other again and again. Once in a while is no sign of that.
const FENCED_MAX: usize = 3;
const FENCED_WITHIN: Duration = Duration::from_secs(60);

pub(super) struct Member {
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl log::Member for Member {}

impl Member {
    pub fn join(clients: &Clients, commands: &str, node: &Node, assignee: Arc<dyn Assignee>) -> Result<Self, Error> {
        let joining = Joining {
            clients: clients.clone(),
            commands: commands.to_owned(),
            node: node.clone(),
            assignee,
            stop: Arc::default(),
        };
        let stop = joining.stop.clone();
        let consumer = joining.subscribe()?;
        let work = move || {
            if let Err(error) = joining.stay(consumer) {
                joining.assignee.failed(error);
            }
        };
        let thread = std::thread::Builder::new().name("member".into()).spawn(work);
        let thread = thread.map_err(|error| Error::Unavailable(format!("no thread can be started: {error}")))?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

/// What a member needs to join, and to join again.
struct Joining {
    clients: Clients,
    commands: String,
    node: Node,
    assignee: Arc<dyn Assignee>,
    stop: Arc<AtomicBool>,
}

impl Joining {
    fn subscribe(&self) -> Result<BaseConsumer<Assignments>, Error> {
        let context = Assignments {
            events: Events::default(),
            assignee: self.assignee.clone(),
            held: Mutex::default(),
            lost: AtomicBool::new(false),
        };
        let consumer: BaseConsumer<Assignments> =
            self.clients.member(&self.node).create_with_context(context).map_err(unusable)?;
        consumer
            .subscribe(&[&self.commands])
            .map_err(|error| unavailable("the group of the nodes can't be joined", error))?;
        Ok(consumer)
    }

    fn join_again(&self, consumer: BaseConsumer<Assignments>) -> Result<BaseConsumer<Assignments>, Error> {
        consumer.context().lose_all();
        drop(consumer);
        self.subscribe()
    }

    /// Takes part until it is stopped, or can't go on.
    fn stay(&self, mut consumer: BaseConsumer<Assignments>) -> Result<(), Error> {
        let mut fenced: VecDeque<Instant> = VecDeque::new();
        while !self.stop.load(Ordering::Relaxed) {
            // Calls the assignee as a rebalance requires. Nothing is read, as all that is assigned is paused.
            let polled = consumer.poll(POLL);
            if consumer.context().lost.load(Ordering::Relaxed) {
                // Where the coordinator hangs, this client waits for its answer, and is notified late that another took its
                // place.
                tracing::warn!("the group of the nodes removed this one, which joins again");
                consumer = self.join_again(consumer)?;
                continue;
            }
            let Some(Err(error)) = polled else { continue };
            let fatal = consumer.client().fatal_error().map(|(code, _)| code);
            match fatal.or(error.rdkafka_error_code()) {
                Some(RDKafkaErrorCode::FencedInstanceId) => {
                    // A request to join that a coordinator answers late, which hung or was cut off, does so too: it gives the
                    // place to a member id that no client received.
                    fenced.retain(|earlier| earlier.elapsed() < FENCED_WITHIN);
                    fenced.push_back(Instant::now());
                    if fenced.len() > FENCED_MAX {
                        return Err(Error::Unusable(format!(
                            "another process has the node id {}: a copy of a data directory is no second node, so start that one with an empty directory",
                            self.node.id
                        )));
                    }
                    tracing::warn!("this node's place in the group of the nodes was taken, and it joins again");
                    consumer = self.join_again(consumer)?;
                }
                Some(code) if fatal.is_some() || is_final(code) => {
                    return Err(Error::Unusable(format!("the node can't be in the group of the nodes: {error}")));
                }
                _ => tracing::debug!("the group of the nodes: {error}"),
            }
        }
        Ok(())
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

/// The length of what a broker appends to the id of a node that is a member: a hyphen and a UUID.
const MEMBER_SUFFIX: usize = 37;

/// The ids of the nodes that are in the group now, as its coordinator has them.
pub(super) fn ids(client: &BaseConsumer<Events>, group: &str) -> Result<Vec<String>, Error> {
    let doing = "the group of the nodes can't be read";
    let found = client.fetch_group_list(Some(group), CALL_WAIT_MAX).map_err(|error| unavailable(doing, error))?;
    let members = found.groups().iter().filter(|found| found.name() == group).flat_map(|group| group.members());
    members
        .map(|member| {
            let id = member.id();
            let node = id.len().checked_sub(MEMBER_SUFFIX).and_then(|end| id.get(..end));
            node.map(str::to_owned).ok_or_else(|| Error::Unavailable(format!("{doing}: {id} is no node's id")))
        })
        .collect()
}

fn is_final(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(
        code,
        Code::Fatal | Code::GroupAuthorizationFailed | Code::InvalidSessionTimeout | Code::InconsistentGroupProtocol
    )
}

/// Hands rebalances on.
struct Assignments {
    events: Events,
    assignee: Arc<dyn Assignee>,
    /// What is assigned now.
    held: Mutex<BTreeSet<u32>>,
    /// What was assigned is another's now, or may be.
    lost: AtomicBool,
}

impl Assignments {
    /// The assignee loses what was not revoked from a member that ends.
    fn lose_all(&self) {
        let lost: Vec<u32> = std::mem::take(&mut *self.held()).into_iter().collect();
        if !lost.is_empty() {
            self.assignee.lost(&lost);
        }
    }

    fn held(&self) -> MutexGuard<'_, BTreeSet<u32>> {
        self.held.lock().expect("nothing that panics runs under this lock")
    }
}

impl ClientContext for Assignments {
    fn stats_raw(&self, statistics: &[u8]) {
        self.events.stats_raw(statistics);
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.events.log(level, facility, message);
    }

    fn error(&self, error: rdkafka::error::KafkaError, reason: &str) {
        self.events.error(error, reason);
    }
}

impl ConsumerContext for Assignments {
    fn pre_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        match rebalance {
            Rebalance::Revoke(revoked) => {
                let revoked = numbers(revoked);
                self.held().retain(|partition| !revoked.contains(partition));
                if consumer.assignment_lost() {
                    self.lost.store(true, Ordering::Relaxed);
                    self.assignee.lost(&revoked);
                } else {
                    self.assignee.revoked(&revoked);
                }
            }
            Rebalance::Assign(_) => {}
            Rebalance::Error(error) => tracing::warn!("a rebalance of the partitions failed: {error}"),
        }
    }

    fn post_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        if let Rebalance::Assign(assigned) = rebalance {
            if let Err(error) = consumer.pause(assigned) {
                tracing::warn!("partitions that need not be read are read: {error}");
            }
            let assigned = numbers(assigned);
            self.held().extend(&assigned);
            self.assignee.assigned(&assigned);
        }
    }

    fn main_queue_min_poll_interval(&self) -> Timeout {
        Timeout::After(POLL)
    }
}

fn numbers(partitions: &TopicPartitionList) -> Vec<u32> {
    partitions.elements().iter().filter_map(|element| u32::try_from(element.partition()).ok()).collect()
}
