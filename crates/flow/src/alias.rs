//! What an address of ours stands for: aliases, groups, catch-alls, and domains with another name
//! (RFC 5321 §3.9).
//!
//! Invariant: expanding an address always ends, yields nobody twice, and never more than
//! [`TARGETS_MAX`] addresses. Only an address in a domain of ours stands for others, whoever asks.
//! Pure.
//!
//! An address is looked for as it is, and then without its extension: in the entries of its own
//! domain, in those for all domains of ours, and last among whole domains. A catch-all takes only
//! what a client names, never what an entry leads to: that was written by the operator, who means
//! the mailbox. An entry that leads back to itself means the mailbox of that name.
//!
//! An address that [`crate::srs`] wrote stands for who sent what was forwarded, before any entry.

mod build;
mod envelope;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use merpati_mail::{Domain, ForwardPath, Mailbox, ReversePath, Time};

pub use self::{
    build::{Mistake, Site},
    envelope::{Rewritten, Tally, report_recipients, rewritten},
};
use crate::srs::{Age, Forwarded, NoReturn, Srs};

/// The aliases of a site; [`Self::new`] makes them, or tells what is wrong with them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Aliases {
    site: Site,
    all: Vec<Alias>,
    /// Local parts in lower case, by domain: few domains tell `Info` from `info`.
    addresses: BTreeMap<Domain, BTreeMap<String, Place>>,
    /// Local parts in lower case, in each domain of ours.
    names: BTreeMap<String, Place>,
    domains: BTreeMap<Domain, Place>,
    /// Who rewrites senders; `None` where nobody does.
    srs: Option<Srs>,
}

/// The place of an entry among all.
type Place = usize;

/// One entry, as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What it is about.
    pub key: Key,
    /// What that stands for; at least one.
    pub targets: Vec<Target>,
    /// Who may write to it.
    pub access: Access,
    /// Where it was written, for people: `aliases:12`.
    pub origin: Arc<str>,
}

/// What an entry is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Key {
    /// This address.
    Address(Mailbox),
    /// Every address in this domain that has no entry and is in no list of recipients.
    Domain(Domain),
    /// This local part in each domain of ours.
    Name(String),
}

/// Something that an address stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Where to.
    pub to: To,
    /// Whether that is the mailbox itself, whatever it stands for (`\ani`).
    pub is_final: bool,
}

/// Where mail for an alias goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum To {
    /// This address, wherever it is.
    Address(Mailbox),
    /// The same local part in this domain; for whole domains only, and alone.
    Domain(Domain),
    /// This local part in the domain of the address that is expanded.
    Name(String),
}

/// Who may write to an alias.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Access {
    /// Everybody.
    #[default]
    Anybody,
    /// Our networks and credentials.
    Insiders,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Alias {
    stands_for: StandsFor,
    access: Access,
    origin: Arc<str>,
    /// How many addresses it yields at most.
    size: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum StandsFor {
    /// The same local part there.
    Domain(Domain),
    Targets(Vec<Target>),
}

/// How one comes to an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// A client named it, or one in a domain that is another name for its domain.
    Named,
    /// An entry leads to it.
    Written,
}

/// What a client means with an address that has an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meaning {
    /// The address, in the domain for which its own is another name.
    pub mailbox: Mailbox,
    /// Whether it stands for others, or is a mailbox of which only the domain was another one.
    pub kind: Kind,
    /// Who may write to it.
    pub access: Access,
    /// How many addresses it yields at most.
    pub size: usize,
}

/// What an address is once its domain is clear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It stands for others: it exists.
    Alias,
    /// A mailbox, which exists or not.
    Mailbox,
    /// It looks like one that we wrote for somebody's reports, and leads to nobody.
    Nobody(NoReturn),
    /// We wrote it, for the reports of this mailbox, which exists or not.
    Return,
}

/// The addresses that an alias stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expansion {
    /// Each once, in the order in which they were written; at least one.
    pub targets: Vec<Reached>,
    /// What was passed on the way, as people read it; the first one is what was named.
    pub steps: Vec<Step>,
}

/// An address that is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reached {
    /// Where the mail goes.
    pub mailbox: Mailbox,
    /// Who looks after the list on which it stands; `None` where there is nobody, and the
    /// originator hears of failures.
    pub owner: Option<Arc<Mailbox>>,
}

/// An entry that was applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// To which address.
    pub mailbox: Mailbox,
    /// Where the entry was written.
    pub origin: Arc<str>,
    /// What it leads to.
    pub to: Vec<Mailbox>,
}

/// Why an address cannot be expanded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotExpanded {
    /// It looks like one that we wrote for somebody's reports, and leads to nobody.
    Nobody(NoReturn),
    /// It leads to more than [`TARGETS_MAX`] addresses.
    TooMany,
}

/// From whom a message leaves towards an address that an alias leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Leaves {
    /// From who looks after the list on which the address stands.
    Owner(Arc<Mailbox>),
    /// From an address of ours that stands for who sent it.
    Rewritten(Mailbox),
    /// From who sent it.
    Same,
    /// The same, though it is a stranger's and forwarded: with it, an address of ours would be too
    /// long.
    TooLong,
}

impl Aliases {
    /// The same, with senders rewritten by this one.
    #[must_use]
    pub fn with_srs(self, srs: Srs) -> Self {
        Self { srs: Some(srs), ..self }
    }

    /// What a client means with this address at this wall time; `None` where it is only what it
    /// says.
    pub fn meaning(&self, path: &ForwardPath, now: Time) -> Option<Meaning> {
        let mut mailbox = self.named(path)?;
        let mut access = Access::Anybody;
        let mut kind = None;
        for _ in 0..DEPTH_MAX {
            match self.returned(&mailbox, Age::At(now)) {
                Some(Ok(original)) => {
                    (mailbox, kind) = (original, Some((Kind::Return, 1)));
                    continue;
                }
                Some(Err(why)) => {
                    kind = Some((Kind::Nobody(why), 1));
                    break;
                }
                None => {}
            }
            let entry = self.find(&mailbox, Way::Named).and_then(|(place, _)| self.all.get(place));
            let Some(alias) = entry else { break };
            if alias.access == Access::Insiders {
                access = Access::Insiders;
            }
            match &alias.stands_for {
                StandsFor::Domain(domain) => {
                    let Ok(there) = Mailbox::new(mailbox.local(), domain.clone()) else { break };
                    let is_return = matches!(kind, Some((Kind::Return, _)));
                    let of = if is_return { Kind::Return } else { Kind::Mailbox };
                    (mailbox, kind) = (there, Some((of, 1)));
                }
                StandsFor::Targets(_) => {
                    kind = Some((Kind::Alias, alias.size));
                    break;
                }
            }
        }
        kind.map(|(kind, size)| Meaning { mailbox, kind, access, size })
    }

    /// All that an address stands for at this wall time; `None` where it is only what it says.
    pub fn expand(&self, path: &ForwardPath, now: Time) -> Result<Option<Expansion>, NotExpanded> {
        let Some(named) = self.named(path) else { return Ok(None) };
        let is_written = || self.returned(&named, Age::At(now)).is_some();
        if self.find(&named, Way::Named).is_none() && !is_written() {
            return Ok(None);
        }
        let mut walk = Walk {
            aliases: self,
            now,
            chain: Vec::new(),
            seen: BTreeSet::new(),
            reached: BTreeSet::new(),
            expansion: Expansion { targets: Vec::new(), steps: Vec::new() },
            visits: 0,
        };
        walk.visit(named, Way::Named, None)?;
        Ok(Some(walk.expansion))
    }

    /// Whether the domain is one of ours.
    pub fn is_ours(&self, domain: &Domain) -> bool {
        self.site.ours.contains(domain) || self.site.hostname == *domain
    }

    /// From whom a message with this reverse-path leaves towards an address that is reached.
    pub fn leaves(&self, reverse_path: &ReversePath, reached: &Reached, now: Time) -> Leaves {
        // Where failures are told to nobody, they are told to no owner either: a report that goes
        // to a list must not make others (RFC 5321 §4.5.5).
        let Some(sender) = reverse_path.mailbox() else { return Leaves::Same };
        if let Some(owner) = &reached.owner {
            return Leaves::Owner(Arc::clone(owner));
        }
        let Some(srs) = &self.srs else { return Leaves::Same };
        if self.is_ours(sender.domain()) || self.is_ours(reached.mailbox.domain()) {
            return Leaves::Same;
        }
        match srs.forwarded(sender, now) {
            Forwarded::As(mailbox) => Leaves::Rewritten(mailbox),
            Forwarded::Same => Leaves::Same,
            Forwarded::TooLong => Leaves::TooLong,
        }
    }

    /// Who sent what we forwarded from this address: who hears of it, however long it waited. Who
    /// is nobody's stand-in is himself.
    pub fn originator(&self, mailbox: &Mailbox) -> Mailbox {
        let mut mailbox = mailbox.clone();
        // Each is shorter than the one that stands for it.
        while let Some(Ok(original)) = self.returned(&mailbox, Age::Any) {
            mailbox = original;
        }
        mailbox
    }

    fn returned(&self, mailbox: &Mailbox, age: Age) -> Option<Result<Mailbox, NoReturn>> {
        self.srs.as_ref()?.read(mailbox, age)
    }

    /// Where an address is looked for; `None` where nothing can be there. `<Postmaster>` is the
    /// one at our host name.
    fn named(&self, path: &ForwardPath) -> Option<Mailbox> {
        match path {
            ForwardPath::Mailbox(mailbox) => {
                self.is_ours(mailbox.domain()).then(|| mailbox.clone())
            }
            ForwardPath::Postmaster => Mailbox::new("postmaster", self.site.hostname.clone()).ok(),
        }
    }

    /// The entry for an address, and the extension that it does not have.
    fn find<'m>(&self, mailbox: &'m Mailbox, way: Way) -> Option<(Place, Option<&'m str>)> {
        let domain = mailbox.domain();
        if !self.is_ours(domain) {
            return None;
        }
        self.find_by_local(mailbox).or_else(|| {
            let place = *self.domains.get(domain)?;
            let applies = match (way, &self.all.get(place)?.stands_for) {
                (Way::Named, _) | (Way::Written, StandsFor::Domain(_)) => true,
                (Way::Written, StandsFor::Targets(_)) => false,
            };
            let is_listed = || self.site.known.as_ref().is_some_and(|known| known.lists(mailbox));
            (applies && !is_listed()).then_some((place, None))
        })
    }

    fn find_by_local<'m>(&self, mailbox: &'m Mailbox) -> Option<(Place, Option<&'m str>)> {
        let own = self.addresses.get(mailbox.domain());
        if own.is_none() && self.names.is_empty() {
            return None;
        }
        let whole = mailbox.local().to_lowercase();
        let parts = self.site.separator.and_then(|at| mailbox.local().split_once(at));
        let parts = parts.filter(|(stem, _)| !stem.is_empty());
        let parts = parts.map(|(stem, extension)| (stem.to_lowercase(), extension));
        let look = |table: &BTreeMap<String, Place>| match (table.get(&whole), &parts) {
            (Some(place), _) => Some((*place, None)),
            (None, Some((stem, extension))) => {
                table.get(stem).map(|place| (*place, Some(*extension)))
            }
            (None, None) => None,
        };
        own.and_then(look).or_else(|| look(&self.names))
    }

    /// Where an entry leads for this address, and whether that is the mailbox itself.
    fn targets_of(
        &self,
        alias: &Alias,
        mailbox: &Mailbox,
        extension: Option<&str>,
    ) -> Vec<(Mailbox, bool)> {
        match &alias.stands_for {
            StandsFor::Domain(domain) => {
                let there = Mailbox::new(mailbox.local(), domain.clone());
                there.into_iter().map(|there| (there, false)).collect()
            }
            StandsFor::Targets(targets) => {
                let seen = targets.iter().filter_map(|target| {
                    let to = target.seen_from(self, mailbox, extension)?;
                    Some((to, target.is_final))
                });
                seen.collect()
            }
        }
    }

    /// Who looks after the list of this name: `owner-NAME`, where that has an entry.
    fn owner_of(&self, mailbox: &Mailbox, extension: Option<&str>) -> Option<Mailbox> {
        let local = mailbox.local();
        let stem = match (extension, self.site.separator) {
            (Some(_), Some(separator)) => local.split_once(separator).map_or(local, |(s, _)| s),
            (_, _) => local,
        };
        if stem.get(..OWNER.len()).is_some_and(|start| start.eq_ignore_ascii_case(OWNER)) {
            return None;
        }
        let owner = Mailbox::new(&format!("{OWNER}{stem}"), mailbox.domain().clone()).ok()?;
        let (_, extension) = self.find_by_local(&owner)?;
        extension.is_none().then_some(owner)
    }

    /// The same for addresses that are the same mailbox. Only of our own domains it is known that
    /// they do not tell `Ani` from `ani`.
    fn folded(&self, mailbox: &Mailbox) -> Mailbox {
        let is_lower = || !mailbox.local().chars().any(char::is_uppercase);
        if !self.is_ours(mailbox.domain()) || is_lower() {
            return mailbox.clone();
        }
        let local = mailbox.local().to_lowercase();
        Mailbox::new(&local, mailbox.domain().clone()).unwrap_or_else(|_| mailbox.clone())
    }
}

impl Target {
    /// The address, seen from one that is expanded. An extension goes along to a mailbox of ours:
    /// of other servers it is not known whether they have extensions.
    fn seen_from(
        &self,
        aliases: &Aliases,
        mailbox: &Mailbox,
        extension: Option<&str>,
    ) -> Option<Mailbox> {
        let target = match &self.to {
            To::Address(target) => target.clone(),
            To::Domain(domain) => Mailbox::new(mailbox.local(), domain.clone()).ok()?,
            To::Name(name) => Mailbox::new(name, mailbox.domain().clone()).ok()?,
        };
        let (Some(extension), Some(separator)) = (extension, aliases.site.separator) else {
            return Some(target);
        };
        if extension.is_empty() || !aliases.is_ours(target.domain()) {
            return Some(target);
        }
        let extended = format!("{}{separator}{extension}", target.local());
        // Too long with it, it is still the right mailbox without.
        Some(Mailbox::new(&extended, target.domain().clone()).unwrap_or(target))
    }
}

/// An expansion that goes on.
struct Walk<'a> {
    aliases: &'a Aliases,
    now: Time,
    /// The entries that lead here, and for which domains they were applied.
    chain: Vec<(Place, Domain)>,
    /// The addresses whose entries were applied.
    seen: BTreeSet<Mailbox>,
    /// The addresses that are reached.
    reached: BTreeSet<Mailbox>,
    expansion: Expansion,
    visits: usize,
}

impl Walk<'_> {
    fn visit(
        &mut self,
        mailbox: Mailbox,
        way: Way,
        owner: Option<&Arc<Mailbox>>,
    ) -> Result<(), NotExpanded> {
        self.visits += 1;
        if self.visits > VISITS_MAX {
            return Err(NotExpanded::TooMany);
        }
        let aliases = self.aliases;
        match (aliases.returned(&mailbox, Age::At(self.now)), way) {
            (Some(Ok(original)), _) => {
                self.expansion.steps.push(Step {
                    mailbox,
                    origin: SRS_ORIGIN.into(),
                    to: vec![original.clone()],
                });
                return self.visit(original, way, owner);
            }
            (Some(Err(why)), Way::Named) => return Err(NotExpanded::Nobody(why)),
            (Some(Err(_)), Way::Written) | (None, _) => {}
        }
        let is_passed = |place: Place| {
            let mut chain = self.chain.iter();
            chain.any(|(passed, domain)| *passed == place && domain == mailbox.domain())
        };
        let found = aliases.find(&mailbox, way).filter(|(place, _)| !is_passed(*place));
        let found = found.filter(|_| self.chain.len() < DEPTH_MAX);
        let entry = found.and_then(|(place, extension)| {
            aliases.all.get(place).map(|alias| (place, alias, extension))
        });
        let Some((place, alias, extension)) = entry else { return self.reach(mailbox, owner) };
        if !self.seen.insert(aliases.folded(&mailbox)) {
            return Ok(());
        }
        let targets = aliases.targets_of(alias, &mailbox, extension);
        let own = match &alias.stands_for {
            StandsFor::Domain(_) => None,
            StandsFor::Targets(_) => aliases.owner_of(&mailbox, extension).map(Arc::new),
        };
        let next = match (way, &alias.stands_for) {
            (Way::Named, StandsFor::Domain(_)) => Way::Named,
            (Way::Named | Way::Written, _) => Way::Written,
        };
        self.expansion.steps.push(Step {
            mailbox: mailbox.clone(),
            origin: Arc::clone(&alias.origin),
            to: targets.iter().map(|(to, _)| to.clone()).collect(),
        });
        if targets.is_empty() {
            // A name that is too long there: the mail goes where it was sent, and is refused there.
            return self.reach(mailbox, owner);
        }
        let owner = own.as_ref().or(owner);
        self.chain.push((place, mailbox.domain().clone()));
        for (target, is_final) in targets {
            if is_final {
                self.reach(target, owner)?;
            } else {
                self.visit(target, next, owner)?;
            }
        }
        self.chain.pop();
        Ok(())
    }

    fn reach(&mut self, mailbox: Mailbox, owner: Option<&Arc<Mailbox>>) -> Result<(), NotExpanded> {
        if !self.reached.insert(self.aliases.folded(&mailbox)) {
            return Ok(());
        }
        if self.reached.len() > TARGETS_MAX {
            return Err(NotExpanded::TooMany);
        }
        self.expansion.targets.push(Reached { mailbox, owner: owner.cloned() });
        Ok(())
    }
}

/// What the name of the alias for who looks after a list begins with.
const OWNER: &str = "owner-";
/// The origin of a step that no entry makes: from an address that a sender was rewritten to.
pub const SRS_ORIGIN: &str = "relay.srs_domain";
/// Addresses that one alias may stand for, and recipients of one message after all are expanded.
pub const TARGETS_MAX: usize = 10_000;
/// Entries on the way from an address to where its mail goes.
pub const DEPTH_MAX: usize = 50;
/// Addresses that are looked at in one expansion.
const VISITS_MAX: usize = DEPTH_MAX * TARGETS_MAX;

#[cfg(test)]
#[path = "alias/tests.rs"]
mod tests;
