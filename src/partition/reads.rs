//! Reads as good as writes: one is served once an own append that was sent after it came is acknowledged and decided. Then all
//! that was acknowledged before it came has been decided. An owner that was paused, and does not know yet that another
//! has taken its partition over, serves nothing that is out of date, and no broker that was paused can make it do so.
//!
//! Where commands come anyway, reads cost nothing. Where none does, a [barrier](super::barrier) is appended, one for all reads
//! that wait: the next is not sent before the one before is acknowledged.

use std::collections::VecDeque;

use super::{Handle, Message, Node, Read};
use crate::log::{Isolation, Topic};

/// The reads that wait, in the order in which they came.
#[derive(Default)]
pub struct Reads {
    waiting: VecDeque<Waiting>,
    /// Which append the last barrier was.
    barrier: u64,
}

struct Waiting {
    /// Served once so many appends have been decided.
    appended: u64,
    read: Read,
}

/// What to do next about the reads that wait.
pub enum Next {
    Serve(Read),
    /// Nothing is on its way that will do: a barrier is to be appended.
    Append,
    Wait,
}

impl Reads {
    /// `sent`: the appends that were sent so far.
    pub fn push(&mut self, read: Read, sent: u64) {
        self.waiting.push_back(Waiting { appended: sent + 1, read });
    }

    /// `sent` and `appended`: the appends that were sent so far, and those of them that have been decided.
    pub fn next(&mut self, sent: u64, appended: u64) -> Next {
        let Some(first) = self.waiting.front() else { return Next::Wait };
        if appended >= first.appended {
            return self.waiting.pop_front().map_or(Next::Wait, |first| Next::Serve(first.read));
        }
        let will_do = sent >= first.appended;
        if will_do || appended < self.barrier {
            return Next::Wait;
        }
        self.barrier = sent + 1;
        Next::Append
    }
}

/// Looks how far the log has come, for the loop to see whether another node has appended to it. An old end does not show that;
/// the next look does.
pub fn look(node: &Node, partition: u32, own: &Handle) {
    match node.log.end_at_least(Topic::Commands, partition, Isolation::ReadUncommitted) {
        Ok(end) => own.send(Message::Reached(end)),
        Err(error) => tracing::warn!(partition, "it is not known whether others have appended commands: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read() -> Read {
        Box::new(|_| {})
    }

    #[test]
    fn a_read_waits_for_an_append_that_was_sent_after_it_came() {
        let mut reads = Reads::default();
        reads.push(read(), 3);
        // The third was on its way before.
        assert!(matches!(reads.next(4, 3), Next::Wait));
        assert!(matches!(reads.next(4, 4), Next::Serve(_)));
        assert!(matches!(reads.next(4, 4), Next::Wait));
    }

    #[test]
    fn where_nothing_is_appended_one_barrier_serves_all_that_wait() {
        let mut reads = Reads::default();
        reads.push(read(), 3);
        reads.push(read(), 3);
        assert!(matches!(reads.next(3, 3), Next::Append));
        // Those came after the barrier was sent, and share the next.
        reads.push(read(), 4);
        reads.push(read(), 4);
        assert!(matches!(reads.next(4, 3), Next::Wait));
        for _ in 0..2 {
            assert!(matches!(reads.next(4, 4), Next::Serve(_)));
        }
        assert!(matches!(reads.next(4, 4), Next::Append));
        for _ in 0..2 {
            assert!(matches!(reads.next(5, 5), Next::Serve(_)));
        }
        assert!(matches!(reads.next(5, 5), Next::Wait));
    }

    #[test]
    fn a_barrier_does_not_wait_for_commands_that_came_before() {
        let mut reads = Reads::default();
        reads.push(read(), 3);
        assert!(matches!(reads.next(3, 1), Next::Append));
    }
}
