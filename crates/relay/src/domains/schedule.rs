//! What the relay does by itself about the keys of its domains, once in a while.
//!
//! Invariant: as with the commands, nothing signs that was not seen, and what signs goes on until
//! something else does. A domain that cannot be kept is none of the others' business. Not pure:
//! files, DNS.

use std::time::Duration;

use anyhow::Context as _;
use merpati_mail::{Domain, Time};
use tokio::task::spawn_blocking;

use super::{
    SendingDomain, Stage, Store,
    look::Resolvers,
    records::{self, Purpose, Record},
    rotation,
};
use crate::config::Config;

/// What became of the keys of a domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The domain.
    pub domain: Domain,
    /// What was done, and what the operator is to do, in lines.
    pub said: Vec<String>,
}

/// Looks after the keys of all domains: those that are seen sign, those before them retire and are
/// forgotten, and where it is time, new ones are made. Who calls has the signers read again where
/// something changed. Errs where no domain can be looked after.
pub async fn tick(config: &Config, now: Time) -> anyhow::Result<Vec<Change>> {
    let store = super::store(config)?;
    let all = store.all()?;
    if all.is_empty() {
        return Ok(Vec::new());
    }
    let resolvers = Resolvers::of(config, &[])?;
    let mut looked = Vec::new();
    for domain in &all {
        // Only a key that does not sign yet depends on what is seen.
        let waits = domain.keys.iter().any(|key| key.stage == Stage::New);
        let seen = if waits { resolvers.see(domain).await } else { Vec::new() };
        looked.push((domain.name.clone(), seen));
    }
    let every = config.signing.rotate_every;
    let kept = spawn_blocking(move || keep(&store, &looked, (every, now)));
    kept.await.context("looking after the keys panicked")?
}

fn keep(
    store: &Store,
    looked: &[(Domain, Vec<String>)],
    (every, now): (Option<Duration>, Time),
) -> anyhow::Result<Vec<Change>> {
    let _lock = store.lock()?;
    let mut changes = Vec::new();
    for (name, seen) in looked {
        match keep_one(store, (name, seen), (every, now)) {
            Ok(said) if said.is_empty() => {}
            Ok(said) => changes.push(Change { domain: name.clone(), said }),
            Err(why) => tracing::error!(domain = %name, "its keys stay as they are: {why:#}"),
        }
    }
    Ok(changes)
}

fn keep_one(
    store: &Store,
    (name, seen): (&Domain, &[String]),
    (every, now): (Option<Duration>, Time),
) -> anyhow::Result<Vec<String>> {
    // Somebody may have changed it meanwhile.
    let Some(mut domain) = store.one(name)? else { return Ok(Vec::new()) };
    let mut said = rotation::advance(&mut domain, seen, now);
    if every.is_some_and(|every| rotation::is_due(&domain, every, now)) {
        domain.add_keys(now)?;
        said.push(format!(
            "new keys were made: publish these records beside the others, and they sign when DNS \
             has them (`merpati domain check {name}`)"
        ));
        said.extend(records::zone(&waiting(&domain)).lines().map(str::to_owned));
    }
    if !said.is_empty() {
        store.keep(&domain)?;
    }
    Ok(said)
}

/// The records of keys that are still to be published.
pub fn waiting(domain: &SendingDomain) -> Vec<Record> {
    let is_new = |record: &Record| matches!(record.purpose, Purpose::Key(_, Stage::New, _));
    records::keys(domain).filter(is_new).collect()
}
