//! Messages to store, and the fold that tells what a journal says.

use std::{borrow::Cow, collections::BTreeMap};

use merpati_mail::{
    Attempt, BodyType, Cause, Class, Envelope, Event, ForwardPath, Mailbox, Origin, Outcome,
    Overlay, Protocol, QueueId, Recipient, Record, Reply, Requests, ReversePath, Scope, Time,
    envelope::Utf8,
    event::{Accepted, Attempted, Carried, DeliveryState, Waiting},
};

/// A message as it was accepted.
pub(crate) fn accepted(id: QueueId, size_bytes: u64) -> Accepted {
    let mailbox = |text: &str| Mailbox::parse(text).unwrap();
    Accepted {
        id,
        envelope: Envelope {
            reverse_path: ReversePath(Some(mailbox("origin@example.org"))),
            recipients: vec![Recipient::new(ForwardPath::Mailbox(mailbox("r@example.net")))],
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
                received_at: Time::from_secs(1),
            },
        },
        edits: Overlay::default(),
        size_bytes,
    }
}

/// A deferral of the only recipient.
pub(crate) fn attempted(id: QueueId, number: u32) -> Event {
    Event::Attempted(Box::new(Attempted {
        message: id,
        attempt: Attempt {
            number,
            path: None,
            began: Time::from_secs(2),
            ended: Time::from_secs(3),
            tls: None,
            policy: None,
        },
        outcomes: vec![(
            0,
            Outcome::Deferred {
                cause: Cause {
                    class: Class::Busy,
                    scope: Scope::Host,
                    reply: Reply { code: 421, enhanced: None, text: Cow::Borrowed("busy") },
                    remote: None,
                },
                until: Time::from_secs(60),
            },
        )],
    }))
}

/// A message told anew after so many attempts.
pub(crate) fn carried(id: QueueId, size_bytes: u64, attempts: u32) -> Event {
    let waiting = Waiting::Until { time: Time::from_secs(60), cause: None };
    Event::Carried(Box::new(Carried {
        accepted: accepted(id, size_bytes),
        deliveries: vec![(
            0,
            DeliveryState { attempts, waiting, is_delay_told: false, rule: None },
        )],
    }))
}

/// What a journal says: the test's own small queue.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) messages: BTreeMap<QueueId, Message>,
    pub(crate) config: Option<[u8; 32]>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) size_bytes: u64,
    pub(crate) attempts: u32,
    pub(crate) is_captured: bool,
}

impl State {
    pub(crate) fn apply(&mut self, event: &Event) {
        match event {
            Event::Accepted(a) => self.insert(a, 0, false),
            Event::Captured(a) => self.insert(a, 0, true),
            Event::Carried(c) => self.insert(&c.accepted, c.deliveries[0].1.attempts, false),
            Event::Attempted(a) => {
                if let Some(message) = self.messages.get_mut(&a.message) {
                    message.attempts = a.attempt.number;
                }
            }
            Event::ConfigChanged { digest } => self.config = Some(*digest),
            Event::Retired(id) => {
                self.messages.remove(id);
            }
            Event::Cancelled(_)
            | Event::Delayed { .. }
            | Event::Expired { .. }
            | Event::Held { .. }
            | Event::Released { .. }
            | Event::Rerouted { .. } => {}
        }
    }

    pub(crate) fn fold(&mut self, record: &Record) {
        self.apply(&record.event);
    }

    fn insert(&mut self, accepted: &Accepted, attempts: u32, is_captured: bool) {
        let size_bytes = accepted.size_bytes;
        self.messages.insert(accepted.id, Message { size_bytes, attempts, is_captured });
    }
}

/// The content of a message: it can be told from its name and length.
pub(crate) fn content(id: QueueId, octets: u64) -> Vec<u8> {
    let mut draw = merpati_mail::Draw::new(id.bits());
    let mut content: Vec<u8> =
        (0..octets.div_ceil(8)).flat_map(|_| draw.bits().to_le_bytes()).collect();
    content.truncate(octets as usize);
    content
}
