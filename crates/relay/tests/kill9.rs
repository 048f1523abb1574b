//! `kill -9` of the real process under load: nothing that was acknowledged is lost.
//!
//! `MERPATI_KILL_CYCLES` says how often (default 5). Segments are tiny, so that kills also fall
//! into roll-over and carrying; in between the process is killed while it recovers.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    missing_docs
)]

mod common;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc, Barrier, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use common::{HttpClient, Relay, Smtp, data_dir, queued_as};
use merpati_mail::Draw;

/// Acknowledged messages by their name.
type Acknowledged = BTreeMap<String, Vec<u8>>;

#[test]
fn kill_9_loses_nothing_that_was_acknowledged() {
    let cycles = std::env::var("MERPATI_KILL_CYCLES").map_or(5, |n| n.parse().unwrap());
    let dir = tempfile::tempdir().unwrap();
    let mut draw = Draw::new(9);
    let mut acknowledged = Acknowledged::new();
    let mut all = 0;
    for cycle in 0..cycles {
        // Killed at a time that is drawn: before, while and after the spool is recovered.
        if cycle % 2 == 1 {
            let early = Relay::spawn(&data_dir(&dir), &SETTINGS);
            let (began, wait) = (Instant::now(), Duration::from_micros(draw.below(40_000)));
            while began.elapsed() < wait {
                std::thread::yield_now();
            }
            early.kill();
        }
        let relay = Relay::start(&data_dir(&dir), &SETTINGS);
        check(&relay, &acknowledged);
        // What is found once is cleared now and then, so that segments die and are used again.
        if cycle % 3 == 2 {
            let (status, _) = common::http(relay.address("http"), "DELETE", "/v1/sandbox/messages");
            assert_eq!(status, 200);
            acknowledged.clear();
        }
        let load = Load::begin(&relay, cycle, &mut draw);
        load.wait_for(ACKNOWLEDGED_MIN + usize::try_from(draw.below(100)).unwrap());
        relay.kill();
        let (found, open) = load.end();
        assert!(found.len() >= ACKNOWLEDGED_MIN && open >= OPEN_MIN, "{} {open}", found.len());
        all += found.len();
        acknowledged.extend(found);
    }
    let relay = Relay::start(&data_dir(&dir), &SETTINGS);
    check(&relay, &acknowledged);
    println!("{cycles} times killed, {all} messages acknowledged, none lost");
}

/// Each acknowledged message is there, octet for octet.
fn check(relay: &Relay, acknowledged: &Acknowledged) {
    let mut http = HttpClient::connect(relay.address("http"));
    for (id, content) in acknowledged {
        let (status, found) = http.get(&format!("/v1/sandbox/messages/{id}/raw"));
        assert!(status == 200 && found == *content, "{id} is lost or changed: {status}");
    }
}

/// Clients that deliver until the process is gone, and others that keep transactions open.
struct Load {
    shared: Arc<Shared>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    acknowledged: Mutex<Acknowledged>,
    count: AtomicUsize,
    open: AtomicUsize,
    is_over: AtomicBool,
}

impl Load {
    fn begin(relay: &Relay, cycle: u64, draw: &mut Draw) -> Self {
        let shared = Arc::new(Shared::default());
        let address = relay.address("sandbox");
        let ready = Arc::new(Barrier::new(DELIVERING + OPEN_MIN + 1));
        let mut threads = Vec::new();
        for number in 0..DELIVERING {
            let (shared, ready, draw) = (Arc::clone(&shared), Arc::clone(&ready), draw.fork());
            threads.push(std::thread::spawn(move || {
                ready.wait();
                deliver(&shared, address, &format!("{cycle}-{number}"), draw);
            }));
        }
        for number in 0..OPEN_MIN {
            let (shared, ready) = (Arc::clone(&shared), Arc::clone(&ready));
            threads.push(std::thread::spawn(move || {
                let mut smtp = open(address, number);
                shared.open.fetch_add(1, Ordering::SeqCst);
                ready.wait();
                // Until the process is gone.
                assert!(smtp.try_reply().unwrap_or_default().is_empty());
            }));
        }
        ready.wait();
        Self { shared, threads }
    }

    fn wait_for(&self, acknowledged: usize) {
        while self.shared.count.load(Ordering::SeqCst) < acknowledged {
            assert!(!self.shared.is_over.load(Ordering::SeqCst), "the process ended by itself");
            std::thread::yield_now();
        }
    }

    fn end(self) -> (Acknowledged, usize) {
        for thread in self.threads {
            thread.join().unwrap();
        }
        let acknowledged = std::mem::take(&mut *self.shared.acknowledged.lock().unwrap());
        (acknowledged, self.shared.open.load(Ordering::SeqCst))
    }
}

/// A transaction that never ends: within a content, some of them a large one.
fn open(address: SocketAddr, number: usize) -> Smtp<std::net::TcpStream> {
    let mut smtp = Smtp::connect(address);
    smtp.say("EHLO client.example", "250");
    smtp.say("MAIL FROM:<a@a.example>", "250");
    smtp.say("RCPT TO:<b@b.example>", "250");
    smtp.say("DATA", "354");
    let lines = if number.is_multiple_of(4) { 6_000 } else { 10 };
    let line = "a line of about eighty octets, in the middle of a content without an end\r\n";
    smtp.send(line.repeat(lines).as_bytes());
    smtp
}

fn deliver(shared: &Shared, address: SocketAddr, name: &str, mut draw: Draw) {
    let mut session = || -> std::io::Result<()> {
        let mut smtp = Smtp::connect(address);
        smtp.say("EHLO client.example", "250");
        for number in 0.. {
            // One in a hundred goes to a file of its own.
            let octets = if draw.below(100) == 0 { 300_000 } else { draw.below(3_000) };
            let filler = "x".repeat(usize::try_from(octets).unwrap());
            let content = format!("Subject: {name}-{number}\r\n\r\n{filler}\r\n").into_bytes();
            let mut wire = b"MAIL FROM:<a@a.example>\r\nRCPT TO:<b@b.example>\r\nDATA\r\n".to_vec();
            wire.extend(common::stuffed(&content));
            smtp.try_send(&wire)?;
            let mut reply = String::new();
            for _ in 0..4 {
                reply = smtp.try_reply()?;
            }
            let Some(id) = queued_as(&reply) else { return Ok(()) };
            shared.acknowledged.lock().unwrap().insert(id, content);
            shared.count.fetch_add(1, Ordering::SeqCst);
        }
        Ok(())
    };
    // The connection breaks when the process is killed: that is the end.
    session().ok();
}

const SETTINGS: [&str; 2] = ["spool.segment_size=1 MiB", "sandbox.keep_count_max=off"];
const ACKNOWLEDGED_MIN: usize = 200;
const OPEN_MIN: usize = 20;
const DELIVERING: usize = 8;
