//! What joins the parts: the order in which the relay starts and ends.
//!
//! Invariant: nothing listens before recovery is complete, and nothing durable is touched before
//! the lock of the spool is held. The end is the reverse: sessions, journal, log. Not pure.

mod recovery;

use std::{
    fs, io,
    net::SocketAddr,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    thread::JoinHandle,
    time::Duration,
};

use anyhow::Context;
use aws_lc_rs::digest;
use merpati_console::{Guard, router};
use merpati_flow::admit::{ListenerKind, Policy};
use merpati_mail::{Event, NodeId, Time};
use merpati_smtp::server::{self, Auth, StartTls};
use merpati_spool::{Disk, Group, Options as SpoolOptions, Spool};
use tokio::{
    net::{TcpListener, UnixListener},
    runtime::Runtime,
    signal::unix::{Signal, SignalKind, signal},
};

use self::recovery::Recovered;
use crate::{
    admin::{Control, Socket},
    auth::Credentials,
    clock::Clock,
    committer::{Committer, Told},
    config::{AfterCapture, AuthUse, Config, Kind, LogTo, TlsUse, options::Listener},
    health::{Health, Life},
    listen::{self, Gate, Limits, Plan, Shared, Sink, Tls},
    sinks::{LogWriter, Metrics, Notice, Sinks, Target},
    store::{Quota, Store},
    tls,
};

/// Runs the relay until it is told to end: 0 after a drain, 74 after the journal failed.
///
/// `announce` is called once, when everything listens.
pub fn run(config: Config, announce: &mut dyn FnMut()) -> anyhow::Result<ExitCode> {
    start_tracing();
    // A second provider in the process would make rustls refuse to choose.
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    let node = Node::start(config)?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(WORKERS).enable_all().build()?;
    let result = runtime.block_on(node.serve(announce));
    node.end(runtime);
    result
}

/// The parts that live as long as the process.
struct Node {
    config: Config,
    clock: Arc<Clock>,
    started_at: Time,
    health: Arc<Health>,
    store: Arc<Store>,
    sinks: Sinks,
    committer: Committer,
    committer_thread: JoinHandle<()>,
    spool: merpati_spool::Handle,
    gates: Vec<Arc<Gate>>,
    listening: PathBuf,
}

impl Node {
    /// Locks and recovers the spool, and starts the threads. Nothing listens yet.
    fn start(config: Config) -> anyhow::Result<Self> {
        let data_dir = &config.server.data_dir;
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(data_dir)
            .with_context(|| format!("cannot make {}", data_dir.display()))?;
        let Recovered { disk, captured, last_at, digest } = recover(&config)?;
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
        let clock = Arc::new(Clock::start(last_at));
        let health = Arc::new(Health::default());
        let store = Arc::new(Store::new(quota, captured));
        let target = match &config.log.to {
            LogTo::File(path) => Target::File(path.clone()),
            LogTo::Off => Target::Off,
            LogTo::Stdout => Target::Stdout,
        };
        let writer = LogWriter::open(&target).context("cannot open the mail log")?;
        let sinks = Sinks::start(Arc::new(Metrics::default()), writer)?;
        let spool = disk.handle();
        let told = Told {
            clock: Arc::clone(&clock),
            health: Arc::clone(&health),
            store: Arc::clone(&store),
            sinks: sinks.clone(),
        };
        let (committer, committer_thread) = Committer::start(Box::new(disk), told)?;
        let today = config_digest(&config);
        if digest != Some(today) {
            let event = Event::ConfigChanged { digest: today };
            // Where it cannot be taken, the journal failed, and the first message learns it.
            committer.commit_lazily(Group::of(clock.now(), event)).ok();
        }
        let gates = config.listeners.iter().map(|listener| {
            Gate::new(Limits {
                connections_max: listener.connections_max.get(),
                connections_per_address_max: listener.connections_per_address_max.get(),
            })
        });
        let (gates, started_at) = (gates.collect(), clock.now());
        Ok(Self {
            config,
            clock,
            started_at,
            health,
            store,
            sinks,
            committer,
            committer_thread,
            spool,
            gates,
            listening,
        })
    }

    /// Listens, serves, and drains.
    async fn serve(&self, announce: &mut dyn FnMut()) -> anyhow::Result<ExitCode> {
        let committer = self.committer.clone();
        tokio::spawn(async move { committer.tell().await });
        let mut sockets = Vec::new();
        let shared = Arc::new(self.shared()?);
        let mut loops = Vec::new();
        for (listener, gate) in self.config.listeners.iter().zip(&self.gates) {
            let plan = Arc::new(self.plan(listener, gate)?);
            for address in &listener.listen {
                let socket = listen::bind(*address)?;
                sockets.push(Socket {
                    name: listener.name.as_str().to_owned(),
                    kind: listener.kind.word(),
                    address: socket.local_addr()?,
                    gate: Some(Arc::clone(gate)),
                });
                loops.push((socket, Arc::clone(&plan)));
            }
        }
        // Before anybody learns that we listen: a signal must not find us without a handler.
        let mut signals = Signals::new()?;
        self.serve_control(sockets).await?;
        announce();
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

    fn shared(&self) -> anyhow::Result<Shared> {
        let entries = self.config.credentials.iter();
        let credentials = entries.map(|entry| (entry.name.clone(), entry.password.clone()));
        Ok(Shared {
            hostname: self.config.server.hostname.clone(),
            clock: Arc::clone(&self.clock),
            committer: self.committer.clone(),
            spool: self.spool.clone(),
            credentials: Credentials::new(credentials)?,
            health: Arc::clone(&self.health),
            sinks: self.sinks.clone(),
        })
    }

    fn plan(&self, listener: &Listener, gate: &Arc<Gate>) -> anyhow::Result<Plan> {
        let tls = match (listener.tls, &listener.tls_certificate, &listener.tls_key) {
            (TlsUse::Implicit, Some(chain), Some(key)) => Tls::Implicit(tls::acceptor(chain, key)?),
            (TlsUse::StartTls, Some(chain), Some(key)) => Tls::Starttls(tls::acceptor(chain, key)?),
            (TlsUse::None, _, _) => Tls::Never,
            (TlsUse::Implicit | TlsUse::StartTls, _, _) => {
                anyhow::bail!("listener {}: TLS needs a certificate and a key", listener.name)
            }
        };
        let sink = match self.config.sandbox.after_capture {
            AfterCapture::Discard => Sink::Discard,
            AfterCapture::Keep => Sink::Capture,
        };
        Ok(Plan {
            options: Arc::new(self.session_options(listener, &tls)),
            policy: self.policy(listener)?,
            sink,
            tls,
            gate: Arc::clone(gate),
            write_wait: listener.command_wait,
            handshake_wait: HANDSHAKE_WAIT,
        })
    }

    fn session_options(&self, listener: &Listener, tls: &Tls) -> server::Options {
        let hostname = self.config.server.hostname.to_string();
        let mut options = server::Options::new(listener.name.as_str(), hostname);
        options.greeting.clone_from(&listener.greeting);
        options.starttls = match tls {
            Tls::Starttls(_) => StartTls::Offered,
            Tls::Implicit(_) | Tls::Never => StartTls::Absent,
        };
        options.auth = match listener.auth {
            AuthUse::AllowClear => Auth::Anywhere,
            AuthUse::Off => Auth::Off,
            AuthUse::TlsOnly => Auth::OverTls,
        };
        options.limits.message_bytes_max = listener.message_size_max.0;
        options.limits.recipients_max =
            usize::try_from(listener.recipients_max.get()).unwrap_or(usize::MAX);
        options.limits.transactions_max = listener.transactions_max.get();
        options.limits.bad_commands_max = listener.bad_commands_max.get();
        options.limits.auth_failures_max = listener.auth_failures_max.get();
        options.waits.command_wait = listener.command_wait;
        options.waits.data_block_wait = listener.data_block_wait;
        options.waits.transaction_wait = listener.transaction_wait;
        options
    }

    fn policy(&self, listener: &Listener) -> anyhow::Result<Policy> {
        let relay = &self.config.relay;
        let networks = relay.networks.iter().map(|network| network.to_string().parse());
        Ok(Policy {
            kind: match listener.kind {
                Kind::Rehearsal => ListenerKind::Relay,
                Kind::Sandbox => ListenerKind::Sandbox,
            },
            local_domains: relay.local_domains.iter().cloned().collect(),
            networks: networks.collect::<Result<_, _>>()?,
            size_bytes_max: listener.message_size_max.0,
            hops_max: HOPS_MAX,
        })
    }

    /// Serves the operator's verbs on the Unix socket and over TCP, and says that all is ready.
    async fn serve_control(&self, mut sockets: Vec<Socket>) -> anyhow::Result<()> {
        let path = &self.config.server.control_socket;
        remove_stale(path)?;
        let unix = UnixListener::bind(path)
            .with_context(|| format!("cannot listen on {}", path.display()))?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
        let mut http = Vec::new();
        for address in &self.config.server.http_listen {
            let socket = TcpListener::bind(address)
                .await
                .with_context(|| format!("cannot listen on {address}"))?;
            let address = socket.local_addr()?;
            sockets.push(Socket { name: "http".to_owned(), kind: "http", address, gate: None });
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

    /// Lets sessions end; those that do not in time are cut. A second signal cuts them at once.
    async fn drain(&self, signals: &mut Signals) {
        let wait = match self.health.life() {
            Life::Failed(_) => self.config.server.drain_wait.min(FAILED_WAIT),
            Life::Draining | Life::Ready | Life::Starting => self.config.server.drain_wait,
        };
        let all_gone = async {
            while self.gates.iter().any(|gate| gate.connections() > 0) {
                tokio::time::sleep(DRAIN_LOOK).await;
            }
        };
        tokio::select! {
            () = all_gone => {}
            () = tokio::time::sleep(wait) => {}
            () = signals.end() => {}
        }
    }

    /// Commits what waits, writes the log and ends the threads.
    fn end(self, runtime: Runtime) {
        self.committer.end();
        if self.committer_thread.join().is_err() {
            tracing::error!("the committer panicked");
        }
        self.sinks.tell([Notice::Stopped { at: self.clock.now() }]);
        runtime.shutdown_timeout(SHUTDOWN_WAIT);
        self.sinks.end();
        fs::remove_file(&self.config.server.control_socket).ok();
    }
}

/// What the operating system may tell us.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    /// Until one of them asks us to end.
    async fn end(&mut self) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                _ = self.hang_up.recv() => {
                    tracing::warn!("no reload yet: restart to read the configuration");
                }
            }
        }
    }
}

fn recover(config: &Config) -> anyhow::Result<Recovered> {
    let mut options = SpoolOptions::new(spool_dir(config), NodeId::default());
    options.segment_bytes = config.spool.segment_size.0;
    options.bytes_max = config.spool.journal_max.map_or(u64::MAX, |bytes| bytes.0);
    options.free_bytes_min = config.spool.disk_free_min.0;
    let mut fold = recovery::Fold::default();
    let (disk, recovery) = Disk::open(&options, &mut |record| fold.apply(record))
        .with_context(|| format!("cannot open the spool in {}", options.dir.display()))?;
    for damage in &recovery.damage {
        tracing::error!(
            file = %damage.file.display(),
            offset = damage.offset,
            why = %damage.why,
            "the spool is damaged; what is behind this place in the file was not read"
        );
    }
    let digest = fold.digest;
    let captured = fold.summaries(&disk.handle());
    Ok(Recovered { disk, captured, last_at: recovery.last_at, digest })
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

/// The file in the data directory that lists the true addresses while the relay runs.
pub const LISTENING_FILE: &str = "listening";
/// Threads that serve connections.
const WORKERS: usize = 2;
/// Received fields beyond which a message goes round (RFC 5321 §6.3: at least 100).
const HOPS_MAX: usize = 100;
/// How long a TLS handshake may take.
const HANDSHAKE_WAIT: Duration = Duration::from_mins(1);
/// How long sessions may go on after the journal failed.
const FAILED_WAIT: Duration = Duration::from_secs(5);
/// How often draining looks whether all sessions have ended.
const DRAIN_LOOK: Duration = Duration::from_millis(20);
/// How long tasks that block may hold up the end.
const SHUTDOWN_WAIT: Duration = Duration::from_millis(500);
/// `EX_IOERR` of sysexits: the journal failed.
const EXIT_STORAGE: u8 = 74;
