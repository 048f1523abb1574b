//! What is answered to a request of a stranger.
//!
//! Invariant: nothing is told that strangers need not know, and nothing is ever redirected
//! (RFC 8461 §3.3). Pure, but that it looks whether the relay is ready.

use std::sync::Arc;

use axum::{
    body::Body,
    http::{HeaderValue, Method, Request, Response, Version, header, uri::Authority},
    response::IntoResponse as _,
};
use merpati_console::problem::{Code, Problem};

use crate::{
    acme::challenges::{Challenges, TEXTS},
    health::{Health, Life},
    mta_sts::{self, Policy},
};

/// All that can be answered.
#[derive(Debug)]
pub struct Answers {
    /// The policies of our domains.
    pub policies: Vec<Policy>,
    /// Whether mail is taken.
    pub health: Arc<Health>,
    /// What a CA may see.
    pub challenges: Arc<Challenges>,
}

impl Answers {
    /// What a request is answered.
    pub fn to<B>(&self, request: &Request<B>) -> Response<Body> {
        let mut response = match self.find(request) {
            Ok(text) => {
                let kind = HeaderValue::from_static("text/plain");
                let mut response = Response::new(Body::from(text));
                response.headers_mut().insert(header::CONTENT_TYPE, kind);
                response
            }
            Err(problem) => problem.into_response(),
        };
        let fields = response.headers_mut();
        if !is_read(request.method()) {
            fields.insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
        }
        fields.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        response
    }

    fn find<B>(&self, request: &Request<B>) -> Result<String, Problem> {
        let host = host(request)?;
        if !is_read(request.method()) {
            return Err(Problem::new(Code::MethodNotAllowed, "only GET and HEAD are there"));
        }
        let nothing = || Problem::new(Code::NoSuchRoute, "there is nothing at this path here");
        match request.uri().path() {
            HEALTH => Ok("ok\n".to_owned()),
            READINESS => self.readiness(),
            mta_sts::PATH => self.policy(&host).ok_or_else(nothing),
            path => {
                let token = path.strip_prefix(TEXTS);
                token.and_then(|token| self.challenges.text(token)).ok_or_else(nothing)
            }
        }
    }

    /// Why it is not ready is the operator's to know, who asks the HTTP API.
    fn readiness(&self) -> Result<String, Problem> {
        if self.health.life() == Life::Ready && self.health.shortage().is_none() {
            return Ok("ready\n".to_owned());
        }
        Err(Problem::new(Code::NotReady, "the relay takes no mail just now"))
    }

    /// The policy of the domain at this host.
    fn policy(&self, host: &str) -> Option<String> {
        let domain = mta_sts::domain_at(host)?;
        let policy = self.policies.iter().find(|policy| policy.domains.contains(&domain))?;
        Some(policy.text.clone())
    }
}

fn is_read(method: &Method) -> bool {
    [Method::GET, Method::HEAD].contains(method)
}

/// The host that is asked, in lower case and without a port; empty where HTTP/1.0 names none. A
/// target in absolute form replaces the field (RFC 9112 §3.2.2).
fn host<B>(request: &Request<B>) -> Result<String, Problem> {
    let wrong = |why: &str| Problem::new(Code::BadParameter, why);
    let mut fields = request.headers().get_all(header::HOST).iter();
    let field = fields.next();
    if fields.next().is_some() {
        return Err(wrong("there are several Host fields"));
    }
    if field.is_none() && request.version() >= Version::HTTP_11 {
        return Err(wrong("there is no Host field"));
    }
    let read = |field: &HeaderValue| -> Option<Authority> {
        let text = field.to_str().ok()?;
        text.parse().ok().filter(|_| !text.contains('@'))
    };
    let named = field.filter(|field| !field.is_empty());
    let named = named.map(|field| read(field).ok_or_else(|| wrong("Host names no host")));
    let named = named.transpose()?;
    let host = request.uri().authority().or(named.as_ref()).map_or("", Authority::host);
    // A name with its final dot is the same name.
    Ok(host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase())
}

const HEALTH: &str = "/healthz";
const READINESS: &str = "/readyz";

#[cfg(test)]
mod tests {
    use merpati_mail::Domain;

    use super::*;

    fn answers() -> Answers {
        let policy = |domain: &str, text: &str| Policy {
            domains: vec![Domain::parse(domain).unwrap()],
            text: text.to_owned(),
        };
        let policies = vec![policy("ours.example", "one"), policy("xn--bcher-kva.example", "two")];
        Answers { policies, health: Arc::default(), challenges: Arc::default() }
    }

    /// The status of the answer to `METHOD TARGET` with these `Host` fields.
    fn status(answers: &Answers, line: &str, hosts: &[&str]) -> u16 {
        let (method, target) = line.split_once(' ').unwrap();
        let mut request = Request::builder().method(method).uri(target);
        for host in hosts {
            request = request.header(header::HOST, *host);
        }
        let response = answers.to(&request.body(()).unwrap());
        let is_problem = response.headers()[header::CONTENT_TYPE] == "application/problem+json";
        assert_eq!(is_problem, response.status() != 200, "{line}");
        response.status().as_u16()
    }

    #[test]
    fn a_policy_is_found_by_whatever_form_the_host_is_named_in() {
        let answers = answers();
        let line = format!("GET {}", mta_sts::PATH);
        for (host, want) in [
            ("mta-sts.ours.example", 200),
            ("MTA-STS.Ours.Example", 200),
            ("mta-sts.ours.example.", 200),
            ("mta-sts.ours.example:443", 200),
            ("mta-sts.ours.example.:8443", 200),
            ("mta-sts.xn--bcher-kva.example", 200),
            ("ours.example", 404),
            ("mta-sts.sub.ours.example", 404),
            ("mta-sts.other.example", 404),
            ("mta-sts.", 404),
            ("192.0.2.1", 404),
            ("[2001:db8::1]:443", 404),
            ("", 404),
            ("ani@mta-sts.ours.example", 400),
            ("mta-sts.ours.example/", 400),
            ("mta sts", 400),
        ] {
            assert_eq!(status(&answers, &line, &[host]), want, "{host}");
        }
        let absolute = format!("GET https://mta-sts.ours.example{}", mta_sts::PATH);
        assert_eq!(status(&answers, &absolute, &["other.example"]), 200);
        let twice = ["mta-sts.ours.example", "mta-sts.ours.example"];
        assert_eq!(status(&answers, &line, &twice), 400);
        assert_eq!(status(&answers, &line, &[]), 400);
    }

    #[test]
    fn what_is_not_there_is_a_problem_and_what_is_not_asked_for_is_not_allowed() {
        let answers = answers();
        let hosts = ["mta-sts.ours.example"];
        for (line, want) in [
            ("HEAD /.well-known/mta-sts.txt", 200),
            ("POST /.well-known/mta-sts.txt", 405),
            ("GET /.well-known/mta-sts.txt/", 404),
            ("GET /.well-known/../.well-known/mta-sts.txt", 404),
            ("GET /", 404),
            ("GET /metrics", 404),
            ("GET /.well-known/acme-challenge/", 404),
            ("GET /.well-known/acme-challenge/token", 404),
            ("GET /v1/status", 404),
            ("DELETE /v1/sandbox/messages", 405),
            ("GET /healthz", 200),
            ("GET /readyz", 503),
        ] {
            assert_eq!(status(&answers, line, &hosts), want, "{line}");
        }
        answers.health.ready();
        assert_eq!(status(&answers, "GET /readyz", &hosts), 200);
        answers.health.drain();
        assert_eq!(status(&answers, "GET /readyz", &hosts), 503);
    }
}
