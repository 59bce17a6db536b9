//! The gRPC edge: Temporal's `WorkflowService` and `OperatorService`, health and reflection.
//!
//! Checks requests and turns them into commands and reads of the partitions. Decides nothing itself.

// Temporal has deprecated fields that its server goes on reading, and SDKs writing: so do we.
#![allow(deprecated)]

mod activities;
mod activity_operations;
mod admin;
mod batch_pages;
mod batches;
mod describe;
mod errors;
mod executions;
mod history;
mod layer;
mod link;
mod namespaces;
mod operator;
mod polls;
mod queries;
mod route;
mod schedules;
mod search_attributes;
mod service;
mod sizes;
mod system;
mod task_queues;
mod tasks;
mod time_skipping;
mod updates;
mod validate;
mod visibility;
mod workflow_operations;
mod workflow_tasks;

use std::future::Future;

use tonic::codec::CompressionEncoding;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;

use crate::cluster;
use crate::proto::admin::log_service_server::LogServiceServer;
use crate::proto::temporal::enums::v1::IndexedValueType;
use crate::proto::temporal::operatorservice::v1::AddSearchAttributesRequest;
use crate::proto::temporal::operatorservice::v1::operator_service_server::{OperatorService, OperatorServiceServer};
use crate::proto::temporal::testservice::v1::test_service_server::TestServiceServer;
use crate::proto::temporal::workflowservice::v1::RegisterNamespaceRequest;
use crate::proto::temporal::workflowservice::v1::workflow_service_server::{WorkflowService, WorkflowServiceServer};
use crate::types::limits;

pub use batch_pages::serve as serve_batch_pages;
pub use search_attributes::parse as parse_search_attribute;
pub use service::{Service, command};
pub use system::COMPATIBLE_WITH;
pub use time_skipping::TimeSkipping;

/// A namespace that could not be registered is tried again after this long.
const REGISTER_AGAIN_AFTER: std::time::Duration = std::time::Duration::from_millis(200);

/// Serves until `stop` is done.
pub async fn serve(
    listener: tokio::net::TcpListener,
    service: Service,
    time_skipping: Option<TimeSkipping>,
    stop: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let (health, health_service) = tonic_health::server::health_reporter();
    health
        .set_service_status("temporal.api.workflowservice.v1.WorkflowService", tonic_health::ServingStatus::Serving)
        .await;
    if time_skipping.is_some() {
        health
            .set_service_status("temporal.api.testservice.v1.TestService", tonic_health::ServingStatus::Serving)
            .await;
    }
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(crate::proto::DESCRIPTORS)
        .build_v1()?;
    let admin = LogServiceServer::new(admin::Admin { log: service.node.log.clone() })
        .accept_compressed(CompressionEncoding::Gzip);
    let (stopping, stopped) = tokio::sync::watch::channel(false);
    let nodes = cluster::serve(service.node.clone(), service.clone(), stopped);
    let workflows = WorkflowServiceServer::new(service.clone())
        .accept_compressed(CompressionEncoding::Gzip)
        .max_decoding_message_size(limits::MESSAGE_SIZE_MAX)
        .max_encoding_message_size(usize::MAX);
    let operator = OperatorServiceServer::new(service).accept_compressed(CompressionEncoding::Gzip);
    let stop = async move {
        stop.await;
        let _ = stopping.send(true);
    };
    Server::builder()
        .initial_stream_window_size(Some(1 << 20))
        .initial_connection_window_size(Some(4 << 20))
        .layer(layer::Observe)
        .add_service(workflows)
        .add_service(operator)
        .add_service(admin.max_decoding_message_size(2 * crate::log::RECORD_BYTES_MAX))
        .add_service(nodes)
        .add_optional_service(
            time_skipping.map(|skipping| TestServiceServer::new(skipping).accept_compressed(CompressionEncoding::Gzip)),
        )
        .add_service(health_service.accept_compressed(CompressionEncoding::Gzip))
        .add_service(reflection.accept_compressed(CompressionEncoding::Gzip))
        // Delayed acknowledgements cost 40 ms each otherwise.
        .serve_with_incoming_shutdown(TcpIncoming::from(listener).with_nodelay(Some(true)), stop)
        .await?;
    Ok(())
}

/// Registers a namespace unless it exists, and adds search attributes that it lacks. Waits for its partition to be owned.
pub async fn ensure_namespace(
    service: &Service,
    name: &str,
    retention_ms: i64,
    search_attributes: &[(String, IndexedValueType)],
) -> anyhow::Result<()> {
    let register = RegisterNamespaceRequest {
        namespace: name.to_owned(),
        workflow_execution_retention_period: Some(crate::types::time::duration(retention_ms)),
        ..RegisterNamespaceRequest::default()
    };
    let registered = once_owned(name, || service.register_namespace(tonic::Request::new(register.clone()))).await;
    match registered {
        Err(status) if status.code() != tonic::Code::AlreadyExists => {
            return Err(anyhow::anyhow!("the namespace {name} could not be registered: {}", status.message()));
        }
        _ if search_attributes.is_empty() => return Ok(()),
        _ => {}
    }
    let add = AddSearchAttributesRequest {
        namespace: name.to_owned(),
        search_attributes: search_attributes.iter().map(|(name, of)| (name.clone(), *of as i32)).collect(),
    };
    match once_owned(name, || service.add_search_attributes(tonic::Request::new(add.clone()))).await {
        Ok(_) => Ok(()),
        Err(status) => {
            Err(anyhow::anyhow!("the namespace {name} could not be given search attributes: {}", status.message()))
        }
    }
}

/// Calls until the partition is owned.
async fn once_owned<R, F>(namespace: &str, call: impl Fn() -> F) -> Result<R, tonic::Status>
where
    F: Future<Output = Result<R, tonic::Status>>,
{
    loop {
        match call().await {
            Err(status) if status.code() == tonic::Code::Unavailable => {
                tracing::info!("the namespace {namespace} waits to be registered: {}", status.message());
                tokio::time::sleep(REGISTER_AGAIN_AFTER).await;
            }
            answer => return answer,
        }
    }
}
