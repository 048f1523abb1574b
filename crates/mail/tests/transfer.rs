//! What 8-bit messages become for a peer without 8BITMIME, judged by a reader of MIME that is not
//! ours (`mail-parser`).
//!
//! The corpora are at `../shared/corpora`, or in a directory that `MERPATI_CORPORA` names. Where
//! they are absent the test says that it was skipped, unless `MERPATI_REQUIRE_SHARED` is set.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    missing_docs
)]

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    path::{Path, PathBuf},
    process::Command,
};

use mail_parser::{Message, MessageParser, MimeHeaders, PartType};
use merpati_mail::{
    NotConvertible::{self as N, *},
    header::{self, MAX_LINE_OCTETS},
    seven_bit,
    transfer::{DEPTH_MAX, LongestLine, short_lines},
};
use proptest::prelude::*;

/// Lines of a message, each ended by CRLF; `é` stands for the one octet that it has in Latin-1.
fn latin(lines: &str) -> Vec<u8> {
    let lines: Vec<&str> = lines.lines().map(str::trim_start).collect();
    let text = lines.join("\r\n") + "\r\n";
    latin_octets(&text.replace("[SP]", " "))
}

fn latin_octets(text: &str) -> Vec<u8> {
    text.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect()
}

#[track_caller]
fn check(message: &str, want: &str) {
    let (message, want) = (latin(message), latin(want));
    let got = seven_bit(&message).unwrap();
    assert_eq!(got.escape_ascii().to_string(), want.escape_ascii().to_string());
    check_equal(&message, &got);
}

#[track_caller]
fn check_refused(message: &str, want: N) {
    assert_eq!(seven_bit(&latin(message)), Err(want), "{message}");
}

/// What must hold of every result.
#[track_caller]
fn check_equal(message: &[u8], got: &[u8]) {
    assert!(got.is_ascii());
    assert_eq!(seven_bit(got).as_deref(), Ok(got));
    let (before, after) = (outline(message), outline(got));
    assert_eq!(before, after, "{}", message.escape_ascii());
}

/// The parts with their types and their decoded contents, as the other reader sees them.
fn outline(message: &[u8]) -> String {
    let mut text = String::new();
    if let Some(message) = MessageParser::default().parse(message) {
        outline_of(&message, &mut text);
    }
    text
}

fn outline_of(message: &Message<'_>, text: &mut String) {
    for part in &message.parts {
        let label = part.content_type().map_or_else(
            || "text/plain".to_owned(),
            |t| format!("{}/{}", t.ctype(), t.subtype().unwrap_or_default()).to_lowercase(),
        );
        write!(text, "{label} ").unwrap();
        match &part.body {
            PartType::Text(body) | PartType::Html(body) => writeln!(text, "{body:?}").unwrap(),
            PartType::Binary(body) | PartType::InlineBinary(body) => {
                writeln!(text, "{}", body.escape_ascii()).unwrap();
            }
            PartType::Message(inner) => {
                text.push_str("{\n");
                outline_of(inner, text);
                text.push_str("}\n");
            }
            PartType::Multipart(parts) => writeln!(text, "{parts:?}").unwrap(),
        }
    }
}

fn longest_line(text: &[u8]) -> u64 {
    let mut longest = LongestLine::default();
    longest.push(text);
    longest.octets()
}

/// What must hold of every result with short lines.
#[track_caller]
fn check_short(message: &[u8], got: &[u8]) {
    let body = |text: &[u8]| text[header::body_start(text)..].to_vec();
    assert!(longest_line(&body(got)) <= MAX_LINE_OCTETS as u64, "{}", got.escape_ascii());
    assert_eq!(outline(message), outline(got), "{}", message.escape_ascii());
    assert_eq!(short_lines(got).as_deref(), Ok(got));
}

#[track_caller]
fn shortened(message: &str) -> String {
    let message = message.replace("[long]", &"x".repeat(1_100)).replace('\n', "\r\n");
    let got = short_lines(message.as_bytes()).unwrap();
    check_short(message.as_bytes(), &got);
    String::from_utf8(got).unwrap().replace("\r\n", "\n").replace(&"x".repeat(75), "[75]")
}

#[test]
fn only_parts_with_long_lines_are_encoded_and_those_that_are_get_other_breaks() {
    let soft = "[75]=\n".repeat(14);
    let whole = soft.clone() + &"x".repeat(50) + "\n";
    let label = "Content-Transfer-Encoding: quoted-printable\n";
    for (message, want) in [
        ("A: b\n\nshort\n".to_owned(), "A: b\n\nshort\n".to_owned()),
        ("A: b\n\n[long]\n".to_owned(), format!("A: b\nMIME-Version: 1.0\n{label}\n{whole}")),
        ("\n[long]\n".to_owned(), format!("MIME-Version: 1.0\n{label}\n{whole}")),
        (
            "Content-Type: multipart/mixed; boundary=b\nContent-Transfer-Encoding: 8bit\n\nPre\n\
             --b\n\n[long]\n--b\nX: y\n\né\n--b\n\na=\n--b--\nPost\n"
                .to_owned(),
            format!(
                "Content-Type: multipart/mixed; boundary=b\nContent-Transfer-Encoding: 8bit\n\n\
                 Pre\n--b\n\
                 {label}\n{}\n--b\nX: y\n\né\n--b\n\na=\n--b--\nPost\n",
                whole.trim_end()
            ),
        ),
        (
            format!("MIME-Version: 1.0\n{label}\na=\n b\n[long]=3D\n"),
            format!("MIME-Version: 1.0\n{label}\na=\n b\n{soft}{}=3D\n", "x".repeat(50)),
        ),
    ] {
        assert_eq!(shortened(&message), want, "{message}");
    }
    // The uppermost header is folded elsewhere.
    let head = format!("A: {}\r\n\r\nb\r\n", "x".repeat(2_000));
    assert_eq!(short_lines(head.as_bytes()).as_deref(), Ok(head.as_bytes()));
    let base = "MIME-Version: 1.0\nContent-Transfer-Encoding: base64\n\n";
    let got = shortened(&format!("{base}{}==\n", "QUJD".repeat(300) + "QQ"));
    assert!(got.strip_prefix(base).unwrap().lines().all(|line| line.len() <= 76), "{got}");
    assert!(got.ends_with("QQ==\n"), "{got}");
}

#[test]
fn escaped_octets_and_dashes_are_never_broken() {
    let head = "MIME-Version: 1.0\nContent-Transfer-Encoding: quoted-printable\n\n";
    for lead in 0..80 {
        let body = "y".repeat(lead) + &"=C3=A9-".repeat(200) + "\n";
        let got = shortened(&format!("{head}{body}"));
        let lines: Vec<&str> = got.strip_prefix(head).unwrap().lines().collect();
        assert!(lines.iter().all(|line| line.len() <= 76 && !line.starts_with('-')), "{got}");
        for line in lines.iter().filter_map(|line| line.strip_suffix('=')) {
            assert!(!line[line.len() - 2..].contains('='), "{got}");
        }
    }
}

#[test]
fn what_cannot_be_shortened_surely_is_refused_with_the_reason() {
    let long = "x".repeat(1_100);
    for (message, want) in [
        (format!("Content-Type: multipart/signed; boundary=b\n\n--b\n\n{long}\n--b--\n"), Signed),
        (format!("Content-Type: application/pkcs7-mime\n\n{long}\n"), Signed),
        (format!("Content-Transfer-Encoding: base64\n\n{long}=\n{long}\n"), Encoding),
        (format!("Content-Transfer-Encoding: quoted-printable\n\n{long} \n"), Encoding),
        (format!("Content-Transfer-Encoding: x-uuencode\n\n{long}\n"), Encoding),
        (format!("Content-Type: multipart/mixed; boundary=b\n\n{long}\n--b\n\n\n--b--\n"), Outside),
        (format!("Content-Type: multipart/mixed; boundary=b\n\n--b\n\n{long}\n"), NoEnd),
        (
            format!("Content-Type: multipart/mixed; boundary=b\n\n--b\nA: {long}\n\n\n--b--\n"),
            Header,
        ),
        (format!("Content-Type: multipart/mixed\n\n{long}\n"), Boundary),
        (format!("A: b\n{long}\n"), NoEmptyLine),
    ] {
        let got = short_lines(message.replace('\n', "\r\n").as_bytes());
        assert_eq!(got, Err(want), "{message}");
    }
    assert_eq!(short_lines(b"\r\na\rb\r\n"), Err(LineEnd));
}

#[test]
fn the_longest_line_is_the_same_however_the_octets_arrive() {
    for (text, want) in [
        ("", 0),
        ("\r\n", 0),
        ("ab\r\nc", 2),
        ("ab\r\ncde", 3),
        ("ab\r\ncde\r", 3),
        ("a\nbc\r\n", 2),
        ("a\r\r\n", 2),
    ] {
        for step in 1..=text.len().max(1) {
            let mut longest = LongestLine::default();
            text.as_bytes().chunks(step).for_each(|piece| longest.push(piece));
            assert_eq!(longest.octets(), want, "{text:?} by {step}");
        }
    }
}

#[test]
fn a_message_without_8_bit_octets_stays_as_it_is() {
    for message in ["", "x", "A: b\r\n\r\nc", "Content-Transfer-Encoding: 8bit\n\n\0\r"] {
        assert_eq!(seven_bit(message.as_bytes()).unwrap(), message.as_bytes());
    }
}

#[test]
fn a_message_that_is_not_mime_becomes_text_in_an_unknown_character_set() {
    check(
        "Subject: x\n\nA café where it rains all day.",
        "Subject: x\nMIME-Version: 1.0\nContent-Type: text/plain; charset=unknown-8bit
        Content-Transfer-Encoding: quoted-printable\n\nA caf=E9 where it rains all day.",
    );
    check(
        "\néé",
        "MIME-Version: 1.0\nContent-Type: text/plain; charset=unknown-8bit
        Content-Transfer-Encoding: base64\n\n6ekNCg==",
    );
    // What is there stays.
    check(
        "Content-Type: text/html; charset=iso-8859-1\n\néé",
        "Content-Type: text/html; charset=iso-8859-1\nMIME-Version: 1.0
        Content-Transfer-Encoding: base64\n\n6ekNCg==",
    );
    check(
        "mime-version: 1.0\n\néé",
        "mime-version: 1.0\nContent-Transfer-Encoding: base64\n\n6ekNCg==",
    );
}

#[test]
fn the_label_is_replaced_where_it_stands_and_nothing_else_changes() {
    check(
        "MIME-Version: 1.0\nCONTENT-transfer-encoding:\n[SP]8bit (raw)\nX-Odd :  y  \n\n[SP]=é and \
         on and on and on[SP][SP]",
        "MIME-Version: 1.0\nContent-Transfer-Encoding: quoted-printable
        X-Odd :  y  \n\n[SP]=3D=E9 and \
         on and on and on[SP]=20",
    );
}

#[test]
fn in_a_multipart_only_the_parts_that_need_it_change_and_the_containers_say_7bit() {
    check(
        "MIME-Version: 1.0
        Content-Type: multipart/mixed; boundary=\"b\"
        Content-Transfer-Encoding: 8bit

        preamble
        --b
        Content-Transfer-Encoding: 8bit

        plain
        --b[SP][SP]
        Content-Type: multipart/alternative; boundary=c (inner)

        --c
        X: y

        A café where it rains all day.
        --c
        Content-Type: image/x
        Content-Transfer-Encoding: binary

        ééé
        --c--
        --b
        Content-Type: message/rfc822
        Content-Transfer-Encoding: 8BIT

        Subject: inner

        é
        --b

        é and nothing but a blank header, which is allowed
        --b--
        epilogue",
        "MIME-Version: 1.0
        Content-Type: multipart/mixed; boundary=\"b\"
        Content-Transfer-Encoding: 7bit

        preamble
        --b
        Content-Transfer-Encoding: 8bit

        plain
        --b[SP][SP]
        Content-Type: multipart/alternative; boundary=c (inner)

        --c
        X: y
        Content-Transfer-Encoding: quoted-printable

        A caf=E9 where it rains all day.
        --c
        Content-Type: image/x
        Content-Transfer-Encoding: base64

        6enp
        --c--
        --b
        Content-Type: message/rfc822
        Content-Transfer-Encoding: 7bit

        Subject: inner
        MIME-Version: 1.0
        Content-Type: text/plain; charset=unknown-8bit
        Content-Transfer-Encoding: base64

        6Q==
        --b
        Content-Transfer-Encoding: quoted-printable

        =E9 and nothing but a blank header, which is allowed
        --b--
        epilogue",
    );
}

#[test]
fn parts_of_a_digest_are_messages() {
    check(
        "Content-Type: multipart/digest; boundary=b\n\n--b\n\nSubject: x\n\né\n--b--",
        "Content-Type: multipart/digest; boundary=b\n\n--b\n\nSubject: x\nMIME-Version: 1.0
        Content-Type: text/plain; charset=unknown-8bit\nContent-Transfer-Encoding: base64\n\n6Q==
        --b--",
    );
}

#[test]
fn a_multipart_without_an_end_may_have_8_bit_octets_in_all_parts_but_the_last() {
    let start = "Content-Type: multipart/x; boundary=b\n\n--b\n";
    check_refused(&format!("{start}\né"), NoEnd);
    check(
        &format!("{start}\né\n--b\n\nx"),
        &format!("{start}Content-Transfer-Encoding: base64\n\n6Q==\n--b\n\nx"),
    );
}

#[test]
fn what_is_signed_or_encrypted_is_not_touched() {
    let parts = "; boundary=b\n\n--b\n\né\n--b--";
    for kind in ["multipart/signed", "Multipart/Encrypted", "application/pkcs7-mime"] {
        check_refused(&format!("Content-Type: {kind}{parts}"), Signed);
        let inside = format!("--o\nContent-Type: {kind}{parts}\n--o--");
        check_refused(&format!("Content-Type: multipart/mixed; boundary=o\n\n{inside}"), Signed);
    }
    check_refused(
        "Content-Type: multipart/signed; boundary=b\n\n--b\nContent-Type: message/rfc822\n
        A: b\n\né\n--b--",
        Signed,
    );
    // A signed part of 7 bits beside one of 8.
    check(
        "Content-Type: multipart/mixed; boundary=o\n
        --o\nContent-Type: multipart/signed; boundary=b\n\n--b\n\ne\n--b--
        --o\n\né\n--o--",
        "Content-Type: multipart/mixed; boundary=o\n
        --o\nContent-Type: multipart/signed; boundary=b\n\n--b\n\ne\n--b--
        --o\nContent-Transfer-Encoding: base64\n\n6Q==\n--o--",
    );
}

#[test]
fn what_cannot_be_done_for_certain_has_a_name() {
    for (message, want) in [
        ("Subject: é\n\nx", Header),
        ("Content-Type: message/rfc822\n\nSubject: é\n\nx", Header),
        ("Content-Type: multipart/x; boundary=b\n\n--b\nX: é\n\nx\n--b--", Header),
        ("A: b\né", NoEmptyLine),
        ("é", NoEmptyLine),
        ("From x\nA: b\n\né", NoEmptyLine),
        ("Content-Type: message/rfc822\n\né", NoEmptyLine),
        ("Content-Type: multipart/x; boundary=b\n\n--b\né\n--b--", NoEmptyLine),
        ("Content-Type: text\n\né", ContentType),
        ("Content-Type: text/plain\nContent-type: text/html\n\né", ContentType),
        ("Content-Transfer-Encoding: base64\n\né", Encoding),
        ("Content-Transfer-Encoding: quoted-printable\n\né", Encoding),
        ("Content-Transfer-Encoding: x-uue\n\né", Encoding),
        ("Content-Transfer-Encoding: 8bit\nContent-Transfer-Encoding: 7bit\n\né", Encoding),
        ("Content-Type: multipart/x\nContent-Transfer-Encoding: base64\n\né", Encoding),
        ("Content-Type: message/rfc822\nContent-Transfer-Encoding: base64\n\nA: b\n\né", Encoding),
        ("Content-Type: message/partial; id=x\n\nA: b\n\né", Composite),
        ("Content-Type: message/delivery-status\n\nReporting-MTA: é", Composite),
        ("Content-Type: multipart/x\n\né", Boundary),
        ("Content-Type: multipart/x; boundary=b\n\n--bc\n\né\n--b--", Boundary),
        ("Content-Type: multipart/x; boundary=b\n\n--b\n\né\n--b--é", Boundary),
        // Some readers go on to look for c behind the part that was to hold it.
        (
            "Content-Type: multipart/x; boundary=b\n\n--b\nContent-Type: multipart/x; boundary=c\n\
             \n--b\n\n--c\n\né\n--b--",
            Boundary,
        ),
        (
            "Content-Type: multipart/x; boundary=b\n\n--b\nContent-Type: message/rfc822\n\n\
             Content-Type: multipart/signed; boundary=c\n\n--c\n\nx\n--b\n\né\n--c--\n--b--",
            Boundary,
        ),
        ("Content-Type: multipart/x; boundary=b\n\né\n--b\n\nx\n--b--", Outside),
        ("Content-Type: multipart/x; boundary=b\n\n--b\n\nx\n--b--\né", Outside),
        ("Content-Type: multipart/x; boundary=b\n\né", Outside),
    ] {
        check_refused(message, want);
        assert!(want.to_string().len() > 10);
    }
    for message in ["A: b\n\n\u{e9}", "A: b\r\n\r\n\u{e9}\r", "\r\r\n\u{e9}", "\n\u{e9}\r\n"] {
        assert_eq!(seven_bit(message.as_bytes()), Err(LineEnd), "{message:?}");
    }
    let nested = |levels: u32| {
        let mut message = "\né".to_owned();
        for _ in 0..levels {
            message = format!("Content-Type: message/rfc822\n\n{message}");
        }
        seven_bit(&latin(&message)).err()
    };
    assert_eq!((nested(DEPTH_MAX), nested(DEPTH_MAX + 1)), (None, Some(Depth)));
}

/// A tree of parts, each with the role that its place gives it.
fn entity() -> impl Strategy<Value = String> {
    let line = prop_oneof![
        4 => "[ -~]{0,100}".prop_filter("no delimiter", |line| !line.starts_with("--")),
        2 => "[a-zé=. \t-]{0,100}".prop_filter("no delimiter", |line| !line.starts_with("--")),
        1 => "[é\u{80}-\u{ff}\0\t]{0,30}",
    ];
    let leaf = (proptest::collection::vec(line, 0..4), 0..4_usize).prop_map(|(lines, label)| {
        let label = [
            "",
            "Content-Transfer-Encoding: 8bit\n",
            "Content-Type: image/png\n",
            "Content-Type: text/html; charset=iso-8859-1\n",
        ][label];
        format!("{label}\n{}", lines.join("\n"))
    });
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            3 => proptest::collection::vec(inner.clone(), 1..4).prop_map(|parts| {
                // What is inside is shorter, so that no two boundaries begin alike.
                let boundary = format!("={}_x", parts.concat().len());
                let mut text = format!("Content-Type: multipart/mixed; boundary={boundary}\n\n");
                for part in parts {
                    write!(text, "--{boundary}\n{part}\n").unwrap();
                }
                text + "--" + &boundary + "--\n"
            }),
            // The other reader panics at a message that is nothing but a message.
            1 => inner.prop_filter("no message", |text| !text.contains("message/")).prop_map(
                |inner| format!("Content-Type: message/rfc822\n\nA: b\n{inner}")
            ),
        ]
    })
}

/// Pieces that lead deeper than random octets would.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        3 => Just("Content-Type: multipart/mixed; boundary=b\r\n"),
        1 => Just("Content-Type: multipart/mixed; boundary=bb\r\n"),
        1 => Just("Content-Type: multipart/digest; boundary=c\r\n"),
        1 => Just("Content-Type: message/rfc822\r\n"),
        1 => Just("Content-Transfer-Encoding: 8bit\r\n"),
        3 => Just("\r\n--b\r\n"),
        1 => Just("\r\n--bb\r\n"),
        1 => Just("\r\n--c\r\n"),
        2 => Just("--b--\r\n"),
        4 => Just("\r\n"),
        2 => Just("--"),
        2 => Just("b"),
        2 => Just("x: y\r\n"),
        4 => Just("é"),
    ]
    .prop_map(latin_octets)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, ..ProptestConfig::default() })]

    #[test]
    fn every_well_formed_message_is_converted_and_says_the_same(entity in entity()) {
        let message = latin(&format!("MIME-Version: 1.0\n{entity}"));
        let got = seven_bit(&message).unwrap();
        prop_assert!(got.split(|o| *o == b'\n').all(|line| line.len() <= 102));
        check_equal(&message, &got);
    }

    #[test]
    fn whatever_is_converted_of_damaged_mime_says_the_same_and_is_stable(
        pieces in proptest::collection::vec(piece(), 0..30),
    ) {
        let message = pieces.concat();
        if let Ok(got) = seven_bit(&message) {
            prop_assert!(got.is_ascii());
            // The other reader panics at some damaged messages, which says nothing of ours.
            let read = |octets: Vec<u8>| std::panic::catch_unwind(move || outline(&octets)).ok();
            if let (Some(before), Some(after)) = (read(message.clone()), read(got.clone())) {
                prop_assert_eq!(before, after, "{}", message.escape_ascii());
            }
            prop_assert_eq!(seven_bit(&got), Ok(got));
        }
    }

    #[test]
    fn whatever_gets_short_lines_says_the_same(
        pieces in proptest::collection::vec(piece(), 0..30),
        label in prop_oneof![
            Just(""),
            Just("Content-Transfer-Encoding: base64\r\n"),
            Just("Content-Transfer-Encoding: quoted-printable\r\n"),
        ],
    ) {
        let mut message = label.as_bytes().to_vec();
        for piece in &pieces {
            message.extend_from_slice(if piece == &[0xe9] { LONG.as_bytes() } else { piece });
        }
        if let Ok(got) = short_lines(&message) {
            let read = |octets: Vec<u8>| std::panic::catch_unwind(move || outline(&octets)).ok();
            if let (Some(before), Some(after)) = (read(message.clone()), read(got.clone())) {
                prop_assert_eq!(before, after, "{}", message.escape_ascii());
            }
            let body = &got[header::body_start(&got)..];
            prop_assert!(longest_line(body) <= MAX_LINE_OCTETS as u64);
        }
    }

    #[test]
    fn no_octets_make_it_panic(octets in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = seven_bit(&octets);
        let _ = short_lines(&octets.repeat(20));
    }
}

#[test]
fn every_8_bit_mail_of_the_corpora_is_converted_or_refused_by_a_named_rule() {
    let dir = tempfile::tempdir().unwrap();
    let Some(corpora) = corpora(dir.path()) else {
        let required = std::env::var_os("MERPATI_REQUIRE_SHARED").is_some();
        assert!(!required, "there are no corpora in ../shared and MERPATI_CORPORA is not set");
        println!("skipped: no ../shared");
        return;
    };
    let mut files = Vec::new();
    collect(&corpora, &mut files);
    assert!(!files.is_empty(), "no mail in {}", corpora.display());
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let mut shortened: BTreeMap<String, usize> = BTreeMap::new();
    for file in &files {
        let mail = canonical(&std::fs::read(file).unwrap());
        let result = match seven_bit(&mail) {
            Ok(same) if mail.is_ascii() => {
                assert_eq!(same, mail);
                "7 bits before".to_owned()
            }
            Ok(got) => {
                let is_equal = outline(&mail) == outline(&got);
                if !is_equal {
                    println!("{}", file.display());
                }
                format!("converted, equal: {is_equal}")
            }
            Err(why) => why.to_string(),
        };
        *counts.entry(result).or_default() += 1;
        if longest_line(&mail) > MAX_LINE_OCTETS as u64 {
            let result = match short_lines(&mail) {
                Ok(got) => format!("equal: {}", outline(&mail) == outline(&got)),
                Err(why) => why.to_string(),
            };
            if result == "equal: false" {
                println!("{}", file.display());
            }
            *shortened.entry(result).or_default() += 1;
        }
    }
    for (result, count) in &shortened {
        println!("long lines: {result:<58}{count:>8}");
    }
    assert_eq!(shortened.get("equal: false"), None);
    assert!(shortened.contains_key("equal: true"));
    for (result, count) in &counts {
        println!("{result:<70}{count:>8}");
    }
    assert_eq!(counts.values().sum::<usize>(), files.len());
    assert_eq!(counts.get("converted, equal: false"), None);
    assert!(counts.contains_key("converted, equal: true"));
}

/// 1,008 characters, that are base64 too.
const LONG: &str = {
    const OCTETS: [u8; 1_008] = [b'x'; 1_008];
    match std::str::from_utf8(&OCTETS) {
        Ok(text) => text,
        Err(_) => "",
    }
};

/// The lines of the files end in LF; on the wire they end in CRLF, and so does the last one.
fn canonical(file: &[u8]) -> Vec<u8> {
    let mut mail = Vec::with_capacity(file.len() + file.len() / 32);
    for line in file.split_inclusive(|octet| *octet == b'\n') {
        mail.extend_from_slice(line.strip_suffix(b"\n").unwrap_or(line));
        mail.extend_from_slice(b"\r\n");
    }
    mail
}

fn corpora(dir: &Path) -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("MERPATI_CORPORA") {
        return Some(named.into());
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/corpora");
    let packed = root.join("dev.tar.xz");
    if !packed.exists() {
        return None;
    }
    let unpacked = dir.join("corpora");
    std::fs::create_dir(&unpacked).unwrap();
    let tar = Command::new("tar").arg("-xJf").arg(&packed).arg("-C").arg(&unpacked).status();
    assert!(tar.unwrap().success());
    Some(unpacked)
}

fn collect(dir: &Path, files: &mut Vec<PathBuf>) {
    let entries = dir.read_dir().unwrap().map(|entry| entry.unwrap().path());
    for path in entries {
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|end| end == "eml") {
            files.push(path);
        }
    }
    files.sort();
}
