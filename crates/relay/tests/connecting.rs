//! Who connects, through whom, and how much of it is borne: a real process and raw clients.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
#![allow(missing_docs)]

mod common;

use std::{
    io::Write,
    net::TcpStream,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use common::{Relay, Smtp, data_dir};
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject};

/// A relay with these settings of its sandbox.
fn relay(temporary: &tempfile::TempDir, settings: &[&str]) -> Relay {
    let all: Vec<String> =
        settings.iter().map(|setting| format!("listener.sandbox.{setting}")).collect();
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    Relay::start(&data_dir(temporary), &all)
}

/// Connects and says this before anything else.
fn saying(relay: &Relay, octets: &[u8]) -> Smtp<TcpStream> {
    let mut client = Smtp::silent(relay.address("sandbox"));
    client.send(octets);
    client
}

fn proxied(command: u8, transport: u8, rest: &[u8]) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
    header.extend([command, transport]);
    header.extend(u16::try_from(rest.len()).unwrap().to_be_bytes());
    header.extend(rest);
    header
}

const V4: [u8; 12] = [192, 0, 2, 7, 198, 51, 100, 1, 0x12, 0x67, 0, 25];

#[test]
fn a_listed_proxy_says_who_the_client_is() {
    let temporary = tempfile::tempdir().unwrap();
    let relay = relay(&temporary, &["proxy_from=127.0.0.1"]);
    for (header, want) in [
        (b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 25\r\n".to_vec(), "192.0.2.7:4711"),
        (b"PROXY TCP6 2001:db8::7 2001:db8::1 4711 25\r\n".to_vec(), "[2001:db8::7]:4711"),
        (proxied(0x21, 0x11, &V4), "192.0.2.7:4711"),
        (proxied(0x20, 0x00, b""), "127.0.0.1"),
        (b"PROXY UNKNOWN\r\n".to_vec(), "127.0.0.1"),
    ] {
        // In one segment with a command: nothing behind the header is lost.
        let mut client = saying(&relay, &[&header[..], b"EHLO c.example\r\n"].concat());
        assert!(client.reply().starts_with("220"), "{}", header.escape_ascii());
        let address = want.rsplit_once(':').map_or(want, |(address, _)| address);
        let greets = format!("greets [{}]", address.trim_matches(['[', ']']));
        let reply = client.reply();
        assert!(reply.contains(&greets), "{reply}");
        let id = client.deliver(b"Subject: x\r\n\r\n");
        let captured = relay.wait_for(|line| line["id"] == id.as_str()).unwrap();
        assert!(captured["peer"].as_str().unwrap().starts_with(want), "{captured}");
        client.say("QUIT", "221");
        let ended = relay
            .wait_for(|line| {
                line["event"] == "SessionEnded"
                    && line["peer"] == captured["peer"]
                    && line["proxy"].as_str().is_some_and(|proxy| proxy.starts_with("127.0.0.1:"))
            })
            .unwrap();
        assert_eq!(ended["end"], "Quit");
    }
}

#[test]
fn a_proxy_whose_header_is_wrong_or_late_or_missing_is_not_served() {
    let temporary = tempfile::tempdir().unwrap();
    let relay = relay(&temporary, &["proxy_from=127.0.0.1"]);
    for header in [
        b"PROXY TCP4 192.0.2.7\r\n".to_vec(),
        b"EHLO c.example\r\n".to_vec(),
        proxied(0x21, 0x31, &[b'/'; 216]),
        proxied(0x21, 0x11, &V4[..4]),
        proxied(0x21, 0x11, &[&V4[..], b"\x05\0\xffx"].concat()),
        proxied(0x21, 0x00, &vec![0; 65_535]),
    ] {
        let mut client = Smtp::silent(relay.address("sandbox"));
        // The relay may close before it has taken all of it.
        client.try_send(&header).ok();
        let reply = client.try_reply().unwrap_or_default();
        assert_eq!(reply, "", "{}", header[..20.min(header.len())].escape_ascii());
    }
    // Late: half of it, and then nothing.
    let began = Instant::now();
    let mut late = saying(&relay, b"PROXY TCP4 192.0.2.7");
    assert_eq!(late.try_reply().unwrap_or_default(), "");
    assert!(began.elapsed() >= Duration::from_secs(4), "{:?}", began.elapsed());
    let ended = relay.wait_for_all(7, |line| line["refusals"]["proxy-header"] == 1);
    assert!(ended.iter().all(|line| line["end"] == "Aborted"), "{ended:?}");
    assert!(ended.iter().any(|line| line["reason"] == "the PROXY header did not come in time"));
}

#[test]
fn a_stranger_who_speaks_for_others_is_sent_away() {
    let temporary = tempfile::tempdir().unwrap();
    let relay = relay(&temporary, &["proxy_from=192.0.2.0/24"]);
    let mut client = relay.smtp();
    client.say("PROXY TCP4 192.0.2.7 198.51.100.1 1 25", "554 5.7.1");
    assert_eq!(client.reply(), "");
    let mut client = relay.smtp();
    client.send(&proxied(0x21, 0x11, &V4));
    assert!(client.reply().starts_with("500"));
    let ended = relay.wait_for(|line| line["last_rule"] == "proxy-denied").unwrap();
    assert!(ended["peer"].as_str().unwrap().starts_with("127.0.0.1:"), "{ended}");
}

#[test]
fn behind_a_proxy_the_limits_are_those_of_the_client() {
    let temporary = tempfile::tempdir().unwrap();
    let limits = ["proxy_from=127.0.0.1", "connections_per_address_max=2"];
    let relay = relay(&temporary, &limits);
    let connect = |last: u8| {
        let line = format!("PROXY TCP4 192.0.2.{last} 198.51.100.1 4711 25\r\n");
        let mut client = saying(&relay, line.as_bytes());
        let greeting = client.reply();
        (client, greeting)
    };
    let kept: Vec<_> = [1, 1, 2, 2].into_iter().map(connect).collect();
    assert!(kept.iter().all(|(_, greeting)| greeting.starts_with("220")));
    assert!(connect(1).1.starts_with("421 4.7.0"));
    assert!(connect(3).1.starts_with("220"));
}

#[test]
fn whom_a_listed_introducer_introduces_is_the_client() {
    let temporary = tempfile::tempdir().unwrap();
    let relay = relay(&temporary, &["xclient_from=127.0.0.1"]);
    let mut client = relay.smtp();
    let ehlo = client.say("EHLO front.example", "250");
    assert!(ehlo.contains("XCLIENT NAME ADDR PORT PROTO HELO LOGIN"), "{ehlo}");
    client.say("XCLIENT ADDR=192.0.2.7 PORT=4711 NAME=c.example", "220");
    let ehlo = client.say("EHLO c.example", "250");
    assert!(ehlo.contains("greets [192.0.2.7]"), "{ehlo}");
    let id = client.deliver(b"Subject: x\r\n\r\n");
    let captured = relay.wait_for(|line| line["id"] == id.as_str()).unwrap();
    assert_eq!(captured["peer"], "192.0.2.7:4711");
}

#[test]
fn an_unknown_login_of_an_introducer_sends_nothing() {
    let temporary = tempfile::tempdir().unwrap();
    let relay = Relay::start(
        &data_dir(&temporary),
        &[
            "listener.mx.kind=relay",
            "listener.mx.listen=127.0.0.1:0",
            "listener.mx.auth=allow-clear",
            "listener.mx.xclient_from=127.0.0.1",
            "relay.local_domains=ours.example",
            "route.all.to=refuse not here",
        ],
    );
    let mut client = Smtp::connect(relay.address("mx"));
    client.say("XCLIENT ADDR=192.0.2.7 LOGIN=nobody", "220");
    client.say("EHLO c.example", "250");
    for sender in ["", "a@ours.example"] {
        client.say(&format!("MAIL FROM:<{sender}>"), "553 5.7.1");
    }
}

#[test]
fn strangers_wait_for_the_greeting_where_it_is_delayed() {
    let temporary = tempfile::tempdir().unwrap();
    let relay = relay(&temporary, &["greeting_wait=300 ms"]);
    let began = Instant::now();
    let mut client = relay.smtp();
    assert!(began.elapsed() >= Duration::from_millis(300));
    client.say("EHLO c.example", "250");
    let mut early = saying(&relay, b"EHLO c.example\r\n");
    assert!(early.reply().starts_with("554 5.5.1"));
    assert_eq!(early.reply(), "");
}

#[test]
fn messages_and_recipients_in_a_minute_are_limited_but_complaints_are_not() {
    let temporary = tempfile::tempdir().unwrap();
    let limits = ["messages_per_minute_max=2", "recipients_per_minute_max=4"];
    let relay = relay(&temporary, &limits);
    let mut client = relay.smtp();
    client.say("EHLO c.example", "250");
    for want in ["250", "250", "450 4.7.1 too many messages", "450 4.7.1 too many messages"] {
        client.say("RSET", "250");
        client.say("MAIL FROM:<a@a.example>", "250");
        client.say("RCPT TO:<b@b.example>", want);
    }
    // One that is refused was no message, but a recipient.
    client.say("RCPT TO:<b@b.example>", "450 4.7.1 too many recipients");
    client.say("RCPT TO:<postmaster>", "250");
    client.say("RCPT TO:<Abuse@b.example>", "250");
}

#[test]
fn who_connects_too_often_is_told_to_come_later() {
    let temporary = tempfile::tempdir().unwrap();
    let relay = relay(&temporary, &["connections_per_minute_max=2"]);
    for _ in 0..2 {
        relay.smtp().say("QUIT", "221");
    }
    let mut third = Smtp::silent(relay.address("sandbox"));
    assert!(third.reply().starts_with("421 4.7.0 you connect too often"));
    assert_eq!(third.reply(), "");
}

#[test]
fn who_never_reads_our_replies_is_not_borne_for_ever() {
    let temporary = tempfile::tempdir().unwrap();
    let relay = relay(&temporary, &["write_wait=500 ms"]);
    let mut deaf = relay.smtp();
    let group = b"NOOP\r\n".repeat(10_000);
    while deaf.try_send(&group).is_ok() {}
    let ended = relay.wait_for(|line| line["event"] == "SessionEnded").unwrap();
    assert_eq!(ended["end"], "Gone");
}

#[test]
fn a_session_that_is_ended_is_heard_to_the_end() {
    let temporary = tempfile::tempdir().unwrap();
    let relay = relay(&temporary, &[]);
    for _ in 0..20 {
        let mut browser = relay.smtp();
        // More than the relay reads at once: what is left must not reset the connection.
        let request = [&b"POST / HTTP/1.1\r\n"[..], &b"x: y\r\n".repeat(40_000)].concat();
        browser.try_send(&request).ok();
        assert!(browser.try_reply().unwrap().starts_with("421 4.7.0"));
        assert_eq!(browser.try_reply().unwrap(), "");
    }
}

/// Writes a certificate for this name and its key.
fn issue(folder: &Path, file: &str, name: &str) -> (PathBuf, PathBuf) {
    let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
    let paths = (folder.join(format!("{file}.pem")), folder.join(format!("{file}.key")));
    std::fs::write(&paths.0, made.cert.pem()).unwrap();
    std::fs::write(&paths.1, made.signing_key.serialize_pem()).unwrap();
    paths
}

/// Speaks TLS with `name`, trusting only this certificate, after saying this in the clear.
fn tls_behind(
    relay: &Relay,
    (trust, name): (&Path, &str),
    header: &[u8],
) -> Smtp<StreamOwned<ClientConnection, TcpStream>> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(trust).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let connection = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut stream = TcpStream::connect(relay.address("sandbox")).unwrap();
    stream.set_read_timeout(Some(common::PATIENCE)).unwrap();
    stream.write_all(header).unwrap();
    Smtp::over(StreamOwned::new(connection, stream))
}

#[test]
fn behind_a_proxy_tls_begins_after_the_header() {
    let temporary = tempfile::tempdir().unwrap();
    let files = issue(temporary.path(), "mx", "mx.example");
    let relay = relay(
        &temporary,
        &[
            "tls=implicit",
            &format!("tls_certificate={}", files.0.display()),
            &format!("tls_key={}", files.1.display()),
            "proxy_from=127.0.0.1",
        ],
    );
    let header = proxied(0x21, 0x11, &V4);
    let mut client = tls_behind(&relay, (&files.0, "mx.example"), &header);
    assert!(client.reply().starts_with("220"));
    let ehlo = client.say("EHLO c.example", "250");
    assert!(ehlo.contains("greets [192.0.2.7]"), "{ehlo}");
}
