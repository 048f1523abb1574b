//! What a configuration says of the host that sends for a domain.
//!
//! Not pure: reads files of certificates.

use std::path::{Path, PathBuf};

use merpati_mail::Domain;

use super::{
    records::{Host, Leaving},
    tlsa::Shown,
};
use crate::{
    certificates,
    config::{
        Config, Kind, TlsUse,
        outbound::{DEFAULT_EGRESS, EgressEntry},
    },
    mta_sts::Policy,
    resolve::policy,
    self_signed, tls,
};

impl Host {
    /// The host as this configuration makes it.
    pub fn of(config: &Config, domain: &Domain) -> Self {
        let hostname = &config.server.hostname;
        let hello = |entry: &EgressEntry| entry.hello.as_ref().unwrap_or(hostname).clone();
        let mut leaves: Vec<Leaving> = Vec::new();
        let mut is_chosen = config.system_chooses();
        for entry in &config.egresses {
            is_chosen |= entry.addresses.iter().any(|address| policy::is_translated(*address));
            for address in entry.addresses.iter().filter(|it| !policy::is_translated(**it)) {
                if leaves.iter().all(|other| other.address != *address) {
                    leaves.push(Leaving { address: *address, hello: hello(entry) });
                }
            }
        }
        let default = config.egresses.iter().find(|entry| entry.name.as_str() == DEFAULT_EGRESS);
        Self {
            hostname: hostname.clone(),
            is_chosen: is_chosen || leaves.is_empty(),
            leaves,
            hello: default.map_or_else(|| hostname.clone(), hello),
            takes_mail: config.relay.local_domains.contains(domain),
            shown: shown(config),
            policy: Policy::for_domain(config, domain),
        }
    }
}

/// What is shown to who names this host in TLS.
fn shown(config: &Config) -> Shown {
    let mut takes = config
        .listeners
        .iter()
        .filter(|listener| listener.kind == Kind::Relay && listener.tls == TlsUse::StartTls);
    let on_25 = takes.clone().find(|listener| listener.listen.iter().any(|at| at.port() == SMTP));
    let Some(listener) = on_25.or_else(|| takes.next()) else { return Shown::Nothing };
    let others: Vec<PathBuf> =
        config.certificates.iter().map(|one| config.files_of(one).chain).collect();
    let ordered = config.ordered_for_host().map(|one| config.files_of(one).chain);
    let own = match (&listener.tls_certificate, ordered.filter(|chain| chain.exists())) {
        (Some(chain), _) => chain.clone(),
        (None, Some(ordered)) => ordered,
        (None, None) => self_signed::chain(&config.server.data_dir),
    };
    let is_for_us = |path: &&PathBuf| is_for(path, &config.server.hostname);
    let chosen = std::iter::once(&own).chain(&others).find(is_for_us).unwrap_or(&own);
    match tls::certificates_of(chosen) {
        Ok(chain) => Shown::Chain(chain),
        Err(why) => Shown::Unread(format!("{why:#}")),
    }
}

fn is_for(chain: &Path, hostname: &Domain) -> bool {
    let read = tls::certificates_of(chain).ok();
    read.and_then(|chain| chain.into_iter().next())
        .is_some_and(|certificate| certificates::names(&certificate, &hostname.to_string()))
}

const SMTP: u16 = 25;
