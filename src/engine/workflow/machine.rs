//! A workflow's run as a machine: which file decides a command, and where events and records go.

use std::sync::Arc;

use imbl::OrdSet;

use super::close::Close;
use super::event::{Created, Event};
use super::external_payloads::External;
use super::history::fires;
use super::state::{Record, Run, part};
use super::*;
use crate::engine::attempts;
use crate::engine::histories::Needed;
use crate::engine::machine::{Header, Machine, Tally};
use crate::engine::rejection::Rejection;
use crate::engine::row::Row;
use crate::engine::sub_key::SubKey;
use crate::engine::version::since;
use crate::proto::commands::{Command, command::Body};
use crate::proto::state;
use crate::proto::temporal::enums::v1::WorkflowExecutionStatus as Status;
use crate::types::limits;

impl Machine for Run {
    type Event = Event;
    type Record = Record;

    fn decide(work: &mut Work, command: &Command) -> Result<Reply, Rejection> {
        let version = work.version;
        let body = command.body.as_ref().filter(|body| since(body) <= version).ok_or_else(without_body)?;
        let reply = dispatch(work, body)?;
        workflow_task::make_room_for_buffered(work);
        end_if_too_long(work);
        Ok(reply)
    }

    fn apply(&mut self, event: &Event) {
        match event {
            Event::RunCreated(created) => {
                let Created { head, properties, start } = (**created).clone();
                let (head, properties, start) = (Arc::new(head), Arc::new(properties), Arc::new(start));
                *self = Self { head, properties, start, ..Self::default() };
                self.tally.changed.extend(self.keys());
            }
            Event::History(event) => {
                let head = self.head_mut();
                head.next_event_id = event.event_id + 1;
                head.history_size_bytes += prost::Message::encoded_len(&**event) as i64;
                let external = External::of(event);
                head.external_payload_count += external.count;
                head.external_payload_bytes = head.external_payload_bytes.saturating_add(external.bytes);
                self.apply_attributes(event, false);
            }
            Event::Buffered(event) => {
                self.add_buffered((**event).clone());
                self.apply_attributes(event, true);
            }
            Event::BufferFlushed => self.retain_buffered(|_| false),
            Event::BufferedTimerWithdrawn { timer_id } => self.retain_buffered(|event| !fires(event, timer_id)),
            Event::WorkflowTask(event) => workflow_task::apply(self.head_mut(), event),
            Event::Update { id, event } => updates::apply(self, id, event),
            Event::StickyQueueChanged { queue, schedule_to_start_ms } => {
                let head = self.head_mut();
                head.sticky_queue.clone_from(queue);
                head.sticky_schedule_to_start_ms = *schedule_to_start_ms;
            }
            Event::FirstTaskDelayEnded => self.head_mut().first_task_delayed = false,
            Event::Attempt { scheduled_event_id, event } => {
                self.change_activity(*scheduled_event_id, |activity| attempts::apply(activity, event))
            }
            Event::RequestSeen { request_id, now_ms } => {
                self.note_request(request_id, state::RequestId { seen_ms: *now_ms, ..state::RequestId::default() });
            }
            Event::PausedChanged { paused } => self.head_mut().paused.clone_from(paused),
            Event::RunPaused(pause) => {
                let head = self.head_mut();
                head.status = (if pause.is_some() { Status::Paused } else { Status::Running }) as i32;
                head.pause = pause.as_deref().cloned();
            }
            Event::OptionsChanged(options) => {
                let head = self.head_mut();
                head.versioning_override.clone_from(&options.versioning_override);
                // As with Temporal's server, one that is taken away stays in force.
                if options.priority.is_some() {
                    head.priority.clone_from(&options.priority);
                }
            }
            Event::WasReset { run_id, request_id } => {
                let head = self.head_mut();
                head.reset_run_id.clone_from(run_id);
                head.reset_run_request_id.clone_from(request_id);
            }
            Event::DeletionScheduled { delete_ms } => self.head_mut().delete_ms = *delete_ms,
        }
    }

    fn end_too_large(work: &mut Work, reason: &'static str) {
        work.close(Close::terminated(reason, None, "history-service"));
    }

    fn named_run(command: &Command) -> Option<&str> {
        fn named(run_id: &str) -> Option<&str> {
            Some(run_id).filter(|run_id| !run_id.is_empty())
        }
        let target = match command.body.as_ref()? {
            Body::SignalWorkflow(c) => c.request.as_ref()?.workflow_execution.as_ref(),
            Body::RequestCancelWorkflow(c) => c.request.as_ref()?.workflow_execution.as_ref(),
            Body::TerminateWorkflow(c) => c.request.as_ref()?.workflow_execution.as_ref(),
            Body::UpdateWorkflow(c) => c.request.as_ref()?.workflow_execution.as_ref(),
            Body::ResetWorkflow(c) => c.request.as_ref()?.workflow_execution.as_ref(),
            Body::UpdateWorkflowOptions(c) => c.request.as_ref()?.workflow_execution.as_ref(),
            Body::PauseWorkflow(c) => return named(&c.request.as_ref()?.run_id),
            Body::UnpauseWorkflow(c) => return named(&c.request.as_ref()?.run_id),
            Body::PauseActivity(c) => c.request.as_ref()?.execution.as_ref(),
            Body::UnpauseActivity(c) => c.request.as_ref()?.execution.as_ref(),
            Body::ResetActivity(c) => c.request.as_ref()?.execution.as_ref(),
            Body::UpdateActivityOptions(c) => c.request.as_ref()?.execution.as_ref(),
            _ => None,
        };
        named(&target?.run_id)
    }

    fn needed_history(newest: &Self, named: Option<&Self>, command: &Command) -> Option<Needed> {
        match command.body.as_ref()? {
            Body::ResetWorkflow(c) => reset_workflow::needed_history(newest, named, c),
            Body::StartWorkflow(c) => start_workflow::needed_history(newest, c),
            _ => None,
        }
    }

    const ROW: &'static [SubKey] = &[SubKey::Head, SubKey::One(part::PROPERTIES)];

    fn row(&self) -> Option<Row> {
        Some(row::row(&self.head, &self.properties))
    }

    fn at_work(&self, now: i64) -> usize {
        let activities = self.activities.values().filter(|activity| attempts::is_at_work(activity, now)).count();
        activities + usize::from(self.head.workflow_task.is_some())
    }

    fn has_agenda(key: &SubKey) -> bool {
        matches!(key, SubKey::Head | SubKey::Numbered(part::ACTIVITY, _) | SubKey::Named(part::TIMER, _))
    }

    fn header(&self) -> Header<'_> {
        Header {
            run_id: &self.head.run_id,
            namespace: &self.head.namespace,
            is_open: self.is_open(),
            task_queue: &self.head.task_queue,
            delete_ms: self.head.delete_ms,
            deleted_to_event_id: self.head.deleted_to_event_id,
        }
    }

    fn mark_deleted(&mut self, deleted_to_event_id: i64, delete_ms: i64) {
        let head = self.head_mut();
        (head.deleted_to_event_id, head.delete_ms) = (deleted_to_event_id, delete_ms);
    }

    fn record(&self, key: &SubKey) -> Option<Record> {
        match key {
            SubKey::Head => Some(Record::Head(self.head.clone())),
            SubKey::One(part::PROPERTIES) => {
                (*self.properties != state::Properties::default()).then(|| Record::Properties(self.properties.clone()))
            }
            SubKey::One(part::START) => {
                (*self.start != state::Start::default()).then(|| Record::Start(self.start.clone()))
            }
            SubKey::Numbered(part::BUFFERED, id) => self.buffered.get(id).cloned().map(Record::Buffered),
            SubKey::Numbered(part::ACTIVITY, id) => self.activities.get(id).cloned().map(Record::Activity),
            SubKey::Named(part::TIMER, id) => self.timers.get(id).cloned().map(Record::Timer),
            SubKey::Numbered(part::CHILD, id) => self.children.get(id).cloned().map(Record::Child),
            SubKey::Numbered(part::EXTERNAL, id) => self.externals.get(id).cloned().map(Record::External),
            SubKey::Named(part::REQUEST, id) => self.requests.get(id).cloned().map(Record::Request),
            SubKey::Named(part::UPDATE, id) => self.updates.get(id).cloned().map(Record::Update),
            _ => None,
        }
    }

    /// Puts a stored record back in its place.
    fn restore(&mut self, key: SubKey, record: Record) {
        match (key, record) {
            (SubKey::Head, Record::Head(head)) => self.head = head,
            (SubKey::One(part::PROPERTIES), Record::Properties(properties)) => self.properties = properties,
            (SubKey::One(part::START), Record::Start(start)) => self.start = start,
            (SubKey::Numbered(part::BUFFERED, id), Record::Buffered(event)) => drop(self.buffered.insert(id, event)),
            (SubKey::Numbered(part::ACTIVITY, id), Record::Activity(activity)) => {
                self.activity_ids.insert(activity.activity_id.clone(), id);
                self.activities.insert(id, activity);
            }
            (SubKey::Named(part::TIMER, id), Record::Timer(timer)) => drop(self.timers.insert(id, timer)),
            (SubKey::Numbered(part::CHILD, id), Record::Child(child)) => drop(self.children.insert(id, child)),
            (SubKey::Numbered(part::EXTERNAL, id), Record::External(external)) => {
                drop(self.externals.insert(id, external))
            }
            (SubKey::Named(part::REQUEST, id), Record::Request(request)) => drop(self.requests.insert(id, request)),
            (SubKey::Named(part::UPDATE, id), Record::Update(update)) => self.updates_mut().insert(id, update),
            (key, record) => unreachable!("a record of another kind stands under {key:?}: {record:?}"),
        }
    }

    /// Takes a record out, other than the head.
    fn forget(&mut self, key: &SubKey) {
        match key {
            SubKey::Head => {}
            SubKey::One(part::PROPERTIES) => self.properties = Arc::default(),
            SubKey::One(part::START) => self.start = Arc::default(),
            SubKey::Numbered(part::BUFFERED, id) => drop(self.buffered.remove(id)),
            SubKey::Numbered(part::ACTIVITY, id) => self.remove_activity(*id),
            SubKey::Named(part::TIMER, id) => drop(self.timers.remove(id)),
            SubKey::Numbered(part::CHILD, id) => drop(self.children.remove(id)),
            SubKey::Numbered(part::EXTERNAL, id) => drop(self.externals.remove(id)),
            SubKey::Named(part::REQUEST, id) => drop(self.requests.remove(id)),
            SubKey::Named(part::UPDATE, id) => self.updates_mut().remove(id),
            key => unreachable!("a run has no record {key:?}"),
        }
    }

    /// Every sub-key that the run has, its head included.
    fn keys(&self) -> OrdSet<SubKey> {
        [SubKey::Head, SubKey::One(part::PROPERTIES), SubKey::One(part::START)]
            .into_iter()
            .filter(|key| self.record(key).is_some())
            .chain(self.buffered.keys().map(|id| SubKey::Numbered(part::BUFFERED, *id)))
            .chain(self.activities.keys().map(|id| SubKey::Numbered(part::ACTIVITY, *id)))
            .chain(self.timers.keys().map(|id| SubKey::Named(part::TIMER, id.clone())))
            .chain(self.children.keys().map(|id| SubKey::Numbered(part::CHILD, *id)))
            .chain(self.externals.keys().map(|id| SubKey::Numbered(part::EXTERNAL, *id)))
            .chain(self.requests.keys().map(|id| SubKey::Named(part::REQUEST, id.clone())))
            .chain(self.updates.ids().map(|id| SubKey::Named(part::UPDATE, id.clone())))
            .collect()
    }

    fn uncounted_bytes(&self) -> usize {
        self.updates.request_bytes()
    }

    fn tally(&self) -> &Tally {
        &self.tally
    }

    fn tally_mut(&mut self) -> &mut Tally {
        &mut self.tally
    }
}

/// Of a type that no node knew when it was appended: such commands are not sent, so something is wrong.
fn without_body() -> Rejection {
    Rejection::Poison("the command is of no kind that is known".into())
}

fn dispatch(work: &mut Work, body: &Body) -> Result<Reply, Rejection> {
    match body {
        Body::StartWorkflow(c) => start_workflow::decide(work, c),
        Body::SignalWorkflow(c) => signal_workflow::decide(work, c),
        Body::SignalWithStartWorkflow(c) => signal_workflow::decide_with_start(work, c),
        Body::RequestCancelWorkflow(c) => request_cancel_workflow::decide(work, c),
        Body::TerminateWorkflow(c) => terminate_workflow::decide(work, c),
        Body::UpdateWorkflow(c) => update_workflow::decide(work, c),
        Body::ResetWorkflow(c) => reset_workflow::decide(work, c),
        Body::PauseWorkflow(c) => pause_workflow::decide(work, c),
        Body::UnpauseWorkflow(c) => unpause_workflow::decide(work, c),
        Body::UpdateWorkflowOptions(c) => update_workflow_options::decide(work, c),
        Body::UpdateWithStartWorkflow(c) => update_workflow::decide_with_start(work, c),
        Body::StartWorkflowTask(c) => start_workflow_task::decide(work, c),
        Body::CompleteWorkflowTask(c) => complete_workflow_task::decide(work, c),
        Body::FailWorkflowTask(c) => fail_workflow_task::decide(work, c),
        Body::ReturnTask(c) => return_task::decide(work, c),
        Body::ResetStickyTaskQueue(c) => reset_sticky_task_queue::decide(work, c),
        Body::StartActivityTask(c) => start_activity_task::decide(work, c),
        Body::CompleteActivity(c) => complete_activity::decide(work, c),
        Body::FailActivity(c) => fail_activity::decide(work, c),
        Body::CancelActivity(c) => cancel_activity::decide(work, c),
        Body::HeartbeatActivity(c) => heartbeat_activity::decide(work, c),
        Body::PauseActivity(c) => pause_activity::decide(work, c),
        Body::UnpauseActivity(c) => unpause_activity::decide(work, c),
        Body::ResetActivity(c) => reset_activity::decide(work, c),
        Body::UpdateActivityOptions(c) => update_activity_options::decide(work, c),
        Body::FireTimer(c) => fire_timer::decide(work, c),
        Body::Notify(c) => notify::decide(work, c),
        // Those of other kinds of entities, and those that the shell carries out.
        other => Err(Rejection::InvalidArgument(format!("{} is no command to a workflow", other.name()))),
    }
}

/// A run whose history has outgrown the limits is terminated, rather than slow everything down.
fn end_if_too_long(work: &mut Work) {
    let head = work.head();
    if !work.run().is_open() {
        return;
    }
    if head.next_event_id - 1 > limits::HISTORY_COUNT_MAX {
        work.close(Close::terminated("Workflow history count exceeds limit.", None, "history-service"));
    } else if head.history_size_bytes > limits::HISTORY_SIZE_MAX {
        work.close(Close::terminated("Workflow history size exceeds limit.", None, "history-service"));
    }
}
