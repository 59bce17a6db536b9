//! The store: one per partition, a cache of what the log has committed. Never ahead of it: every batch carries the positions
//! that it brings the store to. A lost store is rebuilt from the log.
//!
//! Owns the trait, and its implementation on RocksDB.

pub mod index;
pub mod keys;
pub mod rocks;

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;

/// The layout of the store's records. A store of an earlier version is made anew from the log, one of a later is not touched.
const VERSION: u32 = 6;

#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    #[error("the store at {path} can't be opened: {reason}")]
    Open { path: PathBuf, reason: String },
    #[error(
        "the store at {path} has format version {found}, and this binary reads version {VERSION}: run a newer one, or delete the directory, and the state is read from the log again"
    )]
    Version { path: PathBuf, found: String },
    #[error("the store failed: {0}")]
    Io(String),
}

/// How far the store has come: the next offsets to read, and when that was, in milliseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Positions {
    pub state: i64,
    pub history: i64,
    pub written_ms: i64,
    /// The offset of the newest head that was read or committed, which ends a transaction; 0: not known.
    pub head: i64,
}

impl Positions {
    pub fn encode(self) -> [u8; 32] {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&self.state.to_be_bytes());
        bytes[8..16].copy_from_slice(&self.history.to_be_bytes());
        bytes[16..24].copy_from_slice(&self.written_ms.to_be_bytes());
        bytes[24..].copy_from_slice(&self.head.to_be_bytes());
        bytes
    }

    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let number = |range: std::ops::Range<usize>| Some(i64::from_be_bytes(bytes.get(range)?.try_into().ok()?));
        let (state, history, written_ms) = (number(0..8)?, number(8..16)?, number(16..24)?);
        // Older stores do not have it.
        Some(Self { state, history, written_ms, head: number(24..32).unwrap_or_default() })
    }
}

/// A change of one record; none deletes it.
pub type Change = (Bytes, Option<Bytes>);

/// One partition's records.
pub trait Store: Send + Sync {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, Error>;

    /// Writes changes and the positions that they lead to, all or none.
    fn write(&self, changes: &[Change], positions: Positions) -> Result<(), Error>;

    /// The records whose keys begin with `prefix`, from `from` on, in key order, until `each` answers false.
    fn scan(&self, prefix: &[u8], from: &[u8], each: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> Result<(), Error>;

    /// The last record whose key begins with `prefix` and is not after `at`.
    fn last_at_or_before(&self, prefix: &[u8], at: &[u8]) -> Result<Option<(Bytes, Bytes)>, Error>;

    /// Writes what is in memory to disk. What is not on disk is read from the log again after a crash, which must be soon
    /// enough to find the deletions there.
    fn flush(&self) -> Result<(), Error>;

    /// Approximate bytes, by what they are for.
    fn sizes(&self) -> Vec<(&'static str, u64)>;

    fn positions(&self) -> Result<Option<Positions>, Error> {
        Ok(self.get(keys::POSITIONS)?.and_then(|bytes| Positions::decode(&bytes)))
    }
}

/// Where a node keeps its stores.
pub trait Stores: Send + Sync + 'static {
    /// Opens a partition's store, or makes a new one. It must not be open elsewhere.
    fn open(&self, partition: u32) -> Result<Arc<dyn Store>, Error>;

    /// Deletes a partition's store, which is not open.
    fn delete(&self, partition: u32) -> Result<(), Error>;

    /// Where a partition can leave a note for the process that comes after this one.
    fn note(&self, _partition: u32) -> Option<PathBuf> {
        None
    }
}
