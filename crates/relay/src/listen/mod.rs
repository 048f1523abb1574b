//! How connections come in: accept loops, one for each socket, one task for each connection.
//!
//! Invariant: an accept loop never ends by itself and never spins; what a connection does ends at
//! most that connection. Not pure: sockets.

mod arrival;
mod body;
mod connection;
mod descriptors;
mod gate;
mod stream;

use std::{
    collections::BTreeSet,
    io,
    net::{IpAddr, SocketAddr, TcpListener as StdTcpListener},
    os::fd::AsFd,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use anyhow::Context;
use merpati_console::sessions::Direction;
use merpati_flow::admit::{Network, Policy};
use merpati_mail::{Domain, Reply};
use merpati_smtp::server::{Options, Standing, Summary};
use merpati_spool::Handle;
use rustix::net::{self, AddressFamily, SocketFlags, SocketType, sockopt};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_rustls::TlsAcceptor;

pub(crate) use self::descriptors::Descriptors;
pub use self::gate::{Gate, Limit, Limits, Pass, Share};
use self::{body::Hashes, stream::Stream};
use crate::{
    auth::Authenticator,
    certificates::Certificates,
    clock::Clock,
    committer::Committer,
    domains::Signers,
    fresh::Fresh,
    health::{Health, Life},
    sessions::Sessions,
    sinks::{SessionEnded, Sinks},
    world::World,
};

/// What all listeners share.
#[derive(Clone, Debug)]
pub struct Shared {
    /// Our own name, for Received fields.
    pub hostname: Domain,
    /// The clock.
    pub clock: Arc<Clock>,
    /// The way to the journal.
    pub committer: Committer,
    /// Ids and large contents.
    pub spool: Handle,
    /// What was accepted lately.
    pub fresh: Arc<Fresh>,
    /// Who may authenticate.
    pub authenticator: Arc<Authenticator>,
    /// Whether mail is taken.
    pub health: Arc<Health>,
    /// Who knows what admission must know.
    pub world: World,
    /// How many contents may be repaired at once, for each is in memory three times.
    pub repairs: Arc<Semaphore>,
    /// Who signs for which domain.
    pub signers: Signers,
    /// Who is connected.
    pub sessions: Arc<Sessions>,
    /// The log and the metrics.
    pub sinks: Sinks,
}

impl Shared {
    /// For what the bodies that come in at a listener are hashed.
    fn hashes(&self, plan: &Plan) -> Hashes {
        Hashes { to_check: plan.policy.contents.authors.ask(), to_sign: !self.signers.are_none() }
    }

    /// Counts how TLS came about with a client; in the clear it did not.
    fn count_handshake(&self, stream: &Stream) {
        if let Some(handshake) = stream.how_protected() {
            self.sinks.metrics().tls_handshake(Direction::In, handshake);
        }
    }
}

/// Contents that are repaired at once.
pub const REPAIRS_MAX: usize = 4;

/// What one listener does.
pub struct Plan {
    /// What its sessions offer and bear.
    pub options: Arc<Options>,
    /// The same while no certificate can be used: STARTTLS is 454 (RFC 3207 §4).
    pub options_without_tls: Arc<Options>,
    /// The certificates it shows; `None` where it has no TLS.
    pub certificates: Option<Arc<Certificates>>,
    /// What it admits.
    pub policy: Arc<Policy>,
    /// What becomes of what it admits.
    pub sink: Sink,
    /// How TLS begins.
    pub tls: Tls,
    /// Who may connect, and how many.
    pub gate: Arc<Gate>,
    /// How long a client may take to read what we sent.
    pub write_wait: Duration,
    /// How long a TLS handshake may take.
    pub handshake_wait: Duration,
    /// Whose lists say what of who connects.
    pub lists: Lists,
}

/// The networks that are named for a listener.
#[derive(Clone, Debug, Default)]
pub struct Lists {
    /// Those of the operator.
    pub known: Vec<Network>,
    /// The proxies that speak the PROXY protocol to us; they must.
    pub proxies: Vec<Network>,
    /// Those who may say XCLIENT.
    pub introducers: Vec<Network>,
}

impl Lists {
    fn have(networks: &[Network], address: IpAddr) -> bool {
        networks.iter().any(|network| network.contains(address))
    }

    /// Whether the PROXY protocol is spoken from there.
    pub fn is_proxy(&self, address: IpAddr) -> bool {
        Self::have(&self.proxies, address)
    }

    /// What they say of a client at this address.
    pub fn standing(&self, address: IpAddr) -> Standing {
        if Self::have(&self.introducers, address) {
            Standing::Introducer
        } else if Self::have(&self.known, address) {
            Standing::Known
        } else {
            Standing::Stranger
        }
    }
}

/// Whose limits hold for a client of this standing.
const fn share(standing: Standing) -> Share {
    match standing {
        Standing::Introducer => Share::Everybodys,
        Standing::Known => Share::Known,
        Standing::Stranger => Share::Strangers,
    }
}

impl Plan {
    /// What a session that begins now offers and bears.
    fn session_options(&self) -> Arc<Options> {
        match &self.certificates {
            Some(certificates) if !certificates.are_usable() => self.options_without_tls.clone(),
            Some(_) | None => self.options.clone(),
        }
    }
}

impl std::fmt::Debug for Plan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Plan").field("listener", &self.options.listener).finish_non_exhaustive()
    }
}

/// What becomes of a message that a listener takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sink {
    /// The sandbox keeps it.
    Capture,
    /// The sandbox takes it, durably, and forgets it at once: for measuring.
    Discard,
    /// It is delivered.
    Queue,
}

/// How TLS begins.
#[derive(Clone)]
pub enum Tls {
    /// With the first octet (RFC 8314 §3).
    Implicit(TlsAcceptor),
    /// Never.
    Never,
    /// When the client says STARTTLS (RFC 3207).
    Starttls(TlsAcceptor),
}

/// Who may connect to a socket of IPv6 that is bound to all addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Families {
    /// Clients of IPv4 as well.
    Both,
    /// Clients of IPv6 alone: those of IPv4 have a socket of their own.
    Own,
}

/// Opens a socket that listens.
pub fn bind(address: SocketAddr, families: Families) -> anyhow::Result<TcpListener> {
    let socket = reserve(address, families)?;
    begin(&socket)?;
    Ok(TcpListener::from_std(socket)?)
}

/// Takes an address for a socket that is to listen. It needs no runtime: low ports are for root,
/// and the process has given that up when its runtime begins.
pub(crate) fn reserve(address: SocketAddr, families: Families) -> anyhow::Result<StdTcpListener> {
    let open = || -> io::Result<StdTcpListener> {
        let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = net::socket_with(family, SocketType::STREAM, flags, None)?;
        if address.is_ipv6() && families == Families::Own {
            sockopt::set_ipv6_v6only(&socket, true)?;
        }
        // A restart must not wait for the old connections to be forgotten.
        sockopt::set_socket_reuseaddr(&socket, true)?;
        keep_alive(&socket)?;
        net::bind(&socket, &address)?;
        Ok(socket.into())
    };
    open().with_context(|| format!("cannot listen on {address}"))
}

/// Lets clients connect to a socket that has its address.
pub(crate) fn begin(socket: &StdTcpListener) -> anyhow::Result<()> {
    let begun = net::listen(socket, BACKLOG).map_err(io::Error::from);
    begun.with_context(|| match socket.local_addr() {
        Ok(address) => format!("cannot listen on {address}"),
        Err(why) => format!("cannot listen: {why}"),
    })
}

/// Has it noticed when a client is gone without a word, also where nothing is due from it.
/// Connections have these settings from the socket that accepts them.
pub(crate) fn keep_alive(socket: &impl AsFd) -> io::Result<()> {
    sockopt::set_socket_keepalive(socket, true)?;
    sockopt::set_tcp_keepidle(socket, KEEPALIVE_IDLE)?;
    sockopt::set_tcp_keepintvl(socket, KEEPALIVE_INTERVAL)?;
    Ok(sockopt::set_tcp_keepcnt(socket, KEEPALIVE_PROBES)?)
}

/// By what the connections of a socket are served that come from now on.
#[derive(Debug)]
pub struct Slot(RwLock<(Arc<Plan>, Arc<Shared>)>);

impl Slot {
    /// By these, until [`Self::set`].
    pub const fn new(plan: Arc<Plan>, shared: Arc<Shared>) -> Self {
        Self(RwLock::new((plan, shared)))
    }

    /// By these from now on. Connections that are open go on by what they began with.
    pub fn set(&self, plan: Arc<Plan>, shared: Arc<Shared>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = (plan, shared);
    }

    /// The same plan, and these, from now on.
    pub fn share(&self, shared: Arc<Shared>) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).1 = shared;
    }

    fn get(&self) -> (Arc<Plan>, Arc<Shared>) {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Accepts connections until the relay drains.
pub async fn accept(listener: TcpListener, slot: Arc<Slot>) {
    let mut life = slot.get().1.health.watch();
    let descriptors = Descriptors::of_process();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = life.wait_for(|life| matches!(life, Life::Draining | Life::Failed(_))) => return,
        };
        let (plan, shared) = slot.get();
        match accepted {
            Ok((stream, peer)) => match enter(&stream, peer, descriptors, (&plan, &shared)) {
                Ok(pass) => admit(stream, peer, pass, (&plan, &shared)),
                Err(refused) => refuse(&stream, Caller::direct(peer), refused, (&plan, &shared)),
            },
            // EMFILE and its kin do not go by themselves; the others concern one connection.
            Err(error) if is_exhaustion(&error) => {
                tracing::warn!(%error, "cannot accept; trying again soon");
                tokio::time::sleep(EXHAUSTION_WAIT).await;
            }
            Err(error) => tracing::debug!(%error, "a connection was gone before it was accepted"),
        }
    }
}

/// Who is at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Caller {
    /// The client.
    client: SocketAddr,
    /// The proxy that speaks for it; `None` where it speaks for itself.
    proxy: Option<SocketAddr>,
}

impl Caller {
    const fn direct(client: SocketAddr) -> Self {
        Self { client, proxy: None }
    }
}

/// Why a connection is not served: the rule, and what the client is told; `None`: nothing.
type Refused = (&'static str, Option<Reply>);

/// Lets a client in, or says why not.
fn enter(
    stream: &TcpStream,
    peer: SocketAddr,
    descriptors: Descriptors,
    (plan, shared): (&Plan, &Shared),
) -> Result<Pass, Refused> {
    if let Some((rule, reply)) = shared.health.levels().refuse_connection() {
        return Err((rule, Some(reply)));
    }
    if !descriptors.permit(stream) {
        let text = "not enough file descriptors now, try again later";
        return Err(("descriptors", Some(Reply::new(421, (4, 3, 2), text))));
    }
    let mut pass = plan.gate.enter().map_err(by_limit)?;
    // For whom a proxy speaks is known only when it has said so.
    if !plan.lists.is_proxy(peer.ip()) {
        count(&mut pass, peer, (plan, shared))?;
    }
    Ok(pass)
}

/// Counts a connection as one of this client, or says why not.
fn count(
    pass: &mut Pass,
    client: SocketAddr,
    (plan, shared): (&Plan, &Shared),
) -> Result<(), Refused> {
    let share = share(plan.lists.standing(client.ip()));
    pass.count(shared.clock.now(), client.ip(), share).map_err(by_limit)
}

fn by_limit(limit: Limit) -> Refused {
    (limit, Some(gate::refusal(limit)))
}

/// Serves a connection in a task of its own.
fn admit(
    stream: TcpStream,
    peer: SocketAddr,
    mut pass: Pass,
    (plan, shared): (&Arc<Plan>, &Arc<Shared>),
) {
    shared.sinks.metrics().session_began(&plan.options.listener);
    let (plan, shared) = (Arc::clone(plan), Arc::clone(shared));
    tokio::spawn(async move {
        let open = Open { plan: &plan, shared: &shared };
        connection::serve(stream, peer, &mut pass, (&plan, &shared)).await;
        drop((open, pass));
    });
}

/// Tells the client and the log why there is no session.
fn refuse(
    stream: &TcpStream,
    caller: Caller,
    (rule, reply): Refused,
    (plan, shared): (&Plan, &Shared),
) {
    match (&plan.tls, &reply) {
        (Tls::Never | Tls::Starttls(_), Some(reply)) => {
            let mut octets = Vec::new();
            reply.write(&mut octets);
            // An empty socket takes a line at once; where not, the client is not told.
            stream.try_write(&octets).ok();
        }
        // Nobody understands a word before the handshake.
        (Tls::Implicit(_), _) | (_, None) => {}
    }
    let mut summary = Summary::default();
    summary.refusals.insert(rule.into(), 1);
    summary.last_refusal = reply.map(|reply| (rule.into(), reply));
    tell(caller, summary, None, (plan, shared));
}

/// Tells the log of a connection without a session.
fn tell(
    caller: Caller,
    summary: Summary,
    reason: Option<String>,
    (plan, shared): (&Plan, &Shared),
) {
    shared.sinks.session(SessionEnded {
        at: shared.clock.now(),
        lasted: Duration::ZERO,
        listener: plan.options.listener.clone(),
        peer: caller.client,
        proxy: caller.proxy,
        tls: None,
        credential: None,
        name: None,
        listed: BTreeSet::new(),
        reason,
        summary,
    });
}

/// Counts a connection as open for as long as it lives, also where its task panics.
struct Open<'a> {
    plan: &'a Plan,
    shared: &'a Shared,
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        let metrics = self.shared.sinks.metrics();
        metrics.session_closed(&self.plan.options.listener);
        if std::thread::panicking() {
            metrics.panicked();
        }
    }
}

fn is_exhaustion(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(EMFILE | ENFILE | ENOBUFS | ENOMEM))
}

const ENOMEM: i32 = 12;
const ENFILE: i32 = 23;
const EMFILE: i32 = 24;
const ENOBUFS: i32 = 105;
/// How long no connection is accepted when the machine has no more of something.
const EXHAUSTION_WAIT: Duration = Duration::from_millis(200);
/// Connections that wait for us to accept them.
const BACKLOG: i32 = 4_096;
/// How long a connection is silent before we ask whether anybody is there,
const KEEPALIVE_IDLE: Duration = Duration::from_mins(1);
/// how often we ask then,
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
/// and how many times without an answer.
const KEEPALIVE_PROBES: u32 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn both_families_may_have_the_same_port() {
        if bind("[::1]:0".parse().unwrap(), Families::Both).is_err() {
            println!("skipped: no IPv6");
            return;
        }
        // Now and then somebody else has the port of the other family.
        let is_found = (0..20).any(|_| {
            let v6 = bind("[::]:0".parse().unwrap(), Families::Own).unwrap();
            let port = v6.local_addr().unwrap().port();
            bind(SocketAddr::from(([0, 0, 0, 0], port)), Families::Both).is_ok()
        });
        assert!(is_found);
    }
}
