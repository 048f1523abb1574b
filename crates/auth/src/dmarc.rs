//! Whether the author of a message is who it says (DMARC, RFC 9989).
//!
//! Invariant: a message passes for an author only by a check that passed for a domain aligned with
//! that of the author; of several authors each must pass. At most [`QUERIES_MAX`] records are asked
//! for in one walk. Pure.

mod record;

use std::fmt;

pub use self::record::{Alignment, Policy};
use self::record::{PublicSuffix, Record};
use crate::{
    dns::{Answer, Known, Missing, Question},
    names::is_at_or_below,
};

/// Queries of one walk up the tree (RFC 9989 §4.10).
pub const QUERIES_MAX: usize = 8;
/// Domains of authors that are looked at; a message with more fails.
pub const AUTHORS_MAX: usize = 4;

/// What became of the author.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DmarcResult {
    /// Nobody who may vouched for it.
    Fail,
    /// The domain has no policy, or there is no author to ask about.
    None,
    /// Somebody did.
    Pass,
    /// It can never be found out.
    PermError,
    /// The DNS could not be asked just now, and it might pass.
    TempError,
}

impl DmarcResult {
    /// As it stands in header fields.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fail => "fail",
            Self::None => "none",
            Self::Pass => "pass",
            Self::PermError => "permerror",
            Self::TempError => "temperror",
        }
    }
}

impl fmt::Display for DmarcResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DmarcFinding {
    /// What became of the author.
    pub result: DmarcResult,
    /// The domain of the author, in A-labels; empty where there is none.
    pub author: String,
    /// Whose record was applied; `None` where there is none.
    pub published_by: Option<String>,
    /// What the domain wants done with what fails; what it only tries out is softened already.
    pub policy: Policy,
    /// Who vouches for it: by `spf` or `dkim`, and for which domain; also where there is no record.
    pub by: Option<(&'static str, String)>,
    /// Why it did not pass, in words.
    pub why: Option<String>,
}

/// Somebody who vouches, or would if the DNS answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Voucher {
    /// By `spf` or `dkim`.
    pub method: &'static str,
    /// For which domain, in A-labels.
    pub domain: String,
    /// Whether it is sure; else the DNS did not answer.
    pub is_sure: bool,
}

/// Whether somebody vouches for each of the authors, whose domains are in A-labels. Where there are
/// too many of them, one finding without an author says so; where there is none, another.
pub fn check(
    known: &Known,
    authors: &[String],
    vouchers: &[Voucher],
) -> Result<Vec<DmarcFinding>, Missing> {
    if authors.len() > AUTHORS_MAX {
        let finding = nothing(String::new(), "From names too many domains");
        return Ok(vec![DmarcFinding { result: DmarcResult::PermError, ..finding }]);
    }
    if authors.is_empty() {
        return Ok(vec![nothing(String::new(), "From names no domain")]);
    }
    let (mut findings, mut missing) = (Vec::new(), Vec::new());
    for author in authors {
        match check_author(known, author, vouchers) {
            Ok(finding) => findings.push(finding),
            Err(needed) => missing.push(needed),
        }
    }
    Missing::join(missing).map_or(Ok(findings), Err)
}

fn nothing(author: String, why: &str) -> DmarcFinding {
    DmarcFinding {
        result: DmarcResult::None,
        author,
        published_by: None,
        policy: Policy::None,
        by: None,
        why: Some(why.to_owned()),
    }
}

fn check_author(
    known: &Known,
    author: &str,
    vouchers: &[Voucher],
) -> Result<DmarcFinding, Missing> {
    // Whether the author exists is asked meanwhile: nobody gains by answering late.
    let (walk, existence) = (Walk::up(known, author), known.get(Question::a(author)));
    let (walk, existence) = match (walk, existence) {
        (Ok(walk), Ok(existence)) => (walk, existence),
        (walk, existence) => {
            let all = [walk.err(), existence.err()].into_iter().flatten();
            return Err(Missing::join(all).unwrap_or_default());
        }
    };
    if let (Some(name), []) = (walk.cut, walk.found.as_slice()) {
        let finding = nothing(author.to_owned(), &unanswered(name));
        return Ok(DmarcFinding { result: DmarcResult::TempError, ..finding });
    }
    let organization = walk.organization(author);
    let applied = walk.applied(author, organization);
    // Somebody may vouch also where there is no record.
    let unsaid = Record::default();
    let record = applied.map_or(&unsaid, |(_, record)| record);
    let policy = match applied {
        Some((published_by, record)) => policy(existence, author, published_by, record),
        None => None,
    };
    let (mut passed, mut might, mut missing) = (None, None, Vec::new());
    for voucher in vouchers {
        let alignment = if voucher.method == "spf" { record.spf } else { record.dkim };
        match is_aligned(known, &voucher.domain, (author, organization), alignment) {
            Ok(Aligned::No) => {}
            Ok(Aligned::Yes) if voucher.is_sure => passed = passed.or(Some(voucher)),
            Ok(Aligned::Unknown | Aligned::Yes) => might = might.or(Some(voucher)),
            Err(needed) => missing.push(needed),
        }
    }
    if let Some(missing) = Missing::join(missing).filter(|_| passed.is_none()) {
        return Err(missing);
    }
    let by = passed.map(|by| (by.method, by.domain.clone()));
    let author = author.to_owned();
    let Some((policy, (published_by, _))) = policy.zip(applied) else {
        let finding = nothing(author, "the domain has no DMARC record with a policy");
        return Ok(DmarcFinding { by, ..finding });
    };
    let (result, why) = match (passed, might) {
        (Some(_), _) => (DmarcResult::Pass, None),
        (None, Some(by)) => {
            let why = format!("the DNS did not answer what {} needs", by.method);
            (DmarcResult::TempError, Some(why))
        }
        (None, None) if walk.cut.is_some_and(|name| may_decide(name, published_by, vouchers)) => {
            (DmarcResult::TempError, walk.cut.map(unanswered))
        }
        (None, None) => {
            let why = format!("nobody vouches for {author}");
            (DmarcResult::Fail, Some(why))
        }
    };
    let published_by = Some(published_by.to_owned());
    Ok(DmarcFinding { result, author, published_by, policy, by, why })
}

/// What the record says for this author (§4.10.1); `None` where it says nothing.
fn policy(existence: &Answer, author: &str, published_by: &str, record: &Record) -> Option<Policy> {
    let Some(policy) = record.policy else {
        // Somebody who wants reports wants them, whatever else is wrong.
        return record.wants_reports.then_some(Policy::None);
    };
    let for_subdomains = record.subdomains.unwrap_or(policy);
    let for_nonexistent = record.nonexistent.unwrap_or(for_subdomains);
    let policy = if author == published_by {
        policy
    } else {
        match existence {
            Answer::NoName => for_nonexistent,
            // Who answers for the name may be the one who gains by silence.
            Answer::Unknown => for_nonexistent.max(for_subdomains),
            Answer::Addresses(_)
            | Answer::Exchanges(_)
            | Answer::Names(_)
            | Answer::Nothing
            | Answer::Texts(_) => for_subdomains,
        }
    };
    Some(if record.is_testing { policy.softened() } else { policy })
}

/// Whether the record of a name that the DNS does not give might change what is found. Below what
/// applies it would apply itself; above it the organisation may be another, which matters where
/// somebody vouches.
const fn may_decide(name: &str, published_by: &str, vouchers: &[Voucher]) -> bool {
    name.len() > published_by.len() || !vouchers.is_empty()
}

fn unanswered(name: &str) -> String {
    format!("the DNS does not answer for TXT _dmarc.{name}")
}

enum Aligned {
    No,
    Unknown,
    Yes,
}

/// Whether a domain may vouch for an author (§4.4).
fn is_aligned(
    known: &Known,
    domain: &str,
    (author, organization): (&str, &str),
    alignment: Alignment,
) -> Result<Aligned, Missing> {
    if domain == author {
        return Ok(Aligned::Yes);
    }
    if alignment == Alignment::Strict || !is_at_or_below(domain, organization) {
        return Ok(Aligned::No);
    }
    let walk = Walk::up(known, domain)?;
    Ok(if walk.organization(domain) == organization {
        Aligned::Yes
    } else if walk.cut.is_some() {
        Aligned::Unknown
    } else {
        Aligned::No
    })
}

/// The records from a domain up to the top (§4.10), the longest name first.
struct Walk<'a> {
    found: Vec<(&'a str, Record)>,
    /// The longest name for which the DNS did not answer; `None` where it did for all.
    cut: Option<&'a str>,
}

impl<'a> Walk<'a> {
    /// All that may be needed is asked for at once.
    fn up(known: &Known, domain: &'a str) -> Result<Self, Missing> {
        let (mut found, mut missing, mut cut) = (Vec::new(), Vec::new(), None);
        for name in names(domain) {
            let question = Question::txt(&format!("_dmarc.{name}"));
            let texts = match known.get(question) {
                Ok(Answer::Texts(texts)) => texts.as_slice(),
                Ok(Answer::Unknown) => {
                    cut.get_or_insert(name);
                    &[]
                }
                Ok(_) => &[],
                Err(needed) => {
                    missing.push(needed);
                    continue;
                }
            };
            let mut records = texts.iter().filter_map(|text| Record::parse(text));
            // Several say nothing.
            let (Some(record), None) = (records.next(), records.next()) else { continue };
            let is_end = record.public_suffix != PublicSuffix::Unsaid;
            found.push((name, record));
            if is_end {
                break;
            }
        }
        Missing::join(missing).map_or(Ok(Self { found, cut }), Err)
    }

    /// The domain of the organisation (§4.10.2).
    fn organization<'b>(&self, domain: &'b str) -> &'b str
    where
        'a: 'b,
    {
        for (name, record) in &self.found {
            match record.public_suffix {
                PublicSuffix::No => return name,
                PublicSuffix::Yes if *name != domain => return one_below(name, domain),
                PublicSuffix::Unsaid | PublicSuffix::Yes => {}
            }
        }
        self.found.last().map_or(domain, |(name, _)| name)
    }

    /// The record that applies (§4.10.1): that of the author, of its organisation, or of the public
    /// suffix above.
    fn applied(&self, author: &str, organization: &str) -> Option<(&'a str, &Record)> {
        let of = |wanted: &str| self.found.iter().find(|(name, _)| *name == wanted);
        let is_suffix = |(_, record): &&(&str, Record)| record.public_suffix == PublicSuffix::Yes;
        let found = of(author)
            .or_else(|| of(organization))
            .or_else(|| self.found.iter().find(is_suffix))?;
        Some((found.0, &found.1))
    }
}

/// The names that are asked about: the domain itself, then at most seven labels of it, then one
/// less each time.
fn names(domain: &str) -> impl Iterator<Item = &str> {
    let labels = domain.split('.').count();
    let first = std::iter::once(labels);
    let rest = (1..labels.min(QUERIES_MAX)).rev();
    first.chain(rest).map(move |kept| last_labels(domain, kept))
}

fn last_labels(domain: &str, kept: usize) -> &str {
    let mut rest = domain;
    let labels = domain.split('.').count();
    for _ in kept..labels {
        rest = rest.split_once('.').map_or("", |(_, rest)| rest);
    }
    rest
}

/// The name one label below the first on the way to the second.
fn one_below<'a>(above: &str, domain: &'a str) -> &'a str {
    last_labels(domain, above.split('.').count() + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_walk_jumps_to_seven_labels_and_asks_at_most_eight_times() {
        let walk = |domain| names(domain).collect::<Vec<_>>();
        assert_eq!(walk("a.example.org"), ["a.example.org", "example.org", "org"]);
        assert_eq!(walk("org"), ["org"]);
        let long = walk("a.b.c.d.e.f.g.h.i.j.mail.example.com");
        let want = [
            "a.b.c.d.e.f.g.h.i.j.mail.example.com",
            "g.h.i.j.mail.example.com",
            "h.i.j.mail.example.com",
            "i.j.mail.example.com",
            "j.mail.example.com",
            "mail.example.com",
            "example.com",
            "com",
        ];
        assert_eq!(long, want);
        assert_eq!(walk("1.2.3.4.5.6.example.org").len(), QUERIES_MAX);
        assert_eq!(walk("2.3.4.5.6.example.org").len(), 7);
    }

    /// `_dmarc` records by domain; a text of `?` does not answer, and other names do not exist.
    fn found(
        zones: &[(&str, &str)],
        author: &str,
        vouchers: &[(&'static str, &str)],
    ) -> DmarcFinding {
        let vouchers: Vec<_> = vouchers
            .iter()
            .map(|(method, domain)| Voucher {
                method,
                domain: domain.trim_end_matches('?').to_owned(),
                is_sure: !domain.ends_with('?'),
            })
            .collect();
        let authors: Vec<_> = author.split(' ').map(str::to_owned).collect();
        let mut known = Known::default();
        loop {
            match check(&known, &authors, &vouchers) {
                Ok(findings) => return findings.into_iter().max_by_key(rank).unwrap(),
                Err(missing) => {
                    for question in missing.into_questions() {
                        let answer = answer(zones, &question);
                        known.tell(question, answer);
                    }
                }
            }
        }
    }

    fn rank(finding: &DmarcFinding) -> (u8, Policy) {
        let rank = match finding.result {
            DmarcResult::Fail => 4,
            DmarcResult::TempError => 3,
            DmarcResult::PermError => 2,
            DmarcResult::None => 1,
            DmarcResult::Pass => 0,
        };
        (rank, finding.policy)
    }

    fn answer(zones: &[(&str, &str)], question: &Question) -> Answer {
        let name = match question {
            Question::Txt(name) => name.strip_prefix("_dmarc.").unwrap(),
            Question::A(name) => name,
            Question::Aaaa(_) | Question::Mx(_) | Question::Ptr(_) => panic!("{question}"),
        };
        let texts: Vec<_> = zones.iter().filter(|(of, _)| *of == name).map(|(_, t)| *t).collect();
        match (question, texts.as_slice()) {
            (Question::A(_), []) => Answer::NoName,
            (Question::A(_), _) => Answer::Nothing,
            (_, []) => Answer::NoName,
            (_, ["?"]) => Answer::Unknown,
            (_, texts) => Answer::Texts(texts.iter().map(|t| t.as_bytes().to_vec()).collect()),
        }
    }

    /// Zones, authors, who vouches, and what is found.
    type Case<'a> = (&'a [(&'a str, &'a str)], &'a str, &'a [(&'static str, &'a str)], &'a str);

    #[track_caller]
    fn check_all(cases: &[Case<'_>]) {
        for (zones, author, vouchers, want) in cases {
            let finding = found(zones, author, vouchers);
            let by = finding.published_by.as_deref().unwrap_or("-");
            let got = format!("{} {} {by}", finding.result, finding.policy.as_str());
            assert_eq!(got, *want, "{author} {vouchers:?} in {zones:?}: {finding:?}");
        }
    }

    const REJECT: (&str, &str) = ("example.org", "v=DMARC1; p=reject; sp=quarantine");

    #[test]
    fn an_author_passes_by_what_is_aligned_with_it() {
        let strict = ("example.org", "v=DMARC1; p=reject; adkim=s; aspf=s");
        check_all(&[
            (&[REJECT], "example.org", &[("spf", "example.org")], "pass reject example.org"),
            (&[REJECT], "example.org", &[("dkim", "a.example.org")], "pass reject example.org"),
            (
                &[REJECT],
                "a.example.org",
                &[("dkim", "b.example.org")],
                "pass quarantine example.org",
            ),
            (&[REJECT], "example.org", &[("dkim", "badexample.org")], "fail reject example.org"),
            (&[REJECT], "example.org", &[("dkim", "org")], "fail reject example.org"),
            (&[REJECT], "example.org", &[], "fail reject example.org"),
            (&[strict], "example.org", &[("spf", "a.example.org")], "fail reject example.org"),
            (&[strict], "example.org", &[("dkim", "a.example.org")], "fail reject example.org"),
            (&[strict], "example.org", &[("dkim", "example.org")], "pass reject example.org"),
            (&[], "example.org", &[("dkim", "example.org")], "none none -"),
        ]);
    }

    #[test]
    fn the_policy_is_that_of_the_nearest_record() {
        let psd = ("bank", "v=DMARC1; p=reject; np=reject; psd=y");
        let own = ("a.example.org", "v=DMARC1; p=none; psd=n");
        let np = ("example.org", "v=DMARC1; p=none; sp=none; np=reject");
        check_all(&[
            (&[REJECT], "a.example.org", &[], "fail quarantine example.org"),
            (&[REJECT, own], "a.example.org", &[], "fail none a.example.org"),
            // What is below a domain that says it is none of others' is an organisation.
            (
                &[REJECT, own],
                "a.example.org",
                &[("dkim", "example.org")],
                "fail none a.example.org",
            ),
            (&[psd], "example.bank", &[], "fail reject bank"),
            (&[psd], "a.example.bank", &[("spf", "b.example.bank")], "pass reject bank"),
            (&[psd], "example.bank", &[("spf", "other.bank")], "fail reject bank"),
            (&[np, ("a.example.org", "x")], "a.example.org", &[], "fail none example.org"),
            (&[np], "a.example.org", &[], "fail reject example.org"),
        ]);
    }

    #[test]
    fn records_that_say_nothing_are_none() {
        let twice = ("example.org", "v=DMARC1; p=none");
        let behind = ("example.org", "p=reject; v=DMARC1");
        let lame = ("example.org", "v=DMARC1; sp=reject");
        let curious = ("example.org", "v=DMARC1; p=foo; rua=mailto:a@example.org");
        let trying = ("example.org", "v=DMARC1; p=reject; t=y");
        check_all(&[
            (&[REJECT, twice], "example.org", &[], "none none -"),
            (&[behind], "example.org", &[], "none none -"),
            (&[lame], "example.org", &[], "none none -"),
            (&[curious], "example.org", &[], "fail none example.org"),
            (&[trying], "example.org", &[], "fail quarantine example.org"),
            (&[("example.org", "?")], "example.org", &[], "temperror none -"),
        ]);
    }

    #[test]
    fn trouble_counts_only_where_it_could_make_the_message_pass() {
        check_all(&[
            (&[REJECT], "example.org", &[("dkim", "example.org?")], "temperror reject example.org"),
            (&[REJECT], "example.org", &[("dkim", "example.com?")], "fail reject example.org"),
            (
                &[REJECT],
                "example.org",
                &[("dkim", "example.org?"), ("spf", "example.org")],
                "pass reject example.org",
            ),
            (
                &[REJECT, ("a.example.org", "?")],
                "example.org",
                &[("spf", "a.example.org")],
                "pass reject example.org",
            ),
            // What is not told below may apply: the author's own record, or its organisation's.
            (
                &[REJECT, ("a.example.org", "?")],
                "a.example.org",
                &[],
                "temperror quarantine example.org",
            ),
            (
                &[REJECT, ("a.example.org", "?")],
                "b.a.example.org",
                &[],
                "temperror quarantine example.org",
            ),
            (
                &[REJECT, ("a.example.org", "?")],
                "a.example.org",
                &[("spf", "a.example.org")],
                "pass quarantine example.org",
            ),
            // What the author's own domain says holds whatever is above it.
            (&[REJECT, ("org", "?")], "example.org", &[], "fail reject example.org"),
            (
                &[REJECT, ("org", "?")],
                "example.org",
                &[("dkim", "example.org")],
                "pass reject example.org",
            ),
            (
                &[("a.example.org", "v=DMARC1; p=reject"), ("example.org", "?")],
                "a.example.org",
                &[("dkim", "example.org")],
                "temperror reject a.example.org",
            ),
        ]);
    }

    #[test]
    fn of_several_authors_each_must_pass() {
        let vouchers: &[(&str, &str)] = &[("dkim", "example.org")];
        check_all(&[
            (&[REJECT], "example.org evil.example", vouchers, "none none -"),
            (
                &[REJECT],
                "evil.example example.org",
                &[("dkim", "evil.example")],
                "fail reject example.org",
            ),
            (&[REJECT], "a b c d e", vouchers, "permerror none -"),
        ]);
    }
}
