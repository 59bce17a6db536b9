//! Links of a request: what caused it.

use prost::Message;
use tonic::Status;

use crate::proto::temporal::common::v1::{Callback, Link, link};
use crate::proto::temporal::enums::v1::EventType;

/// Links in one request, those of its callbacks included. Temporal: `frontend.maxlinksPerRequest`.
const LINKS_MAX: usize = 10;
/// One link. Bytes. Temporal: `frontend.linkMaxSize`.
const LINK_SIZE_MAX: usize = 4000;

/// Whether a request's links, and those of its callbacks, are whole and within the limits.
pub fn check(links: &[Link], callbacks: &[Callback]) -> Result<(), Status> {
    let all = || links.iter().chain(callbacks.iter().flat_map(|callback| &callback.links));
    let count = all().count();
    if count > LINKS_MAX {
        let message = format!("cannot attach more than {LINKS_MAX} links per request, got {count}");
        return Err(Status::invalid_argument(message));
    }
    for link in all() {
        let size = link.encoded_len();
        if size > LINK_SIZE_MAX {
            let message = format!("link exceeds allowed size of {LINK_SIZE_MAX}, got {size}");
            return Err(Status::invalid_argument(message));
        }
        if let Some(problem) = problem(link) {
            return Err(Status::invalid_argument(problem));
        }
    }
    Ok(())
}

fn problem(link: &Link) -> Option<String> {
    let empty = |what: &str, fields: &[(&str, &str)]| {
        let (field, _) = fields.iter().find(|(_, value)| value.is_empty())?;
        Some(format!("{what} link must not have an empty {field}"))
    };
    match &link.variant {
        Some(link::Variant::WorkflowEvent(to)) => {
            let fields = [
                ("namespace field", to.namespace.as_str()),
                ("workflow ID field", &to.workflow_id),
                ("run ID field", &to.run_id),
            ];
            empty("workflow event", &fields).or_else(|| match &to.reference {
                Some(link::workflow_event::Reference::EventRef(event))
                    if event.event_type() == EventType::Unspecified && event.event_id != 0 =>
                {
                    let message =
                        "workflow event link ref cannot have an unspecified event type and a non-zero event ID";
                    Some(message.to_owned())
                }
                _ => None,
            })
        }
        Some(link::Variant::BatchJob(to)) => empty("batch job", &[("job ID", &to.job_id)]),
        Some(link::Variant::NexusOperation(to)) => {
            let fields = [
                ("namespace field", to.namespace.as_str()),
                ("operation ID field", &to.operation_id),
                ("run ID field", &to.run_id),
            ];
            empty("nexus operation", &fields)
        }
        Some(link::Variant::Activity(to)) => {
            let fields = [
                ("namespace field", to.namespace.as_str()),
                ("activity ID field", &to.activity_id),
                ("run ID field", &to.run_id),
            ];
            empty("activity", &fields)
        }
        Some(link::Variant::Workflow(to)) => {
            let fields = [
                ("namespace field", to.namespace.as_str()),
                ("workflow ID field", &to.workflow_id),
                ("run ID field", &to.run_id),
            ];
            empty("workflow", &fields)
        }
        _ => Some("unsupported link variant".to_owned()),
    }
}
