//! The tables `[[alias]]`, and what is told of them.
//!
//! Invariant: a file is named only where the reader makes of it just what is carried over; else its
//! aliases are written one by one. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use merpati_flow::alias::{Key, Target, To};
use merpati_mail::{Domain, Mailbox};

use super::{
    alias_rows,
    aliases::{self, Alias, Aliases, folded, hostname, is_marker},
    classes::Class,
    document::Table,
    names::{Names, few},
    report::{Report, Weight},
    rules::Ways,
};
use crate::config::{setting::Setting, setting_aliases::AliasFormat};

/// A file as a table names it.
#[derive(Clone, Debug)]
struct Named {
    path: String,
    format: AliasFormat,
    /// The domain of names without one.
    domain: Option<Domain>,
}

/// Keys with what they stand for, to be compared.
type View = BTreeMap<String, Vec<String>>;

impl Aliases {
    /// The tables; `ours` are all domains that are ours, none where strangers may send nowhere.
    pub(super) fn tables(
        &self,
        ways: &Ways<'_>,
        ours: &[Domain],
        report: &mut Report,
    ) -> Vec<Table> {
        let scope = ways.postfix.scope();
        self.tell(ways, ours, report);
        let is_closed = ours.is_empty() && !self.is_empty();
        let (mut tables, mut names) = (Vec::new(), Names::default());
        for (from, lookup) in self.lookups.iter().enumerate() {
            let own: Vec<&Alias> = self.all.iter().filter(|alias| alias.from == from).collect();
            let is_left = !lookup.refused.is_empty() || own.is_empty() && !lookup.rows.is_empty();
            if is_closed {
                report.left(&scope, lookup.parameter, Weight::Loud, CLOSED);
                continue;
            }
            if own.is_empty() {
                if is_left {
                    report.left(&scope, lookup.parameter, Weight::Loud, "none is carried over");
                } else {
                    report.nothing(&scope, lookup.parameter, "its tables are empty");
                }
                continue;
            }
            let origin = report.carried(&scope, lookup.parameter);
            if let Some(named) = self.file(ways, from, &own, ours) {
                tables.push(file_table(&mut names, &origin, &named));
                continue;
            }
            if let Some(path) = &lookup.path {
                let text = format!(
                    "{path} is not named but copied, line by line, as Merpati would not take all \
                     of it as Postfix did: later changes of the file do not count"
                );
                report.left(&scope, lookup.parameter, Weight::Plain, &text);
            }
            tables.extend(copies(&mut names, &own, &origin));
        }
        tables
    }

    /// The file of a table, as it means what is carried over; `None` where it never does.
    fn file(&self, ways: &Ways<'_>, from: usize, own: &[&Alias], ours: &[Domain]) -> Option<Named> {
        let lookup = self.lookups.get(from)?;
        let loaded = alias_rows::as_loaded(&ways.postfix.files, lookup)?;
        let mut seen = BTreeSet::new();
        if !loaded.iter().all(|(key, _)| seen.insert(folded(key))) {
            return None;
        }
        let wanted: View =
            own.iter().map(|alias| (folded(&alias.key), shown(&alias.targets))).collect();
        let mut domains = ours.to_vec();
        domains.extend(hostname(ways.postfix).filter(|name| !ours.contains(name)));
        let is_marker = |key: &Key| matches!(key, Key::Name(name) if is_marker(ways, name));
        let loaded: Vec<(Key, Vec<Target>)> = loaded
            .into_iter()
            .filter(|(key, _)| lookup.format == AliasFormat::Aliases || !is_marker(key))
            .collect();
        let named = self.bare.iter().filter(|domain| ours.contains(domain)).cloned().map(Some);
        let domain = std::iter::once(None)
            .chain(named)
            .find(|domain| view(&loaded, domain.as_ref(), &domains) == wanted)?;
        Some(Named { path: lookup.path.clone()?, format: lookup.format, domain })
    }

    fn tell(&self, ways: &Ways<'_>, ours: &[Domain], report: &mut Report) {
        let scope = ways.postfix.scope();
        for note in &self.notes {
            match &note.place {
                None => report.left(&scope, note.parameter, note.weight, &note.text),
                Some(place) => {
                    report.left_with_its_service(&scope, note.parameter);
                    report.line(note.weight, place, note.parameter, &note.text);
                }
            }
        }
        report.nothing(&scope, "alias_database", "it says what newaliases makes, not what is used");
        let named = ways.classes.named(Class::Alias).iter();
        let (with, without): (Vec<&Domain>, Vec<&Domain>) = named
            .filter(|domain| ways.classes.class(domain) == Class::Alias)
            .partition(|domain| ours.contains(domain) && self.has_domain(domain));
        if !with.is_empty() {
            report.carried(&scope, "virtual_alias_domains");
        }
        if !without.is_empty() {
            let without: Vec<String> = without.into_iter().map(ToString::to_string).collect();
            let text =
                format!("mail for {} is refused: no alias there is carried over", few(&without));
            report.left(&scope, "virtual_alias_domains", Weight::Loud, &text);
        }
        if self.all.iter().any(|alias| self.is_local(alias)) && !ours.is_empty() {
            report.carried(&scope, "mydestination");
        }
        if !ours.is_empty() && !self.is_empty() {
            self.tell_of_owners(report);
            self.tell_of_extensions(ways, ours, report);
        }
    }

    fn is_local(&self, alias: &Alias) -> bool {
        self.lookups.get(alias.from).is_some_and(|lookup| lookup.parameter != VIRTUAL)
    }

    /// Postfix knows owners of lists in `alias_maps` alone.
    fn tell_of_owners(&self, report: &mut Report) {
        let keys: BTreeSet<String> = self.all.iter().map(|alias| folded(&alias.key)).collect();
        for alias in self.all.iter().filter(|alias| !self.is_local(alias)) {
            let Key::Address(mailbox) = &alias.key else { continue };
            let owner =
                Mailbox::new(&format!("owner-{}", mailbox.local()), mailbox.domain().clone());
            if let Ok(owner) = owner
                && keys.contains(&folded(&Key::Address(owner.clone())))
            {
                let text = format!(
                    "{mailbox} has an owner here: its mail goes on with {owner} as its sender; \
                     with Postfix it kept its own"
                );
                report.line(Weight::Loud, &alias.place, VIRTUAL, &text);
            }
        }
    }

    /// Extensions go along to our domains, and to no others, whatever kind an alias is of.
    fn tell_of_extensions(&self, ways: &Ways<'_>, ours: &[Domain], report: &mut Report) {
        if aliases::separator(ways.postfix).is_none() {
            return;
        }
        let (scope, name) = (ways.postfix.scope(), "propagate_unmatched_extensions");
        let words = scope.words(name);
        let (mut abroad, mut home) = (Vec::new(), Vec::new());
        for alias in self.all.iter().filter(|alias| matches!(alias.key, Key::Address(_))) {
            let class = if self.is_local(alias) { "alias" } else { "virtual" };
            let is_carried = words.iter().any(|word| word == class);
            let is_ours = |target: &Target| match &target.to {
                To::Address(to) => ours.contains(to.domain()),
                To::Domain(_) | To::Name(_) => true,
            };
            let key = || alias.key.show().trim_matches('"').to_owned();
            if is_carried && !alias.targets.iter().all(is_ours) {
                abroad.push(key());
            } else if !is_carried && alias.targets.iter().any(is_ours) {
                home.push(key());
            }
        }
        if !abroad.is_empty() {
            let text = format!(
                "an extension, as in name+extension, does not go along to addresses of others: {}",
                few(&abroad)
            );
            report.left(&scope, name, Weight::Loud, &text);
        }
        if !home.is_empty() {
            let text = format!(
                "an extension, as in name+extension, goes along to addresses in your domains, \
                 which it did not: {}",
                few(&home)
            );
            report.left(&scope, name, Weight::Plain, &text);
        }
        report.nothing(&scope, name, "extensions go along as before");
    }
}

fn file_table(names: &mut Names, origin: &str, file: &Named) -> Table {
    let Named { path, format, domain } = file;
    let mut table = Table::new("[[alias]]");
    table.about(origin);
    table.set("name", &names.give(path.rsplit('/').next().unwrap_or(path)), "");
    table.set("file", &PathBuf::from(path), "");
    if *format == AliasFormat::Aliases {
        table.set("format", format, "");
    }
    if domain.is_some() {
        table.set("domain", domain, "The domain of names without one.");
    }
    table
}

/// A table for each line.
fn copies(names: &mut Names, own: &[&Alias], origin: &str) -> Vec<Table> {
    let mut groups: Vec<(&Alias, Vec<Key>)> = Vec::new();
    for alias in own {
        match groups.last_mut() {
            Some((first, keys)) if first.place == alias.place && first.targets == alias.targets => {
                keys.push(alias.key.clone());
            }
            Some(_) | None => groups.push((alias, vec![alias.key.clone()])),
        }
    }
    let table = |(first, keys): (&Alias, Vec<Key>)| {
        let mut table = Table::new("[[alias]]");
        table.about(&format!("{origin}: {}", first.place));
        let like = match &first.key {
            Key::Address(mailbox) => mailbox.local().to_owned(),
            Key::Domain(domain) => domain.to_string(),
            Key::Name(name) => name.clone(),
        };
        table.set("name", &names.give(&like), "");
        table.list("addresses", &keys, "");
        table.list("to", &first.targets, "");
        table
    };
    groups.into_iter().map(table).collect()
}

/// What the reader makes of entries, with names in all of our domains.
fn view(loaded: &[(Key, Vec<Target>)], domain: Option<&Domain>, ours: &[Domain]) -> View {
    let mut view = View::new();
    let whole = loaded.iter().filter(|(key, _)| !matches!(key, Key::Name(_)));
    for (key, targets) in whole {
        let at = match key {
            Key::Address(mailbox) => Some(mailbox.domain()),
            Key::Domain(domain) => Some(domain),
            Key::Name(_) => None,
        };
        view.insert(folded(key), seen_from(targets, domain.or(at)));
    }
    for (key, targets) in loaded {
        let Key::Name(name) = key else { continue };
        for at in domain.map_or(ours, std::slice::from_ref) {
            if let Ok(mailbox) = Mailbox::new(name, at.clone()) {
                let targets = seen_from(targets, Some(at));
                view.entry(folded(&Key::Address(mailbox))).or_insert(targets);
            }
        }
    }
    view
}

fn seen_from(targets: &[Target], domain: Option<&Domain>) -> Vec<String> {
    let seen = |target: &Target| match (&target.to, domain) {
        (To::Name(name), Some(domain)) => {
            let to = Mailbox::new(name, domain.clone()).map(To::Address);
            to.map_or_else(|_| target.clone(), |to| Target { to, ..target.clone() })
        }
        (To::Address(_) | To::Domain(_) | To::Name(_), _) => target.clone(),
    };
    shown(&targets.iter().map(seen).collect::<Vec<_>>())
}

fn shown(targets: &[Target]) -> Vec<String> {
    targets.iter().map(Setting::show).collect()
}

const VIRTUAL: &str = "virtual_alias_maps";
const CLOSED: &str = "aliases are not carried over: they are in domains of ours alone, and none is \
                      ours where strangers may send nowhere; let the next hop do it";

#[cfg(test)]
#[path = "alias_tests.rs"]
mod tests;
