//! Which texts name a domain, and the one form in which each is kept.
//!
//! Invariant: a [`DomainName`] is lower case, in A-labels, without trailing dot, of letters,
//! digits, hyphens and underscores only, and cannot be read as an IPv4 address. All comparing in
//! policy, routing and signing happens on this form (RFC 5890), once mapped.
//!
//! Pure.

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use idna::uts46::{AsciiDenyList, DnsLength, Hyphens, Uts46};

use super::AddressError;

/// Longest name in its text form without trailing dot: 255 octets on the wire (RFC 1035 §2.3.4).
pub const MAX_DOMAIN_OCTETS: usize = 253;

/// Longest label in octets (RFC 1035 §2.3.4).
pub const MAX_LABEL_OCTETS: usize = 63;

/// Longest text that is looked at as a domain. U-labels may be longer than their A-labels; more
/// than this is never a name.
const MAX_DOMAIN_INPUT_OCTETS: usize = 512;

/// A domain: a DNS name in its normal form, or an address literal (RFC 5321 §4.1.3).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Domain {
    /// An IP address in brackets.
    Literal(IpAddr),
    /// A DNS name.
    Name(DomainName),
}

impl Domain {
    /// Reads a name in A-labels or U-labels, in any case, or a literal such as `[192.0.2.1]` or
    /// `[IPv6:2001:db8::1]`.
    ///
    /// A trailing dot is refused (RFC 5321 §2.3.5 has none): who reads names from the DNS drops it.
    /// Names of one label are accepted; a name that looks like an IPv4 address is not.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        if text.is_empty() {
            return Err(AddressError::NoDomain);
        }
        if text.len() > MAX_DOMAIN_INPUT_OCTETS {
            return Err(AddressError::DomainTooLong);
        }
        match text.strip_prefix('[') {
            Some(literal) => parse_literal(literal).map(Self::Literal),
            None => DomainName::parse(text).map(Self::Name),
        }
    }

    /// `localhost`, which means this machine (RFC 6761 §6.3).
    pub fn localhost() -> Self {
        Self::Name(DomainName("localhost".into()))
    }

    /// The name, or `None` for a literal.
    pub fn as_name(&self) -> Option<&str> {
        match self {
            Self::Literal(_) => None,
            Self::Name(name) => Some(name.as_str()),
        }
    }

    /// Whether this domain is `parent` or a name below it. A literal is below nothing.
    pub fn is_or_is_below(&self, parent: &Self) -> bool {
        if self == parent {
            return true;
        }
        let (Some(name), Some(parent)) = (self.as_name(), parent.as_name()) else {
            return false;
        };
        // Only at a dot: `evilours` is not below `ours`.
        name.strip_suffix(parent).is_some_and(|below| below.ends_with('.'))
    }

    /// The name in U-labels, for views only; it never comes back into a decision.
    pub fn to_unicode(&self) -> String {
        match self {
            Self::Literal(_) => self.to_string(),
            Self::Name(name) => {
                let (shown, valid) = Uts46::new().to_unicode(
                    name.as_str().as_bytes(),
                    AsciiDenyList::EMPTY,
                    Hyphens::CheckFirstLast,
                );
                if valid.is_ok() { shown.into_owned() } else { name.as_str().to_owned() }
            }
        }
    }

    /// The length as `Display` writes it.
    pub(super) fn written_octets(&self) -> usize {
        match self {
            Self::Literal(_) => self.to_string().len(),
            Self::Name(name) => name.as_str().len(),
        }
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Literal(IpAddr::V4(ip)) => write!(f, "[{ip}]"),
            Self::Literal(IpAddr::V6(ip)) => write!(f, "[IPv6:{ip}]"),
            Self::Name(name) => f.write_str(name.as_str()),
        }
    }
}

impl FromStr for Domain {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        Self::parse(text)
    }
}

/// A DNS name in its normal form, 1 to [`MAX_DOMAIN_OCTETS`] octets of ASCII.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DomainName(Box<str>);

impl DomainName {
    /// Reads a name as [`Domain::parse`] does, but no literal.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        if text.is_empty() {
            return Err(AddressError::NoDomain);
        }
        if text.len() > MAX_DOMAIN_INPUT_OCTETS {
            return Err(AddressError::DomainTooLong);
        }
        let mapped = map(text)?;
        // The checks see the mapped text, so a full-width dot, digit or `@` gains nothing.
        check_name(&mapped)?;
        Ok(Self(mapped.into()))
    }

    /// The name as text: lower case, A-labels, no trailing dot.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DomainName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<DomainName> for Domain {
    fn from(name: DomainName) -> Self {
        Self::Name(name)
    }
}

/// The inside of a literal behind its `[` (RFC 5321 §4.1.3). An IPv6 address without its tag is
/// refused: the untagged form is IPv4 alone.
fn parse_literal(text: &str) -> Result<IpAddr, AddressError> {
    let inner = text.strip_suffix(']').ok_or(AddressError::BadLiteral)?;
    let address = match inner.split_at_checked(IPV6_TAG.len()) {
        Some((tag, v6)) if tag.eq_ignore_ascii_case(IPV6_TAG) => {
            v6.parse::<Ipv6Addr>().map(IpAddr::V6)
        }
        Some(_) | None => inner.parse::<Ipv4Addr>().map(IpAddr::V4),
    };
    address.map_err(|_| AddressError::BadLiteral)
}

/// Lower case and A-labels: UTS 46, non-transitional, with the checks of IDNA2008 on labels.
fn map(text: &str) -> Result<Cow<'_, str>, AddressError> {
    if text.is_ascii() && !has_a_label(text) {
        return Ok(Cow::Owned(text.to_ascii_lowercase()));
    }
    // Length is checked later for a better sentence; hyphens at places three and four occur in
    // real host names; the deny list is empty because `check_name` allows less.
    Uts46::new()
        .to_ascii(text.as_bytes(), AsciiDenyList::EMPTY, Hyphens::CheckFirstLast, DnsLength::Ignore)
        .map_err(|_| AddressError::BadDomain)
}

fn has_a_label(text: &str) -> bool {
    text.split('.')
        .any(|label| label.get(..4).is_some_and(|prefix| prefix.eq_ignore_ascii_case("xn--")))
}

fn check_name(name: &str) -> Result<(), AddressError> {
    for label in name.split('.') {
        if !is_label(label) {
            return Err(AddressError::BadDomain);
        }
        if label.len() > MAX_LABEL_OCTETS {
            return Err(AddressError::LabelTooLong);
        }
    }
    if name.len() > MAX_DOMAIN_OCTETS {
        return Err(AddressError::DomainTooLong);
    }
    if name.rsplit('.').next().is_some_and(is_number) {
        return Err(AddressError::BadDomain);
    }
    Ok(())
}

/// Letters, digits, inner hyphens, and underscores, which real mail domains have.
fn is_label(label: &str) -> bool {
    !label.is_empty()
        && !label.starts_with('-')
        && !label.ends_with('-')
        && label.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_'))
}

/// Whether a resolver could take a name with this last label for an IPv4 address (`127.1`,
/// `2130706433`, `0x7f000001`). No top-level domain is a number (RFC 3696 §2).
fn is_number(label: &str) -> bool {
    match label.strip_prefix("0x") {
        Some(hex) => hex.bytes().all(|b| b.is_ascii_hexdigit()),
        None => label.bytes().all(|b| b.is_ascii_digit()),
    }
}

const IPV6_TAG: &str = "IPv6:";
