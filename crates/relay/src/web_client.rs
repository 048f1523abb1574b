//! How we speak HTTPS to hosts that strangers name: for policies of MTA-STS, and for reports.
//!
//! Invariant: nobody leads us to an address to which strangers must not; a redirect is never
//! followed; time is bounded by whoever asks. Not pure: asks name servers, and speaks to hosts.

use std::{
    fmt, io,
    net::{IpAddr, SocketAddr},
};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Request, Response, body::Incoming};
use hyper_util::rt::TokioIo;
use merpati_mail::Domain;
use rustls_pki_types::ServerName;
use tokio::{
    net::TcpStream,
    task::JoinSet,
    time::{Instant, timeout_at},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::resolve::Resolver;

/// Speaks HTTPS; believes in certificates as its connector does.
pub(crate) struct Https {
    connector: TlsConnector,
    resolver: Resolver,
}

/// Why it came to no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trouble {
    /// Whether the host did not prove its name.
    pub(crate) is_of_certificate: bool,
    /// What went wrong, in words.
    pub(crate) why: String,
}

impl Trouble {
    pub(crate) fn of(why: impl fmt::Display) -> Self {
        Self { is_of_certificate: false, why: why.to_string() }
    }
}

/// An answer, whose connection ends with it.
pub(crate) struct Answer {
    pub(crate) response: Response<Incoming>,
    _driver: JoinSet<hyper::Result<()>>,
}

impl Https {
    pub(crate) const fn new(resolver: Resolver, connector: TlsConnector) -> Self {
        Self { connector, resolver }
    }

    /// Sends a request to this host, whose addresses are tried in turn until the deadline.
    pub(crate) async fn ask(
        &self,
        (host, port): (&str, u16),
        request: Request<Full<Bytes>>,
        deadline: Instant,
    ) -> Result<Answer, Trouble> {
        let late = |_| Trouble::of(format!("{host} took too long"));
        let connecting = self.connect(host, port, deadline);
        let stream = timeout_at(deadline, connecting).await.map_err(late)??;
        timeout_at(deadline, send(stream, request))
            .await
            .map_err(late)?
            .map_err(|why| Trouble { why: format!("{host}: {why}"), is_of_certificate: false })
    }

    async fn connect(
        &self,
        host: &str,
        port: u16,
        deadline: Instant,
    ) -> Result<TlsStream<TcpStream>, Trouble> {
        let server = ServerName::try_from(host.to_owned()).map_err(Trouble::of)?;
        let addresses = self.addresses(host).await?;
        let mut last = None;
        for (address, left) in addresses.iter().zip((1..=addresses.len()).rev()) {
            // An address that is silent must leave time for the others.
            let left = u32::try_from(left).unwrap_or(u32::MAX);
            let share = deadline.saturating_duration_since(Instant::now()) / left;
            let connecting = self.connect_to(SocketAddr::new(*address, port), server.clone());
            last = match timeout_at(Instant::now() + share, connecting).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(why)) => Some(Trouble {
                    is_of_certificate: is_of_certificate(&why),
                    why: format!("{host} [{address}]: {why}"),
                }),
                Err(_elapsed) => Some(Trouble::of(format!("{host} [{address}] is silent"))),
            };
        }
        Err(last.unwrap_or_else(|| Trouble::of(format!("{host} has no address"))))
    }

    /// Where the host is, as far as strangers may lead us there.
    async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, Trouble> {
        let host = match host.parse() {
            Ok(address) => Domain::Literal(address),
            Err(_) => Domain::parse(host).map_err(Trouble::of)?,
        };
        let found = self.resolver.addresses(&host).await;
        let found = found.map_err(|why| Trouble::of(format!("{host}: {why}")))?;
        let permitted = found.iter().copied().filter(|address| self.resolver.permits(*address));
        let permitted: Vec<_> = permitted.take(ADDRESSES_MAX).collect();
        match (permitted.is_empty(), found.first()) {
            (true, Some(forbidden)) => Err(Trouble::of(format!(
                "{host} leads to {forbidden}, an address to which strangers must not lead us"
            ))),
            (true, None) | (false, _) => Ok(permitted),
        }
    }

    async fn connect_to(
        &self,
        address: SocketAddr,
        server: ServerName<'static>,
    ) -> io::Result<TlsStream<TcpStream>> {
        self.connector.connect(server, TcpStream::connect(address).await?).await
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

async fn send(
    stream: TlsStream<TcpStream>,
    request: Request<Full<Bytes>>,
) -> hyper::Result<Answer> {
    let mut builder = hyper::client::conn::http1::Builder::new();
    builder.max_buf_size(HEAD_OCTETS_MAX);
    let (mut sender, connection) = builder.handshake(TokioIo::new(stream)).await?;
    let mut driver = JoinSet::new();
    driver.spawn(connection);
    let response = sender.send_request(request).await?;
    Ok(Answer { response, _driver: driver })
}

/// The addresses of a host that are tried.
const ADDRESSES_MAX: usize = 4;

/// The longest head of an answer.
const HEAD_OCTETS_MAX: usize = 16_384;
