//! Queries to a workflow's worker, which are not logged. They are attached to a workflow task if one is under way, else they are
//! a task of their own.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use prost::Message as _;
use tokio::sync::oneshot;

use crate::engine::EntityId;
use crate::engine::workflow::Run;
use crate::matching::Query;
use crate::partition::Core;
use crate::proto::commands::Command;
use crate::proto::temporal::common::v1::Payloads;
use crate::proto::temporal::enums::v1::QueryResultType;
use crate::proto::temporal::failure::v1::Failure;
use crate::proto::temporal::query::v1::{WorkflowQuery, WorkflowQueryResult};
use crate::types::limits;

/// Why a query has no answer.
#[derive(Clone, Debug)]
pub enum QueryFailure {
    NotFound,
    /// No worker can answer for the run as it is.
    NotReady(&'static str),
    /// The worker answered with an error.
    Failed {
        message: String,
        failure: Option<Box<Failure>>,
    },
    /// The worker's answer is over the limit on sizes.
    TooLarge,
}

pub type QueryAnswer = Result<Option<Payloads>, QueryFailure>;

struct Pending {
    query: WorkflowQuery,
    answer: oneshot::Sender<QueryAnswer>,
    /// When to offer it again, and after how long that is.
    retry: Option<(Instant, Duration)>,
}

/// A query that went through another node is offered again if it has no answer after this long, then after twice as long.
const RETRY_AFTER: Duration = Duration::from_secs(2);

/// How long a query waits at most, in milliseconds: for a first workflow task that is scheduled later it does not wait at all.
pub const QUERY_WAIT_MS_MAX: i64 = 30_000;

/// A run whose workflow task is at this attempt is not queried, as with Temporal's server: what fails its tasks fails queries.
const ATTEMPT_FAILED: i32 = 3;

/// The queries of one run that are under way.
#[derive(Default)]
pub struct RunQueries {
    /// Wait for the next workflow task.
    waiting: BTreeMap<u64, Pending>,
    /// Attached to the started workflow task, or with a worker as tasks of their own.
    attached: BTreeMap<u64, Pending>,
    direct: BTreeMap<u64, Pending>,
}

impl RunQueries {
    fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.attached.is_empty() && self.direct.is_empty()
    }
}

/// The queries under way, by workflow and by run: no other run may answer one.
pub struct Queries {
    runs: HashMap<EntityId, BTreeMap<String, RunQueries>>,
    /// The last id that was assigned. It begins at random: an answer to a former owner's query must not be taken for one to this
    /// owner's.
    last: u64,
}

impl Queries {
    pub fn new(last: u64) -> Self {
        Self { runs: HashMap::new(), last }
    }

    fn of(&mut self, key: &EntityId, run_id: &str) -> &mut RunQueries {
        self.runs.entry(key.clone()).or_default().entry(run_id.to_owned()).or_default()
    }

    fn find(&mut self, key: &EntityId, run_id: &str) -> Option<&mut RunQueries> {
        self.runs.get_mut(key)?.get_mut(run_id)
    }

    /// Removes runs, and workflows, without queries.
    fn tidy(&mut self, key: &EntityId) {
        if let Some(runs) = self.runs.get_mut(key) {
            runs.retain(|_, queries| !queries.is_empty());
            if runs.is_empty() {
                self.runs.remove(key);
            }
        }
    }
}

impl Core {
    /// Queries a run.
    pub fn query(&mut self, key: &EntityId, run: &Run, query: WorkflowQuery, answer: oneshot::Sender<QueryAnswer>) {
        if let Some(why) = self.unanswerable(run) {
            return drop(answer.send(Err(QueryFailure::NotReady(why))));
        }
        self.queries.last += 1;
        let id = self.queries.last;
        let queries = self.queries.of(key, &run.head.run_id);
        if must_wait(run) {
            queries.waiting.insert(id, Pending { query, answer, retry: None });
        } else {
            queries.direct.insert(id, Pending { query: query.clone(), answer, retry: None });
            self.dispatch(key, run, id, query);
        }
    }

    /// Why no worker can answer for a run, in the words of Temporal's server.
    fn unanswerable(&self, run: &Run) -> Option<&'static str> {
        let head = &run.head;
        let (open, seen) = (run.is_open(), head.previous_started_event_id != 0);
        let later = head.execution_ms > self.now_of_tasks().saturating_add(QUERY_WAIT_MS_MAX);
        if !open && !seen {
            Some("Workflow execution closed before WorkflowTaskStarted event")
        } else if open && !seen && head.first_task_delayed && later {
            Some("Workflow task is not scheduled yet.")
        } else if open && head.workflow_task_attempt >= ATTEMPT_FAILED {
            Some("Unable to query workflow due to Workflow Task in failed state.")
        } else {
            None
        }
    }

    fn dispatch(&mut self, key: &EntityId, run: &Run, id: u64, query: WorkflowQuery) {
        let origin = self.origin(key, &run.head.run_id);
        let query = Query { origin, id, query };
        let head = &run.head;
        let queue = if head.sticky_queue.is_empty() { &head.task_queue } else { &head.sticky_queue };
        self.node.matching.query(query, queue, &head.task_queue);
    }

    /// Offers a query again that did not reach a worker.
    pub fn dispatch_again(&mut self, key: &EntityId, run_id: &str, id: u64) {
        let pending = self.queries.find(key, run_id).and_then(|queries| queries.direct.get(&id));
        let query = pending.map(|pending| pending.query.clone());
        if let (Some(query), Ok(Some(run))) = (query, self.run(key, run_id)) {
            self.dispatch(key, &run, id, query);
        }
    }

    /// Offers queries again that may have been lost on their way through another node.
    pub(in crate::partition) fn ask_again(&mut self) {
        if self.queries.runs.is_empty() || self.node.matching.is_alone() {
            return;
        }
        let now = self.node.now();
        let mut due = Vec::new();
        let runs = self.queries.runs.iter_mut().flat_map(|(key, runs)| runs.iter_mut().map(move |run| (key, run)));
        for (key, (run_id, queries)) in runs {
            for (id, pending) in queries.direct.iter_mut().filter(|(_, pending)| !pending.answer.is_closed()) {
                let (at, after) = *pending.retry.get_or_insert((now + RETRY_AFTER, RETRY_AFTER));
                if at <= now {
                    pending.retry = Some((now + 2 * after, 2 * after));
                    due.push((key.clone(), run_id.clone(), *id));
                }
            }
        }
        due.sort();
        for (key, run_id, id) in due {
            self.dispatch_again(&key, &run_id, id);
        }
    }

    /// The queries attached to a run's workflow task, which has just been started.
    pub fn attach_queries(&mut self, key: &EntityId, run_id: &str) -> BTreeMap<String, WorkflowQuery> {
        let Some(queries) = self.queries.find(key, run_id) else { return BTreeMap::new() };
        let waiting = std::mem::take(&mut queries.waiting);
        queries.attached.extend(waiting);
        queries.attached.retain(|_, pending| !pending.answer.is_closed());
        queries.attached.iter().map(|(id, pending)| (id.to_string(), pending.query.clone())).collect()
    }

    /// A completed workflow task brought answers. To be called before [`after_decision`](Self::after_decision), which offers
    /// again what has none.
    pub fn answer_attached(&mut self, key: &EntityId, run_id: &str, results: &BTreeMap<String, WorkflowQueryResult>) {
        let Some(queries) = self.queries.find(key, run_id) else { return };
        for (id, result) in results {
            if let Some(pending) = id.parse().ok().and_then(|id: u64| queries.attached.remove(&id)) {
                let _ = pending.answer.send(answer_of(result));
            }
        }
    }

    /// A worker answered a query task.
    pub fn answer_direct(&mut self, key: &EntityId, run_id: &str, id: u64, result: &WorkflowQueryResult) -> bool {
        let pending = self.queries.find(key, run_id).and_then(|queries| queries.direct.remove(&id));
        self.queries.tidy(key);
        pending.is_some_and(|pending| pending.answer.send(answer_of(result)).is_ok())
    }

    /// Whether a caller still waits for a query's answer.
    pub fn is_awaited(&mut self, key: &EntityId, run_id: &str, id: u64) -> bool {
        let pending = self.queries.find(key, run_id).and_then(|queries| queries.direct.get(&id));
        pending.is_some_and(|pending| !pending.answer.is_closed())
    }

    /// What a decision means for the queries of its workflow. The caller of the command has been answered.
    pub(in crate::partition) fn after_decision(&mut self, command: &Command) {
        if self.queries.runs.is_empty() {
            return;
        }
        let Some(key) = &EntityId::of(command) else { return };
        let Some(runs) = self.queries.runs.get(key) else { return };
        for run_id in runs.keys().cloned().collect::<Vec<_>>() {
            match self.run(key, &run_id) {
                Ok(Some(run)) => self.settle(key, &run),
                Ok(None) => {
                    let gone = self.queries.find(key, &run_id).map(std::mem::take).unwrap_or_default();
                    for pending in [gone.waiting, gone.attached, gone.direct].into_iter().flatten() {
                        let _ = pending.1.answer.send(Err(QueryFailure::NotFound));
                    }
                }
                Err(_) => {}
            }
        }
        self.queries.tidy(key);
    }

    /// Once no workflow task of a run is under way, the queries that waited for one become tasks of their own.
    fn settle(&mut self, key: &EntityId, run: &Run) {
        let why = self.unanswerable(run);
        let Some(queries) = self.queries.find(key, &run.head.run_id) else { return };
        if why.is_none() && must_wait(run) {
            return;
        }
        let mut waiting = std::mem::take(&mut queries.waiting);
        waiting.append(&mut queries.attached);
        if let Some(why) = why {
            for pending in waiting.into_values() {
                let _ = pending.answer.send(Err(QueryFailure::NotReady(why)));
            }
            return;
        }
        waiting.retain(|_, pending| !pending.answer.is_closed());
        let dispatched: Vec<_> = waiting.iter().map(|(id, pending)| (*id, pending.query.clone())).collect();
        queries.direct.retain(|_, pending| !pending.answer.is_closed());
        queries.direct.append(&mut waiting);
        for (id, query) in dispatched {
            self.dispatch(key, run, id, query);
        }
    }
}

/// Whether only a workflow task can bring the answer: one is under way, or no worker has the run yet.
fn must_wait(run: &Run) -> bool {
    run.is_open() && (run.head.workflow_task.is_some() || run.head.previous_started_event_id == 0)
}

fn answer_of(result: &WorkflowQueryResult) -> QueryAnswer {
    if result.answer.as_ref().is_some_and(|answer| answer.encoded_len() > limits::BLOB_SIZE_MAX) {
        return Err(QueryFailure::TooLarge);
    }
    match result.result_type() {
        QueryResultType::Answered => Ok(result.answer.clone()),
        _ => Err(QueryFailure::Failed {
            message: result.error_message.clone(),
            failure: result.failure.clone().map(Box::new),
        }),
    }
}
