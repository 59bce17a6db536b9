//! Commands to partitions of another node: sent in batches, and answered when they are decided.

use std::sync::Arc;
use std::time::Duration;

use prost::Message as _;
use tokio::sync::{mpsc, oneshot};
use tonic::Status;

use super::tunnel::Tunnel;
use crate::engine::{Rejection, Reply};
use crate::partition::{Core, Done, Failure, Node};
use crate::proto::cluster::{AddressedCommand, DecideRequest, DecideResponse, Outcome, outcome::Kind};
use crate::proto::commands::Command;

/// Commands that are sent together, at most, and their bytes.
const BATCH: usize = 500;
const BATCH_BYTES: usize = 4 << 20;
/// How long the other node may take for one batch.
const DECIDE_WAIT_MAX: Duration = Duration::from_secs(20);

/// The commands on their way to one node.
pub struct Commands(mpsc::UnboundedSender<Addressed>);

struct Addressed {
    command: AddressedCommand,
    done: Done<Result<(), Rejection>>,
}

impl Commands {
    pub fn start(tunnel: Tunnel, runtime: &tokio::runtime::Handle) -> Self {
        let (commands, waiting) = mpsc::unbounded_channel();
        runtime.spawn(deliver(tunnel, waiting));
        Self(commands)
    }

    /// Sends a command, after those that were sent before.
    pub fn send(&self, command: AddressedCommand, done: Done<Result<(), Rejection>>) {
        if let Err(mpsc::error::SendError(back)) = self.0.send(Addressed { command, done }) {
            (back.done)(Err("the node is stopping".into()));
        }
    }
}

/// Sends commands in batches, one after the other: a partition takes them in their order only.
async fn deliver(tunnel: Tunnel, mut waiting: mpsc::UnboundedReceiver<Addressed>) {
    while let Some(first) = waiting.recv().await {
        let mut bytes = first.command.command.len();
        let (mut commands, mut done) = (vec![first.command], vec![first.done]);
        while commands.len() < BATCH && bytes < BATCH_BYTES {
            let Ok(next) = waiting.try_recv() else { break };
            bytes += next.command.command.len();
            commands.push(next.command);
            done.push(next.done);
        }
        let sent = tokio::time::timeout(DECIDE_WAIT_MAX, tunnel.ask(DecideRequest { commands })).await;
        let mut outcomes = match sent {
            Ok(Ok(response)) => Ok(response.outcomes.into_iter()),
            Ok(Err(status)) => Err(status.message().to_owned()),
            Err(_) => Err("the other node does not answer".to_owned()),
        };
        for done in done {
            done(match &mut outcomes {
                Ok(outcomes) => outcomes.next().map_or(Err("an outcome is missing".into()), decided),
                Err(reason) => Err(reason.clone()),
            });
        }
    }
}

/// Has this node's partitions decide commands.
pub async fn answer(node: &Arc<Node>, request: DecideRequest) -> Result<DecideResponse, Status> {
    let mut waiting = Vec::new();
    for AddressedCommand { partition, command } in request.commands {
        let command = match Command::decode(command) {
            Ok(command) => command,
            Err(error) => {
                waiting.push(Err(Outcome { kind: Kind::Rejected.into(), reason: format!("not a command: {error}") }));
                continue;
            }
        };
        let (sender, receiver) = oneshot::channel();
        // One that is being taken over would hold up the others: its commands are sent again.
        if node.position(partition).is_some() {
            let decided = move |_: &mut Core, outcome| drop(sender.send(outcome));
            node.partition(partition).command(command, Box::new(decided));
        }
        waiting.push(Ok(receiver));
    }
    let mut outcomes = Vec::with_capacity(waiting.len());
    for decided in waiting {
        outcomes.push(match decided {
            Ok(decided) => decided.await.map_or_else(|_| unavailable(super::taken_over().message()), outcome),
            Err(outcome) => outcome,
        });
    }
    Ok(DecideResponse { outcomes })
}

fn unavailable(reason: &str) -> Outcome {
    Outcome { kind: Kind::Unavailable.into(), reason: reason.to_owned() }
}

fn outcome(decided: Result<Reply, Failure>) -> Outcome {
    let (kind, reason) = match decided {
        Ok(_) => (Kind::Accepted, String::new()),
        Err(Failure::Rejected(Rejection::Duplicate)) => (Kind::Duplicate, String::new()),
        Err(Failure::Rejected(Rejection::OutOfOrder(reason))) => (Kind::OutOfOrder, reason),
        Err(Failure::Rejected(rejection)) => (Kind::Rejected, rejection.message()),
        Err(Failure::Unavailable(reason) | Failure::Overloaded(reason)) => (Kind::Unavailable, reason),
    };
    Outcome { kind: kind.into(), reason }
}

/// What an outcome means to the sender of the command.
fn decided(outcome: Outcome) -> Result<Result<(), Rejection>, String> {
    Ok(match outcome.kind() {
        Kind::Unavailable => return Err(outcome.reason),
        Kind::Accepted => Ok(()),
        Kind::Rejected => Err(Rejection::InvalidArgument(outcome.reason)),
        Kind::Duplicate => Err(Rejection::Duplicate),
        Kind::OutOfOrder => Err(Rejection::OutOfOrder(outcome.reason)),
    })
}
