//! A command that takes the process down, twice, is set aside: what no panic tells of, so that only processes can show it.

use std::io::Write as _;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use millrace::proto::temporal::common::v1::{WorkflowExecution, WorkflowType};
use millrace::proto::temporal::enums::v1::WorkflowExecutionStatus;
use millrace::proto::temporal::taskqueue::v1::TaskQueue;
use millrace::proto::temporal::workflowservice::v1::{
    DescribeWorkflowExecutionRequest, DescribeWorkflowExecutionResponse, SignalWorkflowExecutionRequest,
    SignalWorkflowExecutionResponse, StartWorkflowExecutionRequest, StartWorkflowExecutionResponse,
};
use prost::Message;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;

const BINARY: &str = env!("CARGO_BIN_EXE_millrace");
/// The workflow whose commands abort the process.
const POISON: &str = "poison";
const WAIT_MAX: Duration = Duration::from_secs(60);

struct Server {
    process: Child,
    address: String,
}

impl Server {
    fn start(directory: &Path) -> Self {
        let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port is free");
        let process = Command::new(BINARY)
            .args(["server", "start-dev", "--headless", "--partitions", "1", "--log-level", "warn"])
            .args(["--port", &free.port().to_string()])
            .arg("--db-filename")
            .arg(directory)
            .env("MILLRACE_TEST_ABORT_ON_WORKFLOW_ID", POISON)
            .stdin(Stdio::null())
            .spawn()
            .expect("the server starts");
        Self { process, address: free.to_string() }
    }

    /// Waits until it is down by itself.
    fn goes_down(&mut self) -> ExitStatus {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.process.try_wait().expect("it is our child") {
                return status;
            }
            assert!(begun.elapsed() < WAIT_MAX, "the server is to go down");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Makes a call, again as long as the server is not there yet.
    fn call<Q, R>(&self, method: &'static str, request: Q) -> Result<R, Status>
    where
        Q: Message + Clone + Send + Sync + 'static,
        R: Message + Default + Send + Sync + 'static,
    {
        let begun = Instant::now();
        loop {
            match self.call_once(method, request.clone()) {
                Err(status) if status.code() == Code::Unavailable && begun.elapsed() < WAIT_MAX => {
                    std::thread::sleep(Duration::from_millis(50));
                }
                outcome => return outcome,
            }
        }
    }

    fn call_once<Q, R>(&self, method: &'static str, request: Q) -> Result<R, Status>
    where
        Q: Message + Send + Sync + 'static,
        R: Message + Default + Send + Sync + 'static,
    {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("there is a runtime");
        runtime.block_on(async {
            let gone = |error: &dyn std::fmt::Display| Status::unavailable(error.to_string());
            let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{}", self.address));
            let channel = endpoint.expect("an address").connect().await.map_err(|error| gone(&error))?;
            let mut grpc = tonic::client::Grpc::new(channel);
            grpc.ready().await.map_err(|error| gone(&error))?;
            let codec: ProstCodec<Q, R> = ProstCodec::default();
            let answer = grpc.unary(Request::new(request), PathAndQuery::from_static(method), codec).await;
            answer.map(tonic::Response::into_inner)
        })
    }

    fn start_workflow(&self, workflow_id: &str) -> Result<StartWorkflowExecutionResponse, Status> {
        self.call("/temporal.api.workflowservice.v1.WorkflowService/StartWorkflowExecution", start(workflow_id))
    }

    fn signal(&self, workflow_id: &str) -> Result<SignalWorkflowExecutionResponse, Status> {
        let request = SignalWorkflowExecutionRequest {
            namespace: "default".into(),
            workflow_execution: Some(WorkflowExecution { workflow_id: workflow_id.into(), run_id: String::new() }),
            signal_name: "signal".into(),
            ..Default::default()
        };
        self.call("/temporal.api.workflowservice.v1.WorkflowService/SignalWorkflowExecution", request)
    }

    fn status(&self, workflow_id: &str) -> WorkflowExecutionStatus {
        let request = DescribeWorkflowExecutionRequest {
            namespace: "default".into(),
            execution: Some(WorkflowExecution { workflow_id: workflow_id.into(), run_id: String::new() }),
        };
        let described: DescribeWorkflowExecutionResponse = self
            .call("/temporal.api.workflowservice.v1.WorkflowService/DescribeWorkflowExecution", request)
            .expect("the workflow is there");
        described.workflow_execution_info.unwrap_or_default().status()
    }

    /// Asks for a workflow by a record of `requests`.
    fn produce(&self, workflow_id: &str) {
        let mut produce = Command::new(BINARY)
            .args(["produce", "requests", "--address", &self.address])
            .stdin(Stdio::piped())
            .spawn()
            .expect("records can be written");
        let mut lines = produce.stdin.take().expect("it reads");
        let start = r#""workflow_type": "Type", "task_queue": "queue""#;
        writeln!(lines, r#"{{"start": {{"workflow_id": "{workflow_id}", {start}}}}}"#).expect("it reads");
        drop(lines);
        let _ = produce.wait();
    }

    /// What a topic holds, as JSON, one record a line.
    fn consume(&self, topic: &str) -> String {
        let consume = ["consume", topic, "--from-beginning", "--address", &self.address];
        let output = Command::new(BINARY).args(consume).output().expect("the topic can be read");
        String::from_utf8(output.stdout).expect("it is text")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn start(workflow_id: &str) -> StartWorkflowExecutionRequest {
    StartWorkflowExecutionRequest {
        namespace: "default".into(),
        workflow_id: workflow_id.into(),
        workflow_type: Some(WorkflowType { name: "Type".into() }),
        task_queue: Some(TaskQueue { name: "queue".into(), ..TaskQueue::default() }),
        request_id: format!("start of {workflow_id}"),
        ..StartWorkflowExecutionRequest::default()
    }
}

#[test]
fn a_command_that_takes_the_process_down_twice_is_set_aside() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("data");

    let mut server = Server::start(&path);
    server.start_workflow("before").expect("a workflow starts");
    let outcome: Result<StartWorkflowExecutionResponse, _> =
        server.call_once("/temporal.api.workflowservice.v1.WorkflowService/StartWorkflowExecution", start(POISON));
    assert!(outcome.is_err(), "nobody answers: {outcome:?}");
    assert!(!server.goes_down().success());

    // Who takes the partition over goes down over it too.
    assert!(!Server::start(&path).goes_down().success());

    let server = Server::start(&path);
    server.signal("before").expect("the partition goes on");
    server.start_workflow("after").expect("the partition goes on");
    assert_eq!(server.status("before"), WorkflowExecutionStatus::Running);
    let rejections = server.consume("rejections");
    let [rejection] = rejections.lines().collect::<Vec<_>>()[..] else { panic!("one is refused, but: {rejections}") };
    for part in ["\"topic\":\"commands\"", "\"offset\":", "INTERNAL", "twice", POISON] {
        assert!(rejection.contains(part), "{part} is missing: {rejection}");
    }
    // The caller asks again.
    let refused = server.start_workflow(POISON).expect_err("it is refused");
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains("set aside"), "{refused}");
    drop(server);

    // Whoever comes next decides it no more, and knows that it was set aside.
    let server = Server::start(&path);
    assert_eq!(server.start_workflow(POISON).expect_err("it is refused").code(), Code::FailedPrecondition);
    assert_eq!(server.status("after"), WorkflowExecutionStatus::Running);
    assert_eq!(server.consume("rejections").lines().count(), 1);
}

#[test]
fn a_request_from_a_topic_that_takes_the_process_down_twice_is_set_aside() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("data");

    let mut server = Server::start(&path);
    server.start_workflow("before").expect("a workflow starts");
    // The answer that it was written may be cut off by the server's end.
    server.produce(POISON);
    assert!(!server.goes_down().success());
    assert!(!Server::start(&path).goes_down().success());

    let server = Server::start(&path);
    server.signal("before").expect("the partition goes on");
    server.produce("last");
    let begun = Instant::now();
    // The ingress goes on behind it.
    while server.consume("history").matches("\"last\"").count() == 0 {
        assert!(begun.elapsed() < WAIT_MAX, "the request behind it is carried out");
        std::thread::sleep(Duration::from_millis(100));
    }
    let rejections = server.consume("rejections");
    let [rejection] = rejections.lines().collect::<Vec<_>>()[..] else { panic!("one is refused, but: {rejections}") };
    for part in ["\"topic\":\"requests\"", "INTERNAL", "twice", POISON] {
        assert!(rejection.contains(part), "{part} is missing: {rejection}");
    }
}
