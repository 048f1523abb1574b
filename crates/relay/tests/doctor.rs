//! What `doctor` and `/v1/health` find out about a host: with real sockets, and a name server and
//! next hops that are as the test wants.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
#![allow(missing_docs)]

mod common;

use std::net::TcpListener;

use common::{
    data_dir,
    internet::{Internet, merpati},
};
use serde_json::Value;

/// The grade of each check of this name, with what it is about.
fn grades(findings: &[Value], check: &str) -> Vec<String> {
    let of_check = findings.iter().filter(|finding| finding["check"] == check);
    of_check.map(|finding| finding["grade"].as_str().unwrap().to_owned()).collect()
}

/// What all of these say of the host: an egress, one receiver to reach, nobody else to ask.
fn settings(net: &Internet) -> Vec<String> {
    vec![
        format!("egress.default.addresses={}", net.ip(250)),
        "health.reach=b.example".to_owned(),
        "health.lists=".to_owned(),
        "health.time_server=off".to_owned(),
        "relay.local_domains=ours.example".to_owned(),
        "route.ours.recipient_domains=ours.example".to_owned(),
    ]
}

/// `merpati doctor` with these settings besides; what it says, what it complains of, and its code.
fn doctor(
    net: &Internet,
    dir: &tempfile::TempDir,
    more: &[&str],
    format: &[&str],
) -> (String, String, i32) {
    let mut sets = vec![
        format!("server.data_dir={}", data_dir(dir).display()),
        "server.hostname=mx.ours.example".to_owned(),
        "listener.mx.kind=relay".to_owned(),
        "listener.mx.listen=127.0.0.1:0".to_owned(),
        format!("dns.servers={}", net.address()),
        "dns.query_wait=250 ms".to_owned(),
        format!("delivery.port={}", net.port),
        format!("delivery.allow_networks={}/24", net.ip(0)),
    ];
    sets.extend(settings(net));
    let mut arguments = vec!["doctor"];
    for set in sets.iter().map(String::as_str).chain(more.iter().copied()).chain(["route.mx.to=mx"])
    {
        arguments.extend(["--set", set]);
    }
    let output = merpati(dir, &[arguments.as_slice(), format].concat());
    let [said, complaint] = [output.stdout, output.stderr].map(|it| String::from_utf8(it).unwrap());
    (said, complaint, output.status.code().unwrap())
}

#[test]
fn a_host_is_looked_at_by_the_relay_and_by_the_command() {
    let (net, dir) = (Internet::new(), tempfile::tempdir().unwrap());
    let _host = net.host(2);
    net.set("mx.ours.example", &["A 192.0.2.1"]);
    net.set("b.example", &["MX 10 mx.b.example"]);
    net.set("mx.b.example", &["A $2"]);
    let hop = format!("route.ours.to=smtp://{}:{}", net.ip(2), net.port);
    let settings = settings(&net);
    let all: Vec<&str> = settings.iter().map(String::as_str).chain([hop.as_str()]).collect();
    let relay = net.relay(&dir, &all);
    let health = relay.get_json("/v1/health");
    let findings = health["findings"].as_array().unwrap();
    for (check, want) in [
        ("name", "good"),
        // Others do not see an address of loopback.
        ("source", "unknown"),
        ("port-25", "good"),
        ("next-hop", "good"),
        ("resolver", "unknown"),
        ("disk", "good"),
        ("open-relay", "good"),
        // Nothing is signed.
        ("domain", "warning"),
    ] {
        assert_eq!(grades(findings, check), [want], "{check}: {health:#}");
    }
    assert_eq!(health["grade"], "warning", "{health:#}");
    // What was found is told again for a while.
    assert_eq!(relay.get_json("/v1/health")["at"], health["at"]);

    let (said, complaint, code) = doctor(&net, &dir, &[&hop], &["-o", "jsonl"]);
    let lines: Vec<Value> = said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((grades(&lines, "relay"), code), (vec!["good".to_owned()], 0), "{said}{complaint}");
    assert_eq!(grades(&lines, "port-25"), ["good"], "{said}");
}

#[test]
fn what_is_wrong_is_told_with_what_to_do() {
    let (net, dir) = (Internet::new(), tempfile::tempdir().unwrap());
    net.set("b.example", &["MX 10 mx.b.example"]);
    net.set("mx.b.example", &["A $3"]);
    // Nobody accepts there: the system takes the connection, and nothing greets.
    let silent = TcpListener::bind((net.ip(3), net.port)).unwrap();
    let hop = format!("route.ours.to=smtp://{}:{}", net.ip(4), net.port);
    let bad = [hop.as_str(), "relay.networks=192.0.2.0/24", "health.wait=2 s"];
    let (said, complaint, code) = doctor(&net, &dir, &bad, &["-q"]);
    assert_eq!(code, 1, "{said}{complaint}");
    for words in [
        "it does not run",
        "DNS has no address for it",
        "it does not answer",
        "may send from <> to <u@elsewhere.example>",
        "set server.hostname to a name that DNS leads to this host",
        "start it, or correct route.to",
        "closed until they are asked to open it",
        "merpati domain add NAME",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    assert!(!said.contains("good  "), "{said}");
    drop(silent);
    // A resolver that says nothing is late itself.
    let deaf = std::net::UdpSocket::bind((net.ip(5), 0)).unwrap();
    let dns = format!("dns.servers={}", deaf.local_addr().unwrap());
    let more = [hop.as_str(), "health.wait=1 s", "dns.query_wait=5 s", dns.as_str()];
    let (said, complaint, code) = doctor(&net, &dir, &more, &["-q"]);
    assert!(code == 1 && said.contains("it does not answer: not within 1 s"), "{said}{complaint}");
}
