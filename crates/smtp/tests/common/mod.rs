//! Plays transcripts against a server session: the one border that the session tests use.
//!
//! `C:` a line of the client, CRLF added; `C>` octets without CRLF; `C+` a line that goes into the
//! same segment as what follows; escapes `\r \n \0 \\ \xNN`. `E:` EHLO, reply skipped. `S:` the
//! beginning of the next line of ours. `S-` no reply is due. `T:` seconds go by. `Q:` the next
//! verdict at a stage (`connect hello mail rcpt end`), such as `Q: rcpt 550 5.1.1 unknown` or
//! `Q: hello disconnect 554 5.7.1 no` or `Q: mail lowered 0`. `P:` the next answer about a
//! claim. `B:` the content of the last committed message. `M:` how many were committed. `I:`
//! `closed`, `shutdown`, `hold` (the commit waits), `commit`. `X:` the session has ended.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use merpati_mail::question::{Claim, CredentialAnswer, Lock, ScramKeys, Verifier};
use merpati_mail::stage::Decision;
use merpati_mail::{Envelope, Priority, Question, QueueId, Reply, Stage, Time, TlsFacts, Verdict};
use merpati_smtp::server::{Channel, Input, Options, Output, Session};

/// A session with a shell around it that has no sockets.
pub struct World {
    pub session: Session,
    pub now: Time,
    pub buffer: Vec<u8>,
    pub sent: Vec<u8>,
    pub sends: usize,
    pub body: Vec<u8>,
    pub messages: Vec<(Envelope, Vec<u8>)>,
    pub is_closed: bool,
    pub questions: Vec<String>,
    pub verdicts: BTreeMap<&'static str, VecDeque<Verdict>>,
    pub answers: VecDeque<CredentialAnswer>,
    pub is_holding: bool,
    held: Option<Box<Envelope>>,
}

impl World {
    pub fn new(options: Options) -> Self {
        Self::over(options, None)
    }

    pub fn over(options: Options, channel: Option<Channel>) -> Self {
        let peer = "192.0.2.9:40000".parse().unwrap();
        let now = Time::from_secs(1_000_000);
        Self {
            session: Session::new(now, Arc::new(options), peer, channel),
            now,
            buffer: Vec::new(),
            sent: Vec::new(),
            sends: 0,
            body: Vec::new(),
            messages: Vec::new(),
            is_closed: false,
            questions: Vec::new(),
            verdicts: BTreeMap::new(),
            answers: VecDeque::new(),
            is_holding: false,
            held: None,
        }
    }

    /// The shell's loop, until nothing can go on without the client.
    pub fn run(&mut self) {
        loop {
            let buffer = std::mem::take(&mut self.buffer);
            let consumed = self.session.handle(self.now, Input::Octets(&buffer));
            let is_idle = !self.carry_out(&buffer) && consumed == 0;
            self.buffer = buffer;
            self.buffer.drain(..consumed);
            if is_idle || self.is_closed {
                return;
            }
        }
    }

    pub fn give(&mut self, input: Input<'_>) {
        self.session.handle(self.now, input);
        self.carry_out(&[]);
        self.run();
    }

    pub fn commit(&mut self) {
        self.is_holding = false;
        let envelope = self.held.take().expect("a message waits");
        self.messages.push((*envelope, std::mem::take(&mut self.body)));
        self.give(Input::Committed(QueueId::from_bits(7)));
    }

    fn carry_out(&mut self, buffer: &[u8]) -> bool {
        let mut has_answered = false;
        while let Some(output) = self.session.poll() {
            assert!(!self.is_closed, "nothing comes after Close: {output:?}");
            match output {
                Output::Ask(stage) => {
                    has_answered = true;
                    let verdict = self.verdict(&stage);
                    self.session.handle(self.now, Input::Verdict(verdict));
                }
                Output::Body(range) => self.body.extend_from_slice(&buffer[range]),
                Output::BodyDropped => self.body.clear(),
                Output::BodyEnd(envelope) if self.is_holding => self.held = Some(envelope),
                Output::BodyEnd(envelope) => {
                    has_answered = true;
                    let body = std::mem::take(&mut self.body);
                    let refusal = self.verdicts.entry("end").or_default().pop_front();
                    let input = refusal.map_or_else(
                        || {
                            self.messages.push((*envelope, body));
                            Input::Committed(QueueId::from_bits(7))
                        },
                        Input::Verdict,
                    );
                    self.session.handle(self.now, input);
                }
                Output::Close => self.is_closed = true,
                Output::Question(question) => {
                    has_answered = true;
                    let answer = self.answer(&question);
                    self.session.handle(self.now, Input::Credential(answer));
                }
                Output::Send(octets) => {
                    assert!(octets.ends_with(b"\r\n"));
                    self.sends += 1;
                    self.sent.extend(octets);
                }
                Output::StartTls => {
                    has_answered = true;
                    self.session.handle(self.now, Input::TlsReady(tls().into()));
                }
            }
        }
        has_answered
    }

    fn verdict(&mut self, stage: &Stage) -> Verdict {
        let name = match stage {
            Stage::Connect => "connect",
            Stage::Hello { .. } => "hello",
            Stage::Mail { .. } => "mail",
            Stage::Recipient { .. } => "rcpt",
        };
        self.questions.push(name.to_owned());
        let planned = self.verdicts.entry(name).or_default().pop_front();
        planned.unwrap_or(Verdict::accept("open"))
    }

    fn answer(&mut self, question: &Question) -> CredentialAnswer {
        let Question::Credential(claim) = question else { panic!("{question:?}") };
        self.questions.push(match claim {
            Claim::Certificate { acts_as, .. } => format!("certificate {acts_as:?}"),
            Claim::Password { user, .. } => format!("password {user}"),
            Claim::Shown { user, credential } => format!("shown {user:?} {credential:?}"),
            Claim::Token { user, .. } => format!("token {user:?}"),
            Claim::Verifier { user } => format!("verifier {user}"),
        });
        let granted = |name: &str| CredentialAnswer::Granted { credential: name.to_owned() };
        let denied = CredentialAnswer::Denied { wait: Duration::ZERO };
        match (self.answers.pop_front(), claim) {
            (Some(answer), _) => answer,
            (None, Claim::Certificate { names, .. }) => {
                names.first().map_or(denied, |n| granted(n))
            }
            (None, Claim::Password { user, password }) if password == "secret" => granted(user),
            (None, Claim::Shown { credential: Some(credential), .. }) => granted(credential),
            (None, Claim::Token { token, .. }) if token == "good" => granted("ani"),
            (None, Claim::Verifier { user }) => {
                let credential = (user == "user").then(|| "user".to_owned());
                let keys = pencil();
                let nonce = [0; Verifier::NONCE_OCTETS];
                CredentialAnswer::Verifier(Box::new(Verifier { credential, keys, nonce }))
            }
            (None, Claim::Password { .. } | Claim::Shown { .. } | Claim::Token { .. }) => denied,
        }
    }
}

/// The keys of RFC 7677 §3.
fn pencil() -> ScramKeys {
    let decoded = |text| STANDARD.decode(text).unwrap();
    let key = |text| decoded(text).try_into().unwrap();
    ScramKeys {
        iterations: 4_096.try_into().unwrap(),
        salt: decoded("W22ZaJ0SNY7soEsUEjb6gQ=="),
        stored_key: key("WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY="),
        server_key: key("wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="),
    }
}

pub fn tls() -> TlsFacts {
    TlsFacts { version: "TLSv1.3".into(), cipher: "TLS_AES_128_GCM_SHA256".into() }
}

/// Plays a transcript; the client's octets come in pieces of at most `step`.
pub fn play(world: &mut World, transcript: &str, step: usize) {
    let mut unread = VecDeque::new();
    let mut segment = Vec::new();
    world.run();
    for (number, line) in transcript.lines().map(str::trim).enumerate() {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let at = format!("line {number}: {line}");
        let (kind, text) = line.split_at(2);
        let text = text.trim_start();
        if kind != "S:" && kind != "Q:" && kind != "P:" {
            collect(world, &mut unread);
        }
        if matches!(kind, "C:" | "C>" | "C+" | "E:") && segment.is_empty() {
            assert!(unread.is_empty(), "{at}: unexpected {unread:?}");
        }
        match kind {
            "C:" | "C>" | "C+" | "E:" => {
                let verb = if kind == "E:" { "EHLO " } else { "" };
                segment.extend(unescape(&format!("{verb}{text}")));
                if kind != "C>" {
                    segment.extend(b"\r\n");
                }
                if kind != "C+" {
                    send(world, &std::mem::take(&mut segment), step);
                }
                if kind == "E:" {
                    collect(world, &mut unread);
                    let replies: Vec<_> = unread.drain(..).collect();
                    assert!(replies.iter().all(|r| r.starts_with("250")), "{at}: {replies:?}");
                }
            }
            "S:" => {
                collect(world, &mut unread);
                let reply = unread.pop_front().unwrap_or_else(|| panic!("{at}: no reply"));
                assert!(reply.starts_with(text), "{at}: {reply}");
            }
            "S-" => assert!(unread.is_empty(), "{at}: {unread:?}"),
            "T:" => {
                let secs = text.trim_end_matches(" s").parse().unwrap();
                world.now = world.now + Duration::from_secs(secs);
                world.give(Input::Timeout);
            }
            "B:" => {
                let got = world.messages.last().map(|m| m.1.escape_ascii().to_string());
                assert_eq!(got, Some(unescape(text).escape_ascii().to_string()), "{at}");
            }
            "M:" => assert_eq!(world.messages.len().to_string(), text, "{at}"),
            "X:" => assert!(world.is_closed && unread.is_empty(), "{at}: {unread:?}"),
            _ => instruct(world, kind, text),
        }
    }
    collect(world, &mut unread);
    assert!(unread.is_empty(), "at the end: unexpected {unread:?}");
}

fn instruct(world: &mut World, kind: &str, text: &str) {
    match (kind, text) {
        ("I:", "closed") => world.give(Input::Closed),
        ("I:", "shutdown") => world.give(Input::Shutdown),
        ("I:", "hold") => world.is_holding = true,
        ("I:", "commit") => world.commit(),
        ("P:", "unavailable") => world.answers.push_back(CredentialAnswer::Unavailable),
        ("P:", "locked address") => {
            world.answers.push_back(CredentialAnswer::Locked(Lock::Address));
        }
        ("P:", "locked user") => world.answers.push_back(CredentialAnswer::Locked(Lock::User)),
        ("P:", wait) => {
            let secs = wait.trim_start_matches("denied after ").trim_end_matches(" s");
            let wait = Duration::from_secs(secs.parse().unwrap());
            world.answers.push_back(CredentialAnswer::Denied { wait });
        }
        ("Q:", _) => {
            let (stage, rest) = text.split_once(' ').unwrap();
            let stage =
                ["connect", "hello", "mail", "rcpt", "end"].into_iter().find(|s| *s == stage);
            if let Some(priority) = rest.strip_prefix("lowered ") {
                let priority = Priority::new(priority.parse().unwrap()).unwrap();
                let decision = Decision::AcceptLowered(priority);
                let verdict = Verdict { decision, rule: "test".into() };
                world.verdicts.entry(stage.unwrap()).or_default().push_back(verdict);
                return;
            }
            let reply = rest.trim_start_matches("disconnect ");
            let (code, reply_text) = reply.split_once(' ').unwrap();
            let reply = Reply::bare(code.parse().unwrap(), reply_text.to_owned());
            let verdict = if rest.starts_with("disconnect ") {
                Verdict::disconnect("test", reply)
            } else {
                Verdict::refuse("test", reply)
            };
            world.verdicts.entry(stage.unwrap()).or_default().push_back(verdict);
        }
        _ => panic!("{kind} {text} is not known"),
    }
}

pub fn send(world: &mut World, octets: &[u8], step: usize) {
    for piece in octets.chunks(step) {
        if !world.is_closed {
            world.buffer.extend_from_slice(piece);
            world.run();
        }
    }
}

fn collect(world: &mut World, unread: &mut VecDeque<String>) {
    let sent = String::from_utf8(std::mem::take(&mut world.sent)).unwrap();
    unread.extend(sent.split_terminator("\r\n").map(str::to_owned));
}

pub fn unescape(text: &str) -> Vec<u8> {
    let mut octets = Vec::new();
    let mut rest = text.bytes();
    while let Some(octet) = rest.next() {
        if octet != b'\\' {
            octets.push(octet);
            continue;
        }
        octets.push(match rest.next().unwrap() {
            b'r' => b'\r',
            b'n' => b'\n',
            b'0' => 0,
            b'x' => {
                let digits = [rest.next().unwrap(), rest.next().unwrap()];
                u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap()
            }
            other => other,
        });
    }
    octets
}
