//! Namespaces: registering, describing, listing and updating them.

use tonic::Status;

use super::service::{Service, command};
use super::validate;
use crate::engine::{EntityId, State};
use crate::partition::Core;
use crate::proto::commands::{PutNamespace, UpdateNamespace, command::Body};
use crate::proto::state;
use crate::proto::temporal::enums::v1::NamespaceState;
use crate::proto::temporal::namespace::v1::{NamespaceConfig, NamespaceInfo, UpdateNamespaceInfo, namespace_info};
use crate::proto::temporal::replication::v1::{ClusterReplicationConfig, NamespaceReplicationConfig};
use crate::proto::temporal::workflowservice::v1::*;
use crate::types::{limits, time};

/// The shortest retention that is taken, in milliseconds: as Temporal's server has it, a day.
const RETENTION_MS_MIN: i64 = 24 * 3600 * 1000;

/// How long a registration waits until it is published. It stands before that.
const PUBLISH_WAIT_MAX: std::time::Duration = std::time::Duration::from_secs(3);

pub async fn register(
    service: &Service,
    request: RegisterNamespaceRequest,
) -> Result<RegisterNamespaceResponse, Status> {
    validate::required("Namespace", &request.namespace)?;
    let retention_ms = time::duration_ms(request.workflow_execution_retention_period.as_ref());
    check_retention(retention_ms)?;
    let namespace = state::Namespace {
        id: service.node.new_id(),
        name: request.namespace,
        description: request.description,
        owner_email: request.owner_email,
        data: request.data,
        retention_ms,
        state: NamespaceState::Registered as i32,
        ..state::Namespace::default()
    };
    let body = Body::PutNamespace(PutNamespace { namespace: Some(namespace.clone()) });
    changed(service, &namespace, body).await?;
    Ok(RegisterNamespaceResponse::default())
}

fn check_retention(retention_ms: i64) -> Result<(), Status> {
    if retention_ms < RETENTION_MS_MIN {
        return Err(Status::invalid_argument(
            "A valid retention period is not set on request: it is at least 24 hours.",
        ));
    }
    Ok(())
}

/// Has a command to a namespace decided, and returns its outcome.
pub async fn changed(service: &Service, namespace: &state::Namespace, body: Body) -> Result<state::Namespace, Status> {
    let id = EntityId::namespace(&namespace.name);
    let command = command(&service.node, namespace, &id, body);
    let namespace = service.decide(command, &id, |core, id, _| found(core, id)).await?;
    published(service, &id, namespace.revision).await;
    Ok(namespace)
}

/// The namespace, as it has just been decided.
fn found(core: &mut Core, id: &EntityId) -> Result<state::Namespace, Status> {
    let state = core.state(id, "")?;
    let namespace = state.as_ref().and_then(State::namespace);
    namespace.cloned().ok_or_else(|| Status::internal("a namespace that was changed is not there"))
}

/// Returns once all nodes can know it: a node that reads the log after that finds it.
async fn published(service: &Service, id: &EntityId, revision: i64) {
    let Some(cluster) = &service.cluster else { return };
    let begun = tokio::time::Instant::now();
    while !cluster.has_published(id, revision) && begun.elapsed() < PUBLISH_WAIT_MAX {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

pub async fn describe(
    service: &Service,
    request: DescribeNamespaceRequest,
) -> Result<DescribeNamespaceResponse, Status> {
    let namespace = if request.namespace.is_empty() && !request.id.is_empty() {
        service.namespace_by_id(&request.id)?
    } else {
        service.namespace(&request.namespace)?
    };
    Ok(response(&namespace))
}

pub async fn list(service: &Service, request: ListNamespacesRequest) -> Result<ListNamespacesResponse, Status> {
    if !service.knows_namespaces() {
        return Err(Status::unavailable("the server is still reading its namespaces: try again"));
    }
    let from = String::from_utf8(request.next_page_token.to_vec())
        .map_err(|_| Status::invalid_argument("Invalid NextPageToken."))?;
    let size = if request.page_size > 0 { request.page_size as usize } else { 100 };
    let mut namespaces: Vec<_> = service
        .node
        .shared
        .namespaces
        .all()
        .into_iter()
        .filter(|namespace| namespace.name > from || from.is_empty())
        .collect();
    let more = namespaces.len() > size;
    namespaces.truncate(size);
    let next_page_token = namespaces.last().filter(|_| more).map(|last| last.name.clone()).unwrap_or_default();
    Ok(ListNamespacesResponse {
        namespaces: namespaces.iter().map(|namespace| response(namespace)).collect(),
        next_page_token: next_page_token.into(),
    })
}

pub async fn update(service: &Service, request: UpdateNamespaceRequest) -> Result<UpdateNamespaceResponse, Status> {
    let namespace = service.namespace(&request.namespace)?;
    let retention = request.config.as_ref().and_then(|config| config.workflow_execution_retention_ttl.as_ref());
    if retention.is_some() {
        check_retention(time::duration_ms(retention))?;
    }
    // Merged where it is decided: what this node knows of the namespace may be old by then.
    let body = Body::UpdateNamespace(UpdateNamespace { request: Some(request) });
    let changed = response(&changed(service, &namespace, body).await?);
    Ok(UpdateNamespaceResponse {
        namespace_info: changed.namespace_info,
        config: changed.config,
        replication_config: changed.replication_config,
        ..UpdateNamespaceResponse::default()
    })
}

pub async fn deprecate(
    service: &Service,
    request: DeprecateNamespaceRequest,
) -> Result<DeprecateNamespaceResponse, Status> {
    let request = UpdateNamespaceRequest {
        namespace: request.namespace,
        update_info: Some(UpdateNamespaceInfo {
            state: NamespaceState::Deprecated as i32,
            ..UpdateNamespaceInfo::default()
        }),
        ..UpdateNamespaceRequest::default()
    };
    update(service, request).await?;
    Ok(DeprecateNamespaceResponse::default())
}

fn response(namespace: &state::Namespace) -> DescribeNamespaceResponse {
    let info = NamespaceInfo {
        name: namespace.name.clone(),
        state: namespace.state,
        description: namespace.description.clone(),
        owner_email: namespace.owner_email.clone(),
        data: namespace.data.clone(),
        id: namespace.id.clone(),
        capabilities: Some(namespace_info::Capabilities {
            eager_workflow_start: true,
            sync_update: true,
            async_update: true,
            ..namespace_info::Capabilities::default()
        }),
        limits: Some(namespace_info::Limits {
            blob_size_limit_error: limits::BLOB_SIZE_MAX as i64,
            memo_size_limit_error: limits::MEMO_SIZE_MAX as i64,
            ..namespace_info::Limits::default()
        }),
        supports_schedules: false,
    };
    let config = NamespaceConfig {
        workflow_execution_retention_ttl: Some(time::duration(namespace.retention_ms)),
        history_archival_state: 1,
        visibility_archival_state: 1,
        custom_search_attribute_aliases: namespace.custom_search_attribute_aliases.clone(),
        ..NamespaceConfig::default()
    };
    let replication = NamespaceReplicationConfig {
        active_cluster_name: "active".into(),
        clusters: vec![ClusterReplicationConfig {
            cluster_name: "active".into(),
            ..ClusterReplicationConfig::default()
        }],
        ..NamespaceReplicationConfig::default()
    };
    DescribeNamespaceResponse {
        namespace_info: Some(info),
        config: Some(config),
        replication_config: Some(replication),
        ..DescribeNamespaceResponse::default()
    }
}
