//! The records of a domain: which are to be published, and what DNS says in their place.
//!
//! Invariant: what could not be asked is never called missing. Pure.

use std::{fmt::Write as _, net::IpAddr};

use merpati_auth::{
    KeyKind, check_key_record, dmarc,
    dns::{Answer, Known, Missing, Question},
    spf::{self, Client, SpfResult},
};
use merpati_mail::Domain;

use super::{SendingDomain, Stage};

/// What is known of the host.
#[derive(Clone, Debug)]
pub struct Host {
    /// Its name.
    pub hostname: Domain,
    /// The addresses that mail leaves from; empty where the system chooses.
    pub addresses: Vec<IpAddr>,
    /// Whether mail for the domain comes to it.
    pub takes_mail: bool,
}

/// A record that is to be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// What it is for.
    pub purpose: Purpose,
    /// Its name, without a dot at its end.
    pub name: String,
    /// What it says: a text, or preference and host.
    pub value: String,
}

/// What a record is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// What is to be done with mail that only claims to be from the domain.
    Dmarc,
    /// A key, by its selector, what becomes of it, and its kind.
    Key(String, Stage, KeyKind),
    /// Where mail for the domain goes.
    Mx,
    /// Who may send for the domain.
    Spf,
}

impl Purpose {
    /// In a word.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Dmarc => "DMARC",
            Self::Key(..) => "DKIM",
            Self::Mx => "MX",
            Self::Spf => "SPF",
        }
    }

    /// The type of the record.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Dmarc | Self::Key(..) | Self::Spf => "TXT",
            Self::Mx => "MX",
        }
    }
}

/// The records that a domain is to have.
pub fn wanted(domain: &SendingDomain, host: &Host) -> Vec<Record> {
    let name = domain.name.to_string();
    let mut records = Vec::new();
    let mut spf = String::from("v=spf1");
    for address in &host.addresses {
        let family = if address.is_ipv4() { "ip4" } else { "ip6" };
        // A string takes anything.
        write!(spf, " {family}:{address}").ok();
    }
    if host.addresses.is_empty() {
        write!(spf, " a:{}", host.hostname).ok();
    }
    spf.push_str(" ~all");
    records.push(Record { purpose: Purpose::Spf, name: name.clone(), value: spf });
    records.extend(domain.keys.iter().map(|key| Record {
        purpose: Purpose::Key(key.selector.clone(), key.stage, key.kind()),
        name: format!("{}._domainkey.{name}", key.selector),
        value: key.record(),
    }));
    records.push(Record {
        purpose: Purpose::Dmarc,
        name: format!("_dmarc.{name}"),
        value: format!("v=DMARC1; p=none; rua=mailto:postmaster@{name}"),
    });
    if host.takes_mail {
        let value = format!("10 {}", host.hostname);
        records.push(Record { purpose: Purpose::Mx, name, value });
    }
    records
}

/// The lines of a zone file (RFC 1035 §5); texts in strings of 255 octets at most.
pub fn zone(records: &[Record]) -> String {
    let mut zone = String::new();
    for Record { purpose, name, value } in records {
        let data = match purpose.kind() {
            "MX" => format!("{value}."),
            _ => strings(value),
        };
        writeln!(zone, "{name}. 3600 IN {} {data}", purpose.kind()).ok();
    }
    zone
}

fn strings(value: &str) -> String {
    let pieces = value.as_bytes().chunks(STRING_OCTETS_MAX);
    let quoted = pieces.map(|piece| format!("\"{}\"", String::from_utf8_lossy(piece)));
    quoted.collect::<Vec<_>>().join(" ")
}

/// How a record stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is there, and says something else.
    Differs,
    /// It is as it should be.
    Good,
    /// It is not there.
    Missing,
    /// The DNS did not say.
    Unknown,
}

impl Standing {
    /// In a word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Differs => "differs",
            Self::Good => "good",
            Self::Missing => "missing",
            Self::Unknown => "unknown",
        }
    }
}

/// What DNS says of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// How it stands.
    pub standing: Standing,
    /// What that means, and what to do, in words; empty where nothing is to be done or said.
    pub words: String,
}

impl Judgement {
    fn new(standing: Standing, words: impl Into<String>) -> Self {
        Self { standing, words: words.into() }
    }
}

/// What DNS says of a record that is wanted.
pub fn judge(known: &Known, record: &Record, host: &Host) -> Result<Judgement, Missing> {
    match &record.purpose {
        Purpose::Dmarc => judge_dmarc(known, record),
        Purpose::Key(_, stage, kind) => judge_key(known, record, (*stage, *kind)),
        Purpose::Mx => judge_mx(known, record, host),
        Purpose::Spf => judge_spf(known, record, host),
    }
}

fn judge_key(
    known: &Known,
    record: &Record,
    (stage, kind): (Stage, KeyKind),
) -> Result<Judgement, Missing> {
    let answer = known.get(Question::Txt(record.name.to_lowercase()))?;
    let texts = match answer {
        Answer::Texts(texts) => texts,
        Answer::Unknown => return Ok(Judgement::new(Standing::Unknown, "the DNS does not answer")),
        Answer::Addresses(_)
        | Answer::Exchanges(_)
        | Answer::Names(_)
        | Answer::NoName
        | Answer::Nothing => {
            let words = match stage {
                Stage::New => "publish it; the key signs when it is seen",
                Stage::Signing => "publish it now: what is signed with this key cannot be proven",
                Stage::Retired => "put it back: mail that it signed may still be under way",
            };
            return Ok(Judgement::new(Standing::Missing, words));
        }
    };
    let public = |text: &str| {
        let value = text.split(';').find_map(|tag| tag.trim().strip_prefix("p="));
        value.map(|value| value.split_ascii_whitespace().collect::<String>())
    };
    let ours = public(&record.value);
    let is_ours = |text: &Vec<u8>| public(&String::from_utf8_lossy(text)) == ours;
    let mut published = texts.iter().filter(|text| is_ours(text));
    let unusable = published.find_map(|text| check_key_record(text, &record.name, kind).err());
    Ok(if let Some(why) = unusable {
        Judgement::new(Standing::Differs, format!("receivers cannot use it: {why}"))
    } else if texts.iter().all(is_ours) {
        Judgement::new(Standing::Good, "")
    } else if texts.iter().any(is_ours) {
        Judgement::new(Standing::Differs, "there are several records; leave only this one")
    } else {
        Judgement::new(Standing::Differs, "the key there is another; replace it")
    })
}

fn judge_spf(known: &Known, record: &Record, host: &Host) -> Result<Judgement, Missing> {
    let receiver = host.hostname.to_string();
    let mut addresses = host.addresses.clone();
    if addresses.is_empty()
        && let Answer::Addresses(found) = known.get(Question::A(receiver.to_lowercase()))?
    {
        addresses.clone_from(found);
    }
    let sender = format!("postmaster@{}", record.name);
    let mut worst: Option<(IpAddr, spf::SpfFinding)> = None;
    for address in addresses {
        let client = Client { address, helo: &receiver, receiver: &receiver, now: 0 };
        let finding = spf::check(known, &client, Some(&sender))?;
        let is_worse = |(_, other): &(IpAddr, spf::SpfFinding)| other.result == SpfResult::Pass;
        if worst.as_ref().is_none_or(is_worse) {
            worst = Some((address, finding));
        }
    }
    let Some((address, finding)) = worst else {
        let words = format!("{receiver} has no address, so nobody knows from where mail leaves");
        return Ok(Judgement::new(Standing::Unknown, words));
    };
    let terms = format!("{} of {} look-ups", finding.terms, spf::TERMS_MAX);
    let why = finding.why.unwrap_or_default();
    Ok(match finding.result {
        SpfResult::Pass => Judgement::new(Standing::Good, terms),
        SpfResult::None => Judgement::new(Standing::Missing, "publish it"),
        SpfResult::TempError => Judgement::new(Standing::Unknown, why),
        SpfResult::PermError => {
            Judgement::new(Standing::Differs, format!("receivers cannot use it: {why}"))
        }
        SpfResult::Fail | SpfResult::Neutral | SpfResult::SoftFail => {
            let words = format!("it does not let {address} send ({terms}); add it");
            Judgement::new(Standing::Differs, words)
        }
    })
}

fn judge_dmarc(known: &Known, record: &Record) -> Result<Judgement, Missing> {
    let author = record.name.strip_prefix("_dmarc.").unwrap_or(&record.name);
    let findings = dmarc::check(known, &[author.to_lowercase()], &[])?;
    let Some(finding) = findings.into_iter().next() else {
        return Ok(Judgement::new(Standing::Unknown, ""));
    };
    Ok(match (finding.result, finding.published_by) {
        (dmarc::DmarcResult::TempError, _) => {
            Judgement::new(Standing::Unknown, finding.why.unwrap_or_default())
        }
        (_, None) => Judgement::new(Standing::Missing, "publish it; nothing is refused by p=none"),
        (_, Some(by)) => {
            let next = match finding.policy {
                dmarc::Policy::None => {
                    "p=none: when its reports show only mail of yours, go on to p=quarantine"
                }
                dmarc::Policy::Quarantine => {
                    "p=quarantine: when nothing of yours is lost, go on to p=reject"
                }
                dmarc::Policy::Reject => "p=reject: nobody can write as you",
            };
            let of = if by == author { String::new() } else { format!(" (that of {by})") };
            Judgement::new(Standing::Good, format!("{next}{of}"))
        }
    })
}

fn judge_mx(known: &Known, record: &Record, host: &Host) -> Result<Judgement, Missing> {
    let hostname = host.hostname.to_string();
    Ok(match known.get(Question::Mx(record.name.to_lowercase()))? {
        Answer::Exchanges(hosts) if hosts.iter().any(|(_, name)| *name == hostname) => {
            Judgement::new(Standing::Good, "")
        }
        Answer::Exchanges(hosts) => {
            let names: Vec<_> = hosts.iter().map(|(_, name)| name.as_str()).collect();
            let words = format!("mail for the domain goes to {}", names.join(", "));
            Judgement::new(Standing::Differs, words)
        }
        Answer::Unknown => Judgement::new(Standing::Unknown, "the DNS does not answer"),
        Answer::Addresses(_)
        | Answer::Names(_)
        | Answer::NoName
        | Answer::Nothing
        | Answer::Texts(_) => {
            Judgement::new(Standing::Missing, "publish it, or no mail comes here")
        }
    })
}

/// Octets of one string of a text (RFC 1035 §3.3).
const STRING_OCTETS_MAX: usize = 255;

#[cfg(test)]
mod tests {
    use merpati_mail::Time;

    use super::*;

    fn setting() -> (SendingDomain, Host) {
        let name = Domain::parse("ours.example").unwrap();
        let domain = SendingDomain::new(name, Time::from_secs(1_790_000_000)).unwrap();
        let host = Host {
            hostname: Domain::parse("mx.ours.example").unwrap(),
            addresses: vec!["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()],
            takes_mail: true,
        };
        (domain, host)
    }

    #[test]
    fn the_records_are_the_exact_ones() {
        let (domain, host) = setting();
        let records = wanted(&domain, &host);
        let shown: Vec<_> =
            records.iter().map(|one| format!("{} {}", one.purpose.as_str(), one.name)).collect();
        let want = [
            "SPF ours.example",
            "DKIM m20260921r._domainkey.ours.example",
            "DKIM m20260921e._domainkey.ours.example",
            "DMARC _dmarc.ours.example",
            "MX ours.example",
        ];
        assert_eq!(shown, want);
        assert_eq!(records[0].value, "v=spf1 ip4:192.0.2.1 ip6:2001:db8::1 ~all");
        let zone = zone(&records);
        assert!(zone.contains("ours.example. 3600 IN MX 10 mx.ours.example.\n"), "{zone}");
        assert!(zone.lines().all(|line| line.split('"').all(|piece| piece.len() <= 255)), "{zone}");
        let nowhere = Host { addresses: Vec::new(), takes_mail: false, ..host };
        let records = wanted(&domain, &nowhere);
        assert_eq!(records[0].value, "v=spf1 a:mx.ours.example ~all");
        assert_eq!(records.len(), 4);
    }

    /// How each wanted record stands, with these texts in the DNS; MX lead where they should.
    fn standings(texts: &[(&str, Answer)]) -> Vec<(Standing, String)> {
        let (domain, host) = setting();
        let mut known = Known::default();
        let rsa = domain.keys[0].record();
        let answer = |question: &Question| {
            let Question::Txt(name) = question else {
                return Answer::Exchanges(vec![(10, "mx.ours.example".to_owned())]);
            };
            match texts.iter().find(|(of, _)| of == name).map(|(_, answer)| answer.clone()) {
                Some(Answer::Nothing) => Answer::Texts(vec![rsa.clone().into()]),
                Some(answer) => answer,
                None => Answer::NoName,
            }
        };
        let mut judged = |record: &Record| loop {
            match judge(&known, record, &host) {
                Ok(judgement) => return (judgement.standing, judgement.words),
                Err(missing) => {
                    let questions = missing.into_questions().into_iter();
                    known.extend(questions.map(|question| (question.clone(), answer(&question))));
                }
            }
        };
        let records = wanted(&domain, &host);
        records.iter().map(&mut judged).collect()
    }

    #[test]
    fn what_dns_says_is_put_into_words() {
        let text = |text: &str| Answer::Texts(vec![text.as_bytes().to_vec()]);
        let key = "m20260921r._domainkey.ours.example";
        let none = standings(&[]);
        let want = [
            Standing::Missing,
            Standing::Missing,
            Standing::Missing,
            Standing::Missing,
            Standing::Good,
        ];
        assert_eq!(none.iter().map(|(standing, _)| *standing).collect::<Vec<_>>(), want);
        // Nothing stands for our own key here.
        let good = standings(&[
            ("ours.example", text("v=spf1 ip4:192.0.2.0/24 ip6:2001:db8::/32 -all")),
            (key, Answer::Nothing),
            ("_dmarc.ours.example", text("v=DMARC1; p=quarantine")),
        ]);
        assert_eq!(good[0], (Standing::Good, "0 of 10 look-ups".to_owned()));
        assert_eq!(good[1].0, Standing::Good);
        assert!(good[3].1.contains("go on to p=reject"), "{good:?}");
        let bad = standings(&[
            ("ours.example", text("v=spf1 ip4:192.0.2.1 -all")),
            (key, text("v=DKIM1; k=rsa; p=AAAA")),
            ("_dmarc.ours.example", Answer::Unknown),
        ]);
        assert!(bad[0].1.contains("2001:db8::1"), "{bad:?}");
        assert_eq!(bad[1].0, Standing::Differs);
        assert_eq!(bad[3].0, Standing::Unknown);
        let wrong = standings(&[("ours.example", text("v=spf1 foo -all"))]);
        assert!(wrong[0].1.contains("cannot use it"), "{wrong:?}");
    }
}
