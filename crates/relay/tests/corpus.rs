//! All mails of the corpora through DATA and through BDAT into the sandbox of a real process: each
//! comes out octet for octet, or was refused by a named rule.
//!
//! The corpora are at `../shared/corpora`, or in a directory that `MERPATI_CORPORA` names. Where
//! they are absent the test says that it was skipped, unless `MERPATI_REQUIRE_SHARED` is set.
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
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use common::{HttpClient, Relay, Smtp, data_dir, queued_as};
use serde_json::Value;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Way {
    Data,
    Bdat,
}

#[test]
fn every_mail_of_the_corpora_comes_out_octet_for_octet_or_is_refused_by_a_named_rule() {
    let dir = tempfile::tempdir().unwrap();
    let Some(corpora) = corpora(dir.path()) else {
        let required = std::env::var_os("MERPATI_REQUIRE_SHARED").is_some();
        assert!(!required, "there are no corpora in ../shared and MERPATI_CORPORA is not set");
        println!("skipped: no ../shared");
        return;
    };
    let mut files = Vec::new();
    collect(&corpora, &mut files);
    assert!(!files.is_empty(), "no mail in {}", corpora.display());
    let relay = Relay::start(&data_dir(&dir), &["sandbox.keep_count_max=off"]);
    let results: Mutex<BTreeMap<(Way, String), usize>> = Mutex::default();
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..CONNECTIONS {
            scope.spawn(|| carry(&relay, &files, &next, &results));
        }
    });
    let results = results.into_inner().unwrap();
    let rules = rules(&relay);
    println!("{:<6}{:<70}{:>8}", "way", "result", "mails");
    for ((way, result), count) in &results {
        println!("{:<6}{result:<70}{count:>8}", format!("{way:?}"));
    }
    println!("{:<76}{:>8}", "rule", "refusals");
    for (rule, count) in &rules {
        println!("{rule:<76}{count:>8}");
    }
    let all: usize = results.values().sum();
    assert_eq!(all, 2 * files.len());
    let refused: usize =
        results.iter().filter(|((_, result), _)| result != SAME).map(|(_, count)| count).sum();
    // A chunk in the middle that is refused is counted too, and the last one after it.
    assert!(rules.values().sum::<u64>() >= refused as u64, "each refusal has a rule");
    let named = ["bare-cr", "nul"];
    assert!(rules.keys().all(|rule| named.contains(&rule.as_str())), "{rules:?}");
}

/// Hands mails over, two messages in flight on a connection, and reads back what was taken.
fn carry(
    relay: &Relay,
    files: &[PathBuf],
    next: &AtomicUsize,
    results: &Mutex<BTreeMap<(Way, String), usize>>,
) {
    let mut http = HttpClient::connect(relay.address("http"));
    let mut smtp = relay.smtp();
    smtp.say("EHLO client.example", "250");
    while let Some(file) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
        let mail = canonical(&std::fs::read(file).unwrap());
        for way in [Way::Data, Way::Bdat] {
            let reply = match way {
                Way::Data => by_data(&mut smtp, &mail),
                Way::Bdat => by_chunks(&mut smtp, &mail),
            };
            let result = if let Some(id) = queued_as(&reply) {
                let found = http.get(&format!("/v1/sandbox/messages/{id}/raw"));
                assert!(found == (200, mail.clone()), "{} is changed", file.display());
                SAME.to_owned()
            } else {
                let is_named = reply.starts_with('5') && reply.contains("(rule ");
                assert!(is_named, "{}: {reply}", file.display());
                reply.trim_end().to_owned()
            };
            *results.lock().unwrap().entry((way, result)).or_default() += 1;
        }
    }
    smtp.say("QUIT", "221");
}

const ENVELOPE: &str = "MAIL FROM:<a@a.example> BODY=8BITMIME\r\nRCPT TO:<b@b.example>\r\n";

fn by_data(smtp: &mut Smtp<std::net::TcpStream>, mail: &[u8]) -> String {
    smtp.send(format!("{ENVELOPE}DATA\r\n").as_bytes());
    let replies = [smtp.reply(), smtp.reply(), smtp.reply()];
    assert!(replies[2].starts_with("354"), "{replies:?}");
    smtp.send(&common::stuffed(mail));
    smtp.reply()
}

/// Envelope and two chunks in one go (RFC 3030 §4.2).
fn by_chunks(smtp: &mut Smtp<std::net::TcpStream>, mail: &[u8]) -> String {
    let (first, last) = mail.split_at(mail.len() / 2);
    let mut wire = format!("{ENVELOPE}BDAT {}\r\n", first.len()).into_bytes();
    wire.extend_from_slice(first);
    wire.extend_from_slice(format!("BDAT {} LAST\r\n", last.len()).as_bytes());
    wire.extend_from_slice(last);
    smtp.send(&wire);
    let replies = [smtp.reply(), smtp.reply(), smtp.reply(), smtp.reply()];
    assert!(replies[..2].iter().all(|reply| reply.starts_with("250")), "{replies:?}");
    replies[3].clone()
}

/// The lines of the files end in LF; on the wire they end in CRLF, and so does the last one. All
/// other octets stay, a bare CR and NUL too.
fn canonical(file: &[u8]) -> Vec<u8> {
    let mut mail = Vec::with_capacity(file.len() + file.len() / 32);
    for line in file.split_inclusive(|octet| *octet == b'\n') {
        mail.extend_from_slice(line.strip_suffix(b"\n").unwrap_or(line));
        mail.extend_from_slice(b"\r\n");
    }
    mail
}

/// How often each rule refused, from the mail log.
fn rules(relay: &Relay) -> BTreeMap<String, u64> {
    let mut rules = BTreeMap::new();
    for line in relay.wait_for_all(CONNECTIONS, |line| line["event"] == "SessionEnded") {
        for (rule, count) in line["refusals"].as_object().into_iter().flatten() {
            *rules.entry(rule.clone()).or_default() += count.as_u64().unwrap_or_default();
        }
        assert_eq!(line["end"], Value::from("Quit"));
    }
    rules
}

fn corpora(dir: &Path) -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("MERPATI_CORPORA") {
        return Some(named.into());
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/corpora");
    let packed = root.join("dev.tar.xz");
    if !packed.exists() {
        return None;
    }
    let unpacked = dir.join("corpora");
    std::fs::create_dir(&unpacked).unwrap();
    let tar = Command::new("tar").arg("-xJf").arg(&packed).arg("-C").arg(&unpacked).status();
    assert!(tar.unwrap().success());
    Some(unpacked)
}

fn collect(dir: &Path, files: &mut Vec<PathBuf>) {
    let entries = dir.read_dir().unwrap().map(|entry| entry.unwrap().path());
    for path in entries {
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|end| end == "eml") {
            files.push(path);
        }
    }
    files.sort();
}

const SAME: &str = "captured, octet for octet";
const CONNECTIONS: usize = 4;
