//! What stands before a record's Avro body, so that a reader can find the schema that wrote it.
//!
//! Either Avro's single-object encoding, `C3 01` and the schema's fingerprint, which needs no registry; or Confluent's framing, a
//! zero byte and the id that a schema registry gave the schema, big-endian. What an id stands for is learnt elsewhere: nothing
//! here does I/O, and nothing else depends on how a record is framed.

use super::Error;
use std::collections::BTreeMap;

const SINGLE_OBJECT: [u8; 2] = [0xc3, 0x01];
/// Also what keeps such records apart from JSON, which never begins so.
const CONFLUENT: u8 = 0;

/// Names the schema that a record was written with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Writer {
    /// CRC-64-AVRO of the schema's Parsing Canonical Form.
    Fingerprint(u64),
    /// What a schema registry knows the schema by.
    Id(u32),
}

/// How records of the public topics are framed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Framing {
    #[default]
    SingleObject,
    /// With the id of each topic's schema in a registry. Topics of Millrace's own are named without their prefix.
    Confluent(BTreeMap<String, u32>),
}

impl Framing {
    /// Writes what stands before the body of a record for `topic`.
    pub(super) fn put_header(&self, topic: &str, fingerprint: u64, out: &mut Vec<u8>) -> Result<(), Error> {
        match self {
            Self::SingleObject => {
                out.extend_from_slice(&SINGLE_OBJECT);
                out.extend_from_slice(&fingerprint.to_le_bytes());
            }
            Self::Confluent(ids) => {
                let id = ids.get(topic).ok_or_else(|| Error::NoId(topic.to_owned()))?;
                out.push(CONFLUENT);
                out.extend_from_slice(&id.to_be_bytes());
            }
        }
        Ok(())
    }
}

/// The writer's schema and the body of a framed record.
pub fn parse(record: &[u8]) -> Result<(Writer, &[u8]), Error> {
    if let Some(rest) = record.strip_prefix(&[CONFLUENT]) {
        let (id, body) = rest.split_first_chunk().ok_or(Error::Truncated)?;
        return Ok((Writer::Id(u32::from_be_bytes(*id)), body));
    }
    let rest = record.strip_prefix(&SINGLE_OBJECT).ok_or(Error::Unframed)?;
    let (fingerprint, body) = rest.split_first_chunk().ok_or(Error::Truncated)?;
    Ok((Writer::Fingerprint(u64::from_le_bytes(*fingerprint)), body))
}

/// Whether a record looks like Avro rather than JSON.
pub fn is_framed(record: &[u8]) -> bool {
    record.starts_with(&SINGLE_OBJECT) || record.first() == Some(&CONFLUENT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_parsed_back_and_anything_else_is_refused() {
        let framed = |framing: &Framing, topic: &str| {
            let mut record = Vec::new();
            framing.put_header(topic, 7, &mut record).map(|()| [&record[..], b"body"].concat())
        };
        let single = framed(&Framing::SingleObject, "history").unwrap();
        assert_eq!(single, b"\xc3\x01\x07\0\0\0\0\0\0\0body");
        assert_eq!(parse(&single), Ok((Writer::Fingerprint(7), &b"body"[..])));
        let ids = Framing::Confluent([("history".to_owned(), 258)].into());
        let confluent = framed(&ids, "history").unwrap();
        assert_eq!(confluent, b"\0\0\0\x01\x02body");
        assert_eq!(parse(&confluent), Ok((Writer::Id(258), &b"body"[..])));
        assert_eq!(framed(&ids, "timers"), Err(Error::NoId("timers".to_owned())));
        for other in [&b""[..], b"{\"start\":{}}", b"\xc3", b"\xc2\x01\x07\0\0\0\0\0\0\0"] {
            assert_eq!(parse(other), Err(Error::Unframed));
        }
        for short in [&single[..9], &confluent[..4], &confluent[..1]] {
            assert_eq!(parse(short), Err(Error::Truncated));
        }
    }
}
