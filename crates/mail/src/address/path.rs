//! What stands in angle brackets behind `MAIL FROM:` and `RCPT TO:` (RFC 5321 §4.1.2).
//!
//! Invariant: a source route is accepted and dropped (RFC 5321 Appendix C); no decision sees it.
//!
//! Pure.

use std::fmt;

use super::{AddressError, DomainName, Mailbox};

/// Most hops in a source route that is accepted and dropped.
pub const MAX_ROUTE_HOPS: usize = 20;

/// Whether a path may hold other than ASCII characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Utf8Rule {
    /// The transaction has SMTPUTF8 (RFC 6531 §3.4).
    Allowed,
    /// It has not: other characters give [`AddressError::NeedsSmtputf8`].
    AsciiOnly,
}

/// Where failures are reported to. `None` is the null reverse-path `<>`: nowhere (RFC 5321 §4.5.5).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReversePath(pub Option<Mailbox>);

impl ReversePath {
    /// Reads the `<...>` at the start of `text`; returns it with the rest behind it.
    pub fn parse_prefix(text: &str, utf8: Utf8Rule) -> Result<(Self, &str), AddressError> {
        let (inside, rest) = split_path(text, utf8)?;
        if inside.is_empty() {
            return Ok((Self(None), rest));
        }
        Ok((Self(Some(Mailbox::parse(drop_route(inside)?)?)), rest))
    }

    /// Whether this is the null reverse-path.
    pub fn is_null(&self) -> bool {
        self.0.is_none()
    }

    /// The mailbox, or `None` for the null reverse-path.
    pub fn mailbox(&self) -> Option<&Mailbox> {
        self.0.as_ref()
    }
}

impl fmt::Display for ReversePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            None => f.write_str("<>"),
            Some(mailbox) => write!(f, "<{mailbox}>"),
        }
    }
}

/// Whom a delivery is for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ForwardPath {
    /// A mailbox.
    Mailbox(Mailbox),
    /// `<Postmaster>` without a domain, in any case: our own postmaster (RFC 5321 §4.5.1).
    Postmaster,
}

impl ForwardPath {
    /// Reads the `<...>` at the start of `text`; returns it with the rest behind it.
    pub fn parse_prefix(text: &str, utf8: Utf8Rule) -> Result<(Self, &str), AddressError> {
        let (inside, rest) = split_path(text, utf8)?;
        if inside.eq_ignore_ascii_case("postmaster") {
            return Ok((Self::Postmaster, rest));
        }
        Ok((Self::Mailbox(Mailbox::parse(drop_route(inside)?)?), rest))
    }

    /// The mailbox, or `None` for the bare postmaster.
    pub fn mailbox(&self) -> Option<&Mailbox> {
        match self {
            Self::Mailbox(mailbox) => Some(mailbox),
            Self::Postmaster => None,
        }
    }
}

impl fmt::Display for ForwardPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mailbox(mailbox) => write!(f, "<{mailbox}>"),
            Self::Postmaster => f.write_str("<postmaster>"),
        }
    }
}

/// Splits `<inside>rest`. A `>` in a quoted local part does not end the path.
fn split_path(text: &str, utf8: Utf8Rule) -> Result<(&str, &str), AddressError> {
    let path = text.strip_prefix('<').ok_or(AddressError::NoPath)?;
    let mut is_quoted = false;
    let mut is_escaped = false;
    let close = path.bytes().position(|b| {
        match b {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_quoted => is_escaped = true,
            b'"' => is_quoted = !is_quoted,
            _ => return b == b'>' && !is_quoted,
        }
        false
    });
    let (inside, rest) =
        close.and_then(|at| path.split_at_checked(at)).ok_or(AddressError::UnclosedPath)?;
    if utf8 == Utf8Rule::AsciiOnly && !inside.is_ascii() {
        return Err(AddressError::NeedsSmtputf8);
    }
    Ok((inside, rest.strip_prefix('>').unwrap_or(rest)))
}

/// Checks and drops a source route: `@a,@b:mailbox` becomes `mailbox`.
fn drop_route(inside: &str) -> Result<&str, AddressError> {
    if !inside.starts_with('@') {
        return Ok(inside);
    }
    let (route, mailbox) = inside.split_once(':').ok_or(AddressError::BadLocalPart)?;
    for (hops, hop) in route.split(',').enumerate() {
        if hops >= MAX_ROUTE_HOPS {
            return Err(AddressError::TooMany);
        }
        DomainName::parse(hop.strip_prefix('@').ok_or(AddressError::BadDomain)?)?;
    }
    Ok(mailbox)
}
