//! What the parameters of DSN say (RFC 3461 §4, RFC 6533 §3).
//!
//! Invariant: what is taken is kept as it was given, so that the next hop gets it unchanged; and it
//! can be decoded into a report later. Pure.

use merpati_mail::{
    envelope::{Notify, Ret},
    xtext,
};

use crate::command::Fault;

/// `RET=` of MAIL (RFC 3461 §4.3).
pub(crate) fn ret(value: Option<&str>) -> Result<Ret, Fault> {
    match value.unwrap_or_default() {
        full if full.eq_ignore_ascii_case("FULL") => Ok(Ret::Full),
        headers if headers.eq_ignore_ascii_case("HDRS") => Ok(Ret::Headers),
        _ => Err(Fault::Argument("RET= takes FULL or HDRS")),
    }
}

/// `ENVID=` of MAIL (RFC 3461 §4.4): printable ASCII and blanks, in xtext.
pub(crate) fn envid(value: Option<&str>) -> Result<String, Fault> {
    let value = value.unwrap_or_default();
    let meant = xtext::decode(value).filter(|meant| !meant.is_empty());
    match meant {
        Some(_) if value.len() <= ENVID_OCTETS_MAX => Ok(value.to_owned()),
        Some(_) => Err(Fault::Argument("ENVID= is longer than 100 characters")),
        None => Err(Fault::Argument("ENVID= takes printable text in xtext")),
    }
}

/// `NOTIFY=` of RCPT (RFC 3461 §4.1): `NEVER` alone, or a list.
pub(crate) fn notify(value: Option<&str>) -> Result<Notify, Fault> {
    let value = value.unwrap_or_default();
    if value.eq_ignore_ascii_case("NEVER") {
        return Ok(Notify::Never);
    }
    let (mut delay, mut failure, mut success) = (false, false, false);
    for word in value.split(',') {
        let is_wanted = match word {
            word if word.eq_ignore_ascii_case("DELAY") => &mut delay,
            word if word.eq_ignore_ascii_case("FAILURE") => &mut failure,
            word if word.eq_ignore_ascii_case("SUCCESS") => &mut success,
            _ => return Err(Fault::Argument("NOTIFY= takes NEVER, or SUCCESS, FAILURE and DELAY")),
        };
        *is_wanted = true;
    }
    Ok(Notify::On { delay, failure, success })
}

/// `ORCPT=` of RCPT (RFC 3461 §4.2, RFC 6533 §3): the type of an address, `;`, and the address in
/// xtext, or for the type `utf-8` with characters beyond ASCII.
pub(crate) fn orcpt(value: Option<&str>) -> Result<String, Fault> {
    const WRONG: Fault =
        Fault::Argument("ORCPT= takes a type, a semicolon and an address in xtext");
    let value = value.unwrap_or_default();
    let (kind, address) = value.split_once(';').ok_or(WRONG)?;
    let meant = if kind.eq_ignore_ascii_case("utf-8") {
        xtext::decode_utf8(address)
    } else {
        xtext::decode(address)
    };
    let is_right = is_atom(kind) && meant.is_some_and(|meant| !meant.is_empty());
    if value.len() > ORCPT_OCTETS_MAX {
        return Err(Fault::Argument("ORCPT= is longer than 500 characters"));
    }
    if is_right { Ok(value.to_owned()) } else { Err(WRONG) }
}

/// RFC 5322 §3.2.3; a report writes it as it is.
fn is_atom(text: &str) -> bool {
    let is_atext =
        |octet: u8| octet.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~".contains(&octet);
    (1..=KIND_OCTETS_MAX).contains(&text.len()) && text.bytes().all(is_atext)
}

/// RFC 3461 §4.4.
const ENVID_OCTETS_MAX: usize = 100;
/// RFC 3461 §4.2.
const ORCPT_OCTETS_MAX: usize = 500;
/// The longest type of an address; the longest that is registered has 6.
const KIND_OCTETS_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_envelope_identifier_is_short_printable_xtext() {
        let long = "x".repeat(100);
        for value in ["QQ314159", "a+2Bb+3D+20c", "<x@y>", &long] {
            assert_eq!(envid(Some(value)).as_deref(), Ok(value));
        }
        let long = "x".repeat(101);
        for value in ["", "a=b", "a+0Ab", "a+0", "a+zz", "a+00", "a+FF", "é", &long] {
            assert!(envid(Some(value)).is_err(), "{value}");
        }
        assert!(envid(None).is_err());
    }

    #[test]
    fn never_stands_alone() {
        let on = |delay, failure, success| Ok(Notify::On { delay, failure, success });
        for (value, want) in [
            ("NEVER", Ok(Notify::Never)),
            ("never", Ok(Notify::Never)),
            ("success,Failure,DELAY", on(true, true, true)),
            ("FAILURE", on(false, true, false)),
            ("SUCCESS,SUCCESS", on(false, false, true)),
        ] {
            assert_eq!(notify(Some(value)), want, "{value}");
        }
        for value in
            ["", "NEVER,SUCCESS", "SUCCESS,NEVER", "SUCCESS,", ",", "ALWAYS", "SUCCESS;DELAY"]
        {
            assert!(notify(Some(value)).is_err(), "{value}");
        }
        assert!(notify(None).is_err());
    }

    #[test]
    fn an_original_recipient_has_a_type_and_an_address_that_can_be_told() {
        let long = format!("rfc822;{}", "x".repeat(493));
        for value in [
            "rfc822;u@x.example",
            "RFC822;u+2Bv@x.example",
            "x400;/PN+3Du/",
            "utf-8;\\x{3B4}@x.example",
            "utf-8;δ@x.example",
            "UTF-8;u@x.example",
            &long,
        ] {
            assert_eq!(orcpt(Some(value)).as_deref(), Ok(value));
        }
        let long = format!("rfc822;{}", "x".repeat(494));
        for value in [
            "",
            "rfc822",
            "rfc822;",
            ";u@x",
            "rfc 822;u@x",
            "rfc822;u=v",
            "rfc822;u+0D+0Av",
            "rfc822;δ@x.example",
            "utf-8;\\x{D800}",
            "utf-8;\\q",
            "utf-8;",
            "utf-8;a\u{85}b",
            "r(c;u@x",
            &long,
        ] {
            assert!(orcpt(Some(value)).is_err(), "{value}");
        }
        assert!(orcpt(None).is_err());
    }

    #[test]
    fn ret_is_one_of_two_words() {
        assert_eq!(ret(Some("full")), Ok(Ret::Full));
        assert_eq!(ret(Some("HDRS")), Ok(Ret::Headers));
        for value in [None, Some(""), Some("HEADERS"), Some("FULL,HDRS")] {
            assert!(ret(value).is_err(), "{value:?}");
        }
    }
}
