//! What each history event means for the state of its run.

use std::sync::Arc;

use super::state::{BUFFERED_EVENT_ID, Run, part};
use super::updates;
use crate::engine::machine::Machine;
use crate::engine::nothing;
use crate::engine::sub_key::SubKey;
use crate::proto::state;
use crate::proto::temporal::enums::v1::{EventType, WorkflowExecutionStatus as Status};
use crate::proto::temporal::history::v1::{self as history, HistoryEvent, history_event::Attributes};
use crate::proto::temporal::workflow::v1::ResetPointInfo;
use crate::types::{
    limits,
    time::{duration_ms, millis_of},
};

/// An event without an id: the decision gives it one when it joins the history.
pub fn event(event_type: EventType, attributes: Attributes) -> HistoryEvent {
    HistoryEvent { event_type: event_type as i32, attributes: Some(attributes), ..HistoryEvent::default() }
}

/// Whether a buffered event is the firing of this timer.
pub fn fires(event: &HistoryEvent, timer: &str) -> bool {
    matches!(&event.attributes, Some(Attributes::TimerFiredEventAttributes(fired)) if fired.timer_id == timer)
}

/// The status that a close event gives its run; none if it closes nothing.
pub fn close_status(event: &HistoryEvent) -> Option<Status> {
    Some(match event.event_type() {
        EventType::WorkflowExecutionCompleted => Status::Completed,
        EventType::WorkflowExecutionFailed => Status::Failed,
        EventType::WorkflowExecutionCanceled => Status::Canceled,
        EventType::WorkflowExecutionTerminated => Status::Terminated,
        EventType::WorkflowExecutionTimedOut => Status::TimedOut,
        EventType::WorkflowExecutionContinuedAsNew => Status::ContinuedAsNew,
        _ => return None,
    })
}

impl Run {
    /// Applies an event. A buffered event is applied twice, when it arrives and when it joins the history: all
    /// but counters must bear that.
    pub(super) fn apply_attributes(&mut self, event: &HistoryEvent, buffered: bool) {
        use Attributes as A;
        let id = if buffered { BUFFERED_EVENT_ID } else { event.event_id };
        if let Some(status) = close_status(event) {
            return self.apply_close(event, status);
        }
        match event.attributes.as_ref() {
            Some(A::ActivityTaskScheduledEventAttributes(scheduled)) => self.apply_activity_scheduled(event, scheduled),
            Some(A::ActivityTaskStartedEventAttributes(started)) => {
                self.change_activity(started.scheduled_event_id, |activity| activity.started_event_id = id)
            }
            Some(A::ActivityTaskCompletedEventAttributes(closed)) => self.remove_activity(closed.scheduled_event_id),
            Some(A::ActivityTaskFailedEventAttributes(closed)) => self.remove_activity(closed.scheduled_event_id),
            Some(A::ActivityTaskTimedOutEventAttributes(closed)) => self.remove_activity(closed.scheduled_event_id),
            Some(A::ActivityTaskCanceledEventAttributes(closed)) => self.remove_activity(closed.scheduled_event_id),
            Some(A::ActivityTaskCancelRequestedEventAttributes(requested)) => {
                self.change_activity(requested.scheduled_event_id, |activity| {
                    activity.cancel_requested = true;
                    activity.cancel_requested_event_id = id;
                })
            }
            Some(A::TimerStartedEventAttributes(started)) => {
                let due_ms = event
                    .event_time
                    .as_ref()
                    .map_or(0, millis_of)
                    .saturating_add(duration_ms(started.start_to_fire_timeout.as_ref()));
                let timer = state::Timer { timer_id: started.timer_id.clone(), started_event_id: id, due_ms };
                self.timers.insert(started.timer_id.clone(), Arc::new(timer));
                self.tally.changed.insert(SubKey::Named(part::TIMER, started.timer_id.clone()));
            }
            Some(A::TimerFiredEventAttributes(fired)) => self.remove_timer(&fired.timer_id, fired.started_event_id),
            Some(A::TimerCanceledEventAttributes(canceled)) => {
                self.remove_timer(&canceled.timer_id, canceled.started_event_id)
            }
            Some(A::StartChildWorkflowExecutionInitiatedEventAttributes(initiated)) => {
                self.apply_child_initiated(id, initiated)
            }
            Some(A::ChildWorkflowExecutionStartedEventAttributes(started)) => self.apply_child_started(id, started),
            Some(A::StartChildWorkflowExecutionFailedEventAttributes(a)) => self.remove_child(a.initiated_event_id),
            Some(A::ChildWorkflowExecutionCompletedEventAttributes(a)) => self.remove_child(a.initiated_event_id),
            Some(A::ChildWorkflowExecutionFailedEventAttributes(a)) => self.remove_child(a.initiated_event_id),
            Some(A::ChildWorkflowExecutionCanceledEventAttributes(a)) => self.remove_child(a.initiated_event_id),
            Some(A::ChildWorkflowExecutionTimedOutEventAttributes(a)) => self.remove_child(a.initiated_event_id),
            Some(A::ChildWorkflowExecutionTerminatedEventAttributes(a)) => self.remove_child(a.initiated_event_id),
            Some(A::RequestCancelExternalWorkflowExecutionInitiatedEventAttributes(a)) => {
                self.add_external(state::ExternalRequest {
                    initiated_event_id: id,
                    namespace_id: a.namespace_id.clone(),
                    namespace: a.namespace.clone(),
                    execution: a.workflow_execution.clone(),
                    cancel: true,
                })
            }
            Some(A::SignalExternalWorkflowExecutionInitiatedEventAttributes(a)) => {
                self.add_external(state::ExternalRequest {
                    initiated_event_id: id,
                    namespace_id: a.namespace_id.clone(),
                    namespace: a.namespace.clone(),
                    execution: a.workflow_execution.clone(),
                    cancel: false,
                })
            }
            Some(A::RequestCancelExternalWorkflowExecutionFailedEventAttributes(a)) => {
                self.remove_external(a.initiated_event_id)
            }
            Some(A::ExternalWorkflowExecutionCancelRequestedEventAttributes(a)) => {
                self.remove_external(a.initiated_event_id)
            }
            Some(A::SignalExternalWorkflowExecutionFailedEventAttributes(a)) => {
                self.remove_external(a.initiated_event_id)
            }
            Some(A::ExternalWorkflowExecutionSignaledEventAttributes(a)) => self.remove_external(a.initiated_event_id),
            Some(A::WorkflowTaskCompletedEventAttributes(completed)) => self.add_reset_point(event, completed),
            Some(A::WorkflowExecutionSignaledEventAttributes(_)) if !buffered => self.head_mut().signal_count += 1,
            Some(A::WorkflowExecutionCancelRequestedEventAttributes(_)) => self.head_mut().cancel_requested = true,
            Some(A::WorkflowExecutionOptionsUpdatedEventAttributes(a)) => {
                if !a.attached_request_id.is_empty() {
                    let seen_ms = event.event_time.as_ref().map_or(0, millis_of);
                    let request = state::RequestId { seen_ms, event_type: event.event_type, event_id: id };
                    self.note_request(&a.attached_request_id, request);
                }
                if a.versioning_override.is_some() || a.unset_versioning_override {
                    self.head_mut().versioning_override.clone_from(&a.versioning_override);
                }
                if a.priority.is_some() {
                    self.head_mut().priority.clone_from(&a.priority);
                }
            }
            Some(A::WorkflowExecutionUpdateAdmittedEventAttributes(a)) => {
                let request = a.request.clone().unwrap_or_default();
                updates::apply_admitted(self, updates::id_of(&request), &request, id);
            }
            Some(A::WorkflowExecutionUpdateAcceptedEventAttributes(a)) => {
                updates::apply_accepted(self, &a.protocol_instance_id, id);
                let request_id = a.accepted_request.as_ref().map_or("", |request| request.request_id.as_str());
                if !request_id.is_empty() {
                    let seen_ms = event.event_time.as_ref().map_or(0, millis_of);
                    let request = state::RequestId { seen_ms, event_type: event.event_type, event_id: id };
                    self.note_request(request_id, request);
                }
            }
            Some(A::WorkflowExecutionUpdateCompletedEventAttributes(a)) => {
                let id_of_update = a.meta.as_ref().map_or("", |meta| meta.update_id.as_str());
                updates::apply_completed(self, id_of_update, id)
            }
            Some(A::UpsertWorkflowSearchAttributesEventAttributes(a)) => {
                let upserted = a.search_attributes.clone().unwrap_or_default().indexed_fields;
                merge(&mut self.properties_mut().search_attributes.get_or_insert_default().indexed_fields, upserted);
            }
            Some(A::WorkflowPropertiesModifiedEventAttributes(a)) => {
                let upserted = a.upserted_memo.clone().unwrap_or_default().fields;
                merge(&mut self.properties_mut().memo.get_or_insert_default().fields, upserted);
            }
            _ => {}
        }
    }

    /// A build's first completed task is where a run can be reset to once the build proves bad.
    fn add_reset_point(&mut self, event: &HistoryEvent, completed: &history::WorkflowTaskCompletedEventAttributes) {
        let build_id = completed.worker_version.as_ref().map_or("", |version| version.build_id.as_str());
        let known =
            |point: &ResetPointInfo| point.build_id == build_id && point.binary_checksum == completed.binary_checksum;
        if self.head.reset_points.as_ref().is_some_and(|points| points.points.iter().any(known)) {
            return;
        }
        let resettable = self.children.is_empty() && self.externals.is_empty();
        let head = self.head_mut();
        let point = ResetPointInfo {
            build_id: build_id.to_owned(),
            binary_checksum: completed.binary_checksum.clone(),
            run_id: head.run_id.clone(),
            first_workflow_task_completed_id: event.event_id,
            create_time: event.event_time,
            resettable,
            ..ResetPointInfo::default()
        };
        let points = &mut head.reset_points.get_or_insert_default().points;
        points.push(point);
        let surplus = points.len().saturating_sub(limits::RESET_POINTS_MAX);
        points.drain(..surplus);
    }

    fn apply_activity_scheduled(
        &mut self,
        event: &HistoryEvent,
        scheduled: &history::ActivityTaskScheduledEventAttributes,
    ) {
        let now = event.event_time.as_ref().map_or(0, millis_of);
        let activity = state::Activity {
            scheduled_event_id: event.event_id,
            activity_id: scheduled.activity_id.clone(),
            activity_type: scheduled.activity_type.clone().unwrap_or_default().name,
            task_queue: scheduled.task_queue.clone().unwrap_or_default().name,
            scheduled_ms: now,
            attempt_scheduled_ms: now,
            schedule_to_close_ms: duration_ms(scheduled.schedule_to_close_timeout.as_ref()),
            schedule_to_start_ms: duration_ms(scheduled.schedule_to_start_timeout.as_ref()),
            start_to_close_ms: duration_ms(scheduled.start_to_close_timeout.as_ref()),
            heartbeat_ms: duration_ms(scheduled.heartbeat_timeout.as_ref()),
            retry_policy: scheduled.retry_policy.clone(),
            attempt: 1,
            priority: scheduled.priority.clone(),
            held: self.head.pause.is_some(),
            ..state::Activity::default()
        };
        self.activity_ids.insert(activity.activity_id.clone(), event.event_id);
        self.activities.insert(event.event_id, Arc::new(activity));
        self.tally.changed.insert(SubKey::Numbered(part::ACTIVITY, event.event_id));
    }

    fn apply_child_initiated(
        &mut self,
        id: i64,
        initiated: &history::StartChildWorkflowExecutionInitiatedEventAttributes,
    ) {
        let child = state::Child {
            initiated_event_id: id,
            namespace_id: initiated.namespace_id.clone(),
            namespace: initiated.namespace.clone(),
            workflow_id: initiated.workflow_id.clone(),
            workflow_type: initiated.workflow_type.clone().unwrap_or_default().name,
            parent_close_policy: initiated.parent_close_policy,
            ..state::Child::default()
        };
        self.children.insert(id, Arc::new(child));
        self.tally.changed.insert(SubKey::Numbered(part::CHILD, id));
    }

    fn apply_child_started(&mut self, id: i64, started: &history::ChildWorkflowExecutionStartedEventAttributes) {
        if let Some(child) = self.children.get_mut(&started.initiated_event_id) {
            let child = Arc::make_mut(child);
            child.started_event_id = id;
            child.run_id = started.workflow_execution.clone().unwrap_or_default().run_id;
            self.tally.changed.insert(SubKey::Numbered(part::CHILD, started.initiated_event_id));
        }
    }

    fn apply_close(&mut self, event: &HistoryEvent, status: Status) {
        use Attributes as A;
        let new_run_id = match event.attributes.as_ref() {
            Some(A::WorkflowExecutionCompletedEventAttributes(a)) => &a.new_execution_run_id,
            Some(A::WorkflowExecutionFailedEventAttributes(a)) => &a.new_execution_run_id,
            Some(A::WorkflowExecutionTimedOutEventAttributes(a)) => &a.new_execution_run_id,
            Some(A::WorkflowExecutionContinuedAsNewEventAttributes(a)) => &a.new_execution_run_id,
            _ => "",
        };
        // A request that is sent again after the end must find what became of it.
        let stays = |key: &SubKey| {
            matches!(key, SubKey::Head | SubKey::One(_) | SubKey::Named(part::REQUEST | part::UPDATE, _))
        };
        let is_abandoned = |key: &SubKey| match key {
            SubKey::Numbered(part::ACTIVITY, id) => self.activities.get(id).is_some_and(|activity| activity.abandoned),
            _ => false,
        };
        let gone: Vec<_> = self.keys().into_iter().filter(|key| !stays(key) && !is_abandoned(key)).collect();
        for key in gone {
            self.forget(&key);
            self.tally.changed.insert(key);
        }
        self.forget_restart();
        let head = self.head_mut();
        head.status = status as i32;
        head.close_ms = event.event_time.as_ref().map_or(0, millis_of);
        head.close_event_id = event.event_id;
        head.new_run_id = new_run_id.to_owned();
        head.workflow_task = None;
        head.sticky_queue.clear();
        head.first_task_delayed = false;
    }

    fn remove_timer(&mut self, timer_id: &str, started_event_id: i64) {
        // A timer of the same id may have been started since the buffered firing of this one.
        if self.timers.get(timer_id).is_some_and(|timer| timer.started_event_id == started_event_id) {
            self.timers.remove(timer_id);
            self.tally.changed.insert(SubKey::Named(part::TIMER, timer_id.to_owned()));
        }
    }

    fn remove_child(&mut self, initiated_event_id: i64) {
        if self.children.remove(&initiated_event_id).is_some() {
            self.tally.changed.insert(SubKey::Numbered(part::CHILD, initiated_event_id));
        }
    }

    fn add_external(&mut self, external: state::ExternalRequest) {
        let id = external.initiated_event_id;
        self.externals.insert(id, Arc::new(external));
        self.tally.changed.insert(SubKey::Numbered(part::EXTERNAL, id));
    }

    fn remove_external(&mut self, initiated_event_id: i64) {
        if self.externals.remove(&initiated_event_id).is_some() {
            self.tally.changed.insert(SubKey::Numbered(part::EXTERNAL, initiated_event_id));
        }
    }
}

/// Upserts fields; a payload that stands for nothing removes one.
pub(super) fn merge<P>(
    fields: &mut std::collections::BTreeMap<String, P>,
    upserted: impl IntoIterator<Item = (String, P)>,
) where
    P: std::borrow::Borrow<crate::proto::temporal::common::v1::Payload>,
{
    for (name, payload) in upserted {
        let value = payload.borrow();
        if nothing::is_nothing(value) {
            fields.remove(&name);
        } else {
            fields.insert(name, payload);
        }
    }
}
