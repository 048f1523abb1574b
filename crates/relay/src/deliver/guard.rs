//! How connections to a host are protected: what the route says, joined with what the domains of
//! host and recipient publish, and the TLS that comes of it.
//!
//! Invariant: what is decided is decided by `flow::protect`; here it is found out, and given the
//! means. A connection is shared only by those who are protected in the same way. Not pure: asks
//! name servers, and hosts that have policies.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use merpati_auth::sts::Mode;
use merpati_flow::{
    ByMx, Protection,
    attempt::HostPlace,
    protect::{self, Known, Sts, Tlsa, Withheld},
};
use merpati_mail::{
    Domain, TlsDemand, TlsPolicy, TlsSource,
    outcome::{Fact, Finding as Found, Need, Phase},
    route::HostPort,
};
use merpati_smtp::client::TlsUse;
use tokio_rustls::TlsConnector;

use super::{CertificateTrust, Deliverer, Profile, Run, Shared};
use crate::{
    certificates::Certificates,
    dane::{HostRecords, ISSUER},
    resolve::DaneAnswer,
    sts::{Policies, Standing},
    tls::{self, Trust},
};

/// How a rule speaks TLS.
pub(super) struct Connectors {
    /// As it says.
    own: TlsConnector,
    /// With hosts that must prove their names; `None` where no issuer is known.
    verifying: Option<TlsConnector>,
    /// What hosts are shown that ask for a certificate.
    certificates: Option<Arc<Certificates>>,
    /// With hosts that have TLSA records. Each set of records has its own, so that a session which
    /// is resumed was judged by the same records.
    dane: Mutex<HashMap<ByDane, TlsConnector>>,
}

/// What a connection that DANE protects was judged by.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct ByDane {
    records: Arc<HostRecords>,
    /// The host as MX names it.
    host: Domain,
    /// Whose mail it takes, where a certificate may be for that name too.
    domain: Option<Domain>,
}

/// What makes connections to a host the same way, as far as TLS goes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Lock {
    /// As the route says.
    Routed,
    /// With any certificate, and never in the clear.
    Encrypted,
    /// With a certificate for the name of the host.
    Certified,
    /// With a certificate that TLSA records name.
    Dane(ByDane),
}

/// How connections to a host are protected.
#[derive(Clone)]
pub(super) struct Guard {
    /// What is asked for, and by whom.
    pub(super) policy: TlsPolicy,
    /// How it is spoken.
    pub(super) connector: TlsConnector,
    /// When it is.
    pub(super) tls: TlsUse,
    pub(super) lock: Lock,
    /// The TLSA records of the host, also those of which we can use none.
    records: Option<Arc<HostRecords>>,
}

impl Guard {
    /// The TLSA records that connections are judged by; `None` where none are.
    pub(super) fn records(&self) -> Option<&HostRecords> {
        self.records.as_deref()
    }
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard").field("policy", &self.policy).finish_non_exhaustive()
    }
}

/// Why a host is not tried, and what asked for that.
#[derive(Clone, Debug)]
pub(super) struct NotTried {
    pub(super) found: Found,
    pub(super) policy: TlsPolicy,
}

impl Connectors {
    /// Reads the trusted certificates. Where the rule trusts anybody, those who must prove their
    /// names are trusted as this machine says, which may have no issuer at all.
    pub(super) fn new(profile: &Profile) -> anyhow::Result<Self> {
        let connector = |trust| tls::connector(trust, profile.certificates.clone());
        let (own, verifying) = match &profile.trust {
            CertificateTrust::Any => (connector(Trust::Any)?, connector(Trust::System).ok()),
            CertificateTrust::File(path) => {
                let own = connector(Trust::File(path))?;
                (own.clone(), Some(own))
            }
            CertificateTrust::System => {
                let own = connector(Trust::System)?;
                (own.clone(), Some(own))
            }
        };
        let certificates = profile.certificates.clone();
        Ok(Self { own, verifying, certificates, dane: Mutex::default() })
    }

    /// How a host is spoken to that has proven itself by these records.
    fn by_dane(&self, by: &ByDane) -> anyhow::Result<TlsConnector> {
        let mut known = self.dane.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(connector) = known.get(by) {
            return Ok(connector.clone());
        }
        let domain = by.domain.as_ref().unwrap_or(&by.host);
        let trust = Trust::Dane { records: &by.records, found_by: [&by.host, domain] };
        let connector = tls::connector(trust, self.certificates.clone())?;
        // Forgetting costs handshakes that are not resumed, remembering would cost memory.
        if known.len() >= HOSTS_MAX {
            known.clear();
        }
        known.insert(by.clone(), connector.clone());
        Ok(connector)
    }
}

impl Profile {
    /// What the route asks for by itself.
    pub(super) fn demand(&self) -> TlsDemand {
        match (self.tls, &self.trust) {
            (TlsUse::Never, _) => TlsDemand::Clear,
            (TlsUse::Opportunistic, _) => TlsDemand::Opportunistic,
            (TlsUse::Implicit | TlsUse::Required, CertificateTrust::Any) => TlsDemand::Encrypted,
            (
                TlsUse::Implicit | TlsUse::Required,
                CertificateTrust::File(_) | CertificateTrust::System,
            ) => TlsDemand::Certified,
        }
    }

    /// Whether what domains publish is looked at. A route that never speaks TLS is the operator's
    /// last word.
    fn follows(&self) -> bool {
        self.is_mx && self.follows_policies && self.tls != TlsUse::Never
    }
}

impl Run<'_> {
    /// How the host must be protected.
    pub(super) async fn guard(
        &mut self,
        profile: &Profile,
        connectors: &Connectors,
        (host, port): (&Domain, u16),
    ) -> Result<Arc<Guard>, NotTried> {
        if let Some(known) = self.guards.get(host) {
            return known.clone();
        }
        let guard = self.find_guard(profile, connectors, (host, port)).await.map(Arc::new);
        self.guards.insert(host.clone(), guard.clone());
        guard
    }

    /// Notes that a host has failed, for all who are left.
    pub(super) fn note_failure(
        &mut self,
        (found, policy): (&Found, TlsPolicy),
        place: Option<HostPlace>,
    ) {
        self.has_failed_sts |=
            policy.source == TlsSource::MtaSts && is_of_protection(found, policy.demand);
        self.progress.note_all(found, place);
    }

    /// Whether hosts that failed the policy of the domain may do so no more, because there is
    /// another one by now (RFC 8461 §5.1).
    pub(super) async fn is_policy_renewed(&mut self) -> bool {
        let (Some(policies), Some(by_mx)) = (&self.shared.tools.policies, &self.job.by_mx) else {
            return false;
        };
        if !std::mem::take(&mut self.has_failed_sts) {
            return false;
        }
        let policy = |standing: &Standing| standing.kept().map(|kept| kept.policy.clone());
        let renewed = policies.renew(&by_mx.domain).await;
        let before = self.sts.replace(renewed.clone());
        let is_new = before.as_ref().and_then(policy) != policy(&renewed);
        if is_new {
            self.guards.clear();
        }
        is_new
    }

    async fn find_guard(
        &mut self,
        profile: &Profile,
        connectors: &Connectors,
        (host, port): (&Domain, u16),
    ) -> Result<Guard, NotTried> {
        let wanted = self.job.protection;
        let Some(by_mx) = self.job.by_mx.as_ref() else {
            return means(profile, connectors, protect::routed(wanted, profile.demand()), None);
        };
        let shared = self.shared;
        let (records, policy) =
            shared.policy(profile, wanted, (by_mx, host, port), &mut self.sts).await;
        match policy {
            Ok(policy) => {
                let by_dane = records.map(|records| by_dane(records, host, &by_mx.domain));
                means(profile, connectors, policy, by_dane)
            }
            Err(withheld) => {
                let is_known = self.sts.as_ref().is_none_or(|sts| sts.trouble().is_none());
                Err(not_tried(withheld, (wanted, is_known), host, by_mx))
            }
        }
    }
}

impl Shared {
    /// How a host that MX names must be protected, and the TLSA records that it has. `sts` is what
    /// MTA-STS says of the domain, the same for the whole of an attempt; looked at where needed.
    async fn policy(
        &self,
        profile: &Profile,
        wanted: Protection,
        (by_mx, host, port): (&ByMx, &Domain, u16),
        sts: &mut Option<Standing>,
    ) -> (Option<Arc<HostRecords>>, Result<TlsPolicy, Withheld>) {
        let follows = profile.follows() && wanted != Protection::Waived;
        let dane = if follows && by_mx.is_proven && self.options.dane {
            self.resolver.dane(host, port).await
        } else {
            DaneAnswer::None
        };
        if let (DaneAnswer::None, true, None, Some(policies)) =
            (&dane, follows, &sts, &self.tools.policies)
        {
            *sts = Some(policies.of(&by_mx.domain).await);
        }
        let known = Known {
            is_host_proven: by_mx.is_proven,
            tlsa: match &dane {
                DaneAnswer::None => Tlsa::None,
                DaneAnswer::Records(records) if records.are_usable() => Tlsa::Usable,
                DaneAnswer::Records(_) => Tlsa::Unusable,
                DaneAnswer::Unknown(why) => Tlsa::Unknown(why),
            },
            sts: sts.as_ref().map_or(Sts::None, |standing| of_host(standing, host)),
        };
        let policy = protect::policy(wanted, profile.demand(), &known);
        match dane {
            DaneAnswer::Records(records) => (Some(records), policy),
            DaneAnswer::None | DaneAnswer::Unknown(_) => (None, policy),
        }
    }
}

/// How a host would be protected.
#[derive(Clone, Debug)]
pub struct Protected {
    /// Its TLSA records; `None` where it has none that count.
    pub records: Option<Arc<HostRecords>>,
    /// How, or why it would not be tried.
    pub policy: Result<TlsPolicy, String>,
}

impl Deliverer {
    /// The policies of others (MTA-STS); `None` where they are not looked at.
    pub fn policies(&self) -> Option<&Policies> {
        self.shared.tools.policies.as_ref()
    }

    /// How a host would be protected for mail of nobody in particular by this rule; `None` where
    /// there is no such rule. No host is connected to.
    pub async fn protection(
        &self,
        rule: &str,
        by_mx: Option<&ByMx>,
        host: &HostPort,
    ) -> Option<Protected> {
        let profile = self.shared.options.profiles.get(rule)?;
        let wanted = Protection::AsRouted;
        let Some(by_mx) = by_mx else {
            let policy = Ok(protect::routed(wanted, profile.demand()));
            return Some(Protected { records: None, policy });
        };
        let about = (by_mx, &host.host, host.port);
        let (records, policy) = self.shared.policy(profile, wanted, about, &mut None).await;
        let policy = policy.map_err(|withheld| words(withheld, &host.host, &by_mx.domain));
        Some(Protected { records, policy })
    }
}

/// Whether a host did not do or prove what was asked of it, rather than that it cannot be reached.
fn is_of_protection(found: &Found, demand: TlsDemand) -> bool {
    let is_lack = matches!(found.fact, Fact::Lacks(Need::StartTls) | Fact::Tls(_));
    demand > TlsDemand::Opportunistic && (is_lack || found.phase == Phase::StartTls)
}

/// What a policy says of a host.
fn of_host(standing: &Standing, host: &Domain) -> Sts {
    let Some(kept) = standing.kept() else { return Sts::None };
    let is_named = kept.policy.allows(host);
    match kept.policy.mode {
        Mode::Enforce => Sts::Enforced { is_named },
        Mode::Testing => Sts::Testing { is_named },
        Mode::None => Sts::None,
    }
}

/// By what a host is judged: whose mail it takes counts only where a CA is named.
fn by_dane(records: Arc<HostRecords>, host: &Domain, domain: &Domain) -> ByDane {
    let has_ca = records.records.iter().any(|record| record.usage == ISSUER);
    let domain = has_ca.then(|| domain.clone());
    ByDane { records, host: host.clone(), domain }
}

/// The TLS that a policy asks for.
fn means(
    profile: &Profile,
    connectors: &Connectors,
    policy: TlsPolicy,
    by_dane: Option<ByDane>,
) -> Result<Guard, NotTried> {
    let records = by_dane.as_ref().map(|by| Arc::clone(&by.records));
    let is_routed = policy.demand == profile.demand();
    let tls = match policy.demand {
        TlsDemand::Clear | TlsDemand::Opportunistic => profile.tls,
        TlsDemand::Encrypted | TlsDemand::Certified | TlsDemand::Dane => profile.tls.required(),
    };
    let failed = |why: String| NotTried {
        found: Found { phase: Phase::StartTls, fact: Fact::Tls(why) },
        policy,
    };
    let (connector, lock) = match (policy.demand, by_dane) {
        (TlsDemand::Dane, Some(by)) => {
            let connector = connectors.by_dane(&by).map_err(|error| failed(error.to_string()))?;
            (connector, Lock::Dane(by))
        }
        _ if is_routed => (connectors.own.clone(), Lock::Routed),
        (TlsDemand::Certified, _) => {
            let none = "this machine knows no CA that could prove the name of a host";
            let verifying = connectors.verifying.clone();
            (verifying.ok_or_else(|| failed(none.to_owned()))?, Lock::Certified)
        }
        (_, _) => (connectors.own.clone(), Lock::Encrypted),
    };
    Ok(Guard { policy, connector, tls, lock, records })
}

/// What it means that a host must not be tried.
/// Where it is not known what MTA-STS says, because the policy could not be fetched, that nothing
/// proves the host may be otherwise later.
fn not_tried(
    withheld: Withheld,
    (wanted, is_known): (Protection, bool),
    host: &Domain,
    by: &ByMx,
) -> NotTried {
    let (demand, source) = match withheld {
        Withheld::NotNamed => (TlsDemand::Certified, TlsSource::MtaSts),
        Withheld::Unproven => (TlsDemand::Certified, TlsSource::RequireTls),
        Withheld::UnknownTlsa(_) => (TlsDemand::Dane, TlsSource::Dane),
    };
    // What may be found out later is no reason to return a message.
    let is_lasting = match withheld {
        Withheld::NotNamed => true,
        Withheld::Unproven => is_known,
        Withheld::UnknownTlsa(_) => false,
    };
    let why = words(withheld, host, &by.domain);
    let found = if is_lasting || wanted != Protection::Verified {
        Found { phase: Phase::StartTls, fact: Fact::Tls(why) }
    } else {
        Found { phase: Phase::Resolve, fact: Fact::Unreachable(why) }
    };
    NotTried { found, policy: TlsPolicy { demand, source } }
}

/// Why a host must not be tried.
fn words(withheld: Withheld, host: &Domain, domain: &Domain) -> String {
    match withheld {
        Withheld::NotNamed => format!("the MTA-STS policy of {domain} does not name {host}"),
        Withheld::Unproven => {
            format!("neither DNSSEC nor MTA-STS proves that {host} takes mail for {domain}")
        }
        Withheld::UnknownTlsa(why) => {
            format!("which certificate {host} may show cannot be found out: {why}")
        }
    }
}

/// How many sets of TLSA records have a connector of their own.
const HOSTS_MAX: usize = 1_024;
