//! What is decided about a message when all of it is there.

use std::collections::{BTreeMap, BTreeSet};

use merpati_mail::{
    BodyType, NodeId, Origin, Peer, Protocol, Recipient, ReversePath,
    envelope::Utf8,
    route::{Endpoint, HostPort},
};

use super::*;
use crate::{
    admit::{Senders, Strangers},
    route::{Condition, Rule},
};

fn domain(text: &str) -> Domain {
    Domain::parse(text).unwrap()
}

fn policy(kind: ListenerKind) -> Policy {
    let port = HostPort { host: domain("store.example"), port: 24 };
    let lmtp = Rule {
        name: "store".into(),
        when: vec![Condition::RecipientDomain(vec![domain("store.example")])],
        then: NextHop::Lmtp(Endpoint::Tcp(port)),
        attempts_max: None,
    };
    Policy {
        kind,
        local_domains: BTreeSet::new(),
        networks: vec!["192.0.2.0/24".parse().unwrap()],
        senders: BTreeMap::from([("ani".to_owned(), Senders::Any)]),
        size_bytes_max: 1_000,
        vouched_domains: [].into(),
        hops_max: 100,
        strangers: Strangers::default(),
        aliases: None,
        internal_domains: [].into(),
        confined: [].into(),
        contents: Rules { router: Router { rules: vec![lmtp] }, ..Rules::default() },
    }
}

fn envelope(peer: &str, recipients: &[&str], kind: ListenerKind) -> Envelope {
    let to = |a: &&str| Recipient::new(ForwardPath::Mailbox(Mailbox::parse(a).unwrap()));
    Envelope {
        reverse_path: ReversePath(Mailbox::parse("ani@ours.example").ok()),
        recipients: recipients.iter().map(to).collect(),
        body: BodyType::SevenBit,
        utf8: Utf8::NotDeclared,
        ret: None,
        envid: None,
        requests: merpati_mail::Requests::default(),
        origin: Origin {
            listener: "mx".to_owned(),
            peer: Some(Peer {
                address: format!("{peer}:1").parse().unwrap(),
                hello: "c".to_owned(),
                name: None,
            }),
            credential: (kind == ListenerKind::Submission).then(|| "ani".to_owned()),
            protocol: Protocol::Esmtp,
            tls: None,
            received_at: Time::EPOCH,
        },
    }
}

/// What is sent on below our Received field, or the rule of the refusal.
fn taken(policy: &Policy, envelope: &Envelope, content: &str, longest_line_octets: u64) -> String {
    let hostname = domain("mx.ours.example");
    let id = QueueId::new(NodeId::default(), 1, 1);
    let at = Time::EPOCH;
    let taking = Taking {
        policy,
        hostname: &hostname,
        envelope,
        id,
        original: (id, &envelope.reverse_path),
        at,
        longest_line_octets,
        provenance: None,
    };
    let head = Head::of(content.as_bytes(), content.len() as u64);
    let edits = match decide(&taking, &head) {
        Ok(edits) => edits,
        Err(refused) => return refused.rule.into_owned(),
    };
    let sent: Vec<u8> = edits.slices(content.as_bytes()).flatten().copied().collect();
    let sent = String::from_utf8(sent).unwrap();
    let received = trace::received(&hostname, envelope, id, at);
    sent.strip_prefix(&received).unwrap().to_owned()
}

const STRANGER: &str = "198.51.100.7";

#[track_caller]
fn check_relayed(content: &str, want: &str) {
    let (policy, kind) = (policy(ListenerKind::Relay), ListenerKind::Relay);
    let envelope = envelope(STRANGER, &["u@ours.example"], kind);
    assert_eq!(taken(&policy, &envelope, content, 0), want, "{content:?}");
}

#[test]
fn mail_that_is_passed_on_keeps_its_octets() {
    for content in [
        "",
        "\r\n",
        "\r\nbody\r\n",
        "Subject: x\r\n\r\nno From, no Date\r\n",
        "Return-Path: <a@b>\r\nBcc: c@d\r\nTo: a@b\r\nTo: c@d\r\nDate: x\r\nDate: y\r\n\r\n",
        "A:b\r\n \t\r\nC : d\r\n\r\n.\r\n..\r\nFrom: x\r\nFrom: y\r\n",
        "From: Foo, Inc. <a@b>\r\n\r\n",
        "From:\r\n\r\n",
        "From: a@b, c@b\r\n\r\n",
        "To : a@b\r\n\r\n",
        "From a@b Thu Jan 1\r\nFrom: a@b\r\n\r\n",
        "From: a@b\r\njunk\r\nX: y\r\n\r\nFrom: c@d\r\n",
        "Authentication-Results: mx.ours.example.evil; none\r\n\r\n",
        "ARC-Authentication-Results: i=1; mx.ours.example; none\r\n\r\n",
        "Received-SPF: pass\r\nX-Authentication-Results: mx.ours.example; none\r\n\r\n",
        "Delivered-To: u@ours.example\r\n\r\n",
        "Subject: J\u{f6}rg\r\n\r\n\u{e9}\r\n",
    ] {
        check_relayed(content, content);
    }
    // A body without header does not become one.
    for body in ["hello\r\n", "hello\r\nFrom: a\r\nFrom: b\r\n", ": x\r\n", "\u{1}\u{2}\u{3}"] {
        check_relayed(body, &format!("\r\n{body}"));
    }
}

#[test]
fn a_relay_asks_of_from_what_it_is_told_to_ask() {
    let mut policy = policy(ListenerKind::Relay);
    let envelope = envelope(STRANGER, &["u@ours.example"], ListenerKind::Relay);
    for (header, one, readable) in [
        ("From: a@b\r\n", "", ""),
        ("Subject: x\r\n", "", ""),
        ("From: a@b, c@B\r\n", "", ""),
        ("From: a@b, c@d\r\n", "from-repeated", ""),
        ("From : a@b\r\n", "from-unreadable", ""),
        ("From: a@b\r\nFrom: a@b\r\n", "from-repeated", "from-repeated"),
        ("From: a@b\r\nX: y\r\nfrom : c@d\r\n", "from-repeated", "from-repeated"),
        ("From: a@b\r\njunk\r\nFrom: c@d\r\n", "from-repeated", "from-repeated"),
        ("From x\r\nFrom: a@b\r\nFrom: c@d\r\n", "from-repeated", "from-repeated"),
        ("From:\r\n", "", "from-unreadable"),
        ("From: Foo, Inc. <a@b>\r\n", "", "from-unreadable"),
        ("From: team:;\r\n", "from-unreadable", "from-unreadable"),
        ("From: team: a@b;\r\n", "from-unreadable", "from-unreadable"),
        ("From: =?utf-8?q?boss=40bank.example?= <a@b>\r\n", "from-disguised", "from-disguised"),
        ("Subject: x\r\njunk\r\nFrom: a@b\r\nFrom: c@d\r\n", "from-repeated", "from-repeated"),
    ] {
        let content = format!("{header}\r\nhi\r\n");
        for (rule, want) in
            [(FromRule::Any, ""), (FromRule::One, one), (FromRule::Readable, readable)]
        {
            policy.contents.from = rule;
            let want = if want.is_empty() { &content } else { want };
            assert_eq!(taken(&policy, &envelope, &content, 0), want, "{rule:?} {header:?}");
        }
    }
}

#[test]
fn results_in_our_name_are_removed_where_strangers_bring_them() {
    let ours = "Authentication-Results: mx.ours.example; spf=pass\r\n";
    let folded = "authentication-results :\r\n (x) MX.ours.EXAMPLE 1;\r\n\tdkim=pass\r\n";
    let second = "Authentication-Results: filter.ours.example; none\r\n";
    let other = "Authentication-Results: mx.other.example; spf=pass\r\n";
    let content = format!("{ours}A: b\r\n{other}{folded}{second}{ours}\r\n{ours}");
    let left = format!("A: b\r\n{other}{second}\r\n{ours}");
    check_relayed(&content, &left);
    // A line that is no field hides nothing behind it, but the first empty line ends the header.
    let content = format!("A: b\r\nX y\r\n{ours}{other}junk\r\n{folded}\r\n{ours}");
    let left = format!("A: b\r\nX y\r\n{other}junk\r\n\r\n{ours}");
    check_relayed(&content, &left);
    let content = format!("A: b\r\n{ours}A: b\r\n{other}{folded}{second}{ours}\r\n{ours}");
    let left = format!("A: b\r\nA: b\r\n{other}{second}\r\n{ours}");
    let mut policy = policy(ListenerKind::Relay);
    policy.contents.authserv_ids = vec![domain("filter.ours.example")];
    let left = left.replace(second, "");
    for (peer, want) in [(STRANGER, &left), ("192.0.2.9", &content)] {
        let envelope = envelope(peer, &["u@ours.example"], ListenerKind::Relay);
        assert_eq!(&taken(&policy, &envelope, &content, 0), want, "{peer}");
    }
    policy.kind = ListenerKind::Submission;
    let envelope = envelope(STRANGER, &["u@ours.example"], ListenerKind::Submission);
    let whole = "From: ani@ours.example\r\nDate: 1 Jan 2025 00:00 GMT\r\nMessage-ID: <a@b>\r\n";
    let sent = taken(&policy, &envelope, &format!("{whole}{content}"), 0);
    assert_eq!(sent, format!("{whole}{left}"));
}

#[test]
fn what_was_delivered_to_its_mailbox_before_goes_round() {
    let policy = policy(ListenerKind::Relay);
    let content = "Delivered-To: <U@Store.example>\r\nX-Loop: v@store.example\r\n\r\n";
    for (recipients, is_round) in [
        (&["u@store.example"][..], true),
        (&["u@store.example", "v@store.example"], true),
        // The others still get it; the delivery to this one fails.
        (&["u@store.example", "w@store.example"], false),
        (&["w@store.example"], false),
        (&["u@ours.example"], false),
    ] {
        let envelope = envelope(STRANGER, recipients, ListenerKind::Relay);
        let want = if is_round { "delivered-before" } else { content };
        assert_eq!(taken(&policy, &envelope, content, 0), want, "{recipients:?}");
    }
    let head = content.as_bytes();
    assert!(!was_delivered(head, &ForwardPath::Postmaster));
    let target = |a: &str| ForwardPath::Mailbox(Mailbox::parse(a).unwrap());
    assert!(was_delivered(head, &target("u@store.example")));
    assert!(!was_delivered(b"\r\nDelivered-To: u@store.example\r\n", &target("u@store.example")));
    assert!(!was_delivered(b"Delivered-To: u\r\n", &target("u@store.example")));
}

#[test]
fn lines_above_the_limit_are_refused_where_there_is_one() {
    let mut policy = policy(ListenerKind::Relay);
    let envelope = envelope(STRANGER, &["u@ours.example"], ListenerKind::Relay);
    assert!(!policy.asks_for_lines());
    policy.contents.line_octets_max = Some(998);
    assert!(policy.asks_for_lines());
    assert_eq!(taken(&policy, &envelope, "\r\nx", 998), "\r\nx");
    assert_eq!(taken(&policy, &envelope, "\r\nx", 999), "line-too-long");
    policy.kind = ListenerKind::Sandbox;
    assert_eq!(taken(&policy, &envelope, "\r\nx", 999), "\r\nx");
    assert!(!policy.asks_for_repair(b"A: b\r\njunk\r\n", 999));
    policy.kind = ListenerKind::Submission;
    assert!(policy.asks_for_repair(b"", 999) && policy.asks_for_repair(b"A: b\r\njunk\r\n", 0));
    assert!(!policy.asks_for_repair(b"A: b\r\n\r\njunk\r\n", 998));
}

#[test]
fn the_parts_of_a_divided_message_have_one_author_and_one_name() {
    let policy = policy(ListenerKind::Submission);
    let given = envelope(STRANGER, &["team@ours.example"], ListenerKind::Submission);
    let owner = Mailbox::parse("owner-team@ours.example").unwrap();
    let part = Envelope { reverse_path: ReversePath(Some(owner)), ..given.clone() };
    let hostname = domain("mx.ours.example");
    let content = "Subject: x\r\n\r\nbody\r\n";
    let head = Head::of(content.as_bytes(), content.len() as u64);
    let first = QueueId::new(NodeId::default(), 1, 1);
    for (envelope, id) in [(&given, first), (&part, QueueId::new(NodeId::default(), 1, 2))] {
        let taking = Taking {
            policy: &policy,
            hostname: &hostname,
            envelope,
            id,
            original: (first, &given.reverse_path),
            at: Time::EPOCH,
            longest_line_octets: 0,
            provenance: None,
        };
        let edits = decide(&taking, &head).unwrap();
        let added = String::from_utf8(edits.prepend.clone()).unwrap();
        for field in [
            format!("Message-ID: <{first}@mx.ours.example>\r\n"),
            "From: ani@ours.example\r\n".to_owned(),
            format!(" id {id}"),
        ] {
            assert!(added.contains(&field), "{added}\nlacks {field}");
        }
    }
}
