//! How mail to a domain would be protected, and who asks for it: what `explain tls` is told.
//!
//! Pure.

use merpati_mail::{Domain, Time, TlsPolicy, TlsSource};

/// How mail to a domain would be protected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsAnswer {
    /// The domain.
    pub domain: Domain,
    /// The rule that covers mail from nobody in particular; `None` where none does.
    pub rule: Option<String>,
    /// What it says of TLS, in the words of the configuration; `None` where it is not known.
    pub tls: Option<String>,
    /// What DNSSEC says.
    pub dnssec: DnssecFacts,
    /// What MTA-STS says; `None` where it is not looked at.
    pub sts: Option<StsFacts>,
    /// The hosts, in the order in which they would be tried.
    pub hosts: Vec<TlsHost>,
    /// The whole in one sentence.
    pub sentence: String,
}

/// What DNSSEC says of the hosts of a domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DnssecFacts {
    /// It proves which they are.
    Proven,
    /// The zone is not signed, or hosts were not found by MX.
    Unproven,
    /// Our name servers do not hand over what proves it, or DANE is switched off.
    Off,
}

impl DnssecFacts {
    /// The word for it in the API.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Proven => "proven",
            Self::Unproven => "unproven",
            Self::Off => "off",
        }
    }
}

/// What MTA-STS says of a domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StsFacts {
    /// What stands in DNS: the id of the policy, that there is none, or that nobody answers.
    pub record: String,
    /// The policy that is kept; `None` where there is none.
    pub policy: Option<StsPolicy>,
    /// Why the policy could not be fetched last time; `None` where that went well.
    pub trouble: Option<String>,
}

/// A policy of MTA-STS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StsPolicy {
    /// Its mode: `enforce`, `testing` or `none`.
    pub mode: String,
    /// The hosts that it names, as patterns.
    pub mx: Vec<String>,
    /// Its id.
    pub id: String,
    /// When it was fetched.
    pub fetched_at: Time,
    /// When it is forgotten unless it is fetched again.
    pub expires_at: Time,
}

/// How a host would be spoken to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsHost {
    /// Its name, with the port.
    pub name: String,
    /// The TLSA records that count, as in a zone file.
    pub records: Vec<String>,
    /// Where these stand; `None` where there are none.
    pub records_at: Option<String>,
    /// How the connection would have to be protected, or why there would be none.
    pub policy: Result<TlsPolicy, String>,
}

impl TlsHost {
    /// What would be done, one clause.
    pub fn words(&self) -> String {
        use merpati_mail::TlsDemand::{Certified, Clear, Dane, Encrypted, Opportunistic};
        let policy = match &self.policy {
            Ok(policy) => policy,
            Err(why) => return format!("it is not tried: {why}"),
        };
        let demand = match policy.demand {
            Clear => "in the clear",
            Opportunistic => "over TLS with any certificate where it is offered, else in the clear",
            Encrypted => "over TLS with any certificate, or not at all",
            Certified => {
                "over TLS with a certificate for its name from a trusted CA, or not at all"
            }
            Dane => "over TLS with a certificate that its TLSA records name, or not at all",
        };
        match policy.asks() {
            Some(who) => format!("{demand}; asked for by {who}"),
            None if policy.source == TlsSource::MtaStsTesting => {
                format!("{demand}; the MTA-STS policy of the domain is only being tested")
            }
            None => demand.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use merpati_mail::TlsDemand;

    use super::*;

    #[test]
    fn each_policy_is_told_with_who_asks_for_it() {
        let host = |policy| TlsHost {
            name: "mx.example:25".to_owned(),
            records: Vec::new(),
            records_at: None,
            policy,
        };
        let of = |demand, source| Ok(TlsPolicy { demand, source });
        for (policy, want) in [
            (of(TlsDemand::Dane, TlsSource::Dane), "asked for by DANE"),
            (of(TlsDemand::Certified, TlsSource::MtaSts), "asked for by the MTA-STS policy"),
            (of(TlsDemand::Opportunistic, TlsSource::Route), "else in the clear"),
            (of(TlsDemand::Opportunistic, TlsSource::MtaStsTesting), "only being tested"),
            (Err("it is down".to_owned()), "it is not tried: it is down"),
        ] {
            let words = host(policy.clone()).words();
            assert!(words.contains(want), "{policy:?}: {words}");
        }
    }
}
