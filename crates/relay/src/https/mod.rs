//! The listener for the web: what strangers may ask of the relay over HTTP.
//!
//! Invariant: whatever a client sends or leaves out, it holds one connection for a minute at most,
//! and nothing of what it asks reaches mail. What is answered is decided in [`answer`]. Not pure:
//! sockets.

pub mod answer;

use std::{
    convert::Infallible,
    future::ready,
    net::SocketAddr,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use anyhow::Context as _;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::{ServerConfig, crypto::aws_lc_rs::Ticketer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;

use self::answer::Answers;
use crate::{
    acme::challenges::{ACME_TLS_1, Resolver},
    clock::Clock,
    listen::{Descriptors, Gate, Pass, Share},
    tls,
};

/// By what connections are served that come from now on.
#[derive(Clone)]
pub struct Site {
    /// What is answered.
    pub answers: Arc<Answers>,
    /// How TLS begins where it is spoken.
    pub tls: TlsAcceptor,
    /// How long a handshake may take, and the head of a request.
    pub request_wait: Duration,
}

impl std::fmt::Debug for Site {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Site").field("answers", &self.answers).finish_non_exhaustive()
    }
}

/// Whether clients speak TLS from the first octet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entrance {
    /// They do not.
    Plain,
    /// They do.
    Tls,
}

/// What all sockets share, and a reload changes.
#[derive(Debug)]
pub struct Slot {
    site: RwLock<Arc<Site>>,
    gate: Arc<Gate>,
    clock: Arc<Clock>,
}

impl Slot {
    /// Serves by this site, whoever the gate lets in.
    pub const fn new(site: Arc<Site>, gate: Arc<Gate>, clock: Arc<Clock>) -> Self {
        Self { site: RwLock::new(site), gate, clock }
    }

    /// By this one from now on. Connections that are open go on by what they began with.
    pub fn set(&self, site: Arc<Site>) {
        *self.site.write().unwrap_or_else(PoisonError::into_inner) = site;
    }

    /// Who counts the connections.
    pub const fn gate(&self) -> &Arc<Gate> {
        &self.gate
    }

    fn get(&self) -> Arc<Site> {
        Arc::clone(&self.site.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// How TLS begins with these certificates: as for mail, and with HTTP/1.1 in it (RFC 7301), or what
/// a CA looks for (RFC 8737).
pub fn acceptor(resolver: Resolver) -> anyhow::Result<TlsAcceptor> {
    let mut config = ServerConfig::builder_with_provider(tls::provider())
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(resolver));
    config.ignore_client_order = true;
    config.ticketer = Ticketer::new().context("no keys for TLS tickets")?;
    config.send_tls13_tickets = 1;
    config.alpn_protocols = vec![HTTP_1_1.to_vec(), ACME_TLS_1.to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Accepts connections as long as the process lives: who asks whether it is ready is told so while
/// it drains.
pub async fn accept(listener: TcpListener, entrance: Entrance, slot: Arc<Slot>) {
    let descriptors = Descriptors::of_process();
    loop {
        match listener.accept().await {
            // Who is not let in is not told why: he would have to speak TLS to understand.
            Ok((stream, peer)) if descriptors.permit(&stream) => {
                if let Some(pass) = enter(&slot, peer) {
                    tokio::spawn(serve(stream, entrance, slot.get(), pass));
                }
            }
            Ok(_) => tracing::debug!("a request over HTTP has no file descriptor"),
            Err(error) => {
                tracing::debug!(%error, "a connection over HTTP was not accepted");
                sleep(FAILURE_WAIT).await;
            }
        }
    }
}

fn enter(slot: &Slot, peer: SocketAddr) -> Option<Pass> {
    let mut pass = slot.gate.enter().ok()?;
    pass.count(slot.clock.now(), peer.ip().to_canonical(), Share::Strangers).ok()?;
    Some(pass)
}

async fn serve(stream: TcpStream, entrance: Entrance, site: Arc<Site>, pass: Pass) {
    let served = async {
        match entrance {
            Entrance::Plain => converse(stream, &site).await,
            Entrance::Tls => {
                let Ok(Ok(stream)) = timeout(site.request_wait, site.tls.accept(stream)).await
                else {
                    return;
                };
                // Then all is said (RFC 8737 §3).
                if stream.get_ref().1.alpn_protocol() != Some(ACME_TLS_1) {
                    converse(stream, &site).await;
                }
            }
        }
    };
    timeout(CONNECTION_MAX, served).await.ok();
    drop(pass);
}

/// Answers requests until one side has enough.
async fn converse(stream: impl AsyncRead + AsyncWrite + Unpin, site: &Site) {
    let answer = service_fn(|request: hyper::Request<Incoming>| {
        ready(Ok::<_, Infallible>(site.answers.to(&request)))
    });
    let done = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(site.request_wait)
        .max_buf_size(HEAD_OCTETS_MAX)
        .max_headers(FIELDS_MAX)
        .serve_connection(TokioIo::new(stream), answer)
        .await;
    if let Err(error) = done {
        tracing::debug!(%error, "a conversation over HTTP broke off");
    }
}

/// HTTP/1.1 in TLS (RFC 7301 §6).
const HTTP_1_1: &[u8] = b"http/1.1";
/// Octets of the head of a request; with more the answer is 431.
const HEAD_OCTETS_MAX: usize = 8_192;
/// Fields in the head of a request; with more the answer is 431.
const FIELDS_MAX: usize = 64;
/// How long a connection is open at most, whatever goes on in it.
const CONNECTION_MAX: Duration = Duration::from_mins(1);
/// How long after a failure the next connection is looked for.
const FAILURE_WAIT: Duration = Duration::from_millis(100);
