//! Whether a client session stays in step with any server.
//!
//! Properties: each transaction has one result with each recipient once, in order; delivered is
//! only what a positive reply was given for; the session ends once. Pure.

use std::time::Duration;

use merpati_mail::{
    BodyType, Domain, ForwardPath, Mailbox, QueueId, Recipient, Requests, ReversePath, Time,
};
use merpati_mail::{address::Utf8Rule, envelope::Utf8};
use merpati_smtp::client::{
    Credential, Dialect, EightBit, EightBitPolicy, Exposure, Input, Options, Output, Pipelining,
    RecipientResult, Session, TlsUse, Transaction, TransactionResult,
};

use crate::{
    plan::{Plan, draw_from, pieces},
    smtp_server::tls,
};

/// A whole session; the first line of the octets is the plan, the others are what the server says.
pub fn client_session(octets: &[u8]) {
    let (mut plan, server) = Plan::split(octets);
    let options = options(&mut plan);
    let mut draw = draw_from(octets);

    let mut by_line = Shell::new(options.clone(), plan.clone());
    let mut cut = Shell::new(options.clone(), plan.clone());
    for line in server.split_inclusive(|&octet| octet == b'\n') {
        by_line.hear(line);
        for piece in pieces(line, 9, &mut draw) {
            cut.hear(&piece);
        }
    }
    by_line.leave();
    cut.leave();
    assert_eq!(by_line.sent(), cut.sent(), "what is sent depends on the pieces");
    assert_eq!(by_line.results, cut.results, "the results depend on the pieces");

    let mut strange = Shell::new(options, plan);
    for piece in pieces(server, 200, &mut draw) {
        strange.hear(&piece);
        match draw.below(16) {
            0 => strange.give(Input::TlsReady(tls())),
            1 => strange.give(Input::TlsFailed("no".to_owned())),
            2 => strange.give(Input::BodyEnd),
            3 => strange.give(Input::Body(b"x")),
            4 => strange.pass(Duration::from_secs(draw.below(700))),
            5 => strange.give(Input::Quit),
            6 => {
                strange.started += 1;
                strange.give(Input::Start(transaction(1)));
            }
            _ => {}
        }
    }
    strange.leave();
}

fn options(plan: &mut Plan<'_>) -> Options {
    let hello = Domain::parse("us.example").expect("a domain");
    let mut options = Options::new(hello);
    options.dialect = [Dialect::Smtp, Dialect::Lmtp][usize::from(plan.below(2))];
    options.tls = [TlsUse::Opportunistic, TlsUse::Never, TlsUse::Required, TlsUse::Implicit]
        [usize::from(plan.below(4))];
    options.credential = match plan.below(3) {
        0 => None,
        1 => Some(credential(Exposure::InClear)),
        _ => Some(credential(Exposure::OverTlsOnly)),
    };
    options.pipelining = [Pipelining::WhereOffered, Pipelining::Never][usize::from(plan.below(2))];
    options.eight_bit =
        [EightBitPolicy::SendAnyway, EightBitPolicy::Refuse][usize::from(plan.below(2))];
    options.recipients_max = [100, 0, 2][usize::from(plan.below(3))];
    options
}

fn credential(exposure: Exposure) -> Credential {
    Credential { user: "ani".to_owned(), password: "secret".to_owned(), exposure }
}

fn transaction(kind: u8) -> Transaction {
    let recipients = match kind {
        0 => &["<b@b.example>"][..],
        1 => &["<b@b.example>", "<\"c d\"@c.example>", "<postmaster>"],
        _ => &["<b@b.example>", "<δ@δ.example>"],
    };
    let path = |text| ForwardPath::parse_prefix(text, Utf8Rule::Allowed).expect("a path").0;
    Transaction {
        id: QueueId::from_bits(u64::from(kind)),
        reverse_path: ReversePath(Mailbox::parse("a@a.example").ok().filter(|_| kind < 3)),
        recipients: (0..).zip(recipients.iter().map(|r| Recipient::new(path(r)))).collect(),
        size_octets: u64::try_from(content(kind).len()).unwrap_or(0),
        body: BodyType::SevenBit,
        eight_bit: if kind == 3 { EightBit::Present } else { EightBit::Absent },
        utf8: if kind < 2 { Utf8::NotDeclared } else { Utf8::Declared },
        header: EightBit::Absent,
        ret: None,
        envid: None,
        requests: Requests::default(),
    }
}

fn content(kind: u8) -> &'static [u8] {
    match kind {
        0 => b"Subject: x\r\n\r\n.\r\n..y\r\n",
        1 => b"",
        2 => b"Subject: no end",
        _ => b"Subject: bare\n.\r\n",
    }
}

/// A shell without sockets.
struct Shell<'a> {
    session: Session,
    plan: Plan<'a>,
    now: Time,
    unread: Vec<u8>,
    sent: Vec<u8>,
    kind: u8,
    started: usize,
    results: Vec<TransactionResult>,
    is_closed: bool,
}

impl<'a> Shell<'a> {
    fn new(options: Options, plan: Plan<'a>) -> Self {
        let now = Time::from_secs(1_000_000);
        Self {
            session: Session::new(now, options),
            plan,
            now,
            unread: Vec::new(),
            sent: Vec::new(),
            kind: 0,
            started: 0,
            results: Vec::new(),
            is_closed: false,
        }
    }

    /// The server says octets.
    fn hear(&mut self, octets: &[u8]) {
        if self.is_closed {
            return;
        }
        self.unread.extend_from_slice(octets);
        let used = self.session.handle(self.now, Input::Octets(&self.unread));
        assert!(used <= self.unread.len());
        self.unread.drain(..used);
        self.carry_out();
    }

    fn give(&mut self, input: Input<'_>) {
        assert_eq!(self.session.handle(self.now, input), 0);
        self.carry_out();
    }

    /// Time passes.
    fn pass(&mut self, time: Duration) {
        self.now = self.now + time;
        if self.session.deadline().is_some_and(|deadline| deadline <= self.now) {
            self.give(Input::Timeout);
            assert!(self.is_closed, "the session goes on behind its deadline");
        }
    }

    /// The server goes.
    fn leave(&mut self) {
        self.give(Input::Closed);
        assert!(self.is_closed, "the session goes on without its server");
        assert_eq!(self.session.deadline(), None);
        assert_eq!(self.results.len(), self.started, "a transaction without one result");
    }

    fn sent(&self) -> String {
        self.sent.escape_ascii().to_string()
    }

    fn carry_out(&mut self) {
        while let Some(output) = self.session.poll() {
            // A transaction that comes too late is answered all the same.
            let is_late = self.is_closed && !matches!(output, Output::Results(_));
            assert!(!is_late, "{output:?} after the end");
            match output {
                Output::Close => self.is_closed = true,
                Output::Failed(_) => {}
                Output::NeedBody => self.send_content(),
                Output::Ready => self.begin(),
                Output::Results(result) => self.take(result),
                Output::Send(octets) => {
                    assert!(octets.ends_with(b"\r\n"), "{}", octets.escape_ascii());
                    self.sent.extend(octets);
                }
                Output::StartTls => {
                    let answer = match self.plan.below(2) {
                        0 => Input::TlsReady(tls()),
                        _ => Input::TlsFailed("no".to_owned()),
                    };
                    self.session.handle(self.now, answer);
                }
            }
        }
    }

    fn begin(&mut self) {
        if self.started >= TRANSACTIONS_MAX {
            self.session.handle(self.now, Input::Quit);
            return;
        }
        self.kind = self.plan.below(4);
        self.started += 1;
        self.session.handle(self.now, Input::Start(transaction(self.kind)));
    }

    fn send_content(&mut self) {
        let mut sent = std::mem::take(&mut self.sent);
        for piece in content(self.kind).chunks(5) {
            self.session.body(self.now, piece, &mut |slice| sent.extend_from_slice(slice));
        }
        self.sent = sent;
        self.session.handle(self.now, Input::BodyEnd);
    }

    fn take(&mut self, result: TransactionResult) {
        let kind = u8::try_from(result.id.bits()).unwrap_or(0);
        let wanted = transaction(kind).recipients.into_iter().map(|(number, _)| number);
        assert!(result.recipients.iter().map(|(number, _)| *number).eq(wanted), "{result:?}");
        for (_, result) in &result.recipients {
            if let RecipientResult::Delivered(reply) = result {
                assert!(reply.is_positive(), "{result:?}");
            }
        }
        self.results.push(result);
    }
}

/// So many messages are handed over; then the session is to end.
const TRANSACTIONS_MAX: usize = 4;
