//! What an operator sees of mail that waits and does to it: the commands of `merpati queue` against
//! a real relay, over its control socket.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
#![allow(missing_docs)]

mod common;

use std::process::Output;

use common::{
    Relay,
    internet::{Internet, client, jsonl, merpati, send, until},
};
use serde_json::Value;
use tempfile::TempDir;

/// What a command printed, and with which code it ended.
fn said(output: &Output) -> (i32, String, String) {
    let text = |octets: &[u8]| String::from_utf8(octets.to_vec()).unwrap();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

/// Runs a command of the queue; it must end with this code and print this line alone.
#[track_caller]
fn check(dir: &TempDir, arguments: &[&str], code: i32, line: &str) {
    let (got, out, err) = said(&merpati(dir, &[&["queue"], arguments].concat()));
    let all = format!("{out}{err}");
    assert!(got == code && all == format!("{line}\n"), "{arguments:?}: {got}: {all}");
}

/// The same for a failure, whose text must have this in it.
#[track_caller]
fn refused(dir: &TempDir, arguments: &[&str], code: i32, part: &str) {
    let (got, out, err) = said(&merpati(dir, &[&["queue"], arguments].concat()));
    assert!(
        got == code && out.is_empty() && err.contains(part),
        "{arguments:?}: {got}: {out}{err}"
    );
}

fn list(dir: &TempDir, selection: &[&str]) -> Vec<Value> {
    jsonl(dir, &[&["queue", "ls"], selection].concat())
}

/// Waits until this message was tried so often, and waits again.
#[track_caller]
fn deferred(relay: &Relay, id: &str, attempt: u64) {
    let fits = |line: &Value| {
        line["event"] == "Attempted" && line["id"] == *id && line["attempt"] == attempt
    };
    let line = relay.wait_for(fits).unwrap();
    assert_eq!(line["outcomes"][0]["outcome"], "Deferred", "{line}");
}

#[track_caller]
fn ended(relay: &Relay, id: &str) {
    relay.wait_for(|line| line["event"] == "Retired" && line["id"] == *id).unwrap();
}

#[test]
fn a_waiting_delivery_tells_its_reason_and_is_retried_until_its_host_is_there() {
    let (net, dir) = (Internet::new(), tempfile::tempdir().unwrap());
    net.set("b.example", &["MX 10 h2.example"]);
    net.set("h2.example", &["A $2"]);
    let relay = net.relay(&dir, &[]);
    check(&dir, &["ls"], 0, "nothing waits");
    let id = send(&mut client(&relay), "ani@a.example", &["budi@b.example"]);
    deferred(&relay, &id, 1);
    let delivery = &list(&dir, &[])[0];
    for (pointer, want) in [
        ("/id", format!("{id}.0").into()),
        ("/message", id.clone().into()),
        ("/recipient_number", 0.into()),
        ("/status", "waiting".into()),
        ("/attempts", 1.into()),
        ("/reason/id", "connection".into()),
        ("/reason/code", 421.into()),
        ("/envelope_from", "ani@a.example".into()),
        ("/envelope_to", "budi@b.example".into()),
        ("/listener", "mx".into()),
        ("/route/rule", "mx".into()),
        ("/hold", Value::Null),
    ] {
        assert_eq!(delivery.pointer(pointer), Some(&want), "{pointer}: {delivery}");
    }
    assert!((200..=300).contains(&delivery["next_in_seconds"].as_u64().unwrap()), "{delivery}");
    let (code, table, _) = said(&merpati(&dir, &["queue", "ls"]));
    for part in ["REASON", "NEXT", &format!("{id}.0"), "connection (421)", "budi@b.example", "(in "]
    {
        assert!(code == 0 && table.contains(part), "{part}: {table}");
    }
    // The whole id, that of a delivery, and what is enough of it.
    for name in [&id, &format!("{id}.0"), &id[..12]] {
        let (code, text, err) = said(&merpati(&dir, &["queue", "show", name]));
        for part in ["Subject", "a letter", "client.example", "connection (421): ", "to do", "next"]
        {
            assert!(code == 0 && text.contains(part), "{name}: {part}: {text}{err}");
        }
        let shown = &jsonl(&dir, &["queue", "show", name])[0];
        assert_eq!(shown["deliveries"][0]["id"], format!("{id}.0"), "{shown}");
    }
    let top = &jsonl(&dir, &["top", "-n", "1"])[0];
    assert_eq!((&top["reasons"]["connection"], &top["waiting"]), (&1.into(), &1.0.into()), "{top}");
    check(&dir, &["retry", &id], 0, "1 delivery of 1 message tried now");
    deferred(&relay, &id, 2);
    let host = net.host(2);
    check(&dir, &["retry", &format!("{id}.0")], 0, "1 delivery of 1 message tried now");
    assert_eq!(host.wait_for(1)[0].to, ["budi@b.example"]);
    ended(&relay, &id);
    check(&dir, &["ls"], 0, "nothing waits");
}

#[test]
fn a_retry_asks_dns_again_once_its_failure_is_forgotten() {
    let (net, dir) = (Internet::new(), tempfile::tempdir().unwrap());
    let host = net.host(2);
    net.set("b.example", &["SERVFAIL"]);
    let relay = net.relay(&dir, &[]);
    let id = send(&mut client(&relay), "a@a.example", &["user@b.example"]);
    deferred(&relay, &id, 1);
    assert_eq!(list(&dir, &[])[0]["reason"]["id"], "dns");
    net.set("b.example", &["A $2"]);
    until("the message", || {
        let retried = merpati(&dir, &["queue", "retry", "reason:dns"]);
        assert!(retried.status.success());
        (!host.mails().is_empty()).then_some(())
    });
    ended(&relay, &id);
}

#[test]
fn what_is_held_waits_through_retries_and_a_restart_until_it_is_released() {
    let (net, dir) = (Internet::new(), tempfile::tempdir().unwrap());
    net.set("b.example", &["A $2"]);
    let relay = net.relay(&dir, &[]);
    let id = send(&mut client(&relay), "a@a.example", &["user@b.example"]);
    deferred(&relay, &id, 1);
    let passed = "0 deliveries of 0 messages";
    check(&dir, &["release", &id], 0, &format!("released {passed}; 1 passed over: not held"));
    let hold = ["hold", &id, "--why", "who is this?"];
    check(&dir, &hold, 0, "held 1 delivery of 1 message");
    check(&dir, &hold, 0, &format!("held {passed}; 1 passed over: held already"));
    let still_held = |dir: &TempDir| {
        let delivery = &list(dir, &["status:held"])[0];
        assert_eq!(delivery["id"], format!("{id}.0"), "{delivery}");
        assert_eq!(delivery["reason"]["sentence"], "Held by operator: who is this?", "{delivery}");
        assert!(delivery["next_at"].is_null(), "{delivery}");
        let (_, table, _) = said(&merpati(dir, &["queue", "ls"]));
        assert!(table.contains("when somebody acts"), "{table}");
    };
    still_held(&dir);
    let host = net.host(2);
    let not_now = format!("{passed} tried now; 1 passed over: held, or being tried");
    check(&dir, &["retry", &id], 0, &not_now);
    relay.kill();
    let relay = net.relay(&dir, &[]);
    still_held(&dir);
    assert!(host.mails().is_empty());
    check(&dir, &["release", "--all", "--dry-run"], 0, "would release 1 delivery of 1 message");
    still_held(&dir);
    check(&dir, &["release", "--all"], 0, "released 1 delivery of 1 message");
    host.wait_for(1);
    ended(&relay, &id);
}

#[test]
fn an_attempt_under_way_ends_by_itself_whatever_an_operator_does() {
    let (net, dir) = (Internet::new(), tempfile::tempdir().unwrap());
    let host = net.host(2);
    net.set("b.example", &["A $2"]);
    let relay = net.relay(&dir, &[]);
    host.shut_gate();
    let mut smtp = client(&relay);
    let held = send(&mut smtp, "a@a.example", &["held@b.example"]);
    let cancelled = send(&mut smtp, "a@a.example", &["cancelled@b.example"]);
    host.wait_at_gate(2);
    for one in list(&dir, &[]) {
        assert_eq!((&one["status"], &one["attempts"]), (&"attempting".into(), &0.into()), "{one}");
        assert_eq!(one["reason"]["sentence"], "An attempt goes on now.", "{one}");
    }
    let trying = "0 deliveries of 0 messages tried now; 1 passed over: held, or being tried";
    check(&dir, &["retry", &held], 0, trying);
    check(&dir, &["hold", &held], 0, "held 1 delivery of 1 message");
    let gone = "cancelled 1 delivery of 1 message; no DSN is sent";
    check(&dir, &["cancel", &cancelled], 0, gone);
    refused(&dir, &["show", &cancelled], 1, "no message in the queue is called");
    host.open_gate();
    ended(&relay, &held);
    host.wait_for(2);
    check(&dir, &["ls"], 0, "nothing waits");
}

#[test]
fn what_is_cancelled_is_gone_without_a_report() {
    let (net, dir) = (Internet::new(), tempfile::tempdir().unwrap());
    let reports = net.host(9);
    net.set("a.example", &["A $9"]);
    net.set("b.example", &["A $2"]);
    let relay = net.relay(&dir, &[]);
    let mut smtp = client(&relay);
    let two = send(&mut smtp, "me@a.example", &["one@b.example", "two@b.example"]);
    let one = send(&mut smtp, "me@a.example", &["three@b.example"]);
    for id in [&two, &one] {
        deferred(&relay, id, 1);
    }
    let second = format!("{two}.1");
    check(&dir, &["cancel", &second], 0, "cancelled 1 delivery of 1 message; no DSN is sent");
    let shown = &jsonl(&dir, &["queue", "show", &two])[0];
    assert_eq!(shown["finished"], serde_json::json!(["two@b.example"]), "{shown}");
    assert_eq!(list(&dir, &[&two]).len(), 1);
    // More than one message wants a word, which nobody can give here.
    let would = "would cancel 2 deliveries of 2 messages";
    refused(&dir, &["cancel", "domain:b.example"], 2, &format!("{would}\nhelp: say --yes"));
    check(&dir, &["cancel", "--all", "--dry-run"], 0, would);
    assert_eq!(list(&dir, &[]).len(), 2);
    let all = ["cancel", "domain:b.example", "--yes"];
    check(&dir, &all, 0, "cancelled 2 deliveries of 2 messages; no DSN is sent");
    for id in [&two, &one] {
        ended(&relay, id);
        refused(&dir, &["show", id], 1, &format!("no message in the queue is called `{id}`"));
    }
    // Whatever there was for this host would have come before.
    send(&mut smtp, "", &["me@a.example"]);
    let mails = reports.wait_for(1);
    assert_eq!(mails.len(), 1);
    assert!(mails[0].content.contains("Subject: a letter"), "{}", mails[0].content);
    until("the end of the queue", || list(&dir, &[]).is_empty().then_some(()));
}

#[test]
fn what_waits_for_a_host_that_is_gone_is_led_another_way_also_after_a_restart() {
    let (net, dir) = (Internet::new(), tempfile::tempdir().unwrap());
    net.set("b.example", &["A $2"]);
    let backup = net.host(3);
    let to = format!("route.backup.to=smtp://$3:{}", net.port);
    let settings = ["route.backup.recipient_domains=never.example", &to];
    let relay = net.relay(&dir, &settings);
    let mut smtp = client(&relay);
    let first = send(&mut smtp, "me@a.example", &["one@b.example", "two@b.example"]);
    let held = send(&mut smtp, "me@a.example", &["three@b.example"]);
    for id in [&first, &held] {
        deferred(&relay, id, 1);
    }
    check(&dir, &["hold", &held], 0, "held 1 delivery of 1 message");
    let one = format!("{first}.0");
    let to = ["--to", "backup"];
    refused(&dir, &["reroute", &one, "--to", "bakup"], 2, "is `backup` meant?");
    let would = "would reroute 3 deliveries of 2 messages";
    check(&dir, &["reroute", "--all", "--dry-run", to[0], to[1]], 0, would);
    let done = "1 delivery of 1 message led by the route backup";
    check(&dir, &["reroute", &one, to[0], to[1]], 0, done);
    assert_eq!(backup.wait_for(1)[0].to, ["one@b.example"]);
    check(&dir, &["reroute", &held, to[0], to[1]], 0, done);
    let (_, shown, _) = said(&merpati(&dir, &["queue", "show", &held]));
    assert!(shown.contains("(rule backup, chosen by an operator)"), "{shown}");
    let other = &list(&dir, &[&first])[0];
    let route = (&other["envelope_to"], &other["route"]["rule"], &other["is_rerouted"]);
    assert_eq!(route, (&"two@b.example".into(), &"mx".into(), &false.into()), "{other}");
    assert!(relay.stop().success());
    let relay = net.relay(&dir, &settings);
    check(&dir, &["release", &held], 0, "released 1 delivery of 1 message");
    ended(&relay, &held);
    assert_eq!(backup.wait_for(2)[1].to, ["three@b.example"]);
    let (_, trace, _) = said(&merpati(&dir, &["trace", &held]));
    assert!(trace.contains("An operator led it another way: by the route backup."), "{trace}");
}

#[test]
fn a_selection_selects_by_what_an_operator_sees() {
    let (net, dir) = (Internet::new(), tempfile::tempdir().unwrap());
    net.set("b.example", &["A $2"]);
    net.set("sub.b.example", &["A $2"]);
    net.set("dns.example", &["SERVFAIL"]);
    let relay = net.relay(&dir, &[]);
    let mut smtp = client(&relay);
    let mut ids = Vec::new();
    for (from, to) in [
        ("ani@shop.example", &["one@b.example", "two@dns.example"][..]),
        ("budi@bank.example", &["three@sub.b.example"]),
        ("", &["four@b.example"]),
    ] {
        ids.push(send(&mut smtp, from, to));
    }
    relay.wait_for_all(4, |line| line["event"] == "Attempted");
    check(&dir, &["hold", &ids[1]], 0, "held 1 delivery of 1 message");
    check(&dir, &["retry", &ids[2]], 0, "1 delivery of 1 message tried now");
    deferred(&relay, &ids[2], 2);
    let delivery = format!("{}.1", ids[0]);
    for (selection, want) in [
        (&[][..], &["one", "two", "three", "four"][..]),
        (&["from:ani@shop.example"], &["one", "two"]),
        (&["to:three"], &["three"]),
        (&["domain:b.example"], &["one", "three", "four"]),
        (&["domain:b.example", "!domain:sub.b.example"], &["one", "four"]),
        (&["reason:dns"], &["two"]),
        (&["reason:connection"], &["one", "four"]),
        (&["status:held"], &["three"]),
        (&["status:waiting", "from:shop"], &["one", "two"]),
        (&["attempts>1"], &["four"]),
        (&["attempts<2", "!status:held"], &["one", "two"]),
        (&["listener:mx", "size<1MiB", "age<1h"], &["one", "two", "three", "four"]),
        (&["age>1h"], &[]),
        (&["size>1MiB"], &[]),
        (&["before:2020-01-01"], &[]),
        (&["bank"], &["three"]),
        (&[&ids[0]], &["one", "two"]),
        (&[&delivery], &["two"]),
        (&[&ids[1], &delivery], &["two", "three"]),
        (&["-n", "2"], &["one", "two"]),
    ] {
        let found = list(&dir, selection);
        let name = |one: &Value| {
            let to = one["envelope_to"].as_str().unwrap();
            to.split_once('@').unwrap().0.to_owned()
        };
        assert_eq!(found.iter().map(name).collect::<Vec<_>>(), want, "{selection:?}");
    }
    let (code, table, more) = said(&merpati(&dir, &["queue", "ls", "-n", "2"]));
    assert!(code == 0 && more.contains("2 shown, more follow"), "{table}{more}");
    let (_, table, _) = said(&merpati(&dir, &["queue", "ls", "to:four"]));
    assert!(table.contains("<>"), "{table}");
    check(&dir, &["ls", "status:attempting"], 0, "nothing is selected");
    let which = ["hold", "domain:b.example", "!status:held", "--dry-run"];
    check(&dir, &which, 0, "would hold 2 deliveries of 2 messages");
}

#[test]
fn a_mistake_is_told_and_changes_nothing() {
    let (net, dir) = (Internet::new(), tempfile::tempdir().unwrap());
    net.set("b.example", &["A $2"]);
    let relay = net.relay(&dir, &[]);
    let id = send(&mut client(&relay), "a@a.example", &["user@b.example"]);
    deferred(&relay, &id, 1);
    let missing = "028T5CY4TQKFF";
    let unknown = format!("no message in the queue is called `{missing}`");
    for verb in ["retry", "hold", "release", "cancel", "show"] {
        refused(&dir, &[verb, missing], 1, &unknown);
    }
    refused(&dir, &["show", "nobody"], 1, "no message in the queue is called `nobody`");
    for verb in ["retry", "hold", "release", "cancel"] {
        refused(&dir, &[verb], 2, "ID|SELECTION");
        refused(&dir, &[verb, "--all", &id], 2, "--all");
        refused(&dir, &[verb, "colour:red"], 2, "colour");
    }
    refused(&dir, &["reroute", &id], 2, "--to");
    refused(&dir, &["reroute", &id, "--to", "mx", "--by-rules"], 2, "--by-rules");
    refused(&dir, &["reroute", missing, "--to", "mx"], 1, &unknown);
    refused(&dir, &["ls", "staus:held"], 2, "status:");
    refused(&dir, &["ls", "age>old"], 2, "age");
    refused(&dir, &["hold", &id, "--why", "two\nlines"], 2, "one line");
    assert_eq!(list(&dir, &[])[0]["status"], "waiting");
    // What is there is done, and what is not there is told.
    let (code, out, err) = said(&merpati(&dir, &["queue", "hold", &id, missing]));
    assert_eq!((code, out.as_str()), (1, "held 1 delivery of 1 message\n"), "{err}");
    assert!(err.contains(&unknown), "{err}");
    assert_eq!(list(&dir, &[])[0]["status"], "held");
    assert!(relay.stop().success());
    for arguments in [&["ls"][..], &["show", &id], &["retry", &id], &["cancel", &id]] {
        refused(&dir, arguments, 69, "no relay answers at ");
    }
}
