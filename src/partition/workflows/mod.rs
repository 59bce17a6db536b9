//! What a partition does for workflows alone: tasks and queries for their workers, public records, metrics. The rest of it knows
//! entities, whatever their kind.

mod activity_tasks;
mod observe;
mod public;
mod queries;
mod tasks;

pub use observe::decided as observe;
pub use public::{history, records as public_records};
pub use queries::{QUERY_WAIT_MS_MAX, Queries, QueryAnswer, QueryFailure};
pub use tasks::{PAGE_BYTES, StartedTask, activity_task, page_token, query_task, started_task, workflow_task};
