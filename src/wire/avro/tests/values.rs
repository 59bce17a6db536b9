//! Values of any schema as JSON and back, with `apache-avro` as the other side.

use super::super::{Error, Values};
use apache_avro::types::Value as Avro;
use apache_avro::{Schema, from_avro_datum, to_avro_datum};
use proptest::prelude::*;

const ORDER: &str = r#"{"type": "record", "name": "Order", "namespace": "shop", "fields": [
    {"name": "id", "type": "long"},
    {"name": "note", "type": ["null", "string"], "default": null},
    {"name": "total", "type": {"type": "bytes", "logicalType": "decimal", "precision": 20, "scale": 2}},
    {"name": "weight", "type": ["null", "float", "double"]},
    {"name": "kind", "type": {"type": "enum", "name": "Kind", "symbols": ["GIFT", "OWN"]}, "default": "OWN"},
    {"name": "placed", "type": {"type": "long", "logicalType": "timestamp-millis"}},
    {"name": "lines", "type": {"type": "array", "items": {"type": "record", "name": "Line", "fields": [
        {"name": "sku", "type": "string"}, {"name": "seal", "type": {"type": "fixed", "name": "Seal", "size": 2}},
        {"name": "parts", "type": {"type": "array", "items": "Line"}, "default": []}]}}},
    {"name": "tags", "type": {"type": "map", "values": "boolean"}},
    {"name": "raw", "type": "bytes", "default": "\u00ff"}]}"#;

fn of(schema: &str) -> Values {
    Values::new(&[schema]).expect(schema)
}

fn shown(schema: &str, body: &[u8]) -> Result<String, Error> {
    of(schema).to_json(body)
}

#[test]
fn a_record_is_shown_in_the_order_of_its_fields_and_read_back() {
    let avro = super::sample::schema(ORDER);
    let line = |sku: &str, parts: Vec<Avro>| {
        let fields = [("sku", Avro::from(sku)), ("seal", Avro::Fixed(2, vec![0, 255])), ("parts", Avro::Array(parts))];
        Avro::Record(fields.map(|(name, value)| (name.to_owned(), value)).to_vec())
    };
    let record = Avro::Record(
        [
            ("id", Avro::Long(i64::MIN)),
            ("note", Avro::Union(1, Box::new("größer \"x\"".into()))),
            ("total", Avro::Decimal(vec![0xfb, 0x1e].into())),
            ("weight", Avro::Union(1, Box::new(Avro::Float(1.1)))),
            ("kind", Avro::Enum(0, "GIFT".into())),
            ("placed", Avro::TimestampMillis(1_795_352_655_123)),
            ("lines", Avro::Array(vec![line("a", vec![line("b", vec![])])])),
            ("tags", Avro::Map([("new".to_owned(), Avro::Boolean(true))].into())),
            ("raw", Avro::Bytes(vec![1, 2, 3])),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .to_vec(),
    );
    let body = to_avro_datum(&avro, record).unwrap();
    let json = concat!(
        r#"{"id":-9223372036854775808,"note":"größer \"x\"","total":"-12.50","weight":1.1,"kind":"GIFT","#,
        r#""placed":"2026-11-22T13:04:15.123Z","lines":[{"sku":"a","seal":"AP8=","parts":[{"sku":"b","seal":"AP8=","parts":[]}]}],"#,
        r#""tags":{"new":true},"raw":"AQID"}"#
    );
    assert_eq!(shown(ORDER, &body).as_deref(), Ok(json));
    let values = of(ORDER);
    assert_eq!(values.read_json(&serde_json::from_str(json).unwrap()), Ok(body));
    assert_eq!(values.name(), "shop.Order");
}

#[test]
fn logical_types_are_text() {
    let logical = |base: &str, name: &str| format!(r#"{{"type": {base}, "logicalType": "{name}"}}"#);
    let fixed = |size: u32, name: &str, more: &str| {
        format!(r#"{{"type": "fixed", "name": "F", "size": {size}, "logicalType": "{name}"{more}}}"#)
    };
    for (schema, body, json) in [
        (logical("\"int\"", "date"), &b"\x01"[..], "\"1969-12-31\""),
        (logical("\"int\"", "time-millis"), b"\x02", "\"00:00:00.001\""),
        (logical("\"long\"", "time-micros"), b"\x02", "\"00:00:00.000001\""),
        (logical("\"long\"", "timestamp-millis"), b"\x01", "\"1969-12-31T23:59:59.999Z\""),
        (logical("\"long\"", "timestamp-micros"), b"\x02", "\"1970-01-01T00:00:00.000001Z\""),
        (logical("\"long\"", "timestamp-nanos"), b"\x02", "\"1970-01-01T00:00:00.000000001Z\""),
        (logical("\"long\"", "local-timestamp-millis"), b"\x02", "\"1970-01-01T00:00:00.001\""),
        (logical("\"bytes\"", "big-decimal"), b"\x06\x02\x7b\x04", "\"1.23\""),
        (fixed(3, "decimal", r#", "precision": 5, "scale": 3"#), b"\xff\xff\xff", "\"-0.001\""),
        (fixed(12, "duration", ""), b"\x01\0\0\0\x02\0\0\0\xbc\x0b\0\0", "\"P1M2DT3.004S\""),
        (fixed(16, "uuid", ""), b"0123456789abcdef", "\"30313233-3435-3637-3839-616263646566\""),
        (
            logical("\"string\"", "uuid"),
            b"\x48f81d4fae-7dec-11d0-a765-00a0c91e6bf6",
            "\"f81d4fae-7dec-11d0-a765-00a0c91e6bf6\"",
        ),
        ("\"double\"".to_owned(), b"\0\0\0\0\0\0\xf0\x7f", "\"Infinity\""),
        ("\"float\"".to_owned(), b"\0\0\xc0\x7f", "\"NaN\""),
        // What is unknown, or does not fit, means nothing more.
        (logical("\"int\"", "era"), b"\x02", "1"),
        (logical("\"string\"", "date"), b"\x02x", "\"x\""),
    ] {
        assert_eq!(shown(&schema, body).as_deref(), Ok(json), "{schema}");
        let back = of(&schema).read_json(&serde_json::from_str(json).unwrap());
        assert_eq!(back.as_deref(), Ok(body), "{schema}");
    }
}

#[test]
fn what_a_type_can_not_hold_is_refused() {
    let long = |logical: &str| format!(r#"{{"type": "long", "logicalType": "{logical}"}}"#);
    let max = b"\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01";
    for (schema, body) in [
        (long("timestamp-millis"), &max[..]),
        (long("time-micros"), max),
        (r#"{"type": "int", "logicalType": "date"}"#.to_owned(), b"\xfe\xff\xff\xff\x0f"),
        ("\"int\"".to_owned(), max),
        ("\"boolean\"".to_owned(), b"\x02"),
        ("\"string\"".to_owned(), b"\x02\xff"),
        (r#"{"type": "enum", "name": "E", "symbols": ["A"]}"#.to_owned(), b"\x02"),
        (r#"["null", "int"]"#.to_owned(), b"\x04"),
        ("\"null\"".to_owned(), b"\0"),
        (r#"{"type": "bytes", "logicalType": "decimal", "precision": 4}"#.to_owned(), b"\0"),
        (
            r#"{"type": "bytes", "logicalType": "big-decimal"}"#.to_owned(),
            b"\x18\x02\x01\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        ),
    ] {
        assert!(matches!(shown(&schema, body), Err(Error::Invalid { .. })), "{schema}: {:?}", shown(&schema, body));
    }
    let large = vec![b'x'; 300];
    let decimal = r#"{"type": "fixed", "name": "F", "size": 300, "logicalType": "decimal", "precision": 4}"#;
    assert!(matches!(shown(decimal, &large), Err(Error::Invalid { .. })));
}

/// Each would crash a decoder that trusts it.
#[test]
fn lengths_that_lie_and_endless_nesting_are_refused() {
    let huge = b"\xfe\xff\xff\xff\xff\xff\xff\xff\x7f";
    for schema in
        ["\"string\"", "\"bytes\"", r#"{"type": "array", "items": "long"}"#, r#"{"type": "map", "values": "long"}"#]
    {
        assert_eq!(shown(schema, huge), Err(Error::Truncated), "{schema}");
    }
    let nulls = shown(r#"{"type": "array", "items": "null"}"#, huge);
    assert!(matches!(nulls, Err(Error::Invalid { expected, .. }) if expected.contains("16 MiB")));
    let list = r#"{"type": "record", "name": "L", "fields": [{"name": "next", "type": ["null", "L"]}]}"#;
    assert_eq!(shown(list, &[2; 1_000_000]), Err(Error::TooDeep));
    assert_eq!(shown(list, b"\x02\x00").as_deref(), Ok(r#"{"next":{"next":null}}"#));
    // One that has itself inside, and no end.
    let endless = r#"{"type": "record", "name": "L", "fields": [{"name": "next", "type": "L"}]}"#;
    assert_eq!(shown(endless, b""), Err(Error::TooDeep));
}

#[test]
fn what_is_written_by_hand_is_checked() {
    let order = |change: (&str, &str)| {
        let json = r#"{"id": 1, "total": "1.5", "weight": null, "placed": "2026-11-22T00:00:00+01:00", "lines": [], "tags": {}}"#;
        of(ORDER).read_json(&serde_json::from_str(&json.replace(change.0, change.1)).unwrap())
    };
    let defaults = order(("", "")).expect("the rest has defaults");
    let json = shown(ORDER, &defaults).unwrap();
    assert!(
        json.contains(r#""note":null,"total":"1.50""#)
            && json.contains(r#""kind":"OWN","placed":"2026-11-21T23:00:00.000Z""#)
    );
    assert!(json.contains(r#""raw":"/w==""#), "{json}");
    for (change, reason) in [
        (("\"id\": 1", "\"id\": 1.5"), "Expected id to be a number of 64 bits, but found 1.5"),
        (("\"id\": 1, ", ""), "a record with id, which has no default"),
        (("\"id\"", "\"idd\": 2, \"id\""), "which has no idd"),
        (("\"1.5\"", "\"1.505\""), "Expected total to be a decimal"),
        (("\"weight\": null", "\"weight\": \"x\""), "Expected weight to be a number, but found \"x\""),
        (("[]", "[{\"sku\": \"a\", \"seal\": \"AP8A\"}]"), "Expected lines.0.seal to be 2 bytes in base64"),
    ] {
        let said = order(change).expect_err(reason);
        assert!(said.contains(reason), "{said}");
    }
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = shown(ORDER, &body);
    }

    #[test]
    fn decimals_are_exact(unscaled in any::<i128>(), scale in 0u32..40) {
        let schema = format!(r#"{{"type": "bytes", "logicalType": "decimal", "precision": 60, "scale": {scale}}}"#);
        let bytes = unscaled.to_be_bytes();
        let body = to_avro_datum(&Schema::Bytes, Avro::Bytes(bytes.to_vec())).unwrap();
        let json = shown(&schema, &body).unwrap();
        let digits: String = json.chars().filter(|c| c.is_ascii_digit() || *c == '-').collect();
        prop_assert_eq!(digits.parse::<i128>().unwrap(), unscaled);
        prop_assert_eq!(json.trim_matches('"').split_once('.').map_or(0, |(_, behind)| behind.len()), scale as usize);
        let back = of(&schema).read_json(&serde_json::from_str(&json).unwrap()).unwrap();
        let Avro::Bytes(back) = from_avro_datum(&Schema::Bytes, &mut &back[..], None).unwrap() else { unreachable!() };
        let mut whole = [if unscaled < 0 { 0xff } else { 0 }; 16];
        whole[16 - back.len()..].copy_from_slice(&back);
        prop_assert_eq!(i128::from_be_bytes(whole), unscaled);
    }
}
