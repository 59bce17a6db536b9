//! Around every call of gRPC: metrics, and the name of a method that is not there. What a tunnel carries is counted where it
//! comes out.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::LazyLock;
use std::task::{Context, Poll};
use std::time::Instant;

use prost::Message as _;
use prost_types::FileDescriptorSet;
use tonic::Code;
use tonic::codegen::http::{HeaderMap, HeaderValue, Request, Response};
use tower::{Layer, Service};

use crate::metrics;
use crate::types::limits;

#[derive(Clone)]
pub struct Observe;

impl<S> Layer<S> for Observe {
    type Service = Observed<S>;

    fn layer(&self, inner: S) -> Observed<S> {
        Observed { inner }
    }
}

#[derive(Clone)]
pub struct Observed<S> {
    inner: S,
}

impl<S, B, R> Service<Request<B>> for Observed<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Future: Send + 'static,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<R>, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let path = request.uri().clone();
        let begun = Instant::now();
        let call = self.inner.call(request);
        Box::pin(async move {
            let method = known(path.path());
            let _in_flight = metrics::grpc_in_flight(method);
            let mut response = call.await?;
            let mut code = response
                .headers()
                .get("grpc-status")
                .and_then(|code| code.to_str().ok())
                .and_then(|code| code.parse().ok())
                .unwrap_or(0);
            if let Some(message) = too_large(code, response.headers()) {
                code = Code::ResourceExhausted as i32;
                response.headers_mut().insert("grpc-status", HeaderValue::from(code));
                response.headers_mut().insert("grpc-message", message);
            }
            metrics::grpc_request(method, metrics::code_name(code), begun.elapsed());
            // Of a method that is not there; an encoding that is not known has a message of its own.
            let message = response.headers().get("grpc-message").map_or("".as_bytes(), HeaderValue::as_bytes);
            if code == Code::Unimplemented as i32 && matches!(message, b"" | b"Not%20yet%20implemented") {
                let name = path.path().rsplit('/').next().unwrap_or_default();
                let message =
                    format!("{name} is not implemented by millrace {}", env!("CARGO_PKG_VERSION")).replace(' ', "%20");
                if let Ok(message) = HeaderValue::from_str(&message) {
                    response.headers_mut().insert("grpc-message", message);
                }
            }
            Ok(response)
        })
    }
}

/// The method of a path, if it is one of ours: others must not become labels of metrics.
pub fn known(path: &str) -> &'static str {
    static METHODS: LazyLock<HashMap<String, String>> = LazyLock::new(|| {
        let files = FileDescriptorSet::decode(crate::proto::DESCRIPTORS).map(|set| set.file).unwrap_or_default();
        let services = files.iter().flat_map(|file| file.service.iter().map(move |service| (file.package(), service)));
        let methods = services.flat_map(|(package, service)| {
            service.method.iter().map(move |method| (package, service.name(), method.name()))
        });
        methods
            .map(|(package, service, method)| (format!("/{package}.{service}/{method}"), method.to_owned()))
            .collect()
    });
    match path {
        "/grpc.health.v1.Health/Check" => "Check",
        "/grpc.health.v1.Health/Watch" => "Watch",
        // What nodes ask each other is no part of the API that is described to others; what it carries has names of its own.
        "/millrace.cluster.TunnelService/Carry" => "Carry",
        _ => METHODS.get(path).map_or("other", String::as_str),
    }
}

/// A message over the limit is refused as gRPC's other servers have it, which is what SDKs know for one that will never fit.
fn too_large(code: i32, headers: &HeaderMap) -> Option<HeaderValue> {
    let refusal = headers.get("grpc-message")?.to_str().ok()?.replace("%20", " ");
    let max = limits::MESSAGE_SIZE_MAX;
    let message = if code == Code::OutOfRange as i32 {
        let (_, found) = refusal.split_once("message length too large: found ")?;
        let size: String = found.chars().take_while(char::is_ascii_digit).collect();
        format!("grpc: received message larger than max ({size} vs. {max})")
    } else if code == Code::ResourceExhausted as i32 && refusal.contains("decompressing message") {
        format!("grpc: received message after decompression larger than max {max}")
    } else {
        return None;
    };
    HeaderValue::from_str(&message.replace(' ', "%20")).ok()
}
