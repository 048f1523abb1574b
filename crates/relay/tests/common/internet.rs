//! A small internet on a block of 127/8: a name server, hosts that take mail, all on one port, and
//! a relay that sends by MX.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{BufRead, BufReader, Write},
    net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Command, Output, Stdio},
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicU8, Ordering},
    },
    thread::JoinHandle,
    time::Instant,
};

use serde_json::Value;

use super::{PATIENCE, Relay, Smtp, data_dir, dns::Dns, queued_as};

/// A block of addresses, one port on all of them, and a name server.
pub struct Internet {
    pub dns: Dns,
    pub port: u16,
    block: [u8; 2],
    /// Keeps the port from others that might have drawn the same block.
    _reserved: TcpListener,
}

impl Internet {
    pub fn new() -> Self {
        static NEXT: AtomicU8 = AtomicU8::new(0);
        let process = u8::try_from(std::process::id() % 100).unwrap();
        let block = [100 + process, NEXT.fetch_add(1, Ordering::SeqCst)];
        let ip = |last| Ipv4Addr::new(127, block[0], block[1], last);
        let reserved = TcpListener::bind((ip(254), 0)).unwrap();
        let port = reserved.local_addr().unwrap().port();
        Self { dns: Dns::start(ip(1)), port, block, _reserved: reserved }
    }

    /// The address with this last number. 1 is the name server, 250 our relay, 254 taken.
    pub fn ip(&self, last: u8) -> Ipv4Addr {
        Ipv4Addr::new(127, self.block[0], self.block[1], last)
    }

    /// A host that takes mail at this address.
    pub fn host(&self, last: u8) -> Host {
        Host::start(SocketAddr::new(self.ip(last).into(), self.port))
    }

    /// The text with `$n` for the address with the last number `n`.
    pub fn text(&self, text: &str) -> String {
        let mut parts = text.split('$');
        let mut whole = parts.next().unwrap().to_owned();
        for part in parts {
            let end = part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len());
            let (last, rest) = part.split_at(end);
            whole.push_str(&self.ip(last.parse().unwrap()).to_string());
            whole.push_str(rest);
        }
        whole
    }

    /// Where its name server is.
    pub fn address(&self) -> SocketAddr {
        self.dns.address
    }

    /// From now on this name is like this; see [`Dns::set`] and [`Self::text`].
    pub fn set(&self, name: &str, lines: &[&str]) {
        let lines: Vec<String> = lines.iter().map(|line| self.text(line)).collect();
        self.dns.set(name, &lines);
    }

    /// A relay at number 250 that takes all mail of this machine and may send into the block.
    pub fn relay(&self, dir: &tempfile::TempDir, more: &[&str]) -> Relay {
        self.relay_as(Command::new(env!("CARGO_BIN_EXE_merpati")), dir, more)
    }

    /// The same by a command that ends in running `merpati`.
    pub fn relay_as(&self, command: Command, dir: &tempfile::TempDir, more: &[&str]) -> Relay {
        let all = [
            "server.hostname=mx.ours.example".to_owned(),
            "listener.mx.kind=relay".to_owned(),
            format!("listener.mx.listen={}:{}", self.ip(250), self.port),
            "relay.networks=127.0.0.0/8".to_owned(),
            format!("dns.servers={}", self.dns.address),
            "dns.query_wait=250 ms".to_owned(),
            format!("delivery.port={}", self.port),
        ];
        let more: Vec<String> = more.iter().map(|setting| self.text(setting)).collect();
        let sets = |key: &str| more.iter().any(|setting| setting.starts_with(key));
        let mut settings: Vec<&str> = all.iter().chain(&more).map(String::as_str).collect();
        let allowed = format!("delivery.allow_networks={}/24", self.ip(0));
        if !sets("delivery.allow_networks=") {
            settings.push(&allowed);
        }
        // The first route that covers a recipient decides.
        settings.push("route.mx.to=mx");
        let relay = Relay::try_start_as(command, &data_dir(dir), &settings);
        relay.unwrap_or_else(|(status, text)| panic!("{status}: {text}"))
    }
}

/// A client of our relay.
pub fn client(relay: &Relay) -> Smtp<TcpStream> {
    let mut smtp = Smtp::connect(relay.address("mx"));
    smtp.say("EHLO client.example", "250");
    smtp
}

/// Hands a message over for these recipients; gives its id.
#[track_caller]
pub fn send(smtp: &mut Smtp<TcpStream>, from: &str, to: &[&str]) -> String {
    let utf8 = if to.iter().all(|to| to.is_ascii()) { "" } else { " SMTPUTF8" };
    smtp.say(&format!("MAIL FROM:<{from}>{utf8}"), "250");
    for to in to {
        smtp.say(&format!("RCPT TO:<{to}>"), "250");
    }
    smtp.say("DATA", "354");
    smtp.send(b"Subject: a letter\r\nMessage-ID: <1@a.example>\r\n\r\nbody\r\n.\r\n");
    queued_as(&smtp.reply()).unwrap()
}

/// A command of the command line against the relay with this data directory.
pub fn merpati(dir: &tempfile::TempDir, arguments: &[&str]) -> Output {
    let socket = data_dir(dir).join("control.sock");
    merpati_at(&socket, arguments)
}

/// The same at this control socket.
pub fn merpati_at(socket: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_merpati"));
    command.args(arguments).arg("--socket").arg(socket).env_clear().stdin(Stdio::null());
    command.output().unwrap()
}

/// What a relay that was stopped has counted for a domain (RFC 8460): the type of each policy, the
/// sessions that came about, and the kinds of failure.
#[track_caller]
pub fn reports(dir: &tempfile::TempDir, domain: &str) -> Vec<(String, u64, Vec<String>)> {
    let mut counted = Vec::new();
    for file in std::fs::read_dir(data_dir(dir).join("tls-reports")).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_none_or(|it| it != "json") {
            continue;
        }
        let day: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        let domains = day["domains"].as_array().unwrap().iter();
        for one in domains.flat_map(|policies| policies.as_array().unwrap()) {
            if one["policy"]["policy-domain"] != *domain {
                continue;
            }
            let kind = one["policy"]["policy-type"].as_str().unwrap().to_owned();
            let came = one["summary"]["total-successful-session-count"].as_u64().unwrap();
            let failures = one["failure-details"].as_array().into_iter().flatten();
            let failures = failures.map(|it| it["result-type"].as_str().unwrap().to_owned());
            counted.push((kind, came, failures.collect()));
        }
    }
    counted
}

/// The lines of JSON that a command that must succeed prints.
#[track_caller]
pub fn jsonl(dir: &tempfile::TempDir, arguments: &[&str]) -> Vec<Value> {
    let output = merpati(dir, &[arguments, &["-o", "jsonl"]].concat());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{arguments:?}: {said}");
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Asks until the answer is there.
#[track_caller]
pub fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(begun.elapsed() < PATIENCE, "{what} does not come");
        std::thread::park_timeout(std::time::Duration::from_millis(20));
    }
}

/// A host that takes all mail; it ends with this value, and its connections with it.
pub struct Host {
    pub at: SocketAddr,
    heard: Arc<Heard>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Heard {
    state: Mutex<State>,
    more: Condvar,
}

#[derive(Default)]
struct State {
    mails: Vec<Mail>,
    streams: Vec<TcpStream>,
    open: usize,
    open_most: usize,
    /// Transactions whose content is there and whose reply waits for the gate.
    at_gate: usize,
    /// What is said to RCPT for these recipients.
    answers: BTreeMap<String, String>,
    /// After a content for one of these the connection ends without a reply.
    cuts: BTreeSet<String>,
    /// Whether internationalised mail is taken.
    lacks_smtputf8: bool,
    is_shut: bool,
    is_over: bool,
}

/// A message as a host got it.
#[derive(Clone, Debug)]
pub struct Mail {
    /// On which connection, from 0.
    pub connection: usize,
    pub client: IpAddr,
    pub hello: String,
    pub from: String,
    pub to: Vec<String>,
    pub content: String,
}

impl Host {
    pub fn start(at: SocketAddr) -> Self {
        let listener = TcpListener::bind(at).unwrap();
        let heard = Arc::new(Heard::default());
        let shared = Arc::clone(&heard);
        let thread = std::thread::spawn(move || shared.serve(&listener));
        Self { at, heard, thread: Some(thread) }
    }

    /// All that came, as soon as it is so many.
    #[track_caller]
    pub fn wait_for(&self, count: usize) -> Vec<Mail> {
        self.wait(&format!("{count} messages"), |state| state.mails.len() >= count);
        self.mails()
    }

    pub fn mails(&self) -> Vec<Mail> {
        self.heard.state.lock().unwrap().mails.clone()
    }

    /// Connections so far.
    pub fn connections(&self) -> usize {
        self.heard.state.lock().unwrap().streams.len()
    }

    /// The most connections that were open at once.
    pub fn open_most(&self) -> usize {
        self.heard.state.lock().unwrap().open_most
    }

    /// From now on this is said to RCPT for this recipient; all others are taken.
    pub fn answers(&self, recipient: &str, reply: &str) {
        let mut state = self.heard.state.lock().unwrap();
        state.answers.insert(recipient.to_owned(), reply.to_owned());
    }

    /// From now on a content for this recipient is not answered: the connection ends.
    pub fn cuts_after(&self, recipient: &str) {
        self.heard.state.lock().unwrap().cuts.insert(recipient.to_owned());
    }

    /// From now on SMTPUTF8 is not offered.
    pub fn lacks_smtputf8(&self) {
        self.heard.state.lock().unwrap().lacks_smtputf8 = true;
    }

    /// From now on no message is answered after its content.
    pub fn shut_gate(&self) {
        self.heard.state.lock().unwrap().is_shut = true;
    }

    pub fn open_gate(&self) {
        self.heard.state.lock().unwrap().is_shut = false;
        self.heard.more.notify_all();
    }

    /// Waits until so many messages wait at the gate.
    #[track_caller]
    pub fn wait_at_gate(&self, count: usize) {
        self.wait("a message at the gate", |state| state.at_gate >= count);
    }

    #[track_caller]
    fn wait(&self, what: &str, is_so: impl Fn(&State) -> bool) {
        let guard = self.heard.state.lock().unwrap();
        let waits = |state: &mut State| !is_so(state);
        let (state, waited) = self.heard.more.wait_timeout_while(guard, PATIENCE, waits).unwrap();
        assert!(!waited.timed_out(), "{} has no {what}: {:?}", self.at, state.mails);
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // A test that failed while it held the lock has more to tell than this.
        if let Ok(mut state) = self.heard.state.lock() {
            state.is_over = true;
            for stream in &state.streams {
                stream.shutdown(Shutdown::Both).ok();
            }
        }
        self.heard.more.notify_all();
        TcpStream::connect(self.at).ok();
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

impl Heard {
    fn serve(&self, listener: &TcpListener) {
        std::thread::scope(|scope| {
            while let Ok((stream, _)) = listener.accept() {
                let Some(number) = self.enter(&stream) else { return };
                scope.spawn(move || self.take(number, &stream));
            }
        });
    }

    fn take(&self, number: usize, stream: &TcpStream) {
        if !matches!(self.converse(number, stream), Ok(End::Quit)) {
            self.state.lock().unwrap().open -= 1;
        }
        stream.shutdown(Shutdown::Both).ok();
    }

    /// The number of a new connection; `None` where the host ends.
    fn enter(&self, stream: &TcpStream) -> Option<usize> {
        let mut state = self.state.lock().unwrap();
        let number = state.streams.len();
        state.streams.push(stream.try_clone().unwrap());
        state.open += 1;
        state.open_most = state.open_most.max(state.open);
        (!state.is_over).then_some(number)
    }

    fn converse(&self, connection: usize, mut stream: &TcpStream) -> std::io::Result<End> {
        stream.set_nodelay(true)?;
        let client = stream.peer_addr()?.ip();
        let mut lines = BufReader::new(stream);
        let mut mail = Mail {
            connection,
            client,
            hello: String::new(),
            from: String::new(),
            to: Vec::new(),
            content: String::new(),
        };
        let mut say = |text: &str| stream.write_all(text.as_bytes());
        say("220 host ESMTP\r\n")?;
        let mut line = String::new();
        loop {
            line.clear();
            if lines.read_line(&mut line)? == 0 {
                return Ok(End::Cut);
            }
            let said = line.trim_end();
            match said.get(..4).unwrap_or_default() {
                "EHLO" => {
                    said[5..].clone_into(&mut mail.hello);
                    let lacks_smtputf8 = self.state.lock().unwrap().lacks_smtputf8;
                    let more = if lacks_smtputf8 { "250 HELP" } else { "250 SMTPUTF8" };
                    say(&format!("250-host\r\n250-PIPELINING\r\n250-8BITMIME\r\n{more}\r\n"))?;
                }
                "MAIL" => {
                    path(said).clone_into(&mut mail.from);
                    mail.to.clear();
                    say("250 ok\r\n")?;
                }
                "RCPT" => {
                    let to = path(said).to_owned();
                    let answer = self.state.lock().unwrap().answers.get(&to).cloned();
                    if answer.is_none() {
                        mail.to.push(to);
                    }
                    say(&format!("{}\r\n", answer.as_deref().unwrap_or("250 ok")))?;
                }
                "DATA" if mail.to.is_empty() => say("554 nobody to take it\r\n")?,
                "DATA" => {
                    say("354 go\r\n")?;
                    let Some(content) = content(&mut lines)? else { return Ok(End::Cut) };
                    mail.content = content;
                    if !self.pass_gate() || self.is_cut_after(&mail) {
                        return Ok(End::Cut);
                    }
                    self.state.lock().unwrap().mails.push(mail.clone());
                    self.more.notify_all();
                    say("250 got it\r\n")?;
                }
                "QUIT" => {
                    // Who reads the reply may connect again before this thread goes on.
                    self.state.lock().unwrap().open -= 1;
                    say("221 bye\r\n").ok();
                    return Ok(End::Quit);
                }
                _ => say("250 ok\r\n")?,
            }
        }
    }

    fn is_cut_after(&self, mail: &Mail) -> bool {
        let state = self.state.lock().unwrap();
        mail.to.iter().any(|to| state.cuts.contains(to))
    }

    /// Waits until the gate is open; false where the host ends.
    fn pass_gate(&self) -> bool {
        let mut state = self.state.lock().unwrap();
        state.at_gate += 1;
        self.more.notify_all();
        let waits = |state: &mut State| state.is_shut && !state.is_over;
        let mut state = self.more.wait_while(state, waits).unwrap();
        state.at_gate -= 1;
        !state.is_over
    }
}

/// A content up to its end; `None` where the connection ends first.
fn content(lines: &mut impl BufRead) -> std::io::Result<Option<String>> {
    let mut whole = String::new();
    loop {
        let begun = whole.len();
        if lines.read_line(&mut whole)? == 0 {
            return Ok(None);
        }
        if &whole[begun..] == ".\r\n" {
            whole.truncate(begun);
            return Ok(Some(whole));
        }
    }
}

/// How a connection ended.
enum End {
    Cut,
    Quit,
}

/// What stands between the brackets.
fn path(line: &str) -> &str {
    let (_, rest) = line.split_once('<').unwrap();
    rest.split_once('>').unwrap().0
}
