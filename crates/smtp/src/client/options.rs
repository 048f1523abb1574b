//! What the client side may be told: names, time-outs, limits, and what it insists on.
//!
//! Invariant: every wait and every limit of the session stands here, with its default and where
//! that comes from. Pure.

use std::{fmt, time::Duration};

use merpati_mail::Domain;

use super::scram::Nonce;
use crate::reply_reader::ReplyLimits;

/// How a session behaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// What we call ourselves in EHLO, HELO and LHLO (RFC 5321 §4.1.1.1). No default.
    pub hello: Domain,
    /// A name by which we greet others: a peer that gives it as its own is ourselves, and mail
    /// would come round, so that the session fails with `Ourselves`. `None`, which is the default,
    /// for peers that may have our name, such as other servers of this machine.
    pub ourselves: Option<Domain>,
    /// Which protocol is spoken. Default SMTP.
    pub dialect: Dialect,
    /// Whether the connection is to be protected. Default opportunistic.
    pub tls: TlsUse,
    /// Whom to authenticate as; `None` for nobody, which is the default. With a credential the
    /// session fails where the peer does not accept it.
    pub credential: Option<Credential>,
    /// The client's nonce for SCRAM-SHA-256, drawn for this connection alone; `None`, which is the
    /// default, for never using that mechanism.
    pub nonce: Option<Nonce>,
    /// What happens to content with 8-bit octets where the peer has no 8BITMIME. Default: it is
    /// sent as it is.
    pub eight_bit: EightBitPolicy,
    /// Whether commands go out in groups (RFC 2920). Default: where the peer offers it.
    pub pipelining: Pipelining,
    /// Most recipients in one transaction; 0 counts as 1. A `RCPTMAX` of the peer (RFC 9422) can
    /// lower it. Default 100, which every server takes (RFC 5321 §4.5.3.1.8).
    pub recipients_max: usize,
    /// How long to wait for what.
    pub timeouts: Timeouts,
    /// How much the peer may say.
    pub limits: ReplyLimits,
}

impl Options {
    /// The defaults, with this name for ourselves.
    pub fn new(hello: Domain) -> Self {
        Self {
            hello,
            ourselves: None,
            dialect: Dialect::Smtp,
            tls: TlsUse::Opportunistic,
            credential: None,
            nonce: None,
            eight_bit: EightBitPolicy::SendAnyway,
            pipelining: Pipelining::WhereOffered,
            recipients_max: 100,
            timeouts: Timeouts::default(),
            limits: ReplyLimits::default(),
        }
    }
}

/// SMTP or its sibling for the last hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// LMTP (RFC 2033): LHLO, and one reply for each recipient after the end of data.
    Lmtp,
    /// SMTP (RFC 5321).
    Smtp,
}

/// Whether the connection is to be protected by TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsUse {
    /// The handshake came before the greeting (RFC 8314 §3); the shell has done it.
    Implicit,
    /// Never.
    Never,
    /// Where STARTTLS is offered (RFC 7435). A refused STARTTLS is followed by mail in the clear; a
    /// failed handshake ends the session.
    Opportunistic,
    /// STARTTLS or no mail. What makes a certificate good enough is the business of the shell.
    Required,
}

impl TlsUse {
    /// The same, but never without TLS.
    #[must_use]
    pub const fn required(self) -> Self {
        match self {
            Self::Implicit => Self::Implicit,
            Self::Never | Self::Opportunistic | Self::Required => Self::Required,
        }
    }
}

/// What to do with 8-bit content where the peer does not offer 8BITMIME (RFC 6152 §3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EightBitPolicy {
    /// The message is not delivered: `Lacks(EightBitMime)`.
    Refuse,
    /// Sent as it is. RFC 6152 §3 forbids it, but hosts that would damage 8-bit octets have died
    /// out, and encoding anew would break every signature.
    SendAnyway,
}

/// Whether commands go out in groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pipelining {
    /// One command, one reply: for peers whose pipelining is known to be broken.
    Never,
    /// Where the peer offers PIPELINING.
    WhereOffered,
}

/// A name and password for AUTH SCRAM-SHA-256, PLAIN or LOGIN (RFC 4954), in this order of
/// preference. Both are used as their UTF-8 octets, without `SASLprep`.
#[derive(Clone, PartialEq, Eq)]
pub struct Credential {
    /// The name.
    pub user: String,
    /// The password; never shown.
    pub password: String,
    /// Whether it may be said without TLS.
    pub exposure: Exposure,
}

/// Whether we may authenticate on a connection without TLS. It holds for all mechanisms alike:
/// SCRAM does not show the password, but who listens could still try guesses against it, and the
/// mail behind it would be read all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exposure {
    /// It may: for a peer on the same machine.
    InClear,
    /// It may not (RFC 4954 §4, RFC 8314 §3).
    OverTlsOnly,
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential").field("user", &self.user).finish_non_exhaustive()
    }
}

/// How long to wait for what. A wait is for a whole reply: octets that trickle in do not prolong
/// it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// The greeting. Default 5 minutes (RFC 5321 §4.5.3.2.1).
    pub greeting: Duration,
    /// The reply to EHLO, HELO, LHLO, AUTH and RSET, each. Default 5 minutes.
    pub hello: Duration,
    /// The reply to STARTTLS, and the handshake, each. Default 2 minutes.
    pub tls: Duration,
    /// The reply to MAIL. Default 5 minutes (RFC 5321 §4.5.3.2.2).
    pub mail: Duration,
    /// The reply to each RCPT. Default 5 minutes (RFC 5321 §4.5.3.2.3).
    pub recipient: Duration,
    /// The reply to DATA. Default 2 minutes (RFC 5321 §4.5.3.2.4).
    pub data_init: Duration,
    /// From one piece of content to the next, which is the time the peer may take to accept it.
    /// Default 3 minutes (RFC 5321 §4.5.3.2.5).
    pub data_block: Duration,
    /// Each reply to the end of data. Default 10 minutes (RFC 5321 §4.5.3.2.6): a shorter wait
    /// makes duplicates (RFC 1047).
    pub end_of_data: Duration,
    /// The reply to QUIT. Default 5 seconds: nothing depends on it.
    pub quit: Duration,
    /// From `Start` up to the end of data; the wait for the reply to that is never cut short.
    /// Default 1 hour.
    pub transaction: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        let minutes = |n: u64| Duration::from_secs(n * 60);
        Self {
            greeting: minutes(5),
            hello: minutes(5),
            tls: minutes(2),
            mail: minutes(5),
            recipient: minutes(5),
            data_init: minutes(2),
            data_block: minutes(3),
            end_of_data: minutes(10),
            quit: Duration::from_secs(5),
            transaction: minutes(60),
        }
    }
}
