//! A report of TLS by HTTPS (RFC 8460 §5.4).
//!
//! Not pure: asks name servers, and speaks to hosts.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Request, StatusCode, Uri, header};
use tokio::time::Instant;

use crate::web_client::Https;

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Posted {
    /// It was taken.
    Done,
    /// It may be tried again; in words why.
    Later(String),
    /// It will never be taken there; in words why.
    Never(String),
}

/// Posts a report in gzip to a URI.
pub(super) async fn post(https: &Https, uri: &str, packed: Vec<u8>, wait: Duration) -> Posted {
    let Ok(uri) = uri.parse::<Uri>() else {
        return Posted::Never("its URI cannot be read".to_owned());
    };
    // What stands before an @ would be a password in our log, and is no business of a report.
    let authority = uri.authority().filter(|authority| !authority.as_str().contains('@'));
    let Some(authority) = authority else {
        return Posted::Never("its URI names no host, or somebody to log in as".to_owned());
    };
    let (host, port) = (authority.host(), authority.port_u16().unwrap_or(443));
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let request = Request::post(path)
        .header(header::HOST, authority.as_str())
        .header(header::CONTENT_TYPE, "application/tlsrpt+gzip")
        .header(header::USER_AGENT, "merpati")
        .body(Full::new(Bytes::from(packed)));
    let Ok(request) = request else { return Posted::Never("its URI cannot be asked".to_owned()) };
    match https.ask((host, port), request, Instant::now() + wait).await {
        // What it says besides is not read: the connection ends here.
        Ok(answer) => fate(answer.response.status()),
        Err(trouble) => Posted::Later(trouble.why),
    }
}

fn fate(status: StatusCode) -> Posted {
    let why = format!("the host answers {status}");
    let is_of_the_moment =
        [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_EARLY, StatusCode::TOO_MANY_REQUESTS];
    if status.is_success() {
        Posted::Done
    } else if status.is_server_error() || is_of_the_moment.contains(&status) {
        Posted::Later(why)
    } else {
        // Also a redirect: a stranger's zone names one host, and that is enough.
        Posted::Never(why)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_taken_now_later_or_never() {
        let fate = |code| fate(StatusCode::from_u16(code).unwrap());
        for code in [200, 201, 202, 204] {
            assert_eq!(fate(code), Posted::Done);
        }
        for code in [408, 429, 500, 502, 503] {
            assert!(matches!(fate(code), Posted::Later(_)), "{code}");
        }
        for code in [301, 302, 307, 400, 401, 403, 404, 410, 413] {
            assert!(matches!(fate(code), Posted::Never(_)), "{code}");
        }
    }
}
