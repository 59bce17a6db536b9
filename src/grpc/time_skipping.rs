//! `TestService`: a server for tests, whose time is skipped while nothing is being worked on and nobody has locked it.
//!
//! There is one count of locks, of those that clients hold and of what is being worked on, as in the test server of Temporal's Java SDK:
//! an unlock may spend a lock that something else holds. While the count is zero, the clock is put forward to what is due next.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use tonic::{Request, Response, Status};

use super::service::Service;
use crate::environment::{Environment, PutForward};
use crate::partition::Outlook;
use crate::proto::temporal::testservice::v1::test_service_server::TestService;
use crate::proto::temporal::testservice::v1::*;
use crate::types::time::{duration_ms, millis_of, timestamp};

/// How often a server that is not locked looks whether anything is being worked on.
const LOOK_EVERY: Duration = Duration::from_millis(3);
/// The end of the year 9999, the last time that protobuf has.
const LAST_MS: i64 = 253_402_300_799_000;
/// A partition that does not answer for so long is about to be there.
const ASK_AGAIN_AFTER: Duration = Duration::from_millis(50);

/// The clock of a server for tests.
#[derive(Clone)]
pub struct TimeSkipping {
    service: Service,
    clock: Arc<PutForward>,
    locks: Arc<Locks>,
}

#[derive(Default)]
struct Locks {
    held: Mutex<Held>,
    /// Something was unlocked, or a sleep has begun.
    changed: Notify,
}

#[derive(Default)]
struct Held {
    /// Those of clients. Below zero, an unlock has spent that of something that is being worked on.
    count: i64,
    /// Sleeps, by when they end and by their numbers.
    sleeps: BTreeMap<(i64, u64), Sleeping>,
    last_sleep: u64,
}

struct Sleeping {
    /// The sleep has unlocked time, which is locked again as it ends.
    locks_again: bool,
    ended: oneshot::Sender<()>,
}

impl Locks {
    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().expect("no code panics while it counts locks")
    }
}

impl Held {
    /// Begins a sleep until `at_ms`, with which one lock is released until it ends if it `locks_again`. Returns its key, and a
    /// channel that receives as it ends.
    fn sleep(&mut self, at_ms: i64, locks_again: bool) -> ((i64, u64), oneshot::Receiver<()>) {
        let (ended, waits) = oneshot::channel();
        self.last_sleep += 1;
        let key = (at_ms, self.last_sleep);
        self.sleeps.insert(key, Sleeping { locks_again, ended });
        self.count -= i64::from(locks_again);
        (key, waits)
    }

    /// When the next sleep is over, in milliseconds since the Unix epoch.
    fn next_ms(&self) -> Option<i64> {
        self.sleeps.keys().next().map(|(at_ms, _)| *at_ms)
    }

    /// Ends the sleeps that are over at a time, and takes their locks back, before anything else happens then.
    fn wake(&mut self, now: i64) {
        while let Some(entry) = self.sleeps.first_entry().filter(|entry| entry.key().0 <= now) {
            let sleeping = entry.remove();
            self.count += i64::from(sleeping.locks_again);
            let _ = sleeping.ended.send(());
        }
    }
}

/// A sleep that is under way: if its caller goes, what it has unlocked is locked again.
struct Sleep<'a> {
    locks: &'a Locks,
    key: (i64, u64),
}

impl Drop for Sleep<'_> {
    fn drop(&mut self) {
        let mut held = self.locks.held();
        if let Some(sleeping) = held.sleeps.remove(&self.key) {
            held.count += i64::from(sleeping.locks_again);
        }
    }
}

impl TimeSkipping {
    /// `locked`: time goes as usual until a client unlocks it.
    pub fn new(service: Service, clock: Arc<PutForward>, locked: bool) -> Self {
        let locks = Locks::default();
        locks.held().count = i64::from(locked);
        Self { service, clock, locks: Arc::new(locks) }
    }

    /// Skips time whenever it may be skipped. Ends never.
    pub async fn run(self) {
        loop {
            let (is_locked, sleep_ms) = {
                let mut held = self.locks.held();
                held.wake(self.clock.clock_ms());
                (held.count > 0, held.next_ms())
            };
            if is_locked {
                // A sleep may end by itself meanwhile.
                let left = sleep_ms.map_or(i64::MAX, |at| (at - self.clock.clock_ms()).max(0));
                let left = Duration::from_millis(left.min(60_000).unsigned_abs());
                let _ = tokio::time::timeout(left, self.locks.changed.notified()).await;
                continue;
            }
            if !self.skip().await {
                let _ = tokio::time::timeout(LOOK_EVERY, self.locks.changed.notified()).await;
            }
        }
    }

    /// Puts the clock forward to what is due next, if nothing is being worked on. Returns whether it did.
    async fn skip(&self) -> bool {
        // What was under way between two partitions as one was looked at is seen in one of them the second time.
        let (Some(_), Some(outlook)) = (self.idle().await, self.idle().await) else { return false };
        let mut held = self.locks.held();
        let Some(next_ms) = [outlook.due_ms, held.next_ms()].into_iter().flatten().min() else { return false };
        if held.count + outlook.at_work as i64 > 0 || next_ms <= self.clock.clock_ms() {
            return false;
        }
        self.clock.to(next_ms);
        held.wake(next_ms);
        true
    }

    /// What is ahead, if nothing holds time back.
    async fn idle(&self) -> Option<Outlook> {
        let outlook = self.outlook().await;
        let held = self.locks.held().count;
        (held + outlook.at_work as i64 <= 0).then_some(outlook)
    }

    /// What is ahead of all partitions, once each has decided all that was appended before.
    async fn outlook(&self) -> Outlook {
        let node = &self.service.node;
        loop {
            let mut answers = Vec::new();
            for partition in 0..node.partitions() {
                let (sender, answer) = oneshot::channel();
                node.partition(partition).read(Box::new(move |core| {
                    let _ = sender.send(core.outlook());
                }));
                answers.push(answer);
            }
            let mut outlooks = Vec::new();
            for answer in answers {
                if let Ok(Ok(outlook)) = answer.await {
                    outlooks.push(outlook);
                }
            }
            if outlooks.len() == node.partitions() as usize {
                return outlooks.into_iter().sum();
            }
            tokio::time::sleep(ASK_AGAIN_AFTER).await;
        }
    }

    /// Waits until the server's time has come to a moment.
    async fn sleep_until(&self, at_ms: i64, locks_again: bool) {
        let (key, waits) = self.locks.held().sleep(at_ms.min(LAST_MS), locks_again);
        let _sleep = Sleep { locks: &self.locks, key };
        self.locks.changed.notify_one();
        let _ = waits.await;
    }

    /// Refuses to unlock what nothing locks.
    async fn check_locked(&self) -> Result<(), Status> {
        let held = self.locks.held().count;
        if held > 0 || held + self.outlook().await.at_work as i64 > 0 {
            return Ok(());
        }
        Err(Status::failed_precondition("time is not locked: lock it before it is unlocked"))
    }
}

#[tonic::async_trait]
impl TestService for TimeSkipping {
    async fn lock_time_skipping(
        &self,
        _: Request<LockTimeSkippingRequest>,
    ) -> Result<Response<LockTimeSkippingResponse>, Status> {
        self.locks.held().count += 1;
        Ok(Response::new(Default::default()))
    }

    async fn unlock_time_skipping(
        &self,
        _: Request<UnlockTimeSkippingRequest>,
    ) -> Result<Response<UnlockTimeSkippingResponse>, Status> {
        self.check_locked().await?;
        self.locks.held().count -= 1;
        self.locks.changed.notify_one();
        Ok(Response::new(Default::default()))
    }

    async fn sleep(&self, request: Request<SleepRequest>) -> Result<Response<SleepResponse>, Status> {
        let until = self.clock.clock_ms().saturating_add(duration_ms(request.get_ref().duration.as_ref()));
        TimeSkipping::sleep_until(self, until, false).await;
        Ok(Response::new(Default::default()))
    }

    async fn sleep_until(&self, request: Request<SleepUntilRequest>) -> Result<Response<SleepResponse>, Status> {
        let until = request.get_ref().timestamp.as_ref().map_or(0, millis_of);
        TimeSkipping::sleep_until(self, until, false).await;
        Ok(Response::new(Default::default()))
    }

    async fn unlock_time_skipping_with_sleep(
        &self,
        request: Request<SleepRequest>,
    ) -> Result<Response<SleepResponse>, Status> {
        self.check_locked().await?;
        let until = self.clock.clock_ms().saturating_add(duration_ms(request.get_ref().duration.as_ref()));
        TimeSkipping::sleep_until(self, until, true).await;
        Ok(Response::new(Default::default()))
    }

    async fn get_current_time(&self, _: Request<()>) -> Result<Response<GetCurrentTimeResponse>, Status> {
        let time = Some(timestamp(self.clock.clock_ms()));
        Ok(Response::new(GetCurrentTimeResponse { time }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sleep_locks_again_as_it_ends_and_not_before() {
        let mut held = Held { count: 1, ..Held::default() };
        let (_, mut first) = held.sleep(100, true);
        let (_, mut second) = held.sleep(200, false);
        held.wake(99);
        assert_eq!((held.count, first.try_recv().is_ok()), (0, false));
        held.wake(100);
        assert_eq!((held.count, first.try_recv().is_ok(), second.try_recv().is_ok()), (1, true, false));
        held.wake(200);
        assert_eq!((held.count, second.try_recv().is_ok()), (1, true));
    }

    #[test]
    fn a_caller_that_goes_leaves_the_count_as_it_was() {
        let locks = Locks::default();
        locks.held().count = 1;
        let (key, _waits) = locks.held().sleep(100, true);
        assert_eq!(locks.held().count, 0);
        drop(Sleep { locks: &locks, key });
        assert_eq!(locks.held().count, 1);
        let (key, _waits) = locks.held().sleep(100, true);
        locks.held().wake(100);
        drop(Sleep { locks: &locks, key });
        assert_eq!(locks.held().count, 1, "it has ended");
    }
}
