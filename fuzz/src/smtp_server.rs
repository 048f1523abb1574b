//! Whether a server session stays in step with any client.
//!
//! Properties: replies are well-formed; what a session does depends on the octets and not on how
//! they were cut; nothing is committed but whole content without bare line ends. Pure.

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use merpati_mail::{
    Envelope, QueueId, Reply, Time, TlsFacts, Verdict,
    question::{CredentialAnswer, Lock, ScramKeys, Verifier},
};
use merpati_smtp::{
    server::{
        Auth, Channel, Discipline, Input, Limits, MailNeeds, Mechanism, Offer, Offers, Options,
        Output, Session, StartTls, Summary, Wants,
    },
    stuff::Stuffer,
};

use crate::plan::{Plan, draw_from, pieces};

/// A whole session; the first line of the octets is the plan.
pub fn server_session(octets: &[u8]) {
    let (mut plan, client) = Plan::split(octets);
    let options = Arc::new(options(&mut plan));
    let mut draw = draw_from(octets);

    let mut whole = Shell::new(Arc::clone(&options), plan.clone());
    whole.say(client);
    whole.leave();
    let mut cut = Shell::new(Arc::clone(&options), plan.clone());
    let longest = [1, 3, 40][usize::try_from(draw.below(3)).unwrap_or(0)];
    for piece in pieces(client, longest, &mut draw) {
        cut.say(&piece);
    }
    cut.leave();
    // Who does not wait is found out by what has arrived, and so are what STARTTLS forgets and the
    // end of content that was too long before.
    let is_drained = options.limits.drained_bytes_max > 1_000;
    if options.pipelining == Discipline::Tolerated && !whole.has_handshaken && is_drained {
        assert_eq!(whole.sent(), cut.sent(), "replies depend on the pieces");
        assert_eq!(whole.messages, cut.messages, "messages depend on the pieces");
        assert_eq!(whole.summary(), cut.summary(), "the summary depends on the pieces");
    }

    let mut strange = Shell::new(options, plan);
    for piece in pieces(client, 60, &mut draw) {
        strange.say(&piece);
        match draw.below(24) {
            0 => strange.give(Input::Committed(QueueId::from_bits(9))),
            1 => strange.give(Input::Credential(granted())),
            2 => strange.give(Input::TlsReady(channel())),
            3 => strange.give(Input::Verdict(Verdict::accept("stray"))),
            4 => strange.pass(Duration::from_secs(draw.below(400))),
            5 if draw.chance(20) => strange.give(Input::Shutdown),
            _ => {}
        }
    }
    strange.leave();
}

/// Content comes back from stuffing and a server session as it was; the pieces make no difference.
pub fn stuffing(octets: &[u8]) {
    let whole = stuffed(&[octets.to_vec()]);
    for longest in [1, 7] {
        let cut = stuffed(&pieces(octets, longest, &mut draw_from(octets)));
        assert_eq!(whole, cut, "what goes out depends on the pieces");
    }
    let mut content = octets.to_vec();
    let Some(wire) = whole else {
        let bare = octets.iter().enumerate().any(|(at, octet)| match octet {
            b'\r' => octets.get(at + 1) != Some(&b'\n'),
            b'\n' => at == 0 || octets[at - 1] != b'\r',
            octet => *octet == 0,
        });
        assert!(bare, "whole content is refused");
        return;
    };
    if !content.is_empty() && !content.ends_with(b"\r\n") {
        content.extend_from_slice(b"\r\n");
    }
    let mut shell = Shell::new(Arc::new(Options::new("mx", "mx.example")), Plan::split(b"").0);
    let start = b"EHLO a\r\nMAIL FROM:<>\r\nRCPT TO:<b@b.example>\r\nDATA\r\n";
    shell.say(&[&start[..], &wire, b"QUIT\r\n"].concat());
    assert!(shell.is_closed, "the end of the data was not seen");
    let bodies: Vec<_> = shell.messages.iter().map(|(_, body)| body).collect();
    assert_eq!(bodies, [&content], "the content has changed");
}

/// What goes out for this content; `None` where it must not.
fn stuffed(pieces: &[Vec<u8>]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let mut stuffer = Stuffer::new();
    for piece in pieces {
        stuffer.push(piece, &mut |slice| out.extend_from_slice(slice)).ok()?;
    }
    stuffer.end(&mut |slice| out.extend_from_slice(slice)).ok()?;
    Some(out)
}

fn options(plan: &mut Plan<'_>) -> Options {
    let mut options = Options::new("mx", "mx.example");
    options.starttls =
        [StartTls::Absent, StartTls::Offered, StartTls::Unavailable][usize::from(plan.below(3))];
    options.auth = [Auth::Off, Auth::Anywhere, Auth::OverTls][usize::from(plan.below(3))];
    options.mechanisms = Mechanism::ALL.to_vec();
    options.mail_needs =
        [MailNeeds::Nothing, MailNeeds::Auth, MailNeeds::Tls][usize::from(plan.below(3))];
    let discipline = [Discipline::Tolerated, Discipline::Enforced];
    options.pipelining = discipline[usize::from(plan.below(2))];
    options.early_talkers = discipline[usize::from(plan.below(2))];
    // With the limits: the corpus says no more of them.
    let limits = plan.below(3);
    options.offers = Offers {
        deliver_by_min: Some(Duration::from_secs(u64::from(limits))),
        future_release_max: Some(Duration::from_mins(1)),
        mt_priority: Offer::Offered,
        require_tls: Offer::Offered,
    };
    if limits > 0 {
        options.limits = Limits {
            command_octets_max: 60,
            auth_octets_max: 90,
            skipped_line_octets_max: 300,
            message_bytes_max: 40,
            drained_bytes_max: if limits == 1 { 1 << 20 } else { 200 },
            recipients_max: 3,
            transactions_max: 3,
            bad_commands_max: 6,
            auth_failures_max: 2,
        };
    }
    options
}

/// A shell without sockets.
struct Shell<'a> {
    session: Session,
    options: Arc<Options>,
    plan: Plan<'a>,
    now: Time,
    unread: Vec<u8>,
    sent: Vec<u8>,
    body: Vec<u8>,
    messages: Vec<(Envelope, Vec<u8>)>,
    is_closed: bool,
    has_handshaken: bool,
}

impl<'a> Shell<'a> {
    fn new(options: Arc<Options>, plan: Plan<'a>) -> Self {
        let now = Time::from_secs(1_000_000);
        let peer = ([192, 0, 2, 9], 40_000).into();
        let mut shell = Self {
            session: Session::new(now, Arc::clone(&options), peer, None),
            options,
            plan,
            now,
            unread: Vec::new(),
            sent: Vec::new(),
            body: Vec::new(),
            messages: Vec::new(),
            is_closed: false,
            has_handshaken: false,
        };
        shell.say(b"");
        shell
    }

    /// The client sends octets.
    fn say(&mut self, octets: &[u8]) {
        self.unread.extend_from_slice(octets);
        while !self.is_closed {
            let buffer = std::mem::take(&mut self.unread);
            let consumed = self.session.handle(self.now, Input::Octets(&buffer));
            let has_answered = self.carry_out(&buffer[..consumed]);
            self.unread = buffer;
            self.unread.drain(..consumed);
            if !has_answered && consumed == 0 {
                break;
            }
        }
        let is_waiting = self.is_closed || matches!(self.session.wants(), Wants::Nothing);
        assert!(
            is_waiting || self.unread.len() <= self.options.buffer_octets_min(),
            "the buffer of the shell would be full"
        );
    }

    fn give(&mut self, input: Input<'_>) {
        if !self.is_closed {
            assert_eq!(self.session.handle(self.now, input), 0);
            self.carry_out(&[]);
            self.say(b"");
        }
    }

    /// Time passes.
    fn pass(&mut self, time: Duration) {
        self.now = self.now + time;
        if self.session.deadline().is_some_and(|deadline| deadline <= self.now) {
            self.give(Input::Timeout);
            assert!(self.is_closed, "the session goes on behind its deadline");
        }
    }

    /// The client goes.
    fn leave(&mut self) {
        self.give(Input::Closed);
        assert!(self.is_closed, "the session goes on without its client");
        assert_eq!(self.session.wants(), Wants::Nothing);
        assert_eq!(self.session.deadline(), None);
        assert!(self.summary().end.is_some());
        let accepted = self.summary().accepted;
        assert_eq!(accepted, u64::try_from(self.messages.len()).unwrap_or(0));
        check_replies(&self.sent);
    }

    fn sent(&self) -> String {
        self.sent.escape_ascii().to_string()
    }

    fn summary(&self) -> &Summary {
        self.session.summary()
    }

    /// Does what the session wants; whether it was answered.
    fn carry_out(&mut self, buffer: &[u8]) -> bool {
        let mut has_answered = false;
        while let Some(output) = self.session.poll() {
            assert!(!self.is_closed, "{output:?} after the end");
            let answer = match output {
                Output::Ask(_) => Input::Verdict(self.verdict()),
                Output::Body(range) => {
                    self.body.extend_from_slice(&buffer[range]);
                    continue;
                }
                Output::BodyDropped => {
                    self.body.clear();
                    continue;
                }
                Output::BodyEnd(envelope) => self.take(*envelope),
                Output::Close => {
                    self.is_closed = true;
                    continue;
                }
                Output::Question(_) => Input::Credential(match self.plan.below(6) {
                    0 => granted(),
                    1 => CredentialAnswer::Denied { wait: Duration::ZERO },
                    2 => CredentialAnswer::Locked(Lock::Address),
                    3 => CredentialAnswer::Locked(Lock::User),
                    4 => verifier(),
                    _ => CredentialAnswer::Unavailable,
                }),
                Output::Send(octets) => {
                    assert!(octets.ends_with(b"\r\n"), "{}", octets.escape_ascii());
                    self.sent.extend(octets);
                    continue;
                }
                Output::StartTls => {
                    self.has_handshaken = true;
                    Input::TlsReady(channel())
                }
            };
            has_answered = true;
            self.session.handle(self.now, answer);
        }
        has_answered
    }

    /// A message is complete.
    fn take(&mut self, envelope: Envelope) -> Input<'static> {
        let body = std::mem::take(&mut self.body);
        let size = u64::try_from(body.len()).unwrap_or(u64::MAX);
        assert!(size <= self.options.limits.message_bytes_max, "{size} octets");
        assert!((1..=self.options.limits.recipients_max).contains(&envelope.recipients.len()));
        let bare = String::from_utf8_lossy(&body).replace("\r\n", "");
        assert!(!bare.contains(['\r', '\n', '\0']), "{}", body.escape_ascii());
        if self.plan.below(3) == 1 {
            let reply = Reply::new(451, (4, 3, 0), "not now");
            return Input::Verdict(Verdict::refuse("plan", reply));
        }
        self.messages.push((envelope, body));
        Input::Committed(QueueId::from_bits(7))
    }

    fn verdict(&mut self) -> Verdict {
        match self.plan.below(10) {
            1 => Verdict::refuse("plan", Reply::new(550, (5, 7, 1), "no\nnever")),
            2 => Verdict::refuse("plan", Reply::new(451, (4, 7, 1), "not now")),
            3 => Verdict::disconnect("plan", Reply::new(554, (5, 7, 1), "go away")),
            _ => Verdict::accept("plan"),
        }
    }
}

/// RFC 5321 §4.2: each line has a code, `-` or a blank, and text of at most 512 octets in all; a
/// reply has one code.
pub(crate) fn check_replies(sent: &[u8]) {
    let text = String::from_utf8(sent.to_vec()).expect("replies are text");
    let mut open: Option<String> = None;
    for line in text.split_inclusive("\r\n") {
        let inside = line.strip_suffix("\r\n").expect("a line ends with CRLF");
        let (code, rest) = inside.split_at(3);
        assert!(code.bytes().all(|octet| octet.is_ascii_digit()), "{line:?}");
        assert!(rest.starts_with([' ', '-']), "{line:?}");
        assert!(line.len() <= 512 && !inside.contains(char::is_control), "{line:?}");
        assert!(open.is_none_or(|open| open == code), "{line:?}");
        open = rest.starts_with('-').then(|| code.to_owned());
    }
    assert!(open.is_none(), "the last reply is not complete");
}

fn granted() -> CredentialAnswer {
    CredentialAnswer::Granted { credential: "ani".to_owned() }
}

/// Keys for which no proof is known.
fn verifier() -> CredentialAnswer {
    let keys = ScramKeys {
        iterations: NonZeroU32::MIN,
        salt: vec![7],
        stored_key: [7; ScramKeys::KEY_OCTETS],
        server_key: [7; ScramKeys::KEY_OCTETS],
    };
    let nonce = [7; Verifier::NONCE_OCTETS];
    CredentialAnswer::Verifier(Box::new(Verifier { credential: None, keys, nonce }))
}

fn channel() -> Channel {
    let names = Some(vec!["ani@a.example".to_owned()]);
    Channel { facts: tls(), binding: Some([7; Channel::BINDING_OCTETS]), names }
}

pub(crate) fn tls() -> TlsFacts {
    TlsFacts { version: "TLSv1.3".to_owned(), cipher: "TLS_AES_128_GCM_SHA256".to_owned() }
}
