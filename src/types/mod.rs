//! Small types that every layer shares: ids, slots, time, limits. No I/O.

mod ids;
pub mod limits;
mod slot;
pub mod time;

pub use ids::{IdSource, is_uuid, uuid_from};
pub use slot::{SLOTS, Slot, partition_of_key};
