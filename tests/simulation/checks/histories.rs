//! Every history is legal, by Temporal's rules of events.

use std::collections::{BTreeMap, BTreeSet};

use millrace::proto::temporal::enums::v1::WorkflowTaskFailedCause;
use millrace::proto::temporal::history::v1::{HistoryEvent, history_event::Attributes as A};
use millrace::types::time::millis_of;

use super::runs::status_of;
use super::{Findings, Run, Runs};

const CHECK: &str = "every history is legal";

pub fn check(runs: &Runs, findings: &mut Findings) {
    for run in runs.0.values() {
        let name = || format!("{}/{}", run.workflow_id, run.run_id);
        if let Err(what) = legal(run) {
            findings.add(CHECK, format!("{}: {what}", name()));
        }
        if let Err(what) = completed(run) {
            findings.add("every closed run has one completion", format!("{}: {what}", name()));
        }
    }
}

fn completed(run: &Run) -> Result<(), String> {
    let close = run.close();
    match (&run.completions[..], close) {
        ([], None) => Ok(()),
        ([completion], Some(close)) if completion.status == status_of(close).unwrap_or_default() => {
            let length = completion.history_length;
            if length == close.event_id { Ok(()) } else { Err(format!("it says that the history ends at {length}")) }
        }
        (completions, close) => {
            let statuses: Vec<_> = completions.iter().map(|completion| &completion.status[..]).collect();
            Err(format!("{statuses:?} for a run that ended with {:?}", close.map(HistoryEvent::event_type)))
        }
    }
}

/// What is under way in a run.
#[derive(Default)]
struct Pending {
    /// The workflow task: its scheduled and its started event.
    task: Option<(i64, Option<i64>)>,
    tasks_completed: BTreeSet<i64>,
    /// Activities by their scheduled event: id and started event.
    activities: BTreeMap<i64, (String, Option<i64>)>,
    scheduled: BTreeSet<i64>,
    timers: BTreeMap<i64, String>,
    /// Children by their initiated event, and whether they have started.
    children: BTreeMap<i64, bool>,
    signals: BTreeSet<i64>,
    cancels: BTreeSet<i64>,
    /// Updates by their accepted event, and whether they are completed.
    updates: BTreeMap<i64, (String, bool)>,
    /// Updates whose requests are in the history from before they were accepted.
    admitted: BTreeSet<String>,
    paused: bool,
}

fn legal(run: &Run) -> Result<(), String> {
    let mut pending = Pending::default();
    let (mut time, mut closed) = (0, false);
    for (index, event) in run.events.iter().enumerate() {
        let (id, what) = (event.event_id, event.event_type().as_str_name());
        let wrong = |why: &str| Err(format!("event {id}, {what}: {why}"));
        if id != index as i64 + 1 {
            return wrong(&format!("it stands where event {} is expected", index + 1));
        }
        let Some(at) = &event.event_time else { return wrong("it has no time") };
        if happens_now(event) && millis_of(at) < time {
            return wrong("time goes back");
        }
        time = time.max(millis_of(at));
        if closed {
            return wrong("the run was closed before");
        }
        closed = status_of(event).is_some();
        let Some(attributes) = &event.attributes else { return wrong("it says nothing") };
        if (id == 1) != matches!(attributes, A::WorkflowExecutionStartedEventAttributes(_)) {
            return wrong("a run begins with its start, once");
        }
        if let Some((_, Some(started))) = pending.task
            && !ends_task(attributes)
            && started + 1 == id
            && !closed
        {
            return wrong("a workflow task is started, and everything else waits");
        }
        if let Err(why) = pending.take(id, attributes) {
            return wrong(&why);
        }
    }
    Ok(())
}

/// Whether an event is written when it happens. Others may wait for a workflow task to end, or for their outcome, and keep
/// their time.
fn happens_now(event: &HistoryEvent) -> bool {
    status_of(event).is_some()
        || matches!(
            event.attributes,
            Some(
                A::WorkflowTaskCompletedEventAttributes(_)
                    | A::WorkflowTaskFailedEventAttributes(_)
                    | A::WorkflowTaskTimedOutEventAttributes(_)
                    | A::ActivityTaskScheduledEventAttributes(_)
                    | A::TimerStartedEventAttributes(_)
                    | A::TimerCanceledEventAttributes(_)
                    | A::StartChildWorkflowExecutionInitiatedEventAttributes(_)
                    | A::SignalExternalWorkflowExecutionInitiatedEventAttributes(_)
                    | A::RequestCancelExternalWorkflowExecutionInitiatedEventAttributes(_)
            )
        )
}

fn ends_task(attributes: &A) -> bool {
    matches!(
        attributes,
        A::WorkflowTaskCompletedEventAttributes(_)
            | A::WorkflowTaskFailedEventAttributes(_)
            | A::WorkflowTaskTimedOutEventAttributes(_)
    )
}

fn expect(holds: bool, why: &str) -> Result<(), String> {
    if holds { Ok(()) } else { Err(why.to_owned()) }
}

impl Pending {
    fn take(&mut self, id: i64, attributes: &A) -> Result<(), String> {
        match attributes {
            A::WorkflowTaskScheduledEventAttributes(_) => {
                expect(self.task.is_none(), "another workflow task is under way")?;
                expect(!self.paused, "the run is paused")?;
                self.task = Some((id, None));
            }
            A::WorkflowTaskStartedEventAttributes(a) => {
                expect(self.task == Some((a.scheduled_event_id, None)), "no such workflow task waits")?;
                self.task = Some((a.scheduled_event_id, Some(id)));
            }
            A::WorkflowTaskCompletedEventAttributes(a) => {
                let same = self.task == Some((a.scheduled_event_id, Some(a.started_event_id)));
                expect(same, "no such workflow task is started")?;
                self.task = None;
                self.tasks_completed.insert(id);
            }
            A::WorkflowTaskFailedEventAttributes(a) => {
                let paused = a.cause() == WorkflowTaskFailedCause::WorkflowPauseRequestedBeforeTaskStarted;
                let started = Some(a.started_event_id).filter(|id| !paused || *id != 0);
                let same = self.task == Some((a.scheduled_event_id, started));
                expect(same, "no such workflow task is started")?;
                self.task = None;
            }
            A::WorkflowTaskTimedOutEventAttributes(a) => {
                let started = Some(a.started_event_id).filter(|id| *id != 0);
                expect(self.task == Some((a.scheduled_event_id, started)), "no such workflow task is under way")?;
                self.task = None;
            }
            _ => self.take_work(id, attributes)?,
        }
        Ok(())
    }

    /// Whether an event was caused by a command of a completed workflow task.
    fn commanded(&self, by: i64) -> Result<(), String> {
        expect(self.tasks_completed.contains(&by), "no workflow task has commanded it")
    }

    fn take_work(&mut self, id: i64, attributes: &A) -> Result<(), String> {
        match attributes {
            A::ActivityTaskScheduledEventAttributes(a) => {
                self.commanded(a.workflow_task_completed_event_id)?;
                let taken = self.activities.values().any(|(name, _)| *name == a.activity_id);
                expect(!taken, "an activity of this id is under way")?;
                self.activities.insert(id, (a.activity_id.clone(), None));
                self.scheduled.insert(id);
            }
            A::ActivityTaskStartedEventAttributes(a) => {
                let activity = self.activities.get_mut(&a.scheduled_event_id);
                let (_, started) = activity.ok_or("no such activity is under way")?;
                expect(started.is_none(), "the activity was started before")?;
                *started = Some(id);
            }
            A::ActivityTaskCompletedEventAttributes(a) => {
                self.resolve_activity(a.scheduled_event_id, a.started_event_id, false)?;
            }
            A::ActivityTaskFailedEventAttributes(a) => {
                self.resolve_activity(a.scheduled_event_id, a.started_event_id, false)?;
            }
            A::ActivityTaskTimedOutEventAttributes(a) => {
                self.resolve_activity(a.scheduled_event_id, a.started_event_id, true)?;
            }
            A::ActivityTaskCanceledEventAttributes(a) => {
                self.resolve_activity(a.scheduled_event_id, a.started_event_id, true)?;
            }
            A::ActivityTaskCancelRequestedEventAttributes(a) => {
                self.commanded(a.workflow_task_completed_event_id)?;
                // It may have ended: the workflow need not know.
                expect(self.scheduled.contains(&a.scheduled_event_id), "no such activity was scheduled")?;
            }
            A::TimerStartedEventAttributes(a) => {
                self.commanded(a.workflow_task_completed_event_id)?;
                expect(!self.timers.values().any(|timer| *timer == a.timer_id), "a timer of this id runs")?;
                self.timers.insert(id, a.timer_id.clone());
            }
            A::TimerFiredEventAttributes(a) => {
                let timer = self.timers.remove(&a.started_event_id);
                expect(timer.as_ref() == Some(&a.timer_id), "no such timer runs")?;
            }
            A::TimerCanceledEventAttributes(a) => {
                self.commanded(a.workflow_task_completed_event_id)?;
                let timer = self.timers.remove(&a.started_event_id);
                expect(timer.as_ref() == Some(&a.timer_id), "no such timer runs")?;
            }
            A::WorkflowExecutionCompletedEventAttributes(a) => self.commanded(a.workflow_task_completed_event_id)?,
            A::WorkflowExecutionFailedEventAttributes(a) => self.commanded(a.workflow_task_completed_event_id)?,
            A::WorkflowExecutionCanceledEventAttributes(a) => self.commanded(a.workflow_task_completed_event_id)?,
            A::WorkflowExecutionContinuedAsNewEventAttributes(a) => {
                self.commanded(a.workflow_task_completed_event_id)?;
            }
            _ => self.take_others(id, attributes)?,
        }
        Ok(())
    }

    fn resolve_activity(&mut self, scheduled: i64, started: i64, unstarted: bool) -> Result<(), String> {
        let (_, found) = self.activities.remove(&scheduled).ok_or("no such activity is under way")?;
        let same = found == Some(started) || (unstarted && found.is_none() && started == 0);
        expect(same, "it was not started by that event")
    }

    /// What happens between workflows.
    fn take_others(&mut self, id: i64, attributes: &A) -> Result<(), String> {
        let none = "no such thing is under way";
        let child = |children: &mut BTreeMap<i64, bool>, initiated: i64| {
            expect(children.remove(&initiated) == Some(true), "no such child runs")
        };
        match attributes {
            A::StartChildWorkflowExecutionInitiatedEventAttributes(a) => {
                self.commanded(a.workflow_task_completed_event_id)?;
                self.children.insert(id, false);
            }
            A::StartChildWorkflowExecutionFailedEventAttributes(a) => {
                expect(self.children.remove(&a.initiated_event_id) == Some(false), none)?;
            }
            A::ChildWorkflowExecutionStartedEventAttributes(a) => {
                expect(self.children.insert(a.initiated_event_id, true) == Some(false), none)?;
            }
            A::ChildWorkflowExecutionCompletedEventAttributes(a) => child(&mut self.children, a.initiated_event_id)?,
            A::ChildWorkflowExecutionFailedEventAttributes(a) => child(&mut self.children, a.initiated_event_id)?,
            A::ChildWorkflowExecutionCanceledEventAttributes(a) => child(&mut self.children, a.initiated_event_id)?,
            A::ChildWorkflowExecutionTimedOutEventAttributes(a) => child(&mut self.children, a.initiated_event_id)?,
            A::ChildWorkflowExecutionTerminatedEventAttributes(a) => child(&mut self.children, a.initiated_event_id)?,
            A::SignalExternalWorkflowExecutionInitiatedEventAttributes(a) => {
                self.commanded(a.workflow_task_completed_event_id)?;
                self.signals.insert(id);
            }
            A::ExternalWorkflowExecutionSignaledEventAttributes(a) => {
                expect(self.signals.remove(&a.initiated_event_id), none)?;
            }
            A::SignalExternalWorkflowExecutionFailedEventAttributes(a) => {
                expect(self.signals.remove(&a.initiated_event_id), none)?;
            }
            A::RequestCancelExternalWorkflowExecutionInitiatedEventAttributes(a) => {
                self.commanded(a.workflow_task_completed_event_id)?;
                self.cancels.insert(id);
            }
            A::ExternalWorkflowExecutionCancelRequestedEventAttributes(a) => {
                expect(self.cancels.remove(&a.initiated_event_id), none)?;
            }
            A::RequestCancelExternalWorkflowExecutionFailedEventAttributes(a) => {
                expect(self.cancels.remove(&a.initiated_event_id), none)?;
            }
            A::WorkflowExecutionPausedEventAttributes(_) => {
                expect(!std::mem::replace(&mut self.paused, true), "the run is paused")?;
            }
            A::WorkflowExecutionUnpausedEventAttributes(_) => {
                expect(std::mem::replace(&mut self.paused, false), "the run is not paused")?;
            }
            A::WorkflowExecutionUpdateAdmittedEventAttributes(a) => {
                let meta = a.request.clone().unwrap_or_default().meta.unwrap_or_default();
                expect(self.admitted.insert(meta.update_id), "the update was admitted before")?;
            }
            A::WorkflowExecutionUpdateAcceptedEventAttributes(a) => {
                let twice = self.updates.values().any(|(update_id, _)| *update_id == a.protocol_instance_id);
                expect(!twice, "the update was accepted before")?;
                let known = self.admitted.contains(&a.protocol_instance_id);
                expect(a.accepted_request.is_some() != known, "what was accepted stands there once")?;
                self.updates.insert(id, (a.protocol_instance_id.clone(), false));
            }
            A::WorkflowExecutionUpdateCompletedEventAttributes(a) => {
                let (update_id, completed) =
                    self.updates.get_mut(&a.accepted_event_id).ok_or("no such update was accepted")?;
                let same = a.meta.as_ref().is_some_and(|meta| meta.update_id == *update_id);
                expect(same && !std::mem::replace(completed, true), "it is another update, or was completed before")?;
            }
            _ => {}
        }
        Ok(())
    }
}
