//! From Avro's binary encoding to protobuf's wire format, without a message in between.
//!
//! Every length and number is checked: a record may come from anyone. `apache-avro` would trust them, and make a tree of values
//! first.

use super::Error;
use super::cursor::{DELIMITED, DEPTH_MAX, Input, put_delimited, put_key, put_varint};
use super::encode::wire_type;
use super::plan::Kind;
use super::resolve::{Action, Branch, Put, Resolved, Scalar, Shape};

/// How many items that take no bytes (records without fields, nulls) one record may hold: their count is all there is of them.
const EMPTY_ITEMS_MAX: usize = 65_536;

pub(super) struct Decoder<'a> {
    resolved: &'a Resolved,
    input: Input<'a>,
    empty_items: usize,
}

impl<'a> Decoder<'a> {
    /// The message in protobuf's wire format. The record must end where the body does.
    pub fn message(resolved: &'a Resolved, body: &'a [u8]) -> Result<Vec<u8>, Error> {
        let mut decoder = Decoder { resolved, input: Input::new(body), empty_items: 0 };
        let mut out = Vec::with_capacity(body.len() + 16);
        decoder.record(0, &mut out, 0)?;
        if !decoder.input.is_at_end() {
            return Err(decoder.input.invalid("the end of the record"));
        }
        Ok(out)
    }

    fn record(&mut self, reading: usize, out: &mut Vec<u8>, depth: u32) -> Result<(), Error> {
        if depth > DEPTH_MAX {
            return Err(Error::TooDeep);
        }
        let resolved = self.resolved;
        if let Some(reason) = &resolved.readings[reading].unreadable {
            return Err(Error::Schema(reason.clone()));
        }
        for step in &resolved.readings[reading].steps {
            if step.is_nothing_at_zero && self.input.bytes.get(self.input.at) == Some(&0) {
                self.input.at += 1;
                continue;
            }
            match &step.action {
                Action::Skip(shape) => self.skip(shape, depth + 1)?,
                Action::Put { tag, put } => self.put(put, *tag, out, depth)?,
            }
        }
        Ok(())
    }

    fn put(&mut self, put: &'a Put, tag: u32, out: &mut Vec<u8>, depth: u32) -> Result<(), Error> {
        match put {
            Put::Scalar { kind, from, keeps_default } => self.scalar(*kind, *from, *keeps_default, tag, out),
            Put::Record(reading) => {
                put_key(out, tag, DELIMITED);
                put_delimited(out, |out| self.record(*reading, out, depth + 1))
            }
            Put::Choice(branches) => match self.branch(branches)? {
                Branch::Put(put) => self.put(put, tag, out, depth),
                Branch::Null => Ok(()),
                Branch::Unreadable(reason) => Err(Error::Schema(reason.clone())),
            },
            Put::Array(item) => self.blocks(|decoder| decoder.put(item, tag, out, depth)),
            Put::Packed { kind, from } => {
                let start = out.len();
                put_key(out, tag, DELIMITED);
                let body = out.len() + 1;
                put_delimited(out, |out| {
                    self.blocks(|decoder| decoder.number(*kind, *from).map(|number| put_number(*kind, number, out)))
                })?;
                if out.len() == body {
                    out.truncate(start);
                }
                Ok(())
            }
            Put::Map(value) => self.blocks(|decoder| {
                put_key(out, tag, DELIMITED);
                put_delimited(out, |out| {
                    decoder.scalar(Kind::String, Scalar::Blob, false, 1, out)?;
                    let value_at = out.len();
                    decoder.put(value, 2, out, depth + 1)?;
                    // An empty message is what a map's value is when it is not written.
                    if out[value_at..] == [2 << 3 | DELIMITED as u8, 0] {
                        out.truncate(value_at);
                    }
                    Ok(())
                })
            }),
        }
    }

    fn branch<T>(&mut self, branches: &'a [T]) -> Result<&'a T, Error> {
        let at = usize::try_from(self.input.zigzag()?).ok();
        at.and_then(|at| branches.get(at)).ok_or_else(|| self.input.invalid("a branch of the union"))
    }

    /// The blocks of an array or a map.
    fn blocks(&mut self, mut item: impl FnMut(&mut Self) -> Result<(), Error>) -> Result<(), Error> {
        loop {
            let count = self.input.zigzag()?;
            if count == 0 {
                return Ok(());
            }
            if count < 0 {
                // A negative count is followed by the block's size in bytes, for readers that skip.
                self.input.zigzag()?;
            }
            for _ in 0..count.unsigned_abs() {
                let before = self.input.at;
                item(self)?;
                if self.input.at == before {
                    self.empty_items += 1;
                    if self.empty_items > EMPTY_ITEMS_MAX {
                        return Err(self.input.invalid("fewer items that take no bytes"));
                    }
                }
            }
        }
    }

    fn scalar(
        &mut self,
        kind: Kind,
        from: Scalar,
        keeps_default: bool,
        tag: u32,
        out: &mut Vec<u8>,
    ) -> Result<(), Error> {
        match kind {
            Kind::String | Kind::Bytes => {
                let bytes = match from {
                    Scalar::Fixed(size) => self.input.take(size)?,
                    _ => self.input.blob()?,
                };
                if kind == Kind::String && std::str::from_utf8(bytes).is_err() {
                    return Err(self.input.invalid("text in UTF-8"));
                }
                if keeps_default || !bytes.is_empty() {
                    put_key(out, tag, DELIMITED);
                    put_varint(out, bytes.len() as u64);
                    out.extend_from_slice(bytes);
                }
            }
            Kind::Timestamp => {
                let nanoseconds = self.input.zigzag()?;
                put_key(out, tag, DELIMITED);
                // At most two numbers: its length always fits the one byte.
                let at = out.len();
                out.push(0);
                put_timestamp(nanoseconds, out);
                out[at] = (out.len() - at - 1) as u8;
            }
            _ => {
                let number = self.number(kind, from)?;
                if keeps_default || number != 0 {
                    put_key(out, tag, wire_type(kind));
                    put_number(kind, number, out);
                }
            }
        }
        Ok(())
    }

    /// A number as its bits stand on protobuf's wire.
    fn number(&mut self, kind: Kind, from: Scalar) -> Result<u64, Error> {
        let input = &mut self.input;
        match (kind, from) {
            (Kind::Bool, _) => match input.byte()? {
                bit @ (0 | 1) => Ok(u64::from(bit)),
                _ => Err(input.invalid("0 or 1 for a boolean")),
            },
            (Kind::Float, Scalar::Integer) => Ok(u64::from((input.zigzag()? as f32).to_bits())),
            (Kind::Float, _) => Ok(u64::from(u32::from_le_bytes(input.array()?))),
            (Kind::Double, Scalar::Integer) => Ok((input.zigzag()? as f64).to_bits()),
            (Kind::Double, Scalar::Float) => Ok(f64::from(f32::from_le_bytes(input.array()?)).to_bits()),
            (Kind::Double, _) => Ok(u64::from_le_bytes(input.array()?)),
            (Kind::Int32 | Kind::Enum(_), _) => Ok(i64::from(signed_32(input)?) as u64),
            (Kind::Sfixed32, _) => Ok(u64::from(signed_32(input)? as u32)),
            (Kind::Sint32, _) => {
                let value = signed_32(input)?;
                Ok(u64::from(((value << 1) ^ (value >> 31)) as u32))
            }
            (Kind::Sint64, _) => input.varint(),
            (Kind::Uint32 | Kind::Fixed32, _) => {
                let value = input.zigzag()?;
                u32::try_from(value).map(u64::from).map_err(|_| input.invalid("a number from 0 to 2^32 - 1"))
            }
            _ => Ok(input.zigzag()? as u64),
        }
    }

    fn skip(&mut self, shape: &'a Shape, depth: u32) -> Result<(), Error> {
        if depth > DEPTH_MAX {
            return Err(Error::TooDeep);
        }
        let resolved = self.resolved;
        match shape {
            Shape::Null => Ok(()),
            Shape::Scalar(Scalar::Boolean) => self.input.byte().map(drop),
            Shape::Scalar(Scalar::Integer) => self.input.varint().map(drop),
            Shape::Scalar(Scalar::Float) => self.input.take(4).map(drop),
            Shape::Scalar(Scalar::Double) => self.input.take(8).map(drop),
            Shape::Scalar(Scalar::Blob) => self.input.blob().map(drop),
            Shape::Scalar(Scalar::Fixed(size)) => self.input.take(*size).map(drop),
            Shape::Array(items) => self.blocks(|decoder| decoder.skip(items, depth + 1)),
            Shape::Map(values) => self.blocks(|decoder| {
                decoder.input.blob()?;
                decoder.skip(values, depth + 1)
            }),
            Shape::Union(branches) => {
                let branch = self.branch(branches)?;
                self.skip(branch, depth + 1)
            }
            Shape::Record(record) => resolved.skipped[*record].iter().try_for_each(|field| self.skip(field, depth + 1)),
        }
    }
}

fn signed_32(input: &mut Input) -> Result<i32, Error> {
    let value = input.zigzag()?;
    i32::try_from(value).map_err(|_| input.invalid("a number of 32 bits"))
}

fn put_number(kind: Kind, number: u64, out: &mut Vec<u8>) {
    match wire_type(kind) {
        super::cursor::FIXED32 => out.extend_from_slice(&(number as u32).to_le_bytes()),
        super::cursor::FIXED64 => out.extend_from_slice(&number.to_le_bytes()),
        _ => put_varint(out, number),
    }
}

/// The body of a `google.protobuf.Timestamp`.
fn put_timestamp(nanoseconds: i64, out: &mut Vec<u8>) {
    let (seconds, nanos) = (nanoseconds.div_euclid(1_000_000_000), nanoseconds.rem_euclid(1_000_000_000));
    for (tag, value) in [(1, seconds), (2, nanos)] {
        if value != 0 {
            put_key(out, tag, super::cursor::VARINT);
            put_varint(out, value as u64);
        }
    }
}
