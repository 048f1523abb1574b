use merpati_mail::{BodyType, Requests, envelope::Utf8};

use super::*;

fn policy(kind: ListenerKind) -> Policy {
    let address = |text| Sender::Address(Mailbox::parse(text).unwrap());
    let shop = Sender::Domain(Domain::parse("shop.example").unwrap());
    let senders = [address("Ani@ours.example"), shop];
    Policy {
        kind,
        local_domains: [Domain::parse("ours.example").unwrap()].into(),
        networks: vec!["192.0.2.0/24".parse().unwrap()],
        senders: BTreeMap::from([
            ("any".to_owned(), Senders::of([Sender::Any])),
            ("shop".to_owned(), Senders::of(senders)),
        ]),
        vouched_domains: [Domain::parse("ours.example").unwrap()].into(),
        aliases: None,
        internal_domains: BTreeSet::new(),
        confined: BTreeSet::new(),
        size_bytes_max: 1_000,
        hops_max: 100,
        strangers: Strangers::default(),
        contents: content::Rules::default(),
    }
}

#[test]
fn relay_control_is_closed_by_default() {
    for (kind, peer, credential, rcpt, rule) in [
        (ListenerKind::Relay, "198.51.100.7", None, "<u@ours.example>", "local-domain"),
        (ListenerKind::Relay, "198.51.100.7", None, "<u@OURS.example>", "local-domain"),
        (ListenerKind::Relay, "198.51.100.7", None, "<u@sub.ours.example>", "relay-denied"),
        (ListenerKind::Relay, "198.51.100.7", None, "<u@evilours.example>", "relay-denied"),
        (ListenerKind::Relay, "198.51.100.7", None, "<u@other.example>", "relay-denied"),
        (ListenerKind::Relay, "198.51.100.7", None, "<u@[192.0.2.1]>", "relay-denied"),
        (ListenerKind::Relay, "198.51.100.7", None, "<postmaster>", "postmaster"),
        (ListenerKind::Relay, "192.0.2.255", None, "<u@other.example>", "relay-network"),
        (ListenerKind::Relay, "::ffff:192.0.2.9", None, "<u@other.example>", "relay-network"),
        (ListenerKind::Relay, "198.51.100.7", Some("p"), "<u@other.example>", "authenticated"),
        (ListenerKind::Sandbox, "198.51.100.7", None, "<u@other.example>", "sandbox"),
        (ListenerKind::Submission, "192.0.2.1", None, "<u@other.example>", "relay-denied"),
        (ListenerKind::Submission, "192.0.2.1", None, "<u@ours.example>", "relay-denied"),
        (ListenerKind::Submission, "192.0.2.1", Some("p"), "<u@o.example>", "authenticated"),
    ] {
        let peer_at = peer.parse().unwrap();
        let room = Room::Roomy;
        let facts = Facts { peer: peer_at, credential, room, reverse_path: None, now: Time::EPOCH };
        let utf8 = address::Utf8Rule::AsciiOnly;
        let (path, _) = ForwardPath::parse_prefix(rcpt, utf8).unwrap();
        let stage = Stage::Recipient { path, accepted_before: 0 };
        let verdict = decide(&policy(kind), &facts, &stage);
        assert_eq!(verdict.rule, rule, "{peer} {rcpt}");
        let refused = matches!(verdict.decision, Decision::Refuse(_));
        assert_eq!(refused, rule == "relay-denied", "{peer} {rcpt}");
    }
}

#[test]
fn who_may_send_as_somebody_is_not_nobody() {
    let address = || Sender::Address(Mailbox::parse("ani@ours.example").unwrap());
    let domain = || Sender::Domain(Domain::parse("shop.example").unwrap());
    assert!(Senders::of([]).are_none());
    assert!(!Senders::of([address()]).are_none());
    assert!(!Senders::of([domain()]).are_none());
    assert!(!Senders::of([Sender::Any]).are_none());
}

#[test]
fn a_network_is_shown_as_it_is_written_and_a_mistake_says_where() {
    for text in ["192.0.2.0/24", "2001:db8::/32", "0.0.0.0/0"] {
        assert_eq!(text.parse::<Network>().unwrap().to_string(), text);
    }
    for (text, word) in [
        ("x/8", "begins with an IP address"),
        ("192.0.2.1/24", "behind its prefix"),
        ("192.0.2.0/33", "up to 32"),
    ] {
        let why = text.parse::<Network>().unwrap_err().to_string();
        assert!(why.contains(word), "{text}: {why}");
    }
}

#[test]
fn our_own_networks_are_not_held_responsible() {
    let policy = policy(ListenerKind::Submission);
    for (address, want) in [("192.0.2.7", false), ("198.51.100.7", true)] {
        assert_eq!(policy.is_responsible(address.parse().unwrap()), want, "{address}");
    }
}

#[test]
fn a_credential_is_known_where_it_may_send_as_somebody() {
    let mut policy = policy(ListenerKind::Submission);
    policy.senders.insert("Off@ours.example".to_owned(), Senders::of([]));
    for (name, want) in [
        ("any", true),
        ("shop", true),
        ("nobody", false),
        ("somebody@ours.example", true),
        ("somebody@other.example", false),
        ("Off@ours.example", false),
        ("off@ours.example", false),
    ] {
        assert_eq!(policy.knows(name), want, "{name}");
    }
}

#[test]
fn of_a_long_content_the_header_and_a_little_more_are_looked_at() {
    let header = "A: b\r\n".repeat(100);
    for (body, want) in
        [(10, header.len() + 2 + 10), (1 << 20, header.len() + 2 + BEHIND_HEADER_OCTETS)]
    {
        let content = format!("{header}\r\n{}", "x".repeat(body));
        assert_eq!(Head::octets_needed(content.as_bytes()), want);
    }
    let endless = "A: b\r\n".repeat(100_000);
    assert_eq!(Head::octets_needed(endless.as_bytes()), HEADER_OCTETS_MAX);
}

#[test]
fn mail_is_refused_while_there_is_no_room() {
    for (room, size_bytes, rule) in [
        (Room::Roomy, None, "sender"),
        (Room::Roomy, Some(1_000), "sender"),
        (Room::Roomy, Some(1_001), "message-size"),
        (Room::Full, Some(1), "spool-full"),
        (Room::Poisoned, None, "storage-trouble"),
    ] {
        let peer = Ipv4Addr::LOCALHOST.into();
        let facts = Facts { peer, credential: None, room, reverse_path: None, now: Time::EPOCH };
        let null = ReversePath(None);
        let verdict = mail(&policy(ListenerKind::Relay), &facts, &null, size_bytes);
        assert_eq!(verdict.rule, rule);
    }
}

#[test]
fn a_credential_sends_only_as_its_own_addresses() {
    use ListenerKind::{Relay, Sandbox, Submission};
    let (own, other) = ("ani@ours.example", "boss@ours.example");
    let unknown = Err((553, "credential-unknown"));
    for (kind, credential, sender, want) in [
        (Submission, Some("shop"), own, Ok(())),
        (Submission, Some("shop"), "ANI@Ours.example", Ok(())),
        (Submission, Some("shop"), "any.body@shop.example", Ok(())),
        (Submission, Some("shop"), "a@sub.shop.example", Err((553, "sender-not-allowed"))),
        (Submission, Some("shop"), "a@evilshop.example", Err((553, "sender-not-allowed"))),
        (Submission, Some("shop"), "ani+x@ours.example", Err((553, "sender-not-allowed"))),
        (Submission, Some("shop"), other, Err((553, "sender-not-allowed"))),
        (Submission, Some("shop"), "", Ok(())),
        (Submission, Some("any"), other, Ok(())),
        (Submission, Some("unknown"), own, Err((553, "credential-unknown"))),
        (Relay, Some("unknown"), "", Err((553, "credential-unknown"))),
        (Submission, Some("Ani@ours.example"), own, Ok(())),
        (Submission, Some(own), other, Err((553, "sender-not-allowed"))),
        (Submission, Some(own), "", Ok(())),
        (Submission, Some("ani@other.example"), "ani@other.example", unknown),
        (Submission, None, own, Err((530, "auth-required"))),
        (Submission, None, "", Err((530, "auth-required"))),
        (Relay, Some("shop"), other, Err((553, "sender-not-allowed"))),
        (Relay, None, other, Ok(())),
        (Sandbox, Some("shop"), other, Ok(())),
    ] {
        let (peer, room) = (Ipv4Addr::LOCALHOST.into(), Room::Roomy);
        let facts = Facts { peer, credential, room, reverse_path: None, now: Time::EPOCH };
        let stage = Stage::Mail {
            reverse_path: ReversePath(Mailbox::parse(sender).ok()),
            size_bytes: None,
            body: BodyType::SevenBit,
            utf8: Utf8::NotDeclared,
            requests: Requests::default(),
        };
        let verdict = decide(&policy(kind), &facts, &stage);
        assert_eq!(said(&verdict), want, "{kind:?} {credential:?} <{sender}>");
    }
}

#[test]
fn a_stranger_does_not_go_before_others_and_may_step_back() {
    use ListenerKind::{Relay, Sandbox, Submission};
    let stranger = "198.51.100.7";
    for (kind, peer, credential, asked, want) in [
        (Relay, stranger, None, Some(9), Some(0)),
        (Relay, stranger, None, Some(1), Some(0)),
        (Relay, stranger, None, Some(0), None),
        (Relay, stranger, None, Some(-9), None),
        (Relay, stranger, None, None, None),
        (Relay, "192.0.2.7", None, Some(9), None),
        (Relay, stranger, Some("any"), Some(9), None),
        (Submission, stranger, Some("any"), Some(9), None),
        (Sandbox, stranger, None, Some(9), None),
    ] {
        let (peer, room) = (peer.parse().unwrap(), Room::Roomy);
        let facts = Facts { peer, credential, room, reverse_path: None, now: Time::EPOCH };
        let requests = Requests { priority: asked.and_then(Priority::new), ..Requests::default() };
        let stage = Stage::Mail {
            reverse_path: ReversePath(Mailbox::parse("ani@ours.example").ok()),
            size_bytes: None,
            body: BodyType::SevenBit,
            utf8: Utf8::NotDeclared,
            requests,
        };
        let lowered = want.and_then(Priority::new).map(Decision::AcceptLowered);
        let decision = decide(&policy(kind), &facts, &stage).decision;
        assert_eq!(decision, lowered.unwrap_or(Decision::Accept), "{kind:?} {peer} {asked:?}");
    }
}

/// The code and the rule of a refusal.
fn said(verdict: &Verdict) -> Result<(), (u16, &str)> {
    match &verdict.decision {
        Decision::Accept | Decision::AcceptLowered(_) => Ok(()),
        Decision::Disconnect(reply) | Decision::Refuse(reply) => Err((reply.code, &*verdict.rule)),
    }
}

#[test]
fn everybody_in_from_is_one_as_whom_the_credential_may_send() {
    let denied = Err((550, "from-not-allowed"));
    let unreadable = Err((550, "from-unreadable"));
    let not_sender = Err((550, "sender-field-not-allowed"));
    for (header, want) in [
        ("From: Ani <ani@ours.example>\r\n", Ok(())),
        ("From: a@shop.example, Ani <ani@OURS.example>\r\n", Ok(())),
        ("Subject: no From\r\n", Ok(())),
        ("From: team:;\r\n", Ok(())),
        ("From: boss@ours.example\r\n", denied),
        ("from : boss@ours.example\r\n", denied),
        ("From:\r\n boss@ours.example\r\n", denied),
        ("From: ani@ours.example, boss@ours.example\r\n", denied),
        ("From: \"ani@ours.example\" <boss@ours.example>\r\n", denied),
        ("From: ani@ours.example\r\nFrom: boss@ours.example\r\n", denied),
        ("From: team: ani@ours.example, boss@ours.example;\r\n", denied),
        ("From: ani@ours.example <boss@ours.example\r\n", unreadable),
        ("From: ani\r\n", unreadable),
        ("Subject: x\r\nno field\r\nFrom: boss@ours.example\r\n", denied),
        (" a fold\r\nFrom: boss@ours.example\r\n", denied),
        ("From: ani@ours.example\r\n\r\nFrom: boss@ours.example\r\n", Ok(())),
        ("From: ani@ours.example\r\nSender: ani@ours.example\r\n", Ok(())),
        ("From: ani@ours.example, a@shop.example\r\nSender: a@shop.example\r\n", Ok(())),
        ("From: ani@ours.example\r\nSender: boss@ours.example\r\n", not_sender),
        ("Sender: boss@ours.example\r\n", not_sender),
        ("Sender: Boss\r\n", Err((550, "sender-field-unreadable"))),
    ] {
        let message = format!("{header}\r\nbody\r\n");
        let head = Head::of(message.as_bytes(), message.len() as u64);
        let by = |kind, credential| {
            said(&content(&policy(kind), credential, &head))
                .map_err(|(code, rule)| (code, rule.to_owned()))
        };
        let want = want.map_err(|(code, rule): (u16, &str)| (code, rule.to_owned()));
        assert_eq!(by(ListenerKind::Submission, Some("shop")), want, "{header}");
        assert_eq!(by(ListenerKind::Relay, Some("shop")), want, "{header}");
        assert_eq!(by(ListenerKind::Submission, Some("any")), Ok(()), "{header}");
        assert_eq!(by(ListenerKind::Relay, None), Ok(()), "{header}");
        assert_eq!(by(ListenerKind::Sandbox, Some("shop")), Ok(()), "{header}");
    }
}

#[test]
fn a_header_beyond_what_is_looked_at_is_refused_only_where_it_matters() {
    use ListenerKind::{Relay, Submission};
    let long = format!("From: ani@ours.example\r\nX: {}", "x\r\n ".repeat(80_000));
    let no_end = format!("From: ani@ours.example\r\njunk\r\n{}", "junk\r\n".repeat(80_000));
    let body = format!("From: ani@ours.example\r\n\r\n{}", "line\r\n".repeat(80_000));
    let room = HEADER_OCTETS_MAX - "X: \r\nBc".len();
    let cut_name = format!("X: {}\r\nBcc: hidden@ours.example\r\n\r\n", "x".repeat(room));
    let refused = Err((552, "header-too-long"));
    for (name, message, kind, credential, want) in [
        ("long", &long, Submission, Some("shop"), refused),
        ("long", &long, Submission, Some("any"), refused),
        ("long", &long, Relay, Some("shop"), refused),
        ("long", &long, Relay, Some("any"), Ok(())),
        ("long", &long, Relay, None, Ok(())),
        ("no end", &no_end, Submission, Some("shop"), refused),
        ("no end", &no_end, Submission, Some("any"), Ok(())),
        ("cut name", &cut_name, Submission, Some("any"), refused),
        ("body", &body, Submission, Some("shop"), Ok(())),
    ] {
        let head = Head::of(message.as_bytes(), message.len() as u64);
        let verdict = content(&policy(kind), credential, &head);
        assert_eq!(said(&verdict), want, "{name} {kind:?} {credential:?}");
    }
    for message in ["", "\r\n", "body\r\n", "From: ani@ours.example", "\n"] {
        let head = Head::of(message.as_bytes(), message.len() as u64);
        let verdict = content(&policy(Submission), Some("shop"), &head);
        assert_eq!(said(&verdict), Ok(()), "{message:?}");
    }
}

#[test]
fn a_message_that_goes_round_is_refused_by_a_relay() {
    let message = |n: usize| "Received: from a by b\r\n".repeat(n) + "\r\nhello\r\n";
    for (kind, hops, rule) in [
        (ListenerKind::Relay, 100, "content"),
        (ListenerKind::Relay, 101, "too-many-hops"),
        (ListenerKind::Submission, 101, "too-many-hops"),
        (ListenerKind::Sandbox, 101, "sandbox"),
    ] {
        let message = message(hops);
        let head = Head::of(message.as_bytes(), message.len() as u64);
        assert_eq!(content(&policy(kind), None, &head).rule, rule, "{kind:?} {hops}");
    }
}

#[test]
fn networks_are_read_and_matched() {
    for (text, inside, outside) in [
        ("0.0.0.0/0", "203.0.113.1", "::1"),
        ("10.0.0.0/8", "10.255.0.1", "11.0.0.0"),
        ("192.0.2.1", "192.0.2.1", "192.0.2.2"),
        ("2001:db8::/32", "2001:db8:1::1", "2001:db9::"),
        ("::/0", "2001:db8::", "192.0.2.1"),
    ] {
        let network: Network = text.parse().unwrap();
        assert!(network.contains(inside.parse().unwrap()), "{inside} in {text}");
        assert!(!network.contains(outside.parse().unwrap()), "{outside} in {text}");
    }
    for (text, why) in [
        ("ours", NetworkError::Address),
        ("10.0.0.0/33", NetworkError::Prefix),
        ("10.0.0.0/+8", NetworkError::Prefix),
        ("10.0.0.0/", NetworkError::Prefix),
        ("10.0.0.1/8", NetworkError::HostBits),
    ] {
        assert_eq!(text.parse::<Network>(), Err(why), "{text}");
    }
}
