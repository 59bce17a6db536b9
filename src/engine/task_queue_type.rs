//! What a task queue carries.

use crate::proto::temporal::enums::v1 as enums;

/// What the tasks of a queue are: queues of one name and of different types have nothing in common. The number is the one that
/// Temporal's enum of this name has, and a part of the store's keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum TaskQueueType {
    Workflow = enums::TaskQueueType::Workflow as u8,
    Activity = enums::TaskQueueType::Activity as u8,
}

impl TaskQueueType {
    /// The type of a number, as messages and keys have it; none if no queue here has such tasks.
    pub fn of(number: i32) -> Option<Self> {
        match enums::TaskQueueType::try_from(number).ok()? {
            enums::TaskQueueType::Workflow => Some(Self::Workflow),
            enums::TaskQueueType::Activity => Some(Self::Activity),
            enums::TaskQueueType::Nexus | enums::TaskQueueType::Unspecified => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back() {
        let known: Vec<_> = (-1..=1000).filter_map(|number| Some((number, TaskQueueType::of(number)?))).collect();
        assert_eq!(known, [(1, TaskQueueType::Workflow), (2, TaskQueueType::Activity)]);
        assert!(known.iter().all(|(number, queue_type)| *queue_type as i32 == *number));
    }
}
