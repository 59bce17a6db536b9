//! `ResetWorkflow`: a run begins again from a point of a history. What came before the point is the new run's own history; what came
//! after it from outside, signals and updates, is applied anew.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::event::Event;
use super::history::event;
use super::new_run::NewRun;
use super::update_workflow_options;
use super::updates;
use super::workflow_commands;
use super::workflow_task::{self, Starter};
use super::{Reply, Run, Work};
use crate::engine::attempts;
use crate::engine::histories::Needed;
use crate::engine::rejection::Rejection;
use crate::proto::commands::{ResetPoint, ResetWorkflow};
use crate::proto::state;
use crate::proto::temporal::enums::v1::{
    EventType, ResetReapplyExcludeType as Exclude, ResetReapplyType, TimeoutType, UpdateAdmittedEventOrigin as Origin,
};
use crate::proto::temporal::history::v1::{
    HistoryEvent, WorkflowExecutionSignaledEventAttributes, WorkflowExecutionUpdateAdmittedEventAttributes,
    history_event::Attributes as A,
};
use crate::proto::temporal::update::v1::Request as Update;
use crate::proto::temporal::workflow::v1::post_reset_operation;
use crate::proto::temporal::workflowservice::v1::{
    ResetWorkflowExecutionRequest as Request, UpdateWorkflowExecutionOptionsRequest,
};
use crate::types::limits;
use crate::types::time::{duration_ms, timestamp};

/// Runs that a run goes back to by resets, at most, of which it takes over what was under way.
const RESET_FROM_MAX: usize = 100;

pub fn decide(work: &mut Work, command: &ResetWorkflow) -> Result<Reply, Rejection> {
    let mut request = command.request.clone().unwrap_or_default();
    let target = request.workflow_execution.clone().unwrap_or_default();
    let base = work.find(&target.run_id)?.head.clone();
    if let Some(run_id) = begun_by(&request.request_id, work.head(), &base) {
        return Ok(Reply::Reset { run_id: run_id.to_owned() });
    }
    let histories = work.take_histories();
    let last_run_id = histories.last_run_id().to_owned();
    let is_too_long = histories.is_too_long();
    let mut histories = histories.into_runs();
    if let Some(point) = find_point(command.point(), histories.first().map_or(&[], |history| history)) {
        request.workflow_task_finish_event_id = point;
    }
    let finish = request.workflow_task_finish_event_id;
    if is_too_long {
        return Err(too_long());
    }
    if !may_be_point(finish, &base) {
        let message = "Workflow task finish ID must be > 1 && <= workflow last event ID.";
        return Err(Rejection::InvalidArgument(message.into()));
    }
    if histories.is_empty() {
        return Err(Rejection::Poison("a reset is decided without the history".into()));
    }
    let run_id = work.new_run_id();
    let later = histories[0].split_off((finish - 1) as usize);
    let prefix = std::mem::replace(&mut histories[0], later);
    if !ends_batch(&prefix, histories[0].first()) {
        let last = finish - 1;
        return Err(Rejection::InvalidArgument(format!(
            "StateRebuilder unable to Rebuild mutable state to event ID: {last}, version: 0, this event must be at the boundary"
        )));
    }
    if let Some(paused) = paused_at(&prefix) {
        return Err(Rejection::InvalidArgument(format!(
            "The workflow was paused at the point, by event {paused}: reset it to a point before it was, or after it went on."
        )));
    }
    let reaches_newest = last_run_id == work.head().run_id;
    let flushed = end_present(work, &request, &base, &run_id);
    if reaches_newest && let Some(last) = histories.last_mut() {
        last.extend(flushed);
    }
    work.next_run();
    begin_again(work, &request, &base, run_id.clone(), &prefix)?;
    let excluded = Excluded::of(&request);
    let children = children_to_resolve(work.run(), excluded.all);
    // What ends something comes after the rest, as Temporal's server has it wherever events have waited.
    let (ends, others): (Vec<_>, Vec<_>) = histories[0].iter().partition(|event| ends_child(event));
    for event in others {
        if OUTCOMES.contains(&event.event_type()) {
            resolve(work, event, &children);
        } else {
            apply_again(work, event, &excluded);
        }
    }
    // Not what became of their children: the ids of their events are others.
    for event in histories.iter().skip(1).flatten() {
        apply_again(work, event, &excluded);
    }
    for event in ends {
        resolve(work, event, &children);
    }
    request_again(work, &prefix);
    for operation in &request.post_reset_operations {
        then(work, operation.variant.as_ref())?;
    }
    work.schedule_workflow_task();
    Ok(Reply::Reset { run_id })
}

/// The run that a request has begun before: the newest, or the last that began again from the history of the request's run.
fn begun_by<'a>(request_id: &str, newest: &'a state::Run, base: &'a state::Run) -> Option<&'a str> {
    let known = [
        (&newest.create_request_id, &newest.run_id),
        (&newest.reset_request_id, &newest.run_id),
        (&base.reset_run_request_id, &base.reset_run_id),
    ];
    let begun = known.into_iter().find(|(id, _)| !request_id.is_empty() && *id == request_id);
    begun.map(|(_, run_id)| run_id.as_str())
}

fn too_long() -> Rejection {
    let mib = |bytes: usize| bytes / (1024 * 1024);
    Rejection::ResourceExhausted(format!(
        "The history of the workflow, and those of the runs that continued it as new, are too long to be applied again: no more than {} MiB of \
         them are read for a reset, and no more than {} MiB up to the point and of what comes after it from outside. Exclude what need not \
         be applied again, or reset a later run.",
        mib(limits::HISTORIES_READ_MAX),
        mib(limits::HISTORIES_KEPT_MAX)
    ))
}

fn may_be_point(finish: i64, base: &state::Run) -> bool {
    finish > 1 && finish < base.next_event_id
}

/// What is read of histories for a reset; none: the runs' states tell what becomes of it.
pub fn needed_history(newest: &Run, named: Option<&Run>, command: &ResetWorkflow) -> Option<Needed> {
    let request = command.request.as_ref()?;
    let run_id = request.workflow_execution.as_ref().map_or("", |target| target.run_id.as_str());
    let is_meant = |run: &&Run| run_id.is_empty() || run.head.run_id == run_id;
    let base = &std::iter::once(newest).chain(named).find(is_meant)?.head;
    if begun_by(&request.request_id, &newest.head, base).is_some() {
        return None;
    }
    let point = match command.point() {
        ResetPoint::Event => Some(request.workflow_task_finish_event_id),
        ResetPoint::LastWorkflowTask => Some(base.most_recent_completed_event_id).filter(|completed| *completed > 0),
        ResetPoint::FirstWorkflowTask => None,
    };
    if point.is_some_and(|point| !may_be_point(point, base)) {
        return None;
    }
    let of_successors = Excluded::of(request).applied_again();
    let later = of_successors.iter().copied().chain(OUTCOMES).collect();
    // The event behind the point shows whether that lies between decisions.
    let to = point.unwrap_or(i64::MAX);
    Some(Needed { run_id: base.run_id.clone(), from: 1, to, later, of_successors })
}

/// The event behind the point that is named by its kind; none: the request names an event, or there is no such point.
fn find_point(kind: ResetPoint, history: &[Arc<HistoryEvent>]) -> Option<i64> {
    let is_completed = |event: &&Arc<HistoryEvent>| event.event_type() == EventType::WorkflowTaskCompleted;
    let completed = match kind {
        ResetPoint::Event => return None,
        ResetPoint::FirstWorkflowTask => history.iter().find(is_completed),
        ResetPoint::LastWorkflowTask => history.iter().rfind(is_completed),
    };
    let scheduled = || history.iter().find(|event| event.event_type() == EventType::WorkflowTaskScheduled);
    completed.map(|event| event.event_id).or_else(|| scheduled().map(|event| event.event_id + 1))
}

/// How many events a run has from another's history. `repeated`: what was emitted of it before it began again.
pub fn copied(repeated: &[Event]) -> usize {
    repeated.iter().filter(|event| matches!(event, Event::History(_))).count()
}

/// Of a history that a decision has added to a run those events that are news. `repeated`: what was emitted of the run before it began
/// again. What began there and goes on, timers, is the new run's from here on.
pub fn news<'a>(run: &Run, history: &'a [Arc<HistoryEvent>], repeated: &[Event]) -> Vec<&'a HistoryEvent> {
    let (copied, added) = history.split_at(copied(repeated).min(history.len()));
    let goes_on = |event: &&Arc<HistoryEvent>| match &event.attributes {
        Some(A::TimerStartedEventAttributes(a)) => {
            run.timers.get(&a.timer_id).is_some_and(|timer| timer.started_event_id == event.event_id)
        }
        _ => false,
    };
    copied.iter().filter(goes_on).chain(added).map(|event| &**event).collect()
}

/// What the request has done to the new run.
fn then(work: &mut Work, operation: Option<&post_reset_operation::Variant>) -> Result<(), Rejection> {
    let Some(post_reset_operation::Variant::UpdateWorkflowOptions(options)) = operation else {
        return Err(Rejection::InvalidArgument("unsupported post reset operation".into()));
    };
    let request = UpdateWorkflowExecutionOptionsRequest {
        workflow_execution_options: options.workflow_execution_options.clone(),
        update_mask: options.update_mask.clone(),
        ..UpdateWorkflowExecutionOptionsRequest::default()
    };
    update_workflow_options::update(work, &request).map(drop)
}

/// Ends the newest run if it is open. Returns what had waited for its workflow task to end.
fn end_present(work: &mut Work, request: &Request, base: &state::Run, run_id: &str) -> Vec<Arc<HistoryEvent>> {
    let is_base = work.head().run_id == base.run_id;
    if is_base {
        let request_id = request.request_id.clone();
        work.emit(Event::WasReset { run_id: run_id.to_owned(), request_id });
    }
    if !work.run().is_open() {
        return Vec::new();
    }
    let head = work.head();
    let same_parent = (&head.parent, head.parent_initiated_event_id) == (&base.parent, base.parent_initiated_event_id);
    let keeps_starter = same_parent && head.callback == base.callback;
    work.close_for_reset(&request.reason, keeps_starter, is_base);
    work.history().to_vec()
}

/// Whether a point lies between what was decided at once. A batch of events is what one decision has added, and ends behind the start of
/// a workflow task too.
fn ends_batch(prefix: &[Arc<HistoryEvent>], next: Option<&Arc<HistoryEvent>>) -> bool {
    use EventType as T;
    let begins = |event: &HistoryEvent| {
        matches!(
            event.event_type(),
            T::WorkflowTaskStarted
                | T::WorkflowTaskCompleted
                | T::WorkflowTaskFailed
                | T::WorkflowTaskTimedOut
                | T::ActivityTaskStarted
        )
    };
    let ends =
        |event: &Arc<HistoryEvent>| matches!(event.event_type(), T::WorkflowTaskScheduled | T::WorkflowTaskStarted);
    let waits = prefix.iter().rev().find_map(|event| match event.event_type() {
        T::WorkflowTaskScheduled => Some(true),
        T::WorkflowTaskStarted | T::WorkflowTaskCompleted | T::WorkflowTaskFailed | T::WorkflowTaskTimedOut => {
            Some(false)
        }
        _ => None,
    });
    let is_later = |next: &Arc<HistoryEvent>| prefix.last().is_some_and(|last| last.event_time != next.event_time);
    let is_between = next.is_none_or(|next| begins(next) || is_later(next));
    // The start of an activity is written with what became of it.
    if prefix.last().is_some_and(|last| last.event_type() == T::ActivityTaskStarted) {
        return false;
    }
    is_between || prefix.last().is_some_and(ends) || waits == Some(true)
}

/// The event by which a run is paused at the end of a history: it has no workflow task then that a reset could begin again with.
fn paused_at(prefix: &[Arc<HistoryEvent>]) -> Option<i64> {
    use EventType::{WorkflowExecutionPaused as Paused, WorkflowExecutionUnpaused as Unpaused};
    let change = prefix.iter().rev().find(|event| matches!(event.event_type(), Paused | Unpaused));
    change.filter(|event| event.event_type() == Paused).map(|event| event.event_id)
}

/// The new run with the history up to the point, where a workflow task fails.
fn begin_again(
    work: &mut Work,
    request: &Request,
    base: &state::Run,
    run_id: String,
    prefix: &[Arc<HistoryEvent>],
) -> Result<(), Rejection> {
    let first = prefix.first().cloned().unwrap_or_default();
    let Some(A::WorkflowExecutionStartedEventAttributes(started)) = &first.attributes else {
        return Err(Rejection::Poison("a history does not begin with a start".into()));
    };
    let backoff_ms = duration_ms(started.first_workflow_task_backoff.as_ref());
    // Its time begins anew.
    let started = crate::proto::temporal::history::v1::WorkflowExecutionStartedEventAttributes {
        first_workflow_task_backoff: None,
        workflow_execution_expiration_time: None,
        ..(**started).clone()
    };
    let new = NewRun {
        run_id,
        started,
        create_request_id: base.create_request_id.clone(),
        user_metadata: first.user_metadata.clone(),
        links: first.links.clone(),
        callback: base.callback.clone(),
    };
    let mut created = work.created(&new);
    created.head.execution_ms = work.now.saturating_add(backoff_ms);
    created.head.original_start_ms = if base.original_start_ms > 0 { base.original_start_ms } else { base.start_ms };
    created.head.reset_request_id.clone_from(&request.request_id);
    let last_event_id = request.workflow_task_finish_event_id - 1;
    created.head.reset_from = base.reset_from.clone();
    created.head.reset_from.push(state::ResetFrom { run_id: base.run_id.clone(), last_event_id });
    for from in &mut created.head.reset_from {
        from.last_event_id = from.last_event_id.min(last_event_id);
    }
    let surplus = created.head.reset_from.len().saturating_sub(RESET_FROM_MAX);
    created.head.reset_from.drain(..surplus);
    work.emit(Event::RunCreated(Box::new(created)));
    for event in prefix {
        work.joined(event.clone());
        work.emit(Event::History(event.clone()));
        workflow_task::replay(work, event);
    }
    work.has_repeated();
    fail_pending_task(work, request, base, prefix)?;
    let now_ms = work.now;
    let pending: Vec<i64> = work.run().activities.keys().copied().collect();
    for scheduled_event_id in pending {
        work.attempt(scheduled_event_id, attempts::Event::BegunAgain { now_ms });
    }
    Ok(())
}

fn fail_pending_task(
    work: &mut Work,
    request: &Request,
    base: &state::Run,
    prefix: &[Arc<HistoryEvent>],
) -> Result<(), Rejection> {
    if work.head().workflow_task.is_none() {
        // What failed, or took too long, would be tried again, whatever has come since.
        let last = prefix.iter().rev().find_map(|event| match &event.attributes {
            Some(A::WorkflowTaskFailedEventAttributes(_)) => Some(true),
            Some(A::WorkflowTaskTimedOutEventAttributes(a)) => Some(a.timeout_type() == TimeoutType::StartToClose),
            Some(A::WorkflowTaskCompletedEventAttributes(_)) => Some(false),
            _ => None,
        });
        if last != Some(true) {
            return Err(Rejection::InvalidArgument(format!(
                "Can only reset workflow to event ID in range [WorkflowTaskScheduled +1, WorkflowTaskStarted + 1]: {}",
                request.workflow_task_finish_event_id
            )));
        }
        work.schedule_workflow_task();
    }
    if work.run().started_task().is_none() {
        let by = Starter { identity: "history-service".into(), request_id: "emptyUuid".into(), worker_version: None };
        work.start_workflow_task(by, 0);
    }
    workflow_task::fail_by_reset(work, &request.reason, &base.run_id);
    Ok(())
}

/// What is not applied again.
struct Excluded {
    signals: bool,
    updates: bool,
    all: bool,
}

impl Excluded {
    fn of(request: &Request) -> Self {
        let named: BTreeSet<i32> = request.reset_reapply_exclude_types.iter().copied().collect();
        let of_type = request.reset_reapply_type();
        let is = |exclude: Exclude| named.contains(&(exclude as i32));
        let signals = is(Exclude::Signal) || of_type == ResetReapplyType::None;
        let updates = is(Exclude::Update) || matches!(of_type, ResetReapplyType::None | ResetReapplyType::Signal);
        let all = signals && updates && is(Exclude::Nexus) && is(Exclude::CancelRequest);
        Self { signals, updates, all }
    }

    /// The types of the events that are applied again, whichever run they came to.
    fn applied_again(&self) -> BTreeSet<EventType> {
        use EventType as T;
        let types = [
            (T::WorkflowExecutionSignaled, !self.signals),
            (T::WorkflowExecutionUpdateAdmitted, !self.updates),
            (T::WorkflowExecutionUpdateAccepted, !self.updates),
            (T::WorkflowExecutionOptionsUpdated, !self.all),
        ];
        types.into_iter().filter(|(_, applied)| *applied).map(|(event_type, _)| event_type).collect()
    }
}

/// The types of the events by which a run learns what has become of its children, and of what it has sent to other workflows.
const OUTCOMES: [EventType; 11] = [
    EventType::ChildWorkflowExecutionStarted,
    EventType::StartChildWorkflowExecutionFailed,
    EventType::ChildWorkflowExecutionCompleted,
    EventType::ChildWorkflowExecutionFailed,
    EventType::ChildWorkflowExecutionCanceled,
    EventType::ChildWorkflowExecutionTimedOut,
    EventType::ChildWorkflowExecutionTerminated,
    EventType::ExternalWorkflowExecutionSignaled,
    EventType::SignalExternalWorkflowExecutionFailed,
    EventType::ExternalWorkflowExecutionCancelRequested,
    EventType::RequestCancelExternalWorkflowExecutionFailed,
];

/// Applies an event from after the point again, if it came from outside. A request to cancel is not applied again, as with Temporal's
/// server.
fn apply_again(work: &mut Work, later: &HistoryEvent, excluded: &Excluded) {
    match &later.attributes {
        Some(A::WorkflowExecutionSignaledEventAttributes(a)) if !excluded.signals => {
            let attributes = WorkflowExecutionSignaledEventAttributes {
                signal_name: a.signal_name.clone(),
                input: a.input.clone(),
                identity: a.identity.clone(),
                header: a.header.clone(),
                request_id: a.request_id.clone(),
                ..WorkflowExecutionSignaledEventAttributes::default()
            };
            let mut again =
                event(EventType::WorkflowExecutionSignaled, A::WorkflowExecutionSignaledEventAttributes(attributes));
            again.links.clone_from(&later.links);
            work.record(again);
        }
        Some(A::WorkflowExecutionUpdateAdmittedEventAttributes(a)) if !excluded.updates => {
            admit_again(work, a.request.as_ref(), a.origin);
        }
        Some(A::WorkflowExecutionUpdateAcceptedEventAttributes(a)) if !excluded.updates => {
            admit_again(work, a.accepted_request.as_ref(), Origin::Reapply as i32);
        }
        Some(A::WorkflowExecutionOptionsUpdatedEventAttributes(a)) if !excluded.all => {
            let mut again = event(
                EventType::WorkflowExecutionOptionsUpdated,
                A::WorkflowExecutionOptionsUpdatedEventAttributes(a.clone()),
            );
            again.worker_may_ignore = true;
            again.links.clone_from(&later.links);
            work.record(again);
        }
        _ => {}
    }
}

fn ends_child(event: &HistoryEvent) -> bool {
    use EventType as T;
    matches!(
        event.event_type(),
        T::ChildWorkflowExecutionCompleted
            | T::ChildWorkflowExecutionFailed
            | T::ChildWorkflowExecutionCanceled
            | T::ChildWorkflowExecutionTimedOut
            | T::ChildWorkflowExecutionTerminated
    )
}

/// An update that the run has already was accepted before the point.
fn admit_again(work: &mut Work, request: Option<&Update>, origin: i32) {
    let Some(request) = request.filter(|request| work.run().updates.get(updates::id_of(request)).is_none()) else {
        return;
    };
    let attributes = WorkflowExecutionUpdateAdmittedEventAttributes { request: Some(request.clone()), origin };
    work.record(event(
        EventType::WorkflowExecutionUpdateAdmitted,
        A::WorkflowExecutionUpdateAdmittedEventAttributes(attributes),
    ));
}

/// The initiated events of the children that are pending at the point, whose outcomes are taken from the history if they are there. If
/// everything is excluded, they are not, as with Temporal's server, unless the run does not even know that the child has started.
fn children_to_resolve(run: &Run, all_excluded: bool) -> BTreeSet<i64> {
    let children = run.children.values().filter(|child| !all_excluded || child.started_event_id == 0);
    children.map(|child| child.initiated_event_id).collect()
}

/// Requests again what the histories have no outcome of: another run may have been notified of it, or none, if it had closed. The other
/// workflow takes it once.
fn request_again(work: &mut Work, prefix: &[Arc<HistoryEvent>]) {
    for event in prefix {
        let (id, run) = (event.event_id, work.run());
        let is_unstarted = run.children.get(&id).is_some_and(|child| child.started_event_id == 0);
        let is_pending = run.externals.contains_key(&id);
        match &event.attributes {
            Some(A::StartChildWorkflowExecutionInitiatedEventAttributes(a)) if is_unstarted => {
                workflow_commands::start_child_again(work, a, event);
            }
            Some(A::SignalExternalWorkflowExecutionInitiatedEventAttributes(a)) if is_pending => {
                workflow_commands::signal_external(work, id, a);
            }
            Some(A::RequestCancelExternalWorkflowExecutionInitiatedEventAttributes(a)) if is_pending => {
                workflow_commands::cancel_external(work, id, a);
            }
            _ => {}
        }
    }
}

/// What became of one of these children, or of what was sent to another workflow.
fn resolve(work: &mut Work, later: &HistoryEvent, children: &BTreeSet<i64>) {
    let mut again = HistoryEvent { event_id: 0, event_time: Some(timestamp(work.now)), ..later.clone() };
    macro_rules! child {
        ($a:ident) => {{
            let child = work.run().children.get(&$a.initiated_event_id);
            let Some(child) = child.filter(|child| children.contains(&child.initiated_event_id)) else { return };
            child.started_event_id
        }};
    }
    macro_rules! external {
        ($a:ident) => {
            work.run().externals.contains_key(&$a.initiated_event_id)
        };
    }
    match again.attributes.as_mut() {
        Some(A::ChildWorkflowExecutionStartedEventAttributes(a)) if child!(a) != 0 => return,
        Some(A::ChildWorkflowExecutionStartedEventAttributes(_)) => {}
        Some(A::StartChildWorkflowExecutionFailedEventAttributes(a)) => drop(child!(a)),
        Some(A::ChildWorkflowExecutionCompletedEventAttributes(a)) => a.started_event_id = child!(a),
        Some(A::ChildWorkflowExecutionFailedEventAttributes(a)) => a.started_event_id = child!(a),
        Some(A::ChildWorkflowExecutionCanceledEventAttributes(a)) => a.started_event_id = child!(a),
        Some(A::ChildWorkflowExecutionTimedOutEventAttributes(a)) => a.started_event_id = child!(a),
        Some(A::ChildWorkflowExecutionTerminatedEventAttributes(a)) => a.started_event_id = child!(a),
        Some(A::ExternalWorkflowExecutionSignaledEventAttributes(a)) if external!(a) => {}
        Some(A::SignalExternalWorkflowExecutionFailedEventAttributes(a)) if external!(a) => {}
        Some(A::ExternalWorkflowExecutionCancelRequestedEventAttributes(a)) if external!(a) => {}
        Some(A::RequestCancelExternalWorkflowExecutionFailedEventAttributes(a)) if external!(a) => {}
        _ => return,
    }
    work.record(again);
}
