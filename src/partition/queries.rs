//! Queries: questions to a workflow's worker, which are not logged. They ride on a workflow task if one is under way, else
//! they are a task of their own.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::core::Core;
use super::entities::EntityKey;
use crate::engine::Run;
use crate::matching::Query;
use crate::proto::temporal::common::v1::Payloads;
use crate::proto::temporal::enums::v1::QueryResultType;
use crate::proto::temporal::failure::v1::Failure;
use crate::proto::temporal::query::v1::{WorkflowQuery, WorkflowQueryResult};

/// Why a query has no answer.
#[derive(Clone, Debug)]
pub enum QueryFailure {
    NotFound(String),
    /// The worker answered with an error.
    Failed {
        message: String,
        failure: Option<Box<Failure>>,
    },
    Unavailable(String),
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

/// The queries of one workflow that are under way.
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

impl Core {
    /// Asks a run (the newest, if `run_id` is empty).
    pub fn query(&mut self, key: &EntityKey, run_id: &str, query: WorkflowQuery, answer: oneshot::Sender<QueryAnswer>) {
        let run = match self.run(key, run_id) {
            Ok(Some(run)) => run,
            Ok(None) => {
                return drop(
                    answer.send(Err(QueryFailure::NotFound(format!("workflow not found for ID: {}", key.workflow_id)))),
                );
            }
            Err(error) => return drop(answer.send(Err(QueryFailure::Unavailable(error.to_string())))),
        };
        if run.is_open() && run.head.previous_started_event_id == 0 && run.head.first_task_delayed {
            let message =
                "Cannot query a workflow whose first workflow task is delayed: no worker has run it yet.".to_owned();
            return drop(answer.send(Err(QueryFailure::Failed { message, failure: None })));
        }
        self.next_query += 1;
        let id = self.next_query;
        let queries = self.queries.entry(key.clone()).or_default();
        if run.is_open() && run.head.workflow_task.is_some() {
            queries.waiting.insert(id, Asked { query, answer, again: None });
        } else {
            queries.direct.insert(id, Asked { query: query.clone(), answer, again: None });
            self.dispatch(key, &run, id, query);
        }
    }

    fn dispatch(&mut self, key: &EntityKey, run: &Run, id: u64, query: WorkflowQuery) {
        let origin = self.origin(key, &run.head.run_id.as_str().into());
        let query = Query { origin, id, query };
        let head = &run.head;
        let queue = if head.sticky_queue.is_empty() { &head.task_queue } else { &head.sticky_queue };
        self.node.matching.query(query, queue, &head.task_queue);
    }

    /// Offers a query again that did not reach a worker.
    pub fn dispatch_again(&mut self, key: &EntityKey, id: u64) {
        let asked = self.queries.get(key).and_then(|queries| queries.direct.get(&id)).map(|asked| asked.query.clone());
        if let (Some(query), Ok(Some(run))) = (asked, self.run(key, "")) {
            self.dispatch(key, &run, id, query);
        }
    }

    /// Asks again what may have been lost on its way through another node.
    pub(super) fn ask_again(&mut self) {
        if self.queries.is_empty() || self.node.matching.is_alone() {
            return;
        }
        let now = self.node.now();
        let mut due = Vec::new();
        for (key, queries) in &mut self.queries {
            for (id, asked) in queries.direct.iter_mut().filter(|(_, asked)| !asked.answer.is_closed()) {
                let (at, after) = *asked.again.get_or_insert((now + ASK_AGAIN_AFTER, ASK_AGAIN_AFTER));
                if at <= now {
                    asked.again = Some((now + 2 * after, 2 * after));
                    due.push((key.clone(), *id));
                }
            }
        }
        due.sort();
        for (key, id) in due {
            self.dispatch_again(&key, id);
        }
    }

    /// The queries that ride on the workflow task that has just been started.
    pub fn ride(&mut self, key: &EntityKey) -> BTreeMap<String, WorkflowQuery> {
        let Some(queries) = self.queries.get_mut(key) else { return BTreeMap::new() };
        let waiting = std::mem::take(&mut queries.waiting);
        queries.riding.extend(waiting);
        queries.riding.retain(|_, asked| !asked.answer.is_closed());
        queries.riding.iter().map(|(id, asked)| (id.to_string(), asked.query.clone())).collect()
    }

    /// A completed workflow task brought answers.
    pub fn answer_riding(&mut self, key: &EntityKey, results: &BTreeMap<String, WorkflowQueryResult>) {
        let Some(queries) = self.queries.get_mut(key) else { return };
        for (id, result) in results {
            if let Some(asked) = id.parse().ok().and_then(|id: u64| queries.riding.remove(&id)) {
                let _ = asked.answer.send(answer_of(result));
            }
        }
    }

    /// A worker answered a query task.
    pub fn answer_direct(&mut self, key: &EntityKey, id: u64, result: &WorkflowQueryResult) -> bool {
        let Some(queries) = self.queries.get_mut(key) else { return false };
        let asked = queries.direct.remove(&id);
        if queries.is_empty() {
            self.queries.remove(key);
        }
        asked.is_some_and(|asked| asked.answer.send(answer_of(result)).is_ok())
    }

    /// Whether somebody still waits for a query's answer.
    pub fn is_awaited(&self, key: &EntityKey, id: u64) -> bool {
        self.queries.get(key).and_then(|queries| queries.direct.get(&id)).is_some_and(|asked| !asked.answer.is_closed())
    }

    /// Once no workflow task is under way, the queries that waited for one become tasks of their own.
    pub(super) fn after_decision(&mut self, key: &EntityKey) {
        if self.queries.is_empty() || !self.queries.contains_key(key) {
            return;
        }
        let Ok(Some(run)) = self.run(key, "") else { return };
        if run.is_open() && run.head.workflow_task.is_some() {
            return;
        }
        let Some(queries) = self.queries.get_mut(key) else { return };
        let mut waiting = std::mem::take(&mut queries.waiting);
        waiting.append(&mut queries.riding);
        waiting.retain(|_, asked| !asked.answer.is_closed());
        let dispatched: Vec<_> = waiting.iter().map(|(id, asked)| (*id, asked.query.clone())).collect();
        queries.direct.retain(|_, asked| !asked.answer.is_closed());
        queries.direct.append(&mut waiting);
        if queries.is_empty() {
            self.queries.remove(key);
        }
        for (id, query) in dispatched {
            self.dispatch(key, &run, id, query);
        }
    }
}

fn answer_of(result: &WorkflowQueryResult) -> QueryAnswer {
    match result.result_type() {
        QueryResultType::Answered => Ok(result.answer.clone()),
        _ => Err(QueryFailure::Failed {
            message: result.error_message.clone(),
            failure: result.failure.clone().map(Box::new),
        }),
    }
}
