//! The conformance suite of the log: every case runs against the embedded log and against a real Kafka broker, so that what
//! the partition loop relies on is the same on both. What only one of them has is tested in a file of its own.
//!
//! The broker is started by `deploy/kafka.sh`, which needs Java 17 and, the first time, Maven.

mod broker;
mod cases;
mod embedded_only;
mod kafka_only;
mod subject;

macro_rules! conformance {
    ($($file:ident: $($case:ident),+;)+) => {
        mod embedded {
            $($(#[test] fn $case() { crate::cases::$file::$case(crate::subject::Subject::embedded()) })+)+
        }
        mod embedded_with_fsync {
            $($(#[test] fn $case() {
                crate::cases::$file::$case(crate::subject::Subject::embedded_with_fsync())
            })+)+
        }
        mod kafka {
            $($(#[test] fn $case() { crate::cases::$file::$case(crate::subject::Subject::kafka()) })+)+
        }
    };
}

conformance! {
    appending:
        appends_keep_their_order,
        callbacks_of_concurrent_appends_come_in_the_order_of_the_offsets,
        a_batch_stays_together,
        a_callback_may_append,
        records_come_back_whole,
        partitions_are_apart,
        an_unknown_partition_is_refused,
        large_records_fit_up_to_the_limit,
        what_is_waited_for_stands_behind_what_was_acknowledged_before;
    committing:
        a_commit_reaches_every_topic,
        a_commit_leaves_one_gap_in_each_topic_that_it_touched,
        a_commit_is_seen_whole_or_not_at_all,
        a_refused_commit_leaves_nothing,
        an_owner_that_never_commits_leaves_nothing,
        an_empty_commit_is_nothing;
    owning:
        a_new_owner_fences_the_old_one,
        all_that_the_owner_before_has_committed_stands_before_the_barrier,
        a_barrier_is_passed_and_seen_by_nobody,
        owners_of_different_partitions_do_not_meet,
        a_partition_is_handed_to_and_fro;
    reading:
        a_reader_waits_for_the_first_record,
        a_reader_returns_when_nothing_comes,
        a_reader_takes_no_more_than_it_is_asked,
        a_reader_starts_in_the_middle,
        a_reader_past_the_end_is_refused,
        trimmed_records_are_gone,
        a_reader_goes_on_after_a_trim,
        compacted_topics_are_not_trimmed;
    reopening:
        positions_are_remembered,
        everything_is_there_after_a_restart,
        an_owner_of_the_process_before_is_fenced;
    users_topics:
        a_commit_reaches_a_users_topic_by_key,
        a_users_topic_is_there_after_a_restart;
}
