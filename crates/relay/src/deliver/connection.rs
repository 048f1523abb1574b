//! One connection to a host: carries octets between the socket and the client session.
//!
//! Invariant: no octet is looked at here. What the host says is read also while we write, so that a
//! host that ends in the middle of a content is noticed. Not pure: sockets and time.

use std::{
    future::poll_fn,
    io,
    net::IpAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use merpati_mail::{Time, TlsFacts, outcome::Finding as Found};
use merpati_smtp::client::{
    Input, Options, Output, Session, TlsUse, Transaction, TransactionResult,
};
use rustls_pki_types::CertificateDer;
use tokio::{
    io::ReadBuf,
    time::{Instant, Sleep, sleep, timeout},
};
use tokio_rustls::TlsConnector;

use super::{
    content::Outgoing,
    dialogue::{Dialogue, Side},
    pool::{Key, Permit},
    stream::{Stream, is_of_tls},
};
use crate::{
    clock::Clock,
    sessions::{Doing, Session as Shown, client_line, lines, server_line},
    tls::{Handshake, Trouble},
};

/// A connection with its session.
pub(super) struct Connection {
    pub(super) key: Key,
    /// Transactions that were begun.
    pub(super) transactions: u32,
    /// When it was last used.
    pub(super) used_at: Time,
    /// The TLS session; `None` in the clear.
    pub(super) tls: Option<TlsFacts>,
    /// Whether TLS is spoken or will be tried.
    pub(super) tries_tls: bool,
    /// What was wrong with a handshake that failed; `None` where none did.
    pub(super) trouble: Option<Trouble>,
    /// Our address; `None` for a Unix socket.
    pub(super) from: Option<IpAddr>,
    /// What was said since the last transaction began.
    pub(super) dialogue: Dialogue,
    /// What the host said of a line that has no end yet.
    unheard: Vec<u8>,
    /// What others see of it.
    shown: Shown,
    session: Session,
    /// `None` after a handshake that failed.
    stream: Option<Stream>,
    connector: TlsConnector,
    clock: Arc<Clock>,
    /// What was read and not consumed.
    unread: Vec<u8>,
    /// What is to be written, and how much of it is.
    unwritten: Vec<u8>,
    written: usize,
    scratch: Box<[u8]>,
    /// Rings at or before the deadline of the session: moving it with each command would cost more
    /// than ringing too early now and then.
    alarm: Pin<Box<Sleep>>,
    /// Its place among the connections that may be open.
    _permit: Permit,
}

/// What a connection came to.
#[derive(Debug)]
pub(super) enum Turn {
    /// It is over without a transaction under way.
    Failed(Found),
    /// It waits for a transaction.
    Ready,
    /// A transaction is over.
    Results(TransactionResult),
    /// The peer waits for the content.
    NeedBody,
    /// Nothing more comes.
    Over,
}

/// What woke an exchange.
#[derive(Clone, Copy)]
enum Woken {
    /// Everything is written.
    Written,
    Read(usize),
    Broken,
    TimedOut,
}

impl Connection {
    /// A session over a stream that has just been made.
    pub(super) fn new(
        key: Key,
        (stream, tls): (Stream, Option<TlsFacts>),
        options: Options,
        (connector, clock): (TlsConnector, Arc<Clock>),
        (permit, shown): (Permit, Shown),
    ) -> Self {
        let now = clock.now();
        Self {
            key,
            transactions: 0,
            used_at: now,
            tls,
            tries_tls: options.tls != TlsUse::Never,
            trouble: None,
            from: stream.from(),
            dialogue: Dialogue::default(),
            unheard: Vec::new(),
            shown,
            session: Session::new(now, options),
            stream: Some(stream),
            connector,
            clock,
            unread: Vec::new(),
            unwritten: Vec::new(),
            written: 0,
            scratch: vec![0; READ_OCTETS].into_boxed_slice(),
            alarm: Box::pin(sleep(WAIT_LONGEST)),
            _permit: permit,
        }
    }

    /// Goes on until something is to be decided.
    pub(super) async fn turn(&mut self) -> Turn {
        loop {
            while let Some(output) = self.session.poll() {
                match output {
                    Output::Close => {
                        self.flush().await;
                        return Turn::Over;
                    }
                    Output::Failed(found) => return Turn::Failed(found),
                    Output::NeedBody => return Turn::NeedBody,
                    Output::Ready => return Turn::Ready,
                    Output::Results(results) => return Turn::Results(results),
                    Output::Send(octets) => self.write(&octets),
                    Output::StartTls => self.start_tls().await,
                }
            }
            if self.stream.is_none() {
                return Turn::Over;
            }
            let woken = self.exchange(Until::Octets).await;
            self.take(woken);
        }
    }

    /// Begins a transaction.
    pub(super) fn start(&mut self, transaction: Transaction) {
        self.dialogue.clear();
        self.transactions += 1;
        self.used_at = self.clock.now();
        self.shown.learns(|about| about.message = Some(transaction.id));
        self.shown.does(self.used_at, Doing::Talks);
        self.session.handle(self.used_at, Input::Start(transaction));
    }

    /// Begins a transaction that ends before its content.
    pub(super) fn verify(&mut self, transaction: Transaction) {
        self.transactions += 1;
        self.used_at = self.clock.now();
        self.session.handle(self.used_at, Input::Verify(transaction));
    }

    /// Sends the content, after [`Turn::NeedBody`]. False where it could not be read: the
    /// connection is then of no more use.
    pub(super) async fn send(&mut self, message: &Outgoing) -> bool {
        self.shown.does(self.clock.now(), Doing::Transfers);
        let octets = usize::try_from(message.size_octets).unwrap_or(WRITE_OCTETS);
        self.unwritten.reserve(octets.saturating_add(STUFFED_OCTETS).min(WRITE_OCTETS));
        for slice in message.first() {
            self.body(slice).await;
        }
        let mut pieces = message.pieces();
        loop {
            match pieces.next().await {
                Ok(Some(piece)) => self.body(&piece).await,
                Ok(None) => break,
                Err(error) => {
                    tracing::error!(%error, "a content cannot be read; its attempt is broken off");
                    self.stream = None;
                    self.session.handle(self.clock.now(), Input::Closed);
                    return false;
                }
            }
        }
        // What is there by now cannot be the reply to the end of data.
        self.read_what_is_there().await;
        self.session.handle(self.clock.now(), Input::BodyEnd);
        true
    }

    /// Gives back memory that only a large content needs.
    pub(super) fn rest(&mut self, now: Time) {
        self.used_at = now;
        self.shown.took();
        self.shown.does(now, Doing::Idles);
        if self.unwritten.is_empty() {
            self.unwritten.shrink_to(IDLE_OCTETS);
        }
    }

    /// Takes leave of the host, where nothing is under way.
    pub(super) async fn leave(mut self) {
        self.session.handle(self.clock.now(), Input::Quit);
        self.finish().await;
    }

    /// Lets a session that has failed say its last words; the host is given a moment for them.
    pub(super) async fn finish(mut self) {
        let over = async { while !matches!(self.turn().await, Turn::Over) {} };
        timeout(LEAVE_WAIT, over).await.ok();
    }

    /// The certificates that the host has shown; none in the clear.
    pub(super) fn chain(&self) -> Vec<CertificateDer<'static>> {
        self.stream.as_ref().map(Stream::chain).unwrap_or_default()
    }

    /// How TLS came about; `None` in the clear.
    pub(super) fn handshake(&self) -> Option<Handshake> {
        self.stream.as_ref()?.how_protected()
    }

    /// Whether an idle connection may be used again: the host has said nothing and not ended it.
    pub(super) async fn is_silent(&mut self) -> bool {
        let Some(stream) = &mut self.stream else { return false };
        let mut one = [0; 1];
        poll_fn(|cx| {
            let mut buffer = ReadBuf::new(&mut one);
            Poll::Ready(stream.poll_read(cx, &mut buffer).is_pending())
        })
        .await
    }

    async fn body(&mut self, piece: &[u8]) {
        let now = self.clock.now();
        for part in piece.chunks(WRITE_OCTETS) {
            let unwritten = &mut self.unwritten;
            self.session.body(now, part, &mut |slice| unwritten.extend_from_slice(slice));
            if self.unwritten.len() - self.written >= WRITE_OCTETS {
                self.flush().await;
            }
        }
    }

    /// Writes all that waits; what the host says meanwhile is taken in.
    async fn flush(&mut self) {
        // A session without a deadline is over and has nothing more to say: a host that refuses in
        // the middle of the content need not take the rest of it.
        let waits = |it: &Self| it.stream.is_some() && it.session.deadline().is_some();
        while self.written < self.unwritten.len() && waits(self) {
            let woken = self.exchange(Until::Written).await;
            self.take(woken);
        }
        // What is written is not kept: the memory of a large content stays flat.
        self.written = 0;
        self.unwritten.clear();
    }

    async fn read_what_is_there(&mut self) {
        let Some(stream) = &mut self.stream else { return };
        let scratch = &mut self.scratch;
        let read = poll_fn(|cx| {
            let mut buffer = ReadBuf::new(scratch);
            Poll::Ready(match stream.poll_read(cx, &mut buffer) {
                Poll::Pending => None,
                Poll::Ready(result) => Some(result.map(|()| buffer.filled().len())),
            })
        })
        .await;
        match read {
            None => {}
            Some(Ok(count)) if count > 0 => self.take(Woken::Read(count)),
            Some(_) => self.take(Woken::Broken),
        }
    }

    fn write(&mut self, octets: &[u8]) {
        // The command AUTH itself, and what follows it in the exchange.
        let is_secret = self.session.is_authenticating() && !octets.starts_with(b"AUTH ");
        self.dialogue.say(Side::Client { is_secret }, octets);
        if self.shown.is_tapped() {
            let said = lines(octets).map(|line| client_line(&line, is_secret)).collect();
            self.shown.tell(self.clock.now(), true, said);
        }
        if self.written == self.unwritten.len() {
            self.written = 0;
            self.unwritten.clear();
        }
        self.unwritten.extend_from_slice(octets);
    }

    /// Writes and reads until something is read, or all is written where that is wanted.
    async fn exchange(&mut self, until: Until) -> Woken {
        let wait = self.session.deadline().map_or(WAIT_LONGEST, |at| self.clock.until(at));
        let deadline = Instant::now() + wait;
        let alarm = &mut self.alarm;
        if deadline < alarm.deadline() || alarm.is_elapsed() {
            alarm.as_mut().reset(deadline);
        }
        let Some(stream) = &mut self.stream else { return Woken::Broken };
        let (unwritten, written) = (&self.unwritten, &mut self.written);
        let scratch = &mut self.scratch;
        poll_fn(|cx| {
            let write = poll_write_all(stream, cx, unwritten, written);
            let mut buffer = ReadBuf::new(scratch);
            match stream.poll_read(cx, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                    Poll::Ready(Woken::Read(buffer.filled().len()))
                }
                Poll::Ready(_) => Poll::Ready(Woken::Broken),
                Poll::Pending => match write {
                    Poll::Ready(Ok(())) if until == Until::Written => Poll::Ready(Woken::Written),
                    Poll::Ready(Ok(())) | Poll::Pending => poll_alarm(alarm.as_mut(), cx, deadline),
                    // What the host had said before has been read.
                    Poll::Ready(Err(_)) => Poll::Ready(Woken::Broken),
                },
            }
        })
        .await
    }

    fn take(&mut self, woken: Woken) {
        let now = self.clock.now();
        match woken {
            Woken::Written => {}
            Woken::Read(count) => {
                let octets = self.scratch.get(..count).unwrap_or_default();
                self.dialogue.say(Side::Server, octets);
                if self.shown.is_tapped() {
                    let said = heard(&mut self.unheard, octets);
                    self.shown.tell(now, false, said);
                }
                if self.unread.is_empty() {
                    let used = self.session.handle(now, Input::Octets(octets));
                    self.unread.extend_from_slice(octets.get(used..).unwrap_or_default());
                } else {
                    self.unread.extend_from_slice(octets);
                    let used = self.session.handle(now, Input::Octets(&self.unread));
                    self.unread.drain(..used.min(self.unread.len()));
                }
            }
            Woken::Broken => {
                self.stream = None;
                self.session.handle(now, Input::Closed);
            }
            Woken::TimedOut => {
                self.session.handle(now, Input::Timeout);
                if self.session.deadline().is_none() {
                    self.stream = None;
                }
            }
        }
    }

    async fn start_tls(&mut self) {
        self.flush().await;
        let wait = self.session.deadline().map_or(WAIT_LONGEST, |at| self.clock.until(at));
        let Some(stream) = self.stream.take() else { return };
        let handshake = stream.handshake(&self.connector, &self.key.host);
        let done = timeout(wait, handshake).await;
        let now = self.clock.now();
        match done {
            Ok(Ok((stream, facts))) => {
                self.unread.clear();
                self.stream = Some(stream);
                self.tls = Some(facts.clone());
                self.session.handle(now, Input::TlsReady(facts));
            }
            Ok(Err(error)) if is_of_tls(&error) => {
                self.trouble = Some(Trouble::of(&error));
                self.session.handle(now, Input::TlsFailed(error.to_string()));
            }
            Ok(Err(_)) => {
                self.session.handle(now, Input::Closed);
            }
            // The clock may be a little behind the timer.
            Err(_) => {
                let deadline = self.session.deadline().map_or(now, |at| at.max(now));
                self.session.handle(deadline, Input::Timeout);
            }
        }
    }
}

/// The whole lines that the host has said; the rest waits for its end.
fn heard(unheard: &mut Vec<u8>, octets: &[u8]) -> Vec<String> {
    unheard.extend_from_slice(octets);
    let end = unheard.iter().rposition(|octet| *octet == b'\n').map_or(0, |at| at + 1);
    let whole: Vec<u8> = unheard.drain(..end).collect();
    if unheard.len() > READ_OCTETS {
        unheard.clear();
    }
    lines(&whole).map(|line| server_line(&line)).collect()
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Until {
    Octets,
    Written,
}

/// Whether the deadline has come; an alarm that rings before it is set to it.
fn poll_alarm(mut alarm: Pin<&mut Sleep>, cx: &mut Context<'_>, deadline: Instant) -> Poll<Woken> {
    while alarm.as_mut().poll(cx).is_ready() {
        if Instant::now() >= deadline {
            return Poll::Ready(Woken::TimedOut);
        }
        alarm.as_mut().reset(deadline);
    }
    Poll::Pending
}

fn poll_write_all(
    stream: &mut Stream,
    cx: &mut Context<'_>,
    octets: &[u8],
    written: &mut usize,
) -> Poll<io::Result<()>> {
    while let Some(rest) = octets.get(*written..).filter(|rest| !rest.is_empty()) {
        match stream.poll_write(cx, rest) {
            Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            Poll::Ready(Ok(count)) => *written += count,
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            Poll::Pending => return Poll::Pending,
        }
    }
    stream.poll_flush(cx)
}

/// How much is read at once.
const READ_OCTETS: usize = 4 << 10;
/// How much is written at once.
const WRITE_OCTETS: usize = 64 << 10;
/// Room for the dots of a message.
const STUFFED_OCTETS: usize = 512;
/// How much room an idle connection keeps.
const IDLE_OCTETS: usize = 16 << 10;
/// How long we take leave of a host.
const LEAVE_WAIT: Duration = Duration::from_secs(5);
/// A wait where the session has no deadline.
const WAIT_LONGEST: Duration = Duration::from_mins(10);
