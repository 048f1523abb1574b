//! Events on disk: read back as they were written, always in the same octets.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
#![allow(missing_docs)]

use std::{
    fmt::Write,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use merpati_mail::{
    Attempt, BodyType, ByMode, Cause, Class, DeliverBy, DeliveryId, Domain, EgressPath,
    EnhancedCode, Envelope, Event, ForwardPath, Hold, Mailbox, Origin, Outcome, Overlay, Peer,
    Priority, Protocol, QueueId, Recipient, Reply, Requests, ReversePath, Scope, Time, TlsDemand,
    TlsFacts, TlsPolicy, TlsRequest, TlsSource,
    envelope::{Notify, Ret, Utf8},
    event::{Accepted, Attempted, Carried, CauseNote, DeliveryState, Waiting},
    route::Remote,
};
use merpati_spool::codec::{decode, encode};
use proptest::{option, prelude::*, sample::select};

fn octets(event: &Event) -> Vec<u8> {
    let mut out = Vec::new();
    encode(event, &mut out);
    out
}

fn time() -> BoxedStrategy<Time> {
    any::<u64>().prop_map(Time::from_micros).boxed()
}

fn delivery() -> BoxedStrategy<DeliveryId> {
    (any::<u64>(), any::<u32>())
        .prop_map(|(id, recipient)| DeliveryId { message: QueueId::from_bits(id), recipient })
        .boxed()
}

fn domain() -> BoxedStrategy<Domain> {
    prop_oneof![
        "[a-z]{1,10}\\.[a-z]{2,8}".prop_map(|text| Domain::parse(&text).unwrap()),
        any::<IpAddr>().prop_map(Domain::Literal),
    ]
    .boxed()
}

fn mailbox() -> BoxedStrategy<Mailbox> {
    ("[a-zA-Zé@ \"]{1,20}", domain())
        .prop_map(|(local, domain)| Mailbox::new(&local, domain).unwrap())
        .boxed()
}

fn tls() -> BoxedStrategy<TlsFacts> {
    (".*", ".*").prop_map(|(version, cipher)| TlsFacts { version, cipher }).boxed()
}

fn address() -> BoxedStrategy<SocketAddr> {
    any::<(IpAddr, u16)>().prop_map(SocketAddr::from).boxed()
}

fn recipient() -> BoxedStrategy<Recipient> {
    let path = prop_oneof![Just(ForwardPath::Postmaster), mailbox().prop_map(ForwardPath::Mailbox)];
    let notify = prop_oneof![
        Just(Notify::Never),
        any::<(bool, bool, bool)>().prop_map(|(delay, failure, success)| Notify::On {
            delay,
            failure,
            success
        }),
    ];
    (path, option::of(notify), option::of(".*"))
        .prop_map(|(path, notify, orcpt)| Recipient { path, notify, orcpt })
        .boxed()
}

fn origin() -> BoxedStrategy<Origin> {
    let peer = (address(), ".*", option::of(domain())).prop_map(|(address, hello, name)| Peer {
        address,
        hello,
        name,
    });
    let protocol = select(Protocol::ALL.to_vec());
    (".*", option::of(peer), option::of(".*"), protocol, option::of(tls()), time())
        .prop_map(|(listener, peer, credential, protocol, tls, received_at)| Origin {
            listener,
            peer,
            credential,
            protocol,
            tls,
            received_at,
        })
        .boxed()
}

fn requests() -> BoxedStrategy<Requests> {
    let mode = select(vec![ByMode::Notify, ByMode::Return]);
    let deliver_by = (any::<u64>(), mode, any::<bool>()).prop_map(|(deadline, mode, is_traced)| {
        DeliverBy { deadline: Time::from_micros(deadline), mode, is_traced }
    });
    let priority = (-9i8..=9).prop_map(|value| Priority::new(value).unwrap());
    let tls = select(vec![TlsRequest::AsRouted, TlsRequest::Required]);
    (option::of(deliver_by), option::of(priority), option::of(any::<u64>()), tls)
        .prop_map(|(deliver_by, priority, release_at, tls)| Requests {
            deliver_by,
            priority,
            release_at: release_at.map(Time::from_micros),
            tls,
        })
        .boxed()
}

fn envelope() -> BoxedStrategy<Envelope> {
    (
        option::of(mailbox()).prop_map(ReversePath),
        prop::collection::vec(recipient(), 1..4),
        select(vec![BodyType::EightBitMime, BodyType::SevenBit]),
        select(vec![Utf8::Declared, Utf8::NotDeclared]),
        option::of(select(vec![Ret::Full, Ret::Headers])),
        option::of(".*"),
        prop_oneof![Just(Requests::default()), requests()],
        origin(),
    )
        .prop_map(|(reverse_path, recipients, body, utf8, ret, envid, requests, origin)| Envelope {
            reverse_path,
            recipients,
            body,
            utf8,
            ret,
            envid,
            requests,
            origin,
        })
        .boxed()
}

fn accepted() -> BoxedStrategy<Accepted> {
    let remove = prop::collection::vec(any::<(u32, u32)>().prop_map(|(a, b)| a..b), 0..3);
    (any::<u64>(), envelope(), any::<Vec<u8>>(), remove, any::<u64>())
        .prop_map(|(id, envelope, prepend, remove, size_bytes)| Accepted {
            id: QueueId::from_bits(id),
            envelope,
            edits: Overlay { prepend, remove },
            size_bytes,
        })
        .boxed()
}

fn reply() -> BoxedStrategy<Reply> {
    let enhanced = any::<(u8, u16, u16)>().prop_map(|(class, subject, detail)| EnhancedCode {
        class,
        subject,
        detail,
    });
    (any::<u16>(), option::of(enhanced), ".*")
        .prop_map(|(code, enhanced, text)| Reply { code, enhanced, text: text.into() })
        .boxed()
}

fn cause() -> BoxedStrategy<Cause> {
    let scopes = vec![
        Scope::Host,
        Scope::Message,
        Scope::NextHop,
        Scope::Path,
        Scope::Recipient,
        Scope::SenderDomain,
        Scope::Us,
    ];
    (select(Class::ALL.to_vec()), select(scopes), reply(), option::of(domain()))
        .prop_map(|(class, scope, reply, remote)| Cause { class, scope, reply, remote })
        .boxed()
}

fn hold() -> BoxedStrategy<Hold> {
    (".*", ".*", ".*", option::of(time()))
        .prop_map(|(limit, value, source, until)| Hold { limit, value, source, until })
        .boxed()
}

fn attempted() -> BoxedStrategy<Attempted> {
    let remote = prop_oneof![address().prop_map(Remote::Ip), ".*".prop_map(Remote::Unix)];
    let path = (".*", domain(), remote).prop_map(|(source, host, address)| EgressPath {
        source,
        host,
        address,
    });
    let policy = (select(TlsDemand::ALL.to_vec()), select(TlsSource::ALL.to_vec()))
        .prop_map(|(demand, source)| TlsPolicy { demand, source });
    let tls = (option::of(tls()), option::of(policy));
    let attempt = (any::<u32>(), option::of(path), time(), time(), tls).prop_map(
        |(number, path, began, ended, (tls, policy))| Attempt {
            number,
            path,
            began,
            ended,
            tls,
            policy,
        },
    );
    let outcome = prop_oneof![
        (cause(), time()).prop_map(|(cause, until)| Outcome::Deferred { cause, until }),
        reply().prop_map(|reply| Outcome::Delivered { reply }),
        cause().prop_map(|cause| Outcome::Failed { cause }),
    ];
    let outcomes = prop::collection::vec((any::<u32>(), outcome), 0..3);
    (any::<u64>(), attempt, outcomes)
        .prop_map(|(id, attempt, outcomes)| Attempted {
            message: QueueId::from_bits(id),
            attempt,
            outcomes,
        })
        .boxed()
}

fn rule() -> impl Strategy<Value = Option<Arc<str>>> {
    option::of(any::<String>().prop_map(Arc::from))
}

fn carried() -> BoxedStrategy<Carried> {
    let note = (select(Class::ALL.to_vec()), any::<u16>())
        .prop_map(|(class, code)| CauseNote { class, code });
    let waiting = prop_oneof![
        (hold(), option::of(note.clone())).prop_map(|(hold, cause)| Waiting::Held { hold, cause }),
        (time(), option::of(note)).prop_map(|(time, cause)| Waiting::Until { time, cause }),
    ];
    let state = (any::<u32>(), waiting, any::<bool>(), rule()).prop_map(
        |(attempts, waiting, is_delay_told, rule)| DeliveryState {
            attempts,
            waiting,
            is_delay_told,
            rule,
        },
    );
    (accepted(), prop::collection::vec((any::<u32>(), state), 0..3))
        .prop_map(|(accepted, deliveries)| Carried { accepted, deliveries })
        .boxed()
}

fn event() -> BoxedStrategy<Event> {
    prop_oneof![
        accepted().prop_map(|a| Event::Accepted(Box::new(a))),
        accepted().prop_map(|a| Event::Captured(Box::new(a))),
        attempted().prop_map(|a| Event::Attempted(Box::new(a))),
        carried().prop_map(|c| Event::Carried(Box::new(c))),
        delivery().prop_map(Event::Cancelled),
        any::<[u8; 32]>().prop_map(|digest| Event::ConfigChanged { digest }),
        (any::<u64>(), prop::collection::vec(any::<u32>(), 0..3)).prop_map(|(id, recipients)| {
            Event::Delayed { message: QueueId::from_bits(id), recipients }
        }),
        (delivery(), cause()).prop_map(|(delivery, cause)| Event::Expired { delivery, cause }),
        (delivery(), hold()).prop_map(|(delivery, hold)| Event::Held { delivery, hold }),
        (delivery(), time()).prop_map(|(delivery, until)| Event::Released { delivery, until }),
        (delivery(), rule(), time()).prop_map(|(delivery, rule, until)| Event::Rerouted {
            delivery,
            rule,
            until
        }),
        any::<u64>().prop_map(|id| Event::Retired(QueueId::from_bits(id))),
    ]
    .boxed()
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(event in event()) {
        prop_assert_eq!(decode(&octets(&event)), Ok(event));
    }

    #[test]
    fn an_event_that_is_cut_short_or_too_long_is_refused(event in event(), cut in any::<u16>()) {
        let mut written = octets(&event);
        prop_assert!(decode(&written[..usize::from(cut) % written.len()]).is_err());
        written.push(0);
        prop_assert!(decode(&written).is_err());
    }

    #[test]
    fn no_octets_make_the_decoder_panic(
        octets in any::<Vec<u8>>(), tag in 0u8..13, event in event(), at: u16, to: u8
    ) {
        let _ = decode(&[&[tag, 0], octets.as_slice()].concat());
        let mut written = self::octets(&event);
        let at = usize::from(at) % written.len();
        written[at] = to;
        let _ = decode(&written);
    }
}

/// The octets of a client with a name, which only version 1 of an event holds.
#[test]
fn a_name_of_the_client_makes_an_event_of_version_1() {
    let message = |name: Option<&str>| {
        let peer = Peer {
            address: "192.0.2.1:25".parse().unwrap(),
            hello: "h".to_owned(),
            name: name.map(|name| Domain::parse(name).unwrap()),
        };
        let envelope = Envelope {
            reverse_path: ReversePath(None),
            recipients: vec![Recipient::new(ForwardPath::Postmaster)],
            body: BodyType::SevenBit,
            utf8: Utf8::NotDeclared,
            ret: None,
            envid: None,
            requests: Requests::default(),
            origin: Origin {
                listener: "m".to_owned(),
                peer: Some(peer),
                credential: None,
                protocol: Protocol::Smtp,
                tls: None,
                received_at: Time::EPOCH,
            },
        };
        let edits = Overlay::default();
        let accepted = Accepted { id: QueueId::from_bits(1), envelope, edits, size_bytes: 0 };
        Event::Captured(Box::new(accepted))
    };
    let without = octets(&message(None));
    let with = octets(&message(Some("a.b")));
    let hello = without.windows(5).position(|octets| octets == b"\x01\0\0\0h").unwrap() + 5;
    let mut want = without.clone();
    want[1] = 1;
    want.splice(hello..hello, *b"\x01\0\x03\0\0\0a.b");
    // Nothing is asked for; behind that are edits and size.
    let requests = want.len() - 16;
    want.splice(requests..requests, [0; 4]);
    assert_eq!((without[1], with), (0, want));
    // Version 1 without a name, as nobody writes it, is read all the same.
    let mut bare = without.clone();
    bare[1] = 1;
    bare.insert(hello, 0);
    let requests = bare.len() - 16;
    bare.splice(requests..requests, [0; 4]);
    assert_eq!(decode(&bare), Ok(message(None)));
    bare[1] = 2;
    assert!(decode(&bare).is_err());
}

#[test]
fn a_list_that_claims_too_much_allocates_nothing() {
    // Attempted, with 4,294,967,295 outcomes.
    let mut written = octets(&Event::Attempted(Box::new(Attempted {
        message: QueueId::from_bits(1),
        attempt: Attempt {
            number: 1,
            path: None,
            began: Time::EPOCH,
            ended: Time::EPOCH,
            tls: None,
            policy: None,
        },
        outcomes: Vec::new(),
    })));
    let end = written.len();
    written[end - 4..].fill(0xff);
    assert_eq!(decode(&written).unwrap_err().0, "a list is longer than what is left");
}

/// The octets as journals hold them since format 1. A change here is a new version of the format.
#[test]
#[expect(clippy::too_many_lines, reason = "one value of each kind")]
fn the_octets_are_those_of_format_1() {
    let delivery = DeliveryId { message: QueueId::from_bits(0x0102), recipient: 3 };
    let reply = Reply::new(550, (5, 1, 1), "no");
    let cause = Cause {
        class: Class::MailboxUnknown,
        scope: Scope::Recipient,
        reply: reply.clone(),
        remote: Some(Domain::parse("mx.example").unwrap()),
    };
    let hold = Hold {
        limit: "l".to_owned(),
        value: "v".to_owned(),
        source: "s".to_owned(),
        until: Some(Time::from_micros(7)),
    };
    let accepted = Accepted {
        id: QueueId::from_bits(0x0102),
        envelope: Envelope {
            reverse_path: ReversePath(Some(Mailbox::parse("a@b.example").unwrap())),
            recipients: vec![
                Recipient {
                    path: ForwardPath::Mailbox(Mailbox::parse("c@[192.0.2.1]").unwrap()),
                    notify: Some(Notify::On { delay: true, failure: true, success: false }),
                    orcpt: Some("rfc822;c".to_owned()),
                },
                Recipient::new(ForwardPath::Postmaster),
            ],
            body: BodyType::EightBitMime,
            utf8: Utf8::NotDeclared,
            ret: Some(Ret::Headers),
            envid: None,
            requests: Requests::default(),
            origin: Origin {
                listener: "mx".to_owned(),
                peer: Some(Peer {
                    address: "[2001:db8::1]:25".parse().unwrap(),
                    hello: "h".to_owned(),
                    name: None,
                }),
                credential: None,
                protocol: Protocol::Esmtps,
                tls: Some(TlsFacts { version: "V".to_owned(), cipher: "C".to_owned() }),
                received_at: Time::from_micros(0x0a0b),
            },
        },
        edits: Overlay { prepend: b"X: y\r\n".to_vec(), remove: vec![5..9, 12..13] },
        size_bytes: 77,
    };
    let state = |waiting| DeliveryState { attempts: 2, waiting, is_delay_told: false, rule: None };
    let carried = Carried {
        accepted: accepted.clone(),
        deliveries: vec![
            (0, state(Waiting::Held { hold: hold.clone(), cause: None })),
            (
                1,
                state(Waiting::Until {
                    time: Time::from_micros(8),
                    cause: Some(CauseNote { class: Class::Busy, code: 421 }),
                }),
            ),
        ],
    };
    let mut rerouted = carried.clone();
    rerouted.deliveries[1].1.rule = Some("r".into());
    let mut told = carried.clone();
    for (_, state) in &mut told.deliveries {
        state.is_delay_told = true;
    }
    let attempted = Attempted {
        message: QueueId::from_bits(0x0102),
        attempt: Attempt {
            number: 1,
            path: Some(EgressPath {
                source: "e".to_owned(),
                host: Domain::parse("mx.example").unwrap(),
                address: Remote::Ip("192.0.2.2:25".parse().unwrap()),
            }),
            began: Time::from_micros(1),
            ended: Time::from_micros(2),
            tls: None,
            policy: None,
        },
        outcomes: vec![
            (0, Outcome::Delivered { reply }),
            (1, Outcome::Deferred { cause: cause.clone(), until: Time::from_micros(9) }),
        ],
    };
    let events = [
        Event::Accepted(Box::new(accepted.clone())),
        Event::Attempted(Box::new(attempted)),
        Event::Cancelled(delivery),
        Event::Captured(Box::new(accepted)),
        Event::Carried(Box::new(carried)),
        Event::ConfigChanged { digest: [0xcd; 32] },
        Event::Expired { delivery, cause },
        Event::Held { delivery, hold },
        Event::Released { delivery, until: Time::from_micros(6) },
        Event::Retired(QueueId::from_bits(0x0102)),
        Event::Carried(Box::new(told)),
        Event::Delayed { message: QueueId::from_bits(0x0102), recipients: vec![1, 3] },
        Event::Rerouted { delivery, rule: Some("r".into()), until: Time::from_micros(6) },
        Event::Rerouted { delivery, rule: None, until: Time::from_micros(6) },
        Event::Carried(Box::new(rerouted)),
    ];
    let golden = include_str!("format1.hex");
    let mut lines = golden.lines();
    for event in events {
        let mut line = format!("{} ", event.name());
        for octet in octets(&event) {
            write!(line, "{octet:02x}").unwrap();
        }
        assert_eq!(lines.next(), Some(line.as_str()), "see docs/format.md");
        assert_eq!(decode(&octets(&event)), Ok(event));
    }
    assert_eq!(lines.next(), None);
}

/// Version 1 of `Attempted`; where nobody knows the policy it is still version 0.
#[test]
fn how_a_connection_had_to_be_protected_is_written_behind_its_tls() {
    let attempt = Attempt {
        number: 1,
        path: None,
        began: Time::from_micros(1),
        ended: Time::from_micros(2),
        tls: None,
        policy: None,
    };
    let attempted = |attempt: Attempt| {
        let (message, outcomes) = (QueueId::from_bits(1), Vec::new());
        Event::Attempted(Box::new(Attempted { message, attempt, outcomes }))
    };
    let bare = octets(&attempted(attempt.clone()));
    let policy = TlsPolicy { demand: TlsDemand::Dane, source: TlsSource::Dane };
    let told = attempted(Attempt { policy: Some(policy), ..attempt });
    let mut written = octets(&told);
    assert_eq!((bare[1], written[1]), (0, 1), "the version");
    let end = bare.len() - 4;
    assert_eq!(written[2..end], bare[2..end]);
    assert_eq!(written[end..], [1, 4, 1, 0, 0, 0, 0]);
    assert_eq!(decode(&written), Ok(told));
    written[end + 1] = 9;
    assert!(decode(&written).is_err(), "no such demand");
}

/// Version 1 of the events that hold an envelope; what asks for nothing is still version 0.
#[test]
fn what_is_asked_for_is_written_behind_the_origin() {
    let mut accepted = Accepted {
        id: QueueId::from_bits(0x0102),
        envelope: Envelope {
            reverse_path: ReversePath(None),
            recipients: vec![Recipient::new(ForwardPath::Postmaster)],
            body: BodyType::SevenBit,
            utf8: Utf8::NotDeclared,
            ret: None,
            envid: None,
            requests: Requests {
                deliver_by: Some(DeliverBy {
                    deadline: Time::from_micros(5),
                    mode: ByMode::Return,
                    is_traced: true,
                }),
                priority: Priority::new(3),
                release_at: Some(Time::from_micros(7)),
                tls: TlsRequest::Required,
            },
            origin: Origin {
                listener: String::new(),
                peer: None,
                credential: None,
                protocol: Protocol::Internal,
                tls: None,
                received_at: Time::EPOCH,
            },
        },
        edits: Overlay::default(),
        size_bytes: 0,
    };
    let head = "0201000000000000 00 01000000 00 00 00 01 01 00 00";
    let origin = "00000000 00 00 04 00 0000000000000000";
    let requests = "01 0500000000000000 01 01 01 0c 01 0700000000000000 01";
    let tail = "00000000 00000000 0000000000000000";
    for (version, requests) in [("01 01", requests), ("01 00", "")] {
        let event = Event::Accepted(Box::new(accepted.clone()));
        let mut hex = String::new();
        for octet in octets(&event) {
            write!(hex, "{octet:02x}").unwrap();
        }
        let want = [version, head, origin, requests, tail].concat().replace(' ', "");
        assert_eq!(hex, want, "see docs/format.md");
        assert_eq!(decode(&octets(&event)), Ok(event));
        accepted.envelope.requests = Requests::default();
    }
}
