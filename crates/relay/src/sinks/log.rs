//! How the mail log reads: one line of JSON for each thing that happened to mail.
//!
//! Invariant: `docs/reference/events.md` describes each line, and its fields stay; whatever a peer
//! said stands in a JSON string, so it can forge neither a line nor a field. Not pure: writes.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, io,
    time::Duration,
};

use merpati_console::advice::{self, advice};
use merpati_mail::{
    DeliveryId, Envelope, Event, Outcome, QueueId, Recipient, Record, Time, TlsFacts,
    event::{Accepted, Attempted, Carried},
};
use merpati_smtp::server::{RefusedMail, SessionEnd};
use serde::{Serialize, Serializer, ser::SerializeMap};
use serde_json::{Value, json};

use super::{
    CertificateFailed, CertificateOrdered, History, LoadChanged, Notice, SessionEnded,
    target::{Place, Target, Trouble},
};

/// Writes lines.
pub struct LogWriter {
    out: Option<Place>,
    history: Option<History>,
    #[cfg(feature = "opentelemetry")]
    traces: Option<super::traces::Traces>,
    /// Lines for the log, and those for the history, that are not written yet.
    lines: Vec<u8>,
    remembered: Vec<u8>,
    /// Lines that the log could not take since this was asked for.
    lost: u64,
}

impl fmt::Debug for LogWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogWriter").field("is_on", &self.out.is_some()).finish_non_exhaustive()
    }
}

impl LogWriter {
    /// Opens the target.
    pub fn open(target: &Target) -> io::Result<Self> {
        let out = Place::open(target)?;
        Ok(Self {
            out,
            history: None,
            #[cfg(feature = "opentelemetry")]
            traces: None,
            lines: Vec::new(),
            remembered: Vec::new(),
            lost: 0,
        })
    }

    /// The same, and sends traces.
    #[cfg(feature = "opentelemetry")]
    #[must_use]
    pub fn tracing(mut self, traces: super::traces::Traces) -> Self {
        self.traces = Some(traces);
        self
    }

    /// The same, and keeps what `trace` looks for.
    #[must_use]
    pub fn remembering(mut self, history: History) -> Self {
        self.history = Some(history);
        self
    }

    /// Goes on where `next` leads; the history stays.
    pub(super) fn turn(&mut self, next: Self) {
        self.flush();
        self.out = next.out.map(Place::anew);
    }

    /// Adds the line for a notice; nothing where it has none.
    pub fn line(&mut self, notice: &Notice) {
        #[cfg(feature = "opentelemetry")]
        if let Some(traces) = &self.traces {
            traces.tell(notice);
        }
        let is_logged = self.out.is_some() && has_line(notice);
        let is_remembered = self.history.is_some() && is_remembered(notice);
        let (first, second) = match (is_logged, is_remembered) {
            (false, false) => return,
            (true, false) => (&mut self.lines, None),
            (false, true) => (&mut self.remembered, None),
            (true, true) => (&mut self.lines, Some(&mut self.remembered)),
        };
        let began = first.len();
        if let Err(error) = serde_json::to_writer(&mut *first, &Line(notice)) {
            first.truncate(began);
            return report(Err(error.into()));
        }
        first.push(b'\n');
        if let Some(second) = second {
            second.extend_from_slice(first.get(began..).unwrap_or_default());
        }
        if self.lines.len().max(self.remembered.len()) >= BUFFER_OCTETS {
            self.flush();
        }
    }

    /// How many lines the log could not take since this was asked last.
    pub(super) fn take_lost(&mut self) -> u64 {
        std::mem::take(&mut self.lost)
    }

    /// Hands the lines to the operating system.
    pub fn flush(&mut self) {
        if let Some(out) = self.out.as_mut().filter(|_| !self.lines.is_empty())
            && let Err(Trouble { lost, why }) = out.write(&self.lines)
        {
            self.lost += lost;
            report(why.map_or(Ok(()), Err));
        }
        if let Some(history) = &mut self.history {
            report(history.write(&self.remembered));
        }
        self.lines.clear();
        self.remembered.clear();
    }
}

/// A log that cannot be written must not stop the mail.
fn report(written: io::Result<()>) {
    if let Err(error) = written {
        tracing::warn!(%error, "cannot write the mail log");
    }
}

/// A state told anew is nothing that happened to the mail.
fn has_line(notice: &Notice) -> bool {
    match notice {
        Notice::Record(record, _) => !matches!(record.event, Event::Carried(_)),
        Notice::Transcript(_) => false,
        Notice::CertificateFailed(_)
        | Notice::CertificateOrdered(_)
        | Notice::KeysChanged(_)
        | Notice::ListChanged(_)
        | Notice::LoadChanged(_)
        | Notice::LogLost(_)
        | Notice::Recovered { .. }
        | Notice::Reloaded(_)
        | Notice::SelfSigned { .. }
        | Notice::Session(_)
        | Notice::SpoolFailed { .. }
        | Notice::Started { .. }
        | Notice::Stopped { .. } => true,
    }
}

/// What the story of a message, or of one that was refused, is told from.
fn is_remembered(notice: &Notice) -> bool {
    match notice {
        Notice::Record(record, _) => match &record.event {
            Event::Accepted(_)
            | Event::Attempted(_)
            | Event::Cancelled(_)
            | Event::Captured(_)
            | Event::Delayed { .. }
            | Event::Expired { .. }
            | Event::Held { .. }
            | Event::Released { .. }
            | Event::Rerouted { .. } => true,
            Event::Carried(_) | Event::ConfigChanged { .. } | Event::Retired(_) => false,
        },
        Notice::Session(ended) => !ended.summary.refused_mail.is_empty(),
        Notice::Transcript(_) => true,
        Notice::CertificateFailed(_)
        | Notice::CertificateOrdered(_)
        | Notice::KeysChanged(_)
        | Notice::ListChanged(_)
        | Notice::LoadChanged(_)
        | Notice::LogLost(_)
        | Notice::Recovered { .. }
        | Notice::Reloaded(_)
        | Notice::SelfSigned { .. }
        | Notice::SpoolFailed { .. }
        | Notice::Started { .. }
        | Notice::Stopped { .. } => false,
    }
}

/// The line of a notice; its fields come in the order in which they are written here.
struct Line<'a>(&'a Notice);

impl Serialize for Line<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_map(None)?;
        let to = &mut fields;
        match self.0 {
            Notice::CertificateFailed(failed) => add_failed_order(to, failed)?,
            Notice::CertificateOrdered(ordered) => add_order(to, ordered)?,
            Notice::KeysChanged(changed) => {
                begin(to, changed.at, "KeysChanged")?;
                to.serialize_entry("domain", &Text(&changed.domain))?;
                to.serialize_entry("said", &changed.said)?;
            }
            Notice::ListChanged(changed) => {
                begin(to, changed.at, "ListChanged")?;
                to.serialize_entry("list", &*changed.list)?;
                to.serialize_entry("zone", &Text(&changed.zone))?;
                to.serialize_entry("believed", &changed.is_believed)?;
                to.serialize_entry("reason", &changed.why)?;
            }
            Notice::LoadChanged(changed) => add_load(to, changed)?,
            Notice::LogLost(count) => {
                to.serialize_entry("event", "LogLost")?;
                to.serialize_entry("lines", count)?;
            }
            Notice::Record(record, message_id) => {
                add_record(to, record)?;
                if message_id.is_some() {
                    to.serialize_entry("message_id", message_id)?;
                }
            }
            Notice::Recovered { at, messages, damaged, took } => {
                begin(to, *at, "Recovered")?;
                to.serialize_entry("messages", messages)?;
                to.serialize_entry("damaged", damaged)?;
                to.serialize_entry("ms", &took.as_millis())?;
            }
            Notice::Reloaded(reloaded) => {
                begin(to, reloaded.at, "Reloaded")?;
                to.serialize_entry("changed", &reloaded.changed)?;
                to.serialize_entry("at_restart", &reloaded.at_restart)?;
                to.serialize_entry("refused", &reloaded.refused)?;
            }
            Notice::SelfSigned { at, listener, certificate } => {
                begin(to, *at, "SelfSigned")?;
                to.serialize_entry("listener", listener)?;
                to.serialize_entry("certificate", certificate)?;
            }
            Notice::Session(ended) => add_session(to, ended)?,
            Notice::SpoolFailed { at, why } => {
                begin(to, *at, "SpoolFailed")?;
                to.serialize_entry("reason", why)?;
            }
            Notice::Started { at, listeners } => {
                begin(to, *at, "Started")?;
                let listeners: Vec<Value> = listeners
                    .iter()
                    .map(|(name, address)| json!({ "name": name, "address": address.to_string() }))
                    .collect();
                to.serialize_entry("listeners", &listeners)?;
            }
            Notice::Stopped { at } => begin(to, *at, "Stopped")?,
            Notice::Transcript(transcript) => {
                begin(to, transcript.at, "Transcript")?;
                add_id(to, transcript.message)?;
                to.serialize_entry("host", &transcript.host)?;
                to.serialize_entry("transcript", &transcript.lines)?;
            }
        }
        fields.end()
    }
}

fn begin<M: SerializeMap>(to: &mut M, at: Time, event: &str) -> Result<(), M::Error> {
    to.serialize_entry("time", &Text(at))?;
    to.serialize_entry("event", event)
}

fn add_record<M: SerializeMap>(to: &mut M, record: &Record) -> Result<(), M::Error> {
    begin(to, record.at, record.event.name())?;
    to.serialize_entry("lsn", &record.lsn.0)?;
    to.serialize_entry("node", &record.node.number())?;
    match &record.event {
        Event::Accepted(accepted) | Event::Captured(accepted) => add_accepted(to, accepted),
        Event::Attempted(attempted) => add_attempted(to, attempted),
        Event::Cancelled(delivery) => {
            add_delivery(to, delivery)?;
            to.serialize_entry("sentence", advice::CANCELLED)
        }
        Event::Carried(carried) => {
            let Carried { accepted, deliveries: _ } = &**carried;
            add_id(to, accepted.id)
        }
        Event::ConfigChanged { digest } => {
            let number = |half: &[u8]| half.iter().fold(0, |n: u128, o| n << 8 | u128::from(*o));
            let (high, low) = digest.split_at(digest.len() / 2);
            to.serialize_entry("digest", &format!("{:032x}{:032x}", number(high), number(low)))
        }
        Event::Delayed { message, recipients } => {
            add_id(to, *message)?;
            to.serialize_entry("recipients", recipients)?;
            to.serialize_entry("sentence", advice::DELAYED)
        }
        Event::Expired { delivery, cause } => {
            add_delivery(to, delivery)?;
            to.serialize_entry("class", cause.class.advice_id())?;
            to.serialize_entry("sentence", advice(cause.class).is_so)?;
            to.serialize_entry("reply", &cause.reply.one_line())
        }
        Event::Held { delivery, hold } => {
            add_delivery(to, delivery)?;
            to.serialize_entry("limit", &hold.limit)?;
            to.serialize_entry("value", &hold.value)?;
            to.serialize_entry("source", &hold.source)?;
            to.serialize_entry("sentence", &advice::held(&hold.limit, &hold.value))?;
            to.serialize_entry("until", &hold.until.map(Text))
        }
        Event::Released { delivery, until } => {
            add_delivery(to, delivery)?;
            to.serialize_entry("until", &Text(until))?;
            to.serialize_entry("sentence", &advice::released(*until))
        }
        Event::Rerouted { delivery, rule, until } => {
            add_delivery(to, delivery)?;
            to.serialize_entry("rule", &rule.as_deref())?;
            to.serialize_entry("until", &Text(until))?;
            to.serialize_entry("sentence", &advice::rerouted(rule.as_deref()))
        }
        Event::Retired(id) => add_id(to, *id),
    }
}

fn add_accepted<M: SerializeMap>(to: &mut M, accepted: &Accepted) -> Result<(), M::Error> {
    let Accepted { id, envelope, edits: _, size_bytes } = accepted;
    add_id(to, *id)?;
    let Envelope { reverse_path, recipients, origin, envid, .. } = envelope;
    to.serialize_entry("listener", &origin.listener)?;
    to.serialize_entry("peer", &origin.peer.as_ref().map(|peer| Text(peer.address)))?;
    to.serialize_entry("hello", &origin.peer.as_ref().map(|peer| peer.hello.as_str()))?;
    to.serialize_entry("name", &origin.peer.as_ref().and_then(|it| it.name.as_ref()).map(Text))?;
    to.serialize_entry("protocol", origin.protocol.keyword())?;
    add_tls(to, origin.tls.as_ref())?;
    to.serialize_entry("credential", &origin.credential)?;
    to.serialize_entry("from", &bare(reverse_path))?;
    to.serialize_entry("to", &Shown(recipients))?;
    to.serialize_entry("recipients", &recipients.len())?;
    if recipients.iter().any(|recipient| recipient.orcpt.is_some()) {
        add_via(to, recipients)?;
    }
    if envid.is_some() {
        to.serialize_entry("envid", envid)?;
    }
    to.serialize_entry("size", size_bytes)
}

/// The addresses that were named for others: aliases, here or before us.
fn add_via<M: SerializeMap>(to: &mut M, recipients: &[Recipient]) -> Result<(), M::Error> {
    let via = recipients.iter().take(RECIPIENTS_SHOWN_MAX).filter_map(Recipient::via);
    let via: BTreeSet<String> = via.collect();
    if via.is_empty() { Ok(()) } else { to.serialize_entry("via", &via) }
}

fn add_attempted<M: SerializeMap>(to: &mut M, attempted: &Attempted) -> Result<(), M::Error> {
    let Attempted { message, attempt, outcomes } = attempted;
    add_id(to, *message)?;
    to.serialize_entry("attempt", &attempt.number)?;
    if let Some(path) = &attempt.path {
        to.serialize_entry("source", &path.source)?;
        to.serialize_entry("host", &Text(&path.host))?;
        to.serialize_entry("address", &Text(&path.address))?;
    }
    add_tls(to, attempt.tls.as_ref())?;
    if let Some(policy) = attempt.policy {
        to.serialize_entry("tls_demand", policy.demand.word())?;
        to.serialize_entry("tls_source", policy.source.word())?;
    }
    add_millis(to, attempt.ended.since(attempt.began))?;
    to.serialize_entry("outcomes", &Outcomes(outcomes))
}

fn add_failed_order<M: SerializeMap>(
    to: &mut M,
    failed: &CertificateFailed,
) -> Result<(), M::Error> {
    begin(to, failed.at, "CertificateFailed")?;
    to.serialize_entry("certificate", &failed.certificate)?;
    to.serialize_entry("reason", &failed.why)?;
    to.serialize_entry("again", &Text(failed.again))
}

fn add_order<M: SerializeMap>(to: &mut M, ordered: &CertificateOrdered) -> Result<(), M::Error> {
    begin(to, ordered.at, "CertificateOrdered")?;
    to.serialize_entry("certificate", &ordered.certificate)?;
    let names: Vec<String> = ordered.names.iter().map(ToString::to_string).collect();
    to.serialize_entry("names", &names)?;
    to.serialize_entry("until", &Text(ordered.until))
}

fn add_load<M: SerializeMap>(to: &mut M, changed: &LoadChanged) -> Result<(), M::Error> {
    begin(to, changed.at, "LoadChanged")?;
    to.serialize_entry("resource", changed.resource.word())?;
    to.serialize_entry("from", changed.from.word())?;
    to.serialize_entry("to", changed.to.word())?;
    to.serialize_entry("used", &changed.used)?;
    to.serialize_entry("max", &changed.max)
}

fn add_session<M: SerializeMap>(to: &mut M, ended: &SessionEnded) -> Result<(), M::Error> {
    begin(to, ended.at, "SessionEnded")?;
    to.serialize_entry("listener", &ended.listener)?;
    to.serialize_entry("peer", &Text(ended.peer))?;
    if let Some(proxy) = ended.proxy {
        to.serialize_entry("proxy", &Text(proxy))?;
    }
    to.serialize_entry("hello", &ended.summary.hello)?;
    to.serialize_entry("name", &ended.name.as_ref().map(Text))?;
    add_tls(to, ended.tls.as_ref())?;
    to.serialize_entry("credential", &ended.credential)?;
    add_millis(to, ended.lasted)?;
    to.serialize_entry("commands", &ended.summary.commands)?;
    to.serialize_entry("accepted", &ended.summary.accepted)?;
    to.serialize_entry("end", ended.summary.end.map_or("Aborted", end_name))?;
    let refusals = ended.summary.refusals.iter();
    let refusals: BTreeMap<&str, u64> =
        refusals.map(|(rule, count)| (rule.as_ref(), *count)).collect();
    to.serialize_entry("refusals", &refusals)?;
    if !ended.listed.is_empty() {
        let listed: Vec<&str> = ended.listed.iter().map(AsRef::as_ref).collect();
        to.serialize_entry("listed", &listed)?;
    }
    if let Some((rule, reply)) = &ended.summary.last_refusal {
        to.serialize_entry("last_rule", rule.as_ref())?;
        to.serialize_entry("last_reply", &reply.one_line())?;
    }
    if !ended.summary.refused_mail.is_empty() {
        let refused: Vec<Value> = ended.summary.refused_mail.iter().map(refused_mail).collect();
        to.serialize_entry("refused", &refused)?;
    }
    if let Some(reason) = &ended.reason {
        to.serialize_entry("reason", reason)?;
    }
    Ok(())
}

fn refused_mail(mail: &RefusedMail) -> Value {
    json!({
        "from": bare(&mail.reverse_path),
        "to": mail.recipient.as_ref().map(bare),
        "rule": mail.rule,
        "reply": mail.reply.one_line(),
    })
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

fn add_id<M: SerializeMap>(to: &mut M, id: QueueId) -> Result<(), M::Error> {
    to.serialize_entry("id", &Text(id))
}

fn add_delivery<M: SerializeMap>(to: &mut M, delivery: &DeliveryId) -> Result<(), M::Error> {
    add_id(to, delivery.message)?;
    to.serialize_entry("recipient", &delivery.recipient)
}

fn add_tls<M: SerializeMap>(to: &mut M, tls: Option<&TlsFacts>) -> Result<(), M::Error> {
    to.serialize_entry("tls", &tls.map(|facts| &facts.version))?;
    to.serialize_entry("cipher", &tls.map(|facts| &facts.cipher))
}

fn add_millis<M: SerializeMap>(to: &mut M, lasted: Duration) -> Result<(), M::Error> {
    to.serialize_entry("ms", &u64::try_from(lasted.as_millis()).unwrap_or(u64::MAX))
}

/// The paths of the first recipients.
struct Shown<'a>(&'a [Recipient]);

impl Serialize for Shown<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().take(RECIPIENTS_SHOWN_MAX).map(|r| bare(&r.path)))
    }
}

/// The outcomes of an attempt.
struct Outcomes<'a>(&'a [(u32, Outcome)]);

impl Serialize for Outcomes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(OneOutcome))
    }
}

struct OneOutcome<'a>(&'a (u32, Outcome));

impl Serialize for OneOutcome<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut to = serializer.serialize_map(None)?;
        let (recipient, outcome) = self.0;
        to.serialize_entry("recipient", recipient)?;
        match outcome {
            Outcome::Deferred { cause, until } => {
                to.serialize_entry("outcome", "Deferred")?;
                to.serialize_entry("class", cause.class.advice_id())?;
                to.serialize_entry("sentence", advice(cause.class).is_so)?;
                to.serialize_entry("reply", &cause.reply.one_line())?;
                to.serialize_entry("until", &Text(until))?;
            }
            Outcome::Delivered { reply } => {
                to.serialize_entry("outcome", "Delivered")?;
                to.serialize_entry("reply", &reply.one_line())?;
            }
            Outcome::Failed { cause } => {
                to.serialize_entry("outcome", "Failed")?;
                to.serialize_entry("class", cause.class.advice_id())?;
                to.serialize_entry("sentence", advice(cause.class).is_so)?;
                to.serialize_entry("reply", &cause.reply.one_line())?;
            }
        }
        to.end()
    }
}

/// Something as it is shown, without a copy.
struct Text<T>(T);

impl<T: fmt::Display> Serialize for Text<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

/// A path without its brackets; the null reverse-path is empty.
fn bare(path: &impl ToString) -> String {
    path.to_string().trim_start_matches('<').trim_end_matches('>').to_owned()
}

/// Recipients of one message that a line names; `recipients` counts all.
const RECIPIENTS_SHOWN_MAX: usize = 1_000;
const BUFFER_OCTETS: usize = 65_536;

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, num::NonZeroU32, path::Path, sync::Arc};

    use merpati_mail::{Domain, Lsn, NodeId};
    use merpati_smtp::server::Summary;

    use super::*;
    use crate::{
        sinks::{Rotation, Sinks},
        store::{Quota, Store},
    };

    #[test]
    fn what_a_full_disk_does_not_take_is_counted_and_told_once_there_is_room() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mail.log");
        let writer = |path: &Path| {
            let rotation = Rotation { size_max: None, files_max: NonZeroU32::MIN };
            LogWriter::open(&Target::File(path.to_owned(), rotation)).unwrap()
        };
        let sinks = Sinks::start(Arc::default(), writer(Path::new("/dev/full"))).unwrap();
        let tell = || {
            sinks.spool_failed(Time::EPOCH, "odd".to_owned());
            sinks.flush();
        };
        // With the second one goes the line that tells of the first.
        tell();
        tell();
        let metrics = sinks.metrics().text(&Store::new(Quota::default()));
        assert!(metrics.contains("merpati_log_lines_lost_total 3\n"), "{metrics}");
        sinks.turn_log(writer(&path));
        tell();
        sinks.end();
        let written = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<Value> =
            written.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines[0]["event"], "SpoolFailed", "{written}");
        assert_eq!((&lines[1]["event"], &lines[1]["lines"]), (&json!("LogLost"), &json!(3)));
    }

    #[test]
    fn what_a_peer_said_can_forge_neither_a_line_nor_a_field() {
        let hello = "x\",\"event\":\"Accepted\"}\n{\"event\":\"Captured\"".to_owned();
        let summary = Summary { hello: Some(hello.clone()), ..Summary::default() };
        let ended = SessionEnded {
            at: Time::from_secs(1_795_467_000),
            lasted: Duration::from_millis(1_500),
            listener: "mx".to_owned(),
            peer: "[2001:db8::1]:25".parse().unwrap(),
            proxy: None,
            tls: None,
            credential: None,
            name: Some(Domain::parse("client.example").unwrap()),
            listed: BTreeSet::from(["odd".into()]),
            reason: None,
            summary,
        };
        let text = serde_json::to_string(&Line(&Notice::Session(Box::new(ended)))).unwrap();
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
        let notice = Notice::Record(Arc::new(record), None);
        let line = Line(&notice);
        let fields = serde_json::to_value(&line).unwrap();
        assert_eq!(fields["lsn"], 7);
        assert_eq!(fields["id"], "0000000000001");
    }
}
