//! A metric's name and its children, one for each combination of label values.
//!
//! Not prometheus' own vectors: they find a child by a hash of the label values run together, so that namespace `a` with
//! queue `bc` and namespace `ab` with queue `c` are one child. Clients choose these names.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::io::Write as _;
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

#[cfg(test)]
use prometheus::proto::MetricType;
use prometheus::proto::{LabelPair, Metric, MetricFamily};
use prometheus::{Gauge, Histogram, IntCounter};

use super::child::{Child, Total};

/// Ends each label value in a child's key: no byte of UTF-8, so that no two combinations have the same key.
const END: u8 = 0xff;
/// Children beyond this count share one, whose labels are all [`OTHER`]: clients choose names, and must not choose our memory.
pub(super) const CHILDREN_MAX: usize = 2_000;
pub(super) const OTHER: &str = "(other)";

pub(super) type Counters<const N: usize> = Family<IntCounter, N>;
pub(super) type Gauges<const N: usize> = Family<Gauge, N>;
pub(super) type Histograms<const N: usize> = Family<Histogram, N>;
pub(super) type Totals<const N: usize> = Family<Total, N>;

/// All children of one metric, by the bytes of their label values.
type Children<M> = BTreeMap<Box<[u8]>, M>;

/// One metric. Made in constants, so that finding it costs nothing.
pub(super) struct Family<M, const N: usize> {
    name: &'static str,
    help: &'static str,
    labels: [&'static str; N],
    buckets: &'static [f64],
    children: RwLock<Children<M>>,
}

impl<M: Child, const N: usize> Family<M, N> {
    pub const fn new(name: &'static str, help: &'static str, labels: [&'static str; N]) -> Self {
        Self { name, help, labels, buckets: &[], children: RwLock::new(BTreeMap::new()) }
    }

    /// As [`Family::new`], with the upper bounds of a histogram's buckets, in the unit of its name.
    pub const fn with_buckets(
        name: &'static str,
        help: &'static str,
        labels: [&'static str; N],
        buckets: &'static [f64],
    ) -> Self {
        Self { name, help, labels, buckets, children: RwLock::new(BTreeMap::new()) }
    }

    /// The child with these label values. Allocates only when it is new.
    pub fn of(&self, values: [&dyn Display; N]) -> M {
        thread_local!(static KEY: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) });
        KEY.with_borrow_mut(|key| {
            key.clear();
            write_key(key, &values);
            let found = self.children.read().unwrap_or_else(PoisonError::into_inner).get(key.as_slice()).cloned();
            found.unwrap_or_else(|| self.create(key))
        })
    }

    fn create(&self, key: &[u8]) -> M {
        let mut children = self.children.write().unwrap_or_else(PoisonError::into_inner);
        let key = if children.len() < CHILDREN_MAX || children.contains_key(key) {
            key.into()
        } else {
            key_of(&[&OTHER as &dyn Display; N])
        };
        children.entry(key).or_insert_with(|| M::new(self.buckets)).clone()
    }

    /// Drops the children whose first label value this is.
    pub fn forget(&self, first: &dyn Display) {
        let prefix = key_of(&[first]);
        self.children.write().unwrap_or_else(PoisonError::into_inner).retain(|key, _| !key.starts_with(&prefix));
    }
}

impl<const N: usize> Gauges<N> {
    /// Sets these children and drops all others, atomically for renderers.
    pub fn replace<'a>(&self, children: impl Iterator<Item = ([&'a dyn Display; N], f64)>) {
        let make = |(values, value): ([&dyn Display; N], f64)| {
            let gauge: Gauge = Child::new(&[]);
            gauge.set(value);
            (key_of(&values), gauge)
        };
        let children = children.map(make).collect();
        *self.children.write().unwrap_or_else(PoisonError::into_inner) = children;
    }
}

impl<const N: usize> Histograms<N> {
    pub fn observe(&self, values: [&dyn Display; N], took: Duration) {
        self.of(values).observe(took.as_secs_f64());
    }
}

fn write_key(key: &mut Vec<u8>, values: &[&dyn Display]) {
    for value in values {
        let _ = write!(key, "{value}"); // a vector takes all that is written to it
        key.push(END);
    }
}

fn key_of(values: &[&dyn Display]) -> Box<[u8]> {
    let mut key = Vec::new();
    write_key(&mut key, values);
    key.into_boxed_slice()
}

/// A family, whatever its children are.
pub(super) trait Collect: Sync {
    #[cfg(test)]
    fn name(&self) -> &'static str;
    #[cfg(test)]
    fn help(&self) -> &'static str;
    #[cfg(test)]
    fn labels(&self) -> &[&'static str];
    #[cfg(test)]
    fn metric_type(&self) -> MetricType;
    /// All children, or none if there are no children.
    fn collect(&self) -> Option<MetricFamily>;
}

impl<M: Child + Send + Sync, const N: usize> Collect for Family<M, N> {
    #[cfg(test)]
    fn name(&self) -> &'static str {
        self.name
    }

    #[cfg(test)]
    fn help(&self) -> &'static str {
        self.help
    }

    #[cfg(test)]
    fn labels(&self) -> &[&'static str] {
        &self.labels
    }

    #[cfg(test)]
    fn metric_type(&self) -> MetricType {
        M::TYPE
    }

    fn collect(&self) -> Option<MetricFamily> {
        let children = self.children.read().unwrap_or_else(PoisonError::into_inner);
        let metrics: Vec<_> = children.iter().map(|(key, child)| labelled(child.read(), &self.labels, key)).collect();
        drop(children);
        if metrics.is_empty() {
            return None;
        }
        let mut family = MetricFamily::default();
        family.set_name(self.name.to_owned());
        family.set_help(self.help.to_owned());
        family.set_field_type(M::TYPE);
        family.set_metric(metrics);
        Some(family)
    }
}

fn labelled(mut metric: Metric, names: &[&str], key: &[u8]) -> Metric {
    let pair = |(name, value): (&&str, &[u8])| {
        let mut pair = LabelPair::default();
        pair.set_name((*name).to_owned());
        pair.set_value(String::from_utf8_lossy(value).into_owned());
        pair
    };
    metric.set_label(names.iter().zip(key.split(|byte| *byte == END)).map(pair).collect());
    metric
}

/// Declares families, and lists them for [`render`](super::render) and the tests.
macro_rules! families {
    ($($name:ident: $type:ty = $family:expr;)*) => {
        $(static $name: $type = $family;)*
        pub(super) static FAMILIES: &[&dyn $crate::metrics::family::Collect] = &[$(&$name),*];
    };
}
pub(super) use families;

#[cfg(test)]
mod tests {
    use super::*;

    fn values<M: Child + Send + Sync, const N: usize>(family: &Family<M, N>) -> Vec<(String, f64)> {
        let read = |metric: &Metric| {
            let labels: Vec<_> = metric.get_label().iter().map(|label| label.value().to_owned()).collect();
            (labels.join(" "), metric.get_counter().get_value() + metric.get_gauge().get_value())
        };
        family.collect().map(|family| family.get_metric().iter().map(read).collect()).unwrap_or_default()
    }

    #[test]
    fn label_values_that_read_alike_when_run_together_are_apart() {
        let family = Counters::<2>::new("name", "help", ["namespace", "queue"]);
        family.of([&"a", &"bc"]).inc();
        family.of([&"ab", &"c"]).inc_by(2);
        family.of([&"ab", &"c"]).inc();
        assert_eq!(values(&family), [("ab c".to_owned(), 3.0), ("a bc".to_owned(), 1.0)]);
    }

    #[test]
    fn what_is_replaced_or_forgotten_is_gone() {
        let family = Gauges::<2>::new("name", "help", ["partition", "what"]);
        family.replace([([&1 as &dyn Display, &"x"], 1.0), ([&12, &"x"], 2.0)].into_iter());
        family.of([&1, &"y"]).set(3.0);
        family.forget(&1);
        assert_eq!(values(&family), [("12 x".to_owned(), 2.0)]);
        family.replace(std::iter::empty());
        assert!(family.collect().is_none());
    }

    #[test]
    fn children_are_bounded() {
        let family = Counters::<1>::new("name", "help", ["queue"]);
        for queue in 0..CHILDREN_MAX + 3 {
            family.of([&queue]).inc();
        }
        let values = values(&family);
        assert_eq!(values.len(), CHILDREN_MAX + 1);
        assert!(values.contains(&(OTHER.to_owned(), 3.0)));
    }
}
