//! When what was decided becomes durable, and who is told then.
//!
//! Invariant: nobody is told of a group before the sync that covers it; the store and the sinks
//! see it in the order of the journal, and before its proposer. A failed write or sync is final:
//! everybody who waits is refused, and nothing is written any more. Not pure: one thread that owns
//! the journal.
//!
//! The thread takes everything that waits, appends it at once, syncs once and then tells all. The
//! sessions are told by a task of their runtime that is woken once a batch: waking each session
//! from here would cost a system call each.
//!
//! What the core proposes is never refused: where the spool is full, its groups that grow wait,
//! and behind them what else is about the same messages; where a group is larger than the journal
//! can hold, what hosts said is cut. Its outcomes are told at once where
//! nothing before them waits for a sync (core.md: the one exception).

use std::{
    collections::BTreeSet,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use merpati_console::Summary;
use merpati_flow::Token;
use merpati_mail::{Durability, Event, Lsn, Outcome, QueueId, Record, Reply, event::Keeping};
use merpati_spool::{Body, Group, Level, Spool, SpoolError};
use tokio::sync::{Notify, oneshot};

use crate::{clock::Clock, conductor::Inbox, health::Health, sinks::Sinks, store::Store};

/// What is proposed to the journal.
#[derive(Debug)]
pub struct Proposal {
    /// What was decided, with its content.
    pub group: Group,
    /// What lists show of a message that is captured; `None` where the store need not know of it.
    pub summary: Option<Summary>,
    /// The `Message-ID` of a message that is accepted; `None` where it has none.
    pub message_id: Option<Box<str>>,
}

impl Proposal {
    /// A group of which nothing more is to be told.
    pub const fn of(group: Group) -> Self {
        Self { group, summary: None, message_id: None }
    }
}

/// Why a proposal did not become durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// There is no room now.
    Full,
    /// The journal failed; the relay is about to end.
    Poisoned,
    /// It is larger than the journal can hold.
    TooLarge,
}

/// The way to the journal, for all threads.
#[derive(Clone, Debug)]
pub struct Committer {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    waiting: Mutex<Batch>,
    work: Condvar,
    told: Mutex<Vec<(Ticket, Result<(), Refused>)>>,
    tell: Notify,
    /// Who waits to see that the thread goes on.
    beats: Mutex<Vec<oneshot::Sender<()>>>,
}

type Ticket = oneshot::Sender<Result<(), Refused>>;

/// What waits; groups and their companions have the same order.
#[derive(Debug, Default)]
struct Batch {
    groups: Vec<Group>,
    companions: Vec<Companion>,
    stage: Stage,
    /// Whether the thread waits for more. A condition variable costs a system call for each
    /// telling, heard or not.
    is_asleep: bool,
}

#[derive(Debug, Default)]
struct Companion {
    summary: Option<Summary>,
    message_id: Option<Box<str>>,
    ticket: Option<Ticket>,
    from: From,
}

/// Who proposed a group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum From {
    /// The core, which is told of this number.
    Core(Token),
    /// The conductor, which wrote the state of a message anew.
    Carry,
    /// A session or an operator.
    #[default]
    Others,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Open,
    /// What waits is still committed, then the thread ends.
    Ending,
    /// The journal failed.
    Poisoned,
}

impl Committer {
    /// Starts the thread that owns `spool`.
    pub fn start(spool: Box<dyn Spool>, told: Told) -> std::io::Result<(Self, JoinHandle<()>)> {
        let shared = Arc::new(Shared {
            waiting: Mutex::default(),
            work: Condvar::new(),
            told: Mutex::default(),
            tell: Notify::new(),
            beats: Mutex::default(),
        });
        let mut thread = Thread {
            spool,
            told,
            shared: Arc::clone(&shared),
            untold: Vec::new(),
            settled: Vec::new(),
            lazy: None,
            behind: Behind::default(),
        };
        let handle = std::thread::Builder::new().name("committer".to_owned()).spawn(move || {
            let guard = EndsProcess;
            thread.run();
            std::mem::forget(guard);
        })?;
        Ok((Self { shared }, handle))
    }

    /// Proposes a group; resolves when it is durable and applied, or refused.
    pub async fn commit(&self, proposal: Proposal) -> Result<(), Refused> {
        let (ticket, told) = oneshot::channel();
        self.push([Companion::of(proposal, ticket)])?;
        told.await.unwrap_or(Err(Refused::Poisoned))
    }

    /// Proposes a group for which nobody waits; it is durable within [`LAZY_WAIT`].
    pub fn commit_lazily(&self, group: Group) -> Result<(), Refused> {
        self.push([(group, Companion::default())])
    }

    /// Proposes what the core decided; it is told of each by its token.
    ///
    /// After the journal failed nothing is taken, and nothing told: the process is about to end.
    pub fn propose(&self, groups: impl IntoIterator<Item = (Token, Group)>) {
        let all = groups.into_iter().map(|(token, group)| {
            (group, Companion { from: From::Core(token), ..Companion::default() })
        });
        self.push(all).ok();
    }

    /// Proposes the state of a message, written anew.
    pub fn carry(&self, group: Group) {
        self.push([(group, Companion { from: From::Carry, ..Companion::default() })]).ok();
    }

    /// Tells those whose proposals are decided; runs until it is dropped.
    pub async fn tell(&self) {
        loop {
            self.shared.tell.notified().await;
            let told = std::mem::take(&mut *lock(&self.shared.told));
            for (ticket, result) in told {
                // A session that is gone meanwhile need not know.
                ticket.send(result).ok();
            }
        }
    }

    /// Has the room of the spool measured soon, also where nothing is committed.
    pub fn look(&self) {
        lock(&self.shared.waiting).is_asleep = false;
        self.shared.work.notify_one();
    }

    /// Resolves when the thread has gone once through its work, with all that this means for the
    /// disk: within `IDLE_WAIT` unless it hangs; false where it has ended.
    pub async fn beat(&self) -> bool {
        let (sender, beat) = oneshot::channel();
        if lock(&self.shared.waiting).stage != Stage::Open {
            return false;
        }
        lock(&self.shared.beats).push(sender);
        beat.await.is_ok()
    }

    /// Commits what waits and ends the thread.
    pub fn end(&self) {
        let mut waiting = lock(&self.shared.waiting);
        if waiting.stage == Stage::Open {
            waiting.stage = Stage::Ending;
        }
        drop(waiting);
        self.shared.work.notify_one();
    }

    fn push(&self, all: impl IntoIterator<Item = (Group, Companion)>) -> Result<(), Refused> {
        let mut waiting = lock(&self.shared.waiting);
        if waiting.stage != Stage::Open {
            return Err(Refused::Poisoned);
        }
        for (group, companion) in all {
            waiting.groups.push(group);
            waiting.companions.push(companion);
        }
        let wakes = waiting.is_asleep && !waiting.groups.is_empty();
        waiting.is_asleep &= !wakes;
        drop(waiting);
        if wakes {
            self.shared.work.notify_one();
        }
        Ok(())
    }
}

impl Shared {
    fn beat(&self) {
        for beat in std::mem::take(&mut *lock(&self.beats)) {
            beat.send(()).ok();
        }
    }
}

impl Companion {
    fn of(proposal: Proposal, ticket: Ticket) -> (Group, Self) {
        let Proposal { group, summary, message_id } = proposal;
        (group, Self { summary, message_id, ticket: Some(ticket), from: From::Others })
    }
}

/// Who is told of what became durable.
#[derive(Debug)]
pub struct Told {
    /// The time of housekeeping.
    pub clock: Arc<Clock>,
    /// Readiness and room.
    pub health: Arc<Health>,
    /// Captured mail.
    pub store: Arc<Store>,
    /// The log and the metrics.
    pub sinks: Sinks,
    /// The queue.
    pub inbox: Arc<Inbox>,
}

struct Thread {
    spool: Box<dyn Spool>,
    told: Told,
    shared: Arc<Shared>,
    /// Appended and not yet durable, so nobody has been told.
    untold: Vec<Untold>,
    /// Groups of the core that are appended and of which it is told with the next sync, in order.
    settled: Vec<Token>,
    /// When what nobody waits for must be durable.
    lazy: Option<Instant>,
    behind: Behind,
}

/// A record that is not durable yet.
struct Untold {
    record: Arc<Record>,
    summary: Option<Summary>,
    message_id: Option<Box<str>>,
    /// Whether the core does not know of it: it was decided by others.
    is_news: bool,
}

/// Groups of the core for which a full spool has no room now.
#[derive(Default)]
struct Behind {
    groups: Vec<Group>,
    companions: Vec<Companion>,
    /// The messages that they are about.
    messages: BTreeSet<QueueId>,
    /// When they are tried again.
    due: Option<Instant>,
}

impl Thread {
    fn run(&mut self) {
        let mut is_busy = self.housekeep(true);
        let mut kept_at = Instant::now();
        let mut wait = IDLE_WAIT;
        while let Some(batch) = self.next_batch(if is_busy { Duration::ZERO } else { wait }) {
            let count = batch.groups.len();
            if self.commit(batch).is_err() {
                break;
            }
            // Between batches, but not so often that it would cost throughput.
            wait = HOUSEKEEPING_PACE;
            if is_busy || count == 0 || kept_at.elapsed() >= HOUSEKEEPING_PACE {
                kept_at = Instant::now();
                is_busy = self.housekeep(count == 0);
                wait = IDLE_WAIT;
            }
            self.shared.beat();
        }
        // Nobody waits for a thread that has ended.
        lock(&self.shared.beats).clear();
        self.told.sinks.flush();
    }

    /// What waits, up to a bound; empty where nothing came for so long. `None` at the end.
    fn next_batch(&self, wait: Duration) -> Option<Batch> {
        let mut waiting = lock(&self.shared.waiting);
        if waiting.groups.is_empty() && waiting.stage == Stage::Open {
            let lazy = self.lazy.map(|due| due.saturating_duration_since(Instant::now()));
            let wait = lazy.map_or(wait, |lazy| lazy.min(wait));
            waiting.is_asleep = true;
            let woken = self.shared.work.wait_timeout(waiting, wait);
            waiting = woken.unwrap_or_else(PoisonError::into_inner).0;
            waiting.is_asleep = false;
        }
        let stage = waiting.stage;
        if stage != Stage::Open && waiting.groups.is_empty() && self.untold.is_empty() {
            return None;
        }
        let mut octets = 0;
        let fits = waiting.groups.iter().take(BATCH_GROUPS_MAX).take_while(|group| {
            octets += group_octets(group);
            octets <= BATCH_OCTETS_MAX
        });
        // A single group above the bound goes alone.
        let count = fits.count().max(1).min(waiting.groups.len());
        if count == waiting.groups.len() {
            let empty = Batch { stage, ..Batch::default() };
            return Some(std::mem::replace(&mut *waiting, empty));
        }
        let groups = waiting.groups.split_off(count);
        let companions = waiting.companions.split_off(count);
        let rest = Batch { groups, companions, stage, is_asleep: false };
        Some(std::mem::replace(&mut *waiting, rest))
    }

    fn commit(&mut self, batch: Batch) -> Result<(), ()> {
        let Batch { groups, mut companions, .. } = self.behind.sort(batch);
        let began = Instant::now();
        let mut tickets = Vec::with_capacity(groups.len());
        let is_due = self.lazy.is_some_and(|due| due <= began);
        let is_ending = lock(&self.shared.waiting).stage == Stage::Ending;
        let count = groups.len();
        let mut must_sync = is_due || is_ending;
        if let Err(error) = self.append(groups, &mut companions, &mut tickets, &mut must_sync) {
            self.poison(&error, companions, tickets);
            return Err(());
        }
        if must_sync && !self.untold.is_empty() {
            let synced_from = Instant::now();
            if let Err(error) = self.spool.sync() {
                self.poison(&error, companions, tickets);
                return Err(());
            }
            self.told.sinks.metrics().committed(count, began.elapsed(), synced_from.elapsed());
            self.apply();
        } else if !self.untold.is_empty() && self.lazy.is_none() {
            self.lazy = Some(Instant::now() + LAZY_WAIT);
        }
        // Without a sync in this batch nothing of it must be durable before it is told.
        if !self.settled.is_empty() {
            self.told.inbox.committed(std::mem::take(&mut self.settled));
        }
        self.answer(tickets);
        Ok(())
    }

    /// Appends all groups, or, where that is refused, those that the spool takes one by one.
    fn append(
        &mut self,
        mut groups: Vec<Group>,
        companions: &mut Vec<Companion>,
        tickets: &mut Vec<(Ticket, Result<(), Refused>)>,
        must_sync: &mut bool,
    ) -> Result<(), SpoolError> {
        if groups.is_empty() || self.behind.takes(&mut groups, companions) {
            return Ok(());
        }
        match self.spool.append(&groups) {
            Ok(lsns) => {
                let mut lsn = lsns.start;
                for (group, companion) in groups.into_iter().zip(companions.drain(..)) {
                    let Companion { summary, message_id, ticket, from } = companion;
                    self.keep(group, (summary, message_id, from), &mut lsn, must_sync);
                    if let Some(ticket) = ticket {
                        *must_sync = true;
                        tickets.push((ticket, Ok(())));
                    }
                }
                Ok(())
            }
            Err(error) if is_refusal(&error) && groups.len() > 1 => {
                for (group, companion) in groups.into_iter().zip(std::mem::take(companions)) {
                    *companions = vec![companion];
                    self.append(vec![group], companions, tickets, must_sync)?;
                }
                Ok(())
            }
            Err(error) if is_refusal(&error) => {
                let is_too_large = matches!(error, SpoolError::TooLarge { .. });
                let is_of_core =
                    matches!(companions.first(), Some(Companion { from: From::Core(_), .. }));
                if is_too_large && is_of_core && groups.iter_mut().fold(false, cut) {
                    tracing::warn!(%error, "a decision is kept with less of what hosts said");
                    return self.append(groups, companions, tickets, must_sync);
                }
                if let Some(Companion { from: from @ (From::Core(_) | From::Carry), .. }) =
                    companions.first()
                {
                    return self.put_behind(error, *from, groups, companions);
                }
                let refused = refusal(&error);
                tracing::warn!(%error, "the spool refused a group");
                let asked = companions.drain(..).filter_map(|companion| companion.ticket);
                tickets.extend(asked.map(|ticket| (ticket, Err(refused))));
                self.measure();
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Takes a group of the conductor that was refused.
    fn put_behind(
        &mut self,
        error: SpoolError,
        from: From,
        groups: Vec<Group>,
        companions: &mut Vec<Companion>,
    ) -> Result<(), SpoolError> {
        match (&error, from) {
            (SpoolError::Full { .. }, From::Core(_)) => {
                tracing::warn!(%error, "a decision waits for room in the spool");
                for (group, companion) in groups.into_iter().zip(companions.drain(..)) {
                    self.behind.add(group, companion);
                }
                self.measure();
                Ok(())
            }
            // The old telling is still there, and the spool asks again.
            (_, From::Carry) => {
                tracing::warn!(%error, "a message could not be carried");
                companions.clear();
                Ok(())
            }
            // The journal cannot hold what is decided: memory and disk would part.
            (_, From::Core(_) | From::Others) => Err(error),
        }
    }

    /// Remembers what was appended until it is durable.
    fn keep(
        &mut self,
        group: Group,
        companion: (Option<Summary>, Option<Box<str>>, From),
        lsn: &mut Lsn,
        must_sync: &mut bool,
    ) {
        let (mut summary, message_id, from) = companion;
        let (at, node) = (group.at, self.spool.node());
        for entry in group.entries {
            *must_sync |= entry.event.durability() == Durability::Sync;
            let record = Arc::new(Record { lsn: *lsn, at, node, event: entry.event });
            let is_news = from == From::Others && matches!(record.event, Event::Accepted(_));
            let message_id = is_of_client(&record.event).then(|| message_id.clone()).flatten();
            let summary = summary.take();
            self.untold.push(Untold { record, summary, message_id, is_news });
            *lsn = Lsn(lsn.0 + 1);
        }
        if let From::Core(token) = from {
            self.settled.push(token);
        }
    }

    /// Tells the store and the sinks of what is durable now.
    fn apply(&mut self) {
        self.lazy = None;
        let untold = std::mem::take(&mut self.untold);
        let mut records = Vec::with_capacity(untold.len());
        let (mut summaries, mut news) = (Vec::new(), Vec::new());
        for Untold { record, summary, message_id, is_news } in untold {
            if let Event::Retired(id) = &record.event {
                self.told.store.remove(*id);
            }
            summaries.extend(summary);
            if is_news {
                news.push(Arc::clone(&record));
            }
            records.push((record, message_id));
        }
        if !news.is_empty() {
            self.told.inbox.durable(news);
        }
        if !summaries.is_empty() {
            let evicted = self.told.store.keep(summaries);
            self.retire(evicted);
        }
        self.told.sinks.records(records);
    }

    /// Proposes to forget messages; nobody waits for it.
    fn retire(&self, ids: Vec<QueueId>) {
        if ids.is_empty() {
            return;
        }
        let at = self.told.clock.now();
        let mut waiting = lock(&self.shared.waiting);
        for id in ids {
            waiting.groups.push(Group::of(at, Event::Retired(id)));
            waiting.companions.push(Companion::default());
        }
    }

    fn answer(&self, mut tickets: Vec<(Ticket, Result<(), Refused>)>) {
        if !tickets.is_empty() {
            lock(&self.shared.told).append(&mut tickets);
            self.shared.tell.notify_one();
        }
    }

    /// Maintains and measures; true if there is more to do soon.
    fn housekeep(&mut self, is_idle: bool) -> bool {
        if is_idle {
            let expired = self.told.store.expire(self.told.clock.now());
            self.retire(expired);
        }
        let more = match self.spool.maintain() {
            Ok(more) => more,
            Err(error) if is_refusal(&error) => false,
            Err(error) => {
                self.poison(&error, Vec::new(), Vec::new());
                return false;
            }
        };
        let wanted = self.spool.carry_wanted(CARRIED_AT_ONCE);
        if !wanted.is_empty() {
            self.told.inbox.carry_wanted(wanted);
        }
        self.measure();
        more
    }

    fn measure(&self) {
        let pressure = self.spool.pressure();
        self.told.sinks.metrics().pressure(&pressure);
        self.told.health.set_pressure(pressure);
    }

    /// Refuses everybody who waits; the journal is not touched any more.
    fn poison(
        &self,
        error: &SpoolError,
        companions: Vec<Companion>,
        tickets: Vec<(Ticket, Result<(), Refused>)>,
    ) {
        let mut waiting = lock(&self.shared.waiting);
        waiting.stage = Stage::Poisoned;
        let Batch { companions: others, .. } =
            std::mem::replace(&mut *waiting, Batch { stage: Stage::Poisoned, ..Batch::default() });
        drop(waiting);
        self.told.health.fail(error.to_string());
        self.told.sinks.spool_failed(self.told.clock.now(), error.to_string());
        let asked = companions.into_iter().chain(others).filter_map(|companion| companion.ticket);
        let all = tickets.into_iter().map(|(ticket, _)| ticket).chain(asked);
        self.answer(all.map(|ticket| (ticket, Err(Refused::Poisoned))).collect());
    }
}

/// Whether it is a message of a client: several of them may have come as one, and have its name.
fn is_of_client(event: &Event) -> bool {
    match event {
        Event::Accepted(accepted) | Event::Captured(accepted) => {
            accepted.envelope.origin.peer.is_some()
        }
        Event::Attempted(_)
        | Event::Cancelled(_)
        | Event::Carried(_)
        | Event::ConfigChanged { .. }
        | Event::Delayed { .. }
        | Event::Expired { .. }
        | Event::Held { .. }
        | Event::Released { .. }
        | Event::Rerouted { .. }
        | Event::Retired(_) => false,
    }
}

impl Behind {
    /// Puts what waited in front of a batch once it is due; before that, what is about the same
    /// messages waits behind it.
    fn sort(&mut self, batch: Batch) -> Batch {
        let Some(due) = self.due else { return batch };
        let Batch { groups, companions, stage, .. } = batch;
        if due <= Instant::now() || stage == Stage::Ending {
            let mut all = std::mem::take(self);
            all.groups.extend(groups);
            all.companions.extend(companions);
            return Batch {
                groups: all.groups,
                companions: all.companions,
                stage,
                is_asleep: false,
            };
        }
        let mut rest = Batch { stage, ..Batch::default() };
        for (group, companion) in groups.into_iter().zip(companions) {
            let is_core = matches!(companion.from, From::Core(_));
            if is_core && messages(&group).any(|id| self.messages.contains(&id)) {
                self.add(group, companion);
            } else {
                rest.groups.push(group);
                rest.companions.push(companion);
            }
        }
        rest
    }

    /// Takes a single group that must wait behind others of its message.
    fn takes(&mut self, groups: &mut Vec<Group>, companions: &mut Vec<Companion>) -> bool {
        let is_behind = match (groups.as_slice(), companions.as_slice()) {
            ([group], [Companion { from: From::Core(_), .. }]) => {
                messages(group).any(|id| self.messages.contains(&id))
            }
            _ => false,
        };
        if is_behind && let (Some(group), Some(companion)) = (groups.pop(), companions.pop()) {
            self.add(group, companion);
        }
        is_behind
    }

    fn add(&mut self, group: Group, companion: Companion) {
        self.messages.extend(messages(&group));
        self.groups.push(group);
        self.companions.push(companion);
        self.due.get_or_insert_with(|| Instant::now() + FULL_WAIT);
    }
}

/// The messages that a group is about.
fn messages(group: &Group) -> impl Iterator<Item = QueueId> {
    group.entries.iter().filter_map(|entry| match entry.event.keeping() {
        Keeping::About(id) | Keeping::Closes(id) | Keeping::Opens(id) | Keeping::Stores(id) => {
            Some(id)
        }
        Keeping::Latest(_) => None,
    })
}

/// Cuts what hosts said in a group, so that the journal can hold it; whether there was anything to
/// cut. It decides nothing: the queue keeps no words.
fn cut(has_cut: bool, group: &mut Group) -> bool {
    let mut all: Vec<&mut Reply> = Vec::new();
    for entry in &mut group.entries {
        match &mut entry.event {
            Event::Attempted(attempted) => {
                all.extend(attempted.outcomes.iter_mut().map(|(_, outcome)| match outcome {
                    Outcome::Deferred { cause, .. } | Outcome::Failed { cause } => &mut cause.reply,
                    Outcome::Delivered { reply } => reply,
                }));
            }
            Event::Expired { cause, .. } => all.push(&mut cause.reply),
            Event::Accepted(_)
            | Event::Cancelled(_)
            | Event::Captured(_)
            | Event::Carried(_)
            | Event::ConfigChanged { .. }
            | Event::Delayed { .. }
            | Event::Held { .. }
            | Event::Released { .. }
            | Event::Rerouted { .. }
            | Event::Retired(_) => {}
        }
    }
    all.into_iter().fold(has_cut, |has_cut, reply| {
        let is_long = reply.text.len() > CUT_OCTETS;
        *reply = reply.clone().shortened_to(CUT_OCTETS);
        has_cut || is_long
    })
}

/// Ends the process where the thread panics: what is durable is then unknown to all others.
struct EndsProcess;

impl Drop for EndsProcess {
    fn drop(&mut self) {
        tracing::error!("the committer panicked; the process ends");
        std::process::abort();
    }
}

/// Whether the spool can take a new message.
pub const fn has_room(level: Level) -> bool {
    matches!(level, Level::Roomy)
}

const fn is_refusal(error: &SpoolError) -> bool {
    match error {
        SpoolError::Corrupt { .. }
        | SpoolError::Full { .. }
        | SpoolError::Missing(_)
        | SpoolError::TooLarge { .. } => true,
        SpoolError::Io { .. }
        | SpoolError::Locked { .. }
        | SpoolError::Poisoned
        | SpoolError::Version { .. } => false,
    }
}

const fn refusal(error: &SpoolError) -> Refused {
    match error {
        SpoolError::Full { .. } => Refused::Full,
        SpoolError::TooLarge { .. } => Refused::TooLarge,
        SpoolError::Corrupt { .. }
        | SpoolError::Io { .. }
        | SpoolError::Locked { .. }
        | SpoolError::Missing(_)
        | SpoolError::Poisoned
        | SpoolError::Version { .. } => Refused::Poisoned,
    }
}

fn group_octets(group: &Group) -> usize {
    let octets = |body: &Body| match body {
        Body::Bytes(pieces) => pieces.iter().map(bytes::Bytes::len).sum(),
        Body::File(_) | Body::None | Body::Same => 0,
    };
    group.entries.iter().map(|entry| EVENT_OCTETS + octets(&entry.body)).sum()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How long a lazy event may wait for its sync.
pub const LAZY_WAIT: Duration = Duration::from_millis(50);
/// How long decisions wait for room in a full spool before they are tried again.
const FULL_WAIT: Duration = Duration::from_secs(1);
/// What is left of each reply in a group that the journal could not hold.
const CUT_OCTETS: usize = 64;
/// Messages written anew at once.
const CARRIED_AT_ONCE: usize = 64;
/// The most groups of one batch.
const BATCH_GROUPS_MAX: usize = 256;
/// The most octets of one batch, unless a single group is larger.
const BATCH_OCTETS_MAX: usize = 8 << 20;
/// What an event without its content takes, roughly.
const EVENT_OCTETS: usize = 256;
/// How often housekeeping looks around when nothing happens.
const IDLE_WAIT: Duration = Duration::from_millis(500);
/// How often housekeeping looks around under load.
const HOUSEKEEPING_PACE: Duration = Duration::from_millis(20);

#[cfg(test)]
#[path = "committer_tests.rs"]
mod tests;
