//! Reports of TLS on their way: counted, kept over a restart, made after the day's end, and sent by
//! mail and by real HTTPS to whoever wants them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
#![allow(missing_docs)]

mod common;

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
    time::Duration,
};

use common::dns::Dns;
use merpati_mail::{Domain, Mailbox, Time};
use merpati_relay::{
    clock::Clock,
    resolve::{self, Resolver},
    tls_reports::{
        Failed, Options, Places, PolicyReport, Report, Reports, ResultType, Seen, SeenPolicy, open,
    },
};
use rustls::{ServerConfig, crypto::aws_lc_rs};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;

const HOUR: Duration = Duration::from_hours(1);

/// A name server, a host that takes reports, and a day that is to come.
struct World {
    clock: Arc<Clock>,
    /// The beginning of the day.
    day: Time,
    dns: Dns,
    folder: tempfile::TempDir,
    host: Host,
}

/// A host with a certificate that nobody trusts.
struct Host {
    address: SocketAddr,
    shared: Arc<Mutex<Posts>>,
    _server: JoinSet<()>,
}

#[derive(Default)]
struct Posts {
    /// What is answered, the last one again and again.
    answers: Vec<&'static str>,
    /// The heads of the requests, and their bodies.
    taken: Vec<(String, Vec<u8>)>,
}

impl Host {
    async fn start() -> Self {
        let made = rcgen::generate_simple_self_signed(["other.example".to_owned()]).unwrap();
        let key = rustls_pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der());
        let config = ServerConfig::builder_with_provider(aws_lc_rs::default_provider().into())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key.unwrap())
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::<Mutex<Posts>>::default();
        let (mut server, posts) = (JoinSet::new(), Arc::clone(&shared));
        server.spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                take(&acceptor, stream, &posts).await;
            }
        });
        Self { address, shared, _server: server }
    }

    fn answers(&self, answers: &[&'static str]) {
        self.shared.lock().unwrap().answers = answers.to_vec();
    }

    fn taken(&self) -> Vec<(String, Vec<u8>)> {
        self.shared.lock().unwrap().taken.clone()
    }
}

/// Takes one request.
async fn take(acceptor: &TlsAcceptor, stream: TcpStream, posts: &Mutex<Posts>) {
    let Ok(mut stream) = acceptor.accept(stream).await else { return };
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
    let mut body = vec![0; length.parse().unwrap()];
    stream.read_exact(&mut body).await.unwrap();
    let answer = {
        let mut posts = posts.lock().unwrap();
        posts.taken.push((head, body));
        if posts.answers.len() > 1 { posts.answers.remove(0) } else { posts.answers[0] }
    };
    let answer = format!("HTTP/1.1 {answer}\r\nlocation: /x\r\ncontent-length: 0\r\n\r\n");
    stream.write_all(answer.as_bytes()).await.ok();
    stream.shutdown().await.ok();
}

impl World {
    async fn new() -> Self {
        let clock = Arc::new(Clock::start(Time::EPOCH));
        // Far enough away that the clock of the machine brings nothing of it about.
        let day = Time::from_secs((clock.now().as_secs() / 86_400 + 10) * 86_400);
        let folder = tempfile::tempdir().unwrap();
        let host = Host::start().await;
        host.answers(&["201 Created"]);
        Self { clock, day, dns: Dns::start(Ipv4Addr::LOCALHOST), folder, host }
    }

    fn options() -> Options {
        Options {
            from: Some(Mailbox::parse("tls@ours.example").unwrap()),
            organization: "Ours".to_owned(),
            contact: "postmaster@ours.example".to_owned(),
            hostname: domain("mx.ours.example"),
            keep: Duration::from_hours(24 * 30),
            wait: Duration::from_secs(30),
        }
    }

    fn start(&self, allowed: &[&str]) -> Reports {
        let resolver = resolve::Options {
            allowed: allowed.iter().map(|network| network.parse().unwrap()).collect(),
            // Each look asks: what the test says now counts now.
            cache_entries: 0,
            query_wait: Duration::from_secs(2),
            servers: vec![self.dns.address],
            ..resolve::Options::default()
        };
        let resolver = Resolver::new(resolver, Arc::clone(&self.clock)).unwrap();
        let places = Places {
            directory: self.folder.path().join("tls-reports"),
            drop: self.folder.path().join("drop"),
        };
        Reports::new(places, Self::options(), resolver, Arc::clone(&self.clock)).unwrap()
    }

    fn reports(&self) -> Reports {
        self.start(&["127.0.0.0/8"])
    }

    /// A domain that wants its reports there; `PORT` is that of the host.
    fn wants(&self, domain: &str, rua: &str) {
        let rua = rua.replace("PORT", &self.host.address.port().to_string());
        let record = format!("0 TXT v=TLSRPTv1; rua={rua}");
        self.dns.set(&format!("_smtp._tls.{domain}"), &[record.as_str()]);
        self.dns.set("reports.example", &["A 127.0.0.1"]);
    }

    /// All reports of the day are due at this time.
    fn due(&self) -> Time {
        self.day + 28 * HOUR
    }

    /// The mails that were left to be collected.
    fn mails(&self) -> Vec<String> {
        let entries = fs::read_dir(self.folder.path().join("drop")).into_iter().flatten();
        let paths = entries.map(|entry| entry.unwrap().path());
        paths.map(|path| fs::read_to_string(path).unwrap()).collect()
    }

    fn waiting(&self) -> usize {
        fs::read_dir(self.folder.path().join("tls-reports/out")).unwrap().count()
    }
}

fn domain(name: &str) -> Domain {
    Domain::parse(name).unwrap()
}

fn seen(name: &str, result: Result<(), Failed>) -> Seen {
    let lines = vec!["version: STSv1".to_owned(), "mode: testing".to_owned()];
    let policy = SeenPolicy::Sts { lines, mx: vec!["*.a.example".to_owned()] };
    Seen { domain: domain(name), policy, result }
}

fn expired() -> Failed {
    Failed {
        kind: ResultType::CertificateExpired,
        sending_ip: Some("192.0.2.1".parse().unwrap()),
        mx: Some(domain("mx.a.example")),
        helo: None,
        receiving_ip: Some("2001:db8::1".parse().unwrap()),
        reason: Some("too old\r\nX: y".to_owned()),
    }
}

fn the_one(octets: &[u8]) -> Report {
    let mut reports = open(octets).unwrap();
    assert_eq!(reports.len(), 1);
    reports.remove(0)
}

#[tokio::test]
async fn what_was_counted_is_told_once_to_each_place_after_the_end_of_the_day() {
    let world = World::new().await;
    let reports = world.reports();
    world.wants("a.example", "mailto:r@a.example?subject=x,https://reports.example:PORT/v1?q=1");
    world.wants("b.example", "http://reports.example:PORT/");
    let tally = reports.tally();
    for _ in 0..5 {
        tally.note(world.day, seen("a.example", Ok(())));
    }
    for name in ["a.example", "b.example", "no-record.example"] {
        tally.note(world.day, seen(name, Err(expired())));
        tally.note(world.day, Seen { policy: SeenPolicy::NotFound, ..seen(name, Ok(())) });
    }
    reports.turn(world.day + 23 * HOUR).await;
    assert_eq!((world.mails().len(), world.host.taken().len()), (0, 0), "the day is not over");
    reports.turn(world.due()).await;
    reports.turn(world.due() + HOUR).await;
    let mails = world.mails();
    let [mail] = &mails[..] else { panic!("{mails:?}") };
    let (envelope, content) = mail.split_once("DATA\r\n").unwrap();
    assert_eq!(
        envelope,
        "EHLO mx.ours.example\r\nMAIL FROM:<tls@ours.example>\r\nRCPT TO:<r@a.example>\r\n"
    );
    let by_mail = the_one(content.as_bytes());
    let taken = world.host.taken();
    let [(head, body)] = &taken[..] else { panic!("{taken:?}") };
    assert!(head.starts_with("POST /v1?q=1 HTTP/1.1\r\n"), "{head}");
    assert!(head.contains("content-type: application/tlsrpt+gzip\r\n"), "{head}");
    let by_post = the_one(body);
    assert_eq!(by_mail, by_post, "the same report, by the same id");
    assert_eq!(by_mail.organization.as_deref(), Some("Ours"));
    let date = &world.day.rfc3339()[..10];
    assert_eq!(by_mail.begin, Some(format!("{date}T00:00:00Z")));
    assert_eq!(by_mail.end, Some(format!("{date}T23:59:59Z")));
    let counts = |one: &PolicyReport| (one.kind.clone(), one.successes, one.failures);
    let counts: Vec<_> = by_mail.policies.iter().map(counts).collect();
    assert_eq!(counts, [("sts".to_owned(), 5, 1), ("no-policy-found".to_owned(), 1, 0)]);
    let detail = &by_mail.policies[0].details[0];
    assert_eq!((detail.result.as_str(), detail.sessions), ("certificate-expired", 1));
    assert_eq!(detail.receiving_ip.as_deref(), Some("2001:db8::1"));
    assert_eq!(detail.reason.as_deref(), Some("too oldX: y"));
    assert_eq!(world.waiting(), 0);
    // What was told is kept for a while.
    let told = world.folder.path().join(format!("tls-reports/{date}.done.json"));
    assert!(told.exists());
    reports.turn(world.due() + 24 * 31 * HOUR).await;
    assert!(!told.exists());
}

#[tokio::test]
async fn a_restart_goes_on_with_what_was_counted() {
    let world = World::new().await;
    world.wants("a.example", "mailto:r@a.example");
    for _ in 0..3 {
        let reports = world.reports();
        reports.tally().note(world.day, seen("a.example", Ok(())));
        reports.tally().note(world.day, seen("a.example", Err(expired())));
        reports.turn(world.day + HOUR).await;
    }
    let reports = world.reports();
    reports.turn(world.due()).await;
    let mails = world.mails();
    assert_eq!(mails.len(), 1);
    let report = the_one(mails[0].split_once("DATA\r\n").unwrap().1.as_bytes());
    let policy = &report.policies[0];
    assert_eq!((policy.successes, policy.failures), (3, 3));
    assert_eq!((policy.details.len(), policy.details[0].sessions), (1, 3));
    // And nobody is told again by the next one.
    world.reports().turn(world.due() + HOUR).await;
    assert_eq!(world.mails().len(), 1);
}

#[tokio::test]
async fn what_is_not_taken_now_is_tried_again_for_a_day_and_not_longer() {
    let world = World::new().await;
    let reports = world.reports();
    world.wants("a.example", "https://reports.example:PORT/");
    world.dns.set("_smtp._tls.late.example", &["SERVFAIL"]);
    world.host.answers(&["503 Not now"]);
    for name in ["a.example", "late.example"] {
        reports.tally().note(world.day, seen(name, Ok(())));
    }
    reports.turn(world.due()).await;
    assert_eq!((world.host.taken().len(), world.waiting()), (1, 2));
    reports.turn(world.due() + Duration::from_mins(1)).await;
    assert_eq!(world.host.taken().len(), 1, "not at once");
    // Also over a restart.
    let reports = world.reports();
    reports.turn(world.due() + Duration::from_mins(6)).await;
    assert_eq!(world.host.taken().len(), 2);
    world.wants("late.example", "mailto:r@late.example");
    reports.turn(world.due() + HOUR).await;
    reports.turn(world.due() + HOUR).await;
    assert_eq!((world.mails().len(), world.host.taken().len()), (1, 3));
    for hours in 2..30 {
        reports.turn(world.due() + hours * HOUR).await;
    }
    let tries = world.host.taken().len();
    assert!((8..16).contains(&tries), "{tries}");
    assert_eq!(world.waiting(), 0, "it is given up");
}

#[tokio::test]
async fn nobody_has_us_post_where_strangers_must_not_lead_us_or_more_than_he_takes() {
    let world = World::new().await;
    let tight = world.start(&[]);
    world.wants("a.example", "https://reports.example:PORT/");
    world.wants("b.example", "https://127.0.0.1:PORT/");
    world.wants("c.example", "https://x@reports.example:PORT/,https://[::1]:PORT/");
    for name in ["a.example", "b.example", "c.example"] {
        tight.tally().note(world.day, seen(name, Ok(())));
    }
    for hours in 0..30 {
        tight.turn(world.due() + hours * HOUR).await;
    }
    assert_eq!((world.host.taken().len(), world.waiting()), (0, 0));
    for answer in ["413 Too much", "302 Elsewhere", "404 Nothing"] {
        let world = World::new().await;
        let reports = world.reports();
        world.wants("a.example", "https://reports.example:PORT/");
        world.host.answers(&[answer]);
        reports.tally().note(world.day, seen("a.example", Ok(())));
        for hours in 0..3 {
            reports.turn(world.due() + hours * HOUR).await;
        }
        assert_eq!((world.host.taken().len(), world.waiting()), (1, 0), "{answer}");
    }
}

#[tokio::test]
async fn what_is_off_counts_and_sends_nothing() {
    let world = World::new().await;
    let reports = world.reports();
    world.wants("a.example", "mailto:r@a.example");
    reports.tally().note(world.day, seen("a.example", Ok(())));
    reports.turn(world.day + HOUR).await;
    reports.configure(Options { from: None, ..World::options() });
    reports.tally().note(world.day, seen("a.example", Ok(())));
    reports.turn(world.due()).await;
    assert_eq!(world.mails().len(), 0);
    reports.configure(World::options());
    reports.turn(world.due()).await;
    let mails = world.mails();
    let report = the_one(mails[0].split_once("DATA\r\n").unwrap().1.as_bytes());
    assert_eq!(report.policies[0].successes, 1);
}
