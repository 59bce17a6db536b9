//! A request as a command. What can't be one becomes a `Reject`, so that its refusal is decided, and published,
//! like everything else.

use std::sync::Arc;

use bytes::Bytes;
use prost::Message as _;

use super::{Feed, request};
use crate::engine::EntityId;
use crate::log::{RECORD_BYTES_MAX, Record, Stored};
use crate::partition::Node;
use crate::proto::commands::{
    ActivityRef, CancelActivity, Command, CompleteActivity, FailActivity, HeartbeatActivity, PauseWorkflow,
    RejectRequest, RequestCancelWorkflow, ResetPoint, ResetWorkflow, SignalWithStartWorkflow, SignalWorkflow, Source,
    StartWorkflow, TaskToken, TerminateWorkflow, UnpauseWorkflow, UpdateWorkflow, command::Body,
};
use crate::proto::events::{self, request::Request as Kind};
use crate::proto::schedule::PatchSchedule;
use crate::proto::state::Namespace;
use crate::proto::temporal::common::v1::{Memo, Payload, Payloads, SearchAttributes, WorkflowExecution, WorkflowType};
use crate::proto::temporal::enums::v1::{
    ResetReapplyExcludeType, ScheduleOverlapPolicy, WorkflowIdConflictPolicy, WorkflowIdReusePolicy,
};
use crate::proto::temporal::failure::v1::{ApplicationFailureInfo, Failure, failure::FailureInfo};
use crate::proto::temporal::schedule::v1::{BackfillRequest, SchedulePatch, TriggerImmediatelyRequest};
use crate::proto::temporal::taskqueue::v1::TaskQueue;
use crate::proto::temporal::update::{
    self,
    v1::{Input, Meta},
};
use crate::proto::temporal::workflowservice::v1::{
    PatchScheduleRequest, PauseWorkflowExecutionRequest, RequestCancelWorkflowExecutionRequest,
    ResetWorkflowExecutionRequest, SignalWorkflowExecutionRequest, StartWorkflowExecutionRequest,
    TerminateWorkflowExecutionRequest, UnpauseWorkflowExecutionRequest, UpdateWorkflowExecutionRequest,
};
use crate::registry;
use crate::types::{
    limits,
    time::{duration, timestamp},
};
use crate::visibility::{Refused, attributes_of, check_given};
use crate::wire::outputs;

/// A record whose namespace is not known waits for so long before all are read again.
const CATCH_UP_RETRY_AFTER: std::time::Duration = std::time::Duration::from_millis(500);

/// What is kept of a key for a rejection, where key and value don't fit into a command. Bytes.
const KEY_MAX: usize = 64 * 1024;
/// The identity of a request's sender, in histories.
const IDENTITY: &str = "millrace-requests";

/// Why a record is refused: the code of a gRPC status, and the reason.
pub type Refusal = (&'static str, String);

pub fn invalid(reason: String) -> Refusal {
    ("INVALID_ARGUMENT", reason)
}

/// Why a record yields no request.
pub enum Unread {
    Refused(Refusal),
    /// Not now: the record could not be decoded yet. Nothing is known of it, so nothing is refused.
    NotNow(registry::Error),
}

impl From<Refusal> for Unread {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// The command that a record requests. Fails only if the schema registry does not return what the record is.
pub fn command(node: &Arc<Node>, feed: &Feed, stored: &Stored, source: Source) -> Result<Command, registry::Error> {
    let request_id = format!("{}/{}", source.name, stored.offset);
    // A subscribed topic's headers are its producers' own: no answer is sent.
    let (reply_to, request) = match &feed.subscription {
        Some(subscription) => (None, subscription.request(node, feed, stored)),
        None => match request::reply_to(node, &stored.record) {
            Ok(reply_to) => (reply_to, request::parse(node, &stored.record)),
            Err(refusal) => (None, Err(refusal.into())),
        },
    };
    let request = match request {
        Ok(request) => Ok(request),
        Err(Unread::Refused(refusal)) => Err(refusal),
        Err(Unread::NotNow(error)) => return Err(error),
    };
    let parsed = request.and_then(|request| parse(node, request, &request_id));
    let (namespace, entity, body) = match parsed {
        Ok(parsed) => parsed,
        Err((code, reason)) => {
            let reject = Body::RejectRequest(RejectRequest { code: code.to_owned(), reason });
            (Namespace::default(), EntityId::workflow("", ""), reject)
        }
    };
    // The record is attached for its rejection.
    let Record { key, value, .. } = stored.record.clone();
    let mut command = Command {
        namespace_id: namespace.id,
        namespace: namespace.name,
        kind: entity.kind as u32,
        id: entity.id.to_string(),
        seed_high: node.random(),
        seed_low: node.random(),
        sent_ms: node.clock_ms(),
        retention_s: namespace.retention_ms / 1000,
        body: Some(body),
        source: Some(Source { reply_to, key, value: value.unwrap_or_default(), ..source }),
        ..Command::default()
    };
    let size = |command: &Command| command.encoded_len() + command.id.len() + 256;
    if size(&command) <= RECORD_BYTES_MAX {
        return Ok(command);
    }
    if let Some(source) = &mut command.source {
        source.value = Bytes::new();
        source.key.truncate(KEY_MAX);
    }
    let bytes = size(&command);
    if bytes <= RECORD_BYTES_MAX {
        return Ok(command);
    }
    let reason = format!("the record comes to {bytes} bytes as a command, and the limit is {RECORD_BYTES_MAX}");
    let reject = Body::RejectRequest(RejectRequest { code: "INVALID_ARGUMENT".into(), reason });
    Ok(Command {
        kind: 0,
        namespace_id: String::new(),
        namespace: String::new(),
        id: String::new(),
        body: Some(reject),
        ..command
    })
}

type Parsed = (Namespace, EntityId, Body);

fn parse(node: &Arc<Node>, request: events::Request, request_id: &str) -> Result<Parsed, Refusal> {
    let kind = request.request.ok_or_else(|| invalid("the request names nothing to do".into()))?;
    check_lengths(&kind).map_err(invalid)?;
    let name = match &kind {
        Kind::Start(r) => &r.namespace,
        Kind::Signal(r) => &r.namespace,
        Kind::SignalWithStart(r) => r.start.as_ref().map_or("", |start| &start.namespace),
        Kind::Cancel(r) => &r.namespace,
        Kind::Terminate(r) => &r.namespace,
        Kind::CompleteActivity(r) => &r.namespace,
        Kind::FailActivity(r) => &r.namespace,
        Kind::HeartbeatActivity(r) => &r.namespace,
        Kind::CancelActivity(r) => &r.namespace,
        Kind::Update(r) => &r.namespace,
        Kind::Reset(r) => &r.namespace,
        Kind::Pause(r) => &r.namespace,
        Kind::Unpause(r) => &r.namespace,
        Kind::TriggerSchedule(r) => &r.namespace,
        Kind::PauseSchedule(r) => &r.namespace,
        Kind::UnpauseSchedule(r) => &r.namespace,
        Kind::BackfillSchedule(r) => &r.namespace,
    };
    let token = match &kind {
        Kind::CompleteActivity(r) => token(&r.task_token)?,
        Kind::FailActivity(r) => token(&r.task_token)?,
        Kind::HeartbeatActivity(r) => token(&r.task_token)?,
        Kind::CancelActivity(r) => token(&r.task_token)?,
        _ => None,
    };
    let given = name;
    let name = if name.is_empty() { "default" } else { name };
    let known = || match &token {
        Some(token) => {
            node.shared.namespaces.by_id(&token.namespace_id).filter(|of| given.is_empty() || of.name == *given)
        }
        None => node.shared.namespaces.by_name(name),
    };
    let namespace = known().or_else(|| {
        catch_up_with_control(node);
        known()
    });
    let namespace = namespace.ok_or_else(|| match &token {
        Some(_) => invalid("task_token is of another namespace, or of one that is not there".into()),
        None => ("NOT_FOUND", format!("Namespace {name} is not found.")),
    })?;
    let of_token = token.as_ref().and_then(EntityId::of_token);
    let (id, mut body) = body(kind, token, &namespace, request_id).map_err(invalid)?;
    let entity = of_token.unwrap_or_else(|| match body {
        Body::PatchSchedule(_) => EntityId::schedule(&namespace.id, &id),
        _ => EntityId::workflow(&namespace.id, &id),
    });
    if let Some(given) = search_attributes(&mut body) {
        let mut checked = check_given(given, &namespace.name, &attributes_of(&namespace));
        if let Err(Refused::Unknown(_)) = checked {
            catch_up_with_control(node);
            let namespace = node.shared.namespaces.by_id(&namespace.id).unwrap_or_else(|| namespace.clone());
            checked = check_given(given, &namespace.name, &attributes_of(&namespace));
        }
        checked.map_err(|refused| invalid(refused.to_string()))?;
    }
    Ok(((*namespace).clone(), entity, body))
}

/// Reads other nodes' latest changes of namespaces: what is refused is refused for good.
fn catch_up_with_control(node: &Node) {
    while let Err(error) = node.peers.catch_up_with_control() {
        tracing::warn!("a record waits until all namespaces are known: {error}");
        std::thread::sleep(CATCH_UP_RETRY_AFTER);
    }
}

/// What a workflow is to be started with.
fn search_attributes(body: &mut Body) -> Option<&mut SearchAttributes> {
    let request = match body {
        Body::StartWorkflow(start) => start.request.as_mut(),
        Body::SignalWithStartWorkflow(both) => both.start.as_mut(),
        _ => None,
    };
    request?.search_attributes.as_mut()
}

/// The limits that a caller by gRPC meets.
fn check_lengths(kind: &Kind) -> Result<(), String> {
    let ids = |fields: &[(&str, &String)]| {
        let long = fields.iter().find(|(_, value)| limits::is_too_long(value));
        let too_long = |name| format!("{name} exceeds length limit of {} bytes.", limits::ID_LENGTH_MAX);
        long.map_or(Ok(()), |(name, _)| Err(too_long(name)))
    };
    let start = |r: &events::Start| {
        let (workflow, kind, queue) = (&r.workflow_id, &r.workflow_type, &r.task_queue);
        limits::users_queue_problem(queue).map_or(Ok(()), Err)?;
        ids(&[("workflow_id", workflow), ("workflow_type", kind), ("task_queue", queue), ("request_id", &r.request_id)])
    };
    match kind {
        Kind::Start(r) => start(r),
        Kind::Signal(r) => {
            ids(&[("workflow_id", &r.workflow_id), ("signal_name", &r.signal_name), ("request_id", &r.request_id)])
        }
        Kind::SignalWithStart(r) => {
            ids(&[("signal_name", &r.signal_name)]).and_then(|()| r.start.as_ref().map_or(Ok(()), start))
        }
        Kind::Update(r) => {
            ids(&[("workflow_id", &r.workflow_id), ("update_name", &r.update_name), ("update_id", &r.update_id)])
        }
        Kind::Cancel(r) => {
            ids(&[("workflow_id", &r.workflow_id), ("request_id", &r.request_id), ("reason", &r.reason)])
        }
        Kind::Reset(r) => ids(&[("workflow_id", &r.workflow_id), ("request_id", &r.request_id), ("reason", &r.reason)]),
        Kind::Pause(r) => ids(&[("workflow_id", &r.workflow_id), ("request_id", &r.request_id), ("reason", &r.reason)]),
        Kind::Unpause(r) => {
            ids(&[("workflow_id", &r.workflow_id), ("request_id", &r.request_id), ("reason", &r.reason)])
        }
        Kind::Terminate(r) => ids(&[("workflow_id", &r.workflow_id), ("reason", &r.reason)]),
        Kind::TriggerSchedule(r) => ids(&[("schedule_id", &r.schedule_id), ("request_id", &r.request_id)]),
        Kind::BackfillSchedule(r) => ids(&[("schedule_id", &r.schedule_id), ("request_id", &r.request_id)]),
        Kind::PauseSchedule(r) => {
            ids(&[("schedule_id", &r.schedule_id), ("request_id", &r.request_id), ("reason", &r.reason)])
        }
        Kind::UnpauseSchedule(r) => {
            ids(&[("schedule_id", &r.schedule_id), ("request_id", &r.request_id), ("reason", &r.reason)])
        }
        Kind::CompleteActivity(r) => ids(&[("workflow_id", &r.workflow_id), ("identity", &r.identity)]),
        Kind::FailActivity(r) => {
            ids(&[("workflow_id", &r.workflow_id), ("identity", &r.identity), ("type", &r.r#type)])
        }
        Kind::HeartbeatActivity(r) => ids(&[("workflow_id", &r.workflow_id), ("identity", &r.identity)]),
        Kind::CancelActivity(r) => ids(&[("workflow_id", &r.workflow_id), ("identity", &r.identity)]),
    }
}

fn token(text: &str) -> Result<Option<TaskToken>, Refusal> {
    if text.is_empty() {
        return Ok(None);
    }
    let token = outputs::token_bytes(text).and_then(|bytes| TaskToken::decode(&bytes[..]).ok());
    let is_whole =
        |token: &TaskToken| !token.id.is_empty() && !token.run_id.is_empty() && EntityId::of_token(token).is_some();
    let token = token.filter(is_whole);
    token.map(Some).ok_or_else(|| invalid("task_token is not one that Millrace has given out".into()))
}

/// The workflow that an answer goes to, and the activity in it.
fn activity(
    token: Option<TaskToken>,
    workflow_id: String,
    run_id: String,
    activity_id: String,
) -> (String, Option<ActivityRef>) {
    match token {
        Some(token) => (token.id.clone(), Some(ActivityRef { token: Some(token), ..ActivityRef::default() })),
        None => (workflow_id, Some(ActivityRef { token: None, run_id, activity_id })),
    }
}

/// The notes of a schedule that is paused or unpaused for no reason that is given.
const NO_REASON: &str = "(no reason provided)";

fn patch_schedule(namespace: String, schedule_id: String, request_id: String, patch: SchedulePatch) -> (String, Body) {
    let request = PatchScheduleRequest {
        namespace,
        schedule_id: schedule_id.clone(),
        patch: Some(patch),
        identity: IDENTITY.into(),
        request_id,
    };
    (schedule_id, Body::PatchSchedule(PatchSchedule { request: Some(request) }))
}

fn overlap(name: &str) -> ScheduleOverlapPolicy {
    let name = format!("SCHEDULE_OVERLAP_POLICY_{}", name.to_uppercase());
    ScheduleOverlapPolicy::from_str_name(&name).unwrap_or(ScheduleOverlapPolicy::Unspecified)
}

fn body(
    kind: Kind,
    token: Option<TaskToken>,
    namespace: &Namespace,
    request_id: &str,
) -> Result<(String, Body), String> {
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
                input: payloads("input", signal.input)?,
                identity: IDENTITY.into(),
                request_id: or_own(&signal.request_id),
                ..SignalWorkflowExecutionRequest::default()
            };
            (signal.workflow_id, Body::SignalWorkflow(SignalWorkflow { request: Some(request), external: None }))
        }
        Kind::Update(update) => {
            let meta = Meta { update_id: or_own(&update.update_id), identity: IDENTITY.into() };
            let args = payloads("input", update.input)?;
            let input = Input { name: update.update_name, args, ..Input::default() };
            let request = UpdateWorkflowExecutionRequest {
                namespace,
                workflow_execution: execution(&update.workflow_id, &update.run_id),
                request: Some(update::v1::Request { meta: Some(meta), input: Some(input), ..Default::default() }),
                ..UpdateWorkflowExecutionRequest::default()
            };
            (update.workflow_id, Body::UpdateWorkflow(UpdateWorkflow { request: Some(request) }))
        }
        Kind::Reset(reset) => {
            let point = match reset.to.as_str() {
                _ if reset.event_id != 0 => ResetPoint::Event,
                "first_workflow_task" => ResetPoint::FirstWorkflowTask,
                _ => ResetPoint::LastWorkflowTask,
            };
            let excluded = [
                (reset.exclude_signals, ResetReapplyExcludeType::Signal),
                (reset.exclude_updates, ResetReapplyExcludeType::Update),
            ];
            let request = ResetWorkflowExecutionRequest {
                namespace,
                workflow_execution: execution(&reset.workflow_id, &reset.run_id),
                workflow_task_finish_event_id: reset.event_id,
                reset_reapply_exclude_types: excluded
                    .iter()
                    .filter(|(is_excluded, _)| *is_excluded)
                    .map(|(_, kind)| *kind as i32)
                    .collect(),
                request_id: or_own(&reset.request_id),
                identity: IDENTITY.into(),
                reason: reset.reason,
                ..ResetWorkflowExecutionRequest::default()
            };
            let body = Body::ResetWorkflow(ResetWorkflow { request: Some(request), point: point as i32 });
            (reset.workflow_id, body)
        }
        Kind::Pause(pause) => {
            let request = PauseWorkflowExecutionRequest {
                namespace,
                workflow_id: pause.workflow_id.clone(),
                run_id: pause.run_id,
                identity: IDENTITY.into(),
                reason: pause.reason,
                request_id: or_own(&pause.request_id),
            };
            (pause.workflow_id, Body::PauseWorkflow(PauseWorkflow { request: Some(request) }))
        }
        Kind::Unpause(unpause) => {
            let request = UnpauseWorkflowExecutionRequest {
                namespace,
                workflow_id: unpause.workflow_id.clone(),
                run_id: unpause.run_id,
                identity: IDENTITY.into(),
                reason: unpause.reason,
                request_id: or_own(&unpause.request_id),
            };
            (unpause.workflow_id, Body::UnpauseWorkflow(UnpauseWorkflow { request: Some(request) }))
        }
        Kind::TriggerSchedule(r) => {
            let overlap_policy = overlap(&r.overlap) as i32;
            let trigger_immediately = Some(TriggerImmediatelyRequest { overlap_policy, scheduled_time: None });
            let patch = SchedulePatch { trigger_immediately, ..SchedulePatch::default() };
            patch_schedule(namespace, r.schedule_id, or_own(&r.request_id), patch)
        }
        Kind::PauseSchedule(r) => {
            let pause = if r.reason.is_empty() { NO_REASON.into() } else { r.reason };
            let patch = SchedulePatch { pause, ..SchedulePatch::default() };
            patch_schedule(namespace, r.schedule_id, or_own(&r.request_id), patch)
        }
        Kind::UnpauseSchedule(r) => {
            let unpause = if r.reason.is_empty() { NO_REASON.into() } else { r.reason };
            let patch = SchedulePatch { unpause, ..SchedulePatch::default() };
            patch_schedule(namespace, r.schedule_id, or_own(&r.request_id), patch)
        }
        Kind::BackfillSchedule(r) => {
            let backfill_request = vec![BackfillRequest {
                start_time: Some(timestamp(r.start_time_ms)),
                end_time: Some(timestamp(r.end_time_ms)),
                overlap_policy: overlap(&r.overlap) as i32,
            }];
            let patch = SchedulePatch { backfill_request, ..SchedulePatch::default() };
            patch_schedule(namespace, r.schedule_id, or_own(&r.request_id), patch)
        }
        Kind::SignalWithStart(both) => {
            let start = both.start.unwrap_or_default();
            let request = start_request(&start, namespace, or_own(&start.request_id))?;
            let signal = SignalWithStartWorkflow {
                start: Some(request),
                signal_name: both.signal_name,
                signal_input: payloads("signal_input", both.signal_input)?,
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
                Body::RequestCancelWorkflow(RequestCancelWorkflow {
                    request: Some(request),
                    ..RequestCancelWorkflow::default()
                }),
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
        Kind::CompleteActivity(done) => {
            let (workflow_id, activity) = activity(token, done.workflow_id, done.run_id, done.activity_id);
            let (identity, result) = (or_millrace(done.identity), payloads("result", done.result)?);
            (workflow_id, Body::CompleteActivity(CompleteActivity { activity, result, identity, worker_version: None }))
        }
        Kind::FailActivity(failed) => {
            let details = payloads("details", failed.details)?;
            let failure = Failure {
                message: failed.message,
                failure_info: Some(FailureInfo::ApplicationFailureInfo(ApplicationFailureInfo {
                    r#type: failed.r#type,
                    non_retryable: failed.non_retryable,
                    details,
                    next_retry_delay: (failed.next_retry_delay_ms > 0).then(|| duration(failed.next_retry_delay_ms)),
                    ..ApplicationFailureInfo::default()
                })),
                ..Failure::default()
            };
            check_size("message and details", failure.encoded_len())?;
            let (workflow_id, activity) = activity(token, failed.workflow_id, failed.run_id, failed.activity_id);
            let (failure, identity) = (Some(failure), or_millrace(failed.identity));
            (workflow_id, Body::FailActivity(FailActivity { activity, failure, identity, ..FailActivity::default() }))
        }
        Kind::HeartbeatActivity(beat) => {
            let (workflow_id, activity) = activity(token, beat.workflow_id, beat.run_id, beat.activity_id);
            let (identity, details) = (or_millrace(beat.identity), payloads("details", beat.details)?);
            (workflow_id, Body::HeartbeatActivity(HeartbeatActivity { activity, details, identity }))
        }
        Kind::CancelActivity(ended) => {
            let (workflow_id, activity) = activity(token, ended.workflow_id, ended.run_id, ended.activity_id);
            let (identity, details) = (or_millrace(ended.identity), payloads("details", ended.details)?);
            (workflow_id, Body::CancelActivity(CancelActivity { activity, details, identity }))
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
    let memo = Memo { fields: start.memo.clone() };
    check_size("memo", memo.encoded_len())?;
    let search_attributes = SearchAttributes { indexed_fields: start.search_attributes.clone() };
    if let Some(problem) = crate::engine::workflow::search_attributes_problem(&search_attributes) {
        return Err(problem);
    }
    Ok(StartWorkflowExecutionRequest {
        namespace,
        workflow_id: start.workflow_id.clone(),
        workflow_type: Some(WorkflowType { name: start.workflow_type.clone() }),
        task_queue: Some(TaskQueue { name: start.task_queue.clone(), kind: 1, ..TaskQueue::default() }),
        input: payloads("input", start.input.clone())?,
        workflow_execution_timeout: timeout(start.execution_timeout_ms),
        workflow_run_timeout: timeout(start.run_timeout_ms),
        workflow_task_timeout: timeout(start.task_timeout_ms),
        identity: IDENTITY.into(),
        request_id,
        workflow_id_reuse_policy: reuse as i32,
        workflow_id_conflict_policy: conflict as i32,
        cron_schedule: start.cron_schedule.clone(),
        memo: (!memo.fields.is_empty()).then_some(memo),
        search_attributes: (!search_attributes.indexed_fields.is_empty()).then_some(search_attributes),
        ..StartWorkflowExecutionRequest::default()
    })
}

fn or_millrace(identity: String) -> String {
    if identity.is_empty() { IDENTITY.to_owned() } else { identity }
}

fn check_size(field: &str, size: usize) -> Result<(), String> {
    let limit = limits::BLOB_SIZE_MAX;
    if size > limit { Err(format!("{field} has {size} bytes, and the limit is {limit}")) } else { Ok(()) }
}

fn payloads(field: &str, payloads: Vec<Payload>) -> Result<Option<Payloads>, String> {
    let payloads = Payloads { payloads };
    check_size(field, payloads.encoded_len())?;
    Ok((!payloads.payloads.is_empty()).then_some(payloads))
}
