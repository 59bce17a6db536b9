//! Calls the callbacks of a partition's appends in the order of the appends, whatever order their outcomes come in.
//!
//! Holds no lock while it calls one, so a callback may append again. A callback must not panic.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard};

use super::{Appended, Error, OnAppend};

#[derive(Default)]
pub(super) struct InOrder {
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    /// The ticket of the first slot.
    first: u64,
    slots: VecDeque<Slot>,
    /// Whether a thread is calling callbacks now: it goes on until the first slot has no outcome.
    calling: bool,
}

struct Slot {
    done: OnAppend,
    outcome: Option<Result<Vec<Appended>, Error>>,
}

#[derive(Clone, Copy)]
pub(super) struct Ticket(u64);

impl InOrder {
    /// Takes the next place. The caller makes sure that places are taken in the order of the appends.
    pub fn enqueue(&self, done: OnAppend) -> Ticket {
        let mut queue = self.lock();
        queue.slots.push_back(Slot { done, outcome: None });
        Ticket(queue.first + queue.slots.len() as u64 - 1)
    }

    /// Notes the outcome of one append and calls every callback that waits for no earlier one. The outcome may be
    /// delivered by another thread that is calling callbacks already.
    pub fn complete(&self, ticket: Ticket, outcome: Result<Vec<Appended>, Error>) {
        let mut queue = self.lock();
        let index = (ticket.0 - queue.first) as usize;
        queue.slots[index].outcome = Some(outcome);
        if queue.calling {
            return;
        }
        queue.calling = true;
        while queue.slots.front().is_some_and(|slot| slot.outcome.is_some()) {
            let slot = queue.slots.pop_front().expect("a slot was at the front");
            queue.first += 1;
            drop(queue);
            (slot.done)(slot.outcome.expect("the slot had an outcome"));
            queue = self.lock();
        }
        queue.calling = false;
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().expect("no code that can panic runs under this lock")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    fn note(seen: &Arc<Mutex<Vec<u32>>>, number: u32) -> OnAppend {
        let seen = seen.clone();
        Box::new(move |_| seen.lock().unwrap().push(number))
    }

    #[test]
    fn a_later_outcome_waits_for_the_earlier_one() {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let order = InOrder::default();
        let (one, two, three) =
            (order.enqueue(note(&seen, 1)), order.enqueue(note(&seen, 2)), order.enqueue(note(&seen, 3)));
        order.complete(two, Ok(Vec::new()));
        assert!(seen.lock().unwrap().is_empty());
        order.complete(one, Err(Error::Unavailable("…".into())));
        assert_eq!(*seen.lock().unwrap(), [1, 2]);
        order.complete(three, Ok(Vec::new()));
        assert_eq!(*seen.lock().unwrap(), [1, 2, 3]);
    }

    #[test]
    fn a_callback_may_append() {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let order = Arc::new(InOrder::default());
        let (again, inner) = (order.clone(), note(&seen, 2));
        let outer = note(&seen, 1);
        let ticket = order.enqueue(Box::new(move |outcome| {
            let ticket = again.enqueue(inner);
            again.complete(ticket, Ok(Vec::new()));
            outer(outcome);
        }));
        order.complete(ticket, Ok(Vec::new()));
        assert_eq!(*seen.lock().unwrap(), [1, 2]);
    }
}
