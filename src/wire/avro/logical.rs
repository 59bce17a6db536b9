//! What values mean beyond their types: Avro's specification, "Logical Types".

use super::schema_text::MEANING;
use super::values::Node;
use apache_avro::Schema;
use apache_avro::schema::FixedSchema;

/// The most digits behind a decimal's point: each value is written with all of them.
pub(super) const SCALE_MAX: u64 = 1000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Logical {
    /// As many digits as `scale` stand behind the point.
    Decimal {
        scale: u32,
    },
    /// Each value has its own scale.
    BigDecimal,
    Date,
    Time(Unit),
    Timestamp(Unit),
    /// Of no time zone.
    LocalTimestamp(Unit),
    Duration,
    Uuid,
}

/// What times are counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    Millis,
    Micros,
    Nanos,
}

/// The logical type of a schema and the type below it. The specification has one that does not fit ignored.
pub(super) fn logical(schema: &Schema) -> Option<(Logical, Node)> {
    Some(match schema {
        Schema::Date => (Logical::Date, Node::Int),
        Schema::TimeMillis => (Logical::Time(Unit::Millis), Node::Int),
        Schema::TimeMicros => (Logical::Time(Unit::Micros), Node::Long),
        Schema::TimestampMillis => (Logical::Timestamp(Unit::Millis), Node::Long),
        Schema::TimestampMicros => (Logical::Timestamp(Unit::Micros), Node::Long),
        Schema::TimestampNanos => (Logical::Timestamp(Unit::Nanos), Node::Long),
        Schema::LocalTimestampMillis => (Logical::LocalTimestamp(Unit::Millis), Node::Long),
        Schema::LocalTimestampMicros => (Logical::LocalTimestamp(Unit::Micros), Node::Long),
        Schema::LocalTimestampNanos => (Logical::LocalTimestamp(Unit::Nanos), Node::Long),
        Schema::Uuid => (Logical::Uuid, Node::String),
        Schema::BigDecimal => (Logical::BigDecimal, Node::Bytes),
        Schema::Decimal(decimal) => {
            let scale = u32::try_from(decimal.scale).ok().filter(|scale| u64::from(*scale) <= SCALE_MAX)?;
            (Logical::Decimal { scale }, Node::Bytes)
        }
        Schema::Fixed(fixed) => (of_fixed(fixed)?, Node::Fixed(fixed.size)),
        _ => return None,
    })
}

/// `apache-avro` forgets the size or the name of a fixed that has one, so these are kept from it.
fn of_fixed(fixed: &FixedSchema) -> Option<Logical> {
    let meaning = fixed.attributes.get(MEANING)?;
    let number = |key: &str| meaning.get(key).and_then(serde_json::Value::as_u64);
    Some(match (meaning.get("logicalType")?.as_str()?, fixed.size) {
        ("decimal", _) => {
            let scale = number("scale").unwrap_or(0);
            if number("precision").is_none_or(|precision| scale > precision) || scale > SCALE_MAX {
                return None;
            }
            Logical::Decimal { scale: scale as u32 }
        }
        ("duration", 12) => Logical::Duration,
        ("uuid", 16) => Logical::Uuid,
        _ => return None,
    })
}
