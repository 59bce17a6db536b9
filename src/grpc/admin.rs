//! `LogService`: topics for `millrace produce` and `millrace consume` where there is no broker.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use crate::log::{Isolation, Log, Record, Topic};
use crate::proto::admin::{
    ConsumeRequest, ConsumedRecord, Header, ProduceRequest, ProduceResponse, log_service_server::LogService,
};

pub struct Admin {
    pub log: Arc<dyn Log>,
}

impl Admin {
    /// The topic of a name; the error lists them.
    fn topic(&self, name: &str) -> Result<Topic, Status> {
        let topics = self.log.topics();
        topics.iter().find(|topic| topic.name() == name).copied().ok_or_else(|| {
            let names: Vec<_> = topics.iter().map(|topic| topic.name()).collect();
            Status::invalid_argument(format!("there is no topic {name}: the topics are {}", names.join(", ")))
        })
    }
}

#[tonic::async_trait]
impl LogService for Admin {
    async fn produce(&self, request: Request<ProduceRequest>) -> Result<Response<ProduceResponse>, Status> {
        let request = request.into_inner();
        let topic = self.topic(&request.topic)?;
        if !matches!(topic, Topic::Requests | Topic::User(_)) {
            return Err(Status::invalid_argument(format!(
                "only requests, and topics of your own, are written from outside, not {}",
                topic.name()
            )));
        }
        let mut response = ProduceResponse::default();
        for produced in request.records {
            // Any partition would do: one by the key, so that a key's records keep their order.
            let partition = crate::types::partition_of_key(&produced.key, self.log.partitions_of(topic));
            let (sender, receiver) = oneshot::channel();
            let headers = produced.headers.into_iter().map(|header| (header.name, header.value)).collect();
            let record = Record { key: produced.key, value: Some(produced.value), headers };
            self.log.append(topic, partition, vec![record], Box::new(move |outcome| drop(sender.send(outcome))));
            let appended = receiver.await.map_err(|_| Status::unavailable("the log is closed"))?;
            let appended = appended.map_err(|error| Status::unavailable(error.to_string()))?;
            response.offsets.extend(appended.iter().map(|appended| appended.offset));
            response.partitions.push(partition);
        }
        Ok(Response::new(response))
    }

    type ConsumeStream = Pin<Box<dyn Stream<Item = Result<ConsumedRecord, Status>> + Send>>;

    async fn consume(&self, request: Request<ConsumeRequest>) -> Result<Response<Self::ConsumeStream>, Status> {
        let request = request.into_inner();
        let topic = self.topic(&request.topic)?;
        let (sender, receiver) = mpsc::channel(256);
        for partition in 0..self.log.partitions_of(topic) {
            let (log, sender, request) = (self.log.clone(), sender.clone(), request.clone());
            tokio::task::spawn_blocking(move || {
                if let Err(error) = read(&*log, topic, partition, &request, &sender) {
                    let _ = sender.blocking_send(Err(Status::unavailable(error.to_string())));
                }
            });
        }
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}

fn read(
    log: &dyn Log,
    topic: Topic,
    partition: u32,
    request: &ConsumeRequest,
    sender: &mpsc::Sender<Result<ConsumedRecord, Status>>,
) -> Result<(), crate::log::Error> {
    // For people only: an old end shows fewer records, or more of those that come next.
    let end = log.end_at_least(topic, partition, Isolation::ReadCommitted)?;
    let mut next = if request.from_beginning { log.start_offset(topic, partition)? } else { end };
    let mut reader = log.reader(topic, partition, next, Isolation::ReadCommitted)?;
    while !sender.is_closed() && (request.follow || next < end) {
        let read = reader.next(500, Duration::from_millis(200))?;
        for stored in read.records {
            let record = ConsumedRecord {
                partition,
                offset: stored.offset,
                timestamp_ms: stored.timestamp_ms,
                key: stored.record.key,
                value: stored.record.value,
                headers: stored.record.headers.into_iter().map(|(name, value)| Header { name, value }).collect(),
                key_is_null: stored.nulls.key,
                null_headers: stored.nulls.headers.into_iter().map(|at| at as u32).collect(),
            };
            if sender.blocking_send(Ok(record)).is_err() {
                return Ok(());
            }
        }
        next = read.next_offset.max(next);
    }
    Ok(())
}
