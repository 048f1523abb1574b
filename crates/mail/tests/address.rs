//! Which texts are addresses, as tables (conformance groups F and G) and as properties.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use merpati_mail::address::{
    AddressError, Domain, ForwardPath, MAX_COMMENT_DEPTH, MAX_LIST_MAILBOXES, MAX_LIST_OCTETS,
    MAX_ROUTE_HOPS, Mailbox, ReversePath, Utf8Rule, parse_header_list,
};
use proptest::prelude::*;

use AddressError as E;

/// Parses a path under `utf8`, in both directions, and shows what came out.
#[track_caller]
fn check_path(text: &str, utf8: Utf8Rule, want: Result<&str, E>) {
    let forward = ForwardPath::parse_prefix(text, utf8).map(|(path, rest)| format!("{path}{rest}"));
    assert_eq!(forward, want.map(str::to_owned), "forward-path {text:?}");
    if want.is_ok_and(|want| !want.contains('@')) {
        return;
    }
    let reverse = ReversePath::parse_prefix(text, utf8).map(|(path, rest)| format!("{path}{rest}"));
    assert_eq!(reverse, want.map(str::to_owned), "reverse-path {text:?}");
}

#[track_caller]
fn check_domain(text: &str, want: Result<&str, E>) {
    let got = Domain::parse(text).map(|domain| domain.to_string());
    assert_eq!(got, want.map(str::to_owned), "{text:?}");
}

#[track_caller]
fn check_list(value: &str, want: &[(Option<&str>, &str)]) {
    let got = parse_header_list(value.as_bytes()).unwrap_or_else(|e| panic!("{value:?}: {e}"));
    let got: Vec<_> =
        got.iter().map(|one| (one.name.as_deref(), one.mailbox.to_string())).collect();
    let want: Vec<_> = want.iter().map(|(name, address)| (*name, (*address).to_owned())).collect();
    assert_eq!(got, want, "{value:?}");
}

#[test]
fn a_path_is_read_up_to_its_bracket_and_kept_as_written() {
    for (text, want) in [
        ("<u@ours.example>", "<u@ours.example>"),
        ("<u@ours.example> SIZE=5", "<u@ours.example> SIZE=5"),
        // F2, F5: kept literally, never rewritten, never interpreted.
        ("<x%other.example@ours>", "<x%other.example@ours>"),
        ("<other.example!x@ours>", "<other.example!x@ours>"),
        (r#"<"x@other.example"@ours>"#, r#"<"x@other.example"@ours>"#),
        ("<`id`@ours>", "<`id`@ours>"),
        ("<|/bin/sh@ours>", "<|/bin/sh@ours>"),
        ("</etc/passwd@ours>", "</etc/passwd@ours>"),
        (r#"<":include:/x"@ours>"#, r#"<":include:/x"@ours>"#),
        ("<=?utf-8?q?a?=@ours>", "<=?utf-8?q?a?=@ours>"),
        // F4: the route is dropped.
        ("<@other.example:user@ours>", "<user@ours>"),
        ("<@a,@b.example:x@third>", "<x@third>"),
        // F8: case of the domain.
        ("<U@OURS>", "<U@ours>"),
        // G2: quotes stay where they are needed and go where they are not.
        (r#"<"a b"@ours>"#, r#"<"a b"@ours>"#),
        (r#"<"a\"b"@ours>"#, r#"<"a\"b"@ours>"#),
        (r#"<"a\\b"@ours>"#, r#"<"a\\b"@ours>"#),
        (r#"<"a>b"@ours>"#, r#"<"a>b"@ours>"#),
        (r#"<"\a.b"@ours>"#, "<a.b@ours>"),
        (r#"<"a..b"@ours>"#, r#"<"a..b"@ours>"#),
        ("<u@[192.0.2.1]>", "<u@[192.0.2.1]>"),
        ("<u@[ipv6:2001:DB8::1]>", "<u@[IPv6:2001:db8::1]>"),
        ("<u@[IPv6:::1]>", "<u@[IPv6:::1]>"),
    ] {
        check_path(text, Utf8Rule::AsciiOnly, Ok(want));
    }
}

#[test]
fn a_text_that_is_no_path_is_refused_with_its_reason() {
    for (text, want) in [
        ("u@ours", E::NoPath),
        ("", E::NoPath),
        ("Bob <u@ours>", E::NoPath),
        ("<u@ours", E::UnclosedPath),
        (r#"<"ab@ours>"#, E::UnclosedPath),
        ("<@>", E::BadLocalPart),
        ("<@ours>", E::BadLocalPart),
        ("<u@>", E::NoDomain),
        ("<user>", E::NoDomain),
        // F6
        ("<a@b@ours>", E::BadDomain),
        ("<a@ours@b>", E::BadDomain),
        (r"<a\@b@ours>", E::BadLocalPart),
        ("<a,b@ours>", E::BadLocalPart),
        ("<a;b@ours>", E::BadLocalPart),
        ("<a b@ours>", E::BadLocalPart),
        ("<a\tb@ours>", E::BadLocalPart),
        (r#"<"a"b@ours>"#, E::BadLocalPart),
        (r#"<"a">"#, E::NoDomain),
        // G3
        ("<.u@ours>", E::BadLocalPart),
        ("<u.@ours>", E::BadLocalPart),
        ("<u..v@ours>", E::BadLocalPart),
        ("<u\u{7}@ours>", E::BadLocalPart),
        ("<\"u\u{7}\"@ours>", E::BadLocalPart),
        ("<\"u\0\"@ours>", E::BadLocalPart),
        ("<\"u\\\r\\\n\"@ours>", E::BadLocalPart),
        ("<\"\"@ours>", E::BadLocalPart),
        ("<u@ours\0>", E::BadDomain),
        ("<u@[999.1.1.1]>", E::BadLiteral),
        ("<u@[1.2.3.4>", E::BadLiteral),
        ("<@a,b:u@ours>", E::BadDomain),
        ("<@a..b:u@ours>", E::BadDomain),
        ("<@a:>", E::Empty),
        // G5
        ("<δ@ours>", E::NeedsSmtputf8),
        ("<u@δ.example>", E::NeedsSmtputf8),
    ] {
        check_path(text, Utf8Rule::AsciiOnly, Err(want));
    }
}

#[test]
fn the_null_reverse_path_and_the_bare_postmaster_are_values() {
    let (null, rest) = ReversePath::parse_prefix("<> BODY=7BIT", Utf8Rule::AsciiOnly).unwrap();
    assert!(null.is_null() && null.mailbox().is_none());
    assert_eq!((null.to_string().as_str(), rest), ("<>", " BODY=7BIT"));
    let empty = ForwardPath::parse_prefix("<>", Utf8Rule::AsciiOnly);
    assert_eq!(empty.map(|(path, _)| path), Err(E::Empty));
    for text in ["<postmaster>", "<PostMaster>", "<POSTMASTER>"] {
        check_path(text, Utf8Rule::AsciiOnly, Ok("<postmaster>"));
    }
    let reverse = ReversePath::parse_prefix("<postmaster>", Utf8Rule::AsciiOnly);
    assert_eq!(reverse.map(|(path, _)| path), Err(E::NoDomain));
}

#[test]
fn lengths_are_accepted_up_to_their_limit_and_refused_above() {
    let n = |count: usize| "a".repeat(count);
    let labels = |last: usize| format!("{0}.{0}.{0}.{1}", n(63), n(last));
    let quoted = |count: usize| format!("<\"{} {}\"@ours>", n(count), n(1));
    for (text, want) in [
        (format!("<{}@ours>", n(64)), None),
        (format!("<{}@ours>", n(65)), Some(E::LocalPartTooLong)),
        (format!("<{}@ours>", n(300)), Some(E::LocalPartTooLong)),
        // The quotes count: 60 + blank + 1 + 2 = 64.
        (quoted(60), None),
        (quoted(61), Some(E::LocalPartTooLong)),
        (format!("<u@{}>", n(63)), None),
        (format!("<u@{}>", n(64)), Some(E::LabelTooLong)),
        // A path of 256 octets with its brackets (RFC 5321 §4.5.3.1.3).
        (format!("<u@{}.{}>", labels(58), n(1)), None),
        (format!("<uu@{}.{}>", labels(58), n(1)), Some(E::TooLong)),
        (format!("<u@{}>", labels(62)), Some(E::DomainTooLong)),
        (format!("<u@{}>", n(600)), Some(E::DomainTooLong)),
        (format!("<{}@ours>", n(2000)), Some(E::TooLong)),
        (format!("<{}:u@ours>", vec!["@h"; MAX_ROUTE_HOPS].join(",")), None),
        (format!("<{}:u@ours>", vec!["@h"; MAX_ROUTE_HOPS + 1].join(",")), Some(E::TooMany)),
    ] {
        let got = ForwardPath::parse_prefix(&text, Utf8Rule::AsciiOnly).map(|_| ());
        assert_eq!(got, want.map_or(Ok(()), Err), "{text}");
    }
}

#[test]
fn a_domain_has_one_normal_form() {
    for (text, want) in [
        ("OURS", Ok("ours")),
        ("localhost", Ok("localhost")),
        ("Mail_1._x.Example.ORG", Ok("mail_1._x.example.org")),
        ("r3---sn.example", Ok("r3---sn.example")),
        ("1and1.example", Ok("1and1.example")),
        ("3com.com", Ok("3com.com")),
        ("Bücher.Example", Ok("xn--bcher-kva.example")),
        ("XN--BCHER-KVA.example", Ok("xn--bcher-kva.example")),
        ("bu\u{308}cher.example", Ok("xn--bcher-kva.example")),
        // Non-transitional: the sharp s is a letter of its own.
        ("straße.example", Ok("xn--strae-oqa.example")),
        // F12: mapped once, then compared.
        ("ours。example", Ok("ours.example")),
        ("ｏｕｒｓ.example", Ok("ours.example")),
        ("", Err(E::NoDomain)),
        ("ours.", Err(E::BadDomain)),
        ("ours。", Err(E::BadDomain)),
        (".ours", Err(E::BadDomain)),
        ("ours..tld", Err(E::BadDomain)),
        ("-ours.tld", Err(E::BadDomain)),
        ("ours-.tld", Err(E::BadDomain)),
        ("our s.tld", Err(E::BadDomain)),
        ("ours＠other.tld", Err(E::BadDomain)),
        ("ours／x.tld", Err(E::BadDomain)),
        ("127.0.0.1", Err(E::BadDomain)),
        ("１２７.0.0.1", Err(E::BadDomain)),
        ("2130706433", Err(E::BadDomain)),
        ("0x7f000001", Err(E::BadDomain)),
        ("a.0x", Err(E::BadDomain)),
        ("xn--a.example", Err(E::BadDomain)),
        ("xn--ours-.example", Err(E::BadDomain)),
        ("ours\u{202e}.example", Err(E::BadDomain)),
        ("ours\u{85}.example", Err(E::BadDomain)),
        ("[2001:db8::1]", Err(E::BadLiteral)),
        ("[IPv6:192.0.2.1]", Err(E::BadLiteral)),
        ("[192.0.2.01]", Err(E::BadLiteral)),
        ("[192.0.2.1]x", Err(E::BadLiteral)),
        ("[]", Err(E::BadLiteral)),
        ("[x-tag:whatever]", Err(E::BadLiteral)),
    ] {
        check_domain(text, want);
    }
}

#[test]
fn a_domain_is_below_its_parent_only_at_a_dot() {
    for (domain, parent, want) in [
        ("ours", "OURS", true),
        ("sub.ours", "ours", true),
        ("evilours", "ours", false),
        ("ours.evil.example", "ours", false),
        ("ours", "sub.ours", false),
        ("[192.0.2.1]", "[192.0.2.1]", true),
        ("[192.0.2.1]", "ours", false),
    ] {
        let (a, b) = (Domain::parse(domain).unwrap(), Domain::parse(parent).unwrap());
        assert_eq!(a.is_or_is_below(&b), want, "{domain} below {parent}");
    }
    assert_eq!(Domain::parse("xn--bcher-kva.example").unwrap().to_unicode(), "bücher.example");
}

#[test]
fn with_smtputf8_a_local_part_keeps_its_unicode_form() {
    check_path("<δ@Bücher.example>", Utf8Rule::Allowed, Ok("<δ@xn--bcher-kva.example>"));
    let (nfc, nfd) = ("\u{fc}@ours", "u\u{308}@ours");
    assert_ne!(Mailbox::parse(nfc).unwrap(), Mailbox::parse(nfd).unwrap());
    assert_eq!(Mailbox::parse(nfd).unwrap().local(), "u\u{308}");
    assert!(Mailbox::parse(nfd).unwrap().needs_smtputf8());
    assert!(!Mailbox::parse("u@Bücher.example").unwrap().needs_smtputf8());
    // A full-width `@` is a letter of the local part, never the separator.
    assert_eq!(Mailbox::parse("a＠ours"), Err(E::NoDomain));
    assert_eq!(Mailbox::parse("u\u{85}@ours"), Err(E::BadLocalPart));
}

#[test]
fn mailboxes_are_equal_by_exact_local_part_and_normal_domain() {
    let parse = |text| Mailbox::parse(text).unwrap();
    assert_eq!(parse("u@Bücher.example"), parse("u@XN--bcher-kva.EXAMPLE"));
    assert_eq!(parse(r#""u"@ours"#), parse("u@ours"));
    assert_ne!(parse("U@ours"), parse("u@ours"));
}

#[test]
fn a_header_list_gives_every_mailbox_with_its_name() {
    check_list("a@b", &[(None, "a@b")]);
    check_list("", &[]);
    check_list(" , ,\r\n ,", &[]);
    check_list("a@b, ,c@d,", &[(None, "a@b"), (None, "c@d")]);
    check_list("Ann B. C <a@b>", &[(Some("Ann B. C"), "a@b")]);
    check_list("\"B, Ann \\\"x\\\"\"\r\n\t<a@b>", &[(Some("B, Ann \"x\""), "a@b")]);
    check_list("u@[\u{1d}1] x <a@b>", &[(Some("u@[\u{fffd}1] x"), "a@b")]);
    check_list("a@b <a@b>, <c@d>", &[(Some("a@b"), "a@b"), (None, "c@d")]);
    check_list("=?utf-8?q?J=C3=B6?= <a@b>", &[(Some("=?utf-8?q?J=C3=B6?="), "a@b")]);
    check_list("Jö (the (real) \\) one) <a@b> (x)", &[(Some("Jö"), "a@b")]);
    check_list("Friends: a@b, X <c@d>;, e@f", &[(None, "a@b"), (Some("X"), "c@d"), (None, "e@f")]);
    check_list("undisclosed-recipients:;", &[]);
    check_list("a@b; c@d", &[(None, "a@b"), (None, "c@d")]);
    check_list("<@x,,@y.z:a@b>", &[(None, "a@b")]);
    check_list("pete(x)@(y)silly . test", &[(None, "pete@silly.test")]);
    check_list("\"a b\" . c@d", &[(None, "\"a b.c\"@d")]);
    check_list("a@[ 192.0.2.1 ], b@[IPv6:::1]", &[(None, "a@[192.0.2.1]"), (None, "b@[IPv6:::1]")]);
    check_list("List [x] <a@b>", &[(Some("List [x]"), "a@b")]);
    check_list("a\0b <a@b>", &[(Some("a\u{fffd}b"), "a@b")]);
}

#[test]
fn a_header_list_with_a_bad_member_is_an_error_with_its_reason() {
    let deep = |depth| format!("{}x{} a@b", "(".repeat(depth), ")".repeat(depth));
    assert!(parse_header_list(deep(MAX_COMMENT_DEPTH).as_bytes()).is_ok());
    let many = |count| vec!["a@b"; count].join(",");
    assert_eq!(parse_header_list(many(MAX_LIST_MAILBOXES).as_bytes()).unwrap().len(), 5_000);
    for (value, want) in [
        (deep(MAX_COMMENT_DEPTH + 1), E::TooDeep),
        (many(MAX_LIST_MAILBOXES + 1), E::TooMany),
        (" ".repeat(MAX_LIST_OCTETS + 1), E::TooLong),
        ("Ann".into(), E::NoDomain),
        ("<>".into(), E::Empty),
        ("a@b <".into(), E::UnclosedPath),
        ("<a@b> c".into(), E::TrailingText),
        ("\"a".into(), E::UnclosedQuote),
        ("(a".into(), E::UnclosedComment),
        ("a@b@c".into(), E::BadDomain),
        ("a b@c".into(), E::BadLocalPart),
        ("a..b@c".into(), E::BadLocalPart),
        ("a)@c".into(), E::BadLocalPart),
        ("a\0@c".into(), E::BadUtf8Text),
        ("a@b.".into(), E::BadDomain),
        ("a@b c".into(), E::BadDomain),
        ("a@[1.2.3.4".into(), E::BadLiteral),
        (format!("<{}:a@b>", vec!["@h"; MAX_ROUTE_HOPS + 1].join(",")), E::TooMany),
    ] {
        let shown = value.get(..40).unwrap_or(&value).to_owned();
        assert_eq!(parse_header_list(value.as_bytes()), Err(want), "{shown:?}");
    }
    assert_eq!(parse_header_list(b"a\xff@c"), Err(E::BadUtf8Text));
    let named = parse_header_list(b"J\xf6 <a@b>").unwrap();
    assert_eq!(named[0].name.as_deref(), Some("J\u{fffd}"));
}

proptest! {
    #[test]
    fn a_mailbox_reads_back_as_it_is_written(
        local in "[ -~äδ日]{1,30}", domain in "([a-zA-Z0-9_äß]{1,12}\\.){0,3}[a-zäß]{1,9}",
    ) {
        let Ok(domain) = Domain::parse(&domain) else { return Ok(()) };
        let mailbox = Mailbox::new(&local, domain).unwrap();
        let written = mailbox.to_string();
        prop_assert_eq!(Mailbox::parse(&written), Ok(mailbox.clone()));
        let path = ReversePath(Some(mailbox.clone()));
        let read = path.to_string();
        let (back, rest) = ReversePath::parse_prefix(&read, Utf8Rule::Allowed).unwrap();
        prop_assert_eq!((back, rest), (path, ""));
        let list = parse_header_list(format!("x <{written}>, {written}").as_bytes()).unwrap();
        prop_assert!(list.len() == 2 && list.iter().all(|one| one.mailbox == mailbox));
    }

    #[test]
    fn a_domain_reads_back_as_it_is_written(text in "\\PC{1,40}") {
        if let Ok(domain) = Domain::parse(&text) {
            let written = domain.to_string();
            prop_assert!(written.is_ascii() && !written.contains('@'));
            prop_assert_eq!(Domain::parse(&written), Ok(domain.clone()));
            // What a view shows is the same domain.
            prop_assert_eq!(Domain::parse(&domain.to_unicode()), Ok(domain));
        }
    }

    #[test]
    fn a_literal_reads_back_as_it_is_written(ip in any::<std::net::IpAddr>()) {
        let domain = Domain::Literal(ip);
        prop_assert_eq!(domain.to_string().parse(), Ok(domain));
    }

    #[test]
    fn no_text_makes_the_parsers_panic(
        text in "(?s).{0,60}|[<>@,:;.\"\\\\()\\[\\] a-c\r\n]{0,60}",
    ) {
        for utf8 in [Utf8Rule::AsciiOnly, Utf8Rule::Allowed] {
            let _ = ReversePath::parse_prefix(&text, utf8);
            let _ = ForwardPath::parse_prefix(&text, utf8);
        }
        if let Ok(mailbox) = Mailbox::parse(&text) {
            prop_assert!(!mailbox.to_string().contains(char::is_control));
            prop_assert_eq!(Mailbox::parse(&mailbox.to_string()), Ok(mailbox));
        }
        let _ = parse_header_list(text.as_bytes());
    }

    #[test]
    fn no_octets_make_the_list_parser_panic(
        octets in proptest::collection::vec(any::<u8>(), 0..80),
    ) {
        let _ = parse_header_list(&octets);
    }
}
