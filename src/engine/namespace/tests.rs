use super::*;
use crate::engine::{EntityId, State, decide};
use crate::proto::temporal::namespace::v1::{NamespaceConfig, UpdateNamespaceInfo};
use crate::proto::temporal::workflowservice::v1::UpdateNamespaceRequest;
use crate::types::time::duration;

/// What a command makes of the namespace, and of its revision.
fn decided(present: Option<&State>, body: Body) -> Result<State, Rejection> {
    let id = EntityId::namespace("orders");
    let command = Command { kind: id.kind as u32, id: id.id.to_string(), body: Some(body), ..Command::default() };
    let mut outcome = decide(present, &command, 1000, crate::engine::FOLD_VERSION_MAX)?;
    assert_eq!(outcome.runs.len(), 1);
    Ok(outcome.runs.remove(0).run)
}

fn update(change: impl FnOnce(&mut UpdateNamespaceInfo, &mut NamespaceConfig)) -> Body {
    let (mut info, mut config) = Default::default();
    change(&mut info, &mut config);
    let request = UpdateNamespaceRequest {
        namespace: "orders".into(),
        update_info: Some(info),
        config: Some(config),
        ..UpdateNamespaceRequest::default()
    };
    Body::UpdateNamespace(UpdateNamespace { request: Some(request) })
}

fn registration() -> Body {
    let namespace =
        state::Namespace { id: "id".into(), name: "orders".into(), retention_ms: 1000, state: 1, ..Default::default() };
    Body::PutNamespace(PutNamespace { namespace: Some(namespace) })
}

fn registered() -> State {
    decided(None, registration()).expect("it is the first of this name")
}

#[test]
fn updates_at_the_same_time_are_all_kept() {
    let described = update(|info, _| info.description = "of the shop".into());
    let kept_longer = update(|_, config| config.workflow_execution_retention_ttl = Some(duration(5000)));
    let with_data = |name: &str| update(|info, _| drop(info.data.insert(name.into(), "x".into())));
    let mut state = registered();
    for change in [described, kept_longer, with_data("a"), with_data("b")] {
        state = decided(Some(&state), change).expect("it is there");
    }
    let namespace = state.namespace().expect("it is one");
    assert_eq!((namespace.description.as_str(), namespace.retention_ms, namespace.state), ("of the shop", 5000, 1));
    assert_eq!((namespace.data.len(), namespace.revision), (2, 1004));
}

#[test]
fn it_must_be_there_for_a_change_and_not_for_a_registration() {
    let gone = Err(Rejection::NamespaceNotFound("orders".into()));
    assert_eq!(decided(None, update(|_, _| {})), gone);
    assert_eq!(decided(None, Body::ChangeSearchAttributes(Default::default())), gone);
    let again = decided(Some(&registered()), registration());
    assert!(matches!(again, Err(Rejection::NamespaceAlreadyExists(_))));
    let unnamed = Body::PutNamespace(PutNamespace { namespace: Some(state::Namespace::default()) });
    assert!(matches!(decided(None, unnamed), Err(Rejection::InvalidArgument(_))));
}

#[test]
fn its_data_does_not_grow_without_limit() {
    let mut state = registered();
    let more = |number: usize| {
        update(|info, _| drop(info.data.insert(format!("{number}"), "x".repeat(limits::NAMESPACE_SIZE_MAX / 3))))
    };
    for number in 0..2 {
        state = decided(Some(&state), more(number)).expect("it fits");
    }
    assert!(matches!(decided(Some(&state), more(2)), Err(Rejection::InvalidArgument(_))));
    decided(Some(&state), more(1)).expect("what takes the place of something fits");
}

#[test]
fn what_is_published_of_it_is_its_record_and_grows_in_revision() {
    let first = registered();
    let second = decided(Some(&first), update(|info, _| info.description = "of the shop".into())).expect("it is there");
    // By the time, so that it grows even if nothing is left of what was there before.
    for (state, revision) in [(&first, 1000), (&second, 1001)] {
        let shared = state.shared().expect("every node must know of it");
        assert_eq!((shared.revision, Some(shared.value)), (revision, state.encode(&SubKey::Head)));
        assert!(state.agenda(&SubKey::Head).is_shared);
    }
    assert_eq!(State::Namespace(Namespace::default()).shared(), None);
}
