//! What is shown to a CA so that it sees that a name is ours.
//!
//! Invariant: nothing is shown longer than the order lasts that it is for. Not pure: shared by who
//! orders and who serves.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock},
};

use rustls::{
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};

use crate::certificates::Certificates;

/// What is shown now.
#[derive(Debug, Default)]
pub struct Challenges {
    /// Texts by their tokens (RFC 8555 §8.3).
    texts: RwLock<BTreeMap<String, String>>,
    /// Certificates by the names that they are for (RFC 8737 §3).
    certificates: RwLock<BTreeMap<String, Arc<CertifiedKey>>>,
}

impl Challenges {
    /// The text for this token.
    pub fn text(&self, token: &str) -> Option<String> {
        self.texts.read().unwrap_or_else(PoisonError::into_inner).get(token).cloned()
    }

    /// Shows a text until what is given is dropped.
    pub(super) fn show_text(self: &Arc<Self>, token: &str, text: String) -> Shown {
        let mut texts = self.texts.write().unwrap_or_else(PoisonError::into_inner);
        texts.insert(token.to_owned(), text);
        Shown { challenges: Arc::clone(self), key: token.to_owned() }
    }

    /// Shows a certificate until what is given is dropped.
    pub(super) fn show_certificate(self: &Arc<Self>, name: &str, shown: CertifiedKey) -> Shown {
        let mut all = self.certificates.write().unwrap_or_else(PoisonError::into_inner);
        all.insert(name.to_owned(), Arc::new(shown));
        Shown { challenges: Arc::clone(self), key: name.to_owned() }
    }

    fn certificate(&self, name: &str) -> Option<Arc<CertifiedKey>> {
        let all = self.certificates.read().unwrap_or_else(PoisonError::into_inner);
        all.get(&name.to_ascii_lowercase()).cloned()
    }
}

/// Something that is shown.
#[derive(Debug)]
pub(super) struct Shown {
    challenges: Arc<Challenges>,
    /// Its token, or its name: no token is a name, for names have dots.
    key: String,
}

impl Drop for Shown {
    fn drop(&mut self) {
        let Challenges { texts, certificates } = &*self.challenges;
        texts.write().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
        certificates.write().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}

/// Shows the certificate of a challenge to a CA that looks for it, and others what they are shown
/// anyway.
#[derive(Debug)]
pub struct Resolver {
    /// What others are shown.
    pub certificates: Arc<Certificates>,
    /// What a CA is shown.
    pub challenges: Arc<Challenges>,
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let mut protocols = hello.alpn().into_iter().flatten();
        // A CA offers this protocol alone (RFC 8737 §3).
        if protocols.next() == Some(ACME_TLS_1) && protocols.next().is_none() {
            return self.challenges.certificate(hello.server_name()?);
        }
        ResolvesServerCert::resolve(&*self.certificates, hello)
    }
}

/// The protocol in whose name a CA looks (RFC 8737 §6.2).
pub const ACME_TLS_1: &[u8] = b"acme-tls/1";
/// Where the texts are (RFC 8555 §8.3), each below by its token.
pub const TEXTS: &str = "/.well-known/acme-challenge/";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_shown_as_long_as_it_is_held() {
        let challenges = Arc::new(Challenges::default());
        let shown = challenges.show_text("token", "text".to_owned());
        assert_eq!(challenges.text("token").as_deref(), Some("text"));
        assert_eq!(challenges.text("other"), None);
        drop(shown);
        assert_eq!(challenges.text("token"), None);
    }
}
