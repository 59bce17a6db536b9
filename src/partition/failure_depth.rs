//! How deep failures may be nested.
//!
//! A failure has a cause, which is a failure. What is nested a hundred messages deep can't be read (prost's limit), and a
//! failure that a request has just brought is deeper in a command, and in a history: it must not come that far.

use prost::Message as _;

use crate::proto::commands::{Command, command::Body};
use crate::proto::temporal::command::v1::command::Attributes;
use crate::proto::temporal::failure::v1::Failure;
use crate::proto::temporal::protocol::v1::Message;
use crate::proto::temporal::update::v1::{Rejection, Response, outcome::Value};

/// Causes of a failure that are kept; those that are deeper are cut off.
const CAUSES_MAX: usize = 64;

/// Cuts off what is nested too deep in a command's failures, before it is appended.
pub fn limit(command: &mut Command) {
    match &mut command.body {
        Some(Body::StartWorkflow(start)) => {
            cut(start.request.as_mut().and_then(|request| request.continued_failure.as_mut()))
        }
        Some(Body::FailActivity(fail)) => cut(fail.failure.as_mut()),
        Some(Body::FailWorkflowTask(fail)) => cut(fail.request.as_mut().and_then(|request| request.failure.as_mut())),
        Some(Body::CompleteWorkflowTask(complete)) => {
            complete.request.iter_mut().flat_map(|request| &mut request.messages).for_each(cut_message);
            for command in complete.request.iter_mut().flat_map(|request| &mut request.commands) {
                cut(match &mut command.attributes {
                    Some(Attributes::FailWorkflowExecutionCommandAttributes(a)) => a.failure.as_mut(),
                    Some(Attributes::RecordMarkerCommandAttributes(a)) => a.failure.as_mut(),
                    Some(Attributes::ContinueAsNewWorkflowExecutionCommandAttributes(a)) => a.failure.as_mut(),
                    _ => None,
                });
            }
        }
        _ => {}
    }
}

/// The same of what a worker returns for an update. What is nested too deep to be read is refused when it is decided.
fn cut_message(message: &mut Message) {
    let Some(body) = &mut message.body else { return };
    let value = &body.value[..];
    if body.type_url.ends_with(".Response")
        && let Ok(mut response) = Response::decode(value)
        && let Some(Value::Failure(failure)) = response.outcome.as_mut().and_then(|outcome| outcome.value.as_mut())
    {
        cut(Some(failure));
        body.value = response.encode_to_vec();
    } else if body.type_url.ends_with(".Rejection")
        && let Ok(mut rejection) = Rejection::decode(value)
    {
        cut(rejection.failure.as_mut());
        body.value = rejection.encode_to_vec();
    }
}

fn cut(failure: Option<&mut Failure>) {
    let mut next = failure;
    for _ in 0..CAUSES_MAX {
        let Some(failure) = next else { return };
        next = failure.cause.as_deref_mut();
    }
    if let Some(deepest) = next
        && let Some(mut cause) = deepest.cause.take()
    {
        // One by one: to drop them all at once would take as much of the stack.
        while let Some(deeper) = cause.cause.take() {
            cause = deeper;
        }
        deepest.message.push_str(" (its own causes are left out: there are too many)");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::commands::FailActivity;

    fn depth(failure: &Failure) -> usize {
        std::iter::successors(Some(failure), |failure| failure.cause.as_deref()).count()
    }

    #[test]
    fn what_is_nested_too_deep_is_cut_off_and_can_be_read() {
        for (causes, left) in [(0, 0), (CAUSES_MAX, CAUSES_MAX), (CAUSES_MAX + 1, CAUSES_MAX), (50_000, CAUSES_MAX)] {
            let mut failure = Failure { message: "deepest".into(), ..Failure::default() };
            for _ in 0..causes {
                failure = Failure { message: "outer".into(), cause: Some(Box::new(failure)), ..Failure::default() };
            }
            let fail = FailActivity { failure: Some(failure), ..FailActivity::default() };
            let mut command = Command { body: Some(Body::FailActivity(fail)), ..Command::default() };
            limit(&mut command);
            let read = Command::decode(&*command.encode_to_vec()).expect("it can be read");
            let Some(Body::FailActivity(FailActivity { failure: Some(failure), .. })) = read.body else {
                panic!("it is a failure")
            };
            assert_eq!(depth(&failure), left + 1);
        }
    }
}
