//! How a server session goes on: what a client's octets mean, and what it is told.
//!
//! Invariants: at most one question is open, and meanwhile no octet is taken; nothing is accepted
//! but by [`Input::Committed`]; what follows STARTTLS in the clear is never read. Pure.
//!
//! # How a shell drives it
//!
//! The shell owns the input buffer. It hands in everything that is not consumed yet, carries out
//! all outputs, and only then takes the consumed octets away: the ranges of [`Output::Body`] point
//! into what was handed in. It reads more when nothing was consumed and nothing was answered.
//! Answers may take their time; until then [`Session::wants`] is [`Wants::Answer`]. The buffer must
//! be able to hold [`Options::buffer_octets_min`] octets.
//!
//! ```
//! use std::sync::Arc;
//! use merpati_mail::{QueueId, Time, Verdict};
//! use merpati_smtp::server::{Input, Options, Output, Session};
//!
//! let options = Arc::new(Options::new("example", "mx.example"));
//! let peer = "192.0.2.1:25000".parse()?;
//! let mut session = Session::new(Time::EPOCH, options, peer, None);
//! // What the sockets would do.
//! let group = b"MAIL FROM:<a@a.example>\r\nRCPT TO:<b@b.example>\r\nDATA\r\n";
//! let content = b"Subject: x\r\n\r\n..\r\n.\r\nQUIT\r\n";
//! let mut segments = [&b"EHLO a\r\n"[..], group, content].into_iter();
//! let (mut sent, mut body, mut messages) = (Vec::new(), Vec::new(), Vec::new());
//!
//! let mut buffer = Vec::new();
//! 'session: loop {
//!     let now = Time::EPOCH;
//!     let consumed = session.handle(now, Input::Octets(&buffer));
//!     let mut is_idle = consumed == 0;
//!     while let Some(output) = session.poll() {
//!         match output {
//!             Output::Ask(_stage) => {
//!                 session.handle(now, Input::Verdict(Verdict::accept("open")));
//!                 is_idle = false;
//!             }
//!             Output::Body(range) => body.extend_from_slice(&buffer[range]),
//!             Output::BodyDropped => body.clear(),
//!             Output::BodyEnd(envelope) => {
//!                 messages.push((envelope, std::mem::take(&mut body)));
//!                 session.handle(now, Input::Committed(QueueId::from_bits(1)));
//!                 is_idle = false;
//!             }
//!             Output::Close => break 'session,
//!             Output::Question(_) | Output::StartTls => unreachable!("not offered"),
//!             Output::Send(octets) => sent.extend(octets),
//!         }
//!     }
//!     buffer.drain(..consumed);
//!     if is_idle || buffer.is_empty() {
//!         match segments.next() {
//!             Some(segment) => buffer.extend_from_slice(segment),
//!             None => { session.handle(now, Input::Closed); }
//!         }
//!     }
//! }
//! assert_eq!(messages[0].1, b"Subject: x\r\n\r\n.\r\n");
//! assert!(sent.ends_with(b"250 2.0.0 queued as 0000000000001\r\n221 2.0.0 mx.example bye\r\n"));
//! # Ok::<(), std::net::AddrParseError>(())
//! ```

mod answers;
mod auth;
mod authenticate;
mod bearer;
mod channel;
mod commands;
mod content;
mod extensions;
mod introduction;
mod options;
mod outbox;
mod scram;
mod seam;
mod summary;
mod transaction;

use std::borrow::Cow;
use std::{net::SocketAddr, sync::Arc, time::Duration};

use merpati_mail::{Domain, Envelope, Recipient, Reply, ReversePath, Stage, Time, TlsFacts};

pub use self::channel::Channel;
pub use self::options::{
    Auth, Discipline, Limits, MailNeeds, Mechanism, Offer, Offers, Options, Standing, StartTls,
    Vrfy, Waits,
};
pub use self::seam::{Input, Output, Wants};
pub use self::summary::{RefusedMail, SessionEnd, Summary};

use self::auth::{Asked, Exchange};
use self::content::Content;
use self::outbox::{Ending, Outbox};
use self::transaction::{Chunk, Transaction};
use crate::command;
use crate::lines::{Line, LineKind, LineLimit, Lines};

/// One connection of a client to us, from the greeting to the end.
#[derive(Debug)]
pub struct Session {
    options: Arc<Options>,
    client: Client,
    transaction: Option<Box<Transaction>>,
    phase: Phase,
    /// When the phase began; in content, when octets came last.
    since: Time,
    lines: Lines,
    outbox: Outbox,
    is_shutting_down: bool,
    has_talked_early: bool,
    standing: Standing,
    pace: Pace,
    transactions: u32,
    bad_commands: u32,
    auth_failures: u32,
    summary: Summary,
}

/// How long we wait for the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pace {
    /// As long as the RFC asks for.
    Calm,
    /// Not so long: others need the place.
    Hurried,
}

/// What is known of the client, and forgotten at STARTTLS but for its address.
#[derive(Clone, Debug)]
struct Client {
    address: SocketAddr,
    /// What an introducer found as its name; `None` where nobody told us.
    name: Option<Domain>,
    hello: Option<Hello>,
    credential: Option<String>,
    tls: Option<Channel>,
    /// Whether somebody else introduced it.
    is_introduced: bool,
}

impl Client {
    const fn at(address: SocketAddr) -> Self {
        Self { address, name: None, hello: None, credential: None, tls: None, is_introduced: false }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Hello {
    name: String,
    kind: HelloKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum HelloKind {
    Ehlo,
    Helo,
}

/// What comes next, and what is known only until then.
#[derive(Debug)]
enum Phase {
    /// A response of SASL.
    Auth(Exchange),
    /// Octets of a chunk.
    Chunk(Chunk),
    /// Nothing.
    Closed,
    /// A command.
    Command,
    /// The verdict on the connection.
    Connect,
    /// Who the client is.
    Credential(Asked),
    /// Octets of DATA.
    Data(DataPhase),
    /// The fate of a whole message.
    EndOfData,
    /// Nothing: the client is let wait for the greeting, to see whether it can.
    Greeting,
    /// TLS.
    Handshake,
    /// The verdict on a name.
    Hello(Hello),
    /// The verdict on a transaction.
    Mail(Box<Transaction>),
    /// That this time goes by: then the client is told that it failed to authenticate.
    Paused(Duration),
    /// The verdict on a recipient.
    Recipient(Recipient),
}

#[derive(Clone, Debug)]
struct DataPhase {
    content: Content,
    started: Time,
}

impl Session {
    /// A session with a client at `peer` that has just connected; `tls` where TLS already runs
    /// (RFC 8314 §3.3). It begins with [`Stage::Connect`].
    pub fn new(now: Time, options: Arc<Options>, peer: SocketAddr, tls: Option<Channel>) -> Self {
        let mut outbox = Outbox::default();
        outbox.outputs.push_back(Output::Ask(Stage::Connect));
        Self {
            options,
            client: Client { tls, ..Client::at(peer) },
            transaction: None,
            phase: Phase::Connect,
            since: now,
            lines: Lines::default(),
            outbox,
            is_shutting_down: false,
            has_talked_early: false,
            standing: Standing::Stranger,
            pace: Pace::Calm,
            transactions: 0,
            bad_commands: 0,
            auth_failures: 0,
            summary: Summary::default(),
        }
    }

    /// The same session with a client of this standing; to be said before the first input.
    #[must_use]
    pub const fn standing(mut self, standing: Standing) -> Self {
        self.standing = standing;
        self
    }

    /// Says whether others need the place of a client that does nothing. Then a client that has not
    /// authenticated is waited for no longer than [`Waits::hurried_wait`].
    pub const fn hurry(&mut self, is_needed: bool) {
        self.pace = if is_needed { Pace::Hurried } else { Pace::Calm };
    }

    /// Takes an input; returns how many octets of [`Input::Octets`] are consumed, else 0.
    ///
    /// An answer to a question that is not open changes nothing.
    pub fn handle(&mut self, now: Time, input: Input<'_>) -> usize {
        let consumed = match input {
            Input::Octets(octets) => self.take_octets(now, octets),
            Input::Closed => {
                self.outbox.discard_replies();
                self.close(SessionEnd::Gone);
                0
            }
            Input::Committed(id) => {
                self.take_commit(now, id);
                0
            }
            Input::Credential(answer) => {
                self.take_credential(now, answer);
                0
            }
            Input::Shutdown => {
                self.is_shutting_down = true;
                0
            }
            Input::Timeout => {
                self.take_timeout(now);
                0
            }
            Input::TlsReady(channel) => {
                self.take_tls(now, channel);
                0
            }
            Input::Verdict(verdict) => {
                self.take_verdict(now, verdict);
                0
            }
        };
        self.shut_down_between_commands();
        consumed
    }

    /// The next thing to do; `None` when all is done until the next input.
    pub fn poll(&mut self) -> Option<Output> {
        self.outbox.poll()
    }

    /// When [`Input::Timeout`] is due; `None` while somebody else than the client or the clock is
    /// waited for.
    pub fn deadline(&self) -> Option<Time> {
        let waits = &self.options.waits;
        let transaction = self.transaction.as_ref().map(|t| t.started + waits.transaction_wait);
        let patience = match self.pace {
            Pace::Hurried if self.is_unknown() => waits.hurried_wait,
            Pace::Calm | Pace::Hurried => Duration::MAX,
        };
        let block_wait = waits.data_block_wait.min(patience);
        let (first, second) = match &self.phase {
            Phase::Auth(_) | Phase::Command => {
                (self.since + waits.command_wait.min(patience), None)
            }
            Phase::Greeting => (self.since + waits.greeting_wait, None),
            Phase::Paused(wait) => return Some(self.since + *wait),
            Phase::Chunk(chunk) => {
                let size = self.chunked_bytes().saturating_add(chunk.swallowed);
                (self.since + block_wait, Some((chunk.started, size)))
            }
            Phase::Data(data) => {
                (self.since + block_wait, Some((data.started, data.content.size_bytes)))
            }
            Phase::Closed
            | Phase::Connect
            | Phase::Credential(_)
            | Phase::EndOfData
            | Phase::Handshake
            | Phase::Hello(_)
            | Phase::Mail(_)
            | Phase::Recipient(_) => return None,
        };
        let content = second.map(|(started, size)| {
            let earned = Duration::from_secs(size / waits.content_rate_min.max(1));
            started + waits.content_grace + earned
        });
        [Some(first), transaction, content].into_iter().flatten().min()
    }

    /// What is waited for.
    pub const fn wants(&self) -> Wants {
        match &self.phase {
            Phase::Auth(_) | Phase::Command | Phase::Greeting => Wants::Commands,
            Phase::Chunk(chunk) => Wants::Content { octets: Some(chunk.remaining) },
            Phase::Closed => Wants::Nothing,
            Phase::Data(_) => Wants::Content { octets: None },
            Phase::Connect
            | Phase::Credential(_)
            | Phase::EndOfData
            | Phase::Handshake
            | Phase::Hello(_)
            | Phase::Mail(_)
            | Phase::Paused(_)
            | Phase::Recipient(_) => Wants::Answer,
        }
    }

    /// Whether nothing speaks for the client.
    fn is_unknown(&self) -> bool {
        self.standing == Standing::Stranger && self.client.credential.is_none()
    }

    /// How many octets of content the client announced by `SIZE=`; `None` where it did not, and
    /// outside a transaction. Never above the limit.
    pub fn announced_bytes(&self) -> Option<u64> {
        self.transaction.as_ref()?.mail.parameters.size_bytes
    }

    /// From whom the transaction is; `None` outside of one.
    pub fn reverse_path(&self) -> Option<&ReversePath> {
        self.transaction.as_ref().map(|transaction| &transaction.mail.reverse_path)
    }

    /// What happened so far; complete after [`Output::Close`].
    pub const fn summary(&self) -> &Summary {
        &self.summary
    }

    /// Whether the next line of the client belongs to an exchange of AUTH, and must not be shown.
    pub const fn is_authenticating(&self) -> bool {
        matches!(self.phase, Phase::Auth(_) | Phase::Credential(_))
    }

    /// Takes note that the last refusal was about the content of this mail, which the machine gave
    /// away with [`Output::BodyEnd`].
    pub fn note_refused(&mut self, envelope: &Envelope) {
        let recipient = envelope.recipients.first().map(|first| &first.path);
        self.summary.note_mail(&envelope.reverse_path, recipient);
    }

    /// The address and port of the client: that of the connection, or the one that an introducer
    /// told us; 0.0.0.0 where he did not know it.
    pub const fn peer(&self) -> SocketAddr {
        self.client.address
    }

    /// The name of the client's address, as an introducer found it; `None` where nobody told us.
    pub const fn peer_name(&self) -> Option<&Domain> {
        self.client.name.as_ref()
    }

    /// The credential that authenticated; `None` where none did.
    pub fn credential(&self) -> Option<&str> {
        self.client.credential.as_deref()
    }

    /// The TLS session; `None` in the clear.
    pub fn tls(&self) -> Option<&TlsFacts> {
        self.client.tls.as_ref().map(|channel| &channel.facts)
    }

    fn take_octets(&mut self, now: Time, octets: &[u8]) -> usize {
        self.outbox.is_flushing = false;
        let mut at = 0;
        loop {
            self.shut_down_between_commands();
            let rest = octets.get(at..).unwrap_or_default();
            let step = match &self.phase {
                Phase::Auth(_) | Phase::Command => self.take_line(now, rest),
                Phase::Chunk(_) => self.take_chunk(now, rest, at),
                Phase::Closed | Phase::Handshake => Some(rest.len()).filter(|&len| len > 0),
                Phase::Connect => {
                    self.has_talked_early |= !rest.is_empty();
                    None
                }
                Phase::Greeting => self.take_early(rest),
                Phase::Data(_) => self.take_data(now, rest, at),
                Phase::Credential(_)
                | Phase::EndOfData
                | Phase::Hello(_)
                | Phase::Mail(_)
                | Phase::Paused(_)
                | Phase::Recipient(_) => None,
            };
            let Some(taken) = step else { break };
            at += taken;
            if self.outbox.is_full() {
                break;
            }
        }
        // While a question is open, replies wait for it and for what the client has pipelined.
        self.outbox.is_flushing = match self.wants() {
            Wants::Answer => at == octets.len(),
            Wants::Commands | Wants::Content { .. } | Wants::Nothing => true,
        };
        at
    }

    /// Takes a command line; `None` when it is not whole yet.
    fn take_line(&mut self, now: Time, rest: &[u8]) -> Option<usize> {
        let is_exchange = matches!(self.phase, Phase::Auth(_));
        let is_start = !is_exchange && self.lines.is_at_start();
        if is_start && rest.first() == Some(&TLS_HANDSHAKE) {
            let text = "TLS must be begun with STARTTLS here";
            self.dismiss("tls-in-clear", Reply::new(421, (4, 7, 0), text));
            return Some(rest.len());
        }
        let limits = &self.options.limits;
        let limit = if is_exchange || command::is_auth(rest) {
            LineLimit { octets_max: limits.auth_octets_max, kind: LineKind::Auth }
        } else {
            LineLimit { octets_max: limits.command_octets_max, kind: LineKind::Command }
        };
        match self.lines.next(rest, limit, limits.skipped_line_octets_max) {
            Line::Dropping(0) | Line::Partial => None,
            Line::Dropping(octets) => Some(octets),
            Line::BareLf => {
                let text = "Lines must end with CR LF";
                self.dismiss("bare-lf", Reply::new(500, (5, 5, 2), text));
                Some(rest.len())
            }
            Line::Endless => {
                let text = "The line is too long by far";
                self.dismiss("line-length", Reply::new(421, (4, 7, 0), text));
                Some(rest.len())
            }
            Line::TooLong { octets, limit } => {
                self.since = now;
                self.phase = Phase::Command;
                let enhanced = match limit.kind {
                    LineKind::Auth => (5, 5, 6),
                    LineKind::Command => (5, 5, 2),
                };
                self.refuse_bad("line-length", Reply::new(500, enhanced, "The line is too long"));
                Some(octets)
            }
            Line::Whole { line, octets } => {
                self.since = now;
                self.take_command(now, line, rest.len() > octets);
                // RFC 3207 §5: what came in the clear behind STARTTLS must not be believed.
                let is_last = matches!(self.phase, Phase::Closed | Phase::Handshake);
                Some(if is_last { rest.len() } else { octets })
            }
        }
    }

    /// Ends the session if we shut down and the client is owed nothing.
    fn shut_down_between_commands(&mut self) {
        if self.is_shutting_down
            && matches!(self.phase, Phase::Auth(_) | Phase::Command | Phase::Greeting)
        {
            let reply = self.closing_reply((4, 3, 2), "shuts down");
            self.outbox.reply(&reply);
            self.close(SessionEnd::Shutdown);
        }
    }

    fn closing_reply(&self, enhanced: (u8, u16, u16), why: &str) -> Reply {
        Reply::with_text(421, enhanced, format!("{} {why}", self.options.hostname))
    }

    /// Refuses for a reason that is not bad manners.
    fn refuse(&mut self, rule: impl Into<Cow<'static, str>>, reply: Reply) {
        self.outbox.reply(&reply);
        self.summary.refused(rule.into(), reply);
    }

    /// Refuses a command that no correct client sends; too many of them end the session.
    fn refuse_bad(&mut self, rule: &'static str, reply: Reply) {
        self.bad_commands += 1;
        if self.bad_commands >= self.options.limits.bad_commands_max {
            self.dismiss("bad-commands", Reply::new(421, (4, 7, 0), "Too many bad commands"));
        } else {
            self.refuse(rule, reply);
        }
    }

    /// Refuses and ends the session.
    fn dismiss(&mut self, rule: impl Into<Cow<'static, str>>, reply: Reply) {
        self.refuse(rule, reply);
        self.close(SessionEnd::Refused);
    }

    /// Ends the session; replies that wait are still sent.
    fn close(&mut self, end: SessionEnd) {
        if matches!(self.phase, Phase::Closed) {
            return;
        }
        self.drop_transaction();
        self.phase = Phase::Closed;
        self.summary.end = Some(end);
        self.outbox.end(Ending::Close);
    }

    /// Forgets the transaction, and tells the shell if it holds content of it.
    fn drop_transaction(&mut self) {
        let chunked = self.transaction.take().and_then(|transaction| transaction.chunked);
        let data = match &self.phase {
            Phase::Data(data) => Some(&data.content),
            Phase::Auth(_)
            | Phase::Chunk(_)
            | Phase::Closed
            | Phase::Command
            | Phase::Connect
            | Phase::Credential(_)
            | Phase::EndOfData
            | Phase::Greeting
            | Phase::Handshake
            | Phase::Hello(_)
            | Phase::Mail(_)
            | Phase::Paused(_)
            | Phase::Recipient(_) => None,
        };
        if chunked.as_ref().or(data).is_some_and(Content::is_collected) {
            self.outbox.outputs.push_back(Output::BodyDropped);
        }
    }
}

/// The first octet of a TLS record with a handshake (RFC 8446 §5.1); no command begins with it.
const TLS_HANDSHAKE: u8 = 0x16;
