//! A world: machines, the log, clients, workers and producers, and a scheduler that chooses from a seed who takes the next
//! step, and what goes wrong.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use millrace::engine::{FOLD_VERSION_MAX, Kind, SubKey};
use millrace::log::{Isolation, Topic};
use millrace::partition::Handle;
use millrace::store::keys;

use crate::batches::Batches;
use crate::broker::Broker;
use crate::callers::{self, Produced};
use crate::calls::{Answer, Call, Journal, Op, Performed, Task, is_doubtful};
use crate::clock::{Clock, Time};
use crate::connection::Network;
use crate::counters::{self, Counters};
use crate::disk::Disk;
use crate::large;
use crate::machine::{Binaries, Cluster, Machine, Process};
use crate::mutations::Mutation;
use crate::random::Rng;
use crate::schedules::{self, Schedules};
use crate::slow;
use crate::upgrades;
use crate::workers::{self, Mind, WORKERS};
use tonic::Code;

/// Steps in which things go wrong.
const STEPS: u64 = 4000;
const CALLS: usize = 80;
const PRODUCED: usize = 20;
/// Calls of clients that are under way at once.
const AT_ONCE: usize = 6;
/// Calls that wait for tasks.
const POLLS: usize = 24;
const HOUR_MS: i64 = 3_600_000;
/// How wrong a clock may be: the age of a store is measured by its node's, and that of deletions by the broker's.
pub const CLOCK_WRONG_MS_MAX: i64 = 5 * HOUR_MS;

enum Caller {
    Client,
    Worker(usize),
}

struct Running {
    performed: Performed,
    call: Call,
    by: Caller,
    invoked: u64,
    attempts: u32,
}

pub struct World {
    pub rng: Rng,
    pub time: Arc<Time>,
    pub cluster: Cluster,
    pub machines: Vec<Machine>,
    /// The machine that should own each partition now.
    pub assigned: Vec<usize>,
    pub journal: Journal,
    pub produced: Vec<Produced>,
    running: Vec<Running>,
    /// Tasks that workers are at, with the moment at which they answer.
    at_work: Vec<(i64, usize, Task)>,
    calls_left: usize,
    /// How much goes wrong of what might: so many times in a thousand.
    trouble: u32,
    pub step: u64,
    /// Binaries are exchanged.
    pub upgraded: bool,
    /// Workflows note much about themselves.
    large: bool,
    /// Commits are slower than decisions.
    slow: bool,
    pub finish: bool,
    pub counters: Counters,
    pub schedules: Schedules,
    pub batches: Batches,
}

impl World {
    pub fn new(seed: u64, mutation: Option<Mutation>) -> Self {
        let rng = Rng::new(seed);
        let time = Arc::new(Time::default());
        let clock = Arc::new(Clock::new(time.clone()));
        let (partitions, machines) = (1 + rng.below(3) as u32, 1 + rng.below(3));
        let trouble = *rng.pick(&[0, 100, 300, 700]);
        let network = Arc::new(Network::new(&rng));
        let broker = Arc::new(Broker::new(partitions, clock, rng.fork()));
        let machine = |number| {
            let clock = Arc::new(Clock::new(time.clone()));
            Machine { number, clock, disk: Arc::new(Disk::default()), process: None }
        };
        let machines: Vec<Machine> = (0..machines).map(machine).collect();
        let upgraded = upgrades::happen(seed);
        let oldest = if upgraded { FOLD_VERSION_MAX - 1 } else { FOLD_VERSION_MAX };
        let binaries = Arc::new(Binaries::new(machines.len(), oldest));
        Self {
            assigned: (0..partitions).map(|_| rng.below(machines.len())).collect(),
            cluster: Cluster { broker, network, owners: Arc::default(), begun: Instant::now(), binaries, mutation },
            rng,
            time,
            machines,
            journal: Journal::default(),
            produced: Vec::new(),
            running: Vec::new(),
            at_work: Vec::new(),
            calls_left: CALLS,
            trouble,
            step: 0,
            upgraded,
            large: large::happens(seed),
            slow: slow::happens(seed),
            finish: false,
            counters: Counters::new(seed),
            schedules: Schedules::new(seed),
            batches: Batches::new(seed),
        }
    }

    /// Lets things happen, and go wrong.
    pub fn run(&mut self) {
        while self.step < STEPS {
            self.step += 1;
            self.pass_time();
            if self.upgraded {
                self.upgrade();
            }
            if self.batches.happen() {
                self.step_batches();
            }
            match self.rng.below(100) {
                0..=34 => self.node_step(),
                35..=54 => self.deliver(),
                55..=59 => self.ingest(),
                60..=79 => (0..4).for_each(|_| self.poll_one()),
                80..=87 => self.worker_step(),
                88..=92 => self.client_step(),
                // In worlds without counters nothing is drawn for them.
                _ if self.counters.happen() && self.step.is_multiple_of(counters::EVERY) => self.ask_counters(),
                _ if self.schedules.happen() && self.step.is_multiple_of(schedules::EVERY) => self.ask_schedules(),
                93..=94 if self.produced.len() < PRODUCED => {
                    self.produced.push(callers::produce(&self.rng, &self.cluster.broker));
                }
                95..=97 if self.rng.per_mille(self.trouble) => self.go_wrong(),
                _ => {}
            }
        }
    }

    fn pass_time(&mut self) {
        match self.rng.below(1000) {
            0 => self.time.pass(self.rng.between(500, 4000)),
            1..=15 => self.time.pass(self.rng.between(5, 150)),
            16..=400 => self.time.pass(self.rng.between(1, 3)),
            _ => {}
        }
    }

    /// The heads of the runs of one kind, as their owners have them.
    pub fn heads_of<M: prost::Message + Default>(&self, kind: Kind) -> impl Iterator<Item = M> {
        let of_owner = |partition| self.machines[self.assigned[partition as usize]].disk.records(partition);
        (0..self.partitions()).flat_map(of_owner).filter_map(move |(key, value)| {
            let keys::Parsed { entity, record: Some((_, SubKey::Head)) } = keys::parse(&key)? else { return None };
            (entity.kind == kind).then(|| M::decode(value).expect("a head can be read"))
        })
    }

    pub fn partitions(&self) -> u32 {
        self.cluster.broker.partitions
    }

    pub fn a_partition(&self) -> u32 {
        self.rng.below(self.partitions() as usize) as u32
    }

    fn a_machine(&self) -> usize {
        self.rng.below(self.machines.len())
    }

    /// A machine's node does something, if only that it starts.
    fn node_step(&mut self) {
        let (machine, partition) = (self.a_machine(), self.a_partition());
        if self.machines[machine].process.is_none() {
            if self.rng.per_mille(300) {
                self.start(machine);
            }
            return;
        }
        let assigned = self.assigned[partition as usize] == machine;
        let max = if self.rng.per_mille(500) { 1 + self.rng.below(3) } else { 512 };
        let (choice, learns) = (self.rng.below(22), self.rng.per_mille(15));
        let unheard = self.rng.per_mille(30);
        let refused = self.rng.per_mille(150);
        let to = if refused { None } else { self.owner(partition) };
        let Some(process) = &mut self.machines[machine].process else { return };
        if !process.owns(partition) {
            match assigned && choice < 6 {
                // It may fail, and is tried again.
                true => {
                    let taken = process.take_over(partition);
                    if taken.is_err_and(|error| error.contains("fold version")) {
                        self.note("a node refused a version that it does not know");
                    }
                }
                false if !assigned && choice >= 19 => {
                    process.follow(partition);
                    self.note("a standby followed");
                }
                false => process.pass_on(partition, to.as_ref()),
            }
        } else if !assigned && learns {
            process.give_up(partition);
            self.note("an owner heard that it is none");
        } else {
            match choice {
                0..=9 => drop(process.turn(partition, max)),
                10..=11 => drop(process.list(partition)),
                12..=16 if self.slow && self.rng.below(slow::ONE_COMMIT_IN) > 0 => {}
                12..=16 => drop(process.commit(partition)),
                17..=18 => drop(process.look(partition)),
                19 => process.node.matching.tick(),
                _ => self.cluster.owners.announce(machine, &process.node, unheard),
            }
        }
        self.bury(machine);
    }

    /// Speaks to the node that owns a partition by right.
    fn owner(&self, partition: u32) -> Option<Handle> {
        let process = self.machines[self.assigned[partition as usize]].process.as_ref()?;
        process.owns(partition).then(|| process.node.partition(partition).clone())
    }

    fn start(&mut self, machine: usize) {
        self.machines[machine].process = Some(Process::start(&self.cluster, &self.machines[machine], &self.rng));
    }

    pub fn note(&self, what: &'static str) {
        self.cluster.network.note(what);
    }

    /// Takes a process away that has died.
    fn bury(&mut self, machine: usize) {
        if self.machines[machine].process.as_ref().is_some_and(|process| process.life.is_over()) {
            self.crash(machine);
        }
    }

    pub fn crash(&mut self, machine: usize) {
        if let Some(process) = self.machines[machine].process.take() {
            self.note("a process died");
            process.connection.crash();
            drop(process);
            self.machines[machine].disk.crash();
        }
    }

    fn deliver(&mut self) {
        let machine = self.a_machine();
        if let Some(process) = &self.machines[machine].process {
            process.connection.deliver();
        }
    }

    fn ingest(&mut self) {
        let (machine, partition) = (self.a_machine(), self.a_partition());
        if let Some(process) = &mut self.machines[machine].process {
            process.ingest(partition);
        }
        self.bury(machine);
    }

    fn compact(&self) {
        for partition in 0..self.cluster.broker.partitions {
            for topic in [Topic::State, Topic::History] {
                self.cluster.broker.compact(topic, partition);
            }
        }
    }

    fn go_wrong(&mut self) {
        let machine = self.a_machine();
        match self.rng.below(30) {
            0..=1 => self.crash(machine),
            2..=4 => {
                if let Some(process) = &self.machines[machine].process {
                    process.life.end_after(self.rng.between(1, 12));
                }
            }
            5..=8 => {
                let partition = self.a_partition();
                self.assigned[partition as usize] = machine;
            }
            9..=10 => {
                let far = if self.rng.per_mille(100) { CLOCK_WRONG_MS_MAX } else { 60_000 };
                self.machines[machine].clock.skew(self.rng.between(-60_000, far));
                self.note("a node's clock jumped");
            }
            11..=12 => {
                let far = if self.rng.per_mille(100) { CLOCK_WRONG_MS_MAX } else { 20_000 };
                self.cluster.broker.clock.skew(self.rng.between(-20_000, far));
                self.note("the broker's clock jumped");
            }
            13 if self.rng.per_mille(300) => {
                self.crash(machine);
                self.machines[machine].disk.lose_lists();
                self.note("the files of lists were lost");
            }
            13 => {
                self.crash(machine);
                self.machines[machine].disk.lose();
                self.note("a disk was lost");
            }
            14 if self.rng.per_mille(150) => {
                self.cluster.broker.recreate(Topic::Requests);
                self.note("a topic was created again");
            }
            14 if self.rng.per_mille(200) => {
                // The brokers go on: they compact at its begin and at its end.
                self.compact();
                self.time.pass(self.rng.between(10, 40) * HOUR_MS);
                self.compact();
                self.note("nobody did anything for a long time");
            }
            15..=18 => {
                let topic = *self.rng.pick(&[Topic::State, Topic::History]);
                self.cluster.broker.compact(topic, self.a_partition());
            }
            19..=20 => drop(self.cluster.network.deliver_late(&self.cluster.broker, &self.rng)),
            21..=26 => self.pause_or_wake_broker(machine),
            _ => self.lose_caller(),
        }
    }

    /// Nodes lose partitions as a broker is paused and resumed, which reports an old state to some of them.
    fn pause_or_wake_broker(&mut self, machine: usize) {
        let Cluster { broker, network, .. } = &self.cluster;
        let what = network.woken.pause_or_wake(broker, &self.rng, self.time.elapsed_ms());
        self.note(what);
        if self.rng.per_mille(500) {
            let partition = self.a_partition();
            self.assigned[partition as usize] = machine;
        }
    }

    /// A poller that waits for a task goes away.
    fn lose_caller(&mut self) {
        let polls: Vec<_> = (0..self.running.len()).filter(|index| self.running[*index].call.is_poll()).collect();
        if !polls.is_empty() {
            let gone = *self.rng.pick(&polls);
            drop(self.running.swap_remove(gone));
            self.note("a caller has gone");
        }
    }

    fn client_step(&mut self) {
        let under_way = self.running.iter().filter(|running| matches!(running.by, Caller::Client)).count();
        if under_way < AT_ONCE && self.calls_left > 0 {
            self.calls_left -= 1;
            let call = callers::call(&self.rng, |workflow_id| self.known_runs(workflow_id));
            self.begin(call, Caller::Client, 0);
        }
    }

    /// The runs of a workflow that workers were handed tasks of, the oldest first.
    pub fn known_runs(&self, workflow_id: &str) -> Vec<String> {
        let mut known: Vec<String> = Vec::new();
        for (_, task) in &self.journal.handed {
            let Task::Workflow(task) = task else { continue };
            let Some(execution) = &task.workflow_execution else { continue };
            if execution.workflow_id == workflow_id && !known.contains(&execution.run_id) {
                known.push(execution.run_id.clone());
            }
        }
        known
    }

    pub fn client_call(&mut self, call: Call) {
        self.begin(call, Caller::Client, 0);
    }

    fn worker_step(&mut self) {
        let now = self.time.elapsed_ms();
        if let Some(due) = (0..self.at_work.len()).find(|index| self.at_work[*index].0 <= now) {
            let (_, worker, task) = self.at_work.swap_remove(due);
            let mind = Mind { rng: &self.rng, worker, finish: self.finish, large: self.large };
            if let Some(answer) = mind.answer(&task) {
                self.begin(answer, Caller::Worker(worker), 0);
            }
            return;
        }
        if self.running.iter().filter(|running| running.call.is_poll()).count() < POLLS {
            let worker = self.rng.below(WORKERS);
            let poll = workers::poll(&self.rng, worker);
            self.begin(poll, Caller::Worker(worker), 0);
        }
    }

    /// Calls some node.
    fn begin(&mut self, call: Call, by: Caller, attempts: u32) {
        let up: Vec<_> = self.machines.iter().filter_map(|machine| machine.process.as_ref()).collect();
        let performed: Performed = if up.is_empty() {
            Box::pin(std::future::ready(Err(tonic::Status::unavailable("nobody is there"))))
        } else {
            let mut sent = call.clone();
            if let Some(mutation) = self.cluster.mutation {
                mutation.of_call(&mut sent);
            }
            sent.perform(self.rng.pick(&up).service.clone())
        };
        self.running.push(Running { performed, call, by, invoked: self.step, attempts: attempts + 1 });
    }

    fn poll_one(&mut self) {
        if !self.running.is_empty() {
            let index = self.rng.below(self.running.len());
            self.poll(index);
        }
    }

    /// Looks whether a call has its answer.
    fn poll(&mut self, index: usize) -> bool {
        let mut context = Context::from_waker(Waker::noop());
        let Poll::Ready(outcome) = self.running[index].performed.as_mut().poll(&mut context) else { return false };
        let Running { call, by, invoked, attempts, .. } = self.running.swap_remove(index);
        let refused = |status: &tonic::Status| status.message() == "UnhandledCommand";
        let outcome = match outcome {
            Err(status) if self.cluster.mutation == Some(Mutation::RefusalNotTold) && refused(&status) => {
                Ok(Answer::TaskCompleted(Box::default()))
            }
            outcome => outcome,
        };
        if let (Caller::Worker(worker), Ok(answer)) = (&by, &outcome) {
            self.take_tasks(*worker, answer);
        }
        if call.is_poll() {
            return true;
        }
        if outcome.as_ref().is_err_and(|status| status.code() == Code::ResourceExhausted) {
            self.note("a command was refused because commits did not keep up");
        }
        match outcome {
            Err(status) if is_doubtful(&status) && !matches!(call, Call::Query(_)) => self.begin(call, by, attempts),
            outcome => {
                let completed = self.step;
                self.journal.ops.push(Op { call, invoked, completed, attempts, outcome });
            }
        }
        true
    }

    /// Takes note of the tasks in an answer, and lets the worker begin with them.
    fn take_tasks(&mut self, worker: usize, answer: &Answer) {
        let mut tasks = Vec::new();
        match answer {
            Answer::WorkflowTask(task) if !task.task_token.is_empty() => tasks.push(Task::Workflow(task.clone())),
            Answer::ActivityTask(task) if !task.task_token.is_empty() => tasks.push(Task::Activity(task.clone())),
            Answer::TaskCompleted(response) => {
                tasks.extend(response.workflow_task.clone().map(|task| Task::Workflow(Box::new(task))));
                tasks.extend(response.activity_tasks.iter().cloned().map(|task| Task::Activity(Box::new(task))));
            }
            _ => {}
        }
        for task in tasks {
            if self.cluster.mutation == Some(Mutation::OfferDeliveredTwice) && self.rng.per_mille(100) {
                self.journal.handed.push(((worker + 1) % WORKERS, task.clone()));
            }
            self.journal.handed.push((worker, task.clone()));
            let slow = if !self.finish && self.rng.per_mille(100) { 3000 } else { 30 };
            self.at_work.push((self.time.elapsed_ms() + self.rng.between(0, slow), worker, task));
        }
    }

    /// What has gone wrong is put right: all machines are up, their clocks are right, and who owns what is clear.
    pub fn heal(&mut self) {
        self.cluster.network.healed.store(true, Ordering::Relaxed);
        self.cluster.broker.clock.skew(0);
        self.cluster.network.woken.forget();
        while self.cluster.network.deliver_late(&self.cluster.broker, &self.rng) {}
        for machine in 0..self.machines.len() {
            self.machines[machine].clock.skew(0);
            if self.cluster.binaries.newest(machine) < FOLD_VERSION_MAX {
                self.install(machine, FOLD_VERSION_MAX);
            }
            if self.machines[machine].process.is_none() {
                self.start(machine);
            }
            let Some(process) = &mut self.machines[machine].process else { continue };
            process.life.end_after(0);
            for partition in 0..self.assigned.len() as u32 {
                if self.assigned[partition as usize] != machine {
                    process.give_up(partition);
                }
            }
        }
    }

    /// Everybody does all that there is to do, and some time passes.
    pub fn round(&mut self) {
        self.step += 1;
        for machine in 0..self.machines.len() {
            for partition in 0..self.partitions() {
                let assigned = self.assigned[partition as usize] == machine;
                let to = self.owner(partition);
                let Some(process) = &mut self.machines[machine].process else { continue };
                while process.connection.deliver() {}
                if !process.owns(partition) && assigned {
                    drop(process.take_over(partition));
                }
                if process.owns(partition) {
                    process.turn(partition, 512);
                    process.commit(partition);
                    process.look(partition);
                    process.turn(partition, 512);
                    process.list(partition);
                } else {
                    process.pass_on(partition, to.as_ref());
                }
                process.ingest(partition);
                process.node.matching.tick();
                self.cluster.owners.announce(machine, &process.node, false);
            }
            self.bury(machine);
        }
        let mut index = 0;
        while index < self.running.len() {
            index += usize::from(!self.poll(index));
        }
        for _ in 0..3 {
            self.worker_step();
        }
        if self.counters.happen() {
            self.counters.requests.receive(&self.machines);
        }
        if self.schedules.happen() {
            self.schedules.requests.receive(&self.machines);
        }
        if self.batches.happen() {
            self.step_batches();
        }
        self.time.pass(10);
    }

    /// Callers other than those that wait for tasks, or for a worker's answer, which may be gone.
    pub fn has_callers(&self) -> bool {
        let waits =
            |running: &Running| !running.call.is_poll() && !matches!(running.call, Call::Query(_) | Call::Update(_));
        !self.at_work.is_empty() || self.running.iter().any(waits)
    }

    /// Callers of updates that wait.
    pub fn has_updates(&self) -> bool {
        self.running.iter().any(|running| matches!(running.call, Call::Update(_)))
    }

    /// What is still under way, for people.
    pub fn under_way(&self) -> String {
        let calls: Vec<_> = self.running.iter().filter(|running| !running.call.is_poll()).collect();
        let calls: Vec<_> =
            calls.iter().map(|running| (running.attempts, format!("{:.200}", format!("{:?}", running.call)))).collect();
        let partitions: Vec<_> = (0..self.partitions())
            .map(|partition| {
                let broker = &self.cluster.broker;
                let machine = self.assigned[partition as usize];
                let owned = self.machines[machine]
                    .process
                    .as_ref()
                    .map(|process| (process.owns(partition), process.node.position(partition)));
                (
                    machine,
                    owned,
                    broker.end_offset(Topic::Commands, partition, Isolation::ReadUncommitted),
                    broker.committed(&broker.consumer(Topic::Requests), Topic::Requests, partition),
                    broker.end_offset(Topic::Requests, partition, Isolation::ReadCommitted),
                )
            })
            .collect();
        format!("tasks {:?}, calls {calls:?}, partitions {partitions:?}", self.at_work.len())
    }

    /// Records of `requests` that have not been decided yet.
    pub fn has_requests(&self) -> bool {
        let broker = &self.cluster.broker;
        let consumer = broker.consumer(Topic::Requests);
        (0..self.partitions()).any(|partition| {
            let end = broker.end_offset(Topic::Requests, partition, Isolation::ReadCommitted);
            end > 0 && broker.reached(&consumer, Topic::Requests, partition).is_none_or(|next| next < end)
        })
    }
}
