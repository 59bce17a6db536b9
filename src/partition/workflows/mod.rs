//! What a partition does for workflows alone: tasks, queries and updates for their workers, public records, metrics. The rest of it knows
//! entities, whatever their kind.

mod activity_tasks;
mod observe;
mod polls;
mod public;
mod queries;
mod tasks;
mod updates;

pub use observe::decided as observe;
pub use polls::TakeTask;
pub use public::{history, records as public_records};
pub use queries::{QUERY_WAIT_MS_MAX, Queries, QueryAnswer, QueryFailure};
pub use tasks::{PAGE_BYTES, PolledTask, activity_task, workflow_task};
pub use updates::{Awaited, UpdateStatus, Updates};
