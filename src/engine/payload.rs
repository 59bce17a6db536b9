//! Payloads that the server itself writes into histories.

use crate::proto::temporal::common::v1::{Payload, Payloads};

/// Text, in the encoding of Temporal's default data converter.
pub fn json_text(text: &str) -> Payloads {
    let metadata = [("encoding".to_owned(), "json/plain".into())].into();
    Payloads { payloads: vec![Payload { metadata, data: json_string(text).into(), ..Payload::default() }] }
}

/// The value of a search attribute that the server sets: a list of keywords.
pub fn keyword_list<T: AsRef<str>>(values: impl IntoIterator<Item = T>) -> Payload {
    let list: Vec<String> = values.into_iter().map(|value| json_string(value.as_ref())).collect();
    search_attribute("KeywordList", format!("[{}]", list.join(",")))
}

/// The same: a keyword.
pub fn keyword(value: &str) -> Payload {
    search_attribute("Keyword", json_string(value))
}

/// The same: a truth value.
pub fn bool(value: bool) -> Payload {
    search_attribute("Bool", value.to_string())
}

/// The same: a time, in whole seconds since the Unix epoch.
pub fn datetime(seconds: i64) -> Payload {
    search_attribute("Datetime", json_string(&rfc3339(seconds)))
}

/// Seconds since the Unix epoch, in UTC.
pub fn rfc3339(seconds: i64) -> String {
    let time = chrono::DateTime::from_timestamp(seconds, 0).unwrap_or_default();
    time.to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
}

fn search_attribute(of_type: &'static str, json: String) -> Payload {
    let metadata = [("encoding".to_owned(), "json/plain".into()), ("type".to_owned(), of_type.into())].into();
    Payload { metadata, data: json.into(), ..Payload::default() }
}

fn json_string(text: &str) -> String {
    let mut data = String::with_capacity(text.len() + 2);
    data.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => data.extend(['\\', c]),
            c if c < ' ' => data.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => data.push(c),
        }
    }
    data.push('"');
    data
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_quoted_and_escaped() {
        let payload = json_text("a \"quoted\" back\\slash\n").payloads.remove(0);
        assert_eq!(&payload.data[..], br#""a \"quoted\" back\\slash\u000a""#);
        assert_eq!(&payload.metadata["encoding"][..], b"json/plain");
    }
}
