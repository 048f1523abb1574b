//! What the whole relay does when the machine fails it: each failure state of the design shows the
//! behaviour that it promises, and nothing that was acknowledged is lost.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
#![allow(missing_docs)]

mod common;

use std::{
    collections::BTreeMap,
    fs,
    io::{Read, Seek, SeekFrom, Write},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    thread::JoinHandle,
    time::Duration,
};

use common::{
    Relay, Smtp, data_dir,
    internet::{Internet, client, merpati, send, until},
    queued_as,
};
use merpati_flow::{
    admit::{ListenerKind, Policy, Strangers},
    lockout::Rules,
};
use merpati_mail::{
    BodyType, Draw, Envelope, Event, ForwardPath, Mailbox, NodeId, Origin, Overlay, Protocol,
    QueueId, Recipient, Requests, ReversePath, Time, envelope::Utf8, event::Accepted,
};
use merpati_relay::{
    auth::{Authenticator, SECRET_OCTETS},
    clock::Clock,
    committer::{Committer, Told},
    domains::Signers,
    fresh::Fresh,
    health::{Health, Life},
    listen::{self, Gate, Limits, Lists, Plan, Shared, Sink, Tls},
    pressure::Resource,
    sinks::{LogWriter, Sinks, Target},
    store::{Quota, Store},
    world::World,
};
use merpati_smtp::server::Options as SessionOptions;
use merpati_spool::{Body, Disk, Group, Options, Spool, StoredBody, fault::FaultyFiles, io::Io};
use rustix::process::{Pid, Resource as Limited, Rlimit, prlimit};
use serde_json::Value;
use tempfile::TempDir;

// --- a relay in this process, over files that fail ---

/// Everything from the socket to the journal, without mail that leaves.
struct Bench {
    address: SocketAddr,
    runtime: tokio::runtime::Runtime,
    health: Arc<Health>,
    committer: Committer,
    thread: JoinHandle<()>,
    sinks: Sinks,
}

/// As nobody can anybody authenticate.
fn nobody() -> Authenticator {
    Authenticator::new(&[0; SECRET_OCTETS], &[], &[], Rules::default()).unwrap()
}

/// Contents by the names with which they were acknowledged.
type Acknowledged = BTreeMap<String, Vec<u8>>;

impl Bench {
    fn start(files: &FaultyFiles) -> Self {
        let (disk, last_at) = open(files);
        let health = Arc::new(Health::default());
        let clock = Arc::new(Clock::start(last_at));
        let writer = LogWriter::open(&Target::Off).unwrap();
        let sinks = Sinks::start(Arc::default(), writer).unwrap();
        let told = Told {
            clock: Arc::clone(&clock),
            health: Arc::clone(&health),
            store: Arc::new(Store::new(Quota::default())),
            sinks: sinks.clone(),
            inbox: Arc::default(),
        };
        let spool = disk.handle();
        let (committer, thread) = Committer::start(Box::new(disk), told).unwrap();
        let shared = Arc::new(Shared {
            hostname: "mx.ours.example".parse().unwrap(),
            clock,
            committer: committer.clone(),
            spool,
            fresh: Arc::new(Fresh::new(1 << 20)),
            authenticator: Arc::new(nobody()),
            health: Arc::clone(&health),
            world: World::default(),
            repairs: Arc::new(tokio::sync::Semaphore::new(listen::REPAIRS_MAX)),
            sessions: Arc::default(),
            signers: Signers::default(),
            sinks: sinks.clone(),
        });
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let teller = committer.clone();
        runtime.spawn(async move { teller.tell().await });
        let inside = runtime.enter();
        let socket = listen::bind("127.0.0.1:0".parse().unwrap(), listen::Families::Both).unwrap();
        let address = socket.local_addr().unwrap();
        let slot = Arc::new(listen::Slot::new(Arc::new(plan()), shared));
        runtime.spawn(listen::accept(socket, slot));
        health.ready();
        drop(inside);
        Self { address, runtime, health, committer, thread, sinks }
    }

    fn smtp(&self) -> Smtp<TcpStream> {
        let mut smtp = Smtp::connect(self.address);
        smtp.say("EHLO client.example", "250");
        smtp
    }

    /// Ends the process, as far as there is one.
    fn end(self) {
        self.health.drain();
        self.committer.end();
        self.thread.join().unwrap();
        self.sinks.end();
        self.runtime.shutdown_timeout(Duration::from_secs(5));
    }
}

fn plan() -> Plan {
    let options = Arc::new(SessionOptions::new("sandbox", "mx.ours.example".to_owned()));
    let limits = Limits {
        connections_max: 100,
        connections_per_address_max: 100,
        connections_per_network_max: None,
        connections_per_minute_max: None,
        messages_per_minute_max: None,
        recipients_per_minute_max: None,
    };
    Plan {
        options_without_tls: Arc::clone(&options),
        options,
        certificates: None,
        policy: Arc::new(Policy {
            kind: ListenerKind::Sandbox,
            local_domains: std::collections::BTreeSet::new(),
            networks: Vec::new(),
            senders: BTreeMap::new(),
            size_bytes_max: 1 << 20,
            vouched_domains: [].into(),
            hops_max: 100,
            strangers: Strangers::default(),
            contents: merpati_flow::content::Rules::default(),
            aliases: None,
            internal_domains: [].into(),
            confined: [].into(),
        }),
        sink: Sink::Capture,
        tls: Tls::Never,
        gate: Gate::new(limits),
        write_wait: common::PATIENCE,
        handshake_wait: common::PATIENCE,
        lists: Lists::default(),
    }
}

fn open(files: &FaultyFiles) -> (Disk, Time) {
    let mut options = Options::new(PathBuf::from("/spool"), NodeId::default());
    options.segment_bytes = 64 << 10;
    options.free_bytes_min = 1 << 20;
    options.in_background = false;
    let io: Arc<dyn Io> = Arc::new(files.clone());
    let (disk, recovery) = Disk::open_in(&io, &options, &mut drop).unwrap();
    (disk, recovery.last_at)
}

/// Every acknowledged message is in the journal, octet for octet.
#[track_caller]
fn check_all_there(files: &FaultyFiles, acknowledged: &Acknowledged) {
    let (disk, _) = open(files);
    for (id, content) in acknowledged {
        let stored = disk.handle().read(id.parse::<QueueId>().unwrap()).unwrap();
        let StoredBody::Bytes(octets) = stored.body else { panic!("{id} is in a file") };
        assert_eq!(&octets[..], &content[..], "{id}");
    }
}

fn content(number: usize) -> Vec<u8> {
    format!("Subject: message {number}\r\n\r\n{}\r\n", "x".repeat(number % 900)).into_bytes()
}

/// A disk that fails in this way loses nothing that was acknowledged, and says so.
fn check_failure(fail: fn(&FaultyFiles)) {
    for power_is_lost in [false, true] {
        let files = FaultyFiles::default();
        let bench = Bench::start(&files);
        let mut acknowledged = Acknowledged::new();
        let mut clients: Vec<_> = (0..8).map(|_| bench.smtp()).collect();
        for number in 0..100 {
            let content = content(number);
            acknowledged.insert(clients[number % 8].deliver(&content), content);
        }
        let mut idle = bench.smtp();
        for client in &mut clients {
            client.say("MAIL FROM:<a@a.example>", "250");
            client.say("RCPT TO:<b@b.example>", "250");
            client.say("DATA", "354");
        }
        fail(&files);
        for client in &mut clients {
            client.send(b"Subject: too late\r\n\r\n.\r\n");
        }
        for client in &mut clients {
            let reply = client.reply();
            assert!(reply.starts_with("451 4.3.0"), "{reply}");
            assert!(client.reply().starts_with("421"), "then the session is over");
        }
        assert!(idle.reply().starts_with("421"), "a session that waits is told");
        assert!(matches!(bench.health.life(), Life::Failed(_)), "{:?}", bench.health.life());
        // The socket may still be there, but nobody is let in.
        if let Ok(greeting) = TcpStream::connect(bench.address).and_then(|stream| {
            stream.set_read_timeout(Some(common::PATIENCE))?;
            Smtp::over(stream).try_reply()
        }) {
            assert!(greeting.is_empty() || greeting.starts_with("421"), "{greeting}");
        }
        bench.end();
        let after = if power_is_lost { files.crash(&mut Draw::new(4)) } else { files.kill() };
        check_all_there(&after, &acknowledged);
        // The next process takes mail again.
        let bench = Bench::start(&after);
        bench.smtp().deliver(&content(1));
        bench.end();
    }
}

#[test]
fn after_a_failed_sync_nothing_is_acknowledged_and_a_restart_finds_what_was() {
    check_failure(FaultyFiles::fail_next_sync);
}

#[test]
fn after_a_failed_write_nothing_is_acknowledged_and_a_restart_finds_what_was() {
    check_failure(FaultyFiles::fail_next_write);
}

/// Hands messages over until one is refused; gives its reply.
fn fill(smtp: &mut Smtp<TcpStream>, content: &[u8], acknowledged: &mut Acknowledged) -> String {
    for _ in 0..10_000 {
        smtp.send(b"MAIL FROM:<a@a.example>\r\n");
        let reply = smtp.reply();
        if !reply.starts_with("250") {
            return reply;
        }
        smtp.say("RCPT TO:<b@b.example>", "250");
        smtp.say("DATA", "354");
        smtp.send(&common::stuffed(content));
        let reply = smtp.reply();
        let Some(id) = queued_as(&reply) else { return reply };
        acknowledged.insert(id, content.to_vec());
    }
    panic!("it never fills up");
}

#[test]
fn a_disk_that_others_filled_is_refused_with_452_and_used_again_once_there_is_room() {
    let files = FaultyFiles::default();
    let bench = Bench::start(&files);
    let mut acknowledged = Acknowledged::new();
    let mut smtp = bench.smtp();
    acknowledged.insert(smtp.deliver(&content(1)), content(1));
    files.set_free_bytes(1 << 10);
    let large = [&b"Subject: large\r\n\r\n"[..], &b"0123456789abcd\r\n".repeat(1_000)].concat();
    let reply = fill(&mut smtp, &large, &mut acknowledged);
    assert!(reply.starts_with("452 4.3.1"), "{reply}");
    until("the shortage", || (bench.health.shortage() == Some(Resource::Disk)).then_some(()));
    smtp.say("MAIL FROM:<a@a.example>", "452 4.3.1");
    assert_eq!(bench.health.life(), Life::Ready, "it lives");
    files.set_free_bytes(u64::MAX);
    until("room", || bench.health.shortage().is_none().then_some(()));
    acknowledged.insert(smtp.deliver(&large), large);
    bench.end();
    check_all_there(&files.kill(), &acknowledged);
}

// --- the real process ---

/// A relay whose route leads to host 2 of this internet.
fn relay_to_host(net: &Internet, dir: &TempDir, more: &[&str]) -> Relay {
    let all = ["route.host.to=smtp://$2:PORT", "retry.first_wait=1 s", "retry.longest_wait=1 s"];
    let all = all.map(|setting| setting.replace("PORT", &net.port.to_string()));
    let all: Vec<&str> = all.iter().map(String::as_str).chain(more.iter().copied()).collect();
    net.relay(dir, &all)
}

/// The line with which a resource came to this level, behind `before` earlier ones.
fn came_to(relay: &Relay, resource: &str, level: &str) -> Value {
    let fits = |line: &Value| {
        line["event"] == "LoadChanged" && line["resource"] == *resource && line["to"] == *level
    };
    relay.wait_for(fits).unwrap()
}

fn metric(relay: &Relay, name: &str) -> u64 {
    let text = String::from_utf8(relay.get("/metrics").1).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.unwrap_or_else(|| panic!("no {name}: {text}")).trim().parse().unwrap()
}

#[track_caller]
fn not_ready(relay: &Relay, why: &str) {
    let (status, body) = relay.get("/readyz");
    let body = String::from_utf8(body).unwrap();
    assert!(status == 503 && body.contains(why), "{status}: {body}");
}

fn ready(relay: &Relay) {
    until("readiness", || (relay.get("/readyz").0 == 200).then_some(()));
}

#[test]
fn a_journal_that_cannot_grow_any_more_ends_the_process_with_74_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let settings = ["spool.segment_size=1 MiB"];
    let relay = Relay::start(&data_dir(&dir), &settings);
    let mut acknowledged = Acknowledged::new();
    let mut smtp = relay.smtp();
    smtp.say("EHLO client.example", "250");
    acknowledged.insert(smtp.deliver(&content(1)), content(1));
    // What is open goes on to work; new files cannot be made.
    let (journal, away) = (dir.path().join("data/spool/journal"), dir.path().join("away"));
    fs::rename(&journal, &away).unwrap();
    let large = [&b"Subject: large\r\n\r\n"[..], &b"0123456789abcd\r\n".repeat(12_000)].concat();
    let reply = fill(&mut smtp, &large, &mut acknowledged);
    assert!(reply.starts_with("451 4.3.0") || reply.starts_with("452 4.3.1"), "{reply}");
    if reply.starts_with("451") {
        let failed = relay.wait_for(|line| line["event"] == "SpoolFailed").unwrap();
        assert!(!failed["reason"].as_str().unwrap().is_empty());
        assert!(smtp.reply().starts_with("421"));
        assert_eq!(relay.wait().code(), Some(74));
    } else {
        not_ready(&relay, "spool is full");
        relay.stop();
    }
    fs::rename(&away, &journal).unwrap();
    let relay = Relay::start(&data_dir(&dir), &settings);
    for (id, content) in &acknowledged {
        assert_eq!(relay.raw(id).as_ref(), Some(content), "{id}");
    }
}

#[test]
fn a_full_spool_refuses_new_mail_drains_its_queue_and_takes_mail_again() {
    let (net, dir) = (Internet::new(), tempfile::tempdir().unwrap());
    let full = ["spool.segment_size=1 MiB", "spool.journal_max=6 MiB"];
    let relay = relay_to_host(&net, &dir, &full);
    let large = [&b"Subject: large\r\n\r\n"[..], &b"0123456789abcd\r\n".repeat(12_000)].concat();
    let mut acknowledged = Acknowledged::new();
    let mut smtp = client(&relay);
    let reply = fill(&mut smtp, &large, &mut acknowledged);
    assert!(reply.starts_with("452 4.3.1"), "{reply}");
    came_to(&relay, "disk", "refuse");
    not_ready(&relay, "spool is full");
    assert_eq!(metric(&relay, "merpati_load_level{resource=\"disk\"}"), 2);
    smtp.say("MAIL FROM:<a@a.example>", "452 4.3.1");
    // Attempts and their outcomes go on all the while.
    let host = net.host(2);
    host.wait_for(acknowledged.len());
    ready(&relay);
    came_to(&relay, "disk", "normal");
    assert!(queued_as(&smtp.data("a@a.example", "b@b.example", &large)).is_some());
    assert_eq!(host.wait_for(acknowledged.len() + 1).len(), acknowledged.len() + 1);
}

#[test]
fn a_long_queue_refuses_what_would_join_it_and_nothing_else() {
    let (net, dir) = (Internet::new(), tempfile::tempdir().unwrap());
    let relay = relay_to_host(&net, &dir, &["limits.queue_max=10"]);
    let mut smtp = client(&relay);
    for _ in 0..10 {
        send(&mut smtp, "a@a.example", &["b@b.example"]);
    }
    let changed = came_to(&relay, "queue", "refuse");
    assert_eq!((&changed["used"], &changed["max"]), (&10.into(), &10.into()), "{changed}");
    let reply = smtp.say("MAIL FROM:<a@a.example>", "452 4.3.2");
    assert!(reply.contains("too many deliveries wait"), "{reply}");
    not_ready(&relay, "queue is full");
    assert_eq!(metric(&relay, "merpati_load_level{resource=\"queue\"}"), 2);
    assert_eq!(metric(&relay, "merpati_queue_limit"), 10);
    let mut sandbox = relay.smtp();
    sandbox.say("EHLO client.example", "250");
    sandbox.deliver(b"Subject: captured\r\n\r\n");
    let host = net.host(2);
    host.wait_for(10);
    came_to(&relay, "queue", "normal");
    ready(&relay);
    send(&mut smtp, "a@a.example", &["b@b.example"]);
    host.wait_for(11);
    smtp.say("QUIT", "221");
    // Counted at the end of the session, which is after the reply.
    relay.wait_for(|line| line["event"] == "SessionEnded").unwrap();
    assert_eq!(metric(&relay, "merpati_refusals_total{rule=\"queue-max\"}"), 1);
}

#[test]
fn want_of_memory_slows_senders_down_then_refuses_and_messages_in_transit_end() {
    const SENDERS: usize = 300;
    let dir = tempfile::tempdir().unwrap();
    let settings =
        ["limits.memory_max=80 MiB", "listener.sandbox.connections_per_address_max=1000"];
    let relay = Relay::start(&data_dir(&dir), &settings);
    ready(&relay);
    let mut waiting = relay.smtp();
    waiting.say("EHLO client.example", "250");
    let mut senders: Vec<_> = (0..SENDERS).map(|_| relay.smtp()).collect();
    for sender in &mut senders {
        sender.say("EHLO client.example", "250");
        sender.say("MAIL FROM:<a@a.example>", "250");
        sender.say("RCPT TO:<b@b.example>", "250");
        sender.say("DATA", "354");
    }
    // Held in memory until they are whole: a little less than what goes to a file.
    let content = [&b"Subject: held\r\n\r\n"[..], &b"0123456789abcd\r\n".repeat(15_500)].concat();
    for sender in &mut senders {
        sender.send(&content);
    }
    came_to(&relay, "memory", "shut");
    let reply = waiting.say("MAIL FROM:<a@a.example>", "452 4.3.2");
    assert!(reply.contains("memory"), "{reply}");
    let reply = Smtp::silent(relay.address("sandbox")).reply();
    assert!(reply.starts_with("421 4.3.2"), "{reply}");
    not_ready(&relay, "short of memory");
    assert_eq!(metric(&relay, "merpati_load_level{resource=\"memory\"}"), 3);
    let ids: Vec<String> = senders
        .iter_mut()
        .map(|sender| {
            sender.send(b".\r\n");
            queued_as(&sender.reply()).unwrap()
        })
        .collect();
    drop(senders);
    // Nobody sends, and nobody asks.
    came_to(&relay, "memory", "normal");
    waiting.deliver(b"Subject: again\r\n\r\n");
    for id in ids {
        assert_eq!(relay.raw(&id).as_ref(), Some(&content));
    }
    assert!(metric(&relay, "merpati_refusals_total{rule=\"memory-max\"}") >= 1);
}

#[test]
fn a_second_process_on_the_same_spool_is_told_whose_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let relay = Relay::start(&data_dir(&dir), &[]);
    let (status, text) = Relay::try_start(&data_dir(&dir), &[]).err().unwrap();
    assert_eq!(status.code(), Some(1), "{text}");
    assert!(text.contains(&relay.pid().to_string()), "{text}");
    assert!(text.contains("already uses the spool"), "{text}");
    relay.smtp().say("NOOP", "250");
}

// --- descriptors ---

#[test]
fn some_descriptors_are_kept_back_from_clients() {
    let dir = tempfile::tempdir().unwrap();
    let mut limited = Command::new("sh");
    limited.args(["-c", "ulimit -n 128; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_merpati")]);
    let relay = Relay::try_start_as(limited, &data_dir(&dir), &[])
        .unwrap_or_else(|(status, text)| panic!("{status}: {text}"));
    let mut open = Vec::new();
    let refused = loop {
        let mut smtp = Smtp::silent(relay.address("sandbox"));
        let reply = smtp.reply();
        if !reply.starts_with("220") {
            break reply;
        }
        open.push(smtp);
        assert!(open.len() < 128, "nobody is refused");
    };
    assert!(refused.starts_with("421 4.3.2"), "{refused}");
    let line = relay.wait_for(|line| line["last_rule"] == "descriptors").unwrap();
    assert_eq!(line["event"], "SessionEnded");
    // Those who are in go on, also with what needs a file, and the operator gets through.
    let large = [&b"Subject: large\r\n\r\n"[..], &b"0123456789abcd\r\n".repeat(60_000)].concat();
    let smtp = &mut open[0];
    smtp.say("EHLO client.example", "250");
    let id = smtp.deliver(&large);
    assert_eq!(relay.raw(&id).as_deref(), Some(&large[..]));
    ready(&relay);
    drop(open);
    until("a free place", || {
        Smtp::silent(relay.address("sandbox")).reply().starts_with("220").then_some(())
    });
}

/// Segments that a new journal has once those in reserve are made.
const SEGMENTS_AT_FIRST: usize = 5;

#[test]
fn without_descriptors_new_connections_wait_and_the_others_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let relay = Relay::start(&data_dir(&dir), &[]);
    let mut inside = relay.smtp();
    inside.say("EHLO client.example", "250");
    // What the journal needs for a while it has opened by then.
    inside.deliver(b"Subject: first\r\n\r\n");
    until("a segment in reserve", || {
        let spool = fs::read_dir(data_dir(&dir).join("spool/journal")).unwrap();
        (spool.count() >= SEGMENTS_AT_FIRST).then_some(())
    });
    let pid = Pid::from_raw(i32::try_from(relay.pid()).unwrap());
    let all = rustix::process::getrlimit(Limited::Nofile).maximum;
    let limit = |current| {
        prlimit(pid, Limited::Nofile, Rlimit { current, maximum: all }).unwrap();
    };
    limit(Some(8));
    let outside = Smtp::silent(relay.address("sandbox"));
    let kept = inside.deliver(b"Subject: inside\r\n\r\n");
    // Nothing comes while there is no descriptor: the connection waits in the kernel.
    let waits = outside.into_stream();
    waits.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    assert!(waits.peek(&mut [0]).is_err(), "it is greeted without a descriptor");
    limit(all);
    waits.set_read_timeout(Some(common::PATIENCE)).unwrap();
    let mut outside = Smtp::over(waits);
    assert!(outside.reply().starts_with("220"));
    outside.say("EHLO client.example", "250");
    let later = outside.deliver(b"Subject: outside\r\n\r\n");
    assert!(relay.raw(&kept).is_some() && relay.raw(&later).is_some());
}

// --- clocks ---

/// Puts a message into a spool that no process uses, as if it had come at this time.
fn accepted_at(dir: &TempDir, at: Time) -> String {
    let options = Options::new(data_dir(dir).join("spool"), NodeId::default());
    let (mut disk, _) = Disk::open(&options, &mut drop).unwrap();
    let id = disk.handle().next_id();
    let content = bytes::Bytes::from_static(b"Subject: x\r\n\r\n");
    let address = Mailbox::new("b", "b.example".parse().unwrap()).unwrap();
    let accepted = Accepted {
        id,
        envelope: Envelope {
            reverse_path: ReversePath(None),
            recipients: vec![Recipient::new(ForwardPath::Mailbox(address))],
            body: BodyType::SevenBit,
            utf8: Utf8::NotDeclared,
            ret: None,
            envid: None,
            requests: Requests::default(),
            origin: Origin {
                listener: "mx".to_owned(),
                peer: None,
                credential: None,
                protocol: Protocol::Internal,
                tls: None,
                received_at: at,
            },
        },
        edits: Overlay::default(),
        size_bytes: content.len() as u64,
    };
    let body = Body::Bytes(vec![content]);
    disk.append(&[Group::with_body(at, Event::Accepted(Box::new(accepted)), body)]).unwrap();
    disk.sync().unwrap();
    id.to_string()
}

#[test]
fn a_clock_that_went_back_neither_repeats_names_nor_moves_retries_away() {
    let (net, dir) = (Internet::new(), tempfile::tempdir().unwrap());
    // In the year 2096: the clock of the machine was far ahead, and is right again now.
    let ahead = Time::from_secs(4_000_000_000);
    let old = accepted_at(&dir, ahead);
    let mut known = vec![old.clone()];
    for _ in 0..2 {
        let relay = relay_to_host(&net, &dir, &["retry.first_wait=5 min"]);
        known.push(send(&mut client(&relay), "", &["b@b.example"]));
        let id = known.last().unwrap();
        let tried = |line: &Value| line["event"] == "Attempted" && line["id"] == **id;
        let line = relay.wait_for(tried).unwrap();
        assert!(line["time"].as_str().unwrap() >= "2096-10-02", "{line}");
        let waiting = relay.get_json("/v1/queue");
        for delivery in waiting["data"].as_array().unwrap() {
            let wait = delivery["next_in_seconds"].as_u64().unwrap_or(0);
            assert!(wait <= 300, "{delivery}");
        }
        relay.kill();
    }
    assert!(known.is_sorted_by(|a, b| a < b), "{known:?}");
    let host = net.host(2);
    let relay = relay_to_host(&net, &dir, &[]);
    for id in &known {
        assert!(merpati(&dir, &["queue", "retry", id]).status.success(), "{id}");
    }
    assert_eq!(host.wait_for(3).len(), 3);
    relay.wait_for_all(3, |line| line["event"] == "Retired");
}

#[test]
fn a_clock_that_went_ahead_tries_what_waited_at_once() {
    let (net, dir) = (Internet::new(), tempfile::tempdir().unwrap());
    let host = net.host(2);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let old = accepted_at(&dir, Time::from_secs(now.as_secs() - 4 * 86_400));
    let relay = relay_to_host(&net, &dir, &[]);
    assert_eq!(host.wait_for(1)[0].to, ["b@b.example"]);
    relay.wait_for(|line| line["event"] == "Retired" && line["id"] == *old).unwrap();
}

// --- bits that flip ---

/// Inverts a bit of the octet in front of which `text` stands in one of the segments.
#[track_caller]
fn flip(spool: &Path, text: &str) {
    for entry in fs::read_dir(spool.join("journal")).unwrap() {
        let path = entry.unwrap().path();
        let mut octets = Vec::new();
        fs::File::open(&path).unwrap().read_to_end(&mut octets).unwrap();
        let found = octets.windows(text.len()).position(|window| window == text.as_bytes());
        let Some(at) = found.map(|at| at + text.len() - 1) else { continue };
        let mut file = fs::OpenOptions::new().write(true).open(&path).unwrap();
        file.seek(SeekFrom::Start(at as u64)).unwrap();
        file.write_all(&[octets[at] ^ 1]).unwrap();
        return;
    }
    panic!("{text} is in no segment");
}

#[test]
fn a_flipped_bit_costs_the_record_it_is_in_and_no_other() {
    let (net, dir) = (Internet::new(), tempfile::tempdir().unwrap());
    let settings = ["spool.segment_size=1 MiB"];
    let relay = relay_to_host(&net, &dir, &settings);
    let mut smtp = client(&relay);
    let line = "0123456789abcd\r\n".repeat(9_000);
    let mut ids = Vec::new();
    for number in 10..26 {
        let content = format!("Subject: message {number}\r\n\r\n{line}");
        let to = format!("user{number}@b.example");
        ids.push(queued_as(&smtp.data("a@a.example", &to, content.as_bytes())).unwrap());
    }
    relay.kill();
    let spool = data_dir(&dir).join("spool");
    // A content and an envelope in a segment that is full, and one in the newest.
    flip(&spool, "Subject: message 11");
    flip(&spool, "user13");
    flip(&spool, "user24");
    let host = net.host(2);
    let relay = relay_to_host(&net, &dir, &settings);
    let mails = host.wait_for(13);
    let mut came: Vec<String> = mails.iter().flat_map(|mail| mail.to.clone()).collect();
    came.sort();
    let want: Vec<String> = (10..26)
        .filter(|number| ![11, 13, 24].contains(number))
        .map(|number| format!("user{number}@b.example"))
        .collect();
    assert_eq!(came, want);
    let aside: Vec<_> = fs::read_dir(spool.join("corrupt")).unwrap().collect();
    assert_eq!(aside.len(), 2, "{aside:?}");
    // The one whose content is damaged stays, for the operator to decide.
    until("the end of all others", || {
        let left = relay.get_json("/v1/queue");
        let all: Vec<_> =
            left["data"].as_array().unwrap().iter().map(|it| &it["message"]).collect();
        let is_told = left["data"][0]["reason"]["id"] == "unreadable";
        (all == [&Value::from(ids[1].as_str())] && is_told).then_some(())
    });
    assert_eq!(relay.get("/readyz").0, 200);
    assert!(queued_as(&client(&relay).data("a@a.example", "x@b.example", b"\r\n")).is_some());
    relay.signal("TERM");
    let (status, said) = relay.wait_with_errors();
    assert!(status.success() && said.matches("the spool is damaged").count() == 2, "{said}");
    assert!(said.contains("a message cannot be read"), "{said}");
}
