//! What is so for each recipient while one attempt goes from host to host.
//!
//! Invariants: every recipient has exactly one finding in the end; what is final about a recipient
//! or a message stands, whoever said it, and among hosts that refuse as hosts the mildest one
//! decides: when one refuses for ever and another only for now, the result is for now. Pure.

use merpati_mail::{
    Recipient,
    outcome::{Fact, Finding as Found, Need, Phase},
};

use crate::{
    Finding,
    outcome::{self, Fate},
};

/// How an attempt stands.
#[derive(Clone, Debug)]
pub struct Progress {
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
    pub fn new(recipients: Vec<(u32, Recipient)>) -> Self {
        let left =
            |(place, recipient)| Left { place, recipient, mildest: None, is_crowded_out: false };
        Self { left: recipients.into_iter().map(left).collect(), settled: Vec::new() }
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
                    left.weigh(found, Some(host));
                }
            }
            Finding::TryAgain => {
                if let Some(left) = self.left.get_mut(at) {
                    left.is_crowded_out = true;
                }
            }
            Finding::Delivered(_) | Finding::NotDelivered(_) => {
                self.left.remove(at);
                self.settled.push((place, finding, Some(host)));
            }
        }
    }

    /// Takes what was found with a host, or in place of one, for all that are left.
    pub fn note_all(&mut self, found: &Found, host: Option<HostPlace>) {
        if outcome::tries_next_host(found) {
            for left in &mut self.left {
                left.weigh(found.clone(), host);
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

    /// The findings in the order of the envelope, and the host that decided last: of several, one
    /// that said something final about a recipient.
    pub fn finish(self) -> (Vec<(u32, Finding)>, Option<HostPlace>) {
        let decided = self.settled.iter().rev().find_map(|(.., host)| *host);
        let mildest = || self.left.iter().find_map(|left| left.mildest.as_ref()?.1);
        let host = decided.or_else(mildest);
        let rest = self.left.into_iter().map(|left| match left.mildest {
            Some((found, _)) => (left.place, Finding::NotDelivered(found)),
            None => (left.place, Finding::TryAgain),
        });
        let settled = self.settled.into_iter().map(|(place, finding, _)| (place, finding));
        let mut findings: Vec<(u32, Finding)> = settled.chain(rest).collect();
        findings.sort_by_key(|(place, _)| *place);
        (findings, host)
    }
}

impl Left {
    fn weigh(&mut self, found: Found, host: Option<HostPlace>) {
        self.is_crowded_out = false;
        let is_milder = match &self.mildest {
            Some((before, _)) => rank(&found) > rank(before),
            None => true,
        };
        if is_milder {
            self.mildest = Some((found, host));
        }
    }
}

/// What passes is milder than what is for ever; of equals, what came further says more.
fn rank(found: &Found) -> (bool, Phase) {
    let (_, fate) = outcome::classify(found, None);
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
/// host had ended the connection meanwhile: nothing was answered, and nothing has failed.
pub fn is_idle_end<'a>(found: impl IntoIterator<Item = Option<&'a Found>>) -> bool {
    let is_end = |found: &Found| {
        let is_bye = matches!(&found.fact, Fact::Replied(reply) if reply.code == 421);
        found.phase == Phase::Mail && (found.fact == Fact::Cut || is_bye)
    };
    found.into_iter().all(|found| found.is_some_and(is_end))
}

/// Whether the message would pass if its content were encoded anew in 7 bits (RFC 6152 §3).
pub fn wants_seven_bit(found: &Found) -> bool {
    found.fact == Fact::Lacks(Need::EightBitMime)
}

#[cfg(test)]
mod tests {
    use merpati_mail::{ForwardPath, Reply};

    use super::*;

    fn replied(phase: Phase, code: u16) -> Found {
        Found { phase, fact: Fact::Replied(Reply::bare(code, "so it is")) }
    }

    fn found(phase: Phase, fact: Fact) -> Found {
        Found { phase, fact }
    }

    fn progress(count: u32) -> Progress {
        Progress::new((0..count).map(|n| (n, Recipient::new(ForwardPath::Postmaster))).collect())
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
            let (findings, host) = progress.finish();
            assert_eq!(host, Some(want), "{hosts:?}");
            assert_eq!(findings, [(0, Finding::NotDelivered(hosts[want].clone()))], "{hosts:?}");
        }
    }

    #[test]
    fn what_is_final_about_a_recipient_stands_although_another_host_was_milder() {
        let mut progress = progress(2);
        progress.note_all(&found(Phase::Connect, Fact::TimedOut), Some(0));
        let unknown = replied(Phase::Recipient, 550);
        progress.note(0, Finding::NotDelivered(unknown.clone()), 1);
        progress.note(1, Finding::Delivered(Reply::bare(250, "ok")), 1);
        assert!(progress.is_over());
        let (findings, host) = progress.finish();
        assert_eq!(host, Some(1));
        assert_eq!(findings[0], (0, Finding::NotDelivered(unknown)));
        assert!(matches!(findings[1], (1, Finding::Delivered(_))));
    }

    #[test]
    fn whoever_is_crowded_out_stays_with_the_host_and_the_others_go_to_the_next() {
        let mut progress = progress(3);
        progress.note(0, Finding::Delivered(Reply::bare(250, "ok")), 0);
        progress.note(1, Finding::TryAgain, 0);
        progress.note(2, Finding::NotDelivered(replied(Phase::Data, 421)), 0);
        assert!(progress.is_crowded());
        progress.leave(0);
        assert_eq!(progress.left().map(|(place, _)| place).collect::<Vec<_>>(), [2]);
        assert!(!progress.is_crowded());
        progress.note(2, Finding::Delivered(Reply::bare(250, "ok")), 1);
        let (findings, host) = progress.finish();
        assert_eq!(findings[1], (1, Finding::TryAgain));
        assert_eq!((findings.len(), host), (3, Some(1)));
    }

    #[test]
    fn nobody_is_left_without_a_finding() {
        let (findings, host) = progress(2).finish();
        assert_eq!((findings, host), (vec![(0, Finding::TryAgain), (1, Finding::TryAgain)], None));
        let mut progress = progress(2);
        progress.stop(&found(Phase::Content, Fact::Unreachable("unreadable".to_owned())), Some(0));
        let (findings, host) = progress.finish();
        assert!(findings.iter().all(|(_, f)| matches!(f, Finding::NotDelivered(_))));
        assert_eq!((findings.len(), host), (2, Some(0)));
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
    fn an_idle_end_is_a_cut_or_a_goodbye_before_any_reply() {
        let cut = found(Phase::Mail, Fact::Cut);
        let bye = replied(Phase::Mail, 421);
        let later = found(Phase::Recipient, Fact::Cut);
        let late = found(Phase::Mail, Fact::TimedOut);
        for (all, want) in [
            (vec![Some(&cut), Some(&cut)], true),
            (vec![Some(&bye)], true),
            (vec![Some(&cut), None], false),
            (vec![Some(&later)], false),
            (vec![Some(&late)], false),
        ] {
            assert_eq!(is_idle_end(all.clone()), want, "{all:?}");
        }
    }
}
