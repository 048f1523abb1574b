//! The listener for the web: policies for who asks by the right name, bounds for all others.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
#![allow(missing_docs)]

mod common;

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::Arc,
};

use common::{PATIENCE, Relay, Smtp, data_dir, internet::merpati};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject};
use tempfile::TempDir;

/// Starts a relay with this configuration besides, `@` standing for its folder.
fn start(dir: &TempDir, text: &str, settings: &[&str]) -> Relay {
    write(dir, text);
    let mut all = vec![
        "server.hostname=mx.ours.example",
        "https.listen=127.0.0.1:0",
        "https.http_listen=127.0.0.1:0",
    ];
    all.extend(settings);
    Relay::start(&data_dir(dir), &all)
}

fn write(dir: &TempDir, text: &str) {
    let text = text.replace('@', &dir.path().to_string_lossy());
    fs::write(data_dir(dir).with_extension("toml"), text).unwrap();
}

/// Writes a certificate for this name, and its key.
fn issue(dir: &TempDir, name: &str) {
    let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
    fs::write(dir.path().join(format!("{name}.pem")), made.cert.pem()).unwrap();
    fs::write(dir.path().join(format!("{name}.key")), made.signing_key.serialize_pem()).unwrap();
}

/// All that comes for this request, over TLS with a host that has exactly this certificate.
fn ask(address: SocketAddr, dir: &TempDir, host: &str, request: &str) -> String {
    let mut roots = RootCertStore::empty();
    let certificate = dir.path().join(format!("{host}.pem"));
    roots.add(CertificateDer::from_pem_file(certificate).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let name = ServerName::try_from(host.to_owned()).unwrap();
    let mut stream = StreamOwned::new(
        ClientConnection::new(Arc::new(config), name).unwrap(),
        TcpStream::connect(address).unwrap(),
    );
    stream.sock.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).unwrap();
    assert_eq!(stream.conn.alpn_protocol(), Some(b"http/1.1".as_slice()));
    response
}

fn get(path: &str, host: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")
}

/// All that comes for these octets, without TLS.
fn ask_plainly(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut response = Vec::new();
    // What is more than the answer needs is cut off by a reset.
    stream.read_to_end(&mut response).ok();
    String::from_utf8(response).unwrap()
}

const TABLES: &str = "
[[certificate]]
name = \"sts\"
chain = \"@/mta-sts.ours.example.pem\"
key = \"@/mta-sts.ours.example.key\"

[[mta_sts]]
name = \"ours\"
domains = [\"ours.example\"]
";

#[test]
fn a_policy_is_served_by_the_name_of_its_host_and_another_after_a_reload() {
    let dir = tempfile::tempdir().unwrap();
    let host = "mta-sts.ours.example";
    issue(&dir, host);
    let relay = start(&dir, TABLES, &[]);
    let request = get("/.well-known/mta-sts.txt", host);
    let response = ask(relay.address("https"), &dir, host, &request);
    let (head, body) = response.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert!(head.contains("\r\ncontent-type: text/plain\r\n"), "{head}");
    let want = "version: STSv1\r\nmode: testing\r\nmx: mx.ours.example\r\nmax_age: 604800\r\n";
    assert_eq!(body, want);
    write(&dir, &format!("{TABLES}mode = \"enforce\"\n"));
    assert!(merpati(&dir, &["reload"]).status.success());
    let response = ask(relay.address("https"), &dir, host, &request);
    assert!(response.ends_with(&want.replace("testing", "enforce")), "{response}");
    // A proxy asks without TLS; who asks for another host finds nothing.
    let plain = relay.address("https-plain");
    assert!(ask_plainly(plain, &request).ends_with(&want.replace("testing", "enforce")));
    let other = ask_plainly(plain, &get("/.well-known/mta-sts.txt", "mta-sts.other.example"));
    assert!(other.starts_with("HTTP/1.1 404 ") && other.contains("problem+json"), "{other}");
    let health = ask_plainly(plain, &get("/healthz", "127.0.0.1"));
    assert!(health.starts_with("HTTP/1.1 200 ") && health.ends_with("\r\n\r\nok\n"), "{health}");
    assert!(ask_plainly(plain, &get("/v1/status", "localhost")).starts_with("HTTP/1.1 404 "));
}

#[test]
fn without_a_certificate_of_the_operators_it_shows_its_own_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let relay = start(&dir, "", &[]);
    let said = relay.wait_for(|line| line["event"] == "SelfSigned").unwrap();
    assert_eq!(said["listener"], "https", "{said}");
    let made = data_dir(&dir).join("tls/self-signed.pem");
    fs::copy(made, dir.path().join("mx.ours.example.pem")).unwrap();
    let request = get("/readyz", "mx.ours.example");
    let response = ask(relay.address("https"), &dir, "mx.ours.example", &request);
    assert!(response.ends_with("ready\n"), "{response}");
}

#[test]
fn who_is_slow_or_says_too_much_holds_up_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let relay = start(&dir, "", &["https.request_wait=1 s", "https.connections_max=20"]);
    let (with, without) = (relay.address("https"), relay.address("https-plain"));
    let open = |address, octets: &str| {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(octets.as_bytes()).unwrap();
        stream
    };
    let half = "GET /healthz HTTP/1.1\r\nHost: a";
    let slow = [(with, ""), (with, "\x16\x03\x01"), (without, ""), (without, half)]
        .map(|(address, octets)| open(address, octets));
    assert!(ask_plainly(without, &get("/healthz", "a")).ends_with("ok\n"));
    let mut smtp = Smtp::connect(relay.address("sandbox"));
    smtp.say("EHLO client.example", "250");
    // All of them are sent away.
    for mut stream in slow {
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).ok();
        assert!(!String::from_utf8_lossy(&rest).contains("200 OK"));
    }
    let long = format!("GET /healthz HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(20_000));
    assert!(ask_plainly(without, &long).starts_with("HTTP/1.1 431 "));
    let many = format!("GET /healthz HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: x\r\n".repeat(100));
    assert!(ask_plainly(without, &many).starts_with("HTTP/1.1 431 "));
    assert!(ask_plainly(without, "nonsense\r\n\r\n").starts_with("HTTP/1.1 400 "));
}

#[test]
fn no_more_connections_are_open_than_may_be() {
    let dir = tempfile::tempdir().unwrap();
    let settings = ["https.connections_max=8", "https.connections_per_address_max=2"];
    let relay = start(&dir, "", &settings);
    let address = relay.address("https-plain");
    let mut open: Vec<TcpStream> = Vec::new();
    for _ in 0..2 {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        let mut head = [0; 12];
        stream.read_exact(&mut head).unwrap();
        assert_eq!(&head, b"HTTP/1.1 200");
        open.push(stream);
    }
    assert_eq!(ask_plainly(address, &get("/healthz", "a")), "", "a third one is closed");
    drop(open);
    common::internet::until("a place is free", || {
        ask_plainly(address, &get("/healthz", "a")).ends_with("ok\n").then_some(())
    });
}
