//! TLS towards the next hop: what each kind of route makes of each kind of certificate.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
#![allow(missing_docs)]

mod common;

use std::path::Path;

use common::{Relay, Smtp, data_dir, queued_as};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};

/// The certificate of a next hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Certificate {
    Expired,
    Good,
    /// For another host.
    Stranger,
}

/// What comes of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Came {
    /// It arrived over TLS.
    Protected,
    /// It waits, and nothing of it was said.
    Waits,
}

/// Writes a certificate and its key; gives their paths.
fn issue(dir: &Path, certificate: Certificate) -> (String, String) {
    let name = if certificate == Certificate::Stranger { "other.example" } else { "127.0.0.1" };
    let mut params = CertificateParams::new([name.to_owned()]).unwrap();
    if certificate == Certificate::Expired {
        (params.not_before, params.not_after) =
            (date_time_ymd(2020, 1, 1), date_time_ymd(2021, 1, 1));
    }
    let key = KeyPair::generate().unwrap();
    let made = params.self_signed(&key).unwrap();
    let paths = (dir.join("chain.pem"), dir.join("key.pem"));
    std::fs::write(&paths.0, made.pem()).unwrap();
    std::fs::write(&paths.1, key.serialize_pem()).unwrap();
    (paths.0.display().to_string(), paths.1.display().to_string())
}

/// A next hop with this certificate, and a relay whose route to it has these settings; `CA` in them
/// is the certificate itself.
fn check(use_of_tls: &str, certificate: Certificate, settings: &[&str], want: Came) {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (chain, key) = issue(there.path(), certificate);
    let store = Relay::start(
        &data_dir(&there),
        &[
            &format!("listener.sandbox.tls={use_of_tls}"),
            &format!("listener.sandbox.tls_certificate={chain}"),
            &format!("listener.sandbox.tls_key={key}"),
        ],
    );
    let scheme = if use_of_tls == "implicit" { "smtps" } else { "smtp" };
    let mut all = vec![
        "listener.mx.kind=relay".to_owned(),
        "listener.mx.listen=127.0.0.1:0".to_owned(),
        "relay.networks=127.0.0.0/8".to_owned(),
        format!("route.all.to={scheme}://{}", store.address("sandbox")),
    ];
    all.extend(
        settings.iter().map(|setting| format!("route.all.{}", setting.replace("CA", &chain))),
    );
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    let relay = Relay::start(&data_dir(&here), &all);
    let mut smtp = Smtp::connect(relay.address("mx"));
    smtp.say("EHLO client.example", "250");
    let reply = smtp.data("a@a.example", "b@b.example", b"Subject: private\r\n\r\n");
    assert!(queued_as(&reply).is_some(), "{reply}");
    let attempted = relay.wait_for(|line| line["event"] == "Attempted").unwrap();
    let outcome = &attempted["outcomes"][0];
    let came = match outcome["outcome"].as_str() {
        Some("Delivered") if attempted["tls"].is_string() => Came::Protected,
        Some("Deferred") if outcome["class"] == "tls" => Came::Waits,
        _ => panic!("{use_of_tls} {certificate:?} {settings:?}: {attempted}"),
    };
    assert_eq!(came, want, "{use_of_tls} {certificate:?} {settings:?}: {attempted}");
    let stored = store.get_json("/v1/sandbox/messages");
    let count = stored["data"].as_array().unwrap().len();
    assert_eq!(count, usize::from(want == Came::Protected), "{stored}");
}

const REQUIRED: &[&str] = &["tls=required", "tls_ca=CA"];

#[test]
fn opportunistic_tls_takes_any_certificate() {
    for certificate in [Certificate::Expired, Certificate::Good, Certificate::Stranger] {
        check("starttls", certificate, &[], Came::Protected);
    }
}

#[test]
fn required_tls_takes_the_certificates_that_are_valid_for_the_host() {
    check("starttls", Certificate::Good, REQUIRED, Came::Protected);
    check("starttls", Certificate::Expired, REQUIRED, Came::Waits);
    check("starttls", Certificate::Stranger, REQUIRED, Came::Waits);
}

#[test]
fn required_tls_takes_no_unknown_issuer_unless_it_need_not_verify() {
    check("starttls", Certificate::Good, &["tls=required"], Came::Waits);
    let unverified = &["tls=required", "tls_verify=false"];
    check("starttls", Certificate::Stranger, unverified, Came::Protected);
}

#[test]
fn implicit_tls_is_verified_in_the_same_way() {
    check("implicit", Certificate::Good, &["tls_ca=CA"], Came::Protected);
    check("implicit", Certificate::Stranger, &["tls_ca=CA"], Came::Waits);
    check("implicit", Certificate::Good, &[], Came::Waits);
}

/// Writes an issuer, and a certificate from it with its key, into a folder; gives their paths.
fn issue_for_client(dir: &Path) -> [String; 3] {
    let mut ca = CertificateParams::default();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(ca, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(["shop.example".to_owned()]).unwrap();
    let made = params.signed_by(&key, &ca).unwrap();
    let texts = [("ca", ca.pem()), ("client", made.pem()), ("client.key", key.serialize_pem())];
    texts.map(|(name, text)| {
        let path = dir.join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    })
}

/// The next hop takes no certificate but those of one issuer: what it does not know ends the
/// connection, so that it was shown something.
#[test]
fn a_next_hop_that_asks_for_a_certificate_is_shown_that_of_the_route() {
    let [here, there] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let [known, unknown] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let (chain, key) = issue(there.path(), Certificate::Good);
    let [ca, client, client_key] = issue_for_client(known.path());
    let [_, stranger, stranger_key] = issue_for_client(unknown.path());
    let store = Relay::start(
        &data_dir(&there),
        &[
            "listener.sandbox.tls=starttls",
            &format!("listener.sandbox.tls_certificate={chain}"),
            &format!("listener.sandbox.tls_key={key}"),
            &format!("listener.sandbox.tls_client_ca={ca}"),
        ],
    );
    let to = store.address("sandbox");
    let mut all = vec![
        "listener.mx.kind=relay".to_owned(),
        "listener.mx.listen=127.0.0.1:0".to_owned(),
        "relay.networks=127.0.0.0/8".to_owned(),
        "route.stranger.recipient_domains=stranger.example".to_owned(),
    ];
    for (route, certificate, key) in
        [("stranger", stranger, stranger_key), ("known", client, client_key)]
    {
        all.push(format!("route.{route}.to=smtp://{to}"));
        all.push(format!("route.{route}.tls=required"));
        all.push(format!("route.{route}.tls_ca={chain}"));
        all.push(format!("route.{route}.tls_certificate={certificate}"));
        all.push(format!("route.{route}.tls_key={key}"));
    }
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    let relay = Relay::start(&data_dir(&here), &all);
    let mut smtp = Smtp::connect(relay.address("mx"));
    smtp.say("EHLO client.example", "250");
    for (domain, want) in [("stranger.example", "Deferred"), ("known.example", "Delivered")] {
        let to = format!("b@{domain}");
        let reply = smtp.data("a@a.example", &to, b"Subject: private\r\n\r\n");
        let id = queued_as(&reply).expect("it is taken");
        let is_of_it = |line: &serde_json::Value| line["event"] == "Attempted" && line["id"] == *id;
        let attempted = relay.wait_for(is_of_it).unwrap();
        assert_eq!(attempted["outcomes"][0]["outcome"], want, "{domain}: {attempted}");
    }
}

/// The host knows the session of the connection before, so no certificate is shown again.
#[test]
fn a_second_connection_to_a_host_resumes_the_session_of_the_first() {
    let [here, there] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let store = Relay::start(&data_dir(&there), &["listener.sandbox.tls=starttls"]);
    let relay = Relay::start(
        &data_dir(&here),
        &[
            "listener.mx.kind=relay",
            "listener.mx.listen=127.0.0.1:0",
            "relay.networks=127.0.0.0/8",
            "delivery.messages_per_connection_max=1",
            &format!("route.all.to=smtp://{}", store.address("sandbox")),
        ],
    );
    let mut smtp = Smtp::connect(relay.address("mx"));
    smtp.say("EHLO client.example", "250");
    for _ in 0..3 {
        let reply = smtp.data("a@a.example", "b@b.example", b"Subject: private\r\n\r\n");
        let id = queued_as(&reply).expect("it is taken");
        let is_of_it = |line: &serde_json::Value| line["event"] == "Attempted" && line["id"] == *id;
        assert!(relay.wait_for(is_of_it).unwrap()["tls"].is_string());
    }
    for (node, direction) in [(&relay, "out"), (&store, "in")] {
        let metrics = String::from_utf8(node.get("/metrics").1).unwrap();
        for (kind, count) in [("full", 1), ("resumed", 2)] {
            let name = "merpati_tls_handshakes_total";
            let want = format!("{name}{{direction=\"{direction}\",kind=\"{kind}\"}} {count}\n");
            assert!(metrics.contains(&want), "no {want} in {metrics}");
        }
    }
}
