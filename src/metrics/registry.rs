//! The schema registry: the outcomes of requests to it, and the waits for them.

use super::family::{Counters, Family, families};

families! {
    REQUESTS: Counters<1> = Family::new(
        "millrace_schema_registry_requests_total",
        "Requests to the schema registry, by outcome: ok, refused (it does not know, or does not want), unreachable, failed.",
        ["outcome"]);
    WAITS: Counters<2> = Family::new(
        "millrace_schema_registry_waits_total",
        "Times that a partition of a topic was held up, as the schema registry did not say what its next record is.",
        ["topic", "partition"]);
}

/// The registry was asked for something.
pub fn schema_registry_request(outcome: &'static str) {
    REQUESTS.of([&outcome]).inc();
}

/// Ingress waits with a partition of a topic until the registry answers.
pub fn schema_registry_wait(topic: &str, partition: u32) {
    WAITS.of([&topic, &partition]).inc();
}
