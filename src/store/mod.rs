//! The store: one RocksDB per partition, a cache of what the log has committed. Never ahead of it: every batch carries the
//! positions that it brings the store to. A lost store is rebuilt from the log.

pub mod keys;

use std::path::{Path, PathBuf};

use bytes::Bytes;
use rocksdb::{BlockBasedOptions, Cache, DB, Direction, IteratorMode, Options, ReadOptions, WriteBatch, WriteOptions};

/// The layout of the store's records. A store of another version is not read.
const VERSION: &str = "1";

#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    #[error("the store at {path} can't be opened: {reason}")]
    Open { path: PathBuf, reason: String },
    #[error(
        "the store at {path} has format version {found}, and this binary reads version {VERSION}: delete the directory, and the state is read from the log again"
    )]
    Version { path: PathBuf, found: String },
    #[error("the store failed: {0}")]
    Io(String),
}

impl From<rocksdb::Error> for Error {
    fn from(error: rocksdb::Error) -> Self {
        Self::Io(error.to_string())
    }
}

/// How far the store has come: the next offsets to read, and when that was, in milliseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Positions {
    pub state: i64,
    pub history: i64,
    pub written_ms: i64,
}

impl Positions {
    fn encode(self) -> [u8; 24] {
        let mut bytes = [0; 24];
        bytes[..8].copy_from_slice(&self.state.to_be_bytes());
        bytes[8..16].copy_from_slice(&self.history.to_be_bytes());
        bytes[16..].copy_from_slice(&self.written_ms.to_be_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let number = |range: std::ops::Range<usize>| Some(i64::from_be_bytes(bytes.get(range)?.try_into().ok()?));
        Some(Self { state: number(0..8)?, history: number(8..16)?, written_ms: number(16..24)? })
    }
}

/// A change of one record; none deletes it.
pub type Change = (Bytes, Option<Bytes>);

pub struct Store {
    db: DB,
    unlogged: WriteOptions,
}

impl Store {
    /// Opens the store in `path`, or makes a new one. `cache_bytes` bounds the memory of its blocks.
    pub fn open(path: &Path, cache_bytes: usize) -> Result<Self, Error> {
        let mut blocks = BlockBasedOptions::default();
        blocks.set_block_cache(&Cache::new_lru_cache(cache_bytes));
        blocks.set_bloom_filter(10.0, false);
        blocks.set_cache_index_and_filter_blocks(true);
        let mut options = Options::default();
        options.create_if_missing(true);
        options.set_block_based_table_factory(&blocks);
        options.set_compression_type(rocksdb::DBCompressionType::Lz4);
        options.set_write_buffer_size(16 << 20);
        options.set_max_background_jobs(2);
        options.set_keep_log_file_num(2);
        options.set_max_open_files(256);
        let open = |reason: String| Error::Open { path: path.to_owned(), reason };
        std::fs::create_dir_all(path).map_err(|error| open(error.to_string()))?;
        let db = DB::open(&options, path).map_err(|error| open(error.to_string()))?;
        let mut unlogged = WriteOptions::default();
        // The log is the write-ahead log.
        unlogged.disable_wal(true);
        let store = Self { db, unlogged };
        match store.get(keys::VERSION)? {
            None => {
                let mut batch = WriteBatch::default();
                batch.put(keys::VERSION, VERSION);
                store.db.write_opt(batch, &store.unlogged)?;
            }
            Some(found) if found == VERSION => {}
            Some(found) => {
                return Err(Error::Version {
                    path: path.to_owned(),
                    found: String::from_utf8_lossy(&found).into_owned(),
                });
            }
        }
        Ok(store)
    }

    pub fn get(&self, key: &[u8]) -> Result<Option<Bytes>, Error> {
        Ok(self.db.get(key)?.map(Bytes::from))
    }

    pub fn positions(&self) -> Result<Option<Positions>, Error> {
        Ok(self.get(keys::POSITIONS)?.and_then(|bytes| Positions::decode(&bytes)))
    }

    /// Writes changes and the positions that they lead to, all or none.
    pub fn write(&self, changes: &[Change], positions: Positions) -> Result<(), Error> {
        let mut batch = WriteBatch::default();
        for (key, value) in changes {
            match value {
                Some(value) => batch.put(key, value),
                None => batch.delete(key),
            }
        }
        batch.put(keys::POSITIONS, positions.encode());
        self.db.write_opt(batch, &self.unlogged)?;
        Ok(())
    }

    /// The records whose keys begin with `prefix`, from `from` on, in key order, until `each` answers false.
    pub fn scan(&self, prefix: &[u8], from: &[u8], mut each: impl FnMut(&[u8], &[u8]) -> bool) -> Result<(), Error> {
        let mut read = ReadOptions::default();
        if let Some(end) = successor(prefix) {
            read.set_iterate_upper_bound(end);
        }
        for entry in self.db.iterator_opt(IteratorMode::From(from.max(prefix), Direction::Forward), read) {
            let (key, value) = entry?;
            if !key.starts_with(prefix) || !each(&key, &value) {
                break;
            }
        }
        Ok(())
    }

    /// The last record whose key begins with `prefix` and is not after `at`.
    pub fn last_at_or_before(&self, prefix: &[u8], at: &[u8]) -> Result<Option<(Bytes, Bytes)>, Error> {
        let Some(entry) = self.db.iterator(IteratorMode::From(at, Direction::Reverse)).next() else { return Ok(None) };
        let (key, value) = entry?;
        Ok(key.starts_with(prefix).then(|| (Bytes::from(key.into_vec()), Bytes::from(value.into_vec()))))
    }

    /// Writes what is in memory to disk. What is not on disk is read from the log again after a crash, which must be soon
    /// enough to find the deletions there.
    pub fn flush(&self) -> Result<(), Error> {
        Ok(self.db.flush()?)
    }

    /// Approximate bytes: on disk, in memory tables, in the block cache.
    pub fn sizes(&self) -> [(&'static str, u64); 3] {
        let property = |name: &str| self.db.property_int_value(name).ok().flatten().unwrap_or_default();
        [
            ("sst", property("rocksdb.total-sst-files-size")),
            ("memtable", property("rocksdb.cur-size-all-mem-tables")),
            ("block_cache", property("rocksdb.block-cache-usage")),
        ]
    }
}

/// The first key that no longer begins with `prefix`.
fn successor(prefix: &[u8]) -> Option<Vec<u8>> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return Some(end);
        }
    }
    None
}
