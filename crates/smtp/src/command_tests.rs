use merpati_mail::Priority;

use super::*;
use crate::parameters::{self, Extension};

/// The extensions whose parameters are read here.
fn offered() -> Offered {
    [Extension::MtPriority, Extension::Size, Extension::Smtputf8]
        .into_iter()
        .fold(Offered::default(), Offered::with)
}

#[track_caller]
fn rule_of(line: &str) -> Option<&'static str> {
    Command::parse(line.as_bytes(), offered()).err().map(Fault::rule)
}

#[test]
fn what_is_offered_twice_is_offered() {
    let twice = offered().with(Extension::Size);
    assert!(twice.has(Extension::Size) && twice.has(Extension::Smtputf8));
    assert!(!twice.has(Extension::Dsn));
}

#[test]
fn each_fault_has_the_name_of_its_rule() {
    for (line, want) in [
        ("NOOP", None),
        ("EHLO", Some("argument-syntax")),
        ("AUTH PLAIN a b", Some("argument-syntax")),
        ("AUTH PLAIN a\tb", Some("argument-syntax")),
        ("BDAT x", Some("chunk-count")),
        ("BDAT 99999999999999999999999", Some("chunk-count")),
        ("NO\rOP", Some("control-octet")),
        ("RCPT TO:<a b>", Some("address-syntax")),
        ("MAIL FROM:<a", Some("address-syntax")),
        ("GET / HTTP/1.1", Some("http")),
        ("EXPN all", Some("not-implemented")),
        ("PROXY TCP4 a b 1 2", Some("proxy-denied")),
        ("MAIL FROM:<> SIZE=99999999999999999999", Some("message-size")),
        ("FOO", Some("unknown-command")),
        ("MAIL FROM:<> FOO=1", Some("unknown-parameter")),
    ] {
        assert_eq!(rule_of(line), want, "{line}");
    }
    assert_eq!(Command::parse(b"NOOP \xff", offered()).err().map(Fault::rule), Some("not-utf8"));
}

#[test]
fn a_client_has_a_name_or_an_address_of_bounded_length() {
    let longest = "a".repeat(255);
    for (name, is_taken) in [
        (longest.as_str(), true),
        (&format!("{longest}b"), false),
        ("[192.0.2.1]", true),
        ("[IPv6:2001:db8::1]", true),
        ("[ipv6:::1]", true),
        ("[IPv4:::1]", false),
        ("[2001:db8::1]", false),
        ("[192.0.2.1", false),
        ("a_b.example", true),
        ("a/b", false),
    ] {
        assert_eq!(rule_of(&format!("EHLO {name}")).is_none(), is_taken, "{name}");
    }
}

#[test]
fn a_priority_is_a_number_from_minus_nine_to_nine() {
    for (value, want) in [
        ("0", Some(0)),
        ("9", Some(9)),
        ("1", Some(1)),
        ("-1", Some(-1)),
        ("-9", Some(-9)),
        ("-0", None),
        ("+1", None),
        ("01", None),
        ("10", None),
        ("", None),
    ] {
        let read = parameters::mail(&format!(" MT-PRIORITY={value}"), offered());
        let got = read.ok().and_then(|read| read.priority).map(Priority::value);
        assert_eq!(got, want, "{value}");
    }
}
