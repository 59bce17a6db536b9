//! Failures that the server makes, and failures that are too large to be kept whole.

use prost::Message;

use crate::proto::temporal::enums::v1::TimeoutType;
use crate::proto::temporal::failure::v1::{
    ApplicationFailureInfo, Failure, ServerFailureInfo, TimeoutFailureInfo, failure::FailureInfo,
};

/// Causes that are kept of a failure that is cut.
const DEPTH_MAX: usize = 20;

/// What a failure's fields take beside their texts, in bytes, as Temporal's server reckons.
const TEXT_OVERHEAD: usize = 4;
const INFO_OVERHEAD: usize = 4;

/// A failure that the server itself finds.
pub fn of_server(message: &str, non_retryable: bool) -> Failure {
    Failure {
        message: message.to_owned(),
        failure_info: Some(FailureInfo::ServerFailureInfo(ServerFailureInfo { non_retryable })),
        ..Failure::default()
    }
}

/// What took too long: here, unlike in the others, Temporal's server names itself as the source.
pub fn of_timeout(message: String, timeout: TimeoutType) -> Failure {
    let info = TimeoutFailureInfo { timeout_type: timeout as i32, ..TimeoutFailureInfo::default() };
    Failure {
        message,
        source: "Server".into(),
        failure_info: Some(FailureInfo::TimeoutFailureInfo(info)),
        ..Failure::default()
    }
}

/// The failure, or, if it is larger than `limit`, one with that message, and what is left of it once it is cut to `cut_to`.
/// Bytes.
pub fn within(failure: Failure, limit: usize, cut_to: usize, non_retryable: bool) -> Failure {
    if failure.encoded_len() <= limit {
        return failure;
    }
    let mut left = cut_to;
    let cause = Some(Box::new(cut(&failure, &mut left, DEPTH_MAX)));
    Failure { cause, ..of_server("Failure exceeds size limit.", non_retryable) }
}

/// The most important parts of a failure: its type, source, message and stack trace, and of its causes the same, while there is
/// room.
fn cut(failure: &Failure, left: &mut usize, depth: usize) -> Failure {
    let text = |text: &str, left: &mut usize| {
        let end = (0..=text.len().min(*left)).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        let kept = &text[..end];
        *left = left.saturating_sub(if kept.is_empty() { 0 } else { kept.len() + TEXT_OVERHEAD });
        kept.to_owned()
    };
    let failure_info = match &failure.failure_info {
        Some(FailureInfo::ApplicationFailureInfo(info)) => {
            let r#type = text(&info.r#type, left);
            *left = left.saturating_sub(2 * INFO_OVERHEAD);
            let non_retryable = info.non_retryable;
            let info = ApplicationFailureInfo { r#type, non_retryable, ..ApplicationFailureInfo::default() };
            Some(FailureInfo::ApplicationFailureInfo(info))
        }
        Some(FailureInfo::ServerFailureInfo(info)) => {
            *left = left.saturating_sub(INFO_OVERHEAD);
            Some(FailureInfo::ServerFailureInfo(*info))
        }
        _ => None,
    };
    let (source, message) = (text(&failure.source, left), text(&failure.message, left));
    let stack_trace = text(&failure.stack_trace, left);
    let cause = failure.cause.as_ref().filter(|_| *left > TEXT_OVERHEAD && depth > 0).map(|cause| {
        *left -= TEXT_OVERHEAD;
        Box::new(cut(cause, left, depth - 1))
    });
    Failure { failure_info, source, message, stack_trace, cause, ..Failure::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(message: &str, cause: Option<Failure>) -> Failure {
        let info = ApplicationFailureInfo { r#type: "T".into(), non_retryable: true, ..Default::default() };
        Failure {
            message: message.into(),
            source: "Sdk".into(),
            stack_trace: "at f".into(),
            cause: cause.map(Box::new),
            failure_info: Some(FailureInfo::ApplicationFailureInfo(info)),
            ..Failure::default()
        }
    }

    #[test]
    fn a_failure_within_the_limit_stays_whole() {
        let whole = failed("short", Some(failed("cause", None)));
        assert_eq!(within(whole.clone(), 200, 50, false), whole);
    }

    #[test]
    fn one_over_the_limit_is_cut_between_characters_and_keeps_its_type() {
        let cut = within(failed(&"ü".repeat(500), Some(failed("cause", None))), 200, 101, false);
        assert_eq!(cut.message, "Failure exceeds size limit.");
        assert_eq!(cut.failure_info, of_server("", false).failure_info);
        let kept = *cut.cause.expect("what is left");
        // 101, less 5 for the type, 8 for its record and 7 for the source: 81 bytes hold 40 characters.
        assert_eq!((kept.message, kept.source), ("ü".repeat(40), "Sdk".into()));
        assert_eq!((kept.stack_trace, kept.cause), (String::new(), None));
        let Some(FailureInfo::ApplicationFailureInfo(info)) = kept.failure_info else { panic!("it keeps its type") };
        assert_eq!((info.r#type.as_str(), info.non_retryable), ("T", true));
    }

    #[test]
    fn causes_are_kept_while_there_is_room() {
        let cut = within(failed("m", Some(failed(&"x".repeat(5000), None))), 4096, 4096, false);
        let cause = cut.cause.and_then(|kept| kept.cause).expect("the cause is kept");
        assert!(cause.message.len() > 3900 && cause.message.len() < 4096, "{}", cause.message.len());
    }
}
