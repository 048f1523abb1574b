//! Certificates that are ordered and renewed while mail flows; the CA is `pebble`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
#![allow(missing_docs)]

mod common;

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use common::{
    PATIENCE, Relay, Smtp, data_dir,
    internet::{Internet, merpati, until},
};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    server::ParsedCertificate,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use serde_json::{Value, json};
use tempfile::TempDir;
use x509_parser::{certificate::X509Certificate, prelude::FromDer as _};

/// A CA that looks at the ports of one relay; it ends with this value.
struct Ca {
    child: Child,
    directory: String,
}

impl Ca {
    /// Starts it with certificates of so many seconds.
    fn start(dir: &TempDir, net: &Internet, relay: &Relay, life_secs: u64) -> Self {
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        let place = |name: &str| dir.path().join(name);
        fs::write(place("ca.pem"), made.cert.pem()).unwrap();
        fs::write(place("ca.key"), made.signing_key.serialize_pem()).unwrap();
        loop {
            // It cannot tell which port it got, so somebody may take one in between.
            let taken = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
            let [at, control] = taken.each_ref().map(|socket| socket.local_addr().unwrap());
            drop(taken);
            let config = json!({ "pebble": {
                "listenAddress": at.to_string(),
                "managementListenAddress": control.to_string(),
                "certificate": place("ca.pem"),
                "privateKey": place("ca.key"),
                "httpPort": relay.address("https-plain").port(),
                "tlsPort": relay.address("https").port(),
                "certificateValidityPeriod": life_secs,
            }});
            fs::write(place("pebble.json"), config.to_string()).unwrap();
            let mut command = Command::new("pebble");
            command.arg("-config").arg(place("pebble.json"));
            command.arg("-dnsserver").arg(net.address().to_string());
            command.env("PEBBLE_VA_NOSLEEP", "1").stdin(Stdio::null());
            let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            let is_there = until("pebble", || {
                let has_ended = child.try_wait().unwrap().is_some();
                (has_ended || TcpStream::connect(at).is_ok()).then_some(!has_ended)
            });
            if is_there {
                return Self { child, directory: format!("https://{at}/dir") };
            }
        }
    }
}

impl Drop for Ca {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// A relay that orders by one kind of challenge, and its CA.
struct Setting {
    dir: TempDir,
    net: Internet,
    relay: Relay,
    ca: Ca,
}

impl Setting {
    fn new(life_secs: u64) -> Self {
        let (dir, net) = (tempfile::tempdir().unwrap(), Internet::new());
        let dns = format!("dns.servers={}", net.address());
        let relay = Relay::start(
            &data_dir(&dir),
            &[
                "server.hostname=mx.ours.example",
                "listener.sandbox.tls=starttls",
                "https.listen=127.0.0.1:0",
                "https.http_listen=127.0.0.1:0",
                &dns,
            ],
        );
        let ca = Ca::start(&dir, &net, &relay, life_secs);
        Self { dir, net, relay, ca }
    }

    /// The names lead to the relay.
    fn publish(&self) {
        for name in NAMES {
            self.net.set(name, &["A 127.0.0.1"]);
        }
    }

    /// Has the relay order by this challenge.
    fn order(&self, challenge: &str, more: &str) {
        let text = format!(
            "[acme]\ndirectory = \"{}\"\nterms_agreed = true\nca_file = \"{}\"\n\
             contact = \"postmaster@ours.example\"\nchallenge = \"{challenge}\"\n{more}\n\
             [[certificate]]\nname = \"mx\"\nnames = {NAMES:?}\n",
            self.ca.directory,
            self.dir.path().join("ca.pem").display(),
        );
        fs::write(data_dir(&self.dir).with_extension("toml"), text).unwrap();
        self.reload();
    }

    fn reload(&self) {
        let output = merpati(&self.dir, &["reload"]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// What is shown to who asks for this name by STARTTLS, once it is from the CA.
    fn shown_by_ca(&self, name: &str) -> CertificateDer<'static> {
        let address = self.relay.address("sandbox");
        until("a certificate of the CA", || Some(mail(address, name)).filter(is_of_ca))
    }
}

/// Hands a message over after STARTTLS; gives the certificate that was shown.
fn mail(address: SocketAddr, name: &str) -> CertificateDer<'static> {
    let mut smtp = Smtp::connect(address);
    smtp.say("EHLO client.example", "250");
    smtp.say("STARTTLS", "220");
    let (mut smtp, certificate) = over_tls(smtp.into_stream(), name, &[]);
    smtp.say("EHLO client.example", "250");
    smtp.deliver(b"Subject: over TLS\r\n\r\n");
    smtp.say("QUIT", "221");
    certificate
}

/// What is shown at the listener for the web.
fn web(address: SocketAddr, name: &str) -> CertificateDer<'static> {
    over_tls(TcpStream::connect(address).unwrap(), name, &[b"http/1.1"]).1
}

type Tls = StreamOwned<ClientConnection, TcpStream>;

fn over_tls(
    stream: TcpStream,
    name: &str,
    protocols: &[&[u8]],
) -> (Smtp<Tls>, CertificateDer<'static>) {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody(provider)))
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut stream =
        StreamOwned::new(ClientConnection::new(Arc::new(config), name).unwrap(), stream);
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock).unwrap();
    }
    let certificate = stream.conn.peer_certificates().unwrap()[0].clone().into_owned();
    (Smtp::over(stream), certificate)
}

/// Believes any certificate: the root of the CA is another at each start.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

fn is_of_ca(certificate: &CertificateDer<'_>) -> bool {
    let (_, parsed) = X509Certificate::from_der(certificate).unwrap();
    parsed.issuer().to_string().contains("Pebble")
}

fn public_key(certificate: &CertificateDer<'_>) -> Vec<u8> {
    ParsedCertificate::try_from(certificate).unwrap().subject_public_key_info().to_vec()
}

fn is_named(certificate: &CertificateDer<'_>, name: &str) -> bool {
    let parsed = ParsedCertificate::try_from(certificate).unwrap();
    rustls::client::verify_server_name(&parsed, &ServerName::try_from(name).unwrap()).is_ok()
}

/// Each file of a folder, and what others may do with it.
fn modes(folder: &Path) -> BTreeMap<String, u32> {
    let entries = fs::read_dir(folder).unwrap().map(Result::unwrap);
    let mode = |entry: &fs::DirEntry| entry.metadata().unwrap().permissions().mode() & 0o777;
    entries.map(|entry| (entry.file_name().into_string().unwrap(), mode(&entry))).collect()
}

const NAMES: [&str; 2] = ["mx.ours.example", "mta-sts.ours.example"];
const LONG: u64 = 86_400 * 90;

#[test]
fn an_order_over_http_gives_what_all_listeners_show() {
    let setting = Setting::new(LONG);
    setting.publish();
    assert!(!is_of_ca(&mail(setting.relay.address("sandbox"), "mx.ours.example")));
    setting.order("http-01", "");
    let told = setting.relay.wait_for(|line| line["event"] == "CertificateOrdered").unwrap();
    assert_eq!((&told["certificate"], &told["names"]), (&json!("mx"), &json!(NAMES)));
    let by_mail = setting.shown_by_ca("mx.ours.example");
    assert!(NAMES.iter().all(|name| is_named(&by_mail, name)));
    assert_eq!(web(setting.relay.address("https"), "mta-sts.ours.example"), by_mail);
    // Also to who names somebody else: it is for our own name.
    assert_eq!(mail(setting.relay.address("sandbox"), "other.example"), by_mail);
    let kept = modes(&data_dir(&setting.dir).join("acme"));
    let want = ["account.json", "mx.key", "mx.pem"].map(|name| (name.to_owned(), 0o600));
    assert_eq!(kept, BTreeMap::from(want));
    let metrics = String::from_utf8(setting.relay.get("/metrics").1).unwrap();
    assert!(metrics.contains("merpati_certificate_orders_total{result=\"ordered\"} 1"));
    assert!(metrics.contains("merpati_certificate_valid_until_seconds{certificate=\"mx\"} "));
}

#[test]
fn a_key_that_the_operator_puts_there_is_ordered_for_and_the_old_one_serves_until_then() {
    let setting = Setting::new(LONG);
    setting.publish();
    setting.order("http-01", "");
    let before = setting.shown_by_ca("mx.ours.example");
    let folder = data_dir(&setting.dir).join("acme");
    let key = rcgen::KeyPair::generate().unwrap();
    fs::write(folder.join("mx.key"), key.serialize_pem()).unwrap();
    fs::remove_file(folder.join("mx.pem")).unwrap();
    setting.reload();
    let address = setting.relay.address("sandbox");
    let after = until("the certificate for the new key", || {
        let shown = mail(address, "mx.ours.example");
        assert!(is_of_ca(&shown), "the old one is shown until then");
        Some(shown).filter(|shown| *shown != before)
    });
    assert_ne!(public_key(&after), public_key(&before));
    assert_eq!(public_key(&after), rcgen::PublicKeyData::subject_public_key_info(&key));
}

#[test]
fn an_order_in_tls_disturbs_nobody_else_there() {
    let setting = Setting::new(LONG);
    setting.publish();
    setting.order("tls-alpn-01", "");
    setting.relay.wait_for(|line| line["event"] == "CertificateOrdered").unwrap();
    let certificate = setting.shown_by_ca("mx.ours.example");
    assert_eq!(web(setting.relay.address("https"), "mx.ours.example"), certificate);
}

/// The program asks the test by one pipe, and waits at another one until the record is there.
const HOOK: &str = "#!/bin/sh
set -e
echo \"$2 $3 $4\" > \"$1/asked\"
read -r done < \"$1/answered\"
test \"$done\" = \"$2\"
";

#[test]
fn an_order_by_the_dns_has_records_published_and_withdrawn() {
    let setting = Setting::new(LONG);
    let place = |name: &str| setting.dir.path().join(name);
    fs::write(place("hook"), HOOK).unwrap();
    for pipe in ["asked", "answered"] {
        assert!(Command::new("mkfifo").arg(place(pipe)).status().unwrap().success());
    }
    let folder = setting.dir.path().display().to_string();
    let hook = ["/bin/sh".to_owned(), place("hook").display().to_string(), folder];
    setting.order("dns-01", &format!("dns_hook = {hook:?}\n"));
    let mut seen: Vec<(String, String)> = Vec::new();
    for _ in 0..4 {
        let mut line = String::new();
        let asked = fs::File::open(place("asked")).unwrap();
        BufReader::new(asked).read_line(&mut line).unwrap();
        let [action, name, text] = line.split_whitespace().collect::<Vec<_>>()[..] else {
            panic!("{line}")
        };
        if action == "add" {
            setting.net.set(name, &[&format!("TXT {text}")]);
        }
        seen.push((action.to_owned(), name.to_owned()));
        writeln!(fs::File::create(place("answered")).unwrap(), "{action}").unwrap();
    }
    seen.sort();
    let names = ["_acme-challenge.mta-sts.ours.example", "_acme-challenge.mx.ours.example"];
    let pairs = ["add", "remove"].map(|action| names.map(|name| (action.into(), name.into())));
    assert_eq!(seen, pairs.concat());
    setting.relay.wait_for(|line| line["event"] == "CertificateOrdered").unwrap();
    setting.shown_by_ca("mx.ours.example");
}

#[test]
fn what_the_ca_cannot_see_is_told_and_tried_again_and_mail_goes_on() {
    let setting = Setting::new(LONG);
    // Nothing leads to the relay.
    setting.order("http-01", "");
    let told = setting.relay.wait_for(|line| line["event"] == "CertificateFailed").unwrap();
    let reason = told["reason"].as_str().unwrap();
    assert!(reason.contains("ours.example") && told["again"].is_string(), "{told}");
    assert!(!is_of_ca(&mail(setting.relay.address("sandbox"), "mx.ours.example")));
    setting.publish();
    setting.reload();
    setting.relay.wait_for(|line| line["event"] == "CertificateOrdered").unwrap();
    setting.shown_by_ca("mx.ours.example");
}

#[test]
fn a_certificate_is_renewed_with_its_key_while_mail_flows_and_no_connection_fails() {
    let setting = Setting::new(20);
    setting.publish();
    setting.order("http-01", "");
    setting.shown_by_ca("mx.ours.example");
    let address = setting.relay.address("sandbox");
    let is_over = Arc::new(AtomicBool::new(false));
    let senders: Vec<_> = (0..2)
        .map(|_| {
            let is_over = Arc::clone(&is_over);
            thread::spawn(move || {
                let mut shown = Vec::new();
                while !is_over.load(Ordering::SeqCst) {
                    let certificate = mail(address, "mx.ours.example");
                    if shown.last() != Some(&certificate) {
                        shown.push(certificate);
                    }
                }
                shown
            })
        })
        .collect();
    let ordered = |line: &Value| line["event"] == "CertificateOrdered";
    let first = web(setting.relay.address("https"), "mx.ours.example");
    setting.relay.wait_for_all(2, ordered);
    let second = until("the second certificate", || {
        Some(web(setting.relay.address("https"), "mx.ours.example")).filter(|it| *it != first)
    });
    // So that each sender meets it, too.
    for _ in 0..3 {
        mail(address, "mx.ours.example");
    }
    is_over.store(true, Ordering::SeqCst);
    for sender in senders {
        let shown = sender.join().expect("no connection fails");
        assert!(shown.len() >= 2 && shown.iter().all(is_of_ca), "{}", shown.len());
        let keys: Vec<_> = shown.iter().map(public_key).collect();
        assert!(keys.iter().all(|key| *key == public_key(&first)), "the key is kept");
    }
    assert_eq!(public_key(&second), public_key(&first));
}
