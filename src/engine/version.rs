//! The versions of the fold: what commands decide changes only with them.
//!
//! A partition has one version in force, which its head names, until a `SetFoldVersion` among its commands puts a newer one in
//! force. Everybody who decides the same commands changes it at the same place, so that all come to the same.
//!
//! To change a decision: raise [`FOLD_VERSION_MAX`], keep the old behaviour wherever the version in force is an older one, and say
//! below what is new. A binary knows the last two versions, so that nodes can be upgraded, or taken back, one by one. A new kind of
//! command, or a field that a decision looks at, is such a change too: at an older version it is decided as if it were not there, as
//! a binary does that doesn't know it.
//!
//! | version | what is new |
//! |---|---|
//! | 1 | |
//! | 2 | a command whose body nobody knows is set aside, with its coordinates on `rejections`, where it was refused in silence |

/// The versions that this binary decides by.
pub const FOLD_VERSION_MIN: u32 = 1;
pub const FOLD_VERSION_MAX: u32 = 2;

/// Unknown bodies are set aside.
pub(super) const BODIES_SET_ASIDE: u32 = 2;
