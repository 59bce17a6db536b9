//! Visibility: which workflow executions there are, filtered, sorted, paged and counted.
//!
//! Owns a projection of the workflow records, one SQLite file per partition with its place in the changelog inside, and Temporal's list
//! filter language over it. The projection is a cache: it is fed from what the partition has committed, it never decides
//! anything, and a lost or damaged file is built again. It knows neither the log nor the store nor the network: the caller
//! brings rows, and maps [`Error::is_callers_fault`] to InvalidArgument.
//!
//! - [`Query::parse`]: the filter language, typed by the namespace's search attributes
//! - [`Projection`]: the writer of one partition's file; [`Readers`]: readers of the same file beside it
//! - [`merge`]: one answer from several partitions; it needs no token per partition, since every page ends at a sort key

mod attributes;
mod describe;
mod duration;
mod filter;
mod given;
pub mod merge;
mod order;
mod projection;
mod readers;
mod sql;
mod syntax;

pub use attributes::{Attributes, attributes_of, is_reserved, system_attributes};
pub use describe::{leave_out_removed, status_name, to_count_response, to_execution_info};
pub use filter::Query;
pub use given::{Refused, check as check_given};
pub use projection::{Deleted, Place, Projection, Reader};
pub use readers::Readers;

use bytes::Bytes;

pub use crate::engine::Row;

/// Part of a list, in the query's order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Page {
    pub rows: Vec<Row>,
    /// Opaque; empty when the page is not full, and so the list ends here. Good for any partition, and for all of them together.
    pub next_page_token: Bytes,
}

/// How many runs match, and how many by status when the query groups by `ExecutionStatus`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Count {
    pub total: i64,
    /// (status, count), by ascending status.
    pub groups: Vec<(i32, i64)>,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What is wrong, in Temporal's words where it has some, and at which character.
    #[error("invalid query: {0}")]
    Query(String),
    #[error("invalid query filter for schedules: cannot filter on {0:?}")]
    NoFilterOfSchedules(String),
    #[error("invalid page token: {0}")]
    PageToken(&'static str),
    #[error("the visibility projection failed: {0}")]
    Sqlite(#[from] rusqlite::Error),
    #[error("the visibility projection's file can't be replaced: {0}")]
    File(#[from] std::io::Error),
}

impl Error {
    /// Whether the request was wrong (InvalidArgument), rather than this node.
    pub fn is_callers_fault(&self) -> bool {
        matches!(self, Error::Query(_) | Error::NoFilterOfSchedules(_) | Error::PageToken(_))
    }
}

#[cfg(test)]
mod tests;
