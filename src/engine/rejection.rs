//! Why a command was refused, as data. One place at the edge maps it to a gRPC status or a `rejections` record.

/// A decided refusal. Nothing of the command took effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// No such workflow, run, task, activity or namespace, or it is closed. `message` names which.
    NotFound(String),
    /// The workflow id is taken. Clients look for the run.
    AlreadyStarted {
        message: String,
        start_request_id: String,
        run_id: String,
        /// The first run of the chain that the run continues.
        first_run_id: String,
    },
    NamespaceAlreadyExists(String),
    NamespaceNotFound(String),
    InvalidArgument(String),
    FailedPrecondition(String),
    /// Beyond a limit, such as signals per run.
    ResourceExhausted(String),
    /// So many at a time, and no more: it may be requested again once one of them is over.
    TooManyConcurrent(String),
    /// The workflow can't do it as it is: its workers fail its tasks.
    NotReady(String),
    /// Decided after its deadline: the caller got no answer, and nothing happened.
    DeadlineExceeded,
    /// A numbered command came before the one ahead of it: its sender starts again from there.
    OutOfOrder(String),
    /// A repetition of something that already took effect: no error, no effect.
    Duplicate,
    /// It can't be decided: a defect of the engine, or of the sender. The command is set aside.
    Poison(String),
}

impl Rejection {
    /// `run_id` is empty if the newest run was requested.
    pub fn workflow_not_found(workflow_id: &str, run_id: &str) -> Self {
        Self::NotFound(if run_id.is_empty() {
            format!("workflow not found for ID: {workflow_id}")
        } else {
            format!("workflow execution not found for workflow ID {workflow_id:?} and run ID {run_id:?}")
        })
    }

    pub fn schedule_not_found(schedule_id: &str) -> Self {
        Self::NotFound(format!("schedule not found for ID: {schedule_id}"))
    }

    pub fn workflow_closed() -> Self {
        Self::NotFound("workflow execution already completed".into())
    }

    /// A gRPC status code's name, for `rejections`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotFound(_) | Self::NamespaceNotFound(_) => "NOT_FOUND",
            Self::AlreadyStarted { .. } | Self::NamespaceAlreadyExists(_) | Self::Duplicate => "ALREADY_EXISTS",
            Self::InvalidArgument(_) => "INVALID_ARGUMENT",
            Self::FailedPrecondition(_) | Self::NotReady(_) => "FAILED_PRECONDITION",
            Self::ResourceExhausted(_) | Self::TooManyConcurrent(_) => "RESOURCE_EXHAUSTED",
            Self::DeadlineExceeded => "DEADLINE_EXCEEDED",
            Self::OutOfOrder(_) => "ABORTED",
            Self::Poison(_) => "INTERNAL",
        }
    }

    pub fn message(&self) -> String {
        match self {
            Self::NotFound(m)
            | Self::InvalidArgument(m)
            | Self::FailedPrecondition(m)
            | Self::ResourceExhausted(m)
            | Self::TooManyConcurrent(m)
            | Self::NotReady(m)
            | Self::NamespaceAlreadyExists(m)
            | Self::NamespaceNotFound(m)
            | Self::OutOfOrder(m)
            | Self::Poison(m)
            | Self::AlreadyStarted { message: m, .. } => m.clone(),
            Self::DeadlineExceeded => "the command was decided after its deadline".into(),
            Self::Duplicate => "the command was seen before".into(),
        }
    }
}
