//! What becomes of the keys of a domain by what was seen of their records.
//!
//! Pure; [`super::stages`] decides about each key.

use std::{collections::BTreeMap, time::Duration};

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

/// Whether it is time for new keys: the youngest that signs has done so for so long, and no others
/// wait to be seen.
pub fn is_due(domain: &SendingDomain, every: Duration, now: Time) -> bool {
    let waits = domain.keys.iter().any(|key| key.stage == Stage::New);
    let signing = domain.keys.iter().filter(|key| key.stage == Stage::Signing);
    let youngest = signing.map(|key| key.since).max();
    !waits && youngest.is_some_and(|since| now.since(since) >= every)
}

#[cfg(test)]
mod tests {
    use merpati_mail::Domain;

    use super::*;

    #[test]
    fn keys_change_in_time_and_never_without_one_that_is_seen() {
        let day = |days: u64| Time::from_secs(1_790_000_000 + days * 86_400);
        let every = Duration::from_hours(24 * 90);
        let name = Domain::parse("ours.example").unwrap();
        let mut domain = SendingDomain::new(name, day(0)).unwrap();
        let selectors = |domain: &SendingDomain, stage| -> Vec<String> {
            let of_stage = domain.keys.iter().filter(|key| key.stage == stage);
            of_stage.map(|key| key.selector.clone()).collect()
        };
        let first = selectors(&domain, Stage::New);
        // What nobody has seen does not sign, and is not made again.
        assert!(advance(&mut domain, &[], day(1)).is_empty());
        assert!(!is_due(&domain, every, day(900)));
        // One of two that is seen signs.
        assert_eq!(advance(&mut domain, &first[..1], day(2)).len(), 1);
        assert_eq!(selectors(&domain, Stage::Signing), first[..1]);
        assert!(!is_due(&domain, every, day(900)), "the other one waits");
        assert_eq!(advance(&mut domain, &first, day(3)).len(), 1);
        assert_eq!(selectors(&domain, Stage::Signing), first);
        // The youngest counts.
        assert!(!is_due(&domain, every, day(92)));
        assert!(is_due(&domain, every, day(93)));
        domain.add_keys(day(93)).unwrap();
        assert!(!is_due(&domain, every, day(200)), "the new ones wait");
        let second = selectors(&domain, Stage::New);
        assert!(advance(&mut domain, &first, day(94)).is_empty());
        assert_eq!(selectors(&domain, Stage::Signing), first);
        let all = [first.clone(), second.clone()].concat();
        assert_eq!(advance(&mut domain, &all, day(95)).len(), 4);
        assert_eq!(selectors(&domain, Stage::Signing), second);
        assert_eq!(selectors(&domain, Stage::Retired), first);
        // Nobody need be asked for what is forgotten.
        assert!(advance(&mut domain, &[], day(108)).is_empty());
        let said = advance(&mut domain, &[], day(109));
        assert!(said.len() == 2 && said[0].contains("withdraw its record"), "{said:?}");
        assert_eq!(domain.keys.len(), 2);
    }
}
