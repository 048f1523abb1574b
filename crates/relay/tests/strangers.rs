//! What strangers must show: names, sender domains, DNS lists, first contacts, recipients; with
//! real sockets, and a name server that says what the test wants.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
#![allow(missing_docs)]

mod common;

use std::{
    net::{IpAddr, Ipv4Addr, TcpStream},
    sync::Arc,
    time::{Duration, Instant},
};

use common::{
    Relay, Smtp, data_dir,
    dns::{Asked, Dns},
    internet::Internet,
    peer::{Act, Peer, Script, Step},
    queued_as,
};
use hickory_resolver::proto::rr::RecordType;
use merpati_mail::{Domain, Time, question::HostNameAnswer};
use merpati_relay::{
    clock::Clock,
    resolve::{NAMES_MAX, Options, Resolver},
};

const LETTER: &[u8] = b"Subject: a letter\r\n\r\nbody\r\n.\r\n";

/// A relay for ours.example that trusts nobody; its mail goes to the host with the number 2.
fn relay(net: &Internet, dir: &tempfile::TempDir, more: &[&str]) -> Relay {
    let route = format!("route.ours.to=smtp://{}:{}", net.ip(2), net.port);
    let must_exist = "strangers.sender_domain=must-exist";
    let all = ["relay.networks=", "relay.local_domains=ours.example", must_exist, &route];
    let all: Vec<&str> = all.into_iter().chain(more.iter().copied()).collect();
    net.relay(dir, &all)
}

fn stranger(net: &Internet, last: u8, relay: &Relay) -> Smtp<TcpStream> {
    let mut smtp = Smtp::from(net.ip(last), relay.address("mx"));
    smtp.say("EHLO client.example", "250");
    smtp
}

fn knows_senders(net: &Internet) {
    net.set("a.example", &["MX 10 mx.a.example"]);
}

/// The name under which the DNS has the name of 192.0.2.`last`.
fn reverse(last: u8) -> String {
    format!("{last}.2.0.192.in-addr.arpa")
}

/// No client of a test comes from elsewhere than loopback, whose names are not asked for; so the
/// resolver is asked itself.
#[tokio::test(flavor = "multi_thread")]
async fn an_address_has_a_name_only_where_the_dns_leads_there_and_back() {
    let dns = Dns::start([127, 0, 0, 1].into());
    let longest = format!("{0}.{0}.{0}.{1}", "a".repeat(63), "b".repeat(61));
    dns.set(&longest, &["A 192.0.2.21"]);
    for (name, lines) in [
        ("h10.example", &["A 192.0.2.10"][..]),
        ("h11.example", &["A 192.0.2.99", "A 192.0.2.11"]),
        ("other.example", &["A 192.0.2.99"]),
        ("broken.example", &["SERVFAIL"]),
        ("ring-a.example", &["CNAME ring-b.example"]),
        ("ring-b.example", &["CNAME ring-a.example"]),
        ("17.block.example", &["PTR h17.example"]),
        ("h17.example", &["A 192.0.2.17"]),
        ("six.example", &["AAAA 2001:db8::1", "A 192.0.2.10"]),
    ] {
        dns.set(name, lines);
    }
    let many: Vec<String> = (0..1_000).map(|n| format!("PTR n{n}.example")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let long = format!("PTR {longest}");
    let name = |text: &str| HostNameAnswer::Confirmed(Domain::parse(text).unwrap());
    let (none, unknown) = (HostNameAnswer::None, HostNameAnswer::Unknown);
    let odd = ["PTR x\\032y.example", "PTR m\\195\\188.example", "PTR a\\010b\\034.example"];
    let cases: &[(u8, &[&str], HostNameAnswer)] = &[
        (10, &["PTR h10.example"], name("h10.example")),
        (11, &["PTR other.example", "PTR H11.example"], name("h11.example")),
        (12, &[], none.clone()),
        (13, &["PTR other.example"], none.clone()),
        (14, &["PTR missing.example"], none.clone()),
        (15, &["CNAME ring-a.example"], unknown.clone()),
        (16, &["PTR ring-a.example"], unknown.clone()),
        // Classless delegation (RFC 2317).
        (17, &["CNAME 17.block.example"], name("h17.example")),
        (18, &odd, none.clone()),
        (19, &many, none.clone()),
        (20, &["SERVFAIL"], unknown.clone()),
        (21, &[&long], name(&longest)),
        (22, &["PTR broken.example"], unknown.clone()),
        (23, &["SILENCE"], unknown.clone()),
        (24, &["GARBAGE"], unknown.clone()),
        (25, &["PTR ."], none.clone()),
        (26, &["PTR 127.0.0.1"], none.clone()),
        (27, &["PTR broken.example", "PTR h10.example"], unknown.clone()),
        (28, &["TXT nothing else"], none.clone()),
    ];
    for (last, lines, _) in cases {
        dns.set(&reverse(*last), lines);
    }
    let v6 = "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa";
    dns.set(v6, &["PTR six.example"]);
    let options = Options {
        servers: vec![dns.address],
        query_wait: Duration::from_millis(250),
        ..Options::default()
    };
    let resolver = Resolver::new(options, Arc::new(Clock::start(Time::EPOCH))).unwrap();
    for (last, _, want) in cases {
        let address = IpAddr::from([192, 0, 2, *last]);
        assert_eq!(resolver.host_name(address).await, *want, "{last}");
    }
    let six = "2001:db8::1".parse().unwrap();
    assert_eq!(resolver.host_name(six).await, name("six.example"));
    let is_asked = |n: &usize| dns.asked(&format!("n{n}.example"), RecordType::A).udp > 0;
    assert_eq!((0..1_000).filter(is_asked).count(), NAMES_MAX);
    // It is kept.
    resolver.host_name([192, 0, 2, 10].into()).await;
    assert_eq!(dns.asked(&reverse(10), RecordType::PTR), Asked { udp: 1, tcp: 0 });
}

#[test]
fn the_name_of_the_client_stands_in_received_and_in_the_log() {
    let net = Internet::new();
    let host = net.host(2);
    knows_senders(&net);
    // `localhost` leads to 127.0.0.1 and back (RFC 6761 §6.3), and to no other address.
    for (count, (option, source, want)) in [
        ("strangers.rdns=all", [127, 0, 0, 1], Some("localhost")),
        ("strangers.rdns=all", [127, 0, 0, 9], None),
        ("strangers.rdns=public", [127, 0, 0, 1], None),
        ("strangers.rdns=off", [127, 0, 0, 1], None),
    ]
    .into_iter()
    .enumerate()
    {
        let dir = tempfile::tempdir().unwrap();
        let relay = relay(&net, &dir, &[option]);
        let source = Ipv4Addr::from(source);
        let mut smtp = Smtp::from(source, relay.address("mx"));
        smtp.say("EHLO client.example", "250");
        assert!(queued_as(&smtp.data("a@a.example", "u@ours.example", LETTER)).is_some());
        smtp.say("QUIT", "221");
        let mail = host.wait_for(count + 1).pop().unwrap();
        let shown = want.unwrap_or("unknown");
        let field = format!("Received: from client.example ({shown} [{source}])\r\n");
        assert!(mail.content.starts_with(&field), "{option}: {}", mail.content);
        for event in ["Accepted", "SessionEnded"] {
            let line = relay.wait_for(|line| line["event"] == event).unwrap();
            assert_eq!(line["name"].as_str(), want, "{option} {event}");
        }
    }
}

#[test]
fn there_must_be_mail_for_the_domain_of_the_sender() {
    let (net, dir) = (Internet::new(), tempfile::tempdir().unwrap());
    for (name, lines) in [
        ("mx.example", &["MX 10 nowhere.example"][..]),
        ("a.example", &["A $9"]),
        ("aaaa.example", &["AAAA 2001:db8::1"]),
        ("alias.example", &["CNAME mx.example"]),
        ("txt.example", &["TXT nothing else"]),
        ("null.example", &["MX 0 ."]),
        ("null-and-more.example", &["MX 0 .", "MX 10 mx.example"]),
        ("broken.example", &["SERVFAIL"]),
        ("half.example", &["A $9", "AAAA SERVFAIL"]),
        ("half-broken.example", &["AAAA SERVFAIL", "TXT x"]),
        ("ring.example", &["CNAME ring2.example"]),
        ("ring2.example", &["CNAME ring.example"]),
        ("silent.example", &["SILENCE"]),
        ("refused.example", &["REFUSED"]),
        ("lame.example", &["LAME"]),
        ("there.invalid", &["A $9"]),
        ("there.test", &["A $9"]),
        ("xn--mx-fka.example", &["A $9"]),
    ] {
        net.set(name, lines);
    }
    let relay = relay(&net, &dir, &["listener.mx.transactions_max=1000"]);
    let mut smtp = stranger(&net, 10, &relay);
    for (sender, want) in [
        ("a@mx.example", "250"),
        ("a@a.example", "250"),
        ("a@aaaa.example", "250"),
        ("a@alias.example", "250"),
        ("a@null-and-more.example", "250"),
        ("a@half.example", "250"),
        ("a@silent.example", "250"),
        ("a@refused.example", "250"),
        ("a@lame.example", "250"),
        ("a@there.test", "250"),
        ("a@[192.0.2.1]", "250"),
        ("a@ours.example", "250"),
        ("", "250"),
        ("a@missing.example", "550 5.1.8 "),
        ("a@missing.test", "550 5.1.8 "),
        ("a@localhost", "550 5.1.8 "),
        ("a@there.invalid", "550 5.1.8 "),
        ("a@txt.example", "550 5.1.8 "),
        ("a@null.example", "550 5.7.27 "),
        ("a@broken.example", "451 4.1.8 "),
        ("a@half-broken.example", "451 4.1.8 "),
        ("a@ring.example", "451 4.1.8 "),
    ] {
        smtp.say(&format!("MAIL FROM:<{sender}>"), want);
        smtp.say("RSET", "250");
    }
    smtp.say("MAIL FROM:<a@m\u{fc}x.example> SMTPUTF8", "550 5.1.8 ");
    smtp.say("QUIT", "221");
    relay.stop();
    // Who is trusted, and where it is not wanted, may use any.
    let trusted = format!("relay.networks={}/32", net.ip(10));
    for more in [trusted.as_str(), "strangers.sender_domain=any"] {
        let relay = self::relay(&net, &dir, &[more]);
        stranger(&net, 10, &relay).say("MAIL FROM:<a@missing.example>", "250");
        relay.stop();
    }
    // Without a name server nothing is known, and nothing is lost.
    let relay = self::relay(&net, &dir, &["dns.servers=127.0.0.1:1"]);
    stranger(&net, 10, &relay).say("MAIL FROM:<a@missing.example>", "250");
}

/// The entry of an address with this last number in a list.
fn listed(net: &Internet, last: u8, zone: &str, lines: &[&str]) {
    let [a, b, c, d] = net.ip(last).octets();
    net.set(&format!("{d}.{c}.{b}.{a}.{zone}"), lines);
}

fn with_test_points(net: &Internet, zone: &str) {
    net.set(&format!("2.0.0.127.{zone}"), &["A 127.0.0.2", "TXT test entry"]);
    net.set(&format!("test.{zone}"), &["A 127.0.0.2"]);
}

#[test]
#[expect(clippy::too_many_lines, reason = "one list of each kind")]
fn who_is_in_a_list_is_refused_and_no_list_blocks_everybody() {
    let (net, dir) = (Internet::new(), tempfile::tempdir().unwrap());
    knows_senders(&net);
    net.set("spam.example", &["MX 10 mx.a.example"]);
    for zone in ["good.list", "noted.list", "codes.list", "senders.list", "turning.list"] {
        with_test_points(&net, zone);
    }
    listed(&net, 10, "good.list", &["A 127.0.0.3", "TXT see http://good.list/?q=10"]);
    listed(&net, 11, "noted.list", &["A 127.0.0.4"]);
    listed(&net, 12, "codes.list", &["A 127.0.0.4"]);
    listed(&net, 13, "codes.list", &["A 127.0.0.9", "A 127.0.0.5"]);
    net.set("spam.example.senders.list", &["A 127.0.0.2"]);
    listed(&net, 15, "turning.list", &["A 127.255.255.254"]);
    listed(&net, 16, "turning.list", &["A 127.0.0.2"]);
    // Lists that would block the world: a wildcard, an expired domain, error codes, silence.
    for (zone, lines) in [
        ("wild.list", &["A 127.0.0.2"][..]),
        ("expired.list", &["A 203.0.113.80"]),
        ("errors.list", &["A 127.255.255.252"]),
        ("surbl.list", &["A 127.0.0.1"]),
        ("silent.list", &["SILENCE"]),
        ("broken.list", &["SERVFAIL"]),
    ] {
        for name in ["2.0.0.127", "1.0.0.127"] {
            net.set(&format!("{name}.{zone}"), lines);
        }
        for last in 10..20 {
            listed(&net, last, zone, lines);
        }
    }
    let zones = [
        "good.list",
        "noted.list",
        "codes.list",
        "wild.list",
        "expired.list",
        "errors.list",
        "surbl.list",
        "silent.list",
        "broken.list",
        "turning.list",
        "dead.list",
    ];
    let mut more: Vec<String> = zones
        .iter()
        .map(|zone| format!("list.{}.zone={zone}", zone.strip_suffix(".list").unwrap()))
        .collect();
    let trusted = format!("relay.networks={}/32", net.ip(18));
    more.extend([
        "list.noted.action=note".to_owned(),
        "list.codes.codes=127.0.0.2, 127.0.0.5".to_owned(),
        "list.senders.zone=senders.list".to_owned(),
        "list.senders.about=sender-domain".to_owned(),
        "list.own.zone=own.list".to_owned(),
        "list.own.test_points=false".to_owned(),
        trusted,
    ]);
    listed(&net, 14, "own.list", &["A 127.0.0.2"]);
    listed(&net, 18, "good.list", &["A 127.0.0.3"]);
    let more: Vec<&str> = more.iter().map(String::as_str).collect();
    let relay = relay(&net, &dir, &more);
    let decided = |list: &str, believed: bool| {
        relay.wait_for(|line| {
            line["event"] == "ListChanged" && line["list"] == list && line["believed"] == believed
        });
    };
    for list in ["good", "noted", "codes", "senders", "turning"] {
        decided(list, true);
    }
    for list in ["wild", "expired", "errors", "surbl", "silent", "broken", "dead"] {
        decided(list, false);
    }
    for (last, sender, want) in [
        (10, "a@a.example", "550 5.7.1 "),
        (11, "a@a.example", "250"),
        (12, "a@a.example", "250"),
        (13, "a@a.example", "550 5.7.1 "),
        (14, "a@a.example", "550 5.7.1 "),
        (17, "a@a.example", "250"),
        (17, "a@spam.example", "550 5.7.1 "),
        (17, "", "250"),
        (18, "a@a.example", "250"),
        // It refuses us now: it is ignored from here on, also where it would have been believed.
        (15, "a@a.example", "250"),
        (16, "a@a.example", "250"),
    ] {
        let mut smtp = stranger(&net, last, &relay);
        smtp.say(&format!("MAIL FROM:<{sender}>"), "250");
        smtp.say("RCPT TO:<u@ours.example>", want);
        smtp.say("RCPT TO:<postmaster@ours.example>", "250");
        smtp.say("RCPT TO:<Postmaster>", "250");
        smtp.say("QUIT", "221");
    }
    decided("turning", false);
    let line = relay.wait_for(|line| line["last_rule"] == "list-good").unwrap();
    let reply = line["last_reply"].as_str().unwrap();
    assert!(reply.ends_with("is listed by good: see http://good.list/?q=10"), "{reply}");
    let noted = relay.wait_for(|line| line["listed"][0] == "noted").unwrap();
    assert_eq!(noted["refusals"], serde_json::json!({}));
    let metrics = String::from_utf8(relay.get("/metrics").1).unwrap();
    assert!(metrics.contains("merpati_list_believed{list=\"wild\"} 0"), "{metrics}");
    assert!(metrics.contains("merpati_list_believed{list=\"good\"} 1"), "{metrics}");
}

#[test]
fn a_list_that_does_not_answer_costs_a_moment_and_is_then_left_alone() {
    let (net, dir) = (Internet::new(), tempfile::tempdir().unwrap());
    knows_senders(&net);
    for last in 10..20 {
        listed(&net, last, "silent.list", &["SILENCE"]);
    }
    let more = [
        "list.silent.zone=silent.list",
        "list.silent.test_points=false",
        "dns.query_wait=200 ms",
        "dns.tries=1",
        "strangers.wait=30 s",
    ];
    let relay = relay(&net, &dir, &more);
    for last in 10..20 {
        let mut smtp = stranger(&net, last, &relay);
        smtp.say("MAIL FROM:<a@a.example>", "250");
        smtp.say("RCPT TO:<u@ours.example>", "250");
    }
    let line = relay.wait_for(|line| line["event"] == "ListChanged").unwrap();
    assert_eq!(line["reason"], "its name servers do not answer");
    let asked = (10..20).filter(|last| {
        let [a, b, c, d] = net.ip(*last).octets();
        net.dns.asked(&format!("{d}.{c}.{b}.{a}.silent.list"), RecordType::A).udp > 0
    });
    assert!(asked.count() < 10, "it was asked to the end");
}

#[test]
fn a_command_waits_no_longer_than_it_may() {
    let (net, dir) = (Internet::new(), tempfile::tempdir().unwrap());
    knows_senders(&net);
    net.set("silent.example", &["SILENCE"]);
    let more = ["dns.query_wait=50 s", "strangers.wait=100 ms"];
    let relay = relay(&net, &dir, &more);
    let mut smtp = stranger(&net, 10, &relay);
    let began = Instant::now();
    smtp.say("MAIL FROM:<a@silent.example>", "250");
    assert!(began.elapsed() < Duration::from_secs(25), "{:?}", began.elapsed());
}

#[test]
fn first_contacts_wait_and_are_known_after_a_restart() {
    let (net, dir) = (Internet::new(), tempfile::tempdir().unwrap());
    let _host = net.host(2);
    knows_senders(&net);
    let more = ["greylist.enabled=true", "greylist.wait=0 s"];
    let try_once = |relay: &Relay, last: u8, sender: &str, rcpt: &str, want: &str| {
        let mut smtp = stranger(&net, last, relay);
        smtp.say(&format!("MAIL FROM:<{sender}>"), "250");
        smtp.say(&format!("RCPT TO:<{rcpt}>"), want);
        smtp.say("QUIT", "221");
    };
    let first = relay(&net, &dir, &more);
    try_once(&first, 10, "", "u@ours.example", "250");
    try_once(&first, 10, "a@a.example", "postmaster@ours.example", "250");
    try_once(&first, 10, "a@a.example", "u@ours.example", "451 4.7.1 ");
    // From another address of the same /24, as large senders do.
    try_once(&first, 11, "b@a.example", "u@ours.example", "250");
    try_once(&first, 10, "a@a.example", "v@ours.example", "250");
    try_once(&first, 10, "a@ours.example", "v@ours.example", "451 4.7.1 ");
    assert!(first.stop().success());
    let second = relay(&net, &dir, &more);
    try_once(&second, 10, "a@a.example", "w@ours.example", "250");
    // Who waited before the restart comes again behind it.
    try_once(&second, 10, "a@ours.example", "v@ours.example", "250");
    assert!(second.stop().success());
    std::fs::write(data_dir(&dir).join("greylist"), b"MERPATIG and garbage").unwrap();
    let third = relay(&net, &dir, &more);
    try_once(&third, 10, "a@a.example", "u@ours.example", "451 4.7.1 ");
}

#[test]
fn recipients_that_are_not_listed_do_not_exist() {
    let (net, dir) = (Internet::new(), tempfile::tempdir().unwrap());
    let _host = net.host(2);
    knows_senders(&net);
    let file = dir.path().join("recipients");
    std::fs::write(&file, "# ours\nani@ours.example\n@all.example\n").unwrap();
    let more = [
        "relay.local_domains=ours.example, all.example",
        "recipients.known=Budi@ours.example",
        &format!("recipients.known_file={}", file.display()),
        "listener.mx.vrfy=off",
    ];
    let relay = relay(&net, &dir, &more);
    let mut smtp = stranger(&net, 10, &relay);
    smtp.say("VRFY ani", "502 5.5.1 ");
    smtp.say("EXPN all", "502 5.5.1 ");
    smtp.say("MAIL FROM:<a@a.example>", "250");
    for (rcpt, want) in [
        ("ani@ours.example", "250"),
        ("ANI+list@Ours.example", "250"),
        ("budi@ours.example", "250"),
        ("citra@ours.example", "550 5.1.1 "),
        ("\"ani \"@ours.example", "550 5.1.1 "),
        ("anybody@all.example", "250"),
        ("ani@other.example", "550 5.7.1 "),
        ("postmaster", "250"),
        ("PostMaster@ours.example", "250"),
        ("abuse@ours.example", "250"),
    ] {
        smtp.say(&format!("RCPT TO:<{rcpt}>"), want);
    }
}

/// A relay that asks this next hop about recipients.
fn asking(net: &Internet, dir: &tempfile::TempDir, route: &str, more: &[&str]) -> Relay {
    let all = [
        "relay.networks=",
        "relay.local_domains=ours.example",
        "recipients.call_ahead=defer",
        "delivery.idle_wait=30 s",
        route,
    ];
    let all: Vec<&str> = all.into_iter().chain(more.iter().copied()).collect();
    net.relay(dir, &all)
}

fn ask(relay: &Relay, net: &Internet, cases: &[(&str, &str)]) {
    let mut smtp = stranger(net, 10, relay);
    smtp.say("MAIL FROM:<a@a.example>", "250");
    for (rcpt, want) in cases {
        smtp.say(&format!("RCPT TO:<{rcpt}@ours.example>"), want);
    }
    smtp.say("QUIT", "221");
}

#[test]
fn the_next_hop_is_asked_about_recipients_and_its_answer_is_kept() {
    for is_lmtp in [false, true] {
        let (net, dir) = (Internet::new(), tempfile::tempdir().unwrap());
        let acts = vec![
            (Step::Rcpt, 1, Act::Say(b"550 5.1.1 no such user\r\n")),
            (Step::Rcpt, 2, Act::Say(b"452 4.2.2 mailbox full\r\n")),
            (Step::Rcpt, 3, Act::Say(b"451 4.3.0 trouble\r\n")),
        ];
        let peer = Peer::start(Script { bad_connections: 9, acts, is_lmtp, ..Script::default() });
        let scheme = if is_lmtp { "lmtp" } else { "smtp" };
        let route = format!("route.next.to={scheme}://{}", peer.address());
        let relay = asking(&net, &dir, &route, &[]);
        for _ in 0..2 {
            let cases = [
                ("ani", "250"),
                ("nobody", "550 5.1.1 "),
                ("full", "250"),
                ("ANI", "250"),
                ("postmaster", "250"),
            ];
            ask(&relay, &net, &cases);
        }
        ask(&relay, &net, &[("trouble", "451 4.3.0 ")]);
        let commands = peer.commands();
        let count = |verb: &str| commands.iter().filter(|line| line.starts_with(verb)).count();
        assert_eq!(count("RCPT"), 4, "{commands:?}");
        assert_eq!(count("MAIL FROM:<>"), 4, "{commands:?}");
        assert_eq!((count("DATA"), peer.connections()), (0, 1), "{commands:?}");
        assert!(peer.taken().is_empty());
    }
}

#[test]
fn a_next_hop_that_does_not_say_is_no_reason_to_return_mail_later() {
    let (net, dir) = (Internet::new(), tempfile::tempdir().unwrap());
    let dead = format!("route.next.to=smtp://{}:{}", net.ip(7), net.port);
    let relay = asking(&net, &dir, &dead, &[]);
    ask(&relay, &net, &[("ani", "451 4.3.0 "), ("postmaster", "250")]);
    relay.stop();
    let silent = Peer::start(Script {
        bad_connections: 9,
        acts: vec![(Step::Rcpt, 0, Act::Silence)],
        ..Script::default()
    });
    let route = format!("route.next.to=smtp://{}", silent.address());
    let relay = asking(&net, &dir, &route, &["recipients.wait=300 ms"]);
    ask(&relay, &net, &[("ani", "451 4.3.0 ")]);
    relay.stop();
    let no_null = Peer::start(Script {
        bad_connections: 9,
        acts: vec![(Step::Mail, 0, Act::Say(b"550 5.7.1 no null sender here\r\n"))],
        ..Script::default()
    });
    let route = format!("route.next.to=smtp://{}", no_null.address());
    let relay = asking(&net, &dir, &route, &["recipients.call_ahead=accept"]);
    ask(&relay, &net, &[("ani", "250")]);
    relay.stop();
    // Hosts of strangers are not asked: where mail goes by MX there is nobody to ask.
    let relay = asking(&net, &dir, "route.next.to=mx", &[]);
    ask(&relay, &net, &[("ani", "250")]);
}
