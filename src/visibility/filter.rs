//! The meaning of a list filter: which attributes it tests, with values of their types.
//!
//! What comes out names no SQL. A negation is carried inwards to the tests, which hold as Temporal's SQL stores have them:
//! a test of a missing value never holds, except `IS NULL` and the negative tests of a KeywordList or a Text.

use super::{
    Error,
    attributes::{
        Attributes, Field, Kind, STATUS, WORKFLOW_ID, milliseconds, nanoseconds, saturated, status_named, tokens,
    },
    duration,
    order::{Order, Part, SortField},
    syntax::{self, Syntax},
};
use crate::engine::batch::BATCHER;
use crate::engine::schedule::{PAUSED, SCHEDULER};
use crate::engine::{DIVISION, Kind as EntityKind};
use crate::proto::temporal::enums::v1::WorkflowExecutionStatus;
use chrono::DateTime;
use sqlparser::ast::{BinaryOperator, Expr, Ident, Spanned, UnaryOperator, Value};

/// SQLite takes 32,766 bound values in a statement.
const VALUES_MAX: usize = 30_000;
const SORT_FIELDS_MAX: usize = 16;

/// A parsed list filter for the entities of one kind in one namespace.
#[derive(Clone, Debug)]
pub struct Query {
    /// The kind whose language the text is in.
    language: EntityKind,
    pub(super) kind: EntityKind,
    pub(super) namespace_id: String,
    pub(super) filter: Option<Filter>,
    pub(super) order: Order,
    pub(super) group_by_status: bool,
    pub(super) names_only: bool,
}

#[derive(Clone, Debug)]
pub(super) enum Filter {
    All(Vec<Filter>),
    Any(Vec<Filter>),
    Test { field: Field, test: Test, negated: bool },
}

#[derive(Clone, Debug)]
pub(super) enum Test {
    Compare(Comparison, Part),
    In(Vec<Part>),
    Between(Part, Part),
    StartsWith(String),
    IsNull,
}

/// `=` is [`Test::In`] with one value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comparison {
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Query {
    /// Parses a filter of Temporal's list filter language for entities of a kind; an empty one matches all of them, of schedules those that
    /// have not ended. `custom` are the namespace's own search attributes. Fails if the text is wrong.
    pub fn parse(kind: EntityKind, namespace_id: &str, text: &str, custom: &Attributes) -> Result<Query, Error> {
        Self::of(kind, namespace_id, read(text)?, custom)
    }

    /// Checks that a filter is a condition alone, and of entities of no other kind: it can be made part of another.
    pub fn check_condition(kind: EntityKind, text: &str, custom: &Attributes) -> Result<(), Error> {
        let syntax = read(text)?;
        if !syntax.group_by.is_empty() || !syntax.order_by.is_empty() {
            return Err(Error::Query("only a condition is allowed here, without ORDER BY and GROUP BY".into()));
        }
        let query = Self::of(kind, "", syntax, custom)?;
        if query.kind != kind {
            return Err(Error::Query(format!("only workflows are allowed here, and {DIVISION} selects others")));
        }
        Ok(())
    }

    fn of(kind: EntityKind, namespace_id: &str, syntax: Syntax, custom: &Attributes) -> Result<Query, Error> {
        let language = kind;
        let mut meaning = Meaning { kind, custom, values: 0 };
        let mut filter = syntax.condition.map(|condition| meaning.condition(condition, false)).transpose()?;
        if kind == EntityKind::Schedule {
            let running = Part::Int(WorkflowExecutionStatus::Running as i64);
            let test = Test::In(vec![running]);
            let is_open = Filter::Test { field: Field::System(STATUS), test, negated: false };
            filter = Some(Filter::All(std::iter::once(is_open).chain(filter).collect()));
        }
        // On Temporal's server schedules and batches are workflows of divisions of their own, as which its web interface counts them.
        let is_within = |division| filter.as_ref().is_some_and(|filter| filter.is_within(DIVISION, division));
        let kind = if is_within(SCHEDULER) {
            EntityKind::Schedule
        } else if is_within(BATCHER) {
            EntityKind::Batch
        } else {
            kind
        };
        Ok(Query {
            language,
            kind,
            namespace_id: namespace_id.to_owned(),
            filter,
            order: meaning.order(syntax.order_by)?,
            group_by_status: meaning.group_by_status(&syntax.group_by)?,
            names_only: false,
        })
    }

    /// The kind that its text was parsed for.
    pub fn language(&self) -> EntityKind {
        self.language
    }

    /// The same, but rows have no memo, search attributes or info, which may be large. It must not be ordered by a search attribute of
    /// the namespace's.
    pub fn names_only(self, names_only: bool) -> Query {
        Query { names_only, ..self }
    }

    pub fn is_names_only(&self) -> bool {
        self.names_only
    }

    /// The same filter, over entities of another kind.
    pub fn of_kind(self, kind: EntityKind) -> Query {
        Query { kind, ..self }
    }

    /// Whether a page of the query's list gave this token.
    pub fn check_token(&self, page_token: &[u8]) -> Result<(), Error> {
        self.order.after(page_token).map(drop)
    }
}

fn read(text: &str) -> Result<Syntax, Error> {
    syntax::parse(text).map_err(|error| Error::Query(format!("malformed SQL query: {error}")))
}

impl Filter {
    /// Whether it holds only where an attribute has a value.
    fn is_within(&self, attribute: &str, value: &str) -> bool {
        match self {
            Filter::All(terms) => terms.iter().any(|term| term.is_within(attribute, value)),
            Filter::Any(_) => false,
            Filter::Test { field, test: Test::In(values), negated: false } => {
                field.name() == attribute && matches!(&values[..], [Part::Text(text)] if text == value)
            }
            Filter::Test { .. } => false,
        }
    }
}

struct Meaning<'a> {
    kind: EntityKind,
    custom: &'a Attributes,
    values: usize,
}

impl Meaning<'_> {
    fn condition(&mut self, expr: Expr, negated: bool) -> Result<Filter, Error> {
        match expr {
            Expr::Nested(inner) => self.condition(*inner, negated),
            Expr::UnaryOp { op: UnaryOperator::Not, expr } => self.condition(*expr, !negated),
            Expr::BinaryOp { left, op: op @ (BinaryOperator::And | BinaryOperator::Or), right } => {
                let terms = chain(*left, &op, *right).into_iter().map(|term| self.condition(term, negated));
                let terms = terms.collect::<Result<_, _>>()?;
                let all = (op == BinaryOperator::And) != negated;
                Ok(if all { Filter::All(terms) } else { Filter::Any(terms) })
            }
            Expr::BinaryOp { left, op, right } => self.comparison(&left, &op, *right, negated),
            Expr::InList { expr, list, negated: not } => {
                let field = self.field(&expr)?;
                let operator = if not { "not in" } else { "in" };
                allow(&field, operator, field.kind() != Kind::Text)?;
                let values = list.into_iter().map(|item| self.value(&field, item)).collect::<Result<_, _>>()?;
                Ok(Filter::Test { field, test: Test::In(values), negated: negated != not })
            }
            Expr::Between { expr, negated: not, low, high } => {
                let field = self.field(&expr)?;
                if matches!(field.kind(), Kind::Text | Kind::KeywordList | Kind::Bool | Kind::Status) {
                    return Err(invalid(format_args!(
                        "cannot do range condition on search attribute '{}' of type {}",
                        field.name(),
                        field.kind().name()
                    )));
                }
                let test = Test::Between(self.value(&field, *low)?, self.value(&field, *high)?);
                Ok(Filter::Test { field, test, negated: negated != not })
            }
            Expr::Like { expr, pattern, negated: not, .. } => {
                let field = self.field(&expr)?;
                let operator = if not { "not starts_with" } else { "starts_with" };
                allow(&field, operator, field.kind() == Kind::Keyword)?;
                match literal(*pattern)? {
                    Literal::Text(prefix) => {
                        Ok(Filter::Test { field, test: Test::StartsWith(prefix), negated: negated != not })
                    }
                    other => Err(invalid(format_args!(
                        "right-hand side of '{operator}' must be a literal string (got: {other})"
                    ))),
                }
            }
            Expr::IsNull(expr) => Ok(Filter::Test { field: self.field(&expr)?, test: Test::IsNull, negated }),
            Expr::IsNotNull(expr) => {
                Ok(Filter::Test { field: self.field(&expr)?, test: Test::IsNull, negated: !negated })
            }
            Expr::Identifier(name) => {
                Err(invalid(format_args!("incomplete expression '{}'{}", name.value, name.span.start)))
            }
            other => Err(invalid(format_args!("'{other}' is not a condition{}", other.span().start))),
        }
    }

    fn comparison(&mut self, left: &Expr, op: &BinaryOperator, right: Expr, negated: bool) -> Result<Filter, Error> {
        let field = self.field(left)?;
        let comparison = match op {
            BinaryOperator::Eq | BinaryOperator::NotEq => None,
            BinaryOperator::Lt => Some(Comparison::Less),
            BinaryOperator::LtEq => Some(Comparison::LessOrEqual),
            BinaryOperator::Gt => Some(Comparison::Greater),
            BinaryOperator::GtEq => Some(Comparison::GreaterOrEqual),
            other => return Err(invalid(format_args!("invalid operator '{other}'"))),
        };
        let ordered = !matches!(field.kind(), Kind::Text | Kind::KeywordList | Kind::Status);
        allow(&field, op, comparison.is_none() || ordered)?;
        let value = self.value(&field, right)?;
        let test = match (comparison, field.kind(), value) {
            (Some(comparison), _, value) => Test::Compare(comparison, value),
            // Any of the words, as Temporal's SQL stores have it.
            (None, Kind::Text, Part::Text(text)) => {
                let tokens = tokens(&text);
                if tokens.is_empty() {
                    return Err(invalid(format_args!(
                        "no tokens found filtering on Text type search attribute {}",
                        field.name()
                    )));
                }
                Test::In(tokens.into_iter().map(Part::Text).collect())
            }
            (None, _, value) => Test::In(vec![value]),
        };
        Ok(Filter::Test { field, test, negated: negated != (*op == BinaryOperator::NotEq) })
    }

    fn field(&self, expr: &Expr) -> Result<Field, Error> {
        match expr {
            Expr::Identifier(name) => self.named(name),
            other => Err(invalid(format_args!("must be a column name but was '{other}'{}", other.span().start))),
        }
    }

    fn named(&self, name: &Ident) -> Result<Field, Error> {
        let field = Field::resolve(&name.value, self.custom);
        if self.kind == EntityKind::Schedule && !self.custom.contains_key(&name.value) {
            return match name.value.as_str() {
                "ScheduleId" => Ok(Field::System(WORKFLOW_ID)),
                PAUSED => field.ok_or_else(|| no_attribute(name)),
                other if field.is_some() => Err(Error::NoFilterOfSchedules(other.to_owned())),
                _ => Err(no_attribute(name)),
            };
        }
        field.ok_or_else(|| no_attribute(name))
    }

    fn value(&mut self, field: &Field, expr: Expr) -> Result<Part, Error> {
        self.values += 1;
        if self.values > VALUES_MAX {
            return Err(invalid(format_args!("more than {VALUES_MAX} values")));
        }
        let literal = literal(expr)?;
        match (field.kind(), literal) {
            (Kind::Keyword | Kind::KeywordList | Kind::Text, Literal::Text(text)) => Ok(Part::Text(text)),
            (Kind::Int | Kind::Double, Literal::Int(value)) => Ok(Part::Int(value)),
            (Kind::Int | Kind::Double, Literal::Real(value)) => Ok(Part::Real(value)),
            (Kind::Bool, Literal::Bool(value)) => Ok(Part::Int(value.into())),
            (Kind::Datetime, Literal::Int(nanos)) => Ok(time(field, nanos.into())),
            (Kind::Datetime, Literal::Text(text)) => DateTime::parse_from_rfc3339(&text)
                .map(|parsed| time(field, nanoseconds(parsed)))
                .map_err(|_| invalid(format_args!("unable to parse datetime '{text}'"))),
            (Kind::Duration, Literal::Int(nanos)) => Ok(milliseconds(nanos.into())),
            (Kind::Duration, Literal::Text(text)) => {
                duration::parse(&text).map(|nanos| milliseconds(nanos.into())).ok_or_else(|| {
                    invalid(format_args!("invalid duration value for search attribute {}: {text}", field.name()))
                })
            }
            (Kind::Status, Literal::Text(text)) => status_named(&text)
                .map(|status| Part::Int(status.into()))
                .ok_or_else(|| invalid(format_args!("invalid ExecutionStatus value '{text}'"))),
            (Kind::Status, Literal::Int(value)) => i32::try_from(value)
                .ok()
                .filter(|status| WorkflowExecutionStatus::try_from(*status).is_ok())
                .map(|status| Part::Int(status.into()))
                .ok_or_else(|| invalid(format_args!("invalid ExecutionStatus value {value}"))),
            (kind, literal) => Err(invalid(format_args!(
                "invalid value type for search attribute {} of type {}: {literal}",
                field.name(),
                kind.name()
            ))),
        }
    }

    fn order(&self, fields: Vec<(Ident, bool)>) -> Result<Order, Error> {
        if fields.is_empty() {
            return Ok(Order::default());
        }
        if fields.len() > SORT_FIELDS_MAX {
            return Err(unsupported(format_args!("'ORDER BY' clause with more than {SORT_FIELDS_MAX} fields")));
        }
        let sort = |(name, descending): (Ident, bool)| {
            let field = self.named(&name)?;
            match field.kind() {
                kind @ (Kind::Text | Kind::KeywordList) => Err(unsupported(format_args!(
                    "unable to sort by search attribute type {} ('{}'{})",
                    kind.name(),
                    name.value,
                    name.span.start
                ))),
                _ => Ok(SortField { field, descending }),
            }
        };
        Ok(Order::by(fields.into_iter().map(sort).collect::<Result<_, _>>()?))
    }

    fn group_by_status(&self, fields: &[Ident]) -> Result<bool, Error> {
        let [name] = fields else {
            let none = fields.is_empty();
            return if none { Ok(false) } else { Err(unsupported("'GROUP BY' clause supports only a single field")) };
        };
        let unknown = |_| Error::Query(format!("invalid search attribute: {}", name.value));
        if self.named(name).map_err(unknown)?.kind() != Kind::Status {
            return Err(unsupported(format_args!(
                "'GROUP BY' clause is not supported for search attribute {}",
                name.value
            )));
        }
        Ok(true)
    }
}

/// A time as the field stores it.
fn time(field: &Field, nanos: i128) -> Part {
    match field {
        Field::System(_) => milliseconds(nanos),
        Field::Stored { .. } => Part::Int(saturated(nanos)),
    }
}

/// The terms of a chain of one connective, which the parser nests to the left; taken apart without recursion.
fn chain(left: Expr, op: &BinaryOperator, right: Expr) -> Vec<Expr> {
    let mut terms = vec![right];
    let mut rest = left;
    loop {
        match rest {
            Expr::BinaryOp { left, op: inner, right } if inner == *op => {
                terms.push(*right);
                rest = *left;
            }
            first => {
                terms.push(first);
                terms.reverse();
                return terms;
            }
        }
    }
}

#[derive(Debug)]
enum Literal {
    Text(String),
    Int(i64),
    Real(f64),
    Bool(bool),
}

impl std::fmt::Display for Literal {
    fn fmt(&self, formatter: &mut std::fmt::Formatter) -> std::fmt::Result {
        match self {
            Literal::Text(text) => write!(formatter, "'{text}' (type: string)"),
            Literal::Int(value) => write!(formatter, "{value} (type: int64)"),
            Literal::Real(value) => write!(formatter, "{value} (type: float64)"),
            Literal::Bool(value) => write!(formatter, "{value} (type: bool)"),
        }
    }
}

fn literal(expr: Expr) -> Result<Literal, Error> {
    let place = expr.span().start;
    match expr {
        Expr::Value(value) => match value.value {
            Value::SingleQuotedString(text) | Value::DoubleQuotedString(text) => Ok(Literal::Text(text)),
            Value::Boolean(value) => Ok(Literal::Bool(value)),
            Value::Number(digits, _) => number(&digits),
            Value::Null => Err(invalid(format_args!("a value can't be NULL (use IS NULL or IS NOT NULL){place}"))),
            other => Err(invalid(format_args!("unable to parse value '{other}'{place}"))),
        },
        Expr::UnaryOp { op, expr } if matches!(op, UnaryOperator::Plus | UnaryOperator::Minus) => match *expr {
            Expr::Value(value) if matches!(value.value, Value::Number(..)) => match value.value {
                Value::Number(digits, _) if op == UnaryOperator::Minus => number(&format!("-{digits}")),
                Value::Number(digits, _) => number(&digits),
                _ => Err(invalid("unary operator on what is no number")),
            },
            other => Err(invalid(format_args!("unary operator not supported in '{op}{other}'{place}"))),
        },
        Expr::Nested(inner) => literal(*inner),
        Expr::Identifier(name) => Err(unsupported(format_args!(
            "column name on the right side of comparison expression (did you forget to quote \"{}\"?){}",
            name.value, name.span.start
        ))),
        other => Err(invalid(format_args!("unexpected value '{other}'{place}"))),
    }
}

fn number(digits: &str) -> Result<Literal, Error> {
    if let Ok(value) = digits.parse() {
        return Ok(Literal::Int(value));
    }
    match digits.parse::<f64>() {
        Ok(value) if value.is_finite() => Ok(Literal::Real(value)),
        _ => Err(invalid(format_args!("unable to parse value '{digits}'"))),
    }
}

fn allow(field: &Field, operator: impl std::fmt::Display, allowed: bool) -> Result<(), Error> {
    if allowed {
        return Ok(());
    }
    Err(invalid(format_args!(
        "operator '{operator}' not supported for {} type search attribute '{}'",
        field.kind().name(),
        field.name()
    )))
}

fn no_attribute(name: &Ident) -> Error {
    invalid(format_args!("column name '{}' is not a valid search attribute{}", name.value, name.span.start))
}

fn invalid(message: impl std::fmt::Display) -> Error {
    Error::Query(format!("invalid expression: {message}"))
}

fn unsupported(message: impl std::fmt::Display) -> Error {
    Error::Query(format!("operation is not supported: {message}"))
}
