//! Links in answers: callers keep them with what made them ask.

use crate::engine::EntityId;
use crate::proto::temporal::common::v1::link::workflow_event::{EventReference, Reference, RequestIdReference};
use crate::proto::temporal::common::v1::{
    Link,
    link::{Variant, Workflow, WorkflowEvent},
};
use crate::proto::temporal::enums::v1::EventType;

/// What the link leads to.
pub struct LinkTo {
    pub namespace: String,
    pub request_id: String,
}

impl LinkTo {
    /// The event with which a run began.
    pub fn start(self, key: &EntityId, run_id: &str) -> Link {
        let event = EventReference { event_id: 1, event_type: EventType::WorkflowExecutionStarted as i32 };
        self.link(key, run_id, Reference::EventRef(event))
    }

    /// The event that the request led to, which may have no id yet.
    pub fn request(mut self, key: &EntityId, run_id: &str, event_type: EventType) -> Link {
        let request_id = std::mem::take(&mut self.request_id);
        let reference = RequestIdReference { request_id, event_type: event_type as i32 };
        self.link(key, run_id, Reference::RequestIdRef(reference))
    }

    fn link(self, key: &EntityId, run_id: &str, reference: Reference) -> Link {
        let to = WorkflowEvent {
            namespace: self.namespace,
            workflow_id: key.id.to_string(),
            run_id: run_id.to_owned(),
            reference: Some(reference),
        };
        Link { variant: Some(Variant::WorkflowEvent(to)) }
    }

    /// The run itself: what was requested has left no event.
    pub fn run(self, key: &EntityId, run_id: &str, reason: &str) -> Link {
        let to = Workflow {
            namespace: self.namespace,
            workflow_id: key.id.to_string(),
            run_id: run_id.to_owned(),
            reason: reason.to_owned(),
        };
        Link { variant: Some(Variant::Workflow(to)) }
    }
}
