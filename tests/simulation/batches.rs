//! Batches, a kind of entity beside workflows: clients start and stop them, and they apply operations to many workflows. What each is to
//! be applied to is listed by the nodes, as batches want it: here in pages of any size, late, twice, or never.
//!
//! They draw from random numbers of their own, so that worlds without them are what they are without this file.

use std::sync::mpsc::{Receiver, TryRecvError, channel};

use millrace::engine::batch::{TARGETS_MAX, WantedPage};
use millrace::engine::{EntityId, Kind, State};
use millrace::partition::Core;
use millrace::proto::batch::{AddBatchPage, Head, StartBatch, StopBatch};
use millrace::proto::commands::command::Body;
use millrace::proto::temporal::batch::v1::{
    BatchOperationCancellation, BatchOperationDeletion, BatchOperationSignal, BatchOperationTermination,
};
use millrace::proto::temporal::common::v1::Execution;
use millrace::proto::temporal::enums::v1::{BatchOperationType as Type, ExecutionType};
use millrace::proto::temporal::workflowservice::v1::{
    StartBatchOperationRequest, StopBatchOperationRequest, start_batch_operation_request::Operation,
};

use crate::machine::{Process, namespace};
use crate::random::Rng;
use crate::requests::Requests;
use crate::workers::{WORKFLOWS, child_id, payloads, workflow_id};
use crate::world::World;

/// In so many of a thousand steps, a client requests something.
const ASKED: u32 = 6;
const REQUESTS_MAX: usize = 25;
/// Workflows that are named, and that nobody ever starts.
const UNKNOWN: usize = 3;
/// In so many of a thousand steps, a node looks whether batches want pages.
const LOOKED: u32 = 100;
/// How long it takes to list a page, mostly, and sometimes. Milliseconds of the true time.
const LISTED_MS: i64 = 30;
const LISTED_LATE_MS: i64 = 5000;
/// Why a page can't be listed, if it can't.
const PROBLEM: &str = "the query can't be read";

pub struct Batches {
    happen: bool,
    /// Those of clients.
    pub requests: Requests,
    /// The pages that nodes add.
    pub pages: Requests,
    /// What batches want, which nodes have asked them for.
    wanted: Vec<(EntityId, Receiver<Option<WantedPage>>)>,
    /// Pages that nodes are at, with the moments at which they add them.
    listed: Vec<(i64, EntityId, AddBatchPage)>,
}

/// In a fifth of the worlds, none of which has counters or schedules.
pub fn happens(seed: u64) -> bool {
    matches!(seed % 10, 2 | 4)
}

/// The executions that a batch is to be applied to: no two are of the same workflow.
pub fn executions(start: &StartBatch) -> &[Execution] {
    start.request.as_ref().map_or(&[], |request| &request.target_executions)
}

impl Batches {
    pub fn new(seed: u64) -> Self {
        let rng = Rng::new(seed.rotate_left(16));
        let pages = Requests::new(rng.fork());
        Self { happen: happens(seed), requests: Requests::new(rng), pages, wanted: Vec::new(), listed: Vec::new() }
    }

    pub fn happen(&self) -> bool {
        self.happen
    }

    /// Whether a client waits for an answer, or a node is at a page.
    pub fn has_callers(&self) -> bool {
        self.requests.has_callers() || self.pages.has_callers() || !self.wanted.is_empty() || !self.listed.is_empty()
    }

    /// The start of a batch, which clients have requested before.
    pub fn start_of(&self, job_id: &str) -> Option<&StartBatch> {
        self.requests.asked.iter().find_map(|asked| match &asked.body {
            Body::StartBatch(start) if *asked.entity.id == *job_id => Some(start),
            _ => None,
        })
    }

    /// The next request: to a new batch, or one of those that there are.
    fn next(&self, known: impl Fn(&str) -> Vec<String>) -> (String, Body) {
        let rng = &self.requests.rng;
        let is_start = |body: &Body| matches!(body, Body::StartBatch(_));
        let started: Vec<_> = self.requests.asked.iter().filter(|asked| is_start(&asked.body)).collect();
        if started.is_empty() || rng.per_mille(600) {
            let job_id = format!("batch-{}", started.len());
            let start = self.start(&job_id, known);
            return (job_id, Body::StartBatch(start));
        }
        let asked = *rng.pick(&started);
        let job_id = asked.entity.id.to_string();
        if rng.per_mille(200) {
            // Another client starts the same.
            return (job_id, asked.body.clone());
        }
        let request = StopBatchOperationRequest {
            namespace: namespace().name,
            job_id: job_id.clone(),
            reason: "enough".into(),
            identity: "client".into(),
        };
        (job_id, Body::StopBatch(StopBatch { request: Some(request) }))
    }

    fn start(&self, job_id: &str, known: impl Fn(&str) -> Vec<String>) -> StartBatch {
        let rng = &self.requests.rng;
        let mut workflows: Vec<String> =
            (0..WORKFLOWS).flat_map(|number| [workflow_id(number), child_id(number)]).collect();
        workflows.extend((0..UNKNOWN).map(|number| format!("unknown-{number}")));
        let count = 1 + rng.below(workflows.len());
        let target_executions = (0..count).map(|_| {
            let business_id = workflows.swap_remove(rng.below(workflows.len()));
            let known = if rng.per_mille(800) { Vec::new() } else { known(&business_id) };
            let run_id = if known.is_empty() { String::new() } else { rng.pick(&known).clone() };
            Execution { r#type: ExecutionType::Workflow as i32, business_id, run_id }
        });
        let target_executions = target_executions.collect();
        let (operation_type, operation) = operation(rng, job_id);
        StartBatch {
            request: Some(StartBatchOperationRequest {
                namespace: namespace().name,
                job_id: job_id.to_owned(),
                reason: "a fault".into(),
                operation: Some(operation),
                target_executions,
                ..StartBatchOperationRequest::default()
            }),
            operation_type: operation_type as i32,
            identity: job_id.to_owned(),
            query: String::new(),
            operations_per_interval: rng.between(1, 3),
            interval_ms: rng.between(50, 500),
        }
    }
}

/// What a batch does is known by its id: as the signal's name and input, or as the caller's identity.
fn operation(rng: &Rng, job_id: &str) -> (Type, Operation) {
    let identity = job_id.to_owned();
    match rng.below(20) {
        0..=10 => {
            let (signal, input) = (job_id.to_owned(), Some(payloads(job_id.to_owned())));
            let signal = BatchOperationSignal { signal, input, identity, ..BatchOperationSignal::default() };
            (Type::SignalWorkflow, Operation::SignalOperation(signal))
        }
        11..=14 => (Type::CancelWorkflow, Operation::CancellationOperation(BatchOperationCancellation { identity })),
        15..=17 => {
            let termination = BatchOperationTermination { identity, ..BatchOperationTermination::default() };
            (Type::TerminateWorkflow, Operation::TerminationOperation(termination))
        }
        _ => (Type::DeleteWorkflow, Operation::DeletionOperation(BatchOperationDeletion { identity })),
    }
}

/// A page as a node lists it. The first execution may be one that the operation can't be applied to, and there may be no page at all.
fn list(wanted: &WantedPage, rng: &Rng) -> AddBatchPage {
    let mut page = wanted.of_executions(TARGETS_MAX);
    if rng.per_mille(30) {
        let AddBatchPage { run_id, page, .. } = page;
        return AddBatchPage { run_id, page, problem: PROBLEM.into(), ..AddBatchPage::default() };
    }
    let from = wanted.token.as_ref().try_into().map_or(0, u64::from_be_bytes);
    let count = rng.below(page.targets.len() + 1);
    if rng.per_mille(700) && count < page.targets.len() {
        page.targets.truncate(count);
        page.next_page_token = (from + count as u64).to_be_bytes().to_vec().into();
    }
    if rng.per_mille(50) && !page.targets.is_empty() {
        page.targets.remove(0);
        page.failed = 1;
    }
    page
}

/// Asks a batch which page it wants, as a node does.
fn ask(process: &Process, batch: &EntityId) -> Receiver<Option<WantedPage>> {
    let (sender, answer) = channel();
    let key = batch.clone();
    let read = move |core: &mut Core| {
        if let Ok(Some(State::Batch(batch))) = core.state(&key, "") {
            drop(sender.send(batch.wanted_page()));
        }
    };
    process.node.owner_of(batch).read(Box::new(read));
    answer
}

impl World {
    /// Clients request something, and nodes list what batches are to be applied to.
    pub fn step_batches(&mut self) {
        let finish = self.finish;
        self.batches.requests.receive(&self.machines);
        if !finish && self.batches.requests.rng.per_mille(ASKED) && self.batches.requests.asked.len() < REQUESTS_MAX {
            let (job_id, body) = self.batches.next(|workflow_id| self.known_runs(workflow_id));
            let entity = EntityId::batch(&namespace().id, &job_id);
            self.batches.requests.ask(&self.machines, entity, body);
        }
        self.take_wanted();
        self.list_pages();
        let Batches { pages, listed, .. } = &mut self.batches;
        pages.receive(&self.machines);
        let now = self.time.elapsed_ms();
        for (_, batch, page) in listed.extract_if(.., |(due, _, _)| *due <= now) {
            pages.ask(&self.machines, batch, Body::AddBatchPage(page));
        }
    }

    /// Nodes take the batches that want a page, and ask them which. One may forget what it has taken.
    fn take_wanted(&mut self) {
        let Batches { pages, wanted, .. } = &mut self.batches;
        for process in self.machines.iter().filter_map(|machine| machine.process.as_ref()) {
            if !self.finish && !pages.rng.per_mille(LOOKED) {
                continue;
            }
            while let Some(batch) = process.node.wanted_pages.take() {
                if !self.finish && pages.rng.per_mille(100) {
                    self.cluster.network.note("a page that a batch wanted was not listed");
                    continue;
                }
                wanted.push((batch.clone(), ask(process, &batch)));
            }
        }
    }

    /// Nodes list the pages that batches want.
    fn list_pages(&mut self) {
        let now = self.time.elapsed_ms();
        let Batches { pages, wanted, listed, .. } = &mut self.batches;
        let rng = &pages.rng;
        wanted.retain(|(batch, answer)| match answer.try_recv() {
            Ok(None) | Err(TryRecvError::Disconnected) => false,
            Err(TryRecvError::Empty) => true,
            Ok(Some(wanted)) => {
                // Two nodes may list the same page, and find another one each.
                let times = if rng.per_mille(200) { 2 } else { 1 };
                for _ in 0..times {
                    let most = if !self.finish && rng.per_mille(100) { LISTED_LATE_MS } else { LISTED_MS };
                    listed.push((now + rng.between(0, most), batch.clone(), list(&wanted, rng)));
                }
                if times > 1 {
                    self.cluster.network.note("a page of a batch was listed twice");
                }
                false
            }
        });
    }

    /// The batches that are not done, as their owners have them.
    pub fn open_batches(&self) -> Vec<Head> {
        self.heads_of(Kind::Batch).filter(|head: &Head| head.close_ms == 0).collect()
    }
}
