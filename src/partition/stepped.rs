//! A partition that is driven step by step, in one thread: a simulation chooses which step comes next, and when.

use std::sync::Arc;
use std::time::Duration;

use super::background::Background;
use super::lists::Step;
use super::run_loop::{End, Loop};
use super::standby::Warm;
use super::{Handle, Inbox, Message, Node, reads, supervise};

/// A partition that a node owns, as far as it knows.
pub struct Stepped {
    turns: Loop,
    background: Background,
}

impl Stepped {
    /// Takes the partition over, if it can be.
    pub fn take_over(node: &Arc<Node>, partition: u32) -> Result<Self, String> {
        let (turns, background) = supervise::take_over(node, partition)?;
        Ok(Self { turns, background })
    }

    /// One turn of the loop, which takes at most `max` messages. `Some`: the partition has ended, well or with a reason, and
    /// is to be given up.
    pub fn turn(&mut self, inbox: &Inbox, max: usize) -> Option<Result<(), String>> {
        let mut end = self.turns.turn(inbox.0.try_iter().take(max));
        while let Some(End::Behind(offset)) = end {
            end = match self.turns.catch_up(offset) {
                Ok(()) => self.turns.turn(std::iter::empty()),
                Err(reason) => Some(End::Lost(reason)),
            };
        }
        end.map(|end| match end {
            End::Stopped | End::Released | End::Behind(_) => Ok(()),
            End::Lost(reason) => Err(reason),
            End::Fenced => Err("another node has taken the partition over".into()),
        })
    }

    /// Makes a commit, if one waits. After one that failed, no other is made.
    pub fn commit(&mut self) -> bool {
        let commit = self.background.commits.try_recv().ok();
        let made = commit.map(|commit| self.background.committer.settle(commit, &self.background.own));
        made.is_some()
    }

    /// Looks how far the log has come, if that was requested.
    pub fn look(&mut self) -> bool {
        let wanted = self.background.looks.try_recv().is_ok();
        if wanted {
            reads::look(&self.background.node, self.background.partition, &self.background.own);
        }
        wanted
    }

    /// Writes what lists lack next, if they lack anything.
    pub fn list(&mut self) -> bool {
        self.background.lists.step(Duration::ZERO).is_ok_and(|step| step == Step::Done)
    }

    /// Gives the partition up: callers are refused.
    pub fn give_up(mut self) {
        self.turns.fail_all();
        supervise::close(&self.background.node, self.background.partition);
    }
}

/// A partition that another node owns, and whose store and lists this one keeps warm.
#[derive(Default)]
pub struct Standby(Warm);

impl Standby {
    /// Reads what the owner has committed, or a part of it.
    pub fn follow(&mut self, node: &Arc<Node>, partition: u32) {
        self.0.follow(node, partition);
    }
}

impl Inbox {
    /// Drops what has come, as the partition is not owned here: callers are refused.
    pub fn refuse(&self) {
        self.0.try_iter().for_each(drop);
    }

    /// Passes on to the partition's owner what callers have sent.
    pub fn pass_on(&self, to: &Handle) {
        let sent = self.0.try_iter().filter(|envelope| envelope.incarnation == 0);
        sent.for_each(|envelope| to.send(envelope.message));
    }
}

impl Handle {
    /// Has the partition commit what is pending, and end.
    pub fn stop(&self) {
        self.send(Message::Stop);
    }
}
