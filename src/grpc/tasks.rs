//! Tasks, as polls are answered with them, and what started or completed a workflow's task.

use bytes::Bytes;
use prost::Message as _;

use super::history::page_token;
use crate::proto::tasks::workflow_task::{Kind, Started};
use crate::proto::tasks::{ActivityTask, WorkflowTask};
use crate::proto::temporal::common::v1::{WorkflowExecution, WorkflowType};
use crate::proto::temporal::history::v1::History;
use crate::proto::temporal::taskqueue::v1::TaskQueue;
use crate::proto::temporal::workflowservice::v1::{PollActivityTaskQueueResponse, PollWorkflowTaskQueueResponse};
use crate::types::time::{timestamp, timestamp_or_none};

impl From<WorkflowTask> for PollWorkflowTaskQueueResponse {
    fn from(task: WorkflowTask) -> Self {
        let token = task.token.unwrap_or_default();
        let next_page_token = match task.next_event_id {
            0 => Bytes::new(),
            next => page_token(&token.run_id, next, task.end_event_id, task.transient_events),
        };
        let response = Self {
            task_token: token.encode_to_vec().into(),
            workflow_type: Some(WorkflowType { name: task.workflow_type }),
            previous_started_event_id: task.previous_started_event_id,
            history: Some(History { events: task.events }),
            next_page_token,
            workflow_execution_task_queue: Some(TaskQueue { name: task.task_queue, kind: 1, ..TaskQueue::default() }),
            ..Self::default()
        };
        let response = match task.kind {
            Some(Kind::Started(Started { scheduled_ms, queries, messages })) => Self {
                started_event_id: token.started_event_id,
                attempt: token.attempt,
                scheduled_time: Some(timestamp(scheduled_ms)),
                started_time: Some(timestamp(token.started_ms)),
                queries,
                messages,
                ..response
            },
            // No event, as nothing was started: SDKs take another number as the event that the history must reach.
            Some(Kind::Query(query)) => Self { started_event_id: 0, attempt: 1, query: Some(query), ..response },
            None => response,
        };
        let execution = WorkflowExecution { workflow_id: token.id, run_id: token.run_id };
        Self { workflow_execution: Some(execution), ..response }
    }
}

impl From<ActivityTask> for PollActivityTaskQueueResponse {
    fn from(task: ActivityTask) -> Self {
        let (token, scheduled) = (task.token.unwrap_or_default(), task.scheduled.unwrap_or_default());
        Self {
            task_token: token.encode_to_vec().into(),
            workflow_namespace: task.namespace,
            workflow_type: Some(WorkflowType { name: task.workflow_type }),
            workflow_execution: Some(WorkflowExecution { workflow_id: token.id, run_id: token.run_id }),
            activity_type: Some(scheduled.activity_type.unwrap_or_default()),
            activity_id: token.activity_id,
            header: scheduled.header,
            input: scheduled.input,
            heartbeat_details: task.heartbeat_details,
            scheduled_time: timestamp_or_none(task.scheduled_ms),
            current_attempt_scheduled_time: timestamp_or_none(task.attempt_scheduled_ms),
            started_time: timestamp_or_none(token.started_ms),
            attempt: token.attempt,
            schedule_to_close_timeout: scheduled.schedule_to_close_timeout,
            start_to_close_timeout: scheduled.start_to_close_timeout,
            heartbeat_timeout: scheduled.heartbeat_timeout,
            retry_policy: scheduled.retry_policy,
            priority: task.priority,
            ..Self::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::commands::TaskToken;
    use crate::proto::temporal::query::v1::WorkflowQuery;

    fn task(transient_events: bool, next_event_id: i64, kind: Kind) -> PollWorkflowTaskQueueResponse {
        let token = TaskToken {
            id: "id".into(),
            run_id: "run".into(),
            scheduled_event_id: 5,
            started_event_id: 6,
            attempt: 1,
            started_ms: 2000,
            ..TaskToken::default()
        };
        let end_event_id = 9;
        let (token, kind) = (Some(token), Some(kind));
        WorkflowTask { token, next_event_id, end_event_id, kind, transient_events, ..WorkflowTask::default() }.into()
    }

    #[test]
    fn a_started_task_says_what_was_started_and_where_its_history_goes_on() {
        let started = || Kind::Started(Started { scheduled_ms: 1000, ..Started::default() });
        let whole = task(false, 0, started());
        assert_eq!((whole.started_event_id, whole.attempt), (6, 1));
        assert_eq!((whole.scheduled_time, whole.started_time), (Some(timestamp(1000)), Some(timestamp(2000))));
        assert!(whole.next_page_token.is_empty());
        let execution = whole.workflow_execution.expect("it is named");
        assert_eq!((execution.workflow_id.as_str(), execution.run_id.as_str()), ("id", "run"));
        assert_eq!(TaskToken::decode(whole.task_token).expect("a token").scheduled_event_id, 5);
        assert_eq!(task(false, 3, started()).next_page_token, page_token("run", 3, 9, false));
        assert_eq!(
            task(true, 3, started()).next_page_token,
            page_token("run", 3, 9, true),
            "its last events are transient"
        );
    }

    #[test]
    fn a_query_started_nothing() {
        let query = WorkflowQuery { query_type: "state".into(), ..WorkflowQuery::default() };
        let asked = task(false, 3, Kind::Query(query.clone()));
        assert_eq!((asked.started_event_id, asked.attempt), (0, 1));
        assert_eq!((asked.scheduled_time, asked.started_time, asked.query), (None, None, Some(query)));
        assert_eq!(asked.next_page_token, page_token("run", 3, 9, false));
    }
}
