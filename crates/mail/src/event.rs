//! What happened: the decisions that the journal keeps, and that everything else is told.
//!
//! Invariant: an event records a decision, so replay never decides. The queue after a restart is
//! the fold of these events and of nothing else. Pure; the encoding on disk belongs to `spool`.

use std::{fmt, sync::Arc};

use crate::{
    Attempt, Cause, Class, DeliveryId, Envelope, Hold, Lsn, NodeId, Outcome, Overlay, QueueId, Time,
};

/// An event with its place: what the journal holds and what readers are told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its place in the journal.
    pub lsn: Lsn,
    /// When it was decided.
    pub at: Time,
    /// Who decided.
    pub node: NodeId,
    /// What was decided.
    pub event: Event,
}

/// A decision. Each variant is described in `docs/reference/events.md`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// We took responsibility for a message (RFC 5321 §6.1).
    Accepted(Box<Accepted>),
    /// An attempt ended with an outcome for each recipient that was tried.
    Attempted(Box<Attempted>),
    /// An operator gave up a delivery.
    Cancelled(DeliveryId),
    /// The sandbox keeps a message.
    Captured(Box<Accepted>),
    /// The whole state of a living message, written anew so that its old segment may go.
    Carried(Box<Carried>),
    /// The relay runs with another configuration.
    ConfigChanged {
        /// SHA-256 of the effective configuration.
        digest: [u8; 32],
    },
    /// The originator was told that these deliveries are delayed; it is told once of each.
    Delayed {
        /// Which message.
        message: QueueId,
        /// The places of the recipients in the envelope.
        recipients: Vec<u32>,
    },
    /// A delivery waited too long and failed.
    Expired {
        /// Which.
        delivery: DeliveryId,
        /// The last cause of its waiting.
        cause: Cause,
    },
    /// A delivery waits for a limit or for an operator.
    Held {
        /// Which.
        delivery: DeliveryId,
        /// For what.
        hold: Hold,
    },
    /// A held delivery may go.
    Released {
        /// Which.
        delivery: DeliveryId,
        /// When it is tried next.
        until: Time,
    },
    /// An operator leads a delivery another way.
    Rerouted {
        /// Which.
        delivery: DeliveryId,
        /// The name of the rule that decides for it from now on, whatever its conditions; `None`:
        /// the first that matches, as for all others.
        rule: Option<Arc<str>>,
        /// When it is tried next; nothing of one that is held.
        until: Time,
    },
    /// Everything about a message is finished; its content may go.
    Retired(QueueId),
}

impl Event {
    /// The name of the variant, as logs and documentation show it.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Accepted(_) => "Accepted",
            Self::Attempted(_) => "Attempted",
            Self::Cancelled(_) => "Cancelled",
            Self::Captured(_) => "Captured",
            Self::Carried(_) => "Carried",
            Self::ConfigChanged { .. } => "ConfigChanged",
            Self::Delayed { .. } => "Delayed",
            Self::Expired { .. } => "Expired",
            Self::Held { .. } => "Held",
            Self::Released { .. } => "Released",
            Self::Rerouted { .. } => "Rerouted",
            Self::Retired(_) => "Retired",
        }
    }

    /// Whether it must be on stable storage before anybody is told.
    pub fn durability(&self) -> Durability {
        match self {
            Self::Attempted(attempted) => {
                // A failure is answered by a DSN; both must be durable together.
                let fails = |o: &(u32, Outcome)| matches!(o.1, Outcome::Failed { .. });
                if attempted.outcomes.iter().any(fails) {
                    Durability::Sync
                } else {
                    Durability::Lazy
                }
            }
            Self::ConfigChanged { .. } | Self::Retired(_) => Durability::Lazy,
            Self::Accepted(_)
            | Self::Cancelled(_)
            | Self::Captured(_)
            | Self::Carried(_)
            | Self::Delayed { .. }
            | Self::Expired { .. }
            | Self::Held { .. }
            | Self::Released { .. }
            | Self::Rerouted { .. } => Durability::Sync,
        }
    }

    /// What the spool must know of an event to keep its segments; it knows no more.
    pub const fn keeping(&self) -> Keeping {
        match self {
            Self::Accepted(accepted) => Keeping::Opens(accepted.id),
            Self::Captured(captured) => Keeping::Stores(captured.id),
            Self::Carried(carried) => Keeping::Opens(carried.accepted.id),
            Self::Attempted(attempted) => Keeping::About(attempted.message),
            Self::Delayed { message, .. } => Keeping::About(*message),
            Self::Cancelled(delivery)
            | Self::Expired { delivery, .. }
            | Self::Held { delivery, .. }
            | Self::Released { delivery, .. }
            | Self::Rerouted { delivery, .. } => Keeping::About(delivery.message),
            Self::ConfigChanged { .. } => Keeping::Latest("config"),
            Self::Retired(id) => Keeping::Closes(*id),
        }
    }
}

/// What an event means for the life of the records before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keeping {
    /// It tells more of a message that lives.
    About(QueueId),
    /// The message is finished: nothing about it is needed any more.
    Closes(QueueId),
    /// Only the latest of this name is needed; the spool carries it as it is.
    Latest(&'static str),
    /// A message lives from here on, told whole; older records about it are not needed. Only the
    /// owner of the queue can carry it.
    Opens(QueueId),
    /// A message is kept from here on and never changes: the spool carries it as it is.
    Stores(QueueId),
}

/// When an event is on stable storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Soon: bounded by time, and never waited for. A crash may forget it.
    Lazy,
    /// Before anybody is told.
    Sync,
}

/// A message for which we are responsible, as it was accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// Our name for it.
    pub id: QueueId,
    /// Whom it is from and for; `envelope.origin.received_at` is when.
    pub envelope: Envelope,
    /// What is added to and taken from its header when it is sent on.
    pub edits: Overlay,
    /// Octets of the content as it was received, without the edits.
    pub size_bytes: u64,
}

/// An attempt and what came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempted {
    /// Which message.
    pub message: QueueId,
    /// Where, when and how.
    pub attempt: Attempt,
    /// For each recipient that was tried: its place in the envelope, and what is so now.
    pub outcomes: Vec<(u32, Outcome)>,
}

/// A living message, told whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Carried {
    /// As it was accepted.
    pub accepted: Accepted,
    /// Its living deliveries: the place of the recipient, and its state. The others are finished.
    pub deliveries: Vec<(u32, DeliveryState)>,
}

/// How a living delivery stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliveryState {
    /// How many attempts have ended.
    pub attempts: u32,
    /// What it waits for.
    pub waiting: Waiting,
    /// Whether the originator was told of its delay.
    pub is_delay_told: bool,
    /// The name of the rule that an operator chose for it; `None`: the first that matches.
    pub rule: Option<Arc<str>>,
}

/// What a living delivery waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Waiting {
    /// Somebody or something holds it.
    Held {
        /// What.
        hold: Hold,
        /// Why it was not delivered before; `None` before the first attempt.
        cause: Option<CauseNote>,
    },
    /// The time of its next attempt.
    Until {
        /// When.
        time: Time,
        /// Why it was not delivered before; `None` before the first attempt.
        cause: Option<CauseNote>,
    },
}

/// A cause, as briefly as a queue of millions can keep it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CauseNote {
    /// What kind of trouble.
    pub class: Class,
    /// The code of the reply behind it, 200 to 599.
    pub code: u16,
}

impl fmt::Display for CauseNote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.class.advice_id(), self.code)
    }
}
