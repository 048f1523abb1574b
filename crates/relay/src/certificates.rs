//! Which certificate the other end is shown, and when the files are read anew.
//!
//! Invariant: what could be read stays in use until something better can be read, so a broken or
//! half replaced file never takes TLS away; what cannot be used is told once. Not pure: files.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
    time::SystemTime,
};

use anyhow::Context;
use rustls::{
    SignatureScheme,
    client::{ResolvesClientCert, verify_server_name},
    server::{ClientHello, ParsedCertificate, ResolvesServerCert},
    sign::CertifiedKey,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject};

use crate::tls;

/// A PEM file with a certificate and those that lead to its root, and one with its private key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// The certificates, that of the server first.
    pub chain: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

/// The certificates of one listener, or of one route.
#[derive(Debug)]
pub struct Certificates {
    /// The own one first.
    slots: RwLock<Vec<Slot>>,
}

/// One pair of files, and what came of them.
#[derive(Clone, Debug)]
struct Slot {
    pair: Pair,
    /// What is in use; `None` where nothing could be used yet.
    current: Option<Arc<CertifiedKey>>,
    /// The files as they were read last; `None` before the first time.
    stamp: Option<Stamp>,
    origin: Origin,
}

/// Whose files they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The operator's, or the relay's own: they should be there.
    Kept,
    /// The relay orders them: they may be still to come.
    Ordered,
}

/// When each of two files was written, and how long it is; `None` where it is not there.
type Stamp = [Option<(SystemTime, u64)>; 2];

impl Certificates {
    /// Reads `own`, which is shown to clients that name nobody or somebody unknown (RFC 6066 §3),
    /// and `others`, which are shown to those who name somebody in them.
    pub fn load(own: Pair, others: impl IntoIterator<Item = Pair>) -> Self {
        let all = std::iter::once(own).chain(others);
        Self::of(all.map(|pair| (pair, Origin::Kept)))
    }

    /// The same of files of both kinds, the own ones first.
    pub fn of(all: impl IntoIterator<Item = (Pair, Origin)>) -> Self {
        let slot = |(pair, origin)| Slot { pair, current: None, stamp: None, origin };
        let slots = all.into_iter().map(slot).collect();
        let certificates = Self { slots: RwLock::new(slots) };
        certificates.refresh();
        certificates
    }

    /// Reads again what has changed since it was read.
    pub fn refresh(&self) {
        // Reading takes a while, and handshakes go on meanwhile. Only one task refreshes.
        let mut slots = self.slots.read().unwrap_or_else(PoisonError::into_inner).clone();
        for slot in &mut slots {
            slot.refresh();
        }
        *self.slots.write().unwrap_or_else(PoisonError::into_inner) = slots;
    }

    /// Takes over from `before` what could not be read now from the same files: a reload makes
    /// all anew, and must not take TLS away either.
    pub fn keep(&self, before: &[Arc<Self>]) {
        let mut slots = self.slots.write().unwrap_or_else(PoisonError::into_inner);
        for slot in slots.iter_mut().filter(|slot| slot.current.is_none()) {
            slot.current = before.iter().find_map(|one| one.read_from(&slot.pair));
            if slot.current.is_some() {
                let chain = slot.pair.chain.display();
                tracing::warn!(%chain, "the certificate that was read before stays in use");
            }
        }
    }

    /// What was read from these files and is in use.
    fn read_from(&self, pair: &Pair) -> Option<Arc<CertifiedKey>> {
        let slots = self.slots.read().unwrap_or_else(PoisonError::into_inner);
        slots.iter().find(|slot| slot.pair == *pair).and_then(|slot| slot.current.clone())
    }

    /// Whether a handshake can succeed.
    pub fn are_usable(&self) -> bool {
        let slots = self.slots.read().unwrap_or_else(PoisonError::into_inner);
        slots.iter().any(|slot| slot.current.is_some())
    }

    /// The certificate for this name, or the first one.
    fn choose(&self, name: Option<&str>) -> Option<Arc<CertifiedKey>> {
        let slots = self.slots.read().unwrap_or_else(PoisonError::into_inner);
        let usable = || slots.iter().filter_map(|slot| slot.current.as_ref());
        let name = name.and_then(|name| ServerName::try_from(name).ok());
        let named = name.and_then(|name| usable().find(|key| is_for(key, &name)));
        named.or_else(|| usable().next()).cloned()
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.choose(hello.server_name())
    }
}

impl ResolvesClientCert for Certificates {
    fn resolve(&self, _: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        // Whose certificates the server takes is not looked at: many a server names nobody, or not
        // all, and a certificate that it does not know is its to refuse.
        self.choose(None).filter(|key| key.key.choose_scheme(schemes).is_some())
    }

    fn has_certs(&self) -> bool {
        self.are_usable()
    }
}

impl Slot {
    fn refresh(&mut self) {
        let stamp = [&self.pair.chain, &self.pair.key].map(|path| stamp(path));
        if self.stamp == Some(stamp) {
            return;
        }
        let is_first = self.stamp.is_none();
        self.stamp = Some(stamp);
        match self.pair.read() {
            Ok(key) => {
                if !is_first {
                    tracing::warn!(chain = %self.pair.chain.display(), "a new certificate is used");
                }
                self.current = Some(Arc::new(key));
            }
            Err(_) if self.origin == Origin::Ordered && stamp == [None, None] => {}
            // Debug shows the reasons as well.
            Err(error) if self.current.is_some() => {
                tracing::error!("{error:#}; the certificate that was read before stays in use");
            }
            Err(error) => tracing::error!("{error:#}; there is no TLS with this certificate"),
        }
    }
}

impl Pair {
    /// Reads both; errs where they do not belong together, too.
    pub fn read(&self) -> anyhow::Result<CertifiedKey> {
        let chain = tls::certificates_of(&self.chain)?;
        let key = PrivateKeyDer::from_pem_file(&self.key)
            .with_context(|| format!("cannot read a private key from {}", self.key.display()))?;
        CertifiedKey::from_der(chain, key, &tls::provider()).with_context(|| {
            let (chain, key) = (self.chain.display(), self.key.display());
            format!("{chain} and {key} are not a certificate and its key")
        })
    }
}

/// Whether the certificate has this name, which may be none that a certificate can have.
pub(crate) fn is_named(key: &CertifiedKey, name: &str) -> bool {
    ServerName::try_from(name).is_ok_and(|name| is_for(key, &name))
}

/// Whether the certificate has this name (RFC 9525 §6.3).
fn is_for(key: &CertifiedKey, name: &ServerName<'_>) -> bool {
    key.cert.first().is_some_and(|first| has_name(first, name))
}

fn has_name(certificate: &CertificateDer<'_>, name: &ServerName<'_>) -> bool {
    let parsed = ParsedCertificate::try_from(certificate);
    parsed.is_ok_and(|parsed| verify_server_name(&parsed, name).is_ok())
}

/// Whether the certificate has the name of this host.
pub(crate) fn names(certificate: &CertificateDer<'_>, host: &str) -> bool {
    ServerName::try_from(host).is_ok_and(|name| has_name(certificate, &name))
}

fn stamp(path: &Path) -> Option<(SystemTime, u64)> {
    let facts = fs::metadata(path).ok()?;
    Some((facts.modified().ok()?, facts.len()))
}

#[cfg(test)]
mod tests {
    use rcgen::generate_simple_self_signed;

    use super::*;

    /// Writes a certificate for these names; `stem` names the files.
    fn certify(folder: &Path, stem: &str, names: &[&str]) -> Pair {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let made = generate_simple_self_signed(names).unwrap();
        let pair = Pair { chain: folder.join(stem), key: folder.join(format!("{stem}.key")) };
        fs::write(&pair.chain, made.cert.pem()).unwrap();
        fs::write(&pair.key, made.signing_key.serialize_pem()).unwrap();
        pair
    }

    /// For which of these names the chosen certificate is.
    fn chosen(certificates: &Certificates, asked: Option<&str>, among: &[&str]) -> Vec<String> {
        let Some(key) = certificates.choose(asked) else { return Vec::new() };
        let is_in = |name: &&&str| is_for(&key, &ServerName::try_from(**name).unwrap());
        among.iter().filter(is_in).map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn the_certificate_is_chosen_by_name_and_the_listeners_own_is_for_all_others() {
        let folder = tempfile::tempdir().unwrap();
        let own = certify(folder.path(), "own", &["mx.ours.example"]);
        let other = certify(folder.path(), "other", &["mail.other.example", "*.wild.example"]);
        let certificates = Certificates::load(own, [other]);
        let all = ["mx.ours.example", "mail.other.example"];
        for (asked, want) in [
            (None, "mx.ours.example"),
            (Some("mx.ours.example"), "mx.ours.example"),
            (Some("mail.other.example"), "mail.other.example"),
            (Some("MAIL.other.example"), "mail.other.example"),
            (Some("a.wild.example"), "mail.other.example"),
            (Some("a.b.wild.example"), "mx.ours.example"),
            (Some("unknown.example"), "mx.ours.example"),
            (Some("not a name"), "mx.ours.example"),
        ] {
            assert_eq!(chosen(&certificates, asked, &all), [want], "{asked:?}");
        }
    }

    #[test]
    fn what_was_read_stays_until_something_better_can_be_read() {
        let folder = tempfile::tempdir().unwrap();
        let all = ["first.example", "second.example"];
        let missing = Pair { chain: folder.path().join("own"), key: folder.path().join("own.key") };
        let certificates = Certificates::load(missing, []);
        assert!(!certificates.are_usable());
        let pair = certify(folder.path(), "own", &["first.example"]);
        certificates.refresh();
        assert!(certificates.are_usable());
        assert_eq!(chosen(&certificates, None, &all), ["first.example"]);

        // The key first: for a moment the two do not belong together.
        let fresh = certify(folder.path(), "fresh", &["second.example", "longer.example"]);
        fs::rename(&fresh.key, &pair.key).unwrap();
        certificates.refresh();
        assert_eq!(chosen(&certificates, None, &all), ["first.example"]);
        fs::rename(&fresh.chain, &pair.chain).unwrap();
        certificates.refresh();
        assert_eq!(chosen(&certificates, None, &all), ["second.example"]);

        fs::write(&pair.chain, "nonsense").unwrap();
        certificates.refresh();
        assert_eq!(chosen(&certificates, None, &all), ["second.example"]);
        // Made anew, as by a reload.
        let other = certify(folder.path(), "other", &["first.example"]);
        let again = Certificates::load(pair.clone(), [other]);
        let before = [Arc::new(certificates)];
        assert_eq!(chosen(&again, None, &all), ["first.example"]);
        again.keep(&before);
        assert_eq!(chosen(&again, None, &all), ["second.example"]);
        let [certificates] = before;
        fs::remove_file(&pair.key).unwrap();
        certificates.refresh();
        assert_eq!(chosen(&certificates, None, &all), ["second.example"]);
    }
}
