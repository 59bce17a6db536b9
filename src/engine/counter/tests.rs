use super::*;
use crate::engine::kinds::from_records;
use crate::engine::{FOLD_VERSION_MAX, Outcome as Decided, State, decide};
use crate::proto::commands::Callback;

/// Decides a command to a counter.
fn decide_counter(run: Option<&State>, now: i64, body: Body) -> Result<Decided, Rejection> {
    decide_for(None, run, now, body)
}

/// The same of a command whose sender waits for its outcome.
fn decide_for(callback: Option<Callback>, run: Option<&State>, now: i64, body: Body) -> Result<Decided, Rejection> {
    let command = Command {
        kind: Kind::Counter as u32,
        namespace_id: "n".into(),
        namespace: "default".into(),
        id: "c".into(),
        seed_low: now as u64,
        callback,
        body: Some(body),
        ..Command::default()
    };
    decide(run, &command, now, FOLD_VERSION_MAX)
}

fn counter(what: What) -> Body {
    Body::Counter(Tell { what: Some(what) })
}

fn add(by: i64, request_id: &str) -> Body {
    counter(What::Add(Add { by, request_id: request_id.into() }))
}

fn state(decided: Result<Decided, Rejection>) -> State {
    decided.expect("it is accepted").runs.pop().expect("the counter changes").run
}

fn head(state: &State) -> &Head {
    let State::Counter(counter) = state else { panic!("it is a counter: {state:?}") };
    &counter.head
}

#[test]
fn requests_are_added_once_and_the_starter_is_notified() {
    let callback =
        Callback { kind: Kind::Counter as u32, id: "starter".into(), token: "t".into(), ..Callback::default() };
    let start = counter(What::Start(Start { goal: 10, ..Start::default() }));
    let started = decide_for(Some(callback.clone()), None, 1, start.clone()).unwrap();
    let [sent] = &started.sends[..] else { panic!("{:?}", started.sends) };
    assert_eq!((sent.to.kind, &*sent.to.id), (Kind::Counter, "starter"));
    assert!(matches!(&sent.body, Body::Notify(Notify { outcome: Some(Outcome::Started(_)), .. })));
    let run = state(Ok(started));
    let refused = decide_for(Some(callback), Some(&run), 2, start.clone()).unwrap();
    let Body::Notify(Notify { outcome: Some(Outcome::Refused(refused)), .. }) = &refused.sends[0].body else {
        panic!("{:?}", refused.sends)
    };
    assert_eq!((refused.code.as_str(), refused.run_id.as_str()), ("ALREADY_EXISTS", run.run_id()));
    assert!(
        matches!(decide_counter(Some(&run), 2, start), Err(Rejection::AlreadyStarted { .. })),
        "no sender waits for it"
    );
    let run = state(decide_counter(Some(&run), 3, add(4, "a")));
    assert!(decide_counter(Some(&run), 4, add(4, "a")).unwrap().runs.is_empty(), "a duplicate");
    let closed = decide_counter(Some(&run), 5, add(6, "b")).unwrap();
    let Body::Notify(Notify { outcome: Some(Outcome::Closed(closing)), token, .. }) = &closed.sends[0].body else {
        panic!("{:?}", closed.sends)
    };
    assert_eq!((&closing.result[..], &token[..]), (&10_i64.to_be_bytes()[..], &b"t"[..]));
    let run = state(Ok(closed));
    assert!(!run.is_open() && decide_counter(Some(&run), 6, add(1, "c")).is_err());
}

#[test]
fn it_ticks_and_adds_what_its_children_have_come_to() {
    let start = Start { tick_ms: 100, children: vec!["d".into()], children_goal: 3, ..Start::default() };
    let started = decide_counter(None, 1000, counter(What::Start(start))).unwrap();
    let token = started.sends[0].callback.clone().expect("it waits for its child's outcome").token;
    let run = state(Ok(started));
    assert_eq!(run.agenda(&SubKey::Head).due_ms, Some(1100));
    let fire = || {
        let run_id = run.run_id().to_owned();
        Body::FireTimer(crate::proto::commands::FireTimer { run_id, record: SubKey::Head.to_bytes(), due_ms: 0 })
    };
    assert!(decide_counter(Some(&run), 1099, fire()).is_err(), "it is early");
    let run = state(decide_counter(Some(&run), 1100, fire()));
    let closed = Closed { result: 7_i64.to_be_bytes().to_vec().into(), ..Closed::default() };
    let notify = Notify { token, outcome: Some(Outcome::Closed(closed)), ..Notify::default() };
    let run = state(decide_counter(Some(&run), 1150, Body::Notify(notify)));
    assert_eq!((head(&run).count, head(&run).due_ms, head(&run).children_closed), (8, 1200, 1));
    from_records(&run);
}

#[test]
fn there_are_none_before_the_version_that_all_nodes_know_them_at() {
    let before = Kind::Counter.since() - 1;
    let command = Command {
        kind: Kind::Counter as u32,
        id: "c".into(),
        body: Some(counter(What::Start(Start::default()))),
        ..Command::default()
    };
    assert!(matches!(decide(None, &command, 0, before), Err(Rejection::FailedPrecondition(_))));
    decide(None, &command, 0, FOLD_VERSION_MAX).expect("it starts");
}
