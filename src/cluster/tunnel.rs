//! Calls to another node, all over one stream. A call of its own costs each side a stream of HTTP/2, with headers to pack and
//! tasks to wake, which is more than most calls are; here those that wait are sent together.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};

use bytes::Bytes;
use prost::Message as _;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::Stream;
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::proto::cluster::tunnel_service_client::TunnelServiceClient;
use crate::proto::cluster::*;

/// What is sent together, at most. One call, or answer, may have more bytes.
const BATCH: usize = 256;
const BATCH_BYTES: usize = 256 * 1024;

/// Where a call goes that came to a node which is not the owner any more: in a status' metadata.
const OWNER: &str = "millrace-owner";

/// What one node asks another.
pub trait Question {
    type Answer;

    /// For metrics. A forwarded call is counted by its method's.
    const NAME: &str;

    fn into_call(self) -> call::What;

    fn into_answer(answer: Self::Answer) -> answer::What;

    /// `None`: it is the answer to something else.
    fn answer(answer: answer::What) -> Option<Self::Answer>;
}

macro_rules! questions {
    ($($name:ident: $question:ty => $answer:ty;)*) => {
        $(impl Question for $question {
            type Answer = $answer;

            const NAME: &str = stringify!($name);

            fn into_call(self) -> call::What {
                call::What::$name(self)
            }

            fn into_answer(answer: $answer) -> answer::What {
                answer::What::$name(answer)
            }

            fn answer(answer: answer::What) -> Option<$answer> {
                match answer {
                    answer::What::$name(answer) => Some(answer),
                    _ => None,
                }
            }
        })*
    };
}

questions! {
    Forwarded: ForwardedCall => Bytes;
    Decide: DecideRequest => DecideResponse;
    Announce: AnnounceRequest => AnnounceResponse;
    StartTask: StartTaskRequest => StartTaskResponse;
    TakeQuery: TakeQueryRequest => TakeQueryResponse;
    List: ListRequest => ListResponse;
    Count: CountRequest => CountResponse;
    DescribeQueue: DescribeQueueRequest => DescribeQueueResponse;
}

/// The way to one node.
#[derive(Clone)]
pub struct Tunnel(Arc<Way>);

struct Way {
    address: String,
    channel: Channel,
    runtime: tokio::runtime::Handle,
    next_id: AtomicU64,
    /// The stream there is, or was.
    current: Mutex<Option<Arc<Carrier>>>,
}

/// One stream, and who waits for answers on it.
struct Carrier {
    said: mpsc::UnboundedSender<Said>,
    /// `None`: it is over.
    waiting: Mutex<Option<Waiting>>,
}

type Waiting = HashMap<u64, oneshot::Sender<Result<Answer, Status>>>;

enum Said {
    Call(Call),
    GivenUp(u64),
}

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

    /// Asks the other node. UNAVAILABLE: it does not answer, or is not the one to ask.
    pub async fn ask<Q: Question>(&self, question: Q) -> Result<Q::Answer, Status> {
        let id = self.0.next_id.fetch_add(1, Ordering::Relaxed);
        let (_awaited, answer) = self.send(Call { id, what: Some(question.into_call()) });
        match answer.await.unwrap_or_else(|_| Err(self.0.gone("the connection has ended")))?.what {
            Some(answer::What::Failure(failure)) => Err(failure.into()),
            answer => answer.and_then(Q::answer).ok_or_else(|| self.0.gone("it knows no such question")),
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
        // A receiver that has gone has failed, or will fail, all who wait.
        let _ = carrier.said.send(Said::Call(call));
        (Awaited { carrier, id }, answer)
    }

    fn open(&self) -> Arc<Carrier> {
        let (said, to_say) = mpsc::unbounded_channel();
        let carrier = Arc::new(Carrier { said, waiting: Mutex::new(Some(Waiting::new())) });
        self.0.runtime.spawn(run(self.0.clone(), carrier.clone(), to_say));
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
async fn run(way: Arc<Way>, carrier: Arc<Carrier>, to_say: mpsc::UnboundedReceiver<Said>) {
    let client = TunnelServiceClient::new(way.channel.clone());
    let mut client = client.max_decoding_message_size(usize::MAX).max_encoding_message_size(usize::MAX);
    let failure = match client.carry(Batches(to_say)).await {
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
        self.said.is_closed() || self.waiting().is_none()
    }

    fn await_answer(&self, id: u64, answer: oneshot::Sender<Result<Answer, Status>>) {
        // Of a stream that is over it is dropped, which says so.
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
        self.waiting.lock().expect("no code panics while it holds who waits")
    }
}

/// A call that somebody waits for: when they do no longer, the other node is told.
struct Awaited {
    carrier: Arc<Carrier>,
    id: u64,
}

impl Drop for Awaited {
    fn drop(&mut self) {
        if self.carrier.forget(self.id).is_some() {
            let _ = self.carrier.said.send(Said::GivenUp(self.id));
        }
    }
}

/// All that waits to be said, together.
pub struct Batches<T>(pub mpsc::UnboundedReceiver<T>);

impl Stream for Batches<Said> {
    type Item = Calls;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Calls>> {
        let mut batch = Calls::default();
        let mut bytes = 0;
        while batch.calls.len() + batch.given_up.len() < BATCH && bytes < BATCH_BYTES {
            match self.0.poll_recv(context) {
                Poll::Ready(Some(Said::Call(call))) => {
                    bytes += call.encoded_len();
                    batch.calls.push(call);
                }
                Poll::Ready(Some(Said::GivenUp(id))) => batch.given_up.push(id),
                Poll::Ready(None) | Poll::Pending if !(batch.calls.is_empty() && batch.given_up.is_empty()) => break,
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(Some(batch))
    }
}

impl Stream for Batches<Answer> {
    type Item = Result<Answers, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut answers = Vec::new();
        let mut bytes = 0;
        while answers.len() < BATCH && bytes < BATCH_BYTES {
            match self.0.poll_recv(context) {
                Poll::Ready(Some(answer)) => {
                    bytes += answer.encoded_len();
                    answers.push(answer);
                }
                Poll::Ready(None) | Poll::Pending if !answers.is_empty() => break,
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(Some(Ok(Answers { answers })))
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        Self {
            code: status.code() as i32,
            message: status.message().to_owned(),
            details: Bytes::copy_from_slice(status.details()),
            owner: owner(&status).unwrap_or_default().to_owned(),
        }
    }
}

impl From<Failure> for Status {
    fn from(Failure { code, message, details, owner }: Failure) -> Self {
        let code = match Code::from_i32(code) {
            // It is none, so it must not look like success.
            Code::Ok => Code::Unknown,
            code => code,
        };
        let mut status = Status::with_details(code, message, details);
        if !owner.is_empty() {
            name_owner(&mut status, &owner);
        }
        status
    }
}

/// The node that a refused call is to go to.
pub fn owner(status: &Status) -> Option<&str> {
    status.metadata().get(OWNER)?.to_str().ok()
}

pub fn name_owner(status: &mut Status, address: &str) {
    if let Ok(address) = address.parse() {
        status.metadata_mut().insert(OWNER, address);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tonic::Streaming;
    use tonic::transport::Endpoint;
    use tonic::transport::server::TcpIncoming;

    use super::*;
    use crate::proto::cluster::tunnel_service_server::{TunnelService, TunnelServiceServer};

    /// Answers a call with its request, but for those that are to hang, to fail, or to end the stream; tells of those given up.
    struct Echo {
        heard: mpsc::UnboundedSender<String>,
    }

    #[tonic::async_trait]
    impl TunnelService for Echo {
        type CarryStream = Batches<Answer>;

        async fn carry(
            &self,
            request: tonic::Request<Streaming<Calls>>,
        ) -> Result<tonic::Response<Batches<Answer>>, Status> {
            let (answers, to_say) = mpsc::unbounded_channel();
            let (mut calls, heard) = (request.into_inner(), self.heard.clone());
            let _ = heard.send("opened".into());
            tokio::spawn(async move {
                while let Ok(Some(Calls { calls, given_up })) = calls.message().await {
                    for Call { id, what } in calls {
                        let Some(call::What::Forwarded(ForwardedCall { method, request })) = what else { return };
                        let what = match method.as_str() {
                            "Hang" => {
                                let _ = heard.send("hangs".into());
                                continue;
                            }
                            "End" => return,
                            "Fail" => {
                                let mut status = Status::with_details(Code::Aborted, "why", request);
                                name_owner(&mut status, "there:7233");
                                answer::What::Failure(status.into())
                            }
                            "Confuse" => answer::What::Count(CountResponse::default()),
                            _ => answer::What::Forwarded(request),
                        };
                        let _ = answers.send(Answer { id, what: Some(what) });
                    }
                    given_up.iter().for_each(|_| drop(heard.send("given up".into())));
                }
            });
            Ok(tonic::Response::new(Batches(to_say)))
        }
    }

    async fn echo() -> (Tunnel, mpsc::UnboundedReceiver<String>) {
        let (heard, hears) = mpsc::unbounded_channel();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let address = listener.local_addr().expect("it listens").to_string();
        let server = TunnelServiceServer::new(Echo { heard }).max_decoding_message_size(usize::MAX);
        tokio::spawn(
            tonic::transport::Server::builder().add_service(server).serve_with_incoming(TcpIncoming::from(listener)),
        );
        let channel = Endpoint::from_shared(format!("http://{address}")).expect("an address").connect_lazy();
        (Tunnel::new(&address, channel, &tokio::runtime::Handle::current()), hears)
    }

    fn call(method: &str, text: &str) -> ForwardedCall {
        ForwardedCall { method: method.into(), request: Bytes::copy_from_slice(text.as_bytes()) }
    }

    #[tokio::test]
    async fn each_call_gets_its_own_answer_over_one_stream() {
        let (tunnel, mut hears) = echo().await;
        let calls = (0..1000).map(|number| {
            let tunnel = tunnel.clone();
            // Some are larger than what is sent together.
            let text = format!("{number} ").repeat(if number % 100 == 0 { 100_000 } else { 1 });
            tokio::spawn(async move {
                let answer = tunnel.ask(call("Echo", &text)).await.expect("an answer");
                assert!(answer == text);
            })
        });
        for call in calls.collect::<Vec<_>>() {
            call.await.expect("it does not panic");
        }
        assert_eq!(hears.recv().await.as_deref(), Some("opened"));
        assert!(hears.try_recv().is_err(), "a second stream, or a call that was given up");
    }

    #[tokio::test]
    async fn a_call_that_nobody_waits_for_is_given_up() {
        let (tunnel, mut hears) = echo().await;
        let waits = tokio::time::timeout(Duration::from_millis(300), tunnel.ask(call("Hang", "?"))).await;
        assert!(waits.is_err(), "it is not answered");
        for expected in ["opened", "hangs", "given up"] {
            assert_eq!(hears.recv().await.as_deref(), Some(expected));
        }
    }

    #[tokio::test]
    async fn a_stream_that_ends_fails_its_calls_and_the_next_one_opens_another() {
        let (tunnel, mut hears) = echo().await;
        let other = tunnel.clone();
        let hangs = tokio::spawn(async move { other.ask(call("Hang", "?")).await });
        for expected in ["opened", "hangs"] {
            assert_eq!(hears.recv().await.as_deref(), Some(expected));
        }
        let ended = tunnel.ask(call("End", "!")).await.expect_err("the stream ends");
        assert_eq!(ended.code(), Code::Unavailable);
        assert!(ended.message().contains("does not answer: it has ended the connection"), "{ended}");
        assert_eq!(hangs.await.expect("no panic").expect_err("the stream ended").code(), Code::Unavailable);
        tunnel.ask(call("Echo", "again")).await.expect("an answer");
    }

    #[tokio::test]
    async fn a_failure_says_all_that_it_said_there() {
        let (tunnel, _hears) = echo().await;
        let failed = tunnel.ask(call("Fail", "in detail")).await.expect_err("it fails");
        assert_eq!((failed.code(), failed.message(), failed.details()), (Code::Aborted, "why", &b"in detail"[..]));
        assert_eq!(owner(&failed), Some("there:7233"));
        let confused = tunnel.ask(call("Confuse", "?")).await.expect_err("the answer is to something else");
        assert_eq!(confused.code(), Code::Unavailable);
        assert_eq!(owner(&confused), None);
    }

    #[tokio::test]
    async fn a_node_that_is_not_there_is_named() {
        let channel = Endpoint::from_static("http://127.0.0.1:9").connect_lazy();
        let tunnel = Tunnel::new("127.0.0.1:9", channel, &tokio::runtime::Handle::current());
        let failed = tunnel.ask(call("Echo", "?")).await.expect_err("nobody listens");
        assert_eq!(failed.code(), Code::Unavailable);
        assert!(
            failed.message().starts_with("the node at 127.0.0.1:9, which owns the partition, does not answer: "),
            "{failed}"
        );
    }
}
