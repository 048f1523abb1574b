//! Whether what a domain says of MTA-STS is read as it is written. Pure.

use merpati_auth::sts::{AGE_SECS_MAX, MX_MAX, Mode, Policy, is_policy_id, record};
use merpati_mail::Domain;

/// A record, a policy, and a host: the first line is the host, all the rest is taken for both.
///
/// Properties: what was read is read again from its lines; limits hold; a policy allows no host
/// that none of its patterns names.
pub fn sts(octets: &[u8]) {
    let line = octets.iter().position(|octet| *octet == b'\n').unwrap_or(octets.len());
    let (host, rest) = octets.split_at(line);
    let rest = rest.get(1..).unwrap_or_default();
    if let Some(found) = record(&[rest]) {
        assert!(rest.starts_with(b"v=STSv1") && is_policy_id(&found.id), "{found:?}");
        assert_eq!(record(&[b"other", rest]), Some(found), "what is of another kind counts");
        assert_eq!(record(&[rest, rest]), None, "two records are one");
    }
    let Ok(policy) = Policy::parse(rest) else { return };
    assert!(policy.max_age.as_secs() <= AGE_SECS_MAX && policy.mx.len() <= MX_MAX);
    assert!(policy.mode == Mode::None || !policy.mx.is_empty());
    let again = policy.lines().join("\r\n");
    assert_eq!(Policy::parse(again.as_bytes()).as_ref(), Ok(&policy), "{again}");
    let Ok(host) = Domain::parse(&String::from_utf8_lossy(host)) else { return };
    let name = host.to_string();
    let is_named = policy.hosts().iter().any(|pattern| match pattern.strip_prefix("*.") {
        Some(parent) => name.split_once('.').is_some_and(|(_, behind)| behind == parent),
        None => *pattern == name,
    });
    assert_eq!(policy.allows(&host), is_named, "{host} {again}");
}
