//! Traces of what happens to mail, for who looks at everything with OpenTelemetry: a trace is a
//! message, its first span is how it came, and each attempt at it is one more.
//!
//! Invariant: telling never waits. What a collector does not take in time is lost, and said; the
//! mail log has it all. Addresses of mail are told to nobody here. Not pure: a thread that sends.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread::JoinHandle,
    time::{Duration, Instant, SystemTime},
};

use aws_lc_rs::digest::{SHA256, digest};
use merpati_mail::{
    Event, Outcome, QueueId, Record, Time,
    event::{Accepted, Attempted},
};
use opentelemetry::{
    InstrumentationScope, KeyValue, SpanId, TraceFlags, TraceId,
    trace::{SpanContext, SpanKind, Status, TraceState},
};
use opentelemetry_http::hyper::HyperClient;
use opentelemetry_otlp::{SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::{
    Resource,
    trace::{SpanData, SpanEvents, SpanExporter as _, SpanLinks},
};

use super::Notice;

/// Makes spans, and hands them to the thread that sends them.
pub struct Traces {
    hostname: String,
    spans: Option<SyncSender<SpanData>>,
    sending: Option<JoinHandle<()>>,
    /// Spans that no collector will see, and of which nobody was told yet.
    lost: Arc<AtomicU64>,
}

impl Traces {
    /// Sends to this collector from now on: the URL of its endpoint for traces.
    pub fn start(collector: &str, hostname: &str) -> io::Result<Self> {
        let client = HyperClient::with_default_connector(ANSWER_WAIT, None);
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(client)
            .with_endpoint(collector)
            .with_timeout(ANSWER_WAIT)
            .build();
        let mut exporter = exporter.map_err(io::Error::other)?;
        let service = [
            KeyValue::new("service.name", "merpati"),
            KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
            KeyValue::new("host.name", hostname.to_owned()),
        ];
        exporter.set_resource(&Resource::builder_empty().with_attributes(service).build());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (spans, taken) = sync_channel(WAITING_MAX);
        let send = move |batch| {
            runtime.block_on(exporter.export(batch)).map_err(|error| error.to_string())
        };
        let lost = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&lost);
        let sending = std::thread::Builder::new()
            .name("traces".to_owned())
            .spawn(move || send_all(&taken, &counted, send))?;
        let hostname = hostname.to_owned();
        Ok(Self { hostname, spans: Some(spans), sending: Some(sending), lost })
    }

    /// Tells of this, where it is something for a trace.
    pub(super) fn tell(&self, notice: &Notice) {
        let Notice::Record(record, _) = notice else { return };
        let (Some(span), Some(spans)) = (self.span(record), &self.spans) else { return };
        if spans.try_send(span).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The span of a record; `None` where it has none.
    fn span(&self, record: &Record) -> Option<SpanData> {
        match &record.event {
            Event::Accepted(accepted) => Some(self.taken("accept", accepted, record.at)),
            Event::Captured(accepted) => Some(self.taken("capture", accepted, record.at)),
            Event::Attempted(attempted) => Some(self.attempted(attempted, record)),
            Event::Cancelled(delivery) => {
                Some(self.ended("cancel", delivery.message, Status::Unset, record))
            }
            Event::Expired { delivery, cause } => {
                let status = Status::error(cause.class.advice_id());
                Some(self.ended("expire", delivery.message, status, record))
            }
            Event::Carried(_)
            | Event::ConfigChanged { .. }
            | Event::Delayed { .. }
            | Event::Held { .. }
            | Event::Released { .. }
            | Event::Rerouted { .. }
            | Event::Retired(_) => None,
        }
    }

    fn taken(&self, name: &'static str, accepted: &Accepted, at: Time) -> SpanData {
        let Accepted { id, envelope, size_bytes, .. } = accepted;
        let origin = &envelope.origin;
        let mut attributes = vec![
            KeyValue::new("merpati.listener", origin.listener.clone()),
            KeyValue::new("network.protocol.name", origin.protocol.keyword()),
            KeyValue::new("merpati.recipients", number(envelope.recipients.len())),
            KeyValue::new("merpati.size", i64::try_from(*size_bytes).unwrap_or(i64::MAX)),
        ];
        let tls = origin.tls.as_ref().map(|tls| ("tls.protocol.version", tls.version.clone()));
        let peer = origin
            .peer
            .as_ref()
            .map(|peer| ("network.peer.address", peer.address.ip().to_string()));
        let more = [tls, peer].into_iter().flatten();
        attributes.extend(more.map(|(key, value)| KeyValue::new(key, value)));
        let span = (name, SpanKind::Server, Status::Unset);
        self.data((*id, self.first(*id)), span, (origin.received_at, at), attributes)
    }

    fn attempted(&self, attempted: &Attempted, record: &Record) -> SpanData {
        let Attempted { message, attempt, outcomes } = attempted;
        let count = |fits: fn(&Outcome) -> bool| {
            number(outcomes.iter().filter(|(_, outcome)| fits(outcome)).count())
        };
        let trouble = outcomes.iter().find_map(|(_, outcome)| match outcome {
            Outcome::Deferred { cause, .. } | Outcome::Failed { cause } => Some(cause),
            Outcome::Delivered { .. } => None,
        });
        let mut attributes = vec![
            KeyValue::new("merpati.attempt", i64::from(attempt.number)),
            KeyValue::new("merpati.delivered", count(|o| matches!(o, Outcome::Delivered { .. }))),
            KeyValue::new("merpati.deferred", count(|o| matches!(o, Outcome::Deferred { .. }))),
            KeyValue::new("merpati.failed", count(|o| matches!(o, Outcome::Failed { .. }))),
        ];
        if let Some(path) = &attempt.path {
            attributes.push(KeyValue::new("server.address", path.host.to_string()));
            attributes.push(KeyValue::new("network.peer.address", path.address.to_string()));
            attributes.push(KeyValue::new("merpati.source", path.source.clone()));
        }
        if let Some(tls) = &attempt.tls {
            attributes.push(KeyValue::new("tls.protocol.version", tls.version.clone()));
        }
        let status = match trouble {
            Some(cause) => {
                attributes.push(KeyValue::new("error.type", cause.class.advice_id()));
                Status::error(cause.class.advice_id())
            }
            None => Status::Ok,
        };
        let span = ("deliver", SpanKind::Client, status);
        let times = (attempt.began, attempt.ended);
        self.data((*message, self.later(*message, record)), span, times, attributes)
    }

    fn ended(&self, name: &'static str, id: QueueId, status: Status, record: &Record) -> SpanData {
        let span = (name, SpanKind::Internal, status);
        self.data((id, self.later(id, record)), span, (record.at, record.at), Vec::new())
    }

    fn data(
        &self,
        (id, span): (QueueId, SpanId),
        (name, span_kind, status): (&'static str, SpanKind, Status),
        (start, end): (Time, Time),
        mut attributes: Vec<KeyValue>,
    ) -> SpanData {
        attributes.push(KeyValue::new("merpati.id", id.to_string()));
        let first = self.first(id);
        let parent_span_id = if span == first { SpanId::INVALID } else { first };
        let trace = TraceId::from_bytes(self.drawn("trace", id, 0));
        let flags = TraceFlags::SAMPLED;
        SpanData {
            span_context: SpanContext::new(trace, span, flags, false, TraceState::default()),
            parent_span_id,
            parent_span_is_remote: false,
            span_kind,
            name: name.into(),
            start_time: system(start),
            end_time: system(end),
            attributes,
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status,
            instrumentation_scope: InstrumentationScope::builder("merpati").build(),
        }
    }

    /// The span with which a message came.
    fn first(&self, id: QueueId) -> SpanId {
        SpanId::from_bytes(self.drawn("first", id, 0))
    }

    /// The span of a later record.
    fn later(&self, id: QueueId, record: &Record) -> SpanId {
        SpanId::from_bytes(self.drawn("later", id, record.lsn.0))
    }

    /// Octets that are the same for the same message of the same relay, also after a restart: what
    /// belongs together finds together, days later too.
    fn drawn<const N: usize>(&self, what: &str, id: QueueId, nth: u64) -> [u8; N] {
        let text = format!("{what} {id} {nth} {}", self.hostname);
        let drawn = digest(&SHA256, text.as_bytes());
        let mut octets = [0; N];
        octets.iter_mut().zip(drawn.as_ref()).for_each(|(to, from)| *to = *from);
        octets
    }
}

impl Drop for Traces {
    fn drop(&mut self) {
        // The thread sends what waits, and ends; who ends the relay waits for it, yet not for ever.
        self.spans = None;
        if let Some(sending) = self.sending.take() {
            sending.join().ok();
        }
    }
}

/// Sends what comes, in batches, to the end. Of what is lost it tells once in a while.
fn send_all(
    taken: &Receiver<SpanData>,
    lost: &AtomicU64,
    send: impl Fn(Vec<SpanData>) -> Result<(), String>,
) {
    let mut told: Option<Instant> = None;
    let mut is_last = false;
    while let Some(first) = (!is_last).then(|| taken.recv().ok()).flatten() {
        let mut batch = vec![first];
        let end = Instant::now() + GATHER;
        while batch.len() < BATCH_SPANS {
            match taken.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(span) => batch.push(span),
                Err(RecvTimeoutError::Timeout) => break,
                Err(RecvTimeoutError::Disconnected) => {
                    is_last = true;
                    break;
                }
            }
        }
        let spans = u64::try_from(batch.len()).unwrap_or(u64::MAX);
        let outcome = send(batch);
        if outcome.is_err() {
            lost.fetch_add(spans, Ordering::Relaxed);
        }
        if told.is_none_or(|told| told.elapsed() >= TOLD_EVERY) {
            let lost = lost.swap(0, Ordering::Relaxed);
            if lost > 0 {
                let why = outcome.err().unwrap_or_else(|| "the collector is too slow".to_owned());
                tracing::warn!(lost, why, "spans for the collector of traces are lost");
                told = Some(Instant::now());
            }
        }
    }
}

fn system(time: Time) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_micros(time.as_micros())
}

fn number(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// How long a collector may take for a batch.
const ANSWER_WAIT: Duration = Duration::from_secs(3);
/// How long a span waits for others.
const GATHER: Duration = Duration::from_millis(500);
/// How often it is told at most that spans are lost.
const TOLD_EVERY: Duration = Duration::from_mins(1);
/// Spans that are sent at once.
const BATCH_SPANS: usize = 512;
/// Spans that wait to be sent.
const WAITING_MAX: usize = 8_192;

#[cfg(test)]
#[path = "traces_tests.rs"]
mod tests;
