//! A next hop that misbehaves as it is told, and notes what it took.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    dead_code,
    missing_docs,
    unreachable_pub
)]

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use super::PATIENCE;

/// Where in a session something is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Banner,
    Ehlo,
    Helo,
    StartTls,
    Auth,
    Mail,
    Rcpt,
    Data,
    /// In the middle of the content.
    Content,
    End,
    Quit,
}

/// What it does there in place of what is usual.
#[derive(Clone, Debug)]
pub enum Act {
    /// Says this, octet for octet, and goes on.
    Say(&'static [u8]),
    /// The same, octet by octet, each in a segment of its own.
    Slowly(&'static [u8]),
    /// Says this again and again, slowly, until it is cut off.
    Drip(&'static [u8]),
    /// The same as fast as it is taken.
    Flood(&'static [u8]),
    /// Says this and ends the connection.
    Cut(&'static [u8]),
    /// Ends the connection although there is more to read, which resets it.
    Reset,
    /// Says nothing more, and waits until it is cut off.
    Silence,
    /// The same without reading anything.
    Deaf,
}

/// From which connection on it behaves, and what it does in those before: at the nth time, counted
/// from 0, that a connection comes to a step.
#[derive(Clone, Debug)]
pub struct Script {
    pub bad_connections: usize,
    pub acts: Vec<(Step, usize, Act)>,
    pub keywords: &'static [&'static str],
    pub is_lmtp: bool,
    /// Whether it forgets what came behind a command in the same segment.
    pub is_forgetful: bool,
}

impl Default for Script {
    fn default() -> Self {
        let keywords = &["PIPELINING", "8BITMIME", "ENHANCEDSTATUSCODES"];
        Self { bad_connections: 1, acts: Vec::new(), keywords, is_lmtp: false, is_forgetful: false }
    }
}

/// What it took: it, or somebody it answers for, has this message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    pub from: String,
    pub to: Vec<String>,
    pub content: Vec<u8>,
}

#[derive(Default)]
struct Notes {
    taken: Mutex<Vec<Taken>>,
    commands: Mutex<Vec<String>>,
    connections: AtomicUsize,
    /// Whether a command came while the one before was not answered.
    is_pipelined: AtomicBool,
    /// Whether the peer is to end.
    is_over: Mutex<bool>,
    ends: Condvar,
}

impl Notes {
    /// Waits until the peer is to end, or so long; whether it is.
    fn wait_for_end(&self, time: Duration) -> bool {
        let is_over = self.is_over.lock().unwrap();
        *self.ends.wait_timeout_while(is_over, time, |is_over| !*is_over).unwrap().0
    }
}

/// The peer, on a free port of an address of loopback.
pub struct Peer {
    address: SocketAddr,
    notes: Arc<Notes>,
    thread: Option<JoinHandle<()>>,
}

impl Peer {
    pub fn start(script: Script) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let notes = Arc::new(Notes::default());
        let shared = Arc::clone(&notes);
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if *shared.is_over.lock().unwrap() {
                    return;
                }
                let number = shared.connections.fetch_add(1, Ordering::AcqRel);
                let mut script = script.clone();
                if number >= script.bad_connections {
                    script.acts.clear();
                }
                let notes = Arc::clone(&shared);
                // The relay ends its connections when it is stopped, and so do these threads.
                std::thread::spawn(move || Talk::new(stream, script, notes).run().ok());
            }
        });
        Self { address, notes, thread: Some(thread) }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn taken(&self) -> Vec<Taken> {
        self.notes.taken.lock().unwrap().clone()
    }

    pub fn commands(&self) -> Vec<String> {
        self.notes.commands.lock().unwrap().clone()
    }

    pub fn connections(&self) -> usize {
        self.notes.connections.load(Ordering::Acquire)
    }

    pub fn is_pipelined(&self) -> bool {
        self.notes.is_pipelined.load(Ordering::Acquire)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        *self.notes.is_over.lock().unwrap() = true;
        self.notes.ends.notify_all();
        // Wakes the thread that accepts.
        drop(TcpStream::connect(self.address));
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

/// One connection.
struct Talk {
    stream: BufReader<TcpStream>,
    script: Script,
    notes: Arc<Notes>,
    visits: Vec<Step>,
    /// `None` before MAIL, or after one that was refused.
    from: Option<String>,
    to: Vec<String>,
}

/// The connection is over.
struct Over;

impl From<io::Error> for Over {
    fn from(_: io::Error) -> Self {
        Self
    }
}

impl Talk {
    fn new(stream: TcpStream, script: Script, notes: Arc<Notes>) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        let stream = BufReader::new(stream);
        Self { stream, script, notes, visits: Vec::new(), from: None, to: Vec::new() }
    }

    fn run(&mut self) -> Result<(), Over> {
        self.answer(Step::Banner, b"220 peer.example ESMTP\r\n")?;
        loop {
            let line = self.line()?;
            self.notes.commands.lock().unwrap().push(line.clone());
            if !self.stream.buffer().is_empty() {
                self.notes.is_pipelined.store(true, Ordering::Release);
            }
            if self.script.is_forgetful {
                let count = self.stream.buffer().len();
                self.stream.consume(count);
            }
            let upper = line.to_ascii_uppercase();
            let word = upper.split([' ', ':']).next().unwrap_or_default();
            match word {
                "EHLO" | "LHLO" => {
                    let words = self.script.keywords.iter().map(|word| format!("250-{word}\r\n"));
                    let words = words.collect::<String>();
                    let reply = format!("250-peer.example\r\n{words}250 HELP\r\n");
                    self.answer(Step::Ehlo, reply.as_bytes())?;
                }
                "HELO" => self.answer(Step::Helo, b"250 peer.example\r\n")?,
                "STARTTLS" => self.answer(Step::StartTls, b"454 4.7.0 no TLS now\r\n")?,
                "AUTH" => self.answer(Step::Auth, b"235 2.7.0 welcome\r\n")?,
                "MAIL" => {
                    self.to.clear();
                    let reply = self.answer_with(Step::Mail, b"250 2.1.0 ok\r\n")?;
                    self.from = reply.starts_with(b"250").then(|| path(&line));
                }
                "RCPT" if self.from.is_none() => self.say(b"503 5.5.1 MAIL first\r\n")?,
                "RCPT" => {
                    let reply = self.answer_with(Step::Rcpt, b"250 2.1.5 ok\r\n")?;
                    if reply.starts_with(b"250 ") {
                        self.to.push(path(&line));
                    }
                }
                "DATA" => {
                    let usual = if self.to.is_empty() { NOBODY } else { b"354 go on\r\n" };
                    let reply = self.answer_with(Step::Data, usual)?;
                    if reply.starts_with(b"354") {
                        self.content()?;
                    }
                }
                "QUIT" => {
                    self.answer(Step::Quit, b"221 2.0.0 bye\r\n")?;
                    return Ok(());
                }
                "RSET" => self.say(b"250 2.0.0 ok\r\n")?,
                _ => self.say(b"500 5.5.2 what?\r\n")?,
            }
        }
    }

    fn content(&mut self) -> Result<(), Over> {
        let mut content = Vec::new();
        loop {
            let mut line = Vec::new();
            if self.stream.by_ref().take(100_000).read_until(b'\n', &mut line)? == 0 {
                return Err(Over);
            }
            if line == b".\r\n" {
                break;
            }
            content.extend_from_slice(line.strip_prefix(b".").unwrap_or(&line));
            if content.len() > 1_000 && !self.visits.contains(&Step::Content) {
                self.answer(Step::Content, b"")?;
            }
        }
        let to = std::mem::take(&mut self.to);
        let from = self.from.take().unwrap_or_default();
        let each: Vec<Vec<String>> = if self.script.is_lmtp {
            to.into_iter().map(|to| vec![to]).collect()
        } else {
            vec![to]
        };
        for to in each {
            let taken = Taken { from: from.clone(), to: to.clone(), content: content.clone() };
            let act = self.act(Step::End);
            // A reply that is lost does not change what it was.
            let is_taken = match &act {
                None | Some(Act::Silence | Act::Deaf | Act::Reset) => true,
                Some(Act::Cut(octets)) => octets.is_empty() || octets.starts_with(b"2"),
                Some(
                    Act::Say(octets) | Act::Slowly(octets) | Act::Drip(octets) | Act::Flood(octets),
                ) => octets.starts_with(b"2"),
            };
            if is_taken && !to.is_empty() {
                self.notes.taken.lock().unwrap().push(taken);
            }
            self.perform(act.as_ref(), b"250 2.0.0 taken\r\n")?;
        }
        Ok(())
    }

    fn line(&mut self) -> Result<String, Over> {
        let mut line = Vec::new();
        let count = self.stream.by_ref().take(100_000).read_until(b'\n', &mut line)?;
        if count == 0 {
            return Err(Over);
        }
        Ok(String::from_utf8_lossy(&line).trim_end().to_owned())
    }

    fn answer(&mut self, step: Step, usual: &[u8]) -> Result<(), Over> {
        self.answer_with(step, usual).map(|_| ())
    }

    fn answer_with(&mut self, step: Step, usual: &[u8]) -> Result<Vec<u8>, Over> {
        let act = self.act(step);
        self.perform(act.as_ref(), usual)
    }

    fn act(&mut self, step: Step) -> Option<Act> {
        let visit = self.visits.iter().filter(|visited| **visited == step).count();
        self.visits.push(step);
        let mut acts = self.script.acts.iter();
        acts.find(|(at, n, _)| *at == step && *n == visit).map(|(.., act)| act.clone())
    }

    /// Gives what was said.
    fn perform(&mut self, act: Option<&Act>, usual: &[u8]) -> Result<Vec<u8>, Over> {
        match act {
            None => {
                self.say(usual)?;
                Ok(usual.to_vec())
            }
            Some(Act::Say(octets)) => {
                self.say(octets)?;
                Ok(octets.to_vec())
            }
            Some(Act::Slowly(octets)) => {
                for octet in *octets {
                    self.say(&[*octet])?;
                    std::thread::yield_now();
                }
                Ok(octets.to_vec())
            }
            Some(Act::Reset) => Err(Over),
            Some(Act::Drip(octets)) => loop {
                self.say(octets)?;
                if self.notes.wait_for_end(DRIP) {
                    return Err(Over);
                }
            },
            Some(Act::Flood(octets)) => loop {
                self.say(octets)?;
            },
            Some(Act::Cut(octets)) => {
                self.say(octets)?;
                // What is unread at the end makes a reset of it, which may overtake what was said.
                self.stream.get_mut().shutdown(Shutdown::Write)?;
                io::copy(&mut self.stream, &mut io::sink())?;
                Err(Over)
            }
            Some(Act::Deaf) => {
                self.notes.wait_for_end(PATIENCE);
                Err(Over)
            }
            Some(Act::Silence) => {
                io::copy(&mut self.stream, &mut io::sink())?;
                Err(Over)
            }
        }
    }

    fn say(&mut self, octets: &[u8]) -> Result<(), Over> {
        self.stream.get_mut().write_all(octets)?;
        Ok(())
    }
}

const NOBODY: &[u8] = b"503 5.5.1 RCPT first\r\n";
/// Between two drops: far below each time-out.
const DRIP: Duration = Duration::from_millis(20);

/// What stands between `<` and `>`.
fn path(line: &str) -> String {
    let (_, rest) = line.split_once('<').unwrap_or(("", ""));
    rest.split('>').next().unwrap_or_default().to_owned()
}
