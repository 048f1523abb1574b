//! Where header fields are, and what an overlay makes of a message.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::ops::Range;

use merpati_mail::header::{
    HeaderError as E, MAX_LINE_OCTETS, Overlay, body_start, count, decode_words, fields,
    fields_from, first, folded, is_header_start, lax_fields, mbox_line_octets,
};
use proptest::prelude::*;

/// Shows the fields as `name=unfolded` and what is left behind the header.
#[track_caller]
fn check_fields(message: &str, want: &[&str], body: &str) {
    let octets = message.as_bytes();
    let shown: Vec<String> = fields(octets)
        .map(|field| format!("{}={}", String::from_utf8_lossy(field.name), field.unfolded()))
        .collect();
    assert_eq!(shown, want, "{message:?}");
    assert_eq!(&message[body_start(octets)..], body, "{message:?}");
}

#[track_caller]
fn applied(overlay: &Overlay, message: &[u8]) -> Vec<u8> {
    let sent = overlay.slices(message).collect::<Vec<_>>().concat();
    assert_eq!(overlay.len(message.len() as u64, message), sent.len() as u64);
    sent
}

#[test]
fn the_header_ends_at_the_empty_line_or_at_the_first_line_that_is_no_field() {
    check_fields("", &[], "");
    check_fields("\r\n", &[], "");
    check_fields("\r\nA: b\r\n", &[], "A: b\r\n");
    check_fields("A: b\r\n", &["A=b"], "");
    check_fields("A: b", &["A=b"], "");
    check_fields("A: b\r\n\r\nbody\r\n", &["A=b"], "body\r\n");
    check_fields("A: b\nC:d\n\nbody", &["A=b", "C=d"], "body");
    check_fields("A: b\r\nno field\r\nC: d\r\n", &["A=b"], "no field\r\nC: d\r\n");
    check_fields("A: b\r\n: c\r\n", &["A=b"], ": c\r\n");
    check_fields(" A: b\r\n\r\n", &[], " A: b\r\n\r\n");
    check_fields("From x Mon 10:00:00\r\nA: b\r\n", &[], "From x Mon 10:00:00\r\nA: b\r\n");
    check_fields("A\0: b\r\n", &[], "A\0: b\r\n");
    check_fields("A: b\r\nÄ: c\r\n\r\n", &["A=b"], "Ä: c\r\n\r\n");
}

#[test]
fn folds_and_blanks_before_the_colon_belong_to_the_field() {
    check_fields("From : x\r\n\r\n", &["From=x"], "");
    check_fields("A: b\r\n c\r\n\t d\r\nE:\r\n", &["A=b c\t d", "E="], "");
    check_fields("A: b\r\n \r\n c\r\n\r\nx", &["A=b  c"], "x");
    check_fields("A:b:c\r\n", &["A=b:c"], "");
}

#[test]
fn fields_are_found_by_name_in_any_case() {
    let message = b"To: 1\r\nSubject: 2\r\nTO: 3\r\nSubjects: 4\r\n\r\nTo: 5\r\n";
    assert_eq!(first(message, "to").unwrap().value, b" 1");
    assert_eq!(first(message, "SUBJECT").unwrap().range, 7..19);
    assert!(first(message, "Cc").is_none());
    assert_eq!(count(message, "tO"), 2);
    let latin = first(b"S: J\xf6\r\n", "s").unwrap().unfolded();
    assert_eq!(latin, "J\u{fffd}");
}

#[test]
fn encoded_words_are_decoded_in_three_charsets_and_left_alone_in_others() {
    for (value, want) in [
        ("plain = text?", "plain = text?"),
        ("=?utf-8?Q?J=C3=B6rg_=26_Co?= x", "Jörg & Co x"),
        ("=?UTF-8?B?SsO2cmc=?=", "Jörg"),
        ("=?utf-8?b?SsO2cmc?=", "Jörg"),
        ("=?ISO-8859-1*de?q?J=F6rg?=", "Jörg"),
        ("=?us-ascii?q?J=F6rg?=", "J\u{fffd}rg"),
        ("=?utf-8?q?a?= \r\n =?utf-8?q?b?= c", "ab c"),
        ("=?utf-8?q?a?= =?iso-8859-1?q?=F6?=", "aö"),
        // A character split between two words.
        ("=?utf-8?b?Ssc=?= =?utf-8?q?x?=", "J\u{fffd}x"),
        ("=?utf-8?q?J=C3?= =?utf-8?q?=B6?=", "Jö"),
        ("a =?utf-8?q?b?= c =?utf-8?q?d?=", "a b c d"),
        ("=?koi8-r?q?x?= y", "=?koi8-r?q?x?= y"),
        ("=?utf-8?x?x?=", "=?utf-8?x?x?="),
        ("=?utf-8?b?!!?=", "=?utf-8?b?!!?="),
        ("=?utf-8?q?a b?=", "=?utf-8?q?a b?="),
        ("=?utf-8?q?a", "=?utf-8?q?a"),
        ("=?=?=?utf-8?q?a?=", "=?=?a"),
        ("=?utf-8?q?=4?=", "=4"),
        ("=?utf-8?q?a=0D=0Ab=00?=", "a\u{fffd}\u{fffd}b\u{fffd}"),
    ] {
        assert_eq!(decode_words(value), want, "{value:?}");
    }
}

#[test]
fn an_overlay_adds_on_top_and_leaves_out_whole_fields() {
    let message = b"Bcc: x\r\nA: 1\r\nbcc: y\r\n z\r\n\r\nBcc: body\r\n";
    let mut overlay = Overlay::default();
    assert!(overlay.is_empty());
    assert_eq!(applied(&overlay, message), message);
    overlay.prepend_field("Date", "today").unwrap();
    overlay.prepend_field("Received", "from a\r\n\tby b").unwrap();
    overlay.remove_fields(message, "BCC");
    overlay.remove_fields(message, "bcc");
    let want = "Received: from a\r\n\tby b\r\nDate: today\r\nA: 1\r\n\r\nBcc: body\r\n";
    assert_eq!(String::from_utf8(applied(&overlay, message)).unwrap(), want);
    assert!(!overlay.is_empty());
    let back = Overlay::from_parts(overlay.prepend.clone(), overlay.remove.clone());
    assert_eq!(back, Ok(overlay));
}

#[test]
fn a_first_line_that_begins_with_a_blank_never_continues_what_is_added() {
    let with = |remove: Vec<Range<u32>>| Overlay { prepend: b"A: b\r\n".to_vec(), remove };
    for (overlay, message, want) in [
        (with(vec![]), " c\r\n", "A: b\r\n\r\n c\r\n"),
        (with(vec![]), "\tC: d\r\n\r\nbody", "A: b\r\n\r\n\tC: d\r\n\r\nbody"),
        (with(vec![]), " ", "A: b\r\n\r\n "),
        (with(vec![]), "", "A: b\r\n"),
        (with(vec![]), "\r\n c", "A: b\r\n\r\n c"),
        (with(vec![]), "C: d\r\n e\r\n", "A: b\r\nC: d\r\n e\r\n"),
        // Only what is left counts.
        (with(vec![Range { start: 0, end: 6 }]), "C: d\r\n e", "A: b\r\n\r\n e"),
        (with(vec![Range { start: 0, end: 2 }]), " \tC: d", "A: b\r\nC: d"),
        (with(vec![Range { start: 0, end: 9 }]), " c", "A: b\r\n"),
        // Nothing is added, so nothing is continued.
        (Overlay::default(), " c", " c"),
    ] {
        let sent = applied(&overlay, message.as_bytes());
        assert_eq!(String::from_utf8(sent).unwrap(), want, "{message:?}");
        let sent = fields(want.as_bytes()).next().map(|field| field.range.end);
        assert!(overlay.is_empty() || sent == Some(6), "{message:?}");
    }
    // The header and one octet more are enough to know the length.
    assert_eq!(with(vec![]).len(1_000, b" "), 1_000 + 6 + 2);
    assert_eq!(with(vec![]).len(1_000, b"C:"), 1_000 + 6);
}

#[test]
fn a_body_without_header_is_never_read_as_one() {
    let overlay = Overlay { prepend: b"A: b\r\n".to_vec(), remove: vec![] };
    for (message, is_header) in [
        ("C: d\r\n", true),
        ("C : d\r\n", true),
        ("\r\nbody", true),
        ("\nbody", true),
        ("From a@b Thu Jan 1\r\nC: d\r\n", true),
        (">From a@b Thu Jan 1\r\nC: d\r\n", true),
        ("From here on\r\nthere is no header\r\n", false),
        ("hello\r\nC: d\r\n", false),
        ("hello", false),
        (": d\r\n", false),
        ("C d: e\r\n", false),
        ("\u{fc}: d\r\n", false),
        (" C: d\r\n", false),
        ("\0\u{1}\u{2}", false),
    ] {
        assert_eq!(is_header_start(message.as_bytes()), is_header, "{message:?}");
        let gap = if is_header { "" } else { "\r\n" };
        let sent = String::from_utf8(applied(&overlay, message.as_bytes())).unwrap();
        assert_eq!(sent, format!("A: b\r\n{gap}{message}"));
    }
    assert_eq!(mbox_line_octets(b"From x\r\nC: d\r\n"), 8);
    assert_eq!(mbox_line_octets(b"From : x\r\nC: d\r\n"), 0);
    assert_eq!(mbox_line_octets(b"From x\r\n\r\nC: d\r\n"), 0);
    let mut behind = fields_from(b"From x\r\nC: d\r\n", 8).map(|field| field.range);
    assert_eq!((behind.next(), behind.next()), (Some(8..14), None));
}

#[test]
fn lax_readers_find_fields_up_to_the_first_empty_line() {
    for (message, names, have_ended) in [
        ("", "", false),
        ("A: b\r\n", "A", false),
        ("A: b\r\n\r\nC: d\r\n", "A", true),
        ("A: b\n\nC: d\n", "A", true),
        ("\r\nC: d\r\n", "", true),
        ("From x\r\nA: b\r\n\r\n", "A", true),
        ("A: b\r\nhello\r\n folded\r\nC: d\r\n e\r\n\r\nF: g\r\n", "A C", true),
        ("hello\r\nA: b\r\n", "A", false),
        ("hello", "", false),
    ] {
        let mut all = lax_fields(message.as_bytes());
        let mut found = Vec::new();
        for field in all.by_ref() {
            assert_eq!(fields(&message.as_bytes()[field.range.clone()]).count(), 1, "{message:?}");
            found.push(str::from_utf8(field.name).unwrap());
        }
        assert_eq!(
            (found.join(" ").as_str(), all.have_ended()),
            (names, have_ended),
            "{message:?}"
        );
    }
}

#[test]
fn a_field_that_could_break_the_header_is_refused() {
    let long = "x".repeat(MAX_LINE_OCTETS - "A: ".len());
    let longer = format!("{long}x");
    for (name, value, want) in [
        ("A", "", Ok(())),
        ("A", "b\tc", Ok(())),
        ("A", "Jö", Ok(())),
        ("A", long.as_str(), Ok(())),
        ("A", longer.as_str(), Err(E::LineTooLong)),
        ("", "b", Err(E::BadName)),
        ("A:", "b", Err(E::BadName)),
        ("A b", "c", Err(E::BadName)),
        ("A\r\nB", "c", Err(E::BadName)),
        ("Ä", "c", Err(E::BadName)),
        ("A", "b\r\nEvil: c", Err(E::BadValue)),
        ("A", "b\r\nc", Err(E::BadValue)),
        ("A", "b\nc", Err(E::BadValue)),
        ("A", "b\n c", Err(E::BadValue)),
        ("A", "b\r c", Err(E::BadValue)),
        ("A", "b\r", Err(E::BadValue)),
        ("A", "b\r\r\n c", Err(E::BadValue)),
        ("A", "b\0", Err(E::BadValue)),
        ("A", "b\u{7f}", Err(E::BadValue)),
        ("A", "b\r\n", Err(E::BlankLine)),
        ("A", "b\r\n\r\nbody", Err(E::BlankLine)),
        ("A", "b\r\n \t\r\n c", Err(E::BlankLine)),
    ] {
        let mut overlay = Overlay::default();
        assert_eq!(overlay.prepend_field(name, value), want, "{name:?}: {value:?}");
        assert_eq!(overlay.is_empty(), want.is_err());
    }
}

#[test]
fn a_stored_overlay_is_checked_before_it_is_used() {
    for (prepend, remove, want) in [
        ("", vec![], None),
        ("A: b\r\nC: d\r\n", vec![0..5, 5..9], None),
        ("A: b", vec![], Some(E::NotFields)),
        ("A: b\r\nno field\r\n", vec![], Some(E::BadValue)),
        (" A: b\r\n", vec![], Some(E::BadValue)),
        ("A: b\r\n\r\n", vec![], Some(E::BlankLine)),
        ("A: b\nC: d\r\n", vec![], Some(E::BadValue)),
        ("", vec![3..3, 4..5], Some(E::BadRanges)),
        ("", vec![Range { start: 5, end: 3 }], Some(E::BadRanges)),
        ("", vec![0..5, 4..9], Some(E::BadRanges)),
        ("", vec![5..9, 0..3], Some(E::BadRanges)),
    ] {
        let got = Overlay::from_parts(prepend.into(), remove.clone()).map(|_| ());
        assert_eq!(got, want.map_or(Ok(()), Err), "{prepend:?} {remove:?}");
    }
}

#[test]
fn tokens_are_folded_only_between_each_other() {
    assert_eq!(folded(&[]), "");
    assert_eq!(folded(&["a", "", "b"]), "a b");
    let long = "x".repeat(40);
    assert_eq!(folded(&[&long, "by", "mx"]), format!("{long} by mx"));
    assert_eq!(folded(&[&long, "with", "id", &long]), format!("{long} with\r\n\tid {long}"));
    let longest = "x".repeat(200);
    assert_eq!(folded(&["a", &longest, "b"]), format!("a\r\n\t{longest}\r\n\tb"));
}

proptest! {
    #[test]
    fn field_ranges_and_the_rest_are_the_message(
        text in "([A-C]{1,2} ?:|[ \t:x]|\r\n|\n|\r){0,40}",
    ) {
        let message = text.as_bytes();
        let mut at = 0;
        for field in fields(message) {
            prop_assert_eq!(field.range.start, at);
            at = field.range.end;
            prop_assert!(field.range.len() > field.name.len() + field.value.len());
        }
        let start = body_start(message);
        prop_assert!(matches!(&message[at..start], b"" | b"\n" | b"\r\n"));
    }

    #[test]
    fn no_octets_make_the_scanner_panic(octets in proptest::collection::vec(any::<u8>(), 0..200)) {
        for field in fields(&octets) {
            let _ = decode_words(&field.unfolded());
        }
        let _ = decode_words(&String::from_utf8_lossy(&octets));
        prop_assert!(body_start(&octets) <= octets.len());
    }

    #[test]
    fn decoded_words_never_hold_a_control_character(text in "[=?utf8QBqb_0-9A-F-]{0,40}") {
        prop_assert!(!decode_words(&text).contains(char::is_control));
        let word = format!("=?utf-8?q?{text}?=");
        prop_assert!(!decode_words(&word).contains(char::is_control));
    }

    #[test]
    fn an_overlay_sends_what_the_naive_model_sends(
        text in "(([A-C]: x\r\n)|( y\r\n)){0,12}(\r\nA: body\r\n)?",
        removed in "[A-C]{0,3}",
        added in proptest::collection::vec(("[A-C]{1,3}", "[a-z ]{0,9}(\r\n z)?"), 0..4),
    ) {
        let message = text.as_bytes();
        let mut overlay = Overlay::default();
        let mut want = Vec::new();
        for (name, value) in &added {
            overlay.prepend_field(name, value).unwrap();
            want.splice(..0, format!("{name}: {value}\r\n").into_bytes());
        }
        let added_len = want.len();
        for name in removed.chars() {
            overlay.remove_fields(message, &name.to_string());
        }
        let mut end = 0;
        for field in fields(message) {
            end = field.range.end;
            if !removed.as_bytes().contains(&field.name[0]) {
                want.extend_from_slice(&message[field.range]);
            }
        }
        // A body may stand there only where there are no fields.
        let is_body = !message[end..].is_empty() && !is_header_start(&message[end..]);
        if !added.is_empty() && want.len() == added_len && is_body {
            want.extend_from_slice(b"\r\n");
        }
        want.extend_from_slice(&message[end..]);
        prop_assert_eq!(applied(&overlay, message), want);
        let back = Overlay::from_parts(overlay.prepend.clone(), overlay.remove.clone());
        prop_assert_eq!(back, Ok(overlay));
    }

    #[test]
    fn any_ranges_are_applied_without_panic(
        ranges in proptest::collection::vec((0_u32..50, 0_u32..50), 0..6),
        message in proptest::collection::vec(any::<u8>(), 0..40),
    ) {
        let remove = ranges.into_iter().map(|(start, end)| start..end).collect();
        applied(&Overlay { prepend: Vec::new(), remove }, &message);
    }

    #[test]
    fn what_is_added_stays_as_it_is_before_any_octets(
        ranges in proptest::collection::vec((0_u32..9, 0_u32..9), 0..3),
        text in "[ \tA:\r\n]{0,9}",
    ) {
        let remove = ranges.into_iter().map(|(start, end)| start..end).collect();
        let overlay = Overlay { prepend: b"A: b\r\n".to_vec(), remove };
        let sent = applied(&overlay, text.as_bytes());
        prop_assert_eq!(fields(&sent).next().map(|field| field.range), Some(0..6));
    }

    #[test]
    fn folded_tokens_make_a_valid_field(
        tokens in proptest::collection::vec("[!-~]{1,60}", 0..20),
    ) {
        let tokens: Vec<&str> = tokens.iter().map(String::as_str).collect();
        let value = folded(&tokens);
        prop_assert!(value.split("\r\n").all(|line| line.len() <= 78));
        prop_assert!(Overlay::default().prepend_field("Received", &value).is_ok());
        let words: Vec<&str> = value.split_ascii_whitespace().collect();
        prop_assert_eq!(words, tokens);
    }
}
