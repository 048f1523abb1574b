//! Whether a signed token is good, and for whom (RFC 7515, RFC 7519, RFC 8725).
//!
//! Invariant: nothing of a token is believed before its signature is found good, by an algorithm
//! that the operator has chosen and not the token; a token without an end is none. Pure: keys and
//! time are arguments.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::jwk::Key;

/// How a token may be signed (RFC 7518 §3.1, RFC 8037 §3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// Ed25519.
    EdDsa,
    /// ECDSA with P-256 and SHA-256.
    Es256,
    /// RSASSA-PSS with SHA-256.
    Ps256,
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
}

impl Algorithm {
    /// All of them. There is none with a shared secret, and none without a signature.
    pub const ALL: [Self; 4] = [Self::Rs256, Self::Ps256, Self::Es256, Self::EdDsa];

    /// Its name in the header of a token.
    pub const fn name(self) -> &'static str {
        match self {
            Self::EdDsa => "EdDSA",
            Self::Es256 => "ES256",
            Self::Ps256 => "PS256",
            Self::Rs256 => "RS256",
        }
    }
}

/// What a token has to say to be good.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted<'a> {
    /// `iss`.
    pub(super) issuer: &'a str,
    /// One of these in `aud`.
    pub(super) audience: &'a [String],
    /// One of these in the header.
    pub(super) algorithms: &'a [Algorithm],
    /// The claim that names the user.
    pub(super) user_claim: &'a str,
}

/// Why a token is no good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It is signed by an algorithm that is not wanted, or not signed.
    Algorithm,
    /// It is for somebody else.
    Audience,
    /// It needs an extension that we do not have.
    Critical,
    /// It has no end.
    Endless,
    /// It is over.
    Expired,
    /// It is from somebody else.
    Issuer,
    /// It is not three parts in base64 with JSON in them.
    Malformed,
    /// It begins later.
    NotYet,
    /// No key of the issuer has signed it.
    Signature,
    /// It names no user, or one whose address was not verified.
    User,
}

/// A token that was taken apart, and is not believed yet.
pub(super) struct Token<'a> {
    signed: &'a str,
    header: Header,
    claims: Map<String, Value>,
    signature: Vec<u8>,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    crit: Option<Value>,
}

impl<'a> Token<'a> {
    /// Takes a token in the compact form apart (RFC 7515 §3.1).
    pub(super) fn parse(text: &'a str) -> Result<Self, Refusal> {
        let (signed, signature) = text.rsplit_once('.').ok_or(Refusal::Malformed)?;
        let (header, claims) = signed.split_once('.').ok_or(Refusal::Malformed)?;
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| Refusal::Malformed);
        let header: Header =
            serde_json::from_slice(&decode(header)?).map_err(|_| Refusal::Malformed)?;
        let claims = serde_json::from_slice(&decode(claims)?).map_err(|_| Refusal::Malformed)?;
        Ok(Self { signed, header, claims, signature: decode(signature)? })
    }

    /// Who is said to have issued it: for finding the keys, and for nothing else.
    pub(super) fn issuer(&self) -> Option<&str> {
        self.claims.get("iss")?.as_str()
    }

    /// The user for whom this token is good at `now`, in seconds of Unix.
    pub(super) fn verify(
        &self,
        wanted: &Wanted<'_>,
        keys: &[Key],
        now: u64,
    ) -> Result<String, Refusal> {
        let named = |algorithm: &&Algorithm| algorithm.name() == self.header.alg;
        let algorithm = *wanted.algorithms.iter().find(named).ok_or(Refusal::Algorithm)?;
        // RFC 7515 §4.1.11.
        if self.header.crit.is_some() {
            return Err(Refusal::Critical);
        }
        let mut usable = keys.iter().filter(|key| key.is_named(self.header.kid.as_deref()));
        if !usable.any(|key| key.has_signed(algorithm, self.signed.as_bytes(), &self.signature)) {
            return Err(Refusal::Signature);
        }
        if self.issuer() != Some(wanted.issuer) {
            return Err(Refusal::Issuer);
        }
        let is_ours = |value: &Value| {
            value.as_str().is_some_and(|text| wanted.audience.iter().any(|own| own == text))
        };
        let is_for_us = match self.claims.get("aud") {
            Some(Value::Array(all)) => all.iter().any(is_ours),
            Some(one) => is_ours(one),
            None => false,
        };
        if !is_for_us {
            return Err(Refusal::Audience);
        }
        self.is_current(now)?;
        self.user(wanted.user_claim)
    }

    /// RFC 7519 §4.1.4, §4.1.5.
    fn is_current(&self, now: u64) -> Result<(), Refusal> {
        let end = self.claims.get("exp").ok_or(Refusal::Endless)?;
        let end = seconds(end).ok_or(Refusal::Malformed)?;
        if end.saturating_add(LEEWAY_SECONDS) <= now {
            return Err(Refusal::Expired);
        }
        match self.claims.get("nbf").map(seconds) {
            Some(None) => Err(Refusal::Malformed),
            Some(Some(begin)) if begin > now.saturating_add(LEEWAY_SECONDS) => Err(Refusal::NotYet),
            Some(Some(_)) | None => Ok(()),
        }
    }

    fn user(&self, claim: &str) -> Result<String, Refusal> {
        // An address that anybody may have typed in at the issuer is nobody's.
        let is_unverified = claim == "email"
            && self.claims.get("email_verified").is_some_and(|v| *v != Value::Bool(true));
        let user = self.claims.get(claim).and_then(Value::as_str).filter(|user| !user.is_empty());
        user.filter(|_| !is_unverified).map(str::to_owned).ok_or(Refusal::User)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Algorithm => "its algorithm is none of those that are wanted",
            Self::Audience => "it is for somebody else (aud)",
            Self::Critical => "it needs an extension that we do not have (crit)",
            Self::Endless => "it has no end (exp)",
            Self::Expired => "it is over (exp)",
            Self::Issuer => "it is from nobody whom we know (iss)",
            Self::Malformed => "it is not a signed token",
            Self::NotYet => "it begins later (nbf)",
            Self::Signature => "none of the keys has signed it",
            Self::User => "it names no user",
        })
    }
}

/// A `NumericDate`: seconds of Unix, perhaps with a fraction, which does not count.
fn seconds(value: &Value) -> Option<u64> {
    let whole = value.as_u64();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates")]
    let rounded = value.as_f64().filter(|number| *number >= 0.0).map(|number| number as u64);
    whole.or(rounded)
}

/// How far the clocks of an issuer and ours may differ.
const LEEWAY_SECONDS: u64 = 60;

#[cfg(test)]
#[path = "jwt_tests.rs"]
pub(super) mod tests;
