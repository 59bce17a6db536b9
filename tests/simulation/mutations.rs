//! Ways to break the server on purpose. Most change what its log, its store or its clock return, so that the code that is
//! tested is the code that runs: a log that acknowledges before a record is durable is a server that answers before it is.

use bytes::Bytes;
use millrace::engine::{Kind, SubKey, workflow};
use millrace::log::Record;
use millrace::proto::commands::{Closed, Command, Done, command::Body, notify::Outcome};
use millrace::proto::state;
use millrace::proto::temporal::command::v1::command::Attributes;
use millrace::proto::temporal::enums::v1::{
    ResetReapplyExcludeType, ScheduleOverlapPolicy, UpdateWorkflowExecutionLifecycleStage as Stage,
};
use millrace::proto::temporal::update::v1::WaitPolicy;
use millrace::store::{Positions, keys};
use prost::Message as _;

use crate::calls::Call;
use crate::random::Rng;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mutation {
    /// A caller is answered, and then its command is appended.
    ReplyBeforeDurable,
    /// An append of unknown outcome is taken for one that stands.
    UnknownAppendTakenForDone,
    /// Where the log does not return a command's offset, it is guessed.
    PlaceGuessed,
    /// An owner that is none any more commits all the same.
    FenceSkipped,
    /// A commit of unknown outcome is taken for one that stands.
    UnknownCommitTakenForDone,
    /// The store is written, and then the transaction is committed.
    StoreWrittenFirst,
    /// Outputs, state and position move in two transactions.
    TransactionSplit,
    /// The changelog is not read to its end.
    ChangelogReadShort,
    /// The changelog is read with what was never committed.
    AbortedRecordsRead,
    /// Commands are deleted that are still to be decided.
    TrimmedTooFar,
    /// What others appended to the partition is not decided.
    OthersSkipped,
    /// A new owner relies on the end of its changelog that a broker reports.
    RestoreBelievesABroker,
    /// A read relies on the end of the commands that a broker reports.
    ReadsBelieveABroker,
    /// A number that was seen is taken again.
    DuplicatesTaken,
    /// A number is taken though the one before it is missing.
    GapsAccepted,
    /// The numbers that were seen are forgotten with the process.
    AcceptedForgotten,
    /// The numbers that were given are forgotten with the process.
    SentForgotten,
    /// What was sent and is not acknowledged is forgotten with the process.
    OutgoingForgotten,
    /// Time begins anew with each process.
    TimeForgotten,
    /// The position is one ahead after a restart.
    PositionAhead,
    /// The position is one behind after a restart.
    PositionBehind,
    /// A store counts as fresh, however old it is.
    OldStoreTrusted,
    /// Ingress commits its position, and then sends what it read.
    IngressCommitsFirst,
    /// A topic that was created again is taken for the one that it was.
    TopicIdIgnored,
    /// Every id is made of the same random number.
    RandomStuck,
    /// A task that was started for one worker is handed to another too.
    OfferDeliveredTwice,
    /// A completion that is refused, as the workflow would end over signals that it has not seen, is acknowledged.
    RefusalNotTold,
    /// Requests go to the newest run, whichever run they name.
    RunIdsDropped,
    /// A parent's close policy cancels any run with the child's id.
    ParentDropped,
    /// The request ids that a run has seen are forgotten with the process.
    RequestIdsForgotten,
    /// A query of one run is answered by the newest.
    RunOfQueryIgnored,
    /// The answers to queries that come with a workflow task's completion are thrown away.
    RidingAnswersDropped,
    /// A node takes over what does not fit into the log.
    SizesUnchecked,
    /// A partition takes commands on, however many are not committed.
    LoadUnbounded,
    /// A new owner does not publish what it has decided again.
    SharedNotPublishedAnew,
    /// The updates that a run has are forgotten with the process.
    UpdatesForgotten,
    /// What a worker returns for updates does not come with its completion.
    UpdateMessagesDropped,
    /// An update is answered as if it were at the stage before.
    UpdatesAnsweredEarly,
    /// A run begins again from another point than was asked for.
    ResetsMisplaced,
    /// The signals that came after the point to which a run is reset are not applied again.
    SignalsLeftOut,
    /// What is still to be copied of a history is forgotten with the process.
    CopiesForgotten,
    /// A pause does not carry the id of its request.
    PauseIdsDropped,
    /// A request to a schedule does not carry its id.
    ScheduleIdsDropped,
    /// A schedule takes another overlap policy than it was given.
    OverlapIgnored,
    /// A schedule takes an action however late it is.
    CatchupWindowIgnored,
    /// A schedule takes it that what it has started ends at once.
    ScheduledTakenForEnded,
    /// A schedule's timer is taken for another's.
    ScheduleTimersDropped,
    /// A page of a batch begins with the run that the one before ends with.
    BatchPagesOverlap,
    /// No page of a batch follows the first.
    BatchPagesDropped,
    /// A batch may be faster than it was started with.
    BatchPaceIgnored,
    /// A batch's timer is taken for another's.
    BatchTimersDropped,
    /// A batch is not notified of what has become of its operations.
    BatchNoticesDropped,
    /// A batch takes it that an operation was carried out which was refused.
    BatchRefusalsTakenForDone,
    /// What a batch is still to be applied to is forgotten with the process.
    BatchTargetsForgotten,
}

impl Mutation {
    pub const ALL: [Mutation; 54] = [
        Self::ReplyBeforeDurable,
        Self::UnknownAppendTakenForDone,
        Self::PlaceGuessed,
        Self::FenceSkipped,
        Self::UnknownCommitTakenForDone,
        Self::StoreWrittenFirst,
        Self::TransactionSplit,
        Self::ChangelogReadShort,
        Self::AbortedRecordsRead,
        Self::TrimmedTooFar,
        Self::OthersSkipped,
        Self::RestoreBelievesABroker,
        Self::ReadsBelieveABroker,
        Self::DuplicatesTaken,
        Self::GapsAccepted,
        Self::AcceptedForgotten,
        Self::SentForgotten,
        Self::OutgoingForgotten,
        Self::TimeForgotten,
        Self::PositionAhead,
        Self::PositionBehind,
        Self::OldStoreTrusted,
        Self::IngressCommitsFirst,
        Self::TopicIdIgnored,
        Self::RandomStuck,
        Self::OfferDeliveredTwice,
        Self::RefusalNotTold,
        Self::RunIdsDropped,
        Self::ParentDropped,
        Self::RequestIdsForgotten,
        Self::RunOfQueryIgnored,
        Self::RidingAnswersDropped,
        Self::SizesUnchecked,
        Self::LoadUnbounded,
        Self::SharedNotPublishedAnew,
        Self::UpdatesForgotten,
        Self::UpdateMessagesDropped,
        Self::UpdatesAnsweredEarly,
        Self::ResetsMisplaced,
        Self::SignalsLeftOut,
        Self::CopiesForgotten,
        Self::PauseIdsDropped,
        Self::ScheduleIdsDropped,
        Self::OverlapIgnored,
        Self::CatchupWindowIgnored,
        Self::ScheduledTakenForEnded,
        Self::ScheduleTimersDropped,
        Self::BatchPagesOverlap,
        Self::BatchPagesDropped,
        Self::BatchPaceIgnored,
        Self::BatchTimersDropped,
        Self::BatchNoticesDropped,
        Self::BatchRefusalsTakenForDone,
        Self::BatchTargetsForgotten,
    ];

    /// A call as it comes to the server.
    pub fn of_call(self, call: &mut Call) {
        match (self, call) {
            (Self::RunOfQueryIgnored, Call::Query(request)) => {
                request.execution.iter_mut().for_each(|execution| execution.run_id.clear());
            }
            (Self::RidingAnswersDropped, Call::CompleteWorkflowTask(request)) => request.query_results.clear(),
            (Self::UpdatesAnsweredEarly, Call::Update(request)) => {
                request.wait_policy = Some(WaitPolicy { lifecycle_stage: Stage::Admitted as i32 });
            }
            (Self::UpdateMessagesDropped, Call::CompleteWorkflowTask(request)) => {
                request.messages.clear();
                let named =
                    |attributes: &Attributes| matches!(attributes, Attributes::ProtocolMessageCommandAttributes(_));
                request.commands.retain(|command| !command.attributes.as_ref().is_some_and(named));
            }
            _ => {}
        }
    }

    /// A command as it is appended.
    pub fn of_command(self, record: &mut Record, rng: &Rng) {
        if !matches!(
            self,
            Self::DuplicatesTaken
                | Self::GapsAccepted
                | Self::RunIdsDropped
                | Self::ParentDropped
                | Self::ResetsMisplaced
                | Self::SignalsLeftOut
                | Self::PauseIdsDropped
                | Self::ScheduleIdsDropped
                | Self::OverlapIgnored
                | Self::CatchupWindowIgnored
                | Self::ScheduledTakenForEnded
                | Self::ScheduleTimersDropped
                | Self::BatchPagesOverlap
                | Self::BatchPagesDropped
                | Self::BatchPaceIgnored
                | Self::BatchTimersDropped
                | Self::BatchNoticesDropped
                | Self::BatchRefusalsTakenForDone
        ) {
            return;
        }
        let Some(Ok(mut command)) = record.value.clone().map(Command::decode) else { return };
        match self {
            Self::RunIdsDropped => drop_run_id(&mut command),
            Self::ParentDropped => {
                if let Some(Body::RequestCancelWorkflow(cancel)) = &mut command.body {
                    (cancel.parent, cancel.parent_initiated_event_id) = (None, 0);
                }
            }
            Self::DuplicatesTaken | Self::GapsAccepted => self.of_source(&mut command, rng),
            Self::ResetsMisplaced | Self::SignalsLeftOut | Self::PauseIdsDropped => self.of_operation(&mut command),
            _ if command.kind == Kind::Batch as u32 => self.of_batch(&mut command),
            _ => self.of_schedule(&mut command),
        }
        record.value = Some(command.encode_to_vec().into());
    }

    /// What an operator asks for.
    fn of_operation(self, command: &mut Command) {
        match (self, &mut command.body) {
            (Self::ResetsMisplaced, Some(Body::ResetWorkflow(c))) => {
                let request = c.request.get_or_insert_default();
                request.workflow_task_finish_event_id = 3;
            }
            (Self::SignalsLeftOut, Some(Body::ResetWorkflow(c))) => {
                let request = c.request.get_or_insert_default();
                request.reset_reapply_exclude_types.push(ResetReapplyExcludeType::Signal as i32);
            }
            (Self::PauseIdsDropped, Some(Body::PauseWorkflow(c))) => {
                c.request.get_or_insert_default().request_id.clear();
            }
            _ => {}
        }
    }

    /// What comes to a schedule.
    fn of_schedule(self, command: &mut Command) {
        let is_schedule = command.kind == Kind::Schedule as u32;
        match (self, &mut command.body) {
            (Self::ScheduleIdsDropped, Some(Body::PatchSchedule(c))) => {
                c.request.get_or_insert_default().request_id.clear();
            }
            (Self::OverlapIgnored, Some(Body::CreateSchedule(c))) => {
                let schedule = c.request.get_or_insert_default().schedule.get_or_insert_default();
                schedule.policies.get_or_insert_default().set_overlap_policy(ScheduleOverlapPolicy::AllowAll);
            }
            (Self::CatchupWindowIgnored, Some(Body::CreateSchedule(c))) => {
                let schedule = c.request.get_or_insert_default().schedule.get_or_insert_default();
                schedule.policies.get_or_insert_default().catchup_window = None;
            }
            (Self::ScheduledTakenForEnded, Some(Body::Notify(c))) if is_schedule => {
                if matches!(c.outcome, Some(Outcome::Started(_))) {
                    c.outcome = Some(Outcome::Closed(Closed::default()));
                }
            }
            (Self::ScheduleTimersDropped, Some(Body::FireTimer(c))) if is_schedule => c.run_id.clear(),
            _ => {}
        }
    }

    /// What comes to a batch.
    fn of_batch(self, command: &mut Command) {
        match (self, &mut command.body) {
            (Self::BatchPagesOverlap, Some(Body::AddBatchPage(c))) => {
                let next = c.next_page_token.as_ref().try_into().map_or(0, u64::from_be_bytes);
                if c.targets.len() > 1 && next > 0 {
                    c.next_page_token = (next - 1).to_be_bytes().to_vec().into();
                }
            }
            (Self::BatchPagesDropped, Some(Body::AddBatchPage(c))) => c.next_page_token.clear(),
            (Self::BatchPaceIgnored, Some(Body::StartBatch(c))) => c.operations_per_interval *= 10,
            (Self::BatchTimersDropped, Some(Body::FireTimer(c))) => c.run_id.clear(),
            (Self::BatchNoticesDropped, Some(Body::Notify(c))) => c.token.clear(),
            (Self::BatchRefusalsTakenForDone, Some(Body::Notify(c))) => c.outcome = Some(Outcome::Done(Done {})),
            _ => {}
        }
    }

    /// The number of a command.
    fn of_source(self, command: &mut Command, rng: &Rng) {
        let Some(source) = &mut command.source else { return };
        source.previous = -1;
        if self == Self::DuplicatesTaken {
            // Another source each time, so that no number was ever seen.
            let name = source.name.clone();
            let (name, partition) = name.split_once('/').map_or((&name[..], ""), |(name, partition)| (name, partition));
            source.name = format!("{name}~{}/{partition}", rng.next());
        }
    }

    /// A record as it is read from the store.
    pub fn of_stored(self, key: &[u8], found: Option<Bytes>) -> Option<Bytes> {
        let found = found?;
        if key == keys::POSITIONS && self == Self::OldStoreTrusted {
            let positions = Positions::decode(&found)?;
            return Some(Bytes::copy_from_slice(&Positions { written_ms: i64::MAX / 2, ..positions }.encode()));
        }
        if key != keys::HEAD {
            return Some(found);
        }
        let mut head = state::Head::decode(found).ok()?;
        match self {
            Self::AcceptedForgotten => head.accepted.clear(),
            Self::SentForgotten => head.sent.clear(),
            Self::TimeForgotten => head.now_ms = 0,
            Self::PositionAhead => head.commands_position += 1,
            Self::PositionBehind => head.commands_position = (head.commands_position - 1).max(0),
            _ => {}
        }
        Some(head.encode_to_vec().into())
    }

    /// Whether a scan of the store leaves this key out.
    pub fn hides(self, key: &[u8]) -> bool {
        match self {
            Self::OutgoingForgotten => key.starts_with(keys::OUTGOING),
            Self::CopiesForgotten => key.starts_with(keys::COPIES),
            Self::RequestIdsForgotten => {
                let record = keys::parse(key).and_then(|parsed| parsed.record);
                matches!(record, Some((_, SubKey::Named(workflow::part::REQUEST, _))))
            }
            Self::UpdatesForgotten => {
                let record = keys::parse(key).and_then(|parsed| parsed.record);
                matches!(record, Some((_, SubKey::Named(workflow::part::UPDATE, _))))
            }
            Self::BatchTargetsForgotten => keys::parse(key).is_some_and(|parsed| {
                parsed.entity.kind == Kind::Batch && matches!(parsed.record, Some((_, SubKey::Numbered(..))))
            }),
            _ => false,
        }
    }
}

fn drop_run_id(command: &mut Command) {
    let execution = match &mut command.body {
        Some(Body::SignalWorkflow(c)) => c.request.as_mut().and_then(|r| r.workflow_execution.as_mut()),
        Some(Body::TerminateWorkflow(c)) => c.request.as_mut().and_then(|r| r.workflow_execution.as_mut()),
        Some(Body::RequestCancelWorkflow(c)) => c.request.as_mut().and_then(|r| r.workflow_execution.as_mut()),
        Some(Body::UpdateWorkflow(c)) => c.request.as_mut().and_then(|r| r.workflow_execution.as_mut()),
        _ => None,
    };
    if let Some(execution) = execution {
        execution.run_id.clear();
    }
}
