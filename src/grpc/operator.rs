//! `OperatorService`: what the CLI's `operator` commands need. Every other method answers UNIMPLEMENTED.

use tonic::{Request, Response, Status};

use super::service::Service;
use super::visibility::system_attributes;
use crate::proto::temporal::operatorservice::v1::{operator_service_server::OperatorService, *};

#[tonic::async_trait]
impl OperatorService for Service {
    async fn list_search_attributes(
        &self,
        request: Request<ListSearchAttributesRequest>,
    ) -> Result<Response<ListSearchAttributesResponse>, Status> {
        let namespace = request.into_inner().namespace;
        if !namespace.is_empty() {
            self.namespace(&namespace)?;
        }
        Ok(Response::new(ListSearchAttributesResponse {
            system_attributes: system_attributes(),
            ..ListSearchAttributesResponse::default()
        }))
    }

    async fn list_clusters(&self, _: Request<ListClustersRequest>) -> Result<Response<ListClustersResponse>, Status> {
        let this = ClusterMetadata {
            cluster_name: "active".into(),
            cluster_id: self.cluster_id.to_string(),
            history_shard_count: self.node.partitions() as i32,
            is_connection_enabled: true,
            initial_failover_version: 1,
            ..ClusterMetadata::default()
        };
        Ok(Response::new(ListClustersResponse { clusters: vec![this], ..ListClustersResponse::default() }))
    }
}
