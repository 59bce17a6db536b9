//! What a server that skips time knows of its partitions: how much is being worked on, and what is due next.

use super::decide::named;
use super::{Core, Request};
use crate::proto::commands::command::Body;
use crate::store::{self, keys};

/// What is ahead of a partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outlook {
    /// Workflow tasks and activities that wait for a worker or are with one, and commands and sends on their way.
    pub at_work: usize,
    /// When something of what is open is due next, in milliseconds since the Unix epoch.
    pub due_ms: Option<i64>,
}

impl Core {
    /// Looks at all that is open and in memory, which is all there is where time is skipped.
    pub fn outlook(&mut self) -> Result<Outlook, store::Error> {
        let now = self.now_of_tasks();
        self.indexes.timers.fill(&*self.store)?;
        let dues: Vec<_> = self.indexes.timers.keys().cloned().collect();
        let mut due_ms = None;
        for due in dues {
            let Some((key, run_id, _)) = keys::due_record(&due).and_then(named) else { continue };
            if self.state(&key, &run_id)?.is_some_and(|run| run.is_open()) {
                due_ms = keys::due_ms(&due);
                break;
            }
        }
        let waiting_ms = self.indexes.backlog.next_ms();
        let runs = self.entities.open();
        // Timers that were taken out of the index, and are not decided yet.
        let is_timer = |request: &Request| matches!(request.command.body, Some(Body::FireTimer(_)));
        let timers = self.intake.in_flight.iter().filter(|request| is_timer(request)).count();
        let at_work: usize = runs.map(|run| run.at_work(now)).sum();
        Ok(Outlook {
            at_work: at_work + self.outbox.unacknowledged.len() + self.intake.queue.len() + timers,
            due_ms: [due_ms, waiting_ms].into_iter().flatten().min(),
        })
    }
}

/// What is ahead of several partitions.
impl std::iter::Sum for Outlook {
    fn sum<I: Iterator<Item = Self>>(outlooks: I) -> Self {
        outlooks.fold(Self::default(), |all, one| Self {
            at_work: all.at_work + one.at_work,
            due_ms: [all.due_ms, one.due_ms].into_iter().flatten().min(),
        })
    }
}
