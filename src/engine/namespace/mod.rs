//! `PutNamespace` registers a namespace, `UpdateNamespace` changes one.

pub mod search_attributes;

use prost::Message;

use self::search_attributes::merge_aliases;
use super::rejection::Rejection;
use crate::proto::commands::{PutNamespace, UpdateNamespace};
use crate::proto::state::Namespace;
use crate::proto::temporal::enums::v1::NamespaceState;
use crate::types::{limits, time::duration_ms};

/// Decides a registration.
pub fn decide(present: Option<&Namespace>, command: &PutNamespace) -> Result<Namespace, Rejection> {
    let asked = command.namespace.clone().unwrap_or_default();
    if asked.name.is_empty() {
        return Err(Rejection::InvalidArgument("Namespace name is not set on request.".into()));
    }
    if present.is_some() {
        return Err(Rejection::NamespaceAlreadyExists("Namespace already exists.".into()));
    }
    check_size(asked)
}

/// Decides a change: what the request leaves out stays as it is.
pub fn decide_update(present: Option<&Namespace>, command: &UpdateNamespace) -> Result<Namespace, Rejection> {
    let request = command.request.clone().unwrap_or_default();
    let mut namespace = present.cloned().ok_or(Rejection::NamespaceNotFound(request.namespace))?;
    if let Some(info) = request.update_info {
        if !info.description.is_empty() {
            namespace.description = info.description;
        }
        if !info.owner_email.is_empty() {
            namespace.owner_email = info.owner_email;
        }
        namespace.data.extend(info.data);
        if info.state != 0 && info.state != namespace.state {
            use NamespaceState::{Deleted, Deprecated, Registered};
            let ends = match NamespaceState::try_from(namespace.state) {
                Ok(Registered) => [Deprecated as i32, Deleted as i32].contains(&info.state),
                Ok(Deprecated) => info.state == Deleted as i32,
                _ => false,
            };
            if !ends {
                return Err(Rejection::InvalidArgument("Invalid namespace state update.".into()));
            }
            namespace.state = info.state;
        }
    }
    if let Some(config) = request.config {
        if config.workflow_execution_retention_ttl.is_some() {
            namespace.retention_ms = duration_ms(config.workflow_execution_retention_ttl.as_ref());
        }
        let update = config.custom_search_attribute_aliases;
        merge_aliases(&mut namespace.custom_search_attribute_aliases, update)?;
    }
    check_size(namespace)
}

/// Data grows by merging, and is one record.
fn check_size(namespace: Namespace) -> Result<Namespace, Rejection> {
    let (size, limit) = (namespace.encoded_len(), limits::NAMESPACE_SIZE_MAX);
    if size > limit {
        return Err(Rejection::InvalidArgument(format!(
            "namespace {} comes to {size} bytes, and the limit is {limit}: give it less data",
            namespace.name
        )));
    }
    Ok(namespace)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::temporal::namespace::v1::{NamespaceConfig, UpdateNamespaceInfo};
    use crate::proto::temporal::workflowservice::v1::UpdateNamespaceRequest;
    use crate::types::time::duration;

    fn update(change: impl FnOnce(&mut UpdateNamespaceInfo, &mut NamespaceConfig)) -> UpdateNamespace {
        let (mut info, mut config) = Default::default();
        change(&mut info, &mut config);
        let request = UpdateNamespaceRequest {
            namespace: "orders".into(),
            update_info: Some(info),
            config: Some(config),
            ..UpdateNamespaceRequest::default()
        };
        UpdateNamespace { request: Some(request) }
    }

    fn registered() -> Namespace {
        let namespace = Namespace { name: "orders".into(), retention_ms: 1000, state: 1, ..Namespace::default() };
        decide(None, &PutNamespace { namespace: Some(namespace) }).expect("it is the first of this name")
    }

    #[test]
    fn updates_at_the_same_time_are_all_kept() {
        let described = update(|info, _| info.description = "of the shop".into());
        let kept_longer = update(|_, config| config.workflow_execution_retention_ttl = Some(duration(5000)));
        let with_data = |name: &str| update(|info, _| drop(info.data.insert(name.into(), "x".into())));
        let mut namespace = registered();
        for change in [described, kept_longer, with_data("a"), with_data("b")] {
            namespace = decide_update(Some(&namespace), &change).expect("it is there");
        }
        assert_eq!((namespace.description.as_str(), namespace.retention_ms, namespace.state), ("of the shop", 5000, 1));
        assert_eq!(namespace.data.len(), 2);
    }

    #[test]
    fn it_must_be_there_for_a_change_and_not_for_a_registration() {
        let nothing = update(|_, _| {});
        assert_eq!(decide_update(None, &nothing), Err(Rejection::NamespaceNotFound("orders".into())));
        let again = decide(Some(&registered()), &PutNamespace { namespace: Some(registered()) });
        assert!(matches!(again, Err(Rejection::NamespaceAlreadyExists(_))));
    }

    #[test]
    fn its_data_does_not_grow_without_limit() {
        let mut namespace = registered();
        let more = |number: usize| {
            update(|info, _| drop(info.data.insert(format!("{number}"), "x".repeat(limits::NAMESPACE_SIZE_MAX / 3))))
        };
        for number in 0..2 {
            namespace = decide_update(Some(&namespace), &more(number)).expect("it fits");
        }
        assert!(matches!(decide_update(Some(&namespace), &more(2)), Err(Rejection::InvalidArgument(_))));
        decide_update(Some(&namespace), &more(1)).expect("what takes the place of something fits");
    }
}
