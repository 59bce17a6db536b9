//! The connection to another node, and the order of the commands that go there.

use std::time::Duration;

use bytes::Bytes;
use tonic::Status;
use tonic::transport::Endpoint;

use super::decide::Commands;
use super::tunnel::{Question, Tunnel};
use crate::engine::Rejection;
use crate::partition::Done;
use crate::proto::cluster::AddressedCommand;

pub struct Link {
    pub address: String,
    tunnel: Tunnel,
    commands: Commands,
}

impl Link {
    pub fn new(address: &str, runtime: &tokio::runtime::Handle) -> Self {
        let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap_or_else(|_| {
            // An invalid address is one where no node answers.
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
        let commands = Commands::start(tunnel.clone(), runtime);
        Self { address: address.to_owned(), tunnel, commands }
    }

    /// As [`Tunnel::ask`] has it.
    pub async fn ask<Q: Question>(&self, question: Q) -> Result<Q::Answer, Status> {
        self.tunnel.ask(question).await
    }

    /// Has a partition there decide a command, after those that were sent before.
    pub fn decide(&self, partition: u32, command: Bytes, done: Done<Result<(), Rejection>>) {
        self.commands.send(AddressedCommand { partition, command }, done);
    }
}
