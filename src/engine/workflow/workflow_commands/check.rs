//! What is checked of every command's fields before it is carried out, with the messages of Temporal's server: its
//! `CommandAttrValidator` is the source of the rules.

use super::BadCommand;
use crate::engine::retry;
use crate::proto::temporal::common::v1::{Priority, RetryPolicy};
use crate::proto::temporal::enums::v1::WorkflowTaskFailedCause as Cause;
use crate::proto::temporal::taskqueue::v1::TaskQueue;
use crate::types::{limits, time};

/// Another queue of the server's own workers.
const INTERNAL_QUEUE: &str = "temporal-sys-worker-controller-per-ns-tq";
/// Bytes.
const FAIRNESS_KEY_LENGTH_MAX: usize = 64;

/// What a command of one type may not contain, with what names it in messages.
pub struct Check<'a> {
    pub cause: Cause,
    /// The command's type, as messages name it: `StartTimerCommand`.
    pub command: &'a str,
    /// Ends every message that names a field: ` TimerId=t`.
    pub named: String,
}

impl Check<'_> {
    pub fn bad(&self, message: impl std::fmt::Display) -> BadCommand {
        BadCommand::new(self.cause, message.to_string())
    }

    /// A field that must be set.
    pub fn required(&self, what: &str, value: &str) -> Result<(), BadCommand> {
        if value.is_empty() {
            Err(self.bad(format!("{what} is not set on {}.{}", self.command, self.named)))
        } else {
            Ok(())
        }
    }

    pub fn length(&self, what: &str, value: &str) -> Result<(), BadCommand> {
        if !limits::is_too_long(value) {
            return Ok(());
        }
        Err(self.bad(format!(
            "{what} on {} exceeds length limit. {what}={value} Length={} Limit={}{}",
            self.command,
            value.len(),
            limits::ID_LENGTH_MAX,
            self.named
        )))
    }

    pub fn duration(&self, what: &str, value: Option<&prost_types::Duration>) -> Result<(), BadCommand> {
        let invalid = |problem| self.bad(format!("Invalid {what} on {}: {problem}.{}", self.command, self.named));
        time::problem(value).map_or(Ok(()), |problem| Err(invalid(problem)))
    }

    /// A retry policy of a workflow: none is no retries.
    pub fn retry_policy(&self, policy: Option<&RetryPolicy>) -> Result<(), BadCommand> {
        let Some(problem) = policy.and_then(retry::problem) else { return Ok(()) };
        let problem = problem.trim_end_matches('.');
        Err(self.bad(format!("invalid WorkflowRetryPolicy on {}: {problem}.{}", self.command, self.named)))
    }

    /// A run that is named must be named by a UUID.
    pub fn run_id(&self, run_id: &str) -> Result<(), BadCommand> {
        let valid = run_id.is_empty() || crate::types::is_uuid(run_id);
        if valid { Ok(()) } else { Err(self.bad(format!("Invalid RunId set on {}.{}", self.command, self.named))) }
    }
}

/// What is wrong with a priority, if anything.
pub fn priority_problem(priority: Option<&Priority>) -> Option<&'static str> {
    let priority = priority?;
    if priority.priority_key < 0 {
        Some("priority key can't be negative")
    } else if priority.fairness_key.len() > FAIRNESS_KEY_LENGTH_MAX {
        Some("fairness key length exceeds limit")
    } else if priority.fairness_weight < 0.0 {
        Some("must be greater than zero")
    } else {
        None
    }
}

/// The queue that a command names: `or`, if it leaves it to the workflow, whose own queue is `of_workflow`.
pub fn queue(queue: Option<&TaskQueue>, or: &str, of_workflow: &str) -> Result<String, String> {
    let asked = queue.map(|queue| queue.name.as_str()).filter(|name| !name.is_empty());
    let name = asked.unwrap_or(or);
    let is_internal = |name: &str| name.starts_with(limits::INTERNAL_QUEUE_PREFIX) || name == INTERNAL_QUEUE;
    if name.is_empty() {
        Err(if queue.is_none() { "taskQueue is not set" } else { "missing task queue name" }.into())
    } else if limits::is_too_long(name) {
        Err("taskQueue length exceeds limit".into())
    } else if let Some(problem) = limits::queue_problem(name) {
        Err(problem)
    } else if is_internal(name) && !is_internal(of_workflow) {
        Err(format!(
            "cannot use internal per-namespace task queue:{name} (in parent component task queue: {of_workflow})"
        ))
    } else {
        Ok(name.to_owned())
    }
}
