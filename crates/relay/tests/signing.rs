//! From no domain to one whose mail is proven, and new keys under load: by the command line, with
//! real sockets, and a name server that holds what is published.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
#![allow(missing_docs)]

mod common;

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use common::{
    Relay, Smtp, data_dir,
    internet::{Internet, merpati},
};
use merpati_auth::{
    DkimFinding, DkimResult, Message,
    dns::{Answer, Known, Question},
};
use merpati_mail::Time;
use merpati_relay::{config::Config, domains::schedule};
use serde_json::Value;

/// From where mail leaves, as the commands know it.
const ADDRESS: &str = "192.0.2.250";

/// A relay whose users write as a.example; all mail goes to the host with the number 2.
fn relay(net: &Internet, dir: &tempfile::TempDir, more: &[&str]) -> Relay {
    let route = format!("route.all.to=smtp://{}:{}", net.ip(2), net.port);
    net.relay(dir, &[&[route.as_str()], more].concat())
}

/// `merpati domain …` by the configuration of the relay; what it says, and whether it went well.
fn domain(net: &Internet, dir: &tempfile::TempDir, words: &str, more: &[&str]) -> (String, bool) {
    let sets = [
        format!("server.data_dir={}", data_dir(dir).display()),
        "server.hostname=mx.ours.example".to_owned(),
        format!("dns.servers={}", net.address()),
        "dns.query_wait=250 ms".to_owned(),
        "relay.local_domains=a.example".to_owned(),
        // None of loopback: resolvers answer for the names of those themselves.
        format!("egress.default.addresses={ADDRESS}"),
    ];
    let mut arguments: Vec<&str> = std::iter::once("domain").chain(words.split(' ')).collect();
    for set in sets.iter().map(String::as_str).chain(more.iter().copied()) {
        arguments.extend(["--set", set]);
    }
    let output = merpati(dir, &arguments);
    let said = [output.stdout, output.stderr].concat();
    (String::from_utf8(said).unwrap(), output.status.success())
}

/// Puts into the DNS what `domain records` says.
fn publish(net: &Internet, dir: &tempfile::TempDir) -> Vec<(String, String)> {
    publish_into(net, net, dir)
}

/// The same in the DNS of another internet too.
fn publish_into(
    other: &Internet,
    net: &Internet,
    dir: &tempfile::TempDir,
) -> Vec<(String, String)> {
    let (said, went_well) = domain(net, dir, "records a.example -o json", &[]);
    assert!(went_well, "{said}");
    let answer: Value = serde_json::from_str(said.lines().next().unwrap()).unwrap();
    let records = answer["records"].as_array().unwrap();
    let mut texts = Vec::new();
    for name in records.iter().map(|record| record["name"].as_str().unwrap()) {
        let own = records.iter().filter(|record| record["name"] == name);
        let line = |record: &Value| {
            format!("{} {}", record["type"].as_str().unwrap(), record["value"].as_str().unwrap())
        };
        let lines: Vec<String> = own.map(line).collect();
        for net in [net, other] {
            net.set(name, &lines.iter().map(String::as_str).collect::<Vec<_>>());
        }
    }
    // The name of the address leads back.
    net.set("mx.ours.example", &[&format!("A {ADDRESS}")]);
    for record in records.iter().filter(|record| record["for"] == "DKIM") {
        let text = |key: &str| record[key].as_str().unwrap().to_owned();
        texts.push((text("name"), text("value")));
    }
    texts
}

/// What becomes of the signatures of a message by these keys.
fn verified(content: &str, keys: &[(String, String)]) -> Vec<DkimFinding> {
    let message = Message::read(content.as_bytes());
    let mut hasher = message.body_hasher();
    hasher.push(&content.as_bytes()[message.body_start()..]);
    let body = hasher.finish();
    let mut known = Known::default();
    loop {
        let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
        match message.check_dkim(&known, &body, now) {
            Ok(findings) => return findings,
            Err(missing) => {
                for question in missing.into_questions() {
                    let Question::Txt(name) = &question else { panic!("{question}") };
                    let found = keys.iter().find(|(of, _)| of == name);
                    let answer = found.map_or(Answer::NoName, |(_, text)| {
                        Answer::Texts(vec![text.as_bytes().to_vec()])
                    });
                    known.tell(question, answer);
                }
            }
        }
    }
}

fn letter(number: usize) -> Vec<u8> {
    format!("From: Ani <ani@a.example>\r\nSubject: letter {number}\r\n\r\nHello  {number} \r\n\r\n")
        .into_bytes()
}

#[test]
fn a_new_domain_is_set_up_by_what_the_commands_say() {
    let (net, dir) = (Internet::new(), tempfile::tempdir().unwrap());
    let host = net.host(2);
    let relay = relay(&net, &dir, &[]);
    let mut smtp = common::internet::client(&relay);
    let (said, _) = domain(&net, &dir, "ls", &[]);
    assert!(said.contains("no domain yet"), "{said}");
    let (said, went_well) = domain(&net, &dir, "check a.example", &[]);
    assert!(!went_well && said.contains("merpati domain add a.example"), "{said}");
    let (said, went_well) = domain(&net, &dir, "add a.example", &[]);
    assert!(went_well && said.contains("._domainkey.a.example. 3600 IN TXT \"v=DKIM1;"), "{said}");
    let (said, went_well) = domain(&net, &dir, "add a.example", &[]);
    assert!(!went_well && said.contains("there already"), "{said}");
    // Nothing signs before its record was seen.
    let (said, went_well) = domain(&net, &dir, "check a.example", &[]);
    assert!(!went_well && said.contains("publish it"), "{said}");
    smtp.data("ani@a.example", "u@b.example", &letter(0));
    let content = host.wait_for(1).pop().unwrap().content;
    assert!(!content.contains("DKIM-Signature"), "{content}");
    let keys = publish(&net, &dir);
    let (said, went_well) = domain(&net, &dir, "check a.example", &[]);
    assert!(went_well, "{said}");
    assert_eq!(said.matches("signs from now on").count(), 2, "{said}");
    assert!(said.contains("0 of 10 look-ups"), "{said}");
    // As a table whole, too.
    let (said, _) = domain(&net, &dir, "records a.example", &[]);
    assert!(keys.iter().all(|(_, text)| said.contains(text)), "{said}");
    let (said, _) = domain(&net, &dir, "ls -o jsonl", &[]);
    assert_eq!(said.matches("\"signing\"").count(), 2, "{said}");
    // Who connected before goes on by what held then.
    let mut smtp = common::internet::client(&relay);
    for (count, large) in [(1, 0), (2, 60_000)] {
        let message = [letter(count), b"a line\r\n".repeat(large)].concat();
        let reply = smtp.data("ani@a.example", "u@b.example", &message);
        assert!(reply.starts_with("250"), "{reply}");
        let content = host.wait_for(count + 1).pop().unwrap().content;
        let found = verified(&content, &keys);
        let results: Vec<_> = found.iter().map(|finding| finding.result).collect();
        assert_eq!(results, [DkimResult::Pass, DkimResult::Pass], "{found:#?}");
        assert!(found.iter().all(|finding| finding.domain == "a.example"), "{found:#?}");
    }
    // Nobody signs for others, and not for strangers.
    let other = "From: x@b.example\r\n\r\nx\r\n";
    smtp.data("ani@a.example", "u@b.example", other.as_bytes());
    let content = host.wait_for(4).pop().unwrap().content;
    assert!(!content.contains("DKIM-Signature"), "{content}");
    // Nor for a header that may name another author where nobody looks.
    let endless = format!("From: ani@a.example\r\n{}\r\nx\r\n", "X-Y: z\r\n".repeat(40_000));
    smtp.data("ani@a.example", "u@b.example", endless.as_bytes());
    let content = host.wait_for(5).pop().unwrap().content;
    assert!(content.contains("X-Y") && !content.contains("DKIM-Signature"), "{}", content.len());
}

#[test]
fn the_records_of_the_host_are_told_and_looked_at_too() {
    let (net, dir) = (Internet::new(), tempfile::tempdir().unwrap());
    let made = rcgen::generate_simple_self_signed(vec!["mx.ours.example".to_owned()]).unwrap();
    let certificate = dir.path().join("mx.pem");
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(dir.path().join("mx.key"), made.signing_key.serialize_pem()).unwrap();
    let listener = [
        "listener.mx.kind=relay".to_owned(),
        "listener.mx.listen=127.0.0.1:0".to_owned(),
        "listener.mx.tls=starttls".to_owned(),
        "route.all.to=mx".to_owned(),
        format!("listener.mx.tls_certificate={}", certificate.display()),
        format!("listener.mx.tls_key={}", dir.path().join("mx.key").display()),
    ];
    let listener: Vec<&str> = listener.iter().map(String::as_str).collect();
    let (said, went_well) = domain(&net, &dir, "add a.example", &listener);
    assert!(went_well && said.contains("reverse-path (MAIL FROM) in a.example"), "{said}");
    assert!(
        said.contains("\n; PTR, at who gave you the address: 250.2.0.192.in-addr.arpa."),
        "{said}"
    );
    let (said, went_well) = domain(&net, &dir, "zone a.example --tlsa", &[]);
    assert!(!went_well && said.contains("no listener"), "{said}");
    let words = "zone a.example --tlsa --dmarc quarantine";
    let (said, went_well) = domain(&net, &dir, words, &listener);
    assert!(went_well && said.contains("p=quarantine;"), "{said}");
    let (_, tlsa) = said.split_once("_25._tcp.mx.ours.example. 3600 IN TLSA ").expect(&said);
    let tlsa = format!("TLSA {}", tlsa.lines().next().unwrap());
    let check = |want: bool, words: &[&str]| {
        let (said, went_well) = domain(&net, &dir, "check a.example", &listener);
        assert!(went_well == want && words.iter().all(|it| said.contains(it)), "{words:?} {said}");
    };
    check(false, &["ask who gave you", "others then tell when TLS"]);
    publish(&net, &dir);
    let (said, went_well) = domain(&net, &dir, "check a.example", &listener);
    assert!(went_well && said.contains("EHLO says mx.ours.example"), "{said}");
    // What nobody asked for is not missed.
    assert!(!said.contains("TLSA") && !said.contains("MTA-STS"), "{said}");
    let tlsa_name = "_25._tcp.mx.ours.example";
    net.set(tlsa_name, &[&tlsa]);
    net.set("_mta-sts.a.example", &["TXT v=STSv1; id=1"]);
    check(true, &["it fits the certificate", "https://mta-sts.a.example/.well-known/mta-sts.txt"]);
    net.set(tlsa_name, &[&tlsa.replace("3 1 1", "2 1 1")]);
    check(false, &["it does not fit the certificate: who goes by DANE does not deliver"]);
    net.set(tlsa_name, &["TLSA SERVFAIL"]);
    check(false, &["who goes by DANE waits"]);
    net.set(tlsa_name, &[""; 0]);
    net.set("a.example", &["TXT v=spf1 a:other.example -all", "MX 10 mx.ours.example"]);
    net.set("other.example", &["A 192.0.2.1"]);
    let instead = format!("publish instead: v=spf1 ip4:{ADDRESS} a:other.example -all");
    check(false, &[&instead, "1 of 10 look-ups"]);
}

#[test]
fn the_relay_itself_lets_keys_sign_that_are_seen() {
    let (net, dir) = (Internet::new(), tempfile::tempdir().unwrap());
    let host = net.host(2);
    std::fs::create_dir(data_dir(&dir)).unwrap();
    assert!(domain(&net, &dir, "add a.example", &[]).1);
    let keys = publish(&net, &dir);
    let relay = relay(&net, &dir, &[]);
    let told = relay.wait_for(|line| line["event"] == "KeysChanged").unwrap();
    assert_eq!(told["domain"], "a.example");
    assert!(told["said"][1].as_str().unwrap().ends_with("signs from now on"), "{told}");
    // The line comes before the keys are taken up.
    let mut count = 0;
    common::internet::until("a mail that is signed", || {
        let mut smtp = common::internet::client(&relay);
        smtp.data("ani@a.example", "u@b.example", &letter(count));
        count += 1;
        let content = host.wait_for(count).pop().unwrap().content;
        let found = verified(&content, &keys);
        found.iter().find(|finding| finding.result == DkimResult::Pass).map(drop)
    });
}

/// A look of the relay after so many days; the lines that it says.
fn tick(net: &Internet, dir: &tempfile::TempDir, days: u64, resolver: &str) -> Vec<String> {
    let sets = [
        format!("server.data_dir={}", data_dir(dir).display()),
        format!("dns.servers={}", net.address()),
        format!("signing.resolvers={resolver}"),
        "dns.query_wait=250 ms".to_owned(),
        "signing.rotate_every=90 d".to_owned(),
    ];
    let config = Config::of(Vec::new(), &std::collections::BTreeMap::new(), &sets).unwrap();
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let at = Time::from_secs(now + days * 86_400);
    let changes = runtime.block_on(schedule::tick(&config, at)).unwrap();
    changes.into_iter().flat_map(|change| change.said).collect()
}

#[test]
fn keys_are_rotated_by_the_relay_when_it_is_time() {
    let (net, other) = (Internet::new(), Internet::new());
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(data_dir(&dir)).unwrap();
    assert!(tick(&net, &dir, 0, "").is_empty(), "there is no domain");
    assert!(domain(&net, &dir, "add a.example", &[]).1);
    let elsewhere = other.address().to_string();
    let count = |said: &[String], what: &str| said.iter().filter(|it| it.contains(what)).count();
    assert!(tick(&net, &dir, 0, "").is_empty(), "nobody has seen them");
    publish(&net, &dir);
    // One resolver alone is not enough.
    assert!(tick(&net, &dir, 0, &elsewhere).is_empty());
    publish_into(&other, &net, &dir);
    let said = tick(&net, &dir, 0, &elsewhere);
    assert_eq!(count(&said, "signs from now on"), 2, "{said:?}");
    assert!(tick(&net, &dir, 89, &elsewhere).is_empty(), "it is not time");
    let said = tick(&net, &dir, 91, &elsewhere);
    assert_eq!(count(&said, "IN TXT \"v=DKIM1"), 2, "{said:?}");
    assert!(said[0].contains("publish these records"), "{said:?}");
    // Nothing changes until they are seen, and no others are made.
    assert!(tick(&net, &dir, 300, &elsewhere).is_empty());
    publish_into(&other, &net, &dir);
    let said = tick(&net, &dir, 301, &elsewhere);
    assert_eq!(count(&said, "signs from now on"), 2, "{said:?}");
    assert_eq!(count(&said, "signs no more"), 2, "{said:?}");
    let said = tick(&net, &dir, 315, &elsewhere);
    assert_eq!(count(&said, "withdraw its record"), 2, "{said:?}");
    assert_eq!(said.len(), 2, "{said:?}");
}

#[test]
fn only_who_is_verified_may_send_where_that_is_asked_for() {
    let (net, dir) = (Internet::new(), tempfile::tempdir().unwrap());
    let host = net.host(2);
    let relay = relay(&net, &dir, &["signing.require_verified=true"]);
    let send = |from: &str| {
        let mut smtp = common::internet::client(&relay);
        let content = format!("{from}Subject: x\r\n\r\nHello\r\n");
        smtp.data("ani@a.example", "u@b.example", content.as_bytes())
    };
    let refused = |from: &str, words: &str| {
        let reply = send(from);
        assert!(reply.starts_with("550") && reply.contains(words), "{from}: {reply}");
    };
    refused("From: ani@a.example\r\n", "5.7.1 a.example is not verified");
    assert!(domain(&net, &dir, "add a.example", &[]).1);
    refused("From: ani@a.example\r\n", "merpati domain check a.example");
    publish(&net, &dir);
    assert!(domain(&net, &dir, "check a.example", &[]).1);
    for from in ["From: ani@a.example\r\n", "From: ani@shop.a.example\r\n"] {
        let reply = send(from);
        assert!(reply.starts_with("250"), "{from}: {reply}");
    }
    refused("From: x@b.example\r\n", "b.example is not verified");
    refused("From: x@mya.example\r\n", "mya.example is not verified");
    refused("Sender: ani@a.example\r\n", "names no domain");
    assert_eq!(host.wait_for(2).len(), 2);
}

#[test]
fn strangers_need_not_be_verified() {
    let (net, dir) = (Internet::new(), tempfile::tempdir().unwrap());
    let host = net.host(2);
    let more =
        ["signing.require_verified=true", "relay.networks=", "relay.local_domains=b.example"];
    let relay = relay(&net, &dir, &more);
    let mut smtp = Smtp::from(net.ip(7), relay.address("mx"));
    smtp.say("EHLO client.example", "250");
    net.set("a.example", &["MX 10 mx.a.example"]);
    let reply = smtp.data("ani@a.example", "u@b.example", &letter(1));
    assert!(reply.starts_with("250"), "{reply}");
    host.wait_for(1);
}

#[test]
fn strangers_get_no_signature_and_sealed_keys_need_theirs() {
    let (net, dir) = (Internet::new(), tempfile::tempdir().unwrap());
    let host = net.host(2);
    let sealing = dir.path().join("sealing");
    std::fs::write(&sealing, "ab".repeat(32)).unwrap();
    let sealed = format!("signing.key_file={}", sealing.display());
    std::fs::create_dir(data_dir(&dir)).unwrap();
    let (said, went_well) = domain(&net, &dir, "add a.example", &[&sealed]);
    assert!(went_well && said.contains("does not run"), "{said}");
    let (said, went_well) = domain(&net, &dir, "ls", &[]);
    assert!(!went_well && said.contains("key_file"), "{said}");
    let (said, _) = domain(&net, &dir, "records a.example -o json", &[&sealed]);
    assert!(said.contains("v=DKIM1"), "{said}");
    let stranger = "relay.local_domains=b.example";
    let relay = relay(&net, &dir, &[&sealed, "relay.networks=", stranger]);
    let mut smtp = Smtp::from(net.ip(7), relay.address("mx"));
    smtp.say("EHLO client.example", "250");
    smtp.data("ani@a.example", "u@b.example", &letter(1));
    let content = host.wait_for(1).pop().unwrap().content;
    assert!(!content.contains("DKIM-Signature"), "{content}");
}

#[test]
fn a_chain_of_forwarders_is_sealed_where_that_is_switched_on() {
    let (net, dir) = (Internet::new(), tempfile::tempdir().unwrap());
    let host = net.host(2);
    std::fs::create_dir(data_dir(&dir)).unwrap();
    assert!(domain(&net, &dir, "add a.example", &[]).1);
    publish(&net, &dir);
    assert!(domain(&net, &dir, "check a.example", &[]).1);
    let more = ["relay.networks=", "relay.local_domains=b.example", "signing.seal_as=a.example"];
    let relay = relay(&net, &dir, &more);
    let mut count = 0;
    let mut passed_on = |message: &str| {
        let mut smtp = Smtp::from(net.ip(7), relay.address("mx"));
        smtp.say("EHLO client.example", "250");
        let reply = smtp.data("x@c.example", "u@b.example", message.as_bytes());
        assert!(reply.starts_with("250"), "{reply}");
        count += 1;
        host.wait_for(count).pop().unwrap().content
    };
    let large = "a line\r\n".repeat(60_000);
    let first = passed_on(&format!("From: x@c.example\r\nSubject: x\r\n\r\nHello\r\n{large}"));
    assert!(first.starts_with("ARC-Seal: a=rsa-sha256;"), "{}", &first[..2_000]);
    let results = "ARC-Authentication-Results: i=1; mx.ours.example;\r\n\tiprev=";
    assert!(first.contains("cv=none") && first.contains(results), "{}", &first[..2_000]);
    let second = passed_on(&first);
    assert!(second.contains("arc=pass header.d=a.example"), "{}", &second[..3_000]);
    assert!(second.starts_with("ARC-Seal") && second.contains("cv=pass"), "{}", &second[..3_000]);
    let third = passed_on(&second.replace("Hello", "Hallo"));
    assert!(third.contains("arc=fail") && third.contains("cv=fail"), "{}", &third[..4_000]);
    // Who finds the chain broken says so once.
    let fourth = passed_on(&third);
    assert!(fourth.starts_with("Received: "), "{}", &fourth[..4_000]);
}

#[test]
fn a_key_is_rotated_without_one_mail_that_cannot_be_proven() {
    let (net, dir) = (Internet::new(), tempfile::tempdir().unwrap());
    let host = net.host(2);
    let relay = relay(&net, &dir, &[]);
    assert!(domain(&net, &dir, "add a.example", &[]).1);
    let old = publish(&net, &dir)[0].0.split('.').next().unwrap().to_owned();
    let old = format!("s={old};");
    assert!(domain(&net, &dir, "check a.example", &[]).1);
    let is_over = Arc::new(AtomicBool::new(false));
    let senders: Vec<_> = (0..2)
        .map(|_| {
            let (address, is_over) = (relay.address("mx"), Arc::clone(&is_over));
            std::thread::spawn(move || {
                let mut sent = 0;
                let mut smtp = Smtp::connect(address);
                while !is_over.load(Ordering::Relaxed) && sent < 5_000 {
                    // Who is connected goes on by what held when he came.
                    if sent % 20 == 0 {
                        smtp = Smtp::connect(address);
                        smtp.say("EHLO client.example", "250");
                    }
                    let reply = smtp.data("ani@a.example", "u@b.example", &letter(sent));
                    assert!(reply.starts_with("250"), "{reply}");
                    sent += 1;
                }
                sent
            })
        })
        .collect();
    let (said, went_well) = domain(&net, &dir, "rotate a.example", &[]);
    assert!(went_well, "{said}");
    // The new keys are not there yet: the old ones go on.
    let (said, went_well) = domain(&net, &dir, "check a.example", &[]);
    assert!(!went_well && !said.contains("signs no more"), "{said}");
    let (said, went_well) = domain(&net, &dir, "rotate a.example", &[]);
    assert!(!went_well && said.contains("still to be published"), "{said}");
    let keys = publish(&net, &dir);
    let (said, went_well) = domain(&net, &dir, "check a.example", &[]);
    assert!(went_well, "{said}");
    assert_eq!(said.matches("signs from now on").count(), 2, "{said}");
    assert_eq!(said.matches("signs no more").count(), 2, "{said}");
    let is_new = |mail: &common::internet::Mail| !mail.content.contains(&old);
    let find_new = || host.mails().iter().find(|mail| is_new(mail)).map(drop);
    common::internet::until("a mail with a new key", find_new);
    is_over.store(true, Ordering::Relaxed);
    let sent: usize = senders.into_iter().map(|sender| sender.join().unwrap()).sum();
    let mails = host.wait_for(sent);
    let mut selectors = std::collections::BTreeMap::new();
    for mail in &mails {
        let found = verified(&mail.content, &keys);
        let results: Vec<_> = found.iter().map(|finding| finding.result).collect();
        assert_eq!(results, [DkimResult::Pass, DkimResult::Pass], "{found:#?}");
        *selectors.entry(found[0].selector.clone()).or_insert(0) += 1;
    }
    // Both the old and the new one signed.
    assert_eq!(selectors.len(), 2, "{selectors:?} of {sent}");
}
