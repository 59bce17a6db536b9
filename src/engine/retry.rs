//! Retry policies and back-off. Temporal's defaults: 1 s, doubled, capped at 100 times the first, no limit of attempts.

use crate::proto::temporal::common::v1::RetryPolicy;
use crate::proto::temporal::enums::v1::{RetryState, TimeoutType};
use crate::proto::temporal::failure::v1::{Failure, failure::FailureInfo};
use crate::types::time::{duration, duration_ms, is_negative};

/// A policy with every gap filled by its default.
pub fn with_defaults(policy: Option<RetryPolicy>) -> RetryPolicy {
    let mut policy = policy.unwrap_or_default();
    let initial_ms = match duration_ms(policy.initial_interval.as_ref()) {
        0 => 1000,
        ms => ms,
    };
    policy.initial_interval =
        policy.initial_interval.filter(|d| d.seconds != 0 || d.nanos != 0).or(Some(duration(initial_ms)));
    if coefficient_milli(&policy) == 0 {
        policy.backoff_coefficient = 2.0;
    }
    if duration_ms(policy.maximum_interval.as_ref()) == 0 {
        policy.maximum_interval = Some(duration(initial_ms.saturating_mul(100)));
    }
    policy
}

/// What is wrong with a policy, if anything.
pub fn problem(policy: &RetryPolicy) -> Option<&'static str> {
    let (initial, maximum) =
        (duration_ms(policy.initial_interval.as_ref()), duration_ms(policy.maximum_interval.as_ref()));
    if is_negative(policy.initial_interval.as_ref()) {
        Some("InitialInterval cannot be negative on retry policy.")
    } else if policy.backoff_coefficient != 0.0 && policy.backoff_coefficient < 1.0 {
        Some("BackoffCoefficient cannot be less than 1 on retry policy.")
    } else if is_negative(policy.maximum_interval.as_ref()) {
        Some("MaximumInterval cannot be negative on retry policy.")
    } else if maximum != 0 && maximum < initial {
        Some("MaximumInterval cannot be less than InitialInterval on retry policy.")
    } else if policy.maximum_attempts < 0 {
        Some("MaximumAttempts cannot be negative on retry policy.")
    } else {
        None
    }
}

/// Whether and when to try again: the delay in milliseconds, or why not.
///
/// `expires_ms`: no attempt may begin after this time (0: no limit).
pub fn next_delay(
    policy: &RetryPolicy,
    attempt: i32,
    now: i64,
    expires_ms: i64,
    failure: &Failure,
) -> Result<i64, RetryState> {
    if !is_retryable(failure, &policy.non_retryable_error_types) {
        return Err(RetryState::NonRetryableFailure);
    }
    if policy.maximum_attempts > 0 && attempt >= policy.maximum_attempts {
        return Err(RetryState::MaximumAttemptsReached);
    }
    let maximum = match duration_ms(policy.maximum_interval.as_ref()) {
        0 => i64::MAX,
        ms => ms,
    };
    let asked = match &failure.failure_info {
        Some(FailureInfo::ApplicationFailureInfo(info)) => info.next_retry_delay.as_ref(),
        _ => None,
    };
    let delay = match asked {
        Some(asked) => duration_ms(Some(asked)),
        None => backoff(policy, attempt),
    };
    let delay = delay.min(maximum);
    if expires_ms != 0 && now.saturating_add(delay) > expires_ms {
        return Err(RetryState::Timeout);
    }
    Ok(delay)
}

/// initial × coefficient ^ (attempt − 1), in whole milliseconds, without floating-point powers.
fn backoff(policy: &RetryPolicy, attempt: i32) -> i64 {
    let coefficient = u128::from(coefficient_milli(policy));
    let mut delay = duration_ms(policy.initial_interval.as_ref()) as u128 * 1000;
    for _ in 1..attempt {
        delay = delay * coefficient / 1000;
        if delay > (i64::MAX as u128) {
            return i64::MAX / 4;
        }
        if coefficient == 1000 {
            break;
        }
    }
    (delay / 1000) as i64
}

/// The coefficient in thousandths. One rounding of one IEEE product: the same on every machine.
fn coefficient_milli(policy: &RetryPolicy) -> u64 {
    (policy.backoff_coefficient * 1000.0).round().clamp(0.0, 1e12) as u64
}

fn is_retryable(failure: &Failure, non_retryable_types: &[String]) -> bool {
    match &failure.failure_info {
        Some(FailureInfo::ApplicationFailureInfo(info)) => {
            !info.non_retryable && !non_retryable_types.contains(&info.r#type)
        }
        Some(FailureInfo::ServerFailureInfo(info)) => !info.non_retryable,
        Some(FailureInfo::TimeoutFailureInfo(info)) => match info.timeout_type() {
            TimeoutType::StartToClose | TimeoutType::Heartbeat => !non_retryable_types
                .iter()
                .any(|t| t == "TemporalTimeout:StartToClose" || t == "TemporalTimeout:Heartbeat"),
            _ => false,
        },
        Some(FailureInfo::CanceledFailureInfo(_) | FailureInfo::TerminatedFailureInfo(_)) => false,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::temporal::failure::v1::ApplicationFailureInfo;

    fn application(info: ApplicationFailureInfo) -> Failure {
        Failure { failure_info: Some(FailureInfo::ApplicationFailureInfo(info)), ..Failure::default() }
    }

    #[test]
    fn doubles_up_to_the_cap_by_default() {
        let policy = with_defaults(None);
        let delays: Vec<i64> = (1..=9).map(|n| next_delay(&policy, n, 0, 0, &Failure::default()).unwrap()).collect();
        assert_eq!(delays, [1000, 2000, 4000, 8000, 16000, 32000, 64000, 100_000, 100_000]);
    }

    #[test]
    fn a_delay_asked_for_overrides_the_backoff_but_not_the_cap() {
        let policy =
            with_defaults(Some(RetryPolicy { maximum_interval: Some(duration(5000)), ..RetryPolicy::default() }));
        let asks =
            |ms| application(ApplicationFailureInfo { next_retry_delay: Some(duration(ms)), ..Default::default() });
        assert_eq!(next_delay(&policy, 1, 0, 0, &asks(300)), Ok(300));
        assert_eq!(next_delay(&policy, 1, 0, 0, &asks(60_000)), Ok(5000));
    }

    #[test]
    fn ends_are_told_apart() {
        let policy = with_defaults(Some(RetryPolicy {
            maximum_attempts: 2,
            non_retryable_error_types: vec!["Broke".into()],
            ..RetryPolicy::default()
        }));
        assert_eq!(next_delay(&policy, 2, 0, 0, &Failure::default()), Err(RetryState::MaximumAttemptsReached));
        assert_eq!(next_delay(&policy, 1, 0, 500, &Failure::default()), Err(RetryState::Timeout));
        let broke = application(ApplicationFailureInfo { r#type: "Broke".into(), ..Default::default() });
        assert_eq!(next_delay(&policy, 1, 0, 0, &broke), Err(RetryState::NonRetryableFailure));
    }
}
