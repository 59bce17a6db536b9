//! Where an entity lives: its key hashes to one of 4,096 slots, and slots map to partitions.

/// The number of slots. It never changes; what changes is which partition serves a slot.
pub const SLOTS: u16 = 4096;

/// A key's slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(pub u16);

impl Slot {
    /// The slot of a workflow, or of a namespace itself if the workflow id is empty.
    pub fn of(namespace_id: &str, workflow_id: &str) -> Self {
        let mut hash = 0xcbf2_9ce4_8422_2325_u64; // FNV-1a, fixed for ever: it decides where data lives
        for byte in namespace_id.bytes().chain([0]).chain(workflow_id.bytes()) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        Self(((hash ^ (hash >> 32)) % u64::from(SLOTS)) as u16)
    }

    /// The partition that serves the slot, of `partitions`.
    pub fn partition(self, partitions: u32) -> u32 {
        u32::from(self.0) % partitions
    }
}

/// The partition of a workflow, of `partitions`.
pub fn partition_of(namespace_id: &str, workflow_id: &str, partitions: u32) -> u32 {
    Slot::of(namespace_id, workflow_id).partition(partitions)
}

/// The partition of a record that is about no workflow, by its key: records of one key keep their order.
pub fn partition_of_key(key: &[u8], partitions: u32) -> u32 {
    u32::from(Slot::of("", &String::from_utf8_lossy(key)).0) % partitions
}
