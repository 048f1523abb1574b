//! Which certificates TLSA records name, and a verifier that believes those and no others (RFC
//! 6698, RFC 7671, RFC 7672).
//!
//! Invariant: the records are matched inside the handshake, which goes on to prove that the other
//! end has the key of the certificate: who only copied it gets nowhere. Records of which we do not
//! know what they mean name nothing. Pure.

use std::{error, fmt, fmt::Write as _, sync::Arc};

use aws_lc_rs::digest;
use merpati_flow::protect;
use merpati_mail::Domain;
use rustls::{
    DigitallySignedStruct, OtherError, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    server::ParsedCertificate,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

/// A record that says which certificate a host shows (RFC 6698 §2.1).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TlsaRecord {
    /// Whose certificate is meant: 3 that of the host, 2 one that it leads to.
    pub usage: u8,
    /// What of it: 0 all, 1 its public key.
    pub selector: u8,
    /// How it stands here: 0 as it is, 1 as SHA-256, 2 as SHA-512.
    pub matching: u8,
    /// That.
    pub data: Vec<u8>,
}

impl TlsaRecord {
    /// Whether a certificate of a mail server can be judged by it (RFC 7672 §3.1).
    pub fn is_usable(&self) -> bool {
        protect::is_usable((self.usage, self.selector, self.matching), self.data.len())
    }

    /// Whether it names this certificate, whoever shows it.
    pub fn names(&self, certificate: &CertificateDer<'_>) -> bool {
        let octets = match self.selector {
            WHOLE => Some(certificate.to_vec()),
            PUBLIC_KEY => public_key(certificate),
            _ => None,
        };
        let Some(octets) = octets else { return false };
        match self.matching {
            AS_IT_IS => octets == self.data,
            SHA256 => digest::digest(&digest::SHA256, &octets).as_ref() == self.data,
            SHA512 => digest::digest(&digest::SHA512, &octets).as_ref() == self.data,
            _ => false,
        }
    }
}

impl fmt::Display for TlsaRecord {
    /// As in a zone file.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {} {}", self.usage, self.selector, self.matching, hex(&self.data))
    }
}

/// The TLSA records of a host, proven by DNSSEC.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HostRecords {
    /// Where they stand, such as `_25._tcp.mx.example`.
    pub at: String,
    /// The host whose records they are: the one that was asked for, or what it is an alias of.
    pub base: Domain,
    /// The records; never empty.
    pub records: Vec<TlsaRecord>,
}

impl HostRecords {
    /// Whether by one at least a certificate can be judged.
    pub fn are_usable(&self) -> bool {
        self.records.iter().any(TlsaRecord::is_usable)
    }

    /// The records of this usage by which certificates are judged: of those that stand for the same
    /// by a sum, only the ones with the strongest sum (RFC 7671 §9).
    fn judging(&self, usage: u8) -> impl Iterator<Item = &TlsaRecord> {
        let usable = move |it: &&TlsaRecord| it.usage == usage && it.is_usable();
        self.records.iter().filter(usable).filter(move |one| {
            let mut all = self.records.iter().filter(usable);
            let is_stronger =
                |it: &TlsaRecord| it.selector == one.selector && it.matching == SHA512;
            one.matching != SHA256 || !all.any(is_stronger)
        })
    }
}

/// The public key of a certificate, as records hold it; `None` where it cannot be read.
pub(crate) fn public_key(certificate: &CertificateDer<'_>) -> Option<Vec<u8>> {
    let parsed = ParsedCertificate::try_from(certificate).ok()?;
    Some(parsed.subject_public_key_info().to_vec())
}

pub(crate) fn hex(octets: &[u8]) -> String {
    let mut text = String::new();
    for octet in octets {
        // A string takes anything.
        write!(text, "{octet:02x}").ok();
    }
    text
}

/// Believes the certificates that these records name.
#[derive(Debug)]
pub(crate) struct Verifier {
    host: Arc<HostRecords>,
    /// The names of which one stands in a certificate below a CA that a record names (RFC 7672
    /// §3.2.2).
    names: Vec<ServerName<'static>>,
    provider: Arc<CryptoProvider>,
}

impl Verifier {
    /// For mail of this domain, handed to a host with these records, by the name by which it was
    /// found.
    pub(crate) fn new(
        host: Arc<HostRecords>,
        found_by: [&Domain; 2],
        provider: Arc<CryptoProvider>,
    ) -> Self {
        let names = [&host.base].into_iter().chain(found_by);
        let names = names.filter_map(|name| ServerName::try_from(name.to_string()).ok()).collect();
        Self { host, names, provider }
    }

    /// Whether the certificate leads to a CA that a record names.
    fn leads_to_ca(
        &self,
        own: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), rustls::Error> {
        let mut anchors: Vec<CertificateDer<'static>> = Vec::new();
        for record in self.host.judging(ISSUER) {
            let shown = others.iter().filter(|it| record.names(it));
            anchors.extend(shown.map(|it| it.clone().into_owned()));
            // The record may hold the whole certificate, and then it need not be shown.
            if (record.selector, record.matching) == (WHOLE, AS_IT_IS) {
                anchors.push(record.data.clone().into());
            }
        }
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(anchors);
        let provider = Arc::clone(&self.provider);
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider);
        // There is nothing to build it of where no certificate is named.
        let verifier = verifier.build().map_err(|_| not_named())?;
        let mut result = Err(not_named());
        for name in &self.names {
            result = verifier.verify_server_cert(own, others, name, &[], now).map(|_| ());
            if result.is_ok() {
                break;
            }
        }
        result
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        own: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        // Neither name nor validity counts here (RFC 7672 §3.1.1).
        if self.host.judging(HOST).any(|record| record.names(own)) {
            return Ok(ServerCertVerified::assertion());
        }
        if self.host.judging(ISSUER).next().is_none() {
            return Err(not_named());
        }
        self.leads_to_ca(own, others, now).map(|()| ServerCertVerified::assertion())
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

/// No record names what the host shows.
#[derive(Debug)]
pub(crate) struct NotNamed;

impl fmt::Display for NotNamed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no TLSA record names the certificate that the host shows (DANE)")
    }
}

impl error::Error for NotNamed {}

fn not_named() -> rustls::Error {
    OtherError(Arc::new(NotNamed)).into()
}

/// Usages (RFC 6698 §2.1.1),
pub(crate) const ISSUER: u8 = 2;
pub(crate) const HOST: u8 = 3;
/// selectors (§2.1.2)
const WHOLE: u8 = 0;
const PUBLIC_KEY: u8 = 1;
/// and ways to write (§2.1.3).
const AS_IT_IS: u8 = 0;
const SHA256: u8 = 1;
const SHA512: u8 = 2;
