//! One connection: carries octets between the socket and the session, and its questions to those
//! who answer them.
//!
//! Invariant: no octet is looked at here; while a message waits for the journal nothing is read.
//! Not pure: sockets and time.

mod provenance;
mod rewritten;
mod shown;
mod signing;

use std::{
    collections::BTreeSet,
    io,
    net::SocketAddr,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::{Buf, Bytes, BytesMut};
use merpati_console::{Summary, sessions::Direction};
use merpati_flow::{
    admit::{self, Answers, Room, Step},
    alias::{self, Tally},
    content::{self, Taking},
    rate,
};
use merpati_mail::{
    Domain, Envelope, Event, Overlay, Question, QueueId, Reply, ReversePath, Stage, Time, Verdict,
    event::Accepted, header, question::CredentialAnswer, stage::Decision,
};
use merpati_smtp::server::{Input, Output, Session, SessionEnd, Standing, Wants};
use merpati_spool::{Body, Group, SpoolError};
use tokio::{
    net::TcpStream,
    sync::watch,
    time::{Sleep, sleep},
};

use self::shown::Tapped;
use super::{
    Caller, Pass, Plan, Shared, Sink, Tls, arrival,
    body::{Collected, Collector, NotRepaired},
    stream::{Closing, Stream},
};
use crate::{
    auth::Place,
    committer::{Proposal, Refused},
    health::Life,
    pressure::Mail,
    sessions::{About, Doing, Session as Shown},
    sinks::SessionEnded,
    world::Ahead,
};

/// Serves a connection until it ends.
pub(super) async fn serve(
    mut socket: TcpStream,
    peer: SocketAddr,
    pass: &mut Pass,
    (plan, shared): (&Plan, &Shared),
) {
    // Replies are small and each is waited for.
    socket.set_nodelay(true).ok();
    let mut caller = Caller::direct(peer);
    if plan.lists.is_proxy(peer.ip()) {
        match arrival::client_of_proxy(&mut socket, peer).await {
            Ok(client) => caller = Caller { client, proxy: Some(peer) },
            Err(why) => return failed("proxy-header", caller, why, (plan, shared)),
        }
        if let Err(refused) = super::count(pass, caller.client, (plan, shared)) {
            return super::refuse(&socket, caller, refused, (plan, shared));
        }
    }
    let about = About {
        name: plan.options.listener.clone(),
        peer: Some(caller.client),
        ..About::default()
    };
    let began = shared.clock.now();
    let shown = shared.sessions.begin(began, Direction::In, Doing::Talks, about);
    let clear = Stream::Clear(socket);
    let (stream, tls) = match &plan.tls {
        Tls::Implicit(acceptor) => {
            shown.does(began, Doing::Handshakes);
            match clear.handshake(acceptor, plan.handshake_wait).await {
                Ok((stream, channel)) => (stream, Some(channel)),
                Err(error) => {
                    return failed("tls-handshake", caller, error.to_string(), (plan, shared));
                }
            }
        }
        Tls::Never | Tls::Starttls(_) => (clear, None),
    };
    shared.count_handshake(&stream);
    let standing = plan.lists.standing(caller.client.ip());
    let mut connection = Connection {
        plan,
        shared,
        peer: caller.client,
        proxy: caller.proxy,
        standing,
        stream: Some(stream),
        session: Session::new(began, plan.session_options(), caller.client, tls).standing(standing),
        buffer: BytesMut::new(),
        is_flooded: false,
        body: Collector::new(plan.policy.asks_for_lines(), shared.hashes(plan)),
        alarm: Box::pin(sleep(ALARM_LONGEST)),
        alarm_at: began + ALARM_LONGEST,
        life: shared.health.watch(),
        is_told_of_end: false,
        has_carried: false,
        answers: Answers::default(),
        ahead: None,
        listed: BTreeSet::new(),
        tally: Tally::default(),
        reason: None,
        shown,
        tapped: Tapped::default(),
    };
    let ended = connection.run().await;
    if ended == Ended::Panicked {
        connection.apologise().await;
    }
    connection.tell(began);
    let closing = connection.closing();
    if let Some(stream) = connection.stream.take() {
        stream.close(closing).await;
    }
}

/// Tells the log that no session came about.
fn failed(rule: &'static str, caller: Caller, why: String, served: (&Plan, &Shared)) {
    let mut summary = merpati_smtp::server::Summary::default();
    summary.refusals.insert(rule.into(), 1);
    super::tell(caller, summary, Some(why), served);
}

struct Connection<'a> {
    plan: &'a Plan,
    shared: &'a Shared,
    /// The client: who connected, for whom a proxy speaks, or whom XCLIENT introduced.
    peer: SocketAddr,
    /// The proxy that speaks for it; `None` where it speaks for itself.
    proxy: Option<SocketAddr>,
    standing: Standing,
    /// `None` only while a handshake goes on, and after one that failed.
    stream: Option<Stream>,
    session: Session,
    /// What was read and not consumed yet. It has no room while the client says nothing.
    buffer: BytesMut,
    /// Whether the last read took all that the buffer had room for.
    is_flooded: bool,
    body: Collector,
    /// Rings at or before the deadline of the session: moving it with each command would cost more
    /// than ringing too early now and then.
    alarm: Pin<Box<Sleep>>,
    alarm_at: Time,
    life: watch::Receiver<Life>,
    /// Whether the session knows that the relay ends. The state of `life` alone does not say so: it
    /// may have changed while a message was taken.
    is_told_of_end: bool,
    /// Whether content came since the last pause.
    has_carried: bool,
    /// What the world said of the client and of the command that is decided.
    answers: Answers,
    /// What is asked of the client since it came.
    ahead: Option<Ahead>,
    /// The DNS lists that have the client, or a sender of it.
    listed: BTreeSet<Arc<str>>,
    /// How many recipients the transaction has, with all that they stand for.
    tally: Tally,
    /// Why STARTTLS came to nothing; `None` where it did not.
    reason: Option<String>,
    /// What others see of it.
    shown: Shown,
    tapped: Tapped,
}

/// How a connection came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    /// By the session, or by the client.
    Closed,
    /// By a fault of ours.
    Panicked,
}

/// What ended the waiting.
#[derive(Debug)]
enum Woken {
    Alarm,
    Life,
    Ready(io::Result<()>),
}

/// What a turn of the loop came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    /// The session is over.
    Closed,
    /// The session waits for the client.
    Idle,
    /// An answer was given: there may be more to do.
    Moved,
}

impl Connection<'_> {
    async fn run(&mut self) -> Ended {
        let is_over = is_over(&self.life.borrow());
        if is_over && self.tell_of_end().is_none() {
            return Ended::Panicked;
        }
        loop {
            let buffer = std::mem::take(&mut self.buffer);
            self.tapped.begin(self.shown.is_tapped(), self.session.is_authenticating());
            let Some(consumed) = self.step(Input::Octets(&buffer)) else { return Ended::Panicked };
            let turn = self.carry_out(&buffer).await;
            if self.tapped.is_on {
                self.tap(buffer.get(..consumed).unwrap_or_default());
            }
            self.buffer = buffer;
            self.buffer.advance(consumed.min(self.buffer.len()));
            let is_idle = match turn {
                Some(Turn::Closed) => return Ended::Closed,
                Some(Turn::Moved) => false,
                Some(Turn::Idle) => consumed == 0 || self.buffer.is_empty(),
                None => return Ended::Panicked,
            };
            if is_idle && self.wait().await.is_none() {
                return Ended::Panicked;
            }
        }
    }

    /// Hands an input to the session; `None` where the session panicked.
    fn step(&mut self, input: Input<'_>) -> Option<usize> {
        let now = self.shared.clock.now();
        let session = &mut self.session;
        catch_unwind(AssertUnwindSafe(|| session.handle(now, input))).ok()
    }

    /// Carries out all outputs; `None` where the session panicked.
    async fn carry_out(&mut self, buffer: &[u8]) -> Option<Turn> {
        let mut turn = Turn::Idle;
        loop {
            let session = &mut self.session;
            let output = catch_unwind(AssertUnwindSafe(|| session.poll())).ok()?;
            let Some(output) = output else { return Some(turn) };
            match output {
                Output::Ask(stage) => {
                    self.meet();
                    self.show(&stage);
                    let verdict = self.decide(&stage).await;
                    self.step(Input::Verdict(verdict))?;
                    turn = Turn::Moved;
                }
                Output::Body(range) => {
                    self.has_carried = true;
                    if self.tapped.is_on {
                        self.tapped.contents.push(range.clone());
                    }
                    let octets = buffer.get(range).unwrap_or_default();
                    let announced = self.session.announced_bytes();
                    self.body.push(octets, announced, &self.shared.spool).await;
                }
                Output::BodyDropped => self.body.clear(),
                Output::BodyEnd(envelope) => {
                    self.shown.does(self.shared.clock.now(), Doing::Commits);
                    let taken = self.take(*envelope).await;
                    self.tell_whether_taken(taken)?;
                    turn = Turn::Moved;
                }
                Output::Close => return Some(Turn::Closed),
                Output::Question(question) => {
                    let answer = self.answer(question).await;
                    self.step(Input::Credential(answer))?;
                    turn = Turn::Moved;
                }
                Output::Send(octets) => {
                    if self.tapped.is_on {
                        self.tapped.said.extend_from_slice(&octets);
                    }
                    if !self.send(&octets).await {
                        self.step(Input::Closed)?;
                    }
                }
                Output::StartTls => {
                    self.shown.does(self.shared.clock.now(), Doing::Handshakes);
                    self.start_tls().await?;
                    turn = Turn::Idle;
                }
            }
        }
    }

    fn tell_whether_taken(&mut self, taken: Result<QueueId, NotTaken>) -> Option<()> {
        match taken {
            Ok(id) => {
                self.shown.took();
                self.step(Input::Committed(id)).map(drop)
            }
            Err((verdict, envelope)) => {
                self.step(Input::Verdict(verdict))?;
                if let Some(envelope) = envelope {
                    self.session.note_refused(&envelope);
                }
                Some(())
            }
        }
    }

    /// Waits for octets, for the deadline or for the end of the relay.
    async fn wait(&mut self) -> Option<()> {
        self.session.hurry(self.plan.gate.is_strained());
        let deadline = self.session.deadline();
        if let Some(deadline) = deadline.filter(|deadline| *deadline < self.alarm_at) {
            self.set_alarm(deadline);
        }
        let doing = match self.session.wants() {
            Wants::Content { .. } => Doing::Transfers,
            Wants::Answer | Wants::Commands | Wants::Nothing => Doing::Talks,
        };
        self.shown.does(self.shared.clock.now(), doing);
        self.slow_down().await;
        // What the session does not take now must not pile up here.
        let may_read = self.session.wants() != Wants::Answer || self.buffer.len() < READ_OCTETS;
        let Some(stream) = &mut self.stream else { return self.step(Input::Closed).map(drop) };
        let woken = tokio::select! {
            biased;
            // First, so that a client that never pauses does not keep us from ending.
            _ = self.life.wait_for(is_over), if !self.is_told_of_end => Woken::Life,
            ready = stream.readable(), if may_read => Woken::Ready(ready),
            () = &mut self.alarm => Woken::Alarm,
        };
        match woken {
            Woken::Alarm => {
                let now = self.shared.clock.now();
                if deadline.is_some_and(|deadline| deadline <= now) {
                    self.step(Input::Timeout)?;
                }
                let latest = now + ALARM_LONGEST;
                let next = deadline.map_or(latest, |deadline| deadline.min(latest));
                self.set_alarm(next.max(now + ALARM_SHORTEST));
                // Who has said nothing for so long may have no room for it either.
                if self.buffer.is_empty() {
                    self.buffer = BytesMut::new();
                }
            }
            Woken::Life => self.tell_of_end()?,
            Woken::Ready(Ok(())) => self.read().await?,
            // Whatever broke the connection: the client is gone.
            Woken::Ready(Err(_)) => {
                self.step(Input::Closed)?;
            }
        }
        Some(())
    }

    /// Reads what is there.
    async fn read(&mut self) -> Option<()> {
        let wanted = match self.session.wants() {
            Wants::Content { .. } if self.body.is_long() => LONG_READ_OCTETS,
            Wants::Content { .. } => READ_OCTETS,
            Wants::Commands | Wants::Answer | Wants::Nothing if self.is_flooded => READ_OCTETS,
            Wants::Commands | Wants::Answer | Wants::Nothing => COMMAND_OCTETS,
        };
        if self.buffer.capacity() - self.buffer.len() < wanted / 2 {
            self.buffer.reserve(wanted);
        }
        let Some(stream) = &mut self.stream else { return Some(()) };
        match stream.read(&mut self.buffer).await {
            Ok(1..) => self.is_flooded = self.buffer.len() == self.buffer.capacity(),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Ok(0) | Err(_) => {
                self.step(Input::Closed)?;
            }
        }
        Some(())
    }

    fn tell_of_end(&mut self) -> Option<()> {
        self.is_told_of_end = true;
        self.step(Input::Shutdown).map(drop)
    }

    fn set_alarm(&mut self, at: Time) {
        self.alarm_at = at;
        let wait = self.shared.clock.until(at);
        self.alarm.as_mut().reset(tokio::time::Instant::now() + wait);
    }

    /// Asks what must be known, until it is decided.
    async fn decide(&mut self, stage: &Stage) -> Verdict {
        let health = &self.shared.health;
        if let Stage::Mail { .. } = stage
            && health.room() == Room::Roomy
            && let Some(verdict) = health.levels().refuse_mail(self.mail())
        {
            return verdict;
        }
        if let Some(verdict) = self.spend(rate::spent_at(stage)) {
            return verdict;
        }
        let verdict = self.decide_by_policy(stage).await;
        match verdict.decision {
            Decision::Accept | Decision::AcceptLowered(_) => {}
            Decision::Disconnect(_) | Decision::Refuse(_) => return verdict,
        }
        let spent = self.spend(rate::spent_when_taken(stage));
        let refused =
            spent.or_else(|| self.tally.take(&self.plan.policy, stage, self.shared.clock.now()));
        refused.unwrap_or(verdict)
    }

    async fn decide_by_policy(&mut self, stage: &Stage) -> Verdict {
        let ahead = admit::ahead(&self.plan.policy, &self.facts(), stage);
        if let Some(ahead) = self.shared.world.ask_ahead(ahead) {
            self.ahead = Some(ahead);
        }
        self.answers.forget_transaction();
        self.look_ahead().await;
        loop {
            match admit::step(&self.plan.policy, &self.facts(), stage, &self.answers) {
                Step::Ask(questions) => {
                    let answers = self.shared.world.ask(questions).await;
                    self.answers.add(answers);
                }
                Step::Verdict(verdict) => {
                    let hits = admit::hits(&self.plan.policy, &self.facts(), &self.answers);
                    self.listed.extend(hits);
                    return verdict;
                }
            }
        }
    }

    /// Takes what was asked ahead, where it is there.
    async fn look_ahead(&mut self) {
        if let Some(ahead) = self.ahead.take_if(|ahead| ahead.is_finished()) {
            // A panic in it leaves the questions open.
            self.answers.add(ahead.await.unwrap_or_default());
        }
    }

    fn facts(&self) -> admit::Facts<'_> {
        admit::Facts {
            peer: self.peer.ip(),
            credential: self.session.credential(),
            room: self.shared.health.room(),
            reverse_path: self.session.reverse_path(),
            now: self.shared.clock.now(),
        }
    }

    /// The name of the client, as an introducer told it, or as far as it was asked for.
    fn name(&self) -> Option<Domain> {
        self.session.peer_name().or_else(|| self.answers.name_of(self.peer.ip())).cloned()
    }

    /// Takes note of another client, whom an introducer introduced: what is known of the last one
    /// says nothing of this one.
    fn meet(&mut self) {
        let client = self.session.peer();
        if client != self.peer {
            (self.peer, self.answers, self.ahead) = (client, Answers::default(), None);
            self.listed.clear();
        }
    }

    /// Counts what a stranger does; a refusal where he has done it too often.
    fn spend(&self, spent: &[rate::Counted]) -> Option<Verdict> {
        if self.standing == Standing::Known || self.session.credential().is_some() {
            return None;
        }
        let (now, address) = (self.shared.clock.now(), self.peer.ip());
        let is_refused = |counted: &&rate::Counted| !self.plan.gate.take(now, address, **counted);
        spent.iter().find(is_refused).map(|counted| rate::refusal(*counted))
    }

    /// What becomes of the mail that comes in here.
    const fn mail(&self) -> Mail {
        match self.plan.sink {
            Sink::Capture | Sink::Discard => Mail::Captured,
            Sink::Queue => Mail::Queued,
        }
    }

    /// Lets the client wait where the relay is strained: what is not read stays with him, and he
    /// slows down. Content that came with its commands counts as well.
    async fn slow_down(&mut self) {
        let is_content = matches!(self.session.wants(), Wants::Content { .. });
        let has_carried = std::mem::take(&mut self.has_carried);
        if !is_content && !has_carried {
            return;
        }
        if let Some(pause) = self.shared.health.levels().pause(self.mail()) {
            sleep(pause).await;
        }
    }

    async fn answer(&self, question: Question) -> CredentialAnswer {
        match question {
            Question::Credential(claim) => {
                let address = self.peer.ip();
                let is_responsible = self.plan.policy.is_responsible(address);
                let now = self.shared.clock.now();
                let from = Place { address, is_responsible };
                let answer = self.shared.authenticator.answer(now, claim, from).await;
                self.shared.sinks.metrics().authenticated(&answer);
                answer
            }
            // A server session asks for nothing else.
            Question::Greylist(_)
            | Question::HostName(_)
            | Question::Listed { .. }
            | Question::MailDomain(_)
            | Question::Mx(_)
            | Question::Recipient(_) => CredentialAnswer::Unavailable,
        }
    }

    async fn send(&mut self, octets: &[u8]) -> bool {
        match &mut self.stream {
            Some(stream) => stream.send(octets, self.plan.write_wait).await.is_ok(),
            None => false,
        }
    }

    async fn start_tls(&mut self) -> Option<()> {
        let (Tls::Starttls(acceptor), Some(stream)) = (&self.plan.tls, self.stream.take()) else {
            return self.step(Input::Closed).map(drop);
        };
        match stream.handshake(acceptor, self.plan.handshake_wait).await {
            Ok((stream, channel)) => {
                self.shared.count_handshake(&stream);
                self.stream = Some(stream);
                self.step(Input::TlsReady(channel)).map(drop)
            }
            Err(error) => {
                self.reason = Some(error.to_string());
                self.shared.sinks.metrics().refused("tls-handshake", 1);
                self.step(Input::Closed).map(drop)
            }
        }
    }

    /// Takes a whole message: ours and durable, or refused; then with its envelope, where that
    /// still is in one piece.
    async fn take(&mut self, mut envelope: Envelope) -> Result<QueueId, NotTaken> {
        self.look_ahead().await;
        if let Some(peer) = &mut envelope.origin.peer {
            peer.name = peer.name.take().or_else(|| self.name());
        }
        let at = self.shared.clock.now();
        let looked = match self.collect().await {
            Ok(collected) => {
                let rewritten = alias::rewritten(&self.plan.policy, &envelope, at);
                rewritten.map(|rewritten| (collected, rewritten))
            }
            Err(verdict) => Err(verdict),
        };
        let (mut collected, rewritten) = match looked {
            Ok(looked) => looked,
            Err(verdict) => return Err((verdict, Some(Box::new(envelope)))),
        };
        collected.looked = self.provenance(at, &envelope, &collected).await;
        if let Some(rewritten) = rewritten {
            let taken = self.take_rewritten(at, (envelope, rewritten), collected).await;
            return taken.map_err(|verdict| (verdict, None));
        }
        let Collected { id, size_bytes, .. } = collected;
        let edits = match self.edits((id, at), &envelope, None, &collected) {
            Ok(edits) => edits,
            Err(verdict) => return Err((verdict, Some(Box::new(envelope)))),
        };
        let accepted = Accepted { id, envelope, edits, size_bytes };
        let taken = match self.plan.sink {
            Sink::Capture | Sink::Discard => self.capture(at, accepted, collected).await,
            Sink::Queue => self.queue(at, accepted, collected).await,
        };
        taken.map(|()| id).map_err(|verdict| (verdict, None))
    }

    /// The content as it is taken, or why it is not.
    async fn collect(&mut self) -> Result<Collected, Verdict> {
        let spool = &self.shared.spool;
        let collected = self.body.finish(spool).await.map_err(|error| refused_by(&error))?;
        let policy = &self.plan.policy;
        let asks_for_repair = policy.asks_for_repair(&collected.head, collected.longest_line);
        let collected = if asks_for_repair {
            collected.repaired(spool, &self.shared.repairs).await.map_err(not_repaired)?
        } else {
            collected
        };
        Ok(collected)
    }

    /// A message as it is accepted, or why it is not; `original` where the client handed it over
    /// by another name and from somebody else.
    fn accepted(
        &self,
        (id, at): (QueueId, Time),
        envelope: Envelope,
        original: Option<(QueueId, &ReversePath)>,
        collected: &Collected,
    ) -> Result<Accepted, Verdict> {
        let edits = self.edits((id, at), &envelope, original, collected)?;
        Ok(Accepted { id, envelope, edits, size_bytes: collected.size_bytes })
    }

    /// What is changed in the header, or why the message is refused.
    fn edits(
        &self,
        (id, at): (QueueId, Time),
        envelope: &Envelope,
        original: Option<(QueueId, &ReversePath)>,
        collected: &Collected,
    ) -> Result<Overlay, Verdict> {
        let taking = Taking {
            policy: &self.plan.policy,
            hostname: &self.shared.hostname,
            envelope,
            id,
            original: original.unwrap_or((id, &envelope.reverse_path)),
            at,
            longest_line_octets: collected.longest_line,
            provenance: collected.looked.as_ref().map(|looked| &looked.provenance),
        };
        let head = admit::Head::of(&collected.head, collected.size_bytes);
        let mut edits = content::decide(&taking, &head)?;
        self.sign(at, &mut edits, collected)?;
        Ok(edits)
    }

    /// Hands a message over to the queue: durable, or refused.
    async fn queue(
        &self,
        at: Time,
        accepted: Accepted,
        collected: Collected,
    ) -> Result<(), Verdict> {
        let id = accepted.id;
        let message_id = message_id(&accepted.edits, &collected.head);
        self.keep_fresh(Instant::now(), &accepted, &collected.body, &collected.head);
        let group = Group::with_body(at, Event::Accepted(Box::new(accepted)), collected.body);
        let committer = &self.shared.committer;
        committer.commit(Proposal { group, summary: None, message_id }).await.map_err(|why| {
            self.shared.fresh.forget(id);
            refused(why)
        })
    }

    /// Keeps a small message in memory. Before the commit: the core may want it before we know of
    /// it. What is to wait would only keep others out.
    fn keep_fresh(&self, now: Instant, accepted: &Accepted, body: &Body, head: &Bytes) {
        let waits = accepted.envelope.requests.release_at.is_some();
        match body {
            Body::Bytes(_) | Body::None if !waits => {
                self.shared.fresh.keep(now, accepted.clone(), head.clone());
            }
            Body::Bytes(_) | Body::File(_) | Body::None | Body::Same => {}
        }
    }

    /// Puts a message into the sandbox: durable, or refused.
    async fn capture(
        &self,
        at: Time,
        accepted: Accepted,
        collected: Collected,
    ) -> Result<(), Verdict> {
        let Collected { id, head, size_bytes, body, .. } = collected;
        let is_kept = self.plan.sink == Sink::Capture;
        let summary = is_kept.then(|| summary(id, &accepted.envelope, &head, size_bytes));
        let message_id = message_id(&accepted.edits, &head);
        let group = Group::with_body(at, Event::Captured(Box::new(accepted)), body);
        let committer = &self.shared.committer;
        committer.commit(Proposal { group, summary, message_id }).await.map_err(refused)?;
        if !is_kept {
            // Where it cannot be taken, the journal failed, and the session learns it next time.
            committer.commit_lazily(Group::of(at, Event::Retired(id))).ok();
        }
        Ok(())
    }

    /// Says 421 where the session cannot say anything any more.
    async fn apologise(&mut self) {
        tracing::error!(peer = %self.peer, "a session panicked and was ended");
        self.shared.sinks.metrics().panicked();
        let mut octets = Vec::new();
        Reply::new(421, (4, 3, 0), "a fault of ours ends this session").write(&mut octets);
        self.send(&octets).await;
    }

    /// How to close the connection.
    fn closing(&self) -> Closing {
        match self.session.summary().end {
            Some(SessionEnd::Refused | SessionEnd::Timeout) if !self.plan.gate.is_strained() => {
                Closing::Heard
            }
            Some(_) | None => Closing::AtOnce,
        }
    }

    fn tell(&mut self, began: Time) {
        let at = self.shared.clock.now();
        self.shared.sinks.session(SessionEnded {
            at,
            lasted: at.since(began),
            listener: self.plan.options.listener.clone(),
            peer: self.peer,
            proxy: self.proxy,
            tls: self.session.tls().cloned(),
            credential: self.session.credential().map(str::to_owned),
            name: self.name(),
            listed: self.listed.clone(),
            reason: self.reason.take(),
            summary: self.session.summary().clone(),
        });
    }
}

/// Why a message was not taken, and its envelope.
type NotTaken = (Verdict, Option<Box<Envelope>>);

fn is_over(life: &Life) -> bool {
    matches!(life, Life::Draining | Life::Failed(_))
}

/// What lists show; of a large content only the beginning was looked at.
fn summary(id: QueueId, envelope: &Envelope, head: &Bytes, size_bytes: u64) -> Summary {
    Summary { size_bytes, ..Summary::of(id, envelope, head) }
}

/// The `Message-ID` without its brackets, ours where we added one; `None` where there is none.
fn message_id(edits: &Overlay, head: &[u8]) -> Option<Box<str>> {
    let field = |octets| header::first(octets, "Message-ID");
    let text = field(&edits.prepend).or_else(|| field(head))?.unfolded();
    let id = text.trim().trim_matches(['<', '>']);
    let is_short = !id.is_empty() && id.len() <= MESSAGE_ID_OCTETS_MAX;
    is_short.then(|| id.into())
}

fn refused_by(error: &SpoolError) -> Verdict {
    tracing::warn!(%error, "a content could not be kept");
    refused(match error {
        SpoolError::Full { .. } => Refused::Full,
        SpoolError::TooLarge { .. } => Refused::TooLarge,
        SpoolError::Corrupt { .. }
        | SpoolError::Io { .. }
        | SpoolError::Locked { .. }
        | SpoolError::Missing(_)
        | SpoolError::Poisoned
        | SpoolError::Version { .. } => Refused::Poisoned,
    })
}

fn not_repaired(why: NotRepaired) -> Verdict {
    match why {
        NotRepaired::Refused(verdict) => verdict,
        NotRepaired::Spool(error) => refused_by(&error),
    }
}

fn refused(refused: Refused) -> Verdict {
    match refused {
        Refused::Full => {
            let text = "not enough storage now, try again later";
            Verdict::refuse("spool-full", Reply::new(452, (4, 3, 1), text))
        }
        Refused::Poisoned => Verdict::refuse("storage-trouble", admit::storage_trouble()),
        Refused::TooLarge => {
            let text = "the message is larger than the spool can hold";
            Verdict::refuse("message-size", Reply::new(552, (5, 3, 4), text))
        }
    }
}

/// Octets of the longest `Message-ID` that is told.
const MESSAGE_ID_OCTETS_MAX: usize = 998;
/// Room for what is read at once of commands,
const COMMAND_OCTETS: usize = 2 << 10;
/// of content, small messages whole, and of commands where many come together,
const READ_OCTETS: usize = 16 << 10;
/// and of a content that is not small.
const LONG_READ_OCTETS: usize = 64 << 10;
/// How long an alarm waits at most: after it, a client that is silent has no buffer any more, and
/// is asked for its place where others need it.
const ALARM_LONGEST: Duration = Duration::from_secs(15);
/// How long an alarm waits at least, so that it cannot spin.
const ALARM_SHORTEST: Duration = Duration::from_millis(10);
