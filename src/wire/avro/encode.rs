//! From protobuf's wire format to Avro's binary encoding, without a message in between.
//!
//! A message is scanned once to note where its fields stand, then written in Avro's order. Fields that no plan knows (of a
//! newer protobuf) are dropped: the schema has no place for them. `apache-avro` writes from a tree of values only, which would
//! have to be made of every message.

use super::Error;
use super::cursor::{
    DELIMITED, DEPTH_MAX, FIXED32, FIXED64, Input, Raw, VARINT, put_blob, put_key, put_varint, put_zigzag,
};
use super::plan::{Cardinality, Field, Kind, Message, Plan};
use std::collections::BTreeMap;

pub(super) struct Encoder<'a> {
    plan: &'a Plan,
    pub out: Vec<u8>,
    /// What the open messages hold, the innermost last: a stack, so that nested messages need no memory of their own.
    found: Vec<Found>,
}

#[derive(Clone, Copy)]
struct Found {
    field: usize,
    raw: Raw,
}

impl<'a> Encoder<'a> {
    pub fn new(plan: &'a Plan, out: Vec<u8>) -> Encoder<'a> {
        Encoder { plan, out, found: Vec::with_capacity(64) }
    }

    /// Appends the root message's Avro encoding to `out`.
    pub fn root(&mut self, message: &[u8]) -> Result<(), Error> {
        self.message(self.plan.root(), message, 0)
    }

    fn message(&mut self, plan: &'a Message, message: &[u8], depth: u32) -> Result<(), Error> {
        if depth > DEPTH_MAX {
            return Err(Error::TooDeep);
        }
        let base = self.found.len();
        if !self.scan(plan, message)? {
            let in_order = in_order(plan, message, self.found.drain(base..));
            return self.message(plan, &in_order, depth + 1);
        }
        let (mut at, mut written) = (base, 0);
        while let Some(&Found { field: index, raw }) = self.found.get(at) {
            let field = &plan.fields[index];
            self.zeros(plan.zeros[index] - plan.zeros[written]);
            written = index + 1;
            at += 1;
            match field.cardinality {
                Cardinality::Implicit => self.value(field.kind, message, raw, depth)?,
                Cardinality::Nullable => {
                    self.out.push(2);
                    self.value(field.kind, message, raw, depth)?;
                }
                Cardinality::Repeated | Cardinality::Map => {
                    let first = at - 1;
                    at += self.found[at..].iter().take_while(|next| next.field == index).count();
                    self.items(field, message, first..at, depth)?;
                }
            }
        }
        self.zeros(plan.zeros_len() - plan.zeros[written]);
        self.found.truncate(base);
        Ok(())
    }

    /// Notes the known fields. Returns whether they stand in the order of their numbers, none of them twice and one per oneof:
    /// protobuf allows otherwise, though no writer does so.
    fn scan(&mut self, plan: &Message, message: &[u8]) -> Result<bool, Error> {
        let mut input = Input::new(message);
        let (mut in_order, mut next, mut oneofs) = (true, 0, 0u64);
        while !input.is_at_end() {
            let raw = Raw::read(&mut input)?;
            let Some(index) = plan.index_of(raw.tag) else { continue };
            let field = &plan.fields[index];
            in_order &= index >= next;
            let many = matches!(field.cardinality, Cardinality::Repeated | Cardinality::Map);
            next = if many { index } else { index + 1 };
            if let Some(oneof) = field.oneof {
                let bit = 1u64.checked_shl(u32::from(oneof)).unwrap_or(0);
                in_order &= oneofs & bit == 0;
                oneofs |= bit;
            }
            self.found.push(Found { field: index, raw });
        }
        Ok(in_order)
    }

    fn zeros(&mut self, count: usize) {
        self.out.resize(self.out.len() + count, 0);
    }

    fn value(&mut self, kind: Kind, message: &[u8], raw: Raw, depth: u32) -> Result<(), Error> {
        if raw.wire_type != wire_type(kind) {
            return Err(Error::Invalid { offset: raw.number as usize, expected: "the wire type of the field's kind" });
        }
        match kind {
            Kind::String => {
                let text = raw.body(message);
                if std::str::from_utf8(text).is_err() {
                    return Err(Error::Invalid { offset: raw.number as usize, expected: "text in UTF-8" });
                }
                put_blob(&mut self.out, text);
            }
            Kind::Bytes => put_blob(&mut self.out, raw.body(message)),
            Kind::Message(index) => {
                let plan: &'a Plan = self.plan;
                self.message(plan.message(index), raw.body(message), depth + 1)?;
            }
            Kind::Timestamp => put_zigzag(&mut self.out, nanoseconds(raw.body(message))?),
            _ => self.number(kind, raw.number),
        }
        Ok(())
    }

    fn number(&mut self, kind: Kind, number: u64) {
        let out = &mut self.out;
        match kind {
            Kind::Bool => out.push(u8::from(number != 0)),
            Kind::Int32 | Kind::Enum(_) | Kind::Sfixed32 => put_zigzag(out, i64::from(number as i32)),
            Kind::Uint32 | Kind::Fixed32 => put_zigzag(out, i64::from(number as u32)),
            // Already zigzag on protobuf's wire.
            Kind::Sint32 => put_varint(out, u64::from(number as u32)),
            Kind::Sint64 => put_varint(out, number),
            Kind::Float => out.extend_from_slice(&(number as u32).to_le_bytes()),
            Kind::Double => out.extend_from_slice(&number.to_le_bytes()),
            Kind::Int64 | Kind::Uint64 | Kind::Fixed64 | Kind::Sfixed64 => put_zigzag(out, number as i64),
            Kind::String | Kind::Bytes | Kind::Message(_) | Kind::Timestamp => unreachable!("{kind:?} is no number"),
        }
    }

    /// An Avro array or map: one block, then the end.
    fn items(&mut self, field: &Field, message: &[u8], range: std::ops::Range<usize>, depth: u32) -> Result<(), Error> {
        let is_packed = |raw: Raw| raw.wire_type == DELIMITED && wire_type(field.kind) != DELIMITED;
        if field.cardinality == Cardinality::Repeated && range.clone().any(|at| is_packed(self.found[at].raw)) {
            return self.packed(field.kind, message, range, is_packed);
        }
        put_zigzag(&mut self.out, range.len() as i64);
        for at in range {
            let raw = self.found[at].raw;
            match field.cardinality {
                Cardinality::Map => self.entry(field, message, raw, depth)?,
                _ => self.value(field.kind, message, raw, depth)?,
            }
        }
        self.out.push(0);
        Ok(())
    }

    fn packed(
        &mut self,
        kind: Kind,
        message: &[u8],
        range: std::ops::Range<usize>,
        is_packed: impl Fn(Raw) -> bool,
    ) -> Result<(), Error> {
        let mut numbers = Vec::new();
        for at in range {
            let raw = self.found[at].raw;
            if raw.wire_type == wire_type(kind) {
                numbers.push(raw.number);
                continue;
            }
            if !is_packed(raw) {
                return Err(Error::Invalid {
                    offset: raw.number as usize,
                    expected: "the wire type of the field's kind",
                });
            }
            let mut input = Input::new(raw.body(message));
            while !input.is_at_end() {
                numbers.push(match wire_type(kind) {
                    FIXED32 => u64::from(u32::from_le_bytes(input.array()?)),
                    FIXED64 => u64::from_le_bytes(input.array()?),
                    _ => input.varint()?,
                });
            }
        }
        if !numbers.is_empty() {
            put_zigzag(&mut self.out, numbers.len() as i64);
        }
        numbers.into_iter().for_each(|number| self.number(kind, number));
        self.out.push(0);
        Ok(())
    }

    /// A map's entry: a message with the key as field 1 and the value as field 2.
    fn entry(&mut self, field: &Field, message: &[u8], raw: Raw, depth: u32) -> Result<(), Error> {
        if raw.wire_type != DELIMITED {
            return Err(Error::Invalid { offset: raw.number as usize, expected: "a map's entry" });
        }
        let entry = raw.body(message);
        let mut input = Input::new(entry);
        let (mut key, mut value) = (None, None);
        while !input.is_at_end() {
            let raw = Raw::read(&mut input)?;
            match raw.tag {
                1 => key = Some(raw),
                2 => value = Some(raw),
                _ => {}
            }
        }
        match key {
            Some(key) => self.value(Kind::String, entry, key, depth)?,
            None => self.zeros(1),
        }
        let zeros = match (value, field.kind) {
            (Some(value), kind) => return self.value(kind, entry, value, depth),
            (None, Kind::Message(index)) => self.plan.message(index).zeros_len(),
            (None, Kind::Float) => 4,
            (None, Kind::Double) => 8,
            (None, _) => 1,
        };
        self.zeros(zeros);
        Ok(())
    }
}

pub(super) fn wire_type(kind: Kind) -> u32 {
    match kind {
        Kind::String | Kind::Bytes | Kind::Message(_) | Kind::Timestamp => DELIMITED,
        Kind::Fixed32 | Kind::Sfixed32 | Kind::Float => FIXED32,
        Kind::Fixed64 | Kind::Sfixed64 | Kind::Double => FIXED64,
        _ => VARINT,
    }
}

/// Of a `google.protobuf.Timestamp`. Times outside 1677-09-21 to 2262-04-11 become the nearest that a long can hold.
pub(super) fn nanoseconds(timestamp: &[u8]) -> Result<i64, Error> {
    let mut input = Input::new(timestamp);
    let (mut seconds, mut nanos) = (0i64, 0i32);
    while !input.is_at_end() {
        let raw = Raw::read(&mut input)?;
        match (raw.tag, raw.wire_type) {
            (1, VARINT) => seconds = raw.number as i64,
            (2, VARINT) => nanos = raw.number as i32,
            (1 | 2, _) => return Err(input.invalid("a timestamp's seconds and nanoseconds")),
            _ => {}
        }
    }
    let total = i128::from(seconds) * 1_000_000_000 + i128::from(nanos);
    Ok(total.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64)
}

/// The same message as every writer would have written it: by number, the last of what may stand once, parts of one message
/// put together.
fn in_order(plan: &Message, message: &[u8], found: impl Iterator<Item = Found>) -> Vec<u8> {
    let mut kept = BTreeMap::<usize, Vec<Raw>>::new();
    for Found { field: index, raw } in found {
        let field = &plan.fields[index];
        if field.oneof.is_some() {
            kept.retain(|other, _| *other == index || plan.fields[*other].oneof != field.oneof);
        }
        let raws = kept.entry(index).or_default();
        let is_part = matches!(field.kind, Kind::Message(_) | Kind::Timestamp) || !is_single(field);
        if !is_part {
            raws.clear();
        }
        raws.push(raw);
    }
    let mut out = Vec::with_capacity(message.len());
    for (index, raws) in kept {
        let field = &plan.fields[index];
        if is_single(field) && raws.len() > 1 && raws.iter().all(|raw| raw.wire_type == DELIMITED) {
            put_key(&mut out, field.tag, DELIMITED);
            put_varint(&mut out, raws.iter().map(|raw| raw.body(message).len() as u64).sum());
            raws.iter().for_each(|raw| out.extend_from_slice(raw.body(message)));
            continue;
        }
        // Of a single field that is no message only the last is left; of a message with parts of a wrong wire type too.
        let first = if is_single(field) { raws.len() - 1 } else { 0 };
        for raw in &raws[first..] {
            put_key(&mut out, field.tag, raw.wire_type);
            match raw.wire_type {
                VARINT => put_varint(&mut out, raw.number),
                FIXED64 => out.extend_from_slice(&raw.number.to_le_bytes()),
                FIXED32 => out.extend_from_slice(&(raw.number as u32).to_le_bytes()),
                _ => {
                    put_varint(&mut out, raw.body(message).len() as u64);
                    out.extend_from_slice(raw.body(message));
                }
            }
        }
    }
    out
}

fn is_single(field: &Field) -> bool {
    matches!(field.cardinality, Cardinality::Implicit | Cardinality::Nullable)
}
