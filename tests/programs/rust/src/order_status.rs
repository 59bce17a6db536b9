//! An order waits for its payment, is then shipped, and can be asked at any time how far it is.

use std::time::Duration;

use temporalio_client::{WorkflowGetResultOptions, WorkflowQueryOptions, WorkflowSignalOptions, WorkflowStartOptions};
use temporalio_macros::{activities, workflow, workflow_methods};
use temporalio_sdk::activities::{ActivityContext, ActivityError};
use temporalio_sdk::{
    ActivityOptions, SyncWorkflowContext, WorkerOptions, WorkflowContext, WorkflowContextView, WorkflowResult,
};

use crate::stage::{Stage, expect, until_idle};

#[workflow]
#[derive(Default)]
pub struct Order {
    status: String,
    receipt: Option<String>,
}

#[workflow_methods]
impl Order {
    #[run]
    pub async fn fulfil(ctx: &mut WorkflowContext<Self>, item: String) -> WorkflowResult<String> {
        ctx.state_mut(|order| order.status = "waiting for payment".to_owned());
        ctx.wait_condition(|order| order.receipt.is_some()).await?;
        let options = ActivityOptions::start_to_close_timeout(Duration::from_secs(10));
        let parcel = ctx.execute_activity(Warehouse::ship, item, options).await?;
        ctx.state_mut(|order| order.status = format!("shipped as {parcel}"));
        Ok(parcel)
    }

    #[signal]
    pub fn paid(&mut self, _ctx: &mut SyncWorkflowContext<Self>, receipt: String) {
        self.status = format!("paid with {receipt}");
        self.receipt = Some(receipt);
    }

    #[query]
    pub fn status(&self, _ctx: &WorkflowContextView) -> String {
        self.status.clone()
    }
}

pub struct Warehouse;

#[activities]
impl Warehouse {
    #[activity]
    pub async fn ship(_ctx: ActivityContext, item: String) -> Result<String, ActivityError> {
        eprintln!("activity: shipping {item}");
        Ok(format!("parcel of {item}"))
    }
}

pub async fn play(stage: &mut Stage) -> anyhow::Result<()> {
    let worker =
        WorkerOptions::new(&stage.task_queue).register_workflow::<Order>()?.register_activities(Warehouse).build();
    let mut run_id = String::new();
    let scenario = async {
        let options = WorkflowStartOptions::new(&stage.task_queue, &stage.workflow_id).build();
        let order = stage.client.start_workflow(Order::fulfil, "a millstone".to_owned(), options).await?;
        run_id = order.run_id().unwrap_or_default().to_owned();
        eprintln!("client: ordered, {}", stage.workflow_id);

        let status = async || order.query(Order::status, (), WorkflowQueryOptions::default()).await;
        until_idle(&order).await?;
        eprintln!("client: the order is {}", status().await?);
        expect("the status", "waiting for payment", &status().await?)?;

        order.signal(Order::paid, "receipt 17".to_owned(), WorkflowSignalOptions::default()).await?;
        let parcel = order.get_result(WorkflowGetResultOptions::default()).await?;
        expect("the result", "parcel of a millstone", &parcel)?;
        eprintln!("client: the order is {}", status().await?);
        // A closed workflow still answers: the worker replays its history, or remembers it.
        expect("the status", "shipped as parcel of a millstone", &status().await?)
    };
    stage.with_worker(worker, scenario).await?;
    stage.add("order", &run_id);
    Ok(())
}
