//! Values of logical types as text, and back. None: it is outside of what can be written so.

use super::logical::{Logical, SCALE_MAX, Unit};
use chrono::{DateTime, Datelike, NaiveDate, NaiveDateTime, SecondsFormat};

/// More digits than are of use; turning them into text costs their square. Bytes.
const DECIMAL_BYTES_MAX: usize = 256;

/// What a value of the type must be.
pub(super) fn expected(logical: Logical) -> &'static str {
    match logical {
        Logical::Decimal { .. } | Logical::BigDecimal => {
            "a decimal of 1 to 256 bytes, with at most 1,000 digits after the point"
        }
        Logical::Date => "a date in the years 0 to 9999, such as 2026-11-22",
        Logical::Time(_) => "a time of day, such as 13:14:15.123",
        Logical::Timestamp(_) => "a time in the years 0 to 9999, such as 2026-11-22T13:14:15.123Z",
        Logical::LocalTimestamp(_) => "a time in the years 0 to 9999, such as 2026-11-22T13:14:15.123",
        Logical::Duration => "a duration such as P1M2DT3.004S",
        Logical::Uuid => "a UUID",
    }
}

impl Unit {
    fn per_second(self) -> i64 {
        match self {
            Unit::Millis => 1_000,
            Unit::Micros => 1_000_000,
            Unit::Nanos => 1_000_000_000,
        }
    }

    fn digits(self) -> usize {
        match self {
            Unit::Millis => 3,
            Unit::Micros => 6,
            Unit::Nanos => 9,
        }
    }
}

/// A number in two's complement, big-endian, of which the last `scale` digits stand behind the point.
pub(super) fn decimal(bytes: &[u8], scale: i64) -> Option<String> {
    let first = *bytes.first()?;
    if bytes.len() > DECIMAL_BYTES_MAX || scale.unsigned_abs() > SCALE_MAX {
        return None;
    }
    let negative = first & 0x80 != 0;
    let mut magnitude = bytes.to_vec();
    if negative {
        let mut carry = true;
        for byte in magnitude.iter_mut().rev() {
            (*byte, carry) = (!*byte).overflowing_add(u8::from(carry));
        }
    }
    // Nine digits in each, the lowest first.
    let mut parts: Vec<u64> = Vec::new();
    for byte in magnitude {
        let mut carry = u64::from(byte);
        for part in &mut parts {
            let value = *part * 256 + carry;
            (*part, carry) = (value % 1_000_000_000, value / 1_000_000_000);
        }
        if carry > 0 {
            parts.push(carry);
        }
    }
    let mut digits = parts.iter().rev().map(|part| format!("{part:09}")).collect::<String>();
    digits.drain(..digits.len() - digits.trim_start_matches('0').len());
    if scale < 0 && !digits.is_empty() {
        digits.extend(std::iter::repeat_n('0', scale.unsigned_abs() as usize));
    }
    let behind = scale.max(0) as usize;
    let mut text = format!("{digits:0>width$}", width = behind + 1);
    if behind > 0 {
        text.insert(text.len() - behind, '.');
    }
    if negative {
        text.insert(0, '-');
    }
    Some(text)
}

pub(super) fn date(days: i64) -> Option<String> {
    let date = DateTime::from_timestamp(days.checked_mul(86_400)?, 0)?.date_naive();
    (0..=9999).contains(&date.year()).then(|| date.to_string())
}

pub(super) fn time(value: i64, unit: Unit) -> Option<String> {
    let (seconds, rest) = (value.div_euclid(unit.per_second()), value.rem_euclid(unit.per_second()));
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    let width = unit.digits();
    (0..86_400).contains(&seconds).then(|| format!("{hours:02}:{minutes:02}:{:02}.{rest:0width$}", seconds % 60))
}

pub(super) fn timestamp(value: i64, unit: Unit) -> Option<String> {
    let (time, format) = match unit {
        Unit::Millis => (DateTime::from_timestamp_millis(value)?, SecondsFormat::Millis),
        Unit::Micros => (DateTime::from_timestamp_micros(value)?, SecondsFormat::Micros),
        Unit::Nanos => (DateTime::from_timestamp_nanos(value), SecondsFormat::Nanos),
    };
    (0..=9999).contains(&time.year()).then(|| time.to_rfc3339_opts(format, true))
}

/// Three numbers, little-endian: months, days, milliseconds.
pub(super) fn duration(fixed: [u8; 12]) -> String {
    let part = |at: usize| u32::from_le_bytes([fixed[at], fixed[at + 1], fixed[at + 2], fixed[at + 3]]);
    let millis = part(8);
    format!("P{}M{}DT{}.{:03}S", part(0), part(4), millis / 1000, millis % 1000)
}

pub(super) fn uuid(fixed: [u8; 16]) -> String {
    let hex = format!("{:032x}", u128::from_be_bytes(fixed));
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

/// A number of digits as its unscaled value, of as many bytes as it needs or as are asked for, and its scale. None too if it has more
/// digits after the point than the scale that is asked for.
pub(super) fn parse_decimal(text: &str, scale: Option<u32>, size: Option<usize>) -> Option<(Vec<u8>, u32)> {
    let (negative, rest) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let (whole, behind) = rest.split_once('.').unwrap_or((rest, ""));
    let is_number = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !is_number(whole) || !is_number(behind) || rest.len() > 2 * DECIMAL_BYTES_MAX {
        return None;
    }
    let scale = scale.unwrap_or(behind.len() as u32);
    let missing = (scale as usize).checked_sub(behind.len())?;
    // Little-endian, until it is whole.
    let mut bytes = vec![0u8];
    for digit in whole.bytes().chain(behind.bytes()).chain(std::iter::repeat_n(b'0', missing)) {
        let mut carry = u32::from(digit - b'0');
        for byte in &mut bytes {
            let value = u32::from(*byte) * 10 + carry;
            (*byte, carry) = (value as u8, value >> 8);
        }
        if carry > 0 {
            bytes.push(carry as u8);
        }
    }
    if negative {
        let mut carry = true;
        for byte in &mut bytes {
            (*byte, carry) = (!*byte).overflowing_add(u8::from(carry));
        }
    }
    let is_zero = bytes.iter().all(|byte| *byte == 0);
    let sign = if negative && !is_zero { 0xff } else { 0 };
    // The first bit is the sign.
    if bytes.last().is_some_and(|last| (last ^ sign) & 0x80 != 0) {
        bytes.push(sign);
    }
    match size {
        Some(size) if bytes.len() > size => return None,
        Some(size) => bytes.resize(size, sign),
        None => {}
    }
    bytes.reverse();
    (bytes.len() <= DECIMAL_BYTES_MAX).then_some((bytes, scale))
}

/// Days since 1970.
pub(super) fn parse_date(text: &str) -> Option<i64> {
    let date: NaiveDate = text.parse().ok()?;
    Some(date.and_hms_opt(0, 0, 0)?.and_utc().timestamp() / 86_400)
}

pub(super) fn parse_time(text: &str, unit: Unit) -> Option<i64> {
    let time: NaiveDateTime = format!("1970-01-01T{text}").parse().ok()?;
    in_units(time, unit)
}

pub(super) fn parse_timestamp(text: &str, unit: Unit) -> Option<i64> {
    in_units(DateTime::parse_from_rfc3339(text).ok()?.naive_utc(), unit)
}

pub(super) fn parse_local(text: &str, unit: Unit) -> Option<i64> {
    in_units(text.parse().ok()?, unit)
}

fn in_units(time: NaiveDateTime, unit: Unit) -> Option<i64> {
    let time = time.and_utc();
    let nanos = i64::from(time.timestamp_subsec_nanos());
    time.timestamp().checked_mul(unit.per_second())?.checked_add(nanos / (1_000_000_000 / unit.per_second()))
}

/// As [`duration`] writes it.
pub(super) fn parse_duration(text: &str) -> Option<[u8; 12]> {
    let (months, rest) = text.strip_prefix('P')?.split_once('M')?;
    let (days, seconds) = rest.strip_suffix('S')?.split_once("DT")?;
    let (seconds, millis) = seconds.split_once('.').unwrap_or((seconds, "0"));
    let millis: u32 = format!("{millis:0<3}").parse().ok().filter(|millis| *millis < 1000)?;
    let millis = seconds.parse::<u32>().ok()?.checked_mul(1000)?.checked_add(millis)?;
    let mut fixed = [0; 12];
    for (at, part) in [(0, months.parse().ok()?), (4, days.parse().ok()?), (8, millis)] {
        fixed[at..at + 4].copy_from_slice(&u32::to_le_bytes(part));
    }
    Some(fixed)
}

pub(super) fn parse_uuid(text: &str) -> Option<[u8; 16]> {
    let lengths: Vec<_> = text.split('-').map(str::len).collect();
    if lengths != [8, 4, 4, 4, 12] || !text.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit()) {
        return None;
    }
    Some(u128::from_str_radix(&text.replace('-', ""), 16).ok()?.to_be_bytes())
}
