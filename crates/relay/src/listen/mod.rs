//! How connections come in: accept loops, one for each socket, one task for each connection.
//!
//! Invariant: an accept loop never ends by itself and never spins; what a connection does ends at
//! most that connection. Not pure: sockets.

mod body;
mod connection;
mod descriptors;
mod gate;
mod stream;

use std::{collections::BTreeSet, io, net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context;
use merpati_flow::admit::Policy;
use merpati_mail::{Domain, Reply};
use merpati_smtp::server::{Options, Summary};
use merpati_spool::Handle;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_rustls::TlsAcceptor;

use self::descriptors::Descriptors;
pub use self::gate::{Gate, Limits, Pass};
use crate::{
    auth::Credentials,
    certificates::Certificates,
    clock::Clock,
    committer::Committer,
    fresh::Fresh,
    health::{Health, Life},
    sinks::{SessionEnded, Sinks},
    world::World,
};

/// What all listeners share.
#[derive(Debug)]
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
    pub credentials: Credentials,
    /// Whether mail is taken.
    pub health: Arc<Health>,
    /// Who knows what admission must know.
    pub world: World,
    /// The log and the metrics.
    pub sinks: Sinks,
}

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
    /// How long a client may take to read what we sent. Default 5 minutes.
    pub write_wait: Duration,
    /// How long a TLS handshake may take. Default 60 seconds.
    pub handshake_wait: Duration,
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
    Queue(Header),
}

/// What becomes of the header of a message that is delivered, besides the Received field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Header {
    /// Nothing: it belongs to others.
    AsItIs,
    /// It comes from its author, and is mended (RFC 6409 §8).
    Mended,
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

/// Opens a socket that listens.
pub fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let open = || -> io::Result<TcpListener> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        // A restart must not wait for the old connections to be forgotten.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    open().with_context(|| format!("cannot listen on {address}"))
}

/// Accepts connections until the relay drains.
pub async fn accept(listener: TcpListener, plan: Arc<Plan>, shared: Arc<Shared>) {
    let mut life = shared.health.watch();
    let descriptors = Descriptors::of_process();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = life.wait_for(|life| matches!(life, Life::Draining | Life::Failed(_))) => return,
        };
        match accepted {
            Ok((stream, peer)) => {
                let entered = enter(&stream, peer, descriptors, (&plan, &shared));
                admit(stream, peer, entered, (&plan, &shared));
            }
            // EMFILE and its kin do not go by themselves; the others concern one connection.
            Err(error) if is_exhaustion(&error) => {
                tracing::warn!(%error, "cannot accept; trying again soon");
                tokio::time::sleep(EXHAUSTION_WAIT).await;
            }
            Err(error) => tracing::debug!(%error, "a connection was gone before it was accepted"),
        }
    }
}

/// Lets a client in, or gives the rule that keeps it out and what it is told.
fn enter(
    stream: &TcpStream,
    peer: SocketAddr,
    descriptors: Descriptors,
    (plan, shared): (&Plan, &Shared),
) -> Result<Pass, (&'static str, Reply)> {
    if let Some(refused) = shared.health.levels().refuse_connection() {
        return Err(refused);
    }
    if !descriptors.permit(stream) {
        let text = "not enough file descriptors now, try again later";
        return Err(("descriptors", Reply::new(421, (4, 3, 2), text)));
    }
    plan.gate
        .enter(peer.ip())
        .map_err(|rule| (rule, Reply::new(421, (4, 7, 0), "too many connections, try again later")))
}

fn admit(
    stream: TcpStream,
    peer: SocketAddr,
    entered: Result<Pass, (&'static str, Reply)>,
    (plan, shared): (&Arc<Plan>, &Arc<Shared>),
) {
    let listener = &plan.options.listener;
    match entered {
        Ok(pass) => {
            shared.sinks.metrics().session_began(listener);
            let (plan, shared) = (Arc::clone(plan), Arc::clone(shared));
            tokio::spawn(async move {
                let open = Open { plan: &plan, shared: &shared };
                connection::serve(stream, peer, &plan, &shared).await;
                drop((open, pass));
            });
        }
        Err((rule, reply)) => {
            let mut octets = Vec::new();
            reply.write(&mut octets);
            // An empty socket takes a line at once; where not, the client is not told.
            stream.try_write(&octets).ok();
            let mut summary = Summary::default();
            summary.refusals.insert(rule.into(), 1);
            summary.last_refusal = Some((rule.into(), reply));
            shared.sinks.session(SessionEnded {
                at: shared.clock.now(),
                lasted: Duration::ZERO,
                listener: listener.clone(),
                peer,
                tls: None,
                credential: None,
                name: None,
                listed: BTreeSet::new(),
                summary,
            });
        }
    }
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
const BACKLOG: u32 = 1_024;
