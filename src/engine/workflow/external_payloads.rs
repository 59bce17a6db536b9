//! Payloads that clients keep elsewhere: a history has references to them, with their sizes.

use crate::proto::temporal::common::v1::{Header, Memo, Payload, Payloads};
use crate::proto::temporal::failure::v1::{Failure, failure::FailureInfo};
use crate::proto::temporal::history::v1::{HistoryEvent, history_event::Attributes as A};

/// How many payloads are kept elsewhere, and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct External {
    pub count: i64,
    pub bytes: i64,
}

impl External {
    /// Of one event.
    pub fn of(event: &HistoryEvent) -> Self {
        let mut found = Self::default();
        if let Some(attributes) = &event.attributes {
            found.attributes(attributes);
        }
        if let Some(metadata) = &event.user_metadata {
            found.all(metadata.summary.iter().chain(&metadata.details));
        }
        found
    }

    fn attributes(&mut self, attributes: &A) {
        match attributes {
            A::WorkflowExecutionStartedEventAttributes(a) => {
                self.payloads(&a.input).payloads(&a.last_completion_result).failure(a.continued_failure.as_ref());
                self.header(&a.header).memo(&a.memo);
            }
            A::WorkflowExecutionCompletedEventAttributes(a) => {
                self.payloads(&a.result);
            }
            A::WorkflowExecutionFailedEventAttributes(a) => {
                self.failure(a.failure.as_ref());
            }
            A::WorkflowExecutionCanceledEventAttributes(a) => {
                self.payloads(&a.details);
            }
            A::WorkflowExecutionTerminatedEventAttributes(a) => {
                self.payloads(&a.details);
            }
            A::WorkflowExecutionContinuedAsNewEventAttributes(a) => {
                self.payloads(&a.input).payloads(&a.last_completion_result).failure(a.failure.as_ref());
                self.header(&a.header).memo(&a.memo);
            }
            A::WorkflowExecutionSignaledEventAttributes(a) => {
                self.payloads(&a.input).header(&a.header);
            }
            A::WorkflowTaskFailedEventAttributes(a) => {
                self.failure(a.failure.as_ref());
            }
            A::ActivityTaskScheduledEventAttributes(a) => {
                self.payloads(&a.input).header(&a.header);
            }
            A::ActivityTaskStartedEventAttributes(a) => {
                self.failure(a.last_failure.as_ref());
            }
            A::ActivityTaskCompletedEventAttributes(a) => {
                self.payloads(&a.result);
            }
            A::ActivityTaskFailedEventAttributes(a) => {
                self.failure(a.failure.as_ref());
            }
            A::ActivityTaskTimedOutEventAttributes(a) => {
                self.failure(a.failure.as_ref());
            }
            A::ActivityTaskCanceledEventAttributes(a) => {
                self.payloads(&a.details);
            }
            A::MarkerRecordedEventAttributes(a) => {
                a.details.values().for_each(|details| self.all(&details.payloads));
                self.header(&a.header).failure(a.failure.as_ref());
            }
            A::StartChildWorkflowExecutionInitiatedEventAttributes(a) => {
                self.payloads(&a.input).header(&a.header).memo(&a.memo);
            }
            A::ChildWorkflowExecutionStartedEventAttributes(a) => {
                self.header(&a.header);
            }
            A::ChildWorkflowExecutionCompletedEventAttributes(a) => {
                self.payloads(&a.result);
            }
            A::ChildWorkflowExecutionFailedEventAttributes(a) => {
                self.failure(a.failure.as_ref());
            }
            A::ChildWorkflowExecutionCanceledEventAttributes(a) => {
                self.payloads(&a.details);
            }
            A::SignalExternalWorkflowExecutionInitiatedEventAttributes(a) => {
                self.payloads(&a.input).header(&a.header);
            }
            A::WorkflowPropertiesModifiedEventAttributes(a) => {
                self.memo(&a.upserted_memo);
            }
            _ => {}
        }
    }

    fn all<'a>(&mut self, payloads: impl IntoIterator<Item = &'a Payload>) {
        for details in payloads.into_iter().flat_map(|payload| &payload.external_payloads) {
            self.count += 1;
            self.bytes = self.bytes.saturating_add(details.size_bytes);
        }
    }

    fn payloads(&mut self, payloads: &Option<Payloads>) -> &mut Self {
        self.all(payloads.iter().flat_map(|payloads| &payloads.payloads));
        self
    }

    fn header(&mut self, header: &Option<Header>) -> &mut Self {
        self.all(header.iter().flat_map(|header| header.fields.values()));
        self
    }

    fn memo(&mut self, memo: &Option<Memo>) -> &mut Self {
        self.all(memo.iter().flat_map(|memo| memo.fields.values()));
        self
    }

    fn failure(&mut self, failure: Option<&Failure>) -> &mut Self {
        let mut next = failure;
        while let Some(failure) = next {
            self.all(&failure.encoded_attributes);
            match &failure.failure_info {
                Some(FailureInfo::ApplicationFailureInfo(info)) => {
                    self.payloads(&info.details);
                }
                Some(FailureInfo::TimeoutFailureInfo(info)) => {
                    self.payloads(&info.last_heartbeat_details);
                }
                Some(FailureInfo::CanceledFailureInfo(info)) => {
                    self.payloads(&info.details);
                }
                _ => {}
            }
            next = failure.cause.as_deref();
        }
        self
    }
}
