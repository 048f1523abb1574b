//! What a DMARC record says (RFC 9989 §4.7).
//!
//! A tag that is not understood, or holds what it must not, is as if it were not there. Pure.

/// What a domain wants done with mail that fails (`p=`, `sp=`, `np=`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Policy {
    /// Nothing.
    None,
    /// It is suspicious.
    Quarantine,
    /// It is not to be taken.
    Reject,
}

impl Policy {
    /// As it stands in records.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Quarantine => "quarantine",
            Self::Reject => "reject",
        }
    }

    fn parse(value: &str) -> Option<Self> {
        [Self::None, Self::Quarantine, Self::Reject]
            .into_iter()
            .find(|policy| value.eq_ignore_ascii_case(policy.as_str()))
    }

    /// One step softer: so it is while a domain tries its policy out (`t=y`).
    pub(super) const fn softened(self) -> Self {
        match self {
            Self::None | Self::Quarantine => Self::None,
            Self::Reject => Self::Quarantine,
        }
    }
}

/// How alike two domains must be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Alignment {
    /// Of one organisation.
    #[default]
    Relaxed,
    /// The same.
    Strict,
}

/// Whether a domain is one below which others register theirs (`psd=`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum PublicSuffix {
    /// It is none: the organisation's own.
    No,
    /// It does not say.
    #[default]
    Unsaid,
    /// It is one.
    Yes,
}

/// A record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) policy: Option<Policy>,
    pub(super) subdomains: Option<Policy>,
    pub(super) nonexistent: Option<Policy>,
    pub(super) dkim: Alignment,
    pub(super) spf: Alignment,
    pub(super) public_suffix: PublicSuffix,
    pub(super) is_testing: bool,
    /// Whether anybody wants reports of it (`rua=`).
    pub(super) wants_reports: bool,
}

impl Record {
    /// Reads a text; `None` where it is no DMARC record: one begins with its version (§4.7).
    pub(super) fn parse(text: &[u8]) -> Option<Self> {
        let text = String::from_utf8_lossy(text);
        let mut tags = text.split(';').map(|tag| {
            let (name, value) = tag.split_once('=').unwrap_or((tag, ""));
            (name.trim(), value.trim())
        });
        // The name of a tag may be in any case, and this value may not (§4.8).
        let is_version =
            |(name, value): (&str, &str)| name.eq_ignore_ascii_case("v") && value == "DMARC1";
        if !tags.next().is_some_and(is_version) {
            return None;
        }
        let (mut record, mut is_known) = (Self::default(), true);
        for (name, value) in tags {
            match name.to_ascii_lowercase().as_str() {
                "p" => is_known &= set(&mut record.policy, Policy::parse(value)),
                "sp" => is_known &= set(&mut record.subdomains, Policy::parse(value)),
                "np" => is_known &= set(&mut record.nonexistent, Policy::parse(value)),
                "adkim" if value.eq_ignore_ascii_case("s") => record.dkim = Alignment::Strict,
                "aspf" if value.eq_ignore_ascii_case("s") => record.spf = Alignment::Strict,
                "psd" if value.eq_ignore_ascii_case("y") => {
                    record.public_suffix = PublicSuffix::Yes;
                }
                "psd" if value.eq_ignore_ascii_case("n") => {
                    record.public_suffix = PublicSuffix::No;
                }
                "t" => record.is_testing = value.eq_ignore_ascii_case("y"),
                "rua" => record.wants_reports |= value.split(',').any(is_uri),
                _ => {}
            }
        }
        // §4.10.1: one with a policy that nobody knows says nothing, but that it wants reports.
        if !is_known {
            (record.policy, record.subdomains, record.nonexistent) = (None, None, None);
        }
        Some(record)
    }
}

/// The first counts. Whether it is a policy.
fn set(place: &mut Option<Policy>, policy: Option<Policy>) -> bool {
    if place.is_none() {
        *place = policy;
    }
    policy.is_some()
}

/// Whether this is an address to which reports can go: by mail, or another URI.
fn is_uri(text: &str) -> bool {
    let Some((scheme, rest)) = text.trim().split_once(':') else { return false };
    let is_scheme = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.bytes().all(|octet| octet.is_ascii_alphanumeric() || b"+-.".contains(&octet));
    is_scheme && !rest.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_begins_with_its_version() {
        for (text, want) in [
            ("v=DMARC1", true),
            ("v=DMARC1;", true),
            (" v = DMARC1 ; p=none", true),
            ("V=DMARC1; p=none", true),
            ("v=DMARC1 p=none", false),
            ("p=none; v=DMARC1", false),
            ("v=dmarc1; p=none", false),
            ("v=DMARC10; p=none", false),
            ("", false),
        ] {
            assert_eq!(Record::parse(text.as_bytes()).is_some(), want, "{text:?}");
        }
    }

    #[test]
    fn what_is_not_understood_is_as_if_it_were_not_there() {
        let record = Record::parse(
            b"v=DMARC1; p=Reject; p=none; np=quarantine; pct=0; adkim=S; aspf=x; t=y; \
              foo; rua=mailto:a@example.org!10m; psd=n; ri=1;;",
        );
        let want = Record {
            policy: Some(Policy::Reject),
            subdomains: None,
            nonexistent: Some(Policy::Quarantine),
            dkim: Alignment::Strict,
            spf: Alignment::Relaxed,
            public_suffix: PublicSuffix::No,
            is_testing: true,
            wants_reports: true,
        };
        assert_eq!(record, Some(want));
        for bad in ["p=what", "p=reject; sp=what", "p=reject; np=", "p=none; p=what"] {
            let record = Record::parse(format!("v=DMARC1; {bad}").as_bytes()).unwrap();
            assert_eq!((record.policy, record.subdomains), (None, None), "{bad}");
        }
        for rua in ["", "a@example.org", "mailto:", ",", ":x"] {
            let text = format!("v=DMARC1; rua={rua}");
            assert!(!Record::parse(text.as_bytes()).unwrap().wants_reports, "{rua:?}");
        }
    }
}
