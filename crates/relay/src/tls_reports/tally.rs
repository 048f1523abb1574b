//! How many sessions came about, and how many did not: counted for a day, a domain and a policy.
//!
//! Invariant: bounded in domains, policies of a domain, ways of failing and octets of each; what
//! goes beyond is counted without its details, or not at all. It never waits. Not pure: a lock.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use merpati_mail::{Domain, Time};

use super::{Detail, PolicyReport};

/// One session that came about or did not, as TLSRPT counts it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The domain of the recipients.
    pub domain: Domain,
    /// What it demands.
    pub policy: SeenPolicy,
    /// Whether the session came about.
    pub result: Result<(), Failed>,
}

/// The policy under which a session was begun.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SeenPolicy {
    /// None that could be found.
    NotFound,
    /// That of MTA-STS: its lines, and the patterns of its hosts.
    Sts {
        /// `policy-string`.
        lines: Vec<String>,
        /// `mx-host`.
        mx: Vec<String>,
    },
    /// DANE: TLSA records in their form of presentation (RFC 6698 §2.2).
    Tlsa {
        /// `policy-string`.
        records: Vec<String>,
    },
}

/// How a session failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    /// In which way.
    pub kind: ResultType,
    /// Our address.
    pub sending_ip: Option<IpAddr>,
    /// The name of the host, as MX has it.
    pub mx: Option<Domain>,
    /// How it called itself in its greeting or its reply to EHLO.
    pub helo: Option<String>,
    /// Its address.
    pub receiving_ip: Option<IpAddr>,
    /// Why, in words of ours or of the library.
    pub reason: Option<String>,
}

/// The ways in which sessions fail (RFC 8460 §4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResultType {
    /// The certificate is too old, or not good yet.
    CertificateExpired,
    /// The certificate has another name.
    CertificateHostMismatch,
    /// The certificate leads to no CA that we trust.
    CertificateNotTrusted,
    /// DANE is wanted here, and no TLSA record can be used.
    DaneRequired,
    /// The signatures of DNS are not good.
    DnssecInvalid,
    /// The host does not offer STARTTLS.
    StarttlsNotSupported,
    /// The policy of MTA-STS could not be fetched.
    StsPolicyFetchError,
    /// What was fetched is no policy.
    StsPolicyInvalid,
    /// The host of the policy did not prove its name.
    StsWebpkiInvalid,
    /// No TLSA record is well-formed or matches.
    TlsaInvalid,
    /// Something else is wrong with TLS.
    ValidationFailure,
}

impl ResultType {
    /// As reports write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::CertificateExpired => "certificate-expired",
            Self::CertificateHostMismatch => "certificate-host-mismatch",
            Self::CertificateNotTrusted => "certificate-not-trusted",
            Self::DaneRequired => "dane-required",
            Self::DnssecInvalid => "dnssec-invalid",
            Self::StarttlsNotSupported => "starttls-not-supported",
            Self::StsPolicyFetchError => "sts-policy-fetch-error",
            Self::StsPolicyInvalid => "sts-policy-invalid",
            Self::StsWebpkiInvalid => "sts-webpki-invalid",
            Self::TlsaInvalid => "tlsa-invalid",
            Self::ValidationFailure => "validation-failure",
        }
    }
}

/// Counts sessions. Clones count together.
#[derive(Clone, Debug)]
pub struct Tally(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    days: Mutex<BTreeMap<Day, DayCounts>>,
    is_on: AtomicBool,
}

/// A day of UTC, in days since 1970-01-01.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Day(pub(super) u64);

impl Day {
    pub(super) const fn of(at: Time) -> Self {
        Self(at.as_secs() / SECS)
    }

    pub(super) const fn begin(self) -> Time {
        Time::from_secs(self.0.saturating_mul(SECS))
    }

    /// The first moment of the next day.
    pub(super) const fn end(self) -> Time {
        Self(self.0.saturating_add(1)).begin()
    }

    /// The day of this date, such as `2026-11-30`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        Some(Self::of(Time::parse_rfc3339(&format!("{text}T00:00:00Z"))?))
    }
}

impl std::fmt::Display for Day {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = self.begin().rfc3339();
        f.write_str(text.split('T').next().unwrap_or_default())
    }
}

const SECS: u64 = 86_400;

/// What was counted in a day, by domain.
pub(super) type Domains = BTreeMap<Domain, Vec<PolicyReport>>;

#[derive(Debug, Default)]
struct DayCounts {
    domains: Domains,
    /// Whether something was counted since it was last taken.
    is_changed: bool,
}

impl Tally {
    /// Counts from nothing; or nothing at all, while it is off.
    pub(super) fn new(is_on: bool) -> Self {
        let days = Mutex::new(BTreeMap::new());
        Self(Arc::new(Shared { days, is_on: AtomicBool::new(is_on) }))
    }

    /// Counts a session; for address literals there is nobody to report to.
    pub fn note(&self, at: Time, seen: Seen) {
        if !self.0.is_on.load(Ordering::Relaxed) || seen.domain.as_name().is_none() {
            return;
        }
        let mut days = self.days();
        let day = days.entry(Day::of(at)).or_default();
        if day.domains.len() >= DOMAINS_MAX && !day.domains.contains_key(&seen.domain) {
            return;
        }
        let policies = day.domains.entry(seen.domain.clone()).or_default();
        day.is_changed |= count(policies, seen);
    }

    pub(super) fn switch(&self, is_on: bool) {
        self.0.is_on.store(is_on, Ordering::Relaxed);
    }

    /// Goes on from what was counted before a restart.
    pub(super) fn put(&self, day: Day, domains: Domains) {
        self.days().insert(day, DayCounts { domains, is_changed: false });
    }

    /// What has changed since the last time, whole days each.
    pub(super) fn changed(&self) -> Vec<(Day, Domains)> {
        let mut days = self.days();
        let changed = days.iter_mut().filter(|(_, counts)| counts.is_changed);
        let taken = changed.map(|(day, counts)| {
            counts.is_changed = false;
            (*day, counts.domains.clone())
        });
        taken.collect()
    }

    /// It was not kept after all.
    pub(super) fn unkept(&self, day: Day) {
        if let Some(counts) = self.days().get_mut(&day) {
            counts.is_changed = true;
        }
    }

    /// Lets a day go whose reports are made.
    pub(super) fn forget(&self, day: Day) {
        self.days().remove(&day);
    }

    fn days(&self) -> MutexGuard<'_, BTreeMap<Day, DayCounts>> {
        // Nothing in here is left half-done by a panic.
        self.0.days.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts a session among the policies of its domain; whether it could be.
fn count(policies: &mut Vec<PolicyReport>, seen: Seen) -> bool {
    let (kind, lines, mx) = match seen.policy {
        SeenPolicy::NotFound => ("no-policy-found", Vec::new(), Vec::new()),
        SeenPolicy::Sts { lines, mx } => ("sts", lines, mx),
        SeenPolicy::Tlsa { records } => ("tlsa", records, Vec::new()),
    };
    let is_it = |own: &PolicyReport| own.kind == kind && own.lines == lines && own.mx == mx;
    let at = match policies.iter().position(is_it) {
        Some(at) => at,
        None if policies.len() < POLICIES_MAX => {
            let domain = seen.domain.to_string();
            let kind = kind.to_owned();
            policies.push(PolicyReport { kind, lines, domain, mx, ..PolicyReport::default() });
            policies.len() - 1
        }
        None => return false,
    };
    let Some(policy) = policies.get_mut(at) else { return false };
    match seen.result {
        Ok(()) => policy.successes = policy.successes.saturating_add(1),
        Err(failed) => {
            policy.failures = policy.failures.saturating_add(1);
            count_failure(&mut policy.details, failed);
        }
    }
    true
}

fn count_failure(details: &mut Vec<Detail>, failed: Failed) {
    let mut detail = Detail {
        result: failed.kind.as_str().to_owned(),
        sending_ip: failed.sending_ip.map(|ip| ip.to_string()),
        mx: failed.mx.map(|mx| mx.to_string()),
        helo: failed.helo.as_deref().map(cut),
        receiving_ip: failed.receiving_ip.map(|ip| ip.to_string()),
        sessions: 0,
        information: None,
        reason: failed.reason.as_deref().map(cut),
    };
    let same = |own: &&mut Detail, one: &Detail| Detail { sessions: 0, ..(**own).clone() } == *one;
    if details.len() >= DETAILS_MAX && !details.iter_mut().any(|own| same(&own, &detail)) {
        // There are a few kinds only, so these find room.
        detail = Detail { result: detail.result, ..Detail::default() };
    }
    match details.iter_mut().find(|own| same(own, &detail)) {
        Some(own) => own.sessions = own.sessions.saturating_add(1),
        None => details.push(Detail { sessions: 1, ..detail }),
    }
}

/// Text that others may have written, without what controls, and not longer than it may be.
fn cut(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(TEXT_CHARS_MAX).collect()
}

/// Domains that are counted in a day.
const DOMAINS_MAX: usize = 10_000;

/// Policies of one domain in a day.
const POLICIES_MAX: usize = 8;

/// Ways of failing that are told apart under one policy.
const DETAILS_MAX: usize = 32;

/// The longest text in a way of failing.
const TEXT_CHARS_MAX: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    fn domain(name: &str) -> Domain {
        Domain::parse(name).unwrap()
    }

    fn seen(name: &str, result: Result<(), Failed>) -> Seen {
        Seen { domain: domain(name), policy: SeenPolicy::NotFound, result }
    }

    fn failed(reason: &str) -> Failed {
        Failed {
            kind: ResultType::ValidationFailure,
            sending_ip: None,
            mx: Some(domain("mx.example")),
            helo: None,
            receiving_ip: None,
            reason: Some(reason.to_owned()),
        }
    }

    #[test]
    fn sessions_are_counted_by_day_domain_policy_and_way_of_failing() {
        let tally = Tally::new(true);
        let day = Day::parse("2026-11-30").unwrap();
        let at = day.begin();
        for (result, times) in [(Ok(()), 3), (Err(failed("x")), 2), (Err(failed("y")), 1)] {
            for _ in 0..times {
                tally.note(at, seen("a.example", result.clone()));
            }
        }
        let lines = vec!["version: STSv1".to_owned()];
        let policy = SeenPolicy::Sts { lines, mx: vec!["mx.example".to_owned()] };
        tally.note(at, Seen { policy, ..seen("a.example", Ok(())) });
        tally.note(day.end(), seen("a.example", Ok(())));
        tally.note(at, seen("[192.0.2.1]", Ok(())));
        let changed = tally.changed();
        let days: Vec<_> = changed.iter().map(|(day, _)| day.to_string()).collect();
        assert_eq!(days, ["2026-11-30", "2026-12-01"]);
        let domains = &changed[0].1;
        assert_eq!(domains.len(), 1);
        let [plain, sts] = &domains[&domain("a.example")][..] else { panic!("{domains:?}") };
        assert_eq!((plain.successes, plain.failures), (3, 3));
        let details: Vec<_> =
            plain.details.iter().map(|one| (one.reason.as_deref(), one.sessions)).collect();
        assert_eq!(details, [(Some("x"), 2), (Some("y"), 1)]);
        assert_eq!((sts.kind.as_str(), sts.successes, sts.failures), ("sts", 1, 0));
        assert!(tally.changed().is_empty(), "nothing is new");
        tally.forget(day);
        tally.note(at, seen("a.example", Ok(())));
        assert_eq!(tally.changed()[0].1[&domain("a.example")][0].successes, 1);
    }

    #[test]
    fn what_is_counted_is_bounded() {
        let tally = Tally::new(true);
        let at = Time::from_secs(0);
        for n in 0..DOMAINS_MAX + 5 {
            tally.note(at, seen(&format!("d{n}.example"), Ok(())));
        }
        for n in 0..500 {
            tally.note(at, seen("d1.example", Err(failed(&format!("{n} {}", "x".repeat(999))))));
            let records = vec![n.to_string()];
            let policy = SeenPolicy::Tlsa { records };
            tally.note(at, Seen { policy, ..seen("d1.example", Ok(())) });
        }
        let (_, domains) = tally.changed().remove(0);
        assert_eq!(domains.len(), DOMAINS_MAX);
        let policies = &domains[&domain("d1.example")];
        assert_eq!(policies.len(), POLICIES_MAX);
        let details = &policies[0].details;
        assert_eq!(details.len(), DETAILS_MAX + 1);
        assert_eq!(details.iter().map(|one| one.sessions).sum::<u64>(), 500, "none is lost");
        assert_eq!(details[0].reason.as_ref().unwrap().len(), TEXT_CHARS_MAX);
    }

    #[test]
    fn what_is_off_counts_nothing() {
        let tally = Tally::new(false);
        tally.note(Time::EPOCH, seen("a.example", Ok(())));
        assert!(tally.changed().is_empty());
        tally.switch(true);
        tally.note(Time::EPOCH, seen("a.example", Ok(())));
        assert_eq!(tally.changed().len(), 1);
    }
}
