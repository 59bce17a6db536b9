//! The task queues that events name.

use crate::proto::temporal::enums::v1::TaskQueueKind;
use crate::proto::temporal::taskqueue::v1::TaskQueue;

pub fn normal_queue(name: &str) -> TaskQueue {
    TaskQueue { name: name.to_owned(), kind: TaskQueueKind::Normal as i32, ..TaskQueue::default() }
}

pub fn sticky_queue(name: &str, normal_name: &str) -> TaskQueue {
    TaskQueue { name: name.to_owned(), kind: TaskQueueKind::Sticky as i32, normal_name: normal_name.to_owned() }
}
