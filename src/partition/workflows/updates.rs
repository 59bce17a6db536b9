//! What callers of updates are answered. They wait here until the update has come as far as they want it to, which a decision
//! shows. Nothing of this is logged: a caller whose partition moves meanwhile asks again.

use std::collections::HashMap;

use tokio::sync::oneshot;

use crate::engine::workflow::{Event, Run, UpdateEvent, UpdateStage, failure_of_closed_update};
use crate::engine::{EntityId, Rejection, RunOutcome};
use crate::partition::Core;
use crate::proto::temporal::enums::v1::UpdateWorkflowExecutionLifecycleStage as Stage;
use crate::proto::temporal::failure::v1::Failure;
use crate::proto::temporal::history::v1::{HistoryEvent, history_event::Attributes};
use crate::proto::temporal::update::v1::{Outcome, outcome::Value};
use crate::store;

/// How far an update of a run has come.
#[derive(Clone, Debug, PartialEq)]
pub struct UpdateStatus {
    pub run_id: String,
    pub stage: Stage,
    /// None before it is completed.
    pub outcome: Option<Outcome>,
}

/// Or why it never will be accepted.
pub type UpdateAnswer = Result<UpdateStatus, Rejection>;

/// What a caller gets at once, or waits for.
pub enum Awaited {
    Now(Box<UpdateStatus>),
    /// `run_id`: of the run that has the update now.
    Later {
        run_id: String,
        answered: oneshot::Receiver<UpdateAnswer>,
    },
}

struct Waiter {
    /// Empty while the update moves on to the next run.
    run_id: String,
    update_id: String,
    wanted: Stage,
    answer: oneshot::Sender<UpdateAnswer>,
}

/// The callers that wait, by workflow.
#[derive(Default)]
pub struct Updates(HashMap<EntityId, Vec<Waiter>>);

impl Updates {
    /// Forgets callers that have gone.
    pub(in crate::partition) fn tidy(&mut self) {
        self.0.retain(|_, waiters| {
            waiters.retain(|waiter| !waiter.answer.is_closed());
            !waiters.is_empty()
        });
    }

    /// Answers those whose updates have come far enough by a decision.
    pub(in crate::partition) fn settle(&mut self, key: &EntityId, changed: &RunOutcome) {
        let Some(waiters) = self.0.get_mut(key) else { return };
        let Some((run, events)) = changed.workflow() else { return };
        let run_id = &run.head.run_id;
        for event in events {
            let Event::Update { id, event } = event else { continue };
            match event {
                UpdateEvent::Admitted(_) => {
                    let moved = waiters.iter_mut().filter(|waiter| waiter.run_id.is_empty() && waiter.update_id == *id);
                    moved.for_each(|waiter| waiter.run_id.clone_from(run_id));
                }
                UpdateEvent::Moved => {
                    let here = waiters.iter_mut().filter(|waiter| waiter.run_id == *run_id && waiter.update_id == *id);
                    here.for_each(|waiter| waiter.run_id.clear());
                }
                UpdateEvent::Rejected(failure) | UpdateEvent::Unanswered(Ok(failure)) => {
                    answer(waiters, run_id, id, || Ok(failed(run_id, failure)))
                }
                UpdateEvent::Aborted(why) | UpdateEvent::Unanswered(Err(why)) => {
                    answer(waiters, run_id, id, || Err(why.clone()))
                }
            }
        }
        let ready = waiters.extract_if(.., |waiter| {
            waiter.run_id == *run_id && reached(run, &waiter.update_id).is_some_and(|stage| stage >= waiter.wanted)
        });
        for waiter in ready.collect::<Vec<_>>() {
            let event = |id| changed.history.iter().map(|event| &**event).find(|event| event.event_id == id);
            if let Some(status) = status(run, &waiter.update_id, event) {
                let _ = waiter.answer.send(Ok(status));
            }
        }
        if waiters.is_empty() {
            self.0.remove(key);
        }
    }
}

fn answer(waiters: &mut Vec<Waiter>, run_id: &str, id: &str, with: impl Fn() -> UpdateAnswer) {
    let these = waiters.extract_if(.., |waiter| waiter.run_id == run_id && waiter.update_id == id);
    for waiter in these.collect::<Vec<_>>() {
        let _ = waiter.answer.send(with());
    }
}

impl Core {
    /// How far an update has come, if the run has it.
    pub fn update_status(&mut self, key: &EntityId, run: &Run, id: &str) -> Result<Option<UpdateStatus>, store::Error> {
        let completed = match run.updates.stage(id) {
            Some(UpdateStage::Completed { event_id }) => self.history_event(key, &run.head.run_id, event_id)?,
            _ => None,
        };
        Ok(status(run, id, |_| completed.as_ref()))
    }

    /// Answers once an update is at a stage. `None`: the run does not have it.
    pub fn await_update(
        &mut self,
        key: &EntityId,
        run: &Run,
        id: &str,
        wanted: Stage,
    ) -> Result<Option<Awaited>, store::Error> {
        let Some(status) = self.update_status(key, run, id)? else { return Ok(None) };
        if status.stage >= wanted {
            return Ok(Some(Awaited::Now(Box::new(status))));
        }
        let (answer, answered) = oneshot::channel();
        let run_id = status.run_id;
        let waiter = Waiter { run_id: run_id.clone(), update_id: id.to_owned(), wanted, answer };
        self.updates.0.entry(key.clone()).or_default().push(waiter);
        Ok(Some(Awaited::Later { run_id, answered }))
    }
}

/// The stage that callers see.
fn reached(run: &Run, id: &str) -> Option<Stage> {
    Some(match run.updates.stage(id)? {
        UpdateStage::Admitted => Stage::Admitted,
        UpdateStage::Accepted { .. } if run.is_open() => Stage::Accepted,
        UpdateStage::Accepted { .. } | UpdateStage::Completed { .. } => Stage::Completed,
    })
}

fn status<'a>(run: &Run, id: &str, event: impl FnOnce(i64) -> Option<&'a HistoryEvent>) -> Option<UpdateStatus> {
    let (run_id, stage) = (&run.head.run_id, reached(run, id)?);
    let outcome = match run.updates.stage(id)? {
        UpdateStage::Completed { event_id } => event(event_id).and_then(outcome_of),
        UpdateStage::Accepted { .. } if !run.is_open() => return Some(failed(run_id, &failure_of_closed_update())),
        UpdateStage::Accepted { .. } | UpdateStage::Admitted => None,
    };
    Some(UpdateStatus { run_id: run_id.clone(), stage, outcome })
}

fn outcome_of(event: &HistoryEvent) -> Option<Outcome> {
    match &event.attributes {
        Some(Attributes::WorkflowExecutionUpdateCompletedEventAttributes(completed)) => completed.outcome.clone(),
        _ => None,
    }
}

fn failed(run_id: &str, failure: &Failure) -> UpdateStatus {
    let outcome = Some(Outcome { value: Some(Value::Failure(failure.clone())) });
    UpdateStatus { run_id: run_id.to_owned(), stage: Stage::Completed, outcome }
}
