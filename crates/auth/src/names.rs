//! Names of domains and hosts, as checks compare them.
//!
//! Pure.

use merpati_mail::Domain;

/// A domain in A-labels, in lower case; as it is where it cannot be one (RFC 8616 §2).
pub(crate) fn ascii(domain: &str) -> String {
    let domain = domain.strip_suffix('.').unwrap_or(domain);
    let parsed = Domain::parse(domain).ok();
    let name = parsed.as_ref().and_then(Domain::as_name);
    name.map_or_else(|| domain.to_lowercase(), str::to_owned)
}

/// Whether a domain is the other, or a subdomain of it; both in lower case.
pub(crate) fn is_at_or_below(domain: &str, above: &str) -> bool {
    domain == above
        || domain.strip_suffix(above).is_some_and(|rest| rest.ends_with('.') && !above.is_empty())
}

/// Whether the DNS could hold such a name (RFC 1035 §2.3.4).
pub(crate) fn is_name(name: &str) -> bool {
    let is_label = |label: &str| (1..=LABEL_OCTETS_MAX).contains(&label.len());
    name.len() <= NAME_OCTETS_MAX && name.split('.').all(is_label)
}

/// Octets of a name in text, without the dot at its end.
pub(crate) const NAME_OCTETS_MAX: usize = 253;
const LABEL_OCTETS_MAX: usize = 63;
