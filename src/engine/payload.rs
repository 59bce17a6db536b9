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
    let metadata = [("encoding".to_owned(), "json/plain".into()), ("type".to_owned(), "KeywordList".into())].into();
    Payload { metadata, data: format!("[{}]", list.join(",")).into(), ..Payload::default() }
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
