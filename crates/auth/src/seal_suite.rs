//! The test suite of ARC: sets that sealers add to messages.

#[allow(
    dead_code,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "it serves `tests/vectors` as well"
)]
#[path = "../tests/vectors/zones.rs"]
mod zones;

use mail_auth::common::crypto::Algorithm;

use self::zones::{Zones, documents, shared, text};
use super::*;
use crate::{BodyHasher, key::Key};

/// The key of the suite is shorter than any that may sign here, and a signature with RSA is always
/// the same: who signs gives the one of the suite, if it is one over these octets.
#[test]
fn sets_are_those_of_the_suite() {
    let Some(path) = shared("vectors/arc/arc-draft-sign-tests.yml") else { return };
    let (mut ran, mut failed) = (0, Vec::new());
    for scenario in documents(&path) {
        let zones = Zones::of_texts(&scenario["txt-records"]);
        let (domain, selector) = (text(&scenario["domain"]), text(&scenario["sel"]));
        let sealer = Sealer { domain: &domain, selector: &selector, algorithm: "rsa-sha256" };
        let key = zones
            .answer(|known| Key::find(known, (&selector, &domain), Algorithm::RsaSha256))
            .unwrap();
        for (name, test) in scenario["tests"].as_hash().unwrap() {
            let name = text(name);
            ran += 1;
            let message = text(&test["message"]).replace('\n', "\r\n");
            let read = Message::read(message.as_bytes());
            let (found, body) = checked(&zones, &read, message.as_bytes());
            let results = consolidated(&message, &text(&test["srv-id"]));
            let now = text(&test["t"]).parse().unwrap();
            let sealing = Sealing { chain: found, results: &results, now };
            let names = text(&test["sig-headers"]);
            let names: Vec<_> = names.split(':').map(str::to_owned).collect();
            let mut signatures = ["AMS", "AS"].into_iter().map(|field| {
                let tags = tags(&text(&test[field]));
                let signature = tags.iter().find_map(|tag| tag.strip_prefix("b="));
                STANDARD.decode(signature.unwrap()).unwrap()
            });
            let set = sealer.set(&read, (body, &names), &sealing, |octets| {
                let theirs = signatures.next().unwrap();
                let fits = key.verifies(octets, &theirs, Algorithm::RsaSha256);
                if !fits {
                    let octets = String::from_utf8_lossy(octets);
                    failed.push(format!("{name}: this was not signed: {octets}"));
                }
                Some(theirs)
            });
            let set = set.unwrap_or_default();
            for (field, tag) in [(SEAL, "AS"), (SIGNATURE, "AMS"), (RESULTS, "AAR")] {
                let (ours, theirs) = (value(&set, field), tags(&text(&test[tag])));
                if ours != theirs {
                    failed.push(format!("{name} {tag}: {ours:#?}, and not {theirs:#?}"));
                }
            }
        }
    }
    assert_eq!(failed, [""; 0], "{} of {ran}", failed.len());
    assert_eq!(ran, 17);
}

/// What became of the chain of a message, and the hash of its body that a set of ours holds.
fn checked(zones: &Zones, read: &Message<'_>, message: &[u8]) -> (ArcResult, BodyHash) {
    let hash = |mut hasher: BodyHasher| {
        hasher.push(&message[read.body_start()..]);
        hasher.finish()
    };
    let hashes = hash(read.body_hasher());
    let found = zones.answer(|known| read.check_arc(known, &hashes, 0));
    (found.result, hash(Message::signing_hasher()).signing().unwrap())
}

/// The results of all fields of this server in one, as the suite wants it.
fn consolidated(message: &str, server: &str) -> String {
    let header = message.split("\r\n\r\n").next().unwrap().replace("\r\n ", " ");
    let of_server = header.lines().filter_map(|line| {
        let value = line.strip_prefix("Authentication-Results: ")?;
        value.strip_prefix(server)?.strip_prefix(';').map(str::trim)
    });
    let results: Vec<_> = std::iter::once(server).chain(of_server).collect();
    results.join(";\r\n\t")
}

/// What a field says, without blanks.
fn value(set: &str, name: &str) -> Vec<String> {
    let unfolded = set.replace("\r\n\t", " ");
    let mut values = unfolded.lines().filter_map(|line| line.split_once(": "));
    values.find(|(it, _)| *it == name).map_or_else(Vec::new, |(_, value)| tags(value))
}

fn tags(value: &str) -> Vec<String> {
    let value: String = value.split_whitespace().collect();
    value.split(';').filter(|tag| !tag.is_empty()).map(str::to_owned).collect()
}
