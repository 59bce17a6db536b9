//! What comes from other nodes over a tunnel: calls of the services here, which don't know that they came that way.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;
use tonic::body::Body;
use tonic::codegen::BoxFuture;
use tonic::codegen::http::{HeaderMap, Method, Request as HttpRequest, Response as HttpResponse, Uri};
use tonic::server::NamedService;
use tonic::{Request, Response, Status, Streaming};
use tower::Service;

use super::layer::Observed;
use super::nodes::Nodes;
use crate::cluster::tunnel::{Batches, from_fields, to_fields};
use crate::proto::cluster::node_service_server::NodeServiceServer;
use crate::proto::cluster::tunnel_service_server::TunnelService;
use crate::proto::cluster::{Answer, Call, Calls};
use crate::proto::temporal::workflowservice::v1::workflow_service_server::WorkflowServiceServer;

/// How long a node that stops goes on with the calls that it has begun. Long polls among them are cut: workers poll elsewhere.
const STOP_WAIT: Duration = Duration::from_millis(200);

/// The services that are called through a tunnel.
#[derive(Clone)]
pub struct Carried {
    pub workflows: WorkflowServiceServer<super::Service>,
    pub nodes: NodeServiceServer<Nodes>,
}

impl Service<HttpRequest<Body>> for Carried {
    type Response = HttpResponse<Body>;
    type Error = Infallible;
    type Future = BoxFuture<HttpResponse<Body>, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: HttpRequest<Body>) -> Self::Future {
        let is_of_nodes = request.uri().path()[1..].starts_with(NodeServiceServer::<Nodes>::NAME);
        if is_of_nodes { self.nodes.call(request) } else { self.workflows.call(request) }
    }
}

pub struct Tunnels {
    pub carried: Observed<Carried>,
    /// True once the node stops: then other nodes are to call elsewhere.
    pub stopped: watch::Receiver<bool>,
}

#[tonic::async_trait]
impl TunnelService for Tunnels {
    type CarryStream = Batches<Answer>;

    async fn carry(&self, request: Request<Streaming<Calls>>) -> Result<Response<Batches<Answer>>, Status> {
        let (answers, to_say) = mpsc::unbounded_channel();
        tokio::spawn(serve(self.carried.clone(), request.into_inner(), answers, self.stopped.clone()));
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
            let _ = self.answers.send(failed(self.id, Status::internal("the call panicked")));
        }
    }
}

/// Answers until the other node has gone, when nobody waits for what is left, or this one stops.
async fn serve(
    routes: Observed<Carried>,
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
        for call in calls {
            let (id, routes) = (call.id, routes.clone());
            let underway = Underway { id, answers: answers.clone(), running: running.clone() };
            // Held until it is noted: it can't end before.
            let mut noted = running.lock();
            let work = tokio::spawn(async move {
                let answer = answer(routes, call).await;
                underway.running.lock().remove(&id);
                let _ = underway.answers.send(answer);
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

async fn answer(mut routes: Observed<Carried>, call: Call) -> Answer {
    let Call { id, path, headers, body } = call;
    let mut request = HttpRequest::new(Body::new(Full::new(body)));
    let Some(uri) = path.parse().ok().filter(|uri: &Uri| uri.path().starts_with('/')) else {
        return failed(id, Status::invalid_argument(format!("a call's path is /PACKAGE.SERVICE/METHOD, not {path}")));
    };
    *request.uri_mut() = uri;
    *request.method_mut() = Method::POST;
    *request.headers_mut() = from_fields(headers);
    let (parts, body) = match routes.call(request).await {
        Ok(response) => response.into_parts(),
        Err(never) => match never {},
    };
    match body.collect().await {
        Ok(collected) => {
            let trailers = collected.trailers().map(to_fields).unwrap_or_default();
            Answer { id, headers: to_fields(&parts.headers), body: collected.to_bytes(), trailers }
        }
        Err(status) => failed(id, status),
    }
}

fn failed(id: u64, status: Status) -> Answer {
    let mut headers = HeaderMap::new();
    // What can't be said in headers is left out.
    let _ = status.add_header(&mut headers);
    Answer { id, headers: to_fields(&headers), ..Answer::default() }
}
