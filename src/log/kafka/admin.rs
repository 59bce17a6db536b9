//! Calls of Kafka's admin API, made blocking.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;

use rdkafka::TopicPartitionList;
use rdkafka::admin::{AdminClient, AdminOptions, ConfigResource, NewTopic, ResourceSpecifier};
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::Offset;
use rdkafka::types::RDKafkaErrorCode;

use super::client::{CALL_WAIT_MAX, Clients, Events, unavailable, unusable};
use crate::log::Error;

pub(super) struct Admin {
    client: AdminClient<Events>,
}

impl Admin {
    pub fn new(clients: &Clients) -> Result<Admin, Error> {
        Ok(Admin { client: clients.admin().create_with_context(Events::default()).map_err(unusable)? })
    }

    /// A topic that another process has just made counts as made.
    pub fn create_topics(&self, topics: &[NewTopic<'_>]) -> Result<(), Error> {
        let options = options().operation_timeout(Some(CALL_WAIT_MAX));
        let results = block_on(self.client.create_topics(topics, &options))
            .map_err(|error| unavailable("the topics can't be created", error))?;
        for result in results {
            match result {
                Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                Err((name, code)) => {
                    return Err(Error::Unusable(format!(
                        "topic {name} is missing and can't be created ({code}): create it, or let Millrace do so"
                    )));
                }
            }
        }
        Ok(())
    }

    /// The settings of each topic, in the order of the names.
    pub fn describe_topics(&self, names: &[&str]) -> Result<Vec<ConfigResource>, Error> {
        let topics: Vec<_> = names.iter().map(|name| ResourceSpecifier::Topic(name)).collect();
        let results = block_on(self.client.describe_configs(&topics, &options()))
            .map_err(|error| unavailable("the topics' settings can't be read", error))?;
        names
            .iter()
            .zip(results)
            .map(|(name, result)| {
                result.map_err(|code| Error::Unusable(format!("the settings of topic {name} can't be read: {code}")))
            })
            .collect()
    }

    pub fn topic_id(&self, topic: &str) -> Result<String, Error> {
        super::topic_id::topic_id(self.client.inner(), topic)
    }

    pub fn delete_records(&self, topic: &str, partition: u32, before: i64) -> Result<(), Error> {
        let delete = || {
            let mut range = TopicPartitionList::new();
            range.add_partition_offset(topic, partition as i32, Offset::Offset(before))?;
            let deleted = block_on(self.client.delete_records(&range, &options()))?;
            deleted.find_partition(topic, partition as i32).map_or(Ok(()), |found| found.error())
        };
        delete().map_err(|error: KafkaError| unavailable(&format!("{topic}-{partition} can't be trimmed"), error))
    }
}

fn options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(CALL_WAIT_MAX))
}

/// Waits on this thread. librdkafka's own threads complete these futures, so no runtime is needed, nor may there be one.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(value) => return value,
            Poll::Pending => std::thread::park(),
        }
    }
}
