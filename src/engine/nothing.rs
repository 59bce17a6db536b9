//! Payloads that stand for nothing: a memo field or a search attribute with such a value is none.

use crate::proto::temporal::common::v1::{Memo, Payload, SearchAttributes};

/// Whether a payload is empty, null, or an empty list. Temporal's server takes each for "no value".
pub fn is_nothing(payload: &Payload) -> bool {
    matches!(&payload.data[..], b"" | b"null" | b"[]")
        || payload.metadata.get("encoding").is_some_and(|encoding| &encoding[..] == b"binary/null")
}

/// The memo without fields that stand for nothing; none if nothing is left.
pub fn without_in_memo(memo: Option<Memo>) -> Option<Memo> {
    let mut memo = memo?;
    memo.fields.retain(|_, value| !is_nothing(value));
    (!memo.fields.is_empty()).then_some(memo)
}

/// The search attributes without those that stand for nothing; none if nothing is left.
pub fn without_in_attributes(attributes: Option<SearchAttributes>) -> Option<SearchAttributes> {
    let mut attributes = attributes?;
    attributes.indexed_fields.retain(|_, value| !is_nothing(value));
    (!attributes.indexed_fields.is_empty()).then_some(attributes)
}
