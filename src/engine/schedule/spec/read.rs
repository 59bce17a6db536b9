//! Calendars and cron strings as texts: what a field allows is a list of numbers, names, ranges and steps.

use crate::engine::go_duration;
use crate::proto::temporal::schedule::v1::{CalendarSpec, IntervalSpec, Range, StructuredCalendarSpec};

use super::calendar::{YEAR_MAX, YEAR_MIN};

/// A field of a calendar, with the name that errors have for it.
struct Field {
    name: &'static str,
    min: i32,
    max: i32,
    /// What it is if it is left out.
    default: &'static str,
    /// The names of its numbers, from `min` on, of which so many letters are enough.
    names: (&'static [&'static str], usize),
}

const fn numbers(name: &'static str, min: i32, max: i32, default: &'static str) -> Field {
    Field { name, min, max, default, names: (&[], 0) }
}

const SECOND: Field = numbers("Second", 0, 59, "0");
const MINUTE: Field = numbers("Minute", 0, 59, "0");
const HOUR: Field = numbers("Hour", 0, 23, "0");
const DAY_OF_MONTH: Field = numbers("DayOfMonth", 1, 31, "*");
const YEAR: Field = numbers("Year", YEAR_MIN, YEAR_MAX, "*");
const MONTH: Field = Field { names: (&MONTHS, 3), ..numbers("Month", 1, 12, "*") };
/// Sunday is 0, and 7 too.
const DAY_OF_WEEK: Field = Field { names: (&DAYS, 2), ..numbers("DayOfWeek", 0, 7, "*") };

const MONTHS: [&str; 12] = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
];
const DAYS: [&str; 7] = ["sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"];

/// What a cron string stands for.
pub struct Cron {
    pub when: When,
    /// Empty: it names no time zone.
    pub zone: String,
}

pub enum When {
    Calendar(StructuredCalendarSpec),
    Interval(IntervalSpec),
}

/// Reads a calendar of texts; the error names all that is wrong with it.
pub fn calendar(spec: &CalendarSpec) -> Result<StructuredCalendarSpec, String> {
    let mut wrong = Vec::new();
    let mut read = |field: &Field, text: &str| {
        field.read(text).unwrap_or_else(|why| {
            wrong.push(why);
            Vec::new()
        })
    };
    let calendar = StructuredCalendarSpec {
        second: read(&SECOND, &spec.second),
        minute: read(&MINUTE, &spec.minute),
        hour: read(&HOUR, &spec.hour),
        day_of_week: read(&DAY_OF_WEEK, &spec.day_of_week),
        day_of_month: read(&DAY_OF_MONTH, &spec.day_of_month),
        month: read(&MONTH, &spec.month),
        year: read(&YEAR, &spec.year),
        comment: spec.comment.clone(),
    };
    if wrong.is_empty() { Ok(calendar) } else { Err(wrong.join(", ")) }
}

/// Reads a cron string: 5 to 7 fields, `@daily` and the like or `@every 1h/5m`, each after `CRON_TZ=` or `TZ=` and the name of a
/// time zone, and before `#` and a comment.
pub fn cron(text: &str) -> Result<Cron, String> {
    let mut text = text.trim();
    let mut zone = "";
    if let Some(rest) = text.strip_prefix("TZ=").or_else(|| text.strip_prefix("CRON_TZ=")) {
        (zone, text) = rest.split_once(' ').ok_or("CronString has time zone but missing fields")?;
    }
    let (text, comment) = text.split_once('#').unwrap_or((text, ""));
    let (text, comment) = (text.trim(), comment.trim());
    if let Some(every) = text.strip_prefix("@every") {
        // An interval has no time zone: the one that is named is left out of account.
        return Ok(Cron { when: When::Interval(interval(every)?), zone: String::new() });
    }
    let text = match text {
        "@yearly" | "@annually" => "0 0 1 1 *",
        "@monthly" => "0 0 1 * *",
        "@weekly" => "0 0 * * 0",
        "@daily" | "@midnight" => "0 0 * * *",
        "@hourly" => "0 * * * *",
        fields => fields,
    };
    let fields: Vec<&str> = text.split_whitespace().take(8).collect();
    let (second, rest, year) = match &fields[..] {
        rest @ [_, _, _, _, _] => ("", rest, ""),
        [rest @ .., year] if rest.len() == 5 => ("", rest, *year),
        [second, rest @ .., year] if rest.len() == 5 => (*second, rest, *year),
        _ => return Err("CronString does not have 5-7 fields".into()),
    };
    let spec = CalendarSpec {
        second: second.into(),
        minute: rest[0].into(),
        hour: rest[1].into(),
        day_of_month: rest[2].into(),
        month: rest[3].into(),
        day_of_week: rest[4].into(),
        year: year.into(),
        comment: comment.into(),
    };
    Ok(Cron { when: When::Calendar(calendar(&spec)?), zone: zone.into() })
}

/// What follows `@every`: an interval, and after a slash by how much it is moved.
fn interval(text: &str) -> Result<IntervalSpec, String> {
    let (_, text) = text.split_once(' ').ok_or("CronString does not have interval after @every")?;
    let (interval, phase) = text.split_once('/').unwrap_or((text, ""));
    let duration = |text: &str| {
        let nanos = go_duration::parse_with_days(text).ok_or_else(|| go_duration::problem(text))?;
        Ok::<_, String>(prost_types::Duration { seconds: nanos / 1_000_000_000, nanos: (nanos % 1_000_000_000) as i32 })
    };
    let interval = Some(duration(interval)?);
    let phase = if phase.is_empty() { None } else { Some(duration(phase)?) };
    Ok(IntervalSpec { interval, phase })
}

impl Field {
    /// The ranges of a list. All years are none.
    fn read(&self, text: &str) -> Result<Vec<Range>, String> {
        let text = match text.trim() {
            "" => self.default,
            text => text,
        };
        if text == "*" && self.name == YEAR.name {
            return Ok(Vec::new());
        }
        let mut ranges = Vec::new();
        for part in text.split(',') {
            self.read_range(part, &mut ranges)?;
        }
        Ok(ranges)
    }

    /// `*`, `5`, `5-10`, each with a step: `5/15` goes on to the end.
    fn read_range(&self, text: &str, ranges: &mut Vec<Range>) -> Result<(), String> {
        let Self { name, min, max, .. } = *self;
        let (ends, step) = match text.split_once('/') {
            None => (text, None),
            Some((_, step)) if step.contains('/') => return Err(format!("{name} has too many slashes")),
            Some((_, "")) => return Err(format!("{name} missing step value")),
            Some((ends, step)) => (ends, Some(number(step).map_err(|why| atoi(step, why))?)),
        };
        if step.is_some_and(|step| step < 1) {
            return Err(format!("{name} has invalid Step"));
        }
        let (start, mut end) = match ends.split_once('-') {
            _ if ends == "*" => (min, max),
            Some((_, high)) if high.contains('-') => return Err(format!("{name} has too many dashes")),
            Some((low, high)) => {
                let start = self.value(low, min);
                let start = start.ok_or_else(|| format!("{name} Start is not in range [{min}-{max}]"))?;
                let end = self.value(high, start);
                (start, end.ok_or_else(|| format!("{name} End is before Start or not in range [{min}-{max}]"))?)
            }
            None => {
                let start = self.value(ends, min);
                let start = start.ok_or_else(|| format!("{name} is not in range [{min}-{max}]"))?;
                (start, if step.is_some() { max } else { start })
            }
        };
        let step = step.map_or(1, |step| i32::try_from(step).unwrap_or(i32::MAX));
        if self.name == DAY_OF_WEEK.name && end == 7 {
            // Sunday, as 7, is in the range from 0 to 6 already, or is added as 0.
            if (7 - start) % step == 0 && (step > 1 || start > 1) {
                ranges.push(Range::default());
                if start == 7 {
                    return Ok(());
                }
            }
            end = 6;
        }
        let end = if start == end { 0 } else { end };
        ranges.push(Range { start, end, step: if step == 1 { 0 } else { step } });
        Ok(())
    }

    /// A number or a name, from `min` on.
    fn value(&self, text: &str, min: i32) -> Option<i32> {
        let (names, letters) = self.names;
        let by_name = || {
            let name = text.to_ascii_lowercase();
            let index = names.iter().position(|full| full.starts_with(&name))?;
            Some(index as i32 + self.min)
        };
        let named = if !names.is_empty() && text.len() >= letters { by_name() } else { None };
        let value = named.or_else(|| i32::try_from(number(text).ok()?).ok())?;
        (min..=self.max).contains(&value).then_some(value)
    }
}

enum NotANumber {
    Syntax,
    Range,
}

/// A decimal number, with or without a sign.
fn number(text: &str) -> Result<i64, NotANumber> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(NotANumber::Syntax);
    }
    text.parse().map_err(|_| NotANumber::Range)
}

/// In the words of Go, and so of Temporal's server.
fn atoi(text: &str, why: NotANumber) -> String {
    let why = match why {
        NotANumber::Syntax => "invalid syntax",
        NotANumber::Range => "value out of range",
    };
    format!("strconv.Atoi: parsing \"{text}\": {why}")
}
