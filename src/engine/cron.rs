//! Cron schedules, as Temporal's server reads them: five fields, `@daily` and the like, `@every 90s`, and `CRON_TZ=UTC`.

use croner::Cron;

use chrono::{DateTime, TimeZone, Utc};

/// When a cron workflow runs.
pub enum Schedule {
    Every { interval_ms: i64 },
    Fields(Box<Cron>),
}

impl Schedule {
    /// Reads a schedule; the error says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| format!("Invalid CronSchedule \"{text}\": {why}");
        let mut spec = text.trim();
        for prefix in ["CRON_TZ=", "TZ="] {
            if let Some(rest) = spec.strip_prefix(prefix) {
                let (zone, rest) =
                    rest.split_once(' ').ok_or_else(|| wrong("a time zone must be followed by a schedule"))?;
                if !matches!(zone, "UTC" | "Etc/UTC" | "GMT") {
                    return Err(wrong("only the time zone UTC is supported"));
                }
                spec = rest.trim();
            }
        }
        if let Some(every) = spec.strip_prefix("@every ") {
            let interval_ms = parse_interval(every.trim())
                .ok_or_else(|| wrong("@every needs an interval such as 90s, 5m or 1h30m"))?;
            return Ok(Self::Every { interval_ms: (interval_ms / 1000).max(1) * 1000 });
        }
        if !spec.starts_with('@') && spec.split_whitespace().count() != 5 {
            return Err(wrong("expected exactly 5 fields: minute, hour, day of month, month, day of week"));
        }
        let cron: Cron = spec.parse().map_err(|error| wrong(&format!("{error}")))?;
        Ok(Self::Fields(Box::new(cron)))
    }

    /// The first time after `now` at which it is due, in milliseconds since the Unix epoch. An interval counts from `start`.
    pub fn next_after(&self, start: i64, now: i64) -> Option<i64> {
        match self {
            Self::Every { interval_ms } => {
                let passed = (now - start).max(0) / interval_ms;
                Some(start + (passed + 1) * interval_ms)
            }
            Self::Fields(cron) => {
                let now: DateTime<Utc> = Utc.timestamp_millis_opt(now).single()?;
                cron.find_next_occurrence(&now, false).ok().map(|next| next.timestamp_millis())
            }
        }
    }
}

/// Reads an interval such as `1h30m` or `500ms`; none if it is not one, or not positive.
fn parse_interval(text: &str) -> Option<i64> {
    let mut rest = text;
    let mut total = 0_i64;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let number: i64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let unit = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let scale = match &rest[..unit] {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            _ => return None,
        };
        total = total.checked_add(number.checked_mul(scale)?)?;
        rest = &rest[unit..];
    }
    (total > 0).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_fields_names_and_intervals() {
        let next = |text: &str, now| Schedule::parse(text).unwrap().next_after(0, now);
        assert_eq!(next("*/5 * * * *", 1), Some(300_000));
        assert_eq!(next("@hourly", 1), Some(3_600_000));
        assert_eq!(next("@every 90s", 90_000), Some(180_000));
        assert_eq!(next("CRON_TZ=UTC 0 0 * * *", 1), Some(86_400_000));
    }

    #[test]
    fn says_what_is_wrong() {
        for bad in [
            "",
            "* * * *",
            "61 * * * *",
            "@every",
            "@every 0s",
            "@every soon",
            "CRON_TZ=Mars/Base * * * * *",
            "@nonsense",
        ] {
            assert!(Schedule::parse(bad).is_err(), "{bad}");
        }
    }
}
