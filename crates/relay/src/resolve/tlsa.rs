//! What the DNS says of the certificate of a host (TLSA, RFC 6698), for who looks after it and for
//! who delivers to it (RFC 7672 §2.2).
//!
//! Invariant: trouble is never taken for a no; for who delivers, what DNSSEC does not prove is not
//! there. Not pure: asks name servers.

use std::sync::Arc;

use merpati_mail::Domain;
use tokio::time::timeout;

use super::{
    Resolver, TOO_LONG,
    lookup::{Dns, Found, Trail, Unknown},
};
use crate::dane::{HostRecords, TlsaRecord};

/// What is published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TlsaAnswer {
    /// Nothing.
    None,
    /// These; never empty.
    Records(Vec<TlsaRecord>),
    /// It could not be found out.
    Unknown,
}

/// What is published and proven.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DaneAnswer {
    /// Nothing; also where our name servers do not hand over what proves it.
    None,
    /// These.
    Records(Arc<HostRecords>),
    /// It could not be found out, for this reason: mail for the host waits.
    Unknown(String),
}

impl Resolver {
    /// The records at a name such as `_25._tcp.mx.example`, proven or not. It takes as long as the
    /// name servers may; the caller has a deadline of his own.
    pub async fn tlsa(&self, name: &str) -> TlsaAnswer {
        match self.0.checks.tlsa(name).await {
            Ok(Found::NoName | Found::Nothing) => TlsaAnswer::None,
            Ok(Found::Records { data, .. }) => TlsaAnswer::Records(data),
            Err(Unknown { .. }) => TlsaAnswer::Unknown,
        }
    }

    /// Which certificates a host that takes mail at this port may show. Nothing is asked about
    /// hosts whose addresses are not proven: many a name server cannot answer such questions (RFC
    /// 7672 §2.2.2).
    pub async fn dane(&self, host: &Domain, port: u16) -> DaneAnswer {
        let (Some(name), Some(dns)) = (host.as_name(), self.0.proving()) else {
            return DaneAnswer::None;
        };
        match timeout(self.0.patience, records(dns, (host, name), port)).await {
            Ok(Ok(Some(records))) => DaneAnswer::Records(Arc::new(records)),
            Ok(Ok(None)) => DaneAnswer::None,
            Ok(Err(unknown)) => DaneAnswer::Unknown(unknown.why),
            Err(_elapsed) => DaneAnswer::Unknown(format!("TLSA of {host}: {TOO_LONG}")),
        }
    }
}

async fn records(
    dns: &Dns,
    (host, name): (&Domain, &str),
    port: u16,
) -> Result<Option<HostRecords>, Unknown> {
    let (a, aaaa) = tokio::join!(dns.a(name), dns.aaaa(name));
    let mut trails = Vec::new();
    let mut failed = None;
    for family in [a, aaaa] {
        match family {
            Ok(Found::Records { trail, .. }) => trails.push(trail),
            Ok(Found::NoName | Found::Nothing) => {}
            Err(unknown) => failed = Some(unknown),
        }
    }
    if let (true, Some(unknown)) = (trails.is_empty(), failed) {
        return Err(unknown);
    }
    for base in bases(host, &trails) {
        let at = format!("_{port}._tcp.{base}");
        match dns.tlsa(&at).await? {
            Found::Records { data, trail, .. } if trail.is_proven => {
                return Ok(Some(HostRecords { at, base, records: data }));
            }
            Found::NoName | Found::Nothing | Found::Records { .. } => {}
        }
    }
    Ok(None)
}

/// Whose records count, the first that has any: those of the name at the end of the aliases where
/// all of them are proven, and those of the name itself (RFC 7672 §2.2.2).
fn bases(host: &Domain, trails: &[Trail]) -> Vec<Domain> {
    let Some(first) = trails.first() else { return Vec::new() };
    let end = Domain::parse(&first.end).ok();
    match (trails.iter().all(|trail| trail.is_proven), first.first_alias) {
        (true, Some(_)) => end.into_iter().chain([host.clone()]).collect(),
        (true, None) | (false, Some(true)) => vec![host.clone()],
        (false, Some(false) | None) => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whose_records_count_follows_from_what_is_proven() {
        let host = Domain::parse("mx.example").unwrap();
        let trail = |is_proven, first_alias: Option<bool>, end: &str| Trail {
            is_proven,
            first_alias,
            end: end.to_owned(),
        };
        for (trail, want) in [
            (trail(true, None, "mx.example"), vec!["mx.example"]),
            (trail(false, None, "mx.example"), vec![]),
            (trail(true, Some(true), "host.example"), vec!["host.example", "mx.example"]),
            (trail(false, Some(true), "host.example"), vec!["mx.example"]),
            (trail(false, Some(false), "host.example"), vec![]),
        ] {
            let got: Vec<String> = bases(&host, std::slice::from_ref(&trail))
                .iter()
                .map(ToString::to_string)
                .collect();
            assert_eq!(got, want, "{trail:?}");
        }
        assert!(bases(&host, &[]).is_empty());
    }
}
