//! Each reason for which mail waits or fails, brought about by a real host, DNS or rule: the same
//! sentence in `queue show`, in `trace` and in the log, and one for its sender in the report.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
#![allow(missing_docs)]

mod common;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::TcpListener,
};

use common::{
    Relay, data_dir,
    internet::{Host, Internet, Mail, client, jsonl, merpati, send, until},
    queued_as,
};
use serde_json::Value;
use tempfile::TempDir;

/// Reasons that a host gives in its reply to RCPT, whether they are for ever, and what their sender
/// reads.
const REPLIES: &[(&str, &str, Fate, &str)] = &[
    ("authentication", "530 5.7.0 log in first", Fate::Final, "does not accept our login"),
    ("blocked", "550 5.7.25 no name for you", Fate::Final, "does not accept mail from our address"),
    ("busy", "421 4.3.2 not now", Fate::Passing, "is too busy, or being restarted"),
    ("content-refused", "550 5.6.0 not this", Fate::Final, "does not accept the content"),
    ("greylisted", "450 4.7.1 greylisted", Fate::Passing, "asks new senders to come again later"),
    ("loop", "554 5.4.6 it was here before", Fate::Final, "goes round in circles"),
    ("mailbox-disabled", "550 5.2.1 not any more", Fate::Final, "is disabled or takes no mail"),
    ("mailbox-full", "452 4.2.2 full", Fate::Passing, "The recipient's mailbox is full."),
    ("mailbox-unknown", "550 5.1.1 who is that", Fate::Final, "There is no such mailbox"),
    ("policy", "550 5.7.1 not allowed", Fate::Final, "A rule of the recipient's mail server"),
    ("protocol", "certainly", Fate::Passing, "answers in a way that makes no sense"),
    ("remote-trouble", "451 4.3.0 my disk", Fate::Passing, "has trouble of its own"),
    ("sender-refused", "550 5.7.26 who are you", Fate::Final, "does not accept you as the sender"),
    ("throttled", "450 4.7.28 slower", Fate::Passing, "asks us to send more slowly"),
    ("too-large", "552 5.3.4 smaller", Fate::Final, "larger than the recipient's mail server"),
    ("too-many-recipients", "452 4.5.3 fewer", Fate::Passing, "has more recipients than"),
    ("unknown-permanent", "550 no", Fate::Final, "refused the message"),
    ("unknown-transient", "450 no", Fate::Passing, "did not take the message yet"),
];

/// Those that are found elsewhere, each with its recipient.
const OTHERS: &[(&str, &str, Fate, &str)] = &[
    ("ambiguous-end-of-data", "cut@b.example", Fate::Passing, "may have arrived all the same"),
    ("connection", "x@gone.example", Fate::Passing, "could not be reached"),
    ("dns", "x@servfail.example", Fate::Passing, "could not be looked up in DNS"),
    ("domain-unknown", "x@nothing.example", Fate::Final, "does not exist, or has no server"),
    ("missing-extension", "é@ascii.example", Fate::Final, "cannot take a message of this kind"),
    (
        "no-route",
        "x@elsewhere.test",
        Fate::Passing,
        "does not know where mail for this domain goes",
    ),
    ("null-mx", "x@null.example", Fate::Final, "takes no mail at all"),
    ("route-refused", "x@closed.example", Fate::Final, "A rule of our own mail server"),
    ("timed-out", "x@silent.example", Fate::Passing, "did not answer in time"),
    ("tls", "x@clear.example", Fate::Passing, "over a protected connection"),
];

/// Those that have a test of their own, here or in `trace.rs`.
const APART: &[&str] = &["expired", "held", "not-tried-yet", "unreadable"];

#[derive(Clone, Copy, PartialEq)]
enum Fate {
    Final,
    Passing,
}

#[derive(Clone, Copy)]
struct Case {
    reason: &'static str,
    fate: Fate,
    words: &'static str,
}

#[track_caller]
fn text(dir: &TempDir, arguments: &[&str]) -> String {
    let output = merpati(dir, arguments);
    let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
    format!("{}{}", text(&output.stdout), text(&output.stderr))
}

/// What the reference says of each reason.
fn reference() -> BTreeMap<String, String> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/reference/advice.md");
    let pages = std::fs::read_to_string(path).unwrap();
    let parts = pages.split("\n## `").skip(1).map(|part| part.split_once("`\n").unwrap());
    parts.map(|(id, told)| (id.to_owned(), told.trim().to_owned())).collect()
}

/// The first recipient in the story of this message.
#[track_caller]
fn recipient(dir: &TempDir, id: &str) -> Value {
    jsonl(dir, &["trace", id])[0]["recipients"][0].clone()
}

/// The same once it is in this state.
#[track_caller]
fn in_state(dir: &TempDir, id: &str, state: &str) -> Value {
    until(state, || Some(recipient(dir, id)).filter(|told| told["state"] == state))
}

#[track_caller]
fn starts(whole: &Value, sentence: &str) {
    assert!(whole["sentence"].as_str().unwrap().starts_with(sentence), "{sentence}: {whole}");
}

/// A relay with hosts, names and rules that bring all of these about.
struct World {
    _net: Internet,
    sender: Host,
    _hosts: Vec<Host>,
    _silent: TcpListener,
    dir: TempDir,
    relay: Relay,
}

impl World {
    fn new() -> Self {
        let (net, dir) = (Internet::new(), tempfile::tempdir().unwrap());
        let (sender, host, ascii) = (net.host(3), net.host(2), net.host(5));
        let mut hosts = Vec::new();
        // Each its own: what some of them say is about all that goes there.
        for (last, (reason, reply, ..)) in (10..).zip(REPLIES) {
            net.set(&format!("{reason}.example"), &[&format!("A ${last}")]);
            let host = net.host(last);
            host.answers(&format!("x@{reason}.example"), reply);
            hosts.push(host);
        }
        host.cuts_after("cut@b.example");
        ascii.lacks_smtputf8();
        hosts.extend([host, ascii]);
        let silent = TcpListener::bind((net.ip(6), net.port)).unwrap();
        for (name, record) in [
            ("a.example", "A $3"),
            ("b.example", "A $2"),
            ("clear.example", "A $2"),
            ("gone.example", "A $4"),
            ("ascii.example", "A $5"),
            ("silent.example", "A $6"),
            ("servfail.example", "SERVFAIL"),
            ("null.example", "MX 0 ."),
        ] {
            net.set(name, &[record]);
        }
        let relay = net.relay(
            &dir,
            &[
                "retry.first_wait=1 s",
                "retry.longest_wait=1 s",
                "retry.delay_report_after=1 s",
                "delivery.greeting_wait=1 s",
                "route.no.to=refuse this domain is closed",
                "route.no.recipient_domains=closed.example",
                "route.protected.to=mx",
                "route.protected.tls=required",
                "route.protected.recipient_domains=clear.example",
                "route.mx.recipient_below=example",
            ],
        );
        Self { _net: net, sender, _hosts: hosts, _silent: silent, dir, relay }
    }

    /// What is so before the end: in the queue, the story and the log.
    #[track_caller]
    fn waits(&self, id: &str, reason: &str, reference: &str) {
        let dir = &self.dir;
        let view = until(reason, || {
            let view = jsonl(dir, &["queue", "ls", id]).pop();
            view.filter(|view| view["reason"]["id"] == reason && view["status"] == "waiting")
        });
        let sentence = view["reason"]["sentence"].as_str().unwrap();
        assert!(reference.starts_with(sentence), "{reason}: {sentence} {reference}");
        let shown = text(dir, &["queue", "show", id]);
        assert!(shown.contains(sentence), "{reason}: {shown}");
        assert!(view["reason"]["advice"].as_str().is_some_and(|advice| !advice.is_empty()));
        // A moment before, an attempt may have gone on.
        starts(&in_state(dir, id, "waiting"), sentence);
        self.is_logged(id, reason, sentence);
    }

    #[track_caller]
    fn fails(&self, id: &str, reason: &str, reference: &str) {
        let end = in_state(&self.dir, id, "failed");
        let line = self.attempted(id, reason);
        let sentence = line["outcomes"][0]["sentence"].as_str().unwrap();
        assert!(reference.starts_with(sentence), "{reason}: {sentence} {reference}");
        assert!(end["sentence"].as_str().unwrap().contains(sentence), "{end}");
        assert!(end["advice"].as_str().is_some_and(|advice| reference.ends_with(advice)), "{end}");
    }

    #[track_caller]
    fn is_logged(&self, id: &str, reason: &str, sentence: &str) {
        assert_eq!(self.attempted(id, reason)["outcomes"][0]["sentence"], sentence, "{reason}");
    }

    /// The line of an attempt at this message that ended for this reason.
    #[track_caller]
    fn attempted(&self, id: &str, reason: &str) -> Value {
        let is_it = |line: &Value| {
            line["event"] == "Attempted"
                && line["id"] == id
                && line["outcomes"][0]["class"] == reason
        };
        self.relay.wait_for(is_it).unwrap_or_else(|| panic!("{reason}"))
    }
}

#[test]
fn each_reason_is_told_alike_in_queue_and_trace_and_log_and_to_the_sender() {
    let world = World::new();
    let reference = reference();
    let mut smtp = client(&world.relay);
    let mut cases: Vec<(String, String, Case)> = Vec::new();
    let replies = REPLIES.iter().map(|&(reason, _, fate, words)| {
        (format!("x@{reason}.example"), Case { reason, fate, words })
    });
    let others = OTHERS
        .iter()
        .map(|&(reason, to, fate, words)| (to.to_owned(), Case { reason, fate, words }));
    for (to, case) in replies.chain(others) {
        let id = send(&mut smtp, "ani@a.example", &[&to]);
        cases.push((to, id, case));
    }
    let reasons = cases.iter().map(|(_, _, case)| case.reason);
    let told: BTreeSet<&str> = reasons.chain(APART.iter().copied()).collect();
    assert_eq!(told, reference.keys().map(String::as_str).collect(), "one case for each reason");
    for (_, id, Case { reason, fate, .. }) in &cases {
        match fate {
            Fate::Final => world.fails(id, reason, &reference[*reason]),
            Fate::Passing => world.waits(id, reason, &reference[*reason]),
        }
    }
    let reports = world.sender.wait_for(cases.len());
    for (to, _, Case { reason, fate, words }) in &cases {
        // A sentence may go over a line.
        let on = |report: &&Mail| report.content.contains(&format!("; {to}\r\n"));
        let report = &reports.iter().find(on).unwrap_or_else(|| panic!("{reason}")).content;
        let report = report.split_whitespace().collect::<Vec<_>>().join(" ");
        let action = if *fate == Fate::Final { "Action: failed" } else { "Action: delayed" };
        assert!(report.contains(action) && report.contains(words), "{reason}: {report}");
    }
}

#[test]
fn what_was_never_tried_says_which_limit_it_waits_for() {
    let (net, dir) = (Internet::new(), tempfile::tempdir().unwrap());
    let host = net.host(2);
    net.set("b.example", &["A $2"]);
    host.shut_gate();
    let relay = net.relay(&dir, &["route.mx.connections_max=1"]);
    let mut smtp = client(&relay);
    send(&mut smtp, "ani@a.example", &["first@b.example"]);
    host.wait_at_gate(1);
    let id = send(&mut smtp, "ani@a.example", &["second@b.example"]);
    let sentence = "It is due and waits for a limit: connections-per-next-hop, all in use.";
    until("the limit", || {
        let view = jsonl(&dir, &["queue", "ls", &id]).pop()?;
        (view["reason"]["sentence"] == sentence).then_some(())
    });
    starts(&recipient(&dir, &id), sentence);
    let shown = text(&dir, &["queue", "show", &id]);
    assert!(shown.contains(sentence) && shown.contains("Nothing to do"), "{shown}");
    host.open_gate();
    in_state(&dir, &id, "delivered");
}

#[test]
fn what_an_operator_holds_and_cancels_says_so_everywhere() {
    let world = World::new();
    let id = send(&mut client(&world.relay), "ani@a.example", &["x@gone.example"]);
    let logged = |event: &str| {
        world.relay.wait_for(|line| line["event"] == event && line["id"] == *id).unwrap()
    };
    assert!(
        merpati(&world.dir, &["queue", "hold", &id, "--why", "we look at it"]).status.success()
    );
    let sentence = "Held by operator: we look at it.";
    starts(&in_state(&world.dir, &id, "held"), sentence);
    let shown = text(&world.dir, &["queue", "show", &id]);
    assert!(shown.contains(sentence) && shown.contains("queue release"), "{shown}");
    assert_eq!(logged("Held")["sentence"], sentence);
    assert!(merpati(&world.dir, &["queue", "cancel", &id]).status.success());
    let sentence = "An operator gave it up.";
    starts(&in_state(&world.dir, &id, "cancelled"), sentence);
    assert_eq!(logged("Cancelled")["sentence"], sentence);
}

/// Who would be told of it stands in what cannot be read: there is no report.
#[test]
fn what_the_spool_cannot_give_waits_with_its_reason() {
    let world = World::new();
    let mut smtp = client(&world.relay);
    smtp.say("MAIL FROM:<ani@a.example>", "250");
    smtp.say("RCPT TO:<x@gone.example>", "250");
    smtp.say("DATA", "354");
    let line = [&[b'x'; 70][..], b"\r\n"].concat();
    smtp.send(&[b"Subject: large\r\n\r\n", &line.repeat(8_000)[..], b".\r\n"].concat());
    let id = queued_as(&smtp.reply()).unwrap();
    // Whatever serves the disk has lost it.
    let bodies = data_dir(&world.dir).join("spool/bodies");
    std::fs::remove_file(bodies.join(&id)).unwrap();
    world.waits(&id, "unreadable", &reference()["unreadable"]);
    let shown = text(&world.dir, &["queue", "show", &id]);
    assert!(shown.contains("the content cannot be read: cannot open"), "{shown}");
    // Its envelope is there, so it is found by that, too.
    let cancel = ["queue", "cancel", "to:x@gone.example"];
    assert!(merpati(&world.dir, &cancel).status.success());
    in_state(&world.dir, &id, "cancelled");
}
