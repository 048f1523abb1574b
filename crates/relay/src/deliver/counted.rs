//! Which sessions with the hosts of a domain came about as its policy asks, for reports of TLS (RFC
//! 8460).
//!
//! Invariant: each session in which TLS was tried counts once, by the policy that applied; a host
//! that was passed over for the sake of a policy counts as one that failed. Nothing here changes
//! what is delivered. Not pure: adds to the counts.

use merpati_flow::attempt;
use merpati_mail::{
    TlsPolicy, TlsSource,
    outcome::{Fact, Finding as Found, Need, Phase},
    route::Remote,
};

use super::{Run, connection::Connection, guard::Guard};
use crate::{
    sts::{FetchTrouble, Kept, Standing, TroubleKind},
    tls::{self, Trouble},
    tls_reports::{Failed, ResultType, Seen, SeenPolicy},
};

impl Run<'_> {
    /// Counts a session that has just been opened, or has failed to be.
    pub(super) fn count_session(
        &self,
        guard: &Guard,
        connection: &Connection,
        trouble: Option<&Found>,
    ) {
        if !connection.tries_tls {
            return;
        }
        let result = match trouble {
            Some(found) => match kind_of(found, connection) {
                Some(kind) => Err((kind, why(found))),
                // It failed before TLS, or after it.
                None => return,
            },
            None if connection.tls.is_none() => Err((ResultType::StarttlsNotSupported, None)),
            None => self.tested(guard, connection),
        };
        self.count(guard.policy, Some(guard), result, Some(connection));
    }

    /// Counts a host that was passed over.
    pub(super) fn count_passed_over(&self, policy: TlsPolicy, found: &Found) {
        let kind = match policy.source {
            TlsSource::Dane => ResultType::DnssecInvalid,
            TlsSource::MtaSts => ResultType::ValidationFailure,
            TlsSource::MtaStsTesting
            | TlsSource::RequireTls
            | TlsSource::Route
            | TlsSource::TlsNotRequired => return,
        };
        self.count(policy, None, Err((kind, why(found))), None);
    }

    /// What a session would have come to if the policy that is tested were in force.
    fn tested(
        &self,
        guard: &Guard,
        connection: &Connection,
    ) -> Result<(), (ResultType, Option<String>)> {
        let kept = self.sts.as_ref().and_then(Standing::kept);
        let (TlsSource::MtaStsTesting, Some(kept)) = (guard.policy.source, kept) else {
            return Ok(());
        };
        let host = &connection.key.host;
        if !kept.policy.allows(host) {
            let why = format!("the policy does not name {host}");
            return Err((ResultType::ValidationFailure, Some(why)));
        }
        let chain = connection.chain();
        tls::judge(&chain, host).map_err(|(trouble, why)| (kind_of_trouble(trouble), Some(why)))
    }

    fn count(
        &self,
        policy: TlsPolicy,
        guard: Option<&Guard>,
        result: Result<(), (ResultType, Option<String>)>,
        connection: Option<&Connection>,
    ) {
        let (Some(tally), Some(by_mx)) = (&self.shared.tools.tally, &self.job.by_mx) else {
            return;
        };
        let fetch_trouble = self.sts.as_ref().and_then(Standing::trouble);
        let (seen, result) = match (policy.source, guard.and_then(Guard::records)) {
            (TlsSource::Dane, Some(host)) => {
                let line = |it| format!("{}. IN TLSA ( {it} )", host.at);
                let records = host.records.iter().map(line).collect();
                (SeenPolicy::Tlsa { records }, result)
            }
            (TlsSource::Dane, None) => (SeenPolicy::Tlsa { records: Vec::new() }, result),
            (TlsSource::MtaSts | TlsSource::MtaStsTesting, _) => {
                (of_sts(self.sts.as_ref().and_then(Standing::kept).map(|kept| &**kept)), result)
            }
            (TlsSource::RequireTls | TlsSource::Route | TlsSource::TlsNotRequired, _) => {
                match fetch_trouble {
                    Some(trouble) => (of_sts(None), Err(unfetched(trouble))),
                    None => (SeenPolicy::NotFound, result),
                }
            }
        };
        let failed = |(kind, reason)| {
            let address = connection.and_then(|it| it.key.address);
            let host = self.tried.last().map(|tried| tried.path.host.clone());
            let last = self.tried.last().and_then(|tried| match &tried.path.address {
                Remote::Ip(address) => Some(address.ip()),
                Remote::Unix(_) => None,
            });
            Failed {
                kind,
                sending_ip: connection.and_then(|it| it.from),
                mx: host,
                helo: None,
                receiving_ip: address.or(last),
                reason,
            }
        };
        let result = result.map_err(failed);
        let seen = Seen { domain: by_mx.domain.clone(), policy: seen, result };
        tally.note(self.shared.clock.now(), seen);
    }
}

fn of_sts(kept: Option<&Kept>) -> SeenPolicy {
    let lines = kept.map(|kept| kept.policy.lines()).unwrap_or_default();
    let mx = kept.map(|kept| kept.policy.hosts()).unwrap_or_default();
    SeenPolicy::Sts { lines, mx }
}

/// How a session fails whose policy is there and could not be had (RFC 8460 §4.3.2.2).
fn unfetched(trouble: &FetchTrouble) -> (ResultType, Option<String>) {
    let kind = match trouble.kind {
        TroubleKind::Fetch => ResultType::StsPolicyFetchError,
        TroubleKind::Invalid => ResultType::StsPolicyInvalid,
        TroubleKind::WebPki => ResultType::StsWebpkiInvalid,
    };
    (kind, Some(trouble.why.clone()))
}

/// In which way TLS failed; `None` where it is not TLS that did.
fn kind_of(found: &Found, connection: &Connection) -> Option<ResultType> {
    if found.fact == Fact::Lacks(Need::StartTls) {
        return Some(ResultType::StarttlsNotSupported);
    }
    let channel = match connection.tls {
        Some(_) => attempt::Channel::Tls,
        None => attempt::Channel::Clear,
    };
    if !attempt::is_tls_trouble(found, channel) {
        return None;
    }
    Some(match (found.phase, connection.trouble) {
        (Phase::StartTls, Some(trouble)) => kind_of_trouble(trouble),
        _ => ResultType::ValidationFailure,
    })
}

const fn kind_of_trouble(trouble: Trouble) -> ResultType {
    match trouble {
        Trouble::Expired => ResultType::CertificateExpired,
        Trouble::NotTrusted => ResultType::CertificateNotTrusted,
        Trouble::WrongName => ResultType::CertificateHostMismatch,
        Trouble::Other => ResultType::ValidationFailure,
    }
}

fn why(found: &Found) -> Option<String> {
    match &found.fact {
        Fact::Tls(why) | Fact::Unreachable(why) | Fact::Protocol(why) => Some(why.clone()),
        Fact::Replied(reply) => Some(reply.one_line()),
        Fact::Cut | Fact::Lacks(_) | Fact::NotConvertible(_) | Fact::Ourselves | Fact::TimedOut => {
            None
        }
    }
}
