//! The way to another node: one connection, and an order among the commands that go there.

use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tonic::Status;
use tonic::transport::Endpoint;

use super::tunnel::{Question, Tunnel};
use crate::engine::Rejection;
use crate::partition::Done;
use crate::proto::cluster::{AddressedCommand, DecideRequest, Outcome, outcome::Kind};

/// Commands that are sent together, at most, and their bytes.
const BATCH: usize = 500;
const BATCH_BYTES: usize = 4 << 20;
/// How long the other node may take for one batch.
const DECIDE_WAIT_MAX: Duration = Duration::from_secs(20);

pub struct Link {
    pub address: String,
    tunnel: Tunnel,
    commands: mpsc::UnboundedSender<Addressed>,
}

struct Addressed {
    command: AddressedCommand,
    done: Done<Result<(), Rejection>>,
}

impl Link {
    pub fn new(address: &str, runtime: &tokio::runtime::Handle) -> Self {
        let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap_or_else(|_| {
            // An address that is none is one where nobody answers.
            Endpoint::from_static("http://127.0.0.1:0")
        });
        let endpoint = endpoint
            .connect_timeout(Duration::from_secs(2))
            .tcp_nodelay(true)
            // A node that was paused, or cut off, does not hold up its callers for long.
            .http2_keep_alive_interval(Duration::from_secs(2))
            .keep_alive_timeout(Duration::from_secs(3))
            .initial_stream_window_size(1 << 20)
            .initial_connection_window_size(8 << 20);
        let _entered = runtime.enter();
        let tunnel = Tunnel::new(address, endpoint.connect_lazy(), runtime);
        let (commands, waiting) = mpsc::unbounded_channel();
        runtime.spawn(deliver(tunnel.clone(), waiting));
        Self { address: address.to_owned(), tunnel, commands }
    }

    /// As [`Tunnel::ask`] has it.
    pub async fn ask<Q: Question>(&self, question: Q) -> Result<Q::Answer, Status> {
        self.tunnel.ask(question).await
    }

    /// Has a partition there decide a command, after those that were sent before.
    pub fn decide(&self, partition: u32, command: Bytes, done: Done<Result<(), Rejection>>) {
        let command = AddressedCommand { partition, command };
        if let Err(mpsc::error::SendError(back)) = self.commands.send(Addressed { command, done }) {
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
                Ok(outcomes) => outcomes.next().map_or(Err("an outcome is missing".into()), outcome),
                Err(reason) => Err(reason.clone()),
            });
        }
    }
}

fn outcome(outcome: Outcome) -> Result<Result<(), Rejection>, String> {
    Ok(match outcome.kind() {
        Kind::Unavailable => return Err(outcome.reason),
        Kind::Accepted => Ok(()),
        Kind::Rejected => Err(Rejection::InvalidArgument(outcome.reason)),
        Kind::Duplicate => Err(Rejection::Duplicate),
        Kind::OutOfOrder => Err(Rejection::OutOfOrder(outcome.reason)),
    })
}
