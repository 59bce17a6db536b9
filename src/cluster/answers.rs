//! What this node answers other nodes: each question by the file that asks it, and a forwarded call by the edge.

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

/// The API of which nodes forward calls to each other.
pub trait Api: Send + Sync + 'static {
    /// Answers a call that came to another node, and says which method that was. `None`: it is none that is served.
    fn forwarded(&self, method: &str, request: &[u8]) -> Option<(&'static str, BoxFuture<Bytes, Status>)>;
}

/// What a node answers.
pub struct Answers<A> {
    node: Arc<Node>,
    api: A,
}

/// The gRPC service that other nodes call. Once `stopped` is true they are to call elsewhere.
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
                None => unknown(format!("{method} is no call that nodes forward")).await,
            },
            Some(What::Decide(question)) => asked(question, |question| decide::answer(node, question)).await,
            Some(What::Announce(question)) => asked(question, |question| announce::answer(node, question)).await,
            Some(What::StartTask(question)) => asked(question, |question| tasks::start(node, question)).await,
            Some(What::TakeQuery(question)) => asked(question, |question| tasks::take_query(node, question)).await,
            Some(What::List(question)) => asked(question, |question| lists::answer_list(node, question)).await,
            Some(What::Count(question)) => asked(question, |question| lists::answer_count(node, question)).await,
            Some(What::DescribeQueue(question)) => asked(question, |question| queues::answer(node, question)).await,
            None => unknown("the node does not know what it is asked".into()).await,
        }
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
    metrics::grpc_request(method, metrics::code_of(&answer), begun.elapsed());
    answer.map(is)
}
