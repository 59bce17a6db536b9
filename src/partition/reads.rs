//! Reads as good as writes: one is served once everything that stood in the log when it came has been decided. An owner that
//! was paused, and does not know yet that another has taken its partition over, serves nothing that is out of date.
//!
//! What stood in the log is learnt from an own append that was sent after the read came and is decided, or else by asking
//! the log for its end, once for all reads that wait.

use std::collections::VecDeque;
use std::sync::mpsc::Sender;

use super::{Handle, Message, Node, Read};
use crate::log::{Isolation, Topic};

/// The reads that wait, in the order in which they came.
pub struct Reads {
    waiting: VecDeque<Waiting>,
    /// Asks the log for its end.
    ask: Sender<()>,
    /// Questions asked, and the answer to the last one that was answered.
    asked: u64,
    answered: u64,
    end: i64,
}

struct Waiting {
    /// Served once so many appends have been decided …
    appended: u64,
    /// … or once the answer to this question is known, and what it names has been decided.
    question: u64,
    read: Read,
}

/// What to do next about the reads that wait.
pub enum Next {
    Serve(Read),
    /// Others have appended up to here, and nobody has decided that yet.
    CatchUp(i64),
    Wait,
}

impl Reads {
    /// `ask`: tells whoever asks the log, with [`ask`], that an answer is wanted.
    pub fn new(ask: Sender<()>) -> Self {
        Self { waiting: VecDeque::new(), ask, asked: 0, answered: 0, end: 0 }
    }

    /// `sent`: the appends that were sent so far.
    pub fn push(&mut self, read: Read, sent: u64) {
        self.waiting.push_back(Waiting { appended: sent + 1, question: self.asked + 1, read });
    }

    /// `sent` and `appended`: the appends that were sent so far, and those of them that have been decided.
    pub fn next(&mut self, sent: u64, appended: u64, position: i64) -> Next {
        let Some(first) = self.waiting.front() else { return Next::Wait };
        let known = self.answered >= first.question;
        if appended < first.appended && !(known && position >= self.end) {
            if known && sent == appended {
                return Next::CatchUp(self.end);
            }
            let will_do = sent >= first.appended;
            if !known && !will_do && self.asked == self.answered {
                self.asked += 1;
                let _ = self.ask.send(());
            }
            return Next::Wait;
        }
        self.waiting.pop_front().map_or(Next::Wait, |first| Next::Serve(first.read))
    }

    pub fn answer(&mut self, end: i64) {
        self.answered = self.asked;
        self.end = end;
    }

    /// The log can't be asked: who waits for that hears so at once, as their channels are dropped.
    pub fn give_up(&mut self) {
        self.answered = self.asked;
        self.waiting.retain(|waiting| waiting.question > self.answered);
    }
}

/// Asks the log for its end, and tells the loop.
pub fn ask(node: &Node, partition: u32, own: &Handle) {
    let end = node.log.end_offset(Topic::Commands, partition, Isolation::ReadUncommitted);
    own.send(Message::End(end.map_err(|error| error.to_string())));
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, channel};

    use super::*;

    fn reads() -> (Reads, Receiver<()>) {
        let (ask, questions) = channel();
        (Reads::new(ask), questions)
    }

    fn read() -> Read {
        Box::new(|_| {})
    }

    #[test]
    fn a_read_waits_for_an_end_that_was_asked_for_after_it_came() {
        let (mut reads, questions) = reads();
        reads.push(read(), 0);
        assert!(matches!(reads.next(0, 0, 10), Next::Wait));
        assert_eq!(questions.try_iter().count(), 1);
        // It came after the question, whose answer says nothing to it.
        reads.push(read(), 0);
        reads.answer(10);
        assert!(matches!(reads.next(0, 0, 10), Next::Serve(_)));
        assert!(matches!(reads.next(0, 0, 10), Next::Wait));
        assert_eq!(questions.try_iter().count(), 1);
        reads.answer(12);
        // Something is on its way, which may bring the position there.
        assert!(matches!(reads.next(1, 0, 10), Next::Wait));
        assert!(matches!(reads.next(0, 0, 10), Next::CatchUp(12)));
        assert!(matches!(reads.next(0, 0, 12), Next::Serve(_)));
    }

    #[test]
    fn an_own_append_sent_later_will_do() {
        let (mut reads, questions) = reads();
        reads.push(read(), 3);
        // The third was on its way before.
        assert!(matches!(reads.next(4, 3, 10), Next::Wait));
        assert!(matches!(reads.next(4, 4, 11), Next::Serve(_)));
        assert_eq!(questions.try_iter().count(), 0);
    }

    #[test]
    fn a_log_that_does_not_answer_fails_those_who_asked() {
        let (mut reads, _questions) = reads();
        reads.push(read(), 0);
        assert!(matches!(reads.next(0, 0, 0), Next::Wait));
        reads.push(read(), 0);
        reads.give_up();
        assert_eq!(reads.waiting.len(), 1);
    }
}
