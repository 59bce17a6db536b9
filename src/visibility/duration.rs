//! Durations as Temporal's filters write them: nanoseconds, `2h45m`, `1.5d` or `hh:mm:ss`.

/// Nanoseconds, or nothing if the text is no duration or a longer one than 292 years.
pub(super) fn parse(text: &str) -> Option<i64> {
    if let Ok(nanos) = text.parse() {
        return Some(nanos);
    }
    let (negative, text) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let nanos = units(text).or_else(|| clock(text))?;
    Some(if negative { -nanos } else { nanos })
}

/// Numbers, each with a unit.
fn units(mut text: &str) -> Option<i64> {
    if text.is_empty() {
        return None;
    }
    let mut total = 0_f64;
    while !text.is_empty() {
        let number_end = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, rest) = text.split_at(number_end);
        let unit_end = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let (unit, rest) = rest.split_at(unit_end);
        let nanos = match unit {
            "ns" => 1.0,
            "us" | "µs" | "μs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3_600e9,
            "d" => 86_400e9,
            _ => return None,
        };
        total += number.parse::<f64>().ok()? * nanos;
        text = rest;
    }
    (total < i64::MAX as f64).then_some(total.round() as i64)
}

/// `hh:mm:ss`
fn clock(text: &str) -> Option<i64> {
    let mut parts = text.split(':');
    let mut next = || {
        let part = parts.next()?;
        (!part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit())).then(|| part.parse::<i64>().ok())?
    };
    let (hours, minutes, seconds) = (next()?, next()?, next()?);
    if parts.next().is_some() || minutes > 59 || seconds > 59 {
        return None;
    }
    hours.checked_mul(3_600)?.checked_add(minutes * 60 + seconds)?.checked_mul(1_000_000_000)
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn durations_are_read_as_temporal_writes_them() {
        let second = 1_000_000_000;
        for (text, expected) in [
            ("1000", Some(1_000)),
            ("-5", Some(-5)),
            ("300ms", Some(300_000_000)),
            ("-1.5h", Some(-5_400 * second)),
            ("2h45m", Some(9_900 * second)),
            ("1d", Some(86_400 * second)),
            ("2µs", Some(2_000)),
            ("01:02:03", Some(3_723 * second)),
            ("100:00:00", Some(360_000 * second)),
            ("00:60:00", None),
            ("1:2", None),
            ("1:2:3:4", None),
            ("", None),
            ("-", None),
            ("h", None),
            ("1", Some(1)),
            ("1.5", None),
            ("1..5h", None),
            ("1y", None),
            ("99999999999999999999h", None),
        ] {
            assert_eq!(parse(text), expected, "{text}");
        }
    }
}
