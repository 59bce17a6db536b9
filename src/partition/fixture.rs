//! A node for tests, whose partitions are driven turn by turn, and whose time passes by calls.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use prost::Message as _;

use super::background::Background;
use super::run_loop::Loop;
use super::{Alone, Failure, Inbox, Node, Settings, supervise};
use crate::engine::{EntityId, Reply};
use crate::environment::{self, Environment};
use crate::log::embedded::{Embedded, Options};
use crate::log::{Isolation, Topic};
use crate::proto::commands::{Command, SignalWorkflow, StartWorkflow, TerminateWorkflow, command::Body};
use crate::proto::temporal::common::v1::WorkflowType;
use crate::proto::temporal::taskqueue::v1::TaskQueue;
use crate::proto::temporal::workflowservice::v1::{
    SignalWorkflowExecutionRequest, StartWorkflowExecutionRequest, TerminateWorkflowExecutionRequest,
};
use crate::store::rocks;
use crate::visibility::Projection;

/// Time that passes by calls only.
pub struct Clock {
    begun: Instant,
    ms: AtomicU64,
    /// How far the node's wall clock is ahead of the system's, which the log has.
    ahead_ms: AtomicI64,
}

impl Clock {
    pub fn pass(&self, ms: u64) {
        self.ms.fetch_add(ms, Ordering::Relaxed);
    }

    pub fn set_ahead(&self, ms: i64) {
        self.ahead_ms.store(ms, Ordering::Relaxed);
    }
}

impl Environment for Clock {
    fn clock_ms(&self) -> i64 {
        environment::clock_ms() + self.ahead_ms.load(Ordering::Relaxed)
    }

    fn now(&self) -> Instant {
        self.begun + Duration::from_millis(self.ms.load(Ordering::Relaxed))
    }

    fn random(&self) -> u64 {
        environment::random()
    }
}

pub struct Fixture {
    pub clock: Arc<Clock>,
    pub node: Arc<Node>,
    pub inboxes: Vec<Inbox>,
    _directory: tempfile::TempDir,
}

impl Fixture {
    pub fn new(partitions: u32, settings: Settings) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let options = Options { partitions: Some(partitions), ..Options::default() };
        let log = Embedded::open(&directory.path().join("log"), options).expect("the log opens");
        let stores = rocks::Directory::new(directory.path().join("data"), 8 << 20);
        let list = |partition| Projection::open(&directory.path().join(format!("lists-{partition}")));
        let lists = (0..partitions).map(|partition| Arc::new(Mutex::new(list(partition).expect("the lists open"))));
        let clock = Arc::new(Clock { begun: Instant::now(), ms: AtomicU64::new(0), ahead_ms: AtomicI64::new(0) });
        let (node, inboxes) =
            Node::new(Arc::new(log), Arc::new(stores), lists.collect(), clock.clone(), settings, Arc::new(Alone));
        Self { clock, node, inboxes, _directory: directory }
    }

    pub(super) fn take_over(&self, partition: u32) -> (Loop, Background) {
        supervise::take_over(&self.node, partition).unwrap_or_else(|error| panic!("{error}"))
    }

    /// A turn that takes all that has come.
    pub(super) fn turn(&self, partition: u32, turns: &mut Loop) {
        let end = turns.turn(self.inboxes[partition as usize].0.try_iter());
        assert!(end.is_none(), "the partition goes on");
    }

    /// How many of the commands of partition 0 have such a body.
    pub fn count(&self, is_such: impl Fn(&Body) -> bool) -> usize {
        let log = &self.node.log;
        let end = log.end_at_least(Topic::Commands, 0, Isolation::ReadUncommitted).expect("the log answers");
        let reader = log.reader(Topic::Commands, 0, 0, Isolation::ReadUncommitted);
        let (mut reader, mut next, mut count) = (reader.expect("the log can be read"), 0, 0);
        while next < end {
            let read = reader.next(1000, Duration::ZERO).expect("the log can be read");
            next = read.next_offset;
            let commands = read.records.into_iter().filter_map(|stored| Command::decode(stored.record.value?).ok());
            count += commands.filter(|command| command.body.as_ref().is_some_and(&is_such)).count();
        }
        count
    }

    /// Sends a command to a workflow; the receiver has its outcome once it is decided.
    pub fn send(&self, workflow_id: &str, body: Body) -> Receiver<Result<Reply, Failure>> {
        let command = Command {
            namespace_id: "n".into(),
            namespace: "default".into(),
            id: workflow_id.into(),
            seed_low: environment::random(),
            body: Some(body),
            ..Command::default()
        };
        let (sender, receiver) = channel();
        let decided = move |_: &mut super::Core, outcome| drop(sender.send(outcome));
        self.node.owner_of(&EntityId::workflow("n", workflow_id)).command(command, Box::new(decided));
        receiver
    }
}

/// Sends a command, and waits for its reply.
pub(super) fn decided(fixture: &Fixture, turns: &mut Loop, workflow_id: &str, body: Body) -> Reply {
    outcome(fixture, turns, &fixture.send(workflow_id, body)).expect("it is accepted")
}

/// Waits for the outcome of a command.
pub(super) fn outcome(
    fixture: &Fixture,
    turns: &mut Loop,
    receiver: &Receiver<Result<Reply, Failure>>,
) -> Result<Reply, Failure> {
    loop {
        fixture.turn(0, turns);
        if let Ok(outcome) = receiver.try_recv() {
            return outcome;
        }
    }
}

/// Makes a commit, if one waits. Whether one did.
pub(super) fn commit(background: &mut Background) -> bool {
    let Ok(commit) = background.commits.try_recv() else { return false };
    background.committer.settle(commit, &background.own).expect("a commit is made");
    true
}

pub fn start() -> Body {
    start_with(|_| {})
}

pub fn start_with(change: impl FnOnce(&mut StartWorkflowExecutionRequest)) -> Body {
    let mut request = StartWorkflowExecutionRequest {
        workflow_id: "w".into(),
        workflow_type: Some(WorkflowType { name: "Type".into() }),
        task_queue: Some(TaskQueue { name: "queue".into(), ..TaskQueue::default() }),
        ..StartWorkflowExecutionRequest::default()
    };
    change(&mut request);
    Body::StartWorkflow(StartWorkflow { request: Some(request), ..StartWorkflow::default() })
}

pub fn signal(request_id: &str) -> Body {
    let request = SignalWorkflowExecutionRequest {
        signal_name: "s".into(),
        request_id: request_id.into(),
        ..SignalWorkflowExecutionRequest::default()
    };
    Body::SignalWorkflow(SignalWorkflow { request: Some(request), external: None })
}

pub fn terminate() -> Body {
    let request = TerminateWorkflowExecutionRequest::default();
    Body::TerminateWorkflow(TerminateWorkflow { request: Some(request), ..TerminateWorkflow::default() })
}
