//! What is so for each recipient while one attempt goes from host to host.
//!
//! Invariants: every recipient has exactly one finding in the end, with the host whose it is. Where
//! [`outcome::tries_next_host`] says no, a finding stands, whoever was milder before: a reply about
//! the recipient or the message, for now or for ever, and whatever comes of the end of data. Among
//! the others, which are about hosts, the mildest one decides: when one is for ever and another
//! only for now, on the terms of this attempt, the result is for now. Pure.

use merpati_mail::{
    Class, Recipient, header,
    outcome::{Fact, Finding as Found, Need, Phase},
};

use crate::{
    Finding,
    outcome::{self, Fate, Terms},
};

/// How an attempt stands.
#[derive(Clone, Debug)]
pub struct Progress {
    terms: Terms,
    left: Vec<Left>,
    /// Whom no other host is asked about, with the host that decided.
    settled: Vec<(u32, Finding, Option<HostPlace>)>,
}

/// The place of a host among those that were tried, from 0.
pub type HostPlace = usize;

/// A recipient of whom nothing final is known.
#[derive(Clone, Debug)]
struct Left {
    place: u32,
    recipient: Recipient,
    /// The mildest finding of the hosts so far, and which host that was.
    mildest: Option<(Found, Option<HostPlace>)>,
    /// Whether the last transaction had no room for it.
    is_crowded_out: bool,
}

impl Progress {
    /// At the beginning: nobody was asked about these recipients, which come with their places in
    /// the envelope.
    pub fn new(terms: Terms, recipients: Vec<(u32, Recipient)>) -> Self {
        let left =
            |(place, recipient)| Left { place, recipient, mildest: None, is_crowded_out: false };
        let left = recipients.into_iter().map(left).collect();
        Self { terms, left, settled: Vec::new() }
    }

    /// Whether somebody is left to be asked about.
    pub fn is_over(&self) -> bool {
        self.left.is_empty()
    }

    /// The recipients for the next transaction.
    pub fn left(&self) -> impl Iterator<Item = (u32, &Recipient)> {
        self.left.iter().map(|left| (left.place, &left.recipient))
    }

    /// Whether a transaction had no room for some, who may go into another one with the same host.
    pub fn is_crowded(&self) -> bool {
        self.left.iter().any(|left| left.is_crowded_out)
    }

    /// Takes what a host found for the recipient at this place.
    pub fn note(&mut self, place: u32, finding: Finding, host: HostPlace) {
        let Some(at) = self.left.iter().position(|left| left.place == place) else { return };
        match finding {
            Finding::NotDelivered(found) if outcome::tries_next_host(&found) => {
                if let Some(left) = self.left.get_mut(at) {
                    left.weigh(self.terms, found, Some(host));
                }
            }
            Finding::TryAgain => {
                if let Some(left) = self.left.get_mut(at) {
                    left.is_crowded_out = true;
                }
            }
            Finding::Delivered(..) | Finding::NotDelivered(_) => {
                self.left.remove(at);
                self.settled.push((place, finding, Some(host)));
            }
        }
    }

    /// Takes what was found with a host, or in place of one, for all that are left.
    pub fn note_all(&mut self, found: &Found, host: Option<HostPlace>) {
        if outcome::tries_next_host(found) {
            for left in &mut self.left {
                left.weigh(self.terms, found.clone(), host);
            }
        } else {
            self.stop(found, host);
        }
    }

    /// Ends the attempt: this is so for all that are left.
    pub fn stop(&mut self, found: &Found, host: Option<HostPlace>) {
        let finding = Finding::NotDelivered(found.clone());
        let left = self.left.drain(..).map(|left| (left.place, finding.clone(), host));
        self.settled.extend(left);
    }

    /// Leaves a host: those for whom it had no more room belong to it, and not to the next one.
    pub fn leave(&mut self, host: HostPlace) {
        let crowded = self.left.extract_if(.., |left| left.is_crowded_out);
        self.settled.extend(crowded.map(|left| (left.place, Finding::TryAgain, Some(host))));
    }

    /// The findings in the order of the envelope, each with the host whose it is; `None` where it
    /// is that of none.
    pub fn finish(self) -> Vec<(u32, Finding, Option<HostPlace>)> {
        let rest = self.left.into_iter().map(|left| match left.mildest {
            Some((found, host)) => (left.place, Finding::NotDelivered(found), host),
            None => (left.place, Finding::TryAgain, None),
        });
        let mut findings: Vec<_> = self.settled.into_iter().chain(rest).collect();
        findings.sort_by_key(|(place, ..)| *place);
        findings
    }
}

impl Left {
    fn weigh(&mut self, terms: Terms, found: Found, host: Option<HostPlace>) {
        self.is_crowded_out = false;
        let is_milder = match &self.mildest {
            Some((before, _)) => rank(terms, &found) > rank(terms, before),
            None => true,
        };
        if is_milder {
            self.mildest = Some((found, host));
        }
    }
}

/// What passes is milder than what is for ever; of equals, what came further says more.
fn rank(terms: Terms, found: &Found) -> (bool, Phase) {
    let (_, fate) = outcome::classify_on(terms, found, None);
    (fate == Fate::Passing, found.phase)
}

/// What protects a connection, as far as it decides what a failure means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channel {
    /// Nothing.
    Clear,
    /// TLS.
    Tls,
}

/// Whether a host that offers TLS seems unable to speak it, so that opportunistic TLS goes on in
/// the clear, on a new connection (RFC 7435 §3).
///
/// With TLS 1.3 our handshake is done before the host has judged it: what it does not like comes as
/// the end of the connection in place of its reply to EHLO.
pub fn is_tls_trouble(found: &Found, channel: Channel) -> bool {
    match (found.phase, channel) {
        (Phase::StartTls, _) => true,
        (Phase::Hello, Channel::Tls) => found.fact == Fact::Cut,
        (
            Phase::Resolve
            | Phase::Connect
            | Phase::Greeting
            | Phase::Hello
            | Phase::Auth
            | Phase::Mail
            | Phase::Recipient
            | Phase::Data
            | Phase::Content
            | Phase::EndOfData,
            Channel::Clear | Channel::Tls,
        ) => false,
    }
}

/// Whether what came of a transaction on a connection that had been idle says no more than that the
/// host has had enough of the connection, because it was idle for too long or has carried enough:
/// nothing of the content was sent, no recipient was refused, and nothing has failed. `None` stands
/// for a recipient that belongs into another transaction.
///
/// What was known before a command was sent says nothing of the connection. A host that asks us to
/// slow down is not asked again at once.
pub fn is_idle_end<'a>(found: impl IntoIterator<Item = Option<&'a Found>>) -> bool {
    let is_end = |found: &Found| {
        let is_bye = matches!(&found.fact, Fact::Replied(reply) if reply.code == 421)
            && outcome::classify(found, None).0.class != Class::Throttled;
        is_of_commands(found.phase) && (found.fact == Fact::Cut || is_bye)
    };
    let is_known_before = |found: &Found| matches!(found.fact, Fact::Lacks(_));
    let (mut has_end, mut is_heard, mut is_left) = (false, false, false);
    for found in found {
        match found {
            Some(found) if is_end(found) => {
                has_end = true;
                is_heard |= found.phase != Phase::Mail;
            }
            Some(found) if is_known_before(found) => {}
            Some(_) => return false,
            None => is_left = true,
        }
    }
    // Who has no place in this transaction was told so by the host only where it said something.
    has_end && !(is_left && is_heard)
}

/// Whether a host that was sent a group of commands (PIPELINING) may not be able to take it: it
/// said nothing more, or something that cannot be, in the middle of it. One command at a time costs
/// little, and may be what it understands.
pub fn is_pipelining_trouble(found: &Found) -> bool {
    let is_lost = match &found.fact {
        Fact::Cut | Fact::Protocol(_) | Fact::TimedOut => true,
        Fact::Lacks(_)
        | Fact::NotConvertible(_)
        | Fact::Ourselves
        | Fact::Replied(_)
        | Fact::Tls(_)
        | Fact::Unreachable(_) => false,
    };
    is_lost && is_of_commands(found.phase)
}

/// Whether a transaction was under way and nothing of its content was sent.
const fn is_of_commands(phase: Phase) -> bool {
    matches!(phase, Phase::Mail | Phase::Recipient | Phase::Data)
}

/// Whether the message would pass if its content were encoded anew in 7 bits (RFC 6152 §3).
pub fn wants_seven_bit(found: &Found) -> bool {
    found.fact == Fact::Lacks(Need::EightBitMime)
}

/// Whether content with this header goes as it is also to a host that does not offer 8BITMIME,
/// because encoding it anew would break a signature of a domain.
///
/// RFC 6152 §3 forbids that. But hosts that damage 8-bit octets have died out, while mail whose
/// signature is broken is refused or sorted out at its end: what is forbidden brings more of it
/// there whole. What is signed or encrypted as MIME is refused all the same
/// ([`Fact::NotConvertible`]): its sender can do something about it.
pub fn keeps_eight_bit(header: &[u8]) -> bool {
    header::fields(header).any(|field| SIGNATURES.iter().any(|name| field.is(name)))
}

/// The fields with signatures of domains (RFC 6376, RFC 8617).
const SIGNATURES: [&str; 2] = ["DKIM-Signature", "ARC-Message-Signature"];

#[cfg(test)]
mod tests {
    use merpati_mail::{ForwardPath, Reply};

    use super::*;
    use crate::{Handover, Protection};

    fn replied(phase: Phase, code: u16) -> Found {
        Found { phase, fact: Fact::Replied(Reply::bare(code, "so it is")) }
    }

    fn found(phase: Phase, fact: Fact) -> Found {
        Found { phase, fact }
    }

    fn progress(count: u32) -> Progress {
        let recipient = |n| (n, Recipient::new(ForwardPath::Postmaster));
        Progress::new(Terms::default(), (0..count).map(recipient).collect())
    }

    #[test]
    fn among_hosts_the_mildest_decides() {
        let refused = || replied(Phase::Greeting, 554);
        let unreachable = || found(Phase::Connect, Fact::Unreachable("refused".to_owned()));
        let busy = || replied(Phase::Greeting, 421);
        let cut = || found(Phase::Content, Fact::Cut);
        for (hosts, want) in [
            (vec![refused(), unreachable()], 1),
            (vec![unreachable(), refused()], 0),
            (vec![refused(), refused()], 0),
            (vec![refused(), busy(), unreachable()], 1),
            (vec![unreachable(), busy(), cut()], 2),
            (vec![cut(), refused(), unreachable()], 0),
        ] {
            let mut progress = progress(1);
            for (host, found) in hosts.iter().enumerate() {
                progress.note_all(found, Some(host));
            }
            let finding = Finding::NotDelivered(hosts[want].clone());
            assert_eq!(progress.finish(), [(0, finding, Some(want))], "{hosts:?}");
        }
    }

    /// One host is down, the other one does not offer TLS: the first may be there again, and do it.
    #[test]
    fn what_is_mildest_is_so_on_the_terms_of_the_attempt() {
        let down = found(Phase::Connect, Fact::Unreachable("refused".to_owned()));
        let lacks = found(Phase::StartTls, Fact::Lacks(Need::StartTls));
        let stalled = found(Phase::StartTls, Fact::TimedOut);
        for (protection, hosts, want) in [
            (Protection::Verified, [&down, &lacks], 0),
            (Protection::Verified, [&lacks, &down], 1),
            (Protection::Verified, [&lacks, &stalled], 1),
            (Protection::AsRouted, [&down, &lacks], 1),
        ] {
            let recipients = vec![(0, Recipient::new(ForwardPath::Postmaster))];
            let terms = Terms { protection, ..Terms::default() };
            let mut progress = Progress::new(terms, recipients);
            for (host, found) in hosts.iter().enumerate() {
                progress.note_all(found, Some(host));
            }
            let finding = Finding::NotDelivered(hosts[want].clone());
            assert_eq!(progress.finish(), [(0, finding, Some(want))], "{hosts:?}");
        }
    }

    #[test]
    fn what_is_final_about_a_recipient_stands_although_another_host_was_milder() {
        let mut progress = progress(2);
        progress.note_all(&found(Phase::Connect, Fact::TimedOut), Some(0));
        let unknown = replied(Phase::Recipient, 550);
        progress.note(0, Finding::NotDelivered(unknown.clone()), 1);
        progress.note(1, Finding::Delivered(Reply::bare(250, "ok"), Handover::Relayed), 1);
        assert!(progress.is_over());
        let findings = progress.finish();
        assert_eq!(findings[0], (0, Finding::NotDelivered(unknown), Some(1)));
        assert!(matches!(findings[1], (1, Finding::Delivered(..), Some(1))));
    }

    #[test]
    fn each_recipient_keeps_the_host_that_said_what_is_so_of_it() {
        let mut progress = progress(2);
        let unknown = Finding::NotDelivered(replied(Phase::Recipient, 550));
        progress.note(0, unknown.clone(), 0);
        progress.note(1, Finding::NotDelivered(found(Phase::Content, Fact::Cut)), 0);
        let taken = Finding::Delivered(Reply::bare(250, "ok"), Handover::Relayed);
        progress.note(1, taken.clone(), 1);
        assert_eq!(progress.finish(), [(0, unknown, Some(0)), (1, taken, Some(1))]);
    }

    #[test]
    fn whoever_is_crowded_out_stays_with_the_host_and_the_others_go_to_the_next() {
        let mut progress = progress(3);
        progress.note(0, Finding::Delivered(Reply::bare(250, "ok"), Handover::Relayed), 0);
        progress.note(1, Finding::TryAgain, 0);
        progress.note(2, Finding::NotDelivered(replied(Phase::Data, 421)), 0);
        assert!(progress.is_crowded());
        progress.leave(0);
        assert_eq!(progress.left().map(|(place, _)| place).collect::<Vec<_>>(), [2]);
        assert!(!progress.is_crowded());
        progress.note(2, Finding::Delivered(Reply::bare(250, "ok"), Handover::Relayed), 1);
        let findings = progress.finish();
        assert_eq!(findings[1], (1, Finding::TryAgain, Some(0)));
        assert_eq!((findings.len(), findings[2].2), (3, Some(1)));
    }

    #[test]
    fn nobody_is_left_without_a_finding() {
        let nobody = [(0, Finding::TryAgain, None), (1, Finding::TryAgain, None)];
        assert_eq!(progress(2).finish(), nobody);
        let mut progress = progress(2);
        progress.stop(&found(Phase::Content, Fact::Unreachable("unreadable".to_owned())), Some(0));
        let findings = progress.finish();
        assert!(findings.iter().all(|(_, f, _)| matches!(f, Finding::NotDelivered(_))));
        assert_eq!((findings.len(), findings[1].2), (2, Some(0)));
    }

    #[test]
    fn tls_trouble_is_what_comes_with_starttls_or_in_place_of_the_next_reply() {
        for (found, channel, want) in [
            (found(Phase::StartTls, Fact::Tls("alert".to_owned())), Channel::Clear, true),
            (found(Phase::StartTls, Fact::Cut), Channel::Clear, true),
            (replied(Phase::StartTls, 454), Channel::Clear, true),
            (found(Phase::Hello, Fact::Cut), Channel::Tls, true),
            (found(Phase::Hello, Fact::Cut), Channel::Clear, false),
            (replied(Phase::Hello, 550), Channel::Tls, false),
            (found(Phase::Auth, Fact::Cut), Channel::Tls, false),
        ] {
            assert_eq!(is_tls_trouble(&found, channel), want, "{found:?}");
        }
    }

    #[test]
    fn an_idle_end_is_a_cut_or_a_goodbye_before_any_content() {
        let cut = found(Phase::Mail, Fact::Cut);
        let bye = replied(Phase::Mail, 421);
        let later = found(Phase::Data, Fact::Cut);
        let too_late = found(Phase::Content, Fact::Cut);
        let before = found(Phase::Auth, Fact::Cut);
        let silent = found(Phase::Mail, Fact::TimedOut);
        let refused = replied(Phase::Recipient, 550);
        let slow_down = Fact::Replied(Reply::bare(421, "too many connections"));
        let slow_down = found(Phase::Mail, slow_down);
        let lacks = found(Phase::Recipient, Fact::Lacks(Need::Smtputf8));
        for (all, want) in [
            (vec![Some(&cut), Some(&cut)], true),
            (vec![Some(&bye)], true),
            (vec![Some(&later), Some(&bye)], true),
            (vec![Some(&cut), None], true),
            (vec![Some(&later), None], false),
            (vec![Some(&cut), Some(&lacks)], true),
            (vec![Some(&lacks)], false),
            (vec![None], false),
            (vec![], false),
            (vec![Some(&cut), Some(&refused)], false),
            (vec![Some(&too_late)], false),
            (vec![Some(&before)], false),
            (vec![Some(&silent)], false),
            (vec![Some(&slow_down)], false),
        ] {
            assert_eq!(is_idle_end(all.clone()), want, "{all:?}");
        }
    }

    #[test]
    fn pipelining_is_in_doubt_where_an_answer_is_missing_or_cannot_be() {
        let nonsense = || Fact::Protocol("x".to_owned());
        for (found, want) in [
            (found(Phase::Mail, Fact::TimedOut), true),
            (found(Phase::Recipient, Fact::TimedOut), true),
            (found(Phase::Data, Fact::TimedOut), true),
            (found(Phase::Recipient, nonsense()), true),
            (found(Phase::Data, Fact::Cut), true),
            (found(Phase::Hello, Fact::TimedOut), false),
            (found(Phase::Content, Fact::TimedOut), false),
            (found(Phase::EndOfData, nonsense()), false),
            (replied(Phase::Recipient, 503), false),
        ] {
            assert_eq!(is_pipelining_trouble(&found), want, "{found:?}");
        }
    }

    #[test]
    fn what_a_domain_has_signed_is_not_encoded_anew() {
        for (header, want) in [
            ("From: a@b.example\r\n\r\n\u{e9}", false),
            ("From: a@b.example\r\ndkim-signature: v=1\r\n\r\n", true),
            ("ARC-Message-Signature: i=1\r\n\r\n", true),
            ("Subject: x\r\n\r\nDKIM-Signature: v=1\r\n", false),
            ("X-DKIM-Signature: v=1\r\n\r\n", false),
        ] {
            assert_eq!(keeps_eight_bit(header.as_bytes()), want, "{header:?}");
        }
        let lacks = |need| found(Phase::Mail, Fact::Lacks(need));
        assert!(wants_seven_bit(&lacks(Need::EightBitMime)));
        assert!(!wants_seven_bit(&lacks(Need::Size)));
    }
}
