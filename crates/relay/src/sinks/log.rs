//! How the mail log reads: one line of JSON for each thing that happened to mail.
//!
//! Invariant: `docs/reference/events.md` describes each line, and its fields stay; whatever a peer
//! said stands in a JSON string, so it can forge neither a line nor a field. Not pure: writes.

use std::{
    fs::OpenOptions,
    io::{self, BufWriter, Write},
    path::PathBuf,
};

use merpati_mail::{
    DeliveryId, Envelope, Event, Outcome, QueueId, Record, TlsFacts,
    event::{Accepted, Attempted, Carried},
};
use merpati_smtp::server::SessionEnd;
use serde_json::{Map, Value, json};

use super::{Notice, SessionEnded};

/// Where the mail log goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// To the end of this file; made where it is missing, mode 0640 less the umask.
    File(PathBuf),
    /// Nowhere.
    Off,
    /// To standard output.
    Stdout,
}

/// Writes lines.
pub struct LogWriter {
    out: Option<BufWriter<Box<dyn Write + Send>>>,
}

impl std::fmt::Debug for LogWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogWriter").field("is_on", &self.out.is_some()).finish()
    }
}

impl LogWriter {
    /// Opens the target.
    pub fn open(target: &Target) -> io::Result<Self> {
        let out: Box<dyn Write + Send> = match target {
            Target::Off => return Ok(Self { out: None }),
            Target::Stdout => Box::new(io::stdout()),
            Target::File(path) => {
                use std::os::unix::fs::OpenOptionsExt;
                Box::new(OpenOptions::new().create(true).append(true).mode(0o640).open(path)?)
            }
        };
        Ok(Self { out: Some(BufWriter::with_capacity(BUFFER_OCTETS, out)) })
    }

    /// Writes to `out`, for tests and embedding.
    pub fn to(out: Box<dyn Write + Send>) -> Self {
        Self { out: Some(BufWriter::new(out)) }
    }

    /// Adds the line for a notice; nothing where it has none.
    pub fn line(&mut self, notice: &Notice) {
        let Some(out) = &mut self.out else { return };
        let Some(fields) = line(notice) else { return };
        let written = serde_json::to_writer(&mut *out, &Value::Object(fields))
            .map_err(io::Error::from)
            .and_then(|()| out.write_all(b"\n"));
        report(written);
    }

    /// Hands the lines to the operating system.
    pub fn flush(&mut self) {
        if let Some(out) = &mut self.out {
            report(out.flush());
        }
    }
}

/// A log that cannot be written must not stop the mail.
fn report(written: io::Result<()>) {
    if let Err(error) = written {
        tracing::warn!(%error, "cannot write the mail log");
    }
}

type Fields = Map<String, Value>;

/// The fields of a notice in their order; `None` where it has no line.
fn line(notice: &Notice) -> Option<Fields> {
    let fields = match notice {
        Notice::LogLost(count) => object(json!({ "event": "LogLost", "lines": count })),
        Notice::Record(record) => return of_record(record),
        Notice::Session(ended) => of_session(ended),
        Notice::SpoolFailed { at, why } => {
            object(json!({ "time": at.to_string(), "event": "SpoolFailed", "reason": why }))
        }
        Notice::Started { at, listeners } => {
            let listeners: Vec<Value> = listeners
                .iter()
                .map(|(name, address)| json!({ "name": name, "address": address.to_string() }))
                .collect();
            object(json!({ "time": at.to_string(), "event": "Started", "listeners": listeners }))
        }
        Notice::Stopped { at } => object(json!({ "time": at.to_string(), "event": "Stopped" })),
    };
    Some(fields)
}

fn of_record(record: &Record) -> Option<Fields> {
    let mut fields = object(json!({
        "time": record.at.to_string(),
        "event": record.event.name(),
        "lsn": record.lsn.0,
        "node": record.node.number(),
    }));
    match &record.event {
        Event::Accepted(accepted) | Event::Captured(accepted) => {
            add_accepted(&mut fields, accepted);
        }
        Event::Attempted(attempted) => add_attempted(&mut fields, attempted),
        Event::Cancelled(delivery) => add_delivery(&mut fields, delivery),
        // A state told anew is nothing that happened to the mail.
        Event::Carried(carried) => {
            let Carried { accepted: _, deliveries: _ } = &**carried;
            return None;
        }
        Event::ConfigChanged { digest } => {
            let number = |half: &[u8]| half.iter().fold(0, |n: u128, o| n << 8 | u128::from(*o));
            let (high, low) = digest.split_at(digest.len() / 2);
            add(&mut fields, "digest", format!("{:032x}{:032x}", number(high), number(low)));
        }
        Event::Expired { delivery, cause } => {
            add_delivery(&mut fields, delivery);
            add(&mut fields, "class", cause.class.advice_id());
            add(&mut fields, "reply", cause.reply.one_line());
        }
        Event::Held { delivery, hold } => {
            add_delivery(&mut fields, delivery);
            add(&mut fields, "limit", hold.limit.as_str());
            add(&mut fields, "value", hold.value.as_str());
            add(&mut fields, "source", hold.source.as_str());
            add(&mut fields, "until", hold.until.map(|until| until.to_string()));
        }
        Event::Released { delivery, until } => {
            add_delivery(&mut fields, delivery);
            add(&mut fields, "until", until.to_string());
        }
        Event::Retired(id) => add_id(&mut fields, *id),
    }
    Some(fields)
}

fn add_accepted(fields: &mut Fields, accepted: &Accepted) {
    let Accepted { id, envelope, edits: _, size_bytes } = accepted;
    add_id(fields, *id);
    let Envelope { reverse_path, recipients, origin, envid, .. } = envelope;
    add(fields, "listener", origin.listener.as_str());
    add(fields, "peer", origin.peer.as_ref().map(|peer| peer.address.to_string()));
    add(fields, "hello", origin.peer.as_ref().map(|peer| peer.hello.as_str()));
    add(fields, "protocol", origin.protocol.keyword());
    add_tls(fields, origin.tls.as_ref());
    add(fields, "credential", origin.credential.as_deref());
    add(fields, "from", bare(reverse_path));
    let to: Vec<String> =
        recipients.iter().take(RECIPIENTS_SHOWN_MAX).map(|r| bare(&r.path)).collect();
    add(fields, "to", to);
    add(fields, "recipients", recipients.len());
    if envid.is_some() {
        add(fields, "envid", envid.as_deref());
    }
    add(fields, "size", *size_bytes);
}

fn add_attempted(fields: &mut Fields, attempted: &Attempted) {
    let Attempted { message, attempt, outcomes } = attempted;
    add_id(fields, *message);
    add(fields, "attempt", attempt.number);
    if let Some(path) = &attempt.path {
        add(fields, "source", path.source.as_str());
        add(fields, "host", path.host.to_string());
        add(fields, "address", path.address.to_string());
    }
    add_tls(fields, attempt.tls.as_ref());
    let millis = attempt.ended.since(attempt.began).as_millis();
    add(fields, "ms", u64::try_from(millis).unwrap_or(u64::MAX));
    let outcomes: Vec<Value> = outcomes.iter().map(of_outcome).collect();
    add(fields, "outcomes", outcomes);
}

fn of_outcome((recipient, outcome): &(u32, Outcome)) -> Value {
    match outcome {
        Outcome::Deferred { cause, until } => json!({
            "recipient": recipient, "outcome": "Deferred", "class": cause.class.advice_id(),
            "reply": cause.reply.one_line(), "until": until.to_string(),
        }),
        Outcome::Delivered { reply } => json!({
            "recipient": recipient, "outcome": "Delivered", "reply": reply.one_line(),
        }),
        Outcome::Failed { cause } => json!({
            "recipient": recipient, "outcome": "Failed", "class": cause.class.advice_id(),
            "reply": cause.reply.one_line(),
        }),
    }
}

fn of_session(ended: &SessionEnded) -> Fields {
    let mut fields = object(json!({ "time": ended.at.to_string(), "event": "SessionEnded" }));
    add(&mut fields, "listener", ended.listener.as_str());
    add(&mut fields, "peer", ended.peer.to_string());
    add(&mut fields, "hello", ended.summary.hello.as_deref());
    add_tls(&mut fields, ended.tls.as_ref());
    add(&mut fields, "credential", ended.credential.as_deref());
    add(&mut fields, "ms", u64::try_from(ended.lasted.as_millis()).unwrap_or(u64::MAX));
    add(&mut fields, "commands", ended.summary.commands);
    add(&mut fields, "accepted", ended.summary.accepted);
    add(&mut fields, "end", ended.summary.end.map_or("Aborted", end_name));
    let refusals = ended.summary.refusals.iter();
    let refusals: Fields =
        refusals.map(|(rule, count)| (rule.to_string(), Value::from(*count))).collect();
    add(&mut fields, "refusals", Value::Object(refusals));
    if let Some((rule, reply)) = &ended.summary.last_refusal {
        add(&mut fields, "last_rule", rule.as_ref());
        add(&mut fields, "last_reply", reply.one_line());
    }
    fields
}

/// The word for how a session ended.
pub(super) const fn end_name(end: SessionEnd) -> &'static str {
    match end {
        SessionEnd::Gone => "Gone",
        SessionEnd::Quit => "Quit",
        SessionEnd::Refused => "Refused",
        SessionEnd::Shutdown => "Shutdown",
        SessionEnd::Timeout => "Timeout",
    }
}

fn add_id(fields: &mut Fields, id: QueueId) {
    add(fields, "id", id.to_string());
}

fn add_delivery(fields: &mut Fields, delivery: &DeliveryId) {
    add_id(fields, delivery.message);
    add(fields, "recipient", delivery.recipient);
}

fn add_tls(fields: &mut Fields, tls: Option<&TlsFacts>) {
    add(fields, "tls", tls.map(|facts| facts.version.as_str()));
    add(fields, "cipher", tls.map(|facts| facts.cipher.as_str()));
}

fn add(fields: &mut Fields, name: &str, value: impl Into<Value>) {
    fields.insert(name.to_owned(), value.into());
}

/// A path without its brackets; the null reverse-path is empty.
fn bare(path: &impl ToString) -> String {
    path.to_string().trim_start_matches('<').trim_end_matches('>').to_owned()
}

fn object(value: Value) -> Fields {
    if let Value::Object(fields) = value { fields } else { Fields::new() }
}

/// Recipients of one message that a line names; `recipients` counts all.
const RECIPIENTS_SHOWN_MAX: usize = 100;
const BUFFER_OCTETS: usize = 65_536;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use merpati_mail::{Lsn, NodeId, Time};
    use merpati_smtp::server::Summary;

    use super::*;

    #[test]
    fn what_a_peer_said_can_forge_neither_a_line_nor_a_field() {
        let hello = "x\",\"event\":\"Accepted\"}\n{\"event\":\"Captured\"".to_owned();
        let summary = Summary { hello: Some(hello.clone()), ..Summary::default() };
        let ended = SessionEnded {
            at: Time::from_secs(1_795_467_000),
            lasted: Duration::from_millis(1_500),
            listener: "mx".to_owned(),
            peer: "[2001:db8::1]:25".parse().unwrap(),
            tls: None,
            credential: None,
            summary,
        };
        let text = Value::Object(line(&Notice::Session(Box::new(ended))).unwrap()).to_string();
        assert_eq!(text.lines().count(), 1);
        let read: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(read["event"], "SessionEnded");
        assert_eq!(read["hello"], hello.as_str());
        assert_eq!(read["ms"], 1_500);
        assert_eq!(read["time"], "2026-11-23T20:50:00.000Z");
    }

    #[test]
    fn a_retired_message_has_a_line_with_its_place() {
        let record = Record {
            lsn: Lsn(7),
            at: Time::EPOCH,
            node: NodeId::default(),
            event: Event::Retired(QueueId::from_bits(1)),
        };
        let fields = line(&Notice::Record(std::sync::Arc::new(record))).unwrap();
        assert_eq!(fields["lsn"], 7);
        assert_eq!(fields["id"], "0000000000001");
    }
}
