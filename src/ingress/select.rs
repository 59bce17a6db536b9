//! Parts of a record, as the settings name them: `key`, `header:NAME`, `value`, `value:FIELD.FIELD`, `topic`, `partition`,
//! `offset`; and texts with such parts in braces, like `order-{value:order.id}`.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::log::{Stored, Topic};
use crate::proto::temporal::common::v1::Payload;

/// One part of a record.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Selector {
    Key,
    Header(String),
    /// A field of the value, from the outermost in; the whole value if there is none.
    Value(Vec<String>),
    Topic,
    Partition,
    Offset,
}

impl TryFrom<String> for Selector {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let (name, rest) = text.split_once(':').map_or((text.as_str(), None), |(name, rest)| (name, Some(rest)));
        match (name, rest) {
            ("key", None) => Ok(Self::Key),
            ("value", None) => Ok(Self::Value(Vec::new())),
            ("value", Some(path)) if path.split('.').all(|field| !field.is_empty()) => {
                Ok(Self::Value(path.split('.').map(str::to_owned).collect()))
            }
            ("header", Some(name)) if !name.is_empty() => Ok(Self::Header(name.to_owned())),
            ("topic", None) => Ok(Self::Topic),
            ("partition", None) => Ok(Self::Partition),
            ("offset", None) => Ok(Self::Offset),
            _ => Err(format!(
                "{text:?} names no part of a record: expected key, header:NAME, value, value:FIELD.FIELD, topic, partition or offset"
            )),
        }
    }
}

impl std::fmt::Display for Selector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Key => f.write_str("key"),
            Self::Header(name) => write!(f, "header:{name}"),
            Self::Value(path) if path.is_empty() => f.write_str("value"),
            Self::Value(path) => write!(f, "value:{}", path.join(".")),
            Self::Topic => f.write_str("topic"),
            Self::Partition => f.write_str("partition"),
            Self::Offset => f.write_str("offset"),
        }
    }
}

/// A record that parts are taken from.
pub struct Source<'a> {
    pub topic: Topic,
    pub partition: u32,
    pub stored: &'a Stored,
    /// The value, where it is JSON.
    pub json: Option<&'a RawValue>,
}

impl Selector {
    pub fn needs_json(&self) -> bool {
        matches!(self, Self::Value(path) if !path.is_empty())
    }

    /// The part as text: a field must be a string, a number or a boolean.
    fn text(&self, from: &Source) -> Result<String, String> {
        let utf8 = |bytes: &[u8]| {
            String::from_utf8(bytes.to_vec()).map_err(|_| format!("{self} is not text in UTF-8, and text is needed"))
        };
        match self {
            Self::Value(_) if from.json.is_some() => {
                let found = self.json(from)?.get();
                match found.as_bytes().first() {
                    Some(b'"') => serde_json::from_str(found).map_err(|error| format!("{self}: {error}")),
                    Some(b'{' | b'[' | b'n') => {
                        Err(format!("{self} is {}, and text or a number is needed", kind(found)))
                    }
                    _ => Ok(found.to_owned()),
                }
            }
            _ => match self.null(from) {
                Some(null) => Err(format!("{null}, and text is needed")),
                None => utf8(&self.bytes(from)?),
            },
        }
    }

    /// What is null, where it is: Kafka distinguishes null from empty.
    fn null(&self, from: &Source) -> Option<String> {
        let nulls = &from.stored.nulls;
        match self {
            Self::Key if nulls.key => Some("the record's key is null".to_owned()),
            Self::Header(name) => {
                let last = from.stored.record.headers.iter().rposition(|(header, _)| header == name)?;
                nulls.headers.contains(&last).then(|| format!("the record's header {name} is null"))
            }
            _ => None,
        }
    }

    /// The part as a payload: JSON as it stands, text as a JSON string, other bytes as they are, null as Temporal's nothing.
    pub fn payload(&self, from: &Source) -> Result<Payload, String> {
        let payload = |encoding: &'static str, data: Vec<u8>| Payload {
            metadata: [("encoding".to_owned(), encoding.into())].into(),
            data: data.into(),
            ..Payload::default()
        };
        if matches!(self, Self::Value(_)) && from.json.is_some() {
            return Ok(payload("json/plain", self.json(from)?.get().as_bytes().to_vec()));
        }
        if self.null(from).is_some() {
            return Ok(payload("binary/null", Vec::new()));
        }
        let bytes = self.bytes(from)?;
        match (self, std::str::from_utf8(&bytes)) {
            (Self::Value(_), _) | (_, Err(_)) => Ok(payload("binary/plain", bytes)),
            (_, Ok(text)) => Ok(payload("json/plain", serde_json::Value::from(text).to_string().into_bytes())),
        }
    }

    fn json<'a>(&self, from: &Source<'a>) -> Result<&'a RawValue, String> {
        let Self::Value(path) = self else { return Err(format!("{self} is no JSON")) };
        let mut at = from.json.ok_or("the value is not JSON")?;
        for field in path {
            let missing = || format!("{self} is not there: {field} is missing in {}", kind(at.get()));
            at = match at.get().as_bytes().first() {
                Some(b'{') => {
                    let fields: BTreeMap<String, &RawValue> =
                        serde_json::from_str(at.get()).map_err(|error| error.to_string())?;
                    fields.get(field).copied().ok_or_else(missing)?
                }
                Some(b'[') => {
                    let items: Vec<&RawValue> = serde_json::from_str(at.get()).map_err(|error| error.to_string())?;
                    let index: Option<usize> = field.parse().ok();
                    index.and_then(|index| items.get(index)).copied().ok_or_else(missing)?
                }
                _ => return Err(missing()),
            };
        }
        Ok(at)
    }

    fn bytes(&self, from: &Source) -> Result<Vec<u8>, String> {
        let record = &from.stored.record;
        Ok(match self {
            Self::Key => record.key.to_vec(),
            Self::Header(name) => {
                let found = record.headers.iter().rev().find(|(header, _)| header == name);
                found.ok_or_else(|| format!("the record has no header {name}"))?.1.to_vec()
            }
            Self::Value(_) => record.value.as_deref().unwrap_or_default().to_vec(),
            Self::Topic => from.topic.name().into(),
            Self::Partition => from.partition.to_string().into(),
            Self::Offset => from.stored.offset.to_string().into(),
        })
    }
}

fn kind(json: &str) -> &'static str {
    match json.as_bytes().first() {
        Some(b'{') => "an object",
        Some(b'[') => "an array",
        Some(b'"') => "a string",
        Some(b'n') => "null",
        Some(b't' | b'f') => "a boolean",
        _ => "a number",
    }
}

/// A text with parts of the record in braces; `{{` and `}}` stand for a brace.
#[derive(Clone, Debug, PartialEq, Eq, Default, Deserialize)]
#[serde(try_from = "String")]
pub struct Template(Vec<Piece>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Part(Selector),
}

impl TryFrom<String> for Template {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut plain = String::new();
        let mut rest = text.as_str();
        while let Some(at) = rest.find(['{', '}']) {
            plain.push_str(&rest[..at]);
            let brace = &rest[at..at + 1];
            rest = &rest[at + 1..];
            if let Some(after) = rest.strip_prefix(brace) {
                plain.push_str(brace);
                rest = after;
                continue;
            }
            let unbalanced = || format!("{text:?} has a brace without its other half: a brace itself is written twice");
            let end = if brace == "{" { rest.find('}') } else { None }.ok_or_else(unbalanced)?;
            if !plain.is_empty() {
                pieces.push(Piece::Text(std::mem::take(&mut plain)));
            }
            pieces.push(Piece::Part(Selector::try_from(rest[..end].to_owned())?));
            rest = &rest[end + 1..];
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            pieces.push(Piece::Text(plain));
        }
        Ok(Self(pieces))
    }
}

impl Template {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn needs_json(&self) -> bool {
        self.0.iter().any(|piece| matches!(piece, Piece::Part(part) if part.needs_json()))
    }

    pub fn fill(&self, from: &Source) -> Result<String, String> {
        let piece = |piece: &Piece| match piece {
            Piece::Text(text) => Ok(text.clone()),
            Piece::Part(part) => part.text(from),
        };
        self.0.iter().map(piece).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::{Nulls, Record};

    fn stored() -> Stored {
        let value = br#"{"order": {"id": 1001, "lines": [{"sku": "a\"b"}], "paid": true, "big": 12345678901234567890123}, "note": null}"#;
        let record = Record {
            key: "k-7".into(),
            value: Some(value.as_slice().into()),
            headers: vec![
                ("tenant".into(), "acme".into()),
                ("raw".into(), vec![0xff, 0].into()),
                ("null".into(), "".into()),
                ("empty".into(), "".into()),
            ],
        };
        Stored { offset: 42, timestamp_ms: 0, record, nulls: Nulls { key: false, headers: vec![2] } }
    }

    fn filled(template: &str) -> Result<String, String> {
        let stored = stored();
        let json = serde_json::from_slice(stored.record.value.as_deref().unwrap()).unwrap();
        let from = Source { topic: Topic::User("orders"), partition: 3, stored: &stored, json: Some(json) };
        Template::try_from(template.to_owned())?.fill(&from)
    }

    #[test]
    fn a_template_is_filled_with_parts_of_the_record() {
        for (template, text) in [
            ("order-{value:order.id}", "order-1001"),
            ("{value:order.lines.0.sku}", "a\"b"),
            ("{value:order.paid} {value:order.big}", "true 12345678901234567890123"),
            ("{header:tenant}/{key}", "acme/k-7"),
            ("{topic}-{partition}-{offset}", "orders-3-42"),
            ("{{{key}}}", "{k-7}"),
            ("plain", "plain"),
            ("{header:empty}", ""),
        ] {
            assert_eq!(filled(template).as_deref(), Ok(text), "{template}");
        }
    }

    #[test]
    fn what_is_missing_or_no_text_is_named() {
        for (template, reason) in [
            ("{value:order.number}", "value:order.number is not there: number is missing in an object"),
            ("{value:order.lines.1}", "value:order.lines.1 is not there: 1 is missing in an array"),
            ("{value:order.id.x}", "value:order.id.x is not there: x is missing in a number"),
            ("{value:order}", "value:order is an object, and text or a number is needed"),
            ("{value:note}", "value:note is null, and text or a number is needed"),
            ("{header:region}", "the record has no header region"),
            ("{header:raw}", "header:raw is not text in UTF-8, and text is needed"),
            ("{header:null}", "the record's header null is null, and text is needed"),
        ] {
            assert_eq!(filled(template).as_ref().map_err(String::as_str), Err(reason), "{template}");
        }
    }

    #[test]
    fn a_null_key_is_not_an_empty_one() {
        let filled = |nulls: Nulls| {
            let stored = Stored { nulls, record: Record::default(), ..stored() };
            let from = Source { topic: Topic::User("orders"), partition: 3, stored: &stored, json: None };
            let payload = Selector::Key.payload(&from).unwrap();
            let encoding = String::from_utf8(payload.metadata["encoding"].to_vec()).unwrap();
            (Template::try_from("order-{key}".to_owned()).unwrap().fill(&from), encoding, payload.data)
        };
        let empty = (Ok("order-".to_owned()), "json/plain".to_owned(), "\"\"".into());
        assert_eq!(filled(Nulls::default()), empty);
        let refused = Err("the record's key is null, and text is needed".to_owned());
        assert_eq!(filled(Nulls { key: true, headers: Vec::new() }), (refused, "binary/null".to_owned(), "".into()));
    }

    #[test]
    fn a_template_that_is_none_is_refused() {
        for (template, part) in [
            ("{", "a brace without its other half"),
            ("a}", "a brace without its other half"),
            ("{name}", "\"name\" names no part of a record"),
            ("{value:a..b}", "\"value:a..b\" names no part"),
            ("{header:}", "\"header:\" names no part"),
        ] {
            let error = Template::try_from(template.to_owned()).unwrap_err();
            assert!(error.contains(part), "{template}: {error}");
        }
    }

    #[test]
    fn payloads_keep_json_as_it_stands_and_bytes_as_they_are() {
        let stored = stored();
        let json: &RawValue = serde_json::from_slice(stored.record.value.as_deref().unwrap()).unwrap();
        let from = |json| Source { topic: Topic::User("orders"), partition: 3, stored: &stored, json };
        let payload = |selector: &str, json| {
            let payload = Selector::try_from(selector.to_owned()).unwrap().payload(&from(json)).unwrap();
            (String::from_utf8_lossy(&payload.metadata["encoding"]).into_owned(), payload.data.to_vec())
        };
        let plain = |data: &str| ("json/plain".to_owned(), data.as_bytes().to_vec());
        assert_eq!(payload("value:order.big", Some(json)), plain("12345678901234567890123"));
        assert_eq!(payload("value", Some(json)), plain(json.get()));
        assert_eq!(payload("key", Some(json)), plain("\"k-7\""));
        assert_eq!(payload("header:raw", None), ("binary/plain".to_owned(), vec![0xff, 0]));
        assert_eq!(payload("value", None), ("binary/plain".to_owned(), json.get().as_bytes().to_vec()));
    }
}
