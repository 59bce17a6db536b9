//! Calls to another node, all over one stream. A call of its own costs each side a stream of HTTP/2, with headers to pack and
//! tasks to wake, which is more than most calls are; here those that wait are sent together.
//!
//! [`client`] keeps the stream of the calling node, [`server`] that of the answering one. The calls' meaning is not known here: a
//! [`Handler`] answers them.

mod batches;
mod client;
mod server;
mod status;
#[cfg(test)]
mod tests;

use bytes::Bytes;

use crate::proto::cluster::*;

pub use client::Tunnel;
pub use server::{Handler, Tunnels, serve};
pub use status::{name_owner, owner};

/// A request of one node to another.
pub trait Question {
    type Answer;

    /// For metrics. A forwarded call is counted by its method's.
    const NAME: &str;

    fn into_call(self) -> call::What;

    fn into_answer(answer: Self::Answer) -> answer::What;

    /// `None`: it is the answer to something else.
    fn answer(answer: answer::What) -> Option<Self::Answer>;
}

macro_rules! questions {
    ($($name:ident: $question:ty => $answer:ty;)*) => {
        $(impl Question for $question {
            type Answer = $answer;

            const NAME: &str = stringify!($name);

            fn into_call(self) -> call::What {
                call::What::$name(self)
            }

            fn into_answer(answer: $answer) -> answer::What {
                answer::What::$name(answer)
            }

            fn answer(answer: answer::What) -> Option<$answer> {
                match answer {
                    answer::What::$name(answer) => Some(answer),
                    _ => None,
                }
            }
        })*
    };
}

questions! {
    Forwarded: ForwardedCall => Bytes;
    Decide: DecideRequest => DecideResponse;
    Announce: AnnounceRequest => AnnounceResponse;
    StartTask: StartTaskRequest => StartTaskResponse;
    TakeQuery: TakeQueryRequest => TakeQueryResponse;
    List: ListRequest => ListResponse;
    Count: CountRequest => CountResponse;
    DescribeQueue: DescribeQueueRequest => DescribeQueueResponse;
}
