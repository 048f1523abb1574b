//! Next hops that misbehave at each stage: what becomes of each recipient, and nothing is lost.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
#![allow(missing_docs)]

mod common;

use std::time::Instant;

use common::{
    PATIENCE, Relay, Smtp, data_dir,
    peer::{Act, Peer, Script, Step, Taken},
    queued_as, stuffed,
};
use serde_json::Value;

/// A way to misbehave, and what is to come of it.
struct Way {
    name: &'static str,
    script: Script,
    /// Of the route besides its next hop.
    settings: &'static [&'static str],
    /// Parameters of MAIL and the content; empty for those of most.
    mail: (&'static str, &'static str),
    /// Lines of the usual content.
    lines: usize,
    /// Whether there is a second host, which does as it should.
    has_second: bool,
    /// For each recipient what each attempt at it came to: `delivered`, `failed` and the status
    /// that the sender is told, or the class of what is for now, which as the last one means that
    /// it waits.
    want: &'static [&'static str],
}

fn way(name: &'static str, acts: &[(Step, usize, Act)], want: &'static [&'static str]) -> Way {
    let script = Script { acts: acts.to_vec(), ..Script::default() };
    Way { name, script, settings: &[], mail: ("", ""), lines: 200, has_second: false, want }
}

/// With one act, at the first time.
fn at(name: &'static str, step: Step, act: Act, want: &'static [&'static str]) -> Way {
    way(name, &[(step, 0, act)], want)
}

impl Way {
    fn with(self, settings: &'static [&'static str]) -> Self {
        Self { settings, ..self }
    }

    fn keywords(mut self, keywords: &'static [&'static str]) -> Self {
        self.script.keywords = keywords;
        self
    }

    fn always(mut self) -> Self {
        self.script.bad_connections = usize::MAX;
        self
    }

    fn forgetful(mut self) -> Self {
        self.script.is_forgetful = true;
        self
    }

    fn lmtp(mut self) -> Self {
        self.script.is_lmtp = true;
        self
    }

    fn mail(self, parameters: &'static str, content: &'static str) -> Self {
        Self { mail: (parameters, content), ..self }
    }

    fn second(self) -> Self {
        Self { has_second: true, ..self }
    }

    /// With so much content that no buffer takes all of it.
    fn large(self) -> Self {
        Self { lines: 1_000_000, ..self }
    }
}

const LATER: &[&str] = &["connection, delivered"];
const BROKEN: &[&str] = &["protocol, delivered"];
const SILENT: &[&str] = &["timed-out, delivered"];
const BUSY: &[&str] = &["busy, delivered"];
const TROUBLE: &[&str] = &["remote-trouble, delivered"];
const ONCE: &[&str] = &["delivered"];

/// Before a transaction.
fn greetings() -> Vec<Way> {
    use Act::{Cut, Drip, Flood, Say, Silence, Slowly};
    use Step::{Banner, Ehlo, Helo};
    vec![
        at("no banner", Banner, Silence, SILENT),
        at("a banner that drips", Banner, Drip(b"2"), SILENT),
        at("a banner line without end", Banner, Flood(b"220-welcome"), BROKEN),
        at("banner lines without end", Banner, Flood(b"220-welcome\r\n"), BROKEN),
        at("554 banner", Banner, Cut(b"554 5.7.1 no\r\n"), &["failed 5.7.1"]).always(),
        at("521 banner", Banner, Cut(b"521 no mail here\r\n"), &["failed 5.0.0"]).always(),
        at("421 banner", Banner, Cut(b"421 4.3.2 going down\r\n"), BUSY),
        at("the end in place of a banner", Banner, Cut(b""), LATER),
        at("a banner without ESMTP", Banner, Say(b"220 hello\r\n"), ONCE),
        at("a banner octet by octet", Banner, Slowly(b"220-a\r\n220 b\r\n"), ONCE),
        at("EHLO 500", Ehlo, Say(b"500 5.5.1 what?\r\n"), ONCE),
        at("EHLO 502", Ehlo, Say(b"502 5.5.1 not here\r\n"), ONCE),
        at("EHLO 550", Ehlo, Say(b"550 no\r\n"), ONCE),
        way(
            "EHLO and HELO 550",
            &[(Ehlo, 0, Say(b"550 no\r\n")), (Helo, 0, Say(b"550 5.7.1 not you\r\n"))],
            &["failed 5.7.1"],
        )
        .always(),
        at("EHLO 421", Ehlo, Cut(b"421 4.3.2 busy\r\n"), BUSY),
        at("the end after EHLO", Ehlo, Cut(b""), LATER),
        at("silence after EHLO", Ehlo, Silence, SILENT),
        at("odd keywords", Ehlo, Say(ODD_KEYWORDS), ONCE),
        at("keywords without end", Ehlo, Flood(b"250-X-WORD\r\n"), BROKEN),
    ]
}

const ODD_KEYWORDS: &[u8] = b"250-peer\r\n250-pipelining\r\n250-size\r\n250-SIZE x\r\n\
    250-AUTH=LOGIN\r\n250-\0\xff\r\n250-\r\n250 8bitMIME\r\n";

/// TLS and AUTH.
fn protections() -> Vec<Way> {
    use Act::{Cut, Say, Silence};
    use Step::{Auth, StartTls};
    const TLS: &[&str] = &["PIPELINING", "STARTTLS"];
    const LOGIN: &[&str] = &["PIPELINING", "AUTH PLAIN"];
    const CLEAR_LOGIN: &[&str] = &["user=u", "password=p", "tls=never", "auth_clear=true"];
    const REQUIRED: &[&str] = &["tls=required", "tls_verify=false"];
    let answered = |name, act| at(name, StartTls, act, ONCE).keywords(TLS).always();
    let refused = |name, act| at(name, Auth, act, &["authentication, delivered"]);
    vec![
        answered("STARTTLS 454", Say(b"454 4.7.0 not now\r\n")),
        answered("STARTTLS 502", Say(b"502 5.5.1 no\r\n")),
        answered("STARTTLS, then no TLS", Say(b"220 go\r\nnonsense\r\n")),
        answered("STARTTLS, then the end", Cut(b"220 go\r\n")),
        answered("STARTTLS, then silence", Silence),
        way("TLS required, not offered", &[], &["tls"]).with(REQUIRED),
        at("TLS required, 454", StartTls, Say(b"454 no\r\n"), &["tls"])
            .keywords(TLS)
            .with(REQUIRED)
            .always(),
        at("TLS required, no TLS", StartTls, Cut(b"220 go\r\n"), &["tls"])
            .keywords(TLS)
            .with(REQUIRED)
            .always(),
        refused("AUTH 535", Say(b"535 5.7.8 wrong\r\n")).keywords(LOGIN).with(CLEAR_LOGIN),
        refused("AUTH 454", Say(b"454 4.7.0 not now\r\n")).keywords(LOGIN).with(CLEAR_LOGIN),
        refused("AUTH 334 garbage", Say(b"334 \xff\xfe=\r\n")).keywords(LOGIN).with(CLEAR_LOGIN),
        way("no AUTH", &[], &["authentication"]).with(CLEAR_LOGIN),
        way("AUTH in the clear only", &[], &["tls"]).keywords(LOGIN).with(&[
            "user=u",
            "password=p",
            "tls_verify=false",
        ]),
    ]
}

/// Refusals in a transaction.
fn refusals() -> Vec<Way> {
    use Act::{Cut, Say};
    use Step::{Data, End, Mail, Rcpt};
    const DOWN: Act = Cut(b"421 4.3.2 going down\r\n");
    vec![
        at("421 to MAIL", Mail, DOWN, BUSY),
        at("421 to RCPT", Rcpt, DOWN, BUSY),
        at("421 to DATA", Data, DOWN, BUSY),
        at("421 to the end of data", End, DOWN, BUSY),
        at("450 to MAIL", Mail, Say(b"450 4.3.0 later\r\n"), TROUBLE),
        way(
            "450 to one RCPT",
            &[(Rcpt, 1, Say(b"450 4.2.0 later\r\n"))],
            &["delivered", "unknown-transient, delivered", "delivered"],
        ),
        at("451 to DATA", Data, Say(b"451 4.3.0 later\r\n"), TROUBLE),
        at("451 to the end", End, Say(b"451 4.3.0 later\r\n"), TROUBLE),
        at("greylisting", Rcpt, Say(b"450 4.7.1 Greylisted\r\n"), &["greylisted, delivered"]),
        at("550 to MAIL", Mail, Say(b"550 5.1.8 no\r\n"), &["failed 5.1.8"]),
        way(
            "550 to one RCPT",
            &[(Rcpt, 0, Say(b"550 5.1.1 nobody\r\n"))],
            &["failed 5.1.1", "delivered"],
        ),
        way(
            "several lines, several codes",
            &[(Rcpt, 0, Say(b"250-5.1.1 nearly\r\n550 5.1.1 nobody\r\n"))],
            &["failed 5.1.1", "delivered"],
        ),
        at("554 to DATA", Data, Say(b"554 5.5.1 no\r\n"), &["failed 5.5.1"]),
        at("554 to the end", End, Say(b"554 5.7.1 spam\r\n"), &["failed 5.7.1"]),
        way(
            "452 to the second RCPT: too many",
            &[(Rcpt, 1, Say(b"452 4.5.3 too many recipients\r\n"))],
            &["delivered", "delivered"],
        ),
        way(
            "552 to the second RCPT: too many, in the old way",
            &[(Rcpt, 1, Say(b"552 too many recipients\r\n"))],
            &["delivered", "delivered"],
        ),
        way(
            "354 although all were refused",
            &[(Rcpt, 0, Say(b"550 5.1.1 nobody\r\n")), (Data, 0, Say(b"354 go on\r\n"))],
            &["failed 5.1.1"],
        ),
        way("too large", &[], &["failed 5.3.4"]).keywords(&["SIZE 1000"]),
        at("552 to the only RCPT", Rcpt, Say(b"552 no\r\n"), &["too-many-recipients, delivered"]),
        at("552 to RCPT: too large", Rcpt, Say(b"552 5.3.4 big\r\n"), &["failed 5.3.4"]),
        at("571 to RCPT", Rcpt, Say(b"571 no\r\n"), &["failed 5.0.0"]),
        way("no PIPELINING", &[], &["delivered", "delivered"]).keywords(&["8BITMIME"]),
        way("no PIPELINING, although offered", &[], &["timed-out, delivered"]).forgetful(),
        at("30 lines", Mail, Say(THIRTY_LINES), ONCE),
    ]
}

const THIRTY_LINES: &[u8] =
    b"250-a\r\n250-a\r\n250-a\r\n250-a\r\n250-a\r\n250-a\r\n250-a\r\n250-a\r\n\
    250-a\r\n250-a\r\n250-a\r\n250-a\r\n250-a\r\n250-a\r\n250-a\r\n250-a\r\n250-a\r\n250-a\r\n\
    250-a\r\n250-a\r\n250-a\r\n250-a\r\n250-a\r\n250-a\r\n250-a\r\n250-a\r\n250-a\r\n250-a\r\n\
    250-a\r\n250 a\r\n";

/// Cuts, silence and what is no reply, in a transaction.
fn breaks() -> Vec<Way> {
    use Act::{Cut, Deaf, Reset, Say, Silence, Slowly};
    use Step::{Content, Data, End, Mail, Quit, Rcpt};
    const TWICE: &[&str] = &["ambiguous-end-of-data, delivered"];
    vec![
        at("the end after MAIL", Mail, Cut(b""), LATER),
        at("the end after RCPT", Rcpt, Cut(b""), LATER),
        at("the end after DATA", Data, Cut(b""), LATER),
        at("the end in the content", Content, Cut(b""), LATER).large(),
        at("a refusal in the content", Content, Cut(b"452 4.3.1 full\r\n"), TROUBLE).large(),
        at("too large, in the content", Content, Cut(b"552 5.3.4 big\r\n"), &["failed 5.3.4"])
            .large()
            .always(),
        at("taken in the content", Content, Cut(b"250 2.0.0 taken\r\n"), BROKEN).large(),
        at("a reset in the content", Content, Reset, LATER).large(),
        at("no reading of the content", Content, Deaf, SILENT).large(),
        at("silence after MAIL", Mail, Silence, SILENT),
        at("silence after RCPT", Rcpt, Silence, SILENT),
        at("silence after DATA", Data, Silence, SILENT),
        // RFC 1047: who has it is unknown.
        at("the reply is lost", End, Cut(b""), TWICE),
        at("no reply comes", End, Silence, TWICE),
        at("half a reply, then the end", End, Cut(b"25"), TWICE),
        at("taken, then the end", End, Cut(b"250 2.0.0 taken\r\n"), ONCE),
        at("the end in place of 221", Quit, Cut(b""), ONCE),
        at("half a reply to MAIL", Mail, Cut(b"25"), LATER),
        at("octet by octet", Mail, Slowly(b"250-2.1.0 a\r\n250 2.1.0 b\r\n"), ONCE),
        at("lines that end in LF", Mail, Say(b"250-2.1.0 a\n250 2.1.0 b\n"), ONCE),
        at("code 000", Mail, Say(b"000 ok\r\n"), BROKEN),
        at("code 99", Mail, Say(b"99 ok\r\n"), BROKEN),
        at("code 199", Mail, Say(b"199 ok\r\n"), BROKEN),
        at("code 600", Mail, Say(b"600 ok\r\n"), BROKEN),
        at("code 2500", Mail, Say(b"2500 ok\r\n"), BROKEN),
        at("code 250x", Mail, Say(b"250x ok\r\n"), BROKEN),
        at("text only", Mail, Say(b"well done\r\n"), BROKEN),
        at("354 to MAIL", Mail, Say(b"354 go on\r\n"), BROKEN),
        at("250 to DATA", Data, Say(b"250 ok\r\n"), BROKEN),
        at("a reply too many", Mail, Say(b"250 ok\r\n250 ok\r\n250 ok\r\n"), BROKEN),
        at("taken before it was sent", Data, Say(b"354 go on\r\n250 taken\r\n"), BROKEN),
        at("a line without end", Mail, Act::Flood(b"250 xxxxxxxxxxxxxxxxxxxxxxxx"), BROKEN),
    ]
}

/// What a message needs, and LMTP.
fn others() -> Vec<Way> {
    use Act::{Cut, Say};
    use Step::End;
    const PLAIN: &[&str] = &["PIPELINING"];
    vec![
        way("8-bit content for a peer of 7", &[], ONCE)
            .keywords(PLAIN)
            .mail("BODY=8BITMIME", "Content-Type: text/plain; charset=utf-8\r\n\r\n\u{e9}\r\n"),
        way("signed 8-bit content for a peer of 7", &[], &["failed 5.6.3"])
            .keywords(PLAIN)
            .mail("BODY=8BITMIME", SIGNED),
        way("8-bit content with DKIM for a peer of 7", &[], ONCE)
            .keywords(PLAIN)
            .mail("BODY=8BITMIME", DOMAIN_SIGNED),
        way("SMTPUTF8 for a peer of 8 bits", &[], &["failed 5.6.7"])
            .mail("SMTPUTF8 BODY=8BITMIME", "Subject: \u{e9}\r\n\r\nhi\r\n"),
        way("SMTPUTF8 for a peer of 7", &[], &["failed 5.6.7"])
            .keywords(PLAIN)
            .mail("SMTPUTF8 BODY=8BITMIME", "Subject: \u{e9}\r\n\r\nhi\r\n"),
        way(
            "LMTP: a reply for each",
            &[(End, 1, Say(b"450 4.2.2 later\r\n")), (End, 2, Say(b"550 5.1.1 nobody\r\n"))],
            &["delivered", "mailbox-full, delivered", "failed 5.1.1", "delivered"],
        )
        .lmtp(),
        way(
            "LMTP: the end after the first reply",
            &[(End, 1, Cut(b""))],
            &["delivered", "ambiguous-end-of-data, delivered"],
        )
        .lmtp(),
    ]
}

/// Which troubles are those of a host, so that the next one is tried in the same attempt.
fn hosts() -> Vec<Way> {
    use Act::{Cut, Reset, Say};
    use Step::{Banner, Content, Data, Ehlo, End, Mail, Rcpt};
    let next = |name, step, act| at(name, step, act, ONCE).second();
    vec![
        next("554 banner", Banner, Cut(b"554 no\r\n")),
        next("521 banner", Banner, Cut(b"521 no mail here\r\n")),
        next("421 banner", Banner, Cut(b"421 busy\r\n")),
        next("the end in place of a banner", Banner, Cut(b"")),
        next("silence in place of a banner", Banner, Act::Silence),
        next("421 to EHLO", Ehlo, Cut(b"421 busy\r\n")),
        next("the end after EHLO", Ehlo, Cut(b"")),
        next("421 to MAIL", Mail, Cut(b"421 going down\r\n")),
        next("trouble of its own at MAIL", Mail, Say(b"452 4.3.1 full\r\n")),
        next("trouble of its own at RCPT", Rcpt, Say(b"451 local error\r\n")),
        next("the end after RCPT", Rcpt, Cut(b"")),
        next("the end after DATA", Data, Cut(b"")),
        next("a reset in the content", Content, Reset).large(),
        way("too large for the first", &[], ONCE).keywords(&["SIZE 1000"]).second(),
        way("SMTPUTF8 for the second", &[], &["failed 5.6.7"])
            .mail("SMTPUTF8 BODY=8BITMIME", "Subject: \u{e9}\r\n\r\nhi\r\n")
            .second(),
        // What is about the recipient or the message is so everywhere.
        at("550 to RCPT", Rcpt, Say(b"550 5.1.1 nobody\r\n"), &["failed 5.1.1"]).second(),
        at("450 to MAIL", Mail, Say(b"450 no\r\n"), &["unknown-transient, delivered"]).second(),
        at("450 to RCPT", Rcpt, Say(b"450 4.7.1 Greylisted\r\n"), &["greylisted, delivered"])
            .second(),
        at("451 to the end", End, Say(b"451 4.3.0 later\r\n"), TROUBLE).second(),
        // The first one may have it.
        at("the reply is lost", End, Cut(b""), &["ambiguous-end-of-data, delivered"]).second(),
    ]
}

const DOMAIN_SIGNED: &str = "DKIM-Signature: v=1; a=x\r\nMIME-Version: 1.0\r\n\
    Content-Type: text/plain; charset=utf-8\r\n\r\n\u{e9}\r\n";

const SIGNED: &str = "Content-Type: multipart/signed; boundary=b; protocol=\"a/x\"\r\n\r\n\
    --b\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n\u{e9}\r\n\
    --b\r\nContent-Type: a/x\r\n\r\nx\r\n--b--\r\n";

/// One relay with a route for each way, and where reports go.
struct Trial {
    relay: Relay,
    ways: Vec<(Way, Vec<Peer>)>,
    senders: Peer,
    _dir: tempfile::TempDir,
}

impl Trial {
    fn start(ways: Vec<Way>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let senders = Peer::start(Script::default());
        let mut settings = vec![
            "listener.mx.kind=relay".to_owned(),
            "listener.mx.listen=127.0.0.1:0".to_owned(),
            "relay.networks=127.0.0.0/8".to_owned(),
            "retry.first_wait=1 s".to_owned(),
            "route.senders.recipient_domains=sender.example".to_owned(),
            format!("route.senders.to=smtp://{}", senders.address()),
        ];
        for wait in ["greeting", "command", "data", "data_block", "data_end"] {
            settings.push(format!("delivery.{wait}_wait=2 s"));
        }
        let ways: Vec<(Way, Vec<Peer>)> = ways
            .into_iter()
            .map(|way| {
                let second = way.has_second.then(|| Peer::start(Script::default()));
                let peers = [Peer::start(way.script.clone())].into_iter().chain(second).collect();
                (way, peers)
            })
            .collect();
        for (n, (way, peers)) in ways.iter().enumerate() {
            let scheme = if way.script.is_lmtp { "lmtp" } else { "smtp" };
            settings.push(format!("route.w{n}.recipient_domains=w{n}.example"));
            let hosts = peers.iter().map(|peer| format!("{scheme}://{}", peer.address()));
            settings.push(format!("route.w{n}.to={}", hosts.collect::<Vec<_>>().join(", ")));
            settings.extend(way.settings.iter().map(|setting| format!("route.w{n}.{setting}")));
        }
        let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
        let relay = Relay::start(&data_dir(&dir), &settings);
        Self { relay, ways, senders, _dir: dir }
    }

    /// Hands over a message for way `n`; gives its id.
    fn submit(&self, n: usize) -> String {
        let way = &self.ways[n].0;
        let mut smtp = Smtp::connect(self.relay.address("mx"));
        smtp.say("EHLO client.example", "250");
        let (parameters, content) = way.mail;
        smtp.say(&format!("MAIL FROM:<w{n}@sender.example> {parameters}"), "250");
        for r in 0..way.want.len() {
            smtp.say(&format!("RCPT TO:<r{r}@w{n}.example>"), "250");
        }
        smtp.say("DATA", "354");
        let usual = format!("Subject: {n}\r\n\r\n{}", "0123456789abcdef\r\n".repeat(way.lines));
        let content = if content.is_empty() { usual.as_str() } else { content };
        smtp.send(&stuffed(content.as_bytes()));
        queued_as(&smtp.reply()).unwrap()
    }

    /// What each attempt came to, for each recipient, once that is as much as is wanted.
    fn outcomes(&self, n: usize, id: &str) -> Vec<String> {
        let way = &self.ways[n].0;
        let is_mine = |line: &Value| line["event"] == "Attempted" && line["id"] == id;
        let count = |want: &&str| want.split(", ").count();
        let attempts = way.want.iter().map(count).max().unwrap();
        let lines = self.relay.wait_for_all(attempts, is_mine);
        let mut outcomes = vec![Vec::new(); way.want.len()];
        for outcome in lines.iter().flat_map(|line| line["outcomes"].as_array().unwrap()) {
            let recipient = usize::try_from(outcome["recipient"].as_u64().unwrap()).unwrap();
            let said = match outcome["outcome"].as_str().unwrap() {
                "Delivered" => "delivered".to_owned(),
                "Failed" => format!("failed {}", status(outcome["reply"].as_str().unwrap())),
                _ => outcome["class"].as_str().unwrap().to_owned(),
            };
            outcomes[recipient].push(said);
        }
        outcomes.into_iter().map(|all| all.join(", ")).collect()
    }
}

/// The status of a failure as its report gives it: its enhanced code, or one for its class.
fn status(reply: &str) -> String {
    let second = reply.split([' ', '-']).nth(1).unwrap_or_default();
    let is_enhanced = second.split('.').count() == 3;
    if is_enhanced { second.to_owned() } else { "5.0.0".to_owned() }
}

/// How often a message for this recipient arrived.
fn copies(taken: &[Taken], recipient: &str) -> usize {
    taken.iter().filter(|taken| taken.to.iter().any(|to| to == recipient)).count()
}

fn check(ways: Vec<Way>) {
    let trial = Trial::start(ways);
    let ids: Vec<String> = (0..trial.ways.len()).map(|n| trial.submit(n)).collect();
    let mut wrong = Vec::new();
    for (n, id) in ids.iter().enumerate() {
        let way = &trial.ways[n].0;
        let outcomes = trial.outcomes(n, id);
        if outcomes != way.want {
            wrong.push(format!("{}: {outcomes:?} in place of {:?}", way.name, way.want));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    for (n, id) in ids.iter().enumerate() {
        trial.account(n, id);
    }
}

impl Trial {
    /// Each recipient was delivered so often as is right, or reported, or waits with its reason.
    fn account(&self, n: usize, id: &str) {
        let (way, peers) = &self.ways[n];
        let peer = &peers[0];
        let taken: Vec<Taken> = peers.iter().flat_map(Peer::taken).collect();
        let waits = way.want.iter().any(|want| !ends(want));
        if !waits {
            self.relay.wait_for(|line| line["event"] == "Retired" && line["id"] == id).unwrap();
        }
        for (r, want) in way.want.iter().enumerate() {
            let recipient = format!("r{r}@w{n}.example");
            let copies = copies(&taken, &recipient);
            let last = want.rsplit(", ").next().unwrap();
            if last == "delivered" {
                // A second one only where nobody can know of the first (RFC 1047).
                let unknown = want.matches("ambiguous").count();
                assert_eq!(copies, 1 + unknown, "{}", way.name);
            } else if let Some(status) = last.strip_prefix("failed ") {
                assert_eq!(copies, 0, "{}", way.name);
                self.report(n, &recipient, status);
            } else {
                assert_eq!(copies, 0, "{}", way.name);
                let queue = self.relay.get_json("/v1/queue?limit=100");
                let mut waiting = queue["data"].as_array().unwrap().iter();
                let waiting = waiting.find(|one| one["id"] == format!("{id}.{r}")).unwrap();
                assert_eq!(waiting["reason"]["id"], last, "{}: {waiting}", way.name);
                assert!(waiting["next_at"].is_string(), "{}: {waiting}", way.name);
                // Neither the mail nor a password went in the clear.
                let said = peer.commands();
                let is_open = |line: &String| line.starts_with("MAIL") || line.starts_with("AUTH");
                assert!(!said.iter().any(is_open), "{}: {said:?}", way.name);
            }
        }
        if way.name == "no PIPELINING" {
            assert!(!peer.is_pipelined());
        }
        if way.name.contains("DKIM") {
            let content = String::from_utf8_lossy(&taken[0].content).into_owned();
            assert!(content.ends_with(DOMAIN_SIGNED), "{content}");
        }
        assert!(peer.connections() <= 4, "{}: {} connections", way.name, peer.connections());
    }

    /// Waits for the report on this recipient.
    fn report(&self, n: usize, recipient: &str, status: &str) {
        let sender = format!("w{n}@sender.example");
        let name = self.ways[n].0.name;
        let until = Instant::now() + PATIENCE;
        loop {
            let taken = self.senders.taken();
            let mine = taken.iter().filter(|taken| taken.to.contains(&sender));
            let reports: Vec<String> =
                mine.map(|t| String::from_utf8_lossy(&t.content).into_owned()).collect();
            if let Some(report) = reports.iter().find(|report| report.contains(recipient)) {
                assert!(report.contains(&format!("Status: {status}")), "{name}: {report}");
                assert_eq!(reports.len(), 1, "{name}");
                assert!(taken.iter().all(|taken| taken.from.is_empty()), "{name}");
                return;
            }
            assert!(Instant::now() < until, "{name}: no report to {sender}");
            std::thread::yield_now();
        }
    }
}

/// Whether nothing is left to do.
fn ends(want: &str) -> bool {
    want.ends_with("delivered") || want.contains("failed")
}

#[test]
fn a_peer_that_misbehaves_before_a_transaction_loses_nothing() {
    check(greetings());
}

#[test]
fn a_peer_that_misbehaves_in_tls_or_auth_loses_nothing_and_sees_nothing_in_the_clear() {
    check(protections());
}

#[test]
fn a_refusal_concerns_whom_it_is_about_and_lasts_as_long_as_it_says() {
    check(refusals());
}

#[test]
fn a_peer_that_breaks_off_or_talks_nonsense_loses_nothing() {
    check(breaks());
}

#[test]
fn the_next_host_is_tried_at_once_where_the_trouble_is_that_of_the_host() {
    check(hosts());
}

#[test]
fn a_connection_that_the_host_ends_is_replaced_at_once() {
    use Act::Cut;
    const TAKEN: Act = Cut(b"250 2.0.0 taken\r\n");
    const BYE: Act = Cut(b"421 4.4.2 idle for too long\r\n");
    for (step, nth, act) in [
        (Step::End, 2, TAKEN),
        (Step::Mail, 2, BYE),
        (Step::Mail, 3, Cut(b"")),
        (Step::Rcpt, 2, BYE),
        (Step::Data, 3, Cut(b"")),
    ] {
        let trial = Trial::start(vec![way("", &[(step, nth, act)], ONCE)]);
        for _ in 0..6 {
            let id = trial.submit(0);
            trial.relay.wait_for(|line| line["event"] == "Retired" && line["id"] == id).unwrap();
            assert_eq!(trial.outcomes(0, &id), ["delivered"], "{step:?}");
        }
        let peer = &trial.ways[0].1[0];
        assert_eq!((peer.taken().len(), peer.connections()), (6, 2), "{step:?}");
    }
}

#[test]
fn what_a_peer_lacks_and_replies_of_lmtp_decide_for_each_recipient() {
    check(others());
}
