//! How a run begins: by a start, by its predecessor's continue-as-new, by a retry, or by cron.

use super::event::{Created, Event};
use super::history::event;
use super::{Work, queues::normal_queue};
use crate::engine::nothing;
use crate::proto::commands::Callback;
use crate::proto::state;
use crate::proto::temporal::common::v1::{Link, WorkflowExecution};
use crate::proto::temporal::enums::v1::{EventType, WorkflowExecutionStatus as Status};
use crate::proto::temporal::history::v1::{
    HistoryEvent, WorkflowExecutionStartedEventAttributes as Started, history_event::Attributes,
};
use crate::proto::temporal::sdk::v1::UserMetadata;
use crate::proto::temporal::workflow::v1::ResetPoints;
use crate::types::{
    limits,
    time::{duration, duration_ms, millis_of, timestamp},
};

/// What a new run needs beside its started event.
#[derive(Default)]
pub struct NewRun {
    pub run_id: String,
    pub started: Started,
    pub create_request_id: String,
    pub user_metadata: Option<UserMetadata>,
    pub links: Vec<Link>,
    /// Of the starter of the chain of runs, unless it was a parent.
    pub callback: Option<Callback>,
}

impl Work {
    /// Begins a run. Its first workflow task is scheduled by the caller.
    pub fn begin_run(&mut self, new: NewRun) {
        let created = self.created(&new);
        let NewRun { mut started, user_metadata, links, .. } = new;
        if created.head.execution_expiration_ms > 0 {
            started.workflow_execution_expiration_time = Some(timestamp(created.head.execution_expiration_ms));
        }
        self.emit(Event::RunCreated(Box::new(created)));
        let mut first: HistoryEvent = event(
            EventType::WorkflowExecutionStarted,
            Attributes::WorkflowExecutionStartedEventAttributes(started.into()),
        );
        first.user_metadata = user_metadata;
        first.links = links;
        self.record(first);
    }

    /// What a run is that begins now.
    pub fn created(&self, new: &NewRun) -> Created {
        let NewRun { run_id, started, create_request_id, user_metadata, links, callback } = new;
        let now = self.now;
        let backoff_ms = duration_ms(started.first_workflow_task_backoff.as_ref());
        let execution_timeout_ms = duration_ms(started.workflow_execution_timeout.as_ref());
        let run_timeout_ms = duration_ms(started.workflow_run_timeout.as_ref());
        let execution_expiration_ms = match &started.workflow_execution_expiration_time {
            Some(time) => millis_of(time),
            None if execution_timeout_ms > 0 => now.saturating_add(backoff_ms).saturating_add(execution_timeout_ms),
            None => 0,
        };
        let restartable = started.retry_policy.is_some() || !started.cron_schedule.is_empty();
        let root = started.root_workflow_execution.clone().filter(|root| !root.workflow_id.is_empty());
        // A run without a parent is its own root, which its history omits.
        let root = root
            .unwrap_or_else(|| WorkflowExecution { workflow_id: self.entity.id.to_string(), run_id: run_id.clone() });
        let head = state::Run {
            namespace_id: self.entity.namespace_id.to_string(),
            namespace: self.namespace.clone(),
            workflow_id: self.entity.id.to_string(),
            first_run_id: started.first_execution_run_id.clone(),
            original_run_id: started.original_execution_run_id.clone(),
            workflow_type: started.workflow_type.clone().unwrap_or_default().name,
            task_queue: started.task_queue.clone().unwrap_or_default().name,
            status: Status::Running as i32,
            start_ms: now,
            execution_ms: now.saturating_add(backoff_ms),
            first_task_delayed: backoff_ms > 0,
            next_event_id: 1,
            execution_timeout_ms,
            execution_timeout_given: started.workflow_execution_timeout.is_some(),
            run_timeout_ms,
            workflow_task_timeout_ms: duration_ms(started.workflow_task_timeout.as_ref()),
            execution_expiration_ms,
            run_expiration_ms: if run_timeout_ms > 0 {
                now.saturating_add(backoff_ms).saturating_add(run_timeout_ms)
            } else {
                0
            },
            retry_policy: started.retry_policy.clone(),
            attempt: started.attempt,
            cron_schedule: started.cron_schedule.clone(),
            parent_namespace_id: started.parent_workflow_namespace_id.clone(),
            parent_namespace: started.parent_workflow_namespace.clone(),
            parent: started.parent_workflow_execution.clone(),
            parent_initiated_event_id: started.parent_initiated_event_id,
            root: Some(root),
            workflow_task_attempt: 1,
            create_request_id: create_request_id.clone(),
            priority: started.priority.clone(),
            reset_points: started.prev_auto_reset_points.clone(),
            callback: callback.clone(),
            run_id: run_id.clone(),
            ..state::Run::default()
        };
        let properties =
            state::Properties { memo: started.memo.clone(), search_attributes: started.search_attributes.clone() };
        let restart = restartable.then(|| Started {
            memo: None,
            search_attributes: None,
            prev_auto_reset_points: None,
            ..started.clone()
        });
        let start = state::Start { user_metadata: user_metadata.clone(), restart, links: links.clone() };
        Created { head, properties, start }
    }

    /// How long the first task of the run that goes on from this one is delayed, at least by what was requested: a chain of runs
    /// that do nothing but go on must not spin. Counts from when this one's first task was due. Milliseconds.
    pub fn successor_delay_ms(&self, asked: i64) -> i64 {
        let lasted = self.now - self.head().execution_ms;
        if lasted.saturating_add(asked) < limits::RUN_INTERVAL_MS_MIN {
            limits::RUN_INTERVAL_MS_MIN - lasted
        } else {
            asked
        }
    }

    /// The started event of a run that goes on from the present one. The caller sets what differs.
    pub fn successor(&self, of: &Started) -> Started {
        let head = self.head();
        Started {
            continued_execution_run_id: head.run_id.clone(),
            first_execution_run_id: head.first_run_id.clone(),
            root_workflow_execution: head.root.clone().filter(|root| root.run_id != head.run_id),
            prev_auto_reset_points: self.inherited_reset_points(),
            parent_workflow_namespace: head.parent_namespace.clone(),
            parent_workflow_namespace_id: head.parent_namespace_id.clone(),
            parent_workflow_execution: head.parent.clone(),
            parent_initiated_event_id: head.parent_initiated_event_id,
            workflow_execution_expiration_time: (head.execution_expiration_ms > 0)
                .then(|| timestamp(head.execution_expiration_ms)),
            workflow_execution_timeout: head.execution_timeout_given.then(|| duration(head.execution_timeout_ms)),
            eager_execution_accepted: false,
            identity: String::new(),
            ..of.clone()
        }
    }

    /// The run's reset points, for the run that goes on: each lasts as long as the history of the run that it is in.
    fn inherited_reset_points(&self) -> Option<ResetPoints> {
        let head = self.head();
        let mut inherited = head.reset_points.clone()?;
        inherited
            .points
            .retain(|point| point.expire_time.as_ref().is_none_or(|expires| millis_of(expires) >= self.now));
        for point in inherited.points.iter_mut().filter(|point| point.run_id == head.run_id) {
            point.expire_time = Some(timestamp(self.now.saturating_add(self.retention_s.saturating_mul(1000))));
        }
        Some(inherited)
    }
}

/// How long a run may take, by what was requested for it and for its chain: it can't outlast that. Milliseconds; 0: no limit.
pub fn run_timeout_ms(asked: i64, execution_ms: i64) -> i64 {
    if execution_ms > 0 && (asked == 0 || asked > execution_ms) { execution_ms } else { asked }
}

/// How long a workflow task may take, by what was requested (0: nothing) and how long its run may (0: no limit). Milliseconds.
pub fn task_timeout_ms(asked: i64, run_ms: i64) -> i64 {
    let asked = if asked == 0 { limits::WORKFLOW_TASK_TIMEOUT_MS_DEFAULT } else { asked };
    let longest = limits::WORKFLOW_TASK_TIMEOUT_MS_MAX;
    asked.min(if run_ms > 0 { run_ms.min(longest) } else { longest })
}

/// Fills what every started event carries.
pub fn defaults(started: &mut Started, workflow_id: &str, run_id: &str) {
    workflow_id.clone_into(&mut started.workflow_id);
    run_id.clone_into(&mut started.original_execution_run_id);
    if started.first_execution_run_id.is_empty() {
        run_id.clone_into(&mut started.first_execution_run_id);
    }
    started.attempt = started.attempt.max(1);
    started.memo = nothing::without_in_memo(started.memo.take());
    started.search_attributes = nothing::without_in_attributes(started.search_attributes.take());
    started.first_workflow_task_backoff.get_or_insert_with(|| duration(0));
    let run_ms = duration_ms(started.workflow_run_timeout.as_ref());
    let task_ms = task_timeout_ms(duration_ms(started.workflow_task_timeout.as_ref()), run_ms);
    started.workflow_task_timeout = Some(duration(task_ms));
    if let Some(queue) = &mut started.task_queue {
        *queue = normal_queue(&queue.name);
    }
}
