//! The nodes, as they know each other: a call to another goes straight into its inbox, and waits there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, Weak};

use millrace::engine::{EntityId, Rejection, Shared};
use millrace::matching::{Address, Query};
use millrace::partition::{Core, Done, Failure, Node, Peers, PolledTask};
use millrace::proto::commands::Command;

use crate::machine::Binaries;
use crate::mutations::Mutation;

/// The partitions' owners, known to all.
#[derive(Default)]
pub struct Owners {
    nodes: Mutex<BTreeMap<u32, (usize, Weak<Node>)>>,
    machines: Mutex<BTreeMap<usize, Weak<Node>>>,
    published: Mutex<BTreeMap<EntityId, Shared>>,
}

impl Owners {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<u32, (usize, Weak<Node>)>> {
        self.nodes.lock().expect("no code panics while it holds the owners")
    }

    fn machines(&self) -> MutexGuard<'_, BTreeMap<usize, Weak<Node>>> {
        self.machines.lock().expect("no code panics while it holds the nodes")
    }

    fn of(&self, partition: u32) -> Option<(usize, Arc<Node>)> {
        self.lock().get(&partition).and_then(|(machine, node)| Some((*machine, node.upgrade()?)))
    }

    /// What stands on `control` of the entities that every node must know of.
    pub fn published(&self) -> MutexGuard<'_, BTreeMap<EntityId, Shared>> {
        self.published.lock().expect("no code panics while it holds what is published")
    }

    /// An entity is published; a later revision stays, as the nodes see to.
    pub fn publish(&self, id: &EntityId, shared: &Shared) {
        let mut published = self.published();
        if published.get(id).is_none_or(|known| known.revision <= shared.revision) {
            published.insert(id.clone(), shared.clone());
        }
    }

    /// A process has taken a partition over.
    pub fn set(&self, partition: u32, machine: usize, node: &Arc<Node>) {
        self.lock().insert(partition, (machine, Arc::downgrade(node)));
        let machines: Vec<_> = self.machines().values().cloned().collect();
        let others = machines.iter().filter_map(Weak::upgrade).filter(|other| !Arc::ptr_eq(other, node));
        others.for_each(|other| other.matching.is_new(&address(machine)));
    }

    /// A process has begun.
    pub fn begin(&self, machine: usize, node: &Arc<Node>) {
        for (id, shared) in self.published().iter() {
            node.shared.put(id, shared).expect("what is published can be read");
        }
        self.machines().insert(machine, Arc::downgrade(node));
    }

    fn at(&self, address: &Address) -> Option<Arc<Node>> {
        let machine: usize = address.parse().ok()?;
        self.machines().get(&machine)?.upgrade()
    }

    /// Announces a node's tasks and pollers to the others, whose acknowledgements may be lost.
    pub fn announce(&self, machine: usize, node: &Arc<Node>, unacknowledged: bool) {
        let others: BTreeSet<usize> =
            self.lock().values().map(|(owner, _)| *owner).filter(|owner| *owner != machine).collect();
        let others: Vec<Address> = others.into_iter().map(address).collect();
        for (receiver, news) in node.matching.take_news(&others) {
            let items = news.items.clone();
            let answer = self.at(&receiver).and_then(|other| other.matching.receive_news(&address(machine), news).ok());
            node.matching.answered(&receiver, items, answer.filter(|_| !unacknowledged));
        }
    }
}

fn address(machine: usize) -> Address {
    machine.to_string().into()
}

/// The other nodes, as one machine's node has them.
pub struct Known {
    pub owners: Arc<Owners>,
    pub machine: usize,
    pub binaries: Arc<Binaries>,
    pub mutation: Option<Mutation>,
}

impl Known {
    fn elsewhere(&self, partition: u32) -> Option<Arc<Node>> {
        self.owners.of(partition).map(|(_, node)| node)
    }
}

fn no_owner<T>(done: Done<T>) {
    done(Err("the partition has no owner".into()));
}

/// A call under way. Dropped, it reports that the outcome is not known.
struct Asked<T>(Option<Done<T>>);

impl<T> Asked<T> {
    fn answer(mut self, answer: Result<T, String>) {
        if let Some(done) = self.0.take() {
            done(answer);
        }
    }
}

impl<T> Drop for Asked<T> {
    fn drop(&mut self) {
        if let Some(done) = self.0.take() {
            done(Err("the other node does not answer".into()));
        }
    }
}

impl Peers for Known {
    fn is_elsewhere(&self, partition: u32) -> bool {
        self.owners.of(partition).is_some_and(|(machine, _)| machine != self.machine)
    }

    fn knows_all_shared(&self) -> bool {
        true
    }

    fn fold_version(&self) -> u32 {
        self.binaries.of_all()
    }

    fn catch_up_with_control(&self) -> Result<(), String> {
        Ok(())
    }

    fn owned(&self, _: u32, _: i64, shared: BTreeMap<EntityId, Shared>) {
        if self.mutation != Some(Mutation::SharedNotPublishedAnew) {
            shared.iter().for_each(|(id, shared)| self.owners.publish(id, shared));
        }
    }

    fn publish(&self, id: &EntityId, shared: &Shared) {
        self.owners.publish(id, shared);
    }

    fn decide(&self, partition: u32, command: &Command, done: Done<Result<(), Rejection>>) {
        let Some(owner) = self.elsewhere(partition) else { return no_owner(done) };
        let asked = Asked(Some(done));
        let decided = move |_: &mut Core, outcome| {
            asked.answer(match outcome {
                Ok(_) => Ok(Ok(())),
                Err(Failure::Rejected(rejection)) => Ok(Err(rejection)),
                Err(Failure::Unavailable(reason) | Failure::Overloaded(reason)) => Err(reason),
            });
        };
        owner.partition(partition).command(command.clone(), Box::new(decided));
    }

    fn start_task(&self, partition: u32, command: &Command, sticky: bool, done: Done<Option<PolledTask>>) {
        let Some(owner) = self.elsewhere(partition) else { return no_owner(done) };
        let entity = EntityId::of(command).expect("its kind is known");
        let asked = Asked(Some(done));
        let take = |task| {
            asked.answer(task);
            None
        };
        owner.partition(partition).start_task(entity, command.clone(), sticky, take);
    }

    fn take_query(&self, query: &Query, sticky: bool, done: Done<Option<PolledTask>>) {
        let Some(owner) = self.elsewhere(query.origin.partition) else { return no_owner(done) };
        let asked = Asked(Some(done));
        let take = |task| {
            asked.answer(task);
            None
        };
        owner.partition(query.origin.partition).take_query(query.clone(), sticky, take);
    }
}
