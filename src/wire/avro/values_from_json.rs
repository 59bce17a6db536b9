//! JSON as a record of any schema: the way back of [`values`](super::values), for people who write records by hand.
//!
//! A value of a union becomes its first branch that fits. A field that is left out has its default, if the schema gives one.

use super::cursor::{DEPTH_MAX, put_blob, put_zigzag};
use super::logical::Logical;
use super::values::{Field, Node, Values};
use super::values_text as text;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::Value;

impl Values {
    /// The body of a record. The error names the field, and what is expected there.
    pub fn read_json(&self, json: &Value) -> Result<Vec<u8>, String> {
        let mut out = Vec::new();
        let mut reader = Reader { nodes: &self.nodes, path: Vec::new(), default: false };
        reader.put(self.root, json, &mut out)?;
        Ok(out)
    }
}

struct Reader<'a> {
    nodes: &'a [Node],
    path: Vec<String>,
    /// Inside of a default: bytes are text there, each character one of them, and no type has another meaning.
    default: bool,
}

impl<'a> Reader<'a> {
    fn expected(&self, what: &str, found: &Value) -> String {
        let place = if self.path.is_empty() { "the value".to_owned() } else { self.path.join(".") };
        let mut found = found.to_string();
        if let Some((end, _)) = found.char_indices().nth(60) {
            found.truncate(end);
            found.push('…');
        }
        format!("Expected {place} to be {what}, but found {found}")
    }

    fn put(&mut self, node: usize, json: &Value, out: &mut Vec<u8>) -> Result<(), String> {
        if self.path.len() > DEPTH_MAX as usize {
            return Err(format!("Expected values nested at most {DEPTH_MAX} levels deep, but there are more"));
        }
        let nodes = self.nodes;
        match (&nodes[node], json) {
            (Node::Null, Value::Null) => {}
            (Node::Boolean, Value::Bool(value)) => out.push(u8::from(*value)),
            (Node::Int, _) => {
                let number = json.as_i64().filter(|number| i32::try_from(*number).is_ok());
                put_zigzag(out, number.ok_or_else(|| self.expected("a number of 32 bits", json))?);
            }
            (Node::Long, _) => {
                put_zigzag(out, json.as_i64().ok_or_else(|| self.expected("a number of 64 bits", json))?)
            }
            (Node::Float, _) => out.extend((self.double(json)? as f32).to_le_bytes()),
            (Node::Double, _) => out.extend(self.double(json)?.to_le_bytes()),
            (Node::String, Value::String(text)) => put_blob(out, text.as_bytes()),
            (Node::Bytes, Value::String(_)) => put_blob(out, &self.bytes(json, None)?),
            (Node::Fixed(size), Value::String(_)) => out.extend(self.bytes(json, Some(*size))?),
            (Node::Enum(symbols), Value::String(text)) => {
                let index = symbols.iter().position(|symbol| symbol == text);
                let expected = || self.expected(&format!("one of {}", symbols.join(", ")), json);
                put_zigzag(out, index.ok_or_else(expected)? as i64);
            }
            (Node::Array(items), Value::Array(values)) => {
                self.blocks(values.iter().enumerate(), out, |reader, (index, value), out| {
                    reader.within(&index.to_string(), *items, value, out)
                })?
            }
            (Node::Map(items), Value::Object(entries)) => {
                self.blocks(entries.iter(), out, |reader, (key, value), out| {
                    put_blob(out, key.as_bytes());
                    reader.within(key, *items, value, out)
                })?
            }
            (Node::Union(branches), _) => self.union(branches, json, out)?,
            (Node::Record(fields), Value::Object(_)) => self.record(fields, json, out)?,
            (Node::Logical(_, base), _) if self.default => self.put(*base, json, out)?,
            (Node::Logical(logical, base), Value::String(text)) => self.logical(*logical, &nodes[*base], text, out)?,
            (node, _) => return Err(self.expected(what(node), json)),
        }
        Ok(())
    }

    fn within(&mut self, name: &str, node: usize, json: &Value, out: &mut Vec<u8>) -> Result<(), String> {
        self.path.push(name.to_owned());
        self.put(node, json, out)?;
        self.path.pop();
        Ok(())
    }

    fn blocks<T>(
        &mut self,
        items: impl ExactSizeIterator<Item = T>,
        out: &mut Vec<u8>,
        mut put: impl FnMut(&mut Self, T, &mut Vec<u8>) -> Result<(), String>,
    ) -> Result<(), String> {
        if items.len() > 0 {
            put_zigzag(out, items.len() as i64);
            for item in items {
                put(self, item, out)?;
            }
        }
        put_zigzag(out, 0);
        Ok(())
    }

    fn union(&mut self, branches: &[usize], json: &Value, out: &mut Vec<u8>) -> Result<(), String> {
        let (start, depth) = (out.len(), self.path.len());
        let mut reasons = Vec::new();
        for (index, branch) in branches.iter().enumerate() {
            put_zigzag(out, index as i64);
            match self.put(*branch, json, out) {
                Ok(()) => return Ok(()),
                // A default is of the first branch.
                Err(reason) if self.default => return Err(reason),
                Err(reason) => reasons.push(reason),
            }
            out.truncate(start);
            self.path.truncate(depth);
        }
        // Of a nullable value, why it is not the other is what helps.
        let is_null = |branch: &usize| matches!(self.nodes[*branch], Node::Null);
        let of_values: Vec<_> =
            branches.iter().zip(reasons).filter(|(branch, _)| !is_null(branch)).map(|(_, reason)| reason).collect();
        Err(if of_values.is_empty() { self.expected("null", json) } else { of_values.join("; or: ") })
    }

    fn record(&mut self, fields: &[Field], json: &Value, out: &mut Vec<u8>) -> Result<(), String> {
        let given = json.as_object().map(|given| given.keys()).into_iter().flatten();
        let known = |name: &String| fields.iter().any(|field| field.name == *name);
        if let Some(unknown) = given.into_iter().find(|name| !known(name)) {
            let names: Vec<_> = fields.iter().map(|field| field.name.as_str()).collect();
            return Err(self.expected(&format!("a record of {}, which has no {unknown}", names.join(", ")), json));
        }
        for field in fields {
            match (json.get(&field.name), &field.default) {
                (Some(value), _) => self.within(&field.name, field.node, value, out)?,
                (None, Some(default)) => {
                    let outer = std::mem::replace(&mut self.default, true);
                    let value = serde_json::from_str(default).map_err(|error| error.to_string())?;
                    let put = self.within(&field.name, field.node, &value, out);
                    self.default = outer;
                    put?;
                }
                (None, None) => {
                    return Err(self.expected(&format!("a record with {}, which has no default", field.name), json));
                }
            }
        }
        Ok(())
    }

    fn double(&self, json: &Value) -> Result<f64, String> {
        let named = match json.as_str() {
            Some("NaN") => Some(f64::NAN),
            Some("Infinity") => Some(f64::INFINITY),
            Some("-Infinity") => Some(f64::NEG_INFINITY),
            _ => json.as_f64(),
        };
        named.ok_or_else(|| self.expected("a number", json))
    }

    fn bytes(&self, json: &Value, size: Option<usize>) -> Result<Vec<u8>, String> {
        let text = json.as_str().unwrap_or_default();
        let bytes = if self.default {
            text.chars().map(|c| u8::try_from(u32::from(c)).ok()).collect()
        } else {
            BASE64.decode(text).ok()
        };
        let what = match size {
            Some(size) => format!("{size} bytes in base64"),
            None => "bytes in base64".to_owned(),
        };
        bytes
            .filter(|bytes: &Vec<u8>| size.is_none_or(|size| bytes.len() == size))
            .ok_or_else(|| self.expected(&what, json))
    }

    fn logical(&self, logical: Logical, base: &Node, value: &str, out: &mut Vec<u8>) -> Result<(), String> {
        let put_number = |number: i64, out: &mut Vec<u8>| put_zigzag(out, number);
        let put = match (logical, base) {
            (Logical::Uuid, Node::String) => text::parse_uuid(value).map(|_| put_blob(out, value.as_bytes())),
            (Logical::Uuid, _) => text::parse_uuid(value).map(|uuid| out.extend(uuid)),
            (Logical::Decimal { scale }, Node::Fixed(size)) => {
                text::parse_decimal(value, Some(scale), Some(*size)).map(|(unscaled, _)| out.extend(unscaled))
            }
            (Logical::Decimal { scale }, _) => {
                text::parse_decimal(value, Some(scale), None).map(|(unscaled, _)| put_blob(out, &unscaled))
            }
            (Logical::BigDecimal, _) => text::parse_decimal(value, None, None).map(|(unscaled, scale)| {
                let mut inner = Vec::new();
                put_blob(&mut inner, &unscaled);
                put_zigzag(&mut inner, i64::from(scale));
                put_blob(out, &inner);
            }),
            (Logical::Date, _) => text::parse_date(value).map(|days| put_number(days, out)),
            (Logical::Time(unit), _) => text::parse_time(value, unit).map(|time| put_number(time, out)),
            (Logical::Timestamp(unit), _) => text::parse_timestamp(value, unit).map(|time| put_number(time, out)),
            (Logical::LocalTimestamp(unit), _) => text::parse_local(value, unit).map(|time| put_number(time, out)),
            (Logical::Duration, _) => text::parse_duration(value).map(|fixed| out.extend(fixed)),
        };
        put.ok_or_else(|| self.expected(text::expected(logical), &Value::from(value)))
    }
}

fn what(node: &Node) -> &'static str {
    match node {
        Node::Null => "null",
        Node::Boolean => "true or false",
        Node::Int | Node::Long | Node::Float | Node::Double => "a number",
        Node::Bytes | Node::Fixed(_) => "bytes in base64",
        Node::String | Node::Enum(_) => "text",
        Node::Array(_) => "a list",
        Node::Map(_) | Node::Record(_) | Node::Union(_) => "an object",
        Node::Logical(logical, _) => text::expected(*logical),
    }
}
