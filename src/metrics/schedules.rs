//! Schedules.

use super::family::{Counters, Family, families};

families! {
    ACTIONS: Counters<2> = Family::new(
        "millrace_schedule_actions_total", "Actions of schedules, by what became of them: started, refused by their workflow (its id is taken), \
         skipped by the overlap policy, missed as the catch-up window had passed, dropped as too many waited.",
        ["namespace", "outcome"]);
}

/// So many actions came to an outcome: `started`, `refused`, `skipped`, `missed` or `dropped`.
pub fn schedule_actions(namespace: &str, outcome: &str, count: u64) {
    ACTIONS.of([&namespace, &outcome]).inc_by(count);
}
