//! The syntax of Temporal's list filters: `sqlparser`'s tokens and precedences, cut down to the filter language.
//!
//! What stands before and between operands is parsed here, so that an attribute may be named like any keyword of SQL, and so
//! that no statement, subquery, function or cast is ever parsed. `sqlparser` keeps what it does well: tokens with their
//! places, string escapes, precedence climbing and a bound on the depth.

use sqlparser::{
    ast::{BinaryOperator, Expr, Ident, UnaryOperator},
    dialect::{Dialect, Precedence},
    keywords::Keyword,
    parser::{Parser, ParserError},
    tokenizer::{Location, Token, TokenWithSpan, Tokenizer, Word},
};

const STARTS_WITH: &str = "STARTS_WITH";
/// Each is one level of the parsed tree, which is dropped recursively.
const CONNECTIVES_MAX: usize = 1_000;
const DEPTH_MAX: usize = 200;

/// A parsed filter, its attributes and values not yet looked at.
#[derive(Default)]
pub(super) struct Syntax {
    pub condition: Option<Expr>,
    pub group_by: Vec<Ident>,
    /// With whether it is descending.
    pub order_by: Vec<(Ident, bool)>,
}

/// Parses `[condition] [GROUP BY field, …] [ORDER BY field [ASC | DESC], …]`. The error names what was found and where.
pub(super) fn parse(text: &str) -> Result<Syntax, String> {
    let tokens = Tokenizer::new(&ListFilter, text).tokenize_with_location().map_err(|error| error.to_string())?;
    check(&tokens)?;
    let mut parser = Parser::new(&ListFilter).with_recursion_limit(DEPTH_MAX).with_tokens_with_locations(tokens);
    read(&mut parser).map_err(|error| match error {
        ParserError::TokenizerError(message) | ParserError::ParserError(message) => message,
        ParserError::RecursionLimitExceeded => format!("Expected: at most {DEPTH_MAX} nested expressions, found: more"),
    })
}

/// Refuses what is no token of the language, before any of it is parsed.
fn check(tokens: &[TokenWithSpan]) -> Result<(), String> {
    let mut connectives = 0;
    for TokenWithSpan { token, span } in tokens {
        match token {
            Token::Word(word) if keyword(word, Keyword::AND) || keyword(word, Keyword::OR) => connectives += 1,
            Token::Word(_) | Token::Number(_, false) | Token::SingleQuotedString(_) | Token::DoubleQuotedString(_) => {}
            Token::LParen | Token::RParen | Token::Comma | Token::Period | Token::Minus | Token::Plus => {}
            Token::Eq | Token::Neq | Token::Lt | Token::LtEq | Token::Gt | Token::GtEq => {}
            Token::Whitespace(_) | Token::EOF => {}
            other => return Err(format!("unexpected '{other}'{}", span.start)),
        }
    }
    if connectives > CONNECTIVES_MAX {
        return Err(format!(
            "{connectives} conditions are more than the {CONNECTIVES_MAX} allowed (IN takes many values)"
        ));
    }
    Ok(())
}

fn read(parser: &mut Parser) -> Result<Syntax, ParserError> {
    let mut syntax = Syntax::default();
    let ends = |parser: &Parser| {
        let clause = match &parser.peek_token().token {
            Token::EOF => return true,
            Token::Word(word) => keyword(word, Keyword::GROUP) || keyword(word, Keyword::ORDER),
            _ => false,
        };
        clause && matches!(&parser.peek_nth_token(1).token, Token::Word(word) if keyword(word, Keyword::BY))
    };
    if !ends(parser) {
        syntax.condition = Some(parser.parse_expr()?);
    }
    if parser.parse_keywords(&[Keyword::GROUP, Keyword::BY]) {
        syntax.group_by = parser.parse_comma_separated(field)?;
    }
    if parser.parse_keywords(&[Keyword::ORDER, Keyword::BY]) {
        syntax.order_by = parser.parse_comma_separated(|parser| {
            let field = field(parser)?;
            let descending = parser.parse_keyword(Keyword::DESC);
            let _ascending = !descending && parser.parse_keyword(Keyword::ASC);
            Ok((field, descending))
        })?;
    }
    match parser.next_token() {
        TokenWithSpan { token: Token::EOF, .. } => Ok(syntax),
        TokenWithSpan { token: Token::Word(word), span } if keyword(&word, Keyword::LIMIT) => {
            fail("the LIMIT clause is not supported", span.start)
        }
        other => parser.expected("an operator or the end of the query", other),
    }
}

/// An attribute's name: words joined by dots, each backquoted or plain.
fn field(parser: &mut Parser) -> Result<Ident, ParserError> {
    let TokenWithSpan { token: Token::Word(first), span } = parser.peek_token() else {
        let found = parser.peek_token();
        return parser.expected("a search attribute", found);
    };
    parser.next_token();
    let mut name = first.value;
    while parser.consume_token(&Token::Period) {
        match parser.next_token() {
            TokenWithSpan { token: Token::Word(next), .. } => {
                name.push('.');
                name.push_str(&next.value);
            }
            other => return parser.expected("a search attribute", other),
        }
    }
    Ok(Ident { value: name, quote_style: first.quote_style, span })
}

fn keyword(word: &Word, keyword: Keyword) -> bool {
    word.quote_style.is_none() && word.keyword == keyword
}

fn starts_with(token: &Token) -> bool {
    matches!(token, Token::Word(word) if word.quote_style.is_none() && word.value.eq_ignore_ascii_case(STARTS_WITH))
}

fn fail<T>(message: impl std::fmt::Display, place: Location) -> Result<T, ParserError> {
    Err(ParserError::ParserError(format!("{message}{place}")))
}

/// The list filter's dialect of SQL: MySQL's strings and backquotes, and `STARTS_WITH`.
#[derive(Debug)]
struct ListFilter;

impl Dialect for ListFilter {
    fn is_identifier_start(&self, ch: char) -> bool {
        ch.is_alphabetic() || ch == '_' || ch == '@' || ch == '$'
    }

    fn is_identifier_part(&self, ch: char) -> bool {
        self.is_identifier_start(ch) || ch.is_alphanumeric()
    }

    fn is_delimited_identifier_start(&self, ch: char) -> bool {
        ch == '`'
    }

    fn supports_string_literal_backslash_escape(&self) -> bool {
        true
    }

    fn parse_prefix(&self, parser: &mut Parser) -> Option<Result<Expr, ParserError>> {
        let TokenWithSpan { token, span } = parser.peek_token();
        match token {
            Token::Word(word) if keyword(&word, Keyword::NOT) => {
                parser.next_token();
                let inner = parser.parse_subexpr(self.prec_value(Precedence::UnaryNot));
                Some(inner.map(|expr| Expr::UnaryOp { op: UnaryOperator::Not, expr: Box::new(expr) }))
            }
            Token::Word(word) if [Keyword::TRUE, Keyword::FALSE, Keyword::NULL].iter().any(|k| keyword(&word, *k)) => {
                None
            }
            Token::Word(word) if parser.peek_nth_token(1).token == Token::LParen => {
                Some(fail(format_args!("the function '{}' is not supported", word.value), span.start))
            }
            Token::Word(_) => Some(field(parser).map(Expr::Identifier)),
            Token::LParen => Some(parenthesised(parser)),
            // Literals and signs are as in any SQL.
            _ => None,
        }
    }

    fn get_next_precedence(&self, parser: &Parser) -> Option<Result<u8, ParserError>> {
        let token = parser.peek_token().token;
        let precedence = match &token {
            Token::Word(word) if word.quote_style.is_none() => match word.keyword {
                Keyword::AND => self.prec_value(Precedence::And),
                Keyword::OR => self.prec_value(Precedence::Or),
                Keyword::IN | Keyword::IS | Keyword::BETWEEN | Keyword::LIKE => self.prec_value(Precedence::Eq),
                Keyword::NOT => self.prec_value(Precedence::Eq),
                _ if starts_with(&token) => self.prec_value(Precedence::Eq),
                _ => self.prec_unknown(),
            },
            Token::Eq | Token::Neq | Token::Lt | Token::LtEq | Token::Gt | Token::GtEq | Token::Plus | Token::Minus => {
                self.prec_value(Precedence::Eq)
            }
            _ => self.prec_unknown(),
        };
        Some(Ok(precedence))
    }

    fn parse_infix(&self, parser: &mut Parser, left: &Expr, _: u8) -> Option<Result<Expr, ParserError>> {
        match parser.peek_token().token {
            Token::Word(word) if keyword(&word, Keyword::AND) || keyword(&word, Keyword::OR) => None,
            _ => Some(test(self, parser, left)),
        }
    }
}

fn parenthesised(parser: &mut Parser) -> Result<Expr, ParserError> {
    parser.expect_token(&Token::LParen)?;
    let inner = parser.parse_expr()?;
    parser.expect_token(&Token::RParen)?;
    Ok(Expr::Nested(Box::new(inner)))
}

/// What follows an attribute. Nothing can follow anything else, so that a chain of operators never grows a tree.
fn test(dialect: &ListFilter, parser: &mut Parser, left: &Expr) -> Result<Expr, ParserError> {
    let TokenWithSpan { token, span } = parser.next_token();
    let Expr::Identifier(_) = left else {
        return fail(format_args!("Expected: a search attribute before '{token}', found: something else"), span.start);
    };
    let expr = Box::new(left.clone());
    let comparison = match token {
        Token::Eq => BinaryOperator::Eq,
        Token::Neq => BinaryOperator::NotEq,
        Token::Lt => BinaryOperator::Lt,
        Token::LtEq => BinaryOperator::LtEq,
        Token::Gt => BinaryOperator::Gt,
        Token::GtEq => BinaryOperator::GtEq,
        Token::Word(word) if keyword(&word, Keyword::IS) => {
            let negated = parser.parse_keyword(Keyword::NOT);
            return match parser.parse_keyword(Keyword::NULL) {
                true if negated => Ok(Expr::IsNotNull(expr)),
                true => Ok(Expr::IsNull(expr)),
                false => fail("'IS' operator can only be used as 'IS NULL' or 'IS NOT NULL'", span.start),
            };
        }
        word => {
            let negated = matches!(&word, Token::Word(word) if keyword(word, Keyword::NOT));
            let operator = if negated { parser.next_token().token } else { word };
            return named_test(dialect, parser, expr, negated, &operator, span.start);
        }
    };
    let right = Box::new(parser.parse_subexpr(dialect.prec_value(Precedence::Eq))?);
    Ok(Expr::BinaryOp { left: expr, op: comparison, right })
}

/// The operators that are words and have a negation.
fn named_test(
    dialect: &ListFilter,
    parser: &mut Parser,
    expr: Box<Expr>,
    negated: bool,
    operator: &Token,
    place: Location,
) -> Result<Expr, ParserError> {
    match operator {
        Token::Word(word) if keyword(word, Keyword::IN) => {
            parser.expect_token(&Token::LParen)?;
            let list = parser.parse_comma_separated(Parser::parse_expr)?;
            parser.expect_token(&Token::RParen)?;
            Ok(Expr::InList { expr, list, negated })
        }
        Token::Word(word) if keyword(word, Keyword::BETWEEN) => parser.parse_between(*expr, negated),
        token if starts_with(token) => {
            let pattern = Box::new(parser.parse_subexpr(dialect.prec_value(Precedence::Eq))?);
            // The nearest node that the parser's tree has: a prefix is not a pattern, and is never treated as one.
            Ok(Expr::Like { negated, any: false, expr, pattern, escape_char: None })
        }
        other => fail(format_args!("the operator '{other}' is not supported"), place),
    }
}
