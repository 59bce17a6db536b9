//! How the records of a run are named.

use bytes::{BufMut, Bytes, BytesMut};

/// Names one record of a run, by a letter that its kind of entity chooses and what distinguishes those of one letter. Capitals
/// stand for names, small letters for numbers, or for nothing more.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SubKey {
    /// What every run has: the record that is written with almost every change.
    Head,
    One(u8),
    Numbered(u8, i64),
    Named(u8, String),
}

const HEAD: u8 = b'h';

impl SubKey {
    /// What an id takes of which the record itself has nothing, and of which a run may have many. Bytes.
    pub fn id_len(&self) -> usize {
        if let Self::Named(_, name) = self { name.len() } else { 0 }
    }

    pub fn encode(&self, to: &mut BytesMut) {
        match self {
            Self::Head => to.put_u8(HEAD),
            Self::One(letter) => {
                debug_assert!(
                    !letter.is_ascii_uppercase() && *letter != HEAD,
                    "{} has a number or a name",
                    *letter as char
                );
                to.put_u8(*letter);
            }
            Self::Numbered(letter, number) => {
                debug_assert!(!letter.is_ascii_uppercase(), "{} is a letter of names", *letter as char);
                to.put_u8(*letter);
                to.put_i64(*number);
            }
            Self::Named(letter, name) => {
                debug_assert!(letter.is_ascii_uppercase(), "{} is no letter of names", *letter as char);
                to.put_u8(*letter);
                to.put_slice(name.as_bytes());
            }
        }
    }

    pub fn to_bytes(&self) -> Bytes {
        let mut bytes = BytesMut::new();
        self.encode(&mut bytes);
        bytes.freeze()
    }

    /// Reads an encoded one back; none if it is not one.
    pub fn decode(encoded: &[u8]) -> Option<Self> {
        let (letter, rest) = encoded.split_first()?;
        Some(match (letter, rest) {
            (letter, name) if letter.is_ascii_uppercase() => {
                Self::Named(*letter, String::from_utf8(name.to_vec()).ok()?)
            }
            (&HEAD, []) => Self::Head,
            (letter, []) => Self::One(*letter),
            (letter, number) => Self::Numbered(*letter, i64::from_be_bytes(number.try_into().ok()?)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back_and_sorts_as_its_bytes_do() {
        let mut keys = vec![
            SubKey::Head,
            SubKey::One(b'p'),
            SubKey::Numbered(b'a', 5),
            SubKey::Numbered(b'a', 1 << 40),
            SubKey::Named(b'T', "a timer".into()),
            SubKey::Named(b'T', String::new()),
        ];
        for key in &keys {
            assert_eq!(SubKey::decode(&key.to_bytes()).as_ref(), Some(key));
        }
        keys.retain(|key| matches!(key, SubKey::Numbered(..)));
        assert!(keys[0].to_bytes() < keys[1].to_bytes());
        assert_eq!(SubKey::decode(b""), None);
        assert_eq!(SubKey::decode(b"a123"), None);
    }
}
