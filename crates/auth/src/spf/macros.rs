//! Texts of SPF records with macros in them (RFC 7208 §7).
//!
//! Pure: what a macro stands for is an argument.

use std::{borrow::Cow, fmt::Write as _, net::IpAddr};

/// A text with macros.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct MacroString(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Literal(String),
    Macro(Macro),
}

/// `%{` a letter, how many parts, whether reversed, and what parts them, `}`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Macro {
    letter: Letter,
    /// Whether the letter is a capital: then what is not unreserved in an URI is escaped.
    is_escaped: bool,
    /// How many parts are kept, from the right; `None`: all.
    parts: Option<usize>,
    is_reversed: bool,
    /// Which characters part it; empty: the dot.
    delimiters: String,
}

/// What a macro stands for (§7.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Letter {
    /// `i`
    Address,
    /// `d`
    Domain,
    /// `v`
    Family,
    /// `h`
    Helo,
    /// `l`
    Local,
    /// `t`, in explanations only
    Now,
    /// `c`, in explanations only
    ReadableAddress,
    /// `r`, in explanations only
    Receiver,
    /// `s`
    Sender,
    /// `o`
    SenderDomain,
    /// `p`
    Validated,
}

/// What the macros stand for.
pub(super) struct Values<'a> {
    pub(super) address: IpAddr,
    pub(super) domain: &'a str,
    pub(super) helo: &'a str,
    /// Seconds since 1970.
    pub(super) now: u64,
    pub(super) receiver: &'a str,
    /// `local@domain`.
    pub(super) sender: &'a str,
    /// A name of the address that leads back to it, or `unknown`.
    pub(super) validated: &'a str,
}

impl MacroString {
    /// Reads a macro-string of a record; `None` where it is not well-formed.
    pub(super) fn parse(text: &str) -> Option<Self> {
        Self::read(text, |letter, c| letter.is_in_records() && c.is_ascii_graphic())
    }

    /// Reads a domain-spec (§7.1): it ends with a macro, or a label that is no number.
    pub(super) fn parse_domain(text: &str) -> Option<Self> {
        let parsed = Self::parse(text)?;
        if text.ends_with(['}', '%', '_', '-']) && ends_with_macro(text) {
            return Some(parsed);
        }
        let text = text.strip_suffix('.').unwrap_or(text);
        let (_, top) = text.rsplit_once('.')?;
        let is_label = top.bytes().all(|octet| octet.is_ascii_alphanumeric() || octet == b'-');
        let is_name = top.bytes().any(|octet| !octet.is_ascii_digit());
        let is_bounded = !top.starts_with('-') && !top.ends_with('-') && !top.is_empty();
        (is_label && is_name && is_bounded).then_some(parsed)
    }

    /// Reads the text of an explanation (§6.2); `None` where it is not well-formed.
    pub(super) fn parse_explanation(text: &str) -> Option<Self> {
        Self::read(text, |_, c| c.is_ascii_graphic() || c == ' ')
    }

    /// `may` says whether a macro may stand here, and a character besides macros.
    fn read(text: &str, may: impl Fn(Letter, char) -> bool) -> Option<Self> {
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut rest = text.chars();
        while let Some(c) = rest.next() {
            if c != '%' {
                may(Letter::Domain, c).then_some(())?;
                literal.push(c);
                continue;
            }
            match rest.next()? {
                '%' => literal.push('%'),
                '_' => literal.push(' '),
                '-' => literal.push_str("%20"),
                '{' => {
                    let (inside, behind) = rest.as_str().split_once('}')?;
                    rest = behind.chars();
                    let found = Macro::parse(inside)?;
                    may(found.letter, 'x').then_some(())?;
                    if !literal.is_empty() {
                        parts.push(Part::Literal(std::mem::take(&mut literal)));
                    }
                    parts.push(Part::Macro(found));
                }
                _ => return None,
            }
        }
        if !literal.is_empty() {
            parts.push(Part::Literal(literal));
        }
        Some(Self(parts))
    }

    /// Whether [`Values::validated`] is needed.
    pub(super) fn needs_validated(&self) -> bool {
        let needs = |part: &Part| match part {
            Part::Literal(_) => false,
            Part::Macro(it) => it.letter == Letter::Validated,
        };
        self.0.iter().any(needs)
    }

    /// Whether it names the local part of the sender.
    pub(super) fn is_about_local(&self) -> bool {
        let is = |letter| matches!(letter, Letter::Local | Letter::Sender);
        self.0.iter().any(|part| matches!(part, Part::Macro(it) if is(it.letter)))
    }

    /// With values in the place of macros.
    pub(super) fn expand(&self, values: &Values<'_>) -> String {
        let mut text = String::new();
        for part in &self.0 {
            match part {
                Part::Literal(literal) => text.push_str(literal),
                Part::Macro(it) => it.expand(values, &mut text),
            }
        }
        text
    }
}

/// Whether the last of a text that is well-formed is a macro, and not a character beside one.
fn ends_with_macro(text: &str) -> bool {
    let mut rest = text;
    while let Some((_, behind)) = rest.split_once('%') {
        let end = match behind.bytes().next() {
            Some(b'{') => behind.find('}').map_or(behind.len(), |at| at + 1),
            _ => 1,
        };
        rest = behind.get(end..).unwrap_or_default();
        if rest.is_empty() {
            return true;
        }
    }
    false
}

impl Macro {
    fn parse(inside: &str) -> Option<Self> {
        let letter = inside.chars().next()?;
        let rest = inside.get(letter.len_utf8()..)?;
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let (digits, rest) = rest.split_at(end);
        let parts = match digits {
            "" => None,
            // More parts than any name has are all of them.
            digits => Some(digits.parse().unwrap_or(usize::MAX)),
        };
        let reversed = rest.strip_prefix(['r', 'R']);
        let delimiters = reversed.unwrap_or(rest);
        let is_good = parts != Some(0) && delimiters.chars().all(|c| ".-+,/_=".contains(c));
        is_good.then_some(Self {
            letter: Letter::parse(letter.to_ascii_lowercase())?,
            is_escaped: letter.is_ascii_uppercase(),
            parts,
            is_reversed: reversed.is_some(),
            delimiters: delimiters.to_owned(),
        })
    }

    fn expand(&self, values: &Values<'_>, text: &mut String) {
        let value = self.letter.value(values);
        let is_delimiter = |c: char| match self.delimiters.as_str() {
            "" => c == '.',
            delimiters => delimiters.contains(c),
        };
        let mut parts: Vec<&str> = value.split(is_delimiter).collect();
        if self.is_reversed {
            parts.reverse();
        }
        let kept = self.parts.unwrap_or(parts.len()).min(parts.len());
        let value = parts.get(parts.len() - kept..).unwrap_or_default().join(".");
        if self.is_escaped {
            escape(&value, text);
        } else {
            text.push_str(&value);
        }
    }
}

impl Letter {
    const fn parse(lower: char) -> Option<Self> {
        Some(match lower {
            'c' => Self::ReadableAddress,
            'd' => Self::Domain,
            'h' => Self::Helo,
            'i' => Self::Address,
            'l' => Self::Local,
            'o' => Self::SenderDomain,
            'p' => Self::Validated,
            'r' => Self::Receiver,
            's' => Self::Sender,
            't' => Self::Now,
            'v' => Self::Family,
            _ => return None,
        })
    }

    const fn is_in_records(self) -> bool {
        !matches!(self, Self::Now | Self::ReadableAddress | Self::Receiver)
    }

    fn value<'a>(self, values: &Values<'a>) -> Cow<'a, str> {
        let (local, domain) = values.sender.rsplit_once('@').unwrap_or(("", values.sender));
        match self {
            Self::Address => dotted(values.address).into(),
            Self::Domain => values.domain.into(),
            Self::Family if values.address.is_ipv4() => "in-addr".into(),
            Self::Family => "ip6".into(),
            Self::Helo => values.helo.into(),
            Self::Local => local.into(),
            Self::Now => values.now.to_string().into(),
            Self::ReadableAddress => values.address.to_string().into(),
            Self::Receiver => values.receiver.into(),
            Self::Sender => values.sender.into(),
            Self::SenderDomain => domain.into(),
            Self::Validated => values.validated.into(),
        }
    }
}

/// An address in parts: octets, or digits of four bits (§7.3).
fn dotted(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => {
            let digits = format!("{:032X}", address.to_bits());
            let mut text = String::with_capacity(2 * digits.len());
            for digit in digits.chars() {
                if !text.is_empty() {
                    text.push('.');
                }
                text.push(digit);
            }
            text
        }
    }
}

/// Escapes what is not unreserved in an URI (RFC 3986 §2.3).
fn escape(value: &str, text: &mut String) {
    for octet in value.bytes() {
        if octet.is_ascii_alphanumeric() || b"-._~".contains(&octet) {
            text.push(char::from(octet));
        } else {
            // A string takes anything.
            write!(text, "%{octet:02X}").ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values() -> Values<'static> {
        Values {
            address: "192.0.2.3".parse().unwrap(),
            domain: "email.example.com",
            helo: "mail.example.net",
            now: 1_700_000_000,
            receiver: "mx.example.org",
            sender: "strong-bad@email.example.com",
            validated: "mx.example.com",
        }
    }

    #[test]
    fn macros_expand_as_in_the_examples_of_the_rfc() {
        for (text, want) in [
            ("%{s}", "strong-bad@email.example.com"),
            ("%{o}", "email.example.com"),
            ("%{d}", "email.example.com"),
            ("%{d4}", "email.example.com"),
            ("%{d3}", "email.example.com"),
            ("%{d2}", "example.com"),
            ("%{d1}", "com"),
            ("%{dr}", "com.example.email"),
            ("%{d2r}", "example.email"),
            ("%{l}", "strong-bad"),
            ("%{l-}", "strong.bad"),
            ("%{lr}", "strong-bad"),
            ("%{lr-}", "bad.strong"),
            ("%{l1r-}", "strong"),
            ("%{ir}.%{v}._spf.%{d2}", "3.2.0.192.in-addr._spf.example.com"),
            ("%{lr-}.lp._spf.%{d2}", "bad.strong.lp._spf.example.com"),
            ("%{p}-%{h}%%%_%-", "mx.example.com-mail.example.net% %20"),
            ("%{S}", "strong-bad%40email.example.com"),
        ] {
            assert_eq!(MacroString::parse(text).unwrap().expand(&values()), want, "{text}");
        }
        let address = "2001:db8::cb01".parse().unwrap();
        let spec = MacroString::parse("%{ir}.%{v}._spf.%{d2}").unwrap();
        let want = "1.0.B.C.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.B.D.0.1.0.0.2.ip6._spf.\
                    example.com";
        assert_eq!(spec.expand(&Values { address, ..values() }), want);
        let text = MacroString::parse_explanation("%{c} by %{r} at %{t}").unwrap();
        assert_eq!(text.expand(&values()), "192.0.2.3 by mx.example.org at 1700000000");
    }

    #[test]
    fn an_explanation_may_say_more_than_a_record() {
        for text in ["%{c}", "%{r}", "%{t}", "a b"] {
            assert_eq!(MacroString::parse(text), None, "{text}");
            assert!(MacroString::parse_explanation(text).is_some(), "{text}");
        }
        assert_eq!(MacroString::parse_explanation("a\r\nb"), None);
    }

    #[test]
    fn more_parts_than_there_are_are_all() {
        let text = format!("%{{d{}}}", u128::MAX);
        assert_eq!(MacroString::parse(&text).unwrap().expand(&values()), "email.example.com");
    }
}
