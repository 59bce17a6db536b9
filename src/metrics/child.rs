//! The kinds of children that a [`Family`](super::family::Family) has.

use prometheus::core::Metric as _;
use prometheus::proto::{Metric, MetricType};
use prometheus::{Gauge, Histogram, HistogramOpts, IntCounter};

/// A counter that is counted elsewhere: it is set to that value.
#[derive(Clone)]
pub struct Total(Gauge);

impl Total {
    pub fn set(&self, total: f64) {
        self.0.set(total);
    }
}

/// What a family is made of.
pub trait Child: Clone {
    const TYPE: MetricType;
    fn new(buckets: &[f64]) -> Self;
    fn read(&self) -> Metric;
}

// The children's own names are never seen: the family's name is.
const VALID: &str = "prometheus takes the metric's constant name and buckets";

impl Child for IntCounter {
    const TYPE: MetricType = MetricType::COUNTER;

    fn new(_: &[f64]) -> Self {
        Self::new("child", "child").expect(VALID)
    }

    fn read(&self) -> Metric {
        self.metric()
    }
}

impl Child for Gauge {
    const TYPE: MetricType = MetricType::GAUGE;

    fn new(_: &[f64]) -> Self {
        Self::new("child", "child").expect(VALID)
    }

    fn read(&self) -> Metric {
        self.metric()
    }
}

impl Child for Total {
    const TYPE: MetricType = MetricType::COUNTER;

    fn new(buckets: &[f64]) -> Self {
        Self(Child::new(buckets))
    }

    fn read(&self) -> Metric {
        let mut counter = prometheus::proto::Counter::default();
        counter.set_value(self.0.get());
        let mut metric = Metric::default();
        metric.set_counter(counter);
        metric
    }
}

impl Child for Histogram {
    const TYPE: MetricType = MetricType::HISTOGRAM;

    fn new(buckets: &[f64]) -> Self {
        Self::with_opts(HistogramOpts::new("child", "child").buckets(buckets.to_vec())).expect(VALID)
    }

    fn read(&self) -> Metric {
        self.metric()
    }
}
