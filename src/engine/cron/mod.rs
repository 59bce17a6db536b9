//! Cron schedules, in the grammar of robfig/cron v3, which Temporal's server uses: five fields, `@daily` and the like, and
//! `@every 90s`, each after `CRON_TZ=` or `TZ=` and the name of a time zone, if that is not UTC.

mod fields;
mod next;

use fields::Fields;

use super::go_duration;
use super::zone::Zone;

/// When a cron workflow runs.
#[derive(Debug)]
pub enum Schedule {
    Every { interval_s: i64 },
    Fields { fields: Box<Fields>, zone: Zone },
}

impl Schedule {
    /// Reads a schedule; the error names what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        Self::read(text).map_err(|why| format!("invalid CronSchedule. \"{text}\": {why}"))
    }

    fn read(text: &str) -> Result<Self, String> {
        let (zone, spec) = match text.strip_prefix("CRON_TZ=").or_else(|| text.strip_prefix("TZ=")) {
            None => (Zone::UTC, text),
            Some(rest) => {
                let (name, spec) =
                    rest.split_once(' ').ok_or("a time zone must be followed by a space and a schedule")?;
                let zone = Zone::named(name).ok_or_else(|| format!("there is no time zone \"{name}\""))?;
                (zone, spec.trim())
            }
        };
        if let Some(every) = spec.strip_prefix("@every ") {
            let nanos = go_duration::parse(every).ok_or("@every needs an interval such as 90s, 1.5h or 1h30m")?;
            return Ok(Self::Every { interval_s: (nanos / 1_000_000_000).max(1) });
        }
        let fields = match spec {
            "@yearly" | "@annually" => "0 0 1 1 *",
            "@monthly" => "0 0 1 * *",
            "@weekly" => "0 0 * * 0",
            "@daily" | "@midnight" => "0 0 * * *",
            "@hourly" => "0 * * * *",
            _ if spec.starts_with('@') => return Err(format!("\"{spec}\" is not known")),
            fields => fields,
        };
        Ok(Self::Fields { fields: Box::new(Fields::parse(fields)?), zone })
    }

    /// The first full second after `after` at which it is due, both in seconds since the Unix epoch; none if it never is. An
    /// interval counts from `after`.
    fn next(&self, after: i64) -> Option<i64> {
        match self {
            Self::Every { interval_s } => after.checked_add(*interval_s),
            Self::Fields { fields, zone } => next::next(fields, *zone, after),
        }
    }

    /// How long from `now` until it is due next after a run that was due at `due` (for a first run, now), in whole seconds and as
    /// milliseconds; none if it never is. Intervals count from `due`, and those that have passed meanwhile are left out. Both are
    /// milliseconds since the Unix epoch.
    pub fn delay_ms(&self, due: i64, now: i64) -> Option<i64> {
        let (due_s, now_s) = (due.div_euclid(1000), now.div_euclid(1000) + i64::from(now.rem_euclid(1000) > 0));
        let next_ms = match self {
            _ if now < due => due,
            Self::Every { interval_s } => {
                let passed = (now_s - due_s + interval_s - 1).div_euclid(*interval_s).max(1);
                due_s.checked_add(passed.checked_mul(*interval_s)?)?.checked_mul(1000)?
            }
            Self::Fields { .. } => self.next(due_s.max(now_s - 1))?.checked_mul(1000)?,
        };
        Some((next_ms - now + 999).div_euclid(1000) * 1000)
    }
}

/// As [`Schedule::delay_ms`], of a schedule that is not read yet; none if it is none.
pub fn delay_ms(text: &str, due: i64, now: i64) -> Option<i64> {
    if text.is_empty() { None } else { Schedule::parse(text).ok()?.delay_ms(due, now) }
}

/// What is wrong with a schedule at `now` (milliseconds since the Unix epoch), if anything: it can't be read, or its dates never
/// come. An empty one is none at all.
pub fn problem(text: &str, now: i64) -> Option<String> {
    if text.is_empty() {
        return None;
    }
    match Schedule::parse(text).map(|schedule| schedule.delay_ms(now, now)) {
        Ok(Some(_)) => None,
        Ok(None) => Some("invalid CronSchedule, no time can be found to satisfy the schedule".into()),
        Err(why) => Some(why),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What robfig/cron v3.0.1 answers: the instants, in seconds since the Unix epoch; for each schedule how many seconds after
    /// each of them it is due, or `-`; and what it refuses.
    const TABLE: &str = include_str!("robfig.txt");

    #[test]
    fn is_due_when_robfig_s_is() {
        let (mut at, mut schedules, mut wrong) = (Vec::new(), 0, Vec::new());
        for line in TABLE.lines() {
            let numbers = |text: &str| text.split(' ').map(|n| n.parse::<i64>().ok()).collect::<Vec<_>>();
            if let Some(instants) = line.strip_prefix("at ") {
                at = numbers(instants);
            } else if let Some((spec, due)) = line.strip_prefix("next [").and_then(|rest| rest.rsplit_once("] ")) {
                let spec = spec.replace("\\t", "\t");
                let schedule = Schedule::parse(&spec).unwrap();
                schedules += 1;
                for (at, due) in at.iter().flatten().zip(numbers(due)) {
                    let ours = schedule.next(*at).map(|next| next - at);
                    if ours != due {
                        wrong.push(format!("{spec} after {at}: {due:?}, ours {ours:?}"));
                    }
                }
            }
        }
        assert!(schedules >= 200 && at.len() == 20);
        assert!(wrong.is_empty(), "{} wrong: {wrong:#?}", wrong.len());
    }

    #[test]
    fn refuses_what_robfig_s_refuses() {
        let refused: Vec<_> =
            TABLE.lines().filter_map(|line| line.strip_prefix("refused [")?.strip_suffix(']')).collect();
        assert!(refused.len() > 50);
        for spec in refused {
            let spec = spec.replace("\\t", "\t");
            let error = Schedule::parse(&spec).err().unwrap_or_else(|| panic!("accepted: {spec}"));
            assert!(error.starts_with("invalid CronSchedule. "), "{error}");
        }
    }

    #[test]
    fn dates_that_never_come_are_refused() {
        let never = problem("0 0 31 2 *", 0);
        assert_eq!(never.as_deref(), Some("invalid CronSchedule, no time can be found to satisfy the schedule"));
        assert_eq!(problem("0 0 29 2 *", 0), None);
    }

    #[test]
    fn intervals_count_from_when_the_last_run_was_due() {
        let every = Schedule::parse("@every 1h").unwrap();
        let minutes = |n: i64| n * 60_000;
        assert_eq!(every.delay_ms(0, 0), Some(minutes(60)));
        // Runs of ten minutes leave fifty.
        assert_eq!(every.delay_ms(minutes(60), minutes(70)), Some(minutes(50)));
        // One of two hours and a half leaves the next out.
        assert_eq!(every.delay_ms(0, minutes(150)), Some(minutes(30)));
        assert_eq!(every.delay_ms(0, minutes(120)), Some(0));
        // A run that ended before it was due leaves its own time to the next.
        assert_eq!(every.delay_ms(minutes(60), minutes(59)), Some(minutes(1)));
    }

    #[test]
    fn delays_are_whole_seconds() {
        let daily = Schedule::parse("@daily").unwrap();
        assert_eq!(daily.delay_ms(400, 400), Some(86_400_000));
        assert_eq!(daily.delay_ms(0, 86_400_001), Some(86_400_000));
    }
}
