//! One answer from several partitions.
//!
//! A page of the whole is among the first pages of the parts, and ends at a sort key that is a place in every part. So any
//! part can be asked with the merged token, in any order and on any node, and parts may come and go between pages.

use super::{Count, Error, Page, Query, Row};

/// Something that lists and counts: a partition here, or a node elsewhere.
pub trait Source {
    fn list(&self, query: &Query, page_size: usize, page_token: &[u8]) -> Result<Page, Error>;
    fn count(&self, query: &Query) -> Result<Count, Error>;
}

impl<S: Source + ?Sized> Source for std::sync::Arc<S> {
    fn list(&self, query: &Query, page_size: usize, page_token: &[u8]) -> Result<Page, Error> {
        (**self).list(query, page_size, page_token)
    }

    fn count(&self, query: &Query) -> Result<Count, Error> {
        (**self).count(query)
    }
}

/// A page of all sources together. Blocks: each source is queried in turn.
pub fn list<S: Source>(sources: &[S], query: &Query, page_size: usize, page_token: &[u8]) -> Result<Page, Error> {
    let pages = sources.iter().map(|source| source.list(query, page_size, page_token));
    Ok(pages_of(query, pages.collect::<Result<_, _>>()?, page_size))
}

/// The counts of all sources together. Blocks: each source is queried in turn.
pub fn count<S: Source>(sources: &[S], query: &Query) -> Result<Count, Error> {
    let counts = sources.iter().map(|source| source.count(query));
    Ok(counts_of(counts.collect::<Result<_, _>>()?))
}

/// Merges the pages that sources gave for the same query, page size and token.
pub fn pages_of(query: &Query, pages: Vec<Page>, page_size: usize) -> Page {
    let page_size = page_size.max(1);
    let keyed = |row: Row| (query.order.key(&row), row);
    let mut rows: Vec<_> = pages.into_iter().flat_map(|page| page.rows).map(keyed).collect();
    // Each page is sorted already, which a stable sort makes use of.
    rows.sort_by(|(a, _), (b, _)| query.order.compare(a, b));
    rows.truncate(page_size);
    let next_page_token = match rows.last() {
        Some((_, last)) if rows.len() == page_size => query.order.token(last),
        _ => Default::default(),
    };
    Page { rows: rows.into_iter().map(|(_, row)| row).collect(), next_page_token }
}

/// Adds up the counts that sources gave for the same query.
pub fn counts_of(counts: Vec<Count>) -> Count {
    let mut groups = std::collections::BTreeMap::new();
    for (status, count) in counts.iter().flat_map(|count| &count.groups) {
        *groups.entry(*status).or_insert(0) += count;
    }
    Count { total: counts.iter().map(|count| count.total).sum(), groups: groups.into_iter().collect() }
}
