//! What resolvers say of the records of a domain.
//!
//! Invariant: each resolver is asked by itself and with an empty cache, and one that does not
//! answer in time says that nothing is known. Not pure: DNS.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use merpati_auth::dns::{Answer, Known, Missing};
use merpati_mail::Time;
use tokio::time::timeout;

use super::{
    SendingDomain,
    judge::{self, Judgement, Standing},
    records::{self, Host, Purpose, Record},
    tlsa,
};
use crate::{
    clock::Clock,
    config::Config,
    resolve::{Options, Resolver, TlsaAnswer},
};

/// What one resolver says of each record.
pub type Seen = Vec<(Record, Judgement)>;

/// The resolvers of a configuration, and what they are called.
#[derive(Debug)]
pub struct Resolvers(Vec<(String, Resolver)>);

impl Resolvers {
    /// Those of `dns.servers` together, then each of `signing.resolvers` and of `more`. Errs where
    /// those of the system cannot be read.
    pub fn of(config: &Config, more: &[SocketAddr]) -> anyhow::Result<Self> {
        let named = config.signing.resolvers.iter().chain(more);
        let groups = std::iter::once(config.dns.servers.clone()).chain(named.map(|one| vec![*one]));
        let mut all: Vec<(String, Resolver)> = Vec::new();
        for servers in groups {
            let name = match servers.as_slice() {
                [] => "the system's".to_owned(),
                servers => servers.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
            };
            if all.iter().any(|(other, _)| *other == name) {
                continue;
            }
            let options = Options {
                servers,
                query_wait: config.dns.query_wait,
                validate: config.dns.validate,
                ..Options::default()
            };
            all.push((name, Resolver::new(options, Arc::new(Clock::start(Time::EPOCH)))?));
        }
        Ok(Self(all))
    }

    /// What each of them says of these records, and of the host.
    pub async fn look(&self, wanted: &[Record], host: &Host) -> Vec<(String, Seen)> {
        let mut all = Vec::new();
        for (name, resolver) in &self.0 {
            let mut asking = Asking { resolver, known: Known::default() };
            all.push((name.clone(), asking.look(wanted, host).await));
        }
        all
    }

    /// The selectors of the keys of a domain that all of them show as they should be.
    pub async fn see(&self, domain: &SendingDomain) -> Vec<String> {
        let mut selectors: Vec<_> = domain.keys.iter().map(|key| key.selector.clone()).collect();
        for (_, resolver) in &self.0 {
            let mut asking = Asking { resolver, known: Known::default() };
            let mut seen = Vec::new();
            for (key, record) in domain.keys.iter().zip(records::keys(domain)) {
                let of = (key.stage, key.kind());
                let found = asking.until_known(|known| judge::key(known, &record, of)).await;
                if found.standing == Standing::Good {
                    seen.push(&key.selector);
                }
            }
            selectors.retain(|selector| seen.contains(&selector));
        }
        selectors
    }
}

/// The selectors of the keys that all resolvers show as they should be.
pub fn seen_by_all(by_resolver: &[(String, Seen)]) -> Vec<String> {
    let good = |(record, judgement): &(Record, Judgement)| {
        let Purpose::Key(selector, ..) = &record.purpose else { return None };
        (judgement.standing == Standing::Good).then(|| selector.clone())
    };
    let good = |seen: &Seen| seen.iter().filter_map(good).collect::<Vec<_>>();
    let mut all = by_resolver.iter().map(|(_, seen)| good(seen));
    let first = all.next().unwrap_or_default();
    all.fold(first, |so_far, other| so_far.into_iter().filter(|it| other.contains(it)).collect())
}

struct Asking<'a> {
    resolver: &'a Resolver,
    known: Known,
}

impl Asking<'_> {
    async fn look(&mut self, wanted: &[Record], host: &Host) -> Seen {
        let mut wanted = wanted.to_vec();
        let is_about_host = |record: &Record| matches!(record.purpose, Purpose::Key(..));
        let mut host = host.clone();
        // What is only about keys need not know it.
        if host.is_chosen && !wanted.iter().all(is_about_host) {
            host.leaves = self.until_known(|known| judge::leaving(known, &host)).await;
            let is_new = |name: &Record| wanted.iter().all(|other| other.name != name.name);
            let new: Vec<Record> = records::names(&host).filter(is_new).collect();
            wanted.extend(new);
        }
        let mut seen = Vec::new();
        for record in wanted {
            let judgement = if record.purpose == Purpose::Tlsa {
                let answer = timeout(ANSWER_WAIT, self.resolver.tlsa(&record.name)).await;
                tlsa::judge(&answer.unwrap_or(TlsaAnswer::Unknown), &host)
            } else {
                self.until_known(|known| judge::judge(known, &record, &host)).await
            };
            seen.extend(judgement.map(|judgement| (record, judgement)));
        }
        seen
    }

    /// Asks until nothing is missing.
    async fn until_known<T>(&mut self, find: impl Fn(&Known) -> Result<T, Missing>) -> T {
        loop {
            let missing = match find(&self.known) {
                Ok(found) => return found,
                Err(missing) => missing,
            };
            for question in missing.into_questions() {
                let answer = timeout(ANSWER_WAIT, self.resolver.look(&question)).await;
                self.known.tell(question, answer.unwrap_or(Answer::Unknown));
            }
        }
    }
}

/// How long one question may take.
const ANSWER_WAIT: Duration = Duration::from_secs(15);
