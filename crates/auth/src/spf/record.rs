//! What an SPF record says, read by the letter of RFC 7208 §12.
//!
//! A receiver must not guess what a domain meant (§4.6): a record with a mistake anywhere says
//! nothing, and whoever reads it gives up. Pure.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::{SpfResult, macros::MacroString};

/// A record that is well-formed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) directives: Vec<Directive>,
    pub(super) redirect: Option<MacroString>,
    pub(super) exp: Option<MacroString>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Directive {
    /// What the client gets where the mechanism matches.
    pub(super) result: SpfResult,
    pub(super) mechanism: Mechanism,
}

/// Who is meant (§5). Without a domain-spec it is the domain whose record it is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Mechanism {
    A(Option<MacroString>, Masks),
    All,
    Exists(MacroString),
    Include(MacroString),
    Ip4(Ipv4Addr, u32),
    Ip6(Ipv6Addr, u128),
    Mx(Option<MacroString>, Masks),
    Ptr(Option<MacroString>),
}

impl Mechanism {
    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::A(..) => "a",
            Self::All => "all",
            Self::Exists(_) => "exists",
            Self::Include(_) => "include",
            Self::Ip4(..) => "ip4",
            Self::Ip6(..) => "ip6",
            Self::Mx(..) => "mx",
            Self::Ptr(_) => "ptr",
        }
    }

    /// The name that it asks about, where it says one.
    pub(super) const fn spec(&self) -> Option<&MacroString> {
        match self {
            Self::A(spec, _) | Self::Mx(spec, _) | Self::Ptr(spec) => spec.as_ref(),
            Self::Exists(spec) | Self::Include(spec) => Some(spec),
            Self::All | Self::Ip4(..) | Self::Ip6(..) => None,
        }
    }
}

/// Which bits of an address count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Masks {
    pub(super) ip4: u32,
    pub(super) ip6: u128,
}

/// Whether a text is an SPF record of version 1 (§4.5).
pub(super) fn is_record(text: &[u8]) -> bool {
    let (version, rest) = text.split_at_checked(VERSION.len()).unwrap_or((text, &[]));
    version.eq_ignore_ascii_case(VERSION) && matches!(rest.first(), None | Some(b' '))
}

impl Record {
    /// Reads a text of which [`is_record`] says yes; else why it is not well-formed, in words.
    pub(super) fn parse(text: &[u8]) -> Result<Self, String> {
        let text = str::from_utf8(text).ok().filter(|text| text.is_ascii());
        let text = text.ok_or("it holds octets that are not ASCII")?;
        let terms = text.get(VERSION.len()..).unwrap_or_default();
        let mut record = Self { directives: Vec::new(), redirect: None, exp: None };
        for term in terms.split(' ').filter(|term| !term.is_empty()) {
            let added = record.add(term);
            added.ok_or_else(|| format!("{term:?} is not well-formed"))?;
        }
        Ok(record)
    }

    /// Adds a term; `None` where it is not well-formed.
    fn add(&mut self, term: &str) -> Option<()> {
        let qualified = qualifier(term);
        let (name, rest) = split_name(qualified.map_or(term, |(_, rest)| rest))?;
        let Some(value) = rest.strip_prefix('=') else {
            let mechanism = mechanism(name, rest)?;
            let result = qualified.map_or(SpfResult::Pass, |(result, _)| result);
            self.directives.push(Directive { result, mechanism });
            return Some(());
        };
        if qualified.is_some() {
            return None;
        }
        let place = match name.to_ascii_lowercase().as_str() {
            "redirect" => &mut self.redirect,
            "exp" => &mut self.exp,
            // §6: unknown ones are passed over, if they are well-formed.
            _ => return MacroString::parse(value).map(drop),
        };
        // Each may stand once.
        place.is_none().then_some(())?;
        *place = Some(MacroString::parse_domain(value)?);
        Some(())
    }
}

fn qualifier(term: &str) -> Option<(SpfResult, &str)> {
    let result = match term.bytes().next()? {
        b'+' => SpfResult::Pass,
        b'-' => SpfResult::Fail,
        b'?' => SpfResult::Neutral,
        b'~' => SpfResult::SoftFail,
        _ => return None,
    };
    Some((result, term.get(1..)?))
}

/// A name, and what follows it.
fn split_name(term: &str) -> Option<(&str, &str)> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let end = term.find(|c| !is_name(c)).unwrap_or(term.len());
    let (name, rest) = term.split_at(end);
    name.starts_with(|c: char| c.is_ascii_alphabetic()).then_some((name, rest))
}

fn mechanism(name: &str, rest: &str) -> Option<Mechanism> {
    let argument = rest.strip_prefix(':');
    Some(match name.to_ascii_lowercase().as_str() {
        "all" => rest.is_empty().then_some(Mechanism::All)?,
        "include" => Mechanism::Include(MacroString::parse_domain(argument?)?),
        "exists" => Mechanism::Exists(MacroString::parse_domain(argument?)?),
        "a" => {
            let (domain, masks) = domain_and_masks(rest)?;
            Mechanism::A(domain, masks)
        }
        "mx" => {
            let (domain, masks) = domain_and_masks(rest)?;
            Mechanism::Mx(domain, masks)
        }
        "ptr" => Mechanism::Ptr(domain(rest).ok()?),
        "ip4" => {
            let (address, length) = network(argument?, 32)?;
            Mechanism::Ip4(address.parse().ok()?, mask(length))
        }
        "ip6" => {
            let (address, length) = network(argument?, 128)?;
            Mechanism::Ip6(address.parse().ok()?, wide_mask(length))
        }
        _ => return None,
    })
}

/// A term, or a part of it, that is not well-formed.
struct Malformed;

/// `[":" domain-spec]`
fn domain(text: &str) -> Result<Option<MacroString>, Malformed> {
    if text.is_empty() {
        return Ok(None);
    }
    let spec = text.strip_prefix(':').and_then(MacroString::parse_domain);
    spec.map(Some).ok_or(Malformed)
}

/// `[":" domain-spec] ["/" length] ["//" length]`. A slash may stand in a domain-spec too, but not
/// so near to its end that only digits follow.
fn domain_and_masks(text: &str) -> Option<(Option<MacroString>, Masks)> {
    let is_length = |c: char| c.is_ascii_digit() || c == '/';
    let start = text.trim_end_matches(is_length).len();
    let at = text.get(start..)?.find('/').map_or(text.len(), |at| start + at);
    let (spec, lengths) = text.split_at(at);
    let (ip4, ip6) = match lengths.find("//") {
        Some(at) => (lengths.get(..at)?, lengths.get(at + 2..)),
        None => (lengths, None),
    };
    let ip4 = if ip4.is_empty() { 32 } else { length(ip4.strip_prefix('/')?, 32)? };
    let ip6 = ip6.map_or(Some(128), |ip6| length(ip6, 128))?;
    Some((domain(spec).ok()?, Masks { ip4: mask(ip4), ip6: wide_mask(ip6) }))
}

fn network(text: &str, max: u8) -> Option<(&str, u8)> {
    match text.split_once('/') {
        Some((address, bits)) => Some((address, length(bits, max)?)),
        None => Some((text, max)),
    }
}

/// A prefix length, without leading zeros.
fn length(text: &str, max: u8) -> Option<u8> {
    let is_number = text.bytes().all(|octet| octet.is_ascii_digit());
    let is_short = text == "0" || !text.starts_with('0');
    text.parse().ok().filter(|length| is_number && is_short && *length <= max)
}

fn mask(length: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0)
}

fn wide_mask(length: u8) -> u128 {
    u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0)
}

const VERSION: &[u8] = b"v=spf1";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_begins_with_its_version_alone() {
        for (text, want) in [
            ("v=spf1", true),
            ("v=spf1 -all", true),
            ("V=SPF1 -all", true),
            ("v=spf10 -all", false),
            ("v=spf1-all", false),
            (" v=spf1 -all", false),
            ("v=spf", false),
            ("", false),
        ] {
            assert_eq!(is_record(text.as_bytes()), want, "{text:?}");
        }
    }

    #[test]
    fn only_what_the_rule_knows_is_well_formed() {
        for good in [
            "v=spf1",
            "v=spf1  a  mx -all ",
            "v=spf1 a/24 a//64 a/24//64 mx:example.org/0",
            "v=spf1 ip4:192.0.2.0/24 ip6:2001:db8::/32 ip6:::1",
            "v=spf1 include:%{ir}.%{d2}.example.org exists:%{l1r+-}.a.org. ?ptr",
            "v=spf1 ptr:%{d} redirect=%{d}.x.org",
            "v=spf1 moo=%%%_%- later.on= -all",
            "v=spf1 a:x.a-b a:1.2.3a a:a/b.example.org a:a.org:8080.example.com",
        ] {
            assert!(Record::parse(good.as_bytes()).is_ok(), "{good}");
        }
        #[rustfmt::skip]
        let bad = [
            "foo", "all:x.org", "all/8", "-all.", "a:", "a/33", "a/024", "a/", "a//129", "a/8/8",
            "a:example", "a:example.123", "a:example.-a", "a:.", "mx:%", "mx:%(d).org", "mx:%{d",
            "a:%{x}.org", "a:%{d0}.org", "include", "include:", "exists", "ip4", "ip4:", "+",
            "ip4:192.0.2/24", "ip4:192.0.2.0/33", "ip6:2001:db8::/129", "ip6:x", "=x", "1a",
            "redirect=x", "redirect=a.org redirect=a.org", "exp=", "+exp=a.org", "a:%{c}.org",
            "moo=%", "a\tmx", "a:a.org\u{7f}", "ptr/24", "includes:a.org", "a:a.org/+8",
        ];
        for bad in bad {
            assert!(Record::parse(format!("v=spf1 {bad}").as_bytes()).is_err(), "{bad}");
        }
        assert!(Record::parse(b"v=spf1 a:\xe9.org").is_err());
    }

    #[test]
    fn a_prefix_length_is_a_mask() {
        for (length, want) in [(0, 0), (1, 0x8000_0000), (24, 0xffff_ff00), (32, u32::MAX)] {
            assert_eq!(mask(length), want, "{length}");
        }
        assert_eq!((wide_mask(0), wide_mask(128)), (0, u128::MAX));
        assert_eq!(wide_mask(64), u128::from(u64::MAX) << 64);
    }
}
