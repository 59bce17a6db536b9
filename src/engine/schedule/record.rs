//! How a schedule is stored.

use std::sync::Arc;

use bytes::Bytes;
use prost::Message;

use crate::engine::machine::{Agenda, Recorded, Unreadable};
use crate::engine::sub_key::SubKey;
use crate::proto::schedule::{Attached, Backfill, Head, LastCompletion, Plan, Recent, Requests, Start};

pub const PLAN: SubKey = SubKey::One(b'p');
pub const ATTACHED: SubKey = SubKey::One(b'm');
pub const LAST_COMPLETION: SubKey = SubKey::One(b'l');
pub const RECENT: SubKey = SubKey::One(b'a');
pub const REQUESTS: SubKey = SubKey::One(b'q');
/// The letters of starts and of backfills, which are numbered.
pub const START: u8 = b's';
pub const BACKFILL: u8 = b'b';

#[derive(Clone, Debug, PartialEq)]
pub enum Record {
    Head(Arc<Head>),
    Plan(Arc<Plan>),
    Attached(Arc<Attached>),
    LastCompletion(Arc<LastCompletion>),
    Recent(Arc<Recent>),
    Requests(Arc<Requests>),
    Start(Start),
    Backfill(Backfill),
}

impl Recorded for Record {
    fn decode(key: &SubKey, value: Bytes) -> Result<Self, Unreadable> {
        Ok(match key {
            SubKey::Head => Self::Head(Message::decode(value).map(Arc::new)?),
            &PLAN => Self::Plan(Message::decode(value).map(Arc::new)?),
            &ATTACHED => Self::Attached(Message::decode(value).map(Arc::new)?),
            &LAST_COMPLETION => Self::LastCompletion(Message::decode(value).map(Arc::new)?),
            &RECENT => Self::Recent(Message::decode(value).map(Arc::new)?),
            &REQUESTS => Self::Requests(Message::decode(value).map(Arc::new)?),
            SubKey::Numbered(START, _) => Self::Start(Message::decode(value)?),
            SubKey::Numbered(BACKFILL, _) => Self::Backfill(Message::decode(value)?),
            key => return Err(Unreadable::Key(key.clone())),
        })
    }

    fn encode(&self) -> Bytes {
        match self {
            Self::Head(head) => head.encode_to_vec(),
            Self::Plan(plan) => plan.encode_to_vec(),
            Self::Attached(attached) => attached.encode_to_vec(),
            Self::LastCompletion(last) => last.encode_to_vec(),
            Self::Recent(recent) => recent.encode_to_vec(),
            Self::Requests(requests) => requests.encode_to_vec(),
            Self::Start(start) => start.encode_to_vec(),
            Self::Backfill(backfill) => backfill.encode_to_vec(),
        }
        .into()
    }

    fn encoded_len(&self) -> usize {
        match self {
            Self::Head(head) => head.encoded_len(),
            Self::Plan(plan) => plan.encoded_len(),
            Self::Attached(attached) => attached.encoded_len(),
            Self::LastCompletion(last) => last.encoded_len(),
            Self::Recent(recent) => recent.encoded_len(),
            Self::Requests(requests) => requests.encoded_len(),
            Self::Start(start) => start.encoded_len(),
            Self::Backfill(backfill) => backfill.encoded_len(),
        }
    }

    fn agenda(&self) -> Agenda {
        let Self::Head(head) = self else { return Agenda::default() };
        let due_ms = if head.close_ms == 0 { head.due_ms } else { head.delete_ms };
        Agenda { due_ms: (due_ms > 0).then_some(due_ms), ..Agenda::default() }
    }
}
