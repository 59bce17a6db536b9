//! Queries: questions to a workflow's worker, which are not logged. They ride on a workflow task if one is under way, else
//! they are a task of their own.

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

struct Asked {
    query: WorkflowQuery,
    answer: oneshot::Sender<QueryAnswer>,
    /// When to ask again, and after how long that is.
    again: Option<(Instant, Duration)>,
}

/// A query that went through another node is asked again if it has no answer after this long, then after twice as long.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(2);

/// How long a query waits at most, in milliseconds: for a first workflow task that is scheduled later it does not wait at all.
pub const QUERY_WAIT_MS_MAX: i64 = 30_000;

/// A run whose workflow task is at this attempt is not queried, as with Temporal's server: what fails its tasks fails queries.
const ATTEMPT_FAILED: i32 = 3;

/// The queries of one run that are under way.
#[derive(Default)]
pub struct RunQueries {
    /// Wait for the next workflow task.
    waiting: BTreeMap<u64, Asked>,
    /// Ride on the started workflow task, or are with a worker as tasks of their own.
    riding: BTreeMap<u64, Asked>,
    direct: BTreeMap<u64, Asked>,
}

impl RunQueries {
    fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.riding.is_empty() && self.direct.is_empty()
    }
}

/// The queries under way, by workflow and by run: what one run is asked, no other may answer.
pub struct Queries {
    runs: HashMap<EntityId, BTreeMap<String, RunQueries>>,
    /// The last number that was given. It begins anywhere: an answer to what an owner before asked must not be taken for one to what
    /// this one asks.
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

    /// Lets go of runs, and workflows, that are asked nothing any more.
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
    /// Asks a run.
    pub fn query(&mut self, key: &EntityId, run: &Run, query: WorkflowQuery, answer: oneshot::Sender<QueryAnswer>) {
        if let Some(why) = self.unanswerable(run) {
            return drop(answer.send(Err(QueryFailure::NotReady(why))));
        }
        self.queries.last += 1;
        let id = self.queries.last;
        let queries = self.queries.of(key, &run.head.run_id);
        if must_wait(run) {
            queries.waiting.insert(id, Asked { query, answer, again: None });
        } else {
            queries.direct.insert(id, Asked { query: query.clone(), answer, again: None });
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
        let asked = self.queries.find(key, run_id).and_then(|queries| queries.direct.get(&id));
        let query = asked.map(|asked| asked.query.clone());
        if let (Some(query), Ok(Some(run))) = (query, self.run(key, run_id)) {
            self.dispatch(key, &run, id, query);
        }
    }

    /// Asks again what may have been lost on its way through another node.
    pub(in crate::partition) fn ask_again(&mut self) {
        if self.queries.runs.is_empty() || self.node.matching.is_alone() {
            return;
        }
        let now = self.node.now();
        let mut due = Vec::new();
        let runs = self.queries.runs.iter_mut().flat_map(|(key, runs)| runs.iter_mut().map(move |run| (key, run)));
        for (key, (run_id, queries)) in runs {
            for (id, asked) in queries.direct.iter_mut().filter(|(_, asked)| !asked.answer.is_closed()) {
                let (at, after) = *asked.again.get_or_insert((now + ASK_AGAIN_AFTER, ASK_AGAIN_AFTER));
                if at <= now {
                    asked.again = Some((now + 2 * after, 2 * after));
                    due.push((key.clone(), run_id.clone(), *id));
                }
            }
        }
        due.sort();
        for (key, run_id, id) in due {
            self.dispatch_again(&key, &run_id, id);
        }
    }

    /// The queries that ride on a run's workflow task, which has just been started.
    pub fn ride(&mut self, key: &EntityId, run_id: &str) -> BTreeMap<String, WorkflowQuery> {
        let Some(queries) = self.queries.find(key, run_id) else { return BTreeMap::new() };
        let waiting = std::mem::take(&mut queries.waiting);
        queries.riding.extend(waiting);
        queries.riding.retain(|_, asked| !asked.answer.is_closed());
        queries.riding.iter().map(|(id, asked)| (id.to_string(), asked.query.clone())).collect()
    }

    /// A completed workflow task brought answers. To be called before [`after_decision`](Self::after_decision), which asks again
    /// what has none.
    pub fn answer_riding(&mut self, key: &EntityId, run_id: &str, results: &BTreeMap<String, WorkflowQueryResult>) {
        let Some(queries) = self.queries.find(key, run_id) else { return };
        for (id, result) in results {
            if let Some(asked) = id.parse().ok().and_then(|id: u64| queries.riding.remove(&id)) {
                let _ = asked.answer.send(answer_of(result));
            }
        }
    }

    /// A worker answered a query task.
    pub fn answer_direct(&mut self, key: &EntityId, run_id: &str, id: u64, result: &WorkflowQueryResult) -> bool {
        let asked = self.queries.find(key, run_id).and_then(|queries| queries.direct.remove(&id));
        self.queries.tidy(key);
        asked.is_some_and(|asked| asked.answer.send(answer_of(result)).is_ok())
    }

    /// Whether somebody still waits for a query's answer.
    pub fn is_awaited(&mut self, key: &EntityId, run_id: &str, id: u64) -> bool {
        let asked = self.queries.find(key, run_id).and_then(|queries| queries.direct.get(&id));
        asked.is_some_and(|asked| !asked.answer.is_closed())
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
                    for asked in [gone.waiting, gone.riding, gone.direct].into_iter().flatten() {
                        let _ = asked.1.answer.send(Err(QueryFailure::NotFound));
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
        waiting.append(&mut queries.riding);
        if let Some(why) = why {
            for asked in waiting.into_values() {
                let _ = asked.answer.send(Err(QueryFailure::NotReady(why)));
            }
            return;
        }
        waiting.retain(|_, asked| !asked.answer.is_closed());
        let dispatched: Vec<_> = waiting.iter().map(|(id, asked)| (*id, asked.query.clone())).collect();
        queries.direct.retain(|_, asked| !asked.answer.is_closed());
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
