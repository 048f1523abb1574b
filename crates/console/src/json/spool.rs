//! How the spool as a whole reads as JSON: answers of the API, lines of commands, and the files
//! of an export.
//!
//! Pure.

use merpati_mail::{Event, event::Waiting};
use serde::Serialize;

use super::{Envelope, Received, queue::Hold};
use crate::{admin::bare, spool};

/// One line without an end.
pub(crate) fn line(value: &impl Serialize) -> String {
    // Text, numbers and lists of them cannot fail to be written.
    serde_json::to_string(value).unwrap_or_default()
}

/// Several lines, for people too.
pub(crate) fn text(value: &impl Serialize) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default() + "\n"
}

#[derive(Serialize)]
pub(crate) struct Backup {
    directory: String,
    messages: u64,
    size_bytes: u64,
    unreadable: Vec<Unreadable>,
}

#[derive(Serialize)]
struct Unreadable {
    id: String,
    why: String,
}

impl From<&spool::BackedUp> for Backup {
    fn from(done: &spool::BackedUp) -> Self {
        let unreadable = done.unreadable.iter();
        Self {
            directory: done.directory.clone(),
            messages: done.messages,
            size_bytes: done.octets,
            unreadable: unreadable
                .map(|(id, why)| Unreadable { id: id.to_string(), why: why.clone() })
                .collect(),
        }
    }
}

#[derive(Serialize)]
pub(crate) struct Verified {
    directory: String,
    is_whole: bool,
    messages: u64,
    large_messages: u64,
    segments: u64,
    records: u64,
    damage: Vec<Damaged>,
    torn: Option<Place>,
}

#[derive(Serialize)]
struct Damaged {
    file: String,
    offset: u64,
    /// 0 where nobody can say.
    size_bytes: u64,
    why: String,
}

#[derive(Serialize)]
struct Place {
    file: String,
    offset: u64,
}

impl From<&spool::Verified> for Verified {
    fn from(found: &spool::Verified) -> Self {
        let damage = found.damage.iter().map(|damage| Damaged {
            file: damage.file.clone(),
            offset: damage.offset,
            size_bytes: damage.octets,
            why: damage.why.clone(),
        });
        let torn = found.torn.as_ref();
        Self {
            directory: found.directory.clone(),
            is_whole: found.damage.is_empty(),
            messages: found.messages,
            large_messages: found.large,
            segments: found.segments,
            records: found.records,
            damage: damage.collect(),
            torn: torn.map(|(file, offset)| Place { file: file.clone(), offset: *offset }),
        }
    }
}

#[derive(Serialize)]
pub(crate) struct Measured {
    directory: String,
    format_version: u16,
    segments: u64,
    segments_free: u64,
    size_bytes: u64,
    used_bytes: u64,
    live_bytes: u64,
    live_share: f64,
    free_bytes: u64,
    messages: u64,
    oldest_at: Option<String>,
    large_messages: u64,
    large_bytes: u64,
    damaged_places: u64,
}

impl From<&spool::Measured> for Measured {
    fn from(found: &spool::Measured) -> Self {
        Self {
            directory: found.directory.clone(),
            format_version: found.format_version,
            segments: found.segments,
            segments_free: found.segments_free,
            size_bytes: found.bytes,
            used_bytes: found.bytes_used,
            live_bytes: found.bytes_live,
            live_share: found.share_live(),
            free_bytes: found.bytes_free,
            messages: found.messages,
            oldest_at: found.oldest.map(|oldest| oldest.to_string()),
            large_messages: found.large,
            large_bytes: found.large_bytes,
            damaged_places: found.damaged,
        }
    }
}

#[derive(Serialize)]
pub(crate) struct Manifest {
    format: &'static str,
    version: u64,
    messages: u64,
}

impl From<spool::Manifest> for Manifest {
    fn from(manifest: spool::Manifest) -> Self {
        Self { format: "merpati-export", version: 1, messages: manifest.messages }
    }
}

/// A message beside its content. An import reads `id`, `content`, `format_version` and `record`;
/// the rest is for people and other programs.
#[derive(Serialize)]
pub(crate) struct Exported<'a> {
    id: String,
    kind: &'static str,
    size_bytes: u64,
    envelope: Envelope,
    received: Received,
    deliveries: Vec<Delivery>,
    content: Content<'a>,
    format_version: u16,
    record: &'a str,
}

#[derive(Serialize)]
struct Content<'a> {
    file: &'a str,
    size_bytes: u64,
    crc32c: u32,
}

#[derive(Serialize)]
struct Delivery {
    recipient_number: u32,
    envelope_to: String,
    /// `waiting`, `held` or `finished`.
    status: &'static str,
    attempts: Option<u32>,
    next_at: Option<String>,
    reason: Option<&'static str>,
    hold: Option<Hold>,
}

impl<'a> Exported<'a> {
    pub(crate) fn of(exported: &spool::Exported<'a>) -> Option<Self> {
        let (accepted, states) = exported.message()?;
        let is_captured = matches!(exported.event, Event::Captured(_));
        let recipients = (0..).zip(&accepted.envelope.recipients);
        let deliveries = recipients.map(|(number, recipient)| {
            let state = states.map(|states| states.iter().find(|(of, _)| *of == number));
            let envelope_to = bare(&recipient.path);
            let new = Delivery {
                recipient_number: number,
                envelope_to,
                status: "waiting",
                attempts: Some(0),
                next_at: None,
                reason: None,
                hold: None,
            };
            match state {
                None => new,
                Some(None) => Delivery { status: "finished", attempts: None, ..new },
                Some(Some((_, state))) => {
                    let attempts = Some(state.attempts);
                    let (standing, next_at, hold, cause) = match &state.waiting {
                        Waiting::Held { hold, cause } => ("held", None, Some(hold.into()), cause),
                        Waiting::Until { time, cause } => {
                            ("waiting", Some(time.to_string()), None, cause)
                        }
                    };
                    let reason = cause.map(|cause| cause.class.advice_id());
                    Delivery { status: standing, attempts, next_at, reason, hold, ..new }
                }
            }
        });
        Some(Self {
            id: accepted.id.to_string(),
            kind: if is_captured { "captured" } else { "queued" },
            size_bytes: accepted.size_bytes,
            envelope: Envelope::from(&accepted.envelope),
            received: Received::from(&accepted.envelope.origin),
            deliveries: if is_captured { Vec::new() } else { deliveries.collect() },
            content: Content {
                file: exported.file,
                size_bytes: accepted.size_bytes,
                crc32c: exported.crc32c,
            },
            format_version: exported.format_version,
            record: exported.record,
        })
    }
}
