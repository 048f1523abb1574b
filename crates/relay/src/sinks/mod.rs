//! Who is told of what happened: the mail log and the metrics.
//!
//! Invariant: records come in the order of the journal and only when they are durable; refusals
//! are observed here and never journaled. Telling never blocks: a log that cannot be written fast
//! enough loses lines, counts them and says so. Not pure: a thread that writes.
//!
//! Under load the thread writes once in a few milliseconds: waking it for each batch of the journal
//! would cost more than the lines.

pub mod history;
pub mod log;
pub mod metrics;
pub mod target;
#[cfg(feature = "opentelemetry")]
pub mod traces;

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use merpati_mail::{Domain, QueueId, Record, Time, TlsFacts};
use merpati_smtp::server::Summary;

pub use self::{
    history::History,
    log::LogWriter,
    metrics::Metrics,
    target::{JOURNAL_SOCKET, Rotation, Target},
};
use crate::pressure::{Load, Resource};

/// Something to tell.
#[derive(Clone, Debug)]
pub enum Notice {
    /// A certificate that was to be ordered did not come.
    CertificateFailed(CertificateFailed),
    /// A certificate was ordered, and is used.
    CertificateOrdered(CertificateOrdered),
    /// The relay moved keys of a domain on, or made others.
    KeysChanged(KeysChanged),
    /// A DNS list is ignored from now on, or believed.
    ListChanged(ListChanged),
    /// A resource is strained more, or less, than before.
    LoadChanged(LoadChanged),
    /// Lines were lost: how many.
    LogLost(u64),
    /// A durable event; with the `Message-ID` of a message that was accepted or captured, where it
    /// has one.
    Record(Arc<Record>, Option<Box<str>>),
    /// All is known that the spool held when the process began.
    Recovered {
        /// When.
        at: Time,
        /// How many messages live.
        messages: usize,
        /// Places that could not be read.
        damaged: usize,
        /// How long it took.
        took: Duration,
    },
    /// A listener with TLS has no certificate of the operator's.
    SelfSigned {
        /// When it was found.
        at: Time,
        /// The name of the listener.
        listener: String,
        /// The file with the certificate that it shows instead.
        certificate: String,
    },
    /// A session ended.
    Session(Box<SessionEnded>),
    /// The journal failed.
    SpoolFailed {
        /// When.
        at: Time,
        /// What the spool said.
        why: String,
    },
    /// Another configuration holds, or was refused.
    Reloaded(Reloaded),
    /// Mail is taken from now on.
    Started {
        /// When.
        at: Time,
        /// The names and addresses of the listeners.
        listeners: Vec<(String, SocketAddr)>,
    },
    /// The process ends.
    Stopped {
        /// When.
        at: Time,
    },
    /// What was said with a host where it went wrong.
    Transcript(Transcript),
}

/// What was said with a host in an attempt that came to nothing, for some recipients at least.
#[derive(Clone, Debug)]
pub struct Transcript {
    /// When it was over.
    pub at: Time,
    /// The message.
    pub message: QueueId,
    /// The name of the host.
    pub host: String,
    /// `C:` and what we said, `S:` and what the host said.
    pub lines: Vec<String>,
}

/// A certificate that was to be ordered did not come.
#[derive(Clone, Debug)]
pub struct CertificateFailed {
    /// When.
    pub at: Time,
    /// Its name in the configuration.
    pub certificate: String,
    /// Why, in words.
    pub why: String,
    /// When it is tried again.
    pub again: Time,
}

/// A certificate was ordered, and is used.
#[derive(Clone, Debug)]
pub struct CertificateOrdered {
    /// When.
    pub at: Time,
    /// Its name in the configuration.
    pub certificate: String,
    /// For which names.
    pub names: Vec<Domain>,
    /// Until when it is good.
    pub until: Time,
}

/// The relay moved keys of a domain on, or made others.
#[derive(Clone, Debug)]
pub struct KeysChanged {
    /// When.
    pub at: Time,
    /// The domain.
    pub domain: Domain,
    /// What was done, and what is to be done, in lines.
    pub said: Vec<String>,
}

/// A DNS list is ignored from now on, or believed.
#[derive(Clone, Debug)]
pub struct ListChanged {
    /// When.
    pub at: Time,
    /// Its name in the configuration.
    pub list: Arc<str>,
    /// Its zone.
    pub zone: Domain,
    /// Whether it is believed.
    pub is_believed: bool,
    /// Why, in words.
    pub why: String,
}

/// What came of a reload.
#[derive(Clone, Debug)]
pub struct Reloaded {
    /// When.
    pub at: Time,
    /// The options that changed and hold now.
    pub changed: Vec<String>,
    /// Those that changed and hold with the next start.
    pub at_restart: Vec<String>,
    /// Why nothing was changed; `None` where the configuration holds.
    pub refused: Option<String>,
}

/// A resource is strained more, or less, than before.
#[derive(Clone, Copy, Debug)]
pub struct LoadChanged {
    /// When it was seen.
    pub at: Time,
    /// Of what there is too little, or was.
    pub resource: Resource,
    /// How it was.
    pub from: Load,
    /// How it is.
    pub to: Load,
    /// How much is used, octets or deliveries; `None` where nobody knows.
    pub used: Option<u64>,
    /// How much there may be; `None`: any.
    pub max: Option<u64>,
}

/// A session that ended, told once.
#[derive(Clone, Debug)]
pub struct SessionEnded {
    /// When it ended.
    pub at: Time,
    /// How long it lasted.
    pub lasted: Duration,
    /// The name of the listener.
    pub listener: String,
    /// The client.
    pub peer: SocketAddr,
    /// The proxy that spoke for it; `None` where it spoke for itself.
    pub proxy: Option<SocketAddr>,
    /// The TLS session; `None` in the clear.
    pub tls: Option<TlsFacts>,
    /// The credential that authenticated; `None` where none did.
    pub credential: Option<String>,
    /// The name of the client's address, where the DNS confirms it; `None` where it does not, or
    /// nobody asked.
    pub name: Option<Domain>,
    /// The DNS lists that have the client or a sender of it, those included that only note.
    pub listed: BTreeSet<Arc<str>>,
    /// What went wrong below SMTP, such as a handshake; `None` where nothing did.
    pub reason: Option<String>,
    /// What the machine counted.
    pub summary: Summary,
}

/// The way to the sinks, for all threads.
#[derive(Clone, Debug)]
pub struct Sinks {
    metrics: Arc<Metrics>,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    /// Told where the thread waits for it: see [`Waiting::is_asleep`].
    work: Condvar,
    idle: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    notices: Vec<Notice>,
    /// Where the log goes on from now; `None`: where it is.
    next: Option<LogWriter>,
    lost: u64,
    is_writing: bool,
    /// Whether the thread waits for a notice. A condition variable costs a system call for each
    /// telling, heard or not.
    is_asleep: bool,
    hurry: Hurry,
    /// Whether the thread has let go of all that it wrote to.
    has_ended: bool,
}

/// How soon what waits must be written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Hurry {
    /// At the next beat.
    #[default]
    Paced,
    /// At once: somebody waits for it.
    Flushed,
    /// At once, and the thread ends then.
    Ending,
}

impl Sinks {
    /// Starts the thread that writes to `writer`.
    pub fn start(metrics: Arc<Metrics>, mut writer: LogWriter) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let sinks = Self { metrics, shared };
        let thread = sinks.clone();
        std::thread::Builder::new().name("sinks".to_owned()).spawn(move || {
            while thread.write_some(&mut writer) {}
            drop(writer);
            thread.lock().has_ended = true;
            thread.shared.idle.notify_all();
        })?;
        Ok(sinks)
    }

    /// What is counted at once and not by way of the log.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// These events are durable.
    pub fn records(&self, records: Vec<(Arc<Record>, Option<Box<str>>)>) {
        for (record, _) in &records {
            self.metrics.record(&record.event);
        }
        self.tell(records.into_iter().map(|(record, id)| Notice::Record(record, id)));
    }

    /// A session ended.
    pub fn session(&self, ended: SessionEnded) {
        self.metrics.session(&ended);
        self.tell([Notice::Session(Box::new(ended))]);
    }

    /// The journal failed.
    pub fn spool_failed(&self, at: Time, why: String) {
        self.tell([Notice::SpoolFailed { at, why }]);
    }

    /// Writes the log to where `next` leads from now on; the history stays.
    pub fn turn_log(&self, next: LogWriter) {
        self.flush();
        self.lock().next = Some(next);
    }

    /// Something about the process.
    pub fn tell(&self, notices: impl IntoIterator<Item = Notice>) {
        let mut waiting = self.lock();
        for notice in notices {
            if waiting.notices.len() < NOTICES_MAX {
                waiting.notices.push(notice);
            } else {
                waiting.lost += 1;
                self.metrics.log_lost(1);
            }
        }
        let is_asleep = std::mem::take(&mut waiting.is_asleep);
        drop(waiting);
        if is_asleep {
            self.shared.work.notify_one();
        }
    }

    /// Waits until everything told so far is written, at most for a few seconds.
    pub fn flush(&self) {
        let busy = |waiting: &mut Waiting| waiting.is_writing || !waiting.notices.is_empty();
        let mut waiting = self.lock();
        if waiting.hurry == Hurry::Paced {
            waiting.hurry = Hurry::Flushed;
        }
        self.shared.work.notify_one();
        drop(self.shared.idle.wait_timeout_while(waiting, FLUSH_WAIT, busy));
    }

    /// Ends the thread after everything is written, and waits for that, at most for a few seconds.
    pub fn end(&self) {
        self.flush();
        let mut waiting = self.lock();
        waiting.hurry = Hurry::Ending;
        self.shared.work.notify_one();
        let goes_on = |waiting: &mut Waiting| !waiting.has_ended;
        drop(self.shared.idle.wait_timeout_while(waiting, FLUSH_WAIT, goes_on));
    }

    /// Writes what waits; false at the end.
    fn write_some(&self, writer: &mut LogWriter) -> bool {
        let mut waiting = self.lock();
        if waiting.is_writing {
            waiting.is_writing = false;
            let in_no_hurry = |waiting: &mut Waiting| waiting.hurry == Hurry::Paced;
            let paced = self.shared.work.wait_timeout_while(waiting, PACE, in_no_hurry);
            waiting = paced.unwrap_or_else(PoisonError::into_inner).0;
        }
        if waiting.notices.is_empty() {
            self.shared.idle.notify_all();
            if waiting.hurry == Hurry::Ending {
                return false;
            }
            waiting.hurry = Hurry::Paced;
            waiting.is_asleep = true;
            let idle = |waiting: &mut Waiting| {
                waiting.notices.is_empty() && waiting.hurry != Hurry::Ending
            };
            waiting =
                self.shared.work.wait_while(waiting, idle).unwrap_or_else(PoisonError::into_inner);
            waiting.is_asleep = false;
        }
        waiting.is_writing = true;
        let notices = std::mem::take(&mut waiting.notices);
        let lost = std::mem::take(&mut waiting.lost);
        let next = waiting.next.take();
        drop(waiting);
        if let Some(next) = next {
            writer.turn(next);
        }
        for notice in &notices {
            writer.line(notice);
        }
        if lost > 0 {
            writer.line(&Notice::LogLost(lost));
        }
        writer.flush();
        let unwritten = writer.take_lost();
        if unwritten > 0 {
            self.metrics.log_lost(unwritten);
            // The log tells it once it takes lines again, with what it could not tell now.
            self.lock().lost += lost + unwritten;
        }
        true
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.shared.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How many notices wait for the writer at most; more are lost and counted.
const NOTICES_MAX: usize = 65_536;
/// How often lines are written under load.
const PACE: Duration = Duration::from_millis(5);
/// How long [`Sinks::flush`] waits for a slow log.
const FLUSH_WAIT: Duration = Duration::from_secs(5);
