//! What the server is and can do.

use tonic::Status;

use super::service::Service;
use crate::proto::temporal::version::v1::{ReleaseInfo, VersionInfo};
use crate::proto::temporal::workflowservice::v1::*;

/// The version of Temporal's server whose behaviour this one follows: clients compare it with what they need.
pub const COMPATIBLE_WITH: &str = "1.32.1";

pub async fn system_info(_: &Service, _: GetSystemInfoRequest) -> Result<GetSystemInfoResponse, Status> {
    let capabilities = get_system_info_response::Capabilities {
        signal_and_query_header: true,
        internal_error_differentiation: true,
        activity_failure_include_heartbeat: true,
        encoded_failure_attributes: true,
        upsert_memo: true,
        eager_workflow_start: true,
        // SDKs name their build in tasks and completions rather than in a checksum.
        build_id_based_versioning: true,
        sdk_metadata: true,
        count_group_by_execution_status: true,
        // Not yet: schedules, Nexus.
        ..get_system_info_response::Capabilities::default()
    };
    Ok(GetSystemInfoResponse { server_version: COMPATIBLE_WITH.into(), capabilities: Some(capabilities) })
}

pub async fn cluster_info(service: &Service, _: GetClusterInfoRequest) -> Result<GetClusterInfoResponse, Status> {
    let supported = [
        ("temporal-go", "<2.0.0"),
        ("temporal-java", "<2.0.0"),
        ("temporal-python", "<2.0.0"),
        ("temporal-typescript", "<2.0.0"),
        ("temporal-cli", "<2.0.0"),
        ("temporal-server", "<2.0.0"),
    ];
    let release = ReleaseInfo {
        version: COMPATIBLE_WITH.into(),
        notes: format!("millrace {}", env!("CARGO_PKG_VERSION")),
        ..ReleaseInfo::default()
    };
    Ok(GetClusterInfoResponse {
        supported_clients: supported.into_iter().map(|(name, range)| (name.to_owned(), range.to_owned())).collect(),
        server_version: COMPATIBLE_WITH.into(),
        cluster_id: service.cluster_id.to_string(),
        version_info: Some(VersionInfo {
            current: Some(release.clone()),
            recommended: Some(release),
            ..VersionInfo::default()
        }),
        cluster_name: "active".into(),
        history_shard_count: service.node.partitions() as i32,
        persistence_store: "kafka+rocksdb".into(),
        visibility_store: "sqlite".into(),
        initial_failover_version: 1,
        failover_version_increment: 10,
    })
}
