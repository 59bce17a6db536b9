//! A record of `requests` written as JSON, for producers without Avro:
//!
//! ```json
//! {"start": {"workflow_id": "order-1", "workflow_type": "Order", "task_queue": "orders", "input": [{"any": "json"}]}}
//! ```
//!
//! The fields are those of `millrace.events.Request`. Each item of `input` becomes a payload with the encoding `json/plain`, and so
//! does each value of `memo` and `search_attributes`. An error names the field and what was expected there.

use super::avro::Published;
use crate::proto::events::{Request, Start, request};
use prost::Message;

pub use super::avro::read_json::Error;

const KINDS: &str = "one of start, signal, signal_with_start, cancel, terminate, complete_activity, fail_activity, \
                     heartbeat_activity, cancel_activity, update, reset, pause, unpause, trigger_schedule, \
                     pause_schedule, unpause_schedule, backfill_schedule";
const REUSE_POLICIES: [&str; 3] = ["allow_duplicate", "allow_duplicate_failed_only", "reject_duplicate"];
const RESET_POINTS: [&str; 2] = ["first_workflow_task", "last_workflow_task"];
const OVERLAPS: [&str; 6] = ["skip", "buffer_one", "buffer_all", "cancel_other", "terminate_other", "allow_all"];
const CONFLICT_POLICIES: [&str; 3] = ["fail", "use_existing", "terminate_existing"];

/// Checks the form only: whether the namespace exists, or the workflow runs, is decided later.
pub fn parse(record: &[u8]) -> Result<Request, Error> {
    let wire = Request::codec().read_json(record)?;
    let request = Request::decode(wire.as_slice()).map_err(|error| Error::Json(error.to_string()))?;
    validate(&request)?;
    Ok(request)
}

/// What every request must have, also one that came as Avro.
pub fn validate(request: &Request) -> Result<(), Error> {
    match request.request.as_ref() {
        None => Err(Error::Missing { field: KINDS.to_owned() }),
        Some(request::Request::Start(start)) => validate_start("start", start),
        Some(request::Request::Signal(signal)) => {
            required("signal.workflow_id", &signal.workflow_id)?;
            required("signal.signal_name", &signal.signal_name)
        }
        Some(request::Request::SignalWithStart(both)) => {
            let missing = || Error::Missing { field: "signal_with_start.start".to_owned() };
            validate_start("signal_with_start.start", both.start.as_ref().ok_or_else(missing)?)?;
            required("signal_with_start.signal_name", &both.signal_name)
        }
        Some(request::Request::Cancel(cancel)) => required("cancel.workflow_id", &cancel.workflow_id),
        Some(request::Request::Terminate(terminate)) => required("terminate.workflow_id", &terminate.workflow_id),
        Some(request::Request::CompleteActivity(r)) => {
            validate_activity("complete_activity", &r.task_token, &r.workflow_id, &r.activity_id)
        }
        Some(request::Request::FailActivity(r)) => {
            validate_activity("fail_activity", &r.task_token, &r.workflow_id, &r.activity_id)
        }
        Some(request::Request::HeartbeatActivity(r)) => {
            validate_activity("heartbeat_activity", &r.task_token, &r.workflow_id, &r.activity_id)
        }
        Some(request::Request::Update(update)) => {
            required("update.workflow_id", &update.workflow_id)?;
            required("update.update_name", &update.update_name)
        }
        Some(request::Request::Reset(reset)) => {
            required("reset.workflow_id", &reset.workflow_id)?;
            one_of("reset.to", &reset.to, &RESET_POINTS)?;
            if reset.event_id != 0 && !reset.to.is_empty() {
                let expected = "0, as reset.to names the point".to_owned();
                return Err(Error::Type {
                    field: "reset.event_id".to_owned(),
                    expected,
                    found: reset.event_id.to_string(),
                });
            }
            Ok(())
        }
        Some(request::Request::Pause(pause)) => required("pause.workflow_id", &pause.workflow_id),
        Some(request::Request::Unpause(unpause)) => required("unpause.workflow_id", &unpause.workflow_id),
        Some(request::Request::TriggerSchedule(trigger)) => {
            required("trigger_schedule.schedule_id", &trigger.schedule_id)?;
            one_of("trigger_schedule.overlap", &trigger.overlap, &OVERLAPS)
        }
        Some(request::Request::PauseSchedule(pause)) => required("pause_schedule.schedule_id", &pause.schedule_id),
        Some(request::Request::UnpauseSchedule(unpause)) => {
            required("unpause_schedule.schedule_id", &unpause.schedule_id)
        }
        Some(request::Request::BackfillSchedule(backfill)) => {
            required("backfill_schedule.schedule_id", &backfill.schedule_id)?;
            one_of("backfill_schedule.overlap", &backfill.overlap, &OVERLAPS)?;
            let times =
                [("start_time_ms", backfill.start_time_ms), ("end_time_ms", backfill.end_time_ms)].map(|(name, ms)| {
                    let field = format!("backfill_schedule.{name}");
                    if ms == 0 { Err(Error::Missing { field }) } else { Ok(()) }
                });
            times.into_iter().collect()
        }
        Some(request::Request::CancelActivity(r)) => {
            validate_activity("cancel_activity", &r.task_token, &r.workflow_id, &r.activity_id)
        }
    }
}

/// An activity is named by its task's token, or by the ids.
fn validate_activity(path: &str, token: &str, workflow_id: &str, activity_id: &str) -> Result<(), Error> {
    if !token.is_empty() {
        return Ok(());
    }
    if workflow_id.is_empty() {
        return Err(Error::Missing { field: format!("{path}.task_token, or workflow_id and activity_id") });
    }
    required(&format!("{path}.activity_id"), activity_id)
}

fn validate_start(path: &str, start: &Start) -> Result<(), Error> {
    for (name, value) in [
        ("workflow_id", &start.workflow_id),
        ("workflow_type", &start.workflow_type),
        ("task_queue", &start.task_queue),
    ] {
        required(&format!("{path}.{name}"), value)?;
    }
    one_of(&format!("{path}.id_reuse_policy"), &start.id_reuse_policy, &REUSE_POLICIES)?;
    one_of(&format!("{path}.id_conflict_policy"), &start.id_conflict_policy, &CONFLICT_POLICIES)?;
    let timeouts = [
        ("execution_timeout_ms", start.execution_timeout_ms),
        ("run_timeout_ms", start.run_timeout_ms),
        ("task_timeout_ms", start.task_timeout_ms),
    ];
    match timeouts.into_iter().find(|(_, value)| *value < 0) {
        Some((name, value)) => Err(Error::Type {
            field: format!("{path}.{name}"),
            expected: "milliseconds, or 0 for none".to_owned(),
            found: value.to_string(),
        }),
        None => Ok(()),
    }
}

fn required(field: &str, value: &str) -> Result<(), Error> {
    if value.is_empty() { Err(Error::Missing { field: field.to_owned() }) } else { Ok(()) }
}

fn one_of(field: &str, value: &str, known: &[&str]) -> Result<(), Error> {
    if value.is_empty() || known.contains(&value) {
        return Ok(());
    }
    let expected = format!("one of {}", known.join(", "));
    Err(Error::Type { field: field.to_owned(), expected, found: format!("{value:?}") })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::events::{BackfillSchedule, TriggerSchedule};
    use crate::proto::events::{Cancel, Pause, Reset, Signal, SignalWithStart, Terminate, Unpause, Update};
    use crate::proto::temporal::common::v1::Payload;

    fn plain(data: &'static str) -> Payload {
        Payload {
            metadata: [("encoding".to_owned(), "json/plain".into())].into(),
            data: data.into(),
            ..Default::default()
        }
    }

    fn request(request: request::Request) -> Result<Request, Error> {
        Ok(Request { request: Some(request) })
    }

    #[test]
    fn a_start_has_json_for_its_input() {
        let parsed = parse(
            r#"{"start": {"workflow_id": "order-1", "workflow_type": "Order", "task_queue": "orders",
                "input": [{"b": 1.10, "a": 12345678901234567890123}, "two", null],
                "run_timeout_ms": 60000, "id_reuse_policy": "reject_duplicate", "id_conflict_policy": "use_existing",
                "memo": {"customer": ["größer"]}, "search_attributes": {"Region": "eu"}}}"#
                .as_bytes(),
        );
        let start = Start {
            workflow_id: "order-1".to_owned(),
            workflow_type: "Order".to_owned(),
            task_queue: "orders".to_owned(),
            input: vec![plain(r#"{"b": 1.10, "a": 12345678901234567890123}"#), plain("\"two\""), plain("null")],
            run_timeout_ms: 60_000,
            id_reuse_policy: "reject_duplicate".to_owned(),
            id_conflict_policy: "use_existing".to_owned(),
            memo: [("customer".to_owned(), plain("[\"größer\"]"))].into(),
            search_attributes: [("Region".to_owned(), plain("\"eu\""))].into(),
            ..Default::default()
        };
        assert_eq!(parsed, request(request::Request::Start(start)));
    }

    #[test]
    fn each_kind_of_request_is_read() {
        let signal = Signal {
            namespace: "shop".to_owned(),
            workflow_id: "w".to_owned(),
            signal_name: "paid".to_owned(),
            input: vec![plain("1")],
            ..Default::default()
        };
        let json = br#"{"signal": {"namespace": "shop", "workflow_id": "w", "signal_name": "paid", "input": [1]}}"#;
        assert_eq!(parse(json), request(request::Request::Signal(signal)));
        let json = br#"{"signal_with_start": {"start": {"workflow_id": "w", "workflow_type": "T", "task_queue": "q"},
            "signal_name": "paid", "signal_input": [true]}}"#;
        let start = Start {
            workflow_id: "w".to_owned(),
            workflow_type: "T".to_owned(),
            task_queue: "q".to_owned(),
            ..Default::default()
        };
        let both =
            SignalWithStart { start: Some(start), signal_name: "paid".to_owned(), signal_input: vec![plain("true")] };
        assert_eq!(parse(json), request(request::Request::SignalWithStart(both)));
        let json = br#"{"update": {"workflow_id": "w", "update_name": "add", "input": [1], "update_id": "u"}}"#;
        let update = Update {
            workflow_id: "w".to_owned(),
            update_name: "add".to_owned(),
            input: vec![plain("1")],
            update_id: "u".to_owned(),
            ..Default::default()
        };
        assert_eq!(parse(json), request(request::Request::Update(update)));
        let reset = Reset { workflow_id: "w".to_owned(), event_id: 4, exclude_signals: true, ..Default::default() };
        let json = br#"{"reset": {"workflow_id": "w", "event_id": 4, "exclude_signals": true}}"#;
        assert_eq!(parse(json), request(request::Request::Reset(reset)));
        let pause = Pause { workflow_id: "w".to_owned(), reason: "a look".to_owned(), ..Default::default() };
        let json = br#"{"pause": {"workflow_id": "w", "reason": "a look"}}"#;
        assert_eq!(parse(json), request(request::Request::Pause(pause)));
        let unpause = Unpause { workflow_id: "w".to_owned(), ..Default::default() };
        assert_eq!(parse(br#"{"unpause": {"workflow_id": "w"}}"#), request(request::Request::Unpause(unpause)));
        let backfill = BackfillSchedule {
            schedule_id: "s".to_owned(),
            start_time_ms: 1,
            end_time_ms: 2,
            overlap: "allow_all".to_owned(),
            ..Default::default()
        };
        let json = br#"{"backfill_schedule": {"schedule_id": "s", "start_time_ms": 1, "end_time_ms": 2, "overlap": "allow_all"}}"#;
        assert_eq!(parse(json), request(request::Request::BackfillSchedule(backfill)));
        let trigger = TriggerSchedule { schedule_id: "s".to_owned(), ..Default::default() };
        let json = br#"{"trigger_schedule": {"schedule_id": "s"}}"#;
        assert_eq!(parse(json), request(request::Request::TriggerSchedule(trigger)));
        let cancel = Cancel { workflow_id: "w".to_owned(), reason: "late".to_owned(), ..Default::default() };
        let json = br#"{"cancel": {"workflow_id": "w", "reason": "late"}}"#;
        assert_eq!(parse(json), request(request::Request::Cancel(cancel)));
        let terminate = Terminate { workflow_id: "w".to_owned(), run_id: "r".to_owned(), ..Default::default() };
        assert_eq!(
            parse(br#"{"terminate": {"workflow_id": "w", "run_id": "r"}}"#),
            request(request::Request::Terminate(terminate))
        );
    }

    #[test]
    fn an_error_names_the_field_and_what_is_expected() {
        let start = r#""workflow_id": "w", "workflow_type": "T", "task_queue": "q""#;
        for (json, expected) in [
            ("", "Expected JSON, but EOF while parsing a value at line 1 column 0"),
            ("[]", "Expected the record to be an object, but found an array"),
            (
                "{}",
                "Expected one of start, signal, signal_with_start, cancel, terminate, complete_activity, fail_activity, \
                 heartbeat_activity, cancel_activity, update, reset, pause, unpause, trigger_schedule, pause_schedule, \
                 unpause_schedule, backfill_schedule, but it is missing or empty",
            ),
            (
                r#"{"launch": {}}"#,
                "Expected no field launch; the fields here are start, signal, signal_with_start, cancel, terminate, \
                 complete_activity, fail_activity, heartbeat_activity, cancel_activity, update, reset, pause, unpause, \
                 trigger_schedule, pause_schedule, unpause_schedule, backfill_schedule",
            ),
            (
                r#"{"complete_activity": {"result": [1]}}"#,
                "Expected complete_activity.task_token, or workflow_id and activity_id, but it is missing or empty",
            ),
            (
                r#"{"reset": {"workflow_id": "w", "to": "yesterday"}}"#,
                "Expected reset.to to be one of first_workflow_task, last_workflow_task, but found \"yesterday\"",
            ),
            (
                r#"{"reset": {"workflow_id": "w", "to": "first_workflow_task", "event_id": 4}}"#,
                "Expected reset.event_id to be 0, as reset.to names the point, but found 4",
            ),
            (
                r#"{"trigger_schedule": {"schedule_id": "s", "overlap": "never"}}"#,
                "Expected trigger_schedule.overlap to be one of skip, buffer_one, buffer_all, cancel_other, \
                 terminate_other, allow_all, but found \"never\"",
            ),
            (
                r#"{"backfill_schedule": {"schedule_id": "s", "start_time_ms": 1}}"#,
                "Expected backfill_schedule.end_time_ms, but it is missing or empty",
            ),
            (
                r#"{"fail_activity": {"workflow_id": "w"}}"#,
                "Expected fail_activity.activity_id, but it is missing or empty",
            ),
            (
                r#"{"cancel": {"workflow_id": "w"}, "terminate": {"workflow_id": "w"}}"#,
                "Expected terminate to be the only one of its kind, but found cancel beside it",
            ),
            (r#"{"start": 1}"#, "Expected start to be an object, but found 1"),
            (r#"{"start": {"workflow_id": 7}}"#, "Expected start.workflow_id to be a string, but found 7"),
            (r#"{"start": {"workflow_id": "w"}}"#, "Expected start.workflow_type, but it is missing or empty"),
            (r#"{"start": {"input": {"a": 1}}}"#, "Expected start.input to be an array, but found an object"),
            (r#"{"start": {"memo": [1]}}"#, "Expected start.memo to be an object, but found an array"),
            (
                r#"{"start": {"run_timeout_ms": "1m"}}"#,
                "Expected start.run_timeout_ms to be a whole number of 64 bits, but found \"1m\"",
            ),
            (
                r#"{"start": {START, "run_timeout_ms": -1}}"#,
                "Expected start.run_timeout_ms to be milliseconds, or 0 for none, but found -1",
            ),
            (
                r#"{"start": {START, "id_conflict_policy": "kill"}}"#,
                "Expected start.id_conflict_policy to be one of fail, use_existing, terminate_existing, but found \"kill\"",
            ),
            (r#"{"signal": {"workflow_id": "w"}}"#, "Expected signal.signal_name, but it is missing or empty"),
            (
                r#"{"signal": {"workflow_id": "w", "name": "x"}}"#,
                "Expected no field signal.name; the fields here are \
                 namespace, workflow_id, run_id, signal_name, input, request_id",
            ),
            (
                r#"{"signal_with_start": {"signal_name": "s"}}"#,
                "Expected signal_with_start.start, but it is missing or empty",
            ),
            (
                r#"{"signal_with_start": {"signal_name": "s", "start": {}}}"#,
                "Expected signal_with_start.start.workflow_id, but it is missing or empty",
            ),
        ] {
            assert_eq!(parse(json.replace("START", start).as_bytes()).unwrap_err().to_string(), expected, "{json}");
        }
    }
}
