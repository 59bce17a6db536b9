//! Conversions between the milliseconds that Millrace counts in and protobuf's times and durations.

use prost_types::{Duration, Timestamp};

/// A protobuf time of `ms` milliseconds since the Unix epoch.
pub fn timestamp(ms: i64) -> Timestamp {
    Timestamp { seconds: ms.div_euclid(1000), nanos: (ms.rem_euclid(1000) * 1_000_000) as i32 }
}

/// As [`timestamp`], with 0 for "none".
pub fn timestamp_or_none(ms: i64) -> Option<Timestamp> {
    (ms != 0).then(|| timestamp(ms))
}

pub fn millis_of(time: &Timestamp) -> i64 {
    time.seconds.saturating_mul(1000).saturating_add(i64::from(time.nanos) / 1_000_000)
}

pub fn duration(ms: i64) -> Duration {
    Duration { seconds: ms / 1000, nanos: ((ms % 1000) * 1_000_000) as i32 }
}

/// The longest duration that is kept, in seconds: a hundred years, as Temporal's server cuts them. A time plus this is still a
/// time that protobuf can encode.
pub const DURATION_S_MAX: i64 = 100 * 365 * 24 * 3600;

/// The duration, or the longest one.
pub fn cut(duration: Duration) -> Duration {
    if duration.seconds >= DURATION_S_MAX { Duration { seconds: DURATION_S_MAX, nanos: 0 } } else { duration }
}

/// A duration in milliseconds, cut and rounded up, so that no positive duration becomes "none"; none and negative are 0.
pub fn duration_ms(duration: Option<&Duration>) -> i64 {
    let Some(d) = duration.copied().map(cut) else { return 0 };
    if d.seconds < 0 || d.nanos < 0 {
        return 0;
    }
    d.seconds.saturating_mul(1000).saturating_add((i64::from(d.nanos) + 999_999) / 1_000_000)
}

/// Whether a duration is below zero or not well formed.
pub fn is_negative(duration: Option<&Duration>) -> bool {
    duration.is_some_and(|d| d.seconds < 0 || d.nanos < 0)
}

/// What is wrong with a duration, if anything, in the words of Temporal's server.
pub fn problem(duration: Option<&Duration>) -> Option<&'static str> {
    let d = duration?;
    if (d.seconds > 0 && d.nanos < 0) || (d.seconds < 0 && d.nanos > 0) {
        Some("duration has seconds and nanos with different signs")
    } else if is_negative(duration) {
        Some("negative duration")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_round_up_and_come_back() {
        assert_eq!(duration_ms(Some(&Duration { seconds: 0, nanos: 1 })), 1);
        assert_eq!(duration_ms(Some(&duration(1500))), 1500);
        assert_eq!(duration_ms(Some(&Duration { seconds: i64::MAX, nanos: 0 })), DURATION_S_MAX * 1000);
        assert_eq!(duration_ms(None), 0);
        assert_eq!(millis_of(&timestamp(-1)), -1);
    }
}
