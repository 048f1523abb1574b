//! Where mail goes by DNS: each kind of answer, right or wrong, with real sockets, a real relay,
//! and a name server that says what the test wants.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
#![allow(missing_docs)]

mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::{
    Relay,
    dns::Dns,
    internet::{Host, Internet, client, jsonl, merpati, send, until},
};
use hickory_resolver::proto::rr::RecordType;
use serde_json::Value;

/// What becomes of a message to a domain.
#[derive(Clone, Copy, Debug)]
enum Want {
    /// The host with this last number takes it.
    At(u8),
    /// It fails with this code, enhanced code and class, and a report says so.
    Fails(u16, &'static str, &'static str),
    /// It waits with this code, enhanced code and class.
    Waits(u16, &'static str, &'static str),
}

use Want::{At, Fails, Waits};

const DNS: Want = Waits(451, "4.4.3", "dns");
const UNREACHABLE: Want = Waits(421, "4.4.1", "connection");
const BAD_ADDRESS: Want = Fails(550, "5.4.4", "domain-unknown");
const LOOP: Want = Fails(554, "5.4.6", "loop");
const NULL_MX: Want = Fails(556, "5.1.10", "null-mx");
const UNKNOWN: Want = Fails(550, "5.1.2", "domain-unknown");

/// Names that the cases share. Hosts 2 to 5 take mail, 7 is an address where nobody listens.
const NAMES: &[(&str, &[&str])] = &[
    ("alias.example", &["CNAME h2.example"]),
    ("broken.example", &["SERVFAIL"]),
    ("dead.example", &["A $7"]),
    ("h2.example", &["A $2"]),
    ("h3.example", &["A $3"]),
    ("h4.example", &["A $4"]),
    ("localhost", &["A $2"]),
    ("mx.ours.example", &["A $3"]),
    ("mx_1.example", &["A $2"]),
    ("nowhere.example", &["TXT nothing else"]),
    ("ring.example", &["CNAME ring.ring.example"]),
    ("ring.ring.example", &["CNAME ring.example"]),
    ("self.example", &["A $250"]),
    ("sender.example", &["MX 10 reports.example"]),
    ("reports.example", &["A $9"]),
    ("silent.example", &["SILENCE"]),
    ("xn--mx-fka.example", &["A $2"]),
];

/// A name, the lines of the domain with that name, and what becomes of mail to it.
const CASES: &[(&str, &[&str], Want)] = &[
    // Which host.
    ("the-lowest-preference", &["MX 20 h3.example", "MX 10 h2.example", "MX 30 h4.example"], At(2)),
    ("next-host", &["MX 10 dead.example", "MX 20 h2.example"], At(2)),
    ("next-address", &["A $7", "A $8", "A $2"], At(2)),
    ("ipv6-is-broken", &["AAAA ::1", "A $2"], At(2)),
    ("a-host-twice", &["MX 30 h2.example", "MX 10 H2.example", "MX 20 h3.example"], At(2)),
    ("all-dead", &["MX 10 dead.example", "MX 20 dead.example"], UNREACHABLE),
    ("underscore", &["MX 10 mx_1.example"], At(2)),
    ("a-name-in-u-labels", &["MX 10 xn--mx-fka.example"], At(2)),
    ("ttl-zero", &["0 MX 10 h2.example", "0 A $3"], At(2)),
    ("ttl-negative", &["4294967295 MX 10 h2.example"], At(2)),
    // Implicit and null MX.
    ("implicit", &["A $2"], At(2)),
    ("implicit-without-soa", &["A $2", "MX BARE"], At(2)),
    ("implicit-half-known", &["A $2", "AAAA SERVFAIL"], At(2)),
    ("null", &["MX 0 ."], NULL_MX),
    ("null-at-any-preference", &["MX 10 .", "A $2"], NULL_MX),
    ("null-beside-others", &["MX 0 .", "MX 10 h2.example"], At(2)),
    // Nothing there.
    ("no-name", &[], UNKNOWN),
    ("no-host", &["TXT nothing else"], UNKNOWN),
    ("no-host-without-soa", &["BARE"], UNKNOWN),
    ("mx-to-no-name", &["MX 10 missing.example"], UNKNOWN),
    ("mx-to-no-address", &["MX 10 nowhere.example"], UNKNOWN),
    ("mx-never-leads-to-the-domain", &["MX 10 missing.example", "A $2"], UNKNOWN),
    ("mx-to-no-name-and-more", &["MX 10 missing.example", "MX 20 h2.example"], At(2)),
    // Aliases.
    ("alias-domain", &["CNAME the-lowest-preference.example"], At(2)),
    ("alias-to-no-name", &["CNAME missing.example"], UNKNOWN),
    ("alias-to-no-host", &["CNAME nowhere.example"], UNKNOWN),
    ("alias-host", &["MX 10 alias.example"], At(2)),
    ("alias-ring", &["CNAME ring.example"], DNS),
    ("alias-ring-host", &["MX 10 ring.example"], DNS),
    ("alias-ring-and-more", &["MX 10 ring.example", "MX 20 h2.example"], At(2)),
    ("alias-chain", &["CNAME chain-1.example"], At(2)),
    ("alias-chain-host", &["MX 10 chain-1.example"], At(2)),
    // Names that no host has.
    ("mx-is-an-address", &["MX 10 127.0.0.1"], UNKNOWN),
    ("mx-is-an-address-and-more", &["MX 10 127.0.0.1", "MX 20 h2.example"], At(2)),
    (
        "mx-is-odd",
        &["MX 1 *", "MX 2 -", "MX 3 a\\032b.example", "MX 4 \\255\\000.example", "MX 9 h2.example"],
        At(2),
    ),
    // Ourselves.
    ("our-address", &["A $250"], LOOP),
    ("our-address-first", &["MX 10 self.example", "MX 20 h2.example"], LOOP),
    ("our-name-first", &["MX 10 mx.ours.example", "MX 20 h2.example"], LOOP),
    ("our-name-equal", &["MX 10 mx.ours.example", "MX 10 h2.example"], LOOP),
    ("our-name-second", &["MX 10 h2.example", "MX 20 mx.ours.example"], At(2)),
    (
        "nothing-behind-us",
        &["MX 10 dead.example", "MX 20 self.example", "MX 20 h2.example", "MX 30 h3.example"],
        UNREACHABLE,
    ),
    // Where strangers must not lead us.
    ("loopback", &["A 127.0.0.1"], BAD_ADDRESS),
    ("loopback-elsewhere", &["A 127.250.250.250"], BAD_ADDRESS),
    ("this-network", &["A 0.0.0.0"], BAD_ADDRESS),
    ("private", &["A 10.0.0.1", "A 192.168.0.1", "A 172.16.0.1"], BAD_ADDRESS),
    ("metadata", &["A 169.254.169.254"], BAD_ADDRESS),
    ("unique-local", &["AAAA fd00::1"], BAD_ADDRESS),
    ("mapped", &["AAAA ::ffff:127.0.0.1"], BAD_ADDRESS),
    ("nat64", &["AAAA 64:ff9b::7f00:1"], BAD_ADDRESS),
    ("localhost-by-name", &["MX 10 localhost"], BAD_ADDRESS),
    ("forbidden-and-more", &["A 127.0.0.1", "A $2", "AAAA fc00::1"], At(2)),
    ("forbidden-host-and-more", &["MX 10 loopback.example", "MX 20 h2.example"], At(2)),
    ("forbidden-and-unknown", &["A 127.0.0.1", "AAAA SERVFAIL"], DNS),
    // DNS cannot say.
    ("mx-servfail", &["MX SERVFAIL", "A $2"], DNS),
    ("mx-refused", &["MX REFUSED", "A $2"], DNS),
    ("mx-lame", &["MX LAME", "A $2"], DNS),
    ("mx-silence", &["MX SILENCE", "A $2"], DNS),
    ("mx-garbage", &["MX GARBAGE", "A $2"], DNS),
    ("mx-compression-loop", &["MX COMPRESSION-LOOP", "A $2"], DNS),
    ("mx-wrong-id", &["MX WRONG-ID", "MX 10 h2.example"], DNS),
    // An answer with nothing but records of another name is as empty as one without (RFC 5452 §6).
    ("mx-of-another-name", &["MX FOREIGN-ANSWER", "MX 10 h2.example"], UNKNOWN),
    ("mx-of-another-name-implicit", &["MX FOREIGN-ANSWER", "MX 10 h3.example", "A $2"], At(2)),
    ("address-servfail", &["A SERVFAIL"], DNS),
    ("address-silence", &["A SILENCE", "AAAA SILENCE"], DNS),
    ("a-doubt-wins", &["MX 10 broken.example", "MX 20 missing.example"], DNS),
    ("a-doubt-and-more", &["MX 10 broken.example", "MX 20 h2.example"], At(2)),
    ("a-silence-and-more", &["MX 10 silent.example", "MX 20 h2.example"], At(2)),
    // TCP.
    ("truncated", &["TRUNCATED", "MX 10 h2.example"], At(2)),
    ("no-tcp", &["CUT-TCP", "MX 10 h2.example"], DNS),
    ("mx-1000", &["MX 1 h2.example"], At(2)),
    // At most ten hosts are tried, and ten addresses of each.
    ("the-tenth-host", &["MX 10 h2.example"], At(2)),
    ("the-eleventh-host", &["MX 11 h2.example"], UNREACHABLE),
    ("addresses-50", &["MX 10 addresses.example", "MX 20 h2.example"], At(2)),
];

/// Recipients whose domain is no name of a case.
const ADDRESSES: &[(&str, Want)] = &[
    ("user@[$2]", At(2)),
    ("user@[$7]", UNREACHABLE),
    ("user@[$250]", LOOP),
    ("user@[10.0.0.1]", BAD_ADDRESS),
    ("user@[IPv6:::1]", BAD_ADDRESS),
    ("user@b\u{fc}cher.example", At(2)),
    ("user@XN--BCHER-KVA.example", At(2)),
];

/// All cases at one internet.
fn zones(net: &Internet) {
    for (name, lines) in NAMES {
        net.set(name, lines);
    }
    for (name, lines, _) in CASES {
        net.set(&format!("{name}.example"), lines);
    }
    for n in 1..=12 {
        let target = if n == 12 { "h2".to_owned() } else { format!("chain-{}", n + 1) };
        net.set(&format!("chain-{n}.example"), &[&format!("CNAME {target}.example")]);
    }
    net.set("xn--bcher-kva.example", &["MX 10 h2.example"]);
    let many = |more: &str, hosts: usize| -> Vec<String> {
        let host = |n| format!("MX {n} dead-{n}.example");
        (1..hosts).map(host).chain([more.to_owned()]).collect()
    };
    for n in 1..=20 {
        net.set(&format!("dead-{n}.example"), &["A $7"]);
    }
    net.dns.set("the-tenth-host.example", &many("MX 10 h2.example", 10));
    net.dns.set("the-eleventh-host.example", &many("MX 11 h2.example", 11));
    let many: Vec<String> = (0..1_000).map(|n| format!("MX 9 h{n}.many.example")).collect();
    net.dns.set("mx-1000.example", &[many, vec!["MX 1 h2.example".to_owned()]].concat());
    let many: Vec<String> = (100..150).map(|n| net.text(&format!("A ${n}"))).collect();
    net.dns.set("addresses.example", &many);
}

#[test]
fn mail_goes_where_dns_says_waits_where_it_cannot_say_and_fails_where_it_says_no() {
    let (net, dir) = (Internet::new(), tempfile::tempdir().unwrap());
    let hosts: Vec<Host> = [2, 3, 4, 9].map(|last| net.host(last)).into();
    zones(&net);
    let relay = net.relay(&dir, &[]);
    let domains = CASES.iter().map(|(name, _, want)| (format!("user@{name}.example"), *want));
    let others = ADDRESSES.iter().map(|(address, want)| (net.text(address), *want));
    let mut smtp = client(&relay);
    let mut sent = Vec::new();
    for (number, (to, want)) in domains.chain(others).enumerate() {
        let from = format!("case-{number}@sender.example");
        let id = send(&mut smtp, &from, &[&to]);
        sent.push(Sent { id, from, to, want });
    }
    let mut wrong = Vec::new();
    for sent in &sent {
        if let Err(why) = sent.check(&net, &relay, &hosts) {
            wrong.push(format!("{}: want {:?}: {why}", sent.to, sent.want));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(net.dns.asked("truncated.example", RecordType::MX).tcp >= 1);
    let loopback = net.dns.asked("localhost", RecordType::A);
    assert_eq!(loopback.udp + loopback.tcp, 0, "RFC 6761 §6.3");
    let waiting = sent.iter().filter(|sent| matches!(sent.want, Waits(..))).count();
    assert_eq!(jsonl(&dir, &["queue", "ls", "-n", "1000"]).len(), waiting);
}

struct Sent {
    id: String,
    from: String,
    to: String,
    want: Want,
}

impl Sent {
    fn check(&self, net: &Internet, relay: &Relay, hosts: &[Host]) -> Result<(), String> {
        let attempted = |line: &Value| line["event"] == "Attempted" && line["id"] == *self.id;
        let line = relay.wait_for(attempted).unwrap();
        let outcome = &line["outcomes"][0];
        let says = |code: u16, enhanced: &str, class: &str| {
            let reply = outcome["reply"].as_str().unwrap();
            let fits =
                reply.starts_with(&format!("{code} {enhanced} ")) && outcome["class"] == class;
            if fits { Ok(()) } else { Err(line.to_string()) }
        };
        match self.want {
            At(last) => {
                let address = format!("{}:{}", net.ip(last), net.port);
                if outcome["outcome"] != "Delivered" || line["address"] != *address {
                    return Err(line.to_string());
                }
                let at = hosts.iter().find(|host| host.at.to_string() == address).unwrap();
                let count = at.mails().iter().filter(|mail| mail.from == self.from).count();
                if count == 1 { Ok(()) } else { Err(format!("{count} times at the host")) }
            }
            Fails(code, enhanced, class) => {
                says(code, enhanced, class)?;
                let reports = hosts.iter().find(|host| host.at.ip() == net.ip(9)).unwrap();
                let is_ours = |mail: &&common::internet::Mail| mail.to == [self.from.as_str()];
                let report = until("a report", || reports.mails().iter().find(is_ours).cloned());
                let status = format!("\r\nStatus: {enhanced}\r\n");
                let fits = report.from.is_empty() && report.content.contains(&status);
                if fits { Ok(()) } else { Err(report.content) }
            }
            Waits(code, enhanced, class) => {
                says(code, enhanced, class)?;
                let message = relay.get_json(&format!("/v1/queue/{}", self.id));
                let delivery = &message["deliveries"][0];
                let reason = (&delivery["reason"]["id"], &delivery["reason"]["code"]);
                let wait = delivery["next_in_seconds"].as_u64().unwrap_or_default();
                let fits = *reason.0 == class && *reason.1 == code && (200..=300).contains(&wait);
                if fits { Ok(()) } else { Err(message.to_string()) }
            }
        }
    }
}

#[test]
fn after_a_failure_of_dns_mail_is_delivered_without_a_report() {
    let (net, dir) = (Internet::new(), tempfile::tempdir().unwrap());
    let (host, reports) = (net.host(2), net.host(9));
    net.set("sender.example", &["MX 10 reports.example"]);
    net.set("reports.example", &["A $9"]);
    let broken: &[(&str, &[&str], &[&str])] = &[
        ("servfail", &["MX SERVFAIL"], &["MX 10 h2.example"]),
        ("refused", &["MX REFUSED"], &["MX 10 h2.example"]),
        ("silence", &["MX SILENCE"], &["MX 10 h2.example"]),
        ("host", &["MX 10 broken.example"], &["MX 10 broken.example"]),
    ];
    for (name, lines, _) in broken {
        net.set(&format!("{name}.example"), lines);
    }
    net.set("h2.example", &["A $2"]);
    net.set("broken.example", &["SERVFAIL"]);
    let relay = net.relay(&dir, &["retry.first_wait=1 s", "retry.longest_wait=1 s"]);
    let mut smtp = client(&relay);
    for (name, ..) in broken {
        let id = send(&mut smtp, "a@sender.example", &[&format!("user@{name}.example")]);
        let line = relay.wait_for(|line| line["event"] == "Attempted" && line["id"] == *id);
        let outcome = line.unwrap()["outcomes"][0].clone();
        assert_eq!((&outcome["outcome"], &outcome["class"]), (&"Deferred".into(), &"dns".into()));
    }
    for (name, _, lines) in broken {
        net.set(&format!("{name}.example"), lines);
    }
    net.set("broken.example", &["A $2"]);
    assert_eq!(host.wait_for(broken.len()).len(), broken.len());
    relay.wait_for_all(broken.len(), |line| line["event"] == "Retired");
    assert!(reports.mails().is_empty());
}

#[test]
fn a_relay_without_a_name_server_keeps_mail_until_there_is_one() {
    let (mut net, dir) = (Internet::new(), tempfile::tempdir().unwrap());
    let host = net.host(2);
    let address = net.dns.address;
    net.dns = Dns::start(net.ip(1));
    let settings = [format!("dns.servers={address}"), "retry.first_wait=1 s".to_owned()];
    let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
    let relay = net.relay(&dir, &[&settings[..], &["retry.longest_wait=1 s"]].concat());
    let id = send(&mut client(&relay), "a@a.example", &["user@b.example"]);
    let line = relay.wait_for(|line| line["event"] == "Attempted").unwrap();
    assert_eq!(line["outcomes"][0]["class"], "dns", "{line}");
    let waiting = &jsonl(&dir, &["queue", "ls"])[0];
    assert_eq!((&waiting["message"], &waiting["status"]), (&id.into(), &"waiting".into()));
    net.dns = Dns::start_at(address);
    net.set("b.example", &["A $2"]);
    host.wait_for(1);
}

#[test]
fn unsigned_answers_are_bogus_where_dnssec_must_prove_them() {
    let (net, dir) = (Internet::new(), tempfile::tempdir().unwrap());
    net.set("b.example", &["MX 10 h2.example"]);
    let relay = net.relay(&dir, &["dns.validate=true"]);
    send(&mut client(&relay), "a@a.example", &["user@b.example", "user@none.example"]);
    for line in relay.wait_for_all(2, |line| line["event"] == "Attempted") {
        assert_eq!(line["outcomes"][0]["class"], "dns", "{line}");
    }
}

#[test]
fn loopback_is_refused_unless_it_is_allowed_by_name_and_by_address() {
    let (net, dir) = (Internet::new(), tempfile::tempdir().unwrap());
    let reports = net.host(9);
    net.set("sender.example", &["A $9"]);
    net.set("b.example", &["A $2"]);
    let relay = net.relay(&dir, &["delivery.allow_networks=$9/32"]);
    let mut smtp = client(&relay);
    for to in ["user@b.example".to_owned(), net.text("user@[$2]")] {
        send(&mut smtp, "a@sender.example", &[&to]);
    }
    for report in reports.wait_for(2) {
        assert!(report.content.contains("\r\nStatus: 5.4.4\r\n"), "{}", report.content);
    }
}

#[test]
fn equal_hosts_share_the_mail_and_each_message_has_one_question_in_all() {
    const MESSAGES: usize = 40;
    let (net, dir) = (Internet::new(), tempfile::tempdir().unwrap());
    let hosts = [2, 3].map(|last| net.host(last));
    net.set("b.example", &["MX 10 h2.example", "MX 10 h3.example"]);
    net.set("c.example", &["MX 10 h2.example"]);
    net.set("h2.example", &["A $2"]);
    net.set("h3.example", &["A $3"]);
    // Of hosts alone, and not of what is published about them.
    let relay = net.relay(&dir, &["delivery.dane=false", "delivery.mta_sts=false"]);
    let mut smtp = client(&relay);
    for _ in 0..MESSAGES {
        send(&mut smtp, "a@a.example", &["user@b.example"]);
    }
    relay.wait_for_all(MESSAGES, |line| line["event"] == "Retired");
    let counts = hosts.each_ref().map(|host| host.mails().len());
    assert_eq!(counts.iter().sum::<usize>(), MESSAGES);
    // Less than one time in a million.
    assert!(counts.iter().all(|count| *count >= 5), "{counts:?}");
    let asked = |name, kind| net.dns.asked(name, kind).udp;
    assert_eq!((asked("b.example", RecordType::MX), net.dns.questions()), (1, 5));
    send(&mut smtp, "a@a.example", &["user@c.example"]);
    relay.wait_for_all(MESSAGES + 1, |line| line["event"] == "Retired");
    let of_host = (asked("h2.example", RecordType::A), asked("h2.example", RecordType::AAAA));
    assert_eq!((of_host, net.dns.questions()), ((1, 1), 6), "addresses are kept by name");
}

#[test]
fn mail_to_a_dead_name_server_asks_once_however_much_there_is() {
    let (net, dir) = (Internet::new(), tempfile::tempdir().unwrap());
    net.set("b.example", &["MX SERVFAIL"]);
    let relay = net.relay(&dir, &["dns.tries=1"]);
    let mut smtp = client(&relay);
    for _ in 0..20 {
        send(&mut smtp, "a@a.example", &["user@b.example"]);
    }
    relay.wait_for_all(20, |line| line["event"] == "Attempted");
    assert!(net.dns.questions() <= 4, "{} questions", net.dns.questions());
}

#[test]
fn connections_are_used_again_up_to_their_limits() {
    for (settings, connections) in [
        (&["delivery.connections_per_host_max=1"][..], 1),
        (&["delivery.connections_per_host_max=1", "delivery.messages_per_connection_max=5"], 4),
    ] {
        let (net, dir) = (Internet::new(), tempfile::tempdir().unwrap());
        let host = net.host(2);
        net.set("b.example", &["A $2"]);
        let relay = net.relay(&dir, settings);
        let mut smtp = client(&relay);
        for _ in 0..20 {
            send(&mut smtp, "a@a.example", &["user@b.example"]);
        }
        assert_eq!(host.wait_for(20).len(), 20);
        assert_eq!((host.connections(), host.open_most()), (connections, 1), "{settings:?}");
    }
}

#[test]
fn a_host_has_no_more_connections_than_allowed_whatever_domains_lead_there() {
    let (net, dir) = (Internet::new(), tempfile::tempdir().unwrap());
    let host = net.host(2);
    for domain in ["b.example", "c.example"] {
        net.set(domain, &["MX 10 h2.example"]);
    }
    net.set("h2.example", &["A $2"]);
    // What waits for a connection gets one that is given back, not only one that has ended.
    let settings = ["delivery.connections_per_host_max=3", "delivery.idle_wait=1 h"];
    let relay = net.relay(&dir, &settings);
    host.shut_gate();
    let mut smtp = client(&relay);
    for _ in 0..10 {
        send(&mut smtp, "a@a.example", &["user@b.example"]);
        send(&mut smtp, "a@a.example", &["user@c.example"]);
    }
    host.wait_at_gate(3);
    let waiting = until("the limit that both domains share", || {
        let waiting = jsonl(&dir, &["queue", "ls"]);
        let trying = waiting.iter().filter(|one| one["status"] == "attempting").count();
        let is_said = |one: &&Value| one["reason"]["sentence"].as_str().unwrap().contains("limit");
        (trying == 3 && waiting.iter().filter(is_said).count() == 17).then_some(waiting)
    });
    assert_eq!(waiting.len(), 20);
    for one in waiting.iter().filter(|one| one["status"] == "waiting") {
        let sentence = one["reason"]["sentence"].as_str().unwrap();
        assert!(sentence.contains("waits for a limit"), "{one}");
        assert!(one["next_at"].is_string(), "{one}");
    }
    host.open_gate();
    relay.wait_for_all(20, |line| line["event"] == "Retired");
    assert_eq!((host.mails().len(), host.open_most(), host.connections()), (20, 3, 3));
}

#[test]
fn idle_connections_give_way_to_other_hosts_where_there_are_too_many() {
    let (net, dir) = (Internet::new(), tempfile::tempdir().unwrap());
    let hosts = [2, 3, 4].map(|last| net.host(last));
    for (domain, lines) in [("b", "A $2"), ("c", "A $3"), ("d", "A $4")] {
        net.set(&format!("{domain}.example"), &[lines]);
    }
    let relay = net.relay(&dir, &["delivery.connections_max=1", "delivery.idle_wait=1 h"]);
    let mut smtp = client(&relay);
    for _ in 0..5 {
        send(&mut smtp, "a@a.example", &["user@b.example", "user@c.example", "user@d.example"]);
    }
    relay.wait_for_all(5, |line| line["event"] == "Retired");
    assert_eq!(hosts.map(|host| host.mails().len()), [5; 3]);
}

#[test]
fn recipients_of_a_domain_share_transactions_up_to_the_limit() {
    let (net, dir) = (Internet::new(), tempfile::tempdir().unwrap());
    let host = net.host(2);
    for domain in ["b.example", "c.example"] {
        net.set(domain, &["MX 10 h2.example"]);
    }
    net.set("h2.example", &["A $2"]);
    let relay = net.relay(&dir, &["delivery.recipients_max=3"]);
    let mut smtp = client(&relay);
    let to = |domain: &str, count: usize| -> Vec<String> {
        (0..count).map(|n| format!("user-{n}@{domain}")).collect()
    };
    for (all, want) in [
        (to("b.example", 3), vec![3]),
        (to("b.example", 7), vec![1, 3, 3]),
        ([to("b.example", 2), to("c.example", 2)].concat(), vec![2, 2]),
    ] {
        let before = host.mails().len();
        let paths: Vec<&str> = all.iter().map(String::as_str).collect();
        let id = send(&mut smtp, "a@a.example", &paths);
        relay.wait_for(|line| line["event"] == "Retired" && line["id"] == *id).unwrap();
        let mails = host.mails().split_off(before);
        let mut sizes: Vec<usize> = mails.iter().map(|mail| mail.to.len()).collect();
        sizes.sort_unstable();
        assert_eq!(sizes, want);
        let got: BTreeSet<&String> = mails.iter().flat_map(|mail| &mail.to).collect();
        assert_eq!(got, all.iter().collect());
    }
}

#[test]
fn each_egress_source_has_its_address_and_its_name() {
    let (net, dir) = (Internet::new(), tempfile::tempdir().unwrap());
    let host = net.host(2);
    for domain in ["b.example", "c.example", "d.example"] {
        net.set(domain, &["MX 10 h2.example"]);
    }
    net.set("h2.example", &["A $2"]);
    net.set("six.example", &["AAAA ::1"]);
    let settings = [
        "egress.one.addresses=$21",
        "egress.one.hello=one.ours.example",
        "egress.two.addresses=$22",
        "route.c.recipient_domains=c.example,six.example",
        "route.c.egress=one",
        "route.c.to=mx",
        "route.d.recipient_domains=d.example",
        "route.d.egress=two",
        "route.d.to=mx",
        "delivery.allow_networks=127.0.0.0/8,::1",
    ];
    let relay = net.relay(&dir, &settings);
    let mut smtp = client(&relay);
    send(&mut smtp, "a@a.example", &["user@b.example", "user@c.example", "user@d.example"]);
    let seen: BTreeMap<String, (String, String)> = host
        .wait_for(3)
        .into_iter()
        .map(|mail| (mail.to[0].clone(), (mail.client.to_string(), mail.hello)))
        .collect();
    for (to, client, hello) in [
        ("user@b.example", None, "mx.ours.example"),
        ("user@c.example", Some(21), "one.ours.example"),
        ("user@d.example", Some(22), "mx.ours.example"),
    ] {
        let client = client.map_or_else(|| "127.0.0.1".to_owned(), |n| net.ip(n).to_string());
        assert_eq!(seen[to], (client, hello.to_owned()), "{to}");
    }
    let sources = relay.wait_for_all(3, |line| line["event"] == "Attempted");
    let named = |line: &&Value| line["source"] == "one";
    assert_eq!(sources.iter().filter(named).count(), 1, "{sources:?}");
    // A source without an address of the family cannot go there.
    let id = send(&mut smtp, "a@a.example", &["user@six.example"]);
    let line = relay.wait_for(|line| line["event"] == "Attempted" && line["id"] == *id).unwrap();
    let reply = line["outcomes"][0]["reply"].as_str().unwrap();
    assert!(reply.contains("egress source one has no address of this family"), "{reply}");
}

#[test]
fn mail_goes_to_hosts_that_have_ipv6_alone() {
    let (net, dir) = (Internet::new(), tempfile::tempdir().unwrap());
    let Ok(free) = std::net::TcpListener::bind(("::1", net.port)) else {
        // Without IPv6, or where another process has the port, there is nothing to see.
        return;
    };
    drop(free);
    let host = Host::start((std::net::Ipv6Addr::LOCALHOST, net.port).into());
    net.set("b.example", &["MX 10 six.example"]);
    net.set("six.example", &["AAAA ::1"]);
    let relay = net.relay(&dir, &["delivery.allow_networks=::1"]);
    send(&mut client(&relay), "a@a.example", &["user@b.example", "user@[IPv6:::1]"]);
    assert_eq!(host.wait_for(2).len(), 2);
}

#[test]
fn explain_tells_the_hosts_that_would_be_tried_and_why_others_are_not() {
    let (net, dir) = (Internet::new(), tempfile::tempdir().unwrap());
    zones(&net);
    let lines = [
        "MX 10 h2.example",
        "MX 10 missing.example",
        "MX 20 broken.example",
        "MX 30 loopback.example",
        "MX 40 self.example",
        "MX 50 h3.example",
    ];
    net.set("mixed.example", &lines);
    let _relay = net.relay(&dir, &[]);
    let explain = |to: &str| jsonl(&dir, &["explain", "route", to]).remove(0);
    let mixed = explain("user@mixed.example");
    let name = |name: &str| format!("{name}:{}", net.port);
    let hosts: Vec<(String, bool)> = mixed["hosts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|host| (host["name"].as_str().unwrap().to_owned(), host["is_tried"] == true))
        .collect();
    let want = [
        ("h2.example", true),
        ("missing.example", false),
        ("broken.example", false),
        ("loopback.example", false),
        ("self.example", false),
        ("h3.example", false),
    ];
    assert_eq!(hosts, want.map(|(host, tried)| (name(host), tried)), "{mixed}");
    for (place, why) in [
        (1, "it has no address"),
        (2, "DNS cannot say its address just now"),
        (3, "mail must not lead to 127.0.0.1: loopback, private or reserved"),
        (4, "its address is our own"),
        (5, "we are a host of this or a better preference, or enough are tried before it"),
    ] {
        assert_eq!(mixed["hosts"][place]["why_not"], why, "{mixed}");
    }
    assert_eq!(mixed["hosts"][0]["addresses"][0], net.ip(2).to_string());
    assert!(mixed["trouble"].is_null(), "{mixed}");
    for (name, _, want) in CASES {
        let answer = explain(&format!("user@{name}.example"));
        let id = &answer["trouble"]["id"];
        match want {
            At(_) | Waits(_, _, "connection") => assert!(id.is_null(), "{name}: {answer}"),
            Fails(_, _, class) | Waits(_, _, class) => assert_eq!(id, class, "{name}: {answer}"),
        }
        assert_eq!(answer["route"]["rule"], "mx", "{name}: {answer}");
    }
    let table = merpati(&dir, &["explain", "route", "user@null.example"]);
    let text = String::from_utf8(table.stdout).unwrap();
    assert!(table.status.success(), "{text}");
    assert!(text.contains("takes no mail (null MX)") && text.contains("To do: "), "{text}");
}
