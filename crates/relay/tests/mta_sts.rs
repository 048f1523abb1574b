//! MTA-STS (RFC 8461): which hosts get mail, which do not, and what is told of it, with policies
//! over HTTPS and the CA of the test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
#![allow(missing_docs)]

mod common;

use std::{net::SocketAddr, process::Command, sync::Arc};

use common::{
    Relay,
    internet::{Internet, client, jsonl, merpati, reports, send},
    policy_host::{Ca, PolicyHost},
    secure::{Script, SecureHost},
};
use serde_json::Value;

/// Hosts with certificates of one CA, a web server with policies, and a relay that sends by MX.
struct World {
    net: Internet,
    dir: tempfile::TempDir,
    ca: Arc<Ca>,
    policies: PolicyHost,
    relay: Option<Relay>,
    hosts: Vec<SecureHost>,
}

impl World {
    fn new() -> Self {
        let net = Internet::new();
        let dir = tempfile::tempdir().unwrap();
        let ca = Arc::new(Ca::new(&dir.path().join("ca.pem")));
        let policies = PolicyHost::start(net.ip(240), &ca);
        let relay = Some(start(&net, &dir, &policies));
        Self { net, dir, ca, policies, relay, hosts: Vec::new() }
    }

    /// A host with a certificate for this name; gives its number.
    fn host(&mut self, name: &str, change: impl FnOnce(&mut Script)) -> u8 {
        let (certificate, key) = self.ca.issue(name, false);
        let mut script = Script::new(vec![certificate], key);
        change(&mut script);
        let number = u8::try_from(self.hosts.len()).unwrap() + 2;
        let at = SocketAddr::new(self.net.ip(number).into(), self.net.port);
        self.hosts.push(SecureHost::start(at, script));
        number
    }

    /// A domain whose MX is `mx.NAME` at this host, and its policy.
    fn domain(&self, name: &str, number: u8, policy: Option<&str>) {
        let host = format!("mx.{name}");
        self.net.set(name, &[&format!("MX 10 {host}")]);
        self.net.set(&host, &[&format!("A ${number}")]);
        self.record(name, "1");
        self.net.set(&format!("mta-sts.{name}"), &["A $240"]);
        self.policies.set(name, policy);
    }

    fn record(&self, name: &str, id: &str) {
        self.net.set(&format!("_mta-sts.{name}"), &[&format!("0 TXT v=STSv1; id={id};")]);
    }

    /// Stops the relay; gives what it has counted for this domain, by kind of failure.
    fn counted(&mut self, domain: &str) -> Vec<(String, u64, Vec<String>)> {
        assert!(self.relay.take().unwrap().stop().success());
        reports(&self.dir, domain)
    }

    fn restart(&mut self) {
        self.relay.take().unwrap().kill();
        self.relay = Some(start(&self.net, &self.dir, &self.policies));
    }

    /// Sends a message there; gives its id and what came of the attempt.
    fn send(&self, domain: &str) -> (String, Value) {
        let to = format!("b@{domain}");
        let id = send(&mut client(self.relay.as_ref().unwrap()), "a@ours.example", &[&to]);
        let is_of_it = |line: &Value| line["event"] == "Attempted" && line["id"] == *id;
        let attempted = self.relay.as_ref().unwrap().wait_for(is_of_it).unwrap();
        (id, attempted)
    }

    #[track_caller]
    fn arrives(&self, domain: &str, number: u8, (is_protected, source): (bool, &str)) {
        let (_, attempted) = self.send(domain);
        assert_eq!(attempted["outcomes"][0]["outcome"], "Delivered", "{domain}: {attempted}");
        assert_eq!(attempted["tls_source"], source, "{domain}: {attempted}");
        assert_eq!(self.hosts[usize::from(number) - 2].mails(), [is_protected], "{domain}");
    }

    #[track_caller]
    fn waits(&self, domain: &str, number: u8, words: &str) {
        let (id, attempted) = self.send(domain);
        let outcome = &attempted["outcomes"][0];
        assert_eq!(outcome["outcome"], "Deferred", "{domain}: {attempted}");
        let reply = outcome["reply"].as_str().unwrap();
        assert!(reply.contains(words) && reply.contains(" 4.7."), "{domain}: {reply}");
        assert_eq!(attempted["tls_source"], "mta-sts", "{domain}: {attempted}");
        assert!(self.hosts[usize::from(number) - 2].mails().is_empty(), "{domain}");
        let story = merpati(&self.dir, &["trace", &id]);
        let story = String::from_utf8(story.stdout).unwrap();
        assert!(story.contains("Asked for by the MTA-STS policy"), "{domain}: {story}");
    }
}

/// A relay that believes the CA of the test as if it were one of the machine.
fn start(net: &Internet, dir: &tempfile::TempDir, policies: &PolicyHost) -> Relay {
    let mut command = Command::new("/usr/bin/env");
    command.arg(format!("SSL_CERT_FILE={}", dir.path().join("ca.pem").display()));
    command.arg(env!("CARGO_BIN_EXE_merpati"));
    let port = format!("delivery.mta_sts_port={}", policies.at.port());
    let from = "tls_reports.from=tlsrpt@ours.example";
    net.relay_as(command, dir, &[&port, "retry.first_wait=1 h", from])
}

fn policy(mode: &str, mx: &str) -> String {
    format!("version: STSv1\r\nmode: {mode}\r\nmx: {mx}\r\nmax_age: 604800\r\n")
}

fn stripped(script: &mut Script) {
    script.offers = false;
}

const NO_TLS: &str = "TLS is required and the next hop does not offer it";

#[test]
fn only_hosts_that_the_policy_names_and_that_prove_it_get_mail() {
    let mut world = World::new();
    let number = world.host("mx.good.example", |_| {});
    world.domain("good.example", number, Some(&policy("enforce", "*.good.example")));
    world.arrives("good.example", number, (true, "mta-sts"));
    let number = world.host("mx.unnamed.example", |_| {});
    world.domain("unnamed.example", number, Some(&policy("enforce", "other.example")));
    world.waits("unnamed.example", number, "does not name mx.unnamed.example");
    let number = world.host("mx.other.example", |_| {});
    world.domain("wrong.example", number, Some(&policy("enforce", "mx.wrong.example")));
    world.waits("wrong.example", number, "not valid for name");
    let number = world.host("mx.stripped.example", stripped);
    world.domain("stripped.example", number, Some(&policy("enforce", "mx.stripped.example")));
    world.waits("stripped.example", number, NO_TLS);
    let (certificate, key) = world.ca.issue("mx.expired.example", true);
    let number = world.host("x.example", |script| {
        (script.chain, script.key) = (vec![certificate], key);
    });
    world.domain("expired.example", number, Some(&policy("enforce", "mx.expired.example")));
    world.waits("expired.example", number, "certificate expired");
    let explained = jsonl(&world.dir, &["explain", "tls", "unnamed.example"]).remove(0);
    assert_eq!(explained["mta_sts"]["policy"]["mode"], "enforce", "{explained}");
    assert!(explained["hosts"][0]["why_not"].as_str().unwrap().contains("does not name"));
    let explained = merpati(&world.dir, &["explain", "tls", "good.example"]);
    let explained = String::from_utf8(explained.stdout).unwrap();
    assert!(explained.contains("asked for by the MTA-STS policy"), "{explained}");
    let all = world.counted("good.example");
    assert_eq!(all, [("sts".to_owned(), 1, vec![])]);
    for (domain, kind) in [
        ("unnamed.example", "validation-failure"),
        ("wrong.example", "certificate-host-mismatch"),
        ("stripped.example", "starttls-not-supported"),
        ("expired.example", "certificate-expired"),
    ] {
        let counted = reports(&world.dir, domain);
        assert_eq!(counted, [("sts".to_owned(), 0, vec![kind.to_owned()])], "{domain}");
    }
}

#[test]
fn a_policy_that_is_tested_or_cannot_be_fetched_stops_no_mail() {
    let mut world = World::new();
    let number = world.host("mx.testing.example", stripped);
    world.domain("testing.example", number, Some(&policy("testing", "other.example")));
    world.arrives("testing.example", number, (false, "mta-sts-testing"));
    let number = world.host("x.example", |_| {});
    world.domain("missing.example", number, None);
    world.arrives("missing.example", number, (true, "route"));
    let number = world.host("mx.other.example", |_| {});
    world.domain("tested.example", number, Some(&policy("testing", "mx.tested.example")));
    world.arrives("tested.example", number, (true, "mta-sts-testing"));
    for (domain, kind) in [
        ("testing.example", "starttls-not-supported"),
        ("missing.example", "sts-policy-fetch-error"),
        ("tested.example", "certificate-host-mismatch"),
    ] {
        let counted = match &world.relay {
            Some(_) => world.counted(domain),
            None => reports(&world.dir, domain),
        };
        assert_eq!(counted, [("sts".to_owned(), 0, vec![kind.to_owned()])], "{domain}");
    }
}

/// A restart forgets nothing, and who takes record and web server away gains nothing.
#[test]
fn a_policy_that_was_fetched_holds_without_its_record_and_its_host() {
    let mut world = World::new();
    let number = world.host("mx.there.example", |_| {});
    world.domain("there.example", number, Some(&policy("enforce", "*.there.example")));
    world.arrives("there.example", number, (true, "mta-sts"));
    let attacker = world.host("mx.there.example", stripped);
    world.policies.set("there.example", None);
    world.net.set("_mta-sts.there.example", &["NXDOMAIN"]);
    world.net.set("mx.there.example", &[&format!("A ${attacker}")]);
    world.restart();
    world.waits("there.example", attacker, NO_TLS);
}

/// RFC 8461 §5.1: before mail waits for a policy, it is looked whether there is a newer one.
#[test]
fn a_host_that_only_a_newer_policy_names_gets_mail_at_once() {
    let mut world = World::new();
    let number = world.host("mx.there.example", |_| {});
    world.domain("there.example", number, Some(&policy("enforce", "mx.there.example")));
    world.arrives("there.example", number, (true, "mta-sts"));
    let number = world.host("new.there.example", |_| {});
    world.net.set("there.example", &["MX 10 new.there.example"]);
    world.net.set("new.there.example", &[&format!("A ${number}")]);
    world.policies.set("there.example", Some(&policy("enforce", "new.there.example")));
    // The cache of the resolver may still have the MX of before.
    world.restart();
    world.arrives("there.example", number, (true, "mta-sts"));
}
