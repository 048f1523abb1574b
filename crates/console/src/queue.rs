//! What an operator sees of the queue and does to it: deliveries, verbs, and what came of them.
//!
//! Invariant: every delivery has exactly one reason at every time, and with it a sentence and what
//! a person should do. Pure.

use std::{collections::BTreeMap, time::Duration};

use merpati_mail::{Class, DeliveryId, Envelope, Hold, QueueId, Route, Time};

use crate::{
    Summary,
    advice::{advice, held},
};

/// A living delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Which.
    pub id: DeliveryId,
    /// When its message was accepted.
    pub accepted_at: Time,
    /// Whether it waits, is held or is being tried.
    pub standing: Standing,
    /// What kind of trouble keeps it here.
    pub class: Class,
    /// The code of the reply behind the class; `None` before the first attempt, or where it was not
    /// asked for.
    pub code: Option<u16>,
    /// When something happens by itself; `None` where somebody must act.
    pub next: Option<Time>,
    /// How many attempts have ended.
    pub attempts: u32,
    /// What holds it; of one that waits, the limit of its next hop that is reached.
    pub hold: Option<Hold>,
    /// Its envelope; `None` where it was not read, or cannot be.
    pub envelope: Option<EnvelopeFacts>,
}

/// What of an envelope concerns one delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnvelopeFacts {
    /// The reverse-path without brackets; empty for the null reverse-path.
    pub reverse_path: String,
    /// The forward-path without brackets.
    pub recipient: String,
    /// The address that stands for it, where another one was named; `None` where it was not.
    pub via: Option<String>,
    /// Octets of the content as it was received.
    pub size_bytes: u64,
    /// The listener that took it.
    pub listener: String,
    /// The credential that authenticated; `None` where nothing did.
    pub credential: Option<String>,
    /// Where it goes; `None` where no rule covers it.
    pub route: Option<Route>,
    /// Whether an operator chose the rule of this route.
    pub is_rerouted: bool,
}

/// How a living delivery stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// An attempt goes on.
    Attempting,
    /// Somebody holds it.
    Held,
    /// It waits for its time.
    Waiting,
}

impl Standing {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Attempting, Self::Held, Self::Waiting];

    /// The word by which the API and the selection know it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Attempting => "attempting",
            Self::Held => "held",
            Self::Waiting => "waiting",
        }
    }
}

/// Why a delivery is still here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason<'a> {
    /// Its id: that of an advice, or the name of a limit.
    pub id: &'a str,
    /// What is so, one sentence.
    pub sentence: String,
    /// What a person should do, one sentence.
    pub advice: &'static str,
}

impl Delivery {
    /// The one reason for which it is still here at this time.
    pub fn reason(&self, now: Time) -> Reason<'_> {
        let known = advice(self.class);
        let id = self.class.advice_id();
        match (self.standing, &self.hold) {
            (Standing::Attempting, _) => {
                let before = if self.attempts == 0 { "" } else { " Last time: " };
                let last = if self.attempts == 0 { "" } else { known.is_so };
                let sentence = format!("An attempt goes on now.{before}{last}");
                Reason { id, sentence, advice: "Nothing to do." }
            }
            (Standing::Held, Some(hold)) => {
                Reason { id, sentence: held(&hold.limit, &hold.value), advice: known.to_do }
            }
            // Before its time a delivery waits for that, whatever its next hop is at.
            (Standing::Waiting, Some(hold)) if self.next.is_some_and(|next| next <= now) => {
                let (limit, value) = (&hold.limit, &hold.value);
                let sentence = format!("It is due and waits for a limit: {limit}, {value}.");
                let advice = "Nothing to do: it goes as soon as there is room.";
                Reason { id: &hold.limit, sentence, advice }
            }
            (Standing::Held | Standing::Waiting, _) => {
                Reason { id, sentence: known.is_so.to_owned(), advice: known.to_do }
            }
        }
    }
}

/// Which part of the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueuePage {
    /// Only deliveries behind this one; `None` begins with the oldest.
    pub after: Option<DeliveryId>,
    /// At most so many, 1 to 1,000.
    pub limit: usize,
}

/// A part of the queue.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueueListing {
    /// The deliveries of this page, the oldest message first. There may be fewer than asked for,
    /// even none, although more follow: a page ends when enough was looked at.
    pub deliveries: Vec<Delivery>,
    /// Where the next page begins: behind this one; `None` where nothing follows.
    pub next: Option<DeliveryId>,
}

/// By what deliveries are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grouping {
    /// The credential that handed it over; `-` for none.
    Credential,
    /// The recipient's domain.
    Domain,
    /// The listener that took it.
    Listener,
    /// Where it goes: the domain for a rule that asks DNS, else the rule.
    NextHop,
    /// The id of its reason.
    Reason,
    /// The sender's domain; `<>` for the null reverse-path.
    SenderDomain,
    /// Whether it waits, is held or is being tried.
    Status,
}

impl Grouping {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Credential,
        Self::Domain,
        Self::Listener,
        Self::NextHop,
        Self::Reason,
        Self::SenderDomain,
        Self::Status,
    ];

    /// The word by which it is known.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Credential => "credential",
            Self::Domain => "domain",
            Self::Listener => "listener",
            Self::NextHop => "next-hop",
            Self::Reason => "reason",
            Self::SenderDomain => "sender-domain",
            Self::Status => "status",
        }
    }

    /// Whether it stands in the envelope, which must be read.
    pub const fn reads_envelopes(self) -> bool {
        match self {
            Self::Credential | Self::Domain | Self::Listener | Self::SenderDomain => true,
            Self::NextHop | Self::Reason | Self::Status => false,
        }
    }

    /// The name of the group of a delivery; `next_hop` is that of its lane.
    pub fn name(self, delivery: &Delivery, next_hop: Option<&str>, now: Time) -> String {
        let envelope = delivery.envelope.as_ref();
        let domain = |address: &str| {
            address.rsplit_once('@').map_or(address, |(_, domain)| domain).to_lowercase()
        };
        let name = match self {
            Self::Credential => envelope.and_then(|envelope| envelope.credential.clone()),
            Self::Domain => envelope.map(|envelope| domain(&envelope.recipient)),
            Self::Listener => envelope.map(|envelope| envelope.listener.clone()),
            Self::NextHop => next_hop.map(str::to_owned),
            Self::Reason => Some(delivery.reason(now).id.to_owned()),
            Self::SenderDomain => envelope.map(|envelope| match envelope.reverse_path.as_str() {
                "" => "<>".to_owned(),
                address => domain(address),
            }),
            Self::Status => Some(delivery.standing.word().to_owned()),
        };
        name.unwrap_or_else(|| "-".to_owned())
    }
}

/// How much waits, by groups and by age.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shape {
    /// The groups by their names.
    pub groups: BTreeMap<String, GroupFacts>,
    /// Where to go on: behind this message; `None` where all were looked at.
    pub next: Option<QueueId>,
}

/// How much of a group waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GroupFacts {
    /// Deliveries.
    pub deliveries: u64,
    /// Messages with a delivery in it.
    pub messages: u64,
    /// Deliveries by age: up to each of [`AGES_MINUTES`], and above the last one.
    pub ages: [u64; AGES_MINUTES.len() + 1],
}

impl Shape {
    /// Counts a delivery into this group; `is_first` of its message there.
    pub fn count(&mut self, group: String, age: Duration, is_first: bool) {
        let facts = self.groups.entry(group).or_default();
        facts.deliveries += 1;
        facts.messages += u64::from(is_first);
        let minutes = age.as_secs() / 60;
        let place = AGES_MINUTES.iter().take_while(|bound| **bound <= minutes).count();
        if let Some(here) = facts.ages.get_mut(place) {
            *here += 1;
        }
    }
}

/// The ages that part the columns of a shape, in minutes; each is twice the one before.
pub const AGES_MINUTES: [u64; 9] = [5, 10, 20, 40, 80, 160, 320, 640, 1_280];

/// A message of the queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Queued {
    /// Its header in short.
    pub summary: Summary,
    /// The `Date` field; `None` where there is none.
    pub date: Option<String>,
    /// Why its content cannot be read, where it cannot: then nothing is known of its header.
    pub content_error: Option<String>,
    /// Its envelope.
    pub envelope: Envelope,
    /// Its living deliveries; the other recipients are finished.
    pub deliveries: Vec<Delivery>,
}

/// What an operator does with deliveries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Give them up. No DSN is sent.
    Cancel,
    /// Let those that are not held wait until they are released.
    Hold(Hold),
    /// Let those that are held go, at once.
    Release,
    /// Lead them by the rule of this name, at once; `None`: by the first that matches again.
    Reroute(Option<String>),
    /// Try those that wait at once.
    Retry,
}

impl Verb {
    /// The word by which it is known.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Cancel => "cancel",
            Self::Hold(_) => "hold",
            Self::Release => "release",
            Self::Reroute(_) => "reroute",
            Self::Retry => "retry",
        }
    }

    /// Whether it changes anything for a delivery that stands so.
    pub const fn concerns(&self, standing: Standing) -> bool {
        match (self, standing) {
            (Self::Hold(_), Standing::Held)
            | (Self::Release, Standing::Attempting | Standing::Waiting)
            | (Self::Reroute(_), Standing::Attempting)
            | (Self::Retry, Standing::Attempting | Standing::Held) => false,
            (Self::Cancel, _)
            | (Self::Hold(_), Standing::Attempting | Standing::Waiting)
            | (Self::Release, Standing::Held)
            | (Self::Reroute(_), Standing::Held | Standing::Waiting)
            | (Self::Retry, Standing::Waiting) => true,
        }
    }
}

/// Whether a verb is carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Only count what it would concern.
    DryRun,
    /// Do it, durably.
    Real,
}

/// What came of a verb on a part of the queue.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Operated {
    /// Messages of which it concerned a delivery.
    pub messages: u64,
    /// Deliveries that it concerned.
    pub deliveries: u64,
    /// Deliveries that were selected, but for which it changes nothing.
    pub passed_over: u64,
    /// Messages that the selection names and that are not in the queue.
    pub missing: Vec<QueueId>,
    /// Where to go on: behind this message; `None` where all were looked at.
    pub next: Option<QueueId>,
}
