//! With which certificate a listener speaks TLS, and what was negotiated.
//!
//! Invariant: one provider, aws-lc-rs, for the whole process; TLS 1.2 and 1.3 only. Not pure: reads
//! files.

use std::{path::Path, sync::Arc};

use anyhow::Context;
use merpati_mail::TlsFacts;
use rustls::{ProtocolVersion, ServerConfig, ServerConnection, crypto::aws_lc_rs};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use tokio_rustls::TlsAcceptor;

/// An acceptor with the certificate chain and the private key of these PEM files.
pub fn acceptor(certificates: &Path, key: &Path) -> anyhow::Result<TlsAcceptor> {
    let chain = CertificateDer::pem_file_iter(certificates)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .with_context(|| format!("cannot read certificates from {}", certificates.display()))?;
    let private = PrivateKeyDer::from_pem_file(key)
        .with_context(|| format!("cannot read a private key from {}", key.display()))?;
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, private)
        .with_context(|| {
            format!("{} and {} do not belong together", certificates.display(), key.display())
        })?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// What was negotiated, by the names of IANA.
pub fn facts(connection: &ServerConnection) -> TlsFacts {
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
