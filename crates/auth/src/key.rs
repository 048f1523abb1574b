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
        let bits = || tags.octets("p").as_deref().and_then(modulus_bits).unwrap_or_default();
        let rsa_bits = (kind == "rsa").then(bits);
        match rsa_bits {
            // The library counts whole octets.
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

/// The bits of the modulus of an RSA key: as such (RFC 8017 §A.1.1), or within what says its kind
/// (RFC 5280 §4.1); `None` where it is neither.
fn modulus_bits(key: &[u8]) -> Option<usize> {
    let (SEQUENCE, body, _) = element(key)? else { return None };
    let modulus = match element(body)? {
        (INTEGER, modulus, _) => modulus,
        (SEQUENCE, _, behind) => {
            let (BIT_STRING, bits, _) = element(behind)? else { return None };
            let (SEQUENCE, body, _) = element(bits.strip_prefix(&[0])?)? else { return None };
            let (INTEGER, modulus, _) = element(body)? else { return None };
            modulus
        }
        _ => return None,
    };
    let start = modulus.iter().position(|octet| *octet != 0)?;
    let modulus = modulus.get(start..)?;
    Some(modulus.len() * 8 - modulus.first()?.leading_zeros() as usize)
}

/// The tag and the content of the first element in DER, and what follows.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[tag, first], rest) = der.split_first_chunk()?;
    let (size, rest) = match first {
        ..=0x7f => (usize::from(first), rest),
        0x81 => (usize::from(*rest.first()?), rest.get(1..)?),
        0x82 => {
            let (size, rest) = rest.split_first_chunk()?;
            (usize::from(u16::from_be_bytes(*size)), rest)
        }
        _ => return None,
    };
    let (content, behind) = rest.split_at_checked(size)?;
    Some((tag, content, behind))
}

const BIT_STRING: u8 = 3;
const INTEGER: u8 = 2;
const SEQUENCE: u8 = 0x30;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bits_of_a_modulus_are_counted_one_by_one() {
        let sized = |tag: u8, octets: &[u8]| {
            let size = u16::try_from(octets.len()).unwrap().to_be_bytes();
            [&[tag, 0x82], size.as_slice(), octets].concat()
        };
        for (first, want) in [(0x80, 1_024), (0x7f, 1_023), (0x01, 1_017)] {
            let mut modulus = vec![0, first];
            modulus.resize(129, 0xff);
            let key = [sized(INTEGER, &modulus), vec![INTEGER, 1, 3]].concat();
            let key = sized(SEQUENCE, &key);
            assert_eq!(modulus_bits(&key), Some(want));
            let kind = [SEQUENCE, 2, 5, 0].as_slice();
            let framed = [kind, &sized(BIT_STRING, &[&[0], key.as_slice()].concat())].concat();
            let framed = sized(SEQUENCE, &framed);
            assert_eq!(modulus_bits(&framed), Some(want));
            for cut in 0..framed.len() {
                assert_eq!(modulus_bits(&framed[..cut]), None, "{cut}");
            }
        }
    }
}
