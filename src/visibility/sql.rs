//! Queries as SQL over the projection's tables. Every value is bound; only text of this file is ever part of a statement.

use super::{
    attributes::{Field, Kind, START_TIME, WORKFLOW_ID, stored_name},
    filter::{Comparison, Filter, Query, Test},
    order::{Key, Order, Part, SortField},
};
use rusqlite::types::Value;
use std::fmt::Write;

/// A statement and what to bind to it.
#[derive(Debug, Default)]
pub(super) struct Statement {
    pub text: String,
    pub values: Vec<Value>,
    /// Of a list: the name of the field that it is ordered by first.
    ordered_by: Option<String>,
}

/// Whether few runs pass a test of a field: [`matches_up_to`] some.
pub(super) type Few<'a> = &'a dyn Fn(&Field, &Test) -> bool;

/// The runs that match, in order, after a key. `columns` is the caller's list of columns of `run r`.
pub(super) fn list(
    columns: &str,
    namespace: i64,
    query: &Query,
    after: Option<&Key>,
    limit: usize,
    few: Few,
) -> Statement {
    let first = query.order.0.first().map(|sort| sort.field.name().to_owned());
    let mut statement = Statement { ordered_by: first, ..Statement::default() };
    statement.select(columns, namespace, query, few);
    if let Some(key) = after {
        statement.text.push_str(" AND ");
        statement.after(&query.order, key);
    }
    statement.text.push_str(" ORDER BY ");
    for (index, sort) in query.order.0.iter().enumerate() {
        statement.text.push_str(if index == 0 { "" } else { ", " });
        statement.sort_value(sort);
        statement.text.push_str(if sort.descending { " DESC" } else { " ASC" });
    }
    statement.text.push_str(" LIMIT ");
    statement.bind(Value::Integer(i64::try_from(limit).unwrap_or(i64::MAX)));
    statement
}

/// One row (status, count) for each status, or a single row (0, count).
pub(super) fn count(namespace: i64, query: &Query, few: Few) -> Statement {
    let mut statement = Statement::default();
    if query.group_by_status {
        statement.select("r.status, count(*)", namespace, query, few);
        statement.text.push_str(" GROUP BY r.status ORDER BY r.status");
    } else {
        statement.select("0, count(*)", namespace, query, few);
    }
    statement
}

/// How many values of a field pass a test, counted up to a limit.
pub(super) fn matches_up_to(limit: usize, namespace: i64, field: &Field, test: &Test) -> Statement {
    let mut statement = Statement::default();
    let (table, value) = match field {
        Field::System(system) => ("run r WHERE r", system.sql),
        Field::Stored { .. } => ("attribute a WHERE a", "a.value"),
    };
    write!(statement.text, "SELECT count(*) FROM (SELECT 1 FROM {table}.namespace = ").expect("text grows");
    statement.bind(namespace);
    if let Field::Stored { name, kind } = field {
        statement.text.push_str(" AND a.name = ");
        statement.bind(stored_name(name, *kind));
    }
    statement.text.push_str(" AND (");
    statement.test(value, test, false);
    write!(statement.text, ") LIMIT {limit})").expect("text grows");
    statement
}

impl From<Part> for Value {
    fn from(part: Part) -> Value {
        match part {
            Part::Int(value) => Value::Integer(value),
            Part::Real(value) => Value::Real(value),
            Part::Text(value) => Value::Text(value),
            Part::Last => Value::Blob(Vec::new()),
        }
    }
}

impl Statement {
    /// The namespace is always `?1`.
    fn select(&mut self, columns: &str, namespace: i64, query: &Query, few: Few) {
        write!(self.text, "SELECT {columns} FROM run r WHERE r.namespace = ").expect("text grows");
        self.bind(Value::Integer(namespace));
        if let Some(filter) = &query.filter {
            self.text.push_str(" AND ");
            self.filter(filter, few);
        }
    }

    fn bind(&mut self, value: impl Into<Value>) {
        self.values.push(value.into());
        write!(self.text, "?{}", self.values.len()).expect("text grows");
    }

    fn filter(&mut self, filter: &Filter, few: Few) {
        match filter {
            Filter::All(terms) => self.join(terms, " AND ", few),
            Filter::Any(terms) => self.join(terms, " OR ", few),
            Filter::Test { field: field @ Field::System(system), test, negated } => {
                self.text.push('(');
                // Most runs may be in a range, which the planner can't know: it would sort them all for a page of a list in another
                // order. With a plus it uses no index of theirs.
                let is_range = matches!(test, Test::Compare(..) | Test::Between(..) | Test::StartsWith(_));
                let is_indexed = [WORKFLOW_ID.name, START_TIME.name].contains(&system.name);
                let is_sorted = self.ordered_by.as_ref().is_some_and(|first| first != system.name);
                let is_long = is_sorted && is_indexed && is_range && (*negated || !few(field, test));
                self.test(&format!("{}{}", if is_long { "+" } else { "" }, system.sql), test, *negated);
                self.text.push(')');
            }
            Filter::Test { field: field @ Field::Stored { name, kind }, test, negated } => {
                let is_few = || matches!(test, Test::In(_) | Test::StartsWith(_)) && few(field, test);
                self.stored(&stored_name(name, *kind), *kind, test, *negated, is_few);
            }
        }
    }

    /// As a balanced tree, because SQLite bounds the depth of expressions and would nest a chain.
    fn join(&mut self, terms: &[Filter], connective: &str, few: Few) {
        if let [only] = terms {
            return self.filter(only, few);
        }
        let (left, right) = terms.split_at(terms.len() / 2);
        self.text.push('(');
        self.join(left, connective, few);
        self.text.push_str(connective);
        self.join(right, connective, few);
        self.text.push(')');
    }

    /// A test of an attribute in the side table. What matches few runs is looked up by value; the rest is checked run by
    /// run, so that no huge set of candidates is built and sorted.
    fn stored(&mut self, name: &str, kind: Kind, test: &Test, negated: bool, is_few: impl Fn() -> bool) {
        let several = matches!(kind, Kind::Text | Kind::KeywordList);
        if let Test::IsNull = test {
            self.text.push_str(if negated { "EXISTS " } else { "NOT EXISTS " });
            self.text.push_str("(SELECT 1 FROM attribute a WHERE a.run = r.id AND a.name = ");
            self.bind(name.to_owned());
            self.text.push(')');
            return;
        }
        // None of several values may match, but a single one has to be there and not match.
        let (outside, inside) = if several { (negated, false) } else { (false, negated) };
        if outside {
            self.text.push_str("NOT ");
        }
        if !inside && is_few() {
            self.text.push_str("r.id IN (SELECT a.run FROM attribute a WHERE a.namespace = ?1 AND a.name = ");
        } else {
            self.text.push_str("EXISTS (SELECT 1 FROM attribute a WHERE a.run = r.id AND a.name = ");
        }
        self.bind(name.to_owned());
        self.text.push_str(" AND (");
        self.test("a.value", test, inside);
        self.text.push_str("))");
    }

    /// A test of one value. The operators are SQL's, so that a missing value passes neither a test nor its negation.
    fn test(&mut self, value: &str, test: &Test, negated: bool) {
        self.text.push_str(value);
        match test {
            Test::Compare(comparison, bound) => {
                self.text.push_str(match (comparison, negated) {
                    (Comparison::Less, false) | (Comparison::GreaterOrEqual, true) => " < ",
                    (Comparison::LessOrEqual, false) | (Comparison::Greater, true) => " <= ",
                    (Comparison::Greater, false) | (Comparison::LessOrEqual, true) => " > ",
                    (Comparison::GreaterOrEqual, false) | (Comparison::Less, true) => " >= ",
                });
                self.bind(bound.clone());
            }
            Test::In(values) if values.len() == 1 => {
                self.text.push_str(if negated { " <> " } else { " = " });
                self.bind(values[0].clone());
            }
            Test::In(values) => {
                self.text.push_str(if negated { " NOT IN (" } else { " IN (" });
                for (index, value) in values.iter().enumerate() {
                    self.text.push_str(if index == 0 { "" } else { ", " });
                    self.bind(value.clone());
                }
                self.text.push(')');
            }
            Test::Between(low, high) => {
                self.text.push_str(if negated { " NOT BETWEEN " } else { " BETWEEN " });
                self.bind(low.clone());
                self.text.push_str(" AND ");
                self.bind(high.clone());
            }
            Test::StartsWith(prefix) => self.starts_with(value, prefix, negated),
            Test::IsNull => self.text.push_str(if negated { " IS NOT NULL" } else { " IS NULL" }),
        }
    }

    /// The range from the prefix to the next text that doesn't start with it: an index serves it, and no character of
    /// it is special.
    fn starts_with(&mut self, value: &str, prefix: &str, negated: bool) {
        self.text.push_str(if negated { " < " } else { " >= " });
        self.bind(prefix.to_owned());
        if let Some(end) = after_prefix(prefix) {
            self.text.push_str(if negated { " OR " } else { " AND " });
            self.text.push_str(value);
            self.text.push_str(if negated { " >= " } else { " < " });
            self.bind(end);
        }
    }

    /// What rows are sorted by: never NULL, because a missing value is an empty blob, which comes after everything.
    fn sort_value(&mut self, sort: &SortField) {
        match &sort.field {
            Field::System(system) => self.text.push_str(system.sort_sql),
            Field::Stored { name, kind } => {
                self.text.push_str("ifnull((SELECT a.value FROM attribute a WHERE a.run = r.id AND a.name = ");
                self.bind(stored_name(name, *kind));
                self.text.push_str(" LIMIT 1), x'')");
            }
        }
    }

    /// The rows after a key: `(a > ? OR (a = ? AND (b > ? OR …)))`, with the first fields of one direction also as a row
    /// value, which is what SQLite can seek to in an index.
    fn after(&mut self, order: &Order, key: &Key) {
        let fields = &order.0;
        let aligned = fields.iter().take_while(|sort| sort.descending == fields[0].descending).count();
        self.text.push('(');
        for (index, sort) in fields[..aligned].iter().enumerate() {
            self.text.push_str(if index == 0 { "" } else { ", " });
            self.sort_value(sort);
        }
        self.text.push_str(if fields[0].descending { ") <= (" } else { ") >= (" });
        for (index, part) in key.0[..aligned].iter().enumerate() {
            self.text.push_str(if index == 0 { "" } else { ", " });
            self.bind(part.clone());
        }
        self.text.push_str(") AND ");
        for (index, (sort, part)) in fields.iter().zip(&key.0).enumerate() {
            self.text.push('(');
            self.sort_value(sort);
            self.text.push_str(if sort.descending { " < " } else { " > " });
            self.bind(part.clone());
            if index + 1 < fields.len() {
                self.text.push_str(" OR (");
                self.sort_value(sort);
                self.text.push_str(" = ");
                self.bind(part.clone());
                self.text.push_str(" AND ");
            }
        }
        self.text.push_str(&")".repeat(2 * fields.len() - 1));
    }
}

/// The least text that is greater than every text with this prefix; none if there is no such text.
fn after_prefix(prefix: &str) -> Option<String> {
    let mut end = prefix.to_owned();
    while let Some(last) = end.pop() {
        // Past the last character before the surrogates comes the first one after them.
        let next = (u32::from(last) + 1..).take_while(|code| *code <= u32::from(char::MAX)).find_map(char::from_u32);
        if let Some(next) = next {
            end.push(next);
            return Some(end);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::after_prefix;

    #[test]
    fn the_text_after_a_prefix_is_the_next_code_point() {
        for (prefix, end) in [
            ("a", Some("b")),
            ("az", Some("a{")),
            ("\u{d7ff}", Some("\u{e000}")),
            ("a\u{10ffff}", Some("b")),
            ("", None),
        ] {
            assert_eq!(after_prefix(prefix).as_deref(), end, "{prefix:?}");
        }
        assert_eq!(after_prefix("\u{10ffff}"), None);
    }
}
