//! Taking over: a node without its data directory, or with that of another log, and an owner that is none any more.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc;

use prost::Message as _;

use bytes::Bytes;
use millrace::engine::{EntityId, Kind, TaskQueueType};
use millrace::log::embedded::{Embedded, Options};
use millrace::log::{Isolation, Log, Record, Topic};
use millrace::matching::{Offer, QueueName, Worker};
use millrace::partition::{Failure, Partitions, Settings};
use millrace::proto::commands::{
    Command, CompleteWorkflowTask, SetFoldVersion, StartWorkflow, StartWorkflowTask, TaskToken, TerminateWorkflow,
    UpdateWorkflow, command::Body,
};
use millrace::proto::events::Rejected;
use millrace::proto::state::Head;
use millrace::proto::temporal::command::v1::{
    Command as WorkflowCommand, ScheduleActivityTaskCommandAttributes, command::Attributes,
};
use millrace::proto::temporal::common::v1::{ActivityType, WorkflowType};
use millrace::proto::temporal::enums::v1::CommandType;
use millrace::proto::temporal::enums::v1::WorkflowExecutionStatus as Status;
use millrace::proto::temporal::taskqueue::v1::TaskQueue;
use millrace::proto::temporal::update;
use millrace::proto::temporal::workflowservice::v1::{
    RespondWorkflowTaskCompletedRequest, StartWorkflowExecutionRequest, TerminateWorkflowExecutionRequest,
    UpdateWorkflowExecutionRequest,
};
use millrace::store::rocks::Directory;
use millrace::store::{Positions, Stores, keys};
use millrace::visibility::{self, Projection, Query, Row, merge};
use millrace::wire::avro;

const WORKFLOWS: usize = 60;
const TERMINATED: usize = 20;

fn command(workflow_id: &str, body: Body) -> Command {
    Command {
        namespace_id: "n".into(),
        namespace: "default".into(),
        id: workflow_id.into(),
        // New ids come from it.
        seed_low: millrace::environment::random(),
        body: Some(body),
        ..Command::default()
    }
}

fn terminate() -> Body {
    let request = TerminateWorkflowExecutionRequest { reason: "enough".into(), ..Default::default() };
    Body::TerminateWorkflow(TerminateWorkflow { request: Some(request), ..Default::default() })
}

fn update_request() -> UpdateWorkflowExecutionRequest {
    let request = update::v1::Request {
        meta: Some(update::v1::Meta { update_id: "u".into(), ..Default::default() }),
        input: Some(update::v1::Input { name: "handler".into(), ..Default::default() }),
        ..Default::default()
    };
    UpdateWorkflowExecutionRequest { request: Some(request), ..Default::default() }
}

/// Decides a command, and waits for it.
fn decide(partitions: &Partitions, workflow_id: &str, body: Body) {
    let (sender, receiver) = mpsc::channel();
    let decided = move |_: &mut _, outcome: Result<_, _>| drop(sender.send(outcome.map(|_| ())));
    partitions
        .node
        .owner_of(&EntityId::workflow("n", workflow_id))
        .command(command(workflow_id, body), Box::new(decided));
    receiver.recv().expect("the partition answers").expect("the command is accepted");
}

fn start(partitions: &Partitions, workflow_id: &str) {
    let request = StartWorkflowExecutionRequest {
        workflow_id: workflow_id.into(),
        workflow_type: Some(WorkflowType { name: "Type".into() }),
        task_queue: Some(TaskQueue { name: "queue".into(), ..TaskQueue::default() }),
        ..StartWorkflowExecutionRequest::default()
    };
    decide(
        partitions,
        workflow_id,
        Body::StartWorkflow(StartWorkflow { request: Some(request), ..StartWorkflow::default() }),
    );
}

/// The status and the length of the history of every workflow, as the partitions have them.
fn runs(partitions: &Partitions) -> Vec<(i32, usize)> {
    let read = |number| {
        let id = format!("w{number}");
        let (sender, receiver) = mpsc::channel();
        let key = EntityId::workflow("n", &id);
        let read = move |core: &mut millrace::partition::Core| {
            let run = core.run(&key, "").expect("the store can be read").expect("the workflow is there");
            let history = core.history(&key, &run.head.run_id, 1, i64::MAX, usize::MAX).expect("the store can be read");
            assert_eq!(history.len() as i64 + 1, run.head.next_event_id, "the history is whole");
            sender.send((run.head.status, history.len())).expect("the test waits");
        };
        partitions.node.owner_of(&EntityId::workflow("n", &id)).read(Box::new(read));
        receiver.recv().expect("the partition answers")
    };
    (0..WORKFLOWS).map(read).collect()
}

fn listed(partitions: &Partitions, query: &str) -> i64 {
    let query =
        Query::parse(Kind::Workflow, "n", query, &visibility::Attributes::default()).expect("the query can be read");
    merge::count(&partitions.node.lists, &query).expect("lists can be read").total
}

#[test]
fn a_lost_data_directory_is_read_from_the_log_again() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let log: Arc<dyn Log> = Arc::new(
        Embedded::open(&directory.path().join("log"), Options { partitions: Some(2), ..Options::default() })
            .expect("the log opens"),
    );
    let open = |name: &str| {
        Partitions::start(log.clone(), directory.path().join(name), Settings::default()).expect("the partitions start")
    };

    let partitions = open("first");
    for number in 0..WORKFLOWS {
        start(&partitions, &format!("w{number}"));
    }
    for number in 0..TERMINATED {
        decide(&partitions, &format!("w{number}"), terminate());
    }
    let before = runs(&partitions);
    assert_eq!(before.iter().filter(|(status, _)| *status == Status::Terminated as i32).count(), TERMINATED);
    partitions.stop();

    let partitions = open("second");
    assert_eq!(runs(&partitions), before);
    // It serves first, and its lists come after.
    wait_until("the lists", || listed(&partitions, "") as usize == WORKFLOWS);
    wait_until("the lists", || listed(&partitions, "ExecutionStatus = 'Terminated'") as usize == TERMINATED);
    start(&partitions, "w-new");
    partitions.stop();

    // The first directory is behind by now, and its lists too.
    let partitions = open("first");
    assert_eq!(runs(&partitions), before);
    wait_until("the lists", || listed(&partitions, "") as usize == WORKFLOWS + 1);
    partitions.stop();
}

/// The file of the lists of a partition of its own.
fn lists_file(data: &Path) -> PathBuf {
    data.join("p0").join("visibility.sqlite")
}

/// Adds a run to lists that no log knows of: it is there for as long as they are not built anew.
fn mark(data: &Path) {
    let mut projection = Projection::open(&lists_file(data)).expect("the file opens");
    let (namespace_id, workflow_id, run_id) = ("n".to_owned(), "mark".to_owned(), "mark".to_owned());
    let row = Row { namespace_id, workflow_id, run_id, status: 1, ..Row::default() };
    let place = projection.place();
    assert!(place.next > 0, "they are somewhere");
    projection.apply(&[row], &[], place).expect("the file can be written");
}

#[test]
fn lists_that_are_behind_read_on_where_they_were() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let log = log_of_one_partition(directory.path());
    let data = |name: &str| directory.path().join(name);
    let open =
        |name: &str| Partitions::start(log.clone(), data(name), Settings::default()).expect("the partition starts");

    let partitions = open("first");
    (0..WORKFLOWS).for_each(|number| start(&partitions, &format!("w{number}")));
    partitions.stop();
    mark(&data("first"));

    // Another node has it for a while.
    let partitions = open("second");
    start(&partitions, "w-new");
    decide(&partitions, "w0", terminate());
    partitions.stop();

    let partitions = open("first");
    wait_until("the lists", || listed(&partitions, "") as usize == WORKFLOWS + 2);
    wait_until("the lists", || listed(&partitions, "ExecutionStatus = 'Terminated'") == 1);
    assert_eq!(listed(&partitions, "WorkflowId = 'mark'"), 1, "they were not built anew");
    partitions.stop();

    // A file that was lost is.
    std::fs::remove_file(lists_file(&data("first"))).expect("the file is there");
    let partitions = open("first");
    wait_until("the lists", || listed(&partitions, "") as usize == WORKFLOWS + 1);
    partitions.stop();
}

#[test]
fn a_standby_keeps_lists_warm() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let log = log_of_one_partition(directory.path());
    let owner = Partitions::start(log.clone(), directory.path().join("owner"), Settings::default());
    let owner = owner.expect("the partition starts");
    (0..WORKFLOWS).for_each(|number| start(&owner, &format!("w{number}")));

    let (data, settings) = (directory.path().join("standby"), Settings { standby: true, ..Settings::default() });
    let standby = Partitions::prepare(
        log,
        data,
        Arc::new(millrace::environment::System),
        settings,
        Arc::new(millrace::partition::Alone),
    );
    let standby = standby.expect("the node starts");
    wait_until("the standby", || listed(&standby, "") as usize == WORKFLOWS);
    decide(&owner, "w0", terminate());
    wait_until("the standby", || listed(&standby, "ExecutionStatus = 'Terminated'") == 1);
    standby.stop();
    owner.stop();
}

#[test]
fn lists_that_cannot_be_written_hold_up_no_commit() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let log = log_of_one_partition(directory.path());
    let data = directory.path().join("data");
    let partitions = Partitions::start(log.clone(), data.clone(), Settings::default()).expect("the partition starts");
    start(&partitions, "w0");
    wait_until("the lists", || listed(&partitions, "") == 1);

    let other = rusqlite::Connection::open(lists_file(&data)).expect("the file opens");
    other.execute_batch("BEGIN IMMEDIATE").expect("nobody else writes");
    let end = || log.end_at_least(Topic::State, 0, Isolation::ReadCommitted).expect("the log answers");
    let begun = std::time::Instant::now();
    for number in 1..4 {
        let before = end();
        start(&partitions, &format!("w{number}"));
        wait_until("the commit", || end() > before);
    }
    assert!(begun.elapsed().as_secs() < 5, "SQLite waits longer for its lock than that");
    assert_eq!(listed(&partitions, ""), 1, "and whoever reads does not wait for it");
    other.execute_batch("ROLLBACK").expect("it has begun");
    wait_until("the lists", || listed(&partitions, "") == 4);
    partitions.stop();
}

/// The status of a workflow, if the partition answers.
fn status(partitions: &Partitions, workflow_id: &str) -> Option<Status> {
    let (sender, receiver) = mpsc::channel();
    let key = EntityId::workflow("n", workflow_id);
    let read = move |core: &mut millrace::partition::Core| {
        let run = core.run(&key, "").expect("the store can be read");
        let _ = sender.send(run.map(|run| run.status()));
    };
    partitions.node.owner_of(&EntityId::workflow("n", workflow_id)).read(Box::new(read));
    receiver.recv().ok().flatten()
}

fn wait_until(what: &str, holds: impl Fn() -> bool) {
    let begun = std::time::Instant::now();
    while !holds() {
        assert!(begun.elapsed().as_secs() < 30, "{what} takes too long");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

fn log_of_one_partition(directory: &Path) -> Arc<dyn Log> {
    let options = Options { partitions: Some(1), ..Options::default() };
    Arc::new(Embedded::open(&directory.join("log"), options).expect("the log opens"))
}

/// The id of a workflow's run, and its workflow task's start.
fn begin_task(partitions: &Partitions, workflow_id: &str) -> TaskToken {
    let (sender, receiver) = mpsc::channel();
    let key = EntityId::workflow("n", workflow_id);
    let read = move |core: &mut millrace::partition::Core| {
        let run = core.run(&key, "").expect("the store can be read").expect("the workflow is there");
        sender.send(run.head.clone()).expect("the test waits");
    };
    partitions.node.owner_of(&EntityId::workflow("n", workflow_id)).read(Box::new(read));
    let head = receiver.recv().expect("the partition answers");
    let task = head.workflow_task.clone().unwrap_or_default();
    TaskToken {
        namespace_id: "n".into(),
        id: workflow_id.into(),
        run_id: head.run_id.clone(),
        scheduled_event_id: task.scheduled_event_id,
        started_event_id: task.started_event_id,
        attempt: task.attempt,
        started_ms: task.started_ms,
        ..TaskToken::default()
    }
}

#[test]
fn a_task_of_the_only_workflow_is_offered_again_after_a_take_over() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let log = log_of_one_partition(directory.path());
    let open = || {
        Partitions::start(log.clone(), directory.path().join("data"), Settings::default())
            .expect("the partition starts")
    };
    let partitions = open();
    start(&partitions, "w0");
    let TaskToken { run_id, scheduled_event_id, attempt, .. } = begin_task(&partitions, "w0");
    let task = StartWorkflowTask { run_id, scheduled_event_id, attempt, ..StartWorkflowTask::default() };
    decide(&partitions, "w0", Body::StartWorkflowTask(task));
    let activity = ScheduleActivityTaskCommandAttributes {
        activity_id: "a".into(),
        activity_type: Some(ActivityType { name: "Type".into() }),
        task_queue: Some(TaskQueue { name: "activities".into(), ..TaskQueue::default() }),
        start_to_close_timeout: Some(prost_types::Duration { seconds: 60, nanos: 0 }),
        ..ScheduleActivityTaskCommandAttributes::default()
    };
    let attributes = Attributes::ScheduleActivityTaskCommandAttributes(activity);
    let command = WorkflowCommand {
        attributes: Some(attributes),
        command_type: CommandType::ScheduleActivityTask as i32,
        ..WorkflowCommand::default()
    };
    let request = RespondWorkflowTaskCompletedRequest { commands: vec![command], ..Default::default() };
    let token = Some(begin_task(&partitions, "w0"));
    decide(
        &partitions,
        "w0",
        Body::CompleteWorkflowTask(CompleteWorkflowTask { token, request: Some(request), ..Default::default() }),
    );
    let queue = QueueName { namespace_id: "n".into(), name: "activities".into(), queue_type: TaskQueueType::Activity };
    let backlog = |partitions: &Partitions| partitions.node.matching.stats(&queue, 0).backlog;
    assert_eq!(backlog(&partitions), 1);
    partitions.stop();

    let partitions = open();
    wait_until("the take-over", || status(&partitions, "w0").is_some());
    assert_eq!(backlog(&partitions), 1);
    partitions.stop();
}

/// Takes the next task of the queue, as a worker does, and starts it.
fn work(partitions: &Partitions, queue: &QueueName) -> String {
    let (sender, receiver) = mpsc::channel();
    let take = Box::new(move |offer| drop(sender.send(offer)));
    let _place = partitions.node.matching.poll(queue.clone(), false, &Worker::default(), take);
    let offer = receiver.recv_timeout(std::time::Duration::from_secs(30)).expect("a task is offered");
    let Offer::Task { origin, task } = offer else { panic!("nobody has asked anything") };
    let (run_id, scheduled_event_id, attempt) = (origin.run_id.to_string(), task.scheduled_event_id, task.attempt);
    let start = StartWorkflowTask { run_id, scheduled_event_id, attempt, ..StartWorkflowTask::default() };
    decide(partitions, &origin.entity.id, Body::StartWorkflowTask(start));
    origin.entity.id.to_string()
}

#[test]
fn a_backlog_that_is_larger_than_memory_is_worked_off_in_order() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let log = log_of_one_partition(directory.path());
    let settings = Settings { tasks_in_memory: 4, ..Settings::default() };
    let open = || {
        Partitions::start(log.clone(), directory.path().join("data"), settings.clone()).expect("the partition starts")
    };
    let partitions = open();
    let queue = QueueName { namespace_id: "n".into(), name: "queue".into(), queue_type: TaskQueueType::Workflow };
    let backlog = |partitions: &Partitions| partitions.node.matching.stats(&queue, 0).backlog;
    for number in 0..WORKFLOWS {
        start(&partitions, &format!("w{number}"));
        // Those of one millisecond would stand in any order.
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    wait_until("the count", || backlog(&partitions) == WORKFLOWS);
    for number in 0..WORKFLOWS / 2 {
        assert_eq!(work(&partitions, &queue), format!("w{number}"));
    }
    wait_until("the count", || backlog(&partitions) == WORKFLOWS / 2);
    partitions.stop();

    let partitions = open();
    wait_until("the take-over", || status(&partitions, "w0").is_some());
    wait_until("the count", || backlog(&partitions) == WORKFLOWS / 2);
    for number in WORKFLOWS / 2..WORKFLOWS {
        assert_eq!(work(&partitions, &queue), format!("w{number}"));
    }
    wait_until("the count", || backlog(&partitions) == 0);
    partitions.stop();
}

#[test]
fn an_owner_that_does_not_know_that_it_is_none_tells_nothing_old() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let log = log_of_one_partition(directory.path());
    let open = |name: &str| {
        Partitions::start(log.clone(), directory.path().join(name), Settings::default()).expect("the partition starts")
    };
    let before = open("before");
    start(&before, "w0");
    wait_until("the first owner's commit", || listed(&before, "") == 1);

    let after = open("after");
    wait_until("the new owner", || status(&after, "w0").is_some());
    decide(&after, "w0", terminate());
    // It has heard nothing from the log since it lost the partition.
    assert_eq!(status(&before, "w0"), Some(Status::Terminated));

    before.stop();
    after.stop();
}

#[test]
fn what_an_owner_of_before_was_told_reaches_the_new_one() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let log = log_of_one_partition(directory.path());
    let data = directory.path().join("data");
    let partitions = Partitions::start(log.clone(), data, Settings::default()).expect("the partition starts");
    start(&partitions, "w0");
    wait_until("the start's commit", || listed(&partitions, "") == 1);

    // As a node appends that does not know yet that it is none.
    let record = Record { value: Some(command("w0", terminate()).encode_to_vec().into()), ..Record::default() };
    log.append(Topic::Commands, 0, vec![record], Box::new(|outcome| drop(outcome.expect("it is appended"))));
    wait_until("the owner's look at the log", || listed(&partitions, "ExecutionStatus = 'Terminated'") == 1);
    partitions.stop();
}

#[test]
fn a_store_of_another_log_is_replaced() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let data: PathBuf = directory.path().join("data");
    let log = |name: &str| -> Arc<dyn Log> {
        Arc::new(
            Embedded::open(&directory.path().join(name), Options { partitions: Some(1), ..Options::default() })
                .expect("the log opens"),
        )
    };

    let partitions = Partitions::start(log("one"), data.clone(), Settings::default()).expect("the partition starts");
    (0..WORKFLOWS).for_each(|number| start(&partitions, &format!("w{number}")));
    partitions.stop();

    let partitions = Partitions::start(log("another"), data, Settings::default()).expect("the partition starts");
    // The partition is away for a moment, until its store is deleted.
    let mut found = None;
    for _ in 0..100 {
        let (sender, receiver) = mpsc::channel();
        let read = move |core: &mut millrace::partition::Core| {
            let found = core.run(&EntityId::workflow("n", "w0"), "").expect("the store can be read").is_some();
            sender.send(found).expect("the test waits");
        };
        partitions.node.owner_of(&EntityId::workflow("n", "w0")).read(Box::new(read));
        found = receiver.recv().ok();
        if found.is_some() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    assert_eq!(found, Some(false), "the other log has no workflows");
    assert_eq!(listed(&partitions, ""), 0);
    partitions.stop();
}

#[test]
fn a_store_that_took_something_for_committed_that_is_not_is_replaced() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let log = log_of_one_partition(directory.path());
    let data = directory.path().join("data");
    let open = || Partitions::start(log.clone(), data.clone(), Settings::default()).expect("the partition starts");

    let partitions = open();
    start(&partitions, "w0");
    partitions.stop();
    {
        // As a commit leaves it whose transaction was aborted: the log goes on after it, without its head.
        let end = log.end_at_least(Topic::State, 0, Isolation::ReadCommitted).expect("the log has an end");
        let stores = Directory::new(data.clone(), 1 << 20);
        let store = stores.open(0).expect("the store opens");
        let positions = store.positions().expect("the store can be read").expect("there are positions");
        let read = store.get(keys::HEAD).expect("the store can be read").expect("there is a head");
        let mut head = Head::decode(read).expect("the head can be read");
        head.commands_position += 1000;
        let changes = [(Bytes::from_static(keys::HEAD), Some(Bytes::from(head.encode_to_vec())))];
        store.write(&changes, Positions { state: end, head: end - 1, ..positions }).expect("the store can be written");
        store.flush().expect("the store can be flushed");
    }
    let partitions = open();
    wait_until("the take-over with a new store", || status(&partitions, "w0") == Some(Status::Running));
    decide(&partitions, "w0", terminate());
    assert_eq!(status(&partitions, "w0"), Some(Status::Terminated));
    partitions.stop();
}

/// The values of a topic's records.
fn values(log: &dyn Log, topic: Topic, key: Option<&[u8]>) -> Vec<Bytes> {
    let end = log.end_at_least(topic, 0, Isolation::ReadCommitted).expect("the log has an end");
    let mut reader = log.reader(topic, 0, 0, Isolation::ReadCommitted).expect("the log can be read");
    let (mut next, mut values) = (0, Vec::new());
    while next < end {
        let read = reader.next(1000, std::time::Duration::from_millis(100)).expect("the log can be read");
        next = read.next_offset;
        let records = read.records.into_iter().map(|stored| stored.record);
        values
            .extend(records.filter(|record| key.is_none_or(|key| record.key == key)).filter_map(|record| record.value));
    }
    values
}

/// The version of the fold that the partition's head has.
fn fold_version(log: &dyn Log) -> u32 {
    let heads = values(log, Topic::State, Some(keys::HEAD));
    heads.last().map_or(0, |head| Head::decode(head.clone()).expect("the head can be read").fold_version)
}

/// A node whose binary knows these versions of the fold.
fn node_of(log: &Arc<dyn Log>, data: PathBuf, fold_versions: RangeInclusive<u32>) -> Partitions {
    let settings = Settings { fold_versions, ..Settings::default() };
    Partitions::start(log.clone(), data, settings).expect("the partition starts")
}

/// Appends a command past the partition's owner.
fn append(log: &dyn Log, command: Command) {
    let record = Record { value: Some(command.encode_to_vec().into()), ..Record::default() };
    log.append(Topic::Commands, 0, vec![record], Box::new(|outcome| drop(outcome.expect("it is appended"))));
}

/// Waits until a node has decided all commands.
fn wait_until_decided(log: &dyn Log, partitions: &Partitions) {
    let end = || log.end_at_least(Topic::Commands, 0, Isolation::ReadUncommitted).expect("the log has an end");
    wait_until("deciding", || partitions.node.position(0).is_some_and(|position| position == end()));
}

#[test]
fn a_version_is_raised_by_the_first_who_knows_it_and_refused_by_who_does_not() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let log = log_of_one_partition(directory.path());
    let node = |versions| node_of(&log, directory.path().join("data"), versions);
    // There are updates since version 3.
    let update = || command("w0", Body::UpdateWorkflow(UpdateWorkflow { request: Some(update_request()) }));

    let older = node(2..=2);
    start(&older, "w0");
    append(&*log, update());
    wait_until_decided(&*log, &older);
    older.stop();
    assert_eq!((fold_version(&*log), values(&*log, Topic::Rejections, None).len()), (2, 1), "decided by version 2");

    let newer = node(2..=3);
    wait_until("the new version", || fold_version(&*log) == 3);
    append(&*log, update());
    wait_until_decided(&*log, &newer);
    newer.stop();
    // What version 2 decided stays as it was.
    let rejections = values(&*log, Topic::Rejections, None);
    let rejected: Vec<Rejected> =
        rejections.iter().map(|value| avro::decode(value).expect("a rejection can be read")).collect();
    let [rejected] = &rejected[..] else { panic!("one is refused, but {rejected:?} are") };
    assert_eq!((rejected.topic.as_str(), rejected.code.as_str()), ("commands", "INTERNAL"));

    let older = node(2..=2);
    std::thread::sleep(std::time::Duration::from_millis(500));
    assert_eq!((status(&older, "w0"), older.node.position(0)), (None, None), "the head has version 3");
    older.stop();
    // Nor does one that has forgotten version 3 already.
    let newest = node(4..=5);
    std::thread::sleep(std::time::Duration::from_millis(500));
    assert_eq!(newest.node.position(0), None);
    newest.stop();

    let newer = node(2..=3);
    wait_until("the newer binary", || status(&newer, "w0") == Some(Status::Running));
    newer.stop();
    let commands = values(&*log, Topic::Commands, None).into_iter().filter_map(|value| Command::decode(value).ok());
    let raised = commands.filter(|command| matches!(command.body, Some(Body::SetFoldVersion(_)))).count();
    assert_eq!(raised, 1, "it is raised once");
}

#[test]
fn an_owner_that_meets_a_version_that_it_does_not_know_decides_nothing_behind_it() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let log = log_of_one_partition(directory.path());

    let older = node_of(&log, directory.path().join("older"), 2..=2);
    start(&older, "w0");
    append(&*log, Command { body: Some(Body::SetFoldVersion(SetFoldVersion { version: 3 })), ..Command::default() });
    append(&*log, command("w0", terminate()));
    wait_until("the older owner's end", || older.node.position(0).is_none());
    older.stop();
    assert_eq!(fold_version(&*log), 2);
    let older = node_of(&log, directory.path().join("older"), 2..=2);
    std::thread::sleep(std::time::Duration::from_millis(500));
    assert_eq!(older.node.position(0), None, "nor does it take the partition over");
    older.stop();

    let newer = node_of(&log, directory.path().join("newer"), 2..=3);
    wait_until("the newer owner", || status(&newer, "w0") == Some(Status::Terminated));
    wait_until("its commit", || fold_version(&*log) == 3);
    newer.stop();
}

#[test]
fn a_command_of_a_kind_that_a_node_does_not_know_is_not_decided_there() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let log = log_of_one_partition(directory.path());
    let partitions = node_of(&log, directory.path().join("data"), 1..=2);
    let (sender, receiver) = mpsc::channel();
    let decided = move |_: &mut _, outcome: Result<_, _>| drop(sender.send(outcome.map(|_| ())));
    let unknown = Command { id: "w0".into(), ..Command::default() };
    partitions.node.partition(0).command(unknown, Box::new(decided));
    let outcome = receiver.recv().expect("the partition answers");
    assert!(matches!(outcome, Err(Failure::Unavailable(_))), "its sender is to send it again: {outcome:?}");
    partitions.stop();
}
