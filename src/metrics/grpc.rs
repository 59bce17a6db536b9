//! gRPC calls, and what nodes ask each other. Methods are those of the services' descriptors and the names of the questions, so
//! that a client can't invent one.

use std::time::Duration;

use prometheus::Gauge;
use tonic::{Code, Status};

use super::LATENCY_S;
use super::family::{Counters, Family, Gauges, Histograms, families};

families! {
    REQUESTS: Counters<2> = Family::new(
        "millrace_grpc_requests_total", "gRPC calls answered, by status code.", ["method", "code"]);
    DURATION: Histograms<1> = Family::with_buckets(
        "millrace_grpc_request_seconds", "How long gRPC calls took. Polls wait for tasks up to a minute.", ["method"], LATENCY_S);
    IN_FLIGHT: Gauges<1> = Family::new(
        "millrace_grpc_requests_in_flight", "gRPC calls not answered yet, waiting polls too.", ["method"]);
    FORWARDED: Counters<2> = Family::new(
        "millrace_grpc_forwarded_total", "gRPC calls that the owner of their partition was asked, another node, by status code.", ["method", "code"]);
}

/// A call was forwarded to another node, and answered there.
pub fn grpc_forwarded(method: &str, code: &str) {
    FORWARDED.of([&method, &code]).inc();
}

/// A call was answered. `method` is the method's bare name, `StartWorkflowExecution`; `code` the
/// status code's, `OK` or `NOT_FOUND`.
pub fn grpc_request(method: &str, code: &str, duration: Duration) {
    REQUESTS.of([&method, &code]).inc();
    DURATION.observe([&method], duration);
}

/// A call that is being served, until this is dropped.
pub struct InFlight(Gauge);

/// A call arrived. Hold what this returns until it is answered or its caller is gone.
#[must_use]
pub fn grpc_in_flight(method: &str) -> InFlight {
    let gauge = IN_FLIGHT.of([&method]);
    gauge.inc();
    InFlight(gauge)
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// The name of a call's status code.
pub fn code_of<T>(answer: &Result<T, Status>) -> &'static str {
    code_name(answer.as_ref().map_or_else(Status::code, |_| Code::Ok) as i32)
}

/// A status code's name.
pub fn code_name(code: i32) -> &'static str {
    const NAMES: [&str; 17] = [
        "OK",
        "CANCELLED",
        "UNKNOWN",
        "INVALID_ARGUMENT",
        "DEADLINE_EXCEEDED",
        "NOT_FOUND",
        "ALREADY_EXISTS",
        "PERMISSION_DENIED",
        "RESOURCE_EXHAUSTED",
        "FAILED_PRECONDITION",
        "ABORTED",
        "OUT_OF_RANGE",
        "UNIMPLEMENTED",
        "INTERNAL",
        "UNAVAILABLE",
        "DATA_LOSS",
        "UNAUTHENTICATED",
    ];
    usize::try_from(code).ok().and_then(|code| NAMES.get(code).copied()).unwrap_or("UNKNOWN")
}
