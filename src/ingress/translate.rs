//! A record of `requests` as a command. What can't be one becomes a `Reject`, so that its refusal is decided, and published,
//! like everything else.

use std::sync::Arc;

use prost::Message as _;

use crate::log::{RECORD_BYTES_MAX, Record, Stored};
use crate::partition::{Node, clock_ms, random};
use crate::proto::commands::{
    Command, RejectRequest, RequestCancelWorkflow, SignalWithStartWorkflow, SignalWorkflow, Source, StartWorkflow,
    TerminateWorkflow, command::Body,
};
use crate::proto::events::{self, request::Request as Kind};
use crate::proto::state::Namespace;
use crate::proto::temporal::common::v1::{Memo, Payload, Payloads, SearchAttributes, WorkflowExecution, WorkflowType};
use crate::proto::temporal::enums::v1::{WorkflowIdConflictPolicy, WorkflowIdReusePolicy};
use crate::proto::temporal::taskqueue::v1::TaskQueue;
use crate::proto::temporal::workflowservice::v1::{
    RequestCancelWorkflowExecutionRequest, SignalWorkflowExecutionRequest, StartWorkflowExecutionRequest,
    TerminateWorkflowExecutionRequest,
};
use crate::types::time::duration;
use crate::wire::{avro, requests_json};

/// Who a request came from, as histories show it.
const IDENTITY: &str = "millrace-requests";

/// The command that a record asks for.
pub fn command(node: &Arc<Node>, stored: &Stored, source: Source) -> Command {
    let request_id = format!("{}/{}", source.name, source.sequence - 1);
    let (namespace, workflow_id, body) = match parse(node, stored, &request_id) {
        Ok(parsed) => parsed,
        Err((code, reason)) => {
            (Namespace::default(), String::new(), Body::RejectRequest(RejectRequest { code: code.to_owned(), reason }))
        }
    };
    let mut command = Command {
        namespace_id: namespace.id,
        namespace: namespace.name,
        workflow_id,
        seed_high: random(),
        seed_low: random(),
        sent_ms: clock_ms(),
        retention_s: namespace.retention_ms / 1000,
        body: Some(body),
        ..Command::default()
    };
    let without_record = command.encoded_len() + source.name.len() + 64;
    let Record { key, value, .. } = stored.record.clone();
    let value = value.filter(|value| without_record + key.len() + value.len() <= RECORD_BYTES_MAX).unwrap_or_default();
    if without_record + key.len() > RECORD_BYTES_MAX {
        let reason =
            format!("the record comes to {without_record} bytes as a command, and the limit is {RECORD_BYTES_MAX}");
        command.body = Some(Body::RejectRequest(RejectRequest { code: "INVALID_ARGUMENT".into(), reason }));
    }
    command.source = Some(Source { key, value, ..source });
    command
}

type Parsed = (Namespace, String, Body);

fn parse(node: &Arc<Node>, stored: &Stored, request_id: &str) -> Result<Parsed, (&'static str, String)> {
    let invalid = |reason: String| ("INVALID_ARGUMENT", reason);
    let value = stored.record.value.as_deref().ok_or_else(|| invalid("the record has no value".into()))?;
    let request = if avro::framing::is_framed(value) {
        let request: events::Request = avro::decode(value).map_err(|error| invalid(error.to_string()))?;
        requests_json::validate(&request).map_err(|error| invalid(error.to_string()))?;
        request
    } else {
        requests_json::parse(value).map_err(|error| invalid(error.to_string()))?
    };
    let kind = request.request.ok_or_else(|| invalid("the request names nothing to do".into()))?;
    let name = match &kind {
        Kind::Start(r) => &r.namespace,
        Kind::Signal(r) => &r.namespace,
        Kind::SignalWithStart(r) => r.start.as_ref().map_or("", |start| &start.namespace),
        Kind::Cancel(r) => &r.namespace,
        Kind::Terminate(r) => &r.namespace,
    };
    let name = if name.is_empty() { "default" } else { name };
    let namespace =
        node.namespaces.by_name(name).ok_or_else(|| ("NOT_FOUND", format!("Namespace {name} is not found.")))?;
    let (workflow_id, body) = body(kind, &namespace, request_id).map_err(invalid)?;
    if workflow_id.chars().count() > crate::types::limits::ID_LENGTH_MAX {
        return Err(invalid(format!(
            "workflow_id exceeds length limit of {} characters.",
            crate::types::limits::ID_LENGTH_MAX
        )));
    }
    Ok(((*namespace).clone(), workflow_id, body))
}

fn body(kind: Kind, namespace: &Namespace, request_id: &str) -> Result<(String, Body), String> {
    let or_own = |asked: &str| if asked.is_empty() { request_id.to_owned() } else { asked.to_owned() };
    let namespace = namespace.name.clone();
    let execution = |workflow_id: &str, run_id: &str| {
        Some(WorkflowExecution { workflow_id: workflow_id.to_owned(), run_id: run_id.to_owned() })
    };
    Ok(match kind {
        Kind::Start(start) => {
            let request = start_request(&start, namespace, or_own(&start.request_id))?;
            (
                start.workflow_id,
                Body::StartWorkflow(StartWorkflow { request: Some(request), ..StartWorkflow::default() }),
            )
        }
        Kind::Signal(signal) => {
            let request = SignalWorkflowExecutionRequest {
                namespace,
                workflow_execution: execution(&signal.workflow_id, &signal.run_id),
                signal_name: signal.signal_name,
                input: payloads(signal.input),
                identity: IDENTITY.into(),
                request_id: or_own(&signal.request_id),
                ..SignalWorkflowExecutionRequest::default()
            };
            (signal.workflow_id, Body::SignalWorkflow(SignalWorkflow { request: Some(request), external: None }))
        }
        Kind::SignalWithStart(both) => {
            let start = both.start.unwrap_or_default();
            let request = start_request(&start, namespace, or_own(&start.request_id))?;
            let signal = SignalWithStartWorkflow {
                start: Some(request),
                signal_name: both.signal_name,
                signal_input: payloads(both.signal_input),
            };
            (start.workflow_id, Body::SignalWithStartWorkflow(signal))
        }
        Kind::Cancel(cancel) => {
            let request = RequestCancelWorkflowExecutionRequest {
                namespace,
                workflow_execution: execution(&cancel.workflow_id, &cancel.run_id),
                identity: IDENTITY.into(),
                request_id: or_own(&cancel.request_id),
                reason: cancel.reason,
                ..RequestCancelWorkflowExecutionRequest::default()
            };
            (
                cancel.workflow_id,
                Body::RequestCancelWorkflow(RequestCancelWorkflow { request: Some(request), external: None }),
            )
        }
        Kind::Terminate(terminate) => {
            let request = TerminateWorkflowExecutionRequest {
                namespace,
                workflow_execution: execution(&terminate.workflow_id, &terminate.run_id),
                identity: IDENTITY.into(),
                reason: terminate.reason,
                ..TerminateWorkflowExecutionRequest::default()
            };
            (
                terminate.workflow_id,
                Body::TerminateWorkflow(TerminateWorkflow { request: Some(request), ..TerminateWorkflow::default() }),
            )
        }
    })
}

fn start_request(
    start: &events::Start,
    namespace: String,
    request_id: String,
) -> Result<StartWorkflowExecutionRequest, String> {
    let timeout = |ms: i64| (ms > 0).then(|| duration(ms));
    let reuse = match start.id_reuse_policy.as_str() {
        "" | "allow_duplicate" => WorkflowIdReusePolicy::AllowDuplicate,
        "allow_duplicate_failed_only" => WorkflowIdReusePolicy::AllowDuplicateFailedOnly,
        "reject_duplicate" => WorkflowIdReusePolicy::RejectDuplicate,
        other => {
            return Err(format!(
                "id_reuse_policy is {other:?}: expected allow_duplicate, allow_duplicate_failed_only or reject_duplicate"
            ));
        }
    };
    let conflict = match start.id_conflict_policy.as_str() {
        "" | "fail" => WorkflowIdConflictPolicy::Fail,
        "use_existing" => WorkflowIdConflictPolicy::UseExisting,
        "terminate_existing" => WorkflowIdConflictPolicy::TerminateExisting,
        other => {
            return Err(format!("id_conflict_policy is {other:?}: expected fail, use_existing or terminate_existing"));
        }
    };
    if !start.cron_schedule.is_empty() {
        crate::engine::CronSchedule::parse(&start.cron_schedule)?;
    }
    Ok(StartWorkflowExecutionRequest {
        namespace,
        workflow_id: start.workflow_id.clone(),
        workflow_type: Some(WorkflowType { name: start.workflow_type.clone() }),
        task_queue: Some(TaskQueue { name: start.task_queue.clone(), kind: 1, ..TaskQueue::default() }),
        input: payloads(start.input.clone()),
        workflow_execution_timeout: timeout(start.execution_timeout_ms),
        workflow_run_timeout: timeout(start.run_timeout_ms),
        workflow_task_timeout: timeout(start.task_timeout_ms),
        identity: IDENTITY.into(),
        request_id,
        workflow_id_reuse_policy: reuse as i32,
        workflow_id_conflict_policy: conflict as i32,
        cron_schedule: start.cron_schedule.clone(),
        memo: (!start.memo.is_empty()).then(|| Memo { fields: start.memo.clone() }),
        search_attributes: (!start.search_attributes.is_empty())
            .then(|| SearchAttributes { indexed_fields: start.search_attributes.clone() }),
        ..StartWorkflowExecutionRequest::default()
    })
}

fn payloads(payloads: Vec<Payload>) -> Option<Payloads> {
    (!payloads.is_empty()).then_some(Payloads { payloads })
}
