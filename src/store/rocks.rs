//! Stores on RocksDB, in a directory.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use rocksdb::{
    BlockBasedOptions, Cache, DB, Direction, IteratorMode, Options, ReadOptions, WriteBatch, WriteBufferManager,
    WriteOptions,
};

use super::{Change, Error, Positions, Store, Stores, VERSION, keys};

impl From<rocksdb::Error> for Error {
    fn from(error: rocksdb::Error) -> Self {
        Self::Io(error.to_string())
    }
}

/// The stores of one node, which share their memory.
pub struct Directory {
    path: PathBuf,
    cache: Cache,
    writes: WriteBufferManager,
}

impl Directory {
    /// `cache_bytes` bounds the memory of all stores, for what they read and for what they have not written to disk yet.
    pub fn new(path: PathBuf, cache_bytes: usize) -> Self {
        let cache = Cache::new_lru_cache(cache_bytes);
        let writes = WriteBufferManager::new_write_buffer_manager_with_cache(cache_bytes / 2, false, cache.clone());
        Self { path, cache, writes }
    }

    fn of(&self, partition: u32) -> PathBuf {
        self.path.join(format!("p{partition}")).join("state")
    }
}

impl Stores for Directory {
    fn open(&self, partition: u32) -> Result<Arc<dyn Store>, Error> {
        let path = self.of(partition);
        let store = Rocks::open(&path, &self.cache, &self.writes)?;
        match store.version()? {
            None => store.db.put_opt(keys::VERSION, VERSION.to_string(), &store.unlogged)?,
            Some(found) if found == VERSION.to_string() => {}
            Some(found) if found.parse::<u32>().is_ok_and(|found| found < VERSION) => {
                tracing::info!(partition, "the store was written by an earlier version, and is read from the log anew");
                drop(store);
                self.delete(partition)?;
                return self.open(partition);
            }
            Some(found) => return Err(Error::Version { path, found }),
        }
        Ok(Arc::new(store))
    }

    fn delete(&self, partition: u32) -> Result<(), Error> {
        std::fs::remove_dir_all(self.of(partition)).map_err(|error| Error::Io(error.to_string()))
    }

    fn note(&self, partition: u32) -> Option<PathBuf> {
        Some(self.path.join(format!("p{partition}")).join("deciding"))
    }
}

struct Rocks {
    db: DB,
    unlogged: WriteOptions,
}

impl Rocks {
    fn open(path: &Path, cache: &Cache, writes: &WriteBufferManager) -> Result<Self, Error> {
        let mut blocks = BlockBasedOptions::default();
        blocks.set_block_cache(cache);
        blocks.set_bloom_filter(10.0, false);
        blocks.set_cache_index_and_filter_blocks(true);
        let mut options = Options::default();
        options.create_if_missing(true);
        options.set_block_based_table_factory(&blocks);
        options.set_compression_type(rocksdb::DBCompressionType::Lz4);
        options.set_write_buffer_size(16 << 20);
        options.set_write_buffer_manager(writes);
        options.set_max_background_jobs(2);
        options.set_keep_log_file_num(2);
        options.set_max_open_files(256);
        let open = |reason: String| Error::Open { path: path.to_owned(), reason };
        std::fs::create_dir_all(path).map_err(|error| open(error.to_string()))?;
        let db = DB::open(&options, path).map_err(|error| open(error.to_string()))?;
        let mut unlogged = WriteOptions::default();
        // The log is the write-ahead log.
        unlogged.disable_wal(true);
        Ok(Self { db, unlogged })
    }

    /// The version that the store was written by; none if it is new.
    fn version(&self) -> Result<Option<String>, Error> {
        Ok(self.get(keys::VERSION)?.map(|found| String::from_utf8_lossy(&found).into_owned()))
    }
}

impl Store for Rocks {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, Error> {
        Ok(self.db.get(key)?.map(Bytes::from))
    }

    fn write(&self, changes: &[Change], positions: Positions) -> Result<(), Error> {
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

    fn scan(&self, prefix: &[u8], from: &[u8], each: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> Result<(), Error> {
        let mut read = ReadOptions::default();
        if let Some(end) = keys::after(prefix) {
            read.set_iterate_upper_bound(end.to_vec());
        }
        for entry in self.db.iterator_opt(IteratorMode::From(from.max(prefix), Direction::Forward), read) {
            let (key, value) = entry?;
            if !key.starts_with(prefix) || !each(&key, &value) {
                break;
            }
        }
        Ok(())
    }

    fn last_at_or_before(&self, prefix: &[u8], at: &[u8]) -> Result<Option<(Bytes, Bytes)>, Error> {
        let Some(entry) = self.db.iterator(IteratorMode::From(at, Direction::Reverse)).next() else { return Ok(None) };
        let (key, value) = entry?;
        Ok(key.starts_with(prefix).then(|| (Bytes::from(key.into_vec()), Bytes::from(value.into_vec()))))
    }

    fn flush(&self) -> Result<(), Error> {
        Ok(self.db.flush()?)
    }

    fn sizes(&self) -> Vec<(&'static str, u64)> {
        let property = |name: &str| self.db.property_int_value(name).ok().flatten().unwrap_or_default();
        vec![
            ("sst", property("rocksdb.total-sst-files-size")),
            ("memtable", property("rocksdb.cur-size-all-mem-tables")),
        ]
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A store that is gone with its directory.
    pub fn opened(directory: &tempfile::TempDir) -> Arc<dyn Store> {
        Directory::new(directory.path().to_owned(), 8 << 20).open(0).expect("the store opens")
    }
}
