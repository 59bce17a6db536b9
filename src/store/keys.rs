//! The keys of the store, which are also the keys of the `state` and `history` topics.
//!
//! `s` slot, namespace id, workflow id, then `e` for the entity or `r`, run id and sub-key for a record of a run; `h` slot,
//! namespace id, workflow id, run id, first event id for a batch of history; `n` name for a namespace; `o` target partition,
//! sequence for a send under way; `!` for what the partition itself remembers. Only in the store
//! are its indexes, whose keys end with that of a record of a run: `d` and a time for when the record is due; `t`, a task queue and a
//! time for the task that waits there.

use bytes::{BufMut, Bytes, BytesMut};

use crate::engine::SubKey;
use crate::types::Slot;

pub const VERSION: &[u8] = b"!version";
pub const POSITIONS: &[u8] = b"!positions";
/// The partition's head record.
pub const HEAD: &[u8] = b"!head";
pub const STATE: &[u8] = b"s";
pub const NAMESPACES: &[u8] = b"n";
pub const OUTGOING: &[u8] = b"o";
pub const DUE: &[u8] = b"d";
pub const TASKS: &[u8] = b"t";

pub fn namespace(name: &str) -> Bytes {
    let mut key = BytesMut::with_capacity(1 + name.len());
    key.put_slice(NAMESPACES);
    key.put_slice(name.as_bytes());
    key.freeze()
}

pub fn outgoing(target: u32, sequence: i64) -> Bytes {
    let mut key = BytesMut::with_capacity(13);
    key.put_slice(OUTGOING);
    key.put_u32(target);
    key.put_i64(sequence);
    key.freeze()
}

/// Reads an outgoing key back: target partition and sequence.
pub fn parse_outgoing(key: &[u8]) -> Option<(u32, i64)> {
    let rest = key.strip_prefix(OUTGOING)?;
    Some((u32::from_be_bytes(rest.get(..4)?.try_into().ok()?), i64::from_be_bytes(rest.get(4..12)?.try_into().ok()?)))
}

fn entity_prefix(kind: u8, namespace_id: &str, workflow_id: &str, more: usize) -> BytesMut {
    let mut key = BytesMut::with_capacity(7 + namespace_id.len() + workflow_id.len() + more);
    key.put_u8(kind);
    key.put_u16(Slot::of(namespace_id, workflow_id).0);
    put_text(&mut key, namespace_id);
    put_text(&mut key, workflow_id);
    key
}

pub fn entity(namespace_id: &str, workflow_id: &str) -> Bytes {
    let mut key = entity_prefix(b's', namespace_id, workflow_id, 1);
    key.put_u8(b'e');
    key.freeze()
}

/// What the keys of a run's records begin with.
pub fn run(namespace_id: &str, workflow_id: &str, run_id: &str) -> Bytes {
    let mut key = entity_prefix(b's', namespace_id, workflow_id, 3 + run_id.len());
    key.put_u8(b'r');
    put_text(&mut key, run_id);
    key.freeze()
}

pub fn record(namespace_id: &str, workflow_id: &str, run_id: &str, sub_key: &SubKey) -> Bytes {
    let mut key = entity_prefix(b's', namespace_id, workflow_id, 16 + run_id.len());
    key.put_u8(b'r');
    put_text(&mut key, run_id);
    match sub_key {
        SubKey::Head => key.put_u8(b'h'),
        // Next to the head: lists are made of both.
        SubKey::Properties => key.put_u8(b'p'),
        SubKey::Start => key.put_u8(b's'),
        SubKey::Buffered(id) => put_numbered(&mut key, b'b', *id),
        SubKey::Activity(id) => put_numbered(&mut key, b'a', *id),
        SubKey::Timer(id) => put_named(&mut key, b't', id),
        SubKey::Child(id) => put_numbered(&mut key, b'c', *id),
        SubKey::External(id) => put_numbered(&mut key, b'x', *id),
        SubKey::Request(id) => put_named(&mut key, b'q', id),
    }
    key.freeze()
}

/// The key under which the store's index has a record that is due at a time, in milliseconds since the Unix epoch.
pub fn due(at_ms: i64, record: &[u8]) -> Bytes {
    let mut key = BytesMut::with_capacity(9 + record.len());
    key.put_slice(DUE);
    // Nothing is due before the epoch; numbers below zero would come last.
    key.put_i64(at_ms.max(0));
    key.put_slice(record);
    key.freeze()
}

/// When the record is due that a key of the index names.
pub fn due_ms(key: &[u8]) -> Option<i64> {
    Some(i64::from_be_bytes(key.strip_prefix(DUE)?.get(..8)?.try_into().ok()?))
}

/// The key of the record that a key of the index names.
pub fn due_record(key: &[u8]) -> Option<&[u8]> {
    key.strip_prefix(DUE)?.get(8..)
}

/// The key under which the store's index has the task of a record, which may be had from a time on, in milliseconds since the
/// Unix epoch.
pub fn task(namespace_id: &str, activity: bool, queue: &str, at_ms: i64, record: &[u8]) -> Bytes {
    let mut key = BytesMut::with_capacity(14 + namespace_id.len() + queue.len() + record.len());
    key.put_slice(TASKS);
    key.put_u8(if activity { b'a' } else { b'w' });
    put_text(&mut key, namespace_id);
    put_text(&mut key, queue);
    key.put_i64(at_ms.max(0));
    key.put_slice(record);
    key.freeze()
}

/// What a key of the index of tasks names.
#[derive(Debug, PartialEq, Eq)]
pub struct Waiting {
    /// What all keys of its task queue begin with.
    pub queue: Bytes,
    pub at_ms: i64,
    /// The key of its record.
    pub record: Bytes,
}

/// Reads a key of the index of tasks back.
pub fn parse_task(key: &Bytes) -> Option<Waiting> {
    let mut rest = key.strip_prefix(TASKS)?.get(1..)?;
    for _ in 0..2 {
        let length = u16::from_be_bytes(take(&mut rest, 2)?.try_into().ok()?);
        take(&mut rest, usize::from(length))?;
    }
    let queue = key.slice(..key.len() - rest.len());
    let at_ms = i64::from_be_bytes(take(&mut rest, 8)?.try_into().ok()?);
    Some(Waiting { queue, at_ms, record: key.slice(key.len() - rest.len()..) })
}

/// The first key after all those that begin with `prefix`.
pub fn after(prefix: &[u8]) -> Option<Bytes> {
    let last = prefix.iter().rposition(|byte| *byte < u8::MAX)?;
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    Some(end.into())
}

/// The namespace id, name and kind (true: activities) of the task queue whose keys begin so.
pub fn parse_task_queue(prefix: &[u8]) -> Option<(String, String, bool)> {
    let mut rest = prefix.strip_prefix(TASKS)?;
    let activity = take(&mut rest, 1)?[0] == b'a';
    Some((take_text(&mut rest)?, take_text(&mut rest)?, activity))
}

/// What a state key names.
#[derive(Debug, PartialEq, Eq)]
pub struct Parsed {
    pub namespace_id: String,
    pub workflow_id: String,
    /// None: the entity itself.
    pub record: Option<(String, SubKey)>,
}

/// Reads a state key back; none if it is not one.
pub fn parse(key: &[u8]) -> Option<Parsed> {
    let mut rest = key.strip_prefix(STATE)?.get(2..)?;
    let namespace_id = take_text(&mut rest)?;
    let workflow_id = take_text(&mut rest)?;
    let record = match take(&mut rest, 1)?[0] {
        b'e' => None,
        b'r' => {
            let run_id = take_text(&mut rest)?;
            let kind = take(&mut rest, 1)?[0];
            let number = || Some(i64::from_be_bytes(rest.try_into().ok()?));
            let name = || String::from_utf8(rest.to_vec()).ok();
            let sub_key = match kind {
                b'h' => SubKey::Head,
                b'p' => SubKey::Properties,
                b's' => SubKey::Start,
                b'b' => SubKey::Buffered(number()?),
                b'a' => SubKey::Activity(number()?),
                b't' => SubKey::Timer(name()?),
                b'c' => SubKey::Child(number()?),
                b'x' => SubKey::External(number()?),
                b'q' => SubKey::Request(name()?),
                _ => return None,
            };
            Some((run_id, sub_key))
        }
        _ => return None,
    };
    Some(Parsed { namespace_id, workflow_id, record })
}

/// What the keys of a run's history begin with.
pub fn history(namespace_id: &str, workflow_id: &str, run_id: &str) -> Bytes {
    history_key(namespace_id, workflow_id, run_id, 0).freeze()
}

pub fn history_batch(namespace_id: &str, workflow_id: &str, run_id: &str, first_event_id: i64) -> Bytes {
    let mut key = history_key(namespace_id, workflow_id, run_id, 8);
    key.put_i64(first_event_id);
    key.freeze()
}

/// The first event id in the key of a batch of history, whose run's begin with `prefix`.
pub fn first_event_id(key: &[u8], prefix: &[u8]) -> Option<i64> {
    Some(i64::from_be_bytes(key.strip_prefix(prefix)?.try_into().ok()?))
}

fn history_key(namespace_id: &str, workflow_id: &str, run_id: &str, more: usize) -> BytesMut {
    let mut key = entity_prefix(b'h', namespace_id, workflow_id, 2 + run_id.len() + more);
    put_text(&mut key, run_id);
    key
}

fn put_text(key: &mut BytesMut, text: &str) {
    key.put_u16(text.len() as u16);
    key.put_slice(text.as_bytes());
}

fn put_numbered(key: &mut BytesMut, kind: u8, number: i64) {
    key.put_u8(kind);
    key.put_i64(number);
}

fn put_named(key: &mut BytesMut, kind: u8, name: &str) {
    key.put_u8(kind);
    key.put_slice(name.as_bytes());
}

fn take<'a>(rest: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let taken = rest.get(..count)?;
    *rest = &rest[count..];
    Some(taken)
}

fn take_text(rest: &mut &[u8]) -> Option<String> {
    let length = u16::from_be_bytes(take(rest, 2)?.try_into().ok()?);
    String::from_utf8(take(rest, usize::from(length))?.to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn record_keys_come_back() {
        for sub_key in [
            SubKey::Head,
            SubKey::Properties,
            SubKey::Start,
            SubKey::Buffered(1),
            SubKey::Activity(5),
            SubKey::Timer("t\0x".into()),
            SubKey::Child(7),
            SubKey::External(9),
            SubKey::Request("q".into()),
        ] {
            let key = record("ns", "wf\0", "run", &sub_key);
            assert!(key.starts_with(&run("ns", "wf\0", "run")));
            let parsed = parse(&key).unwrap();
            assert_eq!((parsed.namespace_id.as_str(), parsed.workflow_id.as_str()), ("ns", "wf\0"));
            assert_eq!(parsed.record, Some(("run".to_owned(), sub_key)));
        }
        assert_eq!(parse(&entity("ns", "wf")).unwrap().record, None);
        assert_eq!(parse_outgoing(&outgoing(3, 12)), Some((3, 12)));
        let due = due(77, &entity("ns", "wf"));
        assert_eq!((due_ms(&due), due_record(&due)), (Some(77), Some(&entity("ns", "wf")[..])));
        let task = task("ns", true, "q", 78, b"record");
        let waiting = parse_task(&task).unwrap();
        assert_eq!((waiting.at_ms, &waiting.record[..]), (78, &b"record"[..]));
        assert_eq!(parse_task_queue(&waiting.queue), Some(("ns".to_owned(), "q".to_owned(), true)));
    }

    #[test]
    fn garbage_is_no_key() {
        for garbage in [&b""[..], b"s", b"sxx\0", b"zzz", b"s\0\0\0\x02ns\0\x01wq"] {
            assert_eq!(parse(garbage), None);
            assert_eq!(parse_task(&Bytes::from_static(garbage)), None);
        }
    }
}
