//! What the sending side of an SMTP or LMTP connection says next, and what came of each recipient.
//!
//! Invariants: a reply counts only for a command that was sent before it arrived, in order; nothing
//! that arrived in the clear is used after STARTTLS; every [`Input::Start`] is answered by exactly
//! one [`Output::Results`] with one result for each recipient; the last output is
//! [`Output::Close`], once.
//!
//! Pure: octets, time, and what became of the handshake are arguments.
//!
//! # The shell
//!
//! After each input the shell polls until `None`, and writes what is to be sent. It owns the input
//! buffer: what [`Session::handle`] does not consume comes again with more. Before it hands in
//! [`Input::BodyEnd`] it hands in what can be read without waiting: a reply that is already there
//! cannot be the one to the end of data. When writing fails it first hands in what can be read,
//! then [`Input::Closed`]; a shell that cannot go on (the content cannot be read) closes the
//! connection and hands in [`Input::Closed`] too. At [`Session::deadline`], also while a write
//! blocks, it hands in [`Input::Timeout`].
//!
//! ```
//! use std::io::{Read, Result, Write};
//!
//! use merpati_mail::Time;
//! use merpati_smtp::client::{Input, Output, Session, Transaction, TransactionResult};
//!
//! /// Delivers all messages over one connection; without TLS, and without time-outs of its own.
//! fn deliver<S: Read + Write>(
//!     peer: &mut S,
//!     session: &mut Session,
//!     clock: &dyn Fn() -> Time,
//!     mut messages: Vec<(Transaction, Vec<u8>)>,
//! ) -> Result<Vec<TransactionResult>> {
//!     let (mut results, mut content) = (Vec::new(), Vec::new());
//!     let mut unread = Vec::new();
//!     loop {
//!         while let Some(output) = session.poll() {
//!             match output {
//!                 Output::Send(octets) => peer.write_all(&octets)?,
//!                 Output::Ready => match messages.pop() {
//!                     Some((transaction, octets)) => {
//!                         content = octets;
//!                         session.handle(clock(), Input::Start(transaction));
//!                     }
//!                     None => {
//!                         session.handle(clock(), Input::Quit);
//!                     }
//!                 },
//!                 Output::NeedBody => {
//!                     for piece in content.chunks(65_536) {
//!                         let mut written = Ok(());
//!                         session.body(clock(), piece, &mut |slice| {
//!                             if written.is_ok() {
//!                                 written = peer.write_all(slice);
//!                             }
//!                         });
//!                         written?;
//!                     }
//!                     session.handle(clock(), Input::BodyEnd);
//!                 }
//!                 Output::Results(result) => results.push(result),
//!                 Output::StartTls => {
//!                     session.handle(clock(), Input::TlsFailed("no TLS here".to_owned()));
//!                 }
//!                 Output::Failed(_) => {}
//!                 Output::Close => return Ok(results),
//!             }
//!         }
//!         let mut buffer = [0; 4_096];
//!         let count = peer.read(&mut buffer)?;
//!         if count == 0 {
//!             session.handle(clock(), Input::Closed);
//!         } else {
//!             unread.extend(buffer.iter().take(count));
//!             let used = session.handle(clock(), Input::Octets(&unread));
//!             unread.drain(..used);
//!         }
//!     }
//! }
//! ```

mod capabilities;
mod hello;
mod options;
mod requests;
mod sasl;
mod scram;
mod transact;
mod transaction;

use std::{collections::VecDeque, time::Duration};

use merpati_mail::{
    Reply, Time, TlsFacts,
    outcome::{Fact, Finding, Phase},
};

use crate::reply_reader::{Read, ReplyReader};

pub use crate::reply_reader::ReplyLimits;
pub use capabilities::{Capabilities, Extension, Mechanism};
pub use options::{
    Credential, Dialect, EightBitPolicy, Exposure, Options, Pipelining, Timeouts, TlsUse,
};
pub use scram::{ITERATIONS_MAX, ITERATIONS_MIN, Nonce, SALT_OCTETS_MAX};
pub use transaction::{ConnectionUse, EightBit, RecipientResult, Transaction, TransactionResult};

use hello::Greeter;
use sasl::AuthStep;
use transaction::{Goal, Run};

/// The client side of one connection.
#[derive(Debug)]
pub struct Session {
    options: Options,
    state: State,
    reader: ReplyReader,
    capabilities: Capabilities,
    channel: Channel,
    outputs: VecDeque<Output>,
    deadline: Option<Time>,
    /// How many times MAIL was sent.
    transactions: u32,
    is_leaving: bool,
    /// Whether a command was made from the octets that are being handled: what follows it in them
    /// cannot be its reply.
    is_ahead: bool,
}

/// What the shell tells a session.
#[derive(Debug)]
pub enum Input<'a> {
    /// The next piece of the content, in octets as they should arrive; see also
    /// [`Session::body`], which does not copy. Without effect unless [`Output::NeedBody`] was
    /// polled.
    Body(&'a [u8]),
    /// The content is complete.
    BodyEnd,
    /// The peer closed, or the connection is no longer usable.
    Closed,
    /// All octets that were read and not yet consumed.
    Octets(&'a [u8]),
    /// Leave as soon as no transaction is under way.
    Quit,
    /// Begin a transaction, after [`Output::Ready`]. While something else is under way all its
    /// recipients come back with [`RecipientResult::TryAgainHere`].
    Start(Transaction),
    /// The time is [`Session::deadline`] or later; without effect before it.
    Timeout,
    /// The handshake failed for this reason.
    TlsFailed(String),
    /// The handshake is done; all octets from now on come from inside TLS.
    TlsReady(TlsFacts),
    /// Like [`Self::Start`], but only to learn which recipients the peer would take: it ends before
    /// DATA, and who would be taken comes back with [`RecipientResult::Verified`].
    Verify(Transaction),
}

/// What a session wants of its shell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// The connection is of no more use; the last output.
    Close,
    /// The session ends without a transaction being under way, for this reason.
    Failed(Finding),
    /// The peer waits for the content: [`Session::body`] or [`Input::Body`], then
    /// [`Input::BodyEnd`].
    NeedBody,
    /// The peer waits for a transaction: [`Input::Start`] or [`Input::Quit`]. There is no deadline;
    /// how long an idle connection is kept is for others to decide.
    Ready,
    /// What came of a transaction. [`Self::Ready`] or [`Self::Close`] follow in time.
    Results(TransactionResult),
    /// To be written to the peer.
    Send(Vec<u8>),
    /// Make a TLS handshake, then hand in [`Input::TlsReady`] or [`Input::TlsFailed`].
    StartTls,
}

impl Session {
    /// A session on a fresh connection; it waits for the greeting.
    pub fn new(now: Time, options: Options) -> Self {
        Self {
            reader: ReplyReader::new(options.limits),
            channel: match options.tls {
                TlsUse::Implicit => Channel::Tls(None),
                TlsUse::Never | TlsUse::Opportunistic | TlsUse::Required => Channel::Clear,
            },
            deadline: Some(now + options.timeouts.greeting),
            options,
            state: State::Greeting,
            capabilities: Capabilities::default(),
            outputs: VecDeque::new(),
            transactions: 0,
            is_leaving: false,
            is_ahead: false,
        }
    }

    /// Whether an exchange of AUTH goes on, whose lines must not be shown.
    pub const fn is_authenticating(&self) -> bool {
        matches!(self.state, State::Auth(_))
    }

    /// Takes an input; gives how many octets of [`Input::Octets`] are consumed, 0 for the others.
    pub fn handle(&mut self, now: Time, input: Input<'_>) -> usize {
        match input {
            Input::Body(piece) => self.body_copied(now, piece),
            Input::BodyEnd => self.body_end(now),
            Input::Closed => self.give_up(Fact::Cut),
            Input::Octets(octets) => return self.octets(now, octets),
            Input::Quit => {
                self.is_leaving = true;
                if matches!(self.state, State::Ready) {
                    self.state = self.leave(now, idle(Fact::Cut));
                }
            }
            Input::Start(transaction) => self.start(now, transaction, Goal::Deliver),
            Input::Timeout => {
                if self.deadline.is_some_and(|deadline| deadline <= now) {
                    self.give_up(Fact::TimedOut);
                }
            }
            Input::TlsFailed(reason) => {
                if matches!(self.state, State::Handshake) {
                    self.give_up(Fact::Tls(reason));
                }
            }
            Input::TlsReady(facts) => self.protected(now, facts),
            Input::Verify(transaction) => self.start(now, transaction, Goal::Verify),
        }
        0
    }

    /// Takes the next piece of the content and emits the slices that are to be written for it, in
    /// order and before anything that is polled later. Nothing is copied: they are parts of
    /// `piece` with dots between.
    ///
    /// Emits nothing when the session no longer wants content.
    pub fn body(&mut self, now: Time, piece: &[u8], emit: &mut dyn FnMut(&[u8])) {
        let State::Content(run) = &mut self.state else { return };
        match run.stuffer.push(piece, emit) {
            Ok(()) => {
                let deadline = (now + self.options.timeouts.data_block).min(run.deadline);
                self.deadline = Some(deadline);
            }
            Err(error) => self.give_up(Fact::Protocol(error.to_string())),
        }
    }

    /// What to do next; `None` when the session waits for an input.
    pub fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to hand in [`Input::Timeout`]; `None` while nothing is awaited.
    pub const fn deadline(&self) -> Option<Time> {
        self.deadline
    }

    /// What the peer offers, as far as it is known; after STARTTLS only what it said inside TLS.
    pub const fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    /// The TLS session that STARTTLS brought; `None` in the clear and with [`TlsUse::Implicit`],
    /// where the shell knows it.
    pub const fn tls(&self) -> Option<&TlsFacts> {
        match &self.channel {
            Channel::Clear => None,
            Channel::Tls(facts) => facts.as_ref(),
        }
    }

    fn octets(&mut self, now: Time, octets: &[u8]) -> usize {
        self.is_ahead = false;
        let mut rest = octets;
        loop {
            match self.state {
                State::Over(_) => return octets.len(),
                // C17: whoever could write these octets is not the peer inside TLS.
                State::Handshake if !rest.is_empty() => {
                    self.give_up(Fact::Protocol(CLEAR_BEHIND_STARTTLS.to_owned()));
                }
                State::Auth(_)
                | State::Commands(_)
                | State::Content(_)
                | State::EndOfData(_)
                | State::Greeting
                | State::Handshake
                | State::Hello(_)
                | State::LoneDot
                | State::Quit(_)
                | State::Ready
                | State::Reset
                | State::StartTls => {}
            }
            match self.reader.read(rest) {
                Read::Broken(error) => self.give_up(Fact::Protocol(error.to_string())),
                Read::Incomplete(used) => {
                    rest = rest.get(used..).unwrap_or_default();
                    if self.is_ahead && !self.reader.is_idle() {
                        self.give_up(Fact::Protocol(EARLY_REPLY.to_owned()));
                    }
                    return octets.len() - rest.len();
                }
                Read::Reply(reply, used) => {
                    rest = rest.get(used..).unwrap_or_default();
                    self.heard(now, reply, rest);
                }
            }
        }
    }

    /// Takes one reply; `rest` is what had arrived behind it.
    fn heard(&mut self, now: Time, reply: Reply, rest: &[u8]) {
        // What is offered, and a challenge, is needed whole; of all else a part is kept.
        let is_needed_whole = matches!(self.state, State::Auth(_) | State::Hello(_))
            && (reply.is_positive() || reply.is_intermediate());
        let reply = if is_needed_whole { reply } else { reply.shortened() };
        let is_over = matches!(self.state, State::Quit(_) | State::Over(_));
        // RFC 5321 §3.8: 421 may come at any time, and the channel is closed then.
        if reply.code == 421 && !is_over {
            return self.give_up(Fact::Replied(reply));
        }
        if self.is_ahead && !is_over {
            return self.give_up(Fact::Protocol(EARLY_REPLY.to_owned()));
        }
        self.state = match self.take_state() {
            State::Auth(step) => self.auth_answered(now, step, reply),
            State::Commands(run) => self.command_answered(now, run, reply),
            State::Content(run) => self.end_run(*run, amid_content(reply)),
            State::EndOfData(run) => self.end_of_data_answered(now, run, reply),
            State::Greeting => self.greeted(now, reply),
            State::Handshake => self.end(early(Phase::StartTls, &reply)),
            State::Hello(greeter) => self.hello_answered(now, greeter, reply),
            // A peer that still wants content is not in step with us.
            State::LoneDot if reply.is_intermediate() => self.end(early(Phase::Mail, &reply)),
            // K14: whatever else was said to the lone dot, nobody was to be delivered to.
            State::LoneDot => self.become_ready(now),
            State::Over(finding) => State::Over(finding),
            State::Quit(finding) => self.close(finding),
            State::Ready => self.end(early(Phase::Mail, &reply)),
            State::Reset if reply.is_positive() => self.become_ready(now),
            State::Reset => self.end(idle(Fact::Replied(reply))),
            State::StartTls => self.starttls_answered(now, reply, rest),
        };
    }

    /// Ends the session for this reason, without a word to the peer.
    fn give_up(&mut self, fact: Fact) {
        let state = self.take_state();
        let finding = Finding { phase: state.phase(), fact };
        self.state = match state {
            State::Commands(run) | State::Content(run) | State::EndOfData(run) => {
                self.end_run(*run, finding)
            }
            // What is wrong was known before the peer had its chance to answer.
            State::Auth(AuthStep::Cancelled(found)) => self.end(found),
            State::Over(ended) => State::Over(ended),
            State::Quit(ended) => self.close(ended),
            State::Auth(_)
            | State::Greeting
            | State::Handshake
            | State::Hello(_)
            | State::LoneDot
            | State::Ready
            | State::Reset
            | State::StartTls => self.end(finding),
        };
    }

    fn take_state(&mut self) -> State {
        std::mem::replace(&mut self.state, State::Over(idle(Fact::Cut)))
    }

    /// Ends a session without a transaction.
    fn end(&mut self, finding: Finding) -> State {
        self.keep_news();
        self.outputs.push_back(Output::Failed(finding.clone()));
        self.close(finding)
    }

    /// Ends a session in its transaction: who has no result yet gets this finding.
    fn end_run(&mut self, mut run: Run, finding: Finding) -> State {
        self.keep_news();
        run.settle(&finding);
        self.outputs.push_back(Output::Results(run.result(&self.capabilities)));
        self.close(finding)
    }

    fn close(&mut self, finding: Finding) -> State {
        self.deadline = None;
        self.outputs.push_back(Output::Close);
        State::Over(finding)
    }

    /// Drops the outputs that ask for something which is of no use on an ended connection.
    fn keep_news(&mut self) {
        self.outputs.retain(|output| matches!(output, Output::Results(_) | Output::Failed(_)));
    }

    /// Fails before any transaction, but politely: the peer is in step (RFC 5321 §4.1.1.10).
    fn fail(&mut self, now: Time, finding: Finding) -> State {
        self.outputs.push_back(Output::Failed(finding.clone()));
        self.leave(now, finding)
    }

    fn leave(&mut self, now: Time, finding: Finding) -> State {
        self.send(now, b"QUIT\r\n".to_vec(), self.options.timeouts.quit);
        State::Quit(finding)
    }

    fn become_ready(&mut self, now: Time) -> State {
        let max = self.capabilities.transactions_max;
        if self.is_leaving || max.is_some_and(|max| self.transactions >= max) {
            return self.leave(now, idle(Fact::Cut));
        }
        self.deadline = None;
        self.outputs.push_back(Output::Ready);
        State::Ready
    }

    fn send(&mut self, now: Time, octets: Vec<u8>, wait: Duration) {
        self.is_ahead = true;
        self.deadline = Some(now + wait);
        self.outputs.push_back(Output::Send(octets));
    }
}

/// Where the conversation stands, with what is known by then.
#[derive(Debug)]
enum State {
    /// A command of AUTH is sent.
    Auth(AuthStep),
    /// Commands of a transaction are sent.
    Commands(Box<Run>),
    /// The peer said 354; content goes out.
    Content(Box<Run>),
    /// The end of data is sent.
    EndOfData(Box<Run>),
    /// Nothing is sent yet.
    Greeting,
    /// The peer said 220 to STARTTLS; the shell makes the handshake.
    Handshake,
    /// EHLO, HELO or LHLO is sent.
    Hello(Greeter),
    /// A lone dot is sent for a message that nobody was to get.
    LoneDot,
    /// Closed, for this reason.
    Over(Finding),
    /// QUIT is sent, for this reason.
    Quit(Finding),
    /// The peer waits for MAIL.
    Ready,
    /// RSET is sent.
    Reset,
    /// STARTTLS is sent.
    StartTls,
}

impl State {
    fn phase(&self) -> Phase {
        match self {
            Self::Auth(_) => Phase::Auth,
            Self::Commands(run) => run.phase(),
            Self::Content(_) => Phase::Content,
            Self::EndOfData(_) => Phase::EndOfData,
            Self::Greeting => Phase::Greeting,
            Self::Handshake | Self::StartTls => Phase::StartTls,
            Self::Hello(_) => Phase::Hello,
            Self::LoneDot | Self::Over(_) | Self::Quit(_) | Self::Ready | Self::Reset => {
                Phase::Mail
            }
        }
    }
}

/// What carries the octets.
#[derive(Debug)]
enum Channel {
    Clear,
    /// The facts are those of a handshake after STARTTLS.
    Tls(Option<TlsFacts>),
}

/// A finding on a connection between transactions.
const fn idle(fact: Fact) -> Finding {
    Finding { phase: Phase::Mail, fact }
}

/// A finding for a reply to which there was no command.
fn early(phase: Phase, reply: &Reply) -> Finding {
    let reply = reply.clone().shortened();
    Finding { phase, fact: Fact::Protocol(format!("{EARLY_REPLY}: {reply}")) }
}

/// A finding for a reply that came while the content was sent. A refusal is one: some hosts say so
/// and close, as soon as the content is too large for them. That it is taken cannot be so yet.
fn amid_content(reply: Reply) -> Finding {
    if reply.is_transient() || reply.is_permanent() {
        Finding { phase: Phase::Content, fact: Fact::Replied(reply) }
    } else {
        early(Phase::Content, &reply)
    }
}

const CLEAR_BEHIND_STARTTLS: &str = "clear text follows the reply to STARTTLS";
const EARLY_REPLY: &str = "a reply came before its command";
