//! The order of a list, and the sort keys that pages end at.
//!
//! Every order is total, because it ends with the run id, and is the same in SQL and here. So a page's token is the key of
//! its last row, and the same token continues every partition: a merged list needs no other.

use super::{
    Error, Row,
    attributes::{CLOSE_TIME, Field, RUN_ID, START_TIME},
};
use bytes::Bytes;
use prost::Message;
use std::cmp::Ordering;

/// A value, ordered as SQLite orders it: numbers, then texts by their bytes, then what is missing. So descending lists begin
/// with what is missing (open runs, by `CloseTime`), and ascending ones end with it.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Part {
    Int(i64),
    /// Never NaN.
    Real(f64),
    Text(String),
    /// Missing: in SQL an empty blob, which SQLite puts after every text.
    Last,
}

impl Part {
    fn compare(&self, other: &Part) -> Ordering {
        match (self, other) {
            (Part::Int(a), Part::Int(b)) => a.cmp(b),
            (Part::Real(a), Part::Real(b)) => numeric(*a, *b),
            (Part::Int(a), Part::Real(b)) => numeric(*a as f64, *b),
            (Part::Real(a), Part::Int(b)) => numeric(*a, *b as f64),
            (Part::Text(a), Part::Text(b)) => a.cmp(b),
            (a, b) => a.class().cmp(&b.class()),
        }
    }

    fn class(&self) -> u8 {
        match self {
            Part::Int(_) | Part::Real(_) => 0,
            Part::Text(_) => 1,
            Part::Last => 2,
        }
    }
}

/// Zero equals minus zero, as in SQLite.
fn numeric(a: f64, b: f64) -> Ordering {
    a.partial_cmp(&b).unwrap_or(Ordering::Equal)
}

#[derive(Clone, Debug)]
pub(super) struct SortField {
    pub field: Field,
    pub descending: bool,
}

/// What a list is sorted by; never empty, and always ending in the run id.
#[derive(Clone, Debug)]
pub(super) struct Order(pub Vec<SortField>);

/// A row's place in an [`Order`]: one part per field.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Key(pub Vec<Part>);

impl Default for Order {
    /// Open runs first, then the last closed; among equals the last started first.
    fn default() -> Self {
        Order::by(vec![
            SortField { field: Field::System(CLOSE_TIME), descending: true },
            SortField { field: Field::System(START_TIME), descending: true },
        ])
    }
}

impl Order {
    pub fn by(mut fields: Vec<SortField>) -> Order {
        let total = fields.iter().position(|sort| sort.field.name() == RUN_ID.name);
        match total {
            // Nothing is left to sort after a unique field.
            Some(index) => fields.truncate(index + 1),
            None => fields.push(SortField { field: Field::System(RUN_ID), descending: false }),
        }
        Order(fields)
    }

    pub fn key(&self, row: &Row) -> Key {
        Key(self.0.iter().map(|sort| sort.field.value(row)).collect())
    }

    pub fn compare(&self, a: &Key, b: &Key) -> Ordering {
        let parts = a.0.iter().zip(&b.0).zip(&self.0);
        parts
            .map(|((a, b), sort)| if sort.descending { b.compare(a) } else { a.compare(b) })
            .find(|ordering| ordering.is_ne())
            .unwrap_or(Ordering::Equal)
    }

    /// Continues a list after this row.
    pub fn token(&self, row: &Row) -> Bytes {
        let parts = self.key(row).0.into_iter().map(|part| TokenPart { value: Some(part.into()) }).collect();
        Token { order: self.fingerprint(), parts }.encode_to_vec().into()
    }

    /// The key that a list goes on after; none for the first page.
    pub fn after(&self, token: &[u8]) -> Result<Option<Key>, Error> {
        if token.is_empty() {
            return Ok(None);
        }
        let token = Token::decode(token).map_err(|_| Error::PageToken("it is not one of this server's"))?;
        if token.order != self.fingerprint() || token.parts.len() != self.0.len() {
            return Err(Error::PageToken("it belongs to a query with another order"));
        }
        let parts = token.parts.into_iter().map(|part| part.value.map(Part::from));
        match parts.collect() {
            Some(parts) => Ok(Some(Key(parts))),
            None => Err(Error::PageToken("a part of it is missing")),
        }
    }

    /// FNV-1a over the order's text: the same on every node and in every build.
    fn fingerprint(&self) -> u64 {
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        for sort in &self.0 {
            let direction = if sort.descending { "\0desc\0" } else { "\0asc\0" };
            for byte in sort.field.name().bytes().chain(direction.bytes()) {
                hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
            }
        }
        hash
    }
}

/// A page token's content.
#[derive(Clone, PartialEq, prost::Message)]
struct Token {
    #[prost(fixed64, tag = "1")]
    order: u64,
    #[prost(message, repeated, tag = "2")]
    parts: Vec<TokenPart>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct TokenPart {
    #[prost(oneof = "TokenValue", tags = "1, 2, 3, 4")]
    value: Option<TokenValue>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum TokenValue {
    #[prost(sint64, tag = "1")]
    Int(i64),
    #[prost(double, tag = "2")]
    Real(f64),
    #[prost(string, tag = "3")]
    Text(String),
    #[prost(bool, tag = "4")]
    Last(bool),
}

impl From<Part> for TokenValue {
    fn from(part: Part) -> Self {
        match part {
            Part::Int(value) => TokenValue::Int(value),
            Part::Real(value) => TokenValue::Real(value),
            Part::Text(value) => TokenValue::Text(value),
            Part::Last => TokenValue::Last(true),
        }
    }
}

impl From<TokenValue> for Part {
    fn from(value: TokenValue) -> Self {
        match value {
            TokenValue::Int(value) => Part::Int(value),
            TokenValue::Real(value) if value.is_nan() => Part::Last,
            TokenValue::Real(value) => Part::Real(value),
            TokenValue::Text(value) => Part::Text(value),
            TokenValue::Last(_) => Part::Last,
        }
    }
}
