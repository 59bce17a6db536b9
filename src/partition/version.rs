//! The version of the fold that a partition's commands are decided by: its head names it, and a command among the others
//! raises it.
//!
//! The owner appends that command once all nodes are known to support the newer version. What is known of others may be wrong or
//! old: a node that doesn't know the version of a head, or of a command that it meets, refuses to go on. So it can neither
//! decide anything otherwise than the others, nor answer a caller.

use super::core::Core;
use super::restore;
use crate::engine::EntityId;
use crate::engine::Reply;
use crate::log::Appended;
use crate::metrics;
use crate::proto::commands::{SetFoldVersion, command::Body};
use crate::proto::state;

/// A version of the fold that this binary does not know.
#[derive(Debug, thiserror::Error)]
#[error("{stands} fold version {version}, and this binary knows {from} to {to}: {advice}")]
pub struct Unknown {
    stands: String,
    version: u32,
    from: u32,
    to: u32,
    advice: &'static str,
}

impl Core {
    fn check_version(&self, version: u32, stands: impl FnOnce() -> String) -> Result<(), Unknown> {
        let versions = &self.node.settings.fold_versions;
        let (from, to) = (*versions.start(), *versions.end());
        let advice = match version {
            _ if version > to => "run a newer one",
            _ if version < from => "run an older one first, which raises it",
            _ => return Ok(()),
        };
        Err(Unknown { stands: stands(), version, from, to, advice })
    }

    /// Takes the version from the head. Without one nothing was ever decided, and the version that all nodes support is taken.
    pub(super) fn restore_version(&mut self, head: Option<&state::Head>) -> Result<(), restore::Error> {
        let versions = &self.node.settings.fold_versions;
        self.position.fold_version = match head {
            Some(head) => {
                self.check_version(head.fold_version, || "the partition's head has".into())?;
                head.fold_version
            }
            None => self.node.peers.fold_version().clamp(*versions.start(), *versions.end()),
        };
        Ok(())
    }

    /// Appends the newest version that all nodes are known to support, unless it is in force.
    pub(super) fn raise_version(&mut self) {
        let known = *self.node.settings.fold_versions.end();
        if self.position.version_asked >= known {
            return;
        }
        let version = self.node.peers.fold_version().min(known);
        if version > self.position.version_asked {
            self.position.version_asked = version;
            self.enqueue("", &EntityId::workflow("", ""), Body::SetFoldVersion(SetFoldVersion { version }), None);
        }
    }

    /// Decides that a version is in force from here on. An older one stands where two owners appended one.
    pub(super) fn set_version(&mut self, version: u32, at: Appended) -> Result<Reply, Unknown> {
        if version > self.position.fold_version {
            self.check_version(version, || format!("the command at offset {} sets", at.offset))?;
            tracing::info!(
                partition = self.partition,
                offset = at.offset,
                version,
                "a new version of the fold is in force"
            );
            self.position.fold_version = version;
            if !self.replaying {
                self.note_version();
            }
        }
        Ok(Reply::Done)
    }

    /// The version in force has changed, or the partition is owned here now.
    pub(super) fn note_version(&mut self) {
        self.position.version_asked = self.position.version_asked.max(self.position.fold_version);
        metrics::partition_fold_version(self.partition, self.position.fold_version);
    }
}
