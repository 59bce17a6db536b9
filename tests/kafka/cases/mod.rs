//! What holds for every log.

pub mod appending;
pub mod committing;
pub mod owning;
pub mod reading;
pub mod reopening;
pub mod users_topics;
