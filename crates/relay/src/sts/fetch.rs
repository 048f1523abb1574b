//! How a policy is fetched: by HTTPS from the host `mta-sts` of its domain (RFC 8461 §3.3).
//!
//! Invariant: a text counts only where the host proved its name, said 200 by itself and calls it
//! plain text. Time and octets are bounded. Not pure: asks name servers, and speaks to hosts.

use std::{fmt, path::PathBuf, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::{Request, Response, StatusCode, body::Incoming, header, header::HeaderValue};
use merpati_auth::sts::{POLICY_OCTETS_MAX, Policy};
use merpati_mail::Domain;
use tokio::time::{Instant, timeout};

use crate::{
    resolve::Resolver,
    tls::{self, Trust},
    web_client::{Https, Trouble},
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

impl From<Trouble> for FetchTrouble {
    fn from(Trouble { is_of_certificate, why }: Trouble) -> Self {
        Self { kind: if is_of_certificate { TroubleKind::WebPki } else { TroubleKind::Fetch }, why }
    }
}

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
    https: Https,
    port: u16,
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
        Ok(Self { https: Https::new(resolver, tls::connector(trust, None)?), port, wait })
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
        let (name, port) = (format!("mta-sts.{domain}"), self.port);
        let authority = if port == 443 { name.clone() } else { format!("{name}:{port}") };
        let request = Request::get(PATH)
            .header(header::HOST, authority)
            .header(header::ACCEPT, "text/plain")
            .header(header::USER_AGENT, "merpati")
            .body(Full::<Bytes>::default())
            .map_err(FetchTrouble::fetch)?;
        let answer = self.https.ask((&name, port), request, deadline).await?;
        policy_of(answer.response, &name).await
    }
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
