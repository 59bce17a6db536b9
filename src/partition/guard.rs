//! A command that takes the whole process down, where no panic can be caught (an abort, a stack that overflows, memory that runs
//! out), is set aside once it has done so twice.
//!
//! A small file beside the store names the command that is being decided now. It is written without waiting for the disk, as it
//! is to survive the process, not the machine. What the next take-over does about what it finds there:
//!
//! | found | what happened | what is done |
//! |---|---|---|
//! | nothing | the process ended elsewhere | all commands are decided together |
//! | deciding n | it went down over n, or by chance just then: it was killed, another partition's command did it | those before n are decided and committed, then n is decided alone |
//! | gathering | it went down as the outcomes of a replay were made into a commit | each is decided, and made into a commit, alone |
//! | alone with n | it went down over n together with others, and alone | n is set aside |
//!
//! Alone means: in no commit with others, so that their cost is not attributed to it, and while no other partition of the node is
//! alone with a command, so that no crash is attributed to the wrong one. A panic that is not caught as a decision's takes only
//! the partition down, and leads to the same.
//!
//! **Why setting aside is safe.** It is decided by this node alone, by what only this node knows, where all else that is decided
//! follows from the log. But no caller is answered before the take-over has committed, and its commit holds the refusal, its
//! record on `rejections` and a head that stands behind the command: from then on it is not decided again. If another node takes
//! the partition over before that, it decides the command anew, and may well go down over it, twice. No record of it is needed
//! among the commands: a record "skip n" could only stand behind n, and be read too late.
//!
//! One thing can't be helped: an owner before may have decided the command well and answered it, with more memory than there is
//! here, for one. Then its answer is revoked, or else the partition would be blocked for ever. The record on `rejections`
//! names what is lost. And where the data directory is lost with each process, nothing is ever found: keep it on a volume.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::core::Core;
use crate::engine::Rejection;
use crate::log::Appended;
use crate::proto::commands::Command;
use crate::proto::state::SetAside;

/// How long more of what was set aside is refused. Callers try again, timers are armed again: each would take the process down
/// twice more. Milliseconds.
const REFUSED_FOR_MS: i64 = 3_600_000;

/// What the partition is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trace {
    Nothing,
    Deciding(Appended),
    Gathering,
    Alone(Appended),
}

impl Trace {
    fn encode(self) -> [u8; 24] {
        let (kind, at) = match self {
            Trace::Nothing => (0_i64, Appended { offset: 0, timestamp_ms: 0 }),
            Trace::Deciding(at) => (1, at),
            Trace::Gathering => (2, Appended { offset: 0, timestamp_ms: 0 }),
            Trace::Alone(at) => (3, at),
        };
        let mut bytes = [0; 24];
        for (index, number) in [kind, at.offset, at.timestamp_ms].into_iter().enumerate() {
            bytes[index * 8..][..8].copy_from_slice(&number.to_be_bytes());
        }
        bytes
    }

    fn decode(bytes: &[u8]) -> Self {
        let number = |index: usize| Some(i64::from_be_bytes(bytes.get(index * 8..index * 8 + 8)?.try_into().ok()?));
        let (Some(kind), Some(offset), Some(timestamp_ms)) = (number(0), number(1), number(2)) else {
            return Trace::Nothing;
        };
        let at = Appended { offset, timestamp_ms };
        match kind {
            1 => Trace::Deciding(at),
            2 => Trace::Gathering,
            3 => Trace::Alone(at),
            _ => Trace::Nothing,
        }
    }
}

/// Keeps the trace of one take-over.
#[derive(Default)]
pub struct Guard {
    /// None: it is kept nowhere.
    file: Option<File>,
    /// What the one before has left.
    found: Option<Trace>,
    alone: bool,
}

impl Guard {
    pub fn open(path: Option<&Path>) -> Self {
        let Some(path) = path else { return Self::default() };
        match File::options().read(true).write(true).create(true).truncate(false).open(path) {
            Ok(file) => {
                let found = std::fs::read(path).map_or(Trace::Nothing, |bytes| Trace::decode(&bytes));
                Self { file: Some(file), found: Some(found), alone: false }
            }
            Err(error) => {
                tracing::warn!(
                    "{} can't be written: a command that takes the process down can't be found out: {error}",
                    path.display()
                );
                Self::default()
            }
        }
    }

    pub fn found(&self) -> Trace {
        self.found.unwrap_or(Trace::Nothing)
    }

    /// A command is about to be decided.
    pub fn deciding(&self, at: Appended) {
        self.write(if self.alone { Trace::Alone(at) } else { Trace::Deciding(at) });
    }

    /// What was replayed is about to be made into a commit.
    pub fn gathering(&self) {
        if !self.alone {
            self.write(Trace::Gathering);
        }
    }

    /// Nothing is at work that could take the process down.
    pub fn idle(&self) {
        if !self.alone {
            self.write(Trace::Nothing);
        }
    }

    /// From here on one command is decided alone.
    pub fn begin_alone(&mut self) {
        self.alone = true;
    }

    pub fn end_alone(&mut self) {
        self.alone = false;
        self.idle();
    }

    /// Costs about a microsecond: the page stays in the system's memory. Without it there is less to find, and nothing is wrong.
    fn write(&self, trace: Trace) {
        if let Some(file) = &self.file {
            let _ = file.write_all_at(&trace.encode(), 0);
        }
    }
}

impl Core {
    /// Takes note that a command is set aside.
    pub(super) fn put_aside(&mut self, command: &Command, at: Appended) -> Rejection {
        let reason =
            format!("deciding it took the process down twice (commands-{}, offset {})", self.partition, at.offset);
        tracing::error!(partition = self.partition, offset = at.offset, id = %command.id, kind = command.name(), "a command is set aside: {reason}");
        self.set_aside.push(SetAside {
            offset: at.offset,
            namespace_id: command.namespace_id.clone(),
            id: command.id.clone(),
            entity_kind: command.kind,
            kind: command.name().into(),
            until_ms: self.node.clock_ms() + REFUSED_FOR_MS,
        });
        self.notify_refusal(command, Rejection::Poison(reason))
    }

    /// Why a command is refused before it is appended, if one like it was set aside lately. Not one that is numbered: those behind
    /// it would wait.
    pub(super) fn like_set_aside(&mut self, command: &Command) -> Option<Rejection> {
        if self.set_aside.is_empty() || command.source.is_some() {
            return None;
        }
        let now = self.node.clock_ms();
        self.set_aside.retain(|set_aside| set_aside.until_ms > now);
        let like = |set_aside: &&SetAside| {
            set_aside.namespace_id == command.namespace_id
                && set_aside.entity_kind == command.kind
                && set_aside.id == command.id
                && set_aside.kind == command.name()
        };
        let SetAside { offset, id, kind, until_ms, .. } = self.set_aside.iter().find(like)?;
        Some(Rejection::FailedPrecondition(format!(
            "a {kind} of {id} took the server down twice and was set aside: it is on the topic rejections, as \
             offset {offset} of commands-{}. More of it is refused for {} minutes yet",
            self.partition,
            (until_ms - now) / 60_000 + 1
        )))
    }
}

/// Takes the process down over the workflow whose id `MILLRACE_TEST_ABORT_ON_WORKFLOW_ID` names. Not in a release.
#[cfg(debug_assertions)]
pub fn abort_if_configured(command: &Command) {
    static ABORT_ON: std::sync::LazyLock<Option<String>> =
        std::sync::LazyLock::new(|| std::env::var("MILLRACE_TEST_ABORT_ON_WORKFLOW_ID").ok());
    if ABORT_ON.as_ref() == Some(&command.id) {
        std::process::abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_is_found_by_the_next() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("deciding");
        let at = Appended { offset: 7, timestamp_ms: 8 };
        let mut guard = Guard::open(Some(&path));
        assert_eq!(guard.found(), Trace::Nothing);
        guard.deciding(at);
        assert_eq!(Guard::open(Some(&path)).found(), Trace::Deciding(at));
        guard.gathering();
        assert_eq!(Guard::open(Some(&path)).found(), Trace::Gathering);
        guard.begin_alone();
        guard.deciding(at);
        guard.gathering();
        guard.idle();
        assert_eq!(Guard::open(Some(&path)).found(), Trace::Alone(at), "until it is over");
        guard.end_alone();
        assert_eq!(Guard::open(Some(&path)).found(), Trace::Nothing);
        std::fs::write(&path, b"short").expect("it can be written");
        assert_eq!(Guard::open(Some(&path)).found(), Trace::Nothing);
    }
}
