//! Clocks on walls: what they show at an instant, and the instant at which they show something. Instants are seconds since the
//! Unix epoch.

use chrono::{DateTime, NaiveDate, Offset, TimeZone, Timelike};
use chrono_tz::Tz;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Zone(Tz);

/// What a clock shows.
pub struct Shown {
    pub date: NaiveDate,
    pub hour: u32,
    pub minute: u32,
    pub second: u32,
}

impl Zone {
    pub const UTC: Self = Self(Tz::UTC);

    /// By its name in the time zone database, with upper and lower case as there. The server's own zone is UTC.
    pub fn named(name: &str) -> Option<Self> {
        if matches!(name, "" | "Local") { Some(Self::UTC) } else { name.parse().ok().map(Self) }
    }

    pub fn shows(self, at: i64) -> Option<Shown> {
        let local = DateTime::from_timestamp(at.checked_add(self.offset(at)?)?, 0)?;
        Some(Shown { date: local.date_naive(), hour: local.hour(), minute: local.minute(), second: local.second() })
    }

    /// The instant at which the clock shows this. One that is left out, or comes twice, as clocks are changed, is taken
    /// as Go takes it: by the offset that is in force at the time that it would be by the offset at that time in UTC.
    pub fn at(self, date: NaiveDate, hour: u32, minute: u32) -> Option<i64> {
        self.at_second(date, hour, minute, 0)
    }

    pub fn at_second(self, date: NaiveDate, hour: u32, minute: u32, second: u32) -> Option<i64> {
        let local = date.and_hms_opt(hour, minute, second)?.and_utc().timestamp();
        match self.offset(local)? {
            0 => Some(local),
            guess => Some(local - self.offset(local - guess)?),
        }
    }

    fn offset(self, at: i64) -> Option<i64> {
        let utc = DateTime::from_timestamp(at, 0)?.naive_utc();
        Some(i64::from(self.0.offset_from_utc_datetime(&utc).fix().local_minus_utc()))
    }
}
