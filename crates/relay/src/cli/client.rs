//! How commands speak to the relay: HTTP over the control socket.

use std::{path::PathBuf, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{Method, Request, Response, StatusCode, body::Incoming, header};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::{net::UnixStream, task::JoinHandle};

use super::{Failure, config_commands};
use crate::config::{self, Config};

/// A client of the relay at one control socket.
#[derive(Clone)]
pub(super) struct Client {
    socket: PathBuf,
    /// Whether somebody said which; else it was found.
    is_named: bool,
}

impl Client {
    /// The client for this socket; `None`: the one in the data directory.
    pub(super) fn new(socket: Option<PathBuf>) -> Self {
        let default = || {
            let environment = config_commands::environment();
            let named = |name: &str| environment.get(name).map(PathBuf::from);
            let directory = || {
                named("MERPATI_SERVER__DATA_DIR").unwrap_or_else(|| config::data_dir(&environment))
            };
            let socket = named("MERPATI_SERVER__CONTROL_SOCKET");
            socket.unwrap_or_else(|| config::control_socket(&directory()))
        };
        let is_named = socket.is_some();
        Self { socket: socket.unwrap_or_else(default), is_named }
    }

    /// The same, at the socket of this configuration, unless somebody said which.
    pub(super) fn by(&self, config: &Config) -> Self {
        if self.is_named {
            return self.clone();
        }
        Self { socket: config.server.control_socket.clone(), is_named: false }
    }

    /// Reads a resource.
    pub(super) fn get(&self, target: &str) -> Result<Bytes, Failure> {
        self.request(&Method::GET, target)
    }

    /// Reads a resource that is JSON.
    pub(super) fn json(&self, target: &str) -> Result<Value, Failure> {
        parse(&self.get(target)?)
    }

    /// Begins something.
    pub(super) fn post(&self, target: &str) -> Result<Value, Failure> {
        parse(&self.request(&Method::POST, target)?)
    }

    /// Does something that takes as long as it takes, and waits for its end.
    pub(super) fn post_and_wait(&self, target: &str) -> Result<Value, Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        parse(&runtime.block_on(self.exchange(&Method::POST, target))?)
    }

    /// Deletes something.
    pub(super) fn delete(&self, target: &str) -> Result<Value, Failure> {
        parse(&self.request(&Method::DELETE, target)?)
    }

    /// Reads a resource that goes on and on, line by line, until `take` says false or it ends.
    pub(super) fn lines(
        &self,
        target: &str,
        mut take: impl FnMut(&str) -> Result<bool, Failure>,
    ) -> Result<(), Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let (response, driver) = self.send(&Method::GET, target).await?;
            let status = response.status();
            let mut body = response.into_body();
            let mut unread: Vec<u8> = Vec::new();
            while let Some(frame) = body.frame().await {
                let frame = frame.map_err(|why| broken(&why))?;
                unread.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data));
                if !status.is_success() {
                    continue;
                }
                if !take_lines(&mut unread, &mut take)? {
                    return Ok(());
                }
            }
            driver.abort();
            if status.is_success() { Ok(()) } else { Err(refusal(status, &unread)) }
        })
    }

    fn request(&self, method: &Method, target: &str) -> Result<Bytes, Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let exchange = self.exchange(method, target);
        let answer = runtime.block_on(async { tokio::time::timeout(ANSWER_WAIT, exchange).await });
        answer.map_err(|_| Failure::Timeout("the relay does not answer".to_owned()))?
    }

    async fn exchange(&self, method: &Method, target: &str) -> Result<Bytes, Failure> {
        let (response, driver) = self.send(method, target).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), BODY_OCTETS_MAX).collect().await;
        driver.abort();
        let body = body.map_err(|why| broken(&why))?.to_bytes();
        if status.is_success() { Ok(body) } else { Err(refusal(status, &body)) }
    }

    /// Asks; what answers goes on as long as the task that is given with it.
    async fn send(
        &self,
        method: &Method,
        target: &str,
    ) -> Result<(Response<Incoming>, JoinHandle<hyper::Result<()>>), Failure> {
        let stream = UnixStream::connect(&self.socket).await.map_err(|why| {
            let socket = self.socket.display();
            Failure::RelayDown(format!(
                "no relay answers at {socket} ({why})\nhelp: start it with `merpati serve`, or \
                 name its socket with --socket or MERPATI_SOCKET"
            ))
        })?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|why| broken(&why))?;
        let driver = tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(target)
            .header(header::HOST, "localhost")
            .body(Empty::<Bytes>::new())
            .map_err(|why| Failure::Other(why.to_string()))?;
        let response = sender.send_request(request).await.map_err(|why| broken(&why))?;
        Ok((response, driver))
    }
}

/// Takes whole lines from the beginning, until `take` says false.
fn take_lines(
    unread: &mut Vec<u8>,
    take: &mut impl FnMut(&str) -> Result<bool, Failure>,
) -> Result<bool, Failure> {
    while let Some(end) = unread.iter().position(|octet| *octet == b'\n') {
        let line: Vec<u8> = unread.drain(..=end).collect();
        if !take(String::from_utf8_lossy(&line).trim_end())? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn broken(why: &dyn std::fmt::Display) -> Failure {
    Failure::RelayDown(format!("the relay hung up: {why}"))
}

/// A value for the query of a target, with everything encoded that could end it (RFC 3986 §2.1).
pub(super) fn encoded(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    for octet in value.bytes() {
        if octet.is_ascii_alphanumeric() || b"-._~".contains(&octet) {
            text.push(char::from(octet));
        } else {
            let digit = |half: u8| char::from_digit(u32::from(half), 16).unwrap_or('0');
            text.extend(['%', digit(octet >> 4), digit(octet & 15)]);
        }
    }
    text
}

fn parse(body: &[u8]) -> Result<Value, Failure> {
    if body.is_empty() {
        return Ok(Value::Null);
    }
    let why = |why| Failure::Other(format!("the relay's answer cannot be read: {why}"));
    serde_json::from_slice(body).map_err(why)
}

/// What a problem of RFC 9457 says to a person.
fn refusal(status: StatusCode, body: &[u8]) -> Failure {
    let problem: Value = serde_json::from_slice(body).unwrap_or_default();
    let detail = problem.get("detail").and_then(Value::as_str).unwrap_or("no reason was given");
    let advice = problem.get("advice").and_then(Value::as_array);
    let mut text = detail.to_owned();
    for line in advice.into_iter().flatten().filter_map(Value::as_str) {
        text.push_str("\nhelp: ");
        text.push_str(line);
    }
    match status {
        StatusCode::REQUEST_TIMEOUT => Failure::Timeout(text),
        StatusCode::BAD_REQUEST => Failure::Usage(text),
        StatusCode::CONFLICT => Failure::Config(text),
        _ => Failure::Other(text),
    }
}

/// Longer than the longest wait that the relay allows.
const ANSWER_WAIT: Duration = Duration::from_secs(330);

/// Longer answers are refused; a message is far shorter.
const BODY_OCTETS_MAX: usize = 1 << 30;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_cannot_leave_its_place_in_the_target() {
        assert_eq!(encoded("a b&c=d#é"), "a%20b%26c%3dd%23%c3%a9");
    }

    #[test]
    fn a_problem_is_told_with_its_advice() {
        let body = br#"{"detail":"no","advice":["Do this.","Or that."]}"#;
        let failure = refusal(StatusCode::NOT_FOUND, body);
        assert_eq!(failure.to_string(), "no\nhelp: Do this.\nhelp: Or that.");
        assert!(matches!(refusal(StatusCode::REQUEST_TIMEOUT, b""), Failure::Timeout(_)));
    }
}
