//! The simulation finds what is wrong: each way to break the server is found by the seed that is listed with it, and the
//! server as it is passes the same seeds.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use crate::checks;
use crate::counters;
use crate::mutations::Mutation;
use crate::simulate::simulate;
use crate::{SEEDS, on_all_cores};

/// Ways to break the server, the seed that finds it, and the check that does.
const MUTATIONS: [(Mutation, u64, &str); Mutation::ALL.len()] = [
    (Mutation::ReplyBeforeDurable, 0, "what a worker is handed is in the log"),
    (Mutation::UnknownAppendTakenForDone, 8, "no attempt of a task is handed out twice"),
    (Mutation::PlaceGuessed, 49, "an acknowledged start is one run"),
    (Mutation::FenceSkipped, 1, "every history is legal"),
    (Mutation::UnknownCommitTakenForDone, 0, "an acknowledged termination is there"),
    (Mutation::StoreWrittenFirst, 0, "a lost store is restored to the byte"),
    (Mutation::TransactionSplit, 6, "every history is legal"),
    (Mutation::ChangelogReadShort, 0, "every history is legal"),
    (Mutation::AbortedRecordsRead, 0, "a lost store is restored to the byte"),
    (Mutation::TrimmedTooFar, 1, "a lost store is restored to the byte"),
    (Mutation::OthersSkipped, 1, "what a worker is handed is in the log"),
    (Mutation::RestoreBelievesABroker, 2, "every history is legal"),
    (Mutation::ReadsBelieveABroker, 50, "reads are never stale"),
    (Mutation::DuplicatesTaken, 1, "each request is carried out or refused once"),
    (Mutation::GapsAccepted, 574, "each request that asks for it is answered once"),
    (Mutation::AcceptedForgotten, 0, "what is sent between workflows is delivered in the end"),
    (Mutation::SentForgotten, 3, "whoever starts a counter is notified once of what becomes of it"),
    (Mutation::OutgoingForgotten, 0, "what is sent between workflows is delivered in the end"),
    (Mutation::TimeForgotten, 0, "every history is legal"),
    (Mutation::PositionAhead, 0, "each request is carried out or refused once"),
    (Mutation::PositionBehind, 18, "an acknowledged signal is there once"),
    (Mutation::OldStoreTrusted, 2, "every history is legal"),
    (Mutation::IngressCommitsFirst, 1, "each request is carried out or refused once"),
    (Mutation::TopicIdIgnored, 70, "each request is carried out or refused once"),
    (Mutation::RandomStuck, 0, "no attempt of a task is handed out twice"),
    (Mutation::OfferDeliveredTwice, 2, "no attempt of a task is handed out twice"),
    (Mutation::RefusalNotTold, 1, "an acknowledged answer of a worker is there once"),
    (Mutation::RunIdsDropped, 1, "a request to a run reaches that run only"),
    (Mutation::ParentDropped, 169, "a parent's close cancels its own children only"),
    (Mutation::RequestIdsForgotten, 4, "an acknowledged signal is there once"),
    (Mutation::RunOfQueryIgnored, 30, "a query is answered by the run that was asked"),
    (Mutation::RidingAnswersDropped, 14, "a query that was answered is not asked again"),
    (Mutation::SizesUnchecked, 288, "deciding the commands again gives the same bytes"),
    (Mutation::LoadUnbounded, 59, "a commit takes no more than it may"),
    (Mutation::SharedNotPublishedAnew, 27, "every node can know what a counter has come to"),
];

/// The same by the outcomes of counters: ownership, sends, time and replay are the same for every kind of entity.
const BY_COUNTERS: [(Mutation, u64, &str); 14] = [
    (Mutation::ReplyBeforeDurable, 47, "whoever starts a counter is notified once of what becomes of it"),
    (Mutation::FenceSkipped, 643, "whoever starts a counter is notified once of what becomes of it"),
    (Mutation::UnknownCommitTakenForDone, 233, "whoever starts a counter is notified once of what becomes of it"),
    (Mutation::StoreWrittenFirst, 3, "a counter ticks in its time"),
    (Mutation::TransactionSplit, 67, "whoever starts a counter is notified once of what becomes of it"),
    (Mutation::TrimmedTooFar, 127, "an acknowledged addition is there once"),
    (Mutation::OthersSkipped, 267, "an acknowledged addition is there once"),
    (Mutation::DuplicatesTaken, 7, "whoever starts a counter is notified once of what becomes of it"),
    (Mutation::GapsAccepted, 283, "whoever starts a counter is notified once of what becomes of it"),
    (Mutation::OutgoingForgotten, 137, "whoever starts a counter is notified once of what becomes of it"),
    (Mutation::TimeForgotten, 87, "a counter ticks in its time"),
    (Mutation::PositionAhead, 233, "a counter counts what it was told, and nothing else"),
    (Mutation::RandomStuck, 17, "a counter counts what it was told, and nothing else"),
    (Mutation::RequestIdsForgotten, 87, "a counter counts what it was told, and nothing else"),
];

#[test]
fn every_mutation_is_caught() {
    let listed: BTreeSet<_> = MUTATIONS.iter().map(|(mutation, _, _)| *mutation).collect();
    assert_eq!(listed.len(), Mutation::ALL.len(), "each is listed");
    let missed = Mutex::new(Vec::new());
    on_all_cores(MUTATIONS.into_iter().chain(BY_COUNTERS), |(mutation, seed, check)| {
        let intact = simulate(seed, None).findings;
        let broken = simulate(seed, Some(mutation)).findings;
        let found: BTreeSet<_> = broken.iter().map(|violation| violation.check).collect();
        println!("{mutation:?}: seed {seed}: {found:?}");
        if !intact.is_empty() || !found.contains(check) {
            missed.lock().expect("no code panics while noting").push((mutation, seed, intact));
        }
    });
    let missed = missed.into_inner().expect("no code panics while noting");
    assert!(missed.is_empty(), "not caught, or not alone: {missed:?}; `search` finds other seeds");
}

/// Checks that show that something is wrong, and little of what it means for callers.
const VAGUE: [&str; 4] = [
    "nothing panics",
    "the world comes to rest",
    "deciding the commands again gives the same bytes",
    "the owner's store is what the log holds",
];

/// Prints, for each mutation, the first seeds with which the checks find it, until one shows what is wrong; and the same for
/// counters.
#[test]
#[ignore = "for a new mutation, or after a change of the simulation"]
fn search() {
    on_all_cores(Mutation::ALL.into_iter(), |mutation| {
        let found = first_seeds(mutation, 0..4 * SEEDS, |_| true);
        let with_counters = (0..4 * SEEDS).filter(|seed| counters::happens(*seed));
        let by_counters = first_seeds(mutation, with_counters, |check| checks::counters::ALL.contains(&check));
        println!("{mutation:?}: {found:?}, by counters: {by_counters:?}");
    });
}

/// The first of these seeds with which each of the checks that count finds a mutation, until one shows what is wrong.
fn first_seeds(
    mutation: Mutation,
    mut seeds: impl Iterator<Item = u64>,
    counts: impl Fn(&'static str) -> bool,
) -> BTreeMap<&'static str, u64> {
    let mut found = BTreeMap::new();
    while let Some(seed) = seeds.next()
        && found.keys().all(|check| VAGUE.contains(check))
    {
        let violations = simulate(seed, Some(mutation)).findings;
        for violation in violations.into_iter().filter(|violation| counts(violation.check)) {
            found.entry(violation.check).or_insert(seed);
        }
    }
    found
}
