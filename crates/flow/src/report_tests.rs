use bytes::Bytes;
use merpati_mail::{Class, NodeId, Scope, envelope::Ret};

use super::*;
use crate::srs::{Forwarded, Srs, tests::Mixed};

/// A message, and what became of its recipients.
struct Story {
    loaded: Loaded,
    items: Vec<Item>,
    postmaster: Option<Mailbox>,
    aliases: Option<Arc<Aliases>>,
}

fn story(reverse_path: &str, recipients: &[(&str, Option<Notify>)]) -> Story {
    let recipient = |(address, notify): &(&str, Option<Notify>)| Recipient {
        path: ForwardPath::Mailbox(Mailbox::parse(address).unwrap()),
        notify: *notify,
        orcpt: None,
    };
    let content = b"Subject: hi\r\nMessage-ID: <1@ours.example>\r\nX-A: b\r\n\r\nbody\r\n";
    let accepted = Accepted {
        id: QueueId::new(NodeId::default(), 1, 1),
        envelope: Envelope {
            reverse_path: ReversePath(Mailbox::parse(reverse_path).ok()),
            recipients: recipients.iter().map(recipient).collect(),
            body: BodyType::SevenBit,
            utf8: Utf8::NotDeclared,
            ret: None,
            envid: None,
            requests: Requests::default(),
            origin: Origin {
                listener: "mx".to_owned(),
                peer: None,
                credential: None,
                protocol: Protocol::Esmtp,
                tls: None,
                received_at: Time::EPOCH,
            },
        },
        edits: Overlay::default(),
        size_bytes: content.len() as u64,
    };
    let header = Bytes::from_static(content);
    Story {
        loaded: Loaded { accepted, header },
        items: Vec::new(),
        postmaster: None,
        aliases: None,
    }
}

impl Story {
    fn content(mut self, content: impl Into<Vec<u8>>) -> Self {
        let content = content.into();
        self.loaded.accepted.size_bytes = content.len() as u64;
        self.loaded.header = Bytes::from(content);
        self
    }

    fn ret(mut self, ret: Ret) -> Self {
        self.loaded.accepted.envelope.ret = Some(ret);
        self
    }

    fn with(mut self, news: impl IntoIterator<Item = News>) -> Self {
        let at = Time::from_secs(60);
        let item = |(recipient, news)| Item { recipient, news, at };
        self.items = (0..).zip(news).map(item).collect();
        self
    }

    fn dsn(&self) -> Option<Dsn> {
        let by = Domain::parse("mx.ours.example").unwrap();
        let desk = Desk { by, postmaster: self.postmaster.clone(), aliases: self.aliases.clone() };
        let id = QueueId::new(NodeId::default(), 1, 2);
        let dsn = answer(&desk, (id, Time::from_secs(120)), &self.loaded, &self.items)?;
        check(&dsn);
        Some(dsn)
    }

    fn text(&self) -> String {
        String::from_utf8(self.dsn().expect("there is a report").content).unwrap()
    }
}

/// What holds of every report.
fn check(dsn: &Dsn) {
    assert!(dsn.accepted.envelope.reverse_path.is_null());
    assert_eq!(dsn.accepted.envelope.recipients[0].notify, Some(Notify::Never));
    let text = String::from_utf8_lossy(&dsn.content);
    assert!(!text.replace("\r\n", "").contains(['\r', '\n', '\0', '\x1b']), "{text}");
    assert!(text.split("\r\n").all(|line| line.len() <= 998));
    let head = &text[..text.find("\r\n\r\n").unwrap()];
    assert!(head.contains("\r\nAuto-Submitted: auto-replied\r\n"));
    let boundary = head.split_once("boundary=\"").unwrap().1.split_once('"').unwrap().0;
    // Three parts and the end, and the boundary nowhere else.
    assert_eq!(text.matches(boundary).count(), 5, "{text}");
    let is_eight_bit = !dsn.content.is_ascii();
    assert_eq!(dsn.accepted.envelope.body == BodyType::EightBitMime, is_eight_bit);
}

fn failed(reply: Reply) -> News {
    let remote = Some(Domain::parse("mx.other.example").unwrap());
    let (class, scope) = (Class::MailboxUnknown, Scope::Recipient);
    let voice = Voice::Host;
    News::Failed { cause: Cause { class, scope, reply, remote }, voice }
}

fn unknown() -> News {
    failed(Reply::new(550, (5, 1, 1), "no such user"))
}

fn delayed() -> News {
    let News::Failed { mut cause, voice } = failed(Reply::new(451, (4, 7, 1), "come again")) else {
        panic!("it failed");
    };
    cause.class = Class::Greylisted;
    News::Delayed { cause, voice, until: Time::from_secs(5 * 24 * 3_600) }
}

fn delivered() -> News {
    let remote = Some(Domain::parse("store.example").unwrap());
    News::Delivered { reply: Reply::new(250, (2, 1, 5), "saved"), remote }
}

fn relayed() -> News {
    News::Relayed { reply: Reply::bare(250, "ok"), remote: None, is_owed: false }
}

fn on(delay: bool, failure: bool, success: bool) -> Notify {
    Notify::On { delay, failure, success }
}

#[test]
fn a_null_reverse_path_never_bounces() {
    let to = [("u@other.example", Some(on(true, true, true)))];
    for news in [unknown(), delayed(), delivered(), relayed()] {
        assert_eq!(story("", &to).with([news]).dsn(), None);
    }
}

/// RFC 3461 §4.1: who hears of what.
#[test]
fn notify_decides_what_is_told() {
    for (notify, want) in [
        (None, [true, true, false, false]),
        (Some(Notify::Never), [false; 4]),
        (Some(on(true, false, false)), [false, true, false, false]),
        (Some(on(false, true, false)), [true, false, false, false]),
        (Some(on(false, false, true)), [false, false, true, true]),
        (Some(on(true, true, true)), [true; 4]),
    ] {
        let told = [unknown(), delayed(), delivered(), relayed()].map(|news| {
            story("a@ours.example", &[("u@other.example", notify)]).with([news]).dsn().is_some()
        });
        assert_eq!(told, want, "{notify:?}");
    }
}

#[test]
fn nobody_is_told_that_mail_is_delayed_for_which_nobody_waits() {
    for (field, notify, want) in [
        ("List-Id: <a.example>", None, false),
        ("Precedence: Bulk", None, false),
        ("Auto-Submitted: auto-generated", None, false),
        ("Auto-Submitted: no", None, true),
        ("X-A: b", None, true),
        ("List-Id: <a.example>", Some(on(true, false, false)), true),
    ] {
        let story = story("a@ours.example", &[("u@other.example", notify)])
            .content(format!("{field}\r\nSubject: x\r\n\r\n"))
            .with([delayed()]);
        assert_eq!(story.dsn().is_some(), want, "{field} {notify:?}");
    }
}

#[test]
fn never_means_never_and_the_others_share_one_report() {
    let story = story(
        "a@ours.example",
        &[
            ("n@other.example", Some(Notify::Never)),
            ("s@other.example", Some(on(true, false, false))),
            ("f@other.example", Some(on(true, true, false))),
            ("d@other.example", None),
        ],
    )
    .with((0..4).map(|_| unknown()));
    let text = story.text();
    assert_eq!(text.matches("Action: failed").count(), 2);
    assert!(text.contains("Final-Recipient: rfc822; f@other.example\r\n"));
    assert!(text.contains("Final-Recipient: rfc822; d@other.example\r\n"));
}

#[test]
fn a_failure_is_told_to_people_first_and_then_to_programs() {
    let text = story("a@ours.example", &[("u@other.example", None)]).with([unknown()]).text();
    let mut rest = text.as_str();
    for wanted in [
        "From: Mail Delivery System <postmaster@mx.ours.example>\r\nTo: <a@ours.example>\r\n\
         Subject: Your message could not be delivered\r\n",
        "In-Reply-To: <1@ours.example>\r\n",
        "Content-Type: multipart/report; report-type=delivery-status;\r\n",
        "Content-Type: text/plain; charset=utf-8\r\n\r\nThis is the mail system at",
        "There is no such mailbox",
        "Check the address",
        "mx.other.example said: 550 5.1.1 no such user\r\n",
        "  Subject: hi\r\n",
        "Content-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; mx.ours.example\r\n",
        "Arrival-Date: Thu, 1 Jan 1970 00:00:00 +0000\r\n\r\n\
         Final-Recipient: rfc822; u@other.example\r\nAction: failed\r\nStatus: 5.1.1\r\n\
         Remote-MTA: dns; mx.other.example\r\n\
         Diagnostic-Code: smtp; 550 5.1.1 no such user\r\n\
         Last-Attempt-Date: Thu, 1 Jan 1970 00:01:00 +0000\r\n",
        "Content-Type: message/rfc822\r\n\r\nSubject: hi\r\nMessage-ID: <1@ours.example>\r\n",
        "\r\n\r\nbody\r\n\r\n--report-",
    ] {
        let at = rest.find(wanted).unwrap_or_else(|| panic!("{wanted}\n in\n{text}"));
        rest = &rest[at + wanted.len()..];
    }
}

#[test]
fn delay_and_success_have_words_actions_and_fields_of_their_own() {
    for (news, all) in [
        (
            delayed(),
            [
                "Subject: Your message is delayed\r\n",
                "You need not do anything: we go on trying until Tue, 6 Jan 1970",
                "Action: delayed\r\nStatus: 4.7.1\r\n",
                "Will-Retry-Until: Tue, 6 Jan 1970 00:00:00 +0000\r\n",
            ],
        ),
        (
            delivered(),
            [
                "Subject: Your message was delivered\r\n",
                "store.example said: 250 2.1.5 saved",
                "Action: delivered\r\nStatus: 2.1.5\r\n",
                "Remote-MTA: dns; store.example\r\n",
            ],
        ),
        (
            relayed(),
            [
                "Subject: Your message was handed on\r\n",
                "sends no\r\nreports of success",
                "Action: relayed\r\nStatus: 2.0.0\r\n",
                "Content-Type: text/rfc822-headers\r\n\r\nSubject: hi\r\n",
            ],
        ),
    ] {
        let notify = Some(on(true, true, true));
        let text = story("a@ours.example", &[("u@other.example", notify)])
            .ret(Ret::Full)
            .with([news])
            .text();
        for wanted in all {
            assert!(text.contains(wanted), "{wanted}\n in\n{text}");
        }
        assert!(!text.contains("\r\nbody\r\n"), "only a failure returns all of it: {text}");
    }
}

/// RFC 3461 §4.3; without RET what is small.
#[test]
fn ret_decides_what_is_returned() {
    let small = "Subject: x\r\n\r\nsmall\r\n".to_owned();
    let large = format!("Subject: x\r\n\r\n{}", "large\r\n".repeat(2_000));
    let huge = format!("Subject: x\r\n\r\n{}", "huge\r\n".repeat(60_000));
    let long = format!("Subject: x\r\n\r\n{}\r\n", "long".repeat(300));
    for (content, ret, want) in [
        (&small, None, true),
        (&small, Some(Ret::Headers), false),
        (&small, Some(Ret::Full), true),
        (&large, None, false),
        (&large, Some(Ret::Full), true),
        (&huge, Some(Ret::Full), false),
        (&long, Some(Ret::Full), false),
    ] {
        let mut story = story("a@ours.example", &[("u@other.example", None)])
            .content(content.clone())
            .with([unknown()]);
        story.loaded.accepted.envelope.ret = ret;
        let text = story.text();
        assert_eq!(text.contains("Content-Type: message/rfc822\r\n"), want, "{ret:?}");
        assert_eq!(text.contains("Content-Type: text/rfc822-headers\r\n"), !want, "{ret:?}");
        let body = content.split_once("\r\n\r\n").unwrap().1;
        assert_eq!(text.contains(body), want);
        assert!(text.contains("Subject: x\r\n"));
    }
}

#[test]
fn what_is_here_only_in_part_is_not_returned_as_the_whole() {
    let mut story = story("a@ours.example", &[("u@other.example", None)])
        .ret(Ret::Full)
        .content("Subject: x\r\n\r\nbegin")
        .with([unknown()]);
    story.loaded.accepted.size_bytes += 1;
    assert!(story.text().contains("Content-Type: text/rfc822-headers\r\n\r\nSubject: x\r\n"));
}

#[test]
fn what_is_returned_has_the_fields_that_were_added() {
    let mut story = story("a@ours.example", &[("u@other.example", None)])
        .content("Subject: x\r\nBcc: y@z.example\r\n\r\nbody\r\n")
        .with([unknown()]);
    story.loaded.accepted.edits = Overlay {
        prepend: b"Message-ID: <m@ours.example>\r\n".to_vec(),
        remove: std::iter::once(12..30).collect(),
    };
    let text = story.text();
    assert!(text.contains("\r\n\r\nMessage-ID: <m@ours.example>\r\nSubject: x\r\n\r\nbody\r\n"));
    assert!(text.contains("In-Reply-To: <m@ours.example>\r\n"));
}

#[test]
fn the_parameters_of_the_client_come_back_decoded() {
    let mut story = story("a@ours.example", &[("u@other.example", None)]).with([unknown()]);
    story.loaded.accepted.envelope.envid = Some("a+2Bb+3Dc+20d".to_owned());
    story.loaded.accepted.envelope.recipients[0].orcpt =
        Some("rfc822;x+2By@alias.example".to_owned());
    let text = story.text();
    assert!(text.contains("Original-Envelope-Id: a+b=c d\r\n"));
    assert!(text.contains("\r\n\r\nOriginal-Recipient: rfc822; x+y@alias.example\r\n"));
    assert!(text.contains("This address stands for x+y@alias.example."));
}

#[test]
fn what_waited_too_long_says_so_and_what_was_said_last() {
    let News::Failed { mut cause, voice } = failed(Reply::new(450, (4, 2, 0), "not now")) else {
        panic!("it failed");
    };
    cause.class = Class::Expired;
    let to = [("u@other.example", None)];
    let text = story("a@ours.example", &to).with([News::Failed { cause, voice }]).text();
    assert!(text.contains("Action: failed\r\nStatus: 4.4.7\r\n"));
    assert!(text.contains("Diagnostic-Code: smtp; 450 4.2.0 not now\r\n"));
}

#[test]
fn a_reply_without_a_status_code_gets_that_of_its_class() {
    let to = [("u@other.example", None)];
    let text = story("a@ours.example", &to).with([failed(Reply::bare(550, "who?"))]).text();
    assert!(text.contains("Status: 5.1.1\r\n") && text.contains("smtp; 550 who?\r\n"));
}

#[test]
fn what_no_server_said_is_not_quoted_as_if_it_had() {
    // Also what waited too long for such a reason, and what the host does not offer.
    for class in [Class::Connection, Class::Expired, Class::Lacks, Class::TooLarge, Class::Tls] {
        let News::Failed { mut cause, .. } = failed(Reply::new(421, (4, 4, 2), "so it is")) else {
            panic!("it failed");
        };
        cause.class = class;
        let to = [("u@other.example", None)];
        let news = |voice| News::Failed { cause: cause.clone(), voice };
        let text = story("a@ours.example", &to).with([news(Voice::Ours)]).text();
        assert!(text.contains("Diagnostic-Code: x-merpati; 421 4.4.2 so it is\r\n"), "{text}");
        assert!(text.contains("Remote-MTA: dns; mx.other.example\r\n"), "{text}");
        assert!(!text.contains("said"), "{text}");
        let text = story("a@ours.example", &to).with([news(Voice::Host)]).text();
        assert!(text.contains("Diagnostic-Code: smtp; 421 4.4.2 so it is\r\n"), "{text}");
        assert!(text.contains("mx.other.example said: 421"), "{text}");
    }
}

#[test]
fn a_hostile_reply_forges_no_line() {
    let hostile =
        "no\r\nX-Evil: 1\nAction: delivered\x1b[2J\0é\r\n--report-0000000000000".repeat(400);
    let to = [("u@other.example", None)];
    let story =
        story("a@ours.example", &to).with([failed(Reply::with_text(550, (5, 1, 1), hostile))]);
    let text = story.text();
    assert!(text.lines().all(|line| !line.starts_with("X-Evil") && !line.starts_with("Action: d")));
    assert_eq!(text.lines().filter(|line| line.starts_with("Action:")).count(), 1);
    assert!(text.is_ascii());
}

#[test]
fn a_message_that_holds_the_boundary_does_not_end_the_part() {
    let to = [("u@other.example", None)];
    let id = QueueId::new(NodeId::default(), 1, 2);
    let line = |n: u32| format!("--report-{id}-{n:09}--\r\n");
    let taken = [line(1), line(2), line(3)].concat();
    let story = story("a@ours.example", &to)
        .content(format!("Subject: x\r\n\r\n{taken}end\r\n"))
        .with([unknown()]);
    assert!(story.text().contains(&format!("boundary=\"report-{id}-000000004\"")));
}

#[test]
fn a_thousand_failures_are_one_report_of_bounded_size_that_names_them_all() {
    let address = |n: u32| format!("{}{n:04}@{}.example", "u".repeat(60), "d".repeat(50));
    let addresses: Vec<String> = (0..1_000).map(address).collect();
    let to: Vec<(&str, Option<Notify>)> = addresses.iter().map(|a| (a.as_str(), None)).collect();
    let reply = || Reply::with_text(550, (5, 1, 1), "not here, ".repeat(200));
    let dsn = story("a@ours.example", &to).with((0..1_000).map(|_| failed(reply()))).dsn().unwrap();
    assert!(dsn.content.len() < 800 << 10, "{}", dsn.content.len());
    let text = String::from_utf8(dsn.content).unwrap();
    for address in &addresses {
        assert!(text.contains(&format!("Final-Recipient: rfc822; {address}\r\n")));
    }
    assert_eq!(text.matches("\r\nSubject: Your message could").count(), 1);
}

/// RFC 6533 §4 and §6.
#[test]
fn an_address_beyond_ascii_makes_a_global_report() {
    let mut story = story("a@ours.example", &[("δ@other.example", None)]).with([unknown()]);
    story.loaded.accepted.envelope.utf8 = Utf8::Declared;
    story.loaded.accepted.envelope.recipients[0].orcpt =
        Some("utf-8;\\x{3B4}+2B@alias.example".to_owned());
    let story = story.content("Subject: grün\r\n\r\nbody\r\n");
    let dsn = story.dsn().unwrap();
    assert_eq!(dsn.accepted.envelope.utf8, Utf8::Declared);
    let text = String::from_utf8(dsn.content).unwrap();
    for wanted in [
        "Content-Type: message/global-delivery-status\r\nContent-Transfer-Encoding: 8bit\r\n",
        "Original-Recipient: utf-8; δ+@alias.example\r\n",
        "Final-Recipient: utf-8; δ@other.example\r\n",
        "Content-Type: message/global\r\nContent-Transfer-Encoding: 8bit\r\n\r\nSubject: grün\r\n",
        "Subject: Your message to δ@other.example could not be delivered\r\n",
    ] {
        assert!(text.contains(wanted), "{wanted}\n in\n{text}");
    }
}

/// A report of ours, as a message that waits.
fn as_message(dsn: Dsn) -> Loaded {
    Loaded { accepted: dsn.accepted, header: Bytes::from(dsn.content) }
}

fn lacks_smtputf8() -> News {
    failed(Reply::new(550, (5, 6, 7), "the next hop does not take internationalised mail"))
}

/// I11: where the host of the originator does not take it, it comes again in ASCII.
#[test]
fn a_global_report_that_is_not_taken_is_made_anew_in_ascii_once() {
    let mut first = story("a@ours.example", &[("δ@other.example", None)])
        .content("Subject: grün und blau\r\nX-A: b\r\n\r\nbody\r\n")
        .with([unknown()]);
    first.loaded.accepted.envelope.utf8 = Utf8::Declared;
    first.loaded.accepted.envelope.recipients[0].orcpt = Some("utf-8;δ@x.example".to_owned());
    let mut again = story("", &[]);
    again.loaded = as_message(first.dsn().unwrap());
    let again = again.with([lacks_smtputf8()]);
    let dsn = again.dsn().unwrap();
    assert_eq!(dsn.accepted.envelope.utf8, Utf8::NotDeclared);
    assert_eq!(dsn.accepted.envelope.recipients[0].path.to_string(), "<a@ours.example>");
    let text = String::from_utf8(dsn.content.clone()).unwrap();
    assert!(text[..text.find("\r\n\r\n").unwrap()].is_ascii());
    for wanted in [
        "Content-Type: message/delivery-status\r\n\r\nReporting-MTA",
        "Original-Recipient: utf-8; \\x{3B4}@x.example\r\n",
        "Final-Recipient: utf-8; \\x{3B4}@other.example\r\n",
        "Content-Type: text/rfc822-headers\r\n\r\nSubject:\r\n =?utf-8?Q?gr=C3=BCn?=\r\n und\r\n \
         blau\r\nX-A: b\r\n\r\n--report",
    ] {
        assert!(text.contains(wanted), "{wanted}\n in\n{text}");
    }
    assert!(!text.contains("body"));
    let mut third = story("", &[]);
    third.loaded = as_message(dsn);
    assert_eq!(third.with([lacks_smtputf8()]).dsn(), None, "it is not made a third time");
}

#[test]
fn a_report_that_fails_is_told_to_the_postmaster_once() {
    let mut double = story("", &[]);
    double.loaded = as_message(
        story("a@ours.example", &[("u@x.example", None)]).with([unknown()]).dsn().unwrap(),
    );
    double.postmaster = Some(Mailbox::parse("pm@ours.example").unwrap());
    let double = double.with([unknown()]);
    let dsn = double.dsn().unwrap();
    assert_eq!(dsn.accepted.envelope.recipients[0].path.to_string(), "<pm@ours.example>");
    let text = String::from_utf8(dsn.content.clone()).unwrap();
    assert!(text.contains("Subject: A report could not be delivered\r\n"));
    assert!(text.contains("Final-Recipient: rfc822; a@ours.example\r\n"));
    assert!(text.contains("Final-Recipient: rfc822; u@x.example\r\n"), "the report is attached");
    let mut third = story("", &[]);
    third.postmaster = double.postmaster.clone();
    third.loaded = as_message(dsn);
    assert_eq!(third.with([unknown()]).dsn(), None, "nobody is told of that");
}

/// A header in 8 bits makes a part that cannot be encoded; the report comes all the same.
#[test]
fn a_report_that_returns_octets_above_127_is_made_anew_for_a_host_of_7_bits() {
    let to = [("u@other.example", None)];
    let content = "Subject: caf\u{e9}\r\nMessage-ID: <1@ours.example>\r\n\r\nbody\r\n";
    let first = story("a@ours.example", &to).content(content).with([unknown()]).dsn().unwrap();
    assert!(!first.content.is_ascii());
    let lacks = |code: (u8, u16, u16)| {
        let News::Failed { mut cause, .. } = unknown() else { panic!("it failed") };
        cause.reply = Reply::new(550, code, "a part of type message holds 8-bit octets");
        News::Failed { cause, voice: Voice::Ours }
    };
    let again = |first: &Dsn, news: News| {
        let header = Bytes::from(first.content.clone());
        let loaded = Loaded { accepted: first.accepted.clone(), header };
        Story { loaded, items: Vec::new(), postmaster: None, aliases: None }.with([news]).dsn()
    };
    assert_eq!(again(&first, lacks((5, 1, 1))), None);
    let second = again(&first, lacks((5, 6, 3))).expect("it is made anew");
    let text = String::from_utf8(second.content.clone()).unwrap();
    assert!(text.contains("\r\nContent-Type: text/rfc822-headers\r\n"), "{text}");
    assert!(text.contains("Final-Recipient: rfc822; u@other.example\r\n"), "{text}");
    assert!(merpati_mail::transfer::seven_bit(&second.content).is_ok(), "{text}");
    assert_eq!(again(&second, lacks((5, 6, 3))), None, "once");
}

/// RFC 2852 §4: a hand-over that is owed is told unless nothing is.
#[test]
fn a_hand_over_that_is_owed_is_told_unless_nothing_is_to_be() {
    let on_failure = Notify::On { delay: false, failure: true, success: false };
    for (notify, want) in [(None, true), (Some(on_failure), true), (Some(Notify::Never), false)] {
        let owed = News::Relayed { reply: Reply::bare(250, "ok"), remote: None, is_owed: true };
        let report = story("a@ours.example", &[("u@other.example", notify)]).with([owed]).dsn();
        assert_eq!(report.is_some(), want, "{notify:?}");
    }
}

#[test]
fn whom_a_report_has_no_room_for_is_counted() {
    let addresses: Vec<String> =
        (0..4_000).map(|n| format!("{n}{}@{}.example", "x".repeat(60), "y".repeat(60))).collect();
    let to: Vec<(&str, Option<Notify>)> = addresses.iter().map(|a| (a.as_str(), None)).collect();
    let text = story("a@ours.example", &to).with(addresses.iter().map(|_| unknown())).text();
    let named = text.matches("Final-Recipient: ").count();
    assert!(named < 4_000);
    let told = format!("The part of this report for programs names the first {named} of 4000.");
    assert!(text.contains(&told), "{named}");
    assert!(text.len() < 1 << 20);
}

#[test]
fn a_report_to_an_alias_of_ours_goes_to_whom_it_stands_for() {
    let target = |text: &str| alias::Target {
        to: alias::To::Address(Mailbox::parse(text).unwrap()),
        is_final: false,
    };
    let entry = |named: &str, targets: &[&str]| alias::Entry {
        key: alias::Key::Address(Mailbox::parse(named).unwrap()),
        targets: targets.iter().map(|text| target(text)).collect(),
        access: alias::Access::Anybody,
        origin: "aliases:1".into(),
    };
    let site = alias::Site {
        ours: [Domain::parse("ours.example").unwrap()].into(),
        hostname: Domain::parse("mx.ours.example").unwrap(),
        known: None,
        separator: None,
    };
    let entries = vec![
        entry("info@ours.example", &["ani@ours.example", "budi@far.example"]),
        entry("pm@ours.example", &["ani@ours.example"]),
    ];
    let aliases = Some(Arc::new(Aliases::new(entries, site).unwrap()));
    let to = |dsn: &Dsn| -> Vec<String> {
        dsn.accepted.envelope.recipients.iter().map(|one| one.path.to_string()).collect()
    };
    let mut first = story("info@ours.example", &[("u@x.example", None)]).with([unknown()]);
    first.aliases.clone_from(&aliases);
    let dsn = first.dsn().unwrap();
    assert_eq!(to(&dsn), ["<ani@ours.example>", "<budi@far.example>"]);
    let head = String::from_utf8(dsn.content.clone()).unwrap();
    assert!(head.contains("To: <info@ours.example>\r\n"), "{head}");
    // One of them fails, and so does the other: the postmaster is an alias as well.
    let mut double = story("", &[]);
    double.loaded = as_message(dsn);
    double.postmaster = Some(Mailbox::parse("pm@ours.example").unwrap());
    double.aliases = aliases;
    let double = double.with([unknown(), unknown()]);
    assert_eq!(to(&double.dsn().unwrap()), ["<ani@ours.example>"]);
}

#[test]
fn a_report_on_what_was_forwarded_goes_to_who_sent_it_and_not_to_ourselves() {
    let ours = Domain::parse("ours.example").unwrap();
    let srs = Srs::new(ours.clone(), Arc::new(Mixed(1)));
    let sender = Mailbox::parse("a@b.example").unwrap();
    let Forwarded::As(address) = srs.forwarded(&sender, Time::EPOCH) else { panic!() };
    let hostname = Domain::parse("mx.ours.example").unwrap();
    let site = alias::Site { ours: [ours].into(), hostname, known: None, separator: None };
    let aliases = Aliases::new(Vec::new(), site).unwrap().with_srs(srs);
    let aliases = Some(Arc::new(aliases));
    for (from, want) in [
        (address.to_string(), "<a@b.example>"),
        // What is not ours leads to nobody.
        ("SRS0=x=AA=b.example=a@ours.example".to_owned(), "<SRS0=x=AA=b.example=a@ours.example>"),
    ] {
        let mut story = story(&from, &[("u@x.example", None)]).with([unknown()]);
        story.aliases.clone_from(&aliases);
        let dsn = story.dsn().unwrap();
        let [recipient] = &dsn.accepted.envelope.recipients[..] else { panic!("{dsn:?}") };
        assert_eq!(recipient.path.to_string(), want);
        let head = String::from_utf8(dsn.content).unwrap();
        assert!(head.contains(&format!("To: {want}\r\n")), "{head}");
    }
}

#[test]
fn who_asked_for_success_is_told_that_an_alias_was_expanded() {
    let success = Some(Notify::On { delay: false, failure: false, success: true });
    let told = |notify| {
        story("a@b.example", &[("info@ours.example", notify)]).with([News::Expanded]).dsn()
    };
    assert_eq!(told(None), None);
    assert_eq!(told(Some(Notify::Never)), None);
    let text = String::from_utf8(told(success).unwrap().content).unwrap();
    for part in [
        "Subject: Your message was handed on\r\n",
        "goes on to everybody",
        "Final-Recipient: rfc822; info@ours.example\r\nAction: expanded\r\nStatus: 2.0.0\r\n",
    ] {
        assert!(text.contains(part), "{text}\nlacks {part}");
    }
    assert!(!text.contains("Diagnostic-Code"), "nobody said anything: {text}");
}
