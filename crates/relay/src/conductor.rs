//! The thread that owns the queue: tells the core what happened and carries out what it wants.
//!
//! Invariant: only this thread touches the core; what the core decides goes to the committer in the
//! order of its decisions, and comes back as committed before the core applies it. A panic here
//! ends the process: what is durable is then known, and nothing else. Not pure: one thread, and
//! tasks of the runtime that ask, read and deliver for it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    ops::ControlFlow,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use bytes::Bytes;
use merpati_flow::{
    Core, Finding, Input, Job, JobId, Loaded, Options as CoreOptions, Output, Report, Token,
    outcome::Terms,
};
use merpati_mail::{
    Answer, DeliveryId, Event, Hold, Outcome, Question, QueueId, Record, Time,
    event::Accepted,
    outcome::{Fact, Finding as Found, Phase},
};
use merpati_spool::{Body, Entry, Group, Handle, SpoolError, StoredBody};
use tokio::{runtime, sync::oneshot, task::spawn_blocking};

use crate::{
    admin,
    clock::Clock,
    committer::{Committer, Refused},
    deliver::{Content, Deliverer},
    fresh::Fresh,
    resolve::Resolver,
    sinks::Sinks,
};

/// The way to the queue, for all threads.
#[derive(Clone, Debug)]
pub struct Conductor {
    inbox: Arc<Inbox>,
}

/// What an operator may do with deliveries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Give them up; nobody is told.
    Cancel,
    /// Let them wait until they are released, or as long as this says.
    Hold(Hold),
    /// Let those that are held go, at once.
    Release,
    /// Lead them by the rule of this name; `None`: by the first that matches.
    Reroute(Option<Arc<str>>),
    /// Try those that wait at once; what is held stays held.
    Retry,
}

/// What the core needs of the rest of the relay.
pub struct Hands {
    /// The time.
    pub clock: Arc<Clock>,
    /// The way to the journal.
    pub committer: Committer,
    /// Contents that are not in memory.
    pub spool: Handle,
    /// Contents that are.
    pub fresh: Arc<Fresh>,
    /// Who answers questions.
    pub resolver: Resolver,
    /// Who carries out attempts.
    pub deliverer: Deliverer,
    /// Where the queue is measured.
    pub sinks: Sinks,
    /// Where they do so.
    pub runtime: runtime::Handle,
}

impl fmt::Debug for Hands {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hands").finish_non_exhaustive()
    }
}

/// Makes the core, on the thread that will own it, and takes what becomes durable meanwhile out of
/// the inbox; `None` where there will be none.
pub type Begin = Box<dyn FnOnce(&Inbox) -> Option<Core> + Send>;

/// What waits for the thread.
#[derive(Default)]
pub struct Inbox {
    waiting: Mutex<Waiting>,
    work: Condvar,
    jobs: AtomicUsize,
}

impl fmt::Debug for Inbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inbox").field("jobs", &self.jobs).finish_non_exhaustive()
    }
}

#[derive(Default)]
struct Waiting {
    told: Vec<Told>,
    /// Who waits to see that the thread goes on.
    beats: Vec<oneshot::Sender<()>>,
    is_ended: bool,
    /// Whether the thread waits for something. A condition variable costs a system call for each
    /// telling, heard or not.
    is_asleep: bool,
}

/// What the thread is told.
enum Told {
    Answered(Question, Answer),
    /// The messages that are to be written anew, read.
    CarryRead(Vec<Accepted>),
    CarryWanted(Vec<QueueId>),
    Committed(Vec<Token>),
    Drain,
    Durable(Vec<Arc<Record>>),
    Finished(JobId, Box<Report>),
    Loaded(JobId, Option<(Arc<Loaded>, Content)>),
    Look(Box<dyn FnOnce(&Core) + Send>),
    Operate(Vec<DeliveryId>, Verb, oneshot::Sender<u64>),
    Reconfigure(Box<Means>),
}

/// How the queue is decided and emptied from now on.
pub struct Means {
    /// How the core decides.
    pub options: CoreOptions,
    /// Who answers questions.
    pub resolver: Resolver,
    /// Who carries out attempts.
    pub deliverer: Deliverer,
}

impl fmt::Debug for Means {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Means").finish_non_exhaustive()
    }
}

impl Inbox {
    /// These groups of the core are in the journal, durable where they must be.
    pub(crate) fn committed(&self, tokens: Vec<Token>) {
        self.push(Told::Committed(tokens));
    }

    /// Others took these messages, durably.
    pub(crate) fn durable(&self, records: Vec<Arc<Record>>) {
        self.push(Told::Durable(records));
    }

    /// The spool wants the state of these messages written anew.
    pub(crate) fn carry_wanted(&self, ids: Vec<QueueId>) {
        self.push(Told::CarryWanted(ids));
    }

    /// What became durable, taken out; all else stays. Breaks where nothing is to begin any more.
    pub(crate) fn take_durable(&self) -> ControlFlow<(), Vec<Arc<Record>>> {
        let mut waiting = self.lock();
        if waiting.is_ended || waiting.told.iter().any(|told| matches!(told, Told::Drain)) {
            return ControlFlow::Break(());
        }
        waiting.beat();
        let mut durable = Vec::new();
        for told in waiting.told.extract_if(.., |told| matches!(told, Told::Durable(_))) {
            if let Told::Durable(records) = told {
                durable.extend(records);
            }
        }
        ControlFlow::Continue(durable)
    }

    /// No attempt is to begin any more.
    pub(crate) fn drain(&self) {
        self.push(Told::Drain);
    }

    /// Takes nothing any more; the thread is to end.
    pub(crate) fn end(&self) {
        let mut waiting = self.lock();
        waiting.is_ended = true;
        // Nobody waits for a thread that is about to end.
        waiting.beats.clear();
        drop(waiting);
        self.work.notify_one();
    }

    /// Resolves when the thread has come round to its inbox, also while it still reads the spool;
    /// false where it has ended.
    pub(crate) async fn beat(&self) -> bool {
        let (sender, beat) = oneshot::channel();
        self.wait_for_beat(sender);
        beat.await.is_ok()
    }

    fn wait_for_beat(&self, sender: oneshot::Sender<()>) {
        let mut waiting = self.lock();
        if waiting.is_ended {
            return;
        }
        waiting.beats.push(sender);
        let is_asleep = std::mem::take(&mut waiting.is_asleep);
        drop(waiting);
        if is_asleep {
            self.work.notify_one();
        }
    }

    fn push(&self, told: Told) {
        let mut waiting = self.lock();
        if waiting.is_ended {
            return;
        }
        waiting.told.push(told);
        let is_asleep = std::mem::take(&mut waiting.is_asleep);
        drop(waiting);
        if is_asleep {
            self.work.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    fn beat(&mut self) {
        for beat in std::mem::take(&mut self.beats) {
            beat.send(()).ok();
        }
    }
}

impl Conductor {
    /// Starts the thread, which first makes its core; `inbox` is what the committer tells.
    pub fn start(
        begin: Begin,
        inbox: Arc<Inbox>,
        hands: Hands,
    ) -> std::io::Result<(Self, JoinHandle<()>)> {
        let conductor = Self { inbox: Arc::clone(&inbox) };
        let handle = std::thread::Builder::new().name("conductor".to_owned()).spawn(move || {
            let guard = EndsProcess;
            match begin(&inbox) {
                Some(core) => Thread::new(core, inbox, hands).run(),
                // What is told from now on, nobody takes.
                None => inbox.end(),
            }
            std::mem::forget(guard);
        })?;
        Ok((conductor, handle))
    }

    /// Looks at the core on its thread; `None` where it has ended.
    pub async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Core) -> T + Send + 'static,
    ) -> Option<T> {
        let (sender, seen) = oneshot::channel();
        self.inbox.push(Told::Look(Box::new(move |core| {
            sender.send(look(core)).ok();
        })));
        seen.await.ok()
    }

    /// Carries out a verb for these deliveries; resolves when it is durable. Gives how many living
    /// deliveries it concerned.
    pub async fn operate(&self, deliveries: Vec<DeliveryId>, verb: Verb) -> Result<u64, Refused> {
        let (sender, done) = oneshot::channel();
        self.inbox.push(Told::Operate(deliveries, verb, sender));
        done.await.map_err(|_| Refused::Poisoned)
    }

    /// Goes on by these means; attempts that go on end by those with which they began.
    pub fn reconfigure(&self, means: Means) {
        self.inbox.push(Told::Reconfigure(Box::new(means)));
    }

    /// Begins no attempt any more.
    pub fn drain(&self) {
        self.inbox.drain();
    }

    /// Resolves when the thread has come round to its inbox; false where it has ended.
    pub async fn beat(&self) -> bool {
        self.inbox.beat().await
    }

    /// How many attempts go on.
    pub fn jobs(&self) -> usize {
        self.inbox.jobs.load(Ordering::Acquire)
    }

    /// Ends the thread. What was told before is still taken in.
    pub fn end(&self) {
        self.inbox.end();
    }
}

struct Thread {
    core: Core,
    hands: Hands,
    inbox: Arc<Inbox>,
    /// The contents of messages that are read and whose attempt has not begun.
    contents: BTreeMap<JobId, Content>,
    operations: Vec<Operation>,
    /// Whether messages are being read that are to be written anew.
    is_carrying: bool,
    /// When old contents are forgotten; `None` where none are kept.
    forget_at: Option<Instant>,
}

/// A verb of an operator on its way into the journal.
struct Operation {
    tokens: BTreeSet<Token>,
    count: u64,
    done: Option<oneshot::Sender<u64>>,
}

impl Thread {
    const fn new(core: Core, inbox: Arc<Inbox>, hands: Hands) -> Self {
        Self {
            core,
            hands,
            inbox,
            contents: BTreeMap::new(),
            operations: Vec::new(),
            is_carrying: false,
            forget_at: None,
        }
    }

    fn run(&mut self) {
        // What was told meanwhile may be that nothing is to begin.
        let waiting = std::mem::take(&mut self.inbox.lock().told);
        for told in waiting {
            self.take(told);
        }
        self.carry_out(None);
        let mut pace = None;
        while let Some(batch) = self.next(pace) {
            pace = (batch.len() >= BUSY_BATCH).then(|| Instant::now() + PACE);
            for told in batch {
                self.take(told);
            }
            self.carry_out(None);
            self.forget_old();
        }
    }

    /// Keeps contents in memory no longer than they are likely to be sent from there.
    fn forget_old(&mut self) {
        let now = Instant::now();
        if self.forget_at.is_none_or(|at| at <= now) {
            self.forget_at = self.hands.fresh.forget_old(now).then(|| now + FORGET_EVERY);
        }
    }

    /// What was told, or nothing where the core has something to do by itself; `None` at the end.
    ///
    /// Under load there is a `pace`: before it the thread sleeps and is not woken, so that who
    /// tells it something need not wake it, and it takes in more at once.
    fn next(&self, pace: Option<Instant>) -> Option<Vec<Told>> {
        let deadline = self.core.deadline();
        let mut waiting = self.inbox.lock();
        if let Some(pace) = pace {
            let wait = pace.saturating_duration_since(Instant::now());
            let in_time = |waiting: &mut Waiting| !waiting.is_ended;
            let paced = self.inbox.work.wait_timeout_while(waiting, wait, in_time);
            waiting = paced.unwrap_or_else(PoisonError::into_inner).0;
        }
        if waiting.told.is_empty() && waiting.beats.is_empty() && !waiting.is_ended {
            let idle = self.forget_at.map_or(IDLE_WAIT, |_| FORGET_EVERY);
            let wait = deadline.map_or(idle, |at| self.hands.clock.until(at).min(idle));
            waiting.is_asleep = true;
            let woken = self.inbox.work.wait_timeout(waiting, wait);
            waiting = woken.unwrap_or_else(PoisonError::into_inner).0;
            waiting.is_asleep = false;
        }
        waiting.beat();
        if waiting.told.is_empty() && waiting.is_ended {
            return None;
        }
        Some(std::mem::take(&mut waiting.told))
    }

    fn take(&mut self, told: Told) {
        let now = self.hands.clock.now();
        match told {
            Told::Answered(question, answer) => {
                self.core.handle(now, Input::Answered(question, answer));
            }
            Told::CarryRead(messages) => self.carry(now, &messages),
            Told::CarryWanted(ids) => self.read_to_carry(ids),
            Told::Committed(tokens) => self.committed(now, tokens),
            Told::Drain => self.core.drain(),
            Told::Durable(records) => {
                for record in records {
                    self.core.durable(record.at, &record.event);
                }
            }
            Told::Finished(job, report) => self.core.handle(now, Input::Finished(job, report)),
            Told::Loaded(job, loaded) => {
                let loaded = loaded.map(|(loaded, content)| {
                    self.contents.insert(job, content);
                    loaded
                });
                self.core.handle(now, Input::Loaded(job, loaded));
            }
            Told::Look(look) => look(&self.core),
            Told::Operate(deliveries, verb, done) => self.operate(now, &deliveries, &verb, done),
            Told::Reconfigure(means) => self.reconfigure(*means),
        }
    }

    fn reconfigure(&mut self, means: Means) {
        // What was decided before needs the routes of before.
        self.carry_out(None);
        let Means { options, resolver, deliverer } = means;
        self.core.reconfigure(options);
        (self.hands.resolver, self.hands.deliverer) = (resolver, deliverer);
    }

    fn committed(&mut self, now: Time, tokens: Vec<Token>) {
        for token in tokens {
            self.core.handle(now, Input::Committed(token));
            for operation in &mut self.operations {
                operation.tokens.remove(&token);
            }
        }
        self.operations.retain_mut(Operation::is_open);
    }

    fn operate(
        &mut self,
        now: Time,
        deliveries: &[DeliveryId],
        verb: &Verb,
        done: oneshot::Sender<u64>,
    ) {
        // What was decided before is not part of it.
        self.carry_out(None);
        let mut count = 0;
        for &delivery in deliveries {
            let Some(view) = self.core.queue().view_of(delivery) else { continue };
            let is_held = view.class == merpati_mail::Class::Held;
            let input = match verb {
                Verb::Cancel => Input::Cancel(delivery),
                Verb::Hold(hold) => Input::Hold(delivery, Box::new(hold.clone())),
                Verb::Reroute(_) if view.is_taken => continue,
                Verb::Reroute(rule) => Input::Reroute(delivery, rule.clone()),
                Verb::Release if is_held => Input::Release(delivery),
                Verb::Retry if !is_held => Input::Release(delivery),
                Verb::Release | Verb::Retry => continue,
            };
            count += 1;
            self.core.handle(now, input);
        }
        let mut operation = Operation { tokens: BTreeSet::new(), count, done: Some(done) };
        self.carry_out(Some(&mut operation.tokens));
        if operation.is_open() {
            self.operations.push(operation);
        }
    }

    /// Does what the core wants done now, and notes the groups that it proposes.
    fn carry_out(&mut self, mut proposed: Option<&mut BTreeSet<Token>>) {
        let mut groups = Vec::new();
        let mut attempts = Vec::new();
        let now = self.hands.clock.now();
        while let Some(output) = self.core.poll(now) {
            match output {
                Output::Ask(question) => self.ask(question),
                Output::Attempt(job) => attempts.extend(self.promise(job)),
                Output::Commit(token, group) => {
                    self.forget(&group);
                    groups.push((token, on_disk(group)));
                    if let Some(proposed) = &mut proposed {
                        proposed.insert(token);
                    }
                }
                Output::Load(job, id) => self.load(now, job, id),
            }
        }
        self.begin(attempts);
        self.hands.committer.propose(groups);
        if self.contents.len() > self.core.jobs() {
            // Attempts that ended before a host was asked.
            self.contents.retain(|job, _| self.core.runs(*job));
        }
        self.hands.sinks.metrics().queue(self.core.queue().len(), self.core.jobs());
        self.inbox.jobs.store(self.core.jobs(), Ordering::Release);
    }

    fn ask(&self, question: Question) {
        let Question::Mx(domain) = question else { return };
        let (resolver, inbox) = (self.hands.resolver.clone(), Arc::clone(&self.inbox));
        self.hands.runtime.spawn(async move {
            let answer = Answer::Mx(resolver.mx(&domain).await);
            inbox.push(Told::Answered(Question::Mx(domain), answer));
        });
    }

    fn load(&mut self, now: Time, job: JobId, id: QueueId) {
        if let Some(loaded) = self.hands.fresh.get(id) {
            self.contents.insert(job, Content::Bytes(loaded.header.clone()));
            self.core.handle(now, Input::Loaded(job, Some(loaded)));
            return;
        }
        let (spool, inbox) = (self.hands.spool.clone(), Arc::clone(&self.inbox));
        self.hands.runtime.spawn(async move {
            let read = spawn_blocking(move || read(&spool, id)).await;
            let loaded = match read {
                Ok(Ok((loaded, content))) => Some((Arc::new(loaded), content)),
                Ok(Err(error)) => {
                    tracing::error!(%id, %error, "a message cannot be read; it stays in the queue");
                    None
                }
                Err(error) => {
                    tracing::error!(%id, %error, "reading a message came to nothing");
                    None
                }
            };
            inbox.push(Told::Loaded(job, loaded));
        });
    }

    /// What an attempt needs; `None` where its content is gone, which the core is told.
    fn promise(&mut self, job: Job) -> Option<(Job, Content, Promise)> {
        let id = job.id;
        let Some(content) = self.contents.remove(&id) else {
            self.inbox.push(Told::Loaded(id, None));
            return None;
        };
        let promise = Promise {
            inbox: Arc::clone(&self.inbox),
            id,
            recipients: job.recipients.iter().map(|(place, _)| *place).collect(),
            began: self.hands.clock.now(),
            is_kept: false,
        };
        Some((job, content, promise))
    }

    /// Begins attempts: one task begins them all, for waking the runtime from here costs a system
    /// call.
    fn begin(&self, attempts: Vec<(Job, Content, Promise)>) {
        if attempts.is_empty() {
            return;
        }
        let deliverer = self.hands.deliverer.clone();
        self.hands.runtime.spawn(async move {
            for (job, content, promise) in attempts {
                let deliverer = deliverer.clone();
                tokio::spawn(async move {
                    let report = deliverer.attempt(job, content).await;
                    promise.keep(report);
                });
            }
        });
    }

    /// Keeps in memory only what is on its way.
    fn forget(&self, group: &merpati_flow::Group) {
        for (event, _) in &group.events {
            match event {
                Event::Retired(id) => self.hands.fresh.forget(*id),
                Event::Attempted(attempted) => {
                    let waits = |(_, o): &(u32, Outcome)| matches!(o, Outcome::Deferred { .. });
                    if attempted.outcomes.iter().any(waits) {
                        self.hands.fresh.forget(attempted.message);
                    }
                }
                Event::Accepted(_)
                | Event::Cancelled(_)
                | Event::Captured(_)
                | Event::Carried(_)
                | Event::ConfigChanged { .. }
                | Event::Delayed { .. }
                | Event::Expired { .. }
                | Event::Held { .. }
                | Event::Released { .. }
                | Event::Rerouted { .. } => {}
            }
        }
    }

    /// Reads messages whose state is to be written anew, beside this thread. What is asked for
    /// meanwhile is asked for again.
    fn read_to_carry(&mut self, ids: Vec<QueueId>) {
        if std::mem::replace(&mut self.is_carrying, true) {
            return;
        }
        let (spool, inbox) = (self.hands.spool.clone(), Arc::clone(&self.inbox));
        self.hands.runtime.spawn(async move {
            let read = spawn_blocking(move || {
                ids.into_iter().filter_map(|id| accepted(&spool, id)).collect()
            });
            inbox.push(Told::CarryRead(read.await.unwrap_or_default()));
        });
    }

    /// Writes the state of these messages anew. One about which something is under way is asked for
    /// again.
    fn carry(&mut self, now: Time, messages: &[Accepted]) {
        self.is_carrying = false;
        for accepted in messages {
            if let Some(carried) = self.core.carry(accepted) {
                let event = Event::Carried(Box::new(carried));
                self.hands.committer.carry(Group::with_body(now, event, Body::Same));
            }
        }
    }
}

/// A message that is to be written anew; `None` where it has ended meanwhile, or cannot be read.
/// Blocks for the disk.
fn accepted(spool: &Handle, id: QueueId) -> Option<Accepted> {
    match spool.read(id) {
        Ok(stored) => Some(stored.accepted),
        Err(SpoolError::Missing(_)) => None,
        Err(error) => {
            tracing::error!(%id, %error, "a message cannot be read to carry it forward");
            None
        }
    }
}

/// A report that will be told, also where the attempt panics.
struct Promise {
    inbox: Arc<Inbox>,
    id: JobId,
    recipients: Vec<u32>,
    began: Time,
    is_kept: bool,
}

impl Promise {
    fn keep(mut self, report: Report) {
        self.is_kept = true;
        self.inbox.push(Told::Finished(self.id, Box::new(report)));
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        if self.is_kept {
            return;
        }
        let fact = Fact::Unreachable("a fault of ours ended the attempt".to_owned());
        let found = Found { phase: Phase::Resolve, fact };
        let finding = |place: &u32| (*place, Finding::NotDelivered(found.clone()), None);
        let findings = self.recipients.iter().map(finding).collect();
        let terms = Terms::default();
        let report = Report { began: self.began, terms, tried: Vec::new(), findings };
        self.inbox.push(Told::Finished(self.id, Box::new(report)));
    }
}

impl Operation {
    /// Tells the operator when all is durable; false then.
    fn is_open(&mut self) -> bool {
        if !self.tokens.is_empty() {
            return true;
        }
        if let Some(done) = self.done.take() {
            // An operator who is gone need not know.
            done.send(self.count).ok();
        }
        false
    }
}

/// A message with its content. Blocks for the disk.
fn read(spool: &Handle, id: QueueId) -> Result<(Loaded, Content), SpoolError> {
    let stored = spool.read(id)?;
    let header = admin::content(&stored.body, HEADER_OCTETS)?;
    let content = match stored.body {
        StoredBody::Bytes(bytes) => Content::Bytes(bytes),
        StoredBody::File(file) => Content::File(file),
    };
    Ok((Loaded { accepted: stored.accepted, header }, content))
}

/// A group of the core as the spool takes it.
fn on_disk(group: merpati_flow::Group) -> Group {
    let entry = |(event, content): (Event, Option<Vec<u8>>)| {
        let body = content.map_or(Body::None, |content| Body::Bytes(vec![Bytes::from(content)]));
        Entry { event, body }
    };
    Group { at: group.at, entries: group.events.into_iter().map(entry).collect() }
}

/// Ends the process where the thread panics: memory may then be anything, the journal is not.
struct EndsProcess;

impl Drop for EndsProcess {
    fn drop(&mut self) {
        tracing::error!("the conductor panicked; the process ends");
        std::process::abort();
    }
}

/// So much told at once means load.
const BUSY_BATCH: usize = 4;
/// How often the thread looks at what it was told under load.
const PACE: Duration = Duration::from_micros(500);
/// How often what is kept in memory is looked through.
const FORGET_EVERY: Duration = Duration::from_secs(1);
/// How long the thread sleeps at most where nothing is due.
const IDLE_WAIT: Duration = Duration::from_mins(1);
/// How much of a large content is kept with an attempt, for a report on its failure.
const HEADER_OCTETS: u64 = 64 << 10;
