//! How a policy is fetched: by HTTPS from the host `mta-sts` of its domain (RFC 8461 §3.3).
//!
//! Invariant: a text counts only where the host proved its name, said 200 by itself and calls it
//! plain text; nobody leads us to an address to which strangers must not, nor anywhere else by a
//! redirect. Time and octets are bounded. Not pure: asks name servers, and speaks to hosts.

use std::{
    fmt, io,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, LengthLimitError, Limited};
use hyper::{Request, Response, StatusCode, body::Incoming, header, header::HeaderValue};
use hyper_util::rt::TokioIo;
use merpati_auth::sts::{POLICY_OCTETS_MAX, Policy};
use merpati_mail::Domain;
use rustls_pki_types::ServerName;
use tokio::{
    net::TcpStream,
    task::JoinSet,
    time::{Instant, timeout, timeout_at},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{
    resolve::Resolver,
    tls::{self, Trust},
};

/// Why a policy could not be fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchTrouble {
    /// Which kind of trouble, as reports of TLS count it.
    pub kind: TroubleKind,
    /// What went wrong, in words.
    pub why: String,
}

/// The kinds of trouble with a policy (RFC 8460 §4.3.2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TroubleKind {
    /// It could not be fetched: `sts-policy-fetch-error`.
    Fetch,
    /// What was fetched is no policy: `sts-policy-invalid`.
    Invalid,
    /// The host did not prove its name: `sts-webpki-invalid`.
    WebPki,
}

impl fmt::Display for FetchTrouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

impl std::error::Error for FetchTrouble {}

impl FetchTrouble {
    fn fetch(why: impl fmt::Display) -> Self {
        Self { kind: TroubleKind::Fetch, why: why.to_string() }
    }

    fn invalid(why: impl fmt::Display) -> Self {
        Self { kind: TroubleKind::Invalid, why: why.to_string() }
    }
}

/// Fetches policies.
pub(super) struct Fetcher {
    connector: TlsConnector,
    port: u16,
    resolver: Resolver,
    wait: Duration,
}

impl Fetcher {
    /// Errs where the CAs cannot be read.
    pub(super) fn new(
        resolver: Resolver,
        roots: Option<&PathBuf>,
        port: u16,
        wait: Duration,
    ) -> anyhow::Result<Self> {
        let trust = roots.map_or(Trust::System, |path| Trust::File(path));
        Ok(Self { connector: tls::connector(trust, None)?, port, resolver, wait })
    }

    /// The policy of a domain, as its host gives it now.
    pub(super) async fn fetch(&self, domain: &Domain) -> Result<Policy, FetchTrouble> {
        let fetch = self.fetch_by(domain, Instant::now() + self.wait);
        timeout(self.wait, fetch).await.unwrap_or_else(|_elapsed| {
            let secs = self.wait.as_secs();
            Err(FetchTrouble::fetch(format!("mta-sts.{domain} took longer than {secs} s")))
        })
    }

    async fn fetch_by(&self, domain: &Domain, deadline: Instant) -> Result<Policy, FetchTrouble> {
        let name = format!("mta-sts.{domain}");
        let host = Domain::parse(&name).map_err(FetchTrouble::fetch)?;
        let server = ServerName::try_from(name.clone()).map_err(FetchTrouble::fetch)?;
        let addresses = self.addresses(&host).await?;
        let mut last = None;
        for (address, left) in addresses.iter().zip((1..=addresses.len()).rev()) {
            // An address that is silent must leave time for the others.
            let left = u32::try_from(left).unwrap_or(u32::MAX);
            let share = deadline.saturating_duration_since(Instant::now()) / left;
            let connecting = self.connect(*address, server.clone());
            match timeout_at(Instant::now() + share, connecting).await {
                Ok(Ok(stream)) => return ask(stream, &name, self.port).await,
                Ok(Err(trouble)) => last = Some(trouble),
                Err(_elapsed) => {
                    last = Some(FetchTrouble::fetch(format!("{name} [{address}] is silent")));
                }
            }
        }
        Err(last.unwrap_or_else(|| FetchTrouble::fetch(format!("{name} has no address"))))
    }

    /// Where the host is, as far as strangers may lead us there.
    async fn addresses(&self, host: &Domain) -> Result<Vec<IpAddr>, FetchTrouble> {
        let found = self.resolver.addresses(host).await;
        let found = found.map_err(|why| FetchTrouble::fetch(format!("{host}: {why}")))?;
        let permitted = found.iter().copied().filter(|address| self.resolver.permits(*address));
        let permitted: Vec<_> = permitted.take(ADDRESSES_MAX).collect();
        match (permitted.is_empty(), found.first()) {
            (true, Some(forbidden)) => Err(FetchTrouble::fetch(format!(
                "{host} leads to {forbidden}, an address to which strangers must not lead us"
            ))),
            (true, None) | (false, _) => Ok(permitted),
        }
    }

    async fn connect(
        &self,
        address: IpAddr,
        server: ServerName<'static>,
    ) -> Result<TlsStream<TcpStream>, FetchTrouble> {
        let name = server.to_str().into_owned();
        let cannot = |why: &io::Error| format!("{name} [{address}]: {why}");
        let tcp = TcpStream::connect(SocketAddr::new(address, self.port)).await;
        let tcp = tcp.map_err(|why| FetchTrouble::fetch(cannot(&why)))?;
        self.connector.connect(server, tcp).await.map_err(|why| FetchTrouble {
            kind: if is_of_certificate(&why) { TroubleKind::WebPki } else { TroubleKind::Fetch },
            why: cannot(&why),
        })
    }
}

/// Whether a handshake failed because of what the host showed.
fn is_of_certificate(why: &io::Error) -> bool {
    let inner = why.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    matches!(
        inner,
        Some(rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented)
    )
}

/// Asks for the policy over a connection that is proven.
async fn ask(stream: TlsStream<TcpStream>, name: &str, port: u16) -> Result<Policy, FetchTrouble> {
    let broken = |why: hyper::Error| FetchTrouble::fetch(format!("{name}: {why}"));
    let mut builder = hyper::client::conn::http1::Builder::new();
    builder.max_buf_size(HEAD_OCTETS_MAX);
    let (mut sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(broken)?;
    // It ends with this value.
    let mut driver = JoinSet::new();
    driver.spawn(connection);
    let authority = if port == 443 { name.to_owned() } else { format!("{name}:{port}") };
    let request = Request::get(PATH)
        .header(header::HOST, authority)
        .header(header::ACCEPT, "text/plain")
        .header(header::USER_AGENT, "merpati")
        .body(Empty::<Bytes>::new())
        .map_err(FetchTrouble::fetch)?;
    let response = sender.send_request(request).await.map_err(broken)?;
    policy_of(response, name).await
}

async fn policy_of(response: Response<Incoming>, name: &str) -> Result<Policy, FetchTrouble> {
    let status = response.status();
    // Also a redirect: it must not be followed (§3.3).
    if status != StatusCode::OK {
        return Err(FetchTrouble::fetch(format!("{name} answers {status}")));
    }
    let kind = response.headers().get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    let essence = kind.and_then(|kind| kind.split(|octet| *octet == b';').next());
    if !essence.is_some_and(|kind| kind.trim_ascii().eq_ignore_ascii_case(b"text/plain")) {
        let kind = kind.map_or("nothing".into(), |kind| kind.escape_ascii().to_string());
        return Err(FetchTrouble::fetch(format!("{name} gives {kind} in place of text/plain")));
    }
    let body = Limited::new(response.into_body(), POLICY_OCTETS_MAX).collect().await;
    let body = body.map_err(|why| {
        if why.is::<LengthLimitError>() {
            let why = format!("what {name} gives is longer than {POLICY_OCTETS_MAX} octets");
            FetchTrouble::invalid(why)
        } else {
            FetchTrouble::fetch(format!("{name}: {why}"))
        }
    })?;
    let invalid = |why| FetchTrouble::invalid(format!("what {name} gives is no policy: {why}"));
    Policy::parse(&body.to_bytes()).map_err(invalid)
}

const PATH: &str = "/.well-known/mta-sts.txt";

/// The addresses of a host that are tried.
const ADDRESSES_MAX: usize = 4;

/// The longest head of an answer.
const HEAD_OCTETS_MAX: usize = 16_384;
