//! A machine's disk: stores in memory that survive their process, but for what was not flushed, and the projections of lists,
//! which lose nothing with it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use imbl::OrdMap;
use millrace::store::{Change, Error, Positions, Store, Stores, keys};
use millrace::visibility::Projection;

use crate::connection::Network;
use crate::life::Life;
use crate::mutations::Mutation;
use crate::random::Rng;

pub type Records = OrdMap<Bytes, Bytes>;

#[derive(Clone, Default)]
struct Content {
    now: Records,
    /// What a crash leaves.
    flushed: Records,
}

/// Survives the processes that use it.
#[derive(Default)]
pub struct Disk {
    stores: Mutex<BTreeMap<u32, Content>>,
    lists: Mutex<BTreeMap<u32, Arc<Mutex<Projection>>>>,
}

impl Disk {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<u32, Content>> {
        self.stores.lock().expect("no code panics while it holds the disk")
    }

    /// The process has died: of what was not flushed, nothing is left.
    pub fn crash(&self) {
        for content in self.lock().values_mut() {
            content.now = content.flushed.clone();
        }
    }

    pub fn lose(&self) {
        self.lock().clear();
        self.lose_lists();
    }

    /// The files of lists are lost, or were damaged.
    pub fn lose_lists(&self) {
        self.lists.lock().expect("no code panics while it holds the lists").clear();
    }

    /// The file of a partition's lists.
    pub fn lists(&self, partition: u32) -> Arc<Mutex<Projection>> {
        let new = || Projection::open(Path::new(":memory:")).expect("SQLite has memory");
        let mut lists = self.lists.lock().expect("no code panics while it holds the lists");
        lists.entry(partition).or_insert_with(|| Arc::new(Mutex::new(new()))).clone()
    }

    pub fn records(&self, partition: u32) -> Records {
        self.lock().get(&partition).map(|content| content.now.clone()).unwrap_or_default()
    }
}

/// A disk as one process has it.
pub struct Mounted {
    pub disk: Arc<Disk>,
    pub life: Arc<Life>,
    pub network: Arc<Network>,
    pub rng: Arc<Rng>,
    pub mutation: Option<Mutation>,
}

struct MemoryStore {
    disk: Arc<Disk>,
    life: Arc<Life>,
    rng: Arc<Rng>,
    mutation: Option<Mutation>,
    partition: u32,
}

impl Stores for Mounted {
    fn open(&self, partition: u32) -> Result<Arc<dyn Store>, Error> {
        self.disk.lock().entry(partition).or_default();
        let Self { disk, life, rng, mutation, .. } = self;
        let (disk, life, rng) = (disk.clone(), life.clone(), rng.clone());
        Ok(Arc::new(MemoryStore { disk, life, rng, mutation: *mutation, partition }))
    }

    fn delete(&self, partition: u32) -> Result<(), Error> {
        if self.life.go_on() {
            self.network.note("a store was too old");
            self.disk.lock().remove(&partition);
        }
        Ok(())
    }
}

impl MemoryStore {
    fn records(&self) -> Records {
        self.disk.records(self.partition)
    }
}

impl Store for MemoryStore {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, Error> {
        let found = self.records().get(key).cloned();
        Ok(match self.mutation {
            Some(mutation) => mutation.of_stored(key, found),
            None => found,
        })
    }

    fn write(&self, changes: &[Change], positions: Positions) -> Result<(), Error> {
        if !self.life.go_on() {
            return Err(Error::Io("the process is dead".into()));
        }
        let mut stores = self.disk.lock();
        let content = stores.entry(self.partition).or_default();
        for (key, value) in changes {
            match value {
                Some(value) => drop(content.now.insert(key.clone(), value.clone())),
                None => drop(content.now.remove(key)),
            }
        }
        content.now.insert(Bytes::from_static(keys::POSITIONS), Bytes::copy_from_slice(&positions.encode()));
        if self.rng.per_mille(300) {
            content.flushed = content.now.clone();
        }
        Ok(())
    }

    fn scan(&self, prefix: &[u8], from: &[u8], each: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> Result<(), Error> {
        let from = Bytes::copy_from_slice(from.max(prefix));
        let records = self.records();
        for (key, value) in records.range(from..) {
            if !key.starts_with(prefix) {
                break;
            }
            if self.mutation.is_some_and(|mutation| mutation.hides(key)) {
                continue;
            }
            if !each(key, value) {
                break;
            }
        }
        Ok(())
    }

    fn last_at_or_before(&self, prefix: &[u8], at: &[u8]) -> Result<Option<(Bytes, Bytes)>, Error> {
        let records = self.records();
        let last = records.range(..=Bytes::copy_from_slice(at)).next_back();
        Ok(last.filter(|(key, _)| key.starts_with(prefix)).map(|(key, value)| (key.clone(), value.clone())))
    }

    fn flush(&self) -> Result<(), Error> {
        let mut stores = self.disk.lock();
        let content = stores.entry(self.partition).or_default();
        content.flushed = content.now.clone();
        Ok(())
    }

    fn sizes(&self) -> Vec<(&'static str, u64)> {
        Vec::new()
    }
}
