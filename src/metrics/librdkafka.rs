//! The Kafka client library's statistics of its brokers and queues.
//!
//! A node has a client for each partition that it owns, so that figures by client would be many and short-lived: they are added
//! up by role and broker.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Display;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::Deserialize;

use super::family::{Counters, Family, Gauges, families};

families! {
    RTT_AVERAGE: Gauges<2> = Family::new(
        "millrace_librdkafka_broker_rtt_average_seconds", "Average time from a request to a broker to its response, lately.",
        ["role", "broker"]);
    RTT_P99: Gauges<2> = Family::new(
        "millrace_librdkafka_broker_rtt_p99_seconds",
        "99th percentile of the time from a request to its response, lately, of the slowest client.",
        ["role", "broker"]);
    OUTGOING: Gauges<2> = Family::new(
        "millrace_librdkafka_broker_outgoing_requests", "Requests that wait to be sent to a broker.", ["role", "broker"]);
    AWAITED: Gauges<2> = Family::new(
        "millrace_librdkafka_broker_awaited_responses", "Requests sent to a broker that it has not answered.", ["role", "broker"]);
    SENT_BYTES: Counters<2> = Family::new("millrace_librdkafka_broker_sent_bytes_total", "Bytes sent to a broker.", ["role", "broker"]);
    RECEIVED_BYTES: Counters<2> = Family::new(
        "millrace_librdkafka_broker_received_bytes_total", "Bytes received from a broker.", ["role", "broker"]);
    ERRORS: Counters<3> = Family::new(
        "millrace_librdkafka_broker_errors_total", "Failures in speaking to a broker: send, receive, time-out, retry.",
        ["role", "broker", "kind"]);
    CLIENTS: Gauges<1> = Family::new("millrace_librdkafka_clients", "Kafka clients of this process.", ["role"]);
    QUEUED_MESSAGES: Gauges<1> = Family::new(
        "millrace_librdkafka_queued_messages", "Messages in the producers' queues, not acknowledged yet.", ["role"]);
    QUEUED_BYTES: Gauges<1> = Family::new(
        "millrace_librdkafka_queued_bytes", "Bytes in the producers' queues, not acknowledged yet.", ["role"]);
    CALLBACKS: Gauges<1> = Family::new(
        "millrace_librdkafka_queued_callbacks", "Reports and events that this process has yet to take from the library.", ["role"]);
}

/// A client that has reported nothing for this long is gone. Its `statistics.interval.ms` must be well below.
const CLIENT_GONE: Duration = Duration::from_secs(120);

/// The part of the statistics that is used. Times in microseconds.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Statistics {
    name: String,
    #[serde(rename = "type")]
    role: String,
    replyq: i64,
    msg_cnt: u64,
    msg_size: u64,
    brokers: HashMap<String, Broker>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Broker {
    nodename: String,
    outbuf_cnt: i64,
    waitresp_cnt: i64,
    txbytes: u64,
    rxbytes: u64,
    txerrs: u64,
    rxerrs: u64,
    txretries: u64,
    req_timeouts: u64,
    rtt: Window,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Window {
    sum: i64,
    cnt: i64,
    p99: i64,
}

/// The last statistics of each client, by its name.
static LAST: Mutex<BTreeMap<String, (Instant, Statistics)>> = Mutex::new(BTreeMap::new());

/// Takes a client's statistics: the bytes that `rdkafka::ClientContext::stats_raw` is called with. What can't be read is left out.
pub fn librdkafka_stats(json: &[u8]) {
    let Ok(new) = serde_json::from_slice::<Statistics>(json) else { return };
    let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
    let old = last.get(&new.name).map(|(_, old)| old);
    for (key, broker) in &new.brokers {
        count(&new.role, broker, old.and_then(|old| old.brokers.get(key)));
    }
    last.insert(new.name.clone(), (Instant::now(), new));
}

/// Adds what was counted since `old`. A client's totals only grow.
fn count(role: &str, new: &Broker, old: Option<&Broker>) {
    if new.nodename.is_empty() {
        return; // not a broker but a place kept for one, such as the group's coordinator
    }
    let grown = |total: fn(&Broker) -> u64| total(new).saturating_sub(old.map_or(0, total));
    SENT_BYTES.of([&role, &new.nodename]).inc_by(grown(|broker| broker.txbytes));
    RECEIVED_BYTES.of([&role, &new.nodename]).inc_by(grown(|broker| broker.rxbytes));
    let errors = |kind: &str, n: u64| ERRORS.of([&role, &new.nodename, &kind]).inc_by(n);
    errors("send", grown(|broker| broker.txerrs));
    errors("receive", grown(|broker| broker.rxerrs));
    errors("timeout", grown(|broker| broker.req_timeouts));
    errors("retry", grown(|broker| broker.txretries));
}

#[derive(Default)]
struct OfBroker {
    rtt_sum: i64,
    rtt_count: i64,
    rtt_p99: i64,
    outgoing: i64,
    awaited: i64,
}

#[derive(Default)]
struct OfRole {
    clients: u64,
    messages: u64,
    bytes: u64,
    callbacks: i64,
}

/// Sets the gauges from the last statistics of the clients that are still there.
pub(super) fn refresh() {
    let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
    last.retain(|_, (at, _)| at.elapsed() < CLIENT_GONE);
    let mut roles: BTreeMap<&str, OfRole> = BTreeMap::new();
    let mut brokers: BTreeMap<(&str, &str), OfBroker> = BTreeMap::new();
    for (_, client) in last.values() {
        let role = roles.entry(&client.role).or_default();
        role.clients += 1;
        role.messages += client.msg_cnt;
        role.bytes += client.msg_size;
        role.callbacks += client.replyq;
        for broker in client.brokers.values().filter(|broker| !broker.nodename.is_empty()) {
            let sum = brokers.entry((&client.role, &broker.nodename)).or_default();
            sum.rtt_sum += broker.rtt.sum;
            sum.rtt_count += broker.rtt.cnt;
            sum.rtt_p99 = sum.rtt_p99.max(broker.rtt.p99);
            sum.outgoing += broker.outbuf_cnt;
            sum.awaited += broker.waitresp_cnt;
        }
    }
    let by_broker = |gauges: &Gauges<2>, value: fn(&OfBroker) -> f64| {
        gauges.replace(brokers.iter().map(|((role, broker), sum)| ([role as &dyn Display, broker], value(sum))));
    };
    by_broker(&RTT_AVERAGE, |sum| sum.rtt_sum as f64 / sum.rtt_count.max(1) as f64 / 1e6);
    by_broker(&RTT_P99, |sum| sum.rtt_p99 as f64 / 1e6);
    by_broker(&OUTGOING, |sum| sum.outgoing as f64);
    by_broker(&AWAITED, |sum| sum.awaited as f64);
    let by_role = |gauges: &Gauges<1>, value: fn(&OfRole) -> f64| {
        gauges.replace(roles.iter().map(|(role, sum)| ([role as &dyn Display], value(sum))));
    };
    by_role(&CLIENTS, |sum| sum.clients as f64);
    by_role(&QUEUED_MESSAGES, |sum| sum.messages as f64);
    by_role(&QUEUED_BYTES, |sum| sum.bytes as f64);
    by_role(&CALLBACKS, |sum| sum.callbacks as f64);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statistics(name: &str, sent: u64) -> String {
        format!(
            r#"{{"name":"{name}","client_id":"millrace","type":"producer","ts":1,"replyq":1,"msg_cnt":2,"msg_size":300,"brokers":{{
                "k:9092/1":{{"name":"k:9092/1","nodeid":1,"nodename":"k:9092","state":"UP","outbuf_cnt":1,"waitresp_cnt":2,"txbytes":{sent},
                    "rxbytes":10,"rtt":{{"min":1000,"max":9000,"avg":2000,"sum":4000,"cnt":2,"p50":1000,"p99":9000}}}},
                "GroupCoordinator":{{"name":"GroupCoordinator","nodeid":-1,"nodename":"","txbytes":5}}}},"topics":{{}}}}"#
        )
    }

    #[test]
    fn clients_of_a_role_are_added_up_and_totals_only_grow() {
        librdkafka_stats(b"no JSON");
        librdkafka_stats(statistics("p-1", 100).as_bytes());
        librdkafka_stats(statistics("p-2", 50).as_bytes());
        librdkafka_stats(statistics("p-1", 170).as_bytes());
        let text = crate::metrics::render();
        for line in [
            r#"millrace_librdkafka_broker_rtt_average_seconds{role="producer",broker="k:9092"} 0.002"#,
            r#"millrace_librdkafka_broker_rtt_p99_seconds{role="producer",broker="k:9092"} 0.009"#,
            r#"millrace_librdkafka_broker_sent_bytes_total{role="producer",broker="k:9092"} 220"#,
            r#"millrace_librdkafka_broker_awaited_responses{role="producer",broker="k:9092"} 4"#,
            r#"millrace_librdkafka_clients{role="producer"} 2"#,
            r#"millrace_librdkafka_queued_bytes{role="producer"} 600"#,
        ] {
            assert!(text.contains(line), "Expected {line}, but the metrics are\n{text}");
        }
        assert!(!text.contains(r#"broker="""#), "{text}");
    }
}
