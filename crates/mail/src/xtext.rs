//! How the values of DSN parameters are written: xtext (RFC 3461 §4), and addresses with characters
//! beyond ASCII (RFC 6533 §3).
//!
//! Invariant: what is decoded holds no control character, so it can stand in a report as it is;
//! what is encoded is printable ASCII without blanks, so it can stand in a command. Pure.

use std::fmt::Write as _;

/// Whether this is xtext: printable ASCII but `+` and `=`, and `+` with two upper-case hexadecimal
/// digits. At least one character.
pub fn is_xtext(text: &str) -> bool {
    !text.is_empty() && decoded(text).is_some()
}

/// What xtext means; `None` where it is no xtext, or means anything but printable ASCII and blanks.
pub fn decode(text: &str) -> Option<String> {
    let octets = decoded(text)?;
    let is_plain = octets.iter().all(|octet| *octet == b' ' || octet.is_ascii_graphic());
    String::from_utf8(octets).ok().filter(|_| is_plain)
}

/// Printable ASCII as xtext; every other octet is written in hexadecimal.
pub fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for octet in text.bytes() {
        if octet.is_ascii_graphic() && !matches!(octet, b'+' | b'=') {
            encoded.push(char::from(octet));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(encoded, "+{octet:02X}");
        }
    }
    encoded
}

/// What an address of the type `utf-8` means: `\x{3B4}` stands for a character by its number, and
/// characters beyond ASCII may stand for themselves (RFC 6533 §3). `None` where it is malformed or
/// holds a control character.
///
/// `+` with two hexadecimal digits is taken as in xtext, although the grammar has no `+` there: who
/// encodes everything alike must not lose the mail.
pub fn decode_utf8(text: &str) -> Option<String> {
    let mut address = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        rest = rest.get(c.len_utf8()..)?;
        let meant = match c {
            '\\' => {
                let (number, behind) = rest.strip_prefix("x{")?.split_once('}')?;
                rest = behind;
                code_point(number)?
            }
            '+' => {
                let (number, behind) = rest.split_at_checked(2)?;
                rest = behind;
                u8::from_str_radix(number, 16).ok().filter(u8::is_ascii).map(char::from)?
            }
            '=' | ' ' => return None,
            other => other,
        };
        if meant.is_control() {
            return None;
        }
        address.push(meant);
    }
    (!address.is_empty()).then_some(address)
}

/// An address in the form of the type `utf-8` for 7 bits: `utf-8-addr-xtext` of RFC 6533 §3.
pub fn encode_utf8(address: &str) -> String {
    let mut encoded = String::with_capacity(address.len());
    for c in address.chars() {
        if c.is_ascii_graphic() && !matches!(c, '\\' | '+' | '=') {
            encoded.push(c);
        } else {
            // Writing to a string cannot fail.
            let _ = write!(encoded, "\\x{{{:X}}}", u32::from(c));
        }
    }
    encoded
}

fn decoded(text: &str) -> Option<Vec<u8>> {
    let mut octets = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(octet) = rest.next() {
        octets.push(match octet {
            b'+' => digit(rest.next()?)? << 4 | digit(rest.next()?)?,
            b'=' => return None,
            other if other.is_ascii_graphic() => other,
            _ => return None,
        });
    }
    Some(octets)
}

/// RFC 3461 §4: upper case only.
const fn digit(octet: u8) -> Option<u8> {
    match octet {
        b'0'..=b'9' => Some(octet - b'0'),
        b'A'..=b'F' => Some(octet - b'A' + 10),
        _ => None,
    }
}

/// The character with this number in one to six hexadecimal digits.
fn code_point(number: &str) -> Option<char> {
    let is_number =
        (1..=6).contains(&number.len()) && number.bytes().all(|octet| octet.is_ascii_hexdigit());
    if is_number { char::from_u32(u32::from_str_radix(number, 16).ok()?) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn xtext_means_what_rfc_3461_says() {
        for (text, want) in [
            ("QQ314159", Some("QQ314159")),
            ("a+2Bb+3Dc+20d", Some("a+b=c d")),
            ("a\\b{c}", Some("a\\b{c}")),
            ("a+2bb", None),
            ("a=b", None),
            ("a b", None),
            ("a+2", None),
            ("a+", None),
            ("a+0D+0A", None),
            ("a+00", None),
            ("a+C3+A9", None),
            ("é", None),
        ] {
            assert_eq!(decode(text).as_deref(), want, "{text}");
        }
        assert!(is_xtext("a+0Db") && !is_xtext("") && !is_xtext("a b"));
        assert_eq!(encode("a+b=c d"), "a+2Bb+3Dc+20d");
    }

    #[test]
    fn addresses_beyond_ascii_go_both_ways() {
        for (text, want) in [
            ("\\x{3B4}@x.example", Some("δ@x.example")),
            ("δ@x.example", Some("δ@x.example")),
            ("a\\x{2B}b\\x{5C}@x", Some("a+b\\@x")),
            ("a+2Bb@x", Some("a+b@x")),
            ("\\x{D800}", None),
            ("\\x{0A}", None),
            ("\\x{}", None),
            ("\\x{1234567}", None),
            ("\\x{+41}", None),
            ("\\y", None),
            ("a b", None),
            ("a\u{85}", None),
            ("", None),
        ] {
            assert_eq!(decode_utf8(text).as_deref(), want, "{text}");
        }
        for address in ["δ@x.example", "a+b=c\\d@x", "\"a b\"@x", "plain@x"] {
            let encoded = encode_utf8(address);
            assert!(encoded.is_ascii() && !encoded.contains([' ', '+', '=']), "{encoded}");
            assert_eq!(decode_utf8(&encoded).as_deref(), Some(address));
        }
    }
}
