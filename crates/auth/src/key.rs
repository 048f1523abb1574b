//! Keys in the DNS (RFC 6376 §3.6, RFC 8301, RFC 8463), and what they say of signatures.
//!
//! Pure.

use mail_auth::common::{crypto::Algorithm, parse::TxtRecordParser as _, verify::DomainKey};

use crate::{
    KeyKind,
    dns::{Answer, Known, Missing, Question},
    tags::Tags,
};

/// A key that may be used.
pub(crate) struct Key {
    public: DomainKey,
    /// Bits of its modulus; `None` where it is not RSA.
    pub(crate) rsa_bits: Option<usize>,
    /// `t=y`: the domain is trying things out.
    pub(crate) is_testing: bool,
    /// `t=s`: the identity must not be of a subdomain.
    pub(crate) is_strict: bool,
}

/// Why there is no key that may be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NoKey {
    /// It forbids this signature; in words.
    Forbids(String),
    /// It does not exist, or cannot be used; in words.
    Permanent(String),
    /// The DNS does not answer; in words.
    Temporary(String),
}

/// Octets of the value of an RSA key that are looked at: some 8,192 bits. More would cost time.
const RSA_BITS_MAX: usize = 8_192;
/// RFC 8301 §3.2: with less, nothing is proven.
const RSA_BITS_MIN: usize = 1_024;

/// Why verifiers could not use a record of a key of this kind, in words.
pub fn check_key_record(text: &[u8], name: &str, kind: KeyKind) -> Result<(), String> {
    let algorithm = match kind {
        KeyKind::Ed25519 => Algorithm::Ed25519Sha256,
        KeyKind::Rsa => Algorithm::RsaSha256,
    };
    match Key::parse(text, name, algorithm) {
        Ok(_) => Ok(()),
        Err(NoKey::Forbids(why) | NoKey::Permanent(why) | NoKey::Temporary(why)) => Err(why),
    }
}

impl Key {
    /// The key of a selector, for a signature of this algorithm.
    pub(crate) fn find(
        known: &Known,
        (selector, domain): (&str, &str),
        algorithm: Algorithm,
    ) -> Result<Result<Self, NoKey>, Missing> {
        let name = format!("{selector}._domainkey.{domain}");
        let texts = match known.get(Question::txt(&name))? {
            Answer::Texts(texts) => texts,
            Answer::Unknown => {
                let why = format!("the DNS does not answer for TXT {name}");
                return Ok(Err(NoKey::Temporary(why)));
            }
            Answer::Addresses(_)
            | Answer::Exchanges(_)
            | Answer::Names(_)
            | Answer::NoName
            | Answer::Nothing => {
                return Ok(Err(NoKey::Permanent(format!("there is no key at {name}"))));
            }
        };
        // RFC 6376 §3.6.2.2 leaves open what several records mean: the first that can be used.
        let mut keys = texts.iter().map(|text| Self::parse(text, &name, algorithm));
        let first = keys
            .next()
            .unwrap_or_else(|| Err(NoKey::Permanent(format!("there is no key at {name}"))));
        Ok(match first {
            Ok(key) => Ok(key),
            Err(why) => keys.find_map(Result::ok).ok_or(why),
        })
    }

    fn parse(text: &[u8], name: &str, algorithm: Algorithm) -> Result<Self, NoKey> {
        let wrong = |why: &str| NoKey::Permanent(format!("the key at {name} {why}"));
        let tags = Tags::parse(text).ok_or_else(|| wrong("cannot be read"))?;
        if tags.get("v").is_some_and(|version| version != "DKIM1") {
            return Err(wrong("is of another version"));
        }
        if tags.get("p").is_none() {
            return Err(wrong("is no key"));
        }
        if tags.get("p") == Some("") {
            return Err(wrong("was revoked"));
        }
        let lists = |tag: &str, words: &[&str]| {
            tags.words(tag).is_none_or(|mut all| all.any(|word| words.contains(&word)))
        };
        if !lists("s", &["*", "email"]) {
            return Err(wrong("is not for mail"));
        }
        if !lists("h", &["sha256"]) {
            return Err(NoKey::Forbids(format!("the key at {name} does not allow SHA-256")));
        }
        let kind = tags.get("k").unwrap_or("rsa");
        let fits = match algorithm {
            Algorithm::Ed25519Sha256 => kind == "ed25519",
            Algorithm::RsaSha1 | Algorithm::RsaSha256 => kind == "rsa",
        };
        if !fits {
            return Err(wrong("is of another algorithm"));
        }
        let public = DomainKey::parse(text).map_err(|_| wrong("cannot be read"))?;
        let rsa_bits = (kind == "rsa").then(|| public.p.public_key_bits());
        match rsa_bits {
            Some(..RSA_BITS_MIN) => return Err(wrong("is too short, or no RSA key")),
            Some(bits) if bits > RSA_BITS_MAX => return Err(wrong("is too long")),
            Some(_) | None => {}
        }
        let has_flag =
            |flag: &str| tags.words("t").is_some_and(|mut flags| flags.any(|found| found == flag));
        Ok(Self { rsa_bits, is_testing: has_flag("y"), is_strict: has_flag("s"), public })
    }

    /// Whether this is the signature of these octets.
    pub(crate) fn verifies(&self, signed: &[u8], signature: &[u8], algorithm: Algorithm) -> bool {
        self.public.p.verify_bytes(signed, signature, algorithm).is_ok()
    }
}
