//! What a finding means: its class, how far it reaches, and whether it is for ever.
//!
//! Invariant: one place decides, by one table; the first line that fits wins, and the last lines
//! fit everything. Only causes of scope `Recipient` may ever suppress an address. Pure.

use merpati_mail::{
    Cause, Class, Domain, NotConvertible, Reply, Scope,
    outcome::{Fact, Finding, Need, Phase},
};

/// What is to become of the deliveries that a finding is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Another attempt may succeed.
    Passing,
    /// No attempt will.
    Final,
}

/// The meaning of a finding: its cause, and whether it is for ever.
///
/// `remote` is the host that was talked to; `None` where none was.
pub fn classify(finding: &Finding, remote: Option<Domain>) -> (Cause, Fate) {
    let phase = finding.phase;
    let (class, scope, fate, reply) = match &finding.fact {
        Fact::Replied(reply) => return replied(phase, reply, remote),
        // RFC 5321 §4.5.3.2.6 and RFC 1047: who has the message is unknown, so it is kept.
        Fact::Cut | Fact::TimedOut if phase == Phase::EndOfData => (
            Class::Ambiguous,
            Scope::Message,
            Fate::Passing,
            Reply::new(451, (4, 4, 2), "no reply to the end of data; it may have been delivered"),
        ),
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
        Fact::Tls(why) => (
            Class::Tls,
            Scope::Host,
            Fate::Passing,
            Reply::with_text(421, (4, 7, 5), format!("TLS failed: {why}")),
        ),
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
    };
    (Cause { class, scope, reply, remote }, fate)
}

/// What we found ourselves, before any host was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Before {
    /// All its hosts have addresses to which mail must not lead: loopback, private, reserved.
    BadAddress,
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
}

/// The meaning of what we found before any host was asked.
pub fn own(before: Before) -> (Cause, Fate) {
    let (class, scope, fate, reply) = match before {
        Before::BadAddress => (
            Class::DomainUnknown,
            Scope::NextHop,
            Fate::Final,
            Reply::new(
                550,
                (5, 4, 4),
                "the hosts of the recipient's domain have no usable address",
            ),
        ),
        Before::Dns => (
            Class::Dns,
            Scope::NextHop,
            Fate::Passing,
            Reply::new(451, (4, 4, 3), "DNS cannot say now where this goes"),
        ),
        Before::DomainUnknown => (
            Class::DomainUnknown,
            Scope::NextHop,
            Fate::Final,
            Reply::new(550, (5, 1, 2), "the recipient's domain does not exist or has no host"),
        ),
        Before::Loop => (
            Class::Loop,
            Scope::NextHop,
            Fate::Final,
            Reply::new(554, (5, 4, 6), "mail for this domain loops back to us"),
        ),
        Before::NoRoute => (
            Class::NoRoute,
            Scope::Us,
            Fate::Passing,
            Reply::new(451, (4, 4, 4), "no rule says where this goes"),
        ),
        Before::NullMx => (
            Class::NullMx,
            Scope::NextHop,
            Fate::Final,
            Reply::new(556, (5, 1, 10), "the recipient's domain takes no mail (null MX)"),
        ),
    };
    (Cause { class, scope, reply, remote: None }, fate)
}

/// Whether another host or address of the same next hop may do better in the same attempt.
///
/// Never once the end of data was sent: the host may have the message.
pub fn tries_next_host(finding: &Finding) -> bool {
    match (&finding.fact, finding.phase) {
        // Nor where it is about the message.
        (_, Phase::EndOfData) | (Fact::NotConvertible(_), _) => false,
        (Fact::Replied(reply), Phase::Greeting | Phase::Hello | Phase::StartTls | Phase::Auth) => {
            !reply.is_positive()
        }
        // A host that shuts down says so at any time (RFC 5321 §3.8).
        (Fact::Replied(reply), _) => reply.code == 421,
        (Fact::Lacks(need), _) => *need == Need::StartTls,
        (
            Fact::Cut | Fact::Protocol(_) | Fact::TimedOut | Fact::Tls(_) | Fact::Unreachable(_),
            _,
        ) => true,
    }
}

fn lacks(need: Need) -> (Class, Scope, Fate, Reply) {
    match need {
        Need::EightBitMime => (
            Class::Lacks,
            Scope::Message,
            Fate::Final,
            Reply::new(550, (5, 6, 3), "the next hop does not take 8-bit content"),
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

fn replied(phase: Phase, reply: &Reply, remote: Option<Domain>) -> (Cause, Fate) {
    let text = reply.text.to_ascii_lowercase();
    let fits = |line: &&Line| line.fits(phase, reply, &text);
    let (class, scope) = TABLE
        .iter()
        .find(fits)
        .map_or((Class::UnknownTransient, Scope::Message), |line| (line.class, line.scope));
    // Some hosts say 5yz to what passes: being asked to slow down, STARTTLS, and our own
    // credential, which the operator will mend.
    let passing = !reply.is_permanent()
        || phase == Phase::StartTls
        || matches!(class, Class::AuthTrouble | Class::Busy | Class::Greylisted | Class::Throttled);
    let fate = if passing { Fate::Passing } else { Fate::Final };
    (Cause { class, scope, reply: reply.clone(), remote }, fate)
}

const fn during(phase: Phase) -> &'static str {
    match phase {
        Phase::Resolve => "while looking up the host",
        Phase::Connect => "while connecting",
        Phase::Greeting => "before the greeting",
        Phase::Hello => "after EHLO",
        Phase::StartTls => "during STARTTLS",
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
        let words = self.words.is_empty() || self.words.iter().any(|word| text.contains(word));
        self.phase.is_none_or(|own| own == phase) && code && enhanced && words
    }
}

/// Words are asked before codes: what a host writes is nearer to the truth than the digits it
/// chose, and 5.7.1 says everything and nothing.
const TABLE: &[Line] = &[
    Line::new(Class::AuthTrouble, Scope::Us).at(Phase::Auth),
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
        "virus",
        "malware",
        "phish",
        "content",
        "unsolicited",
        "attachment",
    ]),
    Line::new(Class::Content, Scope::Message).enhanced(&[(6, 0), (6, 1), (6, 2), (6, 3), (7, 7)]),
    Line::new(Class::Tls, Scope::Host).words(&["starttls first", "tls required", "requires tls"]),
    Line::new(Class::TooManyRecipients, Scope::Host).enhanced(&[(5, 3)]),
    Line::new(Class::TooManyRecipients, Scope::Host).words(&["too many recipients"]),
    Line::new(Class::Policy, Scope::Recipient).at(Phase::Recipient).enhanced(&[(7, 1), (7, 0)]),
    Line::new(Class::Policy, Scope::Message).enhanced(&[(7, 1), (7, 0)]),
    Line::new(Class::Blocked, Scope::Path).at(Phase::Greeting).codes(&[550, 553, 554]),
    Line::new(Class::Busy, Scope::Host).codes(&[421]),
    Line::new(Class::Trouble, Scope::Host).enhanced(&[(3, 0), (3, 1), (3, 2), (3, 5)]),
    Line::new(Class::Trouble, Scope::Host).codes(&[451, 452]),
    Line::new(Class::MailboxUnknown, Scope::Recipient).at(Phase::Recipient).codes(&[551]),
    Line::new(Class::UnknownPermanent, Scope::Recipient)
        .at(Phase::Recipient)
        .codes(&[500, 501, 503, 504, 550, 552, 553, 554, 555]),
    Line::new(Class::UnknownTransient, Scope::Recipient).at(Phase::Recipient).codes(&[450]),
    Line::new(Class::UnknownTransient, Scope::Message).codes(&[450, 454, 455, 458, 459]),
    Line::new(Class::UnknownPermanent, Scope::Message)
        .codes(&[500, 501, 502, 503, 504, 521, 550, 551, 552, 553, 554, 555]),
];

#[cfg(test)]
mod tests {
    use merpati_mail::EnhancedCode;

    use super::*;

    fn parse(line: &str) -> Reply {
        let (code, text) = line.split_once(' ').unwrap_or((line, ""));
        let (enhanced, text) = match EnhancedCode::parse_prefix(text) {
            Some((enhanced, rest)) => (Some(enhanced), rest),
            None => (None, text),
        };
        Reply { code: code.parse().unwrap(), enhanced, text: text.to_owned().into() }
    }

    /// `phase | class | scope | fate | reply`, one a line.
    #[test]
    fn replies_of_the_world_mean_what_the_table_of_replies_says() {
        let (mut count, mut wrong) = (0, Vec::new());
        for line in include_str!("replies.txt").lines() {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let columns: Vec<&str> = line.splitn(5, '|').map(str::trim).collect();
            let phase = match columns[0] {
                "greeting" => Phase::Greeting,
                "starttls" => Phase::StartTls,
                "auth" => Phase::Auth,
                "mail" => Phase::Mail,
                "rcpt" => Phase::Recipient,
                "end" => Phase::EndOfData,
                other => panic!("phase {other}"),
            };
            let finding = Finding { phase, fact: Fact::Replied(parse(columns[4])) };
            let (cause, fate) = classify(&finding, None);
            let got = (
                cause.class.advice_id(),
                format!("{:?}", cause.scope),
                format!("{fate:?}").to_lowercase(),
            );
            let want = (columns[1], columns[2].to_owned(), columns[3].to_owned());
            if got != want {
                wrong.push(format!("{line}\n   is {got:?}"));
            }
            count += 1;
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        assert!(count >= 60, "{count}");
    }

    #[test]
    fn what_is_ambiguous_is_kept_and_no_other_host_is_tried() {
        for fact in [Fact::Cut, Fact::TimedOut] {
            let finding = Finding { phase: Phase::EndOfData, fact };
            let (cause, fate) = classify(&finding, None);
            assert_eq!((cause.class, fate), (Class::Ambiguous, Fate::Passing));
            assert!(!tries_next_host(&finding));
        }
    }

    #[test]
    fn another_host_is_tried_when_a_host_and_not_a_recipient_says_no() {
        for (phase, fact, want) in [
            (Phase::Connect, Fact::Unreachable("refused".to_owned()), true),
            (Phase::Greeting, Fact::Replied(parse("554 5.7.1 go away")), true),
            (Phase::Greeting, Fact::Replied(parse("421 4.3.2 busy")), true),
            (Phase::Content, Fact::Cut, true),
            (Phase::Mail, Fact::Replied(parse("421 4.3.2 shutting down")), true),
            (Phase::Recipient, Fact::Replied(parse("550 5.1.1 who")), false),
            (Phase::Recipient, Fact::Replied(parse("450 4.2.0 greylisted")), false),
            (Phase::EndOfData, Fact::Replied(parse("421 4.3.2 shutting down")), false),
            (Phase::Mail, Fact::Lacks(Need::Size), false),
        ] {
            assert_eq!(tries_next_host(&Finding { phase, fact: fact.clone() }), want, "{fact:?}");
        }
    }
}
