//! The certificate that the relay makes and signs itself, for listeners with TLS and no certificate
//! of the operator's.
//!
//! Invariant: made once and kept, so that whoever remembers it meets it again; a certificate is
//! never there without its key. Not pure: files in the data directory.

use std::{
    fs::DirBuilder,
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use anyhow::Context;
use merpati_mail::{Domain, Time};
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, SanType, date_time_ymd};

use crate::{
    certificates::Pair,
    config::{Config, TlsUse, options::Listener},
    durable,
    sinks::{Notice, Sinks},
};

/// Whether a listener shows it, and not only until another one is there that was ordered.
pub(crate) fn is_for(config: &Config, listener: &Listener) -> bool {
    match listener.tls {
        TlsUse::Implicit | TlsUse::StartTls => {
            listener.tls_certificate.is_none() && config.ordered_for_host().is_none()
        }
        TlsUse::None => false,
    }
}

/// Whether the listener for the web does.
pub(crate) fn is_for_web(config: &Config) -> bool {
    let https = &config.https;
    let has_own = https.tls_certificate.is_some() || config.ordered_for_host().is_some();
    !https.listen.is_empty() && !has_own
}

/// The pair of files in this data directory; made where one of them is missing.
pub(crate) fn pair(data_dir: &Path, hostname: &Domain) -> anyhow::Result<Pair> {
    let pair = pair_in(data_dir);
    if pair.chain.exists() && pair.key.exists() {
        return Ok(pair);
    }
    let (chain, key) = make(hostname).context("cannot make a certificate")?;
    let written = || -> io::Result<()> {
        let folder = data_dir.join(FOLDER);
        DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        let drafts = (folder.join("pem.new"), folder.join("key.new"));
        durable::create(&drafts.0, chain.as_bytes(), 0o644)?;
        durable::create(&drafts.1, key.as_bytes(), 0o600)?;
        // The certificate comes last: it counts as made when it is there.
        durable::remove(&pair.chain)?;
        durable::rename(&drafts.1, &pair.key)?;
        durable::rename(&drafts.0, &pair.chain)
    };
    written().with_context(|| format!("cannot write {}", pair.chain.display()))?;
    Ok(pair)
}

/// Where the certificate is in this data directory, made or not.
pub(crate) fn chain(data_dir: &Path) -> PathBuf {
    pair_in(data_dir).chain
}

/// Says, loudly, which listeners show it.
pub(crate) fn tell(config: &Config, at: Time, sinks: &Sinks) {
    let listeners = config.listeners.iter().filter(|listener| is_for(config, listener));
    let web = is_for_web(config).then_some(WEB);
    for name in listeners.map(|listener| listener.name.as_str()).chain(web) {
        let certificate = pair_in(&config.server.data_dir).chain.display().to_string();
        tracing::warn!(
            "listener {name} has no certificate of yours: it shows {certificate}, which the relay \
             signed itself. Mail is hidden from those who listen in, but nobody can tell this host \
             from another. Set tls_certificate and tls_key"
        );
        sinks.tell([Notice::SelfSigned { at, listener: name.to_owned(), certificate }]);
    }
}

fn pair_in(data_dir: &Path) -> Pair {
    let folder = data_dir.join(FOLDER);
    Pair { chain: folder.join("self-signed.pem"), key: folder.join("self-signed.key") }
}

/// A certificate and its key, as PEM.
fn make(hostname: &Domain) -> Result<(String, String), rcgen::Error> {
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![match hostname {
        Domain::Literal(address) => SanType::IpAddress(*address),
        Domain::Name(name) => SanType::DnsName(name.as_str().try_into()?),
    }];
    // A name of ours may be longer than a common name can be (RFC 5280 appendix A: 64).
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "Merpati, self-signed");
    // Nobody would renew it. 2049 is the last year of UTCTime (RFC 5280 §4.1.2.5.1), which old
    // devices read best.
    params.not_before = date_time_ymd(2_024, 1, 1);
    params.not_after = date_time_ymd(2_049, 12, 31);
    let key = KeyPair::generate()?;
    Ok((params.self_signed(&key)?.pem(), key.serialize_pem()))
}

/// Where the files are in the data directory.
const FOLDER: &str = "tls";
/// What the listener for the web is called.
const WEB: &str = "https";

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use rustls::{client::verify_server_name, server::ParsedCertificate};
    use rustls_pki_types::ServerName;

    use super::*;

    #[test]
    fn it_is_for_our_name_made_once_and_its_key_is_ours_alone() {
        for (hostname, name) in
            [("mx.ours.example", "mx.ours.example"), ("[192.0.2.1]", "192.0.2.1")]
        {
            let folder = tempfile::tempdir().unwrap();
            let made = pair(folder.path(), &Domain::parse(hostname).unwrap()).unwrap();
            let certified = made.read().unwrap();
            let parsed = ParsedCertificate::try_from(&certified.cert[0]).unwrap();
            verify_server_name(&parsed, &ServerName::try_from(name).unwrap()).unwrap();
            let rights = |path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
            assert_eq!(rights(made.key.clone()), 0o600);
            assert_eq!(rights(folder.path().join(FOLDER)), 0o700);
            let first = fs::read(&made.chain).unwrap();
            pair(folder.path(), &Domain::localhost()).unwrap();
            assert_eq!(fs::read(&made.chain).unwrap(), first, "it is kept");
        }
    }

    #[test]
    fn half_of_it_is_made_anew() {
        let folder = tempfile::tempdir().unwrap();
        let made = pair(folder.path(), &Domain::localhost()).unwrap();
        for path in [&made.key, &made.chain] {
            fs::remove_file(path).unwrap();
            pair(folder.path(), &Domain::localhost()).unwrap().read().unwrap();
        }
    }
}
