//! Millrace: durable execution with Temporal's programming model and API; Kafka is the log, RocksDB the state.
//!
//! This page is the map. What a user sees is in the README.
//!
//! # The flow
//!
//! ```text
//!  topic `requests` ─▶ [ingress] ─┐                                   ┌─▶ [log]: history, completions, timers, rejections
//!                                 │                                   │
//!  SDKs, CLI ─────────▶ [grpc] ───┼─▶ [log]: commands ─▶ [partition] ─┼─▶ [log]: state ─▶ [store], [visibility]
//!                                 │                      │      ▲     │
//!  [timers], other partitions ────┘                  [engine]   │     └─▶ replies; tasks ─▶ [matching] ─▶ [grpc]
//!                                                  decide, apply
//! ```
//!
//! A request becomes a *command* to one entity, a workflow for example, and is appended to a partition of `commands`. The
//! partition's loop decides commands in the log's order: [`engine`] turns a command and an entity's state into *events*, or into a
//! rejection. The caller is answered as soon as its command is durable and decided. What the events lead to for the outside is
//! gathered and committed every few tens of milliseconds, in one transaction with the changelog and the position.
//!
//! Commands are the log, not events: after a crash the tail of the commands is decided again. Nothing has to be written between
//! a command and its answer then, and an event is stored once only, as what it leads to. The price is that deciding is
//! deterministic (2, 3 and 10 below).
//!
//! # What always holds
//!
//! 1. **The command log is the only write-ahead log.** Deciding is deterministic, so a durable command has its outcome, and
//!    may be answered before the outputs are committed. After a crash, the tail of the log is decided again.
//! 2. **The engine is pure.** No I/O, clock, randomness or hash order; what it needs from outside is in the command.
//!    `decide` may refuse, `apply` may not.
//! 3. **Time is part of the log.** A decision's `now` comes from the command's append time, and never goes back.
//! 4. **Outputs, state and position move together**, in one transaction of the partition's own producer: a reader of committed
//!    records sees each event once.
//! 5. **Ownership is fencing.** A new owner first fences the one before, then writes a barrier of its own and reads up to it:
//!    what is committed stands before it. The end offset that a broker reports is not relied on, as one that was paused may
//!    report an old one.
//! 6. **The store is never ahead of the log**, and can be deleted at any time.
//! 7. **Commands between entities are numbered**, kept until they are acknowledged, and taken once.
//! 8. **Matching holds nothing that can't be lost.** That a task is started once is decided by a command.
//! 9. **A decision that panics sets its command aside**, and stops nothing; one that takes the process down does so the second
//!    time.
//! 10. **What commands decide changes only with the version of the fold**, which a command in the log puts in force once all
//!     nodes know it.
//! 11. **Reads are as good as writes.** One is served once the partition has decided an append of its own that was sent after the
//!     read came, and that is acknowledged.
//!
//! # Where things are
//!
//! | module | owns |
//! |---|---|
//! | [`types`] | ids, slots, time, limits |
//! | [`environment`] | time and chance, as a node has them |
//! | [`metrics`] | every figure for Prometheus |
//! | [`proto`] | messages, generated from Temporal's API and from `schemas/` |
//! | [`engine`] | what a command does to an entity: a folder for each kind, and in it a file for each command |
//! | [`visibility`] | lists and counts, on SQLite |
//! | [`wire`] | Avro and JSON of the public topics |
//! | [`registry`] | schema registries: what ids in records stand for |
//! | [`log`] | the trait of the log, on RocksDB and on Kafka |
//! | [`store`] | the trait of the store, a cache of the state, on RocksDB |
//! | [`matching`], [`timers`] | which pollers wait for a task, and what is due: derived from the state |
//! | [`shared`] | the entities that every node knows: the namespaces |
//! | [`partition`] | the loop that joins all of these |
//! | [`cluster`] | the other nodes: which owns which partition, and how to call it |
//! | [`ingress`], [`grpc`] | the edges: they check, translate, and decide nothing |
//! | [`cli`] | the command line, and how a server is put together |
//!
//! Dependencies point upwards in this table only, which `tests/architecture.rs` checks. Without the feature `server`,
//! `types`, `proto` and `engine` compile alone: fast, and with no C++. Builds with debug assertions have one kind of entity more,
//! the counter, which is for the tests alone.
// One module has some: a call of librdkafka that its bindings have no safe form of.
#![deny(unsafe_code)]

pub mod engine;
pub mod proto;
pub mod types;

#[cfg(feature = "server")]
pub mod cli;
#[cfg(feature = "server")]
pub mod cluster;
#[cfg(feature = "server")]
pub mod environment;
#[cfg(feature = "server")]
pub mod grpc;
#[cfg(feature = "server")]
pub mod ingress;
#[cfg(feature = "server")]
pub mod log;
#[cfg(feature = "server")]
pub mod matching;
#[cfg(feature = "server")]
pub mod metrics;
#[cfg(feature = "server")]
pub mod partition;
#[cfg(feature = "server")]
pub mod registry;
#[cfg(feature = "server")]
pub mod shared;
#[cfg(feature = "server")]
pub mod store;
#[cfg(feature = "server")]
pub mod timers;
#[cfg(feature = "server")]
pub mod visibility;
#[cfg(feature = "server")]
pub mod wire;
