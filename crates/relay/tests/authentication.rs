//! Whether mail of strangers is from whom it says: with real sockets, real signatures, and a name
//! server that says what the test wants.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
#![allow(missing_docs)]

mod common;

use common::{
    Relay, Smtp,
    internet::{Host, Internet},
};
use merpati_auth::{KeyKind, Message, PrivateKey, Signer};

/// A relay for ours.example that trusts nobody; its mail goes to the host with the number 2.
fn relay(net: &Internet, dir: &tempfile::TempDir, more: &[&str]) -> Relay {
    let route = format!("route.ours.to=smtp://{}:{}", net.ip(2), net.port);
    let domains = "relay.local_domains=ours.example";
    let all = ["relay.networks=", domains, "strangers.sender_domain=any", &route];
    let all: Vec<&str> = all.into_iter().chain(more.iter().copied()).collect();
    net.relay(dir, &all)
}

/// What a stranger is told who sends this, from the address with the number 7.
fn sends(net: &Internet, relay: &Relay, from: &str, message: &str) -> String {
    let mut smtp = Smtp::from(net.ip(7), relay.address("mx"));
    smtp.say("EHLO client.example", "250");
    let reply = smtp.data(from, "u@ours.example", message.as_bytes());
    smtp.say("QUIT", "221");
    reply
}

fn signer(net: &Internet, kind: KeyKind, selector: &str) -> Signer {
    let key = PrivateKey::read(&PrivateKey::draw(kind).unwrap()).unwrap();
    let record = format!("TXT {}", key.record());
    net.set(&format!("{selector}._domainkey.a.example"), &[&record]);
    Signer { domain: "a.example".to_owned(), selector: selector.to_owned(), key }
}

fn signed(signer: &Signer, message: &str) -> String {
    let read = Message::read(message.as_bytes());
    let mut hasher = Message::signing_hasher();
    hasher.push(&message.as_bytes()[read.body_start()..]);
    let body = hasher.finish().signing().unwrap();
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
    format!("{}{message}", signer.sign(&read, body, now, None).unwrap())
}

fn letter(from: &str) -> String {
    format!("From: {from}\r\nTo: u@ours.example\r\nSubject: x\r\n\r\nHello\r\n")
}

/// The newest message of the host, and what stands below our Received field, without folds.
fn newest(host: &Host, count: usize) -> (String, String) {
    let content = host.wait_for(count).pop().unwrap().content;
    assert!(content.starts_with("Received: from "), "{content}");
    let (_, field) = content.split_once("\r\nAuthentication-Results: mx.").unwrap();
    let field = field.split("\r\nReceived-SPF:").next().unwrap().replace("\r\n\t", "");
    (content, field)
}

#[test]
fn what_was_found_out_stands_below_our_received_field() {
    let (net, dir) = (Internet::new(), tempfile::tempdir().unwrap());
    let host = net.host(2);
    let client = net.ip(7);
    net.set("a.example", &[&format!("TXT v=spf1 ip4:{client} -all")]);
    net.set("_dmarc.a.example", &["TXT v=DMARC1; p=reject"]);
    let signers = [signer(&net, KeyKind::Rsa, "rsa"), signer(&net, KeyKind::Ed25519, "ed")];
    let relay = relay(&net, &dir, &[]);
    let message = signers.iter().fold(letter("x@a.example"), |m, signer| signed(signer, &m));
    assert!(sends(&net, &relay, "x@a.example", &message).starts_with("250"));
    let (content, field) = newest(&host, 1);
    assert!(field.starts_with("ours.example;"), "{content}");
    for result in [
        ";spf=pass smtp.mailfrom=x@a.example;",
        ";dkim=pass header.d=a.example header.s=ed header.a=ed25519-sha256 header.b=",
        ";dkim=pass (2048-bit key) header.d=a.example header.s=rsa header.a=rsa-sha256 header.b=",
        ";dmarc=pass (p=reject) header.from=a.example",
        &format!(" policy.iprev={client};"),
    ] {
        assert!(field.contains(result), "{result} in {field}");
    }
    let spf = content.split("\r\nReceived-SPF: ").nth(1).unwrap();
    assert!(spf.starts_with(&format!("pass (a.example permits {client})")), "{content}");
    // Below comes the message as it was.
    assert!(spf.ends_with(&message), "{content}");
    // What the relay found out first is asked for again, and so it is with a body in a file.
    let large = letter("x@a.example") + &"a line of some length\r\n".repeat(40_000);
    let large = signed(&signers[0], &large);
    assert!(sends(&net, &relay, "", &large).starts_with("250"));
    let (_, field) = newest(&host, 2);
    assert!(field.contains("dkim=pass"), "{field}");
    assert!(field.contains("spf=none"), "{field}");
    assert!(field.contains("smtp.helo=client.example"), "{field}");
    assert!(field.contains("dmarc=pass"), "{field}");
}

#[test]
fn what_a_domain_wants_refused_is_refused() {
    let (net, dir) = (Internet::new(), tempfile::tempdir().unwrap());
    let _host = net.host(2);
    for (name, lines) in [
        ("_dmarc.a.example", &["TXT v=DMARC1; p=reject"][..]),
        ("_dmarc.soft.example", &["TXT v=DMARC1; p=quarantine"]),
        ("_dmarc.partner.example", &["TXT v=DMARC1; p=reject"]),
        ("slow.example", &["TXT SERVFAIL"]),
        ("_dmarc.slow.example", &["TXT v=DMARC1; p=reject"]),
        ("lame.example", &["TXT SERVFAIL"]),
        ("_dmarc.lame.example", &["TXT SERVFAIL"]),
    ] {
        net.set(name, lines);
    }
    let signer = signer(&net, KeyKind::Ed25519, "ed");
    let partner = ["author.partner.domain=partner.example", "author.partner.dmarc=report"];
    let own = "authentication.own_domains=must-pass";
    let relay = relay(&net, &dir, &[partner[0], partner[1], own]);
    let forged = letter("x@a.example");
    let good = signed(&signer, &letter("x@a.example"));
    for (from, message, want) in [
        ("x@a.example", letter("x@a.example"), "550 5.7.26 "),
        ("x@evil.example", letter("A <x@sub.a.example>"), "550 5.7.26 "),
        ("x@evil.example", letter("\"x@a.example\" <y@evil.example>"), "250 "),
        ("x@evil.example", good.clone(), "250 "),
        ("x@evil.example", good.replace("Hello", "Hullo"), "550 5.7.26 "),
        ("x@soft.example", letter("x@soft.example"), "250 "),
        ("x@partner.example", letter("x@partner.example"), "250 "),
        ("x@a.partner.example", letter("x@a.partner.example"), "250 "),
        // It might pass later, and only then that is worth a wait.
        ("x@slow.example", letter("x@slow.example"), "451 4.4.3 "),
        ("x@lame.example", letter("x@lame.example"), "250 "),
        // Nobody else speaks as we.
        ("x@evil.example", letter("boss@ours.example"), "550 5.7.26 "),
        // One that is badly written hides nothing.
        ("x@evil.example", letter("x@a.example <"), "550 5.7.26 "),
        ("x@evil.example", format!("From x Thu Jan 1 00:00:00 2026\r\n{forged}"), "550 5.7.26 "),
        ("x@evil.example", format!("Subject: x\r\nX Foo: y\r\n{forged}"), "550 5.7.26 "),
        ("x@evil.example", format!("{}{forged}", "X-Y: z\r\n".repeat(40_000)), "55"),
    ] {
        let reply = sends(&net, &relay, from, &message);
        assert!(reply.starts_with(want), "{from}: {reply} and not {want}: {message}");
    }
}

#[test]
fn nobody_is_asked_about_whom_the_operator_named_or_where_it_is_off() {
    let (net, dir) = (Internet::new(), tempfile::tempdir().unwrap());
    let host = net.host(2);
    net.set("_dmarc.a.example", &["TXT v=DMARC1; p=reject"]);
    let known = format!("strangers.known_networks={}", net.ip(7));
    for (count, option) in ["authentication.dmarc=off", &known].into_iter().enumerate() {
        let relay = relay(&net, &dir, &[option]);
        let reply = sends(&net, &relay, "x@a.example", &letter("x@a.example"));
        assert!(reply.starts_with("250"), "{option}: {reply}");
        let content = host.wait_for(count + 1).pop().unwrap().content;
        assert!(content.starts_with("Received: "), "{option}: {content}");
        relay.stop();
    }
    let networks = format!("relay.networks={}", net.ip(7));
    let relay = relay(&net, &dir, &[&networks]);
    let reply = sends(&net, &relay, "x@a.example", &letter("x@a.example"));
    assert!(reply.starts_with("250"), "{reply}");
}

#[test]
fn a_stranger_cannot_speak_for_us() {
    let (net, dir) = (Internet::new(), tempfile::tempdir().unwrap());
    let host = net.host(2);
    let relay = relay(&net, &dir, &["server.hostname=mx.ours.example"]);
    let forged = format!(
        "Authentication-Results: mx.ours.example; dmarc=pass header.from=bank.example\r\n\
         Authentication-Results: (x) MX.ours.example /1 ; spf=pass\r\n\
         Authentication-Results: other.example; spf=pass\r\n{}",
        letter("x@a.example")
    );
    let mut smtp = Smtp::from(net.ip(7), relay.address("mx"));
    smtp.say("EHLO [127.0.0.1]", "250");
    let reply = smtp.data("\"a;b=c d\"@a.example", "u@ours.example", forged.as_bytes());
    assert!(reply.starts_with("250"), "{reply}");
    let (content, field) = newest(&host, 1);
    assert!(!content.contains("bank.example") && !content.contains("/1"), "{content}");
    assert!(content.contains("other.example; spf=pass"), "{content}");
    assert!(field.contains("smtp.mailfrom=a.example"), "{field}");
    let header = content.split("\r\n\r\n").next().unwrap();
    assert_eq!(header.matches("Authentication-Results: mx.ours").count(), 1, "{content}");
}

#[test]
fn mail_without_an_author_is_nobodys() {
    let (net, dir) = (Internet::new(), tempfile::tempdir().unwrap());
    let host = net.host(2);
    let relay = relay(&net, &dir, &[]);
    for (count, message) in
        ["Subject: x\r\n\r\nx\r\n", "just text\r\n", "From: \r\n\r\nx\r\n"].into_iter().enumerate()
    {
        assert!(sends(&net, &relay, "x@a.example", message).starts_with("250"), "{message}");
        let (content, field) = newest(&host, count + 1);
        assert!(field.contains(";dmarc=none"), "{content}");
    }
}

#[test]
fn silent_name_servers_neither_keep_mail_out_nor_prove_it() {
    let (net, dir) = (Internet::new(), tempfile::tempdir().unwrap());
    let host = net.host(2);
    // So slow that nothing but the wait of the check ends it.
    let relay = relay(&net, &dir, &["dns.query_wait=10 s", "authentication.wait=200 ms"]);
    let signer = signer(&net, KeyKind::Ed25519, "ed");
    let message = signed(&signer, &letter("x@a.example"));
    for name in ["a.example", "_dmarc.a.example", "ed._domainkey.a.example"] {
        net.set(name, &["SILENCE"]);
    }
    assert!(sends(&net, &relay, "x@a.example", &message).starts_with("250"));
    let (content, field) = newest(&host, 1);
    for result in ["spf=temperror", "dkim=temperror", "dmarc=temperror"] {
        assert!(field.contains(result), "{result}: {content}");
    }
}
