//! What the originator is told of a message: delivery status notifications (RFC 3461, RFC 3464,
//! RFC 6522, RFC 6533).
//!
//! Invariant: a report never answers a report (RFC 5321 §4.5.5): its own reverse-path is null, and
//! where the reverse-path of a message is null its originator is told nothing. What a peer said is
//! data and forges no line. A report has a bound, whatever it is about. Pure.

mod downgrade;
mod original;
mod text;
mod words;

use std::sync::Arc;

use merpati_mail::{
    BodyType, Cause, Domain, Envelope, ForwardPath, Mailbox, Origin, Overlay, Protocol, QueueId,
    Recipient, Reply, Requests, ReversePath, Time, TlsRequest,
    envelope::{Notify, Utf8},
    event::Accepted,
    header,
};

use self::text::Text;
use crate::{
    Loaded,
    alias::{self, Aliases},
    outcome::Voice,
};

/// A report, ready to be accepted as a message of our own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dsn {
    /// Its envelope.
    pub accepted: Accepted,
    /// Its content: header and body, lines ended by CRLF.
    pub content: Vec<u8>,
}

/// Who writes reports, and who else is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Desk {
    /// Our host name.
    pub by: Domain,
    /// Who is told where a report cannot be delivered; `None` for nobody.
    pub postmaster: Option<Mailbox>,
    /// What our addresses stand for; `None` where there are no aliases.
    pub aliases: Option<Arc<Aliases>>,
}

/// Something that the originator may be told about a recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// The place of the recipient in the envelope.
    pub recipient: u32,
    /// What became of it.
    pub news: News,
    /// When the last attempt ended.
    pub at: Time,
}

/// What became of a recipient: the actions of RFC 3464 §2.3.3.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// It still waits.
    Delayed {
        /// For what.
        cause: Cause,
        /// In whose words that is.
        voice: Voice,
        /// When we give up.
        until: Time,
    },
    /// The message is in the mailbox.
    Delivered {
        /// What the store said.
        reply: Reply,
        /// The store; `None` where it has no name.
        remote: Option<Domain>,
    },
    /// It stands for several others, to whom the message goes on.
    Expanded,
    /// It never will be delivered.
    Failed {
        /// Why.
        cause: Cause,
        /// In whose words that is.
        voice: Voice,
    },
    /// A next hop has the message that tells nobody of its success (RFC 3461 §5.2.2).
    Relayed {
        /// What it said.
        reply: Reply,
        /// The next hop; `None` where it has no name.
        remote: Option<Domain>,
        /// Whether it is told also where success was not asked for, unless nothing is to be told
        /// (RFC 2852 §4).
        is_owed: bool,
    },
}

/// Whom a report is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Audience {
    Originator,
    Postmaster,
}

/// The report on this news of one message, or `None` where nobody wants one: to the originator, or,
/// where the message is a report itself that failed, to the postmaster, once.
///
/// `id` is the name of the report, `now` wall time.
pub fn answer(
    desk: &Desk,
    (id, now): (QueueId, Time),
    about: &Loaded,
    all: &[Item],
) -> Option<Dsn> {
    let envelope = &about.accepted.envelope;
    if let Some(to) = envelope.reverse_path.mailbox() {
        let wanted: Vec<&Item> = all.iter().filter(|item| is_wanted(about, item)).collect();
        // Of what we forwarded, who sent it hears, and not by way of our own address for him.
        let aliases = desk.aliases.as_deref();
        let to = aliases.map_or_else(|| to.clone(), |aliases| aliases.originator(to));
        let to = ForwardPath::Mailbox(to);
        return write(desk, (id, now), about, (Audience::Originator, &to), &wanted);
    }
    let failed: Vec<&Item> =
        all.iter().filter(|item| matches!(item.news, News::Failed { .. })).collect();
    let is_report = envelope.origin.protocol == Protocol::Internal
        && envelope.origin.listener == Origin::REPORTS;
    if failed.is_empty() || !is_report {
        return None;
    }
    if let Some(plain) = downgrade::downgraded(about, (id, now), &failed) {
        return Some(plain);
    }
    let to = ForwardPath::Mailbox(desk.postmaster.clone()?);
    write(desk, (id, now), about, (Audience::Postmaster, &to), &failed)
}

/// Whether the originator wants to be told of this (RFC 3461 §4.1).
///
/// Where NOTIFY was not given, failures are reported, and delay, unless the message is of a kind
/// that nobody waits for: from a list, in bulk, or sent by a program (RFC 3834 §2).
pub fn is_wanted(about: &Loaded, item: &Item) -> bool {
    let envelope = &about.accepted.envelope;
    let place = usize::try_from(item.recipient).ok();
    let Some(recipient) = place.and_then(|place| envelope.recipients.get(place)) else {
        return false;
    };
    if envelope.reverse_path.is_null() {
        return false;
    }
    match (&item.news, recipient.notify) {
        (_, Some(Notify::Never)) => false,
        (News::Relayed { is_owed: true, .. }, _) | (News::Failed { .. }, None) => true,
        (News::Delivered { .. } | News::Expanded | News::Relayed { .. }, None) => false,
        (News::Delayed { .. }, None) => !is_bulk(&about.header),
        (News::Delayed { .. }, Some(Notify::On { delay, .. })) => delay,
        (News::Failed { .. }, Some(Notify::On { failure, .. })) => failure,
        (
            News::Delivered { .. } | News::Expanded | News::Relayed { .. },
            Some(Notify::On { success, .. }),
        ) => success,
    }
}

fn is_bulk(message: &[u8]) -> bool {
    header::fields(message).any(|field| {
        let says = |words: &[&str]| {
            let value = field.unfolded();
            words.iter().any(|word| value.eq_ignore_ascii_case(word))
        };
        field.is("List-Id")
            || field.is("Precedence") && says(&["bulk", "junk", "list"])
            || field.is("Auto-Submitted") && !says(&["no"])
    })
}

fn write(
    desk: &Desk,
    (id, now): (QueueId, Time),
    about: &Loaded,
    (audience, to): (Audience, &ForwardPath),
    items: &[&Item],
) -> Option<Dsn> {
    let recipients = &about.accepted.envelope.recipients;
    let named = items
        .iter()
        .filter_map(|&item| Some((item, recipients.get(usize::try_from(item.recipient).ok()?)?)));
    let mut named: Vec<(&Item, &Recipient)> = named.collect();
    named.first()?;
    let has_failure = items.iter().any(|item| matches!(item.news, News::Failed { .. }));
    named.sort_by_key(|(item, _)| (rank(&item.news), item.recipient));
    let is_beyond = |path: &ForwardPath| path.mailbox().is_some_and(Mailbox::needs_smtputf8);
    let is_global = is_beyond(to) || named.iter().any(|(_, recipient)| is_beyond(&recipient.path));
    let by = &desk.by;
    let text = Text { by, id, now, message: about, to, audience, items: &named, is_global };
    let content = text.content(&original::returned(about, has_failure));
    let facts = (requests(about), internal(audience, now));
    let to = alias::report_recipients(desk.aliases.as_deref(), to.clone(), now);
    Some(dsn(id, to, is_global, facts, content))
}

/// Failures first: they want something done.
const fn rank(news: &News) -> u8 {
    match news {
        News::Failed { .. } => 0,
        News::Delayed { .. } => 1,
        News::Relayed { .. } => 2,
        News::Delivered { .. } => 3,
        News::Expanded => 4,
    }
}

fn internal(audience: Audience, received_at: Time) -> Origin {
    let listener = match audience {
        Audience::Originator => Origin::REPORTS,
        // A name of its own: where such a message fails, nobody is told any more.
        Audience::Postmaster => Origin::DOUBLE_BOUNCES,
    };
    Origin {
        listener: listener.to_owned(),
        peer: None,
        credential: None,
        protocol: Protocol::Internal,
        tls: None,
        received_at,
    }
}

/// What a report asks for: to be as urgent and as protected as what it is about (RFC 6710 §5, RFC
/// 8689 §5).
fn requests(about: &Loaded) -> Requests {
    let Requests { priority, tls, .. } = about.accepted.envelope.requests;
    // A sender that did without protection does not want it for reports either.
    let tls = if tls == TlsRequest::Required { tls } else { TlsRequest::default() };
    Requests { priority, tls, ..Requests::default() }
}

/// `recipients` want no report: there is none on a report, wherever it goes (RFC 5321 §4.5.5).
fn dsn(
    id: QueueId,
    recipients: Vec<Recipient>,
    is_global: bool,
    (requests, origin): (Requests, Origin),
    content: Vec<u8>,
) -> Dsn {
    let envelope = Envelope {
        reverse_path: ReversePath(None),
        recipients,
        body: if content.is_ascii() { BodyType::SevenBit } else { BodyType::EightBitMime },
        utf8: if is_global { Utf8::Declared } else { Utf8::NotDeclared },
        ret: None,
        envid: None,
        requests,
        origin,
    };
    let size_bytes = content.len() as u64;
    Dsn { accepted: Accepted { id, envelope, edits: Overlay::default(), size_bytes }, content }
}

#[cfg(test)]
#[path = "report_tests.rs"]
mod tests;
