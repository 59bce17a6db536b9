//! Answers other nodes' calls: each by the file that also sends it, and a forwarded one by the edge.

use std::future::Future;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use tokio::sync::watch;
use tonic::Status;
use tonic::codegen::BoxFuture;

use super::tunnel::{self, Handler, Question, Tunnels};
use super::{announce, decide, lists, queues, tasks};
use crate::metrics;
use crate::partition::Node;
use crate::proto::cluster::tunnel_service_server::TunnelServiceServer;
use crate::proto::cluster::{ForwardedCall, answer, call};

/// The API whose calls nodes forward to each other.
pub trait Api: Send + Sync + 'static {
    /// Answers a call that came to another node, and returns its method. `None`: no such method is served.
    fn forwarded(&self, method: &str, request: &[u8]) -> Option<(&'static str, BoxFuture<Bytes, Status>)>;
}

/// Answers calls with a node.
pub struct Answers<A> {
    node: Arc<Node>,
    api: A,
}

/// The gRPC service that other nodes call, until `stopped` is true.
pub fn serve<A: Api>(
    node: Arc<Node>,
    api: A,
    stopped: watch::Receiver<bool>,
) -> TunnelServiceServer<Tunnels<Answers<A>>> {
    tunnel::serve(Answers { node, api }, stopped)
}

impl<A: Api> Handler for Answers<A> {
    async fn answer(&self, what: Option<call::What>) -> Result<answer::What, Status> {
        use call::What;
        let node = &self.node;
        match what {
            Some(What::Forwarded(ForwardedCall { method, request })) => match self.api.forwarded(&method, &request) {
                Some((method, answer)) => observed(method, answer, ForwardedCall::into_answer).await,
                None => unknown(format!("the method {method} is not forwarded")).await,
            },
            Some(What::Decide(question)) => asked(question, |question| decide::answer(node, question)).await,
            Some(What::Announce(question)) => asked(question, |question| announce::answer(node, question)).await,
            Some(What::StartTask(question)) => asked(question, |question| tasks::start(node, question)).await,
            Some(What::TakeQuery(question)) => asked(question, |question| tasks::take_query(node, question)).await,
            Some(What::List(question)) => asked(question, |question| lists::answer_list(node, question)).await,
            Some(What::Count(question)) => asked(question, |question| lists::answer_count(node, question)).await,
            Some(What::DescribeQueue(question)) => asked(question, |question| queues::answer(node, question)).await,
            None => unknown("the call is of an unknown type".into()).await,
        }
    }
}

async fn asked<Q: Question, F>(question: Q, answer: impl FnOnce(Q) -> F) -> Result<answer::What, Status>
where
    F: Future<Output = Result<Q::Answer, Status>>,
{
    observed(Q::NAME, answer(question), Q::into_answer).await
}

/// A call of a node of another version.
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
    metrics::grpc_request(method, metrics::code_of(&answer), begun.elapsed());
    answer.map(is)
}
