//! Durations as Go writes them: `1h30m`, `1.5h`, `100ms`.

const UNITS: [(&str, u64); 9] = [
    ("ns", 1),
    ("us", 1000),
    ("\u{b5}s", 1000),
    ("\u{3bc}s", 1000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
    DAYS,
];

/// Temporal's server has days in some places, Go has none.
const DAYS: (&str, u64) = ("d", 86_400_000_000_000);

/// Reads a duration, in nanoseconds; none if it is not one, or over what 64 bits hold.
pub fn parse(text: &str) -> Option<i64> {
    if text.contains(DAYS.0) { None } else { parse_with_days(text) }
}

/// The same, with days of 24 hours: `1.5d`.
pub fn parse_with_days(text: &str) -> Option<i64> {
    let negative = text.starts_with('-');
    let mut rest = text.strip_prefix(['-', '+']).unwrap_or(text);
    if rest == "0" {
        return Some(0);
    }
    let mut total: u64 = 0;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let (nanos, tail) = part(rest)?;
        total = total.checked_add(nanos)?;
        rest = tail;
    }
    let total = i64::try_from(total).ok()?;
    Some(if negative { -total } else { total })
}

/// What is wrong with one that can't be read, in the words of Go.
pub fn problem(text: &str) -> String {
    let mut rest = text.strip_prefix(['-', '+']).unwrap_or(text);
    while let Some((_, tail)) = part(rest) {
        rest = tail;
    }
    let is_number = |c: char| c == '.' || c.is_ascii_digit();
    let unit = rest.trim_start_matches(is_number);
    let unit = &unit[..unit.find(is_number).unwrap_or(unit.len())];
    match unit {
        _ if !rest.starts_with(is_number) => format!("time: invalid duration {text:?}"),
        "" => format!("time: missing unit in duration {text:?}"),
        unit if UNITS.iter().all(|(name, _)| *name != unit) => {
            format!("time: unknown unit {unit:?} in duration {text:?}")
        }
        _ => format!("time: invalid duration {text:?}"),
    }
}

/// One number with its unit, in nanoseconds, and what comes after it.
fn part(text: &str) -> Option<(u64, &str)> {
    let digits = |text: &str| text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (whole, mut rest) = text.split_at(digits(text));
    let mut fraction = "";
    if let Some(after) = rest.strip_prefix('.') {
        (fraction, rest) = after.split_at(digits(after));
    }
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let (unit, rest) = rest.split_at(rest.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(rest.len()));
    let scale = UNITS.iter().find(|(name, _)| *name == unit)?.1;
    let whole = if whole.is_empty() { 0 } else { whole.parse::<u64>().ok()? };
    // More digits than a nanosecond of an hour has make no difference.
    let fraction = &fraction[..fraction.len().min(18)];
    let part = if fraction.is_empty() {
        0
    } else {
        u128::from(fraction.parse::<u64>().ok()?) * u128::from(scale) / 10_u128.pow(fraction.len() as u32)
    };
    Some((whole.checked_mul(scale)?.checked_add(part as u64)?, rest))
}
