//! Whether a chain of forwarders holds (ARC, RFC 8617).
//!
//! Invariant: a chain passes only if each seal of it fits, and the newest signature fits the
//! message. Pure.

use std::fmt;

use mail_auth::{arc, dkim::Canonicalization};

use crate::{
    body::{BodyHashes, Canonical, Wanted},
    dkim::NAMES_MAX,
    dns::{Known, Missing},
    key::{Key, NoKey},
    message::{Fields, Message, library, ours, without_line_end},
    names::ascii,
    tags::{Tags, without_signature},
};

/// Sets of one chain at most (RFC 8617 §5.1.1.1).
pub const SETS_MAX: usize = 50;

/// What became of a chain (RFC 8617 §4.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArcResult {
    /// It does not hold.
    Fail,
    /// There is none.
    None,
    /// It holds.
    Pass,
    /// The DNS could not be asked just now.
    TempError,
}

impl ArcResult {
    /// As it stands in header fields. The field has no word for "not now": no more is known than
    /// without a chain.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fail => "fail",
            Self::None | Self::TempError => "none",
            Self::Pass => "pass",
        }
    }
}

impl fmt::Display for ArcResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What was found about the chain of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArcFinding {
    /// What became of it.
    pub result: ArcResult,
    /// Who sealed, from the first to the last, in A-labels; empty where the chain is broken.
    pub sealers: Vec<String>,
    /// Why it does not hold, in words.
    pub why: Option<String>,
}

/// The chain of a message, read once.
#[derive(Debug)]
pub(crate) enum Chain<'a> {
    /// It cannot hold, and why.
    Broken(&'static str),
    /// In the order of their instances; empty where there is none.
    Sets(Vec<Set<'a>>),
}

pub(crate) type RawField<'a> = (&'a [u8], &'a [u8]);

/// What one forwarder added.
#[derive(Debug)]
pub(crate) struct Set<'a> {
    results: RawField<'a>,
    signature_field: RawField<'a>,
    signature: arc::Signature,
    limit: Option<u64>,
    expires: Option<u64>,
    seal_field: RawField<'a>,
    seal: arc::Seal,
}

impl<'a> Chain<'a> {
    pub(crate) fn read(fields: &Fields<'a>) -> Self {
        match sets(fields) {
            Ok(sets) => Self::Sets(sets),
            Err(why) => Self::Broken(why),
        }
    }

    /// Which hash of the body the newest signature holds.
    pub(crate) fn wanted(&self) -> Option<Wanted> {
        match self {
            Self::Broken(_) => None,
            Self::Sets(sets) => {
                let newest = sets.last()?;
                Some((ours(newest.signature.cb), newest.limit))
            }
        }
    }
}

impl Message<'_> {
    /// What became of the chain.
    pub fn check_arc(
        &self,
        known: &Known,
        hashes: &BodyHashes,
        now: u64,
    ) -> Result<ArcFinding, Missing> {
        let finding = |result, sealers, why: Option<String>| ArcFinding { result, sealers, why };
        let sets = match &self.chain {
            Chain::Broken(why) => {
                let why = Some((*why).to_owned());
                return Ok(finding(ArcResult::Fail, Vec::new(), why));
            }
            Chain::Sets(sets) => sets,
        };
        let Some(newest) = sets.last() else {
            return Ok(finding(ArcResult::None, Vec::new(), None));
        };
        let sealers = || sets.iter().map(|set| ascii(&set.seal.d)).collect();
        let is_old = newest.expires.is_some_and(|expires| expires <= now);
        let body = hashes.get((ours(newest.signature.cb), newest.limit));
        let is_whole = body.is_some_and(|body| {
            let is_there = newest.limit.is_none_or(|limit| limit == body.octets);
            is_there && body.hash.as_slice() == newest.signature.bh.as_slice()
        });
        if is_old || !is_whole {
            let why = if is_old { "the newest signature has expired" } else { CHANGED };
            return Ok(finding(ArcResult::Fail, sealers(), Some(why.to_owned())));
        }
        let signature = newest.check_signature(known, &self.fields);
        let seals = sets
            .iter()
            .enumerate()
            .rev()
            .map(|(at, set)| set.check_seal(known, sets.get(..at).unwrap_or_default()));
        // All keys are asked for at once.
        let (mut missing, mut wrong) = (Vec::new(), None);
        for checked in std::iter::once(signature).chain(seals) {
            match checked {
                Ok(Ok(())) => {}
                Ok(Err(why)) => {
                    wrong.get_or_insert(why);
                }
                Err(needed) => missing.push(needed),
            }
        }
        if let Some(missing) = Missing::join(missing) {
            return Err(missing);
        }
        Ok(match wrong {
            None => finding(ArcResult::Pass, sealers(), None),
            Some(NoKey::Temporary(why)) => finding(ArcResult::TempError, sealers(), Some(why)),
            Some(NoKey::Forbids(why) | NoKey::Permanent(why)) => {
                finding(ArcResult::Fail, sealers(), Some(why))
            }
        })
    }
}

impl Set<'_> {
    fn check_signature(
        &self,
        known: &Known,
        fields: &Fields<'_>,
    ) -> Result<Result<(), NoKey>, Missing> {
        let it = &self.signature;
        let key = match Key::find(known, (&it.s, &ascii(&it.d)), it.a)? {
            Ok(key) => key,
            Err(why) => return Ok(Err(why)),
        };
        let signed = fields.signed(&it.h, self.signature_field, ours(it.ch));
        let fits = key.verifies(&signed, &it.b, it.a);
        Ok(if fits { Ok(()) } else { Err(NoKey::Forbids(CHANGED.to_owned())) })
    }

    /// Whether the seal fits the sets before it and its own (RFC 8617 §5.1.1).
    fn check_seal(&self, known: &Known, before: &[Self]) -> Result<Result<(), NoKey>, Missing> {
        let seal = &self.seal;
        let key = match Key::find(known, (&seal.s, &ascii(&seal.d)), seal.a)? {
            Ok(key) => key,
            Err(why) => return Ok(Err(why)),
        };
        let (name, value) = self.seal_field;
        let stripped = without_signature(without_line_end(value));
        let own = [self.results, self.signature_field, (name, stripped.as_slice())];
        let mut signed = Vec::with_capacity(1 << 10);
        let all = raw_sets(before).into_iter().chain(own);
        library(Canonical::Relaxed).canonicalize_headers(all, &mut signed);
        let fits = key.verifies(&signed, &seal.b, seal.a);
        let why = || NoKey::Forbids(format!("the seal {} does not fit", seal.i));
        Ok(if fits { Ok(()) } else { Err(why()) })
    }
}

/// The fields of sets in the order in which a seal covers them (RFC 8617 §5.1.1).
pub(crate) fn raw_sets<'a>(sets: &[Set<'a>]) -> Vec<RawField<'a>> {
    sets.iter().flat_map(|set| [set.results, set.signature_field, set.seal_field]).collect()
}

/// The sets of a header, in order; why they make no chain, where they do not (RFC 8617 §5.2).
fn sets<'a>(fields: &Fields<'a>) -> Result<Vec<Set<'a>>, &'static str> {
    let results: Vec<_> = fields.named("ARC-Authentication-Results").collect();
    let signatures: Vec<_> = fields.named("ARC-Message-Signature").collect();
    let seals: Vec<_> = fields.named("ARC-Seal").collect();
    let count = seals.len();
    if count != results.len() || count != signatures.len() {
        return Err("a set of the chain is not complete");
    }
    if count > SETS_MAX {
        return Err("the chain is too long");
    }
    let mut sets = Vec::with_capacity(count);
    for instance in 1..=count {
        let results = only(results.iter().copied(), results_instance, instance)?;
        let signature_field = only(signatures.iter().copied(), tags_instance, instance)?;
        let seal_field = only(seals.iter().copied(), tags_instance, instance)?;
        let (signature, limit, expires) = read_signature(signature_field.1)?;
        let seal = read_seal(seal_field.1, instance)?;
        sets.push(Set { results, signature_field, signature, limit, expires, seal_field, seal });
    }
    Ok(sets)
}

/// The one field of an instance.
fn only<'a>(
    mut fields: impl Iterator<Item = RawField<'a>>,
    instance_of: impl Fn(&[u8]) -> Option<usize>,
    instance: usize,
) -> Result<RawField<'a>, &'static str> {
    // There are as many fields as instances: if each has one, none has two.
    fields
        .find(|(_, value)| instance_of(value) == Some(instance))
        .ok_or("an instance of the chain is missing")
}

/// The instance that a signature or a seal names.
pub(crate) fn tags_instance(value: &[u8]) -> Option<usize> {
    instance(Tags::parse(value)?.get("i")?)
}

/// The instance at the start of a field of results: what follows has another grammar.
pub(crate) fn results_instance(value: &[u8]) -> Option<usize> {
    let text = String::from_utf8_lossy(value);
    let (tag, _) = text.split_once(';')?;
    let (name, number) = tag.split_once('=')?;
    (name.trim() == "i").then(|| instance(number.trim())).flatten()
}

fn instance(number: &str) -> Option<usize> {
    let is_number = !number.is_empty() && number.bytes().all(|octet| octet.is_ascii_digit());
    number.parse().ok().filter(|_| is_number)
}

type ReadSignature = (arc::Signature, Option<u64>, Option<u64>);

fn read_signature(value: &[u8]) -> Result<ReadSignature, &'static str> {
    const UNREADABLE: &str = "a signature of the chain cannot be read";
    let tags = Tags::parse(value).ok_or(UNREADABLE)?;
    let is_known = matches!(tags.get("a"), Some("rsa-sha256" | "ed25519-sha256"));
    let covers = |name: &str| {
        tags.words("h").is_some_and(|mut all| all.any(|it| it.eq_ignore_ascii_case(name)))
    };
    // RFC 8617 §4.1.2: there is no v=, and a seal is never signed by what it seals.
    let is_bounded = tags.words("h").is_none_or(|names| names.count() <= NAMES_MAX);
    if !is_known || !is_bounded || tags.get("v").is_some() || covers("ARC-Seal") {
        return Err(UNREADABLE);
    }
    let (Ok(limit), Ok(expires)) = (tags.number("l"), tags.number("x")) else {
        return Err(UNREADABLE);
    };
    let is_base64 = tags.octets("b").is_some() && tags.octets("bh").is_some();
    // A signature over no field protects nothing, whatever the suite of the draft says of it.
    let is_whole = ["d", "h", "s"].iter().all(|tag| tags.get(tag).is_some_and(|it| !it.is_empty()));
    let mut signature = arc::Signature::parse(value).map_err(|_| UNREADABLE)?;
    if tags.get("c").is_none() {
        // DKIM would say simple; who seals without c= means relaxed, as the suite does.
        (signature.ch, signature.cb) = (Canonicalization::Relaxed, Canonicalization::Relaxed);
    }
    if is_base64 && is_whole { Ok((signature, limit, expires)) } else { Err(UNREADABLE) }
}

fn read_seal(value: &[u8], instance: usize) -> Result<arc::Seal, &'static str> {
    const UNREADABLE: &str = "a seal of the chain cannot be read";
    let tags = Tags::parse(value).ok_or(UNREADABLE)?;
    let is_known = matches!(tags.get("a"), Some("rsa-sha256" | "ed25519-sha256"));
    let is_whole = ["d", "s"].iter().all(|tag| tags.get(tag).is_some_and(|it| !it.is_empty()));
    if !is_known || !is_whole || tags.octets("b").is_none() || tags.number("t").is_err() {
        return Err(UNREADABLE);
    }
    // §5.2: the first found no chain, the others found one that holds.
    let expected = if instance == 1 { "none" } else { "pass" };
    if !tags.get("cv").is_some_and(|cv| cv.eq_ignore_ascii_case(expected)) {
        return Err("a forwarder before us found the chain broken");
    }
    arc::Seal::parse(value).map_err(|_| UNREADABLE)
}

const CHANGED: &str = "the message was changed behind the newest signature";
