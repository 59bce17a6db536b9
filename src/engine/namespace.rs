//! `PutNamespace`: registers a namespace, or updates it.

use super::rejection::Rejection;
use crate::proto::commands::PutNamespace;
use crate::proto::state::Namespace;

/// Decides what a namespace becomes. The caller has merged an update with what was there.
pub fn decide(present: Option<&Namespace>, command: &PutNamespace) -> Result<Namespace, Rejection> {
    let asked = command.namespace.clone().unwrap_or_default();
    if asked.name.is_empty() {
        return Err(Rejection::InvalidArgument("Namespace name is not set on request.".into()));
    }
    match (present, command.create) {
        (Some(_), true) => Err(Rejection::NamespaceAlreadyExists("Namespace already exists.".into())),
        (None, false) => Err(Rejection::NamespaceNotFound(asked.name)),
        _ => Ok(asked),
    }
}
