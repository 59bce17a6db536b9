//! Clients, which call the server, and producers, which write to `requests`.

use millrace::log::{Record, Topic};
use millrace::proto::temporal::common::v1::{WorkflowExecution, WorkflowType};
use millrace::proto::temporal::enums::v1::{ResetReapplyExcludeType, UpdateWorkflowExecutionLifecycleStage as Stage};
use millrace::proto::temporal::query::v1::WorkflowQuery;
use millrace::proto::temporal::update::v1::{Input, Meta, Request as UpdateRequest, WaitPolicy};
use millrace::proto::temporal::workflowservice::v1::*;
use millrace::types::time::duration;

use crate::broker::{Broker, REPLIES};
use crate::calls::Call;
use crate::random::Rng;
use crate::workers::{NAMESPACE, QUEUE, WORKFLOWS, child_id, payloads, queue, workflow_id};

/// A client's next request. `known`: the runs of a workflow that any caller knows, the oldest first.
pub fn call(rng: &Rng, known: impl Fn(&str) -> Vec<String>) -> Call {
    let number = rng.below(WORKFLOWS);
    let workflow_id = if rng.per_mille(150) { child_id(number) } else { workflow_id(number) };
    let namespace = NAMESPACE.to_owned();
    let request_id = format!("r{}", rng.next());
    let execution = Some(WorkflowExecution { workflow_id: workflow_id.clone(), run_id: String::new() });
    // Some requests are for one run, which may have ended or gone on, and some for the chain that began with it.
    let known = known(&workflow_id);
    let run_id = if known.is_empty() || rng.per_mille(600) { String::new() } else { rng.pick(&known).clone() };
    let first_execution_run_id = if rng.per_mille(300) { run_id.clone() } else { String::new() };
    let target = Some(WorkflowExecution { workflow_id: workflow_id.clone(), run_id });
    match rng.below(32) {
        0..=5 => Call::Start(start(rng, workflow_id, request_id)),
        6..=9 => Call::Signal(SignalWorkflowExecutionRequest {
            namespace,
            workflow_execution: target,
            signal_name: "from-client".into(),
            input: Some(payloads(request_id.clone())),
            // Without an id, only its own attempts identify it.
            request_id: if rng.per_mille(300) { String::new() } else { request_id },
            ..Default::default()
        }),
        10 => Call::SignalWithStart(SignalWithStartWorkflowExecutionRequest {
            namespace,
            workflow_id,
            workflow_type: Some(WorkflowType { name: "Type".into() }),
            task_queue: Some(queue()),
            signal_name: "from-client".into(),
            signal_input: Some(payloads(request_id.clone())),
            identity: request_id.clone(),
            request_id,
            ..Default::default()
        }),
        11 => Call::RequestCancel(RequestCancelWorkflowExecutionRequest {
            namespace,
            workflow_execution: target,
            first_execution_run_id,
            identity: request_id.clone(),
            request_id,
            ..Default::default()
        }),
        12 => Call::Terminate(TerminateWorkflowExecutionRequest {
            workflow_execution: target,
            first_execution_run_id,
            ..terminate(workflow_id, request_id)
        }),
        13..=18 => Call::Describe(DescribeWorkflowExecutionRequest { namespace, execution }),
        19..=21 => Call::History(GetWorkflowExecutionHistoryRequest { namespace, execution, ..Default::default() }),
        22..=25 => Call::Update(update(rng, target, request_id)),
        26 => Call::Reset(reset(rng, target, request_id)),
        27 => Call::Pause(PauseWorkflowExecutionRequest { namespace, workflow_id, request_id, ..Default::default() }),
        28..=29 => {
            Call::Unpause(UnpauseWorkflowExecutionRequest { namespace, workflow_id, request_id, ..Default::default() })
        }
        _ => Call::Query(QueryWorkflowRequest {
            namespace,
            execution: target,
            query: Some(WorkflowQuery { query_type: "how".into(), ..WorkflowQuery::default() }),
            ..Default::default()
        }),
    }
}

fn start(rng: &Rng, workflow_id: String, request_id: String) -> StartWorkflowExecutionRequest {
    let time_out = |most: i64| rng.per_mille(100).then(|| duration(rng.between(500, most)));
    StartWorkflowExecutionRequest {
        namespace: NAMESPACE.into(),
        workflow_id,
        workflow_type: Some(WorkflowType { name: "Type".into() }),
        task_queue: Some(queue()),
        workflow_run_timeout: time_out(10_000),
        workflow_execution_timeout: time_out(20_000),
        workflow_task_timeout: Some(duration(rng.between(1000, 5000))),
        workflow_id_conflict_policy: *rng.pick(&[0, 0, 0, 0, 0, 2, 3]),
        identity: request_id.clone(),
        request_id,
        ..Default::default()
    }
}

/// To the first workflow task, or to wherever else one may have been. The caller is distinguished by the reason.
fn reset(rng: &Rng, target: Option<WorkflowExecution>, request_id: String) -> ResetWorkflowExecutionRequest {
    let without_signals = vec![ResetReapplyExcludeType::Signal as i32];
    ResetWorkflowExecutionRequest {
        namespace: NAMESPACE.into(),
        workflow_execution: target,
        reason: request_id.clone(),
        request_id,
        workflow_task_finish_event_id: *rng.pick(&[3, 4, 4, 4, 5, 6, 7, 8, 9, 10, 12, 15]),
        reset_reapply_exclude_types: if rng.per_mille(200) { without_signals } else { Vec::new() },
        ..Default::default()
    }
}

/// Its id is in no other.
fn update(rng: &Rng, target: Option<WorkflowExecution>, update_id: String) -> UpdateWorkflowExecutionRequest {
    let wanted = *rng.pick(&[Stage::Unspecified, Stage::Admitted, Stage::Accepted, Stage::Completed]);
    let meta = Some(Meta { update_id, identity: "client".into() });
    let input = Some(Input { name: "handler".into(), ..Input::default() });
    UpdateWorkflowExecutionRequest {
        namespace: NAMESPACE.into(),
        workflow_execution: target,
        wait_policy: Some(WaitPolicy { lifecycle_stage: wanted as i32 }),
        request: Some(UpdateRequest { meta, input, ..UpdateRequest::default() }),
        ..Default::default()
    }
}

/// Ends a workflow. The caller is distinguished by the identity.
pub fn terminate(workflow_id: String, identity: String) -> TerminateWorkflowExecutionRequest {
    TerminateWorkflowExecutionRequest {
        namespace: NAMESPACE.into(),
        workflow_execution: Some(WorkflowExecution { workflow_id, run_id: String::new() }),
        reason: "enough".into(),
        identity,
        ..Default::default()
    }
}

/// A record of `requests`, as a producer wrote it.
pub struct Produced {
    /// How often the topic had been created again.
    pub generation: u32,
    pub partition: u32,
    pub offset: i64,
    pub workflow_id: String,
    /// What its signal carries; none, if the record is a start, or nothing.
    pub signal: Option<String>,
    /// Whether it requested an answer, under this name.
    pub correlation_id: Option<String>,
}

/// Writes a record to `requests`: records of a workflow keep to a partition, and so their order.
pub fn produce(rng: &Rng, broker: &Broker) -> Produced {
    let number = rng.below(WORKFLOWS);
    let (workflow_id, partition) = (workflow_id(number), number as u32 % broker.partitions);
    let unique = format!("p{}", rng.next());
    let mut signal = None;
    let value = match rng.below(10) {
        0 => format!("garbage {unique}"),
        1..=3 => format!(
            r#"{{"start": {{"workflow_id": "{workflow_id}", "workflow_type": "Type", "task_queue": "{QUEUE}", "request_id": "{unique}"}}}}"#
        ),
        _ => {
            let value = format!(
                r#"{{"signal": {{"workflow_id": "{workflow_id}", "signal_name": "from-topic", "input": ["{unique}"]}}}}"#
            );
            signal = Some(format!("\"{unique}\""));
            value
        }
    };
    let correlation_id = rng.per_mille(400).then(|| unique.clone());
    let headers = correlation_id.iter().flat_map(|id| {
        [("reply-topic".to_owned(), REPLIES.name().into()), ("correlation-id".to_owned(), id.clone().into())]
    });
    let record = Record { key: workflow_id.clone().into(), value: Some(value.into()), headers: headers.collect() };
    let generation = broker.generation(Topic::Requests);
    let appended = broker.append(Topic::Requests, partition, vec![record]);
    Produced { generation, partition, offset: appended[0].offset, workflow_id, signal, correlation_id }
}
