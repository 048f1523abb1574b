//! The domains that we sign for: whether their records are there.

use std::sync::Arc;

use futures_util::future::join_all;
use merpati_console::health::{Finding, Grade};
use tokio::task::spawn_blocking;

use super::{Bench, within};
use crate::domains::{
    self, SendingDomain, Stage,
    judge::{Judgement, Standing},
    look::{Resolvers, Seen},
    records::{self, Choices, Host, Purpose, Record},
};

pub(super) async fn check(bench: Bench<'_>) -> Vec<Finding> {
    let config = Arc::new(bench.config.clone());
    let read = {
        let config = Arc::clone(&config);
        spawn_blocking(move || domains::store(&config).and_then(|store| store.all())).await
    };
    let all = match read {
        Ok(Ok(all)) => all,
        Ok(Err(why)) => {
            let words = format!("the keys cannot be read: {why:#}");
            let fix = "see the file, who may read it, and signing.key_file";
            return vec![Finding::new("domain", "", Grade::Bad, words).fix(fix)];
        }
        Err(why) => return vec![Finding::new("domain", "", Grade::Unknown, why.to_string())],
    };
    if all.is_empty() && bench.sends_by_mx() {
        let words = "nothing is signed: large receivers put what nobody signs into spam";
        let fix = "`merpati domain add NAME` for each domain that you send as";
        return vec![Finding::new("domain", "", Grade::Warning, words).fix(fix)];
    }
    let resolvers = match Resolvers::of(&config, &[]) {
        Ok(resolvers) => resolvers,
        Err(why) => return vec![Finding::new("domain", "", Grade::Unknown, format!("{why:#}"))],
    };
    let (config, resolvers) = (&config, &resolvers);
    join_all(all.iter().map(|domain| {
        within(bench, "domain", domain.name.to_string(), async move {
            let host = {
                let (config, name) = (Arc::clone(config), domain.name.clone());
                spawn_blocking(move || Host::of(&config, &name)).await
            };
            match host {
                Ok(host) => judge(domain, &look(resolvers, domain, &host).await),
                Err(why) => {
                    let name = domain.name.to_string();
                    Finding::new("domain", name, Grade::Unknown, why.to_string())
                }
            }
        })
    }))
    .await
}

async fn look(resolvers: &Resolvers, domain: &SendingDomain, host: &Host) -> Seen {
    let mut wanted = records::wanted(domain, host, Choices::default());
    wanted.extend(records::watched(domain, host));
    let by_resolver = resolvers.look(&wanted, host).await;
    // The addresses have a check of their own.
    let is_own = |(record, _): &(Record, Judgement)| !matches!(record.purpose, Purpose::Ptr(_));
    by_resolver.into_iter().flat_map(|(_, seen)| seen).filter(is_own).collect()
}

fn judge(domain: &SendingDomain, seen: &[(Record, Judgement)]) -> Finding {
    let is_off =
        |judgement: &Judgement| matches!(judgement.standing, Standing::Differs | Standing::Missing);
    let off: Vec<_> = seen.iter().filter(|(_, judgement)| is_off(judgement)).collect();
    let breaks = |record: &Record| matches!(&record.purpose, Purpose::Key(_, Stage::Signing, _));
    let unknown = seen.iter().find(|(_, judgement)| judgement.standing == Standing::Unknown);
    let signs = domain.keys.iter().any(|key| key.stage == Stage::Signing);
    let grade = match (off.is_empty(), unknown) {
        (true, Some(_)) => Grade::Unknown,
        (true, None) if signs => Grade::Good,
        (false, _) if off.iter().any(|(record, _)| breaks(record)) => Grade::Bad,
        (_, _) => Grade::Warning,
    };
    let words = match (off.first(), unknown) {
        (Some((record, judgement)), _) | (None, Some((record, judgement))) => {
            format!("{} at {}: {}", record.purpose.as_str(), record.name, judgement.words)
        }
        (None, None) if signs => "its mail is signed, and all its records are there".to_owned(),
        (None, None) => "no key of it signs yet".to_owned(),
    };
    let finding = Finding::new("domain", domain.name.to_string(), grade, words);
    if grade == Grade::Good {
        return finding;
    }
    finding.fix(format!("`merpati domain check {}` says all of it", domain.name))
}

#[cfg(test)]
mod tests {
    use merpati_mail::{Domain, Time};

    use super::*;

    #[test]
    fn a_key_that_signs_without_its_record_is_bad() {
        let name = Domain::parse("ours.example").unwrap();
        let mut domain = SendingDomain::new(name, Time::from_secs(1_790_000_000)).unwrap();
        domain.keys.truncate(1);
        let seen = |domain: &SendingDomain, standing| {
            let key = &domain.keys[0];
            let purpose = Purpose::Key(key.selector.clone(), key.stage, key.kind());
            let record = Record { purpose, name: "x".to_owned(), value: String::new() };
            vec![(record, Judgement { standing, words: "words".to_owned() })]
        };
        for (stage, standing, want) in [
            (Stage::Signing, Standing::Good, Grade::Good),
            (Stage::Signing, Standing::Missing, Grade::Bad),
            (Stage::Signing, Standing::Unknown, Grade::Unknown),
            (Stage::New, Standing::Missing, Grade::Warning),
            (Stage::New, Standing::Good, Grade::Warning),
        ] {
            domain.keys[0].stage = stage;
            let finding = judge(&domain, &seen(&domain, standing));
            assert_eq!(finding.grade, want, "{finding:?}");
            assert_eq!(finding.fix.is_none(), want == Grade::Good, "{finding:?}");
        }
    }
}
