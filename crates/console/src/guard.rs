//! Who may ask: which hosts a request may name, and on behalf of which page a browser may change
//! something.
//!
//! Invariant: the API has no cookies and allows no other origin, so what a foreign page could do is
//! send blind requests, or point a name of its own at our address (DNS rebinding). Both end here.

use std::{net::IpAddr, sync::Arc};

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, Method, header, uri::Authority},
    middleware::Next,
    response::{IntoResponse, Response},
};

use crate::problem::{Code, Problem};

/// What a request must show before it is looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Guard {
    /// TCP: a host that is an address, `localhost` or one of these names, and no foreign origin.
    Network {
        /// Names of ours, without a port.
        names: Vec<String>,
    },
    /// The Unix socket: the permissions of its file decide.
    Socket,
}

impl Guard {
    fn check(&self, request: &Request) -> Result<(), Problem> {
        let Self::Network { names } = self else { return Ok(()) };
        let headers = request.headers();
        let host = host(headers)?;
        // A target in absolute form replaces Host (RFC 9112 §3.2.2): both must be ours.
        for authority in [Some(&host), request.uri().authority()].into_iter().flatten() {
            if !is_ours(authority, names) {
                let detail = format!("`{}` is not a name of this relay", authority.host());
                return Err(Problem::new(Code::HostUnknown, detail)
                    .advise("Use the address or localhost, or set server.hostname to this name."));
            }
        }
        if [Method::GET, Method::HEAD].contains(request.method()) {
            return Ok(());
        }
        for origin in headers.get_all(header::ORIGIN) {
            let origin = origin.to_str().unwrap_or("?");
            let site = origin.split_once("://").map(|(_, site)| site);
            if site.is_none_or(|site| !site.eq_ignore_ascii_case(host.as_str())) {
                let detail = format!("the origin `{origin}` is not `{host}`");
                return Err(Problem::new(Code::ForeignOrigin, detail));
            }
        }
        Ok(())
    }
}

/// Lets a request through or refuses it, and gives every response the fields that tell a browser
/// to take it for nothing but data.
pub(crate) async fn guard(
    State(guard): State<Arc<Guard>>,
    request: Request,
    next: Next,
) -> Response {
    let mut response = match guard.check(&request) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    };
    let headers = response.headers_mut();
    for (name, value) in [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'; sandbox"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

fn host(headers: &HeaderMap) -> Result<Authority, Problem> {
    // RFC 9112 §3.2: exactly one; behind a careless proxy a second one might be the true one.
    let mut values = headers.get_all(header::HOST).iter();
    let only = values.next().filter(|_| values.next().is_none());
    let value = only.and_then(|value| value.to_str().ok());
    let authority = value.and_then(|value| value.parse().ok());
    authority.ok_or_else(|| {
        Problem::new(Code::HostUnknown, "the request does not have one readable Host")
    })
}

/// A name can be pointed anywhere by whoever owns it; an address cannot, so every address is good.
fn is_ours(authority: &Authority, names: &[String]) -> bool {
    let host = authority.host().trim_matches(['[', ']']);
    host.parse::<IpAddr>().is_ok()
        || host.eq_ignore_ascii_case("localhost")
        || names.iter().any(|name| name.eq_ignore_ascii_case(host))
}
