//! Which domains a list such as `relay_domains` names.
//!
//! Invariant: what comes out is never more than what Postfix meant; what cannot be read is left out
//! and told. Pure.

use std::collections::BTreeSet;

use merpati_mail::Domain;

use super::{
    Postfix,
    report::{Report, Weight},
    scope::Scope,
    tables::Table,
};

/// The domains of a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Domains {
    /// Those that are named, in their order.
    pub named: Vec<Domain>,
    /// Those of which everything below is meant as well or alone.
    pub above: Vec<Domain>,
    /// The same to be looked up: some lists have thousands.
    named_set: BTreeSet<Domain>,
    above_names: BTreeSet<String>,
    except: Vec<Domain>,
    problems: Vec<String>,
}

/// The list that a parameter holds.
pub(super) fn domains(
    postfix: &Postfix,
    scope: &Scope<'_>,
    name: &str,
    report: &mut Report,
) -> Domains {
    let with_below = scope.words("parent_domain_matches_subdomains").iter().any(|one| one == name);
    let mut list = Domains::default();
    for word in scope.words(name) {
        list.word(postfix, &word, with_below);
    }
    for problem in &list.problems {
        report.left(scope, name, Weight::Loud, problem);
    }
    list
}

impl Domains {
    /// Whether the list holds this domain.
    pub(super) fn hold(&self, domain: &Domain) -> bool {
        let is_except = || self.except.iter().any(|except| domain.is_or_is_below(except));
        self.named_set.contains(domain) || self.is_below_one(domain) && !is_except()
    }

    fn is_below_one(&self, domain: &Domain) -> bool {
        let mut rest = domain.as_name().unwrap_or_default();
        while let Some((_, above)) = rest.split_once('.') {
            if self.above_names.contains(above) {
                return true;
            }
            rest = above;
        }
        false
    }

    fn word(&mut self, postfix: &Postfix, word: &str, with_below: bool) {
        let (is_except, word) = match word.strip_prefix('!') {
            Some(rest) => (true, rest),
            None => (false, word),
        };
        let sign = if is_except { "!" } else { "" };
        let entries = if word.starts_with('/') {
            postfix.files.list(word).map(|all| all.into_iter().map(|(entry, _)| entry).collect())
        } else if word.contains(':') && !word.starts_with('[') {
            of_table(postfix, word)
        } else {
            Ok(vec![word.to_owned()])
        };
        match entries {
            Ok(entries) => {
                for entry in entries {
                    self.entry(&format!("{sign}{entry}"), with_below);
                }
            }
            Err(why) => self.problem(why),
        }
    }

    fn entry(&mut self, word: &str, with_below: bool) {
        let (is_except, name) = match word.strip_prefix('!') {
            Some(rest) => (true, rest),
            None => (false, word),
        };
        let (is_below_alone, name) = match name.strip_prefix('.') {
            Some(rest) => (true, rest),
            None => (false, name),
        };
        let domain = match Domain::parse(name) {
            Ok(domain) => domain,
            Err(why) => return self.problem(format!("`{word}` is no domain: {why}")),
        };
        if is_except {
            self.except.push(domain);
        } else if self.except.contains(&domain) {
            // The first entry counts, and it was an exception.
        } else {
            if !is_below_alone && self.named_set.insert(domain.clone()) {
                self.named.push(domain.clone());
            }
            let is_above = is_below_alone || with_below;
            if is_above && self.above_names.insert(domain.to_string()) {
                self.above.push(domain);
            }
        }
    }

    fn problem(&mut self, text: String) {
        self.problems.push(text);
    }
}

/// The domains that are keys of a table. A table of addresses may stand here too; its domains are
/// keys of their own.
fn of_table(postfix: &Postfix, name: &str) -> Result<Vec<String>, String> {
    match postfix.files.table(name) {
        Table::Rows(rows) => {
            Ok(rows.into_iter().map(|row| row.key).filter(|key| is_domain_key(key)).collect())
        }
        Table::All(_) => Err(format!("{name} means every domain: name yours")),
        Table::Networks(_) => Err(format!("{name} holds networks, no domains")),
        Table::Unread(why) => Err(format!("{name}: {why}; name its domains")),
    }
}

/// Whether a key of a table is a domain, and no address or name of a user.
fn is_domain_key(key: &str) -> bool {
    !key.contains('@') && key.contains('.')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::import::tests::postfix;

    #[test]
    fn domains_are_listed_and_those_below_are_known() {
        let files =
            [("/t", "c.example x\nani@d.example y\nbudi z\n.e.example w\n"), ("/l", "f.example\n")];
        for (text, named, above, problems) in [
            (
                "relay_domains = a.example, B.example",
                "a.example b.example",
                "a.example b.example",
                0,
            ),
            (
                "relay_domains = a.example .b.example\nparent_domain_matches_subdomains =",
                "a.example",
                "b.example",
                0,
            ),
            ("relay_domains = hash:/t", "c.example", "c.example e.example", 0),
            ("relay_domains = /l, !g.example, g.example", "f.example", "f.example", 0),
            ("relay_domains = pcre:/p static:all a..b", "", "", 3),
            ("relay_domains =", "", "", 0),
        ] {
            let postfix = postfix(text, "", &files);
            let mut report = Report::default();
            let list = domains(&postfix, &postfix.scope(), "relay_domains", &mut report);
            let shown = |domains: &[Domain]| {
                domains.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
            };
            assert_eq!(
                (shown(&list.named).as_str(), shown(&list.above).as_str()),
                (named, above),
                "{text}"
            );
            assert_eq!(report.into_lines().len(), problems, "{text}");
        }
    }

    #[test]
    fn a_list_holds_what_is_below_but_for_exceptions() {
        let text = "relay_domains = !x.a.example, a.example";
        let postfix = postfix(text, "", &[]);
        let list = domains(&postfix, &postfix.scope(), "relay_domains", &mut Report::default());
        for (name, want) in [
            ("a.example", true),
            ("b.a.example", true),
            ("y.x.a.example", false),
            ("example", false),
        ] {
            assert_eq!(list.hold(&Domain::parse(name).unwrap()), want, "{name}");
        }
    }
}
