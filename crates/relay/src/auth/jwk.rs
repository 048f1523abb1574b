//! The public keys of an issuer of tokens: a JWK set (RFC 7517, RFC 7518 §6, RFC 8037) or PEM.
//!
//! Invariant: a key verifies by the algorithms of its own kind and by no other, and none of them
//! works with a shared secret, so that a public key can never be taken for one. Pure.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256,
    RSA_PSS_2048_8192_SHA256, RsaPublicKeyComponents, VerificationAlgorithm,
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use rustls_pki_types::{SubjectPublicKeyInfoDer, pem::PemObject as _};
use serde::Deserialize;

use super::jwt::Algorithm;

/// A public key.
#[derive(Debug)]
pub(super) struct Key {
    /// Its name in the set; `None` where it has none.
    id: Option<String>,
    /// How it verifies, for each algorithm that it may be used with; never empty.
    ways: Vec<(Algorithm, ParsedPublicKey)>,
}

impl Key {
    /// Whether a token that names this key, or none, may be signed with it.
    pub(super) fn is_named(&self, id: Option<&str>) -> bool {
        match (id, self.id.as_deref()) {
            (Some(wanted), Some(own)) => wanted == own,
            // Keys in PEM have no names, and some issuers name none in their tokens.
            (Some(_) | None, None) | (None, Some(_)) => true,
        }
    }

    /// Whether the signature is that of the message by this key.
    pub(super) fn has_signed(
        &self,
        algorithm: Algorithm,
        message: &[u8],
        signature: &[u8],
    ) -> bool {
        let way = self.ways.iter().find(|(own, _)| *own == algorithm);
        way.is_some_and(|(_, key)| key.verify_sig(message, signature).is_ok())
    }

    /// A key in one of the forms that the library reads; `None` where it fits no algorithm.
    fn of(id: Option<String>, algorithms: &[Algorithm], octets: &[u8]) -> Option<Self> {
        let ways: Vec<_> = algorithms
            .iter()
            .filter_map(|algorithm| {
                let key = ParsedPublicKey::new(verification(*algorithm), octets).ok()?;
                Some((*algorithm, key))
            })
            .collect();
        (!ways.is_empty()).then_some(Self { id, ways })
    }

    fn of_jwk(jwk: Jwk) -> Option<Self> {
        let Jwk { kty, usage, alg, kid, crv, n, e, x, y } = jwk;
        if usage.is_some_and(|usage| usage != "sig") {
            return None;
        }
        let decode = |text: Option<String>| URL_SAFE_NO_PAD.decode(text?).ok();
        let fits = |algorithm: &Algorithm| alg.as_ref().is_none_or(|alg| alg == algorithm.name());
        let only =
            |all: &[Algorithm]| -> Vec<Algorithm> { all.iter().copied().filter(fits).collect() };
        match (kty.as_str(), crv.as_deref()) {
            ("RSA", _) => {
                let (n, e) = (decode(n)?, decode(e)?);
                let components = RsaPublicKeyComponents { n, e };
                let ways: Vec<_> = only(&[Algorithm::Ps256, Algorithm::Rs256])
                    .into_iter()
                    .filter_map(|algorithm| {
                        let parameters = match algorithm {
                            Algorithm::Ps256 => &RSA_PSS_2048_8192_SHA256,
                            Algorithm::EdDsa | Algorithm::Es256 | Algorithm::Rs256 => {
                                &RSA_PKCS1_2048_8192_SHA256
                            }
                        };
                        Some((algorithm, components.to_parsed_public_key(parameters).ok()?))
                    })
                    .collect();
                (!ways.is_empty()).then_some(Self { id: kid, ways })
            }
            ("EC", Some("P-256")) => {
                // SEC 1 §2.3.3: the uncompressed point.
                let point = [vec![4], decode(x)?, decode(y)?].concat();
                Self::of(kid, &only(&[Algorithm::Es256]), &point)
            }
            ("OKP", Some("Ed25519")) => Self::of(kid, &only(&[Algorithm::EdDsa]), &decode(x)?),
            _ => None,
        }
    }
}

/// Reads the keys of a file; those that we cannot use are passed over.
pub(super) fn parse(text: &[u8]) -> Result<Vec<Key>, &'static str> {
    let keys: Vec<Key> = if text.trim_ascii_start().starts_with(b"{") {
        let set: JwkSet = serde_json::from_slice(text).map_err(|_| "it is not a JWK set")?;
        set.keys.into_iter().take(KEYS_MAX).filter_map(Key::of_jwk).collect()
    } else {
        SubjectPublicKeyInfoDer::pem_slice_iter(text)
            .take(KEYS_MAX)
            .map(|key| key.map_err(|_| "it is neither a JWK set nor PEM"))
            .filter_map(|key| match key {
                Ok(key) => Key::of(None, &Algorithm::ALL, &key).map(Ok),
                Err(why) => Some(Err(why)),
            })
            .collect::<Result<_, _>>()?
    };
    if keys.is_empty() { Err("there is no key in it that we can use") } else { Ok(keys) }
}

fn verification(algorithm: Algorithm) -> &'static dyn VerificationAlgorithm {
    match algorithm {
        Algorithm::EdDsa => &ED25519,
        Algorithm::Es256 => &ECDSA_P256_SHA256_FIXED,
        Algorithm::Ps256 => &RSA_PSS_2048_8192_SHA256,
        Algorithm::Rs256 => &RSA_PKCS1_2048_8192_SHA256,
    }
}

#[derive(Deserialize)]
struct JwkSet {
    keys: Vec<Jwk>,
}

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    #[serde(rename = "use")]
    usage: Option<String>,
    alg: Option<String>,
    kid: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

/// The most keys of one file: each may be tried for each token.
const KEYS_MAX: usize = 32;
