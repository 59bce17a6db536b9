//! CreateSchedule: begins a schedule, unless there is one of its id.

use super::{Event, Schedule, patch};
use crate::engine::nothing;
use crate::engine::rejection::Rejection;
use crate::engine::work::{Reply, Work};
use crate::proto::schedule::{Attached, CreateSchedule, Head, Plan};

/// What a client that has seen nothing but the creation knows.
const CONFLICT_TOKEN_FIRST: i64 = 1;

pub fn create(work: &mut Work<Schedule>, create: &CreateSchedule) -> Result<Reply, Rejection> {
    let request = create.request.as_ref().ok_or_else(|| Rejection::InvalidArgument("Request is nil.".into()))?;
    let before = work.run();
    if before.is_open() {
        if before.requests.create == request.request_id {
            return Ok(Reply::Done);
        }
        // Clients know it by its details, which name no run.
        return Err(Rejection::AlreadyStarted {
            message: format!("schedule {:?} is already registered", request.schedule_id),
            start_request_id: String::new(),
            run_id: String::new(),
            first_run_id: String::new(),
        });
    }
    if !before.head.run_id.is_empty() {
        work.next_run();
    }
    let schedule = request.schedule.clone().unwrap_or_default();
    let head = Head {
        namespace_id: work.entity.namespace_id.to_string(),
        namespace: work.namespace.clone(),
        id: work.entity.id.to_string(),
        run_id: work.new_run_id(),
        create_ms: work.now,
        policies: Some(schedule.policies.unwrap_or_default()),
        state: Some(schedule.state.unwrap_or_default()),
        conflict_token: CONFLICT_TOKEN_FIRST,
        processed_ms: work.now,
        last_event_ms: work.now,
        ..Head::default()
    };
    let attached = Attached {
        memo: nothing::without_in_memo(request.memo.clone()),
        search_attributes: nothing::without_in_attributes(request.search_attributes.clone()),
    };
    work.emit(Event::Created {
        head: Box::new(head),
        plan: Box::new(Plan { spec: schedule.spec, action: schedule.action }),
        attached: Box::new(attached),
        request_id: request.request_id.clone(),
    });
    if let Some(initial) = &request.initial_patch {
        patch::apply(work, initial)?;
    }
    Ok(Reply::Done)
}
