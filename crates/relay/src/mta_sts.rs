//! The policies of MTA-STS for our own domains: their text, and the record that announces them.
//!
//! Invariant: two policies that differ have different ids, so who remembers one learns of the
//! other (RFC 8461 §3.1). Pure.

use std::fmt::Write as _;

use aws_lc_rs::digest;
use merpati_mail::Domain;

use crate::config::{Config, https::MxPattern, https::StsEntry};

/// A policy, ready to be served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// The domains that it is about.
    pub domains: Vec<Domain>,
    /// Its text (RFC 8461 §3.2).
    pub text: String,
}

impl Policy {
    /// The one of this entry, for a relay of this name.
    pub fn of(entry: &StsEntry, hostname: &Domain) -> Self {
        let own = MxPattern::of(hostname);
        let hosts = if entry.mx.is_empty() { own.as_slice() } else { entry.mx.as_slice() };
        let mut text = format!("version: STSv1\r\nmode: {}\r\n", entry.mode.word());
        for host in hosts {
            // A string takes anything.
            write!(text, "mx: {host}\r\n").ok();
        }
        write!(text, "max_age: {}\r\n", entry.max_age.as_secs()).ok();
        Self { domains: entry.domains.clone(), text }
    }

    /// The policy for a domain; `None` where there is none.
    pub fn for_domain(config: &Config, domain: &Domain) -> Option<Self> {
        let entry = config.policies.iter().find(|entry| entry.domains.contains(domain))?;
        Some(Self::of(entry, &config.server.hostname))
    }

    /// What `_mta-sts.DOMAIN` says of it (RFC 8461 §3.1).
    pub fn record(&self) -> String {
        format!("v=STSv1; id={};", self.id())
    }

    /// The first octets of its SHA-256, as letters and digits; 32 of them may be at most.
    fn id(&self) -> String {
        let sum = digest::digest(&digest::SHA256, self.text.as_bytes());
        let mut id = String::new();
        for octet in sum.as_ref().iter().take(ID_OCTETS) {
            write!(id, "{octet:02x}").ok();
        }
        id
    }
}

/// The host at which the policy of a domain is asked for (RFC 8461 §3.3).
pub fn host(domain: &Domain) -> String {
    format!("{PREFIX}{domain}")
}

/// Whose policy is asked for at a host; `None` where that is no host of policies.
pub fn domain_at(host: &str) -> Option<Domain> {
    Domain::parse(host.strip_prefix(PREFIX)?).ok()
}

/// Where the policy is at its host (RFC 8461 §3.3).
pub const PATH: &str = "/.well-known/mta-sts.txt";
/// How long a policy may be remembered, in seconds (RFC 8461 §3.2).
pub const MAX_AGE_SECS_MAX: u64 = 31_557_600;
const PREFIX: &str = "mta-sts.";
/// Octets of a sum in an id; each is two letters.
const ID_OCTETS: usize = 10;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::config::Source;

    fn policies(text: &str) -> Vec<Policy> {
        let text = format!("[https]\nlisten = \"127.0.0.1:0\"\n{text}");
        let source = Source { name: "merpati.toml".to_owned(), text };
        let settings = ["server.hostname=mx.ours.example".to_owned()];
        let config = Config::of(vec![source], &BTreeMap::new(), &settings).unwrap();
        let of = |entry| Policy::of(entry, &config.server.hostname);
        config.policies.iter().map(of).collect()
    }

    #[test]
    fn a_policy_is_written_as_the_rfc_has_it() {
        let all = policies(
            "[[mta_sts]]\nname = \"a\"\ndomains = [\"ours.example\"]\n\
             [[mta_sts]]\nname = \"b\"\ndomains = [\"b.example\"]\nmode = \"enforce\"\n\
             mx = [\"mx1.b.example\", \"*.b.example\"]\nmax_age = \"1 d\"\n",
        );
        let want = "version: STSv1\r\nmode: testing\r\nmx: mx.ours.example\r\nmax_age: 604800\r\n";
        assert_eq!(all[0].text, want);
        let want = "version: STSv1\r\nmode: enforce\r\nmx: mx1.b.example\r\nmx: *.b.example\r\n\
                    max_age: 86400\r\n";
        assert_eq!(all[1].text, want);
        let record = all[0].record();
        let id = record.strip_prefix("v=STSv1; id=").unwrap().strip_suffix(';').unwrap();
        assert!(id.len() <= 32 && id.bytes().all(|octet| octet.is_ascii_alphanumeric()), "{id}");
        assert_ne!(record, all[1].record());
    }

    #[test]
    fn a_policy_is_asked_for_at_the_host_of_its_domain() {
        let ours = Domain::parse("ours.example").unwrap();
        assert_eq!(domain_at(&host(&ours)), Some(ours));
        for other in ["ours.example", "mta-sts.", "mta-sts", "www.mta-sts.ours.example"] {
            assert_eq!(domain_at(other), None, "{other}");
        }
    }
}
