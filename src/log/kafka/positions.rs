//! Positions of named consumers, kept as the offsets of a consumer group without members.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::Offset;

use super::client::{CALL_WAIT_MAX, Clients, Events, unavailable, unusable};
use crate::log::Error;

#[derive(Default)]
pub(super) struct Positions {
    consumers: Mutex<HashMap<String, Arc<BaseConsumer<Events>>>>,
}

impl Positions {
    pub fn get(&self, clients: &Clients, name: &str, topic: &str, partition: u32) -> Result<Option<i64>, Error> {
        let ask = |consumer: &BaseConsumer<Events>| {
            let mut asked = TopicPartitionList::new();
            asked.add_partition(topic, partition as i32);
            let answer = consumer.committed_offsets(asked, CALL_WAIT_MAX)?;
            let Some(found) = answer.find_partition(topic, partition as i32) else { return Ok(None) };
            found.error()?;
            Ok(match found.offset() {
                Offset::Offset(next) => Some(next),
                _ => None,
            })
        };
        let consumer = self.consumer(clients, name)?;
        ask(&consumer).map_err(|error: KafkaError| {
            unavailable(&format!("{name}'s position in {topic}-{partition} can't be read"), error)
        })
    }

    pub fn set(&self, clients: &Clients, name: &str, topic: &str, partition: u32, next: i64) -> Result<(), Error> {
        let consumer = self.consumer(clients, name)?;
        let mut position = TopicPartitionList::new();
        position
            .add_partition_offset(topic, partition as i32, Offset::Offset(next))
            .and_then(|()| consumer.commit(&position, CommitMode::Sync))
            .map_err(|error| unavailable(&format!("{name}'s position in {topic}-{partition} can't be written"), error))
    }

    fn consumer(&self, clients: &Clients, name: &str) -> Result<Arc<BaseConsumer<Events>>, Error> {
        let mut consumers = self.consumers.lock().expect("nothing that panics runs under this lock");
        let consumer = match consumers.get(name) {
            Some(consumer) => consumer.clone(),
            None => {
                let new = clients.positions(name).create_with_context(Events::default()).map_err(unusable)?;
                consumers.entry(name.to_string()).or_insert(Arc::new(new)).clone()
            }
        };
        drop(consumers);
        super::drain(&consumer);
        Ok(consumer)
    }
}
