use merpati_mail::{
    BodyType, Envelope, Origin, Protocol, Recipient, Requests, ReversePath, Stage, Time,
    envelope::{Notify, Ret, Utf8},
    stage::Decision,
};
use proptest::prelude::*;

use super::*;
use crate::{
    admit::{
        self, ListenerKind, Policy, Strangers,
        recipients::{Known, KnownRecipient},
    },
    content,
    report::News,
};

fn domain(text: &str) -> Domain {
    Domain::parse(text).unwrap()
}

fn mailbox(text: &str) -> Mailbox {
    Mailbox::parse(text).unwrap()
}

fn path(text: &str) -> ForwardPath {
    if text == "postmaster" { ForwardPath::Postmaster } else { ForwardPath::Mailbox(mailbox(text)) }
}

/// `key: target target`, in the words of the files; `!` before the key: for insiders only.
fn entry(line: &str) -> Entry {
    let (key, targets) = line.split_once(": ").unwrap();
    let (access, key) = match key.strip_prefix('!') {
        Some(key) => (Access::Insiders, key),
        None => (Access::Anybody, key),
    };
    let origin = format!("aliases: {key}").into();
    let key = match key.split_once('@') {
        Some(("", it)) => Key::Domain(domain(it)),
        Some(_) => Key::Address(mailbox(key)),
        None => Key::Name(key.to_owned()),
    };
    let target = |text: &str| {
        let bare = text.trim_start_matches('\\');
        let to = match bare.split_once('@') {
            Some(("", it)) => To::Domain(domain(it)),
            Some(_) => To::Address(mailbox(bare)),
            None => To::Name(bare.to_owned()),
        };
        Target { to, is_final: bare != text }
    };
    Entry { key, targets: targets.split(' ').map(target).collect(), access, origin }
}

/// A site with three domains; `known` are its recipients.
fn site(known: &[&str]) -> Site {
    let known = known.iter().map(|text| match text.strip_prefix('@') {
        Some(it) => KnownRecipient::Domain(domain(it)),
        None => KnownRecipient::Address(mailbox(text)),
    });
    let known: Vec<KnownRecipient> = known.collect();
    Site {
        ours: ["ours.example", "old.example", "new.example"].map(domain).into(),
        hostname: domain("mx.ours.example"),
        known: (!known.is_empty()).then(|| Arc::new(Known::of(known, Some('+')))),
        separator: Some('+'),
    }
}

fn aliases(lines: &[&str]) -> Aliases {
    known_aliases(lines, &[])
}

fn known_aliases(lines: &[&str], known: &[&str]) -> Aliases {
    Aliases::new(lines.iter().map(|line| entry(line)).collect(), site(known)).unwrap()
}

/// What an address stands for, between blanks; `-` where it is what it says.
fn shown(aliases: &Aliases, named: &str) -> String {
    match aliases.expand(&path(named), Time::EPOCH).unwrap() {
        None => "-".to_owned(),
        Some(expansion) => {
            let targets = expansion.targets.iter().map(|reached| match &reached.owner {
                Some(owner) => format!("{} (of {owner})", reached.mailbox),
                None => reached.mailbox.to_string(),
            });
            targets.collect::<Vec<_>>().join(" ")
        }
    }
}

#[track_caller]
fn check(aliases: &Aliases, cases: &[(&str, &str)]) {
    for (named, want) in cases {
        assert_eq!(shown(aliases, named), *want, "{named}");
    }
}

#[test]
fn an_alias_stands_for_its_targets_and_nothing_else_does() {
    let aliases = aliases(&[
        "Info@ours.example: ani@ours.example budi@other.example",
        "team@ours.example: info@ours.example citra@ours.example ani@ours.example",
        "root: ani",
    ]);
    check(
        &aliases,
        &[
            ("info@ours.example", "ani@ours.example budi@other.example"),
            ("INFO@OURS.example", "ani@ours.example budi@other.example"),
            ("team@ours.example", "ani@ours.example budi@other.example citra@ours.example"),
            ("root@ours.example", "ani@ours.example"),
            ("root@old.example", "ani@old.example"),
            ("ani@ours.example", "-"),
            ("info@old.example", "-"),
            ("info@other.example", "-"),
            ("root@other.example", "-"),
            ("root@sub.ours.example", "-"),
        ],
    );
}

#[test]
fn an_extension_goes_along_to_our_mailboxes_and_an_entry_of_its_own_wins() {
    let aliases = aliases(&[
        "ani@ours.example: ani.wijaya@new.example copy@other.example",
        "ani+shop@ours.example: shop@ours.example",
        "team: ani budi",
    ]);
    check(
        &aliases,
        &[
            ("ani+list@ours.example", "ani.wijaya+list@new.example copy@other.example"),
            ("ANI+List@ours.example", "ani.wijaya+List@new.example copy@other.example"),
            ("ani+@ours.example", "ani.wijaya@new.example copy@other.example"),
            ("ani+shop@ours.example", "shop@ours.example"),
            ("team+x@new.example", "ani+x@new.example budi+x@new.example"),
            ("+list@ours.example", "-"),
        ],
    );
    let none = Site { separator: None, ..site(&[]) };
    let plain = Aliases::new(vec![entry("ani: budi")], none).unwrap();
    check(&plain, &[("ani+x@ours.example", "-"), ("ani@ours.example", "budi@ours.example")]);
}

#[test]
fn who_leads_to_himself_means_his_own_mailbox() {
    let aliases = aliases(&[
        "ani@ours.example: ani@ours.example copy@other.example",
        "budi@ours.example: budi+in@ours.example",
        "citra: \\dewi \\citra",
        "dewi: eka",
        "@old.example: @ours.example",
        "fajar@ours.example: fajar@old.example",
    ]);
    check(
        &aliases,
        &[
            ("ani@ours.example", "ani@ours.example copy@other.example"),
            ("ani+x@ours.example", "ani+x@ours.example copy@other.example"),
            ("budi@ours.example", "budi+in@ours.example"),
            ("citra@ours.example", "dewi@ours.example citra@ours.example"),
            ("fajar@ours.example", "fajar@ours.example"),
        ],
    );
}

#[test]
fn a_catch_all_takes_what_a_client_names_and_nobody_is() {
    let lines = &[
        "@ours.example: boss@ours.example",
        "sales@ours.example: ani@ours.example",
        "@old.example: @ours.example",
    ];
    let aliases = known_aliases(lines, &["budi@ours.example", "@new.example", "ani@old.example"]);
    check(
        &aliases,
        &[
            ("anybody@ours.example", "boss@ours.example"),
            ("boss@ours.example", "boss@ours.example"),
            // The operator wrote it: it is not asked whether somebody is there.
            ("sales@ours.example", "ani@ours.example"),
            ("budi@ours.example", "-"),
            ("budi+x@ours.example", "-"),
            ("anybody@old.example", "boss@ours.example"),
            ("sales@old.example", "ani@ours.example"),
            ("budi@old.example", "budi@ours.example"),
            ("ani@old.example", "-"),
            ("anybody@new.example", "-"),
        ],
    );
}

#[test]
fn a_domain_is_another_name_for_another_one() {
    let aliases = aliases(&[
        "@old.example: @new.example",
        "@new.example: @other.example",
        "info@old.example: ani@ours.example",
        "x@ours.example: y+z@old.example",
    ]);
    check(
        &aliases,
        &[
            ("Ani.W+x@old.example", "Ani.W+x@other.example"),
            ("info@old.example", "ani@ours.example"),
            ("x@ours.example", "y+z@other.example"),
        ],
    );
    let meaning = aliases.meaning(&path("ani@old.example"), Time::EPOCH).unwrap();
    assert_eq!((meaning.kind, meaning.mailbox), (Kind::Mailbox, mailbox("ani@other.example")));
    let meaning = aliases.meaning(&path("info@old.example"), Time::EPOCH).unwrap();
    assert_eq!((meaning.kind, meaning.size), (Kind::Alias, 1));
    assert_eq!(aliases.meaning(&path("ani@ours.example"), Time::EPOCH), None);
}

#[test]
fn the_postmaster_without_a_domain_is_the_one_at_our_host_name() {
    let of_all = aliases(&["postmaster: ani@ours.example"]);
    check(&of_all, &[("postmaster", "ani@ours.example")]);
    let of_another = aliases(&["postmaster@ours.example: ani@ours.example"]);
    check(&of_another, &[("postmaster", "-")]);
    let own = aliases(&["postmaster@mx.ours.example: ani@ours.example"]);
    check(&own, &[("postmaster", "ani@ours.example")]);
}

#[test]
fn a_list_with_an_owner_has_it_for_all_but_its_inner_lists() {
    let aliases = aliases(&[
        "team@ours.example: ani@ours.example inner@ours.example",
        "owner-team@ours.example: boss@ours.example",
        "inner: citra@other.example",
        "owner-inner: boss",
        "plain: ani",
    ]);
    check(
        &aliases,
        &[
            (
                "team@ours.example",
                "ani@ours.example (of owner-team@ours.example) \
                 citra@other.example (of owner-inner@ours.example)",
            ),
            (
                "team+x@ours.example",
                "ani+x@ours.example (of owner-team@ours.example) \
                 citra@other.example (of owner-inner@ours.example)",
            ),
            ("owner-team@ours.example", "boss@ours.example"),
            ("plain@ours.example", "ani@ours.example"),
        ],
    );
}

#[test]
fn what_is_wrong_is_found_before_mail_comes() {
    let many: Vec<String> = (0..101).map(|n| format!("m{n}@other.example")).collect();
    let hundred = format!("h: {}", many.join(" "));
    let groups: Vec<String> = (0..101).map(|n| format!("g{n}")).collect();
    let mut large: Vec<String> = groups.iter().map(|group| format!("{group}: h")).collect();
    large.extend([hundred, format!("all: {}", groups.join(" "))]);
    let large: Vec<&str> = large.iter().map(String::as_str).collect();
    let deep: Vec<String> = (0..60).map(|n| format!("d{n}: d{}", n + 1)).collect();
    let deep: Vec<&str> = deep.iter().map(String::as_str).collect();
    let way = |all: &[&str]| Mistake::Loop(all.iter().map(|one| mailbox(one)).collect());
    for (lines, want) in [
        (
            &["a: b", "b: c", "c: a"][..],
            vec![(0, way(&["a@new.example", "b@new.example", "c@new.example", "a@new.example"]))],
        ),
        (
            &["a@ours.example: b@ours.example x@other.example", "b@ours.example: a+x@ours.example"],
            vec![(0, way(&["a@ours.example", "b@ours.example", "a+x@ours.example"]))],
        ),
        (
            &["@old.example: @new.example", "@new.example: @old.example"],
            vec![(1, way(&["name@new.example", "name@old.example", "name@new.example"]))],
        ),
        (
            &["@old.example: @old.example"],
            vec![(0, way(&["name@old.example", "name@old.example"]))],
        ),
        (
            &["a@other.example: b", "@x.example: b"],
            vec![
                (0, Mistake::Elsewhere(domain("other.example"))),
                (1, Mistake::Elsewhere(domain("x.example"))),
            ],
        ),
        (
            &["a: b", "A: c", "@old.example: a", "@old.example: b"],
            vec![(1, Mistake::Twice { first: 0 }), (3, Mistake::Twice { first: 2 })],
        ),
        (&["a: @new.example"], vec![(0, Mistake::NoDomain)]),
        (&["@old.example: @new.example a"], vec![(0, Mistake::NoDomain)]),
        (&large, vec![(102, Mistake::TooMany(10_100))]),
        (&deep, vec![(0, Mistake::TooDeep)]),
    ] {
        let entries = lines.iter().map(|line| entry(line)).collect();
        assert_eq!(Aliases::new(entries, site(&[])).unwrap_err(), want, "{lines:?}");
    }
    let nothing = Entry { targets: Vec::new(), ..entry("a: b") };
    let said = Aliases::new(vec![nothing], site(&[])).unwrap_err();
    assert_eq!(said, [(0, Mistake::Nothing)]);
}

#[test]
fn the_same_mailbox_by_many_ways_is_no_loop() {
    let diamond = aliases(&["a: b c", "b: d", "c: d b", "d: x"]);
    check(&diamond, &[("a@ours.example", "x@ours.example")]);
    let by_domain = aliases(&["root: ani", "ani@old.example: root@new.example"]);
    check(&by_domain, &[("root@old.example", "ani@new.example")]);
    let to_one = aliases(&["info: info@ours.example x@other.example"]);
    for named in ["info@old.example", "info@ours.example"] {
        check(&to_one, &[(named, "info@ours.example x@other.example")]);
    }
}

#[test]
fn targets_that_no_list_knows_are_told() {
    let lines = &["info: ani@ours.example", "a@ours.example: budi@ours.example info@ours.example"];
    let none = known_aliases(lines, &[]);
    assert_eq!(none.strays(), []);
    let some = known_aliases(lines, &["ani@ours.example"]);
    assert_eq!(some.strays(), [(1, mailbox("budi@ours.example"))]);
}

fn policy(lines: &[&str], known: &[&str]) -> Policy {
    let site = site(known);
    Policy {
        kind: ListenerKind::Relay,
        local_domains: site.ours.clone(),
        networks: vec!["192.0.2.0/24".parse().unwrap()],
        senders: [("fax".to_owned(), admit::Senders::Any), ("ani".to_owned(), admit::Senders::Any)]
            .into(),
        vouched_domains: [].into(),
        size_bytes_max: 1_000,
        hops_max: 100,
        strangers: Strangers {
            recipients: admit::recipients::Verification {
                known: site.known.clone(),
                ..admit::recipients::Verification::default()
            },
            ..Strangers::default()
        },
        contents: content::Rules::default(),
        aliases: Some(Arc::new(known_aliases(lines, known))),
        internal_domains: [domain("new.example")].into(),
        confined: ["fax".to_owned()].into(),
    }
}

/// The rule that decides about a recipient.
fn decided(policy: &Policy, peer: &str, credential: Option<&str>, named: &str) -> String {
    let facts = admit::Facts {
        peer: peer.parse().unwrap(),
        credential,
        room: admit::Room::Roomy,
        reverse_path: None,
        now: Time::EPOCH,
    };
    let stage = Stage::Recipient { path: path(named), accepted_before: 0 };
    let step = admit::step(policy, &facts, &stage, &admit::Answers::default());
    let admit::Step::Verdict(verdict) = step else { panic!("{step:?}") };
    match verdict.decision {
        Decision::Refuse(reply) => format!("{} {}", reply.code, verdict.rule),
        Decision::Accept | Decision::AcceptLowered(_) | Decision::Disconnect(_) => {
            verdict.rule.to_string()
        }
    }
}

#[test]
fn an_alias_exists_and_never_opens_the_relay() {
    let lines = &[
        "info@ours.example: ani@other.example",
        "@old.example: @ours.example",
        "root: ani@ours.example",
    ];
    let policy = policy(lines, &["ani@ours.example"]);
    for (named, want) in [
        ("info@ours.example", "alias"),
        ("info+x@ours.example", "alias"),
        ("root@ours.example", "alias"),
        ("ani@ours.example", "local-domain"),
        ("ani@old.example", "alias"),
        ("nobody@ours.example", "550 recipient-unknown"),
        ("nobody@old.example", "550 recipient-unknown"),
        // Whom an alias leads to is nobody whom a stranger may name.
        ("ani@other.example", "550 relay-denied"),
        ("info@other.example", "550 relay-denied"),
        ("root@other.example", "550 relay-denied"),
        ("info%other.example@sub.ours.example", "550 relay-denied"),
    ] {
        assert_eq!(decided(&policy, "203.0.113.1", None, named), want, "{named}");
    }
}

#[test]
fn what_is_internal_is_for_our_networks_and_credentials() {
    let lines = &[
        "!all@ours.example: ani@ours.example",
        "!postmaster: ani@ours.example",
        "public@ours.example: all@ours.example",
        "@old.example: @new.example",
        "x@ours.example: y@new.example",
    ];
    let policy = policy(lines, &[]);
    let stranger = ("203.0.113.1", None);
    for (from, named, want) in [
        (stranger, "all@ours.example", "550 internal-alias"),
        (stranger, "all+x@ours.example", "550 internal-alias"),
        (("192.0.2.1", None), "all@ours.example", "alias"),
        (("203.0.113.1", Some("ani")), "all@ours.example", "alias"),
        // What an alias for everybody leads to was written by the operator.
        (stranger, "public@ours.example", "alias"),
        (stranger, "x@ours.example", "alias"),
        (stranger, "postmaster@ours.example", "alias"),
        (stranger, "postmaster", "alias"),
        (stranger, "ani@new.example", "550 internal-domain"),
        (stranger, "ani@old.example", "550 internal-domain"),
        (stranger, "postmaster@new.example", "alias"),
        (stranger, "abuse@new.example", "local-domain"),
        (("192.0.2.1", None), "ani@new.example", "local-domain"),
        (("203.0.113.1", Some("ani")), "ani@old.example", "alias"),
    ] {
        assert_eq!(decided(&policy, from.0, from.1, named), want, "{from:?} {named}");
    }
}

#[test]
fn a_confined_credential_reaches_nobody_outside_by_no_way() {
    let lines = &[
        "in@ours.example: ani@ours.example",
        "out@ours.example: ani@ours.example x@other.example",
        "far@ours.example: out@ours.example",
        "@old.example: @away.example",
        "postmaster: x@other.example",
    ];
    let policy = policy(lines, &[]);
    for (named, want) in [
        ("ani@ours.example", "local-domain"),
        ("in@ours.example", "alias"),
        ("out@ours.example", "550 internal-credential"),
        ("far@ours.example", "550 internal-credential"),
        ("ani@old.example", "550 internal-credential"),
        ("x@other.example", "550 internal-credential"),
        ("postmaster", "550 internal-credential"),
    ] {
        for kind in [ListenerKind::Relay, ListenerKind::Submission] {
            let policy = Policy { kind, ..policy.clone() };
            let want = match (kind, want) {
                (ListenerKind::Submission, "local-domain") => "authenticated",
                (_, want) => want,
            };
            // The network of the printer does not help it either.
            assert_eq!(decided(&policy, "192.0.2.1", Some("fax"), named), want, "{named}");
        }
        assert!(!decided(&policy, "192.0.2.1", Some("ani"), named).starts_with("550"), "{named}");
    }
}

#[test]
fn a_transaction_has_a_bound_with_all_that_its_recipients_stand_for() {
    let members: Vec<String> = (0..6_000).map(|n| format!("m{n}@other.example")).collect();
    let group = format!("group: {}", members.join(" "));
    let policy = policy(&[&group], &[]);
    let mail = Stage::Mail {
        reverse_path: ReversePath(None),
        size_bytes: None,
        body: BodyType::SevenBit,
        utf8: Utf8::NotDeclared,
        requests: Requests::default(),
    };
    let recipient = |named| Stage::Recipient { path: path(named), accepted_before: 0 };
    let mut tally = Tally::default();
    for (stage, is_taken) in [
        (mail.clone(), true),
        (recipient("group@ours.example"), true),
        (recipient("group@old.example"), false),
        (recipient("ani@ours.example"), true),
        (mail, true),
        (recipient("group@old.example"), true),
    ] {
        assert_eq!(tally.take(&policy, &stage, Time::EPOCH).is_none(), is_taken, "{stage:?}");
    }
}

const SUCCESS: Notify = Notify::On { delay: false, failure: false, success: true };
const ALL: Notify = Notify::On { delay: true, failure: true, success: true };

fn envelope(reverse_path: &str, recipients: &[(&str, Option<Notify>, Option<&str>)]) -> Envelope {
    let recipient = |(named, notify, orcpt): &(&str, Option<Notify>, Option<&str>)| Recipient {
        path: path(named),
        notify: *notify,
        orcpt: orcpt.map(str::to_owned),
    };
    Envelope {
        reverse_path: ReversePath(Mailbox::parse(reverse_path).ok()),
        recipients: recipients.iter().map(recipient).collect(),
        body: BodyType::SevenBit,
        utf8: Utf8::NotDeclared,
        ret: Some(Ret::Full),
        envid: Some("e1".to_owned()),
        requests: Requests::default(),
        origin: Origin {
            listener: "mx".to_owned(),
            peer: None,
            credential: None,
            protocol: Protocol::Esmtp,
            tls: None,
            received_at: Time::EPOCH,
        },
    }
}

/// The envelopes that become of one: who it is from, and each recipient with its original one.
fn split(lines: &[&str], given: &Envelope) -> (Vec<String>, Vec<(u32, &'static str)>) {
    let rewritten = rewritten(&policy(lines, &[]), given, Time::EPOCH).unwrap().unwrap();
    let shown = rewritten.envelopes.iter().map(|envelope| {
        let all = envelope.recipients.iter().map(|one| {
            let notify = match one.notify {
                None => String::new(),
                Some(Notify::Never) => " never".to_owned(),
                Some(Notify::On { delay, failure, success }) => {
                    format!(" {}", u8::from(delay) + 2 * u8::from(failure) + 4 * u8::from(success))
                }
            };
            let orcpt = one.orcpt.as_deref().unwrap_or("-");
            format!("{} {orcpt}{notify}", one.path)
        });
        let all: Vec<String> = all.collect();
        let asks = if envelope.envid.is_some() { "asks" } else { "asks nothing" };
        format!("{} {asks}: {}", envelope.reverse_path, all.join(", "))
    });
    let news = rewritten.news.iter().map(|item| {
        let news = match item.news {
            News::Expanded => "expanded",
            News::Delivered { .. } => "delivered",
            News::Delayed { .. } | News::Failed { .. } | News::Relayed { .. } => "other",
        };
        (item.recipient, news)
    });
    (shown.collect(), news.collect())
}

#[test]
fn the_original_recipient_is_the_one_that_the_client_named() {
    let lines = &["one: ani@other.example", "two: ani@other.example budi@ours.example"];
    let given = envelope(
        "a@b.example",
        &[
            ("one@ours.example", Some(ALL), None),
            ("two@ours.example", Some(ALL), Some("rfc822;list@far.example")),
            ("two+x@ours.example", Some(SUCCESS), None),
            ("eka@ours.example", None, None),
        ],
    );
    let (envelopes, news) = split(lines, &given);
    assert_eq!(
        envelopes,
        ["<a@b.example> asks: <ani@other.example> rfc822;one@ours.example 7, \
          <budi@ours.example> rfc822;list@far.example 3, \
          <budi+x@ours.example> rfc822;two+2Bx@ours.example never, \
          <eka@ours.example> -"]
    );
    assert_eq!(news, [(1, "expanded"), (2, "expanded")]);
}

#[test]
fn nobody_gets_a_message_twice_however_he_is_named() {
    let lines = &["team: Ani@ours.example budi@ours.example", "all: team ani@OURS.example"];
    let given = envelope(
        "a@b.example",
        &[
            ("ani@ours.example", None, None),
            ("all@ours.example", None, None),
            ("budi@ours.example", None, None),
            ("team@ours.example", None, None),
        ],
    );
    let (envelopes, _) = split(lines, &given);
    let want = "<a@b.example> asks: <ani@ours.example> -, \
                <budi@ours.example> rfc822;all@ours.example";
    assert_eq!(envelopes, [want]);
}

#[test]
fn what_goes_to_a_list_is_from_its_owner_unless_it_is_a_report() {
    let lines = &["team: ani@ours.example budi@other.example", "owner-team: boss"];
    let to: &[_] = &[("team@ours.example", Some(ALL), None), ("eka@ours.example", None, None)];
    let (envelopes, news) = split(lines, &envelope("a@b.example", to));
    assert_eq!(
        envelopes,
        [
            "<a@b.example> asks: <eka@ours.example> -",
            "<owner-team@ours.example> asks nothing: \
             <ani@ours.example> rfc822;team@ours.example, \
             <budi@other.example> rfc822;team@ours.example",
        ]
    );
    assert_eq!(news, [(0, "delivered")]);
    let (envelopes, _) = split(lines, &envelope("", &[("team@ours.example", None, None)]));
    assert_eq!(
        envelopes,
        ["<> asks: <ani@ours.example> rfc822;team@ours.example, \
          <budi@other.example> rfc822;team@ours.example"]
    );
}

#[test]
fn without_aliases_among_its_recipients_an_envelope_stays_as_it_is() {
    let given = envelope("a@b.example", &[("eka@ours.example", None, None)]);
    let policy = policy(&["one: ani@other.example"], &[]);
    assert_eq!(rewritten(&policy, &given, Time::EPOCH), Ok(None));
    let none = Policy { aliases: None, ..policy };
    assert_eq!(rewritten(&none, &given, Time::EPOCH), Ok(None));
}

#[test]
fn a_report_to_an_alias_goes_to_whom_it_stands_for() {
    let aliases = aliases(&["info: ani@ours.example budi@other.example"]);
    let to = |named| report_recipients(Some(&aliases), path(named), Time::EPOCH);
    let shown = |recipients: Vec<Recipient>| -> Vec<String> {
        assert!(recipients.iter().all(|one| one.notify == Some(Notify::Never)));
        recipients.iter().map(|one| one.path.to_string()).collect()
    };
    assert_eq!(shown(to("info@ours.example")), ["<ani@ours.example>", "<budi@other.example>"]);
    assert_eq!(shown(to("ani@ours.example")), ["<ani@ours.example>"]);
    let unexpanded = report_recipients(None, path("info@ours.example"), Time::EPOCH);
    assert_eq!(shown(unexpanded), ["<info@ours.example>"]);
}

/// A local part or an address of few, so that entries often lead to each other.
fn word() -> impl Strategy<Value = String> {
    let local = prop::sample::select(vec!["a", "b", "c", "d", "a+x", "b+y", "owner-a"]);
    let at = prop::sample::select(vec![
        "",
        "@ours.example",
        "@old.example",
        "@new.example",
        "@x.example",
    ]);
    (local, at).prop_map(|(local, at)| format!("{local}{at}"))
}

fn key() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => word(),
        1 => prop::sample::select(vec!["@ours.example", "@old.example", "@new.example"])
            .prop_map(str::to_owned),
    ]
}

fn line() -> impl Strategy<Value = String> {
    let targets = prop::collection::vec(word(), 1..4).prop_map(|all| all.join(" "));
    let other = prop::sample::select(vec!["@ours.example", "@old.example", "@new.example"]);
    prop_oneof![
        8 => (key(), targets).prop_map(|(key, targets)| format!("{key}: {targets}")),
        1 => (key(), other).prop_map(|(key, other)| format!("{key}: {other}")),
    ]
}

proptest! {
    #[test]
    fn expansion_always_ends_and_yields_nobody_twice(
        lines in prop::collection::vec(line(), 1..12),
        named in word(),
        at in prop::sample::select(vec!["ours.example", "old.example", "x.example"]),
    ) {
        let mut entries: Vec<Entry> = lines.iter().map(|line| entry(line)).collect();
        // Without what is wrong, until nothing is: that ends as well.
        let aliases = loop {
            match Aliases::new(entries.clone(), site(&[])) {
                Ok(aliases) => break aliases,
                Err(mistakes) => {
                    let (place, _) = mistakes.first().unwrap();
                    entries.remove(*place);
                }
            }
        };
        let named = if named.contains('@') { named } else { format!("{named}@{at}") };
        let is_ours = aliases.is_ours(mailbox(&named).domain());
        let expansion = aliases.expand(&path(&named), Time::EPOCH).unwrap();
        prop_assert_eq!(expansion.is_some(), aliases.meaning(&path(&named), Time::EPOCH).is_some());
        if let Some(expansion) = expansion {
            prop_assert!(is_ours);
            let targets: BTreeSet<Mailbox> =
                expansion.targets.iter().map(|it| aliases.folded(&it.mailbox)).collect();
            prop_assert!(!targets.is_empty());
            prop_assert_eq!(targets.len(), expansion.targets.len());
            // Again, nothing changes: what is reached is a mailbox, or a catch-all would take it.
            for reached in &expansion.targets {
                let again = aliases.find_by_local(&reached.mailbox);
                let is_own = again.is_none_or(|(place, _)| {
                    expansion.steps.iter().any(|step| {
                        aliases.find_by_local(&step.mailbox).map(|(it, _)| it) == Some(place)
                    })
                });
                prop_assert!(is_own || !aliases.is_ours(reached.mailbox.domain()));
            }
        }
    }
}

#[path = "srs_tests.rs"]
mod srs;
