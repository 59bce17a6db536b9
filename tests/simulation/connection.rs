//! A node's connection to the log: what it sends takes its time, may arrive without an acknowledgement, may be lost, and may
//! arrive later than expected.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use millrace::log::{
    Appended, Assignee, Barrier, Error, Isolation, Log, Member, Node, OnAppend, Owned, Owner, Read, Reader, Record,
    Topic,
};
use millrace::proto::commands::{Command, command::Body};
use prost::Message as _;

use crate::broker::{Broker, REPLIES};
use crate::large;
use crate::life::Life;
use crate::mutations::Mutation;
use crate::random::Rng;
use crate::woken::{View, Woken};

/// What goes wrong between nodes and the log: so many times in a thousand.
pub struct Network {
    /// Nothing goes wrong any more.
    pub healed: AtomicBool,
    pub append_unknown: u32,
    pub append_somewhere: u32,
    pub commit_unknown: u32,
    pub unavailable: u32,
    /// How often something has gone wrong.
    pub seen: Mutex<BTreeMap<&'static str, usize>>,
    /// Appends without a waiting caller, which may land yet.
    late: Mutex<Vec<(Topic, u32, Vec<Record>)>>,
    pub woken: Woken,
}

impl Network {
    /// Some simulations have much of one fault, some have none of it.
    pub fn new(rng: &Rng) -> Self {
        let rate = |most: usize| if rng.per_mille(400) { 0 } else { rng.below(most + 1) as u32 };
        Self {
            healed: AtomicBool::new(false),
            append_unknown: rate(30),
            append_somewhere: rate(50),
            commit_unknown: rate(60),
            unavailable: rate(10),
            seen: Mutex::default(),
            late: Mutex::default(),
            woken: Woken::default(),
        }
    }

    /// Counts something that went wrong.
    pub fn note(&self, what: &'static str) {
        *self.seen.lock().expect("no code panics while it counts").entry(what).or_default() += 1;
    }

    fn late(&self) -> MutexGuard<'_, Vec<(Topic, u32, Vec<Record>)>> {
        self.late.lock().expect("no code panics while it holds these")
    }

    /// Lets something land, or get lost, that everybody had given up.
    pub fn deliver_late(&self, broker: &Broker, rng: &Rng) -> bool {
        let mut late = self.late();
        if late.is_empty() {
            return false;
        }
        let index = rng.below(late.len());
        let (topic, partition, records) = late.remove(index);
        if rng.per_mille(800) {
            self.note("an append landed late");
            broker.append(topic, partition, records);
        }
        true
    }
}

/// A partition's loop with so many empty reads would wait for ever.
const READS_IN_VAIN_MAX: u32 = 100;

struct Flight {
    records: Vec<Record>,
    done: Option<OnAppend>,
    outcome: Option<Result<Vec<Appended>, Error>>,
}

pub struct Connection {
    pub broker: Arc<Broker>,
    pub network: Arc<Network>,
    pub life: Arc<Life>,
    pub rng: Rng,
    pub mutation: Option<Mutation>,
    flights: Mutex<BTreeMap<(Topic, u32), VecDeque<Flight>>>,
    /// Ends of the commands as they were when this node took the partitions over.
    ends: Mutex<BTreeMap<u32, i64>>,
}

impl Connection {
    pub fn new(
        broker: Arc<Broker>,
        network: Arc<Network>,
        life: Arc<Life>,
        rng: Rng,
        mutation: Option<Mutation>,
    ) -> Arc<Self> {
        let (flights, ends) = (Mutex::default(), Mutex::default());
        Arc::new(Self { broker, network, life, rng, mutation, flights, ends })
    }

    fn is(&self, mutation: Mutation) -> bool {
        self.mutation == Some(mutation)
    }

    fn flights(&self) -> MutexGuard<'_, BTreeMap<(Topic, u32), VecDeque<Flight>>> {
        self.flights.lock().expect("no code panics while it holds the flights")
    }

    fn fails(&self, rate: u32) -> bool {
        !self.network.healed.load(Ordering::Relaxed) && self.rng.per_mille(rate)
    }

    /// A call that waits for the log's answer.
    fn call(&self) -> Result<(), Error> {
        if !self.life.go_on() {
            return Err(Error::Unavailable("the process is dead".into()));
        }
        if self.fails(self.network.unavailable) {
            self.network.note("the log did not answer");
            return Err(Error::Unavailable("no answer in time".into()));
        }
        Ok(())
    }

    /// What others have sent may land at any time.
    fn deliver_late(&self) {
        if !self.network.healed.load(Ordering::Relaxed) && self.rng.per_mille(100) {
            self.network.deliver_late(&self.broker, &self.rng);
        }
    }

    /// The barrier, as a broken log would give it.
    fn mutated(&self, partition: u32, barrier: Barrier) -> Barrier {
        let reported = |topic, barrier| self.old_view(topic, partition).map_or(barrier, |view: View| view.stable);
        match self.mutation {
            Some(Mutation::ChangelogReadShort) => Barrier { state: (barrier.state - 3).max(0), ..barrier },
            Some(Mutation::RestoreBelievesABroker) => Barrier {
                state: reported(Topic::State, barrier.state),
                history: reported(Topic::History, barrier.history),
            },
            _ => barrier,
        }
    }

    /// Takes the end of the commands that a broker reports, for a barrier that is not appended.
    fn reported_end(&self, partition: u32) -> Vec<Appended> {
        let mut guess = self.guess(Topic::Commands, partition, 1);
        if let Some(view) = self.old_view(Topic::Commands, partition) {
            guess[0].offset = view.end;
        }
        guess
    }

    /// What a former leader reports, if this call comes to one.
    fn old_view(&self, topic: Topic, partition: u32) -> Option<View> {
        let view = self.network.woken.view(&self.broker, &self.rng, topic, partition)?;
        self.network.note("a leader of before was asked");
        Some(view)
    }

    /// Lets the next append of a partition land, or acknowledges one that has. Returns whether there was any.
    pub fn deliver(&self) -> bool {
        let mut flights = self.flights();
        flights.retain(|_, queue| !queue.is_empty());
        if flights.is_empty() {
            return false;
        }
        let (topic, partition) = *self.rng.pick(&flights.keys().copied().collect::<Vec<_>>());
        if self.old_view(topic, partition).is_some() {
            // It acknowledges nothing: the client tries again, elsewhere.
            return true;
        }
        let queue = flights.get_mut(&(topic, partition)).expect("it is one of the keys");
        let known = queue[0].outcome.is_some();
        match queue.iter_mut().find(|flight| flight.outcome.is_none()) {
            Some(flight) if !known || self.rng.per_mille(600) => {
                flight.outcome = Some(self.land(topic, partition, &flight.records));
            }
            _ => {
                let flight = queue.pop_front().expect("empty queues are gone");
                drop(flights);
                if let (Some(done), Some(outcome)) = (flight.done, flight.outcome) {
                    done(outcome);
                }
            }
        }
        true
    }

    fn land(&self, topic: Topic, partition: u32, records: &[Record]) -> Result<Vec<Appended>, Error> {
        if self.fails(self.network.append_unknown) {
            self.network.note("an append had an unknown outcome");
            match self.rng.below(3) {
                0 => {}
                1 => drop(self.broker.append(topic, partition, records.to_vec())),
                _ => self.network.late().push((topic, partition, records.to_vec())),
            }
            if self.is(Mutation::UnknownAppendTakenForDone) {
                return Ok(self.guess(topic, partition, records.len()));
            }
            return Err(Error::Unknown { partition, reason: "no answer in time".into() });
        }
        let guess = self.guess(topic, partition, records.len());
        let mut appended = self.broker.append(topic, partition, records.to_vec());
        if self.fails(self.network.append_somewhere) {
            self.network.note("an append landed somewhere");
            let from = self.rng.below(appended.len().max(1));
            appended[from..].fill(Appended::SOMEWHERE);
            if self.is(Mutation::PlaceGuessed) {
                // As if nothing had come in between, and time had stood still.
                for (at, guess) in appended.iter_mut().zip(guess).skip(from) {
                    *at = Appended { timestamp_ms: guess.timestamp_ms - 1, ..guess };
                }
            }
        }
        Ok(appended)
    }

    /// Where records would be put if they were appended now.
    fn guess(&self, topic: Topic, partition: u32, count: usize) -> Vec<Appended> {
        let (next, timestamp_ms) = (self.broker.next(topic, partition), self.broker.clock.now_ms());
        (0..count as i64).map(|index| Appended { offset: next + index, timestamp_ms }).collect()
    }

    /// The process has died: some of what it sent lands, some is lost, some lands later.
    pub fn crash(&self) {
        self.life.end();
        for ((topic, partition), queue) in std::mem::take(&mut *self.flights()) {
            let mut records: Vec<_> = queue.into_iter().filter(|flight| flight.outcome.is_none()).collect();
            if self.is(Mutation::ReplyBeforeDurable) {
                continue;
            }
            let lost = records.split_off(self.rng.below(records.len() + 1));
            for flight in records {
                self.broker.append(topic, partition, flight.records);
            }
            if self.rng.per_mille(500) {
                let rest = lost.into_iter().flat_map(|flight| flight.records).collect();
                self.network.late().push((topic, partition, rest));
            }
        }
    }
}

/// Whether a command changes nothing.
pub fn is_barrier(record: &Record) -> bool {
    let command = record.value.clone().map(Command::decode);
    matches!(command, Some(Ok(Command { body: Some(Body::Barrier(_)), .. })))
}

/// The connection, as the server has it.
pub struct Client(pub Arc<Connection>);

impl Log for Client {
    fn partitions(&self) -> u32 {
        self.0.broker.partitions
    }

    fn topics(&self) -> Vec<Topic> {
        Topic::ALL.into_iter().chain([REPLIES]).collect()
    }

    fn partitions_of(&self, topic: Topic) -> u32 {
        self.0.broker.partitions_of(topic)
    }

    fn topic_id(&self, topic: Topic) -> Result<String, Error> {
        self.0.call()?;
        if self.0.is(Mutation::TopicIdIgnored) {
            return Ok("id0".into());
        }
        Ok(self.0.broker.id(topic))
    }

    fn append(&self, topic: Topic, partition: u32, mut records: Vec<Record>, done: OnAppend) {
        let connection = &self.0;
        if !connection.life.go_on() {
            return;
        }
        if let Some(mutation) = connection.mutation {
            records.iter_mut().for_each(|record| mutation.of_command(record, &connection.rng));
        }
        let mut flights = connection.flights();
        let queue = flights.entry((topic, partition)).or_default();
        if connection.is(Mutation::ReadsBelieveABroker) && queue.is_empty() && records.iter().all(is_barrier) {
            drop(flights);
            return done(Ok(connection.reported_end(partition)));
        }
        if connection.is(Mutation::ReplyBeforeDurable) {
            let before: usize = queue.iter().map(|flight| flight.records.len()).sum();
            let mut guess = connection.guess(topic, partition, records.len());
            guess.iter_mut().for_each(|at| at.offset += before as i64);
            queue.push_back(Flight { records, done: None, outcome: None });
            drop(flights);
            return done(Ok(guess));
        }
        queue.push_back(Flight { records, done: Some(done), outcome: None });
    }

    /// Lands at once, after what was sent before.
    fn append_and_wait(&self, topic: Topic, partition: u32, records: Vec<Record>) -> Result<Vec<Appended>, Error> {
        let connection = &self.0;
        connection.call()?;
        connection.deliver_late();
        if let Some(queue) = connection.flights().get_mut(&(topic, partition)) {
            for flight in queue.iter_mut().filter(|flight| flight.outcome.is_none()) {
                flight.outcome = Some(connection.land(topic, partition, &flight.records));
            }
        }
        let landed = connection.land(topic, partition, &records);
        connection.call()?;
        landed
    }

    fn own(&self, partition: u32) -> Result<Owned, Error> {
        let connection = &self.0;
        connection.call()?;
        let (epoch, barrier) = connection.broker.own(partition);
        connection.ends.lock().expect("no code panics while it holds the ends").remove(&partition);
        // The caller gets no answer, and has fenced the former owner all the same.
        connection.call()?;
        let owner = MemoryOwner { connection: connection.clone(), partition, epoch, unwritten: Vec::new() };
        Ok(Owned { owner: Box::new(owner), barrier: connection.mutated(partition, barrier) })
    }

    fn end_at_least(&self, topic: Topic, partition: u32, isolation: Isolation) -> Result<i64, Error> {
        let connection = &self.0;
        connection.call()?;
        connection.deliver_late();
        let end = || connection.broker.end_offset(topic, partition, isolation);
        Ok(connection.old_view(topic, partition).map_or_else(end, |view| view.end_for(isolation)))
    }

    fn start_offset(&self, topic: Topic, partition: u32) -> Result<i64, Error> {
        self.0.call()?;
        Ok(self.0.broker.start_offset(topic, partition))
    }

    fn reader(
        &self,
        topic: Topic,
        partition: u32,
        from: i64,
        mut isolation: Isolation,
    ) -> Result<Box<dyn Reader>, Error> {
        self.0.call()?;
        if self.0.is(Mutation::AbortedRecordsRead) && matches!(topic, Topic::State | Topic::History) {
            isolation = Isolation::ReadUncommitted;
        }
        // It is called for some seconds, in which most are notified that they lead no more.
        let view = self.0.old_view(topic, partition).filter(|_| self.0.rng.per_mille(200));
        let end = self.0.broker.end_offset(topic, partition, isolation);
        let end = view.map_or(end, |view| view.end_for(isolation));
        if from > end {
            return Err(Error::PastTheEnd { topic, partition, from, end, log: "the simulation".into() });
        }
        let generation = self.0.broker.generation(topic);
        Ok(Box::new(MemoryReader {
            connection: self.0.clone(),
            topic,
            partition,
            next: from,
            isolation,
            generation,
            in_vain: 0,
        }))
    }

    /// Assignments are the scheduler's.
    fn join(&self, _: &Node, _: Arc<dyn Assignee>) -> Result<Box<dyn Member>, Error> {
        Err(Error::Unusable("a simulation has no group to join".into()))
    }

    fn trim(&self, topic: Topic, partition: u32, before: i64) -> Result<(), Error> {
        self.0.call()?;
        let before = if self.0.is(Mutation::TrimmedTooFar) { i64::MAX } else { before };
        self.0.broker.trim(topic, partition, before);
        Ok(())
    }

    fn committed(&self, consumer: &str, topic: Topic, partition: u32) -> Result<Option<i64>, Error> {
        self.0.call()?;
        let of = (consumer.to_owned(), topic, partition);
        let reported = self.0.network.woken.position(&self.0.broker, &self.0.rng, &of);
        Ok(reported.unwrap_or_else(|| self.0.broker.committed(consumer, topic, partition)))
    }

    fn commit_position(&self, consumer: &str, topic: Topic, partition: u32, next: i64) -> Result<(), Error> {
        self.0.call()?;
        self.0.broker.commit_position(consumer, topic, partition, next);
        Ok(())
    }
}

struct MemoryReader {
    connection: Arc<Connection>,
    topic: Topic,
    partition: u32,
    next: i64,
    isolation: Isolation,
    generation: u32,
    /// Reads in a row that brought nothing.
    in_vain: u32,
}

impl Reader for MemoryReader {
    fn next(&mut self, max_records: usize, _wait: Duration) -> Result<Read, Error> {
        let Self { connection, topic, partition, next, isolation, generation, in_vain } = self;
        connection.call()?;
        if connection.broker.generation(*topic) != *generation {
            return Err(Error::Unavailable("the topic is not the one that it was".into()));
        }
        // A log answers with as much as it likes.
        let most = if connection.rng.per_mille(500) { 1 + connection.rng.below(8) } else { max_records };
        let view = connection.old_view(*topic, *partition);
        if view.is_some_and(|view| view.end_for(*isolation) < *next) {
            return Err(Error::Unavailable("the leader has no such offset".into()));
        }
        let mut read = connection.broker.read((*topic, *partition), *next, *isolation, most.min(max_records), view);
        // Nothing happens while it waits: so nothing ever will.
        *in_vain = if read.next_offset > *next || *topic == Topic::Requests { 0 } else { *in_vain + 1 };
        assert!(*in_vain < READS_IN_VAIN_MAX, "{topic:?}-{partition} is read on from {next}, where it ends");
        *next = read.next_offset;
        if connection.is(Mutation::IngressCommitsFirst) && *topic == Topic::Requests {
            let consumer = connection.broker.consumer(*topic);
            connection.broker.commit_position(&consumer, *topic, *partition, *next);
        }
        if connection.is(Mutation::OthersSkipped)
            && *topic == Topic::Commands
            && connection.ends.lock().is_ok_and(|ends| ends.contains_key(partition))
        {
            read.records.clear();
        }
        Ok(read)
    }
}

struct MemoryOwner {
    connection: Arc<Connection>,
    partition: u32,
    epoch: u64,
    /// What was acknowledged as committed, and is not yet.
    unwritten: Vec<(Topic, Record)>,
}

impl Owner for MemoryOwner {
    fn commit(&mut self, mut outputs: Vec<(Topic, Record)>) -> Result<Vec<i64>, Error> {
        if let Some((topic, record)) = outputs.iter().find(|(_, record)| record.size() > large::BYTES_MAX) {
            self.connection.network.note("the log was to take too large a record");
            return Err(Error::TooLarge { topic: *topic, size: record.size(), limit: large::BYTES_MAX });
        }
        let (connection, partition) = (self.connection.clone(), self.partition);
        connection.call()?;
        let broker = &connection.broker;
        if self.epoch != broker.epoch(partition) && !connection.is(Mutation::FenceSkipped) {
            connection.network.note("an owner was fenced");
            return Err(Error::Fenced { partition });
        }
        // The replay of the commands is over: the commits of its outcome begin.
        let end = broker.end_offset(Topic::Commands, partition, Isolation::ReadUncommitted);
        connection.ends.lock().expect("no code panics while it holds the ends").entry(partition).or_insert(end);
        if connection.is(Mutation::StoreWrittenFirst) {
            let written = std::mem::replace(&mut self.unwritten, outputs.clone());
            if !written.is_empty() {
                broker.transact(partition, written, true);
            }
            let mut next = BTreeMap::new();
            let at = |(topic, _): &(Topic, Record)| {
                let next = next.entry(*topic).or_insert_with(|| broker.next(*topic, partition));
                *next += 1;
                *next - 1
            };
            return Ok(outputs.iter().map(at).collect());
        }
        if connection.fails(connection.network.commit_unknown) {
            connection.network.note("a commit had an unknown outcome");
            let offsets = broker.transact(partition, outputs, connection.rng.per_mille(500));
            if connection.is(Mutation::UnknownCommitTakenForDone) {
                return Ok(offsets);
            }
            return Err(Error::Unknown { partition, reason: "no answer in time".into() });
        }
        if connection.is(Mutation::TransactionSplit) && outputs.len() > 1 {
            let rest = outputs.split_off(outputs.len() / 2);
            let mut offsets = broker.transact(partition, outputs, true);
            connection.call()?;
            offsets.extend(broker.transact(partition, rest, true));
            return Ok(offsets);
        }
        let offsets = broker.transact(partition, outputs, true);
        if !connection.life.go_on() {
            connection.network.note("a process died between a commit and its store");
            return Err(Error::Unavailable("the process is dead".into()));
        }
        Ok(offsets)
    }
}
