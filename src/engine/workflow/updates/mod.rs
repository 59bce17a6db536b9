//! Updates: messages to a running workflow whose sender gets an answer. A run admits an update, a worker accepts or rejects it,
//! and the workflow completes it.
//!
//! | stage | what the run has of it |
//! |---|---|
//! | admitted | its request, which the worker of the next workflow task is sent ([`messages`]), unless the history has it |
//! | accepted, completed | where in the history that stands; the request and the outcome are there |
//! | rejected, aborted | nothing |
//!
//! A workflow task that is made for an update is speculative: if the worker rejects the update, the history does not show either.
//! Unlike Temporal's server, which holds it in memory, an admitted update is a part of the run's state.

pub mod messages;

use std::sync::Arc;

use imbl::OrdMap;
use prost::Message;

use super::Work;
use super::event;
use super::state::{Run, part};
use crate::engine::rejection::Rejection;
use crate::engine::sub_key::SubKey;
use crate::proto::state::{self, WorkflowTaskKind};
use crate::proto::temporal::failure::v1::{ApplicationFailureInfo, Failure, failure::FailureInfo};
use crate::proto::temporal::update::v1::Request;
use crate::proto::temporal::workflowservice::v1::RespondWorkflowTaskCompletedRequest;
use crate::types::limits;

/// From this attempt of a workflow task on no update is admitted: what fails the tasks would fail it.
const ATTEMPT_FAILED: i32 = 3;

/// A fact about an update. That it was accepted or completed is a history event.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// It waits to be sent to a worker.
    Admitted(Box<state::Update>),
    /// By the worker, or by the server on behalf of one that did not answer.
    Rejected(Box<Failure>),
    /// It was not accepted, and never will be: why its sender gets an error.
    Aborted(Rejection),
    /// The worker that was sent it did not answer, and it stays admitted: the history has its request, from which the next worker has
    /// it. What those get that wait for it now.
    Unanswered(Result<Box<Failure>, Rejection>),
    /// It is admitted by the run that goes on from this one instead.
    Moved,
}

/// How far an update has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    Admitted,
    Accepted { event_id: i64 },
    Completed { event_id: i64 },
}

/// The updates of a run by their ids.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Updates {
    all: OrdMap<String, Arc<state::Update>>,
    /// The ids of those that are not completed, by their numbers.
    in_flight: OrdMap<i64, String>,
    /// What the requests take of those that no worker has accepted, encoded.
    request_bytes: usize,
}

impl Updates {
    pub fn get(&self, id: &str) -> Option<&Arc<state::Update>> {
        self.all.get(id)
    }

    pub fn stage(&self, id: &str) -> Option<Stage> {
        self.get(id).map(|update| stage(update))
    }

    pub fn ids(&self) -> impl Iterator<Item = &String> {
        self.all.keys()
    }

    pub fn count(&self) -> usize {
        self.all.len()
    }

    /// Those that are not completed, in the order in which they were admitted.
    pub fn in_flight(&self) -> impl Iterator<Item = (&String, &state::Update)> {
        self.in_flight.values().filter_map(|id| Some((id, &**self.all.get(id)?)))
    }

    /// Those that no worker has accepted or rejected yet.
    pub fn unanswered(&self) -> impl Iterator<Item = (&String, &state::Update)> {
        self.in_flight().filter(|(_, update)| stage(update) == Stage::Admitted)
    }

    /// What requests take that wait for a worker. Bytes.
    pub fn request_bytes(&self) -> usize {
        self.request_bytes
    }

    pub(super) fn insert(&mut self, id: String, update: Arc<state::Update>) {
        self.request_bytes += request_len(&update);
        self.request_bytes -= self.all.get(&id).map_or(0, |before| request_len(before));
        if update.completed_event_id == 0 {
            self.in_flight.insert(update.number, id.clone());
        } else {
            self.in_flight.remove(&update.number);
        }
        self.all.insert(id, update);
    }

    pub(super) fn remove(&mut self, id: &str) {
        if let Some(update) = self.all.remove(id) {
            self.request_bytes -= request_len(&update);
            self.in_flight.remove(&update.number);
        }
    }
}

fn request_len(update: &state::Update) -> usize {
    update.request.as_ref().map_or(0, Message::encoded_len)
}

pub fn stage(update: &state::Update) -> Stage {
    match (update.accepted_event_id, update.completed_event_id) {
        (0, 0) => Stage::Admitted,
        (event_id, 0) => Stage::Accepted { event_id },
        (_, event_id) => Stage::Completed { event_id },
    }
}

/// Folds one event in.
pub fn apply(run: &mut Run, id: &str, event: &Event) {
    match event {
        Event::Admitted(update) => {
            run.head_mut().last_update = update.number;
            run.updates_mut().insert(id.to_owned(), Arc::new((**update).clone()));
        }
        Event::Rejected(_) | Event::Aborted(_) | Event::Moved => run.updates_mut().remove(id),
        Event::Unanswered(_) => {}
    }
    run.tally.changed.insert(SubKey::Named(part::UPDATE, id.to_owned()));
}

/// The request is in the history: a run that began again has it from the one before.
pub fn apply_admitted(run: &mut Run, id: &str, request: &Request, event_id: i64) {
    let number = run.head.last_update + 1;
    let update = state::Update {
        number,
        request: Some(request.clone()),
        admitted_event_id: event_id,
        ..state::Update::default()
    };
    apply(run, id, &Event::Admitted(Box::new(update)));
}

pub fn apply_accepted(run: &mut Run, id: &str, event_id: i64) {
    if run.updates.get(id).is_none() {
        // It was accepted before the point from which the run began again.
        let number = run.head.last_update + 1;
        apply(run, id, &Event::Admitted(Box::new(state::Update { number, ..state::Update::default() })));
    }
    change(run, id, |update| {
        update.request = None;
        update.accepted_event_id = event_id;
    });
}

pub fn apply_completed(run: &mut Run, id: &str, event_id: i64) {
    change(run, id, |update| update.completed_event_id = event_id);
}

fn change(run: &mut Run, id: &str, change: impl FnOnce(&mut state::Update)) {
    if let Some(update) = run.updates.get(id) {
        let mut changed = (**update).clone();
        change(&mut changed);
        run.updates_mut().insert(id.to_owned(), Arc::new(changed));
        run.tally.changed.insert(SubKey::Named(part::UPDATE, id.to_owned()));
    }
}

/// The id of the update that is requested. The edge has given it one.
pub fn id_of(request: &Request) -> &str {
    request.meta.as_ref().map_or("", |meta| meta.update_id.as_str())
}

impl Work {
    /// Admits an update to the present run, which is open, unless the run has it already. `pinned`: it is for this run alone.
    pub fn admit_update(&mut self, request: &Request, pinned: bool) -> Result<(), Rejection> {
        if self.head().workflow_task_attempt >= ATTEMPT_FAILED {
            let message = "Unable to perform workflow execution update due to Workflow Task in failed state.";
            return Err(Rejection::NotReady(message.into()));
        }
        let id = id_of(request);
        if let Some(update) = self.run().updates.get(id) {
            if stage(update) == Stage::Admitted && is_in_history(update) {
                // The last worker may have left it unanswered: the caller is to learn what the next one does about it.
                self.schedule_speculative_workflow_task();
            }
            return Ok(());
        }
        check_limits(self.run(), request)?;
        self.add_update(id, request.clone(), pinned);
        self.schedule_speculative_workflow_task();
        Ok(())
    }

    /// Adds an update to a run, whatever the limits and whether or not a workflow task is pending.
    pub fn add_update(&mut self, id: &str, request: Request, pinned: bool) {
        let number = self.head().last_update + 1;
        let update = state::Update { number, request: Some(request), pinned, ..state::Update::default() };
        self.emit_of_update(id, Event::Admitted(Box::new(update)));
    }

    fn emit_of_update(&mut self, id: &str, event: Event) {
        self.emit(event::Event::Update { id: id.to_owned(), event });
    }

    /// Aborts the updates that no worker has answered, as the run is about to close. Returns those that the run which goes on from
    /// it is to admit, if one does.
    pub fn take_unanswered_updates(&mut self, goes_on: bool) -> Vec<(String, Request)> {
        let unanswered: Vec<_> =
            self.run().updates.unanswered().map(|(id, update)| (id.clone(), update.clone())).collect();
        let mut moved = Vec::new();
        for (id, update) in unanswered {
            if goes_on && !update.pinned {
                self.emit_of_update(&id, Event::Moved);
                moved.push((id, update.request.unwrap_or_default()));
            } else {
                let closed = if goes_on { Rejection::workflow_closed() } else { aborted_by_close() };
                self.emit_of_update(&id, Event::Aborted(closed));
            }
        }
        moved
    }

    /// Admits the updates that the run before has not answered.
    pub fn take_over_updates(&mut self, updates: Vec<(String, Request)>) {
        for (id, request) in updates {
            self.add_update(&id, request, false);
        }
    }

    /// Aborts the updates that the worker was sent with a workflow task which the server fails. Those that came later stay.
    pub fn abort_sent_updates(&mut self) {
        let message = "Unable to perform workflow execution update due to unexpected workflow task failure.";
        let refusal = || Rejection::NotReady(message.into());
        for (id, update) in self.sent_and_unanswered() {
            let aborted =
                if is_in_history(&update) { Event::Unanswered(Err(refusal())) } else { Event::Aborted(refusal()) };
            self.emit_of_update(&id, aborted);
        }
    }

    /// Rejects the updates that the worker was sent with the task that it has completed, and did not answer.
    pub fn reject_unanswered_updates(&mut self) {
        let message = "Workflow Update is rejected because it wasn't processed by worker. Probably, Workflow Update is not \
                       supported by the worker.";
        let rejected = || Box::new(failure(message, "UnprocessedUpdate"));
        for (id, update) in self.sent_and_unanswered() {
            let rejected =
                if is_in_history(&update) { Event::Unanswered(Ok(rejected())) } else { Event::Rejected(rejected()) };
            self.emit_of_update(&id, rejected);
        }
    }

    fn sent_and_unanswered(&self) -> Vec<(String, state::Update)> {
        let sent = self.run().updates.unanswered().filter(|(_, update)| is_sent(self.head(), update));
        sent.map(|(id, update)| (id.clone(), update.clone())).collect()
    }

    /// Whether an update waits that came after the last workflow task was started.
    pub fn has_unsent_updates(&self) -> bool {
        self.run().updates.unanswered().any(|(_, update)| !is_sent(self.head(), update))
    }
}

/// Whether a worker was sent the update with the last workflow task that was started.
fn is_sent(head: &state::Run, update: &state::Update) -> bool {
    update.number <= head.last_update_sent
}

/// Whether the history has the request, which therefore is not sent by a message. A record of the update stays until it is answered:
/// any worker that replays the history may do so.
fn is_in_history(update: &state::Update) -> bool {
    update.admitted_event_id != 0
}

/// What an update is aborted for that was not accepted when its workflow closed.
pub const ABORTED_BY_CLOSE: &str = "workflow update was aborted by closing workflow";

fn aborted_by_close() -> Rejection {
    Rejection::NotFound(ABORTED_BY_CLOSE.into())
}

/// What is wrong with the request of an update, if anything.
pub fn request_problem(request: &Request) -> Option<&'static str> {
    if request.meta.is_none() {
        Some("Update meta is not set on request.")
    } else if limits::is_too_long(id_of(request)) {
        Some("UpdateId length exceeds limit.")
    } else if request.input.is_none() {
        Some("Update input is not set on request.")
    } else if request.input.as_ref().is_some_and(|input| input.name.is_empty()) {
        Some("Update name is not set on request.")
    } else {
        None
    }
}

/// The outcome of an update that was accepted and not completed when its run closed.
pub fn failure_of_closed() -> Failure {
    let message = "Workflow Update failed because the Workflow completed before the Update completed.";
    failure(message, "AcceptedUpdateCompletedWorkflow")
}

fn failure(message: &str, failure_type: &str) -> Failure {
    let info = ApplicationFailureInfo {
        r#type: failure_type.into(),
        non_retryable: true,
        ..ApplicationFailureInfo::default()
    };
    Failure {
        message: message.into(),
        source: "Server".into(),
        failure_info: Some(FailureInfo::ApplicationFailureInfo(info)),
        ..Failure::default()
    }
}

fn check_limits(run: &Run, request: &Request) -> Result<(), Rejection> {
    let max = limits::UPDATES_IN_FLIGHT_MAX;
    if run.updates.in_flight.len() >= max {
        let message = format!("limit on number of concurrent in-flight updates has been reached ({max})");
        return Err(Rejection::TooManyConcurrent(message));
    }
    check_total(run)?;
    let max = limits::UPDATES_SIZE_MAX;
    if run.updates.request_bytes + request.encoded_len() > max {
        let message = format!("limit on total payload size of in-flight updates has been reached ({max} bytes)");
        return Err(Rejection::TooManyConcurrent(message));
    }
    Ok(())
}

fn check_total(run: &Run) -> Result<(), Rejection> {
    let max = limits::UPDATES_MAX;
    if run.updates.count() < max {
        return Ok(());
    }
    Err(Rejection::FailedPrecondition(format!(
        "The limit on the total number of distinct updates in this workflow has been reached ({max}). Make sure any duplicate updates \
         share an Update ID so the server can deduplicate them, and consider rejecting updates that you aren't going to process. You can \
         also Continue-as-New to avoid this; we recommend you check Continue-as-New Suggested in your Workflow."
    )))
}

/// Whether the completion of a speculative workflow task leaves no trace: it brings nothing but rejections. Temporal: a worker that
/// can't be sent events twice must not have been sent any but the task's own, and others no more than a few.
pub fn is_without_trace(
    work: &Work,
    task: &state::WorkflowTask,
    request: &RespondWorkflowTaskCompletedRequest,
) -> bool {
    let sent_again = request.capabilities.is_some_and(|able| able.discard_speculative_workflow_task_with_events);
    let events = work.head().next_event_id - (work.head().previous_started_event_id + 2);
    let events_max = if sent_again { limits::SPECULATIVE_TASK_EVENTS_MAX } else { 0 };
    task.kind() == WorkflowTaskKind::Speculative
        && request.commands.is_empty()
        && !request.force_create_new_workflow_task
        && events <= events_max
        && request.messages.iter().all(messages::is_rejection)
}
