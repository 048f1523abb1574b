//! What the operator's verbs do: the control plane's side of the relay.
//!
//! Invariant: what is forgotten here is durably forgotten before it is said. Not pure: reads the
//! spool.

mod accept;
pub(crate) mod backup;
mod explain;
mod explain_tls;
mod queue;
mod trace;

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use futures_util::{
    StreamExt,
    stream::{self, BoxStream},
};
use merpati_console::{
    Admin, AdminError, Captured, Listing, NotReady, Page, Query, Selection, Status, Summary,
    admin::{Listener, Reloaded, SpoolFacts},
    explain::{AcceptAnswer, AcceptQuestion, RouteAnswer, RouteQuestion},
    explain_tls::TlsAnswer,
    health::{Examined, Finding, Grade},
    queue::{Grouping, Mode, Operated, QueueListing, QueuePage, Queued, Shape, Verb},
    sessions::{SessionFacts, TapLine},
    spool::BackedUp,
    trace::{TraceQuery, Traced},
};
use merpati_flow::alias::Aliases;
use merpati_mail::{Domain, Event, QueueId, Time};
use merpati_spool::{Group, Handle, SpoolError, Stored, StoredBody};
use tokio::{
    sync::{
        broadcast::{self, error::RecvError},
        mpsc, oneshot,
    },
    task::spawn_blocking,
};

pub use self::explain::RouteFacts;
use crate::{
    clock::Clock,
    committer::{Committer, Proposal, Refused},
    conductor::Conductor,
    config::Config,
    deliver::Deliverer,
    doctor,
    health::{Health, Life},
    listen::{Gate, Plan},
    pressure::Resource,
    resolve::Resolver,
    sessions::Sessions,
    sinks::Sinks,
    store::Store,
    world::World,
};

/// The relay, as its operator sees it.
#[derive(Debug)]
pub struct Control {
    /// The clock.
    pub clock: Arc<Clock>,
    /// When the process began.
    pub started_at: Time,
    /// Readiness.
    pub health: Arc<Health>,
    /// The way to the journal.
    pub committer: Committer,
    /// Contents.
    pub spool: Handle,
    /// The directory of the journal.
    pub directory: PathBuf,
    /// The directory of the history; `None` where there is none.
    pub history: Option<PathBuf>,
    /// Captured mail.
    pub store: Arc<Store>,
    /// Who is connected.
    pub sessions: Arc<Sessions>,
    /// Metrics.
    pub sinks: Sinks,
    /// The way to the queue.
    pub conductor: Conductor,
    /// What the configuration says.
    pub setup: Arc<Setups>,
    /// Who reads the configuration again.
    pub reload: mpsc::Sender<ReloadRequest>,
    /// What was found about the host last; who asks meanwhile waits for it.
    pub examined: Arc<tokio::sync::Mutex<Option<Examined>>>,
}

/// Somebody who waits for the end of a reload.
pub type ReloadRequest = oneshot::Sender<Result<Reloaded, AdminError>>;

/// The setup that holds, and its successors.
#[derive(Debug)]
pub struct Setups(RwLock<Arc<Setup>>);

impl Setups {
    /// This one, until [`Self::set`].
    pub const fn new(setup: Arc<Setup>) -> Self {
        Self(RwLock::new(setup))
    }

    /// This one from now on.
    pub fn set(&self, setup: Arc<Setup>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = setup;
    }

    /// The one that holds.
    pub fn get(&self) -> Arc<Setup> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What an operator sees of the configuration.
#[derive(Debug)]
pub struct Setup {
    /// All of it.
    pub config: Arc<Config>,
    /// The sockets.
    pub sockets: Vec<Socket>,
    /// What each listener admits, by its name.
    pub plans: Vec<Arc<Plan>>,
    /// Who answers the questions of admission.
    pub world: World,
    /// Who asks DNS.
    pub resolver: Resolver,
    /// Who delivers.
    pub deliverer: Deliverer,
    /// Our own host name.
    pub hostname: Domain,
    /// The port of hosts found by MX.
    pub mx_port: u16,
    /// What the configuration says of routes beyond the rules of the queue.
    pub routes: Vec<RouteFacts>,
    /// What addresses of ours stand for; `None` where there are no aliases.
    pub aliases: Option<Arc<Aliases>>,
}

/// A socket on which we listen.
#[derive(Clone, Debug)]
pub struct Socket {
    /// The name of the listener.
    pub name: String,
    /// The word for what becomes of what comes in.
    pub kind: &'static str,
    /// The true address.
    pub address: SocketAddr,
    /// Its connections; `None` where they are not counted.
    pub gate: Option<Arc<Gate>>,
    /// Whether it shows a certificate that the relay signed itself.
    pub is_self_signed: bool,
}

/// For how long what was found about the host is told again.
const HEALTH_KEPT: Duration = Duration::from_mins(1);

impl Admin for Control {
    fn now(&self) -> Time {
        self.clock.now()
    }

    fn readiness(&self) -> Result<(), NotReady> {
        let not = |reason: &str, advice: &[&str]| {
            let advice = advice.iter().map(ToString::to_string).collect();
            Err(NotReady { reason: reason.to_owned(), advice })
        };
        match self.health.life() {
            Life::Starting => not("The relay has not begun yet.", &[]),
            Life::Draining => not("The relay drains and is about to end.", &[]),
            Life::Failed(why) => not(
                &format!("The spool failed: {why}."),
                &["Look at the disk, then start the relay again; recovery decides what is there."],
            ),
            Life::Ready => match self.health.shortage() {
                Some(Resource::Disk) => not(
                    "The spool is full: new mail is refused with 452.",
                    &["Free some disk space, or raise spool.journal_max."],
                ),
                Some(Resource::Memory) => not(
                    "The relay is short of memory: new mail is refused with 452.",
                    &["It ends by itself when there is less to do, or raise limits.memory_max."],
                ),
                Some(Resource::Queue) => not(
                    "The queue is full: mail that would join it is refused with 452.",
                    &[
                        "See why mail waits: merpati queue ls. It ends by itself as mail leaves.",
                        "Where there is memory for more, raise limits.queue_max.",
                    ],
                ),
                None => Ok(()),
            },
        }
    }

    fn metrics(&self) -> String {
        self.sinks.metrics().text(&self.store)
    }

    fn status(&self) -> Status {
        let pressure = self.health.pressure();
        let sandbox = self.store.facts();
        let all = pressure.map_or(0, |pressure| pressure.messages as u64);
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_at: self.started_at,
            listeners: self.setup.get().sockets.iter().map(Socket::facts).collect(),
            spool: SpoolFacts {
                directory: self.directory.display().to_string(),
                messages: all.saturating_sub(sandbox.messages),
                size_bytes: pressure.map_or(0, |pressure| pressure.bytes_used),
                free_bytes: pressure.map(|pressure| pressure.bytes_free),
                segments_unread: pressure.map_or(0, |pressure| pressure.segments_unread as u64),
            },
            sandbox,
        }
    }

    fn drain(&self) {
        self.health.drain();
    }

    async fn health(&self) -> Examined {
        let (last, setup) = (Arc::clone(&self.examined), self.setup.get());
        let clock = Arc::clone(&self.clock);
        // By itself: who asks and hangs up must not make us begin anew each time.
        let looked = tokio::spawn(async move {
            let mut last = last.lock().await;
            let at = clock.now();
            if let Some(examined) = last.as_ref().filter(|it| at.since(it.at) < HEALTH_KEPT) {
                return examined.clone();
            }
            let findings = doctor::examine(&setup.config, &setup.resolver).await;
            let examined = Examined { at: clock.now(), findings: Arc::new(findings) };
            *last = Some(examined.clone());
            examined
        });
        looked.await.unwrap_or_else(|why| {
            let finding = Finding::new("relay", "", Grade::Unknown, why.to_string());
            Examined { at: self.clock.now(), findings: Arc::new(vec![finding]) }
        })
    }

    fn sessions(&self) -> Vec<SessionFacts> {
        self.sessions.facts(self.clock.now())
    }

    fn tap(&self) -> BoxStream<'static, TapLine> {
        stream::unfold(self.sessions.tap(), next_line).boxed()
    }

    async fn reload(&self) -> Result<Reloaded, AdminError> {
        let ends = || AdminError::Unavailable("the relay ends".to_owned());
        let (asked, told) = oneshot::channel();
        self.reload.send(asked).await.map_err(|_| ends())?;
        told.await.map_err(|_| ends())?
    }

    async fn list(&self, query: &Query, page: Page) -> Result<Listing, AdminError> {
        self.recovered().await?;
        Ok(self.store.list(query, page, self.clock.now()))
    }

    async fn wait(
        &self,
        query: &Query,
        after: Option<QueueId>,
        timeout: Duration,
    ) -> Result<Option<Summary>, AdminError> {
        let end = tokio::time::sleep(timeout);
        self.recovered().await?;
        let mut changes = self.store.watch();
        let mut life = self.health.watch();
        let ends = |life: &Life| matches!(life, Life::Draining | Life::Failed(_));
        tokio::pin!(end);
        loop {
            // Seen before looking, so that nothing that comes while we look is missed.
            changes.borrow_and_update();
            let found = self.store.first_after(query, after, self.clock.now());
            if found.is_some() {
                return Ok(found);
            }
            tokio::select! {
                _ = changes.changed() => {}
                () = &mut end => return Ok(None),
                _ = life.wait_for(ends) => return Ok(None),
            }
        }
    }

    async fn message(&self, id: QueueId) -> Result<Option<Captured>, AdminError> {
        self.recovered().await?;
        if !self.store.contains(id) {
            return Ok(None);
        }
        let spool = self.spool.clone();
        let read = spawn_blocking(move || read(&spool, id)).await;
        match read.map_err(|error| AdminError::Storage(error.to_string()))? {
            Ok((stored, content)) => {
                Ok(Some(Captured { id, envelope: stored.accepted.envelope, content }))
            }
            Err(SpoolError::Missing(_)) => Ok(None),
            Err(error) => Err(AdminError::Storage(error.to_string())),
        }
    }

    async fn forget(&self, id: QueueId) -> Result<bool, AdminError> {
        self.recovered().await?;
        if !self.store.contains(id) {
            return Ok(false);
        }
        let group = Group::of(self.clock.now(), Event::Retired(id));
        let committed = self.committer.commit(Proposal::of(group)).await;
        committed.map(|()| true).map_err(refused)
    }

    async fn clear(&self, query: &Query) -> Result<u64, AdminError> {
        self.recovered().await?;
        let at = self.clock.now();
        let ids = self.store.selected(query, at);
        let count = ids.len() as u64;
        let Some((last, others)) = ids.split_last() else { return Ok(0) };
        for id in others {
            self.committer.commit_lazily(Group::of(at, Event::Retired(*id))).map_err(refused)?;
        }
        // The journal keeps the order: when the last is durable, all are.
        let group = Group::of(at, Event::Retired(*last));
        self.committer.commit(Proposal::of(group)).await.map_err(refused)?;
        Ok(count)
    }

    async fn queue(
        &self,
        selection: &Selection,
        page: QueuePage,
    ) -> Result<QueueListing, AdminError> {
        self.recovered().await?;
        self.queue_page(selection, page).await
    }

    async fn shape(
        &self,
        selection: &Selection,
        by: Grouping,
        after: Option<QueueId>,
    ) -> Result<Shape, AdminError> {
        self.recovered().await?;
        self.queue_shape(selection, by, after).await
    }

    async fn queued(&self, id: QueueId) -> Result<Option<Queued>, AdminError> {
        self.recovered().await?;
        self.queue_message(id).await
    }

    async fn queued_content(&self, id: QueueId) -> Result<Option<Bytes>, AdminError> {
        self.recovered().await?;
        self.queue_content(id).await
    }

    async fn operate(
        &self,
        selection: &Selection,
        verb: &Verb,
        after: Option<QueueId>,
        mode: Mode,
    ) -> Result<Operated, AdminError> {
        self.recovered().await?;
        self.queue_operate(selection, verb, after, mode).await
    }

    async fn back_up(&self, directory: PathBuf) -> Result<BackedUp, AdminError> {
        self.recovered().await?;
        self.copy_spool(directory).await
    }

    async fn explain_route(&self, question: &RouteQuestion) -> Result<RouteAnswer, AdminError> {
        self.recovered().await?;
        self.explain(question).await
    }

    async fn explain_tls(&self, domain: &Domain) -> Result<TlsAnswer, AdminError> {
        self.recovered().await?;
        self.explain_protection(domain).await
    }

    async fn explain_accept(&self, question: &AcceptQuestion) -> Result<AcceptAnswer, AdminError> {
        self.setup.get().would_accept(question, self.clock.now()).await
    }

    async fn trace(&self, query: &TraceQuery, limit: usize) -> Result<Traced, AdminError> {
        self.recovered().await?;
        self.look_back(query, limit).await
    }
}

/// The next line of a tap; what it was too slow for is passed over.
async fn next_line(
    mut tap: broadcast::Receiver<TapLine>,
) -> Option<(TapLine, broadcast::Receiver<TapLine>)> {
    loop {
        match tap.recv().await {
            Ok(line) => return Some((line, tap)),
            Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => return None,
        }
    }
}

impl Control {
    /// Whether all is known that the spool held at the start; waits a moment for it.
    async fn recovered(&self) -> Result<(), AdminError> {
        if self.health.recovered(RECOVERY_WAIT).await {
            return Ok(());
        }
        Err(match self.health.life() {
            Life::Draining | Life::Failed(_) => {
                AdminError::Unavailable("the relay ends before it has read its spool".to_owned())
            }
            Life::Ready | Life::Starting => AdminError::Recovering,
        })
    }
}

impl Socket {
    /// One of the HTTP API.
    pub fn of_http(address: SocketAddr) -> Self {
        Self { name: "http".to_owned(), kind: "http", address, gate: None, is_self_signed: false }
    }

    /// One of the listener for the web.
    pub fn of_web(name: &str, address: SocketAddr, gate: Arc<Gate>, is_self_signed: bool) -> Self {
        Self { name: name.to_owned(), kind: "web", address, gate: Some(gate), is_self_signed }
    }

    fn facts(&self) -> Listener {
        Listener {
            name: self.name.clone(),
            kind: self.kind.to_owned(),
            address: self.address,
            connections: self.gate.as_ref().map_or(0, |gate| u64::from(gate.connections())),
            is_self_signed: self.is_self_signed,
        }
    }
}

/// Reads a message whole. Blocks for the disk.
fn read(spool: &Handle, id: QueueId) -> Result<(Stored, Bytes), SpoolError> {
    let stored = spool.read(id)?;
    let content = content(&stored.body, u64::MAX)?;
    Ok((stored, content))
}

/// The first octets of a content, at most `octets_max` of a large one. Blocks for the disk.
pub(crate) fn content(body: &StoredBody, octets_max: u64) -> Result<Bytes, SpoolError> {
    match body {
        StoredBody::Bytes(bytes) => Ok(bytes.clone()),
        StoredBody::File(file) => {
            let wanted = usize::try_from(file.len().min(octets_max)).unwrap_or(usize::MAX);
            let mut content = BytesMut::zeroed(wanted);
            let count = file.read_at(&mut content, 0)?;
            content.truncate(count);
            Ok(content.freeze())
        }
    }
}

fn refused(refused: Refused) -> AdminError {
    let why = match refused {
        Refused::Full => "there is no room",
        Refused::Poisoned => "the journal takes nothing any more",
        Refused::TooLarge => "the record is too large",
    };
    AdminError::Storage(why.to_owned())
}

/// How long a request waits for recovery: most are over by then.
const RECOVERY_WAIT: Duration = Duration::from_secs(5);
