//! The keys of the store, which are also the keys of the `state` and `history` topics.
//!
//! `s` slot, namespace id, id, then a byte for the kind of the entity and whether the key names the entity itself or, by run id
//! and sub-key, a record of a run; `h` slot, namespace id, id, run id, first event id for a batch of history; `o` target partition,
//! sequence for a send under way; `c` slot, namespace id, id, run id for a history that is being copied to the run; `!` for what the partition itself remembers. Only in the store
//! are its indexes, whose keys end with that of a record of a run: `d` and a time for when the record is due; `t`, a task queue (the
//! number of its type, its namespace id, its name) and a time for the task that waits there; `e` for the head of an entity that every node must
//! know of.

use bytes::{BufMut, Bytes, BytesMut};

use crate::engine::{EntityId, Kind, SubKey, TaskQueueType};

pub const VERSION: &[u8] = b"!version";
pub const POSITIONS: &[u8] = b"!positions";
/// The partition's head record.
pub const HEAD: &[u8] = b"!head";
pub const STATE: &[u8] = b"s";
pub const OUTGOING: &[u8] = b"o";
pub const DUE: &[u8] = b"d";
pub const TASKS: &[u8] = b"t";
pub const SHARED: &[u8] = b"e";
pub const COPIES: &[u8] = b"c";

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

fn entity_prefix(letter: u8, entity: &EntityId, more: usize) -> BytesMut {
    let mut key = BytesMut::with_capacity(7 + entity.namespace_id.len() + entity.id.len() + more);
    key.put_u8(letter);
    key.put_u16(entity.slot().0);
    put_text(&mut key, &entity.namespace_id);
    put_text(&mut key, &entity.id);
    key
}

/// Which byte names an entity of a kind itself; the one after it, its runs.
fn marker(kind: Kind) -> u8 {
    2 * kind as u8
}

pub fn entity(entity: &EntityId) -> Bytes {
    let mut key = entity_prefix(b's', entity, 1);
    key.put_u8(marker(entity.kind));
    key.freeze()
}

/// What the keys of a run's records begin with.
pub fn run(entity: &EntityId, run_id: &str) -> Bytes {
    run_key(entity, run_id, 0).freeze()
}

pub fn record(entity: &EntityId, run_id: &str, sub_key: &SubKey) -> Bytes {
    let mut key = run_key(entity, run_id, 9 + sub_key.id_len());
    sub_key.encode(&mut key);
    key.freeze()
}

fn run_key(entity: &EntityId, run_id: &str, more: usize) -> BytesMut {
    let mut key = entity_prefix(b's', entity, 3 + run_id.len() + more);
    key.put_u8(marker(entity.kind) + 1);
    put_text(&mut key, run_id);
    key
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

/// The key under which the store's index has the head of an entity that every node must know of.
pub fn shared(record: &[u8]) -> Bytes {
    let mut key = BytesMut::with_capacity(1 + record.len());
    key.put_slice(SHARED);
    key.put_slice(record);
    key.freeze()
}

/// The key under which the store's index has the task of a record, which may be had from a time on, in milliseconds since the
/// Unix epoch.
pub fn task(namespace_id: &str, queue_type: TaskQueueType, queue: &str, at_ms: i64, record: &[u8]) -> Bytes {
    let mut key = BytesMut::with_capacity(14 + namespace_id.len() + queue.len() + record.len());
    key.put_slice(TASKS);
    key.put_u8(queue_type as u8);
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

/// The namespace id, name and type of the task queue whose keys begin so; none if that is not known.
pub fn parse_task_queue(prefix: &[u8]) -> Option<(String, String, TaskQueueType)> {
    let mut rest = prefix.strip_prefix(TASKS)?;
    let queue_type = TaskQueueType::of(take(&mut rest, 1)?[0].into())?;
    Some((take_text(&mut rest)?, take_text(&mut rest)?, queue_type))
}

/// What a state key names.
#[derive(Debug, PartialEq, Eq)]
pub struct Parsed {
    pub entity: EntityId,
    /// Run id and sub-key; none: the entity itself.
    pub record: Option<(String, SubKey)>,
}

/// Reads a state key back; none if it is not one.
pub fn parse(key: &[u8]) -> Option<Parsed> {
    let mut rest = key.strip_prefix(STATE)?.get(2..)?;
    let namespace_id = take_text(&mut rest)?;
    let id = take_text(&mut rest)?;
    let marked = take(&mut rest, 1)?[0];
    let entity = EntityId::new(Kind::of(u32::from(marked / 2))?, &namespace_id, &id);
    let record = if marked % 2 == 0 {
        None
    } else {
        let run_id = take_text(&mut rest)?;
        Some((run_id, SubKey::decode(rest)?))
    };
    Some(Parsed { entity, record })
}

/// The key of a history that is being copied to a run.
pub fn copy(entity: &EntityId, run_id: &str) -> Bytes {
    let mut key = entity_prefix(COPIES[0], entity, 3 + run_id.len());
    key.put_u8(marker(entity.kind));
    put_text(&mut key, run_id);
    key.freeze()
}

/// Reads such a key back.
pub fn parse_copy(key: &[u8]) -> Option<(EntityId, String)> {
    let mut rest = key.strip_prefix(COPIES)?.get(2..)?;
    let namespace_id = take_text(&mut rest)?;
    let id = take_text(&mut rest)?;
    let kind = Kind::of(u32::from(take(&mut rest, 1)?[0] / 2))?;
    Some((EntityId::new(kind, &namespace_id, &id), take_text(&mut rest)?))
}

/// What the keys of a run's history begin with.
pub fn history(entity: &EntityId, run_id: &str) -> Bytes {
    history_key(entity, run_id, 0).freeze()
}

pub fn history_batch(entity: &EntityId, run_id: &str, first_event_id: i64) -> Bytes {
    let mut key = history_key(entity, run_id, 8);
    key.put_i64(first_event_id);
    key.freeze()
}

/// The first event id in the key of a batch of history, whose run's begin with `prefix`.
pub fn first_event_id(key: &[u8], prefix: &[u8]) -> Option<i64> {
    Some(i64::from_be_bytes(key.strip_prefix(prefix)?.try_into().ok()?))
}

fn history_key(entity: &EntityId, run_id: &str, more: usize) -> BytesMut {
    let mut key = entity_prefix(b'h', entity, 2 + run_id.len() + more);
    put_text(&mut key, run_id);
    key
}

fn put_text(key: &mut BytesMut, text: &str) {
    key.put_u16(text.len() as u16);
    key.put_slice(text.as_bytes());
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
        let workflow = EntityId::workflow("ns", "wf\0");
        for sub_key in [SubKey::Head, SubKey::One(b'p'), SubKey::Numbered(b'a', 5), SubKey::Named(b'T', "t\0x".into())]
        {
            let key = record(&workflow, "run", &sub_key);
            assert!(key.starts_with(&run(&workflow, "run")));
            let parsed = parse(&key).unwrap();
            assert_eq!(parsed, Parsed { entity: workflow.clone(), record: Some(("run".to_owned(), sub_key)) });
        }
        assert_eq!(parse(&entity(&workflow)).unwrap().record, None);
        assert_eq!(parse_outgoing(&outgoing(3, 12)), Some((3, 12)));
        let due = due(77, &entity(&workflow));
        assert_eq!((due_ms(&due), due_record(&due)), (Some(77), Some(&entity(&workflow)[..])));
        for queue_type in [TaskQueueType::Workflow, TaskQueueType::Activity] {
            let waiting = parse_task(&task("ns", queue_type, "q", 78, b"record")).unwrap();
            assert_eq!((waiting.at_ms, &waiting.record[..]), (78, &b"record"[..]));
            assert_eq!(parse_task_queue(&waiting.queue), Some(("ns".to_owned(), "q".to_owned(), queue_type)));
        }
    }

    #[test]
    fn garbage_is_no_key() {
        for garbage in [&b""[..], b"s", b"sxx\0", b"zzz", b"s\0\0\0\x02ns\0\x01wq"] {
            assert_eq!(parse(garbage), None);
            assert_eq!(parse_task(&Bytes::from_static(garbage)), None);
        }
        // A queue of a type that is not known.
        assert_eq!(parse_task_queue(b"t\0\0\x02ns\0\x01q"), None);
    }
}
