//! Which options there are about aliases, and the tables that they make with the files they name.
//!
//! Each option stands here with its meaning and default. Not pure: reads the files.

use std::{ops::Range, path::PathBuf, sync::Arc};

use merpati_flow::alias::{Access, Aliases, DEPTH_MAX, Entry, Key, Mistake, Site, Target, To};
use merpati_mail::{Domain, Mailbox};

use super::{
    Config,
    alias_text::{self, AliasLine, Member},
    diagnostic::{Diagnostic, Errors},
    section::{Default, section},
    setting::{Setting, Wrong},
    setting_aliases::AliasFormat,
    source::{Source, Sources, Span},
    values::Name,
};

section! {
    /// Aliases, as often as needed: what addresses in `relay.local_domains` stand for, in a file
    /// or written here. Who is named by a client is looked for as it is and then without its
    /// extension (`recipients.separator`). `docs/aliases.md` says more.
    Named "alias" AliasEntry {
        /// Its name in messages about it; each table has its own.
        name: Name = Default::Required;
        /// A file with aliases. Read at start.
        file: Option<PathBuf> = Default::Value("off");
        /// How the file is written: as Postfix's virtual(5), or as aliases(5). Programs and files
        /// are no targets.
        format: AliasFormat = Default::Value("virtual");
        /// What stands for others, where that is written here: addresses, names without a domain
        /// (in each of `relay.local_domains`), and domains, for whoever has no alias there and is
        /// not listed in `[recipients]`.
        addresses: Vec<Key> = Default::Value("");
        /// What each of `addresses` stands for: addresses anywhere, names, or for a domain another
        /// one, in which everybody has the same name.
        to: Vec<Target> = Default::Value("");
        /// The domain of names without one, on both sides. `off`: on the left they are in each of
        /// `relay.local_domains`, on the right in the domain of what stands for them.
        domain: Option<Domain> = Default::Value("off");
        /// Whether only `relay.networks` and credentials may write to them. Others are refused
        /// with 550 5.7.1, but for `postmaster` and `abuse`.
        internal_only: bool = Default::Value("false");
    }
}

/// The aliases of a configuration.
#[derive(Clone, Debug)]
pub struct AliasTables {
    /// All of them, without who rewrites senders; `None` where there are none and nobody does.
    pub aliases: Option<Arc<Aliases>>,
    /// Targets that nobody is; `None` where there are none, or where no list of recipients could
    /// tell.
    pub doubts: Option<Errors>,
}

impl Config {
    /// Reads the aliases and the files that they are in. Errs with all that is wrong.
    pub fn aliases(&self) -> Result<AliasTables, Errors> {
        let mut reading = Reading {
            config: self,
            sources: self.sources.clone(),
            entries: Vec::new(),
            places: Vec::new(),
            wrong: Vec::new(),
        };
        for table in &self.aliases {
            reading.table(table);
        }
        let Reading { sources, entries, places, mut wrong, .. } = reading;
        if !wrong.is_empty() {
            return Err(Errors::new(&sources, wrong));
        }
        // An address that a sender was rewritten to stands for him, also without an alias.
        if entries.is_empty() && self.relay.srs_domain.is_none() {
            return Ok(AliasTables { aliases: None, doubts: None });
        }
        // A list that cannot be read is told by itself.
        let known = self.recipients.verification().ok().and_then(|recipients| recipients.known);
        let site = Site {
            ours: self.relay.local_domains.iter().cloned().collect(),
            hostname: self.server.hostname.clone(),
            known,
            separator: self.recipients.separator.map(|separator| separator.0),
        };
        let names: Vec<Key> = entries.iter().map(|entry| entry.key.clone()).collect();
        let aliases = Aliases::new(entries, site).map_err(|mistakes| {
            wrong.extend(mistakes.into_iter().filter_map(|(place, mistake)| {
                Some(told(names.get(place)?, &places, place, mistake))
            }));
            Errors::new(&sources, std::mem::take(&mut wrong))
        })?;
        let strays = aliases.strays().into_iter().take(DOUBTS_MAX);
        let doubts = strays.map(|(place, mailbox)| doubt(&mailbox, place_of(&places, place)));
        let doubts: Vec<Diagnostic> = doubts.collect();
        let doubts = (!doubts.is_empty()).then(|| Errors::new(&sources, doubts));
        Ok(AliasTables { aliases: Some(Arc::new(aliases)), doubts })
    }
}

/// Aliases that are being read.
struct Reading<'a> {
    config: &'a Config,
    sources: Sources,
    entries: Vec<Entry>,
    /// Where each entry was written.
    places: Vec<Span>,
    wrong: Vec<Diagnostic>,
}

impl Reading<'_> {
    fn table(&mut self, table: &AliasEntry) {
        let access = if table.internal_only { Access::Insiders } else { Access::Anybody };
        if let Some(path) = &table.file {
            let key = format!("alias.{}.file", table.name);
            if let Some((source, text)) = self.file(path, &key) {
                self.text(table, access, (source, &text));
            }
        }
        let key = format!("alias.{}.addresses", table.name);
        let at = self.config.place(&key);
        for address in &table.addresses {
            let origin = format!("alias.{}", table.name);
            let entry = (address.clone(), table.to.clone());
            self.add(table, (access, origin), entry, at.clone());
        }
    }

    fn text(&mut self, table: &AliasEntry, access: Access, (source, text): (usize, &str)) {
        let read = alias_text::read(text, table.format);
        let name = table.file.as_ref().map(|path| path.display().to_string()).unwrap_or_default();
        self.note(source, read.wrong);
        let (mut line, mut counted) = (1, 0);
        for AliasLine { key, at, members, is_broken: _ } in read.lines {
            line += text.get(counted..at.start).map_or(0, |before| before.matches('\n').count());
            counted = at.start;
            let mut targets = Vec::with_capacity(members.len());
            for member in members {
                match member {
                    Member::Included(path, at) => {
                        targets.extend(self.included(&path, Span { source, range: at }));
                    }
                    Member::Target(target) => targets.push(target),
                }
            }
            let origin = format!("{name}:{line}");
            self.add(table, (access, origin), (key, targets), Span { source, range: at });
        }
    }

    /// The members in a file that another one includes.
    fn included(&mut self, path: &std::path::Path, at: Span) -> Vec<Target> {
        match text_of(path) {
            Ok(text) => {
                let (targets, wrong) = alias_text::read_list(&text);
                let is_empty = targets.is_empty() && wrong.is_empty();
                if is_empty {
                    let why = format!("there is nobody in {}", path.display());
                    self.wrong.push(Diagnostic::new(why, at));
                } else if !wrong.is_empty() {
                    let source =
                        self.sources.add(Source { name: path.display().to_string(), text });
                    self.note(source, wrong);
                }
                targets
            }
            Err(why) => {
                let why = format!("cannot read {}: {why}", path.display());
                self.wrong.push(Diagnostic::new(why, at).help(UNREADABLE));
                Vec::new()
            }
        }
    }

    /// A file that an option names, among the sources.
    fn file(&mut self, path: &std::path::Path, key: &str) -> Option<(usize, String)> {
        match text_of(path) {
            Ok(text) => {
                let source = Source { name: path.display().to_string(), text: text.clone() };
                Some((self.sources.add(source), text))
            }
            Err(why) => {
                let why = format!("cannot read {}: {why}", path.display());
                self.wrong.push(self.config.diagnostic(key, why, UNREADABLE));
                None
            }
        }
    }

    fn note(&mut self, source: usize, wrong: Vec<(Wrong, Range<usize>)>) {
        self.wrong.extend(wrong.into_iter().map(|(Wrong { why, help, .. }, range)| Diagnostic {
            help,
            ..Diagnostic::new(why, Span { source, range })
        }));
    }

    fn add(
        &mut self,
        table: &AliasEntry,
        (access, origin): (Access, String),
        (mut key, mut targets): (Key, Vec<Target>),
        at: Span,
    ) {
        if let Some(domain) = &table.domain {
            let whole = |name: &str| Mailbox::new(name, domain.clone()).ok();
            if let Key::Name(name) = &key
                && let Some(mailbox) = whole(name)
            {
                key = Key::Address(mailbox);
            }
            for target in &mut targets {
                if let To::Name(name) = &target.to
                    && let Some(mailbox) = whole(name)
                {
                    target.to = To::Address(mailbox);
                }
            }
        }
        self.entries.push(Entry { key, targets, access, origin: origin.into() });
        self.places.push(at);
    }
}

/// A file of aliases, up to a size that nobody needs.
fn text_of(path: &std::path::Path) -> Result<String, String> {
    let size = std::fs::metadata(path).map_err(|why| why.to_string())?.len();
    if size > FILE_OCTETS_MAX {
        return Err(format!("it has {size} octets, and {FILE_OCTETS_MAX} are read at most"));
    }
    let octets = std::fs::read(path).map_err(|why| why.to_string())?;
    String::from_utf8(octets).map_err(|_| "it is not UTF-8".to_owned())
}

fn place_of(places: &[Span], place: usize) -> Span {
    places.get(place).cloned().unwrap_or_else(Span::nowhere)
}

fn doubt(mailbox: &Mailbox, at: Span) -> Diagnostic {
    let why = format!("nobody is `{mailbox}`: it is no alias, and not in the list of recipients");
    Diagnostic::new(why, at).help("add it to [recipients], or write another target")
}

/// A mistake with its place and what to do.
fn told(key: &Key, places: &[Span], place: usize, mistake: Mistake) -> Diagnostic {
    let at = place_of(places, place);
    let key = key.show();
    match mistake {
        Mistake::Elsewhere(domain) => {
            Diagnostic::new(format!("`{domain}` is not one of your domains"), at)
                .help("add it to relay.local_domains, or leave the alias away")
        }
        Mistake::Loop(way) => {
            let way: Vec<String> = way.iter().map(ToString::to_string).collect();
            let why = format!("this alias leads back to itself: {}", way.join(" -> "));
            Diagnostic::new(why, at).help("let one of them lead to a mailbox")
        }
        Mistake::NoDomain => {
            let why = "only a whole domain stands for a whole domain, and for nothing else";
            Diagnostic::new(why, at).help("write `@old.example @new.example` for one domain")
        }
        Mistake::Nothing => Diagnostic::new("this alias stands for nothing", at)
            .help("add the addresses that it stands for"),
        Mistake::TooDeep => {
            let why = format!("more than {DEPTH_MAX} aliases lead from here to a mailbox");
            Diagnostic::new(why, at).help("let it lead there in fewer steps")
        }
        Mistake::TooMany(count) => {
            let most = merpati_flow::alias::TARGETS_MAX;
            let why = format!("this alias leads to {count} addresses, and {most} may be");
            Diagnostic::new(why, at).help("a list of so many is the work of a list manager")
        }
        Mistake::Twice { first } => {
            let first = place_of(places, first);
            let diagnostic = Diagnostic::new(format!("{key} is an alias already"), at.clone())
                .help("write all that it stands for behind the first");
            if first == at { diagnostic } else { diagnostic.beside(first, "the first is here") }
        }
    }
}

/// Targets of which it is told that nobody is there.
const DOUBTS_MAX: usize = 20;
/// The largest file: a million aliases.
const FILE_OCTETS_MAX: u64 = 64 << 20;
const UNREADABLE: &str =
    "name a text file that is there and that the user who runs merpati may read";

#[cfg(test)]
#[path = "aliases_tests.rs"]
mod tests;
