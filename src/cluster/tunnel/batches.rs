//! Sends together what waits to be sent on a stream.

use std::pin::Pin;
use std::task::{Context, Poll};

use prost::Message as _;
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tonic::Status;

use crate::proto::cluster::{Answer, Answers, Call, Calls};

/// What is sent together, at most. One call, or answer, may have more bytes.
const BATCH: usize = 256;
const BATCH_BYTES: usize = 256 * 1024;

/// What the calling node sends.
pub enum Outgoing {
    Call(Call),
    GivenUp(u64),
}

/// All that waits to be sent, together.
pub struct Batches<T>(pub mpsc::UnboundedReceiver<T>);

impl Stream for Batches<Outgoing> {
    type Item = Calls;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Calls>> {
        let mut batch = Calls::default();
        let mut bytes = 0;
        while batch.calls.len() + batch.given_up.len() < BATCH && bytes < BATCH_BYTES {
            match self.0.poll_recv(context) {
                Poll::Ready(Some(Outgoing::Call(call))) => {
                    bytes += call.encoded_len();
                    batch.calls.push(call);
                }
                Poll::Ready(Some(Outgoing::GivenUp(id))) => batch.given_up.push(id),
                Poll::Ready(None) | Poll::Pending if !(batch.calls.is_empty() && batch.given_up.is_empty()) => break,
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(Some(batch))
    }
}

impl Stream for Batches<Answer> {
    type Item = Result<Answers, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut answers = Vec::new();
        let mut bytes = 0;
        while answers.len() < BATCH && bytes < BATCH_BYTES {
            match self.0.poll_recv(context) {
                Poll::Ready(Some(answer)) => {
                    bytes += answer.encoded_len();
                    answers.push(answer);
                }
                Poll::Ready(None) | Poll::Pending if !answers.is_empty() => break,
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(Some(Ok(Answers { answers })))
    }
}
