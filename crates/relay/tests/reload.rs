//! Another configuration while mail goes on: by signal and by command.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
#![allow(missing_docs)]

mod common;

use std::{fs, net::TcpStream};

use common::{
    Relay, Smtp, data_dir,
    internet::{Internet, client, jsonl, merpati, send, until},
};
use serde_json::Value;
use tempfile::TempDir;

/// Writes the file that the relay of this folder reads.
fn write(dir: &TempDir, text: &str) {
    fs::write(data_dir(dir).with_extension("toml"), text).unwrap();
}

/// Has the relay read it; it must say this, and end with this code.
#[track_caller]
fn reload(dir: &TempDir, code: i32, part: &str) {
    let output = merpati(dir, &["reload"]);
    let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
    let said = text(&output.stdout) + &text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{said}");
    assert!(said.contains(part), "{part}: {said}");
}

/// What a client is told about a recipient.
#[track_caller]
fn asked(smtp: &mut Smtp<TcpStream>, to: &str) -> String {
    smtp.say("MAIL FROM:<ani@a.example>", "250");
    smtp.send(format!("RCPT TO:<{to}>\r\n").as_bytes());
    let reply = smtp.reply();
    smtp.say("RSET", "250");
    reply
}

fn strict(net: &Internet, dir: &TempDir) -> Relay {
    net.relay(dir, &["relay.networks=192.0.2.0/24"])
}

#[test]
fn who_connects_from_now_on_is_judged_anew_and_who_is_connected_is_not() {
    let (net, dir) = (Internet::new(), tempfile::tempdir().unwrap());
    write(&dir, "[relay]\nlocal_domains = [\"ours.example\"]\n");
    let relay = strict(&net, &dir);
    let mut before = client(&relay);
    assert!(asked(&mut before, "x@new.example").starts_with("550"));
    write(&dir, "[relay]\nlocal_domains = [\"ours.example\", \"new.example\"]\n");
    reload(&dir, 0, "reloaded; changed: relay.local_domains");
    assert!(asked(&mut before, "x@new.example").starts_with("550"));
    assert!(asked(&mut client(&relay), "x@new.example").starts_with("250"));
    // By signal as well; the log tells of each.
    write(&dir, "[relay]\nlocal_domains = [\"ours.example\"]\n");
    relay.signal("HUP");
    let told = |line: &Value| line["event"] == "Reloaded";
    let lines = relay.wait_for_all(2, told);
    assert_eq!(lines[1]["changed"], serde_json::json!(["relay.local_domains"]), "{lines:?}");
    assert!(asked(&mut client(&relay), "x@new.example").starts_with("550"));
    reload(&dir, 0, "no option has changed");
}

#[test]
fn an_invalid_file_changes_nothing_and_says_why() {
    let (net, dir) = (Internet::new(), tempfile::tempdir().unwrap());
    write(&dir, "[relay]\nlocal_domains = [\"ours.example\"]\n");
    let relay = strict(&net, &dir);
    for (text, part) in [
        ("[relay]\nlocal_domians = [\"x.example\"]\n", "did you mean `local_domains`?"),
        (
            "[relay]\nlocal_domains = [\"x.example\"]\n[[route]]\nname = \"r\"\nto = \"smtp://\"\n",
            "data.toml:5",
        ),
        ("[relay\n", "data.toml:1"),
    ] {
        write(&dir, text);
        reload(&dir, 78, part);
        assert!(asked(&mut client(&relay), "x@x.example").starts_with("550"), "{text}");
        assert!(asked(&mut client(&relay), "x@ours.example").starts_with("250"), "{text}");
    }
    // An address that somebody else has: what is found out by trying changes nothing either.
    let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = other.local_addr().unwrap();
    write(
        &dir,
        &format!(
            "[relay]\nlocal_domains = [\"x.example\"]\n[[listener]]\nname = \"two\"\n\
             kind = \"relay\"\nlisten = \"{taken}\"\n"
        ),
    );
    reload(&dir, 78, "cannot listen");
    assert!(asked(&mut client(&relay), "x@x.example").starts_with("550"));
    let refused = relay
        .wait_for(|line| line["refused"].as_str().is_some_and(|it| it.contains("cannot listen")));
    assert!(refused.is_some());
}

#[test]
fn listeners_come_and_go_while_others_stay() {
    let (net, dir) = (Internet::new(), tempfile::tempdir().unwrap());
    write(&dir, "");
    let relay = strict(&net, &dir);
    let mut stays = client(&relay);
    let two = "[[listener]]\nname = \"two\"\nkind = \"relay\"\nlisten = \"127.0.0.1:0\"\n";
    write(&dir, two);
    reload(&dir, 0, "listener.two.kind");
    let address = |dir: &TempDir| {
        let status = jsonl(dir, &["status"]).remove(0);
        let all = status["listeners"].as_array().unwrap().clone();
        let two = all.into_iter().find(|one| one["name"] == "two")?;
        two["address"].as_str().unwrap().parse::<std::net::SocketAddr>().ok()
    };
    let at = address(&dir).unwrap();
    let listening = fs::read_to_string(data_dir(&dir).join("listening")).unwrap();
    assert!(listening.contains(&format!("two {at}")), "{listening}");
    Smtp::connect(at).say("EHLO x", "250");
    // The same again keeps its port.
    reload(&dir, 0, "no option has changed");
    assert_eq!(address(&dir), Some(at));
    write(&dir, "");
    reload(&dir, 0, "listener.two.kind");
    assert_eq!(address(&dir), None);
    until("the socket is closed", || TcpStream::connect(at).is_err().then_some(()));
    stays.say("NOOP", "250");
    write(&dir, "[spool]\njournal_max = \"9 GiB\"\n");
    reload(&dir, 0, "these hold with the next start: spool.journal_max");
}

#[test]
fn what_waits_takes_the_new_way() {
    let (net, dir) = (Internet::new(), tempfile::tempdir().unwrap());
    let host = net.host(3);
    write(&dir, "");
    net.set("b.example", &["SERVFAIL"]);
    let relay = net.relay(&dir, &[]);
    let id = send(&mut client(&relay), "ani@a.example", &["budi@b.example", "citra@b.example"]);
    until("a reason", || (!jsonl(&dir, &["queue", "ls", "reason:dns"]).is_empty()).then_some(()));
    let place = host.at;
    write(
        &dir,
        &format!(
            "[[route]]\nname = \"direct\"\nrecipient_domains = [\"b.example\"]\n\
             to = \"smtp://{place}\"\n"
        ),
    );
    reload(&dir, 0, "route.direct.to");
    let shown = &jsonl(&dir, &["queue", "ls"])[0];
    assert_eq!(shown["route"]["rule"], "direct", "{shown}");
    assert!(merpati(&dir, &["queue", "retry", &id]).status.success());
    assert_eq!(host.wait_for(1)[0].to, ["budi@b.example", "citra@b.example"]);
    relay.wait_for(|line| line["event"] == "Retired" && line["id"] == *id).unwrap();
    // And what comes now goes there at once.
    send(&mut client(&relay), "ani@a.example", &["eka@b.example"]);
    host.wait_for(2);
}

#[test]
fn the_log_goes_on_in_another_file() {
    let (net, dir) = (Internet::new(), tempfile::tempdir().unwrap());
    let (first, second) = (dir.path().join("1.log"), dir.path().join("2.log"));
    write(&dir, "");
    let relay = strict(&net, &dir);
    write(&dir, &format!("[log]\nto = {first:?}\n"));
    reload(&dir, 0, "log.to");
    client(&relay).say("QUIT", "221");
    let holds = |path: &std::path::Path| {
        fs::read_to_string(path).unwrap_or_default().contains("\"SessionEnded\"").then_some(())
    };
    until("a line", || holds(&first));
    // As logrotate does it.
    fs::rename(&first, &second).unwrap();
    relay.signal("HUP");
    until("the new file", || {
        client(&relay).say("QUIT", "221");
        holds(&first)
    });
}
