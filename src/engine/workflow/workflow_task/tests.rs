//! The machine alone: what facts make of a run's head, and what kinds mean. What decisions make of both is in
//! [`tests`](crate::engine::workflow::tests).

use super::*;
use crate::proto::state::Run;

/// The head of a run whose history ends before event 5.
fn head() -> Run {
    Run { next_event_id: 5, task_queue: "queue".into(), workflow_task_attempt: 1, ..Run::default() }
}

fn scheduled(attempt: i32) -> Event {
    Event::Scheduled(Scheduled {
        kind: kind::of_attempt(attempt),
        scheduled_event_id: 5,
        attempt,
        scheduled_ms: 100,
        original_scheduled_ms: 90,
        timeout_ms: 10_000,
        sticky: false,
    })
}

fn started(started_event_id: i64) -> Event {
    let by = Starter { identity: "worker".into(), request_id: "poll".into(), worker_version: None };
    Event::Started(Started {
        started_event_id,
        started_ms: 200,
        by,
        history_size_bytes: 7,
        suggest_reasons: vec![2],
        updates_after: 0,
        last_update: 0,
    })
}

fn folded(events: impl IntoIterator<Item = Event>) -> Run {
    let mut head = head();
    events.into_iter().for_each(|event| apply(&mut head, &event));
    head
}

#[test]
fn the_kind_is_the_attempt_s() {
    for (attempt, kind) in [(1, Kind::Normal), (2, Kind::Transient), (3, Kind::Transient), (i32::MAX, Kind::Transient)]
    {
        assert_eq!(kind::of_attempt(attempt), kind, "attempt {attempt}");
        let for_update = if attempt == 1 { Kind::Speculative } else { kind };
        assert_eq!(kind::for_update_of_attempt(attempt), for_update, "attempt {attempt}");
    }
}

#[test]
fn what_a_kind_means() {
    // Whether other events have come, then: in the history from the start, at its end while it is pending, becomes normal as it is
    // started, becomes normal before other events.
    let table = [
        (Kind::Normal, false, (true, false, false, false)),
        (Kind::Normal, true, (true, false, false, false)),
        (Kind::Transient, false, (false, true, false, false)),
        (Kind::Transient, true, (false, false, true, false)),
        (Kind::Speculative, false, (false, true, false, true)),
    ];
    for (kind, others_came, expected) in table {
        let task = WorkflowTask { kind: kind as i32, scheduled_event_id: 5, ..WorkflowTask::default() };
        let next_event_id = if others_came { 6 } else { 5 };
        let is = (
            is_in_history_from_the_start(kind),
            kind::stands_at_the_end(&task, next_event_id),
            kind::becomes_normal(&task, next_event_id),
            kind::gives_way(kind),
        );
        assert_eq!(is, expected, "{kind:?}, others came: {others_came}");
    }
}

#[test]
fn how_kinds_change() {
    let became_normal = || Event::BecameNormal { scheduled_event_id: 8 };
    let failed = |next_attempt| Event::Failed { next_attempt };
    let timed_out = |next_attempt| Event::TimedOut { timeout: TimeoutType::StartToClose, next_attempt };
    let completed = || Event::Completed { started_event_id: 6, completed_event_id: 7 };
    // What happens to a task, of which kind and attempt it is then, and which attempt the next one has if it ends now.
    let normal = Some((Kind::Normal, 1));
    let transient = |attempt| Some((Kind::Transient, attempt));
    let table = [
        (vec![scheduled(1)], normal, 1),
        (vec![scheduled(1), started(6)], normal, 1),
        (vec![scheduled(1), started(6), completed()], None, 1),
        (vec![scheduled(1), started(6), failed(2)], None, 2),
        (vec![scheduled(1), started(6), timed_out(2)], None, 2),
        (vec![scheduled(1), started(6), failed(2), scheduled(2)], transient(2), 2),
        (vec![scheduled(1), started(6), timed_out(2), scheduled(2)], transient(2), 2),
        (vec![scheduled(2), started(6)], transient(2), 2),
        (vec![scheduled(2), started(6), failed(3), scheduled(3)], transient(3), 3),
        (vec![scheduled(2), started(6), completed()], None, 1),
        (vec![scheduled(2), became_normal()], normal, 1),
        (vec![scheduled(2), became_normal(), started(9)], normal, 1),
        (vec![scheduled(2), became_normal(), started(9), failed(2), scheduled(2)], transient(2), 2),
        // After a failure on a sticky queue, or behind other events that came.
        (vec![scheduled(1), started(6), failed(1), scheduled(1)], normal, 1),
        (vec![scheduled(2), started(6), failed(3), scheduled(1)], normal, 1),
    ];
    for (events, expected, next_attempt) in table {
        let head = folded(events.clone());
        let task = head.workflow_task.as_ref().map(|task| (task.kind(), task.attempt));
        assert_eq!((task, head.workflow_task_attempt), (expected, next_attempt), "{events:?}");
    }
}

#[test]
fn facts_add_up_to_the_record() {
    let waiting = WorkflowTask {
        kind: Kind::Transient as i32,
        scheduled_event_id: 5,
        attempt: 2,
        scheduled_ms: 100,
        original_scheduled_ms: 90,
        timeout_ms: 10_000,
        ..WorkflowTask::default()
    };
    assert_eq!(folded([scheduled(2)]).workflow_task, Some(waiting.clone()));
    let begun = WorkflowTask {
        started_event_id: 6,
        started_ms: 200,
        identity: "worker".into(),
        request_id: "poll".into(),
        history_size_bytes: 7,
        suggest_continue_as_new: true,
        suggest_reasons: vec![2],
        ..waiting
    };
    assert_eq!(folded([scheduled(2), started(6)]).workflow_task, Some(begun));
    let completed = folded([scheduled(2), started(6), Event::Completed { started_event_id: 6, completed_event_id: 7 }]);
    let expected = Run { previous_started_event_id: 6, most_recent_completed_event_id: 7, ..head() };
    assert_eq!(completed, expected);
}

#[test]
fn a_transient_task_that_becomes_normal_keeps_its_times() {
    let [before, after] = [vec![], vec![Event::BecameNormal { scheduled_event_id: 8 }]]
        .map(|more| folded([scheduled(2)].into_iter().chain(more)).workflow_task.unwrap());
    assert_eq!(after, WorkflowTask { kind: Kind::Normal as i32, attempt: 1, scheduled_event_id: 8, ..before });
}

#[test]
fn facts_about_no_task_change_none() {
    for event in [started(6), Event::BecameNormal { scheduled_event_id: 8 }] {
        assert_eq!(folded([event]), head());
    }
}

#[test]
fn transient_events_are_those_that_the_task_would_leave() {
    let ids = |head: &Run| transient_events(head).iter().map(|event| event.event_id).collect::<Vec<_>>();
    let table = [
        (vec![scheduled(1)], vec![]),
        (vec![scheduled(1), started(6)], vec![]),
        (vec![scheduled(2)], vec![5]),
        (vec![scheduled(2), started(6)], vec![5, 6]),
        (vec![scheduled(2), Event::BecameNormal { scheduled_event_id: 5 }], vec![]),
        (vec![scheduled(2), started(6), Event::Failed { next_attempt: 3 }], vec![]),
    ];
    for (events, expected) in table {
        assert_eq!(ids(&folded(events.clone())), expected, "{events:?}");
    }
    let overtaken = Run { next_event_id: 6, ..folded([scheduled(2)]) };
    assert_eq!(ids(&overtaken), Vec::<i64>::new());
}

#[test]
fn the_next_attempt_is_a_first_one_if_the_worker_s_cache_may_be_at_fault() {
    for (sticky_queue, attempt, expected) in
        [("", 1, 2), ("", 2, 3), ("", i32::MAX, i32::MAX), ("own", 1, 1), ("own", 4, 1)]
    {
        let head = Run { sticky_queue: sticky_queue.into(), ..folded([scheduled(attempt), started(6)]) };
        assert_eq!(next_attempt(&head, head.workflow_task.as_ref().unwrap()), expected, "{sticky_queue:?}, {attempt}");
    }
}

#[test]
fn one_start_of_an_attempt_wins() {
    let command = |scheduled_event_id, attempt, request_id: &str| StartWorkflowTask {
        scheduled_event_id,
        attempt,
        request_id: request_id.into(),
        ..StartWorkflowTask::default()
    };
    let waiting = folded([scheduled(2)]).workflow_task;
    let begun = folded([scheduled(2), started(6)]).workflow_task;
    let table = [
        (&waiting, command(5, 2, "poll"), Some(true)),
        (&waiting, command(5, 1, "poll"), None),
        (&waiting, command(4, 2, "poll"), None),
        (&begun, command(5, 2, "poll"), Some(false)),
        (&begun, command(5, 2, "another poll"), None),
        (&begun, command(5, 1, "poll"), None),
        (&None, command(5, 2, "poll"), None),
    ];
    for (task, command, expected) in table {
        let is = is_to_start(task.as_ref(), &command);
        assert_eq!(is, expected.ok_or_else(not_there), "{task:?}, {command:?}");
    }
}
