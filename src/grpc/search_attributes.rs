//! Search attributes at the edge: a namespace's are added, removed and listed, and those that workflows are given are checked.
//!
//! What a namespace has is known to every node, so workflows' are checked before there is a command, which contains them with
//! their types: no decision needs to know them.

use std::sync::Arc;

use tonic::Status;

use super::namespaces::changed;
use super::service::Service;
use super::validate;
use crate::engine::{search_attribute_type_name, type_of_field};
use crate::proto::commands::{ChangeSearchAttributes, command::Body};
use crate::proto::state::Namespace;
use crate::proto::temporal::command::v1::{Command, command::Attributes as A};
use crate::proto::temporal::common::v1::{SearchAttributes, WorkflowType};
use crate::proto::temporal::enums::v1::IndexedValueType;
use crate::proto::temporal::operatorservice::v1::*;
use crate::proto::temporal::taskqueue::v1::TaskQueue;
use crate::proto::temporal::workflowservice::v1::{GetSearchAttributesRequest, GetSearchAttributesResponse};
use crate::visibility::{Attributes, Refused, attributes_of, check_given, is_reserved, system_attributes};

pub async fn add(
    service: &Service,
    request: AddSearchAttributesRequest,
) -> Result<AddSearchAttributesResponse, Status> {
    if request.search_attributes.is_empty() {
        return Err(Status::invalid_argument("SearchAttributes are not set on request."));
    }
    for (name, of) in &request.search_attributes {
        validate::length("SearchAttribute", name)?;
        if name.is_empty() || is_reserved(name) {
            return Err(Status::invalid_argument(format!("Search attribute {name} is reserved by system.")));
        }
        if IndexedValueType::try_from(*of).is_err() {
            return Err(Status::invalid_argument(format!("Unknown search attribute type: {of}.")));
        }
    }
    let namespace = named(service, &request.namespace)?;
    let present = attributes_of(&namespace);
    if request.search_attributes.keys().any(|name| !present.contains_key(name)) {
        let change = ChangeSearchAttributes { add: request.search_attributes, ..ChangeSearchAttributes::default() };
        change_to(service, &namespace, change).await?;
    }
    Ok(AddSearchAttributesResponse::default())
}

pub async fn remove(
    service: &Service,
    request: RemoveSearchAttributesRequest,
) -> Result<RemoveSearchAttributesResponse, Status> {
    if request.search_attributes.is_empty() {
        return Err(Status::invalid_argument("SearchAttributes are not set on request."));
    }
    let namespace = named(service, &request.namespace)?;
    let (present, system) = (attributes_of(&namespace), system_attributes());
    let of_all = |name: &&String| system.contains_key(*name) || type_of_field(name).is_some();
    if let Some(name) = request.search_attributes.iter().filter(|name| !present.contains_key(*name)).find(of_all) {
        return Err(Status::invalid_argument(format!("Unable to remove non-custom search attributes: {name}.")));
    }
    if request.search_attributes.iter().any(|name| present.contains_key(name)) {
        let change = ChangeSearchAttributes { remove: request.search_attributes, ..ChangeSearchAttributes::default() };
        change_to(service, &namespace, change).await?;
    }
    Ok(RemoveSearchAttributesResponse::default())
}

pub async fn list(
    service: &Service,
    request: ListSearchAttributesRequest,
) -> Result<ListSearchAttributesResponse, Status> {
    let namespace = named(service, &request.namespace)?;
    Ok(ListSearchAttributesResponse {
        custom_attributes: numbers(attributes_of(&namespace)),
        system_attributes: numbers(system_attributes()),
        ..ListSearchAttributesResponse::default()
    })
}

/// The request names no namespace, so these are the attributes that all have.
pub async fn get(_: &Service, _: GetSearchAttributesRequest) -> Result<GetSearchAttributesResponse, Status> {
    Ok(GetSearchAttributesResponse { keys: numbers(system_attributes()) })
}

fn named(service: &Service, name: &str) -> Result<Arc<Namespace>, Status> {
    if name.is_empty() {
        return Err(Status::invalid_argument("Namespace is not set on request."));
    }
    service.namespace(name)
}

fn numbers(attributes: Attributes) -> std::collections::BTreeMap<String, i32> {
    attributes.into_iter().map(|(name, of)| (name, of as i32)).collect()
}

async fn change_to(service: &Service, namespace: &Namespace, change: ChangeSearchAttributes) -> Result<(), Status> {
    changed(service, namespace, Body::ChangeSearchAttributes(change)).await?;
    Ok(())
}

impl Service {
    /// A namespace as another node has changed it meanwhile; none if it is as it was.
    pub async fn newer(&self, namespace: &Namespace) -> Option<Arc<Namespace>> {
        self.cluster.as_ref()?;
        let peers = self.node.peers.clone();
        let _ = tokio::task::spawn_blocking(move || peers.catch_up_with_control()).await;
        self.node.shared.namespaces.by_id(&namespace.id).filter(|newest| newest.revision > namespace.revision)
    }
}

/// Checks what a workflow is given at its start, and writes each type beside its value.
pub async fn check(
    service: &Service,
    namespace: &Namespace,
    given: Option<&mut SearchAttributes>,
) -> Result<(), Status> {
    let Some(given) = given.filter(|given| !given.indexed_fields.is_empty()) else { return Ok(()) };
    let refused = |refused: Refused| Status::invalid_argument(refused.to_string());
    match check_given(given, &namespace.name, &attributes_of(namespace)) {
        // Perhaps it was added a moment ago, through another node.
        Err(Refused::Unknown(why)) => match service.newer(namespace).await {
            Some(newer) => check_given(given, &newer.name, &attributes_of(&newer)).map_err(refused),
            None => Err(Status::invalid_argument(why)),
        },
        checked => checked.map_err(refused),
    }
}

/// The same of a workflow task's commands; the error is for the failure of the task.
pub async fn check_commands(service: &Service, namespace: &Namespace, commands: &mut [Command]) -> Result<(), String> {
    if commands.iter_mut().all(|command| given_by(command).is_none()) {
        return Ok(());
    }
    match check_all(&namespace.name, &attributes_of(namespace), commands) {
        Err(why) => match service.newer(namespace).await {
            Some(newer) => check_all(&newer.name, &attributes_of(&newer), commands),
            None => Err(why),
        },
        Ok(()) => Ok(()),
    }
}

fn check_all(namespace: &str, custom: &Attributes, commands: &mut [Command]) -> Result<(), String> {
    for command in commands {
        let Some(given) = given_by(command) else { continue };
        check_given(given, namespace, custom).map_err(|refused| match (refused, command.attributes.as_ref()) {
            (Refused::Invalid(why), Some(A::ContinueAsNewWorkflowExecutionCommandAttributes(a))) => format!(
                "invalid SearchAttributes on ContinueAsNewWorkflowExecutionCommand: {why}. WorkflowType={} TaskQueue={}",
                type_of(a.workflow_type.as_ref()),
                printed(a.task_queue.as_ref())
            ),
            (Refused::Invalid(why), Some(A::StartChildWorkflowExecutionCommandAttributes(a))) => format!(
                "invalid SearchAttributes on StartChildWorkflowCommand: {why}. WorkflowId={} WorkflowType={} Namespace={namespace}",
                a.workflow_id,
                type_of(a.workflow_type.as_ref())
            ),
            (refused, _) => refused.to_string(),
        })?;
    }
    Ok(())
}

fn given_by(command: &mut Command) -> Option<&mut SearchAttributes> {
    match command.attributes.as_mut()? {
        A::UpsertWorkflowSearchAttributesCommandAttributes(a) => a.search_attributes.as_mut(),
        A::StartChildWorkflowExecutionCommandAttributes(a) => a.search_attributes.as_mut(),
        A::ContinueAsNewWorkflowExecutionCommandAttributes(a) => a.search_attributes.as_mut(),
        _ => None,
    }
}

fn type_of(of: Option<&WorkflowType>) -> &str {
    of.map_or("", |of| of.name.as_str())
}

/// A message as Go prints it.
fn printed(queue: Option<&TaskQueue>) -> String {
    let Some(queue) = queue else { return "<nil>".into() };
    format!("name:{:?} kind:{}", queue.name, queue.kind().as_str_name())
}

/// Reads `NAME=TYPE`, as the command line has it.
pub fn parse(text: &str) -> Result<(String, IndexedValueType), String> {
    let types = crate::engine::SEARCH_ATTRIBUTE_TYPES;
    let expected = || {
        let names: Vec<_> = types.iter().map(|(of, _)| search_attribute_type_name(*of)).collect();
        format!("expected NAME=TYPE, with one of the types {}", names.join(", "))
    };
    let (name, of) = text.split_once('=').filter(|(name, _)| !name.is_empty()).ok_or_else(expected)?;
    let of = types.iter().find(|(_, each)| *each == of).ok_or_else(expected)?.0;
    if is_reserved(name) {
        return Err(format!("the name {name} is reserved: choose another"));
    }
    Ok((name.to_owned(), of))
}
