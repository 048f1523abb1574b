//! How connections to a host are protected: what the route says, joined with what the domains of
//! host and recipient publish, and the TLS that comes of it.
//!
//! Invariant: what is decided is decided by `flow::protect`; here it is found out, and given the
//! means. A connection is shared only by those who are protected in the same way. Not pure: asks
//! name servers.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use merpati_flow::{
    ByMx, Protection,
    protect::{self, Known, Sts, Tlsa, Withheld},
};
use merpati_mail::{
    Domain, TlsDemand, TlsPolicy, TlsSource,
    outcome::{Fact, Finding as Found, Phase},
};
use merpati_smtp::client::TlsUse;
use tokio_rustls::TlsConnector;

use super::{CertificateTrust, Profile, Run};
use crate::{
    certificates::Certificates,
    dane::{HostRecords, ISSUER},
    resolve::DaneAnswer,
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

    async fn find_guard(
        &self,
        profile: &Profile,
        connectors: &Connectors,
        (host, port): (&Domain, u16),
    ) -> Result<Guard, NotTried> {
        let (wanted, routed) = (self.job.protection, profile.demand());
        let Some(by_mx) = &self.job.by_mx else {
            return means(profile, connectors, protect::routed(wanted, routed), None);
        };
        let follows = profile.follows() && wanted != Protection::Waived;
        let dane = if follows && by_mx.is_proven && self.shared.options.dane {
            self.shared.resolver.dane(host, port).await
        } else {
            DaneAnswer::None
        };
        let known = Known {
            is_host_proven: by_mx.is_proven,
            tlsa: match &dane {
                DaneAnswer::None => Tlsa::None,
                DaneAnswer::Records(records) if records.are_usable() => Tlsa::Usable,
                DaneAnswer::Records(_) => Tlsa::Unusable,
                DaneAnswer::Unknown(why) => Tlsa::Unknown(why),
            },
            sts: Sts::None,
        };
        match protect::policy(wanted, routed, &known) {
            Ok(policy) => {
                let by_dane = match dane {
                    DaneAnswer::Records(records) => Some(by_dane(records, host, &by_mx.domain)),
                    DaneAnswer::None | DaneAnswer::Unknown(_) => None,
                };
                means(profile, connectors, policy, by_dane)
            }
            Err(withheld) => Err(not_tried(withheld, wanted, host, by_mx)),
        }
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
    Ok(Guard { policy, connector, tls, lock })
}

/// What it means that a host must not be tried.
fn not_tried(withheld: Withheld, wanted: Protection, host: &Domain, by: &ByMx) -> NotTried {
    let domain = &by.domain;
    let of = |demand, source| TlsPolicy { demand, source };
    let (why, policy) = match withheld {
        Withheld::NotNamed => (
            format!("the MTA-STS policy of {domain} does not name {host}"),
            of(TlsDemand::Certified, TlsSource::MtaSts),
        ),
        Withheld::Unproven => (
            format!("neither DNSSEC nor MTA-STS proves that {host} takes mail for {domain}"),
            of(TlsDemand::Certified, TlsSource::RequireTls),
        ),
        Withheld::UnknownTlsa(why) => {
            let policy = of(TlsDemand::Dane, TlsSource::Dane);
            let why = format!("which certificate {host} may show cannot be found out: {why}");
            if wanted == Protection::Verified {
                // It may be found out later: the message is not returned for it.
                let found = Found { phase: Phase::Resolve, fact: Fact::Unreachable(why) };
                return NotTried { found, policy };
            }
            (why, policy)
        }
    };
    NotTried { found: Found { phase: Phase::StartTls, fact: Fact::Tls(why) }, policy }
}

/// How many sets of TLSA records have a connector of their own.
const HOSTS_MAX: usize = 1_024;
