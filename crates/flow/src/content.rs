//! What is decided about a message when all of it is there: whether it is taken, and what it gains
//! and loses in its header.
//!
//! Invariant: mail that is only passed on keeps its octets. It gains one Received field, and loses
//! only `Authentication-Results` that strangers wrote in our name (RFC 8601 §5). Pure.

use merpati_mail::{
    Domain, Envelope, ForwardPath, Mailbox, NextHop, Overlay, QueueId, Reply, ReversePath, Time,
    Verdict,
    header::{self, Field},
    stage::Decision,
};

use crate::{
    admit::{self, Head, ListenerKind, Policy},
    provenance::{self, Provenance},
    route::{self, Router},
    submission::{self, Submitted},
    trace,
};

/// What is asked of the contents that a listener takes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// What becomes of mail by what was found out about who sent it.
    pub authors: provenance::Rules,
    /// Whether our users and networks may write only as authors in domains that are verified; see
    /// [`crate::verified`].
    pub authors_are_verified: bool,
    /// In whose name strangers may not speak in `Authentication-Results`, besides our own.
    pub authserv_ids: Vec<Domain>,
    /// What From must be like in mail that is only passed on.
    pub from: FromRule,
    /// Octets of the longest line, without its CRLF; `None`: any.
    pub line_octets_max: Option<u64>,
    /// Where mail goes: what is delivered by LMTP must not have been delivered there before.
    pub router: Router,
}

/// What From must be like in mail that is only passed on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FromRule {
    /// Anything.
    Any,
    /// There is one at most (RFC 5322 §3.6), and it does not name authors in several domains, a
    /// group, or an address in disguise: each reader would take another for the author. One that
    /// cannot be read at all is taken.
    #[default]
    One,
    /// If there is one, there is one only, and it names its authors so that all readers agree.
    Readable,
}

/// A message that is about to be taken.
#[derive(Clone, Copy, Debug)]
pub struct Taking<'a> {
    /// What the listener admits.
    pub policy: &'a Policy,
    /// Our own name.
    pub hostname: &'a Domain,
    /// For whom, from whom, and how it came.
    pub envelope: &'a Envelope,
    /// Our name for it.
    pub id: QueueId,
    /// By which name and from whom the client handed it over: these, but for the parts of a
    /// message that goes to lists ([`crate::alias`]). Its author is the same for all of them.
    pub original: (QueueId, &'a ReversePath),
    /// When, in wall time.
    pub at: Time,
    /// Octets of its longest line without the CRLF; 0 where [`Policy::asks_for_lines`] says no.
    pub longest_line_octets: u64,
    /// What was found out about who sent it; `None` where nobody looked.
    pub provenance: Option<&'a Provenance>,
}

/// What the message gains and loses when it is sent on, or why it is not taken.
pub fn decide(taking: &Taking<'_>, head: &Head<'_>) -> Result<Overlay, Verdict> {
    let Taking { policy, envelope, .. } = taking;
    let credential = envelope.origin.credential.as_deref();
    let verdict = admit::content(policy, credential, head);
    match verdict.decision {
        Decision::Accept | Decision::AcceptLowered(_) => {}
        Decision::Disconnect(_) | Decision::Refuse(_) => return Err(verdict),
    }
    let mut edits = match policy.kind {
        ListenerKind::Sandbox => Overlay::default(),
        ListenerKind::Relay | ListenerKind::Submission => checked(taking, head)?,
    };
    // On top of everything (RFC 5321 §4.4), and below it what we found out. RFC 7208 §9.1 would
    // have that above; who reads a header takes its first field for the Received of the last host,
    // and large receivers and milters keep it so (ADR 0043).
    let found = taking.provenance.map_or("", |found| &found.fields);
    let received = trace::received(taking.hostname, envelope, taking.id, taking.at);
    match edits.prepend_fields([received.as_str(), found].concat().as_bytes()) {
        Ok(()) => Ok(edits),
        Err(_) => Err(Verdict::refuse("storage-trouble", admit::storage_trouble())),
    }
}

/// The rules for mail that leaves.
fn checked(taking: &Taking<'_>, head: &Head<'_>) -> Result<Overlay, Verdict> {
    let Taking { policy, envelope, .. } = taking;
    let rules = &policy.contents;
    if rules.line_octets_max.is_some_and(|max| taking.longest_line_octets > max) {
        return Err(submission::refuse("line-too-long", "a line of the message is too long"));
    }
    let is_ours = |peer| policy.networks.iter().any(|network| network.contains(peer));
    let peer = envelope.origin.peer.as_ref().map(|peer| peer.address.ip());
    let survey = Survey::of(head.octets(), |field| {
        // Our own filters and relays speak in our name.
        !peer.is_some_and(is_ours)
            && [taking.hostname]
                .into_iter()
                .chain(&rules.authserv_ids)
                .any(|ours| header::speaks_for(field.value, ours))
    });
    if survey.names_targets && all_came_round(taking, head) {
        let text = "this message was delivered to this mailbox before";
        return Err(Verdict::refuse("delivered-before", Reply::new(554, (5, 4, 6), text)));
    }
    let mut edits = match policy.kind {
        ListenerKind::Submission => submission::edits(head.octets(), &taking.submitted())?,
        ListenerKind::Relay | ListenerKind::Sandbox => {
            survey.check_from(rules.from, head.octets())?;
            Overlay::default()
        }
    };
    if let Some(found) = taking.provenance {
        rules.authors.judge(&policy.local_domains, found)?;
    }
    edits.remove_ranges(survey.forged);
    Ok(edits)
}

impl<'a> Taking<'a> {
    const fn submitted(&self) -> Submitted<'a> {
        let (id, reverse_path) = self.original;
        Submitted { id, hostname: self.hostname, reverse_path, at: self.at }
    }
}

/// What one pass over the header finds.
struct Survey<'a> {
    /// The first From.
    from: Option<Field<'a>>,
    froms: usize,
    /// Fields that are not to be believed.
    forged: Vec<std::ops::Range<usize>>,
    /// Whether somebody wrote to which mailboxes it was delivered.
    names_targets: bool,
}

impl<'a> Survey<'a> {
    fn of(head: &'a [u8], is_forged: impl Fn(&Field<'_>) -> bool) -> Self {
        let mut survey = Self { from: None, froms: 0, forged: Vec::new(), names_targets: false };
        if !header::is_header_start(head) {
            return survey;
        }
        for field in header::lax_fields(head) {
            if field.is("From") {
                survey.froms += 1;
                survey.from.get_or_insert(field);
            } else if field.is("Authentication-Results") && is_forged(&field) {
                survey.forged.push(field.range);
            } else {
                survey.names_targets |= is_target_field(&field);
            }
        }
        survey
    }

    /// Whether From is as a relay wants it. A message without From is left alone (RFC 6409 §8: only
    /// its author may be helped).
    fn check_from(&self, rule: FromRule, head: &[u8]) -> Result<(), Verdict> {
        let Some(from) = self.from.as_ref().filter(|_| rule != FromRule::Any) else {
            return Ok(());
        };
        if self.froms > 1 {
            let text = "the header field From must not stand more than once";
            return Err(submission::refuse("from-repeated", text));
        }
        match rule {
            FromRule::Any => Ok(()),
            FromRule::One => submission::check_one_author(head, from),
            FromRule::Readable => submission::authors(from.value).map(drop),
        }
    }
}

/// Whether each recipient gets the message by LMTP, and had it before.
fn all_came_round(taking: &Taking<'_>, head: &Head<'_>) -> bool {
    let envelope = taking.envelope;
    let came_round = |path: &ForwardPath| {
        let facts = route::Facts {
            recipient: route::destination(path, taking.hostname),
            reverse_path: &envelope.reverse_path,
            credential: envelope.origin.credential.as_deref(),
        };
        let route = taking.policy.contents.router.route(&facts);
        let is_final = route.is_some_and(|route| matches!(route.next_hop, NextHop::Lmtp(_)));
        is_final && was_delivered(head.octets(), path)
    };
    !envelope.recipients.is_empty() && envelope.recipients.iter().all(|r| came_round(&r.path))
}

/// Whether the message was delivered to this mailbox before: whoever delivers finally, or forwards,
/// writes `Delivered-To` (RFC 9228) or `X-Loop` with the mailbox.
pub fn was_delivered(head: &[u8], path: &ForwardPath) -> bool {
    let ForwardPath::Mailbox(target) = path else { return false };
    let is_target = |field: Field<'_>| {
        let value = field.unfolded();
        let value = value.strip_prefix('<').and_then(|v| v.strip_suffix('>')).unwrap_or(&value);
        Mailbox::parse(value).is_ok_and(|mailbox| {
            mailbox.domain() == target.domain()
                && mailbox.local().eq_ignore_ascii_case(target.local())
        })
    };
    header::fields(head).filter(is_target_field).any(is_target)
}

fn is_target_field(field: &Field<'_>) -> bool {
    field.is("Delivered-To") || field.is("X-Loop")
}

#[cfg(test)]
#[path = "content_tests.rs"]
mod tests;
