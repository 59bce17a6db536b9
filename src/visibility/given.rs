//! Search attributes as callers give them: checked by what their namespace has, and given their types. Sizes are checked elsewhere.
//!
//! The rules and their wording are those of Temporal's server (`common/searchattribute`), seen in what it answers. Each value is
//! kept as it came; that its type is written beside it is what clients read in histories, and what the projection goes by.

use super::attributes::{Attributes, settable_type, system_kind};
use crate::engine;
use crate::proto::temporal::common::v1::{Payload, SearchAttributes};
use crate::proto::temporal::enums::v1::IndexedValueType as Type;
use chrono::DateTime;
use serde_json::Value;

/// Search attributes of one workflow.
const COUNT_MAX: usize = 100;
/// Why search attributes are refused, as Temporal's server words it.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The namespace has none of this name, as far as this node knows.
    #[error("{0}")]
    Unknown(String),
    #[error("{0}")]
    Invalid(String),
}

/// Checks what a workflow is given, and writes each type into its payload's metadata, where the caller has not.
pub fn check(given: &mut SearchAttributes, namespace: &str, custom: &Attributes) -> Result<(), Refused> {
    for name in given.indexed_fields.keys() {
        if !custom.contains_key(name) && system_kind(name).is_none() {
            return Err(Refused::Unknown(format!(
                "Namespace {namespace} has no mapping defined for search attribute {name}"
            )));
        }
    }
    let count = given.indexed_fields.len();
    if count > COUNT_MAX {
        return Err(Refused::Invalid(format!("number of search attributes {count} exceeds limit {COUNT_MAX}")));
    }
    for (name, payload) in &given.indexed_fields {
        let Some(of) = settable_type(name, custom) else {
            return Err(Refused::Invalid(format!("{name} attribute can't be set in SearchAttributes")));
        };
        if !is_readable(payload, of) {
            let of = engine::search_attribute_type_name(of);
            let value = shown(payload);
            return Err(Refused::Invalid(format!("invalid value for search attribute {name} of type {of}: {value}")));
        }
    }
    for (name, payload) in &mut given.indexed_fields {
        let Some(of) = settable_type(name, custom) else { continue };
        if payload.metadata.get("type").is_none_or(|named| super::attributes::type_named(named) != Some(of)) {
            payload.metadata.insert("type".into(), engine::search_attribute_type_name(of).into());
        }
    }
    Ok(())
}

/// Whether a payload holds a value of this type, or a list of them, which is allowed for every type. Nothing at all is: it
/// unsets the attribute.
fn is_readable(payload: &Payload, of: Type) -> bool {
    let encoding = payload.metadata.get("encoding").map(|encoding| &encoding[..]);
    match (encoding, serde_json::from_slice(&payload.data)) {
        (Some(b"binary/null"), _) | (Some(b"json/plain"), Ok(Value::Null)) => true,
        (Some(b"json/plain"), Ok(Value::Array(items))) => {
            items.iter().all(|item| item.is_null() || is_scalar(item, of))
        }
        (Some(b"json/plain"), Ok(value)) => of != Type::KeywordList && is_scalar(&value, of),
        _ => false,
    }
}

fn is_scalar(value: &Value, of: Type) -> bool {
    match of {
        Type::Bool => value.is_boolean(),
        Type::Int => value.is_i64(),
        Type::Double => value.is_number(),
        Type::Datetime => value.as_str().is_some_and(|text| DateTime::parse_from_rfc3339(text).is_ok()),
        Type::Keyword | Type::Text | Type::KeywordList => value.is_string(),
        Type::Unspecified => false,
    }
}

/// A value in an error.
fn shown(payload: &Payload) -> String {
    match serde_json::from_slice(&payload.data) {
        Ok(value) if payload.metadata.get("encoding").is_some_and(|encoding| &encoding[..] == b"json/plain") => {
            go(&value)
        }
        _ => format!("value from <{} bytes that can't be read>", payload.data.len()),
    }
}

/// As Go prints it, which is what Temporal's server answers with.
fn go(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".into(),
        Value::String(text) => text.clone(),
        Value::Array(items) => format!("[{}]", items.iter().map(go).collect::<Vec<_>>().join(" ")),
        Value::Object(fields) => {
            let fields: Vec<_> = fields.iter().map(|(name, value)| format!("{name}:{}", go(value))).collect();
            format!("map[{}]", fields.join(" "))
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn custom() -> Attributes {
        engine::SEARCH_ATTRIBUTE_TYPES.map(|(of, name)| (format!("Custom{name}"), of)).into()
    }

    fn payload(encoding: &str, data: &str) -> Payload {
        Payload {
            metadata: [("encoding".to_owned(), Bytes::copy_from_slice(encoding.as_bytes()))].into(),
            data: Bytes::copy_from_slice(data.as_bytes()),
            ..Payload::default()
        }
    }

    fn given(name: &str, json: &str) -> SearchAttributes {
        SearchAttributes { indexed_fields: [(name.to_owned(), payload("json/plain", json))].into() }
    }

    fn refusal(mut given: SearchAttributes) -> String {
        check(&mut given, "shop", &custom()).expect_err("it is refused").to_string()
    }

    #[test]
    fn every_value_gets_its_type() {
        for (name, json, of) in [
            ("CustomBool", "true", "Bool"),
            ("CustomInt", "-5", "Int"),
            ("CustomDouble", "1", "Double"),
            ("CustomDatetime", r#""2024-01-01T00:00:00.5+01:00""#, "Datetime"),
            ("CustomKeyword", r#""a""#, "Keyword"),
            ("CustomKeyword", r#"["a", "b"]"#, "Keyword"),
            ("CustomText", "null", "Text"),
            ("CustomKeywordList", r#"["a", null]"#, "KeywordList"),
            ("CustomKeywordList", "[]", "KeywordList"),
            ("BuildIds", r#"["1"]"#, "KeywordList"),
            ("TemporalSchedulePaused", "true", "Bool"),
        ] {
            let mut attributes = given(name, json);
            assert_eq!(check(&mut attributes, "shop", &custom()), Ok(()), "{name} {json}");
            assert_eq!(attributes.indexed_fields[name].metadata["type"], of, "{name} {json}");
            assert_eq!(attributes.indexed_fields[name].data, json);
        }
        let nothing = [("CustomInt".to_owned(), payload("binary/null", ""))];
        assert_eq!(check(&mut SearchAttributes { indexed_fields: nothing.into() }, "shop", &custom()), Ok(()));
    }

    #[test]
    fn a_type_that_the_caller_wrote_stays_unless_it_is_another() {
        for (written, kept) in
            [("Int", "Int"), ("INDEXED_VALUE_TYPE_INT", "INDEXED_VALUE_TYPE_INT"), ("Keyword", "Int")]
        {
            let mut attributes = given("CustomInt", "5");
            let payload = attributes.indexed_fields.get_mut("CustomInt").unwrap();
            payload.metadata.insert("type".into(), Bytes::copy_from_slice(written.as_bytes()));
            check(&mut attributes, "shop", &custom()).unwrap();
            assert_eq!(attributes.indexed_fields["CustomInt"].metadata["type"], kept);
        }
    }

    #[test]
    fn what_is_wrong_is_said_as_the_server_says_it() {
        for (name, json, expected) in [
            ("Colour", "1", "Namespace shop has no mapping defined for search attribute Colour"),
            ("TemporalColour", "1", "Namespace shop has no mapping defined for search attribute TemporalColour"),
            ("WorkflowId", r#""a""#, "WorkflowId attribute can't be set in SearchAttributes"),
            ("ExecutionStatus", "1", "ExecutionStatus attribute can't be set in SearchAttributes"),
            (
                "TemporalWorkerDeployment",
                r#""a""#,
                "TemporalWorkerDeployment attribute can't be set in SearchAttributes",
            ),
            ("CustomInt", r#""a""#, "invalid value for search attribute CustomInt of type Int: a"),
            ("CustomInt", "1.5", "invalid value for search attribute CustomInt of type Int: 1.5"),
            ("CustomBool", "[true, 1]", "invalid value for search attribute CustomBool of type Bool: [true 1]"),
            (
                "CustomDatetime",
                r#""today""#,
                "invalid value for search attribute CustomDatetime of type Datetime: today",
            ),
            (
                "CustomText",
                r#"{"b": null, "a": [1]}"#,
                "invalid value for search attribute CustomText of type Text: map[a:[1] b:<nil>]",
            ),
            (
                "CustomKeywordList",
                r#""a""#,
                "invalid value for search attribute CustomKeywordList of type KeywordList: a",
            ),
        ] {
            assert_eq!(refusal(given(name, json)), expected);
        }
        let binary =
            SearchAttributes { indexed_fields: [("CustomInt".to_owned(), payload("binary/plain", "5"))].into() };
        assert!(refusal(binary).starts_with("invalid value for search attribute CustomInt of type Int: value from <"));
    }

    #[test]
    fn their_number_is_bounded() {
        let many = |count: usize| {
            let names: Vec<_> = (0..count).map(|number| format!("Keyword{number}")).collect();
            let custom: Attributes = names.iter().map(|name| (name.clone(), Type::Keyword)).collect();
            let fields = names.into_iter().map(|name| (name, payload("json/plain", "null"))).collect();
            check(&mut SearchAttributes { indexed_fields: fields }, "shop", &custom)
        };
        assert_eq!(many(100), Ok(()));
        assert_eq!(many(101), Err(Refused::Invalid("number of search attributes 101 exceeds limit 100".into())));
    }
}
