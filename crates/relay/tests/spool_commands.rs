//! What an operator does with the spool as a whole: `merpati spool` against real relays and real
//! files.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
#![allow(missing_docs)]

mod common;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::TcpStream,
    os::unix::fs::{FileExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use common::{
    Relay, Smtp, data_dir,
    internet::{Host, Internet, client, jsonl, merpati, send},
    queued_as,
};
use serde_json::Value;
use tempfile::TempDir;

/// Runs a command of the spool: its code, and what it said on standard output and error.
fn run(dir: &TempDir, arguments: &[&str]) -> (i32, String, String) {
    let output = merpati(dir, &[&["spool"], arguments].concat());
    let text = |octets: &[u8]| String::from_utf8(octets.to_vec()).unwrap();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

/// The same; it must end with this code, and this must be in what it says.
#[track_caller]
fn check(dir: &TempDir, arguments: &[&str], code: i32, part: &str) {
    let (got, out, err) = run(dir, arguments);
    let is_said = format!("{out}{err}").contains(part);
    assert!(got == code && is_said, "{arguments:?}: {got}: {out}{err}\nlacks {part}");
}

/// A path below the temporary directory, as an argument.
fn below(dir: &TempDir, name: &str) -> String {
    dir.path().join(name).to_str().unwrap().to_owned()
}

/// Every file with its content, but for the lock.
fn tree(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(tree(&path));
        } else if path.file_name().unwrap() != "lock" {
            let octets = fs::read(&path).unwrap();
            found.insert(path, octets);
        }
    }
    found
}

/// An internet where nobody takes mail for `b.example` before [`Internet::host`] 2 is there.
fn internet() -> Internet {
    let net = Internet::new();
    net.set("b.example", &["A $2"]);
    net
}

/// Hands over a message of so many octets and more.
fn send_large(smtp: &mut Smtp<TcpStream>, to: &str, octets: usize) -> String {
    smtp.say("MAIL FROM:<large@a.example>", "250");
    smtp.say(&format!("RCPT TO:<{to}>"), "250");
    smtp.say("DATA", "354");
    let lines = "0123456789abcdef\r\n".repeat(octets / 18 + 1);
    smtp.send(format!("Subject: large\r\n\r\n{lines}.\r\n").as_bytes());
    queued_as(&smtp.reply()).unwrap()
}

#[track_caller]
fn deferred(relay: &Relay, id: &str, attempt: u64) {
    let fits = |line: &Value| {
        line["event"] == "Attempted" && line["id"] == *id && line["attempt"] == attempt
    };
    relay.wait_for(fits).unwrap();
}

#[track_caller]
fn ended(relay: &Relay, id: &str) {
    relay.wait_for(|line| line["event"] == "Retired" && line["id"] == *id).unwrap();
}

/// Messages in every state: held, tried twice, large, and captured.
struct Filled {
    held: String,
    tried: String,
    large: String,
    captured: String,
}

fn fill(relay: &Relay, dir: &TempDir) -> Filled {
    let mut smtp = client(relay);
    let held = send(&mut smtp, "a@a.example", &["held@b.example", "gone@b.example"]);
    let tried = send(&mut smtp, "a@a.example", &["tried@b.example"]);
    let large = send_large(&mut smtp, "large@b.example", 300 * 1_024);
    for id in [&held, &tried, &large] {
        deferred(relay, id, 1);
    }
    for command in [
        ["hold", held.as_str(), "--why"].as_slice(),
        &["cancel", &format!("{held}.1")],
        &["retry", &tried],
    ] {
        let why: &[&str] = if command.len() == 3 { &["who is this?"] } else { &[] };
        let done = merpati(dir, &[&["queue"], command, why].concat());
        assert!(done.status.success(), "{command:?}: {done:?}");
    }
    deferred(relay, &tried, 2);
    let mut sandbox = relay.smtp();
    sandbox.say("EHLO client.example", "250");
    let captured = send(&mut sandbox, "s@a.example", &["captured@b.example"]);
    Filled { held, tried, large, captured }
}

/// All of [`fill`] is there in its state, and is delivered under its name.
fn all_is_delivered(relay: &Relay, dir: &TempDir, host: &dyn Fn() -> Host, filled: &Filled) {
    let Filled { held, tried, large, captured } = filled;
    let queue = jsonl(dir, &["queue", "ls"]);
    let seen = |id: &str| {
        let of: Vec<&Value> = queue.iter().filter(|one| one["message"] == *id).collect();
        assert_eq!(of.len(), 1, "{id}: {queue:?}");
        (of[0]["status"].as_str().unwrap().to_owned(), of[0]["attempts"].as_u64().unwrap())
    };
    assert_eq!(seen(held), ("held".to_owned(), 1));
    assert_eq!(seen(tried), ("waiting".to_owned(), 2));
    assert_eq!(seen(large), ("waiting".to_owned(), 1));
    assert!(relay.raw(captured).unwrap().starts_with(b"Subject: a letter"));
    let host = host();
    for verb in ["release", "retry"] {
        assert!(merpati(dir, &["queue", verb, "--all"]).status.success());
    }
    for id in [held, tried, large] {
        ended(relay, id);
    }
    let mails = host.wait_for(3);
    let to: BTreeSet<&str> = mails.iter().flat_map(|mail| &mail.to).map(String::as_str).collect();
    let want = ["held@b.example", "large@b.example", "tried@b.example"];
    assert_eq!((mails.len(), to), (3, want.into()));
    let large = mails.iter().find(|mail| mail.from == "large@a.example").unwrap();
    assert!(large.content.len() > 300 * 1_024 && large.content.ends_with("0123456789abcdef\r\n"));
}

#[test]
fn a_flipped_bit_is_found_in_its_file_and_nothing_is_changed() {
    let (net, dir) = (internet(), tempfile::tempdir().unwrap());
    let relay = net.relay(&dir, &[]);
    let large = fill(&relay, &dir).large;
    relay.stop();
    let data = below(&dir, "data");
    let spool = data_dir(&dir).join("spool");
    let verify = ["verify", "--spool", &data];
    let before = tree(&data_dir(&dir));
    let lock = fs::read(spool.join("lock")).unwrap();
    check(&dir, &verify, 0, "spool is whole: 4 living messages, 1 of them in files of their own");
    for (file, offset) in [
        (spool.join("bodies").join(&large), 100_000),
        (spool.join("journal/0000.seg"), 4_096 + 200),
    ] {
        let writer = fs::OpenOptions::new().read(true).write(true).open(&file).unwrap();
        let mut octet = [0];
        writer.read_exact_at(&mut octet, offset).unwrap();
        writer.write_all_at(&[octet[0] ^ 1], offset).unwrap();
        let damaged = tree(&data_dir(&dir));
        check(&dir, &verify, 1, &format!("{}:", file.display()));
        let (code, out, _) = run(&dir, &["verify", "--spool", &data, "-o", "jsonl"]);
        let found: Value = serde_json::from_str(&out).unwrap();
        assert_eq!((code, &found["is_whole"]), (1, &false.into()), "{found}");
        assert_eq!(found["damage"][0]["file"], file.to_str().unwrap(), "{found}");
        assert_eq!(found["damage"].as_array().unwrap().len(), 1, "{found}");
        assert_eq!(tree(&data_dir(&dir)), damaged);
        writer.write_all_at(&octet, offset).unwrap();
    }
    check(&dir, &verify, 0, "is whole");
    assert_eq!(tree(&data_dir(&dir)), before);
    assert_eq!(fs::read(spool.join("lock")).unwrap(), lock);
    let (code, out, _) = run(&dir, &["stats", "--spool", &data, "-o", "jsonl"]);
    let stats: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &stats["messages"], &stats["large_messages"]), (0, &4.into(), &1.into()));
    assert!(stats["oldest_at"].is_string() && stats["format_version"] == 1, "{stats}");
    assert!(stats["live_bytes"].as_u64().unwrap() > 300 * 1_024, "{stats}");
    check(&dir, &["stats", "--spool", spool.to_str().unwrap()], 0, "format version    1\n");
}

#[test]
fn what_is_exported_and_imported_is_delivered_under_its_id_and_in_its_state() {
    let (net, dir) = (internet(), tempfile::tempdir().unwrap());
    let relay = net.relay(&dir, &[]);
    let filled = fill(&relay, &dir);
    relay.stop();
    let (data, out) = (below(&dir, "data"), below(&dir, "out"));
    let before = tree(&data_dir(&dir));
    check(&dir, &["export", &out, "--spool", &data], 0, "4 messages written to ");
    assert_eq!(tree(&data_dir(&dir)), before);
    let path = |name: &str| dir.path().join("out").join(name);
    let card = |id: &str| -> Value {
        serde_json::from_slice(&fs::read(path(&format!("{id}.json"))).unwrap()).unwrap()
    };
    let held = card(&filled.held);
    assert_eq!(held["deliveries"][0]["status"], "held", "{held}");
    assert_eq!(held["deliveries"][0]["hold"]["value"], "who is this?", "{held}");
    assert_eq!(held["deliveries"][1]["status"], "finished", "{held}");
    assert_eq!(card(&filled.tried)["deliveries"][0]["attempts"], 2);
    assert_eq!(card(&filled.captured)["kind"], "captured");
    let eml = fs::read(path(&format!("{}.eml", filled.tried))).unwrap();
    assert!(eml.starts_with(b"Subject: a letter\r\n"));
    for private in [path(""), path("export.json"), path(&format!("{}.eml", filled.held))] {
        let mode = fs::metadata(&private).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{}", private.display());
    }
    check(&dir, &["export", &out, "--spool", &data], 2, "the directory is not empty");
    // Another machine, as it were.
    let other = tempfile::tempdir().unwrap();
    let there = below(&other, "data");
    let import = ["import", &out, "--spool", &there, "--set", "spool.disk_free_min=1 MiB"];
    check(&other, &import, 0, "4 messages imported into ");
    check(&other, &import, 1, "4 of these messages live in the spool already, such as ");
    let skip = [&import[..], &["--skip-present"]].concat();
    check(&other, &skip, 0, "0 messages imported into ");
    check(&other, &skip, 0, "4 were there already");
    check(&other, &["verify", "--spool", &there], 0, "is whole: 4 living messages");
    let relay = net.relay(&other, &[]);
    all_is_delivered(&relay, &other, &|| net.host(2), &filled);
}

#[test]
fn an_export_that_is_not_what_it_should_be_is_refused_whole() {
    let (net, dir) = (internet(), tempfile::tempdir().unwrap());
    let relay = net.relay(&dir, &[]);
    let filled = fill(&relay, &dir);
    relay.stop();
    let (data, out, to) = (below(&dir, "data"), below(&dir, "out"), below(&dir, "to"));
    let (held, tried) = (filled.held.as_str(), filled.tried.as_str());
    let nobody = "028T5CY4TQKFF";
    let export = ["export", &out, held, tried, nobody, "--spool", &data];
    check(&dir, &export, 1, "028T5CY4TQKFF could not be exported: the spool does not hold");
    let import = ["import", &out, "--spool", &to, "--set", "spool.disk_free_min=1 MiB"];
    let file = |name: String| dir.path().join("out").join(name);
    let card = file(format!("{held}.json"));
    let whole = fs::read_to_string(&card).unwrap();
    for (changed, says) in [
        (whole.replace("\"format_version\": 1", "\"format_version\": 2"), "reads up to version 1"),
        (whole.replace("\"record\": \"", "\"record\": \"AAAA"), ".json: "),
        (whole.replace("\"size_bytes\"", "\"size\""), "/content/size_bytes is missing"),
        (String::new(), ".json: "),
    ] {
        fs::write(&card, &changed).unwrap();
        check(&dir, &import, 2, says);
        assert!(!Path::new(&to).exists(), "{says}");
    }
    fs::write(&card, whole).unwrap();
    let eml = file(format!("{held}.eml"));
    let content = fs::read(&eml).unwrap();
    fs::write(&eml, &content[1..]).unwrap();
    check(&dir, &import, 2, "octets in place of ");
    fs::write(&eml, [&content[1..], b"x"].concat()).unwrap();
    check(&dir, &import, 1, "the checksum of the content is wrong");
    fs::write(&eml, content).unwrap();
    let manifest = file("export.json".to_owned());
    let says = fs::read(&manifest).unwrap();
    fs::remove_file(&manifest).unwrap();
    check(&dir, &import, 2, "there is no complete export at ");
    fs::write(&manifest, says).unwrap();
    check(&dir, &import, 0, "2 messages imported into ");
}

#[test]
fn a_copy_made_while_mail_flows_has_all_that_was_acknowledged_before() {
    let (net, dir) = (internet(), tempfile::tempdir().unwrap());
    let relay = net.relay(&dir, &[]);
    let filled = fill(&relay, &dir);
    let (acknowledged, is_over) = (Mutex::new(Vec::new()), AtomicBool::new(false));
    let count = || acknowledged.lock().unwrap().len();
    let copy = below(&dir, "copy");
    let before = std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut smtp = client(&relay);
                while !is_over.load(Ordering::SeqCst) {
                    let id = send(&mut smtp, "flow@a.example", &["flow@b.example"]);
                    acknowledged.lock().unwrap().push(id);
                }
            });
        }
        common::internet::until("mail", || (count() >= 200).then_some(()));
        let before: BTreeSet<String> = acknowledged.lock().unwrap().iter().cloned().collect();
        let (code, out, err) = run(&dir, &["backup", &copy]);
        assert!(code == 0 && out.contains("copied to "), "{code}: {out}{err}");
        // Mail is still taken.
        let then = count();
        common::internet::until("more mail", || (count() > then).then_some(()));
        is_over.store(true, Ordering::SeqCst);
        before
    });
    check(&dir, &["backup", &copy], 2, "it is there already, and not empty");
    let mode = fs::metadata(&copy).unwrap().permissions().mode();
    assert_eq!(mode & 0o077, 0, "{mode:o}");
    relay.kill();
    check(&dir, &["verify", "--spool", &copy], 0, "is whole");
    let moved = tempfile::tempdir().unwrap();
    fs::rename(&copy, data_dir(&moved)).unwrap();
    let relay = net.relay(&moved, &[]);
    let queue: BTreeSet<String> = jsonl(&moved, &["queue", "ls", "from:flow", "-n", "100000"])
        .iter()
        .map(|one| one["message"].as_str().unwrap().to_owned())
        .collect();
    assert!(queue.is_superset(&before), "{:?}", before.difference(&queue).collect::<Vec<_>>());
    assert!(merpati(&moved, &["queue", "cancel", "from:flow", "--yes"]).status.success());
    all_is_delivered(&relay, &moved, &|| net.host(2), &filled);
}

#[test]
fn a_copy_is_made_without_a_relay_too_and_is_what_the_relay_would_find() {
    let (net, dir) = (internet(), tempfile::tempdir().unwrap());
    let relay = net.relay(&dir, &[]);
    let filled = fill(&relay, &dir);
    relay.stop();
    let copy = tempfile::tempdir().unwrap();
    let (data, to) = (below(&dir, "data"), below(&copy, "data"));
    let before = tree(&data_dir(&dir));
    let backup = ["backup", &to, "--spool", &data, "--set", "spool.disk_free_min=1 MiB"];
    check(&dir, &backup, 0, "4 messages, ");
    assert_eq!(tree(&data_dir(&dir)), before);
    let relay = net.relay(&copy, &[]);
    all_is_delivered(&relay, &copy, &|| net.host(2), &filled);
}

#[test]
fn a_spool_in_use_is_named_with_its_process_and_left_alone() {
    let (net, dir) = (internet(), tempfile::tempdir().unwrap());
    let relay = net.relay(&dir, &[]);
    let id = send(&mut client(&relay), "a@a.example", &["b@b.example"]);
    deferred(&relay, &id, 1);
    let (data, out) = (below(&dir, "data"), below(&dir, "out"));
    let pid = fs::read_to_string(data_dir(&dir).join("spool/lock")).unwrap();
    let says = format!("process {} already uses the spool", pid.trim());
    for command in [
        &["verify", "--spool", &data][..],
        &["stats", "--spool", &data],
        &["export", &out, "--spool", &data],
        &["backup", &out, "--spool", &data],
    ] {
        check(&dir, command, 2, &says);
        assert!(!Path::new(&out).exists(), "{command:?}");
    }
    let nowhere = below(&dir, "nowhere");
    for command in [&["verify", "--spool", &nowhere][..], &["export", &out, "--spool", &nowhere]] {
        check(&dir, command, 2, "there is no spool at ");
        assert!(!Path::new(&nowhere).exists() && !Path::new(&out).exists(), "{command:?}");
    }
    assert!(merpati(&dir, &["queue", "show", &id]).status.success());
}

#[test]
fn a_spool_of_a_future_format_is_refused_by_everything_and_not_changed() {
    let (net, dir) = (internet(), tempfile::tempdir().unwrap());
    let relay = net.relay(&dir, &[]);
    let id = send(&mut client(&relay), "a@a.example", &["b@b.example"]);
    deferred(&relay, &id, 1);
    relay.stop();
    let (data, out) = (below(&dir, "data"), below(&dir, "out"));
    check(&dir, &["export", &out, "--spool", &data], 0, "1 message written to ");
    let segment = data_dir(&dir).join("spool/journal/0000.seg");
    let file = fs::OpenOptions::new().read(true).write(true).open(&segment).unwrap();
    let mut header = [0; 128];
    file.read_exact_at(&mut header, 0).unwrap();
    header[8] = 2;
    let sum = crc32c(&header[..124]).to_le_bytes();
    header[124..].copy_from_slice(&sum);
    file.write_all_at(&header, 0).unwrap();
    let spool = data_dir(&dir).join("spool");
    let before = tree(&spool);
    let says = "0000.seg has format version 2, which a newer program wrote; this one reads up to \
                version 1";
    let other = below(&dir, "other");
    for command in [
        &["verify", "--spool", &data][..],
        &["stats", "--spool", &data],
        &["export", &other, "--spool", &data],
        &["import", &out, "--spool", &data],
        &["backup", &other, "--spool", &data],
    ] {
        check(&dir, command, 2, says);
        assert_eq!(tree(&spool), before, "{command:?}");
    }
    assert!(!Path::new(&other).exists());
    let (status, text) = Relay::try_start(&data_dir(&dir), &[]).map(|_| ()).unwrap_err();
    assert!(!status.success() && text.contains(says), "{status}: {text}");
    assert_eq!(tree(&spool), before);
}

/// CRC-32C, one bit at a time.
fn crc32c(octets: &[u8]) -> u32 {
    let step = |sum: u32| if sum & 1 == 1 { (sum >> 1) ^ 0x82f6_3b78 } else { sum >> 1 };
    !octets.iter().fold(!0, |sum, &octet| (0..8).fold(sum ^ u32::from(octet), |sum, _| step(sum)))
}
