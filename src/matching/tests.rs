//! Two or three nodes' queues, whose news is delivered by hand.

use std::time::Instant;

use super::*;
use crate::engine::TaskKind;
use crate::proto::temporal::query::v1::WorkflowQuery;

struct Clock {
    begun: Instant,
    elapsed: Mutex<Duration>,
}

impl Clock {
    fn pass(&self, time: Duration) {
        *self.elapsed.lock().unwrap() += time;
    }
}

struct OnClock(Arc<Clock>);

impl Environment for OnClock {
    fn clock_ms(&self) -> i64 {
        self.0.elapsed.lock().unwrap().as_millis() as i64
    }

    fn now(&self) -> Instant {
        self.0.begun + *self.0.elapsed.lock().unwrap()
    }

    fn random(&self) -> u64 {
        4
    }
}

/// What the pollers were handed: the node where they wait, and the workflow.
type Handed = Arc<Mutex<Vec<(usize, String)>>>;

struct Nodes {
    clock: Arc<Clock>,
    nodes: Vec<Arc<Matching>>,
    handed: Handed,
    places: Vec<Place>,
}

impl Nodes {
    fn new(count: usize) -> Self {
        let clock = Arc::new(Clock { begun: Instant::now(), elapsed: Mutex::default() });
        let nodes = (0..count).map(|_| new_node(&clock)).collect();
        Self { clock, nodes, handed: Handed::default(), places: Vec::new() }
    }

    /// Node 0 has sent `a` and `b` to node 1, where one poller waited and took `a`.
    fn with_a_task_kept_elsewhere() -> Self {
        let mut nodes = Self::new(2);
        nodes.poll(1);
        nodes.talk();
        nodes.offer(0, "a");
        nodes.offer(0, "b");
        nodes.talk();
        nodes.expect_handed(&[(1, "a")]);
        nodes
    }

    fn poll_queue(&mut self, node: usize, queue: QueueName, sticky: bool) {
        let handed = self.handed.clone();
        let take = move |offer| {
            let workflow_id = match offer {
                Offer::Task { origin, .. } => origin.entity.id.to_string(),
                Offer::Query(query) => format!("query of {}", query.origin.entity.id),
            };
            handed.lock().unwrap().push((node, workflow_id));
        };
        let worker = Worker { identity: format!("worker {node}"), ..Worker::default() };
        self.places.push(self.nodes[node].poll(queue, sticky, &worker, Box::new(take)));
    }

    fn poll(&mut self, node: usize) {
        self.poll_queue(node, queue("q"), false);
    }

    fn offer(&self, node: usize, workflow_id: &str) {
        self.nodes[node].offer(origin(workflow_id), task("q", TaskKind::Workflow), "q");
    }

    /// Delivers all nodes' news until there is no more. Returns how many messages were sent.
    fn talk(&self) -> usize {
        let all: Vec<Address> = (0..self.nodes.len()).map(|node| node.to_string().into()).collect();
        let mut sent = 0;
        loop {
            let mut quiet = true;
            for (node, matching) in self.nodes.iter().enumerate() {
                let others: Vec<_> = all.iter().filter(|other| **other != all[node]).cloned().collect();
                for (receiver, news) in matching.take_news(&others) {
                    (quiet, sent) = (false, sent + 1);
                    let items = news.items.clone();
                    let receiving = &self.nodes[receiver.parse::<usize>().unwrap()];
                    let answer = receiving.receive_news(&all[node], news).ok();
                    matching.answered(&receiver, items, answer);
                }
            }
            if quiet {
                return sent;
            }
        }
    }

    fn pass(&self, time: Duration) {
        self.clock.pass(time);
        self.nodes.iter().for_each(|node| node.tick());
        self.talk();
    }

    fn handed(&self) -> Vec<(usize, String)> {
        std::mem::take(&mut *self.handed.lock().unwrap())
    }

    fn expect_handed(&self, expected: &[(usize, &str)]) {
        let handed = self.handed();
        let handed: Vec<_> = handed.iter().map(|(node, workflow_id)| (*node, workflow_id.as_str())).collect();
        assert_eq!(handed, expected);
    }

    fn backlog(&self, node: usize) -> usize {
        self.nodes[node].stats(&queue("q"), 0).backlog
    }
}

fn new_node(clock: &Arc<Clock>) -> Arc<Matching> {
    let node = Matching::new(Arc::new(OnClock(clock.clone())));
    // There will be others.
    assert!(node.take_news(&[]).is_empty());
    node
}

fn queue(name: &str) -> QueueName {
    QueueName { namespace_id: "n".into(), name: name.into(), queue_type: TaskQueueType::Workflow }
}

fn origin(workflow_id: &str) -> TaskOrigin {
    TaskOrigin { partition: 1, entity: EntityId::workflow("n", workflow_id), run_id: "r".into() }
}

fn task(queue: &str, kind: TaskKind) -> Task {
    Task { kind, queue: queue.into(), scheduled_event_id: 2, attempt: 1, scheduled_ms: 0, not_before_ms: 0 }
}

#[test]
fn a_task_goes_to_a_worker_of_its_own_node_first() {
    let mut nodes = Nodes::new(2);
    nodes.poll(1);
    nodes.poll(0);
    nodes.talk();
    nodes.offer(0, "a");
    assert_eq!(nodes.talk(), 0, "no other node has to be notified");
    nodes.expect_handed(&[(0, "a")]);
}

#[test]
fn a_task_goes_where_somebody_waits() {
    let mut nodes = Nodes::new(3);
    nodes.poll(2);
    nodes.talk();
    nodes.offer(0, "a");
    assert_eq!(nodes.backlog(0), 1, "until a worker has started it");
    assert_eq!(nodes.talk(), 1);
    nodes.expect_handed(&[(2, "a")]);
    nodes.nodes[0].withdraw(&origin("a"), &task("q", TaskKind::Workflow), "q");
    assert_eq!((nodes.backlog(0), nodes.talk()), (0, 0), "who has started it knows that it is gone");
}

#[test]
fn a_task_that_was_there_before_any_worker_goes_to_the_first() {
    let mut nodes = Nodes::new(2);
    nodes.offer(0, "a");
    nodes.offer(0, "b");
    nodes.poll(1);
    nodes.talk();
    nodes.expect_handed(&[(1, "a")]);
    nodes.poll(0);
    nodes.expect_handed(&[(0, "b")]);
    nodes.talk();
    nodes.poll(1);
    nodes.talk();
    nodes.expect_handed(&[]);
}

#[test]
fn a_task_for_which_nobody_waited_goes_to_somebody_else() {
    let mut nodes = Nodes::new(3);
    nodes.poll(1);
    nodes.talk();
    nodes.offer(0, "a");
    nodes.offer(0, "b");
    nodes.poll(2);
    nodes.talk();
    // Node 0 knew of one poller only, but node 2's came in time.
    let mut handed = nodes.handed();
    handed.sort();
    assert_eq!(handed.iter().map(|(node, _)| *node).collect::<Vec<_>>(), [1, 2]);
}

#[test]
fn a_task_that_waits_elsewhere_is_withdrawn_there() {
    let mut nodes = Nodes::with_a_task_kept_elsewhere();
    nodes.nodes[0].withdraw(&origin("b"), &task("q", TaskKind::Workflow), "q");
    nodes.talk();
    nodes.poll(1);
    nodes.talk();
    nodes.expect_handed(&[]);
}

#[test]
fn a_later_attempt_stands_for_an_earlier_one() {
    let mut nodes = Nodes::new(1);
    let later = Task { attempt: 2, ..task("q", TaskKind::Workflow) };
    nodes.offer(0, "a");
    nodes.nodes[0].offer(origin("a"), later, "q");
    nodes.offer(0, "a");
    assert_eq!(nodes.backlog(0), 1);
    nodes.poll(0);
    nodes.expect_handed(&[(0, "a")]);
    assert_eq!(nodes.backlog(0), 0);
}

#[test]
fn what_a_node_has_not_started_is_to_be_had_again() {
    let mut nodes = Nodes::new(2);
    nodes.poll(1);
    nodes.talk();
    nodes.offer(0, "a");
    nodes.talk();
    nodes.expect_handed(&[(1, "a")]);
    // It could not be started there.
    nodes.pass(Duration::from_secs(3));
    nodes.poll(0);
    nodes.expect_handed(&[(0, "a")]);
}

#[test]
fn what_a_node_may_not_have_heard_is_to_be_had_at_once() {
    let mut nodes = Nodes::new(2);
    nodes.poll(1);
    nodes.talk();
    nodes.offer(0, "a");
    let other = Address::from("1");
    let (receiver, news) = nodes.nodes[0].take_news(std::slice::from_ref(&other)).pop().expect("there is news");
    assert_eq!((&receiver, news.items.len()), (&other, 1));
    nodes.offer(0, "b");
    assert!(nodes.nodes[0].take_news(&[other]).is_empty(), "one thing after the other");
    nodes.nodes[0].answered(&receiver, news.items, None);
    nodes.poll(0);
    nodes.poll(0);
    nodes.expect_handed(&[(0, "a"), (0, "b")]);
}

#[test]
fn a_new_node_hears_who_waits() {
    let mut nodes = Nodes::new(2);
    nodes.poll(1);
    nodes.talk();
    nodes.nodes[0] = new_node(&nodes.clock);
    nodes.offer(0, "a");
    assert_eq!(nodes.talk(), 0);
    nodes.nodes[1].is_new(&"0".into());
    nodes.talk();
    nodes.expect_handed(&[(1, "a")]);
}

#[test]
fn a_backlog_is_shared_with_workers_elsewhere() {
    let mut nodes = Nodes::new(2);
    nodes.poll(0);
    nodes.poll(1);
    nodes.talk();
    nodes.offer(1, "first");
    nodes.offer(0, "second");
    nodes.expect_handed(&[(1, "first"), (0, "second")]);
    // Both nodes' workers are busy, and node 1 has work of its own that came later.
    for number in 0..10 {
        nodes.offer(0, &format!("a{number}"));
    }
    nodes.talk();
    nodes.clock.pass(Duration::from_millis(600));
    for number in 0..10 {
        let later = Task { scheduled_ms: 600, ..task("q", TaskKind::Workflow) };
        nodes.nodes[1].offer(origin(&format!("b{number}")), later, "q");
    }
    nodes.pass(Duration::from_millis(1));
    nodes.poll(1);
    let handed = nodes.handed();
    assert!(handed[0].1.starts_with('a'), "the oldest first: {handed:?}");
    assert_eq!((nodes.backlog(0), nodes.backlog(1)), (10, 10), "a lent task counts at its own node");
}

#[test]
fn a_sticky_task_whose_worker_is_gone_is_for_any() {
    let mut nodes = Nodes::new(3);
    nodes.poll_queue(1, queue("sticky"), true);
    nodes.talk();
    nodes.nodes[0].offer(origin("a"), task("sticky", TaskKind::StickyWorkflow), "q");
    nodes.talk();
    nodes.expect_handed(&[(1, "a")]);
    nodes.nodes[0].withdraw(&origin("a"), &task("sticky", TaskKind::StickyWorkflow), "q");
    // It polled a moment ago.
    nodes.nodes[0].offer(origin("b"), task("sticky", TaskKind::StickyWorkflow), "q");
    nodes.talk();
    nodes.poll(2);
    nodes.talk();
    nodes.expect_handed(&[]);
    // It announces its shutdown, to yet another node.
    nodes.nodes[2].forget_sticky("n", "sticky");
    nodes.talk();
    nodes.expect_handed(&[(2, "b")]);
    nodes.nodes[0].offer(origin("c"), task("sticky", TaskKind::StickyWorkflow), "q");
    nodes.poll(0);
    nodes.talk();
    nodes.expect_handed(&[(0, "c")]);
}

#[test]
fn a_worker_that_says_nothing_any_more_is_gone() {
    let mut nodes = Nodes::new(2);
    nodes.poll_queue(1, queue("sticky"), true);
    nodes.talk();
    nodes.places.clear();
    nodes.pass(Duration::from_secs(3));
    nodes.poll(0);
    nodes.nodes[0].offer(origin("a"), task("sticky", TaskKind::StickyWorkflow), "q");
    nodes.talk();
    nodes.expect_handed(&[]);
    nodes.pass(Duration::from_secs(8));
    nodes.pass(Duration::from_secs(3));
    nodes.expect_handed(&[(0, "a")]);
}

#[test]
fn a_query_finds_a_worker_elsewhere() {
    let mut nodes = Nodes::new(2);
    let query = |id| super::Query { origin: origin("a"), id, query: WorkflowQuery::default() };
    nodes.nodes[0].query(query(1), "sticky", "q");
    nodes.poll(1);
    nodes.talk();
    nodes.expect_handed(&[(1, "query of a")]);
    nodes.poll_queue(1, queue("sticky"), true);
    nodes.talk();
    nodes.nodes[0].query(query(2), "sticky", "q");
    nodes.talk();
    nodes.expect_handed(&[(1, "query of a")]);
    // The worker goes without an announcement.
    nodes.nodes[1] = new_node(&nodes.clock);
    nodes.nodes[0].query(query(3), "sticky", "q");
    nodes.nodes[0].query(query(3), "sticky", "q");
    nodes.talk();
    nodes.poll(1);
    nodes.poll(1);
    nodes.talk();
    nodes.expect_handed(&[(1, "query of a")]);
    assert_eq!((nodes.backlog(0), nodes.backlog(1)), (0, 0), "queries are no tasks");
}

#[test]
fn another_node_tells_nobody_of_what_it_does_not_own() {
    let mut nodes = Nodes::new(3);
    // It has lost the partition, and does not know it.
    nodes.poll(1);
    nodes.talk();
    nodes.offer(0, "a");
    nodes.talk();
    nodes.expect_handed(&[(1, "a")]);
    let again = Task { not_before_ms: 1, ..task("q", TaskKind::Workflow) };
    nodes.nodes[1].offer(origin("a"), again, "q");
    nodes.pass(Duration::from_secs(3));
    nodes.nodes[0].withdraw(&origin("a"), &task("q", TaskKind::Workflow), "q");
    nodes.talk();
    assert_eq!(nodes.backlog(1), 1);
    nodes.poll(2);
    nodes.talk();
    nodes.expect_handed(&[(2, "a")]);
}

#[test]
fn what_nobody_tells_of_any_more_is_forgotten() {
    let mut nodes = Nodes::with_a_task_kept_elsewhere();
    nodes.nodes[0] = new_node(&nodes.clock);
    nodes.pass(Duration::from_secs(11));
    nodes.poll(1);
    nodes.expect_handed(&[]);
}

#[test]
fn a_node_that_can_not_be_reached_is_told_of_no_tasks() {
    let mut nodes = Nodes::new(2);
    nodes.poll(1);
    nodes.talk();
    nodes.offer(0, "a");
    let all: Vec<Address> = vec!["0".into(), "1".into()];
    for (receiver, news) in nodes.nodes[0].take_news(&all[1..]) {
        nodes.nodes[0].answered(&receiver, news.items, None);
    }
    // Its own news arrives, though.
    let polled = || Polled { queue: queue("q"), sticky: false, waiting: true, age: Duration::ZERO };
    let announce = |nodes: &Nodes| {
        let news = News { polled: vec![polled()], ..News::default() };
        nodes.nodes[0].receive_news(&all[1], news).expect("it runs");
        nodes.nodes[0].take_news(&all[1..]).pop()
    };
    let (receiver, news) = announce(&nodes).expect("it is probed");
    assert!(news.probe && news.items.is_empty());
    nodes.nodes[0].answered(&receiver, news.items, Some(Answer::default()));
    let (_, news) = announce(&nodes).expect("there is news");
    assert_eq!(news.items.len(), 1);
}

#[test]
fn who_waits_hears_that_the_node_stops() {
    let mut nodes = Nodes::new(2);
    nodes.poll(1);
    nodes.talk();
    let handed = Arc::downgrade(&nodes.handed);
    let waiting = handed.strong_count();
    nodes.nodes[1].close();
    assert_eq!(handed.strong_count(), waiting - 1, "the poller is dropped");
    nodes.poll(1);
    assert_eq!(handed.strong_count(), waiting - 1, "and so is one that comes later");
    nodes.offer(0, "a");
    nodes.talk();
    nodes.poll(0);
    nodes.expect_handed(&[(0, "a")]);
}

#[test]
fn a_partition_that_is_lost_takes_its_tasks_along() {
    let mut nodes = Nodes::with_a_task_kept_elsewhere();
    nodes.nodes[0].lose(1);
    assert_eq!(nodes.backlog(0), 0);
    nodes.poll(0);
    nodes.expect_handed(&[]);
}
