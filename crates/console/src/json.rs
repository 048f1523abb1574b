//! How the nouns read as JSON: the types of the API, and nobody else's.
//!
//! Invariant: a member is never renamed or removed within `/v1`; times are RFC 3339 in UTC, sizes
//! are octets. Pure.

pub(crate) mod health;
pub(crate) mod queue;
pub(crate) mod sessions;
pub(crate) mod spool;
pub(crate) mod tls;
pub(crate) mod trace;

use merpati_mail::{BodyType, envelope::Utf8, header};
use serde::Serialize;

use crate::{
    Captured, Listing, Status, Summary,
    admin::{self, bare},
};

/// A page of a list.
#[derive(Serialize)]
pub(crate) struct List {
    data: Vec<MessageSummary>,
    page: PageFacts,
}

impl From<Listing> for List {
    fn from(listing: Listing) -> Self {
        let last = listing.messages.last().filter(|_| listing.has_more);
        let page = PageFacts {
            next: last.map(|message| message.id.to_string()),
            has_more: listing.has_more,
        };
        Self { data: listing.messages.iter().map(MessageSummary::from).collect(), page }
    }
}

/// What came of a reload.
#[derive(Serialize)]
pub(crate) struct Reloaded {
    changed: Vec<String>,
    at_restart: Vec<String>,
}

impl From<admin::Reloaded> for Reloaded {
    fn from(reloaded: admin::Reloaded) -> Self {
        let admin::Reloaded { changed, at_restart } = reloaded;
        Self { changed, at_restart }
    }
}

#[derive(Serialize)]
struct PageFacts {
    /// The `after` of the next page.
    next: Option<String>,
    has_more: bool,
}

/// A message as a list shows it.
#[derive(Serialize)]
pub(crate) struct MessageSummary {
    id: String,
    received_at: String,
    size_bytes: u64,
    envelope_from: String,
    envelope_to: Vec<String>,
    from: String,
    to: String,
    cc: String,
    subject: String,
    message_id: String,
}

impl From<&Summary> for MessageSummary {
    fn from(message: &Summary) -> Self {
        Self {
            id: message.id.to_string(),
            received_at: message.received_at.to_string(),
            size_bytes: message.size_bytes,
            envelope_from: message.reverse_path.clone(),
            envelope_to: message.recipients.clone(),
            from: message.from.clone(),
            to: message.to.clone(),
            cc: message.cc.clone(),
            subject: message.subject.clone(),
            message_id: message.message_id.clone(),
        }
    }
}

/// A message with everything but its content.
#[derive(Serialize)]
pub(crate) struct Message {
    #[serde(flatten)]
    summary: MessageSummary,
    envelope: Envelope,
    received: Received,
    /// All fields from the top, unfolded.
    headers: Vec<Field>,
    /// The body as it stands, without a look at MIME; `None` where it is not UTF-8 or is long.
    body: Option<String>,
    says: Says,
}

impl From<&Captured> for Message {
    fn from(message: &Captured) -> Self {
        let content = &message.content;
        let headers = header::fields(content).map(|field| Field {
            name: String::from_utf8_lossy(field.name).into_owned(),
            value: field.unfolded(),
        });
        let headers: Vec<Field> = headers.collect();
        let body = content.get(header::body_start(content)..).unwrap_or_default();
        let body = Some(body).filter(|body| body.len() <= BODY_OCTETS_MAX);
        let summary = Summary::of(message.id, &message.envelope, content);
        Self {
            says: Says::of(&summary),
            summary: MessageSummary::from(&summary),
            envelope: Envelope::from(&message.envelope),
            received: Received::from(&message.envelope.origin),
            headers,
            body: body.and_then(|body| str::from_utf8(body).ok()).map(str::to_owned),
        }
    }
}

/// What the client declared.
#[derive(Serialize)]
struct Envelope {
    from: String,
    to: Vec<String>,
    body: &'static str,
    smtputf8: bool,
    envid: Option<String>,
}

impl From<&merpati_mail::Envelope> for Envelope {
    fn from(envelope: &merpati_mail::Envelope) -> Self {
        let from = envelope.reverse_path.mailbox().map(ToString::to_string);
        Self {
            from: from.unwrap_or_default(),
            to: envelope.recipients.iter().map(|recipient| bare(&recipient.path)).collect(),
            body: match envelope.body {
                BodyType::EightBitMime => "8BITMIME",
                BodyType::SevenBit => "7BIT",
            },
            smtputf8: envelope.utf8 == Utf8::Declared,
            envid: envelope.envid.clone(),
        }
    }
}

/// Who handed it over, and how.
#[derive(Serialize)]
struct Received {
    at: String,
    listener: String,
    protocol: &'static str,
    peer: Option<Peer>,
    tls: Option<Tls>,
    credential: Option<String>,
}

impl From<&merpati_mail::Origin> for Received {
    fn from(origin: &merpati_mail::Origin) -> Self {
        let peer = origin.peer.as_ref().map(|peer| Peer {
            address: peer.address.to_string(),
            hello: peer.hello.clone(),
            name: peer.name.as_ref().map(ToString::to_string),
        });
        let tls = origin
            .tls
            .as_ref()
            .map(|tls| Tls { version: tls.version.clone(), cipher: tls.cipher.clone() });
        Self {
            at: origin.received_at.to_string(),
            listener: origin.listener.clone(),
            protocol: origin.protocol.keyword(),
            peer,
            tls,
            credential: origin.credential.clone(),
        }
    }
}

#[derive(Serialize)]
struct Peer {
    address: String,
    hello: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
}

#[derive(Serialize)]
struct Tls {
    version: String,
    cipher: String,
}

#[derive(Serialize)]
struct Field {
    name: String,
    value: String,
}

/// The pair that shows a Bcc: whom the envelope names, and whom the header.
#[derive(Serialize)]
struct Says {
    envelope: Vec<String>,
    headers: String,
    /// Recipients of the envelope that neither To nor Cc names.
    hidden: Vec<String>,
}

impl Says {
    fn of(summary: &Summary) -> Self {
        let lists = [summary.to.as_str(), summary.cc.as_str()];
        let headers = lists.into_iter().filter(|list| !list.is_empty()).collect::<Vec<_>>();
        let headers = headers.join(", ");
        let named = headers.to_lowercase();
        let is_hidden = |to: &&String| !named.contains(&to.to_lowercase());
        let hidden = summary.recipients.iter().filter(is_hidden).cloned().collect();
        Self { envelope: summary.recipients.clone(), headers, hidden }
    }
}

/// How the relay is.
#[derive(Serialize)]
pub(crate) struct StatusFacts {
    version: String,
    now: String,
    started_at: String,
    uptime_seconds: u64,
    ready: bool,
    /// Why not ready.
    reason: Option<String>,
    listeners: Vec<Listener>,
    spool: Spool,
    sandbox: Sandbox,
}

impl StatusFacts {
    pub(crate) fn of(
        status: Status,
        now: merpati_mail::Time,
        readiness: Result<(), admin::NotReady>,
    ) -> Self {
        let listeners = status.listeners.into_iter().map(|listener| Listener {
            name: listener.name,
            kind: listener.kind,
            address: listener.address.to_string(),
            connections: listener.connections,
            self_signed: listener.is_self_signed,
        });
        Self {
            version: status.version,
            now: now.to_string(),
            started_at: status.started_at.to_string(),
            uptime_seconds: now.since(status.started_at).as_secs(),
            ready: readiness.is_ok(),
            reason: readiness.err().map(|state| state.reason),
            listeners: listeners.collect(),
            spool: Spool {
                directory: status.spool.directory,
                messages: status.spool.messages,
                size_bytes: status.spool.size_bytes,
                free_bytes: status.spool.free_bytes,
                segments_unread: status.spool.segments_unread,
            },
            sandbox: Sandbox {
                messages: status.sandbox.messages,
                size_bytes: status.sandbox.size_bytes,
                captured: status.sandbox.captured,
            },
        }
    }
}

#[derive(Serialize)]
struct Listener {
    name: String,
    kind: String,
    address: String,
    connections: u64,
    self_signed: bool,
}

#[derive(Serialize)]
struct Spool {
    directory: String,
    messages: u64,
    size_bytes: u64,
    free_bytes: Option<u64>,
    segments_unread: u64,
}

#[derive(Serialize)]
struct Sandbox {
    messages: u64,
    size_bytes: u64,
    captured: u64,
}

/// How many messages were forgotten.
#[derive(Serialize)]
pub(crate) struct Deleted {
    pub(crate) deleted: u64,
}

/// That a verb was begun.
#[derive(Serialize)]
pub(crate) struct State {
    pub(crate) state: &'static str,
}

/// A longer body is shown by `raw` only.
const BODY_OCTETS_MAX: usize = 1 << 20;
