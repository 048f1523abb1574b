//! Which mailboxes an address field of a header names: From, Sender, To, Cc (RFC 5322 §3.4).
//!
//! The obsolete forms of §4.4 are read too: comments and folding anywhere, routes, empty list
//! members, blanks around dots. Groups give their members. Encoded words stay as text.
//!
//! Invariant: the work is linear in the octets and bounded by the limits named here.
//!
//! Pure.

use super::{AddressError, Domain, DomainName, MAX_ROUTE_HOPS, Mailbox, is_atom_char};

/// Deepest nesting of comments.
pub const MAX_COMMENT_DEPTH: usize = 32;

/// Most mailboxes in one field.
pub const MAX_LIST_MAILBOXES: usize = 5_000;

/// Longest field value in octets.
pub const MAX_LIST_OCTETS: usize = 262_144;

/// A mailbox with the name shown for it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NamedMailbox {
    /// The display name as text, quotes removed and encoded words kept; `None` if there is none.
    pub name: Option<String>,
    /// The mailbox.
    pub mailbox: Mailbox,
}

/// Reads the value of an address field, folds included. A list without any mailbox is empty, not
/// an error; one bad member makes the whole list an error.
///
/// Octets that are not UTF-8 are replaced in names; in an address they are an error.
pub fn parse_header_list(value: &[u8]) -> Result<Vec<NamedMailbox>, AddressError> {
    if value.len() > MAX_LIST_OCTETS {
        return Err(AddressError::TooLong);
    }
    let text = String::from_utf8_lossy(value);
    let tokens = Lexer::new(&text).tokens()?;
    let mut list = Vec::new();
    let mut rest = tokens.as_slice();
    while !rest.is_empty() {
        rest = member(rest, &mut list)?;
        if list.len() > MAX_LIST_MAILBOXES {
            return Err(AddressError::TooMany);
        }
    }
    Ok(list)
}

/// Whether the value of an address field names a group (RFC 5322 §3.4, RFC 6854), with members or
/// without. False where it cannot be read.
pub fn holds_group(value: &[u8]) -> bool {
    if value.len() > MAX_LIST_OCTETS {
        return false;
    }
    let text = String::from_utf8_lossy(value);
    let mut is_inside = false;
    Lexer::new(&text).tokens().is_ok_and(|tokens| {
        tokens.iter().any(|token| {
            // Between angle brackets a colon ends an obsolete route.
            is_inside = (is_inside || token.is('<')) && !token.is('>');
            token.is(':') && !is_inside
        })
    })
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    Atom(String),
    /// Brackets included.
    Literal(String),
    Quoted(String),
    /// One of `< > , ; : @ .`
    Special(char),
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Token {
    kind: Kind,
    /// Whether blanks or comments stood before it.
    is_apart: bool,
}

impl Token {
    fn is(&self, special: char) -> bool {
        self.kind == Kind::Special(special)
    }
}

struct Lexer<'a> {
    chars: std::iter::Peekable<std::str::Chars<'a>>,
    tokens: Vec<Token>,
    is_apart: bool,
}

impl<'a> Lexer<'a> {
    fn new(text: &'a str) -> Self {
        Self { chars: text.chars().peekable(), tokens: Vec::new(), is_apart: false }
    }

    fn tokens(mut self) -> Result<Vec<Token>, AddressError> {
        while let Some(c) = self.chars.next() {
            match c {
                ' ' | '\t' | '\r' | '\n' => self.is_apart = true,
                '(' => self.comment()?,
                '"' => self.quoted()?,
                '[' if self.tokens.last().is_some_and(|token| token.is('@')) => self.literal()?,
                '<' | '>' | ',' | ';' | ':' | '@' | '.' => self.push(Kind::Special(c)),
                first => self.atom(first),
            }
        }
        Ok(self.tokens)
    }

    fn push(&mut self, kind: Kind) {
        let is_apart = std::mem::take(&mut self.is_apart);
        self.tokens.push(Token { kind, is_apart });
    }

    fn comment(&mut self) -> Result<(), AddressError> {
        self.is_apart = true;
        let mut depth = 1_usize;
        while depth > 0 {
            match self.chars.next().ok_or(AddressError::UnclosedComment)? {
                '(' if depth == MAX_COMMENT_DEPTH => return Err(AddressError::TooDeep),
                '(' => depth += 1,
                ')' => depth -= 1,
                '\\' => {
                    self.chars.next();
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn quoted(&mut self) -> Result<(), AddressError> {
        let mut text = String::new();
        loop {
            match self.chars.next().ok_or(AddressError::UnclosedQuote)? {
                '"' => break,
                '\\' => {
                    let escaped = self.chars.next().ok_or(AddressError::UnclosedQuote)?;
                    text.push(printable(escaped));
                }
                // Unfolding drops the line end and keeps the blank behind it (RFC 5322 §2.2.3).
                '\r' | '\n' => {}
                '\t' => text.push(' '),
                plain => text.push(printable(plain)),
            }
        }
        self.push(Kind::Quoted(text));
        Ok(())
    }

    fn literal(&mut self) -> Result<(), AddressError> {
        let mut text = String::from("[");
        while !text.ends_with(']') {
            let c = self.chars.next().ok_or(AddressError::BadLiteral)?;
            if !c.is_ascii_whitespace() {
                text.push(printable(c));
            }
        }
        self.push(Kind::Literal(text));
        Ok(())
    }

    fn atom(&mut self, first: char) {
        let mut text = String::from(printable(first));
        while let Some(c) = self.chars.next_if(|&c| !ends_atom(c)) {
            text.push(printable(c));
        }
        self.push(Kind::Atom(text));
    }
}

fn ends_atom(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n' | '(' | '"' | '<' | '>' | ',' | ';' | ':' | '@' | '.')
}

/// Control characters reach no view; in an address the replacement is refused.
fn printable(c: char) -> char {
    if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }
}

/// Reads one member up to and with its separator; returns the tokens behind it.
fn member<'t>(
    tokens: &'t [Token],
    list: &mut Vec<NamedMailbox>,
) -> Result<&'t [Token], AddressError> {
    // A stray `;` separates like a comma: some user agents write it so.
    let ends = |token: &Token| matches!(token.kind, Kind::Special(',' | ';' | ':' | '<'));
    let Some((words, end, rest)) = split_at(tokens, ends) else {
        list.push(NamedMailbox { name: None, mailbox: addr_spec(tokens)? });
        return Ok(&[]);
    };
    if end.is('<') {
        let (inside, _, behind) =
            split_at(rest, |token| token.is('>')).ok_or(AddressError::UnclosedPath)?;
        list.push(NamedMailbox { name: phrase(words), mailbox: addr_spec(drop_route(inside)?)? });
        return match behind.split_first() {
            None => Ok(&[]),
            Some((next, rest)) if next.is(',') || next.is(';') => Ok(rest),
            Some(_) => Err(AddressError::TrailingText),
        };
    }
    // What stands before `:` is the name of a group; its members follow like any others.
    if !end.is(':') && !words.is_empty() {
        list.push(NamedMailbox { name: None, mailbox: addr_spec(words)? });
    }
    Ok(rest)
}

fn split_at(
    tokens: &[Token],
    found: impl Fn(&Token) -> bool,
) -> Option<(&[Token], &Token, &[Token])> {
    let at = tokens.iter().position(found)?;
    let (before, behind) = tokens.split_at_checked(at)?;
    let (token, rest) = behind.split_first()?;
    Some((before, token, rest))
}

/// A display name. Dots and `@` are tolerated: `a@b <a@b>` is common.
fn phrase(words: &[Token]) -> Option<String> {
    let mut name = String::new();
    for token in words {
        if token.is_apart && !name.is_empty() {
            name.push(' ');
        }
        match &token.kind {
            Kind::Atom(text) | Kind::Literal(text) | Kind::Quoted(text) => name.push_str(text),
            Kind::Special(c) => name.push(*c),
        }
    }
    let name = name.trim();
    (!name.is_empty()).then(|| name.to_owned())
}

/// Checks and drops an obsolete route: `@a,@b:mailbox` becomes `mailbox`.
fn drop_route(inside: &[Token]) -> Result<&[Token], AddressError> {
    if !inside.first().is_some_and(|token| token.is('@')) {
        return Ok(inside);
    }
    let (route, _, mailbox) =
        split_at(inside, |token| token.is(':')).ok_or(AddressError::BadLocalPart)?;
    let hops = route.split(|token| token.is(',')).filter(|hop| !hop.is_empty());
    for (before, hop) in hops.enumerate() {
        if before >= MAX_ROUTE_HOPS {
            return Err(AddressError::TooMany);
        }
        match hop.split_first() {
            Some((at, name)) if at.is('@') => DomainName::parse(&dotted(name)?)?,
            Some(_) | None => return Err(AddressError::BadDomain),
        };
    }
    Ok(mailbox)
}

fn addr_spec(tokens: &[Token]) -> Result<Mailbox, AddressError> {
    if tokens.is_empty() {
        return Err(AddressError::Empty);
    }
    let (local, _, domain) =
        split_at(tokens, |token| token.is('@')).ok_or(AddressError::NoDomain)?;
    let domain = match domain {
        [] => return Err(AddressError::NoDomain),
        [Token { kind: Kind::Literal(literal), .. }] => Domain::parse(literal)?,
        name => Domain::Name(DomainName::parse(&dotted(name)?)?),
    };
    Mailbox::new(&local_part(local)?, domain)
}

/// Words with one dot between any two of them (RFC 5322 §4.4 obs-local-part), unquoted.
fn local_part(tokens: &[Token]) -> Result<String, AddressError> {
    let mut local = String::new();
    for piece in tokens.split(|token| token.is('.')).enumerate() {
        let (before, [Token { kind, .. }]) = piece else {
            return Err(AddressError::BadLocalPart);
        };
        if before > 0 {
            local.push('.');
        }
        match kind {
            Kind::Atom(text) if text.chars().all(is_atom_char) => local.push_str(text),
            Kind::Quoted(text) => local.push_str(text),
            Kind::Atom(_) | Kind::Literal(_) | Kind::Special(_) => {
                return Err(AddressError::BadLocalPart);
            }
        }
    }
    if local.contains(char::REPLACEMENT_CHARACTER) {
        return Err(AddressError::BadUtf8Text);
    }
    Ok(local)
}

/// Atoms with one dot between any two of them, blanks dropped. [`DomainName::parse`] checks more.
fn dotted(tokens: &[Token]) -> Result<String, AddressError> {
    let mut name = String::new();
    for piece in tokens.split(|token| token.is('.')).enumerate() {
        let (before, [Token { kind: Kind::Atom(label), .. }]) = piece else {
            return Err(AddressError::BadDomain);
        };
        if before > 0 {
            name.push('.');
        }
        name.push_str(label);
    }
    Ok(name)
}
