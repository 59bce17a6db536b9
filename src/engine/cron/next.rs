//! When fields are due next: from the largest field to the smallest, each is moved on until it fits, and what it wraps around into
//! is looked at again. Where clocks are changed this finds what robfig/cron finds, which Temporal's server uses.

use super::fields::Fields;
use crate::engine::zone::{Shown, Zone};
use chrono::{Datelike, Months};

/// Dates that don't come within so many years never do.
const YEARS: i32 = 5;

const MINUTE: i64 = 60;
const HOUR: i64 = 3600;

/// The search's place. Once anything has been moved on, what is smaller starts from its beginning.
struct Search<'a> {
    fields: &'a Fields,
    zone: Zone,
    at: i64,
    moved: bool,
}

/// Whether a larger field has to be looked at again.
enum Moved {
    Fits,
    Wrapped,
}

/// The first second after `after` at which the fields are due.
pub fn next(fields: &Fields, zone: Zone, after: i64) -> Option<i64> {
    if fields.minutes.is_empty() || fields.hours.is_empty() {
        return None;
    }
    let mut search = Search { fields, zone, at: after + 1, moved: false };
    let last_year = search.shown()?.date.year() + YEARS;
    while search.shown()?.date.year() <= last_year {
        if let Moved::Fits = search.month()?
            && let Moved::Fits = search.day()?
            && let Moved::Fits = search.hour()?
            && let Moved::Fits = search.minute()?
            && let Moved::Fits = search.second()?
        {
            return Some(search.at);
        }
    }
    None
}

impl Search<'_> {
    fn shown(&self) -> Option<Shown> {
        self.zone.shows(self.at)
    }

    fn month(&mut self) -> Option<Moved> {
        loop {
            let date = self.shown()?.date;
            if self.fields.months.has(date.month()) {
                return Some(Moved::Fits);
            }
            self.moved = true;
            let next = date.with_day(1)?.checked_add_months(Months::new(1))?;
            self.at = self.zone.at(next, 0, 0)?;
            if next.month() == 1 {
                return Some(Moved::Wrapped);
            }
        }
    }

    fn day(&mut self) -> Option<Moved> {
        loop {
            let mut shown = self.shown()?;
            if self.fields.has_day(shown.date.day(), shown.date.weekday().num_days_from_sunday()) {
                return Some(Moved::Fits);
            }
            if !self.moved {
                self.moved = true;
                self.at = self.zone.at(shown.date, 0, 0)?;
                shown = self.shown()?;
            }
            self.at = self.zone.at(shown.date.succ_opt()?, shown.hour, shown.minute)?;
            // Some clocks have no midnight on the day on which they are changed.
            match i64::from(self.shown()?.hour) {
                0 => {}
                hour if hour > 12 => self.at += (24 - hour) * HOUR,
                hour => self.at -= hour * HOUR,
            }
            if self.shown()?.date.day() == 1 {
                return Some(Moved::Wrapped);
            }
        }
    }

    fn hour(&mut self) -> Option<Moved> {
        loop {
            let shown = self.shown()?;
            if self.fields.hours.has(shown.hour) {
                return Some(Moved::Fits);
            }
            if !self.moved {
                self.moved = true;
                self.at = self.zone.at(shown.date, shown.hour, 0)?;
            }
            self.at += HOUR;
            if self.shown()?.hour == 0 {
                return Some(Moved::Wrapped);
            }
        }
    }

    fn minute(&mut self) -> Option<Moved> {
        loop {
            if self.fields.minutes.has(self.shown()?.minute) {
                return Some(Moved::Fits);
            }
            if !self.moved {
                self.moved = true;
                self.at -= self.at.rem_euclid(MINUTE);
            }
            self.at += MINUTE;
            if self.shown()?.minute == 0 {
                return Some(Moved::Wrapped);
            }
        }
    }

    /// Schedules are due at full minutes.
    fn second(&mut self) -> Option<Moved> {
        let second = i64::from(self.shown()?.second);
        if second == 0 {
            return Some(Moved::Fits);
        }
        self.moved = true;
        self.at += MINUTE - second;
        Some(Moved::Wrapped)
    }
}
