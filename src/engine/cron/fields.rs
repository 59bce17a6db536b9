//! The five fields of a schedule: minute, hour, day of month, month, day of week. Each is a list of numbers, names, ranges and
//! steps, read as robfig/cron reads them, which Temporal's server uses.

/// What a field allows: a bit for each number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Set {
    bits: u64,
    /// It has a star with no step above 1: it does not restrict its days, whatever else the list has.
    star: bool,
}

impl Set {
    /// Of a list that has commas only.
    pub fn is_empty(self) -> bool {
        self.bits == 0
    }

    pub fn has(self, number: u32) -> bool {
        self.bits >> number & 1 == 1
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fields {
    pub minutes: Set,
    pub hours: Set,
    pub days: Set,
    pub months: Set,
    pub weekdays: Set,
}

/// The numbers and names that a field can have.
struct Bounds {
    min: u32,
    max: u32,
    names: &'static [&'static str],
}

const MINUTES: Bounds = Bounds { min: 0, max: 59, names: &[] };
const HOURS: Bounds = Bounds { min: 0, max: 23, names: &[] };
const DAYS: Bounds = Bounds { min: 1, max: 31, names: &[] };
const MONTHS: Bounds = Bounds {
    min: 1,
    max: 12,
    names: &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"],
};
const WEEKDAYS: Bounds = Bounds { min: 0, max: 6, names: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"] };

impl Fields {
    /// Reads five fields; the error names what is wrong with one.
    pub fn parse(spec: &str) -> Result<Self, String> {
        let fields: Vec<&str> = spec.split_whitespace().collect();
        let [minutes, hours, days, months, weekdays] = fields[..] else {
            return Err(format!(
                "expected exactly 5 fields (minute, hour, day of month, month, day of week), found {}",
                fields.len()
            ));
        };
        Ok(Self {
            minutes: MINUTES.parse(minutes)?,
            hours: HOURS.parse(hours)?,
            days: DAYS.parse(days)?,
            months: MONTHS.parse(months)?,
            weekdays: WEEKDAYS.parse(weekdays)?,
        })
    }

    /// A day has to be right by both fields, but if both are restricted, by one of them.
    pub fn has_day(&self, day: u32, weekday: u32) -> bool {
        let (by_day, by_weekday) = (self.days.has(day), self.weekdays.has(weekday));
        if self.days.star || self.weekdays.star { by_day && by_weekday } else { by_day || by_weekday }
    }
}

impl Bounds {
    fn parse(&self, list: &str) -> Result<Set, String> {
        let mut set = Set { bits: 0, star: false };
        for range in list.split(',').filter(|range| !range.is_empty()) {
            let (bits, star) = self.range(range)?;
            set.bits |= bits;
            set.star |= star;
        }
        Ok(set)
    }

    /// `*`, `?`, `5`, `5-10`, each with a step: `5/15` goes on to the end.
    fn range(&self, range: &str) -> Result<(u64, bool), String> {
        let (ends, step) = match range.split_once('/') {
            None => (range, None),
            Some((_, step)) if step.contains('/') => return Err(format!("too many slashes: {range}")),
            Some((ends, step)) => (ends, Some(number(step)?)),
        };
        let mut parts = ends.split('-');
        let low = parts.next().unwrap_or_default();
        let (high, more) = (parts.next(), parts.next().is_some());
        let star = low == "*" || low == "?";
        let (start, mut end) = match high {
            _ if star => (u64::from(self.min), u64::from(self.max)),
            _ if more => return Err(format!("too many hyphens: {range}")),
            Some(high) => (self.number(low)?, self.number(high)?),
            None => (self.number(low)?, self.number(low)?),
        };
        if step.is_some() && high.is_none() {
            end = u64::from(self.max);
        }
        let step = step.unwrap_or(1);
        if start < u64::from(self.min) {
            return Err(format!("{start} is below the least, {}: {range}", self.min));
        }
        if end > u64::from(self.max) {
            return Err(format!("{end} is above the most, {}: {range}", self.max));
        }
        if start > end {
            return Err(format!("{start} is beyond the end of its range, {end}: {range}"));
        }
        if step == 0 {
            return Err(format!("a step must be positive: {range}"));
        }
        let bits = (start..=end).filter(|n| (n - start).is_multiple_of(step)).fold(0, |bits, n| bits | 1 << n);
        Ok((bits, star && step == 1))
    }

    fn number(&self, text: &str) -> Result<u64, String> {
        match self.names.iter().position(|name| name.eq_ignore_ascii_case(text)) {
            Some(index) => Ok(index as u64 + u64::from(self.min)),
            None => number(text),
        }
    }
}

/// A decimal number, with or without a plus.
fn number(text: &str) -> Result<u64, String> {
    let digits = text.strip_prefix('+').unwrap_or(text);
    let number = digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse::<i64>().ok()).flatten();
    number.map(|n| n as u64).ok_or_else(|| format!("\"{text}\" is not a number"))
}
