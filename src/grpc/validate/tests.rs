//! What is refused, in the words of Temporal's server: as the source of 1.32 has them, which answers INVALID_ARGUMENT to each line
//! of the tables.

use super::*;
use crate::proto::temporal::common::v1::{Callback, Link, RetryPolicy, WorkflowType, link};
use crate::proto::temporal::query::v1::WorkflowQuery;
use crate::proto::temporal::workflow::v1::{PostResetOperation, WorkflowExecutionOptions};

const RUN_ID: &str = "01920000-0000-7000-8000-000000000000";

fn long() -> String {
    "x".repeat(1001)
}

fn queue(name: &str) -> Option<TaskQueue> {
    Some(TaskQueue { name: name.into(), ..TaskQueue::default() })
}

fn seconds(seconds: i64) -> Option<Duration> {
    Some(Duration { seconds, nanos: 0 })
}

fn good_start() -> StartWorkflowExecutionRequest {
    StartWorkflowExecutionRequest {
        namespace: "default".into(),
        workflow_id: "w".into(),
        workflow_type: Some(WorkflowType { name: "T".into() }),
        task_queue: queue("q"),
        request_id: "r".into(),
        ..StartWorkflowExecutionRequest::default()
    }
}

fn link_to(workflow_id: &str) -> Link {
    let to = link::WorkflowEvent {
        namespace: "default".into(),
        workflow_id: workflow_id.into(),
        run_id: RUN_ID.into(),
        reference: None,
    };
    Link { variant: Some(link::Variant::WorkflowEvent(to)) }
}

fn large() -> Option<Payloads> {
    let payload = crate::proto::temporal::common::v1::Payload {
        data: vec![0; limits::BLOB_SIZE_MAX].into(),
        ..Default::default()
    };
    Some(Payloads { payloads: vec![payload] })
}

fn message(outcome: Result<impl Sized, Status>) -> String {
    match outcome {
        Ok(_) => String::new(),
        Err(status) => {
            assert_eq!(status.code(), tonic::Code::InvalidArgument, "{status:?}");
            status.message().to_owned()
        }
    }
}

type Change<T> = (fn(&mut T), &'static str);

const REJECT_WITH_TERMINATE: &str = "Invalid WorkflowIDReusePolicy: WORKFLOW_ID_REUSE_POLICY_REJECT_DUPLICATE cannot be used together with WorkflowIdConflictPolicy WORKFLOW_ID_CONFLICT_POLICY_TERMINATE_EXISTING";
const TERMINATE_WITH_CONFLICT: &str = "Invalid WorkflowIDReusePolicy: WORKFLOW_ID_REUSE_POLICY_TERMINATE_IF_RUNNING cannot be used together with a WorkflowIDConflictPolicy";

/// What a start, and a signal-with-start in the same words, are refused for.
const STARTS: &[Change<StartWorkflowExecutionRequest>] = &[
    (|_| (), ""),
    (|r| r.workflow_id.clear(), "WorkflowId is not set on request."),
    (|r| r.workflow_id = long(), "WorkflowId exceeds maximum allowed length (1001/1000)"),
    (|r| r.task_queue = None, "taskQueue is not set"),
    (|r| r.task_queue = queue(""), "missing task queue name"),
    (|r| r.task_queue = queue(&long()), "taskQueue length exceeds limit"),
    (|r| r.task_queue = queue("/_sys/q"), "task queue name cannot start with reserved prefix /_sys/"),
    (
        |r| r.task_queue = queue("temporal-sys-per-ns-tq"),
        "cannot use internal per-namespace task queue:temporal-sys-per-ns-tq",
    ),
    (
        |r| r.workflow_execution_timeout = seconds(-1),
        "An invalid WorkflowExecutionTimeoutSeconds is set on request. cause: negative duration",
    ),
    (
        |r| r.workflow_run_timeout = seconds(-1),
        "An invalid WorkflowRunTimeoutSeconds is set on request. cause: negative duration",
    ),
    (
        |r| r.workflow_task_timeout = Some(Duration { seconds: 1, nanos: -1 }),
        "An invalid WorkflowTaskTimeoutSeconds is set on request. cause: duration has seconds and nanos with different signs",
    ),
    (
        |r| r.workflow_start_delay = seconds(-1),
        "An invalid WorkflowStartDelaySeconds is set on request. cause: negative duration",
    ),
    (
        |r| (r.cron_schedule, r.workflow_start_delay) = ("* * * * *".into(), seconds(1)),
        "CronSchedule and WorkflowStartDelay may not be used together.",
    ),
    (
        |r| (r.cron_schedule, r.workflow_start_delay) = ("* * * * *".into(), seconds(0)),
        "CronSchedule and WorkflowStartDelay may not be used together.",
    ),
    (
        |r| r.retry_policy = Some(RetryPolicy { maximum_attempts: -1, ..RetryPolicy::default() }),
        "MaximumAttempts cannot be negative on retry policy.",
    ),
    (
        |r| r.retry_policy = Some(RetryPolicy { backoff_coefficient: 0.5, ..RetryPolicy::default() }),
        "BackoffCoefficient cannot be less than 1 on retry policy.",
    ),
    (|r| (r.workflow_id_reuse_policy, r.workflow_id_conflict_policy) = (3, 3), REJECT_WITH_TERMINATE),
    (|r| (r.workflow_id_reuse_policy, r.workflow_id_conflict_policy) = (4, 2), TERMINATE_WITH_CONFLICT),
    (|r| r.workflow_id_reuse_policy = 4, ""),
    (|r| r.priority = Some(Priority { priority_key: -1, ..Priority::default() }), "priority key can't be negative"),
    (
        |r| r.priority = Some(Priority { fairness_key: "x".repeat(65), ..Priority::default() }),
        "fairness key length exceeds limit",
    ),
    (|r| r.priority = Some(Priority { fairness_weight: -1.0, ..Priority::default() }), "must be greater than zero"),
    (|r| r.links = vec![link_to("w"); 11], "cannot attach more than 10 links per request, got 11"),
    (|r| r.links = vec![link_to("")], "workflow event link must not have an empty workflow ID field"),
    (|r| r.links = vec![Link::default()], "unsupported link variant"),
    (|r| r.links = vec![link_to("w"); 10], ""),
    (|r| r.input = large(), "Blob data size exceeds limit."),
];

#[test]
fn starts_are_refused_as_temporals_server_does() {
    let only_starts: &[Change<StartWorkflowExecutionRequest>] = &[
        (|r| r.workflow_type = None, "WorkflowType is not set on request."),
        (|r| r.workflow_type = Some(WorkflowType { name: long() }), "WorkflowType length exceeds limit."),
        (|r| r.request_id = long(), "RequestId length exceeds limit."),
        (
            |r| {
                r.on_conflict_options =
                    Some(OnConflictOptions { attach_completion_callbacks: true, ..OnConflictOptions::default() });
            },
            "attaching request ID is required for attaching completion callbacks",
        ),
        (
            |r| r.completion_callbacks = vec![Callback { links: vec![link_to(""); 1], ..Callback::default() }],
            "workflow event link must not have an empty workflow ID field",
        ),
    ];
    for (change, expected) in STARTS.iter().chain(only_starts) {
        let mut request = good_start();
        change(&mut request);
        assert_eq!(message(start(&mut request)), *expected);
    }
}

#[test]
fn signals_with_a_start_are_refused_as_temporals_server_does() {
    let only_these: &[Change<StartWorkflowExecutionRequest>] = &[
        (|r| r.workflow_type = None, "workflow type not set"),
        (
            |r| r.workflow_type = Some(WorkflowType { name: long() }),
            "workflow type name exceeds maximum allowed length (1001/1000)",
        ),
        (|r| r.request_id = long(), "Request ID exceeds maximum allowed length (1001/1000)"),
        (
            |r| r.workflow_id_conflict_policy = 1,
            "Invalid WorkflowIDConflictPolicy: WORKFLOW_ID_CONFLICT_POLICY_FAIL is not supported for this operation.",
        ),
    ];
    for (change, expected) in STARTS.iter().chain(only_these) {
        let mut request = good_start();
        change(&mut request);
        assert_eq!(message(signal_with_start("s", None, &mut request)), *expected);
    }
    assert_eq!(message(signal_with_start("", None, &mut good_start())), "signal not set");
    let too_long = "signal name exceeds maximum allowed length (1001/1000)";
    assert_eq!(message(signal_with_start(&long(), None, &mut good_start())), too_long);
    assert_eq!(message(signal_with_start("s", large().as_ref(), &mut good_start())), "Blob data size exceeds limit.");
}

#[test]
fn a_workflow_has_no_time_of_its_own() {
    let given =
        || StartWorkflowExecutionRequest { time_skipping_config: Some(TimeSkippingConfig::default()), ..good_start() };
    for refused in [start(&mut given()), signal_with_start("s", None, &mut given())] {
        let status = refused.expect_err("it is refused");
        let expected = "The Time-Skipping feature is not enabled for namespace.";
        assert_eq!((status.code(), status.message()), (tonic::Code::Unimplemented, expected));
    }
}

#[test]
fn what_cannot_be_counted_with_is_cut_to_a_hundred_years() {
    let mut request = good_start();
    request.workflow_run_timeout = seconds(i64::MAX);
    start(&mut request).expect("it is accepted");
    assert_eq!(request.workflow_run_timeout, seconds(3_153_600_000));
}

/// What every request that names a workflow is refused for.
const EXECUTIONS: &[(Option<(&str, &str)>, &str)] = &[
    (None, "Execution is not set on request."),
    (Some(("", "")), "WorkflowId is not set on request."),
    (Some(("w", "no-uuid")), "Invalid RunId."),
    (Some(("w", "01920000-0000-7000-8000-00000000000g")), "Invalid RunId."),
    (Some(("w", RUN_ID)), ""),
    (Some(("w", "")), ""),
];

#[test]
fn requests_to_a_workflow_are_refused_as_temporals_server_does() {
    for (named, expected) in EXECUTIONS {
        let named = named
            .map(|(workflow_id, run_id)| WorkflowExecution { workflow_id: workflow_id.into(), run_id: run_id.into() });
        let signaled = SignalWorkflowExecutionRequest {
            workflow_execution: named.clone(),
            signal_name: "s".into(),
            ..Default::default()
        };
        let canceled =
            RequestCancelWorkflowExecutionRequest { workflow_execution: named.clone(), ..Default::default() };
        let terminated = TerminateWorkflowExecutionRequest { workflow_execution: named.clone(), ..Default::default() };
        let query_type = "q".to_owned();
        let asked = QueryWorkflowRequest {
            execution: named.clone(),
            query: Some(WorkflowQuery { query_type, ..Default::default() }),
            ..Default::default()
        };
        let again = ResetWorkflowExecutionRequest {
            workflow_execution: named.clone(),
            request_id: "r".into(),
            ..Default::default()
        };
        assert_eq!(message(execution(named.as_ref())), *expected);
        assert_eq!(message(reset(&again)), *expected);
        assert_eq!(message(signal(&signaled)), *expected);
        assert_eq!(message(request_cancel(&canceled)), *expected);
        assert_eq!(message(terminate(&terminated)), *expected);
        assert_eq!(message(query(&asked)), *expected);
    }
}

#[test]
fn signals_and_queries_are_refused_as_temporals_server_does() {
    let workflow_execution = Some(WorkflowExecution { workflow_id: "w".into(), run_id: String::new() });
    let signals: &[Change<SignalWorkflowExecutionRequest>] = &[
        (|r| r.signal_name.clear(), "SignalName is not set on request."),
        (|r| r.signal_name = long(), "SignalName length exceeds limit."),
        (|r| r.request_id = long(), "RequestId length exceeds limit."),
        (|r| r.links = vec![Link::default()], "unsupported link variant"),
        (|r| r.input = large(), "Blob data size exceeds limit."),
    ];
    for (change, expected) in signals {
        let mut request = SignalWorkflowExecutionRequest {
            workflow_execution: workflow_execution.clone(),
            signal_name: "s".into(),
            ..Default::default()
        };
        change(&mut request);
        assert_eq!(message(signal(&request)), *expected);
    }
    let queries: &[Change<QueryWorkflowRequest>] = &[
        (|r| r.query = None, "WorkflowQuery is not set on request."),
        (|r| r.query = Some(WorkflowQuery::default()), "QueryType is not set on request."),
        (
            |r| {
                r.query =
                    Some(WorkflowQuery { query_type: "q".into(), query_args: large(), ..WorkflowQuery::default() });
            },
            "Blob data size exceeds limit.",
        ),
    ];
    for (change, expected) in queries {
        let mut request = QueryWorkflowRequest { execution: workflow_execution.clone(), ..Default::default() };
        change(&mut request);
        assert_eq!(message(query(&request)), *expected);
    }
}

#[test]
fn resets_are_refused_as_temporals_server_does() {
    let then = |variant| vec![PostResetOperation { variant }];
    let signal = Some(post_reset_operation::Variant::SignalWorkflow(Default::default()));
    let options = WorkflowExecutionOptions {
        time_skipping_config: Some(Default::default()),
        ..WorkflowExecutionOptions::default()
    };
    let skipping =
        Some(post_reset_operation::Variant::UpdateWorkflowOptions(post_reset_operation::UpdateWorkflowOptions {
            workflow_execution_options: Some(options),
            update_mask: None,
        }));
    let refused: &[(ResetWorkflowExecutionRequest, tonic::Code, &str)] = &[
        (
            ResetWorkflowExecutionRequest { request_id: String::new(), ..good_reset() },
            tonic::Code::InvalidArgument,
            "RequestId is not set on request.",
        ),
        (
            ResetWorkflowExecutionRequest { request_id: long(), ..good_reset() },
            tonic::Code::InvalidArgument,
            "RequestId length exceeds limit.",
        ),
        (
            ResetWorkflowExecutionRequest { reset_reapply_type: 9, ..good_reset() },
            tonic::Code::Internal,
            "unknown reset reapply type: 9",
        ),
        (
            ResetWorkflowExecutionRequest { post_reset_operations: then(signal), ..good_reset() },
            tonic::Code::InvalidArgument,
            "unsupported post reset operation: *workflow.PostResetOperation_SignalWorkflow_",
        ),
        (
            ResetWorkflowExecutionRequest { post_reset_operations: then(None), ..good_reset() },
            tonic::Code::InvalidArgument,
            "unsupported post reset operation: <nil>",
        ),
        (
            ResetWorkflowExecutionRequest { post_reset_operations: then(skipping), ..good_reset() },
            tonic::Code::Unimplemented,
            "The Time-Skipping feature is not enabled for namespace.",
        ),
    ];
    for (request, code, expected) in refused {
        let status = reset(request).expect_err(expected);
        assert_eq!((status.code(), status.message()), (*code, *expected));
    }
}

fn good_reset() -> ResetWorkflowExecutionRequest {
    ResetWorkflowExecutionRequest {
        workflow_execution: Some(WorkflowExecution { workflow_id: "w".into(), run_id: String::new() }),
        request_id: "r".into(),
        ..ResetWorkflowExecutionRequest::default()
    }
}

#[test]
fn pauses_and_changes_of_options_are_refused_as_temporals_server_does() {
    assert_eq!(message(pause("w", "", ["", "", ""])), "");
    assert_eq!(message(pause("w", "", [&long(), &long(), ""])), "reason is too long.");
    assert_eq!(message(pause("w", "", ["", &long(), &long()])), "request id is too long.");
    assert_eq!(message(pause("w", "", ["", "", &long()])), "identity is too long.");
    assert_eq!(message(pause("", "", ["", "", ""])), "Can't load workflow execution.  WorkflowId not set.");
    assert_eq!(message(pause("w", "no-uuid", ["", "", ""])), "RunId is not valid UUID.");

    let changes: &[Change<UpdateWorkflowExecutionOptionsRequest>] = &[
        (|r| r.workflow_execution = None, "WorkflowId is not set on request."),
        (|r| r.update_mask = None, "UpdateMask is required"),
        (|r| r.workflow_execution_options = None, "WorkflowExecutionOptions is required"),
        (
            |r| r.update_mask = mask("x"),
            "error parsing UpdateMask: proto: invalid path \"x\" for message \"temporal.api.workflow.v1.WorkflowExecutionOptions\"",
        ),
        (
            |r| r.update_mask = mask("priority.nonsense"),
            "error parsing UpdateMask: proto: invalid path \"priority.nonsense\" for message \"temporal.api.workflow.v1.WorkflowExecutionOptions\"",
        ),
        (|_| {}, ""),
    ];
    for (change, expected) in changes {
        let mut request = UpdateWorkflowExecutionOptionsRequest {
            workflow_execution: Some(WorkflowExecution { workflow_id: "w".into(), run_id: String::new() }),
            workflow_execution_options: Some(WorkflowExecutionOptions::default()),
            update_mask: mask("priority"),
            ..UpdateWorkflowExecutionOptionsRequest::default()
        };
        change(&mut request);
        assert_eq!(message(update_options(&request)), *expected);
    }
}

fn mask(path: &str) -> Option<prost_types::FieldMask> {
    Some(prost_types::FieldMask { paths: vec![path.to_owned()] })
}
