//! Retry policies and back-off. Temporal's defaults: 1 s, doubled, capped at 100 times the first, no limit of attempts.

use crate::proto::temporal::common::v1::RetryPolicy;
use crate::proto::temporal::enums::v1::{RetryState, TimeoutType};
use crate::proto::temporal::failure::v1::{Failure, failure::FailureInfo};
use crate::types::time::{self, duration, is_negative};

use prost_types::Duration;

/// A policy with every gap filled by its default.
pub fn with_defaults(policy: Option<RetryPolicy>) -> RetryPolicy {
    let mut policy = policy.unwrap_or_default();
    let initial = policy.initial_interval.filter(|d| !is_zero(d)).unwrap_or_else(|| duration(1000));
    policy.initial_interval = Some(time::cut(initial));
    if coefficient_milli(&policy) == 0 {
        policy.backoff_coefficient = 2.0;
    }
    if policy.maximum_interval.as_ref().is_none_or(is_zero) {
        policy.maximum_interval = Some(times_100(&initial));
    }
    policy.maximum_interval = policy.maximum_interval.map(time::cut);
    policy
}

fn is_zero(d: &Duration) -> bool {
    d.seconds == 0 && d.nanos == 0
}

fn times_100(d: &Duration) -> Duration {
    let nanos = i64::from(d.nanos) * 100;
    Duration {
        seconds: d.seconds.saturating_mul(100).saturating_add(nanos / 1_000_000_000),
        nanos: (nanos % 1_000_000_000) as i32,
    }
}

/// What is wrong with a policy, if anything. One that allows a single attempt is never looked at. Source of the rules and
/// their wording: Temporal's server.
pub fn problem(policy: &RetryPolicy) -> Option<String> {
    if policy.maximum_attempts == 1 {
        return None;
    }
    let (initial, maximum) = (policy.initial_interval.as_ref(), policy.maximum_interval.as_ref());
    if let Some(problem) = time::problem(initial) {
        return Some(format!("invalid InitialInterval set on retry policy: {problem}"));
    }
    if policy.backoff_coefficient != 0.0 && policy.backoff_coefficient < 1.0 {
        return Some("BackoffCoefficient cannot be less than 1 on retry policy.".into());
    }
    if let Some(problem) = time::problem(maximum) {
        return Some(format!("invalid MaximumInterval set on retry policy: {problem}"));
    }
    // A policy is checked with its gaps filled.
    if maximum.is_some_and(|d| !is_zero(d))
        && nanos(maximum) < nanos(with_defaults(Some(policy.clone())).initial_interval.as_ref())
    {
        return Some("MaximumInterval cannot be less than InitialInterval on retry policy.".into());
    }
    if policy.maximum_attempts < 0 {
        return Some("MaximumAttempts cannot be negative on retry policy.".into());
    }
    let timeouts = policy.non_retryable_error_types.iter().filter_map(|name| name.strip_prefix(TIMEOUT_PREFIX));
    let mut unknown = timeouts.filter(|name| timeout_named(name).is_none());
    unknown.next().map(|name| format!("Invalid timeout type value: {name}."))
}

/// Whether and when an activity is tried again after an attempt failed: the delay in milliseconds, or why it is not.
/// A delay that the failure sets is taken as it is, whatever the policy's maximum interval.
///
/// `expires_ms`: no attempt may begin after this time (0: no limit).
pub fn activity_delay(
    policy: &RetryPolicy,
    attempt: i32,
    now: i64,
    expires_ms: i64,
    failure: &Failure,
) -> Result<i64, RetryState> {
    // The server's own deadlines are no failures of an attempt: with them, time is up. What went wrong before is the cause.
    if matches!(timeout_of(failure), Some(TimeoutType::ScheduleToStart | TimeoutType::ScheduleToClose)) {
        return Err(RetryState::Timeout);
    }
    let maximum = asked_delay(failure).or(policy.maximum_interval.as_ref());
    delay(policy, attempt, (now, expires_ms), failure, maximum)
}

/// As [`activity_delay`], for a run that failed or timed out. Unlike there, a delay that the failure sets is cut by the
/// policy's maximum interval.
pub fn run_delay(
    policy: &RetryPolicy,
    attempt: i32,
    now: i64,
    expires_ms: i64,
    failure: &Failure,
) -> Result<i64, RetryState> {
    delay(policy, attempt, (now, expires_ms), failure, policy.maximum_interval.as_ref())
}

fn delay(
    policy: &RetryPolicy,
    attempt: i32,
    (now, expires_ms): (i64, i64),
    failure: &Failure,
    maximum: Option<&Duration>,
) -> Result<i64, RetryState> {
    if !is_retryable(failure, &policy.non_retryable_error_types) {
        return Err(RetryState::NonRetryableFailure);
    }
    if policy.maximum_attempts > 0 && attempt >= policy.maximum_attempts {
        return Err(RetryState::MaximumAttemptsReached);
    }
    let maximum_nanos = nanos(maximum);
    let delay_nanos = match asked_delay(failure) {
        Some(asked) => nanos(Some(asked)),
        None => backoff_nanos(policy, attempt, if maximum_nanos == 0 { i64::MAX as u128 } else { maximum_nanos }),
    };
    let delay_nanos = match (delay_nanos, maximum_nanos) {
        // As in Temporal's server, a delay of 0 ends an activity.
        (0, 0) => return Err(RetryState::Timeout),
        (delay, 0) => delay,
        (0, maximum) => maximum,
        (delay, maximum) => delay.min(maximum),
    };
    let delay = i64::try_from(delay_nanos.div_ceil(1_000_000)).unwrap_or(i64::MAX);
    if expires_ms != 0 && now.saturating_add(delay) > expires_ms {
        return Err(RetryState::Timeout);
    }
    Ok(delay)
}

/// How long a policy waits before the attempt after one, in milliseconds.
pub fn interval_ms(policy: &RetryPolicy, attempt: i32) -> i64 {
    let maximum = nanos(policy.maximum_interval.as_ref());
    let maximum = if maximum == 0 { i64::MAX as u128 } else { maximum };
    let delay = backoff_nanos(policy, attempt, maximum).min(maximum);
    i64::try_from(delay.div_ceil(1_000_000)).unwrap_or(i64::MAX)
}

fn asked_delay(failure: &Failure) -> Option<&Duration> {
    match &failure.failure_info {
        Some(FailureInfo::ApplicationFailureInfo(info)) => info.next_retry_delay.as_ref(),
        _ => None,
    }
}

/// No interval is longer: a hundred years, as with Temporal's server.
const SECONDS_MAX: i64 = 100 * 365 * 24 * 3600;

/// In nanoseconds; none and negative are 0.
fn nanos(duration: Option<&Duration>) -> u128 {
    match duration {
        Some(d) if !is_negative(duration) => d.seconds.min(SECONDS_MAX) as u128 * 1_000_000_000 + d.nanos as u128,
        _ => 0,
    }
}

/// initial × coefficient ^ (attempt − 1), up to the maximum, without floating-point powers.
fn backoff_nanos(policy: &RetryPolicy, attempt: i32, maximum_nanos: u128) -> u128 {
    let coefficient = u128::from(coefficient_milli(policy));
    let mut delay = nanos(policy.initial_interval.as_ref());
    if coefficient == 1000 {
        return delay;
    }
    for _ in 1..attempt {
        if delay >= maximum_nanos {
            break;
        }
        delay = delay * coefficient / 1000;
    }
    delay
}

/// The coefficient in thousandths. One rounding of one IEEE product: the same on every machine.
fn coefficient_milli(policy: &RetryPolicy) -> u64 {
    (policy.backoff_coefficient * 1000.0).round().clamp(0.0, 1e12) as u64
}

/// What a policy's list of error types calls a time-out, before its type's name.
const TIMEOUT_PREFIX: &str = "TemporalTimeout:";

/// The time-out that a policy names: as in Temporal's enum, in either of its spellings.
fn timeout_named(name: &str) -> Option<TimeoutType> {
    let known = [
        (TimeoutType::StartToClose, "StartToClose"),
        (TimeoutType::ScheduleToStart, "ScheduleToStart"),
        (TimeoutType::ScheduleToClose, "ScheduleToClose"),
        (TimeoutType::Heartbeat, "Heartbeat"),
    ];
    known
        .into_iter()
        .find(|(timeout, short)| name == *short || name == timeout.as_str_name())
        .map(|(timeout, _)| timeout)
}

fn timeout_of(failure: &Failure) -> Option<TimeoutType> {
    match &failure.failure_info {
        Some(FailureInfo::TimeoutFailureInfo(info)) => Some(info.timeout_type()),
        _ => None,
    }
}

fn is_retryable(failure: &Failure, non_retryable_types: &[String]) -> bool {
    match &failure.failure_info {
        Some(FailureInfo::ApplicationFailureInfo(info)) => {
            !info.non_retryable && !non_retryable_types.contains(&info.r#type)
        }
        Some(FailureInfo::ServerFailureInfo(info)) => !info.non_retryable,
        Some(FailureInfo::TimeoutFailureInfo(info)) => {
            let name = match info.timeout_type() {
                TimeoutType::StartToClose => "TemporalTimeout:StartToClose",
                TimeoutType::Heartbeat => "TemporalTimeout:Heartbeat",
                _ => return false,
            };
            !non_retryable_types.iter().any(|named| named == name)
        }
        Some(FailureInfo::CanceledFailureInfo(_) | FailureInfo::TerminatedFailureInfo(_)) => false,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::temporal::failure::v1::{ApplicationFailureInfo, TimeoutFailureInfo};

    fn application(info: ApplicationFailureInfo) -> Failure {
        Failure { failure_info: Some(FailureInfo::ApplicationFailureInfo(info)), ..Failure::default() }
    }

    fn asks(ms: i64) -> Failure {
        application(ApplicationFailureInfo { next_retry_delay: Some(duration(ms)), ..Default::default() })
    }

    fn timeout(timeout_type: TimeoutType) -> Failure {
        let info = TimeoutFailureInfo { timeout_type: timeout_type as i32, ..Default::default() };
        Failure { failure_info: Some(FailureInfo::TimeoutFailureInfo(info)), ..Failure::default() }
    }

    #[test]
    fn doubles_up_to_the_cap_by_default() {
        let policy = with_defaults(None);
        let delays: Vec<i64> =
            (1..=9).map(|n| activity_delay(&policy, n, 0, 0, &Failure::default()).unwrap()).collect();
        assert_eq!(delays, [1000, 2000, 4000, 8000, 16000, 32000, 64000, 100_000, 100_000]);
    }

    #[test]
    fn intervals_below_a_millisecond_keep_their_proportions() {
        let micros = |n| Duration { seconds: 0, nanos: n * 1000 };
        let policy = with_defaults(Some(RetryPolicy { initial_interval: Some(micros(100)), ..Default::default() }));
        assert_eq!(policy.maximum_interval, Some(duration(10)));
        let delays: Vec<i64> =
            (1..=9).map(|n| activity_delay(&policy, n, 0, 0, &Failure::default()).unwrap()).collect();
        assert_eq!(delays, [1, 1, 1, 1, 2, 4, 7, 10, 10]);
    }

    #[test]
    fn a_delay_asked_for_overrides_the_backoff_and_only_a_run_s_is_cut() {
        let policy =
            with_defaults(Some(RetryPolicy { maximum_interval: Some(duration(5000)), ..RetryPolicy::default() }));
        assert_eq!(activity_delay(&policy, 1, 0, 0, &asks(300)), Ok(300));
        assert_eq!(activity_delay(&policy, 1, 0, 0, &asks(60_000)), Ok(60_000));
        assert_eq!(activity_delay(&policy, 1, 0, 0, &asks(0)), Err(RetryState::Timeout));
        assert_eq!(run_delay(&policy, 1, 0, 0, &asks(300)), Ok(300));
        assert_eq!(run_delay(&policy, 1, 0, 0, &asks(60_000)), Ok(5000));
        assert_eq!(run_delay(&policy, 1, 0, 0, &asks(0)), Ok(5000));
    }

    #[test]
    fn ends_are_told_apart() {
        let policy = with_defaults(Some(RetryPolicy {
            maximum_attempts: 2,
            non_retryable_error_types: vec!["Broke".into()],
            ..RetryPolicy::default()
        }));
        assert_eq!(activity_delay(&policy, 2, 0, 0, &Failure::default()), Err(RetryState::MaximumAttemptsReached));
        assert_eq!(activity_delay(&policy, 1, 0, 500, &Failure::default()), Err(RetryState::Timeout));
        let broke = application(ApplicationFailureInfo { r#type: "Broke".into(), ..Default::default() });
        assert_eq!(activity_delay(&policy, 1, 0, 0, &broke), Err(RetryState::NonRetryableFailure));
        for deadline in [TimeoutType::ScheduleToStart, TimeoutType::ScheduleToClose] {
            assert_eq!(activity_delay(&policy, 2, 0, 0, &timeout(deadline)), Err(RetryState::Timeout));
        }
    }

    #[test]
    fn a_timeout_that_is_not_to_be_retried_leaves_the_other_one_alone() {
        let named = |name: &str| {
            with_defaults(Some(RetryPolicy { non_retryable_error_types: vec![name.into()], ..Default::default() }))
        };
        for (name, start_to_close, heartbeat) in
            [("TemporalTimeout:StartToClose", false, true), ("TemporalTimeout:Heartbeat", true, false)]
        {
            let retried = |failure| activity_delay(&named(name), 1, 0, 0, &failure).is_ok();
            assert_eq!(retried(timeout(TimeoutType::StartToClose)), start_to_close, "{name}");
            assert_eq!(retried(timeout(TimeoutType::Heartbeat)), heartbeat, "{name}");
        }
    }

    #[test]
    fn says_what_is_wrong_with_a_policy() {
        let with = |change: fn(&mut RetryPolicy)| {
            let mut policy = RetryPolicy::default();
            change(&mut policy);
            problem(&policy)
        };
        assert_eq!(with(|_| {}), None);
        assert_eq!(
            with(|policy| policy.initial_interval = Some(Duration { seconds: -1, nanos: 0 })).as_deref(),
            Some("invalid InitialInterval set on retry policy: negative duration")
        );
        assert_eq!(
            with(|policy| policy.maximum_interval = Some(duration(999))).as_deref(),
            Some("MaximumInterval cannot be less than InitialInterval on retry policy.")
        );
        assert_eq!(
            with(|policy| policy.non_retryable_error_types = vec!["TemporalTimeout:Never".into()]).as_deref(),
            Some("Invalid timeout type value: Never.")
        );
        // A single attempt makes the rest pointless.
        assert_eq!(with(|policy| (policy.maximum_attempts, policy.backoff_coefficient) = (1, 0.5)), None);
    }
}
