//! Histories that runs have from others: a run that a reset has begun again goes on from a part of another's history.
//!
//! That may have tens of thousands of events, so it is copied part by part, a command each, while the run goes on. What is not copied yet
//! is read where it stands, and neither run is deleted before all is. The public finds the first events of such a run behind later ones.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use prost::Message as _;

use super::core::Core;
use super::entities::Batch;
use crate::engine::{EntityId, Rejection, Reply, RunOutcome};
use crate::proto::commands::{CopyHistory, command::Body};
use crate::proto::state;
use crate::store::{self, keys};
use crate::types::limits;

/// An entity and its run.
type Name = (EntityId, String);

/// What a partition copies.
#[derive(Default)]
pub struct Copies {
    copies: BTreeMap<Name, Copy>,
    /// A command that copies was appended, and is not decided yet.
    commanded: bool,
}

struct Copy {
    from_run_id: String,
    /// Of the events before the end, all before this one were copied.
    next: i64,
    end: i64,
    /// What was copied and is not committed yet, oldest first, with the generation that commits it.
    uncommitted: VecDeque<(u64, Arc<Batch>)>,
    /// The next event can't be read: no more is copied before the next take-over.
    is_stuck: bool,
}

/// The part of a run's history that is being copied.
pub struct Part {
    /// Its own are the events before this one,
    pub next: i64,
    /// and another's are those from there up to, not including, the end.
    pub end: i64,
    pub from_run_id: String,
    /// What of its own is not committed yet, oldest first.
    pub uncommitted: Vec<Arc<Batch>>,
}

impl Copy {
    fn of(record: state::HistoryCopy) -> Self {
        let state::HistoryCopy { from_run_id, next_event_id, end_event_id } = record;
        let uncommitted = VecDeque::new();
        Self { from_run_id, next: next_event_id, end: end_event_id, uncommitted, is_stuck: false }
    }

    fn is_under_way(&self) -> bool {
        self.next < self.end
    }

    fn record(&self) -> Option<state::HistoryCopy> {
        self.is_under_way().then(|| state::HistoryCopy {
            from_run_id: self.from_run_id.clone(),
            next_event_id: self.next,
            end_event_id: self.end,
        })
    }
}

impl Copies {
    /// Takes up what was being copied, as the store has it.
    pub fn restore(&mut self, name: Name, record: state::HistoryCopy) {
        self.copies.insert(name, Copy::of(record));
    }

    /// A command that copies was decided.
    pub fn decided(&mut self) {
        self.commanded = false;
    }

    /// The record of a copy, as it is stored; none: all was copied.
    pub fn record(&self, name: &Name) -> Option<Bytes> {
        Some(self.copies.get(name)?.record()?.encode_to_vec().into())
    }

    /// A commit is made: what it took is in the store.
    pub fn committed(&mut self, generation: u64) {
        self.copies.retain(|_, copy| {
            while copy.uncommitted.front().is_some_and(|(taken_by, _)| *taken_by <= generation) {
                copy.uncommitted.pop_front();
            }
            copy.is_under_way() || !copy.uncommitted.is_empty()
        });
    }

    /// What of a run's history is being copied, or was and is not committed yet.
    pub fn part(&self, key: &EntityId, run_id: &str) -> Option<Part> {
        if self.copies.is_empty() {
            return None;
        }
        let copy = self.copies.get(&(key.clone(), run_id.to_owned()))?;
        Some(Part {
            next: copy.next,
            end: copy.end,
            from_run_id: copy.from_run_id.clone(),
            uncommitted: copy.uncommitted.iter().map(|(_, batch)| batch.clone()).collect(),
        })
    }

    /// Whether a run's history is being copied, to it or from it.
    fn concern(&self, key: &EntityId, run_id: &str) -> bool {
        let copies = self.copies.range((key.clone(), String::new())..).take_while(|((of, _), _)| of == key);
        let mut under_way = copies.filter(|(_, copy)| copy.is_under_way());
        under_way.any(|((_, to), copy)| to == run_id || copy.from_run_id == run_id)
    }
}

impl Core {
    /// Leaves the history that a run has from another to be copied, if that is long.
    pub(super) fn leave_to_copy(&mut self, key: &EntityId, changed: &mut RunOutcome) {
        let Some((from_run_id, count)) = changed.copied() else { return };
        let bytes = changed.history[..count].iter().map(|event| event.encoded_len());
        if bytes.sum::<usize>() <= self.node.settings.copied_at_once as usize {
            return;
        }
        let end_event_id = changed.history[count - 1].event_id + 1;
        let from_run_id = from_run_id.to_owned();
        changed.history.drain(..count);
        let name = (key.clone(), changed.run.run_id().to_owned());
        self.commits.pending.copies.insert(name.clone());
        self.copies.restore(name, state::HistoryCopy { from_run_id, next_event_id: 1, end_event_id });
    }

    /// Copies some of a history.
    pub(super) fn copy_history(
        &mut self,
        key: &EntityId,
        command: &CopyHistory,
    ) -> Result<Result<Reply, Rejection>, store::Error> {
        let name = (key.clone(), command.run_id.clone());
        let copy = self.copies.copies.get(&name).filter(|copy| copy.is_under_way());
        let Some((from_run_id, from, end)) = copy.map(|copy| (copy.from_run_id.clone(), copy.next, copy.end)) else {
            return Ok(Err(Rejection::NotFound("nothing of the run's history is left to be copied".into())));
        };
        let max = if command.bytes > 0 { command.bytes } else { limits::COPIED_AT_ONCE } as usize;
        let (mut events, mut bytes) = (Vec::new(), 0);
        self.visit_history(key, &from_run_id, from, end, &mut |event| {
            bytes += event.encoded_len();
            events.push(Arc::new(event.clone()));
            bytes < max
        })?;
        let generation = self.commits.generation;
        let Some(copy) = self.copies.copies.get_mut(&name) else { return Ok(Ok(Reply::Done)) };
        let Some(last) = events.last() else {
            copy.is_stuck = true;
            let message = format!("run {from_run_id} has no event {from}, which is to be copied to run {}", name.1);
            tracing::error!(partition = self.partition, id = %key.id, "{message}");
            return Ok(Err(Rejection::Poison(message)));
        };
        copy.next = last.event_id + 1;
        for batch in Batch::split(events, true).into_iter().map(Arc::new) {
            copy.uncommitted.push_back((generation, batch.clone()));
            self.commits.pending.load.bytes += batch.bytes();
            self.commits.pending.history.push((key.clone(), command.run_id.as_str().into(), batch));
        }
        self.commits.pending.copies.insert(name);
        Ok(Ok(Reply::Done))
    }

    /// Goes on copying, if there is anything to copy and room for it.
    pub(super) fn go_on_copying(&mut self) {
        if self.copies.commanded || self.is_overloaded() {
            return;
        }
        let next = self.copies.copies.iter().find(|(_, copy)| copy.is_under_way() && !copy.is_stuck);
        let Some((key, run_id)) = next.map(|(name, _)| name.clone()) else { return };
        self.copies.commanded = true;
        let bytes = self.node.settings.copied_at_once;
        self.enqueue("", &key, Body::CopyHistory(CopyHistory { run_id, bytes }), None);
    }

    /// A run of which a history is being copied can't be deleted.
    pub(super) fn refuse_while_copied(&self, key: &EntityId, run_id: &str) -> Result<(), Rejection> {
        if !self.copies.concern(key, run_id) {
            return Ok(());
        }
        let message = "The history of the run is being copied for a reset: try again in a moment.";
        Err(Rejection::ResourceExhausted(message.into()))
    }

    /// Takes up what was being copied when the partition was left.
    pub(super) fn restore_copies(&mut self) -> Result<(), store::Error> {
        let mut found = Vec::new();
        self.store.scan(keys::COPIES, keys::COPIES, &mut |key, value| {
            found.extend(keys::parse_copy(key).zip(state::HistoryCopy::decode(value).ok()));
            true
        })?;
        found.into_iter().for_each(|(name, record)| self.copies.restore(name, record));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::partition::fixture::{Fixture, commit, decided, outcome, signal, start, terminate};
    use crate::partition::run_loop::Loop;
    use crate::partition::{Failure, Settings};
    use crate::proto::commands::{CompleteWorkflowTask, DeleteRun, ResetWorkflow, StartWorkflowTask, TaskToken};
    use crate::proto::temporal::command::v1::{Command, RecordMarkerCommandAttributes, command::Attributes};
    use crate::proto::temporal::common::v1::WorkflowExecution;
    use crate::proto::temporal::enums::v1::CommandType;
    use crate::proto::temporal::history::v1::HistoryEvent;
    use crate::proto::temporal::workflowservice::v1::{
        ResetWorkflowExecutionRequest, RespondWorkflowTaskCompletedRequest,
    };

    const MARKERS: i64 = 60;
    /// The last task of the run is scheduled by this event.
    const SCHEDULED: i64 = MARKERS + 5;

    fn key() -> EntityId {
        EntityId::workflow("n", "w")
    }

    /// A run with some history, whose second workflow task is started.
    fn long_run(fixture: &Fixture, turns: &mut Loop) -> String {
        let Reply::Started { run_id, .. } = decided(fixture, turns, "w", start()) else { panic!("it starts") };
        take_task(fixture, turns, 2);
        let task = turns.core.run(&key(), "").expect("it can be read").expect("it is there");
        let task = task.head.workflow_task.as_ref().expect("its task is started").clone();
        let token = TaskToken {
            run_id: run_id.clone(),
            scheduled_event_id: 2,
            started_event_id: task.started_event_id,
            attempt: task.attempt,
            started_ms: task.started_ms,
            ..TaskToken::default()
        };
        let marker = |number| Command {
            command_type: CommandType::RecordMarker as i32,
            attributes: Some(Attributes::RecordMarkerCommandAttributes(RecordMarkerCommandAttributes {
                marker_name: format!("marker {number}"),
                ..RecordMarkerCommandAttributes::default()
            })),
            ..Command::default()
        };
        let request = RespondWorkflowTaskCompletedRequest {
            commands: (0..MARKERS).map(marker).collect(),
            force_create_new_workflow_task: true,
            ..RespondWorkflowTaskCompletedRequest::default()
        };
        let complete = CompleteWorkflowTask { token: Some(token), request: Some(request), ..Default::default() };
        decided(fixture, turns, "w", Body::CompleteWorkflowTask(complete));
        take_task(fixture, turns, SCHEDULED);
        run_id
    }

    fn take_task(fixture: &Fixture, turns: &mut Loop, scheduled_event_id: i64) {
        let task = StartWorkflowTask {
            scheduled_event_id,
            attempt: 1,
            request_id: format!("poll {scheduled_event_id}"),
            ..StartWorkflowTask::default()
        };
        decided(fixture, turns, "w", Body::StartWorkflowTask(task));
    }

    fn reset(fixture: &Fixture, turns: &mut Loop, run_id: &str) -> String {
        let request = ResetWorkflowExecutionRequest {
            workflow_execution: Some(WorkflowExecution { workflow_id: "w".into(), run_id: run_id.into() }),
            workflow_task_finish_event_id: SCHEDULED + 1,
            request_id: format!("reset {run_id}"),
            ..ResetWorkflowExecutionRequest::default()
        };
        let body = Body::ResetWorkflow(ResetWorkflow { request: Some(request), ..ResetWorkflow::default() });
        let Reply::Reset { run_id } = decided(fixture, turns, "w", body) else { panic!("it begins again") };
        run_id
    }

    fn history(turns: &mut Loop, run_id: &str) -> Vec<HistoryEvent> {
        turns.core.history(&key(), run_id, 1, i64::MAX, usize::MAX).expect("it can be read")
    }

    /// The history is whole, from whichever end and part it is read.
    fn check(turns: &mut Loop, run_id: &str, base: &[HistoryEvent]) {
        let events = history(turns, run_id);
        let ids: Vec<i64> = events.iter().map(|event| event.event_id).collect();
        assert_eq!(ids, (1..=events.len() as i64).collect::<Vec<_>>());
        assert_eq!(events[..SCHEDULED as usize], base[..SCHEDULED as usize]);
        assert!(events.len() > SCHEDULED as usize);
        let core = &mut turns.core;
        let mut backwards =
            core.history_before(&key(), run_id, i64::MAX, usize::MAX, usize::MAX).expect("it can be read");
        backwards.reverse();
        assert_eq!(backwards, events);
        for from in [1, 2, 30, SCHEDULED - 1, SCHEDULED + 1] {
            let some = core.history(&key(), run_id, from, from + 3, usize::MAX).expect("it can be read");
            assert_eq!(some, events[from as usize - 1..(from as usize + 2).min(events.len())]);
            let one = core.history_event(&key(), run_id, from).expect("it can be read");
            assert_eq!(one.as_ref(), events.get(from as usize - 1));
        }
    }

    fn delete(fixture: &Fixture, turns: &mut Loop, run_id: &str) -> Result<Reply, Failure> {
        let delete = Body::DeleteRun(DeleteRun { run_id: run_id.into(), due: false, at_once: 0 });
        outcome(fixture, turns, &fixture.send("w", delete))
    }

    #[test]
    fn a_long_history_is_copied_part_by_part_and_by_whoever_owns_it_then() {
        let fixture = Fixture::new(1, Settings { copied_at_once: 60, ..Settings::default() });
        let (mut turns, mut background) = fixture.take_over(0);
        let first = long_run(&fixture, &mut turns);
        let base = history(&mut turns, &first);
        let second = reset(&fixture, &mut turns, &first);
        check(&mut turns, &second, &base);
        for run_id in [&first, &second] {
            let refused = delete(&fixture, &mut turns, run_id);
            assert!(
                matches!(
                    refused,
                    Err(Failure::Rejected(Rejection::ResourceExhausted(_) | Rejection::FailedPrecondition(_)))
                ),
                "{refused:?}"
            );
        }
        // One that goes back to what is still being copied.
        take_task(&fixture, &mut turns, SCHEDULED + 3);
        let third = reset(&fixture, &mut turns, &second);
        decided(&fixture, &mut turns, "w", signal("s"));
        let (mut rounds, mut owners) = (0, 1);
        while !turns.core.copies.copies.is_empty() {
            rounds += 1;
            assert!(rounds < 1000, "it ends");
            check(&mut turns, &second, &base);
            check(&mut turns, &third, &base);
            fixture.clock.pass(100);
            fixture.turn(0, &mut turns);
            if commit(&mut background) {
                fixture.turn(0, &mut turns);
                if owners < 4 {
                    owners += 1;
                    // Before, the store is closed.
                    drop((turns, background));
                    (turns, background) = fixture.take_over(0);
                }
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        assert_eq!(owners, 4, "it was taken over meanwhile");
        let parts = fixture.count(|body| matches!(body, Body::CopyHistory(_)));
        assert!((20..400).contains(&parts), "in {parts} parts");
        decided(&fixture, &mut turns, "w", terminate());
        for run_id in [&first, &second] {
            delete(&fixture, &mut turns, run_id).expect("nothing needs it any more");
        }
        check(&mut turns, &third, &base);
        let left = turns.core.store.scan(keys::COPIES, keys::COPIES, &mut |key, _| panic!("{key:?} is left"));
        left.expect("the store can be read");
    }
}
