//! Reading and writing the few primitives that protobuf and Avro are made of. Every read is checked against the end.

use super::Error;

/// How deep messages may nest, so that no record can exhaust the stack. (prost itself stops at 100 when it decodes, but
/// encodes any depth; what it once decoded is carried a few levels deeper in our own messages.)
pub(super) const DEPTH_MAX: u32 = 200;

#[derive(Clone, Debug)]
pub(super) struct Input<'a> {
    pub bytes: &'a [u8],
    pub at: usize,
}

impl<'a> Input<'a> {
    pub fn new(bytes: &'a [u8]) -> Input<'a> {
        Input { bytes, at: 0 }
    }

    #[inline]
    pub fn is_at_end(&self) -> bool {
        self.at >= self.bytes.len()
    }

    pub fn invalid(&self, expected: &'static str) -> Error {
        Error::Invalid { offset: self.at, expected }
    }

    #[inline]
    pub fn byte(&mut self) -> Result<u8, Error> {
        let byte = *self.bytes.get(self.at).ok_or(Error::Truncated)?;
        self.at += 1;
        Ok(byte)
    }

    #[inline]
    pub fn varint(&mut self) -> Result<u64, Error> {
        match self.bytes.get(self.at) {
            Some(&byte) if byte < 0x80 => {
                self.at += 1;
                Ok(u64::from(byte))
            }
            _ => self.long_varint(),
        }
    }

    fn long_varint(&mut self) -> Result<u64, Error> {
        let mut value = 0u64;
        for shift in (0..70).step_by(7) {
            let byte = self.byte()?;
            if shift == 63 && byte > 1 {
                break;
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(self.invalid("a number of at most 64 bits"))
    }

    /// Avro's int and long.
    #[inline]
    pub fn zigzag(&mut self) -> Result<i64, Error> {
        let value = self.varint()?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    #[inline]
    pub fn take(&mut self, len: usize) -> Result<&'a [u8], Error> {
        let end = self.at.checked_add(len).ok_or(Error::Truncated)?;
        let taken = self.bytes.get(self.at..end).ok_or(Error::Truncated)?;
        self.at = end;
        Ok(taken)
    }

    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        Ok(self.take(N)?.try_into().expect("`take` returns as many bytes as asked for"))
    }

    /// Avro's bytes and string: a length, then as many bytes.
    #[inline]
    pub fn blob(&mut self) -> Result<&'a [u8], Error> {
        let len = self.zigzag()?;
        self.take(usize::try_from(len).map_err(|_| self.invalid("a length of at least 0"))?)
    }
}

#[inline]
pub(super) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[inline]
pub(super) fn put_zigzag(out: &mut Vec<u8>, value: i64) {
    put_varint(out, ((value << 1) ^ (value >> 63)) as u64);
}

#[inline]
pub(super) fn put_blob(out: &mut Vec<u8>, bytes: &[u8]) {
    put_zigzag(out, bytes.len() as i64);
    out.extend_from_slice(bytes);
}

/// Protobuf's wire types. Groups are long gone and refused.
pub(super) const VARINT: u32 = 0;
pub(super) const FIXED64: u32 = 1;
pub(super) const DELIMITED: u32 = 2;
pub(super) const FIXED32: u32 = 5;

#[inline]
pub(super) fn put_key(out: &mut Vec<u8>, tag: u32, wire_type: u32) {
    put_varint(out, u64::from(tag) << 3 | u64::from(wire_type));
}

/// Writes `body` behind its length. The length is known last, so a body of 128 bytes or more moves up to make room.
pub(super) fn put_delimited<E>(out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>) -> Result<(), E>) -> Result<(), E> {
    let at = out.len();
    out.push(0);
    body(out)?;
    let len = out.len() - at - 1;
    if len < 0x80 {
        out[at] = len as u8;
        return Ok(());
    }
    let mut prefix = [0; 10];
    let (mut rest, mut used) = (len, 0);
    while rest >= 0x80 {
        prefix[used] = rest as u8 | 0x80;
        rest >>= 7;
        used += 1;
    }
    prefix[used] = rest as u8;
    out.splice(at..=at, prefix[..=used].iter().copied());
    Ok(())
}

/// One field as it stands on protobuf's wire.
#[derive(Clone, Copy, Debug)]
pub(super) struct Raw {
    pub tag: u32,
    pub wire_type: u32,
    /// The number itself, or for delimited fields where the body starts.
    pub number: u64,
    /// Where a delimited body ends.
    pub end: usize,
}

impl Raw {
    // Inlined, so that it is never copied out of a result: that alone cost as much as all of the reading.
    #[inline(always)]
    pub fn read(input: &mut Input) -> Result<Raw, Error> {
        let key = input.varint()?;
        let tag = u32::try_from(key >> 3).map_err(|_| input.invalid("a field number of at most 29 bits"))?;
        let wire_type = key as u32 & 7;
        let (number, end) = match wire_type {
            VARINT => (input.varint()?, 0),
            FIXED64 => (u64::from_le_bytes(input.array()?), 0),
            FIXED32 => (u64::from(u32::from_le_bytes(input.array()?)), 0),
            DELIMITED => {
                let len = usize::try_from(input.varint()?).map_err(|_| Error::Truncated)?;
                let start = input.at;
                input.take(len)?;
                (start as u64, input.at)
            }
            _ => return Err(input.invalid("a protobuf wire type other than a group")),
        };
        Ok(Raw { tag, wire_type, number, end })
    }

    /// The body of a delimited field within the message that it was read from.
    #[inline]
    pub fn body<'a>(&self, message: &'a [u8]) -> &'a [u8] {
        &message[self.number as usize..self.end]
    }
}
