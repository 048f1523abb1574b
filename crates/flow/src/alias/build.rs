//! Whether entries make aliases that can be expanded: what is wrong is found before any mail comes.
//!
//! Invariant: [`Aliases`] that exist have no loop, and no entry leads to more than [`TARGETS_MAX`]
//! addresses; only an extension in an address may still lead to either. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use merpati_mail::{Domain, Mailbox};

use super::{
    Alias, Aliases, DEPTH_MAX, Entry, Key, Place, StandsFor, TARGETS_MAX, Target, To, Way,
};
use crate::admit::recipients::Known;

/// What of a site matters to its aliases.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    /// The domains that are ours.
    pub ours: BTreeSet<Domain>,
    /// Our host name: the domain of `<Postmaster>`.
    pub hostname: Domain,
    /// The recipients that exist; `None` where no list says so.
    pub known: Option<Arc<Known>>,
    /// What ends a local part before its extension; `None` for no extensions.
    pub separator: Option<char>,
}

/// What is wrong with an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mistake {
    /// It is about a domain that is not ours.
    Elsewhere(Domain),
    /// It leads back to itself, by these addresses.
    Loop(Vec<Mailbox>),
    /// It stands for a domain, and is not about one, or stands for others as well.
    NoDomain,
    /// It stands for nothing.
    Nothing,
    /// The way from it to where the mail goes has more than [`DEPTH_MAX`] entries.
    TooDeep,
    /// It leads to so many addresses or more, which is more than [`TARGETS_MAX`].
    TooMany(usize),
    /// Another entry is about the same.
    Twice {
        /// The place of the first one.
        first: usize,
    },
}

impl Aliases {
    /// The aliases of these entries, or what is wrong with which of them.
    pub fn new(entries: Vec<Entry>, site: Site) -> Result<Self, Vec<(usize, Mistake)>> {
        let mut aliases = Self {
            site,
            all: Vec::with_capacity(entries.len()),
            addresses: BTreeMap::new(),
            names: BTreeMap::new(),
            domains: BTreeMap::new(),
            srs: None,
        };
        let mut mistakes = Vec::new();
        for (place, entry) in entries.into_iter().enumerate() {
            let Entry { key, targets, access, origin } = entry;
            if let Some(first) = aliases.put(&key, place) {
                mistakes.push((place, Mistake::Twice { first }));
            }
            if let Some(domain) = aliases.elsewhere(&key) {
                mistakes.push((place, Mistake::Elsewhere(domain)));
            }
            let stands_for = stands_for(&key, targets).unwrap_or_else(|mistake| {
                mistakes.push((place, mistake));
                StandsFor::Targets(Vec::new())
            });
            aliases.all.push(Alias { stands_for, access, origin, size: 1 });
        }
        if mistakes.is_empty() {
            mistakes = aliases.measure();
        }
        mistakes.sort_by_key(|(place, _)| *place);
        if mistakes.is_empty() { Ok(aliases) } else { Err(mistakes) }
    }

    /// Whether there is nothing in it.
    pub const fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// The addresses in domains of ours to which entries lead and that are neither aliases nor in
    /// the list of recipients, each with the place of its entry; nothing where there is no list.
    pub fn strays(&self) -> Vec<(usize, Mailbox)> {
        let Some(known) = &self.site.known else { return Vec::new() };
        let is_stray = |mailbox: &Mailbox| {
            self.is_ours(mailbox.domain())
                && !known.has(mailbox)
                && self.find(mailbox, Way::Written).is_none()
        };
        let all = self.all.iter().enumerate().flat_map(|(place, alias)| {
            let targets = match &alias.stands_for {
                StandsFor::Domain(_) => &[][..],
                StandsFor::Targets(targets) => targets.as_slice(),
            };
            targets.iter().filter_map(move |target| match &target.to {
                To::Address(mailbox) => Some((place, mailbox.clone())),
                // In which domain it is looked for, the client says.
                To::Domain(_) | To::Name(_) => None,
            })
        });
        all.filter(|(_, mailbox)| is_stray(mailbox)).collect()
    }

    /// Notes where the entry for a key is; the place of another one that was there already.
    fn put(&mut self, key: &Key, place: Place) -> Option<Place> {
        let earlier = match key {
            Key::Address(mailbox) => {
                let own = self.addresses.entry(mailbox.domain().clone()).or_default();
                own.entry(mailbox.local().to_lowercase())
            }
            Key::Domain(domain) => return put_domain(&mut self.domains, domain, place),
            Key::Name(name) => self.names.entry(name.to_lowercase()),
        };
        let first = *earlier.or_insert(place);
        (first != place).then_some(first)
    }

    fn elsewhere(&self, key: &Key) -> Option<Domain> {
        let domain = match key {
            Key::Address(mailbox) => mailbox.domain(),
            Key::Domain(domain) => domain,
            Key::Name(_) => return None,
        };
        (!self.is_ours(domain)).then(|| domain.clone())
    }

    /// Follows every entry to its end, and notes how many addresses it yields.
    fn measure(&mut self) -> Vec<(Place, Mistake)> {
        let mut measuring = Measuring {
            aliases: self,
            chain: Vec::new(),
            known: BTreeMap::new(),
            sizes: BTreeMap::new(),
            mistakes: Vec::new(),
        };
        measuring.domains();
        if measuring.mistakes.is_empty() {
            for root in measuring.roots() {
                measuring.size(&root);
            }
            measuring.catch_alls();
        }
        let Measuring { sizes, mut mistakes, .. } = measuring;
        for (place, size) in sizes {
            if size > TARGETS_MAX {
                mistakes.push((place, Mistake::TooMany(size)));
            }
            if let Some(alias) = self.all.get_mut(place) {
                alias.size = size;
            }
        }
        mistakes
    }
}

fn put_domain(
    domains: &mut BTreeMap<Domain, Place>,
    domain: &Domain,
    place: Place,
) -> Option<Place> {
    let first = *domains.entry(domain.clone()).or_insert(place);
    (first != place).then_some(first)
}

fn stands_for(key: &Key, targets: Vec<Target>) -> Result<StandsFor, Mistake> {
    if targets.is_empty() {
        return Err(Mistake::Nothing);
    }
    if let (Key::Domain(_), [Target { to: To::Domain(domain), .. }]) = (key, targets.as_slice()) {
        return Ok(StandsFor::Domain(domain.clone()));
    }
    let is_domain = |target: &Target| matches!(target.to, To::Domain(_));
    if targets.iter().any(is_domain) {
        return Err(Mistake::NoDomain);
    }
    Ok(StandsFor::Targets(targets))
}

/// Follows entries to their ends.
struct Measuring<'a> {
    aliases: &'a Aliases,
    /// The entries that lead here, and for which address each was applied.
    chain: Vec<(Place, Mailbox)>,
    /// How many addresses these yield.
    known: BTreeMap<Mailbox, usize>,
    /// How many each entry yields at most.
    sizes: BTreeMap<Place, usize>,
    mistakes: Vec<(Place, Mistake)>,
}

impl Measuring<'_> {
    /// Finds domains that are names for each other.
    fn domains(&mut self) {
        let aliases = self.aliases;
        let mut good: BTreeSet<&Domain> = BTreeSet::new();
        for (domain, place) in &aliases.domains {
            let mut passed = vec![domain];
            let mut at = domain;
            while let Some(next) = aliases.other_name(at) {
                if good.contains(next) {
                    break;
                }
                if passed.contains(&next) {
                    let sample = |domain: &&Domain| Mailbox::new("name", (*domain).clone()).ok();
                    passed.push(next);
                    let way = passed.iter().filter_map(sample).collect();
                    self.mistakes.push((*place, Mistake::Loop(way)));
                    break;
                }
                if passed.len() >= DEPTH_MAX {
                    self.mistakes.push((*place, Mistake::TooDeep));
                    break;
                }
                passed.push(next);
                at = next;
            }
            good.extend(passed);
        }
    }

    /// The addresses from which all entries can be reached.
    fn roots(&self) -> Vec<Mailbox> {
        let aliases = self.aliases;
        let mut roots = Vec::new();
        for (domain, own) in &aliases.addresses {
            roots.extend(own.keys().filter_map(|local| Mailbox::new(local, domain.clone()).ok()));
        }
        // A name means the same in all domains without entries of their own: one of them is enough.
        let has_own = |domain: &&Domain| {
            aliases.addresses.contains_key(*domain) || aliases.domains.contains_key(*domain)
        };
        let ours = || aliases.site.ours.iter().chain([&aliases.site.hostname]);
        let mut domains: BTreeSet<&Domain> = ours().filter(has_own).collect();
        domains.extend(ours().find(|domain| !has_own(domain)));
        for domain in domains {
            let names = aliases.names.keys();
            roots.extend(names.filter_map(|local| Mailbox::new(local, domain.clone()).ok()));
        }
        roots
    }

    /// What catch-alls yield, which nothing leads to.
    fn catch_alls(&mut self) {
        let aliases = self.aliases;
        for (domain, place) in &aliases.domains {
            let Some(alias) = aliases.all.get(*place) else { continue };
            let Ok(sample) = Mailbox::new("name", domain.clone()) else { continue };
            if let StandsFor::Targets(_) = alias.stands_for {
                self.chain.push((*place, sample.clone()));
                let targets = aliases.targets_of(alias, &sample, None);
                let size =
                    targets.iter().map(|(to, _)| self.size(to)).fold(0, usize::saturating_add);
                self.chain.pop();
                self.sizes.insert(*place, size);
            }
        }
    }

    /// How many addresses this one yields, counted once for each way to them.
    fn size(&mut self, mailbox: &Mailbox) -> usize {
        let aliases = self.aliases;
        let folded = aliases.folded(mailbox);
        if let Some(size) = self.known.get(&folded) {
            return *size;
        }
        let Some((place, extension)) = aliases.find(mailbox, Way::Written) else { return 1 };
        let Some(alias) = aliases.all.get(place) else { return 1 };
        let is_passed =
            |(passed, at): &(Place, Mailbox)| *passed == place && at.domain() == mailbox.domain();
        if let Some(at) = self.chain.iter().position(is_passed) {
            self.note_loop(at, mailbox);
            return 1;
        }
        if self.chain.len() >= DEPTH_MAX {
            if let Some((first, _)) = self.chain.first() {
                self.mistakes.push((*first, Mistake::TooDeep));
            }
            return 1;
        }
        self.chain.push((place, mailbox.clone()));
        let mut size = 0_usize;
        for (target, is_final) in aliases.targets_of(alias, mailbox, extension) {
            size = size.saturating_add(if is_final { 1 } else { self.size(&target) });
            // It is a mistake already: with extensions there may be more ways than can be counted.
            if size > TARGETS_MAX {
                break;
            }
        }
        self.chain.pop();
        let most = self.sizes.entry(place).or_default();
        *most = size.max(*most);
        self.known.insert(folded, size);
        size
    }

    /// The entry at this place of the chain comes again. One that leads to itself means its own
    /// mailbox, also by another name of its domain.
    fn note_loop(&mut self, at: usize, mailbox: &Mailbox) {
        let passed = self.chain.get(at..).unwrap_or_default();
        let is_name = |(place, _): &(Place, Mailbox)| {
            let alias = self.aliases.all.get(*place);
            alias.is_some_and(|alias| matches!(alias.stands_for, StandsFor::Domain(_)))
        };
        if passed.iter().skip(1).all(is_name) {
            return;
        }
        let way = passed.iter().map(|(_, mailbox)| mailbox.clone()).chain([mailbox.clone()]);
        let way: Vec<Mailbox> = way.collect();
        if let Some((first, _)) = passed.first() {
            self.mistakes.push((*first, Mistake::Loop(way)));
        }
    }
}

impl Aliases {
    /// The domain for which this one is another name.
    fn other_name(&self, domain: &Domain) -> Option<&Domain> {
        match &self.all.get(*self.domains.get(domain)?)?.stands_for {
            StandsFor::Domain(other) => Some(other),
            StandsFor::Targets(_) => None,
        }
    }
}
