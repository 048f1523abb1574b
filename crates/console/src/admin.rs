//! What an operator can ask of the relay and tell it: the verbs, and the nouns they speak of.
//!
//! Invariant: what is not here cannot be done from outside. The relay implements [`Admin`]; tests
//! bring a fake in memory. The types are plain and never derive `Serialize`.

use std::{fmt, future::Future, net::SocketAddr, path::PathBuf, time::Duration};

use bytes::Bytes;
use futures_util::stream::BoxStream;
use merpati_mail::{Domain, Envelope, QueueId, Time, header};

use crate::{
    Query, Selection,
    explain::{AcceptAnswer, AcceptQuestion, RouteAnswer, RouteQuestion},
    explain_tls::TlsAnswer,
    health::Examined,
    queue::{Grouping, Mode, Operated, QueueListing, QueuePage, Queued, Shape, Verb},
    sessions::{SessionFacts, TapLine},
    spool::BackedUp,
    trace::{TraceQuery, Traced},
};

/// The operator's verbs.
pub trait Admin: Send + Sync + 'static {
    /// What time it is, by the clock of the relay.
    fn now(&self) -> Time;

    /// Whether new mail is taken just now.
    fn readiness(&self) -> Result<(), NotReady>;

    /// The counters in the text format of Prometheus.
    fn metrics(&self) -> String;

    /// How the relay is.
    fn status(&self) -> Status;

    /// What is good and what is wrong with the host and its surroundings; what was found within the
    /// last minute is told again.
    fn health(&self) -> impl Future<Output = Examined> + Send;

    /// The sessions that are open, the oldest first.
    fn sessions(&self) -> Vec<SessionFacts>;

    /// What is said in sessions from now on, until it is dropped.
    fn tap(&self) -> BoxStream<'static, TapLine>;

    /// Reads the configuration again and goes by it; where it has mistakes, nothing changes.
    fn reload(&self) -> impl Future<Output = Result<Reloaded, AdminError>> + Send;

    /// Stops taking mail, lets sessions end, and ends the process. Asking again changes nothing.
    fn drain(&self);

    /// The captured messages that `query` selects, the newest first.
    fn list(
        &self,
        query: &Query,
        page: Page,
    ) -> impl Future<Output = Result<Listing, AdminError>> + Send;

    /// The oldest captured message that `query` selects and that is newer than `after` (`None`:
    /// any), as soon as there is one; `None` when `timeout` has passed or the relay drains.
    fn wait(
        &self,
        query: &Query,
        after: Option<QueueId>,
        timeout: Duration,
    ) -> impl Future<Output = Result<Option<Summary>, AdminError>> + Send;

    /// A captured message; `None` where there is none of this name.
    fn message(
        &self,
        id: QueueId,
    ) -> impl Future<Output = Result<Option<Captured>, AdminError>> + Send;

    /// Forgets a captured message, durably; false where there was none of this name.
    fn forget(&self, id: QueueId) -> impl Future<Output = Result<bool, AdminError>> + Send;

    /// Forgets all captured messages that `query` selects, durably, and says how many.
    fn clear(&self, query: &Query) -> impl Future<Output = Result<u64, AdminError>> + Send;

    /// The living deliveries that `selection` selects, the oldest message first.
    fn queue(
        &self,
        selection: &Selection,
        page: QueuePage,
    ) -> impl Future<Output = Result<QueueListing, AdminError>> + Send;

    /// How much waits of what `selection` selects, of messages behind `after` or of all.
    /// [`Shape::next`] says where to go on.
    fn shape(
        &self,
        selection: &Selection,
        by: Grouping,
        after: Option<QueueId>,
    ) -> impl Future<Output = Result<Shape, AdminError>> + Send;

    /// A message of the queue; `None` where there is none of this name.
    fn queued(
        &self,
        id: QueueId,
    ) -> impl Future<Output = Result<Option<Queued>, AdminError>> + Send;

    /// The content of a message of the queue as it is sent on; `None` where there is none of this
    /// name.
    fn queued_content(
        &self,
        id: QueueId,
    ) -> impl Future<Output = Result<Option<Bytes>, AdminError>> + Send;

    /// Carries out a verb, durably, for the next deliveries that `selection` selects: of messages
    /// behind `after`, or of all. [`Operated::next`] says where to go on.
    fn operate(
        &self,
        selection: &Selection,
        verb: &Verb,
        after: Option<QueueId>,
        mode: Mode,
    ) -> impl Future<Output = Result<Operated, AdminError>> + Send;

    /// Copies all living messages into a data directory that a relay can be started with; it
    /// must be new or empty. Resolves when the copy is complete and durable.
    fn back_up(
        &self,
        directory: PathBuf,
    ) -> impl Future<Output = Result<BackedUp, AdminError>> + Send;

    /// Where mail would go. Asks DNS.
    fn explain_route(
        &self,
        question: &RouteQuestion,
    ) -> impl Future<Output = Result<RouteAnswer, AdminError>> + Send;

    /// How mail to a domain would be protected. Asks DNS and the host of its policy.
    fn explain_tls(
        &self,
        domain: &Domain,
    ) -> impl Future<Output = Result<TlsAnswer, AdminError>> + Send;

    /// Whether a mail would be accepted. Asks DNS and next hops; no trace of it stays.
    fn explain_accept(
        &self,
        question: &AcceptQuestion,
    ) -> impl Future<Output = Result<AcceptAnswer, AdminError>> + Send;

    /// What became of the mail that `query` means: of at most `limit` messages and as many refused
    /// mails, the newest of each.
    fn trace(
        &self,
        query: &TraceQuery,
        limit: usize,
    ) -> impl Future<Output = Result<Traced, AdminError>> + Send;
}

/// Which part of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// Only messages older than this one; `None` begins with the newest.
    pub older_than: Option<QueueId>,
    /// At most so many, 1 to 500.
    pub limit: usize,
}

/// A part of a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// The messages of this page, the newest first.
    pub messages: Vec<Summary>,
    /// Whether older ones are selected too.
    pub has_more: bool,
}

/// What a list shows of a captured message, and what a [`Query`] looks at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Our name for it.
    pub id: QueueId,
    /// When it was complete.
    pub received_at: Time,
    /// Octets of the content.
    pub size_bytes: u64,
    /// The reverse-path without brackets; empty for the null reverse-path.
    pub reverse_path: String,
    /// The forward-paths without brackets, in the order of the envelope.
    pub recipients: Vec<String>,
    /// The `From` field, decoded; empty where there is none.
    pub from: String,
    /// The `To` field, decoded; empty where there is none.
    pub to: String,
    /// The `Cc` field, decoded; empty where there is none.
    pub cc: String,
    /// The `Subject` field, decoded; empty where there is none.
    pub subject: String,
    /// The `Message-ID` field without brackets; empty where there is none.
    pub message_id: String,
}

impl Summary {
    /// What a list shows of the message with this envelope and content.
    pub fn of(id: QueueId, envelope: &Envelope, content: &[u8]) -> Self {
        let field = |name| {
            let value = header::first(content, name).map(|field| field.unfolded());
            let decoded = value.map(|value| header::decode_words(value.trim()));
            clip(decoded.unwrap_or_default())
        };
        let reverse_path = envelope.reverse_path.mailbox().map(ToString::to_string);
        let recipients = envelope.recipients.iter().map(|recipient| bare(&recipient.path));
        Self {
            id,
            received_at: envelope.origin.received_at,
            size_bytes: content.len() as u64,
            reverse_path: reverse_path.unwrap_or_default(),
            recipients: recipients.collect(),
            from: field("From"),
            to: field("To"),
            cc: field("Cc"),
            subject: field("Subject"),
            message_id: field("Message-ID").trim_matches(['<', '>']).to_owned(),
        }
    }
}

/// A captured message as it was received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Captured {
    /// Our name for it.
    pub id: QueueId,
    /// Whom it is from and for.
    pub envelope: Envelope,
    /// The content, octet for octet.
    pub content: Bytes,
}

/// How the relay is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The version of the program.
    pub version: String,
    /// When it was started.
    pub started_at: Time,
    /// The sockets on which it listens.
    pub listeners: Vec<Listener>,
    /// What the spool holds.
    pub spool: SpoolFacts,
    /// What the sandbox holds.
    pub sandbox: SandboxFacts,
}

/// What came of a reload.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reloaded {
    /// The options that changed and hold now.
    pub changed: Vec<String>,
    /// Those that changed and hold with the next start.
    pub at_restart: Vec<String>,
}

/// A socket on which the relay listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Its name in the configuration; `http` for this API.
    pub name: String,
    /// What becomes of what comes in: `relay`, `sandbox` or `http`.
    pub kind: String,
    /// Where; with the true port where the configuration says 0.
    pub address: SocketAddr,
    /// Connections that are open now.
    pub connections: u64,
    /// Whether it shows a certificate that the relay signed itself, for want of another.
    pub is_self_signed: bool,
}

/// What the spool holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SpoolFacts {
    /// The directory of the journal.
    pub directory: String,
    /// Messages for which we are responsible, without those of the sandbox.
    pub messages: u64,
    /// Octets of the journal and of bodies beside it.
    pub size_bytes: u64,
    /// Octets that the disk has left for us; `None` where it could not be asked.
    pub free_bytes: Option<u64>,
    /// Segments that recovery has yet to read; what is in them is not counted yet.
    pub segments_unread: u64,
}

/// What the sandbox holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SandboxFacts {
    /// Messages that are kept.
    pub messages: u64,
    /// Octets of their content.
    pub size_bytes: u64,
    /// Messages captured since the start of the process.
    pub captured: u64,
}

/// Why no mail is taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotReady {
    /// One sentence.
    pub reason: String,
    /// What to do, one sentence each; may be empty.
    pub advice: Vec<String>,
}

/// Why a verb was not carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AdminError {
    /// The configuration has mistakes; each is told with its place.
    Config(String),
    /// The relay still reads what its spool held when it started.
    Recovering,
    /// It cannot be done as it was asked for; in words.
    Refused(String),
    /// The spool could not read or write; in words.
    Storage(String),
    /// The relay drains or has not begun.
    Unavailable(String),
}

impl fmt::Display for AdminError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(mistakes) => f.write_str(mistakes),
            Self::Recovering => f.write_str(RECOVERING),
            Self::Refused(why) => f.write_str(why),
            Self::Storage(why) => write!(f, "the spool failed: {why}"),
            Self::Unavailable(why) => write!(f, "not available: {why}"),
        }
    }
}

impl std::error::Error for AdminError {}

pub(crate) const RECOVERING: &str = "the relay still reads what its spool held when it started";

/// A path without its brackets, as lists show it.
pub fn bare(path: &impl ToString) -> String {
    path.to_string().trim_start_matches('<').trim_end_matches('>').to_owned()
}

/// Bounds what one hostile field can cost in an index.
fn clip(mut text: String) -> String {
    if text.len() > FIELD_OCTETS_MAX {
        let end = (0..=FIELD_OCTETS_MAX).rev().find(|&end| text.is_char_boundary(end));
        text.truncate(end.unwrap_or(0));
    }
    text
}

/// Octets of a header field that a [`Summary`] holds at most.
const FIELD_OCTETS_MAX: usize = 998;
