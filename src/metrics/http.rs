//! The endpoint for Prometheus and for probes: `GET /metrics` and `GET /health`.

use std::sync::Arc;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;

/// Serves metrics and health until it is dropped. `refresh` is called before each scrape, on a thread where it may block, to
/// set the gauges of what is counted nowhere else; `ready` returns whether this node can serve, and must not block.
pub async fn serve(
    listener: TcpListener,
    refresh: impl Fn() + Send + Sync + 'static,
    ready: impl Fn() -> bool + Clone + Send + Sync + 'static,
) -> std::io::Result<()> {
    let refresh = Arc::new(refresh);
    let router = Router::new()
        .route("/metrics", get(move || scrape(refresh.clone())))
        .route("/health", get(move || std::future::ready(health(ready()))))
        .fallback(|| {
            std::future::ready((StatusCode::NOT_FOUND, "Not found: this port serves /metrics and /health.\n"))
        });
    axum::serve(listener, router).await
}

async fn scrape(refresh: Arc<impl Fn() + Send + Sync + 'static>) -> Response {
    let text = tokio::task::spawn_blocking(move || {
        refresh();
        super::render()
    });
    match text.await {
        Ok(text) => ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("The metrics could not be collected: {error}\n"))
            .into_response(),
    }
}

fn health(ready: bool) -> (StatusCode, &'static str) {
    if ready { (StatusCode::OK, "ready\n") } else { (StatusCode::SERVICE_UNAVAILABLE, "not ready\n") }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;

    async fn fetch(address: std::net::SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream
            .write_all(format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").as_bytes())
            .await
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn metrics_are_refreshed_health_follows_readiness_and_the_rest_is_not_found() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let up = Arc::new(AtomicBool::new(false));
        let ready = {
            let up = up.clone();
            move || up.load(Ordering::Relaxed)
        };
        let server = tokio::spawn(serve(listener, || crate::metrics::workflow_started("refreshed"), ready));

        let metrics = fetch(address, "/metrics").await;
        assert!(
            metrics.starts_with("HTTP/1.1 200") && metrics.contains("content-type: text/plain; version=0.0.4"),
            "{metrics}"
        );
        assert!(metrics.contains(r#"millrace_workflows_started_total{namespace="refreshed"} 1"#), "{metrics}");
        assert!(fetch(address, "/health").await.starts_with("HTTP/1.1 503"));
        up.store(true, Ordering::Relaxed);
        assert!(fetch(address, "/health").await.starts_with("HTTP/1.1 200"));
        let other = fetch(address, "/").await;
        assert!(other.starts_with("HTTP/1.1 404") && other.contains("/metrics"), "{other}");
        server.abort();
    }
}
