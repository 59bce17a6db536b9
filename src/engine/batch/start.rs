//! StartBatch: begins a batch, unless there is or was one of its id.

use super::{Batch, Event};
use crate::engine::rejection::Rejection;
use crate::engine::work::Work;
use crate::proto::batch::{Head, StartBatch};
use crate::proto::temporal::enums::v1::WorkflowExecutionStatus as Status;

pub fn start(work: &mut Work<Batch>, start: &StartBatch) -> Result<(), Rejection> {
    let before = work.run();
    let run_id = before.head.run_id.clone();
    if !run_id.is_empty() {
        let (what, policy) = if before.is_open() {
            ("Workflow execution is already running.", "")
        } else {
            ("Workflow execution already finished.", " Workflow Id reuse policy: reject duplicate workflow Id.")
        };
        let message = format!("{what} WorkflowId: {}, RunId: {run_id}.{policy}", work.entity.id);
        return Err(Rejection::AlreadyStarted {
            message,
            start_request_id: String::new(),
            first_run_id: run_id.clone(),
            run_id,
        });
    }
    let head = Head {
        namespace_id: work.entity.namespace_id.to_string(),
        namespace: work.namespace.clone(),
        id: work.entity.id.to_string(),
        run_id: work.new_run_id(),
        start_ms: work.now,
        status: Status::Running as i32,
        ..Head::default()
    };
    work.emit(Event::Started { head: Box::new(head), plan: Box::new(start.clone()) });
    Ok(())
}
