//! A producer with a thread that serves its delivery reports. rdkafka has one too, but that wakes ten times a second and
//! spins for the rest of each time-out's last millisecond: a tenth of a core for nine of them that are idle.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rdkafka::config::ClientConfig;
use rdkafka::error::KafkaError;
use rdkafka::producer::{BaseProducer, ProducerContext};

/// How long one wait for reports takes. A dropped producer ends after as long, and holds nothing up until then.
pub(super) const POLL: Duration = Duration::from_secs(5);

pub(super) struct Polled<C: ProducerContext + 'static> {
    producer: Arc<BaseProducer<C>>,
    stop: Arc<AtomicBool>,
}

impl<C: ProducerContext + 'static> Polled<C> {
    pub fn new(config: &ClientConfig, context: C) -> Result<Self, KafkaError> {
        Self::watched(config, context, POLL, |_| {})
    }

    /// `watch` runs after each wait, which takes `poll` at most.
    pub fn watched(
        config: &ClientConfig,
        context: C,
        poll: Duration,
        mut watch: impl FnMut(&BaseProducer<C>) + Send + 'static,
    ) -> Result<Self, KafkaError> {
        let producer: Arc<BaseProducer<C>> = Arc::new(config.create_with_context(context)?);
        let stop = Arc::new(AtomicBool::new(false));
        let (polled, stopped) = (producer.clone(), stop.clone());
        let work = move || {
            while !stopped.load(Ordering::Relaxed) {
                polled.poll(poll);
                watch(&polled);
            }
        };
        let thread = std::thread::Builder::new().name("kafka-producer".into()).spawn(work);
        thread.map_err(|error| KafkaError::ClientCreation(error.to_string()))?;
        Ok(Self { producer, stop })
    }
}

impl<C: ProducerContext + 'static> Deref for Polled<C> {
    type Target = BaseProducer<C>;

    fn deref(&self) -> &BaseProducer<C> {
        &self.producer
    }
}

impl<C: ProducerContext + 'static> Drop for Polled<C> {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}
