//! Calls of the API that came to a node which does not own their partition: they are forwarded to the owner as they are.

use bytes::Bytes;
use tonic::{Code, Status};

use super::tunnel::{name_owner, owner};
use super::{Cluster, Link};
use crate::proto::cluster::ForwardedCall;

impl Cluster {
    /// Has another node answer a call of the API: its bare method, and the request and the response as messages.
    pub async fn forward(&self, to: &Link, method: &str, request: Bytes) -> Result<Bytes, Status> {
        // Nothing else of the call matters there: its deadline is kept here.
        let call = ForwardedCall { method: method.to_owned(), request };
        let answer = to.ask(call.clone()).await;
        // It may know the present owner.
        if let Err(status) = &answer
            && status.code() == Code::Unavailable
            && let Some(address) = owner(status)
        {
            return self.link(address).ask(call).await;
        }
        answer
    }
}

/// Why a forwarded call is not answered by this node: another one is the owner.
pub fn moved(to: &Link) -> Status {
    let mut status = Status::unavailable(format!("the partition is owned by the node at {}", to.address));
    name_owner(&mut status, &to.address);
    status
}
