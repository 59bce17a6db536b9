//! Payloads that the server itself writes into histories.

use crate::proto::temporal::common::v1::{Payload, Payloads};

/// Text, in the encoding of Temporal's default data converter.
pub fn json_text(text: &str) -> Payloads {
    let metadata = [("encoding".to_owned(), "json/plain".into())].into();
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
    Payloads { payloads: vec![Payload { metadata, data: data.into(), ..Payload::default() }] }
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
