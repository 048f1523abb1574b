//! What a mail address is, and how it is written.
//!
//! Invariant: a [`Mailbox`] or [`Domain`] that exists is valid and in its one normal form, so two
//! of them are the same address exactly if they are equal. SMTP, HTTP and header fields read
//! addresses here and nowhere else.
//!
//! Pure: text in, values out.

mod domain;
mod list;
mod path;

use std::fmt;
use std::str::FromStr;

pub use domain::{Domain, DomainName, MAX_DOMAIN_OCTETS, MAX_LABEL_OCTETS};
pub use list::{
    MAX_COMMENT_DEPTH, MAX_LIST_MAILBOXES, MAX_LIST_OCTETS, NamedMailbox, holds_group,
    parse_header_list,
};
pub use path::{ForwardPath, MAX_ROUTE_HOPS, ReversePath, Utf8Rule};

/// Longest local part as it is written, quotes included, in octets (RFC 5321 §4.5.3.1.1).
pub const MAX_LOCAL_PART_OCTETS: usize = 64;

/// Longest mailbox as it is written, in octets: a path of 256 (RFC 5321 §4.5.3.1.3) less `<>`.
pub const MAX_MAILBOX_OCTETS: usize = 254;

/// Longest text that is looked at as one mailbox, in octets. It leaves room for needless quoting,
/// which the normal form drops.
const MAX_MAILBOX_INPUT_OCTETS: usize = 1024;

/// An address: a local part at a domain (RFC 5321 §4.1.2, RFC 6531 §3.3).
///
/// The local part keeps its case and its Unicode form (RFC 5321 §2.4, RFC 6532); the domain has
/// its normal form. `Display` quotes the local part only when it must be quoted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mailbox {
    // Without quotes and backslashes: what the local part means, not how a peer wrote it.
    local: Box<str>,
    domain: Domain,
}

impl Mailbox {
    /// Reads `local@domain` as SMTP writes it: dot-string or quoted-string, no comments, no blanks.
    pub fn parse(addr_spec: &str) -> Result<Self, AddressError> {
        if addr_spec.is_empty() {
            return Err(AddressError::Empty);
        }
        if addr_spec.len() > MAX_MAILBOX_INPUT_OCTETS {
            return Err(AddressError::TooLong);
        }
        if let Some(quoted) = addr_spec.strip_prefix('"') {
            let (local, rest) = unquote(quoted)?;
            return match rest.strip_prefix('@') {
                Some(domain) => Self::new(&local, Domain::parse(domain)?),
                None if rest.is_empty() => Err(AddressError::NoDomain),
                None => Err(AddressError::BadLocalPart),
            };
        }
        let Some((local, domain)) = addr_spec.split_once('@') else {
            return Err(AddressError::NoDomain);
        };
        if !is_dot_string(local) {
            return Err(AddressError::BadLocalPart);
        }
        Self::new(local, Domain::parse(domain)?)
    }

    /// Joins a local part (without quoting) and a domain.
    ///
    /// The empty local part is refused, though the grammar has it as `""`: no mailbox is called
    /// that, and an empty name is a mistake wherever it comes from.
    pub fn new(local: &str, domain: Domain) -> Result<Self, AddressError> {
        // A control character could end a command or header line: RFC 5321 §4.1.2 has none.
        if local.is_empty() || local.chars().any(char::is_control) {
            return Err(AddressError::BadLocalPart);
        }
        let local_octets = written_octets(local);
        if local_octets > MAX_LOCAL_PART_OCTETS {
            return Err(AddressError::LocalPartTooLong);
        }
        if local_octets + 1 + domain.written_octets() > MAX_MAILBOX_OCTETS {
            return Err(AddressError::TooLong);
        }
        Ok(Self { local: local.into(), domain })
    }

    /// The local part without quoting. It may hold any printable character, also `@` and `/`:
    /// it is never to be interpreted or used as a file name.
    pub fn local(&self) -> &str {
        &self.local
    }

    /// The domain.
    pub fn domain(&self) -> &Domain {
        &self.domain
    }

    /// Whether the address can only be sent to a peer that offers SMTPUTF8 (RFC 6531 §3.4). The
    /// domain never obliges to it, because it is kept in A-labels.
    pub fn needs_smtputf8(&self) -> bool {
        !self.local.is_ascii()
    }
}

impl fmt::Display for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if is_dot_string(&self.local) {
            return write!(f, "{}@{}", self.local, self.domain);
        }
        f.write_str("\"")?;
        for c in self.local.chars() {
            if needs_backslash(c) {
                f.write_str("\\")?;
            }
            write!(f, "{c}")?;
        }
        write!(f, "\"@{}", self.domain)
    }
}

impl FromStr for Mailbox {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        Self::parse(text)
    }
}

/// Why a text is not an address. Each one reads as a sentence for an SMTP reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AddressError {
    /// The domain is not a DNS name.
    BadDomain,
    /// The address literal in brackets is not an IP address (RFC 5321 §4.1.3).
    BadLiteral,
    /// The local part is neither a dot-string nor a quoted-string.
    BadLocalPart,
    /// The octets are not UTF-8 (RFC 6532 §3.1), or hold a control character.
    BadUtf8Text,
    /// The domain is longer than [`MAX_DOMAIN_OCTETS`].
    DomainTooLong,
    /// There is no address.
    Empty,
    /// A label of the domain is longer than [`MAX_LABEL_OCTETS`].
    LabelTooLong,
    /// The local part is longer than [`MAX_LOCAL_PART_OCTETS`].
    LocalPartTooLong,
    /// The path holds other than ASCII characters without SMTPUTF8 (RFC 6531 §3.5: 553 5.6.7).
    NeedsSmtputf8,
    /// There is no `@` with a domain behind it.
    NoDomain,
    /// The path does not begin with `<`.
    NoPath,
    /// Comments are nested deeper than [`MAX_COMMENT_DEPTH`].
    TooDeep,
    /// The address is longer than [`MAX_MAILBOX_OCTETS`], or the list than [`MAX_LIST_OCTETS`].
    TooLong,
    /// More mailboxes than [`MAX_LIST_MAILBOXES`], or more hops than [`MAX_ROUTE_HOPS`].
    TooMany,
    /// Something stands behind the address that does not belong to it.
    TrailingText,
    /// A comment does not end.
    UnclosedComment,
    /// The path does not end with `>`.
    UnclosedPath,
    /// A quoted string does not end.
    UnclosedQuote,
}

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BadDomain => "The domain of the address is not valid",
            Self::BadLiteral => "The address literal is not valid",
            Self::BadLocalPart => "The local part of the address is not valid",
            Self::BadUtf8Text => "The address is not valid UTF-8 text",
            Self::DomainTooLong => "The domain of the address is too long",
            Self::Empty => "The address is empty",
            Self::LabelTooLong => "A label of the domain is too long",
            Self::LocalPartTooLong => "The local part of the address is too long",
            Self::NeedsSmtputf8 => "The address needs SMTPUTF8",
            Self::NoDomain => "The address has no domain",
            Self::NoPath => "The address must stand in angle brackets",
            Self::TooDeep => "The comments are nested too deeply",
            Self::TooLong => "The address is too long",
            Self::TooMany => "There are too many addresses",
            Self::TrailingText => "There is text behind the address",
            Self::UnclosedComment => "A comment does not end",
            Self::UnclosedPath => "The angle bracket is not closed",
            Self::UnclosedQuote => "A quoted string does not end",
        })
    }
}

impl std::error::Error for AddressError {}

/// Whether `c` may stand in an atom: atext of RFC 5322 §3.2.3, and RFC 6532 §3.2 beyond ASCII.
fn is_atom_char(c: char) -> bool {
    c.is_ascii_alphanumeric()
        || "!#$%&'*+-/=?^_`{|}~".contains(c)
        || (!c.is_ascii() && !c.is_control())
}

/// Whether `local` can be written without quotes.
fn is_dot_string(local: &str) -> bool {
    local.split('.').all(|atom| !atom.is_empty() && atom.chars().all(is_atom_char))
}

fn needs_backslash(c: char) -> bool {
    matches!(c, '"' | '\\')
}

/// The length of a local part as `Display` writes it.
fn written_octets(local: &str) -> usize {
    if is_dot_string(local) {
        return local.len();
    }
    local.len() + 2 + local.chars().filter(|&c| needs_backslash(c)).count()
}

/// Decodes a quoted-string whose opening quote is already taken; returns what stands behind it.
fn unquote(text: &str) -> Result<(String, &str), AddressError> {
    let mut decoded = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '"' => return Ok((decoded, chars.as_str())),
            '\\' => decoded.push(chars.next().ok_or(AddressError::UnclosedQuote)?),
            plain => decoded.push(plain),
        }
    }
    Err(AddressError::UnclosedQuote)
}
