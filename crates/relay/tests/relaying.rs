//! Mail that goes on: one relay hands over to another process, which captures it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
#![allow(missing_docs)]

mod common;

use std::{
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpListener},
    thread,
};

use common::{Relay, data_dir, queued_as};

/// A relay whose only route leads to `next`.
fn relay(dir: &tempfile::TempDir, next: &str, more: &[&str]) -> Relay {
    let all = [
        "server.hostname=mx.ours.example".to_owned(),
        "listener.mx.kind=relay".to_owned(),
        "listener.mx.listen=127.0.0.1:0".to_owned(),
        "relay.networks=127.0.0.0/8".to_owned(),
        "retry.first_wait=1 s".to_owned(),
        format!("route.all.to=smtp://{next}"),
    ];
    // The first route that covers a recipient decides.
    let all: Vec<&str> = more.iter().copied().chain(all.iter().map(String::as_str)).collect();
    Relay::start(&data_dir(dir), &all)
}

fn store(dir: &tempfile::TempDir) -> Relay {
    Relay::start(&data_dir(dir), &["listener.sandbox.message_size_max=20 MiB"])
}

/// The one captured message of a sandbox, once it is there.
fn captured(store: &Relay) -> Vec<u8> {
    let id = store.wait_for(|line| line["event"] == "Captured").unwrap()["id"].clone();
    store.raw(id.as_str().unwrap()).unwrap()
}

/// A host that offers no extension, and whose only client asks for none of its recipients.
fn plain_host() -> (SocketAddr, thread::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let said = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(b"220 plain.example\r\n").unwrap();
        let mut verbs = Vec::new();
        for line in BufReader::new(stream.try_clone().unwrap()).lines() {
            let verb = line.unwrap().split(' ').next().unwrap().to_owned();
            let reply = if verb == "QUIT" { "221 bye\r\n" } else { "250 plain.example\r\n" };
            stream.write_all(reply.as_bytes()).unwrap();
            verbs.push(verb);
        }
        verbs
    });
    (address, said)
}

#[test]
fn what_cannot_be_had_in_seven_bits_is_returned_with_the_reason() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = store(&there);
    let (plain, said) = plain_host();
    let to_plain = ["route.plain.recipient_domains=plain.example", "delivery.idle_wait=1 s"];
    let more = [to_plain[0], &format!("route.plain.to=smtp://{plain}"), to_plain[1]];
    let relay = relay(&here, &store.address("sandbox").to_string(), &more);
    let mut smtp = common::Smtp::connect(relay.address("mx"));
    smtp.say("EHLO client.example", "250");
    let signed = "Content-Type: multipart/signed; boundary=b\r\n\r\n--b\r\n\r\n\u{fc}\r\n--b--\r\n";
    assert!(queued_as(&smtp.data("a@a.example", "x@plain.example", signed.as_bytes())).is_some());
    let report = String::from_utf8(captured(&store)).unwrap();
    assert!(report.contains("Status: 5.6.3\r\n"), "{report}");
    assert!(report.contains("8-bit octets are signed or encrypted\r\n"), "{report}");
    assert_eq!(said.join().unwrap(), ["EHLO", "QUIT"]);
}

#[test]
fn a_message_goes_on_octet_for_octet_with_one_field_on_top() {
    let large = [&b"Subject: large\r\n\r\n"[..], &b"0123456789abcdef\r\n".repeat(100_000)].concat();
    for content in [
        &b"Subject: x\r\n\r\nbody\r\n"[..],
        b"Subject: dots\r\n\r\n.\r\n..\r\n.x\r\n",
        b"Subject: \xc3\xa9\r\n\r\n\xff\xfe\r\n",
        b"\r\nno header\r\n",
        b" a blank first\r\n",
        b"",
        &large,
    ] {
        let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let store = store(&there);
        let relay = relay(&here, &store.address("sandbox").to_string(), &[]);
        let mut smtp = common::Smtp::connect(relay.address("mx"));
        smtp.say("EHLO client.example", "250");
        assert!(queued_as(&smtp.data("a@a.example", "b@b.example", content)).is_some());
        let arrived = captured(&store);
        let end = arrived.len() - content.len();
        assert_eq!(&arrived[end..], content);
        let added = String::from_utf8(arrived[..end].to_vec()).unwrap();
        assert!(
            added.starts_with("Received: from client.example (unknown [127.0.0.1])"),
            "{added}"
        );
        relay.wait_for(|line| line["event"] == "Retired").unwrap();
    }
}

#[test]
fn what_is_acknowledged_waits_through_a_kill_and_is_delivered_then() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let closed = TcpListener::bind("127.0.0.1:0").unwrap();
    let nowhere = closed.local_addr().unwrap().to_string();
    drop(closed);
    let first = relay(&here, &nowhere, &[]);
    let mut smtp = common::Smtp::connect(first.address("mx"));
    smtp.say("EHLO client.example", "250");
    let reply = smtp.data("a@a.example", "b@b.example", b"Subject: kept\r\n\r\n");
    let id = queued_as(&reply).unwrap();
    let attempted = first.wait_for(|line| line["event"] == "Attempted").unwrap();
    assert_eq!(attempted["outcomes"][0]["class"], "connection");
    let waiting = first.get_json("/v1/queue");
    assert!(waiting.to_string().contains(&id), "{waiting}");
    first.kill();
    let store = store(&there);
    let second = relay(&here, &store.address("sandbox").to_string(), &[]);
    assert!(captured(&store).ends_with(b"Subject: kept\r\n\r\n"));
    second.wait_for(|line| line["event"] == "Retired").unwrap();
}

#[test]
fn a_refusal_comes_back_as_a_report_and_a_report_never_does() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = store(&there);
    let next = store.address("sandbox").to_string();
    let refusing = ["route.no.recipient_domains=no.example", "route.no.to=refuse not from here"];
    let relay = relay(&here, &next, &refusing);
    let mut smtp = common::Smtp::connect(relay.address("mx"));
    smtp.say("EHLO client.example", "250");
    assert!(queued_as(&smtp.data("", "x@no.example", b"Subject: a report\r\n\r\n")).is_some());
    relay.wait_for(|line| line["event"] == "Retired").unwrap();
    let content = b"Subject: refused\r\nMessage-ID: <1@a.example>\r\n\r\nbody\r\n";
    assert!(queued_as(&smtp.data("a@a.example", "x@no.example", content)).is_some());
    let report = String::from_utf8(captured(&store)).unwrap();
    assert!(report.contains("multipart/report"), "{report}");
    assert!(report.contains("not from here"), "{report}");
    assert!(report.contains("Message-ID: <1@a.example>"), "{report}");
    let captured = store.get_json("/v1/sandbox/messages");
    assert_eq!(captured["data"].as_array().unwrap().len(), 1, "{captured}");
    assert_eq!(captured["data"][0]["envelope_from"], "", "{captured}");
}
