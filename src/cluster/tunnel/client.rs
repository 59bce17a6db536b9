//! The calling side: one stream to the other node, opened again when it has ended, and the calls that wait for answers on it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::{mpsc, oneshot};
use tonic::Status;
use tonic::transport::Channel;

use super::Question;
use super::batches::{Batches, Outgoing};
use crate::proto::cluster::tunnel_service_client::TunnelServiceClient;
use crate::proto::cluster::{Answer, Answers, Call, answer};

/// The tunnel to one node.
#[derive(Clone)]
pub struct Tunnel(Arc<Way>);

struct Way {
    address: String,
    channel: Channel,
    runtime: tokio::runtime::Handle,
    next_id: AtomicU64,
    /// The stream that is open, or was last.
    current: Mutex<Option<Arc<Carrier>>>,
}

/// One stream, and the calls that wait for answers on it.
struct Carrier {
    outgoing: mpsc::UnboundedSender<Outgoing>,
    /// `None`: it has ended.
    waiting: Mutex<Option<Waiting>>,
}

type Waiting = HashMap<u64, oneshot::Sender<Result<Answer, Status>>>;

impl Tunnel {
    pub fn new(address: &str, channel: Channel, runtime: &tokio::runtime::Handle) -> Self {
        Self(Arc::new(Way {
            address: address.to_owned(),
            channel,
            runtime: runtime.clone(),
            next_id: AtomicU64::new(1),
            current: Mutex::default(),
        }))
    }

    /// Calls the other node. UNAVAILABLE: it does not answer, or does not own the partition.
    pub async fn ask<Q: Question>(&self, question: Q) -> Result<Q::Answer, Status> {
        let id = self.0.next_id.fetch_add(1, Ordering::Relaxed);
        let (_awaited, answer) = self.send(Call { id, what: Some(question.into_call()) });
        match answer.await.unwrap_or_else(|_| Err(self.0.gone("the connection has ended")))?.what {
            Some(answer::What::Failure(failure)) => Err(failure.into()),
            answer => answer.and_then(Q::answer).ok_or_else(|| self.0.gone("its answer is of another type")),
        }
    }

    /// Sends a call on the stream that there is, or on a new one.
    fn send(&self, call: Call) -> (Awaited, oneshot::Receiver<Result<Answer, Status>>) {
        let (sender, answer) = oneshot::channel();
        let id = call.id;
        let mut current = self.0.current.lock().expect("no code panics while it holds the stream");
        let carrier = match &*current {
            Some(carrier) if !carrier.is_over() => carrier.clone(),
            _ => current.insert(self.open()).clone(),
        };
        carrier.await_answer(id, sender);
        // A receiver that has gone has failed, or will fail, all calls that wait.
        let _ = carrier.outgoing.send(Outgoing::Call(call));
        (Awaited { carrier, id }, answer)
    }

    fn open(&self) -> Arc<Carrier> {
        let (outgoing, queue) = mpsc::unbounded_channel();
        let carrier = Arc::new(Carrier { outgoing, waiting: Mutex::new(Some(Waiting::new())) });
        self.0.runtime.spawn(run(self.0.clone(), carrier.clone(), queue));
        carrier
    }
}

impl Way {
    fn gone(&self, reason: &str) -> Status {
        Status::unavailable(format!(
            "the node at {}, which owns the partition, does not answer: {reason}",
            self.address
        ))
    }
}

/// Keeps a stream for as long as the other node does.
async fn run(way: Arc<Way>, carrier: Arc<Carrier>, queue: mpsc::UnboundedReceiver<Outgoing>) {
    let client = TunnelServiceClient::new(way.channel.clone());
    let mut client = client.max_decoding_message_size(usize::MAX).max_encoding_message_size(usize::MAX);
    let failure = match client.carry(Batches(queue)).await {
        Ok(answers) => {
            let mut answers = answers.into_inner();
            loop {
                match answers.message().await {
                    Ok(Some(Answers { answers })) => answers.into_iter().for_each(|answer| carrier.settle(answer)),
                    Ok(None) => break way.gone("it has ended the connection"),
                    Err(status) => break way.gone(status.message()),
                }
            }
        }
        Err(status) => way.gone(status.message()),
    };
    for waiting in carrier.end().into_values() {
        let _ = waiting.send(Err(failure.clone()));
    }
}

impl Carrier {
    fn is_over(&self) -> bool {
        self.outgoing.is_closed() || self.waiting().is_none()
    }

    fn await_answer(&self, id: u64, answer: oneshot::Sender<Result<Answer, Status>>) {
        // If the stream has ended it is dropped, which fails the call.
        self.waiting().as_mut().map(|waiting| waiting.insert(id, answer));
    }

    fn settle(&self, answer: Answer) {
        if let Some(waiting) = self.forget(answer.id) {
            let _ = waiting.send(Ok(answer));
        }
    }

    fn forget(&self, id: u64) -> Option<oneshot::Sender<Result<Answer, Status>>> {
        self.waiting().as_mut()?.remove(&id)
    }

    fn end(&self) -> Waiting {
        self.waiting().take().unwrap_or_default()
    }

    fn waiting(&self) -> MutexGuard<'_, Option<Waiting>> {
        self.waiting.lock().expect("no code panics while it holds the calls that wait")
    }
}

/// A call whose caller waits. Dropped before the answer, it has the other node cancel the call.
struct Awaited {
    carrier: Arc<Carrier>,
    id: u64,
}

impl Drop for Awaited {
    fn drop(&mut self) {
        if self.carrier.forget(self.id).is_some() {
            let _ = self.carrier.outgoing.send(Outgoing::GivenUp(self.id));
        }
    }
}
