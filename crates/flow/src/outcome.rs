//! What a finding means: its class, how far it reaches, and whether it is for ever.
//!
//! Invariant: one place decides, by one table; the first line that fits wins, and what none fits is
//! unknown, for ever or for now as its first digit says. Only causes of scope `Recipient` may ever
//! suppress an address. Pure.

use merpati_mail::{
    Cause, Class, Domain, NotConvertible, Reply, Scope,
    outcome::{Fact, Finding, Need, Phase},
};

use crate::{Dialect, Protection};

/// What is to become of the deliveries that a finding is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Another attempt may succeed.
    Passing,
    /// No attempt will.
    Final,
}

/// In whose words a cause is told (RFC 3464 §2.3.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Voice {
    /// In those of the host that was talked to.
    Host,
    /// In ours, whatever host it is about.
    Ours,
}

impl Voice {
    /// Whose words those about this fact are.
    pub const fn of(fact: &Fact) -> Self {
        match fact {
            Fact::Replied(_) => Self::Host,
            Fact::Cut
            | Fact::Lacks(_)
            | Fact::NotConvertible(_)
            | Fact::Ourselves
            | Fact::Protocol(_)
            | Fact::TimedOut
            | Fact::Tls(_)
            | Fact::Unreachable(_) => Self::Ours,
        }
    }
}

/// On which terms an attempt is made, as far as they decide what a finding means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// What is spoken.
    pub dialect: Dialect,
    /// Whether we authenticate.
    pub login: Login,
    /// How the connection must be protected.
    pub protection: Protection,
}

/// Whether the route has a credential for its next hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Login {
    /// It has.
    Given,
    /// It has none: we come as a stranger.
    None,
}

impl Default for Terms {
    /// Those of mail to strangers.
    fn default() -> Self {
        Self { dialect: Dialect::Smtp, login: Login::None, protection: Protection::AsRouted }
    }
}

/// The meaning of a finding: its cause, and whether it is for ever.
///
/// `remote` is the host that was talked to; `None` where none was. On the terms of mail to
/// strangers; [`classify_on`] takes others.
pub fn classify(finding: &Finding, remote: Option<Domain>) -> (Cause, Fate) {
    classify_on(Terms::default(), finding, remote)
}

/// The same on these terms.
pub fn classify_on(terms: Terms, finding: &Finding, remote: Option<Domain>) -> (Cause, Fate) {
    match (terms.protection, required_tls(&finding.fact)) {
        (Protection::Verified, Some(why)) => {
            let text = format!("the message requires TLS: {why}");
            let reply = Reply::with_text(550, (5, 7, 10), text).shortened();
            (Cause { class: Class::Tls, scope: Scope::Host, reply, remote }, Fate::Final)
        }
        (Protection::AsRouted | Protection::Verified | Protection::Waived, _) => {
            as_routed(terms, finding, remote)
        }
    }
}

/// What a host cannot do or prove where a message must not go without proven TLS (RFC 8689
/// §4.2.1): no later attempt changes it, and the message is returned. That the connection broke or
/// nothing came in time is none of it, also not in the handshake.
fn required_tls(fact: &Fact) -> Option<&str> {
    match fact {
        Fact::Lacks(Need::StartTls) => Some("the next hop does not offer it"),
        Fact::Tls(why) => Some(why),
        Fact::Cut
        | Fact::Lacks(_)
        | Fact::NotConvertible(_)
        | Fact::Ourselves
        | Fact::Protocol(_)
        | Fact::Replied(_)
        | Fact::TimedOut
        | Fact::Unreachable(_) => None,
    }
}

/// TLS did not come about, for this reason.
fn no_tls(why: &str) -> (Class, Scope, Fate, Reply) {
    let reply = Reply::with_text(421, (4, 7, 5), format!("TLS failed: {why}"));
    (Class::Tls, Scope::Host, Fate::Passing, reply)
}

fn as_routed(terms: Terms, finding: &Finding, remote: Option<Domain>) -> (Cause, Fate) {
    let phase = finding.phase;
    let (class, scope, fate, reply) = match &finding.fact {
        Fact::Replied(reply) => return replied(terms, phase, reply, remote),
        // RFC 5321 §4.5.3.2.6 and RFC 1047: who has the message is unknown, so it is kept.
        Fact::Cut | Fact::TimedOut if phase == Phase::EndOfData => (
            Class::Ambiguous,
            Scope::Message,
            Fate::Passing,
            Reply::new(451, (4, 4, 2), "no reply to the end of data; it may have been delivered"),
        ),
        Fact::Cut if phase == Phase::StartTls => no_tls("connection lost"),
        Fact::TimedOut if phase == Phase::StartTls => no_tls("no reply in time"),
        Fact::Cut => (
            Class::Connection,
            Scope::Host,
            Fate::Passing,
            Reply::with_text(421, (4, 4, 2), format!("connection lost {}", during(phase))),
        ),
        Fact::TimedOut => (
            Class::TimedOut,
            Scope::Host,
            Fate::Passing,
            Reply::with_text(421, (4, 4, 2), format!("no reply in time {}", during(phase))),
        ),
        Fact::Unreachable(why) => (
            Class::Connection,
            Scope::Host,
            Fate::Passing,
            Reply::with_text(421, (4, 4, 1), format!("cannot connect: {why}")),
        ),
        Fact::Tls(why) => no_tls(why),
        // Whatever was said there, TLS did not come about.
        Fact::Protocol(why) if phase == Phase::StartTls => no_tls(why),
        // No mechanism that we have, or a challenge that is none: the operator will mend it.
        Fact::Protocol(why) if phase == Phase::Auth => (
            Class::AuthTrouble,
            Scope::Us,
            Fate::Passing,
            Reply::with_text(421, (4, 7, 0), format!("cannot authenticate: {why}")),
        ),
        Fact::Protocol(why) => (
            Class::Protocol,
            Scope::Host,
            Fate::Passing,
            Reply::with_text(421, (4, 5, 0), format!("protocol broken: {why}")),
        ),
        Fact::Lacks(need) => lacks(*need),
        Fact::NotConvertible(why) => not_convertible(*why),
        // As where the DNS leads to an address of ours.
        Fact::Ourselves => (
            Class::Loop,
            Scope::NextHop,
            Fate::Final,
            Reply::new(554, (5, 4, 6), "mail loops back: the next hop has our own name"),
        ),
    };
    // What a library says of TLS or the system of a connection has no bound of ours.
    (Cause { class, scope, reply: reply.shortened(), remote }, fate)
}

/// What we found ourselves, before any host was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Before {
    /// All its hosts have addresses to which mail must not lead: loopback, private, reserved.
    BadAddress,
    /// The mailbox has had the message before: it goes round.
    DeliveredBefore,
    /// DNS cannot say just now.
    Dns,
    /// The domain does not exist, or has no host.
    DomainUnknown,
    /// We are the first of its hosts ourselves.
    Loop,
    /// No rule says where to.
    NoRoute,
    /// It says that it takes no mail.
    NullMx,
    /// The time within which it was to be delivered or returned is over (RFC 2852).
    Overdue,
    /// The spool cannot give the message.
    Unreadable,
}

/// The meaning of what we found before any host was asked.
pub fn own(before: Before) -> (Cause, Fate) {
    let (class, scope, fate, (code, enhanced, text)) = match before {
        Before::BadAddress => (
            Class::DomainUnknown,
            Scope::NextHop,
            Fate::Final,
            (550, (5, 4, 4), "the hosts of the recipient's domain have no usable address"),
        ),
        Before::DeliveredBefore => (
            Class::Loop,
            Scope::Recipient,
            Fate::Final,
            (554, (5, 4, 6), "this message was delivered to this mailbox before"),
        ),
        Before::Dns => (
            Class::Dns,
            Scope::NextHop,
            Fate::Passing,
            (451, (4, 4, 3), "DNS cannot say now where this goes"),
        ),
        Before::DomainUnknown => (
            Class::DomainUnknown,
            Scope::NextHop,
            Fate::Final,
            (550, (5, 1, 2), "the recipient's domain does not exist or has no host"),
        ),
        Before::Loop => (
            Class::Loop,
            Scope::NextHop,
            Fate::Final,
            (554, (5, 4, 6), "mail for this domain loops back to us"),
        ),
        Before::NoRoute => (
            Class::NoRoute,
            Scope::Us,
            Fate::Passing,
            (451, (4, 4, 4), "no rule says where this goes"),
        ),
        Before::NullMx => (
            Class::NullMx,
            Scope::NextHop,
            Fate::Final,
            (556, (5, 1, 10), "the recipient's domain takes no mail (null MX)"),
        ),
        Before::Overdue => (
            Class::Expired,
            Scope::Message,
            Fate::Final,
            (550, (5, 4, 7), "not delivered within the time that the sender allowed"),
        ),
        Before::Unreadable => (
            Class::Unreadable,
            Scope::Us,
            Fate::Passing,
            (451, (4, 3, 0), "the message cannot be read from the spool"),
        ),
    };
    let reply = Reply::new(code, enhanced, text);
    (Cause { class, scope, reply, remote: None }, fate)
}

/// Whether another host or address of the same next hop may do better in the same attempt.
///
/// Never once the end of data was sent: the host may have the message.
pub fn tries_next_host(finding: &Finding) -> bool {
    match (&finding.fact, finding.phase) {
        // RFC 5321 §5.1: nor the hosts behind ourselves.
        (_, Phase::EndOfData) | (Fact::Ourselves, _) => false,
        (Fact::Replied(reply), Phase::Greeting | Phase::Hello | Phase::StartTls | Phase::Auth) => {
            !reply.is_positive()
        }
        // A host that shuts down says so at any time (RFC 5321 §3.8); and where it cannot take the
        // message just now for reasons of its own, another one may.
        (Fact::Replied(reply), phase) => {
            reply.code == 421 || (reply.is_transient() && is_of_host(phase, reply))
        }
        // What one host does not offer or take another one may: it is for ever only where all say
        // so (RFC 1870 §6.3, RFC 6531 §3.2).
        (
            Fact::Cut
            | Fact::Lacks(_)
            | Fact::NotConvertible(_)
            | Fact::Protocol(_)
            | Fact::TimedOut
            | Fact::Tls(_)
            | Fact::Unreachable(_),
            _,
        ) => true,
    }
}

fn is_of_host(phase: Phase, reply: &Reply) -> bool {
    let (cause, _) = replied(Terms::default(), phase, reply, None);
    cause.scope == Scope::Host
}

fn lacks(need: Need) -> (Class, Scope, Fate, Reply) {
    match need {
        Need::DeliverBy => (
            Class::Lacks,
            Scope::Message,
            Fate::Final,
            Reply::new(
                550,
                (5, 3, 3),
                "the next hop cannot deliver the message in time or return it (DELIVERBY)",
            ),
        ),
        Need::EightBitMime => (
            Class::Lacks,
            Scope::Message,
            Fate::Final,
            Reply::new(550, (5, 6, 3), "the next hop does not take 8-bit content"),
        ),
        Need::RequireTls => (
            Class::Lacks,
            Scope::Message,
            Fate::Final,
            Reply::new(
                550,
                (5, 7, 30),
                "the message requires TLS on all its way, and the next hop has no REQUIRETLS",
            ),
        ),
        Need::Size => (
            Class::TooLarge,
            Scope::Message,
            Fate::Final,
            Reply::new(552, (5, 3, 4), "the message is larger than the next hop takes"),
        ),
        Need::Smtputf8 => (
            Class::Lacks,
            Scope::Message,
            Fate::Final,
            Reply::new(550, (5, 6, 7), "the next hop does not take internationalised mail"),
        ),
        Need::StartTls => (
            Class::Tls,
            Scope::Host,
            Fate::Passing,
            Reply::new(421, (4, 7, 4), "TLS is required and the next hop does not offer it"),
        ),
    }
}

/// RFC 6152 §3: what cannot be converted is returned, and RFC 3463 §3.7 has a code for it.
fn not_convertible(why: NotConvertible) -> (Class, Scope, Fate, Reply) {
    let text = format!("the next hop does not take 8-bit content, and {why}");
    (Class::Lacks, Scope::Message, Fate::Final, Reply::with_text(550, (5, 6, 3), text))
}

fn replied(terms: Terms, phase: Phase, reply: &Reply, remote: Option<Domain>) -> (Cause, Fate) {
    let text = own_words(&reply.text);
    // RFC 2033 §4.2: behind the end of data LMTP answers for each recipient, as SMTP does at RCPT.
    // But 552 is not about their number then.
    let is_of_one = terms.dialect == Dialect::Lmtp && reply.code != 552;
    let is_of_one = is_of_one && phase == Phase::EndOfData;
    let asked = if is_of_one { Phase::Recipient } else { phase };
    let (class, scope) = line_of(asked, reply, &text)
        .map_or((unknown(reply), Scope::Message), |l| (l.class, l.scope));
    // Some hosts say 5yz to what passes: being asked to slow down, STARTTLS or the lack of it, and
    // our own credential, which the operator will mend. Where we have none we are told that this is
    // no place for mail of strangers.
    let passing = !reply.is_permanent()
        || phase == Phase::StartTls
        || is_old_452(phase, reply, class)
        || (class == Class::AuthTrouble && terms.login == Login::Given)
        || (class == Class::Tls && reply.code == 530)
        || matches!(class, Class::Busy | Class::Greylisted | Class::Throttled);
    let fate = if passing { Fate::Passing } else { Fate::Final };
    (Cause { class, scope, reply: reply.clone().shortened(), remote }, fate)
}

/// The line of the table that says what a reply means: the first that fits. But an enhanced code
/// that says exactly what is so beats words, which may stand in a reply about anything.
fn line_of(phase: Phase, reply: &Reply, text: &str) -> Option<&'static Line> {
    let fits = |line: &&Line| line.fits(phase, reply, text);
    let first = TABLE.iter().find(fits)?;
    if first.words.is_empty() || !is_exact(reply) {
        return Some(first);
    }
    Some(TABLE.iter().filter(|line| !line.enhanced.is_empty()).find(fits).unwrap_or(first))
}

/// Whether the enhanced code leaves nothing to words: `x.y.0` says no more than a subject, `x.7.1`
/// and the state of a host (`x.3.z`) say everything and nothing.
fn is_exact(reply: &Reply) -> bool {
    reply.enhanced.is_some_and(|code| match (code.subject, code.detail) {
        // RFC 7505 has 1.10 for a null MX, and Exchange for an unknown recipient.
        (_, 0) | (1, 10) | (7, 1) => false,
        (3, detail) => detail == 4,
        (_, _) => true,
    })
}

const fn unknown(reply: &Reply) -> Class {
    if reply.is_permanent() { Class::UnknownPermanent } else { Class::UnknownTransient }
}

/// Whether 552 stands for 452, as RFC 821 had it for too many recipients (RFC 5321 §4.5.3.1.10):
/// at RCPT it does, unless it is about the size of the message, or an enhanced code says that it is
/// about the mailbox.
const fn is_old_452(phase: Phase, reply: &Reply, class: Class) -> bool {
    matches!(phase, Phase::Recipient)
        && reply.code == 552
        && (matches!(class, Class::TooManyRecipients | Class::Trouble)
            || (matches!(class, Class::MailboxFull) && reply.enhanced.is_none()))
}

/// What a host says by itself, in lower case: addresses, which may hold any word, are left out.
fn own_words(text: &str) -> String {
    let words = text.split_ascii_whitespace().filter(|word| !word.contains('@'));
    words.collect::<Vec<_>>().join(" ").to_ascii_lowercase()
}

/// Whether a word of `text` begins with `word`: `rbl` does not stand in `marble`.
fn has_word(text: &str, word: &str) -> bool {
    text.match_indices(word).any(|(at, _)| {
        let before = text.get(..at).and_then(|before| before.chars().next_back());
        before.is_none_or(|c| !c.is_alphanumeric())
    })
}

const fn during(phase: Phase) -> &'static str {
    match phase {
        Phase::Resolve => "while looking up the host",
        Phase::Connect => "while connecting",
        Phase::Greeting => "before the greeting",
        Phase::Hello => "after EHLO",
        Phase::StartTls => "in the handshake",
        Phase::Auth => "during AUTH",
        Phase::Mail => "after MAIL",
        Phase::Recipient => "after RCPT",
        Phase::Data => "after DATA",
        Phase::Content => "while sending the content",
        Phase::EndOfData => "after the end of data",
    }
}

/// A line of the table: where all that it names fits, it says what a reply means.
struct Line {
    /// `None` fits every phase.
    phase: Option<Phase>,
    /// Codes; empty fits all.
    codes: &'static [u16],
    /// Subject and detail of the enhanced code; empty fits all, also none.
    enhanced: &'static [(u16, u16)],
    /// One of these in the text, in lower case; empty fits all.
    words: &'static [&'static str],
    class: Class,
    scope: Scope,
}

impl Line {
    const fn new(class: Class, scope: Scope) -> Self {
        Self { phase: None, codes: &[], enhanced: &[], words: &[], class, scope }
    }

    const fn at(self, phase: Phase) -> Self {
        Self { phase: Some(phase), ..self }
    }

    const fn codes(self, codes: &'static [u16]) -> Self {
        Self { codes, ..self }
    }

    const fn enhanced(self, enhanced: &'static [(u16, u16)]) -> Self {
        Self { enhanced, ..self }
    }

    const fn words(self, words: &'static [&'static str]) -> Self {
        Self { words, ..self }
    }

    fn fits(&self, phase: Phase, reply: &Reply, text: &str) -> bool {
        let code = self.codes.is_empty() || self.codes.contains(&reply.code);
        let detail = reply.enhanced.map(|e| (e.subject, e.detail));
        let enhanced =
            self.enhanced.is_empty() || detail.is_some_and(|d| self.enhanced.contains(&d));
        let words = self.words.is_empty() || self.words.iter().any(|word| has_word(text, word));
        self.phase.is_none_or(|own| own == phase) && code && enhanced && words
    }
}

/// Words are asked before codes: what a host writes is nearer to the truth than the digits it
/// chose, unless those are exact (see [`is_exact`]).
const TABLE: &[Line] = &[
    Line::new(Class::AuthTrouble, Scope::Us).at(Phase::Auth),
    Line::new(Class::Tls, Scope::Host).words(&["starttls", "tls required", "requires tls"]),
    Line::new(Class::AuthTrouble, Scope::Us).codes(&[530, 534, 535, 538]),
    Line::new(Class::Greylisted, Scope::Recipient).words(&[
        "greylist",
        "graylist",
        "grey-list",
        "gray-list",
        "postgrey",
        "come back later",
    ]),
    Line::new(Class::Throttled, Scope::Path).words(&[
        "rate limit",
        "ratelimit",
        "rate-limit",
        "rate that",
        "unusual rate",
        "too many connections",
        "too many concurrent",
        "too many messages",
        "too many emails",
        "too many mails",
        "connection frequency",
        "connection limit",
        "frequency limited",
        "throttl",
        "slow down",
        "deferred due to",
        "temporarily deferred",
        "sending limit",
        "exceeded the maximum number of connections",
    ]),
    Line::new(Class::Throttled, Scope::Path).enhanced(&[(7, 28), (7, 650)]),
    Line::new(Class::Tls, Scope::Host).at(Phase::StartTls),
    Line::new(Class::Sender, Scope::SenderDomain).words(&[
        "dmarc",
        "spf",
        "openspf",
        "dkim",
        "sender domain",
        "unauthenticated email",
    ]),
    Line::new(Class::Sender, Scope::SenderDomain).enhanced(&[
        (1, 7),
        (1, 8),
        (7, 20),
        (7, 21),
        (7, 22),
        (7, 23),
        (7, 24),
        (7, 26),
        (7, 27),
        (7, 29),
    ]),
    Line::new(Class::Blocked, Scope::Path).words(&[
        "block list",
        "blocklist",
        "blacklist",
        "black list",
        "spamhaus",
        "spamcop",
        "barracudacentral",
        "sorbs",
        "dnsbl",
        "rbl",
        "poor reputation",
        "bad reputation",
        "low reputation",
        "client host",
        "your ip",
        "ip address",
        "reverse dns",
        "reverse hostname",
        "ptr record",
    ]),
    Line::new(Class::Blocked, Scope::Path).enhanced(&[(7, 25), (7, 606), (7, 511), (7, 512)]),
    Line::new(Class::TooLarge, Scope::Message).enhanced(&[(3, 4), (2, 3)]),
    Line::new(Class::TooLarge, Scope::Message).words(&[
        "too large",
        "too big",
        "size limit",
        "exceeds the maximum",
        "size exceeds",
    ]),
    Line::new(Class::MailboxFull, Scope::Recipient).enhanced(&[(2, 2)]),
    Line::new(Class::MailboxFull, Scope::Recipient).words(&[
        "mailbox full",
        "mailbox is full",
        "over quota",
        "overquota",
        "quota exceeded",
        "exceeded storage",
        "out of storage",
        "insufficient system storage in mailbox",
    ]),
    Line::new(Class::MailboxDisabled, Scope::Recipient).enhanced(&[(2, 1), (1, 6)]),
    Line::new(Class::MailboxDisabled, Scope::Recipient).words(&[
        "disabled",
        "inactive",
        "suspended",
        "no longer",
    ]),
    Line::new(Class::Loop, Scope::Message).enhanced(&[(4, 6)]),
    Line::new(Class::Loop, Scope::Message).words(&["mail loop", "loops back", "too many hops"]),
    Line::new(Class::NullMx, Scope::NextHop).words(&["null mx", "nullmx"]),
    Line::new(Class::NullMx, Scope::NextHop).codes(&[556]),
    Line::new(Class::DomainUnknown, Scope::NextHop).enhanced(&[(1, 2)]),
    Line::new(Class::MailboxUnknown, Scope::Recipient).enhanced(&[(1, 1), (1, 3), (1, 0), (1, 10)]),
    Line::new(Class::MailboxUnknown, Scope::Recipient).at(Phase::Recipient).words(&[
        "user unknown",
        "unknown user",
        "unknown recipient",
        "recipient unknown",
        "no such user",
        "no such mailbox",
        "no such recipient",
        "no mailbox here",
        "user doesn't exist",
        "user does not exist",
        "does not exist",
        "mailbox unavailable",
        "mailbox not found",
        "user not found",
        "invalid recipient",
        "invalid mailbox",
        "address unknown",
        "unrouteable address",
        "recipient address rejected: undeliverable",
        "not our customer",
    ]),
    Line::new(Class::Content, Scope::Message).words(&[
        "spam",
        "antispam",
        "virus",
        "antivirus",
        "malware",
        "phish",
        "content",
        "unsolicited",
        "attachment",
    ]),
    Line::new(Class::Content, Scope::Message).enhanced(&[(6, 0), (6, 1), (6, 2), (6, 3), (7, 7)]),
    Line::new(Class::TooManyRecipients, Scope::Host).enhanced(&[(5, 3)]),
    Line::new(Class::TooManyRecipients, Scope::Host).words(&["too many recipients"]),
    Line::new(Class::Policy, Scope::Recipient).at(Phase::Recipient).enhanced(&[(7, 1), (7, 0)]),
    Line::new(Class::Policy, Scope::Message).enhanced(&[(7, 1), (7, 0)]),
    Line::new(Class::Blocked, Scope::Path).at(Phase::Greeting).codes(&[550, 553, 554]),
    Line::new(Class::Busy, Scope::Host).codes(&[421]),
    Line::new(Class::Trouble, Scope::Host).enhanced(&[(3, 0), (3, 1), (3, 2), (3, 5)]),
    Line::new(Class::Trouble, Scope::Host).codes(&[451, 452]),
    Line::new(Class::MailboxUnknown, Scope::Recipient).at(Phase::Recipient).codes(&[551]),
    Line::new(Class::TooManyRecipients, Scope::Host).at(Phase::Recipient).codes(&[552]),
    Line::new(Class::UnknownPermanent, Scope::Recipient)
        .at(Phase::Recipient)
        .codes(&[500, 501, 503, 504, 550, 553, 554, 555]),
    Line::new(Class::UnknownTransient, Scope::Recipient).at(Phase::Recipient).codes(&[450]),
];

#[cfg(test)]
#[path = "outcome_tests.rs"]
mod tests;
