//! The engine: decides commands against one entity's state. Pure: no I/O, clock, async, locks, logging or hash-order
//! iteration. All that a decision needs from outside is in the command.
//!
//! [`decide`] works on a copy and emits events, which [`Machine::apply`] folds, the only thing that changes a state. A refused
//! command ([`Rejection`]) leaves nothing behind. What must happen outside is derived from the outcome: replies, sends, and, by
//! each record's [`Agenda`], timers and tasks.
//!
//! Each kind of entity is a [`Machine`] in a folder of its own; [`kinds`] lists them.

// Temporal has deprecated fields that its server goes on writing, and clients reading: so do we.
#![allow(deprecated)]

pub mod attempts;
pub mod batch;
mod callback;
#[cfg(debug_assertions)]
pub mod counter;
mod cron;
mod entity_id;
pub mod failure;
mod go_duration;
mod histories;
pub mod kinds;
mod machine;
mod namespace;
mod nothing;
mod payload;
pub mod priority;
mod rejection;
mod retry;
mod row;
pub mod schedule;
mod size;
mod sub_key;
mod task_queue_type;
mod version;
mod work;
pub mod workflow;
mod zone;

pub use callback::{done, refused};
pub use cron::Schedule as CronSchedule;
pub use entity_id::EntityId;
pub use histories::{Histories, Needed};
pub use kinds::{Events, Kind, State};
pub use machine::{Agenda, Header, Machine, Recorded, Shared, Task, TaskKind};
pub use namespace::search_attributes::{
    TYPES as SEARCH_ATTRIBUTE_TYPES, type_name as search_attribute_type_name, type_of_field,
};
pub use rejection::Rejection;
pub use retry::problem as retry_policy_problem;
pub use row::{DIVISION, Row};
pub use sub_key::SubKey;
pub use task_queue_type::TaskQueueType;
pub use version::{FOLD_VERSION_MAX, FOLD_VERSION_MIN, LIBRARIES};
pub use work::{Loaded, Outcome, Reply, RunOutcome, Send};

use crate::proto::commands::Command;

/// Decides one command against what is loaded of its entity, which is the newest run alone for most of them, at `now`, in
/// milliseconds since the Unix epoch, by a version of the fold from [`FOLD_VERSION_MIN`] to [`FOLD_VERSION_MAX`].
pub fn decide<'a>(
    loaded: impl Into<Loaded<'a>>,
    command: &Command,
    now: i64,
    version: u32,
) -> Result<Outcome, Rejection> {
    let decided = if command.deadline_ms > 0 && now > command.deadline_ms {
        Err(Rejection::DeadlineExceeded)
    } else {
        kind_of(command, version).and_then(|kind| kind.decide(loaded.into(), command, now, version))
    };
    // To its sender the refusal is an outcome, and with that the command is carried out.
    decided.or_else(|refusal| match refused(command, &refusal) {
        Some(notification) => Ok(Outcome { sends: vec![notification], refusal: Some(refusal), ..Outcome::default() }),
        None => Err(refusal),
    })
}

/// The kind of the entity that a command is for, if a version of the fold has it.
pub fn kind_of(command: &Command, version: u32) -> Result<Kind, Rejection> {
    let kind = Kind::of(command.kind).ok_or_else(|| unknown_kind(command))?;
    if version < kind.since() {
        return Err(Rejection::FailedPrecondition(format!(
            "there are entities of kind {} from version {} of the fold on, and version {version} is in force: upgrade all nodes",
            command.kind,
            kind.since()
        )));
    }
    Ok(kind)
}

/// Why a command can't be decided by a version of the fold, though it can by a later one, which is in force once all nodes know it.
pub fn not_yet_known(command: &Command, version: u32) -> Option<String> {
    if let Some(body) = &command.body
        && version < version::since(body)
    {
        let (name, since) = (body.name(), version::since(body));
        return Some(format!(
            "there is {name} from version {since} of the fold on, and version {version} is in force: upgrade all nodes"
        ));
    }
    kind_of(command, version).err().map(|refusal| refusal.message())
}

/// Of a kind that no node knew when it was appended: such commands are not sent, so something is wrong.
pub fn unknown_kind(command: &Command) -> Rejection {
    Rejection::Poison(format!("the command is to an entity of kind {}, which is not known", command.kind))
}
