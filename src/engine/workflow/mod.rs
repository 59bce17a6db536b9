//! Workflows: what commands do to a run.
//!
//! One file per command; [`workflow_commands`] has those that workflow code issues.

mod activity;
mod build_ids;
mod cancel_activity;
mod child;
mod close;
mod complete_activity;
mod complete_workflow_task;
mod deadlines;
mod event;
mod external_payloads;
mod external_request;
mod fail_activity;
mod fail_workflow_task;
mod fire_timer;
mod heartbeat_activity;
mod history;
mod machine;
mod new_run;
mod notify;
mod pause_activity;
mod pause_info;
mod pause_workflow;
mod queues;
mod recording;
mod request_cancel_workflow;
mod reset_activity;
mod reset_sticky_task_queue;
mod reset_workflow;
mod return_task;
mod row;
mod signal_workflow;
mod start_activity_task;
mod start_workflow;
mod start_workflow_task;
mod state;
mod target;
mod terminate_workflow;
mod unpause_activity;
mod unpause_workflow;
mod update_activity_options;
mod update_workflow;
mod update_workflow_options;
mod updates;
mod workflow_commands;
mod workflow_task;

#[cfg(test)]
mod tests;

pub use event::Event;
pub use history::close_status;
pub use reset_workflow::{copied, news};
pub use row::{row, search_attributes};
pub use state::{Record, Run, part};
pub use terminate_workflow::DELETE_REASON;
pub use update_workflow_options::mask_problem as options_mask_problem;
pub use updates::{
    ABORTED_BY_CLOSE as UPDATE_ABORTED_BY_CLOSE, Event as UpdateEvent, Stage as UpdateStage,
    failure_of_closed as failure_of_closed_update, id_of as id_of_update, messages as update_messages,
    request_problem as update_request_problem,
};
pub use workflow_commands::search_attributes_problem;
pub use workflow_task::{Event as WorkflowTaskEvent, transient_events};

pub use super::work::Reply;

/// The scratch copy of a workflow that one command is decided on.
pub type Work = super::work::Work<Run>;
