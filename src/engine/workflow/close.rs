//! How a run ends: its close event, and what its parent, its children and its successor receive.

use super::Work;
use super::deadlines::TimeoutType;
use super::event::Event;
use super::history::event;
use super::new_run::{self, NewRun};
use super::start_workflow::callback_to_parent;
use super::workflow_task;
use crate::engine::attempts;
use crate::engine::cron;
use crate::engine::failure;
use crate::engine::retry;
use crate::engine::version::UPDATES;
use crate::proto::commands::{
    Callback, Closed, RequestCancelWorkflow, TerminateWorkflow, command::Body, notify::Outcome,
};
use crate::proto::state;
use crate::proto::temporal::common::v1::{Link, Payloads, WorkflowExecution, WorkflowType};
use crate::proto::temporal::enums::v1::{ContinueAsNewInitiator, EventType, ParentClosePolicy, RetryState};
use crate::proto::temporal::failure::v1::Failure;
use crate::proto::temporal::history::v1::{
    HistoryEvent, WorkflowExecutionTerminatedEventAttributes, WorkflowExecutionTimedOutEventAttributes,
    history_event::Attributes,
};
use crate::proto::temporal::workflowservice::v1::{
    RequestCancelWorkflowExecutionRequest, TerminateWorkflowExecutionRequest,
};
use crate::types::time::duration;

/// An end of a run: the close event, without what only the decision knows.
pub struct Close(HistoryEvent);

impl Close {
    pub fn new(event_type: EventType, attributes: Attributes) -> Self {
        Self(event(event_type, attributes))
    }

    pub fn of(close: HistoryEvent) -> Self {
        Self(close)
    }

    pub fn terminated(reason: &str, details: Option<Payloads>, identity: &str) -> Self {
        let attributes =
            WorkflowExecutionTerminatedEventAttributes { reason: reason.into(), details, identity: identity.into() };
        Self::new(
            EventType::WorkflowExecutionTerminated,
            Attributes::WorkflowExecutionTerminatedEventAttributes(attributes),
        )
    }

    /// With links to what caused it.
    pub fn linked(mut self, links: &[Link]) -> Self {
        self.0.links = links.to_vec();
        self
    }
}

/// Who is not notified of the end of a run.
struct Quiet {
    parent: bool,
    children: bool,
}

/// Why the next run of a chain begins.
struct Successor {
    initiator: ContinueAsNewInitiator,
    delay_ms: i64,
    attempt: i32,
}

impl Work {
    /// Ends the run for good: notifies the parent and the children.
    pub fn close(&mut self, close: Close) {
        self.close_as(close.0, None);
    }

    /// Ends the run as another begins again from a point of a history. `keeps_starter`: its starter waits for that one. `keeps_children`:
    /// so do its children, which that one may have.
    pub fn close_for_reset(&mut self, reason: &str, keeps_starter: bool, keeps_children: bool) {
        let close = Close::terminated(reason, None, "history-resetter");
        self.close_quietly(close.0, None, Quiet { parent: keeps_starter, children: keeps_children });
    }

    /// Ends the run with a result. A cron workflow goes on.
    pub fn close_completed(&mut self, mut close: HistoryEvent, result: Option<Payloads>) {
        match self.next_by_cron() {
            None => self.close_as(close, None),
            Some(next) => {
                let run_id = self.new_run_id();
                if let Some(Attributes::WorkflowExecutionCompletedEventAttributes(a)) = &mut close.attributes {
                    a.new_execution_run_id.clone_from(&run_id);
                }
                self.go_on(close, run_id, next, result, None);
            }
        }
    }

    /// Ends the run with a failure, or by a timeout. The retry policy, then cron, may make it go on.
    pub fn close_failed(&mut self, mut close: HistoryEvent, failure: &Failure) {
        let head = self.head();
        let retry = match &head.retry_policy {
            None => Err(RetryState::RetryPolicyNotSet),
            Some(policy) => retry::run_delay(policy, head.attempt, self.now, head.execution_expiration_ms, failure),
        };
        let (state, next) = match retry {
            Ok(delay_ms) => {
                let next = Successor { initiator: ContinueAsNewInitiator::Retry, delay_ms, attempt: head.attempt + 1 };
                (RetryState::InProgress, Some(next))
            }
            Err(state) => (state, self.next_by_cron()),
        };
        let run_id = next.as_ref().map(|_| self.new_run_id()).unwrap_or_default();
        match &mut close.attributes {
            Some(Attributes::WorkflowExecutionFailedEventAttributes(a)) => {
                a.retry_state = state as i32;
                a.new_execution_run_id.clone_from(&run_id);
            }
            Some(Attributes::WorkflowExecutionTimedOutEventAttributes(a)) => {
                a.retry_state = state as i32;
                a.new_execution_run_id.clone_from(&run_id);
            }
            _ => {}
        }
        match next {
            None => self.close_as(close, None),
            Some(next) => {
                // Temporal: a retry of a failed run does not get the last result; one that timed out does, and cron's next run.
                let failed = close.event_type == EventType::WorkflowExecutionFailed as i32;
                let gets_result = !(failed && matches!(next.initiator, ContinueAsNewInitiator::Retry));
                let restart = self.run().start.restart.as_ref().filter(|_| gets_result);
                let last_result = restart.and_then(|restart| restart.last_completion_result.clone());
                self.go_on(close, run_id, next, last_result, Some(failure.clone()));
            }
        }
    }

    /// Ends the run because its time is up.
    pub fn close_timed_out(&mut self) {
        let attributes = WorkflowExecutionTimedOutEventAttributes::default();
        let close = event(
            EventType::WorkflowExecutionTimedOut,
            Attributes::WorkflowExecutionTimedOutEventAttributes(attributes),
        );
        let failure = failure::of_timeout("workflow timeout".into(), TimeoutType::StartToClose);
        let head = self.head();
        if head.execution_expiration_ms > 0 && self.now >= head.execution_expiration_ms {
            let mut close = close;
            if let Some(Attributes::WorkflowExecutionTimedOutEventAttributes(a)) = &mut close.attributes {
                a.retry_state = RetryState::Timeout as i32;
            }
            self.close_as(close, None);
        } else {
            self.close_failed(close, &failure);
        }
    }

    /// Ends the run and begins `new` in its place. The parent is notified of the last run of the chain only.
    pub fn continue_as_new(&mut self, close: HistoryEvent, new: NewRun) {
        self.close_as(close, Some(new));
    }

    fn go_on(
        &mut self,
        close: HistoryEvent,
        run_id: String,
        next: Successor,
        last_result: Option<Payloads>,
        failure: Option<Failure>,
    ) {
        let state::Start { links, restart: Some(restart), .. } = (*self.run().start).clone() else {
            return self.close_as(close, None);
        };
        let mut started = self.successor(&restart);
        started.initiator = next.initiator as i32;
        started.attempt = next.attempt;
        started.last_completion_result = last_result;
        started.continued_failure = failure;
        let properties = &self.run().properties;
        started.memo.clone_from(&properties.memo);
        started.search_attributes.clone_from(&properties.search_attributes);
        started.first_workflow_task_backoff = Some(duration(self.successor_delay_ms(next.delay_ms)));
        new_run::defaults(&mut started, &self.entity.id.clone(), &run_id);
        let callback = self.head().callback.clone();
        let create_request_id = self.ids.uuid();
        let new = NewRun { create_request_id, run_id, started, user_metadata: None, links, callback };
        self.close_as(close, Some(new));
    }

    fn next_by_cron(&self) -> Option<Successor> {
        let head = self.head();
        let delay_ms = cron::delay_ms(&head.cron_schedule, head.execution_ms, self.now)?;
        Some(Successor { initiator: ContinueAsNewInitiator::CronSchedule, delay_ms, attempt: 1 })
    }

    fn close_as(&mut self, close: HistoryEvent, new: Option<NewRun>) {
        let quiet = Quiet { parent: new.is_some(), children: false };
        self.close_quietly(close, new, quiet);
    }

    fn close_quietly(&mut self, mut close: HistoryEvent, new: Option<NewRun>, quiet: Quiet) {
        // What waited for a task that will never complete belongs to this run's history, before its end.
        workflow_task::force_close(self);
        self.flush_buffer();
        let updates = self.take_unanswered_updates(new.is_some());
        close.event_id = self.head().next_event_id;
        close.event_time = Some(crate::types::time::timestamp(self.now));
        if !quiet.parent {
            self.notify_starter(&close);
        }
        if !quiet.children {
            self.apply_parent_close_policies();
        }
        self.abandon_activities();
        self.record(close);
        let delete_ms = self.now.saturating_add(self.retention_s.saturating_mul(1000));
        self.emit(Event::DeletionScheduled { delete_ms });
        if let Some(new) = new {
            self.next_run();
            self.begin_run(new);
            let has_updates = !updates.is_empty();
            self.take_over_updates(updates);
            self.schedule_workflow_task();
            if has_updates {
                self.schedule_speculative_workflow_task();
            }
        }
    }

    /// What is pending as the run closes is still described, as by Temporal's server, and is not due any more.
    fn abandon_activities(&mut self) {
        let pending =
            if self.version >= UPDATES { self.run().activities.keys().copied().collect() } else { Vec::new() };
        for scheduled_event_id in pending {
            self.emit(Event::Attempt { scheduled_event_id, event: attempts::Event::Abandoned });
        }
    }

    /// Notifies the parent, or the other starter of the chain of runs, of how its last one has ended.
    fn notify_starter(&mut self, close: &HistoryEvent) {
        let head = self.head();
        let parent = head.parent.as_ref().filter(|parent| !parent.workflow_id.is_empty()).map(|parent| {
            let initiated_event_id = head.parent_initiated_event_id;
            callback_to_parent(&head.parent_namespace_id, &head.parent_namespace, parent, initiated_event_id)
        });
        let Some(callback) = parent.or_else(|| head.callback.clone()) else { return };
        self.notify_closed(&callback, close);
    }

    /// Notifies the starter that the present run has closed.
    pub fn notify_closed(&mut self, callback: &Callback, close: &HistoryEvent) {
        let head = self.head();
        let closed = Closed {
            close: Some(close.clone()),
            workflow_type: Some(WorkflowType { name: head.workflow_type.clone() }),
            // What waits for it may be a parent that was reset, and does not know that it has started.
            first_run_id: if self.version >= UPDATES { head.first_run_id.clone() } else { String::new() },
            ..Closed::default()
        };
        let run_id = head.run_id.clone();
        self.notify(callback, &run_id, Outcome::Closed(closed));
    }

    /// Applies the parent close policies, whether or not another run takes this one's place. A child that is still being started
    /// receives it too: its start was sent before.
    fn apply_parent_close_policies(&mut self) {
        let this = WorkflowExecution { workflow_id: self.entity.id.to_string(), run_id: self.head().run_id.clone() };
        let children: Vec<_> =
            self.run().children.iter().map(|(initiated, child)| (*initiated, child.clone())).collect();
        for (parent_initiated_event_id, child) in children {
            // The child may have gone on as another run: the first run's id names its chain.
            let execution = Some(WorkflowExecution { workflow_id: child.workflow_id.clone(), run_id: String::new() });
            let first_execution_run_id = child.run_id.clone();
            let body = match child.parent_close_policy() {
                ParentClosePolicy::Abandon => continue,
                ParentClosePolicy::RequestCancel => Body::RequestCancelWorkflow(RequestCancelWorkflow {
                    request: Some(RequestCancelWorkflowExecutionRequest {
                        namespace: child.namespace.clone(),
                        workflow_execution: execution,
                        first_execution_run_id,
                        identity: "history-service".into(),
                        request_id: self.ids.uuid(),
                        ..RequestCancelWorkflowExecutionRequest::default()
                    }),
                    external: None,
                    parent: Some(this.clone()),
                    parent_initiated_event_id,
                }),
                ParentClosePolicy::Unspecified | ParentClosePolicy::Terminate => {
                    Body::TerminateWorkflow(TerminateWorkflow {
                        request: Some(TerminateWorkflowExecutionRequest {
                            namespace: child.namespace.clone(),
                            workflow_execution: execution,
                            first_execution_run_id,
                            identity: "history-service".into(),
                            reason: "by parent close policy".into(),
                            ..TerminateWorkflowExecutionRequest::default()
                        }),
                        child_workflow_only: true,
                        parent: Some(this.clone()),
                        parent_initiated_event_id,
                    })
                }
            };
            self.send_to_workflow(&child.namespace_id, &child.namespace, &child.workflow_id, body);
        }
    }
}
