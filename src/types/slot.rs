//! Where an entity lives: its key hashes to one of 4,096 slots, and slots map to partitions.

/// The number of slots. It never changes; what changes is which partition serves a slot.
pub const SLOTS: u16 = 4096;

/// A key's slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(pub u16);

impl Slot {
    /// The slot of an entity. `kind`: the number of the entity's kind.
    pub fn of(kind: u8, namespace_id: &str, id: &str) -> Self {
        let mut hash = 0xcbf2_9ce4_8422_2325_u64; // FNV-1a, fixed for ever: it decides where data lives
        // Workflows, whose kind is 0, are where they are without it.
        let kind = (kind != 0).then_some([0, kind]).into_iter().flatten();
        for byte in namespace_id.bytes().chain([0]).chain(id.bytes()).chain(kind) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        Self(((hash ^ (hash >> 32)) % u64::from(SLOTS)) as u16)
    }

    /// The partition that serves the slot, of `partitions`.
    pub fn partition(self, partitions: u32) -> u32 {
        u32::from(self.0) % partitions
    }
}

/// The partition of a record that is about no entity, by its key: records of one key keep their order.
pub fn partition_of_key(key: &[u8], partitions: u32) -> u32 {
    u32::from(Slot::of(0, "", &String::from_utf8_lossy(key)).0) % partitions
}
