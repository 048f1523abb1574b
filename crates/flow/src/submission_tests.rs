//! What becomes of the header of a message from its author.

use super::*;

const ID: &str = "0000000000001";
const MESSAGE_ID: &str = "Message-ID: <0000000000001@mail.example.org>\r\n";
const DATE: &str = "Date: Thu, 1 Jan 2026 00:00:00 +0000\r\n";
/// What a header needs; nothing is done to it.
const WHOLE: &str = "From: Ani <ani@ours.example>\r\nDate: 1 Jan 2025 00:00 GMT\r\n\
                     Message-ID: <a@b>\r\n";

fn edits_from(head: &str, reverse_path: &str) -> Result<Overlay, Verdict> {
    let by = Submitted {
        id: ID.parse().unwrap(),
        hostname: &Domain::parse("mail.example.org").unwrap(),
        reverse_path: &ReversePath(Mailbox::parse(reverse_path).ok()),
        at: Time::from_secs(1_767_225_600),
    };
    edits(head.as_bytes(), &by)
}

/// `head` as it is sent on, or the rule by which it is refused.
#[track_caller]
fn mended(head: &str) -> String {
    let edits = match edits_from(head, "ani@ours.example") {
        Ok(edits) => edits,
        Err(refused) => return refused.rule.into_owned(),
    };
    let checked = Overlay::from_parts(edits.prepend.clone(), edits.remove.clone());
    assert_eq!(checked, Ok(edits.clone()), "{head:?}");
    let sent: Vec<u8> = edits.slices(head.as_bytes()).flatten().copied().collect();
    assert_eq!(edits.len(head.len() as u64, head.as_bytes()), sent.len() as u64);
    String::from_utf8(sent).unwrap()
}

#[track_caller]
fn check(head: &str, want: &str) {
    assert_eq!(mended(head), want, "{head:?}");
}

#[test]
fn a_whole_header_stays_octet_for_octet() {
    for more in [
        "",
        "To: a@x,\r\n\tb@x \r\nCc: c@x\r\nSubject:\r\n",
        "Subject: =?utf-8?q?=40?= \u{e9} \t\r\nX-A: 1\r\nx-a: 1\r\nComments: x\r\nComments: x\r\n",
        "Reply-To: Team: a@x, b@y;\r\nSender: Bob <b@z>\r\n",
        "Received: from a by b; x\r\nX-Bcc: a\r\nBcc-X: b\r\nAuthentication-Results: z; none\r\n",
        "DKIM-Signature: v=1; b=\r\nTo : nobody\r\nErrors-To:\r\n",
    ] {
        let head = format!("{WHOLE}{more}\r\nBcc: body\r\n");
        check(&head, &head);
        check(&format!("{WHOLE}{more}"), &format!("{WHOLE}{more}"));
    }
}

#[test]
fn what_is_missing_or_malformed_is_added() {
    let from = "From: ani@ours.example\r\n";
    for (head, added, left) in [
        ("From: ani@ours.example\r\nMessage-ID: <a@b>\r\n\r\nDate: x\r\n", DATE, None),
        ("From: a@x\r\nDate: 1 Jan 2025 00:00 GMT\r\n\r\nMessage-ID: <a@b>\r\n", MESSAGE_ID, None),
        ("date : 1 Jan 2025 00:00 GMT\r\nmessage-id:<a@b>\r\n\r\nFrom: x\r\n", from, None),
        ("Subject: x\r\n\r\n", "all", None),
        ("\r\nhi\r\n", "all", None),
        ("", "all", None),
        ("From: a@x\r\nDate: now\r\nMessage-ID: 12\r\n\r\n", "both", Some("From: a@x\r\n\r\n")),
        ("Date:\r\nFrom: a@x\r\nMessage-ID: <12>\r\n\r\n", "both", Some("From: a@x\r\n\r\n")),
    ] {
        let (both, all) = (format!("{DATE}{MESSAGE_ID}"), format!("{from}{DATE}{MESSAGE_ID}"));
        let added = match added {
            "both" => &both,
            "all" => &all,
            one => one,
        };
        check(head, &format!("{added}{}", left.unwrap_or(head)));
    }
    // Nobody is there as whom it could be sent.
    assert_eq!(edits_from("Subject: x\r\n\r\n", "").unwrap_err().rule, "from-missing");
    let without_from = edits_from("Sender: Ani\r\n\r\n", "ani@ours.example");
    assert_eq!(without_from.unwrap_err().rule, "field-malformed");
    assert!(edits_from("From: a@x\r\n\r\n", "").is_ok());
}

#[test]
fn a_content_without_header_gets_one() {
    for body in ["hi there\r\n", " hi there\r\n", ": hi\r\n", "\u{1}\u{2}"] {
        let sent = mended(body);
        assert!(sent.starts_with("From: ani@ours.example\r\nDate: "), "{sent}");
        assert!(sent.ends_with(&format!("\r\n\r\n{body}")), "{sent}");
    }
    check(&format!("From ani Thu Jan  1 00:00:00 2026\r\n{WHOLE}\r\n"), &format!("{WHOLE}\r\n"));
    check(&format!(">From ani\r\nBcc: x@y\r\n{WHOLE}\r\n"), &format!("{WHOLE}\r\n"));
}

#[test]
fn what_must_not_leave_is_removed() {
    for gone in [
        "Bcc: a@x,\r\n b@x\r\n",
        "bcc:\r\n",
        "BCC : x\r\nBcc: y\r\n",
        "Return-Path: <a@x>\r\n",
        "To:\r\nCc: \r\nReply-To:\r\n \t\r\nSender:\r\nReferences:\r\nIn-Reply-To:\r\n",
        "Cc:\r\nCc:\r\n",
    ] {
        check(&format!("{gone}{WHOLE}\r\nBcc: body\r\n"), &format!("{WHOLE}\r\nBcc: body\r\n"));
        check(&format!("{WHOLE}{gone}Subject: x\r\n"), &format!("{WHOLE}Subject: x\r\n"));
    }
}

#[test]
fn repetitions_go_and_lists_are_joined() {
    let once = format!("{WHOLE}Subject: x\r\nTo: a@x\r\nMIME-Version: 1.0\r\n\r\n");
    let repeated = "subject : x\r\nSUBJECT:\r\n x\r\nTo:a@x\r\nMIME-version: 1.0 (x)\r\n";
    check(&once.replace("\r\n\r\n", &format!("\r\n{repeated}\r\n")), &once);
    for (several, joined) in [
        ("To: a@x\r\nTo: b@x,\r\n c@x\r\n", "To: a@x,\r\n b@x,\r\n c@x\r\n"),
        ("Cc: a@x\r\nCC:b@x \r\nCc: \r\ncc: a@x\r\n", "Cc: a@x,\r\n b@x,\r\n a@x\r\n"),
        (
            "References: <a@b>\r\n <c@d>\r\nReferences: <e@f>\r\n",
            "References: <a@b>\r\n <c@d>\r\n <e@f>\r\n",
        ),
    ] {
        check(
            &format!("{WHOLE}{several}Subject: x\r\n"),
            &format!("{joined}{WHOLE}Subject: x\r\n"),
        );
    }
}

#[test]
fn what_readers_would_understand_differently_is_refused() {
    for (more, rule) in [
        ("From: Ani <ani@ours.example>\r\n", "field-repeated"),
        ("From : boss@x\r\n", "field-repeated"),
        ("Sender: a@x\r\nSender: b@x\r\n", "field-repeated"),
        ("Reply-To: a@x\r\nReply-To: b@x\r\n", "field-repeated"),
        ("Date: 2 Jan 2025 00:00 GMT\r\n", "field-repeated"),
        ("Message-ID: <c@d>\r\n", "field-repeated"),
        ("Subject: a\r\nSubject: A\r\n", "field-repeated"),
        ("Content-Type: text/plain\r\ncontent-type : text/html\r\n", "field-repeated"),
        (
            "Content-Transfer-Encoding: 7bit\r\nContent-Transfer-Encoding: base64\r\n",
            "field-repeated",
        ),
        ("Sender: a@x, b@x\r\n", "field-malformed"),
        ("Sender: Ani\r\n", "field-malformed"),
        ("To: a\u{1}@x\r\nTo: b@x\r\n", "field-malformed"),
    ] {
        check(&format!("{WHOLE}{more}\r\n"), rule);
    }
    let verdict = edits_from(&format!("{WHOLE}Subject: a\r\nSubject: b\r\n"), "a@x").unwrap_err();
    let want = "the header field Subject must not stand more than once";
    assert_eq!(verdict, Verdict::refuse("field-repeated", Reply::new(550, (5, 6, 0), want)));
}

#[test]
fn from_plainly_names_its_authors() {
    for from in [
        "ani@ours.example",
        "<ani@ours.example>",
        "\"Ani, Boss\" <ani@ours.example>",
        "(x (y)) ani @ ours . example",
        // Everybody can see it.
        "\"boss@bank.example\" <ani@ours.example>",
        "=?utf-8?q?ani=40ours.example?= <ani@ours.example>",
        "=?utf-8?q?M=C3=BCller_=40_Firma?= <ani@ours.example>",
        "=?utf-8?b?QW5p?= <ani@ours.example>",
        "\u{e4}ni@ours.example",
    ] {
        let head = format!("{WHOLE}\r\n").replace("Ani <ani@ours.example>", from);
        check(&head, &head);
    }
    for (from, rule) in [
        ("", "from-unreadable"),
        (" ()", "from-unreadable"),
        ("Ani", "from-unreadable"),
        ("Ani <ani>", "from-unreadable"),
        ("Foo, Inc. <a@x>", "from-unreadable"),
        ("ani@ours.example <ani@ours.example", "from-unreadable"),
        ("a@x <b@y> c@z", "from-unreadable"),
        ("(ani@ours.example", "from-unreadable"),
        ("team:;", "from-unreadable"),
        ("Team: a@x, b@x;", "from-unreadable"),
        ("=?utf-8?q?boss=40bank.example?= <ani@ours.example>", "from-disguised"),
        ("=?utf-8?b?Ym9zc0BiYW5rLmV4YW1wbGU=?= <ani@ours.example>", "from-disguised"),
        ("\"=?utf-8?q?Boss_=3Cboss=40bank.example=3E?=\" <ani@ours.example>", "from-disguised"),
        ("=?utf-8?q?Boss_=3Cboss=40bank.example=3E?=", "from-unreadable"),
        ("a@x, b@y", "sender-missing"),
    ] {
        check(&format!("{WHOLE}\r\n").replace("Ani <ani@ours.example>", from), rule);
    }
    check(&format!("{WHOLE}\r\n").replace("From:", "From :"), "from-unreadable");
}

#[test]
fn several_authors_of_one_domain_get_a_sender() {
    let two = format!("{WHOLE}\r\n").replace("Ani <ani@ours.example>", "a@x, b@x");
    check(&two, &format!("Sender: ani@ours.example\r\n{two}"));
    assert_eq!(edits_from(&two, "").unwrap_err().rule, "sender-missing");
    let said = two.replace("a@x, b@x\r\n", "a@x, b@y\r\nSender: c@z\r\n");
    check(&said, &said);
}

#[test]
fn a_message_that_is_sent_once_more_keeps_what_its_author_gave_it() {
    let old = "From: a@x, b@y\r\nDate: yesterday\r\nMessage-ID: 12\r\nTo: c@z\r\n\r\n";
    let resent = format!("Resent-To: d@z\r\nResent-Bcc: e@z\r\n{old}");
    let id = MESSAGE_ID.replace("0000000000001", "0000000000001.r");
    let want =
        format!("Resent-From: ani@ours.example\r\nResent-{DATE}Resent-{id}Resent-To: d@z\r\n{old}");
    check(&resent, &want);
    let whole = format!(
        "Resent-From: ani@ours.example\r\nResent-Date: x\r\nResent-Message-ID: <x@y>\r\n{old}"
    );
    check(&whole, &whole);
    check("Resent-To: d@z\r\nTo: c@z\r\n\r\n", "from-missing");
}

#[test]
fn long_lines_of_a_header_are_folded_or_refused() {
    let words = "word ".repeat(300);
    let sent = mended(&format!("{WHOLE}Subject: {words}end\r\nX: y\r\n\r\n"));
    assert!(sent.starts_with("Subject: word word"), "{sent}");
    assert!(sent.ends_with(&format!("end\r\n{WHOLE}X: y\r\n\r\n")), "{sent}");
    assert!(sent.split("\r\n").all(|line| line.len() <= 998));
    let list = "a@x,".repeat(300);
    let sent = mended(&format!("{WHOLE}To: {list}b@x\r\nTo: {list}c@x\r\n\r\n"));
    assert!(sent.split("\r\n").all(|line| line.len() <= 998));
    let to = header::first(sent.as_bytes(), "To").unwrap().value;
    assert_eq!(address::parse_header_list(to).unwrap().len(), 602);
    let solid = "x".repeat(1_000);
    check(&format!("{WHOLE}X-{solid}: y\r\n\r\n"), "line-too-long");
    check(&format!("{WHOLE}Subject: {solid}\r\n\r\n"), "line-too-long");
    // What is signed, and what others wrote, keeps its lines.
    let signed = format!("{WHOLE}DKIM-Signature: v=1\r\nSubject: {words}\r\n\r\n");
    check(&signed, &signed);
    let trace = format!("{WHOLE}ARC-Seal: i=1; b={solid}\r\nReceived: {words}\r\n\r\n");
    check(&trace, &trace);
}
