//! What a program plays on: a client, a task queue of its own, and the list of executions to report.

use std::fmt::Debug;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use temporalio_client::{
    Client, ClientOptions, Connection, ConnectionOptions, WorkflowDescribeOptions, WorkflowHandle,
};
use temporalio_common::HasWorkflowDefinition;
use temporalio_sdk::{Runtime, Worker, WorkerOptions};
use tokio::time::{sleep, timeout};

const PATIENCE: Duration = Duration::from_secs(60);

pub struct Stage {
    pub client: Client,
    pub workflow_id: String,
    pub task_queue: String,
    runtime: Runtime,
    executions: Vec<Value>,
}

impl Stage {
    pub async fn set_up(address: &str, namespace: String, id_prefix: String) -> anyhow::Result<Self> {
        let runtime = Runtime::from_current_tokio(Default::default())?;
        let options = ConnectionOptions::new(format!("http://{address}").parse::<url::Url>()?)
            .identity("programs".to_owned())
            .build();
        let connection = Connection::connect(options).await.with_context(|| format!("no server at {address}"))?;
        let client = Client::new(connection, ClientOptions::new(namespace).build())?;
        let task_queue = format!("{id_prefix}-tasks");
        Ok(Self { client, workflow_id: id_prefix, task_queue, runtime, executions: Vec::new() })
    }

    /// Runs a worker in this process for as long as the scenario takes.
    pub async fn with_worker(
        &self,
        options: WorkerOptions,
        scenario: impl Future<Output = anyhow::Result<()>>,
    ) -> anyhow::Result<()> {
        let mut worker = Worker::new(&self.runtime, self.client.clone(), options)?;
        let shut_down = worker.shutdown_handle();
        let scenario = async {
            let outcome = timeout(PATIENCE, scenario).await;
            shut_down();
            outcome.context("the scenario takes too long")?
        };
        let (worked, played) = tokio::join!(worker.run(), scenario);
        worked.context("the worker stopped")?;
        played
    }

    /// Adds an execution to the report.
    pub fn add(&mut self, label: &str, run_id: &str) {
        self.executions.push(json!({ "label": label, "workflow_id": self.workflow_id, "run_id": run_id }));
    }

    /// The executions whose histories are worth comparing, as one line of JSON.
    pub fn report(&self, program: &str) -> Value {
        json!({ "program": program, "executions": self.executions })
    }
}

/// Waits until the workflow waits for something from outside: until no workflow task and no activity is pending. What is
/// sent next can then meet it in one state only.
pub async fn until_idle<W: HasWorkflowDefinition>(workflow: &WorkflowHandle<Client, W>) -> anyhow::Result<()> {
    loop {
        let description = workflow.describe(WorkflowDescribeOptions::default()).await?.raw_description;
        if description.pending_workflow_task.is_none() && description.pending_activities.is_empty() {
            return Ok(());
        }
        sleep(Duration::from_millis(20)).await;
    }
}

/// Fails with both values if they differ.
pub fn expect<T: PartialEq + Debug>(what: &str, want: T, got: T) -> anyhow::Result<()> {
    ensure!(want == got, "expected {what} to be {want:?}, but got {got:?}");
    Ok(())
}
