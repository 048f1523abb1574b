//! How mail to a domain would be protected: asks DNS and the host of its policy, and connects to
//! no host that takes mail.
//!
//! Invariant: what it says is decided by the code that delivers. Not pure: asks.

use merpati_auth::sts::Mode;
use merpati_console::{
    AdminError,
    explain_tls::{DnssecFacts, StsFacts, StsPolicy, TlsAnswer, TlsHost},
};
use merpati_flow::{
    ByMx,
    route::{self, Facts},
};
use merpati_mail::{
    Domain, Draw, NextHop, ReversePath, Route,
    question::{MxAnswer, MxHost},
    route::{Endpoint, HostPort},
};

use super::{Control, Setup};
use crate::sts::{Explanation, RecordSeen};

impl Control {
    /// How mail to this domain would be protected.
    pub(super) async fn explain_protection(
        &self,
        domain: &Domain,
    ) -> Result<TlsAnswer, AdminError> {
        let router = self.look(|core| core.queue().router().clone()).await?;
        let setup = self.setup.get();
        let nobody = ReversePath(None);
        let facts = Facts { recipient: domain, reverse_path: &nobody, credential: None };
        let Some(route) = router.route(&facts) else {
            return Ok(answer(domain, None, format!("No rule covers mail for {domain}.")));
        };
        let seed = self.clock.now().as_micros();
        let (hosts, by_mx, trouble) = setup.hosts_of(domain, &route, seed).await;
        let mut found = answer(domain, Some(&route), String::new());
        found.tls = setup.routes.iter().find(|it| *it.rule == *route.rule).map(|it| it.tls.clone());
        found.dnssec = match (&by_mx, setup.resolver.proves() && setup.config.delivery.dane) {
            (Some(by_mx), true) if by_mx.is_proven => DnssecFacts::Proven,
            (_, true) => DnssecFacts::Unproven,
            (_, false) => DnssecFacts::Off,
        };
        if let (Some(policies), Some(_)) = (setup.deliverer.policies(), &by_mx) {
            found.sts = Some(sts_facts(&policies.explain(domain).await));
        }
        for host in hosts {
            let protected = setup.deliverer.protection(&route.rule, by_mx.as_ref(), &host).await;
            let Some(protected) = protected else { continue };
            found.hosts.push(TlsHost {
                name: host.to_string(),
                records: protected
                    .records
                    .iter()
                    .flat_map(|it| &it.records)
                    .map(ToString::to_string)
                    .collect(),
                records_at: protected.records.as_ref().map(|records| records.at.clone()),
                policy: protected.policy,
            });
        }
        found.sentence = sentence(&found, trouble);
        Ok(found)
    }
}

impl Setup {
    /// The hosts of a route in the order in which they would be tried, how they were found, and why
    /// there are none.
    async fn hosts_of(
        &self,
        domain: &Domain,
        route: &Route,
        seed: u64,
    ) -> (Vec<HostPort>, Option<ByMx>, Option<String>) {
        let none = |why: &str| (Vec::new(), None, Some(why.to_owned()));
        match &route.next_hop {
            NextHop::Hosts(hosts) => (hosts.clone(), None, None),
            NextHop::Lmtp(Endpoint::Tcp(host)) => (vec![host.clone()], None, None),
            NextHop::Lmtp(Endpoint::Unix(_)) => none("it goes to a socket of this machine"),
            NextHop::Refuse(_) => none("the rule refuses it"),
            NextHop::Mx => match self.resolver.mx(domain).await {
                MxAnswer::Hosts { hosts, is_proven, .. } => {
                    let by_mx = ByMx { domain: domain.clone(), is_proven };
                    (self.in_order(&hosts, seed), Some(by_mx), None)
                }
                MxAnswer::NoHost => none("it has no MX and no address record"),
                MxAnswer::NoSuchDomain => none("DNS does not know the domain"),
                MxAnswer::NullMx => none("its MX record is the null MX"),
                MxAnswer::Unknown { why } => none(&why),
            },
        }
    }

    fn in_order(&self, hosts: &[MxHost], seed: u64) -> Vec<HostPort> {
        let mut draw = Draw::new(seed);
        let targets = route::order(hosts, &self.hostname, self.mx_port, &mut draw);
        let mut ordered: Vec<HostPort> = Vec::new();
        for target in targets.unwrap_or_default() {
            if let Endpoint::Tcp(host) = target.endpoint
                && !ordered.contains(&host)
            {
                ordered.push(host);
            }
        }
        ordered
    }
}

fn answer(domain: &Domain, route: Option<&Route>, sentence: String) -> TlsAnswer {
    TlsAnswer {
        domain: domain.clone(),
        rule: route.map(|route| route.rule.to_string()),
        tls: None,
        dnssec: DnssecFacts::Off,
        sts: None,
        hosts: Vec::new(),
        sentence,
    }
}

fn sts_facts(explanation: &Explanation) -> StsFacts {
    let Explanation { record, kept, standing } = explanation;
    let policy = kept.as_ref().map(|kept| StsPolicy {
        mode: match kept.policy.mode {
            Mode::Enforce => "enforce",
            Mode::None => "none",
            Mode::Testing => "testing",
        }
        .to_owned(),
        mx: kept.policy.hosts(),
        id: kept.id.clone(),
        fetched_at: kept.fetched_at,
        expires_at: kept.expires_at,
    });
    let kept_trouble = kept.as_ref().and_then(|kept| kept.trouble.clone());
    StsFacts {
        record: match record {
            RecordSeen::Id(id) => format!("id={id}"),
            RecordSeen::None => "none".to_owned(),
            RecordSeen::Unknown => "DNS does not answer".to_owned(),
        },
        policy,
        trouble: kept_trouble.or_else(|| standing.trouble().map(ToString::to_string)),
    }
}

fn sentence(found: &TlsAnswer, trouble: Option<String>) -> String {
    let domain = &found.domain;
    if let Some(why) = trouble {
        return format!("Nothing can be said of mail for {domain}: {why}.");
    }
    match found.hosts.first() {
        Some(host) => {
            format!("Mail for {domain} goes to {} first, {}.", host.name, host.words())
        }
        None => format!("There is no host for mail to {domain} that could be tried now."),
    }
}
