//! A real process on free ports of loopback, and raw clients that speak to it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    dead_code,
    missing_docs,
    unreachable_pub
)]

pub mod dns;
pub mod dnssec;
pub mod internet;
pub mod peer;
pub mod policy_host;
pub mod secure;

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Condvar, Mutex},
    time::Duration,
};

use serde_json::Value;

/// How long a test waits for anything before it fails.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// A running `merpati serve`.
pub struct Relay {
    child: Option<Child>,
    log: Arc<Log>,
    listeners: Vec<(String, SocketAddr)>,
}

#[derive(Default)]
struct Log {
    lines: Mutex<(Vec<Value>, bool)>,
    more: Condvar,
}

impl Relay {
    /// Starts it with this data directory and these settings besides; waits until it listens.
    pub fn start(dir: &Path, settings: &[&str]) -> Self {
        Self::try_start(dir, settings).unwrap_or_else(|(status, text)| panic!("{status}: {text}"))
    }

    /// The same, or its exit status and what it said on standard error.
    pub fn try_start(dir: &Path, settings: &[&str]) -> Result<Self, (ExitStatus, String)> {
        Self::try_start_as(Command::new(env!("CARGO_BIN_EXE_merpati")), dir, settings)
    }

    /// The same by a command that ends in running `merpati` with the arguments that follow it.
    pub fn try_start_as(
        command: Command,
        dir: &Path,
        settings: &[&str],
    ) -> Result<Self, (ExitStatus, String)> {
        let config = dir.with_extension("toml");
        if !config.exists() {
            std::fs::write(&config, "").unwrap();
        }
        let mut relay = Self::spawn_as(command, dir, settings);
        if let Some(line) = relay.wait_for(|line| line["event"] == "Started") {
            let address = |l: &Value| l["address"].as_str().unwrap().parse().unwrap();
            relay.listeners = line["listeners"]
                .as_array()
                .unwrap()
                .iter()
                .map(|l| (l["name"].as_str().unwrap().to_owned(), address(l)))
                .collect();
            return Ok(relay);
        }
        let mut text = String::new();
        let mut child = relay.child.take().unwrap();
        child.stderr.take().unwrap().read_to_string(&mut text).unwrap();
        Err((child.wait().unwrap(), text))
    }

    /// Starts it and does not wait.
    pub fn spawn(dir: &Path, settings: &[&str]) -> Self {
        Self::spawn_as(Command::new(env!("CARGO_BIN_EXE_merpati")), dir, settings)
    }

    fn spawn_as(mut command: Command, dir: &Path, settings: &[&str]) -> Self {
        command.args(["serve", "--config"]).arg(dir.with_extension("toml"));
        let all = [
            format!("server.data_dir={}", dir.display()),
            "server.http_listen=127.0.0.1:0".to_owned(),
            "listener.sandbox.kind=sandbox".to_owned(),
            "listener.sandbox.listen=127.0.0.1:0".to_owned(),
            "spool.disk_free_min=1 MiB".to_owned(),
            // The names of tests are in no DNS, and no test depends on that of the machine.
            "strangers.sender_domain=any".to_owned(),
        ];
        for setting in all.iter().map(String::as_str).chain(settings.iter().copied()) {
            command.args(["--set", setting]);
        }
        command.env_clear().env("HOME", dir).stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let log = Arc::new(Log::default());
        let (out, seen) = (child.stdout.take().unwrap(), Arc::clone(&log));
        std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                if let Ok(line) = serde_json::from_str(&line) {
                    seen.lines.lock().unwrap().0.push(line);
                    seen.more.notify_all();
                }
            }
            seen.lines.lock().unwrap().1 = true;
            seen.more.notify_all();
        });
        Self { child: Some(child), log, listeners: Vec::new() }
    }

    /// The first line of the mail log that fits; `None` if the process ends without one.
    pub fn wait_for(&self, fits: impl Fn(&Value) -> bool) -> Option<Value> {
        let guard = self.log.lines.lock().unwrap();
        let waiting = |state: &mut (Vec<Value>, bool)| !state.1 && !state.0.iter().any(&fits);
        let (guard, waited) = self.log.more.wait_timeout_while(guard, PATIENCE, waiting).unwrap();
        assert!(!waited.timed_out(), "the log has no such line: {:?}", guard.0);
        guard.0.iter().find(|line| fits(line)).cloned()
    }

    /// The first `count` lines of the mail log that fit.
    pub fn wait_for_all(&self, count: usize, fits: impl Fn(&Value) -> bool) -> Vec<Value> {
        let guard = self.log.lines.lock().unwrap();
        let fitting = |lines: &[Value]| lines.iter().filter(|line| fits(line)).count();
        let waiting = |state: &mut (Vec<Value>, bool)| !state.1 && fitting(&state.0) < count;
        let (guard, waited) = self.log.more.wait_timeout_while(guard, PATIENCE, waiting).unwrap();
        assert!(!waited.timed_out(), "the log has too few such lines: {}", fitting(&guard.0));
        guard.0.iter().filter(|line| fits(line)).take(count).cloned().collect()
    }

    pub fn address(&self, name: &str) -> SocketAddr {
        self.listeners.iter().find(|(listener, _)| listener == name).unwrap().1
    }

    pub fn smtp(&self) -> Smtp<TcpStream> {
        Smtp::connect(self.address("sandbox"))
    }

    /// `GET` over HTTP: status and body.
    pub fn get(&self, path: &str) -> (u16, Vec<u8>) {
        http(self.address("http"), "GET", path)
    }

    pub fn get_json(&self, path: &str) -> Value {
        let (status, body) = self.get(path);
        assert_eq!(status, 200, "{path}: {}", String::from_utf8_lossy(&body));
        serde_json::from_slice(&body).unwrap()
    }

    /// The octets of a captured message.
    pub fn raw(&self, id: &str) -> Option<Vec<u8>> {
        let (status, body) = self.get(&format!("/v1/sandbox/messages/{id}/raw"));
        (status == 200).then_some(body)
    }

    pub fn signal(&self, name: &str) {
        let pid = self.child.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    /// Waits for the end; gives also what it said on standard error.
    pub fn wait_with_errors(mut self) -> (ExitStatus, String) {
        let mut child = self.child.take().unwrap();
        let mut text = String::new();
        child.stderr.take().unwrap().read_to_string(&mut text).unwrap();
        (child.wait().unwrap(), text)
    }

    /// Waits for the end.
    pub fn wait(mut self) -> ExitStatus {
        self.child.take().unwrap().wait().unwrap()
    }

    /// `SIGTERM`, and waits for the end.
    pub fn stop(self) -> ExitStatus {
        self.signal("TERM");
        self.wait()
    }

    /// `SIGKILL`, and waits for the end.
    pub fn kill(mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().ok();
            child.wait().ok();
        }
    }
}

/// A data directory; the configuration file beside it is in the same temporary directory.
pub fn data_dir(temporary: &tempfile::TempDir) -> PathBuf {
    temporary.path().join("data")
}

pub fn http(address: SocketAddr, method: &str, path: &str) -> (u16, Vec<u8>) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let request =
        format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut response = Vec::new();
    stream.read_to_end(&mut response).unwrap();
    let end = response.windows(4).position(|w| w == b"\r\n\r\n").unwrap();
    let head = String::from_utf8_lossy(&response[..end]).to_lowercase();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let body = response.split_off(end + 4);
    (status, if head.contains("transfer-encoding: chunked") { dechunk(&body) } else { body })
}

/// A connection that is used again and again.
pub struct HttpClient {
    address: SocketAddr,
    stream: BufReader<TcpStream>,
}

impl HttpClient {
    pub fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { address, stream: BufReader::new(stream) }
    }

    /// `GET`: status and body; the response must say its length.
    pub fn get(&mut self, path: &str) -> (u16, Vec<u8>) {
        let request = format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", self.address);
        self.stream.get_mut().write_all(request.as_bytes()).unwrap();
        let mut line = String::new();
        self.stream.read_line(&mut line).unwrap();
        let status = line.split(' ').nth(1).unwrap().parse().unwrap();
        let mut length = None;
        loop {
            line.clear();
            self.stream.read_line(&mut line).unwrap();
            let field = line.to_lowercase();
            if let Some(value) = field.strip_prefix("content-length:") {
                length = Some(value.trim().parse::<usize>().unwrap());
            }
            if line == "\r\n" {
                break;
            }
        }
        let mut body = vec![0; length.unwrap()];
        self.stream.read_exact(&mut body).unwrap();
        (status, body)
    }
}

fn dechunk(mut body: &[u8]) -> Vec<u8> {
    let mut whole = Vec::new();
    loop {
        let end = body.windows(2).position(|w| w == b"\r\n").unwrap();
        let size = usize::from_str_radix(std::str::from_utf8(&body[..end]).unwrap(), 16).unwrap();
        if size == 0 {
            return whole;
        }
        whole.extend_from_slice(&body[end + 2..end + 2 + size]);
        body = &body[end + 4 + size..];
    }
}

/// A client that says what it is told.
pub struct Smtp<S> {
    stream: BufReader<S>,
}

impl Smtp<TcpStream> {
    /// Connects and reads the greeting.
    pub fn connect(address: SocketAddr) -> Self {
        let mut client = Self::silent(address);
        let greeting = client.reply();
        assert!(greeting.starts_with("220"), "{greeting}");
        client
    }

    /// Connects from this address and reads the greeting.
    pub fn from(source: Ipv4Addr, address: SocketAddr) -> Self {
        let connected = async {
            let socket = tokio::net::TcpSocket::new_v4()?;
            socket.bind((source, 0).into())?;
            socket.connect(address).await?.into_std()
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
        let stream = runtime.block_on(connected).unwrap();
        stream.set_nonblocking(false).unwrap();
        let mut client = Self::on(stream);
        let greeting = client.reply();
        assert!(greeting.starts_with("220"), "{greeting}");
        client
    }

    /// Connects.
    pub fn silent(address: SocketAddr) -> Self {
        Self::on(TcpStream::connect(address).unwrap())
    }

    fn on(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream: BufReader::new(stream) }
    }

    pub fn into_stream(self) -> TcpStream {
        self.stream.into_inner()
    }
}

impl<S: Read + Write> Smtp<S> {
    pub fn over(stream: S) -> Self {
        Self { stream: BufReader::new(stream) }
    }

    pub fn send(&mut self, octets: &[u8]) {
        self.try_send(octets).unwrap();
    }

    pub fn try_send(&mut self, octets: &[u8]) -> std::io::Result<()> {
        self.stream.get_mut().write_all(octets)?;
        self.stream.get_mut().flush()
    }

    /// The next reply, all its lines; empty at the end of the stream.
    pub fn reply(&mut self) -> String {
        self.try_reply().unwrap()
    }

    pub fn try_reply(&mut self) -> std::io::Result<String> {
        let mut whole = String::new();
        loop {
            let mut line = String::new();
            self.stream.read_line(&mut line)?;
            let is_last = line.as_bytes().get(3) != Some(&b'-');
            whole.push_str(&line);
            if is_last {
                return Ok(whole);
            }
        }
    }

    /// Says a line and expects a reply that begins so.
    #[track_caller]
    pub fn say(&mut self, line: &str, want: &str) -> String {
        self.send(format!("{line}\r\n").as_bytes());
        let reply = self.reply();
        assert!(reply.starts_with(want), "{line}: {reply}");
        reply
    }

    /// Hands a message over with DATA; gives the reply to its end.
    pub fn data(&mut self, from: &str, to: &str, content: &[u8]) -> String {
        self.say(&format!("MAIL FROM:<{from}>"), "250");
        self.say(&format!("RCPT TO:<{to}>"), "250");
        self.say("DATA", "354");
        self.send(&stuffed(content));
        self.reply()
    }

    /// Hands a message over and gives the name that it got.
    #[track_caller]
    pub fn deliver(&mut self, content: &[u8]) -> String {
        let reply = self.data("a@a.example", "b@b.example", content);
        queued_as(&reply).unwrap_or_else(|| panic!("{reply}"))
    }
}

/// The name in `250 … queued as NAME`.
pub fn queued_as(reply: &str) -> Option<String> {
    let (_, id) = reply.strip_prefix("250 ")?.trim_end().split_once("queued as ")?;
    Some(id.to_owned())
}

/// The content as DATA carries it, with its end; it must end in CRLF.
pub fn stuffed(content: &[u8]) -> Vec<u8> {
    let mut wire = Vec::with_capacity(content.len() + 16);
    let mut is_line_start = true;
    let mut before = 0;
    for &octet in content {
        if is_line_start && octet == b'.' {
            wire.push(b'.');
        }
        wire.push(octet);
        is_line_start = octet == b'\n' && before == b'\r';
        before = octet;
    }
    wire.extend_from_slice(b".\r\n");
    wire
}
