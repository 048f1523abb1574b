//! Who sent a message: the checks of crate `auth` with the answers of our resolver.
//!
//! Invariant: it ends by its deadline, whatever name servers do; what is not known then is said to
//! be unknown. Nothing is decided here: that is [`merpati_flow::provenance`]. Not pure: DNS.

use std::{collections::BTreeSet, time::Duration};

use futures_util::future::join_all;
use merpati_auth::{
    BodyHashes, Facts, Findings, Message, check,
    dmarc::{DmarcFinding, DmarcResult, Policy},
    dns::{Answer, Known},
    results,
};
use merpati_flow::provenance::{Author, Provenance, Vouched, Wanted};
use merpati_mail::{Domain, Envelope, Time, address, header};
use tokio::time::{Instant, timeout_at};

use super::World;
use crate::resolve::Resolver;

impl World {
    /// Who sent a message that `by`, our own name, takes; `None` where nobody can be asked, or
    /// nobody handed it over. `head` is its beginning with the whole header, `now` wall time.
    pub async fn provenance(
        &self,
        by: &Domain,
        envelope: &Envelope,
        (head, hashes): (&[u8], &BodyHashes),
        now: Time,
    ) -> Option<Provenance> {
        let Self(Some(shared)) = self else { return None };
        let peer = envelope.origin.peer.as_ref()?;
        let receiver = by.to_string();
        let sender = envelope.reverse_path.mailbox().map(ToString::to_string);
        let authors = authors(head);
        let facts = Facts {
            address: peer.address.ip(),
            helo: &peer.hello,
            sender: sender.as_deref(),
            receiver: &receiver,
            authors: &authors,
            now: now.as_secs(),
        };
        let message = Message::read(head);
        let asking = (&shared.resolver, shared.waits.provenance);
        let findings = find(asking, &facts, &message, hashes).await;
        let client = (facts.address, facts.helo, facts.sender);
        let fields = results::fields(&findings, &receiver, client);
        Some(Provenance { fields, authors: findings.dmarc.iter().filter_map(author).collect() })
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

/// The domains of the authors, each once. What cannot be read is searched for what readers may
/// take for an address: a From that is badly written must not hide whose it is.
pub(crate) fn authors(head: &[u8]) -> Vec<String> {
    let mut domains = BTreeSet::new();
    for from in from_fields(head) {
        match address::parse_header_list(from.value) {
            Ok(list) if !list.is_empty() => {
                domains.extend(list.into_iter().map(|one| one.mailbox.domain().clone()));
            }
            Ok(_) | Err(_) => domains.extend(searched(&from.unfolded())),
        }
    }
    domains.iter().filter_map(Domain::as_name).map(str::to_owned).collect()
}

/// From as often as it stands, also behind a line that ends the header for us: other readers go on
/// up to the first empty line.
fn from_fields(head: &[u8]) -> Vec<header::Field<'_>> {
    let mut fields = Vec::new();
    let mut end = header::mbox_line_octets(head);
    loop {
        for field in header::fields_from(head, end) {
            end = field.range.end;
            if field.is("From") {
                fields.push(field);
            }
        }
        let behind = head.get(end..).unwrap_or_default();
        match behind.iter().position(|octet| *octet == b'\n') {
            Some(feed) if !matches!(behind, [b'\n', ..] | [b'\r', b'\n', ..]) => end += feed + 1,
            Some(_) | None => return fields,
        }
    }
}

/// What readers may take for domains of addresses, encoded or not.
fn searched(value: &str) -> Vec<Domain> {
    let shown = header::decode_words(value);
    let ends = |c: char| c.is_whitespace() || "<>()[]\",;:@".contains(c);
    let domains = shown.split('@').skip(1).filter_map(|behind| {
        let name = behind.trim_start().split(ends).next()?.trim_end_matches('.');
        Domain::parse(name).ok()
    });
    domains.collect()
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
    fn the_domains_of_authors_are_found_however_they_are_written() {
        for (from, want) in [
            ("From: A <a@Bank.example>", &["bank.example"][..]),
            ("From: a@b.example, c@B.example", &["b.example"]),
            ("From: \"x@shown.example\" <a@real.example>", &["real.example"]),
            ("From: group: a@b.example, c@d.example;", &["b.example", "d.example"]),
            ("From: a@bücher.example", &["xn--bcher-kva.example"]),
            ("From: nobody", &[]),
            ("From: <a@bank.example", &["bank.example"]),
            ("From: a@bank.example <", &["bank.example"]),
            ("From: a@bank.example.>", &["bank.example"]),
            ("From: \"CEO\" <ceo@ bank.example> x", &["bank.example"]),
            ("From: =?utf-8?q?ceo=40bank=2Eexample?= <>", &["bank.example"]),
            ("From x Thu Jan 1 00:00:00 2026\r\nFrom: a@b.example", &["b.example"]),
            ("Subject: x\r\nX Foo: y\r\nFrom: a@b.example", &["b.example"]),
            ("Subject: x\r\n\r\nFrom: a@b.example", &[]),
            ("From: a@b.example\r\nFrom: c@d.example", &["b.example", "d.example"]),
            ("Subject: x", &[]),
        ] {
            assert_eq!(authors(format!("{from}\r\n\r\n").as_bytes()), want, "{from}");
        }
    }
}
