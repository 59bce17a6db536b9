//! Deciding one command: load, decide on a copy, take the outcome over, and index what changed.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::core::Core;
use super::entities::{Batch, CachedRun};
use super::{batches, schedules, version, workflows};
use crate::engine::{
    self, EntityId, Header, Histories, Loaded, Outcome, Rejection, Reply, RunOutcome, Shared, State, SubKey, Task,
    TaskQueueType,
};
use crate::log::Appended;
use crate::matching::{QueueName, TaskOrigin};
use crate::metrics;
use crate::proto::commands::{Command, DeleteRun, FireTimer, RejectRequest, command::Body};
use crate::store::{self, index};

/// Why a partition can't go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Store(#[from] store::Error),
    #[error(transparent)]
    Version(#[from] version::Unknown),
}

/// Tasks that are read from the store and offered in one turn.
const OFFERED_AT_ONCE: usize = 100;

/// How long a timer waits that came before its time, as the log's clock may be set too; or, at most, that is due as before. Milliseconds.
const EARLY_AGAIN_MS_MIN: i64 = 5;
const EARLY_AGAIN_MS_MAX: i64 = 60_000;

impl Core {
    /// Decides the command that stands at `at` in the log. `Err`: the partition can't go on.
    pub(super) fn decide(&mut self, command: &Command, at: Appended) -> Result<Result<Reply, Rejection>, Error> {
        if let Some(Body::Barrier(_)) = &command.body {
            self.pass_barrier(at);
            return Ok(Ok(Reply::Done));
        }
        let outcome = self.decide_one(command, at)?;
        if let Some(Body::CopyHistory(_)) = &command.body {
            self.copies.decided();
        }
        self.note_reply(command, &outcome);
        if let (Some(Body::StartActivityTask(start)), Ok(_)) = (&command.body, &outcome)
            && start.publish
        {
            let key = EntityId::of(command).expect("what was decided is of a kind that is known");
            self.publish_task(&key, start)?;
        }
        Ok(outcome)
    }

    fn decide_one(&mut self, command: &Command, at: Appended) -> Result<Result<Reply, Rejection>, Error> {
        if let Err(rejection) = self.admit(command, at) {
            return Ok(Err(rejection));
        }
        let Some(key) = EntityId::of(command) else {
            return Ok(Err(self.notify_refusal(command, engine::unknown_kind(command))));
        };
        match &command.body {
            Some(Body::RejectRequest(RejectRequest { code, reason })) => {
                let rejection = if code == "NOT_FOUND" { Rejection::NotFound } else { Rejection::InvalidArgument };
                return Ok(Err(self.notify_refusal(command, rejection(reason.clone()))));
            }
            Some(Body::DeleteRun(delete)) => {
                let deleted = self.delete_run(&key, delete)?;
                return Ok(self.notify_sender(command, deleted));
            }
            Some(Body::CopyHistory(copy)) => return Ok(self.copy_history(&key, copy)?),
            Some(Body::SetFoldVersion(set)) => return Ok(Ok(self.set_version(set.version, at)?)),
            _ => {}
        }
        #[cfg(debug_assertions)]
        super::guard::abort_if_configured(command);
        let (now, version) = (self.position.now_ms, self.position.fold_version);
        let before = self.entity(&key)?.newest.as_ref().map(|newest| newest.run.clone());
        let is_older = |named: &&str| before.as_ref().is_some_and(|newest| newest.run_id() != *named);
        let named = match key.kind.named_run(command).filter(is_older) {
            Some(named) => self.state(&key, named)?,
            None => None,
        };
        let needed = before.as_ref().and_then(|newest| key.kind.needed_history(newest, named.as_ref(), command));
        let histories = match needed {
            Some(needed) => self.histories(&key, needed)?,
            None => Histories::default(),
        };
        let loaded = Loaded { newest: before.as_ref(), named: named.as_ref(), histories };
        let decided = catch_unwind(AssertUnwindSafe(|| engine::decide(loaded, command, now, version)));
        let outcome = match decided {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(rejection)) => {
                if let Some(Body::FireTimer(fired)) = &command.body
                    && let Some(sub_key) = SubKey::decode(&fired.record)
                {
                    self.rearm(&key, &fired.run_id, &sub_key, fired.due_ms);
                }
                return Ok(Err(rejection));
            }
            Err(panic) => {
                let what = panic
                    .downcast_ref::<String>()
                    .map(String::as_str)
                    .or(panic.downcast_ref::<&str>().copied())
                    .unwrap_or("no message");
                tracing::error!(partition = self.partition, offset = at.offset, id = %command.id, "a decision panicked, and its command is set aside: {what}");
                let refusal = Rejection::Poison(format!("the decision panicked: {what}"));
                return Ok(Err(self.notify_refusal(command, refusal)));
            }
        };
        if let Some(what) = self.too_large(&key, &outcome) {
            tracing::error!(partition = self.partition, offset = at.offset, id = %command.id, "what a command leads to does not fit into the log, and it is set aside: {what}");
            let refusal = Rejection::Poison(format!("its outcome does not fit into the log: {what}"));
            return Ok(Err(self.notify_refusal(command, refusal)));
        }
        let refusal = outcome.refusal.clone();
        let reply = self.take_over(&key, before.as_ref(), outcome);
        if let Some(Body::FireTimer(fired)) = &command.body
            && !self.replaying
        {
            let late_ms = now.saturating_sub(fired.due_ms).max(0);
            metrics::timer_fired(self.partition, Duration::from_millis(late_ms as u64));
            if let Some(record) = SubKey::decode(&fired.record)
                && self.rearm(&key, &fired.run_id, &record, fired.due_ms)
            {
                tracing::warn!(partition = self.partition, id = %key.id, "a timer is due as before, though it has fired: {record:?} of run {}", fired.run_id);
            }
        }
        Ok(refusal.map_or(Ok(reply), Err))
    }

    /// An entity that sent a command and waits for its outcome is notified that it is set aside.
    pub(super) fn notify_refusal(&mut self, command: &Command, refusal: Rejection) -> Rejection {
        if let Some(notification) = engine::refused(command, &refusal) {
            self.post(notification);
        }
        refusal
    }

    /// The same of what becomes of a command that no machine decides.
    fn notify_sender(&mut self, command: &Command, decided: Result<Reply, Rejection>) -> Result<Reply, Rejection> {
        match decided {
            Ok(reply) => {
                if let Some(notification) = engine::done(command) {
                    self.post(notification);
                }
                Ok(reply)
            }
            Err(refusal) => Err(self.notify_refusal(command, refusal)),
        }
    }

    /// What is done about every command, whatever is decided.
    pub(super) fn admit(&mut self, command: &Command, at: Appended) -> Result<(), Rejection> {
        self.commits.pending.touched = true;
        self.position.admit(command, at)
    }

    /// Makes an outcome the state: in memory, in the indexes, and in what the next commit takes.
    fn take_over(&mut self, key: &EntityId, before: Option<&State>, outcome: Outcome) -> Reply {
        let Outcome { reply, runs, sends, .. } = outcome;
        for mut changed in runs {
            let same = before.filter(|before| before.run_id() == changed.run.run_id());
            let sub_keys = std::mem::take(&mut changed.run.tally_mut().changed);
            for sub_key in sub_keys.iter().filter(|sub_key| key.kind.has_agenda(sub_key)) {
                self.index(key, same, &changed.run, sub_key);
            }
            if !self.replaying {
                workflows::observe(before, &changed);
                schedules::observe(&changed);
                batches::observe(&self.node, key, &changed);
                self.updates.settle(key, &changed);
            }
            let framing = &self.node.settings.framing;
            let public = workflows::public_records(framing, key, &changed, self.partition, self.position.next - 1);
            self.commits.pending.public.extend(public);
            self.commits.pending.note(key, same.is_none(), &changed, sub_keys);
            if let Some(shared) = changed.run.shared() {
                self.share(key, &shared);
            }
            self.leave_to_copy(key, &mut changed);
            self.put_run(key, same.is_some(), changed);
        }
        for send in sends {
            self.post(send);
        }
        self.wake_watchers(key);
        reply
    }

    /// Publishes an entity to every node: this one knows it at once. What is decided again is published as a whole after it.
    fn share(&self, key: &EntityId, shared: &Shared) {
        if let Err(error) = self.node.shared.put(key, shared) {
            tracing::error!(partition = self.partition, id = %key.id, "an entity that every node must know can't be read: {error}");
        }
        if !self.replaying {
            self.node.peers.publish(key, shared);
        }
    }

    fn put_run(&mut self, key: &EntityId, same: bool, changed: RunOutcome) {
        let (generation, committed) = (self.commits.generation, self.commits.made);
        let Some(entity) = self.entities.get(key) else { return };
        entity.generation = generation;
        if !same && let Some(old) = entity.newest.take() {
            entity.older.push((generation, old));
        }
        let newest = match &mut entity.newest {
            Some(newest) => {
                newest.run = changed.run;
                newest
            }
            none => none.insert(CachedRun::new(changed.run)),
        };
        for batch in Batch::split(changed.history, changed.repeated > 0) {
            let batch = Arc::new(batch);
            self.commits.pending.load.bytes += batch.bytes();
            self.commits.pending.history.push((key.clone(), newest.run.run_id().into(), batch.clone()));
            newest.tail.push_back((generation, batch));
        }
        entity.trim(committed);
    }

    /// Brings timers and task queues in line with one record's change.
    fn index(&mut self, key: &EntityId, before: Option<&State>, after: &State, sub_key: &SubKey) {
        let old = before.map(|run| run.agenda(sub_key)).unwrap_or_default();
        let new = after.agenda(sub_key);
        if old == new {
            return;
        }
        let Header { run_id, namespace, task_queue, .. } = after.header();
        let record = store::keys::record(key, run_id, sub_key);
        if old.due_ms != new.due_ms {
            if let Some(due) = old.due_ms {
                self.indexes.timers.disarm(store::keys::due(due, &record));
            }
            if let Some(due) = new.due_ms {
                self.indexes.timers.arm(store::keys::due(due, &record));
            }
        }
        if old.is_shared != new.is_shared {
            let entry = store::keys::shared(&record);
            if new.is_shared { self.indexes.shared.add(entry) } else { self.indexes.shared.remove(entry) }
        }
        if old.task != new.task {
            let origin = self.origin(key, run_id);
            if let Some(task) = old.task {
                self.indexes.backlog.remove(index::task_key(&key.namespace_id, &record, &task));
                // What is decided again was never offered.
                if !self.replaying {
                    self.node.matching.withdraw(&origin, &task, task_queue);
                }
            }
            if let Some(task) = new.task {
                let now = self.now_of_tasks();
                if self.indexes.backlog.add(index::task_key(&key.namespace_id, &record, &task), now) {
                    self.offer(origin, task, namespace, task_queue);
                }
            }
        }
    }

    pub(super) fn origin(&self, key: &EntityId, run_id: &str) -> TaskOrigin {
        TaskOrigin { partition: self.partition, entity: key.clone(), run_id: run_id.into() }
    }

    fn offer(&mut self, origin: TaskOrigin, task: Task, namespace: &str, normal_queue: &str) {
        match task.kind.queue_type() {
            TaskQueueType::Activity if self.is_published(namespace, &task.queue) => {
                self.start_published(&origin, namespace, &task);
            }
            TaskQueueType::Workflow | TaskQueueType::Activity => self.node.matching.offer(origin, task, normal_queue),
        }
    }

    /// Tasks have their times from the log, whose clock may be ahead of the node's.
    pub(super) fn now_of_tasks(&self) -> i64 {
        self.node.clock_ms().max(self.position.now_ms)
    }

    /// Appends the timers that are due, and offers the tasks whose time has come, or that are among the first of their queues now.
    pub(super) fn fire_due(&mut self) -> Result<(), store::Error> {
        if !self.is_overloaded() {
            self.indexes.timers.fill(&*self.store)?;
            let now = self.node.clock_ms();
            for key in self.indexes.timers.take_due(now, self.node.now(), 1000) {
                self.fire(&key)?;
            }
        }
        for indexed in self.indexes.backlog.take_surplus() {
            if let Some((origin, task, run)) = self.indexed_task(&indexed)? {
                self.node.matching.withdraw(&origin, &task, run.header().task_queue);
            }
        }
        let now = self.now_of_tasks();
        self.indexes.backlog.fill(&*self.store, now)?;
        // A task that is published starts, and so is a command.
        let at_once = if self.is_overloaded() { 0 } else { OFFERED_AT_ONCE };
        for indexed in self.indexes.backlog.take_ready(now, at_once) {
            match self.indexed_task(&indexed)? {
                Some((origin, task, run)) => self.offer(origin, task, run.header().namespace, run.header().task_queue),
                None => self.indexes.backlog.remove(indexed),
            }
        }
        for (queue, count) in self.indexes.backlog.take_moved(now) {
            if let Some((namespace_id, name, queue_type)) = store::keys::parse_task_queue(&queue) {
                let queue = QueueName { namespace_id: namespace_id.into(), name: name.into(), queue_type };
                self.node.matching.withhold(queue, self.partition, count);
            }
        }
        Ok(())
    }

    /// The task that a key of the store's index names, if it is still there, and its run.
    fn indexed_task(&mut self, indexed: &Bytes) -> Result<Option<(TaskOrigin, Task, State)>, store::Error> {
        let Some(store::keys::Waiting { record, .. }) = store::keys::parse_task(indexed) else { return Ok(None) };
        let Some((key, run_id, sub_key)) = named(&record) else { return Ok(None) };
        let Some(run) = self.state(&key, &run_id)? else { return Ok(None) };
        let task = run.agenda(&sub_key).task;
        let task = task.filter(|task| index::task_key(&key.namespace_id, &record, task) == *indexed);
        Ok(task.map(|task| (self.origin(&key, &run_id), task, run)))
    }

    /// Appends the timer that a key of the store's index names.
    fn fire(&mut self, timer: &Bytes) -> Result<(), store::Error> {
        let Some((key, run_id, sub_key)) = store::keys::due_record(timer).and_then(named) else { return Ok(()) };
        let run = self.state_or_remains(&key, &run_id)?;
        let Some(run) = run.filter(|run| run.agenda(&sub_key).due_ms == store::keys::due_ms(timer)) else {
            // The record waits for something else by now, or is gone.
            self.indexes.timers.disarm(timer.clone());
            return Ok(());
        };
        let header = run.header();
        let body = if sub_key == SubKey::Head && !header.is_open {
            let at_once = self.node.settings.deleted_at_once;
            Body::DeleteRun(DeleteRun { run_id, due: true, at_once })
        } else {
            let due_ms = store::keys::due_ms(timer).unwrap_or_default();
            Body::FireTimer(FireTimer { run_id, record: sub_key.to_bytes(), due_ms })
        };
        self.enqueue(header.namespace, &key, body, None);
        Ok(())
    }

    /// Arms a timer again that has fired, if its record is due when it was then. Either it came before its time, as this node's clock is
    /// ahead of the log's: it is tried again once the log's will have come there. (Both go equally fast, whatever they show.) Or
    /// it had no effect: it is tried again a while later, as never to fire again would be worse, and so would be to fire all the time.
    /// A record that is due at another time, or not any more, has another timer, or none.
    pub(super) fn rearm(&mut self, key: &EntityId, run_id: &str, sub_key: &SubKey, due: i64) -> bool {
        // What is decided again was not taken out of the index.
        if self.replaying || self.due_ms(key, run_id, sub_key) != Some(due) {
            return false;
        }
        let now_ms = self.position.now_ms;
        // If the node's clock is behind it too, the log's does not advance: a broker's was ahead, and has been set back.
        let left_ms = if due > now_ms { (due - now_ms).max(due - self.node.clock_ms()) } else { EARLY_AGAIN_MS_MAX };
        let left_ms = left_ms.clamp(EARLY_AGAIN_MS_MIN, EARLY_AGAIN_MS_MAX);
        let at = self.node.now() + Duration::from_millis(left_ms as u64);
        self.indexes.timers.try_again(at, store::keys::due(due, &store::keys::record(key, run_id, sub_key)));
        true
    }
}

/// What a record's key names: the entity, the run and what of it.
pub(super) fn named(record: &[u8]) -> Option<(EntityId, String, SubKey)> {
    let parsed = store::keys::parse(record)?;
    let (run_id, sub_key) = parsed.record?;
    Some((parsed.entity, run_id, sub_key))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::partition::Settings;
    use crate::partition::fixture::{Fixture, decided, outcome, start_with};
    use crate::types::time::duration;

    #[test]
    fn a_node_whose_clock_is_ahead_appends_a_timer_once_too_early_at_most() {
        let fixture = Fixture::new(1, Settings::default());
        let (mut turns, _background) = fixture.take_over(0);
        fixture.clock.set_ahead(60_000);
        decided(&fixture, &mut turns, "w", start_with(|start| start.workflow_run_timeout = Some(duration(300))));
        let key = EntityId::workflow("n", "w");
        for _ in 0..100 {
            std::thread::sleep(Duration::from_millis(5));
            fixture.clock.pass(5);
            fixture.turn(0, &mut turns);
        }
        let run = turns.core.run(&key, "").expect("the store can be read").expect("it was started");
        assert!(!run.is_open(), "its time is up");
        let fired = fixture.count(|body| matches!(body, Body::FireTimer(_)));
        assert!((2..=3).contains(&fired), "{fired} timers were appended");
    }

    #[test]
    fn a_refused_timer_is_armed_again_only_if_its_record_is_due_as_when_it_fired() {
        let fixture = Fixture::new(1, Settings::default());
        let (mut turns, _background) = fixture.take_over(0);
        decided(&fixture, &mut turns, "w", start_with(|start| start.workflow_run_timeout = Some(duration(300))));
        let key = EntityId::workflow("n", "w");
        let run = turns.core.run(&key, "").expect("the store can be read").expect("it was started");
        let run_id = run.head.run_id.clone();
        let due_ms = turns.core.due_ms(&key, &run_id, &SubKey::Head).expect("its time will be up");
        let mut fire = |due_ms| {
            let fired = FireTimer { run_id: run_id.clone(), record: SubKey::Head.to_bytes(), due_ms };
            let receiver = fixture.send("w", Body::FireTimer(fired));
            outcome(&fixture, &mut turns, &receiver).expect_err("it is early");
            turns.core.indexes.timers.again()
        };
        assert_eq!(fire(due_ms - 1), 0, "it is due at another time by now");
        assert_eq!(fire(due_ms), 1);
        assert_eq!(fire(due_ms), 1, "it is tried again once");
    }
}
