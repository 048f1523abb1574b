//! What joins the parts: the order in which the relay starts and ends.
//!
//! Invariant: nothing listens before the end of the journal is found, nothing is delivered before
//! all of it is read, and nothing durable is touched before the lock of the spool is held. The end
//! is the reverse: sessions, journal, log. Not pure.

mod acme;
mod https;
mod inbound;
mod keys;
mod outbound;
pub(crate) mod plan;
mod recovery;
mod reload;
mod strangers;

use std::{
    fs, io,
    net::SocketAddr,
    num::NonZeroUsize,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{Arc, Mutex, PoisonError},
    thread::{JoinHandle, available_parallelism},
    time::Duration,
};

use anyhow::Context;
use aws_lc_rs::{digest, rand};
use merpati_console::{Guard, router};
use merpati_flow::{Core, alias::Aliases, queue::Fold};
use merpati_mail::{NodeId, Time};
use merpati_spool::{Disk, Options as SpoolOptions, Spool, Unread};
use tokio::{
    net::{TcpListener, UnixListener},
    runtime::Runtime,
    signal::unix::{Signal, SignalKind, signal},
    sync::{Semaphore, mpsc, watch},
    time::interval,
};

use self::{
    https::Web,
    inbound::{Door, Found, Gates, Opened},
    recovery::Recovering,
};
pub(crate) use self::{outbound::resolver, plan::policy};
#[cfg(feature = "opentelemetry")]
use crate::sinks::traces::Traces;
use crate::{
    acme::challenges::Challenges,
    admin::{Control, ReloadRequest, Setup, Setups, Socket},
    auth::Authenticator,
    certificates::Certificates,
    clock::Clock,
    committer::{Committer, Told},
    conductor::{Conductor, Hands, Inbox},
    config::{Config, LogTo},
    deliver::{Deliverer, Tools},
    domains, drop_box, durable,
    fresh::Fresh,
    health::{Health, Life},
    listen::{self, Shared},
    pressure::{Limits, watch::Watch},
    process::{self, Confinement, Notifier, Prepared, Sockets, watchdog},
    resolve::Resolver,
    self_signed,
    sessions::Sessions,
    sinks::{History, JOURNAL_SOCKET, LogWriter, Metrics, Notice, Rotation, Sinks, Target},
    srs,
    store::{Quota, Store},
    tls_reports::{self, Reports},
    world::{Memory, World},
};

/// Runs the relay until it is told to end: 0 after a drain, 74 after the journal failed.
///
/// `again` reads the configuration once more, or says in words what is wrong with it; `announce`
/// is called once, when everything listens.
pub fn run(config: Config, again: Again, announce: &mut dyn FnMut()) -> anyhow::Result<ExitCode> {
    start_tracing();
    // A second provider in the process would make rustls refuse to choose.
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    // Before there are threads: they would keep the rights that are given up.
    let prepared = process::prepare(&config)?;
    let mut node = Node::start(config, again, prepared)?;
    let workers = available_parallelism().map_or(WORKERS_MIN, NonZeroUsize::get).max(WORKERS_MIN);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(workers).enable_all().build()?;
    let result = runtime.block_on(node.serve(announce));
    node.end(runtime);
    result
}

/// Reads the configuration once more; errs with what is wrong with it, in words.
pub type Again = Box<dyn Fn() -> Result<Config, String> + Send>;

/// The parts that live as long as the process.
struct Node {
    config: Config,
    again: Again,
    sockets: Sockets,
    notifier: Notifier,
    clock: Arc<Clock>,
    started_at: Time,
    health: Arc<Health>,
    store: Arc<Store>,
    sinks: Sinks,
    committer: Committer,
    committer_thread: JoinHandle<()>,
    spool: merpati_spool::Handle,
    fresh: Arc<Fresh>,
    inbox: Arc<Inbox>,
    /// What the spool held, until the conductor reads it.
    unread: Option<Unread>,
    outbound: Option<Outbound>,
    /// Who counts how TLS went, and tells of it; `None` before anybody delivers.
    reports: Option<Reports>,
    /// What addresses of ours stand for; `None` where there are no aliases.
    aliases: Option<Arc<Aliases>>,
    greylist: Option<Arc<Memory>>,
    /// How many contents may be repaired at once.
    repairs: Arc<Semaphore>,
    sessions: Arc<Sessions>,
    gates: Gates,
    doors: Vec<Door>,
    /// The listener for the web; `None` where there is none.
    web: Option<Web>,
    /// What a CA may see.
    challenges: Arc<Challenges>,
    /// Where who orders certificates learns of the configuration; `None` before he does.
    ordering: Option<watch::Sender<Arc<Config>>>,
    /// What all listeners share; `None` before anybody listens.
    shared: Option<Arc<Shared>>,
    /// What the operator sees; `None` before he is served.
    setup: Option<Arc<Setups>>,
    limits: Option<Arc<Mutex<Limits>>>,
    listening: PathBuf,
}

/// Those who deliver.
struct Outbound {
    conductor: Conductor,
    thread: JoinHandle<()>,
    deliverer: Deliverer,
    resolver: Resolver,
}

impl Node {
    /// Locks the spool, finds its end and starts the threads. Nothing listens yet.
    fn start(config: Config, again: Again, prepared: Prepared) -> anyhow::Result<Self> {
        let Prepared { notifier, sockets, confinement } = prepared;
        if confinement == Confinement::NotHeld {
            tracing::warn!(
                "this kernel cannot hold the relay to where it may write (Landlock), or not wholly"
            );
        }
        let aliases = aliases(&config)?;
        let data_dir = &config.server.data_dir;
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(data_dir)
            .with_context(|| format!("cannot make {}", data_dir.display()))?;
        let options = spool_options(&config);
        let (disk, unread) = Disk::begin(&options)
            .with_context(|| format!("cannot open the spool in {}", options.dir.display()))?;
        let aliases = rewriting(aliases, &config)?;
        let listening = data_dir.join(LISTENING_FILE);
        durable::remove(&listening)?;
        let clock = Arc::new(Clock::start(unread.last_at()));
        let health = Arc::new(Health::default());
        let store = Arc::new(Store::new(quota(&config)));
        let sinks = Sinks::start(Arc::new(Metrics::default()), writer(&config)?)?;
        let spool = disk.handle();
        let inbox = Arc::new(Inbox::default());
        let told = Told {
            clock: Arc::clone(&clock),
            health: Arc::clone(&health),
            store: Arc::clone(&store),
            sinks: sinks.clone(),
            inbox: Arc::clone(&inbox),
        };
        let (committer, committer_thread) = Committer::start(Box::new(disk), told)?;
        let started_at = clock.now();
        Ok(Self {
            config,
            again,
            sockets,
            notifier,
            clock,
            started_at,
            health,
            store,
            sinks,
            committer,
            committer_thread,
            spool,
            fresh: Arc::new(Fresh::new(FRESH_OCTETS)),
            inbox,
            unread: Some(unread),
            outbound: None,
            reports: None,
            aliases,
            greylist: None,
            repairs: Arc::new(Semaphore::new(listen::REPAIRS_MAX)),
            sessions: Arc::default(),
            gates: Gates::new(),
            doors: Vec::new(),
            web: None,
            challenges: Arc::default(),
            ordering: None,
            shared: None,
            setup: None,
            limits: None,
            listening,
        })
    }

    /// Listens, serves, and drains.
    async fn serve(&mut self, announce: &mut dyn FnMut()) -> anyhow::Result<ExitCode> {
        let committer = self.committer.clone();
        tokio::spawn(async move { committer.tell().await });
        let watch = self.watch();
        self.limits = Some(watch.limits());
        tokio::spawn(watch.run());
        let opened = self.open()?;
        // Before anybody learns that we listen: a signal must not find us without a handler.
        let mut signals = Signals::new(opened.certificates())?;
        self.start_outbound(opened.addresses(&self.doors))?;
        signals
            .certificates
            .extend(self.outbound.iter().flat_map(|it| it.deliverer.certificates()));
        self.open_web()?;
        signals.certificates.extend(self.web.iter().map(Web::certificates));
        let shared = Arc::new(self.shared()?);
        let mut reloads = self.serve_control(&opened, &shared)?;
        announce();
        self.herald()?;
        self.gates.clone_from(&opened.gates);
        opened.adopt(&self.config, &mut self.doors, &shared);
        self.shared = Some(shared);
        self.collect_drops()?;
        self.run(&mut signals, &mut reloads).await;
        self.drain(&mut signals).await;
        durable::remove(&self.listening)?;
        Ok(match self.health.life() {
            Life::Failed(_) => ExitCode::from(EXIT_STORAGE),
            Life::Draining | Life::Ready | Life::Starting => ExitCode::SUCCESS,
        })
    }

    fn watch(&self) -> Watch {
        let (clock, health) = (Arc::clone(&self.clock), Arc::clone(&self.health));
        Watch::start(&self.config.limits, clock, health, self.sinks.clone())
    }

    /// Starts those who deliver, once all that the spool held is read; `own` are the sockets on
    /// which we listen.
    fn start_outbound(&mut self, own: Vec<SocketAddr>) -> anyhow::Result<()> {
        let Some(unread) = self.unread.take() else { return Ok(()) };
        let clock = Arc::clone(&self.clock);
        let resolver = resolver(&self.config, own, Arc::clone(&clock))?;
        outbound::prove(&self.config, &resolver, &self.sinks);
        let (places, options) =
            (tls_reports::Places::of(&self.config), tls_reports::Options::of(&self.config));
        let reports = Reports::new(places, options, resolver.clone(), Arc::clone(&clock));
        self.reports = Some(reports.context("the reports of TLS")?);
        let deliverer = outbound::deliverer(&self.config, resolver.clone(), self.tools())?;
        let options = outbound::core_options(&self.config, self.aliases.clone());
        let seed = seed()?;
        let recovering = Recovering {
            unread,
            spool: self.spool.clone(),
            queue: Fold::new(options.router.clone(), options.hostname.clone()),
            committer: self.committer.clone(),
            clock: Arc::clone(&clock),
            health: Arc::clone(&self.health),
            store: Arc::clone(&self.store),
            sinks: self.sinks.clone(),
            digest: config_digest(&self.config),
        };
        let begin = move |inbox: &Inbox| {
            recovering.read(inbox, |queue, epoch| {
                Core::with_queue(options, queue, (NodeId::default(), epoch), seed)
            })
        };
        let hands = Hands {
            clock,
            committer: self.committer.clone(),
            spool: self.spool.clone(),
            fresh: Arc::clone(&self.fresh),
            resolver: resolver.clone(),
            deliverer: deliverer.clone(),
            sinks: self.sinks.clone(),
            runtime: tokio::runtime::Handle::current(),
        };
        let (conductor, thread) =
            Conductor::start(Box::new(begin), Arc::clone(&self.inbox), hands)?;
        self.outbound = Some(Outbound { conductor, thread, deliverer, resolver });
        Ok(())
    }

    fn shared(&mut self) -> anyhow::Result<Shared> {
        let outbound = self.outbound.as_ref().context("nobody delivers yet")?;
        let askers = (outbound.resolver.clone(), outbound.deliverer.clone());
        self.greylist = strangers::greylist(&self.config, &self.clock);
        let told = (Arc::clone(&self.clock), self.sinks.clone());
        let world = strangers::world(&self.config, askers, self.greylist.clone(), told)?;
        self.shared_with(&self.config, Authenticator::of(&self.config)?, world)
    }

    /// The listeners that the process begins with.
    fn open(&mut self) -> anyhow::Result<Opened> {
        let tables = (&self.config, self.aliases.as_ref());
        Opened::new(tables, Found::Sockets(&mut self.sockets), &self.gates)
    }

    /// What all listeners share by this configuration.
    fn shared_with(
        &self,
        config: &Config,
        authenticator: Authenticator,
        world: World,
    ) -> anyhow::Result<Shared> {
        Ok(Shared {
            hostname: config.server.hostname.clone(),
            clock: Arc::clone(&self.clock),
            committer: self.committer.clone(),
            spool: self.spool.clone(),
            fresh: Arc::clone(&self.fresh),
            authenticator: Arc::new(authenticator),
            health: Arc::clone(&self.health),
            world,
            repairs: Arc::clone(&self.repairs),
            sessions: Arc::clone(&self.sessions),
            signers: domains::signers(config)?,
            sinks: self.sinks.clone(),
        })
    }

    /// What who delivers needs.
    fn tools(&self) -> Tools {
        Tools {
            clock: Arc::clone(&self.clock),
            sinks: self.sinks.clone(),
            policies: None,
            tally: self.reports.as_ref().map(Reports::tally),
            sessions: Arc::clone(&self.sessions),
        }
    }

    fn set_limits(&self, limits: Limits) {
        self.sinks.metrics().limits(&limits);
        if let Some(shared) = &self.limits {
            *shared.lock().unwrap_or_else(PoisonError::into_inner) = limits;
        }
    }

    /// Serves the operator's verbs on the Unix socket and over TCP, and says that all is ready.
    fn serve_control(
        &mut self,
        opened: &Opened,
        shared: &Shared,
    ) -> anyhow::Result<mpsc::Receiver<ReloadRequest>> {
        let mut sockets = opened.sockets(&self.config, &self.doors);
        let outbound = self.outbound.as_ref().context("nobody delivers yet")?;
        let unix = match self.sockets.control() {
            Some(passed) => UnixListener::from_std(passed)?,
            None => listen_at(&self.config.server.control_socket)?,
        };
        let mut http = Vec::new();
        for socket in self.sockets.http(&self.config)? {
            let socket = TcpListener::from_std(socket)?;
            let address = socket.local_addr()?;
            sockets.push(Socket::of_http(address));
            http.push(socket);
        }
        sockets.extend(self.web.iter().flat_map(|web| web.sockets(&self.config)));
        let listeners: Vec<(String, SocketAddr)> =
            sockets.iter().map(|socket| (socket.name.clone(), socket.address)).collect();
        let setup = Arc::new(Setups::new(Arc::new(Setup {
            config: Arc::new(self.config.clone()),
            sockets,
            plans: opened.plans.clone(),
            world: shared.world.clone(),
            resolver: outbound.resolver.clone(),
            deliverer: outbound.deliverer.clone(),
            hostname: self.config.server.hostname.clone(),
            mx_port: self.config.delivery.port.get(),
            routes: outbound::route_facts(&self.config),
            aliases: self.aliases.clone(),
        })));
        let (reload, reloads) = mpsc::channel(RELOADS_MAX);
        let control = Arc::new(Control {
            clock: Arc::clone(&self.clock),
            started_at: self.started_at,
            health: Arc::clone(&self.health),
            committer: self.committer.clone(),
            spool: self.spool.clone(),
            directory: spool_dir(&self.config),
            history: history(&self.config).map(|(directory, _)| directory),
            store: Arc::clone(&self.store),
            sessions: Arc::clone(&self.sessions),
            sinks: self.sinks.clone(),
            conductor: outbound.conductor.clone(),
            setup: Arc::clone(&setup),
            reload,
            examined: Arc::default(),
        });
        let local = router(Arc::clone(&control), Guard::Socket);
        tokio::spawn(async move { axum::serve(unix, local).await });
        let names = vec![self.config.server.hostname.to_string()];
        for socket in http {
            let network = Guard::Network { names: names.clone() };
            let routes = router(Arc::clone(&control), network);
            tokio::spawn(async move { axum::serve(socket, routes).await });
        }
        self.health.ready();
        self.say_where(&listeners)?;
        self.sinks.tell([Notice::Started { at: self.clock.now(), listeners }]);
        self_signed::tell(&self.config, self.clock.now(), &self.sinks);
        self.setup = Some(setup);
        Ok(reloads)
    }

    /// Tells the service manager that all listens, and from now on how the relay is.
    fn herald(&self) -> anyhow::Result<()> {
        self.notifier.ready();
        let outbound = self.outbound.as_ref().context("nobody delivers yet")?;
        let (notifier, health) = (self.notifier.clone(), Arc::clone(&self.health));
        let (committer, conductor) = (self.committer.clone(), outbound.conductor.clone());
        tokio::spawn(watchdog::keep(notifier, health, committer, conductor));
        Ok(())
    }

    /// Writes the true addresses to a file, for those who start us on free ports.
    fn say_where(&self, listeners: &[(String, SocketAddr)]) -> anyhow::Result<()> {
        let lines = listeners.iter().map(|(name, address)| format!("{name} {address}\n"));
        let draft = self.listening.with_extension("new");
        fs::write(&draft, lines.collect::<String>())?;
        fs::rename(&draft, &self.listening)?;
        Ok(())
    }

    /// Has mail collected that programs of this machine have left.
    fn collect_drops(&self) -> anyhow::Result<()> {
        let Some(setup) = &self.setup else { return Ok(()) };
        let directory = self.config.server.data_dir.join(drop_box::DIRECTORY);
        drop_box::make(&directory).context("cannot make the drop directory")?;
        tokio::spawn(drop_box::collect(directory, Arc::clone(setup)));
        Ok(())
    }

    /// Until a signal, the operator or the journal ends us; reloads in between.
    async fn run(&mut self, signals: &mut Signals, reloads: &mut mpsc::Receiver<ReloadRequest>) {
        let mut life = self.health.watch();
        let (mut look, (bell, mut keys)) = (interval(KEYS_LOOK), mpsc::channel(1));
        let (ordering, mut ordered) = self.order_certificates();
        self.ordering = Some(ordering);
        loop {
            tokio::select! {
                _ = look.tick() => self.look_after_keys(&bell),
                Some(()) = keys.recv() => self.take_up_keys(),
                Some(()) = ordered.recv() => signals.refresh().await,
                signalled = signals.next() => match signalled {
                    Signalled::End => return self.health.drain(),
                    Signalled::Reload => {
                        // Who sent a signal reads the log.
                        self.reload(signals).ok();
                    }
                },
                Some(asked) = reloads.recv() => {
                    let done = self.reload(signals);
                    // Who is gone need not know.
                    asked.send(done).ok();
                }
                _ = life.wait_for(|life| matches!(life, Life::Draining | Life::Failed(_))) => {
                    return;
                }
            }
        }
    }

    /// Lets sessions and attempts end; those that do not in time are cut. A second signal cuts them
    /// at once.
    async fn drain(&self, signals: &mut Signals) {
        let wait = match self.health.life() {
            Life::Failed(_) => self.config.server.drain_wait.min(FAILED_WAIT),
            Life::Draining | Life::Ready | Life::Starting => self.config.server.drain_wait,
        };
        self.notifier.stopping(wait);
        let conductor = self.outbound.as_ref().map(|outbound| &outbound.conductor);
        if let Some(conductor) = conductor {
            conductor.drain();
        }
        let is_busy = || {
            self.gates.values().any(|gate| gate.connections() > 0)
                || conductor.is_some_and(|conductor| conductor.jobs() > 0)
        };
        let all_gone = async {
            while is_busy() {
                tokio::time::sleep(DRAIN_LOOK).await;
            }
        };
        tokio::select! {
            () = all_gone => {}
            () = tokio::time::sleep(wait) => {}
            () = signals.end() => {}
        }
        if let Some(outbound) = &self.outbound {
            outbound.deliverer.close().await;
        }
        if let Some(reports) = &self.reports {
            // Where one is being sent, the counts of the last minute are not worth waiting for it.
            tokio::time::timeout(REPORTS_WAIT, reports.keep()).await.ok();
        }
    }

    /// Commits what waits, writes the log and ends the threads.
    fn end(self, runtime: Runtime) {
        if let Some(outbound) = self.outbound {
            outbound.conductor.end();
            if outbound.thread.join().is_err() {
                tracing::error!("the conductor panicked");
            }
        }
        self.committer.end();
        if self.committer_thread.join().is_err() {
            tracing::error!("the committer panicked");
        }
        if let Some(greylist) = &self.greylist {
            greylist.save();
        }
        self.sinks.tell([Notice::Stopped { at: self.clock.now() }]);
        runtime.shutdown_timeout(SHUTDOWN_WAIT);
        self.sinks.end();
        if !self.sockets.is_control_passed() {
            fs::remove_file(&self.config.server.control_socket).ok();
        }
    }
}

/// What the operating system may tell us.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
    /// Looked at again now and then.
    certificates: Vec<Arc<Certificates>>,
}

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Signalled {
    /// To end.
    End,
    /// To read the configuration again.
    Reload,
}

impl Signals {
    fn new(certificates: Vec<Arc<Certificates>>) -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
            certificates,
        })
    }

    /// Until one of them asks us to end; to reload is too late by then.
    async fn end(&mut self) {
        while self.next().await != Signalled::End {}
    }

    /// Until one of them asks for something; reads certificates that have changed meanwhile.
    async fn next(&mut self) -> Signalled {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return Signalled::End,
                _ = self.interrupt.recv() => return Signalled::End,
                _ = self.hang_up.recv() => return Signalled::Reload,
                () = tokio::time::sleep(CERTIFICATES_LOOK) => self.refresh().await,
            }
        }
    }

    /// Reads the certificates that have changed.
    async fn refresh(&self) {
        let certificates = self.certificates.clone();
        let read = move || certificates.iter().for_each(|one| one.refresh());
        if tokio::task::spawn_blocking(read).await.is_err() {
            tracing::error!("reading the certificates panicked");
        }
    }
}

/// These aliases, with who rewrites senders where somebody does; his key is made where it is not
/// there.
fn rewriting(
    aliases: Option<Arc<Aliases>>,
    config: &Config,
) -> anyhow::Result<Option<Arc<Aliases>>> {
    let Some(srs) = srs::of(config)? else { return Ok(aliases) };
    Ok(aliases.map(|aliases| Arc::new(Arc::unwrap_or_clone(aliases).with_srs(srs))))
}

/// The aliases; what is doubtful about them is told.
fn aliases(config: &Config) -> anyhow::Result<Option<Arc<Aliases>>> {
    let tables = config.aliases().map_err(|why| anyhow::anyhow!("{why}"))?;
    if let Some(doubts) = tables.doubts {
        tracing::warn!("{}", doubts.as_warnings());
    }
    Ok(tables.aliases)
}

fn spool_options(config: &Config) -> SpoolOptions {
    let mut options = SpoolOptions::new(spool_dir(config), NodeId::default());
    options.segment_bytes = config.spool.segment_size.0;
    options.bytes_max = config.spool.journal_max.map_or(u64::MAX, |bytes| bytes.0);
    options.free_bytes_min = config.spool.disk_free_min.0;
    options
}

/// What is kept of captured mail.
fn quota(config: &Config) -> Quota {
    let sandbox = &config.sandbox;
    Quota {
        messages_max: sandbox
            .keep_count_max
            .map_or(usize::MAX, |count| usize::try_from(count).unwrap_or(usize::MAX)),
        bytes_max: sandbox.keep_bytes_max.map_or(u64::MAX, |bytes| bytes.0),
        age_max: sandbox.keep_age_max.unwrap_or(Duration::MAX),
    }
}

/// Who writes down what happens.
fn writer(config: &Config) -> anyhow::Result<LogWriter> {
    let mut writer = LogWriter::open(&target(config)).context("cannot open the mail log")?;
    if let Some((directory, octets_max)) = history(config) {
        let history = History::open(&directory, octets_max);
        writer = writer.remembering(history.context("cannot open the history")?);
    }
    #[cfg(feature = "opentelemetry")]
    if let Some(collector) = &config.telemetry.traces_to {
        let traces = Traces::start(collector.as_str(), &config.server.hostname.to_string());
        writer = writer.tracing(traces.context("cannot begin to send traces")?);
    }
    Ok(writer)
}

/// Where the mail log goes.
fn target(config: &Config) -> Target {
    match &config.log.to {
        LogTo::File(path) => Target::File(
            path.clone(),
            Rotation {
                size_max: config.log.size_max.map(|size| size.0),
                files_max: config.log.files_max,
            },
        ),
        LogTo::Journal => Target::Journal(JOURNAL_SOCKET.into()),
        LogTo::Off => Target::Off,
        LogTo::Stdout => Target::Stdout,
    }
}

/// What the jitter of retries and the order of equal hosts begin with.
fn seed() -> anyhow::Result<u64> {
    let mut octets = [0; 8];
    rand::fill(&mut octets).map_err(|_| anyhow::anyhow!("the machine gives no random octets"))?;
    Ok(u64::from_le_bytes(octets))
}

/// SHA-256 of the configuration as it holds, without where it was set.
fn config_digest(config: &Config) -> [u8; 32] {
    let mut hash = digest::Context::new(&digest::SHA256);
    for option in &config.effective {
        hash.update(format!("{} = {}\n", option.key, option.value).as_bytes());
    }
    hash.finish().as_ref().try_into().unwrap_or_default()
}

fn spool_dir(config: &Config) -> PathBuf {
    config.server.data_dir.join("spool")
}

/// The directory of the history and its size in octets; `None` where nothing is kept.
fn history(config: &Config) -> Option<(PathBuf, u64)> {
    let octets_max = config.history.size_max?.0;
    Some((config.server.data_dir.join("history"), octets_max))
}

/// Opens a Unix socket for ourselves alone.
fn listen_at(path: &Path) -> anyhow::Result<UnixListener> {
    durable::remove(path)?;
    let socket =
        UnixListener::bind(path).with_context(|| format!("cannot listen on {}", path.display()))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    Ok(socket)
}

/// Developers' messages go to standard error; `MERPATI_TRACE` chooses them. Never parsed.
fn start_tracing() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("MERPATI_TRACE")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(TRACED));
    // Somebody who embeds us may have set up his own.
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).try_init().ok();
}

/// What is told unless `MERPATI_TRACE` says otherwise. The library of DNS warns of each answer that
/// cannot be proven; what that means, we say ourselves.
const TRACED: &str = "warn,hickory_net=error,hickory_resolver=error";
/// Octets of accepted mail that are kept in memory until they are delivered.
const FRESH_OCTETS: usize = 64 << 20;
/// The file in the data directory that lists the true addresses while the relay runs.
pub const LISTENING_FILE: &str = "listening";
/// Threads that serve connections, at least; there are as many as cores that we may use.
const WORKERS_MIN: usize = 2;
/// How long sessions may go on after the journal failed.
const FAILED_WAIT: Duration = Duration::from_secs(5);
/// How long counts may take to be written when the relay ends.
const REPORTS_WAIT: Duration = Duration::from_secs(5);
/// How often draining looks whether all sessions have ended.
const DRAIN_LOOK: Duration = Duration::from_millis(20);
/// How often it is looked whether files of certificates have changed.
const CERTIFICATES_LOOK: Duration = Duration::from_mins(1);
/// How often the keys of domains are looked after.
const KEYS_LOOK: Duration = Duration::from_hours(1);
/// Requests to reload that wait for another reload.
const RELOADS_MAX: usize = 4;
/// How long tasks that block may hold up the end.
const SHUTDOWN_WAIT: Duration = Duration::from_millis(500);
/// `EX_IOERR` of sysexits: the journal failed.
const EXIT_STORAGE: u8 = 74;
