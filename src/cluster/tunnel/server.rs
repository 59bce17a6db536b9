//! The answering side: takes the calls of each stream, has them answered at the same time, and sends the answers back.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;
use tonic::{Request, Response, Status, Streaming};

use super::batches::Batches;
use crate::proto::cluster::tunnel_service_server::{TunnelService, TunnelServiceServer};
use crate::proto::cluster::{Answer, Call, Calls, answer, call};

/// How long a stopping node goes on with the calls that it has begun. Long polls among them are cut: workers poll elsewhere.
const STOP_WAIT: Duration = Duration::from_millis(200);

/// Answers other nodes' calls.
pub trait Handler: Send + Sync + 'static {
    /// Answers one call. `None`: it is of a type that this version does not know.
    fn answer(&self, what: Option<call::What>) -> impl Future<Output = Result<answer::What, Status>> + Send;
}

/// The gRPC service to which other nodes open their streams, until `stopped` is true.
pub fn serve<H: Handler>(handler: H, stopped: watch::Receiver<bool>) -> TunnelServiceServer<Tunnels<H>> {
    TunnelServiceServer::new(Tunnels { handler: Arc::new(handler), stopped })
        .max_decoding_message_size(usize::MAX)
        .max_encoding_message_size(usize::MAX)
}

pub struct Tunnels<H> {
    pub(super) handler: Arc<H>,
    pub(super) stopped: watch::Receiver<bool>,
}

#[tonic::async_trait]
impl<H: Handler> TunnelService for Tunnels<H> {
    type CarryStream = Batches<Answer>;

    async fn carry(&self, request: Request<Streaming<Calls>>) -> Result<Response<Batches<Answer>>, Status> {
        let (answers, queue) = mpsc::unbounded_channel();
        tokio::spawn(answer_all(self.handler.clone(), request.into_inner(), answers, self.stopped.clone()));
        Ok(Response::new(Batches(queue)))
    }
}

/// The calls that are answered now.
#[derive(Clone, Default)]
struct Running(Arc<Mutex<HashMap<u64, AbortHandle>>>);

impl Running {
    fn lock(&self) -> MutexGuard<'_, HashMap<u64, AbortHandle>> {
        self.0.lock().expect("no code panics while it holds the calls")
    }
}

/// A call that is being answered. One that panics is answered too.
struct Underway {
    id: u64,
    answers: mpsc::UnboundedSender<Answer>,
    running: Running,
}

impl Drop for Underway {
    fn drop(&mut self) {
        if self.running.lock().remove(&self.id).is_some() {
            let _ = self.answers.send(answer_to(self.id, Err(Status::internal("the call panicked"))));
        }
    }
}

/// Answers until the other node has gone, which drops what is left, or this one stops.
async fn answer_all<H: Handler>(
    handler: Arc<H>,
    mut calls: Streaming<Calls>,
    answers: mpsc::UnboundedSender<Answer>,
    mut stopped: watch::Receiver<bool>,
) {
    let running = Running::default();
    loop {
        let Calls { calls, given_up } = tokio::select! {
            received = calls.message() => match received {
                Ok(Some(calls)) => calls,
                Ok(None) | Err(_) => break,
            },
            () = stopping(&mut stopped) => {
                tokio::time::sleep(STOP_WAIT).await;
                break;
            }
        };
        for Call { id, what } in calls {
            let handler = handler.clone();
            let underway = Underway { id, answers: answers.clone(), running: running.clone() };
            // Held until it is noted: it can't end before.
            let mut noted = running.lock();
            let work = tokio::spawn(async move {
                let answer = handler.answer(what).await;
                underway.running.lock().remove(&id);
                let _ = underway.answers.send(answer_to(id, answer));
            });
            noted.insert(id, work.abort_handle());
        }
        for id in given_up {
            if let Some(call) = running.lock().remove(&id) {
                call.abort();
            }
        }
    }
    running.lock().drain().for_each(|(_, call)| call.abort());
}

async fn stopping(stopped: &mut watch::Receiver<bool>) {
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

fn answer_to(id: u64, answer: Result<answer::What, Status>) -> Answer {
    Answer { id, what: Some(answer.unwrap_or_else(|status| answer::What::Failure(status.into()))) }
}
