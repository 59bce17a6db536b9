//! The versions of the fold: what commands decide changes only with them.
//!
//! A partition has one version in force, which its head names, until a `SetFoldVersion` among its commands puts a newer one in
//! force. Every node that decides the same commands changes it at the same place, so that all decide alike.
//!
//! To change a decision: raise [`FOLD_VERSION_MAX`], keep the old behaviour wherever the version in force is an older one, and say
//! below what is new. A binary knows the last two versions, so that nodes can be upgraded, or taken back, one by one. A new kind of
//! command, or a field that a decision looks at, is such a change too: at an older version it is decided as if it were not there, as
//! a binary does that doesn't know it. A new kind of entities is one too: its row in the table of
//! [`kinds`](super::kinds) has the version since which there are such.
//!
//! What a library answers within a decision is a part of it: when a cron schedule is due, how long a message is, what of it can be
//! read. Those libraries are pinned, and [`LIBRARIES`] names the versions that the newest fold decides by, which a test holds
//! against `Cargo.lock`. A new version that answers anything differently is a change of decisions like any other.
//!
//! Nothing is promised for logs from before the first release: commands, keys, records and decisions have changed under versions 2 and 3.
//!
//! | version | what is new |
//! |---|---|
//! | 1 | |
//! | 2 | a command whose body is unknown is set aside, with its coordinates on `rejections`, where it was refused in silence |
//! | 3 | updates; resets; operators pause runs and change their options, and do the same to activities; schedules; batches |

use crate::proto::commands::command::Body;

/// The versions that this binary decides by.
pub const FOLD_VERSION_MIN: u32 = 2;
pub const FOLD_VERSION_MAX: u32 = 3;

/// There are updates, resets, and operations on runs and activities.
pub(super) const UPDATES: u32 = 3;

/// The version from which on there are commands of a type: nodes before do not know it.
pub(super) fn since(body: &Body) -> u32 {
    match body {
        Body::UpdateWorkflow(_)
        | Body::UpdateWithStartWorkflow(_)
        | Body::PauseActivity(_)
        | Body::UnpauseActivity(_)
        | Body::ResetActivity(_)
        | Body::UpdateActivityOptions(_)
        | Body::ResetWorkflow(_)
        | Body::PauseWorkflow(_)
        | Body::UnpauseWorkflow(_)
        | Body::UpdateWorkflowOptions(_)
        | Body::CreateSchedule(_)
        | Body::UpdateSchedule(_)
        | Body::PatchSchedule(_)
        | Body::DeleteSchedule(_)
        | Body::StartBatch(_)
        | Body::AddBatchPage(_)
        | Body::StopBatch(_)
        | Body::CopyHistory(_) => UPDATES,
        _ => 1,
    }
}

/// The libraries whose answers decisions depend on, with their versions at [`FOLD_VERSION_MAX`].
pub const LIBRARIES: [(&str, &str); 5] = [
    // When cron schedules and schedules are due.
    ("chrono", "0.4.45"),
    ("chrono-tz", "0.10.4"),
    // By how much schedules are put off.
    ("farmhash", "1.1.5"),
    // How large messages are, and what of them is read and kept.
    ("prost", "0.14.4"),
    ("prost-types", "0.14.4"),
];

#[cfg(test)]
mod tests {
    use super::*;

    /// Each package's name and version.
    fn locked() -> Vec<(&'static str, &'static str)> {
        let packages = include_str!("../../Cargo.lock").split("[[package]]");
        let field = |package: &'static str, name: &str| {
            package.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(" = \"")?.strip_suffix('"'))
        };
        packages.filter_map(|package| Some((field(package, "name")?, field(package, "version")?))).collect()
    }

    #[test]
    fn the_fold_decides_by_the_libraries_that_are_built_in() {
        let locked = locked();
        for (name, version) in LIBRARIES {
            let found: Vec<_> =
                locked.iter().filter(|(locked, _)| *locked == name).map(|(_, version)| *version).collect();
            assert_eq!(
                found,
                [version],
                "{name} is another than the fold of version {FOLD_VERSION_MAX} decides by. If it may answer anything else \
                 within a decision, raise FOLD_VERSION_MAX and keep the old answers for the version before; in any case, \
                 change LIBRARIES"
            );
        }
    }

    /// Else a build without the lock file decides by something else.
    #[test]
    fn their_versions_are_pinned() {
        let manifest = include_str!("../../Cargo.toml");
        let dependencies =
            manifest.split("[dependencies]").nth(1).unwrap_or_default().split("\n[").next().unwrap_or_default();
        for (name, version) in LIBRARIES {
            let line = dependencies.lines().find(|line| line.split(' ').next() == Some(name));
            let line = line.unwrap_or_else(|| panic!("{name} is a dependency"));
            assert!(line.contains(&format!("\"={version}\"")), "{line} is not pinned to {version}");
        }
    }
}
