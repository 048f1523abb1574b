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

#[test]
fn a_message_goes_out_in_lock_step_where_pipelining_is_not_offered() {
    check(
        "",
        2,
        "I: start
        C: MAIL FROM:<a@us.example>
        S: 250 ok
        C: RCPT TO:<r0@x.example>
        S: 250 ok
        C: RCPT TO:<r1@x.example>
        S: 550 5.1.1 no
        C: DATA
        S: 354 go
        E: need body
        I: body a\\r\\n.b\\r\\n
        C: a
        C: ..b
        I: end
        C: .
        S: 250 2.0.0 taken
        E: results Fresh
        R: 0 delivered 250 2.0.0 taken
        R: 1 not Recipient replied 550 5.1.1 no
        E: ready
        I: quit
        C: QUIT
        S: 221 bye
        E: close",
    );
}

#[test]
fn pipelined_replies_are_mapped_strictly_in_order() {
    check(
        "PIPELINING,SIZE",
        3,
        "I: start
        C: MAIL FROM:<a@us.example> SIZE=1000
        C: RCPT TO:<r0@x.example>
        C: RCPT TO:<r1@x.example>
        C: RCPT TO:<r2@x.example>
        C: DATA
        s: 250 ok\\r\\n550 no\\r\\n450 later
        s: \\r\\n250 ok\\r\\n354 go\\r\\n
        E: need body
        I: body hi
        C: hi\\
        I: end
        C:
        C: .
        S: 250 ok
        E: results Fresh
        R: 0 not Recipient replied 550 no
        R: 1 not Recipient replied 450 later
        R: 2 delivered 250 ok
        E: ready",
    );
}

#[test]
fn surplus_replies_are_a_protocol_error_and_never_the_reply_to_the_end_of_data() {
    check(
        "PIPELINING",
        1,
        "I: start
        C: MAIL FROM:<a@us.example>
        C: RCPT TO:<r0@x.example>
        C: DATA
        s: 250 ok\\r\\n250 ok\\r\\n354 go\\r\\n250 taken\\r\\n
        E: results Fresh
        R: 0 not Content protocol: a reply came before its command: 250 taken
        E: close",
    );
}

#[test]
fn missing_replies_end_in_a_time_out() {
    check(
        "PIPELINING",
        1,
        "I: start
        C: MAIL FROM:<a@us.example>
        C: RCPT TO:<r0@x.example>
        C: DATA
        s: 250 ok\\r\\n250 ok\\r\\n
        T: 119
        T: 1
        E: results Fresh
        R: 0 not Data timed out
        E: close",
    );
}

#[test]
fn a_reply_that_is_there_before_the_end_of_data_is_a_desync() {
    let to_content = "I: start
        C: MAIL FROM:<a@us.example>
        C: RCPT TO:<r0@x.example>
        C: DATA
        s: 250 ok\\r\\n250 ok\\r\\n354 go\\r\\n
        E: need body
        I: body hi\\r\\n
        C: hi\n";
    for rest in [
        "S: 250 taken
        E: results Fresh
        R: 0 not Content protocol: a reply came before its command: 250 taken
        E: close
        I: end",
        "S: 552 5.3.4 too large
        E: results Fresh
        R: 0 not Content replied 552 5.3.4 too large
        E: close
        I: end",
        "s: 250 tak
        I: end
        E: results Fresh
        R: 0 not Content protocol: a reply came before its command
        E: close",
        "S: 421 4.3.2 going down
        E: results Fresh
        R: 0 not Content replied 421 4.3.2 going down
        E: close",
        "I: closed
        E: results Fresh
        R: 0 not Content cut
        E: close",
        "T: 180
        E: results Fresh
        R: 0 not Content timed out
        E: close",
    ] {
        check("PIPELINING", 1, &format!("{to_content}{rest}"));
    }
}

#[test]
fn a_cut_or_time_out_after_the_final_dot_is_ambiguous_and_waited_for_ten_minutes() {
    let to_end = "I: start
        C: MAIL FROM:<a@us.example>
        C: RCPT TO:<r0@x.example>
        C: DATA
        s: 250 ok\\r\\n250 ok\\r\\n354 go\\r\\n
        E: need body
        I: end
        C: .\n";
    for rest in [
        "I: closed
        E: results Fresh
        R: 0 not EndOfData cut
        E: close",
        "T: 599
        s: 2
        T: 1
        E: results Fresh
        R: 0 not EndOfData timed out
        E: close",
        "S: 451 4.3.0 later
        E: results Fresh
        R: 0 not EndOfData replied 451 4.3.0 later
        E: ready",
        "S: 421 down
        E: results Fresh
        R: 0 not EndOfData replied 421 down
        E: close",
        "S: 354 again
        E: results Fresh
        R: 0 not EndOfData protocol: this reply makes no sense here: 354 again
        E: close",
        "S: 250 ok
        E: results Fresh
        R: 0 delivered 250 ok
        E: ready
        I: closed
        E: failed Mail cut
        E: close",
        "s: 250 ok\\r\\n421 bye\\r\\n
        E: results Fresh
        R: 0 delivered 250 ok
        E: failed Mail replied 421 bye
        E: close",
    ] {
        check("PIPELINING", 1, &format!("{to_end}{rest}"));
    }
}

#[test]
fn the_greeting_has_five_minutes_in_all_however_slowly_it_comes() {
    let mut play = Play::new(options(), transaction("", &[]));
    play.line("s: 220 ");
    for _ in 0..299 {
        play.line("T: 1");
        play.line("s: x");
        assert!(!play.has_failed);
    }
    play.line("T: 1");
    assert!(play.transcript.ends_with("E: failed Greeting timed out\nE: close\n"));
}

#[test]
fn an_endless_greeting_meets_a_limit() {
    let mut play = Play::new(options(), transaction("", &[]));
    for _ in 0..1_000_000 {
        play.octets(b"220-\r\n");
        if let Some(output) = play.session.poll() {
            assert!(shown(output).contains("a reply has too many lines"));
            return;
        }
    }
    panic!("no limit");
}

#[test]
fn greetings_that_refuse_end_the_session() {
    for (greeting, want) in [
        ("554 no", "E: failed Greeting replied 554 no\nC: QUIT"),
        ("521 no mail", "E: failed Greeting replied 521 no mail\nC: QUIT"),
        ("450 busy", "E: failed Greeting replied 450 busy\nC: QUIT"),
        ("421 busy", "E: failed Greeting replied 421 busy\nE: close"),
        ("220-mx", ""),
        ("220 no e s m t p", "C: EHLO us.example"),
        (
            "354 what",
            "E: failed Greeting protocol: this reply makes no sense here: 354 what\nC: QUIT",
        ),
        (
            "hello",
            "E: failed Greeting protocol: \
             a line of a reply does not begin with a reply code\nE: close",
        ),
    ] {
        check_with(options(), transaction("", &[]), &format!("S: {greeting}\n{want}"));
    }
}

#[test]
fn helo_is_tried_once_on_a_permanent_reply_to_ehlo() {
    for code in ["500 what", "502 no", "550 no"] {
        check_with(
            options(),
            transaction("a@us.example", &["b@x.example"]),
            &format!(
                "S: 220 mx
                C: EHLO us.example
                S: {code}
                C: HELO us.example
                S: 250 mx
                E: ready
                I: start
                C: MAIL FROM:<a@us.example>"
            ),
        );
    }
    check_with(
        options(),
        transaction("", &[]),
        "S: 220 mx
        C: EHLO us.example
        S: 500 what
        C: HELO us.example
        S: 500 what
        E: failed Hello replied 500 what
        C: QUIT
        T: 5
        E: close",
    );
    check_with(
        options(),
        transaction("", &[]),
        "S: 220 mx
        C: EHLO us.example
        I: closed
        E: failed Hello cut
        E: close",
    );
}

#[test]
fn helo_is_not_tried_where_tls_or_authentication_is_needed_or_with_lmtp() {
    let required = Options { tls: TlsUse::Required, ..options() };
    let with_credential = Options { credential: Some(credential()), ..options() };
    let lmtp = Options { dialect: Dialect::Lmtp, ..options() };
    let hidden = "protocol: EHLO is not known, and so there is no AUTH";
    for (options, verb, code, want) in [
        (&required, "EHLO", 502, "StartTls lacks StartTls"),
        (&required, "EHLO", 500, "StartTls lacks StartTls"),
        (&required, "EHLO", 550, "Hello replied 550 no"),
        (&with_credential, "EHLO", 501, &format!("Auth {hidden}")),
        (&with_credential, "EHLO", 504, &format!("Auth {hidden}")),
        (&with_credential, "EHLO", 554, "Hello replied 554 no"),
        (&lmtp, "LHLO", 502, "Hello protocol: LHLO is not known: this is no server for LMTP"),
        (&lmtp, "LHLO", 550, "Hello replied 550 no"),
    ] {
        check_with(
            options.clone(),
            transaction("", &[]),
            &format!(
                "S: 220 mx
                C: {verb} us.example
                S: {code} no
                E: failed {want}
                C: QUIT
                S: 221 bye
                E: close"
            ),
        );
    }
}

#[test]
fn a_hello_reply_of_500_lines_is_tolerated() {
    let lines = "250-X-JUNK\\r\\n".repeat(500);
    check_with(
        options(),
        transaction("", &[]),
        &format!(
            "S: 220 mx
            C: EHLO us.example
            s: 250-mx\\r\\n{lines}250 \\0\\r\\n
            E: ready"
        ),
    );
}

#[test]
fn a_421_is_temporary_for_whoever_has_no_reply_yet() {
    let start = "I: start
        C: MAIL FROM:<a@us.example>
        C: RCPT TO:<r0@x.example>
        C: RCPT TO:<r1@x.example>
        C: DATA\n";
    for rest in [
        "S: 421 down
        E: results Fresh
        R: 0 not Mail replied 421 down
        R: 1 not Mail replied 421 down
        E: close",
        "s: 250 ok\\r\\n550 no\\r\\n421 down\\r\\n
        E: results Fresh
        R: 0 not Recipient replied 550 no
        R: 1 not Recipient replied 421 down
        E: close",
        "s: 250 ok\\r\\n250 ok\\r\\n250 ok\\r\\n421 down\\r\\n
        E: results Fresh
        R: 0 not Data replied 421 down
        R: 1 not Data replied 421 down
        E: close",
    ] {
        check("PIPELINING", 2, &format!("{start}{rest}"));
    }
}

#[test]
fn too_many_recipients_is_no_failure_once_one_is_accepted() {
    let start = "I: start
        C: MAIL FROM:<a@us.example>
        C: RCPT TO:<r0@x.example>
        C: RCPT TO:<r1@x.example>
        C: RCPT TO:<r2@x.example>
        C: RCPT TO:<r3@x.example>
        C: DATA\n";
    check(
        "PIPELINING",
        4,
        &format!(
            "{start}s: 250 ok\\r\\n452 full\\r\\n250 ok\\r\\n452 4.5.3 many\\r\\n552 many\\r\\n
            s: 354 go\\r\\n
            E: need body
            I: end
            C: .
            S: 250 ok
            E: results Fresh
            R: 0 not Recipient replied 452 full
            R: 1 delivered 250 ok
            R: 2 try again here
            R: 3 try again here
            E: ready"
        ),
    );
    check(
        "PIPELINING",
        4,
        &format!(
            "{start}s: 250 ok\\r\\n250 ok\\r\\n452 4.2.2 full\\r\\n552 5.2.2 full\\r\\n251 ok\\r\\n
            s: 451 no\\r\\n
            E: results Fresh
            R: 0 not Data replied 451 no
            R: 1 not Recipient replied 452 4.2.2 full
            R: 2 not Recipient replied 552 5.2.2 full
            R: 3 not Data replied 451 no
            C: RSET
            S: 250 ok
            E: ready"
        ),
    );
}

#[test]
fn a_refused_mail_settles_everyone_and_leaves_the_connection_in_use() {
    check(
        "",
        2,
        "I: start
        C: MAIL FROM:<a@us.example>
        S: 550 5.7.1 not you
        E: results Fresh
        R: 0 not Mail replied 550 5.7.1 not you
        R: 1 not Mail replied 550 5.7.1 not you
        E: ready",
    );
    check(
        "PIPELINING",
        1,
        "I: start
        C: MAIL FROM:<a@us.example>
        C: RCPT TO:<r0@x.example>
        C: DATA
        s: 451 later\\r\\n503 no mail\\r\\n503 no rcpt\\r\\n
        E: results Fresh
        R: 0 not Mail replied 451 later
        E: ready",
    );
}

#[test]
fn in_lock_step_an_abandoned_transaction_is_reset_before_data() {
    check(
        "",
        1,
        "I: start
        C: MAIL FROM:<a@us.example>
        S: 250 ok
        C: RCPT TO:<r0@x.example>
        S: 550 no
        E: results Fresh
        R: 0 not Recipient replied 550 no
        C: RSET
        S: 250 ok
        E: ready
        I: start
        C: MAIL FROM:<a@us.example>",
    );
}

#[test]
fn in_lock_step_a_reply_before_its_command_is_a_protocol_error() {
    check(
        "",
        1,
        "I: start
        C: MAIL FROM:<a@us.example>
        s: 250 ok\\r\\n250 ok\\r\\n
        E: results Fresh
        R: 0 not Recipient protocol: a reply came before its command
        E: close",
    );
    check(
        "",
        1,
        "S: 250 unasked
        E: failed Mail protocol: a reply came before its command: 250 unasked
        E: close
        I: start
        E: results Fresh
        R: 0 not Mail protocol: a reply came before its command: 250 unasked",
    );
}

#[test]
fn a_354_for_nobody_gets_a_lone_dot_and_delivers_to_nobody() {
    let refused = "I: start
        C: MAIL FROM:<a@us.example>
        C: RCPT TO:<r0@x.example>
        C: DATA
        s: 250 ok\\r\\n550 no\\r\\n354 go\\r\\n
        E: results Fresh\n";
    check(
        "PIPELINING",
        1,
        &format!(
            "{refused}R: 0 not Recipient replied 550 no
            C: .
            S: 250 taken
            E: ready"
        ),
    );
    check_dialect(
        Dialect::Lmtp,
        "PIPELINING",
        1,
        &format!(
            "{refused}R: 0 not Recipient replied 550 no
            E: close"
        ),
    );
}

#[test]
fn a_peer_that_wants_content_again_for_nobody_is_out_of_step() {
    check(
        "PIPELINING",
        1,
        "I: start
        C: MAIL FROM:<a@us.example>
        C: RCPT TO:<r0@x.example>
        C: DATA
        s: 250 ok\\r\\n550 no\\r\\n354 go\\r\\n
        E: results Fresh
        R: 0 not Recipient replied 550 no
        C: .
        S: 354 go on
        E: failed Mail protocol: a reply came before its command: 354 go on
        E: close",
    );
}

#[test]
fn a_peer_with_our_own_name_is_ourselves_where_that_is_looked_for() {
    let ours = || Some(Domain::parse("mx.us.example").unwrap());
    for (ourselves, hello, want) in [
        (ours(), "s: 250-MX.us.Example at your service\\r\\n250 SIZE\\r\\n", "ourselves"),
        (ours(), "S: 250 mx.us.example", "ourselves"),
        (ours(), "S: 250 mx.us.example.", ""),
        (ours(), "S: 250 us.example", ""),
        (ours(), "S: 250", ""),
        (ours(), "s: 250-x\\r\\n250 mx.us.example\\r\\n", ""),
        (None, "S: 250 mx.us.example", ""),
    ] {
        let end = if want.is_empty() { "E: ready" } else { "E: failed Hello ourselves\nC: QUIT" };
        let script = format!("S: 220 mx.us.example\nC: EHLO us.example\n{hello}\n{end}");
        let options = Options { ourselves, ..options() };
        check_with(options, transaction("", &[]), &script);
    }
    // Also where it does not know EHLO.
    check_with(
        Options { ourselves: ours(), ..options() },
        transaction("", &[]),
        "S: 220 x\nC: EHLO us.example\nS: 502 what\nC: HELO us.example
        S: 250 mx.us.example\nE: failed Hello ourselves\nC: QUIT",
    );
}

#[test]
fn the_last_code_of_a_reply_counts_and_odd_codes_are_judged_by_their_first_digit() {
    for (reply, accepted) in [
        ("250-yes\\r\\n550 no", false),
        ("550-no\\r\\n250 yes", true),
        ("299 odd", true),
        ("599 odd", false),
        ("250", true),
        ("250 ok\\n250-x\\r\\n250 y", true),
    ] {
        let mut play = Play::new(options(), transaction("", &["b@x.example"]));
        for line in ["S: 220 mx", "S: 250 mx", "I: start", &format!("s: {reply}\\r\\n")] {
            play.line(line);
        }
        let last = play.transcript.lines().last().unwrap();
        // The last of them is two replies at once, in lock-step.
        let want = if reply.contains("\\n250-x") {
            "E: close"
        } else if accepted {
            "C: RCPT TO:<b@x.example>"
        } else {
            "E: ready"
        };
        assert_eq!(last, want, "{reply}");
    }
}

#[test]
fn what_is_no_reply_code_is_a_protocol_error() {
    for reply in ["000 x", "99 x", "199 x", "600 x", "25", "250x", "2500", "text", ""] {
        check(
            "",
            1,
            &format!(
                "I: start
                C: MAIL FROM:<a@us.example>
                s: {reply}\\r\\n
                E: results Fresh
                R: 0 not Mail protocol: a line of a reply does not begin with a reply code
                E: close"
            ),
        );
    }
    check(
        "",
        1,
        "I: start
        C: MAIL FROM:<a@us.example>
        s: 250 ok\\r
        T: 300
        E: results Fresh
        R: 0 not Mail timed out
        E: close",
    );
}

#[test]
fn lines_of_replies_may_end_in_lf_alone() {
    check_with(
        options(),
        transaction("", &["b@x.example"]),
        "s: 220-mx\\n220 mx\\n
        C: EHLO us.example
        s: 250-mx\\n250 SIZE\\n
        E: ready
        I: start
        C: MAIL FROM:<> SIZE=1000",
    );
}

#[test]
fn a_connection_carries_many_messages_until_the_peer_has_enough() {
    let one = |connection: &str| {
        format!(
            "I: start
            C: MAIL FROM:<a@us.example>
            C: RCPT TO:<r0@x.example>
            C: DATA
            s: 250 ok\\r\\n250 ok\\r\\n354 go\\r\\n
            E: need body
            I: end
            C: .
            S: 250 ok
            E: results {connection}
            R: 0 delivered 250 ok\n"
        )
    };
    let ready = "E: ready\n";
    let (first, more) = (one("Fresh"), one("Reused"));
    let closed = "I: start
        C: MAIL FROM:<a@us.example>
        C: RCPT TO:<r0@x.example>
        C: DATA
        I: closed
        E: results Reused
        R: 0 not Mail cut
        E: close";
    check("PIPELINING", 1, &format!("{first}{ready}{}{closed}", (more.clone() + ready).repeat(48)));
    let quit = "C: QUIT\nS: 221 bye\nE: close";
    check("PIPELINING,LIMITS MAILMAX=2", 1, &format!("{first}{ready}{more}{quit}"));
}

#[test]
fn the_limits_of_the_peer_split_the_recipients() {
    check(
        "PIPELINING,LIMITS RCPTMAX=2",
        3,
        "I: start
        C: MAIL FROM:<a@us.example>
        C: RCPT TO:<r0@x.example>
        C: RCPT TO:<r1@x.example>
        C: DATA
        s: 250 ok\\r\\n550 no\\r\\n550 no\\r\\n554 none\\r\\n
        E: results Fresh
        R: 0 not Recipient replied 550 no
        R: 1 not Recipient replied 550 no
        R: 2 try again here
        C: RSET",
    );
    check_with(
        options(),
        transaction("", &["a@x.example", "b@y.example", "c@x.example"]),
        &behind_hello(
            Dialect::Smtp,
            "PIPELINING,LIMITS RCPTDOMAINMAX=1",
            "I: start
            C: MAIL FROM:<>
            C: RCPT TO:<a@x.example>
            C: RCPT TO:<c@x.example>
            C: DATA",
        ),
    );
}

#[test]
fn lmtp_gives_each_accepted_recipient_its_own_reply() {
    let start = "I: start
        C: MAIL FROM:<a@us.example>
        C: RCPT TO:<r0@x.example>
        C: RCPT TO:<r1@x.example>
        C: RCPT TO:<r2@x.example>
        C: RCPT TO:<r3@x.example>
        C: RCPT TO:<r4@x.example>
        C: DATA
        s: 250 ok\\r\\n250 ok\\r\\n250 ok\\r\\n250 ok\\r\\n250 ok\\r\\n250 ok\\r\\n354 go\\r\\n
        E: need body
        I: end
        C: .\n";
    for rest in [
        "s: 250 a\\r\\n550 b\\r\\n421 down\\r\\n
        E: results Fresh
        R: 0 delivered 250 a
        R: 1 not EndOfData replied 550 b
        R: 2 not EndOfData replied 421 down
        R: 3 not EndOfData replied 421 down
        R: 4 not EndOfData replied 421 down
        E: close",
        "s: 250 a\\r\\n550 b\\r\\n
        I: closed
        E: results Fresh
        R: 0 delivered 250 a
        R: 1 not EndOfData replied 550 b
        R: 2 not EndOfData cut
        R: 3 not EndOfData cut
        R: 4 not EndOfData cut
        E: close",
        "s: 250 a\\r\\n250 b\\r\\n452 c\\r\\n250 d\\r\\n
        S: 250 e
        E: results Fresh
        R: 0 delivered 250 a
        R: 1 delivered 250 b
        R: 2 not EndOfData replied 452 c
        R: 3 delivered 250 d
        R: 4 delivered 250 e
        E: ready",
    ] {
        check_dialect(Dialect::Lmtp, "PIPELINING", 5, &format!("{start}{rest}"));
    }
}

fn credential() -> Credential {
    Credential { user: "u".into(), password: "p".into(), exposure: Exposure::OverTlsOnly }
}

#[test]
fn clear_text_behind_the_reply_to_starttls_ends_the_session() {
    let opportunistic = Options { tls: TlsUse::Opportunistic, ..options() };
    let start = "S: 220 mx
        C: EHLO us.example
        s: 250-mx\\r\\n250 STARTTLS\\r\\n
        C: STARTTLS\n";
    for rest in [
        "s: 220 go\\r\\n250-injected\\r\\n
        E: failed StartTls protocol: clear text follows the reply to STARTTLS
        E: close",
        "s: 220 go\\r\\n2
        E: failed StartTls protocol: clear text follows the reply to STARTTLS
        E: close",
        "S: 220 go
        E: starttls
        S: 250 injected
        E: failed StartTls protocol: clear text follows the reply to STARTTLS
        E: close",
        "S: 220 go
        E: starttls
        I: tls-failed expired
        E: failed StartTls tls: expired
        E: close",
        "S: 454 4.7.0 not now
        E: ready",
    ] {
        check_with(opportunistic.clone(), transaction("", &[]), &format!("{start}{rest}"));
    }
}

#[test]
fn after_starttls_only_the_second_list_of_extensions_counts() {
    check_with(
        Options { tls: TlsUse::Required, ..options() },
        transaction("", &["b@x.example"]),
        "S: 220 mx
        C: EHLO us.example
        s: 250-mx\\r\\n250-SIZE\\r\\n250-PIPELINING\\r\\n250 STARTTLS\\r\\n
        C: STARTTLS
        S: 220 go
        E: starttls
        I: tls-ready
        C: EHLO us.example
        S: 250 mx
        E: ready
        I: start
        C: MAIL FROM:<>",
    );
}

#[test]
fn replies_before_starttls_that_nobody_asked_for_are_a_protocol_error() {
    for early in ["235 you are in", "250 ok"] {
        check_with(
            Options { tls: TlsUse::Required, ..options() },
            transaction("", &[]),
            &format!(
                "s: 220 mx\\r\\n{early}\\r\\n
                E: failed Hello protocol: a reply came before its command
                E: close"
            ),
        );
    }
}

#[test]
fn required_tls_is_never_done_without() {
    for (hello, want) in [
        ("s: 250 mx\\r\\n", "E: failed StartTls lacks StartTls\nC: QUIT"),
        (
            "s: 250-mx\\r\\n250 STARTTLS\\r\\n",
            "C: STARTTLS\nS: 454 no\nE: failed StartTls replied 454 no\nC: QUIT",
        ),
    ] {
        check_with(
            Options { tls: TlsUse::Required, ..options() },
            transaction("", &[]),
            &format!("S: 220 mx\nC: EHLO us.example\n{hello}\n{want}"),
        );
    }
}

#[test]
fn a_password_is_said_only_over_tls() {
    let clear = Options { credential: Some(credential()), ..options() };
    let tls = Options { tls: TlsUse::Implicit, ..clear.clone() };
    let hello = |mechanisms: &str| {
        format!("S: 220 mx\nC: EHLO us.example\ns: 250-mx\\r\\n250 {mechanisms}\\r\\n\n")
    };
    for (options, script) in [
        (&clear, hello("AUTH PLAIN") + "E: failed Auth lacks StartTls\nC: QUIT"),
        (&tls, hello("AUTH LOGIN PLAIN") + "C: AUTH PLAIN AHUAcA==\nS: 235 in\nE: ready"),
        (
            &tls,
            hello("AUTH=LOGIN")
                + "C: AUTH LOGIN\nS: 334 VXNlcm5hbWU6\nC: dQ==\nS: 334 x\nC: cA==\nS: 235 in\n\
                   E: ready",
        ),
        (
            &tls,
            hello("AUTH PLAIN")
                + "C: AUTH PLAIN AHUAcA==\nS: 535 5.7.8 no\n\
                   E: failed Auth replied 535 5.7.8 no\nC: QUIT",
        ),
        (
            &tls,
            hello("AUTH PLAIN")
                + "C: AUTH PLAIN AHUAcA==\nS: 334 more\n\
                   E: failed Auth protocol: this reply makes no sense here: 334 more\nE: close",
        ),
        (
            &tls,
            hello("AUTH GSSAPI")
                + "E: failed Auth protocol: none of AUTH SCRAM-SHA-256, PLAIN and LOGIN is \
                   offered\nC: QUIT",
        ),
    ] {
        check_with(options.clone(), transaction("", &[]), &script);
    }
    assert!(!format!("{:?}", credential()).contains("password: \"p\""));
}

const NONCE: &str = "rOprNGfwEbeRWgbNEkqO";
/// RFC 7677 §3, from the server's nonce on.
const CHALLENGE: &str = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                         s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
const PROOF: &str = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                     p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
const SIGNATURE: &str = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";

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

/// What follows the first message of SCRAM; `[…]` stands for Base64 of what is inside.
#[track_caller]
fn check_scram(rest: &str) {
    let text = format!(
        "S: 220 mx\nC: EHLO us.example\ns: 250-mx\\r\\n250 AUTH PLAIN LOGIN SCRAM-SHA-256\\r\\n
        C: AUTH SCRAM-SHA-256 [n,,n=user,r={NONCE}]\n{rest}"
    );
    let mut script = String::new();
    for (at, part) in text.split(['[', ']']).enumerate() {
        script += &if at % 2 == 0 { part.to_owned() } else { STANDARD.encode(part) };
    }
    check_with(scram_options(), transaction("", &[]), &script);
}

#[test]
fn scram_goes_as_in_the_example_of_the_rfc() {
    check_scram(&format!(
        "S: 334 [{CHALLENGE}]\nC: [{PROOF}]\nS: 334 [{SIGNATURE}]\nC:\nS: 235 in\nE: ready"
    ));
}

#[test]
fn a_server_that_cannot_do_scram_rightly_is_left_with_an_asterisk() {
    let signature = "SCRAM: the server does not know the password";
    let malformed = "SCRAM: the server's message is malformed";
    let nonce = "SCRAM: the server's nonce does not continue ours";
    let rounds = "SCRAM: the rounds are not a number from 4096 to 1000000";
    let after_proof = |message: &str| format!("334 [{CHALLENGE}]\nC: [{PROOF}]\nS: 334 {message}");
    for (said, why) in [
        (after_proof("[v=7rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=]"), signature),
        (after_proof("[v=]"), signature),
        (after_proof("%%%"), malformed),
        (after_proof("[e=other]"), "SCRAM: the server names an error and no signature"),
        (format!("334 [r={NONCE},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096]"), nonce),
        ("334 [r=rOprN,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096]".to_owned(), nonce),
        (format!("334 [r={NONCE}x,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4095]"), rounds),
        (format!("334 [r={NONCE}x,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=1000001]"), rounds),
        ("334 %%%".to_owned(), malformed),
        ("334".to_owned(), malformed),
    ] {
        let start = format!("S: {said}\nC: *\n");
        for rest in ["S: 501 as you wish", "S: 235 in"] {
            let end = format!("E: failed Auth protocol: {why}\nC: QUIT\nS: 221 bye\nE: close");
            check_scram(&format!("{start}{rest}\n{end}"));
        }
        for rest in ["S: 421 bye", "I: closed", "T: 300"] {
            let end = format!("E: failed Auth protocol: {why}\nE: close");
            check_scram(&format!("{start}{rest}\n{end}"));
        }
    }
}

#[test]
fn a_refusal_at_any_step_of_scram_is_the_refusal_of_the_credential() {
    for start in [
        String::new(),
        format!("S: 334 [{CHALLENGE}]\nC: [{PROOF}]\n"),
        format!("S: 334 [{CHALLENGE}]\nC: [{PROOF}]\nS: 334 [{SIGNATURE}]\nC:\n"),
    ] {
        check_scram(&format!(
            "{start}S: 535 5.7.8 no\nE: failed Auth replied 535 5.7.8 no\nC: QUIT"
        ));
    }
    check_scram(&format!(
        "S: 334 [{CHALLENGE}]\nC: [{PROOF}]\nS: 334 [{SIGNATURE}]\nC:\nS: 334 more
        E: failed Auth protocol: this reply makes no sense here: 334 more\nE: close"
    ));
}

#[test]
fn success_without_a_signature_is_none() {
    for start in [String::new(), format!("S: 334 [{CHALLENGE}]\nC: [{PROOF}]\n")] {
        check_scram(&format!(
            "{start}S: 235 in
            E: failed Auth protocol: SCRAM: the server agrees without having shown that it knows \
            the password
            E: close"
        ));
    }
}

#[test]
fn the_strongest_mechanism_that_both_know_is_taken() {
    let scram = format!("SCRAM-SHA-256 {}", STANDARD.encode(format!("n,,n=user,r={NONCE}")));
    let plain = "PLAIN AHVzZXIAcGVuY2ls";
    let without_nonce = Options { nonce: None, ..scram_options() };
    for (options, offered, want) in [
        (scram_options(), "PLAIN SCRAM-SHA-256 LOGIN", scram.as_str()),
        (scram_options(), "LOGIN SCRAM-SHA-256-PLUS PLAIN", plain),
        (without_nonce.clone(), "SCRAM-SHA-256 LOGIN PLAIN", plain),
        (without_nonce, "SCRAM-SHA-256 LOGIN", "LOGIN"),
        (scram_options(), "CRAM-MD5 LOGIN", "LOGIN"),
    ] {
        let hello =
            format!("S: 220 mx\nC: EHLO us.example\ns: 250-mx\\r\\n250 AUTH {offered}\\r\\n");
        check_with(options, transaction("", &[]), &format!("{hello}\nC: AUTH {want}"));
    }
}

#[test]
fn a_first_message_that_does_not_fit_into_the_line_follows_the_command() {
    let long = "x".repeat(500);
    let long_password = Credential { password: long.clone(), ..credential() };
    let message = STANDARD.encode(format!("\0u\0{long}"));
    check_with(
        Options { tls: TlsUse::Implicit, credential: Some(long_password), ..options() },
        transaction("", &[]),
        &format!(
            "S: 220 mx\nC: EHLO us.example\ns: 250-mx\\r\\n250 AUTH PLAIN\\r\\n
            C: AUTH PLAIN\nS: 334\nC: {message}\nS: 235 in\nE: ready"
        ),
    );
}

#[test]
fn where_starttls_fails_a_credential_is_kept_back_and_the_caller_can_tell_why() {
    let hello = "S: 220 mx\nC: EHLO us.example
        s: 250-mx\\r\\n250-STARTTLS\\r\\n250 AUTH PLAIN LOGIN SCRAM-SHA-256\\r\\nC: STARTTLS\n";
    let hello = hello.replace("\\r\\nC:", "\\r\\n\nC:");
    for rest in [
        "S: 220 go\nE: starttls\nI: tls-failed expired\nE: failed StartTls tls: expired\nE: close",
        "S: 454 no\nE: failed Auth lacks StartTls\nC: QUIT",
        "S: 502 no\nE: failed Auth lacks StartTls\nC: QUIT",
    ] {
        let options = Options { tls: TlsUse::Opportunistic, ..scram_options() };
        check_with(options, transaction("", &[]), &format!("{hello}{rest}"));
    }
    // The next connection, in the clear: the credential still counts.
    check_with(
        Options { tls: TlsUse::Never, ..scram_options() },
        transaction("", &[]),
        "S: 220 mx\nC: EHLO us.example\ns: 250-mx\\r\\n250 AUTH SCRAM-SHA-256\\r\\n
        E: failed Auth lacks StartTls\nC: QUIT",
    );
}

#[test]
fn what_the_peer_lacks_is_known_before_mail() {
    let plain = transaction("a@us.example", &["b@x.example", "β@x.example"]);
    let ascii = transaction("a@us.example", &["b@x.example"]);
    let eight = Transaction { eight_bit: EightBit::Present, ..ascii.clone() };
    let flagged = Transaction { utf8: Utf8::Declared, ..ascii.clone() };
    let header = Transaction { header: EightBit::Present, ..flagged.clone() };
    let refuse = Options { eight_bit: EightBitPolicy::Refuse, ..options() };
    let mail = "I: start\nC: MAIL FROM:<a@us.example>";
    let lacks = |need| format!("I: start\nE: results Fresh\nR: 0 not Mail lacks {need}\nE: ready");
    for (options, transaction, extensions, script) in [
        (options(), &ascii, "SIZE 999", lacks("Size")),
        (options(), &ascii, "SIZE 1000", format!("{mail} SIZE=1000")),
        (options(), &eight, "8BITMIME", format!("{mail} BODY=8BITMIME")),
        (options(), &eight, "", mail.to_owned()),
        (refuse, &eight, "", lacks("EightBitMime")),
        (options(), &flagged, "", mail.to_owned()),
        (options(), &flagged, "SMTPUTF8", format!("{mail} SMTPUTF8")),
        (options(), &header, "", lacks("Smtputf8")),
        (options(), &header, "SMTPUTF8", format!("{mail} SMTPUTF8")),
        (options(), &plain, "SMTPUTF8", format!("{mail} SMTPUTF8")),
        (
            options(),
            &plain,
            "",
            format!(
                "{mail}\nS: 250 ok\nC: RCPT TO:<b@x.example>\nS: 550 no\nE: results Fresh\n\
                 R: 0 not Recipient replied 550 no\nR: 1 not Recipient lacks Smtputf8\nC: RSET"
            ),
        ),
    ] {
        let script = behind_hello(Dialect::Smtp, extensions, &script);
        check_with(options, transaction.clone(), &script);
    }
}

#[test]
fn dsn_parameters_are_passed_on_only_where_dsn_is_offered() {
    let mut dsn = transaction("", &["b@x.example"]);
    dsn.ret = Some(Ret::Headers);
    dsn.envid = Some("id+2B1".into());
    dsn.recipients[0].1.notify = Some(Notify::On { delay: true, failure: true, success: false });
    dsn.recipients[0].1.orcpt = Some("rfc822;b@x.example".into());
    for (extensions, mail, rcpt) in [
        ("DSN", " RET=HDRS ENVID=id+2B1", " NOTIFY=FAILURE,DELAY ORCPT=rfc822;b@x.example"),
        ("SIZE", " SIZE=1000", ""),
    ] {
        let script =
            format!("I: start\nC: MAIL FROM:<>{mail}\nS: 250 ok\nC: RCPT TO:<b@x.example>{rcpt}");
        check_with(options(), dsn.clone(), &behind_hello(Dialect::Smtp, extensions, &script));
    }
    dsn.envid = Some("x\r\nRSET".into());
    let script = "I: start\nC: MAIL FROM:<> RET=HDRS";
    check_with(options(), dsn, &behind_hello(Dialect::Smtp, "DSN", script));
}

#[test]
fn an_original_recipient_is_added_or_passed_on_as_the_peer_can_take_it() {
    let all = [
        (None, None, "b@x.example", " ORCPT=rfc822;b@x.example", " ORCPT=rfc822;b@x.example"),
        (None, None, "a+b=c@x.example", " ORCPT=rfc822;a+2Bb+3Dc@x.example", ""),
        (Some("rfc822;o+2Bp@y"), None, "b@x.example", " ORCPT=rfc822;o+2Bp@y", ""),
        (None, Some(Notify::Never), "b@x.example", " NOTIFY=NEVER", ""),
        (Some("x;y"), Some(Notify::Never), "b@x.example", " NOTIFY=NEVER ORCPT=x;y", ""),
        (Some("utf-8;δ@y"), None, "b@x.example", " ORCPT=utf-8;\\x{3B4}@y", " ORCPT=utf-8;δ@y"),
        (None, None, "δ@x.example", "", " ORCPT=utf-8;\\x{3B4}@x.example"),
    ];
    for (orcpt, notify, to, plain, utf8) in all {
        let mut dsn = transaction("", &[to]);
        dsn.utf8 = Utf8::Declared;
        dsn.recipients[0].1.notify = notify;
        dsn.recipients[0].1.orcpt = orcpt.map(str::to_owned);
        for (extensions, mail, want) in [("DSN", "", plain), ("DSN,SMTPUTF8", " SMTPUTF8", utf8)] {
            if want.is_empty() {
                continue;
            }
            let script =
                format!("I: start\nC: MAIL FROM:<>{mail}\nS: 250 ok\nC: RCPT TO:<{to}>{want}");
            check_with(options(), dsn.clone(), &behind_hello(Dialect::Smtp, extensions, &script));
        }
    }
}

#[test]
fn content_that_cannot_go_out_is_never_ended() {
    for (content, why) in
        [("a\\nb", "an LF without CR"), ("a\\r.\\r\\nb", "a CR without LF"), ("a\\0", "a NUL")]
    {
        check(
            "PIPELINING",
            1,
            &format!(
                "I: start
                C: MAIL FROM:<a@us.example>
                C: RCPT TO:<r0@x.example>
                C: DATA
                s: 250 ok\\r\\n250 ok\\r\\n354 go\\r\\n
                E: need body
                I: body {content}
                E: results Fresh
                R: 0 not Content protocol: our content has {why} and was not sent
                E: close
                I: end"
            ),
        );
    }
}

#[test]
fn a_quit_waits_for_the_transaction_and_a_start_at_the_wrong_time_comes_back() {
    check(
        "",
        1,
        "I: start
        C: MAIL FROM:<a@us.example>
        I: start
        E: results Reused
        R: 0 try again here
        I: quit
        S: 550 no
        E: results Fresh
        R: 0 not Mail replied 550 no
        C: QUIT
        I: start
        E: results Reused
        R: 0 not Mail cut
        T: 5
        E: close",
    );
}

#[test]
fn a_transaction_has_an_end_however_long_its_parts_take() {
    let mut options = options();
    options.timeouts.transaction = Duration::from_secs(400);
    check_with(
        options,
        transaction("", &["b@x.example"]),
        &behind_hello(
            Dialect::Smtp,
            "",
            "I: start
            C: MAIL FROM:<>
            T: 299
            S: 250 ok
            C: RCPT TO:<b@x.example>
            T: 101
            E: results Fresh
            R: 0 not Recipient timed out
            E: close",
        ),
    );
}

/// A session with a wait of its own for each thing.
fn with_odd_waits() -> Options {
    let seconds = Duration::from_secs;
    let timeouts = Timeouts {
        greeting: seconds(11),
        hello: seconds(12),
        tls: seconds(13),
        mail: seconds(14),
        recipient: seconds(15),
        data_init: seconds(16),
        data_block: seconds(17),
        end_of_data: seconds(18),
        quit: seconds(19),
        transaction: seconds(1_000),
    };
    Options { timeouts, ..options() }
}

#[test]
fn each_thing_is_waited_for_as_long_as_it_has() {
    const STEPS: &[(&str, Option<u64>)] = &[
        ("S: 220 mx", Some(12)),
        ("s: 250-mx\\r\\n250 STARTTLS\\r\\n", Some(13)),
        ("S: 220 go", Some(13)),
        ("I: tls-ready", Some(12)),
        ("s: 250-mx\\r\\n250 AUTH LOGIN\\r\\n", Some(12)),
        ("S: 334 VXNlcm5hbWU6", Some(12)),
        ("S: 334 UGFzc3dvcmQ6", Some(12)),
        ("S: 235 in", None),
        ("I: start", Some(14)),
        ("S: 250 ok", Some(15)),
        ("S: 250 ok", Some(15)),
        ("S: 250 ok", Some(16)),
        ("S: 354 go", Some(17)),
        ("I: body x", Some(17)),
        ("I: end", Some(18)),
        ("S: 250 ok", None),
        ("I: start", Some(14)),
        ("S: 250 ok", Some(15)),
        ("S: 550 no", Some(15)),
        ("S: 550 no", Some(12)),
        ("S: 250 reset", None),
        ("I: quit", Some(19)),
        ("S: 221 bye", None),
    ];
    let options =
        Options { tls: TlsUse::Required, credential: Some(credential()), ..with_odd_waits() };
    let mut play = Play::new(options, transaction("", &["b@x.example", "c@x.example"]));
    let left = |play: &Play| play.session.deadline().map(|at| at.since(play.now).as_secs());
    assert_eq!(left(&play), Some(11));
    for (line, want) in STEPS {
        play.line(line);
        assert_eq!(left(&play), *want, "{line}\n{}", play.transcript);
        if want.is_some() {
            // Time that passes prolongs nothing.
            play.line("T: 3");
            assert_eq!(left(&play), want.map(|seconds| seconds - 3), "{line}");
        }
    }
    assert!(play.transcript.ends_with("E: close\n"), "{}", play.transcript);
}

#[test]
fn pipelined_replies_have_their_waits_one_after_the_other() {
    let next = transaction("", &["b@x.example"]);
    let mut play = Play::new(with_odd_waits(), next);
    for line in ["S: 220 mx", "s: 250-mx\\r\\n250 PIPELINING\\r\\n", "I: start"] {
        play.line(line);
    }
    for (line, want) in [("", 14), ("S: 250 ok", 15), ("S: 250 ok", 16), ("S: 354 go", 17)] {
        if !line.is_empty() {
            play.line("T: 5");
            play.line(line);
        }
        let left = play.session.deadline().map(|at| at.since(play.now).as_secs());
        assert_eq!(left, Some(want), "{line}");
    }
}

#[test]
fn content_has_its_wait_from_piece_to_piece_within_that_of_the_transaction() {
    let mut options = with_odd_waits();
    options.timeouts.transaction = Duration::from_secs(40);
    let mut play = Play::new(options, transaction("", &["b@x.example"]));
    let lines = ["S: 220 mx", "S: 250 mx", "I: start", "S: 250 ok", "S: 250 ok", "S: 354 go"];
    for line in lines {
        play.line(line);
    }
    for (passed, want) in [(0, 17), (10, 17), (10, 17), (10, 10), (9, 1)] {
        play.line(&format!("T: {passed}"));
        play.line("I: body x");
        let left = play.session.deadline().map(|at| at.since(play.now).as_secs());
        assert_eq!(left, Some(want), "after {passed} s");
    }
    // What was sent is never given up for that.
    play.line("I: end");
    assert_eq!(play.session.deadline().map(|at| at.since(play.now).as_secs()), Some(18));
}

#[test]
fn each_reply_behind_the_content_has_a_wait_of_its_own_by_lmtp() {
    let options = Options { dialect: Dialect::Lmtp, ..with_odd_waits() };
    let mut play = Play::new(options, transaction("", &["b@x.example", "c@x.example"]));
    let lines = ["S: 220 mx", "S: 250 mx", "I: start", "S: 250 ok", "S: 250 ok", "S: 250 ok"];
    for line in lines.iter().chain(&["S: 354 go", "I: end"]) {
        play.line(line);
    }
    for line in ["T: 5", "S: 250 b has it"] {
        play.line(line);
    }
    assert_eq!(play.session.deadline().map(|at| at.since(play.now).as_secs()), Some(18));
}

#[test]
fn a_session_tells_what_the_peer_offers_and_what_protects_it() {
    let options = Options { tls: TlsUse::Required, ..options() };
    let mut play = Play::new(options, transaction("", &[]));
    play.line("S: 220 mx");
    play.line("s: 250-mx\\r\\n250-SIZE 5\\r\\n250 STARTTLS\\r\\n");
    assert_eq!(play.session.capabilities().size_octets_max, Some(5));
    assert!(play.session.tls().is_none());
    play.line("S: 220 go");
    play.line("I: tls-ready");
    assert_eq!(play.session.capabilities(), &Capabilities::default());
    assert_eq!(play.session.tls().map(|facts| facts.version.as_str()), Some("TLSv1.3"));
    play.line("s: 250-mx\\r\\n250 DSN\\r\\n");
    let offers = |extension| play.session.capabilities().offers(extension);
    assert!(offers(Extension::Dsn) && !offers(Extension::Size));
}

#[test]
fn inputs_at_the_wrong_time_have_no_effect() {
    check(
        "",
        1,
        "I: tls-ready
        I: tls-failed x
        I: body x
        I: end
        T: 100000
        I: start
        C: MAIL FROM:<a@us.example>
        I: tls-ready
        I: tls-failed x
        I: body x
        I: end
        T: 299
        S: 250 ok
        C: RCPT TO:<r0@x.example>",
    );
}

#[test]
fn an_intermediate_reply_is_one_to_data_alone() {
    let mail = "I: start\nC: MAIL FROM:<a@us.example>\n";
    let rcpt = "S: 250 ok\nC: RCPT TO:<r0@x.example>\n";
    let sense = "this reply makes no sense here";
    for (script, phase) in
        [(format!("{mail}S: 354 x"), "Mail"), (format!("{mail}{rcpt}S: 334 x"), "Recipient")]
    {
        let code = script.rsplit(' ').nth(1).unwrap().to_owned();
        let want =
            format!("E: results Fresh\nR: 0 not {phase} protocol: {sense}: {code} x\nE: close");
        check("", 1, &format!("{script}\n{want}"));
    }
    check(
        "",
        1,
        &format!(
            "{mail}{rcpt}S: 250 ok\nC: DATA\nS: 250 x\nE: results Fresh\n\
             R: 0 not Data protocol: {sense}: 250 x\nE: close"
        ),
    );
}

#[test]
fn our_own_limit_of_recipients_holds_beside_that_of_the_peer() {
    for (ours, theirs, sent) in [(1, 9, 1), (2, 9, 2), (9, 2, 2), (0, 9, 1), (2, 2, 2)] {
        let options = Options { recipients_max: ours, ..options() };
        let names = ["a@x.example", "b@x.example", "c@x.example"];
        let mut play = Play::new(options, transaction("", &names));
        play.line("S: 220 mx");
        play.line(&format!("s: 250-mx\\r\\n250-PIPELINING\\r\\n250 LIMITS RCPTMAX={theirs}\\r\\n"));
        play.line("I: start");
        assert_eq!(play.transcript.matches("RCPT TO").count(), sent, "{ours} and {theirs}");
    }
}

/// Everything a session says when the server says `octets` in these pieces, without waiting.
fn answers(options: Options, octets: &[u8], cuts: &[usize]) -> String {
    let mut play = Play::new(options, transaction("a@us.example", &["b@x.example", "c@y.example"]));
    let mut start = 0;
    let mut ends: Vec<usize> = cuts.iter().map(|cut| cut % (octets.len() + 1)).collect();
    ends.push(octets.len());
    ends.sort_unstable();
    for end in ends {
        play.octets(&octets[start..end]);
        start = end;
        while let Some(output) = play.session.poll() {
            let input = match &output {
                Output::Ready => Some("start"),
                Output::NeedBody => Some("body a\\r\\n.b\\r\\n"),
                Output::StartTls => Some("tls-failed x"),
                Output::Close | Output::Failed(_) | Output::Results(_) | Output::Send(_) => None,
            };
            play.transcript.push_str(&shown(output));
            if let Some(input) = input {
                play.input(input);
            }
        }
    }
    play.transcript
}

/// Lines that lead deeper than random octets would.
fn server_line() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        6 => Just(b"250 ok\r\n".to_vec()),
        2 => Just(b"220 mx\r\n".to_vec()),
        2 => Just(b"250-mx\r\n250-SIZE 5000\r\n250 PIPELINING\r\n".to_vec()),
        1 => Just(b"250-mx\r\n250 STARTTLS\r\n".to_vec()),
        1 => Just(b"250-mx\r\n250-STARTTLS\r\n250 AUTH PLAIN SCRAM-SHA-256\r\n".to_vec()),
        1 => Just(b"334 eA==\r\n".to_vec()),
        2 => Just(b"354 go\r\n".to_vec()),
        1 => Just(b"452 many\n".to_vec()),
        1 => Just(b"550 5.1.1 no\r\n".to_vec()),
        1 => Just(b"421 bye\r\n".to_vec()),
        1 => proptest::collection::vec(any::<u8>(), 0..20),
    ]
}

proptest! {
    #[test]
    fn no_octets_of_a_server_make_a_session_panic(
        lines in proptest::collection::vec(server_line(), 0..20),
        cuts in proptest::collection::vec(any::<usize>(), 0..20),
    ) {
        let options = Options { tls: TlsUse::Opportunistic, ..options() };
        let transcript = answers(options, &lines.concat(), &cuts);
        prop_assert!(transcript.matches("E: close").count() <= 1);
        let starts = transcript.matches("E: ready").count();
        let results = transcript.matches("E: results").count();
        prop_assert!(results == starts || results + 1 == starts, "{}", transcript);
    }

    #[test]
    fn in_the_clear_nothing_of_a_credential_is_said_whatever_the_server_says(
        lines in proptest::collection::vec(server_line(), 0..20),
        tls in prop_oneof![
            Just(TlsUse::Never), Just(TlsUse::Opportunistic), Just(TlsUse::Required)
        ],
    ) {
        let mut play = Play::new(Options { tls, ..scram_options() }, transaction("", &[]));
        let mut sent = String::new();
        for line in std::iter::once(b"220 mx\r\n".to_vec()).chain(lines) {
            play.octets(&line);
            while let Some(output) = play.session.poll() {
                let is_plea = matches!(output, Output::Ready | Output::NeedBody);
                prop_assert!(!is_plea, "ready without authentication");
                if let Output::Send(octets) = &output {
                    sent += std::str::from_utf8(octets).unwrap();
                }
            }
        }
        for line in sent.lines() {
            prop_assert!(["EHLO us.example", "STARTTLS", "QUIT"].contains(&line), "{}", line);
        }
    }

    #[test]
    fn the_segments_of_a_pipelined_conversation_make_no_difference(
        replies in proptest::collection::vec(
            prop_oneof![Just("250 ok"), Just("550 no"), Just("250-a\r\n250 b"), Just("452 x")], 3,
        ),
        cuts in proptest::collection::vec(any::<usize>(), 0..30),
    ) {
        let text = format!("{}\r\n354 go\r\n", replies.join("\r\n"));
        let play = |cuts: &[usize]| {
            let next = transaction("", &["b@x.example", "c@y.example"]);
            let mut play = Play::new(options(), next);
            for line in ["S: 220 mx", "s: 250-mx\\r\\n250 PIPELINING\\r\\n", "I: start"] {
                play.line(line);
            }
            play.transcript.clear();
            let mut ends: Vec<usize> = cuts.iter().map(|cut| cut % (text.len() + 1)).collect();
            ends.push(text.len());
            ends.sort_unstable();
            let mut start = 0;
            for end in ends {
                play.octets(&text.as_bytes()[start..end]);
                start = end;
                while let Some(output) = play.session.poll() {
                    play.transcript.push_str(&shown(output));
                }
            }
            play.transcript
        };
        prop_assert_eq!(play(&[]), play(&cuts));
    }

    #[test]
    fn what_is_stuffed_comes_back_and_holds_no_look_alike(
        lines in proptest::collection::vec("[.a]{0,4}", 0..20),
        is_complete in any::<bool>(),
        cuts in proptest::collection::vec(any::<usize>(), 0..20),
    ) {
        let mut content = lines.join("\r\n").into_bytes();
        if is_complete {
            content.extend_from_slice(b"\r\n");
        }
        let mut ends: Vec<usize> = cuts.iter().map(|cut| cut % (content.len() + 1)).collect();
        ends.push(content.len());
        ends.sort_unstable();
        let (mut stuffer, mut out, mut start) = (Stuffer::new(), Vec::new(), 0);
        for end in ends {
            let piece = &content[start..end];
            stuffer.push(piece, &mut |slice| out.extend_from_slice(slice)).unwrap();
            start = end;
        }
        stuffer.end(&mut |slice| out.extend_from_slice(slice)).unwrap();
        let text = String::from_utf8(out).unwrap();
        let data = text.strip_suffix(".\r\n").unwrap();
        prop_assert!(!data.replace("\r\n", "").contains(['\r', '\n', '\0']));
        let mut back = String::new();
        for line in data.split_inclusive("\r\n") {
            prop_assert_ne!(line, ".\r\n");
            back.push_str(line.strip_prefix('.').unwrap_or(line));
        }
        let mut want = String::from_utf8(content).unwrap();
        if !want.is_empty() && !want.ends_with("\r\n") {
            want.push_str("\r\n");
        }
        prop_assert_eq!(back, want);
    }
}

#[test]
fn a_verification_ends_before_data() {
    let pipelined = "I: verify
        C: MAIL FROM:<a@us.example>
        C: RCPT TO:<r0@x.example>
        C: RCPT TO:<r1@x.example>
        S: 250 2.1.0 ok
        S: 250 2.1.5 ok
        S: 550 5.1.1 no such user
        E: results Fresh
        R: 0 verified
        R: 1 not Recipient replied 550 5.1.1 no such user
        C: RSET
        S: 250 2.0.0 ok
        E: ready";
    check("PIPELINING", 2, pipelined);
    let in_lock_step = "I: verify
        C: MAIL FROM:<a@us.example>
        S: 250 ok
        C: RCPT TO:<r0@x.example>
        S: 250 ok
        E: results Fresh
        R: 0 verified
        C: RSET
        S: 250 ok
        E: ready
        I: start
        C: MAIL FROM:<a@us.example>
        S: 550 5.7.1 no
        E: results Reused
        R: 0 not Mail replied 550 5.7.1 no
        E: ready";
    check("", 1, in_lock_step);
    let refused = "I: verify
        C: MAIL FROM:<a@us.example>
        S: 451 4.3.0 later
        E: results Fresh
        R: 0 not Mail replied 451 4.3.0 later
        E: ready";
    check("", 1, refused);
    let cut = "I: verify
        C: MAIL FROM:<a@us.example>
        C: RCPT TO:<r0@x.example>
        S: 250 ok
        I: closed
        E: results Fresh
        R: 0 not Recipient cut
        E: close";
    check("PIPELINING", 1, cut);
}

/// What asks for nothing that a peer must know of; the session is at 1,000,000 seconds.
fn asking(requests: Requests) -> Transaction {
    Transaction { requests, ..transaction("a@us.example", &["b@x.example"]) }
}

fn deliver_by(seconds: i64, mode: ByMode, is_traced: bool) -> Requests {
    let deadline = Time::from_secs(1_000_000u64.checked_add_signed(seconds).unwrap());
    let deliver_by = Some(DeliverBy { deadline, mode, is_traced });
    Requests { deliver_by, ..Requests::default() }
}

#[test]
fn what_was_asked_for_goes_on_where_it_is_offered() {
    use ByMode::{Notify, Return};
    let priority = |n| Requests { priority: Priority::new(n), ..Requests::default() };
    let required = || Requests { tls: TlsRequest::Required, ..Requests::default() };
    let released = Requests { release_at: Some(Time::from_secs(9)), ..Requests::default() };
    let all = Requests { tls: TlsRequest::Required, priority: Priority::new(-3), ..released };
    for (requests, offered, parameters) in [
        (deliver_by(120, Return, false), "DELIVERBY", " BY=120;R"),
        (deliver_by(120, Return, true), "DELIVERBY 120", " BY=120;RT"),
        (deliver_by(120, Notify, false), "DELIVERBY 240", " BY=120;N"),
        (deliver_by(-7, Notify, true), "DELIVERBY", " BY=-7;NT"),
        (deliver_by(0, Notify, false), "DELIVERBY", " BY=0;N"),
        (deliver_by(-7, Return, false), "DELIVERBY", " BY=1;R"),
        (deliver_by(120, Notify, false), "DSN", ""),
        (deliver_by(5_000_000_000, Notify, false), "DELIVERBY", " BY=999999999;N"),
        (priority(4), "MT-PRIORITY", " MT-PRIORITY=4"),
        (priority(0), "MT-PRIORITY", " MT-PRIORITY=0"),
        (priority(4), "DSN", ""),
        (required(), "REQUIRETLS", " REQUIRETLS"),
        (Requests::default(), "REQUIRETLS,MT-PRIORITY,DELIVERBY", ""),
        (all, "REQUIRETLS,FUTURERELEASE 9 x,MT-PRIORITY", " MT-PRIORITY=-3 REQUIRETLS"),
    ] {
        let script = format!("I: start\nC: MAIL FROM:<a@us.example>{parameters}");
        check_with(options(), asking(requests), &behind_hello(Dialect::Smtp, offered, &script));
    }
}

#[test]
fn what_must_not_be_done_without_is_not_handed_over() {
    let required = || Requests { tls: TlsRequest::Required, ..Requests::default() };
    let returned = || deliver_by(120, ByMode::Return, false);
    for (requests, offered, need) in [
        (required(), "DELIVERBY,STARTTLS", "RequireTls"),
        (returned(), "REQUIRETLS", "DeliverBy"),
        (returned(), "DELIVERBY 121", "DeliverBy"),
        (Requests { tls: TlsRequest::Required, ..returned() }, "DELIVERBY", "RequireTls"),
    ] {
        let script = format!("I: start\nE: results Fresh\nR: 0 not Mail lacks {need}\nE: ready");
        let options = Options { tls: TlsUse::Never, ..options() };
        check_with(options, asking(requests), &behind_hello(Dialect::Smtp, offered, &script));
    }
    // A store is the last hop.
    for requests in [required(), returned()] {
        let options = Options { dialect: Dialect::Lmtp, ..options() };
        let script = "I: start\nC: MAIL FROM:<a@us.example>";
        check_with(options, asking(requests), &behind_hello(Dialect::Lmtp, "DSN", script));
    }
}

/// 350 recipients, and 64 KiB of 0xff for each: little is kept of it, and the code is there.
#[test]
fn little_is_kept_of_what_a_peer_says_without_end() {
    let recipients: Vec<String> = (0..350).map(|n| format!("r{n}@d.example")).collect();
    let recipients: Vec<&str> = recipients.iter().map(String::as_str).collect();
    let now = Time::from_secs(1);
    let mut session = Session::new(now, Options { recipients_max: 1_000, ..options() });
    session.handle(now, Input::Octets(b"220 hi\r\n"));
    session.handle(now, Input::Octets(b"250-peer\r\n250 PIPELINING\r\n"));
    session.handle(now, Input::Start(transaction("a@b.example", &recipients)));
    while session.poll().is_some() {}
    session.handle(now, Input::Octets(b"250 ok\r\n"));
    let mut refusal = Vec::new();
    for _ in 0..31 {
        refusal.extend_from_slice(b"550-5.1.1 ");
        refusal.extend_from_slice(&[0xff; 2_000]);
        refusal.extend_from_slice(b"\r\n");
    }
    refusal.extend_from_slice(b"550 5.1.1 who\r\n");
    for _ in 0..350 {
        assert_eq!(session.handle(now, Input::Octets(&refusal)), refusal.len());
    }
    session.handle(now, Input::Octets(b"554 5.5.1 nobody\r\n"));
    let results = std::iter::from_fn(|| session.poll()).find_map(|output| {
        if let Output::Results(results) = output { Some(results) } else { None }
    });
    let mut octets = 0;
    for (_, result) in results.unwrap().recipients {
        let RecipientResult::NotDelivered(found) = result else { panic!("{result:?}") };
        let merpati_mail::outcome::Fact::Replied(reply) = found.fact else { panic!() };
        assert_eq!((reply.code, reply.enhanced.unwrap().to_string().as_str()), (550, "5.1.1"));
        assert!(reply.text.ends_with('…'));
        octets += reply.text.len();
    }
    assert!(octets <= 350 * 2_048, "{octets}");
}
