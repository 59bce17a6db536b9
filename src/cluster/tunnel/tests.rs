//! Both sides, over a real connection.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Endpoint, Server};
use tonic::{Code, Request, Response, Status, Streaming};

use super::batches::Batches;
use super::*;
use crate::proto::cluster::tunnel_service_server::{TunnelService, TunnelServiceServer};

/// Answers a call with its request, but for those that are to hang, to fail, or to end the stream; reports those given up.
struct Echo {
    events: mpsc::UnboundedSender<String>,
    end: watch::Sender<bool>,
}

/// Reports that a call was given up.
struct Hangs(mpsc::UnboundedSender<String>);

impl Drop for Hangs {
    fn drop(&mut self) {
        let _ = self.0.send("given up".into());
    }
}

impl Handler for Echo {
    async fn answer(&self, what: Option<call::What>) -> Result<answer::What, Status> {
        let Some(call::What::Forwarded(ForwardedCall { method, request })) = what else {
            return Err(Status::unimplemented("it knows forwarded calls alone"));
        };
        match method.as_str() {
            "Hang" => {
                let _ = self.events.send("hangs".into());
                let _hangs = Hangs(self.events.clone());
                std::future::pending().await
            }
            "End" => {
                let _ = self.end.send(true);
                std::future::pending().await
            }
            "Fail" => {
                let mut status = Status::with_details(Code::Aborted, "why", request);
                name_owner(&mut status, "there:7233");
                Err(status)
            }
            "Panic" => panic!("it is to be answered all the same"),
            "Confuse" => Ok(answer::What::Count(CountResponse::default())),
            _ => Ok(answer::What::Forwarded(request)),
        }
    }
}

/// Reports each stream that is opened, which ends without the others.
struct Streams {
    events: mpsc::UnboundedSender<String>,
}

#[tonic::async_trait]
impl TunnelService for Streams {
    type CarryStream = Batches<Answer>;

    async fn carry(&self, request: Request<Streaming<Calls>>) -> Result<Response<Batches<Answer>>, Status> {
        let _ = self.events.send("opened".into());
        let (end, stopped) = watch::channel(false);
        let handler = Arc::new(Echo { events: self.events.clone(), end });
        Tunnels { handler, stopped }.carry(request).await
    }
}

async fn echo() -> (Tunnel, mpsc::UnboundedReceiver<String>) {
    let (sender, events) = mpsc::unbounded_channel();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let address = listener.local_addr().expect("it listens").to_string();
    let server = TunnelServiceServer::new(Streams { events: sender }).max_decoding_message_size(usize::MAX);
    tokio::spawn(Server::builder().add_service(server).serve_with_incoming(TcpIncoming::from(listener)));
    let channel = Endpoint::from_shared(format!("http://{address}")).expect("an address").connect_lazy();
    (Tunnel::new(&address, channel, &tokio::runtime::Handle::current()), events)
}

fn call(method: &str, text: &str) -> ForwardedCall {
    ForwardedCall { method: method.into(), request: Bytes::copy_from_slice(text.as_bytes()) }
}

#[tokio::test]
async fn each_call_gets_its_own_answer_over_one_stream() {
    let (tunnel, mut events) = echo().await;
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
    assert_eq!(events.recv().await.as_deref(), Some("opened"));
    assert!(events.try_recv().is_err(), "a second stream, or a call that was given up");
}

#[tokio::test]
async fn a_call_that_nobody_waits_for_is_given_up() {
    let (tunnel, mut events) = echo().await;
    let waits = tokio::time::timeout(Duration::from_millis(300), tunnel.ask(call("Hang", "?"))).await;
    assert!(waits.is_err(), "it is not answered");
    for expected in ["opened", "hangs", "given up"] {
        assert_eq!(events.recv().await.as_deref(), Some(expected));
    }
}

#[tokio::test]
async fn a_stream_that_ends_fails_its_calls_and_the_next_one_opens_another() {
    let (tunnel, mut events) = echo().await;
    let other = tunnel.clone();
    let hangs = tokio::spawn(async move { other.ask(call("Hang", "?")).await });
    for expected in ["opened", "hangs"] {
        assert_eq!(events.recv().await.as_deref(), Some(expected));
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
    let panicked = tunnel.ask(call("Panic", "!")).await.expect_err("it panics");
    assert_eq!((panicked.code(), panicked.message()), (Code::Internal, "the call panicked"));
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
