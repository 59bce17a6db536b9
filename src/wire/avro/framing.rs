//! What stands before a record's Avro body, so that a reader can tell which schema wrote it.
//!
//! Written today: Avro's single-object encoding, `C3 01` and the schema's fingerprint, which needs no registry. Confluent's
//! framing (a zero byte and the registry's id, big-endian) is to be a second variant of `Writer`, with ids learnt beside
//! the fingerprints; nothing else depends on how a record is framed.

use super::Error;

const SINGLE_OBJECT: [u8; 2] = [0xc3, 0x01];
pub(super) const HEADER_LEN: usize = 10;

/// Names the schema that a record was written with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Writer {
    /// CRC-64-AVRO of the schema's Parsing Canonical Form.
    Fingerprint(u64),
}

/// The writer's schema and the body of a framed record.
pub fn parse(record: &[u8]) -> Result<(Writer, &[u8]), Error> {
    let (header, body) = record.split_first_chunk::<HEADER_LEN>().ok_or(Error::Unframed)?;
    let fingerprint = header.strip_prefix(&SINGLE_OBJECT).ok_or(Error::Unframed)?;
    let fingerprint = u64::from_le_bytes(fingerprint.try_into().expect("Eight bytes follow the marker"));
    Ok((Writer::Fingerprint(fingerprint), body))
}

/// Whether a record looks like Avro rather than JSON.
pub fn is_framed(record: &[u8]) -> bool {
    record.starts_with(&SINGLE_OBJECT)
}

pub(super) fn header(fingerprint: u64) -> [u8; HEADER_LEN] {
    let mut header = [0; HEADER_LEN];
    header[..2].copy_from_slice(&SINGLE_OBJECT);
    header[2..].copy_from_slice(&fingerprint.to_le_bytes());
    header
}

/// CRC-64-AVRO, as the Avro specification defines it ("Schema Fingerprints").
pub(super) fn fingerprint(canonical: &str) -> u64 {
    const EMPTY: u64 = 0xc15d_213a_a4d7_a795;
    const TABLE: [u64; 256] = {
        let mut table = [0; 256];
        let mut index = 0;
        while index < 256 {
            let mut value = index as u64;
            let mut bit = 0;
            while bit < 8 {
                value = (value >> 1) ^ (EMPTY & (value & 1).wrapping_neg());
                bit += 1;
            }
            table[index] = value;
            index += 1;
        }
        table
    };
    canonical.bytes().fold(EMPTY, |value, byte| (value >> 8) ^ TABLE[(value as u8 ^ byte) as usize])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From the specification's own list, `share/test/data/schema-tests.txt` in the Avro project.
    #[test]
    fn fingerprints_are_those_of_the_specification() {
        assert_eq!(fingerprint("\"null\""), 7195948357588979594);
        assert_eq!(fingerprint("\"boolean\""), -6970731678124411036i64 as u64);
        assert_eq!(fingerprint(r#"{"name":"foo","type":"fixed","size":15}"#), 1756455273707447556);
    }

    #[test]
    fn a_header_is_parsed_back_and_anything_else_is_refused() {
        let record = [&header(7)[..], b"body"].concat();
        assert_eq!(parse(&record), Ok((Writer::Fingerprint(7), &b"body"[..])));
        for other in [&b""[..], b"{\"start\":{}}", &record[..9], b"\0\0\0\0\x01body body"] {
            assert_eq!(parse(other), Err(Error::Unframed));
        }
    }
}
