//! A rolling upgrade: nodes begin with the binary before, one machine after the other gets the new one, and in the end one goes
//! back.

use millrace::engine::FOLD_VERSION_MAX;
use millrace::log::{Isolation, Record, Topic};
use millrace::proto::commands::Command;
use prost::Message as _;

use crate::world::World;

/// The step at which the first machine gets the new binary, after how many more the next does, and when one goes back.
const UPGRADE: u64 = 1000;
const NEXT_UPGRADE: u64 = 600;
const TAKEN_BACK: u64 = 3200;
/// Meanwhile, commands of an unknown kind are sent.
const UNKNOWN_EVERY: u64 = 150;

/// In a tenth of the worlds.
pub fn happen(seed: u64) -> bool {
    seed % 10 == 5
}

impl World {
    /// Machines get another binary, one after the other.
    pub fn upgrade(&mut self) {
        for machine in 0..self.machines.len() {
            if self.step == UPGRADE + NEXT_UPGRADE * machine as u64 {
                self.install(machine, FOLD_VERSION_MAX);
                self.note("a binary was upgraded");
            }
        }
        if self.step == TAKEN_BACK {
            self.install(0, FOLD_VERSION_MAX - 1);
            self.note("a binary was taken back");
        }
        if self.step.is_multiple_of(UNKNOWN_EVERY) {
            let command = Command { id: "unknown".into(), sent_ms: 1, ..Command::default() };
            let record = Record { value: Some(command.encode_to_vec().into()), ..Record::default() };
            self.cluster.broker.append(Topic::Commands, self.a_partition(), vec![record]);
        }
    }

    pub fn install(&mut self, machine: usize, newest: u32) {
        self.crash(machine);
        self.cluster.binaries.install(machine, newest);
    }

    /// Commands that were appended past the owners, which look for such now and then.
    pub fn has_unseen(&self) -> bool {
        self.upgraded
            && (0..self.partitions()).any(|partition| {
                let process = self.machines[self.assigned[partition as usize]].process.as_ref();
                let position = process.and_then(|process| process.node.position(partition)).unwrap_or_default();
                position < self.cluster.broker.end_offset(Topic::Commands, partition, Isolation::ReadUncommitted)
            })
    }
}
