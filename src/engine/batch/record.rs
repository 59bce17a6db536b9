//! How a batch is stored.

use std::sync::Arc;

use bytes::Bytes;
use prost::Message;

use crate::engine::machine::{Agenda, Recorded, Unreadable};
use crate::engine::sub_key::SubKey;
use crate::proto::batch::{End, Head, StartBatch, Target};

pub const PLAN: SubKey = SubKey::One(b'p');
pub const END: SubKey = SubKey::One(b'e');
/// The letter of targets, which are numbered.
pub const TARGET: u8 = b't';

#[derive(Clone, Debug, PartialEq)]
pub enum Record {
    Head(Arc<Head>),
    Plan(Arc<StartBatch>),
    End(Arc<End>),
    Target(Target),
}

impl Recorded for Record {
    fn decode(key: &SubKey, value: Bytes) -> Result<Self, Unreadable> {
        Ok(match key {
            SubKey::Head => Self::Head(Message::decode(value).map(Arc::new)?),
            &PLAN => Self::Plan(Message::decode(value).map(Arc::new)?),
            &END => Self::End(Message::decode(value).map(Arc::new)?),
            SubKey::Numbered(TARGET, _) => Self::Target(Message::decode(value)?),
            key => return Err(Unreadable::Key(key.clone())),
        })
    }

    fn encode(&self) -> Bytes {
        match self {
            Self::Head(head) => head.encode_to_vec(),
            Self::Plan(plan) => plan.encode_to_vec(),
            Self::End(end) => end.encode_to_vec(),
            Self::Target(target) => target.encode_to_vec(),
        }
        .into()
    }

    fn encoded_len(&self) -> usize {
        match self {
            Self::Head(head) => head.encoded_len(),
            Self::Plan(plan) => plan.encoded_len(),
            Self::End(end) => end.encoded_len(),
            Self::Target(target) => target.encoded_len(),
        }
    }

    fn agenda(&self) -> Agenda {
        let Self::Head(head) = self else { return Agenda::default() };
        let due_ms = if head.close_ms == 0 { head.due_ms } else { head.delete_ms };
        Agenda { due_ms: (due_ms > 0).then_some(due_ms), ..Agenda::default() }
    }
}
