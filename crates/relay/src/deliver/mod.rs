//! How one attempt is carried out on real sockets: host after host, over connections that are used
//! again.
//!
//! Invariant: every attempt gives a report with one finding for each of its recipients; a
//! connection is used again only where its session waits for a transaction. What a reply means,
//! and whether the next host is tried, is decided by `flow`. Not pure: sockets and time.

mod connection;
mod content;
mod counted;
mod dialogue;
mod guard;
mod options;
mod pool;
mod probe;
mod remembered;
mod results;
mod stream;

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use anyhow::Context;
use merpati_console::sessions::Direction;
use merpati_flow::{
    Dialect, Handover, Job, Report, Tried,
    attempt::{self, HostPlace, Progress},
    outcome::Terms,
    route::Target,
};
use merpati_mail::{
    Domain, EgressPath, NotConvertible, Recipient, Time,
    outcome::{Fact, Finding as Found, Phase},
    route::{Endpoint, Remote},
    transfer,
};
use merpati_smtp::client::{
    self, EightBitPolicy, Pipelining, RecipientResult, TlsUse, Transaction, TransactionResult,
};
use tokio::{sync::Semaphore, time::timeout};

use self::{
    connection::{Connection, Turn},
    content::Outgoing,
    guard::{Connectors, Guard, NotTried},
    pool::{Key, Permit, Pool, Seat},
    probe::Goal,
    remembered::Remembered,
    results::{finding, is_idle_end, is_pipelining_trouble, is_trouble, tell_why, wants_seven_bit},
    stream::{Socket, Stream},
};
pub use self::{
    content::Content,
    guard::Protected,
    options::{CertificateTrust, Egress, Options, Profile, Tools},
};
use crate::{
    certificates::Certificates,
    clock::Clock,
    resolve::Resolver,
    sessions::{About, Doing, Session},
    sinks::{Notice, Transcript},
    sts::Standing,
};

/// Carries out attempts; cheap to clone.
#[derive(Clone)]
pub struct Deliverer {
    shared: Arc<Shared>,
}

struct Shared {
    options: Options,
    connectors: BTreeMap<Arc<str>, Connectors>,
    resolver: Resolver,
    clock: Arc<Clock>,
    tools: Tools,
    pool: Pool,
    /// Hosts with which opportunistic TLS came to nothing.
    clear: Remembered,
    /// Hosts that may not be able to do PIPELINING, although they offer it.
    lock_step: Remembered,
    /// Contents that are encoded anew, one at a time: each is in memory twice.
    conversions: Semaphore,
}

impl fmt::Debug for Deliverer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deliverer").finish_non_exhaustive()
    }
}

impl Deliverer {
    /// Reads the trusted certificates. A task of the current runtime ends idle connections.
    pub fn new(options: Options, resolver: Resolver, tools: Tools) -> anyhow::Result<Self> {
        let clock = Arc::clone(&tools.clock);
        let mut connectors = BTreeMap::new();
        for (rule, profile) in &options.profiles {
            let connector = Connectors::new(profile).with_context(|| format!("route {rule}"))?;
            connectors.insert(Arc::clone(rule), connector);
        }
        let pool = Pool::new(options.connections_max, options.connections_per_host_max);
        let shared = Arc::new(Shared {
            options,
            connectors,
            resolver,
            clock,
            tools,
            pool,
            clear: Remembered::new(CLEAR_WAIT),
            lock_step: Remembered::new(LOCK_STEP_WAIT),
            conversions: Semaphore::new(1),
        });
        tokio::spawn(reap(Arc::downgrade(&shared)));
        Ok(Self { shared })
    }

    /// All certificates of ours that hosts are shown.
    pub fn certificates(&self) -> Vec<Arc<Certificates>> {
        let profiles = self.shared.options.profiles.values();
        profiles.filter_map(|profile| profile.certificates.clone()).collect()
    }

    /// Carries out an attempt at a message with this content.
    pub async fn attempt(&self, job: Job, content: Content) -> Report {
        let shared = &*self.shared;
        let began = shared.clock.now();
        let profile = shared.options.profiles.get(&job.rule);
        let terms = profile.map_or_else(Terms::default, |profile| profile.terms(&job));
        let progress = Progress::new(terms, job.recipients.clone());
        let mut run = Run {
            shared,
            job: &job,
            began,
            progress,
            tried: Vec::new(),
            guards: HashMap::new(),
            sts: None,
            has_failed_sts: false,
            goal: Goal::Deliver,
            is_verified: false,
        };
        match (profile, shared.connectors.get(&job.rule)) {
            (Some(profile), Some(connectors)) => {
                match Outgoing::new(content, &job.message.accepted.edits).await {
                    Ok(message) => run.go(profile, connectors, &message).await,
                    Err(error) => {
                        tracing::error!(%error, "a content cannot be read");
                        run.stop("our spool could not give the content");
                    }
                }
            }
            (None, _) | (_, None) => run.stop("the route is not known any more"),
        }
        run.report(terms)
    }

    /// Ends all idle connections politely.
    pub async fn close(&self) {
        let now = self.shared.clock.now();
        let mut ends = tokio::task::JoinSet::new();
        for connection in self.shared.pool.stale(now) {
            ends.spawn(connection.leave());
        }
        while ends.join_next().await.is_some() {}
    }
}

/// Ends connections that were idle for too long, as long as somebody may use them.
async fn reap(shared: std::sync::Weak<Shared>) {
    loop {
        tokio::time::sleep(REAP_PACE).await;
        let Some(shared) = shared.upgrade() else { return };
        let now = shared.clock.now();
        let idle = shared.options.idle_wait;
        let before = Time::from_micros(
            now.as_micros().saturating_sub(u64::try_from(idle.as_micros()).unwrap_or(u64::MAX)),
        );
        for connection in shared.pool.stale(before) {
            tokio::spawn(connection.leave());
        }
    }
}

/// An attempt under way.
struct Run<'a> {
    shared: &'a Shared,
    job: &'a Job,
    began: Time,
    progress: Progress,
    /// The hosts that were tried, at the address that was used.
    tried: Vec<Tried>,
    /// How hosts must be protected, as far as it is known.
    guards: HashMap<Domain, Result<Arc<Guard>, NotTried>>,
    /// What MTA-STS says of the domain; `None` where nobody has asked.
    sts: Option<Standing>,
    /// Whether a host has failed it.
    has_failed_sts: bool,
    goal: Goal,
    /// Whether a host said that it would take mail for the recipient.
    is_verified: bool,
}

/// What a rule means, for one attempt.
#[derive(Clone, Copy)]
struct Way<'a> {
    profile: &'a Profile,
    connectors: &'a Connectors,
    message: &'a Outgoing,
}

impl Run<'_> {
    async fn go(&mut self, profile: &Profile, connectors: &Connectors, message: &Outgoing) {
        let way = Way { profile, connectors, message };
        self.try_all(way).await;
        let is_over = self.progress.is_over() || self.is_verified || self.is_late();
        if !is_over && self.is_policy_renewed().await {
            self.try_all(way).await;
        }
        if self.job.targets.is_empty() {
            self.stop("there is no host to try");
        }
    }

    /// Tries one host after the other.
    async fn try_all(&mut self, way: Way<'_>) {
        for target in &self.job.targets {
            if self.progress.is_over() || self.is_verified || self.is_late() {
                break;
            }
            match &target.endpoint {
                Endpoint::Tcp(host) => self.try_host(way, target, &host.host, host.port).await,
                Endpoint::Unix(path) => {
                    self.try_place(way, target, Remote::Unix(path.clone())).await;
                }
            }
        }
    }

    /// Tries a host at each of its addresses.
    async fn try_host(&mut self, way: Way<'_>, target: &Target, host: &Domain, port: u16) {
        let addresses = match target.address {
            Some(address) => vec![address],
            None => match self.shared.resolver.addresses(host).await {
                Ok(addresses) => addresses,
                Err(trouble) => {
                    let fact = Fact::Unreachable(format!("{host}: {trouble}"));
                    let found = Found { phase: Phase::Resolve, fact };
                    return self.progress.note_all(&found, None);
                }
            },
        };
        for address in addresses.into_iter().take(ADDRESSES_MAX) {
            if self.progress.is_over() || self.is_verified || self.is_late() {
                return;
            }
            let remote = Remote::Ip(SocketAddr::new(address, port));
            self.try_place(way, target, remote).await;
        }
    }

    /// Tries one address or socket.
    async fn try_place(&mut self, way: Way<'_>, target: &Target, remote: Remote) {
        let host = target.endpoint.host();
        let port = match &remote {
            Remote::Ip(address) => address.port(),
            Remote::Unix(_) => 0,
        };
        let guard = self.guard(way.profile, way.connectors, (&host, port)).await;
        let place: HostPlace = self.tried.len();
        let path = EgressPath {
            source: way.profile.egress.name.to_string(),
            host,
            address: remote.clone(),
        };
        let policy = match &guard {
            Ok(guard) => guard.policy,
            Err(not_tried) => not_tried.policy,
        };
        self.tried.push(Tried { path, tls: None, policy: Some(policy) });
        let guard = match &guard {
            Ok(guard) => &**guard,
            Err(NotTried { found, .. }) => {
                self.count_passed_over(policy, found);
                return self.note_failure((found, policy), Some(place));
            }
        };
        if let (Remote::Ip(address), true) = (&remote, way.profile.is_mx)
            && !self.shared.resolver.permits(address.ip())
        {
            let found = unreachable(format!("mail must not lead to {}", address.ip()));
            return self.progress.note_all(&found, Some(place));
        }
        let mut may_reuse = true;
        let mut may_protect = true;
        for _ in 0..CONNECTIONS_PER_PLACE {
            let key = self.key(way.profile, guard, target, &remote);
            let connection = match self.seat(&key, may_reuse).await {
                Some(Seat::Idle(connection)) => Ok(connection),
                Some(Seat::New(permit)) => {
                    self.connect(way, guard, (key, permit), (remote.clone(), may_protect)).await
                }
                None => Err(unreachable("all connections to the host are in use".to_owned())),
            };
            let connection = match connection {
                Ok(connection) => connection,
                Err(found) => {
                    if self.falls_back((way.profile, guard), &found, None, &remote) && may_protect {
                        may_protect = false;
                        continue;
                    }
                    return self.note_failure((&found, policy), Some(place));
                }
            };
            match self.talk((way, guard), connection, place).await {
                Talked::Done => break,
                Talked::IdleEnd => may_reuse = false,
                Talked::Failed(found, tls) => {
                    let channel = if tls { attempt::Channel::Tls } else { attempt::Channel::Clear };
                    let about = (way.profile, guard);
                    if self.falls_back(about, &found, Some(channel), &remote) && may_protect {
                        may_protect = false;
                        may_reuse = false;
                        continue;
                    }
                    self.note_failure((&found, policy), Some(place));
                    break;
                }
            }
        }
        self.progress.leave(place);
    }

    /// Whether TLS is given up for this host, because it is not required and did not come about.
    fn falls_back(
        &self,
        (profile, guard): (&Profile, &Guard),
        found: &Found,
        channel: Option<attempt::Channel>,
        remote: &Remote,
    ) -> bool {
        let is_open = guard.tls == TlsUse::Opportunistic && profile.login.is_none();
        let channel = channel.unwrap_or(attempt::Channel::Clear);
        let falls = is_open && attempt::is_tls_trouble(found, channel);
        if falls {
            self.shared.clear.insert(remote, self.shared.clock.now());
        }
        falls
    }

    fn key(&self, profile: &Profile, guard: &Guard, target: &Target, remote: &Remote) -> Key {
        let (address, place): (_, Arc<str>) = match remote {
            Remote::Ip(address) => (Some(address.ip()), address.port().to_string().into()),
            Remote::Unix(path) => (None, path.as_str().into()),
        };
        Key {
            rule: Arc::clone(&self.job.rule),
            source: Arc::clone(&profile.egress.name),
            host: target.endpoint.host(),
            address,
            place,
            is_lmtp: self.job.dialect == Dialect::Lmtp,
            lock: guard.lock.clone(),
        }
    }

    /// A connection that may be used, or the right to make one; `None` where neither comes in time.
    async fn seat(&self, key: &Key, may_reuse: bool) -> Option<Seat> {
        let shared = self.shared;
        let usable = async {
            loop {
                let seat = shared.pool.seat(key, may_reuse).await;
                let Seat::Idle(mut connection) = seat else { return seat };
                if connection.is_silent().await {
                    return Seat::Idle(connection);
                }
            }
        };
        let left = shared.clock.until(self.began + shared.options.attempt_wait);
        timeout(left, usable).await.ok()
    }

    /// Makes a connection; its session then waits for a transaction, or has failed.
    async fn connect(
        &self,
        way: Way<'_>,
        guard: &Guard,
        (key, permit): (Key, Permit),
        (remote, may_protect): (Remote, bool),
    ) -> Result<Box<Connection>, Found> {
        let shared = self.shared;
        let shown = self.show(&key, &remote);
        let socket = match &remote {
            Remote::Ip(to) => {
                let from = way.profile.egress.source_for(*to).map_err(unreachable)?;
                timeout(shared.options.connect_wait, Socket::tcp(*to, from)).await
            }
            Remote::Unix(path) => timeout(shared.options.connect_wait, Socket::unix(path)).await,
        };
        let socket = match socket {
            Ok(Ok(socket)) => socket,
            Ok(Err(error)) => return Err(unreachable(error.to_string())),
            Err(_) => return Err(unreachable("no answer in time".to_owned())),
        };
        let mut stream = Stream::Clear(socket);
        let mut tls = None;
        if guard.tls == TlsUse::Implicit {
            shown.does(shared.clock.now(), Doing::Handshakes);
            let handshake = stream.handshake(&guard.connector, &key.host);
            let done = timeout(shared.options.timeouts.tls, handshake).await;
            let failed = |fact: Fact| Found { phase: Phase::StartTls, fact };
            let (protected, facts) = done
                .map_err(|_| failed(Fact::TimedOut))?
                .map_err(|error| failed(broken_handshake(&error)))?;
            stream = protected;
            tls = Some(facts);
        }
        let now = shared.clock.now();
        let may_protect = may_protect && !shared.clear.has(&remote, now);
        let mut options =
            shared.session_options((way.profile, guard), self.job.dialect, may_protect);
        if shared.lock_step.has(&remote, now) {
            options.pipelining = Pipelining::Never;
        }
        let tools = (guard.connector.clone(), Arc::clone(&shared.clock));
        shown.does(now, Doing::Talks);
        Ok(Box::new(Connection::new(key, (stream, tls), options, tools, (permit, shown))))
    }

    /// Shows a connection that is made to others.
    fn show(&self, key: &Key, remote: &Remote) -> Session {
        let about = About {
            name: key.rule.to_string(),
            peer: match remote {
                Remote::Ip(address) => Some(*address),
                Remote::Unix(_) => None,
            },
            host: key.host.to_string(),
            credential: None,
            message: Some(self.job.message.accepted.id),
        };
        let (now, sessions) = (self.shared.clock.now(), &self.shared.tools.sessions);
        sessions.begin(now, Direction::Out, Doing::Connects, about)
    }

    /// Hands over what it can on a connection.
    async fn talk(
        &mut self,
        (way, guard): (Way<'_>, &Guard),
        mut connection: Box<Connection>,
        place: HostPlace,
    ) -> Talked {
        let mut converted: Option<Outgoing> = None;
        let mut transactions = 0;
        // Whether the host was idle up to now, and may have ended the connection meanwhile.
        let mut was_idle = connection.transactions > 0;
        let trouble = match connection.transactions {
            0 => self.open(guard, &mut connection).await,
            _ => None,
        };
        if let Some(found) = trouble {
            let is_tls = connection.tls.is_some();
            self.tell(&connection, place);
            tokio::spawn(connection.finish());
            return Talked::Failed(found, is_tls);
        }
        loop {
            transactions += 1;
            let message = converted.as_ref().unwrap_or(way.message);
            match self.goal {
                Goal::Deliver => connection.start(self.transaction(message)),
                Goal::Verify => connection.verify(self.transaction(message)),
            }
            let results = self.transact(&mut connection, message).await;
            if let Some(tried) = self.tried.get_mut(place) {
                tried.tls.clone_from(&connection.tls);
            }
            let Some(mut results) = results else {
                self.tell(&connection, place);
                return Talked::Failed(cut(Phase::Mail), connection.tls.is_some());
            };
            if was_idle && is_idle_end(&results) {
                return Talked::IdleEnd;
            }
            if is_pipelining_trouble(&results)
                && let Some(tried) = self.tried.get(place)
            {
                self.shared.lock_step.insert(&tried.path.address, self.shared.clock.now());
            }
            if converted.is_none() && wants_seven_bit(&results) {
                match self.seven_bit(way.message, &mut results).await {
                    Ok(message) => converted = message,
                    Err(found) => return Talked::Failed(found, connection.tls.is_some()),
                }
                if converted.is_some() && self.waits(&mut connection).await {
                    continue;
                }
                if converted.is_some() {
                    return Talked::Failed(cut(Phase::Mail), connection.tls.is_some());
                }
            }
            // Nothing was sent where the content had to be encoded anew first; it was now.
            was_idle = false;
            if results.recipients.iter().any(|(_, result)| is_trouble(result)) {
                self.tell(&connection, place);
            }
            let by = self.job.message.accepted.envelope.requests.deliver_by;
            let handover = Handover::of(self.job.dialect, results.is_dsn_offered)
                .timed(by, results.is_deliver_by_offered);
            for (recipient, result) in results.recipients {
                self.is_verified |= result == RecipientResult::Verified;
                self.progress.note(recipient, finding(result, handover), place);
            }
            if !self.waits(&mut connection).await {
                break;
            }
            let is_done = !self.progress.is_crowded() || self.is_verified;
            if is_done || transactions >= TRANSACTIONS_MAX || self.is_late() {
                break self.give_back(connection);
            }
        }
        Talked::Done
    }

    /// Waits until a fresh connection is ready for a transaction; gives why it is not.
    async fn open(&self, guard: &Guard, connection: &mut Connection) -> Option<Found> {
        let trouble = opened(connection).await;
        if let Some(handshake) = connection.handshake() {
            self.shared.tools.sinks.metrics().tls_handshake(Direction::Out, handshake);
        }
        self.count_session(guard, connection, trouble.as_ref());
        trouble
    }

    /// The message as it goes to a host of 7 bits; `None` where it cannot go there, and `results`
    /// then say why. Errs where that could not be found out.
    async fn seven_bit(
        &self,
        message: &Outgoing,
        results: &mut TransactionResult,
    ) -> Result<Option<Outgoing>, Found> {
        if message.first().iter().any(|slice| attempt::keeps_eight_bit(slice)) {
            return Ok(Some(message.as_seven_bit()));
        }
        if message.size_octets > CONVERSION_OCTETS_MAX {
            return Ok(None);
        }
        match self.shared.convert(message).await {
            Some(Ok(converted)) => Ok(Some(converted)),
            Some(Err(why)) => {
                tell_why(results, why);
                Ok(None)
            }
            None => {
                let fact = Fact::Unreachable("our spool could not give the content".to_owned());
                Err(Found { phase: Phase::Content, fact })
            }
        }
    }

    /// One transaction; `None` where the connection ended without results.
    async fn transact(
        &self,
        connection: &mut Connection,
        message: &Outgoing,
    ) -> Option<TransactionResult> {
        loop {
            match connection.turn().await {
                Turn::NeedBody => {
                    connection.send(message).await;
                }
                Turn::Results(results) => return Some(results),
                Turn::Ready => {}
                Turn::Failed(_) | Turn::Over => return None,
            }
        }
    }

    /// Whether the connection waits for another transaction.
    async fn waits(&self, connection: &mut Connection) -> bool {
        matches!(connection.turn().await, Turn::Ready)
    }

    fn give_back(&self, mut connection: Box<Connection>) {
        connection.rest(self.shared.clock.now());
        if connection.transactions < self.shared.options.messages_per_connection_max {
            self.shared.pool.keep(connection);
        } else {
            tokio::spawn(connection.leave());
        }
    }

    fn transaction(&self, message: &Outgoing) -> Transaction {
        let accepted = &self.job.message.accepted;
        let left = self.progress.left();
        let recipients: Vec<(u32, Recipient)> =
            left.map(|(place, recipient)| (place, recipient.clone())).collect();
        Transaction {
            id: accepted.id,
            reverse_path: accepted.envelope.reverse_path.clone(),
            recipients,
            size_octets: message.size_octets,
            body: message.body.unwrap_or(accepted.envelope.body),
            eight_bit: message.eight_bit,
            utf8: accepted.envelope.utf8,
            header: message.header,
            ret: accepted.envelope.ret,
            envid: accepted.envelope.envid.clone(),
            requests: accepted.envelope.requests.clone(),
        }
    }

    /// Tells the history what was said with a host where it went wrong.
    fn tell(&self, connection: &Connection, place: HostPlace) {
        let Some(tried) = self.tried.get(place).filter(|_| self.goal == Goal::Deliver) else {
            return;
        };
        self.shared.tools.sinks.tell([Notice::Transcript(Transcript {
            at: self.shared.clock.now(),
            message: self.job.message.accepted.id,
            host: tried.path.host.to_string(),
            lines: connection.dialogue.lines(),
        })]);
    }

    fn is_late(&self) -> bool {
        self.shared.clock.now() >= self.began + self.shared.options.attempt_wait
    }

    fn stop(&mut self, why: &str) {
        let fact = Fact::Unreachable(why.to_owned());
        self.progress.stop(&Found { phase: Phase::Resolve, fact }, None);
    }

    fn report(mut self, terms: Terms) -> Report {
        if self.is_late() {
            let fact = Fact::Unreachable("the attempt took too long".to_owned());
            self.progress.note_all(&Found { phase: Phase::Connect, fact }, None);
        }
        let findings = self.progress.finish();
        Report { began: self.began, terms, tried: self.tried, findings }
    }
}

impl Shared {
    fn session_options(
        &self,
        (profile, guard): (&Profile, &Guard),
        dialect: Dialect,
        may_protect: bool,
    ) -> client::Options {
        let mut options = client::Options::new(profile.egress.hello.clone());
        options.dialect = match dialect {
            Dialect::Lmtp => client::Dialect::Lmtp,
            Dialect::Smtp => client::Dialect::Smtp,
        };
        options.tls = match guard.tls {
            TlsUse::Opportunistic if !may_protect => TlsUse::Never,
            TlsUse::Implicit => TlsUse::Implicit,
            TlsUse::Never => TlsUse::Never,
            TlsUse::Opportunistic => TlsUse::Opportunistic,
            TlsUse::Required => TlsUse::Required,
        };
        if profile.login.is_some() {
            let mut octets = [0; NONCE_OCTETS];
            let is_drawn = aws_lc_rs::rand::fill(&mut octets).is_ok();
            options.nonce = is_drawn.then(|| client::Nonce::from_random(octets));
        }
        options.ourselves = profile.is_mx.then(|| self.options.hostname.clone());
        options.credential.clone_from(&profile.login);
        options.eight_bit = EightBitPolicy::Refuse;
        options.recipients_max = self.options.recipients_max;
        options.timeouts = self.options.timeouts;
        options
    }

    /// The message in 7 bits; errs with what stands against it. `None` where it cannot be read.
    async fn convert(&self, message: &Outgoing) -> Option<Result<Outgoing, NotConvertible>> {
        let _one = self.conversions.acquire().await.ok()?;
        let all = message.all(CONVERSION_OCTETS_MAX).await.ok()??;
        let converted = tokio::task::spawn_blocking(move || transfer::seven_bit(&all)).await;
        Some(converted.ok()?.map(Outgoing::whole))
    }
}

/// How a talk with a host ended.
enum Talked {
    /// Each recipient that could be asked about was.
    Done,
    /// Before any transaction; and whether TLS ran.
    Failed(Found, bool),
    /// The host had ended the idle connection: nothing is known.
    IdleEnd,
}

/// Waits until a fresh connection is ready for a transaction; gives why it is not.
async fn opened(connection: &mut Connection) -> Option<Found> {
    match connection.turn().await {
        Turn::Ready => None,
        Turn::Failed(found) => Some(found),
        Turn::NeedBody | Turn::Over | Turn::Results(_) => Some(cut(Phase::Greeting)),
    }
}

fn unreachable(why: String) -> Found {
    Found { phase: Phase::Connect, fact: Fact::Unreachable(why) }
}

/// What an error of a handshake means: TLS that cannot be, or a connection that ended.
fn broken_handshake(error: &std::io::Error) -> Fact {
    if stream::is_of_tls(error) { Fact::Tls(error.to_string()) } else { Fact::Cut }
}

const fn cut(phase: Phase) -> Found {
    Found { phase, fact: Fact::Cut }
}

/// Addresses of one configured host that are tried.
const ADDRESSES_MAX: usize = 8;
/// Connections to one address in one attempt: an idle one that had ended, one whose TLS came to
/// nothing, and one in the clear.
const CONNECTIONS_PER_PLACE: usize = 3;
/// Transactions with one host in one attempt.
const TRANSACTIONS_MAX: usize = 10;
/// How long it is remembered that a host offers TLS and cannot speak it.
const CLEAR_WAIT: Duration = Duration::from_mins(10);
/// How long a host that seemed not to understand groups of commands gets one at a time.
const LOCK_STEP_WAIT: Duration = Duration::from_hours(24);
/// Octets of the largest message that is encoded anew.
const CONVERSION_OCTETS_MAX: u64 = 64 << 20;
/// How often idle connections are looked at.
const REAP_PACE: Duration = Duration::from_secs(1);
/// Random octets in the nonce of SCRAM.
const NONCE_OCTETS: usize = 24;
