//! What joins the parts: the order in which the relay starts and ends.
//!
//! Invariant: nothing listens before the end of the journal is found, nothing is delivered before
//! all of it is read, and nothing durable is touched before the lock of the spool is held. The end
//! is the reverse: sessions, journal, log. Not pure.

mod outbound;
pub(crate) mod plan;
mod recovery;
mod strangers;

use std::{
    fs, io,
    net::SocketAddr,
    num::NonZeroUsize,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    thread::{JoinHandle, available_parallelism},
    time::Duration,
};

use anyhow::Context;
use aws_lc_rs::{digest, rand};
use merpati_console::{Guard, router};
use merpati_flow::{Core, queue::Queue};
use merpati_mail::{NodeId, Time};
use merpati_spool::{Disk, Options as SpoolOptions, Spool, Unread};
use tokio::{
    net::{TcpListener, UnixListener},
    runtime::Runtime,
    signal::unix::{Signal, SignalKind, signal},
    sync::Semaphore,
};

use self::recovery::Recovering;
use crate::{
    admin::{Control, Socket},
    auth::Authenticator,
    certificates::Certificates,
    clock::Clock,
    committer::{Committer, Told},
    conductor::{Conductor, Hands, Inbox},
    config::{Config, LogTo},
    deliver::Deliverer,
    fresh::Fresh,
    health::{Health, Life},
    listen::{self, Gate, Shared},
    pressure::watch::Watch,
    process::{self, Notifier, Prepared, Sockets, watchdog},
    resolve::Resolver,
    self_signed,
    sinks::{LogWriter, Metrics, Notice, Sinks, Target},
    store::{Quota, Store},
    world::Memory,
};

/// Runs the relay until it is told to end: 0 after a drain, 74 after the journal failed.
///
/// `announce` is called once, when everything listens.
pub fn run(config: Config, announce: &mut dyn FnMut()) -> anyhow::Result<ExitCode> {
    start_tracing();
    // A second provider in the process would make rustls refuse to choose.
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    // Before there are threads: they would keep the rights that are given up.
    let prepared = process::prepare(&config)?;
    let mut node = Node::start(config, prepared)?;
    let workers = available_parallelism().map_or(WORKERS_MIN, NonZeroUsize::get).max(WORKERS_MIN);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(workers).enable_all().build()?;
    let result = runtime.block_on(node.serve(announce));
    node.end(runtime);
    result
}

/// The parts that live as long as the process.
struct Node {
    config: Config,
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
    greylist: Option<Arc<Memory>>,
    gates: Vec<Arc<Gate>>,
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
    fn start(config: Config, prepared: Prepared) -> anyhow::Result<Self> {
        let Prepared { notifier, sockets } = prepared;
        let data_dir = &config.server.data_dir;
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(data_dir)
            .with_context(|| format!("cannot make {}", data_dir.display()))?;
        let options = spool_options(&config);
        let (disk, unread) = Disk::begin(&options)
            .with_context(|| format!("cannot open the spool in {}", options.dir.display()))?;
        let listening = data_dir.join(LISTENING_FILE);
        remove_stale(&listening)?;
        let sandbox = &config.sandbox;
        let quota = Quota {
            messages_max: sandbox
                .keep_count_max
                .map_or(usize::MAX, |count| usize::try_from(count).unwrap_or(usize::MAX)),
            bytes_max: sandbox.keep_bytes_max.map_or(u64::MAX, |bytes| bytes.0),
            age_max: sandbox.keep_age_max.unwrap_or(Duration::MAX),
        };
        let clock = Arc::new(Clock::start(unread.last_at()));
        let health = Arc::new(Health::default());
        let store = Arc::new(Store::new(quota));
        let target = match &config.log.to {
            LogTo::File(path) => Target::File(path.clone()),
            LogTo::Off => Target::Off,
            LogTo::Stdout => Target::Stdout,
        };
        let writer = LogWriter::open(&target).context("cannot open the mail log")?;
        let sinks = Sinks::start(Arc::new(Metrics::default()), writer)?;
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
        let gates = config.listeners.iter().map(|listener| Gate::new(plan::limits(listener)));
        let (gates, started_at) = (gates.collect(), clock.now());
        Ok(Self {
            config,
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
            greylist: None,
            gates,
            listening,
        })
    }

    /// Listens, serves, and drains.
    async fn serve(&mut self, announce: &mut dyn FnMut()) -> anyhow::Result<ExitCode> {
        let committer = self.committer.clone();
        tokio::spawn(async move { committer.tell().await });
        tokio::spawn(self.watch().run());
        let mut sockets = Vec::new();
        let (mut loops, mut certificates) = (Vec::new(), Vec::new());
        for (listener, gate) in self.config.listeners.iter().zip(&self.gates) {
            let plan = Arc::new(plan::plan(&self.config, listener, gate)?);
            certificates.extend(plan.certificates.clone());
            for socket in self.sockets.of(&self.config, listener)? {
                let socket = TcpListener::from_std(socket)?;
                sockets.push(Socket {
                    name: listener.name.as_str().to_owned(),
                    kind: listener.kind.word(),
                    address: socket.local_addr()?,
                    gate: Some(Arc::clone(gate)),
                    is_self_signed: self_signed::is_for(listener),
                });
                loops.push((socket, Arc::clone(&plan)));
            }
        }
        // Before anybody learns that we listen: a signal must not find us without a handler.
        let mut signals = Signals::new(certificates)?;
        let own = sockets.iter().map(|socket| socket.address).collect();
        self.start_outbound(own)?;
        let shared = Arc::new(self.shared()?);
        self.serve_control(sockets)?;
        announce();
        self.herald()?;
        for (socket, plan) in loops {
            tokio::spawn(listen::accept(socket, plan, Arc::clone(&shared)));
        }
        self.wait_for_end(&mut signals).await;
        self.drain(&mut signals).await;
        remove_stale(&self.listening)?;
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
        let resolver = outbound::resolver(&self.config, own, Arc::clone(&clock))?;
        let deliverer = outbound::deliverer(&self.config, resolver.clone(), Arc::clone(&clock))?;
        let options = outbound::core_options(&self.config);
        let seed = seed()?;
        let recovering = Recovering {
            unread,
            spool: self.spool.clone(),
            queue: Queue::new(options.router.clone(), options.hostname.clone()),
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
        Ok(Shared {
            hostname: self.config.server.hostname.clone(),
            clock: Arc::clone(&self.clock),
            committer: self.committer.clone(),
            spool: self.spool.clone(),
            fresh: Arc::clone(&self.fresh),
            authenticator: Authenticator::of(&self.config)?,
            health: Arc::clone(&self.health),
            world,
            repairs: Semaphore::new(listen::REPAIRS_MAX),
            sinks: self.sinks.clone(),
        })
    }

    /// Serves the operator's verbs on the Unix socket and over TCP, and says that all is ready.
    fn serve_control(&mut self, mut sockets: Vec<Socket>) -> anyhow::Result<()> {
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
        let listeners: Vec<(String, SocketAddr)> =
            sockets.iter().map(|socket| (socket.name.clone(), socket.address)).collect();
        let control = Arc::new(Control {
            clock: Arc::clone(&self.clock),
            started_at: self.started_at,
            health: Arc::clone(&self.health),
            committer: self.committer.clone(),
            spool: self.spool.clone(),
            directory: spool_dir(&self.config),
            store: Arc::clone(&self.store),
            sinks: self.sinks.clone(),
            sockets,
            conductor: outbound.conductor.clone(),
            resolver: outbound.resolver.clone(),
            hostname: self.config.server.hostname.clone(),
            mx_port: self.config.delivery.port.get(),
            routes: outbound::route_facts(&self.config),
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
        Ok(())
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

    /// Until a signal, the operator or the journal ends us.
    async fn wait_for_end(&self, signals: &mut Signals) {
        let mut life = self.health.watch();
        tokio::select! {
            () = signals.end() => self.health.drain(),
            _ = life.wait_for(|life| matches!(life, Life::Draining | Life::Failed(_))) => {}
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
            self.gates.iter().any(|gate| gate.connections() > 0)
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
    /// Read again at a hang-up, and now and then.
    certificates: Vec<Arc<Certificates>>,
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

    /// Until one of them asks us to end.
    async fn end(&mut self) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                _ = self.hang_up.recv() => {
                    tracing::warn!("certificates are read again; the configuration is not");
                    self.refresh().await;
                }
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

fn spool_options(config: &Config) -> SpoolOptions {
    let mut options = SpoolOptions::new(spool_dir(config), NodeId::default());
    options.segment_bytes = config.spool.segment_size.0;
    options.bytes_max = config.spool.journal_max.map_or(u64::MAX, |bytes| bytes.0);
    options.free_bytes_min = config.spool.disk_free_min.0;
    options
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

/// Opens a Unix socket for ourselves alone.
fn listen_at(path: &Path) -> anyhow::Result<UnixListener> {
    remove_stale(path)?;
    let socket =
        UnixListener::bind(path).with_context(|| format!("cannot listen on {}", path.display()))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    Ok(socket)
}

fn remove_stale(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Err(_) | Ok(()) => Ok(()),
    }
}

/// Developers' messages go to standard error; `MERPATI_TRACE` chooses them. Never parsed.
fn start_tracing() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("MERPATI_TRACE")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn"));
    // Somebody who embeds us may have set up his own.
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).try_init().ok();
}

/// Octets of accepted mail that are kept in memory until they are delivered.
const FRESH_OCTETS: usize = 64 << 20;
/// The file in the data directory that lists the true addresses while the relay runs.
pub const LISTENING_FILE: &str = "listening";
/// Threads that serve connections, at least; there are as many as cores that we may use.
const WORKERS_MIN: usize = 2;
/// How long sessions may go on after the journal failed.
const FAILED_WAIT: Duration = Duration::from_secs(5);
/// How often draining looks whether all sessions have ended.
const DRAIN_LOOK: Duration = Duration::from_millis(20);
/// How often it is looked whether files of certificates have changed.
const CERTIFICATES_LOOK: Duration = Duration::from_mins(1);
/// How long tasks that block may hold up the end.
const SHUTDOWN_WAIT: Duration = Duration::from_millis(500);
/// `EX_IOERR` of sysexits: the journal failed.
const EXIT_STORAGE: u8 = 74;
