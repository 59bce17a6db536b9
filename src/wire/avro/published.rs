//! Which messages the public topics hold, and the schemas that they were ever published with.
//!
//! `schemas/<topic>.avsc` is the published form. A test holds each against what is generated; when a message has gained
//! fields, that test writes the new schema with `MILLRACE_UPDATE_SCHEMAS=1` and the one before it goes to `EARLIER`.

use super::Codec;
use crate::proto::events;
use std::sync::OnceLock;

/// A record of a public topic.
pub trait Published: prost::Message + Default + Sized {
    /// The topic without its prefix; its schema is `schemas/<topic>.avsc`.
    const TOPIC: &'static str;
    const MESSAGE: &'static str;

    fn codec() -> &'static Codec;
}

macro_rules! published {
    ($($topic:literal: $message:ident),* $(,)?) => {
        /// Topic and message, of every public topic.
        pub const TOPICS: &[(&str, &str)] = &[$(($topic, concat!("millrace.events.", stringify!($message)))),*];

        $(impl Published for events::$message {
            const TOPIC: &'static str = $topic;
            const MESSAGE: &'static str = concat!("millrace.events.", stringify!($message));

            fn codec() -> &'static Codec {
                static CODEC: OnceLock<&Codec> = OnceLock::new();
                CODEC.get_or_init(|| Codec::of(Self::MESSAGE))
            }
        })*
    };
}

published! {
    "history": HistoryBatch,
    "completions": Completion,
    "timers": TimerChange,
    "rejections": Rejected,
    "requests": Request,
    "activity-tasks": ActivityTask,
    "replies": Reply,
}

/// What replies are called among the topics: they have as many as the settings name.
pub const REPLIES: &str = <events::Reply as Published>::TOPIC;

/// The codec of a public topic, by its name without the prefix.
pub fn codec(topic: &str) -> Option<&'static Codec> {
    let found = TOPICS.iter().find(|(name, _)| *name == topic);
    found.map(|(_, message)| Codec::of(message))
}

/// Message and schema (`include_str!`) of every release whose records may still be on a topic, but the present one's.
const EARLIER: &[(&str, &str)] = &[];

pub(super) fn earlier(message: &str) -> impl Iterator<Item = &'static str> {
    EARLIER.iter().filter(move |(of, _)| *of == message).map(|(_, schema)| *schema)
}
