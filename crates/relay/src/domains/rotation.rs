//! What becomes of the keys of a domain by what was seen of their records.
//!
//! Pure; [`super::stages`] decides about each key.

use std::collections::BTreeMap;

use merpati_mail::Time;

use super::{
    SendingDomain, Stage,
    stages::{self, Look, Step},
};

/// Moves keys to their next stage; a line for each that moved. `seen` are the selectors of those
/// that every resolver shows.
pub fn advance(domain: &mut SendingDomain, seen: &[String], at: Time) -> Vec<String> {
    // The newest key of each kind that is seen and not retired.
    let mut newest: BTreeMap<&'static str, String> = BTreeMap::new();
    for key in domain.keys.iter().filter(|key| key.stage != Stage::Retired) {
        if seen.contains(&key.selector) {
            newest.insert(key.kind().as_str(), key.selector.clone());
        }
    }
    let mut lines = Vec::new();
    domain.keys.retain_mut(|key| {
        let look = Look {
            stage: key.stage,
            since: key.since,
            is_seen: seen.contains(&key.selector),
            has_successor: newest.get(key.kind().as_str()).is_some_and(|it| *it != key.selector),
        };
        let name = format!("{}._domainkey.{}", key.selector, domain.name);
        match stages::step(&look, at) {
            Step::Forget => {
                lines.push(format!("{name} is done with: withdraw its record"));
                false
            }
            Step::Move(stage) => {
                (key.stage, key.since) = (stage, at);
                lines.push(match stage {
                    Stage::Retired => {
                        let days = stages::RETIRED_FOR.as_secs() / 86_400;
                        format!("{name} signs no more; leave its record for {days} days")
                    }
                    Stage::New | Stage::Signing => format!("{name} signs from now on"),
                });
                true
            }
            Step::Stay => true,
        }
    });
    lines
}
