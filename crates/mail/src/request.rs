//! What a client asks for with a message besides that it be delivered: by when, not before when,
//! how urgently, and how protected.
//!
//! Invariant: times are points in time, never spans, so that nothing changes its meaning while a
//! message waits. Pure.

use std::fmt;

use crate::Time;

/// What the parameters of MAIL ask for. The default asks for nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Requests {
    /// `BY=` (RFC 2852); `None` where there was none.
    pub deliver_by: Option<DeliverBy>,
    /// `MT-PRIORITY=` (RFC 6710), as far as we grant it; `None` where there was none, which is
    /// [`Priority::NORMAL`].
    pub priority: Option<Priority>,
    /// Before this time no attempt is made, as `HOLDFOR=` or `HOLDUNTIL=` says (RFC 4865); `None`
    /// where there was none.
    pub release_at: Option<Time>,
    /// `REQUIRETLS` (RFC 8689).
    pub tls: TlsRequest,
}

impl Requests {
    /// Whether nothing is asked for.
    pub fn are_none(&self) -> bool {
        *self == Self::default()
    }

    /// How urgent the message is.
    pub fn urgency(&self) -> Priority {
        self.priority.unwrap_or(Priority::NORMAL)
    }
}

/// By when a message is to be delivered (RFC 2852).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeliverBy {
    /// The end of the time that was given.
    pub deadline: Time,
    /// What happens then.
    pub mode: ByMode,
    /// Whether each hand-over to another host is to be reported (`T`).
    pub is_traced: bool,
}

/// What happens to a message that was not delivered in time (RFC 2852 §4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ByMode {
    /// The originator is told, and attempts go on (`N`).
    Notify,
    /// It fails, and the originator is told (`R`).
    Return,
}

impl ByMode {
    /// Its letter in the parameter.
    pub const fn letter(self) -> char {
        match self {
            Self::Notify => 'N',
            Self::Return => 'R',
        }
    }
}

/// How urgent a message is (RFC 6710 §4): higher goes first. -9 to 9.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Priority(i8);

impl Priority {
    /// Neither urgent nor not: what a message has that does not say.
    pub const NORMAL: Self = Self(0);
    /// The most urgent.
    pub const HIGHEST: Self = Self(9);

    /// This priority; `None` outside of -9 to 9.
    pub const fn new(value: i8) -> Option<Self> {
        if matches!(value, -9..=9) { Some(Self(value)) } else { None }
    }

    /// The number.
    pub const fn value(self) -> i8 {
        self.0
    }
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// How the way of a message must be protected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TlsRequest {
    /// As each hop sees fit; or not at all, where the header says so (`TLS-Required: No`, RFC 8689
    /// §5).
    #[default]
    AsRouted,
    /// By TLS with a host that has proven its name and asks the same of the next one
    /// (`REQUIRETLS`, RFC 8689 §4).
    Required,
}
