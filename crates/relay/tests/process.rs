//! The whole process on loopback: capture, TLS, AUTH, limits, drain, restart.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs
)]

mod common;

use std::{net::TcpStream, path::Path, sync::Arc};

use aws_lc_rs::{digest, hmac, pbkdf2};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use common::{Relay, Smtp, data_dir};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use rustls_pki_types::{CertificateDer, pem::PemObject};

#[test]
fn a_captured_message_is_read_back_octet_for_octet() {
    let dir = tempfile::tempdir().unwrap();
    let relay = Relay::start(&data_dir(&dir), &[]);
    let content = b"Subject: =?utf-8?q?Hall=C3=B6?=\r\n\r\n.\r\n..two\r\n\xff 8-bit\r\n";
    let mut smtp = relay.smtp();
    smtp.say("EHLO client.example", "250");
    let id = smtp.deliver(content);
    let list = relay.get_json("/v1/sandbox/messages");
    assert!(list.to_string().contains(&id), "{list}");
    assert!(list.to_string().contains("Hallö"), "{list}");
    assert_eq!(relay.raw(&id).as_deref(), Some(&content[..]));
    assert_eq!(relay.get("/readyz").0, 200);
    smtp.say("QUIT", "221");
    let line = relay.wait_for(|line| line["event"] == "SessionEnded").unwrap();
    assert_eq!((&line["end"], &line["accepted"]), (&"Quit".into(), &1.into()));
    let metrics = String::from_utf8(relay.get("/metrics").1).unwrap();
    assert!(metrics.contains("merpati_events_total{event=\"Captured\"} 1"), "{metrics}");
    assert!(relay.stop().success());
}

#[test]
fn large_contents_and_chunks_come_out_octet_for_octet() {
    let dir = tempfile::tempdir().unwrap();
    let relay = Relay::start(&data_dir(&dir), &[]);
    let mut smtp = relay.smtp();
    smtp.say("EHLO client.example", "250");
    for octets in [0, 1, 16_383, 262_142, 262_144, 262_147, 3_000_000] {
        let mut content: Vec<u8> = b"X: y\r\n\r\n".to_vec();
        content.extend((0..octets).map(|n: u32| b'a' + u8::try_from(n % 26).unwrap()));
        content.extend(b"\r\n");
        let by_data = smtp.deliver(&content);
        smtp.say("MAIL FROM:<a@a.example>", "250");
        smtp.say("RCPT TO:<b@b.example>", "250");
        let (first, last) = content.split_at(content.len() / 3);
        smtp.send(format!("BDAT {}\r\n", first.len()).as_bytes());
        smtp.send(first);
        assert!(smtp.reply().starts_with("250"));
        smtp.send(format!("BDAT {} LAST\r\n", last.len()).as_bytes());
        smtp.send(last);
        let by_chunks = common::queued_as(&smtp.reply()).unwrap();
        for id in [by_data, by_chunks] {
            assert!(relay.raw(&id).as_ref() == Some(&content), "{octets} octets");
        }
    }
}

#[test]
fn a_restart_keeps_captured_mail_and_what_was_cleared_stays_away() {
    let dir = tempfile::tempdir().unwrap();
    let relay = Relay::start(&data_dir(&dir), &[]);
    let mut smtp = relay.smtp();
    smtp.say("HELO client.example", "250");
    let kept = smtp.deliver(b"Subject: kept\r\n\r\n");
    let large = format!("Subject: large\r\n\r\n{}\r\n", "x".repeat(400_000)).into_bytes();
    let large_id = smtp.deliver(&large);
    let gone = smtp.deliver(b"Subject: gone\r\n\r\n");
    let path = format!("/v1/sandbox/messages/{gone}");
    assert!(common::http(relay.address("http"), "DELETE", &path).0 < 300);
    assert!(relay.raw(&gone).is_none());
    assert!(relay.stop().success());
    for end in ["TERM", "KILL"] {
        let relay = Relay::start(&data_dir(&dir), &[]);
        assert_eq!(relay.raw(&kept).as_deref(), Some(&b"Subject: kept\r\n\r\n"[..]));
        assert!(relay.raw(&large_id).as_ref() == Some(&large));
        assert!(relay.raw(&gone).is_none());
        relay.signal(end);
        relay.wait();
    }
}

#[test]
fn a_second_process_on_the_same_directory_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let relay = Relay::start(&data_dir(&dir), &[]);
    let (status, text) = Relay::try_start(&data_dir(&dir), &[]).err().unwrap();
    assert!(!status.success());
    assert!(text.contains("already uses the spool"), "{text}");
    // The first one is not disturbed, its control socket neither.
    assert!(data_dir(&dir).join("control.sock").exists());
    relay.smtp().say("NOOP", "250");
}

#[test]
fn a_port_that_is_taken_is_told_with_the_line_that_names_it() {
    let dir = tempfile::tempdir().unwrap();
    let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = other.local_addr().unwrap();
    let text = format!(
        "[[listener]]\nname = \"mx\"\nkind = \"sandbox\"\n\
         listen = [\"127.0.0.1:0\", \"{address}\"]\n"
    );
    let data = data_dir(&dir);
    std::fs::write(data.with_extension("toml"), text).unwrap();
    let (status, text) = Relay::try_start(&data, &[]).err().unwrap();
    assert!(!status.success());
    let help = format!("= help: `ss -ltnp 'sport = :{}'` names", address.port());
    let why = format!("listener.mx.listen: cannot listen on {address}: Address already in use");
    for part in [why.as_str(), ".toml:4:10", &help] {
        assert!(text.contains(part), "{text}\nlacks {part}");
    }
}

#[test]
fn draining_tells_421_and_finishes_what_was_begun() {
    let dir = tempfile::tempdir().unwrap();
    let relay = Relay::start(&data_dir(&dir), &[]);
    let (mut idle, mut busy) = (relay.smtp(), relay.smtp());
    busy.say("EHLO client.example", "250");
    busy.say("MAIL FROM:<a@a.example>", "250");
    busy.say("RCPT TO:<b@b.example>", "250");
    busy.say("DATA", "354");
    busy.send(b"Subject: begun\r\n");
    relay.signal("TERM");
    assert!(idle.reply().starts_with("421"), "an idle session is told at once");
    assert_eq!(relay.get("/readyz").0, 503);
    busy.send(b"\r\nbody\r\n.\r\n");
    let reply = busy.reply();
    let id = common::queued_as(&reply).unwrap();
    assert!(busy.reply().starts_with("421"));
    assert!(relay.wait().success());
    let relay = Relay::start(&data_dir(&dir), &[]);
    assert_eq!(relay.raw(&id).as_deref(), Some(&b"Subject: begun\r\n\r\nbody\r\n"[..]));
}

#[test]
fn no_address_takes_more_than_its_share_of_connections() {
    let dir = tempfile::tempdir().unwrap();
    let setting = "listener.sandbox.connections_per_address_max=2";
    let relay = Relay::start(&data_dir(&dir), &[setting]);
    let (first, _second) = (relay.smtp(), relay.smtp());
    let refused = Smtp::silent(relay.address("sandbox")).reply();
    assert!(refused.starts_with("421 4.7.0"), "{refused}");
    let line = relay.wait_for(|line| line["last_rule"] == "connections-per-address");
    assert_eq!(line.unwrap()["end"], "Aborted");
    let mut first = first;
    first.say("QUIT", "221");
    relay.wait_for(|line| line["end"] == "Quit").unwrap();
    // The place is given back when the other end has closed as well.
    drop(first);
    while !Smtp::silent(relay.address("sandbox")).reply().starts_with("220") {}
}

#[test]
fn captured_mail_beyond_the_quota_goes_and_discarded_mail_is_never_kept() {
    let dir = tempfile::tempdir().unwrap();
    let relay = Relay::start(&data_dir(&dir), &["sandbox.keep_count_max=2"]);
    let mut smtp = relay.smtp();
    smtp.say("EHLO client.example", "250");
    let ids: Vec<String> = (0..4).map(|_| smtp.deliver(b"Subject: x\r\n\r\n")).collect();
    let kept = ids.iter().filter(|id| relay.raw(id).is_some()).collect::<Vec<_>>();
    assert_eq!(kept, [&ids[2], &ids[3]]);
    relay.wait_for(|line| line["event"] == "Retired" && line["id"] == *ids[1]).unwrap();
    assert!(relay.stop().success());
    let relay = Relay::start(&data_dir(&dir), &["sandbox.after_capture=discard"]);
    let mut smtp = relay.smtp();
    smtp.say("EHLO client.example", "250");
    let id = smtp.deliver(b"Subject: x\r\n\r\n");
    relay.wait_for(|line| line["event"] == "Retired" && line["id"] == *id).unwrap();
    assert!(relay.raw(&id).is_none());
}

/// A certificate for `localhost` in two PEM files, as settings of the listener.
fn certificate(dir: &Path, use_of: &str) -> (Vec<String>, Arc<ClientConfig>) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (chain, key) = (dir.join("chain.pem"), dir.join("key.pem"));
    std::fs::write(&chain, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let client = believing(&chain);
    let settings = vec![
        format!("listener.sandbox.tls={use_of}"),
        format!("listener.sandbox.tls_certificate={}", chain.display()),
        format!("listener.sandbox.tls_key={}", key.display()),
    ];
    (settings, client)
}

/// A client that believes this certificate alone.
fn believing(chain: &Path) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(chain).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(client)
}

fn over_tls(
    stream: TcpStream,
    client: &Arc<ClientConfig>,
) -> Smtp<StreamOwned<ClientConnection, TcpStream>> {
    let name = "localhost".try_into().unwrap();
    let connection = ClientConnection::new(Arc::clone(client), name).unwrap();
    Smtp::over(StreamOwned::new(connection, stream))
}

#[test]
fn starttls_leads_to_a_captured_message_with_its_tls_facts() {
    let dir = tempfile::tempdir().unwrap();
    let (settings, client) = certificate(dir.path(), "starttls");
    let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
    let relay = Relay::start(&data_dir(&dir), &settings);
    let mut smtp = relay.smtp();
    assert!(smtp.say("EHLO client.example", "250").contains("STARTTLS"));
    // What a man in the middle puts behind STARTTLS must never be believed (RFC 3207 §5).
    smtp.send(b"STARTTLS\r\nRSET\r\n");
    assert!(smtp.reply().starts_with("220"));
    let mut smtp = over_tls(smtp.into_stream(), &client);
    assert!(!smtp.say("EHLO client.example", "250").contains("STARTTLS"));
    let id = smtp.deliver(b"Subject: over TLS\r\n\r\n");
    let line = relay.wait_for(|line| line["id"] == *id).unwrap();
    assert_eq!((&line["tls"], &line["protocol"]), (&"TLSv1.3".into(), &"ESMTPS".into()));
    assert!(line["cipher"].as_str().unwrap().starts_with("TLS_"));
}

#[test]
fn a_listener_with_tls_and_no_certificate_shows_one_of_its_own_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let made = data_dir(&dir).join("tls/self-signed.pem");
    for start in ["first", "second"] {
        let relay = Relay::start(&data_dir(&dir), &["listener.sandbox.tls=starttls"]);
        // The one of the first start is believed at the second, too.
        let client = believing(&made);
        let said = relay.wait_for(|line| line["event"] == "SelfSigned").unwrap();
        assert_eq!(said["listener"], "sandbox");
        assert_eq!(said["certificate"], made.to_str().unwrap());
        let listeners = &relay.get_json("/v1/status")["listeners"];
        assert_eq!(
            (&listeners[0]["self_signed"], &listeners[1]["self_signed"]),
            (&true.into(), &false.into())
        );
        let mut smtp = relay.smtp();
        smtp.say("EHLO client.example", "250");
        smtp.say("STARTTLS", "220");
        let mut smtp = over_tls(smtp.into_stream(), &client);
        smtp.say("EHLO client.example", "250");
        smtp.deliver(format!("Subject: {start}\r\n\r\n").as_bytes());
        relay.signal("TERM");
        let (status, text) = relay.wait_with_errors();
        assert!(status.success() && text.contains("Set tls_certificate and tls_key"), "{text}");
    }
}

#[test]
fn implicit_tls_speaks_from_the_first_octet() {
    let dir = tempfile::tempdir().unwrap();
    let (settings, client) = certificate(dir.path(), "implicit");
    let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
    let relay = Relay::start(&data_dir(&dir), &settings);
    let stream = Smtp::silent(relay.address("sandbox")).into_stream();
    let mut smtp = over_tls(stream, &client);
    assert!(smtp.reply().starts_with("220"));
    smtp.say("EHLO client.example", "250");
    smtp.deliver(b"Subject: over TLS\r\n\r\n");
    // Clear text there is nobody's business but the handshake's, which fails.
    let mut clear = Smtp::silent(relay.address("sandbox"));
    clear.send(b"EHLO client.example\r\n");
    assert!(!clear.try_reply().unwrap_or_default().starts_with('2'));
}

#[test]
fn only_the_right_password_authenticates() {
    let dir = tempfile::tempdir().unwrap();
    let line = merpati_relay::credential::hash("open sesame").unwrap();
    let entry = format!("[[credential]]\nname = \"ali\"\npassword = \"{line}\"\n");
    std::fs::write(data_dir(&dir).with_extension("toml"), entry).unwrap();
    let relay = Relay::start(&data_dir(&dir), &["listener.sandbox.auth=allow-clear"]);
    let mut smtp = relay.smtp();
    assert!(smtp.say("EHLO client.example", "250").contains("AUTH SCRAM-SHA-256 PLAIN LOGIN"));
    // \0ali\0wrong, then \0ali\0open sesame
    smtp.say("AUTH PLAIN AGFsaQB3cm9uZw==", "535");
    smtp.say("AUTH PLAIN AGFsaQBvcGVuIHNlc2FtZQ==", "235");
    let id = smtp.deliver(b"Subject: x\r\n\r\n");
    let line = relay.wait_for(|line| line["id"] == *id).unwrap();
    assert_eq!((&line["credential"], &line["protocol"]), (&"ali".into(), &"ESMTPA".into()));
}

#[test]
fn a_rehearsal_refuses_what_a_relay_would_refuse_and_captures_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    let settings = ["listener.sandbox.kind=rehearsal", "relay.local_domains=b.example"];
    let relay = Relay::start(&data_dir(&dir), &settings);
    let mut smtp = relay.smtp();
    smtp.say("EHLO client.example", "250");
    smtp.say("MAIL FROM:<a@a.example>", "250");
    smtp.say("RCPT TO:<c@c.example>", "550 5.7.1");
    smtp.say("RSET", "250");
    let id = smtp.deliver(b"Subject: x\r\n\r\n");
    relay.wait_for(|line| line["event"] == "Captured" && line["id"] == *id).unwrap();
    let kept = relay.get_json(&format!("/v1/sandbox/messages/{id}"));
    assert_eq!(kept["id"], *id);
    assert!(relay.stop().success());
}

/// A relay with a submission listener `sub`, a relay listener `mx` and a credential `ani` with the
/// password `open sesame`; all that it takes in is refused by its only route.
fn submitting(dir: &tempfile::TempDir, settings: &[&str]) -> Relay {
    let line = merpati_relay::credential::hash("open sesame").unwrap();
    let entry = format!(
        "[[credential]]\nname = \"ani\"\npassword = \"{line}\"\nsenders = [\"ani@b.example\"]\n\
         [[route]]\nname = \"none\"\nto = \"refuse nobody\"\n"
    );
    std::fs::write(data_dir(dir).with_extension("toml"), entry).unwrap();
    let mut all = vec![
        "relay.local_domains=b.example",
        "listener.mx.kind=relay",
        "listener.mx.listen=127.0.0.1:0",
        "listener.sub.kind=submission",
        "listener.sub.listen=127.0.0.1:0",
    ];
    all.extend(settings);
    Relay::start(&data_dir(dir), &all)
}

/// `\0ani\0open sesame`.
const AUTH: &str = "AUTH PLAIN AGFuaQBvcGVuIHNlc2FtZQ==";

#[test]
fn a_submission_listener_takes_mail_from_its_authors_alone() {
    let dir = tempfile::tempdir().unwrap();
    let relay = submitting(&dir, &["listener.sub.auth=allow-clear"]);
    let mut smtp = Smtp::connect(relay.address("sub"));
    smtp.say("EHLO client.example", "250");
    smtp.say("MAIL FROM:<ani@b.example>", "530 5.7.0");
    smtp.say("RCPT TO:<c@b.example>", "503");
    smtp.say(AUTH, "235");
    smtp.say("MAIL FROM:<boss@b.example>", "553 5.7.1");
    let spoofed = b"From: boss@b.example\r\n\r\n";
    assert!(smtp.data("ani@b.example", "c@c.example", spoofed).starts_with("550 5.7.1"));
    assert!(smtp.data("", "c@c.example", b"From: ani\r\n\r\n").starts_with("550 5.6.0"));
    let own = b"From: Ani <ani@b.example>\r\nBcc: d@d.example\r\n\r\n";
    let taken = smtp.data("ani@b.example", "c@c.example", own);
    assert!(common::queued_as(&taken).is_some(), "{taken}");
    assert!(smtp.data("", "c@c.example", b"no header\r\n").starts_with("550 5.6.0"));
    let taken = smtp.data("ani@b.example", "c@c.example", b"no header\r\n");
    assert!(common::queued_as(&taken).is_some(), "{taken}");
    assert!(relay.stop().success());
}

#[test]
fn a_relay_listener_takes_what_is_for_us_from_anybody_and_the_rest_from_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let relay = submitting(&dir, &["listener.sub.auth=allow-clear"]);
    let mut smtp = Smtp::connect(relay.address("mx"));
    smtp.say("EHLO client.example", "250");
    let spoofed = b"From: boss@b.example\r\n\r\n";
    assert!(smtp.data("", "c@b.example", spoofed).starts_with("250"));
    smtp.say("MAIL FROM:<ani@b.example>", "250");
    smtp.say("RCPT TO:<c@c.example>", "550 5.7.1");
    smtp.say("RCPT TO:<postmaster>", "250");
    smtp.say("RSET", "250");
    let looping = "Received: by x; y\r\n".repeat(101);
    assert!(smtp.data("", "c@b.example", looping.as_bytes()).starts_with("554 5.4.6"));
    assert!(relay.stop().success());
}

#[test]
fn no_password_is_asked_for_in_the_clear() {
    let dir = tempfile::tempdir().unwrap();
    let (settings, client) = certificate(dir.path(), "starttls");
    let settings: Vec<String> = settings
        .iter()
        .map(|setting| setting.replace("listener.sandbox", "listener.sub"))
        .collect();
    let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
    let relay = submitting(&dir, &settings);
    let mut smtp = Smtp::connect(relay.address("sub"));
    assert!(!smtp.say("EHLO client.example", "250").contains("AUTH"));
    smtp.say(AUTH, "538 5.7.11");
    smtp.say("MAIL FROM:<ani@b.example>", "530 5.7.0");
    smtp.say("STARTTLS", "220");
    let mut smtp = over_tls(smtp.into_stream(), &client);
    let told = "AUTH SCRAM-SHA-256-PLUS SCRAM-SHA-256 PLAIN LOGIN";
    assert!(smtp.say("EHLO client.example", "250").contains(told));
    smtp.say("MAIL FROM:<ani@b.example>", "530 5.7.0");
    smtp.say(AUTH, "235");
    smtp.say("MAIL FROM:<ani@b.example>", "250");
    smtp.say("RCPT TO:<c@c.example>", "250");
}

/// The last message of SCRAM-SHA-256-PLUS to this challenge, bound to this value.
fn scram_last(challenge: &str, bare: &str, binding: &[u8]) -> String {
    let decoded = STANDARD.decode(challenge).unwrap();
    let challenge = String::from_utf8(decoded).unwrap();
    let mut parts = challenge.split(',').map(|part| &part[2..]);
    let (nonce, salt, rounds) =
        (parts.next().unwrap(), parts.next().unwrap(), parts.next().unwrap());
    let mut salted = [0; 32];
    let (rounds, salt) = (rounds.parse().unwrap(), STANDARD.decode(salt).unwrap());
    let algorithm = pbkdf2::PBKDF2_HMAC_SHA256;
    pbkdf2::derive(algorithm, rounds, &salt, b"open sesame", &mut salted);
    let sign = |key: &[u8], text: &[u8]| hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text);
    let key = sign(&salted, b"Client Key");
    let bound = STANDARD.encode([&b"p=tls-exporter,,"[..], binding].concat());
    let last = format!("c={bound},r={nonce}");
    let all = format!("{bare},{challenge},{last}");
    let signature = sign(digest::digest(&digest::SHA256, key.as_ref()).as_ref(), all.as_bytes());
    let proof: Vec<u8> =
        key.as_ref().iter().zip(signature.as_ref()).map(|(one, other)| one ^ other).collect();
    STANDARD.encode(format!("{last},p={}", STANDARD.encode(proof)))
}

#[test]
fn a_proof_that_is_bound_to_this_tls_session_is_good_in_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let (settings, client) = certificate(dir.path(), "implicit");
    let settings: Vec<String> = settings
        .iter()
        .map(|setting| setting.replace("listener.sandbox", "listener.sub"))
        .collect();
    let mut settings: Vec<&str> = settings.iter().map(String::as_str).collect();
    settings.push("auth.failure_wait=0 s");
    let relay = submitting(&dir, &settings);
    let name: rustls_pki_types::ServerName<'_> = "localhost".try_into().unwrap();
    let connect = || {
        let mut stream = Smtp::silent(relay.address("sub")).into_stream();
        let mut tls = ClientConnection::new(Arc::clone(&client), name.to_owned()).unwrap();
        while tls.is_handshaking() {
            tls.complete_io(&mut stream).unwrap();
        }
        let label = b"EXPORTER-Channel-Binding";
        let binding = tls.export_keying_material([0; 32], label, Some(&[])).unwrap();
        let mut smtp = Smtp::over(StreamOwned::new(tls, stream));
        assert!(smtp.reply().starts_with("220"));
        assert!(smtp.say("EHLO client.example", "250").contains("AUTH SCRAM-SHA-256-PLUS "));
        (smtp, binding)
    };
    let bare = "n=ani,r=fyko+d2lbbFgONRv9qkxdawL";
    let first = STANDARD.encode(format!("p=tls-exporter,,{bare}"));
    let begin = format!("AUTH SCRAM-SHA-256-PLUS {first}");
    let ((mut one, binding), (mut other, other_binding)) = (connect(), connect());
    assert_ne!(binding, other_binding);
    let challenge = other.say(&begin, "334");
    other.say(&scram_last(challenge[4..].trim_end(), bare, &binding), "535 5.7.8");
    let challenge = one.say(&begin, "334");
    one.say(&scram_last(challenge[4..].trim_end(), bare, &binding), "334");
    one.say("", "235 2.7.0");
    one.say("MAIL FROM:<ani@b.example>", "250");
}
