//! Whether a host may send for a domain (SPF, RFC 7208).
//!
//! Invariant: at most [`TERMS_MAX`] terms ask, [`VOIDS_MAX`] of them in vain, and [`NAMES_MAX`]
//! names are looked at for each; a record that is not well-formed never lets anybody pass. Pure.

mod macros;
mod record;

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr},
};

use self::{
    macros::{MacroString, Values},
    record::{Masks, Mechanism, Record},
};
use crate::{
    dns::{Answer, Known, Missing, Question},
    iprev,
    names::{NAME_OCTETS_MAX, ascii, is_at_or_below, is_name},
};

/// What a domain says of a client (RFC 7208 §2.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SpfResult {
    /// It is not authorised.
    Fail,
    /// The domain does not say.
    Neutral,
    /// There is no record, or no domain to ask.
    None,
    /// It is authorised.
    Pass,
    /// The record cannot be understood, or asks for too much.
    PermError,
    /// It is probably not authorised.
    SoftFail,
    /// The DNS could not be asked just now.
    TempError,
}

impl SpfResult {
    /// As it stands in header fields (RFC 7208 §9.1, RFC 8601 §2.7.2).
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fail => "fail",
            Self::Neutral => "neutral",
            Self::None => "none",
            Self::Pass => "pass",
            Self::PermError => "permerror",
            Self::SoftFail => "softfail",
            Self::TempError => "temperror",
        }
    }
}

impl fmt::Display for SpfResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Who sends, as SPF asks (RFC 7208 §2.3, §2.4).
#[derive(Clone, Copy, Debug)]
pub struct Client<'a> {
    /// Its address. One of IPv4 in the clothes of IPv6 counts as what it is (§5).
    pub address: IpAddr,
    /// What it said in HELO or EHLO.
    pub helo: &'a str,
    /// Our own name, for explanations.
    pub receiver: &'a str,
    /// Seconds since 1970, for explanations.
    pub now: u64,
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpfFinding {
    /// The domain that was asked.
    pub domain: String,
    /// What it says.
    pub result: SpfResult,
    /// The mechanism that decided, such as `ip4` or `include`, and in whose record it stands;
    /// `None` where none did.
    pub by: Option<(&'static str, String)>,
    /// Why there is no other result, in words; `None` where the domain decided.
    pub why: Option<String>,
    /// What the domain says to those who fail: printable ASCII, at most
    /// [`EXPLANATION_OCTETS_MAX`] octets. A stranger's words: never without saying whose.
    pub explanation: Option<String>,
    /// How many terms asked the DNS.
    pub terms: usize,
}

/// Terms of one check that may ask the DNS (RFC 7208 §4.6.4).
pub const TERMS_MAX: usize = 10;
/// Terms of them that may ask in vain (§4.6.4).
pub const VOIDS_MAX: usize = 2;
/// Hosts of one `mx`, and names of one `ptr`, that are looked at (§4.6.4).
pub const NAMES_MAX: usize = iprev::NAMES_MAX;
/// Octets of an explanation that are kept.
pub const EXPLANATION_OCTETS_MAX: usize = 512;

/// `check_host()` for the domain of `sender`, or for the name in HELO where `sender` is `None`
/// (RFC 7208 §4). The sender is a mailbox as it is written.
pub fn check(
    known: &Known,
    client: &Client<'_>,
    sender: Option<&str>,
) -> Result<SpfFinding, Missing> {
    let client = Client { address: client.address.to_canonical(), ..*client };
    let (local, domain) = match sender {
        Some(sender) => sender.rsplit_once('@').unwrap_or(("", sender)),
        None => ("", client.helo),
    };
    // §4.3: who gives no local part is the postmaster.
    let local = if local.is_empty() { "postmaster" } else { local };
    let domain = ascii(domain);
    let mut finding = SpfFinding {
        domain: domain.clone(),
        result: SpfResult::None,
        by: None,
        why: None,
        explanation: None,
        terms: 0,
    };
    // What is not ASCII by now is in no zone (§4.3).
    if !(domain.is_ascii() && domain.contains('.') && is_name(&domain)) {
        finding.why = Some(format!("{domain} is no name of a domain"));
        return Ok(finding);
    }
    let sender = format!("{local}@{domain}");
    let mut walk = Walk { known, client, sender: &sender, terms: 0, voids: 0 };
    match walk.check(&domain) {
        Ok(found) => {
            finding.result = found.result;
            finding.by = found.by;
            if found.result == SpfResult::Fail {
                finding.explanation = walk.explanation(&found.domain, found.exp.as_ref())?;
            }
        }
        Err(Stop::Missing(missing)) => return Err(missing),
        Err(Stop::None(why)) => finding.why = Some(why),
        Err(Stop::Permanent(why)) => {
            (finding.result, finding.why) = (SpfResult::PermError, Some(why));
        }
        Err(Stop::Temporary(why)) => {
            (finding.result, finding.why) = (SpfResult::TempError, Some(why));
        }
    }
    finding.terms = walk.terms;
    Ok(finding)
}

/// Why a check does not end with what a record says.
#[derive(Debug)]
enum Stop {
    Missing(Missing),
    /// There is no record, and why.
    None(String),
    Permanent(String),
    Temporary(String),
}

impl From<Missing> for Stop {
    fn from(missing: Missing) -> Self {
        Self::Missing(missing)
    }
}

/// What a record says.
struct Found {
    result: SpfResult,
    by: Option<(&'static str, String)>,
    /// Whose record it is, after redirections, and where it explains itself.
    domain: String,
    exp: Option<MacroString>,
}

struct Walk<'a> {
    known: &'a Known,
    client: Client<'a>,
    sender: &'a str,
    terms: usize,
    voids: usize,
}

impl Walk<'_> {
    /// What the record of a domain says, redirections followed.
    fn check(&mut self, domain: &str) -> Result<Found, Stop> {
        let mut domain = domain.to_owned();
        let mut record = self.record(&domain)?;
        loop {
            for directive in &record.directives {
                if self.matches(&domain, &directive.mechanism)? {
                    let by = Some((directive.mechanism.name(), domain.clone()));
                    let (result, exp) = (directive.result, record.exp);
                    return Ok(Found { result, by, domain, exp });
                }
            }
            let Some(redirect) = &record.redirect else {
                return Ok(Found { result: SpfResult::Neutral, by: None, domain, exp: None });
            };
            self.count_term()?;
            if self.has_no_name_for(redirect) {
                let why = "redirect: no name can be made of the sender".to_owned();
                return Err(Stop::Permanent(why));
            }
            let target = self.expand(&domain, Some(redirect))?;
            record = self.record(&target).map_err(|stop| match stop {
                // §6.1
                Stop::None(why) => Stop::Permanent(format!("redirect: {why}")),
                stop @ (Stop::Missing(_) | Stop::Permanent(_) | Stop::Temporary(_)) => stop,
            })?;
            domain = target;
        }
    }

    /// The one record of a domain (§4.4, §4.5).
    fn record(&self, domain: &str) -> Result<Record, Stop> {
        if !is_name(domain) {
            return Err(Stop::None(format!("{domain} is no name")));
        }
        let question = Question::txt(domain);
        let texts = match self.known.get(question)? {
            Answer::Texts(texts) => texts,
            Answer::Unknown => {
                return Err(Stop::Temporary(format!("the DNS does not answer for TXT {domain}")));
            }
            Answer::Addresses(_)
            | Answer::Exchanges(_)
            | Answer::Names(_)
            | Answer::NoName
            | Answer::Nothing => return Err(Stop::None(format!("{domain} has no SPF record"))),
        };
        let mut records = texts.iter().filter(|text| record::is_record(text));
        let Some(record) = records.next() else {
            return Err(Stop::None(format!("{domain} has no SPF record")));
        };
        if records.next().is_some() {
            return Err(Stop::Permanent(format!("{domain} has several SPF records")));
        }
        let wrong = |why| Stop::Permanent(format!("the SPF record of {domain}: {why}"));
        Record::parse(record).map_err(wrong)
    }

    fn matches(&mut self, domain: &str, mechanism: &Mechanism) -> Result<bool, Stop> {
        let client = self.client.address;
        if mechanism.spec().is_some_and(|spec| self.has_no_name_for(spec)) {
            self.count_term()?;
            return Ok(false);
        }
        match mechanism {
            Mechanism::All => Ok(true),
            Mechanism::Ip4(address, mask) => Ok(match client {
                IpAddr::V4(client) => (client.to_bits() ^ address.to_bits()) & mask == 0,
                IpAddr::V6(_) => false,
            }),
            Mechanism::Ip6(address, mask) => Ok(match client {
                IpAddr::V4(_) => false,
                IpAddr::V6(client) => (client.to_bits() ^ address.to_bits()) & mask == 0,
            }),
            Mechanism::A(spec, masks) => {
                let target = self.target(domain, spec.as_ref())?;
                let addresses = self.addresses(&target, client, Counted::Yes)?;
                Ok(masks.hold(&addresses, client))
            }
            Mechanism::Mx(spec, masks) => {
                let target = self.target(domain, spec.as_ref())?;
                self.matches_mx(&target, *masks)
            }
            Mechanism::Include(spec) => {
                let target = self.target(domain, Some(spec))?;
                match self.check(&target) {
                    Ok(found) => Ok(found.result == SpfResult::Pass),
                    // §5.2
                    Err(Stop::None(why)) => Err(Stop::Permanent(format!("include: {why}"))),
                    Err(stop) => Err(stop),
                }
            }
            Mechanism::Ptr(spec) => {
                let target = self.target(domain, spec.as_ref())?;
                let target = target.to_lowercase();
                let names = self.validated_names(Counted::Yes)?;
                Ok(names.iter().any(|name| is_at_or_below(name, &target)))
            }
            Mechanism::Exists(spec) => {
                let target = self.target(domain, Some(spec))?;
                // §5.7: A records, whatever the client has.
                let family = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
                Ok(!self.addresses(&target, family, Counted::Yes)?.is_empty())
            }
        }
    }

    /// §5.4
    fn matches_mx(&mut self, target: &str, masks: Masks) -> Result<bool, Stop> {
        if !is_name(target) {
            return Ok(false);
        }
        let mut hosts = match self.known.get(Question::mx(target))? {
            Answer::Exchanges(hosts) => hosts.clone(),
            Answer::Unknown => {
                return Err(Stop::Temporary(format!("the DNS does not answer for MX {target}")));
            }
            Answer::Addresses(_)
            | Answer::Names(_)
            | Answer::NoName
            | Answer::Nothing
            | Answer::Texts(_) => {
                self.count_void()?;
                return Ok(false);
            }
        };
        hosts.sort();
        let client = self.client.address;
        // All at once: one after the other would take as many rounds.
        let asked = hosts.iter().take(NAMES_MAX).filter(|(_, host)| is_name(host));
        let asked = asked.map(|(_, host)| self.known.get(Question::address(host, client)));
        if let Some(missing) = Missing::join(asked.filter_map(Result::err)) {
            return Err(Stop::Missing(missing));
        }
        for (at, (_, host)) in hosts.iter().enumerate() {
            if at >= NAMES_MAX {
                let why = format!("{target} has more than {NAMES_MAX} MX hosts");
                return Err(Stop::Permanent(why));
            }
            if masks.hold(&self.addresses(host, client, Counted::No)?, client) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The addresses of a name; empty where it has none.
    fn addresses(
        &mut self,
        name: &str,
        family: IpAddr,
        counted: Counted,
    ) -> Result<Vec<IpAddr>, Stop> {
        if !is_name(name) {
            return Ok(Vec::new());
        }
        match self.known.get(Question::address(name, family))? {
            Answer::Addresses(addresses) => Ok(addresses.clone()),
            Answer::Unknown => Err(Stop::Temporary(format!("the DNS does not answer for {name}"))),
            Answer::Exchanges(_)
            | Answer::Names(_)
            | Answer::NoName
            | Answer::Nothing
            | Answer::Texts(_) => {
                if counted == Counted::Yes {
                    self.count_void()?;
                }
                Ok(Vec::new())
            }
        }
    }

    /// The names of the client that lead back to it (§5.5). Trouble is no match.
    fn validated_names(&mut self, counted: Counted) -> Result<Vec<String>, Stop> {
        let client = self.client.address;
        let names = match self.known.get(Question::Ptr(client))? {
            Answer::Names(names) => names,
            Answer::Unknown => return Ok(Vec::new()),
            Answer::Addresses(_)
            | Answer::Exchanges(_)
            | Answer::NoName
            | Answer::Nothing
            | Answer::Texts(_) => {
                if counted == Counted::Yes {
                    self.count_void()?;
                }
                return Ok(Vec::new());
            }
        };
        Ok(iprev::leading_back(self.known, names, client)?.names)
    }

    /// The name that a term of a record asks about; counts the term.
    fn target(&mut self, domain: &str, spec: Option<&MacroString>) -> Result<String, Stop> {
        self.count_term()?;
        self.expand(domain, spec)
    }

    /// Whether a text is about a local part of which no name can be made: a term with it never
    /// matches (RFC 8616 §4).
    fn has_no_name_for(&self, spec: &MacroString) -> bool {
        spec.is_about_local() && !self.sender.rsplit_once('@').is_none_or(|(it, _)| it.is_ascii())
    }

    /// The name that a domain-spec leads to (§7); the domain itself where there is none.
    fn expand(&self, domain: &str, spec: Option<&MacroString>) -> Result<String, Stop> {
        let Some(spec) = spec else { return Ok(domain.to_owned()) };
        let text = self.expand_text(domain, spec)?;
        let mut name = text.strip_suffix('.').unwrap_or(&text);
        // §7.3: what is too long loses labels from its left.
        while name.len() > NAME_OCTETS_MAX {
            let Some((_, rest)) = name.split_once('.') else { break };
            name = rest;
        }
        Ok(name.to_owned())
    }

    fn expand_text(&self, domain: &str, spec: &MacroString) -> Result<String, Stop> {
        let validated =
            if spec.needs_validated() { self.validated_name(domain)? } else { String::new() };
        let Client { address, helo, receiver, now } = self.client;
        let (sender, validated) = (self.sender, validated.as_str());
        Ok(spec.expand(&Values { address, domain, helo, now, receiver, sender, validated }))
    }

    /// The name for `%{p}` (§7.3): best the domain itself, then one below it, then any.
    fn validated_name(&self, domain: &str) -> Result<String, Stop> {
        let domain = &domain.to_lowercase();
        let mut walk = Walk { ..*self };
        let names = walk.validated_names(Counted::No)?;
        let chosen = names
            .iter()
            .find(|name| *name == domain)
            .or_else(|| names.iter().find(|name| is_at_or_below(name, domain)))
            .or_else(|| names.first());
        Ok(chosen.cloned().unwrap_or_else(|| "unknown".to_owned()))
    }

    /// What a domain says to those who fail (§6.2); whatever is wrong with it, there is none.
    fn explanation(
        &self,
        domain: &str,
        exp: Option<&MacroString>,
    ) -> Result<Option<String>, Missing> {
        let Some(exp) = exp else { return Ok(None) };
        let silent = |stop| match stop {
            Stop::Missing(missing) => Err(missing),
            Stop::None(_) | Stop::Permanent(_) | Stop::Temporary(_) => Ok(None),
        };
        let target = match self.expand(domain, Some(exp)) {
            Ok(target) if is_name(&target) => target,
            Ok(_) => return Ok(None),
            Err(stop) => return silent(stop),
        };
        let Answer::Texts(texts) = self.known.get(Question::txt(&target))? else {
            return Ok(None);
        };
        let [text] = texts.as_slice() else { return Ok(None) };
        let text = str::from_utf8(text).ok().and_then(MacroString::parse_explanation);
        let Some(text) = text else { return Ok(None) };
        match self.expand_text(domain, &text) {
            Ok(text) => Ok(Some(sanitised(&text))),
            Err(stop) => silent(stop),
        }
    }

    fn count_term(&mut self) -> Result<(), Stop> {
        self.terms += 1;
        if self.terms > TERMS_MAX {
            let why = format!("more than {TERMS_MAX} terms ask the DNS");
            return Err(Stop::Permanent(why));
        }
        Ok(())
    }

    fn count_void(&mut self) -> Result<(), Stop> {
        self.voids += 1;
        if self.voids > VOIDS_MAX {
            let why = format!("more than {VOIDS_MAX} terms ask for what does not exist");
            return Err(Stop::Permanent(why));
        }
        Ok(())
    }
}

/// Whether asking in vain counts.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Counted {
    No,
    Yes,
}

impl Masks {
    /// Whether an address of the list is in the same network as the client.
    fn hold(self, addresses: &[IpAddr], client: IpAddr) -> bool {
        addresses.iter().any(|address| match (address, client) {
            (IpAddr::V4(address), IpAddr::V4(client)) => {
                (address.to_bits() ^ client.to_bits()) & self.ip4 == 0
            }
            (IpAddr::V6(address), IpAddr::V6(client)) => {
                (address.to_bits() ^ client.to_bits()) & self.ip6 == 0
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        })
    }
}

/// Only what can be printed: it ends up in replies and logs (RFC 7208 §6.2, §11.5.3).
fn sanitised(text: &str) -> String {
    let printable = |c: char| if c.is_ascii_graphic() || c == ' ' { c } else { '?' };
    text.chars().take(EXPLANATION_OCTETS_MAX).map(printable).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each name in ASCII has the address, and the record.
    fn answer(question: &Question, record: &str, address: IpAddr) -> Answer {
        match question {
            Question::A(name) if name.is_ascii() => Answer::Addresses(vec![address]),
            Question::Txt(_) => Answer::Texts(vec![record.as_bytes().to_vec()]),
            Question::A(_) | Question::Aaaa(_) | Question::Mx(_) | Question::Ptr(_) => {
                panic!("{question}")
            }
        }
    }

    #[test]
    fn no_name_is_made_of_a_local_part_that_is_not_ascii() {
        for (record, local, want) in [
            ("v=spf1 exists:%{l}.m.example -all", "ani", SpfResult::Pass),
            ("v=spf1 exists:%{l}.m.example -all", "j\u{fc}rgen", SpfResult::Fail),
            ("v=spf1 exists:%{S}.m.example -all", "j\u{fc}rgen", SpfResult::Fail),
            ("v=spf1 a:%{o} -all", "j\u{fc}rgen", SpfResult::Pass),
            ("v=spf1 redirect=%{l}.m.example", "j\u{fc}rgen", SpfResult::PermError),
        ] {
            let address = "192.0.2.1".parse().unwrap();
            let client = Client { address, helo: "h.example", receiver: "r.example", now: 0 };
            let sender = format!("{local}@s.example");
            let mut known = Known::default();
            let found = loop {
                let missing = match check(&known, &client, Some(&sender)) {
                    Ok(found) => break found,
                    Err(missing) => missing,
                };
                for question in missing.into_questions() {
                    let answer = answer(&question, record, address);
                    known.tell(question, answer);
                }
            };
            assert_eq!(found.result, want, "{record} {local}: {found:?}");
        }
    }
}
