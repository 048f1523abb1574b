//! Policies of MTA-STS, with real HTTPS and a name server that says what the test wants.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
#![allow(missing_docs)]

mod common;

use std::{
    collections::HashMap,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use common::dns::Dns;
use merpati_auth::sts::Mode;
use merpati_mail::{Domain, Time};
use merpati_relay::{
    clock::Clock,
    resolve::{self, Resolver},
    sts::{Options, Policies, RecordSeen, Standing, TroubleKind},
};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, KeyUsagePurpose,
    date_time_ymd,
};
use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;

const POLICY: &str = "version: STSv1\r\nmode: enforce\r\nmx: mx.example\r\nmax_age: 86400\r\n";

/// A host of policies, a name server, and a clock that goes where the test wants.
struct World {
    clock: Arc<Clock>,
    dns: Dns,
    folder: tempfile::TempDir,
    hosts: Hosts,
}

type Answers = Arc<Mutex<HashMap<String, (String, usize)>>>;

/// What the host answers under each name, and how often it was asked for it.
#[derive(Clone)]
struct Hosts {
    address: SocketAddr,
    answers: Answers,
    /// It ends with this.
    _server: Arc<JoinSet<()>>,
}

impl World {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let hosts = Hosts::start(folder.path()).await;
        let clock = Arc::new(Clock::start(Time::EPOCH));
        Self { clock, dns: Dns::start(Ipv4Addr::LOCALHOST), folder, hosts }
    }

    /// Policies as after a start; `allowed` networks may be led to.
    fn start(&self, allowed: &[&str], fetch_wait: Duration) -> Policies {
        let resolver = resolve::Options {
            allowed: allowed.iter().map(|network| network.parse().unwrap()).collect(),
            // Each look asks: what the test says now counts now.
            cache_entries: 0,
            query_wait: Duration::from_secs(2),
            servers: vec![self.dns.address],
            ..resolve::Options::default()
        };
        let resolver = Resolver::new(resolver, Arc::clone(&self.clock)).unwrap();
        let options = Options {
            port: self.hosts.address.port(),
            roots: Some(self.folder.path().join("ca")),
            fetch_wait,
            ..Options::new(self.folder.path().join("mta-sts"))
        };
        Policies::new(options, resolver, Arc::clone(&self.clock)).unwrap()
    }

    fn policies(&self) -> Policies {
        self.start(&["127.0.0.0/8"], Duration::from_secs(30))
    }

    /// A domain with these texts at `_mta-sts`, whose host gives this answer.
    fn set(&self, domain: &str, texts: &[&str], answer: &str) {
        self.record(domain, texts);
        self.dns.set(&format!("mta-sts.{domain}"), &["A 127.0.0.1"]);
        self.hosts.set(domain, answer);
    }

    fn record(&self, domain: &str, texts: &[&str]) {
        let lines: Vec<_> = texts.iter().map(|text| format!("0 TXT {text}")).collect();
        self.dns.set(&format!("_mta-sts.{domain}"), &lines);
    }

    fn pass(&self, time: Duration) {
        self.clock.pass(self.clock.now() + time);
    }
}

impl Hosts {
    /// Starts it; the file `ca` says whom to believe.
    async fn start(folder: &Path) -> Self {
        let mut ca = CertificateParams::default();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        ca.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let ca = CertifiedIssuer::self_signed(ca, KeyPair::generate().unwrap()).unwrap();
        std::fs::write(folder.join("ca"), ca.pem()).unwrap();
        let certificates = Arc::new(Certificates(ca));
        let config = ServerConfig::builder_with_provider(aws_lc_rs::default_provider().into())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(certificates);
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let answers = Answers::default();
        let (mut server, shared) = (JoinSet::new(), Arc::clone(&answers));
        server.spawn(async move {
            let mut serving = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                serving.spawn(serve(acceptor.clone(), stream, Arc::clone(&shared)));
            }
        });
        Self { address, answers, _server: Arc::new(server) }
    }

    fn set(&self, domain: &str, answer: &str) {
        let mut answers = self.answers.lock().unwrap();
        let own = answers.entry(format!("mta-sts.{domain}")).or_default();
        answer.clone_into(&mut own.0);
    }

    fn asked(&self, domain: &str) -> usize {
        let answers = self.answers.lock().unwrap();
        answers.get(&format!("mta-sts.{domain}")).map_or(0, |answer| answer.1)
    }
}

/// Answers one request; for ever where there is nothing to answer.
async fn serve(acceptor: TlsAcceptor, stream: TcpStream, answers: Answers) {
    let Ok(mut stream) = acceptor.accept(stream).await else { return };
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        request.push(stream.read_u8().await.unwrap());
    }
    let request = String::from_utf8(request).unwrap();
    assert!(request.starts_with("GET /.well-known/mta-sts.txt HTTP/1.1\r\n"), "{request}");
    let host = request.lines().find_map(|line| line.strip_prefix("host: "));
    let host = host.unwrap().split(':').next().unwrap().to_owned();
    let answer = {
        let mut answers = answers.lock().unwrap();
        let answer = answers.entry(host).or_default();
        answer.1 += 1;
        answer.0.clone()
    };
    if answer.is_empty() {
        std::future::pending::<()>().await;
    }
    stream.write_all(answer.as_bytes()).await.ok();
    stream.shutdown().await.ok();
}

/// A certificate for whatever name is asked for; not for that of `wrong-name`, and not a good one
/// for `expired` and `stranger`.
struct Certificates(CertifiedIssuer<'static, KeyPair>);

impl std::fmt::Debug for Certificates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Certificates")
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let asked = hello.server_name().unwrap();
        let name = if asked.contains("wrong-name") { "www.example" } else { asked };
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        if asked.contains("expired") {
            params.not_after = date_time_ymd(2_020, 1, 1);
        }
        let key = KeyPair::generate().unwrap();
        let certificate = if asked.contains("stranger") {
            params.self_signed(&key).unwrap()
        } else {
            params.signed_by(&key, &self.0).unwrap()
        };
        let key = rustls_pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let key = aws_lc_rs::default_provider().key_provider.load_private_key(key).unwrap();
        Some(Arc::new(CertifiedKey::new(vec![certificate.der().clone()], key)))
    }
}

fn domain(name: &str) -> Domain {
    Domain::parse(name).unwrap()
}

fn http(status: &str, kind: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\n{kind}content-length: {length}\r\n\r\n{body}")
}

/// An answer with this policy.
fn good(policy: &str) -> String {
    http("200 OK", "Content-Type: text/plain\r\n", policy)
}

fn id(standing: &Standing) -> Option<&str> {
    standing.kept().map(|kept| kept.id.as_str())
}

fn trouble(standing: &Standing) -> Option<TroubleKind> {
    match standing {
        Standing::Kept(_) => None,
        Standing::None { why_no_policy } => why_no_policy.as_ref().map(|trouble| trouble.kind),
    }
}

#[tokio::test]
async fn only_a_well_formed_policy_that_its_host_gives_by_itself_counts() {
    use TroubleKind::{Fetch, Invalid, WebPki};
    let world = World::new().await;
    let policies = world.policies();
    let text = |kind: &str| http("200 OK", kind, POLICY);
    let moved = http("301 Moved", "Location: https://mta-sts.good.example/x\r\n", POLICY);
    let pieces =
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n";
    let (first, second) = POLICY.split_at(20);
    let chunked = format!("{pieces}14\r\n{first}\r\n{:x}\r\n{second}\r\n0\r\n\r\n", second.len());
    let long = good(&format!("{POLICY}x: {}\r\n", "x".repeat(65_536)));
    let kind = "Content-Type: text/plain\r\n";
    for (name, answer, want) in [
        ("good", good(POLICY), Ok(Mode::Enforce)),
        ("lf", good(&POLICY.replace("\r\n", "\n")), Ok(Mode::Enforce)),
        ("testing", good(&POLICY.replace("enforce", "testing")), Ok(Mode::Testing)),
        ("charset", text("content-type: Text/Plain; charset=utf-8\r\n"), Ok(Mode::Enforce)),
        ("chunked", chunked, Ok(Mode::Enforce)),
        ("for-a-year", good(&POLICY.replace("86400", "31557600")), Ok(Mode::Enforce)),
        ("for-no-time", good(&POLICY.replace("86400", "0")), Ok(Mode::Enforce)),
        ("none", good("version: STSv1\nmode: none\nmax_age: 60\n"), Err(None)),
        ("for-too-long", good(&POLICY.replace("86400", "31557601")), Err(Some(Invalid))),
        ("no-age", good(&POLICY.replace("max_age", "age")), Err(Some(Invalid))),
        ("other-version", good(&POLICY.replace("STSv1", "STSv2")), Err(Some(Invalid))),
        ("too-long", long, Err(Some(Invalid))),
        ("html", text("Content-Type: text/html\r\n"), Err(Some(Fetch))),
        ("no-type", text(""), Err(Some(Fetch))),
        ("moved", moved, Err(Some(Fetch))),
        ("broken", http("500 Oh", kind, POLICY), Err(Some(Fetch))),
        ("not-there", http("404 No", kind, POLICY), Err(Some(Fetch))),
        ("too-often", http("429 Slow down", kind, POLICY), Err(Some(Fetch))),
        ("created", http("201 Created", kind, POLICY), Err(Some(Fetch))),
        ("cut", good(POLICY)[..120].to_owned(), Err(Some(Fetch))),
        ("garbage", "220 mx.example ESMTP\r\n".to_owned(), Err(Some(Fetch))),
        ("wrong-name", good(POLICY), Err(Some(WebPki))),
        ("expired", good(POLICY), Err(Some(WebPki))),
        ("stranger", good(POLICY), Err(Some(WebPki))),
    ] {
        let name = format!("{name}.example");
        world.set(&name, &["v=STSv1; id=1;"], &answer);
        let standing = policies.of(&domain(&name)).await;
        let got = match standing.kept() {
            Some(kept) => Ok(kept.policy.mode),
            None => Err(trouble(&standing)),
        };
        assert_eq!(got, want, "{name}: {standing:?}");
    }
}

#[tokio::test]
async fn a_domain_without_a_record_is_not_asked_for_a_policy() {
    let world = World::new().await;
    let policies = world.policies();
    for (name, texts) in [
        ("two.example", &["v=STSv1; id=1;", "v=STSv1; id=1;"][..]),
        ("bad-id.example", &["v=STSv1; id=1-1;"]),
        ("other.example", &["v=spf1 -all"]),
        ("nothing.example", &[]),
        ("unknown.example", &["SERVFAIL"]),
    ] {
        world.set(name, texts, &good(POLICY));
        if texts == ["SERVFAIL"] {
            world.dns.set("_mta-sts.unknown.example", &["SERVFAIL"]);
        }
        let standing = policies.of(&domain(name)).await;
        assert_eq!(standing, Standing::None { why_no_policy: None }, "{name}");
        assert_eq!(world.hosts.asked(name), 0, "{name}");
    }
    let literal = policies.of(&domain("[127.0.0.1]")).await;
    assert_eq!(literal, Standing::None { why_no_policy: None });
}

#[tokio::test]
async fn a_kept_policy_outlives_its_record_and_its_host_until_it_expires() {
    let world = World::new().await;
    let policies = world.policies();
    let name = domain("a.example");
    world.set("a.example", &["v=STSv1; id=1;"], &good(POLICY));
    assert_eq!(id(&policies.of(&name).await), Some("1"));
    let minutes = Duration::from_mins;
    // The record is gone, and what becomes of it: NXDOMAIN comes last, as it is kept in the cache.
    for lines in [&["SERVFAIL"][..], &["0 TXT other"], &["0 TXT v=STSv1; id=!"], &[]] {
        world.pass(minutes(2));
        world.dns.set("_mta-sts.a.example", lines);
        let standing = policies.of(&name).await;
        assert_eq!(id(&standing), Some("1"), "{lines:?}");
        assert!(standing.kept().unwrap().trouble.is_some(), "{lines:?}");
    }
    assert_eq!(world.hosts.asked("a.example"), 1);
    // The file of a running relay is what the next one begins with; there the names are dead.
    let again = world.policies();
    let standing = again.of(&name).await;
    assert_eq!((id(&standing), standing.kept().unwrap().policy.mode), (Some("1"), Mode::Enforce));
    world.pass(Duration::from_hours(24));
    for policies in [policies, again, world.policies()] {
        assert_eq!(policies.of(&name).await, Standing::None { why_no_policy: None });
    }
}

#[tokio::test]
async fn a_new_id_brings_the_new_policy_and_no_failure_takes_the_old_one_away() {
    let world = World::new().await;
    let policies = world.policies();
    let name = domain("a.example");
    world.set("a.example", &["v=STSv1; id=1;"], &good(POLICY));
    assert_eq!(id(&policies.of(&name).await), Some("1"));
    // The same id: nothing is fetched, whatever the host would say.
    world.hosts.set("a.example", &http("500 Oh", "", ""));
    world.pass(Duration::from_mins(2));
    assert_eq!(id(&policies.of(&name).await), Some("1"));
    assert_eq!(world.hosts.asked("a.example"), 1);
    world.record("a.example", &["v=STSv1; id=2;"]);
    world.pass(Duration::from_mins(2));
    let standing = policies.of(&name).await;
    assert_eq!(id(&standing), Some("1"), "the new one could not be fetched");
    assert!(standing.kept().unwrap().trouble.as_ref().unwrap().contains("500"));
    // Not asked again at once, but after five minutes.
    world.hosts.set("a.example", &good(&POLICY.replace("enforce", "testing")));
    assert_eq!(id(&policies.of(&name).await), Some("1"));
    assert_eq!(world.hosts.asked("a.example"), 2);
    world.pass(Duration::from_mins(6));
    let standing = policies.of(&name).await;
    let kept = standing.kept().unwrap();
    assert_eq!((kept.id.as_str(), kept.policy.mode), ("2", Mode::Testing));
    assert_eq!(kept.trouble, None);
    // A policy is taken back.
    world.set("a.example", &["v=STSv1; id=3;"], &good("version: STSv1\nmode: none\nmax_age: 600"));
    world.pass(Duration::from_mins(2));
    assert_eq!(policies.of(&name).await, Standing::None { why_no_policy: None });
    world.pass(Duration::from_mins(2));
    assert_eq!(policies.of(&name).await, Standing::None { why_no_policy: None });
    assert_eq!(world.hosts.asked("a.example"), 4, "that there is none is kept as well");
    let explanation = policies.explain(&name).await;
    assert_eq!(explanation.record, RecordSeen::Id("3".to_owned()));
    assert_eq!(explanation.kept.unwrap().policy.mode, Mode::None);
}

#[tokio::test]
async fn a_policy_that_cannot_be_fetched_is_not_asked_for_with_each_mail() {
    let world = World::new().await;
    let policies = world.policies();
    let name = domain("a.example");
    world.set("a.example", &["v=STSv1; id=1;"], &http("500 Oh", "", ""));
    for _ in 0..3 {
        assert_eq!(trouble(&policies.of(&name).await), Some(TroubleKind::Fetch));
    }
    assert_eq!(world.hosts.asked("a.example"), 1);
    world.hosts.set("a.example", &good(POLICY));
    world.pass(Duration::from_mins(5));
    assert_eq!(id(&policies.of(&name).await), Some("1"));
}

#[tokio::test]
async fn mail_for_one_domain_waits_for_one_fetch() {
    let world = World::new().await;
    let policies = world.policies();
    world.set("a.example", &["v=STSv1; id=1;"], &good(POLICY));
    let mut waiting = JoinSet::new();
    for _ in 0..20 {
        let policies = policies.clone();
        waiting.spawn(async move { policies.of(&domain("a.example")).await });
    }
    for standing in waiting.join_all().await {
        assert_eq!(id(&standing), Some("1"));
    }
    assert_eq!(world.hosts.asked("a.example"), 1);
}

#[tokio::test]
async fn a_host_that_fails_makes_for_one_more_fetch_a_minute_although_the_id_is_the_same() {
    let world = World::new().await;
    let policies = world.policies();
    let name = domain("a.example");
    world.set("a.example", &["v=STSv1; id=1;"], &good(POLICY));
    assert!(policies.of(&name).await.kept().is_some());
    world.pass(Duration::from_mins(2));
    world.hosts.set("a.example", &good(&POLICY.replace("mx.example", "mx2.example")));
    for _ in 0..3 {
        let standing = policies.renew(&name).await;
        let policy = &standing.kept().unwrap().policy;
        assert!(policy.allows(&domain("mx2.example")) && !policy.allows(&domain("mx.example")));
    }
    assert_eq!(world.hosts.asked("a.example"), 2);
    // Also where the record is hidden; what is kept stays where that fails.
    world.dns.set("_mta-sts.a.example", &["SERVFAIL"]);
    world.hosts.set("a.example", &http("500 Oh", "", ""));
    world.pass(Duration::from_mins(2));
    assert_eq!(id(&policies.renew(&name).await), Some("1"));
    assert_eq!(world.hosts.asked("a.example"), 3);
    // Where there is no policy, there is none to fetch.
    world.set("b.example", &["other"], &good(POLICY));
    assert_eq!(policies.renew(&domain("b.example")).await.kept(), None);
    assert_eq!(world.hosts.asked("b.example"), 0);
}

#[tokio::test]
async fn a_policy_is_fetched_again_before_it_expires_and_mail_does_not_wait_for_that() {
    let world = World::new().await;
    let policies = world.policies();
    let name = domain("a.example");
    world.set("a.example", &["v=STSv1; id=1;"], &good(POLICY));
    let first = policies.of(&name).await.kept().unwrap().expires_at;
    policies.keep_fresh().await;
    assert_eq!(world.hosts.asked("a.example"), 1);
    world.pass(Duration::from_hours(13));
    policies.keep_fresh().await;
    assert_eq!(world.hosts.asked("a.example"), 2);
    let standing = policies.of(&name).await;
    assert!(standing.kept().unwrap().expires_at > first);
    assert_eq!(world.hosts.asked("a.example"), 2);
    // After it has expired, its file is gone.
    world.hosts.set("a.example", &http("500 Oh", "", ""));
    let files = || std::fs::read_dir(world.folder.path().join("mta-sts")).unwrap().count();
    assert_eq!(files(), 1);
    world.pass(Duration::from_hours(25));
    policies.keep_fresh().await;
    assert_eq!(files(), 0);
}

#[tokio::test]
async fn nobody_leads_us_into_a_private_network() {
    let world = World::new().await;
    let policies = world.start(&[], Duration::from_secs(30));
    world.set("a.example", &["v=STSv1; id=1;"], &good(POLICY));
    world.set("b.example", &["v=STSv1; id=1;"], &good(POLICY));
    world.dns.set("mta-sts.b.example", &["CNAME metadata.example"]);
    world.dns.set("metadata.example", &["A 169.254.169.254", "AAAA ::ffff:127.0.0.1"]);
    for name in ["a.example", "b.example"] {
        let standing = policies.of(&domain(name)).await;
        let Standing::None { why_no_policy: Some(trouble) } = standing else {
            panic!("{standing:?}");
        };
        assert!(trouble.why.contains("strangers must not lead us"), "{trouble}");
        assert_eq!(world.hosts.asked(name), 0);
    }
}

#[tokio::test]
async fn a_host_that_is_silent_costs_a_bounded_wait_and_another_address_is_tried() {
    let world = World::new().await;
    let policies = world.start(&["127.0.0.0/8"], Duration::from_secs(1));
    world.set("silent.example", &["v=STSv1; id=1;"], "");
    let standing = policies.of(&domain("silent.example")).await;
    assert_eq!(trouble(&standing), Some(TroubleKind::Fetch));
    assert_eq!(world.hosts.asked("silent.example"), 1);
    let policies = world.policies();
    world.set("dead.example", &["v=STSv1; id=1;"], &good(POLICY));
    world.dns.set("mta-sts.dead.example", &["A 127.9.9.9", "A 127.0.0.1"]);
    assert_eq!(id(&policies.of(&domain("dead.example")).await), Some("1"));
}
