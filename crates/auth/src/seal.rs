//! Seals of ours on the chain of forwarders (ARC, RFC 8617 §5.1).
//!
//! Invariant: nothing is sealed behind a chain of which a forwarder said that it is broken, and no
//! set of ours says more of the chain before it than was found. Not pure: the library takes random
//! octets to sign.

use base64::{Engine as _, engine::general_purpose::STANDARD};

use crate::{
    ArcResult, KeyKind, Message, SETS_MAX, SIGNATURES_MAX, Signer,
    arc::{Chain, raw_sets, results_instance, tags_instance},
    body::{BodyHash, Canonical},
    message::{Fields, library},
    sign,
    tags::Tags,
};

/// What a set of ours says.
#[derive(Clone, Copy, Debug)]
pub struct Sealing<'a> {
    /// What was found of the chain before us.
    pub chain: ArcResult,
    /// The checks and their results, as in Authentication-Results behind the name of the field,
    /// without its line end (RFC 8601 §2.2).
    pub results: &'a str,
    /// Seconds since 1970.
    pub now: u64,
}

impl Signer {
    /// The three fields of a set over these fields of a message, each with its line end. `None`
    /// where none is to be made: the chain is broken already, or as long as one may be, or the DNS
    /// does not say whether it holds; or the key fails.
    pub fn seal(
        &self,
        message: &Message<'_>,
        body: BodyHash,
        names: &[String],
        sealing: &Sealing<'_>,
    ) -> Option<String> {
        let algorithm = match self.key.kind() {
            KeyKind::Ed25519 => "ed25519-sha256",
            KeyKind::Rsa => "rsa-sha256",
        };
        let sealer = Sealer { domain: &self.domain, selector: &self.selector, algorithm };
        sealer.set(message, (body, names), sealing, |octets| self.key.signature(octets))
    }
}

/// Who seals, without the key.
struct Sealer<'a> {
    domain: &'a str,
    selector: &'a str,
    algorithm: &'a str,
}

impl Sealer<'_> {
    fn set(
        &self,
        message: &Message<'_>,
        (body, names): (BodyHash, &[String]),
        sealing: &Sealing<'_>,
        mut sign: impl FnMut(&[u8]) -> Option<Vec<u8>>,
    ) -> Option<String> {
        let cv = match sealing.chain {
            ArcResult::Fail => "fail",
            ArcResult::None => "none",
            ArcResult::Pass => "pass",
            ArcResult::TempError => return None,
        };
        let instance = next_instance(&message.fields)?.to_string();
        let with_own = |more: &[(&'static str, String)]| {
            let own = [
                ("a", self.algorithm.to_owned()),
                ("d", self.domain.to_owned()),
                ("i", instance.clone()),
                ("s", self.selector.to_owned()),
                ("t", sealing.now.to_string()),
            ];
            [own.as_slice(), more].concat()
        };

        let results = format!("i={instance}; {}", sealing.results);
        let tags = with_own(&[
            ("bh", STANDARD.encode(body.hash)),
            ("c", "relaxed/relaxed".to_owned()),
            ("h", names.join(":")),
        ]);
        let covered = message.fields.canonical(names);
        let signature = signed(SIGNATURE, tags, covered, &mut sign)?;

        // A broken chain is sealed as if nothing were before us (§5.1.2).
        let before = match (&message.chain, sealing.chain) {
            (Chain::Sets(sets), ArcResult::Pass) => raw_sets(sets),
            (Chain::Broken(_) | Chain::Sets(_), _) => Vec::new(),
        };
        let own = [(RESULTS, &results), (SIGNATURE, &signature)]
            .map(|(name, value)| (name.as_bytes(), format!(" {value}\r\n")));
        let own = own.iter().map(|(name, value)| (*name, value.as_bytes()));
        let mut covered = Vec::with_capacity(1 << 10);
        library(Canonical::Relaxed)
            .canonicalize_headers(before.into_iter().chain(own), &mut covered);
        let tags = with_own(&[("cv", cv.to_owned())]);
        let seal = signed(SEAL, tags, covered, &mut sign)?;
        Some(format!("{SEAL}: {seal}\r\n{SIGNATURE}: {signature}\r\n{RESULTS}: {results}\r\n"))
    }
}

/// The value of a field that signs what it covers, and itself.
fn signed(
    name: &str,
    mut tags: Vec<(&'static str, String)>,
    mut covered: Vec<u8>,
    sign: &mut impl FnMut(&[u8]) -> Option<Vec<u8>>,
) -> Option<String> {
    tags.push(("b", String::new()));
    // In the order of their names, as the test suite of ARC has them.
    tags.sort_unstable_by_key(|(name, _)| *name);
    let value = folded(&tags);
    library(Canonical::Relaxed)
        .canonicalize_headers([(name.as_bytes(), value.as_bytes())].into_iter(), &mut covered);
    let (_, signature) = tags.iter_mut().find(|(name, _)| *name == "b")?;
    *signature = STANDARD.encode(sign(&covered)?);
    Some(folded(&tags))
}

/// The names of the fields of a message that a set of ours covers: what a signature of ours would,
/// and the signatures that are there (RFC 8617 §4.1.2). `None` where there is no From.
pub fn sealed_names(message: &Message<'_>) -> Option<Vec<String>> {
    let mut names = sign::signed_names(message)?;
    // No more than anybody looks at: a stranger may write any number of them.
    let signatures = message.fields.named("DKIM-Signature").count().min(SIGNATURES_MAX);
    names.extend(std::iter::repeat_n("DKIM-Signature".to_owned(), signatures));
    Some(names)
}

/// The number of the next set; `None` where there must be none (RFC 8617 §5.1).
fn next_instance(fields: &Fields<'_>) -> Option<usize> {
    let seals = || fields.named(SEAL).map(|(_, value)| value);
    let says_fail = |value| Tags::parse(value).is_some_and(|tags| tags.get("cv") == Some("fail"));
    if seals().any(says_fail) {
        return None;
    }
    let signatures = fields.named(SIGNATURE).map(|(_, value)| value);
    let of_tags = seals().chain(signatures).filter_map(tags_instance);
    let results = fields.named(RESULTS).filter_map(|(_, value)| results_instance(value));
    let highest = of_tags.chain(results).max().unwrap_or_default();
    (highest < SETS_MAX).then_some(highest + 1)
}

/// Tags in lines of their own where a line would be too long, and names in lists of them. No blanks
/// stand elsewhere.
fn folded(tags: &[(&'static str, String)]) -> String {
    let mut text = String::new();
    let mut column = SIGNATURE.len() + 2;
    for (at, (name, value)) in tags.iter().enumerate() {
        let octets = name.len() + 1 + value.len();
        if at > 0 {
            let is_long = column + octets + 2 > LINE_OCTETS;
            text.push_str(if is_long { ";\r\n\t" } else { "; " });
            column = if is_long { 1 } else { column + 2 };
        }
        text.push_str(name);
        text.push('=');
        column += name.len() + 1;
        for (at, word) in value.split(':').enumerate() {
            if at > 0 {
                text.push(':');
                column += 1;
                if column + word.len() > LINE_OCTETS {
                    text.push_str("\r\n\t");
                    column = 1;
                }
            }
            text.push_str(word);
            column += word.len();
        }
    }
    text
}

const RESULTS: &str = "ARC-Authentication-Results";
const SEAL: &str = "ARC-Seal";
const SIGNATURE: &str = "ARC-Message-Signature";
/// As long as a line should be at most (RFC 5322 §2.1.1).
const LINE_OCTETS: usize = 78;

#[cfg(test)]
#[path = "seal_suite.rs"]
mod suite;

#[cfg(test)]
#[path = "seal_tests.rs"]
mod tests;
