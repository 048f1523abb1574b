//! How mail to a domain would be protected, as JSON. Pure.

use serde::Serialize;

use crate::explain_tls::{StsFacts, StsPolicy, TlsAnswer, TlsHost};

/// How mail to a domain would be protected.
#[derive(Serialize)]
pub(crate) struct TlsExplained {
    domain: String,
    sentence: String,
    rule: Option<String>,
    tls: Option<String>,
    dnssec: &'static str,
    mta_sts: Option<Sts>,
    hosts: Vec<Host>,
}

#[derive(Serialize)]
struct Sts {
    record: String,
    policy: Option<Policy>,
    trouble: Option<String>,
}

#[derive(Serialize)]
struct Policy {
    mode: String,
    mx: Vec<String>,
    id: String,
    fetched_at: String,
    expires_at: String,
}

#[derive(Serialize)]
struct Host {
    name: String,
    demand: Option<&'static str>,
    source: Option<&'static str>,
    why_not: Option<String>,
    sentence: String,
    records_at: Option<String>,
    records: Vec<String>,
}

impl TlsExplained {
    pub(crate) fn of(answer: &TlsAnswer) -> Self {
        Self {
            domain: answer.domain.to_string(),
            sentence: answer.sentence.clone(),
            rule: answer.rule.clone(),
            tls: answer.tls.clone(),
            dnssec: answer.dnssec.word(),
            mta_sts: answer.sts.as_ref().map(Sts::of),
            hosts: answer.hosts.iter().map(Host::of).collect(),
        }
    }
}

impl Sts {
    fn of(facts: &StsFacts) -> Self {
        Self {
            record: facts.record.clone(),
            policy: facts.policy.as_ref().map(Policy::of),
            trouble: facts.trouble.clone(),
        }
    }
}

impl Policy {
    fn of(policy: &StsPolicy) -> Self {
        Self {
            mode: policy.mode.clone(),
            mx: policy.mx.clone(),
            id: policy.id.clone(),
            fetched_at: policy.fetched_at.to_string(),
            expires_at: policy.expires_at.to_string(),
        }
    }
}

impl Host {
    fn of(host: &TlsHost) -> Self {
        let policy = host.policy.as_ref().ok();
        Self {
            name: host.name.clone(),
            demand: policy.map(|policy| policy.demand.word()),
            source: policy.map(|policy| policy.source.word()),
            why_not: host.policy.as_ref().err().cloned(),
            sentence: host.words(),
            records_at: host.records_at.clone(),
            records: host.records.clone(),
        }
    }
}
