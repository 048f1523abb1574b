//! What came of an attempt: how far it got, what it means, and how far that reaches.
//!
//! Invariant: everything that is not an outright success has a [`Class`], and every class has an
//! advice id, so that a waiting or failed delivery can always say what to do. Pure.

use crate::{Domain, EgressPath, NotConvertible, Reply, Time, TlsFacts, TlsPolicy};

/// One try at a message, for one or more of its recipients over one connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// Which try this was for the recipient that was tried most often, from 1.
    pub number: u32,
    /// Where it went; `None` if it ended before a host was chosen.
    pub path: Option<EgressPath>,
    /// When it began.
    pub began: Time,
    /// When the last outcome was known.
    pub ended: Time,
    /// The TLS session; `None` in the clear.
    pub tls: Option<TlsFacts>,
    /// How the connection had to be protected; `None` where no host was chosen, or an older program
    /// wrote it down.
    pub policy: Option<TlsPolicy>,
}

/// What is so for one delivery after an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Not now.
    Deferred {
        /// Why.
        cause: Cause,
        /// When it is tried again; jitter is already drawn.
        until: Time,
    },
    /// The next hop took responsibility.
    Delivered {
        /// How it said so.
        reply: Reply,
    },
    /// Never.
    Failed {
        /// Why.
        cause: Cause,
    },
}

/// Why something is not delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// What kind of trouble.
    pub class: Class,
    /// How far it reaches.
    pub scope: Scope,
    /// What the peer said, or what we would say; never empty.
    pub reply: Reply,
    /// The host that said so, or that it was found with; `None` where it is about none.
    pub remote: Option<Domain>,
}

/// How far a cause reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// This host, for all messages.
    Host,
    /// This message, for all recipients and hosts.
    Message,
    /// All hosts of this next hop.
    NextHop,
    /// Our address towards this site.
    Path,
    /// This recipient.
    Recipient,
    /// All mail of this sender's domain.
    SenderDomain,
    /// Ourselves.
    Us,
}

/// How far an attempt had come when it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Finding out which host.
    Resolve,
    /// Opening the connection.
    Connect,
    /// Waiting for the greeting.
    Greeting,
    /// EHLO, HELO or LHLO.
    Hello,
    /// STARTTLS and the handshake.
    StartTls,
    /// AUTH.
    Auth,
    /// MAIL.
    Mail,
    /// RCPT.
    Recipient,
    /// DATA or the first BDAT.
    Data,
    /// Sending the content.
    Content,
    /// The end of data is sent and its reply awaited: who now has the message is unknown.
    EndOfData,
}

/// What an attempt found, before it is classified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How far it had come.
    pub phase: Phase,
    /// What was found there.
    pub fact: Fact,
}

/// What was found at the end of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    /// The connection ended.
    Cut,
    /// The peer does not offer what the message needs.
    Lacks(Need),
    /// The peer does not offer 8BITMIME, and the message cannot be had in 7 bits.
    NotConvertible(NotConvertible),
    /// The peer gives our own name as its name: the message would come round.
    Ourselves,
    /// The peer broke the protocol in this way.
    Protocol(String),
    /// The peer said this.
    Replied(Reply),
    /// No reply in time.
    TimedOut,
    /// The TLS handshake failed for this reason.
    Tls(String),
    /// No connection could be made, for this reason.
    Unreachable(String),
}

/// What a message may need of a next hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// DELIVERBY (RFC 2852) with a shortest time that can be kept, because the message is to be
    /// returned where it cannot be delivered in time.
    DeliverBy,
    /// 8BITMIME (RFC 6152), and the content must not be encoded anew.
    EightBitMime,
    /// REQUIRETLS (RFC 8689).
    RequireTls,
    /// A `SIZE` limit above the size of the message (RFC 1870).
    Size,
    /// SMTPUTF8 (RFC 6531).
    Smtputf8,
    /// STARTTLS, because the route requires TLS.
    StartTls,
}

macro_rules! classes {
    ($($(#[$doc:meta])* $name:ident = $tag:literal, $slug:literal;)*) => {
        /// What kind of trouble keeps a delivery from its recipient.
        ///
        /// The number is what the journal holds; it is never given to another class.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum Class { $($(#[$doc])* $name = $tag,)* }

        impl Class {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The id of its advice, as logs, the API and the documentation show it.
            pub const fn advice_id(self) -> &'static str {
                match self { $(Self::$name => $slug,)* }
            }

            /// The number that stands for it in the journal.
            pub const fn number(self) -> u8 {
                self as u8
            }

            /// The class with this number; `None` where there is none.
            pub const fn from_number(number: u8) -> Option<Self> {
                match number { $($tag => Some(Self::$name),)* _ => None }
            }
        }
    };
}

classes! {
    /// The next hop may or may not have the message: the connection ended after the end of data.
    Ambiguous = 1, "ambiguous-end-of-data";
    /// The next hop wants us to authenticate, or does not accept our credential.
    AuthTrouble = 2, "authentication";
    /// Our address is refused.
    Blocked = 3, "blocked";
    /// The next hop is too busy or shutting down.
    Busy = 4, "busy";
    /// The connection ended, or none could be made.
    Connection = 5, "connection";
    /// The content is refused.
    Content = 6, "content-refused";
    /// DNS could not say where to.
    Dns = 7, "dns";
    /// The domain does not exist or has no host.
    DomainUnknown = 8, "domain-unknown";
    /// The message waited too long.
    Expired = 9, "expired";
    /// First mail from us is asked to come again.
    Greylisted = 10, "greylisted";
    /// An operator or a limit holds it.
    Held = 11, "held";
    /// The next hop does not offer what the message needs.
    Lacks = 12, "missing-extension";
    /// The message has come round.
    Loop = 13, "loop";
    /// The mailbox is disabled or does not take mail now.
    MailboxDisabled = 14, "mailbox-disabled";
    /// The mailbox is full.
    MailboxFull = 15, "mailbox-full";
    /// The mailbox does not exist.
    MailboxUnknown = 16, "mailbox-unknown";
    /// It has not been tried yet.
    NotTried = 17, "not-tried-yet";
    /// No rule says where to.
    NoRoute = 18, "no-route";
    /// The domain says that it takes no mail.
    NullMx = 19, "null-mx";
    /// A policy of the next hop that we cannot tell more exactly.
    Policy = 20, "policy";
    /// The next hop breaks the protocol.
    Protocol = 21, "protocol";
    /// A rule of ours refuses it.
    RouteRefused = 22, "route-refused";
    /// The sender, or its domain's authentication, is refused.
    Sender = 23, "sender-refused";
    /// We are asked to slow down.
    Throttled = 24, "throttled";
    /// No reply in time.
    TimedOut = 25, "timed-out";
    /// The message is too large.
    TooLarge = 26, "too-large";
    /// The host takes no more recipients in one transaction.
    TooManyRecipients = 27, "too-many-recipients";
    /// TLS is required and did not come about.
    Tls = 28, "tls";
    /// A permanent reply that says no more.
    UnknownPermanent = 29, "unknown-permanent";
    /// A transient reply that says no more.
    UnknownTransient = 30, "unknown-transient";
    /// The next hop has trouble of its own: storage, configuration.
    Trouble = 31, "remote-trouble";
    /// The spool cannot give the message.
    Unreadable = 32, "unreadable";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_class_has_a_number_and_an_advice_of_its_own() {
        let numbers: std::collections::BTreeSet<u8> =
            Class::ALL.iter().map(|c| c.number()).collect();
        let advice: std::collections::BTreeSet<&str> =
            Class::ALL.iter().map(|c| c.advice_id()).collect();
        assert_eq!((numbers.len(), advice.len()), (Class::ALL.len(), Class::ALL.len()));
        for &class in Class::ALL {
            assert_eq!(Class::from_number(class.number()), Some(class));
        }
        assert_eq!(Class::from_number(0), None);
    }
}
