//! The client side against scripted servers, in virtual time.
//!
//! A transcript holds inputs and what must follow each. Inputs: `S:` a line of the server, alone in
//! its segment; `s:` octets of the server as they are; `T:` seconds that pass; `I:` an input of the
//! shell. What follows: `C:` what is sent; `E:` an event; `R:` a result.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs
)]

mod extensions;
mod greeting;
mod pipelining;
mod protection;
mod random;
mod replies;
mod requests;
mod waits;

use std::{fmt::Write as _, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use merpati_mail::{
    BodyType, ByMode, DeliverBy, Domain, NodeId, Priority, QueueId, Recipient, Requests,
    ReversePath, Time, TlsFacts, TlsRequest,
    address::{ForwardPath, Utf8Rule},
    envelope::{Notify, Ret, Utf8},
};
use merpati_smtp::client::{
    Capabilities, Credential, Dialect, EightBit, EightBitPolicy, Exposure, Extension, Input, Nonce,
    Options, Output, RecipientResult, Session, Timeouts, TlsUse, Transaction,
};
use merpati_smtp::stuff::Stuffer;
use proptest::prelude::*;

fn options() -> Options {
    Options { tls: TlsUse::Never, ..Options::new(Domain::parse("us.example").unwrap()) }
}

fn transaction(sender: &str, recipients: &[&str]) -> Transaction {
    let path = |text: &str| {
        let text = format!("<{text}>");
        ForwardPath::parse_prefix(&text, Utf8Rule::Allowed).unwrap().0
    };
    let sender = format!("<{sender}>");
    Transaction {
        id: QueueId::new(NodeId::new(0).unwrap(), 1, 7),
        reverse_path: ReversePath::parse_prefix(&sender, Utf8Rule::Allowed).unwrap().0,
        recipients: (0..).zip(recipients.iter().map(|r| Recipient::new(path(r)))).collect(),
        size_octets: 1_000,
        body: BodyType::SevenBit,
        eight_bit: EightBit::Absent,
        utf8: Utf8::NotDeclared,
        header: EightBit::Absent,
        ret: None,
        envid: None,
        requests: Requests::default(),
    }
}

fn unescaped(text: &str) -> Vec<u8> {
    text.replace("\\r", "\r").replace("\\n", "\n").replace("\\0", "\0").into_bytes()
}

fn shown(output: Output) -> String {
    match output {
        Output::Close => "E: close\n".to_owned(),
        Output::Failed(finding) => format!("E: failed {:?} {}\n", finding.phase, fact(&finding)),
        Output::NeedBody => "E: need body\n".to_owned(),
        Output::Ready => "E: ready\n".to_owned(),
        Output::StartTls => "E: starttls\n".to_owned(),
        Output::Send(octets) => String::from_utf8_lossy(&octets)
            .split_inclusive("\r\n")
            .map(|line| match line.strip_suffix("\r\n") {
                Some("") => "C:\n".to_owned(),
                Some(line) => format!("C: {line}\n"),
                None => format!("C: {line}\\\n"),
            })
            .collect(),
        Output::Results(result) => {
            let mut text = format!("E: results {:?}\n", result.connection);
            for (number, result) in result.recipients {
                match result {
                    RecipientResult::Delivered(reply) => {
                        writeln!(text, "R: {number} delivered {reply}").unwrap();
                    }
                    RecipientResult::NotDelivered(finding) => {
                        let (phase, fact) = (finding.phase, fact(&finding));
                        writeln!(text, "R: {number} not {phase:?} {fact}").unwrap();
                    }
                    RecipientResult::TryAgainHere => {
                        writeln!(text, "R: {number} try again here").unwrap();
                    }
                    RecipientResult::Verified => {
                        writeln!(text, "R: {number} verified").unwrap();
                    }
                }
            }
            text
        }
    }
}

fn fact(finding: &merpati_mail::outcome::Finding) -> String {
    use merpati_mail::outcome::Fact;
    match &finding.fact {
        Fact::Cut => "cut".to_owned(),
        Fact::Lacks(need) => format!("lacks {need:?}"),
        Fact::NotConvertible(why) => format!("not convertible: {why}"),
        Fact::Ourselves => "ourselves".to_owned(),
        Fact::Protocol(text) => format!("protocol: {text}"),
        Fact::Replied(reply) => format!("replied {reply}"),
        Fact::TimedOut => "timed out".to_owned(),
        Fact::Tls(text) => format!("tls: {text}"),
        Fact::Unreachable(text) => format!("unreachable: {text}"),
    }
}

/// Plays the inputs of a script and gives the transcript that comes of them.
struct Play {
    session: Session,
    now: Time,
    unread: Vec<u8>,
    transcript: String,
    next: Transaction,
    has_failed: bool,
}

impl Play {
    fn new(options: Options, next: Transaction) -> Self {
        let now = Time::from_secs(1_000_000);
        let session = Session::new(now, options);
        Self {
            session,
            now,
            unread: Vec::new(),
            transcript: String::new(),
            next,
            has_failed: false,
        }
    }

    fn octets(&mut self, octets: &[u8]) {
        self.unread.extend_from_slice(octets);
        let used = self.session.handle(self.now, Input::Octets(&self.unread));
        self.unread.drain(..used);
    }

    fn line(&mut self, line: &str) {
        let (tag, text) = line.split_once(':').expect("a tag");
        let text = text.strip_prefix(' ').unwrap_or(text);
        match tag {
            "S" => self.octets(format!("{text}\r\n").as_bytes()),
            "s" => self.octets(&unescaped(text)),
            "T" => {
                self.now = self.now + Duration::from_secs(text.parse().unwrap());
                self.session.handle(self.now, Input::Timeout);
            }
            "I" => self.input(text),
            "C" | "E" | "R" => return,
            _ => panic!("{line}"),
        }
        writeln!(self.transcript, "{line}").unwrap();
        while let Some(output) = self.session.poll() {
            self.has_failed |= matches!(output, Output::Close);
            self.transcript.push_str(&shown(output));
        }
    }

    fn input(&mut self, text: &str) {
        let (verb, rest) = text.split_once(' ').unwrap_or((text, ""));
        let facts = TlsFacts { version: "TLSv1.3".into(), cipher: "AES".into() };
        let body = unescaped(rest);
        let input = match verb {
            "body" => Input::Body(&body),
            "closed" => Input::Closed,
            "end" => Input::BodyEnd,
            "quit" => Input::Quit,
            "start" => Input::Start(self.next.clone()),
            "tls-failed" => Input::TlsFailed(rest.to_owned()),
            "tls-ready" => Input::TlsReady(facts),
            "verify" => Input::Verify(self.next.clone()),
            _ => panic!("{text}"),
        };
        self.session.handle(self.now, input);
    }
}

#[track_caller]
fn check_with(options: Options, transaction: Transaction, script: &str) {
    let script: Vec<&str> = script.lines().map(str::trim).filter(|l| !l.is_empty()).collect();
    let mut play = Play::new(options, transaction);
    for line in &script {
        play.line(line);
    }
    assert_eq!(play.transcript.trim_end(), script.join("\n"));
}

/// The usual transaction: from a@us.example to r0, r1… at x.example, behind a hello that offers
/// these extensions.
#[track_caller]
fn check(extensions: &str, recipients: usize, script: &str) {
    check_dialect(Dialect::Smtp, extensions, recipients, script);
}

#[track_caller]
fn check_dialect(dialect: Dialect, extensions: &str, recipients: usize, script: &str) {
    let names: Vec<String> = (0..recipients).map(|n| format!("r{n}@x.example")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let options = Options { dialect, ..options() };
    let next = transaction("a@us.example", &names);
    check_with(options, next, &behind_hello(dialect, extensions, script));
}

fn behind_hello(dialect: Dialect, extensions: &str, script: &str) -> String {
    let verb = if dialect == Dialect::Lmtp { "LHLO" } else { "EHLO" };
    let mut hello = format!("S: 220 mx\nC: {verb} us.example\n");
    if extensions.is_empty() {
        hello.push_str("S: 250 mx\n");
    } else {
        let (last, all) = extensions.split(',').collect::<Vec<_>>().split_last().map_or(
            ("", String::new()),
            |(last, all)| {
                (*last, all.iter().fold(String::new(), |text, e| text + "250-" + e + "\\r\\n"))
            },
        );
        writeln!(hello, "s: 250-mx\\r\\n{all}250 {last}\\r\\n").unwrap();
    }
    format!("{hello}E: ready\n{script}")
}

const NONCE: &str = "rOprNGfwEbeRWgbNEkqO";

fn credential() -> Credential {
    Credential { user: "u".into(), password: "p".into(), exposure: Exposure::OverTlsOnly }
}

fn scram_options() -> Options {
    Options {
        tls: TlsUse::Implicit,
        nonce: Nonce::parse(NONCE),
        credential: Some(Credential {
            user: "user".into(),
            password: "pencil".into(),
            exposure: Exposure::OverTlsOnly,
        }),
        ..options()
    }
}
