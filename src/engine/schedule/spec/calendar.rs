//! When calendars match. Where clocks are changed this finds what Temporal's server finds, whose answers are tests of this.

use chrono::{Datelike, Months, NaiveDate};

use crate::engine::zone::Zone;
use crate::proto::temporal::schedule::v1::{Range, StructuredCalendarSpec};

/// The years that a calendar can name; a later one is never due.
pub const YEAR_MIN: i32 = 2000;
pub const YEAR_MAX: i32 = 2100;

const MINUTE: i64 = 60;
const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;

const ALL_OF_60: u64 = (1 << 60) - 1;
const ALL_OF_24: u64 = (1 << 24) - 1;

/// A calendar that is ready to be asked.
#[derive(Clone, Debug)]
pub struct Calendar {
    zone: Zone,
    seconds: Set,
    minutes: Set,
    hours: Set,
    days: Set,
    months: Set,
    weekdays: Set,
    years: Vec<Range>,
}

/// A bit for each number.
#[derive(Clone, Copy, Debug)]
struct Set(u64);

impl Set {
    fn new(ranges: &[Range]) -> Self {
        let numbers = ranges.iter().flat_map(|range| numbers(*range));
        Self(numbers.filter(|number| (0..64).contains(number)).fold(0, |bits, number| bits | 1 << number))
    }

    fn has(self, number: u32) -> bool {
        self.0 >> number & 1 == 1
    }

    /// The first number from one on, below a limit.
    fn first(self, from: u32, limit: u32) -> Option<u32> {
        (from..limit).find(|number| self.has(*number))
    }
}

/// The numbers of a range: an end before the start, and no step, are not set.
fn numbers(range: Range) -> impl Iterator<Item = i32> {
    let step = usize::try_from(range.step).unwrap_or(0).max(1);
    (range.start..=range.end.max(range.start)).step_by(step)
}

/// What a clock shows, field by field. While clocks are set back an hour is shown twice.
#[derive(Clone, Copy)]
struct Clock {
    date: NaiveDate,
    hour: u32,
    minute: u32,
    second: u32,
    /// It is the second time that the hour is shown.
    repeated: bool,
}

impl Calendar {
    pub fn new(spec: &StructuredCalendarSpec, zone: Zone) -> Self {
        Self {
            zone,
            seconds: Set::new(&spec.second),
            minutes: Set::new(&spec.minute),
            hours: Set::new(&spec.hour),
            days: Set::new(&spec.day_of_month),
            months: Set::new(&spec.month),
            weekdays: Set::new(&spec.day_of_week),
            years: spec.year.clone(),
        }
    }

    /// Whether it matches a second since the Unix epoch.
    pub fn matches(&self, at: i64) -> bool {
        let Some(shown) = self.zone.shows(at) else { return false };
        self.has_date(shown.date)
            && self.has_weekday(shown.date)
            && self.hours.has(shown.hour)
            && self.minutes.has(shown.minute)
            && self.seconds.has(shown.second)
    }

    fn has_year(&self, year: i32) -> bool {
        self.years.is_empty() || self.years.iter().any(|range| numbers(*range).any(|number| number == year))
    }

    /// Whether a date is one that it names, if not by its day of the week.
    fn has_date(&self, date: NaiveDate) -> bool {
        self.has_year(date.year()) && self.months.has(date.month()) && self.days.has(date.day())
    }

    fn has_weekday(&self, date: NaiveDate) -> bool {
        self.weekdays.has(date.weekday().num_days_from_sunday())
    }

    /// From a second that it matches on, the end of the minute, hour or day all of which it matches. Seconds since the Unix epoch.
    pub fn matches_until(&self, at: i64) -> Option<i64> {
        let shown = self.zone.shows(at)?;
        let of_minute = i64::from(shown.second);
        let of_hour = i64::from(shown.minute) * MINUTE + of_minute;
        let of_day = i64::from(shown.hour) * HOUR + of_hour;
        // Clocks may be changed within the hour or the day.
        let ends = |passed: i64, whole: i64| {
            let end = at - passed + whole;
            let last = self.zone.shows(end - 1)?;
            let passed = i64::from(last.hour) * HOUR + i64::from(last.minute) * MINUTE + i64::from(last.second);
            (last.date == shown.date && passed - of_day == end - 1 - at).then_some(end)
        };
        match (self.seconds.0 == ALL_OF_60, self.minutes.0 == ALL_OF_60, self.hours.0 == ALL_OF_24) {
            (true, true, true) => ends(of_day, DAY).or_else(|| ends(of_hour, HOUR)),
            (true, true, false) => ends(of_hour, HOUR),
            (true, false, _) => ends(of_minute, MINUTE),
            (false, ..) => None,
        }
    }

    /// The first second after `after` that it matches, both since the Unix epoch; none if it never does.
    pub fn next(&self, after: i64) -> Option<i64> {
        let sets = [self.seconds, self.minutes, self.hours, self.days, self.months, self.weekdays];
        if sets.iter().any(|set| set.0 == 0) {
            return None;
        }
        let shown = self.zone.shows(after)?;
        let mut clock = Clock {
            date: shown.date,
            hour: shown.hour,
            minute: shown.minute,
            second: shown.second,
            repeated: self.zone.shows(after - HOUR)?.hour == shown.hour,
        };
        self.add_second(&mut clock)?;
        loop {
            self.move_to_match(&mut clock)?;
            let at = self.zone.at_second(clock.date, clock.hour, clock.minute, clock.second)?;
            if self.zone.shows(at)?.hour == clock.hour {
                return Some(at + if clock.repeated { HOUR } else { 0 });
            }
            // No clock shows this hour, as clocks are set forward past it.
            let hour = clock.hour + 1;
            to_hour(&mut clock, hour)?;
        }
    }

    /// Moves to the first match from here on; none: there is none.
    fn move_to_match(&self, clock: &mut Clock) -> Option<()> {
        loop {
            self.move_to_date(clock)?;
            match self.hours.first(clock.hour, 24) {
                None => {
                    to_hour(clock, 24)?;
                    continue;
                }
                Some(hour) if hour != clock.hour => to_hour(clock, hour)?,
                Some(_) => {}
            }
            match self.minutes.first(clock.minute, 60) {
                None => {
                    self.to_next_hour(clock)?;
                    continue;
                }
                Some(minute) if minute != clock.minute => (clock.minute, clock.second) = (minute, 0),
                Some(_) => {}
            }
            match self.seconds.first(clock.second, 60) {
                None => {
                    clock.second = 59;
                    self.add_second(clock)?;
                }
                Some(second) => {
                    clock.second = second;
                    return Some(());
                }
            }
        }
    }

    /// Moves to the first day from here on that matches.
    fn move_to_date(&self, clock: &mut Clock) -> Option<()> {
        while clock.date.year() <= YEAR_MAX {
            let date = clock.date;
            let next = if !self.has_year(date.year()) {
                NaiveDate::from_ymd_opt(date.year() + 1, 1, 1)?
            } else if !self.months.has(date.month()) {
                date.with_day(1)?.checked_add_months(Months::new(1))?
            } else if !self.has_date(date) || !self.has_weekday(self.date_shown(clock)?) {
                date.succ_opt()?
            } else {
                return Some(());
            };
            *clock = Clock { date: next, hour: 0, minute: 0, second: 0, repeated: false };
        }
        None
    }

    /// The date that clocks show then. A day that begins later than at midnight is shown as the one before, as on the server.
    fn date_shown(&self, clock: &Clock) -> Option<NaiveDate> {
        let at = self.zone.at_second(clock.date, clock.hour, clock.minute, clock.second)?;
        Some(self.zone.shows(at)?.date)
    }

    fn add_second(&self, clock: &mut Clock) -> Option<()> {
        clock.second += 1;
        if clock.second == 60 {
            (clock.minute, clock.second) = (clock.minute + 1, 0);
        }
        if clock.minute == 60 { self.to_next_hour(clock) } else { Some(()) }
    }

    /// To the hour that follows as time goes by, which is the same one again while clocks are set back.
    fn to_next_hour(&self, clock: &mut Clock) -> Option<()> {
        let begin = self.zone.at(clock.date, clock.hour, 0)?;
        let mut next = *clock;
        to_hour(&mut next, clock.hour + 1)?;
        let end = self.zone.at(next.date, next.hour, 0)?;
        if !clock.repeated && end - begin > HOUR {
            (clock.minute, clock.second, clock.repeated) = (0, 0, true);
        } else {
            *clock = next;
        }
        Some(())
    }
}

/// To the beginning of an hour of the day; the 24th is the first of the next.
fn to_hour(clock: &mut Clock, hour: u32) -> Option<()> {
    let (date, hour) = if hour < 24 { (clock.date, hour) } else { (clock.date.succ_opt()?, 0) };
    *clock = Clock { date, hour, minute: 0, second: 0, repeated: false };
    Some(())
}
