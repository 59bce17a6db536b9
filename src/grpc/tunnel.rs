//! What comes from other nodes over a tunnel: calls that they forward, and what they ask themselves.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;
use tonic::{Request, Response, Status, Streaming};

use super::layer::code_of;
use super::nodes::Nodes;
use super::service::Service;
use crate::cluster::tunnel::{Batches, Question};
use crate::metrics;
use crate::proto::cluster::tunnel_service_server::TunnelService;
use crate::proto::cluster::*;

/// How long a node that stops goes on with the calls that it has begun. Long polls among them are cut: workers poll elsewhere.
const STOP_WAIT: Duration = Duration::from_millis(200);

/// What other nodes can have of this one.
pub struct Served {
    pub workflows: Service,
    pub nodes: Nodes,
}

pub struct Tunnels {
    pub served: Arc<Served>,
    /// True once the node stops: then other nodes are to call elsewhere.
    pub stopped: watch::Receiver<bool>,
}

#[tonic::async_trait]
impl TunnelService for Tunnels {
    type CarryStream = Batches<Answer>;

    async fn carry(&self, request: Request<Streaming<Calls>>) -> Result<Response<Batches<Answer>>, Status> {
        let (answers, to_say) = mpsc::unbounded_channel();
        tokio::spawn(serve(self.served.clone(), request.into_inner(), answers, self.stopped.clone()));
        Ok(Response::new(Batches(to_say)))
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

/// A call that is answered. One that panics is answered too.
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

/// Answers until the other node has gone, when nobody waits for what is left, or this one stops.
async fn serve(
    served: Arc<Served>,
    mut calls: Streaming<Calls>,
    answers: mpsc::UnboundedSender<Answer>,
    mut stopped: watch::Receiver<bool>,
) {
    let running = Running::default();
    loop {
        let Calls { calls, given_up } = tokio::select! {
            heard = calls.message() => match heard {
                Ok(Some(calls)) => calls,
                Ok(None) | Err(_) => break,
            },
            () = stopping(&mut stopped) => {
                tokio::time::sleep(STOP_WAIT).await;
                break;
            }
        };
        for Call { id, what } in calls {
            let served = served.clone();
            let underway = Underway { id, answers: answers.clone(), running: running.clone() };
            // Held until it is noted: it can't end before.
            let mut noted = running.lock();
            let work = tokio::spawn(async move {
                let answer = answer(&served, what).await;
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

async fn answer(Served { workflows, nodes }: &Served, what: Option<call::What>) -> Result<answer::What, Status> {
    use call::What;
    match what {
        Some(What::Forwarded(ForwardedCall { method, request })) => match workflows.forwarded(&method, &request) {
            Some((method, answer)) => observed(method, answer, ForwardedCall::into_answer).await,
            None => unknown(format!("{method} is no call that nodes forward")).await,
        },
        Some(What::Decide(question)) => asked(question, |question| nodes.decide(question)).await,
        Some(What::Announce(question)) => asked(question, |question| nodes.announce(question)).await,
        Some(What::StartTask(question)) => asked(question, |question| nodes.start_task(question)).await,
        Some(What::TakeQuery(question)) => asked(question, |question| nodes.take_query(question)).await,
        Some(What::List(question)) => asked(question, |question| nodes.list(question)).await,
        Some(What::Count(question)) => asked(question, |question| nodes.count(question)).await,
        Some(What::DescribeQueue(question)) => asked(question, |question| nodes.describe_queue(question)).await,
        None => unknown("the node does not know what it is asked".into()).await,
    }
}

async fn asked<Q: Question, F>(question: Q, answer: impl FnOnce(Q) -> F) -> Result<answer::What, Status>
where
    F: Future<Output = Result<Q::Answer, Status>>,
{
    observed(Q::NAME, answer(question), Q::into_answer).await
}

/// What a node of another version asks.
async fn unknown(why: String) -> Result<answer::What, Status> {
    observed("other", std::future::ready(Err(Status::unimplemented(why))), answer::What::Forwarded).await
}

/// Counts a call as those of gRPC are counted.
async fn observed<T>(
    method: &'static str,
    answer: impl Future<Output = Result<T, Status>>,
    is: impl FnOnce(T) -> answer::What,
) -> Result<answer::What, Status> {
    let begun = Instant::now();
    let _in_flight = metrics::grpc_in_flight(method);
    let answer = answer.await;
    metrics::grpc_request(method, code_of(&answer), begun.elapsed());
    answer.map(is)
}
