//! Deleting a closed run, once its retention is over or a caller requests it: its records, its history, and the workflow id if it
//! was the newest run.
//!
//! A history may have tens of thousands of batches: a decision deletes some of them, and is followed by the next. The first makes the
//! run disappear for everybody, and writes down in the head how far it has come; the head is also due from then on, so that the
//! partition's owner at that time goes on with it. The head is deleted last.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::commit::Pending;
use super::core::Core;
use super::entities::CachedRun;
use crate::engine::{EntityId, Rejection, Reply, State, SubKey};
use crate::proto::commands::DeleteRun;
use crate::store::{self, keys};
use crate::types::limits;

impl Core {
    /// Deletes some of a run, and has the rest follow.
    pub(super) fn delete_run(
        &mut self,
        key: &EntityId,
        DeleteRun { run_id, due, at_once }: &DeleteRun,
    ) -> Result<Result<Reply, Rejection>, store::Error> {
        let Some(run) = self.state_or_remains(key, run_id)? else {
            return Ok(Err(Rejection::workflow_not_found(&key.id, run_id)));
        };
        let run_id = run.run_id();
        if run.is_open() {
            return Ok(Err(Rejection::FailedPrecondition("the run is open: terminate it first".into())));
        }
        if let Err(refusal) = self.refuse_while_copied(key, run_id) {
            if *due {
                self.rearm(key, run_id, &SubKey::Head, run.header().delete_ms);
            }
            return Ok(Err(refusal));
        }
        let is_early = run.header().deleted_to_event_id == 0 && self.position.now_ms < run.header().delete_ms;
        if *due && is_early {
            // As with every timer: the clock of the node that appended it is ahead of the log's.
            self.rearm(key, run_id, &SubKey::Head, run.header().delete_ms);
            return Ok(Err(Rejection::FailedPrecondition("the run's retention is not over".into())));
        }
        let max = if *at_once > 0 { *at_once } else { limits::DELETED_AT_ONCE } as usize;
        let batches = self.batches_from(key, run_id, run.header().deleted_to_event_id, max + 1)?;
        let sub_keys: BTreeSet<SubKey> = run.keys().into_iter().filter(|sub_key| *sub_key != SubKey::Head).collect();
        let newest = self.entity(key)?.newest.as_ref().is_some_and(|newest| newest.run.run_id() == run_id);
        if batches.len() + sub_keys.len() <= max {
            self.disarm_all(key, &run, &run.keys().into_iter().collect());
            let batches = batches.into_iter().map(|id| self.batch_key(key, run_id, id)).collect();
            self.commits.pending.delete(key, run_id, newest, batches, &run);
            self.drop_run(key, run_id, newest, None)?;
        } else {
            self.delete_some(key, run, newest, batches, sub_keys, max)?;
        }
        Ok(Ok(Reply::Done))
    }

    fn delete_some(
        &mut self,
        key: &EntityId,
        mut run: State,
        newest: bool,
        mut batches: Vec<i64>,
        sub_keys: BTreeSet<SubKey>,
        max: usize,
    ) -> Result<(), store::Error> {
        batches.truncate(max);
        let run_id = run.run_id().to_owned();
        let header = run.header();
        let first = header.deleted_to_event_id == 0;
        // At least 1, which means that it is being deleted.
        let deleted_to = batches.last().map_or(header.deleted_to_event_id, |last| last + 1).max(1);
        let delete_ms = header.delete_ms.min(self.position.now_ms).max(1);
        let sub_keys: BTreeSet<SubKey> = sub_keys.into_iter().take(max - batches.len()).collect();
        self.disarm_all(key, &run, &sub_keys.iter().cloned().chain([SubKey::Head]).collect());
        run.mark_deleted(deleted_to, delete_ms);
        for sub_key in &sub_keys {
            run.forget(sub_key);
        }
        run.tally_mut().changed.clear();
        let record = keys::record(key, &run_id, &SubKey::Head);
        self.indexes.timers.arm(keys::due(delete_ms, &record));
        let batches = batches.into_iter().map(|id| self.batch_key(key, &run_id, id)).collect();
        self.commits.pending.delete_some(key, newest, first, batches, &run, sub_keys);
        self.drop_run(key, &run_id, newest, Some(run))
    }

    fn disarm_all(&mut self, key: &EntityId, run: &State, sub_keys: &BTreeSet<SubKey>) {
        for sub_key in sub_keys {
            let agenda = run.agenda(sub_key);
            let record = keys::record(key, run.run_id(), sub_key);
            if let Some(due) = agenda.due_ms {
                self.indexes.timers.disarm(keys::due(due, &record));
            }
            if agenda.is_shared {
                self.indexes.shared.remove(keys::shared(&record));
            }
        }
    }

    /// The run is gone from memory; or else what remains of it, until that is committed.
    fn drop_run(
        &mut self,
        key: &EntityId,
        run_id: &str,
        newest: bool,
        remains: Option<State>,
    ) -> Result<(), store::Error> {
        let generation = self.commits.generation;
        let entity = self.entity(key)?;
        entity.generation = generation;
        let tail = entity.find(run_id).map(|cached| cached.tail.clone()).unwrap_or_default();
        entity.older.retain(|(_, run)| run.run.run_id() != run_id);
        if newest {
            entity.newest = None;
        }
        match remains {
            Some(run) => entity.older.push((generation, CachedRun { run, tail })),
            None => entity.deleted.push((generation, run_id.to_owned())),
        }
        Ok(())
    }

    /// The first event ids of a run's batches of history, from one on: at most `max`.
    fn batches_from(&mut self, key: &EntityId, run_id: &str, from: i64, max: usize) -> Result<Vec<i64>, store::Error> {
        let prefix = keys::history(key, run_id);
        let mut batches = BTreeSet::new();
        self.store.scan(&prefix, &self.batch_key(key, run_id, from), &mut |stored, _| {
            batches.extend(keys::first_event_id(stored, &prefix));
            batches.len() < max
        })?;
        // What is not committed yet is in memory.
        if let Some(cached) = self.entity(key)?.find(run_id) {
            batches.extend(cached.tail.iter().map(|(_, batch)| batch.first_event_id).filter(|id| *id >= from));
        }
        let copied = self.copies.part(key, run_id).map(|copied| copied.uncommitted).unwrap_or_default();
        batches.extend(copied.iter().map(|batch| batch.first_event_id).filter(|id| *id >= from));
        Ok(batches.into_iter().take(max).collect())
    }

    fn batch_key(&self, key: &EntityId, run_id: &str, first_event_id: i64) -> Bytes {
        keys::history_batch(key, run_id, first_event_id)
    }
}

impl Pending {
    /// All that is left of a run is deleted.
    fn delete(&mut self, key: &EntityId, run_id: &str, newest: bool, batches: Vec<Bytes>, run: &State) {
        // Records too that were committed, and that the run has removed since.
        let changed = self.records.get_mut(key).and_then(|runs| runs.remove(run_id)).unwrap_or_default();
        let sub_keys = run.keys().into_iter().chain(changed).collect();
        self.deleting(key, newest, batches, run, sub_keys, true);
    }

    /// Some of a run is deleted. `first`: nothing of it was before.
    fn delete_some(
        &mut self,
        key: &EntityId,
        newest: bool,
        first: bool,
        batches: Vec<Bytes>,
        run: &State,
        sub_keys: BTreeSet<SubKey>,
    ) {
        // Its head is written, and the records that it has no more are deleted.
        let records = self.records.entry(key.clone()).or_insert_with(BTreeMap::new);
        let changed = records.entry(run.run_id().to_owned()).or_default();
        changed.insert(SubKey::Head);
        changed.extend(sub_keys);
        self.deleting(key, newest, batches, run, BTreeSet::new(), first);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::partition::Failure;
    use crate::partition::Settings;
    use crate::partition::fixture::{Fixture, commit, decided, outcome, signal, start, terminate};
    use crate::partition::run_loop::Loop;
    use crate::proto::commands::command::Body;

    const SIGNALS: usize = 50;
    const AT_ONCE: u32 = 10;

    fn left(turns: &Loop, run_id: &str) -> usize {
        let mut count = 0;
        for prefix in
            [keys::run(&EntityId::workflow("n", "w"), run_id), keys::history(&EntityId::workflow("n", "w"), run_id)]
        {
            let counted = turns.core.store.scan(&prefix, &prefix, &mut |_, _| {
                count += 1;
                true
            });
            counted.expect("the store can be read");
        }
        count
    }

    #[test]
    fn a_long_run_is_deleted_part_by_part_and_by_whoever_owns_it_then() {
        let fixture = Fixture::new(1, Settings { deleted_at_once: AT_ONCE, ..Settings::default() });
        let (mut turns, mut background) = fixture.take_over(0);
        let Reply::Started { run_id, .. } = decided(&fixture, &mut turns, "w", start()) else { panic!("it starts") };
        for number in 0..SIGNALS {
            decided(&fixture, &mut turns, "w", signal(&format!("{number}")));
        }
        decided(&fixture, &mut turns, "w", terminate());
        fixture.clock.pass(100);
        fixture.turn(0, &mut turns);
        assert!(commit(&mut background));
        fixture.turn(0, &mut turns);
        let all = left(&turns, &run_id);
        assert!(all > 2 * SIGNALS, "each signal has a batch of history, and a request id");

        let key = EntityId::workflow("n", "w");
        let delete = Body::DeleteRun(DeleteRun { run_id: run_id.clone(), due: false, at_once: AT_ONCE });
        decided(&fixture, &mut turns, "w", delete);
        assert_eq!(turns.core.run(&key, &run_id).expect("the store can be read"), None, "it is not visible any more");
        assert_eq!(turns.core.run(&key, "").expect("the store can be read"), None);
        let (mut before, mut parts) = (all, 0);
        while before > 0 {
            fixture.clock.pass(100);
            fixture.turn(0, &mut turns);
            if commit(&mut background) {
                let now = left(&turns, &run_id);
                parts += usize::from(now < before);
                before = now;
                fixture.turn(0, &mut turns);
            }
            if parts == 3 {
                // Another owner goes on with it. Before, the store is closed.
                drop((turns, background));
                (turns, background) = fixture.take_over(0);
                before = left(&turns, &run_id);
                assert!(before > 0 && before < all);
                assert_eq!(turns.core.run(&key, &run_id).expect("the store can be read"), None);
                parts += 1;
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        assert!(parts >= 4, "in {parts} parts");
        let decisions = fixture.count(|body| matches!(body, Body::DeleteRun(_)));
        assert!(
            (all / AT_ONCE as usize..2 * all / AT_ONCE as usize).contains(&decisions),
            "{decisions} decisions for {all}"
        );
        assert!(turns.core.indexes.timers.is_empty(), "nothing is due any more");
        decided(&fixture, &mut turns, "w", start());
    }

    #[test]
    fn history_that_is_not_committed_when_its_run_is_deleted_goes_too() {
        let fixture = Fixture::new(1, Settings { deleted_at_once: AT_ONCE, ..Settings::default() });
        let (mut turns, mut background) = fixture.take_over(0);
        let Reply::Started { run_id, .. } = decided(&fixture, &mut turns, "w", start()) else { panic!("it starts") };
        for number in 0..SIGNALS {
            decided(&fixture, &mut turns, "w", signal(&format!("{number}")));
        }
        let commit_all = |turns: &mut Loop, background: &mut _| {
            fixture.clock.pass(100);
            fixture.turn(0, turns);
            while commit(background) {
                fixture.turn(0, turns);
            }
        };
        commit_all(&mut turns, &mut background);
        decided(&fixture, &mut turns, "w", terminate());
        let delete = Body::DeleteRun(DeleteRun { run_id: run_id.clone(), due: false, at_once: AT_ONCE });
        decided(&fixture, &mut turns, "w", delete);
        for _ in 0..4 * SIGNALS {
            commit_all(&mut turns, &mut background);
        }
        assert_eq!(left(&turns, &run_id), 0, "the batch with the end too");
    }

    #[test]
    fn a_run_is_not_deleted_before_its_retention_is_over_by_the_log_s_clock() {
        let fixture = Fixture::new(1, Settings::default());
        let (mut turns, _background) = fixture.take_over(0);
        let Reply::Started { run_id, .. } = decided(&fixture, &mut turns, "w", start()) else { panic!("it starts") };
        decided(&fixture, &mut turns, "w", terminate());
        let delete = |due| Body::DeleteRun(DeleteRun { run_id: run_id.clone(), due, at_once: 0 });
        let early = outcome(&fixture, &mut turns, &fixture.send("w", delete(true)));
        assert!(matches!(early, Err(Failure::Rejected(Rejection::FailedPrecondition(_)))), "{early:?}");
        let key = EntityId::workflow("n", "w");
        assert!(turns.core.run(&key, &run_id).expect("the store can be read").is_some());
        decided(&fixture, &mut turns, "w", delete(false));
        assert!(turns.core.run(&key, &run_id).expect("the store can be read").is_none());
    }
}
