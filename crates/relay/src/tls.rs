//! How a listener speaks TLS, which certificates of others we believe, and what was negotiated.
//!
//! Invariant: one provider, aws-lc-rs, for the whole process; TLS 1.2 and 1.3 only; also where any
//! certificate will do, the other end shows that it has the key to it. Not pure: reads files.

use std::{
    path::Path,
    sync::{Arc, OnceLock},
};

use anyhow::Context;
use merpati_mail::TlsFacts;
use rustls::{
    ClientConfig, ClientConnection, CommonState, DigitallySignedStruct, ProtocolVersion,
    RootCertStore, ServerConfig, ServerConnection, SignatureScheme,
    client::{
        Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature},
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::certificates::Certificates;

/// An acceptor that shows these certificates.
pub fn acceptor(certificates: Arc<Certificates>) -> anyhow::Result<TlsAcceptor> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(certificates);
    // The client keeps its session in a ticket (RFC 8446 §4.6.1, RFC 5077): it costs us no memory,
    // and devices that connect anew for each message are spared the handshake. The keys live only
    // in memory and change by themselves.
    config.ticketer = aws_lc_rs::Ticketer::new().context("no keys for TLS tickets")?;
    config.send_tls13_tickets = 1;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Which certificate of a server is believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust<'a> {
    /// Any: who listens in learns nothing, but who stands between may be anybody (RFC 7435).
    Any,
    /// One for the name of the host, from a CA of this PEM file.
    File(&'a Path),
    /// One for the name of the host, from a CA that this machine trusts.
    System,
}

/// A connector that believes as `trust` says; it keeps sessions to resume. Reads files.
pub fn connector(trust: Trust<'_>) -> anyhow::Result<TlsConnector> {
    let builder =
        ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
    let mut config = match trust {
        Trust::Any => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyCertificate { provider: provider() }))
            .with_no_client_auth(),
        Trust::File(path) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates_of(path)? {
                roots
                    .add(certificate)
                    .with_context(|| format!("{} holds what is no CA", path.display()))?;
            }
            builder.with_root_certificates(roots).with_no_client_auth()
        }
        Trust::System => builder.with_root_certificates(system_roots()?).with_no_client_auth(),
    };
    config.resumption = Resumption::in_memory_sessions(SESSIONS_MAX);
    Ok(TlsConnector::from(Arc::new(config)))
}

/// What was negotiated with a client, by the names of IANA.
pub fn facts(connection: &ServerConnection) -> TlsFacts {
    facts_of(connection)
}

/// What was negotiated with a server, by the names of IANA.
pub fn client_facts(connection: &ClientConnection) -> TlsFacts {
    facts_of(connection)
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

/// All certificates of a PEM file.
pub(crate) fn certificates_of(path: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .with_context(|| format!("cannot read certificates from {}", path.display()))
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
    use rustls::HandshakeKind;
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
            (acceptor(certificates).unwrap(), connector(Trust::Any).unwrap());
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
}
