//! Who vouches for a message (DKIM, RFC 6376, RFC 8301, RFC 8463).
//!
//! Invariant: what passes was signed whole, with a key that may be used, by the domain that is
//! named; whatever hurts that is said in words. Pure.

use std::fmt;

use mail_auth::dkim::Signature;

use crate::{
    body::{BodyHashes, Wanted},
    dns::{Known, Missing},
    key::{Key, NoKey},
    message::{Fields, Message, ours},
    names::{ascii, is_at_or_below},
    tags::Tags,
};

/// Signatures of one message that are looked at, from the top; the rest does not count.
pub const SIGNATURES_MAX: usize = 8;

/// What became of a signature (RFC 8601 §2.7.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DkimResult {
    /// It does not fit the message, or must not be believed.
    Fail,
    /// It says nothing: it fails, and the domain only tries things out (`t=y`).
    Neutral,
    /// It fits.
    Pass,
    /// It can never be checked.
    #[default]
    PermError,
    /// It fits, but not all of the message.
    Policy,
    /// The DNS could not be asked just now.
    TempError,
}

impl DkimResult {
    /// As it stands in header fields.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fail => "fail",
            Self::Neutral => "neutral",
            Self::Pass => "pass",
            Self::PermError => "permerror",
            Self::Policy => "policy",
            Self::TempError => "temperror",
        }
    }
}

impl fmt::Display for DkimResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What was found about one signature. What is not known is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DkimFinding {
    /// What became of it.
    pub result: DkimResult,
    /// Who signed (`d=`), in A-labels.
    pub domain: String,
    /// With which key (`s=`).
    pub selector: String,
    /// For whom (`i=`), as it is written.
    pub identity: Option<String>,
    /// How (`a=`).
    pub algorithm: &'static str,
    /// Bits of the key, where it is RSA and was found.
    pub rsa_bits: Option<usize>,
    /// The first octets of the signature in base64, to tell it from others (RFC 6008).
    pub start: String,
    /// Why it did not pass, in words.
    pub why: Option<String>,
    /// Whether the domain is only trying things out (`t=y`).
    pub is_testing: bool,
}

/// A signature of a message, read once.
#[derive(Debug)]
pub(crate) struct SignatureField<'a> {
    field: (&'a [u8], &'a [u8]),
    finding: DkimFinding,
    /// `None` where it cannot be checked; the finding says why.
    parsed: Option<Parsed>,
}

#[derive(Debug)]
struct Parsed {
    signature: Signature,
    limit: Option<u64>,
    expires: Option<u64>,
}

impl<'a> SignatureField<'a> {
    pub(crate) fn all(fields: &Fields<'a>) -> Vec<Self> {
        fields.named("DKIM-Signature").take(SIGNATURES_MAX).map(Self::read).collect()
    }

    fn read(field: (&'a [u8], &'a [u8])) -> Self {
        let mut finding = DkimFinding::default();
        let parsed = match parse(field.1, &mut finding) {
            Ok(parsed) => Some(parsed),
            Err((result, why)) => {
                (finding.result, finding.why) = (result, Some(why.to_owned()));
                None
            }
        };
        Self { field, finding, parsed }
    }

    /// Which hash of the body it holds.
    pub(crate) fn wanted(&self) -> Option<Wanted> {
        let parsed = self.parsed.as_ref()?;
        Some((ours(parsed.signature.cb), parsed.limit))
    }

    fn check(
        &self,
        known: &Known,
        fields: &Fields<'_>,
        hashes: &BodyHashes,
        now: u64,
    ) -> Result<DkimFinding, Missing> {
        let mut finding = self.finding.clone();
        let Some(parsed) = &self.parsed else { return Ok(finding) };
        let signature = &parsed.signature;
        let end = |mut finding: DkimFinding, result, why: &str| {
            (finding.result, finding.why) = (result, Some(why.to_owned()));
            Ok(finding)
        };
        if parsed.expires.is_some_and(|expires| expires <= now) {
            return end(finding, DkimResult::Fail, "the signature has expired");
        }
        // Before the DNS is asked: what does not fit anyway is asked for nothing.
        let body = hashes.get((ours(signature.cb), parsed.limit));
        let Some(body) = body.filter(|body| body.hash.as_slice() == signature.bh.as_slice()) else {
            return end(finding, DkimResult::Fail, "the body was changed");
        };
        if parsed.limit.is_some_and(|limit| limit > body.octets) {
            return end(finding, DkimResult::PermError, "the body is shorter than what was signed");
        }
        let place = (signature.s.as_str(), finding.domain.as_str());
        let key = match Key::find(known, place, signature.a)? {
            Ok(key) => key,
            Err(NoKey::Forbids(why)) => return end(finding, DkimResult::Fail, &why),
            Err(NoKey::Permanent(why)) => return end(finding, DkimResult::PermError, &why),
            Err(NoKey::Temporary(why)) => return end(finding, DkimResult::TempError, &why),
        };
        (finding.rsa_bits, finding.is_testing) = (key.rsa_bits, key.is_testing);
        let fail = if key.is_testing { DkimResult::Neutral } else { DkimResult::Fail };
        if key.is_strict && !self.is_of_domain_itself() {
            return end(finding, fail, "the key is not for identities of subdomains");
        }
        let signed = fields.signed(&signature.h, self.field, ours(signature.ch));
        if !key.verifies(&signed, &signature.b, signature.a) {
            return end(finding, fail, "the signature does not fit the header");
        }
        if parsed.limit.is_some_and(|limit| limit < body.octets) {
            let why = "octets were added to the body behind those that were signed";
            return end(finding, DkimResult::Policy, why);
        }
        finding.result = DkimResult::Pass;
        Ok(finding)
    }

    /// Whether `i=` names the domain of `d=` and no subdomain.
    fn is_of_domain_itself(&self) -> bool {
        let identity = self.finding.identity.as_deref();
        let domain = identity.and_then(|identity| identity.rsplit_once('@')).map(|(_, it)| it);
        domain.is_none_or(|domain| ascii(domain) == self.finding.domain)
    }
}

impl Message<'_> {
    /// What became of each signature, from the top.
    pub fn check_dkim(
        &self,
        known: &Known,
        hashes: &BodyHashes,
        now: u64,
    ) -> Result<Vec<DkimFinding>, Missing> {
        let checked = self.signatures.iter().map(|it| it.check(known, &self.fields, hashes, now));
        let (mut findings, mut missing) = (Vec::new(), Vec::new());
        for one in checked {
            match one {
                Ok(finding) => findings.push(finding),
                Err(needed) => missing.push(needed),
            }
        }
        Missing::join(missing).map_or(Ok(findings), Err)
    }
}

/// Reads a signature field and fills in what is known of it.
fn parse(value: &[u8], finding: &mut DkimFinding) -> Result<Parsed, (DkimResult, &'static str)> {
    let permanent = |why| (DkimResult::PermError, why);
    let tags = Tags::parse(value).ok_or(permanent("the signature cannot be read"))?;
    finding.domain = ascii(tags.get("d").unwrap_or_default());
    tags.get("s").unwrap_or_default().clone_into(&mut finding.selector);
    finding.identity = tags.get("i").map(str::to_owned);
    let b: String = tags.get("b").unwrap_or_default().split_ascii_whitespace().collect();
    finding.start = b.chars().take(START_CHARS).collect();
    if tags.get("v") != Some("1") {
        return Err(permanent("the signature is of another version"));
    }
    for tag in ["a", "b", "bh", "d", "h", "s"] {
        if tags.get(tag).is_none_or(str::is_empty) {
            return Err(permanent("the signature lacks a tag"));
        }
    }
    finding.algorithm = match tags.get("a") {
        Some("rsa-sha256") => "rsa-sha256",
        Some("ed25519-sha256") => "ed25519-sha256",
        // RFC 8301 §3.1
        Some("rsa-sha1") => return Err((DkimResult::Fail, "SHA-1 proves nothing any more")),
        _ => return Err(permanent("the algorithm of the signature is not known")),
    };
    if tags.octets("b").is_none() || tags.octets("bh").is_none() {
        return Err(permanent("the signature is no base64"));
    }
    if tags.words("h").is_some_and(|names| names.count() > NAMES_MAX) {
        return Err(permanent("the signature covers too many fields"));
    }
    let signs_from = tags
        .words("h")
        .is_some_and(|mut names| names.any(|name| name.eq_ignore_ascii_case("From")));
    if !signs_from {
        return Err(permanent("the signature does not cover From"));
    }
    if tags.words("q").is_some_and(|mut ways| ways.all(|way| way != "dns/txt")) {
        return Err(permanent("the key is nowhere where we could ask for it"));
    }
    if let Some(identity) = tags.get("i") {
        let domain = identity.rsplit_once('@').map(|(_, domain)| ascii(domain));
        if !domain.is_some_and(|domain| is_at_or_below(&domain, &finding.domain)) {
            return Err(permanent("the identity is not of the domain that signed"));
        }
    }
    let number =
        |tag| tags.number(tag).map_err(|()| permanent("a tag of the signature is no number"));
    let (limit, signed_at, expires) = (number("l")?, number("t")?, number("x")?);
    if matches!((signed_at, expires), (Some(at), Some(expires)) if expires < at) {
        return Err(permanent("the signature expires before it was made"));
    }
    let signature =
        Signature::parse(value).map_err(|_| permanent("the signature cannot be read"))?;
    Ok(Parsed { signature, limit, expires })
}

/// Names of fields that one signature may cover (`h=`).
pub(crate) const NAMES_MAX: usize = 256;
/// Characters of [`DkimFinding::start`].
const START_CHARS: usize = 8;
