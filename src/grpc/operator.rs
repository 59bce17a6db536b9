//! `OperatorService`: what the CLI's `operator` commands need. Every other method answers UNIMPLEMENTED.

use bytes::Bytes;
use prost::Message as _;
use tonic::codegen::BoxFuture;
use tonic::{Request, Response, Status};

use super::search_attributes;
use super::service::{Service, serve};
use crate::proto::temporal::operatorservice::v1::{operator_service_server::OperatorService, *};

serve! { OperatorService as forwarded_operator:
    add_search_attributes(AddSearchAttributesRequest) -> AddSearchAttributesResponse = search_attributes::add;
    remove_search_attributes(RemoveSearchAttributesRequest) -> RemoveSearchAttributesResponse = search_attributes::remove;
    list_search_attributes(ListSearchAttributesRequest) -> ListSearchAttributesResponse = search_attributes::list;
    list_clusters(ListClustersRequest) -> ListClustersResponse = clusters::list;
}

mod clusters {
    use super::*;

    pub async fn list(service: &Service, _: ListClustersRequest) -> Result<ListClustersResponse, Status> {
        let this = ClusterMetadata {
            cluster_name: "active".into(),
            cluster_id: service.cluster_id.to_string(),
            history_shard_count: service.node.partitions() as i32,
            is_connection_enabled: true,
            initial_failover_version: 1,
            ..ClusterMetadata::default()
        };
        Ok(ListClustersResponse { clusters: vec![this], ..ListClustersResponse::default() })
    }
}
