//! Messages and events to begin with. Pure.

use std::borrow::Cow;

use merpati_mail::{
    Attempt, BodyType, ByMode, Cause, Class, DeliverBy, DeliveryId, Domain, EgressPath, Envelope,
    Event, ForwardPath, Hold, Mailbox, Origin, Outcome, Overlay, Peer, Priority, Protocol, QueueId,
    Recipient, Reply, Requests, ReversePath, Scope, Time, TlsRequest,
    envelope::{Notify, Ret, Utf8},
    event::{Accepted, Attempted, Carried, CauseNote, DeliveryState, Waiting},
};

use crate::smtp_server::tls;

/// A message as it was accepted.
pub(crate) fn accepted(id: QueueId, size_bytes: u64) -> Accepted {
    let path = |text| ForwardPath::Mailbox(Mailbox::parse(text).expect("a mailbox"));
    let notify = Some(Notify::On { delay: true, failure: true, success: false });
    let orcpt = Some("rfc822;c+40c.example".to_owned());
    let peer = Peer {
        address: ([192, 0, 2, 1], 25_000).into(),
        hello: "there".to_owned(),
        name: Domain::parse("there.example").ok(),
    };
    Accepted {
        id,
        envelope: Envelope {
            reverse_path: ReversePath(Mailbox::parse("a@a.example").ok()),
            recipients: vec![
                Recipient { path: path("b@b.example"), notify, orcpt },
                Recipient::new(path("\"c d\"@[192.0.2.7]")),
                Recipient::new(ForwardPath::Postmaster),
            ],
            body: BodyType::EightBitMime,
            utf8: Utf8::NotDeclared,
            ret: Some(Ret::Headers),
            envid: Some("env-1".to_owned()),
            requests: Requests {
                deliver_by: Some(DeliverBy {
                    deadline: Time::from_secs(2),
                    mode: ByMode::Return,
                    is_traced: true,
                }),
                priority: Priority::new(-9),
                release_at: Some(Time::from_secs(1)),
                tls: TlsRequest::Required,
            },
            origin: Origin {
                listener: "mx".to_owned(),
                peer: Some(peer),
                credential: Some("ani".to_owned()),
                protocol: Protocol::Esmtpsa,
                tls: Some(tls()),
                received_at: Time::from_secs(1_000_000),
            },
        },
        edits: Overlay { prepend: b"X: y\r\n".to_vec(), remove: vec![0..5, 9..20] },
        size_bytes,
    }
}

/// Why a delivery failed.
pub(crate) fn cause(reply: Reply, remote: Option<Domain>) -> Cause {
    Cause { class: Class::Busy, scope: Scope::Host, reply, remote }
}

/// A deferral of the first recipient, with two others.
pub(crate) fn attempted(id: QueueId, number: u32) -> Event {
    let host = Domain::parse("mx.b.example").expect("a domain");
    let reply = Reply { code: 421, enhanced: None, text: Cow::Borrowed("busy") };
    let cause = cause(reply.clone(), Some(host.clone()));
    let path = EgressPath {
        source: "main".into(),
        host,
        address: std::net::SocketAddr::from(([192, 0, 2, 3], 25)).into(),
    };
    let outcomes = vec![
        (0, Outcome::Deferred { cause: cause.clone(), until: Time::from_secs(60) }),
        (1, Outcome::Delivered { reply: Reply::new(250, (2, 0, 0), "thanks") }),
        (2, Outcome::Failed { cause }),
    ];
    let attempt = Attempt {
        number,
        path: Some(path),
        began: Time::from_secs(2),
        ended: Time::from_secs(3),
        tls: Some(tls()),
        policy: None,
    };
    Event::Attempted(Box::new(Attempted { message: id, attempt, outcomes }))
}

/// A message told anew after so many attempts.
pub(crate) fn carried(id: QueueId, size_bytes: u64, attempts: u32) -> Event {
    let note = Some(CauseNote { class: Class::Busy, code: 421 });
    let waiting = [
        Waiting::Until { time: Time::from_secs(60), cause: note },
        Waiting::Held { hold: hold(), cause: None },
    ];
    let deliveries = (0..).zip(waiting).map(|(recipient, waiting)| {
        let is_delay_told = recipient == 1;
        let rule = (recipient == 0).then(|| "backup".into());
        (recipient, DeliveryState { attempts, waiting, is_delay_told, rule })
    });
    let deliveries = deliveries.collect();
    Event::Carried(Box::new(Carried { accepted: accepted(id, size_bytes), deliveries }))
}

/// One event of each kind.
pub(crate) fn events() -> [Event; 12] {
    let id = QueueId::from_bits(77);
    let delivery = DeliveryId { message: id, recipient: 1 };
    [
        Event::Accepted(Box::new(accepted(id, 5))),
        attempted(id, 1),
        Event::Cancelled(delivery),
        Event::Captured(Box::new(accepted(id, 5))),
        carried(id, 5, 3),
        Event::ConfigChanged { digest: [7; 32] },
        Event::Expired { delivery, cause: cause(Reply::bare(451, "later"), None) },
        Event::Held { delivery, hold: hold() },
        Event::Released { delivery, until: Time::from_secs(9) },
        Event::Rerouted {
            delivery,
            rule: Some("backup".into()),
            until: Time::from_secs(9),
        },
        Event::Retired(id),
        Event::Delayed { message: id, recipients: vec![0, 1] },
    ]
}

fn hold() -> Hold {
    Hold {
        limit: "operator".to_owned(),
        value: "held by postmaster".to_owned(),
        source: "control socket".to_owned(),
        until: Some(Time::from_secs(90)),
    }
}
