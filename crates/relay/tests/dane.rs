//! DANE (RFC 7672): which hosts get mail, which do not, and what is told of it, with a signed zone
//! and the root key of the test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
#![allow(missing_docs)]

mod common;

use std::{fmt::Write as _, net::SocketAddr, slice};

use aws_lc_rs::digest::{SHA256, SHA512, digest};
use common::{
    Relay,
    internet::{Internet, client, jsonl, merpati, reports, send},
    queued_as,
    secure::{Script, SecureHost},
};
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertifiedIssuer, IsCa, KeyPair,
    KeyUsagePurpose, PublicKeyData as _, date_time_ymd,
};
use serde_json::Value;

/// What becomes of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Want {
    /// It arrives over TLS, because of this source.
    Protected(&'static str),
    /// It arrives in the clear.
    Clear,
    /// It waits, and nothing of it was said; the reply has these words.
    Waits(&'static str),
}

use Want::{Clear, Protected, Waits};

/// A signed root with unsigned domains below it, and a relay that sends by MX.
struct World {
    net: Internet,
    dir: tempfile::TempDir,
    relay: Relay,
    hosts: Vec<SecureHost>,
}

impl World {
    fn new(unsigned: &[&str], settings: &[&str]) -> Self {
        let net = Internet::new();
        let dir = tempfile::tempdir().unwrap();
        let anchor = dir.path().join("root.key");
        net.dns.sign(&anchor, unsigned);
        let anchor = format!("dns.trust_anchor={}", anchor.display());
        let settings = [&[anchor.as_str(), "retry.first_wait=1 h"], settings].concat();
        let relay = net.relay(&dir, &settings);
        Self { net, dir, relay, hosts: Vec::new() }
    }

    /// The number of the next host.
    fn next(&self) -> u8 {
        u8::try_from(self.hosts.len()).unwrap() + 2
    }

    fn host(&mut self, script: Script) -> u8 {
        let number = self.next();
        let at = SocketAddr::new(self.net.ip(number).into(), self.net.port);
        self.hosts.push(SecureHost::start(at, script));
        number
    }

    /// A domain with one host, `mx.NAME`, at this address, with these TLSA records.
    fn domain(&self, name: &str, number: u8, records: &[String]) {
        let host = format!("mx.{name}");
        self.net.set(name, &[&format!("MX 10 {host}")]);
        self.net.set(&host, &[&format!("A ${number}")]);
        self.records(&host, records);
    }

    fn records(&self, host: &str, records: &[String]) {
        let lines: Vec<String> = records.iter().map(|record| format!("TLSA {record}")).collect();
        self.net.dns.set(&format!("_{}._tcp.{host}", self.net.port), &lines);
    }

    /// Sends a message there; gives its id and what came of the attempt.
    fn send(&self, to: &str) -> (String, Value) {
        let id = send(&mut client(&self.relay), "a@ours.example", &[to]);
        let attempted =
            self.relay.wait_for(|line| line["event"] == "Attempted" && line["id"] == *id).unwrap();
        (id, attempted)
    }

    #[track_caller]
    fn expect(&self, domain: &str, number: Option<u8>, want: Want) -> String {
        let (id, attempted) = self.send(&format!("b@{domain}"));
        let outcome = &attempted["outcomes"][0];
        let reply = outcome["reply"].as_str().unwrap();
        let got = match outcome["outcome"].as_str().unwrap() {
            "Delivered" if attempted["tls"].is_string() => {
                Protected(if let Protected(source) = want { source } else { "?" })
            }
            "Delivered" => Clear,
            _ => Waits(if let Waits(words) = want { words } else { "?" }),
        };
        assert_eq!(got, want, "{domain}: {attempted}");
        match want {
            Protected(source) => assert_eq!(attempted["tls_source"], source, "{attempted}"),
            Waits(words) => {
                assert!(reply.contains(words), "{domain}: {reply}");
                assert!(reply.contains(" 4.7."), "{domain}: {reply}");
                assert_eq!(outcome["class"], "tls", "{domain}: {attempted}");
            }
            Clear => {}
        }
        if let Some(number) = number {
            let mails = self.hosts[usize::from(number) - 2].mails();
            let came: &[bool] = match want {
                Protected(_) => &[true],
                Clear => &[false],
                Waits(_) => &[],
            };
            assert_eq!(mails, came, "{domain}");
        }
        id
    }
}

/// A certificate for this name that has ended, or has not.
fn own(name: &str, has_ended: bool) -> (Certificate, KeyPair) {
    let mut params = CertificateParams::new([name.to_owned()]).unwrap();
    if has_ended {
        (params.not_before, params.not_after) =
            (date_time_ymd(2020, 1, 1), date_time_ymd(2021, 1, 1));
    }
    let key = KeyPair::generate().unwrap();
    (params.self_signed(&key).unwrap(), key)
}

fn honest(name: &str) -> Script {
    let (certificate, key) = own(name, false);
    Script::new(vec![certificate.der().clone()], key)
}

fn hex(octets: impl AsRef<[u8]>) -> String {
    octets.as_ref().iter().fold(String::new(), |mut text, octet| {
        write!(text, "{octet:02x}").unwrap();
        text
    })
}

/// 3 1 1.
fn key_record(key: &KeyPair) -> String {
    format!("3 1 1 {}", hex(digest(&SHA256, &key.subject_public_key_info())))
}

const NOTHING: &str = "3 1 1 0000000000000000000000000000000000000000000000000000000000000000";
const TLS_12: &[&rustls::SupportedProtocolVersion] = &[&rustls::version::TLS12];
const TLS_13: &[&rustls::SupportedProtocolVersion] = &[&rustls::version::TLS13];
const NO_RECORD: &str = "no TLSA record names the certificate";
const NO_TLS: &str = "TLS is required and the next hop does not offer it";

#[test]
fn a_host_whose_certificate_is_named_gets_mail_and_no_other_does() {
    let mut world = World::new(&[], &[]);
    // Neither the name nor the end of the certificate counts.
    let (certificate, key) = own("somebody.else.example", true);
    let record = key_record(&key);
    let whole = certificate.der().to_vec();
    let records = [
        ("three-one-one", vec![record.clone()]),
        (
            "three-one-two",
            vec![format!("3 1 2 {}", hex(digest(&SHA512, &key.subject_public_key_info())))],
        ),
        ("three-zero-one", vec![format!("3 0 1 {}", hex(digest(&SHA256, &whole)))]),
        ("three-zero-zero", vec![format!("3 0 0 {}", hex(&whole))]),
        ("rollover", vec![NOTHING.to_owned(), record.clone()]),
        ("beside-unusable", vec![format!("1 1 1 {}", &NOTHING[6..]), record]),
    ];
    let pem = key.serialize_pem();
    for (name, records) in records {
        let key = KeyPair::from_pem(&pem).unwrap();
        let number = world.host(Script::new(vec![certificate.der().clone()], key));
        let domain = format!("{name}.example");
        world.domain(&domain, number, &records);
        let id = world.expect(&domain, Some(number), Protected("dane"));
        let story = jsonl(&world.dir, &["trace", &id]);
        assert!(format!("{story:?}").contains("proven by DANE"), "{story:?}");
    }
    // Of two sums the stronger one counts (RFC 7671 §9).
    let script = honest("mx.weaker.example");
    let records = [key_record(&script.key), format!("3 1 2 {}", hex(digest(&SHA512, b"x")))];
    let number = world.host(script);
    world.domain("weaker.example", number, &records);
    world.expect("weaker.example", Some(number), Waits(NO_RECORD));
    let number = world.host(honest("mx.other-key.example"));
    world.domain("other-key.example", number, &[NOTHING.to_owned()]);
    let id = world.expect("other-key.example", Some(number), Waits(NO_RECORD));
    let story = merpati(&world.dir, &["trace", &id]);
    let story = String::from_utf8(story.stdout).unwrap();
    assert!(story.contains("Asked for by DANE"), "{story}");
}

#[test]
fn what_no_record_of_ours_can_judge_is_encrypted_and_never_sent_in_the_clear() {
    let mut world = World::new(&[], &[]);
    let data = &NOTHING[6..];
    for (name, record) in [
        ("usage-0", format!("0 1 1 {data}")),
        ("usage-1", format!("1 0 1 {data}")),
        ("selector-9", format!("3 9 1 {data}")),
        ("matching-9", format!("3 1 9 {data}")),
        ("too-short", "3 1 1 00".to_owned()),
    ] {
        let number = world.host(honest("x.example"));
        let domain = format!("{name}.example");
        world.domain(&domain, number, slice::from_ref(&record));
        world.expect(&domain, Some(number), Protected("dane"));
        let number = world.host(Script { offers: false, ..honest("x.example") });
        let domain = format!("{name}-stripped.example");
        world.domain(&domain, number, &[record]);
        world.expect(&domain, Some(number), Waits(NO_TLS));
    }
}

/// Who stands between takes STARTTLS away, or shows the right certificate without its key; the
/// domain is told of it.
#[test]
fn an_attacker_who_stands_between_gets_nothing() {
    let mut world = World::new(&[], &["tls_reports.from=tlsrpt@ours.example"]);
    let stripped = Script { offers: false, ..honest("mx.stripped.example") };
    let record = key_record(&stripped.key);
    let number = world.host(stripped);
    world.domain("stripped.example", number, &[record]);
    world.expect("stripped.example", Some(number), Waits(NO_TLS));
    for (name, versions) in [("copied-12", TLS_12), ("copied-13", TLS_13)] {
        let (certificate, key) = own("mx.victim.example", false);
        let mut script = Script::new(vec![certificate.der().clone()], KeyPair::generate().unwrap());
        script.versions = versions;
        let number = world.host(script);
        let domain = format!("{name}.example");
        world.domain(&domain, number, &[key_record(&key)]);
        world.expect(&domain, Some(number), Waits("TLS failed"));
    }
    let World { relay, dir, .. } = world;
    assert!(relay.stop().success());
    for (domain, kind) in [
        ("stripped.example", "starttls-not-supported"),
        ("copied-12.example", "validation-failure"),
        ("copied-13.example", "validation-failure"),
    ] {
        let counted = reports(&dir, domain);
        assert_eq!(counted, [("tlsa".to_owned(), 0, vec![kind.to_owned()])], "{domain}");
    }
}

#[test]
fn a_ca_that_is_named_counts_for_the_names_of_host_and_domain_only() {
    let mut world = World::new(&[], &[]);
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let by_key = format!("2 1 1 {}", hex(digest(&SHA256, &ca.key().subject_public_key_info())));
    let whole = format!("2 0 0 {}", hex(ca.der()));
    let by_sum = format!("2 0 1 {}", hex(digest(&SHA256, ca.der())));
    let none = "invalid peer certificate";
    for (name, certified, record, shows_ca, want) in [
        ("for-the-host", "mx.for-the-host.example", &by_key, true, Protected("dane")),
        ("for-the-domain", "for-the-domain.example", &by_sum, true, Protected("dane")),
        ("ca-in-the-record", "mx.ca-in-the-record.example", &whole, false, Protected("dane")),
        ("for-another", "mx.other.example", &by_key, true, Waits(none)),
        ("ca-not-shown", "mx.ca-not-shown.example", &by_key, false, Waits(NO_RECORD)),
    ] {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new([certified.to_owned()]).unwrap();
        let made = params.signed_by(&key, &ca).unwrap();
        let mut chain = vec![made.der().clone()];
        chain.extend(shows_ca.then(|| ca.der().clone()));
        let number = world.host(Script::new(chain, key));
        let domain = format!("{name}.example");
        world.domain(&domain, number, slice::from_ref(record));
        world.expect(&domain, Some(number), want);
    }
}

#[test]
fn only_what_is_proven_counts() {
    let mut world = World::new(&["plain.example", "plainhost.example"], &[]);
    // The domain is not signed: its host may be anybody's.
    let number = world.host(Script { offers: false, ..honest("x.example") });
    world.net.set("plain.example", &["MX 10 mx.signed.example"]);
    world.net.set("mx.signed.example", &[&format!("A ${number}")]);
    world.records("mx.signed.example", &[NOTHING.to_owned()]);
    world.expect("plain.example", Some(number), Clear);
    // The domain is, the zone of the host is not.
    let number = world.host(Script { offers: false, ..honest("x.example") });
    world.net.set("half.example", &["MX 10 mx.plainhost.example"]);
    world.net.set("mx.plainhost.example", &[&format!("A ${number}")]);
    world.records("mx.plainhost.example", &[NOTHING.to_owned()]);
    world.expect("half.example", Some(number), Clear);
    // An alias all of which is proven leads to the records at its end.
    let script = honest("x.example");
    let record = key_record(&script.key);
    let number = world.host(script);
    world.net.set("alias.example", &["MX 10 mx.alias.example"]);
    world.net.set("mx.alias.example", &["CNAME real.alias.example"]);
    world.net.set("real.alias.example", &[&format!("A ${number}")]);
    world.records("real.alias.example", &[record]);
    world.expect("alias.example", Some(number), Protected("dane"));
    // Where the end is not proven, the records of the alias itself count.
    let number = world.host(Script { offers: false, ..honest("x.example") });
    world.net.set("outward.example", &["MX 10 mx.outward.example"]);
    world.net.set("mx.outward.example", &["CNAME real.plainhost.example"]);
    world.net.set("real.plainhost.example", &[&format!("A ${number}")]);
    world.records("mx.outward.example", &[NOTHING.to_owned()]);
    world.expect("outward.example", Some(number), Waits(NO_TLS));
}

/// What cannot be found out is not taken for nothing: the next host is tried, or the mail waits.
#[test]
fn a_host_whose_records_cannot_be_found_out_is_passed_over() {
    let mut world = World::new(&[], &[]);
    for (name, broken) in [("servfail", true), ("bogus", false)] {
        let number = world.host(Script { offers: false, ..honest("x.example") });
        let domain = format!("{name}.example");
        world.domain(&domain, number, &[NOTHING.to_owned()]);
        let at = format!("_{}._tcp.mx.{domain}", world.net.port);
        if broken {
            world.net.dns.set(&at, &["TLSA SERVFAIL"]);
        } else {
            world.net.dns.forge(&at);
        }
        world.expect(&domain, Some(number), Waits("cannot be found out"));
        let script = honest("x.example");
        let record = key_record(&script.key);
        let second = world.host(script);
        let next = format!("next-{name}.example");
        world.net.set(&next, &[&format!("MX 10 mx.{domain}"), &format!("MX 20 second.{next}")]);
        world.net.set(&format!("second.{next}"), &[&format!("A ${second}")]);
        world.records(&format!("second.{next}"), &[record]);
        world.expect(&next, Some(second), Protected("dane"));
    }
}

/// Name servers that hand over no signatures do not stop the queue.
#[test]
fn without_signatures_dane_is_off_and_mail_goes_on() {
    let net = Internet::new();
    let dir = tempfile::tempdir().unwrap();
    net.set("", &["NS ns.root.example"]);
    let relay = net.relay(&dir, &[]);
    let at = SocketAddr::new(net.ip(2).into(), net.port);
    let host = SecureHost::start(at, honest("x.example"));
    net.set("there.example", &["MX 10 mx.there.example"]);
    net.set("mx.there.example", &["A $2"]);
    net.set(&format!("_{}._tcp.mx.there.example", net.port), &[&format!("TLSA {NOTHING}")]);
    let id = send(&mut client(&relay), "a@ours.example", &["b@there.example"]);
    let is_of_it = |line: &Value| line["event"] == "Attempted" && line["id"] == *id;
    let attempted = relay.wait_for(is_of_it).unwrap();
    assert_eq!(attempted["outcomes"][0]["outcome"], "Delivered", "{attempted}");
    assert_eq!(attempted["tls_source"], "route", "{attempted}");
    assert_eq!(host.mails(), [true]);
    let metrics = String::from_utf8(relay.get("/metrics").1).unwrap();
    assert!(metrics.contains("merpati_dane 0\n"), "{metrics}");
}

/// RFC 8689 §5: reports on broken TLS are to arrive although it is broken.
#[test]
fn a_sender_may_want_it_delivered_rather_than_protected() {
    let mut world = World::new(&[], &[]);
    let number = world.host(Script { offers: false, ..honest("x.example") });
    world.domain("there.example", number, &[NOTHING.to_owned()]);
    let mut smtp = client(&world.relay);
    let content = b"Subject: your TLS\r\nTLS-Required: No\r\n\r\n";
    let reply = smtp.data("a@ours.example", "b@there.example", content);
    let id = queued_as(&reply).unwrap();
    let is_of_it = |line: &Value| line["event"] == "Attempted" && line["id"] == *id;
    let attempted = world.relay.wait_for(is_of_it).unwrap();
    assert_eq!(attempted["outcomes"][0]["outcome"], "Delivered", "{attempted}");
    assert_eq!(attempted["tls_source"], "tls-required-no", "{attempted}");
    assert_eq!(world.hosts[0].mails(), [false]);
}

#[test]
fn an_operator_may_pass_over_what_a_partner_publishes() {
    let own = [
        "route.partner.to=mx",
        "route.partner.recipient_domains=partner.example",
        "route.partner.tls_policies=false",
    ];
    let mut world = World::new(&[], &own);
    let number = world.host(honest("x.example"));
    world.domain("partner.example", number, &[NOTHING.to_owned()]);
    world.expect("partner.example", Some(number), Protected("route"));
}
