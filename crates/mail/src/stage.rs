//! What a server session asks before it answers, and what it may be told.
//!
//! Invariant: a session has at most one open question; a verdict always names its rule. Pure.

use std::borrow::Cow;

use crate::{BodyType, ForwardPath, Priority, Reply, Requests, ReversePath, envelope::Utf8};

/// A point of a session at which somebody else decides how it goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stage {
    /// A connection was made; the greeting waits.
    Connect,
    /// EHLO or HELO with this name.
    Hello {
        /// The name or address literal as it was sent.
        name: String,
    },
    /// MAIL, well-formed and in sequence.
    Mail {
        /// From whom.
        reverse_path: ReversePath,
        /// The `SIZE` parameter (RFC 1870); `None` where there was none.
        size_bytes: Option<u64>,
        /// The `BODY` parameter.
        body: BodyType,
        /// The `SMTPUTF8` parameter.
        utf8: Utf8,
        /// What else is asked for.
        requests: Requests,
    },
    /// RCPT, well-formed and in sequence.
    Recipient {
        /// To whom.
        path: ForwardPath,
        /// How many recipients of this transaction were accepted before.
        accepted_before: usize,
    },
}

/// What was decided at a [`Stage`], and by which rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// What is to happen.
    pub decision: Decision,
    /// The name of the rule that decided; it appears in logs and in `explain`.
    pub rule: Cow<'static, str>,
}

impl Verdict {
    /// Go on.
    pub const fn accept(rule: &'static str) -> Self {
        Self { decision: Decision::Accept, rule: Cow::Borrowed(rule) }
    }

    /// Say no with this reply.
    pub const fn refuse(rule: &'static str, reply: Reply) -> Self {
        Self { decision: Decision::Refuse(reply), rule: Cow::Borrowed(rule) }
    }

    /// Say no with this reply and end the connection.
    pub const fn disconnect(rule: &'static str, reply: Reply) -> Self {
        Self { decision: Decision::Disconnect(reply), rule: Cow::Borrowed(rule) }
    }
}

/// What is to happen at a [`Stage`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Go on.
    Accept,
    /// Go on, but with this lower priority than the one asked for (RFC 6710 §5); an answer to
    /// [`Stage::Mail`] only, elsewhere the same as [`Self::Accept`].
    AcceptLowered(Priority),
    /// Say no with this 4yz or 5yz and end the connection.
    Disconnect(Reply),
    /// Say no with this 4yz or 5yz.
    Refuse(Reply),
}
