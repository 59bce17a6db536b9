//! Records of any schema as JSON, by the schema that wrote them: what subscriptions make of other people's Avro.
//!
//! | Avro | JSON |
//! |---|---|
//! | null, boolean, int, long, string, array, map, record | what it is called there |
//! | float, double | a number; `"NaN"`, `"Infinity"` and `"-Infinity"` as text, as JSON has no literal for them |
//! | union | the value, with nothing around it |
//! | enum | its symbol |
//! | bytes, fixed | base64 |
//! | decimal, big-decimal | text: `"12.50"`, exact, with all digits of its scale |
//! | date, time-*, timestamp-*, local-timestamp-* | text: `"2026-11-22"`, `"13:14:15.123"`, `"2026-11-22T13:14:15.123Z"`, and without `Z` |
//! | duration | text, as ISO 8601 has it: `"P1M2DT3.004S"` |
//! | uuid | text |
//!
//! Fields keep their order. Every length is checked against what is there before anything is set aside for it, and the
//! nesting and the JSON are bounded: a record may come from anyone. That is also why `apache-avro` does not do this: its decoder
//! allocates memory by lengths that it has only read, recurses as deep as the record demands, and takes a string that is cut
//! off for a null. It gives a second opinion in the tests.

use super::Error;
use super::cursor::{DEPTH_MAX, Input};
use super::logical::{Logical, logical};
use super::schema_text::{default, parse_all, type_name};
use super::values_text as text;
use apache_avro::Schema;
use apache_avro::schema::{Name, RecordField};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use std::collections::HashMap;
use std::fmt::Write as _;

/// What one record may come to. More would not fit into a command anyway. Bytes.
const JSON_BYTES_MAX: usize = 16 << 20;

/// Reads and writes records of one schema.
#[derive(Debug)]
pub struct Values {
    pub(super) nodes: Vec<Node>,
    pub(super) root: usize,
    /// The full name of the outermost type.
    pub(super) name: String,
}

/// A type. Numbers are places in `Values::nodes`.
#[derive(Debug)]
pub(super) enum Node {
    Null,
    Boolean,
    Int,
    Long,
    Float,
    Double,
    Bytes,
    String,
    Fixed(usize),
    Enum(Vec<String>),
    Array(usize),
    Map(usize),
    Union(Vec<usize>),
    Record(Vec<Field>),
    Logical(Logical, usize),
}

#[derive(Debug)]
pub(super) struct Field {
    pub name: String,
    /// The name as JSON, with the colon.
    key: String,
    pub node: usize,
    /// As the schema has it: Avro's JSON, which is not that of values.
    pub default: Option<String>,
}

impl Values {
    /// Of the schema whose text comes last; those that it refers to, if any, come before it.
    pub fn new(schemas: &[impl AsRef<str>]) -> Result<Values, Error> {
        let schemas = parse_all(schemas, true)?;
        let mut compiler = Compiler { nodes: Vec::new(), named: HashMap::new() };
        let mut root = None;
        for schema in &schemas {
            root = Some((compiler.node(schema), type_name(schema)));
        }
        let (root, name) = root.ok_or_else(|| Error::Schema("Expected a schema".to_owned()))?;
        Ok(Values { nodes: compiler.nodes, root, name })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// The body of a record as JSON. The record must end where the body does.
    pub fn to_json(&self, body: &[u8]) -> Result<String, Error> {
        let mut writer = Writer { nodes: &self.nodes, input: Input::new(body), out: String::new() };
        writer.value(self.root, 0)?;
        if !writer.input.is_at_end() {
            return Err(writer.input.invalid("the end of the record"));
        }
        Ok(writer.out)
    }
}

struct Compiler<'a> {
    nodes: Vec<Node>,
    named: HashMap<&'a Name, usize>,
}

impl<'a> Compiler<'a> {
    fn node(&mut self, schema: &'a Schema) -> usize {
        if let Schema::Ref { name } = schema {
            return *self.named.get(name).expect("Every name has its definition");
        }
        // A record may have itself inside: it has its place before its fields have theirs.
        let place = self.nodes.len();
        self.nodes.push(Node::Null);
        if let Some(name) = schema.name() {
            self.named.insert(name, place);
        }
        if let Some((logical, base)) = logical(schema) {
            self.nodes.push(base);
            self.nodes[place] = Node::Logical(logical, place + 1);
            return place;
        }
        let node = match schema {
            Schema::Boolean => Node::Boolean,
            Schema::Int => Node::Int,
            Schema::Long => Node::Long,
            Schema::Float => Node::Float,
            Schema::Double => Node::Double,
            Schema::Bytes | Schema::Decimal(_) => Node::Bytes,
            Schema::String => Node::String,
            Schema::Fixed(fixed) => Node::Fixed(fixed.size),
            Schema::Enum(symbols) => Node::Enum(symbols.symbols.clone()),
            Schema::Array(array) => Node::Array(self.node(&array.items)),
            Schema::Map(map) => Node::Map(self.node(&map.types)),
            Schema::Union(union) => Node::Union(union.variants().iter().map(|branch| self.node(branch)).collect()),
            Schema::Record(record) => {
                let field = |field: &'a RecordField| Field {
                    key: format!("{}:", serde_json::Value::from(field.name.as_str())),
                    name: field.name.clone(),
                    node: self.node(&field.schema),
                    default: default(field).map(serde_json::Value::to_string),
                };
                Node::Record(record.fields.iter().map(field).collect())
            }
            Schema::Null => Node::Null,
            other => unreachable!("{other} is a logical type, or names another"),
        };
        self.nodes[place] = node;
        place
    }
}

struct Writer<'a> {
    nodes: &'a [Node],
    input: Input<'a>,
    out: String,
}

impl<'a> Writer<'a> {
    fn value(&mut self, node: usize, depth: u32) -> Result<(), Error> {
        if depth > DEPTH_MAX {
            return Err(Error::TooDeep);
        }
        // Also what ends a list with a count of billions of nulls: each is written.
        if self.out.len() > JSON_BYTES_MAX {
            return Err(self.input.invalid("a record of at most 16 MiB as JSON"));
        }
        let nodes = self.nodes;
        match &nodes[node] {
            Node::Null => self.out.push_str("null"),
            Node::Boolean => match self.input.byte()? {
                0 => self.out.push_str("false"),
                1 => self.out.push_str("true"),
                _ => return Err(self.input.invalid("0 or 1 for a boolean")),
            },
            Node::Int => {
                let number = self.int()?;
                let _ = write!(self.out, "{number}");
            }
            Node::Long => {
                let number = self.input.zigzag()?;
                let _ = write!(self.out, "{number}");
            }
            Node::Float => {
                let number = f32::from_le_bytes(self.input.array()?);
                self.number(serde_json::to_string(&number).ok().filter(|_| number.is_finite()), f64::from(number));
            }
            Node::Double => {
                let number = f64::from_le_bytes(self.input.array()?);
                self.number(serde_json::to_string(&number).ok().filter(|_| number.is_finite()), number);
            }
            Node::String => self.string()?,
            Node::Bytes => {
                let bytes = self.input.blob()?;
                self.base64(bytes);
            }
            Node::Fixed(size) => {
                let bytes = self.input.take(*size)?;
                self.base64(bytes);
            }
            Node::Enum(symbols) => {
                let symbol = usize::try_from(self.input.zigzag()?).ok().and_then(|index| symbols.get(index));
                let symbol = symbol.ok_or_else(|| self.input.invalid("a symbol of the enum"))?;
                self.quoted(symbol);
            }
            Node::Array(items) => self.blocks('[', ']', |writer| writer.value(*items, depth + 1))?,
            Node::Map(values) => self.blocks('{', '}', |writer| {
                writer.string()?;
                writer.out.push(':');
                writer.value(*values, depth + 1)
            })?,
            Node::Union(branches) => {
                let branch = usize::try_from(self.input.zigzag()?).ok().and_then(|index| branches.get(index));
                let branch = *branch.ok_or_else(|| self.input.invalid("a branch of the union"))?;
                self.value(branch, depth + 1)?;
            }
            Node::Record(fields) => {
                self.out.push('{');
                for (index, field) in fields.iter().enumerate() {
                    self.out.push_str(if index > 0 { "," } else { "" });
                    self.out.push_str(&field.key);
                    self.value(field.node, depth + 1)?;
                }
                self.out.push('}');
            }
            Node::Logical(logical, base) => self.logical(*logical, &nodes[*base])?,
        }
        Ok(())
    }

    fn logical(&mut self, logical: Logical, base: &Node) -> Result<(), Error> {
        let text = match logical {
            Logical::Uuid if matches!(base, Node::String) => return self.string(),
            Logical::Uuid => Some(text::uuid(self.input.array()?)),
            Logical::Decimal { scale } => {
                let bytes = match base {
                    Node::Fixed(size) => self.input.take(*size)?,
                    _ => self.input.blob()?,
                };
                text::decimal(bytes, i64::from(scale))
            }
            Logical::BigDecimal => {
                let mut inner = Input::new(self.input.blob()?);
                let (unscaled, scale) = (inner.blob()?, inner.zigzag()?);
                if inner.is_at_end() { text::decimal(unscaled, scale) } else { None }
            }
            Logical::Date => text::date(i64::from(self.int()?)),
            Logical::Time(unit) => text::time(self.input.zigzag()?, unit),
            Logical::Timestamp(unit) => text::timestamp(self.input.zigzag()?, unit),
            Logical::LocalTimestamp(unit) => {
                text::timestamp(self.input.zigzag()?, unit).map(|text| text.trim_end_matches('Z').to_owned())
            }
            Logical::Duration => Some(text::duration(self.input.array()?)),
        };
        let text = text.ok_or_else(|| self.input.invalid(text::expected(logical)))?;
        self.quoted(&text);
        Ok(())
    }

    /// The blocks of an array or a map.
    fn blocks(
        &mut self,
        open: char,
        close: char,
        mut item: impl FnMut(&mut Self) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.out.push(open);
        let mut first = true;
        loop {
            let count = self.input.zigzag()?;
            if count == 0 {
                break;
            }
            if count < 0 {
                // A negative count is followed by the block's size in bytes, for readers that skip.
                self.input.zigzag()?;
            }
            for _ in 0..count.unsigned_abs() {
                if !std::mem::take(&mut first) {
                    self.out.push(',');
                }
                item(self)?;
            }
        }
        self.out.push(close);
        Ok(())
    }

    fn int(&mut self) -> Result<i32, Error> {
        let number = self.input.zigzag()?;
        i32::try_from(number).map_err(|_| self.input.invalid("a number of 32 bits"))
    }

    fn number(&mut self, finite: Option<String>, number: f64) {
        match finite {
            Some(text) => self.out.push_str(&text),
            None if number.is_nan() => self.out.push_str("\"NaN\""),
            None => self.out.push_str(if number > 0.0 { "\"Infinity\"" } else { "\"-Infinity\"" }),
        }
    }

    fn string(&mut self) -> Result<(), Error> {
        let bytes = self.input.blob()?;
        let text = std::str::from_utf8(bytes).map_err(|_| self.input.invalid("text in UTF-8"))?;
        self.quoted(text);
        Ok(())
    }

    fn base64(&mut self, bytes: &[u8]) {
        self.out.push('"');
        BASE64.encode_string(bytes, &mut self.out);
        self.out.push('"');
    }

    fn quoted(&mut self, text: &str) {
        let _ = write!(self.out, "{}", serde_json::Value::from(text));
    }
}
