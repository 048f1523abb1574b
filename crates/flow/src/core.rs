//! What happens next to each delivery: joins queue, routes, retries, outcomes and reports.
//!
//! Invariant: decide → commit → apply. Every change of the queue is proposed as a [`Group`] of
//! events, and applied only when the shell says that the group is committed; so memory is never
//! ahead of the journal. Where a delivery is lost between two steps of the shell, it is due again
//! after a restart. Pure: time, answers and the seed of all randomness are arguments.

mod begin;
mod deadline;
mod settle;
mod site;
mod verify;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use merpati_mail::{
    Answer, ByMode, Cause, Class, DeliverBy, DeliveryId, Domain, Draw, EgressPath, Event, Hold,
    Mailbox, NextHop, NodeId, Question, QueueId, Recipient, Reply, Scope, Time, TlsFacts,
    TlsPolicy, TlsRequest,
    event::{Accepted, Carried},
    outcome::Finding as Found,
    question::{MxAnswer, MxHost},
    route::{Endpoint, HostPort},
};

use self::{
    settle::{Gathering, Verdict},
    site::{Health, SiteId, Sites},
};
use crate::{
    alias::Aliases,
    attempt::HostPlace,
    content,
    outcome::{self, Before, Fate, Terms, Voice},
    protect,
    queue::{LaneId, LaneKey, Queue, View},
    report::Desk,
    retry::RetryPlan,
    route::{self, Router, RulePlace, Target},
};

/// How the core decides.
#[derive(Clone, Debug)]
pub struct Options {
    /// Our host name: in reports, and to recognise ourselves among MX hosts.
    pub hostname: Domain,
    /// Where what goes.
    pub router: Router,
    /// When what is tried again.
    pub retry: RetryPlan,
    /// Attempts that go on at once, in all.
    pub jobs_max: usize,
    /// Attempts that go on at once towards one next hop.
    pub jobs_per_lane_max: usize,
    /// Recipients of one message in one attempt (RFC 5321 §4.5.3.1.8: at least 100).
    pub recipients_per_job_max: usize,
    /// The port of hosts found by MX.
    pub port: u16,
    /// The age of a message at which its originator is told, once, that it is delayed; `None`:
    /// never.
    pub delay_report_after: Option<Duration>,
    /// Who is told where a report of ours cannot be delivered; `None`: nobody.
    pub postmaster: Option<Mailbox>,
    /// What our addresses stand for, for reports that go to one of them; `None`: nothing.
    pub aliases: Option<Arc<Aliases>>,
}

impl Options {
    /// Sensible limits, for a host name and its routes.
    pub fn new(hostname: Domain, router: Router) -> Self {
        Self {
            hostname,
            router,
            retry: RetryPlan::default(),
            jobs_max: 1_000,
            jobs_per_lane_max: 20,
            recipients_per_job_max: 100,
            port: 25,
            delay_report_after: Some(Duration::from_hours(4)),
            postmaster: None,
            aliases: None,
        }
    }
}

/// The deciding half of the relay: one plain struct, owned by one thread.
#[derive(Clone, Debug)]
pub struct Core {
    options: Options,
    queue: Queue,
    ids: ReportIds,
    draw: Draw,
    jobs: BTreeMap<JobId, Running>,
    next_job: u64,
    is_draining: bool,
    active: BTreeMap<LaneId, usize>,
    sites: Sites,
    proposed: BTreeMap<Token, Group>,
    next_token: u64,
    /// Failures of messages whose other recipients are still being tried.
    gathering: BTreeMap<QueueId, Gathering>,
    /// When the originators of these are told at the latest.
    told_at: BTreeSet<(Time, QueueId)>,
    /// Of these an attempt has ended.
    ripe: Vec<QueueId>,
    /// Messages about which something is proposed and not yet committed.
    unsettled: BTreeMap<QueueId, Unsettled>,
    known: BTreeMap<Domain, (MxAnswer, Time)>,
    asking: BTreeMap<Domain, BTreeSet<JobId>>,
    outputs: VecDeque<Output>,
}

/// The number of an attempt that goes on; never used twice by one core.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct JobId(u64);

/// The number of a proposed group; never used twice by one core.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Token(u64);

/// What the core is told.
#[derive(Clone, Debug)]
pub enum Input {
    /// The answer to a question.
    Answered(Question, Answer),
    /// An operator gives up a delivery.
    Cancel(DeliveryId),
    /// The group is in the journal; durable, if one of its events must be.
    Committed(Token),
    /// An attempt is over.
    Finished(JobId, Box<Report>),
    /// An operator holds a delivery.
    Hold(DeliveryId, Box<Hold>),
    /// The message of an attempt is read; `None` where the spool cannot give it.
    Loaded(JobId, Option<Arc<Loaded>>),
    /// An operator lets a held delivery go, or a waiting one at once.
    Release(DeliveryId),
    /// An operator leads a delivery another way: by the rule of this name; `None`: by the first
    /// that matches, as all others.
    Reroute(DeliveryId, Option<Arc<str>>),
}

/// What the core wants done.
#[derive(Clone, Debug)]
pub enum Output {
    /// Ask the world; answer with [`Input::Answered`].
    Ask(Question),
    /// Make an attempt; report with [`Input::Finished`].
    Attempt(Job),
    /// Append to the journal, whole or not at all, and groups about the same message in the order
    /// in which they were proposed; say so with [`Input::Committed`].
    Commit(Token, Group),
    /// Read the message of this attempt; hand it over with [`Input::Loaded`].
    Load(JobId, QueueId),
}

/// Events that are committed together or not at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// When they were decided.
    pub at: Time,
    /// The events, in order; with an `Accepted` of our own making its content.
    pub events: Vec<(Event, Option<Vec<u8>>)>,
}

/// A message as the spool gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// As it was accepted.
    pub accepted: Accepted,
    /// The beginning of its content, with the whole header where that is not enormous.
    pub header: Bytes,
}

/// An attempt to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// Its number.
    pub id: JobId,
    /// Which message.
    pub message: Arc<Loaded>,
    /// The name of the rule that chose the next hop.
    pub rule: Arc<str>,
    /// For whom: the places in the envelope, and the recipients.
    pub recipients: Vec<(u32, Recipient)>,
    /// What is spoken.
    pub dialect: Dialect,
    /// How the connection must be protected.
    pub protection: Protection,
    /// Whose MX records name the hosts; `None` where the operator does.
    pub by_mx: Option<ByMx>,
    /// The hosts, the first one first; the next one is tried where
    /// [`outcome::tries_next_host`] says so.
    pub targets: Vec<Target>,
}

/// How the hosts of an attempt were found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ByMx {
    /// The domain whose mail goes there.
    pub domain: Domain,
    /// Whether DNSSEC proves that these are its hosts.
    pub is_proven: bool,
}

/// What is spoken with a next hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// LMTP (RFC 2033).
    Lmtp,
    /// SMTP (RFC 5321).
    Smtp,
}

/// How the connection of an attempt must be protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protection {
    /// As the route says.
    AsRouted,
    /// Besides, by TLS with a host that has proven its name.
    Verified,
    /// As the route says, whatever the domain of the recipient asks for.
    Waived,
}

impl Protection {
    /// What was asked of TLS with a message, for a connection on which this is spoken. RFC
    /// 8689 is about relaying; how a message comes into its mailbox is the business of the site,
    /// which the route knows.
    pub fn of(message: &Loaded, dialect: Dialect) -> Self {
        match (message.accepted.envelope.requests.tls, dialect) {
            (TlsRequest::Required, Dialect::Smtp) => Self::Verified,
            (TlsRequest::AsRouted, Dialect::Smtp) if protect::is_waived(&message.header) => {
                Self::Waived
            }
            (TlsRequest::AsRouted, _) | (TlsRequest::Required, Dialect::Lmtp) => Self::AsRouted,
        }
    }
}

/// What came of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// When it began.
    pub began: Time,
    /// On which terms it was made.
    pub terms: Terms,
    /// The hosts that were tried, each at an address.
    pub tried: Vec<Tried>,
    /// What was found for each recipient, and whose finding it is; `None` where it is that of no
    /// host. A recipient that is missing was not tried.
    pub findings: Vec<(u32, Finding, Option<HostPlace>)>,
}

/// A host that was tried at an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tried {
    /// Over which path.
    pub path: EgressPath,
    /// The TLS session; `None` in the clear.
    pub tls: Option<TlsFacts>,
    /// How the connection had to be protected; `None` where it did not come to that.
    pub policy: Option<TlsPolicy>,
}

/// What an attempt found for one recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// The next hop took responsibility.
    Delivered(Reply, Handover),
    /// It did not.
    NotDelivered(Found),
    /// The transaction was full; the recipient belongs into another one, at once.
    TryAgain,
}

/// Who tells the originator of success from now on (RFC 3461 §5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handover {
    /// The message is in its mailbox: we do, that it is delivered.
    Final,
    /// Whoever does so: we tell that it is relayed, because it was asked for with the time for its
    /// delivery (RFC 2852 §4).
    Owed,
    /// The next hop knows nothing of DSN: we do, that it is relayed.
    Relayed,
    /// The next hop has taken over the parameters, and does.
    Reporting,
}

impl Handover {
    /// What it is when this was spoken with the next hop, which offered DSN or not.
    pub const fn of(dialect: Dialect, is_dsn_offered: bool) -> Self {
        match (dialect, is_dsn_offered) {
            (_, true) => Self::Reporting,
            (Dialect::Lmtp, false) => Self::Final,
            (Dialect::Smtp, false) => Self::Relayed,
        }
    }

    /// The same where this time was given for the delivery, with a next hop that offers DELIVERBY
    /// or not. A trace tells of each hand-over; and where nobody keeps the time any more that is to
    /// be told at its end (mode `N`), the originator hears of it now (RFC 2852 §4.1.4.2).
    #[must_use]
    pub fn timed(self, by: Option<DeliverBy>, is_offered: bool) -> Self {
        let is_owed = by.is_some_and(|by| by.is_traced || by.mode == ByMode::Notify && !is_offered);
        match self {
            Self::Relayed | Self::Reporting if is_owed => Self::Owed,
            Self::Final | Self::Owed | Self::Relayed | Self::Reporting => self,
        }
    }
}

#[derive(Clone, Debug)]
struct Running {
    lane: LaneId,
    message: QueueId,
    recipients: Vec<u32>,
    loaded: Option<Arc<Loaded>>,
    /// Where it goes; `None` before that is known.
    site: Option<SiteId>,
    /// What it says of the hosts there.
    health: Health,
}

/// What is proposed about a message and not yet committed.
#[derive(Clone, Debug, Default)]
struct Unsettled {
    groups: usize,
    /// Recipients of whom nothing will be left when it is.
    gone: Vec<u32>,
}

/// Names for our own reports: the upper half of an epoch's counters, so that they never meet the
/// names that sessions give.
#[derive(Clone, Debug)]
struct ReportIds {
    node: NodeId,
    epoch: u32,
    counter: u32,
}

impl Core {
    /// A core with an empty queue, for a journal epoch of its own.
    pub fn new(options: Options, node: NodeId, epoch: u32, seed: u64) -> Self {
        let queue = Queue::new(options.router.clone(), options.hostname.clone());
        Self::with_queue(options, queue, (node, epoch), seed)
    }

    /// A core with the queue that recovery folded, for a node and a journal epoch of its own.
    pub fn with_queue(
        options: Options,
        queue: Queue,
        (node, epoch): (NodeId, u32),
        seed: u64,
    ) -> Self {
        Self {
            queue,
            sites: Sites::new(&options.retry),
            options,
            ids: ReportIds { node, epoch, counter: QueueId::GIVEN_COUNTER_MAX },
            draw: Draw::new(seed),
            jobs: BTreeMap::new(),
            next_job: 0,
            is_draining: false,
            active: BTreeMap::new(),
            proposed: BTreeMap::new(),
            next_token: 0,
            gathering: BTreeMap::new(),
            told_at: BTreeSet::new(),
            ripe: Vec::new(),
            unsettled: BTreeMap::new(),
            known: BTreeMap::new(),
            asking: BTreeMap::new(),
            outputs: VecDeque::new(),
        }
    }

    /// Takes in what happened.
    pub fn handle(&mut self, now: Time, input: Input) {
        match input {
            Input::Answered(Question::Mx(domain), Answer::Mx(answer)) => {
                self.answered(now, &domain, &answer);
            }
            Input::Answered(..) => {}
            Input::Cancel(delivery) => self.cancel(now, delivery),
            Input::Committed(token) => self.committed(token),
            Input::Finished(job, report) => self.finished(now, job, &report),
            Input::Hold(delivery, hold) => {
                if self.lives(delivery) {
                    self.propose(now, vec![(Event::Held { delivery, hold: *hold }, None)]);
                }
            }
            Input::Loaded(job, loaded) => self.loaded(now, job, loaded),
            Input::Release(delivery) => {
                if self.lives(delivery) {
                    let woken = self.queue.lane_of(delivery).map(|lane| self.sites.lift(now, lane));
                    self.tell_waiting(&woken.unwrap_or_default());
                    self.propose(now, vec![(Event::Released { delivery, until: now }, None)]);
                }
            }
            Input::Reroute(delivery, rule) => {
                // What an attempt has may end there; and none begins before this is committed.
                if self.lives(delivery) && self.queue.take_one(delivery) {
                    // What it waited for was there; but not before its release (RFC 4865).
                    let release = self.queue.released_at(delivery.message).unwrap_or(now);
                    let until = release.max(now);
                    self.propose(now, vec![(Event::Rerouted { delivery, rule, until }, None)]);
                }
            }
        }
    }

    /// Takes in an event that others committed.
    pub fn durable(&mut self, at: Time, event: &Event) {
        self.queue.apply(at, event);
    }

    /// What is to be done next; the caller polls until `None`.
    pub fn poll(&mut self, now: Time) -> Option<Output> {
        self.tell_gathered(now);
        if self.outputs.is_empty() {
            self.start(now);
        }
        self.outputs.pop_front()
    }

    /// When [`Self::poll`] will have something to do by itself; `None` where only an input can
    /// bring that.
    pub fn deadline(&self) -> Option<Time> {
        let due = if self.has_room() {
            let ready = self.sites.is_ready().then_some(Time::EPOCH);
            ready.into_iter().chain(self.queue.deadline()).min()
        } else {
            None
        };
        let told = self.told_at.first().map(|(at, _)| *at);
        due.into_iter().chain(self.sites.deadline()).chain(told).min()
    }

    /// The whole state of a message for the journal; `None` where it is gone, or where something
    /// about it is proposed and not yet committed: then ask again later.
    ///
    /// A state written between a decision and its commit would undo the decision in replay.
    pub fn carry(&self, accepted: &Accepted) -> Option<Carried> {
        if self.unsettled.contains_key(&accepted.id) { None } else { self.queue.carried(accepted) }
    }

    /// The deliveries that wait, and why.
    pub const fn queue(&self) -> &Queue {
        &self.queue
    }

    /// Every living delivery with its reason.
    pub fn views(&self) -> impl Iterator<Item = View> {
        self.queue.views()
    }

    /// Decides by these options from now on. Attempts that go on end as they began; what waits is
    /// looked at anew when it is due, and keeps the time that was drawn for it.
    pub fn reconfigure(&mut self, options: Options) {
        let before = std::mem::replace(&mut self.options, options);
        let Options { hostname, router, retry, .. } = &self.options;
        if before.router != *router || before.hostname != *hostname {
            self.queue.set_rules(router.clone(), hostname.clone());
            self.known.clear();
            // Their places are those of the rules that were.
            self.sites = Sites::new(retry);
            self.jobs.values_mut().for_each(|running| running.site = None);
        } else if before.retry != *retry {
            self.sites.set_rest(retry);
        }
        let lanes: Vec<LaneId> = self.queue.lanes().collect();
        self.tell_waiting(&lanes);
    }

    /// Begins no attempt any more; those that go on may end.
    pub const fn drain(&mut self) {
        self.is_draining = true;
    }

    /// Whether this attempt goes on.
    pub fn runs(&self, job: JobId) -> bool {
        self.jobs.contains_key(&job)
    }

    /// How many attempts go on.
    pub fn jobs(&self) -> usize {
        self.jobs.len()
    }

    fn has_room(&self) -> bool {
        self.jobs.len() < self.options.jobs_max
            && self.proposed.len() < PROPOSED_MAX
            && !self.is_draining
    }

    fn loaded(&mut self, now: Time, id: JobId, loaded: Option<Arc<Loaded>>) {
        let Some(running) = self.jobs.get_mut(&id) else { return };
        match loaded {
            Some(loaded) => {
                running.loaded = Some(loaded);
                self.launch(now, id);
            }
            None => self.defer_unread(now, id),
        }
    }

    /// Chooses the hosts of an attempt, or finds that there are none.
    fn launch(&mut self, now: Time, id: JobId) {
        let Some(running) = self.jobs.get(&id) else { return };
        if self.is_overdue(now, running.message) {
            return self.stop(now, id, Before::Overdue);
        }
        match self.queue.lane_key(running.lane).cloned() {
            Some(LaneKey::Hop(place)) => self.launch_by_rule(now, id, place),
            Some(LaneKey::Mx(_, domain)) => self.launch_by_mx(now, id, domain),
            Some(LaneKey::Stale) => self.follow_rules(now, id),
            Some(LaneKey::Unrouted(_)) => self.stop(now, id, Before::NoRoute),
            // All its deliveries were given up meanwhile.
            None => self.give_back(now, id, now),
        }
    }

    fn launch_by_rule(&mut self, now: Time, id: JobId, place: RulePlace) {
        let target = |endpoint: Endpoint| Target { endpoint, address: None };
        match self.options.router.rule(place).map(|rule| &rule.then) {
            Some(NextHop::Hosts(hosts)) => {
                let hosts: Vec<_> = hosts.iter().cloned().map(Endpoint::Tcp).collect();
                let targets = hosts.iter().cloned().map(target).collect();
                if self.has_place(now, id, hosts) {
                    self.attempt(now, id, Dialect::Smtp, (targets, None));
                }
            }
            Some(NextHop::Lmtp(endpoint)) => {
                let endpoint = endpoint.clone();
                match self.delivered_before(id) {
                    gone if gone.is_empty() => {
                        if self.has_place(now, id, vec![endpoint.clone()]) {
                            let targets = vec![target(endpoint)];
                            self.attempt(now, id, Dialect::Lmtp, (targets, None));
                        }
                    }
                    // The others are due again at once, without them.
                    gone => self.stop_round_trip(now, id, &gone),
                }
            }
            Some(NextHop::Refuse(refusal)) => {
                let cause = Cause {
                    class: Class::RouteRefused,
                    scope: Scope::Us,
                    reply: refusal.reply(),
                    remote: None,
                };
                self.conclude(now, id, None, &|_| {
                    Some((Verdict::No(cause.clone(), Fate::Final, Voice::Ours), None))
                });
            }
            Some(NextHop::Mx) | None => self.stop(now, id, Before::NoRoute),
        }
    }

    /// The recipients of an attempt whose mailboxes have had the message: it goes round.
    fn delivered_before(&self, id: JobId) -> Vec<u32> {
        let Some(Running { recipients, loaded: Some(loaded), .. }) = self.jobs.get(&id) else {
            return Vec::new();
        };
        let envelope = &loaded.accepted.envelope;
        let came_round = |place: &u32| {
            let recipient = usize::try_from(*place).ok().and_then(|p| envelope.recipients.get(p));
            recipient.is_some_and(|r| content::was_delivered(&loaded.header, &r.path))
        };
        recipients.iter().copied().filter(came_round).collect()
    }

    fn stop_round_trip(&mut self, now: Time, id: JobId, gone: &[u32]) {
        let (cause, fate) = outcome::own(Before::DeliveredBefore);
        self.conclude(now, id, None, &|recipient| {
            let verdict = || Verdict::No(cause.clone(), fate, Voice::Ours);
            gone.contains(&recipient).then(|| (verdict(), None))
        });
    }

    fn launch_by_mx(&mut self, now: Time, id: JobId, domain: Domain) {
        let fresh = self.known.get(&domain).filter(|(_, until)| *until > now);
        if let Some((answer, _)) = fresh.cloned() {
            return self.launch_with(now, id, &domain, &answer);
        }
        let waiting = self.asking.entry(domain.clone()).or_default();
        waiting.insert(id);
        if waiting.len() == 1 {
            self.outputs.push_back(Output::Ask(Question::Mx(domain)));
        }
    }

    fn answered(&mut self, now: Time, domain: &Domain, answer: &MxAnswer) {
        if let MxAnswer::Hosts { valid_until, .. } = answer {
            if self.known.len() >= KNOWN_MAX {
                self.known.retain(|_, (_, until)| *until > now);
            }
            if self.known.len() < KNOWN_MAX {
                self.known.insert(domain.clone(), (answer.clone(), *valid_until));
            }
        }
        for id in self.asking.remove(domain).unwrap_or_default() {
            self.launch_with(now, id, domain, answer);
        }
    }

    fn launch_with(&mut self, now: Time, id: JobId, domain: &Domain, answer: &MxAnswer) {
        let Some(job) = self.jobs.get(&id) else { return };
        match self.queue.lane_key(job.lane) {
            // The rules have changed while DNS was asked.
            Some(LaneKey::Stale) => return self.follow_rules(now, id),
            Some(LaneKey::Hop(_) | LaneKey::Mx(..) | LaneKey::Unrouted(_)) => {}
            // All its deliveries were given up meanwhile.
            None => return self.give_back(now, id, now),
        }
        match answer {
            MxAnswer::Hosts { hosts, is_proven, .. } => {
                let (ours, port) = (&self.options.hostname, self.options.port);
                match route::order(hosts, ours, port, &mut self.draw) {
                    Ok(targets) => {
                        let name = |host: &MxHost| HostPort { host: host.name.clone(), port };
                        let hosts = hosts.iter().map(name).map(Endpoint::Tcp).collect();
                        if self.has_place(now, id, hosts) {
                            let by_mx = ByMx { domain: domain.clone(), is_proven: *is_proven };
                            self.attempt(now, id, Dialect::Smtp, (targets, Some(by_mx)));
                        }
                    }
                    Err(before) => self.stop(now, id, before),
                }
            }
            MxAnswer::NoHost | MxAnswer::NoSuchDomain => {
                self.stop(now, id, Before::DomainUnknown);
            }
            MxAnswer::NullMx => self.stop(now, id, Before::NullMx),
            MxAnswer::Unknown { .. } => self.stop(now, id, Before::Dns),
        }
    }

    fn attempt(
        &mut self,
        now: Time,
        id: JobId,
        dialect: Dialect,
        (targets, by_mx): (Vec<Target>, Option<ByMx>),
    ) {
        let Some(Running { lane, message, recipients, loaded: Some(loaded), .. }) =
            self.jobs.get(&id)
        else {
            return;
        };
        let rule = self.rule_of(*lane).map_or_else(|| Arc::from(""), |r| Arc::clone(&r.name));
        // What was given up or held since it was taken is not tried any more.
        let living = |place: u32| {
            let delivery = DeliveryId { message: *message, recipient: place };
            let recipient =
                loaded.accepted.envelope.recipients.get(usize::try_from(place).ok()?)?;
            self.queue.is_taken(delivery).then(|| (place, recipient.clone()))
        };
        let recipients: Vec<(u32, Recipient)> =
            recipients.iter().filter_map(|&place| living(place)).collect();
        if recipients.is_empty() {
            return self.end(now, id);
        }
        let message = Arc::clone(loaded);
        let protection = Protection::of(&message, dialect);
        let job = Job { id, message, rule, recipients, dialect, protection, by_mx, targets };
        self.outputs.push_back(Output::Attempt(job));
    }

    /// Ends an attempt before any host was asked.
    fn stop(&mut self, now: Time, id: JobId, before: Before) {
        let (cause, fate) = outcome::own(before);
        self.conclude(now, id, None, &|_| {
            Some((Verdict::No(cause.clone(), fate, Voice::Ours), None))
        });
    }

    fn finished(&mut self, now: Time, id: JobId, report: &Report) {
        if let Some(running) = self.jobs.get_mut(&id) {
            running.health = Health::of(report);
        }
        let findings =
            report.findings.iter().map(|(place, finding, host)| (*place, (finding, *host)));
        let findings: BTreeMap<u32, (&Finding, Option<HostPlace>)> = findings.collect();
        self.conclude(now, id, Some(report), &|recipient| {
            let (finding, host) = *findings.get(&recipient)?;
            let verdict = match finding {
                Finding::Delivered(reply, handover) => Verdict::Yes(reply.clone(), *handover),
                Finding::NotDelivered(found) => {
                    let tried = host.and_then(|host| report.tried.get(host));
                    let remote = tried.map(|tried| tried.path.host.clone());
                    let (cause, fate) = outcome::classify_on(report.terms, found, remote);
                    Verdict::No(cause, fate, Voice::of(&found.fact))
                }
                Finding::TryAgain => return None,
            };
            Some((verdict, host))
        });
    }

    fn cancel(&mut self, now: Time, delivery: DeliveryId) {
        if self.lives(delivery) {
            let events = vec![(Event::Cancelled(delivery), None)];
            self.propose_end(now, delivery.message, &[delivery.recipient], events);
        }
    }

    /// Whether a delivery lives, and nothing is proposed that ends it.
    fn lives(&self, delivery: DeliveryId) -> bool {
        let unsettled = self.unsettled.get(&delivery.message);
        let is_ending = unsettled.is_some_and(|u| u.gone.contains(&delivery.recipient));
        self.queue.contains(delivery) && !is_ending
    }

    /// Proposes events after which these recipients are gone, and with the last of them the
    /// message.
    ///
    /// What was proposed before counts as done: groups are committed in the order in which they
    /// were proposed.
    fn propose_end(
        &mut self,
        now: Time,
        message: QueueId,
        gone: &[u32],
        mut events: Vec<(Event, Option<Vec<u8>>)>,
    ) {
        let unsettled = self.unsettled.entry(message).or_default();
        unsettled.gone.extend_from_slice(gone);
        if self.queue.is_last(message, &unsettled.gone) {
            events.push((Event::Retired(message), None));
        }
        self.propose(now, events);
    }

    fn propose(&mut self, now: Time, events: Vec<(Event, Option<Vec<u8>>)>) {
        let token = Token(self.next_token);
        self.next_token += 1;
        let group = Group { at: now, events };
        for message in group.messages() {
            self.unsettled.entry(message).or_default().groups += 1;
        }
        self.proposed.insert(token, group.clone());
        self.outputs.push_back(Output::Commit(token, group));
    }

    fn committed(&mut self, token: Token) {
        let Some(group) = self.proposed.remove(&token) else { return };
        for (event, _) in &group.events {
            self.queue.apply(group.at, event);
        }
        for message in group.messages() {
            if let Some(unsettled) = self.unsettled.get_mut(&message) {
                unsettled.groups -= 1;
                if unsettled.groups == 0 {
                    self.unsettled.remove(&message);
                }
            }
        }
    }
}

impl Group {
    /// The messages that its events are about; one may come more than once.
    pub fn messages(&self) -> impl Iterator<Item = QueueId> {
        use merpati_mail::event::Keeping;
        self.events.iter().filter_map(|(event, _)| match event.keeping() {
            Keeping::About(id) | Keeping::Closes(id) | Keeping::Opens(id) | Keeping::Stores(id) => {
                Some(id)
            }
            Keeping::Latest(_) => None,
        })
    }
}

impl ReportIds {
    const fn next(&mut self) -> QueueId {
        self.counter = self.counter.wrapping_add(1);
        QueueId::new(self.node, self.epoch, self.counter)
    }
}

/// Proposed groups that are not committed yet, beyond which no attempt begins: where the disk is
/// full or fails, no more than these could be sent twice.
const PROPOSED_MAX: usize = 4_096;
/// Answers about MX that are kept.
const KNOWN_MAX: usize = 10_000;

#[cfg(test)]
#[path = "core_tests.rs"]
mod tests;
