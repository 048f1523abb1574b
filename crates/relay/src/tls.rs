//! How a listener speaks TLS, which certificates of others we believe, and what was negotiated.
//!
//! Invariant: one provider, aws-lc-rs, for the whole process; TLS 1.2 and 1.3 only; also where any
//! certificate will do, the other end shows that it has the key to it. Not pure: reads files.

use std::{
    io,
    path::Path,
    sync::{Arc, OnceLock},
};

use anyhow::Context;
use merpati_mail::{Domain, TlsFacts};
use merpati_smtp::server::Channel;
use rustls::{
    CertificateError, ClientConfig, ClientConnection, CommonState, DigitallySignedStruct,
    HandshakeKind, ProtocolVersion, RootCertStore, ServerConfig, ServerConnection, SignatureScheme,
    client::{
        Resumption, WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature},
    server::{
        NoClientAuth, NoServerSessionStorage, WebPkiClientVerifier, danger::ClientCertVerifier,
    },
};
use rustls_pki_types::{
    CertificateDer, CertificateRevocationListDer, ServerName, UnixTime, pem::PemObject,
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::{
    certificates::Certificates,
    client_names,
    dane::{self, HostRecords},
};

/// An acceptor that shows these certificates; `clients` says which certificates of clients are
/// good, and `None` that no client is asked.
pub fn acceptor(
    certificates: Arc<Certificates>,
    clients: Option<Arc<dyn ClientCertVerifier>>,
) -> anyhow::Result<TlsAcceptor> {
    let has_clients = clients.is_some();
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(clients.unwrap_or_else(|| Arc::new(NoClientAuth)))
        .with_cert_resolver(certificates);
    // The strongest that both have. All of ours are good, yet testssl.sh and others that grade
    // servers count it as a fault where the client chooses.
    config.ignore_client_order = true;
    if has_clients {
        // A session that is resumed would bring its certificate along after that was revoked.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        return Ok(TlsAcceptor::from(Arc::new(config)));
    }
    // The client keeps its session in a ticket (RFC 8446 §4.6.1, RFC 5077): it costs us no memory,
    // and devices that connect anew for each message are spared the handshake. The keys live only
    // in memory and change by themselves.
    config.ticketer = aws_lc_rs::Ticketer::new().context("no keys for TLS tickets")?;
    config.send_tls13_tickets = 1;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Certificates of clients from a CA of this PEM file are good, unless they are in the revocation
/// lists of the other. A client may also come without.
pub fn client_verifier(
    ca: &Path,
    crl: Option<&Path>,
) -> anyhow::Result<Arc<dyn ClientCertVerifier>> {
    let mut lists = Vec::new();
    if let Some(path) = crl {
        let read = CertificateRevocationListDer::pem_file_iter(path)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>);
        lists = read.with_context(|| format!("cannot read a list from {}", path.display()))?;
    }
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots_of(ca)?), provider())
        .with_crls(lists)
        // A list names some of the certificates of one CA; of those of others nothing is known.
        .allow_unknown_revocation_status()
        .allow_unauthenticated()
        .build()
        .with_context(|| format!("{} is of no use for certificates of clients", ca.display()))
}

/// Which certificate of a server is believed.
#[derive(Clone, Copy, Debug)]
pub enum Trust<'a> {
    /// One that these records of the host name (RFC 7672).
    Dane {
        /// The records.
        records: &'a Arc<HostRecords>,
        /// The name of the host in MX, and the domain whose mail it takes.
        found_by: [&'a Domain; 2],
    },
    /// Any: who listens in learns nothing, but who stands between may be anybody (RFC 7435).
    Any,
    /// One for the name of the host, from a CA of this PEM file.
    File(&'a Path),
    /// One for the name of the host, from a CA that this machine trusts.
    System,
}

/// A connector that believes as `trust` says, and shows `own` to servers that ask who we are,
/// `None`: nothing; it keeps sessions to resume. Reads files.
pub fn connector(trust: Trust<'_>, own: Option<Arc<Certificates>>) -> anyhow::Result<TlsConnector> {
    let builder =
        ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
    let builder = match trust {
        Trust::Any => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyCertificate { provider: provider() })),
        Trust::Dane { records, found_by } => {
            let verifier = dane::Verifier::new(Arc::clone(records), found_by, provider());
            builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier))
        }
        Trust::File(path) => builder.with_root_certificates(roots_of(path)?),
        Trust::System => builder.with_root_certificates(system_roots()?),
    };
    let mut config = match own {
        Some(own) => builder.with_client_cert_resolver(own),
        None => builder.with_no_client_auth(),
    };
    config.resumption = Resumption::in_memory_sessions(SESSIONS_MAX);
    Ok(TlsConnector::from(Arc::new(config)))
}

/// What a handshake with a client came to.
pub fn channel(connection: &ServerConnection) -> Channel {
    let certificate = connection.peer_certificates().and_then(<[_]>::first);
    Channel {
        facts: facts_of(connection),
        binding: binding(connection),
        names: certificate.map(|certificate| client_names::names(certificate)),
    }
}

/// The channel binding `tls-exporter` (RFC 9266 §2). With TLS 1.2 it would need the extended master
/// secret, and rustls does not tell whether that was agreed on: there is none.
fn binding(connection: &ServerConnection) -> Option<[u8; Channel::BINDING_OCTETS]> {
    let is_unique = connection.protocol_version() == Some(ProtocolVersion::TLSv1_3);
    let octets = [0; Channel::BINDING_OCTETS];
    let label = b"EXPORTER-Channel-Binding";
    is_unique.then(|| connection.export_keying_material(octets, label, Some(&[])).ok())?
}

/// What was negotiated with a server, by the names of IANA.
pub fn client_facts(connection: &ClientConnection) -> TlsFacts {
    facts_of(connection)
}

/// How TLS came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handshake {
    /// With certificates and a signature.
    Full,
    /// By a session that both ends knew (RFC 8446 §2.2, RFC 5077): no certificate was shown again.
    Resumed,
}

impl Handshake {
    /// How this connection came about, once it has.
    pub fn of(connection: &CommonState) -> Self {
        let is_resumed = connection.handshake_kind() == Some(HandshakeKind::Resumed);
        if is_resumed { Self::Resumed } else { Self::Full }
    }
}

/// What is wrong with what another end has shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The certificate has ended, or has not begun.
    Expired,
    /// It leads to no CA that is trusted.
    NotTrusted,
    /// Something else.
    Other,
    /// It is for other names.
    WrongName,
}

impl Trouble {
    /// What the error of a handshake says.
    pub fn of(error: &io::Error) -> Self {
        let error = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        error.map_or(Self::Other, Self::of_tls)
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "what the library has besides is Other")]
    fn of_tls(error: &rustls::Error) -> Self {
        let rustls::Error::InvalidCertificate(why) = error else { return Self::Other };
        match why {
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. } => Self::Expired,
            CertificateError::UnknownIssuer => Self::NotTrusted,
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                Self::WrongName
            }
            _ => Self::Other,
        }
    }
}

/// Whether a chain that was shown is good for this host, by the CAs that this machine trusts; errs
/// with what is wrong, and that in words.
pub fn judge(chain: &[CertificateDer<'_>], host: &Domain) -> Result<(), (Trouble, String)> {
    let other = |why: &str| (Trouble::Other, why.to_owned());
    let (own, others) = chain.split_first().ok_or_else(|| other("no certificate was shown"))?;
    let name = ServerName::try_from(host.to_string());
    let name = name.map_err(|_| other("no certificate can have the name of the host"))?;
    let roots = system_roots().map_err(|why| other(&why.to_string()))?;
    let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider()).build();
    let verifier = verifier.map_err(|why| other(&why.to_string()))?;
    let judged = verifier.verify_server_cert(own, others, &name, &[], UnixTime::now());
    judged.map(|_| ()).map_err(|why| (Trouble::of_tls(&why), why.to_string()))
}

fn facts_of(connection: &CommonState) -> TlsFacts {
    let version = match connection.protocol_version() {
        Some(ProtocolVersion::TLSv1_2) => "TLSv1.2".to_owned(),
        Some(ProtocolVersion::TLSv1_3) => "TLSv1.3".to_owned(),
        Some(other) => format!("{other:?}"),
        None => String::new(),
    };
    let suite = connection.negotiated_cipher_suite().and_then(|suite| suite.suite().as_str());
    // rustls calls the suites of TLS 1.3 `TLS13_…`; IANA calls them `TLS_…`.
    let cipher = suite.unwrap_or_default().replacen("TLS13_", "TLS_", 1);
    TlsFacts { version, cipher }
}

/// All certificates of a PEM file; one at least.
pub(crate) fn certificates_of(path: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let certificates = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .with_context(|| format!("cannot read certificates from {}", path.display()))?;
    anyhow::ensure!(!certificates.is_empty(), "there is no certificate in {}", path.display());
    Ok(certificates)
}

fn roots_of(path: &Path) -> anyhow::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates_of(path)? {
        roots
            .add(certificate)
            .with_context(|| format!("{} holds what is no CA", path.display()))?;
    }
    Ok(roots)
}

/// The CAs that this machine trusts, read once. Those that we cannot use are passed over; a machine
/// without any is an error, and looked at again the next time.
fn system_roots() -> anyhow::Result<Arc<RootCertStore>> {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    if let Some(roots) = ROOTS.get() {
        return Ok(Arc::clone(roots));
    }
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::warn!(%error, "some CAs of this machine cannot be read");
    }
    let mut roots = RootCertStore::empty();
    let (usable, _) = roots.add_parsable_certificates(found.certs);
    anyhow::ensure!(usable > 0, "this machine has no CA that could be trusted");
    Ok(Arc::clone(ROOTS.get_or_init(|| Arc::new(roots))))
}

/// The cryptography of the whole process.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    Arc::clone(PROVIDER.get_or_init(|| Arc::new(aws_lc_rs::default_provider())))
}

/// Believes any certificate, but not that somebody has its key.
#[derive(Debug)]
struct AnyCertificate {
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for AnyCertificate {
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
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Sessions that a connector keeps to resume.
const SESSIONS_MAX: usize = 1_024;

#[cfg(test)]
mod tests {
    use rcgen::{
        BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer,
        IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SanType, SerialNumber,
        date_time_ymd,
    };
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;
    use crate::certificates::Pair;

    #[tokio::test]
    async fn a_second_connection_resumes_the_session_of_the_first() {
        let folder = tempfile::tempdir().unwrap();
        let made = rcgen::generate_simple_self_signed(["mx.example".to_owned()]).unwrap();
        let (chain, key) = (folder.path().join("chain"), folder.path().join("key"));
        std::fs::write(&chain, made.cert.pem()).unwrap();
        std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        let certificates = Arc::new(Certificates::load(Pair { chain, key }, []));
        let (acceptor, connector) =
            (acceptor(certificates, None).unwrap(), connector(Trust::Any, None).unwrap());
        let mut kinds = Vec::new();
        for _ in 0..3 {
            let (ours, theirs) = duplex(65_536);
            let name = ServerName::try_from("mx.example").unwrap();
            let (server, client) =
                tokio::join!(acceptor.accept(ours), connector.connect(name, theirs));
            let (mut server, mut client) = (server.unwrap(), client.unwrap());
            // The ticket comes before the first octet.
            server.write_all(b"x").await.unwrap();
            server.flush().await.unwrap();
            client.read_exact(&mut [0; 1]).await.unwrap();
            let (server, client) = (server.get_ref().1, client.get_ref().1);
            kinds.push((server.handshake_kind(), client.handshake_kind()));
        }
        let (full, resumed) = (Some(HandshakeKind::Full), Some(HandshakeKind::Resumed));
        let is_full = |kind| kind == full || kind == Some(HandshakeKind::FullWithHelloRetryRequest);
        assert!(is_full(kinds[0].0) && is_full(kinds[0].1), "{kinds:?}");
        assert_eq!(kinds[1..], [(resumed, resumed), (resumed, resumed)]);
    }

    /// What a server that asks for certificates learns of a client with this one; `None` where the
    /// handshake fails.
    async fn shown(
        acceptor: &TlsAcceptor,
        certificate: Option<(&rcgen::Certificate, &KeyPair)>,
    ) -> Option<Channel> {
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyCertificate { provider: provider() }));
        let config = match certificate {
            Some((certificate, key)) => {
                let key = rustls_pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap();
                builder.with_client_auth_cert(vec![certificate.der().clone()], key).unwrap()
            }
            None => builder.with_no_client_auth(),
        };
        let (ours, theirs) = duplex(65_536);
        let name = ServerName::try_from("mx.example").unwrap();
        let connector = TlsConnector::from(Arc::new(config));
        let (server, client) = tokio::join!(acceptor.accept(ours), connector.connect(name, theirs));
        let (server, client) = (server.ok()?, client.unwrap());
        let channel = channel(server.get_ref().1);
        let label = b"EXPORTER-Channel-Binding";
        let theirs = client.get_ref().1.export_keying_material([0; 32], label, None).unwrap();
        assert_eq!(channel.binding, Some(theirs), "the same at both ends");
        Some(channel)
    }

    #[tokio::test]
    async fn a_certificate_of_a_client_is_good_or_ends_the_handshake() {
        let folder = tempfile::tempdir().unwrap();
        let place = |name: &str| folder.path().join(name);
        let made = rcgen::generate_simple_self_signed(["mx.example".to_owned()]).unwrap();
        std::fs::write(place("chain"), made.cert.pem()).unwrap();
        std::fs::write(place("key"), made.signing_key.serialize_pem()).unwrap();
        let mut ca = CertificateParams::default();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let ca = CertifiedIssuer::self_signed(ca, KeyPair::generate().unwrap()).unwrap();
        std::fs::write(place("ca"), ca.pem()).unwrap();
        let key = KeyPair::generate().unwrap();
        let sign = |serial: u64, until: i32| {
            let mut params = CertificateParams::default();
            params.subject_alt_names =
                vec![SanType::Rfc822Name("ani@shop.example".try_into().unwrap())];
            params.serial_number = Some(SerialNumber::from(serial));
            params.not_after = date_time_ymd(until, 1, 1);
            params.signed_by(&key, &ca).unwrap()
        };
        let (good, revoked, expired) = (sign(1, 4_000), sign(2, 4_000), sign(3, 2_020));
        let mut stranger = CertificateParams::default();
        stranger.subject_alt_names =
            vec![SanType::Rfc822Name("ani@shop.example".try_into().unwrap())];
        let stranger = stranger.self_signed(&key).unwrap();
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2_020, 1, 1),
            next_update: date_time_ymd(4_000, 1, 1),
            crl_number: SerialNumber::from(1_u64),
            issuing_distribution_point: None,
            revoked_certs: vec![RevokedCertParams {
                serial_number: SerialNumber::from(2_u64),
                revocation_time: date_time_ymd(2_020, 1, 1),
                reason_code: None,
                invalidity_date: None,
            }],
            key_identifier_method: KeyIdMethod::Sha256,
        };
        std::fs::write(place("crl"), list.signed_by(&ca).unwrap().pem().unwrap()).unwrap();
        let clients = client_verifier(&place("ca"), Some(&place("crl"))).unwrap();
        let pair = Pair { chain: place("chain"), key: place("key") };
        let certificates = Arc::new(Certificates::load(pair, []));
        let acceptor = acceptor(certificates, Some(clients)).unwrap();
        let names = |channel: Option<Channel>| channel.map(|channel| channel.names);
        let ani = vec!["ani@shop.example".to_owned()];
        for (certificate, want) in [
            (Some(&good), Some(Some(ani))),
            (None, Some(None)),
            (Some(&revoked), None),
            (Some(&expired), None),
            (Some(&stranger), None),
        ] {
            let shown = shown(&acceptor, certificate.map(|one| (one, &key))).await;
            assert_eq!(names(shown), want);
        }
    }
}
