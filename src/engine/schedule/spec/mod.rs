//! When schedules are due: calendars, intervals and cron strings, what is excluded, and jitter.
//!
//! Held to what Temporal's server answers for specs made at random (`matching_times.txt`), which are due to the second there too.

mod calendar;
mod read;

use calendar::{Calendar, YEAR_MAX, YEAR_MIN};
use chrono::{DateTime, Datelike};
use prost_types::{Duration, Timestamp};

use crate::engine::zone::Zone;
use crate::proto::temporal::schedule::v1::{IntervalSpec, Range, ScheduleSpec, StructuredCalendarSpec};
use crate::types::time::{duration_ms, millis_of};

/// A spec has so many calendars, exclusions and intervals at most: each is asked for each moment.
const PARTS_MAX: usize = 500;

/// The longest comment of a calendar. Bytes.
const COMMENT_BYTES_MAX: usize = 200;

/// So many spans of matches may be excluded one after the other, each of up to a day: a spec that excludes more is due no more.
/// This bounds what a decision takes; Temporal's server can bound it too, and does not by default.
const EXCLUDED_MAX: usize = 100_000;

/// A spec that is ready to be asked.
#[derive(Clone, Debug, Default)]
pub struct Spec {
    calendars: Vec<Calendar>,
    excluded: Vec<Calendar>,
    /// In seconds: how long, and by how much it is moved.
    intervals: Vec<(i64, i64)>,
    start: Option<Timestamp>,
    end: Option<Timestamp>,
    jitter_ms: i64,
    /// What distinguishes this schedule's jitter from another's.
    seed: String,
}

/// A moment at which a schedule is due. Milliseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    /// By the spec.
    pub nominal_ms: i64,
    /// With jitter.
    pub actual_ms: i64,
}

impl Spec {
    /// Of a spec in its [canonical](canonical) form; the error names what is wrong with it.
    pub fn new(spec: &ScheduleSpec, seed: String) -> Result<Self, String> {
        let zone = zone(spec)?;
        let calendars = |specs: &[StructuredCalendarSpec]| specs.iter().map(|spec| Calendar::new(spec, zone)).collect();
        let interval = |spec: &IntervalSpec| {
            let seconds = |duration: Option<Duration>| duration.map_or(0, |duration| duration.seconds);
            (seconds(spec.interval).max(1), seconds(spec.phase).max(0))
        };
        Ok(Self {
            calendars: calendars(&spec.structured_calendar),
            excluded: calendars(&spec.exclude_structured_calendar),
            intervals: spec.interval.iter().map(interval).collect(),
            start: spec.start_time,
            end: spec.end_time,
            jitter_ms: duration_ms(spec.jitter.as_ref()),
            seed,
        })
    }

    /// By how much an action may be put off, at most. Milliseconds.
    pub fn jitter_max_ms(&self) -> i64 {
        self.jitter_ms
    }

    /// When it is due next after a time, in milliseconds since the Unix epoch; none: never.
    pub fn next(&self, after_ms: i64) -> Option<Due> {
        // The first second that may be due is the one at which it starts.
        let start_s = self.start.map_or(0, |start| start.seconds);
        let mut after_s = after_ms.div_euclid(1000).max(start_s.saturating_sub(1));
        let mut excluded = 0;
        let nominal_s = loop {
            let nominal_s = self.next_match(after_s).filter(|nominal_s| !self.is_past_end(*nominal_s))?;
            let Some(excluding) = self.excluded.iter().find(|calendar| calendar.matches(nominal_s)) else {
                break nominal_s;
            };
            excluded += 1;
            if excluded == EXCLUDED_MAX {
                return None;
            }
            after_s = excluding.matches_until(nominal_s).map_or(nominal_s, |end| end - 1);
        };
        let nominal_ms = nominal_s.checked_mul(1000)?;
        Some(Due { nominal_ms, actual_ms: nominal_ms + self.jitter(nominal_s) })
    }

    /// Each moment at which it is due after one, until it is due no more.
    pub fn after(&self, after_ms: i64) -> impl Iterator<Item = Due> {
        std::iter::successors(self.next(after_ms), |due| self.next(due.actual_ms))
    }

    fn next_match(&self, after_s: i64) -> Option<i64> {
        let calendars = self.calendars.iter().filter_map(|calendar| calendar.next(after_s));
        let intervals = self.intervals.iter().filter_map(|(interval, phase)| {
            // Rounded towards zero, as the server does.
            (after_s.saturating_sub(*phase) / interval + 1).checked_mul(*interval)?.checked_add(*phase)
        });
        calendars.chain(intervals).min()
    }

    fn is_past_end(&self, at_s: i64) -> bool {
        let past = |end: Timestamp| at_s > end.seconds;
        self.end.is_some_and(past) || DateTime::from_timestamp(at_s, 0).is_none_or(|at| at.year() > YEAR_MAX)
    }

    /// By how many milliseconds a match is put off: the same ones each time, and never past the next match.
    fn jitter(&self, nominal_s: i64) -> i64 {
        let gap = self.next_match(nominal_s).map_or(i64::MAX, |following| (following - nominal_s).saturating_mul(1000));
        let max = u64::from(u32::try_from(self.jitter_ms.min(gap)).unwrap_or(u32::MAX));
        let hash = u64::from(farmhash::fingerprint32(&self.jitter_key(nominal_s)));
        ((hash * max) >> 32) as i64
    }

    /// What the server hashes: the time, as Go encodes it, and the seed.
    fn jitter_key(&self, nominal_s: i64) -> Vec<u8> {
        const VERSION: u8 = 1;
        const YEAR_1_TO_1970_S: i64 = 62_135_596_800;
        const UTC: [u8; 2] = [0xff, 0xff];
        let mut key = vec![VERSION];
        key.extend((nominal_s + YEAR_1_TO_1970_S).to_be_bytes());
        key.extend([0; 4]);
        key.extend(UTC);
        key.extend(self.seed.as_bytes());
        key
    }
}

/// The time zone of a spec's calendars.
fn zone(spec: &ScheduleSpec) -> Result<Zone, String> {
    if !spec.timezone_data.is_empty() {
        return Err("timezone_data is not supported: name a zone of the time zone database in timezone_name".into());
    }
    let name = &spec.timezone_name;
    if name.contains("..") || name.starts_with('/') || name.contains('\\') {
        return Err("time: invalid location name".into());
    }
    Zone::named(name).ok_or_else(|| format!("unknown time zone {}", spec.timezone_name))
}

/// The spec as it is kept: texts are read into calendars and intervals. The error names what is wrong with it, in the words of
/// Temporal's server.
pub fn canonical(mut spec: ScheduleSpec) -> Result<ScheduleSpec, String> {
    for interval in &spec.interval {
        check_duration("interval", interval.interval)?;
        check_duration("phase", interval.phase)?;
    }
    for calendar in std::mem::take(&mut spec.calendar) {
        spec.structured_calendar.push(read::calendar(&calendar)?);
    }
    for calendar in std::mem::take(&mut spec.exclude_calendar) {
        spec.exclude_structured_calendar.push(read::calendar(&calendar)?);
    }
    let mut zone: Option<String> = None;
    for text in std::mem::take(&mut spec.cron_string) {
        let cron = read::cron(&text)?;
        if zone.as_ref().is_some_and(|zone| *zone != cron.zone) {
            return Err(CONFLICTING_ZONES.into());
        }
        zone = Some(cron.zone);
        match cron.when {
            read::When::Calendar(calendar) => spec.structured_calendar.push(calendar),
            read::When::Interval(interval) => spec.interval.push(interval),
        }
    }
    if let Some(zone) = zone.filter(|zone| !zone.is_empty()) {
        if (!spec.timezone_name.is_empty() && spec.timezone_name != zone) || !spec.timezone_data.is_empty() {
            return Err(CONFLICTING_ZONES.into());
        }
        spec.timezone_name = zone;
    }
    // Temporal's server does not check what is excluded, and goes round in circles where that makes no sense.
    let calendars = spec.structured_calendar.iter().chain(&spec.exclude_structured_calendar);
    calendars.into_iter().try_for_each(check_calendar)?;
    spec.interval.iter().try_for_each(check_interval)?;
    self::zone(&spec)?;
    let parts = spec.structured_calendar.len() + spec.exclude_structured_calendar.len() + spec.interval.len();
    if parts > PARTS_MAX {
        return Err(format!("it has {parts} calendars, exclusions and intervals, and the limit is {PARTS_MAX}"));
    }
    Ok(spec)
}

const CONFLICTING_ZONES: &str = "conflicting timezone names";

fn check_calendar(calendar: &StructuredCalendarSpec) -> Result<(), String> {
    let mut wrong = Vec::new();
    let mut check = |ranges: &[Range], name: &str, min: i32, max: i32| {
        for range in ranges {
            if !(min..=max).contains(&range.start) {
                wrong.push(format!("{name} Start is not in range [{min}-{max}]"));
            }
            if range.end != 0 && (range.end < range.start || range.end > max) {
                wrong.push(format!("{name} End is before Start or not in range [{min}-{max}]"));
            }
            if range.step < 0 {
                wrong.push(format!("{name} has invalid Step"));
            }
        }
    };
    check(&calendar.second, "Second", 0, 59);
    check(&calendar.minute, "Minute", 0, 59);
    check(&calendar.hour, "Hour", 0, 23);
    check(&calendar.day_of_month, "DayOfMonth", 1, 31);
    check(&calendar.month, "Month", 1, 12);
    check(&calendar.year, "Year", YEAR_MIN, YEAR_MAX);
    check(&calendar.day_of_week, "DayOfWeek", 0, 6);
    if calendar.comment.len() > COMMENT_BYTES_MAX {
        wrong.push("comment is too long".into());
    }
    if wrong.is_empty() { Ok(()) } else { Err(format!("invalid calendar spec: {}", wrong.join(", "))) }
}

fn check_duration(what: &str, duration: Option<Duration>) -> Result<(), String> {
    let Some(Duration { seconds, nanos }) = duration else { return Ok(()) };
    if (seconds > 0 && nanos < 0) || (seconds < 0 && nanos > 0) {
        return Err(format!(
            "{what} is not a valid duration: proto: duration (seconds:{seconds} nanos:{nanos}) has seconds and nanos with \
             different signs"
        ));
    }
    Ok(())
}

fn check_interval(spec: &IntervalSpec) -> Result<(), String> {
    let nanos = |duration: Option<Duration>| {
        duration.map_or(0, |duration| i128::from(duration.seconds) * 1_000_000_000 + i128::from(duration.nanos))
    };
    let (interval, phase) = (nanos(spec.interval), nanos(spec.phase));
    match () {
        () if interval < 1_000_000_000 => Err("interval is too small".into()),
        () if phase < 0 => Err("phase is negative".into()),
        () if phase >= interval => Err("phase cannot be greater than Interval".into()),
        () => Ok(()),
    }
}

/// The spec as it is shown: what a range leaves out is filled in.
pub fn with_defaults(mut spec: ScheduleSpec) -> ScheduleSpec {
    let calendars = spec.structured_calendar.iter_mut().chain(&mut spec.exclude_structured_calendar);
    for calendar in calendars {
        let fields = [
            &mut calendar.second,
            &mut calendar.minute,
            &mut calendar.hour,
            &mut calendar.day_of_month,
            &mut calendar.month,
            &mut calendar.year,
            &mut calendar.day_of_week,
        ];
        for range in fields.into_iter().flatten() {
            range.end = range.end.max(range.start);
            range.step = if range.step == 0 { 1 } else { range.step };
        }
    }
    spec
}

/// The moments after `from` and up to `to`, in milliseconds since the Unix epoch, at which a spec is due: at most so many.
pub fn matching_times(spec: &Spec, from: &Timestamp, to: &Timestamp, at_most: usize) -> Vec<i64> {
    let to_ms = millis_of(to);
    spec.after(millis_of(from)).map(|due| due.actual_ms).take_while(|at| *at <= to_ms).take(at_most).collect()
}

#[cfg(test)]
mod tests;
