//! A relay in a world: the real core and the real spool, in a shell of virtual time.
//!
//! The shell keeps to the rule of every shell: append, sync if anything must be told, then tell.
//! Known ways to break it are [`Mutant`]s. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::ControlFlow,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use merpati_flow::{Core, Input, JobId, Loaded, Output, Token, admit, queue::Fold, trace};
use merpati_mail::{
    Answer, DeliveryId, Domain, Durability, Envelope, Event, Hold, NodeId, Overlay, Question,
    QueueId, Record, Time, Verdict,
    event::{Accepted, Carried, Keeping},
    question::MxAnswer,
};
use merpati_smtp::server;
use merpati_spool::{Body, Entry, Group, Memory, Spool as _, SpoolError, StoredBody, Unread};

use crate::{
    conn::{Callee, Caller, ConnId, Talk},
    ledger::RelayId,
    mark::Mark,
    mutant::Mutant,
    outbound::Outbound,
    plan::{self, Trouble},
    world::{Happening, World},
};

/// Which life of a relay: grows with each start.
pub(crate) type Generation = u32;

/// A relay, running or not.
pub(crate) struct Node {
    pub(crate) spool: Memory,
    /// `None` while it is down, or recovers.
    pub(crate) core: Option<Core>,
    /// What its spool held at the start, while it recovers.
    recovering: Option<Recovering>,
    pub(crate) generation: Generation,
    pub(crate) policy: admit::Policy,
    pub(crate) jobs: BTreeMap<JobId, Outbound>,
    pub(crate) server: Arc<server::Options>,
    waiting: Vec<Waiting>,
    syncing: Option<Vec<Waiting>>,
    is_lazy: bool,
    is_lazy_due: bool,
    is_draining: bool,
    /// When the core is woken next.
    alarm: Option<Time>,
    started: Time,
    segments: usize,
}

/// A relay that takes mail and does not know yet what waits.
struct Recovering {
    /// `None` once somebody has begun to read it.
    unread: Option<Unread>,
    seed: u64,
    /// What was taken meanwhile.
    taken: Vec<(Time, Event)>,
}

/// A group on its way into the journal, and who wants to know.
struct Waiting {
    group: Group,
    waiter: Waiter,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waiter {
    Core(Token),
    Nobody,
    Session(ConnId, QueueId),
}

impl Node {
    pub(crate) fn new(relay: RelayId) -> Result<Self, SpoolError> {
        let options = merpati_spool::MemoryOptions { segment_bytes: 96 * 1_024, segments_max: 64 };
        let node = NodeId::new(u16::try_from(relay).unwrap_or(0)).unwrap_or_default();
        let mut server = server::Options::new("relay", plan::relay_name(relay));
        // What one relay takes still fits the next with a Received field on top.
        server.limits.message_bytes_max = plan::SIZE_BYTES_MAX + 4_000 * relay as u64;
        Ok(Self {
            spool: Memory::with(node, options)?,
            core: None,
            recovering: None,
            generation: 0,
            policy: plan::policy(relay),
            jobs: BTreeMap::new(),
            server: Arc::new(server),
            waiting: Vec::new(),
            syncing: None,
            is_lazy: false,
            is_lazy_due: false,
            is_draining: false,
            alarm: None,
            started: Time::EPOCH,
            segments: 0,
        })
    }
}

impl Node {
    /// Whether its process lives.
    pub(crate) const fn is_up(&self) -> bool {
        self.core.is_some() || self.recovering.is_some()
    }
}

impl Waiting {
    fn messages(&self) -> impl Iterator<Item = QueueId> {
        self.group.entries.iter().filter_map(|entry| match entry.event.keeping() {
            Keeping::About(id) | Keeping::Closes(id) | Keeping::Opens(id) | Keeping::Stores(id) => {
                Some(id)
            }
            Keeping::Latest(_) => None,
        })
    }
}

impl World {
    /// Starts a relay on what its spool holds: it takes mail, and reads that now or a little later.
    pub(crate) fn start_relay(&mut self, relay: RelayId) {
        let seed = self.draw.bits();
        let Some(node) = self.nodes.get_mut(relay) else { return };
        let unread = match node.spool.begin() {
            Ok(unread) => unread,
            // A disk that fails once lets the next start through.
            Err(SpoolError::Io { .. }) => {
                self.ledger.marks.insert(Mark::StorageFailed);
                let when = self.now + Duration::from_secs(5);
                return self.later(when, Happening::Start { relay });
            }
            Err(error) => {
                let wrong = format!("relay {relay} does not start: {error}");
                return self.ledger.wrong(self.now, wrong);
            }
        };
        node.recovering = Some(Recovering { unread: Some(unread), seed, taken: Vec::new() });
        node.generation += 1;
        node.started = self.now;
        node.is_draining = false;
        let generation = node.generation;
        // The lot is that of the seed: a draw more would make other worlds of all seeds.
        let wait = if seed.is_multiple_of(3) {
            Duration::ZERO
        } else {
            Duration::from_millis(seed % 20_000)
        };
        self.later(self.now + wait, Happening::Read { relay, generation });
    }

    /// A relay reads what its spool held, and from then on delivers.
    pub(crate) fn read_spool(&mut self, relay: RelayId) {
        let Some(node) = self.nodes.get_mut(relay) else { return };
        let Some(Recovering { unread, seed, taken }) = &mut node.recovering else { return };
        let Some(unread) = unread.take() else { return };
        let (seed, taken) = (*seed, std::mem::take(taken));
        let mut records: Vec<Record> = Vec::new();
        let read = unread.read(&mut |record| {
            records.push(record);
            ControlFlow::Continue(())
        });
        let recovery = match read {
            Ok(recovery) => recovery.unwrap_or_default(),
            Err(_) => return self.storage_failed(relay, Vec::new()),
        };
        node.recovering = None;
        let number = node.spool.node();
        let options = plan::core_options(relay);
        let mut fold = Fold::new(options.router.clone(), options.hostname.clone());
        // In any order: what was taken meanwhile is about other messages.
        let late = records.split_off(records.len() / 2);
        let held = |record: Record| (record.at, record.event);
        let all = records.into_iter().map(held).chain(taken).chain(late.into_iter().map(held));
        for (at, event) in all {
            self.ledger.replayed(relay, &event);
            fold.apply(at, &event);
        }
        let mut core = Core::with_queue(options, fold.finish(), (number, recovery.epoch), seed);
        if self.mutant == Some(Mutant::ReplayDecides) {
            let all: Vec<DeliveryId> = core.views().map(|view| view.delivery).collect();
            for delivery in all {
                let event = Event::Released { delivery, until: self.now };
                core.durable(self.now, &event);
            }
        }
        for id in core.queue().messages() {
            if let Some(loaded) = load(&node.spool, id) {
                self.ledger.adopted(self.now, relay, &loaded.accepted, loaded.header.to_vec());
            }
        }
        self.ledger.recovered(self.now, relay, &core);
        node.core = Some(core);
        if self.is_calm {
            self.release_all(relay);
        }
        self.pump_core(relay);
    }

    /// A relay ends without warning.
    pub(crate) fn crash(&mut self, relay: RelayId) {
        let now = self.now;
        let Some(node) = self.nodes.get_mut(relay) else { return };
        if !node.is_up() {
            return;
        }
        let (core, recovering) = (node.core.take(), node.recovering.take());
        let marks = &mut self.ledger.marks;
        marks.insert(Mark::Crash);
        if recovering.is_some_and(|recovering| !recovering.taken.is_empty()) {
            marks.insert(Mark::CrashInRecovery);
        }
        if node.syncing.is_some() {
            marks.insert(Mark::CrashInSync);
        }
        if node.generation > 1 && now.since(node.started) < Duration::from_mins(1) {
            marks.insert(Mark::CrashTwice);
        }
        let syncing = node.syncing.iter().flatten();
        let unsettled: BTreeSet<QueueId> =
            node.waiting.iter().chain(syncing).flat_map(Waiting::messages).collect();
        self.ledger.crashed(now, relay, core.as_ref(), &unsettled);
        node.spool.crash(&mut self.draw);
        node.waiting.clear();
        node.syncing = None;
        node.jobs.clear();
        node.alarm = None;
        node.is_lazy = false;
        node.is_lazy_due = false;
        let touched: Vec<ConnId> =
            self.conns.values().filter(|c| c.touches(relay)).map(|c| c.facts.id).collect();
        for id in touched {
            self.abandon(relay, id);
        }
        let pause = if self.draw.chance(30) { 1 } else { 20 + self.draw.below(300) };
        self.later(now + Duration::from_secs(pause), Happening::Start { relay });
    }

    /// The end of a connection that a crashed relay had is gone; the other end sees it close.
    fn abandon(&mut self, relay: RelayId, id: ConnId) {
        let Some(mut conn) = self.conns.remove(&id) else { return };
        if conn.facts.callee == Callee::Relay(relay) {
            let is_open = |s: &server::Session| matches!(s.wants(), server::Wants::Content { .. });
            if matches!(&conn.talk, Talk::Smtp(session) if is_open(session)) {
                self.ledger.marks.insert(Mark::CrashInTransaction);
            }
            conn.talk = Talk::Gone;
            self.send_close(&mut conn, crate::conn::Side::Client);
        } else {
            conn.client = None;
            self.send_close(&mut conn, crate::conn::Side::Server);
        }
        self.keep(conn);
    }

    /// What goes wrong, or what an operator does.
    pub(crate) fn trouble(&mut self, relay: RelayId, trouble: Trouble) {
        let Some(node) = self.nodes.get_mut(relay) else { return };
        match trouble {
            Trouble::Crash => self.crash(relay),
            Trouble::Drain => self.drain(relay),
            Trouble::FailSync => node.spool.fail_next_sync(),
            Trouble::FailWrite => node.spool.fail_next_write(),
            Trouble::Full => node.spool.set_full(true),
            Trouble::Operate => self.operate(relay),
            Trouble::Roomy => {
                node.spool.set_full(false);
                self.kick(relay);
            }
        }
    }

    fn drain(&mut self, relay: RelayId) {
        let Some(node) = self.nodes.get_mut(relay) else { return };
        node.is_draining = true;
        let inbound = self.conns.values().filter(|c| c.facts.callee == Callee::Relay(relay));
        let ids: Vec<ConnId> = inbound.map(|c| c.facts.id).collect();
        for id in ids {
            let Some(mut conn) = self.conns.remove(&id) else { continue };
            if let Talk::Smtp(session) = &mut conn.talk {
                session.handle(self.now, server::Input::Shutdown);
                self.ledger.marks.insert(Mark::Shutdown);
            }
            self.pump_server(&mut conn);
            self.keep(conn);
        }
        // A drained relay that is not told to start again ends like any other.
        let generation = self.nodes.get(relay).map_or(0, |node| node.generation);
        self.later(self.now + Duration::from_secs(30), Happening::Drained { relay, generation });
    }

    /// Whether a relay takes connections.
    pub(crate) fn is_listening(&self, relay: RelayId) -> bool {
        self.nodes.get(relay).is_some_and(|node| node.is_up() && !node.is_draining)
    }

    fn operate(&mut self, relay: RelayId) {
        let lot = self.draw.below(1_000);
        let Some(core) = self.nodes.get_mut(relay).and_then(|node| node.core.as_mut()) else {
            return;
        };
        let views: Vec<_> = core.views().collect();
        let at = usize::try_from(lot % (views.len() as u64).max(1)).unwrap_or(0);
        let Some(view) = views.get(at) else { return };
        let delivery = view.delivery;
        let input = match (lot % 10, &view.hold) {
            (0, None) => Input::Cancel(delivery),
            (1..=6, None) => Input::Hold(delivery, Box::new(operator_hold())),
            // By the next relay, or by the rules again.
            (7, _) => Input::Reroute(delivery, Some("via".into())),
            (8, _) => Input::Reroute(delivery, None),
            _ => Input::Release(delivery),
        };
        core.handle(self.now, input);
        self.pump_core(relay);
    }

    /// Faults have stopped: what operators hold goes.
    pub(crate) fn release_all(&mut self, relay: RelayId) {
        if let Some(core) = self.nodes.get_mut(relay).and_then(|node| node.core.as_mut()) {
            let held = core.views().filter(|view| view.hold.is_some());
            let held: Vec<DeliveryId> = held.map(|view| view.delivery).collect();
            for delivery in held {
                core.handle(self.now, Input::Release(delivery));
            }
        }
        self.pump_core(relay);
    }

    /// A session of a relay has a whole message.
    pub(crate) fn take_over(
        &mut self,
        relay: RelayId,
        conn: ConnId,
        envelope: Envelope,
        content: Vec<u8>,
    ) {
        let Some(node) = self.nodes.get_mut(relay) else { return };
        let id = node.spool.next_id();
        let mut edits = Overlay::default();
        let name: Domain = plan::domain(&plan::relay_name(relay));
        edits.prepend = trace::received(&name, &envelope, id, self.now).into_bytes();
        let size_bytes = content.len() as u64;
        let event = Event::Accepted(Box::new(Accepted { id, envelope, edits, size_bytes }));
        let body = Body::Bytes(vec![Bytes::from(content)]);
        let group = Group::with_body(self.now, event, body);
        node.waiting.push(Waiting { group, waiter: Waiter::Session(conn, id) });
        self.later(self.now, Happening::Kick { relay });
    }

    /// Does what the core of a relay wants done now.
    pub(crate) fn pump_core(&mut self, relay: RelayId) {
        let now = self.now;
        loop {
            let Some(node) = self.nodes.get_mut(relay) else { return };
            let Some(core) = node.core.as_mut() else { return };
            match core.poll(now) {
                None => break,
                Some(Output::Ask(question)) => self.ask(relay, question),
                Some(Output::Attempt(job)) => self.begin(relay, job),
                Some(Output::Commit(token, group)) => self.propose(relay, token, group),
                Some(Output::Load(job, id)) => {
                    let loaded = load(&node.spool, id).map(Arc::new);
                    core.handle(now, Input::Loaded(job, loaded));
                }
            }
        }
        let node = self.nodes.get(relay);
        let due = node.and_then(|node| Some((node.core.as_ref()?.deadline()?, node.generation)));
        if let Some((when, generation)) = due {
            self.core_alarm(relay, when.max(now), generation);
        }
        self.kick(relay);
    }

    /// Wakes the core at `when`, unless it is woken before that anyway.
    fn core_alarm(&mut self, relay: RelayId, when: Time, generation: Generation) {
        let Some(node) = self.nodes.get_mut(relay) else { return };
        if node.alarm.is_none_or(|alarm| alarm > when || alarm < self.now) {
            node.alarm = Some(when);
            self.later(when, Happening::CoreDue { relay, generation });
        }
    }

    /// The core is woken.
    pub(crate) fn core_due(&mut self, relay: RelayId) {
        if let Some(node) = self.nodes.get_mut(relay) {
            node.alarm = None;
        }
        self.pump_core(relay);
    }

    fn ask(&mut self, relay: RelayId, question: Question) {
        let Question::Mx(domain) = question else { return };
        let generation = self.nodes.get(relay).map_or(0, |node| node.generation);
        let when = self.now + Duration::from_millis(1 + self.draw.below(200));
        self.later(when, Happening::Answer { relay, generation, domain });
    }

    pub(crate) fn answer(&mut self, relay: RelayId, domain: Domain) {
        let answer = plan::mx(&domain, self.now, self.is_calm, &mut self.draw);
        match &answer {
            MxAnswer::NullMx => drop(self.ledger.marks.insert(Mark::NullMx)),
            MxAnswer::NoSuchDomain => drop(self.ledger.marks.insert(Mark::DomainUnknown)),
            MxAnswer::Unknown { .. } => drop(self.ledger.marks.insert(Mark::DnsUnknown)),
            MxAnswer::Hosts { .. } | MxAnswer::NoHost => {}
        }
        if let Some(core) = self.nodes.get_mut(relay).and_then(|node| node.core.as_mut()) {
            core.handle(self.now, Input::Answered(Question::Mx(domain), Answer::Mx(answer)));
        }
        self.pump_core(relay);
    }

    fn propose(&mut self, relay: RelayId, token: Token, group: merpati_flow::Group) {
        let entry = |(event, content): (Event, Option<Vec<u8>>)| {
            let body = content.map_or(Body::None, |c| Body::Bytes(vec![Bytes::from(c)]));
            Entry { event, body }
        };
        let mut entries: Vec<Entry> = group.events.into_iter().map(entry).collect();
        if self.mutant == Some(Mutant::LostRetired) {
            entries.retain(|entry| !matches!(entry.event, Event::Retired(_)));
        }
        let mut apart = Vec::new();
        if self.mutant == Some(Mutant::ReportApart) {
            let is_report = |entry: &Entry| matches!(entry.event, Event::Accepted(_));
            apart = entries.extract_if(.., |entry| is_report(entry)).collect();
        }
        let Some(node) = self.nodes.get_mut(relay) else { return };
        let group = Group { at: group.at, entries };
        node.waiting.push(Waiting { group, waiter: Waiter::Core(token) });
        if !apart.is_empty() {
            let group = Group { at: self.now, entries: apart };
            node.waiting.push(Waiting { group, waiter: Waiter::Nobody });
        }
    }

    /// Writes what waits, unless a sync goes on; what comes meanwhile shares the next one.
    pub(crate) fn kick(&mut self, relay: RelayId) {
        let Some(node) = self.nodes.get_mut(relay) else { return };
        if !node.is_up() || node.syncing.is_some() || node.waiting.is_empty() {
            return;
        }
        let batch = std::mem::take(&mut node.waiting);
        let groups: Vec<Group> = batch.iter().map(|waiting| waiting.group.clone()).collect();
        match node.spool.append(&groups) {
            Ok(_) => self.appended(relay, batch),
            Err(SpoolError::Full { .. }) => self.append_without_growth(relay, batch),
            Err(_) => self.storage_failed(relay, batch),
        }
    }

    /// The spool is full: outcomes go in, new mail is refused, reports wait.
    fn append_without_growth(&mut self, relay: RelayId, batch: Vec<Waiting>) {
        let mut refused = Vec::new();
        let mut others = Vec::new();
        // What is about a message waits behind what else waits about it.
        let mut behind = BTreeSet::new();
        let Some(node) = self.nodes.get_mut(relay) else { return };
        for waiting in batch {
            let messages: Vec<QueueId> = waiting.messages().collect();
            match waiting.waiter {
                Waiter::Session(conn, _) => refused.push(conn),
                Waiter::Core(_) | Waiter::Nobody => {
                    if waiting.group.grows() || messages.iter().any(|id| behind.contains(id)) {
                        behind.extend(messages);
                        node.waiting.push(waiting);
                    } else {
                        others.push(waiting);
                    }
                }
            }
        }
        let again = Happening::Kick { relay };
        self.later(self.now + Duration::from_secs(10), again);
        for conn in refused {
            self.ledger.marks.insert(Mark::SpoolFull);
            let reply = merpati_mail::Reply::new(452, (4, 3, 1), "not enough storage now");
            self.tell(conn, server::Input::Verdict(Verdict::refuse("spool-full", reply)));
        }
        if others.is_empty() {
            return;
        }
        let groups: Vec<Group> = others.iter().map(|waiting| waiting.group.clone()).collect();
        let Some(node) = self.nodes.get_mut(relay) else { return };
        match node.spool.append(&groups) {
            Ok(_) => self.appended(relay, others),
            Err(_) => self.storage_failed(relay, others),
        }
    }

    fn storage_failed(&mut self, relay: RelayId, batch: Vec<Waiting>) {
        self.ledger.marks.insert(Mark::StorageFailed);
        for waiting in &batch {
            if let Waiter::Session(conn, _) = waiting.waiter {
                let verdict = Verdict::refuse("storage-trouble", admit::storage_trouble());
                self.tell(conn, server::Input::Verdict(verdict));
            }
        }
        if let Some(node) = self.nodes.get_mut(relay) {
            node.waiting.extend(batch);
        }
        // The process ends, and the supervisor starts another.
        self.crash(relay);
    }

    fn appended(&mut self, relay: RelayId, batch: Vec<Waiting>) {
        let is_sync = |waiting: &Waiting| {
            let mut events = waiting.group.entries.iter().map(|entry| &entry.event);
            events.any(|event| event.durability() == Durability::Sync)
        };
        let is_hasty = self.mutant == Some(Mutant::AckBeforeSync);
        let Some(node) = self.nodes.get_mut(relay) else { return };
        let generation = node.generation;
        if !batch.iter().any(is_sync) {
            // Nothing before them waits for a sync: they are told at once.
            node.is_lazy = true;
            if !node.is_lazy_due && self.mutant != Some(Mutant::LazyForEver) {
                node.is_lazy_due = true;
                let when = self.now + LAZY;
                self.later(when, Happening::LazyDue { relay, generation });
            }
            for waiting in batch {
                self.settle(relay, &waiting);
            }
            return;
        }
        let wait = if self.draw.chance(10) { 900_000 } else { 300 + self.draw.below(60_000) };
        if is_hasty {
            for waiting in &batch {
                self.settle(relay, waiting);
            }
        }
        let Some(node) = self.nodes.get_mut(relay) else { return };
        node.syncing = Some(if is_hasty { Vec::new() } else { batch });
        let when = self.now + Duration::from_micros(wait);
        self.later(when, Happening::SyncDone { relay, generation });
    }

    /// Lazy events have waited long enough.
    pub(crate) fn lazy_due(&mut self, relay: RelayId) {
        let Some(node) = self.nodes.get_mut(relay) else { return };
        node.is_lazy_due = false;
        if node.syncing.is_none() {
            node.syncing = Some(Vec::new());
            self.synced(relay);
        }
    }

    /// A sync has ended.
    pub(crate) fn synced(&mut self, relay: RelayId) {
        let Some(node) = self.nodes.get_mut(relay) else { return };
        let Some(batch) = node.syncing.take() else { return };
        if node.spool.sync().is_err() {
            return self.storage_failed(relay, batch);
        }
        node.is_lazy = false;
        for waiting in &batch {
            self.settle(relay, waiting);
        }
        if let Err(error) = self.maintain(relay) {
            let wrong = format!("relay {relay} cannot keep its journal: {error}");
            return if matches!(error, SpoolError::Io { .. } | SpoolError::Poisoned) {
                self.storage_failed(relay, Vec::new());
            } else {
                self.ledger.wrong(self.now, wrong);
            };
        }
        let Some(node) = self.nodes.get(relay) else { return };
        if let Some(core) = &node.core {
            let is_quiet = node.waiting.is_empty() && node.syncing.is_none();
            let messages = is_quiet.then(|| node.spool.pressure().messages);
            self.ledger.check(self.now, relay, core, messages);
        }
        self.pump_core(relay);
    }

    /// What is in the journal is told.
    fn settle(&mut self, relay: RelayId, waiting: &Waiting) {
        self.ledger.committed(self.now, relay, &waiting.group);
        let Some(node) = self.nodes.get_mut(relay) else { return };
        match waiting.waiter {
            Waiter::Core(token) => {
                if let Some(core) = node.core.as_mut() {
                    core.handle(self.now, Input::Committed(token));
                }
            }
            Waiter::Nobody => {}
            Waiter::Session(conn, id) => {
                let is_forgotten = self.mutant == Some(Mutant::RecoveryForgets);
                for entry in &waiting.group.entries {
                    if let Some(core) = node.core.as_mut() {
                        core.durable(waiting.group.at, &entry.event);
                    } else if let Some(recovering) = &mut node.recovering {
                        self.ledger.marks.insert(Mark::MailInRecovery);
                        let taken = (waiting.group.at, entry.event.clone());
                        recovering.taken.extend((!is_forgotten).then_some(taken));
                    }
                }
                self.tell(conn, server::Input::Committed(id));
                self.later(self.now, Happening::Pump { relay });
            }
        }
    }

    fn tell(&mut self, id: ConnId, input: server::Input<'_>) {
        let Some(mut conn) = self.conns.remove(&id) else { return };
        if let Talk::Smtp(session) = &mut conn.talk {
            session.handle(self.now, input);
        }
        self.pump_server(&mut conn);
        self.keep(conn);
    }

    /// Lets the spool free segments, and writes anew what is in the way.
    fn maintain(&mut self, relay: RelayId) -> Result<(), SpoolError> {
        let Some(node) = self.nodes.get_mut(relay) else { return Ok(()) };
        for _ in 0..MAINTAIN_STEPS {
            if !node.spool.maintain()? {
                break;
            }
        }
        let used = node.spool.pressure().segments_used;
        if used > node.segments {
            self.ledger.marks.insert(Mark::RollOver);
        }
        node.segments = used;
        let Some(core) = node.core.as_ref() else { return Ok(()) };
        for id in node.spool.carry_wanted(CARRIED_AT_ONCE) {
            let stored = node.spool.read(id)?;
            let Some(mut carried) = core.carry(&stored.accepted) else { continue };
            if self.mutant == Some(Mutant::CarryForgets) {
                forget(&mut carried);
            }
            if self.mutant == Some(Mutant::CarryForgetsDelay) {
                for (_, state) in &mut carried.deliveries {
                    state.is_delay_told = false;
                }
            }
            self.ledger.marks.insert(Mark::Carried);
            let event = Event::Carried(Box::new(carried));
            let group = Group::with_body(self.now, event, Body::Same);
            node.waiting.push(Waiting { group, waiter: Waiter::Nobody });
        }
        Ok(())
    }

    /// Whether a happening was meant for this life of the relay.
    pub(crate) fn is_current(&self, relay: RelayId, generation: Generation) -> bool {
        let node = self.nodes.get(relay);
        node.is_some_and(|node| node.is_up() && node.generation == generation)
    }

    /// Whether the attempt behind a connection still belongs to anybody.
    pub(crate) fn is_current_caller(&self, caller: Caller) -> bool {
        match caller {
            Caller::Relay { relay, generation, .. } => self.is_current(relay, generation),
            Caller::Submitter { .. } => true,
        }
    }
}

fn load(spool: &Memory, id: QueueId) -> Option<Loaded> {
    let stored = spool.read(id).ok()?;
    let StoredBody::Bytes(content) = stored.body else { return None };
    Some(Loaded { accepted: stored.accepted, header: content })
}

fn operator_hold() -> Hold {
    Hold {
        limit: "operator".to_owned(),
        value: "held by hand".to_owned(),
        source: "the simulated operator".to_owned(),
        until: None,
    }
}

fn forget(carried: &mut Carried) {
    carried.deliveries.pop();
}

/// How long an outcome may wait to become durable (core.md: 50 ms).
const LAZY: Duration = Duration::from_millis(50);
/// Steps of upkeep after a sync.
const MAINTAIN_STEPS: usize = 4;
/// Messages written anew at once.
const CARRIED_AT_ONCE: usize = 8;
