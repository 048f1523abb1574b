//! Where a message is and what became of it: `merpati trace`, `msg`, `explain accept`, `sessions`
//! and `tap` against a real relay.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
#![allow(missing_docs)]

mod common;

use std::{
    io::{BufRead, BufReader},
    process::{Command, Output, Stdio},
};

use common::{
    data_dir,
    internet::{Internet, client, jsonl, merpati, send, until},
};
use serde_json::Value;
use tempfile::TempDir;

#[track_caller]
fn text(output: &Output) -> String {
    let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
    format!("{}{}", text(&output.stdout), text(&output.stderr))
}

/// The story of the one message that this finds.
#[track_caller]
fn story(dir: &TempDir, what: &str) -> Value {
    let mut found = jsonl(dir, &["trace", what]);
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)
}

/// The first recipient of the story, once it is in this state.
#[track_caller]
fn in_state(dir: &TempDir, id: &str, state: &str) -> Value {
    until(state, || {
        let recipient = story(dir, id)["recipients"][0].clone();
        (recipient["state"] == state).then_some(recipient)
    })
}

#[test]
fn a_message_is_followed_from_its_acceptance_to_its_end_and_over_a_restart() {
    let (net, dir) = (Internet::new(), tempfile::tempdir().unwrap());
    net.set("b.example", &["MX 10 h2.example"]);
    net.set("h2.example", &["A $2"]);
    let relay = net.relay(&dir, &[]);
    let id = send(&mut client(&relay), "ani@a.example", &["budi@b.example"]);
    // Nobody is there yet. The log tells it when it is durable, and so does the history.
    let line = relay.wait_for(|line| line["event"] == "Attempted").unwrap();
    let waiting = in_state(&dir, &id, "waiting");
    let sentence = waiting["sentence"].as_str().unwrap();
    let is_so = "No connection to the next hop could be made, or it was lost.";
    assert!(sentence.starts_with(is_so), "{waiting}");
    assert!(sentence.contains("h2.example said: 421"), "{waiting}");
    assert!(waiting["advice"].as_str().unwrap().contains("firewall"), "{waiting}");
    assert!(waiting["next_at"].is_string(), "{waiting}");
    // The same sentence where else one looks.
    let listed = &jsonl(&dir, &["queue", "ls"])[0];
    assert_eq!(listed["reason"]["sentence"], is_so);
    assert_eq!(line["outcomes"][0]["sentence"], is_so, "{line}");
    // By each of its names, and for people.
    for name in [&id[..], "budi@b.example", "ANI@", "<1@a.example>", "domain:b.example"] {
        assert_eq!(story(&dir, name)["id"], id, "{name}");
    }
    let told = text(&merpati(&dir, &["trace", &id]));
    for part in [
        "Accepted from client.example",
        "Message-ID 1@a.example",
        "to budi@b.example: waiting",
        "to do:",
        "next:",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
    relay.kill();
    let host = net.host(2);
    let relay = net.relay(&dir, &[]);
    assert!(merpati(&dir, &["queue", "retry", &id]).status.success());
    host.wait_for(1);
    relay.wait_for(|line| line["event"] == "Retired" && line["id"] == *id).unwrap();
    let done = in_state(&dir, &id, "delivered");
    assert!(done["sentence"].as_str().unwrap().starts_with("Delivered to h2.example ["), "{done}");
    assert_eq!(done["advice"], "Nothing to do.");
    let events: Vec<Value> = story(&dir, &id)["steps"].as_array().unwrap().clone();
    assert_eq!(events.first().unwrap()["event"], "deferred");
    assert_eq!(events.last().unwrap()["event"], "delivered");
    let csv = text(&merpati(&dir, &["trace", &id, "-o", "csv"]));
    assert!(csv.lines().nth(1).unwrap().contains(",budi@b.example,delivered,"), "{csv}");
    // What nobody has seen is said plainly.
    let none = merpati(&dir, &["trace", "nobody@b.example"]);
    assert_eq!(none.status.code(), Some(1));
    assert!(text(&none).contains("nothing is known of it since"), "{}", text(&none));
}

#[test]
fn each_end_has_its_sentence_in_trace_and_log_and_report() {
    let (net, dir) = (Internet::new(), tempfile::tempdir().unwrap());
    let relay = net.relay(
        &dir,
        &["route.no.to=refuse this domain is closed", "route.no.recipient_domains=closed.example"],
    );
    let sender = net.host(3);
    net.set("a.example", &["A $3"]);
    let mut smtp = client(&relay);
    let failed = send(&mut smtp, "ani@a.example", &["budi@closed.example"]);
    let end = in_state(&dir, &failed, "failed");
    let is_so = "A rule of this relay refuses mail for this recipient.";
    let sentence = end["sentence"].as_str().unwrap();
    let line =
        relay.wait_for(|line| line["event"] == "Attempted" && line["id"] == *failed).unwrap();
    let told = line["outcomes"][0]["sentence"].as_str().unwrap().to_owned();
    assert!(
        sentence.contains(&told) && sentence.contains("this domain is closed"),
        "{end}\n{is_so}"
    );
    let report = sender.wait_for(1).remove(0).content;
    assert!(report.contains("this domain is closed"), "{report}");
    // Given up, and held.
    net.set("b.example", &["SERVFAIL"]);
    let cancelled = send(&mut smtp, "ani@a.example", &["citra@b.example"]);
    in_state(&dir, &cancelled, "waiting");
    assert!(merpati(&dir, &["queue", "hold", &cancelled, "--why", "odd"]).status.success());
    let held = in_state(&dir, &cancelled, "held");
    assert!(held["sentence"].as_str().unwrap().starts_with("Held by operator: odd."), "{held}");
    assert!(held["next_at"].is_null());
    assert!(merpati(&dir, &["queue", "cancel", &cancelled]).status.success());
    let gone = in_state(&dir, &cancelled, "cancelled");
    assert_eq!(gone["sentence"], "An operator gave it up.");
}

#[test]
fn what_is_tried_delayed_and_given_up_in_the_end_tells_the_same_everywhere() {
    let (net, dir) = (Internet::new(), tempfile::tempdir().unwrap());
    let relay = net.relay(
        &dir,
        &[
            "retry.first_wait=1 s",
            "retry.longest_wait=1 s",
            "retry.delay_report_after=1 s",
            "retry.give_up_after=4 s",
        ],
    );
    let (sender, host) = (net.host(3), net.host(2));
    net.set("a.example", &["A $3"]);
    net.set("b.example", &["A $2"]);
    net.set("gone.example", &["A $4"]);
    host.shut_gate();
    let mut smtp = client(&relay);
    let tried = send(&mut smtp, "ani@a.example", &["budi@b.example"]);
    host.wait_at_gate(1);
    let sentence = "An attempt goes on now.";
    assert_eq!(in_state(&dir, &tried, "attempting")["sentence"], sentence);
    let shown = text(&merpati(&dir, &["queue", "show", &tried]));
    assert!(shown.contains(sentence), "{shown}");
    host.open_gate();
    in_state(&dir, &tried, "delivered");
    // Nobody is there until the end.
    let gone = send(&mut smtp, "ani@a.example", &["citra@gone.example"]);
    relay.wait_for(|line| line["event"] == "Delayed" && line["id"] == *gone).unwrap();
    let is_so = "No connection to the next hop could be made, or it was lost.";
    let ended = |line: &Value| line["event"] == "Expired" && line["id"] == *gone;
    let line = relay.wait_for(ended).unwrap();
    let end = in_state(&dir, &gone, "expired");
    for told in [&line, &end] {
        let sentence = told["sentence"].as_str().unwrap();
        assert!(sentence.starts_with("It waited for as long as the retry plan allows"), "{told}");
    }
    let story = text(&merpati(&dir, &["trace", &gone]));
    for part in ["The sender was told that it is delayed.", is_so] {
        assert!(story.contains(part), "{part}: {story}");
    }
    let reports = sender.wait_for(2);
    let told = [
        ("Action: delayed", "The recipient's mail server could not be reached."),
        ("Action: failed", "It could not be delivered in all the time for which we try."),
    ];
    for (report, (action, why)) in reports.iter().zip(told) {
        // A sentence may go over a line.
        let report = report.content.split_whitespace().collect::<Vec<_>>().join(" ");
        for part in [action, why, "citra@gone.example", "4.4.1"] {
            assert!(report.contains(part), "{part}: {report}");
        }
    }
}

#[test]
fn refused_mail_is_found_with_its_reason() {
    let (net, dir) = (Internet::new(), tempfile::tempdir().unwrap());
    let relay =
        net.relay(&dir, &["relay.networks=192.0.2.0/24", "relay.local_domains=ours.example"]);
    let mut smtp = client(&relay);
    smtp.say("MAIL FROM:<ani@a.example>", "250");
    smtp.say("RCPT TO:<budi@b.example>", "550");
    smtp.say("QUIT", "221");
    relay.wait_for(|line| line["event"] == "SessionEnded").unwrap();
    let told = text(&merpati(&dir, &["trace", "budi@b.example"]));
    for part in [
        "refused  from ani@a.example to budi@b.example",
        "client.example [127.",
        "rule relay-denied: 550 ",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
    // And what would be said now, and why.
    let asked = ["explain", "accept", "--ip", "198.51.100.7", "--from", "ani@a.example", "--rcpt"];
    let told = text(&merpati(&dir, &[&asked[..], &["budi@b.example"]].concat()));
    assert!(
        told.starts_with("Listener mx refuses mail from ani@a.example to budi@b.example"),
        "{told}"
    );
    assert!(told.contains("at RCPT by rule relay-denied"), "{told}");
    let answer = &jsonl(&dir, &[&asked[..], &["eka@ours.example"]].concat())[0];
    assert_eq!(
        (&answer["accepted"], &answer["steps"][2]["rule"]),
        (&true.into(), &"local-domain".into())
    );
    let ours = ["explain", "accept", "--ip", "192.0.2.9", "--rcpt", "budi@b.example"];
    assert_eq!(jsonl(&dir, &ours)[0]["accepted"], true);
}

#[test]
fn the_dialogue_with_a_host_that_refused_is_kept_and_the_message_can_be_read() {
    let (net, dir) = (Internet::new(), tempfile::tempdir().unwrap());
    let relay = net.relay(&dir, &[]);
    // A port where somebody speaks no SMTP.
    let odd = std::net::TcpListener::bind((net.ip(2), net.port)).unwrap();
    let thread = std::thread::spawn(move || {
        use std::io::Write;
        let (mut stream, _) = odd.accept().unwrap();
        stream.write_all(b"421 4.7.0 go away\r\n").unwrap();
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).ok();
    });
    net.set("b.example", &["A $2"]);
    let id = send(&mut client(&relay), "ani@a.example", &["budi@b.example"]);
    relay.wait_for(|line| line["event"] == "Attempted").unwrap();
    let said = text(&merpati(&dir, &["msg", "show", &id, "--transcript"]));
    assert!(said.contains("S: 421 4.7.0 go away"), "{said}");
    let told = text(&merpati(&dir, &["trace", &id, "--transcript"]));
    assert!(told.contains("S: 421 4.7.0 go away"), "{told}");
    let header = text(&merpati(&dir, &["msg", "show", &id, "--headers"]));
    assert!(header.starts_with("Received: from client.example"), "{header}");
    assert!(header.contains("Subject: a letter") && !header.contains("body"), "{header}");
    let raw = merpati(&dir, &["msg", "show", &id, "--raw"]).stdout;
    assert!(raw.ends_with(b"Message-ID: <1@a.example>\r\n\r\nbody\r\n"), "{raw:?}");
    assert!(text(&merpati(&dir, &["msg", "show", &id])).contains("envelope from"));
    thread.join().unwrap();
}

#[test]
fn sessions_are_shown_while_they_last_and_tapped_without_secrets() {
    let (net, dir) = (Internet::new(), tempfile::tempdir().unwrap());
    let relay = net.relay(&dir, &["listener.mx.auth=allow-clear"]);
    assert_eq!(text(&merpati(&dir, &["sessions"])), "nobody is connected\n");
    let mut tap = Command::new(env!("CARGO_BIN_EXE_merpati"))
        .args(["tap", "in", "--socket"])
        .arg(data_dir(&dir).join("control.sock"))
        .env_clear()
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let heard = BufReader::new(tap.stdout.take().unwrap());
    // The tap is there when it hears something.
    let (sender, lines) = std::sync::mpsc::channel();
    let reader = std::thread::spawn(move || {
        heard.lines().map_while(Result::ok).for_each(|line| drop(sender.send(line)));
    });
    let mut smtp = client(&relay);
    until("the tap", || {
        smtp.say("NOOP", "250");
        lines.try_recv().ok()
    });
    let session = &jsonl(&dir, &["sessions"])[0];
    assert_eq!(
        (&session["direction"], &session["name"]),
        (&"in".into(), &"mx".into()),
        "{session}"
    );
    smtp.say("AUTH PLAIN AGFuaQBzZWNyZXQ=", "535");
    let mut said = String::new();
    until("the refusal", || {
        said.extend(lines.try_iter());
        said.contains("S: 535").then_some(())
    });
    assert!(said.contains("C: AUTH PLAIN (hidden)") && said.contains("S: 535"), "{said}");
    assert!(!said.contains("AGFuaQ"), "{said}");
    tap.kill().ok();
    tap.wait().unwrap();
    reader.join().unwrap();
    drop(smtp);
    until("the end", || {
        (text(&merpati(&dir, &["sessions"])) == "nobody is connected\n").then_some(())
    });
}

#[test]
fn the_queue_is_counted_and_shaped() {
    let (net, dir) = (Internet::new(), tempfile::tempdir().unwrap());
    let relay = net.relay(&dir, &[]);
    for name in ["b.example", "c.example"] {
        net.set(name, &["SERVFAIL"]);
    }
    assert_eq!(text(&merpati(&dir, &["queue", "count"])), "0\n");
    let mut smtp = client(&relay);
    send(&mut smtp, "ani@a.example", &["x@b.example", "y@b.example", "z@c.example"]);
    send(&mut smtp, "eka@d.example", &["x@b.example"]);
    until("reasons", || (jsonl(&dir, &["queue", "ls", "reason:dns"]).len() == 4).then_some(()));
    assert_eq!(text(&merpati(&dir, &["queue", "count"])), "4\n");
    assert_eq!(text(&merpati(&dir, &["queue", "count", "to:z@"])), "1\n");
    for (by, want) in [
        ("next-hop", &[("b.example", 3), ("c.example", 1)][..]),
        ("domain", &[("b.example", 3), ("c.example", 1)]),
        ("sender-domain", &[("a.example", 3), ("d.example", 1)]),
        ("reason", &[("dns", 4)]),
        ("status", &[("waiting", 4)]),
        ("listener", &[("mx", 4)]),
        ("credential", &[("-", 4)]),
    ] {
        let shape = jsonl(&dir, &["queue", "shape", "--by", by]);
        let got: Vec<(&str, i64)> = shape
            .iter()
            .map(|one| (one[by].as_str().unwrap(), one["deliveries"].as_i64().unwrap()))
            .collect();
        assert_eq!(got, want, "{by}");
    }
    let table = text(&merpati(&dir, &["queue", "shape"]));
    let lines: Vec<&str> = table.lines().collect();
    assert!(lines[0].starts_with("NEXT-HOP") && lines[0].contains("1280+ MIN"), "{table}");
    assert!(lines[1].starts_with("all") && lines[2].starts_with("b.example"), "{table}");
    let csv = text(&merpati(&dir, &["queue", "ls", "-o", "csv"]));
    assert_eq!(csv.lines().count(), 5, "{csv}");
    assert!(csv.starts_with("id,accepted_at,"), "{csv}");
}
