//! What is counted: the only place where a metric has a name.
//!
//! Invariant: the number of series is bounded whatever peers do: labels are names of the
//! configuration, words of ours, and at most [`RULES_MAX`] rules. `docs/reference/metrics.md`
//! describes each. Not pure: shared counters.

use std::{
    collections::BTreeSet,
    fmt,
    sync::{Mutex, PoisonError, atomic::AtomicU64},
    time::Duration,
};

use merpati_console::sessions::Direction;
use merpati_mail::{Event, Outcome, Time, question::CredentialAnswer};
use merpati_spool::{Level, Pressure};
use prometheus_client::{
    encoding::text::encode,
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::{Registry, Unit},
};

use super::{SessionEnded, log::end_name};
use crate::{
    pressure::{Levels, Limits, Resource},
    store::Store,
    tls::Handshake,
};

/// One label with its value.
type Labels = [(&'static str, String); 1];
type Counts = Family<Labels, Counter>;
/// The same with words of ours, which are counted for each message.
type Words = Family<[(&'static str, &'static str); 1], Counter>;

/// All metrics.
pub struct Metrics {
    registry: Mutex<Registry>,
    events: Words,
    outcomes: Words,
    troubles: Family<[(&'static str, &'static str); 2], Counter>,
    /// 1 until a reload is refused.
    reload_ok: Gauge,
    certificate_orders: Words,
    certificate_until: Family<Labels, Gauge>,
    sessions: Counts,
    sessions_open: Family<Labels, Gauge>,
    session_ends: Counts,
    refusals: Counts,
    auth: Counts,
    tls_handshakes: Family<[(&'static str, &'static str); 2], Counter>,
    dane: Gauge,
    list_answers: Family<[(&'static str, String); 2], Counter>,
    lists_believed: Family<Labels, Gauge>,
    rules: Mutex<BTreeSet<String>>,
    queue_deliveries: Gauge<u64, AtomicU64>,
    queue_max: Gauge<u64, AtomicU64>,
    load: Family<[(&'static str, &'static str); 1], Gauge>,
    memory_bytes: Gauge<u64, AtomicU64>,
    memory_max_bytes: Gauge<u64, AtomicU64>,
    attempts_running: Gauge<u64, AtomicU64>,
    commits: Histogram,
    commit_seconds: Histogram,
    sync_seconds: Histogram,
    spool_bytes: Gauge<u64, AtomicU64>,
    spool_live_bytes: Gauge<u64, AtomicU64>,
    spool_free_bytes: Gauge<u64, AtomicU64>,
    spool_segments: Gauge<u64, AtomicU64>,
    spool_unread: Gauge<u64, AtomicU64>,
    spool_messages: Gauge<u64, AtomicU64>,
    spool_level: Gauge,
    sandbox_messages: Gauge<u64, AtomicU64>,
    sandbox_bytes: Gauge<u64, AtomicU64>,
    log_lost: Counter,
    panics: Counter,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Default for Metrics {
    fn default() -> Self {
        let sizes = exponential_buckets(1.0, 2.0, 9);
        let metrics = Self {
            registry: Mutex::new(Registry::with_prefix("merpati")),
            events: Family::default(),
            outcomes: Family::default(),
            troubles: Family::default(),
            reload_ok: Gauge::default(),
            certificate_orders: Family::default(),
            certificate_until: Family::default(),
            sessions: Family::default(),
            sessions_open: Family::default(),
            session_ends: Family::default(),
            refusals: Family::default(),
            auth: Family::default(),
            tls_handshakes: Family::default(),
            dane: Gauge::default(),
            list_answers: Family::default(),
            lists_believed: Family::default(),
            rules: Mutex::default(),
            queue_deliveries: Gauge::default(),
            queue_max: Gauge::default(),
            load: Family::default(),
            memory_bytes: Gauge::default(),
            memory_max_bytes: Gauge::default(),
            attempts_running: Gauge::default(),
            commits: Histogram::new(sizes),
            commit_seconds: Histogram::new(latencies()),
            sync_seconds: Histogram::new(latencies()),
            spool_bytes: Gauge::default(),
            spool_live_bytes: Gauge::default(),
            spool_free_bytes: Gauge::default(),
            spool_segments: Gauge::default(),
            spool_unread: Gauge::default(),
            spool_messages: Gauge::default(),
            spool_level: Gauge::default(),
            sandbox_messages: Gauge::default(),
            sandbox_bytes: Gauge::default(),
            log_lost: Counter::default(),
            panics: Counter::default(),
        };
        metrics.register_sessions();
        metrics.register_storage();
        metrics.register_load();
        metrics
    }
}

impl Metrics {
    fn register_sessions(&self) {
        let mut registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        let registry = &mut *registry;
        registry.register("events", "Durable events by name", self.events.clone());
        registry.register("outcomes", "Outcomes of attempts", self.outcomes.clone());
        let help = "Outcomes that were no success, by the id of the advice";
        registry.register("troubles", help, self.troubles.clone());
        self.reload_ok.set(1);
        let help = "0: the last reload was refused, and the configuration before it holds";
        registry.register("config_reload_ok", help, self.reload_ok.clone());
        let help = "Orders of certificates by what came of them";
        registry.register("certificate_orders", help, self.certificate_orders.clone());
        let help = "Until when an ordered certificate is good, in seconds since 1970";
        let until = self.certificate_until.clone();
        registry.register("certificate_valid_until_seconds", help, until);
        registry.register("sessions", "Connections accepted", self.sessions.clone());
        registry.register("sessions_open", "Connections open now", self.sessions_open.clone());
        registry.register("session_ends", "Sessions by how they ended", self.session_ends.clone());
        registry.register("refusals", "Refusals by rule", self.refusals.clone());
        registry.register("auth", "Authentications by result", self.auth.clone());
        let help = "TLS handshakes that came about, with clients and with hosts";
        registry.register("tls_handshakes", help, self.tls_handshakes.clone());
        let help = "Whether what DNS says of hosts is proven, so that DANE counts";
        registry.register("dane", help, self.dane.clone());
        let help = "Answers of DNS lists by list and kind";
        registry.register("list_answers", help, self.list_answers.clone());
        let help = "1: the DNS list is believed; 0: it is ignored";
        registry.register("list_believed", help, self.lists_believed.clone());
        registry.register("log_lines_lost", "Lines the log could not take", self.log_lost.clone());
        let help = "Deliveries that wait or are attempted";
        registry.register("queue_deliveries", help, self.queue_deliveries.clone());
        let help = "Attempts that go on now";
        registry.register("attempts_running", help, self.attempts_running.clone());
        registry.register("panics", "Sessions that ended by a fault of ours", self.panics.clone());
    }

    fn register_storage(&self) {
        let mut registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        let registry = &mut *registry;
        let bytes = || Unit::Bytes;
        registry.register("commit_groups", "Groups of one commit", self.commits.clone());
        registry.register_with_unit(
            "commit_duration",
            "Append and sync of one commit",
            Unit::Seconds,
            self.commit_seconds.clone(),
        );
        registry.register_with_unit(
            "sync_duration",
            "Sync of one commit",
            Unit::Seconds,
            self.sync_seconds.clone(),
        );
        let name = "spool_used";
        registry.register_with_unit(name, "Journal and bodies", bytes(), self.spool_bytes.clone());
        let (name, help) = ("spool_live", "Records that are still needed");
        registry.register_with_unit(name, help, bytes(), self.spool_live_bytes.clone());
        let (name, help) = ("spool_free", "Room that is left");
        registry.register_with_unit(name, help, bytes(), self.spool_free_bytes.clone());
        registry.register("spool_segments", "Segments in use", self.spool_segments.clone());
        let help = "Segments that recovery has yet to read";
        registry.register("spool_unread_segments", help, self.spool_unread.clone());
        registry.register("spool_messages", "Messages that live", self.spool_messages.clone());
        let help = "0: takes everything; 1: refuses new mail; 2: may refuse outcomes";
        registry.register("spool_level", help, self.spool_level.clone());
        let help = "Captured messages that are kept";
        registry.register("sandbox_messages", help, self.sandbox_messages.clone());
        let (name, help) = ("sandbox", "Contents of captured messages");
        registry.register_with_unit(name, help, bytes(), self.sandbox_bytes.clone());
    }

    fn register_load(&self) {
        let mut registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        let help = "0: normal; 1: reads are slow; 2: refuses new mail; 3: and new connections";
        registry.register("load_level", help, self.load.clone());
        let help = "Deliveries from which on new mail is refused; 0: any number";
        registry.register("queue_limit", help, self.queue_max.clone());
        let (name, help) = ("memory_resident", "Resident memory of the process");
        registry.register_with_unit(name, help, Unit::Bytes, self.memory_bytes.clone());
        let (name, help) = ("memory_limit", "Resident memory that the process may have; 0: any");
        registry.register_with_unit(name, help, Unit::Bytes, self.memory_max_bytes.clone());
    }

    /// All metrics in the text format of Prometheus.
    pub fn text(&self, store: &Store) -> String {
        let facts = store.facts();
        self.sandbox_messages.set(facts.messages);
        self.sandbox_bytes.set(facts.size_bytes);
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        let mut text = String::new();
        match encode(&mut text, &registry) {
            Ok(()) => text,
            // Only a formatter that fails could do that, and a String never fails.
            Err(fmt::Error) => String::new(),
        }
    }

    /// An event is durable.
    pub fn record(&self, event: &Event) {
        self.events.get_or_create(&[("event", event.name())]).inc();
        match event {
            Event::Attempted(attempted) => {
                for (_, outcome) in &attempted.outcomes {
                    let (name, cause) = match outcome {
                        Outcome::Deferred { cause, .. } => ("Deferred", Some(cause)),
                        Outcome::Delivered { .. } => ("Delivered", None),
                        Outcome::Failed { cause } => ("Failed", Some(cause)),
                    };
                    self.outcomes.get_or_create(&[("outcome", name)]).inc();
                    if let Some(cause) = cause {
                        let class = cause.class.advice_id();
                        let labels = [("class", class), ("outcome", name)];
                        self.troubles.get_or_create(&labels).inc();
                    }
                }
            }
            // Their number is all there is to count.
            Event::Accepted(_)
            | Event::Cancelled(_)
            | Event::Captured(_)
            | Event::Carried(_)
            | Event::ConfigChanged { .. }
            | Event::Delayed { .. }
            | Event::Expired { .. }
            | Event::Held { .. }
            | Event::Released { .. }
            | Event::Rerouted { .. }
            | Event::Retired(_) => {}
        }
    }

    /// What came of an order.
    pub fn certificate_ordered(&self, is_done: bool) {
        let result = if is_done { "ordered" } else { "failed" };
        self.certificate_orders.get_or_create(&[("result", result)]).inc();
    }

    /// Until when an ordered certificate is good.
    pub fn certificate_until(&self, name: &str, until: Time) {
        let until = i64::try_from(until.as_secs()).unwrap_or(i64::MAX);
        self.certificate_until.get_or_create(&[("certificate", name.to_owned())]).set(until);
    }

    /// Whether the last reload came about.
    pub fn reloaded(&self, is_done: bool) {
        self.reload_ok.set(i64::from(is_done));
    }

    /// TLS came about, anew or as a session that was resumed.
    pub fn tls_handshake(&self, direction: Direction, handshake: Handshake) {
        let kind = match handshake {
            Handshake::Full => "full",
            Handshake::Resumed => "resumed",
        };
        self.tls_handshakes.get_or_create(&[("direction", direction.word()), ("kind", kind)]).inc();
    }

    /// Whether what DNS says of hosts is proven, so that DANE counts.
    pub fn dane(&self, is_on: bool) {
        self.dane.set(i64::from(is_on));
    }

    /// How the queue is: living deliveries, and attempts that go on.
    pub fn queue(&self, deliveries: usize, attempts: usize) {
        self.queue_deliveries.set(deliveries as u64);
        self.attempts_running.set(attempts as u64);
    }

    /// Living deliveries, as they were told last.
    pub fn queue_deliveries(&self) -> u64 {
        self.queue_deliveries.get()
    }

    /// How much there may be.
    pub fn limits(&self, limits: &Limits) {
        self.queue_max.set(limits.queue_max.unwrap_or(0));
        self.memory_max_bytes.set(limits.memory_max.unwrap_or(0));
    }

    /// How far each resource is strained, and the resident memory where it is known.
    pub fn load(&self, levels: Levels, memory_bytes: Option<u64>) {
        for resource in Resource::ALL {
            let gauge = self.load.get_or_create(&[("resource", resource.word())]);
            gauge.set(i64::from(levels.of(resource).number()));
        }
        if let Some(bytes) = memory_bytes {
            self.memory_bytes.set(bytes);
        }
    }

    /// A connection came in at this listener.
    pub fn session_began(&self, listener: &str) {
        count(&self.sessions, "listener", listener);
        self.sessions_open.get_or_create(&[("listener", listener.to_owned())]).inc();
    }

    /// A connection of this listener is closed.
    pub fn session_closed(&self, listener: &str) {
        self.sessions_open.get_or_create(&[("listener", listener.to_owned())]).dec();
    }

    /// A session told what happened in it.
    pub fn session(&self, ended: &SessionEnded) {
        count(&self.session_ends, "end", ended.summary.end.map_or("Aborted", end_name));
        for (rule, times) in &ended.summary.refusals {
            self.refused(rule, *times);
        }
    }

    /// A rule refused so many times.
    pub fn refused(&self, rule: &str, times: u64) {
        let mut rules = self.rules.lock().unwrap_or_else(PoisonError::into_inner);
        let is_known =
            rules.contains(rule) || { rules.len() < RULES_MAX && rules.insert(rule.to_owned()) };
        drop(rules);
        let rule = if is_known { rule } else { "other" };
        self.refusals.get_or_create(&[("rule", rule.to_owned())]).inc_by(times);
    }

    /// It was found out who a client is, or is not. A verifier decides nothing yet.
    pub fn authenticated(&self, answer: &CredentialAnswer) {
        let result = match answer {
            CredentialAnswer::Denied { .. } => "denied",
            CredentialAnswer::Granted { .. } => "granted",
            CredentialAnswer::Locked(_) => "locked",
            CredentialAnswer::Unavailable => "unavailable",
            CredentialAnswer::Verifier(_) => return,
        };
        count(&self.auth, "result", result);
    }

    /// A DNS list answered in this way.
    pub fn list_answered(&self, list: &str, answer: &'static str) {
        let labels = [("list", list.to_owned()), ("answer", answer.to_owned())];
        self.list_answers.get_or_create(&labels).inc();
    }

    /// Whether a DNS list is believed.
    pub fn list_believed(&self, list: &str, is_believed: bool) {
        let gauge = self.lists_believed.get_or_create(&[("list", list.to_owned())]);
        gauge.set(i64::from(is_believed));
    }

    /// A batch is durable: how many groups, how long in all, and how long the sync took.
    pub fn committed(&self, groups: usize, took: Duration, sync: Duration) {
        self.commits.observe(f64::from(u32::try_from(groups).unwrap_or(u32::MAX)));
        self.commit_seconds.observe(took.as_secs_f64());
        self.sync_seconds.observe(sync.as_secs_f64());
    }

    /// The room of the spool.
    pub fn pressure(&self, pressure: &Pressure) {
        self.spool_bytes.set(pressure.bytes_used);
        self.spool_live_bytes.set(pressure.bytes_live);
        self.spool_free_bytes.set(pressure.bytes_free);
        self.spool_segments.set(pressure.segments_used as u64);
        self.spool_unread.set(pressure.segments_unread as u64);
        self.spool_messages.set(pressure.messages as u64);
        self.spool_level.set(match pressure.level {
            Level::Roomy => 0,
            Level::OutcomesOnly => 1,
            Level::Full => 2,
        });
    }

    /// Lines of the log were lost.
    pub fn log_lost(&self, lines: u64) {
        self.log_lost.inc_by(lines);
    }

    /// A session panicked.
    pub fn panicked(&self) {
        self.panics.inc();
    }
}

fn count(family: &Counts, label: &'static str, value: &str) {
    family.get_or_create(&[(label, value.to_owned())]).inc();
}

/// From 64 µs to 2 s.
fn latencies() -> impl Iterator<Item = f64> {
    exponential_buckets(0.000_064, 2.0, 16)
}

/// How many rules have a series of their own; the others are counted as `other`.
pub const RULES_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use merpati_mail::QueueId;

    use super::*;
    use crate::store::Quota;

    #[test]
    fn the_number_of_series_is_bounded_whatever_rules_there_are() {
        let metrics = Metrics::default();
        for number in 0..1_000 {
            metrics.refused(&format!("rule-{number}"), 1);
        }
        let text = metrics.text(&Store::new(Quota::default()));
        let series = text.lines().filter(|line| line.starts_with("merpati_refusals_total{"));
        assert_eq!(series.count(), RULES_MAX + 1);
        assert!(text.contains("merpati_refusals_total{rule=\"other\"} 936"));
    }

    #[test]
    fn events_are_counted_by_name() {
        let metrics = Metrics::default();
        metrics.record(&Event::Retired(QueueId::from_bits(1)));
        metrics.session_began("mx");
        let text = metrics.text(&Store::new(Quota::default()));
        assert!(text.contains("merpati_events_total{event=\"Retired\"} 1"), "{text}");
        assert!(text.contains("merpati_sessions_open{listener=\"mx\"} 1"), "{text}");
    }
}
