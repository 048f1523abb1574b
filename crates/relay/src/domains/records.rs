//! The records of a domain and of its host: which are to be published, and how they are written.
//!
//! Pure. What DNS says in their place is judged in [`super::judge`].

use std::{fmt::Write as _, net::IpAddr};

use merpati_auth::{KeyKind, dmarc};
use merpati_flow::admit::lists;
use merpati_mail::Domain;

use super::{SendingDomain, Stage, tlsa::Shown};
use crate::mta_sts::{self, Policy};

/// What is known of the host.
#[derive(Clone, Debug)]
pub struct Host {
    /// Its name.
    pub hostname: Domain,
    /// From where mail leaves, as far as others see these addresses.
    pub leaves: Vec<Leaving>,
    /// Whether some mail leaves from elsewhere: the system chooses, or a router translates. That is
    /// what the name in EHLO leads to.
    pub is_chosen: bool,
    /// What is said in EHLO where the system chooses.
    pub hello: Domain,
    /// Whether mail for the domain comes to it.
    pub takes_mail: bool,
    /// The certificate that it shows to who delivers.
    pub shown: Shown,
    /// The policy of MTA-STS that it serves for the domain; `None` where it serves none.
    pub policy: Option<Policy>,
}

/// From where mail leaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaving {
    /// The address.
    pub address: IpAddr,
    /// What is said in EHLO there.
    pub hello: Domain,
}

/// A record that is to be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// What it is for.
    pub purpose: Purpose,
    /// Its name, without a dot at its end.
    pub name: String,
    /// What it says: a text, preference and host, a name, or numbers; empty where it is only looked
    /// at.
    pub value: String,
}

/// What a record is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// What is to be done with mail that only claims to be from the domain.
    Dmarc,
    /// A key, by its selector, what becomes of it, and its kind.
    Key(String, Stage, KeyKind),
    /// That who delivers must use TLS, by a policy on the web.
    MtaSts,
    /// The host that serves this policy.
    MtaStsHost,
    /// Where mail for the domain goes.
    Mx,
    /// The name of an address that mail leaves from. Who gives the address publishes it.
    Ptr(IpAddr),
    /// Where reports of failures go, where the domain gets its mail elsewhere.
    ReturnPath,
    /// Who may send for the domain.
    Spf,
    /// Where others report that TLS with us fails.
    TlsRpt,
    /// Which certificate the host shows.
    Tlsa,
}

impl Purpose {
    /// In a word.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Dmarc => "DMARC",
            Self::Key(..) => "DKIM",
            Self::MtaSts => "MTA-STS",
            Self::MtaStsHost => "MTA-STS-host",
            Self::Mx => "MX",
            Self::Ptr(_) => "PTR",
            Self::ReturnPath => "return-path",
            Self::Spf => "SPF",
            Self::TlsRpt => "TLS-RPT",
            Self::Tlsa => "TLSA",
        }
    }

    /// The type of the record.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Dmarc | Self::Key(..) | Self::MtaSts | Self::Spf | Self::TlsRpt => "TXT",
            Self::MtaStsHost => "CNAME",
            Self::Mx | Self::ReturnPath => "MX",
            Self::Ptr(_) => "PTR",
            Self::Tlsa => "TLSA",
        }
    }
}

/// What the operator chooses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choices {
    /// How far he is with DMARC.
    pub dmarc: dmarc::Policy,
    /// Whether who delivers is told by DANE which certificate the host shows.
    pub tlsa: bool,
}

impl Default for Choices {
    fn default() -> Self {
        Self { dmarc: dmarc::Policy::None, tlsa: false }
    }
}

/// The records that a domain and its host are to have.
pub fn wanted(domain: &SendingDomain, host: &Host, choices: Choices) -> Vec<Record> {
    let name = domain.name.to_string();
    let addresses: Vec<IpAddr> = host.leaves.iter().map(|leaving| leaving.address).collect();
    let mut terms = spf_terms(&addresses, host);
    if host.is_chosen && !addresses.is_empty() {
        terms.extend(spf_terms(&[], host));
    }
    let terms = terms.join(" ");
    let mut records = vec![Record {
        purpose: Purpose::Spf,
        name: name.clone(),
        value: format!("v=spf1 {terms} ~all"),
    }];
    records.extend(keys(domain));
    let policy = match choices.dmarc {
        dmarc::Policy::None => "none",
        dmarc::Policy::Quarantine => "quarantine",
        dmarc::Policy::Reject => "reject",
    };
    records.push(Record {
        purpose: Purpose::Dmarc,
        name: format!("_dmarc.{name}"),
        value: format!("v=DMARC1; p={policy}; rua=mailto:postmaster@{name}"),
    });
    if host.takes_mail {
        let value = format!("10 {}", host.hostname);
        records.push(Record { purpose: Purpose::Mx, name: name.clone(), value });
        records.push(Record {
            purpose: Purpose::TlsRpt,
            name: format!("_smtp._tls.{name}"),
            value: format!("v=TLSRPTv1; rua=mailto:postmaster@{name}"),
        });
    }
    if let Some(policy) = &host.policy {
        records.push(Record {
            purpose: Purpose::MtaStsHost,
            name: mta_sts::host(&domain.name),
            value: host.hostname.to_string(),
        });
        let (name, value) = (format!("_mta-sts.{name}"), policy.record());
        records.push(Record { purpose: Purpose::MtaSts, name, value });
    }
    if choices.tlsa {
        let of_host = |value| Record { purpose: Purpose::Tlsa, name: tlsa_name(host), value };
        records.extend(host.shown.record().map(of_host));
    }
    records.extend(names(host));
    records
}

/// What is looked at in the DNS beside what is [`wanted`]; where it is not there, it is not missed.
pub fn watched(domain: &SendingDomain, host: &Host) -> Vec<Record> {
    let name = domain.name.to_string();
    let only_seen = |purpose, name| Record { purpose, name, value: String::new() };
    if !host.takes_mail {
        return vec![only_seen(Purpose::ReturnPath, name)];
    }
    let mut all = vec![only_seen(Purpose::Tlsa, tlsa_name(host))];
    if host.policy.is_none() {
        all.insert(0, only_seen(Purpose::MtaSts, format!("_mta-sts.{name}")));
    }
    all
}

/// The records of the keys.
pub fn keys(domain: &SendingDomain) -> impl Iterator<Item = Record> {
    domain.keys.iter().map(|key| Record {
        purpose: Purpose::Key(key.selector.clone(), key.stage, key.kind()),
        name: format!("{}._domainkey.{}", key.selector, domain.name),
        value: key.record(),
    })
}

/// The names of the addresses that mail leaves from.
pub fn names(host: &Host) -> impl Iterator<Item = Record> {
    host.leaves.iter().filter_map(|Leaving { address, hello }| {
        let name = lists::reverse_name(*address)?.to_string();
        Some(Record { purpose: Purpose::Ptr(*address), name, value: hello.to_string() })
    })
}

fn tlsa_name(host: &Host) -> String {
    format!("_25._tcp.{}", host.hostname)
}

/// What an SPF record needs so that these addresses may send; where the system chooses, those of
/// the host.
pub(super) fn spf_terms(addresses: &[IpAddr], host: &Host) -> Vec<String> {
    if addresses.is_empty() {
        return vec![format!("a:{}", host.hello)];
    }
    let term = |address: &IpAddr| {
        let family = if address.is_ipv4() { "ip4" } else { "ip6" };
        format!("{family}:{address}")
    };
    addresses.iter().map(term).collect()
}

/// The lines of a zone file (RFC 1035 §5); texts in strings of 255 octets at most. What stands in
/// other zones is a comment.
pub fn zone(records: &[Record]) -> String {
    let mut zone = String::new();
    for Record { purpose, name, value } in records {
        let data = match purpose {
            Purpose::MtaStsHost | Purpose::Mx | Purpose::Ptr(_) | Purpose::ReturnPath => {
                format!("{value}.")
            }
            Purpose::Tlsa => value.clone(),
            Purpose::Dmarc
            | Purpose::Key(..)
            | Purpose::MtaSts
            | Purpose::Spf
            | Purpose::TlsRpt => strings(value),
        };
        let before = match purpose {
            Purpose::Ptr(_) => "; PTR, at who gave you the address: ",
            Purpose::Tlsa => "; TLSA, only if the zone of this name is signed (DNSSEC):\n",
            Purpose::Dmarc
            | Purpose::Key(..)
            | Purpose::MtaSts
            | Purpose::MtaStsHost
            | Purpose::Mx
            | Purpose::ReturnPath
            | Purpose::Spf
            | Purpose::TlsRpt => "",
        };
        // A string takes anything.
        writeln!(zone, "{before}{name}. 3600 IN {} {data}", purpose.kind()).ok();
    }
    zone
}

fn strings(value: &str) -> String {
    let pieces = value.as_bytes().chunks(STRING_OCTETS_MAX);
    let quoted = pieces.map(|piece| format!("\"{}\"", String::from_utf8_lossy(piece)));
    quoted.collect::<Vec<_>>().join(" ")
}

/// Octets of one string of a text (RFC 1035 §3.3).
const STRING_OCTETS_MAX: usize = 255;

#[cfg(test)]
pub(super) mod tests {
    use merpati_mail::Time;

    use super::*;

    /// A domain with a pair of keys, and a host that takes mail for it and has two addresses.
    pub(in super::super) fn setting() -> (SendingDomain, Host) {
        let name = Domain::parse("ours.example").unwrap();
        let domain = SendingDomain::new(name, Time::from_secs(1_790_000_000)).unwrap();
        let hostname = Domain::parse("mx.ours.example").unwrap();
        let leaving =
            |address: &str| Leaving { address: address.parse().unwrap(), hello: hostname.clone() };
        let host = Host {
            leaves: vec![leaving("192.0.2.1"), leaving("2001:db8::1")],
            is_chosen: false,
            hello: hostname.clone(),
            hostname: hostname.clone(),
            takes_mail: true,
            shown: Shown::Nothing,
            policy: None,
        };
        (domain, host)
    }

    #[test]
    fn the_records_are_the_exact_ones() {
        let (domain, host) = setting();
        let records = wanted(&domain, &host, Choices::default());
        let shown: Vec<_> =
            records.iter().map(|one| format!("{} {}", one.purpose.as_str(), one.name)).collect();
        let zeros = "0.".repeat(23);
        let want = [
            "SPF ours.example",
            "DKIM m20260921r._domainkey.ours.example",
            "DKIM m20260921e._domainkey.ours.example",
            "DMARC _dmarc.ours.example",
            "MX ours.example",
            "TLS-RPT _smtp._tls.ours.example",
            "PTR 1.2.0.192.in-addr.arpa",
            &format!("PTR 1.{zeros}8.b.d.0.1.0.0.2.ip6.arpa"),
        ];
        assert_eq!(shown, want);
        assert_eq!(records[0].value, "v=spf1 ip4:192.0.2.1 ip6:2001:db8::1 ~all");
        assert_eq!(records[5].value, "v=TLSRPTv1; rua=mailto:postmaster@ours.example");
        let written = zone(&records);
        let mx = "ours.example. 3600 IN MX 10 mx.ours.example.\n";
        assert!(written.contains(mx), "{written}");
        let short = |line: &str| line.split('"').all(|piece| piece.len() <= 255);
        assert!(written.lines().all(short), "{written}");
        // What is of another zone is a comment.
        let is_comment = |line: &str| line.starts_with("; PTR, ");
        let of_others = written.lines().filter(|line| line.contains(" IN PTR mx.ours.example."));
        assert_eq!(of_others.filter(|line| is_comment(line)).count(), 2, "{written}");
        let both = Host { is_chosen: true, ..host.clone() };
        let records = wanted(&domain, &both, Choices::default());
        assert!(
            records[0].value.ends_with("ip6:2001:db8::1 a:mx.ours.example ~all"),
            "{records:?}"
        );
        let nowhere = Host { leaves: Vec::new(), is_chosen: true, takes_mail: false, ..host };
        let records = wanted(&domain, &nowhere, Choices::default());
        assert_eq!(records[0].value, "v=spf1 a:mx.ours.example ~all");
        assert_eq!(records.len(), 4);
    }

    #[test]
    fn a_policy_that_is_served_is_announced_and_has_a_host() {
        let (domain, host) = setting();
        let only_seen = |host: &Host| {
            let all = watched(&domain, host);
            all.iter().map(|record| record.purpose.clone()).collect::<Vec<_>>()
        };
        assert_eq!(only_seen(&host), [Purpose::MtaSts, Purpose::Tlsa]);
        let policy = Policy { domains: vec![domain.name.clone()], text: "a".to_owned() };
        let host = Host { policy: Some(policy.clone()), ..host };
        assert_eq!(only_seen(&host), [Purpose::Tlsa]);
        let written = zone(&wanted(&domain, &host, Choices::default()));
        for line in [
            "mta-sts.ours.example. 3600 IN CNAME mx.ours.example.\n".to_owned(),
            format!("_mta-sts.ours.example. 3600 IN TXT \"{}\"\n", policy.record()),
        ] {
            assert!(written.contains(&line), "{written}");
        }
    }

    #[test]
    fn what_the_operator_chooses_is_written() {
        let (domain, host) = setting();
        let made = rcgen::generate_simple_self_signed(vec!["mx.ours.example".to_owned()]).unwrap();
        let with = Host { shown: Shown::Chain(vec![made.cert.der().clone()]), ..host.clone() };
        for (policy, want) in [
            (dmarc::Policy::None, "p=none;"),
            (dmarc::Policy::Quarantine, "p=quarantine;"),
            (dmarc::Policy::Reject, "p=reject;"),
        ] {
            let choices = Choices { dmarc: policy, tlsa: true };
            let records = wanted(&domain, &with, choices);
            assert!(records[3].value.contains(want), "{records:?}");
            let tlsa = records.iter().find(|one| one.purpose == Purpose::Tlsa).unwrap();
            assert_eq!(tlsa.name, "_25._tcp.mx.ours.example");
            let line = format!("_25._tcp.mx.ours.example. 3600 IN TLSA {}\n", tlsa.value);
            let written = zone(&records);
            assert!(written.contains(&line) && written.contains("DNSSEC"), "{written}");
            // Without a certificate there is nothing to publish.
            let records = wanted(&domain, &host, choices);
            assert!(records.iter().all(|one| one.purpose != Purpose::Tlsa), "{records:?}");
        }
    }
}
