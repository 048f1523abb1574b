//! What becomes of mail by what was found out about who sent it.
//!
//! Invariant: mail is refused only where a domain asks for that, or the operator does for his own
//! domains; and put off only where an answer that is missing could still make it pass. Pure.

use std::collections::{BTreeMap, BTreeSet};

use merpati_mail::{Domain, Reply, Verdict};

/// What was found out about who sent a message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Provenance {
    /// The header fields that say it, each with its final line end; empty where nothing was looked
    /// at.
    pub fields: String,
    /// What was found out about each author.
    pub authors: Vec<Author>,
}

impl Provenance {
    /// Of a header that is longer than what is looked at: whoever its author is may stand behind.
    pub fn of_unread_header() -> Self {
        let author = Author { domain: None, vouched: Vouched::No, wanted: Wanted::Nothing };
        Self { fields: String::new(), authors: vec![author] }
    }
}

/// What was found out about an author (DMARC, RFC 9989).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Author {
    /// The domain of the author; `None` where From names too many to ask about, or was not found
    /// in what is looked at.
    pub domain: Option<Domain>,
    /// Whether somebody vouches for it.
    pub vouched: Vouched,
    /// What its domain wants done with what nobody vouches for.
    pub wanted: Wanted,
}

/// Whether somebody vouches for an author.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vouched {
    /// Nobody does.
    No,
    /// The DNS did not answer, and somebody might.
    Unknown,
    /// By SPF or DKIM, for a domain of the same organisation.
    Yes,
}

/// What a domain wants done with what nobody vouches for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Nothing; also where it has no record.
    Nothing,
    /// It is suspicious.
    Quarantine,
    /// It is not to be taken.
    Refusal,
}

/// How the wishes of domains are met.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// Whether anything is looked at, and how wishes are met where nothing else is said.
    pub stance: Stance,
    /// How they are met for authors in some domains, and in subdomains of them.
    pub by_domain: BTreeMap<Domain, Stance>,
    /// Whether authors in our own domains must be vouched for, whatever their records say.
    pub own_domains: OwnDomains,
}

/// How the wish of a domain is met.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stance {
    /// It is done.
    Follow,
    /// It is not even asked for.
    #[default]
    Off,
    /// It is told in header fields, and nothing else.
    Report,
}

/// Whether authors in our own domains must be vouched for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OwnDomains {
    /// They need not be.
    #[default]
    Any,
    /// They must: nobody else speaks as we.
    MustPass,
}

impl Rules {
    /// Whether anything has to be looked at.
    pub fn ask(&self) -> bool {
        self.stance != Stance::Off
            || self.own_domains == OwnDomains::MustPass
            || self.by_domain.values().any(|stance| *stance != Stance::Off)
    }

    /// Why the message is not taken, by what was found out; `own` are our domains.
    pub fn judge(&self, own: &BTreeSet<Domain>, found: &Provenance) -> Result<(), Verdict> {
        found.authors.iter().try_for_each(|author| self.judge_author(own, author))
    }

    fn judge_author(&self, own: &BTreeSet<Domain>, author: &Author) -> Result<(), Verdict> {
        let Some(domain) = &author.domain else {
            let must = self.own_domains == OwnDomains::MustPass || self.stance == Stance::Follow;
            let text =
                "the authors cannot be told: too many, badly written, or in too long a header";
            return if must { Err(refusal("author-unproven", (5, 7, 26), text)) } else { Ok(()) };
        };
        let is_own = self.own_domains == OwnDomains::MustPass && own.contains(domain);
        let follows = self.stance_for(domain) == Stance::Follow;
        match author.vouched {
            Vouched::No if is_own => {
                let text = format!(
                    "mail from {domain} comes from its own servers only, or with its signature"
                );
                Err(refusal("author-unproven", (5, 7, 26), &text))
            }
            Vouched::No if follows && author.wanted == Wanted::Refusal => {
                let text = format!(
                    "{domain} asks that mail from it is refused without SPF or DKIM for it (DMARC)"
                );
                Err(refusal("dmarc-refusal", (5, 7, 26), &text))
            }
            // RFC 9989 §5.3.6
            Vouched::Unknown if is_own || (follows && author.wanted == Wanted::Refusal) => {
                let text = format!("the DNS does not say who may send from {domain}; try again");
                let reply = Reply::with_text(451, (4, 4, 3), text);
                Err(Verdict::refuse("author-unknown", reply))
            }
            Vouched::No | Vouched::Unknown | Vouched::Yes => Ok(()),
        }
    }

    fn stance_for(&self, domain: &Domain) -> Stance {
        let Some(name) = domain.as_name() else { return self.stance };
        let is_below = |above: &str| {
            name == above || name.strip_suffix(above).is_some_and(|rest| rest.ends_with('.'))
        };
        let mut named = self.by_domain.iter().filter_map(|(above, stance)| {
            let above = above.as_name().filter(|above| is_below(above))?;
            Some((above.len(), *stance))
        });
        let nearest = named.by_ref().max_by_key(|(length, _)| *length);
        nearest.map_or(self.stance, |(_, stance)| stance)
    }
}

fn refusal(rule: &'static str, code: (u8, u16, u16), text: &str) -> Verdict {
    Verdict::refuse(rule, Reply::with_text(550, code, text.to_owned()))
}

#[cfg(test)]
mod tests {
    use merpati_mail::stage::Decision;

    use super::*;

    fn domain(name: &str) -> Domain {
        Domain::parse(name).unwrap()
    }

    #[track_caller]
    fn check(rules: &Rules, (name, vouched, wanted): (&str, Vouched, Wanted), want: &str) {
        let own = [domain("ours.example")].into();
        let author = Author { domain: Some(domain(name)), vouched, wanted };
        let found = Provenance { fields: String::new(), authors: vec![author] };
        let got = match rules.judge(&own, &found) {
            Ok(()) => "taken".to_owned(),
            Err(Verdict { decision: Decision::Refuse(reply), rule }) => {
                format!("{} {rule}", reply.code)
            }
            Err(other) => panic!("{other:?}"),
        };
        assert_eq!(got, want, "{name} {vouched:?} {wanted:?}");
    }

    #[test]
    fn mail_is_refused_only_where_its_domain_asks_for_that() {
        let rules = Rules { stance: Stance::Follow, ..Rules::default() };
        for (vouched, wanted, want) in [
            (Vouched::Yes, Wanted::Refusal, "taken"),
            (Vouched::No, Wanted::Refusal, "550 dmarc-refusal"),
            (Vouched::No, Wanted::Quarantine, "taken"),
            (Vouched::No, Wanted::Nothing, "taken"),
            (Vouched::Unknown, Wanted::Refusal, "451 author-unknown"),
            (Vouched::Unknown, Wanted::Quarantine, "taken"),
            (Vouched::Unknown, Wanted::Nothing, "taken"),
        ] {
            check(&rules, ("bank.example", vouched, wanted), want);
            let reports = Rules { stance: Stance::Report, ..Rules::default() };
            check(&reports, ("bank.example", vouched, wanted), "taken");
        }
    }

    #[test]
    fn the_nearest_domain_says_how_its_wish_is_met() {
        let by_domain = [
            (domain("bank.example"), Stance::Follow),
            (domain("lists.bank.example"), Stance::Report),
        ];
        let by_domain = by_domain.into();
        let rules = Rules { stance: Stance::Report, by_domain, ..Rules::default() };
        for (name, want) in [
            ("bank.example", "550 dmarc-refusal"),
            ("a.bank.example", "550 dmarc-refusal"),
            ("mybank.example", "taken"),
            ("lists.bank.example", "taken"),
            ("a.lists.bank.example", "taken"),
        ] {
            check(&rules, (name, Vouched::No, Wanted::Refusal), want);
        }
        assert!(rules.ask());
        assert!(!Rules::default().ask());
    }

    #[test]
    fn nobody_else_speaks_as_we() {
        let rules =
            Rules { stance: Stance::Report, own_domains: OwnDomains::MustPass, ..Rules::default() };
        for (name, vouched, want) in [
            ("ours.example", Vouched::Yes, "taken"),
            ("ours.example", Vouched::No, "550 author-unproven"),
            ("ours.example", Vouched::Unknown, "451 author-unknown"),
            ("theirs.example", Vouched::No, "taken"),
        ] {
            check(&rules, (name, vouched, Wanted::Nothing), want);
        }
    }

    #[test]
    fn each_author_counts() {
        let author = |name: Option<&str>, vouched| Author {
            domain: name.map(domain),
            vouched,
            wanted: Wanted::Refusal,
        };
        let rules = Rules { stance: Stance::Follow, ..Rules::default() };
        for (authors, want) in [
            (vec![author(Some("a.example"), Vouched::Yes)], true),
            (
                vec![
                    author(Some("a.example"), Vouched::Yes),
                    author(Some("b.example"), Vouched::No),
                ],
                false,
            ),
            (vec![author(None, Vouched::No)], false),
            (vec![], true),
        ] {
            let found = Provenance { fields: String::new(), authors };
            let told = Rules { stance: Stance::Report, ..Rules::default() };
            assert!(told.judge(&BTreeSet::new(), &found).is_ok(), "{found:?}");
            assert_eq!(rules.judge(&BTreeSet::new(), &found).is_ok(), want, "{found:?}");
        }
    }
}
