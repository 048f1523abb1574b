//! Tables: who is asked about what, and what follows from each answer.
#![expect(clippy::wildcard_enum_match_arm, reason = "these worlds know one thing and no more")]

use std::collections::{BTreeMap, BTreeSet};

use merpati_mail::{BodyType, Requests, Time, address::Utf8Rule, envelope::Utf8};

use super::*;
use crate::admit::{
    Room,
    lists::ListAbout,
    recipients::{Known, KnownRecipient},
};

const STRANGER: &str = "203.0.113.7";

fn domain(text: &str) -> Domain {
    Domain::parse(text).unwrap()
}

fn list(name: &str, about: ListAbout, action: ListAction) -> List {
    let zone = domain(&format!("{name}.example"));
    List { name: name.into(), zone, about, codes: Vec::new(), action }
}

fn policy(kind: ListenerKind) -> Policy {
    let known = |text: &str| KnownRecipient::Address(Mailbox::parse(text).unwrap());
    Policy {
        kind,
        local_domains: BTreeSet::from([domain("ours.example")]),
        networks: vec!["192.0.2.0/24".parse().unwrap()],
        senders: BTreeMap::new(),
        size_bytes_max: 1_000,
        vouched_domains: [].into(),
        hops_max: 100,
        contents: crate::content::Rules::default(),
        aliases: None,
        internal_domains: [].into(),
        confined: [].into(),
        strangers: Strangers {
            names: Names::Public,
            sender_domain: SenderDomain::MustExist,
            lists: vec![
                list("bad", ListAbout::Client, ListAction::Refuse),
                list("odd", ListAbout::Client, ListAction::Note),
                list("spam", ListAbout::SenderDomain, ListAction::Refuse),
            ],
            greylisting: Greylisting::On,
            known: vec!["198.51.100.0/24".parse().unwrap()],
            recipients: Verification {
                known: Some(Arc::new(Known::of([known("u@ours.example")], Some('+')))),
                call_ahead: CallAhead::OrDefer,
            },
        },
    }
}

/// A step with every question answered by `world`; what was asked, in words, and the verdict.
fn walk(
    policy: &Policy,
    (peer, credential): (&str, Option<&str>),
    (sender, rcpt): (&str, Option<&str>),
    world: &dyn Fn(&Question) -> Answer,
) -> (Vec<String>, Verdict) {
    let reverse_path = ReversePath(Mailbox::parse(sender).ok());
    let facts = Facts {
        peer: peer.parse().unwrap(),
        credential,
        room: Room::Roomy,
        reverse_path: Some(&reverse_path),
        now: Time::EPOCH,
    };
    let stage = match rcpt {
        None => Stage::Mail {
            reverse_path: reverse_path.clone(),
            size_bytes: None,
            body: BodyType::SevenBit,
            utf8: Utf8::NotDeclared,
            requests: Requests::default(),
        },
        Some(rcpt) => Stage::Recipient {
            path: ForwardPath::parse_prefix(rcpt, Utf8Rule::AsciiOnly).unwrap().0,
            accepted_before: 0,
        },
    };
    let (mut answers, mut asked) = (Answers::default(), Vec::new());
    loop {
        match step(policy, &facts, &stage, &answers) {
            Step::Ask(questions) => {
                assert!(!questions.is_empty());
                for question in questions {
                    let name = match &question {
                        Question::Greylist(_) => "greylist".to_owned(),
                        Question::HostName(_) => "name".to_owned(),
                        Question::Listed { zone, .. } => zone.to_string(),
                        Question::MailDomain(domain) => format!("domain {domain}"),
                        Question::Recipient(mailbox) => format!("recipient {mailbox}"),
                        Question::Credential(_) | Question::Mx(_) => "what?".to_owned(),
                    };
                    assert!(!asked.contains(&name), "{name} is asked twice");
                    asked.push(name);
                    answers.add([(question.clone(), world(&question))]);
                }
            }
            Step::Verdict(verdict) => return (asked, verdict),
        }
    }
}

/// Nothing is known.
fn unknown(question: &Question) -> Answer {
    match question {
        Question::Greylist(_) => Answer::Greylist(GreylistAnswer::Unknown),
        Question::HostName(_) => Answer::HostName(HostNameAnswer::Unknown),
        Question::Listed { .. } => Answer::Listed(ListedAnswer::Unknown),
        Question::MailDomain(_) => Answer::MailDomain(MailDomainAnswer::Unknown),
        Question::Recipient(_) => Answer::Recipient(RecipientAnswer::Unknown),
        Question::Credential(_) | Question::Mx(_) => panic!("{question:?}"),
    }
}

fn said(verdict: &Verdict) -> String {
    match &verdict.decision {
        Decision::Accept | Decision::AcceptLowered(_) => "ok".to_owned(),
        Decision::Disconnect(reply) | Decision::Refuse(reply) => {
            let enhanced = reply.enhanced.unwrap();
            format!("{} {enhanced} {}", reply.code, verdict.rule)
        }
    }
}

#[test]
fn only_strangers_are_asked_about() {
    use ListenerKind::{Relay, Sandbox, Submission};
    let (mail, domain) = (["name", "domain a.example"], ["domain a.example"]);
    for (kind, peer, credential, want) in [
        (Relay, STRANGER, None, &mail[..]),
        (Relay, "10.1.2.3", None, &domain),
        (Relay, "127.0.0.1", None, &domain),
        (Relay, "::1", None, &domain),
        (Relay, "192.0.2.9", None, &[]),
        (Relay, "::ffff:192.0.2.9", None, &[]),
        (Relay, "198.51.100.9", None, &[]),
        (Relay, STRANGER, Some("ani"), &[]),
        (Submission, STRANGER, Some("ani"), &[]),
        (Sandbox, STRANGER, None, &[]),
    ] {
        let mut policy = policy(kind);
        let any = super::super::Senders::Any;
        policy.senders.insert("ani".to_owned(), any);
        let (asked, verdict) = walk(&policy, (peer, credential), ("a@a.example", None), &unknown);
        assert_eq!(asked, want, "{kind:?} {peer} {credential:?}");
        assert_eq!(said(&verdict), "ok", "{kind:?} {peer} {credential:?}");
    }
    let nothing = Policy { strangers: Strangers::default(), ..policy(Relay) };
    for rcpt in [None, Some("<u@ours.example>"), Some("<x@ours.example>")] {
        let (asked, _) = walk(&nothing, (STRANGER, None), ("a@a.example", rcpt), &unknown);
        assert!(asked.is_empty(), "{rcpt:?}");
    }
}

#[test]
fn what_begins_with_the_connection_is_the_name_and_the_lists_of_clients() {
    for (peer, kind, want) in [
        (STRANGER, ListenerKind::Relay, 3),
        ("127.0.0.1", ListenerKind::Relay, 2),
        ("192.0.2.9", ListenerKind::Relay, 1),
        (STRANGER, ListenerKind::Submission, 1),
        (STRANGER, ListenerKind::Sandbox, 0),
    ] {
        let facts = Facts {
            peer: peer.parse().unwrap(),
            credential: None,
            room: Room::Roomy,
            reverse_path: None,
            now: Time::EPOCH,
        };
        let asked = ahead(&policy(kind), &facts, &Stage::Connect);
        assert_eq!(asked.len(), want, "{peer} {kind:?}");
        let hello = Stage::Hello { name: "x".to_owned() };
        assert!(ahead(&policy(kind), &facts, &hello).is_empty(), "{peer} {kind:?}");
    }
}

#[test]
fn there_must_be_mail_for_the_domain_of_a_stranger() {
    use MailDomainAnswer::{Exists, NoHost, NoSuchDomain, NullMx, Trouble, Unknown};
    for (sender, answer, want) in [
        ("a@a.example", Exists, "ok"),
        ("a@a.example", NoHost, "550 5.1.8 sender-domain"),
        ("a@a.example", NoSuchDomain, "550 5.1.8 sender-domain"),
        ("a@a.example", NullMx, "550 5.7.27 sender-null-mx"),
        ("a@a.example", Trouble, "451 4.1.8 sender-domain-trouble"),
        ("a@a.example", Unknown, "ok"),
        // Nobody, ourselves, and who needs no DNS.
        ("", NoSuchDomain, "ok"),
        ("a@ours.example", NoSuchDomain, "ok"),
        ("a@[192.0.2.1]", NoSuchDomain, "ok"),
        // Never there, whatever a name server says.
        ("a@x.invalid", Exists, "550 5.1.8 sender-domain"),
        ("a@invalid", Exists, "550 5.1.8 sender-domain"),
        ("a@localhost", Exists, "550 5.1.8 sender-domain"),
        ("a@x.localhost", Exists, "550 5.1.8 sender-domain"),
        ("a@localhost.example", Exists, "ok"),
        ("a@notinvalid", Exists, "ok"),
    ] {
        let world = |question: &Question| match question {
            Question::MailDomain(_) => Answer::MailDomain(answer.clone()),
            other => unknown(other),
        };
        let policy = policy(ListenerKind::Relay);
        let (_, verdict) = walk(&policy, (STRANGER, None), (sender, None), &world);
        assert_eq!(said(&verdict), want, "{sender} {answer:?}");
        let trusted = walk(&policy, ("192.0.2.1", None), (sender, None), &world).1;
        assert_eq!(said(&trusted), "ok", "{sender} {answer:?}");
        let any = Strangers { sender_domain: SenderDomain::Any, ..policy.strangers.clone() };
        let policy = Policy { strangers: any, ..policy };
        let (_, verdict) = walk(&policy, (STRANGER, None), ("a@a.example", None), &world);
        assert_eq!(said(&verdict), "ok", "{sender} {answer:?}");
    }
}

#[test]
fn who_is_listed_reaches_nobody_but_the_postmaster() {
    let yes = |reason: Option<&str>| {
        let reason = reason.map(str::to_owned);
        Answer::Listed(ListedAnswer::Yes { codes: vec![[127, 0, 0, 2].into()], reason })
    };
    let policy = policy(ListenerKind::Relay);
    for (zone, peer, rcpt, want) in [
        ("bad.example", STRANGER, "<u@ours.example>", "550 5.7.1 list-bad"),
        ("spam.example", STRANGER, "<u@ours.example>", "550 5.7.1 list-spam"),
        ("odd.example", STRANGER, "<u@ours.example>", "ok"),
        ("bad.example", STRANGER, "<postmaster>", "ok"),
        ("bad.example", STRANGER, "<PostMaster@ours.example>", "ok"),
        ("bad.example", STRANGER, "<abuse@ours.example>", "ok"),
        ("bad.example", "192.0.2.1", "<u@ours.example>", "ok"),
        ("bad.example", "192.0.2.1", "<u@other.example>", "ok"),
        ("bad.example", "198.51.100.1", "<u@ours.example>", "ok"),
        ("bad.example", STRANGER, "<u@other.example>", "550 5.7.1 relay-denied"),
        ("bad.example", STRANGER, "<x@ours.example>", "550 5.7.1 list-bad"),
    ] {
        let world = |question: &Question| match question {
            Question::Listed { zone: asked, .. } if *asked == domain(zone) => yes(Some("spammer")),
            other => unknown(other),
        };
        let (_, verdict) = walk(&policy, (peer, None), ("a@a.example", Some(rcpt)), &world);
        assert_eq!(said(&verdict), want, "{zone} {peer} {rcpt}");
    }
    let reply = |answer: Answer| {
        let world = |question: &Question| match question {
            Question::Listed { .. } => answer.clone(),
            other => unknown(other),
        };
        let to = ("a@a.example", Some("<u@ours.example>"));
        match walk(&policy, (STRANGER, None), to, &world).1.decision {
            Decision::Refuse(reply) => reply.to_string(),
            other => panic!("{other:?}"),
        }
    };
    assert!(reply(yes(Some("spammer"))).ends_with("[203.0.113.7] is listed by bad: spammer"));
    assert!(reply(yes(None)).ends_with("[203.0.113.7] is listed by bad (127.0.0.2)"));
}

#[test]
fn the_lists_that_hit_are_named_for_the_log() {
    let policy = policy(ListenerKind::Relay);
    let facts = Facts {
        peer: STRANGER.parse().unwrap(),
        credential: None,
        room: Room::Roomy,
        reverse_path: None,
        now: Time::EPOCH,
    };
    let mut answers = Answers::default();
    let codes = vec![[127, 0, 0, 2].into()];
    let yes = Answer::Listed(ListedAnswer::Yes { codes, reason: None });
    for question in ahead(&policy, &facts, &Stage::Connect) {
        let answer = match &question {
            Question::Listed { zone, .. } if *zone == domain("odd.example") => yes.clone(),
            other => unknown(other),
        };
        answers.add([(question, answer)]);
    }
    answers.forget_transaction();
    assert_eq!(hits(&policy, &facts, &answers), [Arc::from("odd")]);
}

#[test]
fn a_recipient_that_does_not_exist_is_refused_at_once() {
    use RecipientAnswer::{Refused, Taken, Unknown};
    let ours = policy(ListenerKind::Relay);
    let (list, both, defers) = ("list", "both", "550 5.1.1 recipient-unknown");
    for (how, who, rcpt, answer, want) in [
        (list, None, "<u@ours.example>", Refused, "ok"),
        (list, None, "<u+x@ours.example>", Refused, "ok"),
        (list, None, "<x@ours.example>", Taken, defers),
        (list, Some("ani"), "<x@ours.example>", Taken, defers),
        (list, None, "<postmaster@ours.example>", Refused, "ok"),
        (list, None, "<postmaster>", Refused, "ok"),
        (list, Some("ani"), "<x@other.example>", Refused, "ok"),
        (both, None, "<u@ours.example>", Refused, "ok"),
        (both, None, "<x@ours.example>", Taken, "ok"),
        (both, None, "<x@ours.example>", Refused, defers),
        (both, None, "<x@ours.example>", Unknown, "451 4.3.0 recipient-unverified"),
        (both, Some("ani"), "<x@ours.example>", Unknown, "ok"),
        (both, Some("ani"), "<x@ours.example>", Refused, defers),
        (both, None, "<abuse@ours.example>", Refused, "ok"),
        ("accept", None, "<x@ours.example>", Unknown, "ok"),
        ("accept", None, "<x@ours.example>", Refused, defers),
    ] {
        let mut policy = ours.clone();
        policy.strangers.recipients.call_ahead = match how {
            "list" => CallAhead::Off,
            "accept" => CallAhead::OrAccept,
            _ => CallAhead::OrDefer,
        };
        let world = |question: &Question| match question {
            Question::Recipient(_) => Answer::Recipient(answer.clone()),
            other => unknown(other),
        };
        let (_, verdict) = walk(&policy, (STRANGER, who), ("a@a.example", Some(rcpt)), &world);
        assert_eq!(said(&verdict), want, "{how} {who:?} {rcpt} {answer:?}");
    }
}

#[test]
fn a_first_contact_waits_unless_it_is_refused_or_must_be_heard() {
    let waits = |question: &Question| match question {
        Question::Greylist(triplet) => {
            assert_eq!(triplet.network, "203.0.113.0".parse::<IpAddr>().unwrap());
            Answer::Greylist(GreylistAnswer::Waits { until: Time::EPOCH })
        }
        other => unknown(other),
    };
    let mut policy = policy(ListenerKind::Relay);
    policy.strangers.recipients = Verification::default();
    for (peer, sender, rcpt, want) in [
        (STRANGER, "a@a.example", "<u@ours.example>", "451 4.7.1 greylist"),
        (STRANGER, "", "<u@ours.example>", "ok"),
        (STRANGER, "a@a.example", "<postmaster@ours.example>", "ok"),
        (STRANGER, "a@a.example", "<postmaster>", "ok"),
        ("192.0.2.1", "a@a.example", "<u@ours.example>", "ok"),
        ("198.51.100.1", "a@a.example", "<u@ours.example>", "ok"),
        (STRANGER, "a@a.example", "<u@other.example>", "550 5.7.1 relay-denied"),
    ] {
        let (_, verdict) = walk(&policy, (peer, None), (sender, Some(rcpt)), &waits);
        assert_eq!(said(&verdict), want, "{peer} <{sender}> {rcpt}");
    }
    // It is not noted for who is refused anyway.
    let listed = |question: &Question| match question {
        Question::Listed { .. } => {
            let codes = vec![[127, 0, 0, 2].into()];
            Answer::Listed(ListedAnswer::Yes { codes, reason: None })
        }
        other => unknown(other),
    };
    let to = ("a@a.example", Some("<u@ours.example>"));
    let (asked, _) = walk(&policy, (STRANGER, None), to, &listed);
    assert!(!asked.contains(&"greylist".to_owned()), "{asked:?}");
}

#[test]
fn only_addresses_that_the_public_dns_can_name_are_asked_about() {
    for (address, want) in [
        ("9.255.255.255", false),
        ("10.0.0.0", true),
        ("0.0.0.1", true),
        ("127.0.0.1", true),
        ("::ffff:127.0.0.1", true),
        ("100.63.255.255", false),
        ("100.64.0.0", true),
        ("100.127.255.255", true),
        ("100.128.0.0", false),
        ("169.253.0.1", false),
        ("169.254.0.1", true),
        ("172.15.255.255", false),
        ("172.16.0.0", true),
        ("172.31.255.255", true),
        ("172.32.0.0", false),
        ("192.167.0.1", false),
        ("192.168.0.1", true),
        ("203.0.113.7", false),
        ("::1", true),
        ("::2", false),
        ("fbff::1", false),
        ("fc00::1", true),
        ("fdff::1", true),
        ("fe00::1", false),
        ("fe80::1", true),
        ("febf::1", true),
        ("fec0::1", false),
        ("2001:db8::1", false),
    ] {
        assert_eq!(is_private(address.parse().unwrap()), want, "{address}");
    }
    let names = |names| {
        let mut policy = policy(ListenerKind::Relay);
        policy.strangers.names = names;
        let (asked, _) = walk(&policy, ("10.0.0.1", None), ("", None), &unknown);
        asked.len()
    };
    assert_eq!([Names::All, Names::Off, Names::Public].map(names), [1, 0, 0]);
}

#[test]
fn what_is_about_the_client_is_kept_and_what_is_about_a_command_is_not() {
    let peer: IpAddr = STRANGER.parse().unwrap();
    let name = domain("client.example");
    let triplet = Triplet {
        network: greylist::network(peer),
        sender: domain("a.example"),
        recipient: Mailbox::parse("u@ours.example").unwrap(),
    };
    let zone = domain("bad.example");
    let about_client = Question::Listed { zone: zone.clone(), entry: ListEntry::Address(peer) };
    let entry = ListEntry::Domain(domain("a.example"));
    let about_sender = Question::Listed { zone, entry };
    let questions = [
        (about_client, true),
        (about_sender, false),
        (Question::Greylist(triplet), false),
        (Question::MailDomain(domain("a.example")), false),
        (Question::Recipient(Mailbox::parse("u@ours.example").unwrap()), false),
    ];
    let mut answers = Answers::default();
    assert_eq!(answers.name_of(peer), None);
    let confirmed = Answer::HostName(HostNameAnswer::Confirmed(name.clone()));
    answers.add([(Question::HostName(peer), confirmed)]);
    answers.add(questions.iter().map(|(question, _)| (question.clone(), unknown(question))));
    answers.forget_transaction();
    assert_eq!(answers.name_of(peer), Some(&name));
    assert_eq!(answers.name_of("203.0.113.8".parse().unwrap()), None);
    for (question, want) in questions {
        assert_eq!(answers.about(&question).is_some(), want, "{question:?}");
    }
    for unnamed in [HostNameAnswer::None, HostNameAnswer::Unknown] {
        let mut answers = Answers::default();
        answers.add([(Question::HostName(peer), Answer::HostName(unnamed))]);
        assert_eq!(answers.name_of(peer), None);
    }
}
