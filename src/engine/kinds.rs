//! The table of kinds of entities, and what the shell sees of them: states without their types.

use bytes::Bytes;
use imbl::OrdSet;

#[cfg(debug_assertions)]
use super::counter;
use super::histories::Needed;
use super::machine::{Agenda, Header, Machine, Recorded, Shared, Tally, Unreadable};
use super::rejection::Rejection;
use super::row::Row;
use super::sub_key::SubKey;
use super::version::FOLD_VERSION_MAX;
use super::work::{Changed, Loaded, Outcome, RunOutcome, Work};
use super::{batch, namespace, schedule, size, workflow};
use crate::proto::commands::{Command, Done, notify::Outcome as NotifyOutcome};
use crate::proto::temporal::history::v1::HistoryEvent;

/// A machine that has a row in the table.
pub trait Listed: Machine {
    const KIND: Kind;

    /// The state, if it is of this kind.
    fn of(state: &State) -> Option<&Self>;
    fn outcome(changed: Changed<Self>) -> RunOutcome;
}

macro_rules! kinds {
    ($($(#[$attribute:meta])* $kind:ident = $number:literal since $since:literal: $machine:ty;)+) => {
        /// What an entity is. The number is a part of its keys.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum Kind {
            $($(#[$attribute])* $kind = $number,)+
        }

        // A key has one byte for the kind, and for what of the entity it names.
        $($(#[$attribute])* const _: () = assert!($number < 128 && $since <= FOLD_VERSION_MAX);)+

        impl Kind {
            /// The kind of a number; none if this version knows of none.
            pub fn of(number: u32) -> Option<Self> {
                match number {
                    $($(#[$attribute])* $number => Some(Self::$kind),)+
                    _ => None,
                }
            }

            /// The version of the fold from which on there are entities of the kind: nodes before do not know it.
            pub fn since(self) -> u32 {
                match self {
                    $($(#[$attribute])* Self::$kind => $since,)+
                }
            }

            /// The state of a run of which nothing is known yet.
            pub fn empty(self) -> State {
                match self {
                    $($(#[$attribute])* Self::$kind => State::$kind(<$machine>::default()),)+
                }
            }

            /// A stored record's agenda.
            pub fn agenda(self, key: &SubKey, value: Bytes) -> Result<Agenda, Unreadable> {
                match self {
                    $($(#[$attribute])* Self::$kind => Ok(<$machine as Machine>::Record::decode(key, value)?.agenda()),)+
                }
            }

            /// The run that a command names, which may be older than the newest: it is loaded too.
            pub fn named_run(self, command: &Command) -> Option<&str> {
                match self {
                    $($(#[$attribute])* Self::$kind => <$machine>::named_run(command),)+
                }
            }

            /// What of histories a command is decided with.
            pub fn needed_history(self, newest: &State, named: Option<&State>, command: &Command) -> Option<Needed> {
                match self {
                    $($(#[$attribute])* Self::$kind => {
                        <$machine>::needed_history(Listed::of(newest)?, named.and_then(Listed::of), command)
                    })+
                }
            }

            /// Whether records of a sub-key can be due or offer a task.
            pub fn has_agenda(self, key: &SubKey) -> bool {
                match self {
                    $($(#[$attribute])* Self::$kind => <$machine>::has_agenda(key),)+
                }
            }

            /// The records that rows of lists are made of: [`State::row`] needs no others.
            pub fn row_keys(self) -> &'static [SubKey] {
                match self {
                    $($(#[$attribute])* Self::$kind => <$machine>::ROW,)+
                }
            }

            pub(super) fn decide(self, loaded: Loaded, command: &Command, now: i64, version: u32) -> Result<Outcome, Rejection> {
                match self {
                    $($(#[$attribute])* Self::$kind => decide::<$machine>(loaded, command, now, version),)+
                }
            }
        }

        /// The state of one run, of any kind.
        #[derive(Clone, Debug, PartialEq)]
        pub enum State {
            $($(#[$attribute])* $kind($machine),)+
        }

        /// What was emitted about one run, in order.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Events {
            $($(#[$attribute])* $kind(Vec<<$machine as Machine>::Event>),)+
        }

        impl State {
            pub fn kind(&self) -> Kind {
                match self {
                    $($(#[$attribute])* Self::$kind(_) => Kind::$kind,)+
                }
            }

            pub fn header(&self) -> Header<'_> {
                match self {
                    $($(#[$attribute])* Self::$kind(state) => state.header(),)+
                }
            }

            /// How many things of the run are being worked on at a time, or wait for a worker.
            pub fn at_work(&self, now: i64) -> usize {
                match self {
                    $($(#[$attribute])* Self::$kind(state) => state.at_work(now),)+
                }
            }

            /// What lists show of the run.
            pub fn row(&self) -> Option<Row> {
                match self {
                    $($(#[$attribute])* Self::$kind(state) => state.row(),)+
                }
            }

            /// What every node must know of the entity whose newest run this is.
            pub fn shared(&self) -> Option<Shared> {
                match self {
                    $($(#[$attribute])* Self::$kind(state) => state.shared(),)+
                }
            }

            /// A closed run is being deleted: its history before an event is gone, and the rest is due to be deleted at a time.
            pub fn mark_deleted(&mut self, deleted_to_event_id: i64, delete_ms: i64) {
                match self {
                    $($(#[$attribute])* Self::$kind(state) => state.mark_deleted(deleted_to_event_id, delete_ms),)+
                }
            }

            /// A record's agenda; empty if there is no record.
            pub fn agenda(&self, key: &SubKey) -> Agenda {
                match self {
                    $($(#[$attribute])* Self::$kind(state) => state.record(key).map(|record| record.agenda()).unwrap_or_default(),)+
                }
            }

            /// A record's bytes, as they are stored under its sub-key; none: there is no such record.
            pub fn encode(&self, key: &SubKey) -> Option<Bytes> {
                match self {
                    $($(#[$attribute])* Self::$kind(state) => state.record(key).map(|record| record.encode()),)+
                }
            }

            /// How many bytes [`encode`](Self::encode) would make.
            pub fn encoded_len(&self, key: &SubKey) -> usize {
                match self {
                    $($(#[$attribute])* Self::$kind(state) => state.record(key).map_or(0, |record| record.encoded_len()),)+
                }
            }

            /// Puts a stored record back in its place.
            pub fn restore(&mut self, key: SubKey, value: Bytes) -> Result<(), Unreadable> {
                match self {
                    $($(#[$attribute])* Self::$kind(state) => {
                        let record = <$machine as Machine>::Record::decode(&key, value)?;
                        let (tally, bytes) = (state.tally_mut(), key.id_len() + record.encoded_len());
                        tally.records += 1;
                        tally.size_bytes += bytes;
                        if key == SubKey::Head {
                            tally.head_bytes = bytes;
                        }
                        state.restore(key, record);
                    })+
                }
                Ok(())
            }

            /// Takes a record out, other than the head.
            pub fn forget(&mut self, key: &SubKey) {
                match self {
                    $($(#[$attribute])* Self::$kind(state) => state.forget(key),)+
                }
            }

            /// Every sub-key that the run has, its head included.
            pub fn keys(&self) -> OrdSet<SubKey> {
                match self {
                    $($(#[$attribute])* Self::$kind(state) => state.keys(),)+
                }
            }

            pub fn tally(&self) -> &Tally {
                match self {
                    $($(#[$attribute])* Self::$kind(state) => state.tally(),)+
                }
            }

            pub fn tally_mut(&mut self) -> &mut Tally {
                match self {
                    $($(#[$attribute])* Self::$kind(state) => state.tally_mut(),)+
                }
            }
        }

        $($(#[$attribute])* impl Listed for $machine {
            const KIND: Kind = Kind::$kind;

            fn of(state: &State) -> Option<&Self> {
                if let State::$kind(state) = state { Some(state) } else { None }
            }

            fn outcome(changed: Changed<Self>) -> RunOutcome {
                RunOutcome {
                    run: State::$kind(changed.run),
                    history: changed.history,
                    repeated: changed.repeated,
                    events: Events::$kind(changed.events),
                }
            }
        })+
    };
}

kinds! {
    Workflow = 0 since 1: workflow::Run;
    Namespace = 1 since 1: namespace::Namespace;
    Schedule = 2 since 3: schedule::Schedule;
    Batch = 3 since 3: batch::Batch;
    #[cfg(debug_assertions)]
    Counter = 127 since 2: counter::Counter;
}

impl RunOutcome {
    /// Of the events that joined the history those that are news: not what the run has from the history of another, but for what that
    /// one has left to it.
    pub fn news(&self) -> Vec<&HistoryEvent> {
        match self.workflow() {
            Some((run, events)) => workflow::news(run, &self.history, &events[..self.repeated]),
            None => self.history.iter().map(|event| &**event).collect(),
        }
    }

    /// How many of the events that joined the history the run has from another's, the first ones, and that one's run id; none if it has none.
    pub fn copied(&self) -> Option<(&str, usize)> {
        let (run, events) = self.workflow()?;
        let count = workflow::copied(&events[..self.repeated]);
        let from = run.head.reset_from.last().filter(|_| count > 0)?;
        Some((&from.run_id, count))
    }

    /// A workflow's run, and what was emitted about it.
    pub fn workflow(&self) -> Option<(&workflow::Run, &[workflow::Event])> {
        if let (State::Workflow(run), Events::Workflow(events)) = (&self.run, &self.events) {
            Some((run, events))
        } else {
            None
        }
    }
}

impl State {
    pub fn run_id(&self) -> &str {
        self.header().run_id
    }

    pub fn is_open(&self) -> bool {
        self.header().is_open
    }

    /// The run, if it is a workflow's.
    pub fn workflow(&self) -> Option<&workflow::Run> {
        Listed::of(self)
    }

    /// The namespace, if it is one.
    pub fn namespace(&self) -> Option<&crate::proto::state::Namespace> {
        <namespace::Namespace as Listed>::of(self).map(|namespace| &*namespace.head)
    }

    /// The run, if it is a workflow's, to be kept.
    pub fn into_workflow(self) -> Option<workflow::Run> {
        if let Self::Workflow(run) = self { Some(run) } else { None }
    }
}

/// The run as it is read back from its records, which must hold all of it.
#[cfg(test)]
pub fn from_records(run: &State) -> State {
    let mut restored = run.kind().empty();
    for key in run.keys() {
        let record = run.encode(&key).expect("a key leads to its record");
        restored.restore(key, record).expect("a record can be read back");
    }
    assert_eq!(restored, *run, "records hold all of a run");
    restored
}

fn decide<M: Listed>(mut loaded: Loaded, command: &Command, now: i64, version: u32) -> Result<Outcome, Rejection> {
    let before = loaded.newest.and_then(M::of);
    let histories = std::mem::take(&mut loaded.histories);
    let mut work = Work::<M>::new(&loaded, command, now, version).with_histories(histories);
    let reply = M::decide(&mut work, command)?;
    // A start has notified its sender already.
    work.notify_sender(NotifyOutcome::Done(Done {}));
    size::limit(work.finish(reply, before), &loaded, command, now, version)
}
