//! What DNS says of the records of a domain, and what that means in words.
//!
//! Invariant: what could not be asked is never called missing. Pure.

use std::net::IpAddr;

use merpati_auth::{
    KeyKind, check_key_record, dmarc,
    dns::{Answer, Known, Missing, Question},
    iprev::{self, IprevResult},
};

use super::{
    Stage,
    records::{Host, Leaving, Purpose, Record},
    spf,
};

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
    pub(super) fn new(standing: Standing, words: impl Into<String>) -> Self {
        Self { standing, words: words.into() }
    }
}

/// What DNS says of a record; `None` where it is only looked at and is not there, and for
/// [`Purpose::Tlsa`], which [`super::look`] asks for.
pub fn judge(known: &Known, record: &Record, host: &Host) -> Result<Option<Judgement>, Missing> {
    match &record.purpose {
        Purpose::Dmarc => judge_dmarc(known, record).map(Some),
        Purpose::Key(_, stage, kind) => key(known, record, (*stage, *kind)).map(Some),
        Purpose::MtaSts => judge_mta_sts(known, record),
        Purpose::MtaStsHost => judge_mta_sts_host(known, record).map(Some),
        Purpose::Mx => judge_mx(known, record, host).map(Some),
        Purpose::Ptr(address) => judge_ptr(known, record, *address).map(Some),
        Purpose::ReturnPath => judge_return_path(known, record).map(Some),
        Purpose::Spf => spf::judge(known, record, host).map(Some),
        Purpose::TlsRpt => judge_tls_rpt(known, record).map(Some),
        Purpose::Tlsa => Ok(None),
    }
}

/// From where mail leaves: what is configured, and the addresses of the name that is said in EHLO
/// where some leaves from elsewhere.
/// Empty also where the DNS does not answer.
pub fn leaving(known: &Known, host: &Host) -> Result<Vec<Leaving>, Missing> {
    let mut leaves = host.leaves.clone();
    if !host.is_chosen {
        return Ok(leaves);
    }
    let hello = host.hello.to_string().to_lowercase();
    for question in [Question::A(hello.clone()), Question::Aaaa(hello)] {
        if let Answer::Addresses(found) = known.get(question)? {
            let new = found.iter().filter(|it| host.leaves.iter().all(|old| old.address != **it));
            let from = |address: &IpAddr| Leaving { address: *address, hello: host.hello.clone() };
            leaves.extend(new.map(from));
        }
    }
    Ok(leaves)
}

/// What DNS says of the record of a key with this stage, of this kind.
pub(super) fn key(
    known: &Known,
    record: &Record,
    (stage, kind): (Stage, KeyKind),
) -> Result<Judgement, Missing> {
    let answer = known.get(Question::Txt(record.name.to_lowercase()))?;
    let texts = match answer {
        Answer::Texts(texts) => texts,
        Answer::Unknown => return Ok(silence()),
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
        Answer::Unknown => silence(),
        Answer::Addresses(_)
        | Answer::Names(_)
        | Answer::NoName
        | Answer::Nothing
        | Answer::Texts(_) => {
            Judgement::new(Standing::Missing, "publish it, or no mail comes here")
        }
    })
}

/// Whether reports of failures have somebody who takes them.
fn judge_return_path(known: &Known, record: &Record) -> Result<Judgement, Missing> {
    let name = record.name.to_lowercase();
    let nobody = "nobody takes mail for the domain, and so no bounces: publish an MX that leads to \
                  its mailboxes";
    Ok(match known.get(Question::Mx(name.clone()))? {
        Answer::Exchanges(hosts) if hosts.iter().all(|(_, name)| name.is_empty()) => {
            let words = "the domain says that it takes no mail: bounces are lost, and many refuse \
                         mail from it";
            Judgement::new(Standing::Differs, words)
        }
        Answer::Exchanges(hosts) => {
            let names: Vec<_> = hosts.iter().map(|(_, name)| name.as_str()).collect();
            Judgement::new(Standing::Good, format!("bounces go to {}", names.join(", ")))
        }
        Answer::Unknown => silence(),
        Answer::NoName => Judgement::new(Standing::Missing, nobody),
        Answer::Addresses(_) | Answer::Names(_) | Answer::Nothing | Answer::Texts(_) => {
            let mut answer = known.get(Question::A(name.clone()))?;
            if *answer == Answer::Nothing {
                answer = known.get(Question::Aaaa(name))?;
            }
            match answer {
                Answer::Addresses(_) => {
                    let words = "bounces go to the address of the domain: it has no MX";
                    Judgement::new(Standing::Good, words)
                }
                Answer::Unknown => silence(),
                Answer::Exchanges(_)
                | Answer::Names(_)
                | Answer::NoName
                | Answer::Nothing
                | Answer::Texts(_) => Judgement::new(Standing::Missing, nobody),
            }
        }
    })
}

/// Whether the name of an address is the one that is said in EHLO, and leads back.
fn judge_ptr(known: &Known, record: &Record, address: IpAddr) -> Result<Judgement, Missing> {
    let hello = record.value.to_lowercase();
    let ask = format!("ask who gave you {address} for a PTR to {hello}");
    let names = match known.get(Question::Ptr(address))? {
        Answer::Names(names) => names,
        Answer::Unknown => return Ok(silence()),
        Answer::Addresses(_)
        | Answer::Exchanges(_)
        | Answer::NoName
        | Answer::Nothing
        | Answer::Texts(_) => {
            let words = format!("{ask}: many refuse mail from an address without a name");
            return Ok(Judgement::new(Standing::Missing, words));
        }
    };
    let found = iprev::check(known, address)?;
    Ok(match (names.contains(&hello), found.result, found.name) {
        (_, IprevResult::TempError, _) => silence(),
        (true, IprevResult::Pass, _) => match leads_to(known, &hello, address)? {
            Some(true) => Judgement::new(Standing::Good, format!("EHLO says {hello}")),
            Some(false) => not_back(&hello, address),
            None => silence(),
        },
        (true, IprevResult::Fail | IprevResult::PermError, _) => not_back(&hello, address),
        (false, IprevResult::Pass, Some(name)) => {
            let words = format!(
                "it is {name}, and EHLO says {hello}: let one be the other (`egress.NAME.hello`)"
            );
            Judgement::new(Standing::Differs, words)
        }
        (false, IprevResult::Fail | IprevResult::PermError | IprevResult::Pass, _) => {
            let words = format!("it is {}, which does not lead back; {ask}", names.join(", "));
            Judgement::new(Standing::Differs, words)
        }
    })
}

fn not_back(hello: &str, address: IpAddr) -> Judgement {
    let kind = if address.is_ipv4() { "A" } else { "AAAA" };
    let words = format!("{hello} does not lead back to it: publish {hello} {kind} {address}");
    Judgement::new(Standing::Differs, words)
}

/// Whether a name has this address; `None` where the DNS does not answer.
fn leads_to(known: &Known, name: &str, address: IpAddr) -> Result<Option<bool>, Missing> {
    let name = name.to_owned();
    let question = if address.is_ipv4() { Question::A(name) } else { Question::Aaaa(name) };
    Ok(match known.get(question)? {
        Answer::Addresses(addresses) => Some(addresses.contains(&address)),
        Answer::Unknown => None,
        Answer::Exchanges(_)
        | Answer::Names(_)
        | Answer::NoName
        | Answer::Nothing
        | Answer::Texts(_) => Some(false),
    })
}

/// RFC 8461 §3.1. The policy is on the web: whether it is there cannot be seen here. Where the
/// relay serves one, the record is to announce this one.
fn judge_mta_sts(known: &Known, record: &Record) -> Result<Option<Judgement>, Missing> {
    let records = match versioned(known, record, "v=STSv1")? {
        Ok(records) => records,
        Err(judgement) => return Ok(Some(judgement)),
    };
    let domain = record.name.strip_prefix("_mta-sts.").unwrap_or(&record.name);
    Ok(match records.as_slice() {
        [] if record.value.is_empty() => None,
        [] => Some(Judgement::new(
            Standing::Missing,
            "publish it when the policy is there: others then insist on TLS as it says",
        )),
        [one] if !record.value.is_empty() => {
            let (theirs, ours) = (tag(one, "id="), tag(&record.value, "id="));
            Some(if theirs == ours {
                Judgement::new(Standing::Good, "")
            } else {
                let words = "the policy is another now, and who remembers the old one does not \
                             look again before the record says so: replace it";
                Judgement::new(Standing::Differs, words)
            })
        }
        [one] => Some(if let Some(id) = tag(one, "id=").filter(|id| is_sts_id(id)) {
            let words = format!(
                "id={id}: a web server of yours must serve the policy at \
                 https://mta-sts.{domain}/.well-known/mta-sts.txt; Merpati does it by [[mta_sts]]"
            );
            Judgement::new(Standing::Good, words)
        } else {
            let words = "it cannot be read: write v=STSv1; id=…; with letters and digits, 32 at \
                         most, or withdraw it";
            Judgement::new(Standing::Differs, words)
        }),
        _ => Some(Judgement::new(Standing::Differs, SEVERAL)),
    })
}

/// Whether the host of the policy is anywhere; whether that is here cannot be seen.
fn judge_mta_sts_host(known: &Known, record: &Record) -> Result<Judgement, Missing> {
    let name = record.name.to_lowercase();
    let mut is_silent = false;
    for question in [Question::A(name.clone()), Question::Aaaa(name)] {
        match known.get(question)? {
            Answer::Addresses(_) => return Ok(Judgement::new(Standing::Good, "")),
            Answer::Unknown => is_silent = true,
            Answer::Exchanges(_)
            | Answer::Names(_)
            | Answer::NoName
            | Answer::Nothing
            | Answer::Texts(_) => {}
        }
    }
    let words = "publish it, or an address: the policy is asked for at this host";
    Ok(if is_silent { silence() } else { Judgement::new(Standing::Missing, words) })
}

fn is_sts_id(id: &str) -> bool {
    (1..=32).contains(&id.len()) && id.bytes().all(|octet| octet.is_ascii_alphanumeric())
}

/// RFC 8460 §3.
fn judge_tls_rpt(known: &Known, record: &Record) -> Result<Judgement, Missing> {
    let records = match versioned(known, record, "v=TLSRPTv1")? {
        Ok(records) => records,
        Err(judgement) => return Ok(judgement),
    };
    Ok(match records.as_slice() {
        [] => Judgement::new(
            Standing::Missing,
            "publish it: others then tell when TLS with you fails",
        ),
        [one] => {
            let to = tag(one, "rua=").unwrap_or_default();
            let is_place =
                |uri: &str| ["mailto:", "https:"].iter().any(|kind| uri.starts_with(kind));
            if to.split(',').all(|uri| is_place(uri.trim())) {
                Judgement::new(Standing::Good, format!("reports go to {to}"))
            } else {
                let words = "it names nobody to report to: rua=mailto:… or rua=https:…";
                Judgement::new(Standing::Differs, words)
            }
        }
        _ => Judgement::new(Standing::Differs, SEVERAL),
    })
}

/// The texts of this version, or that the DNS does not answer.
fn versioned(
    known: &Known,
    record: &Record,
    version: &str,
) -> Result<Result<Vec<String>, Judgement>, Missing> {
    let texts = match known.get(Question::Txt(record.name.to_lowercase()))? {
        Answer::Texts(texts) => texts.as_slice(),
        Answer::Unknown => return Ok(Err(silence())),
        Answer::Addresses(_)
        | Answer::Exchanges(_)
        | Answer::Names(_)
        | Answer::NoName
        | Answer::Nothing => &[],
    };
    let texts = texts.iter().map(|text| String::from_utf8_lossy(text).into_owned());
    let is_one = |text: &String| text.split(';').next().is_some_and(|it| it.trim() == version);
    Ok(Ok(texts.filter(is_one).collect()))
}

fn tag<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.split(';').find_map(|tag| tag.trim().strip_prefix(name)).map(str::trim)
}

fn silence() -> Judgement {
    Judgement::new(Standing::Unknown, "the DNS does not answer")
}

const SEVERAL: &str = "there are several, so receivers look at none: leave one";

#[cfg(test)]
mod tests {
    use super::{
        super::records::{self, Choices, tests::setting, wanted, watched},
        *,
    };
    use crate::mta_sts::Policy;

    /// What the DNS holds: `TXT name text`, `MX name host`, `A name address`, `PTR address name`, a
    /// word in place of the last for one that does not answer; Nothing stands for a record of ours.
    fn answer(zone: &[&str], question: &Question) -> Answer {
        let key = match question {
            Question::Ptr(address) => format!("PTR {address}"),
            Question::A(_) | Question::Aaaa(_) | Question::Mx(_) | Question::Txt(_) => {
                question.to_string()
            }
        };
        let found: Vec<&str> =
            zone.iter().filter_map(|line| line.strip_prefix(&format!("{key} "))).collect();
        if found.contains(&"SERVFAIL") {
            return Answer::Unknown;
        }
        if found.is_empty() {
            return Answer::NoName;
        }
        let texts = |found: &[&str]| found.iter().map(|&text| text.to_owned()).collect::<Vec<_>>();
        match question {
            Question::A(_) | Question::Aaaa(_) => {
                Answer::Addresses(found.iter().map(|text| text.parse().unwrap()).collect())
            }
            Question::Mx(_) => {
                Answer::Exchanges(texts(&found).into_iter().map(|host| (10, host)).collect())
            }
            Question::Ptr(_) => Answer::Names(texts(&found)),
            Question::Txt(_) => {
                Answer::Texts(texts(&found).into_iter().map(String::into_bytes).collect())
            }
        }
    }

    fn judged(zone: &[&str], record: &Record, host: &Host) -> Option<(Standing, String)> {
        let mut known = Known::default();
        loop {
            match judge(&known, record, host) {
                Ok(judgement) => return judgement.map(|it| (it.standing, it.words)),
                Err(missing) => {
                    let questions = missing.into_questions().into_iter();
                    known.extend(questions.map(|it| (it.clone(), answer(zone, &it))));
                }
            }
        }
    }

    /// How the record for this purpose stands.
    #[track_caller]
    fn check(purpose: &str, zone: &[&str], want: Standing, words: &str) {
        let (domain, host) = setting();
        let host = Host { takes_mail: purpose != "return-path", ..host };
        let all = [wanted(&domain, &host, Choices::default()), watched(&domain, &host)].concat();
        let record = all.iter().find(|record| record.purpose.as_str() == purpose).unwrap();
        let own = format!("TXT {} {}", record.name, record.value);
        let zone: Vec<&str> =
            zone.iter().map(|line| if *line == "own" { &own } else { *line }).collect();
        let (standing, said) = judged(&zone, record, &host).unwrap();
        assert!(
            standing == want && said.contains(words),
            "{purpose} {zone:?}: {standing:?} {said}"
        );
    }

    #[test]
    fn what_dns_says_of_keys_and_policies_is_put_into_words() {
        let key = "m20260921r._domainkey.ours.example";
        check("DKIM", &[], Standing::Missing, "signs when it is seen");
        check("DKIM", &["own"], Standing::Good, "");
        let other = format!("TXT {key} v=DKIM1; k=rsa; p=AAAA");
        check("DKIM", &[&other], Standing::Differs, "another");
        check("DKIM", &["own", &other], Standing::Differs, "several");
        check("DKIM", &[&format!("TXT {key} SERVFAIL")], Standing::Unknown, "not answer");
        check("DMARC", &[], Standing::Missing, "publish it");
        let dmarc = |policy: &str| format!("TXT _dmarc.ours.example {policy}");
        check("DMARC", &[&dmarc("v=DMARC1; p=none")], Standing::Good, "go on to p=quarantine");
        check("DMARC", &[&dmarc("v=DMARC1; p=quarantine")], Standing::Good, "go on to p=reject");
        check("DMARC", &[&dmarc("SERVFAIL")], Standing::Unknown, "");
    }

    #[test]
    fn what_dns_says_of_who_may_send_is_put_into_words() {
        let spf = |text: &str| format!("TXT ours.example {text}");
        check("SPF", &[], Standing::Missing, "publish it");
        let good = spf("v=spf1 ip4:192.0.2.0/24 ip6:2001:db8::/32 -all");
        check("SPF", &[&good, "TXT ours.example other"], Standing::Good, "0 of 10 look-ups");
        check("SPF", &[&spf("v=spf1 foo -all")], Standing::Differs, "cannot use it");
        check("SPF", &[&good, &good], Standing::Differs, "several");
        check("SPF", &[&spf("SERVFAIL")], Standing::Unknown, "");
        // What is there is kept; only what is missing is added.
        let some = [
            &*spf("V=spf1  ip4:192.0.2.1 include:other.example ~all"),
            "TXT other.example v=spf1 a mx -all",
        ];
        let want = "2001:db8::1 send (3 of 10 look-ups); publish instead: \
                    V=spf1 ip6:2001:db8::1 ip4:192.0.2.1 include:other.example ~all";
        check("SPF", &some, Standing::Differs, want);
        let redirect = [&*spf("v=spf1 redirect=other.example"), "TXT other.example v=spf1 -all"];
        let want = "v=spf1 ip4:192.0.2.1 ip6:2001:db8::1 redirect=other.example";
        check("SPF", &redirect, Standing::Differs, want);
    }

    #[test]
    fn who_asks_too_much_learns_where_it_comes_from() {
        let ask = |name: &str, terms: usize| {
            // Names that exist: asking in vain is another limit.
            format!("TXT {name} v=spf1{} -all", " a:mx.ours.example".repeat(terms))
        };
        let (many, few) = (ask("many.example", 6), ask("few.example", 2));
        let rest = "include:many.example ?include:few.example mx a/24 ~all";
        let spf = |own: &str| format!("TXT ours.example v=spf1 {own}{rest}");
        let mut zone = vec![many, few, "A ours.example 192.0.2.99".to_owned()];
        zone.push("MX ours.example mx.ours.example".to_owned());
        zone.push("A mx.ours.example 198.51.100.1".to_owned());
        let costs = "12 look-ups, and receivers give up after 10: include:many.example 7, \
                     include:few.example 3, mx 1, a/24 1";
        let whole = |own: &str| [zone.clone(), vec![spf(own)]].concat();
        let lines = whole("ip4:192.0.2.1 ip6:2001:db8::1 ");
        check(
            "SPF",
            &lines.iter().map(String::as_str).collect::<Vec<_>>(),
            Standing::Differs,
            costs,
        );
        let lines = whole("");
        let instead = "publish instead: v=spf1 ip4:192.0.2.1 ip6:2001:db8::1 include:many.example";
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        check("SPF", &lines, Standing::Differs, instead);
    }

    #[test]
    fn the_name_of_an_address_is_the_one_in_ehlo_and_leads_back() {
        let (ptr, back) = ("PTR 192.0.2.1 mx.ours.example", "A mx.ours.example 192.0.2.1");
        check("PTR", &[ptr, back], Standing::Good, "EHLO says mx.ours.example");
        check("PTR", &[back], Standing::Missing, "ask who gave you 192.0.2.1");
        check("PTR", &[ptr], Standing::Differs, "publish mx.ours.example A 192.0.2.1");
        check("PTR", &[ptr, "A mx.ours.example 192.0.2.2"], Standing::Differs, "publish");
        let other = ["PTR 192.0.2.1 host.isp.example", "A host.isp.example 192.0.2.1"];
        check("PTR", &other, Standing::Differs, "it is host.isp.example, and EHLO says");
        check("PTR", &other[..1], Standing::Differs, "does not lead back");
        let both = [&other[..], &[ptr]].concat();
        check("PTR", &both, Standing::Differs, "publish mx.ours.example A");
        check("PTR", &[&both[..], &[back]].concat(), Standing::Good, "");
        check("PTR", &["PTR 192.0.2.1 SERVFAIL"], Standing::Unknown, "");
        check("PTR", &[ptr, "A mx.ours.example SERVFAIL"], Standing::Unknown, "");
    }

    #[test]
    fn reports_and_bounces_have_somebody_who_takes_them() {
        let rpt = |text: &str| format!("TXT _smtp._tls.ours.example {text}");
        check("TLS-RPT", &[], Standing::Missing, "publish it");
        let good = rpt("v=TLSRPTv1; rua=https://x.example/r,mailto:a@x.example");
        check("TLS-RPT", &[&good], Standing::Good, "mailto:a@x.example");
        check("TLS-RPT", &[&good, &good], Standing::Differs, "several");
        check("TLS-RPT", &[&rpt("v=TLSRPTv1;")], Standing::Differs, "nobody");
        check("TLS-RPT", &[&rpt("v=TLSRPTv2; rua=mailto:a@x.example")], Standing::Missing, "");
        check("TLS-RPT", &[&rpt("SERVFAIL")], Standing::Unknown, "");
        let mx = "MX ours.example mail.host.example";
        check("return-path", &[mx], Standing::Good, "bounces go to mail.host.example");
        check("return-path", &[], Standing::Missing, "nobody takes");
        check("return-path", &["MX ours.example "], Standing::Differs, "takes no mail");
        check("return-path", &["MX ours.example SERVFAIL"], Standing::Unknown, "");
    }

    #[test]
    fn a_policy_on_the_web_is_not_missed_but_told_of() {
        let sts = |text: &str| format!("TXT _mta-sts.ours.example {text}");
        check(
            "MTA-STS",
            &[&sts("v=STSv1; id=20261130T0;")],
            Standing::Good,
            "must serve the policy",
        );
        for wrong in ["v=STSv1;", "v=STSv1; id=", "v=STSv1; id=2026-11-30", "v=STSv1; ID=1"] {
            check("MTA-STS", &[&sts(wrong)], Standing::Differs, "cannot be read");
        }
        let good = sts("v=STSv1; id=1");
        check("MTA-STS", &[&good, &good], Standing::Differs, "several");
        let (domain, host) = setting();
        for record in watched(&domain, &host) {
            assert_eq!(judged(&[], &record, &host), None, "{record:?}");
        }
        // Nobody is told to publish it.
        let all = records::zone(&wanted(&domain, &host, Choices::default()));
        assert!(!all.contains("mta-sts"), "{all}");
    }

    #[test]
    fn a_policy_that_is_served_must_be_announced_as_it_is() {
        let (domain, host) = setting();
        let policy = Policy { domains: vec![domain.name.clone()], text: "a".to_owned() };
        let host = Host { policy: Some(policy.clone()), ..host };
        let all = wanted(&domain, &host, Choices::default());
        let of = |purpose| all.iter().find(|record| record.purpose == purpose).unwrap();
        let standing = |zone: &[&str], purpose| judged(zone, of(purpose), &host).unwrap().0;
        let sts = |text: &str| format!("TXT _mta-sts.ours.example {text}");
        for (zone, want) in [
            (vec![], Standing::Missing),
            (vec![sts(&policy.record())], Standing::Good),
            (vec![sts("v=STSv1; id=1;")], Standing::Differs),
            (vec![sts("v=STSv1")], Standing::Differs),
            (vec![sts(&policy.record()), sts("v=STSv1; id=1;")], Standing::Differs),
            (vec![sts("SERVFAIL")], Standing::Unknown),
        ] {
            let zone: Vec<&str> = zone.iter().map(String::as_str).collect();
            assert_eq!(standing(&zone, Purpose::MtaSts), want, "{zone:?}");
        }
        let at = "mta-sts.ours.example";
        for (line, want) in [
            (format!("A {at} 192.0.2.9"), Standing::Good),
            (format!("AAAA {at} 2001:db8::9"), Standing::Good),
            (format!("A {at} SERVFAIL"), Standing::Unknown),
            (String::new(), Standing::Missing),
        ] {
            assert_eq!(standing(&[&line], Purpose::MtaStsHost), want, "{line}");
        }
    }

    #[test]
    fn where_the_system_chooses_mail_leaves_from_the_name_in_ehlo() {
        let (_, host) = setting();
        let host = Host { leaves: Vec::new(), is_chosen: true, ..host };
        let zone = ["A mx.ours.example 192.0.2.1", "AAAA mx.ours.example 2001:db8::1"];
        let mut known = Known::default();
        let leaves = loop {
            match leaving(&known, &host) {
                Ok(leaves) => break leaves,
                Err(missing) => {
                    let questions = missing.into_questions().into_iter();
                    known.extend(questions.map(|it| (it.clone(), answer(&zone, &it))));
                }
            }
        };
        assert_eq!(leaves, setting().1.leaves);
        let both = Host { leaves: leaves[..1].to_vec(), ..host };
        assert_eq!(leaving(&known, &both).unwrap(), leaves);
    }
}
