//! Which addresses stood for others, and for which.
//!
//! Invariant: an alias is carried over whole or not at all, and one that is not is told with its
//! place: no target is lost in silence. A domain is ours for its aliases only where Postfix took
//! its mail from strangers, and only with an alias that leads somewhere. Pure.

use std::collections::{BTreeMap, BTreeSet};

use merpati_flow::alias::{Access, Aliases as Checked, Entry, Key, Mistake, Site, Target, To};
use merpati_mail::{Domain, Mailbox};

use super::{
    Postfix,
    alias_rows::{self, Lookup, Row},
    classes::Class,
    report::Weight,
    rules::Ways,
    text::Place,
};
use crate::config::{setting::Setting, setting_aliases::AliasFormat};

/// What was found.
#[derive(Clone, Debug, Default)]
pub(super) struct Aliases {
    /// The aliases that are carried over.
    pub all: Vec<Alias>,
    /// The tables that they come from.
    pub lookups: Vec<Lookup>,
    /// What is to be told.
    pub notes: Vec<Note>,
    /// The domains that have names without one.
    pub bare: Vec<Domain>,
}

/// An alias.
#[derive(Clone, Debug)]
pub(super) struct Alias {
    /// An address or a domain.
    pub key: Key,
    /// What it stands for: addresses, or one domain.
    pub targets: Vec<Target>,
    /// Where it stands.
    pub place: Place,
    /// The place of its table among all.
    pub from: usize,
}

/// Something to be told about a parameter.
#[derive(Clone, Debug)]
pub(super) struct Note {
    /// The parameter.
    pub parameter: &'static str,
    /// Where, if not where the parameter is set.
    pub place: Option<Place>,
    /// How much it matters.
    pub weight: Weight,
    /// What.
    pub text: String,
}

impl Aliases {
    /// Those of a configuration. Domains that have any become `ours` with that.
    pub(super) fn of(ways: &Ways<'_>, ours: &mut Vec<Domain>) -> Self {
        let mut found = Self::default();
        let postfix = ways.postfix;
        let origin = origin(postfix);
        let local = ways.local_domains();
        found.bare = ways.classes.named(Class::Local).to_vec();
        found.bare.extend(origin.clone().filter(|origin| !found.bare.contains(origin)));
        found.read(postfix, "virtual_alias_maps", AliasFormat::Virtual);
        found.take_virtual(ways, origin.as_ref());
        let behind = found.lookups.len();
        if !local.is_empty() {
            found.read(postfix, "alias_maps", AliasFormat::Aliases);
            found.take_local(behind, &local, origin.as_ref());
            found.luser(postfix, &local);
        }
        found.complete();
        found.prune(ways, ours, &local);
        found
    }

    /// Whether none is carried over.
    pub(super) const fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Of these, who is listed, those whose mail a catch-all of Postfix took, and none does here.
    pub(super) fn caught<'m>(
        &self,
        listed: impl Iterator<Item = &'m Mailbox>,
        separator: Option<char>,
    ) -> Vec<String> {
        let keys: BTreeSet<String> = self.all.iter().map(|alias| folded(&alias.key)).collect();
        let catcher = |domain: &Domain| keys.contains(&folded(&Key::Domain(domain.clone())));
        let caught = listed.filter(|one| catcher(one.domain()) && !is_alias(&keys, one, separator));
        caught.map(ToString::to_string).collect()
    }

    /// Whether all addresses of this domain stand for others.
    pub(super) fn has_catch_all(&self, domain: &Domain) -> bool {
        self.all.iter().any(|alias| matches!(&alias.key, Key::Domain(own) if own == domain))
    }

    /// Whether any is in this domain.
    pub(super) fn has_domain(&self, domain: &Domain) -> bool {
        self.all.iter().any(|alias| domain_of(&alias.key) == Some(domain))
    }

    fn read(&mut self, postfix: &Postfix, parameter: &'static str, format: AliasFormat) {
        for name in postfix.scope().words(parameter) {
            match alias_rows::read(postfix, parameter, &name, format) {
                Ok(lookup) => {
                    for (place, why) in &lookup.refused {
                        let text = format!("{why}; {OUT}");
                        self.note(parameter, Some(place.clone()), Weight::Loud, text);
                    }
                    self.lookups.push(lookup);
                }
                Err(why) => {
                    let text = format!("{why}; its aliases are not carried over: {OUT}");
                    self.note(parameter, None, Weight::Loud, text);
                }
            }
        }
    }

    /// Whole addresses count more than names, whatever table they are in.
    fn take_virtual(&mut self, ways: &Ways<'_>, origin: Option<&Domain>) {
        let rows: Vec<(usize, Row)> = self.rows(0);
        let (names, whole): (Vec<_>, Vec<_>) =
            rows.into_iter().partition(|(_, row)| matches!(row.key, Key::Name(_)));
        let mut seen = BTreeSet::new();
        let bare = self.bare.clone();
        for (from, row) in whole.into_iter().chain(names) {
            let keys = match &row.key {
                Key::Address(_) | Key::Domain(_) => vec![row.key.clone()],
                // It only says that the domain is there.
                Key::Name(name) if is_marker(ways, name) => Vec::new(),
                Key::Name(name) => addresses(name, &bare),
            };
            self.put(keys, (from, &row), origin, &mut seen);
        }
    }

    /// What the local delivery agent looks up: it comes behind the virtual aliases.
    fn take_local(&mut self, behind: usize, local: &[Domain], origin: Option<&Domain>) {
        let mut virtuals: BTreeMap<String, usize> = BTreeMap::new();
        for (at, alias) in self.all.iter().enumerate() {
            virtuals.insert(folded(&alias.key), at);
        }
        let mut seen = BTreeSet::new();
        for (from, row) in self.rows(behind) {
            let Key::Name(name) = &row.key else {
                let text = format!("{}: only names stand here; {OUT}", row.key.show());
                self.note("alias_maps", Some(row.place), Weight::Plain, text);
                continue;
            };
            let Some(targets) = resolved(&row.targets, origin) else {
                self.note("alias_maps", Some(row.place), Weight::Loud, NO_ORIGIN.to_owned());
                continue;
            };
            let mut keys = Vec::new();
            for key in addresses(name, local) {
                let earlier = virtuals.get(&folded(&key)).and_then(|at| self.all.get_mut(*at));
                match earlier {
                    Some(alias) => alias.goes_on_to(&targets),
                    None => keys.push(key),
                }
            }
            self.put(keys, (from, &row), origin, &mut seen);
        }
    }

    /// Who is nobody, where Postfix took mail for everybody.
    fn luser(&mut self, postfix: &Postfix, local: &[Domain]) {
        let (scope, name) = (postfix.scope(), "luser_relay");
        let Some(set) = scope.assignment(name).filter(|_| scope.has(name)) else { return };
        let is_used = ["local_recipient_maps", "mailbox_transport", "fallback_transport"]
            .iter()
            .all(|other| scope.value(other).is_empty());
        if !is_used {
            let text = "Postfix did not come to it: local_recipient_maps refuses who is nobody, or \
                        mail goes on by mailbox_transport or fallback_transport";
            return self.note(name, None, Weight::Plain, text.to_owned());
        }
        let raw = set.raw.trim();
        let same = ["$user@", "${user}@", "$local@", "${local}@"]
            .iter()
            .find_map(|start| raw.strip_prefix(start))
            .map(|domain| format!("@{domain}"));
        let text = same.unwrap_or_else(|| raw.to_owned());
        let target = Target::parse(&text).ok().filter(|_| !text.contains('$'));
        let Some(targets) = target.and_then(|to| resolved(&[to], origin(postfix).as_ref())) else {
            let text = format!("`{raw}` cannot be written as a catch-all; {OUT}");
            return self.note(name, None, Weight::Loud, text);
        };
        let text = "it is a catch-all here, and takes mail for the users of this machine as well: \
                    they are not known here; list them in recipients.known, with a route that \
                    leads to their mailboxes";
        self.note(name, None, Weight::Loud, text.to_owned());
        let from = self.lookups.len();
        self.lookups.push(Lookup {
            parameter: name,
            path: None,
            format: AliasFormat::Virtual,
            rows: Vec::new(),
            refused: Vec::new(),
        });
        let seen: BTreeSet<String> = self.all.iter().map(|alias| folded(&alias.key)).collect();
        let keys = local.iter().map(|domain| Key::Domain(domain.clone()));
        let place = set.place.clone();
        self.all.extend(keys.filter(|key| !seen.contains(&folded(key))).map(|key| Alias {
            key,
            targets: targets.clone(),
            place: place.clone(),
            from,
        }));
    }

    fn put(
        &mut self,
        keys: Vec<Key>,
        (from, row): (usize, &Row),
        origin: Option<&Domain>,
        seen: &mut BTreeSet<String>,
    ) {
        let Some(targets) = resolved(&row.targets, origin) else {
            let parameter = self.lookups.get(from).map_or("alias_maps", |lookup| lookup.parameter);
            let place = Some(row.place.clone());
            return self.note(parameter, place, Weight::Loud, NO_ORIGIN.to_owned());
        };
        for key in keys {
            // Of several the first counts.
            if seen.insert(folded(&key)) {
                let (targets, place) = (targets.clone(), row.place.clone());
                self.all.push(Alias { key, targets, place, from });
            }
        }
    }

    /// A catch-all of Postfix takes what aliases lead to as well; here that is written.
    fn complete(&mut self) {
        let keys: BTreeSet<String> = self.all.iter().map(|alias| folded(&alias.key)).collect();
        let catchers = self.all.iter().filter_map(|alias| match &alias.key {
            Key::Domain(domain) => Some((domain.clone(), alias.clone())),
            Key::Address(_) | Key::Name(_) => None,
        });
        let catchers: BTreeMap<Domain, Alias> = catchers.collect();
        let mut more: BTreeMap<String, Alias> = BTreeMap::new();
        for target in self.all.iter().flat_map(|alias| &alias.targets) {
            let To::Address(mailbox) = &target.to else { continue };
            let Some(catcher) = catchers.get(mailbox.domain()) else { continue };
            let key = Key::Address(mailbox.clone());
            let is_same_name =
                catcher.targets.iter().any(|target| matches!(target.to, To::Domain(_)));
            let is_end = catcher.targets.len() == 1
                && catcher.targets.iter().all(|target| is_itself(&key, target));
            let name = folded(&key);
            if !target.is_final && !is_same_name && !is_end && !keys.contains(&name) {
                more.insert(name, Alias { key, ..catcher.clone() });
            }
        }
        self.all.extend(more.into_values());
    }

    /// Leaves out what leads nowhere, or what the reader would refuse, until nothing is left out.
    fn prune(&mut self, ways: &Ways<'_>, ours: &mut Vec<Domain>, local: &[Domain]) {
        let delivered = ours.clone();
        let may_be = |domain: &Domain| {
            delivered.contains(domain)
                || local.contains(domain)
                || ways.classes.named(Class::Alias).contains(domain)
                    && ways.classes.class(domain) == Class::Alias
        };
        let mut out: Vec<(usize, String)> = self
            .all
            .iter()
            .enumerate()
            .filter_map(|(at, alias)| {
                let domain = domain_of(&alias.key).filter(|domain| !may_be(domain))?;
                Some((at, format!("{domain} is no domain of ours, so its addresses stay")))
            })
            .collect();
        loop {
            self.leave(std::mem::take(&mut out));
            let keys: BTreeSet<String> = self.all.iter().map(|alias| folded(&alias.key)).collect();
            let domains: BTreeSet<&Domain> =
                self.all.iter().filter_map(|alias| domain_of(&alias.key)).collect();
            let separator = separator(ways.postfix);
            let is_dead = |key: &Key, target: &Target| match &target.to {
                To::Address(mailbox) => {
                    let is_end = target.is_final || is_itself(key, target);
                    let is_alias = !is_end && is_alias(&keys, mailbox, separator);
                    !is_alias && !ways.is_delivered(mailbox.domain())
                }
                To::Domain(domain) => !domains.contains(domain) && !ways.is_delivered(domain),
                To::Name(_) => true,
            };
            for (at, alias) in self.all.iter().enumerate() {
                if let Some(dead) = alias.targets.iter().find(|to| is_dead(&alias.key, to)) {
                    let why = format!("it leads to {}, whose mail goes nowhere here", dead.show());
                    out.push((at, why));
                }
            }
            if out.is_empty() {
                let more = domains.into_iter().filter(|domain| !delivered.contains(domain));
                let all = [delivered.clone(), more.cloned().collect()].concat();
                out = self.mistakes(&all, separator, ways.postfix);
                if out.is_empty() {
                    *ours = all;
                    return;
                }
            }
        }
    }

    /// What the reader of the configuration would refuse.
    fn mistakes(
        &self,
        ours: &[Domain],
        separator: Option<char>,
        postfix: &Postfix,
    ) -> Vec<(usize, String)> {
        let entry = |alias: &Alias| Entry {
            key: alias.key.clone(),
            targets: alias.targets.clone(),
            access: Access::Anybody,
            origin: alias.place.to_string().into(),
        };
        let site = Site {
            ours: ours.iter().cloned().collect(),
            hostname: hostname(postfix).unwrap_or_else(Domain::localhost),
            known: None,
            separator,
        };
        let Err(mistakes) = Checked::new(self.all.iter().map(entry).collect(), site) else {
            return Vec::new();
        };
        let told = |mistake: Mistake| match mistake {
            Mistake::Elsewhere(domain) => format!("{domain} is no domain of ours"),
            Mistake::Loop(_) => "it leads back to itself".to_owned(),
            Mistake::NoDomain => "only a domain stands for a domain, alone".to_owned(),
            Mistake::Nothing => "it stands for nothing".to_owned(),
            Mistake::TooDeep => "it leads through too many others".to_owned(),
            Mistake::TooMany(count) => format!("it leads to {count} addresses, which are too many"),
            Mistake::Twice { .. } => "it is an alias already".to_owned(),
        };
        let mut seen = BTreeSet::new();
        let mistakes = mistakes.into_iter().filter(|(at, _)| seen.insert(*at));
        mistakes.map(|(at, mistake)| (at, told(mistake))).collect()
    }

    fn leave(&mut self, out: Vec<(usize, String)>) {
        let out: BTreeMap<usize, String> = out.into_iter().collect();
        let all = std::mem::take(&mut self.all);
        for (at, alias) in all.into_iter().enumerate() {
            let Some(why) = out.get(&at) else {
                self.all.push(alias);
                continue;
            };
            let parameter = self.lookups.get(alias.from).map_or("", |lookup| lookup.parameter);
            let key = alias.key.show();
            let text = format!("{}: {why}; {OUT}", key.trim_matches('"'));
            self.note(parameter, Some(alias.place), Weight::Loud, text);
        }
    }

    fn rows(&self, behind: usize) -> Vec<(usize, Row)> {
        let lookups = self.lookups.iter().enumerate().skip(behind);
        lookups
            .flat_map(|(from, lookup)| lookup.rows.iter().map(move |row| (from, row.clone())))
            .collect()
    }

    fn note(
        &mut self,
        parameter: &'static str,
        place: Option<Place>,
        weight: Weight,
        text: String,
    ) {
        self.notes.push(Note { parameter, place, weight, text });
    }
}

impl Alias {
    /// Where it leads to itself, it goes on to these.
    fn goes_on_to(&mut self, targets: &[Target]) {
        let own = self.targets.iter().position(|target| is_itself(&self.key, target));
        if let Some(at) = own {
            self.targets.splice(at..=at, targets.to_vec());
        }
    }
}

/// What ends a local part before its extension.
pub(super) fn separator(postfix: &Postfix) -> Option<char> {
    let usable = |c: &char| c.is_ascii_punctuation() && *c != '@' && *c != '"';
    postfix.scope().value("recipient_delimiter").chars().next().filter(usable)
}

/// Whether a key without @ is a domain, and says nothing but that it is there.
pub(super) fn is_marker(ways: &Ways<'_>, name: &str) -> bool {
    let is_alias = |domain: Domain| ways.classes.named(Class::Alias).contains(&domain);
    name.contains('.') && Domain::parse(name).is_ok_and(is_alias)
}

/// The name of the machine, where it is set.
pub(super) fn hostname(postfix: &Postfix) -> Option<Domain> {
    Domain::parse(&postfix.scope().value("myhostname")).ok()
}

/// A key in a form in which two that are the same are equal.
pub(super) fn folded(key: &Key) -> String {
    key.show().to_lowercase()
}

/// The domain of names without one, which may stand in a file.
fn origin(postfix: &Postfix) -> Option<Domain> {
    let value = postfix.scope().value("myorigin");
    if value.starts_with('/') {
        let entries = postfix.files.list(&value).ok()?;
        return entries.first().and_then(|(word, _)| Domain::parse(word).ok());
    }
    Domain::parse(&value).ok()
}

fn resolved(targets: &[Target], origin: Option<&Domain>) -> Option<Vec<Target>> {
    let resolve = |target: &Target| match &target.to {
        To::Address(_) | To::Domain(_) => Some(target.clone()),
        To::Name(name) => {
            let to = To::Address(Mailbox::new(name, origin?.clone()).ok()?);
            Some(Target { to, ..target.clone() })
        }
    };
    targets.iter().map(resolve).collect()
}

fn addresses(name: &str, domains: &[Domain]) -> Vec<Key> {
    let whole = domains.iter().filter_map(|domain| Mailbox::new(name, domain.clone()).ok());
    whole.map(Key::Address).collect()
}

fn domain_of(key: &Key) -> Option<&Domain> {
    match key {
        Key::Address(mailbox) => Some(mailbox.domain()),
        Key::Domain(domain) => Some(domain),
        Key::Name(_) => None,
    }
}

fn is_itself(key: &Key, target: &Target) -> bool {
    match (key, &target.to) {
        (Key::Address(own), To::Address(to)) => is_same(own, to, None),
        (Key::Address(_) | Key::Domain(_) | Key::Name(_), _) => false,
    }
}

/// Whether the second is the first, with or without an extension.
fn is_same(own: &Mailbox, mailbox: &Mailbox, separator: Option<char>) -> bool {
    let stem = separator.and_then(|at| mailbox.local().split_once(at)).map(|(stem, _)| stem);
    let is = |local: &str| own.local().to_lowercase() == local.to_lowercase();
    own.domain() == mailbox.domain() && (is(mailbox.local()) || stem.is_some_and(is))
}

fn is_alias(keys: &BTreeSet<String>, mailbox: &Mailbox, separator: Option<char>) -> bool {
    let has = |local: &str| {
        let address = Mailbox::new(local, mailbox.domain().clone()).map(Key::Address);
        address.is_ok_and(|key| keys.contains(&folded(&key)))
    };
    let stem = separator.and_then(|at| mailbox.local().split_once(at)).map(|(stem, _)| stem);
    has(mailbox.local()) || stem.is_some_and(has)
}

const OUT: &str = "it is left out whole, and mail for it is that for an address without alias: \
                   refused, or for a mailbox or a catch-all there";
const NO_ORIGIN: &str = "it leads to a name without a domain, and myorigin is not known here; it \
                         is left out whole";
