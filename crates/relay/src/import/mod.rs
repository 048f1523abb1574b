//! What a configuration of Postfix means here: `merpati import postfix`.
//!
//! Invariant: nobody may send to where Postfix did not let him; what is in doubt is left out and
//! told. Every parameter that is set has exactly one [`Fate`]. Pure: the files are read before.
//!
//! In the order of the flow: how Postfix writes (`text`, `main_cf`, `master_cf`, `tables`), what a
//! parameter is worth (`scope`, `catalog`), what it means (`networks`, `domains`, `restrictions`,
//! `hop`, `classes`), what becomes of it here (`access`, `listeners`, `recipients`, `checks`,
//! `rules`, `routes`, `ways`, `egress`, `limits`, `alias_rows`, `aliases`, `alias_tables`), and
//! what is told (`report`, `fates`, `document`, `names`).

mod access;
mod alias_rows;
mod alias_tables;
mod aliases;
mod catalog;
mod checks;
mod classes;
mod document;
mod domains;
mod egress;
mod fates;
mod hop;
mod limits;
mod listeners;
mod main_cf;
mod master_cf;
mod names;
mod networks;
mod recipients;
pub mod report;
mod restrictions;
mod routes;
mod rules;
mod scope;
mod tables;
#[cfg(test)]
mod tests;
pub mod text;
mod ways;

use merpati_mail::Domain;

use self::{
    access::Doors,
    aliases::Aliases,
    classes::{Class, Classes},
    document::{Table, comment, wrapped},
    main_cf::MainCf,
    master_cf::{MasterCf, Service},
    report::Report,
    rules::{Transports, Ways},
    scope::Scope,
};
pub use self::{
    report::{Fate, Line, Weight},
    tables::Files,
    text::Place,
};
use crate::config::Network;

/// A configuration of Postfix.
#[derive(Debug)]
pub struct Postfix {
    main: MainCf,
    master: MasterCf,
    files: Files,
}

/// Whether passwords of next hops are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passwords {
    /// They are not: others may look at what is written.
    Hidden,
    /// They are.
    Shown,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Imported {
    /// The configuration as TOML, with comments.
    pub toml: String,
    /// What is not carried over; what matters more first.
    pub lines: Vec<Line>,
    /// What became of each parameter that is set: its place, its name, its fate.
    pub fates: Vec<(Place, String, Fate)>,
    /// Whether a password stands in the configuration.
    pub has_password: bool,
}

impl Postfix {
    /// From the texts of `main.cf` and `master.cf`; without the latter it is the usual one.
    pub fn new(main: &str, master: Option<&str>) -> Self {
        let main = MainCf::parse("main.cf", main);
        let master = match master {
            Some(text) => MasterCf::parse("master.cf", text),
            None => MasterCf::parse("master.cf (missing: the usual one)", USUAL_MASTER),
        };
        Self { main, master, files: Files::default() }
    }

    /// The paths of the files that it names, to be read before [`Postfix::import`].
    pub fn paths(&self) -> Vec<String> {
        let scope = self.scope();
        let main = self.main.set.keys().map(|name| scope.value(name));
        let own = self.master.services.iter().flat_map(|service| {
            let scope = self.scope_of(service);
            service.own.keys().map(move |name| scope.value(name)).collect::<Vec<_>>()
        });
        let mut paths: Vec<String> =
            main.chain(own).flat_map(|value| tables::paths(&value)).collect();
        paths.sort();
        paths.dedup();
        paths
    }

    /// Where Postfix looks for its files by itself, as `main.cf` has it.
    pub fn folder(&self) -> String {
        self.scope().value("config_directory")
    }

    /// The paths of the files that its files of aliases include, once those are there.
    pub fn included_paths(&self) -> Vec<String> {
        let names = self.scope().words("alias_maps");
        let mut paths: Vec<String> =
            names.iter().flat_map(|name| alias_rows::included(&self.files, name)).collect();
        paths.sort();
        paths.dedup();
        paths
    }

    /// Takes the texts of files, beside those that it has.
    #[must_use]
    pub fn with_files(mut self, files: Files) -> Self {
        self.files.texts.extend(files.texts);
        self
    }

    /// What it means here; `from` is how its folder is called.
    pub fn import(&self, from: &str, passwords: Passwords) -> Imported {
        let mut report = Report::default();
        let classes = Classes::of(self, &mut report);
        let transports = Transports::of(self, &mut report);
        let ways = Ways { postfix: self, classes: &classes, transports: &transports };
        let mut ours = recipients::domains(&ways, &transports, &mut report);
        let aliases = Aliases::of(&ways, &mut ours);
        let doors = access::doors(self, !ours.is_empty(), &mut report);
        if doors.is_closed && !ours.is_empty() {
            let text = "no listener takes mail from anybody, so no domain is ours: strangers may \
                        send nowhere, and recipients are not looked up";
            for name in ["relay_domains", "mydestination", "virtual_mailbox_domains"] {
                if self.scope().has(name) {
                    report.left(&self.scope(), name, Weight::Plain, text);
                }
            }
            ours.clear();
        } else {
            recipients::tell_of_those_below(&ways, &ours, &mut report);
        }
        let mut tables = vec![self.server(&mut report), self.relay(&doors, &ours, &mut report)];
        tables.push(recipients::table(&ways, (&doors, &aliases), &ours, &mut report));
        tables.extend(aliases.tables(&ways, &ours, &mut report));
        tables.extend(checks::tables(self, &doors, &mut report));
        tables.extend(listeners::tables(self, &doors, &mut report));
        if doors.all.iter().any(|door| door.has_auth) {
            tables.push(credentials());
        }
        let (routes, transports) = routes::tables(&ways, passwords, &mut report);
        tables.extend(routes);
        tables.extend(egress::tables(self, &transports, &mut report));
        tables.push(limits::delivery(&self.scope(), &mut report));
        tables.push(limits::retry(&self.scope(), &mut report));
        self.used_by_routes(&classes, &mut report);
        let fates = fates::settle(self, &transports, &mut report);
        let needless = needless(&fates, &report);
        let lines = report.into_lines();
        let body = document::text(&tables);
        let has_password = body.lines().any(|line| line.starts_with("password = "));
        let toml = format!("{}\n{body}{}{needless}", head(from), tail(&lines));
        let fates = fates.into_iter().map(|((place, name), fate)| (place, name, fate)).collect();
        Imported { toml, lines, fates, has_password }
    }

    /// What says where mail goes is carried over by the routes.
    fn used_by_routes(&self, classes: &Classes, report: &mut Report) {
        let scope = self.scope();
        let mut tell = |name: &str, is_used: bool| {
            if scope.has(name) && is_used {
                report.carried(&scope, name);
            } else if scope.value(name).is_empty() {
                report.nothing(&scope, name, "it is empty");
            } else {
                report.nothing(&scope, name, "no domain goes by it");
            }
        };
        let is_there = |class: Class| !classes.named(class).is_empty();
        tell("relayhost", true);
        tell("default_transport", true);
        tell("relay_transport", is_there(Class::Relay));
        tell("virtual_transport", is_there(Class::Mailbox));
        tell("local_transport", is_there(Class::Local));
        tell("mailbox_transport", is_there(Class::Local));
    }

    fn server(&self, report: &mut Report) -> Table {
        let scope = self.scope();
        let mut table = Table::new("[server]");
        let name = "myhostname";
        match Domain::parse(&scope.value(name)) {
            Ok(hostname) if scope.has(name) => {
                let from = report.carried(&scope, name);
                table.set("hostname", &hostname, &from);
            }
            Ok(_) | Err(_) => {
                table.note("myhostname is not set: Postfix takes the name of the machine.");
                table.offer(&["hostname = \"mail.example.org\"".to_owned()]);
                let text = "write the name of the machine into server.hostname";
                report.left(&scope, name, Weight::Loud, text);
            }
        }
        report.nothing(&scope, "mydomain", "it stands in the values of others");
        report.nothing(&scope, "compatibility_level", "the defaults are those of this level");
        report.nothing(&scope, "queue_directory", "see server.data_dir");
        report.nothing(&scope, "config_directory", "it is where the tables were looked for");
        report.nothing(&scope, "parent_domain_matches_subdomains", "the lists are read by it");
        table
    }

    fn relay(&self, doors: &Doors<'_>, ours: &[Domain], report: &mut Report) -> Table {
        let scope = self.scope();
        let mut table = Table::new("[relay]");
        if !ours.is_empty() {
            let names = [
                "mydestination",
                "virtual_alias_domains",
                "virtual_mailbox_domains",
                "relay_domains",
            ];
            let from: Vec<String> = names
                .iter()
                .filter(|name| scope.has(name))
                .map(|name| scope.origin(name))
                .collect();
            table.list("local_domains", ours, &from.join(", "));
        }
        let networks = |nets: &[networks::Net]| -> Vec<Network> {
            nets.iter().filter_map(|net| Network::parse(&net.to_string()).ok()).collect()
        };
        if !doors.networks.is_empty() {
            table.list("networks", &networks(&doors.networks), &scope.origin("mynetworks"));
        }
        if !doors.doubtful.is_empty() {
            table.note(
                "In doubt, see below: what stands in front of permit_mynetworks may refuse some.",
            );
            table.offer(&document::list("networks", &networks(&doors.doubtful)));
        }
        limits::hops(&mut table, &scope, report);
        table
    }

    fn scope(&self) -> Scope<'_> {
        Scope::new(&self.main, None)
    }

    fn scope_of<'a>(&'a self, service: &'a Service) -> Scope<'a> {
        Scope::new(&self.main, Some(&service.own))
    }

    /// The parameters as the program behind a transport sees them.
    fn scope_of_transport(&self, name: &str) -> Scope<'_> {
        Scope::new(&self.main, self.master.transport(name).map(|service| &service.own))
    }
}

fn credentials() -> Table {
    // An empty head: the whole table is an offer.
    let mut table = Table::new("");
    table.about("Who may authenticate: the users of Postfix are not in its configuration.");
    table.offer(&listeners::example_of_credentials());
    table
}

fn head(from: &str) -> String {
    let text = format!(
        "Written by `merpati import postfix` from {from}. Above each option stands \
         the parameter that it comes from. What is not carried over is listed at the end: read it \
         before mail comes in. `merpati config explain OPTION` tells what an option \
         means, and `merpati config check FILE` all mistakes."
    );
    comment(&text).join("\n") + "\n"
}

fn tail(lines: &[Line]) -> String {
    let shown = shown(lines, 96);
    if shown.is_empty() {
        return String::new();
    }
    let lines: Vec<String> =
        shown.into_iter().map(|line| format!("# {line}").trim_end().to_owned()).collect();
    format!("\n{}\n", lines.join("\n"))
}

/// What needs nothing, as the end of the file.
fn needless(fates: &fates::Fates, report: &Report) -> String {
    let lines = fates.iter().filter(|(_, fate)| **fate == Fate::Nothing);
    let lines = lines.flat_map(|((place, name), _)| {
        let why = report.why_nothing(place, name).unwrap_or_default();
        comment(&format!("{place} {name}: {why}"))
    });
    let lines: Vec<String> = lines.collect();
    if lines.is_empty() {
        return String::new();
    }
    format!("\n# Needs nothing:\n{}\n", lines.join("\n"))
}

/// What is not carried over, in lines of so many columns.
pub fn shown(lines: &[Line], columns: usize) -> Vec<String> {
    let mut shown = Vec::new();
    for (weight, title) in [
        (
            Weight::Loud,
            "Not carried over, and mail is taken, refused or changed otherwise than before:",
        ),
        (Weight::Plain, "Not carried over, and good to know:"),
    ] {
        let these: Vec<&Line> = lines.iter().filter(|line| line.weight == weight).collect();
        if these.is_empty() {
            continue;
        }
        if !shown.is_empty() {
            shown.push(String::new());
        }
        shown.push(title.to_owned());
        for Line { place, about, text, .. } in these {
            let text = format!("{place} {about}: {text}");
            let parts = wrapped(&text, columns.saturating_sub(4));
            shown.extend(parts.into_iter().enumerate().map(|(at, part)| {
                let start = if at == 0 { "  - " } else { "    " };
                format!("{start}{part}")
            }));
        }
    }
    shown
}

/// The services of `master.cf` as it comes, of which something is made here.
const USUAL_MASTER: &str = "smtp inet n - n - - smtpd\nsmtp unix - - n - - smtp\n\
                            relay unix - - n - - smtp\nlmtp unix - - n - - lmtp\n\
                            error unix - - n - - error\nlocal unix - n n - - local\n\
                            virtual unix - n n - - virtual\n";
