//! Who sent a message: the checks of crate `auth` with the answers of our resolver.
//!
//! Invariant: it ends by its deadline, whatever name servers do; what is not known then is said to
//! be unknown. Nothing is decided here: that is [`merpati_flow::provenance`]. Not pure: DNS.

use std::time::Duration;

use futures_util::future::join_all;
use merpati_auth::{
    ArcResult, BodyHashes, Facts, Findings, Message, check,
    dmarc::{DmarcFinding, DmarcResult, Policy},
    dns::{Answer, Known},
    results,
};
use merpati_flow::{
    admit::Head,
    provenance::{Author, Provenance, Vouched, Wanted},
};
use merpati_mail::{Domain, Envelope, Time};
use tokio::time::{Instant, timeout_at};

use super::World;
use crate::resolve::Resolver;

/// What was found out about a message.
#[derive(Clone, Debug)]
pub struct Looked {
    /// Who sent it.
    pub provenance: Provenance,
    /// The chain of those who forwarded it; `None` where nobody looked.
    pub chain: Option<Chain>,
}

/// A chain of forwarders, for a seal of ours behind it.
#[derive(Clone, Debug)]
pub struct Chain {
    /// Whether it holds.
    pub result: ArcResult,
    /// What all checks said, as in Authentication-Results.
    pub results: String,
}

impl World {
    /// Who sent a message that `by`, our own name, takes; `None` where nobody can be asked, or
    /// nobody handed it over. `now` is wall time.
    pub async fn provenance(
        &self,
        by: &Domain,
        envelope: &Envelope,
        (head, message, hashes): (&Head<'_>, &Message<'_>, &BodyHashes),
        now: Time,
    ) -> Option<Looked> {
        let Self(Some(shared)) = self else { return None };
        let peer = envelope.origin.peer.as_ref()?;
        let receiver = by.to_string();
        let sender = envelope.reverse_path.mailbox().map(ToString::to_string);
        let Some(mut authors) = authors(head) else {
            return Some(Looked { provenance: Provenance::of_unread_header(), chain: None });
        };
        // An address literal has no policy.
        authors.retain(|author| !author.starts_with('['));
        let facts = Facts {
            address: peer.address.ip(),
            helo: &peer.hello,
            sender: sender.as_deref(),
            receiver: &receiver,
            authors: &authors,
            now: now.as_secs(),
        };
        let asking = (&shared.resolver, shared.waits.provenance);
        let findings = find(asking, &facts, message, hashes).await;
        let client = (facts.address, facts.helo, facts.sender);
        let said = results::said(&findings, &receiver, client);
        let authors = findings.dmarc.iter().filter_map(author).collect();
        Some(Looked {
            provenance: Provenance { fields: said.fields(), authors },
            chain: Some(Chain { result: findings.arc.result, results: said.results }),
        })
    }
}

/// Checks and asks until nothing is missing, or no time is left.
async fn find(
    (resolver, wait): (&Resolver, Duration),
    facts: &Facts<'_>,
    message: &Message<'_>,
    hashes: &BodyHashes,
) -> Findings {
    let deadline = Instant::now() + wait;
    let mut known = Known::default();
    loop {
        let missing = match check(&known, facts, message, hashes) {
            Ok(findings) => return findings,
            Err(missing) => missing,
        };
        let left = QUESTIONS_MAX.saturating_sub(known.len());
        let asked = missing.into_questions().into_iter().enumerate();
        let answers = asked.map(|(at, question)| async move {
            let answer = if at < left {
                let answer = resolver.look(&question);
                timeout_at(deadline, answer).await.unwrap_or(Answer::Unknown)
            } else {
                Answer::Unknown
            };
            (question, answer)
        });
        known.extend(join_all(answers).await);
    }
}

/// Questions about one message at most; what else would be asked is unknown. SPF alone may need a
/// hundred, with ten hosts for each of ten terms.
const QUESTIONS_MAX: usize = 200;

/// The domains of the authors, each once; `None` where they cannot be told, or there may be more of
/// them behind what is looked at.
pub(crate) fn authors(head: &Head<'_>) -> Option<Vec<String>> {
    merpati_auth::authors(&head.fields("From")?)
}

/// `None` where From names nobody: there is no author whom anybody could be taken for.
fn author(finding: &DmarcFinding) -> Option<Author> {
    if finding.author.is_empty() && finding.result == DmarcResult::None {
        return None;
    }
    Some(Author {
        domain: Domain::parse(&finding.author).ok(),
        vouched: match (&finding.by, finding.result) {
            (Some(_), _) => Vouched::Yes,
            (None, DmarcResult::TempError) => Vouched::Unknown,
            (None, _) => Vouched::No,
        },
        wanted: match finding.policy {
            Policy::None => Wanted::Nothing,
            Policy::Quarantine => Wanted::Quarantine,
            Policy::Reject => Wanted::Refusal,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_author_is_hidden_from_us() {
        for (from, want) in [
            ("From: a@b.example, c@B.example", &["b.example"][..]),
            ("From x Thu Jan 1 00:00:00 2026\r\nFrom: a@b.example", &["b.example"]),
            ("Subject: x\r\nX Foo: y\r\nFrom: a@b.example", &["b.example"]),
            ("Subject: x\r\n\r\nFrom: a@b.example", &[]),
            ("From: a@b.example\r\nFrom: c@d.example", &["b.example", "d.example"]),
            ("Subject: x", &[]),
        ] {
            let message = format!("{from}\r\n\r\n");
            let all = Head::of(message.as_bytes(), message.len() as u64);
            assert_eq!(authors(&all).unwrap(), want, "{from}");
            // Where the header is not there to its end, there may be others.
            let part = Head::of(from.as_bytes(), message.len() as u64);
            assert_eq!(authors(&part).is_none(), !from.contains("\r\n\r\n"), "{from}");
        }
    }
}
