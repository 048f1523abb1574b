//! How a CA is spoken to: HTTP/1.1 over TLS, a connection for each request.
//!
//! Invariant: an answer has a bounded size and comes in time, or none came. Not pure: sockets, DNS.

use std::{future::Future, net::IpAddr, net::SocketAddr, pin::Pin, time::Duration};

use anyhow::Context as _;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{
    Request, Response, Uri,
    client::conn::http1,
    header::{HOST, HeaderValue},
};
use hyper_util::rt::TokioIo;
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use merpati_auth::dns::{Answer, Question};
use rustls_pki_types::ServerName;
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::TlsConnector;

use crate::resolve::Resolver;

/// Speaks to a CA.
#[derive(Clone)]
pub(super) struct Client {
    /// Whose certificate is believed.
    pub(super) connector: TlsConnector,
    /// Who knows where the CA is.
    pub(super) resolver: Resolver,
}

impl HttpClient for Client {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let client = self.clone();
        Box::pin(async move {
            let uri = request.uri().clone();
            let answer = timeout(ANSWER_WAIT, client.exchange(request)).await;
            let answer = answer.unwrap_or_else(|_| Err(anyhow::anyhow!("it does not answer")));
            let answer = answer.with_context(|| format!("cannot ask {uri}"));
            // The cause is what the operator needs, and this error would show the first words only.
            answer.map(BytesResponse::from).map_err(|why| Error::Other(format!("{why:#}").into()))
        })
    }
}

impl Client {
    async fn exchange(
        &self,
        mut request: Request<BodyWrapper<Bytes>>,
    ) -> anyhow::Result<Response<Full<Bytes>>> {
        let uri = request.uri().clone();
        anyhow::ensure!(uri.scheme_str() == Some("https"), "it is no URL of https");
        let authority = uri.authority().context("it names no host")?;
        let host = authority.host().trim_matches(['[', ']']).to_owned();
        let stream = self.connect(&host, uri.port_u16().unwrap_or(HTTPS)).await?;
        let name = ServerName::try_from(host)?;
        let stream = self.connector.connect(name, stream).await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // It ends when the sender is gone.
        tokio::spawn(connection);
        request.headers_mut().insert(HOST, HeaderValue::from_str(authority.as_str())?);
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        *request.uri_mut() = path.parse::<Uri>()?;
        let (parts, body) = sender.send_request(request).await?.into_parts();
        let body = Limited::new(body, ANSWER_OCTETS_MAX).collect().await;
        let body = body.map_err(|why| anyhow::anyhow!("the answer broke off: {why}"))?;
        Ok(Response::from_parts(parts, Full::new(body.to_bytes())))
    }

    async fn connect(&self, host: &str, port: u16) -> anyhow::Result<TcpStream> {
        let addresses = match host.parse::<IpAddr>() {
            Ok(address) => vec![address],
            Err(_) => self.addresses(host).await,
        };
        let mut last = None;
        for address in addresses {
            let connected = TcpStream::connect(SocketAddr::new(address, port));
            match timeout(CONNECT_WAIT, connected).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(why)) => last = Some(format!("{address}: {why}")),
                Err(_) => last = Some(format!("{address} does not answer")),
            }
        }
        anyhow::bail!(last.unwrap_or_else(|| format!("the DNS knows no address of {host}")))
    }

    async fn addresses(&self, host: &str) -> Vec<IpAddr> {
        let mut all = Vec::new();
        for question in [Question::Aaaa(host.to_owned()), Question::A(host.to_owned())] {
            if let Answer::Addresses(found) = self.resolver.look(&question).await {
                all.extend(found);
            }
        }
        all
    }
}

const HTTPS: u16 = 443;
/// How long an answer may take, with all that comes before it.
const ANSWER_WAIT: Duration = Duration::from_mins(1);
/// How long a connection to one address may take.
const CONNECT_WAIT: Duration = Duration::from_secs(10);
/// Octets of an answer. A chain of certificates has some 10,000.
const ANSWER_OCTETS_MAX: usize = 1 << 20;
