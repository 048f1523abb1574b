//! Signatures of ours (DKIM, RFC 6376, RFC 8463), and the keys that make them.
//!
//! Invariant: what readers see of a message, and what decides how they see it, is signed, and
//! nobody can add another of it: each such field is signed once more often than it is there
//! (RFC 6376 §8.15). Not pure: keys are drawn, and the library takes random octets to sign.

use std::fmt;

use aws_lc_rs::{
    encoding::{AsDer as _, Pkcs8V1Der},
    rsa::{KeyPair as RsaKeyPair, KeySize},
    signature::{Ed25519KeyPair, KeyPair as _},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use mail_auth::{
    common::crypto::{DkimKey, Ed25519Key, RsaKey, SigningKey as _},
    dkim::{Canonicalization, Signature},
};

use crate::{
    body::{BodyHash, Canonical, Wanted},
    message::Message,
};

/// The kind of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum KeyKind {
    /// Short and fast; not every receiver knows it (RFC 8463).
    Ed25519,
    /// RSA of 2,048 bits: every receiver knows it (RFC 8301 §3.2).
    Rsa,
}

impl KeyKind {
    /// As it stands in records (`k=`).
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ed25519 => "ed25519",
            Self::Rsa => "rsa",
        }
    }
}

/// Why there is no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyError {
    /// No key could be made: there is no randomness.
    NotMade,
    /// This is no private key in PKCS#8, or of a kind that cannot sign here.
    Unreadable,
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotMade => "no key could be made",
            Self::Unreadable => "this is no RSA or Ed25519 key in PKCS#8",
        })
    }
}

impl std::error::Error for KeyError {}

/// A private key.
pub struct PrivateKey {
    kind: KeyKind,
    key: DkimKey,
    /// The public half as it stands in a record (`p=`).
    public: String,
}

impl fmt::Debug for PrivateKey {
    /// Shows nothing that is secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PrivateKey").field("kind", &self.kind).finish_non_exhaustive()
    }
}

impl PrivateKey {
    /// Draws a key; in PKCS#8 (RFC 5958), as [`Self::read`] takes it.
    pub fn draw(kind: KeyKind) -> Result<Vec<u8>, KeyError> {
        let not_made = |_| KeyError::NotMade;
        match kind {
            KeyKind::Ed25519 => {
                let pair = Ed25519KeyPair::generate().map_err(not_made)?;
                Ok(pair.to_pkcs8v1().map_err(not_made)?.as_ref().to_vec())
            }
            KeyKind::Rsa => {
                let pair = RsaKeyPair::generate(KeySize::Rsa2048).map_err(not_made)?;
                let der: Pkcs8V1Der<'static> = pair.as_der().map_err(not_made)?;
                Ok(der.as_ref().to_vec())
            }
        }
    }

    /// Reads a key in PKCS#8, as it is in a file in PEM without its frame.
    pub fn read(pkcs8: &[u8]) -> Result<Self, KeyError> {
        if let Ok(pair) = Ed25519KeyPair::from_pkcs8_maybe_unchecked(pkcs8) {
            let public = STANDARD.encode(pair.public_key().as_ref());
            let key = Ed25519Key::from_pkcs8_maybe_unchecked_der(pkcs8);
            let key = DkimKey::Ed25519(key.map_err(|_| KeyError::Unreadable)?);
            return Ok(Self { kind: KeyKind::Ed25519, key, public });
        }
        let pair = RsaKeyPair::from_pkcs8(pkcs8).map_err(|_| KeyError::Unreadable)?;
        let public =
            aws_lc_rs::encoding::AsDer::<aws_lc_rs::encoding::PublicKeyX509Der<'_>>::as_der(
                pair.public_key(),
            );
        let public = STANDARD.encode(public.map_err(|_| KeyError::Unreadable)?.as_ref());
        let key = RsaKey::from_key_der(rustls_pki_types::PrivatePkcs8KeyDer::from(pkcs8).into());
        let key = DkimKey::Rsa(key.map_err(|_| KeyError::Unreadable)?);
        Ok(Self { kind: KeyKind::Rsa, key, public })
    }

    /// The signature over these octets; `None` where the key fails.
    pub(crate) fn signature(&self, octets: &[u8]) -> Option<Vec<u8>> {
        self.key.sign(octets).ok()
    }

    /// What kind it is.
    pub const fn kind(&self) -> KeyKind {
        self.kind
    }

    /// The text of the record that makes its public half known (RFC 6376 §3.6.1).
    pub fn record(&self) -> String {
        format!("v=DKIM1; k={}; p={}", self.kind.as_str(), self.public)
    }
}

/// Signs for a domain with one key.
#[derive(Debug)]
pub struct Signer {
    /// The domain, in A-labels.
    pub domain: String,
    /// The selector of the key.
    pub selector: String,
    /// The key.
    pub key: PrivateKey,
}

/// The form of the body that is signed.
pub(crate) const FORM: Wanted = (Canonical::Relaxed, None);

impl Signer {
    /// The signature field of a message, with its final line end; `None` where nothing of its
    /// header can be signed, or the key fails.
    ///
    /// `lifetime`: for how many seconds it is to be believed (`x=`); `None`: for ever.
    pub fn sign(
        &self,
        message: &Message<'_>,
        body: BodyHash,
        now: u64,
        lifetime: Option<u64>,
    ) -> Option<String> {
        let names = signed_names(message)?;
        let mut signature = Signature {
            v: 1,
            a: self.key.key.algorithm(),
            d: self.domain.clone(),
            s: self.selector.clone(),
            bh: body.hash.to_vec(),
            h: names,
            t: now,
            x: lifetime.map_or(0, |lifetime| now.saturating_add(lifetime)),
            ch: Canonicalization::Relaxed,
            cb: Canonicalization::Relaxed,
            ..Signature::default()
        };
        let mut signed = message.fields.canonical(&signature.h);
        signature.write(&mut signed, false);
        signature.b = self.key.signature(&signed)?;
        let mut field = Vec::with_capacity(1 << 10);
        signature.write(&mut field, true);
        String::from_utf8(field).ok()
    }
}

/// Which fields are signed, as often as each is: those of [`ALWAYS`] once more than they are there,
/// and those of [`IF_THERE`] too, if there is any. `None` where there is no From.
pub(crate) fn signed_names(message: &Message<'_>) -> Option<Vec<String>> {
    let mut names = Vec::new();
    let count = |name: &str| message.fields.named(name).count();
    if count("From") == 0 {
        return None;
    }
    for name in ALWAYS {
        names.extend(std::iter::repeat_n(name.to_owned(), count(name) + 1));
    }
    for name in IF_THERE {
        match count(name) {
            0 => {}
            found => names.extend(std::iter::repeat_n(name.to_owned(), found + 1)),
        }
    }
    Some(names)
}

/// What readers see, and what decides how they see it.
const ALWAYS: [&str; 10] = [
    "From",
    "To",
    "Cc",
    "Subject",
    "Date",
    "Message-ID",
    "Reply-To",
    "MIME-Version",
    "Content-Type",
    "Content-Transfer-Encoding",
];

/// What a list or another forwarder may have to add where it is not there.
const IF_THERE: [&str; 13] = [
    "Sender",
    "In-Reply-To",
    "References",
    "List-Id",
    "List-Help",
    "List-Unsubscribe",
    "List-Unsubscribe-Post",
    "List-Subscribe",
    "List-Post",
    "List-Owner",
    "List-Archive",
    "Auto-Submitted",
    "Feedback-ID",
];

#[cfg(test)]
#[path = "sign_tests.rs"]
mod tests;
